"""Calendars of excluded days: the times that the events of an .ics file cover.

Public holidays come as such files (RFC 5545). An event covers the time from its
start up to its end, a day without a time of day the whole day on the wall of
whoever asks; what is cancelled, or marked as free time (TRANSP:TRANSPARENT), covers
nothing. Events that recur do so through :mod:`vigie.triggers.rrule`; their first
start always counts, and one occurrence that was moved or cancelled (RECURRENCE-ID)
no longer stands where it stood.

Asked about an instant, a :class:`Busy` works out the 64 days around it and keeps
them, since the next question is nearly always about a time nearby.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from vigie.errors import ExpressionError, UsageError
from vigie.triggers.ical import Line, Moment, Span, read_duration, read_moment, read_spans, split_line
from vigie.triggers.rrule import Recurrence, gather
from vigie.triggers.wall import DAY, Zone

__all__ = ["Busy", "parse_ics"]

_MOST = 5_000_000
_BLOCK = 64 * DAY
#: So many starts a day are no calendar of days and appointments any more.
_MOST_A_DAY = 1_440
_READ = (
    "UID",
    "DTSTART",
    "DTEND",
    "DURATION",
    "RRULE",
    "RDATE",
    "EXDATE",
    "EXRULE",
    "STATUS",
    "TRANSP",
    "RECURRENCE-ID",
)
_ONCE = ("DTSTART", "DTEND", "DURATION", "RECURRENCE-ID")


@dataclass(frozen=True, slots=True)
class _Recurring:
    """An event that recurs: when it starts, and how long it lasts each time."""

    starts: Recurrence
    span: Span

    def between(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Give the spans that touch a time; a day more is looked back, since clocks may be set meanwhile."""
        for each in self.starts.after(start - self.span.days * DAY - self.span.exact - DAY):
            if each >= end:
                return
            until = self.span.end(each, self.starts.zone)
            if until > start:
                yield each, until


@dataclass(frozen=True, slots=True)
class Busy:
    """The time that a calendar's events cover.

    >>> from vigie.triggers.ical import utc
    >>> lines = ("BEGIN:VCALENDAR", "BEGIN:VEVENT", "DTSTART:19700102", "END:VEVENT", "END:VCALENDAR")
    >>> busy = parse_ics("\\n".join(lines), utc(), lambda name: utc())
    >>> busy.covers(0), busy.covers(DAY), list(busy.spans(0, 7 * DAY)) == [(DAY, 2 * DAY)]
    (False, True, True)
    """

    once: tuple[tuple[int, int], ...] = ()
    recurring: tuple[_Recurring, ...] = field(default=(), repr=False)
    _blocks: dict[int, list[tuple[int, int]]] = field(default_factory=dict, repr=False, compare=False)

    def covers(self, instant: int) -> bool:
        """Tell whether an instant (µs UTC) lies in an event: from its start up to, not with, its end."""
        spans = self._block(instant // _BLOCK)
        at = bisect_right(spans, instant, key=lambda span: span[0]) - 1
        return at >= 0 and instant < spans[at][1]

    def spans(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Give the covered spans between two instants, cut to them, merged and ascending."""
        if start >= end:
            return
        last: tuple[int, int] | None = None
        for number in range(start // _BLOCK, (end - 1) // _BLOCK + 1):
            for low, high in self._block(number):
                low, high = max(low, start), min(high, end)
                if last is not None and low <= last[1]:
                    last = last[0], max(last[1], high)
                elif low < high:
                    if last is not None:
                        yield last
                    last = low, high
        if last is not None:
            yield last

    def _block(self, number: int) -> list[tuple[int, int]]:
        """Give the covered spans of a block, cut to it."""
        found = self._blocks.get(number)
        if found is None:
            start, end = number * _BLOCK, (number + 1) * _BLOCK
            touching = [span for each in self.recurring for span in each.between(start, end)]
            at = max(bisect_right(self.once, start, key=lambda span: span[0]) - 1, 0)
            until = bisect_right(self.once, end, key=lambda span: span[0])
            cut = ((max(low, start), min(high, end)) for low, high in (*touching, *self.once[at:until]))
            if len(self._blocks) > 256:
                self._blocks.clear()
            found = self._blocks[number] = _merged(cut)
        return found


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sort spans and join those that touch; empty ones are dropped."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(span for span in spans if span[0] < span[1]):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


@dataclass(slots=True)
class _Event:
    """The lines of one VEVENT that say when it is."""

    number: int
    lines: dict[str, list[Line]] = field(default_factory=dict)

    def keep(self, line: Line) -> None:
        """Keep a line, if it says when the event is."""
        if line.name in _READ:
            kept = self.lines.setdefault(line.name, [])
            if kept and line.name in _ONCE:
                raise line.wrong(f"{line.name} stands twice in the event of line {self.number}")
            kept.append(line)

    def one(self, name: str) -> Line | None:
        found = self.lines.get(name)
        return found[0] if found else None

    def says(self, name: str, value: str) -> bool:
        line = self.one(name)
        return line is not None and line.value.upper() == value


def parse_ics(text: str, zone: Zone, zones: Callable[[str], Zone]) -> Busy:
    """Read a calendar, and give the time that its events cover.

    Parameters
    ----------
    text:
        The content of an .ics file, at most 5 MB.
    zone:
        The zone of days, and of times that name none.
    zones:
        Gives the zone of a name, and raises :class:`~vigie.errors.UsageError` for an
        unknown one. A TZID that is no known name is looked up as its last parts
        (``/example.org/Europe/Paris``), then as its VTIMEZONE's X-LIC-LOCATION.

    Raises
    ------
    ExpressionError
        With the number of the line: for what is no calendar, has an event without a
        start, a zone that nobody knows, or a start more often than each minute.
    """
    if len(text) > _MOST:
        raise ExpressionError(f"a calendar of {len(text):,} characters is larger than 5 MB")
    events, places = _events(text)
    find = _Finder(zones, places)
    moved = _moved(events, find)
    once: list[tuple[int, int]] = []
    recurring: list[_Recurring] = []
    for event in events:
        if event.says("STATUS", "CANCELLED") or event.says("TRANSP", "TRANSPARENT"):
            continue
        uid = event.one("UID")
        gone = moved.get(uid.value, []) if uid is not None and event.one("RECURRENCE-ID") is None else []
        _read_event(event, zone, find, gone, once, recurring)
    return Busy(tuple(_merged(once)), tuple(recurring))


def _moved(events: list[_Event], zones: Callable[[str], Zone]) -> dict[str, list[Moment]]:
    """Give for each event's UID where it stood before one occurrence was changed."""
    moved: dict[str, list[Moment]] = {}
    for event in events:
        line, uid = event.one("RECURRENCE-ID"), event.one("UID")
        if line is not None:
            if line.params.get("RANGE", "").upper() == "THISANDFUTURE":
                raise line.wrong("RECURRENCE-ID with RANGE=THISANDFUTURE is not supported", 0, "one occurrence")
            if uid is not None:
                moved.setdefault(uid.value, []).append(read_moment(line, zones))
    return moved


def _read_event(
    event: _Event,
    zone: Zone,
    zones: Callable[[str], Zone],
    gone: list[Moment],
    once: list[tuple[int, int]],
    recurring: list[_Recurring],
) -> None:
    """Add what one event covers: spans that come once, and what recurs."""
    line = event.one("DTSTART")
    if line is None:
        raise ExpressionError(f"line {event.number}: the event has no DTSTART", expected="a DTSTART line")
    begin = read_moment(line, zones)
    zone = begin.zone or zone
    span = _span(event, begin, zone, zones)
    written = [each for name in ("RRULE", "EXRULE", "EXDATE") for each in event.lines.get(name, ())]
    starts = gather([line, *written], "", zone, zones=zones, lenient=True)
    for rule, said in zip(starts.rules, event.lines.get("RRULE", ()), strict=True):
        if rule.most_a_day() > _MOST_A_DAY:
            raise said.wrong(f"the event comes more than {_MOST_A_DAY:,} times a day")
    starts = replace(
        starts,
        rules=tuple(rule for rule in starts.rules if rule.comes()),
        dates=(),
        without_dates=starts.without_dates.union(each.instant(zone) for each in gone if not each.date),
        without_days=starts.without_days.union(each.wall // DAY for each in gone if each.date),
    )
    first = [(begin.instant(zone), span)]
    for added in event.lines.get("RDATE", ()):
        first += [(moment.instant(zone), own or span) for moment, own in read_spans(added, zones, zone)]
    for at, length in first:
        if at not in starts.without_dates and zone.wall(at) // DAY not in starts.without_days:
            once.append((at, length.end(at, zone)))
    if starts.rules and (span.days or span.exact):
        recurring.append(_Recurring(starts, span))


def _span(event: _Event, begin: Moment, zone: Zone, zones: Callable[[str], Zone]) -> Span:
    """Give how long an event lasts (RFC 5545 3.6.1: a day where a date has no end, else no time at all)."""
    end, duration = event.one("DTEND"), event.one("DURATION")
    if duration is not None:
        if end is not None:
            raise duration.wrong("the event has both DTEND and DURATION", 0, "one of the two")
        return replace(read_duration(duration), date=begin.date)
    if end is None:
        return Span(days=1, date=True) if begin.date else Span()
    until = read_moment(end, zones)
    if until.date != begin.date:
        raise end.wrong("of DTSTART and DTEND one is a date and the other a time", 0, "two of a kind")
    length = until.wall - begin.wall if begin.date else until.instant(zone) - begin.instant(zone)
    if length < 0:
        raise end.wrong("the event ends before it starts")
    # A day that ends on itself: some programs write the last day, not the one after it.
    return Span(days=max(length // DAY, 1), date=True) if begin.date else Span(exact=length)


class _Finder:
    """Finds the zones that a calendar names."""

    def __init__(self, zones: Callable[[str], Zone], places: dict[str, str]) -> None:
        self.zones = zones
        self.places = places
        self.found: dict[str, Zone] = {}

    def __call__(self, name: str) -> Zone:
        if name not in self.found:
            self.found[name] = self._find(name)
        return self.found[name]

    def _find(self, name: str) -> Zone:
        tries = [name]
        if name.startswith("/"):
            parts = name.split("/")
            tries += ["/".join(parts[-3:]), "/".join(parts[-2:])]
        place = self.places.get(name)
        for each in [*tries, place] if place else tries:
            try:
                return self.zones(each)
            except UsageError:
                continue
        if place:
            raise UsageError(f"its zone {name!r}, said to be that of {place}, is not known here")
        raise ExpressionError(
            f"its zone {name!r} is no name of a time zone, and has no X-LIC-LOCATION",
            expected="a TZID such as Europe/Paris",
        )


def _events(text: str) -> tuple[list[_Event], dict[str, str]]:
    """Take the events out of a calendar, and the places that its own zones stand for."""
    events: list[_Event] = []
    places: dict[str, str] = {}
    own: dict[str, str] = {}
    inside: list[tuple[str, int]] = []
    number = 0
    for number, raw in _unfolded(text):
        line = _line(number, raw)
        if line.name == "BEGIN":
            kind = line.value.upper()
            if not inside and kind != "VCALENDAR":
                raise line.wrong(f"BEGIN:{line.value} stands outside a calendar", 0, "BEGIN:VCALENDAR")
            inside.append((kind, number))
            if kind == "VEVENT":
                events.append(_Event(number))
        elif not inside:
            raise line.wrong(f"{line.name} stands outside a calendar", 0, "BEGIN:VCALENDAR")
        elif line.name == "END":
            kind, begun = inside.pop()
            if kind != line.value.upper():
                raise line.wrong(f"END:{line.value} ends nothing", 0, f"END:{kind}, which line {begun} begins")
            if kind == "VTIMEZONE":
                places[own.pop("TZID", "")] = own.pop("X-LIC-LOCATION", "")
        elif inside[-1][0] == "VTIMEZONE":
            own[line.name] = line.value
        elif inside[-1][0] == "VEVENT":
            events[-1].keep(line)
    if inside:
        raise ExpressionError(
            f"line {number}: the calendar ends within {inside[-1][0]}, which line {inside[-1][1]} begins"
        )
    if not number:
        raise ExpressionError("line 1: there is no calendar", expected="BEGIN:VCALENDAR")
    return events, places


def _line(number: int, raw: str) -> Line:
    """Split a line of a file."""
    split = split_line(raw)
    if isinstance(split, str):
        raise ExpressionError(f"line {number}: {split}", expected="NAME:value")
    name, params, at = split
    return Line(name, params, raw[at:].strip(), number=number)


def _unfolded(text: str) -> Iterator[tuple[int, str]]:
    """Give the content lines (RFC 5545 3.1) with the number each begins on; empty lines are passed over."""
    number, pieces = 0, list[str]()
    for at, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        raw = raw.removesuffix("\r")
        if raw[:1] in (" ", "\t") and pieces:
            pieces.append(raw[1:])
            continue
        if pieces:
            yield number, "".join(pieces)
        number, pieces = at, [raw] if raw.strip() else []
    if pieces:
        yield number, "".join(pieces)
