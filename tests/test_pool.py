"""``vigie.Pool``: real workers; what one call does to its worker is no matter of the others."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, as_completed, wait
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vigie
from conftest import until
from pool_calls import fail, fails, fate, mapped, named, nested, other, seen
from test_map import _words, children
from vigie.engines.interpreters import there
from vigie.errors import ItemStopped, ItemTimeout, NotSerializable, UsageError, WorkerDied
from vigie.parallel.pool import PoolBroken
from work import begin_then_wait, until_file

pytestmark = pytest.mark.slow

CREWS = ["processes", "threads", *(["interpreters"] if there() else [])]
#: CPython 3.14 dies of a fork while another interpreter runs.
FORKED = ["processes", "threads"]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("vigie-")]


def segments() -> int:
    """Count the mappings of shared memory."""
    return Path("/proc/self/maps").read_text().count("memfd:")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd")), segments()
    yield
    gc.collect()
    assert until(lambda: not threads()), threads()
    assert until(lambda: not children()), children()
    assert (len(os.listdir("/proc/self/fd")), segments()) == before


_gates = itertools.count()


def behind(pool: vigie.Pool, tmp_path: Path, count: int) -> tuple[Path, list[Any]]:
    """Have calls run until the file is there that is given."""
    go = tmp_path / f"go-{next(_gates)}"
    futures = [pool.submit(begin_then_wait, f"{go}-{number}", str(go)) for number in range(count)]
    until(lambda: all(os.path.exists(f"{go}-{number}") for number in range(count)))
    return go, futures


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


# Ends of calls ----------------------------------------------------------------------


def test_a_call_that_ends_its_worker_fails_alone() -> None:
    with vigie.Pool(1) as pool:
        futures = [pool.submit(os._exit, 3), *(pool.submit(abs, -number) for number in range(5))]
        assert isinstance(futures[0].exception(), WorkerDied)
        assert [future.result() for future in futures[1:]] == list(range(5))


def test_a_call_that_waits_behind_a_crash_runs_once(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def noted(number: int) -> None:
        with open(log, "a") as file:
            file.write(f"{number}\n")
        if number % 3 == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with vigie.Pool(1) as pool:
        futures = [pool.submit(noted, number) for number in range(20)]
        assert [future.exception() is None for future in futures] == [number % 3 != 1 for number in range(20)]
    assert list(map(int, log.read_text().split())) == list(range(20))


def test_a_worker_that_is_killed_before_it_is_ready_costs_nothing(tmp_path: Path) -> None:
    first = tmp_path / "first"

    def init() -> None:
        if not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    with vigie.Pool(1, init=init) as pool:
        assert pool.submit(abs, -1).result(30) == 1


def test_workers_that_never_come_up_break_the_pool() -> None:
    with vigie.Pool(2, init=lambda: os._exit(4)) as pool:
        with pytest.raises(PoolBroken, match=r"ended before it was ready \(exit status 4\)"):
            pool.submit(abs, -1).result(30)


def test_a_slow_call_holds_up_none_that_came_later(tmp_path: Path) -> None:
    with vigie.Pool(2) as pool:
        go, slow = behind(pool, tmp_path, 1)
        # More than there is room for, so that the other worker is never idle before all are done.
        order: list[int] = []
        quick = [pool.submit(time.sleep, 0.05) for _ in range(20)]
        for number, future in enumerate(quick):
            future.add_done_callback(lambda _, number=number: order.append(number))
        wait(quick)
        assert order.index(0) < 10
        assert order.index(1) < 10
        assert not slow[0].done()
        go.touch()


def test_a_call_does_not_wait_for_a_worker_that_is_not_ready(tmp_path: Path) -> None:
    first, go = tmp_path / "first", tmp_path / "go"

    def init() -> None:
        if first.exists():
            until_file(str(go))
        first.touch()

    with vigie.Pool(2, init=init) as pool:
        assert pool.submit(abs, -1).result() == 1
        both = [pool.submit(abs, -1), pool.submit(abs, -1)]
        assert [future.result(30) for future in both] == [1, 1]
        go.touch()


@pytest.mark.parametrize("on", CREWS)
def test_cancel_is_the_standard_s(on: Any, tmp_path: Path) -> None:
    with vigie.Pool(1, on=on) as pool:
        go, futures = behind(pool, tmp_path, 1)
        late = [pool.submit(Path(tmp_path / f"ran{number}").touch) for number in range(9)]
        assert not futures[0].cancel()
        assert late[8].cancel()
        assert late[8].cancelled()
        assert not late[8].running()
        go.touch()
        wait(late)
        with pytest.raises(CancelledError):
            late[8].result()
        until(lambda: pool.stats().cancelled == 1)
    assert not (tmp_path / "ran8").exists()
    assert (tmp_path / "ran7").exists()
    assert not futures[0].cancel()


@pytest.mark.parametrize("on", CREWS)
def test_calls_are_stopped_wherever_they_are(on: Any, tmp_path: Path) -> None:
    with vigie.Pool(1, on=on) as pool:
        go, futures = behind(pool, tmp_path, 1)
        late = [pool.submit(Path(tmp_path / f"ran{number}").touch) for number in range(6)]
        # The first may be given to the worker already.
        stopped = [late[0], late[3]]
        assert all(future.stop() for future in stopped)
        assert futures[0].stop()
        with pytest.raises(ItemStopped, match="the call was stopped"):
            futures[0].result(30)
        for future in stopped:
            with pytest.raises((ItemStopped, CancelledError)):
                future.result(30)
        for number in (1, 2, 4, 5):
            late[number].result(30)
            assert not late[number].stop()
        go.touch()
    assert sorted(path.name for path in tmp_path.glob("ran*")) == ["ran1", "ran2", "ran4", "ran5"]
    assert not any(future.stop() for future in [*futures, *late[1:3]])


@pytest.mark.parametrize("on", CREWS)
def test_a_call_has_a_limit_of_its_own(on: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with vigie.Pool(2, on=on) as pool:
        limited = pool.options(timeout=0.1)
        futures = [limited.submit(until_file, str(go)) if number % 3 == 0 else pool.submit(abs, -number)
                   for number in range(12)]  # fmt: skip
        patient = pool.submit(time.sleep, 0.3)
        for number, future in enumerate(futures):
            if number % 3 == 0:
                with pytest.raises(ItemTimeout, match=r"took longer than 0\.1 s"):
                    future.result(30)
            else:
                assert future.result(30) == number
        assert patient.result(30) is None
        go.touch()


def test_a_limit_for_all_is_none_for_those_that_say_so() -> None:
    with vigie.Pool(1, timeout="100ms") as pool:
        assert isinstance(pool.submit(time.sleep, 60).exception(30), ItemTimeout)
        assert pool.options(timeout=None).submit(time.sleep, 0.3).exception(30) is None


def test_the_longest_times_are_no_limit() -> None:
    with vigie.Pool(1, timeout="90d", idle="90d", min_workers=1) as pool:
        assert pool.submit(time.sleep, 0.1).exception(30) is None
        assert pool.submit(abs, -1).result(30) == 1


def test_a_call_that_hears_the_signal_ends_all_the_same(tmp_path: Path) -> None:
    def deaf() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        begin_then_wait(str(tmp_path / "begun"), str(tmp_path / "never"))

    with vigie.Pool(1) as pool:
        future = pool.submit(deaf)
        until((tmp_path / "begun").exists)
        assert future.stop()
        assert isinstance(future.exception(30), ItemStopped)


# Ends of pools ----------------------------------------------------------------------


@pytest.mark.parametrize("on", CREWS)
def test_after_a_shutdown_nothing_is_taken(on: Any) -> None:
    pool = vigie.Pool(1, on=on)
    futures = [pool.submit(abs, -number) for number in range(20)]
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(abs, 1)
    assert [future.result(30) for future in futures] == list(range(20))
    pool.shutdown()
    pool.stop()
    assert pool.stats().workers == 0 or on != "processes"


@pytest.mark.parametrize("on", CREWS)
def test_a_pool_that_never_had_a_call_ends(on: Any) -> None:
    with vigie.Pool(2, on=on):
        pass
    vigie.Pool(2, on=on)


@pytest.mark.parametrize("on", CREWS)
def test_a_pool_is_stopped_with_all_it_has(on: Any, tmp_path: Path) -> None:
    pool = vigie.Pool(2, on=on)
    go, futures = behind(pool, tmp_path, 2)
    late = [pool.submit(Path(tmp_path / "ran").touch) for _ in range(9)]
    pool.stop()
    assert all(isinstance(future.exception(0), ItemStopped) for future in futures)
    for future in late:
        with pytest.raises((ItemStopped, CancelledError)):
            future.result(0)
    go.touch()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("on", CREWS)
def test_an_error_in_the_block_waits_for_the_calls(on: Any) -> None:
    with pytest.raises(KeyError), vigie.Pool(1, on=on) as pool:
        futures = [pool.submit(abs, -number) for number in range(20)]
        raise KeyError
    assert [future.result(0) for future in futures] == list(range(20))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("on", CREWS)
def test_an_exit_out_of_the_block_stops_them(on: Any, error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error), vigie.Pool(1, on=on) as pool:
        go, futures = behind(pool, tmp_path, 1)
        raise error
    assert isinstance(futures[0].exception(0), ItemStopped)
    go.touch()


@pytest.mark.parametrize("on", CREWS)
def test_a_pool_that_nobody_holds_does_what_was_submitted(on: Any) -> None:
    pool = vigie.Pool(2, on=on)
    futures = [pool.submit(abs, -number) for number in range(50)]
    held = weakref.ref(pool)
    del pool
    assert held() is None
    assert [future.result(30) for future in as_completed(futures)].sort() is None
    assert sorted(future.result() for future in futures) == list(range(50))


def test_a_pool_may_be_ended_by_a_call_of_its_own() -> None:
    pool = vigie.Pool(2, on="threads")
    with pytest.raises(RuntimeError, match="its own pool"):
        pool.submit(pool.shutdown).result(30)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, -1)
    pool.shutdown()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("on", FORKED)
def test_a_fork_of_the_caller_has_no_say(on: Any, tmp_path: Path) -> None:
    with vigie.Pool(1, on=on) as pool:
        go, futures = behind(pool, tmp_path, 1)
        with pool._desk.lock:  # as a thread may hold it that is not in the child
            pid = os.fork()
        if pid == 0:
            said = b""
            with contextlib.suppress(BaseException):
                try:
                    pool.submit(abs, -1)
                except RuntimeError as error:
                    said = str(error).encode()
                futures[0].stop()
                pool.stop()
                pool.shutdown()
                repr(pool)
                said += b" and so on"
            (tmp_path / "said").write_bytes(said)
            os._exit(0)
        os.waitpid(pid, 0)
        assert (tmp_path / "said").read_text() == "this pool belongs to the process that forked this one and so on"
        go.touch()
        assert futures[0].result(30) == "ended"
        assert pool.submit(abs, -1).result(30) == 1


FORKING = """
import os, sys, vigie
pool = vigie.Pool(1, on=sys.argv[1])
print(pool.submit(abs, -1).result(), flush=True)
if os.fork() == 0:
    sys.exit()
os.wait()
print(pool.submit(abs, -2).result())
"""


@pytest.mark.parametrize("on", FORKED)
def test_the_exit_of_a_fork_is_no_end(on: Any, tmp_path: Path) -> None:
    assert run(tmp_path, FORKING, on) == ("1\n2\n", "")


def run(tmp_path: Path, text: str, *words: str) -> tuple[str, str]:
    script = tmp_path / "script.py"
    script.write_text(text)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(script), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout, done.stderr


UNGUARDED = """
import vigie
class Point:
    def __init__(self, x): self.x = x
def double(point): return Point(2 * point.x)
pool = vigie.Pool(2)
print([point.x for point in pool.map(double, map(Point, range(3)))], flush=True)
pool.submit(print, "at the end")
"""


def test_a_script_needs_no_guard_and_no_shutdown(tmp_path: Path) -> None:
    assert run(tmp_path, UNGUARDED) == ("[0, 2, 4]\nat the end\n", "")


CALLER = """
import os, subprocess, sys, time, vigie
def call():
    child = subprocess.Popen(["sleep", "600"])
    os.write(1, b"%d %d\\n" % (os.getpid(), child.pid))
    time.sleep(600)
pool = vigie.Pool(2)
def begin():
    return [pool.submit(call) for _ in range(9)]
if sys.argv[1] == "block":
    with pool:
        begin()[0].result()
elif sys.argv[1] == "shutdown":
    with pool:
        begin()
elif sys.argv[1] == "bare":
    begin()[0].result()
elif sys.argv[1] == "end":
    begin()
elif sys.argv[1] == "forked":
    begin()
    if os.fork() == 0:
        for fd in (0, 1, 2):
            os.close(fd)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("block", signal.SIGINT), ("shutdown", signal.SIGINT), ("bare", signal.SIGINT), ("end", signal.SIGINT),
        ("block", signal.SIGKILL), ("end", signal.SIGKILL), ("block", signal.SIGTERM), ("forked", signal.SIGKILL),
    ],
)  # fmt: skip
def test_nothing_outlives_the_caller(tmp_path: Path, where: str, number: int) -> None:
    """After Ctrl-C and after kill -9 no worker lives, and nothing that it had started."""
    script = tmp_path / "script.py"
    script.write_text(CALLER)
    words = [sys.executable, "-W", "ignore::DeprecationWarning", str(script), where]
    caller = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )  # fmt: skip
    assert caller.stdout is not None
    pids = [int(pid) for _ in range(2) for pid in caller.stdout.readline().split()]
    caller.send_signal(number)
    try:
        caller.wait(20)
        until(lambda: not [pid for pid in pids if _words(pid)], timeout=20)
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(caller.pid, signal.SIGKILL)  # the forked one
        caller.communicate()


# Any mix of fates -------------------------------------------------------------------


FATES = ["fine"] * 16 + ["nap"] * 6 + ["raise", "kill", "exit", "hang", "stop", "cancel", "large"]
#: What may come of each: a value, or one of these errors.
MAY = {
    "fine": (), "nap": (), "large": (), "raise": (KeyError,), "kill": (WorkerDied,), "exit": (WorkerDied,),
    "hang": (ItemTimeout,), "stop": (ItemStopped, CancelledError), "cancel": (CancelledError,),
}  # fmt: skip


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(FATES), max_size=50), st.integers(1, 3), st.sampled_from([None, 1, 4]))
def test_each_call_has_exactly_one_fate(tmp_path: Path, fates: list[str], limit: int, recycle: int | None) -> None:
    log = tmp_path / "log"
    log.write_text("")
    told: list[int] = []
    with vigie.Pool(limit, recycle=recycle) as pool:
        futures = []
        for number, how in enumerate(fates):
            ways = pool.options(timeout=0.2) if how == "hang" else pool
            future = ways.submit(fate, number, how, str(log))
            future.add_done_callback(lambda _, number=number: told.append(number))
            futures.append(future)
        cancelled = {number for number, how in enumerate(fates) if how == "cancel" and futures[number].cancel()}
        for number, how in enumerate(fates):
            if how == "stop":
                assert futures[number].stop()
        found = [_fate(future) for future in futures]
    for number, how in enumerate(fates):
        if number in cancelled or how not in ("cancel", "fine", "nap", "large"):
            assert isinstance(found[number], MAY[how]), (how, found[number])
        else:
            assert found[number] is None, (how, found[number])
    assert sorted(told) == list(range(len(fates)))
    ran = list(map(int, log.read_text().split()))
    assert len(ran) == len(set(ran))
    assert not cancelled & set(ran)
    # What has little time may be over before it has begun to write.
    assert {number for number, how in enumerate(fates) if how not in ("stop", "cancel", "hang")} <= set(ran)


def _fate(future: Any) -> BaseException | None:
    try:
        return future.exception(60)
    except CancelledError as error:
        return error


@pytest.mark.parametrize("on", CREWS)
def test_no_call_is_lost_whatever_is_done_at_once(on: Any, tmp_path: Path) -> None:
    chance = random.Random(7)
    for turn in range(3 if on == "processes" else 20):
        _use_at_once(on, chance, str(tmp_path / f"log{turn}"))


def _use_at_once(on: Any, chance: random.Random, log: str) -> None:
    recycle = chance.choice([None, 10, 50]) if on == "processes" else None
    pool = vigie.Pool(2, on=on, idle=chance.choice([0.001, 1]), min_workers=chance.choice([0, 1]), recycle=recycle)
    futures: list[Any] = []

    def use(own: random.Random) -> None:
        with contextlib.suppress(RuntimeError):  # it is shut down
            for _ in range(50):
                what = own.random()
                if what < 0.8:
                    limited = pool.options(timeout=30 if own.random() < 0.3 else None)
                    number = len(futures) if own.random() < 0.5 else next(numbers)
                    futures.append(limited.submit(fate, number, own.choice(["fine", "nap", "raise"]), log))
                elif what < 0.97 and futures:
                    own.choice([own.choice(futures).stop, own.choice(futures).cancel])()
                elif what < 0.995:
                    pool.resize(own.choice([1, 2, 3]))
                else:
                    pool.shutdown(wait=False)

    numbers = itertools.count(10_000)
    users = [threading.Thread(target=use, args=(random.Random(chance.random()),)) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    chance.choice([pool.shutdown, pool.stop, lambda: pool.shutdown(cancel_futures=True)])()
    assert {type(_fate(future)) for future in futures} <= {type(None), KeyError, ItemStopped, CancelledError}
    stats = pool.stats()
    assert (stats.running, stats.waiting) == (0, 0)
    assert stats.done + stats.failed + stats.stopped + stats.cancelled == len(futures)


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
