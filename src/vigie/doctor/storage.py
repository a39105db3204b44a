"""SQLite and the store."""

from __future__ import annotations

import os
import re

from vigie.config import Home
from vigie.doctor.check import Check, fail, ok, warn

__all__ = ["can_corrupt", "sqlite", "store"]

FIRST_BAD = (3, 7, 0)
FIRST_GOOD = (3, 51, 3)


def can_corrupt(version: str) -> bool:
    """Tell whether a release of SQLite has the fault in its write-ahead log.

    In 3.7.0 to 3.51.2 two connections that write and checkpoint at the same moment can
    corrupt the file (https://sqlite.org/wal.html, "The WAL-Reset Bug").

    >>> can_corrupt("3.40.1"), can_corrupt("3.51.3"), can_corrupt("3.6.23")
    (True, False, False)
    """
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return FIRST_BAD <= numbers < FIRST_GOOD


def sqlite(version: str | None = None) -> Check:
    """Tell which SQLite the store uses."""
    if version is None:
        try:
            import apsw
        except ImportError as error:
            return fail(
                "sqlite",
                f"apsw cannot be imported: {error}",
                "the store cannot be opened",
                "install Vigie again: uv tool install --force vigie, or pipx reinstall vigie",
            )
        version = apsw.sqlite_lib_version()
    if can_corrupt(version):
        return warn(
            "sqlite",
            f"SQLite {version}",
            "releases 3.7.0 to 3.51.2 can corrupt a store when two connections write and checkpoint together",
            "pip install --upgrade apsw",
        )
    return ok("sqlite", f"SQLite {version}, carried by apsw")


def store(home: Home, *, deep: bool = False) -> Check:
    """Tell the store's schema and size; with ``deep`` read and check all of it.

    The connection is read-only: it neither changes the store nor checkpoints it.
    """
    if not os.path.exists(home.db):
        return ok("store", "none yet; made by the first agent")
    import apsw

    todo = f"vigie agent restore, from the newest of {home.backups}"
    try:
        schema, reader = _meta(home.db)
        damage = _damage(home.db) if deep else []
        if deep and os.path.exists(home.samples):
            damage += _damage(home.samples)
    except apsw.CantOpenError as error:
        return fail("store", f"{home.db} cannot be opened: {error}", "no job can be read", "see permissions above")
    except apsw.Error as error:
        return fail("store", f"{home.db}: {type(error).__name__}: {error}", "the store may be damaged", todo)
    if damage:
        return fail("store", f"damaged: {'; '.join(damage[:5])}", "what it says cannot be trusted", todo)
    size = sum(os.path.getsize(path) for path in (home.db, home.db + "-wal") if os.path.exists(path))
    said = f"schema {schema}, {size / (1 << 20):.1f} MiB" + (", every page checked" if deep else "")
    return _judge(said, reader, home)


def _judge(said: str, reader: object, home: Home) -> Check:
    from vigie.store.schema import SCHEMA

    if reader is None:
        return fail("store", f"{home.db} holds no schema of Vigie", "it is no store", "move it away")
    if int(str(reader)) > SCHEMA:
        return fail(
            "store",
            f"{said}, for readers of schema {reader} and later; this vigie knows {SCHEMA}",
            "a newer Vigie has used this home",
            f"upgrade Vigie, or go back to a backup in {home.backups}",
        )
    return ok("store", said)


def _meta(path: str) -> tuple[object, object]:
    import apsw

    db = _open(path)
    try:
        rows = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('schema', 'min_reader')"))
    except apsw.SQLError:
        return None, None
    finally:
        db.close()
    return rows.get("schema"), rows.get("min_reader")


def _damage(path: str) -> list[str]:
    db = _open(path)
    try:
        found = [str(row[0]) for row in db.execute("PRAGMA quick_check(5)") if row[0] != "ok"]
        found += [f"{row[0]}: row {row[1]} names a missing {row[2]}" for row in db.execute("PRAGMA foreign_key_check")]
    finally:
        db.close()
    return found


def _open(path: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - apsw stays a lazy import
    import apsw

    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    db.set_busy_timeout(5000)
    return db
