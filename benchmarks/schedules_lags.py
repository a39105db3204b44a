"""How late firings begin: a thousand a second, and one a second while the machine is idle.

A lag is the time from the planned instant until the job's function begins, as the worker saw it.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing

import apsw
import peers
from harness import HERE, Result, quantile, scaled
from homes import own_home, vigie
from schedules_fill import SECOND, Planned, fill, warm

from vigie.config import Home

RATE = 1_000
SECONDS = 30
PEER_SECONDS = 10
ALONE_SECONDS = 30
#: Seconds until what the agent was started with has passed.
SETTLING = 2

LAGS = """
SELECT (a.started - f.instant) / 1000.0 FROM firings f JOIN attempts a ON a.job = f.job AND a.n = 1
WHERE f.instant >= ? AND f.instant < ? AND f.cause IS NULL AND a.started IS NOT NULL
"""


def every_second(rate: int, begin: int) -> Iterator[Planned]:
    """Give some schedules that come every second, evenly one after the other."""
    for number in range(rate):
        since = begin + number * SECOND // rate
        yield Planned("every 1s", since, since + SECOND)


def lags(rate: int, seconds: int) -> list[float]:
    """Have so many schedules come each second, for some seconds; give the lag of each run in ms."""
    with own_home() as home:
        zero = time.time_ns() // 1000
        fill(home, every_second(rate, zero), "every 7s")
        vigie("agent", "start", home=home)
        warm()
        begin = zero + ((time.time_ns() // 1000 - zero) // SECOND + scaled(SETTLING, least=1)) * SECOND
        end = begin + seconds * SECOND
        time.sleep(max(0.0, end / SECOND + 0.5 - time.time()))
        return _lags(home, begin, end)


def _lags(home: Home, begin: int, end: int) -> list[float]:
    with closing(apsw.Connection(home.db, flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return [lag for (lag,) in db.execute(LAGS, (begin, end))]


class Peer:
    """APScheduler 3."""

    def __init__(self) -> None:
        self.python = peers.python(*peers.APSCHEDULER)

    def lags(self, rate: int, seconds: int) -> list[float]:
        """Do the same."""
        with tempfile.TemporaryDirectory(prefix="vigie-bench-") as directory:
            script = str(HERE / "peer_apscheduler.py")
            command = [self.python, script, "lags", f"{directory}/jobs.db", str(rate), str(seconds)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
            return [float(line) for line in done.stdout.split()]


def run() -> list[Result]:
    """Measure both."""
    rate, seconds = scaled(RATE), scaled(SECONDS, least=1)
    peer, missing = peers.if_there(Peer)
    many = lags(rate, seconds)
    theirs = peer.lags(rate, scaled(PEER_SECONDS, least=1)) if peer else []
    one = lags(1, scaled(ALONE_SECONDS, least=1))
    on_sqlite = f"APScheduler 3, SQLite, no fsync, for {PEER_SECONDS} s{missing}"

    def at(share: float, found: list[float]) -> list[float]:
        return [quantile(found, share)] if found else []

    title = f"{rate:,} firings a second of {rate:,} schedules for {seconds} s: lag, median"
    return [
        Result("schedules-lag", title, "ms", at(0.5, many), on_sqlite, at(0.5, theirs)),
        Result("schedules-lag-p99", "… 99th percentile", "ms", at(0.99, many), on_sqlite, at(0.99, theirs)),
        Result("schedules-ran", "… of these have run", "%", [100 * len(many) / (rate * seconds)]),
        Result("schedules-alone", f"one firing a second for {len(one)} s: lag, 99th percentile", "ms", at(0.99, one)),
    ]
