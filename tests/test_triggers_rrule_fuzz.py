"""Recurrence rules made up by chance, against python-dateutil and against a look at the clock.

Where python-dateutil and RFC 5545 part, the rules made up keep away from the spot;
each is told in ``docs/reference/differences-rrule.md``. The suite tries the same few
hundred rules each time; ``VIGIE_FUZZ=SECONDS`` goes on for so long with others.
"""

# Naive times are what python-dateutil counts in.
# ruff: noqa: DTZ001

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import dateutil.rrule
import pytest
from dateutil.rrule import rrulestr

from vigie.errors import ExpressionError
from vigie.triggers.ical import utc
from vigie.triggers.rrule import Recurrence
from vigie.triggers.rrule_days import Filter
from vigie.triggers.wall import DAY, HOUR, MINUTE, SECOND, Zone, civil, day_number, weekday

GREENWICH = utc()
ZONES = ("Europe/Paris", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca")
FUZZ = float(os.environ.get("VIGIE_FUZZ") or 0)
LONG_AGO = -(10**17)


def zone(name: str) -> Zone:
    return Zone(name, ZoneInfo(name))


UNITS = {"SECONDLY": SECOND, "MINUTELY": MINUTE, "HOURLY": HOUR}
#: How long a run of each frequency may be: python-dateutil walks all of it.
REACH = {"DAILY": 900, "WEEKLY": 2000, "MONTHLY": 9000, "YEARLY": 30000}
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def numbers(chance: random.Random, low: int, high: int, most: int, *, signed: bool = False) -> str:
    found = {
        chance.randint(low, high) * (chance.choice((1, -1)) if signed else 1) for _ in range(chance.randint(1, most))
    }
    return ",".join(map(str, found))


def rule_parts(chance: random.Random, freq: str) -> dict[str, str]:
    """Make up the parts that say days and times."""
    parts: dict[str, str] = {}

    def perhaps(name: str, likely: float, value: str) -> None:
        if chance.random() < likely:
            parts[name] = value

    perhaps("BYMONTH", 0.25, numbers(chance, 1, 12, 4))
    if freq == "YEARLY":
        perhaps("BYWEEKNO", 0.2, numbers(chance, 1, 51, 5, signed=chance.random() < 0.3))
    if freq in ("YEARLY", *UNITS):
        perhaps("BYYEARDAY", 0.15, numbers(chance, 1, 366, 30, signed=True))
    if freq != "WEEKLY":
        perhaps("BYMONTHDAY", 0.25, numbers(chance, 1, 31, 5, signed=chance.random() < 0.4))
    days = chance.sample(WEEKDAYS, chance.randint(1, 5))
    if freq in ("MONTHLY", "YEARLY") and "BYWEEKNO" not in parts and chance.random() < 0.5:
        most = 5 if freq == "MONTHLY" or "BYMONTH" in parts else 53
        days = [f"{chance.choice((1, -1)) * chance.randint(1, most)}{day}" for day in days]
    perhaps("BYDAY", 0.4, ",".join(days))
    if "BYWEEKNO" in parts and not parts.keys() & {"BYDAY", "BYMONTHDAY", "BYYEARDAY"}:
        parts["BYDAY"] = ",".join(chance.sample(WEEKDAYS, 2))
    sparse = 0.3 if freq not in UNITS else 0.2
    perhaps("BYHOUR", sparse, numbers(chance, 0, 23, 4))
    perhaps("BYMINUTE", sparse, numbers(chance, 0, 59, 4))
    perhaps("BYSECOND", sparse / 2, numbers(chance, 0, 59, 3))
    if parts:
        places = numbers(chance, 1, chance.choice((2, 4, 30)), 3, signed=True)
        # Of the sets of these, often of one moment, some must be chosen: python-dateutil would walk each second.
        perhaps("BYSETPOS", 0.25, chance.choice(("1", "-1", "1,-2", "-1,2")) if freq in UNITS else places)
    return parts


def rule(chance: random.Random, years: tuple[int, int] = (1970, 2090)) -> tuple[datetime, str, datetime]:
    """Make up a rule: its DTSTART, itself, and where to stop looking."""
    freq = chance.choice(("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"))
    start = datetime(chance.randint(*years), 1, 1) + timedelta(seconds=chance.randrange(366 * 86400))
    interval = chance.choice((1, 1, 1, 2, 3, 5, 7, 12, 60, 100))
    parts = {"FREQ": freq, "INTERVAL": str(interval), **rule_parts(chance, freq)}
    if chance.random() < 0.3 and not (freq == "WEEKLY" and "BYSETPOS" in parts):
        parts["WKST"] = chance.choice(WEEKDAYS)
    if freq == "WEEKLY" and "BYSETPOS" in parts:
        # python-dateutil's first week begins with DTSTART, not with the week.
        start -= timedelta(days=start.weekday())
    if freq in UNITS:
        until = start + timedelta(microseconds=UNITS[freq] * interval * 3000)
    else:
        until = start + timedelta(days=REACH[freq] * min(interval, 4))
    return start, ";".join(f"{name}={value}" for name, value in parts.items()), min(until, datetime(2100, 12, 31))


def by_dateutil(start: datetime, text: str, until: datetime) -> list[datetime]:
    """Give what python-dateutil makes of a rule, in naive time."""
    # Where nothing comes, it is to walk no further than it must.
    real = dateutil.rrule.datetime
    dateutil.rrule.datetime = SimpleNamespace(**{**vars(real), "MAXYEAR": until.year})
    try:
        return list(rrulestr(f"{text};UNTIL={until:%Y%m%dT%H%M%S}", dtstart=start))
    except ValueError as error:
        # What it finds out before it walks: the times that a rule gives to an interval are never met.
        assert "empty set" in str(error) or "Invalid combination" in str(error), text
        return []
    finally:
        dateutil.rrule.datetime = real


def naive(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)


def ours(start: datetime, text: str, where: Zone, since: int, until: int) -> list[int]:
    """Give what we make of it after an instant; a rule that we say never comes gives nothing."""
    try:
        found = Recurrence.parse(f"DTSTART:{start:%Y%m%dT%H%M%S} RRULE:{text}", where)
    except ExpressionError as error:
        assert "never comes" in error.message, (text, error)
        return []
    return list(takewhile(lambda each: each <= until, found.after(since)))


def chances(seed: int, number: int) -> Iterator[random.Random]:
    """Give sources of chance: the same ones each time, then new ones for as long as was asked for."""
    for each in range(number):
        yield random.Random(seed + each)
    until = time.monotonic() + FUZZ
    while FUZZ and time.monotonic() < until:
        yield random.Random(f"{seed} {time.time_ns()}")


@pytest.mark.slow
def test_rules_by_chance_in_utc() -> None:
    given = tried = 0
    for chance in chances(55_450_000, 220):
        start, text, until = rule(chance)
        expected = [naive(each) for each in by_dateutil(start, text, until)]
        assert ours(start, text, GREENWICH, LONG_AGO, naive(until)) == expected, (start, text)
        if expected:
            middle = chance.choice(expected) - chance.choice((0, 1))
            later = [each for each in expected if each > middle]
            assert ours(start, text, GREENWICH, middle, naive(until)) == later, (start, text, middle)
        given, tried = given + bool(expected), tried + 1
    assert given > tried / 2


@pytest.mark.slow
def test_sets_by_chance_in_utc() -> None:
    given = 0
    for chance in chances(55_453_000, 100):
        start, text, until = rule(chance)
        texts = [text, *(rule(chance)[1] for _ in range(chance.choice((0, 0, 1, 2))))]
        if any(each.split(";")[0].removeprefix("FREQ=") in UNITS or "BYSETPOS" in each for each in texts):
            continue
        lines = [f"DTSTART:{start:%Y%m%dT%H%M%S}", f"RRULE:{text}"]
        lines += [f"{chance.choice(('RRULE', 'EXRULE'))}:{each}" for each in texts[1:]]
        walls, end = by_dateutil(start, text, until) or [start], naive(until)
        for name in ("RDATE", "EXDATE"):
            moves = [timedelta(days=chance.choice((0, 0, 1, 40))) for _ in range(chance.randint(0, 6))]
            if moves:
                lines.append(f"{name}:" + ",".join(f"{chance.choice(walls) + move:%Y%m%dT%H%M%S}" for move in moves))
        chance.shuffle(lines)
        try:
            found = Recurrence.parse(chance.choice(("\n", " ")).join(lines), GREENWICH)
        except ExpressionError as error:
            assert "never comes" in error.message, (lines, error)
            continue
        bounded = [f"{line};UNTIL={until:%Y%m%dT%H%M%S}" if "RULE" in line else line for line in lines]
        expected = [naive(each) for each in rrulestr("\n".join(bounded), forceset=True) if each <= until]
        for since in (LONG_AGO, chance.choice(expected or [end])):
            later = [each for each in expected if each > since]
            assert list(takewhile(lambda each, end=end: each <= end, found.after(since))) == later, (lines, since)
        given += len(lines) > 2 and bool(expected)
    assert given > 20


def first(wall: datetime, name: str) -> int:
    """Give the instant of a wall time by the project's rule, from zoneinfo alone."""
    rules = ZoneInfo(name)
    instant = (wall.replace(tzinfo=rules) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)

    def shows(second: int) -> datetime:
        return datetime.fromtimestamp(second, rules).replace(tzinfo=None, fold=0)

    if shows(instant) != wall:
        # In a gap. What clocks show rises with time around it: find the first that is later.
        low, high = instant - 25 * 3600, instant + 25 * 3600
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if shows(middle) > wall else (middle, high)
        instant = high
    return instant * SECOND


def at_night(chance: random.Random, start: datetime, text: str) -> tuple[datetime, str]:
    """Move a rule to the hours in which clocks are set."""
    start = start.replace(hour=chance.choice((0, 1, 2, 2, 3, 23)), minute=chance.choice((0, 15, 30, 59)))
    parts = dict(part.split("=") for part in text.split(";"))
    if "BYHOUR" in parts:
        parts["BYHOUR"] = chance.choice(("0", "0,2", "1,2,3", "2,23"))
    return start, ";".join(f"{name}={value}" for name, value in parts.items())


@pytest.mark.slow
def test_points_in_time_by_chance_in_zones() -> None:
    moved = 0
    for chance in chances(55_451_000, 130):
        name = chance.choice(ZONES)
        start, text, until = rule(chance)
        if text.split(";")[0].removeprefix("FREQ=") in UNITS:
            continue
        start, text = at_night(chance, start, text)
        walls = by_dateutil(start, text, until)
        expected = sorted({first(each, name) for each in walls})
        end = first(until, name)
        assert ours(start, text, zone(name), LONG_AGO, end) == expected, (name, start, text)
        moved += expected != [naive(each) - zone(name).offset(naive(each)) for each in walls]
        if len(expected) > 3:
            count = chance.randrange(1, len(expected))
            counted = ours(start, f"{text};COUNT={count}", zone(name), expected[0], end)
            assert counted == expected[1:count], (name, start, text, count)
    assert moved > 10


def changes(name: str, year: int) -> list[int]:
    """Give the instants of a year at which a zone's clocks are set, to the hour."""
    rules = ZoneInfo(name)
    begin = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    offsets = [
        (second, datetime.fromtimestamp(second, rules).utcoffset())
        for second in range(begin, begin + 366 * 86400, 3600)
    ]
    return [second * SECOND for (_, before), (second, after) in pairwise(offsets) if before != after]


def by_the_clock(parts: dict[str, str], start: int, name: str, begin: int, end: int) -> list[int]:
    """Find what HOURLY, MINUTELY and SECONDLY give by looking at the clock on the wall again and again."""
    rules, unit, interval = ZoneInfo(name), UNITS[parts["FREQ"]] // SECOND, int(parts["INTERVAL"])
    wanted = {
        key: {int(word) for word in parts[key].split(",")} for key in parts if key in ("BYHOUR", "BYMINUTE", "BYSECOND")
    }
    then = datetime.fromtimestamp(start // SECOND, rules)
    seconds = wanted.get("BYSECOND", {then.second} if unit > 1 else set(range(60)))
    minutes = wanted.get("BYMINUTE", {then.minute} if unit > 60 else set(range(60)))
    days = parts.get("BYDAY", ",".join(WEEKDAYS)).split(",")
    anchor = start // SECOND - (then.minute * 60 + then.second) % unit
    found = []
    for second in (minute + each for minute in range(begin, end, 60) for each in sorted(seconds)):
        wall = datetime.fromtimestamp(second, rules)
        turn = (second - (wall.minute * 60 + wall.second) % unit - anchor) // unit
        fits = wall.minute in minutes and wall.hour in wanted.get("BYHOUR", {wall.hour})
        if fits and turn % interval == 0 and second * SECOND >= start and WEEKDAYS[wall.weekday()] in days:
            found.append(second * SECOND)
    return found


@pytest.mark.slow
def test_steps_by_chance_in_zones() -> None:
    """The zones' offsets are whole minutes since 1970, so that the brute force may look once a minute."""
    given = 0
    for chance in chances(55_452_000, 50):
        name, year = chance.choice(ZONES), chance.randint(1972, 2100)
        around = chance.choice(changes(name, year) or [day_number(year, 3, 1) * DAY])
        freq = chance.choice(("HOURLY", "HOURLY", "MINUTELY", "SECONDLY"))
        interval = chance.choice((1, 1, 2, 3, 7, 24, 90)) if freq != "SECONDLY" else chance.choice((1, 7, 60, 90, 5400))
        parts = {"FREQ": freq, "INTERVAL": str(interval)}
        for key, likely, high in (("BYHOUR", 0.3, 4), ("BYMINUTE", 0.4, 59), ("BYSECOND", 0.3, 59)):
            if chance.random() < likely:
                parts[key] = numbers(chance, 0, high, 4)
        if chance.random() < 0.2:
            parts["BYDAY"] = "SA,SU,MO,FR"
        start = around - chance.choice((0, 1, 30, 400)) * DAY - chance.randrange(86400) * SECOND
        begin, end = around // SECOND - 30 * 3600, around // SECOND + (30 if freq != "SECONDLY" else 5) * 3600
        begin = begin if freq != "SECONDLY" else around // SECOND - 5 * 3600
        text = ";".join(f"{key}={value}" for key, value in parts.items())
        expected = by_the_clock(parts, start, name, begin, end)
        try:
            found = Recurrence.parse(text, zone(name), start).after(begin * SECOND - 1)
        except ExpressionError as error:
            assert "never comes" in error.message, (text, error)
            assert not expected, (name, start, text)
            continue
        assert list(takewhile(lambda each, end=end: each < end * SECOND, found)) == expected, (name, start, text)
        given += bool(expected)
    assert given > 20


def test_numbers_of_weeks() -> None:
    """A week has the year of its fourth day (RFC 5545, BYWEEKNO; with Monday first that is ISO 8601's)."""
    years = (*range(1976, 2001), *range(2097, 2105))
    for wkst in (0, 2, 6):
        for year in years:
            expected: dict[int, list[int]] = {}
            first = day_number(year, 1, 1)
            for day in range(first, day_number(year + 1, 1, 1)):
                middle = day - (weekday(day) - wkst) % 7 + 3
                of = civil(middle)[0]
                number = (middle - day_number(of, 1, 1)) // 7 + 1
                left = (day_number(of + 1, 1, 1) - 1 - middle) // 7 + 1
                expected.setdefault(number, []).append(day - first)
                expected.setdefault(-left, []).append(day - first)
            for number in (1, 2, 9, 51, 52, 53, -1, -2, -52, -53):
                assert list(Filter(weeks=(number,), wkst=wkst).offsets(year)) == expected.get(number, []), (
                    year,
                    number,
                )
