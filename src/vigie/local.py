"""State of a worker: what the ``init`` of a pool or a map made, by names, for the functions that run there."""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["State", "state"]


class State:
    """What ``init`` returned as a dictionary, each entry as an attribute; a thread has its own.

    >>> import vigie
    >>> def connect():
    ...     return {"greeting": "hello"}
    >>> list(vigie.map(lambda name: f"{vigie.state.greeting} {name}", ["you"], init=connect, on="inline"))
    ['hello you']
    """

    def __init__(self) -> None:
        self._process: dict[str, Any] = {}
        self._threads = threading.local()

    def fill(self, named: Mapping[str, Any], *, thread: bool = False) -> None:
        """Set what is there, for the whole process, or for this ``thread`` alone."""
        if thread:
            self._threads.named = dict(named)
        else:
            self._process = dict(named)

    def __getattr__(self, name: str) -> Any:
        for named in (getattr(self._threads, "named", {}), self._process):
            if name in named:
                return named[name]
        raise AttributeError(f"this worker has no state {name!r}: its init returned no dictionary with that name")

    def __dir__(self) -> list[str]:
        return sorted({*self._process, *getattr(self._threads, "named", {})})


#: Of this worker.
state = State()
