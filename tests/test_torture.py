"""What a hostile reviewer found: each test is the smallest way to a defect that there was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import apsw
import pytest

sys.path.insert(0, os.path.dirname(__file__))

import vigie
import work
from conftest import HomeUnderTest, until
from vigie import frames
from vigie.client import Client
from vigie.errors import NotFound, UsageError
from vigie.session import session
from vigie.sockets import connect_unix

pytestmark = pytest.mark.slow

COMMAND = {
    "task": {"kind": "command", "argv": ["true"], "label": "true"},
    "context": {"cwd": "/", "env": {}, "umask": 18, "python": None, "path": []},
    "job": {},
}


def kill(home: HomeUnderTest, *kinds: str) -> None:
    """Kill every process of the kinds, in this order, and wait until they are gone."""
    for kind in kinds:
        victims = home.processes(kind)
        assert victims, f"no {kind} to kill"
        for process in victims:
            os.kill(process.pid, signal.SIGKILL)
        until(partial(_gone, home, {process.pid for process in victims}))


def _gone(home: HomeUnderTest, pids: set[int]) -> bool:
    return not pids & {process.pid for process in home.processes()}


def connect() -> None:
    client = Client(session().home)
    client.call("status")
    client.close()


# One request must not harm another ---------------------------------------------


@pytest.mark.parametrize("count", [0, -1])
def test_a_request_for_no_jobs_is_refused(home: HomeUnderTest, count: int) -> None:
    with pytest.raises(UsageError):
        session().client.call("submit", **COMMAND, count=count)


def test_who_waits_for_the_result_of_a_removed_job_hears_of_it(home: HomeUnderTest) -> None:
    client = session().client
    client.call("queue_pause", name="default")
    job = vigie.start(["true"])
    other = vigie.start(["true"])
    heard: list[BaseException] = []

    def wait() -> None:
        with pytest.raises(NotFound) as caught:
            job.result(30)
        heard.append(caught.value)

    waiter = threading.Thread(target=wait)
    waiter.start()
    # The waiter's request is read before this one: both go over the same connection.
    until(lambda: len(client._connection._pending) == 1)  # type: ignore[union-attr]
    other.remove(force=True)
    job.remove(force=True)
    waiter.join(30)
    assert len(heard) == 1


# Evidence, and what follows from it ---------------------------------------------


def test_a_worker_killed_before_it_is_ready_costs_no_job(home: HomeUnderTest, tmp_path: Path) -> None:
    """It began nothing: the job goes to another worker."""
    born = tmp_path / "born"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        f"if not os.path.exists({str(born)!r}):\n"
        f"    open({str(born)!r}, 'x').close()\n"
        "    signal.pause()\n"
    )
    job = vigie.task(work.double).options(env={"PYTHONPATH": str(tmp_path)}).start(4)
    until(born.exists)
    kill(home, "worker")
    assert job.result(30) == 8


def test_a_worker_that_cannot_live_is_not_tried_for_ever(home: HomeUnderTest, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    job = vigie.task(work.double).options(env={"PYTHONPATH": str(tmp_path)}).start(4)
    assert (job.wait(30).state, job.reason) == ("failed", "spawn")


def test_work_goes_on_when_the_keepers_journal_is_gone(home: HomeUnderTest, tmp_path: Path) -> None:
    """A new keeper knows nothing of what lives; pids in the store and marks in /proc tell."""
    begun, end = tmp_path / "begun", tmp_path / "end"
    function = vigie.start(work.begin_then_wait, str(begun), str(end))
    command = vigie.start(["/bin/sh", "-c", f"echo x >> {tmp_path}/ran; while [ ! -e {end} ]; do sleep 0.02; done"])
    until(lambda: begun.exists() and command.info()["pid"] is not None)
    kill(home, "agent", "keeper")
    Path(home.keeper_journal).unlink()
    connect()
    assert {function.state, command.state} == {"running"}
    end.touch()
    assert function.result(30) == "ended"
    assert command.wait(30).state in ("completed", "lost")
    assert (tmp_path / "ran").read_text() == "x\n"


def test_what_left_an_output_file_is_not_started_again(home: HomeUnderTest, tmp_path: Path) -> None:
    """It began and ended, and neither a commit nor a journal tells of it."""
    job = vigie.start(["/bin/sh", "-c", f"echo x | tee -a {tmp_path}/ran"])
    job.wait(30)
    kill(home, "agent", "keeper")
    Path(home.keeper_journal).unlink()
    with apsw.Connection(home.db) as db:
        db.execute("UPDATE jobs SET state = 'running', finished = NULL, exit_code = NULL")
        db.execute("UPDATE attempts SET state = 'assigned', pid = NULL, start_ticks = NULL, started = NULL")
    connect()
    assert job.wait(30).state == "lost"
    assert (tmp_path / "ran").read_text() == "x\n"


def test_what_never_began_and_was_told_to_stop_is_not_started(home: HomeUnderTest, tmp_path: Path) -> None:
    job = vigie.start(["/bin/sh", "-c", f"echo x > {tmp_path}/ran"], delay=3600)
    kill(home, "agent", "keeper")
    with apsw.Connection(home.db) as db:
        db.execute("UPDATE jobs SET state = 'running', ending = 'stop', blocked_by = NULL, due = NULL, attempt = 1")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        db.execute("INSERT INTO owners (id, host, agent, boot) VALUES (9, 'h', 'a', ?)", (boot,))
        db.execute("INSERT INTO attempts (job, n, state, owner, epoch, created) VALUES (1, 1, 'assigned', 9, 1, 1)")
    connect()
    assert job.wait(30).state == "stopped"
    assert not (tmp_path / "ran").exists()


def test_after_a_power_cut_a_page_is_no_proof_that_a_job_never_began(home: HomeUnderTest, tmp_path: Path) -> None:
    """What stands in it need not have reached the disk: a batch of another boot is lost, not run again."""
    begun = tmp_path / "begun"
    home.leftovers_expected = True
    job = vigie.start(work.begin_then_wait, str(begun), str(tmp_path / "never"))
    until(begun.exists)
    kill(home, "agent", "keeper", "worker")
    for page in Path(home.workers).glob("*/page"):
        with open(page, "r+b") as file:
            file.seek(16)
            file.write(bytes(16))  # started and ended as they were before
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    journal = Path(home.keeper_journal)
    journal.write_text(journal.read_text().replace(boot, "earlier"))
    with apsw.Connection(home.db) as db:
        db.execute("UPDATE owners SET boot = 'earlier'")
        db.execute("UPDATE workers SET boot = 'earlier'")
    begun.unlink()
    connect()
    assert job.wait(30).state == "lost"
    assert not begun.exists()


def test_what_was_taken_back_uses_up_no_retry(home: HomeUnderTest, tmp_path: Path) -> None:
    """Withdrawn with its worker, the job has its one retry still."""
    born, counter = tmp_path / "born", tmp_path / "counter"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        f"if not os.path.exists({str(born)!r}):\n"
        f"    open({str(born)!r}, 'x').close()\n"
        "    signal.pause()\n"
    )
    task = vigie.task(work.flaky).options(env={"PYTHONPATH": str(tmp_path)}, retries=1, backoff=0.01)
    job = task.start(str(counter), 2)
    until(born.exists)
    kill(home, "worker")
    assert job.result(30) == 2


# Files that cannot be written, or say nothing ------------------------------------


def test_a_worker_whose_files_cannot_be_made_fails_its_job_and_no_other(home: HomeUnderTest) -> None:
    connect()
    Path(home.worker_dir(1)).write_text("in the way")
    first = vigie.start(work.double, 1)
    assert (first.wait(30).state, first.reason) == ("failed", "spawn")
    assert vigie.start(work.double, 2).result(30) == 4


def test_a_report_that_needs_a_file_it_cannot_have_holds_up_no_other(home: HomeUnderTest, tmp_path: Path) -> None:
    """An attempt's records have no place: its job goes on when there is one, all others meanwhile."""
    connect()
    place = Path(home.job_dir(1))
    place.parent.mkdir()
    place.write_text("in the way")
    job = vigie.task(work.speak_and_fail_once).options(retries=1, backoff=0.01).start(str(tmp_path / "tried"))
    until(lambda: "could not be written" in Path(home.agent_log).read_text())
    assert vigie.start(["true"]).result(30) == 0
    assert job.state == "running"
    place.unlink()
    assert job.result(30) == "second"


def test_a_damaged_page_costs_the_job_and_not_the_agent(home: HomeUnderTest, tmp_path: Path) -> None:
    """Nobody knows what its worker began: lost, never run again."""
    begun, end = tmp_path / "begun", tmp_path / "end"
    job = vigie.start(work.begin_then_wait, str(begun), str(end))
    until(begun.exists)
    kill(home, "agent", "worker")
    (page,) = Path(home.workers).glob("*/page")
    page.write_bytes(b"\xff" * 8192)
    begun.unlink()
    connect()
    assert job.wait(30).state == "lost"
    assert not begun.exists()
    assert vigie.start(work.double, 2).result(30) == 4


def test_a_living_worker_whose_page_is_damaged_is_let_go(home: HomeUnderTest, tmp_path: Path) -> None:
    begun, end = tmp_path / "begun", tmp_path / "end"
    job = vigie.start(work.begin_then_wait, str(begun), str(end))
    until(begun.exists)
    kill(home, "agent")
    (page,) = Path(home.workers).glob("*/page")
    with open(page, "r+b") as file:
        file.write(b"\xff" * 8)
    connect()
    end.touch()
    assert job.wait(30).state in ("completed", "lost")
    assert vigie.start(work.double, 2).result(30) == 4


@pytest.mark.parametrize(
    "entry",
    [
        b'{"k":"started","mark":"x"}',
        b'{"k":"started","mark":"x","pid":"one","ticks":null}',
        b'{"k":"begin","mark":"x","since":"then"}',
        b'{"k":"ended","mark":"x"}',
        b'{"k":"failed","mark":"x"}',
        b"[" * 100_000,
        b"\xff\xfe\x00",
    ],
)
def test_a_damaged_journal_of_the_keeper_stops_nobody(home: HomeUnderTest, entry: bytes) -> None:
    assert vigie.start(["true"]).result(30) == 0
    kill(home, "agent", "keeper")
    with open(home.keeper_journal, "ab") as file:
        file.write(entry + b"\n")
    assert vigie.start(["true"]).result(30) == 0


def test_a_damaged_entry_of_a_living_process_costs_it_nothing(home: HomeUnderTest, tmp_path: Path) -> None:
    end = tmp_path / "end"
    job = vigie.start(["/bin/sh", "-c", f"while [ ! -e {end} ]; do sleep 0.02; done; exit 7"])
    until(lambda: job.info()["pid"] is not None)
    kill(home, "agent", "keeper")
    journal = Path(home.keeper_journal)
    journal.write_text(journal.read_text().replace('"ticks":', '"tocks":'))
    connect()
    assert job.state == "running"
    end.touch()
    assert job.wait(30).exit_code == 7


# The home taken away ---------------------------------------------------------------


def test_an_agent_whose_home_was_deleted_ends_and_leaves_the_new_one_alone(home: HomeUnderTest, tmp_path: Path) -> None:
    connect()
    (old,) = home.processes("agent")
    shutil.rmtree(home.root)
    job = vigie.start(["/bin/sh", "-c", f"while [ ! -e {tmp_path}/end ]; do sleep 0.02; done"])
    (new,) = {p.pid for p in home.processes("agent")} - {old.pid}
    until(partial(_gone, home, {old.pid}))
    client = Client(session().home)
    assert client.call("status")["pid"] == new
    client.close()
    (tmp_path / "end").touch()
    assert job.result(30) == 0


def test_an_agent_whose_lock_was_removed_leaves_the_home_to_the_next(home: HomeUnderTest) -> None:
    connect()
    (old,) = home.processes("agent")
    os.unlink(home.lock)
    new = subprocess.Popen([sys.executable, "-m", "vigie.agent", home.root], stderr=subprocess.PIPE)
    home.started.append(new)
    until(partial(_gone, home, {old.pid}))
    until(lambda: os.path.exists(home.socket))
    client = Client(session().home)
    assert client.call("status")["pid"] == new.pid
    client.close()
    assert vigie.start(["true"]).result(30) == 0


# Too little of something -------------------------------------------------------------


def test_with_few_descriptors_some_jobs_fail_and_none_hangs(home: HomeUnderTest, tmp_path: Path) -> None:
    end = tmp_path / "end"
    line = f"ulimit -n 64; exec {sys.executable} -m vigie.agent {home.root}"
    home.started.append(subprocess.Popen(["/bin/sh", "-c", line], stderr=subprocess.DEVNULL))
    until(lambda: os.path.exists(home.socket))
    session().client.call("queue_set", name="wide", slots=100)
    waiting = ["/bin/sh", "-c", f"while [ ! -e {end} ]; do sleep 0.1; done"]
    jobs = [vigie.start(waiting, queue="wide") for _ in range(70)]
    until(lambda: any(job.done() for job in jobs), what="a job to find no descriptor")
    end.touch()
    for job in jobs:
        job.wait(60)
    assert {(job.state, job.reason) for job in jobs} == {("completed", None), ("failed", "spawn")}
    assert vigie.start(["true"]).result(30) == 0


# Promises to other jobs ----------------------------------------------------------------


def test_a_retry_waits_for_what_the_job_needs(home: HomeUnderTest, tmp_path: Path) -> None:
    first = vigie.start(work.begin_then_wait, str(tmp_path / "begun"), str(tmp_path / "end"))
    second = vigie.start(work.environment, first)
    second.stop()
    second.retry()
    assert second.state == "blocked"
    (tmp_path / "end").touch()
    assert second.result(30)[0] is None  # the variable "ended" is not set


def test_a_retry_is_refused_while_what_the_job_needs_has_failed(home: HomeUnderTest, tmp_path: Path) -> None:
    """Its argument would be the exception; once that one is mended, both run."""
    mended = tmp_path / "mended"
    line = f"import sys, os; sys.exit(0 if os.path.exists({str(mended)!r}) else 3)"
    first = vigie.start([sys.executable, "-c", line])
    second = vigie.start(["true"], after=[first])
    assert second.wait(30).reason == "dependency"
    with pytest.raises(vigie.VigieError, match=f"needs job {first.id}, which failed"):
        second.retry()
    mended.touch()
    first.retry()
    second.retry()
    assert second.result(30) == 0


def test_a_result_that_somebody_waits_for_is_kept(home: HomeUnderTest, tmp_path: Path) -> None:
    first = vigie.start(work.double, 4)
    first.wait(30)
    gate = vigie.start(work.begin_then_wait, str(tmp_path / "begun"), str(tmp_path / "end"))
    second = vigie.task(work.add).options(after=[gate]).start(first, 8)  # type: ignore[arg-type]
    with pytest.raises(vigie.VigieError, match=f"job {second.id} takes the result"):
        first.remove()
    assert session().client.call("prune", older_than=None)["removed"] == 0
    (tmp_path / "end").touch()
    assert second.result(30) == 16
    first.remove()


@pytest.mark.parametrize("function", [False, True])
def test_a_resume_overtakes_no_suspend(home: HomeUnderTest, tmp_path: Path, function: bool) -> None:
    """Both may come before the process is known: then they are done in their order."""
    client = session().client
    client.call("queue_set", name="wide", slots=40)
    jobs = []
    for i in range(20):
        if function:
            # Each of a kind of its own, so that its worker has still to start.
            options = {"queue": "wide", "env": {"PYTHONHASHSEED": str(i)}}
            job = vigie.task(work.double).options(**options).start(i)
        else:
            job = vigie.start(["true"], queue="wide")
        client.call("suspend", ids=[job.id])
        client.call("resume", ids=[job.id])
        jobs.append(job)
    for job in jobs:
        assert job.wait(30).state == "completed"


def test_what_is_suspended_stays_so_for_the_next_agent(home: HomeUnderTest, tmp_path: Path) -> None:
    """The commit came before the signal, and the agent died between."""
    job = vigie.start(["/bin/sh", "-c", "while :; do sleep 0.02; done"])
    until(lambda: job.info()["pid"] is not None)
    job.suspend()
    stat = Path(f"/proc/{job.info()['pid']}/stat")
    kill(home, "agent")
    os.kill(job.info()["pid"], signal.SIGCONT)
    connect()
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    assert job.stop(grace=0).state == "stopped"


def test_a_job_that_overwrites_its_mark_is_stopped_whole(home: HomeUnderTest, tmp_path: Path) -> None:
    line = "export VIGIE_ATTEMPT=mine; sleep 600 & setsid sleep 600 & touch begun; sleep 600"
    job = vigie.start(["/bin/sh", "-c", line], cwd=str(tmp_path))
    until((tmp_path / "begun").exists)
    until(lambda: len(home.processes("other")) == 4)
    job.stop(grace=0)
    assert not home.processes("other")


def test_damaged_samples_keep_no_agent_from_starting(home: HomeUnderTest) -> None:
    assert vigie.start(["echo", "a"]).result(30) == 0
    kill(home, "agent", "keeper")
    for name in Path(home.samples).parent.glob("samples.db*"):
        name.unlink()
    Path(home.samples).write_bytes(b"garbage" * 1000)
    assert vigie.start(["echo", "b"]).result(30) == 0
    assert Path(home.samples + ".damaged").exists()


def test_an_output_that_cannot_be_limited_does_not_blind_the_sampler(home: HomeUnderTest, tmp_path: Path) -> None:
    """Where the note of the gap should stand is a directory; the index of all others goes on."""
    end = tmp_path / "end"
    connect()
    Path(home.job_file(1, "out.gap")).mkdir(parents=True)
    line = f"head -c 100000 /dev/zero; while [ ! -e {end} ]; do sleep 0.02; done"
    first = vigie.start(["/bin/sh", "-c", line], max_output=20_000)
    until(lambda: "not kept to its limit" in Path(home.agent_log).read_text())
    second = vigie.start(["/bin/sh", "-c", "echo a; echo b >&2; sleep 0.1; echo c"])
    second.wait(30)
    with apsw.Connection(home.samples, flags=apsw.SQLITE_OPEN_READONLY) as db:
        until(lambda: db.execute("SELECT count(*) FROM lengths WHERE job = ?", (second.id,)).fetchall() >= [(2,)])
    end.touch()
    assert first.result(30) == 0


@pytest.mark.parametrize("op", ["stop", "suspend"])
def test_who_ends_just_when_he_is_stopped_drags_nobody_along(home: HomeUnderTest, tmp_path: Path, op: str) -> None:
    """Stop and outcome come in one round of the agent: the worker is at the next job when the signal goes out."""
    paths = [str(tmp_path / name) for name in ("begun", "end", "begun2", "end2")]
    session().client.call("queue_set", name="one", slots=1)
    task = vigie.task(work.begin_then_wait).options(queue="one")
    first = task.start(*paths[:2])
    until(lambda: os.path.exists(paths[0]))
    second = task.start(*paths[2:])
    raw = connect_unix(home.socket, 30)
    raw.sendall(frames.encode({"vigie": 1, "role": "client"}))
    assert raw.recv(4096)
    (agent,) = home.processes("agent")
    (worker,) = home.processes("worker")
    os.kill(agent.pid, signal.SIGSTOP)
    raw.sendall(frames.encode({"op": op, "id": 1, "ids": [first.id], "grace": 0}))
    Path(paths[1]).touch()
    page = Path(home.worker_dir(1), "page")
    until(lambda: page.read_bytes()[24:32] != bytes(8))  # "ended" has risen: the outcome is on its way
    until(lambda: Path(f"/proc/{worker.pid}/wchan").read_text() not in ("", "0"))
    os.kill(agent.pid, signal.SIGCONT)
    assert raw.recv(4096)
    raw.close()
    until(lambda: os.path.exists(paths[2]) or second.done())
    Path(paths[3]).touch()
    assert second.result(30) == "ended"
