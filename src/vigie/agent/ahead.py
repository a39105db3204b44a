"""The duty of claiming short commands before there is a slot for them.

With two slots and commands of a millisecond, each waited for the end of another, our
commit, and a message. So some are claimed ahead, and the keeper holds them: it begins
the next as soon as one has ended, in order, never more at once than the slots
(``keeper_lanes``, docs/decisions/004).

Only where it costs nobody anything: in a queue whose commands have ended quickly so
far, which has no rate, and whose slots are all taken by commands that the keeper
counts. What is held shows as queued, can be stopped, and is called back when the
queue is changed or something of a higher priority comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

__all__ = ["Ahead", "Attempt"]

#: (job, number).
Attempt = tuple[int, int]

#: Commands that took longer than this (µs) are waited for …
QUICK = 50_000
#: … if one of so many that ended last was.
MEMORY = 8
#: So many of a queue are held at least, or as many as it has slots.
MOST = 8


class Ahead:
    """What the keeper holds, by queue.

    Attributes
    ----------
    offered:
        Whether the keeper can hold anything.
    """

    def __init__(self) -> None:
        self.offered = False
        #: queue -> attempt -> priority, in the order of claims.
        self._held: dict[str, dict[Attempt, int]] = {}
        self._queues: dict[Attempt, str] = {}
        #: What the keeper of this talk counts while it lives: what we sent it since it said hello.
        self._counted: set[Attempt] = set()
        #: Queues whose held ones were called back, and not all have answered.
        self._called: set[str] = set()
        self._times: dict[str, deque[int]] = {}

    def held(self, queue: str) -> int:
        """Give how many of a queue are held."""
        return len(self._held.get(queue, ()))

    def called_back(self, queue: str) -> bool:
        """Tell whether what is held of a queue was called back, and has not answered yet."""
        return queue in self._called

    def holds(self, attempt: Attempt) -> bool:
        """Tell whether an attempt was claimed ahead and, as far as we know, has not begun."""
        return attempt in self._queues

    def room(self, queue: str, holders: set[Attempt | int], slots: int) -> int:
        """Give how many more of a queue may be claimed ahead, now that all its slots are taken."""
        times = self._times.get(queue)
        if not self.offered or times is None or len(times) < MEMORY or max(times) > QUICK:
            return 0
        if queue in self._called or not holders <= self._counted:
            return 0
        return max(MOST, slots) - self.held(queue)

    def ended(self, queue: str, duration: int | None) -> None:
        """Remember how long a command ran (µs)."""
        times = self._times.get(queue)
        if times is None:
            times = self._times[queue] = deque(maxlen=MEMORY)
        times.append(QUICK + 1 if duration is None else duration)

    def count(self, attempt: Attempt) -> None:
        """Take note that the keeper will count an attempt in the lane of its queue."""
        self._counted.add(attempt)

    def claim(self, queue: str, attempt: Attempt, priority: int) -> None:
        """Take note that an attempt is claimed ahead."""
        self._hold(queue, attempt, priority)
        self.count(attempt)

    def _hold(self, queue: str, attempt: Attempt, priority: int) -> None:
        self._held.setdefault(queue, {})[attempt] = priority
        self._queues[attempt] = queue

    def begun(self, attempt: Attempt) -> str | None:
        """Take note that an attempt has begun, or will not; give its queue if it was held until now."""
        queue = self._queues.pop(attempt, None)
        if queue is not None:
            held = self._held[queue]
            del held[attempt]
            if not held:
                del self._held[queue]
                self._called.discard(queue)
        return queue

    def over(self, attempt: Attempt) -> str | None:
        """Take note that an attempt has ended; give its queue if it was held until now."""
        self._counted.discard(attempt)
        return self.begun(attempt)

    def outranked(self, queue: str, priority: int) -> bool:
        """Tell whether something waits that should go before what is held."""
        held = self._held.get(queue)
        return held is not None and min(held.values()) < priority

    def call_back(self, queue: str, tell: Callable[[Sequence[Attempt]], None]) -> None:
        """Want back what is held of a queue; each answers that it began or that it will not.

        As often as it is asked: what was told in a round that was undone, nobody has heard.
        """
        held = self._held.get(queue)
        if held is not None:
            self._called.add(queue)
            tell(list(held))

    def new_keeper(self) -> None:
        """Take note that whoever counts now has seen nothing begin."""
        self._counted.clear()

    def rebuild(self, open_: Sequence[tuple[str, Attempt, bool]]) -> None:
        """Learn from the store which commands are open: queue, attempt, whether it is claimed ahead for sure.

        One that was and is told to stop does not look so any more; and of one that we had not
        claimed ourselves nobody knows the priority, so that it counts as the least.
        """
        before = {attempt: priority for of in self._held.values() for attempt, priority in of.items()}
        self._held.clear()
        self._queues.clear()
        for queue, attempt, waits in open_:
            if waits or attempt in before:
                self._hold(queue, attempt, before.get(attempt, 0))
        self._called &= set(self._held)
