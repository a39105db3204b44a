"""One recurrence rule with its start: from parts to instants.

Two kinds of rules meet the clocks differently.

* DAILY, WEEKLY, MONTHLY and YEARLY name points in time on the wall. One that does
  not exist gives the first instant after the gap, one that exists twice the first
  of the two; two that come to the same instant are one.
* HOURLY, MINUTELY and SECONDLY step by elapsed time. An hour (a minute, a second) is
  one on the wall; they are counted as they pass from the one with DTSTART, so that
  INTERVAL=2 stays two hours apart when clocks are set; and of those whose turn it is,
  each instant counts at which the wall shows a wanted time. An hour that the clocks
  skip has none, one that they repeat is two hours. Without INTERVAL this is what a
  cron line with the same fields gives.

Nothing before DTSTART is walked, unless COUNT has to be kept: then every 512th
instant is remembered, so that only the first question pays.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import gcd

from vigie.triggers.rrule_days import Days, Filter
from vigie.triggers.rrule_parts import Parts
from vigie.triggers.wall import DAY, HOUR, MINUTE, SECOND, Clock, Zone, civil, walk, weekday

__all__ = ["Rule", "make_rule"]

_UNITS = {"HOURLY": HOUR, "MINUTELY": MINUTE, "SECONDLY": SECOND}
_MARK = 512
#: So many days that pass (periods, for BYSETPOS), and bring nothing, are taken as never: 40 years of all days.
_PATIENCE = 14_610


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of which nothing is open any more; made by :func:`make_rule`.

    ``wall`` and ``start`` are DTSTART on the wall and as an instant, ``clock`` the
    times of a day, ``end`` the last instant allowed (UNTIL).
    """

    parts: Parts
    zone: Zone
    wall: int
    start: int
    end: int | None
    days: Days
    clock: Clock
    _marks: list[int] = field(default_factory=list, repr=False, compare=False)

    def after(self, instant: int) -> Iterator[int]:
        """Give the instants later than one, ascending."""
        since = max(instant, self.start - 1)
        if self.end is not None and since >= self.end:
            return
        if self.parts.count is not None:
            yield from self._counted(since, self.parts.count)
            return
        for each in self._from(since):
            if self.end is not None and each > self.end:
                return
            yield each

    def most_a_day(self) -> int:
        """Give a number that a day's instants do not exceed, but for days on which clocks are set."""
        found = len(self.clock.hours) * len(self.clock.minutes) * len(self.clock.seconds)
        return found // self.parts.interval + 1 if self.parts.freq in _UNITS else found

    def comes(self) -> bool:
        """Tell whether the rule gives anything at all."""
        return next(self.after(self.start - 1), None) is not None

    def _counted(self, since: int, count: int) -> Iterator[int]:
        """Give what lies among the first ``count`` instants."""
        known = bisect_right(self._marks, since)
        number = known * _MARK
        if number >= count:
            return
        for each in self._from(self._marks[known - 1] if known else self.start - 1):
            number += 1
            if number == (len(self._marks) + 1) * _MARK:
                self._marks.append(each)
            if each > since:
                yield each
            if number == count:
                return

    def _from(self, since: int) -> Iterator[int]:
        """Give the instants later than one that is not before the start, without end."""
        unit = _UNITS.get(self.parts.freq)
        if unit is not None:
            return _Steps(self, unit).after(since)
        day = self.zone.wall(since) // DAY - 1
        if self.parts.positions:
            return self._chosen(since, day)
        return walk(self.days(day), self.clock, self.zone, since, fixed=True)

    def _chosen(self, since: int, day: int) -> Iterator[int]:
        """Give the instants at the places of BYSETPOS among each period's."""
        hours, minutes, seconds = self.clock.hours, self.clock.minutes, self.clock.seconds
        last, a_day, idle = since, len(hours) * len(minutes) * len(seconds), 0
        for days in self.days.groups(day):
            idle += 1
            if idle > _PATIENCE:
                return
            for place in _places(self.parts.positions, len(days) * a_day):
                which, rest = divmod(place, a_day)
                rest, second = divmod(rest, len(seconds))
                hour, minute = divmod(rest, len(minutes))
                time = hours[hour] * HOUR + minutes[minute] * MINUTE + seconds[second]
                offset = self.zone.plain(days[which])
                wall = days[which] * DAY + time
                instant = self.zone.first(wall) if offset is None else wall - offset
                if instant > last:
                    idle = 0
                    yield instant
                    last = instant


def _places(positions: tuple[int, ...], total: int) -> list[int]:
    """Give the places from 0 that BYSETPOS means among so many."""
    found = {number - 1 if number > 0 else total + number for number in positions}
    return sorted(place for place in found if 0 <= place < total)


class _Steps:
    """HOURLY, MINUTELY and SECONDLY: slots of one unit, those whose turn it is, and the times within them."""

    def __init__(self, rule: Rule, unit: int) -> None:
        hours, minutes, seconds = rule.clock.hours, rule.clock.minutes, rule.clock.seconds
        inner = list(Clock(*(((0,), minutes, seconds) if unit == HOUR else ((0,), (0,), seconds))).times())
        inner = [0] if unit == SECOND else inner
        positions = rule.parts.positions
        # The set of a period is what a whole one has, so that a change of clocks does not move the places in it.
        self.inner = [inner[place] for place in _places(positions, len(inner))] if positions else inner
        self.clock = Clock(hours, minutes if unit < HOUR else (0,), seconds if unit < MINUTE else (0,))
        self.unit, self.interval = unit, rule.parts.interval
        self.zone, self.days = rule.zone, rule.days
        #: The slot from which turns are counted.
        self.anchor = rule.start - rule.zone.wall(rule.start) % unit
        slots = DAY // unit
        wanted = len(hours) * len(self.clock.minutes) * len(self.clock.seconds)
        self.few = self.interval == 1 or wanted * self.interval <= slots
        self.patience = max(_PATIENCE, 4 * self.interval // gcd(self.interval, slots))
        self.sets = (frozenset(hours), frozenset(minutes), frozenset(seconds))

    def after(self, since: int) -> Iterator[int]:
        """Give the instants later than one, ascending."""
        if not self.inner:
            return
        days = self.days(self.zone.wall(since) // DAY - 1)
        day = next(days, None)
        idle, barren = 0, set[int]()
        while day is not None and idle < self.patience:
            idle += 1
            offset = self.zone.plain(day)
            if offset is None:
                run = [day]
                day = next(days, None)
                while day == run[-1] + 1 and self.zone.plain(day) is None:
                    run.append(day)
                    day = next(days, None)
                for instant in self._on_odd_days(run, since):
                    idle = 0
                    yield instant
                continue
            turn = self._turn(day, offset)
            if turn not in barren:
                low = max(day * DAY, since + 1 + offset)
                before = idle
                for instant in self._between(day, low, (day + 1) * DAY, offset):
                    idle = 0
                    yield instant
                if idle == before and low == day * DAY:
                    barren.add(turn)
            ahead = turn * self.unit // DAY - 1
            if ahead > 1:
                days = self.days(day + ahead)
            day = next(days, None)

    def _on_odd_days(self, run: list[int], since: int) -> Iterator[int]:
        """Give the instants of adjacent days on which clocks are set, stretch by stretch."""
        for start, end, offset in _stretches(self.zone, (run[0] - 1) * DAY, (run[-1] + 2) * DAY):
            for day in run:
                low = max(day * DAY, start + offset, since + 1 + offset)
                yield from self._between(day, low, min((day + 1) * DAY, end + offset), offset)

    def _turn(self, day: int, offset: int) -> int:
        """Give which slot of a day is the first (of those, by number) whose turn it is."""
        return -((day * DAY - offset - self.anchor) // self.unit) % self.interval

    def _between(self, day: int, low: int, high: int, offset: int) -> Iterator[int]:
        """Give the instants of a day between two wall times, where one offset holds."""
        midnight = day * DAY
        low, high = low - midnight, high - midnight
        if low >= high:
            return
        for slot in self._slots(low // self.unit * self.unit, self._turn(day, offset)):
            if slot >= high:
                return
            for extra in self.inner:
                if low <= slot + extra < high:
                    yield midnight + slot + extra - offset

    def _slots(self, first: int, turn: int) -> Iterator[int]:
        """Give the wanted slots of a day (µs from midnight) from ``first`` on whose turn it is."""
        unit, interval = self.unit, self.interval
        if self.few:
            for slot in self.clock.times(first):
                if interval == 1 or slot // unit % interval == turn:
                    yield slot
            return
        hours, minutes, seconds = self.sets
        number = first // unit
        for slot in range((number + (turn - number) % interval) * unit, DAY, interval * unit):
            hour, rest = divmod(slot, HOUR)
            if hour in hours and (
                unit == HOUR or (rest // MINUTE in minutes and (unit == MINUTE or rest % MINUTE in seconds))
            ):
                yield slot


def _stretches(zone: Zone, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Give the stretches of one offset between two instants: start, end, offset."""
    since, offset, at = start, zone.offset(start), start
    while at < end:
        after = min(at + HOUR, end)
        if (now := zone.offset(after)) != offset:
            low, high = at, after
            while high - low > SECOND:
                middle = (low + high) // (2 * SECOND) * SECOND
                low, high = (middle, high) if zone.offset(middle) == offset else (low, middle)
            yield since, high, offset
            since, offset = high, now
        at = after
    yield since, end, offset


def make_rule(parts: Parts, zone: Zone, wall: int, start: int) -> Rule:
    """Fill in from DTSTART what a rule leaves open.

    Parameters
    ----------
    parts:
        The rule as it was written.
    zone:
        Whose wall.
    wall, start:
        DTSTART on the wall, and as an instant; both in µs.
    """
    day, time = divmod(wall, DAY)
    freq = parts.freq
    hours = parts.hours or (tuple(range(24)) if freq in _UNITS else (time // HOUR,))
    minutes = parts.minutes or (tuple(range(60)) if freq in ("MINUTELY", "SECONDLY") else (time // MINUTE % 60,))
    seconds: tuple[int, ...] | range = (time % MINUTE,)
    if parts.seconds:
        # There is no second 60 in this machine's time: RFC 5545 3.3.12 has it read as 59.
        seconds = tuple(sorted({min(second, 59) * SECOND for second in parts.seconds}))
    elif freq == "SECONDLY":
        seconds = range(0, MINUTE, SECOND)
    days = Days("DAILY" if freq in _UNITS else freq, 1 if freq in _UNITS else parts.interval, day, _passing(parts, day))
    return Rule(parts, zone, wall, start, _end(parts, zone), days, Clock(hours, minutes, seconds))


def _end(parts: Parts, zone: Zone) -> int | None:
    """Give the last instant that UNTIL allows; a date allows its whole day."""
    if parts.until is None:
        return None
    if parts.until.date:
        return zone.first(parts.until.wall + DAY) - 1
    return parts.until.instant(zone)


def _passing(parts: Parts, day: int) -> Filter:
    """Give the filter of days, with what DTSTART's day fills in (RFC 5545 3.3.10)."""
    months, monthdays, weekdays = parts.months, parts.monthdays, parts.weekdays
    _, month, number = civil(day)
    if not (parts.weeks or parts.yeardays or monthdays or weekdays):
        if parts.freq == "WEEKLY":
            weekdays = ((0, weekday(day)),)
        elif parts.freq in ("MONTHLY", "YEARLY"):
            monthdays = (number,)
            months = months if months or parts.freq == "MONTHLY" else (month,)
    elif parts.weeks and not (parts.yeardays or monthdays or weekdays):
        weekdays = ((0, weekday(day)),)
    ordinals = any(ordinal for ordinal, _ in weekdays)
    return Filter(
        months=months,
        weeks=parts.weeks,
        yeardays=parts.yeardays,
        monthdays=monthdays,
        weekdays=weekdays,
        monthly=ordinals and (parts.freq == "MONTHLY" or bool(months)),
        wkst=parts.wkst if parts.weeks or parts.freq == "WEEKLY" else 0,
    )
