"""What goes to a worker at a time, and what comes back: shared by all engines.

Plain classes: ``dataclasses`` takes longer to load than a worker to come up.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["LONGEST", "Back", "Batch", "Broken", "Event", "Failed", "Group", "Large", "Lost"]


#: Seconds to wait at a time: there are systems that wait for no more than a few weeks.
LONGEST = 3600.0


class Batch:
    """Items that follow one upon the other.

    Attributes
    ----------
    index:
        Of the first, among all items of the run.
    size:
        Bytes of their pickle, once it is made.
    timeout:
        What each may take (ns), if that is not what all may.
    """

    __slots__ = ("index", "items", "size", "timeout")

    def __init__(self, index: int, items: Sequence[Any], timeout: int | None = None) -> None:
        self.index = index
        self.items = items
        self.size = 0
        self.timeout = timeout


class Large:
    """A value in a segment; see ``vigie.segments``."""

    #: Those that hold a descriptor; with too many of them, the next makes its value at once.
    held = 0

    def __init__(self, fd: int, places: list[list[int]]) -> None:
        self._fd = fd
        self._places = places
        self._value: Any = None
        self._error: Exception | None = None
        self.size = sum(length for _, length in places)
        if fd < 0:
            self._error = OSError(errno.EMFILE, "a large result came, and there was no descriptor left for it")
            return
        from vigie import segments

        Large.held += 1
        if Large.held > segments.MOST_MAPPED:
            self._make(copied=True)

    def load(self) -> Any:
        """Make the value; raise what that raised, each time it is asked for."""
        if self._fd >= 0:
            self._make(copied=False)
        if self._error is not None:
            raise self._error
        return self._value

    def _make(self, *, copied: bool) -> None:
        fd, self._fd = self._fd, -1
        Large.held -= 1
        from vigie import segments

        try:
            self._value = segments.load(fd, self._places, copied=copied)
        except Exception as error:
            self._error = error

    def __del__(self) -> None:
        if self._fd >= 0:
            Large.held -= 1
            os.close(self._fd)


class Group:
    """Values of items that follow one upon the other.

    Attributes
    ----------
    times:
        Of each, in ns.
    values:
        The values, or if they are ``packed`` the pickle of each, or a single :class:`Large`.
    of:
        How many items their batch had.
    peak_rss:
        Of the worker after the last one, in bytes; 0 if nobody looked.
    size:
        Bytes of the pickles.
    tries:
        How often they were tried; whoever keeps count of failures sets it.
    """

    __slots__ = ("index", "of", "packed", "peak_rss", "size", "times", "tries", "values", "worker")

    def __init__(self, index: int, times: list[int], values: list[Any], worker: int, of: int) -> None:
        self.index = index
        self.times = times
        self.values = values
        self.worker = worker
        self.of = of
        self.peak_rss = 0
        self.packed = False
        self.size = 0
        self.tries = 1

    def list(self) -> list[Any]:
        """Give the values."""
        if not self.packed:
            return self.values
        if isinstance(self.values[0], Large):
            return [self.values[0].load()]
        import pickle

        return list(map(pickle.loads, self.values))

    def one(self, at: int) -> Group:
        """Give one of them as a group of its own."""
        group = Group(self.index + at, [self.times[at]], [self.values[at]], self.worker, self.of)
        group.packed, group.tries = self.packed, self.tries
        return group


class Failed:
    """An item that raised: the name of its exception, its text, its traceback, and itself if it could travel."""

    __slots__ = ("error", "index", "item", "kind", "message", "time", "traceback", "worker")

    def __init__(
        self, index: int, item: Any, time: int, worker: int, kind: str, message: str, traceback: str,
        error: BaseException | None = None,
    ) -> None:  # fmt: skip
        self.index = index
        self.item = item
        self.time = time
        self.worker = worker
        self.kind = kind
        self.message = message
        self.traceback = traceback
        self.error = error


class Lost:
    """An item whose worker ended with it.

    Attributes
    ----------
    why:
        ``timeout``, ``stopped``, ``signal``, ``exit``, or ``oom``: the system was out of memory.
    number:
        The signal, or the exit status.
    timeout:
        What it might take (ns), if that is not what all may.
    """

    __slots__ = ("index", "item", "number", "time", "timeout", "why", "worker")

    def __init__(
        self, index: int, item: Any, time: int, worker: int, why: str, number: int, timeout: int | None = None
    ) -> None:
        self.index = index
        self.item = item
        self.time = time
        self.worker = worker
        self.why = why
        self.number = number
        self.timeout = timeout


class Back:
    """Items that were given to a worker and did not begin; ``alone``: each in a batch of its own."""

    __slots__ = ("alone", "batch")

    def __init__(self, batch: Batch, alone: bool = False) -> None:
        self.batch = batch
        self.alone = alone


class Broken:
    """No worker can do anything: it did not find the ``function``, failed in ``init``, or ended (``worker``)."""

    __slots__ = ("error", "kind", "message", "traceback", "where")

    def __init__(self, where: str, kind: str, message: str, traceback: str, error: BaseException | None = None) -> None:
        self.where = where
        self.kind = kind
        self.message = message
        self.traceback = traceback
        self.error = error


#: What an engine tells.
Event = Group | Failed | Lost | Back | Broken
