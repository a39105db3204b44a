"""Bugs of schedules that the simulated world has found, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import pytest

from schedules_place import HOUR, MINUTE, SECOND, Place, us
from vigie import zones
from vigie.agent import gates
from vigie.errors import UsageError
from vigie.triggers.wall import Zone


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    made: list[Place] = []

    def build(*args: Any, **more: Any) -> Place:
        made.append(Place(tmp_path, *args, **more))
        return made[-1]

    yield build
    for place in made:
        if not place.loop.is_closed():
            place.close()


@pytest.fixture
def place(make: Callable[..., Place]) -> Place:
    return make()


def undone(place: Place) -> None:
    """Have the next round undone, and run once more without its last part."""

    def fails() -> None:
        place.store.run("set_meta", ("x", "y"))
        raise UsageError("no")

    place.duty.wake()
    with pytest.raises(UsageError):
        place.ask(fails)


# --- intervals from runs --------------------------------------------------------------


def test_one_that_counts_from_its_starts_goes_on_after_it_was_left_out(place: Place) -> None:
    place.add("sweep", "every 10m after start")
    place.until("2026-03-01 12:35")
    assert place.decided("sweep")[1:] == [("03-01 12:20", "skipped", "overlap"), ("03-01 12:30", "skipped", "overlap")]
    place.end(*place.jobs("sweep"))
    place.until("2026-03-01 12:41")
    assert place.decided("sweep")[-1] == ("03-01 12:40", "ran", None)


def test_one_that_counts_from_its_ends_goes_on_after_a_blackout(place: Place) -> None:
    place.add("sweep", "every 10m after end", blackout="12:05-12:15")
    place.until("2026-03-01 12:25")
    assert place.decided("sweep") == [("03-01 12:10", "skipped", "blackout"), ("03-01 12:20", "ran", None)]


def test_one_that_counts_from_its_runs_comes_once_after_downtime(place: Place) -> None:
    place.add("sweep", "every 10m after end", overlap="parallel")
    later = place.again(5 * HOUR)
    later.step()
    later.until("2026-03-01 17:05")
    assert later.decided("sweep") == [("03-01 12:10", "late", None)]
    later.close()


def test_a_run_whose_end_nobody_lived_to_tell_is_counted_from(place: Place) -> None:
    place.add("sweep", "every 10m after end")
    place.until("2026-03-01 12:10")
    place.clock.pass_by(5 * MINUTE)
    place.ask(
        lambda: place.store.db.execute("UPDATE jobs SET state = 'completed', finished = ?", (place.clock.now,)),
    )
    later = place.again(MINUTE)
    later.until("2026-03-01 12:26")
    assert later.decided("sweep")[1:] == [("03-01 12:25", "ran", None)]
    later.close()


def test_a_run_that_ends_in_a_pause_is_counted_from(place: Place) -> None:
    place.add("sweep", "every 10m after end")
    place.until("2026-03-01 12:10")
    place.do("pause", "sweep")
    place.clock.pass_by(MINUTE)
    place.end(*place.jobs("sweep"))
    place.do("resume", "sweep")
    place.until("2026-03-01 12:22")
    assert place.decided("sweep")[1:] == [("03-01 12:21", "ran", None)]


def test_one_that_has_run_may_count_from_its_runs_later(place: Place) -> None:
    place.add("sweep", "daily 12:10")
    place.until("2026-03-01 12:10")
    place.end(*place.jobs("sweep"))
    place.add("sweep", "every 10m after end", replace=True)
    place.until("2026-03-01 12:21")
    assert place.decided("sweep")[1:] == [("03-01 12:20", "ran", None)]


def test_a_run_by_hand_does_not_end_a_pause(place: Place) -> None:
    place.add("sweep", "every 10m after start", overlap="parallel")
    place.do("pause", "sweep")
    place.do("run", "sweep")
    place.until("2026-03-01 12:30")
    assert len(place.firings("sweep")) == 1


# --- pauses and edits -----------------------------------------------------------------


def test_what_came_after_a_pause_that_ended_in_an_absence_was_missed(place: Place) -> None:
    place.add("hourly", "hourly")
    place.do("pause", "hourly", until=us("2026-03-01 13:30"))
    later = place.again(3 * HOUR + 30 * MINUTE)
    later.step()
    assert later.decided("hourly") == [
        ("03-01 13:00", "skipped", "paused"),
        ("03-01 14:00", "skipped", "down"),
        ("03-01 15:00", "caught-up", None),
    ]
    later.close()


def test_one_whose_pause_ends_by_itself_hears_of_jobs_again(place: Place) -> None:
    place.add("cleanup", "on job nightly* ended")
    place.add("nightly", "daily 13:00")
    place.do("pause", "cleanup", until=us("2026-03-01 12:30"))
    place.until("2026-03-01 13:00")
    place.end(*place.jobs("nightly"))
    assert len(place.jobs("cleanup")) == 1


@pytest.mark.parametrize("change", ["edit", "pause"])
def test_what_was_slept_through_has_its_record_before_a_change(place: Place, change: str) -> None:
    place.add("hourly", "hourly")
    place.clock.now += 2 * HOUR + 30 * MINUTE
    place.clock.slept += 2 * HOUR + 30 * MINUTE
    if change == "edit":
        place.add("hourly", "daily 05:00", replace=True)
    else:
        place.do("pause", "hourly")
        place.do("resume", "hourly")
    assert place.firings("hourly")[0] == ("03-01 13:00", "skipped", "asleep", None, 1)
    assert place.firings("hourly")[1].at == "03-01 14:00"


def test_a_pause_has_its_record_before_an_edit(place: Place) -> None:
    place.add("hourly", "hourly")
    place.do("pause", "hourly")
    place.until("2026-03-01 15:30")
    place.add("hourly", "daily 05:00", replace=True)
    assert place.firings("hourly") == [("03-01 13:00", "skipped", "paused", None, 3)]


def put_off(place: Place) -> int:
    """Add a schedule whose instant has come and has still to start; give when that is."""
    place.add("daily", "daily 13:00", jitter="30m", catch_up="none", lateness="1h")
    due = place.row("daily").due
    place.until("2026-03-01 13:00:01")
    assert due > place.clock.now + MINUTE
    return int(due)


def test_what_was_put_off_outlasts_an_edit(place: Place) -> None:
    due = put_off(place)
    place.add("daily", "daily 05:00", replace=True)
    place.until(due)
    assert place.decided("daily") == [("03-01 13:00", "ran", None)]


def test_what_was_put_off_outlasts_an_edit_and_a_sleep(place: Place) -> None:
    due = put_off(place)
    place.add("daily", "daily 05:00", replace=True, lateness="1h")
    place.sleep(due + 10 * MINUTE - place.clock.now)
    assert place.decided("daily") == [("03-01 13:00", "late", None)]


def test_what_was_put_off_outlasts_a_pause(place: Place) -> None:
    due = put_off(place)
    place.do("pause", "daily")
    place.do("resume", "daily")
    place.until(due)
    assert place.decided("daily") == [("03-01 13:00", "ran", None)]


def test_what_was_put_off_was_not_missed(place: Place) -> None:
    due = put_off(place)
    later = place.again(due - place.clock.now - 1)
    later.until(due)
    assert later.decided("daily") == [("03-01 13:00", "ran", None)]
    later.close()


# --- clocks ---------------------------------------------------------------------------


def test_a_sleep_is_taken_note_of_though_the_round_is_undone(place: Place) -> None:
    place.add("soon", "every 1s", catch_up="none", overlap="parallel")
    place.until("2026-03-01 12:00:02")
    place.clock.now += HOUR
    place.clock.slept += HOUR
    undone(place)
    assert {each.reason for each in place.firings("soon") if each.outcome == "skipped"} == {"asleep"}


def test_limits_of_an_interval_do_not_move_with_the_clock(place: Place) -> None:
    place.add("poll", "every 10m", **{"from": "2026-03-01T13:00:00Z"}, overlap="parallel")
    place.until("2026-03-01 12:15")
    place.jump(-30 * MINUTE)
    place.until("2026-03-01 13:15")
    assert [at for at, *_ in place.decided("poll")] == ["03-01 13:00", "03-01 13:10"]


def test_a_clock_set_back_makes_nobody_wait_longer_for_a_condition(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "holds", lambda condition: False)
    place.add("daily", "daily 13:00", **{"if": "network", "if_wait": "10m"}, lateness="1d")
    place.until("2026-03-01 13:05")
    place.jump(-2 * MINUTE)
    place.until("2026-03-01 13:08:01")
    assert place.decided("daily") == [("03-01 13:00", "skipped", "condition")]


def test_the_longest_lateness_is_the_time_to_the_next(place: Place) -> None:
    place.add("twice", None, cron="0 13,14 * * *")
    place.jump(2 * HOUR + 40 * MINUTE)
    assert place.decided("twice") == [("03-01 13:00", "skipped", "too-late"), ("03-01 14:00", "late", None)]


# --- zones ----------------------------------------------------------------------------


def other_rules(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give Paris the rules of London, and have the file say so."""
    place.ask(place.store.db.execute, "UPDATE zones SET fingerprint = 'other' WHERE name = 'Europe/Paris'")
    monkeypatch.setattr(zones, "_read", lambda name: Zone(name, ZoneInfo("Europe/London")))


def test_new_rules_of_a_zone_do_not_repeat_what_has_come(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add("paris", "daily 02:00", timezone="Europe/Paris", overlap="parallel")
    place.until("2026-03-02 12:00")
    other_rules(place, monkeypatch)
    try:
        place.ask(place.duty.look_at_zones)
        place.until("2026-03-03 12:00")
    finally:
        zones.forget("Europe/Paris")
    assert [at for at, *_ in place.decided("paris")] == ["03-02 01:00", "03-03 02:00"]


def test_a_death_while_a_zone_is_planned_anew_begins_it_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add("paris", "daily 02:00", timezone="Europe/Paris", overlap="parallel")
    other_rules(place, monkeypatch)
    try:
        monkeypatch.setattr(place.duty, "writer", Mock())
        place.ask(place.duty.look_at_zones)
        found = place.store.db.execute("SELECT fingerprint FROM zones WHERE name = 'Europe/Paris'").fetchone()
        assert found == ("other",)
        later = place.again(0)
        later.until("2026-03-02 12:00")
        assert [at for at, *_ in later.decided("paris")] == ["03-02 02:00"]
        later.close()
    finally:
        zones.forget("Europe/Paris")


# --- conditions and what happens ------------------------------------------------------


def test_a_command_whose_question_was_undone_is_asked_again(place: Place) -> None:
    place.add("daily", "daily 13:00", **{"if": {"command": ["test", "-e", "/there"]}})
    place.until(us("2026-03-01 13:00") - 1)
    place.clock.pass_by(1)
    undone(place)
    (asked,) = place.jobs()
    place.complete(asked)
    assert place.decided("daily") == [("03-01 13:00", "ran", None)]


def test_the_command_of_a_condition_sets_nobody_off(place: Place) -> None:
    place.add("daily", "daily 13:00", **{"if": {"command": ["test", "-e", "/there"]}})
    place.add("cleanup", "on job ended", overlap="parallel")
    place.until("2026-03-01 13:00")
    (asked,) = place.jobs()
    place.complete(asked)
    assert len(place.jobs("daily")) == 1
    assert place.jobs("cleanup") == []


def test_what_happened_to_one_that_was_removed_breaks_nothing(place: Place) -> None:
    place.add("index", "on idle 10m load 0.5")
    ((row, occasions),) = place.duty.happenings.waiting
    place.do("remove", "index")
    place.ask(place.duty.happenings.happened, row, "idle", occasions[0])
    assert place.writer.broken is None
    assert place.jobs() == []


# --- two agents -----------------------------------------------------------------------


def test_what_a_dead_agent_had_planned_is_taken_up_by_the_other(make: Callable[..., Place]) -> None:
    one = make()
    one.add("daily", "daily 13:00")
    other = make(clock=one.clock)
    one.until(us("2026-03-01 13:00") - SECOND)
    one.close()
    other.until("2026-03-01 13:02")
    other.ask(other.duty.adopt)
    assert other.decided("daily") == [("03-01 13:00", "late", None)]


def test_one_withdrawn_and_planned_anew_keeps_to_its_new_jitter(place: Place) -> None:
    place.add("daily", "daily 13:00")
    place.until(us("2026-03-01 13:00") - SECOND)
    place.add("daily", "daily 13:00", replace=True, jitter="30m")
    due = place.row("daily").due or place.duty.heap[-1][0]
    place.until("2026-03-01 13:00:01")
    assert place.jobs("daily") == []
    place.until(max(due, us("2026-03-01 13:30")))
    assert [outcome for _, outcome, _ in place.decided("daily")] == ["ran"]


def test_a_clock_set_back_before_a_run_ends_does_not_end_its_schedule(place: Place) -> None:
    place.add("sweep", "every 10m after end")
    place.until("2026-03-01 12:10")
    place.clock.now -= 5 * MINUTE
    later = place.again(0, boot="another")
    later.end(*later.jobs("sweep"))
    later.until("2026-03-01 12:21")
    assert len(later.decided("sweep")) == 2
    later.close()


def test_a_run_that_another_agent_has_started_has_not_ended(make: Callable[..., Place]) -> None:
    one = make()
    one.add("sweep", "every 10m after end")
    other = make(clock=one.clock)
    one.until("2026-03-01 12:10")
    other.ask(other.duty.adopt)
    assert one.row("sweep").ended is None
    assert one.row("sweep").next is None


def test_a_pause_after_the_clock_was_set_back_and_an_edit_has_its_record(place: Place) -> None:
    place.add("hourly", "hourly", overlap="parallel")
    place.until("2026-03-01 14:30")
    place.jump(-2 * HOUR)
    place.add("hourly", "hourly", replace=True, overlap="parallel")
    place.do("pause", "hourly")
    place.until("2026-03-01 16:30")
    place.do("resume", "hourly")
    assert place.firings("hourly")[2:] == [("03-01 15:00", "skipped", "paused", None, 2)]
