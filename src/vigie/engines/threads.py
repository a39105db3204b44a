"""Threads of the caller's process, and the caller's own thread: for what waits, and for what takes no time.

A thread cannot be ended. One whose item takes too long is abandoned: the item fails,
another thread takes its place, and whatever it does goes on until it ends by itself.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from vigie.engines.batch import Back, Batch, Broken, Event, Failed, Group, Lost
from vigie.local import state
from vigie.payload import told

__all__ = ["Inline", "Threads"]


def _failed(index: int, item: Any, took: int, worker: int, error: BaseException) -> Failed:
    return Failed(index, item, took, worker, *told(error), error)


def begin_state(init: Callable[[], Any] | None) -> None:
    """Make this thread's own state, as ``init`` gives it."""
    named = init() if init is not None else None
    if isinstance(named, dict):
        state.fill(named, thread=True)


class _Thread(threading.Thread):
    """One worker thread; it takes batches until it gets None, or is abandoned."""

    def __init__(self, crew: Threads, number: int) -> None:
        super().__init__(name=f"vigie-{number}", daemon=True)
        self.number = number
        self.crew = crew
        #: (batch, position, when it began in monotonic ns), while an item runs.
        self.at: tuple[Batch, int, int] | None = None
        self.abandoned = False

    def run(self) -> None:
        crew = self.crew
        try:
            begin_state(crew.init)
        except BaseException as error:
            crew.events.put(Broken("init", *told(error), error))
            return
        while not self.abandoned and (batch := crew.todo.get()) is not None:
            self._batch(batch)

    def _batch(self, batch: Batch) -> None:
        function, put = self.crew.function, self.crew.events.put
        for position, item in enumerate(batch.items):
            began = time.monotonic_ns()
            self.at = (batch, position, began)
            try:
                value = function(item)
            except BaseException as error:
                made: Event = _failed(batch.index + position, item, time.monotonic_ns() - began, self.number, error)
            else:
                took = time.monotonic_ns() - began
                made = Group(batch.index + position, [took], [value], self.number, len(batch.items))
            with self.crew.lock:
                if self.abandoned:
                    return
                self.at = None
                put(made)


class Threads:
    """A crew of threads; as :class:`vigie.engines.processes.Processes`.

    Attributes
    ----------
    abandoned:
        How many threads were left alone with an item that took too long.
    """

    def __init__(
        self, function: Callable[[Any], Any], limit: int, *, timeout: float | None = None,
        init: Callable[[], Any] | None = None, recycle: int | None = None,
    ) -> None:  # fmt: skip
        self.function = function
        self.limit = limit
        self.timeout = None if timeout is None else int(timeout * 1e9)
        self.init = init
        self.todo: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.abandoned = 0
        self._threads: list[_Thread] = []
        self._made = 0
        #: Items given and not reported.
        self._open = 0

    def room(self) -> int:
        """Give how many batches it would take now."""
        return max(0, 2 * self.limit - self._open)

    def most(self) -> int | None:
        """Give how many items the next batch may have at most."""
        return None

    def idle(self) -> int:
        """Give how many more threads could be at work: what waits is in a queue of all."""
        return 0

    def give(self, batch: Batch) -> None:
        """Have a batch computed."""
        self._open += len(batch.items)
        if len(self._threads) < self.limit and len(self._threads) < self._open:
            self._start()
        self.todo.put(batch)

    def _start(self) -> None:
        self._made += 1
        thread = _Thread(self, self._made)
        self._threads.append(thread)
        thread.start()

    def held_bytes(self) -> int:
        """Nothing is pickled."""
        return 0

    def take_back(self, least: int = 2) -> None:
        """Nothing waits behind a certain thread."""

    def poll(self, wait: float | None) -> list[Event]:
        """Give what has happened, waiting up to ``wait`` seconds for something (None: for ever)."""
        found: list[Event] = []
        if self.timeout is not None:
            due = self._due(self.timeout)
            wait = due if wait is None else min(wait, due)
        try:
            found.append(self.events.get(timeout=wait) if wait != 0 else self.events.get_nowait())
            while True:
                found.append(self.events.get_nowait())
        except queue.Empty:
            pass
        if self.timeout is not None:
            self._enforce(self.timeout, found)
        self._open -= sum(len(e.times) if isinstance(e, Group) else isinstance(e, Failed | Lost) for e in found)
        return found

    def _due(self, limit: int) -> float:
        now = time.monotonic_ns()
        least = [(thread.at[2] + limit - now) / 1e9 for thread in self._threads if thread.at is not None]
        return max(0.001, min(least, default=0.05))

    def _enforce(self, limit: int, found: list[Event]) -> None:
        now = time.monotonic_ns()
        for thread in list(self._threads):
            with self.lock:
                at = thread.at
                if at is None or now - at[2] <= limit:
                    continue
                thread.abandoned = True
            batch, position, began = at
            self.abandoned += 1
            self._threads.remove(thread)
            self._start()
            index = batch.index + position
            found.append(Lost(index, batch.items[position], now - began, thread.number, "timeout", 0))
            rest = batch.items[position + 1 :]
            if rest:
                self._open -= len(rest)
                found.append(Back(Batch(index + 1, rest)))

    def close(self) -> None:
        """Let every thread end when it can; none begins another item."""
        while True:
            try:
                self.todo.get_nowait()
            except queue.Empty:
                break
        for thread in self._threads:
            thread.abandoned = True
            self.todo.put(None)


class Inline:
    """The caller's own thread: one item at a time, when results are asked for."""

    def __init__(self, function: Callable[[Any], Any], init: Callable[[], Any] | None = None) -> None:
        self.function = function
        self.limit = 1
        self._init = init
        self._events: list[Event] = []

    def room(self) -> int:
        """Give how many batches it would take now."""
        return 0 if self._events else 1

    def most(self) -> int | None:
        """Give how many items the next batch may have at most."""
        return 1

    def idle(self) -> int:
        """Nobody else could be at work."""
        return 0

    def give(self, batch: Batch) -> None:
        """Compute a batch here and now."""
        init, self._init = self._init, None
        begin_state(init)
        for position, item in enumerate(batch.items):
            began = time.monotonic_ns()
            try:
                value = self.function(item)
            except Exception as error:
                took = time.monotonic_ns() - began
                self._events.append(_failed(batch.index + position, item, took, 0, error))
            else:
                took = time.monotonic_ns() - began
                self._events.append(Group(batch.index + position, [took], [value], 0, len(batch.items)))

    def held_bytes(self) -> int:
        """Nothing is pickled."""
        return 0

    def take_back(self, least: int = 2) -> None:
        """Nothing waits."""

    def poll(self, wait: float | None) -> list[Event]:
        """Give what has been computed."""
        found, self._events = self._events, []
        if wait and not found:
            time.sleep(wait)
        return found

    def close(self) -> None:
        """Nothing runs."""
