"""The keeper: the parent of every command, service and worker. It decides nothing.

It spawns, signals, waits, remembers and reports; what to run and what an end
means is the agent's affair (``docs/explanation/internals.md``). It outlives the
agent, and because it writes down each step before the next (`keeper_journal`),
a successor can take over when it dies itself.

One thread, one selector. SIGCHLD tells of its own children, which ``wait4``
reaps with their usage; those adopted from a dead keeper are somebody else's
children, and a pidfd tells of them.

Run as ``python -m vigie.keeper HOME``. Little is imported on purpose: it is
always there, in under 14 MB.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time

from vigie import pidfd, procs
from vigie.config import Home
from vigie.crash import point
from vigie.keeper_child import Child, find_begun
from vigie.keeper_journal import Journal, whole
from vigie.keeper_lanes import Lanes
from vigie.keeper_services import Services
from vigie.keeper_spawn import FileLimit, SpawnError, spawn
from vigie.keeper_talk import Talk, log
from vigie.procs import Identity
from vigie.sockets import bind_unix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = ["Keeper", "main"]

#: Seconds that a keeper without agent and children stays.
IDLE = float(os.environ.get("VIGIE_KEEPER_IDLE", "10"))

_READ = selectors.EVENT_READ
_USAGE_UNIT = 1 if sys.platform == "darwin" else 1024


def _now() -> dict[str, int]:
    return {"at": time.time_ns() // 1000, "mono": time.monotonic_ns() // 1000}


class Keeper:
    """The state of one keeper and its loop.

    Parameters
    ----------
    home:
        Where its socket, lock and journal are.
    lock, listener:
        Held already.
    limit:
        The descriptor limit that children get.
    carried, services:
        pidfds of adopted processes by mark, and what the services had open, handed on by exec.
    """

    def __init__(
        self,
        home: Home,
        lock: int,
        listener: socket.socket,
        limit: FileLimit,
        carried: dict[str, int] | None = None,
        services: dict[str, Any] | None = None,
    ) -> None:
        self.home = home
        self.lock = lock
        self.limit = limit
        self.boot = procs.boot_id()
        self.journal = Journal(home.keeper_journal, self.boot)
        self.marks = self.journal.marks
        self.own: dict[int, Child] = {}
        self.adopted: dict[str, Child] = {}
        self.selector = selectors.DefaultSelector()
        self.lanes = Lanes()
        self.talk = Talk(
            home.keeper_socket, listener, self.boot, self.selector, self.marks, self.obey, self.lanes.clear
        )
        self.services = Services(
            os.path.join(home.keeper_dir, "n"), self.selector, limit, self._pid_of, self._become_main, self.talk.tell
        )
        self.talk.more, self.talk.exchange = self.services.notify.waiting, self.services.exchange
        self.services.take_over(services or {})
        #: First processes of daemons that have ended, until it is known who goes on.
        self.forking: dict[str, tuple[Child, int | None, resource.struct_rusage | None]] = {}
        self.ending = False
        self._unwritten = False
        #: Lanes in which somebody has ended.
        self._freed: set[str] = set()
        self._idle_since: float | None = None
        self._catch_signals()
        self._take_over(carried or {})

    # -- start and end ---------------------------------------------------------

    def _catch_signals(self) -> None:
        """Ignore nothing by SIG_IGN and block nothing: both would pass to children."""
        read, write = os.pipe()
        for fd in (read, write):
            os.set_blocking(fd, False)
        self.selector.register(read, _READ, lambda _events: self._signalled(read))
        for number in signal.valid_signals():
            ignored = signal.getsignal(number) == signal.SIG_IGN
            if number not in (signal.SIGPIPE, signal.SIGXFSZ) and ignored:
                signal.signal(number, lambda *_: None)
        # SIGIO: somebody opened a file of which we hold a lease for an instant (keeper_blank).
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGIO):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGTERM and not self._busy():
            self.ending = True

    def _signalled(self, read: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(read, 4096):
                pass
        self._reap()

    def _take_over(self, carried: dict[str, int]) -> None:
        """Decide about everything that the journal leaves open."""
        for mark, said in list(self.marks.items()):
            if not whole(said):
                log(f"{self.home.keeper_journal} is damaged where it speaks of {mark}")
                # If it lives, its mark tells.
                said = self.marks[mark] = {"k": "begin", "mark": mark, "since": 0}
            if said["k"] == "started":
                identity = Identity(int(str(said["pid"])), int(str(said["ticks"])))
                if mark not in self.services.of:
                    self.services.adopt(mark, said)
                if not self._adopt(mark, identity, carried.get(mark)):
                    self._lose(mark)
            elif said["k"] == "begin":
                found = find_begun(mark, int(str(said.get("since", 0))))
                if found is not None:
                    point("keeper-before-adopted")
                    self._write("started", mark=mark, pid=found.pid, ticks=found.start_ticks, **_now())
                    point("keeper-after-adopted")
                if found is None or not self._adopt(mark, found, None):
                    self._lose(mark)
        # A child that ended before the handlers stood has left no SIGCHLD.
        self._reap()

    def _lose(self, mark: str) -> None:
        point("keeper-before-lost")
        self._write("lost", mark=mark)
        point("keeper-after-lost")

    def _adopt(self, mark: str, identity: Identity, fd: int | None) -> bool:
        """Watch a process that this program did not start, or started before its exec."""
        if fd is None:
            fd = procs.open_pidfd(identity)
        if fd is None and procs.start_ticks(identity.pid) != identity.start_ticks:
            return False
        child = Child(mark, identity, self.limit.lift(fd))
        if child.fd is not None:
            os.set_inheritable(child.fd, False)
        if procs.parent(identity) == os.getpid():
            self.own[identity.pid] = child
            return True
        self.adopted[mark] = child
        if child.fd is not None:
            self.selector.register(child.fd, _READ, lambda _events: self._adopted_ended(child))
        return True

    def _busy(self) -> bool:
        return bool(self.own or self.adopted)

    def run(self) -> None:
        """Serve until there is nothing left to do."""
        while not self.ending:
            # Without an agent it looks after its socket and its own end.
            wait = None if self.talk.agent and not self._unwritten and not self._blind() else min(1.0, IDLE)
            if self.forking:
                wait = 0.02
            for key, events in self.selector.select(wait):
                key.data(events)
            self._tend()
        if self._at_home():
            with contextlib.suppress(OSError):
                os.unlink(self.home.keeper_socket)

    def _blind(self) -> bool:
        return any(child.fd is None for child in self.adopted.values())

    def _tend(self) -> None:
        if self._unwritten:
            with contextlib.suppress(OSError):
                self.journal.compact()
                self._unwritten = False
        for mark in list(self.forking):
            self._look_who_goes_on(mark)
        for child in [child for child in self.adopted.values() if child.fd is None]:
            if not procs.alive(child.identity):
                self._adopted_ended(child)
        if self.talk.agent or self._busy():
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since >= IDLE:
            self.ending = True
        if not self.talk.agent and self._at_home():
            self.talk.mend()

    def _at_home(self) -> bool:
        """Tell whether the lock that we hold is still the home's: else the socket is another keeper's."""
        try:
            return os.path.samestat(os.fstat(self.lock), os.stat(self.home.keeper_lock))
        except OSError:
            return False

    # -- children --------------------------------------------------------------

    def _write(self, kind: str, **fields: object) -> None:
        """Journal a fact that has already come true; a full disk does not undo it."""
        try:
            self.journal.append(kind, **fields)
        except OSError as error:
            self._unwritten = True
            log(f"cannot write {self.home.keeper_journal}: {error.strerror}")

    def _spawn(self, request: dict[str, Any]) -> None:
        mark = request.get("mark")
        if not isinstance(mark, str) or not mark:
            return
        said = self.marks.get(mark)
        if said is not None:
            if said["k"] in ("started", "ended"):
                self.talk.report(mark, "started", replay=said["k"] == "ended")
            if said["k"] != "started":
                self.talk.report(mark, "end", replay=True)
        elif self.lanes.has_room(request):
            self._begin(mark, request)
        else:
            self.lanes.hold(request)

    def _begin(self, mark: str, request: dict[str, Any]) -> None:
        try:
            point("keeper-before-begin")
            try:
                more = {"service": request["service"]} if request.get("service") else {}
                self.journal.append("begin", mark=mark, since=procs.boot_ticks(), **more)
            except OSError as error:
                why = f"cannot write {self.home.keeper_journal}: {error.strerror}"
                raise SpawnError("fork", error.errno or errno.EIO, why) from None
            point("keeper-after-begin")
            began = _now()  # what it needs to be spawned is part of its running time
            earliest = procs.boot_ticks()
            popen = spawn(request, self.limit, self._starter(request))
        except SpawnError as error:
            failure = {"errno": error.errno, "error": error.error, "message": str(error), "what": error.what}
            point("keeper-before-failed")
            self._write("failed", mark=mark, **failure)
            point("keeper-after-failed")
            self.talk.report(mark, "end")
            point("keeper-after-failed-report")
            return
        point("keeper-after-spawn")
        # To read it while the child is in its exec takes as long as the whole fork; mostly it can be told without.
        ticks = earliest if 0 < earliest == procs.boot_ticks() else procs.start_ticks(popen.pid) or 0
        self._write("started", mark=mark, pid=popen.pid, ticks=ticks, **began)
        point("keeper-after-started")
        fd = self.limit.lift(pidfd.open_pid(popen.pid))
        lane = request.get("lane")
        self.lanes.enter(lane)
        self.own[popen.pid] = Child(mark, Identity(popen.pid, ticks), fd, popen, lane)
        self.talk.report(mark, "started")
        point("keeper-after-started-report")

    def _starter(self, request: dict[str, Any]) -> Callable[..., Any] | None:
        """Give what starts a process that a plain spawn cannot: a life of a service, mostly."""
        if not request.get("service"):
            return None
        try:
            self.services.prepare(request)
            return self.services.spawner(request)
        except LookupError as error:
            raise SpawnError("argv", errno.EINVAL, str(error.args[0])) from None
        except OSError as error:
            raise SpawnError("listen", error.errno or errno.EIO, error.strerror or str(error)) from None

    def _reap(self) -> None:
        """Reap every child that has ended, orphans that landed here too, and begin what waited for that."""
        self._wait()
        self._fill()

    def _wait(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self.own.pop(pid, None) or self._come_home(pid)
            if child is not None:
                self._came_to_end(child, status, usage)

    def _come_home(self, pid: int) -> Child | None:
        """Give an adopted process that had become our child by its end."""
        child = next((child for child in self.adopted.values() if child.identity.pid == pid), None)
        if child is not None:
            self.adopted.pop(child.mark)
            if child.fd is not None:
                self.selector.unregister(child.fd)
        return child

    def _came_to_end(self, child: Child, status: int | None, usage: resource.struct_rusage | None) -> None:
        """See whether the end of a process is that of its attempt: of a service another may go on as the main one."""
        if child.mark in self.services.of:
            self.services.drain(child.mark)
            if self._pid_of(child.mark) != child.identity.pid:
                self._let_go(child, status)
                return
            if self.services.forks(child.mark, status):
                self.forking[child.mark] = (child, status, usage)
                self._look_who_goes_on(child.mark)
                return
        self._ended(child, status, usage)

    def _look_who_goes_on(self, mark: str) -> None:
        child, status, usage = self.forking[mark]
        found, again = self.services.successor(mark)
        if found is not None:
            self._become_main(mark, found)
        elif again:
            return
        del self.forking[mark]
        if self._pid_of(mark) != child.identity.pid:
            self._let_go(child, status)
        else:
            self._ended(child, status, usage)

    def _let_go(self, child: Child, status: int | None) -> None:
        """Forget a process that has ended and is not the main one any more."""
        if child.fd is not None:
            os.close(child.fd)
        if child.popen is not None and status is not None:
            child.popen.returncode = os.waitstatus_to_exitcode(status)

    def _pid_of(self, mark: str) -> int | None:
        said = self.marks.get(mark)
        return int(str(said["pid"])) if said is not None and said["k"] == "started" else None

    def _is_orphan(self, pid: int, ticks: int, mark: str) -> bool:
        """Tell whether a process has come to us and may be of a mark, though it has overwritten its environment."""
        unknown = pid not in self.own and procs.parent(Identity(pid, ticks)) == os.getpid()
        return unknown and ticks >= int(str(self.marks[mark].get("ticks", 0)))

    def _become_main(self, mark: str, pid: int) -> None:
        """Follow another process of a tree as its main one."""
        before, ticks = self._pid_of(mark), procs.start_ticks(pid)
        if before in (None, pid) or before is None:
            return
        if ticks is None or not (procs.belongs(pid, before, mark) or self._is_orphan(pid, ticks, mark)):
            log(f"{mark}: process {pid} cannot be its main one: it is none of its tree")
            return
        former = self.own.get(before) or self.adopted.pop(mark, None)
        if former is not None and before not in self.own and former.fd is not None:
            self.selector.unregister(former.fd)
            os.close(former.fd)
        self._write("main", mark=mark, pid=pid, ticks=ticks)
        self._adopt(mark, Identity(pid, ticks), None)
        living = self._living(mark)
        if living is not None and former is not None:
            living.lane, former.lane = former.lane, None
        self.talk.report(mark, "started")

    def _fill(self) -> None:
        """Begin what waits for room in the lanes in which somebody has ended.

        What the agent has said by now comes first: who told it to drop a command, and
        then ended the one before, sees it dropped.
        """
        if self._freed:
            self.talk.listen()
        while self._freed:
            lane = self._freed.pop()
            while (request := self.lanes.next(lane)) is not None:
                self._begin(request["mark"], request)

    def _adopted_ended(self, child: Child) -> None:
        status = procs.exit_status(child.identity, child.fd)
        self.adopted.pop(child.mark, None)
        if child.fd is not None:
            self.selector.unregister(child.fd)
        self._came_to_end(child, status, None)

    def _ended(self, child: Child, status: int | None, usage: resource.struct_rusage | None) -> None:
        end: dict[str, object] = {"exit_code": None, "signal": None, "core": False, "known": status is not None}
        if status is not None and os.WIFEXITED(status):
            end["exit_code"] = os.WEXITSTATUS(status)
        elif status is not None:
            end["signal"] = os.WTERMSIG(status)
            end["core"] = os.WCOREDUMP(status)
        end["cpu"] = int((usage.ru_utime + usage.ru_stime) * 1e6) if usage else None
        end["peak_rss"] = usage.ru_maxrss * _USAGE_UNIT if usage else None
        if child.mark in self.services.of:
            left = self.services.left(child.mark, child.identity.pid, set(self.own))
            if left is not None:
                end["left"] = left
        now = _now()
        point("keeper-before-ended")
        self._write("ended", mark=child.mark, ended_at=now["at"], ended_mono=now["mono"], **end)
        point("keeper-after-ended")
        if child.fd is not None:
            os.close(child.fd)
        if child.popen is not None and status is not None:
            child.popen.returncode = os.waitstatus_to_exitcode(status)
        self.talk.report(child.mark, "end")
        point("keeper-after-ended-report")
        if child.lane is not None:
            self.lanes.leave(child.lane)
            self._freed.add(child.lane)

    def _signal(self, request: dict[str, Any]) -> None:
        child = self._living(str(request.get("mark")))
        if child is None:
            return
        number = int(request["signal"])
        try:
            if request.get("group"):
                # Its group bears its number, which stays taken until the reap.
                if procs.start_ticks(child.identity.pid) == child.identity.start_ticks:
                    os.killpg(child.identity.pid, number)
            elif child.fd is not None:
                pidfd.send(child.fd, number)
            elif procs.start_ticks(child.identity.pid) == child.identity.start_ticks:
                os.kill(child.identity.pid, number)
        except OSError as error:
            log(f"signal {number} to {child.mark} ({child.identity.pid}): {error.strerror}")

    def _living(self, mark: str) -> Child | None:
        said = self.marks.get(mark)
        if said is None or said["k"] != "started":
            return None
        return self.adopted.get(mark) or self.own.get(int(str(said["pid"])))

    # -- what the agent asks ---------------------------------------------------

    def obey(self, header: dict[str, Any]) -> None:
        """Do what a frame of the agent says; an operation of the future is ignored."""
        op = header.get("op")
        if op == "spawn":
            self._spawn(header)
        elif op == "signal":
            self._signal(header)
        elif op == "forget":
            self._forget(header.get("marks") or ())
        elif op == "withdraw":
            self._withdraw(header.get("marks") or ())
        elif op == "list":
            self.talk.replay()
        elif op == "upgrade":
            self._upgrade()
        elif op in ("listen", "unlisten", "watch", "unwatch", "quiet", "heard"):
            self.services.obey(str(op), header)
        elif op == "quit" and not self._busy():
            self.ending = True

    def _forget(self, marks: Sequence[str]) -> None:
        # A living one is not forgotten, whatever the agent believes.
        over = [mark for mark in marks if self.marks.get(mark, {}).get("k") in ("ended", "failed", "lost")]
        for mark in over:
            self.services.over(mark)
        point("keeper-before-forget")
        try:
            self.journal.forget(over)
            point("keeper-after-forget")
        except OSError as error:
            self._unwritten = True
            log(f"cannot write {self.home.keeper_journal}: {error.strerror}")

    def _withdraw(self, marks: Sequence[str]) -> None:
        for mark in self.lanes.withdraw(marks):
            point("keeper-before-withdrawn")
            self.talk.report(mark, "withdrawn")
            point("keeper-after-withdrawn")

    def _upgrade(self) -> None:
        """Become the newest code: same process, so its children stay its children."""
        try:
            self.journal.compact()
        except OSError as error:
            # The new code would know only what the file says.
            log(f"no upgrade while {self.home.keeper_journal} cannot be written: {error.strerror}")
            return
        adopted = {mark: child.fd for mark, child in self.adopted.items() if child.fd is not None}
        listener = self.talk.listener.fileno()
        state = {"lock": self.lock, "listener": listener, "soft": self.limit.soft, "adopted": adopted,
                 "services": self.services.state()}  # fmt: skip
        path = os.path.join(self.home.keeper_dir, "carry")
        carry = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        passed = [self.lock, listener, carry, *adopted.values(), *self.services.descriptors()]
        # Between exec and its handlers a signal would meet its default action.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            os.unlink(path)
            os.write(carry, json.dumps(state).encode())
            for fd in passed:
                os.set_inheritable(fd, True)
            argv = [sys.executable, "-P", "-m", "vigie.keeper", self.home.root, "--carry", str(carry)]
            point("keeper-before-exec")
            os.execv(sys.executable, argv)
        except OSError as error:
            log(f"cannot upgrade by {sys.executable}: {error.strerror}; the old code goes on")
            for fd in passed:
                os.set_inheritable(fd, False)
            os.close(carry)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _take_lock(path: str) -> int | None:
    """Take the home's lock and write our number in it; None if a keeper holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    os.ftruncate(fd, 0)
    os.write(fd, b"%d\n" % os.getpid())
    return fd


def _carried(fd: int) -> dict[str, Any]:
    """Read what the code before the exec handed on."""
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb") as file:
        state: dict[str, Any] = json.loads(file.read())
    os.set_inheritable(state["lock"], False)
    os.set_inheritable(state["listener"], False)
    return state


def main(argv: list[str]) -> int:
    """Run a keeper for the home ``argv[0]`` until it has nothing to do.

    Gives 0, at once where the home has a keeper already, and 2 on wrong usage.
    """
    if not argv or (len(argv) > 1 and (len(argv) != 3 or argv[1] != "--carry")):
        sys.stderr.write("usage: python -m vigie.keeper HOME\n")
        return 2
    home = Home(argv[0])
    os.umask(0o077)
    os.makedirs(home.keeper_dir, mode=0o700, exist_ok=True)
    if len(argv) == 3:
        point("keeper-after-exec")
        state = _carried(int(argv[2]))
        listener = socket.socket(fileno=state["listener"])
        lock: int | None = state["lock"]
    else:
        state = {}
        lock = _take_lock(home.keeper_lock)
        if lock is None:
            return 0
        listener = bind_unix(home.keeper_socket)
    os.chdir("/")
    with contextlib.suppress(PermissionError):
        os.setsid()
    pidfd.set_subreaper()
    limit = FileLimit(state.get("soft"))
    assert lock is not None
    Keeper(home, lock, listener, limit, state.get("adopted"), state.get("services")).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
