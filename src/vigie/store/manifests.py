"""What the agent reads and writes when a file is applied, by named queries (manifests.sql).

The rows of a file wait in temporary tables until all of them are there: these belong
to the connection alone, cost the log nothing, and are taken back with the transaction
that filled them. Then one statement for each table moves all of them at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vigie.store import sql
from vigie.store.schedules import ScheduleRow

if TYPE_CHECKING:
    from vigie.store.sqlite import Store

__all__ = ["Manifests", "parse_part"]

#: Rows of one kind, as they are sent: kind, rows.
Part = list[tuple[str, list[list[Any]]]]


class Manifests:
    """The part of a store that takes whole files; all methods run inside the store's transaction."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._sql = sql.load("manifests")

    def run(self, name: str, bind: Sequence[Any] = ()) -> Any:
        """Run a named query."""
        return self.store.db.execute(self._sql[name], bind)

    def first(self, name: str, bind: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Give the first row of a named query."""
        row: tuple[Any, ...] | None = self.run(name, bind).fetchone()
        return row

    def column(self, name: str, bind: Sequence[Any] = ()) -> list[Any]:
        """Give the first column of a named query."""
        return [row[0] for row in self.run(name, bind)]

    # --- what waits -----------------------------------------------------------

    def staged(self) -> tuple[str, int] | None:
        """Give whose rows wait, and how many parts of them have come."""
        self.run("prepare")
        row = self.first("staged")
        return None if row is None else (str(row[0]), int(row[1]))

    def stage(self, of: str, parts: int, rows: Part) -> None:
        """Take a part; the first one clears what waited before."""
        if parts == 1:
            self.run("clear")
        for kind, some in rows:
            self.store.db.executemany(self._sql[f"stage_{kind}"], map(_BINDS[kind], some))
        self.run("clear_count")
        self.run("stage", (of, parts))

    def stage_context(self, digest: str, context: dict[str, Any]) -> None:
        """Take surroundings, which are stored at once: nobody refers to them yet."""
        self.run("stage_context", (bytes.fromhex(digest), self.store.intern_context(context)))

    def come(self, now: int) -> Iterable[ScheduleRow]:
        """Give those that are to come at other times, and of which something has come that may have no record yet."""
        return [ScheduleRow._make(row) for row in self.run("come", (now,))]

    def touched(self) -> Iterable[ScheduleRow]:
        """Give those among what waited that count from their runs or wait for something, as they are now."""
        return [ScheduleRow._make(row) for row in self.run("eventful")]


def _task(row: list[Any]) -> list[Any]:
    row[0] = bytes.fromhex(row[0])
    if row[2] is not None:
        row[2] = os.fsencode(row[2])
    return row


def _schedule(row: list[Any]) -> list[Any]:
    row[4], row[5] = bytes.fromhex(row[4]), bytes.fromhex(row[5])
    return row


def _same(row: list[Any]) -> list[Any]:
    return row


_BINDS = {"task": _task, "schedule": _schedule, "declared": _same, "served": _same, "gone": _same}


def parse_part(data: bytes) -> Part:
    """Read a part as it is sent.

    Raises
    ------
    ValueError
        When it is none.
    """
    found: Part = json.loads(data)
    return found
