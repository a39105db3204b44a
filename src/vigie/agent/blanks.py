"""The duty of using again what silent commands leave: a directory with two empty files.

To make a directory and two files, and to remove them, costs more than all else that
is done for a short command that prints nothing. So they stay for a moment, out of
sight, and the keeper gives them to the next command (``keeper_blank``).
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import deque

from vigie.config import Home

__all__ = ["Blanks"]

#: So many are kept at most, and for so long (s) after the last was left.
MOST = 16
KEEP = 1.0

_PREFIX = "blank-"


class Blanks:
    """Directories of jobs that said nothing.

    Parameters
    ----------
    home:
        Whose jobs; what an agent before us kept is removed.
    loop:
        The agent's, for the time until they are removed.
    """

    def __init__(self, home: Home, loop: asyncio.AbstractEventLoop) -> None:
        self.home = home
        self.loop = loop
        self._left: deque[str] = deque()
        self._count = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._until = 0.0
        for name in os.listdir(home.tmp):
            if name.startswith(_PREFIX):
                shutil.rmtree(os.path.join(home.tmp, name), ignore_errors=True)

    def leave(self, job: int) -> bool:
        """Take the directory of a job that runs no more: two empty files; False if it is not there."""
        directory = self.home.job_dir(job)
        self._count += 1
        kept = os.path.join(self.home.tmp, f"{_PREFIX}{self._count}")
        try:
            os.rename(directory, kept)
        except OSError:
            return False
        self._left.append(kept)
        if len(self._left) > MOST:
            shutil.rmtree(self._left.popleft(), ignore_errors=True)
        self._until = self.loop.time() + KEEP
        if self._alarm is None:
            self._alarm = self.loop.call_at(self._until, self._ring)
        return True

    def take(self) -> str | None:
        """Give the path of one, for the keeper to rename, if there is one."""
        return self._left.pop() if self._left else None

    def clear(self) -> None:
        """Remove them all."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._left:
            shutil.rmtree(self._left.pop(), ignore_errors=True)

    def _ring(self) -> None:
        self._alarm = None
        if self.loop.time() < self._until - 0.001:
            self._alarm = self.loop.call_at(self._until, self._ring)
        else:
            self.clear()
