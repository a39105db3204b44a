"""Recurrence sets of RFC 5545: rules, added and excluded dates.

What is written is a DTSTART, rules (RRULE), further moments (RDATE) and what is
taken out again (EXDATE, and EXRULE of the older RFC 2445, which calendars still
hold). All of it becomes instants, which are merged: an instant never comes twice.

DTSTART says where counting begins and fills in what rules leave open; it is a
moment of the set where it fits a rule, or where there is no rule. (RFC 5545 wants
it to fit, and leaves open what happens otherwise.) Where the text has none, the
caller's start stands for it.

How this differs from other readers of such rules, and why, is told in
``docs/reference/differences-rrule.md``.
"""

from __future__ import annotations

import heapq
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from vigie.errors import ExpressionError
from vigie.triggers.base import Joinable
from vigie.triggers.ical import Line, Moment, read_moment, read_moments, read_spans, split_line
from vigie.triggers.rrule_parts import Parts, read_parts
from vigie.triggers.rrule_rule import Rule, make_rule
from vigie.triggers.rrule_say import say_rule, say_wall, why_never
from vigie.triggers.wall import DAY, SECOND, Zone

__all__ = ["Recurrence"]

_NAMES = ("DTSTART", "RRULE", "RDATE", "EXDATE", "EXRULE")
_EXPECTED = "FREQ=…, or one of " + ", ".join(f"{name}:" for name in _NAMES)
_NAMED = re.compile(rf"(?i)({'|'.join(_NAMES)})[:;]")
_BARE = re.compile(r"([A-Za-z-]+)=")
_LONGEST = 100_000
#: So many moments in a row that are all taken out are taken as the end.
_PATIENCE = 200_000
#: Before and after anything that can be written.
_BEFORE_ALL = -(1 << 62)
_AFTER_ALL = 1 << 62
_STEPS = 8


@dataclass(frozen=True, slots=True)
class Recurrence(Joinable):
    """A recurrence set, and the zone in which it was read.

    >>> from vigie.triggers.ical import utc
    >>> found = Recurrence.parse("DTSTART:19700101T080000 RRULE:FREQ=DAILY;INTERVAL=2", utc())
    >>> [instant // SECOND for instant, _ in zip(found.after(0), range(2))]
    [28800, 201600]
    >>> found.describe()
    'every 2 days at 08:00, from 1970-01-01T08:00'
    """

    text: str
    zone: Zone
    rules: tuple[Rule, ...] = field(default=(), repr=False)
    dates: tuple[int, ...] = field(default=(), repr=False)
    without_rules: tuple[Rule, ...] = field(default=(), repr=False)
    without_dates: frozenset[int] = field(default=frozenset(), repr=False)
    without_days: frozenset[int] = field(default=frozenset(), repr=False)

    @staticmethod
    def parse(
        text: str, zone: Zone, start: int | None = None, zones: Callable[[str], Zone] | None = None
    ) -> Recurrence:
        """Read a recurrence rule, or lines of a recurrence set.

        Parameters
        ----------
        text:
            ``FREQ=DAILY;BYHOUR=8``, or ``RRULE:…``, or several of ``DTSTART RRULE
            RDATE EXDATE EXRULE`` (RFC 5545 3.8.5), each on a line of its own or
            after a space, in any order, in capitals or not.
        zone:
            The zone of times that name none. A DTSTART with a TZID, or in UTC,
            brings the zone of its rules along.
        start:
            The instant (µs UTC) that stands for DTSTART where the text has none;
            parts of a second are dropped. Without it rules count from
            1970-01-01T00:00:00 on the wall, and COUNT is refused.
        zones:
            Gives the zone of a name that stands in TZID.

        Raises
        ------
        ExpressionError
            With the part and its position; also for a rule that never comes.

        >>> from vigie.triggers.ical import utc
        >>> Recurrence.parse("FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=18", utc(), 0).describe()
        'every month on the last Friday at 18:00'
        >>> Recurrence.parse("FREQ=DAILY;BYHOUR=25", utc())
        Traceback (most recent call last):
        vigie.errors.ExpressionError: BYHOUR 25 is not in 0..23: "FREQ=DAILY;BYHOUR=25"
        at character 19: expected a number from 0 to 23
        """
        if len(text) > _LONGEST:
            raise ExpressionError(f"a recurrence of {len(text):,} characters is longer than {_LONGEST:,}")
        lines = _lines(text)
        found = gather(lines, text, zone, start, zones)
        _refuse_never(found, lines)
        return found

    def after(self, instant: int) -> Iterator[int]:
        """Give the instants (µs UTC) later than one, ascending; it ends with the last, or with the calendar."""
        if self.without_rules or self.without_dates or self.without_days:
            return self._kept(instant)
        return self._given(instant)

    def _given(self, instant: int) -> Iterator[int]:
        """Give the instants later than one, before any is taken out."""
        streams: list[Iterable[int]] = [rule.after(instant) for rule in self.rules]
        if self.dates:
            streams.append(self.dates[bisect_right(self.dates, instant) :])
        return iter(streams[0]) if len(streams) == 1 else _once(heapq.merge(*streams))

    def describe(self) -> str:
        """Say in plain English how it was read, without the zone."""
        said = [say_rule(rule) for rule in self.rules]
        if self.dates:
            first = say_wall(self.zone.wall(self.dates[0]))
            said.append(f"on {first}" if len(self.dates) == 1 else f"on {len(self.dates)} dates from {first} on")
        text = ", and ".join(said)
        if self.without_rules:
            text += "; except " + ", and ".join(say_rule(rule) for rule in self.without_rules)
        number = len(self.without_dates) + len(self.without_days)
        if number:
            text += f"; except {number} date{'s' if number > 1 else ''}"
        return text

    def _kept(self, since: int) -> Iterator[int]:
        """Give the instants that are not taken out."""
        excluding = [_Excluding(rule, since) for rule in self.without_rules]
        given = self._given(since)
        idle = 0
        while (each := next(given, None)) is not None and idle < _PATIENCE:
            idle += 1
            day = self.zone.wall(each) // DAY
            if day in self.without_days:
                # Not one by one: a day may hold many.
                given = self._given(max(self.zone.first((day + 1) * DAY) - 1, each))
            elif each not in self.without_dates and not any(rule.has(each) for rule in excluding):
                idle = 0
                yield each


class _Excluding:
    """Tells whether a rule gives an instant; asked in ascending order, of instants later than ``since``."""

    def __init__(self, rule: Rule, since: int) -> None:
        self.rule = rule
        self.coming = rule.after(since)
        self.next = next(self.coming, _AFTER_ALL)

    def has(self, instant: int) -> bool:
        for _ in range(_STEPS):
            if self.next >= instant:
                return self.next == instant
            self.next = next(self.coming, _AFTER_ALL)
        # Much denser than what it takes from: asked afresh, not walked.
        self.coming = self.rule.after(instant - 1)
        self.next = next(self.coming, _AFTER_ALL)
        return self.next == instant


def _once(instants: Iterable[int]) -> Iterator[int]:
    """Drop what is the same as the one before."""
    last = None
    for each in instants:
        if each != last:
            yield each
            last = each


def gather(
    lines: list[Line],
    text: str,
    zone: Zone,
    start: int | None = None,
    zones: Callable[[str], Zone] | None = None,
    *,
    lenient: bool = False,
) -> Recurrence:
    """Make a recurrence set of its lines, without asking whether it ever comes.

    ``lenient`` ignores times of day in rules whose DTSTART is a date, as RFC 5545
    3.3.10 asks of readers of calendars, where otherwise they are refused.
    """
    begin = _begin([line for line in lines if line.name == "DTSTART"], zones)
    given = begin is not None or start is not None
    if begin is None:
        begin = Moment(0 if start is None else zone.wall(start) // SECOND * SECOND)
        first = zone.first(0) if start is None else start // SECOND * SECOND
    else:
        zone = begin.zone or zone
        first = begin.instant(zone)
    kinds: dict[str, list[Rule]] = {"RRULE": [], "EXRULE": []}
    dates: set[int] = set()
    without: list[Moment] = []
    for line in lines:
        if line.name in kinds:
            parts = _parts(line, zones, dates=begin.date, lenient=lenient)
            if parts.count is not None and not given:
                at = line.value.upper().find("COUNT")
                raise line.wrong("COUNT needs a start to count from", at, "a DTSTART beside it")
            kinds[line.name].append(make_rule(parts, zone, begin.wall, first))
        elif line.name == "RDATE":
            dates.update(moment.instant(zone) for moment, _ in read_spans(line, zones, zone))
        elif line.name == "EXDATE":
            without += read_moments(line, zones)
    if not kinds["RRULE"] and any(line.name == "DTSTART" for line in lines):
        dates.add(first)
    return Recurrence(
        text,
        zone,
        tuple(kinds["RRULE"]),
        tuple(sorted(dates)),
        tuple(kinds["EXRULE"]),
        frozenset(each.instant(zone) for each in without if not each.date),
        frozenset(each.wall // DAY for each in without if each.date),
    )


def _begin(lines: list[Line], zones: Callable[[str], Zone] | None) -> Moment | None:
    """Read DTSTART, of which there may be one."""
    if len(lines) > 1:
        raise lines[1].wrong("DTSTART stands twice", 0, "one DTSTART")
    return read_moment(lines[0], zones) if lines else None


def _parts(line: Line, zones: Callable[[str], Zone] | None, *, dates: bool, lenient: bool) -> Parts:
    """Read a rule; times of day beside a date are refused or dropped."""
    if not (dates and lenient):
        return read_parts(line, zones, dates=dates)
    kept = [part for part in line.value.split(";") if not re.match(r"(?i)\s*BY(HOUR|MINUTE|SECOND)\s*=", part)]
    return read_parts(Line(line.name, line.params, ";".join(kept), number=line.number), zones)


def _refuse_never(found: Recurrence, lines: list[Line]) -> None:
    """Refuse a rule that gives nothing, and a set of which nothing is left."""
    written = [line for line in lines if line.name == "RRULE"]
    for line, rule in zip(written, found.rules, strict=True):
        reason = why_never(rule)
        if reason is not None:
            raise line.wrong(f"the rule never comes: {reason[0]}", max(line.value.upper().find(reason[1]), 0))
    if next(found.after(_BEFORE_ALL), None) is None:
        raise ExpressionError("the set never comes: all that it gives is taken out again", found.text)


def _lines(text: str) -> list[Line]:
    """Take the content lines out of a text: each begins with its name; what was folded is put together again."""
    pieces: list[tuple[str, list[int]]] = []
    end = 0
    for word in re.finditer(r"\S+", text):
        token, at = word.group(), word.start()
        between, end = text[end:at], word.end()
        places = list(range(at, end))
        before = pieces[-1][0] if pieces else ""
        goes_on = before[-1:] in (",", ";", "=", ":") or token[0] in ",;="
        folded = between.endswith((" ", "\t")) and "\n" in between and not token.upper().startswith("FREQ=")
        if _NAMED.match(token):
            pieces.append((token, places))
        elif before and (goes_on or folded):
            pieces[-1] = (before + token, pieces[-1][1] + places)
        elif _BARE.match(token) and (not before or "FREQ=" in token.upper()):
            pieces.append(("RRULE:" + token, [at] * 6 + places))
        else:
            raise _unknown(token, text, at)
    if not any(piece.upper().startswith(("RRULE", "RDATE", "DTSTART")) for piece, _ in pieces):
        raise ExpressionError("there is no rule", text, at=0, expected=_EXPECTED)
    return [_line(piece, places, text) for piece, places in pieces]


def _unknown(token: str, text: str, at: int) -> ExpressionError:
    """Make the error for a word that begins nothing."""
    part = _BARE.match(token)
    if part is not None:
        what = f"{part[1].upper()} stands apart from its rule"
        return ExpressionError(what, text, at=at, expected="a semicolon between parts, and no space")
    name = re.match(r"[A-Za-z-]+(?=[:;])", token)
    what = f"{name.group().upper()} is not understood here" if name else f"{token!r} is no rule"
    return ExpressionError(what, text, at=at, expected=_EXPECTED)


def _line(piece: str, places: list[int], text: str) -> Line:
    """Split one content line."""
    split = split_line(piece)
    if isinstance(split, str):
        raise ExpressionError(split, text, at=places[0], expected=_EXPECTED)
    name, params, start = split
    return Line(name, params, piece[start:], text, [*places[start:], places[-1] + 1])
