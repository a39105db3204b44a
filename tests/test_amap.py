"""``vigie.amap``, and coroutines as a place of ``vigie.map``: what is begun ends, and what comes out is what map gives.

Where nothing but the loop is at work, its clock jumps over the time in which nothing happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import itertools
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vigie
from conftest import until
from test_map import children
from vigie.errors import ItemTimeout, NotSerializable, UsageError, WorkerDied

T = TypeVar("T")

ENGINES = ["async", "threads", "processes"]


class Skipping(selectors.DefaultSelector):
    """Does not wait for a timer, but has its loop's clock jump there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(5 if timeout is None else 0)
        if not ready and timeout is None:
            raise TimeoutError("everything waits for something else")
        if not ready and timeout:
            self.now += timeout
        return ready


class Jumping(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while there is something to do."""

    def __init__(self) -> None:
        self.skipping = Skipping()
        super().__init__(self.skipping)

    def time(self) -> float:
        return self.skipping.now


def jump(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop whose clock jumps, and see that it leaves no task."""
    with asyncio.Runner(loop_factory=Jumping) as runner:
        return runner.run(_leaving_nothing(work))


async def _leaving_nothing(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    finally:
        for _ in range(5):
            await asyncio.sleep(0)  # what was cancelled by a break ends
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert until(lambda: not children()), children()
    assert until(lambda: not [one for one in threading.enumerate() if one.name in ("vigie-loop", "vigie-amap")])
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def placed(on: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Give a function as the place wants it: a coroutine function, or as it is."""

    async def compute(item: Any) -> Any:
        await asyncio.sleep(0)
        return function(item)

    return compute if on == "async" else function


async def listed(source: AsyncIterator[T]) -> list[T]:
    return [value async for value in source]


async def counting(most: int | None = None) -> AsyncIterator[int]:
    for number in itertools.count() if most is None else range(most):
        yield number


# Results ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("on", ENGINES)
@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
def test_it_gives_what_a_plain_map_gives(on: Any, kind: str) -> None:
    async def main() -> None:
        items = range(2000) if kind == "plain" else counting(2000)
        assert await listed(vigie.amap(placed(on, lambda x: x * x), items, on=on)) == [x * x for x in range(2000)]
        assert await listed(vigie.amap(placed(on, abs), [], on=on)) == []

    asyncio.run(main())


def test_map_runs_coroutines_without_a_loop_of_the_caller() -> None:
    assert list(vigie.map(placed("async", lambda x: x * x), range(1000), on="async")) == [x * x for x in range(1000)]
    assert list(vigie.map(placed("async", abs), [], on="async")) == []


def test_map_runs_coroutines_inside_a_loop_too() -> None:
    async def main() -> list[int]:
        return list(vigie.map(placed("async", abs), [-1, 2], on="async"))

    assert asyncio.run(main()) == [1, 2]


def test_what_is_no_coroutine_is_taken_as_it_is() -> None:
    async def double(number: int) -> int:
        return 2 * number

    async def main() -> None:
        assert await listed(vigie.amap(lambda x: -x, [1, 2])) == [-1, -2]
        assert await listed(vigie.amap(lambda x: double(x) if x % 2 else x, range(4))) == [0, 2, 2, 6]
        assert await listed(vigie.amap(functools.partial(asyncio.sleep, 1), "ab")) == ["a", "b"]
        assert await listed(vigie.amap(vigie.task(double), [4])) == [8]
        assert await listed(vigie.amap(lambda x: asyncio.ensure_future(double(x)), [4])) == [8]

    jump(main())


def test_unordered_results_come_as_they_are_ready() -> None:
    async def wait(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def main() -> None:
        items = [5, 1, 4, 2, 3]
        assert await listed(vigie.amap(wait, items, ordered=False)) == [1, 2, 3, 4, 5]
        assert await listed(vigie.amap(wait, items)) == items
        assert await listed(vigie.amap(wait, items, limit=1, ordered=False)) == items

    jump(main())


def test_map_gives_unordered_results_of_coroutines_as_they_are_ready() -> None:
    go: asyncio.Event | None = None

    async def first_waits(number: int) -> int:
        nonlocal go
        if number == 0:
            go = asyncio.Event()
            await go.wait()
        if number == 3:
            assert go is not None
            go.set()
        return number

    assert list(vigie.map(first_waits, range(4), on="async", ordered=False, limit=2)) == [1, 2, 3, 0]


@pytest.mark.parametrize("engine", ["map", "amap"])
def test_a_thousand_sleeps_a_hundred_at_once(engine: str) -> None:
    running = most = 0

    async def sleep(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return number

    if engine == "map":
        found = list(vigie.map(sleep, range(1000), on="async"))
    else:
        found = jump(listed(vigie.amap(sleep, range(1000))))
    assert found == list(range(1000))
    assert most == 100


# Any mix of fates -------------------------------------------------------------------


async def fate(item: tuple[int, str, float]) -> int:
    number, how, seconds = item
    await asyncio.sleep(seconds)
    if how == "raise":
        raise KeyError(number)
    if how == "cancelled":
        raise asyncio.CancelledError
    if how == "hang":
        await asyncio.sleep(1000)
    if how == "swallow":
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        await asyncio.sleep(3)
    return number


FATES = ["fine"] * 12 + ["raise", "cancelled", "hang", "swallow"]
ITEMS = st.lists(st.tuples(st.sampled_from(FATES), st.sampled_from([0, 0, 0.1, 0.5])), max_size=40)


def checked(fates: list[Any], found: list[vigie.Outcome[int]], *, ordered: bool, attempts: int) -> None:
    """See that each item has exactly the outcome that it must have."""
    indices = [one.index for one in found]
    assert (indices if ordered else sorted(indices)) == list(range(len(fates)))
    for one in found:
        how = fates[one.index][0]
        assert one.attempts == (1 if how == "fine" else attempts)
        if how == "fine":
            assert one.ok
            assert one.value == one.index
        else:
            wanted = {"raise": KeyError, "cancelled": asyncio.CancelledError}.get(how, ItemTimeout)
            assert type(one.error) is wanted


@pytest.mark.slow
@settings(suppress_health_check=list(HealthCheck))
@given(
    ITEMS, st.integers(1, 5), st.booleans(), st.integers(0, 2), st.sampled_from([None, 1, 2, 7]), st.booleans(),
    st.sampled_from([0.0, 0.3]),
)  # fmt: skip
def test_each_item_has_exactly_one_outcome(
    fates: list[Any], limit: int, ordered: bool, retries: int, window: int | None, plain: bool, pause: float
) -> None:
    taken = told = running = 0

    def source() -> Iterator[Any]:
        nonlocal taken
        for number, (how, seconds) in enumerate(fates):
            taken += 1
            assert window is None or taken <= told + window
            yield number, how, seconds

    async def slow_source() -> AsyncIterator[Any]:
        for item in source():
            yield item
            if item[0] % 3 == 0:
                await asyncio.sleep(pause)

    async def watched(item: tuple[int, str, float]) -> int:
        nonlocal running
        running += 1
        # One that does not let itself be ended loses its place.
        assert running <= limit or any(how == "swallow" for how, _ in fates)
        try:
            return await fate(item)
        finally:
            running -= 1

    async def main() -> None:
        nonlocal told
        run = []
        async for one in vigie.amap(
            watched, source() if plain else slow_source(), limit=limit, ordered=ordered, timeout=2, retries=retries,
            window=window, errors="collect",
        ):  # fmt: skip
            told += 1
            run.append(one)
            if told % 4 == 0:
                await asyncio.sleep(pause)
        assert taken == len(fates)
        checked(fates, run, ordered=ordered, attempts=retries + 1)
        await asyncio.sleep(10)  # those that did not let themselves be ended
        assert running == 0

    jump(main())


@pytest.mark.slow
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(ITEMS, st.integers(1, 5), st.booleans(), st.integers(0, 1))
def test_each_item_of_a_loop_of_our_own_has_exactly_one_outcome(
    fates: list[Any], limit: int, ordered: bool, retries: int
) -> None:
    items = [(number, how, seconds / 100) for number, (how, seconds) in enumerate(fates)]
    found = list(
        vigie.map(fate, items, on="async", limit=limit, ordered=ordered, timeout=0.1, retries=retries, errors="collect")
    )
    checked(fates, found, ordered=ordered, attempts=retries + 1)


# Errors -------------------------------------------------------------------------------


async def inverse(number: int) -> float:
    await asyncio.sleep(0)
    return 1 / number


def test_an_error_is_raised_with_where_it_was_raised() -> None:
    async def main() -> None:
        run = vigie.amap(inverse, [1, 2, 0, 4])
        assert [await anext(run), await anext(run)] == [1.0, 0.5]
        with pytest.raises(ZeroDivisionError) as caught:
            await anext(run)
        assert "return 1 / number" in "".join(traceback.format_exception(caught.value))
        assert await listed(run) == []

    jump(main())
    run = vigie.map(inverse, [1, 2, 0, 4], on="async")
    assert [next(run), next(run)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError) as caught:
        next(run)
    assert "return 1 / number" in "".join(traceback.format_exception(caught.value))
    assert list(run) == []


@pytest.mark.slow
@pytest.mark.parametrize("on", ["threads", "processes"])
def test_an_error_of_a_worker_is_raised_with_where_it_was_raised(on: Any) -> None:
    async def main() -> None:
        run = vigie.amap(lambda number: 1 / number, [1, 2, 0, 4], on=on)
        assert [await anext(run), await anext(run)] == [1.0, 0.5]
        with pytest.raises(ZeroDivisionError) as caught:
            await anext(run)
        assert "in <lambda>" in "".join(traceback.format_exception(caught.value))
        assert await listed(run) == []

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("on", ENGINES)
def test_errors_are_skipped_or_collected(on: Any) -> None:
    async def main() -> None:
        function = placed(on, lambda number: 1 / number)
        assert await listed(vigie.amap(function, [1, 0, 2], on=on, errors="skip")) == [1.0, 0.5]
        found = await listed(vigie.amap(function, [1, 0, 2], on=on, errors="collect"))
        assert [(one.index, one.value, one.ok) for one in found] == [(0, 1.0, True), (1, None, False), (2, 0.5, True)]
        assert isinstance(found[1].error, ZeroDivisionError)

    asyncio.run(main())


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, StopIteration, GeneratorExit])
def test_no_exception_of_an_item_stops_the_loop_behind_the_caller(error: type[BaseException]) -> None:
    def raises(number: int) -> int:
        if number == 1:
            raise error
        return number

    found = list(vigie.map(raises, range(5), on="async", limit=2, errors="collect"))
    assert [one.value for one in found] == [0, None, 2, 3, 4]
    assert isinstance(found[1].error, error)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_program_ends_the_caller_s_loop(error: type[BaseException]) -> None:
    def raises(number: int) -> int:
        raise error

    with pytest.raises(error):
        asyncio.run(listed(vigie.amap(raises, counting(), errors="skip")))


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
def test_no_exception_of_an_item_looks_like_the_end(error: type[Exception]) -> None:
    def raises(number: int) -> int:
        raise error

    async def main(on: Any) -> None:
        with pytest.raises(RuntimeError, match=error.__name__):
            await listed(vigie.amap(raises, range(5), on=on))

    jump(main("async"))
    asyncio.run(main("threads"))


def test_a_loop_that_fails_ends_the_run() -> None:
    async def fails(number: int) -> None:
        loop = asyncio.get_running_loop()
        loop._selector.select = None  # type: ignore[attr-defined]  # as if its descriptor were closed
        await asyncio.sleep(1)

    with pytest.raises(WorkerDied, match="the event loop failed"):
        list(vigie.map(fails, range(5), on="async"))


@pytest.mark.parametrize("begun", [False, True])
def test_who_cancels_an_item_s_task_makes_it_fail(begun: bool) -> None:
    async def cancels(number: int) -> int:
        if number == 0:
            if begun:
                await asyncio.sleep(1)
            for task in asyncio.all_tasks() - {asyncio.current_task(), *whole}:
                task.cancel()
        await asyncio.sleep(10)
        return number

    async def main() -> list[Any]:
        whole.append(asyncio.current_task())
        return await listed(vigie.amap(cancels, range(3), errors="collect", limit=3))

    whole: list[Any] = []
    found = jump(main())
    assert [one.value for one in found] == [0, None, None]
    assert all(isinstance(one.error, asyncio.CancelledError) for one in found[1:])


def test_an_error_of_the_source_comes_after_the_results_before_it() -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(10):
            yield number
        raise OSError("the disk is gone")

    async def main() -> None:
        run = vigie.amap(placed("async", abs), source())
        assert [await anext(run) for _ in range(10)] == list(range(10))
        with pytest.raises(OSError, match="the disk is gone"):
            await anext(run)

    jump(main())


@pytest.mark.slow
@pytest.mark.parametrize("on", ENGINES)
def test_the_source_is_read_in_the_loop(on: Any) -> None:
    seen = set()
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    def source() -> Iterator[int]:
        for number in range(200):
            seen.add((threading.get_ident(), name.get()))
            yield number
        raise OSError("the disk is gone")

    async def main() -> None:
        name.set("the caller")
        run = vigie.amap(placed(on, abs), source(), on=on)
        name.set("another")
        assert [await anext(run) for _ in range(200)] == list(range(200))
        with pytest.raises(OSError, match="the disk is gone"):
            await anext(run)

    asyncio.run(main())
    assert seen == {(threading.get_ident(), "the caller")}


# Time -----------------------------------------------------------------------------------


def test_an_item_that_takes_too_long_is_cancelled() -> None:
    ended = []

    async def hang(number: int) -> int:
        try:
            await asyncio.sleep(1000 if number == 1 else 1)
        except asyncio.CancelledError:
            ended.append(number)
            raise
        return number

    async def main() -> None:
        found = await listed(vigie.amap(hang, range(4), limit=1, timeout="2s", errors="collect"))
        assert [one.value for one in found] == [0, None, 2, 3]
        assert isinstance(found[1].error, ItemTimeout)
        assert asyncio.get_running_loop().time() == pytest.approx(1 + 2 + 1 + 1)

    jump(main())
    assert ended == [1]


def test_one_that_cleans_up_keeps_its_place_meanwhile() -> None:
    running = 0

    async def careful(number: int) -> int:
        nonlocal running
        running += 1
        assert running == 1
        try:
            await asyncio.sleep(1000 if number == 0 else 0)
        finally:
            await asyncio.sleep(0.2)
            running -= 1
        return number

    found = jump(listed(vigie.amap(careful, range(3), limit=1, timeout=1, errors="collect")))
    assert [one.value for one in found] == [None, 1, 2]


def test_one_that_does_not_let_itself_be_ended_has_failed_all_the_same() -> None:
    async def main() -> None:
        stop = asyncio.Event()

        async def stubborn(number: int) -> int:
            while number == 1 and not stop.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await stop.wait()
            return number

        run = vigie.amap(stubborn, range(4), limit=1, timeout=1, errors="collect")
        loop = asyncio.get_running_loop()
        assert (await anext(run)).value == 0
        assert isinstance((await anext(run)).error, ItemTimeout)
        assert loop.time() == pytest.approx(1)
        assert [one.value async for one in run] == [2, 3]
        assert loop.time() < 2
        assert run._driver._engine.abandoned == 1  # type: ignore[union-attr]  # a run in this loop
        assert len(asyncio.all_tasks()) == 2
        stop.set()

    jump(main())


@pytest.mark.slow
def test_the_loop_behind_the_caller_ends_in_spite_of_one_that_does_not() -> None:
    async def stubborn(number: int) -> int:
        while number == 1:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
        return number

    run = vigie.map(stubborn, range(4), on="async", limit=1, timeout=0.1, errors="collect")
    found = list(run)
    assert [one.value for one in found] == [0, None, 2, 3]
    assert isinstance(found[1].error, ItemTimeout)
    assert run._course._engine.abandoned == 1  # type: ignore[attr-defined]  # it is of coroutines


@pytest.mark.slow
def test_a_caller_does_not_wait_for_a_loop_that_is_blocked() -> None:
    held, go = threading.Event(), threading.Event()

    async def blocks(number: int) -> None:
        held.set()
        go.wait(30)

    run = vigie.map(blocks, [1], on="async")
    caller = threading.Thread(target=lambda: list(run), daemon=True)
    caller.start()
    assert held.wait(30)
    run._course.close()
    assert not go.is_set()
    go.set()
    caller.join(0)


def test_retries() -> None:
    tries: dict[int, int] = {}

    async def third(number: int) -> int:
        tries[number] = tries.get(number, 0) + 1
        if number == 1 and tries[number] < 3:
            raise ValueError
        if number == 2 and tries[number] < 3:
            await asyncio.sleep(1000)
        if number == 3:
            raise ValueError
        return tries[number]

    wanted = [(1, 1), (3, 3), (3, 3), (None, 3), (1, 1)]
    found = jump(listed(vigie.amap(third, range(5), limit=2, retries=2, timeout=1, errors="collect")))
    assert [(one.value, one.attempts) for one in found] == wanted
    tries.clear()
    found = list(vigie.map(third, range(5), on="async", limit=2, retries=2, timeout=0.05, errors="collect"))
    assert [(one.value, one.attempts) for one in found] == wanted


@pytest.mark.parametrize("busy", [0, 0.35])
def test_a_rate_spreads_the_starts(busy: float) -> None:
    """By the loop's clock, and while the caller is busy too."""
    starts = []

    async def note(number: int) -> None:
        starts.append(asyncio.get_running_loop().time())

    async def main() -> None:
        async for _ in vigie.amap(note, counting(10), rate="10/s"):
            await asyncio.sleep(busy)

    jump(main())
    assert starts == [pytest.approx(number / 10, abs=1e-6) for number in range(10)]


def test_a_rate_holds_where_all_places_were_taken() -> None:
    starts = []

    async def note(number: int) -> None:
        starts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(5)

    jump(listed(vigie.amap(note, range(6), limit=3, rate=2)))
    assert starts == [pytest.approx(start, abs=1e-6) for start in (0, 0.5, 1, 5, 5.5, 6)]


# Lazy at both ends ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("on", ENGINES)
@pytest.mark.parametrize("window", [1, 2, 50])
def test_an_endless_source_is_read_as_far_as_the_window(on: Any, window: int) -> None:
    taken = told = 0

    async def source() -> AsyncIterator[int]:
        nonlocal taken
        async for number in counting():
            taken += 1
            # One is on its way from the thread to whoever waits for it.
            assert taken <= told + window + (on != "async")
            yield number

    async def main() -> None:
        nonlocal told
        async with vigie.amap(placed(on, abs), source(), on=on, window=window, limit=2) as run:
            async for value in run:
                assert value == told
                told += 1
                if told % 50 == 0:
                    await asyncio.sleep(0.01)
                if told == 200:
                    break

    asyncio.run(main())
    assert told == 200


def test_a_busy_caller_holds_the_source_up_when_the_window_is_full() -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for number in itertools.count(1):
            taken = number
            yield number

    async def main() -> None:
        run = vigie.amap(placed("async", abs), source(), window=30, limit=2)
        assert await anext(run) == 1
        await asyncio.sleep(1000)
        # What can be done meanwhile is done, and no more.
        assert taken == 31
        assert await anext(run) == 2
        await asyncio.sleep(1000)
        assert taken == 32
        assert [await anext(run) for _ in range(30)] == list(range(3, 33))
        await run.aclose()
        await asyncio.sleep(1000)
        assert taken <= 62

    jump(main())


@pytest.mark.slow
@pytest.mark.parametrize("rate", [None, "500/s"])
def test_a_busy_caller_holds_the_source_of_threads_up_too(rate: str | None) -> None:
    taken = told = 0
    full = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        nonlocal taken
        async for number in counting():
            taken += 1
            assert taken <= told + 20
            if taken == told + 20:
                full.set()
            yield number

    async def take(run: AsyncIterator[int], count: int) -> None:
        """Take what is there, and wait until the window is full again."""
        nonlocal told
        for _ in range(count):
            full.clear()
            told += 1
            assert await anext(run) == told - 1
        await full.wait()

    async def main() -> None:
        run = vigie.amap(abs, source(), on="threads", window=20, limit=2, rate=rate)
        await take(run, 1)
        await take(run, 5)
        await take(run, 25)
        await run.aclose()
        assert await listed(run) == []

    asyncio.run(main())


@pytest.mark.slow
def test_a_thread_with_nothing_to_do_waits() -> None:
    polls = 0

    async def main() -> None:
        run = vigie.amap(abs, counting(), on="threads", window=20, limit=2)
        engine: Any = run._driver._engine
        poll = engine.poll

        def counted(wait: float | None) -> Any:
            nonlocal polls
            polls += 1
            return poll(wait)

        engine.poll = counted
        assert await anext(run) == 0
        await asyncio.sleep(0.2)
        await run.aclose()

    asyncio.run(main())
    assert polls < 200


def test_an_endless_source_of_map_is_read_as_far_as_the_window() -> None:
    taken = itertools.count()
    with vigie.map(placed("async", abs), taken, on="async", window=50, limit=2) as run:
        assert list(itertools.islice(run, 200)) == list(range(200))
    assert next(taken) <= 200 + 50 + 1


@pytest.mark.slow
@pytest.mark.parametrize("on", ENGINES)
def test_a_source_that_waits_holds_no_result_back(on: Any) -> None:
    async def main() -> None:
        seen = asyncio.Event()

        async def source() -> AsyncIterator[int]:
            for number in range(5):
                yield number
                await seen.wait()
                seen.clear()

        found = []
        async for value in vigie.amap(placed(on, abs), source(), on=on):
            found.append(value)
            seen.set()
        assert found == list(range(5))

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("on", ["threads", "processes"])
def test_workers_do_not_hold_the_loop_up(on: Any, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)

    def wait(number: int) -> str:
        return fifo.read_text()

    async def main() -> None:
        waiting = asyncio.create_task(listed(vigie.amap(wait, [0], on=on)))
        while not waiting.done():
            await asyncio.sleep(0)
            with contextlib.suppress(OSError):  # nobody reads yet
                end = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
                os.write(end, b"go")
                os.close(end)
        assert waiting.result()[0].startswith("go")

    asyncio.run(main())


def test_a_quick_source_lets_others_have_their_turn() -> None:
    def source() -> Iterator[int]:
        for number in range(50):
            end = time.perf_counter() + 0.001
            while time.perf_counter() < end:
                pass
            yield number

    async def main() -> int:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        beside = asyncio.create_task(others())
        await listed(vigie.amap(placed("async", abs), source()))
        beside.cancel()
        return turns

    assert asyncio.run(main()) > 10


# What belongs to the caller ---------------------------------------------------------------


@pytest.mark.parametrize("engine", ["map", "amap"])
def test_items_see_the_caller_s_context_and_not_each_other_s(engine: str) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")
    made: contextvars.ContextVar[str] = contextvars.ContextVar("made")

    def init() -> None:
        made.set("by init")

    async def see(number: int) -> tuple[str, str]:
        before = name.get()
        name.set(f"item {number}")
        await asyncio.sleep(0)
        assert name.get() == f"item {number}"
        return before, made.get()

    async def main() -> list[Any]:
        name.set("the caller")
        run = vigie.amap(see, range(5), init=init)
        name.set("another")
        return await listed(run)

    if engine == "amap":
        found = jump(main())
    else:
        name.set("the caller")
        found = list(vigie.map(see, range(5), on="async", init=init))
    assert found == [("the caller", "by init")] * 5
    assert made.get(None) is None


def test_coroutines_share_what_belongs_to_the_caller_s_loop() -> None:
    async def main() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        putting = vigie.amap(queue.put, range(10), limit=2)
        taking = vigie.amap(lambda _: queue.get(), range(10), limit=3)
        sent, received = await asyncio.gather(listed(putting), listed(taking))
        assert sent == [None] * 10
        assert received == list(range(10))

    jump(main())


@pytest.mark.parametrize("engine", ["map", "amap"])
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_init_comes_once_before_the_first_item(engine: str, kind: str) -> None:
    calls = []

    def plain() -> dict[str, int]:
        calls.append(threading.get_ident())
        return {"answer": 42}

    async def coroutine() -> dict[str, int]:
        await asyncio.sleep(0.01)
        return plain()

    async def see(number: int) -> tuple[int, int]:
        return vigie.state.answer, threading.get_ident()

    init = plain if kind == "plain" else coroutine
    if engine == "amap":
        found = jump(listed(vigie.amap(see, range(50), init=init)))
    else:
        found = list(vigie.map(see, range(50), on="async", init=init))
    assert len(calls) == 1
    assert set(found) == {(42, calls[0])}


@pytest.mark.slow
@pytest.mark.parametrize("on", ENGINES)
def test_an_init_that_fails_ends_the_run(on: Any) -> None:
    async def main() -> None:
        with pytest.raises(WorkerDied, match="init failed in a worker: ZeroDivisionError"):
            await listed(vigie.amap(placed(on, abs), counting(), on=on, init=lambda: 1 / 0))

    asyncio.run(main())
    if on == "async":
        with pytest.raises(WorkerDied, match="init failed in a worker: ZeroDivisionError"):
            list(vigie.map(placed(on, abs), itertools.count(), on=on, init=lambda: 1 / 0))


# Ends -------------------------------------------------------------------------------------


def test_a_source_that_nobody_else_holds_ends_with_the_run() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def source() -> AsyncIterator[int]:
            try:
                async for number in counting():
                    yield number
            finally:
                ended.set()

        async with vigie.amap(placed("async", abs), source(), window=5) as run:
            assert await anext(run) == 0
        await asyncio.wait_for(ended.wait(), 1)
        assert await listed(run) == []

    jump(main())


@pytest.mark.parametrize("on", ENGINES)
def test_a_source_that_waits_ends_with_the_run(on: Any) -> None:
    async def main() -> None:
        ended = []

        async def source() -> AsyncIterator[int]:
            try:
                yield 0
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        async with vigie.amap(placed(on, abs), source(), on=on) as run:
            assert await anext(run) == 0
        assert ended
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


class Waiting:
    """Items that wait for ever, but for the first; it knows which have begun, and which have ended."""

    def __init__(self) -> None:
        self.begun: set[int] = set()
        self.ended: set[int] = set()

    async def __call__(self, number: int) -> int:
        self.begun.add(number)
        try:
            if number:
                await asyncio.sleep(1000)
            return number
        finally:
            self.ended.add(number)


async def _break(items: Waiting) -> None:
    async for _ in vigie.amap(items, counting(), limit=5):
        await asyncio.sleep(1)
        break
    await asyncio.sleep(0)


async def _raise(items: Waiting) -> None:
    with contextlib.suppress(LookupError):
        async for _ in vigie.amap(items, counting(), limit=5):
            await asyncio.sleep(1)
            raise LookupError
    await asyncio.sleep(0)


async def _leave(items: Waiting) -> None:
    async with vigie.amap(items, counting(), limit=5) as run:
        assert await anext(run) == 0
        await asyncio.sleep(1)


async def _close(items: Waiting) -> None:
    run = vigie.amap(items, counting(), limit=5)
    assert await anext(run) == 0
    await asyncio.sleep(1)
    await run.aclose()
    await run.aclose()
    assert await listed(run) == []


async def _cancel(items: Waiting) -> None:
    consumer = asyncio.create_task(listed(vigie.amap(items, counting(), limit=5)))
    await asyncio.sleep(1)
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer


async def _cancel_one(items: Waiting) -> None:
    run = vigie.amap(items, counting(), limit=5)
    assert await anext(run) == 0
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(run), 1)


async def _fail(items: Waiting) -> None:
    async def fails(number: int) -> int:
        if number == 4:
            await asyncio.sleep(1)
            raise LookupError
        return await items(number)

    with pytest.raises(LookupError):
        await listed(vigie.amap(fails, counting(), limit=5, ordered=False))


@pytest.mark.parametrize("end", [_break, _raise, _leave, _close, _cancel, _cancel_one, _fail])
def test_whatever_ends_a_run_ends_what_it_runs(end: Callable[[Waiting], Coroutine[Any, Any, None]]) -> None:
    items = Waiting()

    async def main() -> None:
        await end(items)
        assert items.ended == items.begun
        assert len(items.begun) >= 4
        assert asyncio.get_running_loop().time() == pytest.approx(1, abs=0.01)

    jump(main())


def _sleep_long(number: int) -> int:
    if number:
        time.sleep(600)
    return number


@pytest.mark.slow
@pytest.mark.parametrize("end", [_break, _raise, _leave, _close, _cancel, _cancel_one])
def test_whatever_ends_a_run_ends_its_processes(end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = vigie.amap
    monkeypatch.setattr(vigie, "amap", lambda _, items, limit: here(_sleep_long, items, limit=2, on="processes"))

    async def main() -> None:
        await end(Waiting())
        assert end in (_break, _raise) or not children()  # those two do not wait

    asyncio.run(main())


def test_a_run_that_nobody_asks_begins_nothing() -> None:
    items = Waiting()

    async def main() -> None:
        on: Any
        for on in ENGINES:
            run = vigie.amap(items if on == "async" else abs, counting(), on=on)
            await asyncio.sleep(1)
            await run.aclose()
            assert await listed(run) == []

    jump(main())
    vigie.amap(abs, [], on="processes")
    assert not items.begun


def test_a_run_that_outlives_its_loop_is_let_go() -> None:
    kept = []

    async def main(on: Any) -> None:
        run = vigie.amap(placed(on, abs), counting(), on=on, window=10)
        assert await anext(run) == 0
        kept.append(run)

    for on in ENGINES:
        asyncio.run(main(on))
        kept.pop()


def test_several_may_take_from_one_run() -> None:
    async def main() -> None:
        run = vigie.amap(functools.partial(asyncio.sleep, 1), range(50), limit=4)
        both = await asyncio.gather(listed(run), listed(run), listed(run))
        assert sorted(itertools.chain(*both)) == list(range(50))

    jump(main())


@pytest.mark.slow
@pytest.mark.parametrize("on", ["threads", "processes"])
def test_several_may_take_what_workers_made(on: Any) -> None:
    async def main() -> None:
        run = vigie.amap(abs, range(2000), on=on, limit=2)
        both = await asyncio.gather(listed(run), listed(run), listed(run))
        assert sorted(itertools.chain(*both)) == list(range(2000))

    asyncio.run(main())


def test_a_closed_run_of_map_ends_its_tasks_and_those_that_they_began() -> None:
    async def begins(number: int) -> int:
        beside.append(asyncio.create_task(asyncio.sleep(1000)))
        await asyncio.sleep(0.001)
        return number

    beside: list[asyncio.Task[None]] = []
    with vigie.map(begins, range(1, 1000), on="async", limit=3) as run:
        assert next(run) == 1
    assert beside
    assert all(task.cancelled() for task in beside)


def test_generators_that_items_left_are_closed() -> None:
    closed = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def first(_: int) -> int:
        held.append(numbers())
        return await anext(held[-1])

    held: list[Any] = []
    assert list(vigie.map(first, range(3), on="async")) == [1, 1, 1]
    assert closed == [True] * 3


INTERRUPTED = {
    "map": r"""
import asyncio, os, vigie
async def item(_):
    os.write(1, b"begun\n")
    await asyncio.sleep(600)
list(vigie.map(item, range(2), on="async", limit=2))
""",
    "amap": r"""
import asyncio, os, vigie
async def item(_):
    os.write(1, b"begun\n")
    await asyncio.sleep(600)
async def main():
    async for _ in vigie.amap(item, range(2), limit=2): pass
asyncio.run(main())
""",
    "processes": r"""
import asyncio, os, time, vigie
def item(_):
    os.write(1, b"begun\n")
    time.sleep(600)
async def main():
    async for _ in vigie.amap(item, range(2), limit=2, on="processes"): pass
asyncio.run(main())
""",
    "unclosed": r"""
import asyncio, os, signal, vigie
async def item(n):
    os.write(1, b"begun\n")
    if n: await asyncio.sleep(600)
run = vigie.map(item, range(2), on="async", limit=2)
next(run)
os.kill(os.getpid(), signal.SIGINT)
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("which", INTERRUPTED)
def test_ctrl_c_ends_everything(which: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED[which])
    caller = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    try:
        assert [caller.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
        if which != "unclosed":
            caller.send_signal(signal.SIGINT)
        said = caller.communicate(timeout=30)[1]
    finally:
        caller.kill()
        caller.wait()
    assert caller.returncode == -signal.SIGINT
    assert "\nKeyboardInterrupt\n" in said
    assert "destroyed" not in said
    assert "never" not in said


def test_a_fork_of_the_caller_has_no_say() -> None:
    run = vigie.map(placed("async", abs), range(500), on="async", limit=2, window=20)
    assert next(run) == 0
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            run.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert list(run) == list(range(1, 500))


# Words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0}, {"retries": -1}, {"recycle": 1}, {"window": 0}, {"timeout": 0}, {"timeout": "soon"},
        {"errors": "ignore"}, {"on": "clouds"}, {"on": "inline"}, {"on": "threads", "recycle": 1},
        {"rate": "fast"}, {"memory_limit": "2GB"},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        vigie.amap(abs, [], **options)


def test_what_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        vigie.amap(abs, 3)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(NotSerializable):
        vigie.amap(types.MethodType(abs, threading.Lock()), [1], on="processes")
    on: Any
    for on in ("processes", "threads", "inline"):
        with pytest.raises(UsageError, match="coroutine function"):
            vigie.map(inverse, [1], on=on)
        with pytest.raises(UsageError, match="coroutine function" if on != "inline" else "on is"):
            vigie.amap(inverse, [1], on=on)
    with pytest.raises(UsageError, match="recycle"):
        vigie.map(inverse, [1], on="async", recycle=1)
