"""The reading side of files that were applied: what each owns, and how it stands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from vigie.store import sql
from vigie.store.reader import Reader
from vigie.store.readonly import Row

__all__ = ["ManifestReader"]

#: Rows to a statement.
PAGE = 2_000


class ManifestReader:
    """Reads what the store says of files; one that no agent of this Vigie has opened yet says nothing.

    Parameters
    ----------
    reader:
        The store, opened for reading.
    """

    def __init__(self, reader: Reader) -> None:
        self._store = reader._store
        self._sql = sql.load("read_manifests")

    def file(self, owner: str, project: str | None) -> list[Row]:
        """Give what a file said of itself when it was applied, and who else has its project's name."""
        return self._rows("file", owner=owner, name=project or owner)

    def schedules(self, owner: str) -> Iterator[tuple[str, str]]:
        """Give name and table (JSON) of each schedule of a file."""
        after = ""
        while page := self._rows("schedules", owner=owner, after=after, limit=PAGE):
            yield from ((row["name"], row["spec"]) for row in page)
            after = page[-1]["name"]

    def services(self, owner: str) -> list[tuple[str, str]]:
        """Give name and table (JSON) of each service of a file."""
        return [(row["name"], row["spec"]) for row in self._rows("services", owner=owner)]

    def plans(self) -> list[tuple[str, str]]:
        """Give name and plan (JSON) of every service."""
        return [(row["name"], row["plan"]) for row in self._rows("plans")]

    def standing(self, names: Sequence[str]) -> dict[str, Row]:
        """Give how some schedules stand, by name."""
        return {row["name"]: row for some in _pages(names) for row in self._rows("standing", names=some)}

    def declared(self, owner: str) -> list[Row]:
        """Give the tasks and queues of a file: ``kind, name, spec``."""
        return self._rows("declared", owner=owner)

    def one(self, kind: str, name: str) -> Row | None:
        """Give a declared thing: ``name, owner, spec``."""
        return next(iter(self._rows("one", kind=kind, name=name)), None)

    def owners(self, kind: str, names: Sequence[str]) -> dict[str, str]:
        """Give who has those of some names that are there: a file, or nobody (empty) for what was made by hand."""
        rows = (row for some in _pages(names) for row in self._rows("owners", kind=kind, names=some))
        return {row["name"]: row["owner"] for row in rows}

    def queues(self) -> dict[str, Row]:
        """Give how queues are set, by name."""
        return {row["name"]: row for row in self._rows("queues")}

    def _rows(self, name: str, /, **bind: Any) -> list[Row]:
        # A store that no agent of this Vigie has opened yet has none of them.
        if not self._store.rows("SELECT 1 FROM sqlite_schema WHERE name = 'services'", {}):
            return []
        return self._store.rows(self._sql[name], bind)


def _pages(names: Sequence[str]) -> Iterator[str]:
    for at in range(0, len(names), PAGE):
        yield json.dumps(names[at : at + PAGE])
