"""Items that keep one waiting: read by a thread, so that what runs is attended to meanwhile."""

from __future__ import annotations

import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Row = Sequence[bytes]

__all__ = ["Feed"]

#: Items that are read ahead.
AHEAD = 1_000


class Feed:
    """An iterator over rows of items that says whether the next one is there.

    Parameters
    ----------
    rows:
        Gives them; it may wait for long.

    >>> feed = Feed(iter([(b"a",), (b"b",)]))
    >>> feed.begin(lambda: None)
    >>> list(feed), feed.ready()
    ([(b'a',), (b'b',)], True)
    """

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._read: deque[Row] = deque()
        self._room = threading.Semaphore(AHEAD)
        self._news = threading.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._starved = False
        self._wake: Callable[[], None] = lambda: None

    def begin(self, wake: Callable[[], None]) -> None:
        """Read, and call ``wake`` when something has come that was asked for."""
        self._wake = wake
        threading.Thread(target=self._follow, name="vigie-items", daemon=True).start()

    def _follow(self) -> None:
        try:
            for row in self._rows:
                self._room.acquire()
                self._read.append(row)
                self._tell()
        except BaseException as error:
            self._error = error
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        if self._starved:
            self._starved = False
            self._news.set()
            self._wake()

    def ready(self) -> bool:
        """Tell whether the next one can be had at once, or there is none."""
        if self._read or self._ended:
            return True
        self._starved = True
        # It may have come between the two.
        return bool(self._read) or self._ended

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Row:
        while not self.ready():
            self._news.wait()
            self._news.clear()
        if self._read:
            self._room.release()
            return self._read.popleft()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopIteration
