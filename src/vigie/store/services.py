"""What the agent reads and writes of services, by named queries (services.sql)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vigie.store import sql
from vigie.supervision.events import Instance

if TYPE_CHECKING:
    from vigie.store.sqlite import Store

__all__ = ["InstanceRow", "ServiceRow", "Services"]

#: What of an instance has no column of its own.
_DETAIL = ("at", "then", "then_cause", "paused_by", "slow")


class ServiceRow(NamedTuple):
    """A service as it is stored."""

    id: int
    name: str
    owner: str | None
    spec: str
    plan: str
    mode: str
    task: int
    context: int
    args: bytes | None
    encoding: str | None
    job: str
    removing: int
    created: int
    changed: int


class InstanceRow(NamedTuple):
    """An instance as it is stored."""

    id: int
    service: int
    name: str
    desired: str
    state: str
    cause: str
    since: int
    job: int | None
    ready_since: int | None
    due: int | None
    restarts: int
    failures: int
    status: str | None
    detail: str

    @classmethod
    def fresh(cls, number: int, service: ServiceRow, name: str, now: int) -> InstanceRow:
        """Give the row of an instance that was just inserted."""
        return cls(number, service.id, name, "down", "inactive", "not started", now, None, None, None, 0, 0, None, "{}")

    def standing(self) -> tuple[Instance, dict[str, Any]]:
        """Give how it stands, and what the duty itself has noted."""
        detail: dict[str, Any] = json.loads(self.detail)
        own = {key: detail.pop(key) for key in _DETAIL if key in detail}
        lacks = tuple((source, cause) for source, cause in detail.pop("lacks", ()))
        one = Instance(
            desired=self.desired, state=self.state, cause=self.cause, since=self.since, ready_since=self.ready_since,
            due=self.due, restarts=self.restarts, failures=self.failures, lacks=lacks, **own,
        )  # fmt: skip
        return one, detail


class Services:
    """The part of a store that holds services; all methods run inside the store's transaction."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._sql = sql.load("services")

    def run(self, name: str, bind: Sequence[Any] | dict[str, Any] = ()) -> Any:
        """Run a named query."""
        return self.store.db.execute(self._sql[name], bind)

    def all(self) -> list[ServiceRow]:
        """Give every service."""
        return [ServiceRow._make(row) for row in self.run("all")]

    def named(self, name: str) -> ServiceRow | None:
        """Give a service by its name."""
        return next((ServiceRow._make(row) for row in self.run("one", (name,))), None)

    def instances(self) -> list[InstanceRow]:
        """Give every instance."""
        return [InstanceRow._make(row) for row in self.run("instances")]

    def add(self, fields: dict[str, Any]) -> int:
        """Insert a service; give its number."""
        self.run("add", fields)
        return int(self.store.db.last_insert_rowid())

    def add_instance(self, service: int, name: str, now: int) -> int:
        """Insert an instance; give its number."""
        self.run("add_instance", (service, name, now))
        return int(self.store.db.last_insert_rowid())

    def stand(self, number: int, one: Instance, job: int | None, noted: dict[str, Any]) -> None:
        """Write how an instance stands."""
        plain = Instance()
        detail: dict[str, Any] = {
            key: getattr(one, key) for key in _DETAIL if getattr(one, key) != getattr(plain, key)
        } | noted
        if one.lacks:
            detail["lacks"] = one.lacks
        self.run("stand", (
            one.desired, one.state, one.cause, one.since, job, one.ready_since, one.due, one.restarts, one.failures,
            json.dumps(detail, separators=(",", ":")), number,
        ))  # fmt: skip
