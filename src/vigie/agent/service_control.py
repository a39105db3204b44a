"""The duty of doing what people ask of services."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from vigie.agent.core import Core, Who
from vigie.agent.service_units import Served, Unit
from vigie.agent.services import Services
from vigie.agent.submit import task_of
from vigie.errors import Conflict, NotFound, Refused, UsageError
from vigie.supervision import events as ev
from vigie.supervision.plan import MODES, Plan

__all__ = ["ServiceControl"]

#: What a change of them asks a running life to be begun anew for.
_NEW_LIFE = (
    "watchdog", "listen", "fd_store", "forking", "pid_file", "user", "group", "limits", "nice", "affinity", "umask",
)  # fmt: skip


class ServiceControl:
    """Changes services.

    Parameters
    ----------
    core:
        The agent's state.
    duty:
        The services that run.
    """

    def __init__(self, core: Core, duty: Services) -> None:
        self.core = core
        self.duty = duty
        self.store = core.store.services

    # --- what there is --------------------------------------------------------

    def set(self, request: dict[str, Any], blobs: Sequence[bytes], who: Who) -> dict[str, Any]:
        """Add a service, or change it where the request says ``replace``.

        Raises
        ------
        Conflict
            When there is one of that name and nobody said ``replace``.
        Refused
            When it belongs to somebody else.
        UsageError
            When a part of it makes no sense.
        """
        name = str(request["name"])
        known = self.duty.roster.services.get(name)
        self._may(name, known, request)
        fields = self._fields(name, request, blobs)
        before = None if known is None else known.row
        if before is None:
            self.store.add(fields)
        else:
            self.store.run("change", {**fields, "id": before.id})
        verb = "service-added" if before is None else "service-changed"
        spec = request.get("shown") or fields["spec"]
        self.core.log(
            verb, who=who, thing=f"service:{name}", before=None if before is None else before.spec, after=spec
        )
        plan = None if known is None else known.plan
        served = self._take_in(name, known)
        now = self.core.clock.wall()
        start = bool(request.get("start")) and served.row.mode == "automatic"
        running = [unit for unit in served.units if unit.one.state not in ("inactive", "failed", "backoff")]
        self.duty.fit(served, now, start=start and not running)
        if before is not None and plan is not None and _needs_new_life(before, served.row, plan, served.plan):
            self.duty.renew([unit for unit in running if unit in served.units])
        for each in self.duty.roster.dependents(name):
            for unit in each.units:
                self.duty.take(unit, ev.NeedsChanged(now))
        return {
            "name": name,
            "changed": before is not None,
            "instances": [unit.name for unit in served.units],
        }

    def _take_in(self, name: str, known: Served | None) -> Served:
        row = self.store.named(name)
        assert row is not None
        if known is None:
            known = self.duty.roster.services[name] = Served(row)
        else:
            known.take(row)
        self.duty.roster.changed()
        return known

    def _may(self, name: str, known: Served | None, request: dict[str, Any]) -> None:
        if not name or name.isdigit() or name == "last" or "@" in name:
            raise UsageError(f"{name!r} cannot be the name of a service", "no digits alone, no @, and not 'last'")
        if known is None:
            return
        owner, mine = known.row.owner, request.get("owner")
        if owner is not None and owner != mine:
            raise Refused(f"service {name} belongs to {owner}", f"change it there: vigie apply {owner}")
        if mine is not None and owner is None:
            raise Refused(f"service {name} was made by hand", f"vigie service remove {name}")
        if not request.get("replace"):
            raise Conflict(f"there is a service {name} already", f"vigie service edit {name}")

    def _fields(self, name: str, request: dict[str, Any], blobs: Sequence[bytes]) -> dict[str, Any]:
        plan = Plan.from_json(json.dumps(request.get("plan") or {}, sort_keys=True))
        mode = str(request.get("mode") or plan.mode)
        if mode not in MODES:
            raise UsageError(f"service {name}: start is {mode!r}", f"one of {', '.join(MODES)}")
        if plan.instances < 1:
            raise UsageError(f"service {name}: instances is {plan.instances}: at least one")
        wanted = {**request["task"], "timeout": None, "retries": 0, "on_lost": "fail"}
        # The tree of a life ends by the plan's own sequence; its output is bounded by the plan, over all lives.
        wanted["max_output"] = 1 << 62
        task, left = task_of(self.core, wanted, blobs)
        encodings = request.get("encodings") or [request.get("encoding", "json")]
        job = request.get("job") or {}
        return {
            "name": name, "owner": request.get("owner"), "spec": json.dumps(request.get("spec") or {}, sort_keys=True,
                                                                            separators=(",", ":")),
            "plan": plan.to_json(), "mode": mode, "task": task,
            "context": self.core.store.intern_context(request["context"]),
            "args": left[0] if left else None, "encoding": str(encodings[0]) if left else None,
            "job": json.dumps({key: job[key] for key in ("priority", "tags") if job.get(key)}),
            "changed": self.core.clock.wall(),
        }  # fmt: skip

    def remove(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Stop services, and remove each once it is down."""
        units = []
        for served in self._services(request["names"]):
            if served.row.owner is not None and not request.get("anyway"):
                owner = served.row.owner
                raise Refused(
                    f"service {served.name} belongs to {owner}", f"take it out there, and: vigie apply {owner}"
                )
            units += self.let_go(served.name, who)
        return {"instances": [self._said(unit, changed=True) for unit in units]}

    def let_go(self, name: str, who: Who) -> list[Unit]:
        """Have a service stop and go."""
        served, now = self.duty.roster.services[name], self.core.clock.wall()
        self.store.run("set_removing", (served.row.id,))
        served.row = served.row._replace(removing=1)
        self.core.log("service-stop", who=who, thing=f"service:{name}", detail="it is to be removed")
        for unit in served.units:
            self.duty.take(unit, ev.StopAsked(now, "it is to be removed"))
        self.duty.going = True
        self.duty.look_soon()
        return served.units

    # --- what is done to it -----------------------------------------------------

    def start(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Have instances up; what they need is started with them."""
        now = self.core.clock.wall()

        def start(unit: Unit) -> None:
            if unit.served.row.mode == "disabled":
                raise ev.Refusal(f"is disabled; vigie service enable {unit.served.name}")
            if unit.served.row.removing:
                raise ev.Refusal("is being removed")
            self.duty.start_needed(unit.served, now, {unit.served.name})
            self.duty.take(unit, ev.StartAsked(now))

        return self._each(request, "start", who, start)

    def stop(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Have instances down, until they are started or the machine is; ``grace`` 0 ends them at once."""
        event = ev.StopAsked(self.core.clock.wall(), "stopped", hurry=request.get("grace") == 0)

        def stop(unit: Unit) -> None:
            unit.noted.pop("renew", None)
            self.duty.take(unit, event)

        return self._each(request, "stop", who, stop, reverse=True)

    def restart(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Restart instances: those of one service one after the other."""
        units = self._units(request["names"])
        for unit in units:
            if unit.served.row.mode == "disabled" or unit.served.row.removing:
                raise Refused(f"{unit.name} is disabled", f"vigie service enable {unit.served.name}")
        now = self.core.clock.wall()
        for served in {unit.served.name: unit.served for unit in units}.values():
            self.duty.start_needed(served, now, {served.name})
            self.core.log("service-restart", who=who, thing=f"service:{served.name}")
        self.duty.renew(units)
        return {"instances": [self._said(unit, changed=True) for unit in units]}

    def reload(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Have instances read their settings anew."""
        event = ev.ReloadAsked(self.core.clock.wall())
        return self._each(request, "reload", who, lambda unit: self.duty.take(unit, event))

    def suspend(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Freeze the trees of instances, and of what requires them."""
        event = ev.PauseAsked(self.core.clock.wall())
        return self._each(request, "suspend", who, lambda unit: self.duty.take(unit, event))

    def resume(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Let them go on."""
        event = ev.ResumeAsked(self.core.clock.wall())
        return self._each(request, "resume", who, lambda unit: self.duty.take(unit, event))

    def enable(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Have services start by themselves from now on, and now."""
        for served in self._services(request["names"]):
            self._mode(served, "automatic")
        return self.start(request, who) if request.get("start", True) else self._each(request, "enable", who, _nothing)

    def disable(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Have services down, also after a boot, until they are enabled."""
        for served in self._services(request["names"]):
            self._mode(served, "disabled")
        event = ev.StopAsked(self.core.clock.wall(), "disabled")
        return self._each(request, "disable", who, lambda unit: self.duty.take(unit, event), reverse=True)

    def _mode(self, served: Served, mode: str) -> None:
        self.store.run("set_mode", (mode, self.core.clock.wall(), served.row.id))
        served.row = served.row._replace(mode=mode)

    # --- names ------------------------------------------------------------------

    def _each(
        self, request: dict[str, Any], verb: str, who: Who, do: Callable[[Unit], None], *, reverse: bool = False
    ) -> dict[str, Any]:
        """Do something to each instance; one that refuses says why, and the others go on."""
        units, answer = self._units(request["names"]), []
        for name in {unit.served.name: None for unit in units}:
            self.core.log(f"service-{verb}", who=who, thing=f"service:{name}")
        for unit in reversed(units) if reverse else units:
            before, note = unit.one, None
            try:
                do(unit)
            except ev.Refusal as refusal:
                note = f"{unit.name} {refusal}"
            answer.append(self._said(unit, changed=unit.one != before, note=note))
        return {"instances": answer}

    def _said(self, unit: Unit, *, changed: bool, note: str | None = None) -> dict[str, Any]:
        one = unit.one
        return {"name": unit.name, "state": one.state, "desired": one.desired, "cause": one.cause, "changed": changed,
                "note": note}  # fmt: skip

    def _units(self, names: Sequence[str]) -> list[Unit]:
        found: dict[str, Unit] = {}
        for name in names:
            units = self.duty.roster.named(str(name))
            if units is None:
                raise NotFound(f"no service {name}", "vigie service list")
            found |= {unit.name: unit for unit in units}
        return list(found.values())

    def _services(self, names: Sequence[str]) -> list[Served]:
        found = []
        for name in names:
            served = self.duty.roster.services.get(str(name))
            if served is None:
                unit = self.duty.roster.units.get(str(name))
                if unit is not None:
                    raise UsageError(
                        f"{name} is one of several instances", f"say it of all of them: {unit.served.name}"
                    )
                raise NotFound(f"no service {name}", "vigie service list")
            found.append(served)
        return found


def _nothing(unit: Unit) -> None:
    """Do nothing to it."""


def _needs_new_life(before: Any, after: Any, old: Plan, new: Plan) -> bool:
    """Tell whether a change counts only for a life that begins after it."""
    if (before.task, before.context, before.args) != (after.task, after.context, after.args):
        return True
    return any(getattr(old, key) != getattr(new, key) for key in _NEW_LIFE)
