"""Descriptors that are waited for, each with what is to be done when it can be read.

``selectors`` does the same at three times the cost, which counts where a command takes half a millisecond.
"""

from __future__ import annotations

import math
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Watch"]


class Watch:
    """Calls whoever waits for a descriptor; the epoll or poll of the system.

    >>> import os
    >>> read, write = os.pipe()
    >>> watch = Watch()
    >>> watch.add(read, lambda: print(os.read(read, 9)))
    >>> _ = os.write(write, b"news")
    >>> watch.wait(1.0)
    b'news'
    >>> watch.remove(read), watch.wait(0), watch.close(), os.close(read), os.close(write)
    (None, None, None, None, None)
    """

    def __init__(self) -> None:
        self._calls: dict[int, Callable[[], None]] = {}
        # poll counts in ms, epoll in s.
        self._scale = 1.0 if hasattr(select, "epoll") else 1000.0
        self._system = select.epoll() if hasattr(select, "epoll") else select.poll()

    def add(self, fd: int, call: Callable[[], None]) -> None:
        """Have something called whenever a descriptor can be read, or is at its end."""
        self._system.register(fd, select.POLLIN)
        self._calls[fd] = call

    def remove(self, fd: int) -> None:
        """Wait for a descriptor no more; it is still open."""
        if self._calls.pop(fd, None) is not None:
            self._system.unregister(fd)

    def wait(self, seconds: float) -> None:
        """Wait until something can be read, up to so many seconds, and call."""
        # Both round down, and would then look again and again until the last millisecond is over.
        timeout = math.ceil(seconds * 1000) / 1000 * self._scale
        for fd, _ in self._system.poll(timeout):
            call = self._calls.get(fd)
            if call is not None:
                call()

    def close(self) -> None:
        """Let go of what the system keeps for it."""
        self._calls.clear()
        close = getattr(self._system, "close", None)
        if close is not None:
            close()
