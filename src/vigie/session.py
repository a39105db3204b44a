"""What the library shares in one process: a connection, readers, the key for pickles."""

from __future__ import annotations

import os
import threading
from typing import Any

from vigie.client import Client
from vigie.config import Home, default_home

__all__ = ["Session", "session"]


class Session:
    """The library's way to one home.

    Threads share one connection to the agent (requests are told apart by number);
    each thread reads the store through a connection of its own.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self.client = Client(home, program="python")
        self._local = threading.local()
        self._key: bytes | None = None

    @property
    def reader(self) -> Any:
        """The calling thread's reader of the store."""
        from vigie.store.reader import Reader

        mine = getattr(self._local, "reader", None)
        # A forked child must not use its parent's SQLite connections; a restore puts another file in the store's place.
        key = os.getpid(), _inode(self.home.db)
        if mine is None or mine[0] != key:
            mine = self._local.reader = (key, Reader(self.home))
        return mine[1]

    @property
    def key(self) -> bytes:
        """The key that signs pickles; the agent makes it."""
        if self._key is None:
            from vigie import payload

            self.client.connect()
            self._key = payload.read_key(self.home.secret)
        return self._key or b""


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


_sessions: dict[str, Session] = {}
_lock = threading.Lock()


def session() -> Session:
    """Give the session of the home that ``VIGIE_HOME`` names now."""
    root = default_home()
    known = _sessions.get(root)
    if known is None:
        with _lock:
            known = _sessions.setdefault(root, Session(Home(root)))
    return known
