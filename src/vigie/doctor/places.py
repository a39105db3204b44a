"""The home: where it is, whose it is, who answers in it, what it lies on."""

from __future__ import annotations

import os
import shlex
import stat
from typing import Any

from vigie import locks
from vigie.config import Home
from vigie.doctor.check import Check, fail, note, ok, warn

__all__ = [
    "Mount",
    "disk",
    "file_system",
    "home",
    "lock",
    "mount_of",
    "no_home",
    "permissions",
    "socket",
]

GIB = 1 << 30
#: Beyond this a socket is reached through a descriptor of its directory.
LONGEST_SOCKET = 103
ANSWER_SECONDS = 3.0

#: File systems shared with other kernels: SQLite's WAL needs shared memory that they cannot give.
# fmt: off
NETWORK = frozenset({
    "9p", "afs", "afpfs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs",
    "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "smb", "smb2",
    "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
})
# fmt: on
VOLATILE = frozenset({"tmpfs", "ramfs"})


def existing(path: str) -> str:
    """Give the path, or its nearest parent that exists.

    >>> existing("/proc/no/such/thing")
    '/proc'
    """
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def no_home() -> Check:
    """Say that no home can be told."""
    return fail(
        "home",
        f"HOME is unset and user {os.getuid()} is not in the user database",
        "Vigie does not know where to keep its state",
        "set VIGIE_HOME to a directory that you can write",
    )


def home(where: Home) -> Check:
    """Tell where the home is, why there, and whether it can be written."""
    if os.environ.get("VIGIE_HOME"):
        why = "VIGIE_HOME"
    elif os.path.isabs(os.environ.get("XDG_STATE_HOME") or ""):
        why = "XDG_STATE_HOME"
    else:
        why = "the default" if os.environ.get("HOME") else "the default, from the user database: HOME is unset"
    said = f"{where.root} ({why})"
    use_other = "set VIGIE_HOME to a directory that you can write"
    if os.path.isdir(where.root):
        if not os.access(where.root, os.W_OK | os.X_OK):
            return fail("home", f"{said} cannot be written", "no agent can run there", use_other)
        return ok("home", said)
    parent = existing(where.root)
    if os.path.lexists(where.root) or not os.path.isdir(parent):
        what = where.root if parent == where.root else parent
        return fail("home", f"{said}: {what} is not a directory", "no agent can run there", use_other)
    if not os.access(parent, os.W_OK | os.X_OK):
        return fail("home", f"{said} is missing and {parent} cannot be written", "it cannot be made", use_other)
    return ok("home", f"{said}; made by the first `vigie start`")


def permissions(where: Home) -> Check:
    """Tell whether anybody but the owner gets in."""
    if not os.path.isdir(where.root):
        return ok("permissions", "nothing there yet; directories will be 0700 and files 0600")
    bad: list[tuple[str, str]] = []
    grave = False
    directories = (where.root, os.path.dirname(where.db), where.jobs, where.backups, where.tmp, where.workers)
    files = (where.secret, where.db, where.samples, where.socket, where.keeper_socket, where.agent_log)
    for path in (*directories, where.keeper_dir, *files):
        try:
            info = os.lstat(path)
        except OSError:
            continue
        if info.st_uid != os.geteuid():
            bad.append((path, f"belongs to user {info.st_uid}, not {os.geteuid()}"))
            grave = True
        elif info.st_mode & 0o077:
            bad.append((path, f"has mode {stat.S_IMODE(info.st_mode):04o}"))
            # Inside a closed home an open file harms nobody; a key or a door does.
            grave = grave or path == where.secret or bool(info.st_mode & 0o022)
    if not bad:
        return ok("permissions", f"{where.root} is yours alone (0700, files 0600)")
    said = "; ".join(f"{path} {what}" for path, what in bad[:4]) + ("; …" if len(bad) > 4 else "")
    todo = f"chmod -R go= {shlex.quote(where.root)}; a file of another user: chown it or move it away"
    return Check("permissions", "fail" if grave else "warn", said, "other users may read or steer your jobs", todo)


def socket(where: Home) -> Check:
    """Tell whether an agent answers, and which."""
    size = len(os.fsencode(where.socket))
    how = (
        f"path of {size} bytes"
        if size <= LONGEST_SOCKET
        else f"path of {size} bytes, reached through a descriptor of its directory"
    )
    if len(os.path.basename(where.socket)) > 80:
        return fail("socket", f"{where.socket}: the name is too long", "no socket can have it")
    try:
        status = ask(where.socket)
    except FileNotFoundError:
        return ok("socket", f"no agent runs; it starts by itself on first need ({how})")
    except ConnectionRefusedError:
        return note(
            "socket",
            f"{where.socket} is there and nobody listens ({how})",
            "an agent was killed; its jobs run on under the keeper",
            "any command that needs the agent starts it: vigie agent start",
        )
    except (OSError, ValueError) as error:
        return fail(
            "socket",
            f"{where.socket} does not answer: {error} ({how})",
            "an agent holds the socket and does not work",
            "vigie agent restart; its log is " + where.agent_log,
        )
    return _answer(status, how)


def _answer(status: dict[str, object], how: str) -> Check:
    from vigie import __version__

    keeper: Any = status.get("keeper")
    known = isinstance(keeper, dict) and keeper.get("pid")
    beside = f", keeper {keeper.get('version')} (pid {keeper.get('pid')})" if known else ""
    said = f"agent {status.get('version')} answers (pid {status.get('pid')}){beside} ({how})"
    if status.get("version") != __version__:
        return warn(
            "socket",
            said,
            f"this is vigie {__version__}: the agent has the code of another version",
            "vigie agent restart (running jobs are left untouched)",
        )
    return ok("socket", said)


def ask(path: str) -> dict[str, object]:
    """Ask the agent at a socket for its status, without starting one.

    Raises ``OSError`` when nobody answers, ``ValueError`` when it is no agent of ours.
    """
    from vigie import __version__, frames, sockets

    with sockets.connect_unix(path, timeout=ANSWER_SECONDS) as sock:
        hello = {"vigie": 1, "role": "client", "version": __version__, "program": "vigie doctor", "terminal": None}
        sock.sendall(frames.encode(hello) + frames.encode({"op": "status", "id": 1}))
        decoder = frames.Decoder()
        seen: dict[str, object] = {}
        while True:
            data = sock.recv(1 << 16)
            if not data:
                raise ConnectionError("it closed the connection")
            for header, _blobs in decoder.feed(data):
                # A refusal of the hello carries no "re"; it is an answer too.
                if header.get("re") == 1 or "error" in header:
                    seen |= header
                    return seen
                seen |= header


def lock(where: Home) -> Check:
    """Tell who holds ``agent.lock``."""
    try:
        os.stat(where.lock)
    except FileNotFoundError:
        return ok("lock", "agent.lock is not there yet: no agent has run in this home")
    holder = locks.holder(where.lock)
    if holder is None:
        return ok("lock", "agent.lock is free: no agent runs")
    said = f"agent.lock is held by pid {holder}" if holder else "agent.lock is held by a process out of sight"
    if not os.path.lexists(where.socket):
        return warn(
            "lock",
            f"{said}, and {where.socket} is missing",
            "the agent cannot be reached until it has made its socket again",
            "wait a few seconds; else vigie agent restart",
        )
    return ok("lock", said)


def disk(path: str) -> Check:
    """Tell how much room the home has."""
    usage = os.statvfs(existing(path))
    free = usage.f_bavail * usage.f_frsize
    total = usage.f_blocks * usage.f_frsize
    said = f"{free / GIB:.1f} GiB free of {total / GIB:.1f} GiB"
    todo = "vigie remove --finished, or move VIGIE_HOME to a larger disk"
    if usage.f_files and usage.f_favail < 1000:
        return warn("disk", f"{said}, {usage.f_favail} inodes left", "soon no job can have files", todo)
    if free < GIB // 64:
        return fail("disk", said, "the store cannot accept jobs when the disk is full", todo)
    if free < GIB:
        return warn("disk", said, "under 1 GiB: output and the store may run out of room", todo)
    return ok("disk", said)


class Mount(str):
    """A kind of file system, such as ``ext4``, with where it is mounted."""

    __slots__ = ("at",)
    at: str


def mount_of(path: str, mounts: str) -> Mount:
    r"""Find what a path lies on, from the text of ``/proc/mounts``.

    >>> where = mount_of("/my disk/x", "/dev/a / ext4 rw\nsrv:/x /my\\040disk nfs4 rw\n")
    >>> where, where.at
    ('nfs4', '/my disk')
    """
    best = Mount("unknown")
    best.at = ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        at = _unescape(fields[1])
        inside = path == at or path.startswith(at.rstrip("/") + "/")
        # Of two at one place the later one covers the earlier.
        if inside and len(at) >= len(best.at):
            best = Mount(fields[2])
            best.at = at
    return best


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def file_system(path: str, mounts: str | None = None) -> Check:
    """Tell whether SQLite's write-ahead log is safe where the home lies."""
    real = os.path.realpath(existing(path))
    if mounts is None:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as text:
            mounts = text.read()
    mount = mount_of(real, mounts)
    said = f"{mount} (mounted at {mount.at})"
    if mount in NETWORK:
        return fail(
            "file system",
            said,
            "a write-ahead log on a file system shared over a network can be corrupted",
            "set VIGIE_HOME to a directory on a local disk",
        )
    if mount.startswith("fuse"):
        return warn(
            "file system",
            said,
            "not every fuse file system gives the locks and the shared memory that a write-ahead log needs",
            "set VIGIE_HOME to a directory on a local disk unless you know that this one does",
        )
    if mount in VOLATILE:
        return note("file system", said, "everything there is gone when this machine restarts")
    if mount == "unknown":
        return note("file system", "its kind is unknown", "whether a write-ahead log is safe there is unknown")
    return ok("file system", said)
