"""A million finished jobs in the store, beside an empty one."""

from __future__ import annotations

import os
import subprocess
import sys
import termios
import time

from fill import fill
from harness import HERE, Result, Side, in_turn, scaled, timed, together
from homes import VIGIE, env_of, hold, own_home, vigie

from vigie.config import Home

MANY = 1_000_000
SUBMITS = 500
EMPTY = "the same, an empty store"


def listing(home: Home) -> Side:
    """Give what measures the whole process of ``vigie jobs`` on a terminal, in ms."""
    return lambda: on_terminal([VIGIE, "jobs"], env_of(home)) * 1000


def on_terminal(command: list[str], env: dict[str, str]) -> float:
    """Give the seconds of a whole process that a person starts: elsewhere the list is not cut to a screen."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (40, 120))
    began = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    try:
        while os.read(master, 1 << 16):
            pass
    except OSError:
        pass  # the terminal's other side is closed: it has ended
    finally:
        os.close(master)
    assert process.wait() == 0
    return time.perf_counter() - began


def submits(home: Home) -> Side:
    """Give what measures submits to a paused queue, in jobs a second."""
    count = scaled(SUBMITS)
    return lambda: together([sys.executable, str(HERE / "submit_vigie.py"), str(count)], 1, count, env_of(home))


def ready(home: Home) -> Side:
    """Give what measures the seconds until an agent, started from nothing, serves."""

    def start() -> float:
        vigie("agent", "stop", home=home)
        return timed([VIGIE, "agent", "start"], env_of(home))

    return start


def run(rounds: int) -> list[Result]:
    """Fill a store and measure it."""
    with own_home() as full:
        began = time.monotonic()
        there = fill(full, scaled(MANY, least=100))
        print(f"  filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        with own_home() as empty:
            starts, empty_starts = in_turn([ready(full), ready(empty)], rounds)
            lists, empty_lists = in_turn([listing(full), listing(empty)], scaled(rounds * 2, least=1))
            for home in (full, empty):
                hold(home)
            rates, empty_rates = in_turn([submits(full), submits(empty)], scaled(rounds * 2, least=1))
    where = f"{there:,} finished jobs in the store"
    return [
        Result("million-jobs", f"{where}: `vigie jobs` on a terminal", "ms", lists, EMPTY, empty_lists),
        Result("million-submits", "… durable submits, one after another", "jobs/s", rates, EMPTY, empty_rates),
        Result("million-start", "… until the agent serves, whole process", "s", starts, EMPTY, empty_starts),
    ]
