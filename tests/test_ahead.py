"""Short commands that are claimed ahead of a free slot: what the keeper holds, and when it lets go."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

sys.path.insert(0, os.path.dirname(__file__))

import vigie
from conftest import HomeUnderTest, Program, until
from held import LANE, Held, hold_commands
from keeper_bench import TAG, Bench, bench, release  # noqa: F401 - fixtures
from vigie.agent.ahead import MEMORY, QUICK, Ahead
from vigie.session import session

pytestmark = pytest.mark.slow


# The keeper -------------------------------------------------------------------------


def held_by(bench: Bench, width: int = 1) -> tuple[Any, str]:
    """A keeper with one living in its lane, and two behind it."""
    bench.start()
    line = bench.agent()
    fifo = bench.fifo()
    assert bench.spawn(line, "1.1", "cat", stdin=None, lane="a", out=None)["op"] == "started"
    line.until("ended", "1.1")
    said = bench.spawn(line, "2.1", "sh", "-c", f"read x < {fifo}", lane="a")
    assert said["op"] == "started"
    for mark in ("3.1", "4.1"):
        bench.ask(line, mark, "true", lane="a", width=width)
    return line, fifo


def test_a_held_command_begins_when_one_of_its_lane_has_ended(bench: Bench) -> None:
    line, fifo = held_by(bench)
    # Another lane, and none, have nothing to do with it.
    assert bench.spawn(line, "5.1", "true", lane="b", width=1)["op"] == "started"
    line.until("ended", "5.1")
    assert bench.spawn(line, "6.1", "true")["op"] == "started"
    line.until("ended", "6.1")
    assert "3.1" not in {said.get("mark") for said in bench.journal()}
    release(fifo)
    order = []
    while ("ended", "4.1") not in order:
        said = line.next()
        order.append((said["op"], said["mark"]))
    assert order == [("ended", "2.1"), ("started", "3.1"), ("ended", "3.1"), ("started", "4.1"), ("ended", "4.1")]


def test_a_wider_lane_has_room_at_once(bench: Bench) -> None:
    line, _ = held_by(bench, width=2)
    line.until("ended", "4.1")


def test_what_cannot_be_spawned_makes_room_for_the_next(bench: Bench) -> None:
    line, fifo = held_by(bench)
    bench.ask(line, "5.1", "no-such-command", lane="a", width=1)
    bench.ask(line, "6.1", "true", lane="a", width=1)
    release(fifo)
    assert line.until("failed", "5.1")["error"] == "ENOENT"
    assert line.until("ended", "6.1")["exit_code"] == 0


def test_a_held_command_is_dropped_on_demand(bench: Bench) -> None:
    line, fifo = held_by(bench)
    line.send(op="withdraw", marks=["2.1", "3.1", "9.9"])
    assert line.next() == {"op": "withdrawn", "mark": "3.1"}
    release(fifo)
    assert line.until("ended", "4.1")["exit_code"] == 0
    assert f"{TAG}3.1" not in Path(bench.home.keeper_journal).read_text()


@pytest.mark.parametrize("how", ["gone", "replaced"])
def test_a_held_command_does_not_outlast_its_agent(bench: Bench, how: str) -> None:
    line, fifo = held_by(bench)
    if how == "gone":
        line.sock.close()
    other = bench.connect()
    assert [(said["op"], said["mark"]) for said in other.replay()] == [("ended", "1.1"), ("started", "2.1")]
    release(fifo)
    other.until("ended", "2.1")
    assert bench.spawn(other, "7.1", "true", lane="a", width=1)["op"] == "started"
    assert not {"3.1", "4.1"} & {said.get("mark") for said in bench.journal()}


# The agent --------------------------------------------------------------------------


def state_of(home: HomeUnderTest, *states: str) -> set[int]:
    with closing(apsw.Connection(home.db, flags=apsw.SQLITE_OPEN_READONLY)) as db:
        marks = ", ".join("?" * len(states))
        return {row[0] for row in db.execute(f"SELECT id FROM jobs WHERE state IN ({marks})", states)}


@pytest.fixture
def held(home: HomeUnderTest) -> Iterator[Held]:
    made = hold_commands(lambda: state_of(home, "assigned"))
    yield made
    made.stop()


def test_what_is_held_shows_as_queued(held: Held, vigie: Program) -> None:
    first = held.jobs[0]
    assert first.state == "queued"
    assert f"{LANE} has 1 of 1 slots busy ({held.busy.id})" in vigie("why", str(first.id)).stdout
    last = held.jobs[-1]
    assert f"{len(held.jobs) - 1} jobs of that queue are before it" in vigie("why", str(last.id)).stdout
    (queue,) = [
        queue for queue in json.loads(vigie("queue", "list", "--json", check=True).stdout) if queue["name"] == LANE
    ]
    assert (queue["used"], queue["queued"]) == (1, len(held.jobs))
    behind = json.loads(vigie("start", "--queue", LANE, "--priority", "-1", "--json", "true").stdout)["id"]
    assert f"{len(held.jobs)} jobs of that queue are before it" in vigie("why", str(behind)).stdout


def test_they_go_in_order_and_one_at_a_time(home: HomeUnderTest) -> None:
    log = home / "log"
    words = ("sh", "-c", f"echo b $VIGIE_JOB >> {log}; echo e $VIGIE_JOB >> {log}")
    held = hold_commands(lambda: state_of(home, "assigned"), words=words)
    more = [vigie.start(list(words), queue=LANE) for _ in range(20)]
    held.busy.stop(grace=0)
    jobs = [*held.jobs, *more]
    for job in jobs:
        assert job.wait(30).state == "completed"
    said = [line.split() for line in log.read_text().splitlines()]
    assert said == [[what, str(job.id)] for job in jobs for what in ("b", "e")]
    assert {job.info()["attempt"] for job in jobs} == {1}


def test_stop_takes_back_what_is_held(home: HomeUnderTest, held: Held) -> None:
    unwanted, other = held.jobs[:2]
    unwanted.stop()
    assert unwanted.state == "stopped"
    held.busy.stop(grace=0)
    assert other.wait(30).state == "completed"
    assert unwanted.info()["started"] is None
    assert unwanted.info()["attempt"] == 0
    last = events(home, unwanted)[-2:]
    assert last == [("stop", "queued", "queued"), ("withdrawn", "queued", "stopped")]


def events(home: HomeUnderTest, job: vigie.Job) -> list[tuple[str, str | None, str | None]]:
    with closing(apsw.Connection(home.db, flags=apsw.SQLITE_OPEN_READONLY)) as db:
        text = "SELECT verb, before, after FROM events WHERE ? BETWEEN job AND coalesce(last, job) ORDER BY id"
        return db.execute(text, (job.id,)).fetchall()


def test_what_is_named_in_one_stop_does_not_begin_by_another_s_end(home: HomeUnderTest) -> None:
    for _ in range(5):
        words = ("sh", "-c", f"echo $VIGIE_JOB >> {home / 'log'}")
        held = hold_commands(lambda: state_of(home, "assigned"), words=words)
        session().client.call("stop", ids=[held.busy.id, *(job.id for job in held.jobs)], grace=0)
        assert {job.state for job in held.jobs} == {"stopped"}
    assert not (home / "log").exists()


def test_what_is_held_can_be_removed(home: HomeUnderTest, held: Held) -> None:
    held.jobs[0].remove(force=True)
    assert held.jobs[0].id not in {job.id for job in vigie.jobs()}
    held.jobs.pop(0)


def test_a_worker_that_passes_the_slots_is_not_overlooked(home: HomeUnderTest, held: Held) -> None:
    function = vigie.task(queue=LANE, now=True)(time.sleep).start(600)
    until(lambda: function.state == "running" and not state_of(home, "assigned"))
    held.busy.stop(grace=0)
    # The worker has the slot now.
    assert {job.state for job in held.jobs} == {"queued"}
    function.stop()
    for job in held.jobs:
        assert job.wait(30).state == "completed"


def test_more_slots_let_nobody_overtake(home: HomeUnderTest) -> None:
    words = ["sh", "-c", "sleep 0.2"]
    held = hold_commands(lambda: state_of(home, "assigned"), words=tuple(words), count=8)
    more = [vigie.start(words, queue=LANE) for _ in range(6)]
    session().client.call("queue_set", name=LANE, slots=12)
    jobs = [*held.jobs, *more]
    for job in jobs:
        assert job.wait(30).state == "completed"
    began = [job.info()["started"] for job in jobs]
    assert began == sorted(began)
    assert {job.info()["attempt"] for job in jobs} == {1}
    held.busy.stop(grace=0)


def test_a_pause_that_is_carried_out_twice_reaches_the_keeper(home: HomeUnderTest, held: Held) -> None:
    """A round is undone for another request that was refused after it had written."""
    stop = threading.Event()

    def refused() -> None:
        while not stop.is_set():
            with contextlib.suppress(vigie.VigieError):
                vigie.start(["true"], queue="no-such-queue")

    others = [threading.Thread(target=refused) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for _ in range(10):
            session().client.call("queue_pause", name=LANE)
            until(lambda: not state_of(home, "assigned"))
            session().client.call("queue_resume", name=LANE)
            until(lambda: {job.id for job in held.jobs} <= state_of(home, "assigned"))
    finally:
        stop.set()
        for other in others:
            other.join()
    assert not [name for name in os.listdir(home.tmp) if name.startswith("blank")]


def test_what_began_while_no_agent_listened_has_its_facts(home: HomeUnderTest, held: Held) -> None:
    (agent,) = home.processes("agent")
    pid = until(lambda: held.busy.info()["pid"])
    ended = lambda: Path(home.keeper_journal).read_text().count('"ended"')
    before = ended()
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        until(lambda: ended() >= before + len(held.jobs) + 1)
    finally:
        os.kill(agent.pid, signal.SIGKILL)
    for job in held.jobs:
        info = job.wait(30).info()
        assert (info["state"], info["attempt"]) == ("completed", 1)
        assert info["started"] is not None
        assert info["duration"] > 0
        assert [said for said in events(home, job) if said[0] in ("started", "ended")] == [
            ("started", "queued", "running"),
            ("ended", "running", "completed"),
        ]


def test_a_pause_takes_back_what_is_held(home: HomeUnderTest, held: Held) -> None:
    session().client.call("queue_pause", name=LANE)
    until(lambda: not state_of(home, "assigned"))
    held.busy.stop(grace=0)
    assert state_of(home, "queued") == {job.id for job in held.jobs}
    session().client.call("queue_resume", name=LANE)
    for job in held.jobs:
        assert job.wait(30).state == "completed"


def test_a_higher_priority_goes_before_what_is_held(home: HomeUnderTest) -> None:
    log = home / "log"
    words = ["sh", "-c", f"echo $VIGIE_JOB >> {log}"]
    held = hold_commands(lambda: state_of(home, "assigned"), words=tuple(words))
    urgent = vigie.start(words, queue=LANE, priority=5)
    until(lambda: urgent.id in state_of(home, "assigned"))
    held.busy.stop(grace=0)
    for job in [urgent, *held.jobs]:
        assert job.wait(30).state == "completed"
    assert log.read_text().split() == [str(job.id) for job in [urgent, *held.jobs]]


@pytest.mark.parametrize("kind", ["agent", "keeper"])
def test_a_kill_costs_nothing_that_is_held(home: HomeUnderTest, held: Held, kind: str) -> None:
    for process in home.processes(kind):
        os.kill(process.pid, signal.SIGKILL)
    session().client.call("status")
    held.busy.stop(grace=0)
    for job in held.jobs:
        assert job.wait(30).state == "completed"


# When -------------------------------------------------------------------------------


def short() -> Ahead:
    made = Ahead()
    made.offered = True
    for _ in range(MEMORY):
        made.ended("q", 1_000)
    made.count((1, 1))
    return made


def test_only_where_it_costs_nobody_anything() -> None:
    assert short().room("q", {(1, 1)}, 2) > 0
    long_one = short()
    long_one.ended("q", QUICK + 1)
    assert long_one.room("q", {(1, 1)}, 2) == 0
    unknown = short()
    unknown.ended("q", None)
    assert unknown.room("q", {(1, 1)}, 2) == 0
    assert short().room("another", {(1, 1)}, 2) == 0
    # A worker, and a command that began under an earlier keeper, are not in its count.
    assert short().room("q", {(1, 1), 7}, 2) == 0
    assert short().room("q", {(1, 1), (2, 1)}, 2) == 0
    old = short()
    old.new_keeper()
    assert old.room("q", {(1, 1)}, 2) == 0
    # Neither is one that was claimed ahead, and begins under the next.
    heir = short()
    heir.claim("q", (2, 1), 0)
    heir.new_keeper()
    heir.begun((2, 1))
    assert heir.room("q", {(2, 1)}, 2) == 0
    silent = short()
    silent.offered = False
    assert silent.room("q", {(1, 1)}, 2) == 0


def test_what_was_called_back_is_not_replaced_before_all_have_answered() -> None:
    ahead = short()
    for job in (2, 3):
        ahead.claim("q", (job, 1), 0)
    asked: list[Any] = []
    for _ in range(2):
        ahead.call_back("q", asked.append)
    assert asked == [[(2, 1), (3, 1)]] * 2
    assert ahead.called_back("q")
    ahead.over((2, 1))
    assert ahead.room("q", {(1, 1)}, 2) == 0
    assert ahead.begun((3, 1)) == "q"
    assert ahead.room("q", {(1, 1), (3, 1)}, 2) > 0
