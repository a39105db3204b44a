"""The write-ahead log as a file, looked at before SQLite opens it."""

from __future__ import annotations

import os

from vigie.errors import StoreError

__all__ = ["settle_log"]

_CHUNK = 1 << 20


def settle_log(path: str) -> None:
    """Write the log of a store over itself and put it on disk.

    After an fsync that failed, the kernel holds pages that the disk lacks and that no
    later fsync writes. SQLite would read them, go on behind them, and after a power
    cut all of that would be out of reach. Written again, they are on disk or the next
    fsync fails as well.

    Only for who holds the agent's lock, before anybody in this process has the store open.

    Parameters
    ----------
    path:
        The store; its log is beside it. Without one nothing is done.

    Raises
    ------
    StoreError
        When the disk fails again.
    """
    try:
        log = os.open(path + "-wal", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"cannot open {path}-wal: {error.strerror}", "vigie doctor explains") from None
    try:
        at = 0
        while data := os.pread(log, _CHUNK, at):
            at += os.pwrite(log, data, at)
        os.fsync(log)
    except OSError as error:
        raise StoreError(f"the disk fails to keep {path}-wal: {error.strerror}", "vigie doctor explains") from None
    finally:
        os.close(log)
