"""What the benches of parallel runs call, in workers that import it by name; standard library only."""

from __future__ import annotations

import os
import time
from typing import Any

#: Names how often the loop of ``spin`` turns in 100 µs: found out once, so that all sides do the same work.
VARIABLE = "VIGIE_BENCH_TURNS"
TURNS = int(os.environ.get(VARIABLE, "5000"))


def spin(turns: int) -> None:
    """Keep a core busy: by a count and not by a clock, which runs on while another has the core."""
    for _ in range(turns):
        pass


def busy(item: int) -> int:
    """Take about 100 µs of a core."""
    spin(TURNS)
    return item


def same(item: int) -> int:
    """Do nothing."""
    return item


def mixed(ms: int) -> int:
    """Sleep for some ms; take about 1 µs of a core for none."""
    if ms:
        time.sleep(ms / 1000)
    else:
        spin(TURNS // 100)
    return ms


def wait(ms: int) -> int:
    """Wait for some ms."""
    time.sleep(ms / 1000)
    return ms


def look(item: tuple[Any, int]) -> int:
    """Read a number in each page of an array of 8-byte numbers: whatever was put off is done here."""
    array, number = item
    return int(array[::512].sum()) + number


def look_at_bytes(item: tuple[bytes, int]) -> int:
    """Read a byte of each page."""
    data, number = item
    return sum(data[::4096]) + number
