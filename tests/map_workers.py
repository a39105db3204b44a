"""What tests of parallel runs ask of the system: which workers live, and whether anything is left behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import until


def children() -> set[int]:
    """Give our own children that are workers of a run."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return {pid for pid in found if b"--map" in words(pid)}


def words(pid: int) -> bytes:
    """Give the words of a process; nothing if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def descriptors() -> int:
    """Give how many descriptors we have."""
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """See that a test leaves no worker and no descriptor."""
    before = descriptors()
    yield
    assert until(lambda: not children()), children()
    assert descriptors() <= before + 1
