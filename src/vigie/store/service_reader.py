"""The reading side of services; like all reading, it needs no agent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vigie.errors import NotFound
from vigie.store import sql
from vigie.store.readonly import ReadOnly, Row

__all__ = ["ServiceReader"]


class ServiceReader:
    """Reads what the store says of services.

    Parameters
    ----------
    store:
        The store, opened for reading.
    """

    def __init__(self, store: ReadOnly) -> None:
        self._store = store
        self._sql = sql.load("read_services")

    def all(self, names: Sequence[str] | None = None) -> list[Row]:
        """Give all of them, or those of some names, by name, each with its ``instances``."""
        chosen = None if names is None else json.dumps(list(names))
        services = self._rows("services", names=chosen)
        one = services[0]["name"] if len(services) == 1 else None
        found: dict[str, list[Row]] = {}
        for row in self._rows("instances", service=one) if services else ():
            found.setdefault(row["service"], []).append(row)
        return [{**row, "instances": found.get(row["name"], [])} for row in services]

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
        hint = f"did you mean {' or '.join(close)}?" if close else "vigie service list"
        raise NotFound(f"there is no service {name}", hint)

    def meant(self, name: str) -> str | None:
        """Give the service that a name means, be it the service's own or that of an instance; None: it means none."""
        if self._rows("services", names=json.dumps([name])):
            return name
        return next((row["name"] for row in self._rows("service_of", name=name)), None)

    def transitions(self, instance: str, limit: int = 10) -> list[Row]:
        """Give the newest transitions of an instance: ``at, before, after, detail, job``."""
        return self._rows("transitions", object=f"service:{instance}", limit=limit)

    def lives(self, instance: str, limit: int) -> list[int]:
        """Give the jobs of the newest lives of an instance, oldest first."""
        return [row["id"] for row in reversed(self._rows("lives", name=instance, limit=limit))]

    def _rows(self, name: str, /, **bind: Any) -> list[Row]:
        # A store that no agent of this Vigie has opened yet has none of them.
        if not self._store.rows("SELECT 1 FROM sqlite_schema WHERE name = 'instances'", {}):
            return []
        return self._store.rows(self._sql[name], bind)
