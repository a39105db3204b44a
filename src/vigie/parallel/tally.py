"""What a parallel run counts as it goes: for its progress, and to explain afterwards where the time went."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from vigie.parallel.course import Engine
    from vigie.parallel.plan import Plan

__all__ = ["Tally"]


class Tally:
    """Counts, and seconds.

    Attributes
    ----------
    done, failed, earlier:
        Items with a value, without one, and those that an earlier run had done.
    computing:
        Inside the function, all workers together.
    drawing, giving, waiting:
        Of the caller: in the source of the items, pickling and sending, waiting for results.
    inside:
        Of the caller: in all that the run does.
    longest:
        The item that took longest.
    tail:
        Since the source was exhausted and a worker had nothing to do.
    """

    def __init__(self, engine: Engine, plan: Plan) -> None:
        self._engine = engine
        self.plan = plan
        self.done = self.failed = self.earlier = self.batches = 0
        self.longest = 0.0
        self.computing = self.drawing = self.giving = self.waiting = self.inside = 0.0
        self.began: float | None = None
        self._tail: float | None = None
        self._ended: float | None = None
        self._entered = 0.0

    def enter(self) -> None:
        """Begin to do something for the run."""
        self._entered = time.perf_counter()
        if self.began is None:
            self.began = self._entered

    def leave(self) -> None:
        """Go back to the caller."""
        self.inside += time.perf_counter() - self._entered

    def computed(self, times: Sequence[int]) -> None:
        """Count items with a value, which took so many ns each."""
        self.done += len(times)
        self.computing += sum(times) / 1e9
        self.longest = max(self.longest, max(times) / 1e9)

    def gave(self, spent: float) -> None:
        """Count a batch."""
        self.batches += 1
        self.giving += spent

    def at_tail(self) -> None:
        """Note that there is less to do than workers."""
        if self._tail is None:
            self._tail = time.perf_counter()

    def end(self) -> None:
        """Note that it is over."""
        if self._ended is None:
            self._ended = time.perf_counter()

    @property
    def place(self) -> str:
        """Where the items are computed."""
        return getattr(self._engine, "place", type(self._engine).__name__.lower())

    @property
    def limit(self) -> int:
        """How many at once."""
        return self._engine.limit

    @property
    def elapsed(self) -> float:
        """Seconds since it began, or until its end."""
        if self.began is None:
            return 0.0
        return (self._ended or time.perf_counter()) - self.began

    @property
    def tail(self) -> float:
        """Seconds in which there was less to do than workers."""
        return 0.0 if self._tail is None else (self._ended or time.perf_counter()) - self._tail
