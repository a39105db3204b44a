"""Schedules for Python programs: add one, find those there are, and handle on each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vigie import agenda, declaration, zones
from vigie.agenda import Agenda
from vigie.handle import Job
from vigie.session import Session, session
from vigie.submission import Options, Submission
from vigie.triggers.when import When

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Schedule", "add", "schedules"]


class Schedule:
    """A handle on a schedule.

    Attributes
    ----------
    name:
        By which everybody knows it.

    Each method raises :class:`NotFound` when there is no such schedule any more.
    """

    def __init__(self, name: str, here: Session | None = None) -> None:
        self.name = name
        self._here = here or session()

    def __repr__(self) -> str:
        return f"<schedule {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and (other.name, other._here.home.root) == (self.name, self._here.home.root)

    def __hash__(self) -> int:
        return hash((self.name, self._here.home.root))

    def _agenda(self) -> Agenda:
        return Agenda(self._here.reader.schedules.get(self.name))

    def describe(self) -> dict[str, Any]:
        """Give all of it, as ``vigie schedule show --json`` does."""
        return self._agenda().json(_now(), coming=10)

    @property
    def state(self) -> str:
        """``active``, ``paused`` or ``done``."""
        return str(self._agenda().row["state"])

    @property
    def next(self) -> datetime | None:
        """The next instant at which it will come, in its zone; None if none is known."""
        found = self.coming(1)
        return found[0] if found else None

    def coming(self, count: int = 10) -> list[datetime]:
        """Give the next instants, in its zone."""
        from datetime import datetime

        plan = self._agenda()
        instants = [agenda.in_zone(instant, plan.zone) for instant in plan.coming(count, _now())]
        return [datetime.fromisoformat(text) for text in instants if text is not None]

    def history(self, count: int = 20) -> list[dict[str, Any]]:
        """Give its planned instants and what became of each, newest first, as ``schedule history --json`` does."""
        plan = self._agenda()
        rows = self._here.reader.schedules.history(plan.row["id"], count, _now())
        return [agenda.firing(row, plan.zone) for row in rows]

    def run(self) -> Job:
        """Run it once, now, in the surroundings it always has.

        Raises
        ------
        Refused
            When it runs already, and its overlap says so.
        """
        answer = self._here.client.call("schedule_run", name=self.name)
        return Job(answer["ids"][0], self._here)

    def pause(self, until: datetime | None = None) -> None:
        """Start nothing more of it, until a moment or until it is resumed."""
        fields = {} if until is None else {"until": round(until.timestamp() * 1e6)}
        self._here.client.call("schedule_pause", name=self.name, **fields)

    def resume(self) -> None:
        """Go on with a paused one."""
        self._here.client.call("schedule_resume", name=self.name)

    def remove(self) -> None:
        """Remove it; its jobs stay."""
        self._here.client.call("schedule_remove", name=self.name)


def schedules() -> list[Schedule]:
    """Give all schedules, by name.

    >>> [plan.name for plan in schedules() if plan.state == "paused"]
    []
    """
    here = session()
    return [Schedule(name, here) for name in here.reader.schedules.names()]


def add(name: str, when: Any, table: dict[str, Any], built: Callable[[Options], Submission]) -> Schedule:
    """Add a schedule, or change the one of that name, which a program may do each time it starts.

    Parameters
    ----------
    when:
        What :func:`vigie.when.when` reads, or what it gave.
    table:
        Policies and options, with the words of ``vigie.toml``.
    built:
        Makes the submission of its options.
    """
    here = session()
    triggers = when if isinstance(when, When) else None
    words = dict(table)
    if triggers is None:
        words["when"] = when
        words.setdefault("timezone", zones.load(None).name)
    found = declaration.schedule(name, words, built=built, triggers=triggers)
    fields, blobs = found.request(replace=True)
    here.client.call_with_blobs("schedule_set", blobs, **fields)
    return Schedule(name, here)


def _now() -> int:
    return time.time_ns() // 1000
