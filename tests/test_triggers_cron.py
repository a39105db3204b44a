"""Cron lines: what they say, against cronsim and against a walk minute by minute.

``VIGIE_FUZZ=20000`` makes the walks as many lines long.
"""

from __future__ import annotations

import calendar
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from vigie.errors import ExpressionError
from vigie.triggers.cron import Cron
from vigie.triggers.wall import DAY, HOUR, LAST_DAY, MINUTE, SECOND, Zone, day_number

NAMES = ("Europe/Paris", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "UTC")
ZONES = {name: Zone(name, ZoneInfo(name)) for name in (*NAMES, "America/St_Johns")}
GREENWICH, PARIS = ZONES["UTC"], ZONES["Europe/Paris"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LINES = int(os.environ.get("VIGIE_FUZZ") or 400)


def at(text: str, zone: Zone = GREENWICH) -> int:
    return round((datetime.fromisoformat(text).replace(tzinfo=zone.rules) - EPOCH) / timedelta(microseconds=1))


def firings(text: str, since: str, count: int, zone: Zone = GREENWICH, **options: object) -> list[str]:
    found = islice(Cron.parse(text, zone, **options).after(at(since, zone)), count)
    shown = [(EPOCH + timedelta(microseconds=each)).astimezone(zone.rules).replace(tzinfo=None) for each in found]
    return [each.isoformat(" ", "seconds" if each.second else "minutes") for each in shown]


# What a line means --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/20 * * * *", ["2026-01-01 00:20", "2026-01-01 00:40", "2026-01-01 01:00"]),
        ("5/25 3 * * *", ["2026-01-01 03:05", "2026-01-01 03:30", "2026-01-01 03:55"]),
        ("10-50/20,7 3 * * *", ["2026-01-01 03:07", "2026-01-01 03:10", "2026-01-01 03:30"]),
        ("0 12 * JAN,mar,Octo MON", ["2026-01-05 12:00", "2026-01-12 12:00", "2026-01-19 12:00"]),
        ("0 0 * february friday", ["2026-02-06 00:00", "2026-02-13 00:00", "2026-02-20 00:00"]),
        ("0 0 ? * ?", ["2026-01-02 00:00", "2026-01-03 00:00", "2026-01-04 00:00"]),
        ("30 15 10 * * *", ["2026-01-01 10:15:30", "2026-01-02 10:15:30", "2026-01-03 10:15:30"]),
        ("0 0 0 1 1 * 2027,2030", ["2027-01-01 00:00", "2030-01-01 00:00"]),
        # The last day, days before it, working days: 31 January 2026 is a Saturday.
        ("0 0 L * *", ["2026-01-31 00:00", "2026-02-28 00:00", "2026-03-31 00:00"]),
        ("0 0 l-3 * *", ["2026-01-28 00:00", "2026-02-25 00:00", "2026-03-28 00:00"]),
        ("0 0 29-L * *", ["2026-01-29 00:00", "2026-01-30 00:00", "2026-01-31 00:00"]),
        ("0 0 LW * *", ["2026-01-30 00:00", "2026-02-27 00:00", "2026-03-31 00:00"]),
        ("0 0 15W,1w feb,mar *", ["2026-02-02 00:00", "2026-02-16 00:00", "2026-03-02 00:00"]),
        ("0 0 L-1W * *", ["2026-01-30 00:00", "2026-02-27 00:00", "2026-03-30 00:00"]),
        ("0 0 1W aug *", ["2026-08-03 00:00", "2027-08-02 00:00", "2028-08-01 00:00"]),
        ("0 0 31W * *", ["2026-01-30 00:00", "2026-03-31 00:00", "2026-05-29 00:00"]),
        # Weekdays of a month.
        ("0 0 * * 5#2", ["2026-01-09 00:00", "2026-02-13 00:00", "2026-03-13 00:00"]),
        ("0 0 * * 5L", ["2026-01-30 00:00", "2026-02-27 00:00", "2026-03-27 00:00"]),
        ("0 0 * * fri#L", ["2026-01-30 00:00", "2026-02-27 00:00", "2026-03-27 00:00"]),
        ("0 0 * * sat-sun#1", ["2026-01-03 00:00", "2026-01-04 00:00", "2026-02-01 00:00"]),
        ("0 0 * * 0#5,7L", ["2026-01-25 00:00", "2026-02-22 00:00", "2026-03-29 00:00"]),
        # Sunday is 0 and 7.
        ("0 0 * * 7", ["2026-01-04 00:00", "2026-01-11 00:00", "2026-01-18 00:00"]),
        ("0 0 * * sat-sun", ["2026-01-03 00:00", "2026-01-04 00:00", "2026-01-10 00:00"]),
        ("0 0 * * 6-0", ["2026-01-03 00:00", "2026-01-04 00:00", "2026-01-10 00:00"]),
        ("0 0 * * 7-1", ["2026-01-04 00:00", "2026-01-05 00:00", "2026-01-11 00:00"]),
        ("0 0 * * 7-0", ["2026-01-04 00:00", "2026-01-11 00:00", "2026-01-18 00:00"]),
        ("0 0 * * 7-7", ["2026-01-04 00:00", "2026-01-11 00:00", "2026-01-18 00:00"]),
        # Both day fields: either, but both where one begins with a star, or with a plus.
        ("0 0 13 * fri", ["2026-01-02 00:00", "2026-01-09 00:00", "2026-01-13 00:00"]),
        ("0 0 */2 * fri", ["2026-01-09 00:00", "2026-01-23 00:00", "2026-02-13 00:00"]),
        ("0 0 ? * fri", ["2026-01-02 00:00", "2026-01-09 00:00", "2026-01-16 00:00"]),
        ("0 0 1-31/2 * */5", ["2026-01-09 00:00", "2026-01-11 00:00", "2026-01-23 00:00"]),
        ("0 0 13 * +fri", ["2026-02-13 00:00", "2026-03-13 00:00", "2026-11-13 00:00"]),
        ("@yearly", ["2027-01-01 00:00", "2028-01-01 00:00", "2029-01-01 00:00"]),
        ("@annually", ["2027-01-01 00:00", "2028-01-01 00:00", "2029-01-01 00:00"]),
        ("@monthly", ["2026-02-01 00:00", "2026-03-01 00:00", "2026-04-01 00:00"]),
        (" @Weekly ", ["2026-01-04 00:00", "2026-01-11 00:00", "2026-01-18 00:00"]),
        ("@daily", ["2026-01-02 00:00", "2026-01-03 00:00", "2026-01-04 00:00"]),
        ("@midnight", ["2026-01-02 00:00", "2026-01-03 00:00", "2026-01-04 00:00"]),
        ("@hourly", ["2026-01-01 01:00", "2026-01-01 02:00", "2026-01-01 03:00"]),
    ],
)
def test_what_it_means(text: str, expected: list[str]) -> None:
    assert firings(text, "2026-01-01 00:00", 3) == expected


def test_the_number_of_fields_says_what_they_are_unless_told() -> None:
    assert firings("0 0 1 1 * 2030", "2026-01-01 00:00", 3, seconds=False) == ["2030-01-01 00:00"]
    assert firings("30 0 0 1 1 *", "2026-01-01 00:00", 1, seconds=True) == ["2026-01-01 00:00:30"]
    for text, seconds in (("* * * * *", True), ("* * * * * * *", False)):
        with pytest.raises(ExpressionError, match="fields instead of"):
            Cron.parse(text, GREENWICH, seconds=seconds)


def test_a_hash_depends_on_the_seed_and_the_field_alone() -> None:
    assert firings("H H * * *", "2026-01-01 00:00", 2, seed="nightly") == ["2026-01-01 14:40", "2026-01-02 14:40"]
    assert firings("H/20 3 * * *", "2026-01-01 00:00", 3, seed="nightly") == [
        "2026-01-01 03:00", "2026-01-01 03:20", "2026-01-01 03:40"
    ]  # fmt: skip
    seen = {
        tuple(getattr(Cron.parse("H(10-19)/4 H H H H", GREENWICH, seed=str(seed)), "_clock").minutes)  # noqa: B009
        for seed in range(100)
    }
    assert seen == {(10, 14, 18), (11, 15, 19), (12, 16), (13, 17)}
    short = {Cron.parse("H(10-12)/5 * * * *", GREENWICH, seed=str(seed))._clock.minutes for seed in range(100)}
    assert short == {(10,), (11,), (12,)}
    with pytest.raises(ExpressionError, match="minute H has no name to be spread by"):
        Cron.parse("H * * * *", GREENWICH)


def test_hashes_spread_over_all_times_and_only_days_that_each_month_has() -> None:
    lines = [Cron.parse("H H H H H", GREENWICH, seed=f"job {number}") for number in range(2000)]
    times = {(line._clock.hours[0], line._clock.minutes[0]) for line in lines}
    assert len(times) > 1440 * 0.7
    assert {day for line in lines for day in line._days.dates.numbers} == set(range(1, 29))
    assert {day for line in lines for day in line._days.weekdays.numbers} == set(range(7))


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("30 2 * * *", True), ("0 1-5 * * *", True), ("0,30 2,3 * * *", True), ("15 30 2 * * *", True),
        ("0-59 2 * * *", True), ("H H * * *", True), ("@daily", True),
        ("* 2 * * *", False), ("30 * * * *", False), ("*/5 2 * * *", False), ("30 */2 * * *", False),
        ("5/10 2 * * *", False), ("0-50/10 2 * * *", False), ("0 1-5/2 * * *", False), ("5,*/20 2 * * *", False),
        ("? 2 * * *", False), ("*/5 30 2 * * *", False), ("H/10 2 * * *", False), ("@hourly", False),
    ],
)  # fmt: skip
def test_a_point_in_time_has_neither_a_wildcard_nor_a_step(text: str, fixed: bool) -> None:
    assert Cron.parse(text, PARIS, seed="nightly").fixed is fixed


def test_days_on_which_clocks_are_set() -> None:
    spring, autumn = "2026-03-28 12:00", "2026-10-24 12:00"
    assert firings("30 2 * * *", spring, 2, PARIS) == ["2026-03-29 03:00", "2026-03-30 02:30"]
    assert firings("30 2 * * *", autumn, 2, PARIS) == ["2026-10-25 02:30", "2026-10-26 02:30"]
    assert firings("30 2,3 * * *", spring, 2, PARIS) == ["2026-03-29 03:00", "2026-03-29 03:30"]
    assert firings("30 * 29 3 *", spring, 3, PARIS) == ["2026-03-29 00:30", "2026-03-29 01:30", "2026-03-29 03:30"]
    # Newfoundland's clocks went back from 00:01: what they show at midnight, they show an hour later.
    midnight, zone = "2006-10-29 00:00", ZONES["America/St_Johns"]
    assert firings("30 23 * * *", midnight, 2, zone) == ["2006-10-29 23:30", "2006-10-30 23:30"]
    assert firings("*/30 23 * * *", midnight, 2, zone) == ["2006-10-28 23:30", "2006-10-29 23:00"]
    twice = Cron.parse("0 2-3/1 * * *", PARIS).after(at(autumn, PARIS))
    assert [(each - at("2026-10-25 00:00", PARIS)) // HOUR for each in islice(twice, 3)] == [2, 3, 4]


def test_the_calendar_has_ends() -> None:
    assert list(Cron.parse("0 0 0 * * * 2025", GREENWICH).after(at("2026-01-01 00:00"))) == []
    last = Cron.parse("0 0 * * *", PARIS).after((LAST_DAY - 2) * DAY)
    assert [each // HOUR for each in last] == [(LAST_DAY - 2) * 24 + 23, (LAST_DAY - 1) * 24 + 23]
    assert list(Cron.parse("0 0 * * *", PARIS).after((LAST_DAY + 5) * DAY)) == []
    assert next(Cron.parse("0 0 * * *", GREENWICH).after(-(10**20))) == day_number(1, 1, 1) * DAY


def test_a_line_is_a_value() -> None:
    line = Cron.parse(" 0 0 * * *", PARIS)
    assert line == Cron.parse("0 0 * * *", PARIS) != Cron.parse("0 0 * * *", GREENWICH)
    assert len({line, Cron.parse("0 0 * * *", PARIS)}) == 1
    assert line.text == "0 0 * * *"
    assert line.zone is PARIS


# What is wrong with a line ------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what", "place", "expected"),
    [
        ("0 25 * * *", "hour 25 is not in 0..23", 3, "0 to 23, *, a range, or a step as */2"),
        ("60 * * * *", "minute 60 is not in 0..59", 1, "0 to 59"),
        ("99 0 0 * * *", "second 99 is not in 0..59", 1, "0 to 59"),
        ("0  0 1,32 * *", "day-of-month 32 is not in 1..31", 8, "1 to 31, *, a range, or a step as */2, L"),
        ("0 0 32W * *", "day-of-month 32 is not in 1..31", 5, "LW or 15W"),
        ("0 0 L-31 * *", "day-of-month L-31 is before each month", 7, "L-1 to L-30"),
        ("0 0 L/2 * *", "day-of-month L takes no step", 6, "L alone"),
        ("0 0 * 0-5 *", "month 0 is not in 1..12", 7, "1 to 12 or jan to dec"),
        ("0 0 * 1-foo *", 'month "foo" is not a number or a name', 9, "jan to dec"),
        ("0 0 * ja *", 'month "ja" is not a number or a name', 7, "jan to dec"),
        ("0 0 * nov-feb *", "month range nov-feb runs backwards", 7, "feb-nov, or nov-dec,jan-feb"),
        ("0 0 5-1 * *", "day-of-month range 5-1 runs backwards", 5, "1-5, or 5-31,1-1"),
        ("0 0 * * fri-tue", "day-of-week range fri-tue runs backwards", 9, "tue-fri, or fri-sat,sun-tue"),
        ("0 0 * * 8", "day-of-week 8 is not in 0..7", 9, "fri#2 or fri#L (the last)"),
        ("0 0 * * L", 'day-of-week "L" is not a number or a name', 9, "fri#L"),
        ("0 0 * * mon#6", "day-of-week mon#6: no month has that", 13, "1 to 5, or L"),
        ("0 0 * * mon#0", "day-of-week mon#0: no month has that", 13, "1 to 5, or L"),
        ("0 0 * * 5L/2", "day-of-week 5L takes no step", 11, "5L alone"),
        ("0 0 * * +", "day-of-week lacks a number or a name", 10, "0 to 7"),
        ("0 0 +1 * *", 'day-of-month "+1" is not a number', 5, "1 to 31"),
        ("a * * * *", 'minute "a" is not a number', 1, "0 to 59"),
        ("¹ * * * *", 'minute "¹" is not a number', 1, "0 to 59"),
        ("1_0 * * * *", 'minute "1_0" is not a number', 1, "0 to 59"),
        ("L * * * *", 'minute "L" is not a number', 1, "0 to 59"),
        ("1,,2 * * * *", "minute lacks a number", 3, "0 to 59"),
        ("5- * * * *", "minute lacks a number", 3, "0 to 59"),
        ("*/0 * * * *", "minute step 0 is not a number from 1 on", 3, "a step as in */2"),
        ("5/x * * * *", "minute step x is not a number from 1 on", 3, "a step as in 5/2"),
        ("*/ * * * *", "minute has no step after /", 3, "a step as in */2"),
        ("/5 * * * *", "minute lacks a number", 1, "a step as */2"),
        ("1-99999999999999999999 * * * *", "minute 99999999999999999999 is not in 0..59", 3, "0 to 59"),
        ("H(50-99) * * * *", "minute 99 is not in 0..59", 6, "0 to 59"),
        ("0 0 0 1 1 * 1969", "year 1969 is not in 1970..9999", 13, "1970 to 9999"),
        ("0 0 0 1 1 * H", 'year "H" is not a number', 13, "1970 to 9999"),
        ("* * * *", "4 fields instead of 5, 6 or 7", 8, "minute hour day-of-month month day-of-week; six"),
        ("*", "1 field instead of 5, 6 or 7", 2, "minute hour"),
        ("  ", "no fields instead of 5, 6 or 7", 1, "minute hour"),
        ("* * * * * * * x", "8 fields instead of 5, 6 or 7", 15, "minute hour"),
        ("TZ=Europe/Paris 0 0 * * *", "a cron line has no zone in it, as TZ=Europe/Paris", 4, "the zone beside it"),
        ("@reboot", "@reboot is no time: write at boot", 1, "at boot"),
        (" @every 5m", "@every is no cron: write every 5m", 2, "every 5m"),
        ("@fortnightly", "@fortnightly is not known", 1, "@yearly @annually @monthly"),
        ("0 0 30 2 *", "it never fires: no day is the 30th of February", 5, "a day that comes"),
        ("0 0 31 4,6 *", "it never fires: no day is the 31st of April and June", 5, "a day that comes"),
        ("0 0 30W 2 *", "it never fires: no day is the working day nearest the 30th of February", 5, "a day"),
        ("0 0 L-29 2 *", "it never fires: no day is the 29th day before the last day of February", 5, "a day"),
        ("0 0 8 * +mon#1", "it never fires: no day is the 8th of the month and the 1st Monday", 5, "a day"),
        ("0 0 0 29 2 * 2026-2027", "it never fires: no day is the 29th of February in 2026 and 2027", 7, "a day"),
    ],
)
def test_what_is_wrong(text: str, what: str, place: int, expected: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Cron.parse(text, GREENWICH, seed="nightly")
    assert caught.value.message == f'{what}: "{text}"'
    assert caught.value.at == place - 1
    assert caught.value.hint.startswith(f"at character {place}: expected ")
    assert expected in caught.value.hint


# How a line was read ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("*/25 * * * *", "at :00, :25 and :50 of every hour"),
        ("5-9,30 * * * *", "at :05 to :09 and :30 of every hour"),
        ("0 * * * *", "every hour"),
        ("30 2 * * *", "at 02:30 every day"),
        ("0 8,12,18 * * *", "at 08:00, 12:00 and 18:00 every day"),
        ("0 */2 * * *", "every 2 hours"),
        ("30 */2 * * *", "every 2 hours at :30"),
        ("*/15 9-17 * * mon-fri", "every 15 minutes from 09:00 to 17:45 on Monday to Friday"),
        ("* 9-17 * * *", "every minute from 09:00 to 17:59 every day"),
        ("0 9-17 * * *", "every hour from 09:00 to 17:00 every day"),
        ("5,35 9-17 * * 6,7", "at :05 and :35 of the hours 9 to 17 on Saturday and Sunday"),
        ("*/10 1,5,7 * * *", "every 10 minutes of the hours 1, 5 and 7 every day"),
        ("0 1,3,5,8-11 * * *", "at :00 of the hours 1, 3, 5 and 8 to 11 every day"),
        ("*/15 * * * * *", "every 15 seconds"),
        ("* * * * * *", "every second"),
        ("30 * * * * *", "at second 30 of every minute"),
        ("30 0 12 * * *", "at 12:00:30 every day"),
        ("*/5 30 2 * * *", "every 5 seconds of 02:30 every day"),
        ("15,45 */10 9-17 * * 1", "at second 15 and 45 of each minute, every 10 minutes from 09:00 to 17:50 on Monday"),
        ("0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00 every day"),
        ("0,30 */2 * * *", "every 30 minutes of the hours 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20 and 22"),
        ("* 0 * * *", "every minute from 00:00 to 00:59 every day"),
        ("0 0 1 * *", "at 00:00 on the 1st of the month"),
        ("0 0 1-7,11-13,22 * *", "at 00:00 on the 1st to 7th, the 11th to 13th and the 22nd of the month"),
        ("1 1 L * *", "at 01:01 on the last day of the month"),
        ("0 0 29 2 *", "at 00:00 on the 29th of February"),
        (
            "0 0 1,15,L feb-apr,dec *",
            "at 00:00 on the 1st, the 15th and the last day of February to April and December",
        ),
        ("0 0 L-3 * *", "at 00:00 on the 3rd day before the last day of the month"),
        ("0 0 LW,15W * *", "at 00:00 on the last working day and the working day nearest the 15th of the month"),
        ("0 0 */2 * mon", "at 00:00 on each 2nd day from the 1st of the month if it is Monday"),
        ("0 0 13 * 5", "at 00:00 on the 13th of the month or on Friday"),
        ("0 0 13 1 0,1", "at 00:00 on the 13th of January or on Monday or Sunday in January"),
        ("0 0 13 * +fri,sat", "at 00:00 on the 13th of the month if it is Friday or Saturday"),
        ("0 0 * * 5L,1#2", "at 00:00 on the 2nd Monday and the last Friday of the month"),
        ("0 0 * 6-8 *", "at 00:00 every day in June to August"),
        ("0 0 1-31 * 1", "at 00:00 every day"),
        ("0 0 0 1 1 * 2027-2029", "at 00:00 on the 1st of January in 2027 to 2029"),
        ("@weekly", "at 00:00 on Sunday"),
        ("H 4 * * *", "at 04:40 every day"),
    ],
)
def test_how_it_was_read(text: str, words: str) -> None:
    assert Cron.parse(text, GREENWICH, seed="nightly").describe() == words


# Lines by chance, and what each means in datetime's words -----------------------

Holds = Callable[[date], bool]


@dataclass(frozen=True)
class Line:
    """A line of 5 or 6 fields, and what it means."""

    text: str
    seconds: set[int]
    minutes: set[int]
    hours: set[int]
    months: set[int]
    on: Holds

    def matches(self, shown: datetime) -> bool:
        return shown.minute in self.minutes and shown.hour in self.hours and self.day(shown.date())

    def day(self, day: date) -> bool:
        return day.month in self.months and self.on(day)


class Chance:
    """Makes lines: in cronsim's dialect, or in ours."""

    def __init__(self, seed: int, *, ours: bool = False) -> None:
        self.random = random.Random(seed)
        self.ours = ours

    def day(self, known: list[int], share: float) -> int:
        """Choose a day (in µs) from 1970 to 2100: so many of the known ones."""
        if known and self.random.random() < share:
            return self.random.choice(known)
        return self.random.randrange(day_number(2100, 1, 1)) * DAY

    def line(self) -> Line:
        second, seconds = self.numbers(0, 59) if self.random.random() < 0.25 else ("", {0})
        minute, minutes = self.numbers(0, 59)
        hour, hours = self.numbers(0, 23)
        dates, on_date = self.days(self.date)
        month, months = self.numbers(1, 12) if self.random.random() < 0.4 else ("*", set(range(1, 13)))
        weekdays, on_weekday = self.days(self.weekday)
        both = dates[0] in "*?" or weekdays[0] in "*?"
        if not both and self.ours and self.random.random() < 0.5:
            both, weekdays = True, f"+{weekdays}"

        def on(day: date) -> bool:
            return on_date(day) and on_weekday(day) if both else on_date(day) or on_weekday(day)

        text = f"{second} {minute} {hour} {dates} {month} {weekdays}".strip()
        return Line(text, seconds, minutes, hours, months, on)

    def numbers(self, low: int, high: int) -> tuple[str, set[int]]:
        items = [self.item(low, high) for _ in range(self.random.choice((1, 1, 2, 3)))]
        return ",".join(text for text, _ in items), set().union(*(numbers for _, numbers in items))

    def item(self, low: int, high: int) -> tuple[str, set[int]]:
        chance = self.random
        start, step = chance.randint(low, high), chance.choice((1, 2, 3, 5, 7, 10, 15, 30, 100))
        end = chance.randint(start, high)
        forms = [
            ("?" if self.ours else "*", range(low, high + 1)),
            (f"*/{step}", range(low, high + 1, step)),
            (f"{start}/{step}", range(start, high + 1, step)),
            (f"{start}-{end}/{step}", range(start, end + 1, step)),
            (f"{start}-{end}", range(start, end + 1)),
            (str(start), [start]),
            (str(start), [start]),
        ]
        if start == end:  # cronsim reads 5-5/2 as 5/2
            del forms[3]
        text, numbers = chance.choice(forms)
        return text, set(numbers)

    def days(self, one: Callable[[], tuple[str, Holds]]) -> tuple[str, Holds]:
        if self.random.random() < 0.4:
            return "*", lambda day: True
        items = [one() for _ in range(self.random.choice((1, 1, 2)))]
        return ",".join(text for text, _ in items), lambda day: any(holds(day) for _, holds in items)

    def date(self) -> tuple[str, Holds]:
        number = self.random.randint(1, 31)
        forms: list[tuple[str, Holds]] = [
            ("L", lambda day: day == last_of(day)),
            ("LW", lambda day: day == max(working_days(day))),
        ]
        if self.ours:
            back = number - 1
            forms += [
                (f"L-{back}", lambda day: last_of(day) - day == timedelta(days=back)),
                (f"{number}W", lambda day: day == nearest(day, number)),
                (f"L-{back}W", lambda day: day == nearest(day, last_of(day).day - back)),
                (f"{number}-L", lambda day: day.day >= number),
            ]
        text, numbers = self.item(1, 31)
        return self.random.choice([*forms, *[(text, lambda day: day.day in numbers)] * len(forms)])

    def weekday(self) -> tuple[str, Holds]:
        number, nth = self.random.randint(0, 7), self.random.randint(1, 5)
        name = self.random.choice((str(number), "SUN MON TUE WED THU FRI SAT sun".split()[number]))
        last = f"{self.random.choice((name, number)) if self.ours else number}L"
        forms: list[tuple[str, Holds]] = [
            (f"{name}#{nth}", lambda day: day == nth_of(day, number, nth)),
            (last, lambda day: day.isoweekday() % 7 == number % 7 and (day + timedelta(days=7)).month != day.month),
        ]
        if self.ours:
            start, end = self.random.randint(1, 6), self.random.choice(("sun", "0", "7"))
            forms.append((f"{start}-{end}", lambda day: day.isoweekday() >= start))
            forms.append((f"{number}#L", forms[1][1]))
        text, numbers = self.item(0, 7)
        numbers = {number % 7 for number in numbers}
        return self.random.choice([*forms, *[(text, lambda day: day.isoweekday() % 7 in numbers)] * len(forms)])


def last_of(day: date) -> date:
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])


def working_days(day: date) -> list[date]:
    month = (day.replace(day=number) for number in range(1, last_of(day).day + 1))
    return [each for each in month if each.isoweekday() < 6]


def nearest(day: date, number: int) -> date | None:
    if not 1 <= number <= last_of(day).day:
        return None
    return min(working_days(day), key=lambda each: abs(each.day - number))


def nth_of(day: date, weekday: int, nth: int) -> date | None:
    month = calendar.monthcalendar(day.year, day.month)
    found = [week[(weekday - 1) % 7] for week in month if week[(weekday - 1) % 7]]
    return day.replace(day=found[nth - 1]) if nth <= len(found) else None


def parsed(line: Line, zone: Zone) -> Cron | None:
    """Read a line, or make sure that it never fires: not on one of 40 years' days."""
    try:
        return Cron.parse(line.text, zone)
    except ExpressionError as error:
        assert "never fires" in error.message, line.text
        days = (date(2000, 1, 1) + timedelta(days=number) for number in range(40 * 366))
        assert not any(line.day(day) for day in days), line.text
        return None


@pytest.mark.slow
def test_days_are_those_that_the_fields_allow() -> None:
    """Over 28 years, in which each kind of year comes."""
    chance = Chance(1, ours=True)
    for _ in range(LINES // 16):
        line = chance.line()
        start = date(chance.random.randint(1970, 2070), chance.random.randint(1, 12), 1)
        cron = parsed(line, GREENWICH)
        if cron is None:
            continue
        first = day_number(start.year, start.month, 1)
        expected = [day for day in (start + timedelta(days=each) for each in range(366 * 28)) if line.day(day)]
        found = below(cron._dates(first), first + 366 * 28)
        assert [date(1970, 1, 1) + timedelta(days=day) for day in found] == expected, line.text


def below(numbers: Iterable[int], end: int) -> list[int]:
    return list(takewhile(lambda number: number < end, numbers))


def shown_at(instant: int, zone: Zone) -> datetime:
    return (EPOCH + timedelta(microseconds=instant)).astimezone(zone.rules).replace(tzinfo=None)


def elapsed(line: Line, zone: Zone, start: int, end: int) -> Iterator[int]:
    """Walk minute by minute: does the wall show such a time?"""
    for minute in range(start, end, MINUTE):
        if line.matches(shown_at(minute, zone)):
            yield from (minute + second * SECOND for second in sorted(line.seconds))


def fixed(line: Line, zone: Zone, start: int, end: int) -> Iterator[int]:
    """Walk over the wall minute by minute; what it does not show comes at the next minute that it does."""
    minute, last = shown_at(start - 3 * HOUR, zone), shown_at(end, zone)
    waiting = False
    while minute < last:
        instant = round((minute.replace(tzinfo=zone.rules).astimezone(UTC) - EPOCH) / timedelta(microseconds=1))
        if shown_at(instant, zone) != minute:
            waiting = waiting or line.matches(minute)
        else:
            seconds = line.seconds if line.matches(minute) else set()
            yield from (instant + second * SECOND for second in sorted(seconds | ({0} if waiting else set())))
            waiting = False
        minute += timedelta(minutes=1)


def settings_of(zone: Zone) -> list[int]:
    """Give days about the times at which clocks are set, from 1970 to 2100."""
    days = range(day_number(1970, 1, 2), day_number(2100, 1, 1))
    return [day * DAY for day in days if zone.plain(day) is None]


@pytest.mark.slow
def test_a_walk_minute_by_minute() -> None:
    """Thirty hours each, mostly where clocks are set."""
    chance = Chance(2, ours=True)
    known = {name: settings_of(zone) for name, zone in ZONES.items()}
    fired = dict.fromkeys((True, False), 0)
    for _ in range(LINES // 4):
        line, name = chance.line(), chance.random.choice(list(ZONES))
        zone = ZONES[name]
        start = chance.day(known[name], 0.7) + chance.random.randrange(-24 * 60, 60) * MINUTE
        cron = parsed(line, zone)
        if cron is None:
            continue
        end = start + 30 * HOUR
        walk = (fixed if cron.fixed else elapsed)(line, zone, start, end)
        expected = [each for each in walk if start < each < end]
        assert below(cron.after(start), end) == expected, (line.text, name, start)
        fired[cron.fixed] += len(expected)
    assert all(fired.values())


def plain(instants: Iterable[int], zone: Zone) -> list[int]:
    """Leave out days on which clocks are set and those after: there cronsim jumps past some times."""
    days = ((each, zone.wall(each) // DAY) for each in instants)
    return [each for each, day in days if zone.plain(day) is not None and zone.plain(day - 1) is not None]


@pytest.mark.slow
def test_cronsim_says_the_same() -> None:
    """To the instant where both have a point in time; else apart from the days on which clocks are set."""
    chance = Chance(3)
    known = {name: settings_of(ZONES[name]) for name in NAMES}
    for _ in range(LINES * 2):
        line, name = chance.line(), chance.random.choice(NAMES)
        zone = ZONES[name]
        start = chance.day(known[name], 0.5) - chance.random.randrange(2 * DAY // SECOND) * SECOND
        cron = parsed(line, zone)
        if cron is None:
            continue
        theirs = CronSim(line.text, (EPOCH + timedelta(microseconds=start)).astimezone(zone.rules))
        found = [round((each.astimezone(UTC) - EPOCH) / timedelta(microseconds=1)) for each in islice(theirs, 12)]
        ours = list(islice(cron.after(start), len(found)))  # theirs gives up after 50 years
        if found and not (cron.fixed and theirs.fixup_tz):
            end = min(found[-1], ours[-1])
            found, ours = (plain((each for each in which if each <= end), zone) for which in (found, ours))
        assert ours == found, (line.text, name, start)
