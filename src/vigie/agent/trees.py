"""The duty of ending, freezing and thawing process trees."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

from vigie import proctree
from vigie.ports import Clock
from vigie.procs import Identity
from vigie.proctree import Status, Tree, TreeStop

__all__ = ["Trees"]

log = logging.getLogger("vigie.agent")

#: Seconds until a look at /proc that failed is tried again.
AGAIN = 0.5

Key = tuple[int, int]


class Trees:
    """Drives :class:`vigie.proctree.TreeStop` by the loop's clock.

    Attributes
    ----------
    left:
        What the last stop of a job could not end: {job: pids}.
    blind:
        Nobody has looked yet for trees that an earlier agent was ending.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, ended: Callable[[int], None]) -> None:
        self.loop = loop
        self.clock = clock
        self.ended = ended
        self.left: dict[int, list[int]] = {}
        self.blind = True
        self._stops: dict[Key, tuple[TreeStop, asyncio.TimerHandle | None]] = {}
        #: At which of them somebody looks in a moment.
        self._due: set[Key] = set()

    def busy(self, job: int) -> bool:
        """Tell whether a job's tree is still being ended."""
        return self.blind or any(key[0] == job for key in self._stops)

    def terminate(
        self, key: Key, root: Identity, marks: Collection[str], grace: int, since: int | None = None,
        sequence: Sequence[tuple[int, int]] | None = None,
    ) -> None:  # fmt: skip
        """End a tree: SIGTERM, grace (µs), SIGKILL, or a sequence of its own; a second call shortens the grace.

        ``since`` is the tick of its oldest member, if that is not the main process.
        """
        running = self._stops.get(key)
        if running is not None:
            if grace == 0:
                running[0].kill_now()
                self.nudge(key)
            return
        self.left.pop(key[0], None)
        self._stops[key] = (TreeStop(Tree(root, marks, since=since), grace, sequence=sequence), None)
        self._soon(key)

    def extend(self, job: int, micros: int) -> None:
        """Give a tree that is being ended more time."""
        for key, (stop, _) in self._stops.items():
            if key[0] == job:
                stop.extend(self.clock.mono() + micros)

    def nudge(self, key: Key) -> None:
        """Look at once: a member is known to have ended."""
        running = self._stops.get(key)
        if running is not None:
            if running[1] is not None:
                running[1].cancel()
            self._soon(key)

    def _soon(self, key: Key) -> None:
        """Look in a moment, together with all others at whom somebody looks then."""
        if not self._due:
            self.loop.call_soon(self._step)
        self._due.add(key)

    def _step(self) -> None:
        due, self._due = self._due, set()
        stops = {key: self._stops[key][0] for key in sorted(due) if key in self._stops}
        now = self.clock.mono()
        try:
            statuses = proctree.together([stop.stepping(now) for stop in stops.values()])
        except OSError as error:
            # Without a descriptor nobody can be looked for, and nobody may pass for gone.
            log.warning("cannot look for the processes of %d jobs, and try again: %s", len(stops), error)
            for key, stop in stops.items():
                self._stops[key] = (stop, self.loop.call_later(AGAIN, self._soon, key))
            return
        for (key, stop), status in zip(stops.items(), statuses, strict=True):
            self._go_on(key, stop, status, now)

    def _go_on(self, key: Key, stop: TreeStop, status: Status, now: int) -> None:
        if status.done:
            del self._stops[key]
            if status.left:
                self.left[key[0]] = status.left
            self.ended(key[0])
            return
        wait = max(0.002, (status.next_at - now) / 1e6)
        self._stops[key] = (stop, self.loop.call_later(wait, self._soon, key))

    def freeze(self, root: Identity, marks: Collection[str]) -> None:
        """Stop every process of a tree by SIGSTOP."""
        proctree.freeze(Tree(root, marks))

    def thaw(self, root: Identity, marks: Collection[str]) -> None:
        """Let every process of a tree go on."""
        proctree.thaw(Tree(root, marks))
