"""``vigie.amap``: :func:`vigie.map` inside an event loop, from an iterable of either kind to an asynchronous one.

What a run does next is decided by the same :class:`~vigie.parallel.course.Course`; only who drives
it differs. Coroutines run in the caller's loop, which drives their course whenever one of
them has ended. Processes and threads are driven by a thread of the run's own, so that
nothing they need holds the loop up. In both cases the source is read in the loop, as far as
is wanted and no further.

Nothing that runs holds the :class:`AsyncRun`: when the caller lets go of it, as ``break`` does, everything ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from vigie.engines.coroutines import GRACE, InLoop
from vigie.errors import UsageError
from vigie.parallel.course import PATIENCE, PAUSE, Course
from vigie.parallel.plan import COROUTINES, Crew, Plan, no_key, shown

__all__ = ["AsyncRun", "amap"]

#: Items that are read, and results that are handed over by a thread, before anybody asks for them.
AHEAD = 64
#: Seconds after which a thread that waits looks around, should nothing happen.
LONG = 60.0

_END = object()


class AsyncRun(AsyncIterator[Any]):
    """The results of a parallel run, as they come; made by :func:`amap`.

    It ends everything that runs at its own end, when who waits for a result is cancelled, when it is closed,
    left by ``async with``, or no longer held.
    """

    def __init__(self, driver: _Within | _Beside) -> None:
        self._driver = driver

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            result = await self._driver.next()
        except GeneratorExit:
            raise  # nothing can be waited for any more
        except StopAsyncIteration as error:
            await self.aclose()
            raise RuntimeError("an item raised StopAsyncIteration") from error
        except BaseException:
            await self.aclose()
            raise
        if result is _END:
            await self.aclose()
            raise StopAsyncIteration
        return result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._driver.close()

    async def aclose(self) -> None:
        """End everything that runs, and wait for that; what is left of the items is not computed."""
        self._driver.close()
        await self._driver.ended()


# The source -------------------------------------------------------------------------


class _Reader:
    """Reads a source in the loop, as far as is wanted, for a course in whatever thread."""

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any], context: contextvars.Context) -> None:
        self._items = items if isinstance(items, AsyncIterable) else iter(items)
        self._context = context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._more = asyncio.Event()
        self._since = 0.0
        self._read: deque[Any] = deque()
        #: How many may be read and not taken; only who takes changes it.
        self._wanted = 0
        self._over = False
        self.error: BaseException | None = None
        #: Called in the loop when something was read, or all.
        self.heard: Callable[[], None] = lambda: None
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.task = self._loop.create_task(self._run(), context=self._context)

    def take(self, most: int, ahead: int) -> tuple[list[Any], bool]:
        """Give up to ``most`` items, and whether all are taken; with these ``ahead`` may be read."""
        over = self._over  # first: nothing is read after that is set
        count = min(most, len(self._read))
        # Before any is taken: else as many more would be read in their place.
        self._wanted = max(ahead if count < most else 0, self._wanted) - count
        items = [self._read.popleft() for _ in range(count)]
        if count < most and not over:
            _call(self._loop, self._more.set)
        return items, over and not self._read

    def close(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def _run(self) -> None:
        try:
            await self._turn()
            if isinstance(self._items, AsyncIterable):
                async for item in self._items:
                    await self._keep(item)
            else:
                for item in self._items:
                    await self._keep(item)
        except BaseException as error:
            # What came before it is computed, and told, first.
            self.error = error
            if not isinstance(error, Exception):
                raise  # it is the loop's as well
        finally:
            self._over = True
            self._items = iter(())  # a generator that nobody else holds ends now
            self.heard()

    async def _keep(self, item: Any) -> None:
        self._read.append(item)
        self.heard()
        await self._turn()

    async def _turn(self) -> None:
        """Wait until more is wanted; let others have their turn meanwhile, and now and then anyway."""
        if len(self._read) < self._wanted:
            if time.monotonic() < self._since + PATIENCE:
                return
            await asyncio.sleep(0)
        while len(self._read) >= self._wanted:
            self._more.clear()
            await self._more.wait()
        self._since = time.monotonic()


class _Fed(Course):
    """A course that takes what has been read, and waits for nothing."""

    def __init__(
        self, engine: Engine, reader: _Reader, plan: Plan, resume: Resume | None = None, show: Show | None = None
    ) -> None:
        super().__init__(engine, (), plan, resume, show)
        self._reader = reader

    def _draw(self, most: int) -> list[Any]:
        items, over = self._reader.take(most, max(most, min(AHEAD, self._room())))
        if over:
            self._exhausted = True
            self._source_error = self._reader.error
        return items


# Who drives ---------------------------------------------------------------------------


class _Driver:
    """What has a course go on, and gives its results in the caller's loop."""

    def __init__(self, reader: _Reader, course: Course) -> None:
        self._reader = reader
        self._course = course
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._closed = self._rung = False
        self._error: BaseException | None = None
        reader.heard = self._ring

    def _begin(self) -> bool:
        """Tell whether this is the first time that a result is asked for."""
        if self._loop is not None or self._closed:
            return False
        self._loop = asyncio.get_running_loop()
        self._reader.start()
        return True

    def _ring(self) -> None:
        """Have a step made soon: one, however often it is asked for."""
        if not self._rung and self._loop is not None:
            self._rung = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._rung = False

    def _end(self) -> object:
        """Give the end, or raise what made it."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        return _END


class _Within(_Driver):
    """Drives a run in the caller's loop: a step whenever something has happened."""

    def __init__(self, engine: InLoop, reader: _Reader, course: Course) -> None:
        super().__init__(reader, course)
        self._engine = engine
        self._results = course.drive(waits=False)
        self._timer: asyncio.TimerHandle | None = None
        engine.heard = self._ring

    async def next(self) -> Any:
        if self._begin():
            self._step()
        while self._error is None:
            result = next(self._results, _END)
            if result is _END:
                break
            if result is not PAUSE:
                self._ring()  # who takes a result makes room for an item
                return result
            self._news.clear()
            await self._news.wait()
        return self._end()

    def _step(self) -> None:
        super()._step()
        if self._closed:
            return
        assert self._loop is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            self._course.hear(0)
            held = self._course.feed()
        except Exception as error:
            self._error = error
        else:
            if held is not None:
                self._timer = self._loop.call_later(held, self._ring)
        self._news.set()

    def close(self) -> None:
        if self._loop is None or _runs(self._loop):
            self._close()
        else:
            _call(self._loop, self._close)

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._results.close()
        self._course.close()
        self._reader.close()
        if self._timer is not None:
            self._timer.cancel()
        self._news.set()

    async def ended(self) -> None:
        tasks = self._engine.tasks() | ({self._reader.task} if self._reader.task is not None else set())
        if tasks := tasks - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=GRACE)


if TYPE_CHECKING:
    from typing import Protocol

    from vigie.parallel.course import Engine, Show
    from vigie.parallel.resume import Resume

    class _Wakeable(Engine, Protocol):
        def wakeable(self) -> None: ...
        def wake(self) -> None: ...


class _Beside(_Driver):
    """Drives a run in a thread of its own, which hands results over: ``ahead`` of them before they are asked for."""

    def __init__(self, engine: Engine, reader: _Reader, course: Course, ahead: int) -> None:
        super().__init__(reader, course)
        self._engine = cast("_Wakeable", engine)
        self._engine.wakeable()
        self._ahead = ahead
        self._results: deque[Any] = deque()
        #: How many wait for a result: the thread looks at it once it has handed one over.
        self._waiting = 0
        self._ended = asyncio.Event()
        #: Held to wake the engine, and to say that it cannot be woken any more.
        self._lock = threading.Lock()
        self._driven = True

    async def next(self) -> Any:
        if self._begin():
            threading.Thread(target=self._drive, name="vigie-amap", daemon=True).start()
        self._waiting += 1
        try:
            while self._closed or not self._results:
                if self._closed or self._ended.is_set():
                    return self._end()
                self._news.clear()
                self._wake()
                await self._news.wait()
        finally:
            self._waiting -= 1
        result = self._results.popleft()
        if len(self._results) == self._ahead // 2:
            self._wake()
        return result

    def _step(self) -> None:
        super()._step()
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            if self._driven:
                self._engine.wake()

    def close(self) -> None:
        self._closed = True
        if self._loop is None:
            self._course.close()
        else:
            self._wake()
            _call(self._loop, self._reader.close)

    async def ended(self) -> None:
        if self._loop is not None:
            await self._ended.wait()
            assert self._reader.task is not None
            await asyncio.wait([self._reader.task], timeout=GRACE)

    # --- in the thread ------------------------------------------------------------

    def _drive(self) -> None:
        results = self._course.drive(waits=False)
        try:
            while not self._closed:
                if len(self._results) >= self._ahead + self._waiting:
                    # What has come waits for the caller: more may come meanwhile.
                    held = self._course.feed()
                    self._course.hear(LONG if held is None else held)
                    continue
                result = next(results, _END)
                if result is _END:
                    break
                if result is PAUSE:
                    self._course.pump(None)
                    continue
                self._results.append(result)
                if self._waiting:
                    _call(self._loop, self._news.set)
        except BaseException as error:
            self._error = error
        finally:
            with self._lock:
                self._driven = False
            try:
                results.close()
                self._course.close()
            finally:
                _call(self._loop, self._leave)

    def _leave(self) -> None:
        self._ended.set()
        self._news.set()


def _call(loop: asyncio.AbstractEventLoop | None, function: Callable[[], Any]) -> None:
    """Have something called in a loop, from any thread, unless it is closed."""
    assert loop is not None
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


def _runs(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether this is called in a loop's own thread, while it runs."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


# The function -------------------------------------------------------------------------


def amap(
    function: Callable[[Any], Any],
    items: Iterable[Any] | AsyncIterable[Any],
    /,
    *,
    limit: int | None = None,
    on: Literal["async", "processes", "threads"] = "async",
    ordered: bool = True,
    timeout: float | str | None = None,
    retries: int = 0,
    rate: str | float | None = None,
    errors: Literal["raise", "collect", "skip"] = "raise",
    progress: bool | str | None = None,
    resume: str | None = None,
    key: Callable[[Any], Any] | None = None,
    fresh: bool = False,
    init: Callable[[], Any] | None = None,
    recycle: int | None = None,
    window: int | None = None,
    memory_limit: int | str | None = None,
) -> AsyncRun:
    """Call a function with each item inside an event loop, several at once, and give the results as they come.

    Parameters
    ----------
    function:
        A coroutine function, called with one item; with ``on`` others, as for :func:`vigie.map`.
    items:
        An iterable or an asynchronous one, endless too: at most a window of it is taken ahead. It is
        read in the loop.
    limit:
        How many at once; default: 100, or the cores, or 32 threads.
    on:
        ``async``: in the loop that runs. ``processes`` and ``threads``: there; the loop
        is not held up by them.
    timeout:
        For each item: seconds or text (``"30s"``). A coroutine is cancelled; one that does not let itself be has
        failed all the same, and is left alone.
    init:
        Called before the first item, and awaited if that can be; in each worker.
    ordered, retries, rate, errors, progress, resume, key, fresh, recycle, window, memory_limit:
        As for :func:`vigie.map`.

    Raises
    ------
    UsageError
        When an option makes no sense.
    NotSerializable
        When the function, an item or a result cannot travel to or from a worker.
    ItemTimeout, WorkerDied
        With ``errors="raise"``, as anything that the function raises.

    >>> import asyncio
    >>> async def double(number):
    ...     await asyncio.sleep(0.001)
    ...     return 2 * number
    >>> async def main():
    ...     async for value in amap(double, range(3), limit=2):
    ...         print(value)
    >>> asyncio.run(main())
    0
    2
    4
    """
    within = on == "async"
    clock = _loop_time if within else time.monotonic
    plan = Plan(ordered=ordered, timeout=timeout, retries=retries, rate=rate, errors=errors, window=window, clock=clock)
    if on not in ("async", "processes", "threads"):
        raise UsageError(f"on is {on!r}: it is async, processes or threads")
    crew = Crew(function, on, plan, limit=limit, init=init, recycle=recycle, memory_limit=memory_limit)
    no_key(resume, key, fresh=fresh)
    reader = _Reader(items, contextvars.copy_context())
    journal = None
    if resume is not None:
        from vigie.parallel.resume import Resume

        journal = Resume(resume, crew.function, items if isinstance(items, Iterable) else (), key=key, fresh=fresh)
    show = shown(progress, crew.function, items, journal)
    if within:
        engine = InLoop(crew.function, crew.limit or COROUTINES, timeout=plan.timeout, init=init)
        return AsyncRun(_Within(engine, reader, _Fed(engine, reader, plan, journal, show)))
    # What was handed over and not asked for counts too.
    ahead = AHEAD if plan.window is None else min(AHEAD, plan.window // 2)
    if plan.window is not None:
        plan.window -= ahead
    beside = crew.engine()
    return AsyncRun(_Beside(beside, reader, _Fed(beside, reader, plan, journal, show), ahead))


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
