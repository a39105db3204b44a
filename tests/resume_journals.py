"""What the tests of the resume journal share: records that are told from each other, and programs that have one."""

from __future__ import annotations

import inspect
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vigie.errors import VigieError
from vigie.parallel.journal import Journal

FUNCTION = "3.11:aa"


def key(number: int) -> bytes:
    return struct.pack(">QQ", 7, number)


def value(number: int) -> bytes:
    """Something of another length each time, and told from all others."""
    return b"%d " % number * (number * 7 % 13 + 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "resume" / "name"


@pytest.fixture
def open_() -> Iterator[Callable[..., Journal]]:
    """Open journals that are let go of at the end."""
    opened: list[Journal] = []

    def open_one(path: Path, function: str = FUNCTION, **options: Any) -> Journal:
        opened.append(Journal.open(path, function=function, **options))
        return opened[-1]

    yield open_one
    for journal in opened:
        journal._let_go()


def batches(path: Path, *counts: int) -> list[int]:
    """Write batches of so many records each; give where each of them ends in the file."""
    ends = []
    with Journal.open(path, function=FUNCTION) as journal:
        number = len(journal)
        for count in counts:
            for number in range(number, number + count):  # noqa: B020 - goes on where the last one ended
                journal.add(key(number), value(number))
                ends.append(journal._size + len(journal._buffer))
            number += 1
            journal.sync()
    return ends


def holds(journal: Journal) -> int:
    """Give how many records it holds, which are the first that were written, each whole."""
    assert journal.failed == 0
    for number in range(len(journal)):
        assert journal.value(key(number)) == value(number)
    assert not journal.done(key(len(journal)))
    return len(journal)


def refuses_all(journal: Journal, why: str) -> None:
    """See that whatever it is asked for, it says why it cannot."""
    for call in (
        journal.sync,
        lambda: journal.add(key(1), b""),
        lambda: journal.value(key(0)),
        lambda: journal.done(b""),
    ):
        with pytest.raises(VigieError, match=why):
            call()


@contextmanager
def program(text: str, path: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program that has the journal's path in ``path``, and our keys and values, and kill it at the end."""
    given = "import os, struct, sys\nfrom vigie.parallel.journal import Journal\npath, *words = sys.argv[1:]\n"
    text = given + inspect.getsource(key) + inspect.getsource(value) + text
    live = subprocess.Popen(
        [sys.executable, "-c", text, str(path), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield live
    finally:
        live.kill()
        live.communicate()


def line(live: subprocess.Popen[str]) -> str:
    assert live.stdout is not None
    return live.stdout.readline().strip()
