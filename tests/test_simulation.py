"""Agent, keeper and workers in a simulated world, in which anything may fail at any moment.

``VIGIE_SIMULATIONS=100000 pytest tests/test_simulation.py`` plays more sequences than usual, and
``--hypothesis-seed`` repeats a run. What a failing sequence has taught stands at the end as a case.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from simulation.machine import Machine
from simulation.processes import installed
from simulation.world import World

SEQUENCES = int(os.environ.get("VIGIE_SIMULATIONS", "2000"))
PARTS = 4


@pytest.fixture(autouse=True)
def _simulated() -> Iterator[None]:
    with installed():
        yield


@pytest.fixture
def world() -> Iterator[World]:
    """Give a world with an agent; at the end all must come to rest, and every promise hold."""
    made = World()
    made.start_agent()
    try:
        yield made
        made.settle()
    finally:
        made.close()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_the_promises_hold_whatever_happens(part: int) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=max(1, SEQUENCES // PARTS),
            stateful_step_count=14,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


# Cases ---------------------------------------------------------------------------


def test_workers_that_were_never_spawned_are_not_born_dead(world: World) -> None:
    """Seven were committed, and the keeper had heard of none when it died with the agent."""
    world.clients.start("function", [{} for _ in range(7)], options={"now": True})
    world.calm(16)
    assert not list(world.kernel.living("worker"))
    for kind in ("agent", "keeper"):
        for proc in world.kernel.living(kind):
            world.kill(proc, 0)
