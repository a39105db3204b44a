"""Calendar expressions: systemd's own test vectors, our rule for clock changes, errors and words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from vigie.errors import ExpressionError
from vigie.triggers.calendar import Calendar
from vigie.triggers.calendar_parse import read
from vigie.triggers.calendar_words import normal
from vigie.triggers.wall import DAY, HOUR, SECOND, Zone

VECTORS = Path(__file__).parents[2] / "shared" / "vectors"
vectors_needed = pytest.mark.skipif(not VECTORS.is_dir(), reason="no folder of vectors stands beside the project")


@cache
def zones(name: str) -> Zone:
    try:
        return Zone(name, ZoneInfo(name))
    except ZoneInfoNotFoundError:
        raise ExpressionError(f"no time zone {name}", name) from None


def calendar(text: str, zone: str = "UTC") -> Calendar:
    return Calendar.parse(text, zones(zone), zones)


def us(shown: str) -> int:
    """Give an instant written as ISO 8601; UTC unless it says another offset."""
    moment = datetime.fromisoformat(shown)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * SECOND + moment.microsecond


def shown(instants: Iterator[int], count: int, zone: str = "UTC") -> list[str]:
    """Write the next instants as local times with offset."""
    rules = ZoneInfo(zone)
    return [datetime.fromtimestamp(at // SECOND, rules).isoformat() for at in islice(instants, count)]


# systemd's test vectors ------------------------------------------------------------

#: systemd has no such instant, we have one: the point in time lies in a gap, and comes at its end.
GAPS = {
    ("2016-03-27 03:17:00", "EET"): "2016-03-27T01:00:00Z",
    ("2017-09-24 02:30:00 Pacific/Auckland", "UTC"): "2017-09-23T14:00:00Z",
    ("Sun *-*-* 01:00:00 Europe/Dublin", "UTC"): "2021-03-28T01:00:00Z",
    ("Sun *-*-* 01:00:00 Europe/Dublin", "IST"): "2021-03-28T01:00:00Z",
}
#: systemd reads what never comes; we refuse it.
NEVER = {"*-04-31", "Wed-Sat,Tue 12-10-15 1:2:3", "Wed..Sat,Tue 12-10-15 1:2:3"}


def vectors(name: str) -> list[dict[str, str | int | None]]:
    found: list[dict[str, str | int | None]] = json.loads((VECTORS / f"{name}.json").read_text())["vectors"]
    return found


@vectors_needed
def test_canonical_forms() -> None:
    for vector in vectors("systemd_normalize"):
        text = str(vector["expr"])
        written = read(text)
        zone = "UTC" if written.epoch or (written.zone or "").upper() == "UTC" else written.zone
        assert normal(written, zone) == vector["normalized"], text
        if text in NEVER:
            with pytest.raises(ExpressionError, match="never comes: its dates never fall on Tuesday to Saturday"):
                calendar(text)
        else:
            assert calendar(text).normal == vector["normalized"], text


@vectors_needed
def test_what_is_refused() -> None:
    for vector in vectors("systemd_invalid"):
        with pytest.raises(ExpressionError) as error:
            calendar(str(vector["expr"]))
        assert error.value.at is not None, vector
        assert error.value.expected, vector


@vectors_needed
def test_next_instants() -> None:
    gaps = 0
    for vector in vectors("systemd_next"):
        # IST is a zone without a file: libc takes it for UTC.
        text, name, start = str(vector["expr"]), str(vector["tz"]), vector["start_usec"]
        zone = "UTC" if name == "IST" else name
        assert isinstance(start, int)
        if text in NEVER:
            with pytest.raises(ExpressionError, match="never comes: April has no day 31"):
                calendar(text, zone)
            continue
        expected = [] if vector["expected_usec"] is None else [vector["expected_usec"]]
        if (text, name) in GAPS:
            expected = [us(GAPS[text, name])]
            gaps += 1
        found = list(islice(calendar(text, zone).after(start), 1))
        assert found == expected, vector
    assert gaps == len(GAPS)


# Instants ----------------------------------------------------------------------------


def test_instants_are_later_and_end() -> None:
    at = us("2026-03-01T12:00")
    once = calendar("2026-03-01 12:00")
    assert list(once.after(at - 1)) == [at]
    assert list(once.after(at)) == []
    assert list(calendar("2024..2026-2-29").after(0)) == [us("2024-02-29")]
    assert next(calendar("@1395716396", "Europe/Paris").after(0)) == 1395716396 * SECOND


def test_years_that_are_all_go_on_to_the_end_of_the_calendar() -> None:
    assert shown(calendar("*-12-1").after(us("9998-06-01")), 5) == [
        "9998-12-01T00:00:00+00:00",
        "9999-12-01T00:00:00+00:00",
    ]
    assert list(calendar("*-1-*").after(us("9999-12-31"))) == []
    assert list(calendar("*-1-*").after(10**18)) == []
    assert shown(calendar("daily").after(us("9999-12-29")), 9) == ["9999-12-30T00:00:00+00:00"]
    assert shown(calendar("2190/5-1-1").after(0), 9) == ["2190-01-01T00:00:00+00:00", "2195-01-01T00:00:00+00:00"]
    assert next(calendar("*-*-*").after(-(10**18))) < us("0002-01-01")


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("*-02~03", "2023-12-01", ["2024-02-27", "2025-02-26"]),
        ("Mon *-05~07/1", "2023-12-01", ["2024-05-27", "2025-05-26"]),
        ("Fri *-*-13", "2026-01-01", ["2026-02-13", "2026-03-13", "2026-11-13"]),
        ("*-2-29", "1896-03-01", ["1904-02-29"]),
        ("*-2-29", "1996-03-01", ["2000-02-29"]),
        ("*-*-31", "2026-01-31", ["2026-03-31", "2026-05-31"]),
        ("*-*~28", "2026-02-01", ["2026-03-04"]),
        # What systemd 252 loses after a repetition that carries over two units.
        ("*-*-1/4", "2080-12-26", ["2080-12-29", "2081-01-01", "2081-01-05"]),
    ],
)
def test_dates(text: str, start: str, expected: list[str]) -> None:
    found = shown(calendar(text).after(us(start)), len(expected))
    assert [each[:10] for each in found] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*:0/7", ["23:56:00", "00:00:00", "00:07:00"]),
        ("*:*:0/7", ["23:50:00", "23:50:07", "23:50:14"]),
        ("*:59:0/7.3", ["23:59:00", "23:59:07.300000", "23:59:14.600000"]),
        ("23:59:50/2.5", ["23:59:50", "23:59:52.500000", "23:59:55", "23:59:57.500000", "23:59:50"]),
    ],
)
def test_times_of_day(text: str, expected: list[str]) -> None:
    instants = islice(calendar(text).after(us("2026-03-01T23:50") - 1), len(expected))
    assert [datetime.fromtimestamp(at / SECOND, UTC).time().isoformat() for at in instants] == expected


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris"])
def test_the_finest_repetition_is_not_listed(zone: str) -> None:
    """60 million instants a minute come one by one, also on a day on which clocks are set."""
    start = us("2026-03-29T00:59:59.999999Z")
    assert list(islice(calendar("*:*:0/0.000001", zone).after(start), 3)) == [start + 1, start + 2, start + 3]
    both = calendar("*:*:0/0.000002,0/0.000003", zone)
    assert [at - start for at in islice(both.after(start), 6)] == [1, 3, 4, 5, 7, 9]


# Days on which clocks are set ------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("02:30", True), ("2..4:30", True), ("1,2:0,30:15", True), ("9..17:00", True), ("02:30:0..3", True),
        ("*:30", False), ("2:*", False), ("2:30:*", False), ("0/2:30", False), ("2:0/30", False),
        ("2:30:0/20", False), ("0..22/2:30", False), ("hourly", False), ("daily", True),
        # In canonical form there is no repetition left.
        ("0..4/5:30", True), ("2:0..59/1", True),
    ],
)  # fmt: skip
def test_which_rule_holds(text: str, fixed: bool) -> None:
    assert calendar(text).fixed is fixed


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        # Forward at 02:00: a point in time comes once, at the end of the gap.
        ("02:30", "2026-03-28T12:00", ["03-29T03:00:00+02:00", "03-30T02:30:00+02:00"]),
        ("2,3:0,15,30", "2026-03-29", ["03-29T03:00:00+02:00", "03-29T03:15:00+02:00", "03-29T03:30:00+02:00"]),
        # A repetition follows elapsed time.
        ("*:0/30", "2026-03-29T00:00Z", ["03-29T01:30:00+01:00", "03-29T03:00:00+02:00", "03-29T03:30:00+02:00"]),
        ("2:0/30", "2026-03-28T12:00", ["03-30T02:00:00+02:00", "03-30T02:30:00+02:00"]),
        # Back at 03:00: once, at the first.
        ("02:30", "2026-10-24T12:00", ["10-25T02:30:00+02:00", "10-26T02:30:00+01:00"]),
        ("*:30", "2026-10-24T23:30Z", ["10-25T02:30:00+02:00", "10-25T02:30:00+01:00", "10-25T03:30:00+01:00"]),
    ],
)
def test_clock_changes(text: str, start: str, expected: list[str]) -> None:
    found = shown(calendar(text, "Europe/Paris").after(us(start)), len(expected), "Europe/Paris")
    assert [each[5:] for each in found] == expected


def test_clocks_that_go_back_into_the_day_before() -> None:
    """At 00:01 St. John's went back to 23:01: then comes what is on the day that was over already."""
    found = shown(calendar("*:30", "America/St_Johns").after(us("2006-10-29T02:30:30Z")), 3, "America/St_Johns")
    assert found == ["2006-10-28T23:30:00-03:30", "2006-10-29T00:30:00-03:30", "2006-10-29T01:30:00-03:30"]


def test_a_day_that_never_was() -> None:
    """On Apia 2011-12-30 was left out: its points in time come at the first instant of the 31st."""
    found = shown(calendar("8,9:00", "Pacific/Apia").after(us("2011-12-29T18:00Z")), 4, "Pacific/Apia")
    assert [each[5:] for each in found] == [
        "12-29T09:00:00-10:00", "12-31T00:00:00+14:00", "12-31T08:00:00+14:00", "12-31T09:00:00+14:00",
    ]  # fmt: skip
    assert shown(calendar("2011-12-30 *:0", "UTC").after(0), 1) == ["2011-12-30T00:00:00+00:00"]
    with pytest.raises(ExpressionError, match="never comes: clocks in Pacific/Apia pass over these times"):
        calendar("2011-12-30 *:0", "Pacific/Apia")


# Zones -----------------------------------------------------------------------------


def test_the_zone_at_the_end() -> None:
    paris = calendar("12:00 Europe/Paris")
    assert paris.zone.name == "Europe/Paris"
    assert paris.normal == "*-*-* 12:00:00 Europe/Paris"
    assert next(paris.after(us("2026-07-01"))) == us("2026-07-01T10:00")
    assert calendar("daily uTc", "Europe/Paris").zone.name == "UTC"
    assert calendar("daily", "Europe/Paris").normal == "*-*-* 00:00:00"
    assert calendar("@0 Europe/Paris").normal == "1970-01-01 00:00:00 UTC"
    with pytest.raises(ExpressionError, match="no time zone Europe/Pariss"):
        calendar("12:00 Europe/Pariss")


def test_blanks_around_and_between_words() -> None:
    assert calendar("  Mon   *-*-1   8:0   UTC ").normal == "Mon *-*-01 08:00:00 UTC"


def test_equal_expressions() -> None:
    assert calendar("Mon 8:00") == calendar("Mon 8:00")
    assert calendar("Mon 8:00") != calendar("Mon 8:00", "Europe/Paris")
    both = calendar("8:00") | calendar("9:00")
    assert [at // HOUR for at in islice(both.after(0), 2)] == [8, 9]


# Errors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what", "at", "expected"),
    [
        ("Mon..Fri 25:00", "hour 25 is not in 0..23", 9, "0 to 23"),
        ("12:60", "minute 60 is not in 0..59", 3, "0 to 59"),
        ("12:00:60", "second 60 is not in 0..59.999999", 6, "0 to 59.999999"),
        ("*-13-01", "month 13 is not in 1..12", 2, "1 to 12"),
        ("*-*-1,32", "day 32 is not in 1..31", 6, "1 to 31"),
        ("*-*~29", "day from the month's end 29 is not in 1..28", 4, "1 to 28"),
        ("1969-1-1", "year 1969 is not in 1970..2199", 0, "1970 to 2199"),
        ("1..24/8:00", "hour 24 is not in 0..23", 3, "0 to 23"),
        ("20/4:00", "hour step in 20/4 leaves 0..23 at once", 0, "a smaller step, or 20 alone"),
        ("12:0/0", "minute step in 0/0 is 0", 3, "a step above 0"),
        ("*:5..3", "minute range 5..3 runs backwards", 2, "the smaller number first"),
        ("*:*:3..3.5", "second range 3..3.5 is shorter than a second", 4, "a step, as in 3..3.5/0.1"),
        ("*/5:00", 'hour "*/5" is not a number', 0, "0/5: a step goes from a number on"),
        ("*-*-*/2", 'day "*/2" is not a number', 4, "1/2: a step goes from a number on"),
        ("12:5,*", 'minute "*" is not a number', 5, "0 to 59, a range a..b or a step a/b; * stands alone"),
        ("12:1,", 'minute "" is not a number', 5, "0 to 59, a range a..b or a step a/b"),
        ("1.5:00", "hour 1.5 is not a whole number", 0, "digits alone: only seconds have fractions"),
        ("2024-01-01T12:00", 'hour "2024-01-01T12" is not a number', 0, "a blank between a date and a time"),
        ("1:2:3:4", "a time has three fields: hour, minute and second", 6, "a blank or the end after the second"),
        ("1-2-3-4", "a date has three fields: year, month and day", 6, "a blank or the end after the day"),
        ("2024~1-2", "~ stands between year and month", 5, "- there: ~ stands before the day"),
        ("12", '"12" is neither a date nor a time', 0, "a time as 07:00 or a date as *-*-07"),
        ("1-1 12", '"12" is not a time', 4, "a time as 07:00, or a time zone"),
        ("Mon,Foo", '"foo" is no weekday', 4, "a weekday as Mon"),
        ("Mon..", "a weekday is missing", 0, "a weekday as Mon, a date as *-*-01, a time as 08:00, or a name as daily"),
        ("Sat..Mon", "weekday range Sat..Mon runs backwards", 0, "weeks from Monday to Sunday: two ranges, or a list"),
        ("Mon..Tue..Wed", "weekday range Mon..Tue..Wed has more than two ends", 0, "a range as Mon..Fri"),
        ("8:00 9:00", '"9:00" stands where the expression has ended', 5, "a time zone, or nothing"),
        ("@5 8:00", '"8:00" stands where the expression has ended', 3, "a time zone, or nothing"),
        ("@ 5", 'epoch seconds "" are no number', 0, "@ and whole seconds since 1970, as @1395716396"),
        ("@99999999999", "epoch seconds 99999999999 lie after the year 2199", 0, "at most @7258118399"),
        (
            "",
            "the calendar expression is empty",
            0,
            "a weekday as Mon, a date as *-*-01, a time as 08:00, or a name as daily",
        ),
    ],
)
def test_errors_name_field_place_and_what_was_expected(text: str, what: str, at: int, expected: str) -> None:
    with pytest.raises(ExpressionError) as error:
        calendar(text)
    assert str(error.value) == f'{what}: "{text}"'
    assert (error.value.at, error.value.expected) == (at, expected)


def test_a_number_of_a_million_digits_is_refused_at_once() -> None:
    for text in ("9" * 1_000_000 + ":00", "@" + "9" * 1_000_000, "0/" + "9" * 1_000_000 + ":00"):
        with pytest.raises(ExpressionError):
            calendar(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("*-02-30", "February has no day 30"),
        ("*-2,4-31", "February and April have no day 31"),
        ("2023,2025-2-29", "February of 2023 and 2025 has no day 29"),
        ("Mon,Tue 2026-01-01", "its dates never fall on Monday or Tuesday"),
        ("2026-03-29 2:0/5 Europe/Paris", "clocks in Europe/Paris pass over these times"),
    ],
)
def test_what_never_comes_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ExpressionError) as error:
        calendar(text)
    assert str(error.value) == f'never comes: {why}: "{text}"'


def test_what_is_over_is_read() -> None:
    assert next(calendar("2012-10-15").after(us("2026-01-01")), None) is None


# Words -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("daily", "at 00:00 every day"),
        ("hourly", "every hour"),
        ("minutely", "every minute"),
        ("weekly", "at 00:00 on Monday"),
        ("monthly", "at 00:00 on day 1 of the month"),
        ("quarterly", "at 00:00 on day 1 of January, April, July and October"),
        ("yearly", "at 00:00 on 1 January"),
        ("Mon..Fri 08:00", "at 08:00 on Monday to Friday"),
        ("Mon,Wed 8:0,30", "at 08:00 and 08:30 on Monday and Wednesday"),
        ("08:05:40.5", "at 08:05:40.5 every day"),
        ("8:0:0,30", "at 08:00:00 and 08:00:30 every day"),
        ("*:0/15", "every 15 minutes"),
        ("*:2/15", "at minutes 2, 17, 32 and 47 of each hour"),
        ("*:1/2", "at minutes 1, 3, 5 … 59 of each hour"),
        ("*:30", "at minute 30 of each hour"),
        ("0/2:00", "every 2 hours"),
        ("0/2:30", "at minute 30 of every 2nd hour"),
        ("0/3:*", "every minute of every 3rd hour"),
        ("0/12:*", "every minute of every 12th hour"),
        ("9..17:00", "at minute 0 of hours 9 to 17 every day"),
        ("9..17:0/5", "every 5 minutes of hours 9 to 17 every day"),
        ("*:*:*", "every second"),
        ("12:*:*", "every second of hour 12 every day"),
        ("*:30:*", "every second of minute 30 of each hour"),
        ("*:*:0/0.5", "every 0.5 seconds"),
        ("*:*:0/0.7", "at seconds 0, 0.7, 1.4 … 59.5 of each minute"),
        ("*:*:0/30,5", "at seconds 0, 5 and 30 of each minute"),
        ("*:4,30:0..3", "at seconds 0 to 3 of minutes 4 and 30 of each hour"),
        ("12:*:30", "at second 30 of each minute of hour 12 every day"),
        ("*-*~1 12:00", "at 12:00 on the last day of the month"),
        ("Mon *-05~07/1", "at 00:00 on the last 7 days of May if that is Monday"),
        ("*-*~1,03,05..7", "at 00:00 on the last, 3rd last and 5th to 7th last days of the month"),
        ("*-*~2", "at 00:00 on the 2nd last day of the month"),
        ("*-2-29", "at 00:00 on 29 February"),
        ("2024-02-29", "at 00:00 on 29 February 2024"),
        ("2024,2028-02-29", "at 00:00 on 29 February in 2024 and 2028"),
        ("Sat,Sun *-12-05", "at 00:00 on 5 December if that is Saturday or Sunday"),
        ("*-*-1/5", "at 00:00 on days 1, 6, 11 … 31 of the month"),
        ("2026-1..3-*", "at 00:00 every day in January to March of 2026"),
        ("2000/4-*-*", "at 00:00 every day in 2000, 2004, 2008 … 2196"),
        ("Mon *-1-*", "at 00:00 on Monday in January"),
        ("*-1,3,5,7..9,11,12-1", "at 00:00 on day 1 of January, March, May, July to September, November and December"),
        ("@1395716396", "at 02:59:56 on 25 March 2014"),
    ],
)  # fmt: skip
def test_words(text: str, words: str) -> None:
    assert calendar(text, "Europe/Paris").describe() == words


def test_all_names_of_systemd() -> None:
    """Also those that its manual does not list, and in any case of letters."""
    half, year = "*-01,07-01 00:00:00", "*-01-01 00:00:00"
    names = dict.fromkeys(("semiannually", "semi-annually", "biannually", "Bi-Annually"), half)
    names |= dict.fromkeys(("annually", "anually", "YEARLY"), year)
    for name, form in names.items():
        assert calendar(name).normal == form
    assert next(calendar("weekly").after(0)) == 4 * DAY


def test_the_years_that_can_be_named() -> None:
    assert calendar("70..69-1-1").normal == "1970..2069-01-01 00:00:00"
    assert calendar("@7258118399").normal == "2199-12-31 23:59:59 UTC"
