"""What the agent reads and writes of schedules: rows as it sees them, by named queries (schedules.sql).

The rule behind all of it: an instant has its row in ``firings`` once and for ever,
and the job of a firing is inserted by the transaction that decides it. So whoever
dies, or looks at the same store, finds each instant either still to be decided or
decided, and never runs it twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from vigie.store import sql

if TYPE_CHECKING:
    from vigie.store.sqlite import Store

__all__ = ["FiringRow", "ScheduleRow", "Schedules", "queue_of"]


class ScheduleRow(NamedTuple):
    """A schedule, with the columns of its table."""

    id: int
    name: str
    owner: str | None
    spec: str
    triggers: str
    policy: str
    task: int
    context: int
    args: bytes | None
    encoding: str | None
    job: str
    state: str
    until: int | None
    zones: str
    relative: int
    shift: int
    again: int
    occasions: int
    created: int
    changed: int
    planned: int
    next: int | None
    due: int | None
    started: int | None
    ended: int | None
    runs: int
    by_hand: int


class FiringRow(NamedTuple):
    """A firing about to be decided, with what its schedule says."""

    schedule: int
    instant: int
    due: int
    missed: int
    cause: str | None
    waits: str | None
    since: int | None
    name: str
    policy: str
    task: int
    context: int
    args: bytes | None
    encoding: str | None
    job: str
    state: str
    runs: int
    again: int
    triggers: str
    next: int | None


_DUE = attrgetter("due", "schedule")


class Schedules:
    """The part of a store that holds schedules; all methods run inside the store's transaction."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._sql = sql.load("schedules")

    def run(self, name: str, bind: Sequence[Any] | dict[str, Any] = ()) -> Any:
        """Run a named query."""
        return self.store.db.execute(self._sql[name], bind)

    def _rows(self, name: str, bind: Sequence[Any] = ()) -> list[ScheduleRow]:
        return [ScheduleRow._make(row) for row in self.run(name, bind)]

    def named(self, name: str) -> ScheduleRow | None:
        """Give a schedule by its name."""
        return next(iter(self._rows("one", (name,))), None)

    def numbered(self, number: int) -> ScheduleRow | None:
        """Give a schedule by its number."""
        return next(iter(self._rows("by_id", (number,))), None)

    def waits(self, number: int) -> bool:
        """Tell whether an instant of a schedule is undecided."""
        return self.run("waits", (number,)).fetchone() is not None

    def over(self, number: int) -> ScheduleRow | None:
        """Give a schedule if nothing more can come of it and all that came is decided."""
        return next(iter(self._rows("over", (number,))), None)

    def due(self, before: int, most: int) -> list[ScheduleRow]:
        """Give those with an instant to plan up to ``before``, soonest first."""
        return self._rows("due", (before, most))

    def in_zone(self, zone: str, after: int) -> list[ScheduleRow]:
        """Give a page of the active ones of a zone, those with higher numbers than one."""
        return self._rows("in_zone", (zone, after))

    def resuming(self, now: int) -> list[ScheduleRow]:
        """Give those whose pause is over, and those that have come to their end and go."""
        return self._rows("resuming", (now,))

    def with_occasions(self) -> list[ScheduleRow]:
        """Give those that wait for something that happens."""
        return self._rows("occasions")

    def limited(self) -> list[ScheduleRow]:
        """Give those that go by intervals within limits."""
        return self._rows("limited")

    def first(self, name: str) -> int | None:
        """Give the one number of a query such as ``next_due``."""
        found: int | None = self.run(name).fetchone()[0]
        return found

    def add(self, fields: dict[str, Any]) -> int:
        """Insert a schedule; give its number."""
        self.run("add", fields)
        return int(self.store.db.last_insert_rowid())

    def plan(self, number: int, instant: int, due: int, *, missed: bool = False, cause: str | None = None) -> bool:
        """Record an instant that is to come; False if it has its record."""
        self.run("plan", (number, instant, due, int(missed), cause))
        return self.store.db.changes() == 1

    def plan_many(self, keys: Sequence[tuple[int, int, int]]) -> None:
        """Record many instants that are to come: (due, schedule, instant)."""
        rows = ((schedule, instant, due, 0, None) for due, schedule, instant in keys)
        self.store.db.executemany(self._sql["plan"], rows)

    def advance_many(self, rows: Sequence[tuple[int, int | None, int | None, int]]) -> None:
        """Write how far schedules are planned: (planned, next, due, schedule)."""
        self.store.db.executemany(self._sql["advance"], rows)

    def start_many(self, first: int, firings: Sequence[tuple[FiringRow, str]], now: int, queue: str) -> None:
        """Decide firings, read as undecided in this transaction, and insert their jobs with ids from ``first`` on.

        They are of different schedules, and their jobs wait for nothing and have no tags and no keys.
        """
        job = first
        for outcome, some in groupby(firings, itemgetter(1)):
            keys = [(row.schedule, row.instant) for row, _ in some]
            self.run("decide_many", (outcome, job, now, *_together(keys)))
            job += len(keys)
        self.run("insert_jobs", (first, job - 1, queue, now))
        self.run("ran_many", (first, job - 1, now))

    def skip(self, number: int, first: int, last: int, count: int, reason: str, detail: str | None, now: int) -> bool:
        """Record instants that passed without a run; False, and nothing is done, if the first has its record."""
        self.run("skip_many", (number, first, first, last if count > 1 else None, count, reason, detail, now))
        return self.store.db.changes() == 1

    def deciding(self, keys: Sequence[tuple[int, int]]) -> list[FiringRow]:
        """Give the undecided among some firings, soonest first."""
        rows = [FiringRow._make(row) for row in self.run("deciding", _together(keys))]
        rows.sort(key=_DUE)
        return rows

    def decide(
        self, firing: FiringRow, outcome: str, now: int, *, reason: str | None = None, detail: str | None = None,
        job: int | None = None,
    ) -> bool:  # fmt: skip
        """Write what became of an instant; False if somebody else has."""
        self.run("decide", (outcome, reason, detail, job, now, firing.schedule, firing.instant))
        return self.store.db.changes() == 1


def _together(keys: Sequence[tuple[int, int]]) -> tuple[str, int | None]:
    """Give firings as queries take them: as JSON, and the instant if all have one: it costs less than one for each."""
    if len({instant for _, instant in keys}) == 1:
        return json.dumps([schedule for schedule, _ in keys]), keys[0][1]
    return json.dumps(keys), None


@lru_cache(maxsize=1_000)
def queue_of(job: str, queue: str) -> str:
    """Give the queue that the stored options of jobs name, else the usual one."""
    return queue if job == "{}" else str(json.loads(job).get("queue", queue))
