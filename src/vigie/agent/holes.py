"""Holes in files: releasing blocks in the middle of a file whose length stays, and finding them again."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from typing import Any

__all__ = ["BLOCK", "data_start", "punch"]

#: What a file system can release at least.
BLOCK = 4096
_KEEP_SIZE, _PUNCH = 1, 2


@cache
def _fallocate() -> Any:
    try:
        found = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return found


def punch(path: str, start: int, end: int) -> None:
    """Release the blocks of a file between two offsets; its length stays, and what is released reads as zeros.

    Raises
    ------
    OSError
        EOPNOTSUPP where the file system, or the machine, cannot do that.
    """
    fallocate = _fallocate()
    if fallocate is None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if fallocate(fd, _KEEP_SIZE | _PUNCH, start, end - start):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)


def data_start(path: str) -> int:
    """Give the offset of the first bytes of a file that are in no hole; its length if there are none."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return os.fstat(fd).st_size
        return 0
    finally:
        os.close(fd)
