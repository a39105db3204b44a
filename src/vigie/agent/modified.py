"""Being woken by the next write to a file, where the system can (inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any

__all__ = ["Modified"]

_MODIFY, _IGNORED, _ONESHOT = 0x2, 0x8000, 0x80000000
_EVENT = struct.Struct("iIII")


class Modified:
    """Says which files were written to since they were watched; each is told of once.

    Attributes
    ----------
    fd:
        Readable when there is something to take; -1 where nothing can be watched.
    """

    def __init__(self) -> None:
        self.fd = -1
        self._paths: dict[int, str] = {}
        self._libc: Any = None
        try:
            self._libc = ctypes.CDLL(None, use_errno=True)
            self.fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, AttributeError):
            pass

    def watch(self, path: str) -> bool:
        """Wait for the next write to a file; False if that cannot be done."""
        if self.fd < 0:
            return False
        number = self._libc.inotify_add_watch(self.fd, os.fsencode(path), ctypes.c_uint32(_MODIFY | _ONESHOT))
        if number < 0:
            return False
        self._paths[number] = path
        return True

    def take(self) -> list[str]:
        """Give the files that were written to."""
        found: list[str] = []
        try:
            data = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return found
        at = 0
        while at < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            path = self._paths.get(number)
            if mask & _IGNORED:
                self._paths.pop(number, None)
            elif path is not None and mask & _MODIFY:
                found.append(path)
        return found

    def close(self) -> None:
        """Let go of all."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
