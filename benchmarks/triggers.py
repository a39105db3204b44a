"""The next instants of an expression, reading it included: beside croniter and cronsim, in several zones.

What is reported is the worst of the ratios; the others are printed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import peers
from harness import HERE, Result, figure, in_turn, scaled

COUNT = 1_000
ZONES = ("UTC", "Europe/Paris")
PEERS = {"croniter": peers.CRONITER, "cronsim": peers.CRONSIM}


class Line(NamedTuple):
    """An expression, and the cron line that means the same to a peer."""

    kind: str
    text: str
    cron: str


LINES = (
    Line("cron", "* * * * *", "* * * * *"),
    Line("cron", "*/5 * * * *", "*/5 * * * *"),
    Line("cron", "30 2 * * *", "30 2 * * *"),
    Line("cron", "0 9 * * 1-5", "0 9 * * 1-5"),
    Line("cron", "0 0 1 * *", "0 0 1 * *"),
    Line("cron", "0 12 13 * fri", "0 12 13 * fri"),
    Line("cron", "15 10 L * *", "15 10 L * *"),
    Line("cron", "0 0 29 2 *", "0 0 29 2 *"),
    Line("calendar", "*-*-* *:0/5", "*/5 * * * *"),
    Line("calendar", "Mon..Fri *-*-* 09:00", "0 9 * * 1-5"),
    Line("calendar", "*-*-01 00:00", "0 0 1 * *"),
    Line("calendar", "*-*~01 10:15", "15 10 L * *"),
    Line("calendar", "*-02-29 00:00", "0 0 29 2 *"),
)


class Giver:
    """A process that gives instants when asked."""

    def __init__(self, name: str, python: str) -> None:
        self.name = name
        command = [python, str(HERE / "triggers_side.py"), name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        #: The last instant of each (line, zone).
        self.last: dict[tuple[Line, str], int] = {}

    def side(self, line: Line, zone: str) -> Callable[[], float]:
        """Give what measures the ms that one line takes."""
        text = line.text if self.name == "vigie" else line.cron
        asked = f"{line.kind} {scaled(COUNT)} {zone} {text}\n"

        def measure() -> float:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(asked)
            self._process.stdin.flush()
            took, last = self._process.stdout.readline().split()
            self.last[line, zone] = int(last)
            return float(took) * 1000

        return measure

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()


class Measured(NamedTuple):
    """One expression in one zone: the figures of us and of each peer."""

    line: Line
    zone: str
    ours: list[float]
    theirs: dict[str, list[float]]

    def ratio(self, peer: str) -> float:
        """Give our part of a peer's time; 0 where the peer is not there."""
        theirs = self.theirs.get(peer)
        return statistics.median(self.ours) / statistics.median(theirs) if theirs else 0.0


def measure(givers: list[Giver], rounds: int) -> list[Measured]:
    """Measure all lines in all zones, in turn."""
    found = []
    for line in LINES:
        for zone in ZONES:
            ours, *theirs = in_turn([giver.side(line, zone) for giver in givers], rounds)
            found.append(
                Measured(line, zone, ours, {giver.name: at for giver, at in zip(givers[1:], theirs, strict=True)})
            )
    return found


def say(found: list[Measured]) -> None:
    """Print each of them."""
    for each in found:
        beside = "".join(f", {each.ratio(name):.4f} x {name}" for name in each.theirs)
        ours = figure(statistics.median(each.ours))
        print(f"  {each.line.text:22} {each.zone:13} {ours:>6} ms{beside}", file=sys.stderr, flush=True)


def result(kind: str, name: str, missing: str, found: list[Measured]) -> Result:
    """Give the row of the worst."""
    worst = max((each for each in found if each.line.kind == kind), key=lambda each: each.ratio(name))
    many = len({each.line for each in found if each.line.kind == kind})
    said = "cron lines" if kind == "cron" else "calendar expressions"
    title = f"next {scaled(COUNT):,} instants, reading included; the worst of {many} {said} "
    title += f"in {len(ZONES)} zones: `{worst.line.text}` ({worst.zone})"
    return Result(f"triggers-{kind}-{name}", title, "ms", worst.ours, name + missing, worst.theirs.get(name, ()))


def run(rounds: int) -> list[Result]:
    """Measure all of it."""
    givers, lacking = [Giver("vigie", sys.executable)], {}
    try:
        for name, package in PEERS.items():
            python, lacking[name] = peers.if_there(partial(peers.python, package))
            givers += [Giver(name, python)] if python else []
        found = measure(givers, rounds)
        say(found)
        for giver in givers[1:]:
            # croniter gives a time twice where clocks show it twice.
            assert giver.name != "cronsim" or giver.last == givers[0].last
    finally:
        for giver in givers:
            giver.close()
    return [result(kind, name, lacking[name], found) for kind in ("cron", "calendar") for name in PEERS]
