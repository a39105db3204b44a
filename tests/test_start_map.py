"""``vigie.start_map``: one job, however many items; it can be steered, and outlives whatever falls."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vigie
from conftest import HomeUnderTest, Program, until
from vigie import boards
from vigie.errors import JobFailed, NotSerializable, Refused, UsageError
from vigie.session import session

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("home")]


def square(number: int) -> int:
    return number * number


def gated(directory: Path) -> Callable[[int], int]:
    """A function that notes its item, then waits for the file ``go`` or ``go-ITEM``."""

    def wait(number: int) -> int:
        with open(directory / "begun", "a") as file:
            file.write(f"{number}\n")
        while not (directory / "go").exists() and not (directory / f"go-{number}").exists():
            time.sleep(0.005)
        if (directory / f"fail-{number}").exists():
            raise ValueError(number)
        return number

    return wait


def begun(directory: Path) -> list[int]:
    path = directory / "begun"
    return list(map(int, path.read_text().split())) if path.exists() else []


def progress(job: vigie.Job) -> dict[str, Any]:
    return job.progress or {"done": 0, "failed": 0, "running": 0}


def test_its_result_is_what_a_map_gives() -> None:
    job = vigie.start_map(square, range(5_000), limit=2, name="squares")
    assert job.result(60) == [number * number for number in range(5_000)]
    assert progress(job)["done"] == progress(job)["total"] == 5_000
    assert len(vigie.jobs()) == 1


@pytest.mark.parametrize("on", ["threads", "inline", "async", "auto"])
def test_it_runs_wherever_a_map_does(on: str) -> None:
    async def twice(number: int) -> int:
        return 2 * number

    what: Any = twice if on == "async" else lambda number: 2 * number
    assert vigie.start_map(what, range(50), on=on).result(60) == [2 * number for number in range(50)]


def inverse(number: int) -> float:
    return 1 / number


def test_errors() -> None:
    with pytest.raises(JobFailed) as caught:
        vigie.start_map(inverse, [2, 0, 4]).result(60)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert vigie.start_map(inverse, [2, 0, 4], errors="skip").result(60) == [0.5, 0.25]
    found = vigie.start_map(inverse, [2, 0, 4], errors="collect", retries=1).result(60)
    assert [one.value for one in found] == [0.5, None, 0.25]
    assert isinstance(found[1].error, ZeroDivisionError)
    assert found[1].attempts == 2


def test_the_limit_changes_while_it_runs(tmp_path: Path) -> None:
    job = vigie.start_map(gated(tmp_path), range(6), limit=1)
    until(lambda: begun(tmp_path) == [0])
    job.limit(3)
    until(lambda: len(begun(tmp_path)) == 3)
    assert until(lambda: progress(job)["limit"] == 3)
    (tmp_path / "go").touch()
    assert job.result(60) == list(range(6))


def test_items_are_skipped_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "fail-1").touch()
    job = vigie.start_map(gated(tmp_path), range(5), limit=1, errors="skip")
    until(lambda: begun(tmp_path) == [0])
    job.skip(0, 3)
    until(lambda: begun(tmp_path) == [0, 1])
    (tmp_path / "go-1").touch()
    until(lambda: begun(tmp_path) == [0, 1, 2])
    assert until(lambda: progress(job)["failed"] == 3)
    (tmp_path / "fail-1").unlink()
    job.retry(item=1)
    assert until(lambda: progress(job)["failed"] == 2)
    (tmp_path / "go").touch()
    assert job.result(60) == [1, 2, 4]
    assert sorted(begun(tmp_path)) == [0, 1, 1, 2, 4]


def test_a_drained_run_ends_and_a_retry_does_the_rest(tmp_path: Path) -> None:
    job = vigie.start_map(gated(tmp_path), range(6), limit=2)
    until(lambda: len(begun(tmp_path)) == 2)
    job.drain()
    assert until(lambda: progress(job)["drained"])
    (tmp_path / "go").touch()
    with pytest.raises(JobFailed, match=r"drained: \d of 6 items have ended"):
        job.result(60)
    first = begun(tmp_path)
    assert len(first) < 6
    assert job.retry().result(60) == list(range(6))
    assert sorted(begun(tmp_path)) == list(range(6)), "an item was computed twice"


def test_a_result_that_cannot_travel_fails_alone() -> None:
    found = vigie.start_map(lambda n: (x for x in ()) if n == 1 else n, range(3), errors="collect").result(60)
    assert [one.value for one in found] == [0, None, 2]
    assert isinstance(found[1].error, NotSerializable)


def test_the_limit_changes_wherever_it_runs(tmp_path: Path) -> None:
    job = vigie.start_map(gated(tmp_path), range(40), on="auto", timeout=60, limit=1)
    until(lambda: begun(tmp_path))
    job.limit(2)
    until(lambda: len(begun(tmp_path)) == 2)
    (tmp_path / "go").touch()
    assert job.result(60) == list(range(40))


def test_a_board_holds_as_many_problems_as_it_has_room_for(tmp_path: Path) -> None:
    board = {"done": 1, "problems": [[number, "\u6587" * 200] for number in range(10)]}
    boards.write_board(str(tmp_path), board)
    read = boards.read_board(str(tmp_path))
    assert read is not None
    assert 0 < len(read["problems"]) < 10
    boards.write_board(str(tmp_path), {"done": 2, "problems": []})
    assert boards.read_board(str(tmp_path)) == {"done": 2, "problems": []}


def test_it_outlives_the_agent(tmp_path: Path, home: HomeUnderTest) -> None:
    job = vigie.start_map(gated(tmp_path), range(4), limit=2)
    until(lambda: len(begun(tmp_path)) == 2)
    (agent,) = home.processes("agent")
    os.kill(agent.pid, signal.SIGKILL)
    (tmp_path / "go").touch()
    until(lambda: progress(job)["done"] == 4)
    assert job.result(60) == list(range(4))
    assert sorted(begun(tmp_path)) == list(range(4))


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, home: HomeUnderTest) -> None:
    job = vigie.start_map(gated(tmp_path), range(6), limit=2)
    until(lambda: len(begun(tmp_path)) == 2)
    (tmp_path / "go-0").touch()
    (tmp_path / "go-1").touch()
    until(lambda: progress(job)["done"] == 2)
    until(lambda: len(begun(tmp_path)) == 4)
    (worker,) = [process for process in home.processes("worker") if "--map" not in process.argv]
    os.kill(worker.pid, signal.SIGKILL)
    assert isinstance(job.exception(60), JobFailed)
    (tmp_path / "go").touch()
    assert job.retry().result(60) == list(range(6))
    assert progress(job)["earlier"] == 2
    assert sorted(begun(tmp_path)) == [0, 1, 2, 2, 3, 3, 4, 5]


def test_a_stopped_run_leaves_nobody(tmp_path: Path, home: HomeUnderTest) -> None:
    job = vigie.start_map(gated(tmp_path), range(6), limit=2)
    until(lambda: len(begun(tmp_path)) == 2)
    job.stop()
    assert job.state == "stopped"
    assert [process for process in home.processes() if "--map" in process.argv] == []


def test_a_suspended_run_stands_still(tmp_path: Path) -> None:
    job = vigie.start_map(gated(tmp_path), range(4), limit=2)
    until(lambda: len(begun(tmp_path)) == 2)
    job.suspend()
    (tmp_path / "go").touch()
    assert job.state == "suspended"
    assert progress(job)["done"] == 0
    assert job.resume().result(60) == list(range(4))


def test_only_a_run_that_goes_on_is_told_anything() -> None:
    command = vigie.start(["true"])
    with pytest.raises(Refused, match="no parallel run"):
        command.limit(2)
    ended = vigie.start_map(square, [1])
    ended.result(60)
    with pytest.raises(Refused, match="completed already"):
        ended.drain()
    for order in ({"limit": 0}, {"skip": -1}, {"explode": True}, {}, {"limit": 1, "skip": 2}, 3):
        with pytest.raises(UsageError, match="nothing that a parallel run can be told"):
            session().client.call("steer", job=ended.id, order=order)


def test_options_of_the_run_and_of_the_job() -> None:
    job = vigie.start_map(square, [1, 2], limit=1, name="run", priority=3, tags=["a"])
    assert job.result(60) == [1, 4]
    info = job.info()
    assert (info["name"], info["priority"], info["tags"]) == ("run", 3, ["a"])
    task = vigie.task(timeout="5s", retries=2, name="task")(square)
    assert vigie.start_map(task, [3]).result(60) == [9]
    for options in ({"on": "moon"}, {"limit": 0}, {"errors": "loud"}, {"timeout": -1}, {"colour": 3}):
        with pytest.raises(UsageError):
            vigie.start_map(square, [1], **options)  # type: ignore[arg-type]  # one kind each


def test_the_command_line(tmp_path: Path, vigie: Program) -> None:
    import vigie as library

    job = library.start_map(gated(tmp_path), range(8), limit=1, name="gated", errors="skip")
    until(lambda: begun(tmp_path) == [0])
    vigie("skip", "gated", "6", "7")
    vigie("limit", "gated", "2")
    until(lambda: len(begun(tmp_path)) == 2)
    assert "of 8 items" in vigie("show", "gated").stdout
    (tmp_path / "go").touch()
    assert job.result(60) == list(range(6))
    assert "6 of 8 items · 2 failed" in vigie("show", "gated").stdout
    assert json.loads(vigie("show", "gated", "--json").stdout)["progress"]["done"] == 6
    refused = vigie("drain", "gated", check=False)
    assert refused.returncode == 1
    assert "completed already" in refused.stderr
    assert vigie("retry", "--item", "1", check=False).returncode == 2
