"""A child of the keeper, and how one is found whose beginning nobody wrote down."""

from __future__ import annotations

import os
import time

from vigie import procs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess

    from vigie.procs import Identity

__all__ = ["Child", "find_begun"]


class Child:
    """A living process and what is held for it."""

    __slots__ = ("fd", "identity", "lane", "mark", "popen")

    def __init__(
        self, mark: str, identity: Identity, fd: int | None, popen: subprocess.Popen[bytes] | None = None,
        lane: str | None = None,
    ) -> None:  # fmt: skip
        self.mark = mark
        self.lane = lane
        self.identity = identity
        self.fd = fd
        # A Popen that is dropped before its end would warn, and wait by itself.
        self.popen = popen


def find_begun(mark: str, since: int) -> Identity | None:
    """Find the process of a ``begin`` whose keeper died before it could write ``started``.

    Between vfork and exec a child still looks like that keeper; such a twin of
    ours is waited for, at most a second, because it will carry the mark then.
    """
    deadline = time.monotonic() + 1
    while True:
        found = procs.find_mark(mark, since)
        if found is not None or time.monotonic() > deadline or not procs.twins(os.getpid()):
            return found
        time.sleep(0.005)
