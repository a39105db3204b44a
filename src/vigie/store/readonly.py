"""A database file opened read-only: while a writer works, while none does, on a full or locked disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

from vigie.errors import StoreError
from vigie.store.schema import SCHEMA

__all__ = ["ReadOnly", "Row"]

_BUSY_MS = 5000

Row = dict[str, Any]


class ReadOnly:
    """One database file, opened read-only when first asked and checked then."""

    def __init__(self, path: str) -> None:
        self.path = path
        #: How often it was opened: another number means another file.
        self.opened = 0
        self._connection: apsw.Connection | None = None
        self._inode: tuple[int, int] | None = None

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def reopen_if_replaced(self) -> None:
        """Let go of a file that another has replaced, as ``agent restore`` does."""
        if self._connection is not None and self._stat() != self._inode:
            self.close()

    def _stat(self) -> tuple[int, int] | None:
        try:
            info = os.stat(self.path)
        except OSError:
            return None
        return (info.st_dev, info.st_ino)

    def rows(self, statement: str, bind: Row) -> list[Row]:
        """Run a query to its end, so that no transaction stays open."""
        try:
            connection = self.open()
            if connection is None:
                return []
            cursor = connection.execute(statement, bind)
            names = _names(cursor)
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except apsw.Error as error:
            raise _explained(self.path, error) from None
        except UnicodeDecodeError as error:
            raise _damaged(self.path, error) from None

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one state of the file, for a page of rows and no longer."""
        connection = self.open()
        if connection is None:
            yield
            return
        try:
            connection.execute("BEGIN")
        except apsw.Error as error:
            raise _explained(self.path, error) from None
        try:
            yield
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")  # what was written aside stays

    def write_aside(self, statement: str, bind: Sequence[Any] = ()) -> None:
        """Write to the connection's own temporary tables, which are nobody else's."""
        connection = self.open()
        if connection is not None:
            connection.execute("PRAGMA query_only=OFF")
            try:
                connection.execute(statement, bind)
            finally:
                connection.execute("PRAGMA query_only=ON")

    def open(self) -> apsw.Connection | None:
        """Give the connection, or None while there is no store."""
        if self._connection is None:
            inode = self._stat()
            if inode is None:
                return None
            try:
                connection = self._connect()
            except apsw.Error as error:
                raise _explained(self.path, error) from None
            if connection is None:
                return None
            self._inode = inode
            self._connection = connection
            self.opened += 1
        return self._connection

    def _connect(self) -> apsw.Connection | None:
        connection = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            ready = self._prepare(connection)
        except (apsw.CantOpenError, apsw.ReadOnlyError):
            # A directory that may not be written has no place for the log's index.
            # Without a log there is nothing it could index, and nobody writes.
            connection.close()
            if _size(self.path + "-wal"):
                raise
            from urllib.parse import quote

            connection = apsw.Connection(
                f"file:{quote(self.path)}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            )
            ready = self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        if not ready:
            connection.close()
            return None
        return connection

    def _prepare(self, connection: apsw.Connection) -> bool:
        """Set the connection up; False while the store's writer has not made its tables."""
        connection.set_busy_timeout(_BUSY_MS)
        connection.execute("PRAGMA trusted_schema=OFF; PRAGMA temp_store=MEMORY; PRAGMA query_only=ON")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if "meta" in tables:
            meta = dict(connection.execute("SELECT key, value FROM meta"))
            needed = int(meta.get("min_reader", 0))
            if needed > SCHEMA:
                raise StoreError(
                    f"the store {self.path} needs a newer Vigie: it is readable from schema {needed} on,"
                    f" and this Vigie knows {SCHEMA}",
                    "upgrade Vigie, or run the one whose agent wrote it",
                )
        return "meta" in tables or "lengths" in tables


def _names(cursor: apsw.Cursor) -> list[str]:
    try:
        return [column[0] for column in cursor.get_description()]
    except apsw.ExecutionCompleteError:
        # There was no row, and then SQLite has nothing more to say.
        return []


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _damaged(path: str, error: Exception) -> StoreError:
    return StoreError(f"the store {path} is damaged: {error}", "vigie agent restore FILE brings a backup back")


def _explained(path: str, error: apsw.Error) -> StoreError:
    """Say what an error of SQLite means for this store."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return _damaged(path, error)
    if isinstance(error, apsw.CantOpenError | apsw.PermissionsError | apsw.ReadOnlyError):
        return StoreError(f"cannot read the store {path}: {error}", "vigie doctor looks at its permissions")
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StoreError(f"the store {path} stayed locked: {error}", "vigie agent status shows who writes it")
    return StoreError(f"cannot read the store {path}: {error}", "vigie doctor explains")
