"""What once broke schedules: odd files, odd conditions, odd jitter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from schedules_place import HOUR, MINUTE, SECOND, Place
from vigie.agent import glances
from vigie.agent.handing import cause_of, path_of
from vigie.errors import Refused, UsageError


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    if not made.loop.is_closed():
        made.close()


def argv_of(place: Place, job: int) -> bytes:
    argv: bytes = place.store.db.execute(
        "SELECT t.argv FROM jobs j JOIN tasks t ON t.id = j.task WHERE j.id = ?", (job,)
    ).fetchone()[0]
    return argv


def look(place: Place) -> None:
    place.duty.happenings.look()
    place.turn()


def test_the_name_of_a_file_is_read_by_no_shell(place: Place, tmp_path: Path) -> None:
    inbox = tmp_path / "in"
    inbox.mkdir()
    when = f"on file {inbox}/* created"
    with pytest.raises(UsageError, match="would be read by the shell"):
        place.add("line", when, run=None, shell="wc -c {file}")
    with pytest.raises(UsageError, match="would be read by the shell"):
        place.add("words", when, run=["bash", "-ec", "wc -c {file}"])
    # As an older agent, or a hand that knows better, may have stored it.
    place.add("stored", when, run=["sh", "-c", 'wc "$1"', "x", "{file}"])
    place.ask(place.store.db.execute, "UPDATE tasks SET argv = CAST('sh' || char(0) || '-c' || char(0) || 'wc {file}'"
              " || char(0) || '{file}' || char(0) AS BLOB)")  # fmt: skip
    (inbox / "x;touch y").touch()
    look(place)
    (job,) = place.jobs("stored")
    assert argv_of(place, job) == b"sh\0-c\0wc {file}\0" + os.fsencode(inbox / "x;touch y") + b"\0"


def test_a_name_that_is_no_text_stops_nobody(place: Place, tmp_path: Path) -> None:
    place.add("import", f"on file {tmp_path}/*.csv created", run=["load", "{file}"], overlap="parallel")
    names = [b"bad\xff.csv", b"good.csv"]
    for name in names:
        open(os.path.join(os.fsencode(tmp_path), name), "wb").close()
    look(place)
    found = {argv_of(place, job).split(b"\0")[1] for job in place.jobs("import")}
    assert found == {os.path.join(os.fsencode(tmp_path), name) for name in names}


@pytest.mark.parametrize("path", [b"/in/a b", b"/in/\xff%41", "/in/é".encode()])
def test_a_cause_gives_its_path_back(path: bytes) -> None:
    assert os.fsencode(path_of(cause_of(path))) == path


def test_links_to_themselves_are_no_endless_tree(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(tmp_path)
    deep = tmp_path / "c" / "d"
    deep.mkdir(parents=True)
    (deep / "e.csv").touch()
    (tmp_path / ".hidden").touch()
    assert set(glances.glance(f"{tmp_path}/**/*.csv")) == {os.fsencode(deep / "e.csv")}
    assert set(glances.glance(f"{tmp_path}/a/c/*/*.csv")) == {os.fsencode(tmp_path / "a/c/d/e.csv")}
    assert set(glances.glance(f"{tmp_path}/**")) == {os.fsencode(deep / "e.csv")}


def test_too_much_to_look_at_puts_one_aside(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add("many", f"on file {tmp_path}/* created")
    place.add("few", f"on file {tmp_path}/few/* created")
    monkeypatch.setattr(glances.glance, "__defaults__", (5,))
    for number in range(9):
        (tmp_path / str(number)).touch()
    look(place)
    assert (place.row("many").state, place.row("few").state) == ("paused", "active")
    with pytest.raises(Refused, match="more than 5 files"):
        place.add("again", f"on file {tmp_path}/* created")


def test_an_edit_swallows_no_file(place: Place, tmp_path: Path) -> None:
    when = f"on file {tmp_path}/*.csv created"
    (tmp_path / "old.csv").touch()
    place.add("import", when, overlap="parallel")
    place.do("pause", "import")
    (tmp_path / "new.csv").touch()
    place.add("import", when, overlap="parallel", timeout="5m", replace=True)
    place.do("resume", "import")
    look(place)
    assert len(place.jobs("import")) == 1
    # Those of a pattern that it did not have are seen.
    (tmp_path / "other.txt").touch()
    place.add("import", f"on file {tmp_path}/*.txt created", overlap="parallel", replace=True)
    look(place)
    assert len(place.jobs("import")) == 1


def test_each_command_is_asked(place: Place) -> None:
    place.add("daily", "daily 13:00", **{"if": [{"command": ["true"]}, {"command": ["false"]}], "if_wait": "5m"})
    place.until("2026-03-01 13:00:01")
    (first,) = place.jobs()
    place.complete(first)
    (_, second) = place.jobs()
    assert place.decided("daily") == []
    place.complete(second)
    assert place.decided("daily") == [("03-01 13:00", "ran", None)]


def test_a_command_is_not_asked_beyond_the_decision(place: Place) -> None:
    place.add("daily", "daily 13:00", **{"if": {"command": ["sleep", "600"]}, "if_wait": "1m"})
    place.until("2026-03-01 13:02")
    (asked,) = place.jobs()
    assert place.job(asked)["state"] == "stopped"
    assert place.decided("daily") == [("03-01 13:00", "skipped", "condition")]


def test_another_delay_each_time_makes_nothing_late(place: Place) -> None:
    place.add("spread", "every 5s", jitter="2m random", overlap="parallel", history=10_000)
    place.until("2026-03-01 12:20")
    outcomes = [outcome for _, outcome, _ in place.decided("spread")]
    assert len(outcomes) > 200
    assert set(outcomes) == {"ran"}


def test_short_intervals_from_a_start_come_once_each(place: Place) -> None:
    place.add("quick", "every 1s after start", overlap="parallel")
    place.until("2026-03-01 12:00:30")
    assert len(place.jobs("quick")) == len(place.decided("quick")) == 30


@pytest.mark.parametrize(("table", "said"), [({"lateness": "0"}, "less than any start takes"),
                                             ({"blackout": "00:00-24:00"}, "nothing would ever start")])  # fmt: skip
def test_what_would_never_start_is_refused(place: Place, table: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        place.add("never", "daily 13:00", **table)


@pytest.mark.slow
def test_a_long_absence_of_many_is_taken_in_steps(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        place.add(f"s{number}", "* * * * *", overlap="parallel")
    later = place.again(30 * 24 * HOUR)
    later.step()
    for number in range(60):
        rows = later.firings(f"s{number}")
        assert [each.outcome for each in rows if each.reason == "down" or each.outcome == "caught-up"] == [
            "skipped",
            "caught-up",
        ]
    later.until(later.clock.now + MINUTE + SECOND)
    later.close()
