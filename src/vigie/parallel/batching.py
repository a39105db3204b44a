"""How many items go to a worker at a time: as many as take it a moment, by what items have taken so far.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Batching"]

#: What a batch should take (ns): long beside what it costs to send, short beside a person's patience.
TARGET = 25_000_000
#: A batch may be at most so many times as large as the last: cheap items first say little of dear ones.
GROWTH = 4
MOST = 20_000
#: How much the newest measurement counts.
WEIGHT = 0.5
#: Bytes that a batch should have at most.
HEAVY = 8 << 20


class Batching:
    """The size of the next batch.

    >>> batching = Batching()
    >>> batching.size
    1
    >>> batching.measured([1_000], of=1)
    >>> batching.size
    4
    >>> batching.measured([1_000] * 4_000, of=10_000)
    >>> batching.size
    20000
    >>> batching.measured([50_000_000], of=20_000)
    >>> batching.size
    1
    """

    def __init__(self, target: int = TARGET) -> None:
        self.size = 1
        self.mean = 0.0
        #: What a batch should take (ns).
        self.target = target
        #: Bytes of an item, and of a result.
        self._weights = [0.0, 0.0]
        self._most = MOST

    def measured(self, times: Sequence[int], of: int) -> None:
        """Take into account what items took (ns each), which came in a batch ``of`` so many."""
        if not times:
            return
        mean = sum(times) / len(times)
        # What items that follow may cost weighs more than what they may spare.
        self.mean = max(mean, WEIGHT * mean + (1 - WEIGHT) * self.mean)
        fit = int(self.target / max(self.mean, 1.0))
        self.size = max(1, min(fit, max(self.size, of * GROWTH), self._most))

    def weighed(self, size: int, of: int, *, back: bool = False) -> None:
        """Take into account the bytes of a batch ``of`` so many items, or of what came ``back`` of so many.

        >>> batching = Batching()
        >>> batching.weighed(100_000_000, of=1)
        >>> batching.measured([1_000], of=1)
        >>> batching.size
        1
        """
        self._weights[back] = size / of
        self._most = max(1, min(MOST, int(HEAVY / max(*self._weights, 1.0))))
