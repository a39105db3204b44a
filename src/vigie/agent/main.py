"""The agent: the per-user process that decides, and the only writer of the store.

Its main loop is asyncio's; each duty is a module of this package, and this one
connects them. It imports everything at the start, so that an upgrade on disk
never mixes versions.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import apsw

from vigie import __version__, crash, pidfd, procs, projects
from vigie.agent.apply import Apply
from vigie.agent.clock import SystemClock, owner
from vigie.agent.control import Control
from vigie.agent.core import Core, Who
from vigie.agent.dispatch import Dispatch
from vigie.agent.keeper_link import KeeperLink
from vigie.agent.listening import Listener
from vigie.agent.marks import Marks
from vigie.agent.outcomes import Outcomes
from vigie.agent.recovery import Recovery
from vigie.agent.sampler import Sampler
from vigie.agent.schedule_control import ScheduleControl
from vigie.agent.schedules import Schedules
from vigie.agent.server import Peer
from vigie.agent.service_control import ServiceControl
from vigie.agent.services import Services
from vigie.agent.staff import Staff
from vigie.agent.submit import submit
from vigie.agent.timers import Timers
from vigie.agent.trees import Trees
from vigie.agent.upkeep import Upkeep
from vigie.agent.waits import Waits
from vigie.agent.watch import Watch
from vigie.agent.world import World
from vigie.agent.writer import AGAIN, Writer
from vigie.config import Home
from vigie.errors import StoreError, VigieError
from vigie.model import cores, public_state
from vigie.notify import Manager
from vigie.procs import Identity
from vigie.sockets import bind_unix
from vigie.store.examine import examine, seal, unseal
from vigie.store.schema import SCHEMA
from vigie.store.sqlite import Store
from vigie.store.wal import settle_log

if TYPE_CHECKING:
    from vigie.outcome import Good

__all__ = ["Agent", "main"]

log = logging.getLogger("vigie.agent")


class Agent:
    """One agent of one home.

    Parameters
    ----------
    home:
        Its directories exist; its lock is held.
    loop:
        The event loop that it runs on.
    """

    def __init__(self, home: Home, loop: asyncio.AbstractEventLoop) -> None:
        self.home = home
        self.loop = loop
        self.clock = SystemClock()
        self.started = self.clock.wall()
        self.store = Store(home.db)
        self.watch = Watch()
        self.world = World(home, self.watch)
        self.core = Core(self.store, self.clock, self.world, owner(), Marks(home.root))
        self.dispatch = Dispatch(self.core, cores())
        self.outcomes = Outcomes(self.core, self.dispatch)
        self.control = Control(self.core, self.dispatch)
        self.writer = Writer(self.core, self.dispatch, loop)
        self.timers = Timers(self.core, self.control, self.writer, loop)
        self.trees = Trees(loop, self.clock, self._tree_ended)
        self.schedules = Schedules(self.core, self.writer, loop)
        self.schedule_control = ScheduleControl(self.core, self.schedules)
        self.keeper = KeeperLink(home, self._keeper_said, self._keeper_lost)
        self.services = Services(home, self.core, self.writer, self.trees, self.keeper, loop)
        self.service_control = ServiceControl(self.core, self.services)
        self.apply = Apply(
            self.core, self.control, self.schedule_control, self.service_control, partial(projects.write, home)
        )
        self.waits = Waits(self.store, self.trees, loop)
        self.staff = Staff(self)
        self.sampler = Sampler(home, self.clock, loop)
        self.upkeep = Upkeep(self)
        self.recovery = Recovery(self)
        self.manager = Manager()
        self.peers: set[Peer] = set()
        self.keeper_children = 0
        self._upgraded: int | None = None
        #: Why the store has to be opened anew.
        self.unsafe: Exception | None = None
        self._stopping = asyncio.Event()
        self._socket_inode: int | None = 0
        self._lock_inode = _inode(home.lock)
        self._server: asyncio.Server | None = None
        self._connect()
        self.writes: dict[str, Callable[[dict[str, Any], list[bytes], Who], Any]] = self._write_table()

    def _connect(self) -> None:
        """Tie the duties together."""
        world, core = self.world, self.core
        world.core, world.keeper, world.trees = core, self.keeper, self.trees
        world.on_released, world.on_finished = self._attempt_over, self._job_ended
        world.on_over, world.on_sent = self._over, self._sent
        world.on_spawn = self._to_spawn
        world.spare, world.recall = self.staff.spare, self.staff.recall
        world.on_deleted = self.sampler.forget
        world.on_failed = lambda mark, said: self._keeper_said({"op": "failed", "mark": mark, **said})
        core.take_back = self.staff.take_back
        core.learners += [self.schedules.learn, self.services.learn]
        services = self.services
        core.served = lambda job: job in services.lives or job in services.hooks
        core.on_served_end = services.job_ended
        services.hands.world, services.hands.sampler = world, self.sampler
        services.delete = self.control.delete
        self.sampler.on_problem = services.hands.remark
        world.service_of, world.sequence_of = services.hands.facts, services.hands.sequence_of
        self.schedules.happenings.listener = Listener(self.schedules.happenings, self.home)
        core.moved = self.schedules.clock_set
        self.outcomes.began = self.timers.began
        self.dispatch.wake_at = self.timers.wake_at
        self.writer.gathering = self.keeper.gathering
        self.writer.unsafe = self.give_up

    def _write_table(self) -> dict[str, Callable[[dict[str, Any], list[bytes], Who], Any]]:
        control, schedules, services = self.control, self.schedule_control, self.service_control
        verbs = ("remove", "start", "stop", "restart", "reload", "suspend", "resume", "enable", "disable")
        return {
            "service_set": services.set,
            **{f"service_{verb}": _without_blobs(getattr(services, verb)) for verb in verbs},
            "submit": self._submit,
            "stop": lambda request, blobs, who: control.stop(request, who),
            "suspend": lambda request, blobs, who: control.suspend(request, who),
            "resume": self._resume,
            "retry": lambda request, blobs, who: control.retry(request, who),
            "remove": lambda request, blobs, who: control.remove(request, who),
            "steer": self._steer,
            "prune": lambda request, blobs, who: self.upkeep.prune(request.get("older_than"), who),
            "queue_set": lambda request, blobs, who: control.queue_set(request, who),
            "queue_pause": lambda request, blobs, who: control.queue_pause(request, who),
            "queue_resume": lambda request, blobs, who: control.queue_resume(request, who),
            "cursor": lambda request, blobs, who: control.cursor(request, who),
            "schedule_set": schedules.set,
            "apply_part": self.apply.part,
            "apply": self.apply.apply,
            "schedule_remove": lambda request, blobs, who: schedules.remove(request, who),
            "schedule_pause": lambda request, blobs, who: schedules.pause(request, who),
            "schedule_resume": lambda request, blobs, who: schedules.resume(request, who),
            "schedule_run": lambda request, blobs, who: schedules.run(request, who),
        }

    def _submit(self, request: dict[str, Any], blobs: list[bytes], who: Who) -> dict[str, Any]:
        answer = submit(self.core, request, blobs, who)
        stdin = (request.get("job") or {}).get("stdin")
        if stdin is not None and not answer["existing"]:
            # After the commit, which may fail, and before the acknowledgement.
            self.core.after(self.world.stdin_of, answer["ids"][0], stdin)
        return answer

    def _steer(self, request: dict[str, Any], blobs: list[bytes], who: Who) -> dict[str, Any]:
        answer = self.control.steer(request, who)
        # Before the acknowledgement: the run finds it whenever it looks.
        self.core.after(self.world.order, int(request["job"]), answer["order"])
        return answer

    def _resume(self, request: dict[str, Any], blobs: list[bytes], who: Who) -> dict[str, Any]:
        answer = self.control.resume(request, who)
        for job in request["ids"]:
            row = self.store.job(int(job))
            if row is not None:
                self.core.after(self.timers.began, row.id, row.attempt, self.clock.mono())
        return answer

    # --- life -----------------------------------------------------------------

    async def run(self) -> None:
        """Recover, serve, and stop when asked."""
        self.loop.add_signal_handler(signal.SIGTERM, self.stop)
        self.loop.add_signal_handler(signal.SIGINT, self.stop)
        self.loop.add_signal_handler(signal.SIGCHLD, self.watch.reap)
        self.loop.set_exception_handler(_log_exception)
        pidfd.set_subreaper()
        self.begin()
        await self._listen()
        await self.keeper.connect()
        self.upkeep.start()
        guard = self.loop.create_task(self._guard_socket())
        self.manager.say("READY=1", "STATUS=serves")
        beat = self.loop.create_task(self._beat())
        await self._stopping.wait()
        self.manager.say("STOPPING=1")
        guard.cancel()
        beat.cancel()
        self._close()

    def begin(self) -> None:
        """Learn what the store and the workers' pages say, before anybody may speak."""
        self.store.forget_cached()
        # Agents that never live until the next look at the log would let it grow for ever.
        self.upkeep.trim_log()
        self.core.reload()
        self.writer.post(self.timers.follow_clock)
        self.writer.post(self.core.log, "agent-started")
        self.writer.post(self.schedules.begin)
        self.writer.post(self.services.begin)
        self.writer.post(self.apply.write_index)
        self.recovery.prepare()

    async def _beat(self) -> None:
        """Tell the manager that started us that we live, as often as it asks."""
        while self.manager.watchdog is not None:
            self.manager.say("WATCHDOG=1")
            await asyncio.sleep(self.manager.watchdog / 2)

    async def _listen(self) -> None:
        sock = bind_unix(self.home.socket)
        # asyncio takes as many at a time as it is told, and logs each that it cannot take.
        self._server = await self.loop.create_unix_server(lambda: Peer(self), sock=sock, backlog=8)
        sock.listen(512)
        self._socket_inode = _inode(self.home.socket)

    async def _guard_socket(self) -> None:
        """Make the socket again if somebody deleted it; end if the home is not ours any more."""
        while True:
            await asyncio.sleep(2.0)
            if not self._at_home():
                self.stop()
                return
            if _inode(self.home.socket) != self._socket_inode:
                log.warning("the socket file had gone; making it again")
                if self._server is not None:
                    self._server.close()
                await self._listen()

    def _at_home(self) -> bool:
        """Tell whether the lock is still ours: if not, another agent may be at work in a new home of this name."""
        if _inode(self.home.lock) == self._lock_inode:
            return True
        log.error("%s was removed or replaced; this agent ends", self.home.lock)
        return False

    def stop(self) -> None:
        """End the agent; what runs goes on."""
        self._stopping.set()

    def give_up(self, error: Exception) -> None:
        """End at once without another word to anybody: the disk failed, and who follows opens the store anew."""
        log.error("the disk failed to keep what was written (%s); the agent starts anew", error)
        self.unsafe = error
        for peer in list(self.peers):
            peer.transport.abort()
        self.stop()

    def _close(self) -> None:
        if self.unsafe is None:
            self.writer.post(self.core.log, "agent-stopped")
            self.writer.close()
        if self._server is not None:
            self._server.close()
        for peer in list(self.peers):
            peer.transport.close()
        self.upkeep.stop()
        self.schedules.close()
        self.keeper.close()
        try:
            self.sampler.close()
            self.store.checkpoint()
            self.store.close()
            seal(self.home.db)
        except apsw.Error as error:
            log.warning("the store was not closed in order, which costs nothing but its log: %s", error)
        if _inode(self.home.socket) == self._socket_inode:
            os.unlink(self.home.socket)

    # --- the keeper's words ---------------------------------------------------

    def _keeper_lost(self) -> None:
        """The keeper died: its orphans are ours, and a new one will read its journal."""
        self.dispatch.open = False
        self.dispatch.ahead.offered = False
        self.dispatch.ahead.new_keeper()
        self.recovery.named.clear()
        if not self._at_home():
            self.stop()

    def _keeper_said(self, said: dict[str, Any]) -> None:
        op = said.get("op")
        if op == "replayed":
            self._replayed()
            return
        if said.get("role") == "keeper":
            self.dispatch.ahead.offered = bool(said.get("lanes"))
            return
        if op in ("notify", "connection", "stranger", "listening", "remark"):
            self.services.hands.heard(said)
            return
        if "mark" not in said:
            return
        mark = str(said["mark"])
        if self.core.marks.is_errand(mark):
            self.services.errands.heard(mark, str(op), said)
            return
        if said.get("replay") or op == "lost":
            self.recovery.heard(said)
        if op == "started":
            self.watch.follow(mark, said["pid"], said["start_ticks"])
        elif op in ("ended", "lost") and said.get("exit_code") is None and said.get("signal") is None:
            # It may be that we know what the keeper cannot.
            if "start_ticks" in said:
                self.watch.follow(mark, said["pid"], said["start_ticks"])
            known = self.watch.learn(mark)
            if known is not None:
                said = {"at": self.clock.wall(), "mono": self.clock.mono(), **said, **known, "op": "ended"}
                op = "ended"
        number, attempt = self.core.marks.parse(mark) or (None, None)
        if number is None:
            log.warning("the keeper speaks of %s, which is none of ours", mark)
        elif attempt is None:
            self._worker_said(number, str(op), said)
        else:
            self._command_said(number, attempt, str(op), said)
        if op == "started":
            self.world.began(mark)

    def _worker_said(self, worker: int, op: str, said: dict[str, Any]) -> None:
        if op == "started":
            if not said.get("replay"):
                self.writer.post(self.store.run, "worker_started", (said["pid"], said["start_ticks"], worker))
        elif worker in self.dispatch.workers:
            self.staff.gone(worker, said)
        else:
            self.world.forget([self.core.marks.worker(worker)])

    def _command_said(self, job: int, attempt: int, op: str, said: dict[str, Any]) -> None:
        outcomes, post = self.outcomes, self.writer.post
        if op == "started" and job in self.services.lives:
            post(outcomes.started, job, attempt, said)
            post(self.services.began, job)
        elif op == "started":
            # A short command has ended by then, which shares the commit; the keeper remembers both.
            self.writer.post_late(outcomes.started, job, attempt, said)
        elif op == "ended":
            if job in self.services.lives and "left" in said:
                self.services.left[job] = bool(said["left"])
            self.trees.nudge((job, attempt))
            outcomes.over.add((job, attempt))
            post(outcomes.ended, job, attempt, said)
        elif op == "failed":
            post(outcomes.failed, job, attempt, said)
        elif op == "withdrawn":
            post(outcomes.never_began, job, attempt)
        elif op == "lost":
            post(outcomes.lost, job, attempt, "it ended while neither agent nor keeper lived")

    def _replayed(self) -> None:
        crash.point("agent-replayed")
        hello = self.keeper.hello
        if hello.get("version") != __version__ and hello.get("pid") != self._upgraded:
            # Once: it can only become what its own interpreter has installed.
            self._upgraded = hello.get("pid")
            self.keeper.send({"op": "upgrade"})
        self.services.hands.keeper_is_back()
        self.writer.post(self._decide_rest, self.keeper.talks)

    def _decide_rest(self, talk: int) -> None:
        if talk == self.keeper.talks:  # else it died meanwhile, and its successor's replay decides
            self.core.after(self._decide, talk)
            self.core.after(self.recovery.wake_workers)
            for row in self.store.open_attempts():
                self.core.after(self.recovery.resume_sampling, row)
                self.core.after(self.recovery.rearm, row)

    def _decide(self, talk: int) -> None:
        try:
            self.recovery.replayed()
        except OSError as error:
            # No descriptor is left to look at /proc, say; nothing is handed out before this is done.
            log.warning("cannot look after what runs, and try again: %s", error)
            self.loop.call_later(1.0, self.writer.post, self._decide_rest, talk)

    def follow_orphan(self, mark: str, identity: Identity, ended: Callable[[dict[str, Any]], None]) -> None:
        """Watch a process that no keeper knows, by our own pidfd, and tell its end as the keeper would."""
        self.watch.follow(mark, identity.pid, identity.start_ticks)
        fd = procs.open_pidfd(identity)

        def tell() -> None:
            ended({"at": self.clock.wall(), "mono": self.clock.mono(), **(self.watch.learn(mark) or {})})

        def readable() -> None:
            self.loop.remove_reader(pidfd_)
            os.close(pidfd_)
            tell()

        if fd is None:
            tell()
            return
        pidfd_: int = fd
        self.loop.add_reader(pidfd_, readable)

    # --- small ties -----------------------------------------------------------

    def _sent(self, jobs: Any) -> None:
        self.staff.watch_batches()
        # Only a timeout needs the clock before the outcome comes.
        if len(jobs) == 1 and self.dispatch.has_timeout(*jobs[0][1:]):
            self.writer.post(self.outcomes.sent, jobs)

    def _to_spawn(self, job: int, attempt: int, most: int, *, new: bool) -> str | None:
        blank = self.sampler.spawn(job, attempt, most, new=new)
        self.services.hands.keep_logs(job, attempt)
        return blank

    def _attempt_over(self, job: int, attempt: int) -> None:
        self.timers.forget(job, attempt)
        self.sampler.end(job, attempt)

    def _over(self, ends: Sequence[Good]) -> None:
        # Of functions: they write nothing that is sampled.
        self.timers.forget_many(ends)
        self.schedules.jobs_ended(ends)
        self.waits.hear_many(ends)

    def _job_ended(self, job: int) -> None:
        self.schedules.job_ended(job)
        self.waits.hear(job, ended=True)

    def _tree_ended(self, job: int) -> None:
        self.waits.hear(job)
        self.services.tree_ended(job)

    def hurry(self, ids: list[int]) -> None:
        """A second, impatient stop: the grace is over."""
        for job in ids:
            row = self.store.job(job)
            if row is not None and row.ending == "stop":
                self.world.terminate(job, row.attempt, 0)

    def state_of(self, job: int) -> str | None:
        """Give the public state of a job."""
        row = self.store.state_of(job)
        return None if row is None else public_state(row[0])

    def why_waits(self, job: int) -> dict[str, Any] | None:
        """Say what a queued job waits for, for the message of a submit."""
        row = self.store.job(job)
        if row is None:
            return None
        settings = self.dispatch.settings(row.queue)
        full = self.dispatch.used(row.queue) >= settings.slots
        if not (full or settings.paused or settings.rate or row.keyed):
            return None  # it is on its way
        busy = [r[0] for r in self.store.run("busy", (row.queue,))]
        return {
            "queue": row.queue,
            "slots": settings.slots,
            "used": self.dispatch.used(row.queue),
            "busy": busy,
            "paused": settings.paused,
            "rate": settings.rate,
            "keyed": bool(row.keyed),
        }

    def status(self) -> dict[str, Any]:
        """Say how the agent is."""
        counts: dict[str, int] = {}
        for state, n in self.store.counts().items():
            counts[public_state(state)] = counts.get(public_state(state), 0) + n
        pid = os.getpid()
        keeper = self.keeper.hello
        return {
            "pid": pid,
            "version": __version__,
            "started": self.started,
            "home": self.home.root,
            "rss": procs.rss(pid),
            "anonymous": procs.anonymous(pid),
            "commits": self.writer.commits,
            "broken": self.writer.broken,
            "jobs": {name: counts.get(name, 0) for name in ("running", "queued", "blocked", "suspended")},
            "workers": [
                {"id": w.id, "ready": w.ready, "holding": len(w.holding), "queue": w.queue}
                for w in self.dispatch.workers.values()
            ],
            "keeper": {"pid": keeper.get("pid"), "version": keeper.get("version"), "connected": self.keeper.connected},
            "store": {"path": self.home.db, "size": _size(self.home.db, self.home.db + "-wal"), "schema": SCHEMA},
        }


def _without_blobs(work: Callable[[dict[str, Any], Who], Any]) -> Callable[[dict[str, Any], list[bytes], Who], Any]:
    return lambda request, blobs, who: work(request, who)


def _size(*paths: str) -> int:
    """Give the bytes of files together; those that are not there have none."""
    total = 0
    for path in paths:
        with contextlib.suppress(OSError):
            total += os.stat(path).st_size
    return total


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _log_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        log.warning("in the loop: %s: %s", context.get("message"), error)
    else:
        log.error("in the loop: %s", context.get("message"), exc_info=error)


def _anew(home: Home, agent: Agent) -> None:
    """Be the agent that follows; what runs stays ours.

    Raises
    ------
    StoreError
        When not one commit went well: then the next one would not either.
    """
    if not agent.writer.commits:
        raise StoreError(f"the disk of {home.root} does not keep what is written: {agent.unsafe}", "vigie doctor")
    time.sleep(AGAIN)
    os.execv(sys.executable, sys.orig_argv)


def _spare_the_collector() -> None:
    """Have it look for cycles seldom, and never among what has been there since the start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def main(home: Home) -> int:
    """Be the agent of a home whose lock this process holds; give the exit code."""
    logging.basicConfig(
        level=logging.DEBUG if os.environ.get("VIGIE_DEBUG") else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    os.chdir("/")
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
        # Those of the terminal that happened to need an agent are not meant for it.
        soft, hard = resource.getrlimit(limit)
        if soft != hard:
            resource.setrlimit(limit, (hard, hard))
    loop = asyncio.new_event_loop()
    try:
        settle_log(home.db)
        examine(home)
        unseal(home.db)
        agent = Agent(home, loop)
        _spare_the_collector()
        loop.run_until_complete(agent.run())
        if agent.unsafe is not None:
            _anew(home, agent)
    except VigieError as error:
        log.error("%s%s", error.message, f"\n  {error.hint}" if error.hint else "")
        return error.code
    finally:
        loop.close()
    return 0
