"""The duty of finding out, after a start, what became of everything.

By evidence only: the keeper's replay (its journal and its children), the workers'
pages and journals, marks in /proc, and the boot id. Nothing is decided by age.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, Any

from vigie import procs
from vigie.agent.dispatch import Worker
from vigie.procs import Identity
from vigie.store.rows import OpenAttempt

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
                agent.dispatch.workers[id_] = Worker(id_, digest, bool(fresh), outlived=True)
                continue
            worker = agent.dispatch.workers[id_] = Worker(id_, digest, bool(fresh))
            link = agent.world.link(id_)
            if link.damaged:
                log.warning("the page of worker %d is damaged; it is let go", id_)
                worker.leaving = True
            limit = link.page.limit if link.page else 0
            link.hold_still()
            worker.next_seq = max(link.started(), limit) + 1
            if pid is not None and ticks is not None:
                agent.watch.follow(agent.core.marks.worker(id_), pid, ticks)
        for row in agent.store.open_attempts():
            if row.boot == agent.core.owner[2] and row.pid is not None and row.start_ticks is not None:
                # It may end before a new keeper adopts it; who holds a pidfd is told how.
                agent.watch.follow(agent.core.marks.of(row.job, row.n), row.pid, row.start_ticks)
        agent.dispatch.rebuild()

    def replayed(self) -> None:
        """The keeper has said all it knows; decide what it did not name."""
        agent = self.agent
        for row in agent.store.open_attempts():
            if row.worker is None:
                self._command(row)
        for worker in list(agent.dispatch.workers):
            self._worker(worker)
        self.named.clear()
        self._leftovers()
        agent.writer.post(self._open, agent.keeper.talks)

    def _open(self, talk: int) -> None:
        agent = self.agent
        if talk != agent.keeper.talks:
            return
        agent.dispatch.open = True
        agent.core.dirty.update(agent.store.queues_ready())
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
        elif self._began(row) or procs.find_mark(mark) is not None:
            # It began, by the store, the keeper's files or /proc, and the keeper's journal is gone.
            self._orphan(row, mark)
        elif row.ending == "stop" or row.job_state == "assigned":
            # No keeper holds it any more: it waits for a slot like all others.
            agent.writer.post(agent.outcomes.never_began, row.job, row.n)
        else:
            # The keeper never heard of it: it was committed and not sent.
            agent.world.spawn_command(row.job, row.n)

    def _began(self, row: OpenAttempt) -> bool:
        """Tell whether the keeper came as far as a command's output file, which it opens first."""
        return row.pid is not None or os.path.exists(self.agent.home.job_file(row.job, "out", row.n))

    def _orphan(self, row: OpenAttempt, mark: str) -> None:
        agent = self.agent
        identity = Identity(row.pid, row.start_ticks) if row.pid and row.start_ticks else procs.find_mark(mark)
        if identity is None or not procs.alive(identity):
            why = "it ended while neither agent nor keeper lived"
            agent.writer.post(agent.outcomes.lost, row.job, row.n, why)
            return
        post, ended = agent.writer.post, agent.outcomes.ended
        agent.follow_orphan(mark, identity, lambda said: post(ended, row.job, row.n, said))

    def _worker(self, worker: int) -> None:
        """Decide a worker that the keeper did not name."""
        agent = self.agent
        mark = agent.core.marks.worker(worker)
        if mark in self.named:
            return
        identity = agent.watch.identity(mark) or procs.find_mark(mark)
        if identity is not None and procs.alive(identity):
            agent.follow_orphan(mark, identity, lambda said: agent.staff.gone(worker, said))
        else:
            agent.staff.gone(worker, agent.watch.learn(mark) or {})

    def _leftovers(self) -> None:
        """Finish what the last agent was doing to the trees of attempts that are over, and died in the middle of.

        Of those that are open still :meth:`rearm` takes care.
        """
        agent = self.agent
        oldest: dict[str, Identity] = {}
        for process in sorted(procs.scan(), key=lambda process: (process.start_ticks, process.pid)):
            if not process.zombie and process.mark is not None:
                oldest.setdefault(process.mark, process.identity)
        for mark, root in oldest.items():
            job, attempt = agent.core.marks.parse(mark) or (0, None)
            over = None if attempt is None else agent.store.one("ended_attempt", (job, attempt))
            if over is not None and attempt is not None:
                pid, ticks, grace, told_to_end, suspended = over
                main = Identity(pid, ticks) if pid and ticks else root
                if told_to_end:
                    agent.trees.terminate((job, attempt), main, (mark,), grace)
                elif suspended:
                    agent.trees.thaw(main, (mark,))
        agent.trees.blind = False
        agent.waits.look_again()
        agent.services.look_again()

    def wake_workers(self) -> None:
        """Let every worker go on that is not at a suspended job.

        The job for which it was frozen may have ended at the same moment, and its
        last agent before it could thaw it.
        """
        agent = self.agent
        frozen = {row.worker for row in agent.store.open_attempts() if row.job_state == "suspended"}
        for worker in agent.dispatch.workers:
            identity = agent.watch.identity(agent.core.marks.worker(worker))
            if identity is not None and worker not in frozen:
                procs.send_signal(identity, signal.SIGCONT)

    def resume_sampling(self, row: OpenAttempt) -> None:
        """Watch the output of a command that ran on without us."""
        if row.worker is None:
            self.agent.sampler.begin(row.job, row.n, row.max_output)
            self.agent.services.hands.keep_logs(row.job, row.n)

    def rearm(self, row: OpenAttempt) -> None:
        """Set the alarms again that the last agent had set, and repeat what it was about to do."""
        agent = self.agent
        if row.state == "running" and row.started_mono is not None:
            agent.timers.began(row.job, row.n, row.started_mono)
        if row.job_state == "suspended":
            agent.world.freeze(row.job, row.n)
        elif row.suspended:
            agent.world.thaw(row.job, row.n)
        if row.ending is not None:
            agent.world.terminate(row.job, row.n, 0 if row.kind == "function" else row.grace)

    def heard(self, header: dict[str, Any]) -> None:
        """Note that the keeper knows a mark."""
        self.named.add(str(header["mark"]))
