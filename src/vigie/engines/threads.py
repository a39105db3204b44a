"""Threads of the caller's process, and the caller's own thread: for what waits, and for what takes no time.

A thread cannot be ended. One whose item takes too long is abandoned: the item fails,
another thread takes its place, and whatever it does goes on until it ends by itself.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from vigie.engines.batch import LONGEST, Back, Batch, Broken, Event, Failed, Group, Lost
from vigie.local import state
from vigie.payload import told

__all__ = ["Elsewhere", "Inline", "Threads"]

#: Seconds for a thread that begins to have begun, before its crew ends without it.
PATIENCE = 1.0


def _failed(index: int, item: Any, took: int, worker: int, error: BaseException) -> Failed:
    return Failed(index, item, took, worker, *_described(error))


def _described(error: BaseException) -> tuple[str, str, str, BaseException | None]:
    return error.described if isinstance(error, Elsewhere) else (*told(error), error)


def begin_state(init: Callable[[], Any] | None) -> None:
    """Make this thread's own state, as ``init`` gives it."""
    named = init() if init is not None else None
    if isinstance(named, dict):
        state.fill(named, thread=True)


class Elsewhere(Exception):
    """What was raised where an item was computed, if that was not here: its name, text, traceback, and itself."""

    def __init__(self, kind: str, message: str, traceback: str, error: BaseException | None) -> None:
        super().__init__(message)
        self.described = kind, message, traceback, error


class _Thread(threading.Thread):
    """One worker thread; it takes batches until it gets None, or is abandoned."""

    def __init__(self, crew: Threads, number: int) -> None:
        super().__init__(name=f"vigie-{number}", daemon=True)
        self.number = number
        self.crew = crew
        #: (batch, position, when it began in monotonic ns), while an item runs.
        self.at: tuple[Batch, int, int] | None = None
        self.abandoned = False
        self.begun = False

    def run(self) -> None:
        crew = self.crew
        try:
            crew.enter()
        except BaseException as error:
            crew.leave()
            crew.events.put(Broken("init", *_described(error)))
            return
        self.begun = True
        while not self.abandoned and (batch := crew.todo.get()) is not None:
            self._batch(batch)
            del batch  # what it held is not ours to keep alive
        crew.leave()
        crew.events.put(self)

    def _batch(self, batch: Batch) -> None:
        crew = self.crew
        last = len(batch.items) - 1
        for position, item in enumerate(batch.items):
            began = time.monotonic_ns()
            with crew.lock:
                if self.abandoned:
                    return
                if position == 0 and not crew.begins(batch):
                    crew.events.put(Lost(batch.index, item, 0, self.number, "stopped", 0))
                    return
                crew.working += position == 0
                self.at = (batch, position, began)
            made = self._item(batch, position, item, began)
            with crew.lock:
                if self.abandoned:
                    return
                self.at = None
                crew.working -= position == last
                crew.events.put(made)
            del made, item

    def _item(self, batch: Batch, position: int, item: Any, began: int) -> Event:
        try:
            value = self.crew.function(item)
        except BaseException as error:
            return _failed(batch.index + position, item, time.monotonic_ns() - began, self.number, error)
        took = time.monotonic_ns() - began
        return Group(batch.index + position, [took], [value], self.number, len(batch.items))


#: What threads say: an event, itself at its end, or None to wake whoever waits.
_Said = Event | _Thread | None


class Threads:
    """A crew of threads; as :class:`vigie.engines.processes.Processes`.

    Parameters
    ----------
    depth:
        Items for each thread that are taken at a time: 2 spares it a wait.
    wait:
        Whether :meth:`close` waits for the threads that are at no item.

    Attributes
    ----------
    abandoned:
        How many threads were left alone with an item that took too long.
    """

    def __init__(
        self, function: Callable[[Any], Any], limit: int, *, timeout: float | None = None,
        init: Callable[[], Any] | None = None, depth: int = 2, wait: bool = False,
    ) -> None:  # fmt: skip
        self.function = function
        self.limit = limit
        self.timeout = None if timeout is None else int(timeout * 1e9)
        self.init = init
        self.depth = depth
        self.todo: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self.events: queue.SimpleQueue[_Said] = queue.SimpleQueue()
        #: A run may be collected, and so closed, wherever memory is asked for: also by whoever holds it.
        self.lock = threading.RLock()
        self.abandoned = 0
        #: How many threads are at an item, and were not abandoned.
        self.working = 0
        self._wait = wait
        #: Batches that no thread has begun.
        self._unbegun: set[int] = set()
        self._threads: list[_Thread] = []
        #: How many of them have been told to leave, and have not left.
        self._leaving = 0
        self._made = 0
        #: Items given and not reported.
        self._open = 0
        #: Whether any item has a limit of its own.
        self._timed = self.timeout is not None
        self._stopped: list[Event] = []
        self._idle_since = time.monotonic()

    # --- what it can take -------------------------------------------------------

    def room(self) -> int:
        """Give how many batches it would take now."""
        return max(0, self.depth * self.limit - self._open)

    def most(self) -> int | None:
        """Give how many items the next batch may have at most."""
        return None

    def idle(self) -> int:
        """Give how many more threads could be at work: what waits is in a queue of all."""
        return 0

    def busy(self) -> int:
        """Give how many threads are at work."""
        return min(self._open, len(self._threads))

    def size(self) -> int:
        """Give how many threads there are that stay."""
        return len(self._threads) - self._leaving

    def give(self, batch: Batch) -> None:
        """Have a batch computed.

        Raises
        ------
        OSError
            There is no thread, and none can be started.
        """
        self._unbegun.add(batch.index)
        try:
            self._reinforce()
        except OSError:
            self._unbegun.discard(batch.index)
            raise
        self._open += len(batch.items)
        self._timed = self._timed or batch.timeout is not None
        self.todo.put(batch)

    def begins(self, batch: Batch) -> bool:
        """Take it that a thread begins a batch; False if it was stopped. The lock is held."""
        if batch.index in self._unbegun:
            self._unbegun.remove(batch.index)
            return True
        return False

    def held_bytes(self) -> int:
        """Nothing is pickled."""
        return 0

    def take_back(self, least: int = 2) -> None:
        """Nothing waits behind a certain thread."""

    def stop(self, index: int) -> bool:
        """End an item that is alone in its batch: its thread is abandoned, or does not begin it."""
        with self.lock:
            for thread in self._threads:
                at = thread.at
                if at is not None and at[0].index == index:
                    break
            else:
                # Whoever takes it says so.
                found = index in self._unbegun
                self._unbegun.discard(index)
                return found
        found = self._abandon(thread, "stopped", self._stopped, at)
        self.wake()
        return found

    # --- threads ----------------------------------------------------------------

    def enter(self) -> None:
        """Begin, in a thread of the crew."""
        begin_state(self.init)

    def leave(self) -> None:
        """End, in a thread of the crew."""

    def _start(self) -> None:
        self._made += 1
        thread = _Thread(self, self._made)
        try:
            thread.start()
        except RuntimeError as error:
            if not self.size():
                raise OSError(errno.EAGAIN, f"no thread can be started: {error}") from None
            self.limit = self.size()  # with those that there are
            return
        self._threads.append(thread)

    def _reinforce(self) -> None:
        """Start threads for batches that nobody would begin before others end."""
        while self._unbegun and self.size() < self.limit:
            if self.size() >= len(self._unbegun) + self.working:
                return
            self._start()

    def teach(self, number: int, code: Any) -> None:
        """Functions need not travel."""

    def warm(self, count: int) -> None:
        """Start threads until there are so many."""
        while self.size() < min(count, self.limit):
            self._start()

    def resize(self, limit: int) -> None:
        """Have so many threads at most."""
        self.limit = limit
        self._send_away(self.size() - limit)

    def shrink(self, least: int, idle: float) -> float | None:
        """Let threads go when all have been idle for so many seconds; give the seconds until they may, if any."""
        if self._open or self.size() <= least:
            return None
        left = self._idle_since + idle - time.monotonic()
        if left > 0:
            return left
        self._send_away(self.size() - least)
        return None

    def _send_away(self, count: int) -> None:
        # Whichever takes the word to leave: they are all alike.
        for _ in range(count):
            self._leaving += 1
            self.todo.put(None)

    # --- what they say ----------------------------------------------------------

    def poll(self, wait: float | None) -> list[Event]:
        """Give what has happened, waiting up to ``wait`` seconds for something (None: for ever)."""
        return self.process(self.select(wait))

    def select(self, wait: float | None) -> list[_Said]:
        """Wait until something has happened, and give what was said."""
        if self._stopped:
            wait = 0
        elif self._timed and self._open:
            due = self._due()
            wait = due if wait is None else min(wait, due)
        wait = None if wait is None else min(wait, LONGEST)
        said: list[_Said] = []
        try:
            said.append(self.events.get(timeout=wait) if wait != 0 else self.events.get_nowait())
            while True:
                said.append(self.events.get_nowait())
        except queue.Empty:
            return said

    def process(self, said: list[_Said]) -> list[Event]:
        """Give what has happened, by what :meth:`select` has found."""
        found: list[Event] = []
        for one in said:
            if isinstance(one, _Thread):
                if one in self._threads:
                    self._threads.remove(one)
                    self._leaving -= 1
            elif one is not None:
                found.append(one)
        if self._timed:
            self._enforce(found)
        found += self._stopped
        self._stopped = []
        self._open -= sum(len(e.times) if isinstance(e, Group) else isinstance(e, Failed | Lost) for e in found)
        if found and not self._open:
            self._idle_since = time.monotonic()
        self._reinforce()
        return found

    def pending(self) -> bool:
        """Tell whether :meth:`process` would give something at once."""
        return bool(self._stopped)

    def wakeable(self) -> None:
        """It always is."""

    def wake(self) -> None:
        """Have :meth:`select` return, from any thread."""
        self.events.put(None)

    def _limit(self, batch: Batch) -> int | None:
        return self.timeout if batch.timeout is None else batch.timeout

    def _due(self) -> float:
        now = time.monotonic_ns()
        least = 0.05
        for at in [thread.at for thread in list(self._threads)]:
            limit = None if at is None else self._limit(at[0])
            if at is not None and limit is not None:
                least = min(least, (at[2] + limit - now) / 1e9)
        return max(0.001, least)

    def _enforce(self, found: list[Event]) -> None:
        now = time.monotonic_ns()
        for thread in list(self._threads):
            at = thread.at
            limit = None if at is None else self._limit(at[0])
            if at is not None and limit is not None and now - at[2] > limit:
                self._abandon(thread, "timeout", found, at)

    def _abandon(self, thread: _Thread, why: str, found: list[Event], at: tuple[Batch, int, int]) -> bool:
        """Leave a thread alone with its item, which is lost; False if it is not at that any more."""
        with self.lock:
            if thread.at is not at:
                return False
            thread.abandoned = True
            self.working -= 1
        batch, position, began = at
        self.abandoned += 1
        self._threads.remove(thread)
        index = batch.index + position
        found.append(Lost(index, batch.items[position], time.monotonic_ns() - began, thread.number, why, 0))
        rest = batch.items[position + 1 :]
        if rest:
            self._open -= len(rest)
            found.append(Back(Batch(index + 1, rest, batch.timeout)))
        return True

    def close(self) -> None:
        """Let every thread end when it can; none begins another item."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.todo.get_nowait()
        with self.lock:
            for thread in self._threads:
                thread.abandoned = True
        for _ in self._threads:
            self.todo.put(None)
        if self._wait:
            for thread in self._threads:
                if thread.at is None:
                    thread.join(None if thread.begun else PATIENCE)


class Inline:
    """The caller's own thread: when results are asked for, and no item after one that has failed."""

    def __init__(self, function: Callable[[Any], Any], init: Callable[[], Any] | None = None) -> None:
        self.function = function
        self.limit = 1
        self._init = init
        self._batch: Batch | None = None

    def room(self) -> int:
        """Give how many batches it would take now."""
        return 1 if self._batch is None else 0

    def most(self) -> int | None:
        """Give how many items the next batch may have at most."""
        return None

    def busy(self) -> int:
        """Give whether there is something to do."""
        return 0 if self._batch is None else 1

    def give(self, batch: Batch) -> None:
        """Have a batch computed, at the next poll."""
        self._batch = batch

    def held_bytes(self) -> int:
        """Nothing is pickled."""
        return 0

    def take_back(self, least: int = 2) -> None:
        """Nothing waits."""

    def poll(self, wait: float | None) -> list[Event]:
        """Compute what was given, here and now."""
        init, self._init = self._init, None
        batch, self._batch = self._batch, None
        if batch is None:
            if wait:
                time.sleep(wait)
            return []
        begin_state(init)
        return self._compute(batch)

    def _compute(self, batch: Batch) -> list[Event]:
        now, function = time.monotonic_ns, self.function
        group = Group(batch.index, [], [], 0, len(batch.items))
        for position, item in enumerate(batch.items):
            began = now()
            try:
                value = function(item)
            except Exception as error:
                failed = _failed(batch.index + position, item, now() - began, 0, error)
                rest = batch.items[position + 1 :]
                found: list[Event] = [group, failed] if group.times else [failed]
                return [*found, Back(Batch(batch.index + position + 1, rest))] if rest else found
            group.times.append(now() - began)
            group.values.append(value)
        return [group]

    def close(self) -> None:
        """Nothing runs."""
