"""The world: all processes of one home, what may happen next, and what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import apsw

from simulation.agent import SimAgent
from simulation.checks import Checks
from simulation.clients import Clients
from simulation.deeds import Broken, Deed, Script, exit_of
from simulation.disk import Disk, PowerFails
from simulation.keeper import SimKeeper
from simulation.kernel import NEVER, SECOND, Kernel, Killed, Proc
from simulation.now import Now
from simulation.store import Connections
from simulation.worker import SimWorker
from vigie.agent.marks import Marks
from vigie.config import Home
from vigie.store.sqlite import Store
from vigie.workfiles import Page

Owner = SimAgent | SimKeeper | SimWorker | None
Todo = tuple[Owner, Proc | None, Callable[[], Any]]

#: A fresh store, made once.
_template: bytes | None = None


def _fresh_store(path: str) -> None:
    global _template
    if _template is None:
        apsw.set_default_vfs("unix")
        Store(path).close()
        apsw.set_default_vfs("vigie-simulation")
        with open(path, "rb") as file:
            _template = file.read()
    else:
        with open(path, "wb") as file:
            file.write(_template)


class World:
    """One machine and one home."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.kernel.on_end = self._ended
        self.kernel.log = self.note
        Now.world = self
        self.connections = Connections()
        Now.vfs.disk = Disk()
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = tempfile.mkdtemp(prefix="vgs-", dir=place)
        self.home = Home(self.root)
        self.home.create()
        _fresh_store(self.home.db)
        self.marks = Marks(self.root)
        #: Workers know from the start that some functions take no time.
        self.warm = False
        self.counts: Counter[str] = Counter()
        self.agent: SimAgent | None = None
        self.keeper: SimKeeper | None = None
        self.workers: dict[int, SimWorker] = {}
        self.deeds: dict[tuple[int, int], Deed] = {}
        #: Marks of processes that a keeper had begun and not named when it died. The next one looks for them,
        #: and takes for the main process the oldest that leads a session: a child's child, if the main process
        #: has ended by then. Nothing that Linux tells could tell them apart.
        self.nameless: set[str] = set()
        #: Marks of which a keeper has learnt the end, and then done something else: it must have written it down.
        self.noted: set[str] = set()
        #: How children of commands ended: mark -> (exit code, signal).
        self.child_ends: dict[str, set[tuple[int | None, int | None]]] = {}
        self.clients = Clients(self)
        self.checks = Checks(self)
        self.history: list[str] = []
        #: Kinds of processes that die along with one that dies of an effect.
        self.along: tuple[str, ...] = ()
        #: What a fault may explain.
        self.cuts = 0
        #: How much of the files a cut leaves that comes in the middle of something.
        self.cut_script = Script(b"")
        self._draws = 0
        self._turn = 0

    def close(self) -> None:
        """Let go of everything."""
        if self.agent is not None:
            self.agent.died()
        for proc in list(self.kernel.living("worker")):
            proc.on_death()
        if self.keeper is not None:
            self.keeper.died()
        self.connections.drop()
        shutil.rmtree(self.root, ignore_errors=True)

    def note(self, text: str) -> None:
        """Write the diary that a failure shows."""
        self.history.append(f"{self.kernel.mono_us / 1e6:.6f} {text}")

    def count(self, what: str) -> int:
        self.counts[what] += 1
        return self.counts[what]

    def chance(self) -> float:
        """Give the agent its random numbers."""
        self._draws += 1
        return self._draws * 0.37 % 1.0

    # --- one thing after the other ----------------------------------------------

    def do(self, proc: Proc, what: Callable[..., Any], *args: Any) -> None:
        """Have a process do something; it may die of it."""
        kernel = self.kernel
        kernel.me = proc
        try:
            what(*args)
        except Killed:
            kernel.die(proc, signal.SIGKILL)
            for kind in self.along:
                for other in kernel.living(kind):
                    kernel.die(other, signal.SIGKILL)
        except PowerFails:
            kernel.me = None
            self.power_cut(self.cut_script)
            return
        finally:
            kernel.me = None
        kernel.advance(37)
        if proc.kind == "agent" and self.agent is not None:
            self.checks.look()

    def todo(self) -> list[Todo]:
        """Give everything that could happen next: to whom, in which process, what."""
        found: list[Todo] = []
        agent, keeper = self.agent, self.keeper
        if agent is not None and agent.agent is not None:
            found += [(agent, agent.proc, what) for what in agent.todo()]
        if keeper is not None and keeper.keeper is not None:
            found += [(keeper, keeper.proc, what) for what in keeper.todo()]
        now = self.kernel.mono_us
        for proc in self.kernel.table.values():
            if proc.twin_of is not None:
                if proc.living and proc.exec_at <= now:
                    found.append((None, None, partial(self.kernel.execute, proc)))
            elif proc.end_at <= now and proc.state == "S":
                found.append((None, None, partial(self._end, proc)))
        for worker in self.workers.values():
            if worker.proc.twin_of is None:
                found += [(worker, worker.proc, what) for what in worker.todo()]
        found += [(None, None, what) for what in self.clients.todo()]
        return found

    def _end(self, proc: Proc) -> None:
        if proc.state == "S" and proc.end_at <= self.kernel.mono_us:
            self.kernel.die(proc, proc.end_status)

    def _happen(self, owner: Owner, proc: Proc | None, what: Callable[[], Any]) -> None:
        if proc is None:
            what()
            self.kernel.advance(11)
        elif proc.living and not (owner is not None and owner.over):
            self.do(proc, what)

    def happen(self, choice: int) -> bool:
        """Let one thing happen; False if there is none."""
        todo = self.todo()
        if not todo:
            return False
        self._happen(*todo[choice % len(todo)])
        return True

    def go(self, script: Script) -> None:
        """Let things happen as a script chooses, to its end."""
        while script.left and self.happen(script.take(256)):
            pass

    def until(self, come: Callable[[], Any], most: int = 400) -> None:
        """Let everything happen until something has come."""
        for _ in range(most):
            if come():
                return
            self._turn += 1
            if not self.happen(self._turn):
                break
        assert come(), "it never comes:\n" + "\n".join(self.history)

    def only(self, kind: str) -> Proc:
        """Give the one process of a kind."""
        (found,) = self.kernel.living(kind)
        return found

    def runs(self, job: int, attempt: int = 1) -> bool:
        """Tell whether an attempt runs."""
        deed = self.deeds.get((job, attempt))
        return deed is not None and deed.living

    def state(self, job: int) -> str:
        """Give the state of a job as the store has it."""
        assert self.agent is not None
        state, _ = self.agent.real.store.state_of(job) or (None, None)
        return str(state)

    def calm(self, most: int = 2000) -> bool:
        """Let everything happen until nothing is left, each in its turn; False if it never ends."""
        while most > 0:
            todo = self.todo()
            if not todo:
                return True
            for one in todo[:most]:
                self._happen(*one)
            most -= len(todo)
        return False

    def next_instant(self) -> int | None:
        """Give when (mono µs) something happens by itself, None if never."""
        times = [proc.end_at for proc in self.kernel.living() if proc.state != "T" and proc.end_at < NEVER]
        times += [proc.exec_at for proc in self.kernel.living() if proc.twin_of is not None]
        times += [w.end_at for w in self.workers.values() if w.running is not None and w.proc.state != "T"]
        if self.agent is not None and self.agent.agent is not None:
            timer = self.agent.loop.next_timer()
            if timer is not None:
                times.append(int(timer * 1e6) + 1)
        times = [when for when in times if when < 1 << 49]
        return max(min(times), self.kernel.mono_us) if times else None

    def pass_time(self, micros: int, *, calm: bool = True, most: int = 60) -> None:
        """Let time go by, from one alarm or end to the next."""
        until = self.kernel.mono_us + micros
        for _ in range(most):
            if calm:
                self.calm()
            when = self.next_instant()
            if when is None or when > until:
                break
            self.kernel.advance(when - self.kernel.mono_us)
            self.ring()
        if self.kernel.mono_us < until:
            self.kernel.advance(until - self.kernel.mono_us)
            self.ring()

    def ring(self) -> None:
        """Have the agent's alarms go off that are due."""
        if self.agent is not None and self.agent.agent is not None:
            self.agent.loop.ring()

    # --- processes ----------------------------------------------------------------

    def start_agent(self, proc: Proc | None = None) -> None:
        """Start an agent, as whoever needs one does, or as an agent that becomes its own successor."""
        assert self.agent is None
        agent = self.agent = SimAgent(self, proc)
        self.note(f"{agent.name} starts as {agent.proc.pid}")
        me = self.kernel.me
        self.do(agent.proc, agent.start)
        self.kernel.me = me
        self.warm_up()

    def warm_up(self) -> None:
        """Let the agent know that some functions take no time, as it would after three of them."""
        if self.warm and self.agent is not None and self.agent.agent is not None:
            agent = self.agent.agent
            for (task,) in agent.store.db.execute("SELECT id FROM tasks WHERE function = 'm:tiny'").fetchall():
                for _ in range(3):
                    agent.dispatch.measured(task, 100)

    def start_keeper(self, parent: int) -> None:
        """Start a keeper as the child of an agent."""
        keeper = self.keeper = SimKeeper(self, parent)
        self.note(f"{keeper.name} starts as {keeper.proc.pid}")
        me = self.kernel.me
        self.do(keeper.proc, keeper.start)
        self.kernel.me = me

    def begin_command(self, mark: str, spec: dict[str, Any], keeper: Proc) -> Proc:
        """A command begins."""
        job, attempt = self.marks.parse(mark) or (0, 0)
        assert attempt is not None
        self._may_begin(job, attempt, "command")
        kernel = self.kernel
        kernel.pulse("before fork")
        proc = kernel.birth("command", keeper.pid, mark)
        deed = Deed(job, attempt, "command", spec, proc, kernel.boots, kernel.mono_us)
        proc.on_death = deed.died
        proc.end_at = kernel.mono_us + spec["d"]
        number = spec.get("signal")
        proc.end_status = number if number else (spec.get("code") or 0) << 8
        proc.deaf = bool(spec.get("deaf"))
        proc.on_exec = lambda: self._bear(proc, spec)
        self.deeds[job, attempt] = deed
        self.note(f"command {job}.{attempt} begins as {proc.pid}")
        kernel.forked(proc)
        return proc

    def _bear(self, proc: Proc, spec: dict[str, Any]) -> None:
        """A command starts its children, in its session or in one of their own."""
        for deaf, away in spec.get("children", ()):
            child = self.kernel.birth("child", proc.pid, proc.mark, session=None if away else proc.sid)
            child.deaf = bool(deaf)
            child.end_at = self.kernel.mono_us + 4 * SECOND

    def begin_worker(self, mark: str, number: int, keeper: Proc) -> Proc:
        """A worker begins."""
        kernel = self.kernel
        kernel.pulse("before fork")
        proc = kernel.birth("worker", keeper.pid, mark)
        self.workers[proc.pid] = SimWorker(self, proc, number)
        self.note(f"worker {number} begins as {proc.pid}")
        kernel.forked(proc)
        return proc

    def begin_function(self, worker: SimWorker, job: Any) -> Deed:
        """A function begins in its worker."""
        self._may_begin(job.job, job.attempt, "function")
        spec = (job.both if job.both is not None else json.loads(job.args))[0][0]
        self.checks.arguments(job)
        kernel = self.kernel
        deed = Deed(job.job, job.attempt, "function", spec, worker.proc, kernel.boots, kernel.mono_us)
        self.deeds[job.job, job.attempt] = deed
        self.note(f"function {job.job}.{job.attempt} begins in worker {worker.id}, seq {job.seq}")
        return deed

    def _may_begin(self, job: int, attempt: int, kind: str) -> None:
        before = self.deeds.get((job, attempt))
        if before is not None:
            raise Broken(f"attempt {job}.{attempt} began twice; first: {before}")
        for other in self.deeds.values():
            if other.job == job and other.living:
                raise Broken(f"job {job} runs twice at once: attempt {attempt} begins beside {other}")
        self.checks.beginning(job)

    def _ended(self, proc: Proc) -> None:
        """Take note who sees the end of a process."""
        self.note(f"{proc.kind} {proc.pid} ({proc.mark}) ends, status {proc.status}")
        if proc.kind == "child" and proc.mark is not None and proc.status is not None:
            self.child_ends.setdefault(proc.mark, set()).add(exit_of(proc.status))
        keeper, agent = self.keeper, self.agent
        if keeper is not None and keeper.proc is not proc:
            if keeper.knows(proc):
                proc.knowers.add(keeper.name)
            if proc.ppid == keeper.proc.pid:
                keeper.sigchld = True
        if agent is not None and agent.proc is not proc:
            if agent.knows(proc):
                proc.knowers.add(agent.name)
            if proc.ppid == agent.proc.pid:
                agent.sigchld = True
        # The children of a dying process come to one of them as well, ended ones included.
        if proc is not (keeper and keeper.proc) and keeper is not None:
            keeper.sigchld = True
        if proc is not (agent and agent.proc) and agent is not None:
            agent.sigchld = True

    def forget_knower(self, name: str) -> None:
        """Somebody who knew is dead."""
        for deed in self.deeds.values():
            deed.proc.knowers.discard(name)
        self.note(f"{name} is dead")

    def known_end(self, deed: Deed, mark: str) -> str | None:
        """Say who could tell how a deed's process ended, None if nobody can."""
        if deed.boot != self.kernel.boots:
            return None
        if deed.proc.knowers:
            return ", ".join(sorted(deed.proc.knowers))
        return "the keeper's journal" if mark in self.noted else None

    # --- faults ---------------------------------------------------------------------

    def kill(self, proc: Proc, fuse: int) -> None:
        """Kill a process now, or when it has carried out some more effects."""
        if fuse and proc.kind in ("agent", "keeper", "worker"):
            proc.fuse = fuse
            self.note(f"{proc.kind} {proc.pid} will die after {fuse} effects")
        else:
            self.kernel.kill(proc, signal.SIGKILL)

    def power_cut(self, script: Script) -> None:
        """Lose all processes, and of the files whatever was not synced."""
        self.note("power cut")
        self.cuts += 1
        self.clients.all_die()
        self.kernel.power_cut()
        self.noted.clear()
        self.connections.drop()
        Now.vfs.disk.cut(lambda many: script.take(many + 1))
        for path in [self.home.keeper_journal]:
            _tear(path, script)
        for name in os.listdir(self.home.workers):
            directory = os.path.join(self.home.workers, name)
            _tear(os.path.join(directory, "journal"), script)
            page = os.path.join(directory, "page")
            if os.path.exists(page) and script.chance(2):
                # Its bytes reach the disk when they like; here they never did.
                os.unlink(page)
                Page.create(page).close()
        self.checks.after_cut()

    # --- the end ----------------------------------------------------------------------

    def settle(self) -> None:
        """End all faults and let time go on until everything is at rest; then look at all of it."""
        Now.vfs.disk.trouble = Now.vfs.disk.power = None
        self.kernel.doom = None
        for proc in self.kernel.living():
            proc.fuse = proc.dies_at = None
        self.note("settling")
        if self.kernel.set_by < 0:
            self.kernel.set_wall(-self.kernel.set_by)
        self.clients.settle()
        for turn in range(3000):
            if self.agent is None:
                self.start_agent()
            if not self.calm():
                raise Broken("they talk for ever")
            if self.at_rest():
                break
            when = self.next_instant()
            if when is None:
                if not self.clients.settle():
                    raise Broken("nothing moves any more, and not everything is at rest: " + self.checks.open_work())
                continue
            self.kernel.advance(when - self.kernel.mono_us)
            self.ring()
            if turn % 100 == 50:
                self.clients.settle()
        else:
            raise Broken("it does not come to rest: " + self.checks.open_work())
        self.checks.at_end()

    def at_rest(self) -> bool:
        """Tell whether nothing is to be done any more."""
        if self.clients.waiting or any(deed.living for deed in self.deeds.values()):
            return False
        if any(True for _ in self.kernel.living("command", "child")):
            return False
        return not self.checks.open_jobs()


def _tear(path: str, script: Script) -> None:
    """Cut a file that nobody synced, somewhere."""
    if os.path.exists(path):
        size = os.stat(path).st_size
        os.truncate(path, size - size * script.take(5) // 4 if script.take(2) else size)
