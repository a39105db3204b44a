"""The keeper's notify sockets (sd_notify), and the descriptors that services give it to keep.

A service says how it is to the socket that ``NOTIFY_SOCKET`` names. What concerns the process
(MAINPID), its descriptors (FDSTORE) and the order of its words (BARRIER) is done here;
everything else goes to the agent, and while there is none into a file, so that
nothing is missed. Who may speak is told by the kernel: the sender's user and process.

The protocol: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import selectors
import socket
import struct
import time
from collections import deque

from vigie import procs
from vigie.keeper_talk import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from vigie.keeper_spawn import FileLimit

__all__ = ["Notify", "parse"]

_CREDENTIALS = struct.Struct("3i")
#: Bytes of a message, and descriptors with one.
LONGEST, MOST_FDS = 1 << 16, 253
#: Messages read at a turn of the loop, and kept for an agent that is not there.
AT_ONCE, KEPT = 64, 2_000
#: Bytes of the file in which they wait, before it is written anew.
LARGEST = 1 << 20
#: What a message may say that the agent wants to know.
_KEYS = (
    "READY", "RELOADING", "MONOTONIC_USEC", "STOPPING", "STATUS", "ERRNO", "WATCHDOG", "WATCHDOG_USEC",
    "EXTEND_TIMEOUT_USEC", "FDSTORE", "X_VIGIE_PROGRESS",
)  # fmt: skip


def parse(data: bytes) -> dict[str, str]:
    """Read the lines ``KEY=VALUE`` of a message; what is no such line says nothing.

    >>> parse(b"READY=1\\nSTATUS=a=b\\nnonsense\\n")
    {'READY': '1', 'STATUS': 'a=b'}
    """
    found: dict[str, str] = {}
    for line in data.split(b"\n"):
        key, equals, value = line.partition(b"=")
        if equals and key and key.isascii():
            found[key.decode()] = value.decode("utf-8", "replace")
    return found


class _Line:
    """The notify socket of one instance, and what it has stored."""

    def __init__(self, sock: socket.socket, path: str) -> None:
        self.sock = sock
        self.path = path
        self.mark = ""
        self.uid = os.getuid()
        self.most = 0
        self.store: list[tuple[str, int]] = []


class Notify:
    """All notify sockets.

    Parameters
    ----------
    directory:
        Where their files go.
    selector, limit:
        As for the sockets.
    pid_of:
        Gives the main process of a mark, or None.
    main:
        Called with a mark and the number of the process that is to be its main one.
    tell:
        Says something to the agent; False if there is none.
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
        self.directory = directory
        self._selector = selector
        self._limit = limit
        self._pid_of = pid_of
        self._main = main
        self._tell = tell
        self._lines: dict[str, _Line] = {}
        self._file = os.path.join(directory, "waiting")
        self._waiting: deque[dict[str, Any]] = deque(_read_waiting(self._file), maxlen=KEPT)
        #: Bytes of the file, and strangers that were named already: (key, uid, process).
        self._size = _size(self._file)
        self._named: set[tuple[str, int, int]] = set()
        self._seq = max((int(said["seq"]) for said in self._waiting), default=time.time_ns() // 1_000_000)

    # --- sockets --------------------------------------------------------------

    def prepare(self, key: str, mark: str, uid: int | None = None, most: int | None = None) -> str:
        """Give the address at which an instance's life can say something."""
        line = self._lines.get(key)
        # The home is closed to everybody else: somebody who runs as another user reaches it by an abstract name.
        stranger = uid is not None and uid != os.getuid()
        if line is None or not _is_there(line.path) or (stranger and not line.path.startswith("@")):
            if line is not None:
                self._drop_socket(line)
            fresh = self._make(key, abstract=stranger)
            if line is not None:
                fresh.store = line.store
            line = self._lines[key] = fresh
        line.mark = mark
        line.uid = os.getuid() if uid is None else uid
        if most is not None:
            line.most = most
            for _, fd in line.store[most:]:
                os.close(fd)
            del line.store[most:]
        return line.path

    def _make(self, key: str, *, abstract: bool) -> _Line:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        name = "".join(char if char.isalnum() or char in "-._" else "_" for char in key)[:40]
        path = os.path.join(self.directory, f"{name}.{abs(hash_of(key)):x}")
        if abstract or len(os.fsencode(path)) > 107:
            path = f"@vigie/{os.getuid()}/{abs(hash_of(self.directory)):x}/{abs(hash_of(key)):x}"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            if path.startswith("@"):
                sock.bind("\0" + path[1:])
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                with contextlib.suppress(OSError):
                    os.fchmod(sock.fileno(), 0o600)
                sock.bind(path)
                os.chmod(path, 0o600)
        except BaseException:
            sock.close()
            raise
        return self._take(key, self._lifted(sock), path)

    def _lifted(self, sock: socket.socket) -> socket.socket:
        fd = self._limit.lift(sock.detach())
        assert fd is not None
        return socket.socket(fileno=fd)

    def _take(self, key: str, sock: socket.socket, path: str) -> _Line:
        line = _Line(sock, path)
        self._selector.register(sock, selectors.EVENT_READ, lambda _events: self.drain(key, AT_ONCE))
        return line

    def _drop_socket(self, line: _Line) -> None:
        self._selector.unregister(line.sock)
        line.sock.close()

    def quiet(self, key: str) -> None:
        """Forget an instance: its socket, and what it has stored."""
        line = self._lines.pop(key, None)
        if line is not None:
            self._drop_socket(line)
            if not line.path.startswith("@"):
                with contextlib.suppress(OSError):
                    os.unlink(line.path)
            for _, fd in line.store:
                os.close(fd)

    def stored(self, key: str) -> list[tuple[int, str]]:
        """Give the descriptors that an instance has stored, each with its name."""
        line = self._lines.get(key)
        return [] if line is None else [(fd, name) for name, fd in line.store]

    # --- messages -------------------------------------------------------------

    def drain(self, key: str, most: int = 1 << 20) -> None:
        """Take what an instance has said by now."""
        line = self._lines.get(key)
        for _ in range(most):
            if line is None or line.sock.fileno() < 0:
                return
            try:
                data, ancillary, flags, _ = line.sock.recvmsg(
                    LONGEST,
                    socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * MOST_FDS),
                    socket.MSG_CMSG_CLOEXEC,
                )
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                log(f"cannot read what {key} says: {error.strerror}")
                return
            fds = array.array("i")
            who = (0, -1)
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                elif level == socket.SOL_SOCKET and kind == getattr(socket, "SCM_CREDENTIALS", 2):
                    pid, uid, _ = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])
                    who = (pid, uid)
            left = self._hear(key, line, b"" if flags & socket.MSG_TRUNC else data, list(fds), *who)
            for fd in left:
                os.close(fd)

    def _hear(self, key: str, line: _Line, data: bytes, fds: list[int], pid: int, uid: int) -> list[int]:
        """Take one message; give the descriptors that are not kept."""
        why = self._stranger(line, pid, uid)
        if why is not None:
            # Once each: whoever floods us shall not fill a log by it.
            if (key, uid, pid) not in self._named and len(self._named) < KEPT:
                self._named.add((key, uid, pid))
                log(f"{key}: a message of process {pid} is ignored: {why}")
                self._tell({"op": "stranger", "key": key, "pid": pid, "uid": uid, "why": why})
            return fds
        said = parse(data)
        if said.get("MAINPID", "").isdigit():
            self._main(line.mark, int(said["MAINPID"]))
        if said.get("FDSTOREREMOVE") == "1":
            self._remove(line, said.get("FDNAME", ""))
        elif said.get("FDSTORE") == "1":
            fds = self._keep(line, said.get("FDNAME", "stored"), fds)
        fields = {name: said[name] for name in _KEYS if name in said}
        if fields:
            self._pass_on(key, line.mark, pid, fields)
        # BARRIER=1: its descriptor is closed with the others, now that all before it is dealt with.
        return fds

    def _stranger(self, line: _Line, pid: int, uid: int) -> str | None:
        if uid not in (line.uid, os.getuid(), 0):
            return f"it is of user {uid}"
        main = self._pid_of(line.mark)
        if pid > 0 and main is not None and not procs.belongs(pid, main, line.mark):
            return "it is none of this service's processes"
        return None

    def _keep(self, line: _Line, name: str, fds: list[int]) -> list[int]:
        name = "".join(char for char in name if char.isprintable() and char != ":")[:255] or "stored"
        while fds and len(line.store) < line.most:
            fd = self._limit.lift(fds.pop(0))
            assert fd is not None
            line.store.append((name, fd))
        return fds

    def _remove(self, line: _Line, name: str) -> None:
        for stored in [each for each in line.store if each[0] == name]:
            line.store.remove(stored)
            os.close(stored[1])

    def _pass_on(self, key: str, mark: str, pid: int, fields: dict[str, str]) -> None:
        now = {"mono": time.monotonic_ns() // 1000, "at": time.time_ns() // 1000}
        message: dict[str, Any] = {"op": "notify", "key": key, "mark": mark, "pid": pid, "fields": fields, **now}
        words = fields.keys()
        if words <= {"WATCHDOG"} and self._tell(message):
            return
        if words <= {"WATCHDOG"} or words <= {"STATUS"}:
            # The newest is worth as much as all of them.
            last = next((each for each in reversed(self._waiting) if each["key"] == key), None)
            if last is not None and last["fields"].keys() == words:
                self._waiting.pop() if last is self._waiting[-1] else self._waiting.remove(last)
        if len(self._waiting) >= KEPT:
            self._make_room()
        self._seq += 1
        message["seq"] = self._seq
        self._waiting.append(message)
        self._write(message)
        self._tell(message)

    def _make_room(self) -> None:
        """Drop the oldest of what a later word makes good, else the oldest."""
        for said in self._waiting:
            if said["fields"].keys() <= {"WATCHDOG", "STATUS"}:
                self._waiting.remove(said)
                return
        self._waiting.popleft()

    def _write(self, message: dict[str, Any]) -> None:
        try:
            data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
            if self._size > LARGEST:
                # Most of it was merged or heard since.
                data = b"".join(json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in self._waiting)
                os.truncate(self._file, 0)
                self._size = 0
            with open(self._file, "ab", opener=_private) as file:
                file.write(data)
            self._size += len(data)
        except OSError as error:
            log(f"cannot write {self._file}: {error.strerror}")

    def heard(self, through: int) -> None:
        """Forget what the agent has dealt with."""
        while self._waiting and int(self._waiting[0]["seq"]) <= through:
            self._waiting.popleft()
        if not self._waiting:
            with contextlib.suppress(OSError):
                os.truncate(self._file, 0)
            self._size = 0

    def waiting(self) -> list[dict[str, Any]]:
        """Give what an agent that has just come has not heard yet, in its order."""
        return [{**message, "replay": True} for message in self._waiting]

    # --- handing on -----------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Give all of it for the code that follows."""
        return {
            key: {"fd": line.sock.fileno(), "path": line.path, "mark": line.mark, "uid": line.uid, "most": line.most,
                  "store": [list(each) for each in line.store]}
            for key, line in self._lines.items()
        }  # fmt: skip

    def take_over(self, state: dict[str, Any]) -> None:
        """Be as the code before the exec was."""
        for key, said in state.items():
            os.set_inheritable(said["fd"], False)
            line = self._lines[key] = self._take(key, socket.socket(fileno=said["fd"]), said["path"])
            line.mark, line.uid, line.most = said["mark"], said["uid"], said["most"]
            line.store = [(name, fd) for name, fd in said["store"]]
            for _, fd in line.store:
                os.set_inheritable(fd, False)

    def descriptors(self) -> list[int]:
        """Give every descriptor that is to pass to the next code."""
        return [fd for line in self._lines.values() for fd in (line.sock.fileno(), *(fd for _, fd in line.store))]


def hash_of(text: str) -> int:
    """Give a number for a text that is the same in every process."""
    from zlib import crc32

    return crc32(text.encode("utf-8", "surrogateescape"))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _is_there(path: str) -> bool:
    return path.startswith("@") or os.path.exists(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _read_waiting(path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with contextlib.suppress(OSError), open(path, "rb") as file:
        for line in file.read()[-(8 << 20) :].splitlines():
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and isinstance(said.get("seq"), int) and isinstance(said.get("fields"), dict):
                    found.append(said)
    return found[-KEPT:]
