"""What the tests of ``vigie.amap`` share: a loop whose clock jumps over the time in which nothing happens."""

from __future__ import annotations

import asyncio
import gc
import itertools
import selectors
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from conftest import until
from map_workers import children, descriptors

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
def nothing_left() -> Iterator[None]:
    before = descriptors()
    yield
    gc.collect()
    assert until(lambda: not children()), children()
    assert until(lambda: not [one for one in threading.enumerate() if one.name in ("vigie-loop", "vigie-amap")])
    assert descriptors() <= before + 1


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


async def inverse(number: int) -> float:
    await asyncio.sleep(0)
    return 1 / number
