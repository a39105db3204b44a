"""``vigie.Pool``: real workers; what calls give, and what workers are like."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
import time
import weakref
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

import vigie
from conftest import until
from pool_calls import fail, fails, mapped, named, nested, other, seen
from pool_crews import CREWS, behind, nothing_left, run  # noqa: F401 - fixtures
from vigie.engines.interpreters import there
from vigie.errors import NotSerializable, UsageError
from vigie.parallel.pool import PoolBroken
from work import until_file

pytestmark = pytest.mark.slow


# Results ----------------------------------------------------------------------------


@pytest.mark.parametrize("on", CREWS)
def test_calls_have_their_results(on: Any) -> None:
    with vigie.Pool(2, on=on) as pool:
        futures = [pool.submit(lambda a, b=0: a * b, number, b=number) for number in range(100)]
        assert [future.result() for future in futures] == [number * number for number in range(100)]
        assert pool.stats().done == 100


@pytest.mark.parametrize("on", CREWS)
def test_an_error_is_that_of_the_call(on: Any) -> None:
    with vigie.Pool(1, on=on) as pool:
        assert pool.submit(fail, "text").exception().args == ("a",)
        assert isinstance(pool.submit(fail, "exit").exception(), SystemExit)
        assert isinstance(pool.submit(fail, "index").exception(), IndexError)
        assert pool.submit(abs, -3).result() == 3
        assert (pool.stats().done, pool.stats().failed) == (1, 3)
        if on != "threads":
            error = pool.submit(fail, "text").exception()
            assert "in fail" in str(error.__cause__)


@pytest.mark.parametrize("on", [crew for crew in CREWS if crew != "threads"])
def test_what_cannot_travel_fails_alone(on: Any) -> None:
    with vigie.Pool(1, on=on) as pool:
        bad = [pool.submit(fail, "lock"), pool.submit(type, threading.Lock()), pool.submit(threading.Lock().acquire)]
        assert [type(future.exception()) for future in bad] == [NotSerializable] * 3
        assert isinstance(pool.submit(3).exception(), NotSerializable)
        assert pool.submit(abs, -3).result() == 3


def test_large_values_travel() -> None:
    with vigie.Pool(2) as pool:
        futures = [pool.submit(lambda data: data + b"b", b"a" * (3 << 20)) for _ in range(5)]
        assert {len(future.result()) for future in futures} == {(3 << 20) + 1}


@pytest.mark.parametrize("on", CREWS)
def test_a_map_is_the_standard_s(on: Any) -> None:
    with vigie.Pool(2, on=on) as pool:
        assert list(pool.map(pow, range(10), itertools.repeat(2))) == [n * n for n in range(10)]
        assert list(pool.map(lambda n: n + 1, range(100), chunksize=7)) == list(range(1, 101))
        with pytest.raises(ValueError, match="chunksize"):
            pool.map(abs, [1], chunksize=0)
        results = pool.map(divmod, [1, 1, 1], [2, 0, 5], chunksize=1)
        assert next(results) == (0, 1)
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_a_map_holds_no_value_that_it_gave() -> None:
    with vigie.Pool(1, on="threads") as pool:
        for value in pool.map(lambda _: threading.Event(), range(6), chunksize=3):
            held = weakref.ref(value)
            del value
            assert held() is None


def test_many_functions_are_told_apart() -> None:
    """More than are remembered at a time."""
    with vigie.Pool(2) as pool:
        futures = [pool.submit(eval(f"lambda x: x + {number}"), number) for number in range(400)]
        assert [future.result() for future in futures] == [2 * number for number in range(400)]


@pytest.mark.parametrize("on", CREWS)
def test_many_threads_submit(on: Any) -> None:
    found: list[int] = []
    with vigie.Pool(2, on=on) as pool:

        def use(start: int) -> None:
            found.extend(future.result() for future in [pool.submit(abs, -n) for n in range(start, start + 100)])

        users = [threading.Thread(target=use, args=(100 * number,)) for number in range(5)]
        for user in users:
            user.start()
        for user in users:
            user.join()
    assert sorted(found) == list(range(500))


@pytest.mark.parametrize("on", CREWS)
def test_a_callback_may_submit(on: Any) -> None:
    ended = threading.Event()
    with vigie.Pool(1, on=on) as pool:

        def more(future: Any) -> None:
            if future.result() == 20:
                ended.set()
            else:
                pool.submit(int, future.result() + 1).add_done_callback(more)

        pool.submit(int, 0).add_done_callback(more)
        assert ended.wait(30)


@pytest.mark.parametrize("on", CREWS)
def test_a_callback_that_exits_is_no_end(on: Any, caplog: pytest.LogCaptureFixture) -> None:
    with vigie.Pool(1, on=on) as pool:
        pool.submit(time.sleep, 0.05).add_done_callback(lambda _: sys.exit(1))
        assert pool.submit(abs, -1).result(30) == 1
    assert "callback" in caplog.text


def test_a_future_that_somebody_else_told_is_no_end() -> None:
    with vigie.Pool(1, on="threads") as pool:
        go = threading.Event()
        future = pool.submit(go.wait)
        future.set_result(False)
        go.set()
        assert pool.submit(abs, -1).result(30) == 1


# Workers ----------------------------------------------------------------------------


@pytest.mark.parametrize("on", CREWS)
def test_what_init_gives_is_the_worker_s_state(on: Any) -> None:
    with vigie.Pool(2, on=on, init=named) as pool:
        assert all(future.result() for future in [pool.submit(seen) for _ in range(20)])
        with pytest.raises(AttributeError, match="no state 'other'"):
            pool.submit(other).result()


@pytest.mark.parametrize("on", CREWS)
def test_an_init_that_fails_breaks_the_pool(on: Any, caplog: pytest.LogCaptureFixture) -> None:
    with vigie.Pool(2, on=on, init=fails) as pool:
        futures = []
        with pytest.raises(PoolBroken, match="init failed in a worker: ValueError: no such disk"):
            while True:
                futures.append(pool.submit(time.sleep, 0.001))
        for future in futures:
            with pytest.raises(PoolBroken, match="no such disk"):
                future.result(30)
        assert pool.stats().failed == len(futures)
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
    assert "no such disk" in caplog.text


@pytest.mark.parametrize("on", CREWS)
def test_workers_come_with_the_calls_and_leave_when_idle(on: Any, tmp_path: Path) -> None:
    with vigie.Pool(3, on=on, min_workers=1, idle=0.05) as pool:
        assert pool.stats().workers == 1
        for _ in range(3):
            go, futures = behind(pool, tmp_path, 3)
            assert pool.stats().workers == 3
            go.touch()
            wait(futures)
            until(lambda: pool.stats().workers == 1)
        pool.resize(3, 0)
        until(lambda: pool.stats().workers == 0)
        assert [pool.submit(abs, -1).result(30) for _ in range(9)] == [1] * 9
        pool.resize(3, 2)
        until(lambda: pool.stats().workers == 2)


@pytest.mark.parametrize("on", CREWS)
def test_it_is_resized_while_it_runs(on: Any, tmp_path: Path) -> None:
    with vigie.Pool(1, on=on) as pool:
        go, futures = behind(pool, tmp_path, 1)
        late = [pool.submit(until_file, str(go)) for _ in range(5)]
        pool.resize(3)
        until(lambda: pool.stats().busy == 3)
        pool.resize(1)
        go.touch()
        assert [future.result(30) for future in [*futures, *late]] == ["ended", *[1.5] * 5]
        until(lambda: pool.stats().workers == 1)
        stats = pool.stats()
        assert (stats.limit, stats.done, stats.running, stats.waiting) == (1, 6, 0, 0)
        with pytest.raises(UsageError):
            pool.resize(0)
        with pytest.raises(UsageError):
            pool.resize(1, 2)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.resize(2)


def test_stats_count_every_call(tmp_path: Path) -> None:
    with vigie.Pool(1, on="threads") as pool:
        go, futures = behind(pool, tmp_path, 1)
        late = [pool.submit(abs, -1) for _ in range(4)]
        assert late[0].cancel()
        stats = pool.stats()
        assert (stats.workers, stats.busy, stats.running, stats.waiting) == (1, 1, 1, 4)
        assert repr(pool) == "<Pool of 1 to 1 threads, 5 calls open>"
        futures[0].stop()
        wait(late)
        pool.submit(fail, "text").exception()
        stats = pool.stats()
        assert (stats.done, stats.failed, stats.stopped, stats.cancelled) == (3, 1, 1, 1)
        assert "stopped=1" in repr(stats)
        go.touch()


def test_recycled_workers() -> None:
    with vigie.Pool(2, recycle=3) as pool:
        pids = [future.result() for future in [pool.submit(os.getpid) for _ in range(20)]]
    assert all(pids.count(pid) <= 3 for pid in pids)


def test_a_worker_s_memory_has_a_limit() -> None:
    with vigie.Pool(1, memory_limit="300MB") as pool:
        assert isinstance(pool.submit(lambda: len(bytearray(1 << 30))).exception(), MemoryError)
        assert pool.submit(lambda: len(bytearray(1 << 20))).result() == 1 << 20


def test_a_call_may_have_a_pool_of_its_own() -> None:
    with vigie.Pool(2) as pool:
        assert [future.result() for future in [pool.submit(nested, n) for n in (3, 4)]] == [3, 6]
        assert pool.submit(mapped, 5).result() == 10


MANAGER = """
import multiprocessing, vigie
if __name__ == "__main__":
    with vigie.Pool(1) as pool:
        pool.submit(abs, -1).result()
        with multiprocessing.get_context("spawn").Manager() as manager:
            event = manager.Event()
            pool.submit(event.set).result()
            print(event.is_set())
"""


def test_a_manager_of_multiprocessing_is_shared(tmp_path: Path) -> None:
    assert run(tmp_path, MANAGER) == ("True\n", "")


def test_with_what_is_left_of_the_system_s_files(tmp_path: Path) -> None:
    assert run(tmp_path, FEW_FILES) == ("49 True\nTrue 1 0\n", "")


FEW_FILES = """
import os, resource, vigie
with vigie.Pool(8) as pool:
    pool.submit(abs, -1).result()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 9, hard))
    found = [future.result(30) for future in [pool.submit(abs, -n) for n in range(50)]]
    print(found[-1], 1 <= pool.stats().workers < 8)
with vigie.Pool(1) as pool:
    pool.submit(abs, -1).result()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    large = pool.submit(len, b"a" * (2 << 20)).exception(30)  # it goes by a descriptor
    print(isinstance(large, OSError), pool.submit(abs, -1).result(30), pool.stats().busy)
"""


# Words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"max_workers": 0}, {"max_workers": -1}, {"max_workers": "4"}, {"min_workers": -1},
        {"max_workers": 1, "min_workers": 2}, {"idle": 0}, {"idle": "soon"}, {"timeout": 0}, {"timeout": "soon"},
        {"recycle": 0}, {"memory_limit": "much"}, {"on": "clouds"}, {"on": "threads", "recycle": 1},
        {"on": "threads", "memory_limit": "1GB"}, {"init": print, "initializer": print},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        vigie.Pool(**options)


def test_options_of_a_call_are_looked_at() -> None:
    with vigie.Pool(1, on="threads") as pool, pytest.raises(UsageError):
        pool.options(timeout=-1)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        vigie.Pool(1, initializer=3)
    with pytest.raises(NotSerializable):
        vigie.Pool(1, init=threading.Lock().acquire)


@pytest.mark.skipif(there(), reason="this Python has interpreters")
def test_without_interpreters_it_says_so() -> None:
    with pytest.raises(UsageError, match=r"need Python 3\.14, and this is 3\.1") as caught:
        vigie.Pool(1, on="interpreters")
    assert "processes" in str(caught.value.hint)


@pytest.mark.skipif(not there(), reason="this Python has no interpreters")
def test_interpreters_are_apart_from_each_other() -> None:
    def interpreter() -> int:
        from concurrent import interpreters

        return int(interpreters.get_current().id)

    with vigie.Pool(2, on="interpreters") as pool:
        found = {future.result() for future in [pool.submit(interpreter) for _ in range(50)]}
        assert 0 not in found
        assert pool.submit(os.getpid).result() == os.getpid()
        assert list(vigie.map(lambda n: n + 1, range(10), on="interpreters", limit=2)) == list(range(1, 11))
