"""``vigie.Pool``: real workers; what one call does to its worker is no matter of the others."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

import vigie
from vigie.errors import ItemStopped, ItemTimeout, WorkerDied

pytestmark = pytest.mark.slow

CREWS = ["processes", "threads"]


@pytest.mark.parametrize("on", CREWS)
def test_calls_have_their_results(on: Any) -> None:
    with vigie.Pool(2, on=on) as pool:
        futures = [pool.submit(lambda a, b=0: a * b, number, b=number) for number in range(100)]
        assert [future.result() for future in futures] == [number * number for number in range(100)]
        assert pool.stats().done == 100


def test_a_call_that_ends_its_worker_fails_alone() -> None:
    with vigie.Pool(1) as pool:
        futures = [pool.submit(os._exit, 3), *(pool.submit(abs, -number) for number in range(5))]
        assert isinstance(futures[0].exception(), WorkerDied)
        assert [future.result() for future in futures[1:]] == list(range(5))


@pytest.mark.parametrize("on", CREWS)
def test_a_running_call_can_be_stopped(on: Any) -> None:
    with vigie.Pool(1, on=on) as pool:
        future = pool.submit(time.sleep, 1 if on == "threads" else 60)
        behind = pool.submit(abs, -1)
        assert future.stop()
        assert isinstance(future.exception(10), ItemStopped)
        assert behind.result(10) == 1
        assert not future.stop()


@pytest.mark.parametrize("on", CREWS)
def test_a_call_has_a_limit_of_its_own(on: Any) -> None:
    with vigie.Pool(1, on=on) as pool:
        future = pool.options(timeout=0.1).submit(time.sleep, 1 if on == "threads" else 60)
        assert isinstance(future.exception(10), ItemTimeout)
        assert pool.submit(abs, -2).result(10) == 2
