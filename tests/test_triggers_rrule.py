"""Recurrence rules: expected instants of others, and the rules of our own."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from vigie.errors import ExpressionError
from vigie.triggers.ical import utc
from vigie.triggers.rrule import Recurrence
from vigie.triggers.wall import SECOND, Zone

GREENWICH = utc()
VECTORS = Path(__file__).parents[2] / "shared" / "vectors"
LONG_AGO = -(10**17)


def zone(name: str) -> Zone:
    try:
        return Zone(name, ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError):
        raise ExpressionError(f"there is no time zone {name}", expected="Europe/Paris, say") from None


PARIS = zone("Europe/Paris")
LORD_HOWE = zone("Australia/Lord_Howe")


def at(text: str, where: Zone = GREENWICH) -> int:
    """Give the instant of a time, which the zone must have exactly once or which has an offset."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=where.rules)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def shown(instants: list[int], where: Zone = GREENWICH) -> list[str]:
    """Give what the wall shows, with offset."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [(epoch + timedelta(microseconds=each)).astimezone(where.rules).isoformat() for each in instants]


def some(text: str, where: Zone = PARIS, *, after: str | None = None, start: str | None = None, number: int = 9) -> str:
    """Read a recurrence and show its next instants, without what they have in common."""
    found = Recurrence.parse(text, where, None if start is None else at(start, where), zone)
    since = LONG_AGO if after is None else at(after, where)
    return " ".join(shown(list(islice(found.after(since), number)), found.zone))


# Expected instants of others ------------------------------------------------------


def vectors(name: str) -> list[dict[str, object]]:
    try:
        return json.loads((VECTORS / name).read_text())["vectors"]
    except FileNotFoundError:
        pytest.skip(f"{VECTORS} does not stand beside the project")


#: What RFC 5545 forbids and python-dateutil allows is refused. Reason → how many of the vectors.
LISTED = {
    "BYWEEKNO must not stand with FREQ=WEEKLY": 5,
    "BYWEEKNO must not stand with FREQ=MONTHLY": 5,
    "BYWEEKNO must not stand with FREQ=DAILY": 5,
    "BYWEEKNO must not stand with FREQ=HOURLY": 5,
    "BYWEEKNO must not stand with FREQ=MINUTELY": 5,
    "BYWEEKNO must not stand with FREQ=SECONDLY": 5,
    "BYYEARDAY must not stand with FREQ=MONTHLY": 4,
    "BYYEARDAY must not stand with FREQ=WEEKLY": 4,
    "BYYEARDAY must not stand with FREQ=DAILY": 4,
    "BYMONTHDAY must not stand with FREQ=WEEKLY": 4,
    # "Information missing from the rule is taken from DTSTART": its day of the week, where dateutil gives all seven.
    "BYWEEKNO alone": 1,
}


@pytest.mark.parametrize("name", ["rrule_dateutil_tests.json", "rrule_rfc5545_examples.json"])
def test_expected_instants(name: str) -> None:
    listed: Counter[str] = Counter()
    for vector in vectors(name):
        text, expected = str(vector["expr"]), [at(each) for each in vector["expected"]]  # type: ignore[union-attr]
        start = at(str(vector["start"] or "1997-09-02T09:00:00"))
        try:
            found = Recurrence.parse(text, GREENWICH, start)
        except ExpressionError as error:
            if not expected and "never comes: " in error.message:
                continue
            listed[error.message.split(":")[0]] += 1
            continue
        if "BYWEEKNO" in text and "BYDAY" not in text:
            listed["BYWEEKNO alone"] += 1
            assert shown(list(found.after(start - 1))) == [
                "1998-05-12T09:00:00+00:00", "1999-05-18T09:00:00+00:00", "2000-05-16T09:00:00+00:00",
            ]  # fmt: skip
            continue
        assert list(found.after(start - 1)) == expected, text
        if expected:
            half = len(expected) // 2
            assert list(found.after(expected[half])) == expected[half + 1 :], text
    # Of RFC 5545's own examples none is listed: these three are python-dateutil's.
    examples = {"BYWEEKNO must not stand with FREQ=WEEKLY": 3}
    assert dict(listed) == (LISTED if name == "rrule_dateutil_tests.json" else examples)


# The rules of our own -----------------------------------------------------------------


def test_a_time_in_a_gap_is_the_first_instant_after_it_and_one_that_comes_twice_the_first() -> None:
    text = "DTSTART:20260327T023000 RRULE:FREQ=DAILY;COUNT=4"
    assert some(text) == (
        "2026-03-27T02:30:00+01:00 2026-03-28T02:30:00+01:00 2026-03-29T03:00:00+02:00 2026-03-30T02:30:00+02:00"
    )
    text = "DTSTART:20261024T023000 RRULE:FREQ=DAILY;COUNT=3"
    assert some(text) == "2026-10-24T02:30:00+02:00 2026-10-25T02:30:00+02:00 2026-10-26T02:30:00+01:00"


def test_two_times_in_one_gap_are_one_instant_and_count_once() -> None:
    text = "DTSTART:20260329T020000 RRULE:FREQ=DAILY;BYHOUR=2,3;BYMINUTE=0,30;COUNT=3"
    assert some(text) == "2026-03-29T03:00:00+02:00 2026-03-29T03:30:00+02:00 2026-03-30T02:00:00+02:00"


def test_a_start_in_a_gap_keeps_what_was_written() -> None:
    assert some("DTSTART:20260329T023000 RRULE:FREQ=DAILY;COUNT=2") == (
        "2026-03-29T03:00:00+02:00 2026-03-30T02:30:00+02:00"
    )


def test_a_start_in_the_second_of_two_hours_has_nothing_before_it() -> None:
    assert some("FREQ=DAILY;COUNT=2", start="2026-10-25T02:30:00+01:00") == (
        "2026-10-26T02:30:00+01:00 2026-10-27T02:30:00+01:00"
    )
    assert some("FREQ=HOURLY;COUNT=2", start="2026-10-25T02:30:00+01:00") == (
        "2026-10-25T02:30:00+01:00 2026-10-25T03:30:00+01:00"
    )


def test_a_day_that_a_zone_skipped() -> None:
    """Samoa went from 29 to 31 December 2011."""
    apia = zone("Pacific/Apia")
    assert some("DTSTART:20111229T120000 RRULE:FREQ=DAILY;COUNT=3", apia) == (
        "2011-12-29T12:00:00-10:00 2011-12-31T00:00:00+14:00 2011-12-31T12:00:00+14:00"
    )
    assert some("DTSTART:20111229T220000 RRULE:FREQ=HOURLY;COUNT=3", apia) == (
        "2011-12-29T22:00:00-10:00 2011-12-29T23:00:00-10:00 2011-12-31T00:00:00+14:00"
    )


def test_hours_minutes_and_seconds_follow_elapsed_time() -> None:
    text = "DTSTART:20260329T003000 RRULE:FREQ=HOURLY;INTERVAL=2;COUNT=3"
    assert some(text) == "2026-03-29T00:30:00+01:00 2026-03-29T03:30:00+02:00 2026-03-29T05:30:00+02:00"
    text = "DTSTART:20261025T013000 RRULE:FREQ=HOURLY;COUNT=4"
    assert some(text) == (
        "2026-10-25T01:30:00+02:00 2026-10-25T02:30:00+02:00 2026-10-25T02:30:00+01:00 2026-10-25T03:30:00+01:00"
    )
    text = "DTSTART:20261025T024000 RRULE:FREQ=MINUTELY;INTERVAL=30;BYHOUR=2;COUNT=4"
    assert some(text) == (
        "2026-10-25T02:40:00+02:00 2026-10-25T02:10:00+01:00 2026-10-25T02:40:00+01:00 2026-10-26T02:10:00+01:00"
    )


def test_an_hour_is_one_on_the_wall_where_clocks_move_by_half_of_one() -> None:
    """What a cron line `30 * * * *` gives: a wall time that comes twice comes twice."""
    text = "DTSTART:20260405T003000 RRULE:FREQ=HOURLY;COUNT=5"
    assert some(text, LORD_HOWE) == (
        "2026-04-05T00:30:00+11:00 2026-04-05T01:30:00+11:00 2026-04-05T01:30:00+10:30 "
        "2026-04-05T02:30:00+10:30 2026-04-05T03:30:00+10:30"
    )
    text = "DTSTART:20261004T004000 RRULE:FREQ=HOURLY;BYMINUTE=0,20,40;BYSETPOS=-1;COUNT=4"
    assert some(text, LORD_HOWE) == (
        "2026-10-04T00:40:00+10:30 2026-10-04T01:40:00+10:30 2026-10-04T02:40:00+11:00 2026-10-04T03:40:00+11:00"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # New York's wall and summer time, as in RFC 5545 3.8.5.3.
        (
            "DTSTART;TZID=America/New_York:19970902T090000 RRULE:FREQ=DAILY;UNTIL=19971224T000000Z",
            (113, "1997-10-25T09:00:00-04:00 1997-10-26T09:00:00-05:00", "1997-12-23T09:00:00-05:00"),
        ),
        (
            "DTSTART;TZID=America/New_York:19970902T090000 RRULE:FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T210000Z",
            (3, "1997-09-02T12:00:00-04:00 1997-09-02T15:00:00-04:00", "1997-09-02T15:00:00-04:00"),
        ),
        (
            (
                "DTSTART;TZID=America/New_York:19961105T090000 "
                "RRULE:FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8;UNTIL=20050101T000000Z"
            ),
            (3, "2000-11-07T09:00:00-05:00 2004-11-02T09:00:00-05:00", "2004-11-02T09:00:00-05:00"),
        ),
    ],
)
def test_examples_of_the_rfc_in_their_zone(text: str, expected: tuple[int, str, str]) -> None:
    found = Recurrence.parse(text, PARIS, None, zone)
    instants = shown(list(found.after(LONG_AGO)), found.zone)
    assert found.zone.name == "America/New_York"
    assert (len(instants), instants[-1]) == (expected[0], expected[2])
    assert expected[1] in " ".join(instants)


@pytest.mark.parametrize(
    ("until", "last"),
    [
        ("20260329", "2026-03-29T12:00:00+02:00"),
        ("20260329T120000", "2026-03-29T12:00:00+02:00"),
        ("20260329T115959", "2026-03-29T06:00:00+02:00"),
        ("20260329T100000Z", "2026-03-29T12:00:00+02:00"),
        ("20260329T095959Z", "2026-03-29T06:00:00+02:00"),
        # In the gap, where the instant after it is meant.
        ("20260329T021500", "2026-03-29T03:00:00+02:00"),
        ("20260329T015959", "2026-03-28T12:00:00+01:00"),
    ],
)
def test_until(until: str, last: str) -> None:
    text = f"DTSTART:20260301T000000 RRULE:FREQ=DAILY;BYHOUR=2,6,12;BYMINUTE=0;UNTIL={until}"
    assert some(text, number=1000).split()[-1] == last


def test_a_missing_day_of_the_week_is_that_of_the_start() -> None:
    assert some("DTSTART:19970902T090000Z RRULE:FREQ=YEARLY;BYWEEKNO=20;COUNT=2") == (
        "1998-05-12T09:00:00+00:00 1999-05-18T09:00:00+00:00"
    )


def test_bysetpos_chooses_among_the_whole_first_week() -> None:
    """DTSTART is a Tuesday: Monday, the first of its week, lies before it."""
    assert some("DTSTART:20260106T080000Z RRULE:FREQ=WEEKLY;BYDAY=MO,WE;BYSETPOS=1;COUNT=2") == (
        "2026-01-12T08:00:00+00:00 2026-01-19T08:00:00+00:00"
    )


def test_bysetpos_chooses_in_a_week_of_which_a_part_passes() -> None:
    """April 2026 begins on a Wednesday."""
    assert some("DTSTART:20260105T080000Z RRULE:FREQ=WEEKLY;BYMONTH=4;BYDAY=MO,WE;BYSETPOS=1;COUNT=3") == (
        "2026-04-01T08:00:00+00:00 2026-04-06T08:00:00+00:00 2026-04-13T08:00:00+00:00"
    )


def test_days_with_and_without_an_ordinal_add_up() -> None:
    assert some("DTSTART:20260101T080000Z RRULE:FREQ=MONTHLY;BYDAY=SU,2MO;COUNT=5") == (
        "2026-01-04T08:00:00+00:00 2026-01-11T08:00:00+00:00 2026-01-12T08:00:00+00:00 "
        "2026-01-18T08:00:00+00:00 2026-01-25T08:00:00+00:00"
    )


def test_second_60_is_59() -> None:
    assert some("DTSTART:20260101T000060Z RRULE:FREQ=MINUTELY;BYSECOND=59,60;COUNT=2") == (
        "2026-01-01T00:00:59+00:00 2026-01-01T00:01:59+00:00"
    )


# DTSTART, RDATE, EXDATE, EXRULE -----------------------------------------------------


def test_the_callers_start_stands_for_dtstart() -> None:
    assert some("FREQ=DAILY;COUNT=2", start="2026-01-01T10:20:30.999") == (
        "2026-01-01T10:20:30+01:00 2026-01-02T10:20:30+01:00"
    )
    # A written one goes before it.
    assert (
        some("DTSTART:20250101T080000 FREQ=YEARLY", start="2026-01-01T10:20", number=1) == "2025-01-01T08:00:00+01:00"
    )
    # Without either, rules count from 1970 on the wall.
    assert some("FREQ=DAILY;INTERVAL=2", number=2) == "1970-01-01T00:00:00+01:00 1970-01-03T00:00:00+01:00"


def test_a_start_that_fits_no_rule_is_no_moment_but_one_alone_is() -> None:
    assert some("DTSTART:20260101T080000Z RRULE:FREQ=MONTHLY;BYMONTHDAY=15", number=1) == "2026-01-15T08:00:00+00:00"
    assert some("DTSTART:20260101T080000Z") == "2026-01-01T08:00:00+00:00"
    assert some("DTSTART:20260101T080000Z RDATE:20260105T080000Z,20260103T080000Z") == (
        "2026-01-01T08:00:00+00:00 2026-01-03T08:00:00+00:00 2026-01-05T08:00:00+00:00"
    )


def test_a_zone_comes_with_dtstart() -> None:
    for text in (
        "DTSTART;TZID=Australia/Lord_Howe:20260101T080000",
        'DTSTART;TZID="Australia/Lord_Howe":20260101T080000',
    ):
        found = Recurrence.parse(f"{text} RRULE:FREQ=DAILY", PARIS, None, zone)
        assert found.zone.name == "Australia/Lord_Howe"
        assert shown(list(islice(found.after(LONG_AGO), 1)), found.zone) == ["2026-01-01T08:00:00+11:00"]
    assert Recurrence.parse("DTSTART:20260101T080000Z RRULE:FREQ=DAILY", PARIS).zone.name == "UTC"


def test_added_moments_have_zones_and_periods_of_their_own() -> None:
    text = (
        "DTSTART:20260101T080000 RRULE:FREQ=DAILY;COUNT=1 RDATE;TZID=Australia/Lord_Howe:20260101T080000 "
        "RDATE;VALUE=DATE:20260102 RDATE;VALUE=PERIOD:20260103T080000/PT1H,20260104T080000Z/20260104T090000Z"
    )
    assert some(text) == (
        "2025-12-31T22:00:00+01:00 2026-01-01T08:00:00+01:00 2026-01-02T00:00:00+01:00 "
        "2026-01-03T08:00:00+01:00 2026-01-04T09:00:00+01:00"
    )


def test_excluded_moments() -> None:
    rule = "DTSTART:20260101T080000 RRULE:FREQ=DAILY;BYHOUR=8,20;COUNT=6 "
    assert some(rule + "EXDATE:20260101T200000,20260102T070000Z,20260103T090000") == (
        "2026-01-01T08:00:00+01:00 2026-01-02T20:00:00+01:00 2026-01-03T08:00:00+01:00 2026-01-03T20:00:00+01:00"
    )
    # A date takes out its whole day.
    assert some(rule + "EXDATE;VALUE=DATE:20260102") == (
        "2026-01-01T08:00:00+01:00 2026-01-01T20:00:00+01:00 2026-01-03T08:00:00+01:00 2026-01-03T20:00:00+01:00"
    )
    # Both fall into one gap: the same instant.
    text = "DTSTART:20260328T021500 RRULE:FREQ=DAILY;COUNT=3 EXDATE:20260329T024500"
    assert some(text) == "2026-03-28T02:15:00+01:00 2026-03-30T02:15:00+02:00"


def test_excluded_rules() -> None:
    text = "DTSTART:20260101T080000Z RRULE:FREQ=DAILY EXRULE:FREQ=WEEKLY;BYDAY=SA,SU EXRULE:FREQ=MONTHLY;BYMONTHDAY=1"
    assert some(text, number=4) == (
        "2026-01-02T08:00:00+00:00 2026-01-05T08:00:00+00:00 2026-01-06T08:00:00+00:00 2026-01-07T08:00:00+00:00"
    )
    assert some(text, number=1, after="2026-02-27T09:00Z") == "2026-03-02T08:00:00+00:00"
    # A dense rule is not walked through for a sparse one.
    began = time.perf_counter()
    text = "DTSTART:20260101T080000Z RRULE:FREQ=YEARLY RDATE:20290101T090000Z EXRULE:FREQ=SECONDLY;BYHOUR=0,1,2,8,20"
    assert some(text, number=1) == "2029-01-01T09:00:00+00:00"
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    "text",
    [
        "rrule:freq=daily;byhour=8,20;byday=mo,tu",
        "FREQ=DAILY;BYHOUR=8,20;BYDAY=MO,TU;",
        "RRULE:FREQ=DAILY;BYHOUR=8,20;BYDAY=MO,TU\r\n",
        "RRULE:FREQ=DAILY;BYHO\r\n UR=8,20;BYDAY=MO\n\t,TU",
        "FREQ=DAILY; BYHOUR=8, 20; BYDAY=MO ,TU",
        "BYDAY=TU,MO;BYHOUR=20,8,8;FREQ=DAILY",
        "\n  RRULE:FREQ=DAILY;BYHOUR=8,20;BYDAY=MO,TU\n  EXDATE:20250101T000000\n",
    ],
)
def test_ways_to_write_one_rule(text: str) -> None:
    assert some(text, start="2026-01-01T00:00", number=3) == (
        "2026-01-05T08:00:00+01:00 2026-01-05T20:00:00+01:00 2026-01-06T08:00:00+01:00"
    )


# Far and fast -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("FREQ=SECONDLY", "2026-06-01T00:00:01+02:00"),
        ("FREQ=SECONDLY;INTERVAL=1000000000", "2033-05-18T05:33:20+02:00"),
        ("FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=29;BYHOUR=8;BYMINUTE=0;BYSECOND=0", "2028-02-29T08:00:00+01:00"),
        ("FREQ=DAILY;INTERVAL=10000", "2052-02-20T01:00:00+01:00"),
        ("FREQ=WEEKLY;INTERVAL=3", "2026-06-18T01:00:00+02:00"),
        ("FREQ=YEARLY;INTERVAL=400", "2370-01-01T01:00:00+01:00"),
        ("FREQ=DAILY;BYSETPOS=-1;BYMINUTE=0,30", "2026-06-01T01:30:00+02:00"),
        ("FREQ=YEARLY;INTERVAL=8100", ""),
    ],
)
def test_what_is_far_from_its_start_is_near(rule: str, expected: str) -> None:
    """No walk of 1.8 thousand million seconds."""
    began = time.perf_counter()
    assert some(f"DTSTART:19700101T010000 RRULE:{rule}", after="2026-06-01T00:00", number=1) == expected
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("rule", "step"),
    [
        ("FREQ=SECONDLY;INTERVAL=7", 7),
        ("FREQ=SECONDLY;INTERVAL=100003", 100003),
        ("FREQ=MINUTELY;INTERVAL=17", 17 * 60),
        ("FREQ=HOURLY;INTERVAL=5", 5 * 3600),
        ("FREQ=HOURLY;INTERVAL=1000000", 1_000_000 * 3600),
    ],
)
def test_steps_far_from_their_start_are_multiples(rule: str, step: int) -> None:
    start, since = at("1970-01-01T01:00", PARIS), at("2026-06-01T00:00", PARIS)
    found = next(Recurrence.parse(f"DTSTART:19700101T010000 RRULE:{rule}", PARIS).after(since))
    assert found == start + ((since - start) // (step * SECOND) + 1) * step * SECOND


def test_a_count_is_kept_far_from_the_start_too() -> None:
    found = Recurrence.parse("DTSTART:20000101T000000 RRULE:FREQ=DAILY;COUNT=10000", GREENWICH)
    all_of_it = list(found.after(LONG_AGO))
    assert len(all_of_it) == 10_000
    for place in (9_999, 0, 511, 512, 513, 5_000, 1_023, 9_998):
        assert list(islice(found.after(all_of_it[place]), 3)) == all_of_it[place + 1 : place + 4], place
        assert list(islice(found.after(all_of_it[place] - 1), 1)) == [all_of_it[place]], place
    fresh = Recurrence.parse(found.text, GREENWICH)
    assert list(fresh.after(all_of_it[9_000])) == all_of_it[9_001:]


def test_it_ends_with_the_calendar() -> None:
    found = Recurrence.parse("DTSTART:99980101T000000 RRULE:FREQ=YEARLY", PARIS)
    assert len(list(found.after(LONG_AGO))) == 2
    assert list(found.after(10**18)) == []
    assert len(list(Recurrence.parse("DTSTART:99991220T000000 FREQ=HOURLY", PARIS).after(LONG_AGO))) == 11 * 24
    assert (
        some("DTSTART:00010105T000000 RRULE:FREQ=WEEKLY;BYDAY=TU", GREENWICH, number=1) == "0001-01-09T00:00:00+00:00"
    )


def test_it_joins_with_others_and_is_a_value() -> None:
    one = Recurrence.parse("DTSTART:20260101T080000 RRULE:FREQ=DAILY;COUNT=2", GREENWICH)
    two = Recurrence.parse("DTSTART:20260101T090000 RRULE:FREQ=DAILY;COUNT=2", GREENWICH)
    assert len(list((one | two).after(0))) == 4
    assert one == Recurrence.parse(one.text, GREENWICH)
    assert one != two
    assert one.text == "DTSTART:20260101T080000 RRULE:FREQ=DAILY;COUNT=2"
