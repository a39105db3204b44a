"""What stored triggers mean: read once, and asked for instants on the schedule's own time line.

An interval follows a clock that nobody sets. Its anchor stands in the stored text;
how far the wall clock has been set since then is the schedule's *shift*, by which the
anchor is moved before it is asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache

from vigie import zones
from vigie.policies import Policy, parse_policy
from vigie.store.schedules import ScheduleRow
from vigie.triggers.when import When

__all__ = ["Line", "Stored", "forget", "line", "policy_of", "read"]

#: How far back to look for the newest instants before a moment (µs), in turn.
_WINDOWS = tuple(60_000_000 * 8**power for power in range(12))


@lru_cache(maxsize=2_000)
def policy_of(policy: str) -> Policy:
    """Give the policy of a stored text."""
    return parse_policy(json.loads(policy))


class Stored:
    """Triggers as they are stored, understood: what a schedule asks of them each time, worked out once."""

    def __init__(self, when: When) -> None:
        self.when = when
        self.timed = when.timed
        self.again = when.again
        self.occasions = when.occasions
        self.zone = when.zone
        self.relative = when.relative
        self._asked: int | None = None
        self._told: int | None = None

    def first(self, instant: int) -> int | None:
        """Give the first instant later than one that the clocks alone decide; None if none comes."""
        if instant != self._asked:
            # Schedules that say the same ask the same, one after the other.
            self._told = None if self.timed is None else next(self.timed.after(instant), None)
            self._asked = instant
        return self._told

    def period(self, instant: int) -> int | None:
        """Give the time from an instant to the next; None if none comes."""
        if self.timed is None or self.relative:
            # Of intervals, which may have moved, one is like the other.
            return self.when.period(instant)
        following = self.first(instant)
        return None if following is None else following - instant


@lru_cache(maxsize=2_000)
def read(triggers: str) -> Stored:
    """Give the triggers of a stored text."""
    return Stored(When.from_json(json.loads(triggers), zones.load))


def forget() -> None:
    """Read all of them anew: a zone has changed."""
    read.cache_clear()


class Line:
    """The instants of one schedule."""

    __slots__ = ("row", "when")

    def __init__(self, when: Stored, row: ScheduleRow) -> None:
        self.when = when
        self.row = row

    def after(self, instant: int) -> int | None:
        """Give the first instant later than one, of all triggers; None if none comes as far as is known."""
        row, when = self.row, self.when
        found: list[int] = []
        if when.timed is not None:
            first = self.first(instant)
            found += () if first is None else (first,)
        for trigger in when.again:
            following = trigger.next(row.started, row.ended, row.created + row.shift)
            if following is not None and following <= row.planned:
                # That instant has its record, and no run came of it: it counts as one.
                following = row.planned + trigger.every
            if following is not None and when.when.allows(trigger, following):
                found.append(max(following, instant + 1))
        return min(found, default=None)

    def overdue(self, now: int) -> bool:
        """Tell whether an interval from the start or the end of the last run has passed by now."""
        row = self.row
        found = (each.next(row.started, row.ended, row.created + row.shift) for each in self.when.again)
        return any(instant is not None and instant <= now for instant in found)

    def each(self, instant: int) -> Iterator[int]:
        """Give all instants later than one that the clocks alone decide."""
        timed, shift = self.when.timed, self.row.shift
        if shift:
            timed = self.when.when.moved(shift).timed
        return iter(()) if timed is None else timed.after(instant)

    def first(self, instant: int) -> int | None:
        """Give the first of them; None if none comes."""
        return next(self.each(instant), None) if self.row.shift else self.when.first(instant)

    def newest(self, after: int, until: int, most: int) -> list[int]:
        """Give the last ``most`` instants in (after, until], oldest first."""
        found: list[int] = []
        for window in _WINDOWS:
            start = max(after, until - window)
            found = []
            for instant in self.each(start):
                if instant > until:
                    break
                found.append(instant)
            if len(found) >= most or start == after:
                break
        return found[-most:] if most else []

    def count(self, after: int, until: int, most: int) -> int:
        """Count the instants in (after, until], up to ``most``."""
        number = 0
        for instant in self.each(after):
            if instant > until or number == most:
                break
            number += 1
        return number


def line(row: ScheduleRow) -> Line:
    """Give the instants of a schedule."""
    return Line(read(row.triggers), row)
