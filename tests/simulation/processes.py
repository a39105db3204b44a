"""The agent, the keeper and the worker of production, each set into the simulated machine."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

import apsw

import vigie.agent.ahead
import vigie.agent.keeper_link
import vigie.agent.main
import vigie.agent.outcomes
import vigie.agent.submit
import vigie.agent.watch
import vigie.agent.worker_link
import vigie.crash
import vigie.keeper
import vigie.keeper_talk
import vigie.store.sqlite
import vigie.worker_loop
from simulation.disk import NAME, Vfs
from simulation.kernel import NEVER, Kernel, Os, Proc, Time
from simulation.wire import End, Handle, Loop, Selector, connection
from vigie import frames, procs, worker_link
from vigie.agent.keeper_link import KeeperLink
from vigie.agent.main import Agent
from vigie.agent.server import Peer
from vigie.keeper import Keeper
from vigie.keeper_spawn import SpawnError, _open_streams
from vigie.keeper_talk import Talk
from vigie.outcome import Outcome
from vigie.store.wal import settle_log
from vigie.worker_loop import Worker
from vigie.workfiles import Journal, Page

if TYPE_CHECKING:
    from simulation.world import World


class Now:
    """The world in which production code finds itself."""

    world: World
    vfs: Vfs


def kernel() -> Kernel:
    return Now.world.kernel


# --- the agent ------------------------------------------------------------------


class _Clock:
    def wall(self) -> int:
        return kernel().wall_us

    def mono(self) -> int:
        return kernel().mono_us


class _Sampler:
    """The sampler without samples: what it does to the files of a command's output is evidence for others."""

    def __init__(self, home: Any, clock: Any, loop: Any) -> None:
        self.home = home
        self._outputs: set[tuple[int, int]] = set()

    def begin(self, job: int, attempt: int, most: int) -> None:
        self._outputs.add((job, attempt))

    def spawn(self, job: int, attempt: int, most: int, *, new: bool) -> None:
        self.begin(job, attempt, most)

    def end(self, job: int, attempt: int) -> None:
        if (job, attempt) in self._outputs:
            self._outputs.remove((job, attempt))
            for name in ("out", "err"):
                path = self.home.job_file(job, name, attempt)
                if os.path.exists(path):
                    os.unlink(path)

    def forget(self, job: int) -> None:
        return

    def flush(self) -> None:
        return

    def close(self) -> None:
        return


class _OomWatch:
    def ask(self, pid: int | None) -> tuple[bool, None]:
        return False, None


class _KeeperLink(KeeperLink):
    def _reconnect(self) -> None:
        """Leave it to the world when."""


class SimAgent:
    """One life of the agent."""

    def __init__(self, world: World, proc: Proc | None = None) -> None:
        self.world = world
        kernel = world.kernel
        #: After an exec of its own it is the same process.
        self.proc = proc or kernel.birth("agent", 1, None)
        self.proc.on_death = self.died
        self.name = f"agent {world.count('agent')}"
        self.loop = Loop(kernel)
        self.over = False
        self.listening = False
        self.sigchld = False
        self.agent: Agent | None = None

    def start(self) -> None:
        """Begin as production does, up to where the keeper is asked."""
        settle_log(self.world.home.db)
        Now.vfs.disk.rewritten(self.world.home.db + "-wal")
        agent = self.agent = Agent(self.world.home, self.loop)  # type: ignore[arg-type]
        agent.core.chance = self.world.chance
        carry_out = agent.writer._carry_out

        def one_effect(what: Any, args: Any) -> None:
            self.world.kernel.pulse(getattr(what, "__name__", "effect"))
            carry_out(what, args)

        agent.writer._carry_out = one_effect  # type: ignore[method-assign]
        agent.begin()
        self.listening = True

    def todo(self) -> list[Callable[[], Any]]:
        """Give what it could do now."""
        loop = self.loop
        found: list[Callable[[], Any]] = []
        if loop.soon:
            found.append(loop.turn)
        found += [transport.receive for transport in loop.transports if transport.end.readable]
        if self.stopping:
            found.append(self.shut_down)
        if self.sigchld:
            found.append(self.reap)
        if any(not self.world.kernel.fds[fd].living for fd in loop.readers):
            found.append(self.look)
        if self.wants_keeper:
            found.append(self.meet_keeper)
        return found

    def reap(self) -> None:
        """Have SIGCHLD come."""
        self.sigchld = False
        self.real.watch.reap()

    def look(self) -> None:
        """Call a reader whose process has ended."""
        fds = self.world.kernel.fds
        fd = next((fd for fd in self.loop.readers if not fds[fd].living), None)
        if fd is not None:
            self.loop.readers[fd]()

    @property
    def real(self) -> Agent:
        assert self.agent is not None
        return self.agent

    def knows(self, proc: Proc) -> bool:
        """Tell whether it will see how a process ends."""
        known = None if self.agent is None or proc.mark is None else self.agent.watch._known.get(proc.mark)
        if known is None:
            return False
        return known[1] is not None and (self.world.kernel.tells or proc.ppid == self.proc.pid)

    def connect(self, role: str) -> End:
        """Connect to its socket; gives the other's end."""
        mine, theirs = connection(self.world.kernel)
        self.loop.attach(mine, Peer(self.real))
        return theirs

    def meet_keeper(self) -> None:
        """Do what its link does to get a keeper, one step at a time."""
        world = self.world
        if not self.wants_keeper:
            return
        if world.keeper is None:
            world.start_keeper(self.proc.pid)
            return
        mine, theirs = connection(world.kernel)
        world.keeper.listener.waiting.append(theirs)
        self.real.keeper._decoder = frames.Decoder()
        self.loop.attach(mine, self.real.keeper)

    def shut_down(self) -> None:
        """End in order, as ``Agent.run`` does when it is told to stop."""
        self.listening = False
        self.real._close()
        self.loop.turn()
        if self.real.unsafe is None:
            self.world.kernel.die(self.proc, 0)
        else:
            self.died()
            self.world.connections.drop()
            self.world.start_agent(self.proc)

    def checkpoint(self) -> None:
        """Do as the upkeep, which goes on when the disk does not let it."""
        with contextlib.suppress(apsw.Error):
            self.real.store.checkpoint()

    def retire_idle(self) -> None:
        """Let workers go that have had nothing to do, as the upkeep does for those idle for long."""
        agent = self.real
        agent.writer.post(agent.staff.retire_idle)

    @property
    def stopping(self) -> bool:
        """Whether it was told to end, or told itself."""
        return self.agent is not None and self.listening and self.agent._stopping.is_set()

    @property
    def wants_keeper(self) -> bool:
        link = self.real.keeper
        return self.listening and not link.connected and not link._closing

    def died(self) -> None:
        """Close what it had open, as the kernel does; nothing that its libraries would add happens."""
        self.listening = False
        self.over = True
        for transport in list(self.loop.transports):
            transport.end.close()
        self.loop.transports.clear()
        if self.agent is not None:
            self.world.connections.give_back(self.agent.store.db)
            for link in self.agent.world.links.values():
                if link.page is not None:
                    link.page.close()
        self.world.forget_knower(self.name)
        self.world.agent = None


# --- the keeper -----------------------------------------------------------------


class Listener:
    """A listening socket."""

    _fd = 90

    def __init__(self) -> None:
        self.waiting: deque[End] = deque()

    def fileno(self) -> int:
        return self._fd

    def setblocking(self, flag: bool) -> None:
        return

    def accept(self) -> tuple[End, None]:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.popleft(), None

    def close(self) -> None:
        return


class _Limit:
    soft = 1024

    def lift(self, fd: int | None) -> int | None:
        return fd


class _Popen:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None


class _Keeper(Keeper):
    def _catch_signals(self) -> None:
        """Leave it to the world when a signal comes."""


class SimKeeper:
    """One life of the keeper."""

    def __init__(self, world: World, parent: int) -> None:
        self.world = world
        self.proc = world.kernel.birth("keeper", parent, None)
        self.proc.on_death = self.died
        self.name = f"keeper {world.count('keeper')}"
        self.listener = Listener()
        self.over = False
        self.sigchld = False
        self.keeper: Keeper | None = None

    def start(self) -> None:
        """Read the journal and take over."""
        home = self.world.home
        with open(home.keeper_socket, "wb"):
            pass
        self.keeper = _Keeper(home, -1, self.listener, _Limit())  # type: ignore[arg-type]

    @property
    def real(self) -> Keeper:
        assert self.keeper is not None
        return self.keeper

    def knows(self, proc: Proc) -> bool:
        """Tell whether it will see how a process ends."""
        keeper = self.keeper
        if keeper is None or proc.mark is None:
            return False
        if proc.pid in keeper.own and keeper.own[proc.pid].mark == proc.mark:
            return True
        return self.world.kernel.tells and proc.mark in keeper.adopted and keeper.adopted[proc.mark].fd is not None

    def todo(self) -> list[Callable[[], Any]]:
        """Give what it could do now."""
        keys: dict[int, Selector.Key] = self.real.selector.keys  # type: ignore[attr-defined]
        found: list[Callable[[], Any]] = [
            partial(self.serve, number) for number, key in keys.items() if self._ready(number, key)
        ]
        if self.sigchld:
            found.append(self.reap)
        if self.real.ending:
            found.append(self.leave)
        return found

    def _ready(self, number: int, key: Selector.Key) -> bool:
        if isinstance(key.fileobj, Listener):
            return bool(key.fileobj.waiting)
        if isinstance(key.fileobj, End):
            return key.fileobj.readable
        fds = self.world.kernel.fds
        return number in fds and not fds[number].living

    def serve(self, number: int) -> None:
        """Do one round of its loop, for one ready descriptor."""
        key = self.real.selector.keys.get(number)  # type: ignore[attr-defined]
        if key is not None and self._ready(number, key):
            key.data(1)
            self._tend()

    def reap(self) -> None:
        """Have SIGCHLD come."""
        self.sigchld = False
        self.real._reap()
        self._tend()

    def _tend(self) -> None:
        self.real._tend()
        self.world.noted.update(
            mark for mark, said in self.real.marks.items() if said["k"] == "ended" and said.get("known")
        )

    def leave(self) -> None:
        """End, for it has nothing to do."""
        self.world.kernel.die(self.proc, 0)

    def died(self) -> None:
        self.over = True
        if self.keeper is not None:
            talk: Talk = self.real.talk
            if talk.agent is not None:
                talk.agent.sock.close()
            for key in list(self.real.selector.keys.values()):  # type: ignore[attr-defined]
                if isinstance(key.fileobj, End):
                    key.fileobj.close()
            self.keeper.journal.close()
            self.world.nameless.update(mark for mark, said in self.keeper.marks.items() if said["k"] == "begin")
        for end in self.listener.waiting:
            end.close()
        self.world.forget_knower(self.name)
        self.world.keeper = None


def fake_spawn(request: dict[str, Any], limit: Any) -> Any:
    """Start what a spawn frame asks for: files as in production, a process of the simulation."""
    world = Now.world
    fds: list[int] = []
    try:
        _open_streams(request, fds)
    finally:
        for fd in fds:
            os.close(fd)
    mark, argv = request["mark"], request["argv"]
    keeper = world.kernel.me
    assert keeper is not None
    if argv[0] == "job":
        spec = json.loads(argv[1])
        if spec.get("missing"):
            raise SpawnError("argv", 2, "command not found: job")
        proc = world.begin_command(mark, spec, keeper)
    else:
        proc = world.begin_worker(mark, int(argv[-1]), keeper)
    return _Popen(proc.pid)


# --- the worker -----------------------------------------------------------------


class _Sink:
    """Records of the running job: none, or a few that its spec names."""

    in_child = False

    def __init__(self, page: Page) -> None:
        self.page = page
        self.text: bytes | None = None

    def begin(self, job: int, attempt: int) -> None:
        self.page.clear()
        self.text = None

    def say(self, text: bytes) -> None:
        self.text = text
        self.page.append(text)

    def end(self) -> bytes | None:
        text, self.text = self.text, None
        self.page.clear()
        return text


class _Sources:
    def changed(self) -> None:
        return None

    def note(self, began: int) -> None:
        return


class _Runner:
    """Runs nothing: a job that began goes on until the world ends it."""

    def __init__(self, worker: SimWorker) -> None:
        self.worker = worker
        self.tasks: dict[int, Any] = {}
        self.contexts: dict[int, Any] = {}

    def run(self, job: Any) -> None:
        assert job.task in self.tasks
        assert job.context in self.contexts
        self.worker.run(job)


class _Link(worker_link.Link):
    """The worker's connection; the world makes it."""

    def __init__(self, hello: dict[str, Any]) -> None:
        hello_now = frames.encode(hello)
        self._path = ""
        self._hello = hello_now
        self._sock: Any = None
        self._decoder = frames.Decoder()
        self._lock = contextlib.nullcontext()
        self._empty()


class _Page(Page):
    """Tells when a job has begun, which is when the page says so."""

    begun: Any = None

    def may_start(self, seq: int) -> bool:
        may = super().may_start(seq)
        if may:
            self.begun()
        return may


class _Journal(Journal):
    """Tells when an outcome is in it: from then on it is known."""

    noted: Any = None

    def append_frame(self, seq: int, frame: bytes) -> None:
        super().append_frame(seq, frame)
        self.noted()


class _Worker(Worker):
    def __init__(self, sim: SimWorker, directory: str) -> None:
        self._dir = directory
        self.page = _Page.open(os.path.join(directory, "page"))
        self.page.begun = lambda: sim.begun(self.queue[0])
        self.journal = _Journal(os.path.join(directory, "journal"))
        self.sink = _Sink(self.page)  # type: ignore[assignment]
        self.runner = _Runner(sim)  # type: ignore[assignment]
        hello = {"vigie": 1, "role": "worker", "worker": sim.id, "pid": sim.proc.pid}
        self.link = _Link(hello)
        self.sources = _Sources()  # type: ignore[assignment]
        self.queue = deque()
        self._last = self.page.started
        self._quitting = False
        self._done = 0
        self._looked = 0
        self._weighed = 0
        self._weight = 0

    def _outworn(self, now: int) -> str | None:
        return None


class SimWorker:
    """One worker process."""

    def __init__(self, world: World, proc: Proc, number: int) -> None:
        self.world = world
        self.proc = proc
        self.id = number
        self.worker: _Worker | None = None
        self.over = False
        self.running: Any = None
        self.deed: Any = None
        self.end_at = NEVER
        self.started_wall = self.started_mono = 0
        proc.on_death = self.died

    @property
    def real(self) -> _Worker:
        assert self.worker is not None
        return self.worker

    def todo(self) -> list[Callable[[], Any]]:
        """Give what it could do now."""
        if self.proc.state != "S":
            return []
        if self.worker is None:
            return [self.start]
        if self.running is not None:
            return [self.finish] if self.world.kernel.mono_us >= self.end_at else []
        worker = self.worker
        sock = worker.link._sock
        if sock is None:
            agent = self.world.agent
            return [self.connect] if agent is not None and agent.listening else []
        found: list[Callable[[], Any]] = [self.receive] if sock.readable else []
        if worker.queue:
            found.append(self.go_on)
        elif worker.link.since:
            found.append(self.flush)
        return found

    def flush(self) -> None:
        """Send what waits, as the flusher does."""
        self.real.link.flush()

    def start(self) -> None:
        self.worker = _Worker(self, self.world.home.worker_dir(self.id))

    def connect(self) -> None:
        """Do as ``Link.connect``."""
        agent = self.world.agent
        if agent is None or not agent.listening:
            return
        # Its own process accepts: the connection is there before the agent looks.
        me, self.world.kernel.me = self.world.kernel.me, None
        end = agent.connect("worker")
        self.world.kernel.me = me
        link = self.real.link
        self.real.page.fill_holes()
        link._decoder = frames.Decoder()
        link._sock = end
        link._send(link._hello)

    def receive(self) -> None:
        """Take what came, and work."""
        worker = self.real
        if self.running is not None or not worker.link._sock.readable:
            return
        got = worker.link.receive(block=True)
        if got is None:
            worker.queue.clear()
            worker.link.drop()
            return
        for frame in got:
            worker._take(*frame)
        self.go_on()

    def go_on(self) -> None:
        """Do one round of ``Worker._serve``."""
        worker = self.real
        if self.running is not None:
            return
        reason = worker._work()
        if reason is None and not worker.queue and self.running is None:
            worker.link.flush()
            if worker._quitting:
                reason = "quit"
        if reason is not None:
            self.leave(reason)

    def leave(self, reason: str) -> None:
        self.real._leave(reason)
        self.world.kernel.die(self.proc, 0)

    def begun(self, job: Any) -> None:
        """Take note that a job has begun."""
        self.deed = self.world.begin_function(self, job)

    def run(self, job: Any) -> None:
        """Have a job run, until :meth:`finish`."""
        self.running = job
        spec = self.deed.spec
        if spec.get("says"):
            self.real.sink.say(b'{"t":1,"s":"output","text":"%d"}\n' % job.job)  # type: ignore[attr-defined]
        self.started_wall, self.started_mono = self.world.kernel.wall_us, self.world.kernel.mono_us
        self.end_at = self.started_mono + spec["d"]
        self.proc.deaf = bool(spec.get("deaf"))

    def finish(self) -> None:
        """Have the running job come to its end."""
        job, deed, kernel = self.running, self.deed, self.world.kernel
        spec = deed.spec
        how = spec.get("how", "return")
        if how == "_exit":
            kernel.die(self.proc, (spec["code"] & 255) << 8)
            return
        if how == "killed":
            kernel.die(self.proc, 9)
            return
        self.running, self.end_at, self.proc.deaf = None, NEVER, False
        took = kernel.mono_us - self.started_mono
        code, error, encoding, result = None, None, None, None
        if how == "return" or (how == "exit" and not spec["code"]):
            how, encoding = "return", "json"
            result = json.dumps([job.job, job.attempt]).encode()
        elif how == "exit":
            code = int(spec["code"])
        else:
            error = json.dumps({"type": "ValueError", "message": "bad", "traceback": "", "pickled": False})
        # Thousands finish in the time of a real one: the wall clock may have been set meanwhile.
        outcome = Outcome(
            job.seq, job.job, job.attempt, started=self.started_wall, finished=self.started_wall + took, duration=took,
            cpu=1, rss=1, at=kernel.mono_us * 1000, how=how, code=code, encoding=encoding, error=error, result=result,
        )  # fmt: skip
        self.real.journal.noted = lambda: deed.end(how, code)  # type: ignore[attr-defined]
        reason = self.real._finish(outcome)
        if reason is None and spec.get("litters"):
            reason = "children"
        if reason is not None:
            self.leave(reason)
            return
        if not self.real.queue:
            self.go_on()

    def died(self) -> None:
        self.over = True
        if self.worker is not None:
            sock: Any = self.worker.link._sock
            if sock is not None:
                sock.close()
            self.worker.page.close()
            self.worker.journal.close()
        if self.deed is not None:
            self.deed.died()
        self.world.workers.pop(self.proc.pid, None)


# --- the store's connection -------------------------------------------------------


class Connections:
    """One connection to the store for one agent after the other, as long as the disk is what it was.

    Of a process that was killed nothing remains but the files. SQLite's recovery of them is not
    what is tested here, and costs more than all the rest: so its successor gets the connection,
    with the transaction rolled back, which is what recovery comes to.
    """

    def __init__(self) -> None:
        self._spare: apsw.Connection | None = None

    def open(self, path: str) -> apsw.Connection:
        """Stand in for ``apsw.Connection``."""
        spare, self._spare = self._spare, None
        return apsw.Connection(path) if spare is None else spare

    def give_back(self, db: apsw.Connection) -> None:
        """Take over what a dead process had open."""
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        except apsw.ConnectionClosedError:
            return
        self._spare = db
        if Now.vfs.disk.unsafe:
            self.drop()

    def drop(self) -> None:
        """Close it; nothing that its library does now reaches the disk."""
        spare, self._spare = self._spare, None
        if spare is not None:
            disk = Now.vfs.disk
            disk.frozen = True
            try:
                spare.close(True)
            finally:
                disk.frozen = disk.unsafe = False


class _Apsw:
    """The module ``apsw`` for the store."""

    def __getattr__(self, name: str) -> Any:
        return getattr(apsw, name)

    def Connection(self, path: str) -> apsw.Connection:
        return Now.world.connections.open(path)


# --- putting it in place ----------------------------------------------------------


class Strict(logging.Handler):
    """Fails the simulation where production would log an exception and go on."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], Exception):
            raise record.exc_info[1]


def _pulse(name: str) -> None:
    kernel().pulse(name)


def installed() -> ExitStack:
    """Put the simulation under the production code, until the stack is closed."""
    stack = ExitStack()
    patch = mock.patch.multiple
    names = (
        "scan", "twins", "start_ticks", "alive", "open_pidfd", "send_signal", "exit_status", "parent",
        "boot_id", "boot_ticks",
    )  # fmt: skip

    def of_kernel(name: str) -> Any:
        def ask(*args: Any) -> Any:
            return getattr(kernel(), name)(*args)

        return ask

    os_, time_ = Os(kernel), Time(kernel)
    pidfd = mock.Mock(open_pid=of_kernel("open_pid"))
    owner = lambda: ("host", f"a{Now.world.counts['agent']}", kernel().boot)
    agent = vigie.agent
    for it in (
        patch(procs, **{name: of_kernel(name) for name in names}),
        patch(agent.main, SystemClock=_Clock, owner=owner, cores=lambda: 2, Sampler=_Sampler, KeeperLink=_KeeperLink),
        patch(agent.main, os=os_),
        patch(agent.keeper_link, os=os_),
        patch(agent.watch, os=os_),
        patch(agent.outcomes, OomWatch=_OomWatch),
        patch(agent.submit, PACK=2),
        patch(agent.ahead, QUICK=2_000_000, MEMORY=1, MOST=3),
        patch(agent.worker_link, LOT=2),
        patch(vigie.keeper, os=os_, time=time_, pidfd=pidfd, spawn=fake_spawn, point=_pulse),
        patch(vigie.keeper.selectors, DefaultSelector=Selector),
        patch(vigie.keeper_talk, log=lambda text: None),
        patch(vigie.keeper, log=lambda text: kernel().log(f"keeper: {text}")),
        patch(vigie.store.sqlite, apsw=_Apsw()),
        patch(vigie.crash, point=_pulse, ARMED=True),
        patch(vigie.worker_loop, time=time_),
        patch(vigie.worker_loop.worker_watch, has_children=lambda: False),
    ):
        stack.enter_context(it)
    Now.vfs = Vfs()
    apsw.set_default_vfs(NAME)
    stack.callback(Now.vfs.unregister)
    stack.callback(apsw.set_default_vfs, "unix")
    strict = Strict(logging.ERROR)
    log = logging.getLogger("vigie.agent")
    before = log.level
    log.setLevel(logging.ERROR)
    log.addHandler(strict)
    stack.callback(log.setLevel, before)
    stack.callback(log.removeHandler, strict)
    return stack


__all__ = ["Handle", "Now", "SimAgent", "SimKeeper", "SimWorker", "installed"]
