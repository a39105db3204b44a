"""Functions that tests run as jobs: importable by a worker, and harmless."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def double(n: int) -> int:
    return 2 * n


def add(*values: int) -> int:
    return sum(values)


def fail(message: str) -> None:
    raise ValueError(message)


def witness(path: str, line: str) -> str:
    """Append one line in one write, as every attempt of a torture run does."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, (line + "\n").encode())
    finally:
        os.close(fd)
    return line


def until_file(path: str, seconds: float = 60.0) -> float:
    """Run until a file appears."""
    began = time.monotonic()
    while not os.path.exists(path):
        if time.monotonic() - began > seconds:
            raise TimeoutError(path)
        time.sleep(0.005)
    return 1.5


def begin_then_wait(begun: str, end: str) -> str:
    Path(begun).touch()
    until_file(end)
    return "ended"


def flaky(counter: str, times: int) -> int:
    """Fail until it was called so often."""
    with open(counter, "ab+") as file:
        file.write(b".")
        file.flush()
        count = file.tell()
    if count < times:
        raise RuntimeError(f"try {count}")
    return count


def talk() -> Any:
    import logging
    import warnings

    print("printed")
    print("complained", file=sys.stderr)
    warnings.warn("careful", stacklevel=1)
    logging.getLogger("work").error("logged")
    yield {"yielded": 1}
    yield (1, 2)
    print("last")
    return "done"


def exit_process(code: int) -> None:
    os._exit(code)


def leave_child() -> int:
    return subprocess.Popen(["sleep", "300"]).pid


def big(size: int) -> bytes:
    return b"x" * size


def environment(*names: str) -> list[str | None]:
    return [os.environ.get(name) for name in names] + [os.getcwd()]


def speak_and_fail_once(tried: str) -> str:
    """Leave a record, and fail at the first try."""
    print("spoken")
    if os.path.exists(tried):
        return "second"
    Path(tried).touch()
    raise RuntimeError("first")


def with_a_child(begun: str) -> None:
    """Start a process that would outlive its worker, and wait for its end."""
    child = subprocess.Popen(["sleep", "600"])
    Path(begun).touch()
    child.wait()
