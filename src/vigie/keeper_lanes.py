"""Commands that the agent has committed and that wait, with the keeper, for room.

The agent may name a lane with a spawn, and how many of it may live at once. If as many
do, the command waits here, and begins when one of them has been reaped, in the order
of arrival: nothing waits for the agent, its commit and its message. What waits has no
entry in the journal, since it has not begun; it is dropped when the agent is gone, and
the next one decides about it anew.
"""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["Lanes"]


class Lanes:
    """How many live in each lane, and what waits.

    >>> lanes = Lanes()
    >>> lanes.enter("default")
    >>> lanes.has_room({"lane": "default", "width": 1}), lanes.has_room({"lane": "default"})
    (False, True)
    >>> lanes.hold({"mark": "7.1", "lane": "default", "width": 1})
    >>> lanes.next("default") is None
    True
    >>> lanes.leave("default")
    >>> lanes.next("default")["mark"]
    '7.1'
    """

    def __init__(self) -> None:
        self._living: dict[str, int] = {}
        self._waiting: dict[str, deque[dict[str, Any]]] = {}

    def enter(self, lane: str | None) -> None:
        """Count one that begins."""
        if lane is not None:
            self._living[lane] = self._living.get(lane, 0) + 1

    def leave(self, lane: str) -> None:
        """Count one that was reaped."""
        self._living[lane] -= 1
        if not self._living[lane]:
            del self._living[lane]

    def has_room(self, request: dict[str, Any]) -> bool:
        """Tell whether a spawn may begin now: it names no width, or fewer live in its lane and nothing waits."""
        lane, width = request.get("lane"), request.get("width")
        if lane is None or width is None:
            return True
        return not self._waiting.get(lane) and self._living.get(lane, 0) < width

    def hold(self, request: dict[str, Any]) -> None:
        """Keep a spawn until there is room."""
        waiting = self._waiting.setdefault(request["lane"], deque())
        if all(other["mark"] != request["mark"] for other in waiting):
            waiting.append(request)

    def next(self, lane: str) -> dict[str, Any] | None:
        """Take the first that waits in a lane, if there is room for it."""
        waiting = self._waiting.get(lane)
        if not waiting or self._living.get(lane, 0) >= waiting[0]["width"]:
            return None
        first = waiting.popleft()
        if not waiting:
            del self._waiting[lane]
        return first

    def withdraw(self, marks: Iterable[str]) -> list[str]:
        """Drop those of the marks that wait, and name them: they will not begin."""
        wanted = set(marks)
        dropped: list[str] = []
        for lane in list(self._waiting):
            kept: deque[dict[str, Any]] = deque()
            for request in self._waiting.pop(lane):
                if request["mark"] in wanted:
                    dropped.append(request["mark"])
                else:
                    kept.append(request)
            if kept:
                self._waiting[lane] = kept
        return dropped

    def clear(self) -> None:
        """Drop all that waits; those that live go on to count."""
        self._waiting.clear()
