"""What an error of SQLite or of the system means for the store, in words that help."""

from __future__ import annotations

import errno
import os
import resource

import apsw

from vigie.errors import StoreError

__all__ = ["explain"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
#: SQLite found no room for the log's index, or could not write at all.
_CANNOT_WRITE = (apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_TRUNCATE)


def explain(path: str, error: Exception, what: str) -> StoreError:
    """Give the error to raise or to answer.

    Parameters
    ----------
    path:
        The store.
    error:
        What SQLite or the system said.
    what:
        What came of it: ``cannot open the store``, ``not accepted, nothing was written``.
    """
    home = os.path.dirname(os.path.dirname(path))
    if isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno in _NO_ROOM):
        return _no_room(home, what)
    if getattr(error, "extendedresult", None) in _CANNOT_WRITE:
        # SQLite keeps the system's own number to itself.
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if limit != resource.RLIM_INFINITY and _longest(path) >= limit - 8192:
            said = f"no space: files may not grow over {limit} bytes (ulimit -f); {what}"
            return StoreError(said, "raise the limit, then: vigie agent restart")
        if _is_full(home):
            return _no_room(home, what)
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return StoreError(f"{what}: the store {path} is damaged: {error}", "vigie agent restore FILE; see backups/")
    return StoreError(f"{what}: {error}", f"vigie doctor explains; {os.path.join(home, 'agent.log')} says more")


def _no_room(home: str, what: str) -> StoreError:
    return StoreError(f"no space on the disk of {home}: {what}", "free some; work goes on by itself then")


def _longest(path: str) -> int:
    return max((os.stat(name).st_size for name in (path, path + "-wal") if os.path.exists(name)), default=0)


def _is_full(directory: str) -> bool:
    try:
        info = os.statvfs(directory)
    except OSError:
        return False
    return info.f_bavail * info.f_frsize < 1 << 16
