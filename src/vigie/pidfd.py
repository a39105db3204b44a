"""What Linux says of a process through a descriptor, and nothing else does.

A pidfd names one process for ever: no signal sent through it can hit a stranger
that got the same number, and it can still be asked for the exit status after
somebody else has reaped the process (``PIDFD_GET_INFO`` with
``PIDFD_INFO_EXIT``, Linux 6.15, ``linux/pidfd.h``). Elsewhere each function
says that it does not know.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys

__all__ = ["exit_status", "open_pid", "send", "set_subreaper"]

_PR_SET_CHILD_SUBREAPER = 36
_INFO_EXIT = 1 << 3
#: struct pidfd_info, first version: mask, cgroup id, eleven numbers, exit code.
_INFO = struct.Struct("@QQ11Ii")
#: _IOWR(0xFF, 11, struct pidfd_info)
_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11


def set_subreaper(*, on: bool = True) -> bool:
    """Make this process the parent of orphans among its descendants, or no more.

    Gives False where the system has no such thing.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0)


def open_pid(pid: int) -> int | None:
    """Open a pidfd of the process that has number ``pid`` now; it closes on exec.

    Gives None when there is no such process, no descriptor left, or no such
    call. A zombie can be opened until it is reaped.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def send(fd: int, number: int) -> None:
    """Send a signal through a pidfd.

    Raises
    ------
    ProcessLookupError
        The process has ended.
    PermissionError
        It belongs to somebody else.
    """
    signal.pidfd_send_signal(fd, number)


def exit_status(fd: int) -> int | None:
    """Give the wait status of a process that has ended *and been reaped*, else None.

    The form is that of :func:`os.waitpid`: take it apart with
    :func:`os.WIFEXITED` and its kin. The pidfd must have been opened before the
    reap. None also stands for a kernel before 6.15.

    >>> pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], {})
    >>> fd = os.pidfd_open(pid)
    >>> os.waitpid(pid, 0)[1] == (exit_status(fd) or 7 << 8)
    True
    >>> os.close(fd)
    """
    buffer = bytearray(_INFO.size)
    struct.pack_into("@Q", buffer, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(fd, _GET_INFO, buffer)
    except OSError:
        return None
    fields = _INFO.unpack(buffer)
    return int(fields[-1]) if fields[0] & _INFO_EXIT else None
