"""Clocks on the wall, against what datetime and zoneinfo say second by second."""

from __future__ import annotations

import importlib.resources
import itertools
import struct
import zoneinfo
from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigie.triggers import wall
from vigie.triggers.wall import DAY, HOUR, LAST_DAY, MINUTE, SECOND, Clock, Zone, civil, day_number, walk, weekday

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall time
#: By what makes each odd: a gap at midnight, half an hour, a day that never was, twice a year back, a minute past.
NAMES = (
    "Europe/Paris", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca",
    "America/St_Johns", "UTC",
)  # fmt: skip
ZONES = {name: Zone(name, ZoneInfo(name)) for name in NAMES}
FIRST, END = day_number(1900, 1, 1), day_number(2100, 1, 1)


# What datetime says: PEP 495 gives both offsets of a wall time ------------------


def naive(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


def offset_at(name: str, instant: int) -> int:
    found = naive(instant).replace(tzinfo=UTC).astimezone(ZoneInfo(name)).utcoffset()
    assert found is not None
    return found // timedelta(microseconds=1)


def instants_of(name: str, time: int) -> list[int]:
    """Give the instants at which the wall shows a time: those that lead back to it."""
    found = set()
    for fold in (0, 1):
        offset = naive(time).replace(tzinfo=ZoneInfo(name), fold=fold).utcoffset()
        assert offset is not None
        instant = time - offset // timedelta(microseconds=1)
        if instant + offset_at(name, instant) == time:
            found.add(instant)
    return sorted(found)


@cache
def settings_of(name: str) -> list[int]:
    """Give the instants at which clocks are set, from 1900 to 2100."""
    found = []
    for day in range(FIRST, END, 5):
        low, high = day * DAY, (day + 5) * DAY
        before = offset_at(name, low)
        if offset_at(name, high) != before:
            while high - low > SECOND:
                middle = (low + high) // 2 // SECOND * SECOND
                low, high = (middle, high) if offset_at(name, middle) == before else (low, middle)
            found.append(high)
    return found


def point_of(name: str, time: int) -> int:
    """Give the instant of a point in time, by the rule."""
    found = instants_of(name, time)
    if found:
        return found[0]
    return next(
        at for at in settings_of(name)
        if at + offset_at(name, at - SECOND) <= time < at + offset_at(name, at)
    )  # fmt: skip


def expected(name: str, days: list[int], clock: Clock, after: int, fixed: bool) -> list[int]:
    times = [day * DAY + time for day in days for time in clock.times()]
    if fixed:
        return sorted({at for at in (point_of(name, time) for time in times) if at > after})
    return sorted(at for time in times for at in instants_of(name, time) if at > after)


# Instants and days, half of them where clocks are set ---------------------------


@st.composite
def near_settings(draw: st.DrawFn, name: str) -> int:
    """Draw an instant: anywhere, or within two days of a moment at which clocks are set."""
    known = settings_of(name)
    if known and draw(st.booleans()):
        at = known[draw(st.integers(0, len(known) - 1))]
        return at + draw(st.one_of(st.integers(-2 * DAY, 2 * DAY), st.integers(-3, 3).map(lambda each: each * SECOND)))
    return draw(st.integers(FIRST * DAY, END * DAY))


places = st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), near_settings(name)))
clocks = st.builds(
    Clock,
    st.sets(st.integers(0, 23), min_size=1, max_size=5).map(lambda each: tuple(sorted(each))),
    st.sets(st.integers(0, 59), min_size=1, max_size=5).map(lambda each: tuple(sorted(each))),
    st.sampled_from([(0,), (0, 30 * SECOND), (52 * SECOND, 59_999_999), range(0, MINUTE, 17_500_000)]),
)


@pytest.mark.slow
@settings(max_examples=300, derandomize=True)
@given(places)
def test_what_the_wall_shows(place: tuple[str, int]) -> None:
    name, instant = place
    assert ZONES[name].offset(instant) == offset_at(name, instant)
    assert ZONES[name].wall(instant) == instant + offset_at(name, instant)


@pytest.mark.slow
@settings(max_examples=400, derandomize=True)
@given(places)
def test_when_the_wall_shows_a_time(place: tuple[str, int]) -> None:
    name, time = place
    assert ZONES[name].instants(time) == instants_of(name, time)
    assert ZONES[name].first(time) == point_of(name, time)


@pytest.mark.slow
@settings(max_examples=80, derandomize=True)
@given(places)
def test_plain_days_have_one_offset_at_each_minute(place: tuple[str, int]) -> None:
    name, instant = place
    day = instant // DAY
    offsets = {
        naive(day * DAY + minute * MINUTE).replace(tzinfo=ZoneInfo(name), fold=fold).utcoffset()
        for minute in range(1440)
        for fold in (0, 1)
    }
    alone = offsets.pop() // timedelta(microseconds=1) if len(offsets) == 1 else None
    assert ZONES[name].plain(day) == alone
    first, end, offset = ZONES[name].span(day)
    assert first <= day < end
    assert offset == alone
    assert all(ZONES[name].plain(each) == alone for each in range(first, end))


@pytest.mark.slow
@settings(max_examples=250, derandomize=True)
@given(places, clocks, st.sets(st.integers(-1, 4), min_size=1), st.booleans())
def test_a_walk_is_each_time_of_each_day(place: tuple[str, int], clock: Clock, days: set[int], fixed: bool) -> None:
    name, after = place
    chosen = sorted((ZONES[name].wall(after)) // DAY + day for day in days)
    assert list(walk(chosen, clock, ZONES[name], after, fixed=fixed)) == expected(name, chosen, clock, after, fixed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("Europe/Paris", (2026, 3, 29)), ("Europe/Paris", (2026, 10, 25)), ("Europe/Paris", (1911, 3, 11)),
        ("America/Sao_Paulo", (2018, 11, 4)), ("America/Sao_Paulo", (2018, 2, 17)),
        ("Australia/Lord_Howe", (2026, 10, 4)), ("Australia/Lord_Howe", (2026, 4, 5)),
        ("Pacific/Apia", (2011, 12, 30)), ("America/St_Johns", (2006, 10, 28)), ("America/St_Johns", (2006, 4, 2)),
    ],
)  # fmt: skip
def test_the_elapsed_rule_is_what_the_wall_shows_minute_by_minute(name: str, day: tuple[int, int, int]) -> None:
    """Count instants up, rather than times of days: nothing may be left out, twice or out of order."""
    middle = day_number(*day)
    clock = Clock((0, 1, 2, 3, 23), tuple(range(0, 60, 5)), (0, 21 * SECOND))
    seen = [
        at
        for at in range((middle - 2) * DAY, (middle + 2) * DAY, SECOND)
        if at % (20 * SECOND) in (0, SECOND)
        and (show := at + offset_at(name, at)) // HOUR % 24 in clock.hours
        and show // MINUTE % 5 == 0
        and show % MINUTE in clock.seconds
    ]
    given = walk(range(middle - 4, middle + 5), clock, ZONES[name], (middle - 2) * DAY - 1, fixed=False)
    assert [at for at in given if at < (middle + 2) * DAY and at % (20 * SECOND) in (0, SECOND)] == seen


@pytest.mark.slow
@settings(max_examples=60, derandomize=True)
@given(places, clocks, st.booleans(), st.integers(0, 40))
def test_a_walk_goes_on_where_it_was_left(place: tuple[str, int], clock: Clock, fixed: bool, left: int) -> None:
    name, after = place
    day = ZONES[name].wall(after) // DAY
    whole = list(itertools.islice(walk(range(day - 1, day + 60), clock, ZONES[name], after, fixed=fixed), 60))
    assert [after, *whole] == sorted({after, *whole})
    day = ZONES[name].wall(whole[left]) // DAY
    rest = list(itertools.islice(walk(range(day - 1, day + 60), clock, ZONES[name], whole[left], fixed=fixed), 10))
    assert rest == whole[left + 1 :][:10]


# The rules, by hand -------------------------------------------------------------


def shown(name: str, days: list[tuple[int, int, int]], clock: Clock, fixed: bool) -> list[str]:
    numbers = [day_number(*day) for day in days]
    found = walk(numbers, clock, ZONES[name], (numbers[0] - 1) * DAY, fixed=fixed)
    return [naive(at).replace(tzinfo=UTC).astimezone(ZoneInfo(name)).isoformat()[5:] for at in found]


@pytest.mark.parametrize(
    ("name", "day", "clock", "fixed", "elapsed"),
    [
        # Forth: what does not exist runs once, right after.
        ("Europe/Paris", (2026, 3, 29), Clock((2,), (0, 30)), ["03-29T03:00:00+02:00"], []),
        ("Europe/Paris", (2026, 3, 29), Clock((2, 3), (0,)), ["03-29T03:00:00+02:00"], ["03-29T03:00:00+02:00"]),
        # Back: what is shown twice runs at the first.
        ("Europe/Paris", (2026, 10, 25), Clock((2,), (30,)), ["10-25T02:30:00+02:00"],
         ["10-25T02:30:00+02:00", "10-25T02:30:00+01:00"]),
        ("America/Sao_Paulo", (2018, 11, 4), Clock((0,), (0, 59)), ["11-04T01:00:00-02:00"], []),
        ("Pacific/Apia", (2011, 12, 30), Clock((0, 12), (0,)), ["12-31T00:00:00+14:00"], []),
        # Back over midnight: the evening before is shown twice, and so is a minute of the new day.
        ("America/St_Johns", (2006, 10, 28), Clock((23,), (1,)), ["10-28T23:01:00-02:30"],
         ["10-28T23:01:00-02:30", "10-28T23:01:00-03:30"]),
    ],
)  # fmt: skip
def test_days_on_which_clocks_are_set(
    name: str, day: tuple[int, int, int], clock: Clock, fixed: list[str], elapsed: list[str]
) -> None:
    assert shown(name, [day], clock, fixed=True) == fixed
    assert shown(name, [day], clock, fixed=False) == elapsed


def test_a_day_that_never_was_and_the_next_give_one_instant() -> None:
    days = [(2011, 12, 29), (2011, 12, 30), (2011, 12, 31)]
    assert shown("Pacific/Apia", days, Clock((0,), (0,)), fixed=True) == [
        "12-29T00:00:00-10:00",
        "12-31T00:00:00+14:00",
    ]


@pytest.mark.parametrize("fixed", [False, True])
def test_clocks_set_back_over_midnight(fixed: bool) -> None:
    """Newfoundland did it at 00:01 for 24 years: two days that hang together, wherever a zone's blocks of days end."""
    clock = Clock((0, 23), tuple(range(0, 60, 20)))
    known = [
        at
        for at in settings_of("America/St_Johns")
        if at // DAY in range(day_number(1987, 1, 1), day_number(2012, 1, 1))
    ]
    for at in known:
        days = [at // DAY + each for each in range(-2, 3)]
        found = list(walk(days, clock, ZONES["America/St_Johns"], days[0] * DAY, fixed=fixed))
        assert found == expected("America/St_Johns", days, clock, days[0] * DAY, fixed)


@pytest.mark.parametrize("fixed", [False, True])
def test_days_on_which_clocks_are_set_and_no_others(fixed: bool) -> None:
    days = [day_number(2026, 3, 29), day_number(2026, 10, 25), day_number(2027, 3, 28)]
    clock = Clock((2,), (30,))
    found = list(walk(days, clock, ZONES["Europe/Paris"], 0, fixed=fixed))
    assert found == expected("Europe/Paris", days, clock, 0, fixed)


def test_times_of_a_millionth_of_a_second_need_no_memory() -> None:
    """On a plain day, and on one on which clocks are set: 86,400,000,000 times each."""
    clock = Clock(tuple(range(24)), tuple(range(60)), range(MINUTE))
    for day in (day_number(2026, 10, 24), day_number(2026, 10, 25)):
        for fixed in (False, True):
            after = day * DAY + 22 * HOUR + 7
            found = walk(range(day, day + 2), clock, ZONES["Europe/Paris"], after, fixed=fixed)
            assert list(itertools.islice(found, 3)) == [after + 1, after + 2, after + 3]


# Parts --------------------------------------------------------------------------


@settings(max_examples=100, derandomize=True)
@given(st.integers(day_number(1, 1, 1), LAST_DAY))
def test_days_are_those_of_the_calendar(day: int) -> None:
    found = date(1970, 1, 1) + timedelta(days=day)
    assert civil(day) == (found.year, found.month, found.day)
    assert day_number(*civil(day)) == day
    assert weekday(day) == found.weekday()


@settings(max_examples=100, derandomize=True)
@given(clocks, st.integers(-DAY, 2 * DAY))
def test_times_from_one_on_are_the_later_ones(clock: Clock, first: int) -> None:
    every = [h * HOUR + m * MINUTE + s for h in clock.hours for m in clock.minutes for s in clock.seconds]
    assert list(clock.times()) == every
    assert list(clock.times(first)) == [time for time in every if time >= first]


@pytest.mark.parametrize("name", ["UTC", "Europe/Paris", "Pacific/Apia"])
def test_the_calendar_has_ends(name: str) -> None:
    zone = ZONES[name]
    last = list(walk([LAST_DAY - 1, LAST_DAY], Clock((12,), (0,)), zone, (LAST_DAY - 3) * DAY, fixed=True))
    assert [zone.wall(at) for at in last] == [(LAST_DAY - 1) * DAY + 12 * HOUR, LAST_DAY * DAY + 12 * HOUR]
    start = day_number(1, 1, 1)
    first = next(walk([start, start + 1], Clock((0,), (0,)), zone, (start - 2) * DAY, fixed=True))
    assert zone.wall(first) == start * DAY


def test_a_zone_is_its_name_and_forgets_what_it_looked_up_long_ago() -> None:
    zone = Zone("+02:00", timezone(timedelta(hours=2)))
    assert zone == Zone("+02:00", UTC)
    assert repr(zone) == "Zone(name='+02:00')"
    for number in range(4_500):
        assert zone.plain(number * 32) == 2 * HOUR
    assert len(zone._blocks) < 4_100


def _zone_file(name: str) -> bytes:
    for top in zoneinfo.TZPATH:
        path = Path(top, name)
        if path.is_file():
            return path.read_bytes()
    return importlib.resources.files("tzdata.zoneinfo").joinpath(name).read_bytes()


def _changes(data: bytes) -> list[tuple[int, int]]:
    """Read a zone's file (RFC 8536): when which offset begins, in seconds."""

    def counts(at: int) -> tuple[int, ...]:
        return struct.unpack(">6l", data[at + 20 : at + 44])

    isut, isstd, leap, times, types, chars = counts(0)
    at = 44 + 5 * times + 6 * types + chars + 8 * leap + isstd + isut
    times, types = counts(at)[3:5]
    at += 44
    since = struct.unpack(f">{times}q", data[at : at + 8 * times])
    which = data[at + 8 * times : at + 9 * times]
    at += 9 * times
    offsets = [struct.unpack(">l", data[at + 6 * each : at + 6 * each + 4])[0] for each in range(types)]
    found: list[tuple[int, int]] = []
    for when, each in zip(since, which, strict=True):
        if not found or found[-1][1] != offsets[each]:
            found.append((when, offsets[each]))
    return found


@pytest.mark.slow
def test_no_clocks_were_ever_set_twice_within_a_look() -> None:
    """What makes it right to look at each second day only."""
    shortest = min(
        (after - before, name)
        for name in sorted(zoneinfo.available_timezones())
        for (before, _), (after, _) in itertools.pairwise(_changes(_zone_file(name)))
        if before * SECOND >= FIRST * DAY
    )
    assert shortest[0] * SECOND > wall._LOOK, shortest
