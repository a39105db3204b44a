"""The examples of services: added by the line that each of them shows, and looked at for what they did."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import HomeUnderTest, Program, until

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def example(vigie: Program, home: HomeUnderTest, tmp_path: Path) -> Callable[..., str]:
    """Give a runner: it adds the service as its script shows, with more words behind, and gives its name."""
    home.leftovers_expected = True

    def add(script: str, *more: str) -> str:
        found = re.search(r"^ +vigie (service add .*)$", (EXAMPLES / script).read_text(), re.M)
        assert found is not None
        words = shlex.split(found[1])
        words[words.index(script)] = str(EXAMPLES / script)
        words[words.index("python3")] = sys.executable
        done = vigie(*words, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return words[2]

    return add


def test_the_time_is_written_again_and_again(example: Callable[..., str], vigie: Program) -> None:
    name = example("clock_service.py", "0.05")
    until(lambda: len(re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", vigie("logs", name).stdout, re.M)) >= 3)
    until(lambda: "last wrote at" in vigie("service", "status", name).stdout)
    vigie("service", "stop", name)
    assert vigie("logs", "-n", "1", name).stdout == "the clock stops\n"


def test_an_alert_lies_there_while_something_is_over_its_limit(
    example: Callable[..., str], vigie: Program, tmp_path: Path
) -> None:
    name = example("watch_machine.py", "--every", "0.05", "--memory", "0")
    alert = tmp_path / "alerts" / "machine.txt"
    until(alert.exists)
    assert re.search(r"memory \d+ % \(limit 0 %\)", alert.read_text())
    assert "over its limit: " in vigie("logs", name).stdout
    words = [sys.executable, str(EXAMPLES / "watch_machine.py"), "alerts", "--every", "0.05"]
    vigie("service", "edit", name, "--", *words, "--memory", "101", "--cpu", "101")
    until(lambda: not alert.exists())


def test_each_file_is_processed_once_and_moved_also_when_the_service_is_killed(
    example: Callable[..., str], vigie: Program, home: HomeUnderTest, tmp_path: Path
) -> None:
    top = tmp_path / "in"
    (top / "work").mkdir(parents=True)
    (top / "work" / "left.txt").write_text("a\nb\n")
    name = example("watch_folder.py", "0.05")
    until((top / "done" / "left.txt").exists)
    (top / "good.txt").write_text("one\ntwo\nthree\n")
    (top / "bad.bin").write_bytes(b"\xff\xfe\xff")
    until((top / "done" / "good.txt").exists)
    until((top / "error" / "bad.bin.reason").exists)
    (process,) = [process for process in home.processes("other") if "watch_folder.py" in " ".join(process.argv)]
    os.kill(process.pid, signal.SIGKILL)
    (top / "next.txt").write_text("x\n")
    until((top / "done" / "next.txt").exists)
    lines = vigie("logs", name, "--stream", "output").stdout.splitlines()
    assert [line for line in lines if line.startswith(("good", "next", "left"))] == [
        "left.txt: taken up again", "left.txt: 2 lines", "good.txt: 3 lines", "next.txt: 1 lines",
    ]  # fmt: skip
