"""Clocks, processes, signals and pidfds, as Linux has them, without any process."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from vigie.procs import Identity, Process

#: Real process numbers never come this far.
FIRST_PID = 5_000_000
FIRST_FD = 1_000_000
TICK = 10_000
SECOND = 1_000_000
NEVER = 1 << 60
INIT = 1


class Killed(BaseException):
    """The process that was executing is no more."""


class Proc:
    """One process, living, ended (``Z``) or reaped (not in the table any more)."""

    def __init__(self, pid: int, ppid: int, sid: int, ticks: int, kind: str, mark: str | None, now: int) -> None:
        self.pid = pid
        self.ppid = ppid
        self.sid = sid
        self.ticks = ticks
        self.kind = kind  # agent keeper worker command child
        self.mark = mark
        self.state = "S"
        self.reaped = False
        self.status: int | None = None
        self.subreaper = kind in ("agent", "keeper", "worker")
        self.deaf = False
        self.pending_term = False
        self.stopped_at = 0
        self.end_at = NEVER
        self.end_status = 0
        #: Between fork and exec: it still looks like its parent.
        self.twin_of: Proc | None = None
        self.exec_at = 0
        #: What it does first when it has come to its exec.
        self.on_exec: Callable[[], None] = lambda: None
        #: Effects that it carries out until it is killed; None: no limit.
        self.fuse: int | None = None
        #: The next of its effects of this name kills it.
        self.dies_at: str | None = None
        #: Tells whoever simulates its inside that it is dead.
        self.on_death: Callable[[], None] = lambda: None
        #: Those who know how it ended, once it has.
        self.knowers: set[str] = set()
        #: Whatever is told about it in a failure.
        self.born = now

    @property
    def living(self) -> bool:
        return self.state != "Z"

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.ticks)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.pid} {self.state} {self.mark}>"


class Kernel:
    """The machine between two power cuts, and after."""

    def __init__(self) -> None:
        self.wall_us = 1_750_000_000 * SECOND
        #: By how much the wall clock was set, in all.
        self.set_by = 0
        self.mono_us = 1_000 * SECOND
        self.boots = 1
        #: Whether a pidfd tells how its process ended after the reap (Linux 6.15).
        self.tells = True
        self.table: dict[int, Proc] = {}
        self.fds: dict[int, Proc] = {}
        self._next_fd = FIRST_FD
        self._last_ticks: dict[int, int] = {}
        #: How many effects processes of each kind have carried out, and which one is the last: (kind, number).
        self.effects: Counter[str] = Counter()
        self.doom: tuple[str, int] | None = None
        #: Who executes.
        self.me: Proc | None = None
        #: Called with each process that just ended.
        self.on_end: Callable[[Proc], None] = lambda proc: None
        self.log: Callable[[str], None] = lambda text: None

    # --- clocks, as ports.Clock asks for them ---------------------------------

    def wall(self) -> int:
        return self.wall_us

    def mono(self) -> int:
        return self.mono_us

    def advance(self, micros: int) -> None:
        self.wall_us += micros
        self.mono_us += micros

    def set_wall(self, by: int) -> None:
        """Set the wall clock."""
        self.wall_us += by
        self.set_by += by

    @property
    def boot(self) -> str:
        return f"boot-{self.boots}"

    def pulse(self, name: str = "") -> None:
        """Count one effect of whoever executes; its last one kills it."""
        me = self.me
        if me is None:
            return
        self.effects[me.kind] += 1
        if me.dies_at == name or self.doom == (me.kind, self.effects[me.kind]):
            self.log(f"the {me.kind} {me.pid} dies at {name}")
            raise Killed(name)
        if me.fuse is not None:
            me.fuse -= 1
            if me.fuse <= 0:
                self.log(f"the {me.kind} {me.pid} dies at {name}")
                raise Killed(name)

    # --- birth and death ------------------------------------------------------

    def _free_pid(self) -> int:
        taken = {proc.sid for proc in self.table.values()}
        pid = FIRST_PID
        while pid in self.table or pid in taken or self._last_ticks.get(pid) == self.mono_us // TICK:
            pid += 1
        return pid

    def birth(self, kind: str, parent: int, mark: str | None, *, session: int | None = None) -> Proc:
        """Make a process, with the lowest number that is free, so that numbers come again soon."""
        pid = self._free_pid()
        ticks = self.mono_us // TICK
        proc = Proc(pid, parent, session or pid, ticks, kind, mark, self.mono_us)
        self._last_ticks[pid] = ticks
        self.table[pid] = proc
        return proc

    def forked(self, proc: Proc) -> None:
        """A parent is between fork and exec of a process, and may die there; the process goes on."""
        proc.twin_of = self.table[proc.ppid]
        # Should the parent die now, it takes its time.
        proc.exec_at = self.mono_us + 50_000
        self.pulse("after fork")
        self.execute(proc)
        self.pulse("after exec")

    def execute(self, proc: Proc) -> None:
        """A process becomes what it was forked for."""
        proc.twin_of = None
        proc.on_exec()

    def die(self, proc: Proc, status: int) -> None:
        """End a process; its children go to the next subreaper above, else to init."""
        if not proc.living:
            return
        proc.state = "Z"
        proc.status = status
        proc.fuse = None
        self.on_end(proc)
        proc.on_death()
        heir = self._reaper_above(proc)
        for child in list(self.table.values()):
            if child.ppid == proc.pid:
                child.ppid = heir
                if heir == INIT and not child.living:
                    self.reap(child)
        if proc.ppid == INIT:
            self.reap(proc)

    def _reaper_above(self, proc: Proc) -> int:
        pid = proc.ppid
        while pid != INIT:
            above = self.table.get(pid)
            if above is None:
                return INIT
            if above.living and above.subreaper:
                return pid
            pid = above.ppid
        return INIT

    def reap(self, proc: Proc) -> None:
        """Take an ended process out of the table; its number is free."""
        proc.reaped = True
        if self.table.get(proc.pid) is proc:
            del self.table[proc.pid]

    def zombies_of(self, parent: Proc) -> list[Proc]:
        return [proc for proc in self.table.values() if proc.ppid == parent.pid and not proc.living]

    def wait(self) -> tuple[int, int]:
        """Reap one ended child of whoever executes, as ``waitpid(-1, WNOHANG)``."""
        assert self.me is not None
        children = [proc for proc in self.table.values() if proc.ppid == self.me.pid]
        if not children:
            raise ChildProcessError
        for child in children:
            if not child.living:
                self.reap(child)
                assert child.status is not None
                return child.pid, child.status
        return 0, 0

    def ended_child(self) -> int | None:
        """Give an ended child of whoever executes, as ``waitid`` that leaves it there."""
        assert self.me is not None
        children = [proc for proc in self.table.values() if proc.ppid == self.me.pid]
        if not children:
            raise ChildProcessError
        return next((child.pid for child in children if not child.living), None)

    def power_cut(self) -> None:
        """Everything is gone, the monotonic clock and the start times begin anew."""
        for proc in list(self.table.values()):
            if proc.living:
                proc.state = "Z"
                proc.status = None
                proc.on_death()
            proc.reaped = True
        self.table.clear()
        self.fds.clear()
        self._last_ticks.clear()
        self.boots += 1
        self.mono_us = 20 * SECOND
        self.wall_us += 30 * SECOND

    # --- signals --------------------------------------------------------------

    def kill(self, proc: Proc, number: int) -> None:
        """Send a signal to a process."""
        if not proc.living:
            return
        if number == signal.SIGKILL:
            self.die(proc, signal.SIGKILL)
        elif number == signal.SIGSTOP:
            if proc.state != "T":
                proc.state = "T"
                proc.stopped_at = self.mono_us
        elif number == signal.SIGCONT:
            if proc.state == "T":
                proc.state = "S"
                proc.end_at += self.mono_us - proc.stopped_at
                if proc.pending_term:
                    self.die(proc, signal.SIGTERM)
        elif number == signal.SIGTERM and not proc.deaf:
            if proc.state == "T":
                proc.pending_term = True
            else:
                self.die(proc, signal.SIGTERM)

    # --- what procs.py asks ---------------------------------------------------

    def find(self, identity: Identity) -> Proc | None:
        proc = self.table.get(identity.pid)
        return proc if proc is not None and proc.ticks == identity.start_ticks else None

    def scan(self) -> list[Process]:
        found = []
        for proc in self.table.values():
            mark = proc.mark if proc.twin_of is None else proc.twin_of.mark
            shown = Process(proc.pid, proc.ppid, proc.sid, proc.sid, proc.ticks, proc.kind, proc.state)
            shown._mark = mark if proc.living else None
            found.append(shown)
        return found

    def twins(self, pid: int) -> list[int]:
        """Name those between fork and exec; the next look finds them further on."""
        found = [proc for proc in self.table.values() if proc.twin_of is not None and proc.living]
        for proc in found:
            self.execute(proc)
        return [proc.pid for proc in found]

    def start_ticks(self, pid: int) -> int | None:
        proc = self.table.get(pid)
        return None if proc is None else proc.ticks

    def alive(self, identity: Identity) -> bool:
        proc = self.find(identity)
        return proc is not None and proc.living

    def open_pidfd(self, identity: Identity) -> int | None:
        self.pulse("open_pidfd")
        proc = self.find(identity)
        return None if proc is None else self._new_fd(proc)

    def open_pid(self, pid: int) -> int | None:
        proc = self.table.get(pid)
        return None if proc is None else self._new_fd(proc)

    def _new_fd(self, proc: Proc) -> int:
        self._next_fd += 1
        self.fds[self._next_fd] = proc
        return self._next_fd

    def send_signal(self, identity: Identity, number: int) -> bool:
        self.pulse(f"signal {number}")
        proc = self.find(identity)
        if proc is None:
            return False
        self.kill(proc, number)
        return True

    def exit_status(self, identity: Identity, fd: int | None) -> int | None:
        held = None if fd is None else self.fds.get(fd)
        if held is not None and held.reaped and self.tells:
            return held.status
        proc = self.find(identity)
        return None if proc is None or proc.living else proc.status

    def parent(self, identity: Identity) -> int | None:
        proc = self.find(identity)
        return None if proc is None else proc.ppid

    def boot_id(self) -> str:
        return self.boot

    def boot_ticks(self) -> int:
        return self.mono_us // TICK

    # --- what is left of os and time ------------------------------------------

    def living(self, *kinds: str) -> Iterable[Proc]:
        return [proc for proc in self.table.values() if proc.living and (not kinds or proc.kind in kinds)]


class Os:
    """The module ``os`` for code that runs in the simulation: descriptors and children are the kernel's."""

    def __init__(self, now: Callable[[], Kernel]) -> None:
        self._now = now

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def getpid(self) -> int:
        me = self._now().me
        return os.getpid() if me is None else me.pid

    def close(self, fd: int) -> None:
        if fd >= FIRST_FD:
            del self._now().fds[fd]  # twice is an error here as there
        else:
            os.close(fd)

    def set_inheritable(self, fd: int, inheritable: bool) -> None:
        return

    def waitid(self, kind: int, number: int, options: int) -> Any:
        pid = self._now().ended_child()
        return None if pid is None else SimpleNamespace(si_pid=pid)

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        return self._now().wait()

    def wait4(self, pid: int, options: int) -> tuple[int, int, None]:
        return (*self._now().wait(), None)


class Time:
    """The module ``time``; to sleep is to let the clocks go on."""

    def __init__(self, now: Callable[[], Kernel]) -> None:
        self._now = now

    def time_ns(self) -> int:
        return self._now().wall_us * 1000

    def monotonic_ns(self) -> int:
        return self._now().mono_us * 1000

    def monotonic(self) -> float:
        return self._now().mono_us / 1e6

    def sleep(self, seconds: float) -> None:
        self._now().advance(int(seconds * 1e6))

    def strftime(self, form: str) -> str:
        return str(self._now().wall_us)
