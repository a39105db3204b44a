"""Triggers made of triggers: bounded, with days left out, repeated.

Each is a trigger again. What is left out is judged instant by instant: a
repetition that runs past midnight into an excluded day ends there, and one that
began on an excluded day begins nowhere, but goes on after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from vigie.errors import ExpressionError
from vigie.triggers.base import AnyOf, Joinable, Trigger, count, latest
from vigie.triggers.days import shown
from vigie.triggers.interval import Every, Once, spell
from vigie.triggers.wall import DAY, Zone
from vigie.values import format_duration, format_time

__all__ = [
    "SHORTEST",
    "AnyOf",
    "Busy",
    "Repeated",
    "Within",
    "Without",
    "bounds_text",
    "check_repetition",
    "count",
    "latest",
    "less_text",
    "moved",
    "relative",
]

#: Where nothing is left of so much time (µs) and of so many instants or spans, nothing is expected any more.
_PATIENCE = 100 * 366 * DAY
_MANY = 100
#: How far the end of an event is looked for at once, µs.
_AHEAD = 64 * DAY
#: Nothing comes more often than this, µs.
SHORTEST = 1_000


class Busy(Protocol):
    """A calendar that says when something else is on."""

    def covers(self, instant: int) -> bool:
        """Tell whether an instant (µs UTC) lies in one of its events."""
        ...

    def spans(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Give the time that its events cover between two instants, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Within(Joinable):
    """Comes with ``trigger`` from ``start`` to ``end``, both included; None leaves a side open.

    >>> from datetime import UTC
    >>> list(Within(Every(10, 0), 20, 40, Zone("UTC", UTC)).after(0))
    [20, 30, 40]
    """

    trigger: Trigger
    start: int | None
    end: int | None
    zone: Zone

    @property
    def text(self) -> str:
        return self.trigger.text + bounds_text(self.start, self.end, self.zone)

    def after(self, instant: int) -> Iterator[int]:
        """Give the instants of the trigger that lie within."""
        for each in self.trigger.after(instant if self.start is None else max(instant, self.start - 1)):
            if self.end is not None and each > self.end:
                return
            yield each

    def describe(self) -> str:
        """Say the trigger's words and the bounds."""
        return self.trigger.describe() + bounds_text(self.start, self.end, self.zone)


@dataclass(frozen=True, slots=True)
class Without(Joinable):
    """Comes with ``trigger``, except on some days and while something is on in a calendar.

    A trigger ends where nothing is left of it for a century, and of a hundred instants.

    Parameters
    ----------
    trigger:
        What is thinned out.
    days:
        Numbers of days on the wall of ``zone``.
    calendars:
        What else is left out.
    """

    trigger: Trigger
    days: frozenset[int]
    calendars: tuple[Busy, ...]
    zone: Zone

    @property
    def text(self) -> str:
        return self.trigger.text + less_text(self.days, self.calendars)

    def allows(self, instant: int) -> bool:
        """Tell whether an instant is not left out."""
        return self._free(instant) == instant

    def after(self, instant: int) -> Iterator[int]:
        """Give the instants of the trigger that are not left out."""
        excluded, since = 0, 0
        while True:
            for each in self.trigger.after(instant):
                free = self._free(each)
                if free == each:
                    excluded = 0
                    yield each
                    continue
                since = since if excluded else each
                excluded += 1
                if excluded > _MANY and each - since > _PATIENCE:
                    return
                # Not one by one: a day may hold a million instants.
                instant = free - 1
                if instant > each:
                    break
            else:
                return

    def _free(self, instant: int) -> int:
        """Give the instant itself if it is not left out, else one later, before which all are."""
        day = self.zone.wall(instant) // DAY
        if day in self.days:
            return max(self.zone.first((day + 1) * DAY), instant + 1)
        for each in self.calendars:
            if each.covers(instant):
                return next(end for _, end in each.spans(instant, instant + _AHEAD))
        return instant

    def describe(self) -> str:
        """Say the trigger's words and how much is left out."""
        return self.trigger.describe() + less_text(self.days, self.calendars)


@dataclass(frozen=True, slots=True)
class Repeated(Joinable):
    """Comes with ``trigger``, and then again every ``every`` until ``lasting`` is over (both in µs).

    The end is not included: every 10 minutes for 2 hours from 08:00 are twelve
    instants, the last at 09:50. A new instant of the trigger starts anew. Both
    follow elapsed time.

    >>> from itertools import islice
    >>> list(islice(Repeated(Every(100, 0), 10, 30).after(0), 5))
    [100, 110, 120, 200, 210]
    """

    trigger: Trigger
    every: int
    lasting: int

    @property
    def text(self) -> str:
        every, lasting = (format_duration(each, exact=True) for each in (self.every, self.lasting))
        return f"{self.trigger.text} every {every} for {lasting}"

    def after(self, instant: int) -> Iterator[int]:
        """Give the instants of the trigger and their repetitions."""
        start = latest(self.trigger, instant - self.lasting, instant)
        later = self.trigger.after(instant)
        while True:
            following = next(later, None)
            if start is not None:
                passed = max(0, instant - start) // self.every + 1 if start <= instant else 0
                end = start + self.lasting if following is None else min(start + self.lasting, following)
                yield from range(start + passed * self.every, end, self.every)
            if following is None:
                return
            start = following

    def describe(self) -> str:
        """Say the trigger's words and the repetition."""
        return f"{self.trigger.describe()}, then every {spell(self.every)} for {spell(self.lasting)}"


def check_repetition(every: int, lasting: int, text: str | None = None, at: int | None = None) -> None:
    """Refuse a repetition that repeats nothing, or that nothing could keep up with."""
    if every < SHORTEST or lasting <= every:
        what = "its interval is under a millisecond" if every < SHORTEST else "it is not longer than its interval"
        raise ExpressionError(f"the repetition repeats nothing: {what}", text, at=at, expected="every 10m for 2h")


def relative(trigger: Trigger) -> bool:
    """Tell whether all its instants keep their distance from one another when the wall clock is set."""
    if isinstance(trigger, AnyOf):
        return all(relative(each) for each in trigger.triggers)
    if isinstance(trigger, (Within, Without, Repeated)):
        return relative(trigger.trigger)
    return isinstance(trigger, (Every, Once)) and trigger.relative


def moved(trigger: Trigger, by: int) -> Trigger:
    """Give the trigger after the wall clock was set by so many µs: what is relative in it moves, the rest stays.

    >>> moved(Every(10, 3), 4).anchor
    7
    """
    if isinstance(trigger, AnyOf):
        return AnyOf(tuple(moved(each, by) for each in trigger.triggers))
    if isinstance(trigger, (Within, Without, Repeated)):
        return replace(trigger, trigger=moved(trigger.trigger, by))
    if isinstance(trigger, Every) and trigger.relative:
        return replace(trigger, anchor=trigger.anchor + by)
    if isinstance(trigger, Once) and trigger.relative:
        return replace(trigger, instant=trigger.instant + by)
    return trigger


def bounds_text(start: int | None, end: int | None, zone: Zone) -> str:
    """Say from when until when, with a space in front.

    >>> from datetime import UTC
    >>> bounds_text(0, 86_400_000_000 - 1, Zone("UTC", UTC))
    ' from 1970-01-01 until 1970-01-01'
    """
    said = "" if start is None else f" from {_bound(start, zone, 0)}"
    return said if end is None else f"{said} until {_bound(end, zone, 1)}"


def less_text(days: frozenset[int], calendars: tuple[Busy, ...]) -> str:
    """Say what is left out, with a space in front.

    >>> less_text(frozenset((0, 1)), ())
    ' except 1970-01-01, 1970-01-02'
    """
    parts = [shown(day) for day in sorted(days)] if len(days) <= 3 else [f"{len(days)} days"]
    if calendars:
        parts.append("1 calendar" if len(calendars) == 1 else f"{len(calendars)} calendars")
    return f" except {', '.join(parts)}" if parts else ""


def _bound(instant: int, zone: Zone, before: int) -> str:
    """Write a boundary, as a date alone if it is where a day begins, or ``before`` that, where the one before ends."""
    wall = zone.wall(instant + before)
    if wall % DAY == 0:
        return shown(wall // DAY - before)
    return format_time(instant, zone.rules)
