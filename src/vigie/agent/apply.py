"""The duty of applying files: what one declares is made so in one transaction, or nothing is.

Whoever applies a file has read it, compared it with what the store says, and made the
rows of what is new or another. These come in parts, each a short request between the
requests of others, and wait aside. The last request says what they are meant for and
what they were computed from; if that is not so any more, all of it is refused, and
whoever asked computes it anew. So the long transaction does nothing but write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from vigie import __version__, zones
from vigie.agent.control import Control
from vigie.agent.core import Core, Who
from vigie.agent.schedule_control import ScheduleControl
from vigie.agent.service_control import ServiceControl
from vigie.agent.whens import read
from vigie.errors import Conflict, Refused
from vigie.store.manifests import Manifests, parse_part
from vigie.values import parse_rate

__all__ = ["Apply"]

#: A file whose instants were computed longer ago (µs) is computed anew.
STALE = 600_000_000


class Apply:
    """Takes the rows of files.

    Parameters
    ----------
    core, control, schedules, services:
        Of the agent.
    index:
        Writes down which tasks and files are declared: called after the commit.
    """

    def __init__(
        self,
        core: Core,
        control: Control,
        schedules: ScheduleControl,
        services: ServiceControl,
        index: Callable[[Sequence[tuple[str, str | None]], Sequence[str]], None],
    ) -> None:
        self.core = core
        self.control = control
        self.schedules = schedules
        self.services = services
        self.store = Manifests(core.store)
        self._index = index

    def part(self, request: dict[str, Any], blobs: Sequence[bytes], who: Who) -> dict[str, Any]:
        """Take a part of the rows of a file.

        Raises
        ------
        Conflict
            When the parts before it are not there (any more).
        """
        of, number = str(request["of"]), int(request["part"])
        if number and self.store.staged() != (of, number):
            raise Conflict("another file is being applied, or the agent was started anew", "apply it again")
        if not number:
            self.store.run("prepare")
        self.store.stage(of, number + 1, parse_part(blobs[0]))
        return {}

    def apply(self, request: dict[str, Any], blobs: Sequence[bytes], who: Who) -> dict[str, Any]:
        """Make what waits the state of things.

        Raises
        ------
        Conflict
            When something is not as it was when the rows were made.
        Refused
            When the program that made them is of another version.
        """
        if request.get("vigie") != __version__:
            raise Refused(
                f"this is Vigie {request.get('vigie')}, and the agent is {__version__}", "vigie agent restart"
            )
        self.part(request, blobs, who)
        for key, context in (request.get("contexts") or {}).items():
            self.store.stage_context(key, context)
        owner, now = str(request["owner"]), self.core.clock.wall()
        if not now - STALE <= int(request["at"]) <= now + STALE:
            raise _meanwhile("the clock was set, or it took too long")
        self._check(request, owner)
        if request.get("moved_from") is not None:
            for name in ("take_over_schedules", "take_over_services", "take_over_declared"):
                self.store.run(name, (request["moved_from"], owner))
            self.services.duty.learn()
        self._check_names(owner)
        self._write(request, owner, now, who)
        self._after()
        return {"version": int(request["version"]) + 1}

    # --- what must be so ------------------------------------------------------

    def _check(self, request: dict[str, Any], owner: str) -> None:
        """See that the file was not applied since the rows were made, and that its project is its own."""
        whose = request.get("moved_from") or owner
        name = request.get("project") or owner
        version = 0
        for known, of, spec in self.store.run("project", (whose, name)).fetchall():
            if of not in (whose, owner):
                raise _meanwhile(f"project {known} belongs to {of}")
            version = max(version, int(json.loads(spec)["version"]))
        if version != int(request["version"]):
            raise _meanwhile(f"{owner} was applied by somebody else")

    def _check_names(self, owner: str) -> None:
        taken = self.store.first("taken")
        if taken is not None:
            raise _meanwhile(f"schedule {taken[0]} was made")
        strayed = self.store.first("strayed", (owner,))
        if strayed is not None:
            raise _meanwhile(f"schedule {strayed[0]} was removed")
        other = self.store.first("others", (owner,))
        if other is not None:
            raise _meanwhile(f"{other[0]} {other[1]} belongs to {other[2]}")
        lacking = self.store.first("no_queue")
        if lacking is not None:
            raise _meanwhile(f"queue {lacking[0]}, which schedule {lacking[1]} needs, is gone")

    # --- writing --------------------------------------------------------------

    def _write(self, request: dict[str, Any], owner: str, now: int, who: Who) -> None:
        store, by = self.store, (now, who.uid, who.pid, who.program, who.terminal)
        for name in ("tell_changes", "tell_declared", "tell_gone"):
            store.run(name, by)
        store.run("tasks")
        for row in store.come(now):
            self.schedules.duty.see_to(row)
        store.run("withdraw", (now,))
        store.run("add", (owner, now))
        store.run("move")
        store.run("change", (now,))
        self._forget_again()
        store.run("remove", (owner,))
        self._queues(owner, who)
        self._services(owner, who)
        store.run("declare", (owner, now))
        store.run("undeclare", (owner,))
        store.run("drop_projects", (owner,))
        project = request.get("project")
        spec = json.dumps({"project": project, "version": int(request["version"]) + 1})
        store.run("declare_project", (project or owner, owner, spec, now))
        self.core.log("applied", who=who, thing=f"file:{owner}", detail=request.get("counts"))

    def _queues(self, owner: str, who: Who) -> None:
        """Set the file's queues; one that has left it goes, unless somebody needs it."""
        for name, spec in self.store.run("new_queues").fetchall():
            table = json.loads(spec)
            rate = table.get("rate")
            settings = {"slots": table.get("slots"), "rate": None if rate is None else parse_rate(rate)}
            self.control.queue_set({"name": name, **settings}, who)
        for name in self.store.column("gone_names", ("queue",)):
            if self.store.first("queue_needed", (name,)) == (1,):
                self.control.queue_set({"name": name, "slots": None, "rate": None}, who)
            else:
                self.store.run("drop_queue", (name,))
                self.core.store._queues.discard(name)
                self.control.dispatch.changed(name)

    def _services(self, owner: str, who: Who) -> None:
        """Set the file's services; one that has left it is stopped, and goes."""
        for name in self.store.column("gone_names", ("service",)):
            self.services.let_go(name, who)
        for text in self.store.column("new_services"):
            self.services.set({**json.loads(text), "owner": owner}, (), who)

    # --- what follows ---------------------------------------------------------

    def _forget_again(self) -> None:
        again = self.schedules.duty.again
        if again:
            again.difference_update(self.store.column("not_again"))

    def _after(self) -> None:
        """Tell the duties of what is new, and clear up."""
        duty, store = self.schedules.duty, self.store
        for row in store.touched():
            when = read(row.triggers)
            if when.again:
                duty.follow_runs(row.name)
            if when.occasions:
                duty.happenings.baseline(row.id, when.occasions)
        for name in {name for text in store.column("zones") for name in text.split()}:
            self._know_zone(name)
        duty.happenings.learn()
        store.run("clear")
        files = store.run("known_files").fetchall()
        self.core.after(self._index, files, store.column("known_tasks"))
        self.core.after(duty.wake)

    def _know_zone(self, name: str) -> None:
        """Note what the file of a zone says, from which instants were computed."""
        prints = self.schedules._prints
        if name not in prints:
            prints[name] = zones.fingerprint(zones.load(name))
        self.schedules.store.run("know_zone", (name, prints[name]))

    def write_index(self) -> None:
        """Write the index anew: after a crash, or a restored store, it may be another's."""
        files = self.store.run("known_files").fetchall()
        self.core.after(self._index, files, self.store.column("known_tasks"))


def _meanwhile(why: str) -> Conflict:
    return Conflict(f"something changed while the file was read: {why}", "vigie apply --plan, and again")
