"""A directory with two empty files, left by one silent command for the next.

Nothing of one job may show up in another's output. A child that a command left behind
may still hold its files, and so may somebody who reads them. After the rename nobody
can open them under an old name, and the kernel grants a write lease on a file only if
nobody else has it open (fcntl(2), F_SETLEASE): without a lease they are removed, and
the command gets new ones.

Who opens a file while we hold a lease of it makes the kernel send us SIGIO, which
must not end us; the open waits until we have closed it.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AnyStr

__all__ = ["NAMES", "reuse"]

#: What is in one.
NAMES = ["err", "out"]


def reuse(blank: AnyStr, directory: AnyStr) -> None:
    """Make ``blank`` the directory of an attempt, if it is fit for that and there is none.

    Whatever is missing then has to be made as ever.
    """
    try:
        try:
            os.rename(blank, directory)
        except FileNotFoundError:
            if not os.path.exists(blank):
                return
            os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
            os.rename(blank, directory)
        names = os.listdir(directory)
        for name in names:
            path = os.path.join(directory, name)
            if not _is_free(path):
                os.unlink(path)
    except OSError:
        return


def _is_free(path: str | bytes) -> bool:
    """Tell whether a file is empty and nobody else has it open."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False  # not Linux
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        return os.fstat(fd).st_size == 0
    except OSError:  # somebody has, or the file system knows no leases
        return False
    finally:
        os.close(fd)
