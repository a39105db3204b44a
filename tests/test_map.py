"""``vigie.map``: real workers, killed, timed out and abandoned; what comes out is what a plain map gives."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vigie
from conftest import until
from map_workers import nothing_left
from vigie import worker_map
from vigie.engines.batch import Batch, Group
from vigie.engines.ledger import Ledger
from vigie.errors import ItemTimeout, NotSerializable, UsageError, WorkerDied
from vigie.parallel.batching import Batching
from vigie.parallel.course import Course
from vigie.parallel.plan import Plan
from vigie.workfiles import Page

__all__ = ["nothing_left"]  # a fixture of each test

pytestmark = pytest.mark.slow

ENGINES = ["processes", "threads", "inline"]


# Results ----------------------------------------------------------------------------


@pytest.mark.parametrize("on", ENGINES)
def test_it_gives_what_a_plain_map_gives(on: Any) -> None:
    assert list(vigie.map(lambda x: x * x, range(1000), on=on)) == [x * x for x in range(1000)]


@pytest.mark.parametrize("on", ENGINES)
def test_nothing_gives_nothing(on: Any) -> None:
    assert list(vigie.map(abs, [], on=on)) == []


def test_unordered_results_come_as_they_are_ready(tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)

    def first_waits(number: int) -> int:
        if number == 0:
            fifo.read_text()
        return number

    run = vigie.map(first_waits, range(3), limit=3, ordered=False)
    assert sorted(itertools.islice(run, 2)) == [1, 2]
    fifo.write_text("")
    assert list(run) == [0]


def test_what_ended_before_a_straggler_of_its_batch_does_not_wait_for_it(tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)

    def one_waits(number: int) -> int:
        if number == 200:
            fifo.read_text()
        return number

    run = vigie.map(one_waits, range(400), limit=1, window=400)
    assert list(itertools.islice(run, 200)) == list(range(200))
    fifo.write_text("")
    assert list(run) == list(range(200, 400))


def test_what_is_on_its_way_comes_before_what_stands_in_the_journal() -> None:
    page = Page.made(os.memfd_create("page"))
    books = Ledger(1, page)
    books.add(Batch(0, list(range(10))))
    ended = {seq: worker_map._end(seq, 1, 0, pickle.dumps(seq - 1), worker_map.VALUE) for seq in range(1, 11)}
    assert page.may_start(8)
    page.began = 1
    page.append(ended[6] + ended[7])
    books.take(ended[1] + ended[2] + ended[3])
    assert books.unsent(0) == [], "items 3 and 4 are on their way"
    books.take(ended[4] + ended[5])
    (group,) = books.unsent(0)
    assert isinstance(group, Group)
    assert (group.index, group.list()) == (5, [5, 6])
    page.close()


def made() -> dict[str, Any]:
    return {"pid": os.getpid(), "thread": threading.get_ident()}


@pytest.mark.parametrize("on", ENGINES)
def test_what_init_makes_is_the_worker_s_state(on: Any) -> None:
    def seen(number: int) -> bool:
        return vigie.state.pid == os.getpid() and vigie.state.thread == threading.get_ident()

    assert all(vigie.map(seen, range(20), limit=3, on=on, init=made))
    with pytest.raises(AttributeError, match="no state 'other'"):
        list(vigie.map(lambda _: vigie.state.other, [0], on=on, init=made))


def test_a_task_maps_with_its_own_timeout() -> None:
    slow = vigie.task(timeout="200ms")(time.sleep)
    with pytest.raises(ItemTimeout):
        list(slow.map([30]))
    assert list(slow.map([0.3], timeout=10)) == [None]


# Any mix of fates -------------------------------------------------------------------


def fate(item: tuple[int, str]) -> int:
    number, how = item
    if how == "raise":
        raise KeyError(number)
    if how == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "exit":
        os._exit(7)
    if how == "hang":
        time.sleep(60)
    if how == "work":
        until_ = time.perf_counter() + 0.003
        while time.perf_counter() < until_:
            pass
    if how == "large":
        return number * 10**300_000
    return number


FATES = ["fine"] * 20 + ["work"] * 6 + ["raise", "segv", "exit", "hang", "large"]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(FATES), max_size=60), st.integers(1, 3), st.booleans())
def test_each_item_has_exactly_one_outcome(fates: list[str], limit: int, ordered: bool) -> None:
    items = list(enumerate(fates))
    found = list(vigie.map(fate, items, limit=limit, ordered=ordered, errors="collect", timeout=0.4))
    assert [one.index for one in sorted(found, key=lambda one: one.index)] == list(range(len(items)))
    if ordered:
        assert [one.index for one in found] == list(range(len(items)))
    for one in found:
        how = fates[one.index]
        if how in ("fine", "work", "large"):
            assert one.ok
            assert one.value == fate((one.index, how))
            assert one.attempts == 1
        elif how == "raise":
            assert isinstance(one.error, KeyError)
        elif how == "hang":
            assert isinstance(one.error, ItemTimeout)
            assert 0.4 <= one.duration < 5
        else:
            assert isinstance(one.error, WorkerDied)
            assert one.signal == (signal.SIGSEGV if how == "segv" else None)


def test_an_item_is_computed_once_whoever_dies_beside_it(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def noted(number: int) -> int:
        with open(log, "a") as file:
            file.write(f"{number}\n")
        if number % 10 == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    found = list(vigie.map(noted, range(100), limit=2, errors="skip"))
    assert found == [number for number in range(100) if number % 10 != 9]
    assert sorted(map(int, log.read_text().split())) == list(range(100))


def test_a_child_of_a_dead_worker_holds_nothing_up() -> None:
    def leave_a_child(number: int) -> int:
        if number == 1 and os.fork():
            os._exit(3)
        if number == 1:
            time.sleep(600)
        return number

    found = list(vigie.map(leave_a_child, range(3), limit=1, errors="collect"))
    assert [one.value for one in found] == [0, None, 2]
    assert "exit status 3" in str(found[1].error)


def test_retries(tmp_path: Path) -> None:
    def third(number: int) -> int:
        with open(tmp_path / str(number), "a") as file:
            file.write("x")
        tries = os.stat(tmp_path / str(number)).st_size
        if number == 1 and tries < 3:
            raise ValueError
        if number == 2 and tries < 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 3:
            os._exit(1)
        return tries

    found = list(vigie.map(third, range(5), limit=2, retries=2, errors="collect"))
    assert [(one.value, one.attempts) for one in found] == [(1, 1), (3, 3), (3, 3), (None, 3), (1, 1)]


def reciprocal(number: int) -> float:
    return 1 / number


def test_an_error_is_raised_with_where_it_was_raised() -> None:
    run = vigie.map(reciprocal, [1, 2, 0, 4], limit=1)
    assert [next(run), next(run)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError) as caught:
        next(run)
    assert "return 1 / number" in str(caught.value.__cause__)
    assert list(run) == []


def test_an_error_of_the_source_comes_after_the_results_before_it() -> None:
    def source() -> Iterator[int]:
        yield from range(10)
        raise OSError("the disk is gone")

    run = vigie.map(abs, source(), limit=2)
    assert list(itertools.islice(run, 10)) == list(range(10))
    with pytest.raises(OSError, match="the disk is gone"):
        next(run)


# What travels -----------------------------------------------------------------------


class Unsendable:
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


class Unreadable:
    def __reduce__(self) -> Any:
        return int, ("no number",)


@pytest.mark.parametrize("kind", [Unsendable, Unreadable])
def test_an_item_that_cannot_travel_fails_alone(kind: type) -> None:
    found = list(vigie.map(lambda x: 1, [1, 2, kind(), 4, 5], limit=2, errors="collect"))
    assert [one.value for one in found] == [1, 1, None, 1, 1]
    assert isinstance(found[2].error, NotSerializable if kind is Unsendable else ValueError)


def test_a_result_that_cannot_travel_fails_alone() -> None:
    found = list(vigie.map(lambda x: threading.Lock() if x == 2 else x, range(4), limit=1, errors="collect"))
    assert [one.ok for one in found] == [True, True, False, True]
    assert "lock" in str(found[2].error)


def test_a_function_that_no_worker_finds_says_so() -> None:
    with pytest.raises(WorkerDied, match="init failed in a worker: ZeroDivisionError"):
        list(vigie.map(abs, [1], init=lambda: 1 / 0))
    with pytest.raises(WorkerDied, match="before it was ready"):
        list(vigie.map(abs, [1], init=lambda: os._exit(1), recycle=1))


SCRIPT = """
import sys, vigie
class Point:
    def __init__(self, x): self.x = x
def double(point): return Point(2 * point.x)
def nested(n): return sum(vigie.map(abs, range(n), limit=1))
print([p.x for p in vigie.map(double, map(Point, range(5)))], isinstance(next(vigie.map(double, [Point(1)])), Point))
print(list(vigie.map(nested, [3, 4])))
"""


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == "[0, 2, 4, 6, 8] True\n[3, 6]\n"


def _take_time(seconds: float) -> None:
    """Be slow, as a caller or a source may be."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end)


class _Text(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("on", ENGINES)
def test_an_exception_without_a_text_is_an_outcome(on: Any) -> None:
    def raises(number: int) -> int:
        if number == 1:
            raise _Text
        return number

    assert [one.ok for one in vigie.map(raises, range(3), on=on, errors="collect")] == [True, False, True]


class Deadly:
    def __init__(self, how: Any, *words: Any) -> None:
        self.made = how, words

    def __reduce__(self) -> Any:
        return self.made


@pytest.mark.parametrize(
    ("item", "error"),
    [
        (Deadly(os._exit, 3), WorkerDied),
        (Deadly(os.kill, 0, signal.SIGKILL), WorkerDied),
        (Deadly(time.sleep, 60), ItemTimeout),
        (Deadly(exec, "raise KeyboardInterrupt"), KeyboardInterrupt),
    ],
)
def test_an_item_that_ends_who_reads_it_fails_alone(item: Deadly, error: type[BaseException]) -> None:
    found = list(vigie.map(type, ["a", "b", item, "c", "d"], limit=1, errors="collect", timeout=1))
    assert [one.ok for one in found] == [True, True, False, True, True]
    assert isinstance(found[2].error, error)


def _unmakable(number: int) -> int:
    if number == 2:
        raise ValueError("cannot be made")
    return number


def test_a_result_that_cannot_be_read_fails_alone() -> None:
    found = list(vigie.map(lambda x: Deadly(_unmakable, x), range(5), limit=1, errors="collect"))
    assert [one.value for one in found] == [0, 1, None, 3, 4]
    assert str(found[2].error) == "cannot be made"


def test_the_time_of_a_large_result_on_its_way_is_not_the_item_s() -> None:
    found = []
    for one in vigie.map(lambda n: bytes(3 << 20), range(4), errors="collect", timeout=0.3, limit=2):
        found.append(one.ok)
        _take_time(0.4)
    assert found == [True] * 4


def test_an_item_that_catches_the_signal_has_taken_too_long_and_no_other() -> None:
    def catches(number: int) -> int:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        time.sleep(60 if number == 0 else 0.1)
        return number

    found = list(vigie.map(catches, range(6), limit=1, errors="collect", timeout=0.3))
    assert [one.value for one in found] == [None, 1, 2, 3, 4, 5]
    assert isinstance(found[0].error, ItemTimeout)


def test_an_item_that_forks_is_told_once() -> None:
    def forks(number: int) -> int:
        if number == 1:
            os.fork()
        return number

    assert list(vigie.map(forks, range(5), limit=1)) == list(range(5))


def test_a_fork_of_the_caller_has_no_say() -> None:
    run = vigie.map(lambda x: x, range(2000), limit=2, window=20)
    assert next(run) == 0
    if os.fork() == 0:
        with contextlib.suppress(BaseException):
            run.close()
        os._exit(0)
    os.wait()
    assert list(run) == list(range(1, 2000))


def test_a_source_that_turns_slow_holds_no_result_back() -> None:
    told: list[int] = []

    def source() -> Iterator[int]:
        yield from range(5000)
        for number in range(5000, 5010):
            # What was computed of the quick part is told before the slow part is over.
            _take_time(0.02)
            told.append(len(seen))
            yield number

    seen: list[int] = []
    for value in vigie.map(abs, source(), limit=2):
        seen.append(value)  # noqa: PERF402 - the source looks at it
    assert seen == list(range(5010))
    assert told[-1] >= 5000


# Lazy at both ends ------------------------------------------------------------------


@pytest.mark.parametrize("on", ENGINES)
def test_an_endless_source_is_read_as_far_as_the_window(on: Any) -> None:
    taken = itertools.count()

    def source() -> Iterator[int]:
        yield from taken

    with vigie.map(abs, source(), on=on, window=50, limit=2) as run:
        assert list(itertools.islice(run, 200)) == list(range(200))
    assert next(taken) <= 200 + 50 + 1


def test_a_straggler_holds_up_the_window_and_not_the_machine() -> None:
    seen: list[int] = []

    def source() -> Iterator[float]:
        for number in range(500):
            seen.append(number)
            yield 0.5 if number == 0 else 0.0

    run = vigie.map(time.sleep, source(), limit=2, window=40)
    assert next(run) is None
    assert len(seen) <= 41
    assert len(list(run)) == 499


def test_a_rate_spreads_the_starts() -> None:
    began = time.monotonic()
    assert len(list(vigie.map(abs, range(6), on="threads", rate="20/s"))) == 6
    assert time.monotonic() - began >= 5 / 20


class Still:
    """An engine in which nothing ends before it is told to; it notes when items begin."""

    def __init__(self, now: list[float]) -> None:
        self.limit, self.now = 2, now
        self.begun: list[float] = []
        self.given: list[Batch] = []
        self.events: list[Any] = []

    def room(self) -> int:
        return 2 * self.limit - len(self.given)

    def most(self) -> int | None:
        return None

    def busy(self) -> int:
        return min(self.limit, len(self.given))

    def give(self, batch: Batch) -> None:
        self.given.append(batch)
        self.begun.append(self.now[0])

    def end(self) -> None:
        batch = self.given.pop(0)
        self.events.append(Group(batch.index, [1], [0], 1, 1))

    def held_bytes(self) -> int:
        return 0

    def take_back(self, least: int = 2) -> None: ...

    def poll(self, wait: float | None) -> list[Any]:
        found, self.events = self.events, []
        return found

    def close(self) -> None: ...


def test_a_rate_holds_after_a_pause_too() -> None:
    now = [0.0]
    engine = Still(now)
    course = Course(engine, itertools.count(), Plan(ordered=False, rate="10/s", clock=lambda: now[0]))  # type: ignore[arg-type]  # it has no use for idle
    for _ in range(
        20
    ):  # nothing ends: no more begin than there are workers, and what waits for one is not started ahead
        course.pump(0)
        now[0] += 0.1
    assert engine.begun == pytest.approx([0.0, 0.1])
    while len(engine.begun) < 5:
        if engine.given:
            engine.end()
        course.pump(0)
        now[0] += 0.01
    gaps = [later - earlier for earlier, later in itertools.pairwise(engine.begun)]
    assert min(gaps) >= 0.0999


# Workers ----------------------------------------------------------------------------


def test_init_runs_once_in_each_worker(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def init() -> None:
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")

    pids = set(vigie.map(lambda _: os.getpid(), range(50), limit=2, init=init))
    made = log.read_text().split()
    assert len(made) == len(set(made))
    assert pids <= set(map(int, made))


@pytest.mark.parametrize("each", [1, 3])
def test_recycled_workers(each: int) -> None:
    pids = list(vigie.map(lambda _: os.getpid(), range(9), limit=2, recycle=each))
    assert all(pids.count(pid) <= each for pid in pids)


def test_workers_use_one_thread_for_numbers_unless_told() -> None:
    name = "OMP_NUM_THREADS"
    assert list(vigie.map(lambda _: os.environ.get(name), [0])) == [os.environ.get(name, "1")]


def test_threads_are_abandoned_and_replaced() -> None:
    go = threading.Event()
    try:
        found = list(
            vigie.map(
                lambda x: go.wait(30) if x == 1 else x, range(6), on="threads", limit=1, timeout=0.2, errors="collect"
            )
        )
        assert [one.value for one in found] == [0, None, 2, 3, 4, 5]
        assert isinstance(found[1].error, ItemTimeout)
    finally:
        go.set()


# Words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0}, {"retries": -1}, {"recycle": 0}, {"window": 0}, {"timeout": 0}, {"timeout": "soon"},
        {"errors": "ignore"}, {"on": "clouds"}, {"on": "inline", "timeout": 1}, {"on": "threads", "recycle": 1},
        {"rate": "fast"}, {"window": 1.5}, {"limit": "4"},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        vigie.map(abs, [], **options)


@pytest.mark.parametrize("cheap", [10, 1_000, 100_000])
def test_cheap_items_make_no_huge_batch_of_dear_ones(cheap: int) -> None:
    batching = Batching()
    for _ in range(20):
        batching.measured([cheap] * batching.size, batching.size)
    big = batching.size
    batching.measured([50_000_000], big)
    assert batching.size == 1
    batching.measured([cheap] * 8, 1)
    assert batching.size <= 8
