"""Ctrl-C held back while something is half done that nobody could undo: a process that starts, a crew that ends."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C module under signal, without its enums
import _thread
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Self

__all__ = ["Shield"]

_SIGINT = 2


class Shield:
    """A context in which SIGINT is noted, and handled at its end; only in the main thread, where handlers run.

    >>> import os, signal
    >>> try:
    ...     with Shield():
    ...         os.kill(os.getpid(), signal.SIGINT)
    ...         print("done")
    ... except KeyboardInterrupt:
    ...     print("interrupted")
    done
    interrupted
    """

    __slots__ = ("_handler", "_noted")

    def __init__(self) -> None:
        self._handler: Any = None
        self._noted: bool | FrameType | None = False

    def __enter__(self) -> Self:
        if _thread.get_ident() == threading.main_thread().ident:
            handler = _signal.getsignal(_SIGINT)
            # Ignored, left to the system, or set from elsewhere than Python: nothing is raised by it.
            if callable(handler):
                _signal.signal(_SIGINT, self._note)
                self._handler = handler
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = frame

    def __exit__(self, *exc: object) -> None:
        handler, self._handler = self._handler, None
        if handler is None:
            return
        _signal.signal(_SIGINT, handler)
        if self._noted is not False:
            handler(_SIGINT, self._noted)
