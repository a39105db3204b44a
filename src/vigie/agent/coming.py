"""What is planned and not decided, soonest first.

Most of it is planned in the order in which it comes. While that is so, a part of it is
cut off the front as it stands; out of order it is a heap, which gives one after another.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable

__all__ = ["Coming", "Key"]

#: When to look, schedule, instant.
Key = tuple[int, int, int]


class Coming(list[Key]):
    """Keys of firings; the first is what comes first.

    >>> coming = Coming([(5, 1, 5), (3, 2, 3)])
    >>> coming.push((4, 3, 4))
    >>> coming.take(4, 9), list(coming)
    ([(3, 2, 3), (4, 3, 4)], [(5, 1, 5)])
    """

    __slots__ = ("_in_order",)

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        super().__init__(sorted(keys))
        self._in_order = True

    def push(self, key: Key) -> None:
        """Add one."""
        if self and key < self[-1]:
            self._in_order = False
        heapq.heappush(self, key)

    def take(self, now: int, most: int) -> list[Key]:
        """Take off those that have come, at most so many."""
        if self._in_order:
            # Those of this very µs have come, whatever their schedule.
            end = min(most, bisect_left(self, (now + 1, 0, 0)))
            taken = self[:end]
            del self[:end]
            return taken
        taken = []
        while self and self[0][0] <= now and len(taken) < most:
            taken.append(heapq.heappop(self))
        self._in_order = not self
        return taken
