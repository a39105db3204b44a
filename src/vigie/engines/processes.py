"""Worker processes of the caller as a crew: started, fed, timed, taken back from, and always ended.

A worker that dies costs the item that it was at: the page tells which that was, the
journal behind the page has the results that it had not sent.

Nothing here is shared between threads, but that one may be in :meth:`Processes.select`
while another, under a lock of theirs, does the rest.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from vigie import callables, frames, payload, segments
from vigie.engines import oom
from vigie.engines.batch import LONGEST, Back, Batch, Broken, Event, Failed, Large, Lost
from vigie.engines.launch import Launched
from vigie.engines.ledger import Given, described
from vigie.engines.process import READ, WorkerProcess
from vigie.engines.shield import Shield
from vigie.errors import NotSerializable

__all__ = ["Processes"]

#: Batches that a worker has at once: the next is there when one ends.
DEPTH = 2
#: Seconds between SIGTERM and SIGKILL for a worker whose item takes too long.
GRACE = 0.5
#: So many workers in a row end before they are ready until nobody believes in them any more; and if any ever was ready.
STILLBORN, UNLUCKY = 3, 30
#: What has an outcome is looked for (s) in the journal of a worker that is at an item for so long, and does not send.
LOOK = 0.05

#: What :meth:`Processes.select` has found: a worker (or None, for the wake-up), the descriptor, events.
Ready = tuple[WorkerProcess | None, int, int]


class Processes:
    """A crew of worker processes.

    Parameters
    ----------
    function:
        Called with each item; None: an item is ``(number of a lesson, args, kwargs)``, see :meth:`teach`.
    limit:
        The most workers at once.
    timeout:
        Seconds that an item may take; None: any time.
    init:
        Called without arguments in each worker before its first item.
    recycle:
        Items after which a worker is replaced.
    memory_limit:
        Bytes of data that a worker may have.
    launched:
        The first worker, if it was started already.
    patience:
        Seconds after which what waits behind an item comes back, as does what a worker that is not ready has if
        another is idle; None: it waits.

    Raises
    ------
    NotSerializable
        The function or ``init`` cannot travel.
    """

    #: Until it is made.
    _closed = True

    def __init__(
        self, function: Callable[[Any], Any] | None, limit: int, *, timeout: float | None = None,
        init: Callable[[], Any] | None = None, recycle: int | None = None, memory_limit: int | None = None,
        launched: Launched | None = None, patience: float | None = None,
    ) -> None:  # fmt: skip
        self.limit = limit
        self.timeout = None if timeout is None else int(timeout * 1e9)
        self.recycle = recycle
        self.patience = None if patience is None else int(patience * 1e9)
        self._hello = _begin_frame(function, init, memory_limit)
        self._launched = launched
        self._lessons: dict[int, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, WorkerProcess] = {}
        self._made = 0
        self._stillborn, self._most_stillborn = 0, STILLBORN
        #: Workers that know the key of the caller's multiprocessing.
        self._keyed: set[int] = set()
        self._events: list[Event] = []
        self._closed = False
        self._oom = oom.Watch()
        #: Items whose worker was killed for want of memory, to be tried while nobody else is at work.
        self._suspects: deque[Batch] = deque()
        self._alone: int | None = None
        #: A child of the caller that inherits all this has no say in it.
        self._pid = os.getpid()
        self._wake: tuple[int, int] | None = None

    # --- what it can take -------------------------------------------------------

    def room(self) -> int:
        """Give how many batches it would take now."""
        if self._suspects or self._alone is not None:
            return 0
        workers = self._workers.values()
        here = sum(max(0, self._depth(w) - len(w.books.given)) for w in workers if not w.leaving)
        return here + DEPTH * max(0, self.limit - len(self._workers))

    def most(self) -> int | None:
        """Give how many items the next batch may have at most, None for any number."""
        if self.recycle is None:
            return None
        worker = self._choose(start=False)
        return self.recycle if worker is None else self.recycle - worker.books.count

    def idle(self) -> int:
        """Give how many more workers could be at work."""
        if self._alone is not None:
            return 0
        here = sum(1 for worker in self._workers.values() if self._free(worker) and not worker.books.open)
        return here + max(0, self.limit - len(self._workers))

    def busy(self) -> int:
        """Give how many workers are at work."""
        return sum(1 for worker in self._workers.values() if worker.books.open)

    def size(self) -> int:
        """Give how many workers there are."""
        return len(self._workers)

    def pids(self) -> list[int]:
        """Give the numbers of the workers' processes."""
        return [worker.pid for worker in self._workers.values()]

    def give(self, batch: Batch) -> None:
        """Give a batch to the worker that has least to do; there is :meth:`room`."""
        try:
            data, apart = segments.dump(batch.items, "an item")
        except payload.PayloadError as error:
            self._refuse(batch, error)
            return
        worker = self._choose(start=True)
        if worker is None:
            self._events.append(Back(batch))  # there was room for it, and is none any more
            return
        batch.size = segments.size(data, apart)
        header: dict[str, Any] = {"op": "batch"}
        blobs, segment = [data], -1
        if apart or len(data) >= segments.LARGE:
            segment, header["places"] = segments.write(data, apart)
            blobs = []
        if "multiprocessing.managers" in sys.modules and worker.number not in self._keyed:
            self._share_key(worker)
        given = worker.books.add(batch)
        worker.send(header | {"seq": given.seq, "count": given.end}, blobs, segment)
        self._watch(worker)
        if self.recycle is not None and worker.books.count >= self.recycle:
            self._retire(worker)

    def _share_key(self, worker: WorkerProcess) -> None:
        """Let a worker speak with the managers of the caller's multiprocessing, as its own children do."""
        from multiprocessing.process import current_process

        self._keyed.add(worker.number)
        worker.send({"op": "authkey"}, [bytes(current_process().authkey)])

    def _refuse(self, batch: Batch, error: Exception) -> None:
        """One item of a batch cannot travel: it alone fails."""
        if len(batch.items) > 1:
            self._events.append(Back(batch, alone=True))
            return
        made = NotSerializable(str(error))
        self._events.append(Failed(batch.index, batch.items[0], 0, 0, "NotSerializable", str(error), "", made))

    def held_bytes(self) -> int:
        """Give the size of the pickles that workers have."""
        given = [given for worker in self._workers.values() for given in worker.books.given]
        return sum(one.batch.size * one.open // max(1, len(one.batch.items)) for one in given)

    def _choose(self, *, start: bool) -> WorkerProcess | None:
        free = [w for w in self._workers.values() if self._free(w)]
        idle = [w for w in free if not w.books.open]
        if idle:
            return next((w for w in idle if w.ready), idle[0])
        if len(self._workers) < self.limit:
            if not start:
                return None
            try:
                return self._start()
            except OSError:
                if not self._workers:
                    raise
                self.limit = len(self._workers)  # with those that there are
        return min(free, key=lambda w: w.books.open, default=None)

    def take_back(self, least: int = 2) -> None:
        """Have half of what one worker has, and has not begun, come back, if it has at ``least`` so many items."""
        if self._take_from_late_comer():
            return
        worker = max(self._workers.values(), key=lambda w: w.books.open, default=None)
        if worker is None or worker.books.open < max(2, least) or worker.books.doomed:
            return
        # What it has begun, and as much as it keeps, stays.
        keep = max(1, worker.books.open // 2)
        for given in worker.books.given:
            if keep < given.open:
                self._events += worker.books.take_back(given.seq + given.done + keep)
                return
            keep -= given.open

    def _take_from_late_comer(self) -> bool:
        """Have come back what a worker has that is not ready, if another is idle."""
        workers = self._workers.values()
        if self.patience is None or not any(w.ready and self._free(w) and not w.books.open for w in workers):
            return False
        given = next((one for w in workers if not w.ready for one in w.books.given if one.open), None)
        if given is not None:
            worker = next(w for w in workers if given in w.books.given)
            self._events += worker.books.take_back(given.seq)
        return given is not None

    def _free(self, worker: WorkerProcess) -> bool:
        return not worker.leaving and len(worker.books.given) < self._depth(worker)

    def _depth(self, worker: WorkerProcess) -> int:
        """Give how many batches a worker may have: behind what takes long, another would wait."""
        if self.patience is None or not worker.books.given:
            return DEPTH
        return 1 if not worker.ready or worker.books.late(self.patience) else DEPTH

    def stop(self, index: int) -> bool:
        """End an item that is alone in its batch; False if it is not here any more."""
        for worker in self._workers.values():
            given = next((one for one in worker.books.given if one.batch.index == index and one.open), None)
            if given is not None:
                return self._stop(worker, given)
        return False

    def _stop(self, worker: WorkerProcess, given: Given) -> bool:
        for event in worker.books.take_back(given.seq):
            # It had not begun, and of what else came back nothing had.
            assert isinstance(event, Back)
            batch = event.batch
            stopped = batch is not None and batch.index == given.batch.index
            self._events.append(Lost(batch.index, batch.items[0], 0, worker.number, "stopped", 0) if stopped else event)
        if given.open and not worker.books.doomed and worker.books.at() == given.seq:
            self._doom(worker, given.seq, "stopped")
        return True

    def skip(self, index: int) -> None:
        """Stop an item if it runs; if a worker has it and has not begun it, it comes back."""
        for worker in self._workers.values():
            for given in worker.books.given:
                seq = given.seq + index - given.batch.index
                if given.seq + given.done <= seq < given.seq + given.end:
                    if worker.books.at() == seq and not worker.books.doomed:
                        self._doom(worker, seq, "stopped")
                    else:
                        self._events += worker.books.take_back(seq)
                    return

    # --- workers ----------------------------------------------------------------

    def warm(self, count: int) -> None:
        """Start workers until there are so many."""
        while len(self._workers) < min(count, self.limit):
            self._start()

    def resize(self, limit: int) -> None:
        """Have so many workers at most: those that are too many leave when they have ended what they were given."""
        self.limit = limit
        for worker in sorted(self._staying(), key=lambda w: w.books.open)[: max(0, len(self._staying()) - limit)]:
            self._retire(worker)

    def shrink(self, least: int, idle: float) -> float | None:
        """Let workers go that have been idle for so many seconds; give the seconds until the next may go, if any."""
        staying = self._staying()
        now, wait = time.monotonic(), None
        for worker in [w for w in reversed(staying) if not w.books.given][: max(0, len(staying) - least)]:
            left = worker.idle_since + idle - now
            if left <= 0:
                self._retire(worker)
            else:
                wait = left if wait is None else min(wait, left)
        return wait

    def pending(self) -> bool:
        """Tell whether :meth:`process` would give something at once."""
        return bool(self._events)

    def _staying(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers.values() if not worker.leaving]

    def _start(self) -> WorkerProcess:
        self._oom.begin()
        self._made += 1
        with Shield():
            launched, self._launched = self._launched, None
            worker = self._workers[self._made] = WorkerProcess(self._made, launched)
            try:
                self._selector.register(worker.sock, READ, worker)
                if worker.pidfd is not None:
                    self._selector.register(worker.pidfd, READ, worker)
            except BaseException:
                worker.signal(signal.SIGKILL)
                worker.ended()
                self._let_go(worker)
                raise
        worker.send_frame(self._hello)
        for lesson in self._lessons.values():
            worker.send_frame(lesson)
        self._watch(worker)
        return worker

    def teach(self, number: int, code: tuple[str | None, bytes | None] | None) -> None:
        """Tell all workers, those that come too, which function is meant by a number; None: forget it."""
        if code is None:
            del self._lessons[number]
            lesson = frames.encode({"op": "forget", "number": number})
        else:
            lesson = frames.encode({"op": "learn", "number": number, "function": code[0]}, [code[1] or b""])
            self._lessons[number] = lesson
        for worker in self._workers.values():
            worker.send_frame(lesson)
            self._watch(worker)

    def _retire(self, worker: WorkerProcess) -> None:
        worker.leaving = True
        worker.send({"op": "quit"})
        self._watch(worker)

    def _watch(self, worker: WorkerProcess) -> None:
        """Wait for what the worker's line needs now."""
        events = worker.flush()
        if events != worker.events:
            worker.events = events
            self._selector.modify(worker.sock, events, worker)

    # --- what they say ----------------------------------------------------------

    def poll(self, wait: float | None) -> list[Event]:
        """Give what has happened, waiting up to ``wait`` seconds for something (None: for ever)."""
        return self.process(self.select(wait))

    def select(self, wait: float | None) -> list[Ready]:
        """Wait until something has happened."""
        due = self._due()
        if due is not None:
            wait = due if wait is None else min(wait, due)
        wait = None if wait is None else min(wait, LONGEST)
        return [(key.data, key.fd, events) for key, events in self._selector.select(wait)]

    def process(self, ready: Sequence[Ready]) -> list[Event]:
        """Give what has happened, by what :meth:`select` has found."""
        for worker, fd, events in ready:
            if worker is None:
                os.read(fd, 4096)
            elif self._workers.get(worker.number) is worker:
                if fd == worker.pidfd:
                    self._gone(worker)
                    continue
                if events & READ:
                    self._hear(worker)
                if self._workers.get(worker.number) is worker:
                    self._watch(worker)
        self._look()
        if self._suspects and not self.busy():
            self._alone = self._suspects[0].index
            self.give(self._suspects.popleft())
        events_, self._events = self._events, []
        return events_

    def wake(self) -> None:
        """Have :meth:`select` return, from any thread."""
        if self._wake is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake[1], b"!")

    def wakeable(self) -> None:
        """Have :meth:`wake` work."""
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        self._selector.register(self._wake[0], READ, None)

    def _hear(self, worker: WorkerProcess) -> None:
        said = worker.receive()
        for header, blobs in said or ():
            self._obey(worker, header, blobs)
        if said is None:
            self._gone(worker)

    def _obey(self, worker: WorkerProcess, header: dict[str, Any], blobs: list[bytes]) -> None:
        op, books = header["op"], worker.books
        if op == "done":
            if "run" in header:
                self._add(books.take_run(header["run"], *blobs))
            elif "large" in header:
                seq, spent, rss = header["large"]
                self._add(books.take_large(seq, spent, rss, Large(worker.segments.popleft(), header["places"])))
            else:
                for blob in blobs:
                    self._add(books.take(blob))
            if header["end"]:
                self._add(books.end_of_batch(alone=header["unreadable"]))
                worker.idle_since = time.monotonic()
        elif op == "ready":
            worker.ready = True
            self._stillborn, self._most_stillborn = 0, UNLUCKY
        elif op == "broken":
            self._events.append(Broken(header["where"], *described(blobs[0])))

    def _add(self, events: list[Event]) -> None:
        """Pass on what became of items, but for those whose worker the system had no memory for."""
        for event in events:
            index = event.batch.index if isinstance(event, Back) else getattr(event, "index", None)
            alone = index is not None and index == self._alone
            if alone:
                self._alone = None
            if isinstance(event, Lost) and self._for_memory(event):
                self.limit = max(1, self.limit - 1)
                event.why = "oom"
                if not alone:
                    self._suspects.append(Batch(event.index, [event.item], event.timeout))
                    continue
            self._events.append(event)

    def _for_memory(self, event: Lost) -> bool:
        return event.why == "signal" and event.number == signal.SIGKILL and self._oom.happened()

    # --- their time, and their end ----------------------------------------------

    def _due(self) -> float | None:
        """Give the seconds until somebody is to be looked at; None: whenever somebody says something."""
        if self._events:
            return 0.0
        now = time.monotonic_ns()
        least: float | None = None
        for worker in list(self._workers.values()):
            due = worker.books.due(self.timeout, now)
            given = worker.books.given
            if due is None and given and given[0].open > 1:
                due = LOOK
            if self.patience is not None and worker.books.behind():
                due = LOOK if due is None else min(due, LOOK)
            if due is not None:
                least = due if least is None else min(least, due)
        return None if least is None else max(0.001, least)

    def _look(self) -> None:
        """See who is at an item for too long, and who has something that it cannot send."""
        now = time.monotonic_ns()
        for worker in self._workers.values():
            books = worker.books
            if not books.given:
                continue
            self._add(books.unsent(int(LOOK * 1e9)))
            if self.patience is not None and (behind := books.behind()) and books.late(self.patience):
                self._events += books.take_back(behind.seq)
            if books.doomed:
                if books.at() != books.doomed[0]:
                    books.doomed, books.shot = None, True
                elif now / 1e9 >= books.doomed[1]:
                    worker.signal(signal.SIGKILL)
            elif (seq := books.overdue(self.timeout, now)) is not None:
                self._doom(worker, seq, "timeout")

    def _doom(self, worker: WorkerProcess, seq: int, why: str) -> None:
        worker.books.doomed = (seq, time.monotonic() + GRACE, why)
        worker.signal(signal.SIGTERM)

    def _gone(self, worker: WorkerProcess) -> None:
        """Decide what a dead worker had."""
        status = worker.ended()
        for header, blobs in worker.remaining():
            self._obey(worker, header, blobs)
        self._add(worker.books.dead(status))
        self._stillborn += not worker.ready
        if self._stillborn >= self._most_stillborn and not any(isinstance(e, Broken) for e in self._events):
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            self._events.append(Broken("worker", "", f"a worker ended before it was ready ({how})", ""))
        self._let_go(worker)

    def _let_go(self, worker: WorkerProcess) -> None:
        del self._workers[worker.number]
        self._keyed.discard(worker.number)
        for which in (worker.sock, worker.pidfd):
            if which is not None:
                with contextlib.suppress(KeyError):  # it was not watched yet
                    self._selector.unregister(which)
        worker.close()

    def close(self) -> None:
        """End every worker with whatever it has started, at once."""
        if self._closed or os.getpid() != self._pid:
            return
        with Shield():
            self._closed = True
            for worker in self._workers.values():
                worker.signal(signal.SIGKILL)
            for worker in list(self._workers.values()):
                worker.ended()
                self._let_go(worker)
            if self._launched is not None:
                self._launched.discard()
            for end in self._wake or ():
                os.close(end)
            self._selector.close()

    def __del__(self) -> None:
        if sys is not None and not sys.is_finalizing():
            self.close()


def _begin_frame(
    function: Callable[[Any], Any] | None, init: Callable[[], Any] | None, memory_limit: int | None
) -> bytes:
    header: dict[str, Any] = {"op": "begin", "path": list(map(str, sys.path)), "argv": list(map(str, sys.argv))}
    header |= {"function": None, "lessons": function is None, "init": init is not None, "memory_limit": memory_limit}
    blobs = [b""]
    try:
        if function is not None:
            header["function"], code, _ = callables.pack_function(function)
            blobs = [code or b""]
        if init is not None:
            blobs.append(payload.pickled(init, "init"))
    except payload.PayloadError as error:
        raise NotSerializable(str(error)) from None
    return frames.encode(header, blobs)
