"""Plain phrases: what each means, against a walk over days in ``datetime``, and what is said of a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigie import zones
from vigie.errors import ExpressionError
from vigie.triggers.days import Dates, Days, EachDay, MonthDays, Nth, WeekDays, YearDays
from vigie.triggers.interval import Again, Every, Once
from vigie.triggers.occasions import (
    ENDS,
    LEVELS,
    AtBoot,
    AtLogin,
    Occasion,
    OnFile,
    OnIdle,
    OnJob,
    OnRecord,
)
from vigie.triggers.phrases import parse_phrase
from vigie.triggers.wall import HOUR, LAST_DAY, MINUTE, SECOND

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
ZONES = (
    "Europe/Paris", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "America/St_Johns"
)  # fmt: skip


def us(text: str, zone: str = "Europe/Paris") -> int:
    """Give the instant of an ISO text, local in the zone unless it has an offset."""
    moment = datetime.fromisoformat(text)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))) - EPOCH) // MICROSECOND


def wall(instant: int, zone: str = "Europe/Paris") -> str:
    """Give what clocks on the wall show."""
    shown = (EPOCH + timedelta(microseconds=instant)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return shown.isoformat(" ", "minutes" if not shown.second and not shown.microsecond else "auto")


#: A Friday.
NOW = us("2026-11-27T08:30:12.345")


def read(text: str, zone: str = "Europe/Paris", now: int = NOW) -> object:
    return parse_phrase(text, zones.load(zone), now)


def comes(text: str, count: int = 3, zone: str = "Europe/Paris", now: int = NOW) -> list[str]:
    """Give the next wall times of a phrase."""
    trigger = parse_phrase(text, zones.load(zone), now)
    return [wall(each, zone) for each in islice(trigger.after(now), count)]


# What each means ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("phrases", "expected"),
    [
        (["daily 22:00", "daily at 22:00", "every day at 22:00", "DAILY 22:00", " every  day 22:00 ", "daily 22:00:00"],
         ["2026-11-27 22:00", "2026-11-28 22:00", "2026-11-29 22:00"]),
        (["daily", "daily midnight", "every day", "every day at 00:00"],
         ["2026-11-28 00:00", "2026-11-29 00:00", "2026-11-30 00:00"]),
        (["daily 08:00,12:00,18:00", "daily 18:00, 08:00 , 12:00", "daily 08:00 and 12:00 and 18:00,08:00",
          "every day at 8:00, noon and 18:00"],
         ["2026-11-27 12:00", "2026-11-27 18:00", "2026-11-28 08:00"]),
        (["weekdays 08:00", "every weekday at 08:00", "weekly mon-fri 08:00", "every monday-friday 08:00",
          "weekly mon..fri 08:00"],
         ["2026-11-30 08:00", "2026-12-01 08:00", "2026-12-02 08:00"]),
        (["weekends 10:00", "every weekend 10:00", "weekly sat,sun 10:00", "weekly sat-sun 10:00"],
         ["2026-11-28 10:00", "2026-11-29 10:00", "2026-12-05 10:00"]),
        (["weekly mon 08:00", "every monday 08:00", "every mon at 08:00", "weekly on mondays at 08:00",
          "every week on mon 08:00", "weekly 08:00", "every week 08:00"],
         ["2026-11-30 08:00", "2026-12-07 08:00", "2026-12-14 08:00"]),
        (["weekly mon,thu 08:00", "every thursday and monday 08:00", "weekly Mon, Thu at 08:00"],
         ["2026-11-30 08:00", "2026-12-03 08:00", "2026-12-07 08:00"]),
        (["weekly fri-mon 08:00", "weekly fri,sat,sun,mon 08:00"],
         ["2026-11-28 08:00", "2026-11-29 08:00", "2026-11-30 08:00"]),
        (["monthly 1 06:00", "monthly 1st 06:00", "every month on 1 06:00", "monthly on the 1st at 06:00",
          "monthly first day 06:00", "monthly 06:00"],
         ["2026-12-01 06:00", "2027-01-01 06:00", "2027-02-01 06:00"]),
        (["monthly 1,15 06:00", "monthly 15 and 1 06:00", "monthly 1st,15th,1 06:00"],
         ["2026-12-01 06:00", "2026-12-15 06:00", "2027-01-01 06:00"]),
        (["monthly last 18:00", "monthly last day 18:00", "monthly on the last day at 18:00"],
         ["2026-11-30 18:00", "2026-12-31 18:00", "2027-01-31 18:00"]),
        (["monthly last fri 18:00", "every month on the last friday at 18:00"],
         ["2026-11-27 18:00", "2026-12-25 18:00", "2027-01-29 18:00"]),
        (["monthly first mon 09:00", "monthly 1st monday 09:00"],
         ["2026-12-07 09:00", "2027-01-04 09:00", "2027-02-01 09:00"]),
        (["monthly 2nd tue 09:00", "monthly second tue 09:00"],
         ["2026-12-08 09:00", "2027-01-12 09:00", "2027-02-09 09:00"]),
        (["monthly 5th mon", "monthly fifth mon 00:00"],
         ["2026-11-30 00:00", "2027-03-29 00:00", "2027-05-31 00:00"]),
        (["monthly last weekday 18:00"], ["2026-11-30 18:00", "2026-12-31 18:00", "2027-01-29 18:00"]),
        (["monthly 1st weekend 18:00"], ["2026-12-05 18:00", "2027-01-02 18:00", "2027-02-06 18:00"]),
        (["monthly 31 06:00"], ["2026-12-31 06:00", "2027-01-31 06:00", "2027-03-31 06:00"]),
        (["yearly 12-24 18:00", "yearly dec 24 18:00", "yearly 24 dec 18:00", "every year on december 24 at 18:00",
          "yearly on the 24th of december 18:00", "annually dec 24th 18:00"],
         ["2026-12-24 18:00", "2027-12-24 18:00", "2028-12-24 18:00"]),
        (["yearly 02-29", "yearly feb 29 midnight"], ["2028-02-29 00:00", "2032-02-29 00:00", "2036-02-29 00:00"]),
        (["yearly dec 24, jan 6", "yearly 01-06 and 12-24"],
         ["2026-12-24 00:00", "2027-01-06 00:00", "2027-12-24 00:00"]),
        (["hourly", "hourly :00", "every hour at :00"], ["2026-11-27 09:00", "2026-11-27 10:00", "2026-11-27 11:00"]),
        (["hourly :15", "hourly at :15", "every hour at :15"],
         ["2026-11-27 09:15", "2026-11-27 10:15", "2026-11-27 11:15"]),
        (["hourly :45,:31", "hourly :31 and :45"], ["2026-11-27 08:31", "2026-11-27 08:45", "2026-11-27 09:31"]),
        (["hourly :30:13"], ["2026-11-27 08:30:13", "2026-11-27 09:30:13", "2026-11-27 10:30:13"]),
        (["every 5m", "every 5 minutes", "every 300s", "every PT5M", "every 300 seconds"],
         ["2026-11-27 08:35:12.345000", "2026-11-27 08:40:12.345000", "2026-11-27 08:45:12.345000"]),
        (["every hour", "every 1h", "every 60 minutes"],
         ["2026-11-27 09:30:12.345000", "2026-11-27 10:30:12.345000", "2026-11-27 11:30:12.345000"]),
        (["every 2 hours", "every 1h 60m", "every 1h60m", "every 1 hour 60 minutes"],
         ["2026-11-27 10:30:12.345000", "2026-11-27 12:30:12.345000", "2026-11-27 14:30:12.345000"]),
        (["every 5m from 08:00", "every 5 minutes from 2026-11-27T08:00", "every 5m from 2026-11-27 08:00",
          "every 5m from 2026-11-27T07:00Z"],
         ["2026-11-27 08:35", "2026-11-27 08:40", "2026-11-27 08:45"]),
        (["every 7h from 09:00", "every 7h from 2026-11-26T09:00"],
         ["2026-11-27 13:00", "2026-11-27 20:00", "2026-11-28 03:00"]),
        (["every 7h from 2027-01-01", "every 7h from 2027-01-01T00:00"],
         ["2027-01-01 00:00", "2027-01-01 07:00", "2027-01-01 14:00"]),
        (["every 2 weeks on mon,thu 08:00", "every other week on mon,thu at 08:00"],
         ["2026-12-07 08:00", "2026-12-10 08:00", "2026-12-21 08:00"]),
        (["every 2 weeks on sat 08:00"], ["2026-11-28 08:00", "2026-12-12 08:00", "2026-12-26 08:00"]),
        (["every 3 days at 04:00", "every 3days 04:00"], ["2026-11-30 04:00", "2026-12-03 04:00", "2026-12-06 04:00"]),
        (["every other day at 09:00", "every 2 days 09:00"],
         ["2026-11-27 09:00", "2026-11-29 09:00", "2026-12-01 09:00"]),
        (["every 2 months on 1 06:00"], ["2027-01-01 06:00", "2027-03-01 06:00", "2027-05-01 06:00"]),
        (["every 3 months on last fri at 06:00"], ["2027-02-26 06:00", "2027-05-28 06:00", "2027-08-27 06:00"]),
        (["every 2 years on dec 24"], ["2026-12-24 00:00", "2028-12-24 00:00", "2030-12-24 00:00"]),
        (["on 2026-12-24 18:00", "on 2026-12-24T18:00", "at 2026-12-24T18:00", "at 2026-12-24 18:00",
          "on 2026-12-24 at 18:00", "on 2026-12-24T17:00Z", "on 2026-12-24T22:30+0530"],
         ["2026-12-24 18:00"]),
        (["on 2026-12-31, 2026-12-24 18:00,06:00"],
         ["2026-12-24 06:00", "2026-12-24 18:00", "2026-12-31 06:00"]),
        (["at 18:00", "at 18:00:00"], ["2026-11-27 18:00"]),
        (["at 08:30"], ["2026-11-28 08:30"]),
        (["at noon"], ["2026-11-27 12:00"]),
        (["in 20m", "in 20 minutes", "in 1200s"], ["2026-11-27 08:50:12.345000"]),
        (["daily 08:00 every 10m for 25m", "every day at 08:00 every 10 minutes for 25 minutes"],
         ["2026-11-28 08:00", "2026-11-28 08:10", "2026-11-28 08:20"]),
        (["daily 08:25 every 10m for 20m"], ["2026-11-27 08:35", "2026-11-28 08:25", "2026-11-28 08:35"]),
        (["daily 08:31:30.5"], ["2026-11-27 08:31:30.500000",
         "2026-11-28 08:31:30.500000", "2026-11-29 08:31:30.500000"]),
    ],
)  # fmt: skip
def test_phrases_and_when_they_come(phrases: list[str], expected: list[str]) -> None:
    for phrase in phrases:
        assert comes(phrase) == expected, phrase


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("daily 22:00", "at 22:00 every day"),
        ("daily 08:00,12:00:30", "at 08:00 and 12:00:30 every day"),
        ("weekdays 08:00", "at 08:00 on Monday to Friday"),
        ("weekly mon,thu 08:00", "at 08:00 on Monday and Thursday"),
        ("weekly mon-sun", "at 00:00 every day"),
        ("monthly 1,15 06:00", "at 06:00 on day 1 and day 15 of each month"),
        ("monthly last, 5th mon", "at 00:00 on the fifth Monday (where there is one) and the last day of each month"),
        ("monthly 3rd weekend, last fri", "at 00:00 on the third Saturday or Sunday and the last Friday of each month"),
        ("monthly last weekday", "at 00:00 on the last weekday (Monday to Friday) of each month"),
        ("monthly 31", "at 00:00 on day 31 (where there is one) of each month"),
        ("yearly 02-29, dec 24", "at 00:00 on 29 February (in leap years) and 24 December of every year"),
        ("every 2 weeks on mon 08:00", "at 08:00 on Monday of every 2 weeks (counted from 2026-11-27)"),
        ("every 3 days", "at 00:00 every 3 days (counted from 2026-11-27)"),
        ("every 2 months", "at 00:00 on day 1 of every 2 months (counted from 2026-11)"),
        ("every 2 years", "at 00:00 on 1 January of every 2 years (counted from 2026)"),
        ("hourly :15", "at :15 of every hour"),
        ("every 5m", "every 5 minutes"),
        ("every 1h", "every hour"),
        ("every 90m", "every 90 minutes"),
        ("every 1m30s500ms", "every 1m30s500ms"),
        ("every 5m from 08:00", "every 5 minutes, counted from 2026-11-27T08:00:00+01:00"),
        ("every 5m after start", "5 minutes after each run's start"),
        ("every 1h after end", "1 hour after each run's end"),
        ("on 2026-12-24 18:00", "at 18:00 on 2026-12-24"),
        ("at 18:00", "once, at 2026-11-27T18:00:00+01:00"),
        ("in 20m", "once, at 2026-11-27T08:50:12.345000+01:00"),
        ("daily 08:00 every 10m for 2h", "at 08:00 every day, then every 10 minutes for 2 hours"),
        ("at boot", "once after the machine has started"),
        ("at login", "at the first session of the user"),
        ("on file /in/*.csv", "when a file /in/*.csv has not changed for 2 seconds"),
        ("on file /in/*.csv created", "when a file /in/*.csv is new"),
        ("on job b* failed,lost", "when a job b* ends as failed or lost"),
        ("on job tag x schedule s ended", "when a job tagged x of schedule s ends"),
        ("on record level error", "when a job writes a record of level error or above"),
        ("on record a matching disk full", 'when a job a writes a record that contains "disk full"'),
        ("on idle 10m load 0.2", "when the load has been under 0.2 for 10 minutes"),
    ],
)  # fmt: skip
def test_descriptions(phrase: str, said: str) -> None:
    assert read(phrase).describe() == said


@pytest.mark.parametrize(
    "phrase",
    ["daily 22:00", "weekly mon,thu 08:00", "hourly :15", "every 5m from 08:00", "on 2026-12-24 18:00", "in 20m",
     "at noon", "daily 08:00 every 10m for 2h", "every 5m after end", "at boot", "on file /x created",
     "on job a failed"],
)  # fmt: skip
def test_the_text_is_kept(phrase: str) -> None:
    assert read(phrase).text == phrase
    again = read(read(phrase).text)
    assert again == read(phrase)


def test_kinds() -> None:
    assert read("every 5m") == Every(5 * MINUTE, NOW, text="every 5m")
    assert read("every 5m").relative
    assert not read("every 5m from 08:00").relative, "what counts from a time of day stays with the clock on the wall"
    assert read("in 20m") == Once(NOW + 20 * MINUTE, "in 20m", "2026-11-27T08:50:12.345000+01:00", relative=True)
    assert not read("at 18:00").relative
    assert read("every 90s after start") == Again(90 * SECOND, "start", "every 90s after start")
    assert read("every 90s after the end") == Again(90 * SECOND, "end", "every 90s after the end")
    assert read("at boot") == read("@reboot") == read("@REBOOT") == AtBoot()
    assert read("At Login") == AtLogin()
    assert read("on file /a/*.csv") == OnFile("/a/*.csv", "settled", 2 * SECOND)
    assert read('on file "/a b/c,d" settled for 5s') == OnFile("/a b/c,d", "settled", 5 * SECOND)
    assert read("on file /a,b changed") == OnFile("/a,b", "changed", 0)
    assert read("on job backup-* failed, lost") == OnJob("backup-*", ("failed", "lost"))
    assert read("on job ended") == OnJob()
    assert read('on job "failed" lost or failed') == OnJob("failed", ("failed", "lost"))
    assert read("on record import level warning matching Disk  full ") == OnRecord(
        "import", level="warning", matching="Disk  full"
    )
    assert read("on idle 10m") == OnIdle(600 * SECOND, 0.5)


# Against an independent walk over days --------------------------------------------


def point(day: date, clock: time, zone: ZoneInfo) -> int:
    """Give the instant of a point in time: the first of two, the first after a gap."""
    local = datetime.combine(day, clock, tzinfo=zone)
    instant = local.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return (instant - EPOCH) // MICROSECOND
    # In a gap this is as long after its end as the time is after its begin.
    after = instant.astimezone(zone).utcoffset()
    instant = instant.replace(second=0, microsecond=0)
    while (instant - timedelta(minutes=1)).astimezone(zone).utcoffset() == after:
        instant -= timedelta(minutes=1)
    return (instant - EPOCH) // MICROSECOND


def brute(rule: Callable[[date], bool], clocks: list[time], zone: str, now: int, days: int) -> list[int]:
    """Give the instants on some days from now on, day by day."""
    where = ZoneInfo(zone)
    first = (EPOCH + timedelta(microseconds=now)).astimezone(where).date() - timedelta(days=1)
    dates = (first + timedelta(days=number) for number in range(days))
    found = {point(day, clock, where) for day in dates if rule(day) for clock in clocks}
    return sorted(each for each in found if each > now)


def length(day: date) -> int:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1).toordinal() - day.replace(day=1).toordinal()


NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
ORDINALS = {"first": 1, "2nd": 2, "third": 3, "4th": 4, "last": -1}


def local_date(instant: int, zone: str) -> date:
    return (EPOCH + timedelta(microseconds=instant)).astimezone(ZoneInfo(zone)).date()


@st.composite
def calendar_phrases(draw: st.DrawFn) -> tuple[str, Callable[[date], bool], list[time], str, int]:
    """Give a phrase, the rule of its days, its times, a zone, and now."""
    zone = draw(st.sampled_from(ZONES))
    now = draw(st.integers(us("1971-01-01", "UTC"), us("2099-01-01", "UTC")))
    if draw(st.booleans()):
        # Near to where clocks are set: these zones do it in such months.
        day = draw(
            st.sampled_from(["2026-03-27", "2026-10-23", "2018-11-02", "2011-12-28", "2026-04-03", "2005-10-28"])
        )
        now = us(day, zone) + draw(st.integers(0, 3 * 24)) * HOUR
    today = local_date(now, zone)
    clock = st.builds(time, st.sampled_from([0, 1, 2, 3, 23]), st.sampled_from([0, 1, 15, 30]))
    clocks = draw(st.lists(clock, min_size=1, max_size=3))
    step = draw(st.sampled_from([1, 1, 2, 3, 5]))
    kind = draw(st.sampled_from(["day", "week", "month", "nth", "year"]))
    words, rule = {"day": _days, "week": _weeks, "month": _months, "nth": _nths, "year": _years}[kind](
        draw, step, today
    )
    shown = ",".join(f"{each:%H:%M}" for each in clocks)
    return f"{words} {shown}", rule, clocks, zone, now


def _days(draw: st.DrawFn, step: int, today: date) -> tuple[str, Callable[[date], bool]]:
    return f"every {step} days at", lambda day: (day - today).days % step == 0 and (step == 1 or day >= today)


def _weeks(draw: st.DrawFn, step: int, today: date) -> tuple[str, Callable[[date], bool]]:
    chosen = draw(st.sets(st.integers(0, 6), min_size=1))
    week = today - timedelta(days=today.weekday())
    names = ",".join(NAMES[each] for each in chosen)
    return (
        f"every {step} weeks on {names} at",
        lambda day: day.weekday() in chosen and ((day - week).days // 7) % step == 0 and (step == 1 or day >= week),
    )


def _in_month(day: date, step: int, today: date) -> bool:
    months = (day.year - today.year) * 12 + day.month - today.month
    return months % step == 0 and (step == 1 or months >= 0)


def _months(draw: st.DrawFn, step: int, today: date) -> tuple[str, Callable[[date], bool]]:
    chosen = draw(st.sets(st.sampled_from([1, 15, 28, 30, 31, "last"]), min_size=1))
    return (
        f"every {step} months on {','.join(map(str, chosen))} at",
        lambda day: (
            _in_month(day, step, today) and (day.day in chosen or ("last" in chosen and day.day == length(day)))
        ),
    )


def _nths(draw: st.DrawFn, step: int, today: date) -> tuple[str, Callable[[date], bool]]:
    ordinal, weekday = draw(st.sampled_from(sorted(ORDINALS))), draw(st.integers(0, 6))
    n = ORDINALS[ordinal]
    return (
        f"every {step} months on {ordinal} {NAMES[weekday]} at",
        lambda day: (
            _in_month(day, step, today)
            and day.weekday() == weekday
            and ((day.day - 1) // 7 + 1 == n if n > 0 else day.day + 7 > length(day))
        ),
    )


def _years(draw: st.DrawFn, step: int, today: date) -> tuple[str, Callable[[date], bool]]:
    month, number = draw(st.integers(1, 12)), draw(st.integers(1, 28))
    return (
        f"every {step} years on {MONTHS[month - 1]} {number} at",
        lambda day: (
            (day.month, day.day) == (month, number)
            and (day.year - today.year) % step == 0
            and (step == 1 or day.year >= today.year)
        ),
    )


@pytest.mark.slow
@settings(max_examples=150, derandomize=True)
@given(calendar_phrases())
def test_points_in_time_are_those_of_a_walk_over_days(
    case: tuple[str, Callable[[date], bool], list[time], str, int],
) -> None:
    phrase, rule, clocks, zone, now = case
    trigger = parse_phrase(phrase, zones.load(zone), now)
    expected = brute(rule, clocks, zone, now, 400)
    assert list(islice(trigger.after(now), len(expected))) == expected, (phrase, zone, now)
    for each in expected[-2:]:
        assert next(trigger.after(each - 1)) == each, (phrase, zone, now)


@settings(max_examples=30, derandomize=True)
@given(st.sampled_from(ZONES), st.integers(0, 365 * 30), st.sampled_from([0, 1, 15, 30, 59]))
def test_hourly_is_whenever_the_wall_shows_the_minute(zone: str, day: int, minute: int) -> None:
    now = us("2000-01-01", zone) + day * 24 * HOUR
    trigger = parse_phrase(f"hourly :{minute:02}", zones.load(zone), now)
    # Each minute of 30 hours.
    start = now - now % MINUTE
    expected = [
        at
        for at in range(start + MINUTE, start + 30 * HOUR, MINUTE)
        if (EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(zone)).minute == minute
    ]
    assert list(islice(trigger.after(now), len(expected))) == expected


# Clocks that are set --------------------------------------------------------------


def test_a_time_that_does_not_exist_comes_at_the_first_instant_after_the_gap() -> None:
    now = us("2026-03-28T12:00")
    assert comes("daily 02:30", 2, now=now) == ["2026-03-29 03:00", "2026-03-30 02:30"]
    assert comes("daily 02:15,02:45,03:00", 3, now=now) == ["2026-03-29 03:00", "2026-03-30 02:15", "2026-03-30 02:45"]
    assert comes("at 02:30", 1, now=now) == ["2026-03-29 03:00"]
    assert comes("on 2026-03-29 02:30", 1, now=now) == ["2026-03-29 03:00"]


def test_a_time_that_exists_twice_comes_once_at_the_first() -> None:
    now = us("2026-10-24T12:00")
    trigger = parse_phrase("daily 02:30", zones.load("Europe/Paris"), now)
    assert list(islice(trigger.after(now), 2)) == [us("2026-10-25T02:30+02:00"), us("2026-10-26T02:30+01:00")]


def test_hourly_and_intervals_follow_elapsed_time() -> None:
    now = us("2026-10-25T01:30+02:00")
    expected = [us("2026-10-25T02:00+02:00"), us("2026-10-25T02:00+01:00"), us("2026-10-25T03:00+01:00")]
    for phrase in ("hourly", "every hour from 00:00"):
        assert list(islice(parse_phrase(phrase, zones.load("Europe/Paris"), now).after(now), 3)) == expected


def test_a_day_that_does_not_exist() -> None:
    """Samoa had no 30 December 2011: that day's midnight is where the next one begins."""
    now = us("2011-12-29T12:00", "Pacific/Apia")
    assert comes("daily 10:00", 3, "Pacific/Apia", now) == ["2011-12-31 00:00", "2011-12-31 10:00", "2012-01-01 10:00"]


# What counts from a day ------------------------------------------------------------


def test_steps_count_from_the_day_on_which_the_phrase_was_read() -> None:
    assert comes("every 2 weeks on mon 08:00", 2, now=us("2026-11-23T07:00")) == [
        "2026-11-23 08:00",
        "2026-12-07 08:00",
    ]
    assert comes("every 2 weeks on mon 08:00", 2, now=us("2026-11-30T07:00")) == [
        "2026-11-30 08:00",
        "2026-12-14 08:00",
    ]
    trigger = parse_phrase("every 2 weeks on mon 08:00", zones.load("Europe/Paris"), NOW)
    later = us("2030-01-01")
    assert (next(trigger.after(later)) - us("2026-12-07T08:00")) % (14 * 24 * HOUR) in (0, HOUR, 14 * 24 * HOUR - HOUR)


def test_nothing_of_a_step_comes_before_the_day_it_counts_from() -> None:
    for phrase in ("every 2 days", "every 2 weeks on mon", "every 2 months on 1", "every 2 years", "every 5m"):
        trigger = parse_phrase(phrase, zones.load("UTC"), us("2026-11-27T08:00Z"))
        first = next(trigger.after(0))
        assert first >= us("2026-01-01T00:00Z"), phrase


@pytest.mark.parametrize(
    "phrase", ["daily 22:00", "weekly sun 22:00", "monthly 1,30 22:00", "yearly 12-30 22:00", "hourly"]
)
def test_after_reaches_from_one_end_of_the_calendar_to_the_other(phrase: str) -> None:
    trigger = parse_phrase(phrase, zones.load("Europe/Paris"), NOW)
    for long_ago in (-62_135_000_000_000_000, -70_000_000_000_000_000):
        assert next(trigger.after(long_ago)) < us("0002-01-04T00:00Z")
    last = list(trigger.after(us("9999-12-01T00:00Z")))
    assert last[0] < last[-1] < us("9999-12-31T23:00Z") or len(last) == 1
    assert list(trigger.after(last[-1])) == []
    assert list(trigger.after(300_000_000_000_000_000)) == []


@pytest.mark.parametrize(
    "rule",
    [
        EachDay(), EachDay(3, 20_500), WeekDays(frozenset((0, 3))), WeekDays(frozenset((0, 6)), 2, 20_503),
        MonthDays((Nth(1), Nth(15), Nth(-1))), MonthDays((Nth(2, (1,)), Nth(-1, (4,))), 2, 20_500),
        YearDays(((2, 29), (7, 1))), YearDays(((3, 1),), 2, 20_500), Dates((20_510, 20_520, 20_800)),
    ],
)  # fmt: skip
def test_a_rule_gives_its_days_from_any_day_on(rule: Days) -> None:
    everything = list(takewhile(lambda day: day < 22_500, rule.days(20_000)))
    for first in (*range(20_495, 20_600), LAST_DAY - 3, LAST_DAY, LAST_DAY + 1):
        found = list(takewhile(lambda day: day < 22_500, rule.days(first)))
        assert found == [day for day in everything if day >= first]
        assert all(first <= day <= LAST_DAY for day in islice(rule.days(first), 5))


# What is wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phrase", "what", "at", "expected"),
    [
        ("daily 25:00", "hour 25 is not in 0..23", 6, "0 to 23"),
        ("daily 08:60", "minute 60 is not in 0..59", 9, "0 to 59"),
        ("daily 08:00:60", "second 60 is not in 0..59", 12, "0 to 59"),
        ("daily 8", '"8" is no time', 6, "08:00"),
        ("daily 08:00,", "the time is missing at the end", 12, "08:00"),
        ("daily 08:00 foo", '"foo" cannot stand here', 12, "nothing more"),
        ("dayly 08:00", '"dayly" is no phrase of time', 0, "daily, or"),
        ("foo", '"foo" is no phrase of time', 0, "daily 22:00"),
        ("", "the phrase of time is missing at the end", 0, "daily 22:00"),
        ("weekly frday 08:00", '"frday" is no weekday', 7, "friday, or"),
        ("weekly mo 08:00", '"mo" is no weekday', 7, "mon"),
        ("weekly mon-fri-sun", '"mon-fri-sun" is no weekday', 7, "mon-fri"),
        ("weekly mon,", "the weekday is missing at the end", 11, "mon"),
        ("monthly 32", "day 32 is not in 1..31", 8, "1 to 31"),
        ("monthly 0", "day 0 is not in 1..31", 8, "1 to 31"),
        ("monthly 6th mon", "ordinal 6 is not in 1..5", 8, "1 to 5"),
        ("monthly first", "the weekday is missing at the end", 13, "first mon"),
        ("monthly lst", '"lst" is no day of the month', 8, "last, or"),
        ("monthly last mon-fri", '"mon-fri" is no weekday', 13, "a single day"),
        ("yearly 02-30", "day 30 is not in 1..29 of February", 10, "1 to 29"),
        ("yearly feb 30", "day 30 is not in 1..29 of February", 11, "1 to 29"),
        ("yearly 31 apr", "day 31 is not in 1..30 of April", 7, "1 to 30"),
        ("yearly 13-01", "month 13 is not in 1..12", 7, "1 to 12"),
        ("yearly dec", "the date is missing at the end", 10, "dec 24"),
        ("yearly dex 24", '"dex" is no date', 7, "dec 24"),
        ("hourly 15", '"15" is no minute of an hour', 7, ":15"),
        ("hourly :75", "minute 75 is not in 0..59", 8, "0 to 59"),
        ("hourly :15:75", "second 75 is not in 0..59", 11, "0 to 59"),
        ("every", "the interval is missing at the end", 5, "5m"),
        ("every 0 days", "0 days is not an interval", 6, "1 or more"),
        ("every 0s", "duration 0s is too short", 6, "millisecond"),
        ("every 1us", "duration 1us is too short", 6, "millisecond"),
        ("every 5", '"5" is no duration', 6, "5m"),
        ("every 5 parsecs", '"5 parsecs" is no duration', 6, "5m"),
        ("every mnday", '"mnday" is no interval', 6, "monday, or"),
        ("every 2000 years on 02-30", "day 30 is not in 1..29 of February", 23, "1 to 29"),
        ("every 5m for 2h", '"for" cannot stand here', 9, "from 08:00"),
        ("every 5m after lunch", '"lunch" cannot stand here', 15, "start or end"),
        ("every 5m after", "it ends too early", 14, "start or end"),
        ("every 5m from", "the time is missing at the end", 13, "08:00"),
        ("daily 08:00 every 2h", "it ends too early", 20, "for"),
        ("daily 08:00 every 2h for 2h", "the repetition repeats nothing: it is not longer", 18, "10m"),
        ("daily 08:00 every 10m for", "the duration is missing at the end", 25, "5m"),
        ("on", "the date is missing at the end", 2, "2026-12-24"),
        ("on monday", '"monday" is no date', 3, "2026-12-24"),
        ("on 2026-02-30", "day 30 is not in 1..28 of 2026-02", 11, "1 to 28"),
        ("on 2026-13-01", "month 13 is not in 1..12", 8, "1 to 12"),
        ("on 24.12.2026", '"24.12.2026" is no date', 3, "2026-12-24"),
        ("on 2026-12-24T25:00", "hour 25 is not in 0..23", 14, "0 to 23"),
        ("on 2026-12-24T", "the time is missing at the end", 14, "08:00"),
        ("on 2026-12-24T18:00+99:00", "+99:00 is no offset", 3, "+01:00"),
        ("on 2026-12-24, 2026-12-25T18:00", '"2026-12-25T18:00" is no date', 15, "without a time"),
        ("at", "the time is missing at the end", 2, "18:00"),
        ("at bot", '"bot" is no time', 3, "boot, or"),
        ("at 18:00,19:00", '"," cannot stand here', 8, "daily 08:00,18:00"),
        ("at boot 18:00", '"18:00" cannot stand here', 8, "nothing more"),
        ("@reboot now", '"now" cannot stand here', 8, "nothing more"),
        ("in", "the duration is missing at the end", 2, "5m"),
        ("in 20", '"20" is no duration', 3, "5m"),
        ("in 0s", "duration 0s is too short", 3, "millisecond"),
        ("in 2000000 days", '"2000000 days" is no duration', 3, "5m"),
        ("on file", "the file is missing at the end", 7, "/srv/in"),
        ('on file ""', "a file has no name", 8, "/srv/in"),
        ("on file /a b", '"b" cannot stand here', 11, "double quotes"),
        ("on file /a create", '"create" cannot stand here', 11, "created, or"),
        ("on file /a created for 2s", '"for" cannot stand here', 19, "only settled"),
        ("on job x", "the end of a job is missing at the end", 8, "completed"),
        ("on job x fail", '"fail" is no end of a job', 9, "failed, or"),
        ("on job x failed,", "the end of a job is missing at the end", 16, "completed"),
        ("on record x level warn", '"warn" is no level', 18, "warning, or"),
        ("on record x matching", "the text is missing at the end", 20, "text to look for"),
        ("on record x y", '"y" cannot stand here', 12, "matching"),
        ("on idle", "the duration is missing at the end", 7, "5m"),
        ("on idle 10m load -1", 'load "-1" is no number above zero', 17, "0.5"),
        ("on idle 10m load nan", 'load "nan" is no number above zero', 17, "0.5"),
    ],
)  # fmt: skip
def test_errors_name_what_where_and_what_was_expected(phrase: str, what: str, at: int, expected: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        read(phrase)
    error = raised.value
    assert error.message.startswith(what)
    assert error.message.endswith(f'"{phrase}"')
    assert (error.at, expected in str(error.expected)) == (at, True), error.expected


@pytest.mark.parametrize("phrase", ["every 100 years on 02-29", "every 48 months on 31", "every 12 months on 29, 30"])
def test_what_never_comes_is_refused(phrase: str) -> None:
    now = us("2026-02-10T12:00")
    if "48" in phrase:
        now = us("2026-06-10T12:00")
    if "12" in phrase:
        phrase = "every 48 months on 29"
    with pytest.raises(ExpressionError, match="it never comes: there is no day on"):
        read(phrase, now=now)


@settings(max_examples=150, derandomize=True)
@given(st.lists(st.sampled_from([
    "daily", "weekly", "monthly", "yearly", "hourly", "every", "on", "at", "in", "mon", "last", "first", "2nd", "1",
    "08:00", ":15", ",", "and", "5m", "2", "weeks", "days", "months", "from", "after", "start", "for", "2h", "15",
    "2026-12-24", "dec", "24", "file", "job", "record", "idle", "failed", "noon", "of", "other", "\u00e9", '"', "/x",
]), max_size=7))  # fmt: skip
def test_any_words_are_read_or_refused(words: list[str]) -> None:
    text = " ".join(words)
    try:
        found = read(text)
    except ExpressionError as error:
        assert error.at is None or 0 <= error.at <= len(text)
        return
    assert found.describe()
    if hasattr(found, "after"):
        ahead = list(islice(found.after(NOW), 3))
        assert ahead == sorted(set(ahead))
        assert all(each > NOW for each in ahead)


# What happens at no time that is known ----------------------------------------------


def occasions() -> st.SearchStrategy[Occasion]:
    names = st.sampled_from(
        ["a", "backup-*", "a b", "tag", "Failed", 'say "x"', "back\\slash", "a,b", "[x]*", "ended", "é"]
    )
    maybe = st.none() | names
    return st.one_of(
        st.sampled_from([AtBoot(), AtLogin()]),
        st.builds(OnFile, names, st.sampled_from(["created", "changed"]), st.just(0)),
        st.builds(OnFile, names, st.just("settled"), st.integers(1, 10**12)),
        st.builds(
            OnJob, names, st.sets(st.sampled_from(ENDS), min_size=1).map(lambda s: tuple(e for e in ENDS if e in s)),
            maybe, maybe,
        ),
        st.builds(OnRecord, names, maybe, maybe, st.none() | st.sampled_from(LEVELS), maybe),
        st.builds(OnIdle, st.integers(1, 10**12), st.floats(1e-6, 1e6)),
    )  # fmt: skip


@settings(max_examples=100, derandomize=True)
@given(occasions())
def test_occasions_read_back_from_their_text(occasion: Occasion) -> None:
    assert read(occasion.text) == occasion
    assert occasion.describe()


def test_a_pattern_becomes_absolute() -> None:
    found = parse_phrase("on file in/*.csv", zones.load("UTC"), 0, lambda pattern: f"/home/eve/{pattern}")
    assert found == OnFile("/home/eve/in/*.csv")


@pytest.mark.parametrize(
    ("occasion", "job", "expected"),
    [
        (OnJob(), ("a", "failed"), True),
        (OnJob("b*"), ("backup", "failed"), True),
        (OnJob("b*"), (None, "failed"), False),
        (OnJob(), (None, "lost"), True),
        (OnJob("B*"), ("backup", "failed"), False),
        (OnJob("b*", ("completed",)), ("backup", "failed"), False),
        (OnJob("*", ("failed",), "x"), ("a", "failed", ["x", "y"]), True),
        (OnJob("*", ("failed",), "x"), ("a", "failed", ["y"]), False),
        (OnJob("*", ("failed",), None, "nightly"), ("a", "failed", [], "nightly"), True),
        (OnJob("*", ("failed",), None, "nightly"), ("a", "failed"), False),
    ],
)
def test_which_jobs_are_meant(occasion: OnJob, job: tuple[str, str], expected: bool) -> None:
    assert occasion.matches(*job) is expected


@pytest.mark.parametrize(
    ("occasion", "record", "expected"),
    [
        (OnRecord(), ("a", "output", None, "x"), True),
        (OnRecord("b*"), ("a", "output", None, "x"), False),
        (OnRecord(level="warning"), ("a", "output", None, "x"), False),
        (OnRecord(level="warning"), ("a", "error", None, "x"), True),
        (OnRecord(level="warning"), ("a", "warning", None, "x"), True),
        (OnRecord(level="warning"), ("a", "info", None, "x"), False),
        (OnRecord(level="warning"), ("a", "log", "critical", "x"), True),
        (OnRecord(level="error"), ("a", "error", "warning", "x"), False),
        (OnRecord(level="debug"), ("a", "log", "notice", "x"), False),
        (OnRecord(matching="full"), ("a", "output", None, "disk full\n"), True),
        (OnRecord(matching="Full"), ("a", "output", None, "disk full\n"), False),
        (OnRecord(tag="x", schedule="s"), ("a", "output", None, "", ["x"], "s"), True),
        (OnRecord(tag="x", schedule="s"), ("a", "output", None, "", ["x"], "t"), False),
    ],
)
def test_which_records_are_meant(occasion: OnRecord, record: tuple[str, str, str | None, str], expected: bool) -> None:
    assert occasion.matches(*record) is expected


def instants(text: str) -> Iterator[int]:
    return parse_phrase(text, zones.load("UTC"), 0).after(0)


def test_the_next_run_after_a_run() -> None:
    start, end = Again(10, "start"), Again(10, "end")
    assert start.next(None, None, 100) == end.next(None, None, 100) == 110
    assert start.next(200, None, 100) == start.next(200, 203, 100) == 210
    assert end.next(200, None, 100) is None, "it is under way"
    assert end.next(200, 150, 100) is None, "what ended is the run before"
    assert end.next(200, 200, 100) == 210
    assert end.next(200, 230, 100) == 240
