"""The agent's own eyes on attempts, for the case that the keeper dies.

Of each attempt the agent holds a pidfd. Orphans of a dead keeper come to us, and
the kernel tells the exit status to whoever held a pidfd; so the keeper's
death alone costs no exit code.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from vigie import procs
from vigie.procs import Identity

__all__ = ["Watch", "exit_fields"]


#: Orphans that are remembered.
MOST = 1_000


def exit_fields(status: int) -> dict[str, Any]:
    """Give a wait status as the keeper would say it.

    >>> exit_fields(7 << 8)
    {'exit_code': 7, 'signal': None, 'core': False}
    """
    if os.WIFSIGNALED(status):
        return {"exit_code": None, "signal": os.WTERMSIG(status), "core": os.WCOREDUMP(status)}
    return {"exit_code": os.waitstatus_to_exitcode(status), "signal": None, "core": False}


class Watch:
    """Pidfds and identities by mark."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Identity, int | None]] = {}
        #: How orphans ended that came to us, the oldest first: of some we hear only later which attempt they were.
        self._reaped: dict[Identity, int] = {}

    def follow(self, mark: str, pid: int, start_ticks: int) -> None:
        """Open a pidfd of an attempt that began, or whose main process is another now."""
        identity = Identity(pid, start_ticks)
        known = self._known.get(mark)
        if known is None or known[0] != identity:
            if known is not None and known[1] is not None:
                os.close(known[1])
            try:
                fd = procs.open_pidfd(identity)
            except OSError:  # no descriptor left to make sure by: the keeper knows it still
                fd = None
            self._known[mark] = (identity, fd)

    def identity(self, mark: str) -> Identity | None:
        """Give the main process of an attempt."""
        known = self._known.get(mark)
        return None if known is None else known[0]

    def forget(self, mark: str) -> None:
        """Close what was held of an attempt."""
        known = self._known.pop(mark, None)
        if known is not None:
            if known[1] is not None:
                os.close(known[1])
            self._reaped.pop(known[0], None)

    def reap(self) -> None:
        """Reap orphans that came to us, and remember how they ended."""
        with contextlib.suppress(ChildProcessError):
            while (orphan := self._reap_one()) is not None:
                identity, status = orphan
                if identity is not None:
                    self._reaped[identity] = status
                if len(self._reaped) > MOST:
                    del self._reaped[next(iter(self._reaped))]

    def _reap_one(self) -> tuple[Identity | None, int] | None:
        """Reap one; give who it was, if that can be told, and how it ended; None if nobody has."""
        if not hasattr(os, "waitid"):
            pid, status = os.waitpid(-1, os.WNOHANG)
            ours = (identity for identity, _ in self._known.values() if identity.pid == pid)
            return (next(ours, None), status) if pid else None
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        # While it is not reaped its number is its own: orphans of orphans come as well, and numbers are given again.
        ticks = procs.start_ticks(found.si_pid)
        _, status = os.waitpid(found.si_pid, 0)
        return (None if ticks is None else Identity(found.si_pid, ticks)), status

    def learn(self, mark: str) -> dict[str, Any] | None:
        """Give how an attempt ended if we know it by ourselves, else None."""
        known = self._known.get(mark)
        if known is None:
            return None
        self.reap()
        identity, fd = known
        status = procs.exit_status(identity, fd)
        if status is None:
            status = self._reaped.get(identity)
        return None if status is None else exit_fields(status)
