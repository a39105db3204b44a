"""The keeper's listening sockets: opened once for a service, and kept open across its lives.

While a service is restarted, connections wait in the queue of its socket, so that none is
refused. The sockets pass to the next code by exec; copies of them lie with the agent,
for the case that the keeper dies.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket

from vigie.sockets import connect_unix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from vigie.keeper_spawn import FileLimit

__all__ = ["Sockets", "shown"]


class Sockets:
    """All listening sockets, by the key of their service.

    Parameters
    ----------
    selector:
        The loop's; the data of each key is called with the events.
    limit:
        Lifts descriptors out of the numbers that a spawn needs.
    tell:
        Says something to the agent.
    """

    def __init__(
        self, selector: selectors.BaseSelector, limit: FileLimit, tell: Callable[[dict[str, Any]], bool]
    ) -> None:
        self._selector = selector
        self._limit = limit
        self._tell = tell
        #: key → what was asked for, each with its descriptor while it is open.
        self._all: dict[str, list[tuple[dict[str, Any], int | None]]] = {}
        self._watched: dict[int, str] = {}

    def listen(self, key: str, specs: list[dict[str, Any]]) -> str | None:
        """Open what is not open, close what is not asked for any more; give why something cannot be opened."""
        before = self._all.get(key, [])
        kept: list[tuple[dict[str, Any], int | None]] = []
        wrong: str | None = None
        for spec in specs:
            open_one = next((fd for known, fd in before if fd is not None and _same(known, spec)), None)
            kept.append((spec, open_one))
        for known, fd in before:
            if fd is not None and not any(fd == other for _, other in kept):
                self._shut(known, fd)
        for at, (spec, fd) in enumerate(kept):
            if fd is None:
                try:
                    kept[at] = (spec, self._limit.lift(_open(spec)))
                except (OSError, ValueError, KeyError, TypeError) as error:
                    wrong = wrong or f"{shown(spec)}: {_why(spec, error)}"
        self._all[key] = kept
        return wrong

    def adopt(self, key: str, specs: list[dict[str, Any]], fds: list[int]) -> None:
        """Take sockets that somebody else has kept open, unless ours are."""
        if any(fd is not None for _, fd in self._all.get(key, ())):
            for fd in fds:
                os.close(fd)
            return
        self._all[key] = [(spec, self._limit.lift(fd)) for spec, fd in zip(specs, fds, strict=False)]

    def fds(self, key: str) -> list[tuple[int, str]]:
        """Give the open sockets of a service, each with its name.

        Raises
        ------
        OSError
            When one cannot be opened; the text says which and why.
        """
        known = self._all.get(key, [])
        if any(fd is None for _, fd in known):
            wrong = self.listen(key, [spec for spec, _ in known])
            if wrong is not None:
                raise OSError(errno.EADDRINUSE, wrong)
        return [(fd, str(spec.get("name") or "unknown")) for spec, fd in self._all.get(key, ()) if fd is not None]

    def close(self, key: str) -> None:
        """Close what a service listens on."""
        self.unwatch(key)
        for spec, fd in self._all.pop(key, ()):
            if fd is not None:
                self._shut(spec, fd)

    def _shut(self, spec: dict[str, Any], fd: int) -> None:
        self._unregister(fd)
        os.close(fd)
        if spec.get("kind") == "unix":
            with contextlib.suppress(OSError):
                os.unlink(spec["address"])

    # --- the first connection -------------------------------------------------

    def watch(self, key: str) -> None:
        """Tell the agent, once, when somebody waits at a socket of a service."""
        for _, fd in self._all.get(key, ()):
            if fd is not None and fd not in self._watched:
                self._watched[fd] = key
                self._selector.register(fd, selectors.EVENT_READ, lambda _events, key=key: self._come(key))

    def _come(self, key: str) -> None:
        self.unwatch(key)
        self._tell({"op": "connection", "key": key})

    def unwatch(self, key: str) -> None:
        """Tell of it no more."""
        for fd in [fd for fd, of in self._watched.items() if of == key]:
            self._unregister(fd)

    def _unregister(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            self._selector.unregister(fd)

    # --- handing on -----------------------------------------------------------

    def state(self) -> dict[str, list[Any]]:
        """Give all of it for the code that follows: key → [spec, fd] each."""
        return {key: [[spec, fd] for spec, fd in sockets] for key, sockets in self._all.items()}

    def take_over(self, state: dict[str, list[Any]]) -> None:
        """Be as the code before the exec was."""
        for key, sockets in state.items():
            self._all[key] = [(spec, fd) for spec, fd in sockets]
            for _, fd in self._all[key]:
                if fd is not None:
                    os.set_inheritable(fd, False)


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("kind", "address", "mode", "backlog"))


def shown(spec: dict[str, Any]) -> str:
    """Give an address as it is written.

    >>> shown({"kind": "tcp", "address": ["::1", 80]})
    'tcp://[::1]:80'
    """
    if spec.get("kind") == "unix":
        return f"unix://{spec.get('address')}"
    host, port = spec["address"]
    return f"{spec['kind']}://[{host}]:{port}" if ":" in host else f"{spec['kind']}://{host}:{port}"


def _open(spec: dict[str, Any]) -> int:
    if spec["kind"] == "unix":
        return _open_unix(spec)
    host, port = spec["address"]
    kind = socket.SOCK_DGRAM if spec["kind"] == "udp" else socket.SOCK_STREAM
    found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    sock = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen(int(spec.get("backlog") or 4096))
    except BaseException:
        sock.close()
        raise
    return sock.detach()


def _open_unix(spec: dict[str, Any]) -> int:
    path = spec["address"]
    if os.path.exists(path):
        try:
            connect_unix(path, 0.5).close()
        except ConnectionRefusedError:
            os.unlink(path)  # whoever listened there has gone
        except TimeoutError:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mode = int(spec.get("mode") or 0o600)
        with contextlib.suppress(OSError):
            os.fchmod(sock.fileno(), mode)
        sock.bind(path)
        os.chmod(path, mode)
        sock.listen(int(spec.get("backlog") or 4096))
    except BaseException:
        sock.close()
        raise
    return sock.detach()


def _why(spec: dict[str, Any], error: Exception) -> str:
    number = getattr(error, "errno", None)
    text = os.strerror(number).lower() if isinstance(number, int) and number > 0 else str(error)
    if number == errno.EADDRINUSE:
        holder = _holder(spec)
        if holder:
            text += f" ({holder})"
    return text


def _holder(spec: dict[str, Any]) -> str | None:
    """Give who has a TCP port, where /proc tells."""
    if spec.get("kind") != "tcp":
        return None
    port = f"{int(spec['address'][1]):04X}"
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as file:
            rows = [line.split() for line in file.readlines()[1:]]
            inodes |= {row[9] for row in rows if row[1].endswith(":" + port) and row[3] == "0A"}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in os.listdir("/proc") if wanted else ():
        if pid.isdigit():
            with contextlib.suppress(OSError):
                if any(os.readlink(f"/proc/{pid}/fd/{fd}") in wanted for fd in os.listdir(f"/proc/{pid}/fd")):
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                        return f"pid {pid}, {file.read().strip()}"
    return None
