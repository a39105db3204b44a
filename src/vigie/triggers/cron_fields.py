"""The fields of a cron line, each read for itself.

A field is a list of items, and an item is a range with a step: ``*``, ``5``,
``10-50/5``, ``mon-fri``. The two day fields know more (``L``, ``15W``, ``5#2``):
which days those are depends on the month, and on a month only its length and
the weekday on which it begins matter. So a line has at most 28 kinds of month,
and what :meth:`Days.of` found for one holds for every month of that kind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

__all__ = [
    "DATE",
    "HOUR",
    "MINUTE",
    "MONTH",
    "SECOND",
    "WEEKDAY",
    "YEAR",
    "Days",
    "Field",
    "Values",
    "Wrong",
    "days",
    "lengths",
    "read",
]


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A field: its name, its lowest and highest number, and the names of its numbers from the lowest on."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


SECOND = Field("second", 0, 59)
MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DATE = Field("day-of-month", 1, 31)
MONTH = Field("month", 1, 12, tuple(
    "january february march april may june july august september october november december".split()
))  # fmt: skip
WEEKDAY = Field("day-of-week", 0, 7, tuple("sunday monday tuesday wednesday thursday friday saturday".split()))
YEAR = Field("year", 1970, 9999)

_LENGTHS = ((31,), (28, 29), (31,), (30,), (31,), (30,), (31,), (31,), (30,), (31,), (30,), (31,))
_DATES = re.compile(r"l(?:-(\d+))?(w?)|(\d+)w", re.ASCII)
_NTH = re.compile(r"(.+?)(?:#(\d+|l)|l)", re.ASCII)
_HASHED = re.compile(r"h(?:\((\d+)-(\d+)\))?", re.ASCII)


class Wrong(Exception):
    """A field cannot be read: what is wrong, where in the field, and what could stand there."""

    def __init__(self, what: str, at: int, expected: str) -> None:
        super().__init__(what)
        self.what = what
        self.at = at
        self.expected = expected


class Values(NamedTuple):
    """What a field says.

    ``numbers`` are those of the field. Of days of the month, 0 is the last, -1 the
    one before, and ``near`` are those that stand for the nearest working day. Of
    weekdays Sunday is 0, and ``nth`` holds the second Monday as (1, 2), the last as (1, 0).
    """

    numbers: frozenset[int]
    near: frozenset[int] = frozenset()
    nth: frozenset[tuple[int, int]] = frozenset()
    starred: bool = False
    repeats: bool = False
    joined: bool = False

    def ordered(self) -> tuple[int, ...]:
        """Give the numbers in order."""
        return tuple(sorted(self.numbers))


@lru_cache(maxsize=4096)
def read(which: Field, text: str, seed: str | None = None) -> Values:
    """Read a field.

    Raises
    ------
    Wrong
        When it cannot be read.

    >>> read(MINUTE, "5/15,50-52").ordered()
    (5, 20, 35, 50, 51, 52)
    """
    joined = which is WEEKDAY and text.startswith("+")
    numbers: set[int] = set()
    near: set[int] = set()
    nth: set[tuple[int, int]] = set()
    at = int(joined)
    for item in text[at:].split(","):
        reader = _Item(which, item, at, seed)
        if not (reader.dates(numbers, near) or reader.nth(nth)):
            numbers.update(reader.numbers())
        at += len(item) + 1
    if which is WEEKDAY:
        numbers = {number % 7 for number in numbers}
    repeats = any(mark in text for mark in "*?/")
    return Values(frozenset(numbers), frozenset(near), frozenset(nth), text[:1] in ("*", "?"), repeats, joined)


@dataclass(slots=True)
class _Item:
    """One item of a field's list, which begins at ``at`` in the field."""

    which: Field
    text: str
    at: int
    seed: str | None

    def dates(self, numbers: set[int], near: set[int]) -> bool:
        """Add what only days of the month have: ``L``, ``L-3``, ``LW``, ``L-3W`` and ``15W``."""
        found = self._special(DATE, _DATES)
        if not found:
            return False
        back, working, day = found.groups()
        if day:
            near.add(self._value(day, self.at))
        elif back and self._count(back) > 30:
            raise self._wrong(f"{self.which.name} L-{back} is before each month", 2, "L-1 to L-30")
        else:
            (near if working else numbers).add(-self._count(back or "0"))
        return True

    def nth(self, nth: set[tuple[int, int]]) -> bool:
        """Add what only weekdays have: ``5#2``, ``FRI#L``, ``5L``, also of a range."""
        found = self._special(WEEKDAY, _NTH)
        if not found:
            return False
        count = 0 if found[2] in (None, "l") else self._count(found[2])
        if found[2] not in (None, "l") and not 1 <= count <= 5:
            raise self._wrong(f"{self.which.name} {self.text}: no month has that", found.start(2), "1 to 5, or L")
        low, high = self._range(self.text[: found.end(1)])
        nth.update((day % 7, count) for day in range(low, high + 1))
        return True

    def _special(self, which: Field, form: re.Pattern[str]) -> re.Match[str] | None:
        """Match what only one field has; a step would mean nothing there."""
        body, slash, _ = self.text.partition("/")
        found = form.fullmatch(body.lower()) if self.which is which else None
        if found and slash:
            raise self._wrong(f"{which.name} {body} takes no step", len(body), f"{body} alone")
        return found

    def numbers(self) -> range:
        """Give the numbers of a range with a step."""
        body, slash, written = self.text.partition("/")
        step = self._count(written)
        if slash and step < 1:
            what = f"step {written} is not a number from 1 on" if written else "has no step after /"
            raise self._wrong(f"{self.which.name} {what}", len(body) + 1, f"a step as in {body or '*'}/2")
        if (found := _HASHED.fullmatch(body.lower())) and self.which is not YEAR:
            return self._hashed(found, step)
        low, high = self._range(body)
        if slash and "-" not in body:
            high = self.which.high
        return range(low, high + 1, step if slash else 1)

    def _range(self, text: str, at: int = 0) -> tuple[int, int]:
        if text in ("*", "?"):
            return self.which.low, self.which.high
        start, dash, end = text.partition("-")
        low = self._value(start, self.at + at)
        if not dash:
            return low, low
        last = self.which is DATE and end.lower() == "l"
        high = self.which.high if last else self._value(end, self.at + at + len(start) + 1)
        if self.which is WEEKDAY:
            # Sunday is 0 and 7: a range takes the one that lets it run forwards.
            low, high = (0 if low == 7 > high > 0 else low), (7 if high == 0 < low else high)
        if high < low:
            names = [name[:3] for name in self.which.names] if start.isalpha() else [self.which.low, self.which.high]
            instead = f"{end}-{start}, or {start}-{names[-1]},{names[0]}-{end}"
            raise self._wrong(f"{self.which.name} range {text} runs backwards", at, instead)
        return low, high

    def _value(self, text: str, at: int) -> int:
        """Read a number or a name."""
        if text.isascii() and text.isdigit():
            number = self._count(text)
            if self.which.low <= number <= self.which.high:
                return number
            what = f"{self.which.name} {text} is not in {self.which.low}..{self.which.high}"
            raise Wrong(what, at, self._expected())
        if len(text) >= 3 and text.isalpha():
            for number, name in enumerate(self.which.names, self.which.low):
                if name.startswith(text.lower()):
                    return number
        kind = "a number or a name" if self.which.names else "a number"
        what = f'{self.which.name} "{text}" is not {kind}' if text else f"{self.which.name} lacks {kind}"
        raise Wrong(what, at, self._expected())

    def _count(self, text: str) -> int:
        """Read a number that is no value of the field; what is none, or too long to be meant, is -1."""
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1

    def _hashed(self, found: re.Match[str], step: int) -> range:
        """Give ``H``: one number, or the first of a step, that depends on the seed alone."""
        if self.seed is None:
            raise self._wrong(f"{self.which.name} H has no name to be spread by", 0, self._expected())
        low, high = self.which.low, {DATE: 28, WEEKDAY: 6}.get(self.which, self.which.high)
        if found[1]:
            low, high = self._range(f"{found[1]}-{found[2]}", found.start(1))
        from vigie.digests import blake2b

        digest = blake2b(f"{self.which.name} {self.seed}".encode(errors="replace"), digest_size=8).digest()
        spread = int.from_bytes(digest, "big")
        if step < 1:
            low += spread % (high - low + 1)
            return range(low, low + 1)
        return range(low + spread % min(step, high - low + 1), high + 1, step)

    def _wrong(self, what: str, at: int, expected: str) -> Wrong:
        return Wrong(what, self.at + at, expected)

    def _expected(self) -> str:
        low, high, names = self.which.low, self.which.high, self.which.names
        named = f" or {names[0][:3]} to {names[-1][:3]}" if names else ""
        special = {DATE: ", L (the last), LW or 15W", WEEKDAY: ", fri#2 or fri#L (the last)"}.get(self.which, "")
        return f"{low} to {high}{named}, *, a range, or a step as */2{special}"


@dataclass(frozen=True, slots=True)
class Days:
    """Days of a month: by their numbers and by their weekdays, where either is enough or both must be."""

    dates: Values
    weekdays: Values
    both: bool
    _kept: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)

    def of(self, first: int, length: int) -> tuple[int, ...]:
        """Give the days, counted from 0, of a month with ``length`` days that begins on ``first`` (Monday is 0).

        >>> days(read(DATE, "13"), read(WEEKDAY, "+fri")).of(5, 31)
        ()
        >>> days(read(DATE, "LW"), read(WEEKDAY, "*")).of(5, 31)
        (30,)
        """
        found = self._kept.get((first, length))
        if found is None:
            dates = {day if day > 0 else length + day for day in self.dates.numbers}
            dates.update(_working(day if day > 0 else length + day, first, length) for day in self.dates.near)
            found = self._kept[first, length] = tuple(
                day - 1
                for day in range(1, length + 1)
                if (day in dates and self._on(day, first, length) if self.both
                    else day in dates or self._on(day, first, length))
            )  # fmt: skip
        return found

    def _on(self, day: int, first: int, length: int) -> bool:
        """Tell whether a day has the right weekday."""
        weekday = (first + day) % 7
        nth = self.weekdays.nth
        return weekday in self.weekdays.numbers or bool(
            nth and ((weekday, (day + 6) // 7) in nth or (day + 7 > length and (weekday, 0) in nth))
        )


@lru_cache(maxsize=1024)
def days(dates: Values, weekdays: Values) -> Days:
    """Put the two day fields together.

    In Debian's cron both must match if one of them begins with ``*``, else one is
    enough (crontab(5)); ``+`` before the weekdays says that both must.
    """
    return Days(dates, weekdays, dates.starred or weekdays.starred or weekdays.joined)


def lengths(month: int) -> tuple[int, ...]:
    """Give the lengths that a month (1 to 12) can have, in days; that of a leap year last."""
    return _LENGTHS[month - 1]


def _working(day: int, first: int, length: int) -> int:
    """Give the working day nearest to a day, in the same month; 0 if the month has no such day."""
    if not 1 <= day <= length:
        return 0
    weekday = (first + day - 1) % 7
    if weekday == 5:
        return day - 1 if day > 1 else day + 2
    if weekday == 6:
        return day + 1 if day < length else day - 2
    return day
