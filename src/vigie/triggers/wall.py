"""What clocks on the wall show, and when.

An instant is a whole number of µs UTC. A wall time is the same number for what a
clock on the wall shows, as if it stood in Greenwich; a day is the number of days
from 1970-01-01 on that wall. Most days are plain: one offset from midnight to
midnight, so that an addition turns a wall time into its instant. The others, on
which clocks are set, follow one of two rules:

* ``fixed`` (a point in time: "at 02:30"): each wall time gives one instant. One
  that does not exist gives the first instant after the gap, one that exists
  twice the first of the two.
* ``elapsed`` (wildcards and steps: "each minute"): each instant at which the wall
  shows such a time, which is none in a gap and both in an overlap.

Offsets are looked up in blocks of days and kept: what an expression asks next is
nearly always near to what it asked before.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from typing import NamedTuple

__all__ = ["DAY", "HOUR", "LAST_DAY", "MINUTE", "SECOND", "Clock", "Zone", "civil", "day_number", "walk", "weekday"]

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = date(1970, 1, 1).toordinal()
#: How far apart a zone looks: no clocks were ever set twice within that. (4 days apart: Freetown, September 1939.)
_LOOK = 3 * DAY
#: Days it looks up together, with one before (offsets are under a day) and two after (clocks may be set back over
#: midnight, so that two days hang together): four looks.
_BLOCK = 9
#: Blocks a zone keeps: a century.
_KEPT = 4_096
#: Calendars end with the year 9999; a day is kept free for offsets.
LAST_DAY = date(9999, 12, 30).toordinal() - _EPOCH


def day_number(year: int, month: int, day: int) -> int:
    """Give the number of a date, counted from 1970-01-01.

    >>> day_number(1970, 1, 1), day_number(2026, 3, 1)
    (0, 20513)
    """
    return date(year, month, day).toordinal() - _EPOCH


def civil(day: int) -> tuple[int, int, int]:
    """Give year, month and day of a day's number.

    >>> civil(20513)
    (2026, 3, 1)
    """
    found = date.fromordinal(day + _EPOCH)
    return found.year, found.month, found.day


def weekday(day: int) -> int:
    """Give the day of the week, Monday 0 to Sunday 6.

    >>> weekday(0)
    3
    """
    return (day + 3) % 7


class _Stretch(NamedTuple):
    """From one setting of the clocks to the next: instants from ``start`` up to ``end``, all with one offset."""

    start: int
    end: int
    offset: int


class _Block(NamedTuple):
    """Some days: the stretches in which they can lie, and those days that are plain, as (first, end, offset)."""

    stretches: Sequence[_Stretch]
    plain: Sequence[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Zone:
    """A time zone: its name as people write it, and its rules.

    >>> from zoneinfo import ZoneInfo
    >>> paris = Zone("Europe/Paris", ZoneInfo("Europe/Paris"))
    >>> paris.wall(0) // HOUR, paris.first(day_number(2026, 7, 1) * DAY) // HOUR % 24
    (1, 22)
    """

    name: str
    rules: tzinfo = field(repr=False, compare=False)
    _blocks: dict[int, _Block] = field(default_factory=dict, repr=False, compare=False)

    def offset(self, instant: int) -> int:
        """Give the offset from UTC at an instant, in µs east."""
        return next(each.offset for each in self._block(instant // DAY).stretches if instant < each.end)

    def wall(self, instant: int) -> int:
        """Give what clocks on the wall show at an instant."""
        return instant + self.offset(instant)

    def plain(self, day: int) -> int | None:
        """Give the offset of a day on which no clock is set; None for another."""
        return self.span(day)[2]

    def span(self, day: int) -> tuple[int, int, int | None]:
        """Give a day among its neighbours: from the first up to the end all days are plain with this offset.

        The offset is None, and the day alone, if clocks are set on it.
        """
        for found in self._block(day).plain:
            if found[0] <= day < found[1]:
                return found
        return day, day + 1, None

    def instants(self, wall: int) -> list[int]:
        """Give the instants at which the wall shows a time: one, none in a gap, two in an overlap."""
        return [wall - each.offset for each in self._near(wall) if each.start <= wall - each.offset < each.end]

    def first(self, wall: int) -> int:
        """Give the instant of a point in time: the first if there are two, the first after the gap if there is none."""
        # What ends after it is the stretch that shows it, or the one that begins where the gap ends.
        return next(max(wall - each.offset, each.start) for each in self._near(wall) if wall < each.end + each.offset)

    def _near(self, wall: int) -> Sequence[_Stretch]:
        """Give the stretches around a wall time, in order: all that a day before or after it can lie in."""
        return self._block(wall // DAY).stretches

    def _block(self, day: int) -> _Block:
        number = day // _BLOCK
        found = self._blocks.get(number)
        if found is None:
            if len(self._blocks) >= _KEPT:
                self._blocks.clear()
            first, end = number * _BLOCK, (number + 1) * _BLOCK
            stretches = self._look_up((first - 1) * DAY, (end + 2) * DAY)
            found = self._blocks[number] = _Block(stretches, _plain(stretches, first, end))
        return found

    def _look_up(self, start: int, end: int) -> list[_Stretch]:
        """Find where the offset changes."""
        found: list[_Stretch] = []
        since, offset = start, self._ask(start)
        for at in range(start, end, _LOOK):
            now = self._ask(at + _LOOK)
            if now != offset:
                low, high = at, at + _LOOK
                while high - low > SECOND:
                    middle = (low + high) // (2 * SECOND) * SECOND
                    low, high = (middle, high) if self._ask(middle) == offset else (low, middle)
                found.append(_Stretch(since, high, offset))
                since, offset = high, now
        found.append(_Stretch(since, end, offset))
        return found

    def _ask(self, instant: int) -> int:
        """Ask the zone's rules. Beyond the calendar's ends the nearest year's rule holds."""
        seconds = min(max(instant // SECOND, -62_135_000_000), 253_402_000_000)
        found = datetime.fromtimestamp(seconds, self.rules).utcoffset()
        assert found is not None
        return (found.days * 86_400 + found.seconds) * SECOND + found.microseconds


def _plain(stretches: Sequence[_Stretch], first: int, end: int) -> list[tuple[int, int, int]]:
    """Give the days that lie in one stretch alone, from its beginning to its end."""
    found: list[tuple[int, int, int]] = []
    for at, each in enumerate(stretches):
        low, high = first, end
        if at > 0:
            low = max(low, -(-(each.start + max(each.offset, stretches[at - 1].offset)) // DAY))
        if at + 1 < len(stretches):
            high = min(high, (each.end + min(each.offset, stretches[at + 1].offset)) // DAY)
        if low < high:
            found.append((low, high, each.offset))
    return found


@dataclass(frozen=True, slots=True)
class Clock:
    """Times of a day: each hour with each minute with each second (sorted; ``seconds`` in µs, below a minute).

    >>> [time // MINUTE for time in Clock((2, 22), (0, 30), (0,)).times()]
    [120, 150, 1320, 1350]
    """

    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...] | range = (0,)

    def times(self, first: int = 0) -> Iterator[int]:
        """Give the times from ``first`` (µs from midnight) on, in order."""
        for hour in self.hours:
            if (hour + 1) * HOUR <= first:
                continue
            for minute in self.minutes:
                base = hour * HOUR + minute * MINUTE
                if base >= first:
                    for second in self.seconds:
                        yield base + second
                elif base + MINUTE > first:
                    for second in self.seconds[bisect_left(self.seconds, first - base) :]:
                        yield base + second


def walk(days: Iterable[int], clock: Clock, zone: Zone, after: int, *, fixed: bool) -> Iterator[int]:
    """Give the instants later than ``after`` at which the wall shows a time of ``clock`` on one of ``days``.

    Parameters
    ----------
    days:
        Numbers of days, ascending; they may begin a day or more too early, and
        must begin at the latest the day before ``after`` on the wall.
    after:
        An instant in µs; each instant given is later than it and than the one before.
    fixed:
        Which of the two rules holds on days on which clocks are set.
    """
    last = after
    odd: list[int] = []
    first = end = 0
    offset: int | None = None
    for day in days:
        if not first <= day < end:
            first, end, offset = zone.span(day)
            if odd and (offset is not None or day != odd[-1] + 1):
                for instant in _odd(odd, clock, zone, last, fixed=fixed):
                    yield instant
                    last = instant
                odd = []
        if offset is None:
            odd.append(day)
            continue
        base = day * DAY - offset
        if base + DAY > last:
            for time in clock.times(last + 1 - base):
                yield base + time
    if odd:
        yield from _odd(odd, clock, zone, last, fixed=fixed)


def _odd(days: Sequence[int], clock: Clock, zone: Zone, after: int, *, fixed: bool) -> Iterator[int]:
    """Give the instants of adjacent days on which clocks are set: an overlap may reach from one into the other."""
    stretches = zone._near(days[0] * DAY)
    shown = stretches[0].start + stretches[0].offset
    for start, end, offset in stretches:
        low, high = start + offset, end + offset
        if fixed:
            # Of what the wall never shows: the first instant after the gap. Of what it shows twice: the first.
            if shown < low and next(_walls(days, clock, shown, low), None) is not None:
                if start > after:
                    yield start
                low += 1
            low, shown = max(low, shown), max(high, shown)
        for wall in _walls(days, clock, max(low, after + 1 + offset), high):
            yield wall - offset


def _walls(days: Sequence[int], clock: Clock, low: int, high: int) -> Iterator[int]:
    """Give the times of some days that lie from ``low`` up to ``high`` on the wall."""
    for day in days:
        for time in clock.times(low - day * DAY):
            if day * DAY + time >= high:
                return
            yield day * DAY + time
