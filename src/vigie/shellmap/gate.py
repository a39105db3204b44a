"""When the next command may start: not while the machine is busy, memory is short, or there is no item yet."""

from __future__ import annotations

import os
import sys
import time

from vigie.errors import UsageError
from vigie.model import cores
from vigie.values import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from vigie.shellmap.feed import Feed

__all__ = ["Gate", "busy_processes", "free_memory", "parse_load"]

#: Seconds between two looks at a machine that is too busy, and between two at its memory.
LOOK = 0.5
FRESH = 0.1


def parse_load(text: str) -> float:
    """Read ``--load``: so many processes that run, or so many for a hundred cores with ``%``.

    >>> parse_load("8")
    8.0

    Raises
    ------
    UsageError
        When it is neither.
    """
    try:
        found = float(text.removesuffix("%"))
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise UsageError(f"--load is {text!r}: it is a number of processes, or a part of the cores such as 80%")
    return found * cores() / 100 if text.endswith("%") else found


def busy_processes() -> float:
    """Give how many processes run or want to, but for this one; elsewhere than on Linux the load of a minute."""
    try:
        with open("/proc/loadavg", encoding="ascii") as file:
            return max(0.0, float(file.read().split()[3].partition("/")[0]) - 1)
    except (OSError, ValueError, IndexError):
        return os.getloadavg()[0]


def free_memory() -> int | None:
    """Give the bytes of memory that programs could still have; None where nobody says so."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


class Gate:
    """Says whether a command may start.

    Parameters
    ----------
    load, memory:
        As of ``--load`` and ``--memfree``.
    feed:
        Where the items come from, if one may have to wait for them.
    """

    def __init__(
        self, load: str | None = None, memory: str | None = None, *, feed: Feed | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._load = None if load is None else parse_load(load)
        self._memory = None if memory is None else parse_size(memory, "--memfree")
        if self._memory is not None and free_memory() is None:
            raise UsageError(f"--memfree: {sys.platform} does not say how much memory is free", "-j bounds it, too")
        self._feed = feed
        self._clock = clock
        self._looked = -FRESH
        self._free = 0
        #: Called when there is less than half of the memory that is to be free.
        self.short: Callable[[], None] = lambda: None
        #: Tells whether something is to be tried again, for which no item need come.
        self.again: Callable[[], bool] = lambda: False

    @property
    def needed(self) -> bool:
        """Whether it is ever closed."""
        return self._load is not None or self._memory is not None or self._feed is not None

    def __call__(self, running: int) -> float | None:
        """Give the seconds until it is worth asking again; None: go on."""
        if self._feed is not None and not self.again() and not self._feed.ready():
            return float("inf")  # whoever brings items says so
        if self._load is not None and busy_processes() >= self._load:
            return LOOK
        return None if self._memory is None else self._room_in_memory(running)

    def _room_in_memory(self, running: int) -> float | None:
        now = self._clock()
        if now - self._looked >= FRESH:
            self._looked, self._free = now, free_memory() or 0
        assert self._memory is not None
        if self._free >= self._memory:
            return None
        if self._free < self._memory / 2 and running > 1:
            self._looked = now + LOOK  # what ends now is not free yet
            self.short()
        return LOOK
