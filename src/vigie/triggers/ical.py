"""What RFC 5545 is written in: content lines, dates, times and lengths.

A content line is ``NAME;PARAMETER=value:VALUE`` (RFC 5545 3.1). Recurrence rules
typed by people and calendars read from files are both made of them; what differs
is how an error says where: by the character of an expression, or by the line of a
file. A :class:`Line` knows which, so that whatever reads its value need not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from vigie.errors import ExpressionError, UsageError
from vigie.triggers.wall import DAY, HOUR, MINUTE, SECOND, Zone, day_number

__all__ = ["Line", "Moment", "Span", "read_duration", "read_moment", "read_moments", "read_spans", "split_line", "utc"]

_NAME = re.compile(r"[A-Za-z0-9-]+")
_PARAMETER = re.compile(r';([A-Za-z0-9-]+)=((?:"[^"]*"|[^";:])*)')
_DIGITS = frozenset("0123456789")
_MOMENT = "a date as 20261224, or a time as 20261224T180000 (Z at its end for UTC)"
_DURATION = "a length as P1D, PT1H30M or P2W"
#: Longer than this is a slip of the pen, and would leave the calendar.
_LONGEST_DAYS = 366_000


@dataclass(frozen=True, slots=True)
class Line:
    """One content line, unfolded.

    Parameters
    ----------
    name:
        Of the property, in capitals.
    params:
        Its parameters: names in capitals, values without quotes.
    value:
        What stands after the colon, without spaces around it.
    text:
        The whole expression, for errors; None where the line is one of a file.
    where:
        The place of each character of ``value`` in ``text``, and of its end.
    number:
        The line's number in its file, from 1.
    """

    name: str
    params: dict[str, str]
    value: str
    text: str | None = None
    where: Sequence[int] = field(default=(), repr=False)
    number: int = 0

    def wrong(self, what: str, at: int = 0, expected: str | None = None) -> ExpressionError:
        """Make the error that says what is wrong at a character of the value."""
        if self.text is None:
            return ExpressionError(f"line {self.number}: {what}", expected=expected)
        return ExpressionError(what, self.text, at=self.where[min(at, len(self.where) - 1)], expected=expected)


@dataclass(frozen=True, slots=True)
class Moment:
    """A date or a time as it was written: on the wall of a zone.

    ``date`` says that it is a day, whose ``wall`` is its midnight. ``zone`` is None
    where the text names none: whoever uses it says whose wall is meant.
    """

    wall: int
    zone: Zone | None = None
    date: bool = False

    def instant(self, zone: Zone) -> int:
        """Give the instant; ``zone`` holds where the text named none."""
        return (self.zone or zone).first(self.wall)


@dataclass(frozen=True, slots=True)
class Span:
    """How long something lasts: whole days on the wall, then elapsed µs (RFC 5545 3.3.6).

    ``date`` says that it begins with a day, whose midnight clocks may skip, and so ends
    with one.
    """

    days: int = 0
    exact: int = 0
    date: bool = False

    def end(self, start: int, zone: Zone) -> int:
        """Give the instant at which what starts at ``start`` ends."""
        if not self.days:
            return start + self.exact
        wall = zone.wall(start)
        return zone.first((wall // DAY * DAY if self.date else wall) + self.days * DAY) + self.exact


def utc() -> Zone:
    """Give the zone of times that end in Z."""
    from datetime import UTC

    return Zone("UTC", UTC)


def split_line(raw: str) -> tuple[str, dict[str, str], int] | str:
    """Split a content line: its name, its parameters and where its value begins, or what is wrong with it.

    >>> split_line('DTSTART;TZID="Europe/Paris":20260101T080000')
    ('DTSTART', {'TZID': 'Europe/Paris'}, 28)
    """
    found = _NAME.match(raw)
    if found is None or raw[found.end() : found.end() + 1] not in (":", ";"):
        return "a property's name followed by a colon was expected"
    name, params, end = found.group().upper(), {}, found.end()
    while raw[end : end + 1] == ";":
        found = _PARAMETER.match(raw, end)
        if found is None:
            return f"a parameter of {name} is not written as NAME=value"
        params[found[1].upper()] = found[2].replace('"', "")
        end = found.end()
    if raw[end : end + 1] != ":":
        return f"{name} has no value"
    return name, params, end + 1


def read_moment(
    line: Line, zones: Callable[[str], Zone] | None, word: str | None = None, at: int = 0, *, zone: Zone | None = None
) -> Moment:
    """Read a date or a time (RFC 5545 3.3.4, 3.3.5); a second 60 is read as 59.

    Parameters
    ----------
    line:
        The line it stands in; its TZID and VALUE hold for it.
    zones:
        Gives the zone of a name.
    word, at:
        What to read and where in the line's value; default all of it.
    zone:
        The zone of times that name none, instead of None.
    """
    word = line.value if word is None else word
    kind = line.params.get("VALUE", "").upper()
    body, is_utc = (word[:-1], True) if word[-1:] in ("Z", "z") else (word, False)
    date, separator, clock = body.partition("T" if "T" in body else "t")
    shape = (len(date), len(clock)) in ((8, 6), (8, 0)) and bool(separator) == bool(clock) and (clock or not is_utc)
    if not shape or not _DIGITS.issuperset(date + clock):
        raise line.wrong(f"{line.name} {word!r} is not a date or a time", at, _MOMENT)
    if (kind == "DATE" and clock) or (kind == "DATE-TIME" and not clock):
        raise line.wrong(f"{line.name} says VALUE={kind}, and {word!r} is none", at, _MOMENT)
    try:
        day = day_number(int(date[:4]), int(date[4:6]), int(date[6:]))
    except ValueError:
        raise line.wrong(f"{line.name}: there is no day {date}", at, _MOMENT) from None
    if not clock:
        return Moment(day * DAY, date=True, zone=zone)
    hour, minute, second = int(clock[:2]), int(clock[2:4]), int(clock[4:])
    if hour > 23 or minute > 59 or second > 60:
        raise line.wrong(f"{line.name}: there is no time {clock}", at + 9, "a time from 000000 to 235959")
    wall = day * DAY + hour * HOUR + minute * MINUTE + min(second, 59) * SECOND
    return Moment(wall, utc() if is_utc else _zone(line, zones) or zone)


def _zone(line: Line, zones: Callable[[str], Zone] | None) -> Zone | None:
    """Give the zone that a line names."""
    name = line.params.get("TZID")
    if name is None:
        return None
    try:
        if zones is not None:
            return zones(name)
    except UsageError as error:
        expected = error.expected if isinstance(error, ExpressionError) else error.hint
        raise line.wrong(f"{line.name}: {error.message}", 0, expected) from None
    raise line.wrong(f"{line.name} names the zone {name!r}, and no zones are known here")


def _words(value: str) -> Iterator[tuple[str, int]]:
    """Split a list at its commas, and say where each word begins."""
    at = 0
    for word in value.split(","):
        yield word, at
        at += len(word) + 1


def read_moments(line: Line, zones: Callable[[str], Zone] | None) -> list[Moment]:
    """Read a list of dates or times, as of EXDATE."""
    return [read_moment(line, zones, word, at) for word, at in _words(line.value)]


def read_spans(line: Line, zones: Callable[[str], Zone] | None, zone: Zone) -> list[tuple[Moment, Span | None]]:
    """Read a list of dates, times or periods, as of RDATE (RFC 5545 3.8.5.2); a period brings its own length."""
    if line.params.get("VALUE", "").upper() != "PERIOD":
        return [(each, None) for each in read_moments(line, zones)]
    bare = Line(line.name, {**line.params, "VALUE": "DATE-TIME"}, line.value, line.text, line.where, line.number)
    found: list[tuple[Moment, Span | None]] = []
    for word, at in _words(line.value):
        first, slash, second = word.partition("/")
        start = read_moment(bare, zones, first, at)
        after = at + len(first) + 1
        if not slash:
            raise line.wrong(f"{line.name} {word!r} is not a period", at, "a start, a slash and an end or a length")
        if second[:1] in "Pp+-":
            span = read_duration(line, second, after)
        else:
            end = read_moment(bare, zones, second, after)
            span = Span(exact=end.instant(zone) - start.instant(zone))
        if span.days * DAY + span.exact <= 0:
            raise line.wrong(f"{line.name}: the period {word} ends before it starts", at)
        found.append((start, span))
    return found


def read_duration(line: Line, word: str | None = None, at: int = 0) -> Span:
    """Read a length (RFC 5545 3.3.6): weeks and days count on the wall, hours and less as they pass."""
    word = line.value if word is None else word
    body = word.upper().removeprefix("+")
    wrong = line.wrong(f"{line.name} {word!r} is not a length", at, _DURATION)
    if not body.startswith("P") or len(body) < 3:
        raise wrong
    days = exact = 0
    date, separator, clock = body[1:].partition("T")
    if separator and not clock:
        raise wrong
    for rest, letters in ((date, "WD"), (clock, "HMS")):
        while rest:
            end = next((i for i, c in enumerate(rest) if c not in _DIGITS), 0)
            place = letters.find(rest[end : end + 1])
            if not 0 < end <= 10 or place < 0:
                raise wrong
            number, letter, rest, letters = int(rest[:end]), rest[end], rest[end + 1 :], letters[place + 1 :]
            days += number * {"W": 7, "D": 1}.get(letter, 0)
            exact += number * {"H": HOUR, "M": MINUTE, "S": SECOND}.get(letter, 0)
    if days + exact // DAY > _LONGEST_DAYS:
        raise line.wrong(f"{line.name} {word} is longer than a thousand years", at, _DURATION)
    return Span(days, exact)
