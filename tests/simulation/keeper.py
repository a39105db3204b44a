"""The keeper of production, set into the simulated machine."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from simulation.deeds import Broken
from simulation.kernel import Proc
from simulation.now import Now
from simulation.wire import End, Selector
from vigie.keeper import Keeper
from vigie.keeper_spawn import SpawnError, _open_streams
from vigie.keeper_talk import Talk

if TYPE_CHECKING:
    from simulation.world import World


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


def heard(text: str) -> None:
    """Write what it logs into the diary; where it would go on after a mistake of its code, fail."""
    Now.world.note(f"keeper: {text}")
    if any(name in text for name in ("TypeError", "AttributeError", "KeyError")):
        raise Broken(text)


def fake_spawn(request: dict[str, Any], limit: Any, start: Any = None) -> Any:
    """Start what a spawn frame asks for: files as in production, a process of the simulation."""
    assert start is None, "nothing here is begun as services are"
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
