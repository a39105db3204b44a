"""Crash points: places where a test may kill the process, free otherwise.

``VIGIE_CRASH_AT=point`` kills it with SIGKILL there; ``point:3`` when it passes there for
the third time; ``point:3:PATH`` only whoever makes the file PATH, so that of all processes
that have the variable one dies, once; it holds the dead one's number and the instant (µs).
Several, separated by commas, are possible.

A point stands on either side of each commit, each write of a journal and each message.
:data:`POINTS` lists them all; the tests crash at each.
"""

from __future__ import annotations

import os
import signal
import time

__all__ = ["ARMED", "POINTS", "point"]

#: Who passes it, and what has been done there.
POINTS = {
    # The store: the agent alone writes it.
    "store-before-commit": "a transaction is complete and not committed",
    "store-after-commit": "it is committed; nobody has heard of it",
    "store-before-create": "the tables of a new store are in a transaction that is not committed",
    "store-after-create": "they are committed; nobody has been served",
    # A restore: it runs while no agent does.
    "restore-before-commit": "the copy of a backup is not finished; the store is as it was",
    "restore-after-commit": "the copy is finished, and not in its place",
    "restore-before-rename": "the store has a second name; the copy is not in its place",
    "restore-after-rename": "the copy is in the store's place",
    # A client.
    "client-before-request": "a request is ready and not sent",
    "client-after-request": "it is sent; nobody knows the answer",
    # The samples: without them only the order of two streams is not known.
    "samples-before-commit": "lengths of outputs are in a transaction that is not committed",
    "samples-after-commit": "they are committed",
    "samples-before-delete": "a job is removed; its samples are there",
    "samples-after-delete": "they are deleted",
    # The logs of services: their heads are moved to parts, or go.
    "logs-before-part": "a part is on disk, and has not its name",
    "logs-after-part": "it has its name; its bytes are in the file, too",
    "logs-after-mark": "the mark says that bytes are not in the file; they are not released",
    "logs-after-release": "they are released",
    "logs-before-drop": "a part is too old, and is there",
    "logs-after-drop": "it is deleted",
    # The agent, to clients.
    "agent-before-answer": "an answer is ready and not sent",
    "agent-after-answer": "an answer is sent",
    # The agent, to the keeper.
    "agent-before-keeper-hello": "the keeper accepted, and was told nothing",
    "agent-after-keeper-hello": "the hello is sent",
    "agent-replayed": "the keeper has told all it knows; nothing is decided",
    "agent-before-spawn": "an attempt is committed, and the keeper has not heard of it",
    "agent-after-spawn": "the keeper was told to spawn",
    "agent-before-withdraw": "a command that the keeper holds is not wanted, and it does not know",
    "agent-after-withdraw": "the keeper was told to drop it, if it has not begun",
    "agent-before-forget": "ends are committed, and the keeper keeps them",
    "agent-after-forget": "the keeper was told to forget",
    "agent-before-upgrade": "an older keeper is found",
    "agent-after-upgrade": "it was told to become the newest code",
    # The agent, to workers.
    "agent-before-greeting": "a client or worker said hello and was not answered",
    "agent-after-greeting": "it was answered",
    "agent-before-limit": "jobs are committed to a worker, whose page does not allow them",
    "agent-after-limit": "the page allows them, and the worker has not got them",
    "agent-after-jobs": "the worker has got them",
    "agent-before-worker-quit": "a worker is to go and does not know it",
    "agent-after-worker-quit": "it was told",
    # The keeper: its journal, and what it says.
    "keeper-before-hello": "somebody connected and was told nothing",
    "keeper-after-hello": "the hello is sent",
    "keeper-before-replay": "the agent said hello; nothing is replayed",
    "keeper-before-begin": "told to spawn; nothing is written",
    "keeper-after-begin": "begin is in the journal; nothing is spawned",
    "keeper-after-spawn": "the process runs; the journal has begin alone",
    "keeper-after-started": "started is in the journal; nobody was told",
    "keeper-after-started-report": "the agent was told that it started",
    "keeper-before-failed": "it could not be spawned; the journal has begin alone",
    "keeper-after-failed": "failed is in the journal; nobody was told",
    "keeper-after-failed-report": "the agent was told that it failed",
    "keeper-before-ended": "a process is reaped; the journal does not know it",
    "keeper-after-ended": "ended is in the journal; nobody was told",
    "keeper-after-ended-report": "the agent was told how it ended",
    "keeper-before-withdrawn": "a command that waits for room is dropped; nobody was told",
    "keeper-after-withdrawn": "the agent was told that it will not begin",
    "keeper-before-lost": "a successor found no process; the journal does not say so",
    "keeper-after-lost": "lost is in the journal",
    "keeper-before-adopted": "a successor found the process of a begin; the journal does not say so",
    "keeper-after-adopted": "started is in the journal; nobody watches it",
    "keeper-before-forget": "told to forget; the journal remembers",
    "keeper-after-forget": "forget is in the journal",
    "keeper-before-rename": "a shorter journal is written, not in its place",
    "keeper-after-rename": "it is in its place",
    "keeper-before-exec": "told to become the newest code; all is handed over",
    "keeper-after-exec": "it is the newest code; nothing is taken over",
    # The worker: its page, its journal, and what it says.
    "worker-before-hello": "connected to the agent, said nothing",
    "worker-after-hello": "the hello is sent",
    "worker-before-started": "a job is next; the page does not show it",
    "worker-after-started": "the page shows it; nothing of it ran",
    "worker-after-run": "it ran; the journal has no outcome",
    "worker-after-journal": "the outcome is in the journal; the page shows it as running",
    "worker-after-ended": "the page shows it as ended; nobody was told",
    "worker-before-report": "outcomes are about to be sent",
    "worker-after-report": "all outcomes are sent, and there is nothing to do",
    "worker-before-held": "a job was taken back; nobody was told that it is held",
    "worker-after-held": "the agent was told",
    "worker-before-leave": "it has to leave, and nobody knows",
    "worker-after-leave": "the agent was told that it leaves",
    "worker-before-forget": "told to forget; the journal remembers",
    "worker-after-forget": "the journal has forgotten",
}

_AT = os.environ.get("VIGIE_CRASH_AT")
#: Whether any point is wanted: where a call would cost too much, ask this first.
ARMED = _AT is not None


def _wanted(text: str) -> dict[str, tuple[int, str]]:
    """Read the variable.

    >>> _wanted("a,b:2,c:1:/tmp/once")
    {'a': (1, ''), 'b': (2, ''), 'c': (1, '/tmp/once')}
    """
    found = {}
    for item in text.split(","):
        name, _, rest = item.partition(":")
        times, _, path = rest.partition(":")
        found[name] = (int(times or 1), path)
    return found


_WANTED = _wanted(_AT or "")
_passed: dict[str, int] = {}


def point(name: str) -> None:
    """Die by SIGKILL here if ``VIGIE_CRASH_AT`` names this point.

    Raises
    ------
    LookupError
        When points are wanted and this one is not in :data:`POINTS`.
    """
    if ARMED:
        _pass(name)


def _pass(name: str) -> None:
    if name not in POINTS:
        raise LookupError("the crash point %s is not in vigie.crash.POINTS" % name)
    times, path = _WANTED.get(name, (0, ""))
    passed = _passed[name] = _passed.get(name, 0) + 1
    if not times or passed < times:
        return
    if path:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            return
        os.write(fd, b"%d %d\n" % (os.getpid(), time.time_ns() // 1000))
    os.kill(os.getpid(), signal.SIGKILL)
