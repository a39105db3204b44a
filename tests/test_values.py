"""Durations, sizes, rates and times, by example and by property."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vigie.values
from vigie.errors import UsageError
from vigie.values import (
    format_duration,
    format_rate,
    format_size,
    format_time,
    parse_duration,
    parse_rate,
    parse_size,
    parse_time,
)

PARIS = ZoneInfo("Europe/Paris")


def us(text: str) -> int:
    """Give the instant of an ISO text that has an offset."""
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(vigie.values).failed == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d", 172800),
        ("1w", 604800),
        ("250ms", 0.25),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("0", 0),
        ("10", 10),
        ("2.5", 2.5),
        (3, 3),
        (0.25, 0.25),
        ("PT1H30M", 5400),
        ("P1DT12H", 129600),
        ("P2W", 1209600),
        ("PT0.5S", 0.5),
        ("PT0,5S", 0.5),
        ("5 minutes", 300),
        ("1 hour", 3600),
        ("250us", 0.00025),
        (timedelta(minutes=2), 120),
    ],
)
def test_durations(text: str | float | timedelta, seconds: float) -> None:
    assert parse_duration(text) == round(seconds * 1e6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "x",
        "5x",
        "m",
        "1h30",
        "P",
        "PT",
        "P1M",
        "P1Y",
        "PT1S1M",
        "1..5s",
        "inf",
        "nan",
        "1e3",
        "٣s",
        "P1",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration") as caught:
        parse_duration(text, "--timeout")
    assert str(caught.value).startswith("--timeout: ")
    assert caught.value.hint


@pytest.mark.parametrize("text", ["-5", "-5s", "-PT1M", -1, -0.5, timedelta(seconds=-1)])
def test_a_negative_duration_names_the_option(text: str | float | timedelta) -> None:
    with pytest.raises(UsageError, match=r"^--timeout: .* is negative\b"):
        parse_duration(text, "--timeout")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), True, None, [], "400000000d"])
def test_odd_durations_are_refused(value: object) -> None:
    with pytest.raises(UsageError):
        parse_duration(value)  # type: ignore[arg-type]


@given(st.integers(0, 10**16))
def test_an_exact_duration_reads_back(value: int) -> None:
    assert parse_duration(format_duration(value, exact=True)) == value


@given(st.integers(1, 10**16))
def test_a_short_duration_is_near(value: int) -> None:
    assert abs(parse_duration(format_duration(value)) - value) <= max(0.06 * value, 1)


@given(st.text(max_size=12))
def test_any_text_gives_a_duration_or_a_usage_error(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except UsageError:
        pass


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10 GiB", 10 << 30),
        ("500 MB", 500_000_000),
        ("1024", 1024),
        ("1.5k", 1536),
        ("1 kB", 1000),
        ("0", 0),
        ("7 bytes", 7),
        ("2T", 2 << 40),
        (12, 12),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "5 XB", "-1", "1e3", "99999 EiB", -3, True, 1.5, None])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(UsageError, match=r"^--max-output: "):
        parse_size(text, "--max-output")  # type: ignore[arg-type]


@given(st.integers(0, (1 << 63) - 1))
def test_an_exact_size_reads_back(value: int) -> None:
    assert parse_size(format_size(value, exact=True)) == value


@given(st.integers(0, 1 << 60))
def test_a_short_size_is_near(value: int) -> None:
    assert abs(parse_size(format_size(value)) - value) <= 0.06 * value


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10/s", 10), ("600/m", 10), ("36/h", 0.01), ("5", 5), (2.5, 2.5), ("1/10s", 0.1), ("3 / min", 0.05)],
)
def test_rates(text: str | float, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "x/s", "0/s", "-1/s", "5/", "5/x", "inf/s", "nan/s", "5/0s", True])
def test_what_is_no_rate_is_refused(text: object) -> None:
    with pytest.raises(UsageError, match=r"^--rate: "):
        parse_rate(text, "--rate")  # type: ignore[arg-type]


@given(st.floats(1e-4, 1e6))
def test_a_rate_reads_back(value: float) -> None:
    assert parse_rate(format_rate(value)) == pytest.approx(value, rel=1e-4)


NOW = us("2026-11-22T12:00:00+01:00")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T14:00:00Z", "2026-11-23T14:00:00+00:00"),
        ("2026-11-23T14:00+05:30", "2026-11-23T14:00:00+05:30"),
        ("2026-11-23T14:00", "2026-11-23T14:00:00+01:00"),
        ("2026-11-23 14:00", "2026-11-23T14:00:00+01:00"),
        ("2026-07-01", "2026-07-01T00:00:00+02:00"),
        ("14:00", "2026-11-22T14:00:00+01:00"),
        ("11:59", "2026-11-23T11:59:00+01:00"),
        ("12:00", "2026-11-23T12:00:00+01:00"),
        ("12:00:01", "2026-11-22T12:00:01+01:00"),
    ],
)
def test_times(text: str, expected: str) -> None:
    assert parse_time(text, NOW, PARIS) == us(expected)


def test_times_in_the_past() -> None:
    assert parse_time("14:00", NOW, PARIS, past=True) == us("2026-11-21T14:00:00+01:00")
    assert parse_time("2h", NOW, PARIS, past=True) == us("2026-11-22T10:00:00+01:00")


@pytest.mark.parametrize("text", ["", "x", "25:00", "14:60", "2026-13-01", "2026-02-30", "20261122", "1", "tomorrow"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--at: "):
        parse_time(text, NOW, PARIS, option="--at")


def test_a_wall_time_that_spring_skips_keeps_its_distance_from_midnight() -> None:
    now = us("2026-03-29T00:30:00+01:00")
    assert parse_time("02:30", now, PARIS) == us("2026-03-29T03:30:00+02:00")


def test_a_wall_time_that_autumn_repeats_is_the_first_that_fits() -> None:
    assert parse_time("02:30", us("2026-10-25T01:00:00+02:00"), PARIS) == us("2026-10-25T02:30:00+02:00")
    assert parse_time("02:30", us("2026-10-25T02:45:00+02:00"), PARIS) == us("2026-10-25T02:30:00+01:00")
    assert parse_time("02:30", us("2026-10-25T02:45:00+01:00"), PARIS) == us("2026-10-26T02:30:00+01:00")


@given(
    st.integers(0, 4_000_000_000_000_000),
    st.sampled_from([None, PARIS, ZoneInfo("Australia/Lord_Howe"), UTC]),
)
def test_a_written_time_reads_back(value: int, zone: ZoneInfo | None) -> None:
    assert parse_time(format_time(value, zone), 0, zone) == value


@given(
    st.integers(0, 4_000_000_000_000_000),
    st.integers(0, 1439),
    st.sampled_from([PARIS, ZoneInfo("Australia/Lord_Howe")]),
)
def test_the_next_moment_is_within_two_days(now: int, minute: int, zone: ZoneInfo) -> None:
    found = parse_time(f"{minute // 60:02}:{minute % 60:02}", now, zone)
    assert now < found <= now + 49 * 3_600_000_000
