"""One worker process of the caller: spoken to, listened to, and always ended."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from array import array
from collections import deque
from collections.abc import Sequence
from typing import Any

from vigie import frames, pidfd
from vigie.engines.launch import Launched
from vigie.engines.ledger import Ledger

__all__ = ["READ", "WRITE", "WorkerProcess"]

#: Seconds for a worker that has closed its end of the line to end.
PATIENCE = 1.0
#: Bytes that are read at a time: for a larger buffer the allocator asks the system each time.
_READ = 60_000
#: Descriptors that may come with one message, at most.
_MOST_FDS = 64

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class WorkerProcess:
    """A worker process, as its caller sees it.

    Parameters
    ----------
    number:
        Of the worker, among those of its crew.
    launched:
        It, if it was started already.

    Raises
    ------
    OSError
        It cannot be started.
    """

    def __init__(self, number: int, launched: Launched | None = None) -> None:
        self.number = number
        self._launched = launched or Launched()
        self.pid = self._launched.pid
        with contextlib.ExitStack() as undo:
            undo.callback(self._launched.discard)
            self.page = self._launched.page()
            undo.callback(self.page.close)
            self.sock = self._launched.line()
            undo.callback(self.sock.close)
            #: Tells of its end even if something that an item started holds the other end of the line; None on old
            #: systems.
            self.pidfd = pidfd.open_pid(self.pid)
            undo.pop_all()
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
            data, ancillary, flags, _ = self.sock.recvmsg(_READ, socket.CMSG_LEN(4 * _MOST_FDS), _CLOEXEC)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array("i")
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
                self.segments.extend(found)
        if flags & socket.MSG_CTRUNC:
            self.segments.append(-1)  # there was no room for it among our descriptors
        return data

    # --- its end ----------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Signal its whole session."""
        self._launched.signal(number)

    def ended(self) -> int:
        """Wait for it as it is ending, end whatever it has started, and give its status."""
        until = time.monotonic() + PATIENCE
        # Not reaped yet, so that its number, which is its session's, cannot be anybody else's.
        while self._lives() and time.monotonic() < until:
            time.sleep(0.0005)
        self.signal(signal.SIGKILL)
        return self._launched.wait()

    def _lives(self) -> bool:
        if not hasattr(os, "waitid"):
            return False
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False  # the caller ignores its children

    def close(self) -> None:
        """Let go of everything that led to it."""
        self._drop()
        for segment in self.segments:
            if segment >= 0:
                os.close(segment)
        self.segments.clear()
        if self.pidfd is not None:
            os.close(self.pidfd)
        self.sock.close()
        self.page.close()
        self._launched.close()


_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def _send_fd(sock: socket.socket, data: memoryview, fd: int) -> int:
    return sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]))])
