"""What fails in ``vigie.amap`` and on coroutines of ``vigie.map``: each item has one outcome, and in time."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vigie
from amap_loop import ENGINES, counting, inverse, jump, listed, nothing_left, placed  # noqa: F401 - fixtures
from vigie.errors import ItemTimeout, WorkerDied

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


# Errors -----------------------------------------------------------------------------


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


# Time -------------------------------------------------------------------------------


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
