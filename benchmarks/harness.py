"""Paired measurements: us and a peer in one run, alternating, as a ratio of medians.

The machine is noisy; only a ratio taken in one run counts. A side is a function
that does the work once and gives its figure; the two sides take turns, A B B A A B …,
so that a drift of the machine's speed falls on both.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
#: The peers live in an environment of their own.
PEERS = Path(os.environ.get("VIGIE_PEERS", HERE / ".peers"))

Side = Callable[[], float]


@dataclass
class Result:
    """One line of the results."""

    bench: str
    unit: str
    ours: list[float]
    peer: str
    theirs: list[float]
    #: What the ratio is to be at least (throughput) or at most (time).
    aim: str = ""
    higher_is_better: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Ours over theirs, by medians."""
        return statistics.median(self.ours) / statistics.median(self.theirs)

    def row(self) -> str:
        """Give the line of the table."""

        def shown(values: list[float]) -> str:
            low, middle, high = min(values), statistics.median(values), max(values)
            return f"{figure(middle)} ({figure(low)} to {figure(high)})"

        return (
            f"| {self.bench} | {self.unit} | {shown(self.ours)} | {self.peer} | {shown(self.theirs)} "
            f"| **{self.ratio:.2f}** | {self.aim} |"
        )


def figure(value: float) -> str:
    """Give three digits of a number.

    >>> figure(12345.6), figure(0.12345)
    ('12,346', '0.123')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def paired(ours: Side, theirs: Side, rounds: int) -> tuple[list[float], list[float]]:
    """Run both sides in turn, once to warm up and then ``rounds`` times; give their figures."""
    ours(), theirs()
    mine: list[float] = []
    peers: list[float] = []
    for i in range(rounds):
        first = [(ours, mine), (theirs, peers)]
        for side, figures in first if i % 2 == 0 else first[::-1]:
            figures.append(side())
    return mine, peers


def timed(command: list[str], env: dict[str, str] | None = None) -> float:
    """Give the seconds that a whole process takes."""
    began = time.perf_counter()
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def peer_python(*packages: str) -> str:
    """Give the interpreter of the peers' environment, with the packages installed."""
    python = PEERS / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
    for package in packages:
        name = package.partition("==")[0]
        known = subprocess.run([python, "-m", "pip", "-q", "show", name], capture_output=True, check=False)
        if known.returncode:
            subprocess.run([python, "-m", "pip", "-q", "install", package], check=True)
    return str(python)


def conditions() -> list[str]:
    """Say what the figures were measured on."""
    import apsw

    import vigie

    return [
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}",
        f"Vigie {vigie.__version__}, SQLite {apsw.sqlite_lib_version()} (ours), {sqlite3.sqlite_version} (Python's)",
        f"load before the run: {os.getloadavg()[0]:.1f}",
        time.strftime("%Y-%m-%d"),
    ]
