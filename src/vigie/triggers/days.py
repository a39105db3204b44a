"""Which days: rules that give the numbers of days, as plain phrases say them.

A rule gives its days in order from any day on. Rules that take every second day,
week, month or year count from a day they were given, and are the only ones that
need one. Weeks begin on Monday (ISO 8601).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from vigie.triggers.wall import LAST_DAY, civil, day_number, weekday

__all__ = [
    "ALL_DAYS",
    "BUSINESS",
    "WEEKEND",
    "Dates",
    "Days",
    "EachDay",
    "MonthDays",
    "Nth",
    "WeekDays",
    "YearDays",
    "listed",
    "month_length",
    "shown",
]

ALL_DAYS = frozenset(range(7))
BUSINESS = frozenset(range(5))
WEEKEND = frozenset((5, 6))

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
#: How much of a date says from which week, month or year something counts.
_SHOWN = {"day": 10, "week": 10, "month": 7, "year": 4}
_ORDINALS = {-1: "last", 1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}


class Days(Protocol):
    """A rule that gives days."""

    def days(self, first: int) -> Iterator[int]:
        """Give the numbers of its days from ``first`` on, in order."""
        ...

    def describe(self) -> str:
        """Say which days: ``every day``, ``on Monday`` …."""
        ...


@dataclass(frozen=True, slots=True)
class EachDay:
    """Every day, or every so many counted from ``anchor`` (a day's number).

    >>> list(EachDay(3, anchor=100).days(99))[:3]
    [100, 103, 106]
    """

    step: int = 1
    anchor: int = 0

    def days(self, first: int) -> Iterator[int]:
        """Give them; none comes before the anchor of a step."""
        start = first if self.step == 1 else max(first + (self.anchor - first) % self.step, self.anchor)
        return iter(range(start, LAST_DAY + 1, self.step))

    def describe(self) -> str:
        return f"every {_counted(self.step, 'day', self.anchor)}"


@dataclass(frozen=True, slots=True)
class WeekDays:
    """Some days of each week, or of every so many weeks counted from that of ``anchor``.

    >>> [weekday(day) for day, _ in zip(WeekDays(frozenset((0, 3))).days(0), range(3))]
    [3, 0, 3]
    """

    weekdays: frozenset[int]
    step: int = 1
    anchor: int = 0

    def days(self, first: int) -> Iterator[int]:
        """Give them; none comes before the week of the anchor of a step."""
        base = self.anchor - weekday(self.anchor)
        week = first - weekday(first)
        if self.step > 1:
            week = max(week + (base - week) % (7 * self.step), base)
        chosen = sorted(self.weekdays)
        for monday in range(week, LAST_DAY + 1, 7 * self.step):
            for number in chosen:
                if first <= monday + number <= LAST_DAY:
                    yield monday + number

    def describe(self) -> str:
        if self.weekdays == BUSINESS:
            which = "on Monday to Friday"
        elif self.weekdays == ALL_DAYS:
            which = "every day"
        else:
            which = f"on {listed(_WEEKDAYS[number] for number in sorted(self.weekdays))}"
        return which if self.step == 1 else f"{which} of every {_counted(self.step, 'week', self.anchor)}"


@dataclass(frozen=True, slots=True, order=True)
class Nth:
    """The n-th (or with -1 the last) of the days of a month that are one of ``weekdays``.

    >>> civil(day_number(2026, 3, 1) - 1 + Nth(-1, (4,)).of(2026, 3))
    (2026, 3, 27)
    """

    n: int
    weekdays: tuple[int, ...] = tuple(range(7))

    def of(self, year: int, month: int) -> int | None:
        """Give the day of a month; None for a month that has no such day."""
        length = month_length(year, month)
        if len(self.weekdays) == 7:
            day = self.n if self.n > 0 else length + 1 + self.n
            return day if 1 <= day <= length else None
        first = date(year, month, 1).weekday()
        found = [day for day in range(1, length + 1) if (first + day - 1) % 7 in self.weekdays]
        at = self.n - 1 if self.n > 0 else self.n
        return found[at] if at < len(found) else None

    def describe(self) -> str:
        """Say which: ``day 15``, ``the last Friday``."""
        which = _ORDINALS.get(self.n, f"{self.n}th")
        if len(self.weekdays) == 7:
            said = "the last day" if self.n == -1 else f"day {self.n}"
        elif frozenset(self.weekdays) == BUSINESS:
            said = f"the {which} weekday (Monday to Friday)"
        else:
            said = f"the {which} {' or '.join(_WEEKDAYS[number] for number in self.weekdays)}"
        return said if self.n <= 4 * len(self.weekdays) else f"{said} (where there is one)"


@dataclass(frozen=True, slots=True)
class MonthDays:
    """Some days of each month, or of every so many months counted from that of ``anchor``.

    A month that has no such day (the 31st, a fifth Monday) is passed over.
    """

    chosen: tuple[Nth, ...]
    step: int = 1
    anchor: int = 0

    def days(self, first: int) -> Iterator[int]:
        """Give them; none comes before the month of the anchor of a step."""
        year, month, _ = civil(first)
        number = year * 12 + month - 1
        if self.step > 1:
            year, month, _ = civil(self.anchor)
            base = year * 12 + month - 1
            number = max(number + (base - number) % self.step, base)
        for at in range(number, 9999 * 12 + 12, self.step):
            year, month = at // 12, at % 12 + 1
            before = day_number(year, month, 1) - 1
            for day in sorted({day for day in (each.of(year, month) for each in self.chosen) if day is not None}):
                if first <= before + day <= LAST_DAY:
                    yield before + day

    def describe(self) -> str:
        of = "of each month" if self.step == 1 else f"of every {_counted(self.step, 'month', self.anchor)}"
        return f"on {listed(each.describe() for each in sorted(self.chosen, key=_in_month))} {of}"


@dataclass(frozen=True, slots=True)
class YearDays:
    """Some dates (month, day) of each year, or of every so many years counted from that of ``anchor``.

    A year without 29 February is passed over.
    """

    dates: tuple[tuple[int, int], ...]
    step: int = 1
    anchor: int = 0

    def days(self, first: int) -> Iterator[int]:
        """Give them; none comes before the year of the anchor of a step."""
        year = civil(first)[0]
        if self.step > 1:
            base = civil(self.anchor)[0]
            year = max(year + (base - year) % self.step, base)
        chosen = sorted(set(self.dates))
        for at in range(year, 10_000, self.step):
            for month, day in chosen:
                if day <= month_length(at, month):
                    number = day_number(at, month, day)
                    if first <= number <= LAST_DAY:
                        yield number

    def describe(self) -> str:
        dates = listed(
            f"{day} {_MONTHS[month - 1]}{' (in leap years)' if (month, day) == (2, 29) else ''}"
            for month, day in sorted(set(self.dates))
        )
        return f"on {dates} of every {_counted(self.step, 'year', self.anchor)}"


@dataclass(frozen=True, slots=True)
class Dates:
    """Days that are named one by one, in order."""

    numbers: tuple[int, ...]

    def days(self, first: int) -> Iterator[int]:
        """Give those from ``first`` on."""
        return (number for number in self.numbers if number >= first)

    def describe(self) -> str:
        return f"on {listed(shown(number) for number in self.numbers)}"


def shown(day: int) -> str:
    """Write a day as ISO 8601 does.

    >>> shown(0)
    '1970-01-01'
    """
    year, month, number = civil(day)
    return f"{year:04}-{month:02}-{number:02}"


def listed(words: Iterable[str]) -> str:
    """Join words as people do.

    >>> listed(["a"]), listed("abc")
    ('a', 'a, b and c')
    """
    *front, last = words
    return f"{', '.join(front)} and {last}" if front else last


def _counted(step: int, unit: str, anchor: int) -> str:
    """Say every how many, and from when they count."""
    if step == 1:
        return unit
    return f"{step} {unit}s (counted from {shown(anchor)[: _SHOWN[unit]]})"


def _in_month(each: Nth) -> tuple[int, Nth]:
    """Order days as a month has them, the last ones last."""
    return (each.n if each.n > 0 else 99, each)


def month_length(year: int, month: int) -> int:
    """Give how many days a month has."""
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31
