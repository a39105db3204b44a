"""``vigie.map``: one function over many items, lazily at both ends.

The caller's thread does everything: it takes items from their source, gives them to
the workers, and waits for results, whenever the next result is asked for. So the source
is read where it was made, nothing has to be locked, and a caller that takes its
time holds the workers up after a window of items, not the machine's memory.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

from vigie.callables import unwrap
from vigie.engines.batch import Back, Batch, Event, Failed, Group, Lost
from vigie.errors import UsageError
from vigie.model import cores
from vigie.parallel import failures
from vigie.parallel.batching import TARGET, Batching
from vigie.values import parse_duration, parse_rate, parse_size

__all__ = ["Outcome", "Run", "map"]

T = TypeVar("T")

#: Items between the source and the caller, at least, and in batches of each worker.
WINDOW, DEEP = 1_000, 4
#: Bytes of pickles between the source and the caller at which nothing more is taken from the source.
MOST_BYTES = 64 << 20
#: How long (s) to wait for a source that has given something before what it gave is sent.
PATIENCE = 0.002
#: Items that are taken from the source between two looks at the clock.
FEW = 8
#: What is under way for longer than this (ns) is worth being shared when others are idle.
WORTH = 2_000_000


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of one item.

    Attributes
    ----------
    index:
        Its place among the items, from 0 on.
    value:
        What the function returned; None if it did not.
    error:
        What it raised, :class:`~vigie.errors.ItemTimeout`, :class:`~vigie.errors.WorkerDied`, or None.
    attempts:
        How often it was tried.
    duration:
        Seconds of the last try.
    worker:
        The number of the worker that had it last.
    signal:
        What killed its worker, if that is what happened.
    peak_rss:
        The most memory that its worker had held until then, in bytes; of items over 10 ms in processes.
    """

    index: int
    value: T | None
    error: BaseException | None
    attempts: int
    duration: float
    worker: int
    signal: int | None = None
    peak_rss: int | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None


class Engine(Protocol):
    """Where items are computed; see ``vigie.engines``."""

    limit: int

    def room(self) -> int: ...
    def most(self) -> int | None: ...
    def idle(self) -> int: ...
    def give(self, batch: Batch) -> None: ...
    def held_bytes(self) -> int: ...
    def take_back(self, least: int = 2) -> None: ...
    def poll(self, wait: float | None) -> list[Event]: ...
    def close(self) -> None: ...


class Run(Iterator[Any]):
    """The results of a parallel run, as they come; made by :func:`map`.

    It ends its workers at its own end, when it is closed, left by ``with``, or no longer held.
    """

    def __init__(self, course: _Course) -> None:
        self._course = course
        self._results = course.drive()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._results)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._course.close()

    def close(self) -> None:
        """End everything that runs; what is left of the items is not computed."""
        self._results.close()
        self._course.close()


class _Course:
    """How far a run is, and what it does next."""

    def __init__(
        self, engine: Engine, items: Iterable[Any], *, ordered: bool, retries: int, errors: str,
        window: int | None, interval: float | None, target: int, timeout: float | None,
    ) -> None:  # fmt: skip
        self._engine = engine
        self._source = iter(items)
        self._ordered = ordered
        self._retries = retries
        self._errors = errors
        self._window = window
        self._interval = interval
        self._timeout = timeout
        self._next_start = 0.0
        self._batching = Batching(target)
        self._exhausted = False
        #: The source took its time when it was asked last.
        self._slow = False
        self._source_error: BaseException | None = None
        #: Items taken from the source, and those of which the caller knows what became.
        self._taken = self._told = 0
        #: Items with the engine, and the bytes of results that have come and were not told.
        self._under_way = 0
        self._bytes = 0
        self._again: deque[Batch] = deque()
        self._failures: dict[int, int] = {}
        #: What has come and was not told, by its first index; in order, the next to tell.
        self._come: dict[int, Group | Outcome[Any]] = {}
        self._fresh: deque[Group | Outcome[Any]] = deque()
        self._next = 0

    def close(self) -> None:
        """End the workers."""
        self._engine.close()

    # --- the loop -----------------------------------------------------------------

    def drive(self) -> Generator[Any, None, None]:
        """Give the results, and do whatever leads to them."""
        try:
            while True:
                while (come := self._pop()) is not None:
                    yield from self._tell(come)
                    self._pump(0)
                if self._over:
                    break
                self._pump(None)
            if self._source_error is not None:
                raise self._source_error
        finally:
            self._engine.close()

    @property
    def _over(self) -> bool:
        return self._exhausted and not (self._under_way or self._again)

    def _pump(self, wait: float | None) -> None:
        """Give out what can be given, and take what has come; ``wait`` None waits until something has."""
        held = self._feed()
        if wait is None and held is not None:
            wait = held
        if wait is None and self._over:
            return
        for event in self._engine.poll(wait):
            self._hear(event)
        if self._exhausted and not self._again and self._engine.idle() and self._under_way:
            self._engine.take_back(int(WORTH / max(self._batching.mean, 1.0)) + 2)

    def _pop(self) -> Group | Outcome[Any] | None:
        if not self._ordered:
            return self._fresh.popleft() if self._fresh else None
        come = self._come.pop(self._next, None)
        if come is not None:
            self._next += len(come.times) if isinstance(come, Group) else 1
        return come

    # --- giving -----------------------------------------------------------------

    def _feed(self) -> float | None:
        """Give the engine what it takes; give the seconds until more may start, under a rate."""
        while self._engine.room() > 0:
            if self._slow:
                # All that has come meanwhile is told before the source is asked again.
                for event in self._engine.poll(0):
                    self._hear(event)
                if self._fresh or self._next in self._come:
                    return None
                self._slow = False
            if self._interval is not None:
                now = time.monotonic()
                if now < self._next_start:
                    return self._next_start - now
            most = self._batching.size if self._interval is None else 1
            limit = self._engine.most()
            if limit is not None:
                most = min(most, limit)
            batch = self._next_batch(max(1, most))
            if batch is None:
                return None
            if self._interval is not None:
                self._next_start = max(self._next_start, time.monotonic()) + self._interval
            self._under_way += len(batch.items)
            self._engine.give(batch)
        return None

    def _next_batch(self, most: int) -> Batch | None:
        if self._again:
            batch = self._again.popleft()
            if len(batch.items) > most:
                self._again.appendleft(Batch(batch.index + most, batch.items[most:]))
                batch = Batch(batch.index, batch.items[:most])
            return batch
        if self._exhausted:
            return None
        room = self._room()
        if room <= 0:
            return None
        items = self._draw(min(most, room))
        if not items:
            return None
        batch = Batch(self._taken, items)
        self._taken += len(items)
        return batch

    def _room(self) -> int:
        """Give how many items more may be taken from the source."""
        between = self._taken - self._told
        if between and self._bytes + self._engine.held_bytes() > MOST_BYTES:
            return 0
        window = self._window
        if window is None:
            window = max(WINDOW, DEEP * self._engine.limit * self._batching.size)
        return window - between

    def _draw(self, most: int) -> list[Any]:
        """Take items from the source: as many as wanted, fewer if it is slow."""
        items: list[Any] = []
        until = time.monotonic() + PATIENCE
        many = 1
        try:
            while len(items) < most:
                before = len(items)
                items.extend(itertools.islice(self._source, min(many, most - before)))
                if len(items) == before:
                    self._exhausted = True
                    break
                if time.monotonic() > until:
                    self._slow = True
                    break
                many = FEW
        except Exception as error:
            # What came before it is computed, and told, first.
            self._exhausted = True
            self._source_error = error
        return items

    # --- taking -----------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        if isinstance(event, Group):
            # What is tried again comes alone.
            event.tries = self._failures.pop(event.index, 0) + 1
            self._under_way -= len(event.times)
            self._batching.measured(event.times, event.of)
            self._bytes += event.size
            self._keep(event.index, event)
        elif isinstance(event, Back):
            self._under_way -= len(event.batch.items)
            if event.alone:
                batch = event.batch
                self._again.extend(Batch(batch.index + at, [item]) for at, item in enumerate(batch.items))
            else:
                self._again.append(event.batch)
        elif isinstance(event, Failed):
            self._under_way -= 1
            self._batching.measured([event.time], 1)
            self._fail(event, lambda: failures.raised(event))
        elif isinstance(event, Lost):
            self._under_way -= 1
            self._fail(event, lambda: failures.lost(event, f"item {event.index}", self._timeout))
        else:
            raise failures.broken(event)

    def _fail(self, event: Failed | Lost, error: Callable[[], BaseException]) -> None:
        tries = self._failures.get(event.index, 0) + 1
        if tries <= self._retries:
            self._failures[event.index] = tries
            self._again.appendleft(Batch(event.index, [event.item]))
            return
        self._failures.pop(event.index, None)
        number = event.number if isinstance(event, Lost) and event.why == "signal" else None
        made: Outcome[Any] = Outcome(event.index, None, error(), tries, event.time / 1e9, event.worker, number)
        self._keep(event.index, made)

    def _keep(self, index: int, come: Group | Outcome[Any]) -> None:
        if self._ordered:
            self._come[index] = come
        else:
            self._fresh.append(come)

    # --- telling ----------------------------------------------------------------

    def _tell(self, come: Group | Outcome[Any]) -> Iterator[Any]:
        if isinstance(come, Outcome):
            self._told += 1
            if self._errors == "raise":
                assert come.error is not None
                raise come.error
            if self._errors == "collect":
                yield come
            return
        try:
            values = come.list()
        except Exception as error:
            yield from self._tell_apart(come, error)
            return
        self._bytes -= come.size
        self._told += len(values)
        if self._errors != "collect":
            yield from values
            return
        last = len(values) - 1
        for at, value in enumerate(values):
            index = come.index + at
            peak = come.peak_rss or None if at == last else None
            yield Outcome(index, value, None, come.tries, come.times[at] / 1e9, come.worker, None, peak)

    def _tell_apart(self, come: Group, error: Exception) -> Iterator[Any]:
        """Tell values of which one cannot be made here: it alone fails."""
        self._bytes -= come.size
        if len(come.values) == 1:
            yield from self._tell(Outcome(come.index, None, error, come.tries, come.times[0] / 1e9, come.worker))
            return
        for at, value in enumerate(come.values):
            yield from self._tell(replace(come, index=come.index + at, times=[come.times[at]], values=[value], size=0))


def _seconds(value: float | str | None, name: str) -> float | None:
    if value is None:
        return None
    seconds = parse_duration(value, name) / 1e6
    if seconds <= 0:
        raise UsageError(f"{name} is {value!r}: it must be above zero")
    return seconds


def map(  # noqa: A001 - the name that people type
    function: Callable[[Any], Any],
    items: Iterable[Any],
    /,
    *,
    limit: int | None = None,
    on: Literal["processes", "threads", "inline"] = "processes",
    ordered: bool = True,
    timeout: float | str | None = None,
    retries: int = 0,
    rate: str | float | None = None,
    errors: Literal["raise", "collect", "skip"] = "raise",
    init: Callable[[], Any] | None = None,
    recycle: int | None = None,
    window: int | None = None,
    memory_limit: int | str | None = None,
) -> Run:
    """Call a function with each item, several at once, and give the results as they come.

    Parameters
    ----------
    function:
        Called with one item. With processes it may be a lambda, a closure, or one of
        ``__main__``: no guard is needed.
    items:
        Any iterable, an endless one too: at most a window of it is taken ahead.
    limit:
        How many at once; default: the cores, and 32 threads.
    on:
        ``processes`` (which alone can end an item that takes too long, and outlive one that
        crashes), ``threads`` for what waits, ``inline`` for the caller's own thread.
    ordered:
        Results in the order of the items, else as they come.
    timeout:
        For each item: seconds or text (``"30s"``). In a process its worker is ended; a thread is
        abandoned with it; inline it is refused.
    retries:
        How often an item is tried again that raised, took too long or lost its worker.
    rate:
        How many may start: ``"10/s"``, ``"600/m"``, or a number a second.
    errors:
        ``raise`` the first, ``skip`` what failed, or ``collect`` an :class:`Outcome` of each item.
    init:
        Called in each worker before its first item. Returns it a dictionary, its entries are
        attributes of ``vigie.state`` there.
    recycle:
        Replace a worker process after so many items; 1: a fresh one each.
    window:
        Items between the source and the caller at most; default: a thousand, or four batches a worker.
    memory_limit:
        Data that a worker process may have: bytes or text (``"2GB"``); an item that wants more gets
        a ``MemoryError``. (RLIMIT_DATA; macOS does not enforce it.)

    Raises
    ------
    UsageError
        When an option makes no sense.
    NotSerializable
        When the function, an item or a result cannot travel to or from a worker.
    ItemTimeout, WorkerDied
        With ``errors="raise"``, as anything that the function raises.

    >>> list(map(len, ["a", "bb", ""], on="inline"))
    [1, 2, 0]
    """
    for name, value, least in (
        ("limit", limit, 1), ("retries", retries, 0), ("recycle", recycle, 1), ("window", window, 1),
    ):  # fmt: skip
        if value is not None and not isinstance(value, int):
            raise UsageError(f"{name} is {value!r}: it must be a whole number")
        if value is not None and value < least:
            raise UsageError(f"{name} is {value}: it must be {least} or more")
    if errors not in ("raise", "collect", "skip"):
        raise UsageError(f"errors is {errors!r}: it is raise, collect or skip")
    if not callable(function):
        raise UsageError(f"{function!r} cannot be called")
    seconds = _seconds(timeout, "timeout")
    interval = None if rate is None else 1.0 / parse_rate(rate)
    memory = None if memory_limit is None else parse_size(memory_limit, "memory_limit")
    engine, target = _engine(unwrap(function), on, limit, seconds, init, recycle, memory)
    course = _Course(
        engine, items, ordered=ordered, retries=retries, errors=errors, window=window, interval=interval,
        target=target, timeout=seconds,
    )  # fmt: skip
    return Run(course)


def _engine(
    function: Callable[[Any], Any], on: str, limit: int | None, timeout: float | None,
    init: Callable[[], Any] | None, recycle: int | None, memory_limit: int | None,
) -> tuple[Engine, int]:  # fmt: skip
    """Make what computes the items, and say how long a batch of it should take (ns)."""
    if on == "processes":
        from vigie.engines.processes import Processes

        crew = Processes(
            function, limit or cores(), timeout=timeout, init=init, recycle=recycle, memory_limit=memory_limit
        )
        return crew, TARGET
    from vigie.engines.threads import Inline, Threads

    for name, given in (("recycle", recycle), ("memory_limit", memory_limit)):
        if given is not None:
            raise UsageError(f"{name} is for processes: a thread shares everything with the others")
    if on == "threads":
        # What waits should not wait for another one.
        return Threads(function, limit or 32, timeout=timeout, init=init), 1_000_000
    if on != "inline":
        raise UsageError(f"on is {on!r}: it is processes, threads or inline")
    if timeout is not None:
        raise UsageError("inline nobody is there to end an item that takes too long", "on='processes'")
    return Inline(function, init), TARGET
