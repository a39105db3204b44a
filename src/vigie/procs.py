"""Processes, read from /proc.

A process is named by its number *and* its start time (and, across boots, the
boot id): numbers are given again. What belongs to an attempt carries its mark in
``VIGIE_ATTEMPT``.

A scan is no snapshot. It is repeated for what appears while it runs.
"""

from __future__ import annotations

import os
import sys
import time

from vigie import pidfd

__all__ = [
    "MARK",
    "Identity",
    "Process",
    "alive",
    "anonymous",
    "boot_id",
    "boot_ticks",
    "cpu",
    "exit_status",
    "find_mark",
    "open_pidfd",
    "parent",
    "rss",
    "scan",
    "send_signal",
    "start_ticks",
    "twins",
]

#: The variable that marks the processes of an attempt.
MARK = "VIGIE_ATTEMPT"

_LINUX = sys.platform == "linux"
_ENTRY = MARK.encode() + b"="
_TICK = 1_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

SECOND = 1_000_000
#: How often a look is repeated for what appears while it lasts.
_ROUNDS = 50


class Identity:
    """One process for ever: its number and its start time in clock ticks since boot.

    >>> me = Identity(os.getpid(), start_ticks(os.getpid()))
    >>> alive(me)
    True
    """

    __slots__ = ("pid", "start_ticks")

    def __init__(self, pid: int, start_ticks: int) -> None:
        self.pid = pid
        self.start_ticks = start_ticks

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Identity):
            return NotImplemented
        return self.pid == other.pid and self.start_ticks == other.start_ticks

    def __hash__(self) -> int:
        return hash((self.pid, self.start_ticks))

    def __repr__(self) -> str:
        return f"Identity({self.pid}, {self.start_ticks})"


class Process:
    """One line of a scan; :attr:`mark` reads the environment when it is asked for."""

    __slots__ = ("_mark", "comm", "pgid", "pid", "ppid", "sid", "start_ticks", "state", "threads")

    def __init__(
        self, pid: int, ppid: int, pgid: int, sid: int, ticks: int, comm: str, state: str, threads: int = 1
    ) -> None:
        self.pid = pid
        self.ppid = ppid
        self.pgid = pgid
        self.sid = sid
        self.start_ticks = ticks
        self.comm = comm
        self.state = state
        self.threads = threads
        self._mark: str | bool | None = False

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.comm} {self.state} ppid={self.ppid} sid={self.sid}>"

    @property
    def identity(self) -> Identity:
        """Number and start time."""
        return Identity(self.pid, self.start_ticks)

    @property
    def zombie(self) -> bool:
        """True when it has ended and only waits to be reaped.

        A process whose first thread ended while others run shows as ``Z`` too.
        """
        return self.state in "ZX" and self.threads <= 1

    @property
    def mark(self) -> str | None:
        """The attempt that its environment names; None if none or not readable."""
        if self._mark is False:
            # Threads of the kernel, of group 0, have no environment at all.
            self._mark = _read_mark(self.pid) if self.pgid else None
        return self._mark if isinstance(self._mark, str) else None


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        # Anything else, such as no descriptor left, must not pass for "gone".
        return None


def _read_stat(pid: int | str) -> bytes | None:
    """Read /proc/PID/stat, which is one line, in as few calls as it takes."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 4096)
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None  # as above


def _read_environ(pid: int) -> bytes | None:
    """Read an environment; in the middle of an exec there is none, nor a command line, for a moment."""
    for _ in range(_ROUNDS):
        data = _read(f"/proc/{pid}/environ")
        if data or data is None or _read(f"/proc/{pid}/cmdline") != b"":
            return data
        os.sched_yield()
    return None


def _read_mark(pid: int) -> str | None:
    data = _read_environ(pid)
    if not data:
        return None
    at = 0 if data.startswith(_ENTRY) else data.find(b"\0" + _ENTRY) + 1
    if at == 0 and not data.startswith(_ENTRY):
        return None
    start = at + len(_ENTRY)
    end = data.find(b"\0", start)
    return data[start : end if end >= 0 else None].decode("utf-8", "surrogateescape")


def _fields(pid: int) -> list[bytes] | None:
    """Give the fields of /proc/PID/stat that follow the name, state first."""
    data = _read_stat(pid)
    # The name may hold anything, parentheses and spaces included.
    return data.rpartition(b")")[2].split() if data else None


def _parse_stat(data: bytes) -> Process:
    head, _, tail = data.rpartition(b")")
    number, _, comm = head.partition(b" (")
    field = tail.split()
    return Process(
        int(number),
        int(field[1]),
        int(field[2]),
        int(field[3]),
        int(field[19]),
        comm.decode("utf-8", "surrogateescape"),
        field[0].decode(),
        int(field[17]),
    )


def scan() -> list[Process]:
    """Read every process once.

    Repeated for the numbers that turn up meanwhile until none does: of two
    processes that hand over to each other, one is always seen.
    """
    if not _LINUX:
        return _scan_ps()
    found = []
    seen: set[str] = set()
    for _ in range(_ROUNDS):
        fresh = [name for name in os.listdir("/proc") if name.isdigit() and name not in seen]
        if not fresh:
            break
        seen.update(fresh)
        for name in fresh:
            data = _read_stat(name)
            if data:
                found.append(_parse_stat(data))
    return found


def _scan_ps() -> list[Process]:
    """Do what scan does by ``ps``: start times in seconds, and no marks."""
    import subprocess

    columns = "pid=,ppid=,pgid=,sess=,state=,lstart=,comm="
    shown = subprocess.run(["ps", "-axo", columns], capture_output=True, check=True, env={"LC_ALL": "C"})
    found = []
    for line in shown.stdout.decode("utf-8", "surrogateescape").splitlines():
        word = line.split(None, 10)
        pid, ppid, pgid = (int(part) for part in word[:3])
        # macOS shows no session number: a leader of a group stands for it.
        sid = int(word[3]) if word[3].isdigit() and word[3] != "0" else pgid
        ticks = int(time.mktime(time.strptime(" ".join(word[5:10]))))
        comm = word[10] if len(word) > 10 else ""
        found.append(Process(pid, ppid, pgid, sid, ticks, comm, word[4][0]))
    return found


def boot_id() -> str:
    """Name this boot of the machine: the same text until the next one."""
    data = _read("/proc/sys/kernel/random/boot_id")
    if data:
        return data.decode().strip()
    import subprocess

    shown = subprocess.run(["sysctl", "-n", "kern.boottime"], capture_output=True, check=True)
    return shown.stdout.decode().strip()


def start_ticks(pid: int) -> int | None:
    """Give the start time of process ``pid`` in clock ticks since boot; None if there is none."""
    if not _LINUX:
        return next((p.start_ticks for p in _scan_ps() if p.pid == pid), None)
    field = _fields(pid)
    return int(field[19]) if field else None


def alive(identity: Identity) -> bool:
    """Tell whether exactly this process runs; a zombie does not."""
    if not _LINUX:
        return any(p.identity == identity and not p.zombie for p in _scan_ps())
    data = _read_stat(identity.pid)
    if not data:
        return False
    process = _parse_stat(data)
    return process.start_ticks == identity.start_ticks and not process.zombie


def open_pidfd(identity: Identity) -> int | None:
    """Open a pidfd of exactly this process, living or not yet reaped.

    Gives None when it is gone, when its number belongs to another by now, or
    where the system has no pidfds. The caller closes it.
    """
    fd = pidfd.open_pid(identity.pid)
    if fd is not None and start_ticks(identity.pid) != identity.start_ticks:
        os.close(fd)
        return None
    return fd


def send_signal(identity: Identity, number: int) -> bool:
    """Send a signal to exactly this process; False if it is gone or not ours to signal."""
    fd = open_pidfd(identity)
    try:
        if fd is not None:
            pidfd.send(fd, number)
        elif hasattr(os, "pidfd_open") or start_ticks(identity.pid) != identity.start_ticks:
            return False
        else:
            os.kill(identity.pid, number)
    except OSError:
        return False
    finally:
        if fd is not None:
            os.close(fd)
    return True


def exit_status(identity: Identity, fd: int | None) -> int | None:
    """Give the wait status of an ended process that is somebody else's child.

    Before the reap /proc shows it (field 52 of ``stat``, which the owner may
    read); after the reap the kernel tells those who held a pidfd. None: it runs
    still, or nobody can know.
    """
    for _ in range(2):  # it may be reaped between the two questions
        status = pidfd.exit_status(fd) if fd is not None else None
        if status is not None:
            return status
        field = _fields(identity.pid) if _LINUX else None
        if field and int(field[19]) == identity.start_ticks:
            if field[0] in b"ZX" and int(field[17]) <= 1 and len(field) > 49:
                return int(field[49])
            return None
    return None


def boot_ticks() -> int:
    """Give the present in the unit and from the origin of start times; 0 where none is known."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000 // _TICK


def find_mark(mark: str, since: int = 0) -> Identity | None:
    """Find the main process of an attempt: the oldest session leader with its mark.

    Parameters
    ----------
    mark:
        What ``VIGIE_ATTEMPT`` holds.
    since:
        It started at or after this :func:`boot_ticks`.
    """
    recent = [p for p in scan() if p.sid == p.pid and p.start_ticks >= since and not p.zombie]
    leaders = [p for p in recent if p.mark == mark]
    return min(leaders, key=lambda p: (p.start_ticks, p.pid)).identity if leaders else None


def belongs(pid: int, main: int, mark: str) -> bool:
    """Tell whether a process is of the tree of a main process; of one that is gone already, nobody can say no.

    It is that process, in its session, below it, or carries its mark.
    """
    at, seen = pid, 0
    while at > 1 and seen < 64:
        field = _fields(at)
        if field is None:
            return at == pid  # gone, and so nobody can say no; or its parent has, and it is somebody else's
        if at == main or int(field[3]) == main:
            return True
        at, seen = int(field[1]), seen + 1
    return _read_mark(pid) == mark


def children(pid: int) -> list[int] | None:
    """Give the children of a process with one thread; None where the system does not tell."""
    data = _read(f"/proc/{pid}/task/{pid}/children")
    return None if data is None else [int(word) for word in data.split()]


def session(pid: int) -> int | None:
    """Give the session of a process; None if it is gone or a zombie."""
    field = _fields(pid)
    return int(field[3]) if field and field[0] not in b"ZX" else None


def mark_of(pid: int) -> str | None:
    """Give the mark that a process carries."""
    return _read_mark(pid)


def parent(identity: Identity) -> int | None:
    """Give the number of the parent of exactly this process, ended or not; None if it is gone."""
    if not _LINUX:
        return next((p.ppid for p in _scan_ps() if p.identity == identity), None)
    field = _fields(identity.pid)
    return int(field[1]) if field and int(field[19]) == identity.start_ticks else None


def twins(pid: int) -> list[int]:
    """Give the other processes with the same command line as ``pid``."""
    line = _read(f"/proc/{pid}/cmdline")
    if not line:
        return []
    return [p.pid for p in scan() if p.pid != pid and _read(f"/proc/{p.pid}/cmdline") == line]


def rss(pid: int) -> int | None:
    """Give the resident memory of a process in bytes."""
    data = _read(f"/proc/{pid}/statm")
    return int(data.split()[1]) * _PAGE if data else None


def anonymous(pid: int) -> int | None:
    """Give the resident memory in bytes that no file backs: what the process itself takes."""
    data = _read(f"/proc/{pid}/status") or b""
    at = data.find(b"\nRssAnon:")
    return int(data[at:].split(None, 2)[1]) * 1024 if at >= 0 else None


def cpu(pid: int) -> int | None:
    """Give the processor time in µs that a process has used, all threads, children excluded."""
    field = _fields(pid)
    return (int(field[11]) + int(field[12])) * _TICK if field else None
