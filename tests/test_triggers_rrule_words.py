"""Recurrence rules: what is wrong with one, where, and how one is said in words."""

from __future__ import annotations

import contextlib
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigie.errors import ExpressionError
from vigie.triggers.ical import utc
from vigie.triggers.rrule import Recurrence
from vigie.triggers.wall import DAY, HOUR, MINUTE, SECOND, Zone, day_number

GREENWICH = utc()
LONG_AGO = -(10**17)
NEW_YEAR = day_number(2026, 1, 1) * DAY


def zone(name: str) -> Zone:
    try:
        return Zone(name, ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError):
        raise ExpressionError(f"there is no time zone {name}", expected="Europe/Paris, say") from None


PARIS = zone("Europe/Paris")

ERRORS = [
    # Text, what is wrong, at which character (from 1), what was expected.
    ("", "there is no rule", 1, "FREQ=…"),
    ("daily", "'daily' is no rule", 1, "FREQ=…"),
    ("BEGIN:VEVENT", "BEGIN is not understood here", 1, "RRULE:"),
    ("EXDATE:20260101", "there is no rule", 1, "FREQ=…"),
    ("RRULE:", "a recurrence rule needs FREQ", 7, "FREQ=DAILY"),
    ("INTERVAL=2", "a recurrence rule needs FREQ", 1, "FREQ=DAILY"),
    ("FREQ=DAYLY", "FREQ DAYLY is unknown", 6, "DAILY"),
    ("FREQ=DAILY;;COUNT=3", "'' is no part of a recurrence rule", 12, "NAME=value"),
    ("FREQ=DAILY COUNT=3", "COUNT stands apart from its rule", 12, "semicolon"),
    ("FREQ=DAILY;FREQ=DAILY", "FREQ stands twice", 12, "each part once"),
    ("FREQ=DAILY;X-MINE=1", "X-MINE is no part of a recurrence rule", 12, "INTERVAL"),
    ("FREQ=DAILY;BYEASTER=0", "BYEASTER is no part of a recurrence rule", 12, "BYDAY"),
    ("FREQ=DAILY;BYHOUR=8,25", "BYHOUR 25 is not in 0..23", 21, "0 to 23"),
    ("FREQ=DAILY;BYHOUR=8,,9", "BYHOUR '' is not a number", 21, "0 to 23"),
    ("FREQ=DAILY;BYMINUTE=60", "BYMINUTE 60 is not in 0..59", 21, "0 to 59"),
    ("FREQ=DAILY;BYSECOND=61", "BYSECOND 61 is not in 0..60", 21, "0 to 60"),
    ("FREQ=DAILY;BYHOUR=-1", "BYHOUR '-1' is not a number", 19, "0 to 23"),
    ("FREQ=DAILY;BYMONTH=13", "BYMONTH 13 is not in 1..12", 20, "1 to 12"),
    ("FREQ=DAILY;BYMONTHDAY=0", "BYMONTHDAY 0 is not in 1..31", 23, "-31 to -1"),
    ("FREQ=YEARLY;BYYEARDAY=367", "BYYEARDAY 367 is not in 1..366", 23, "1 to 366"),
    ("FREQ=YEARLY;BYWEEKNO=-54", "BYWEEKNO -54 is not in 1..53", 22, "1 to 53"),
    ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=0", "BYSETPOS 0 is not in 1..366", 32, "1 to 366"),
    ("FREQ=DAILY;BYDAY=MO,XX", "BYDAY 'XX' is no day of the week", 21, "MO, TU"),
    ("FREQ=MONTHLY;BYDAY=54MO", "BYDAY 54 is not in 1..53", 20, "1 to 53"),
    ("FREQ=DAILY;WKST=1", "WKST 1 is no day of the week", 17, "MO, TU"),
    ("FREQ=DAILY;INTERVAL=0", "INTERVAL 0 is not in 1..1000000000", 21, "1 to"),
    ("FREQ=DAILY;INTERVAL=x", "INTERVAL 'X' is not a number", 21, "1 to"),
    ("FREQ=DAILY;COUNT=0", "COUNT 0 is not in 1..1000000000", 18, "1 to"),
    ("FREQ=DAILY;COUNT=1000001", "COUNT 1000001 is more than 1,000,000", 18, "UNTIL"),
    ("FREQ=DAILY;COUNT=3;UNTIL=20260101", "COUNT and UNTIL must not stand together", 20, "one of the two"),
    ("FREQ=DAILY;UNTIL=2026", "UNTIL '2026' is not a date or a time", 18, "20261224"),
    ("FREQ=DAILY;UNTIL=20260101T", "UNTIL '20260101T' is not a date or a time", 18, "20261224"),
    ("FREQ=DAILY;RSCALE=HEBREW", "RSCALE (RFC 7529", 12, None),
    ("FREQ=DAILY;SKIP=OMIT", "SKIP (RFC 7529", 12, None),
    # What the table of RFC 5545 3.3.10 forbids.
    ("FREQ=DAILY;BYWEEKNO=1", "BYWEEKNO must not stand with FREQ=DAILY", 12, "YEARLY"),
    ("BYYEARDAY=1;FREQ=MONTHLY", "BYYEARDAY must not stand with FREQ=MONTHLY", 1, "YEARLY"),
    ("FREQ=WEEKLY;BYMONTHDAY=1", "BYMONTHDAY must not stand with FREQ=WEEKLY", 13, "MONTHLY"),
    ("FREQ=WEEKLY;BYDAY=1MO", "BYDAY with a number must not stand with FREQ=WEEKLY", 13, "MONTHLY, YEARLY"),
    ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=1MO", "BYDAY with a number must not stand with BYWEEKNO", 24, "MO, TU"),
    ("FREQ=DAILY;BYSETPOS=1", "BYSETPOS needs another BY", 12, "BYDAY"),
    ("DTSTART:20260101 RRULE:FREQ=DAILY;BYHOUR=8", "BYHOUR needs a DTSTART with a time of day", 35, None),
    # Dates and times.
    ("DTSTART:20260101T080000 DTSTART:20260101T080000", "DTSTART stands twice", 33, "one DTSTART"),
    ("DTSTART:2026-01-01", "DTSTART '2026-01-01' is not a date or a time", 9, "20261224"),
    ("DTSTART:20260101T0800", "DTSTART '20260101T0800' is not a date or a time", 9, "20261224"),
    ("DTSTART:20260101Z", "DTSTART '20260101Z' is not a date or a time", 9, "20261224"),
    ("DTSTART:20260230", "DTSTART: there is no day 20260230", 9, "20261224"),
    ("DTSTART:20260101T250000", "DTSTART: there is no time 250000", 18, "235959"),
    ("DTSTART;VALUE=DATE:20260101T080000", "DTSTART says VALUE=DATE", 20, "20261224"),
    ("DTSTART;VALUE:20260101", "a parameter of DTSTART is not written as NAME=value", 1, "RRULE:"),
    ("DTSTART;TZID=Mars/Base:20260101T080000", "DTSTART: there is no time zone Mars/Base", 24, "Europe/Paris"),
    ("RDATE:20260101T080000,", "RDATE '' is not a date or a time", 23, "20261224"),
    ("RDATE;VALUE=PERIOD:20260101T080000", "RDATE '20260101T080000' is not a period", 20, "a slash"),
    ("RDATE;VALUE=PERIOD:20260101T080000/P", "RDATE 'P' is not a length", 36, "PT1H30M"),
    ("RDATE;VALUE=PERIOD:20260101T080000/20260101T070000", "RDATE: the period 20260101T080000/2026", 20, None),
    # What never comes.
    ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "the rule never comes: February has no day 30", 22, None),
    ("FREQ=MONTHLY;BYMONTHDAY=31,-31;BYMONTH=4,6", "the rule never comes: April and June have no day 31", 14, None),
    ("FREQ=MONTHLY;BYDAY=6MO", "the rule never comes: nothing fits all its parts", 1, None),
    ("FREQ=DAILY;BYHOUR=1;BYSETPOS=2", "the rule never comes: BYSETPOS chooses none", 21, None),
    ("FREQ=YEARLY;BYYEARDAY=1;BYMONTH=2", "the rule never comes: nothing fits all its parts", 1, None),
    ("FREQ=SECONDLY;INTERVAL=2;BYSECOND=1", "the rule never comes: nothing fits all its parts", 1, None),
    ("FREQ=HOURLY;INTERVAL=24;BYHOUR=1", "the rule never comes: nothing fits all its parts", 1, None),
    ("FREQ=DAILY;UNTIL=20251231", "the rule never comes: UNTIL lies before its start", 12, None),
    ("FREQ=DAILY;BYMONTH=3;UNTIL=20260201", "the rule never comes: nothing fits all its parts before its end", 1, None),
    ("RDATE:20260101 EXDATE:20260101", "the set never comes: all that it gives is taken out", None, None),
    ("FREQ=YEARLY;UNTIL=20400101 EXRULE:FREQ=DAILY", "the set never comes: all that it gives is taken out", None, None),
]


@pytest.mark.parametrize(("text", "what", "place", "expected"), ERRORS, ids=[each[0][:40] for each in ERRORS])
def test_errors(text: str, what: str, place: int | None, expected: str | None) -> None:
    with pytest.raises(ExpressionError) as caught:
        Recurrence.parse(text, GREENWICH, NEW_YEAR, zone)
    error = caught.value
    assert error.message.startswith(what), error.message
    assert error.message.endswith(f': "{text}"')
    assert error.at == (None if place is None else place - 1)
    assert error.expected is None if expected is None else expected in (error.expected or "")


def test_errors_of_a_folded_rule_point_into_what_was_written() -> None:
    text = "RRULE:FREQ=DAILY;BYHO\n UR=8,25"
    with pytest.raises(ExpressionError) as caught:
        Recurrence.parse(text, GREENWICH, 0)
    assert caught.value.at == text.index("25")


def test_a_count_needs_a_start() -> None:
    with pytest.raises(ExpressionError, match="COUNT needs a start to count from") as caught:
        Recurrence.parse("FREQ=DAILY;COUNT=3", GREENWICH)
    assert caught.value.at == 11


def test_a_text_without_end_is_not_read() -> None:
    with pytest.raises(ExpressionError, match="longer than 100,000"):
        Recurrence.parse("RDATE:" + "20260101," * 20_000, GREENWICH)


@settings(derandomize=True, max_examples=300)
@given(st.text(st.sampled_from('DTSTARULEXFQ=:;,0123456789ZMOBYP-+ \n"é'), max_size=60), st.booleans())
def test_any_text_is_read_or_refused(text: str, rule: bool) -> None:
    with contextlib.suppress(ExpressionError):
        found = Recurrence.parse("FREQ=DAILY;" + text if rule else text, PARIS, 0, zone)
        assert list(islice(found.after(LONG_AGO), 3))


#: Rule (DTSTART is 2026-01-01T10:20:30), and how it is said.
WORDS = [
    (
        "FREQ=DAILY;BYHOUR=8;BYMINUTE=0",
        "every day at 08:00:30",
    ),
    (
        "FREQ=DAILY",
        "every day at 10:20:30",
    ),
    (
        "FREQ=DAILY;BYHOUR=8,12,18;BYMINUTE=0;BYSECOND=0",
        "every day at 08:00, 12:00 and 18:00",
    ),
    (
        "FREQ=DAILY;BYHOUR=8,9,10;BYMINUTE=0,10,20;BYSECOND=0",
        "every day at minutes 0, 10 and 20 at second 0 in hours 8 to 10",
    ),
    (
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=TH,MO;BYHOUR=8;BYMINUTE=0;BYSECOND=0",
        "every 2 weeks on Monday and Thursday at 08:00, from 2026-01-01T10:20:30",
    ),
    (
        "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=18;BYMINUTE=0;BYSECOND=0",
        "every month on the last Friday at 18:00",
    ),
    (
        "FREQ=MONTHLY;BYDAY=-1FR,2MO,SU;BYHOUR=18;BYMINUTE=0;BYSECOND=0",
        "every month on Sunday, the 2nd Monday and the last Friday at 18:00",
    ),
    (
        "FREQ=MONTHLY;BYMONTHDAY=1,15,-1,-2;BYHOUR=6;BYMINUTE=0;BYSECOND=0",
        "every month on days 1 and 15 and the 2nd to last and last day at 06:00",
    ),
    (
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;COUNT=3",
        (
            "every month on Monday, Tuesday, Wednesday, Thursday and Friday at 10:20:30, only the last of each "
            "month's, from 2026-01-01T10:20:30, 3 times"
        ),
    ),
    (
        "FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=24;BYHOUR=18;BYMINUTE=0;BYSECOND=0",
        "every year on day 24 of the month in December at 18:00",
    ),
    (
        "FREQ=YEARLY;BYDAY=20MO;COUNT=1",
        "every year on the 20th Monday of the year at 10:20:30, from 2026-01-01T10:20:30, once",
    ),
    (
        "FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3,10",
        "every year on the last Sunday of the month in March and October at 10:20:30",
    ),
    (
        "FREQ=YEARLY;BYWEEKNO=1,2,3,22",
        "every year on Thursday in weeks 1 to 3 and 22 of the year at 10:20:30",
    ),
    (
        "FREQ=YEARLY;BYYEARDAY=100,-1",
        "every year on day 100 and the last day of the year at 10:20:30",
    ),
    (
        "FREQ=HOURLY;BYMINUTE=15;BYSECOND=0",
        "every hour at minute 15 at second 0",
    ),
    (
        "FREQ=MINUTELY;INTERVAL=15;UNTIL=20270101",
        "every 15 minutes at second 30, from 2026-01-01T10:20:30, until 2027-01-01",
    ),
    (
        "FREQ=SECONDLY;BYHOUR=8;UNTIL=20270101T000000Z",
        "every second in hour 8, until 2027-01-01T00:00 UTC",
    ),
    (
        ("FREQ=DAILY;BYHOUR=8 RDATE:20260105T080000 RDATE:20260106T080000 EXDATE:20260107T080000 EXRULE:FREQ=WEEKLY"),
        (
            "every day at 08:20:30, and on 2 dates from 2026-01-05T08:00 on; except every week on Thursday at "
            "10:20:30; except 1 date"
        ),
    ),
    (
        "DTSTART:20260101T080000",
        "on 2026-01-01T08:00",
    ),
]


@pytest.mark.parametrize(("text", "expected"), WORDS)
def test_how_it_was_read(text: str, expected: str) -> None:
    assert Recurrence.parse(text, GREENWICH, NEW_YEAR + 10 * HOUR + 20 * MINUTE + 30 * SECOND).describe() == expected
