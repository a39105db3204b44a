"""Services and their instances as the agent holds them in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vigie.store.services import InstanceRow, ServiceRow
from vigie.supervision.events import Instance
from vigie.supervision.needs import best
from vigie.supervision.plan import Plan

if TYPE_CHECKING:
    from vigie.agent.lookout import Lookout

__all__ = ["Roster", "Served", "Unit"]


class Unit:
    """One instance.

    Attributes
    ----------
    one:
        How it stands, as it is written.
    job:
        Its life under way, or the last one.
    noted:
        What the duty itself keeps with it in the store: ``hook`` is the job of the hook that is waited for, ``renew``
        says that it is to be restarted when its turn has come.
    lookout:
        Its alarms and probes, while it has any.
    """

    __slots__ = ("id", "job", "lookout", "name", "noted", "one", "served", "status")

    def __init__(self, row: InstanceRow, served: Served) -> None:
        self.id = row.id
        self.name = row.name
        self.served = served
        self.one: Instance
        self.noted: dict[str, Any]
        self.one, self.noted = row.standing()
        self.job = row.job
        self.status = row.status
        self.lookout: Lookout | None = None

    @property
    def plan(self) -> Plan:
        """The plan of its service."""
        return self.served.plan

    @property
    def number(self) -> str:
        """Its number among the instances: ``1`` if there is one alone."""
        return self.name.partition("@")[2] or "1"


class Served:
    """A service with its instances, the first first."""

    __slots__ = ("job", "plan", "row", "units")

    def __init__(self, row: ServiceRow) -> None:
        self.units: list[Unit] = []
        self.take(row)

    def take(self, row: ServiceRow) -> None:
        """Be as the store says."""
        self.row = row
        self.plan = Plan.from_json(row.plan)
        self.job: dict[str, Any] = json.loads(row.job)

    @property
    def name(self) -> str:
        """Its name."""
        return self.row.name

    @property
    def wanted(self) -> bool:
        """Whether an instance of it is to be up."""
        return any(unit.one.desired != "down" for unit in self.units)


class Roster:
    """All services: by name, and who depends on whom."""

    def __init__(self) -> None:
        self.services: dict[str, Served] = {}
        self.units: dict[str, Unit] = {}
        self._behind: dict[str, tuple[str, ...]] | None = None

    def fill(self, services: list[ServiceRow], instances: list[InstanceRow]) -> None:
        """Take what the store says; alarms and probes stay with their instances."""
        before = self.units
        self.services = {row.name: Served(row) for row in services}
        by_id = {served.row.id: served for served in self.services.values()}
        self.units = {}
        self._behind = None
        for row in instances:
            unit = Unit(row, by_id[row.service])
            unit.served.units.append(unit)
            self.units[unit.name] = unit
            known = before.get(row.name)
            if known is not None and known.lookout is not None:
                unit.lookout = known.lookout
                unit.lookout.unit = unit
        for name, unit in before.items():
            if name not in self.units and unit.lookout is not None:
                unit.lookout.drop()

    def add(self, served: Served, row: InstanceRow) -> None:
        """Take an instance that is new."""
        unit = Unit(row, served)
        served.units.append(unit)
        self.units[unit.name] = unit

    def changed(self) -> None:
        """Find dependents anew: a service has come, gone or changed."""
        self._behind = None

    def look(self, name: str) -> Instance | None:
        """Give how a service stands for others; None if there is none of that name."""
        served = self.services.get(name)
        return None if served is None else best(unit.one for unit in served.units)

    def dependents(self, name: str) -> Iterator[Served]:
        """Give the services that name one as needed, wanted or before them."""
        if self._behind is None:
            found: dict[str, list[str]] = {}
            for served in self.services.values():
                plan = served.plan
                for other in {*plan.requires, *plan.wants, *plan.after}:
                    found.setdefault(other, []).append(served.name)
            self._behind = {other: tuple(names) for other, names in found.items()}
        for each in self._behind.get(name, ()):
            if each in self.services:
                yield self.services[each]

    def named(self, name: str) -> list[Unit] | None:
        """Give the instances that a name means; None if it means none."""
        if name in self.services:
            return self.services[name].units
        unit = self.units.get(name)
        return None if unit is None else [unit]
