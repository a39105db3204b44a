"""How long others wait, at worst, while a client asks for much and reads nothing."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from functions import Ours
from harness import HERE, Result, Side, expect, in_turn, scaled
from homes import own_home

from vigie.config import Home

#: Small requests of one round.
CALLS = 500
JOBS = 150
#: Bytes of each answer that the bad client asks for.
LARGE = 900_000
#: How it is bad, in words.
BESIDE = {"stopped": "one that is stopped before it reads its answers", "deaf": "one that asks on and never reads"}


@contextmanager
def beside(how: str, home: Home, job: int) -> Iterator[None]:
    """Have a bad client begin to ask; it is killed at the end."""
    words = [sys.executable, str(HERE / "bad_client.py"), how, home.socket, str(job)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as client:
        try:
            expect(client, "ready")
            assert client.stdin is not None
            client.stdin.write("go\n")
            client.stdin.flush()
            yield
            assert client.poll() is None, "the bad client is gone"
        finally:
            client.kill()


def p99(act: Callable[[], object], count: int) -> float:
    """Give the 99th percentile of some requests, in milliseconds; of fewer than a hundred the slowest."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return sorted(times)[math.ceil(0.99 * count) - 1] * 1000


def run(rounds: int) -> list[Result]:
    """Measure both requests alone, and beside each of the bad clients, from its first request on."""
    with own_home() as home:
        ours = Ours()
        large = ours.vigie.start(ours.work.large, LARGE)
        assert len(large.result(30)) == LARGE
        acts: dict[str, Callable[[], float]] = {
            "status": lambda: p99(lambda: ours.client.call("status"), scaled(CALLS)),
            "function": lambda: p99(lambda: ours.vigie.start(ours.work.double, 2).result(10), scaled(JOBS)),
        }

        def side(act: Callable[[], float], how: str) -> Side:
            def measure() -> float:
                with beside(how, home, large.id):
                    return act()

            return measure

        sides = {(name, ""): act for name, act in acts.items()}
        sides |= {(name, how): side(act, how) for how in BESIDE for name, act in acts.items()}
        found = dict(zip(sides, in_turn(list(sides.values()), rounds), strict=True))
    said = {"status": "a status call", "function": "one function, submit to result"}
    return [
        Result(
            f"bystanders-{how}-{name}",
            f"{said[name]}, 99th percentile, beside a client: {words}",
            "ms",
            found[name, how],
            "the same, beside nobody",
            found[name, ""],
        )
        for how, words in BESIDE.items()
        for name in acts
    ]
