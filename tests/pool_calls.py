"""Functions that tests of pools call: a worker, or an interpreter, that imports them loads next to nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import vigie


def fail(how: str) -> Any:
    if how == "text":
        raise KeyError("a")
    if how == "exit":
        sys.exit(3)
    return threading.Lock() if how == "lock" else [].pop()


def named() -> dict[str, Any]:
    return {"pid": os.getpid(), "thread": threading.get_ident()}


def seen() -> bool:
    return bool(vigie.state.pid == os.getpid() and vigie.state.thread == threading.get_ident())


def other() -> Any:
    return vigie.state.other


def fails() -> None:
    raise ValueError("no such disk")


def fate(number: int, how: str, log: str) -> Any:
    """Note that it ran, and end as it is told."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"%d\n" % number)
    os.close(fd)
    if how == "raise":
        raise KeyError(number)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(7)
    if how in ("hang", "stop"):
        time.sleep(60)
    if how == "large":
        return b"a" * (2 << 20)
    if how == "nap":
        time.sleep(0.002)
    return number


def nested(count: int) -> int:
    with vigie.Pool(2) as inner:
        return sum(inner.map(abs, range(count)))


def mapped(count: int) -> int:
    return sum(vigie.map(abs, range(count), limit=1))
