"""``on="auto"`` chooses, and ``explain`` says where the time went."""

from __future__ import annotations

import os
import threading
import time

import pytest

import vigie
from vigie.parallel.explain import explain
from vigie.parallel.plan import Plan
from vigie.parallel.tally import Tally

pytestmark = pytest.mark.slow


def here(_: int) -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def waits(_: int) -> tuple[int, int]:
    time.sleep(0.005)
    return here(0)


def works(_: int) -> tuple[int, int]:
    until = time.process_time() + 0.005
    while time.process_time() < until:
        pass
    return here(0)


def places(function: object, count: int = 60, **options: object) -> set[str]:
    """Where items ran, after those that are tried."""
    found = list(vigie.map(function, range(count), on="auto", **options))[20:]  # type: ignore[arg-type]  # any
    own = here(0)
    return {"inline" if one == own else "threads" if one[0] == own[0] else "processes" for one in found}


def test_what_takes_no_time_stays_here() -> None:
    assert places(here) == {"inline"}


def test_what_waits_goes_to_threads() -> None:
    assert places(waits) == {"threads"}


def test_what_works_goes_to_processes() -> None:
    assert places(works) == {"processes"}


def test_what_has_a_limit_of_time_goes_to_processes() -> None:
    assert places(here, timeout=10) == {"processes"}


def test_coroutine_functions_are_awaited() -> None:
    async def double(number: int) -> int:
        return 2 * number

    assert list(vigie.map(double, range(5), on="auto")) == [0, 2, 4, 6, 8]


def test_errors_of_items_that_are_tried_are_outcomes() -> None:
    def fails(number: int) -> int:
        raise ValueError(number)

    found = list(vigie.map(fails, range(30), on="auto", errors="collect"))
    assert [type(one.error) for one in found] == [ValueError] * 30


def test_what_cannot_travel_goes_to_threads() -> None:
    lock = threading.Lock()

    def locked(number: int) -> int:
        with lock:
            works(0)
        return number

    assert list(vigie.map(locked, range(60), on="auto")) == list(range(60))


# explain ----------------------------------------------------------------------------


def test_it_says_what_is_too_small() -> None:
    run = vigie.map(abs, range(20_000), limit=1)
    list(run)
    assert "on='inline'" in run.explain()
    assert run.explain().startswith("20,000 items in ")


def test_it_says_that_the_source_is_slow() -> None:
    def slowly() -> object:
        for number in range(20):
            time.sleep(0.003)
            yield number

    run = vigie.map(abs, slowly(), on="threads")  # type: ignore[arg-type]  # numbers
    list(run)
    assert "the source of the items took" in run.explain()


def test_it_says_that_the_caller_is_slow() -> None:
    run = vigie.map(abs, range(20), on="threads")
    for _ in run:
        time.sleep(0.003)
    assert "your own code between two results" in run.explain()


def test_it_says_that_more_workers_than_cores_gain_nothing() -> None:
    class Many:
        limit, place = 4096, "processes"

    tally = Tally(Many(), Plan())  # type: ignore[arg-type]  # it is asked for nothing else
    tally.enter()
    tally.computed([1_000_000] * 10)
    tally.leave()
    tally.end()
    assert "limit 4096 on" in explain(tally)


def test_before_anything_it_says_so() -> None:
    assert vigie.map(abs, [1], on="inline").explain() == "nothing was computed yet"


def test_inline_computes_nothing_after_an_item_that_failed() -> None:
    done: list[int] = []

    def note(number: int) -> int:
        done.append(number)
        return 1 // (number - 500)

    with pytest.raises(ZeroDivisionError):
        list(vigie.map(note, range(1000), on="inline"))
    assert done == list(range(501))


def test_stragglers_of_threads_are_named() -> None:
    run = vigie.map(time.sleep, [0.01] * 8 + [0.2], limit=2, on="threads")
    list(run)
    assert "give the longest first" in run.explain()
    run = vigie.map(time.sleep, [0.05] * 3, limit=2, on="threads")
    list(run)
    assert "give the longest first" not in run.explain()


def test_what_is_computed_here_is_not_called_sending() -> None:
    run = vigie.map(time.sleep, [0.01] * 4, on="inline")
    list(run)
    assert "caller: computing" in run.explain()
    assert "pickling and sending took" not in run.explain()
