"""The duty of knowing the workers: hello, reports, leaving, death."""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import replace
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

from vigie import frames, outcome
from vigie.agent.dispatch import Worker
from vigie.agent.outcomes import WorkerEnd
from vigie.agent.worker_link import WorkerLink
from vigie.procs import Identity
from vigie.proctree import Tree

if TYPE_CHECKING:
    from vigie.agent.main import Agent

__all__ = ["Staff"]

log = logging.getLogger("vigie.agent")

#: How often the pages are looked at while a batch is out (s): a job of a batch
#: that runs for longer is shown as running, and its timeout counts.
LOOK = 0.05
#: A worker without work is let go after this (µs).
IDLE = 300_000_000
#: Seconds until a look at /proc that failed is tried again.
AGAIN = 0.5


class Staff:
    """Turns what workers say, and what their files tell, into posted work."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._look: asyncio.TimerHandle | None = None
        self._seen: dict[int, int] = {}

    def attached(self, worker: int, peer: Any, hello: dict[str, Any]) -> None:
        """A worker said hello, for the first time or again."""
        agent = self.agent
        known = agent.dispatch.workers.get(worker)
        if known is None or known.leaving:
            peer.write(frames.encode({"op": "quit"}))
            return
        link = agent.world.link(worker)
        link.attached(peer)
        agent.writer.post(self._ready, known, link, hello)

    def _ready(self, worker: Worker, link: WorkerLink, hello: dict[str, Any]) -> None:
        agent = self.agent
        if not worker.ready:
            agent.store.run("worker_state", ("ready", hello.get("pid"), None, worker.id))
        if link.ended() or link.started():
            # It is back: what its files tell comes first.
            agent.outcomes.done(worker.id, link.outcomes())
            agent.outcomes.withdraw_from(worker, link.started() + 1)
            worker.next_seq = max(worker.next_seq, link.started() + 1)
        agent.dispatch.worker_ready(worker)

    def detached(self, worker: int, peer: Any) -> None:
        """A worker's connection broke: it comes back, or the keeper tells of its end."""
        link = self.agent.world.links.get(worker)
        known = self.agent.dispatch.workers.get(worker)
        if link is not None and link.peer is peer:
            link.detached()
            if known is not None:
                known.ready = False

    def heard(self, worker: int, header: dict[str, Any], blobs: list[bytes]) -> None:
        """Take a report of a worker."""
        op = header.get("op")
        agent = self.agent
        if op == "done":
            outcomes = [(said, blobs) for said in header["outcomes"]]
            first = header.get("good")
            good = [] if first is None else outcome.unpack(blobs[first], blobs[first + 1])
            agent.writer.post(agent.outcomes.done, worker, outcomes, good, rows=len(outcomes) + len(good))
        elif op == "leave":
            agent.writer.post(self._leaves, worker, int(header["from"]), str(header.get("reason")))
        elif op == "held":
            agent.writer.post(self._held, worker, int(header["seq"]))

    def _leaves(self, worker: int, seq: int, reason: str) -> None:
        known = self.agent.dispatch.workers.get(worker)
        if known is not None:
            known.leaving = True
            self.agent.outcomes.withdraw_from(known, seq)
            log.info("worker %d leaves (%s)", worker, reason)

    def _held(self, worker: int, seq: int) -> None:
        """A worker found its limit lowered: these jobs did not begin."""
        known = self.agent.dispatch.workers.get(worker)
        if known is not None and seq in known.holding:
            job, attempt, _ = known.holding[seq]
            self.agent.outcomes.never_began(job, attempt)

    def gone(self, worker: int, said: dict[str, Any]) -> None:
        """The keeper, or our own eyes, tell that a worker's process is gone."""
        if said.get("message") is not None:
            end = WorkerEnd(0, [], error=said["message"])  # it never ran: it has no files, and may not get any
        else:
            link = self.agent.world.link(worker)
            try:
                self._end_orphans(worker, link)
            except OSError as error:
                log.warning("cannot look for what worker %d left, and try again: %s", worker, error)
                self.agent.loop.call_later(AGAIN, self.gone, worker, said)
                return
            end = link.autopsy(said)
        known = self.agent.dispatch.workers.get(worker)
        if known is not None and known.outlived:
            # Its page may be older than its deeds: any of what it held may have begun, and this be its end.
            end = replace(end, started=sys.maxsize, exit_code=None, signal=None)
        self.agent.writer.post(self._gone, worker, end)

    def _end_orphans(self, worker: int, link: WorkerLink) -> None:
        """End what the job that died with its worker had started, as the worker would have at the job's end.

        Before the commit of that end: should we die between, it is done once more.
        """
        agent = self.agent
        known = agent.dispatch.workers.get(worker)
        held = None if known is None or known.outlived else known.holding.get(link.started())
        if held is None or link.ended() >= link.started():
            return
        own = agent.core.marks.worker(worker)
        root = agent.watch.identity(own) or Identity(-1, 0)  # a number that nobody has: its mark must do
        Tree(root, (own, agent.core.marks.of(held[0], held[1]))).signal(SIGKILL)

    def _gone(self, worker: int, end: Any) -> None:
        self.agent.outcomes.worker_gone(worker, end)
        self.agent.core.after(self._clear, worker)

    def _clear(self, worker: int) -> None:
        self._seen.pop(worker, None)
        link = self.agent.world.links.pop(worker, None)
        if link is not None:
            link.clear()

    # --- looking at pages -----------------------------------------------------

    def watch_batches(self) -> None:
        """Look at the pages soon, as long as a batch is out."""
        if self._look is None:
            self._look = self.agent.loop.call_later(LOOK, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        busy = False
        for worker in self.agent.dispatch.workers.values():
            if not worker.holding or worker.fresh:
                continue
            link = self.agent.world.links.get(worker.id)
            if link is None:
                continue
            busy = True
            started = link.started()
            # Seen in two looks in a row and not ended: it runs for longer than a look.
            if started > link.ended() and self._seen.get(worker.id) == started:
                self.agent.writer.post(self.agent.outcomes.begun, worker.id, started)
            self._seen[worker.id] = started
        if busy:
            self.watch_batches()

    def retire_idle(self) -> None:
        """Let workers go that have had nothing to do for long."""
        dispatch = self.agent.dispatch
        for worker in dispatch.idle_workers(self.agent.clock.mono() - IDLE):
            dispatch.retire(worker)

    def take_back(self, job: int, attempt: int) -> None:
        """Take a job that was told to stop back from its batch, or end its tree."""
        row = self.agent.store.job(job)
        if row is not None:
            self.agent.world.terminate(job, attempt, row.grace)

    def recall(self, job: int, attempt: int) -> bool:
        """Take a job back if its worker has not begun it; True also if it has just ended."""
        agent = self.agent
        place = agent.dispatch.assigned.get((job, attempt))
        if place is None:
            if agent.dispatch.ahead.holds((job, attempt)):
                agent.world.withdraw([(job, attempt)])
            return False  # it may have begun: then it is ended when the keeper says so
        worker, seq = place
        if worker.outlived:
            return False  # its page may be older than its deeds
        link = agent.world.link(worker.id)
        if link.ended() >= seq:
            return True
        return self._take_back(worker, link, seq)

    def spare(self, job: int, attempt: int) -> bool:
        """Take back what a worker holds behind a job that is about to be ended or frozen.

        False: the job has ended by itself, and its worker may be at somebody else's.
        """
        place = self.agent.dispatch.assigned.get((job, attempt))
        if place is None:
            facts = self.agent.store.one("attempt", (job, attempt))
            return facts is not None and facts[1] is None  # a command has no worker to share
        worker, seq = place
        link = self.agent.world.link(worker.id)
        if not self._take_back(worker, link, seq + 1) and link.started() > seq:
            return False
        worker.fresh = True  # nothing more for this one
        return True

    def _take_back(self, worker: Worker, link: WorkerLink, seq: int) -> bool:
        """Take back everything from ``seq`` on, sent or about to be; False if that one has begun."""
        if not link.take_back(seq, worker.holding):
            return False
        if any(held >= seq for held in worker.holding):
            self.agent.writer.post(self.agent.outcomes.withdraw_from, worker, seq)
        return True
