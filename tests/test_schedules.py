"""The agent's schedules on a real store: what becomes of each planned instant, whatever happens to clock and agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schedules_place import DAY, HOUR, MINUTE, SECOND, Place, us
from vigie import zones
from vigie.agent import gates
from vigie.errors import Conflict, NotFound, Refused, UsageError


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


# --- the simple life ------------------------------------------------------------------


def test_it_runs_at_its_instants_and_each_has_a_record(place: Place) -> None:
    place.add("nightly", "daily 02:00", overlap="parallel")
    place.until("2026-03-04 12:00")
    assert place.decided("nightly") == [
        ("03-02 02:00", "ran", None),
        ("03-03 02:00", "ran", None),
        ("03-04 02:00", "ran", None),
    ]
    job = place.job(place.jobs("nightly")[0])
    assert (job["name"], job["state"], job["queue"], job["due"]) == (
        "nightly",
        "queued",
        "schedules",
        us("2026-03-02 02:00"),
    )
    assert place.row("nightly").runs == 3


def test_a_name_is_taken_once(place: Place) -> None:
    place.add("nightly", "daily 02:00")
    with pytest.raises(Conflict, match="there is a schedule nightly already"):
        place.add("nightly", "daily 03:00")
    with pytest.raises(NotFound, match="no schedule weekly"):
        place.do("pause", "weekly")


def test_an_edit_changes_what_comes_and_keeps_what_was(place: Place) -> None:
    place.add("nightly", "daily 02:00", overlap="parallel")
    place.until("2026-03-02 12:00")
    place.add("nightly", "daily 03:00", overlap="parallel", replace=True)
    place.until("2026-03-03 12:00")
    assert [at for at, *_ in place.decided("nightly")] == ["03-02 02:00", "03-03 03:00"]


def test_an_edit_withdraws_what_was_planned_ahead(place: Place) -> None:
    place.add("soon", "every 1s", overlap="parallel")
    place.until("2026-03-01 12:00:03")
    assert [each for each in place.firings("soon") if each.outcome is None]
    place.add("soon", "daily 03:00", replace=True)
    place.until("2026-03-01 12:01")
    assert {outcome for _, outcome, _ in place.decided("soon")} == {"ran"}
    assert len(place.firings("soon")) == 3


def test_once_and_then_it_is_done(place: Place) -> None:
    place.add("party", "on 2026-03-02 18:00", delete_after="1d")
    place.until("2026-03-02 18:00")
    assert place.row("party").state == "done"
    assert place.decided("party") == [("03-02 18:00", "ran", None)]
    place.until("2026-03-03 19:00")
    assert place.row("party") is None
    assert place.jobs("party")


def test_after_so_many_runs_it_is_done(place: Place) -> None:
    place.add("thrice", "every 1s", overlap="parallel", max_runs=3)
    place.until("2026-03-01 12:01")
    assert [outcome for _, outcome, _ in place.decided("thrice")] == ["ran"] * 3
    assert place.row("thrice").state == "done"
    assert len(place.firings("thrice")) == 3


def test_one_that_has_had_its_runs_is_changed_only_with_more_of_them(place: Place) -> None:
    place.add("twice", "every 1s", overlap="parallel", max_runs=2)
    place.do("run", "twice")
    place.until("2026-03-01 12:00:10")
    assert len(place.jobs("twice")) == 3
    with pytest.raises(UsageError, match="has had 2 runs, and 2 are the most"):
        place.add("twice", "every 2s", overlap="parallel", max_runs=2, replace=True)
    place.add("twice", "every 2s", overlap="parallel", max_runs=3, replace=True)
    place.until("2026-03-01 12:00:20")
    assert (len(place.jobs("twice")), place.row("twice").state) == (4, "done")


def test_it_is_done_when_its_last_instant_is_decided(place: Place) -> None:
    place.add("party", "on 2026-03-02 18:00")
    place.until("2026-03-02 17:59:59")
    assert (place.row("party").state, place.row("party").next) == ("active", None)
    place.until("2026-03-02 18:00")
    assert place.row("party").state == "done"


def test_of_the_records_so_many_are_kept(place: Place) -> None:
    place.add("often", "every 1s", overlap="parallel", history=10)
    place.until("2026-03-01 12:02")
    assert 10 <= len(place.firings("often")) <= 10 + 12


def test_what_never_comes_is_refused(place: Place) -> None:
    with pytest.raises(UsageError):
        place.add("never", "on 2020-01-01 00:00")
    assert place.row("never") is None


def test_it_can_be_run_by_hand(place: Place) -> None:
    place.add("nightly", "daily 02:00")
    answer = place.do("run", "nightly")
    assert place.jobs("nightly") == answer["ids"]
    with pytest.raises(Refused, match="runs already"):
        place.do("run", "nightly")
    assert [each.outcome for each in place.firings("nightly")] == ["ran"]


def test_a_removed_one_comes_no_more_and_its_jobs_stay(place: Place) -> None:
    place.add("soon", "every 1s", overlap="parallel")
    place.until("2026-03-01 12:00:03")
    jobs = place.jobs("soon")
    place.do("remove", "soon")
    place.until("2026-03-01 12:01")
    assert place.jobs("soon") == jobs


# --- overlap --------------------------------------------------------------------------


def test_skip_leaves_out_what_comes_while_one_runs(place: Place) -> None:
    place.add("poll", "every 1m")
    place.until("2026-03-01 12:01:30")
    (first,) = place.jobs("poll")
    place.until("2026-03-01 12:03:30")
    assert place.decided("poll")[1:] == [("03-01 12:02", "skipped", "overlap"), ("03-01 12:03", "skipped", "overlap")]
    place.end(first)
    place.until("2026-03-01 12:04:30")
    assert place.decided("poll")[-1] == ("03-01 12:04", "ran", None)


def test_queue_one_lets_one_wait(place: Place) -> None:
    place.add("poll", "every 1m", overlap="queue-one")
    place.until("2026-03-01 12:03:30")
    first, second = place.jobs("poll")
    assert place.job(second)["state"] == "blocked"
    assert [outcome for _, outcome, _ in place.decided("poll")] == ["ran", "ran", "skipped"]
    place.end(first)
    assert place.job(second)["state"] == "queued"


def test_queue_all_lets_them_wait_in_order(place: Place) -> None:
    place.add("poll", "every 1m", overlap="queue-all=2")
    place.until("2026-03-01 12:05:30")
    jobs = place.jobs("poll")
    assert [place.job(job)["state"] for job in jobs] == ["queued", "blocked", "blocked"]
    place.end(jobs[0])
    assert [place.job(job)["state"] for job in jobs[1:]] == ["queued", "blocked"]


def test_replace_stops_what_runs(place: Place) -> None:
    place.add("poll", "every 1m", overlap="replace")
    place.until("2026-03-01 12:02:30")
    first, second = place.jobs("poll")
    assert place.job(first)["state"] == "stopped"
    assert place.job(second)["state"] == "queued"


# --- downtime -------------------------------------------------------------------------


def test_after_downtime_the_latest_runs_and_the_rest_is_one_record(place: Place) -> None:
    place.add("hourly", "hourly", overlap="parallel")
    place.until("2026-03-01 13:30")
    later = place.again(5 * HOUR)
    later.step()
    assert later.firings("hourly") == [
        ("03-01 13:00", "ran", None, 1, 1),
        ("03-01 14:00", "skipped", "down", None, 4),
        ("03-01 18:00", "caught-up", None, 2, 1),
    ]
    later.until("2026-03-01 19:30")
    assert later.decided("hourly")[-1] == ("03-01 19:00", "ran", None)
    later.close()


def test_without_catch_up_nothing_runs_after_downtime(place: Place) -> None:
    place.add("hourly", "hourly", catch_up="none")
    later = place.again(5 * HOUR + 30 * MINUTE)
    later.step()
    assert later.firings("hourly") == [("03-01 13:00", "skipped", "down", None, 5)]
    later.until("2026-03-01 18:10")
    assert later.decided("hourly")[-1] == ("03-01 18:00", "ran", None)
    later.close()


def test_all_up_to_a_number_are_caught_up(place: Place) -> None:
    place.add("hourly", "hourly", catch_up="all=3", overlap="queue-all", lateness="1d")
    later = place.again(5 * HOUR + 30 * MINUTE)
    later.step()
    assert [(each.at, each.outcome, each.count) for each in later.firings("hourly")] == [
        ("03-01 13:00", "skipped", 2),
        ("03-01 15:00", "caught-up", 1),
        ("03-01 16:00", "caught-up", 1),
        ("03-01 17:00", "caught-up", 1),
    ]
    later.close()


def test_what_is_later_than_the_longest_lateness_is_too_late(place: Place) -> None:
    place.add("weekly", "weekly sun 13:00")
    later = place.again(3 * DAY)
    later.step()
    assert later.decided("weekly") == [("03-01 13:00", "skipped", "too-late")]
    later.close()


def test_an_agent_that_was_away_for_a_moment_was_late(place: Place) -> None:
    place.add("minutely", "every 1m", catch_up="none")
    place.until("2026-03-01 12:00:50")
    later = place.again(30 * SECOND)
    later.step()
    assert later.decided("minutely") == [("03-01 12:01", "late", None)]
    later.close()


def test_what_was_planned_before_a_crash_is_decided_once(place: Place) -> None:
    place.add("soon", "every 1s", overlap="parallel")
    place.until(us("2026-03-01 12:00:02") + 500_000)
    assert [each.outcome for each in place.firings("soon")][:2] == ["ran", "ran"]
    later = place.again(0)
    later.until("2026-03-01 12:00:05")
    assert [(each.at, each.outcome) for each in later.firings("soon") if each.outcome] == [
        (f"03-01 12:00:0{second}", "ran") for second in range(1, 6)
    ]
    later.close()


def test_what_was_planned_and_missed_follows_catch_up(place: Place) -> None:
    place.add("soon", "every 1s", catch_up="none")
    place.until("2026-03-01 12:00:02")
    later = place.again(HOUR)
    later.step()
    missed = [each for each in later.firings("soon") if each.reason == "down"]
    assert sum(each.count for each in missed) >= 3500
    assert all(each.outcome != "caught-up" for each in later.firings("soon"))
    later.close()


def test_a_machine_that_slept_says_so(place: Place) -> None:
    place.add("hourly", "hourly", catch_up="none")
    place.step()
    place.sleep(5 * HOUR)
    assert place.decided("hourly")[0] == ("03-01 13:00", "skipped", "asleep")


# --- the wall clock -------------------------------------------------------------------


def test_a_clock_set_back_repeats_nothing(place: Place) -> None:
    place.add("daily", "daily 13:00", overlap="parallel")
    place.until("2026-03-01 13:30")
    place.jump(-HOUR)
    place.until("2026-03-01 14:30")
    assert place.decided("daily") == [("03-01 13:00", "ran", None)]


def test_a_clock_set_forward_by_little_makes_late(place: Place) -> None:
    place.add("daily", "daily 13:00")
    place.jump(2 * HOUR)
    assert place.decided("daily") == [("03-01 13:00", "late", None)]


def test_a_clock_set_forward_by_much_is_downtime(place: Place) -> None:
    place.add("hourly", "hourly", catch_up="none")
    place.jump(4 * HOUR)
    assert place.decided("hourly")[0] == ("03-01 13:00", "skipped", "down")


def test_intervals_do_not_follow_the_wall_clock(place: Place) -> None:
    place.add("poll", "every 10m", overlap="parallel")
    place.until("2026-03-01 12:15")
    place.jump(6 * HOUR)
    place.until("2026-03-01 18:21")
    assert place.decided("poll") == [("03-01 12:10", "ran", None), ("03-01 18:20", "ran", None)]
    place.jump(-6 * HOUR)
    place.until("2026-03-01 12:31")
    assert [outcome for _, outcome, _ in place.decided("poll")] == ["ran"] * 3


def test_a_changed_zone_is_planned_anew_and_no_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add("paris", "daily 02:00", timezone="Europe/Paris")
    place.add("lima", "daily 02:00", timezone="America/Lima")
    lima = place.row("lima")
    place.ask(place.store.db.execute, "UPDATE zones SET fingerprint = 'other' WHERE name = 'Europe/Paris'")
    place.ask(place.store.db.execute, "UPDATE schedules SET next = next + 3600000000, due = next WHERE name = 'paris'")
    forgotten: list[str] = []
    monkeypatch.setattr(zones, "forget", forgotten.append)
    place.ask(place.duty.look_at_zones)
    assert forgotten == ["Europe/Paris"]
    assert place.row("paris").next == us("2026-03-02 02:00+01:00")
    assert place.row("lima") == lima


def test_one_that_cannot_be_read_any_more_is_put_aside_and_the_others_go_on(place: Place) -> None:
    place.add("lost", "daily 13:00", timezone="Europe/Paris")
    place.add("seen", "on file /nowhere/* created", timezone="Europe/Paris")
    place.add("daily", "daily 13:00")
    text = "UPDATE schedules SET triggers = replace(triggers, 'Europe/Paris', 'Europe/Gone') WHERE name <> 'daily'"
    place.ask(place.store.db.execute, text)
    place.ask(place.store.db.execute, "UPDATE zones SET name = 'Europe/Gone' WHERE name = 'Europe/Paris'")
    later = place.again(MINUTE)
    later.until("2026-03-02 13:00:01")
    assert later.decided("daily")[0] == ("03-01 13:00", "ran", None)
    assert (later.row("lost").state, later.row("seen").state) == ("paused", "paused")
    rows = later.store.db.execute("SELECT object, detail FROM events WHERE verb = 'schedule-paused'").fetchall()
    assert {thing for thing, said in rows if "Europe/Gone" in said} == {"schedule:lost", "schedule:seen"}
    later.close()


# --- pauses ---------------------------------------------------------------------------


def test_a_paused_one_starts_nothing_and_its_pause_is_a_record(place: Place) -> None:
    place.add("hourly", "hourly")
    place.do("pause", "hourly")
    place.until("2026-03-01 15:30")
    assert place.jobs("hourly") == []
    place.do("resume", "hourly")
    assert place.firings("hourly") == [("03-01 13:00", "skipped", "paused", None, 3)]
    place.until("2026-03-01 16:30")
    assert place.decided("hourly")[-1] == ("03-01 16:00", "ran", None)


def test_a_pause_ends_by_itself(place: Place) -> None:
    place.add("hourly", "hourly")
    place.do("pause", "hourly", until=us("2026-03-01 14:30"))
    place.until("2026-03-01 15:30")
    assert place.decided("hourly") == [("03-01 13:00", "skipped", "paused"), ("03-01 15:00", "ran", None)]


# --- conditions and windows -----------------------------------------------------------


def test_a_condition_is_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bool] = []
    monkeypatch.setattr(gates, "holds", lambda condition: bool(there))
    place.add("hourly", "daily 13:00", **{"if": "power"})
    place.until("2026-03-01 13:20")
    assert place.firings("hourly") == [("03-01 13:00", None, "the machine runs on mains power", None, 1)]
    there.append(True)
    place.until("2026-03-01 13:21")
    assert place.decided("hourly") == [("03-01 13:00", "late", None)]


def test_a_condition_that_does_not_come_is_a_reason(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "holds", lambda condition: False)
    place.add("daily", "daily 13:00", **{"if": "network", "if_wait": "10m"})
    later = place
    later.until("2026-03-01 13:05")
    later = later.again(0)
    later.until("2026-03-01 13:30")
    assert later.decided("daily") == [("03-01 13:00", "skipped", "condition")]
    later.close()


def test_a_command_is_asked_as_a_job(place: Place) -> None:
    place.add("daily", "daily 13:00", **{"if": {"command": ["test", "-e", "/there"]}})
    place.until("2026-03-01 13:00:01")
    (asked,) = place.jobs()
    assert place.job(asked)["name"] == "daily: if"
    place.complete(asked)
    assert place.decided("daily") == [("03-01 13:00", "ran", None)]


def test_a_command_that_fails_is_asked_again_until_patience_ends(place: Place) -> None:
    place.add("daily", "daily 13:00", **{"if": {"command": ["false"]}, "if_wait": "5m"})
    for minute in range(1, 8):
        place.until(f"2026-03-01 13:0{minute}")
        place.end(*(job for job in place.jobs() if place.job(job)["finished"] is None))
    assert place.decided("daily") == [("03-01 13:00", "skipped", "condition")]
    assert 4 <= len(place.jobs()) <= 6


def test_in_a_blackout_nothing_starts(place: Place) -> None:
    place.add("hourly", "hourly", blackout="13:30-15:30", overlap="parallel")
    place.until("2026-03-01 16:30")
    assert [reason for _, _, reason in place.decided("hourly")] == [None, "blackout", "blackout", None]


def test_jitter_moves_the_start_and_not_the_instant(place: Place) -> None:
    place.add("daily", "daily 13:00", jitter="30m")
    due = place.row("daily").due
    assert us("2026-03-01 13:00") < due <= us("2026-03-01 13:30")
    place.until(due - 1)
    assert place.jobs("daily") == []
    place.until(due)
    assert place.decided("daily") == [("03-01 13:00", "ran", None)]


# --- intervals from runs --------------------------------------------------------------


def test_from_the_end_of_a_run_to_the_next(place: Place) -> None:
    place.add("sweep", "every 10m after end")
    place.until("2026-03-01 12:30")
    assert place.decided("sweep") == [("03-01 12:10", "ran", None)]
    place.end(*place.jobs("sweep"))
    place.until("2026-03-01 12:45")
    assert place.decided("sweep")[1:] == [("03-01 12:40", "ran", None)]


def test_one_whose_interval_has_passed_is_due_when_it_is_changed(place: Place) -> None:
    place.add("sweep", "every 1h after end")
    place.until("2026-03-01 13:10")
    place.end(*place.jobs("sweep"))
    place.until("2026-03-01 13:50")
    place.add("sweep", "every 10m after end", replace=True)
    place.until("2026-03-01 13:51")
    assert [outcome for _, outcome, _ in place.decided("sweep")] == ["ran", "ran"]


def test_from_the_start_of_a_run_to_the_next(place: Place) -> None:
    place.add("sweep", "every 10m after start", overlap="parallel")
    place.until("2026-03-01 12:35")
    assert [at for at, *_ in place.decided("sweep")] == ["03-01 12:10", "03-01 12:20", "03-01 12:30"]


# --- what happens ---------------------------------------------------------------------


def test_a_job_that_fails_sets_another_off_and_never_itself(place: Place) -> None:
    place.add("cleanup", "on job nightly* stopped,failed")
    place.add("nightly-1", "daily 13:00")
    place.until("2026-03-01 13:00")
    place.end(*place.jobs("nightly-1"))
    (job,) = place.jobs("cleanup")
    assert place.job(job)["state"] == "queued"
    place.end(job)
    assert len(place.jobs("cleanup")) == 1


def test_it_runs_after_a_boot_and_not_after_a_restart(place: Place) -> None:
    place.add("welcome", "at boot")
    same = place.again(MINUTE)
    same.step()
    assert same.jobs("welcome") == []
    booted = same.again(MINUTE, boot="another")
    booted.step()
    assert len(booted.jobs("welcome")) == 1
    booted.close()


def test_each_new_file_is_handed_out_once_and_survives_a_crash(place: Place, tmp_path: Path) -> None:
    inbox = tmp_path / "in"
    inbox.mkdir()
    (inbox / "old.csv").write_text("old")
    place.add("import", f"on file {inbox}/*.csv created", run=["load", "{file}", "--fast"], overlap="parallel")
    (inbox / "a b.csv").write_text("1")
    (inbox / "other.txt").write_text("1")
    place.duty.happenings.look()
    place.turn()
    (job,) = place.jobs("import")
    task, context = place.job(job)["task"], place.job(job)["context"]
    argv = place.store.db.execute("SELECT argv FROM tasks WHERE id = ?", (task,)).fetchone()[0]
    assert argv == f"load\0{inbox}/a b.csv\0--fast\0".encode()
    env = place.store.db.execute("SELECT env FROM contexts WHERE id = ?", (context,)).fetchone()[0]
    assert f"VIGIE_FILE={inbox}/a b.csv\0".encode() in env
    later = place.again(MINUTE)
    (inbox / "c.csv").write_text("1")
    later.duty.happenings.look()
    later.duty.happenings.look()
    later.turn()
    assert len(later.jobs("import")) == 2
    later.close()


def test_a_file_is_taken_when_it_has_settled(place: Place, tmp_path: Path) -> None:
    place.add("import", None, on_file={"path": f"{tmp_path}/*.csv", "for": "10s"}, overlap="parallel")
    path = tmp_path / "a.csv"
    path.write_text("1")
    place.duty.happenings.look()
    place.clock.pass_by(9 * SECOND)
    path.write_text("12")
    place.duty.happenings.look()
    place.clock.pass_by(9 * SECOND)
    place.duty.happenings.look()
    place.turn()
    assert place.jobs("import") == []
    place.clock.pass_by(SECOND)
    place.duty.happenings.look()
    place.turn()
    assert len(place.jobs("import")) == 1


def test_quiet_is_heard_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    load = [0.1]
    monkeypatch.setattr("os.getloadavg", lambda: (load[0], 0.0, 0.0))
    place.add("index", "on idle 10m load 0.5", overlap="parallel")

    def look(minutes: int) -> int:
        place.clock.pass_by(minutes * MINUTE)
        place.duty.happenings.look()
        place.turn()
        return len(place.jobs("index"))

    assert [look(0), look(9), look(2), look(60)] == [0, 0, 1, 1]
    load[0] = 2.0
    assert look(1) == 1
    load[0] = 0.1
    assert [look(1), look(8), look(1)] == [1, 1, 2]


# --- many -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_herd_is_decided_in_parts_and_loses_nobody(place: Place) -> None:
    for number in range(600):
        place.add(f"s{number}", "daily 13:00")
    place.until("2026-03-01 13:00")
    assert len(place.jobs()) == 600
    assert {place.decided(f"s{number}")[0][1] for number in range(600)} == {"ran"}


def test_two_agents_on_one_store_run_each_instant_once(make: Callable[..., Place]) -> None:
    one = make()
    one.add("soon", "every 1s", overlap="parallel")
    other = make(clock=one.clock)
    for second in range(1, 30):
        one.clock.pass_by(SECOND)
        for each in (one, other) if second % 2 else (other, one):
            each.step()
    fired = [each for each in one.firings("soon") if each.outcome is not None]
    assert len(fired) == len({each.at for each in fired}) == len(one.jobs("soon"))
    assert {each.outcome for each in fired} <= {"ran", "late"}


def test_a_round_that_is_undone_loses_no_instant(place: Place) -> None:
    place.add("soon", "every 1s", overlap="parallel")
    place.until("2026-03-01 12:00:01")

    def fails() -> None:
        place.store.run("set_meta", ("x", "y"))
        raise UsageError("no")

    place.clock.pass_by(SECOND)
    place.duty.wake()
    with pytest.raises(UsageError):
        place.ask(fails)
    place.step()
    assert [outcome for _, outcome, _ in place.decided("soon")] == ["ran", "ran"]
