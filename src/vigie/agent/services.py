"""The duty of services: each instance goes through its states by the table of ``supervision/life.py``.

What is learnt (a life has begun or ended, a person asks, a probe has found something, the
service says something) becomes an event, is taken in the writer's transaction, and
the new state is written there together with the life that it begins: so a crash leaves
either the end of one life or the beginning of the next, and never neither.
"""

from __future__ import annotations

import asyncio
import shlex
import signal as signals
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from vigie import lifecycle as lc
from vigie.agent.core import NOBODY, Core, Who
from vigie.agent.errands import Errands
from vigie.agent.keeper_link import KeeperLink
from vigie.agent.lookout import Lookout
from vigie.agent.service_hands import ServiceHands
from vigie.agent.service_units import Roster, Served, Unit
from vigie.agent.service_waits import ServiceWaits
from vigie.agent.trees import Trees
from vigie.agent.writer import Writer
from vigie.config import Home
from vigie.model import FINISHED, TASK_DEFAULTS
from vigie.store.rows import JobRow
from vigie.store.services import InstanceRow
from vigie.supervision import events as ev
from vigie.supervision.life import on_its_way, step
from vigie.supervision.needs import lacking, waits_for
from vigie.supervision.plan import instance_names

__all__ = ["QUEUE", "Services"]

QUEUE = "services"
#: A hook that takes longer (µs) has failed.
HOOK_TIME = 90_000_000

BY_AGENT = Who(program="service")
E = ev.Effect


class Services:
    """Keeps services as they are wanted.

    Parameters
    ----------
    home, core, writer, trees, keeper, loop:
        Of the agent.
    """

    def __init__(
        self, home: Home, core: Core, writer: Writer, trees: Trees, keeper: KeeperLink, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.home = home
        self.core = core
        self.writer = writer
        self.trees = trees
        self.keeper = keeper
        self.loop = loop
        self.store = core.store.services
        self.roster = Roster()
        #: Lives that have not ended, and the jobs of hooks: whose they are, and which hook.
        self.lives: dict[int, Unit] = {}
        self.hooks: dict[int, tuple[Unit, str]] = {}
        self.waits = ServiceWaits(self)
        self.errands = Errands(self)
        self.hands = ServiceHands(self)
        self._events: deque[tuple[Unit, ev.Event]] = deque()
        self._busy = False
        #: Whether a look is to follow the commit, and whether some instances or services are to go.
        self._looking = False
        self.going = True
        #: Of ended lives, whether the keeper sees something of their trees.
        self.left: dict[int, bool] = {}

    # --- taking events ----------------------------------------------------------

    def post(self, unit: Unit, kind: Callable[..., ev.Event], **fields: Any) -> None:
        """Have an event of the life under way taken in the next transaction."""
        self.writer.post(self._posted, unit.name, unit.job, kind, fields)

    def _posted(self, name: str, job: int | None, kind: Callable[..., ev.Event], fields: dict[str, Any]) -> None:
        unit = self.roster.units.get(name)
        if unit is not None and unit.job == job:
            self.take(unit, kind(self.core.clock.wall(), **fields))

    def take(self, unit: Unit, event: ev.Event) -> None:
        """Take an event, and all that follows from it, in the open transaction.

        Raises
        ------
        Refusal
            When a person asks for what cannot be; nothing has changed then.
        """
        if self._busy:
            self._events.append((unit, event))
            return
        self._busy = True
        try:
            self._one(unit, event)
            while self._events:
                self._one(*self._events.popleft())
        finally:
            self._busy = False
            self._events.clear()

    def _one(self, unit: Unit, event: ev.Event) -> None:
        if self.roster.units.get(unit.name) is not unit:
            return
        before = unit.one
        new, effects = step(before, event, unit.plan, self.needs(unit.served))
        unit.one = new
        for effect in effects:
            _EFFECTS[effect](self, unit)
        if new != before or effects:
            self.write(unit)
        if (new.state, new.cause) != (before.state, before.cause):
            self._log(unit, before, event)
        if new.state != before.state or new.at != before.at:
            self._turn(unit.served)
            self.look_soon()

    def write(self, unit: Unit) -> None:
        """Write how an instance stands."""
        self.store.stand(unit.id, unit.one, unit.job, unit.noted)

    def _log(self, unit: Unit, before: ev.Instance, event: ev.Event) -> None:
        one = unit.one
        self.core.log(
            "service-state", unit.job if one.state != "inactive" else None, thing=f"service:{unit.name}",
            who=BY_AGENT, before=before.state, after=one.state, detail=one.cause, at=event.now,
        )  # fmt: skip

    def needs(self, served: Served) -> str | None:
        """Say what a life of a service would have to wait for now."""
        plan = served.plan
        return waits_for(plan, self.roster.look) if plan.requires or plan.after or plan.wants else None

    def start_needed(self, served: Served, now: int, seen: set[str]) -> None:
        """Start what a service requires and wants, unless it is up, and what those do."""
        for name in (*served.plan.requires, *served.plan.wants):
            other = self.roster.services.get(name)
            if other is None or name in seen or other.row.mode == "disabled" or other.row.removing:
                continue
            seen.add(name)
            self.start_needed(other, now, seen)
            for unit in other.units:
                if unit.one.desired == "down":
                    self.take(unit, ev.StartAsked(now, "needed"))

    def _tell(self, unit: Unit) -> None:
        """Let those behind a service know that it stands otherwise."""
        now = self.core.clock.wall()
        for served in self.roster.dependents(unit.served.name):
            missing = lacking(served.plan, self.roster.look)
            looks = [self.roster.look(name) for name in served.plan.requires]
            frozen = any(look is not None and look.state == "paused" for look in looks)
            for other in served.units:
                if frozen and other.one.state in ("ready", "degraded", "reloading"):
                    self._events.append((other, ev.PauseAsked(now, "needs")))
                elif not frozen and other.one.paused_by == "needs":
                    self._events.append((other, ev.ResumeAsked(now, "needs")))
                self._events.append((other, ev.NeedsChanged(now, missing)))

    # --- rolling restarts -------------------------------------------------------

    def renew(self, units: Sequence[Unit]) -> None:
        """Restart instances one after the other, each when the one before is ready."""
        for unit in units:
            unit.noted["renew"] = True
            self.write(unit)
        for served in {unit.served.name: unit.served for unit in units}.values():
            self._turn(served)

    def _turn(self, served: Served) -> None:
        """Let the next instance have its turn, once the one before has come through."""
        waiting = [unit for unit in served.units if unit.noted.get("renew")]
        if not waiting or any(on_its_way(unit.one) for unit in served.units):
            return
        renewed = [unit for unit in served.units if unit.noted.get("renewed")]
        for unit in renewed:
            del unit.noted["renewed"]
            self.write(unit)
        failed = next((unit for unit in renewed if unit.one.state in ("backoff", "failed")), None)
        if failed is not None:
            for unit in waiting:
                del unit.noted["renew"]
                self.write(unit)
            why = f"{failed.name} is in {failed.one.state}: {failed.one.cause}"
            self.core.log("service-halted", thing=f"service:{served.name}", who=BY_AGENT, detail=why)
            return
        first = waiting[0]
        del first.noted["renew"]
        first.noted["renewed"] = True
        self.write(first)
        self._events.append((first, ev.RestartAsked(self.core.clock.wall())))
        if not self._busy:
            self.take(*self._events.popleft())

    # --- effects: in the transaction ----------------------------------------------

    def _spawn(self, unit: Unit) -> None:
        core, served = self.core, unit.served
        job = self._insert(unit, unit.name, served.row.task, served.row.args, served.row.encoding)
        unit.job = job
        self.lives[job] = unit
        core.log("submitted", job, who=BY_AGENT, thing=f"service:{unit.name}", after="queued")
        if served.plan.listen:
            core.at_once(self.hands.open_sockets, served)
        for (old,) in self.store.run("old_lives", (served.name, served.plan.history)).fetchall():
            if not any(old == other.job for other in served.units):
                self._delete(old)

    #: Set by main: removes an ended job with its files.
    delete: Callable[[int, Who], None] = staticmethod(lambda job, who: None)

    def _delete(self, job: int) -> None:
        self.delete(job, BY_AGENT)

    def _insert(self, unit: Unit, name: str, task: int, args: bytes | None, encoding: str | None) -> int:
        core, served = self.core, unit.served
        job = core.store.take_ids(1)
        priority = int(served.job.get("priority") or 0)
        self.store.run("insert_life", (
            job, name, task, served.row.context, args, encoding, priority, core.clock.wall(), served.name,
        ))  # fmt: skip
        for tag in served.job.get("tags") or ():
            self.store.run("set_tag", (tag, job))
        core.arrive(QUEUE)
        return job

    def hook(self, unit: Unit, name: str, argv: Sequence[str], *, awaited: bool) -> None:
        """Run the command of a hook as a job of its own."""
        core = self.core
        task = {**TASK_DEFAULTS, "kind": "command", "argv": list(argv), "label": shlex.join(argv), "timeout": HOOK_TIME}
        job = self._insert(unit, f"{unit.name}: {name}", core.store.intern_task(task, None), None, None)
        core.log("submitted", job, who=BY_AGENT, thing=f"service:{unit.name}", after="queued", detail=task["label"])
        self.hooks[job] = (unit, name)
        if awaited:
            unit.noted["hook"] = job

    def _hook(self, unit: Unit, name: str, *, awaited: bool) -> None:
        argv = unit.plan.hooks.get(name)
        if argv:
            self.hook(unit, name, argv, awaited=awaited)

    def _stop_hook(self, unit: Unit) -> None:
        row = self.core.store.job(unit.noted.get("hook", 0))
        if row is not None and row.state not in FINISHED:
            self.core.step(row, lc.StopAsked(), who=BY_AGENT)

    def _job(self, unit: Unit) -> JobRow | None:
        row = None if unit.job is None else self.core.store.job(unit.job)
        return None if row is None or row.state in FINISHED else row

    def _terminate(self, unit: Unit) -> None:
        row = self._job(unit)
        if row is not None:
            self.core.step(row, lc.StopAsked(), who=BY_AGENT)
            self.core.after(self.look_whether_gone, unit.name)
        else:
            self._clear(unit)

    def _hurry(self, unit: Unit) -> None:
        row = self._job(unit)
        if row is not None:
            self.core.after(self.core.hands.terminate, row.id, row.attempt, 0)

    def _clear(self, unit: Unit) -> None:
        self.core.after(self.hands.clear, unit.name, unit.job)

    def _freeze(self, unit: Unit) -> None:
        row = self._job(unit)
        if row is not None and row.state == "running":
            self.core.step(row, lc.SuspendAsked(), who=BY_AGENT)

    def _thaw(self, unit: Unit) -> None:
        row = self._job(unit)
        if row is not None and row.state == "suspended":
            self.core.step(row, lc.ResumeAsked(), who=BY_AGENT)

    def _reload(self, unit: Unit) -> None:
        how = unit.plan.reload
        if isinstance(how, str):
            self.core.after(self.hands.reload, unit, int(getattr(signals, f"SIG{how}")))
        elif how is not None:
            self.hook(unit, "reload", how, awaited=False)

    def _slow(self, unit: Unit) -> None:
        longest = unit.plan.backoff_max / 1e6
        detail = f"{unit.one.failures} failures in a row; it is tried every {longest:g} s from now on"
        self.core.log("service-slow", thing=f"service:{unit.name}", who=BY_AGENT, detail=detail)

    # --- effects: after it ----------------------------------------------------------

    def _follow(self, unit: Unit) -> None:
        self.core.after(self._look_after, unit.name)

    def _look_after(self, name: str) -> None:
        """Set the alarms and probes that the state asks for."""
        unit = self.roster.units.get(name)
        if unit is None:
            return
        quiet = unit.one.state in ("inactive", "failed", "paused") or unit.one.at in ("before_start", "spawn")
        if unit.lookout is None:
            if quiet:
                return
            unit.lookout = Lookout(self, unit)
        if quiet:
            unit.lookout.drop()
            unit.lookout = None
        else:
            unit.lookout.follow()

    def _listen(self, unit: Unit) -> None:
        self.core.after(self.hands.await_connection, unit.served)

    def look_soon(self) -> None:
        """Have :meth:`settled` called after the commit, once however often this is said before it."""
        if not self._looking:
            self._looking = True
            self.core.after(self.settled)

    def settled(self) -> None:
        """See to what waits until services have come to rest."""
        self._looking = False
        self.waits.look()
        if self.going:
            self._see_off()
        self.hands.close_unwanted()

    def _see_off(self) -> None:
        """Forget the instances and services that were to go, once they are down."""
        leaving = [unit for unit in self.roster.units.values() if unit.noted.get("leaving")]
        removing = [served for served in self.roster.services.values() if served.row.removing]
        self.going = bool(leaving or removing)
        if any(unit.one.state in ("inactive", "failed") for unit in leaving):
            self.writer.post(self.drop_leaving)
        for served in removing:
            if all(unit.one.state in ("inactive", "failed") and not self._tree_busy(unit) for unit in served.units):
                self.writer.post(self._remove, served.name)

    def _tree_busy(self, unit: Unit) -> bool:
        return unit.job is not None and self.trees.busy(unit.job)

    # --- what becomes of lives --------------------------------------------------------

    def began(self, job: int) -> None:
        """Take note that the process of a life runs (after the commit that says so for the job)."""
        unit = self.lives.get(job)
        if unit is not None and unit.job == job:
            self.take(unit, ev.Began(self.core.clock.wall()))

    def job_ended(self, row: JobRow, new: lc.State) -> None:
        """Take note, in the transaction that writes it, that a life or a hook has ended."""
        now = self.core.clock.wall()
        hook = self.hooks.pop(row.id, None)
        if hook is not None:
            unit, name = hook
            if unit.noted.get("hook") == row.id:
                del unit.noted["hook"]
                self.write(unit)
            self.take(unit, ev.HookEnded(now, name, None if isinstance(new, lc.Completed) else _how(new)[0]))
            return
        life = self.lives.pop(row.id, None)
        if life is None or life.job != row.id:
            return
        how, name, code = _how(new)
        never = isinstance(new, lc.Failed) and new.reason == "spawn"
        left = self.left.pop(row.id, True) and not never and not isinstance(new, lc.Lost)
        self.take(life, ev.Ended(now, self.core.chance(), how, name, code, never, left))
        if life.one.state == "stopping" and life.one.at == "signals":
            self.core.after(self.look_whether_gone, life.name)

    def tree_ended(self, job: int) -> None:
        """Take note that nothing is left of a tree, or that nothing more can be done about it."""
        for unit in self.roster.units.values():
            if unit.job == job:
                self.look_whether_gone(unit.name)
        self.settled()

    def look_whether_gone(self, name: str) -> None:
        """See whether a life that is being ended is over, process and tree."""
        unit = self.roster.units.get(name)
        if unit is None or unit.one.state != "stopping" or unit.one.at != "signals":
            return
        if self._job(unit) is not None or self._tree_busy(unit):
            return
        left = self.trees.left.get(unit.job or 0)
        said = None if not left else "process " + ", ".join(map(str, left))
        self.post(unit, ev.Gone, chance=self.core.chance(), left=said)

    def look_again(self) -> None:
        """See what has become of all that is being ended: nobody could look before."""
        for name in list(self.roster.units):
            self.look_whether_gone(name)

    # --- what the store says ------------------------------------------------------------

    def learn(self) -> None:
        """Learn from the store how everything stands, at the start and after a rollback."""
        self.roster.fill(self.store.all(), self.store.instances())
        self._events.clear()
        self._busy = self._looking = False
        self.going = True
        self.lives.clear()
        hooks = {}
        for unit in self.roster.units.values():
            if self._job(unit) is not None and unit.job is not None:
                self.lives[unit.job] = unit
            waited = unit.noted.get("hook")
            if waited is not None:
                hooks[waited] = (unit, unit.one.at or "")
            self.core.after(self._look_after, unit.name)
        # Those that nobody waits for are known to this agent alone.
        kept = {job: (self.roster.units.get(unit.name), name) for job, (unit, name) in self.hooks.items()}
        self.hooks = {job: (unit, name) for job, (unit, name) in kept.items() if unit is not None} | hooks

    def begin(self) -> None:
        """Take up the work of the agent before; after a boot, start what starts by itself."""
        boot, now = self.core.owner[2], self.core.clock.wall()
        booted = self.core.store.meta("services-boot") != boot
        self.core.store.run("set_meta", ("services-boot", boot))
        for served in list(self.roster.services.values()):
            for unit in served.units:
                if booted:
                    self._after_boot(unit, now)
                else:
                    self._take_up(unit, now)
        if booted:
            for served in list(self.roster.services.values()):
                if served.row.mode == "automatic" and not served.row.removing:
                    for unit in served.units:
                        self.take(unit, ev.StartAsked(now, "boot"))
        self.look_soon()

    def _after_boot(self, unit: Unit, now: int) -> None:
        before = unit.one
        unit.one = ev.Instance(cause="the machine was restarted", since=now)
        unit.noted.clear()
        if before.state != "inactive":
            self._log(unit, before, ev.Gone(now))
        self.write(unit)

    def _take_up(self, unit: Unit, now: int) -> None:
        """Take what has happened to an instance and was not yet taken."""
        one = unit.one
        if one.state == "inactive" and one.at == "waits":
            self.take(unit, ev.NeedsChanged(now, lacking(unit.plan, self.roster.look)))
        elif one.at == "listens":
            self._listen(unit)
        elif one.at == "spawn" and unit.job is not None and self.store.run("begun", (unit.job,)).fetchone():
            self.take(unit, ev.Began(now))
        self._turn(unit.served)

    # --- instances come and go --------------------------------------------------------------

    def fit(self, served: Served, now: int, *, start: bool) -> None:
        """Give a service as many instances as its plan says."""
        names = instance_names(served.name, served.plan.instances)
        known = {unit.name: unit for unit in served.units}
        up = start or served.wanted
        for name in names:
            if name not in known:
                self.roster.add(
                    served, InstanceRow.fresh(self.store.add_instance(served.row.id, name, now), served.row, name, now)
                )
        for name, unit in known.items():
            if name not in names:
                unit.noted["leaving"] = self.going = True
                self.write(unit)
                self.take(unit, ev.StopAsked(now, "there are fewer instances now"))
        self.drop_leaving()
        if up:
            self.start_needed(served, now, {served.name})
            for unit in list(served.units):
                if unit.name not in known or start:
                    self.take(unit, ev.StartAsked(now, "person" if start else "needed"))

    def drop_leaving(self) -> None:
        """Forget the instances of which there are fewer now, once they are down."""
        for unit in list(self.roster.units.values()):
            if unit.noted.get("leaving") and unit.one.state in ("inactive", "failed"):
                self.store.run("remove_instance", (unit.id,))
                unit.served.units.remove(unit)
                del self.roster.units[unit.name]
                self.core.after(self.hands.quiet, unit.name)
                self.look_soon()

    def _remove(self, name: str) -> None:
        served = self.roster.services.get(name)
        if served is None or not served.row.removing:
            return
        self.remove_now(name, BY_AGENT)

    def remove_now(self, name: str, who: Who = NOBODY) -> None:
        """Remove a service that is down."""
        served = self.roster.services.pop(name)
        for unit in served.units:
            self.roster.units.pop(unit.name, None)
            self.core.after(self.hands.quiet, unit.name)
        self.roster.changed()
        self.store.run("remove", (served.row.id,))
        self.core.log("service-removed", thing=f"service:{name}", who=who, before=served.row.spec)
        self.core.after(self.hands.close_sockets, name)
        self.look_soon()


def _how(new: lc.State) -> tuple[str, str, int | None]:
    """Give how a job ended: in words, as ``exits`` calls it, and its exit code."""
    match new:
        case lc.Completed(code):
            return f"exit {code or 0}", str(code or 0), code or 0
        case lc.Failed("signal" | "oom" as reason, _, number, message) if number is not None:
            name = signals.Signals(number).name if number in signals.valid_signals() else str(number)
            more = f" ({message})" if message and reason == "oom" else ""
            return f"{name}{more}", name.removeprefix("SIG"), None
        case lc.Failed(_, code, _, message) if code is not None:
            return f"exit {code}", str(code), code
        case lc.Failed(reason, _, _, message):
            return message or reason, "", None
        case lc.Lost(message):
            return message or "nobody knows how it ended", "", None
    return "was stopped", "", None


_EFFECTS: dict[ev.Effect, Callable[[Services, Unit], None]] = {
    E.SPAWN: Services._spawn,
    E.BEFORE_START: lambda duty, unit: duty._hook(unit, "before_start", awaited=True),
    E.AFTER_START: lambda duty, unit: duty._hook(unit, "after_start", awaited=False),
    E.BEFORE_STOP: lambda duty, unit: duty._hook(unit, "before_stop", awaited=True),
    E.AFTER_EXIT: lambda duty, unit: duty._hook(unit, "after_exit", awaited=True),
    E.ON_FAILURE: lambda duty, unit: duty._hook(unit, "on_failure", awaited=False),
    E.STOP_HOOK: Services._stop_hook,
    E.TERMINATE: Services._terminate,
    E.HURRY: Services._hurry,
    E.CLEAR: Services._clear,
    E.FREEZE: Services._freeze,
    E.THAW: Services._thaw,
    E.RELOAD: Services._reload,
    E.WATCH: Services._follow,
    E.UNWATCH: Services._follow,
    E.ARM: Services._follow,
    E.LISTEN: Services._listen,
    E.SLOW: Services._slow,
    E.TELL: Services._tell,
}
