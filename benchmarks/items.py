"""What one item costs in all, beside what was published of PowerShell.

PowerShell's figures are of 20 items, five at once, on another machine; so are ours of 20
items at a time, of which five are under way. Besides, each waited for before the
next, which is the dearest way; and in a batch, where each result is fetched by itself too.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from harness import Result, in_turn, scaled
from homes import own_home

#: As PowerShell's were measured: so many items, so many of them at once.
ITEMS, AT_ONCE = 20, 5
#: How often that is done in one round.
TIMES = 5
BATCH = 1_000
#: PowerShell 7.5.1, ms an item.
START_JOB, THREAD_JOB, PARALLEL = 379, 119, 40


def _by(width: int, count: int, start: Callable[[int], Any]) -> Iterator[Any]:
    """Start jobs, so many at once, and give their results in order."""
    jobs = map(start, range(count))
    running = deque(itertools.islice(jobs, width))
    while running:
        yield running.popleft().result(10)
        running.extend(itertools.islice(jobs, 1))


def command(width: int, count: int) -> None:
    """Run /bin/true, so many at once."""
    import vigie

    assert list(_by(width, count, lambda _: vigie.start(["/bin/true"]))) == [0] * count


def function(width: int, count: int) -> None:
    """Run a function, so many at once, for its results."""
    import vigie
    import work

    assert list(_by(width, count, lambda i: vigie.start(work.double, i))) == [2 * i for i in range(count)]


def batch(count: int) -> None:
    """Run a function many times in one batch, and fetch each result."""
    import vigie
    import work

    jobs = vigie.start_many(work.double, [(i,) for i in range(count)])
    for i, job in enumerate(jobs):
        assert job.result(10) == 2 * i


def each(what: Callable[[int], None], count: int, times: int, rounds: int) -> list[float]:
    """Give the ms of one item among ``count``, in each of some rounds."""

    def once() -> float:
        began = time.perf_counter()
        for _ in range(times):
            what(count)
        return (time.perf_counter() - began) * 1000 / (times * count)

    return in_turn([once], rounds)[0]


def run(rounds: int) -> list[Result]:
    """Measure them all."""
    published = {
        name: (f"PowerShell 7.5's {name} (published, other machine)", [ms])
        for name, ms in (("Start-Job", START_JOB), ("ThreadJob", THREAD_JOB), ("-Parallel", PARALLEL))
    }
    count, times = scaled(ITEMS), scaled(TIMES)
    with own_home():
        found = {
            (what.__name__, width): each(partial(what, width), count, times, rounds)
            for what in (command, function)
            for width in (AT_ONCE, 1)
        }
        batched = each(batch, scaled(BATCH), 1, rounds)
    return [
        Result(
            "item-command",
            "an item as a command job, five at once",
            "ms",
            found["command", AT_ONCE],
            *published["Start-Job"],
        ),
        Result("item-command-alone", "… one after another", "ms", found["command", 1]),
        Result(
            "item-function",
            "an item as a function job, five at once",
            "ms",
            found["function", AT_ONCE],
            *published["ThreadJob"],
        ),
        Result("item-function-alone", "… one after another", "ms", found["function", 1]),
        Result("item-batch", "an item of a batch of functions", "ms", batched, *published["-Parallel"]),
    ]
