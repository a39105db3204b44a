"""Zones by name: what is accepted, what is suggested, and which one is this machine's."""

from __future__ import annotations

import shutil
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import pytest

from vigie import zones
from vigie.errors import ExpressionError
from vigie.triggers.wall import HOUR, MINUTE

SUMMER = 1_782_000_000_000_000  # 2026-06-21


def where(name: str) -> Path:
    """Give the file of a zone on this machine."""
    for directory in zoneinfo.TZPATH:
        if Path(directory, name).exists():
            return Path(directory, name)
    pytest.skip(f"this machine has no file of the zone {name}")


@pytest.fixture
def own_zones(tmp_path: Path) -> Iterator[Path]:
    """Give a directory that is the only one with zones: Vigie's and Python's notes of others are gone."""
    source = where("Europe/Paris").parent
    directory = tmp_path / "share" / "zoneinfo"
    (directory / "Europe").mkdir(parents=True)
    for name in ("Paris", "Berlin", "Moscow"):
        shutil.copy(source / name, directory / "Europe" / name)
    shutil.copy(where("UTC"), directory / "UTC")
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([str(directory)])
    zones._known.clear()
    zones._every.cache_clear()
    yield directory
    zoneinfo.reset_tzpath(before)
    zones._known.clear()
    zones._every.cache_clear()


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Europe/Paris", "Europe/Paris"),
        ("europe/PARIS", "Europe/Paris"),
        ("america/argentina/buenos_aires", "America/Argentina/Buenos_Aires"),
        ("Etc/GMT+5", "Etc/GMT+5"),
        ("CET", "CET"),
        ("UTC", "UTC"),
        ("utc", "UTC"),
        ("Z", "UTC"),
        (" Europe/Paris\n", "Europe/Paris"),
    ],
)
def test_names(written: str, name: str) -> None:
    found = zones.load(written)
    assert found.name == name
    assert found is zones.load(name), "one zone, one set of notes"


@pytest.mark.parametrize(
    ("written", "name", "offset"),
    [
        ("+02:00", "+02:00", 2 * HOUR),
        ("-0330", "-03:30", -3 * HOUR - 30 * MINUTE),
        ("+14", "+14:00", 14 * HOUR),
        ("UTC+02:00", "+02:00", 2 * HOUR),
        ("gmt-01:00", "-01:00", -HOUR),
        ("-00:00", "+00:00", 0),
        ("+23:59", "+23:59", 23 * HOUR + 59 * MINUTE),
    ],
)
def test_offsets(written: str, name: str, offset: int) -> None:
    found = zones.load(written)
    assert (found.name, found.offset(0), found.offset(SUMMER)) == (name, offset, offset)


@pytest.mark.parametrize(
    ("written", "near"),
    [
        ("Europe/Pariss", "Europe/Paris"),
        ("paris", "Europe/Paris"),
        ("New York", "America/New_York"),
        ("Eurpoe/Berlin", "Europe/Berlin"),
        ("right/Europe/Paris", "Europe/Paris"),
        ("../zoneinfo/Europe/Paris", "Europe/Paris"),
    ],
)
def test_near_names(written: str, near: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        zones.load(written)
    assert written in raised.value.message
    assert near in str(raised.value.expected)


@pytest.mark.parametrize(
    "written",
    [
        "", " ", "x", "Mars/Olympus", "../x", "/etc/passwd", "/usr/share/zoneinfo/Europe/Paris", "Europe", "Europe/",
        "localtime", "posixrules", "Factory", "posix/Europe/Paris", "zone.tab", "tzdata.zi", "a\0b", "é", "x" * 300,
        "+24:00", "+1", "+02:60", "+2:00",
    ],
)  # fmt: skip
def test_what_is_no_zone(written: str) -> None:
    with pytest.raises(ExpressionError, match="there is no time zone") as raised:
        zones.load(written)
    assert raised.value.code == 2
    assert "UTC" in str(raised.value.expected)


def test_none_is_this_machines_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert zones.load(None).name == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("Asia/Tokyo", "Asia/Tokyo"),
        (":Asia/Tokyo", "Asia/Tokyo"),
        ("/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
        (":/usr/share/zoneinfo/posix/Asia/Tokyo", "Asia/Tokyo"),
        ("asia/tokyo", "Asia/Tokyo"),
        ("", "UTC"),
    ],
)
def test_tz_comes_first(told: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "timezone").write_text("Europe/Paris\n")
    assert zones.local_name({"TZ": told}, str(tmp_path / "localtime"), str(tmp_path / "timezone")) == name


@pytest.mark.parametrize("told", [None, "CET-1CEST,M3.5.0,M10.5.0/3", "Nowhere/City", ":/tmp/x"])
def test_without_a_valid_tz_the_machines_files_say_it(told: str | None, tmp_path: Path) -> None:
    environ = {} if told is None else {"TZ": told}
    link, written = tmp_path / "localtime", tmp_path / "timezone"
    assert zones.local_name(environ, str(link), str(written)) == "UTC", "neither is there"
    written.write_text("Europe/Berlin\n")
    assert zones.local_name(environ, str(link), str(written)) == "Europe/Berlin"
    link.symlink_to("/usr/share/zoneinfo/Europe/Paris")
    assert zones.local_name(environ, str(link), str(written)) == "Europe/Paris", "the link comes first"
    written.write_text("no zone at all")
    link.unlink()
    link.symlink_to("nowhere")
    assert zones.local_name(environ, str(link), str(written)) == "UTC"
    link.unlink()
    link.symlink_to("localtime")
    assert zones.local_name(environ, str(link), str(written)) == "UTC", "a link to itself"


def test_utc_has_its_short_name(tmp_path: Path) -> None:
    link = tmp_path / "localtime"
    link.symlink_to("/usr/share/zoneinfo/Etc/UTC")
    assert zones.local_name({}, str(link), str(tmp_path / "timezone")) == "UTC"


def test_an_alias_keeps_the_name_that_was_chosen(own_zones: Path, tmp_path: Path) -> None:
    """Files of zones are links to others since they agree after 1970; Amsterdam is not Brussels for all that."""
    (own_zones / "Europe" / "Zurich").symlink_to("Berlin")
    (tmp_path / "first").symlink_to(own_zones / "Europe" / "Zurich")
    (tmp_path / "localtime").symlink_to("first")
    assert zones.local_name({}, str(tmp_path / "localtime"), str(tmp_path / "timezone")) == "Europe/Zurich"


def test_a_copy_is_recognised_by_its_content(own_zones: Path, tmp_path: Path) -> None:
    copy, written = tmp_path / "localtime", tmp_path / "timezone"
    shutil.copy(own_zones / "Europe" / "Berlin", copy)
    written.write_text("UTC\n")
    assert zones.local_name({}, str(copy), str(written)) == "Europe/Berlin", "what is written is of another day"
    shutil.copy(copy, own_zones / "Europe" / "Zurich")
    written.write_text("Europe/Zurich\n")
    assert zones.local_name({}, str(copy), str(written)) == "Europe/Zurich", "of two with this file the one written"
    copy.write_bytes(b"TZif of nowhere")
    assert zones.local_name({}, str(copy), str(written)) == "Europe/Zurich"


def test_a_changed_file_is_noticed(own_zones: Path) -> None:
    paris, moscow = (own_zones / "Europe" / name for name in ("Paris", "Moscow"))
    before = zones.load("Europe/Paris")
    note = zones.fingerprint(before)
    assert zones.fingerprint(before) == note
    assert before.offset(SUMMER) == 2 * HOUR
    shutil.copy(moscow, paris)
    assert zones.fingerprint(before) != note
    assert zones.load("Europe/Paris") is before, "until it is forgotten"
    zones.forget("europe/paris")
    after = zones.load("Europe/Paris")
    assert after.offset(SUMMER) == 3 * HOUR
    assert before.offset(SUMMER) == 2 * HOUR, "what was given out stays as it is"
    assert zones.fingerprint(after) == zones.fingerprint(zones.load("Europe/Moscow"))


def test_a_file_that_went_is_noticed(own_zones: Path) -> None:
    file = own_zones / "Europe" / "Atlantis"
    shutil.copy(own_zones / "Europe" / "Paris", file)
    zone = zones.load("Europe/Atlantis")
    assert zones.fingerprint(zone) == zones.fingerprint(zones.load("Europe/Paris"))
    assert zones.load("EUROPE/ATLANTIS") is zone
    file.unlink()
    assert zones.fingerprint(zone) == "gone"
    shutil.copy(own_zones / "Europe" / "Paris", own_zones / "Europe" / "Lemuria")
    zones.forget("Europe/Atlantis")
    assert zones.load("europe/lemuria").name == "Europe/Lemuria", "and what is new is found"
    with pytest.raises(ExpressionError, match="there is no time zone"):
        zones.load("Europe/Atlantis")


def test_a_forgotten_zone_is_forgotten_under_each_of_its_names(own_zones: Path) -> None:
    odd = zones.load("EUROPE/Paris")
    shutil.copy(own_zones / "Europe" / "Moscow", own_zones / "Europe" / "Paris")
    zones.forget("Europe/Paris")
    assert zones.load("EUROPE/Paris") is not odd
    zones.forget("Nowhere/City")


def test_offsets_do_not_change() -> None:
    assert {zones.fingerprint(zones.load(name)) for name in ("UTC", "+02:00", "-0330")} == {"fixed"}
    zones.forget("UTC")
    assert zones.load("UTC").name == "UTC"
