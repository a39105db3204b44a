"""How fast items come, when the last will be there, and how to say so.

Pure: no clock, no I/O.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Pace", "Shot", "line", "parts"]


class Pace:
    """How fast items come, the newest counting most.

    What came within the last quarter of a minute decides, or the last twenty items if they took
    longer. Items that take long and run side by side come in bursts: the silence in between is no
    slowing down as long as it lasts no longer than those under way may need.

    Parameters
    ----------
    now:
        When the first item began, in seconds.

    >>> pace = Pace(0.0)
    >>> pace.seen(30.0, 4)
    >>> pace.left(30.0, 36, running=4), pace.left(45.0, 36, running=4)
    (270.0, 255.0)
    """

    WINDOW, FEW = 15.0, 20

    def __init__(self, now: float) -> None:
        self._at = now
        self._done = 0
        self._items = self._spent = 0.0

    def seen(self, now: float, done: int) -> None:
        """Take into account that so many were done by now."""
        if done <= self._done or now <= self._at:
            return
        gap = now - self._at
        window = self.WINDOW
        if self._items:
            window = max(window, self.FEW * self._spent / self._items)
        keep = math.exp(-gap / window)
        self._items = self._items * keep + done - self._done
        self._spent = self._spent * keep + gap
        self._at, self._done = now, done

    def rate(self, now: float, running: int) -> float | None:
        """Give the items a second; None before the first."""
        if not self._items:
            return None
        late = now - self._at - self._excused(now, running)
        return self._items / (self._spent + late)

    def left(self, now: float, items: int, running: int) -> float | None:
        """Give the seconds until so many items more are done; None before the first."""
        rate = self.rate(now, running)
        return None if rate is None else max(0.0, items / rate - self._excused(now, running))

    def _excused(self, now: float, running: int) -> float:
        return min(now - self._at, running * self._spent / self._items)


class Shot(NamedTuple):
    """How far a run is at one instant.

    Attributes
    ----------
    elapsed, left:
        Seconds; ``left`` is None where nobody knows.
    rate:
        Items a second; None before the first.
    ended:
        Whether this is the last; ``note`` says how if not well.
    """

    label: str
    total: int | None
    done: int
    failed: int = 0
    running: int = 0
    earlier: int = 0
    elapsed: float = 0.0
    rate: float | None = None
    left: float | None = None
    ended: bool = False
    note: str = ""


def line(shot: Shot) -> str:
    """Say it in one plain line.

    >>> line(Shot("square", 1000, 812, failed=3, rate=123.4, left=4.2))
    'square: 812 of 1,000 · 3 failed · 123/s · 0:00:05 left'
    >>> line(Shot("", None, 7, elapsed=61.0, rate=0.1, running=2))
    '7 · 2 running · 6/min · 0:01:01 so far'
    >>> line(Shot("square", 1000, 1000, elapsed=8.1, rate=123.4, ended=True))
    'square: 1,000 of 1,000 · 123/s · in 8.1 s'
    """
    told = " · ".join(text for _, text in parts(shot))
    return f"{shot.label}: {told}" if shot.label else told


def parts(shot: Shot) -> list[tuple[str, str]]:
    """Give what there is to say, each by its name."""
    count = f"{shot.done:,}" if shot.total is None else f"{shot.done:,} of {shot.total:,}"
    said = [("count", count)]
    if shot.earlier:
        said.append(("earlier", f"{shot.earlier:,} earlier"))
    if shot.failed:
        said.append(("failed", f"{shot.failed:,} failed"))
    if shot.running and not shot.ended and (shot.rate or 0.0) < 1:
        # Where items take long, this says that something goes on.
        said.append(("running", f"{shot.running:,} running"))
    if shot.rate is not None:
        said.append(("rate", _per(shot.rate)))
    if shot.ended:
        spent = f"{shot.elapsed:.1f} s" if shot.elapsed < 10 else _clock(shot.elapsed)
        said.append(("note", f"{shot.note} after {spent}") if shot.note else ("time", f"in {spent}"))
    elif shot.left is not None:
        said.append(("time", f"{_clock(math.ceil(shot.left))} left"))
    else:
        said.append(("time", f"{_clock(shot.elapsed)} so far"))
    return said


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours < 48 else f"{hours // 24:,} days"


def _per(rate: float) -> str:
    """Write a rate in a unit that gives a number above one, to two or three figures."""
    unit, number = next(((u, rate * s) for u, s in (("s", 1), ("min", 60)) if rate * s >= 1), ("h", rate * 3600))
    figures = float(f"{number:.{2 if number < 100 else 3}g}")
    return f"{figures:,.1f}".removesuffix(".0") + f"/{unit}"
