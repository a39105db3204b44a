"""The duty of finding out, after a start, what became of everything.

By evidence only: the keeper's replay (its journal and its children), the workers'
pages and journals, marks in /proc, and the boot id. Nothing is decided by age.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from vigie import procs
from vigie.agent.dispatch import Worker
from vigie.procs import Identity
from vigie.store.sqlite import OpenAttempt

if TYPE_CHECKING:
    from vigie.agent.main import Agent

__all__ = ["Recovery"]

log = logging.getLogger("vigie.agent")


class Recovery:
    """What to do between our start (or the keeper's death) and the first dispatch."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        #: Marks of which the keeper's replay spoke.
        self.named: set[str] = set()

    def prepare(self) -> None:
        """Before the keeper speaks: no worker begins anything that we have not decided."""
        agent = self.agent
        for id_, digest, _, fresh, _, boot, pid, ticks in agent.store.run("live_workers").fetchall():
            if boot != agent.core.owner[2]:
                # Its files may tell of outcomes that no commit has seen.
                agent.dispatch.workers[id_] = Worker(id_, digest, bool(fresh))
                continue
            worker = agent.dispatch.workers[id_] = Worker(id_, digest, bool(fresh))
            link = agent.world.link(id_)
            link.hold_still()
            worker.next_seq = max(link.started(), link.page.limit if link.page else 0) + 1
            if pid is not None and ticks is not None:
                agent.watch.follow(agent.core.marks.worker(id_), pid, ticks)
        agent.dispatch.rebuild()

    def replayed(self) -> None:
        """The keeper has said all it knows; decide what it did not name."""
        agent = self.agent
        for row in agent.store.open_attempts():
            if row.worker is None:
                self._command(row)
        for worker in list(agent.dispatch.workers.values()):
            mark = agent.core.marks.worker(worker.id)
            if mark not in self.named:
                agent.staff.gone(worker.id, agent.watch.learn(mark) or {})
        self.named.clear()
        agent.writer.post(self._open)

    def _open(self) -> None:
        agent = self.agent
        agent.dispatch.open = True
        agent.core.dirty.update(row[0] for row in agent.store.run("queues_ready").fetchall())
        agent.core.after(agent.timers.rearm)

    def _command(self, row: OpenAttempt) -> None:
        """Decide an attempt of a command that the keeper did not name."""
        agent = self.agent
        mark = agent.core.marks.of(row.job, row.n)
        if mark in self.named:
            return
        if row.boot != agent.core.owner[2]:
            why = "the machine restarted while it ran"
            agent.writer.post(agent.outcomes.lost, row.job, row.n, why)
            return
        known = agent.watch.learn(mark)
        if known is not None:
            said = {**known, "at": agent.clock.wall(), "mono": agent.clock.mono()}
            agent.writer.post(agent.outcomes.ended, row.job, row.n, said)
        elif row.pid is not None or procs.find_mark(mark) is not None:
            # It began, by the store or by /proc, and the keeper's journal is gone.
            self._orphan(row, mark)
        else:
            # The keeper never heard of it: it was committed and not sent.
            agent.world.spawn_command(row.job, row.n)

    def _orphan(self, row: OpenAttempt, mark: str) -> None:
        agent = self.agent
        identity = Identity(row.pid, row.start_ticks) if row.pid and row.start_ticks else procs.find_mark(mark)
        if identity is None or not procs.alive(identity):
            why = "it ended while neither agent nor keeper lived"
            agent.writer.post(agent.outcomes.lost, row.job, row.n, why)
            return
        agent.follow_orphan(row.job, row.n, identity)

    def resume_sampling(self, row: OpenAttempt) -> None:
        """Watch the output of a command that ran on without us."""
        if row.worker is None:
            self.agent.sampler.begin(row.job, row.n, row.max_output)

    def rearm(self, row: OpenAttempt) -> None:
        """Set the alarms again that the last agent had set, and repeat what it was about to do."""
        agent = self.agent
        if row.state == "running" and row.started_mono is not None:
            agent.timers.began(row.job, row.n, row.started_mono)
        if row.ending is not None:
            agent.world.terminate(row.job, row.n, 0 if row.kind == "function" else row.grace)

    def heard(self, header: dict[str, Any]) -> None:
        """Note that the keeper knows a mark."""
        self.named.add(str(header["mark"]))
