"""The directories of silent commands that the next ones get: nothing of one job may show up in another."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

import vigie
from conftest import HomeUnderTest, until
from vigie.agent import blanks
from vigie.agent.blanks import Blanks
from vigie.config import Home
from vigie.keeper_blank import NAMES, reuse
from vigie.session import session


class Loop:
    """A clock with alarms."""

    def __init__(self) -> None:
        self.now = 100.0
        self.alarms: list[tuple[float, object]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: object) -> asyncio.TimerHandle:
        self.alarms.append((when, call))
        return self  # type: ignore[return-value]

    def cancel(self) -> None:
        self.alarms.clear()

    def pass_to(self, now: float) -> None:
        self.now = now
        due, self.alarms = [a for a in self.alarms if a[0] <= now], [a for a in self.alarms if a[0] > now]
        for _, call in due:
            call()  # type: ignore[operator]


@pytest.fixture
def place(tmp_path: Path) -> tuple[Home, Blanks, Loop]:
    home, loop = Home(str(tmp_path)), Loop()
    os.makedirs(home.tmp)
    return home, Blanks(home, loop), loop  # type: ignore[arg-type]


def silent(home: Home, job: int) -> dict[str, int]:
    """Make what a silent command leaves; give the numbers of the files."""
    os.makedirs(home.job_dir(job))
    for name in NAMES:
        Path(home.job_file(job, name)).touch()
    return numbers(home, job)


def numbers(home: Home, job: int) -> dict[str, int]:
    try:
        return {name: os.stat(home.job_file(job, name)).st_ino for name in sorted(os.listdir(home.job_dir(job)))}
    except FileNotFoundError:
        return {}


def give(home: Home, kept: Blanks, job: int) -> None:
    """Do what agent and keeper do for a new command."""
    blank = kept.take()
    assert blank is not None
    reuse(blank, home.job_dir(job))


def test_the_next_command_gets_the_same_files(place: tuple[Home, Blanks, Loop]) -> None:
    home, kept, _ = place
    files = silent(home, 1)
    assert kept.leave(1)
    assert numbers(home, 1) == {}
    assert not os.path.exists(home.job_dir(1))
    give(home, kept, 1002)
    assert numbers(home, 1002) == files
    assert kept.take() is None


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_file_that_somebody_has_open_is_not_given_away(place: tuple[Home, Blanks, Loop], mode: str) -> None:
    home, kept, _ = place
    silent(home, 1)
    with open(home.job_file(1, "err"), mode):
        kept.leave(1)
        give(home, kept, 2)
    assert list(numbers(home, 2)) == ["out"]


def test_what_was_written_meanwhile_is_not_given_away(place: tuple[Home, Blanks, Loop]) -> None:
    home, kept, _ = place
    silent(home, 1)
    with open(home.job_file(1, "out"), "w") as child:
        kept.leave(1)
        child.write("from a child that was left")
    give(home, kept, 2)
    assert list(numbers(home, 2)) == ["err"]


@pytest.mark.slow
def test_a_command_with_input_keeps_it(home: HomeUnderTest) -> None:
    """Its directory holds more than two empty files."""
    job = vigie.start(["/bin/true"], stdin=b"input").wait(30)
    vigie.start(["/bin/true"]).wait(30)
    assert os.listdir(home.job_dir(job.id)) == ["in"]


def test_a_job_with_a_directory_keeps_it(place: tuple[Home, Blanks, Loop]) -> None:
    home, kept, _ = place
    silent(home, 1)
    kept.leave(1)
    os.makedirs(home.job_dir(2))
    Path(home.job_file(2, "in")).write_text("input")
    give(home, kept, 2)
    assert list(numbers(home, 2)) == ["in"]


def test_one_that_has_gone_does_no_harm(place: tuple[Home, Blanks, Loop]) -> None:
    home, *_ = place
    reuse(os.path.join(home.tmp, "blank-7"), home.job_dir(2))
    assert not os.path.exists(home.job_dir(2))


def test_they_go_when_nobody_wants_them(place: tuple[Home, Blanks, Loop]) -> None:
    home, kept, loop = place
    for job in range(blanks.MOST + 3):
        silent(home, job)
        kept.leave(job)
        loop.now += 0.01
    assert len(os.listdir(home.tmp)) == blanks.MOST
    loop.pass_to(100 + blanks.KEEP + 0.05)
    assert len(os.listdir(home.tmp)) == blanks.MOST  # the last one has not been there for long enough
    loop.pass_to(100 + blanks.KEEP + 0.5)
    assert os.listdir(home.tmp) == []
    assert loop.alarms == []


def test_the_next_agent_removes_them(place: tuple[Home, Blanks, Loop]) -> None:
    home, kept, loop = place
    silent(home, 1)
    kept.leave(1)
    Path(home.tmp, "0123.in").touch()
    Blanks(home, loop)  # type: ignore[arg-type]
    assert os.listdir(home.tmp) == ["0123.in"]


@pytest.mark.slow
def test_output_of_a_child_left_behind_reaches_no_other_job(home: HomeUnderTest, tmp_path: Path) -> None:
    """The first command says nothing; a child of it speaks when the second one has its turn."""
    word, done = tmp_path / "word", tmp_path / "done"
    os.mkfifo(word)
    line = f"(read x < {word}; echo from the child; touch {done}) & exit 0"
    vigie.start(["/bin/sh", "-c", line]).wait(30)
    second = vigie.start(["/bin/sh", "-c", f"echo go > {word}; while [ ! -e {done} ]; do sleep 0.01; done; echo mine"])
    second.wait(30)
    assert [record.text for record in second.logs()] == ["mine\n"]


@pytest.mark.slow
def test_many_silent_commands_leave_nothing(home: HomeUnderTest) -> None:
    jobs = [vigie.start(["/bin/true"]) for _ in range(30)]
    talking = vigie.start(["echo", "a word"])
    for job in [*jobs, talking]:
        job.wait(30)

    def left() -> set[str]:
        return {name for _, _, names in os.walk(home.jobs) for name in names}

    until(lambda: left() == {"out"}, what="the directories of silent commands to go")
    assert [record.text for record in talking.logs()] == ["a word\n"]


@pytest.mark.slow
def test_the_keeper_outlives_the_break_of_a_lease(home: HomeUnderTest) -> None:
    """Somebody may open a file in the instant in which it holds a lease of it: the kernel tells it by SIGIO."""
    client = session().client
    vigie.start(["/bin/true"]).wait(30)
    keeper = client.call("status")["keeper"]["pid"]
    os.kill(keeper, signal.SIGIO)
    assert vigie.start(["/bin/true"]).wait(30).state == "completed"
    assert client.call("status")["keeper"]["pid"] == keeper
