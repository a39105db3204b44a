"""However a job ends, is stopped, removed or run again: its whole tree ends with it, and no other job pays."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import vigie
import work
from conftest import HomeUnderTest, until
from job_calls import call, command, until_there

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("home")]


# Retries and timeouts ---------------------------------------------------------------


def test_retries_run_again_until_it_works(tmp_path: Path) -> None:
    counter = str(tmp_path / "count")
    job = vigie.task(retries=5, backoff=0.01)(work.flaky).start(counter, 3)
    assert job.result(30) == 3
    assert job.info()["attempt"] == 3


def test_stop_ends_what_an_earlier_attempt_left_behind(home: HomeUnderTest, tmp_path: Path) -> None:
    left = tmp_path / "left"
    line = f"[ -e {left} ] && exec sleep 600; setsid sh -c 'echo $$ > {left}; exec sleep 601' & sleep 0.3; exit 1"
    job = command(line, retries=1, backoff=0.01)
    until(lambda: job.info()["attempt"] == 2 and job.state == "running")
    pid = int(until(left.read_text))
    assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    job.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_retries_end(tmp_path: Path) -> None:
    job = command(f"echo x >> {tmp_path}/n; exit 4", retries=2, backoff=0.01).wait(30)
    assert (job.state, job.exit_code) == ("failed", 4)
    assert len((tmp_path / "n").read_text().split()) == 3
    job.retry()
    until(lambda: job.done() and len((tmp_path / "n").read_text().split()) == 6)


def test_a_timeout_ends_the_whole_tree(home: HomeUnderTest) -> None:
    job = command("sleep 300 & sleep 300", timeout=0.2, grace=0.2).wait(30)
    assert (job.state, job.reason) == ("failed", "timeout")
    until(lambda: not home.processes("other"))


def test_a_timeout_of_a_function_charges_it_alone(tmp_path: Path) -> None:
    slow = vigie.task(timeout=0.3)(work.until_file).start(str(tmp_path / "never"))
    others = [vigie.start(work.double, i) for i in range(5)]
    assert slow.wait(30).reason == "timeout"
    assert [job.result(30) for job in others] == [0, 2, 4, 6, 8]


# Control ----------------------------------------------------------------------------


def test_stop_ends_children_that_left_the_session(home: HomeUnderTest, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        "import os,time\n"
        "def note(): os.write(os.open(%r, os.O_WRONLY|os.O_CREAT|os.O_APPEND), b'%%d\\n' %% os.getpid())\n"
        "note()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        note(); time.sleep(300)\n"
        "    os._exit(0)\n"
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "note(); time.sleep(300)\n" % str(pids)
    )
    job = vigie.start([sys.executable, "-c", code])
    until(lambda: pids.exists() and len(pids.read_text().split()) == 3)
    job.stop(grace=0.1)
    assert job.state == "stopped"
    for pid in pids.read_text().split():
        assert not os.path.exists(f"/proc/{pid}")


def test_a_queued_job_that_is_stopped_never_starts(tmp_path: Path) -> None:
    call("queue_set", name="q", slots=1)
    call("queue_pause", name="q")
    job = command(f"touch {tmp_path}/ran", queue="q")
    job.stop()
    call("queue_resume", name="q")
    assert command("true", queue="q").result(30) == 0
    assert job.state == "stopped"
    assert not (tmp_path / "ran").exists()


def test_stop_takes_functions_back_from_their_batch(tmp_path: Path) -> None:
    # Known to be tiny, so that they share batches.
    for _ in range(4):
        vigie.start(work.witness, str(tmp_path / "w"), "warm").wait(30)
    jobs = vigie.start_many(work.witness, [(str(tmp_path / "w"), str(i)) for i in range(2000)])
    call("stop", ids=[job.id for job in jobs[1000:]])
    for job in jobs[:1000]:
        job.wait(60)
    ran = set((tmp_path / "w").read_text().split()) - {"warm"}
    for i, job in enumerate(jobs):
        assert job.state in ("completed", "stopped")
        if job.state == "stopped" and job.info()["attempt"] == 0:
            assert str(i) not in ran
        if job.state == "completed":
            assert str(i) in ran


def test_suspend_stops_the_tree_and_resume_goes_on(tmp_path: Path, home: HomeUnderTest) -> None:
    ticks = tmp_path / "ticks"
    job = command(f"while :; do echo x >> {ticks}; sleep 0.02; done")
    until(lambda: ticks.exists() and ticks.stat().st_size > 4)
    job.suspend()
    assert job.state == "suspended"
    until(lambda: all(_state(p.pid) == "T" for p in home.processes("other")))
    size = ticks.stat().st_size
    job.resume()
    until(lambda: ticks.stat().st_size > size)
    job.stop(grace=0)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "T"


def test_a_grandchild_that_holds_the_output_does_not_keep_a_job_running(home: HomeUnderTest) -> None:
    home.leftovers_expected = True
    job = command("sleep 300 & exit 3").wait(30)
    assert job.exit_code == 3


def test_remove_takes_everything(home: HomeUnderTest) -> None:
    job = command("echo hi").wait(30)
    assert os.path.exists(home.job_file(job.id, "out"))
    job.remove()
    assert not os.path.exists(home.job_dir(job.id))
    with pytest.raises(vigie.NotFound):
        vigie.get(job.id)
    with pytest.raises(vigie.NotFound):
        job.result(5)


def test_a_running_job_is_not_removed(tmp_path: Path) -> None:
    job = command(until_there(tmp_path / "end"))
    with pytest.raises(vigie.VigieError, match="stop it first"):
        job.remove()
    (tmp_path / "end").touch()
    job.wait(30)


def test_stopping_a_chain_stops_all_of_it() -> None:
    first = command("true", delay="1h")
    second = command("true", after=first)
    call("stop", ids=[first.id, second.id])
    assert (first.state, second.state) == ("stopped", "stopped")


# Workers ----------------------------------------------------------------------------


def test_a_function_that_ends_its_process_charges_itself_alone() -> None:
    before = [vigie.start(work.double, i) for i in range(3)]
    bad = vigie.start(work.exit_process, 5)
    after = [vigie.start(work.double, i) for i in range(3)]
    assert (bad.wait(30).reason, bad.exit_code) == ("exit", 5)
    assert [job.result(30) for job in before + after] == [0, 2, 4] * 2


def test_children_left_behind_are_ended() -> None:
    pid = vigie.start(work.leave_child).result(30)
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert vigie.start(work.double, 1).result(30) == 2


def test_an_interpreter_that_is_none_fails_the_job() -> None:
    with pytest.raises(vigie.VigieError):
        vigie.task(python="/bin/false")(work.double).start(1).result(30)


def test_a_fresh_process_each() -> None:
    pids = [vigie.task(fresh=True)(os.getpid).start().result(30) for _ in range(3)]
    assert len(set(pids)) == 3


def test_the_environment_is_the_jobs_own(tmp_path: Path) -> None:
    job = vigie.task(env={"COLOUR": "blue"}, cwd=str(tmp_path))(work.environment).start("COLOUR", "VIGIE_JOB")
    assert job.result(30) == ["blue", str(job.id), str(tmp_path)]
    assert vigie.start(work.environment, "COLOUR").result(30)[0] is None
