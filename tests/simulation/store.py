"""The store's connection, which outlives the agent that had it."""

from __future__ import annotations

from typing import Any

import apsw

from simulation.now import Now


class Connections:
    """One connection to the store for one agent after the other, as long as the disk is what it was.

    Of a process that was killed nothing remains but the files. SQLite's recovery of them is not
    what is tested here, and costs more than all the rest: so its successor gets the connection,
    with the transaction rolled back, which is what recovery comes to.
    """

    def __init__(self) -> None:
        self._spare: apsw.Connection | None = None

    def open(self, path: str) -> apsw.Connection:
        """Stand in for ``apsw.Connection``."""
        spare, self._spare = self._spare, None
        return apsw.Connection(path) if spare is None else spare

    def give_back(self, db: apsw.Connection) -> None:
        """Take over what a dead process had open."""
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        except apsw.ConnectionClosedError:
            return
        self._spare = db
        if Now.vfs.disk.unsafe:
            self.drop()

    def drop(self) -> None:
        """Close it; nothing that its library does now reaches the disk."""
        spare, self._spare = self._spare, None
        if spare is not None:
            disk = Now.vfs.disk
            disk.frozen = True
            try:
                spare.close(True)
            finally:
                disk.frozen = disk.unsafe = False


class Apsw:
    """The module ``apsw`` for the store."""

    def __getattr__(self, name: str) -> Any:
        return getattr(apsw, name)

    def Connection(self, path: str) -> apsw.Connection:
        return Now.world.connections.open(path)
