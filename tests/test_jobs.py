"""Background jobs through the library, on the real agent, keeper and workers: what they give, and in what order."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import vigie
import work
from conftest import HomeUnderTest, until
from job_calls import call, command, until_there

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("home")]


# Results ----------------------------------------------------------------------------


def test_a_function_gives_its_result() -> None:
    job = vigie.start(work.double, 21)
    assert job.result(30) == 42
    assert job.state == "completed"
    assert "completed" in repr(job)


def test_a_command_gives_its_exit_code() -> None:
    assert command("exit 0").result(30) == 0
    job = command("exit 7").wait(30)
    assert (job.state, job.reason, job.exit_code) == ("failed", "exit", 7)
    with pytest.raises(vigie.JobFailed, match="exit code 7") as failure:
        job.result()
    assert failure.value.exit_code == 7


def test_a_signal_is_told_as_one() -> None:
    job = command("kill -KILL $$").wait(30)
    assert (job.state, job.reason, job.info()["signal"]) == ("failed", "signal", 9)


def test_an_unknown_command_fails_with_its_name() -> None:
    job = vigie.start(["no-such-command-anywhere"]).wait(30)
    assert (job.state, job.reason, job.exit_code) == ("failed", "spawn", None)
    assert "no-such-command-anywhere" in job.info()["message"]


def test_a_remote_exception_is_the_cause() -> None:
    job = vigie.start(work.fail, "broken")
    with pytest.raises(vigie.JobFailed, match="broken") as failure:
        job.result(30)
    cause = failure.value.__cause__
    assert isinstance(cause, ValueError)
    assert "in fail" in "".join(cause.__notes__)


def test_lambdas_and_closures_travel() -> None:
    factor = 3
    assert vigie.start(lambda n: n * factor, 5).result(30) == 15


def test_plain_and_other_values_travel() -> None:
    values = [None, True, 1 << 70, "ü\x00", b"\xff", (1, 2), {3: {4}}, 1.5, [["x"]]]
    for value in values:
        assert vigie.start(_same, value).result(30) == value


def _same(value: object) -> object:
    return value


def test_a_large_result_goes_by_file(home: HomeUnderTest) -> None:
    job = vigie.start(work.big, 3 << 20)
    assert job.result(30) == b"x" * (3 << 20)
    assert os.path.exists(home.job_file(job.id, "result"))


def test_what_cannot_travel_is_named() -> None:
    with pytest.raises(vigie.NotSerializable, match=r"args\[0\]"):
        vigie.start(work.double, threading.Lock())
    with pytest.raises(vigie.NotSerializable):
        vigie.start(lambda lock=threading.Lock(): lock)  # noqa: B008 - it is what cannot be pickled


def test_a_task_can_be_called_and_started() -> None:
    double = vigie.task(retries=1)(work.double)
    assert double(4) == 8
    assert double.start(5).result(30) == 10
    assert double.options(name="ten").start(5).name == "ten"
    assert [job.result(30) for job in double.start_many([(i,) for i in range(20)])] == [2 * i for i in range(20)]


def test_unknown_options_are_refused_where_they_are_written() -> None:
    with pytest.raises(vigie.UsageError, match="tiemout"):
        vigie.task(tiemout="1h")
    with pytest.raises(vigie.UsageError):
        command("true", timeout=-1)
    with pytest.raises(vigie.NotFound, match="nowhere"):
        command("true", queue="nowhere")


def test_many_in_one_commit_all_run() -> None:
    jobs = vigie.start_many(work.double, [(i,) for i in range(3000)])
    assert [job.id for job in jobs] == list(range(jobs[0].id, jobs[0].id + 3000))
    jobs[-1].wait(60)
    assert [job.result(60) for job in jobs[::97]] == [2 * i for i in range(0, 3000, 97)]


# Order and dependencies -------------------------------------------------------------


def test_a_job_among_the_arguments_becomes_its_result() -> None:
    first = vigie.start(work.double, 2)
    second = vigie.start(work.add, first, 10)
    nested = vigie.start(_sum_of, {"values": [first, (second, 1)]})
    assert nested.result(30) == 4 + 14 + 1


def _sum_of(tree: dict[str, list[object]]) -> int:
    first, (second, third) = tree["values"]  # type: ignore[misc]
    return first + second + third  # type: ignore[operator,no-any-return]


def test_after_waits_for_success_and_after_any_for_the_end(tmp_path: Path) -> None:
    bad = command("exit 1")
    never = command("true", after=[bad])
    still = command("true", after_any=bad)
    assert never.wait(30).reason == "dependency"
    assert f"job {bad.id}" in never.info()["message"]
    assert still.result(30) == 0


def test_a_chain_of_broken_dependencies_ends() -> None:
    jobs = [command("exit 1")]
    for _ in range(5):
        jobs.append(command("true", after=jobs[-1]))
    assert [job.wait(30).reason for job in jobs] == ["exit"] + ["dependency"] * 5


def test_dependencies_on_what_is_not_there_are_refused() -> None:
    with pytest.raises(vigie.NotFound, match="job 99"):
        command("true", after=[99])


def test_one_queue_is_first_in_first_out(tmp_path: Path) -> None:
    path = str(tmp_path / "order")
    call("queue_set", name="one", slots=1)
    jobs = [command(f"echo {i} >> {path}", queue="one") for i in range(12)]
    urgent = command(f"echo urgent >> {path}", queue="one", priority=5)
    for job in [*jobs, urgent]:
        job.wait(30)
    lines = Path(path).read_text().split()
    assert [line for line in lines if line != "urgent"] == [str(i) for i in range(12)]


def test_priority_passes_what_waits(tmp_path: Path) -> None:
    path = str(tmp_path / "order")
    call("queue_set", name="one", slots=1)
    call("queue_pause", name="one")
    low = command(f"echo low >> {path}", queue="one")
    high = command(f"echo high >> {path}", queue="one", priority=1)
    assert (low.state, high.state) == ("queued", "queued")
    call("queue_resume", name="one")
    low.wait(30)
    assert Path(path).read_text().split() == ["high", "low"]


def test_slots_are_never_exceeded_and_now_passes_them(tmp_path: Path) -> None:
    end = tmp_path / "end"
    call("queue_set", name="two", slots=2)
    jobs = [command(until_there(end), queue="two") for _ in range(4)]
    until(lambda: [job.state for job in jobs].count("running") == 2)
    passing = command("true", queue="two", now=True)
    assert passing.result(30) == 0
    assert [job.state for job in jobs].count("running") == 2
    end.touch()
    for job in jobs:
        job.wait(30)


def test_a_concurrency_key_holds_across_queues_and_against_now(tmp_path: Path) -> None:
    end = tmp_path / "end"
    holder = command(until_there(end), concurrency={"db": 1})
    until(lambda: holder.state == "running")
    other = command("true", concurrency={"db": 1}, now=True)
    assert command("true").result(30) == 0  # a slot was free, the key was not
    assert other.state == "queued"
    end.touch()
    assert other.result(30) == 0


def test_a_rate_spreads_starts(tmp_path: Path) -> None:
    call("queue_set", name="slow", slots=10, rate=20.0)
    jobs = [command("true", queue="slow") for _ in range(5)]
    for job in jobs:
        job.wait(30)
    # When they were handed out: how long each took to begin is the machine's business.
    events = [row for job in jobs for row in job._session.reader.job_events(job.id)]
    starts = sorted(row["at"] for row in events if row["verb"] == "claimed")
    assert len(starts) == 5
    assert all(later - sooner > 45_000 for sooner, later in itertools.pairwise(starts))


def test_a_key_names_one_job() -> None:
    first = command("true", key="once")
    assert command("false", key="once") == first


def test_a_delayed_start_waits_for_its_time() -> None:
    command("true").wait(30)  # the agent runs: its start does not count
    before = time.time()
    job = command("true", delay=0.3)
    info = job.info()
    assert (info["state"], info["blocked_by"]) == ("blocked", "time")
    job.wait(30)
    assert job._session.reader.get(job.id)["started"] / 1e6 >= before + 0.29


# Waiting ----------------------------------------------------------------------------


def test_waiting_has_a_limit(tmp_path: Path) -> None:
    job = command(until_there(tmp_path / "end"))
    with pytest.raises(vigie.WaitTimeout):
        job.wait(0.05)
    (tmp_path / "end").touch()
    assert job.result(30) == 0


def test_callbacks_and_await_share_the_work() -> None:
    jobs = vigie.start_many(work.double, [(i,) for i in range(50)])
    called: list[int] = []
    for job in jobs:
        job.add_done_callback(lambda job: called.append(job.id))

    async def gather() -> list[int]:
        return list(await asyncio.gather(*jobs))

    assert asyncio.run(gather()) == [2 * i for i in range(50)]
    until(lambda: sorted(called) == [job.id for job in jobs])


def test_jobs_are_found_by_name_and_state() -> None:
    job = command("exit 1", name="bad").wait(30)
    assert vigie.get("bad") == job
    assert vigie.get(job.id) == job
    assert vigie.jobs(state="failed") == [job]
    assert vigie.jobs(name="b*") == [job]


# Many at once, and again and again --------------------------------------------------


def test_many_that_are_stored_as_one_give_their_results_one_by_one() -> None:
    """Also when one of them fails, is stopped, waited for and removed while the others are under way."""
    for i in range(4):
        assert vigie.start(work.double, i).result(30) == 2 * i  # now it is known to be quick
    calls: list[tuple[object, ...]] = [(i,) for i in range(3000)]
    calls[1700] = (None,)
    jobs = vigie.start_many(work.double, calls)
    jobs[-1].stop()
    follower = vigie.start(work.double, jobs[2500])
    with pytest.raises(vigie.JobFailed, match="TypeError"):
        jobs[1700].result(60)
    assert follower.result(60) == 10_000
    assert [jobs[i].result(60) for i in range(0, 1700, 97)] == [2 * i for i in range(0, 1700, 97)]
    jobs[3].wait(60).remove()
    assert jobs[-1].wait(60).state in ("stopped", "completed")
    states = {job.state for job in vigie.jobs(limit=4000) if job.id not in (jobs[1700].id, jobs[-1].id)}
    assert states == {"completed"}


def test_what_was_sent_before_is_named_and_sent_whole_where_the_name_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vigie.session import session

    client = session().client
    sent: list[dict[str, Any]] = []
    ask = client.call_with_blobs

    def look(op: str, blobs: Sequence[bytes] = (), **fields: Any) -> tuple[dict[str, Any], list[bytes]]:
        sent.append({key: type(fields[key]).__name__ for key in ("task", "context") if key in fields})
        return ask(op, blobs, **fields)

    monkeypatch.setattr(client, "call_with_blobs", look)

    def start(what: Any = work.environment) -> tuple[Any, list[dict[str, Any]]]:
        sent.clear()
        return vigie.start(what, "SEEN").result(30), list(sent)

    whole, named = {"task": "dict", "context": "dict"}, {"task": "str", "context": "str"}
    new_task, new_context = {"task": "dict", "context": "str"}, {"task": "str", "context": "dict"}
    assert start() == (work.environment("SEEN"), [whole])
    assert start()[1] == [named]
    monkeypatch.setenv("SEEN", "1")
    found, how = start()
    assert found[0] == "1"
    assert how == [new_context]
    assert start(len) == (4, [new_task])
    assert start(len)[1] == start()[1] == [named]
    mark = "!"

    def marked(word: str) -> str:
        return word + mark

    assert start(marked) == ("SEEN!", [new_task])
    mark = "?"
    # Another code, though it is called the same.
    assert start(marked) == ("SEEN?", [new_task])
    assert start(marked) == ("SEEN?", [named])
    client.names._context = (client.names._context or ({},))[0], "00" * 16
    assert start() == (found, [named, whole])
    assert start() == (found, [named])
