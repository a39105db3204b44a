"""How a reader sees jobs that have no row of their own (packs.py).

A query about jobs is run twice over one state of the store: over the tables, and over
views of the same columns that hold what the packs stand for. A view of both would be
simpler, and SQLite would copy a million rows for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vigie.store import sql

if TYPE_CHECKING:
    from vigie.store.readonly import ReadOnly, Row

__all__ = ["Unfolded"]

_ABOUT = re.compile(r"\b(jobs|attempts)\b")
#: A view has no index of its own.
_HINT = re.compile(r"\bINDEXED BY \w+")


class Unfolded:
    """Runs queries over tables and packs alike.

    Parameters
    ----------
    store:
        The store's connection.
    """

    def __init__(self, store: ReadOnly) -> None:
        self._store = store
        #: Which of the store's connections has the views, and the packs whose ids stand in them.
        self._opened = 0
        self._packs: set[int] = set()

    def rows(self, statement: str, bind: Row) -> list[Row]:
        """Give the rows of a query, those of jobs without a row of their own behind the others."""
        about = _ABOUT.search(statement) is not None
        if not about or not self._store.rows("SELECT 1 FROM packs LIMIT 1", {}):
            return self._store.rows(statement, bind)
        with self._store.snapshot():
            self._refresh()
            folded = _HINT.sub("", _ABOUT.sub(r"folded_\1", statement))
            return self._store.rows(statement, bind) + self._store.rows(folded, bind)

    def _refresh(self) -> None:
        """Have the ids of every pack in the temporary table."""
        store, views = self._store, sql.load("views")
        if self._opened != store.opened:
            for view in views.values():
                store.write_aside(view)
            self._opened, self._packs = store.opened, set()
        now = {row["first"]: row["last"] for row in store.rows(sql.load("packs")["ranges"], {})}
        for gone in self._packs - now.keys():
            store.write_aside("DELETE FROM temp.folded_ids WHERE pack = ?", (gone,))
        for first in now.keys() - self._packs:
            store.write_aside(
                "WITH RECURSIVE n (id) AS (SELECT ?1 UNION ALL SELECT id + 1 FROM n WHERE id < ?2)"
                " INSERT INTO temp.folded_ids SELECT id, ?1 FROM n",
                (first, now[first]),
            )
        self._packs = set(now)
