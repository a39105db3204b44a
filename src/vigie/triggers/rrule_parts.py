"""The parts of a recurrence rule, read and checked (RFC 5545 3.3.10).

Reading ends in a :class:`Parts`, in which lists are sorted and without repetition,
and no combination is left that the RFC forbids. What a rule leaves open is not
filled in here: that takes its DTSTART.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vigie.triggers.ical import Line, Moment, read_moment
from vigie.triggers.wall import Zone

__all__ = ["FREQUENCIES", "WEEKDAYS", "Parts", "read_parts"]

FREQUENCIES = ("SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

#: A count is kept by counting, and each count must end: more are better said by UNTIL.
MOST = 1_000_000
_FARTHEST = 10**9

#: Part → field, lowest, highest; whether numbers from the end (-1) are allowed.
_LISTS = {
    "BYSECOND": ("seconds", 0, 60, False),
    "BYMINUTE": ("minutes", 0, 59, False),
    "BYHOUR": ("hours", 0, 23, False),
    "BYMONTHDAY": ("monthdays", 1, 31, True),
    "BYYEARDAY": ("yeardays", 1, 366, True),
    "BYWEEKNO": ("weeks", 1, 53, True),
    "BYMONTH": ("months", 1, 12, False),
    "BYSETPOS": ("positions", 1, 366, True),
}
_KNOWN = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_LISTS)
#: Part → the frequencies that it must not stand with (the table of 3.3.10).
_FORBIDDEN = {
    "BYWEEKNO": ("SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY"),
    "BYYEARDAY": ("DAILY", "WEEKLY", "MONTHLY"),
    "BYMONTHDAY": ("WEEKLY",),
}


@dataclass(frozen=True, slots=True)
class Parts:
    """A rule as it was written.

    ``weekdays`` holds pairs of an ordinal (0: every) and a day of the week (Monday 0).
    """

    freq: str
    interval: int = 1
    count: int | None = None
    until: Moment | None = None
    seconds: tuple[int, ...] = ()
    minutes: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()
    weekdays: tuple[tuple[int, int], ...] = ()
    monthdays: tuple[int, ...] = ()
    yeardays: tuple[int, ...] = ()
    weeks: tuple[int, ...] = ()
    months: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    wkst: int = 0


def read_parts(line: Line, zones: Callable[[str], Zone] | None = None, *, dates: bool = False) -> Parts:
    """Read the value of RRULE or EXRULE.

    Parameters
    ----------
    line:
        The line whose value it is.
    zones:
        Gives the zone of a name.
    dates:
        DTSTART is a date: parts that say a time of day are refused.

    Raises
    ------
    ExpressionError
        With the part and its position.

    >>> read_parts(Line("RRULE", {}, "FREQ=MONTHLY;BYDAY=-1FR", None, (), 1)).weekdays
    ((-1, 4),)
    """
    found: dict[str, tuple[str, int]] = {}
    for name, value, at in _split(line):
        if name in ("RSCALE", "SKIP"):
            raise line.wrong(f"{name} (RFC 7529: other calendars, and days that do not exist) is not supported", at)
        if name not in _KNOWN:
            raise line.wrong(f"{name} is no part of a recurrence rule", at, "one of " + ", ".join(_KNOWN))
        if name in found:
            raise line.wrong(f"{name} stands twice", at, "each part once")
        found[name] = (value, at + len(name) + 1)
    if "FREQ" not in found:
        raise line.wrong("a recurrence rule needs FREQ", 0, "FREQ=DAILY, say")
    parts = _values(line, found, zones)
    _check(line, parts, {name: at - len(name) - 1 for name, (_, at) in found.items()}, dates=dates)
    return parts


def _split(line: Line) -> Iterator[tuple[str, str, int]]:
    """Give each part's name and value, and where the part begins."""
    at = 0
    for part in line.value.split(";"):
        name, equals, value = part.upper().partition("=")
        if part or at < len(line.value):  # one semicolon too many at the end does no harm
            if not (equals and name.strip() and value.strip()):
                raise line.wrong(f"{part!r} is no part of a recurrence rule", at, "NAME=value")
            yield name.strip(), value.strip(), at
        at += len(part) + 1


def _values(line: Line, found: dict[str, tuple[str, int]], zones: Callable[[str], Zone] | None) -> Parts:
    """Read the value of each part."""
    lists: dict[str, tuple[int, ...]] = {}
    for name, (field, low, high, signed) in _LISTS.items():
        if name in found:
            lists[field] = _numbers(line, name, *found[name], low, high, signed=signed)
    freq, at = found["FREQ"]
    if freq not in FREQUENCIES:
        raise line.wrong(f"FREQ {freq} is unknown", at, "one of " + ", ".join(FREQUENCIES))
    weekdays: tuple[tuple[int, int], ...] = ()
    if "BYDAY" in found:
        weekdays = tuple(sorted({_weekday(line, word, at) for word, at in _words(*found["BYDAY"])}))
    wkst, at = found.get("WKST", ("MO", 0))
    if wkst not in WEEKDAYS:
        raise line.wrong(f"WKST {wkst} is no day of the week", at, "one of " + ", ".join(WEEKDAYS))
    until = None
    if "UNTIL" in found:
        bare = Line("UNTIL", {}, line.value, line.text, line.where, line.number)
        until = read_moment(bare, zones, *found["UNTIL"])
    count = _number(line, "COUNT", *found["COUNT"], 1, _FARTHEST) if "COUNT" in found else None
    if count is not None and count > MOST:
        raise line.wrong(f"COUNT {count} is more than {MOST:,}", found["COUNT"][1], "a smaller number, or UNTIL")
    interval = _number(line, "INTERVAL", *found["INTERVAL"], 1, _FARTHEST) if "INTERVAL" in found else 1
    return Parts(freq, interval, count, until, weekdays=weekdays, wkst=WEEKDAYS.index(wkst), **lists)


def _words(value: str, at: int) -> Iterator[tuple[str, int]]:
    for word in value.split(","):
        yield word.strip(), at
        at += len(word) + 1


def _numbers(line: Line, name: str, value: str, at: int, low: int, high: int, *, signed: bool) -> tuple[int, ...]:
    """Read a list of numbers."""
    return tuple(sorted({_number(line, name, word, at, low, high, signed=signed) for word, at in _words(value, at)}))


def _number(line: Line, name: str, word: str, at: int, low: int, high: int, *, signed: bool = False) -> int:
    """Read a number within its limits."""
    expected = f"a number from {low} to {high}" + (f", or -{high} to -{low} from the end" if signed else "")
    digits = word[1:] if signed and word[:1] in ("+", "-") else word
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise line.wrong(f"{name} {word!r} is not a number", at, expected)
    number = int(digits)
    if not low <= number <= high:
        raise line.wrong(f"{name} {word} is not in {low}..{high}", at, expected)
    return -number if word[0] == "-" else number


def _weekday(line: Line, word: str, at: int) -> tuple[int, int]:
    """Read ``MO``, ``2MO`` or ``-1MO``."""
    if word[-2:] not in WEEKDAYS:
        raise line.wrong(f"BYDAY {word!r} is no day of the week", at, "one of " + ", ".join(WEEKDAYS) + ", or as -1FR")
    ordinal = _number(line, "BYDAY", word[:-2], at, 1, 53, signed=True) if word[:-2] else 0
    return ordinal, WEEKDAYS.index(word[-2:])


def _check(line: Line, parts: Parts, places: dict[str, int], *, dates: bool) -> None:
    """Refuse what the RFC forbids to stand together."""
    for name, frequencies in _FORBIDDEN.items():
        if name in places and parts.freq in frequencies:
            allowed = ", ".join(each for each in FREQUENCIES if each not in frequencies)
            raise line.wrong(f"{name} must not stand with FREQ={parts.freq}", places[name], f"FREQ of {allowed}")
    if any(ordinal for ordinal, _ in parts.weekdays):
        if parts.freq not in ("MONTHLY", "YEARLY"):
            raise line.wrong(
                f"BYDAY with a number must not stand with FREQ={parts.freq}", places["BYDAY"], "FREQ of MONTHLY, YEARLY"
            )
        if parts.weeks:
            raise line.wrong("BYDAY with a number must not stand with BYWEEKNO", places["BYDAY"], "MO, TU, …")
    if parts.positions and not any(name.startswith("BY") and name != "BYSETPOS" for name in places):
        raise line.wrong("BYSETPOS needs another BY… part to choose from", places["BYSETPOS"], "BYDAY, say")
    if parts.count is not None and parts.until is not None:
        last = max(("COUNT", "UNTIL"), key=lambda name: places[name])
        raise line.wrong("COUNT and UNTIL must not stand together", places[last], "one of the two")
    if dates:
        for name in ("BYSECOND", "BYMINUTE", "BYHOUR"):
            if name in places:
                raise line.wrong(f"{name} needs a DTSTART with a time of day", places[name])
