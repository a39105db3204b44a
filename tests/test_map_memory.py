"""Parallel runs that want more memory than there is."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import vigie
from vigie.engines import oom
from vigie.errors import UsageError, WorkerDied

pytestmark = pytest.mark.slow


def test_an_item_that_wants_too_much_gets_an_error_and_the_others_their_values() -> None:
    found = list(
        vigie.map(lambda size: len(bytearray(size)), [10, 2_000_000_000, 20], memory_limit="1GB", errors="collect")
    )
    assert [one.value for one in found] == [10, None, 20]
    assert isinstance(found[1].error, MemoryError)


def fills(number: int) -> int:
    if number == 1:
        pieces = []
        while True:
            pieces.append("x" * 1000)
    return number


def test_one_that_fills_it_in_small_pieces_does_too() -> None:
    found = list(vigie.map(fills, range(3), memory_limit="150MB", limit=1, errors="collect"))
    assert [one.value for one in found] == [0, None, 2]
    assert isinstance(found[1].error, MemoryError)


def test_an_item_may_be_larger_than_the_limit() -> None:
    items = [b"", bytes(200_000_000), b"x"]
    found = list(vigie.map(len, items, memory_limit="100MB", limit=1, errors="collect"))
    assert [one.value for one in found] == [0, None, 1]
    assert isinstance(found[1].error, MemoryError)


def test_the_limit_is_for_processes() -> None:
    with pytest.raises(UsageError, match="memory_limit is for processes"):
        vigie.map(abs, [1], on="threads", memory_limit="1GB")


@pytest.fixture
def counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's count, which an item raises as the kernel does when it kills: no test takes the machine's memory."""
    path = tmp_path / "vmstat"
    path.write_text("pgfault 5\noom_kill 0\n")
    monkeypatch.setattr(oom, "COUNTS", str(path))
    return path


def test_who_was_killed_for_memory_is_tried_again_alone(counts: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def heavy(number: int) -> int:
        with open(log, "a") as file:
            file.write(f"{number} begins\n")
        if number == 3 and counts.read_text().endswith(" 0\n"):
            counts.write_text("oom_kill 1\n")
            os.kill(os.getpid(), signal.SIGKILL)
        with open(log, "a") as file:
            file.write(f"{number} ends\n")
        return number

    assert list(vigie.map(heavy, range(8), limit=2)) == list(range(8))
    lines = log.read_text().splitlines()
    again = len(lines) - 1 - lines[::-1].index("3 begins")
    running = [line.split()[0] for line in lines[:again] if line.endswith("begins")]
    for line in lines[:again]:
        if line.endswith("ends"):
            running.remove(line.split()[0])
    assert running == ["3"], f"others ran beside it: {lines}"
    assert lines[again + 1] == "3 ends"
    # One worker fewer from then on: nothing overlaps.
    after = lines[again:]
    assert [line.split()[1] for line in after] == ["begins", "ends"] * (len(after) // 2)


def test_who_is_killed_for_memory_alone_as_well_has_failed(counts: Path) -> None:
    def greedy(number: int) -> Any:
        if number == 1:
            kills = int(counts.read_text().split()[-1])
            counts.write_text(f"oom_kill {kills + 1}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    found = list(vigie.map(greedy, range(4), limit=2, errors="collect"))
    assert [one.value for one in found] == [0, None, 2, 3]
    assert isinstance(found[1].error, WorkerDied)
    assert "out of memory" in str(found[1].error)
    assert counts.read_text() == "oom_kill 2\n"


def test_a_worker_killed_otherwise_is_no_matter_of_memory(counts: Path) -> None:
    found = list(vigie.map(lambda _: os.kill(os.getpid(), signal.SIGKILL), range(2), errors="collect"))
    assert all("killed by SIGKILL" in str(one.error) for one in found)
