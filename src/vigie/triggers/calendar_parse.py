"""Reads the words of a calendar expression.

The grammar is that of systemd.time(7), "CALENDAR EVENTS", as systemd 252 reads it::

    [WEEKDAYS] [[YEAR-]MONTH-DAY] [HOUR:MINUTE[:SECOND]] [ZONE]
    daily, hourly … [ZONE]
    @SECONDS

Blanks stand only between these words, so the text falls into words first, each
with its place. A word that begins with a letter is weekdays at the start and a
zone at the end; one with ``:`` is a time, another a date. Words fall into fields
and fields into parts, each with its place too: an error points at the very part.

What was read is kept in systemd's canonical form, so that two ways to write the
same thing are equal from here on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from vigie.errors import ExpressionError
from vigie.triggers.wall import SECOND

__all__ = [
    "DAYS",
    "FROM_END",
    "HOURS",
    "MINUTES",
    "MONTHS",
    "SECONDS",
    "YEARS",
    "Field",
    "Part",
    "Parts",
    "Written",
    "read",
]


class Part(NamedTuple):
    """A number; with ``step`` every so many numbers from ``start``, up to ``stop`` where there is one."""

    start: int
    stop: int | None = None
    step: int = 0

    def repeats(self, unit: int) -> bool:
        """Tell whether it has a step that must be written: a range by ones has none."""
        return self.step > 0 and (self.stop is None or self.step != unit)

    def order(self) -> tuple[int, int, int]:
        """Give the place among others in the canonical form."""
        return self.start, -1 if self.stop is None else self.stop, self.step


#: The parts of a field; None is ``*``.
Parts = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """What stands at one place of an expression; seconds count in µs (``unit``)."""

    name: str
    low: int
    high: int
    unit: int = 1

    def numbers(self, parts: Parts | None) -> tuple[int, ...]:
        """Give what the parts name, sorted.

        >>> HOURS.numbers((Part(20, step=2), Part(1, 3, 1)))
        (1, 2, 3, 20, 22)
        """
        if parts is None:
            return tuple(range(self.low, self.high + 1))
        return tuple(sorted({number for part in parts for number in self.range(part)}))

    def range(self, part: Part) -> range:
        """Give what one part names; days from the month's end go with the calendar, downwards."""
        if not part.step:
            return range(part.start, part.start + 1)
        if self is FROM_END:
            return range(part.stop or part.start, part.start - 1 if part.stop else 0, -part.step)
        return range(part.start, (self.high if part.stop is None else part.stop) + 1, part.step)

    def count(self, parts: Parts | None) -> int:
        """Count what the parts name, twice what two of them name; nothing is listed for it."""
        return self.high + 1 - self.low if parts is None else sum(len(self.range(part)) for part in parts)

    def bounds(self, between: str) -> str:
        """Give the least and the greatest number as people write them."""
        return f"{self.low}{between}{'59.999999' if self.unit > 1 else self.high}"


YEARS = Field("year", 1970, 2199)
MONTHS = Field("month", 1, 12)
DAYS = Field("day", 1, 31)
HOURS = Field("hour", 0, 23)
MINUTES = Field("minute", 0, 59)
SECONDS = Field("second", 0, 60 * SECOND - 1, SECOND)
#: Days counted from the month's end; a 29th last is not in each month.
FROM_END = Field("day from the month's end", 1, 28)

_LAST_SECOND = int(datetime(YEARS.high, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())

_ZERO = (Part(0),)
_EACH_SECOND = Part(0, step=SECOND)

#: What systemd.time(7) calls special expressions; the last but one is a slip of the pen that systemd takes too.
_NAMES = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
    "semiannually": "*-01,07-01 00:00:00",
    "semi-annually": "*-01,07-01 00:00:00",
    "biannually": "*-01,07-01 00:00:00",
    "bi-annually": "*-01,07-01 00:00:00",
    "annually": "*-01-01 00:00:00",
    "anually": "*-01-01 00:00:00",
    "yearly": "*-01-01 00:00:00",
}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKDAY = {name: number for number, full in enumerate(_WEEKDAYS) for name in (full, full[:3])}

_WORD = re.compile("[^ ]+")
_NUMBER = "([0-9]+(?:[.][0-9]+)?)"
_PART = re.compile(f"{_NUMBER}(?:[.][.]{_NUMBER})?(?:/{_NUMBER})?")
_EXPECTED = "a weekday as Mon, a date as *-*-01, a time as 08:00, or a name as daily"


@dataclass(frozen=True, slots=True)
class Written:
    """An expression as it was written, in canonical form.

    ``weekdays`` counts from Monday 0 and holds all seven where none is named;
    ``from_end`` says that ``days`` count from the month's end, ``epoch`` that the
    time is in UTC whatever the zone.
    """

    weekdays: tuple[int, ...] = tuple(range(7))
    years: Parts | None = None
    months: Parts | None = None
    days: Parts | None = None
    from_end: bool = False
    hours: Parts | None = _ZERO
    minutes: Parts | None = _ZERO
    seconds: Parts = _ZERO
    zone: str | None = None
    epoch: bool = False


class _Word(NamedTuple):
    """A piece of the text, and where it stands."""

    body: str
    at: int
    text: str

    def wrong(self, what: str, expected: str) -> ExpressionError:
        return ExpressionError(what, self.text, at=self.at, expected=expected)

    def split(self, separators: str) -> list[_Word]:
        """Cut at each of some characters."""
        found, at = [], 0
        for body in re.split(f"[{separators}]", self.body):
            found.append(_Word(body, self.at + at, self.text))
            at += len(body) + 1
        return found


def read(text: str) -> Written:
    """Read an expression.

    Raises
    ------
    ExpressionError
        Naming the field, its place and what could stand there.

    >>> read("Sat,Sun 0/6:30").weekdays, read("*-*~1").from_end
    ((5, 6), True)
    """
    words = _words(text, text)
    if not words:
        raise ExpressionError("the calendar expression is empty", text, at=0, expected=_EXPECTED)
    zone = words.pop().body if len(words) > 1 and _is_zone(words[-1].body) else None
    if len(words) == 1:
        words = _words(_NAMES.get(words[0].body.lower(), words[0].body), text, words[0].at)
    weekdays = _weekdays(words.pop(0)) if words[0].body[0].isalpha() else tuple(range(7))
    if words and words[0].body.startswith("@"):
        found = _epoch(words.pop(0), weekdays, zone)
    else:
        date = _date(words.pop(0)) if words and ":" not in words[0].body else (None, None, None, False)
        clock = _time(words.pop(0)) if words else (_ZERO, _ZERO, _ZERO)
        found = Written(weekdays, *date, *clock, zone)
    if words:
        raise words[0].wrong(f'"{words[0].body}" stands where the expression has ended', "a time zone, or nothing")
    return found


def _words(body: str, text: str, at: int = 0) -> list[_Word]:
    return [_Word(each.group(), at + each.start(), text) for each in _WORD.finditer(body)]


def _is_zone(word: str) -> bool:
    """Tell whether the last of several words is meant as a zone; weekdays belong elsewhere."""
    return word[0].isalpha() and re.split("[-.,]", word.lower())[0] not in _WEEKDAY


def _weekdays(word: _Word) -> tuple[int, ...]:
    """Read ``Mon..Wed,Fri``; a comma may end it."""
    found: set[int] = set()
    elements = word.split(",")
    if not elements[-1].body:
        elements.pop()
    for element in elements:
        names = re.split(r"\.\.|-", element.body.lower())
        expected = _EXPECTED if element is elements[0] else "a weekday as Mon"
        for name in names:
            if name not in _WEEKDAY:
                what = f'"{name}" is no weekday' if name else "a weekday is missing"
                raise element.wrong(what, expected)
        first, last = _WEEKDAY[names[0]], _WEEKDAY[names[-1]]
        if len(names) > 2:
            raise element.wrong(f"weekday range {element.body} has more than two ends", "a range as Mon..Fri")
        if last < first:
            raise element.wrong(
                f"weekday range {element.body} runs backwards", "weeks from Monday to Sunday: two ranges, or a list"
            )
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def _epoch(word: _Word, weekdays: tuple[int, ...], zone: str | None) -> Written:
    """Read ``@1395716396``: seconds since 1970, whatever the zone."""
    digits = word.body[1:]
    if not re.fullmatch("[0-9]+", digits):
        raise word.wrong(f'epoch seconds "{digits}" are no number', "@ and whole seconds since 1970, as @1395716396")
    if _whole(digits) > _LAST_SECOND:
        raise word.wrong(f"epoch seconds {digits} lie after the year {YEARS.high}", f"at most @{_LAST_SECOND}")
    at = datetime.fromtimestamp(_whole(digits), UTC)
    year, month, day, hour, minute = ((Part(number),) for number in at.timetuple()[:5])
    seconds = (Part(at.second * SECOND),)
    return Written(weekdays, year, month, day, False, hour, minute, seconds, zone, epoch=True)


def _date(word: _Word) -> tuple[Parts | None, Parts | None, Parts | None, bool]:
    """Read ``Y-M-D`` or ``M-D``; ``~`` before the day counts from the month's end."""
    fields = word.split("-~")
    if len(fields) == 1:
        raise word.wrong(f'"{word.body}" is neither a date nor a time', "a time as 07:00 or a date as *-*-07")
    if len(fields) > 3:
        raise fields[3].wrong("a date has three fields: year, month and day", "a blank or the end after the day")
    separators = [word.body[each.at - word.at - 1] for each in fields[1:]]
    if separators[:-1] == ["~"]:
        raise fields[1].wrong("~ stands between year and month", "- there: ~ stands before the day")
    years = _field(fields[0], YEARS) if len(fields) == 3 else None
    months = _field(fields[-2], MONTHS)
    from_end = separators[-1] == "~"
    days = _field(fields[-1], FROM_END if from_end else DAYS)
    return years, months, days, from_end and days is not None


def _time(word: _Word) -> tuple[Parts | None, Parts | None, Parts]:
    """Read ``H:M`` or ``H:M:S``."""
    fields = word.split(":")
    if len(fields) == 1:
        raise word.wrong(f'"{word.body}" is not a time', "a time as 07:00, or a time zone")
    if len(fields) > 3:
        raise fields[3].wrong("a time has three fields: hour, minute and second", "a blank or the end after the second")
    if "-" in fields[0].body or "~" in fields[0].body:
        raise fields[0].wrong(f'hour "{fields[0].body}" is not a number', "a blank between a date and a time")
    hours, minutes = _field(fields[0], HOURS), _field(fields[1], MINUTES)
    seconds = _field(fields[2], SECONDS) if len(fields) == 3 else _ZERO
    return hours, minutes, (_EACH_SECOND,) if seconds is None or _EACH_SECOND in seconds else seconds


def _field(word: _Word, field: Field) -> Parts | None:
    """Read ``*`` or a list of parts."""
    if word.body == "*":
        return None
    return tuple(sorted({_part(each, field) for each in word.split(",")}, key=Part.order))


def _part(word: _Word, field: Field) -> Part:
    """Read ``N``, ``N..N``, ``N/N`` or ``N..N/N``."""
    match = _PART.fullmatch(word.body)
    if match is None:
        expected = f"{field.bounds(' to ')}, a range a..b or a step a/b"
        if word.body.startswith("*/"):
            expected = f"{field.low}{word.body[1:]}: a step goes from a number on"
        elif "*" in word.body:
            expected += "; * stands alone"
        raise word.wrong(f'{field.name} "{word.body}" is not a number', expected)
    start, stop, step = (
        None if match.group(group) is None else _Word(match.group(group), word.at + match.start(group), word.text)
        for group in (1, 2, 3)
    )
    assert start is not None
    first = _inside(start, field)
    every = None if step is None else _number(step, field)
    if every == 0:
        raise word.wrong(f"{field.name} step in {word.body} is 0", "a step above 0")
    if stop is not None:
        return _range(word, field, first, _inside(stop, field), every)
    if every and not field.low <= (first - every if field is FROM_END else first + every) <= field.high:
        # A step that is never taken is a slip: systemd refuses it too.
        what = f"{field.name} step in {word.body} leaves {field.bounds('..')} at once"
        raise word.wrong(what, f"a smaller step, or {start.body} alone")
    return Part(first, None, every or 0)


def _range(word: _Word, field: Field, start: int, stop: int, step: int | None) -> Part:
    """Give a range, up to the last number that it meets."""
    if stop < start:
        raise word.wrong(f"{field.name} range {word.body} runs backwards", "the smaller number first")
    if step is None and field is SECONDS and stop - start < SECOND:
        raise word.wrong(f"second range {word.body} is shorter than a second", f"a step, as in {word.body}/0.1")
    step = step or field.unit
    stop -= (stop - start) % step
    return Part(start) if stop == start else Part(start, stop, step)


def _inside(word: _Word, field: Field) -> int:
    """Read a number that the field can show; years of two digits are those from 1970 to 2069."""
    found = _number(word, field)
    if field is YEARS and found < 100:
        found += 1900 if found >= 70 else 2000
    if not field.low <= found <= field.high:
        raise word.wrong(f"{field.name} {word.body} is not in {field.bounds('..')}", field.bounds(" to "))
    return found


def _number(word: _Word, field: Field) -> int:
    """Read a number; of seconds in µs, the seventh digit rounded."""
    whole, point, digits = word.body.partition(".")
    if field is SECONDS:
        return _whole(whole) * SECOND + int(digits[:6].ljust(6, "0")) + (digits[6:7] >= "5")
    if point:
        raise word.wrong(f"{field.name} {word.body} is not a whole number", "digits alone: only seconds have fractions")
    return _whole(whole)


def _whole(digits: str) -> int:
    """Give a number. One of very many digits is out of any range, and costly to read: its first ones do."""
    return int(digits.lstrip("0")[:18] or "0")
