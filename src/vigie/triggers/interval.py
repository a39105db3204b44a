"""Every so often: from one moment on, or from a run to the next.

An interval follows elapsed time and knows no zone. ``every 5m`` counts from the
moment at which it was added, its anchor; the anchor itself is no instant of it.
Such an interval is relative: when the wall clock is set, whoever keeps it moves
the anchor by as much, and real time between two runs stays what it was. One
that counts from a time of day (``every 5m from 08:00``) stays with the wall clock.

``every 5m after end`` has no instants of its own: the next is known once a run
has begun or ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal

from vigie.triggers.base import Joinable
from vigie.values import format_duration

__all__ = ["Again", "Every", "Once", "spell"]

_UNITS = (("day", 86_400_000_000), ("hour", 3_600_000_000), ("minute", 60_000_000), ("second", 1_000_000))


def spell(duration: int) -> str:
    """Write a duration in µs as people say it, if it is whole.

    >>> spell(300_000_000), spell(3_600_000_000), spell(5_400_000_000), spell(250_000)
    ('5 minutes', '1 hour', '90 minutes', '250ms')
    """
    for name, unit in _UNITS:
        number, rest = divmod(duration, unit)
        if number and not rest:
            return f"{number} {name}" if number == 1 else f"{number} {name}s"
    return format_duration(duration, exact=True)


@dataclass(frozen=True, slots=True)
class Every(Joinable):
    """Comes at ``anchor`` plus once, twice, three times … ``every`` (both in µs).

    Parameters
    ----------
    every:
        The interval, above zero.
    anchor:
        The instant from which it counts; it is none of its instants.
    relative:
        It follows the monotonic clock: the anchor moves with the wall clock.
    text, shown:
        What it was read from, and the instant from which it counts in words.

    >>> each = Every(10, 5)
    >>> next(each.after(0)), next(each.after(15)), next(each.after(16))
    (15, 25, 25)
    """

    every: int
    anchor: int
    relative: bool = True
    text: str = ""
    shown: str = ""

    def __post_init__(self) -> None:
        if not self.text:
            object.__setattr__(self, "text", f"every {format_duration(self.every, exact=True)}")

    def after(self, instant: int) -> Iterator[int]:
        """Give the instants later than ``instant``, without end."""
        passed = max(0, (instant - self.anchor) // self.every)
        return count(self.anchor + (passed + 1) * self.every, self.every)

    def describe(self) -> str:
        """Say how often."""
        since = f", counted from {self.shown}" if self.shown else ""
        return f"every {spell(self.every).removeprefix('1 ')}{since}"


@dataclass(frozen=True, slots=True)
class Once(Joinable):
    """Comes once, at an instant (µs UTC).

    Parameters
    ----------
    instant:
        When.
    text, shown:
        What it was read from, and the instant in words.
    relative:
        It was said as a time from now: it moves with the wall clock.
    """

    instant: int
    text: str
    shown: str
    relative: bool = False

    def after(self, instant: int) -> Iterator[int]:
        """Give the instant if it is later than ``instant``."""
        return iter((self.instant,) if self.instant > instant else ())

    def describe(self) -> str:
        """Say when."""
        return f"once, at {self.shown}"


@dataclass(frozen=True, slots=True)
class Again:
    """Comes a while after the last run began, or after it ended.

    Parameters
    ----------
    every:
        The while, in µs.
    since:
        From which end of the last run it counts.
    """

    every: int
    since: Literal["start", "end"]
    text: str = ""

    def __post_init__(self) -> None:
        if not self.text:
            object.__setattr__(self, "text", f"every {format_duration(self.every, exact=True)} after {self.since}")

    def next(self, started: int | None, ended: int | None, added: int) -> int | None:
        """Give the next instant, which may have passed; None while it is not known.

        Parameters
        ----------
        started, ended:
            When the last run began, and when it ended (µs UTC); None for a run that
            never was, ``ended`` also for one that is under way.
        added:
            When the schedule was added: the first run comes one interval later.

        >>> again = Again(10, "end")
        >>> again.next(None, None, 100), again.next(110, None, 100), again.next(110, 113, 100)
        (110, None, 123)
        """
        if started is None:
            return added + self.every
        if self.since == "start":
            return started + self.every
        return None if ended is None or ended < started else ended + self.every

    def describe(self) -> str:
        """Say after what."""
        return f"{spell(self.every)} after each run's {self.since}"
