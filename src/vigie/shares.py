"""Much work shared out to processes, and much data gathered into parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from vigie.frames import dumps

__all__ = ["Rows", "shared"]

#: Bytes of a part.
PART = 500_000

Share = TypeVar("Share")
Made = TypeVar("Made")


class Rows:
    """Gathers rows into parts of a size."""

    def __init__(self) -> None:
        self._done: list[bytes] = []
        self._rows: dict[str, list[str]] = {}
        self._size = 0

    def add(self, kind: str, row: list[Any]) -> None:
        text = dumps(row)
        self._rows.setdefault(kind, []).append(text)
        self._size += len(text)
        if self._size >= PART:
            self._close()

    def _close(self) -> None:
        kinds = [f'["{kind}",[{",".join(rows)}]]' for kind, rows in self._rows.items()]
        self._done.append(f"[{','.join(kinds)}]".encode())
        self._rows.clear()
        self._size = 0

    def take(self) -> list[bytes]:
        """Give the parts."""
        if self._rows:
            self._close()
        return self._done


def shared(make: Callable[[Share], Made], shares: list[Share]) -> Iterator[Made]:
    """Make each share in a process of its own, the first in this one; give what came of them, in order."""
    import pickle
    import tempfile

    children = []
    for share in shares[1:]:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - read when its process has ended
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                pickle.dump(make(share), file)
                file.flush()
                code = 0
            finally:
                os._exit(code)
        children.append((pid, file, share))
    yield from map(make, shares[:1])
    for pid, file, share in children:
        _, status = os.waitpid(pid, 0)
        with file:
            file.seek(0)
            # One that was killed for its memory, say, has left nothing.
            yield pickle.load(file) if status == 0 else make(share)
