"""Cron lines: ``30 2 * * mon-fri``, as Debian's cron reads them and a little more.

A line says which times of a day (a :class:`~vigie.triggers.wall.Clock`) and which
days; the days are found month by month, the clock is laid over them by
:func:`~vigie.triggers.wall.walk`, and nothing is ever tried out minute by minute.

Fields, in order: second (optional), minute, hour, day-of-month, month,
day-of-week, year (optional, after seconds). In each, separated by commas:

========================  ====================================================
``*``  ``?``              every number
``5``  ``jan``  ``mon``   one; names by three letters or more, in any case
``9-17``  ``mon-fri``     a range; it may not run backwards, but Sunday is 0 and
                          7, so ``fri-sun`` and ``sun-tue`` run forwards
``*/5``  ``9-17/2``       each fifth, each second of a range
``5/15``                  from 5 on each fifteenth
``L``  ``L-3``            the last day of the month, three days before it
``15W``  ``LW``           the working day nearest the 15th, the last one
``5#2``  ``5L``  ``5#L``  the second, the last Friday of the month (day-of-week)
``H``  ``H/15``           a number, a beginning that depends on a name alone
                          (as in Jenkins), so that many lines do not meet at :00
========================  ====================================================

Day-of-month with day-of-week, as crontab(5) of Debian has it: if both are
restricted, either is enough; if one begins with ``*`` (also ``*/2``), both must
match. ``+`` before the day-of-week says that both must (``0 0 13 * +fri``).

On days on which clocks are set there are two rules. A line whose second, minute
and hour have neither a wildcard nor a step is a point in time: one that does not
exist runs once, at the first instant after the gap, and one that exists twice
runs at the first. Any other line follows elapsed time: it runs at each instant
at which clocks show such a time. Debian's cron and cronsim draw the same line,
but look only for a ``*`` that begins the minute or the hour.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from calendar import isleap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vigie.errors import ExpressionError
from vigie.triggers import cron_fields as fields
from vigie.triggers import wall
from vigie.triggers.base import Joinable
from vigie.triggers.cron_fields import Days, Field, Values
from vigie.triggers.cron_words import day_words, describe
from vigie.triggers.wall import DAY, LAST_DAY, Clock, Zone, civil, day_number, walk, weekday

__all__ = ["Cron"]

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MEANING = "minute hour day-of-month month day-of-week; six with second in front, seven with year at the end too"
_FIRST_DAY = day_number(1, 1, 1)
_ANY_YEAR = range(1, 10_000)


@dataclass(frozen=True, slots=True)
class Cron(Joinable):
    """A cron line in a zone.

    ``fixed`` tells which rule holds on days on which clocks are set: True for a
    point in time, False for what follows elapsed time.

    >>> from zoneinfo import ZoneInfo
    >>> line = Cron.parse("30 2 * * mon-fri", Zone("Europe/Paris", ZoneInfo("Europe/Paris")))
    >>> line.describe(), line.fixed, next(line.after(0)) / wall.HOUR
    ('at 02:30 on Monday to Friday', True, 1.5)
    """

    text: str
    zone: Zone
    fixed: bool
    _clock: Clock = field(repr=False)
    _days: Days = field(repr=False)
    _months: tuple[int, ...] = field(repr=False)
    _years: tuple[int, ...] | None = field(repr=False)

    @classmethod
    def parse(cls, text: str, zone: Zone, seconds: bool | None = None, seed: str | None = None) -> Cron:
        """Read a cron line.

        Parameters
        ----------
        text:
            Five fields, six with seconds first, or seven with a year last; or ``@daily``
            and its like.
        zone:
            Whose clocks show the times.
        seconds:
            True asks for a field of seconds, False for none (a sixth is the year then);
            None goes by the number of fields.
        seed:
            What ``H`` depends on, such as the name of a schedule. The same seed gives
            the same times in every version.

        Raises
        ------
        ExpressionError
            When it cannot be read, or never fires.
        """
        line = _line(text)
        words = [(found.start(), found[0]) for found in re.finditer(r"\S+", line)]
        places = dict(zip(_fields(line, [at for at, _ in words], seconds), words, strict=True))
        found = {fields.SECOND: fields.read(fields.SECOND, "0")}
        for which, (at, word) in places.items():
            try:
                found[which] = fields.read(which, word, seed)
            except fields.Wrong as wrong:
                raise ExpressionError(wrong.what, line, at=at + wrong.at, expected=wrong.expected) from None
        made = cls._of(text.strip(), zone, found)
        if not made._comes():
            never = made._day_words().removeprefix("on ").replace(" if it is ", " and ")
            at = places[fields.DATE][0]
            raise ExpressionError(f"it never fires: no day is {never}", line, at=at, expected="a day that comes")
        return made

    @classmethod
    def _of(cls, text: str, zone: Zone, found: Mapping[Field, Values]) -> Cron:
        hours, minutes, seconds = (found[which] for which in (fields.HOUR, fields.MINUTE, fields.SECOND))
        return cls(
            text,
            zone,
            not (hours.repeats or minutes.repeats or seconds.repeats),
            Clock(hours.ordered(), minutes.ordered(), tuple(each * wall.SECOND for each in seconds.ordered())),
            fields.days(found[fields.DATE], found[fields.WEEKDAY]),
            found[fields.MONTH].ordered(),
            found[fields.YEAR].ordered() if fields.YEAR in found else None,
        )

    def after(self, instant: int) -> Iterator[int]:
        """Give the instants (µs UTC) later than one, in order, up to the calendar's end.

        >>> from datetime import UTC
        >>> from itertools import islice
        >>> [at // DAY for at in islice(Cron.parse("0 0 29 2 *", Zone("UTC", UTC)).after(0), 3)]
        [789, 2250, 3711]
        """
        # The day before: on the days on which clocks are set, they may be set back over midnight.
        first = max(self.zone.wall(instant) // DAY - 1, _FIRST_DAY)
        return walk(self._dates(first), self._clock, self.zone, instant, fixed=self.fixed)

    def describe(self) -> str:
        """Say in plain English how the line was read, without its zone."""
        seconds = [each // wall.SECOND for each in self._clock.seconds]
        return describe(seconds, self._clock.minutes, self._clock.hours, self._day_words())

    def _day_words(self) -> str:
        return day_words(self._days, self._months, self._years)

    def _comes(self) -> bool:
        """Tell whether there is a day at all: in a given year, or in any of the 28 kinds of month."""
        if self._years is not None:
            return any(self._in_month(year, month) for year in self._years for month in self._months)
        lengths = {length for month in self._months for length in fields.lengths(month)}
        return any(self._days.of(first, length) for length in lengths for first in range(7))

    def _dates(self, first: int) -> Iterator[int]:
        """Give the days from one on, by their numbers."""
        if first > LAST_DAY:
            return
        start, month, _ = civil(first)
        years = _ANY_YEAR if self._years is None else self._years
        for year in years[bisect_left(years, start) :]:
            for each in self._months:
                if year > start or each >= month:
                    for day in self._in_month(year, each):
                        if first <= day <= LAST_DAY:
                            yield day

    def _in_month(self, year: int, month: int) -> list[int]:
        start = day_number(year, month, 1)
        length = fields.lengths(month)[-1 if isleap(year) else 0]
        return [start + day for day in self._days.of(weekday(start), length)]


def _line(text: str) -> str:
    """Give the five fields that a name such as ``@daily`` stands for; other text as it is."""
    name = text.strip().lower()
    if name.startswith(("tz=", "cron_tz=")):
        at, zone = text.index("=") + 1, text.split(maxsplit=1)[0]
        raise ExpressionError(f"a cron line has no zone in it, as {zone}", text, at=at, expected="the zone beside it")
    if not name.startswith("@"):
        return text
    if name in _NAMED:
        return _NAMED[name]
    if name == "@reboot":
        raise ExpressionError("@reboot is no time: write at boot", text, at=text.index("@"), expected="at boot")
    if name.startswith("@every"):
        instead = name[1:]
        raise ExpressionError(f"@every is no cron: write {instead}", text, at=text.index("@"), expected=instead)
    raise ExpressionError(f"{name} is not known", text, at=text.index("@"), expected=" ".join(_NAMED))


def _fields(line: str, places: Sequence[int], seconds: bool | None) -> list[Field]:
    """Say which fields a line has, by their number."""
    count = len(places)
    counts = {None: (5, 6, 7), True: (6, 7), False: (5, 6)}[seconds]
    if count not in counts:
        what = f"{count or 'no'} field{'s' * (count != 1)} instead of {_either(counts)}"
        at = places[counts[-1]] if count > counts[-1] else len(line.rstrip())
        raise ExpressionError(what, line, at=at, expected=_MEANING)
    found = [fields.MINUTE, fields.HOUR, fields.DATE, fields.MONTH, fields.WEEKDAY]
    if seconds or (seconds is None and count > 5):
        found.insert(0, fields.SECOND)
    if count > len(found):
        found.append(fields.YEAR)
    return found


def _either(counts: Sequence[int]) -> str:
    return f"{', '.join(map(str, counts[:-1]))} or {counts[-1]}"
