"""What the duty of services does in the world, and what it hears from there: the keeper's sockets and notifications."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vigie.agent.keeper_fds import Copies
from vigie.agent.world import pairs
from vigie.supervision import events as ev
from vigie.supervision.plan import Plan

if TYPE_CHECKING:
    from vigie.agent.sampler import Sampler
    from vigie.agent.service_units import Served, Unit
    from vigie.agent.services import Services
    from vigie.agent.world import World

__all__ = ["ServiceHands"]


class ServiceHands:
    """Acts after the commit; hears what the keeper says of services."""

    def __init__(self, duty: Services) -> None:
        self.duty = duty
        #: Set by main.
        self.world: World
        self.sampler: Sampler
        #: Services whose sockets the keeper was asked to open.
        self._open: set[str] = set()
        #: Of instances that reload: when they were asked (mono µs), and whether they have said that they do.
        self._reloads: dict[str, tuple[int, bool]] = {}
        self.copies = Copies(duty.home)
        #: Those of them of which it has said that it has tried.
        self.opened: set[str] = set()
        #: How many descriptors an instance has given to keep.
        self.stored: dict[str, int] = {}

    # --- spawning ---------------------------------------------------------------

    def surroundings(self, unit: Unit) -> dict[str, Any]:
        """Give directory, environment and umask in which commands beside a life run."""
        row = self.duty.core.store.row("context", (unit.served.row.context,))
        env = {**pairs(row[1]), **self._variables(unit)}
        return {"cwd": os.fsdecode(row[0].rstrip(b"\0")), "env": env, "umask": row[2]}

    def _variables(self, unit: Unit) -> dict[str, str]:
        return {
            "VIGIE_HOME": self.duty.home.root,
            "VIGIE_SERVICE": unit.served.name,
            "VIGIE_INSTANCE": unit.number,
            **({} if (pid := self._pid(unit)) is None else {"MAINPID": str(pid)}),
        }

    def _pid(self, unit: Unit) -> int | None:
        begun = None if unit.job is None else self.duty.store.run("begun", (unit.job,)).fetchone()
        return None if begun is None else begun[1]

    def facts(self, job: int) -> dict[str, Any] | None:
        """Give what the keeper has to know to spawn a life or a hook, beyond what it does of any command."""
        hook = self.duty.hooks.get(job)
        if hook is not None:
            unit, name = hook
            return {"env": {**self._variables(unit), "VIGIE_HOOK": name, **self._end(unit)}}
        found = self.duty.lives.get(job)
        if found is None:
            return None
        plan = found.plan
        facts = {"env": {key: value for key, value in self._variables(found).items() if key != "MAINPID"},
                 "service": self._service(found, plan)}  # fmt: skip
        return facts if plan.umask is None else {**facts, "umask": plan.umask}

    def _service(self, unit: Unit, plan: Plan) -> dict[str, Any]:
        return {
            "key": unit.name, "listen": unit.served.name if plan.listen else None, "notify": True,
            "watchdog": plan.watchdog, "fd_store": plan.fd_store, "user": plan.user, "group": plan.group,
            "limits": plan.limits, "nice": plan.nice, "affinity": list(plan.affinity), "forking": plan.forking,
            "pid_file": plan.pid_file, "cgroup": bool(plan.limits),
        }  # fmt: skip

    def _end(self, unit: Unit) -> dict[str, str]:
        """Give how the last life ended, for its hooks."""
        end = None if unit.job is None else self.duty.store.run("end_of", (unit.job,)).fetchone()
        if end is None:
            return {}
        said = {"VIGIE_REASON": end[1] or end[0], "VIGIE_EXIT_CODE": end[2], "VIGIE_SIGNAL": end[3]}
        return {key: str(value) for key, value in said.items() if value is not None}

    def output_of(self, unit: Unit) -> list[str]:
        """Give the paths of the output of the life under way."""
        begun = None if unit.job is None else self.duty.store.run("begun", (unit.job,)).fetchone()
        if begun is None or unit.job is None:
            return []
        return [self.duty.home.job_file(unit.job, stream, begun[0]) for stream in ("out", "err")]

    def keep_logs(self, job: int, attempt: int) -> None:
        """Have the output of a life kept within what its service says."""
        unit = self.duty.lives.get(job)
        if unit is not None:
            name, store = unit.served.name, self.duty.store
            self.sampler.keep(job, attempt, name, unit.plan.logs, lambda: store.run("lives", (name,)).fetchall())

    def sequence_of(self, job: int) -> list[tuple[str, int]] | None:
        """Give the stop sequence of a life; None: it is none."""
        unit = self.duty.lives.get(job)
        unit = unit or next((each for each in self.duty.roster.units.values() if each.job == job), None)
        return None if unit is None else list(unit.plan.stop)

    # --- signals ------------------------------------------------------------------

    def clear(self, name: str, job: int | None) -> None:
        """End what a life that is over has left behind."""
        row = None if job is None else self.duty.core.store.job(job)
        if row is not None and job is not None:
            self.world.terminate(job, row.attempt, row.grace)
        self.duty.look_whether_gone(name)

    def reload(self, unit: Unit, number: int) -> None:
        """Send the signal that makes a service reload."""
        row = None if unit.job is None else self.duty.core.store.job(unit.job)
        if row is not None:
            self._reloads[unit.name] = (self.duty.core.clock.mono(), False)
            mark = self.duty.core.marks.of(row.id, row.attempt)
            self.duty.keeper.send({"op": "signal", "mark": mark, "signal": number})

    # --- sockets ------------------------------------------------------------------

    def open_sockets(self, served: Served) -> None:
        """Have the keeper open what a service listens on; what is open stays so."""
        sockets = [
            {"kind": each.kind, "address": each.address, "name": each.name, "mode": each.mode, "backlog": each.backlog}
            for each in served.plan.listen
        ]
        self.duty.keeper.send({"op": "listen", "key": served.name, "sockets": sockets})
        self._open.add(served.name)

    def await_connection(self, served: Served) -> None:
        """Have the keeper tell of the first connection."""
        self.open_sockets(served)
        self.duty.keeper.send({"op": "watch", "key": served.name})

    def close_unwanted(self) -> None:
        """Close the sockets of services that are to be down, and are."""
        for name in list(self._open):
            served = self.duty.roster.services.get(name)
            down = served is None or all(unit.one.state in ("inactive", "failed") for unit in served.units)
            if down and (served is None or not any(unit.one.at for unit in served.units)):
                self.close_sockets(name)

    def close_sockets(self, name: str) -> None:
        """Close what a service listens on."""
        if name in self._open:
            self._open.discard(name)
            self.opened.discard(name)
            self.copies.forget(name)
            self.duty.keeper.send({"op": "unlisten", "key": name})

    def quiet(self, name: str) -> None:
        """Forget an instance that there is no more: its notify socket and what it has stored."""
        self.stored.pop(name, None)
        self._reloads.pop(name, None)
        self.duty.keeper.send({"op": "quiet", "key": name})

    def keeper_is_back(self) -> None:
        """Tell a keeper, which may be another, what is to be open."""
        if self._open:
            self.copies.give()
        for served in self.duty.roster.services.values():
            if served.plan.listen and any(unit.one.state not in ("inactive", "failed") or unit.one.at
                                          for unit in served.units):  # fmt: skip
                if any(unit.one.at == "listens" for unit in served.units):
                    self.await_connection(served)
                else:
                    self.open_sockets(served)
        self.duty.errands.abandon()

    # --- what the keeper says -------------------------------------------------------

    def heard(self, said: dict[str, Any]) -> None:
        """Take a word of the keeper about services."""
        op, duty = said["op"], self.duty
        if op == "notify":
            self._notified(said)
        elif op == "connection":
            served = duty.roster.services.get(said["key"])
            for unit in served.units if served is not None else ():
                duty.post(unit, ev.Connected)
        elif op == "stranger":
            detail = f"process {said.get('pid')} of user {said.get('uid')}: {said.get('why')}"
            duty.writer.post(self._log, "service-stranger", str(said["key"]), detail)
        elif op == "remark":
            self.remark(str(said["key"]), str(said["text"]))
        elif op == "listening":
            self.opened.add(str(said["key"]))
            self.copies.fetch()
            duty.settled()
            if said.get("error"):
                duty.writer.post(self._log, "service-socket", str(said["key"]), str(said["error"]))

    def remark(self, name: str, text: str) -> None:
        """Write into the timeline what is odd about a service."""
        self.duty.writer.post(self._log, "service-remark", name, text)

    def _log(self, verb: str, name: str, detail: str) -> None:
        self.duty.core.log(verb, thing=f"service:{name}", detail=detail)

    def _notified(self, said: dict[str, Any]) -> None:
        duty, fields = self.duty, said["fields"]
        unit = duty.roster.units.get(said["key"])
        if "seq" in said:
            duty.keeper.send({"op": "heard", "through": said["seq"]})
        row = None if unit is None or unit.job is None else duty.core.store.job(unit.job)
        if unit is None or row is None or said.get("mark") not in (None, duty.core.marks.of(row.id, row.attempt)):
            return
        self._say_status(unit, fields)
        if "FDSTORE" in fields:
            self.stored[unit.name] = self.stored.get(unit.name, 0) + 1
        lookout = unit.lookout
        if "WATCHDOG_USEC" in fields and fields["WATCHDOG_USEC"].isdigit() and lookout is not None:
            lookout.watch(int(fields["WATCHDOG_USEC"]))
        if fields.get("WATCHDOG") == "1" and lookout is not None:
            lookout.ping()
        elif fields.get("WATCHDOG") == "trigger":
            duty.post(unit, ev.Ailing, chance=duty.core.chance(), cause="it has triggered its watchdog")
        if fields.get("EXTEND_TIMEOUT_USEC", "").isdigit():
            self._extend(unit, int(fields["EXTEND_TIMEOUT_USEC"]))
        if fields.get("RELOADING") == "1":
            self._reloads[unit.name] = (_number(fields.get("MONOTONIC_USEC")) or duty.core.clock.mono(), True)
            duty.post(unit, ev.Said, what="reloading")
        if fields.get("STOPPING") == "1":
            duty.post(unit, ev.Said, what="stopping")
        if fields.get("READY") == "1":
            self._says_ready(unit)

    def _says_ready(self, unit: Unit) -> None:
        asked = self._reloads.get(unit.name)
        if asked is not None and not asked[1] and unit.one.state == "reloading":
            return  # it was on its way before it was asked to reload
        self._reloads.pop(unit.name, None)
        probe = unit.plan.ready
        if (probe is not None and probe.kind == "notify") or unit.one.state == "reloading":
            self.duty.post(unit, ev.Readied)

    def _say_status(self, unit: Unit, fields: dict[str, str]) -> None:
        status = fields.get("STATUS")
        number = _number(fields.get("ERRNO"))
        if number is not None:
            status = f"{status or 'error'}: {os.strerror(number)}"
        if status is not None and status != unit.status:
            unit.status = status
            self.duty.writer.post_late(self.duty.store.run, "set_status", (status[:1_000], unit.id))

    def _extend(self, unit: Unit, micros: int) -> None:
        if unit.one.state == "stopping" and unit.job is not None:
            self.duty.trees.extend(unit.job, micros)
        elif unit.lookout is not None:
            unit.lookout.extend(micros)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
