"""The agent of production, set into the simulated machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import apsw

from simulation.kernel import Proc
from simulation.now import Now, kernel
from simulation.wire import End, Loop, connection
from vigie import frames
from vigie.agent.keeper_link import KeeperLink
from vigie.agent.main import Agent
from vigie.agent.server import Peer
from vigie.store.wal import settle_log

if TYPE_CHECKING:
    from simulation.world import World


class Clock:
    def wall(self) -> int:
        return kernel().wall_us

    def mono(self) -> int:
        return kernel().mono_us


class Sampler:
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


class OomWatch:
    def ask(self, pid: int | None) -> tuple[bool, None]:
        return False, None


class SimKeeperLink(KeeperLink):
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
