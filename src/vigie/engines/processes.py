"""Worker processes of the caller: started, fed, timed, taken back from, and always ended.

Nothing is forked: each worker is the caller's Python, run anew (``worker.py --map``), in a
session of its own, so that it ends with whatever it has started. A worker that dies
costs the item that it was at: the page tells which that was, the journal behind the
page has the results that it had not sent.

Nothing here is shared between threads: whoever made a crew drives it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import vigie
from vigie import callables, frames, payload, pidfd
from vigie.engines.batch import Back, Batch, Broken, Event, Failed, Group, Lost
from vigie.errors import NotSerializable
from vigie.worker_map import ERROR, ends
from vigie.workfiles import Page

__all__ = ["Processes"]

WORKER = os.path.join(os.path.dirname(os.path.abspath(vigie.__file__)), "worker.py")
#: A worker's page, and the journal of results behind it.
PAGE = 4096 + (1 << 20)
#: Batches that a worker has at once: the next is there when one ends.
DEPTH = 2
#: Seconds between SIGTERM and SIGKILL for a worker whose item takes too long.
GRACE = 0.5
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

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class _Given:
    """A batch that a worker has: items ``done`` to ``end`` of it are open."""

    __slots__ = ("batch", "done", "end", "seq")

    def __init__(self, batch: Batch, seq: int) -> None:
        self.batch = batch
        self.seq = seq
        self.done = 0
        self.end = len(batch.items)

    @property
    def open(self) -> int:
        return self.end - self.done

    def rest(self, start: int) -> Batch:
        """Give what is open of it from item ``start`` on."""
        return Batch(self.batch.index + start, self.batch.items[start : self.end])


class _Worker:
    """One worker process, as its caller sees it."""

    def __init__(self, number: int, popen: subprocess.Popen[bytes], sock: socket.socket, page: Page, life: int) -> None:
        self.number = number
        self.popen = popen
        self.sock = sock
        #: Tells of its end even if something that an item started holds the other end of the line; None on old systems.
        self.pidfd = pidfd.open_pid(popen.pid)
        self.page = page
        self.lifeline = life
        self.decoder = frames.Decoder()
        self.out: deque[memoryview] = deque()
        self.events = _READ
        self.given: deque[_Given] = deque()
        self.next_seq = 1
        self.count = 0
        self.ready = False
        self.leaving = False
        #: Set when its item took too long: (seq, when it is killed for good).
        self.doomed: tuple[int, float] | None = None
        #: It was told to end for an item that ended by itself: what it is at then has done nothing.
        self.shot = False

    @property
    def open(self) -> int:
        """How many items it has."""
        return sum(given.open for given in self.given)


class Processes:
    """A crew of worker processes.

    Parameters
    ----------
    function:
        Called with each item.
    limit:
        The most workers at once.
    timeout:
        Seconds that an item may take; None: any time.
    init:
        Called without arguments in each worker before its first item.
    recycle:
        Items after which a worker is replaced.

    Raises
    ------
    NotSerializable
        The function or ``init`` cannot travel.
    """

    def __init__(
        self, function: Callable[[Any], Any], limit: int, *, timeout: float | None = None,
        init: Callable[[], Any] | None = None, recycle: int | None = None,
    ) -> None:  # fmt: skip
        self.limit = limit
        self.timeout = None if timeout is None else int(timeout * 1e9)
        self.recycle = recycle
        self._begin = _begin_frame(function, init)
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, _Worker] = {}
        self._made = 0
        self._events: list[Event] = []
        self._closed = False
        #: A child of the caller that inherits all this has no say in it.
        self._pid = os.getpid()

    # --- what it can take -------------------------------------------------------

    def room(self) -> int:
        """Give how many batches it would take now."""
        workers = self._workers.values()
        here = sum(max(0, DEPTH - len(w.given)) for w in workers if not w.leaving)
        return here + DEPTH * max(0, self.limit - len(self._workers))

    def most(self) -> int | None:
        """Give how many items the next batch may have at most, None for any number."""
        if self.recycle is None:
            return None
        worker = self._choose(start=False)
        return self.recycle if worker is None else self.recycle - worker.count

    def idle(self) -> int:
        """Give how many more workers could be at work."""
        return self.limit - sum(1 for worker in self._workers.values() if worker.given)

    def give(self, batch: Batch) -> None:
        """Give a batch to the worker that has least to do; there is :meth:`room`."""
        try:
            data = payload.pickled(batch.items, "an item")
        except payload.PayloadError as error:
            self._refuse(batch, error)
            return
        batch.size = len(data)
        worker = self._choose(start=True)
        assert worker is not None
        given = _Given(batch, worker.next_seq)
        count = len(batch.items)
        worker.given.append(given)
        worker.next_seq += count
        worker.count += count
        worker.page.limit = worker.next_seq - 1
        self._send(worker, {"op": "batch", "seq": given.seq, "count": count}, [data])
        if self.recycle is not None and worker.count >= self.recycle:
            self._retire(worker)

    def _refuse(self, batch: Batch, error: Exception) -> None:
        """One item of a batch cannot travel: it alone fails."""
        if len(batch.items) > 1:
            self._events.append(Back(batch, alone=True))
            return
        made = NotSerializable(str(error))
        self._events.append(Failed(batch.index, batch.items[0], 0, 0, "NotSerializable", str(error), "", made))

    def held_bytes(self) -> int:
        """Give the size of the pickles that workers have."""
        given = [given for worker in self._workers.values() for given in worker.given]
        return sum(one.batch.size * one.open // max(1, len(one.batch.items)) for one in given)

    def _choose(self, *, start: bool) -> _Worker | None:
        free = [w for w in self._workers.values() if not w.leaving and len(w.given) < DEPTH]
        idle = [w for w in free if not w.given]
        if idle:
            return idle[0]
        if len(self._workers) < self.limit:
            if not start:
                return None
            try:
                return self._start()
            except OSError:
                if not self._workers:
                    raise
                self.limit = len(self._workers)  # with those that there are
        return min(free, key=lambda w: w.open, default=None)

    def take_back(self, least: int = 2) -> None:
        """Have half of what one worker has, and has not begun, come back, if it has at ``least`` so many items."""
        worker = max(self._workers.values(), key=lambda w: w.open, default=None)
        if worker is None or worker.open < max(2, least) or worker.doomed:
            return
        # What it has begun, and as much as it keeps, stays.
        keep = max(1, worker.open // 2)
        first = None
        for given in worker.given:
            if keep < given.open:
                first = given.seq + given.done + keep
                break
            keep -= given.open
        if first is None or not worker.page.take_back(first):
            return
        for given in list(worker.given):
            start = max(given.done, first - given.seq)
            if start < given.end:
                self._events.append(Back(given.rest(start)))
                given.end = start
        worker.page.limit = worker.next_seq - 1

    # --- workers ----------------------------------------------------------------

    def _start(self) -> _Worker:
        self._made += 1
        with contextlib.ExitStack() as undo:
            worker = self._launch(undo)
            undo.pop_all()
        self._workers[worker.number] = worker
        self._selector.register(worker.sock, _READ, worker)
        if worker.pidfd is not None:
            self._selector.register(worker.pidfd, _READ, worker)
        worker.out.append(memoryview(self._begin))
        self._flush(worker)
        return worker

    def _launch(self, undo: contextlib.ExitStack) -> _Worker:
        """Start a process; ``undo`` closes what was opened for it, should that fail."""
        mine, theirs = socket.socketpair()
        undo.callback(mine.close)
        with theirs:
            page = Page.anonymous(PAGE)
            undo.callback(page.close)
            life, ours = os.pipe()
            undo.callback(os.close, ours)
            try:
                popen = _popen((theirs.fileno(), page.fileno(), life))
            finally:
                os.close(life)
        mine.setblocking(False)
        return _Worker(self._made, popen, mine, page, ours)

    def _retire(self, worker: _Worker) -> None:
        worker.leaving = True
        self._send(worker, {"op": "quit"})

    def _send(self, worker: _Worker, header: dict[str, Any], blobs: list[bytes] | None = None) -> None:
        worker.out.append(memoryview(frames.encode(header, blobs or ())))
        self._flush(worker)

    def _flush(self, worker: _Worker) -> None:
        try:
            while worker.out:
                sent = worker.sock.send(worker.out[0])
                if sent == len(worker.out[0]):
                    worker.out.popleft()
                else:
                    worker.out[0] = worker.out[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            worker.out.clear()  # it is dead: its end of the line says so
        events = _READ | (_WRITE if worker.out else 0)
        if events != worker.events:
            worker.events = events
            self._selector.modify(worker.sock, events, worker)

    # --- what they say ----------------------------------------------------------

    def poll(self, wait: float | None) -> list[Event]:
        """Give what has happened, waiting up to ``wait`` seconds for something (None: for ever)."""
        if self._events:
            wait = 0
        elif self.timeout is not None or any(w.doomed for w in self._workers.values()):
            due = self._due()
            wait = due if wait is None else min(wait, due)
        for key, events in self._selector.select(wait):
            worker: _Worker = key.data
            if worker.number not in self._workers:
                continue
            if key.fd == worker.pidfd:
                self._gone(worker)
            elif events & _READ:
                self._hear(worker)
            if events & _WRITE and worker.number in self._workers and key.fd != worker.pidfd:
                self._flush(worker)
        if self.timeout is not None:
            self._enforce(self.timeout)
        events_, self._events = self._events, []
        return events_

    def _hear(self, worker: _Worker) -> None:
        data = self._receive(worker)
        if data is not None:
            self._obey(worker, data)
            if not data:
                self._gone(worker)

    @staticmethod
    def _receive(worker: _Worker) -> bytes | None:
        """Give what a worker has said; nothing if its end of the line is closed, None if it says nothing now."""
        try:
            return worker.sock.recv(1 << 20)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _obey(self, worker: _Worker, data: bytes) -> None:
        for header, blobs in worker.decoder.feed(data):
            op = header["op"]
            if op == "done":
                for blob in blobs:
                    self._take(worker, blob)
                if header["end"]:
                    self._end_of_batch(worker, alone=header["unreadable"])
            elif op == "ready":
                worker.ready = True
            elif op == "broken":
                kind, message, text, itself = pickle.loads(blobs[0])
                self._events.append(Broken(header["where"], kind, message, text, _loaded(itself)))

    def _take(self, worker: _Worker, data: bytes) -> None:
        """Take what became of items, by a message or by the journal of a worker that is dead."""
        group: Group | None = None
        given: _Given | None = None
        for seq, kind, spent, rss, pickled in ends(data):
            if given is None or not given.seq <= seq < given.seq + len(given.batch.items):
                given = next((g for g in worker.given if g.seq <= seq < g.seq + len(g.batch.items)), None)
                group = None
            if given is None or seq - given.seq < given.done:
                continue  # it was sent, and stands in the journal still
            at = seq - given.seq
            given.done = at + 1
            if kind == ERROR:
                group = None
                if worker.doomed and worker.doomed[0] == seq:
                    self._lose(worker, given, at, 0)  # it has caught our signal
                else:
                    self._events.append(_failed(given, at, spent, worker.number, pickled))
                continue
            if group is None:
                group = Group(given.batch.index + at, [], [], worker.number, len(given.batch.items), packed=True)
                self._events.append(group)
            group.times.append(spent)
            group.values.append(pickled)
            group.size += len(pickled)
            if rss:
                group.peak_rss, group = rss, None  # it is that of this item

    def _end_of_batch(self, worker: _Worker, *, alone: bool) -> None:
        given = worker.given.popleft()
        if given.open:
            self._events.append(Back(given.rest(given.done), alone))

    # --- ends -------------------------------------------------------------------

    def _due(self) -> float:
        """Give the seconds until somebody may have been at an item for too long."""
        now = time.monotonic_ns()
        least = 60.0
        for worker in self._workers.values():
            if worker.doomed:
                least = min(least, worker.doomed[1] - now / 1e9)
            elif worker.given and self.timeout is not None:
                began = worker.page.began
                least = min(least, (began + self.timeout - now) / 1e9 if began else 0.05)
        return max(0.001, least)

    def _enforce(self, limit: int) -> None:
        now = time.monotonic_ns()
        for worker in self._workers.values():
            seq = self._at(worker)
            if worker.doomed:
                if seq != worker.doomed[0]:
                    worker.doomed, worker.shot = None, True
                elif now / 1e9 >= worker.doomed[1]:
                    _signal(worker, signal.SIGKILL)
                continue
            began = worker.page.began
            if seq is not None and began and now - began > limit and self._at(worker) == seq:
                worker.doomed = (seq, now / 1e9 + GRACE)
                _signal(worker, signal.SIGTERM)

    def _at(self, worker: _Worker) -> int | None:
        """Give the item that a worker is at, or the first of a batch that it reads; None if that has ended."""
        if not worker.given:
            return None
        seq = max(worker.page.started, worker.page.reading)
        given = next((g for g in worker.given if g.seq + g.done <= seq < g.seq + g.end), None)
        if given is None or any(end[0] == seq for end in ends(worker.page.records())):
            return None
        return seq

    def _gone(self, worker: _Worker) -> None:
        """Decide what a dead worker had."""
        status = _ended(worker)
        while data := self._receive(worker):
            self._obey(worker, data)
        self._take(worker, worker.page.records())
        seq = self._at(worker)
        for given in worker.given:
            at = -1 if seq is None else seq - given.seq
            if given.done <= at < given.end:
                if given.done < at:
                    # Ended, and neither sent nor in the journal: nobody knows with what.
                    self._events.append(Back(Batch(given.batch.index + given.done, given.batch.items[given.done : at])))
                given.done = at
                if worker.page.started == seq or given.open == 1:
                    self._lose(worker, given, at, status)
                else:
                    # It did not get beyond reading them: one of them is to blame.
                    self._events.append(Back(given.rest(at), alone=True))
                    given.done = given.end
            if given.open:
                self._events.append(Back(given.rest(given.done)))
        if not worker.ready and not any(isinstance(e, Broken) for e in self._events):
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            self._events.append(Broken("worker", "", f"a worker ended before it was ready ({how})", ""))
        self._let_go(worker)

    def _lose(self, worker: _Worker, given: _Given, at: int, status: int) -> None:
        """Take it that an item is over with nothing to show; its worker's ``status`` says how."""
        given.done = at + 1
        spent = time.monotonic_ns() - worker.page.began if worker.page.began else 0
        item, index = given.batch.items[at], given.batch.index + at
        why, number = ("signal", -status) if status < 0 else ("exit", status)
        if worker.doomed and worker.doomed[0] == given.seq + at:
            why, number = "timeout", 0
        elif worker.shot and number == signal.SIGTERM:
            self._events.append(Back(Batch(index, [item])))
            return
        self._events.append(Lost(index, item, spent, worker.number, why, number))

    def _let_go(self, worker: _Worker) -> None:
        del self._workers[worker.number]
        self._selector.unregister(worker.sock)
        worker.sock.close()
        if worker.pidfd is not None:
            self._selector.unregister(worker.pidfd)
            os.close(worker.pidfd)
        os.close(worker.lifeline)
        worker.page.close()

    def close(self) -> None:
        """End every worker with whatever it has started, at once."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        for worker in self._workers.values():
            _signal(worker, signal.SIGKILL)
        for worker in list(self._workers.values()):
            _ended(worker)
            self._let_go(worker)
        self._selector.close()


def _popen(fds: tuple[int, int, int]) -> subprocess.Popen[bytes]:
    words = [sys.executable, WORKER, "--map", *map(str, fds)]
    env = {**dict.fromkeys(THREADS, "1"), **os.environ}
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=fds, env=env, start_new_session=True)


def _signal(worker: _Worker, number: int) -> None:
    """Signal a worker's whole session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.popen.pid, number)


def _ended(worker: _Worker) -> int:
    """Wait for a worker that is ending, end whatever it has started, and give its status."""
    if hasattr(os, "waitid"):
        # Not reaped yet, so that its number, which is its session's, cannot be anybody else's.
        until = time.monotonic() + PATIENCE
        while os.waitid(os.P_PID, worker.popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > until:
                break
            time.sleep(0.0005)
    _signal(worker, signal.SIGKILL)
    return worker.popen.wait()


def _begin_frame(function: Callable[[Any], Any], init: Callable[[], Any] | None) -> bytes:
    try:
        reference, code, _ = callables.pack_function(function)
        blobs = [code or b""]
        if init is not None:
            blobs.append(payload.pickled(init, "init"))
    except payload.PayloadError as error:
        raise NotSerializable(str(error)) from None
    here = {"path": list(map(str, sys.path)), "argv": list(map(str, sys.argv))}
    header = {"op": "begin", "function": reference, "init": init is not None, **here}
    return frames.encode(header, blobs)


def _failed(given: _Given, at: int, spent: int, worker: int, description: bytes) -> Failed:
    name, message, text, itself = pickle.loads(description)
    index, item = given.batch.index + at, given.batch.items[at]
    return Failed(index, item, spent, worker, name, message, text, _loaded(itself))


def _loaded(data: bytes | None) -> BaseException | None:
    """Give an exception that travelled, if it can be made here."""
    if data is None:
        return None
    try:
        error = pickle.loads(data)
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None
