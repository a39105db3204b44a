"""What goes to a worker at a time, and what comes back: shared by all engines."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vigie import segments

__all__ = ["Back", "Batch", "Broken", "Event", "Failed", "Group", "Large", "Lost"]


@dataclass(slots=True)
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

    index: int
    items: Sequence[Any]
    size: int = 0
    timeout: int | None = None


class Large:
    """A value in a segment; see ``vigie.segments``."""

    def __init__(self, fd: int, places: list[list[int]]) -> None:
        self._fd = fd
        self._places = places
        self.size = sum(length for _, length in places)

    def load(self) -> Any:
        """Make the value, once."""
        fd, self._fd = self._fd, -1
        return segments.load(fd, self._places)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


@dataclass(slots=True)
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

    index: int
    times: list[int]
    values: list[Any]
    worker: int
    of: int
    peak_rss: int = 0
    packed: bool = False
    size: int = 0
    tries: int = 1

    def list(self) -> list[Any]:
        """Give the values."""
        if not self.packed:
            return self.values
        if isinstance(self.values[0], Large):
            return [self.values[0].load()]
        return list(map(pickle.loads, self.values))


@dataclass(slots=True)
class Failed:
    """An item that raised: the name of its exception, its text, its traceback, and itself if it could travel."""

    index: int
    item: Any
    time: int
    worker: int
    kind: str
    message: str
    traceback: str
    error: BaseException | None = None


@dataclass(slots=True)
class Lost:
    """An item whose worker ended with it.

    Attributes
    ----------
    why:
        ``timeout``, ``stopped``, ``signal``, ``exit``, or ``oom``: the system was out of memory.
    number:
        The signal, or the exit status.
    """

    index: int
    item: Any
    time: int
    worker: int
    why: str
    number: int


@dataclass(slots=True)
class Back:
    """Items that were given to a worker and did not begin; ``alone``: each in a batch of its own."""

    batch: Batch
    alone: bool = False


@dataclass(slots=True)
class Broken:
    """No worker can do anything: it did not find the ``function``, failed in ``init``, or ended (``worker``)."""

    where: str
    kind: str
    message: str
    traceback: str
    error: BaseException | None = None


#: What an engine tells.
Event = Group | Failed | Lost | Back | Broken
