"""``vigie.amap``, and coroutines as a place of ``vigie.map``: what map gives comes out, when it is asked for.

Where nothing but the loop is at work, its clock jumps over the time in which nothing happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import itertools
import os
import threading
import time
import types
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import vigie
from amap_loop import ENGINES, counting, inverse, jump, listed, nothing_left, placed  # noqa: F401 - fixtures
from vigie.errors import NotSerializable, UsageError, WorkerDied

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


# Lazy at both ends ------------------------------------------------------------------


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


# What belongs to the caller ---------------------------------------------------------


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


# Words ------------------------------------------------------------------------------


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
