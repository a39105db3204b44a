"""What one item costs in all, beside what was published of PowerShell.

Ours run one after another, each submitted and waited for before the next, which is
the dearest way; but in the batch, where each result is fetched by itself too.
PowerShell's figures are of 20 items, five at once, on another machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from harness import Result, in_turn, scaled
from homes import own_home

EACH = 100
BATCH = 1_000
#: PowerShell 7.5.1, ms an item.
START_JOB, THREAD_JOB, PARALLEL = 379, 119, 40


def command(count: int) -> None:
    """Run /bin/true, each job awaited."""
    import vigie

    for _ in range(count):
        assert vigie.start(["/bin/true"]).result(10) == 0


def function(count: int) -> None:
    """Run a function, each result awaited."""
    import vigie
    import work

    for i in range(count):
        assert vigie.start(work.double, i).result(10) == 2 * i


def batch(count: int) -> None:
    """Run a function many times in one batch, and fetch each result."""
    import vigie
    import work

    jobs = vigie.start_many(work.double, [(i,) for i in range(count)])
    for i, job in enumerate(jobs):
        assert job.result(10) == 2 * i


def each(what: Callable[[int], None], count: int, rounds: int) -> list[float]:
    """Give the ms of one item, in each of some rounds."""

    def once() -> float:
        began = time.perf_counter()
        what(count)
        return (time.perf_counter() - began) * 1000 / count

    return in_turn([once], rounds)[0]


def run(rounds: int) -> list[Result]:
    """Measure the three."""
    published = {
        name: (f"PowerShell 7.5's {name} (published, other machine)", [ms])
        for name, ms in (("Start-Job", START_JOB), ("ThreadJob", THREAD_JOB), ("-Parallel", PARALLEL))
    }
    with own_home():
        alone = each(command, scaled(EACH), rounds)
        functions = each(function, scaled(EACH), rounds)
        batched = each(batch, scaled(BATCH), rounds)
    return [
        Result("item-command", "an item as a command job", "ms", alone, *published["Start-Job"]),
        Result("item-function", "an item as a function job", "ms", functions, *published["ThreadJob"]),
        Result("item-batch", "an item of a batch of functions", "ms", batched, *published["-Parallel"]),
    ]
