"""The parts of plain phrases: times, dates, days of the week, the month and the year."""

from __future__ import annotations

import re
from datetime import datetime

from vigie.errors import ExpressionError
from vigie.triggers.days import BUSINESS, WEEKEND, Nth, month_length
from vigie.triggers.wall import DAY, HOUR, MINUTE, SECOND, Zone, day_number
from vigie.triggers.words import Words

__all__ = ["begins_time", "dates", "is_weekday", "minutes", "moment", "month_days", "time", "times", "weekdays"]

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_NAMED_TIMES = {"noon": 12 * HOUR, "midnight": 0}
_SETS = {"weekday": BUSINESS, "weekdays": BUSINESS, "weekend": WEEKEND, "weekends": WEEKEND}
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "last": -1}

_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?")
_MINUTE = re.compile(r":(\d{2})(?::(\d{2}))?")
_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
_ZONED = re.compile(r"(.*?)(z|[+-]\d{2}:?\d{2})?")
_ORDINAL = re.compile(r"(\d{1,2})(st|nd|rd|th)?")

_A_TIME = "a time such as 08:00, 18:30:15, noon or midnight"
_A_WEEKDAY = "a day such as mon or friday, or several: mon,thu or mon-fri"
_A_MONTH_DAY = "days such as 1,15, last, last fri or first mon"
_A_YEAR_DAY = "a date such as 12-24 or dec 24"


def begins_time(words: Words) -> bool:
    """Tell whether what comes next is about the time of day, or nothing comes."""
    word = words.peek()
    return word in ("", "at", "every", *_NAMED_TIMES) or ":" in word


def times(words: Words) -> tuple[int, ...]:
    """Take times of a day, in µs from midnight, in order; midnight if none is there."""
    if not words.skip("at") and words.peek() in ("", "every"):
        return (0,)
    found = {time(words)}
    while words.another():
        found.add(time(words))
    return tuple(sorted(found))


def time(words: Words) -> int:
    """Take one time of a day."""
    found = _clock(words, words.peek(), words.at)
    words.take()
    return found


def _clock(words: Words, text: str, at: int) -> int:
    """Read a time that stands at a place in the phrase."""
    if text in _NAMED_TIMES:
        return _NAMED_TIMES[text]
    found = _TIME.fullmatch(text)
    if found is None:
        words.at = at
        words.fail("time", _A_TIME)
    hour, minute, second = (int(each or 0) for each in found.group(1, 2, 3))
    _bounded(words, "hour", hour, 23, at)
    _bounded(words, "minute", minute, 59, at + found.start(2))
    _bounded(words, "second", second, 59, at + found.start(3))
    return hour * HOUR + minute * MINUTE + second * SECOND + int((found[4] or "").ljust(6, "0"))


def minutes(words: Words) -> tuple[int, ...]:
    """Take minutes of an hour (``:15``, ``:15:30``), in µs from its begin; the begin if none is there."""
    if not words.skip("at") and words.peek() in ("", "every"):
        return (0,)
    chosen = set()
    while True:
        found = _MINUTE.fullmatch(words.peek())
        if found is None:
            words.fail("minute of an hour", "one such as :15, or several: :00,:30")
        _bounded(words, "minute", int(found[1]), 59, words.at + 1)
        _bounded(words, "second", int(found[2] or 0), 59, words.at + 4)
        words.take()
        chosen.add(int(found[1]) * MINUTE + int(found[2] or 0) * SECOND)
        if not words.another():
            return tuple(sorted(chosen))


def weekdays(words: Words) -> frozenset[int]:
    """Take days of the week: names, ranges, ``weekdays``; Monday is 0."""
    words.skip("on")
    found = _some_weekdays(words)
    while words.another():
        found |= _some_weekdays(words)
    return found


def is_weekday(word: str) -> bool:
    """Tell whether a word names days of the week."""
    first = re.split(r"-|\.\.", word)[0]
    return word in _SETS or _named(first, _WEEKDAYS) is not None


def _some_weekdays(words: Words) -> frozenset[int]:
    word = words.peek()
    if word in _SETS:
        words.take()
        return _SETS[word]
    ends = [_named(each, _WEEKDAYS) for each in re.split(r"-|\.\.", word)]
    if None in ends or len(ends) > 2:
        words.fail("weekday", _A_WEEKDAY, (*_WEEKDAYS, *_SETS))
    words.take()
    first, last = ends[0] or 0, ends[-1] or 0
    return frozenset((first + each) % 7 for each in range((last - first) % 7 + 1))


def month_days(words: Words) -> tuple[Nth, ...]:
    """Take days of a month: numbers, ``last``, ``last fri``, ``2nd tue``, ``first weekday``."""
    words.skip("on")
    found = [_month_day(words)]
    while words.another():
        found.append(_month_day(words))
    return tuple(dict.fromkeys(found))


def _month_day(words: Words) -> Nth:
    words.skip("the")
    at, word = words.at, words.peek()
    number = _ORDINAL.fullmatch(word)
    if number is None and word not in _ORDINALS:
        words.fail("day of the month", _A_MONTH_DAY, _ORDINALS)
    n = int(number[1]) if number else _ORDINALS[word]
    words.take()
    following = words.peek()
    plain = number is not None and number[2] is None
    if not plain and is_weekday(following):
        return _nth(words, n, at)
    named = words.skip("day") if not plain else False
    if number is None and n != -1 and not named:
        words.fail("weekday", f"a day such as {word} mon, or {word} day", _WEEKDAYS)
    if n != -1:
        _bounded(words, "day", n, 31, at, least=1)
    return Nth(n)


def _nth(words: Words, n: int, at: int) -> Nth:
    """Take the weekday behind an ordinal."""
    word = words.peek()
    number = _named(word, _WEEKDAYS)
    if number is None and word not in _SETS:
        words.fail("weekday", "a single day such as mon, or weekday", _WEEKDAYS)
    chosen = _SETS.get(word) or frozenset((number or 0,))
    words.take()
    most = 5 if len(chosen) == 1 else 23 if chosen == BUSINESS else 10
    if n != -1:
        _bounded(words, "ordinal", n, most, at, least=1)
    return Nth(n, tuple(sorted(chosen)))


def dates(words: Words) -> tuple[tuple[int, int], ...]:
    """Take dates of a year as (month, day): ``12-24``, ``dec 24``, ``24 dec``."""
    words.skip("on")
    found = [_year_day(words)]
    while words.another():
        found.append(_year_day(words))
    return tuple(sorted(set(found)))


def _year_day(words: Words) -> tuple[int, int]:
    words.skip("the")
    at, word = words.at, words.peek()
    numbers = re.fullmatch(r"(\d{1,2})-(\d{1,2})", word)
    ordinal = _ORDINAL.fullmatch(word)
    month = _named(word, _MONTHS)
    if numbers is not None:
        words.take()
        month, day, day_at = int(numbers[1]) - 1, int(numbers[2]), at + numbers.start(2)
        _bounded(words, "month", month + 1, 12, at, least=1)
    elif month is not None or ordinal is not None:
        words.take()
        day_at = at if ordinal else words.at
        other = words.peek()
        if ordinal is None:
            ordinal = _ORDINAL.fullmatch(other)
        elif words.skip("of"):
            other = words.peek()
        month = _named(other, _MONTHS) if month is None else month
        if ordinal is None or month is None:
            words.fail("date", _A_YEAR_DAY)
        words.take()
        day = int(ordinal[1])
    else:
        words.fail("date", _A_YEAR_DAY, _MONTHS)
    _bounded(words, "day", day, month_length(2024, month + 1), day_at, least=1, of=_MONTHS[month].capitalize())
    return month + 1, day


def moment(words: Words, zone: Zone) -> tuple[int, int | None, int | None]:
    """Take a date with or without a time: ``2026-12-24``, ``2026-12-24T18:00``, ``…T18:00+01:00``.

    Gives the day's number, the time of the day (None if it does not follow a T),
    and the instant if an offset says it.
    """
    at, word = words.at, words.peek()
    date, separator, rest = word.partition("t")
    found = _DATE.fullmatch(date)
    if found is None:
        words.fail("date", "one such as 2026-12-24 or 2026-12-24T18:00")
    year, month, day = (int(each) for each in found.groups())
    _bounded(words, "year", year, 9998, at, least=1)
    _bounded(words, "month", month, 12, at + found.start(2), least=1)
    _bounded(words, "day", day, month_length(year, month), at + found.start(3), least=1, of=f"{year}-{month:02}")
    number = day_number(year, month, day)
    if not separator:
        words.take()
        return number, None, None
    zoned = _ZONED.fullmatch(rest)
    assert zoned is not None
    clock = _clock(words, zoned[1], at + len(date) + 1)
    words.at = at
    words.take()
    if not zoned[2]:
        return number, clock, None
    try:
        offset = datetime.fromisoformat(f"2000-01-01T00:00{zoned[2].upper()}").utcoffset()
    except ValueError:
        offset = None
    if offset is None:
        raise ExpressionError(f"{zoned[2]} is no offset", words.text, at=at, expected="one such as +01:00, or Z")
    return number, clock, number * DAY + clock - (offset.days * 86_400 + offset.seconds) * SECOND


def _named(word: str, names: tuple[str, ...]) -> int | None:
    """Give the number of a name, written whole or by three letters or more, also in plural."""
    for part in (word, word.removesuffix("s")):
        for number, name in enumerate(names):
            if len(part) >= 3 and name.startswith(part):
                return number
    return None


def _bounded(words: Words, name: str, value: int, most: int, at: int, least: int = 0, of: str = "") -> None:
    if not least <= value <= most:
        raise ExpressionError(
            f"{name} {value} is not in {least}..{most}{f' of {of}' if of else ''}",
            words.text,
            at=at,
            expected=f"{least} to {most}",
        )
