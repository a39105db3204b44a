"""Triggers made of triggers, and the questions asked of them, against lists of instants."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigie import zones
from vigie.errors import ExpressionError
from vigie.triggers.base import Joinable
from vigie.triggers.combine import (
    AnyOf,
    Repeated,
    Trigger,
    Within,
    Without,
    check_repetition,
    count,
    latest,
    moved,
    relative,
)
from vigie.triggers.cron import Cron
from vigie.triggers.ics import parse_ics
from vigie.triggers.interval import Every, Once
from vigie.triggers.limits import Limits, read_limits
from vigie.triggers.phrases import parse_phrase
from vigie.triggers.wall import DAY, HOUR, MINUTE, SECOND, Zone, day_number

PARIS = zones.load("Europe/Paris")
UTC_ZONE = Zone("UTC", UTC)


@dataclass(frozen=True)
class Listed(Joinable):
    """Comes at instants of a list, and counts how often it was asked and what it gave."""

    instants: tuple[int, ...]
    text: str = "listed"
    asked: list[int] = field(default_factory=lambda: [0, 0], compare=False)

    def after(self, instant: int) -> Iterator[int]:
        self.asked[0] += 1
        for each in self.instants[bisect_right(self.instants, instant) :]:
            self.asked[1] += 1
            yield each

    def describe(self) -> str:
        return self.text


def listed(most: int = 1_000) -> st.SearchStrategy[Listed]:
    return st.sets(st.integers(0, most), max_size=40).map(lambda found: Listed(tuple(sorted(found))))


derandomized = settings(max_examples=80, derandomize=True)


# Any of several ----------------------------------------------------------------


@derandomized
@given(st.lists(listed(), min_size=1, max_size=5), st.integers(-5, 1_005))
def test_any_of_is_the_sorted_union(triggers: list[Listed], after: int) -> None:
    union = sorted({each for trigger in triggers for each in trigger.instants if each > after})
    assert list(AnyOf(tuple(triggers)).after(after)) == union


def test_triggers_are_joined_by_a_bar() -> None:
    a, b, c = Listed((1, 5), "a"), Listed((2, 5), "b"), Every(4, 0)
    both = a | b
    assert list(both.after(0)) == [1, 2, 5]
    assert both == AnyOf((a, b))
    assert (both | c) == (a | (b | c)) == AnyOf((a, b, c)), "one level, however it was put together"
    assert (both.text, both.describe()) == ("a | b", "a; b")
    assert list(islice((both | c).after(0), 5)) == [1, 2, 4, 5, 8]


def test_triggers_of_all_kinds_are_joined() -> None:
    phrase = parse_phrase("daily 08:00", UTC_ZONE, 0)
    found = phrase | Cron.parse("30 8 * * *", UTC_ZONE)
    assert list(islice(found.after(0), 3)) == [8 * HOUR, 8 * HOUR + 30 * MINUTE, 32 * HOUR]


# The last one, and how many ------------------------------------------------------


@derandomized
@given(st.lists(listed(60), min_size=1, max_size=3), st.integers(-5, 65), st.integers(-5, 65), st.integers(0, 50))
def test_latest_and_count_against_a_list(triggers: list[Listed], after: int, until: int, most: int) -> None:
    union = AnyOf(tuple(triggers))
    within = [each for trigger in triggers for each in trigger.instants if after < each <= until]
    assert latest(union, after, until) == max(within, default=None)
    assert count(union, after, until, most) == min(len(set(within)), most)


def test_the_end_is_included_and_the_begin_is_not() -> None:
    trigger = Listed((10, 20))
    for after, until, last, number in (
        (0, 10, 10, 1),
        (0, 9, None, 0),
        (10, 19, None, 0),
        (9, 20, 20, 2),
        (10, 20, 20, 1),
    ):
        assert (latest(trigger, after, until), count(trigger, after, until, 5)) == (last, number)
    assert latest(trigger, 20, 10) is None


@pytest.mark.parametrize("size", [1, 63, 64, 65, 66, 128, 129, 197, 500])
def test_latest_of_a_burst_is_its_last(size: int) -> None:
    """Found by chance: 197 instants, each 1 µs after the one before, of which the last but one was given."""
    trigger = Listed(tuple(range(2_323, 2_323 + size)))
    for until in (2_322 + size, 2_323 + size, 2_672, 10**9):
        if until >= 2_322 + size:
            assert latest(trigger, 0, until) == 2_322 + size


@derandomized
@given(
    st.lists(st.tuples(st.integers(0, 10**15), st.integers(1, 300), st.sampled_from([1, 1000, SECOND, DAY]))),
    st.integers(0, 10**15),
    st.integers(0, 10**15),
)
def test_latest_in_a_great_calendar(bursts: list[tuple[int, int, int]], after: int, until: int) -> None:
    """Bursts of many instants, and years of nothing between them."""
    trigger = Listed(tuple(sorted({at + step * number for at, size, step in bursts for number in range(size)})))
    within = [each for each in trigger.instants if after < each <= until]
    assert latest(trigger, after, until) == max(within, default=None)


@pytest.mark.parametrize(
    ("line", "last"),
    [
        ("* * * * * *", "2026-12-31 23:59:59"),
        ("*/5 * * * *", "2026-12-31 23:55"),
        ("0 0 29 2 *", "2024-02-29"),
        ("* * * 24 12 *", "2026-12-24 23:59:59"),
        ("0 0 1 1 *", "2026-01-01"),
    ],
)
def test_latest_looks_at_few_instants(line: str, last: str) -> None:
    trigger = Cron.parse(line, UTC_ZONE)
    asked = Counted(trigger)
    until = instant("2027-01-01") - 1
    assert latest(asked, instant("2000-01-01"), until) == instant(last)
    assert asked.asked < 150
    assert asked.given < 2_000, "not one by one"


@dataclass
class Counted:
    """Counts what is asked of a trigger."""

    trigger: Trigger
    text: str = "counted"
    asked: int = 0
    given: int = 0

    def after(self, at: int) -> Iterator[int]:
        self.asked += 1
        for each in self.trigger.after(at):
            self.given += 1
            yield each

    def describe(self) -> str:
        return self.text


def instant(text: str) -> int:
    """Give an instant in UTC."""
    day, _, clock = text.partition(" ")
    hour, minute, second = (*map(int, clock.split(":")), 0, 0, 0)[:3] if clock else (0, 0, 0)
    return day_number(*map(int, day.split("-"))) * DAY + hour * HOUR + minute * MINUTE + second * SECOND


# Bounded -----------------------------------------------------------------------


@derandomized
@given(listed(), st.none() | st.integers(0, 1_000), st.none() | st.integers(0, 1_000), st.integers(-5, 1_005))
def test_within_includes_both_ends(trigger: Listed, start: int | None, end: int | None, after: int) -> None:
    low, high = -1 if start is None else start, 2_000 if end is None else end
    expected = [each for each in trigger.instants if low <= each <= high and each > after]
    assert list(Within(trigger, start, end, UTC_ZONE).after(after)) == expected


def test_within_says_its_bounds() -> None:
    trigger = Listed((1,), "daily")
    start, end = PARIS.first(day_number(2026, 1, 1) * DAY), PARIS.first(day_number(2026, 2, 1) * DAY)
    assert Within(trigger, start, end - 1, PARIS).text == "daily from 2026-01-01 until 2026-01-31"
    assert Within(trigger, None, end, PARIS).text == "daily until 2026-02-01T00:00:00+01:00"
    assert Within(trigger, start + 1, None, PARIS).describe() == "daily from 2026-01-01T00:00:00.000001+01:00"


# With days left out ----------------------------------------------------------------

HOLIDAYS = """BEGIN:VCALENDAR
BEGIN:VEVENT
DTSTART;VALUE=DATE:20260101
DTEND;VALUE=DATE:20260102
RRULE:FREQ=YEARLY
END:VEVENT
BEGIN:VEVENT
DTSTART;TZID=Europe/Paris:20260105T120000
DTEND;TZID=Europe/Paris:20260107T080000
END:VEVENT
END:VCALENDAR
"""


@derandomized
@given(
    st.sets(st.integers(20_454, 20_466)),
    st.sampled_from(["daily 07:30", "hourly", "daily 00:00,23:59:59", "every 7h"]),
    st.booleans(),
)
def test_days_and_calendars_are_left_out(days: set[int], phrase: str, holidays: bool) -> None:
    begin = PARIS.first(day_number(2025, 12, 31) * DAY)
    trigger = parse_phrase(phrase, PARIS, begin)
    busy = parse_ics(HOLIDAYS, PARIS, zones.load)
    without = Without(trigger, frozenset(days), (busy,) if holidays else (), PARIS)
    until = begin + 12 * DAY

    def left_out(at: int) -> bool:
        wall = PARIS.wall(at)
        if wall // DAY in days:
            return True
        event = day_number(2026, 1, 5) * DAY + 12 * HOUR <= wall < day_number(2026, 1, 7) * DAY + 8 * HOUR
        return holidays and (wall // DAY == day_number(2026, 1, 1) or event)

    everything = [each for each in islice(trigger.after(begin), 400) if each <= until]
    expected = [each for each in everything if not left_out(each)]
    assert list(islice(without.after(begin), len(expected))) == expected
    assert [each for each in everything if without.allows(each)] == expected


def test_what_is_left_out_is_jumped_over() -> None:
    """A year of seconds is not looked at one by one."""
    asked = Counted(Cron.parse("* * * * * *", UTC_ZONE))
    days = frozenset(range(day_number(2026, 1, 1), day_number(2027, 1, 1)))
    assert next(Without(asked, days, (), UTC_ZONE).after(instant("2026-01-01"))) == instant("2027-01-01")
    assert asked.given <= 366
    event = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20260101\nDTEND:20270101\nEND:VEVENT\nEND:VCALENDAR"
    busy = parse_ics(event, UTC_ZONE, zones.load)
    asked.given = 0
    assert next(Without(asked, frozenset(), (busy,), UTC_ZONE).after(instant("2026-01-01"))) == instant("2027-01-01")
    assert asked.given < 10


@pytest.mark.slow
def test_nothing_left_for_ever_ends() -> None:
    every_day = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20200101\nRRULE:FREQ=DAILY\nEND:VEVENT\nEND:VCALENDAR"
    busy = parse_ics(every_day, UTC_ZONE, zones.load)
    begin = instant("2026-01-01")
    for line in ("* * * * * *", "0 12 * * *"):
        assert list(Without(Cron.parse(line, UTC_ZONE), frozenset(), (busy,), UTC_ZONE).after(begin)) == []
    assert list(Without(Every(DAY, begin), frozenset(), (busy,), UTC_ZONE).after(begin)) == []


def test_a_rare_trigger_is_waited_for() -> None:
    """Leap days on which it is Monday come every 28 years or 40; two of them left out are no reason to give up."""
    trigger = parse_phrase("yearly 02-29", UTC_ZONE, 0)
    days = frozenset(day_number(year, 2, 29) for year in range(1972, 2200, 4) if year % 100 != 0 or year % 400 == 0)
    assert next(Without(trigger, days, (), UTC_ZONE).after(0)) == instant("2204-02-29")


def test_what_is_left_out_now_and_then_does_not_add_up() -> None:
    """A century is counted from the last instant that came."""
    trigger = parse_phrase("yearly 01-01", UTC_ZONE, 0)
    days = frozenset(day_number(year, 1, 1) for year in range(1970, 2400, 2))
    found = Within(Without(trigger, days, (), UTC_ZONE), None, instant("2399-12-31"), UTC_ZONE)
    assert list(found.after(-1)) == [instant(f"{year}-01-01") for year in range(1971, 2400, 2)]


def test_what_is_left_out_is_said() -> None:
    busy = parse_ics(HOLIDAYS, PARIS, zones.load)
    trigger = Listed((1,), "daily")
    assert Without(trigger, frozenset((0, 1)), (), PARIS).text == "daily except 1970-01-01, 1970-01-02"
    assert Without(trigger, frozenset(range(9)), (busy,), PARIS).text == "daily except 9 days, 1 calendar"
    assert Without(trigger, frozenset(), (busy, busy), PARIS).describe() == "daily except 2 calendars"


# Repeated ----------------------------------------------------------------------


@derandomized
@given(listed(400), st.integers(1, 50), st.integers(1, 200), st.integers(-5, 700))
def test_repetitions_end_before_their_time_and_start_anew(
    trigger: Listed, every: int, lasting: int, after: int
) -> None:
    expected = []
    for number, start in enumerate(trigger.instants):
        end = start + lasting
        if number + 1 < len(trigger.instants):
            end = min(end, trigger.instants[number + 1])
        expected += range(start, end, every)
    assert list(Repeated(trigger, every, lasting).after(after)) == [each for each in expected if each > after]


def test_every_ten_minutes_for_two_hours_are_twelve() -> None:
    trigger = Repeated(parse_phrase("daily 08:00", UTC_ZONE, 0), 10 * MINUTE, 2 * HOUR)
    found = list(islice(trigger.after(0), 13))
    assert found[:12] == [8 * HOUR + number * 10 * MINUTE for number in range(12)]
    assert found[12] == DAY + 8 * HOUR
    assert trigger.text == "daily 08:00 every 10m for 2h"


def test_a_repetition_of_something_that_comes_often_begins_fast() -> None:
    asked = Counted(Cron.parse("* * * * * *", UTC_ZONE))
    until = instant("2026-06-01")
    assert next(Repeated(asked, SECOND // 2, 1_000 * DAY).after(until)) == until + SECOND // 2
    assert asked.given < 100


@pytest.mark.parametrize(("every", "lasting"), [(10, 100), (MINUTE, MINUTE), (HOUR, MINUTE), (0, HOUR)])
def test_what_repeats_nothing_is_refused(every: int, lasting: int) -> None:
    with pytest.raises(ExpressionError, match="repeats nothing"):
        check_repetition(every, lasting)


# Intervals and the clock on the wall -------------------------------------------------


@derandomized
@given(st.integers(1, 1_000), st.integers(-1_000, 1_000), st.integers(-5_000, 5_000))
def test_every_comes_at_whole_intervals_after_its_anchor(every: int, anchor: int, after: int) -> None:
    expected = [at for at in range(anchor + every, 12_000, every) if at > after][:5]
    assert list(islice(Every(every, anchor).after(after), 5)) == expected


def test_once_comes_once() -> None:
    once = Once(10, "at 18:00", "18:00")
    assert (list(once.after(9)), list(once.after(10)), list(once.after(11))) == ([10], [], [])


def test_what_is_relative_moves_with_the_clock() -> None:
    every, fixed = Every(10, 3), Every(10, 3, relative=False)
    soon, then = Once(50, "in 5m", "x", relative=True), Once(50, "at 18:00", "x")
    cron = Cron.parse("0 8 * * *", UTC_ZONE)
    assert [relative(each) for each in (every, fixed, soon, then, cron)] == [True, False, True, False, False]
    assert relative(every | soon)
    assert not relative(every | cron)
    for wrap in (
        lambda trigger: Within(trigger, 0, None, UTC_ZONE),
        lambda trigger: Without(trigger, frozenset(), (), UTC_ZONE),
        lambda trigger: Repeated(trigger, 1, 5),
        lambda trigger: AnyOf((trigger, trigger)),
    ):
        assert relative(wrap(every))
        assert not relative(wrap(cron))
        assert moved(wrap(every), 7) == wrap(Every(10, 10))
        assert moved(wrap(cron), 7) == wrap(cron)
    assert moved(fixed, 7) == fixed
    assert moved(then, 7) == then
    assert moved(soon, 7).instant == 57
    assert list(islice(moved(every | cron, 7).after(0), 2)) == [20, 30]


# Limits ------------------------------------------------------------------------


def limits(start: str | None = None, end: str | None = None, *excluded: str) -> Limits:
    return read_limits(start, end, list(excluded), PARIS, lambda name: parse_ics(HOLIDAYS, PARIS, zones.load))


@pytest.mark.parametrize(
    ("written", "first", "last"),
    [
        ("2026-03-29", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        ("2026-03-29T12:00", "2026-03-29T10:00Z", "2026-03-29T10:00Z"),
        ("2026-03-29 12:00:30", "2026-03-29T10:00:30Z", "2026-03-29T10:00:30Z"),
        ("2026-03-29 02:30", "2026-03-29T01:00Z", "2026-03-29T01:00Z"),
        ("2026-10-25 02:30", "2026-10-25T00:30Z", "2026-10-25T00:30Z"),
        ("2026-03-29T12:00+00:00", "2026-03-29T12:00Z", "2026-03-29T12:00Z"),
    ],
)
def test_boundaries(written: str, first: str, last: str) -> None:
    from datetime import datetime, timedelta

    def us(text: str) -> int:
        return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    found = limits(written, written)
    assert found.start == us(first)
    assert found.end == us(last) - (len(written) == 10), "a day ends with its last µs"


def test_limits_allow_or_not() -> None:
    found = limits("2026-01-01", "2026-01-31", "2026-01-10", "2026-01-20..2026-01-22", "holidays.ics")
    noon = [PARIS.first(day_number(2026, 1, 1) * DAY + number * DAY + 12 * HOUR) for number in range(-1, 32)]
    allowed = [number for number, each in enumerate(noon) if found.allow(each)]
    assert allowed == [number for number in range(2, 32) if number not in {5, 6, 10, 20, 21, 22}]
    trigger = parse_phrase("daily 12:00", PARIS, 0)
    assert list(found.of(trigger).after(0)) == [noon[number] for number in allowed]
    assert found.text == " from 2026-01-01 until 2026-01-31 except 4 days, 1 calendar"
    edges = limits("2026-01-01 08:00", "2026-01-02 08:00")
    assert [edges.allow(at) for at in (edges.start - 1, edges.start, edges.end, edges.end + 1)] == [
        False, True, True, False
    ]  # fmt: skip
    assert limits().of(trigger) is trigger
    assert limits().text == ""


@pytest.mark.parametrize(
    ("start", "end", "excluded", "what"),
    [
        ("2026-02-30", None, [], "day 30 is not in 1..28 of 2026-02"),
        ("tomorrow", None, [], '"tomorrow" is no date'),
        (None, "08:00", [], '"08:00" is no date'),
        (None, "2026-01-01 25:00", [], "hour 25 is not in 0..23"),
        (None, "2026-01-01 08:00 x", [], '"x" cannot stand here'),
        ("2026-02-01", "2026-01-31", [], 'until "2026-01-31" comes before from "2026-02-01"'),
        (None, None, ["2026-13-01"], '"2026-13-01" is no date to leave out'),
        (None, None, ["2026-01-01..x"], '"x" is no date to leave out'),
        (None, None, ["holidays"], '"holidays" is no date to leave out'),
        (None, None, ["2026-01-01T08:00"], '"2026-01-01T08:00" has a time'),
        (None, None, ["2026-01-02..2026-01-01"], "the range of dates ends before it begins"),
        (None, None, ["2026-01-01..3026-01-01"], "the range of dates is longer than ten years"),
    ],
)
def test_wrong_limits(start: str | None, end: str | None, excluded: list[str], what: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        limits(start, end, *excluded)
    assert raised.value.message.startswith(what)
    assert raised.value.expected


def test_the_place_in_a_range_is_named() -> None:
    with pytest.raises(ExpressionError) as raised:
        limits(None, None, "2026-01-01..2026-02-30")
    assert raised.value.at == len("2026-01-01..2026-02-")
