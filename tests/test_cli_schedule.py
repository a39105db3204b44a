"""``vigie schedule`` as its users meet it: the real program, the real agent."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import until

Program = Any

pytestmark = pytest.mark.slow

LATER = "daily 02:00"


def add(vigie: Program, name: str, *words: str, command: tuple[str, ...] = ("true",), **more: Any) -> Any:
    return vigie("schedule", "add", name, *words, "--", *command, check=True, **more)


def show(vigie: Program, name: str) -> Any:
    return json.loads(vigie("schedule", "show", name, "--json", check=True).stdout)


def history(vigie: Program, name: str) -> Any:
    return json.loads(vigie("schedule", "history", name, "--json", check=True).stdout)


def fired(vigie: Program, name: str) -> Any:
    return [row for row in history(vigie, name) if row["job"] is not None]


def wait(vigie: Program, job: str) -> None:
    vigie("wait", job)


# --- adding ---------------------------------------------------------------------------


def test_add_says_how_it_was_read_and_the_next_three_instants(vigie: Program) -> None:
    said = add(vigie, "nightly", LATER, "--timezone", "Europe/Paris").stderr
    assert "added nightly: at 02:00 every day" in said
    assert len(re.findall(r"\d{4}-\d\d-\d\d 02:00\+0[12]:00", said)) == 3
    assert "(Europe/Paris)" in said
    assert "runs until this machine restarts; `vigie agent install` makes it last" in said


def test_several_triggers_of_all_kinds(vigie: Program) -> None:
    add(vigie, "mixed", LATER, "0 6 * * sun", "--calendar", "Mon *-*-* 08:00", "--rrule", "FREQ=MONTHLY;BYMONTHDAY=-1",
        "--timezone", "UTC")  # fmt: skip
    found = show(vigie, "mixed")
    assert len(found["when"]) == 4
    assert len(found["coming"]) == 10
    assert found["coming"] == sorted(found["coming"])


def test_its_surroundings_are_those_of_a_declared_task(vigie: Program, tmp_path: Path) -> None:
    (tmp_path / "more.env").write_text("FROM_FILE=1\n")
    code = "import os, json; print(json.dumps([dict(os.environ), os.getcwd()]))"
    add(vigie, "env", LATER, "--env", "GIVEN=2", "--env", "COPIED", "--env-file", "more.env",
        command=(sys.executable, "-c", code), cwd=tmp_path, env={"COPIED": "3", "SECRET_OF_MINE": "4"})  # fmt: skip
    job = vigie("schedule", "run", "env", check=True).stdout.strip()
    wait(vigie, job)
    env, cwd = json.loads(vigie("logs", job, check=True).stdout)
    assert (env["FROM_FILE"], env["GIVEN"], env["COPIED"], cwd) == ("1", "2", "3", str(tmp_path))
    assert env["PATH"] == os.environ["PATH"]
    assert "SECRET_OF_MINE" not in env


def test_a_script_a_line_and_a_function(vigie: Program, tmp_path: Path) -> None:
    (tmp_path / "hi.py").write_text("print('from a script')\n")
    (tmp_path / "work.py").write_text("def double(n):\n    return 2 * n\n")
    vigie("schedule", "add", "script", LATER, "--script", "hi.py", check=True, cwd=tmp_path)
    vigie("schedule", "add", "line", LATER, "--shell", "echo a | tr a b", check=True, cwd=tmp_path)
    vigie("schedule", "add", "function", LATER, "-f", "work:double", "--args", "[21]", check=True, cwd=tmp_path)
    for name, said in (("script", "from a script\n"), ("line", "b\n"), ("function", "")):
        job = vigie("schedule", "run", name, check=True).stdout.strip()
        wait(vigie, job)
        assert vigie("logs", job, check=True).stdout == said
    assert json.loads(vigie("show", job, "--json", check=True).stdout)["result"] == 42


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("0 25 * * *",), "hour 25 is not in 0..23"),
        (("0 0 30 2 *",), "30th of February"),
        (("daly 02:00",), '"daly" is no phrase of time'),
        ((LATER, "--timezone", "Europe/Pariss"), "Europe/Paris"),
        ((LATER, "--overlap", "never"), "is none of skip, queue-one"),
        ((LATER, "--catch-up", "all"), "catch-up all with overlap skip"),
        (("on 2020-01-01 08:00",), "never comes|comes no more"),
        (("--calendar", "*-02-30"), "30"),
        (("--rrule", "FREQ=SOMETIMES"), "SOMETIMES"),
        ((), "nothing|when"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_added(vigie: Program, words: tuple[str, ...], said: str) -> None:
    done = vigie("schedule", "add", "bad", *words, "--", "true")
    assert done.returncode == 2
    assert re.search(said, done.stderr)
    assert vigie("schedule", "list", "--json").stdout == "[]\n"


def test_nothing_to_run_is_refused(vigie: Program) -> None:
    done = vigie("schedule", "add", "bad", LATER)
    assert (done.returncode, "nothing to run" in done.stderr) == (2, True)
    assert vigie("schedule", "add", "bad", LATER, "--").returncode == 2


def test_a_name_is_taken_once_and_unknown_ones_name_near_ones(vigie: Program) -> None:
    add(vigie, "nightly", LATER)
    done = vigie("schedule", "add", "nightly", LATER, "--", "true")
    assert (done.returncode, "vigie schedule edit nightly" in done.stderr) == (1, True)
    done = vigie("schedule", "show", "nightli")
    assert (done.returncode, "did you mean nightly?" in done.stderr) == (3, True)
    for action in ("pause", "resume", "remove", "run", "history"):
        assert vigie("schedule", action, "gone").returncode == 3


# --- changing -------------------------------------------------------------------------


def test_an_edit_changes_one_thing_and_keeps_the_rest(vigie: Program, tmp_path: Path) -> None:
    add(vigie, "nightly", LATER, "--timezone", "Europe/Paris", "--jitter", "5m", command=("pwd",), cwd=tmp_path)
    vigie("schedule", "edit", "nightly", "daily 03:30", check=True, cwd="/")
    found = show(vigie, "nightly")
    assert (found["when"], found["timezone"], found["policy"]) == (["daily 03:30"], "Europe/Paris", {"jitter": "5m"})
    vigie("schedule", "edit", "nightly", "--jitter", "none", "--", "ls", check=True, cwd="/")
    found = show(vigie, "nightly")
    assert (found["policy"], found["what"], found["cwd"]) == ({}, "ls", str(tmp_path))
    assert "nothing is changed" in vigie("schedule", "edit", "nightly").stderr


def test_an_edit_means_what_was_typed_before_from_where_it_was_typed(vigie: Program, tmp_path: Path) -> None:
    (tmp_path / "days.ics").write_text("BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n")
    add(vigie, "import", "--on-file", "in/*", "--except", "days.ics", cwd=tmp_path)
    vigie("schedule", "edit", "import", "--catch-up", "none", check=True, cwd="/")
    found = show(vigie, "import")
    assert f"{tmp_path}/in/*" in found["description"][0]
    assert found["policy"] == {"catch_up": "none"}
    vigie("schedule", "edit", "import", "--except", "none", check=True, cwd="/")


def test_a_plan_of_an_edit_shows_what_moves_and_changes_nothing(vigie: Program) -> None:
    add(vigie, "nightly", LATER, "--timezone", "Europe/Paris")
    before = show(vigie, "nightly")
    said = vigie("schedule", "edit", "nightly", "daily 03:30", "--timeout", "1h", "--plan", check=True).stdout
    assert "~ schedule nightly: when daily 02:00 → daily 03:30; timeout none → 1h" in said
    assert len(re.findall(r"    - .* 02:00", said)) == len(re.findall(r"    \+ .* 03:30", said)) == 3
    assert show(vigie, "nightly") == before


def test_a_script_has_arguments(vigie: Program, tmp_path: Path) -> None:
    (tmp_path / "say.sh").write_text('echo "$@"\n')
    vigie("schedule", "add", "say", LATER, "--script", "say.sh", "--", "a b", "-c", check=True, cwd=tmp_path)
    job = vigie("schedule", "run", "say", check=True).stdout.strip()
    wait(vigie, job)
    assert vigie("logs", job, check=True).stdout == "a b -c\n"


def test_pause_resume_and_remove(vigie: Program) -> None:
    add(vigie, "nightly", LATER)
    vigie("schedule", "pause", "nightly", "--until", "1h", check=True)
    found = show(vigie, "nightly")
    assert (found["state"], found["next"]) == ("paused", None)
    assert found["paused_until"] is not None
    vigie("schedule", "resume", "nightly", check=True)
    assert show(vigie, "nightly")["state"] == "active"
    vigie("schedule", "remove", "nightly", check=True)
    assert vigie("schedule", "show", "nightly").returncode == 3


# --- running --------------------------------------------------------------------------


def test_it_runs_and_its_history_its_job_and_why_tell(vigie: Program) -> None:
    add(vigie, "tick", "every 1s", "--max-runs", "2", "--overlap", "parallel", command=("sh", "-c", "echo hi; exit 3"))
    until(lambda: show(vigie, "tick")["state"] == "done")
    jobs = json.loads(vigie("jobs", "--schedule", "tick", "--json", check=True).stdout)
    wait(vigie, str(jobs[0]["id"]))
    rows = history(vigie, "tick")
    assert [row["outcome"] for row in rows] == ["ran", "ran"]
    assert all(0 <= row["lag"] < 5 for row in rows)
    assert show(vigie, "tick")["state"] == "done"
    job = json.loads(vigie("show", str(jobs[0]["id"]), "--json", check=True).stdout)
    assert job["firing"]["schedule"] == "tick"
    assert job["queue"] == "schedules"
    why = vigie("why", "tick", check=True).stdout
    assert "which failed" in why
    assert "Nothing more comes of it" in why
    at = rows[0]["planned"]
    assert f"as job {rows[0]['job']}" in vigie("why", "tick", "--at", at, check=True).stdout
    assert vigie("jobs", "--json", check=True).stdout == "[]\n"


def test_a_run_by_hand_heeds_overlap(vigie: Program) -> None:
    add(vigie, "long", LATER, command=("sleep", "600"))
    job = vigie("schedule", "run", "long", check=True).stdout.strip()
    done = vigie("schedule", "run", "long")
    assert (done.returncode, f"job {job} had not ended" in done.stderr) == (1, True)
    vigie("stop", job, "--grace", "0", check=True)


def test_a_file_is_handed_to_its_task(vigie: Program, tmp_path: Path) -> None:
    inbox = tmp_path / "in"
    inbox.mkdir()
    vigie("schedule", "add", "import", f"on file {inbox}/*.csv created", "--shell", 'cat "$VIGIE_FILE"', check=True)
    (inbox / "a 'b'.csv").write_text("rows")
    rows = until(lambda: fired(vigie, "import"))
    wait(vigie, str(rows[0]["job"]))
    assert rows[0]["cause"] == f"file:{inbox}/a 'b'.csv"
    assert vigie("logs", str(rows[0]["job"]), check=True).stdout == "rows"


def test_a_failed_job_sets_another_off(vigie: Program) -> None:
    add(vigie, "alarm", "on job copy failed", command=("echo", "copy failed"))
    vigie("run", "-n", "copy", "--", "true", check=True)
    assert vigie("run", "-n", "copy", "--", "false").returncode == 1
    rows = until(lambda: fired(vigie, "alarm"))
    assert len(rows) == 1


def test_a_record_sets_another_off_while_its_job_runs(vigie: Program, tmp_path: Path) -> None:
    add(vigie, "alarm", "on record watched matching disk full", command=("echo", "full"))
    halves = 'echo fine; echo "the disk is"; printf "disk f"; sleep 1; echo ull'
    script = f"{halves}; until [ -e {tmp_path}/go ]; do sleep 0.1; done"
    job = vigie("start", "-n", "watched", "--shell", script, check=True).stdout.strip()
    vigie("start", "-n", "other", "--", "echo", "disk full", check=True)
    rows = until(lambda: fired(vigie, "alarm"))
    assert json.loads(vigie("show", job, "--json", check=True).stdout)["state"] == "running"
    (tmp_path / "go").touch()
    wait(vigie, job)
    assert [row["cause"] for row in rows] == [f"record:{job}"]


def test_an_agent_killed_and_started_again_repeats_nothing(vigie: Program, home: Any) -> None:
    add(vigie, "tick", "every 1s", "--overlap", "parallel")
    for _ in range(3):
        have = len(history(vigie, "tick"))
        until(lambda have=have: len(history(vigie, "tick")) > have)
        os.kill(json.loads(vigie("agent", "status", "--json", check=True).stdout)["pid"], 9)
        vigie("agent", "start", check=True)
    vigie("schedule", "pause", "tick", check=True)
    rows = fired(vigie, "tick")
    jobs = json.loads(vigie("jobs", "--schedule", "tick", "--json", check=True).stdout)
    assert len(rows) == len({row["planned"] for row in rows}) == len(jobs)
    assert {row["job"] for row in rows} == {job["id"] for job in jobs}


# --- expressions ----------------------------------------------------------------------


def test_next_works_on_any_expression_without_an_agent(vigie: Program, home: Any) -> None:
    asked = ("schedule", "next", "--from", "2026-01-01T00:00:00", "--timezone", "Europe/Paris", "-n", "5", "--json")
    expected = [f"2026-01-{day:02}T08:00:00+01:00" for day in (1, 2, 5, 6, 7)]
    for words in (
        ("--calendar", "Mon..Fri *-*-* 08:00"),
        ("--cron", "0 8 * * 1-5"),
        ("--rrule", "FREQ=DAILY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=8;BYMINUTE=0;BYSECOND=0"),
        ("weekdays 08:00",),
        ("0 8 * * mon-fri",),
    ):
        assert json.loads(vigie(*asked, *words, check=True).stdout) == expected
    assert not Path(home.socket).exists()


def test_next_of_a_schedule_is_its_own(vigie: Program) -> None:
    add(vigie, "nightly", LATER, "--timezone", "America/Lima")
    lines = vigie("schedule", "next", "nightly", "-n", "2", check=True).stdout.splitlines()
    assert [line[11:] for line in lines] == ["02:00:00-05:00"] * 2


def test_the_first_screen_says_what_comes(vigie: Program) -> None:
    add(vigie, "nightly", LATER)
    assert "nightly" in vigie(check=True).stdout
    assert json.loads(vigie("--json", check=True).stdout)["coming"][0]["schedule"] == "nightly"


def test_completion_knows_names_and_actions(vigie: Program) -> None:
    add(vigie, "nightly", LATER)
    assert vigie("__complete", "schedule", "pa", check=True).stdout.startswith("pause")
    assert vigie("__complete", "schedule", "show", "", check=True).stdout == "nightly\n"
    assert "Europe/Paris" in vigie("__complete", "schedule", "add", "x", "--timezone", "Europe/Pa", check=True).stdout


def test_records_written_before_a_kill_set_it_off_once(vigie: Program) -> None:
    add(vigie, "alarm", "on record talk* matching boo", "--overlap", "parallel", command=("true",))
    jobs = []
    for number in range(4):
        jobs.append(vigie("start", "-n", f"talk{number}", "--", "echo", "boo", check=True).stdout.strip())
        wait(vigie, jobs[-1])
        os.kill(json.loads(vigie("agent", "status", "--json", check=True).stdout)["pid"], 9)
        vigie("agent", "start", check=True)
    rows = until(lambda: found if len(found := fired(vigie, "alarm")) >= 4 else None)
    assert sorted(row["cause"] for row in rows) == sorted(f"record:{job}" for job in jobs)
