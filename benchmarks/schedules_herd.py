"""A herd: many schedules that are due at one instant, while a client submits other jobs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import NamedTuple

import apsw
from harness import Result, quantile, scaled
from homes import HELD, hold, own_home, vigie
from schedules_fill import SECOND, Planned, fill, warm

from vigie.config import Home

HERD = 50_000
ROUNDS = 2
#: Submits count from so many seconds before the instant: that is when its firings are prepared.
BEFORE = 2
#: Seconds to fill the store and start the agent; where that is not enough, twice as many.
MARGIN, MARGINS = 9, 3
LONGEST = 120.0
#: Seconds from one submit to the next, where it is answered by then.
PACE = 0.01

#: Whether one of the herd is still to be planned, to be decided; or to be run.
COMING = "SELECT EXISTS (SELECT 1 FROM schedules WHERE due <= :at) OR EXISTS ("
COMING += "SELECT 1 FROM firings WHERE outcome IS NULL AND due <= :at)"
OPEN = "SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'queued' AND queue = 'schedules') OR EXISTS ("
OPEN += "SELECT 1 FROM jobs WHERE finished IS NULL AND state <> 'queued')"


class Herd(NamedTuple):
    """Seconds after the instant until all is recorded and queued, and until all has run; ms of submits meanwhile."""

    recorded: float
    ended: float
    submits: list[float]


def herd(count: int) -> Herd:
    """Measure one."""
    margin = scaled(MARGIN, least=3)
    for _ in range(MARGINS):
        with own_home() as home:
            hold(home)
            instant = (time.time_ns() // 1000 // SECOND + margin) * SECOND
            at = datetime.fromtimestamp(instant // SECOND, UTC)
            line = Planned(f"{at.second} {at.minute} {at.hour} * * *", instant, instant)
            fill(home, (line for _ in range(count)), "0 0 1 * * *")
            vigie("agent", "start", home=home)
            warm()
            before = scaled(BEFORE * 1000, least=500) / 1000
            if time.time() < instant / SECOND - before:
                return _measure(home, instant, before)
        margin *= 2
    raise RuntimeError("the agent is not ready before the instant")


def _measure(home: Home, instant: int, before: float) -> Herd:
    import vigie as library
    import work

    submit = library.task(queue=HELD)(work.double).start
    submit(0)  # connected, everything loaded
    zero = instant / SECOND
    with closing(apsw.Connection(home.db, flags=apsw.SQLITE_OPEN_READONLY)) as db:

        def none(query: str) -> bool:
            bind = {"at": instant} if query is COMING else {}
            return not db.execute(query, bind).fetchone()[0]

        time.sleep(max(0.0, zero - before - time.time()))
        submits = _submits(submit, lambda: time.time() >= zero and none(COMING))
        recorded = time.time() - zero
        while not none(OPEN) and time.time() < zero + LONGEST:
            time.sleep(0.01)
        return Herd(recorded, time.time() - zero, submits)


def _submits(submit: Callable[[int], object], is_over: Callable[[], bool]) -> list[float]:
    """Submit a job now and now, the next when the one before is answered; give how long each took, in ms."""
    times = []
    deadline = time.monotonic() + LONGEST
    while not is_over() and time.monotonic() < deadline:
        began = time.perf_counter()
        submit(1)
        took = time.perf_counter() - began
        times.append(took * 1000)
        # Evenly, else the quick ones would be most of them.
        time.sleep(max(0.0, PACE - took))
    return times


def run(rounds: int) -> list[Result]:
    """Measure it."""
    count = scaled(HERD, least=20)
    found = [herd(count) for _ in range(min(rounds, ROUNDS))]
    for each in found:
        print(
            f"  a herd: {len(each.submits):,} submits meanwhile, the longest {max(each.submits):.0f} ms",
            file=sys.stderr,
        )
    submits = [quantile(each.submits, 0.99) for each in found]
    title = f"{count:,} schedules due at one instant: all recorded and queued after"
    return [
        Result("schedules-herd", title, "s", [each.recorded for each in found]),
        Result("schedules-herd-submit", "… a submit meanwhile, 99th percentile", "ms", submits),
        Result("schedules-herd-ran", "… until all have run, for information", "s", [each.ended for each in found]),
    ]
