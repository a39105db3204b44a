"""The keeper's journal: what a successor learns from any prefix of it."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.keeper_journal import Journal, entry, replay

MARKS = st.sampled_from(["1.1", "1.2", "2.1", "w.1"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["begin", "started", "failed", "lost", "ended"]), MARKS),
        st.tuples(st.just("forget"), st.lists(MARKS, max_size=3)),
    ),
    max_size=30,
)
ORDER = {"begin": 0, "started": 1, "failed": 2, "lost": 2, "ended": 3}


def line(kind: str, about: str | list[str], number: int) -> bytes:
    if kind == "forget":
        return entry("forget", marks=about)
    return entry(kind, mark=about, **{kind: number})


def model(steps: list[tuple[str, str | list[str]]]) -> dict[str, str]:
    """An independent reading: the latest stage of each mark since it was forgotten."""
    said: dict[str, str] = {}
    for kind, about in steps:
        if isinstance(about, list):
            said = {mark: stage for mark, stage in said.items() if mark not in about}
        elif about not in said or ORDER[kind] > ORDER[said[about]]:
            said[about] = kind
    return said


@given(STEPS, st.data())
def test_any_prefix_says_what_its_whole_lines_say(
    steps: list[tuple[str, str | list[str]]], data: st.DataObject
) -> None:
    lines = [line(kind, about, number) for number, (kind, about) in enumerate(steps)]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    count, size = 0, 0
    while count < len(lines) and size + len(lines[count]) <= cut:
        size += len(lines[count])
        count += 1
    state = replay(whole[:cut])
    assert {mark: said["k"] for mark, said in state.marks.items()} == model(steps[:count])
    assert (state.good, state.lines) == (size, count)


@given(STEPS, st.integers(0, 30))
def test_a_successor_continues_where_a_torn_journal_ends(steps: list[tuple[str, str | list[str]]], torn: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "journal")
        journal = Journal(path, "boot")
        for number, (kind, about) in enumerate(steps):
            if isinstance(about, list):
                journal.forget(about)
            else:
                journal.append(kind, mark=about, number=number)
        before = dict(journal.marks)
        journal.close()
        with open(path, "ab") as file:
            file.write(entry("ended", mark="9.9", pid=1)[: -1 - torn])
        journal = Journal(path, "boot")
        assert journal.marks == before
        journal.append("begin", mark="7.7")
        journal.close()
        journal = Journal(path, "boot")
        assert journal.marks == {**before, "7.7": {"k": "begin", "mark": "7.7"}}
        journal.close()


@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(data: bytes) -> None:
    assert replay(data + b"\n" + entry("begin", mark="1.1")).marks["1.1"]["k"] == "begin"


def test_an_end_keeps_the_beginning() -> None:
    data = entry("started", mark="1.1", pid=7, at=1) + entry("ended", mark="1.1", exit_code=0)
    assert replay(data).marks["1.1"] == {"k": "ended", "mark": "1.1", "pid": 7, "at": 1, "exit_code": 0}


def test_lines_that_are_no_entry_say_nothing() -> None:
    noise = b'\0\0\0\n[]\n{"k":"begin"}\n{"k":"begin","mark":7}\n{"k":"of the future","mark":"1.1"}\n{"k":[]}\n'
    state = replay(noise + b'{"k":"forget"}\n{"k":"forget","marks":[[1]]}\n')
    assert state.marks == {}
    assert state.boot is None


def test_the_file_is_private_and_begins_with_the_boot(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(str(path), "this boot").close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_bytes()) == {"k": "boot", "boot": "this boot"}


def test_another_boot_loses_what_had_not_ended(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    journal = Journal(path, "first")
    for mark, kind in (("1.1", "begin"), ("2.1", "started"), ("3.1", "ended"), ("4.1", "failed")):
        journal.append(kind, mark=mark)
    journal.close()
    journal = Journal(path, "second")
    said = {mark: one["k"] for mark, one in journal.marks.items()}
    assert said == {"1.1": "lost", "2.1": "lost", "3.1": "ended", "4.1": "failed"}
    journal.close()
    journal = Journal(path, "second")
    assert {mark: one["k"] for mark, one in journal.marks.items()} == said
    journal.close()


def test_it_is_rewritten_when_most_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(str(path), "boot")
    journal.append("started", mark="keep", pid=5)
    largest = 0
    for number in range(2000):
        journal.append("begin", mark=str(number))
        journal.append("ended", mark=str(number))
        journal.forget([str(number), "unknown"])
        largest = max(largest, path.stat().st_size)
    assert largest < 40_000
    assert journal.lines < 600
    assert journal.marks == {"keep": {"k": "started", "mark": "keep", "pid": 5}}
    journal.close()
    again = Journal(str(path), "boot")
    assert again.marks == {"keep": {"k": "started", "mark": "keep", "pid": 5}}
    again.close()
    assert os.listdir(tmp_path) == ["journal"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 5])
def test_a_full_disk_leaves_no_half_line(tmp_path: Path, room: int) -> None:
    path = tmp_path / "journal"
    journal = Journal(str(path), "boot")
    journal.append("begin", mark="1.1")
    good = path.read_bytes()
    with largest_file(len(good) + room), pytest.raises(OSError):
        journal.append("started", mark="1.1", pid=3)
    assert path.read_bytes() == good
    assert journal.marks["1.1"]["k"] == "started"
    with largest_file(5), pytest.raises(OSError):
        journal.compact()
    assert path.read_bytes() == good
    # Once there is room, what only memory knew is written.
    journal.compact()
    journal.append("begin", mark="2.1")
    journal.close()
    again = Journal(str(path), "boot")
    assert {mark: one["k"] for mark, one in again.marks.items()} == {"1.1": "started", "2.1": "begin"}
    again.close()
