"""``import vigie``, beyond Python's own start, as whole processes."""

from __future__ import annotations

import sys

from harness import Result, in_turn, scaled, timed


def run(rounds: int) -> list[Result]:
    """Measure the package alone, and with what starting a job takes."""

    def process(code: str) -> float:
        return timed([sys.executable, "-c", code]) * 1000

    codes = ("import vigie", "import vigie; vigie.start, vigie.Job", "pass")
    alone, whole, passes = in_turn([lambda code=code: process(code) for code in codes], scaled(rounds * 4, least=1))
    return [
        Result("import", "`import vigie`, whole process", "ms", alone, "python3 -c pass", passes),
        Result("import-start", "… with all that `vigie.start` needs", "ms", whole, "python3 -c pass", passes),
    ]
