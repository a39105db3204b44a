"""However a run of ``vigie.amap`` or of coroutines ends, whatever it had begun ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import vigie
from amap_loop import ENGINES, counting, jump, listed, nothing_left, placed  # noqa: F401 - fixtures
from map_workers import children


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
other = []
async def item(n):
    os.write(1, b"begun\n")
    if n: other.append(n); await asyncio.sleep(600)
    while not other: await asyncio.sleep(0)
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
