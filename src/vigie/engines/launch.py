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

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

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

#: All that are not closed.
_all: set[Launched] = set()


class Launched:
    """A worker process that was started, and all that leads to it.

    Raises
    ------
    OSError
        It cannot be started: no process, no descriptor or no memory more.
    """

    def __init__(self) -> None:
        opened: list[int] = []
        try:
            for made in (_pair, lambda: (_memory(),), os.pipe):
                for fd in made():
                    opened.append(_above(fd))
            self._sock, theirs_, self._page, life, self._lifeline = opened
            self.pid = _spawn((theirs_, self._page, life))
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise
        os.close(theirs_)
        os.close(life)
        self._status: int | None = None
        _all.add(self)

    def line(self) -> socket.socket:
        """Give the socket that leads to it; once."""
        import socket

        sock, self._sock = socket.socket(fileno=self._sock), -1
        sock.setblocking(False)
        return sock

    def page(self) -> Page:
        """Give its page; once."""
        from vigie.workfiles import Page

        page, self._page = Page.made(self._page), -1
        return page

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
        _all.discard(self)
        for fd in (self._sock, self._page, self._lifeline):
            if fd >= 0:
                os.close(fd)
        self._sock = self._page = self._lifeline = -1

    def discard(self) -> None:
        """End it, as one that nobody needs."""
        self.signal(_SIGKILL)
        self.wait()
        self.close()


def _forked() -> None:
    """Let go, in a child, of what would keep workers alive when their caller is gone."""
    for launched in _all:
        os.close(launched._lifeline)
        launched._lifeline = -1
    _all.clear()


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


def _memory() -> int:
    """Make memory without a name, for the page."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("vigie-page", os.MFD_CLOEXEC)
    import tempfile

    fd, path = tempfile.mkstemp()
    os.unlink(path)
    return fd


def _spawn(fds: tuple[int, int, int]) -> int:
    words = [sys.executable, WORKER, "--map", *map(str, fds)]
    env = {**dict.fromkeys(THREADS, "1"), **os.environ, "VIGIE_MAP_WORKER": "1"}
    if sys.platform == "linux":
        # Duplicated onto itself a descriptor is inherited. The worker closes whatever else it got.
        actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in fds]  # type: ignore[misc]  # another kind of action
        return os.posix_spawn(
            sys.executable, words, env, file_actions=actions, setsid=True, setsigdef=(_SIGPIPE, _SIGXFSZ)
        )
    import subprocess

    popen = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=fds, env=env, start_new_session=True)
    popen.returncode = 0  # it is waited for here, and not there
    return popen.pid
