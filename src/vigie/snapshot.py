"""One look at all processes, put in order so that the members of many trees are found by it.

A look costs a file for each process; to end a thousand trees takes a few looks, and not
a few thousand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from vigie import procs
from vigie.procs import Identity, Process

__all__ = ["Snapshot"]


class Snapshot:
    """What lived when somebody looked.

    Parameters
    ----------
    processes:
        What a scan gave; default: a scan is made now.
    """

    def __init__(self, processes: list[Process] | None = None) -> None:
        living = [p for p in (procs.scan() if processes is None else processes) if not p.zombie]
        self.by_pid: dict[int, Process] = {p.pid: p for p in living}
        self._sessions: dict[int, list[Process]] | None = None
        self._children: dict[int, list[Process]] | None = None
        #: The youngest first: environments are read as far back as somebody asks.
        self._unread = sorted(living, key=lambda p: p.start_ticks)
        self._marks: dict[str, list[Process]] = {}

    def alive(self, identity: Identity) -> Process | None:
        """Give exactly this process, if it lived."""
        found = self.by_pid.get(identity.pid)
        return found if found is not None and found.start_ticks == identity.start_ticks else None

    def in_session(self, sid: int) -> list[Process]:
        """Give the members of a session."""
        if self._sessions is None:
            self._sessions = {}
            for process in self.by_pid.values():
                self._sessions.setdefault(process.sid, []).append(process)
        return self._sessions.get(sid, [])

    def below(self, pid: int) -> list[Process]:
        """Give the children of a process."""
        if self._children is None:
            self._children = {}
            for process in self.by_pid.values():
                self._children.setdefault(process.ppid, []).append(process)
        return self._children.get(pid, [])

    def marked(self, marks: Collection[str], since: int) -> Iterator[Process]:
        """Give those that carry one of some marks, and began at a tick or after it."""
        while self._unread and self._unread[-1].start_ticks >= since:
            process = self._unread.pop()
            if process.mark is not None:
                self._marks.setdefault(process.mark, []).append(process)
        for mark in marks:
            for process in self._marks.get(mark, ()):
                if process.start_ticks >= since:
                    yield process
