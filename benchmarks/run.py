"""Run the benches and write RESULTS.md: ``make bench``.

``python benchmarks/run.py [NAME …]`` runs all, or those named; with names the table is
printed and not written. ``--scale 0.01`` does a hundredth of the work, to see that
a bench runs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from aims import AIMS
from harness import HERE, Result, set_scale

BENCHES = (
    "functions", "commands", "submits", "output", "rest", "imports", "items", "maps", "pools", "shellmaps",
    "bystanders", "million", "triggers", "schedules", "services",
    "services_logs",
)  # fmt: skip
RESULTS = HERE / "RESULTS.md"

HEAD = """# Results

Measured by `make bench`: us and the peer in one run, taking turns. Each figure is the median of the
rounds (in parentheses the lowest and the highest); *compared* is the ratio of the medians (in
parentheses that of the rounds, each side beside its neighbour in time) or, for what comes on top, their
difference. An aim with x bounds the ratio, one with + the difference, others our own figure. Other
machines give other figures, and much the same ratios.

"""
TABLE = """| bench | unit | Vigie | peer | peer's | compared | aim | met |
|---|---|---|---|---|---|---|---|
"""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--rounds", type=int, default=5, help="how often each side runs, after once to warm up")
    parser.add_argument("--scale", type=float, default=1.0, help="the part of the work to do")
    parser.add_argument("--no-peers", action="store_true", help="without the peers that must be installed")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(BENCHES))
    if unknown:
        parser.error(f"no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    return args


def fallen_short(results: list[Result]) -> list[str]:
    """Say of each aim that was missed what limits it."""
    from limits import LIMITS

    return [
        f"- {result.title.removeprefix('… ')} (`{result.name}`): {LIMITS.get(result.name, 'not yet explained.')}"
        for result in results
        if result.met is False
    ]


def main() -> int:
    """Run what was asked for."""
    args = arguments()
    sys.path.insert(0, str(HERE))
    set_scale(args.scale)
    import machine
    import peers

    if args.no_peers:
        peers.forbid()
    began, before = time.monotonic(), machine.before()
    results: list[Result] = []
    for name in args.names or BENCHES:
        print(f"{name} …", file=sys.stderr, flush=True)
        results += importlib.import_module(name).run(args.rounds)
    if not args.names:
        unknown = set(AIMS) - {result.name for result in results}
        assert not unknown, f"no bench gives {unknown}"
    took = f"rounds: {args.rounds}; the whole run took {(time.monotonic() - began) / 60:.1f} minutes"
    conditions = [*before[:-1], *machine.versions(), f"{before[-1]}, {took}"]
    text = HEAD + "".join(f"- {line}\n" for line in conditions) + "\n" + TABLE
    text += "".join(f"| {' | '.join(result.cells())} |\n" for result in results)
    short = fallen_short(results)
    if short:
        text += "\n## What falls short, and what limits it\n\n" + "\n".join(short) + "\n"
    print(text)
    if not args.names and args.scale == 1 and not args.no_peers:
        RESULTS.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
