"""Calendars of excluded days: which time their events cover."""

from __future__ import annotations

import contextlib
import random
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigie.errors import ExpressionError
from vigie.triggers.ics import Busy, parse_ics
from vigie.triggers.wall import DAY, HOUR, MINUTE, SECOND, Zone, day_number


def zone(name: str) -> Zone:
    try:
        return Zone(name, ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError):
        raise ExpressionError(f"there is no time zone {name}", expected="Europe/Paris, say") from None


PARIS = zone("Europe/Paris")


def calendar(*lines: str) -> str:
    return "\r\n".join(("BEGIN:VCALENDAR", "VERSION:2.0", *lines, "END:VCALENDAR", ""))


def event(*lines: str) -> str:
    return "\r\n".join(("BEGIN:VEVENT", "UID:1@example.org", *lines, "END:VEVENT"))


def busy(*events: str, where: Zone = PARIS) -> Busy:
    return parse_ics(calendar(*events), where, zone)


def at(text: str, where: Zone = PARIS) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=where.rules)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def covered(found: Busy, start: str, end: str, where: Zone = PARIS) -> list[str]:
    """Show the spans between two times as the wall has them: without years, offsets, and midnight's time."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    spans = found.spans(at(start, where), at(end, where))
    walls = [[(epoch + timedelta(microseconds=each)).astimezone(where.rules) for each in span] for span in spans]
    return ["/".join(f"{wall:%m-%dT%H:%M}" for wall in span).replace("T00:00", "") for span in walls]


#: As published for public holidays: folded, with an alarm, a time zone of its own, and text that looks like a date.
HOLIDAYS = """\
\ufeffBEGIN:VCALENDAR
PRODID:-//Example//Holidays//FR
VERSION:2.0
X-WR-TIMEZONE:Europe/London
BEGIN:VTIMEZONE
TZID:Paris
X-LIC-LOCATION:Europe/Paris
BEGIN:DAYLIGHT
DTSTART:19810329T020000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
END:DAYLIGHT
END:VTIMEZONE
BEGIN:VEVENT
UID:christmas
SUMMARY;LANGUAGE=fr:Noël\\, jour férié
DESCRIPTION;ALTREP="http://example.org/a;b:c":DTSTART:20260101\\n
  and so on
DTSTART;VALUE=DA
 TE:20251225
DTEND;VALUE=DATE:20251226
RRULE:FREQ=YEARLY
BEGIN:VALARM
TRIGGER:-PT15M
DURATION:PT5H
DTSTART:20260601
END:VALARM
END:VEVENT

BEGIN:VEVENT
UID:closing
DTSTART;TZID=Paris:20261224T140000
DURATION:PT4H
END:VEVENT
BEGIN:VEVENT
UID:easter
DTSTART;VALUE=DATE:20260406
END:VEVENT
BEGIN:VTODO
DTSTART:20260701
DUE:20260705
END:VTODO
END:VCALENDAR
"""


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_calendar_of_public_holidays(ends: str) -> None:
    found = parse_ics(HOLIDAYS.replace("\n", ends), PARIS, zone)
    assert covered(found, "2026-01-01", "2028-01-01") == [
        "04-06/04-07",
        "12-24T14:00/12-24T18:00",
        "12-25/12-26",
        "12-25/12-26",
    ]
    for moment, expected in (
        ("2026-12-24T23:59:59", False),
        ("2026-12-25T00:00:00", True),
        ("2026-12-25T23:59:59.999999", True),
        ("2026-12-26T00:00:00", False),
        ("2024-12-25T12:00:00", False),
        ("2199-12-25T12:00:00", True),
    ):
        assert found.covers(at(moment)) is expected, moment


def test_a_day_is_one_on_the_wall_of_whoever_asks() -> None:
    day = event("DTSTART;VALUE=DATE:20260329")
    for name, hours in (("Europe/Paris", 23), ("UTC", 24), ("Asia/Tokyo", 24)):
        where = zone(name)
        start = where.first(day_number(2026, 3, 29) * DAY)
        assert list(busy(day, where=where).spans(0, 10**16)) == [(start, start + hours * HOUR)], name


def test_a_day_whose_midnight_clocks_skip_ends_at_the_next_midnight() -> None:
    brazil = zone("America/Sao_Paulo")
    for lines in (
        ("DTSTART:20181104",),
        ("DTSTART:20181104", "RRULE:FREQ=DAILY;COUNT=1"),
        ("DTSTART:20181104", "DURATION:P1D"),
    ):
        found = busy(event(*lines), where=brazil)
        assert covered(found, "2018-11-01", "2018-11-30", brazil) == ["11-04T01:00/11-05"], lines
    # A day that a zone skipped covers nothing after it.
    apia = zone("Pacific/Apia")
    found = busy(event("DTSTART:20111229", "DTEND:20111230"), where=apia)
    assert covered(found, "2011-12-20", "2012-01-10", apia) == ["12-29/12-31"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("DTSTART:20260105", "DTEND:20260108"), "01-05/01-08"),
        (("DTSTART:20260105",), "01-05/01-06"),
        # Written by programs that mean the day itself.
        (("DTSTART:20260105", "DTEND:20260105"), "01-05/01-06"),
        (("DTSTART:20260105", "DURATION:P1W"), "01-05/01-12"),
        (("DTSTART:20260105T080000", "DTEND:20260105T093000"), "01-05T08:00/01-05T09:30"),
        (("DTSTART:20260105T080000Z", "DTEND:20260105T093000Z"), "01-05T09:00/01-05T10:30"),
        (("DTSTART;TZID=Asia/Tokyo:20260105T080000", "DURATION:PT1H30M15S"), "01-05/01-05T01:30"),
        (('DTSTART;X-A="b;c:d";TZID="Asia/Tokyo":20260105T080000', "DURATION:PT1H"), "01-05/01-05T01:00"),
        (("DTSTART;TZID=/example.org/20260101_1/Asia/Tokyo:20260105T080000", "DURATION:PT1H"), "01-05/01-05T01:00"),
        (("DTSTART:20260105T080000", "DURATION:P1DT2H"), "01-05T08:00/01-06T10:00"),
        # A time without an end covers none.
        (("DTSTART:20260105T080000",), ""),
        (("DTSTART:20260105T080000", "RRULE:FREQ=DAILY;COUNT=3"), ""),
        (("DTSTART:20260105", "STATUS:CANCELLED"), ""),
        (("DTSTART:20260105", "TRANSP:TRANSPARENT"), ""),
        (("DTSTART:20260105", "STATUS:CONFIRMED", "TRANSP:OPAQUE"), "01-05/01-06"),
        # What recurs: the first always counts.
        (("DTSTART:20260105", "RRULE:FREQ=DAILY;COUNT=3"), "01-05/01-08"),
        (("DTSTART:20260105", "RRULE:FREQ=WEEKLY;COUNT=2;BYHOUR=8"), "01-05/01-06 01-12/01-13"),
        (("DTSTART:20260105", "RRULE:FREQ=MONTHLY;BYMONTHDAY=20;COUNT=1"), "01-05/01-06 01-20/01-21"),
        (("DTSTART:20260105", "RRULE:FREQ=DAILY;UNTIL=20260101"), "01-05/01-06"),
        (("DTSTART:20260105", "RRULE:FREQ=DAILY;COUNT=5", "EXDATE:20260105,20260107"), "01-06/01-07 01-08/01-10"),
        (("DTSTART:20260105", "RRULE:FREQ=DAILY;COUNT=4", "EXRULE:FREQ=DAILY;INTERVAL=3"), "01-05/01-08"),
        (("DTSTART:20260105", "RDATE:20260110,20260112"), "01-05/01-06 01-10/01-11 01-12/01-13"),
        (("DTSTART:20260105T080000", "DURATION:PT1H", "RDATE;VALUE=PERIOD:20260106T080000/PT3H"),
         "01-05T08:00/01-05T09:00 01-06T08:00/01-06T11:00"),
        (("DTSTART:20260105T080000", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=3", "EXDATE;VALUE=DATE:20260106"),
         "01-05T08:00/01-05T09:00 01-07T08:00/01-07T09:00"),
        (("DTSTART:20260105T080000", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=2", "EXDATE:20260105T080000"),
         "01-06T08:00/01-06T09:00"),
        (("DTSTART:20260105T230000", "DURATION:PT2H", "RRULE:FREQ=DAILY;COUNT=2"),
         "01-05T23:00/01-06T01:00 01-06T23:00/01-07T01:00"),
    ],
)  # fmt: skip
def test_what_an_event_covers(lines: tuple[str, ...], expected: str) -> None:
    found = busy(event(*lines))
    assert covered(found, "2026-01-01", "2026-01-31") == expected.split()
    for start, end in found.spans(at("2026-01-01"), at("2026-01-31")):
        assert [found.covers(each) for each in (start - 1, start, end - 1, end)] == [False, True, True, False]


def test_lengths_across_a_change_of_clocks() -> None:
    """A length in days is one on the wall, an end of the first event is one in elapsed time (RFC 5545 3.8.5.3)."""
    nominal = busy(event("DTSTART:20260321T120000", "DURATION:P1D", "RRULE:FREQ=WEEKLY;COUNT=2"))
    assert covered(nominal, "2026-03-01", "2026-04-30") == ["03-21T12:00/03-22T12:00", "03-28T12:00/03-29T12:00"]
    exact = busy(event("DTSTART:20260321T120000", "DTEND:20260322T120000", "RRULE:FREQ=WEEKLY;COUNT=2"))
    assert covered(exact, "2026-03-01", "2026-04-30") == ["03-21T12:00/03-22T12:00", "03-28T12:00/03-29T13:00"]


def test_a_day_of_25_hours_is_looked_back_for() -> None:
    weekly = busy(event("DTSTART:20261024T030000", "DURATION:P1D", "RRULE:FREQ=WEEKLY")).recurring[0]
    last = at("2026-10-25T02:59:59+01:00")
    assert list(weekly.between(last, last + SECOND)) == [(at("2026-10-24T03:00"), at("2026-10-25T03:00"))]


def test_an_occurrence_that_was_moved_or_cancelled_no_longer_stands_where_it_stood() -> None:
    found = busy(
        event("DTSTART:20260105", "RRULE:FREQ=WEEKLY;COUNT=4"),
        event("RECURRENCE-ID;VALUE=DATE:20260112", "DTSTART:20260114"),
        event("RECURRENCE-ID;VALUE=DATE:20260119", "DTSTART:20260119", "STATUS:CANCELLED"),
        event("RECURRENCE-ID;VALUE=DATE:20260126", "DTSTART:20260126T080000", "DURATION:PT1H"),
    )
    assert covered(found, "2026-01-01", "2026-01-31") == [
        "01-05/01-06",
        "01-14/01-15",
        "01-26T08:00/01-26T09:00",
    ]


def test_what_touches_is_one_span() -> None:
    found = busy(
        event("DTSTART:20260105"),
        event("DTSTART:20260106"),
        event("DTSTART:20260106T120000", "DURATION:PT20H"),
        event("DTSTART:20260106T130000", "DURATION:PT1H"),
    )
    assert covered(found, "2026-01-01", "2026-01-31") == ["01-05/01-07T08:00"]
    assert covered(found, "2026-01-06T03:00", "2026-01-06T05:00") == ["01-06T03:00/01-06T05:00"]
    assert covered(found, "2026-01-07T08:00", "2026-01-31") == []
    assert list(found.spans(5, 5)) == []


def test_a_long_event_and_one_that_recurs_without_end() -> None:
    found = busy(event("DTSTART:20000101", "DTEND:20300101"), event("DTSTART:20310101", "RRULE:FREQ=DAILY"))
    assert covered(found, "1999-01-01", "2040-01-01") == ["01-01/01-01", "01-01/01-01"]
    assert found.covers(at("2015-06-01"))
    assert not found.covers(at("2030-06-01"))
    assert found.covers(at("9000-06-01"))


def test_an_empty_calendar_covers_nothing() -> None:
    found = parse_ics(calendar(), PARIS, zone)
    assert not found.covers(0)
    assert list(found.spans(-(10**15), 10**15)) == []


def test_several_calendars_in_one_file() -> None:
    text = calendar(event("DTSTART:20260105")) + calendar(event("DTSTART:20260107"))
    found = parse_ics(text, PARIS, zone)
    assert covered(found, "2026-01-01", "2026-01-31") == ["01-05/01-06", "01-07/01-08"]


def test_spans_agree_with_a_list_of_minutes() -> None:
    """Events by chance, the covered minutes counted one by one."""
    chance = random.Random(5545)
    start = day_number(2026, 3, 20) * DAY
    for _ in range(20):
        events, minutes = [], set()
        for _ in range(chance.randint(1, 8)):
            begin, length, count, step = (
                chance.randrange(20_000),
                chance.randrange(3_000),
                chance.randint(1, 4),
                chance.randint(1, 5),
            )
            moment = datetime(2026, 3, 20, tzinfo=UTC) + timedelta(minutes=begin)
            rule = f"RRULE:FREQ=DAILY;INTERVAL={step};COUNT={count}"
            events.append(event(f"DTSTART:{moment:%Y%m%dT%H%M%SZ}", f"DURATION:PT{length}M", rule))
            for each in range(count):
                minutes.update(range(begin + each * step * 1440, begin + each * step * 1440 + length))
        found = busy(*events)
        spans = list(found.spans(start, start + 60 * DAY))
        ranges = [range((low - start) // MINUTE, (high - start) // MINUTE) for low, high in spans]
        assert minutes == {each for span in ranges for each in span}
        assert all(before[1] < after[0] for before, after in pairwise(spans))
        for each in (*chance.sample(range(40_000), 30), *list(minutes)[:10]):
            assert found.covers(start + each * MINUTE + 30 * SECOND) == (each in minutes)


# Errors ---------------------------------------------------------------------------

BEGIN, END = "BEGIN:VCALENDAR\n", "END:VCALENDAR\n"


@pytest.mark.parametrize(
    ("text", "what", "expected"),
    [
        ("", "line 1: there is no calendar", "BEGIN:VCALENDAR"),
        ("<!DOCTYPE html>\n", "line 1: a property's name followed by a colon", "NAME:value"),
        ("Not found", "line 1: a property's name", "NAME:value"),
        ("DTSTART:20260101\n", "line 1: DTSTART stands outside a calendar", "BEGIN:VCALENDAR"),
        ("\nBEGIN:VEVENT\n", "line 2: BEGIN:VEVENT stands outside a calendar", "BEGIN:VCALENDAR"),
        (
            BEGIN + "BEGIN:VEVENT\nDTSTART:20260101\n",
            "line 3: the calendar ends within VEVENT, which line 2 begins",
            None,
        ),
        (BEGIN + "BEGIN:VEVENT\n" + END, "line 3: END:VCALENDAR ends nothing", "END:VEVENT, which line 2 begins"),
        (BEGIN + END + "END:VCALENDAR", "line 3: END stands outside a calendar", "BEGIN:VCALENDAR"),
        (BEGIN + "BEGIN:VEVENT\nSUMMARY:x\nEND:VEVENT\n" + END, "line 2: the event has no DTSTART", "a DTSTART line"),
        (BEGIN + "SUMMARY\n" + END, "line 2: a property's name followed by a colon", "NAME:value"),
    ],
)
def test_what_is_no_calendar(text: str, what: str, expected: str | None) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_ics(text, PARIS, zone)
    assert caught.value.message.startswith(what)
    assert caught.value.expected == expected


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        # The event begins on line 3, its UID is on line 4.
        (("DTSTART:20260230",), "line 5: DTSTART: there is no day 20260230"),
        (("SUMMARY:a", " b", "DTSTART:2026"), "line 7: DTSTART '2026' is not a date or a time"),
        (("DTSTART:20260101", "DTSTART:20260102"), "line 6: DTSTART stands twice in the event of line 3"),
        (("DTSTART:20260101", "DTEND:20251231"), "line 6: the event ends before it starts"),
        (("DTSTART:20260101T080000", "DTEND:20260101T070000"), "line 6: the event ends before it starts"),
        (("DTSTART:20260101", "DTEND:20260101T070000"), "line 6: of DTSTART and DTEND one is a date"),
        (("DTSTART:20260101", "DTEND:20260102", "DURATION:P1D"), "line 7: the event has both DTEND and DURATION"),
        (("DTSTART:20260101", "DURATION:1D"), "line 6: DURATION '1D' is not a length"),
        (("DTSTART:20260101", "DURATION:-P1D"), "line 6: DURATION '-P1D' is not a length"),
        (("DTSTART:20260101", "DURATION:PT"), "line 6: DURATION 'PT' is not a length"),
        (("DTSTART:20260101", "DURATION:P1DT"), "line 6: DURATION 'P1DT' is not a length"),
        (("DTSTART:20260101", "DURATION:PT1D"), "line 6: DURATION 'PT1D' is not a length"),
        (("DTSTART:20260101", "DURATION:P9999999D"), "line 6: DURATION P9999999D is longer than a thousand years"),
        (("DTSTART:20260101", "RRULE:FREQ=DAILY;BYMONTH=13"), "line 6: BYMONTH 13 is not in 1..12"),
        (("DTSTART:20260101", "RRULE:FREQ=SECONDLY"), "line 6: the event comes more than 1,440 times a day"),
        (("DTSTART:20260101", "EXDATE:never"), "line 6: EXDATE 'never' is not a date or a time"),
        (("DTSTART;TZID=W. Europe Standard Time:20260101T080000",), "line 5: DTSTART: its zone 'W. Europe"),
        (("DTSTART;TZID=:20260101T080000",), "line 5: DTSTART: its zone '' is no name of a time zone"),
        (("DTSTART:20260101", "RECURRENCE-ID;RANGE=THISANDFUTURE:20260101"), "line 6: RECURRENCE-ID with RANGE"),
    ],
)  # fmt: skip
def test_errors_name_the_line(lines: tuple[str, ...], what: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        busy(event(*lines))
    assert caught.value.message.startswith(what)


def test_a_zone_of_its_own_is_found_by_its_place_only() -> None:
    own = ("BEGIN:VTIMEZONE", "{}", "TZID:Mine", "BEGIN:STANDARD", "TZID:Other", "END:STANDARD", "END:VTIMEZONE")
    start = event("DTSTART;TZID=Mine:20260101T080000", "DURATION:PT1H")
    with_place = [line.format("X-LIC-LOCATION:Asia/Tokyo") for line in own]
    assert covered(busy(*with_place, start), "2025-12-31", "2026-01-31") == ["01-01/01-01T01:00"]
    with pytest.raises(ExpressionError, match="its zone 'Mine' is no name of a time zone, and has no X-LIC-LOCATION"):
        busy(*[line.format("X-OTHER:1") for line in own], start)
    with pytest.raises(ExpressionError, match="its zone 'Mine', said to be that of Mars/Base, is not known here"):
        busy(*[line.format("X-LIC-LOCATION:Mars/Base") for line in own], start)
    # A zone that no event uses does no harm.
    busy(*[line.format("X-OTHER:1") for line in own], event("DTSTART:20260101"))


def test_a_file_too_large_is_not_read() -> None:
    with pytest.raises(ExpressionError, match=r"a calendar of 5,000,\d+ characters is larger than 5 MB"):
        parse_ics(calendar() + " " * 5_000_000, PARIS, zone)


@pytest.mark.slow
def test_a_large_calendar_answers_soon() -> None:
    text = calendar(*(event(f"DTSTART:2026{1 + n % 12:02}{1 + n % 28:02}", "RRULE:FREQ=YEARLY") for n in range(1_000)))
    found = parse_ics(text, PARIS, zone)
    began = time.perf_counter()
    assert sum(found.covers(at("2030-01-01") + hour * HOUR) for hour in range(24 * 64)) > 0
    assert time.perf_counter() - began < 3


SOME_LINES = (
    "BEGIN:VEVENT", "END:VEVENT", "BEGIN:VTIMEZONE", "END:VTIMEZONE", "DTSTART:20260101", "DTSTART:20260101T080000Z",
    "DTEND:20260102", "DURATION:PT1H", "RRULE:FREQ=DAILY", "EXDATE:20260103", "RDATE:20260105", "X:", " x",
    "TZID:a", "RECURRENCE-ID:20260101", "UID:1", "é", ";", "STATUS:CANCELLED",
)  # fmt: skip


@settings(derandomize=True, max_examples=200)
@given(st.lists(st.sampled_from(SOME_LINES), max_size=12))
def test_any_lines_are_read_or_refused(lines: list[str]) -> None:
    with contextlib.suppress(ExpressionError):
        found = parse_ics(calendar(*lines), PARIS, zone)
        assert found.covers(at("2026-01-01T12:00")) in (True, False)
