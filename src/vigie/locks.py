"""A file that one process holds, and that tells others who does.

The lock is an ``flock``. Beside it the holder has a record lock, for whoever only
wants to look: the kernel names a record lock's holder in one call, while
``/proc/locks`` is given a page at a time and leaves lines out when others let go
meanwhile. The record lock is no more than a name: it goes when the holder closes
any descriptor of that file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys

__all__ = ["holder", "take"]

#: The kernel's ``struct flock``, and where type and pid are in it (fcntl(2)).
if sys.platform == "darwin":
    _FLOCK, _TYPE, _PID = struct.Struct("qqihh"), 3, 2
    _ANYBODY = _FLOCK.pack(0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
else:
    _FLOCK, _TYPE, _PID = struct.Struct("hhqqi4x"), 0, 4
    _ANYBODY = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def take(path: str) -> int:
    """Take a file's lock for this process, making the file if need be; give the descriptor that holds it.

    Our pid is written into it, for people; on a full disk it is not.

    Raises
    ------
    BlockingIOError
        When another process has it.
    OSError
        When the file cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     fd = take(file.name)
    ...     print(file.read() == b"%d\\n" % os.getpid())
    ...     os.close(fd)
    True
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(OSError):  # a disk without record locks: then nobody can be named
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def holder(path: str) -> int | None:
    """Give the pid of the other process that took a file with `take`; 0: one out of sight; None: it is free.

    Looking never takes the lock, not even for the moment in which another process
    would find it taken.

    Examples
    --------
    >>> holder("/nowhere/agent.lock") is None
    True
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, _ANYBODY))
    except OSError:
        return None
    finally:
        os.close(fd)
    return None if found[_TYPE] == fcntl.F_UNLCK else max(0, found[_PID])
