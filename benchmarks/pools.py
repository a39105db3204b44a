"""``vigie.Pool``: one call at a time, through a pool that is warm and through one that is not."""

from __future__ import annotations

import sys

from harness import HERE, Result, in_turn, scaled, timed
from maps import figures

TRIPS = 5_000


def trips(way: str) -> float:
    """Give the median µs of a call."""
    return figures([sys.executable, str(HERE / "pools_side.py"), way, str(scaled(TRIPS))])[0]


def cold(way: str) -> float:
    """Give the ms of a process that makes a pool for one call."""
    return timed([sys.executable, str(HERE / "maps_cold.py"), way, "importable"]) * 1000


def run(rounds: int) -> list[Result]:
    """Measure both."""
    trip, executors = in_turn([lambda: trips("vigie"), lambda: trips("executor")], rounds)
    often = scaled(rounds * 4, least=1)
    first, executors_first = in_turn([lambda: cold("pool"), lambda: cold("executor")], often)
    peer = "ProcessPoolExecutor(2)"
    return [
        Result("pools-trip", "`Pool(2)`, warm: one call, submit to result", "µs", trip, peer, executors),
        Result("pools-cold", "… cold: the first result, whole process", "ms", first, peer, executors_first),
    ]
