"""Plain phrases: when, as people say it.

The first word says what kind of phrase it is::

    daily 22:00                         every 5m
    weekdays 08:00, 12:00               every 2 hours from 08:00
    mon-fri 08:00                       fri 18:00
    weekly mon,thu 08:00                every 5m after end
    monthly last fri 18:00              every 2 weeks on mon,thu 08:00
    yearly dec 24 18:00                 every 3 days at 04:00
    hourly :15                          in 20m
    on 2026-12-24 18:00                 at 18:00
    daily 08:00 every 10m for 2h        at boot

A phrase that names a time of day is a point in time: where clocks are set forward
over it, it comes at the first instant after the gap, where they are set back, once,
at the first of the two. ``hourly`` comes whenever the wall shows its minute, and an
interval (``every 5m``) follows elapsed time. A day without a time means the
midnight with which it begins, a week alone its Monday, a month alone its first day,
as in crontab(5) and systemd.time(7).

What takes every second day, week, month or year counts from the day on which the
phrase was read; whoever stores the phrase stores that instant with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge

from vigie.errors import ExpressionError
from vigie.triggers.base import Joinable, Trigger, distinct
from vigie.triggers.combine import SHORTEST, Repeated, check_repetition
from vigie.triggers.days import BUSINESS, WEEKEND, Dates, Days, EachDay, MonthDays, Nth, WeekDays, YearDays, listed
from vigie.triggers.interval import Again, Every, Once
from vigie.triggers.occasions import AtBoot, AtLogin, Occasion, parse_occasion
from vigie.triggers.phrase_parts import (
    begins_time,
    dates,
    is_weekday,
    minutes,
    moment,
    month_days,
    time,
    times,
    weekdays,
)
from vigie.triggers.wall import DAY, HOUR, LAST_DAY, MINUTE, SECOND, Clock, Zone, day_number, walk
from vigie.triggers.words import Words
from vigie.values import format_time

__all__ = ["FIRST_WORDS", "Hourly", "Moments", "parse_phrase"]

#: The first day of the calendar; one is kept free for offsets.
_FIRST_DAY = day_number(1, 1, 2)
_CALENDAR_UNIT = re.compile(r"(?:(\d{1,6}|other)\s*)?(day|week|month|year)s?(?=\s|$)", re.IGNORECASE)
_HOURS = tuple(range(24))
_UNITS = ("second", "minute", "hour", "day", "week", "month", "year", "monday", "weekday")
#: With what a phrase begins.
FIRST_WORDS = (
    "daily", "hourly", "weekdays", "weekends", "weekly", "monthly", "yearly", "annually", "every", "on", "at", "in"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moments(Joinable):
    """Points in time: some times of the day (µs from midnight, in order) on some days."""

    text: str
    days: Days
    times: tuple[int, ...]
    zone: Zone

    def after(self, instant: int) -> Iterator[int]:
        """Give the instants later than ``instant``: one for each day and time."""
        return _instants(self.days, self.times, self.zone, instant)

    def describe(self) -> str:
        """Say at which times on which days."""
        return f"at {listed(_shown(each) for each in self.times)} {self.days.describe()}"


@dataclass(frozen=True, slots=True)
class Hourly(Joinable):
    """Whenever the wall shows one of some minutes (µs from the begin of an hour, in order)."""

    text: str
    minutes: tuple[int, ...]
    zone: Zone

    def after(self, instant: int) -> Iterator[int]:
        """Give the instants later than ``instant``: where clocks are set back an hour has them twice."""
        first = _first_day(self.zone, instant)
        clocks = [Clock(_HOURS, (each // MINUTE,), (each % MINUTE,)) for each in self.minutes]
        walks = [walk(range(first, LAST_DAY + 1), clock, self.zone, instant, fixed=False) for clock in clocks]
        return walks[0] if len(walks) == 1 else distinct(merge(*walks))

    def describe(self) -> str:
        """Say at which minutes."""
        return f"at {listed(_shown(each)[2:] for each in self.minutes)} of every hour"


def parse_phrase(text: str, zone: Zone, now: int, path: Callable[[str], str] = str) -> Trigger | Again | Occasion:
    """Read a plain phrase.

    Parameters
    ----------
    text:
        The phrase, in any case.
    zone:
        Of its times of day.
    now:
        The instant (µs UTC) from which intervals and every second day, week, month
        or year count, and which ``at 18:00`` and ``in 20m`` follow.
    path:
        Gives the absolute form of a file's pattern.

    Raises
    ------
    ExpressionError
        With the word at which reading stopped, and what could stand there.

    >>> from datetime import UTC
    >>> parse_phrase("weekly mon,thu 08:00", Zone("UTC", UTC), 0).describe()
    'at 08:00 on Monday and Thursday'
    """
    words = Words(text)
    reader = _Reader(words, zone, now, path)
    if is_weekday(words.peek()) and words.peek() not in _READERS:
        return reader.weekly()
    read = _READERS.get(words.take())
    if read is None:
        words = Words(text)
        words.fail("phrase of time", "daily 22:00, weekly mon 08:00, every 5m, at boot …", FIRST_WORDS)
    return read(reader)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads a phrase from its second word on: a method for each first word."""

    words: Words
    zone: Zone
    now: int
    path: Callable[[str], str]

    @property
    def today(self) -> int:
        return self.zone.wall(self.now) // DAY

    def daily(self) -> Trigger:
        return self._points(EachDay())

    def hourly(self) -> Trigger:
        chosen = minutes(self.words)
        return self._repeated(Hourly(self.words.before, chosen, self.zone))

    def weekdays(self) -> Trigger:
        return self._points(WeekDays(BUSINESS))

    def weekends(self) -> Trigger:
        return self._points(WeekDays(WEEKEND))

    def weekly(self, step: int = 1) -> Trigger:
        chosen = frozenset((0,)) if begins_time(self.words) else weekdays(self.words)
        return self._points(WeekDays(chosen, step, self.today if step > 1 else 0))

    def monthly(self, step: int = 1) -> Trigger:
        chosen = (Nth(1),) if begins_time(self.words) else month_days(self.words)
        return self._points(MonthDays(chosen, step, self.today if step > 1 else 0))

    def yearly(self, step: int = 1) -> Trigger:
        chosen = ((1, 1),) if begins_time(self.words) else dates(self.words)
        return self._points(YearDays(chosen, step, self.today if step > 1 else 0))

    def every(self) -> Trigger | Again:
        words = self.words
        if is_weekday(words.peek()):
            return self._points(WeekDays(weekdays(words)))
        found = _CALENDAR_UNIT.match(words.text, words.at)
        if found is not None:
            return self._calendar(found)
        if words.peek() in ("hour", "minute", "second"):
            unit = words.take()
            if unit == "hour" and begins_time(words) and words.peek():
                return self.hourly()
            every = {"hour": HOUR, "minute": MINUTE, "second": SECOND}[unit]
        else:
            if not words.peek()[:1].isdigit() and words.peek()[:1] != "p":
                words.fail("interval", "5m, 90s, 2 hours, day, monday, 2 weeks …", _UNITS)
            every = words.duration(SHORTEST)
        return self._interval(every)

    def on(self) -> Trigger | Occasion:
        words = self.words
        if words.peek() in ("file", "job", "record", "idle"):
            return parse_occasion(words, self.path)
        if not words.peek()[:1].isdigit():
            words.fail(
                "date", "a date such as 2026-12-24, or file, job, record or idle", ("file", "job", "record", "idle")
            )
        return self._dated()

    def at(self) -> Trigger | Occasion:
        words = self.words
        if words.peek() in ("boot", "login"):
            found = AtBoot() if words.take() == "boot" else AtLogin()
            words.end()
            return found
        if "-" in words.peek():
            return self._dated()
        if not begins_time(words) or words.peek() in ("", "at", "every"):
            words.fail("time", "18:00, 2026-12-24T18:00, boot or login", ("boot", "login", "noon", "midnight"))
        clock = time(words)
        words.end("nothing more; several times are written daily 08:00,18:00")
        instant = next(_instants(EachDay(), (clock,), self.zone, self.now))
        return Once(instant, words.before, format_time(instant, self.zone.rules))

    def in_(self) -> Trigger:
        instant = self.now + self.words.duration()
        self.words.end()
        return Once(instant, self.words.before, format_time(instant, self.zone.rules), relative=True)

    def reboot(self) -> Occasion:
        self.words.end()
        return AtBoot()

    def _calendar(self, found: re.Match[str]) -> Trigger:
        """Read ``every 2 weeks`` and the like, which follow the calendar and not elapsed time."""
        words = self.words
        step = 2 if (found[1] or "").lower() == "other" else int(found[1] or 1)
        if step == 0:
            raise ExpressionError(f"{found[0]} is not an interval", words.text, at=words.at, expected="1 or more")
        words.at = found.end()
        words.skip_space()
        unit = found[2].lower()
        if unit == "day":
            return self._points(EachDay(step, self.today if step > 1 else 0))
        return {"week": self.weekly, "month": self.monthly, "year": self.yearly}[unit](step)

    def _interval(self, every: int) -> Trigger | Again:
        """Read what may follow an interval: from when, or after which end of a run, it counts."""
        words = self.words
        if words.skip("after"):
            words.skip("the")
            words.skip("last")
            since = words.peek()
            if since not in ("start", "end"):
                words.fail("word", "start or end", ("start", "end"))
            words.take()
            words.end()
            return Again(every, "start" if since == "start" else "end", words.before)
        if not words.skip("from"):
            words.end("nothing more, from 08:00, after start or after end")
            return Every(every, self.now, text=words.before)
        start = self._start()
        words.end()
        return Every(every, start - every, False, words.before, format_time(start, self.zone.rules))

    def _start(self) -> int:
        """Read from when an interval counts: an instant, or the last time that the wall showed a time of day."""
        if "-" not in self.words.peek():
            clock = time(self.words)
            found = [self.zone.first((self.today - back) * DAY + clock) for back in (0, 1, 2)]
            return next(each for each in found if each <= self.now)
        day, clock_, instant = moment(self.words, self.zone)
        if instant is not None:
            return instant
        if clock_ is None:
            clock_ = time(self.words) if self.words.peek() else 0
        return self.zone.first(day * DAY + clock_)

    def _dated(self) -> Trigger:
        """Read dates with their times."""
        words = self.words
        day, clock, instant = moment(words, self.zone)
        if instant is not None:
            words.end()
            return Once(instant, words.before, format_time(instant, self.zone.rules))
        if clock is not None:
            return self._repeated(Moments(words.before, Dates((day,)), (clock,), self.zone))
        days = {day}
        while words.another():
            at = words.at
            day, clock, _ = moment(words, self.zone)
            if clock is not None:
                words.at = at
                words.fail("date", "a date without a time; the times follow the last date")
            days.add(day)
        return self._points(Dates(tuple(sorted(days))))

    def _points(self, days: Days) -> Trigger:
        """Read the times of day, and make points in time of them."""
        words = self.words
        found = times(words)
        if next(days.days(self.today), None) is None and not isinstance(days, Dates):
            raise ExpressionError(f"it never comes: there is no day {days.describe()}", words.text)
        return self._repeated(Moments(words.before, days, found, self.zone))

    def _repeated(self, trigger: Moments | Hourly) -> Trigger:
        """Read the repetition, if there is one, and the end of the phrase."""
        words = self.words
        if not words.skip("every"):
            words.end("a time, every 10m for 2h, or nothing more")
            return trigger
        at = words.at
        every = words.duration(SHORTEST)
        if not words.skip("for"):
            words.fail("word", "for and how long, as in every 10m for 2h")
        lasting = words.duration()
        words.end()
        check_repetition(every, lasting, words.text, at)
        return Repeated(trigger, every, lasting)


_READERS: dict[str, Callable[[_Reader], Trigger | Again | Occasion]] = {
    "daily": _Reader.daily,
    "hourly": _Reader.hourly,
    "weekdays": _Reader.weekdays,
    "weekends": _Reader.weekends,
    "weekly": _Reader.weekly,
    "monthly": _Reader.monthly,
    "yearly": _Reader.yearly,
    "annually": _Reader.yearly,
    "every": _Reader.every,
    "on": _Reader.on,
    "at": _Reader.at,
    "in": _Reader.in_,
    "@reboot": _Reader.reboot,
}


def _first_day(zone: Zone, instant: int) -> int:
    """Give a day early enough for the instants later than one."""
    return max(zone.wall(instant) // DAY - 1, _FIRST_DAY)


def _instants(days: Days, clocks: tuple[int, ...], zone: Zone, instant: int) -> Iterator[int]:
    """Give the instants of points in time."""
    first = _first_day(zone, instant)
    if first > LAST_DAY:
        return iter(())
    walks = [
        walk(
            days.days(first),
            Clock((each // HOUR,), (each % HOUR // MINUTE,), (each % MINUTE,)),
            zone,
            instant,
            fixed=True,
        )
        for each in clocks
    ]
    return walks[0] if len(walks) == 1 else distinct(merge(*walks))


def _shown(clock: int) -> str:
    """Write a time of day, in µs, as short as it is exact."""
    hour, rest = divmod(clock, HOUR)
    minute, rest = divmod(rest, MINUTE)
    second, fraction = divmod(rest, SECOND)
    text = f"{hour:02}:{minute:02}"
    if rest:
        text += f":{second:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text
