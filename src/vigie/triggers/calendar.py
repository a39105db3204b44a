"""Calendar expressions of systemd: ``Mon..Fri *-*-* 08:00``.

The grammar is that of systemd.time(7); what is not read or answered as systemd
does is in docs/reference/differences-systemd.md. A date is the product of years,
months and days of the month, thinned by weekdays, so the days of a month are the
same whenever it has the same length and begins on the same weekday: 28 kinds of
month, worked out when first met, and any calendar is walked a month at a time.

Clock changes follow this project's rule, as for every kind of schedule: an
expression whose hours, minutes or seconds have ``*`` or a repetition (``/``) in
canonical form follows elapsed time, another is a point in time. See ``walk``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from heapq import merge
from itertools import groupby

from vigie.errors import ExpressionError
from vigie.triggers.base import Joinable
from vigie.triggers.calendar_parse import (
    DAYS,
    FROM_END,
    HOURS,
    MINUTES,
    MONTHS,
    SECONDS,
    YEARS,
    Written,
    read,
)
from vigie.triggers.calendar_words import describe, normal, weekdays, why_never
from vigie.triggers.wall import DAY, LAST_DAY, SECOND, Clock, Zone, civil, day_number, walk, weekday

__all__ = ["Calendar"]

_UTC = Zone("UTC", UTC)
_FIRST_DAY = day_number(1, 1, 2)
#: Seconds that are more are not listed: each repetition is walked for itself.
_MANY = 1_000
#: After so many years the days of the calendar come again.
_CYCLE = 400


@dataclass(frozen=True, slots=True)
class _Dates:
    """Days: each of some years (None: all) with each of some months, then by the kind of month.

    ``days`` are days of the month, with ``from_end`` counted from its end.
    """

    years: tuple[int, ...] | None
    months: tuple[int, ...]
    days: tuple[int, ...]
    from_end: bool
    weekdays: Sequence[int]
    _kinds: dict[tuple[int, int], list[int]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, written: Written) -> _Dates:
        return cls(
            None if written.years is None else YEARS.numbers(written.years),
            MONTHS.numbers(written.months),
            FROM_END.numbers(written.days) if written.from_end else DAYS.numbers(written.days),
            written.from_end,
            written.weekdays,
        )

    def since(self, first: int, years: int = 9_999) -> Iterator[int]:
        """Give the numbers of the days from ``first`` on, for so many years."""
        begin, month, _ = civil(first)
        for year in self._years(begin, years):
            for number in self.months:
                if year == begin and number < month:
                    continue
                start = day_number(year, number, 1)
                for day in self._of_month(start, _length(year, number)):
                    if start + day > LAST_DAY:
                        return
                    if start + day >= first:
                        yield start + day

    def _years(self, begin: int, most: int) -> range | tuple[int, ...]:
        if self.years is None:
            return range(begin, min(begin + most, 10_000))
        return self.years[bisect_left(self.years, begin) :]

    def _of_month(self, start: int, length: int) -> list[int]:
        """Give the days of a month, counted from its first."""
        kind = (weekday(start), length)
        found = self._kinds.get(kind)
        if found is None:
            days = [length - day for day in reversed(self.days)] if self.from_end else [day - 1 for day in self.days]
            found = [day for day in days if day < length and weekday(start + day) in self.weekdays]
            self._kinds[kind] = found
        return found


def _length(year: int, month: int) -> int:
    if month != 2:
        return 30 + (month + month // 8) % 2
    return 28 + (year % 4 == 0 and (year % 100 != 0 or year % 400 == 0))


@dataclass(frozen=True, slots=True)
class Calendar(Joinable):
    """A calendar expression, as systemd.time(7) describes them.

    Attributes
    ----------
    text:
        As it was written.
    zone:
        The one that ends the expression, else the default.

    >>> calendar = Calendar.parse("Mon *-*-* 8:00", _UTC, lambda name: _UTC)
    >>> calendar.normal, calendar.fixed, calendar.describe()
    ('Mon *-*-* 08:00:00', True, 'at 08:00 on Monday')
    >>> next(calendar.after(0)) // DAY, next(calendar.after(0)) % DAY // 3_600_000_000
    (4, 8)
    """

    text: str
    zone: Zone
    _written: Written = field(repr=False)
    _dates: _Dates = field(repr=False)
    _clocks: tuple[Clock, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str, zone: Zone, zones: Callable[[str], Zone]) -> Calendar:
        """Read an expression.

        Parameters
        ----------
        text:
            ``[WEEKDAYS] [DATE] [TIME] [ZONE]``, a name such as ``daily``, or ``@SECONDS``.
        zone:
            Holds where the expression names none.
        zones:
            Gives the zone of a name, or raises ``ExpressionError``.

        Raises
        ------
        ExpressionError
            When it cannot be read, naming field and place; or never comes, saying why.
        """
        written = read(text)
        if written.zone is not None:
            zone = _UTC if written.zone.upper() == "UTC" else zones(written.zone)
        found = cls(text, _UTC if written.epoch else zone, written, _Dates.of(written), _clocks(written))
        found._refuse_never()
        return found

    @property
    def normal(self) -> str:
        """The canonical form, as ``systemd-analyze calendar`` prints it."""
        named = self._written.epoch or self._written.zone is not None
        return normal(self._written, self.zone.name if named else None)

    @property
    def fixed(self) -> bool:
        """Whether it is a point in time, on days on which clocks are set.

        A point in time that does not exist comes at the first instant after the
        gap, one that exists twice at the first. An expression that has ``*`` or
        ``/`` for hours, minutes or seconds in its canonical form follows elapsed
        time instead: it comes at each instant at which the wall shows such a time.
        """
        clock = (self._written.hours, 1), (self._written.minutes, 1), (self._written.seconds, SECOND)
        return not any(parts is None or any(part.repeats(unit) for part in parts) for parts, unit in clock)

    def after(self, instant: int) -> Iterator[int]:
        """Give the instants (µs UTC) that are later than ``instant``, in order, until no more come.

        Years that are ``*`` end with the year 9999.
        """
        day = max(self.zone.wall(instant) // DAY - 1, _FIRST_DAY)
        if day > LAST_DAY:
            return iter(())
        fixed = self.fixed
        walks = [walk(self._dates.since(day), clock, self.zone, instant, fixed=fixed) for clock in self._clocks]
        return walks[0] if len(walks) == 1 else (found for found, _ in groupby(merge(*walks)))

    def describe(self) -> str:
        """Say in words when it comes, without the zone."""
        return describe(self._written)

    def _refuse_never(self) -> None:
        """Refuse what comes at no time, past or future."""
        if self._written.days is None and self._written.years is None:
            return
        start, dates = day_number(YEARS.low, 1, 1), self._dates
        if next(dates.since(start, _CYCLE), None) is None:
            why = f"its dates never fall on {weekdays(dates.weekdays, 'or')}"
            if next(replace(dates, weekdays=range(7), _kinds={}).since(start, _CYCLE), None) is None:
                why = why_never(self._written)
            raise ExpressionError(f"never comes: {why}", self.text)
        # Each wall time of a point in time has an instant, and no gap comes on a date of all years.
        if not self.fixed and self._dates.years is not None and next(self.after(-DAY), None) is None:
            raise ExpressionError(f"never comes: clocks in {self.zone.name} pass over these times", self.text)


def _clocks(written: Written) -> tuple[Clock, ...]:
    """Give the times of a day; several only where seconds repeat so finely that they cannot be listed together."""
    hours, minutes = HOURS.numbers(written.hours), MINUTES.numbers(written.minutes)
    if SECONDS.count(written.seconds) <= _MANY:
        return (Clock(hours, minutes, SECONDS.numbers(written.seconds)),)
    return tuple(Clock(hours, minutes, SECONDS.range(part)) for part in written.seconds)
