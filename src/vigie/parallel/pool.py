"""``vigie.Pool``: a ``concurrent.futures.Executor`` that outlives what its tasks do to its workers."""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import weakref
from concurrent.futures import Executor, Future
from functools import partial
from types import FunctionType

from vigie import callables, payload
from vigie.errors import NotSerializable, UsageError
from vigie.model import cores
from vigie.parallel.desk import Call, Desk, PoolBroken
from vigie.parallel.options import a_count, memory, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Literal, Self, TypeVar

    from vigie.parallel.desk import Crew
    from vigie.parallel.lessons import Code

    T = TypeVar("T")

__all__ = ["Pool", "PoolBroken", "PoolFuture", "PoolStats"]

#: Seconds that a call waits behind another in the line of one worker.
PATIENCE = 0.05
#: Pools that are not shut down; at the interpreter's end their calls are waited for.
_open: weakref.WeakSet[Desk] = weakref.WeakSet()


class PoolStats:
    """What a pool is doing, and has done.

    Attributes
    ----------
    limit, least:
        Workers at most, and at least.
    workers, busy:
        Workers that there are, and those that are at a call.
    waiting, running:
        Calls that nobody has begun, and those given to a worker.
    done, failed, stopped, cancelled:
        Calls that have ended: with a value, with an error, by ``stop``, before they began.
    """

    __slots__ = (
        "busy", "cancelled", "done", "failed", "least", "limit", "running", "stopped", "waiting", "workers"
    )  # fmt: skip

    limit: int
    least: int
    workers: int
    busy: int
    waiting: int
    running: int
    done: int
    failed: int
    stopped: int
    cancelled: int

    def __init__(self, **numbers: int) -> None:
        for name in self.__slots__:
            setattr(self, name, numbers[name])

    def __repr__(self) -> str:
        return f"PoolStats({', '.join(f'{name}={getattr(self, name)}' for name in self.__annotations__)})"


class PoolFuture(Future["T"]):
    """The standard's future, which can stop its call as well."""

    _call: weakref.ref[Call] | None = None

    def stop(self) -> bool:
        """End the call, also while it runs.

        What has not begun is cancelled. A worker process at the call is ended (SIGTERM, then
        SIGKILL after half a second) and replaced; a thread is abandoned with it. Its result
        is then an :class:`~vigie.errors.ItemStopped`.

        Returns
        -------
        False if it has ended already.
        """
        call = None if self._call is None else self._call()
        return call is not None and call.desk.stop(call)


class Pool(Executor):
    """Workers that take calls; a ``concurrent.futures.Executor``.

    Unlike the standard library's, it takes lambdas and closures, needs no ``__main__`` guard,
    and is not broken by a call that crashes its worker: that call alone fails.

    Parameters
    ----------
    max_workers:
        How many at once; default: the cores, and as many threads and four more, but no more than 32.
    on:
        ``processes``, ``threads``, or from Python 3.14 on ``interpreters``, which have an interpreter
        lock each.
    init:
        Called in each worker before its first call. Returns it a dictionary, its entries are
        attributes of ``vigie.state`` in that worker.
    min_workers:
        How many are started at once, and stay; others come with the calls.
    idle:
        After how long (seconds or text) without a call the others leave.
    timeout:
        For each call: seconds or text. A worker process is ended; a thread is abandoned.
        :meth:`options` sets it for single calls.
    recycle:
        Replace a worker process after so many calls.
    memory_limit:
        Data that a worker process may have: bytes or text.
    initializer, initargs:
        As in the standard library; ``init`` is the shorter way.

    Raises
    ------
    UsageError
        When an option makes no sense.

    >>> with Pool(2, on="threads") as pool:
    ...     pool.submit(pow, 2, 10).result()
    1024
    """

    def __init__(
        self, max_workers: int | None = None, *, on: Literal["processes", "threads", "interpreters"] = "processes",
        init: Callable[[], Any] | None = None, min_workers: int = 0, idle: float | str = 30.0,
        timeout: float | str | None = None, recycle: int | None = None, memory_limit: int | str | None = None,
        initializer: Callable[..., Any] | None = None, initargs: tuple[Any, ...] = (),
    ) -> None:  # fmt: skip
        limit = _limit(max_workers, on)
        least = _least(min_workers, limit)
        if initializer is not None:
            if not callable(initializer):
                raise TypeError("initializer must be a callable")
            if init is not None:
                raise UsageError("init and initializer are the same: give one")
            init = partial(initializer, *initargs)
        self._timeout = seconds(timeout, "timeout")
        self._on = on
        patience = seconds(idle, "idle") or 0.0
        #: How functions travel.
        self._known: weakref.WeakKeyDictionary[FunctionType, Code] = weakref.WeakKeyDictionary()
        crew = _crew(on, limit, init, a_count(recycle, "recycle", 1), memory(memory_limit))
        self._desk = Desk(crew, on == "processes", least, patience)
        _open.add(self._desk)
        # Nobody refers to the pool any more: what was submitted is done, and that is all.
        weakref.finalize(self, self._desk.shut, cancel=False, kill=False).atexit = False
        self._desk.warm()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> PoolFuture[T]:
        """Have a function called; every argument is the function's.

        Raises
        ------
        RuntimeError
            After a shutdown, or when no worker can do anything (:class:`PoolBroken`).
        """
        return self._submit(self._timeout, fn, args, kwargs)

    def _submit(self, timeout: float | None, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PoolFuture[Any]:
        future: PoolFuture[Any] = PoolFuture()
        limit = None if timeout is None else int(timeout * 1e9)
        try:
            function = self._packed(fn)
        except payload.PayloadError as error:
            future.set_exception(NotSerializable(str(error)))
            return future
        call = Call(self._desk, future, function, args, kwargs, limit)
        future._call = weakref.ref(call)
        self._desk.submit(call)
        return future

    def _packed(self, fn: Any) -> Any:
        fn = callables.unwrap(fn)
        if self._on == "threads":
            return fn
        # One that takes nothing along but its module is as it was when it was first sent.
        lasting = isinstance(fn, FunctionType) and fn.__closure__ is None
        found = self._known.get(fn) if lasting else None
        if found is None:
            found = callables.pack_function(fn)[:2]
            if lasting:
                self._known[fn] = found
        return found

    def options(self, *, timeout: float | str | None = None) -> Options:
        """Give what submits calls with options of their own: ``pool.options(timeout="5s").submit(f, x)``."""
        return Options(self, seconds(timeout, "timeout"))

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """Call a function with each item, as the standard's ``Executor.map``; it reads all items at once.

        :func:`vigie.map` is lazy, sizes its chunks by itself and tells items apart.

        Raises
        ------
        ValueError
            When ``chunksize`` is under 1.
        TimeoutError
            When a result is not there ``timeout`` seconds after this call.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        items = zip(*iterables, strict=False)
        chunks = iter(lambda: list(itertools.islice(items, chunksize)), [])
        return _one_by_one(super().map(partial(_each, fn), chunks, timeout=timeout))

    def resize(self, max_workers: int, min_workers: int | None = None) -> None:
        """Have another number of workers from now on; what runs is not disturbed.

        Raises
        ------
        UsageError
            When there would be more at least than at most, or none.
        RuntimeError
            After a shutdown.
        """
        limit = _limit(max_workers, self._on)
        least = min(self._desk.least, limit) if min_workers is None else min_workers
        self._desk.resize(limit, _least(least, limit))

    def stats(self) -> PoolStats:
        """Tell what the pool is doing.

        >>> with Pool(3, on="threads") as pool:
        ...     pool.submit(abs, -1).result(), pool.stats().limit
        (1, 3)
        """
        desk = self._desk
        with desk.lock:
            crew, counts = desk.crew, desk.counts
            return PoolStats(
                limit=crew.limit, least=desk.least, workers=crew.size(), busy=crew.busy(), waiting=len(desk.waiting),
                running=len(desk.running), done=counts.done, failed=counts.failed, stopped=counts.stopped,
                cancelled=counts.cancelled,
            )  # fmt: skip

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no calls more; ``wait`` for those that there are, ``cancel_futures`` of those that have not begun."""
        self._shut(wait=wait, cancel=cancel_futures, kill=False)

    def stop(self) -> None:
        """End everything at once: what waits is cancelled, what runs is stopped."""
        self._shut(wait=True, cancel=True, kill=True)

    def _shut(self, *, wait: bool, cancel: bool, kill: bool) -> None:
        self._desk.shut(cancel=cancel, kill=kill)
        if wait:
            self._desk.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self.stop()  # Ctrl-C, or an exit: nobody waits for results any more
            return
        try:
            self.shutdown()
        except KeyboardInterrupt:
            self.stop()
            raise

    def __repr__(self) -> str:
        stats = self.stats()
        return f"<Pool of {stats.workers} to {stats.limit} {self._on}, {stats.running + stats.waiting} calls open>"


class Options:
    """What submits calls to a pool with options of their own; made by :meth:`Pool.options`."""

    def __init__(self, pool: Pool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> PoolFuture[T]:
        """As :meth:`Pool.submit`."""
        return self._pool._submit(self._timeout, fn, args, kwargs)


def _each(fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    return [fn(*args) for args in chunk]


def _one_by_one(chunks: Iterator[list[T]]) -> Iterator[T]:
    """Give the items of lists, and keep none that was given."""
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()


def _limit(count: int | None, on: str) -> int:
    if count is None:
        return min(32, cores() + 4) if on == "threads" else cores()
    if isinstance(count, int) and count <= 0:
        raise UsageError(f"max_workers must be greater than 0, and is {count}")
    return a_count(count, "max_workers", 1) or 1


def _least(count: int, limit: int) -> int:
    least = a_count(count, "min_workers", 0) or 0
    if least > limit:
        raise UsageError(f"min_workers is {least}, and there are {limit} at most")
    return least


def _crew(on: str, limit: int, init: Callable[[], Any] | None, recycle: int | None, memory_limit: int | None) -> Crew:
    if on == "processes":
        from vigie.engines.processes import Processes

        return Processes(None, limit, init=init, recycle=recycle, memory_limit=memory_limit, patience=PATIENCE)
    for name, given in (("recycle", recycle), ("memory_limit", memory_limit)):
        if given is not None:
            raise UsageError(f"{name} is for processes: a thread shares everything with the others")
    if on == "threads":
        from vigie.engines.threads import Threads

        return Threads(_call, limit, init=init, depth=1, wait=True)
    if on == "interpreters":
        from vigie.engines.interpreters import Interpreters

        return Interpreters(None, limit, init=init, wait=True)
    raise UsageError(f"on is {on!r}: it is processes, threads or interpreters")


def _call(item: tuple[Any, tuple[Any, ...], dict[str, Any]]) -> Any:
    function, args, kwargs = item
    return function(*args, **kwargs)


@atexit.register
def _finish() -> None:
    """Wait for the calls of pools that nobody has shut down, as the standard library does; not after Ctrl-C."""
    # In a session it is an interrupt of long ago.
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")
    for desk in list(_open):
        desk.shut(cancel=interrupted, kill=interrupted)
        desk.join()


def _forked() -> None:
    for desk in list(_open):
        desk.disown()


os.register_at_fork(after_in_child=_forked)
