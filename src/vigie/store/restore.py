"""Putting a backup in the store's place, keeping what it replaces.

For a moment when no agent runs: the caller holds its lock. Ids go on above the
highest one that was ever given, also in the replaced store: an id is never used
twice, and the output of a job that the backup does not know is never mixed with
that of a new one.
"""

from __future__ import annotations

import os
import time
from typing import Any

import apsw

from vigie import crash
from vigie.errors import StoreError, UsageError
from vigie.store import sql
from vigie.store.copies import copy_into, sync
from vigie.store.schema import SCHEMA

__all__ = ["check", "restore"]

_COUNTED = ("jobs", "workers")
_LAST_ID = """INSERT INTO meta (key, value) VALUES ('last_id', ?)
ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)"""


def check(source: str) -> dict[str, Any]:
    """See that a file is a whole backup; give ``schema, jobs, newest`` (µs UTC of its last event).

    Raises
    ------
    UsageError
        When there is no such file, or it is no store of ours.
    StoreError
        When it is damaged, or from a newer Vigie.
    """
    if not os.path.isfile(source):
        raise UsageError(f"there is no file {source}", "vigie agent backup makes one; they are in backups/")
    connection = None
    try:
        connection = apsw.Connection(source, flags=apsw.SQLITE_OPEN_READONLY)
        ((verdict,),) = connection.execute("PRAGMA integrity_check(1)")
        if verdict != "ok":
            raise StoreError(f"{source} is damaged: {verdict}", "try an older backup")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if not {"meta", "jobs", "events"} <= tables:
            raise UsageError(f"{source} is a database, but no store of Vigie's")
        schema = int(dict(connection.execute("SELECT key, value FROM meta")).get("schema", 0))
        if schema > SCHEMA:
            raise StoreError(f"{source} has schema {schema}, and this Vigie knows {SCHEMA}", "upgrade Vigie first")
        counts = "SELECT (SELECT count(*) FROM jobs), (SELECT max(at) FROM events)"
        ((jobs, newest),) = connection.execute(counts)
        return {"schema": schema, "jobs": jobs, "newest": newest}
    except apsw.NotADBError:
        raise UsageError(f"{source} is no store of Vigie's", "vigie agent backup makes one") from None
    except apsw.Error as error:
        raise StoreError(f"cannot read {source}: {error}", "try an older backup") from None
    finally:
        if connection is not None:
            connection.close()


def restore(source: str, db: str, jobs: str, *, note: dict[str, Any] | None = None) -> str | None:
    """Put a copy of a backup in place of a store.

    Parameters
    ----------
    source:
        The backup; it stays as it is.
    db:
        The store. What is there is kept as ``db.replaced-TIME``.
    jobs:
        The directory of the jobs' files, whose numbers were given too.
    note:
        Columns of the event that tells of it.

    Returns
    -------
    The path of the replaced store, or None if there was none.

    Raises
    ------
    StoreError
        When the copy cannot be made; the store is as it was.
    """
    temporary = db + ".restoring"
    _remove(temporary)
    try:
        given = _highest(db, jobs)
        _copy(source, temporary)
        _finish(temporary, given, {"at": time.time_ns() // 1000, "verb": "store-restored", **(note or {})})
    except apsw.Error as error:
        _remove(temporary)
        raise StoreError(f"cannot copy {source}: {error}", "is there room on the disk?") from None
    except BaseException:
        _remove(temporary)
        raise
    sync(temporary)
    crash.point("restore-after-commit")
    kept = _set_aside(db)
    crash.point("restore-before-rename")
    os.replace(temporary, db)
    sync(os.path.dirname(db))
    crash.point("restore-after-rename")
    return kept


def _copy(source: str, target: str) -> None:
    old = apsw.Connection(source, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        copy_into(old, target)
    finally:
        old.close()


def _finish(path: str, given: dict[str, int], event: dict[str, Any]) -> None:
    """Raise the counters of ids, and write the event."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        with connection:
            connection.execute(_LAST_ID, (given.pop("jobs"),))
            for table, highest in given.items():
                row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
                if row is None and highest:
                    connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, highest))
                elif row is not None and row[0] < highest:
                    connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (highest, table))
            columns = ", ".join(event)
            marks = ", ".join("?" * len(event))
            connection.execute(f"INSERT INTO events ({columns}) VALUES ({marks})", tuple(event.values()))
            crash.point("restore-before-commit")
    finally:
        connection.close()


def _highest(db: str, jobs: str) -> dict[str, int]:
    """Give the highest ids ever given: by the store, if it can be read, and by its files."""
    given = dict.fromkeys(_COUNTED, 0)
    if os.path.exists(db):
        try:
            connection = apsw.Connection(db, flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                given |= {n: s for n, s in connection.execute("SELECT name, seq FROM sqlite_sequence") if n in given}
                ((given["jobs"],),) = connection.execute(sql.load("queries")["last_id"])
                # What its log holds belongs into the file that is kept.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.close()
        except apsw.Error:
            # Damaged, which is why there is a restore; the files below still count.
            pass
    given["jobs"] = max(given["jobs"], _highest_directory(jobs, 2))
    given["workers"] = max(given["workers"], _highest_directory(os.path.join(os.path.dirname(jobs), "workers"), 1))
    return given


def _highest_directory(root: str, depth: int) -> int:
    try:
        names = os.listdir(root)
    except OSError:
        return 0
    if depth == 1:
        return max((int(name) for name in names if name.isdigit()), default=0)
    return max((_highest_directory(os.path.join(root, name), depth - 1) for name in names), default=0)


def _set_aside(db: str) -> str | None:
    """Keep the store and its log under another name; give the name."""
    if not os.path.exists(db):
        return None
    kept = time.strftime(f"{db}.replaced-%Y%m%d-%H%M%S")
    number = 1
    while os.path.exists(kept):
        number += 1
        kept = time.strftime(f"{db}.replaced-%Y%m%d-%H%M%S-{number}")
    # Its log first: beside another file it would be played into that one.
    for suffix in ("-wal", "-shm"):
        if os.path.exists(db + suffix):
            os.rename(db + suffix, kept + suffix)
    # A second name, so that there is a store under the first one at every moment.
    os.link(db, kept)
    return kept


def _remove(path: str) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        try:
            os.unlink(path + suffix)
        except FileNotFoundError:
            continue
