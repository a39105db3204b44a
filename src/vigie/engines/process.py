"""One worker process of the caller: how it is started, spoken to, and always ended.

Nothing is forked: a worker is the caller's Python, run anew (``worker.py --map``), in a
session of its own, so that it ends with whatever it has started.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from typing import Any

import vigie
from vigie import frames, pidfd
from vigie.engines.ledger import Ledger
from vigie.workfiles import Page

__all__ = ["READ", "WRITE", "WorkerProcess"]

WORKER = os.path.join(os.path.dirname(os.path.abspath(vigie.__file__)), "worker.py")
#: A worker's page, and the journal of results behind it.
PAGE = 4096 + (1 << 20)
#: Seconds for a worker that has closed its end of the line to end.
PATIENCE = 1.0
#: Numeric libraries start a thread for each core, in each of our workers.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
#: Bytes that are read at a time: what a buffer of the allocator's own holds, for larger ones the system is asked each time.
_READ = 60_000
#: Descriptors that may come with one message, at most.
_MOST_FDS = 64

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class WorkerProcess:
    """A worker process, as its caller sees it.

    Raises
    ------
    OSError
        It cannot be started: no process, no descriptor or no memory more.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        with contextlib.ExitStack() as undo:
            self._launch(undo)
            undo.pop_all()
        #: Tells of its end even if something that an item started holds the other end of the line; None on old systems.
        self.pidfd = pidfd.open_pid(self._popen.pid)
        self._decoder = frames.Decoder()
        self._out: deque[tuple[memoryview, int]] = deque()
        #: Descriptors that have come, for the frames that speak of them.
        self.segments: deque[int] = deque()
        self.events = READ
        self.books = Ledger(number, self.page)
        self.ready = False
        self.leaving = False
        #: Since when it has had nothing to do (monotonic s).
        self.idle_since = time.monotonic()

    def _launch(self, undo: contextlib.ExitStack) -> None:
        """Start the process; ``undo`` closes what was opened for it, should that fail."""
        self.sock, theirs = socket.socketpair()
        undo.callback(self.sock.close)
        with theirs:
            self.page = Page.anonymous(PAGE)
            undo.callback(self.page.close)
            life, self._lifeline = os.pipe()
            undo.callback(os.close, self._lifeline)
            try:
                self._popen = _popen((theirs.fileno(), self.page.fileno(), life))
            finally:
                os.close(life)
        self.sock.setblocking(False)

    @property
    def pid(self) -> int:
        """The number of the process, which is that of its session."""
        return self._popen.pid

    # --- talk -------------------------------------------------------------------

    def send(self, header: dict[str, Any], blobs: Sequence[bytes] = (), segment: int = -1) -> None:
        """Send a frame, and a descriptor, which is ours to close; what does not go now, :meth:`flush` sends."""
        self._out.append((memoryview(frames.encode(header, blobs)), segment))
        self.flush()

    def send_frame(self, frame: bytes) -> None:
        """Send a frame that is made already."""
        self._out.append((memoryview(frame), -1))
        self.flush()

    def flush(self) -> int:
        """Send what goes now; give what to wait for on the socket."""
        try:
            while self._out:
                data, segment = self._out[0]
                sent = self.sock.send(data) if segment < 0 else _send_fd(self.sock, data, segment)
                if segment >= 0:
                    os.close(segment)
                if sent == len(data):
                    self._out.popleft()
                else:
                    self._out[0] = data[sent:], -1
        except BlockingIOError:
            pass
        except OSError:
            self._drop()  # it is dead: its end of the line says so
        return READ | (WRITE if self._out else 0)

    def _drop(self) -> None:
        for _, segment in self._out:
            if segment >= 0:
                os.close(segment)
        self._out.clear()

    def receive(self) -> list[frames.Frame] | None:
        """Give what it has said; None if its end of the line is closed."""
        data = self._read()
        if data is None:
            return []
        return self._decoder.feed(data) if data else None

    def remaining(self) -> list[frames.Frame]:
        """Give all that it has said, once it is dead."""
        said: list[frames.Frame] = []
        while data := self._read():
            said += self._decoder.feed(data)
        return said

    def _read(self) -> bytes | None:
        """Read what is there: nothing at the end of the line, None if it says nothing now."""
        try:
            data, ancillary, _, _ = self.sock.recvmsg(_READ, socket.CMSG_LEN(4 * _MOST_FDS), _CLOEXEC)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array("i")
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
                self.segments.extend(found)
        return data

    # --- its end ----------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Signal its whole session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)

    def ended(self) -> int:
        """Wait for it as it is ending, end whatever it has started, and give its status."""
        if hasattr(os, "waitid"):
            # Not reaped yet, so that its number, which is its session's, cannot be anybody else's.
            until = time.monotonic() + PATIENCE
            while os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                if time.monotonic() > until:
                    break
                time.sleep(0.0005)
        self.signal(signal.SIGKILL)
        return self._popen.wait()

    def close(self) -> None:
        """Let go of everything that led to it."""
        self._drop()
        while self.segments:
            os.close(self.segments.popleft())
        self.sock.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
        os.close(self._lifeline)
        self.page.close()


_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def _send_fd(sock: socket.socket, data: memoryview, fd: int) -> int:
    return sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]))])


def _popen(fds: tuple[int, int, int]) -> subprocess.Popen[bytes]:
    words = [sys.executable, WORKER, "--map", *map(str, fds)]
    env = {**dict.fromkeys(THREADS, "1"), **os.environ, "VIGIE_MAP_WORKER": "1"}
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=fds, env=env, start_new_session=True)
