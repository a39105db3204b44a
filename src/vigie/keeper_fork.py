"""Spawning by fork: where the child must do something itself before its program runs.

That is the case for passed sockets (``LISTEN_PID`` is the child's own number), another user,
limits, niceness and processors. Everything that can be prepared is prepared before the
fork; what fails in the child comes back through a pipe, as the same error that a plain spawn would give.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["Account", "Forked", "account_of", "fork", "is_plain"]

#: The first descriptor that is passed.
FIRST = 3


class Account:
    """A user to become."""

    __slots__ = ("gid", "home", "name", "shell", "uid")

    def __init__(self, name: str, uid: int, gid: int, home: str, shell: str) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.home = home
        self.shell = shell


class Forked:
    """A child as the keeper holds it: what it asks of a ``Popen``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None


def is_plain(service: dict[str, Any], passed: Sequence[object]) -> bool:
    """Tell whether nothing has to be done in the child itself.

    >>> is_plain({"notify": True, "nice": None}, [])
    True
    """
    asks = ("user", "group", "limits", "affinity", "cgroup")
    return not passed and service.get("nice") is None and not any(service.get(key) for key in asks)


def account_of(user: str | None, group: str | None) -> Account | None:
    """Look up a user and a group, by name or number.

    Raises
    ------
    LookupError
        When there is none of that name.
    """
    if user is None and group is None:
        return None
    import grp
    import pwd

    try:
        if user is None:
            row = pwd.getpwuid(os.geteuid())
        else:
            row = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        raise LookupError(f"there is no user {user} on this machine") from None
    gid = row.pw_gid
    if group is not None:
        try:
            gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise LookupError(f"there is no group {group} on this machine") from None
    return Account(row.pw_name, row.pw_uid, gid, row.pw_dir, row.pw_shell)


def fork(
    argv: list[bytes],
    env: dict[bytes, bytes],
    cwd: bytes,
    umask: int,
    streams: tuple[int, int, int],
    service: dict[str, Any],
    passed: Sequence[tuple[int, str]],
    soft_files: int,
) -> Forked:
    """Start a program with all that its service asks for.

    Parameters
    ----------
    streams:
        What becomes its descriptors 0, 1 and 2.
    passed:
        What becomes its descriptors from 3 on, each with its name.
    soft_files:
        How many descriptors it may have, unless its limits say otherwise.

    Raises
    ------
    OSError
        It never ran; ``filename`` is what it failed on: the program, the directory, or a step in words.
    """
    account = account_of(service.get("user"), service.get("group"))
    if account is not None:
        who = {b"HOME": account.home, b"USER": account.name, b"LOGNAME": account.name, b"SHELL": account.shell}
        env |= {key: os.fsencode(value) for key, value in who.items()}
    if passed:
        env[b"LISTEN_FDS"] = b"%d" % len(passed)
        env[b"LISTEN_FDNAMES"] = ":".join(name for _, name in passed).encode("utf-8", "surrogateescape")
    candidates = _candidates(argv[0], env, cwd)
    limits = _limits(service.get("limits") or {}, soft_files)
    # All sources stand above all targets: none is overwritten before it is used.
    sources: list[int] = []
    read, write = os.pipe()
    try:
        floor = FIRST + len(passed) + 1
        for fd in (*streams, *(fd for fd, _ in passed)):
            sources.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, floor))
        report = fcntl.fcntl(write, fcntl.F_DUPFD_CLOEXEC, floor)
        sources.append(report)
        pid = os.fork()
        if pid == 0:
            _become(argv, env, cwd, umask, sources[:-1], service, account, limits, candidates, report)
    finally:
        os.close(write)
        for fd in sources:
            with contextlib.suppress(OSError):
                os.close(fd)
        if not sources or "pid" not in locals():
            os.close(read)
    with open(read, "rb") as pipe:
        said = pipe.read()
    if said:
        os.waitpid(pid, 0)
        number, what = json.loads(said)
        raise OSError(number, os.strerror(number), os.fsencode(what))
    return Forked(pid)


def _become(
    argv: list[bytes], env: dict[bytes, bytes], cwd: bytes, umask: int, sources: list[int], service: dict[str, Any],
    account: Account | None, limits: list[tuple[int, int, str]], candidates: list[bytes], report: int,
) -> None:  # fmt: skip
    """Be the child, until its program runs; does not return."""
    what = "fork"
    try:
        os.setsid()
        for target, source in enumerate(sources):
            os.dup2(source, target, inheritable=True)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        env[b"WATCHDOG_PID"] = b"%d" % os.getpid()
        if b"WATCHDOG_USEC" not in env:
            del env[b"WATCHDOG_PID"]
        if b"LISTEN_FDS" in env:
            env[b"LISTEN_PID"] = b"%d" % os.getpid()
        if service.get("cgroup_path"):
            what = "its cgroup"
            _enter(service["cgroup_path"])
        for limit, value, name in limits:
            what = f"the limit of {name}"
            resource.setrlimit(limit, (value, value))
        if service.get("nice") is not None:
            what = "nice"
            os.setpriority(os.PRIO_PROCESS, 0, int(service["nice"]))
        if service.get("affinity") and hasattr(os, "sched_setaffinity"):
            what = "affinity"
            os.sched_setaffinity(0, service["affinity"])
        if account is not None:
            what = f"user {account.name}"
            _change(account)
        os.umask(umask)
        what = os.fsdecode(cwd)
        os.chdir(cwd)
        what = os.fsdecode(argv[0])
        _run(candidates, argv, env)
    except BaseException as error:
        failed = getattr(error, "errno", None) or errno.EINVAL
        os.write(report, json.dumps([failed, what]).encode())
    os._exit(127)


def _enter(path: str) -> None:
    with open(os.path.join(path, "cgroup.procs"), "w", encoding="ascii") as file:
        file.write("0")


def _change(account: Account) -> None:
    if os.geteuid() != account.uid or os.getegid() != account.gid:
        os.initgroups(account.name, account.gid)
        os.setgid(account.gid)
        os.setuid(account.uid)


def _run(candidates: list[bytes], argv: list[bytes], env: dict[bytes, bytes]) -> None:
    """Become the first of some paths that can be run."""
    saved: OSError | None = None
    for path in candidates:
        try:
            os.execve(path, argv, env)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR) or saved is None:
                saved = error
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                break
    raise saved or OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def _candidates(name: bytes, env: dict[bytes, bytes], cwd: bytes) -> list[bytes]:
    if b"/" in name:
        return [os.path.join(cwd, name)]
    path = env.get(b"PATH", os.defpath.encode())
    return [os.path.join(part or b".", name) for part in path.split(b":")]


def _limits(given: dict[str, Any], soft_files: int) -> list[tuple[int, int, str]]:
    """Give (limit, value, name) for what the kernel limits for a process."""
    found = [(resource.RLIMIT_NOFILE, int(given.get("files") or soft_files), "files")] if "files" in given else []
    if "memory" in given:
        found.append((resource.RLIMIT_AS, int(given["memory"]), "memory"))
    if "cpu_time" in given:
        found.append((resource.RLIMIT_CPU, int(given["cpu_time"]), "cpu_time"))
    if "processes" in given:
        found.append((resource.RLIMIT_NPROC, int(given["processes"]), "processes"))
    return found
