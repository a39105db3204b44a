"""The desk of a pool: calls that wait, calls that run, the crew, and the thread that hears what became of them.

Whoever submits gives the call to an idle worker at once, under the lock: that spares a
change of threads. Futures are told outside the lock, since their callbacks may submit.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from concurrent.futures import BrokenExecutor, InvalidStateError
from concurrent.futures._base import LOGGER

from vigie.engines.batch import Back, Batch, Broken, Failed, Group
from vigie.errors import ItemStopped, WorkerDied
from vigie.parallel import failures
from vigie.parallel.lessons import Lessons

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Any, Protocol

    from vigie.engines.batch import Event
    from vigie.parallel.lessons import Code

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

    #: What a future is to be told, once nobody holds the lock: its value, an error, or None if it is cancelled.
    Told = tuple["Call", Group | BaseException | None]


__all__ = ["Call", "Crew", "Desk", "PoolBroken"]


class PoolBroken(WorkerDied, BrokenExecutor):
    """No worker of the pool can do anything: its ``init`` failed, or none can be started."""


class Call:
    """One call: its future, the function (or how it travels), and how long (ns) it may take."""

    __slots__ = ("__weakref__", "args", "desk", "function", "future", "index", "kwargs", "stopping", "timeout")

    def __init__(
        self, desk: Desk, future: Future[Any], function: Any, args: tuple[Any, ...], kwargs: dict[str, Any],
        timeout: int | None,
    ) -> None:  # fmt: skip
        self.desk = desk
        self.future = future
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.timeout = timeout
        #: Its number, once it is given to the crew.
        self.index = -1
        #: It is to end, wherever the crew has it.
        self.stopping = False


class Counts:
    """How many calls have ended, and how."""

    def __init__(self) -> None:
        self.done = self.failed = self.stopped = self.cancelled = 0


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

    def __init__(self, crew: Crew, travels: bool, least: int, idle: float) -> None:
        self.crew = crew
        self.travels = travels
        self.least = least
        self.idle = idle
        self.counts = Counts()
        # A pool may be collected, and so shut down, wherever memory is asked for: also by whoever holds it.
        self.lock = threading.RLock()
        self.waiting: deque[Call] = deque()
        self.running: dict[int, Call] = {}
        self.again: deque[Call] = deque()
        #: Nothing more is taken; all that there was has ended; this process was forked by the one that has the crew.
        self.closing = self.ended = self.foreign = False
        self.thread: threading.Thread | None = None
        self._lessons = Lessons(crew.teach)
        self._broken: PoolBroken | None = None
        self._next = 0
        crew.wakeable()

    # --- from any thread --------------------------------------------------------

    def submit(self, call: Call) -> None:
        """Take a call.

        Raises
        ------
        RuntimeError
            The pool is shut down, belongs to a parent of this process, or is broken (:class:`PoolBroken`).
        """
        with self.lock:
            self._refuse_if_closed()
            self._attend()
            self.waiting.append(call)
            told = self._feed()
            if call.timeout is not None or self.crew.pending():
                self.crew.wake()
        self._tell(told)

    def _refuse_if_closed(self) -> None:
        if self._broken is not None:
            raise _again(self._broken)
        if self.foreign:
            raise RuntimeError("this pool belongs to the process that forked this one")
        if self.closing:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def warm(self) -> None:
        """Have as many workers as stay anyway."""
        with self.lock:
            if self.least:
                self.crew.warm(self.least)
                self._attend()

    def resize(self, limit: int, least: int) -> None:
        """Have another number of workers, at most and at least."""
        with self.lock:
            self._refuse_if_closed()
            self.least = least
            self.crew.resize(limit)
            told = self._feed()
            self._attend()
            self.crew.wake()
        self._tell(told)

    def stop(self, call: Call) -> bool:
        """End a call that waits or runs; False if it has ended."""
        if call.future.cancel():
            return True
        told: list[Told] = []
        with self.lock:
            if self.ended or self.running.get(call.index) is not call:
                return False
            if call in self.again:
                self.again.remove(call)
                told.append(self._stopped(call))
            else:
                # If the crew does not have it either, what became of it is about to be heard.
                call.stopping = True
                self.crew.stop(call.index)
                self.crew.wake()
        self._tell(told)
        return True

    def shut(self, *, cancel: bool, kill: bool) -> None:
        """Take nothing more; ``cancel`` what waits, ``kill`` what runs."""
        told: list[Told] = []
        with self.lock:
            self.closing = True
            if self.ended:
                return
            if cancel or kill:
                told += [(call, None) for call in self.waiting]
                self.counts.cancelled += len(self.waiting)
                self.waiting.clear()
            if kill:
                told += self._kill()
            if self.thread is None:
                self._end()
            else:
                self.crew.wake()
        self._tell(told)

    def _kill(self) -> list[Told]:
        self.again.clear()
        # What the crew does not have is not waited for: nobody knows where an interrupt was.
        lost = [call for call in self.running.values() if not self.crew.stop(call.index)]
        return [self._stopped(call) for call in lost]

    def join(self) -> None:
        """Wait until all has ended, after :meth:`shut`; not in a future's callback, which the thread itself calls.

        Raises
        ------
        RuntimeError
            A call in a thread of the pool would wait for itself.
        """
        if self.thread is None or self.thread is threading.current_thread() or self.foreign:
            return
        if not self.ended and getattr(threading.current_thread(), "crew", None) is self.crew:
            raise RuntimeError("a call cannot wait for the end of its own pool")
        self.thread.join()

    def disown(self) -> None:
        """Be of no use, in a child of the process that it belongs to."""
        self.lock = threading.RLock()  # somebody may have held it, who is not here
        self.foreign = self.closing = self.ended = True

    def _attend(self) -> None:
        """Have the thread listen, from the first call on."""
        if self.thread is None:
            thread = threading.Thread(target=self._listen, name="vigie-pool", daemon=True)
            thread.start()
            self.thread = thread

    # --- giving -----------------------------------------------------------------

    def _feed(self) -> list[Told]:
        """Give the crew what it takes; the lock is held."""
        told: list[Told] = []
        while (self.again or self.waiting) and self.crew.room() > 0:
            call = self.again.popleft() if self.again else self._begun(self.waiting.popleft())
            if call is None:
                continue
            what = call.function
            try:
                if self.travels:
                    what = self._lessons.number(what)
                self.crew.give(Batch(call.index, [(what, call.args, call.kwargs)], call.timeout))
            except BaseException as error:
                self.running.pop(call.index, None)
                self.counts.failed += 1
                told.append((call, error))
                if not isinstance(error, Exception):
                    self._tell(told)
                    raise
        return told

    def _begun(self, call: Call) -> Call | None:
        """Give a number to a call that is about to be given to the crew; None if it is cancelled."""
        if not call.future.set_running_or_notify_cancel():
            self.counts.cancelled += 1
            return None
        call.index = self._next
        self._next += 1
        self.running[call.index] = call
        return call

    # --- the thread -------------------------------------------------------------

    def _listen(self) -> None:
        wait: float | None = None
        while not self.ended:
            try:
                told, wait = self._round(self.crew.select(wait))
            except BaseException as error:
                told = self._fail(error)
            try:
                self._tell(told)
            except BaseException:
                LOGGER.exception("a callback ended as threads and processes do")
            told = []  # it is nobody's any more while the thread waits

    def _round(self, ready: Any) -> tuple[list[Told], float | None]:
        """Hear what has happened, and give out what can be given; give the seconds until the next round is due."""
        told: list[Told] = []
        wait: float | None = None
        with self.lock:
            for event in self.crew.process(ready):
                self._hear(event, told)
            told += self._feed()
            if self.running and not self.waiting and not self.again and self.crew.idle() > 0:
                self.crew.take_back()
            if not self.closing:
                if self.crew.size() < self.least:
                    with contextlib.suppress(OSError):
                        self.crew.warm(self.least)
                wait = self.crew.shrink(self.least, self.idle)
            elif not self.waiting and not self.running:
                self._end()
        return told, wait

    def _end(self) -> None:
        self.ended = True
        self.crew.close()

    def _hear(self, event: Event, told: list[Told]) -> None:
        if isinstance(event, Broken):
            if self._broken is None:
                told += self._break(failures.broken(event))
            return
        if isinstance(event, Back):
            call = self.running.get(event.batch.index)
            if call is not None and call.stopping:
                told.append(self._stopped(call))
            elif call is not None:
                self.again.append(call)
            return
        call = self.running.pop(event.index, None)
        if call is None:
            return  # it has been told already
        if isinstance(event, Group):
            self.counts.done += 1
            told.append((call, event))
        elif isinstance(event, Failed):
            self.counts.failed += 1
            told.append((call, failures.raised(event)))
        else:
            stopped = event.why == "stopped"
            self.counts.stopped += stopped
            self.counts.failed += not stopped
            limit = None if call.timeout is None else call.timeout / 1e9
            told.append((call, failures.lost(event, "the call", limit)))

    def _stopped(self, call: Call) -> Told:
        del self.running[call.index]
        self.counts.stopped += 1
        return call, ItemStopped("the call was stopped")

    def _break(self, why: BaseException) -> list[Told]:
        """No worker can do anything: nor will those that come."""
        self._broken = PoolBroken(str(why))
        self._broken.__cause__ = why.__cause__
        # As the standard library does: there may be nobody who looks at a future.
        LOGGER.critical("the pool is broken:", exc_info=self._broken)
        told: list[Told] = [(call, _again(self._broken)) for call in (*self.running.values(), *self.waiting)]
        for calls in (self.running, self.waiting, self.again):
            calls.clear()
        self.closing = True
        self.counts.failed += len(told)
        return told

    def _fail(self, error: BaseException) -> list[Told]:
        """End all, since the thread cannot do its work any more."""
        with self.lock:
            made = WorkerDied(f"the pool failed: {type(error).__name__}: {error}")
            made.__cause__ = error
            told = self._break(made)
            with contextlib.suppress(Exception):
                self._end()
        return told

    # --- futures ----------------------------------------------------------------

    def _tell(self, told: list[Told]) -> None:
        """Tell futures; what one of their callbacks raises is raised once all are told."""
        raised: BaseException | None = None
        for call, outcome in told:
            try:
                self._tell_one(call.future, outcome)
            except InvalidStateError:
                pass  # somebody else has told it
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised

    def _tell_one(self, future: Future[Any], outcome: Group | BaseException | None) -> None:
        if isinstance(outcome, Group):
            try:
                (value,) = outcome.list()
            except BaseException as error:
                with self.lock:
                    self.counts.done -= 1
                    self.counts.failed += 1
                outcome = error
            else:
                future.set_result(value)
                return
        if outcome is None:
            if future.cancel():
                future.set_running_or_notify_cancel()
        elif future.running() or future.set_running_or_notify_cancel():
            future.set_exception(outcome)


def _again(broken: PoolBroken) -> PoolBroken:
    """Say it once more; an exception that is raised twice would show both places."""
    made = PoolBroken(broken.message)
    made.__cause__ = broken.__cause__
    return made
