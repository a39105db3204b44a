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

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo

__all__ = ["DAY", "HOUR", "LAST_DAY", "MINUTE", "SECOND", "Clock", "Zone", "civil", "day_number", "walk", "weekday"]

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = date(1970, 1, 1).toordinal()
#: Days a zone looks up together, and how far apart it looks (no zone was ever set forth and back within that).
_BLOCK = 32
_LOOK = DAY // 2
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


@dataclass(frozen=True, slots=True)
class _Stretch:
    """From one setting of the clocks to the next: instants from ``start`` up to ``end``, all with one offset."""

    start: int
    end: int
    offset: int


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
    _blocks: dict[int, list[_Stretch]] = field(default_factory=dict, repr=False, compare=False)

    def offset(self, instant: int) -> int:
        """Give the offset from UTC at an instant, in µs east."""
        stretches = self._block(instant // (_BLOCK * DAY))
        if len(stretches) == 1:
            return stretches[0].offset
        return stretches[bisect_right(stretches, instant, key=lambda each: each.start) - 1].offset

    def wall(self, instant: int) -> int:
        """Give what clocks on the wall show at an instant."""
        return instant + self.offset(instant)

    def plain(self, day: int) -> int | None:
        """Give the offset of a day on which no clock is set; None for another."""
        start, end = day * DAY, (day + 1) * DAY
        near = self._near(start, end)
        if len(near) == 1:
            return near[0].offset
        touched = [each for each in near if each.start + each.offset < end and each.end + each.offset > start]
        if (
            len(touched) != 1
            or touched[0].start + touched[0].offset > start
            or touched[0].end + touched[0].offset < end
        ):
            return None
        return touched[0].offset

    def instants(self, wall: int) -> list[int]:
        """Give the instants at which the wall shows a time: one, none in a gap, two in an overlap."""
        near = self._near(wall, wall + 1)
        return [wall - each.offset for each in near if each.start <= wall - each.offset < each.end]

    def first(self, wall: int) -> int:
        """Give the instant of a point in time: the first if there are two, the first after the gap if there is none."""
        found = self.instants(wall)
        if found:
            return found[0]
        # In a gap: the setting of the clocks that jumps over it.
        return next(
            each.end for each in self._near(wall, wall + 1) if each.end + each.offset <= wall < self.wall(each.end)
        )

    def _near(self, start: int, end: int) -> list[_Stretch]:
        """Give the stretches in which wall times from ``start`` to ``end`` can lie: offsets are under a day."""
        low, high = (start - DAY) // (_BLOCK * DAY), (end + DAY) // (_BLOCK * DAY)
        if low == high:
            return self._block(low)
        found: list[_Stretch] = []
        for number in range(low, high + 1):
            for each in self._block(number):
                if found and found[-1].offset == each.offset:
                    found[-1] = _Stretch(found[-1].start, each.end, each.offset)
                else:
                    found.append(each)
        return found

    def _block(self, number: int) -> list[_Stretch]:
        found = self._blocks.get(number)
        if found is None:
            if len(self._blocks) > 4_000:
                self._blocks.clear()
            found = self._blocks[number] = self._look_up(number)
        return found

    def _look_up(self, number: int) -> list[_Stretch]:
        """Find where the offset changes in a block of days."""
        start = number * _BLOCK * DAY
        end = start + _BLOCK * DAY
        found: list[_Stretch] = []
        since, offset = start, self._ask(start)
        at = start
        while at < end:
            after = at + _LOOK
            now = self._ask(after) if after < end else self._ask(end - SECOND)
            if now != offset:
                low, high = at, min(after, end - SECOND)
                while high - low > SECOND:
                    middle = (low + high) // (2 * SECOND) * SECOND
                    low, high = (middle, high) if self._ask(middle) == offset else (low, middle)
                found.append(_Stretch(since, high, offset))
                since, offset = high, now
            at = after
        found.append(_Stretch(since, end, offset))
        return found

    def _ask(self, instant: int) -> int:
        """Ask the zone's rules. Beyond the calendar's ends the nearest year's rule holds."""
        seconds = min(max(instant // SECOND, -62_135_000_000), 253_402_000_000)
        found = (_GREENWICH + timedelta(seconds=seconds)).astimezone(self.rules).utcoffset()
        assert found is not None
        return found // _MICROSECOND


_GREENWICH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


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
        hour, rest = divmod(max(first, 0), HOUR)
        minute, second = divmod(rest, MINUTE)
        for h in self.hours[bisect_left(self.hours, hour) :]:
            minutes = self.minutes[bisect_left(self.minutes, minute) :] if h == hour else self.minutes
            for m in minutes:
                base = h * HOUR + m * MINUTE
                if h == hour and m == minute:
                    for s in self.seconds[bisect_left(self.seconds, second) :]:
                        yield base + s
                else:
                    for s in self.seconds:
                        yield base + s


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
    for day in days:
        offset = zone.plain(day)
        if odd and (offset is not None or day != odd[-1] + 1):
            for instant in _odd(odd, clock, zone, fixed=fixed):
                if instant > last:
                    yield instant
                    last = instant
            odd = []
        if offset is None:
            odd.append(day)
            continue
        base = day * DAY - offset
        if base + DAY <= last:
            continue
        if base <= last:
            for time in clock.times(last + 1 - base):
                yield base + time
                last = base + time
        else:
            time = -1
            for time in clock.times():
                yield base + time
            last = base + time if time >= 0 else last
    for instant in _odd(odd, clock, zone, fixed=fixed):
        if instant > last:
            yield instant
            last = instant


def _odd(days: list[int], clock: Clock, zone: Zone, *, fixed: bool) -> list[int]:
    """Give the instants of adjacent days on which clocks are set: an overlap may reach from one into the other."""
    walls = (day * DAY + time for day in days for time in clock.times())
    if fixed:
        return sorted({zone.first(wall) for wall in walls})
    return sorted(instant for wall in walls for instant in zone.instants(wall))
