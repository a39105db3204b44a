"""Whichever engine suits: it computes a few items in the caller's thread, times them, and chooses.

- Items that take less than it costs to send them stay here.
- Items that mostly wait go to threads.
- All others go to processes. So do all where an item has a limit of time, since nobody could end one here.
- Coroutine functions are awaited.
"""

from __future__ import annotations

import time

from vigie.engines.batch import Failed, Group
from vigie.engines.threads import Inline
from vigie.errors import NotSerializable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vigie.engines.batch import Batch, Event
    from vigie.parallel.course import Engine
    from vigie.parallel.plan import Crew

__all__ = ["Auto", "choice"]

#: So many items are tried, or for so long (s).
TRIED, PATIENCE = 16, 0.05
#: What takes less (s) is not worth being sent.
CHEAP = 20e-6
#: What uses the processor for less of its time waits.
WAITS = 0.1


def choice(mean: float, busy: float) -> str:
    """Choose by how long an item takes (s), and for what share of that it uses the processor.

    >>> choice(1e-6, 1.0), choice(0.1, 0.01), choice(0.1, 0.9)
    ('inline', 'threads', 'processes')
    """
    if mean < CHEAP:
        return "inline"
    return "threads" if busy < WAITS else "processes"


class Auto:
    """An engine that turns into another one.

    Attributes
    ----------
    chosen:
        Which, once that is known.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self.chosen: str | None = None
        self._inner: Engine = Inline(crew.function, crew.init)
        self._items = 0
        #: Seconds inside the function; and those around it, by the clock and of the processor.
        self._spent = self._wall = self._cpu = 0.0
        if crew.awaits:
            self._turn("async")
        elif crew.timeout is not None or crew.recycle is not None or crew.memory_limit is not None:
            self._turn("processes")

    @property
    def limit(self) -> int:
        """How many at once."""
        return self._inner.limit

    @property
    def place(self) -> str:
        """Where items are computed now."""
        return self.chosen or "inline"

    def _turn(self, place: str) -> None:
        self.chosen = place
        self._crew.turn(place)
        if place != "inline":
            self._inner = self._crew.engine()

    def room(self) -> int:
        """Give how many batches it would take now."""
        return self._inner.room()

    def most(self) -> int | None:
        """Give how many items the next batch may have at most."""
        return self._inner.most()

    def busy(self) -> int:
        """Give how many workers are at work."""
        return self._inner.busy()

    def give(self, batch: Batch) -> None:
        """Have a batch computed."""
        self._inner.give(batch)

    def held_bytes(self) -> int:
        """Give the size of the pickles that workers have."""
        return self._inner.held_bytes()

    def take_back(self, least: int = 2) -> None:
        """Have come back what waits behind others."""
        self._inner.take_back(least)

    def poll(self, wait: float | None) -> list[Event]:
        """Give what has happened; choose, once enough has."""
        if self.chosen is not None or not self._inner.busy():
            return self._inner.poll(wait)
        wall, cpu = time.perf_counter(), time.thread_time()
        events = self._inner.poll(wait)
        self._wall += time.perf_counter() - wall
        self._cpu += time.thread_time() - cpu
        for event in events:
            if isinstance(event, (Group, Failed)):
                times = event.times if isinstance(event, Group) else [event.time]
                self._items += len(times)
                self._spent += sum(times) / 1e9
        if self._items >= TRIED or self._wall > PATIENCE:
            self._choose(choice(self._spent / self._items, self._cpu / self._wall))
        return events

    def _choose(self, place: str) -> None:
        """Go where it is best, or where what cannot travel can be computed too."""
        try:
            self._turn(place)
        except NotSerializable:
            self._turn("threads")

    def resize(self, limit: int) -> None:
        """Have so many items computed at once, here or wherever they will be."""
        self._crew.limit = limit
        resize = getattr(self._inner, "resize", None)
        if resize is not None:
            resize(limit)

    def skip(self, index: int) -> None:
        """Stop an item, if that can be done where it is."""
        skip = getattr(self._inner, "skip", None)
        if skip is not None:
            skip(index)

    def close(self) -> None:
        """End whoever is at work."""
        self._inner.close()
