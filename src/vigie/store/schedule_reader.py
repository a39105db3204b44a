"""The reading side of schedules; like all reading, it needs no agent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from vigie.errors import NotFound
from vigie.store import sql
from vigie.store.readonly import ReadOnly, Row

__all__ = ["ScheduleReader"]

#: Rows to a statement.
PAGE = 500
_LAST = (1 << 63) - 1


class ScheduleReader:
    """Reads what the store says of schedules.

    Parameters
    ----------
    store:
        The store, opened for reading.
    """

    def __init__(self, store: ReadOnly) -> None:
        self._store = store
        self._sql = sql.load("read_schedules")

    def all(self, names: Sequence[str] | None = None) -> Iterator[Row]:
        """Give all of them, or those of some names, by name."""
        after = ""
        while True:
            chosen = None if names is None else json.dumps(list(names))
            page = self._rows("schedules", names=chosen, after=after, limit=PAGE)
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1]["name"]

    def names(self) -> list[str]:
        """Give all names."""
        return [row["name"] for row in self._rows("names")]

    def get(self, name: str) -> Row:
        """Give one by its name.

        Raises
        ------
        NotFound
            When there is none, naming near ones.
        """
        for row in self.all([name]):
            return row
        import difflib

        close = difflib.get_close_matches(name, self.names(), 3)
        hint = f"did you mean {' or '.join(close)}?" if close else "vigie schedule list"
        raise NotFound(f"there is no schedule {name}", hint)

    def history(self, number: int, limit: int, now: int, before: int = _LAST) -> list[Row]:
        """Give its firings up to ``now``, newest first."""
        return self._rows("history", schedule=number, before=before, now=now, limit=limit)

    def at(self, number: int, instant: int) -> Row | None:
        """Give the record that speaks of an instant (µs UTC), or else of the last one before it."""
        return next(iter(self._rows("at", schedule=number, at=instant)), None)

    def ended(self, name: str, limit: int = 1000) -> list[Row]:
        """Give how its newest jobs ended: ``state, duration``."""
        return self._rows("ended", name=name, limit=limit)

    def coming(self, limit: int) -> list[Row]:
        """Give who comes next: ``name, next, due``."""
        return self._rows("coming", limit=limit)

    def firing_of(self, job: int) -> Row | None:
        """Give the firing of a job."""
        return next(iter(self._rows("firing_of", job=job)), None)

    def declared(self, kind: str | None = None) -> list[Row]:
        """Give what files declare besides schedules: ``kind, name, owner, spec``."""
        return self._rows("declared", kind=kind)

    def _rows(self, name: str, /, **bind: Any) -> list[Row]:
        # A store that no agent of this Vigie has opened yet has none of them.
        if not self._store.rows("SELECT 1 FROM sqlite_schema WHERE name = 'schedules'", {}):
            return []
        return self._store.rows(self._sql[name], bind)
