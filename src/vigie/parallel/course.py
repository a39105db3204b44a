"""The course of a parallel run: what is taken from the source, given out, awaited and told.

The caller's thread does everything: it takes items from their source, gives them to
the workers, and waits for results, whenever the next result is asked for. So the source
is read where it was made, nothing has to be locked, and a caller that takes its
time holds the workers up after a window of items, not the machine's memory.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator

from vigie.engines.batch import Back, Batch, Event, Failed, Group, Lost
from vigie.parallel import failures
from vigie.parallel.batching import Batching
from vigie.parallel.tally import Tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, Self

    from vigie.parallel.outcome import Outcome
    from vigie.parallel.plan import Plan

    class Engine(Protocol):
        """Where items are computed; see ``vigie.engines``."""

        @property
        def limit(self) -> int: ...
        def room(self) -> int: ...
        def most(self) -> int | None: ...
        def busy(self) -> int: ...
        def give(self, batch: Batch) -> None: ...
        def held_bytes(self) -> int: ...
        def take_back(self, least: int = 2) -> None: ...
        def poll(self, wait: float | None) -> list[Event]: ...
        def close(self) -> None: ...

    class Earlier(Protocol):
        """What was done in earlier runs, and where to note what is done now; see ``vigie.parallel.resume``."""

        def earlier(self, index: int, item: Any) -> bytes | None: ...
        def done(self, group: Group) -> None: ...
        def failed(self, index: int, error: BaseException) -> None: ...
        def sync(self) -> None: ...
        def close(self) -> None: ...

    class Show(Protocol):
        """Whoever wants to know how far a run is; see ``vigie.parallel.progress``."""

        def update(self, *, done: int, failed: int, running: int, earlier: int = 0) -> None: ...
        def due(self) -> float: ...
        def close(self, note: str = "") -> None: ...


__all__ = ["PAUSE", "Course", "Earlier", "Engine", "Run", "Show"]

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
#: What a course that may not wait gives while it has no result.
PAUSE = object()


class Run(Iterator["Any"]):
    """The results of a parallel run, as they come; made by :func:`vigie.map`.

    It ends its workers at its own end, when it is closed, left by ``with``, or no longer held.
    """

    def __init__(self, course: Course) -> None:
        self._course = course
        self._results = course.drive()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._results)

    def __repr__(self) -> str:
        tally = self._course.tally
        return f"<run on {tally.limit} {tally.place}: {tally.done:,} done, {tally.failed:,} failed>"

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

    def explain(self) -> str:
        """Say where the time went, and what to change.

        >>> import vigie
        >>> run = vigie.map(abs, range(-3, 0), on="inline")
        >>> sum(run)
        6
        >>> print(run.explain().splitlines()[0].partition(" in ")[0])
        3 items
        """
        from vigie.parallel.explain import explain

        return explain(self._course.tally)


class _Ended:
    """An item that has no value."""

    __slots__ = ("error", "index", "signal", "time", "tries", "worker")

    def __init__(self, index: int, error: BaseException, tries: int, time: int, worker: int) -> None:
        self.index = index
        self.error = error
        self.tries = tries
        self.time = time
        self.worker = worker
        self.signal: int | None = None

    def outcome(self) -> Outcome[Any]:
        from vigie.parallel.outcome import Outcome

        return Outcome(self.index, None, self.error, self.tries, self.time / 1e9, self.worker, self.signal)


class Course:
    """How far a run is, and what it does next.

    Parameters
    ----------
    resume:
        What was done in earlier runs, and where to note what is done now.
    show:
        Where progress is shown.
    """

    def __init__(
        self,
        engine: Engine,
        items: Iterable[Any],
        plan: Plan,
        resume: Earlier | None = None,
        show: Show | None = None,
    ) -> None:
        self._engine = engine
        self._source = iter(items)
        self._plan = plan
        self._ordered = plan.ordered
        self._interval = plan.interval
        self._resume = resume
        self._show = show
        self.tally = Tally(engine, plan)
        self._next_start = 0.0
        self._batching = Batching(plan.target)
        self._exhausted = self._drained = False
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
        #: The last failures of those that are to be tried again, until it is known what became of that.
        self._tried: dict[int, tuple[Failed | Lost, BaseException]] = {}
        self._skipped: set[int] = set()
        #: The first item whose error will be raised: none behind it is begun.
        self._last: int | None = None
        #: What has come and was not told, by its first index; in order, the next to tell.
        self._come: dict[int, Group | _Ended] = {}
        self._fresh: deque[Group | _Ended] = deque()
        self._next = 0

    def close(self) -> None:
        """End the workers."""
        self._engine.close()
        if self._resume is not None:
            self._resume.close()
        if self._show is not None:
            self._show.close()

    # --- what it may be told as it goes -------------------------------------------

    def resize(self, limit: int) -> None:
        """Have so many items computed at once from now on, if the engine can."""
        resize = getattr(self._engine, "resize", None)
        if resize is not None:
            resize(limit)

    def drain(self) -> None:
        """Begin no item more."""
        self._exhausted = self._drained = True
        waiting, self._again = self._again, deque()
        for batch in waiting:
            # It is not tried again: what became of it is known.
            if batch.index in self._tried:
                self._give_up(*self._tried.pop(batch.index))

    def skip(self, index: int) -> None:
        """Have an item not computed; one that runs is stopped, if the engine can."""
        self._skipped.add(index)
        skip = getattr(self._engine, "skip", None)
        if skip is not None:
            skip(index)

    def unskip(self, index: int) -> None:
        """Have an item computed after all, if it has not been left out yet."""
        self._skipped.discard(index)

    def again(self, index: int, item: Any) -> None:
        """Compute an item once more that has failed."""
        self._skipped.discard(index)
        self.tally.failed -= 1
        self._again.append(Batch(index, [item]))

    def has_again(self) -> bool:
        """Tell whether there is something to give for which nothing need be taken from the source."""
        return bool(self._again)

    def _without(self, batch: Batch) -> Batch | None:
        """Give what is to be computed of a batch, the rest of which waits: nothing of it may be skipped."""
        for at in range(len(batch.items)):
            if batch.index + at in self._skipped:
                rest = batch.items[at + 1 :]
                if rest:
                    self._again.appendleft(Batch(batch.index + at + 1, rest))
                self._under_way += 1
                self._hear(Lost(batch.index + at, batch.items[at], 0, 0, "stopped", 0))
                return Batch(batch.index, batch.items[:at]) if at else None
        return batch

    # --- the loop -----------------------------------------------------------------

    def drive(self, *, waits: bool = True) -> Generator[Any, None, None]:
        """Give the results, and do whatever leads to them.

        One that does not wait gives :data:`PAUSE` while it has no result: whoever drives it
        calls :meth:`pump`, or :meth:`hear` and :meth:`feed`, when something may have come.
        """
        try:
            while True:
                while (come := self._pop()) is not None:
                    yield from self._tell(come)
                    self.pump(0)
                if self._over:
                    if not self._come:
                        break
                    # One that was to be tried again was dropped: what is behind it is told all the same.
                    self._next = min(self._come)
                    continue
                if waits:
                    self.pump(None)
                else:
                    yield PAUSE
            if self._source_error is not None:
                raise self._source_error
        except KeyboardInterrupt as error:
            with contextlib.suppress(Exception):  # it may have come in the midst of anything
                self.hear(0)  # what has ended meanwhile is not lost
            error.add_note(self._so_far())
            if self._show is not None:
                self._show.close("interrupted")
            raise
        finally:
            self.tally.end()
            self.close()

    def _so_far(self) -> str:
        tally = self.tally
        text = f"vigie.map: {tally.done:,} items done, {tally.failed:,} failed, {self._under_way:,} were not finished"
        return text if self._resume is None else f"{text}; the same call goes on from there"

    @property
    def _over(self) -> bool:
        return self._exhausted and not (self._under_way or self._again)

    def pump(self, wait: float | None) -> None:
        """Give out what can be given, and take what has come; ``wait`` None waits until something has."""
        self.tally.enter()
        held = self.feed()
        if wait != 0 and self._has_come():
            wait = 0
        elif held is not None and wait != 0:
            wait = held if wait is None else min(wait, held)
        if wait is not None or not self._over:
            self.hear(wait)
        self.tally.leave()

    def hear(self, wait: float | None) -> None:
        """Take what has come; ``wait`` None waits until something has."""
        if self._show is not None and wait != 0:
            due = self._show.due()
            wait = due if wait is None else min(wait, due)
        for event in self._poll(wait):
            self._hear(event)
        if self._resume is not None:
            self._resume.sync()
        if self._exhausted and not self._again and self._under_way and self._engine.busy() < self._engine.limit:
            self.tally.at_tail()
            self._engine.take_back(int(WORTH / max(self._batching.mean, 1.0)) + 2)
        if self._show is not None:
            tally = self.tally
            done = tally.done + tally.failed + tally.earlier
            self._show.update(done=done, failed=tally.failed, running=self._engine.busy(), earlier=tally.earlier)

    def _poll(self, wait: float | None) -> list[Event]:
        began = time.perf_counter()
        events = self._engine.poll(wait)
        self.tally.waiting += time.perf_counter() - began
        return events

    def _has_come(self) -> bool:
        return bool(self._fresh) or self._next in self._come

    def _pop(self) -> Group | _Ended | None:
        if not self._ordered:
            return self._fresh.popleft() if self._fresh else None
        come = self._come.pop(self._next, None)
        if come is not None:
            self._next += len(come.times) if isinstance(come, Group) else 1
        return come

    # --- giving -----------------------------------------------------------------

    def feed(self) -> float | None:
        """Give the engine what it takes; give the seconds until more may start, under a rate."""
        self._batching.target = self._plan.target
        while self._engine.room() > 0:
            if self._slow:
                # All that has come meanwhile is told before the source is asked again.
                for event in self._engine.poll(0):
                    self._hear(event)
                if self._has_come():
                    return None
                self._slow = False
            if self._interval is not None:
                if self._engine.busy() >= self._engine.limit:
                    return None  # what is given begins at once, or it would not be its start that is counted
                now = self._plan.clock()
                if now < self._next_start:
                    return self._next_start - now
            most = self._batching.size if self._interval is None else 1
            limit = self._engine.most()
            if limit is not None:
                most = min(most, limit)
            batch = self._next_batch(max(1, most))
            if batch is None:
                return None
            if self._skipped and (batch := self._without(batch)) is None:
                continue
            if self._interval is not None:
                self._next_start = max(self._next_start, self._plan.clock()) + self._interval
            self._under_way += len(batch.items)
            began = time.perf_counter()
            self._engine.give(batch)
            if batch.size:
                self._batching.weighed(batch.size, len(batch.items))
            self.tally.gave(time.perf_counter() - began)
        return None

    def _next_batch(self, most: int) -> Batch | None:
        while not self._again:
            if self._exhausted or (room := self._room()) <= 0:
                return None
            began = time.perf_counter()
            items = self._draw(min(most, room))
            self.tally.drawing += time.perf_counter() - began
            if not items:
                return None
            self._enter(items)
            if self._resume is not None and self._has_come():
                break  # what was done earlier is told before the source is asked again
        if not self._again:
            return None
        batch = self._again.popleft()
        if len(batch.items) > most:
            self._again.appendleft(Batch(batch.index + most, batch.items[most:]))
            batch = Batch(batch.index, batch.items[:most])
        return batch

    def _enter(self, items: list[Any]) -> None:
        """Have items computed, but for those that were done earlier."""
        index = self._taken
        self._taken += len(items)
        if self._resume is None:
            self._again.append(Batch(index, items))
            return
        first = 0
        for at, item in enumerate(items):
            value = self._resume.earlier(index + at, item)
            if value is not None:
                if first < at:
                    self._again.append(Batch(index + first, items[first:at]))
                first = at + 1
                self._keep(index + at, self._known(index + at, value))
        if first < len(items):
            self._again.append(Batch(index + first, items[first:]))

    def _known(self, index: int, pickled: bytes) -> Group:
        """Make the group of a value that was computed in an earlier run."""
        group = Group(index, [0], [pickled], 0, 1)
        group.packed, group.size, group.tries = True, len(pickled), 0
        self._bytes += group.size
        self.tally.earlier += 1
        return group

    def _room(self) -> int:
        """Give how many items more may be taken from the source."""
        between = self._taken - self._told
        if between and self._bytes + self._engine.held_bytes() > MOST_BYTES:
            return 0
        window = self._plan.window
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
            self._tried.pop(event.index, None)
            self._under_way -= len(event.times)
            if event.size:
                self._batching.weighed(event.size, len(event.times), back=True)
            self._batching.measured(event.times, event.of)
            self._bytes += event.size
            self.tally.computed(event.times)
            if self._resume is not None:
                self._resume.done(event)
            self._keep(event.index, event)
        elif isinstance(event, Back):
            self._under_way -= len(event.batch.items)
            if self._drained and event.batch.index in self._tried:
                self._give_up(*self._tried.pop(event.batch.index))
                return
            if self._drained or (self._last is not None and event.batch.index > self._last):
                return
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
            self._fail(event, lambda: failures.lost(event, f"item {event.index}", self._plan.timeout))
        else:
            raise failures.broken(event)

    def _fail(self, event: Failed | Lost, error: Callable[[], BaseException]) -> None:
        tries = self._failures.get(event.index, 0) + 1
        if tries <= self._plan.retries and event.index not in self._skipped and not self._drained:
            self._failures[event.index] = tries
            self._tried[event.index] = event, error()
            self._again.appendleft(Batch(event.index, [event.item]))
            return
        self._failures[event.index] = tries
        self._tried.pop(event.index, None)
        self._give_up(event, error())

    def _give_up(self, event: Failed | Lost, error: BaseException) -> None:
        """Let an item have no value, whatever else may be tried."""
        tries = self._failures.pop(event.index)
        ended = _Ended(event.index, error, tries, event.time, event.worker)
        if isinstance(event, Lost) and event.why == "signal":
            ended.signal = event.number
        self.tally.failed += 1
        if self._plan.errors == "raise":
            self._end_at(event.index)
        if self._resume is not None:
            self._resume.failed(event.index, ended.error)
        self._keep(event.index, ended)

    def _end_at(self, index: int) -> None:
        """Begin nothing more behind an item whose error will be raised."""
        self._exhausted = True
        self._last = index if self._last is None else min(index, self._last)
        self._again = deque(batch for batch in self._again if batch.index < index)

    def _keep(self, index: int, come: Group | _Ended) -> None:
        if self._ordered:
            self._come[index] = come
        else:
            self._fresh.append(come)

    # --- telling ----------------------------------------------------------------

    def _tell(self, come: Group | _Ended) -> Iterator[Any]:
        if isinstance(come, _Ended):
            self._told += 1
            if self._plan.errors == "raise":
                raise come.error
            if self._plan.errors == "collect":
                yield come.outcome()
            return
        try:
            values = come.list()
        except Exception as error:
            yield from self._tell_apart(come, error)
            return
        self._bytes -= come.size
        # The others are told when they are: somebody may feed the engine meanwhile.
        self._told += 1
        if self._plan.errors == "collect":
            yield from self._outcomes(come, values)
        else:
            yield from values
        self._told += len(values) - 1

    def _outcomes(self, come: Group, values: list[Any]) -> Iterator[Outcome[Any]]:
        from vigie.parallel.outcome import Outcome

        last = len(values) - 1
        for at, value in enumerate(values):
            peak = come.peak_rss or None if at == last else None
            spent = come.times[at] / 1e9
            yield Outcome(come.index + at, value, None, come.tries, spent, come.worker, None, peak)

    def _tell_apart(self, come: Group, error: Exception) -> Iterator[Any]:
        """Tell values of which one cannot be made here: it alone fails."""
        self._bytes -= come.size
        if len(come.values) == 1:
            self.tally.failed += 1
            self.tally.done -= 1
            yield from self._tell(_Ended(come.index, error, come.tries, come.times[0], come.worker))
            return
        for at in range(len(come.values)):
            yield from self._tell(come.one(at))
