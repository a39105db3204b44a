"""The worker's other life: items of a parallel run in the foreground, for whoever started it.

No agent and no store: the socket leads to the caller's process. The page tells it
which item runs and since when, and lets it take back what has not begun; behind the
page lies a journal in memory, in which results outlive the worker's death until they
are sent. See "Caller and map worker" in docs/explanation/internals.md.

Standard library only; the worker loads this file by path.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import threading
import time
from array import array
from collections import deque

from . import callables, frames, payload, segments
from .workfiles import Page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["ERROR", "VALUE", "describe", "ends", "main"]

#: Before the pickle of each item: seq, how long it took (ns), the peak of memory (bytes, 0 if nobody looked),
#: bytes of the pickle, and what it is: a value, or the description of an error.
_HEAD = struct.Struct("=QQQQB")
VALUE, ERROR = 0, 1
#: Results are sent after this long (ns), or at the end of their batch.
_FLUSH = 20_000_000
#: Bytes of large results after which a batch ends: the caller takes them before it gives more.
_MUCH = 32 << 20
#: For an item that took less (ns) nobody looks at the memory.
_LOOK_AT_MEMORY = 10_000_000
#: Of ru_maxrss, in bytes.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
#: As in engines/process.py.
_READ = 60_000
#: What nobody can change once it was returned: such values travel together.
_PLAIN = frozenset((int, float, str, bytes, bool, type(None)))


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

    def __init__(self, sock: socket.socket, page: int) -> None:
        self._sock = sock
        self._fd = page
        self._page: Page  # it is made when we are told to begin
        self._function: Any = None
        self._lessons: dict[int, Any] = {}
        self._segments: deque[int] = deque()
        #: Of plain results since the last flush: how long each took, and each; the first one; whether there are others.
        self._times: list[int] = []
        self._values: list[Any] = []
        self._first = 0
        self._mixed = False
        self._limit: int | None = None
        self._forked = False
        os.register_at_fork(after_in_child=self._in_child)

    def _in_child(self) -> None:
        # There is one worker only: a child of an item that comes back from it ends.
        self._forked = True

    def live(self) -> None:
        """Serve the caller until it is gone, or has nothing more."""
        decoder = frames.Decoder()
        while True:
            data, fds, flags, _ = socket.recv_fds(self._sock, _READ, 64, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
            self._segments.extend(fds)
            if flags & socket.MSG_CTRUNC:
                self._segments.append(-1)  # there was no room for it among our descriptors
            if not data:
                return
            for header, blobs in decoder.feed(data):
                op = header["op"]
                if op == "batch":
                    self._batch(header, blobs)
                elif op == "begin":
                    if not self._begin(header, blobs):
                        return
                elif op == "learn":
                    self._lessons[header["number"]] = _Lesson(header["function"], blobs[0])
                elif op == "forget":
                    self._lessons.pop(header["number"], None)
                elif op == "authkey":
                    _share_key(blobs[0])
                elif op == "quit":
                    return

    def _say(self, header: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        self._page.began = 0  # no item takes the time that the caller takes to hear us
        self._sock.sendall(frames.encode(header, blobs))

    def _begin(self, header: dict[str, Any], blobs: list[bytes]) -> bool:
        """Find the function, and make the worker's own state; False if that cannot be done."""
        self._page = Page(self._fd)
        sys.path[:] = header["path"]
        sys.argv = header["argv"]
        self._limit = header["memory_limit"]
        _limit_memory(self._limit)
        where = "function"
        try:
            self._function = self._call if header["lessons"] else callables.find(header["function"], blobs[0])
            if header["init"]:
                where = "init"
                _begin_state(pickle.loads(blobs[1]))
        except BaseException as error:
            self._say({"op": "broken", "where": where}, [self._described(error)])
            return False
        self._say({"op": "ready"})
        return True

    def _call(self, item: tuple[int, tuple[Any, ...], dict[str, Any]]) -> Any:
        """Call the function of a lesson."""
        number, args, kwargs = item
        return self._lessons[number].function()(*args, **kwargs)

    # --- items ----------------------------------------------------------------

    def _batch(self, header: dict[str, Any], blobs: list[bytes]) -> None:
        page, seq = self._page, header["seq"]
        # Whoever ends us while we read them is among them.
        page.began, page.reading = time.monotonic_ns(), seq
        try:
            items = self._received(header["places"]) if "places" in header else pickle.loads(blobs[0])
        except BaseException as error:
            # One of them is to blame: a batch of one says which.
            if header["count"] == 1 and page.may_start(seq):
                page.append(_end(seq, 0, 0, self._described(error), ERROR))
            self._flush(end=True, unreadable=True)
            return
        self._run(seq, items)

    def _received(self, places: segments.Places) -> Any:
        fd = self._segments.popleft()
        if fd < 0:
            raise OSError(errno.EMFILE, "large items came, and there was no descriptor left for them")
        return segments.load(fd, places)

    def _run(self, seq: int, items: list[Any]) -> None:
        now, page, function, dumps, pack = time.monotonic_ns, self._page, self._function, pickle.dumps, _HEAD.pack
        may_start, append, times, values = page.may_start, page.append, self._times, self._values
        sent, large = now(), 0
        last = seq + len(items) - 1
        for item in items:
            # Before the page says that it has begun: nobody may take the last one's time for its.
            page.began = began = now()
            if not may_start(seq):
                break
            kind, plain, value = VALUE, False, None
            apart: list[memoryview] = []
            try:
                value = function(item)
                plain = type(value) in _PLAIN
                if plain:
                    data = dumps(value, 5)
                else:
                    data, apart = segments.dump(value, "the result")
            except BaseException as error:
                data, kind, plain, apart = self._described(error), ERROR, False, []
            if self._forked:
                os._exit(0)
            ended = now()
            spent = ended - began
            rss = 0 if spent < _LOOK_AT_MEMORY else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
            if apart or len(data) > page.room - _HEAD.size:
                self._large(seq, spent, rss, kind, data, apart)
                large += segments.size(data, apart)
            else:
                record = pack(seq, spent, rss, len(data), kind) + data
                if not append(record):
                    self._flush(end=False)
                    append(record)  # larger ones do not come here
                if plain and not rss:
                    if not times:
                        self._first = seq
                    times.append(spent)
                    values.append(value)
                else:
                    self._mixed = True
            if ended - sent > _FLUSH and seq < last:
                self._flush(end=False)
                sent = ended
            seq += 1
            if large > _MUCH:
                break
        self._flush(end=True)

    def _described(self, error: BaseException) -> bytes:
        if self._limit is None:
            return describe(error)
        # It may be the limit itself that was reached, and to say so needs memory too.
        _limit_memory(None)
        try:
            return describe(error)
        finally:
            error.__traceback__ = None  # with it goes what filled the memory
            _limit_memory(self._limit)

    def _large(self, seq: int, spent: int, rss: int, kind: int, data: bytes, apart: list[memoryview]) -> None:
        """Send at once what became of an item, and does not fit into the journal."""
        self._flush(end=False)
        header = {"op": "done", "end": False, "large": [seq, spent, rss]}
        if kind == VALUE:
            try:
                fd, header["places"] = segments.write(data, apart)
            except OSError as error:
                data, kind = self._described(error), ERROR
        if kind == ERROR:
            self._say({"op": "done", "end": False}, [_end(seq, spent, rss, data, kind)])
            return
        self._page.began = 0
        frame = memoryview(frames.encode(header))
        sent = socket.send_fds(self._sock, [frame], [fd])
        os.close(fd)
        self._sock.sendall(frame[sent:])

    def _flush(self, *, end: bool, unreadable: bool = False) -> None:
        """Send what is in the journal; say if that is the ``end`` of a batch."""
        header: dict[str, Any] = {"op": "done", "end": end, "unreadable": unreadable}
        blobs: list[bytes] = []
        if self._times and not self._mixed:
            # The same as in the journal, and quicker to read.
            header["run"] = self._first
            blobs = [array("Q", self._times).tobytes(), pickle.dumps(self._values, 5)]
        elif journal := self._page.records():
            blobs = [journal]
        if blobs or end:
            self._say(header, blobs)
        self._page.clear()
        self._times.clear()
        self._values.clear()
        self._mixed = False


class _Lesson:
    """A function that calls speak of by a number; it is looked for when the first of them comes."""

    def __init__(self, reference: str | None, code: bytes) -> None:
        self._reference = reference
        self._code = code
        self._function: Any = None

    def function(self) -> Any:
        if self._function is None:
            self._function = callables.find(self._reference, self._code)
        return self._function


def _limit_memory(most: int | None) -> None:
    """Have no more data than that, or as much as we may."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = hard if most is None else most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _begin_state(init: Any) -> None:
    """Make the worker's own state: what ``init`` gives by names is in ``vigie.state``."""
    named = init()
    if isinstance(named, dict):
        from vigie.local import state

        state.fill(named)


def _share_key(key: bytes) -> None:
    """Let what we run speak with the managers of the caller's multiprocessing."""
    from multiprocessing.process import current_process

    current_process().authkey = key


def describe(error: BaseException) -> bytes:
    """Give what the caller makes the error of: its type and text, its traceback, itself if it can travel."""
    try:
        itself = payload.pickled(error, "the exception")
        pickle.loads(itself)
    except Exception:
        itself = None
    return pickle.dumps((*payload.told(error, __file__), itself), 5)


def _hang_on(lifeline: int) -> None:
    """Have us end, with all that we have started, when the caller's end of the lifeline is closed."""
    try:
        # Linux kills us itself, whatever we are at.
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    except (AttributeError, OSError):
        threading.Thread(target=_await_end, args=(lifeline,), daemon=True).start()
        return
    os.set_blocking(lifeline, False)
    try:
        os.read(lifeline, 1)
    except BlockingIOError:
        return
    os.killpg(0, signal.SIGKILL)  # it was closed before we were ready for that


def _await_end(lifeline: int) -> None:
    try:
        os.read(lifeline, 1)
    finally:
        os.killpg(0, signal.SIGKILL)


def _close_others(ours: list[int]) -> None:
    """Keep standard streams and our own descriptors, which what an item starts must not hold, and no other."""
    last = 2
    for fd in ours:
        os.set_inheritable(fd, False)
        os.closerange(last + 1, fd)
        last = fd
    os.closerange(last + 1, max(last + 2, resource.getrlimit(resource.RLIMIT_NOFILE)[0]))


def main(argv: list[str]) -> None:
    """Run ``worker.py --map SOCKET PAGE LIFELINE``: three descriptors."""
    sock, page, lifeline = map(int, argv[2:5])
    _close_others(sorted((sock, page, lifeline)))
    _hang_on(lifeline)
    try:
        _MapWorker(socket.socket(fileno=sock), page).live()
    except OSError:
        return  # the caller is gone, or an item has closed our descriptors
    sys.stdout.flush()
    sys.stderr.flush()
