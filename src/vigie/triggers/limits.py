"""From when until when, and except when: what bounds a trigger that may have no instants of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vigie.errors import ExpressionError
from vigie.triggers.base import Trigger
from vigie.triggers.combine import Busy, Within, Without, bounds_text, less_text
from vigie.triggers.phrase_parts import moment, time
from vigie.triggers.wall import DAY, Zone
from vigie.triggers.words import Words

__all__ = ["Limits", "read_bound", "read_limits"]

#: Days that one range of excluded dates may hold: a slip of the pen has more.
_LONGEST_RANGE = 3_700


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a trigger: two instants, both included, and what is left out between them."""

    start: int | None
    end: int | None
    days: frozenset[int]
    calendars: tuple[Busy, ...]
    zone: Zone

    @property
    def text(self) -> str:
        """Say them, with a space in front; nothing if there are none."""
        return bounds_text(self.start, self.end, self.zone) + less_text(self.days, self.calendars)

    def of(self, trigger: Trigger) -> Trigger:
        """Give the trigger within these limits."""
        if self.days or self.calendars:
            trigger = Without(trigger, self.days, self.calendars, self.zone)
        if self.start is not None or self.end is not None:
            trigger = Within(trigger, self.start, self.end, self.zone)
        return trigger

    def allow(self, instant: int) -> bool:
        """Tell whether something may come at an instant."""
        return (
            (self.start is None or self.start <= instant)
            and (self.end is None or instant <= self.end)
            and self.zone.wall(instant) // DAY not in self.days
            and not any(each.covers(instant) for each in self.calendars)
        )


def read_limits(
    start: str | None, end: str | None, excluded: list[str], zone: Zone, calendar: Callable[[str], Busy]
) -> Limits:
    """Read boundaries and what is left out.

    Parameters
    ----------
    start, end:
        Dates or dates with times; a date alone begins with its first instant and
        ends with its last.
    excluded:
        Dates (``2026-12-24``), ranges (``2026-12-24..2027-01-01``, both included),
        and names of files that end in ``.ics``.
    zone:
        Of the dates.
    calendar:
        Reads a file.

    Raises
    ------
    ExpressionError
        For what is no date, and for an end before the start.
    """
    since = None if start is None else read_bound(start, zone)
    until = None if end is None else read_bound(end, zone, last=True)
    if since is not None and until is not None and until < since:
        raise ExpressionError(f'until "{end}" comes before from "{start}"', expected="a later date for until")
    days: set[int] = set()
    calendars: list[Busy] = []
    for each in excluded:
        if each.lower().endswith(".ics"):
            calendars.append(calendar(each))
        else:
            days.update(_days(each, zone))
    return Limits(since, until, frozenset(days), tuple(calendars), zone)


def read_bound(text: str, zone: Zone, *, last: bool = False) -> int:
    """Read a boundary: an instant in µs UTC.

    >>> from datetime import UTC
    >>> read_bound("1970-01-02", Zone("UTC", UTC)), read_bound("1970-01-02", Zone("UTC", UTC), last=True)
    (86400000000, 172799999999)
    """
    words = Words(text)
    day, clock, instant = moment(words, zone)
    if clock is None and words.peek():
        clock = time(words)
    words.end()
    if instant is not None:
        return instant
    if clock is None and last:
        return zone.first((day + 1) * DAY) - 1
    return zone.first(day * DAY + (clock or 0))


def _days(text: str, zone: Zone) -> range:
    """Read an excluded date, or a range of them."""
    first, dots, last = text.partition("..")
    ends = []
    for part, at in ((first, 0), (last, len(first) + 2)) if dots else ((first, 0),):
        try:
            words = Words(part)
            day, clock, _ = moment(words, zone)
            words.end()
        except ExpressionError as error:
            raise ExpressionError(
                f'"{part.strip()}" is no date to leave out', text,
                at=at + (error.at or 0), expected="2026-12-24, 2026-12-24..2027-01-01, or the name of an .ics file",
            ) from None  # fmt: skip
        if clock is not None:
            raise ExpressionError(
                f'"{part.strip()}" has a time', text, at=at, expected="a date alone: days are left out"
            )
        ends.append(day)
    if not 0 <= ends[-1] - ends[0] <= _LONGEST_RANGE:
        what = "ends before it begins" if ends[-1] < ends[0] else "is longer than ten years"
        raise ExpressionError(
            f"the range of dates {what}",
            text,
            at=len(first) + 2,
            expected="a later date" if "before" in what else "an earlier date",
        )
    return range(ends[0], ends[-1] + 1)
