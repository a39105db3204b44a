"""What a kill -9 of our processes may cost: nothing that was acknowledged."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import vigie
import work
from conftest import HomeUnderTest, Program, until
from vigie.agent.marks import Marks
from vigie.agent.upkeep import WAL
from vigie.agent.watch import Watch
from vigie.client import Client
from vigie.procs import Identity, alive, start_ticks
from vigie.session import session
from vigie.store.sqlite import LOG

pytestmark = pytest.mark.slow


def kill(home: HomeUnderTest, kind: str) -> None:
    """Kill every process of a kind and wait until the kernel has taken them away."""
    victims = home.processes(kind)
    assert victims, f"no {kind} to kill"
    for process in victims:
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: not {p.pid for p in home.processes(kind)} & {p.pid for p in victims})


def waiting(begun: Path, end: Path, code: int = 7) -> vigie.Job:
    line = f"touch {begun}; while [ ! -e {end} ]; do sleep 0.02; done; echo out; exit {code}"
    return vigie.start(["/bin/sh", "-c", line])


def connect() -> None:
    client = Client(session().home)
    client.call("status")
    client.close()


@pytest.fixture
def undertaker() -> Iterator[Callable[[int], None]]:
    """Make the test the parent of orphans; gives what reaps one, so that nobody else can ask how it ended."""
    prctl = ctypes.CDLL(None).prctl
    prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    yield lambda pid: until(lambda: _reap(pid))
    prctl(36, 0, 0, 0, 0)


def _reap(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


@pytest.mark.parametrize("victims", [["agent"], ["keeper"], ["agent", "keeper"], ["keeper", "agent"]])
def test_a_command_survives_with_its_exit_code(home: HomeUnderTest, tmp_path: Path, victims: list[str]) -> None:
    begun, end = tmp_path / "begun", tmp_path / "end"
    job = waiting(begun, end)
    until(begun.exists)
    until(lambda: job.info()["pid"] is not None)
    for kind in victims:
        kill(home, kind)
    connect()
    assert job.state == "running"
    end.touch()
    job.wait(30)
    assert (job.state, job.exit_code) == ("failed", 7)
    assert [record.text for record in job.logs()] == ["out\n"]
    assert job.info()["attempt"] == 1


def test_an_end_while_no_agent_lives_is_known_afterwards(home: HomeUnderTest, tmp_path: Path) -> None:
    begun, end = tmp_path / "begun", tmp_path / "end"
    job = waiting(begun, end, code=9)
    until(begun.exists)
    kill(home, "agent")
    end.touch()
    until(lambda: not home.processes("other"))
    assert job.wait(30).exit_code == 9


def test_the_keepers_death_alone_costs_no_exit_code(home: HomeUnderTest, tmp_path: Path) -> None:
    """The process ends right after the keeper's death: the agent's own eyes tell."""
    for code in (3, 4, 5):
        begun, end = tmp_path / f"begun{code}", tmp_path / f"end{code}"
        job = waiting(begun, end, code)
        until(lambda job=job: job.info()["pid"] is not None)
        (keeper,) = home.processes("keeper")
        end.touch()
        os.kill(keeper.pid, signal.SIGKILL)
        assert job.wait(30).exit_code == code


def test_what_ended_while_both_were_dead_is_lost_and_never_invented(
    home: HomeUnderTest, tmp_path: Path, undertaker: Callable[[int], None]
) -> None:
    begun, end = tmp_path / "begun", tmp_path / "end"
    job = waiting(begun, end)
    until(begun.exists)
    until(lambda: job.info()["pid"] is not None)
    kill(home, "agent")
    kill(home, "keeper")
    end.touch()
    undertaker(job.info()["pid"])
    connect()
    job.wait(30)
    assert (job.state, job.exit_code) == ("lost", None)
    with pytest.raises(vigie.JobLost):
        job.result()


def test_lost_work_reruns_if_its_task_says_so(
    home: HomeUnderTest, tmp_path: Path, undertaker: Callable[[int], None]
) -> None:
    begun, end = tmp_path / "begun", tmp_path / "end"
    line = f"echo x >> {begun}; while [ ! -e {end} ]; do sleep 0.02; done"
    job = vigie.start(["/bin/sh", "-c", line], on_lost="rerun")
    until(lambda: job.info()["pid"] is not None)
    kill(home, "agent")
    kill(home, "keeper")
    end.touch()
    undertaker(job.info()["pid"])
    connect()
    assert job.wait(30).state == "completed"
    assert job.info()["attempt"] == 2
    assert begun.read_text() == "x\nx\n"


@pytest.mark.parametrize("victims", [["agent"], ["keeper"], ["agent", "keeper"]])
def test_a_function_survives_with_its_result(home: HomeUnderTest, tmp_path: Path, victims: list[str]) -> None:
    begun, end = tmp_path / "begun", tmp_path / "end"
    job = vigie.start(work.begin_then_wait, str(begun), str(end))
    until(begun.exists)
    for kind in victims:
        kill(home, kind)
    end.touch()
    assert job.result(30) == "ended"
    assert job.info()["attempt"] == 1


def test_a_result_made_while_no_agent_lives_is_known_afterwards(home: HomeUnderTest, tmp_path: Path) -> None:
    begun, end = tmp_path / "begun", tmp_path / "end"
    job = vigie.start(work.begin_then_wait, str(begun), str(end))
    until(begun.exists)
    kill(home, "agent")
    end.touch()
    (worker,) = home.processes("worker")
    page = Path(home.worker_dir(int(worker.argv[-1])), "page")
    until(lambda: page.read_bytes()[24:32] != bytes(8))  # "ended" has risen
    assert job.result(30) == "ended"


def test_a_killed_worker_charges_the_running_job_alone(home: HomeUnderTest, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    job = vigie.start(work.begin_then_wait, str(begun), str(tmp_path / "never"))
    until(begun.exists)
    kill(home, "worker")
    job.wait(30)
    assert (job.state, job.reason, job.info()["signal"]) == ("failed", "signal", 9)
    assert vigie.start(work.double, 4).result(30) == 8


@pytest.mark.parametrize("victims", [["worker"], ["agent", "worker"], ["agent", "keeper", "worker"]])
def test_a_killed_worker_leaves_nothing_of_its_job_behind(
    home: HomeUnderTest, tmp_path: Path, victims: list[str]
) -> None:
    begun = tmp_path / "begun"
    job = vigie.start(work.with_a_child, str(begun))
    until(begun.exists)
    for kind in victims:
        kill(home, kind)
    job.wait(30)
    assert job.state in ("failed", "lost")
    until(lambda: not home.processes("other"))


def test_nothing_is_lost_or_doubled_when_the_agent_dies_in_a_batch(home: HomeUnderTest, tmp_path: Path) -> None:
    seen = str(tmp_path / "witness")
    for _ in range(4):
        vigie.start(work.witness, seen, "warm").wait(30)
    jobs = vigie.start_many(work.witness, [(seen, str(i)) for i in range(3000)])
    until(lambda: os.stat(seen).st_size > 2000)
    kill(home, "agent")
    for job in jobs:
        job.wait(60)
    lines = [line for line in Path(seen).read_text().split() if line != "warm"]
    assert sorted(map(int, lines)) == list(range(3000))


def test_an_agents_restart_leaves_work_untouched(vigie: Program, home: HomeUnderTest, tmp_path: Path) -> None:
    import vigie as library

    begun, end = tmp_path / "begun", tmp_path / "end"
    command = waiting(begun, end, code=0)
    function = library.start(work.begin_then_wait, str(tmp_path / "begun2"), str(end))
    until(lambda: begun.exists() and (tmp_path / "begun2").exists())
    before = {p.pid for p in home.processes() if p.kind in ("keeper", "worker")} | {command.info()["pid"]}
    vigie("agent", "restart", check=True)
    assert before <= {p.pid for p in home.processes()}
    end.touch()
    assert function.result(30) == "ended"
    assert command.result(30) == 0


def test_a_stop_that_was_under_way_is_finished_by_the_next_agent(home: HomeUnderTest, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    job = vigie.start(["/bin/sh", "-c", f"trap '' TERM; touch {begun}; while :; do sleep 0.05; done"], grace=0.5)
    until(begun.exists)
    stopper = subprocess.Popen([sys.executable, "-m", "vigie", "stop", str(job.id)], stderr=subprocess.DEVNULL)
    until(lambda: job._session.reader.get(job.id)["ending"] == "stop")
    kill(home, "agent")
    assert job.wait(30).state == "stopped"
    assert stopper.wait(30) == 0
    until(lambda: not home.processes("other"))


def test_a_worker_that_its_agent_could_not_thaw_goes_on_under_the_next(home: HomeUnderTest) -> None:
    """Its job ended while it was being suspended, and the agent died before it let the worker go on."""
    assert vigie.start(abs, -1).result(30) == 1
    (worker,) = home.processes("worker")
    os.kill(worker.pid, signal.SIGSTOP)
    kill(home, "agent")
    assert vigie.start(abs, -2).result(30) == 2
    assert [one.pid for one in home.processes("worker")] == [worker.pid]


def test_an_acknowledged_job_is_there_after_a_kill_of_everything(home: HomeUnderTest, tmp_path: Path) -> None:
    session().client.call("queue_pause", name="default")
    jobs = [vigie.start(["/bin/sh", "-c", f"echo {i} >> {tmp_path}/ran"]) for i in range(20)]
    for kind in ("agent", "keeper"):
        kill(home, kind)
    session().client.call("queue_resume", name="default")
    for job in jobs:
        assert job.wait(30).state == "completed"
    assert sorted(map(int, (tmp_path / "ran").read_text().split())) == list(range(20))


def test_two_homes_of_one_user_do_not_touch_each_other(home: HomeUnderTest, tmp_path: Path) -> None:
    """Both have an attempt 1.1; ending one leaves the other alone."""
    begun, end = tmp_path / "begun", tmp_path / "end"
    mine = waiting(begun, end, code=0)
    until(begun.exists)
    stranger = subprocess.Popen(
        ["/bin/sh", "-c", "while :; do sleep 0.05; done"],
        env={**os.environ, "VIGIE_ATTEMPT": Marks("/another/home").of(mine.id, 1)},
        start_new_session=True,
    )
    try:
        mine.stop(grace=0.1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_socket_file_is_made_again(home: HomeUnderTest) -> None:
    connect()
    os.unlink(home.socket)
    until(lambda: os.path.exists(home.socket))
    connect()


def test_those_that_stay_load_no_openssl(home: HomeUnderTest) -> None:
    """It would be an eighth of their memory."""
    assert vigie.start(["true"]).result(30) == 0
    staying = [*home.processes("agent"), *home.processes("keeper")]
    assert len(staying) == 2
    for process in staying:
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "libcrypto" not in maps
        assert "libssl" not in maps


def test_a_second_agent_names_the_first(home: HomeUnderTest) -> None:
    connect()
    (first,) = home.processes("agent")
    second = subprocess.run(
        [sys.executable, "-m", "vigie.agent", home.root], capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode != 0
    assert str(first.pid) in second.stderr


def test_a_repeated_request_gives_the_same_answer(home: HomeUnderTest) -> None:
    client = session().client
    fields: dict[str, object] = {
        "task": {"kind": "command", "argv": ["true"], "label": "true"},
        "context": {"cwd": "/", "env": {}, "umask": 18, "python": None, "path": []},
        "job": {},
        "count": 1,
    }
    rid = os.urandom(16).hex()
    ids = {client.call_with_blobs("submit", (), rid=rid, **fields)[0]["ids"][0] for _ in range(3)}
    kill(home, "agent")
    ids.add(client.call_with_blobs("submit", (), rid=rid, **fields)[0]["ids"][0])
    assert len(ids) == 1


def test_agents_that_do_not_live_long_do_not_let_the_log_grow(home: HomeUnderTest) -> None:
    """None of those that a long torture killed came to copy the log; at last each start read 1.3 GB of it."""
    assert vigie.start(len, "x" * 1_600_000).result(30) == 1_600_000
    # Less than after which a living agent copies it.
    assert WAL < os.stat(home.db + "-wal").st_size < LOG
    before = os.stat(home.db).st_size
    kill(home, "agent")
    assert vigie.start(len, "x").result(30) == 1
    assert os.stat(home.db).st_size > before + 2_000_000


def test_an_orphan_that_is_reaped_before_anybody_names_it_keeps_its_exit_code() -> None:
    """The keeper died with its report on the way; its child came to the agent, which reads the report after that."""
    watch = Watch()
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    identity = Identity(child.pid, start_ticks(child.pid) or 0)
    until(lambda: not alive(identity))
    watch.reap()
    watch.follow("t.1.1", identity.pid, identity.start_ticks)
    assert (watch.learn("t.1.1") or {})["exit_code"] == 7
    watch.follow("t.2.1", identity.pid, identity.start_ticks + 1)
    assert watch.learn("t.2.1") is None
    child.returncode = 7
