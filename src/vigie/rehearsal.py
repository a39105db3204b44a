"""What schedules would do in a span of time: each firing in order, what collides, how much runs at once.

The rules are the agent's own (``firing.judge``). What nobody can know beforehand is how
long a run takes; where somebody says so, or past runs tell, overlap and load follow
from it. Where not, a run counts as over at once, and is named as not counted.

All of it is one pass, which holds no more than what runs: a million firings take no
more room than ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush, merge
from typing import NamedTuple

from vigie import firing as rules
from vigie.policies import Policy
from vigie.triggers.base import Trigger
from vigie.triggers.wall import MINUTE, Zone

__all__ = ["Course", "Firing", "Load", "Tally", "rehearse"]

#: Names shown of those that collide.
NAMES = 5


@dataclass(slots=True)
class _Run:
    """One run: from when to when (µs UTC)."""

    number: int
    start: int
    end: int


@dataclass(slots=True)
class Course:
    """One schedule in the span.

    Parameters
    ----------
    name, timed, policy, zone, queue:
        What it says; ``timed`` are its triggers that have instants.
    duration:
        How long a run takes, in µs; None: nobody knows.
    """

    name: str
    timed: Trigger
    policy: Policy
    zone: Zone
    queue: str
    duration: int | None
    runs: int = 0
    open: list[_Run] = field(default_factory=list)

    def dues(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Give (due, instant) of each firing from ``start`` up to ``end``, in the order in which they are due."""
        held: list[tuple[int, int]] = []
        jitter = self.policy.jitter
        for instant in self.timed.after(start - jitter - 1):
            # A later instant may be due earlier, but not earlier than it comes.
            while held and held[0][0] <= instant:
                yield heappop(held)
            if instant >= end:
                break
            due = instant + rules.delay(self.policy, self.name, instant)
            if start <= due < end:
                heappush(held, (due, instant))
        while held:
            yield heappop(held)

    def judge(self, due: int) -> tuple[_Run | None, list[_Run], rules.Skip | None]:
        """Say what becomes of a firing: its run, the runs that are stopped for it, or why there is none."""
        self.open = [run for run in self.open if run.end > due]
        standing = rules.Standing(due, tuple(run.number for run in self.open), self.runs)
        verdict = rules.judge(self.policy, self.zone, due, False, None, standing)
        if isinstance(verdict, rules.Skip):
            return None, [], verdict
        stopped = [run for run in self.open if run.number in verdict.stop]
        for run in stopped:
            run.end = due
        begins = max([due, *(run.end for run in self.open if run.number in verdict.after)])
        self.runs += 1
        run = _Run(self.runs, begins, begins + (self.duration or 0))
        self.open.append(run)
        return run, stopped, None


class Firing(NamedTuple):
    """One firing: the planned instant, when it is due, and why it does not run, if it does not."""

    course: Course
    instant: int
    due: int
    skip: rules.Skip | None


@dataclass(slots=True)
class Load:
    """How much of a queue runs at once: now, at most, and when that was (µs UTC)."""

    now: int = 0
    most: int = 0
    at: int | None = None


class Tally:
    """Counts firings as they come.

    Attributes
    ----------
    count, skipped:
        How many, and how many of them would not run.
    shared, most, at, names:
        Minutes in which several begin; how many begin at one instant at most, when, and some of their names.
    crowd, crowd_at:
        How many begin in one minute at most, and in which.
    loads:
        Queue → :class:`Load`.
    """

    def __init__(self) -> None:
        self.count = self.skipped = 0
        self.shared = self.most = self.crowd = 0
        self.at: int | None = None
        self.crowd_at: int | None = None
        self.names: list[str] = []
        self.loads: dict[str, Load] = {}
        self._instant: tuple[int | None, list[str], int] = (None, [], 0)
        self._minute: tuple[int | None, int] = (None, 0)
        #: What begins or ends: (when, 0: ends 1: begins, order, queue, run).
        self._coming: list[tuple[int, int, int, str, _Run]] = []
        self._order = 0

    def add(self, firing: Firing, run: _Run | None) -> None:
        """Count a firing; they come in the order in which they are due."""
        self.count += 1
        if run is None:
            self.skipped += 1
            return
        self._begins(firing)
        if firing.course.duration is not None:
            self._push(run.start, 1, firing.course.queue, run)
        self.pass_to(firing.due)

    def _begins(self, firing: Firing) -> None:
        minute = firing.due // MINUTE
        before, crowd = self._minute
        crowd = crowd + 1 if before == minute else 1
        self._minute = minute, crowd
        self.shared += crowd == 2
        if crowd > self.crowd:
            self.crowd, self.crowd_at = crowd, minute * MINUTE
        at, names, count = self._instant
        if at != firing.due:
            names, count = [], 0
        if count < NAMES:
            names.append(firing.course.name)
        count += 1
        self._instant = firing.due, names, count
        if count > self.most or self.at == firing.due:
            self.most, self.at, self.names = count, firing.due, names

    def _push(self, when: int, begins: int, queue: str, run: _Run) -> None:
        self._order += 1
        heappush(self._coming, (when, begins, self._order, queue, run))

    def pass_to(self, now: int | None) -> None:
        """Count what began and ended up to an instant; None: all of it."""
        coming = self._coming
        while coming and (now is None or coming[0][0] <= now):
            when, begins, _, queue, run = heappop(coming)
            load = self.loads.setdefault(queue, Load())
            if begins:
                load.now += 1
                if load.now > load.most:
                    load.most, load.at = load.now, when
                self._push(run.end, 0, queue, run)
            else:
                load.now -= 1

    def stop(self, runs: Iterable[_Run], queue: str, now: int) -> None:
        """Count runs that are stopped before their end."""
        stopped = {id(run) for run in runs}
        if stopped:
            self.pass_to(now)
            self._coming = [each if id(each[4]) not in stopped else (now, *each[1:]) for each in self._coming]
            self._coming.sort()
            self.pass_to(now)


def rehearse(courses: Iterable[Course], start: int, end: int, tally: Tally) -> Iterator[Firing]:
    """Give every firing of some schedules from ``start`` up to ``end`` (µs UTC), in order, and count them."""
    order = list(courses)
    for due, at, instant in merge(*(_numbered(at, each.dues(start, end)) for at, each in enumerate(order))):
        course = order[at]
        run, stopped, skip = course.judge(due)
        tally.stop(stopped, course.queue, due)
        found = Firing(course, instant, due, skip)
        tally.add(found, run)
        yield found
    tally.pass_to(None)


def _numbered(at: int, dues: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    for due, instant in dues:
        yield due, at, instant
