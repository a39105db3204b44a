"""A resume journal that was cut at every byte, flipped, mixed up: it holds what was whole, or is refused."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resume_journals import FUNCTION, batches, holds, key, open_, path, value  # noqa: F401 - fixtures
from vigie.errors import VigieError
from vigie.parallel import journal as module
from vigie.parallel.journal import Journal


@pytest.mark.slow
def test_a_file_that_was_cut_at_any_byte_holds_the_records_before(path: Path) -> None:
    ends = batches(path, 3, 1, 4)
    data = path.read_bytes()
    assert ends[-1] == len(data)
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        with Journal.open(path, function=FUNCTION) as journal:
            whole = sum(end <= size for end in ends)
            assert holds(journal) == whole
            journal.add(key(whole), value(whole))
        with Journal.open(path, function=FUNCTION) as journal:
            assert holds(journal) == whole + 1
            assert not journal.changed


@pytest.mark.slow
def test_a_flipped_bit_is_refused_or_cuts_what_was_saved_last(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "fsync", lambda fd: None)
    ends = batches(path, 3, 1, 4)
    data = path.read_bytes()
    last = ends[3]  # where the mark of the last batch is
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        if at < last:
            with pytest.raises(VigieError) as refused:
                Journal.open(path, function=FUNCTION)
            assert "damaged" in str(refused.value)
            assert refused.value.hint == "fresh=True forgets all that it holds"
            assert path.read_bytes() == damaged
        else:
            with Journal.open(path, function=FUNCTION) as journal:
                assert holds(journal) == max(4, sum(end <= at for end in ends))


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_done_to_a_file_it_holds_a_prefix_or_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = Path(tempfile.mkdtemp(dir=tmp_path), "name")
    counts = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    batches(path, *counts)
    content = bytearray(path.read_bytes())
    for at, bit in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 7)), max_size=6)):
        content[at] ^= 1 << bit
    begin = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(begin, len(content)))
    how = data.draw(st.sampled_from(["nothing", "zeros", "gone", "twice", "garbage"]))
    if how == "zeros":
        content[begin:end] = bytes(end - begin)
    elif how == "gone":
        del content[begin:end]
    elif how == "twice":
        content[end:end] = content[begin:end]
    elif how == "garbage":
        content += data.draw(st.binary(max_size=200))
    path.write_bytes(content)
    try:
        journal = Journal.open(path, function=FUNCTION)
    except VigieError:
        with Journal.open(path, function=FUNCTION, fresh=True) as journal:
            assert len(journal) == 0
        return
    with journal:
        held = holds(journal)
        assert held <= sum(counts)
        journal.add(key(held), value(held))
    with Journal.open(path, function=FUNCTION) as journal:
        assert holds(journal) == held + 1


@pytest.mark.parametrize("tail", [bytes(1), bytes(31), bytes(32), bytes(5000), b"\xff" * 40, b"vigie-rj" * 9])
def test_what_a_power_cut_left_behind_the_end_is_cut_off(path: Path, tail: bytes) -> None:
    end = batches(path, 2, 2)[-1]
    with open(path, "ab") as file:
        file.write(tail)
    with Journal.open(path, function=FUNCTION) as journal:
        assert holds(journal) == 4
        assert path.stat().st_size == end


@pytest.mark.parametrize("content", [b"\0", bytes(32), bytes(9000), b"vig", b"vigie-rj", b"vigie-rj" + b"x" * 23])
def test_a_header_that_never_came_to_the_disk_is_an_empty_journal(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with Journal.open(path, function=FUNCTION) as journal:
        assert len(journal) == 0
        journal.add(key(0), value(0))
    with Journal.open(path, function=FUNCTION) as journal:
        assert holds(journal) == 1


@pytest.mark.parametrize("content", [b"x", b"my thesis\n" * 100, b"vigie-rj" + b"x" * 24, b"vigie-sj"])
def test_a_file_that_is_none_is_left_alone_unless_it_may_be_forgotten(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(VigieError, match="does not begin as a resume journal does"):
        Journal.open(path, function=FUNCTION)
    assert path.read_bytes() == content
    with Journal.open(path, function=FUNCTION, fresh=True) as journal:
        assert len(journal) == 0
    with Journal.open(path, function=FUNCTION) as journal:
        assert not journal.changed


@pytest.mark.parametrize("content", [bytes(32), b"vigie-rj" + bytes(24), bytes(64)])
def test_a_header_that_was_lost_with_saves_behind_it_is_damage(path: Path, content: bytes) -> None:
    batches(path, 2, 2)
    with open(path, "r+b") as file:
        file.write(content)
    damaged = path.read_bytes()
    with pytest.raises(VigieError, match="it is damaged, or none"):
        Journal.open(path, function=FUNCTION)
    assert path.read_bytes() == damaged


def test_a_newer_version_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERSION", 2)
    batches(path, 2)
    monkeypatch.undo()
    content = path.read_bytes()
    with pytest.raises(VigieError, match="has version 2, and this Vigie knows 1"):
        Journal.open(path, function=FUNCTION)
    assert path.read_bytes() == content


def test_fresh_forgets(path: Path) -> None:
    batches(path, 3, 3)
    with Journal.open(path, function="3.11:bb", fresh=True) as journal:
        assert (len(journal), journal.changed) == (0, False)
    with Journal.open(path, function="3.11:bb") as journal:
        assert (len(journal), journal.changed) == (0, False)


def test_a_record_of_another_file_is_none_of_this_one(path: Path, tmp_path: Path) -> None:
    batches(path, 1)
    batches(tmp_path / "other", 2)
    end = path.stat().st_size
    with open(path, "ab") as file:
        file.write((tmp_path / "other").read_bytes()[end:])
    with Journal.open(path, function=FUNCTION) as journal:
        assert holds(journal) == 1


@pytest.mark.parametrize("at", [0, 4, 8, 11, 15, 20, 33])
def test_a_value_is_verified_when_it_is_read(path: Path, open_: Callable[..., Journal], at: int) -> None:
    begin = batches(path, 3)[1]
    journal = open_(path)
    with open(path, "r+b") as file:
        file.seek(begin + at)
        file.write(b"\xff")
    assert [journal.value(key(number)) for number in (0, 1)] == [value(0), value(1)]
    with pytest.raises(VigieError, match=f"was damaged at byte {begin} since it was opened"):
        journal.value(key(2))
    os.truncate(path, begin + 5)
    with pytest.raises(VigieError, match="damaged"):
        journal.value(key(2))
