"""How a worker process of the caller is started: with a socket, a page and a lifeline.

Nothing is forked: a worker is the caller's Python, run anew (``worker.py --map``), in a
session of its own, so that it ends with whatever it has started. It needs a moment to
come up, in which the caller may load the rest of us.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys

import vigie
from vigie.workfiles import Page

__all__ = ["Launched"]

WORKER = os.path.join(os.path.dirname(os.path.abspath(vigie.__file__)), "worker.py")
#: A worker's page, and the journal of results behind it.
PAGE = 4096 + (1 << 20)
#: Numeric libraries start a thread for each core, in each of our workers.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Launched:
    """A worker process that was started, and all that leads to it.

    Raises
    ------
    OSError
        It cannot be started: no process, no descriptor or no memory more.
    """

    def __init__(self) -> None:
        with contextlib.ExitStack() as undo:
            self.sock, theirs = socket.socketpair()
            undo.callback(self.sock.close)
            with theirs:
                self.page = Page.anonymous(PAGE)
                undo.callback(self.page.close)
                life, self.lifeline = os.pipe()
                undo.callback(os.close, self.lifeline)
                try:
                    self.popen = _popen((theirs.fileno(), self.page.fileno(), life))
                finally:
                    os.close(life)
            undo.pop_all()
        self.sock.setblocking(False)

    def signal(self, number: int) -> None:
        """Signal its whole session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, number)

    def close(self) -> None:
        """Let go of everything that leads to it."""
        self.sock.close()
        os.close(self.lifeline)
        self.page.close()

    def discard(self) -> None:
        """End it, as one that nobody needs."""
        self.signal(signal.SIGKILL)
        self.popen.wait()
        self.close()


def _popen(fds: tuple[int, int, int]) -> subprocess.Popen[bytes]:
    words = [sys.executable, WORKER, "--map", *map(str, fds)]
    env = {**dict.fromkeys(THREADS, "1"), **os.environ, "VIGIE_MAP_WORKER": "1"}
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=fds, env=env, start_new_session=True)
