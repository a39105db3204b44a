"""The parts of ``vigie demo``: counting, a copy of a tree, a place of its own, the program that is called."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readme import VIGIE
from vigie.demo import stage, work
from vigie.demo import tree as trees
from vigie.demo.load import Count
from vigie.errors import UsageError, VigieError
from vigie.place import Place

# Counting ---------------------------------------------------------------------------


def count(states: dict[int, str], lines: list[str], accepted: list[tuple[int, str]] | None = None) -> Count:
    return Count.of([(1, "a"), (2, "b")] if accepted is None else accepted, states, lines)


def test_all_is_well() -> None:
    found = count({1: "completed", 2: "completed"}, ["b 1", "a 2"])
    assert (found.broken, found.headline) == ([], "2 accepted, 0 lost, 0 run twice")


def test_an_end_that_nobody_saw_is_told_apart() -> None:
    for lines in (["a 1"], ["a 1", "b 1"]):
        found = count({1: "completed", 2: "lost"}, lines)
        assert found.broken == []
        assert found.headline == "2 accepted, 0 lost without a trace, 0 run twice; 1 ended unseen and is marked so"


@pytest.mark.parametrize(
    ("states", "lines", "accepted", "said"),
    [
        ({1: "completed"}, ["a", "b"], None, "1 vanished without a trace (2)"),
        ({1: "completed", 2: "completed"}, ["a", "b", "a"], None, "1 ran twice (1)"),
        ({1: "lost", 2: "completed"}, ["a", "b", "a"], None, "1 ran twice (1)"),
        ({1: "completed", 2: "completed"}, ["a"], None, "1 are called completed and never ran (2)"),
        ({1: "completed", 2: "failed"}, ["a", "b"], None, "1 failed, though their work cannot (2)"),
        ({1: "completed", 2: "stopped"}, ["a", "b"], None, "1 failed, though their work cannot (2)"),
        ({1: "completed", 2: "queued"}, ["a"], None, "1 have not ended after 60 s (2)"),
        ({1: "completed"}, ["a", "b"], [(1, "a"), (1, "b")], "1 share an id with another (1)"),
    ],
)
def test_each_broken_promise_is_named(
    states: dict[int, str], lines: list[str], accepted: list[tuple[int, str]] | None, said: str
) -> None:
    assert count(states, lines, accepted).broken == [said]


@given(st.dictionaries(st.integers(1, 30), st.sampled_from(["completed", "lost", "failed", "running"])), st.data())
def test_every_accepted_job_is_counted_once(states: dict[int, str], data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(1, 30), unique=True))
    found = Count.of([(job, str(job)) for job in ids], states, [])
    kinds = (found.completed, found.marked, found.vanished, found.unended, found.failed)
    assert sorted(job for kind in kinds for job in kind) == sorted(ids)


# The tree ---------------------------------------------------------------------------


def test_only_plain_files_are_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub" / "__pycache__").mkdir(parents=True)
    (source / "sub" / "a").write_bytes(b"aaa")
    (source / "sub" / "__pycache__" / "b").write_bytes(b"b")
    (source / "empty").touch()
    (source / "link").symlink_to("sub/a")
    os.mkfifo(source / "fifo")
    (source / "large").write_bytes(bytes(trees._LARGEST + 1))
    target = tmp_path / "target"
    assert trees.copy(str(source), str(target)) == (1, 3)
    assert work.files_of(str(target)) == [str(target / "sub" / "a")]


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.EIO])
def test_what_cannot_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    fail_to_copy(tmp_path, monkeypatch, number)
    assert trees.copy(str(tmp_path / "source"), str(tmp_path / "target")) == (1, 4)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_copy(tmp_path, monkeypatch, errno.ENOSPC)
    with pytest.raises(VigieError, match="no room for a copy"):
        trees.copy(str(tmp_path / "source"), str(tmp_path / "target"))


def fail_to_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the copy of one of two files fail, as a disk or a permission would have it (root may read all)."""
    (tmp_path / "source").mkdir()
    for name in ("good", "secret"):
        (tmp_path / "source" / name).write_text(name)
    real = shutil.copyfile

    def copyfile(path: str, where: str) -> None:
        if path.endswith("secret"):
            raise OSError(number, os.strerror(number), path)
        real(path, where)

    monkeypatch.setattr(trees.shutil, "copyfile", copyfile)


def test_a_copy_does_not_copy_itself(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "b").write_text("b")
    assert trees.copy(str(tmp_path), str(tmp_path / "place" / "tree")) == (1, 1)


def test_a_copy_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").mkdir()
    for n in range(5):
        (tmp_path / "source" / str(n)).write_bytes(bytes(10))
    monkeypatch.setattr(trees, "_BYTES", 35)
    assert trees.copy(str(tmp_path / "source"), str(tmp_path / "one")) == (3, 30)
    monkeypatch.setattr(trees, "_FILES", 2)
    assert trees.copy(str(tmp_path / "source"), str(tmp_path / "two")) == (2, 20)


@pytest.mark.parametrize("there", [False, True])
def test_nothing_to_work_on(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "source").mkdir()
    with pytest.raises(UsageError, match="source"):
        trees.copy(str(tmp_path / "source"), str(tmp_path / "target"))


# The place --------------------------------------------------------------------------


def test_a_place_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    before = dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyError), Place() as here:
        assert os.environ["VIGIE_HOME"] == here.home.root
        assert os.environ.get("VIRTUAL_ENV") != "/elsewhere"
        assert os.getcwd() == here.top
        Path("file").touch()
        raise KeyError
    assert (dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert os.getcwd() == str(tmp_path)
    assert not os.path.exists(here.top)


@pytest.mark.slow
def test_a_place_ends_what_carries_its_mark_and_nothing_else() -> None:
    from vigie.agent.marks import Marks

    def sleeper(*words: str, **env: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "300"], env={**os.environ, **env}, start_new_session=True)

    with Place() as here:
        mine = sleeper(VIGIE_ATTEMPT=Marks(here.home.root).of(7, 1))
        strangers = [sleeper(VIGIE_ATTEMPT=Marks("/another").of(7, 1)), sleeper(VIGIE_HOME=here.home.root)]
        assert [found.pid for found in here.processes()] == [mine.pid]
        assert [found.pid for found in here.members(7)] == [mine.pid]
        assert here.members(1) == []
    try:
        assert mine.wait(10) == -signal.SIGKILL
        assert [stranger.poll() for stranger in strangers] == [None, None]
    finally:
        for stranger in strangers:
            stranger.kill()
            stranger.wait()


# The program ------------------------------------------------------------------------


@pytest.mark.parametrize("called", [VIGIE, os.path.relpath(VIGIE, "/"), "vigie", "/x/vigie/__main__.py"])
def test_the_program_is_named_with_its_full_path(called: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("PATH", os.path.dirname(VIGIE))
    monkeypatch.setattr(sys, "argv", [called])
    assert stage.program() == [VIGIE]


def test_without_a_program_the_module_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/vigie/__main__.py"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert stage.program() == [str(tmp_path / "python"), "-m", "vigie"]


def test_the_function_says_how_far_it_is_and_its_checksum(tmp_path: Path) -> None:
    for n in range(25):
        (tmp_path / str(n)).write_text(str(n))
    said: list[dict[str, Any]] = []
    running = work.checksums(str(tmp_path))
    while True:
        try:
            said.append(next(running))
        except StopIteration as end:
            total = end.value
            break
    assert [one["files"] for one in said][-1] == 25
    assert len(said) == work._REPORTS
    assert total["sha256"] == work.digest(str(tmp_path))
