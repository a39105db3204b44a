"""The desk of a pool: calls that wait, calls that run, the crew, and the thread that hears what became of them.

Whoever submits gives the call to an idle worker at once, under the lock: that spares a
change of threads. Futures are told outside the lock, since their callbacks may submit.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from vigie.engines.batch import Back, Batch, Broken, Event, Failed, Group, Lost
from vigie.errors import WorkerDied
from vigie.parallel import failures
from vigie.parallel.lessons import Code, Lessons

__all__ = ["Call", "Crew", "Desk", "PoolBroken"]


class PoolBroken(WorkerDied, BrokenExecutor):
    """No worker of the pool can do anything: its ``init`` failed, or none can be started."""


class Crew(Protocol):
    """What computes the calls of a pool; see ``vigie.engines``."""

    limit: int

    def room(self) -> int: ...
    def idle(self) -> int: ...
    def busy(self) -> int: ...
    def size(self) -> int: ...
    def give(self, batch: Batch) -> None: ...
    def teach(self, number: int, code: Code | None) -> None: ...
    def take_back(self, least: int = 2) -> None: ...
    def stop(self, index: int) -> bool: ...
    def warm(self, count: int) -> None: ...
    def resize(self, limit: int) -> None: ...
    def shrink(self, least: int, idle: float) -> float | None: ...
    def select(self, wait: float | None) -> Any: ...
    def process(self, ready: Any) -> list[Event]: ...
    def pending(self) -> bool: ...
    def wakeable(self) -> None: ...
    def wake(self) -> None: ...
    def close(self) -> None: ...


@dataclass(slots=True, eq=False, weakref_slot=True)
class Call:
    """One call: its future, the function (or how it travels), and how long (ns) it may take."""

    future: Future[Any]
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    timeout: int | None
    index: int = 0


@dataclass(slots=True)
class Counts:
    """How many calls have ended, and how."""

    done: int = 0
    failed: int = 0
    stopped: int = 0
    cancelled: int = 0


#: What a future is to be told, once nobody holds the lock.
Told = Callable[[], None]


@dataclass(eq=False)
class Desk:
    """See the module.

    Attributes
    ----------
    travels:
        Whether functions are told to the crew apart from the calls.
    least:
        Workers that stay, however long they have nothing to do.
    idle:
        Seconds after which others leave.
    waiting, running, again:
        Calls that nobody has begun; those that the crew has, by their numbers; those of them that it gave back.
    """

    crew: Crew
    travels: bool
    least: int
    idle: float
    counts: Counts = field(default_factory=Counts)
    #: A pool may be collected, and so shut down, wherever memory is asked for: also by whoever holds it.
    lock: threading.RLock = field(default_factory=threading.RLock)
    waiting: deque[Call] = field(default_factory=deque)
    running: dict[int, Call] = field(default_factory=dict)
    again: deque[Call] = field(default_factory=deque)
    closing: bool = False
    ended: bool = False
    thread: threading.Thread | None = None
    _lessons: Lessons = field(init=False)
    _broken: PoolBroken | None = None
    _next: int = 0
    _pid: int = field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        self._lessons = Lessons(self.crew.teach)
        self.crew.wakeable()

    # --- from any thread --------------------------------------------------------

    def submit(self, call: Call) -> None:
        """Take a call.

        Raises
        ------
        RuntimeError
            The pool is shut down, belongs to a parent of this process, or is broken (:class:`PoolBroken`).
        """
        if os.getpid() != self._pid:
            raise RuntimeError("this pool belongs to the process that forked this one")
        with self.lock:
            if self._broken is not None:
                raise self._broken
            if self.closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self.waiting.append(call)
            told = self._feed()
            self._attend()
            if self.crew.pending() or call.timeout is not None:
                self.crew.wake()
        _tell(told)

    def warm(self) -> None:
        """Have as many workers as stay anyway."""
        with self.lock:
            if self.least:
                self.crew.warm(self.least)
                self._attend()

    def resize(self, limit: int, least: int) -> None:
        """Have another number of workers, at most and at least."""
        with self.lock:
            self.least = least
            self.crew.resize(limit)
            self.crew.warm(least)
            told = self._feed()
            self._attend()
            self.crew.wake()
        _tell(told)

    def stop(self, call: Call) -> bool:
        """End a call that waits or runs; False if it has ended."""
        with self.lock:
            if call.future.cancel():
                return True
            found = self.running.get(call.index) is call and self.crew.stop(call.index)
            self.crew.wake()
        return found

    def shut(self, *, cancel: bool, kill: bool) -> None:
        """Take nothing more; ``cancel`` what waits, ``kill`` what runs."""
        with self.lock:
            self.closing = True
            if self.ended:
                return
            told: list[Told] = []
            if cancel or kill:
                while self.waiting:
                    told.append(self._cancelled(self.waiting.popleft()))
            if kill:
                for index in list(self.running):
                    self.crew.stop(index)
            if self.thread is None:
                self._end()
            else:
                self.crew.wake()
        _tell(told)

    def join(self) -> None:
        """Wait until all has ended, after :meth:`shut`; not in a future's callback, which the thread itself calls."""
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join()

    def _cancelled(self, call: Call) -> Told:
        def tell() -> None:
            if call.future.cancel():
                call.future.set_running_or_notify_cancel()

        self.counts.cancelled += 1
        return tell

    def _attend(self) -> None:
        """Have the thread listen, from the first call on."""
        if self.thread is None and not self.ended:
            self.thread = threading.Thread(target=self._listen, name="vigie-pool", daemon=True)
            self.thread.start()

    # --- giving -----------------------------------------------------------------

    def _feed(self) -> list[Told]:
        """Give the crew what it takes; the lock is held."""
        told: list[Told] = []
        while (self.again or self.waiting) and self.crew.room() > 0:
            if self.again:
                call = self.again.popleft()
            else:
                call = self.waiting.popleft()
                if not call.future.set_running_or_notify_cancel():
                    self.counts.cancelled += 1
                    continue
                call.index = self._next
                self._next += 1
                self.running[call.index] = call
            try:
                self._give(call)
            except OSError as error:
                del self.running[call.index]
                self.counts.failed += 1
                told.append(_failure(call.future, error))
        return told

    def _give(self, call: Call) -> None:
        what = self._lessons.number(call.function) if self.travels else call.function
        self.crew.give(Batch(call.index, [(what, call.args, call.kwargs)], timeout=call.timeout))

    # --- the thread -------------------------------------------------------------

    def _listen(self) -> None:
        wait: float | None = None
        while not self.ended:
            wait = self._round(wait)

    def _round(self, wait: float | None) -> float | None:
        """Hear what has happened, and give out what can be given; give the seconds until the next round is due."""
        ready = self.crew.select(wait)
        told: list[Told] = []
        with self.lock:
            for event in self.crew.process(ready):
                told += self._hear(event)
            told += self._feed()
            if not (self.waiting or self.again) and self.running and self.crew.idle():
                self.crew.take_back()
            wait = self.crew.shrink(self.least, self.idle)
            if self.closing and not self.waiting and not self.running:
                self._end()
        _tell(told)
        return wait

    def _end(self) -> None:
        self.ended = True
        self.crew.close()

    def _hear(self, event: Event) -> list[Told]:
        if isinstance(event, Broken):
            return self._break(event)
        if isinstance(event, Back):
            self.again.extend(call for call in [self.running.get(event.batch.index)] if call is not None)
            return []
        call = self.running.pop(event.index, None)
        if call is None:
            return []
        future = call.future
        if isinstance(event, Group):
            return [lambda: self._value(future, event)]
        if isinstance(event, Failed):
            self.counts.failed += 1
            return [_failure(future, failures.raised(event))]
        self._count(event)
        seconds = None if call.timeout is None else call.timeout / 1e9
        return [_failure(future, failures.lost(event, "the call", seconds))]

    def _count(self, event: Lost) -> None:
        if event.why == "stopped":
            self.counts.stopped += 1
        else:
            self.counts.failed += 1

    def _value(self, future: Future[Any], group: Group) -> None:
        try:
            (value,) = group.list()
        except BaseException as error:
            self.counts.failed += 1
            future.set_exception(error)
        else:
            self.counts.done += 1
            future.set_result(value)

    def _break(self, event: Broken) -> list[Told]:
        """No worker can do anything: nor will those that come."""
        why = failures.broken(event)
        self._broken = PoolBroken(str(why))
        self._broken.__cause__ = why.__cause__
        calls: Sequence[Call] = [*self.running.values(), *self.waiting]
        self.running.clear()
        self.waiting.clear()
        self.again.clear()
        self.closing = True
        self.counts.failed += len(calls)
        return [_failure(call.future, self._broken) for call in calls]


def _failure(future: Future[Any], error: BaseException) -> Told:
    """Give what tells a future of an error, unless it was cancelled before it ran."""

    def tell() -> None:
        if future.running() or future.set_running_or_notify_cancel():
            future.set_exception(error)

    return tell


def _tell(told: list[Told]) -> None:
    for tell in told:
        tell()
