"""The worker's other life: items of a parallel run in the foreground, for whoever started it.

No agent and no store: the socket leads to the caller's process. The page tells it
which item runs and since when, and lets it take back what has not begun; behind the
page lies a journal in memory, in which results outlive the worker's death until they
are sent. See "Caller and map worker" in docs/explanation/internals.md.

Standard library only; the worker loads this file by path.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import struct
import sys
import threading
import time

from . import callables, frames, payload
from .workfiles import Page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ERROR", "VALUE", "ends", "main"]

#: Before the pickle of each item: seq, how long it took (ns), the peak of memory (bytes, 0 if nobody looked),
#: bytes of the pickle, and what it is: a value, or the description of an error.
_HEAD = struct.Struct("=QQQQB")
VALUE, ERROR = 0, 1
#: Results are sent after this long (ns), or at the end of their batch.
_FLUSH = 20_000_000
#: For an item that took less (ns) nobody looks at the memory.
_LOOK_AT_MEMORY = 10_000_000
_READ = 1 << 18


def ends(data: bytes | memoryview) -> list[tuple[int, int, int, int, bytes]]:
    """Give what stands in a message or in the journal: ``(seq, kind, ns, peak of memory, pickle)`` of each item.

    >>> made = _end(4, 10, 0, b"a", VALUE) + _end(5, 20, 0, b"b", ERROR)
    >>> [(seq, kind, values) for seq, kind, _, _, values in ends(made + made[:9])]
    [(4, 0, b'a'), (5, 1, b'b')]
    """
    found = []
    at, size, unpack = 0, len(data), _HEAD.unpack_from
    last = size - _HEAD.size
    while at <= last:
        seq, spent, rss, length, kind = unpack(data, at)
        start = at + _HEAD.size
        at = start + length
        if at > size:
            break
        found.append((seq, kind, spent, rss, bytes(data[start:at])))
    return found


def _end(seq: int, spent: int, rss: int, data: bytes, kind: int) -> bytes:
    return _HEAD.pack(seq, spent, rss, len(data), kind) + data


class _MapWorker:
    """One worker of a parallel run."""

    def __init__(self, sock: socket.socket, page: Page) -> None:
        self._sock = sock
        self._page = page
        self._function: Any = None
        self._forked = False
        os.register_at_fork(after_in_child=self._in_child)

    def _in_child(self) -> None:
        # There is one worker only: a child of an item that comes back from it ends.
        self._forked = True

    def live(self) -> None:
        """Serve the caller until it is gone, or has nothing more."""
        decoder = frames.Decoder()
        while True:
            data = self._sock.recv(_READ)
            if not data:
                return
            for header, blobs in decoder.feed(data):
                op = header["op"]
                if op == "batch":
                    self._batch(header["seq"], header["count"], blobs[0])
                elif op == "begin":
                    if not self._begin(header, blobs):
                        return
                elif op == "quit":
                    return

    def _say(self, header: dict[str, Any], blobs: list[bytes] | None = None) -> None:
        self._page.began = 0  # no item takes the time that the caller takes to hear us
        self._sock.sendall(frames.encode(header, blobs or ()))

    def _begin(self, header: dict[str, Any], blobs: list[bytes]) -> bool:
        """Find the function, and make the worker's own state; False if that cannot be done."""
        sys.path[:] = header["path"]
        sys.argv = header["argv"]
        where = "function"
        try:
            self._function = callables.find(header["function"], blobs[0])
            if header["init"]:
                where = "init"
                pickle.loads(blobs[1])()
        except BaseException as error:
            self._say({"op": "broken", "where": where}, [_described(error)])
            return False
        self._say({"op": "ready"})
        return True

    # --- items ----------------------------------------------------------------

    def _batch(self, seq: int, count: int, data: bytes) -> None:
        page = self._page
        # Whoever ends us while we read them is among them.
        page.began, page.reading = time.monotonic_ns(), seq
        try:
            items = pickle.loads(data)
        except BaseException as error:
            # One of them is to blame: a batch of one says which.
            if count == 1 and page.may_start(seq):
                self._add(_end(seq, 0, 0, _described(error), ERROR))
            self._flush(end=True, unreadable=True)
            return
        self._run(seq, items)

    def _run(self, seq: int, items: list[Any]) -> None:
        now, page, function, pack = time.monotonic_ns, self._page, self._function, _HEAD.pack
        may_start, append = page.may_start, page.append
        sent = now()
        for item in items:
            # Before the page says that it has begun: nobody may take the last one's time for its.
            page.began = began = now()
            if not may_start(seq):
                break
            try:
                data = _pickled(function(item))
                kind = VALUE
            except BaseException as error:
                data, kind = _described(error), ERROR
            if self._forked:
                os._exit(0)
            ended = now()
            spent = ended - began
            rss = 0 if spent < _LOOK_AT_MEMORY else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            record = pack(seq, spent, rss, len(data), kind) + data
            if not append(record):
                self._add(record)
            seq += 1
            if ended - sent > _FLUSH:
                self._flush(end=False)
                sent = ended
        self._flush(end=True)

    def _add(self, record: bytes) -> None:
        """Journal what became of an item; what is too large for that is sent at once."""
        if not self._page.append(record):
            self._flush(end=False)
            if not self._page.append(record):
                self._say({"op": "done", "end": False}, [record])

    def _flush(self, *, end: bool, unreadable: bool = False) -> None:
        """Send what is in the journal; say if that is the ``end`` of a batch."""
        journal = self._page.records()
        if journal or end:
            header = {"op": "done", "end": end, "unreadable": unreadable}
            self._say(header, [journal] if journal else None)
            self._page.clear()


def _pickled(value: Any) -> bytes:
    try:
        data = pickle.dumps(value, 5)
        if b"__main__" not in data:
            return data
    except Exception:
        pass  # cloudpickle may manage, or says what is wrong
    return payload.pickled(value, "the result")


def _described(error: BaseException) -> bytes:
    """Give what the caller makes the error of: its type and text, its traceback, itself if it can travel."""
    try:
        itself = payload.pickled(error, "the exception")
        pickle.loads(itself)
    except Exception:
        itself = None
    return pickle.dumps((*payload.told(error, __file__), itself), 5)


def _hang_on(lifeline: int) -> None:
    """End with all that we have started, when the caller's end of the lifeline is closed."""
    try:
        os.read(lifeline, 1)
    finally:
        os.killpg(0, signal.SIGKILL)


def main(argv: list[str]) -> None:
    """Run ``worker.py --map SOCKET PAGE LIFELINE``: three descriptors."""
    sock, page, lifeline = map(int, argv[2:5])
    for fd in (sock, page, lifeline):
        os.set_inheritable(fd, False)  # what an item starts must not hold our end of the line
    threading.Thread(target=_hang_on, args=(lifeline,), daemon=True).start()
    try:
        _MapWorker(socket.socket(fileno=sock), Page(page)).live()
    except OSError:
        return  # the caller is gone, or an item has closed our descriptors
    sys.stdout.flush()
    sys.stderr.flush()
