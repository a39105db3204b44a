"""Copies of a store, made by SQLite's own backup: whole, while it is in use."""

from __future__ import annotations

import os

import apsw

__all__ = ["backup", "copy_into", "sync"]

#: Pages copied at a time.
_STEP = 2_000


def backup(db: apsw.Connection, path: str) -> int:
    """Copy an open store to a file that is there whole or not at all; give its size in bytes."""
    temporary = path + ".part"
    copy_into(db, temporary)
    sync(temporary)
    os.rename(temporary, path)
    return os.stat(path).st_size


def copy_into(db: apsw.Connection, path: str) -> None:
    """Copy an open store over a file, which then is one, with nothing beside it, until somebody opens it to write."""
    target = apsw.Connection(path)
    try:
        os.chmod(path, 0o600)
        with target.backup("main", db, "main") as copy:
            while not copy.done:
                copy.step(_STEP)
        target.execute("PRAGMA journal_mode=DELETE")
    finally:
        target.close()


def sync(path: str) -> None:
    """Put a file, or the names in a directory, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
