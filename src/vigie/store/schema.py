"""The store's tables: made in an empty file, brought up to date in an older one, refused in a newer one.

``schema.sql`` is what a new store gets. A store of an older number goes through
``migrations/N.sql`` for each number up to ours, all in one transaction, after a
copy of it was made; only the agent does this. What both ways lead to is the same,
and a test compares it.
"""

from __future__ import annotations

import os

import apsw

from vigie import crash
from vigie.errors import StoreError
from vigie.store.copies import backup

__all__ = ["MIN_READER", "SCHEMA", "settle", "text"]

SCHEMA = 3
#: The oldest schema number whose readers understand this store.
MIN_READER = 1

_SET = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


def text(name: str) -> str:
    """Give the SQL of a file beside this one."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), encoding="utf-8") as file:
        return file.read()


def settle(db: apsw.Connection, path: str) -> None:
    """See that a store has the tables of this Vigie.

    Raises
    ------
    StoreError
        When it was written by a newer one.
    """
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
        _create(db)
        return
    meta = dict(db.execute("SELECT key, value FROM meta"))
    schema = int(meta.get("schema") or 0)
    if schema > SCHEMA:
        raise StoreError(
            f"the store {path} has schema {schema}; this Vigie knows {SCHEMA}",
            f"use the newer Vigie, or restore a backup made before its migration"
            f" ({meta.get('backup_before') or 'see backups/'})",
        )
    if schema < SCHEMA:
        _migrate(db, path, schema)


def _create(db: apsw.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.execute(text("schema.sql"))
    _number(db)
    crash.point("store-before-create")
    db.execute("COMMIT")
    crash.point("store-after-create")


def _number(db: apsw.Connection) -> None:
    db.execute(_SET, ("schema", SCHEMA))
    db.execute(_SET, ("min_reader", MIN_READER))


def _migrate(db: apsw.Connection, path: str, schema: int) -> None:
    """Bring an older store up to date, all of it or nothing, after a copy of it as it was."""
    directory = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(path))), "backups")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    copy = os.path.join(directory, f"before-schema-{SCHEMA}.db")
    backup(db, copy)
    db.execute("BEGIN IMMEDIATE")
    try:
        for number in range(schema + 1, SCHEMA + 1):
            db.execute(text(f"migrations/{number}.sql"))
        _number(db)
        db.execute(_SET, ("backup_before", copy))
        db.execute("COMMIT")
    except apsw.Error:
        db.execute("ROLLBACK")
        raise
