"""Paired measurements: us and a peer in one run, alternating, as a ratio of medians.

The machine is noisy; only a ratio taken in one run counts. A side is a function
that does the work once and gives its figure; the sides take turns, A B B A A B …,
so that a drift of the machine's speed falls on all.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aims import AIMS, Aim

HERE = Path(__file__).resolve().parent

Side = Callable[[], float]

#: The part of each bench's work that is done; run.py sets it.
_scale = 1.0


def set_scale(scale: float) -> None:
    """Have the benches do a part of their work only, to see that they run."""
    global _scale
    _scale = scale


def scaled(count: int, least: int = 2) -> int:
    """Give how many of ``count`` are to be done."""
    return count if _scale == 1 else max(least, round(count * _scale))


@dataclass
class Result:
    """One line of the results."""

    name: str
    title: str
    unit: str
    ours: Sequence[float]
    peer: str = ""
    #: Empty where there is no peer, or where it could not be measured.
    theirs: Sequence[float] = ()

    @property
    def aim(self) -> Aim | None:
        """What it is to reach, if anything."""
        return AIMS.get(self.name)

    @property
    def value(self) -> float | None:
        """What the aim bounds; None when the peer it needs was not measured."""
        of = self.aim.of if self.aim else "ratio"
        if of == "figure":
            return statistics.median(self.ours)
        if not self.theirs:
            return None
        mine, peers = statistics.median(self.ours), statistics.median(self.theirs)
        return mine - peers if of == "difference" else mine / peers

    @property
    def met(self) -> bool | None:
        """Tell whether the aim was reached; None when there is none, or nothing to compare with."""
        value = self.value
        return None if self.aim is None or value is None else self.aim.met(value)

    def cells(self) -> list[str]:
        """Give the cells of its row."""
        aim = self.aim.text(self.unit) if self.aim else "-"
        verdict = {True: "yes", False: "**no**", None: "-"}[self.met]
        theirs = spread(self.theirs) if self.theirs else "-"
        return [self.title, self.unit, spread(self.ours), self.peer or "-", theirs, self._compared(), aim, verdict]

    def _compared(self) -> str:
        if not self.theirs:
            return "-"
        mine, peers = statistics.median(self.ours), statistics.median(self.theirs)
        if self.aim and self.aim.of == "difference":
            return f"**{mine - peers:+.3g} {self.unit}**"
        text = f"**{figure(mine / peers)} x**"
        if len(self.ours) == len(self.theirs) > 1:
            # Neighbours in time: how the ratio itself varies.
            rounds = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]
            text += f" ({figure(min(rounds))} to {figure(max(rounds))})"
        return text


def figure(value: float) -> str:
    """Give three digits of a number.

    >>> figure(12345.6), figure(0.12345)
    ('12,346', '0.123')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """Give the median, and between which values the rounds lie.

    >>> spread([3, 1, 2]), spread([5])
    ('2 (1 to 3)', '5')
    """
    middle = figure(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({figure(min(values))} to {figure(max(values))})"


def quantile(values: Sequence[float], share: float) -> float:
    """Give the value that this share of some values do not exceed.

    >>> quantile([3, 1, 2], 0.5), quantile([3, 1, 2], 0.99)
    (2, 3)
    """
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def in_turn(sides: Sequence[Side], rounds: int) -> list[list[float]]:
    """Run the sides in turn, once to warm up and then ``rounds`` times; give the figures of each."""
    for side in sides if _scale == 1 else ():
        side()
    figures: list[list[float]] = [[] for _ in sides]
    for i in range(rounds):
        order = list(zip(sides, figures, strict=True))
        for side, found in order if i % 2 == 0 else order[::-1]:
            found.append(side())
    return figures


def timed(command: Sequence[str], env: dict[str, str] | None = None) -> float:
    """Give the seconds that a whole process takes."""
    began = time.perf_counter()
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def together(command: Sequence[str], clients: int, each: int, env: dict[str, str] | None = None) -> float:
    """Give how many a second some client processes reach together; ``begin.py`` is their side.

    The clock runs from the word to begin, given when all are ready, until the last has done.
    """
    pipe = subprocess.PIPE
    running = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env) for _ in range(clients)]
    try:
        for client in running:
            expect(client, "ready")
        began = time.perf_counter()
        for client in running:
            assert client.stdin is not None
            client.stdin.write("go\n")
            client.stdin.flush()
        for client in running:
            expect(client, "done")
        return clients * each / (time.perf_counter() - began)
    finally:
        for client in running:
            client.communicate()


def expect(process: subprocess.Popen[str], word: str) -> None:
    """Read the line in which a process says how far it is."""
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    if said != word:
        raise RuntimeError(f"{process.args!r} said {said!r}, not {word!r}")
