"""Ten years of schedules in a world in which everything goes wrong, watched by an oracle that plans by itself.

Invariants: at most one run for each (schedule, instant); nothing planned is without a record, and no record without
a plan; what each policy says holds. A failing world tells its seed and the story of the schedule.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schedules_world import World

#: Two agents that share a store for a while know each other's plans, and not each other's open runs: overlap
#: is a matter of one machine, where a lock sees to it that there is one agent.
ALONE = ("second",)
#: Seeds that take a few seconds together, and those that are searched for longer.
FEW = (4, 6, 12)
MANY = range(25)


def play(path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in ALONE:
        monkeypatch.setattr(World, name, lambda world: None)
    world = World(path, seed, years=10)
    world.play()
    return world


@pytest.mark.slow
@pytest.mark.parametrize("seed", FEW)
def test_ten_years_leave_no_instant_without_a_record(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = play(tmp_path, seed, monkeypatch)
    assert world.clock.true >= world.end
    assert len(world.oracle.story) > 1_000


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.parametrize("seed", [*MANY, *range(1_000, 1_000 + int(os.environ.get("VIGIE_SEEDS") or 0))])
def test_in_many_worlds_too(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(tmp_path, seed, monkeypatch)
