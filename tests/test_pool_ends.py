"""The ends of calls and of pools: what one does to its worker is no matter of the others; nothing is left."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, as_completed, wait
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vigie
from conftest import until
from map_workers import words
from pool_calls import fate
from pool_crews import CREWS, FORKED, behind, nothing_left, run  # noqa: F401 - fixtures
from vigie.errors import ItemStopped, ItemTimeout, WorkerDied
from vigie.parallel.pool import PoolBroken
from work import begin_then_wait, until_file

pytestmark = pytest.mark.slow


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
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(script), where]
    caller = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert caller.stdout is not None
    pids = [int(pid) for _ in range(2) for pid in caller.stdout.readline().split()]
    caller.send_signal(number)
    try:
        caller.wait(20)
        until(lambda: not [pid for pid in pids if words(pid)], timeout=20)
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
