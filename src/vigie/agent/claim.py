"""Having a home to oneself: its lock and its key, taken before anything large is imported.

Callers that wait for the same agent each start one; those that lose the race for
the lock should cost little.
"""

from __future__ import annotations

import os

from vigie import locks
from vigie.config import Home
from vigie.errors import VigieError

__all__ = ["AlreadyRunning", "make_secret", "take_lock"]


class AlreadyRunning(VigieError):
    """Another agent serves this home."""


def take_lock(home: Home) -> int:
    """Take ``agent.lock`` for this process.

    Raises
    ------
    AlreadyRunning
        When another agent has it; the message names its pid.
    """
    try:
        return locks.take(home.lock)
    except BlockingIOError:
        pid = locks.holder(home.lock) or "unknown"
        raise AlreadyRunning(f"an agent serves {home.root} already: pid {pid}", "vigie agent status") from None


def make_secret(home: Home) -> None:
    """Make the key that signs pickles, if there is none yet."""
    if os.path.exists(home.secret):
        return
    fd = os.open(home.secret + ".part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, os.urandom(32))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(home.secret + ".part", home.secret)
