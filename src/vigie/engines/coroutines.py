"""Coroutines: in the event loop that runs already, or in one of our own behind the caller.

A coroutine is ended by being cancelled. One that does not let itself be ended has failed all the
same, gives its place to another after a grace, and goes on until it ends by itself. One that blocks its loop
holds up all others, and what would end it: what blocks belongs in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from typing import Any

from vigie.engines.batch import Back, Batch, Broken, Event, Failed, Group, Lost
from vigie.engines.threads import _failed
from vigie.local import state
from vigie.payload import told

__all__ = ["Coroutines", "InLoop"]

#: Seconds for what a coroutine does when it is cancelled: it keeps its place, and is waited for at the end.
GRACE = 0.5
#: Seconds in which a thread with its loop is to end.
PATIENCE = 0.9


class _Item:
    """An item, and what computes it."""

    __slots__ = ("began", "index", "item", "number", "of", "task", "timer", "told")

    def __init__(self, index: int, item: Any, of: int) -> None:
        self.index = index
        self.item = item
        self.of = of
        #: Its place, from 1 to the limit.
        self.number = 0
        self.began = 0
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        #: It is known what became of it, whatever its task does still.
        self.told = False

    def took(self) -> int:
        return time.monotonic_ns() - self.began if self.began else 0


class _Crew:
    """The items that run in one event loop; all of it is called in the loop's thread.

    Attributes
    ----------
    abandoned:
        How many were left alone that took too long and did not end when they were cancelled.
    """

    def __init__(
        self, function: Callable[[Any], Any], limit: int, timeout: float | None, init: Callable[[], Any] | None,
        tell: Callable[[Event], None],
    ) -> None:  # fmt: skip
        self._function = function
        self._limit = limit
        self._timeout = timeout
        self._init = init
        self._tell = tell
        #: What the caller has set is seen by ``init`` and by the items, and what ``init`` sets by the items.
        self._context = contextvars.copy_context()
        self._todo: deque[_Item] = deque()
        #: Those that have a place, and those that were abandoned.
        self._running: set[_Item] = set()
        self._left: set[_Item] = set()
        self._free: list[int] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun: asyncio.Task[None] | None = None
        self._ready = self._closed = False
        self.abandoned = 0

    def give(self, batch: Batch) -> None:
        """Have items computed, each as soon as there is a place."""
        of = len(batch.items)
        self._todo.extend(_Item(batch.index + at, item, of) for at, item in enumerate(batch.items))
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._begun = self._loop.create_task(self._begin(), context=self._context)
        self._start()

    async def _begin(self) -> None:
        try:
            named = self._init() if self._init is not None else None
            if isawaitable(named):
                named = await named
            if isinstance(named, dict):
                state.fill(named, thread=True)
        except BaseException as error:
            self._tell(Broken("init", *told(error), error))
            if not isinstance(error, Exception):
                raise
        else:
            self._ready = True
            self._start()

    def _start(self) -> None:
        loop = self._loop
        assert loop is not None
        while self._todo and self._ready and not self._closed and len(self._running) < self._limit:
            one = self._todo.popleft()
            one.number = self._free.pop() if self._free else len(self._running) + 1
            self._running.add(one)
            one.task = loop.create_task(self._compute(one), context=self._context.copy())
            one.task.add_done_callback(partial(self._ended, one))

    async def _compute(self, one: _Item) -> None:
        one.began = time.monotonic_ns()
        if self._timeout is not None:
            one.timer = asyncio.get_running_loop().call_later(self._timeout, self._late, one)
        try:
            value = self._function(one.item)
            if isawaitable(value):
                value = await value
        except BaseException as error:
            self._report(one, _failed(one.index, one.item, one.took(), one.number, error))
            if not isinstance(error, Exception):
                raise  # it is the loop's as well: a cancellation, or Ctrl-C
        else:
            self._report(one, Group(one.index, [one.took()], [value], one.number, one.of))

    def _report(self, one: _Item, event: Event) -> None:
        if not one.told:
            one.told = True
            self._tell(event)

    def _late(self, one: _Item) -> None:
        if one.told:
            return
        assert one.task is not None
        assert self._loop is not None
        self._report(one, Lost(one.index, one.item, one.took(), one.number, "timeout", 0))
        one.task.cancel()
        one.timer = self._loop.call_later(GRACE, self._abandon, one)

    def _abandon(self, one: _Item) -> None:
        self.abandoned += 1
        self._left.add(one)
        self._release(one)

    def _ended(self, one: _Item, task: asyncio.Task[None]) -> None:
        if one.timer is not None:
            one.timer.cancel()
        if not task.cancelled():
            task.exception()  # has been told, and is not to be logged
        if not one.told:  # somebody else has cancelled it before it began
            self._report(one, _failed(one.index, one.item, 0, one.number, asyncio.CancelledError()))
        self._left.discard(one)
        self._release(one)

    def _release(self, one: _Item) -> None:
        if one in self._running:
            self._running.remove(one)
            self._free.append(one.number)
            self._start()

    def close(self) -> None:
        """Cancel everything; nothing begins any more."""
        self._closed = True
        self._todo.clear()
        if self._loop is not None and not self._loop.is_closed():
            for task in self.tasks() | self.left():
                task.cancel()

    def tasks(self) -> set[asyncio.Task[None]]:
        """Give what runs."""
        tasks = {one.task for one in self._running if one.task is not None}
        return tasks if self._begun is None or self._begun.done() else tasks | {self._begun}

    def left(self) -> set[asyncio.Task[None]]:
        """Give what was abandoned, and has not ended."""
        return {one.task for one in self._left if one.task is not None}


class _Engine:
    """What both engines say of themselves; ``most`` items are with them at most."""

    def __init__(self, limit: int, most: int) -> None:
        self.limit = limit
        self._most = most
        #: Items given and not reported.
        self._open = 0

    def room(self) -> int:
        """Give how many batches it would take now."""
        return max(0, self._most - self._open)

    def most(self) -> int | None:
        """Give how many items the next batch may have at most."""
        return self.room()

    def busy(self) -> int:
        """Give how many are at work."""
        return min(self._open, self.limit)

    def held_bytes(self) -> int:
        """Nothing is pickled."""
        return 0

    def take_back(self, least: int = 2) -> None:
        """Nothing waits behind a certain item."""

    def _count(self, found: list[Event]) -> None:
        self._open -= sum(isinstance(event, Group | Failed | Lost) for event in found)


class InLoop(_Engine):
    """Coroutines in the event loop that runs; as :class:`Coroutines`, but all of it is called in the loop's thread.

    Attributes
    ----------
    heard:
        Called whenever :meth:`poll`, which never waits, has something to give.
    """

    def __init__(
        self, function: Callable[[Any], Any], limit: int, *, timeout: float | None = None,
        init: Callable[[], Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(limit, limit)
        self.heard: Callable[[], None] = lambda: None
        self._events: list[Event] = []
        self._crew = _Crew(function, limit, timeout, init, self._tell)

    @property
    def abandoned(self) -> int:
        """How many items were left alone that took too long and did not end when they were cancelled."""
        return self._crew.abandoned

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self.heard()

    def give(self, batch: Batch) -> None:
        """Have a batch computed."""
        self._open += len(batch.items)
        self._crew.give(batch)

    def poll(self, wait: float | None) -> list[Event]:
        """Give what has happened."""
        found, self._events = self._events, []
        self._count(found)
        return found

    def close(self) -> None:
        """Cancel everything."""
        self._crew.close()

    def tasks(self) -> set[asyncio.Task[None]]:
        """Give what runs; none of it goes on for long after :meth:`close`."""
        return self._crew.tasks()


class Coroutines(_Engine):
    """Coroutines in an event loop in a thread behind the caller; as :class:`~vigie.engines.threads.Threads`.

    Parameters
    ----------
    function:
        Called with each item in the loop's thread; what it returns is awaited, if that can be.
    limit:
        The most items at once.
    timeout:
        Seconds that an item may take until it is cancelled; None: any time.
    init:
        Called there without arguments before the first item, and awaited too.
    """

    def __init__(
        self, function: Callable[[Any], Any], limit: int, *, timeout: float | None = None,
        init: Callable[[], Any] | None = None,
    ) -> None:  # fmt: skip
        # As many as run wait in the loop: none has to come from the caller first when one ends.
        super().__init__(limit, 2 * limit)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._crew = _Crew(function, limit, timeout, init, self._events.put)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="vigie-loop", daemon=True)
        self._closed = False
        #: A child of the caller that inherits all this has no say in it.
        self._pid = os.getpid()

    @property
    def abandoned(self) -> int:
        """How many items were left alone that took too long and did not end when they were cancelled."""
        return self._crew.abandoned

    def give(self, batch: Batch) -> None:
        """Have a batch computed."""
        self._open += len(batch.items)
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread.start()
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has failed, and said so
            self._loop.call_soon_threadsafe(self._crew.give, batch)

    def poll(self, wait: float | None) -> list[Event]:
        """Give what has happened, waiting up to ``wait`` seconds for something (None: for ever)."""
        found: list[Event] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._events.get(timeout=wait) if wait != 0 else self._events.get_nowait())
            while True:
                found.append(self._events.get_nowait())
        self._count(found)
        return found

    def wakeable(self) -> None:
        """Have :meth:`wake` work, which it always does."""

    def wake(self) -> None:
        """Have :meth:`poll` return, from any thread."""
        self._events.put(Back(Batch(0, ()), alone=True))

    def close(self) -> None:
        """Cancel everything, and end the loop and its thread; one that is blocked ends when it can."""
        if self._closed or self._loop is None or os.getpid() != self._pid:
            return
        self._closed = True
        with contextlib.suppress(RuntimeError):  # as in give
            self._loop.call_soon_threadsafe(self._loop.stop)
        if not self._thread.is_alive():
            self._loop.close()
        elif threading.current_thread() is not self._thread and not sys.is_finalizing():
            self._thread.join(PATIENCE)

    # --- in the loop's thread -----------------------------------------------------

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        try:
            while not self._closed:
                with contextlib.suppress(KeyboardInterrupt, SystemExit):  # an item's own: it has failed with it
                    loop.run_forever()
            loop.run_until_complete(self._wind_down())
        except BaseException as error:
            self._events.put(Broken("worker", "", f"the event loop failed: {error}", ""))
        finally:
            # Of those that do not let themselves be ended nobody wants to read.
            loop.set_exception_handler(lambda loop, context: None)
            loop.close()

    async def _wind_down(self) -> None:
        """End all tasks, those too that items have started, and all generators; what takes long is left alone."""
        self._crew.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks - self._crew.left():
            await asyncio.wait(tasks - self._crew.left(), timeout=GRACE)
        generators = asyncio.ensure_future(asyncio.get_running_loop().shutdown_asyncgens())
        await asyncio.wait([generators], timeout=GRACE / 2)
