"""Run the benches and write RESULTS.md: ``make bench``.

``python benchmarks/run.py [--rounds N] [NAME …]``; with names, only those run and
the table is printed, not written.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from harness import HERE, RESULTS, Result, conditions

BENCHES = ("functions", "commands")

HEAD = """# Results

Measured by `make bench`: us and the peer in one run, alternating; the ratio is that
of the medians (in parentheses the slowest and the quickest round). Other machines
give other figures, and much the same ratios.

"""


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    sys.path.insert(0, str(HERE))
    lines = [f"- {line}" for line in conditions()]
    results: list[Result] = []
    for name in args.names or BENCHES:
        print(f"{name} …", file=sys.stderr, flush=True)
        results += importlib.import_module(name).run(args.rounds)
    table = [
        "| bench | unit | Vigie | peer | peer's | ratio | aim |",
        "|---|---|---|---|---|---|---|",
        *(result.row() for result in results),
    ]
    notes = [f"- {note}" for result in results for note in result.notes]
    text = HEAD + "\n".join([*lines, "", *table, "", *notes]).rstrip() + "\n"
    print(text)
    if not args.names:
        RESULTS.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
