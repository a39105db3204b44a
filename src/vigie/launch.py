"""Starting the agent: detached from whoever needed it first.

The agent must outlive its starter and owe it nothing: it gets a session of its
own, no open file of the caller's (a cron line's ``9>lock`` would be held for
ever), a minimal environment, and a parent that is gone, so that a program that
uses the library never finds a child that it did not make. Loaded only when an
agent has to be started.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import sys
import time

from vigie import locks
from vigie.config import Home
from vigie.errors import AgentUnreachable, VigieError
from vigie.sockets import connect_unix

__all__ = ["DEADLINE", "agent_environment", "launch"]

#: Seconds for an agent to accept.
DEADLINE = 10.0
#: Agents to start within that time: one may give way to another that is killed a moment later.
TRIES = 3

_KEPT = ("HOME", "PATH", "LANG", "LC_ALL", "LC_CTYPE", "USER", "LOGNAME", "TZ", "LD_LIBRARY_PATH")
_OURS = ("VIGIE_CRASH_AT", "VIGIE_DEBUG")

#: The step between: it forks, says the number of the agent-to-be, and is gone.
_BETWEEN = """
import os, sys
os.setsid()
os.chdir("/")
os.umask(0o077)
pid = os.fork()
if pid:
    try:
        os.write(3, b"%d" % pid)
    except OSError:
        pass  # who asked has been killed meanwhile
    os._exit(0)
os.closerange(3, 1 << 20)
os.execv(sys.argv[1], sys.argv[1:])
"""


def agent_environment(home: Home) -> dict[str, str]:
    """Give the environment of an agent: what finding files and time zones needs, no more.

    ``PYTHONPATH`` is there only when Vigie itself was found through it.
    """
    env = {key: os.environ[key] for key in (*_KEPT, *_OURS) if key in os.environ}
    env.update({key: value for key, value in os.environ.items() if key.startswith("XDG_")})
    env["VIGIE_HOME"] = home.root
    source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if source in [os.path.abspath(item) for item in given if item]:
        env["PYTHONPATH"] = source
    return env


def launch(home: Home) -> socket.socket:
    """Start the agent of a home and give a connection to it once it accepts.

    An agent that another caller started at the same moment is as good.

    Raises
    ------
    AgentUnreachable
        When the home cannot be used, or no agent accepts in time; with what it logged.
    """
    try:
        home.create()
    except VigieError as error:
        raise AgentUnreachable(error.message, error.hint) from None
    deadline = time.monotonic() + DEADLINE
    for _ in range(TRIES):
        logged = _size(home.agent_log)
        watch = _watch(_spawn(home))
        try:
            found = _await(home, deadline, watch)
        finally:
            if watch is not None:
                os.close(watch)
        if found is not None:
            return found
    raise AgentUnreachable(
        f"the agent ended at once: {_last_words(home, logged) or _cannot_write(home) or 'it said nothing'}",
        f"vigie doctor, or see {home.agent_log}",
    )


def _spawn(home: Home) -> int:
    """Start the agent and give its pid."""
    command = [sys.executable, "-P", "-m", "vigie.agent", home.root]
    read, low = os.pipe()
    # Away from 3, which it is to become: dup2 onto itself would keep close-on-exec.
    write = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(low)
    try:
        between = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", _BETWEEN, *command],
            agent_environment(home),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, home.agent_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600),
                (os.POSIX_SPAWN_DUP2, write, 3),
            ],
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD],
        )
    except OSError as error:
        os.close(read)
        raise AgentUnreachable(
            f"cannot start the agent with {sys.executable}: {error.strerror}", "vigie doctor"
        ) from None
    finally:
        os.close(write)
    said = b""
    with open(read, "rb", buffering=0) as pipe:
        while data := pipe.read(64):
            said += data
    # A caller that ignores SIGCHLD, or reaps everything, has no child to wait for.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(between, 0)
    return int(said or b"0")


def _watch(pid: int) -> int | None:
    """Give a descriptor that becomes readable when the process ends; None: it is gone."""
    if pid == 0:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _await(home: Home, deadline: float, watch: int | None) -> socket.socket | None:
    """Try to connect, less and less often, until somebody accepts; None: nobody is there who could."""
    pause = 0.004
    while True:
        gone = watch is None or bool(select.select([watch], [], [], 0)[0])
        try:
            return connect_unix(home.socket, max(0.1, deadline - time.monotonic()))
        except OSError as error:
            why = error
        # One that lost the race for the lock ends; then the winner will accept.
        if gone and locks.holder(home.lock) is None:
            return None
        if time.monotonic() > deadline:
            raise AgentUnreachable(
                f"the agent did not accept within {DEADLINE:.0f} s: {why.strerror or why}",
                f"vigie doctor, or see {home.agent_log}",
            )
        if watch is None or gone:
            time.sleep(pause)
        else:
            select.select([watch], [], [], pause)
        pause = min(pause * 1.5, 0.1)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _cannot_write(home: Home) -> str | None:
    """Say why nothing can be written in a home, not even the agent's last words; None: it can."""
    probe = os.path.join(home.tmp, f"probe-{os.getpid()}")
    try:
        with open(probe, "xb") as file:
            file.write(bytes(1 << 16))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"no space on the disk of {home.root}"
        return f"cannot write in {home.tmp}: {error.strerror}"
    finally:
        with contextlib.suppress(OSError):
            os.unlink(probe)
    return None


def _last_words(home: Home, logged: int) -> str:
    """Give the last lines that the agent wrote since it was started."""
    try:
        with open(home.agent_log, "rb") as log:
            log.seek(max(logged, _size(home.agent_log) - 4096))
            lines = log.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return "\n  ".join(lines[-5:])
