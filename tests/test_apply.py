"""``vigie apply``: what changes and what stays, whose it is, all of it or nothing; and names that files declare."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

import pytest

from schedules_place import MINUTE, SECOND, Place, shown
from vigie import changes, projects, shares
from vigie.agent.apply import Apply
from vigie.agent.core import Who
from vigie.change import Change, differing, redacted
from vigie.changes import Changes
from vigie.cli.changed import change_lines
from vigie.config import Home
from vigie.errors import Conflict, Refused, UsageError
from vigie.manifest import read_manifest
from vigie.model import TASK_DEFAULTS
from vigie.store.manifest_reader import ManifestReader
from vigie.store.readonly import ReadOnly


class Applying:
    """A place of schedules to which files can be applied."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = Place(path)
        self.index: list[Any] = []
        self.begin()

    def begin(self) -> None:
        place = self.place
        self.apply_ = Apply(place.core, place.control, place.asked, Mock(), lambda *given: self.index.append(given))

    def again(self) -> None:
        """Kill the agent and start another."""
        self.place = self.place.again()
        self.begin()

    def changes(self, text: str, file: str = "vigie.toml", moved_from: str | None = None) -> Changes:
        store = ReadOnly(str(self.path / "vigie.db"))
        try:
            reader = ManifestReader(SimpleNamespace(_store=store))  # type: ignore[arg-type]
            manifest = read_manifest(text.encode(), str(self.path / file), refuse=False)
            return Changes(manifest, reader, self.place.clock.now, moved_from)
        finally:
            store.close()

    def send(self, found: Changes, of: str = "x") -> None:
        for op, fields, blobs in found.requests(of):
            work = {"apply": self.apply_.apply, "apply_part": self.apply_.part}[op]
            self.place.ask(work, fields, blobs, Who(uid=1))

    def apply(self, text: str, file: str = "vigie.toml", moved_from: str | None = None) -> list[str]:
        """Apply a text, and give the first words of each change."""
        found = self.changes(text, file, moved_from)
        if found.list or moved_from:
            self.send(found)
        assert not self.changes(text, file).list  # applied again, nothing changes
        return [f"{each.sign} {each.kind} {each.name}" for each in found.list]

    def rows(self, *tables: str) -> list[Any]:
        """Give all that the store holds of some tables."""
        return [self.place.store.db.execute(f"SELECT * FROM {table}").fetchall() for table in tables]

    def events(self, verb: str) -> list[tuple[Any, ...]]:
        wanted = "SELECT object, before, after FROM events WHERE verb = ? ORDER BY id"
        return self.place.store.db.execute(wanted, (verb,)).fetchall()


ALL = ("schedules", "declared", "queues", "firings", "tasks", "events", "zones")


@pytest.fixture
def applying(tmp_path: Path) -> Iterator[Applying]:
    found = Applying(tmp_path)
    yield found
    found.place.close()


def schedule(name: str = "a", when: str = "daily 02:00", more: str = "") -> str:
    return f'[schedule.{name}]\nrun = ["true"]\nwhen = "{when}"\ntimezone = "UTC"\n{more}\n'


# What changes, what stays -----------------------------------------------------------


def test_a_file_adds_changes_and_removes(applying: Applying) -> None:
    both = schedule() + schedule("b") + '[task.t]\nrun = ["x"]\n[queue.q]\nslots = 2\n'
    assert applying.apply(both) == ["+ queue q", "+ task t", "+ schedule a", "+ schedule b"]
    assert applying.apply(both) == []
    changed = schedule(when="daily 03:00") + '[task.t]\nrun = ["y"]\n[queue.q]\nslots = 3\n'
    assert applying.apply(changed) == ["~ queue q", "~ task t", "~ schedule a", "- schedule b"]
    assert applying.place.row("b") is None
    assert applying.apply("") == ["- queue q", "- task t", "- schedule a"]
    assert applying.rows("schedules", "queues") == [[], []]


def test_a_schedule_is_what_adding_it_by_hand_makes_of_it(applying: Applying) -> None:
    applying.apply(schedule(more='jitter = "5m"\ntimeout = "1m"\npriority = 3\ntags = "x"'))
    place = applying.place
    place.add("b", "daily 02:00", jitter="5m", timeout="1m", priority=3, tags=["x"])
    one, other = place.row("a")._asdict(), place.row("b")._asdict()
    assert (
        json.loads(one.pop("triggers"))["readings"][0].keys() <= json.loads(other.pop("triggers"))["readings"][0].keys()
    )
    different = ("id", "name", "owner", "spec", "due")  # another name has another jitter
    assert {key: one[key] for key in one if key not in different} == {
        key: other[key] for key in other if key not in different
    }  # fmt: skip
    assert 0 <= one["due"] - one["next"] <= 5 * MINUTE


def test_what_is_equal_is_not_touched(applying: Applying) -> None:
    text = schedule("a", "every 5m") + schedule("b", "every 7m")
    applying.apply(text)
    before = applying.place.row("a")
    applying.place.do("pause", "b")
    paused = applying.place.row("b")
    applying.place.clock.pass_by(MINUTE)
    assert applying.apply(text + schedule("c")) == ["+ schedule c"]
    assert applying.place.row("a") == before
    assert applying.place.row("b") == paused


def test_another_timeout_moves_no_instant_and_keeps_the_history(applying: Applying) -> None:
    applying.apply(schedule(when="every 5m"))
    place = applying.place
    place.until("2026-03-01 12:11")
    before, history = place.row("a"), place.decided("a")
    assert len(history) == 2
    found = applying.changes(schedule(when="every 5m", more='timeout = "1m"'))
    assert [each.keys for each in found.list] == [["timeout"]]
    applying.send(found)
    after = place.row("a")
    same = ("id", "triggers", "planned", "next", "due", "created", "runs", "state")
    assert [getattr(after, key) for key in same] == [getattr(before, key) for key in same]
    assert place.decided("a") == history
    assert after.task != before.task
    assert after.changed == place.clock.now


def test_other_triggers_count_from_when_they_were_applied_and_keep_the_history(applying: Applying) -> None:
    applying.apply(schedule(when="every 5m"))
    place = applying.place
    place.until("2026-03-01 12:11")
    history = place.decided("a")
    found = applying.changes(schedule(when="every 2m"))
    (change,) = found.list
    assert (shown(change.due or 0), shown(change.next or 0)) == ("03-01 12:15", "03-01 12:13")
    applying.send(found)
    assert place.decided("a") == history
    place.until("2026-03-01 12:16")
    assert [at for at, _, _ in place.decided("a")] == ["03-01 12:05", "03-01 12:10", "03-01 12:13", "03-01 12:15"]


def test_what_was_planned_of_other_triggers_does_not_come(applying: Applying) -> None:
    applying.apply(schedule(when="every 5m"))
    place = applying.place
    place.until("2026-03-01 12:04:59")
    assert [each.outcome for each in place.firings("a")] == [None]
    applying.apply(schedule(when="daily 13:00"))
    place.until("2026-03-01 12:30")
    assert place.firings("a") == []


def test_other_jitter_moves_the_due_and_not_the_instant(applying: Applying) -> None:
    applying.apply(schedule())
    before = applying.place.row("a")
    applying.apply(schedule(more='jitter = "1h"'))
    after = applying.place.row("a")
    assert after.next == before.next
    assert before.next < after.due <= before.next + 60 * MINUTE


def test_one_that_has_come_to_its_end_begins_anew_with_other_triggers_alone(applying: Applying) -> None:
    applying.apply(schedule(when="on 2026-03-01 12:05"))
    place = applying.place
    place.until("2026-03-01 12:10")
    assert place.row("a").state == "done"
    with pytest.raises(UsageError, match="it comes no more"):
        applying.changes(schedule("a", "on 2026-03-01 12:06"))
    applying.send(applying.changes(schedule(when="on 2026-03-01 13:00")))
    assert place.row("a").state == "active"
    place.until("2026-03-01 13:10")
    assert len(place.decided("a")) == 2


def test_one_that_has_had_its_runs_begins_anew_when_it_may_have_more(applying: Applying) -> None:
    two = 'overlap = "parallel"\nmax_runs = 2'
    applying.apply(schedule(when="every 1m", more=two))
    place = applying.place
    place.until("2026-03-01 12:10")
    assert (place.row("a").state, len(place.jobs("a"))) == ("done", 2)
    applying.apply(schedule(when="every 1m", more=f"{two}\npriority = 1"))
    assert place.row("a").state == "done"
    message = refusal(lambda: applying.changes(schedule(when="every 2m", more=two)))
    assert message == "vigie.toml:6: schedule.a.max_runs: it has had 2 runs"
    applying.apply(schedule(when="every 1m", more=two.replace("2", "3")))
    assert place.row("a").state == "active"
    place.until("2026-03-01 12:20")
    assert (place.row("a").state, len(place.jobs("a"))) == ("done", 3)


def test_a_paused_one_stays_paused(applying: Applying) -> None:
    applying.apply(schedule())
    place = applying.place
    place.do("pause", "a")
    applying.apply(schedule(when="every 1m", more='overlap = "parallel"'))
    row = place.row("a")
    assert (row.state, row.due) == ("paused", None)
    place.until("2026-03-01 12:10")
    place.do("resume", "a")
    place.until("2026-03-01 12:12")
    assert [each.outcome for each in place.firings("a")][-1] == "ran"


def test_an_instant_that_has_its_record_never_runs_again(applying: Applying) -> None:
    parallel = 'overlap = "parallel"'
    applying.apply(schedule(when="*/1 * * * *", more=parallel))
    place = applying.place
    place.until("2026-03-01 12:05:30")
    # The rows are made before the minute, and applied after it.
    found = applying.changes(schedule(when="*/1 * * * *", more=f'from = "2026-01-01"\n{parallel}'))
    place.until("2026-03-01 12:06:30")
    applying.send(found)
    place.until("2026-03-01 12:08:30")
    at = [at for at, _, _ in place.decided("a")]
    assert at == sorted(set(at))
    assert len(place.jobs("a")) == 8


def test_what_came_while_the_file_was_read_still_runs(applying: Applying) -> None:
    found = applying.changes(schedule(when="daily 12:01"))
    applying.place.until("2026-03-01 12:01:20")
    applying.send(found)
    applying.place.until("2026-03-01 12:02")
    assert applying.place.decided("a") == [("03-01 12:01", "late", None)]


def test_intervals_from_runs_go_on(applying: Applying) -> None:
    applying.apply(schedule(when="every 5m after end"))
    place = applying.place
    assert place.duty.again == {"a"}
    place.until("2026-03-01 12:06")
    (job,) = place.jobs("a")
    place.complete(job)
    place.turn()
    applying.apply(schedule(when="every 10m after end"))
    place.until("2026-03-01 12:30")
    assert [at for at, _, _ in place.decided("a")] == ["03-01 12:05", "03-01 12:16"]
    applying.apply(schedule(when="daily 02:00"))
    assert place.duty.again == set()


def test_what_waits_for_files_is_watched_from_then_on(applying: Applying) -> None:
    inbox = applying.path / "in"
    inbox.mkdir()
    (inbox / "old").write_text("x")
    text = '[schedule.a]\nrun = ["true"]\non_file = { path = "in/*", what = "created" }\n'
    applying.apply(text)
    place = applying.place
    assert [row.name for row, _ in place.duty.happenings.waiting] == ["a"]
    place.duty.happenings.look()
    place.turn()
    assert place.firings("a") == []  # it was there before
    (inbox / "new").write_text("x")
    place.duty.happenings.look()
    place.turn()
    place.step()
    assert len(place.jobs("a")) == 1
    applying.apply("")
    assert place.duty.happenings.waiting == []


# Whose it is ------------------------------------------------------------------------


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as error:
        make()
    return error.value.message


def test_what_was_made_by_hand_or_by_another_file_is_refused_and_left(applying: Applying) -> None:
    applying.place.add("hand", "daily 02:00")
    applying.apply(schedule("other"), file="other.toml")
    before = applying.rows(*ALL)
    message = refusal(lambda: applying.changes(schedule("hand") + schedule("fine") + schedule("other")))
    other = applying.path / "other.toml"
    assert message.splitlines()[0] == "vigie.toml:1: schedule.hand: schedule hand was made by hand"
    assert f"vigie.toml:11: schedule.other: schedule other belongs to {other}" in message
    assert f"vigie apply vigie.toml --moved-from {other}" in message  # that file is not on disk
    assert applying.rows(*ALL) == before
    assert applying.apply("", file="vigie.toml") == []
    assert applying.place.row("hand") is not None


def test_a_project_prefixes_its_names_and_belongs_to_one_file(applying: Applying) -> None:
    applying.apply('project = "shop"\n' + schedule("hand"))
    applying.place.add("hand", "daily 02:00")
    assert applying.place.row("shop.hand") is not None
    message = refusal(lambda: applying.changes('project = "shop"\n' + schedule("b"), file="two.toml"))
    assert message == f"two.toml:1: project: project shop belongs to {applying.path / 'vigie.toml'}"
    # Another name for it makes all names new.
    assert applying.apply('project = "store"\n' + schedule("hand")) == ["- schedule shop.hand", "+ schedule store.hand"]
    assert applying.apply('project = "shop"\n' + schedule("b"), file="two.toml") == ["+ schedule shop.b"]


def test_a_file_that_was_moved_takes_over_what_it_declared(applying: Applying) -> None:
    text = 'project = "shop"\n' + schedule(when="every 5m", more='cwd = "/"') + '[task.t]\nrun = ["x"]\ncwd = "/"\n'
    applying.apply(text, file="old.toml")
    before = applying.place.row("shop.a")
    assert applying.apply(text, moved_from=str(applying.path / "old.toml")) == []
    after = applying.place.row("shop.a")
    assert after == before._replace(owner=str(applying.path / "vigie.toml"))
    assert applying.apply("", file="old.toml") == []
    with pytest.raises(UsageError, match="was applied already"):
        applying.changes(text, moved_from=str(applying.path / "other.toml"))
    assert applying.apply("") == ["- task shop.t", "- schedule shop.a"]


def test_by_hand_nobody_changes_what_a_file_owns(applying: Applying) -> None:
    applying.apply(schedule())
    with pytest.raises(Refused):
        applying.place.do("remove", "a")
    with pytest.raises(Refused):
        applying.place.add("a", "daily 03:00", replace=True)


def test_task_and_queue_of_two_files_do_not_mix(applying: Applying) -> None:
    text = '[task.t]\nrun = ["x"]\n[queue.q]\nslots = 1\n'
    applying.apply(text)
    message = refusal(lambda: applying.changes(text, file="two.toml"))
    assert [line.split(": ")[1] for line in message.splitlines() if "belongs" in line] == ["task.t", "queue.q"]


# Queues -----------------------------------------------------------------------------


def test_queues_are_set_and_what_was_set_by_hand_is_set_back(applying: Applying) -> None:
    text = '[queue.q]\nslots = 4\nrate = "10/s"\n'
    applying.apply(text)
    assert applying.rows("queues") == [[("q", 4, 10.0, 0)]]
    applying.place.ask(applying.place.control.queue_set, {"name": "q", "slots": 9}, Who())
    applying.place.ask(applying.place.control.queue_pause, {"name": "q"}, Who())
    (change,) = applying.changes(text).list
    assert (change.before, change.after) == ({"slots": 9, "rate": "10/s"}, {"slots": 4, "rate": "10/s"})
    applying.apply(text)
    assert applying.rows("queues") == [[("q", 4, 10.0, 1)]]  # the pause is somebody else's matter


def test_a_queue_set_by_hand_is_refused_until_it_is_set_back(applying: Applying) -> None:
    ask, control = applying.place.ask, applying.place.control
    ask(control.queue_set, {"name": "q", "slots": 9}, Who())
    assert "queue q was set by hand" in refusal(lambda: applying.changes("[queue.q]\nslots = 4\n"))
    ask(control.queue_set, {"name": "q", "slots": None}, Who())
    assert applying.apply("[queue.q]\nslots = 4\n") == ["+ queue q"]


def test_a_queue_that_leaves_the_file_stays_while_somebody_needs_it(applying: Applying) -> None:
    text = '[queue.q]\nslots = 4\nrate = "1/s"\n'
    applying.apply(text + schedule(when="every 1m", more='queue = "q"'))
    applying.place.until("2026-03-01 12:01:30")
    (job,) = applying.place.jobs("a")
    assert applying.apply("") == ["- queue q", "- schedule a"]
    assert applying.rows("queues") == [[("q", None, None, 0)]]
    applying.apply(text)
    applying.place.end(job)
    assert applying.apply("") == ["- queue q"]
    assert applying.rows("queues") == [[]]
    assert not applying.place.store.has_queue("q")


def test_a_queue_that_is_nowhere_is_refused(applying: Applying) -> None:
    assert "schedule.a.queue: there is no queue 'q'" in refusal(lambda: applying.changes(schedule(more='queue = "q"')))
    applying.apply("[queue.q]\n")
    message = refusal(lambda: applying.changes(schedule(more='queue = "q"')))  # it would leave the file
    assert "there is no queue 'q'" in message


# All or nothing ---------------------------------------------------------------------


def test_what_changed_meanwhile_refuses_all_of_it(applying: Applying) -> None:
    text = schedule("a") + schedule("b")
    applying.apply(text)
    added = applying.changes(text + schedule("c"))
    applying.place.add("c", "daily 02:00")
    before = applying.rows(*ALL)
    with pytest.raises(Conflict, match="schedule c was made"):
        applying.send(added)
    assert applying.rows(*ALL) == before

    stale = applying.changes(schedule("a", "daily 03:00") + schedule("b"))
    applying.apply(schedule("a", "daily 04:00") + schedule("b"))
    before = applying.rows(*ALL)
    with pytest.raises(Conflict, match="was applied by somebody else"):
        applying.send(stale)
    assert applying.rows(*ALL) == before

    gone = applying.changes(schedule("a", "daily 05:00"))
    applying.place.store.db.execute("DELETE FROM schedules WHERE name = 'b'")
    before = applying.rows(*ALL)
    with pytest.raises(Conflict, match="schedule b was removed"):
        applying.send(gone)
    assert applying.rows(*ALL) == before


def test_what_was_computed_long_ago_is_computed_anew(applying: Applying) -> None:
    found = applying.changes(schedule())
    applying.place.clock.pass_by(601 * SECOND)
    with pytest.raises(Conflict, match="it took too long"):
        applying.send(found)
    assert applying.rows("schedules") == [[]]


def test_a_failure_in_the_middle_leaves_nothing(applying: Applying) -> None:
    applying.apply(schedule("a"))
    before = applying.rows(*ALL)
    found = applying.changes(schedule("a", "daily 03:00") + schedule("b") + "[queue.q]\nslots = 1\n")
    with (
        patch.object(applying.apply_.control, "queue_set", side_effect=UsageError("no")),
        pytest.raises(UsageError),
    ):
        applying.send(found)
    assert applying.rows(*ALL) == before
    applying.send(applying.changes(schedule("a", "daily 03:00") + schedule("b")))
    assert applying.place.row("b") is not None


FORKED = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@FORKED
def test_many_come_in_parts_and_in_shares(applying: Applying) -> None:
    text = "".join(schedule(f"s{i}", f"monthly {i % 28 + 1} {i % 24:02}:00", f"priority = {i % 7}") for i in range(300))
    with (
        patch.object(shares, "PART", 5_000),
        patch.object(changes, "MANY", 10),
        patch.object(changes, "cores", lambda: 3),
    ):
        found = applying.changes(text)
        assert len(found.parts) > 10
        assert [each.name for each in found.list] == sorted(f"s{i}" for i in range(300))
        applying.send(found)
        assert applying.changes(text).list == []
    Path(applying.path, "alone").mkdir()
    alone = Applying(Path(applying.path, "alone"))
    alone.apply(text)
    columns = "name, policy, triggers, planned, next, due, job"
    rows = [
        each.place.store.db.execute(f"SELECT {columns} FROM schedules ORDER BY name").fetchall()
        for each in (applying, alone)
    ]
    alone.place.close()
    assert rows[0] == rows[1]


@FORKED
def test_an_error_in_one_share_is_said_with_its_line(applying: Applying) -> None:
    text = "".join(schedule(f"s{i}", "daily 25:00" if i == 17 else f"daily {i % 24}:00") for i in range(40))
    with patch.multiple(changes, MANY=10, cores=lambda: 3):
        assert refusal(lambda: applying.changes(text)).startswith("vigie.toml:88: schedule.s17.when: hour 25")


def test_parts_of_two_do_not_mix_and_none_is_lost(applying: Applying) -> None:
    text = "".join(schedule(f"s{i}") for i in range(50))
    with patch.object(shares, "PART", 5_000):
        found = applying.changes(text)
    first, *rest = list(found.requests("one"))
    ask, duty = applying.place.ask, applying.apply_
    ask(duty.part, first[1], first[2], Who())
    ask(duty.part, {**first[1], "of": "two"}, first[2], Who())  # somebody else begins
    with pytest.raises(Conflict, match="another file is being applied"):
        ask(duty.part, rest[0][1], rest[0][2], Who())
    applying.send(found, of="three")
    assert len(applying.rows("schedules")[0]) == 50

    with patch.object(shares, "PART", 5_000):
        found = applying.changes(text + "".join(schedule(f"t{i}") for i in range(50)))
    first, *rest = list(found.requests("four"))
    ask(duty.part, first[1], first[2], Who())
    applying.again()
    with pytest.raises(Conflict, match="the agent was started anew"):
        applying.place.ask(applying.apply_.part, rest[0][1], rest[0][2], Who())
    assert len(applying.rows("schedules")[0]) == 50


def test_another_version_is_refused(applying: Applying) -> None:
    found = applying.changes(schedule())
    with patch.object(changes, "__version__", "0.0.1"), pytest.raises(Refused, match=r"this is Vigie 0\.0\.1, and"):
        applying.send(found)


# What is kept and what is told ------------------------------------------------------


def test_contents_of_files_that_are_read_count_as_a_change_and_surroundings_do_not(
    applying: Applying, monkeypatch: pytest.MonkeyPatch
) -> None:
    (applying.path / ".env").write_text("A=1\n")
    text = schedule(more='env_file = ".env"\nenv = ["B"]')
    monkeypatch.setenv("B", "1")
    applying.apply(text)
    monkeypatch.setenv("B", "2")
    monkeypatch.setenv("PATH", "/elsewhere")
    assert applying.apply(text) == []
    (applying.path / ".env").write_text("A=2\n")
    (change,) = applying.changes(text).list
    assert (change.keys, change.next) == (["env_file"], change.due)
    assert list(change_lines(change)) == ["~ schedule a: env_file: its content is another"]
    applying.apply(text)
    context = applying.place.row("a").context
    (env,) = applying.place.store.db.execute("SELECT env FROM contexts WHERE id = ?", (context,)).fetchone()
    assert {b"A=2", b"B=2", b"PATH=/elsewhere"} <= set(env.split(b"\0"))


def test_the_timeline_tells_each_change_without_secrets(applying: Applying) -> None:
    secret = 'env = { API_KEY = "geheim", A = "1" }'
    applying.apply(f'{schedule(more=secret)}[task.t]\nrun = ["x"]\n{secret}\n')
    applying.apply(schedule(when="daily 03:00", more=secret))
    applying.apply("")
    assert [thing for thing, _, _ in applying.events("schedule-changed")] == ["schedule:a"]
    assert [thing for thing, _, _ in applying.events("schedule-removed")] == ["schedule:a"]
    assert [thing for thing, _, _ in applying.events("task-removed")] == ["task:t"]
    (added,) = applying.events("schedule-added")
    assert json.loads(added[2])["env"] == {"API_KEY": "(redacted)", "A": "1"}
    assert len(applying.events("applied")) == 3
    told = applying.place.store.db.execute(
        "SELECT group_concat(coalesce(before, '') || coalesce(after, '')) FROM events"
    )
    assert "geheim" not in told.fetchone()[0]


def test_a_task_is_stored_as_a_submit_stores_it(applying: Applying) -> None:
    applying.apply(schedule())
    task = applying.place.row("a").task
    made = {**TASK_DEFAULTS, "kind": "command", "argv": ["true"], "label": "true"}
    assert applying.place.store.intern_task(made, None) == task


def test_lines_say_what_is_another() -> None:
    before = {"when": "daily 02:00", "timeout": "1h", "env": {"A": "1", "KEY": "x"}, "timezone": "UTC", "run": ["a"]}
    after = {"when": ["daily 03:00", "at boot"], "env": {"A": "2", "KEY": "y"}, "timezone": "UTC", "run": ["a", "b c"]}
    change = Change("schedule", "n", before, after, due=0, next=60_000_000, zone="UTC")
    assert list(change_lines(change)) == [
        "~ schedule n: when daily 02:00 → daily 03:00, at boot; run a → a 'b c'; env.A 1 → 2; timeout 1h → none",
        "    next 1970-01-01 00:00:00+00:00 → 1970-01-01 00:01:00+00:00",
    ]
    assert list(change_lines(Change("task", "t", None, {"shell": "a\x1b[2J"}))) == ["+ task t: a␛[2J"]
    assert list(change_lines(Change("schedule", "n", before, None, due=0, zone="UTC"))) == [
        "- schedule n", "    would have come 1970-01-01 00:00:00+00:00",
    ]  # fmt: skip
    paused = Change("schedule", "n", before, after, zone="UTC", paused=True)
    assert list(change_lines(paused))[1] == "    paused"


def test_tables_are_compared_and_shown_without_secrets() -> None:
    old = {"run": ["a"], "files": {"/x/.env": "1", "off.ics": "1"}}
    assert differing("schedule", old, {"run": ["a"], "files": {"/x/.env": "2", "off.ics": "2"}}) == [
        "env_file",
        "except",
    ]
    assert redacted({"env": ["A_TOKEN=x", "B", "C=d"], "files": {}}) == {"env": ["A_TOKEN=(redacted)", "B", "C=d"]}


# Names ------------------------------------------------------------------------------


def test_the_index_is_written_with_each_change_and_anew(applying: Applying) -> None:
    applying.apply('project = "shop"\n[task.t]\nrun = ["x"]\n')
    file = str(applying.path / "vigie.toml")
    assert applying.index[-1] == ([(file, "shop")], ["shop.t"])
    applying.again()
    applying.place.ask(applying.apply_.write_index)
    assert applying.index[-1] == ([(file, "shop")], ["shop.t"])
    applying.apply("")
    assert applying.index[-1] == ([(file, None)], [])


def test_what_a_plain_name_means_depends_on_the_directory(tmp_path: Path) -> None:
    home = Home(str(tmp_path))
    assert projects.task_names(home, "t") == []
    files = [
        ("/srv/shop/vigie.toml", "shop"),
        ("/srv/shop/extra.toml", "extra"),
        ("/srv/vigie.toml", None),
        ("/a/x.toml", "a"),
    ]
    projects.write(home, files, ["a.t", "extra.t", "nightly", "shop.t", "t.u"])
    assert projects.task_names(home, "t", "/srv/shop/deep/er") == ["shop.t", "extra.t"]
    assert projects.task_names(home, "shop.t", "/a") == ["shop.t"]
    assert projects.task_names(home, "nightly", "/srv/shop") == ["nightly"]
    assert projects.task_names(home, "t", "/srv") == []
    assert projects.task_names(home, "t", "/a") == ["a.t"]
    for other in ("", "ghtly", "hop.t", "u", "x" * 1000, "\udcff", "shop"):
        assert projects.task_names(home, other, "/srv/shop") == []
    assert projects.candidates(home, "n", "/srv/shop") == ["shop.n", "extra.n", "n"]
    assert projects.candidates(home, "n", "/srv") == ["n"]
    projects.write(home, [], [])
    assert not os.path.exists(home.declared)
    Path(home.declared).write_bytes(b"\xff broken")
    assert projects.task_names(home, "t") == []
    assert projects.candidates(home, "n") == ["n"]


# The real program -------------------------------------------------------------------

FILE = """\
project = "shop"
[task.env]
shell = "env | sort; pwd"
env = { API_KEY = "geheim", A = 1 }
env_file = ".env"
timeout = "1m"
[task.adds]
python = "sums:add"
args = [1, 2]
[schedule.often]
task = "env"
every = "1s"
overlap = "parallel"
[queue.q]
slots = 1
"""


@pytest.fixture
def shop(home: Any) -> Path:
    """Give a directory with a file that declares things."""
    where = Path(home.user, "shop")
    (where / "below").mkdir(parents=True)
    (where / "vigie.toml").write_text(FILE)
    (where / ".env").write_text("B=2\n")
    (where / "sums.py").write_text("def add(a, b):\n    return a + b\n")
    return where


@pytest.mark.slow
def test_a_declared_task_runs_by_hand_as_its_schedule_runs_it(vigie: Any, home: Any, shop: Path, until: Any) -> None:
    done = vigie("apply", cwd=shop, check=True, env={"C": "3"})
    assert done.stdout.splitlines()[-1] == "4 added, 0 changed, 0 removed"
    assert "until this machine restarts" in done.stderr
    (shop / ".env").write_text("B=changed\n")  # it was read when it was applied
    by_hand = vigie("run", "env", cwd=shop / "below", check=True).stdout
    job = until(lambda: _ended(vigie, "shop.often"))
    by_clock = Path(home.job_file(job, "out")).read_text()

    def without(text: str) -> list[str]:
        return [
            line for line in text.splitlines() if not line.startswith(("VIGIE_JOB", "VIGIE_ATTEMPT", "VIGIE_SCHED"))
        ]

    assert without(by_hand) == without(by_clock)
    assert {"A=1", "B=2", "API_KEY=geheim"} <= set(by_hand.splitlines())
    assert by_hand.splitlines()[-1] == str(shop)
    assert "C=3" not in by_hand

    assert vigie("run", "adds", cwd=shop, check=True).stdout == "3\n"
    over = json.loads(
        vigie("run", "--timeout", "5s", "shop.env", "--dry-run", "--env", "A=9", "--json", check=True).stdout
    )
    assert (over["timeout"], over["env"]["A"], over["env"]["API_KEY"]) == (5.0, "9", "(redacted)")
    assert over["name"] == "shop.env"
    assert vigie("run", "--", "env", cwd=shop, check=True).stdout != by_hand
    wrong = vigie("start", "env", "x", cwd=shop)
    assert (wrong.returncode, "takes no words: 'x' is too much" in wrong.stderr) == (2, True)
    assert vigie("schedule", "pause", "often", cwd=shop / "below").returncode == 0
    assert vigie("schedule", "pause", "often").returncode == 3  # elsewhere it has its whole name

    # The index is made again by whoever starts next.
    Path(home.declared).unlink()
    (agent,) = home.processes("agent")
    os.kill(agent.pid, 9)
    vigie("agent", "start", check=True)
    assert until(lambda: os.path.exists(home.declared))
    assert vigie("run", "adds", cwd=shop, check=True).stdout == "3\n"


def _ended(vigie: Any, name: str) -> int | None:
    rows = json.loads(vigie("schedule", "history", name, "--json", check=True).stdout)
    return next((row["job"] for row in rows if row["state"] == "completed"), None)


@pytest.mark.slow
def test_plan_json_and_exit_codes(vigie: Any, home: Any, shop: Path) -> None:
    planned = json.loads(vigie("apply", "--plan", "--json", cwd=shop, check=True).stdout)
    assert (planned["applied"], planned["project"], len(planned["changes"])) == (False, "shop", 4)
    assert not os.path.exists(home.db)  # nothing was even looked at but a store that is not there
    add = planned["changes"][-1]
    assert (add["change"], add["kind"], add["name"], add["before"]) == ("add", "schedule", "shop.often", None)
    assert add["after"]["env"]["API_KEY"] == "(redacted)"
    assert add["next"]["after"].startswith("20")
    assert json.loads(vigie("apply", "--json", cwd=shop, check=True).stdout)["applied"] is True
    assert vigie("apply", cwd=shop, check=True).stdout == "nothing changed\n"

    (shop / "vigie.toml").write_text(FILE.replace("1s", "1h") + '[schedule.x]\nrun = ["a"]\nwhen = "daily 25:00"\n')
    done = vigie("apply", cwd=shop)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vigie: vigie.toml:18: schedule.x.when: hour 25 is not in 0..23")
    assert json.loads(vigie("schedule", "show", "shop.often", "--json").stdout)["when"] == ["every 1s"]

    (shop / "vigie.toml").write_text(FILE.replace("1s", "1h"))
    (change,) = json.loads(vigie("apply", str(shop), "--json", check=True).stdout)["changes"]
    assert (change["keys"], change["before"]["every"], change["after"]["every"]) == (["every"], "1s", "1h")
    assert "it is no file" in vigie("apply", "/dev/null").stderr
    missing = vigie("apply", "no.toml")
    assert (missing.returncode, missing.stderr.splitlines()[0]) == (
        2, "vigie: cannot read no.toml: No such file or directory",
    )  # fmt: skip


@pytest.mark.slow
def test_simulate_needs_no_agent(vigie: Any, home: Any, shop: Path) -> None:
    args = ("schedule", "simulate", "--from", "2026-12-01T00:00", "--to", "10s", "--duration", "often=3s")
    found = json.loads(vigie(*args, "--json", cwd=shop, check=True).stdout)
    assert len(found["firings"]) == found["count"] == 9
    assert [(each["queue"], each["most"]) for each in found["load"]] == [("schedules", 3)]
    shown = vigie(*args, cwd=shop, check=True).stdout.splitlines()
    assert shown[0].endswith("  shop.often")
    assert shown[10].startswith("9 firings of 1 schedule, from 2026-12-01 00:00:00 to 2026-12-01 00:00:10")
    assert vigie("schedule", "simulate", "--duration", "no=1s", cwd=shop).returncode == 2
    assert not os.path.exists(home.db)
