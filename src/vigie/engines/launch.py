"""How a worker process of the caller is started: with a socket, a page and a lifeline.

Nothing is forked: a worker is the caller's Python, run anew (``worker.py --map``), in a
session of its own, so that it ends with whatever it has started. It needs a moment to
come up, in which the caller loads the rest of us: so next to nothing is loaded here.
"""

from __future__ import annotations

import _socket
import os
import sys

import vigie
from vigie import memfd
from vigie.engines.shield import Shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from vigie.workfiles import Page

__all__ = ["Launched"]

WORKER = os.path.join(os.path.dirname(os.path.abspath(vigie.__file__)), "worker.py")
#: Numeric libraries start a thread for each core, in each of our workers.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_SIGKILL, _SIGPIPE, _SIGXFSZ = 9, 13, 25

#: Of all workers that were started, our ends.
_lifelines: set[int] = set()


class Launched:
    """A worker process that was started, and all that leads to it; it ends with this object, if not before.

    Raises
    ------
    OSError
        It cannot be started: no process, no descriptor or no memory more.
    """

    #: Until it is started.
    _lifeline = -1

    def __init__(self) -> None:
        self._owner = os.getpid()
        with Shield():
            self._open()

    def _open(self) -> None:
        opened: list[int] = []
        try:
            for made in (_pair, lambda: (memfd.create("vigie-page"),), os.pipe):
                for fd in made():
                    opened.append(_above(fd))
            self._sock, theirs, self._page, life, ours = opened
            self.pid = _spawn((theirs, self._page, life))
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise
        self._status: int | None = None
        self._lifeline = ours
        _lifelines.add(ours)
        os.close(theirs)
        os.close(life)

    def line(self) -> socket.socket:
        """Give the socket that leads to it; once."""
        import socket

        sock = socket.socket(fileno=self._sock)
        self._sock = -1
        sock.setblocking(False)
        return sock

    def page(self) -> Page:
        """Give its page; once."""
        from vigie.workfiles import Page

        fd, self._page = self._page, -1  # it is the page's to close, also if that cannot be made
        return Page.made(fd)

    def signal(self, number: int) -> None:
        """Signal its whole session."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def wait(self) -> int:
        """Wait for its end, and give its exit status, negative for a signal; 0 if somebody else has taken it."""
        if self._status is None:
            try:
                self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            except ChildProcessError:
                self._status = 0
        return self._status

    def close(self) -> None:
        """Let go of what leads to it, but for what was given away."""
        _lifelines.discard(self._lifeline)
        for fd in (self._sock, self._page, self._lifeline):
            if fd >= 0:
                os.close(fd)
        self._sock = self._page = self._lifeline = -1

    def discard(self) -> None:
        """End it, as one that nobody needs."""
        self.signal(_SIGKILL)
        self.wait()
        self.close()

    def __del__(self) -> None:
        # An interrupt may come between any two steps of whoever would close it. At the end of the
        # interpreter there is nothing to do that with, and the lifeline ends it.
        if sys is not None and not sys.is_finalizing() and self._lifeline >= 0 and self._owner == os.getpid():
            with Shield():  # nor may another come between these
                self.discard()


def _forked() -> None:
    """Let go, in a child, of what would keep workers alive when their caller is gone."""
    for lifeline in _lifelines:
        os.close(lifeline)
    _lifelines.clear()


os.register_at_fork(after_in_child=_forked)


def _pair() -> tuple[int, int]:
    mine, theirs = _socket.socketpair()
    return mine.detach(), theirs.detach()


def _above(fd: int) -> int:
    """Give a descriptor a number that is no standard stream's, where the caller has closed one of those."""
    if fd > 2:
        return fd
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def _spawn(fds: tuple[int, int, int]) -> int:
    words = [sys.executable, WORKER, "--map", *map(str, fds)]
    env = {**dict.fromkeys(THREADS, "1"), **os.environ, "VIGIE_MAP_WORKER": "1"}
    if sys.platform == "linux":
        # Duplicated onto itself a descriptor is inherited. The worker closes whatever else it got.
        actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in fds]
        return os.posix_spawn(
            sys.executable, words, env, file_actions=actions, setsid=True, setsigdef=(_SIGPIPE, _SIGXFSZ)
        )
    import subprocess

    popen = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=fds, env=env, start_new_session=True)
    popen.returncode = 0  # it is waited for here, and not there
    return popen.pid
