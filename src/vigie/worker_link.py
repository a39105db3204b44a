"""The worker's connection to the agent. The worker loads this file by path.

Outcomes gather here and go out in groups: at once when the worker has nothing else
to do, else after 10 to 20 ms.
"""

from __future__ import annotations

import os
import socket
import threading
import time

from . import crash, frames, outcome
from .sockets import connect_unix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .outcome import Outcome
    from .worker_streams import Sink

__all__ = ["Flusher", "Link"]

#: Outcomes wait for company this long (ns), or for so many bytes.
LATEST = 15_000_000
_MOST = 4 << 20
#: How much to read at once. For more, malloc maps memory anew each time, which costs ten times the read.
_READ = 1 << 16
_FIRST_WAIT, _LONGEST_WAIT, _GIVE_UP = 0.05, 1.0, 600.0


class Link:
    """The socket, and what waits to be sent.

    Parameters
    ----------
    path:
        The agent's socket, of any length.
    hello:
        What to say first on each connection.
    """

    def __init__(self, path: str, hello: dict[str, Any]) -> None:
        self._path = path
        self._hello = frames.encode(hello)
        self._sock: socket.socket | None = None
        self._decoder = frames.Decoder()
        self._lock = threading.Lock()
        #: Of those that simply returned: their numbers, their blobs.
        self._numbers: list[bytes] = []
        self._bodies: list[bytes] = []
        #: Of the others: their JSON, their blobs.
        self._texts: list[str] = []
        self._blobs: list[bytes] = []
        self._bytes = 0
        #: When the oldest waiting outcome came (monotonic ns); 0 if none waits.
        self.since = 0
        os.register_at_fork(after_in_child=self._close)

    def connect(self, wanted: Callable[[], bool], before: Callable[[], None]) -> bool:
        """Connect, call ``before``, say hello; False after ten minutes or if it is no longer wanted."""
        self._close()
        wait = _FIRST_WAIT
        end = time.monotonic() + _GIVE_UP
        while wanted():
            try:
                sock = connect_unix(self._path)
                before()
                crash.point("worker-before-hello")
                sock.sendall(self._hello)
                crash.point("worker-after-hello")
            except OSError:
                if time.monotonic() > end:
                    return False
                time.sleep(wait)
                wait = min(wait * 1.5, _LONGEST_WAIT)
                continue
            self._decoder = frames.Decoder()
            self._sock = sock
            return True
        return False

    def _close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def receive(self, block: bool) -> list[frames.Frame] | None:
        """Give the frames that came, perhaps none; None if the agent is gone."""
        sock = self._sock
        if sock is None:
            return None
        try:
            data = sock.recv(_READ, 0 if block else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return self._decoder.feed(data) if data else None

    def drop(self) -> None:
        """Let go of a dead connection and what waited for it: that is in the journal."""
        with self._lock:
            self._close()
            self._empty()

    def _empty(self) -> None:
        self._numbers, self._bodies, self._texts, self._blobs = [], [], [], []
        self._bytes = self.since = 0

    def put(self, ended: Outcome) -> None:
        """Let an outcome wait for others."""
        with self._lock:
            if not self.since:
                self.since = ended.at
            if ended.good:
                numbers, body = ended.packed()
                self._numbers.append(numbers)
                self._bodies.append(body)
                self._bytes += len(body)
            else:
                self._texts.append(ended.add_to(self._blobs))
                self._bytes += sum(len(blob) for blob in (ended.result, ended.records, ended.pickle) if blob)
        if self._bytes > _MOST:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        with self._lock:
            if self.since:
                crash.point("worker-before-report")
                text = '{"op":"done","outcomes":[%s]' % ",".join(self._texts)
                blobs = self._blobs
                if self._numbers:
                    text += ',"good":%d' % len(blobs)
                    blobs += [b"".join(self._numbers), b"".join(self._bodies)]
                frame = outcome.named(text + "}", blobs)
                self._empty()
                self._send(frame)

    def say(self, header: dict[str, Any]) -> None:
        """Send a frame, behind what waits."""
        self.flush()
        with self._lock:
            self._send(frames.encode(header))

    def _send(self, frame: bytes) -> None:
        if self._sock is not None:
            try:
                self._sock.sendall(frame)
            except OSError:
                pass  # the next receive sees the end, and the journal has the outcomes


class Flusher(threading.Thread):
    """Looks every 10 ms, while there is work, for what has waited long enough."""

    def __init__(self, sink: Sink, link: Link) -> None:
        super().__init__(name="vigie-flusher", daemon=True)
        self._sink = sink
        self._link = link
        self._busy = False
        self._asleep = False
        self._wake = threading.Event()

    def work(self) -> None:
        """Say that a job may run."""
        self._busy = True
        if self._asleep:
            self._wake.set()

    def rest(self) -> None:
        """Say that no job runs and nothing waits."""
        self._busy = False

    def run(self) -> None:
        idle = 0
        while True:
            if self._busy:
                idle = 0
                self._look()
            else:
                # A while of looking in vain is cheaper than waking up for each lone job.
                idle += 1
                if idle > 100:
                    self._sleep()
                    idle = 0
            time.sleep(0.01)

    def _sleep(self) -> None:
        self._asleep = True
        if not self._busy:
            self._wake.wait()
        self._asleep = False
        self._wake.clear()

    def _look(self) -> None:
        try:
            self._sink.tick()
            since = self._link.since
            if since and time.monotonic_ns() - since > LATEST - 10_000_000:
                self._link.flush()
        except Exception as error:
            # It must not end: partial lines and outcomes would wait for ever.
            os.write(2, f"vigie worker: {error!r}\n".encode())
