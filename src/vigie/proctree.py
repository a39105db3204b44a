"""Trees of processes: what belongs to one attempt, and how all of it is signalled.

A tree is:

* descendants of its main process, and of every member that was seen before, so
  that a child that forks twice to get away is still known;
* whatever is in the main process's session;
* whatever has ``VIGIE_ATTEMPT=<mark>`` in its environment; of a job that is stopped, the
  marks of its earlier attempts too, which may have left somebody behind.

A process that carries the mark of *another* attempt belongs to that one, and so
does everything below it. Nobody that started before the main process can be a
member, which spares reading the environment of nearly everybody; with earlier attempts
it is the first of them that counts.

A scan is no snapshot (procs.py), and nothing here trusts one empty scan: two in
succession must agree.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Generator, Iterable, Sequence
from typing import TypeVar

from vigie import procs
from vigie.procs import SECOND, Identity, Process
from vigie.snapshot import Snapshot

__all__ = [
    "Status", "Tree", "TreeStop", "descendants", "descendants_of", "freeze", "thaw", "together", "tree",
]  # fmt: skip

#: How often a round of signals is repeated for those who forked meanwhile.
_ROUNDS = 50
#: How far up an unmarked process is followed to one that has a mark.
_DEEPEST = 1_000

R = TypeVar("R")
#: Work on a tree that asks for scans, one after the other.
Work = Generator[None, Snapshot, R]


def _alone(work: Work[R]) -> R:
    """Do work on one tree, each scan for it alone."""
    return together([work])[0]


def together(works: Sequence[Work[R]]) -> list[R]:
    """Do work on many trees at once, by scans that all of them share."""
    results: dict[int, R] = {}
    open_ones = list(enumerate(works))
    for _, work in open_ones:
        next(work)
    while open_ones:
        snapshot, still = Snapshot(), []
        for at, work in open_ones:
            try:
                work.send(snapshot)
                still.append((at, work))
            except StopIteration as end:
                results[at] = end.value
        open_ones = still
    return [results[at] for at in range(len(works))]


def _children(processes: Iterable[Process]) -> dict[int, list[Process]]:
    below: dict[int, list[Process]] = {}
    for process in processes:
        below.setdefault(process.ppid, []).append(process)
    return below


def descendants(pid: int) -> set[Identity]:
    """Give every living process below ``pid``, itself excluded."""
    return descendants_of([pid])[pid]


def descendants_of(pids: Iterable[int]) -> dict[int, set[Identity]]:
    """Give the descendants of each of several processes, by one look at all there are."""
    below = _children(p for p in procs.scan() if not p.zombie)
    families: dict[int, set[Identity]] = {}
    for pid in pids:
        found = families[pid] = set()
        todo = [pid]
        while todo:
            for child in below.get(todo.pop(), ()):
                found.add(child.identity)
                todo.append(child.pid)
    return families


def tree(
    root: Identity,
    mark: str | Collection[str],
    sid: int | None = None,
    known: Collection[Identity] = (),
    since: int | None = None,
    snapshot: Snapshot | None = None,
) -> set[Identity]:
    """Give every living process of an attempt, by one scan.

    Parameters
    ----------
    root:
        The main process; it may have ended.
    mark:
        What ``VIGIE_ATTEMPT`` holds in members; several for a worker, whose
        children may carry its own mark or that of the job that runs in it.
    sid:
        The session of the main process (its own number); None: do not look.
    known:
        Members seen by earlier scans: their descendants count although the
        main process is gone.
    since:
        The clock tick after which members began; None: after the main process.
    snapshot:
        The scan; default: one is made now.

    The caller is never among them.

    >>> me = os.getpid()
    >>> tree(Identity(me, procs.start_ticks(me)), "0.0")
    set()
    """
    marks = frozenset((mark,)) if isinstance(mark, str) else frozenset(mark)
    first = root.start_ticks if since is None else min(since, root.start_ticks)
    seen = Snapshot() if snapshot is None else snapshot
    # While a member of a session lives, its number is not given again; a leader
    # of that number that is not the main process says that the session is gone.
    leader = None if sid is None else seen.by_pid.get(sid)
    if leader is not None and leader.identity != root and leader.start_ticks >= first and root.pid == sid:
        sid = None
    todo = [] if sid is None else list(seen.in_session(sid))
    todo += filter(None, (seen.alive(identity) for identity in {root, *known}))
    todo += seen.marked(marks, first)
    found: set[Identity] = set()
    while todo:
        process = todo.pop()
        identity = process.identity
        if identity in found or process.start_ticks < first or process.pid == os.getpid():
            continue
        if _is_foreign(process, seen, root, marks, first):
            continue
        found.add(identity)
        todo += seen.below(process.pid)
    return found


def _is_foreign(process: Process, seen: Snapshot, root: Identity, marks: frozenset[str], first: int) -> bool:
    """Tell whether a process is of another attempt: by its own mark, or by the first above it that there is."""
    at: Process | None = process
    for _ in range(_DEEPEST):
        if at is None or at.start_ticks < first or at.identity == root:
            return False
        if at.mark is not None:
            # A job may write anything in its variable; what is not of the form of a mark says nothing.
            return at.mark not in marks and at.mark.count(".") == 2
        at = seen.by_pid.get(at.ppid)
    return False


class Tree:
    """The processes of one attempt, remembered from scan to scan.

    Parameters
    ----------
    root, mark, sid, since:
        As for :func:`tree`; ``sid`` defaults to the main process's own number,
        because the keeper gives each a session.
    """

    def __init__(
        self, root: Identity, mark: str | Collection[str], sid: int | None = None, since: int | None = None
    ) -> None:
        self.root = root
        self.mark = mark
        self.sid = root.pid if sid is None else sid
        self.since = since
        self.known: set[Identity] = {root}

    def members(self, snapshot: Snapshot | None = None) -> set[Identity]:
        """Scan once, or use a scan that was made just now, and give who lives; they stay known."""
        found = tree(self.root, self.mark, self.sid, self.known, self.since, snapshot)
        self.known = found | {self.root}
        return found

    def ordered(self, members: Iterable[Identity]) -> list[Identity]:
        """Put the oldest first: a shell that sees its child end would start the next."""
        return sorted(members, key=lambda i: (i != self.root, i.start_ticks, i.pid))

    def signal(self, *numbers: int) -> set[Identity]:
        """Send signals to everybody until two scans in succession find nobody new.

        Gives those who were signalled.
        """
        return _alone(self.signalling(*numbers))

    def signalling(self, *numbers: int) -> Work[set[Identity]]:
        """Do it by scans that somebody else makes: each ``yield`` asks for one."""
        reached: set[Identity] = set()
        quiet = 0
        for _ in range(_ROUNDS):
            new = self.members((yield)) - reached
            for identity in self.ordered(new):
                for number in numbers:
                    procs.send_signal(identity, number)
            reached |= new
            quiet = 0 if new else quiet + 1
            if quiet == 2:
                break
        return reached


def freeze(members: Tree) -> set[Identity]:
    """Suspend a tree (SIGSTOP); gives who was suspended."""
    return members.signal(signal.SIGSTOP)


def thaw(members: Tree) -> set[Identity]:
    """Let a suspended tree go on (SIGCONT); gives who was reached."""
    return members.signal(signal.SIGCONT)


class Status:
    """How far a :class:`TreeStop` is.

    Attributes
    ----------
    done:
        Nobody is left, or nothing more can be done.
    left:
        Numbers of the processes that live still, in order.
    next_at:
        When to call ``step`` again, in µs of the same clock.
    killing:
        The grace is over.
    """

    __slots__ = ("done", "killing", "left", "next_at")

    def __init__(self, done: bool, left: list[int], next_at: int, killing: bool) -> None:
        self.done = done
        self.left = left
        self.next_at = next_at
        self.killing = killing

    def __repr__(self) -> str:
        return f"Status(done={self.done}, left={self.left}, killing={self.killing})"


class TreeStop:
    """Ends a tree in steps: SIGTERM, a grace, SIGKILL until nobody is found twice.

    Nothing in here sleeps; whoever drives it calls :meth:`step` at the time that
    the last answer named, or earlier when a member is known to have ended.

    Parameters
    ----------
    members:
        The tree.
    grace:
        µs between SIGTERM and SIGKILL; 0 kills at once.
    patience:
        µs after the first SIGKILL until those who still live are given up and
        named: they sleep in the kernel or belong to somebody else.
    sequence:
        Other signals in the place of SIGTERM and ``grace``: each with its wait (µs).

    A stopped process sees no SIGTERM, so each is continued too. Processes born
    after the first step get no SIGTERM: a handler may be cleaning up by them.

    >>> import subprocess, time
    >>> child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    >>> stop = TreeStop(Tree(Identity(child.pid, procs.start_ticks(child.pid)), "9.1"), grace=5_000_000)
    >>> while not (status := stop.step(time.monotonic_ns() // 1000)).done:
    ...     time.sleep(0.01)
    >>> status.left, child.wait()
    ([], -15)
    """

    def __init__(
        self,
        members: Tree,
        grace: int,
        patience: int = 5 * SECOND,
        sequence: Iterable[tuple[int, int]] | None = None,
    ) -> None:
        self.members = members
        self._patience = patience
        usual = [(int(signal.SIGTERM), grace)] if grace > 0 else []
        self._sequence = usual if sequence is None else [each for each in sequence if each[0] != signal.SIGKILL]
        #: Signals still to be sent, and when; None: nothing was done yet.
        self._rounds: list[tuple[int, int]] | None = None
        self._kill_at = 0
        self._pause = 5_000

    def kill_now(self) -> None:
        """End the grace: the next step kills."""
        self._sequence.clear()
        self._rounds = None if self._rounds is None else []
        self._kill_at = 0

    def extend(self, until: int) -> None:
        """Kill nobody before an instant of the clock of :meth:`step`, unless that has begun."""
        if self._kill_at:
            self._kill_at = max(self._kill_at, until)

    def step(self, now: int) -> Status:
        """Do what is due.

        Parameters
        ----------
        now:
            The monotonic clock in µs.
        """
        return _alone(self.stepping(now))

    def stepping(self, now: int) -> Work[Status]:
        """Do it by scans that somebody else makes: each ``yield`` asks for one."""
        if self._rounds is None:
            self._rounds, at = [], now
            for number, wait in self._sequence:
                self._rounds.append((at, number))
                at += wait
            self._kill_at = at
        elif self._kill_at == 0:
            self._kill_at = now
        while self._rounds and self._rounds[0][0] <= now:
            yield from self.members.signalling(self._rounds.pop(0)[1], signal.SIGCONT)
        killing = now >= self._kill_at
        living = self._living(killing, (yield))
        if not living:
            living = self._living(killing, (yield))
        done = not living or now >= self._kill_at + self._patience
        self._pause = min(self._pause * 2, 100_000)
        following = self._rounds[0][0] if self._rounds else self._kill_at
        next_at = now + self._pause if killing else min(now + self._pause, max(following, now + 1))
        return Status(done, sorted(identity.pid for identity in living), next_at, killing)

    def _living(self, killing: bool, snapshot: Snapshot) -> set[Identity]:
        living = self.members.members(snapshot)
        if killing:
            for identity in self.members.ordered(living):
                procs.send_signal(identity, signal.SIGKILL)
        return living
