"""What the tests of pools share: the kinds of workers, calls that wait for a word, programs of their own."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vigie
from conftest import until
from map_workers import children, descriptors
from vigie.engines.interpreters import there
from work import begin_then_wait

CREWS = ["processes", "threads", *(["interpreters"] if there() else [])]
#: CPython 3.14 dies of a fork while another interpreter runs.
FORKED = ["processes", "threads"]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("vigie-")]


def segments() -> int:
    """Count the mappings of shared memory."""
    return Path("/proc/self/maps").read_text().count("memfd:")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = descriptors(), segments()
    yield
    gc.collect()
    assert until(lambda: not threads()), threads()
    assert until(lambda: not children()), children()
    assert (descriptors(), segments()) == before


_gates = itertools.count()


def behind(pool: vigie.Pool, tmp_path: Path, count: int) -> tuple[Path, list[Any]]:
    """Have calls run until the file is there that is given."""
    go = tmp_path / f"go-{next(_gates)}"
    futures = [pool.submit(begin_then_wait, f"{go}-{number}", str(go)) for number in range(count)]
    until(lambda: all(os.path.exists(f"{go}-{number}") for number in range(count)))
    return go, futures


def run(tmp_path: Path, text: str, *words: str) -> tuple[str, str]:
    script = tmp_path / "script.py"
    script.write_text(text)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(script), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout, done.stderr
