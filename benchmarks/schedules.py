"""Schedules: a million of them in the store, many that come at once, how late they come, and adding them."""

from __future__ import annotations

import calendar
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import apsw
import peers
import schedules_herd
import schedules_lags
from functions import run_peer
from harness import HERE, Result, in_turn, scaled
from homes import own_home, vigie
from processes import peak, processor
from schedules_fill import SECOND, Planned, fill, warm

from vigie.presence import agent_pid
from vigie.session import session

MANY = 1_000_000
MONTH = 30 * 86_400 * SECOND
#: Seconds in which the agent's share of a core is measured.
WINDOW = 10.0
WINDOWS = 2
ADDED = 100_000
PEER_ADDED = 3_000
#: How often they are added: each round takes seconds.
ROUNDS = 3


def monthly(count: int) -> Iterator[Planned]:
    """Give cron lines that come once in each month, their first instants spread over the month to come."""
    now = time.time_ns() // 1000
    for number in range(1, count + 1):
        first = (now + number * MONTH // count) // SECOND * SECOND
        at = datetime.fromtimestamp(first // SECOND, UTC)
        last = calendar.monthrange(at.year, at.month)[1]
        # The 31st, counted from a month's end, comes in each of them.
        day = at.day if at.day <= 28 else f"L-{last - at.day}" if at.day < last else "L"
        yield Planned(f"{at.second} {at.minute} {at.hour} {day} * *", now, first)


def many() -> list[Result]:
    """Measure the agent with a store full of schedules that come once a month."""
    with own_home() as home:
        began = time.monotonic()
        there = fill(home, monthly(scaled(MANY, least=100)), "0 0 0 1 * *")
        print(f"  filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        began = time.monotonic()
        vigie("agent", "start", home=home)
        # A write is answered after all that the agent does first.
        session().client.call("queue_pause", name="default")
        ready = time.monotonic() - began
        warm()
        pid = agent_pid(home)
        assert pid
        shares = [share(pid, WINDOW) for _ in range(WINDOWS)]
        most = peak(pid)
        with closing(apsw.Connection(home.db, flags=apsw.SQLITE_OPEN_READONLY)) as db:
            fired = db.execute("SELECT count(*) FROM firings WHERE job IS NOT NULL AND cause IS NULL").fetchone()[0]
        print(f"  {fired} of them fired meanwhile", file=sys.stderr, flush=True)
    return [
        Result("schedules-memory", f"{there:,} schedules, each due once a month: the agent's peak", "MB", [most / 1e6]),
        Result("schedules-start", "… until the agent serves", "s", [ready]),
        Result("schedules-cpu", f"… share of a core over {WINDOW:.0f} s", "%", shares),
    ]


def share(pid: int, window: float) -> float:
    """Give the percent of a core that a process takes for some seconds."""
    before, began = processor(pid), time.monotonic()
    time.sleep(scaled(int(window * 1000), least=100) / 1000)
    return 100 * (processor(pid) - before) / (time.monotonic() - began)


def apply() -> float:
    """Give how many schedules of a file ``vigie apply`` adds a second, as a whole process."""
    count = scaled(ADDED, least=20)
    with own_home() as home:
        with open("vigie.toml", "w", encoding="utf-8") as file:
            for number in range(count):
                hour, minute, second = number // 3600 % 24, number // 60 % 60, number % 60
                when = f"daily {hour:02}:{minute:02}:{second:02}"
                file.write(f'[schedule.s{number:06}]\nwhen = "{when}"\ntimezone = "UTC"\nrun = ["true"]\n\n')
        began = time.perf_counter()
        vigie("apply")
        took = time.perf_counter() - began
        with closing(apsw.Connection(home.db, flags=apsw.SQLITE_OPEN_READONLY)) as db:
            assert db.execute("SELECT count(*) FROM schedules").fetchone()[0] == count
    return count / took


class Peer:
    """APScheduler 3, asked for one schedule at a time: it has no other way."""

    def __init__(self) -> None:
        self.python = peers.python(*peers.APSCHEDULER)

    def add(self) -> float:
        """Give how many schedules it adds a second."""
        with tempfile.TemporaryDirectory(prefix="vigie-bench-") as directory:
            script, count = str(HERE / "peer_apscheduler.py"), str(scaled(PEER_ADDED))
            return run_peer([self.python, script, "add", f"{directory}/jobs.db", count])


def adding(rounds: int) -> list[Result]:
    """Measure how fast schedules are added."""
    peer, missing = peers.if_there(Peer)
    sides = [apply, peer.add] if peer else [apply]
    ours, *theirs = in_turn(sides, min(rounds, ROUNDS))
    title = f"{scaled(ADDED, least=20):,} schedules of a file by `vigie apply`, whole process"
    on_sqlite = f"APScheduler 3, add_job, SQLite, no fsync{missing}"
    return [Result("schedules-apply", title, "schedules/s", ours, on_sqlite, theirs[0] if theirs else ())]


def run(rounds: int) -> list[Result]:
    """Measure all of it; but for adding and the herd, its rounds are windows of time."""
    return [*many(), *schedules_lags.run(), *schedules_herd.run(rounds), *adding(rounds)]
