"""``vigie map --background``: commands as one job, with its agent, its logs, and whatever falls meanwhile."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from conftest import HomeUnderTest, until

Program = Any

pytestmark = pytest.mark.slow

#: Says that it has begun, waits for a file ``go`` or ``go-ITEM``, and fails if there is ``fail-ITEM``.
GATED = (
    "echo $1 >> begun; until [ -e go ] || [ -e go-$1 ]; do sleep 0.01; done; "
    'echo "out $1"; echo "err $1" >&2; [ ! -e fail-$1 ]'
)


def submit(vigie: Program, items: str, *options: str, script: str = GATED) -> int:
    """Make a job, and give its id, which stands alone on stdout."""
    line = ["map", "--background", *options, "--", "sh", "-c", script, "sh", "{}", ":::", *items]
    done = vigie(*line, check=True)
    assert done.stdout.strip().isdigit()
    return int(done.stdout)


def shown(vigie: Program, job: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(vigie("show", str(job), "--json", check=True).stdout)
    return found


def progress(vigie: Program, job: int) -> dict[str, Any]:
    return shown(vigie, job)["progress"] or {"done": 0, "failed": 0, "running": 0, "limit": 0, "drained": False}


def begun(home: HomeUnderTest) -> list[str]:
    path = Path(home.user, "begun")
    return path.read_text().split() if path.exists() else []


def touch(home: HomeUnderTest, *names: str) -> None:
    for name in names:
        Path(home.user, name).touch()


def commands(home: HomeUnderTest) -> list[Any]:
    return home.processes("other")


def test_it_is_one_job_with_one_log(vigie: Program, home: HomeUnderTest) -> None:
    touch(home, "go")
    job = submit(vigie, "abc", "-j1", "--name", "letters", "--tag", "t", "--priority", "3")
    assert vigie("wait", "letters").returncode == 0
    found = shown(vigie, job)
    assert (found["state"], found["name"], found["tags"], found["priority"]) == ("completed", "letters", ["t"], 3)
    told = found["progress"]
    assert (told["total"], told["done"], told["failed"], told["running"]) == (3, 3, 0, 0)
    assert "3 of 3 items" in vigie("show", "letters").stdout
    log = vigie("logs", "letters").stdout.splitlines()
    assert [line for line in log if line.startswith("out")] == ["out a", "out b", "out c"]
    assert sorted(line for line in log if line.startswith("err")) == ["err a", "err b", "err c"]
    assert begun(home) == ["a", "b", "c"]


def test_items_of_stdin_and_of_any_bytes(vigie: Program, home: HomeUnderTest) -> None:
    items = [b"a b", b"-n", b"$(id)", b"\xff\xfe", b"two\nlines", b"it's"]
    line = ["map", "--background", "-0", "-j1", "--", "printf", "<%s>"]
    done = vigie(*line, input=b"".join(item + b"\0" for item in items), text=False, check=True)
    assert vigie("wait", done.stdout.strip()).returncode == 0
    log = vigie("logs", done.stdout.strip(), text=False, check=True).stdout
    assert log == b"".join(b"<%b>" % item for item in items)


def test_its_options_go_along(vigie: Program, home: HomeUnderTest) -> None:
    script = 'echo $1 >> begun; echo "n $(nice)"; [ $(grep -c . begun) -gt 2 ]'
    options = ["-j1", "--retries", "2", "--prefix", "--nice", "3", "--results", "kept", "--timeout", "60s"]
    job = submit(vigie, "x", *options, script=script)
    assert vigie("wait", str(job)).returncode == 0
    assert begun(home) == ["x"] * 3
    nice = min(19, os.nice(0) + 3)
    assert f"x\tn {nice}" in vigie("logs", str(job)).stdout.splitlines()
    assert Path(home.user, "kept", "1", "stdout").read_text() == f"n {nice}\n"
    # A line for a shell, and one that takes too long.
    done = vigie("map", "--background", "--timeout", "200ms", "--shell", "echo {} >> line; sleep 600", ":::", "a b")
    assert vigie("wait", done.stdout.strip()).returncode == 1
    assert Path(home.user, "line").read_text() == "a b\n"
    assert shown(vigie, int(done.stdout))["progress"]["problems"] == [[0, "took too long"]]
    until(lambda: not commands(home))


def test_a_retry_runs_only_what_failed(vigie: Program, home: HomeUnderTest) -> None:
    touch(home, "go", "fail-b", "fail-d")
    job = submit(vigie, "abcd", "-j1")
    assert vigie("wait", str(job)).returncode == 1
    found = shown(vigie, job)
    assert (found["state"], found["exit_code"]) == ("failed", 2)
    assert found["progress"]["problems"] == [[1, "exit status 1"], [3, "exit status 1"]]
    assert "2 of 4 commands failed" in vigie("logs", str(job)).stdout
    Path(home.user, "fail-b").unlink()
    vigie("retry", str(job), check=True)
    assert vigie("wait", str(job)).returncode == 1
    assert begun(home)[4:] == ["b", "d"]
    Path(home.user, "fail-d").unlink()
    vigie("retry", str(job), check=True)
    assert vigie("wait", str(job)).returncode == 0
    assert begun(home)[6:] == ["d"]
    told = progress(vigie, job)
    assert (told["done"], told["earlier"], told["failed"]) == (4, 3, 0)


def test_the_limit_changes_and_items_are_left_out(vigie: Program, home: HomeUnderTest) -> None:
    job = submit(vigie, "abcdef", "-j1")
    until(lambda: begun(home) == ["a"])
    vigie("skip", str(job), "0", "5", check=True)
    until(lambda: begun(home) == ["a", "b"])
    until(lambda: len([one for one in commands(home) if "sh" in one.argv]) == 1)
    vigie("limit", str(job), "3", check=True)
    until(lambda: sorted(begun(home)) == ["a", "b", "c", "d"])
    until(lambda: progress(vigie, job)["limit"] == 3)
    touch(home, "go")
    assert vigie("wait", str(job)).returncode in (0, 1)
    told = progress(vigie, job)
    assert (told["done"], told["failed"]) == (4, 2)
    assert sorted(begun(home)) == ["a", "b", "c", "d", "e"]


def test_an_item_that_failed_is_tried_again_meanwhile(vigie: Program, home: HomeUnderTest) -> None:
    touch(home, "fail-a", "go-a")
    job = submit(vigie, "ab", "-j1")
    until(lambda: progress(vigie, job)["failed"] == 1)
    Path(home.user, "fail-a").unlink()
    vigie("retry", str(job), "--item", "0", check=True)
    until(lambda: progress(vigie, job)["failed"] == 0)
    touch(home, "go")
    assert vigie("wait", str(job)).returncode == 0
    assert sorted(begun(home)) == ["a", "a", "b"]


def test_a_drained_one_ends_and_a_retry_does_the_rest(vigie: Program, home: HomeUnderTest) -> None:
    job = submit(vigie, "abcde", "-j2")
    until(lambda: len(begun(home)) == 2)
    vigie("drain", str(job), check=True)
    until(lambda: progress(vigie, job)["drained"])
    touch(home, "go")
    assert vigie("wait", str(job)).returncode == 1
    assert sorted(begun(home)) == ["a", "b"]
    vigie("retry", str(job), check=True)
    assert vigie("wait", str(job)).returncode == 0
    assert sorted(begun(home)) == list("abcde")


def test_a_suspended_one_stands_still(vigie: Program, home: HomeUnderTest) -> None:
    job = submit(vigie, "abc", "-j2")
    until(lambda: len(begun(home)) == 2)
    vigie("suspend", str(job), check=True)
    assert shown(vigie, job)["state"] == "suspended"

    def states() -> set[str]:
        found = set()
        for one in commands(home):
            found.add(Path("/proc", str(one.pid), "stat").read_text().rpartition(")")[2].split()[0])
        return found

    until(lambda: states() == {"T"})
    touch(home, "go")
    vigie("resume", str(job), check=True)
    assert vigie("wait", str(job)).returncode == 0
    assert sorted(begun(home)) == ["a", "b", "c"]


@pytest.mark.parametrize("grace", ["0", "20"])
def test_a_stopped_one_leaves_nothing(vigie: Program, home: HomeUnderTest, grace: str) -> None:
    script = f"setsid sleep 600 & sleep 600 & {GATED}"
    job = submit(vigie, "abcd", "-j2", script=script)
    until(lambda: len(begun(home)) == 2)
    stopped = json.loads(vigie("stop", str(job), "--grace", grace, "--json", check=True).stdout)
    assert [(one["id"], one["state"], one["left"]) for one in stopped] == [(job, "stopped", [])]
    assert home.leftovers() == []
    assert len(begun(home)) == 2
    touch(home, "go")
    vigie("retry", str(job), check=True)
    assert vigie("wait", str(job)).returncode == 0
    vigie("stop", str(job))
    assert sorted(begun(home)[2:]) == list("abcd")
    home.leftovers_expected = True  # what commands that ended well have left behind is theirs


def test_it_outlives_the_agent(vigie: Program, home: HomeUnderTest) -> None:
    job = submit(vigie, "abcd", "-j2")
    until(lambda: len(begun(home)) == 2)
    (agent,) = home.processes("agent")
    os.kill(agent.pid, signal.SIGKILL)
    touch(home, "go")
    until(lambda: len(begun(home)) == 4)
    assert vigie("wait", str(job)).returncode == 0
    assert sorted(begun(home)) == list("abcd")
    assert [one.pid for one in home.processes("agent")] != [agent.pid]
    told = progress(vigie, job)
    assert (told["done"], told["total"]) == (4, 4)
    log = vigie("logs", str(job)).stdout.splitlines()
    assert sorted(line for line in log if line.startswith("out")) == [f"out {item}" for item in "abcd"]


def test_a_killed_one_goes_on_where_it_was(vigie: Program, home: HomeUnderTest) -> None:
    job = submit(vigie, "abcd", "-j1")
    touch(home, "go-a")
    until(lambda: begun(home) == ["a", "b"])
    until(lambda: progress(vigie, job)["done"] == 1)
    (worker,) = home.processes("worker")
    os.kill(worker.pid, signal.SIGKILL)
    assert vigie("wait", str(job)).returncode == 1
    until(lambda: not commands(home))
    touch(home, "go")
    vigie("retry", str(job), check=True)
    assert vigie("wait", str(job)).returncode == 0
    assert begun(home) == ["a", "b", "b", "c", "d"]
    assert progress(vigie, job)["earlier"] == 1


def test_no_items(vigie: Program, home: HomeUnderTest) -> None:
    job = submit(vigie, "")
    assert vigie("wait", str(job)).returncode == 0
    assert progress(vigie, job)["done"] == 0
