"""What the keeper does for services beyond spawning: sockets, notifications, who the main process is."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time

from vigie import frames, procs
from vigie.keeper_cgroup import Cgroups
from vigie.keeper_fork import account_of, fork, is_plain
from vigie.keeper_notify import Notify
from vigie.keeper_sockets import Sockets
from vigie.keeper_talk import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from vigie.keeper_spawn import FileLimit

__all__ = ["Services"]

#: Seconds for a daemon to write the file that says who goes on.
PID_FILE = 2.0


class Services:
    """The keeper's services.

    Parameters
    ----------
    directory:
        Where notify sockets go.
    selector, limit:
        The keeper's.
    pid_of, main:
        Give the main process of a mark; make another process that.
    tell:
        Says something to the agent.
    """

    def __init__(
        self,
        directory: str,
        selector: selectors.BaseSelector,
        limit: FileLimit,
        pid_of: Callable[[str], int | None],
        main: Callable[[str, int], None],
        tell: Callable[[dict[str, Any]], bool],
    ) -> None:
        self.sockets = Sockets(selector, limit, tell)
        self.notify = Notify(directory, selector, limit, pid_of, main, tell)
        self.cgroups = Cgroups(os.getpid(), os.getppid())
        self._limit = limit
        self._tell = tell
        #: Marks of services: what their spawn has said.
        self.of: dict[str, dict[str, Any]] = {}
        #: Ended first processes of forking daemons: mark → until when (s, monotonic) somebody is looked for.
        self.forked: dict[str, float] = {}

    # --- what the agent asks ----------------------------------------------------

    def obey(self, op: str, request: dict[str, Any]) -> None:
        """Do what a frame says of sockets and instances."""
        key = str(request.get("key"))
        if op == "listen":
            wrong = self.sockets.listen(key, request.get("sockets") or [])
            if wrong is not None:
                log(f"{key} cannot listen: {wrong}")
            self._tell({"op": "listening", "key": key, "error": wrong})
        elif op == "unlisten":
            self.sockets.close(key)
        elif op == "watch":
            self.sockets.watch(key)
        elif op == "unwatch":
            self.sockets.unwatch(key)
        elif op == "quiet":
            self.notify.quiet(key)
        elif op == "heard":
            self.notify.heard(int(request.get("through") or 0))

    def exchange(self, sock: socket.socket, header: dict[str, Any], fds: list[int]) -> None:
        """Give copies of listening sockets to the agent, or take back those that it has kept."""
        if header.get("want"):
            # A peer that does not read costs us no more than this.
            sock.settimeout(1.0)
            for key, sockets in self.sockets.state().items():
                held = [(spec, fd) for spec, fd in sockets if fd is not None]
                answer = frames.encode({"key": key, "sockets": [spec for spec, _ in held]})
                socket.send_fds(sock, [answer], [fd for _, fd in held])
            sock.send(frames.encode({"key": None}))
        elif isinstance(header.get("key"), str) and len(fds) == len(header.get("sockets") or ()):
            self.sockets.adopt(header["key"], header["sockets"], fds)
        else:
            for fd in fds:
                os.close(fd)

    # --- spawning ---------------------------------------------------------------

    def prepare(self, request: dict[str, Any]) -> None:
        """Add to the environment of a life how it can say something.

        Raises
        ------
        LookupError
            When it is to run as somebody who is unknown here.
        """
        service, mark = request["service"], request["mark"]
        account = account_of(service.get("user"), service.get("group"))
        uid = None if account is None else account.uid
        env = dict(request.get("env") or {})
        if service.get("notify"):
            env["NOTIFY_SOCKET"] = self.notify.prepare(service["key"], mark, uid, int(service.get("fd_store") or 0))
        if service.get("watchdog"):
            env["WATCHDOG_USEC"] = str(int(service["watchdog"]))
        request["env"] = env
        self.of[mark] = service

    def passed(self, service: dict[str, Any]) -> list[tuple[int, str]]:
        """Give the descriptors that a life inherits: its sockets, then what the one before has stored.

        Raises
        ------
        OSError
            When a socket cannot be opened.
        """
        found = self.sockets.fds(service["listen"]) if service.get("listen") else []
        return found + self.notify.stored(service["key"])

    def spawner(self, request: dict[str, Any]) -> Callable[..., Any] | None:
        """Give what starts a life where something has to be done in the child itself; None: a plain spawn does."""
        service = request["service"]
        passed = self.passed(service)
        if is_plain(service, passed):
            return None
        service = self._grouped(service, request["mark"])

        def start(
            argv: list[bytes], env: dict[bytes, bytes], cwd: bytes, umask: int, streams: tuple[int, int, int]
        ) -> Any:
            return fork(argv, env, cwd, umask, streams, service, passed, self._limit.soft)

        return start

    def _grouped(self, service: dict[str, Any], mark: str) -> dict[str, Any]:
        """Give a service with the control group of its life, and the limits that are left to the process itself."""
        limits = service.get("limits") or {}
        if not limits:
            return service
        path, rest = self.cgroups.make(mark, limits)
        remarks = []
        if "cpu" in rest:
            remarks.append("no control group is delegated to us here, without which cpu cannot be limited")
        is_root = os.geteuid() == 0 and service.get("user") in (None, "root", "0")
        if "processes" in rest and is_root:
            remarks.append("processes does not bind root outside a control group")
        for text in remarks:
            log(f"{service['key']}: {text}")
            self._tell({"op": "remark", "key": service["key"], "text": text})
        return {**service, "limits": rest, "cgroup_path": path}

    def adopt(self, mark: str, said: dict[str, object]) -> None:
        """Listen again to a life that an earlier keeper has begun."""
        service = said.get("service")
        if isinstance(service, dict) and isinstance(service.get("key"), str):
            self.of[mark] = service
            try:
                account = account_of(service.get("user"), service.get("group"))
                self.notify.prepare(service["key"], mark, None if account is None else account.uid,
                                    int(service.get("fd_store") or 0))  # fmt: skip
            except (OSError, LookupError) as error:
                log(f"{service['key']} cannot say anything: {error}")

    # --- ends -------------------------------------------------------------------

    def drain(self, mark: str) -> None:
        """Hear what a life has said before its end is judged."""
        service = self.of.get(mark)
        if service is not None:
            self.notify.drain(service["key"])

    def forks(self, mark: str, status: int | None) -> bool:
        """Tell whether the end of a first process may be that of a daemon which goes on as another."""
        service = self.of.get(mark)
        if service is None or not service.get("forking") or status != 0:
            return False
        self.forked[mark] = time.monotonic() + PID_FILE
        return True

    def successor(self, mark: str) -> tuple[int | None, bool]:
        """Give who goes on as a forking daemon, if that is known, and whether it is worth to look again."""
        service = self.of.get(mark, {})
        until = self.forked.get(mark, 0.0)
        if service.get("pid_file"):
            found = _read_pid(service["pid_file"])
            if found is not None and procs.start_ticks(found) is not None:
                return found, False
            return None, time.monotonic() < until
        ours = [pid for pid in procs.children(os.getpid()) or () if procs.mark_of(pid) == mark and procs.session(pid)]
        eldest = min(ours, key=lambda pid: (procs.start_ticks(pid) or 0, pid), default=None)
        return eldest, False

    def left(self, mark: str, main: int, own: set[int]) -> int | None:
        """Count the processes of an ended life's tree that have come to us; None where the system does not tell."""
        children = procs.children(os.getpid())
        if children is None:
            return None
        strangers = [pid for pid in children if pid not in own and pid != main]
        return sum(procs.session(pid) == main or procs.mark_of(pid) == mark for pid in strangers if procs.session(pid))

    def over(self, mark: str) -> None:
        """Forget a life."""
        service = self.of.pop(mark, None)
        if service is not None and service.get("limits"):
            self.cgroups.remove(mark)
        self.forked.pop(mark, None)

    # --- handing on -------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Give all of it for the code that follows."""
        return {"sockets": self.sockets.state(), "notify": self.notify.state(), "of": self.of}

    def take_over(self, state: dict[str, Any]) -> None:
        """Be as the code before the exec was."""
        self.sockets.take_over(state.get("sockets") or {})
        self.notify.take_over(state.get("notify") or {})
        self.of.update(state.get("of") or {})

    def descriptors(self) -> list[int]:
        """Give every descriptor that is to pass to the next code."""
        open_ones = [fd for sockets in self.sockets.state().values() for _, fd in sockets if fd is not None]
        return open_ones + self.notify.descriptors()


def explain(error: LookupError) -> tuple[str, int, str]:
    """Give what a spawn failed on, for an account that there is not."""
    return "argv", errno.EINVAL, str(error.args[0])


def _read_pid(path: str) -> int | None:
    try:
        with open(path, "rb") as file:
            text = file.read(64).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
