"""The days of a recurrence rule.

All parts that speak of days (BYMONTH, BYWEEKNO, BYYEARDAY, BYMONTHDAY, BYDAY) are
read as one filter over the days of a year: what RFC 5545 calls to expand and to
limit comes to the same once DTSTART has filled in what the rule leaves open. Which
days pass depends on little: on which weekday the year begins, whether it is a leap
year, and (for the numbers of weeks) the years beside it. So there are some fifty
kinds of years, each worked out once; a year costs a look-up, and any year can be
asked for first. INTERVAL then takes every so-many-th period.
"""

from __future__ import annotations

from bisect import bisect_left
from calendar import isleap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from vigie.triggers.wall import LAST_DAY, civil, day_number, weekday

__all__ = ["Days", "Filter"]

#: A day is kept free for offsets.
_FIRST_DAY = day_number(1, 1, 2)
_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which days of a year pass; an empty field lets all pass.

    ``weekdays`` holds pairs of an ordinal (0: every) and a day of the week; ordinals
    count in the month where ``monthly`` is set, else in the year.
    """

    months: tuple[int, ...] = ()
    weeks: tuple[int, ...] = ()
    yeardays: tuple[int, ...] = ()
    monthdays: tuple[int, ...] = ()
    weekdays: tuple[tuple[int, int], ...] = ()
    monthly: bool = False
    wkst: int = 0

    def offsets(self, year: int) -> tuple[int, ...]:
        """Give the days of a year that pass, counted from its first of January.

        >>> Filter(months=(3,), weekdays=((-1, 6),), monthly=True).offsets(2026)
        (87,)
        """
        first = weekday(day_number(year, 1, 1))
        beside = (isleap(year - 1), isleap(year + 1)) if self.weeks else (False, False)
        return _offsets(self, first, isleap(year), *beside)


@lru_cache(maxsize=1024)
def _offsets(passing: Filter, first: int, leap: bool, before: bool, after: bool) -> tuple[int, ...]:
    """Give the days that pass of a year of one kind: its first weekday, and which of three years are leap years."""
    length = 366 if leap else 365
    found: set[int] | None = None
    months = _months(leap)
    if passing.months or passing.monthdays:
        chosen = [months[number - 1] for number in passing.months] if passing.months else months
        found = {day for month in chosen for day in _month_days(month, passing.monthdays)}
    if passing.yeardays:
        found = _both(found, {number - 1 if number > 0 else length + number for number in passing.yeardays})
    if passing.weeks:
        weeks = _weeks(passing.wkst, first, length, 366 if before else 365, 366 if after else 365)
        wanted = set(passing.weeks)
        found = _both(found, {day for day, numbers in enumerate(weeks) if wanted & numbers})
    if passing.weekdays:
        spans = months if passing.monthly else [range(length)]
        found = _both(found, {day for pair in passing.weekdays for day in _on_weekday(*pair, spans, first, length)})
    return tuple(range(length)) if found is None else tuple(sorted(day for day in found if 0 <= day < length))


def _both(found: set[int] | None, more: set[int]) -> set[int]:
    return more if found is None else found & more


def _months(leap: bool) -> list[range]:
    """Give the days of each month."""
    found, start = [], 0
    for number, length in enumerate(_LENGTHS):
        end = start + length + (leap and number == 1)
        found.append(range(start, end))
        start = end
    return found


def _month_days(month: range, numbers: tuple[int, ...]) -> Iterator[int]:
    """Give the days of a month that have one of these numbers."""
    if not numbers:
        yield from month
    for number in numbers:
        if abs(number) <= len(month):
            yield month[number - 1 if number > 0 else number]


def _on_weekday(ordinal: int, day: int, spans: list[range], first: int, length: int) -> Iterator[int]:
    """Give the days that are one day of the week: every one of the year, or the n-th of each span."""
    if not ordinal:
        yield from range((day - first) % 7, length, 7)
        return
    for span in spans:
        those = range(span.start + (day - first - span.start) % 7, span.stop, 7)
        if abs(ordinal) <= len(those):
            yield those[ordinal - 1 if ordinal > 0 else ordinal]


def _weeks(wkst: int, first: int, length: int, before: int, after: int) -> list[set[int]]:
    """Give for each day of a year the numbers of its week, from the front and from the back.

    Week 1 is the first with at least four days in its year (RFC 5545, BYWEEKNO); days
    at a year's ends may lie in a week of the year beside it, and have its numbers.
    """
    starts = [_week_one(wkst, first - before, -before), _week_one(wkst, first, 0)]
    starts += [_week_one(wkst, first + length, length), _week_one(wkst, first + length + after, length + after)]
    found = []
    for day in range(length):
        start, end = next((a, b) for a, b in pairwise(starts) if a <= day < b)
        found.append({(day - start) // 7 + 1, (day - end) // 7})
    return found


def _week_one(wkst: int, first: int, day: int) -> int:
    """Give the day on which week 1 begins in a year that begins on ``day``, a weekday ``first``."""
    into = (first - wkst) % 7
    return day - into if into <= 3 else day + 7 - into


@dataclass(frozen=True, slots=True)
class Days:
    """The days of a rule, without end: those that pass, in every ``interval``-th period from the one with ``start``.

    ``freq`` is DAILY, WEEKLY, MONTHLY or YEARLY.
    """

    freq: str
    interval: int
    start: int
    passing: Filter

    def begin(self, day: int) -> int:
        """Give the first day of the period in which a day lies."""
        if self.freq == "WEEKLY":
            return day - (weekday(day) - self.passing.wkst) % 7
        year, month, _ = civil(day)
        if self.freq == "DAILY":
            return day
        return day_number(year, month if self.freq == "MONTHLY" else 1, 1)

    def __call__(self, since: int) -> Iterator[int]:
        """Give the days from ``since`` on, ascending, to the end of the calendar; none before the first period."""
        since = max(since, self.begin(self.start), _FIRST_DAY)
        if since > LAST_DAY:
            return
        if self.freq == "DAILY" and self.passing == _ALL:
            yield from range(since + (self.start - since) % self.interval, LAST_DAY + 1, self.interval)
            return
        begin, step = civil(since)[0], 1
        if self.freq == "YEARLY":
            begin, step = begin + (civil(self.start)[0] - begin) % self.interval, self.interval
        for year in range(begin, 10_000, step):
            first = day_number(year, 1, 1)
            offsets = self.passing.offsets(year)
            if self.interval > 1 and self.freq != "YEARLY":
                offsets = self._in_turn(offsets, year)
            for offset in offsets[bisect_left(offsets, since - first) if since > first else 0 :]:
                if first + offset > LAST_DAY:
                    return
                yield first + offset

    def _in_turn(self, offsets: tuple[int, ...], year: int) -> tuple[int, ...]:
        """Give those days of a year that lie in a period whose turn it is."""
        if self.freq != "MONTHLY":
            unit = 7 if self.freq == "WEEKLY" else 1
            begin = self.begin(self.start) - day_number(year, 1, 1)
            return tuple(day for day in offsets if (day - begin) // unit % self.interval == 0)
        start_year, start_month, _ = civil(self.start)
        first = (start_month - 1 - (year - start_year) * 12) % self.interval
        spans = _months(isleap(year))[first :: self.interval]
        return tuple(
            day for span in spans for day in offsets[bisect_left(offsets, span.start) : bisect_left(offsets, span.stop)]
        )

    def groups(self, since: int) -> Iterator[list[int]]:
        """Give the days of each period, from the period in which ``since`` lies on."""
        if since > LAST_DAY:
            return
        group: list[int] = []
        end = begin = self.begin(max(since, self.start))
        for day in self(begin):
            if day >= end:
                if group:
                    yield group
                group, end = [], self._end(day)
            group.append(day)
        if group:
            yield group

    def _end(self, day: int) -> int:
        """Give the first day of the period after the one in which a day lies."""
        if self.freq == "DAILY":
            return day + 1
        if self.freq == "WEEKLY":
            return self.begin(day) + 7
        year, month, _ = civil(day)
        if self.freq == "MONTHLY" and month < 12:
            return day_number(year, month + 1, 1)
        return day_number(year + 1, 1, 1) if year < 9999 else LAST_DAY + 1


_ALL = Filter()
