"""The duty of learning what became of attempts: from the keeper and the workers.

Each method takes one report and turns it into events of the jobs' lives. Reports
may come twice (after a restart, after a crash between commit and ``forget``); what
is already known is ignored, and acknowledged again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

from vigie import lifecycle as lc
from vigie.agent.core import Core
from vigie.agent.dispatch import Dispatch, Worker
from vigie.agent.oom import OomWatch
from vigie.outcome import said_of
from vigie.store.rows import JobRow

if TYPE_CHECKING:
    from vigie.outcome import Good, Said

__all__ = ["Outcomes", "WorkerEnd"]

#: Workers of a kind that may be killed one after the other before they are ready.
PATIENCE = 5
#: Where these stand in a good end.
_SEQ, _JOB = 0, 1
#: Of the process of an attempt nothing is new.
_UNCHANGED = (None, None, None)


def _blob(said: dict[str, Any], blobs: Sequence[bytes], name: str) -> bytes | None:
    index = said.get(name)
    return None if index is None else blobs[index]


def _left(said: dict[str, Any], blobs: Sequence[bytes]) -> dict[str, Any]:
    """Give what a function left behind, however it ended."""
    return {
        "started": said["started"],
        "finished": said["finished"],
        "duration": said["duration"],
        "cpu": said.get("cpu"),
        "peak_rss": said.get("rss"),
        "records": _blob(said, blobs, "records"),
    }


def _returned(said: dict[str, Any], blobs: Sequence[bytes]) -> dict[str, Any]:
    """Give what a function left behind that returned."""
    return {**_left(said, blobs), "result": _blob(said, blobs, "result"), "result_encoding": said.get("encoding")}


@dataclass(frozen=True)
class WorkerEnd:
    """What is known about a worker that is gone: its page, its journal, its exit.

    Attributes
    ----------
    started:
        The highest sequence number it began.
    outcomes:
        Headers and blobs of its journal.
    pid, exit_code, signal:
        How the process ended; both of the latter None if nobody can tell.
    error:
        Why it never ran, as the keeper says.
    records:
        The running job's records that were still in the page.
    said:
        The last lines of its raw output, for people.
    """

    started: int
    outcomes: Sequence[Said]
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    records: bytes = b""
    said: str = ""

    @property
    def known(self) -> bool:
        """Whether anybody saw how the process ended."""
        return self.exit_code is not None or self.signal is not None


class Outcomes:
    """Applies reports to jobs."""

    def __init__(self, core: Core, dispatch: Dispatch) -> None:
        self.core = core
        self.dispatch = dispatch
        self.oom = OomWatch()
        #: Set by the timers: (job, attempt, mono µs when it began).
        self.began: Any = lambda job, attempt, mono: None
        #: Commands of whose end we have heard and that is not committed: their beginning is written with it.
        self.over: set[tuple[int, int]] = set()

    # --- commands, from the keeper --------------------------------------------

    def started(self, job: int, attempt: int, said: dict[str, Any]) -> None:
        """Take the keeper's word that a command runs; if it has ended since, both are written together."""
        if (job, attempt) in self.over:
            return
        row = self._open(job, attempt)
        if row is None:
            return
        bind = (said["pid"], said["start_ticks"], said["at"], said["mono"], job, attempt)
        self.core.store.run("attempt_started", bind)
        if said.get("main") and row.started is not None:
            return  # another process goes on as the main one
        detail = {"attempt": attempt, "pid": said["pid"]}
        if row.state == "assigned":
            self.dispatch.begun(job, attempt)
            self.core.step(row._replace(started=said["at"]), lc.Begun(), detail=detail, at=said["at"])
        else:
            self.core.store.run("job_started", (said["at"], job, attempt))
            if not said.get("replay"):
                self._log_started(row, detail, said["at"])
        if row.timeout is not None:
            self.core.after(self.began, job, attempt, said["mono"])

    def failed(self, job: int, attempt: int, said: dict[str, Any]) -> None:
        """Take the keeper's word that a command could not be spawned."""
        row = self._open(job, attempt)
        if row is not None:
            error = {"type": said.get("error"), "message": said["message"], "what": said.get("what")}
            left = {"finished": self.core.clock.wall(), "error": json.dumps(error).encode()}
            self._end(row, "spawn", left, message=said["message"])
        self.core.after(self.core.hands.forget, [self.core.marks.of(job, attempt)])

    def ended(self, job: int, attempt: int, said: dict[str, Any]) -> None:
        """Take the keeper's word that a command ended, and how."""
        row = self._open(job, attempt)
        if row is not None:
            left: dict[str, Any] = {"finished": said["at"], "peak_rss": said.get("peak_rss"), "cpu": said.get("cpu")}
            facts = self.core.store.one("attempt", (job, attempt))
            began = facts[6] if facts else None
            if began is None and said.get("started_mono") is not None:
                # Nobody has told, or the agent that was told has died.
                row = self._begun_too(row, said, left)
                began = said["started_mono"]
            left["duration"] = None if began is None else max(0, said["mono"] - began)
            self.dispatch.ahead.ended(row.queue, left["duration"])
            code, signal = said.get("exit_code"), said.get("signal")
            if code is None and signal is None:
                self._vanish(row, left, "the process ended while nobody who could learn its exit status watched")
            else:
                reason, message = self._reason(said.get("pid"), code, signal)
                self._end(row, reason, left, exit_code=code, signal=signal, message=message)
        self.core.after(self._close, job, attempt)

    def _close(self, job: int, attempt: int) -> None:
        self.over.discard((job, attempt))
        self.core.hands.forget([self.core.marks.of(job, attempt)])

    def _begun_too(self, row: JobRow, said: dict[str, Any], left: dict[str, Any]) -> JobRow:
        """Add to what a command left how it began; give the job as it was while it ran."""
        left["started"] = said["started_at"]
        left["process"] = (said["pid"], said["start_ticks"], said["started_mono"])
        detail = {"attempt": row.attempt, "pid": said["pid"]}
        self._log_started(row, detail, said["started_at"])
        return row._replace(state="running" if row.state == "assigned" else row.state, started=said["started_at"])

    def _log_started(self, row: JobRow, detail: dict[str, Any], at: int) -> None:
        if row.claimed_ahead:
            self.core.log("started", row.id, before="queued", after="running", detail=detail, at=at)
        else:
            self.core.log("started", row.id, detail=detail, at=at)

    def _reason(self, pid: int | None, code: int | None, signal: int | None) -> tuple[str | None, str | None]:
        if signal is None:
            return ("exit" if code else None), None
        if signal == SIGKILL:
            by_kernel, message = self.oom.ask(pid)
            return ("oom" if by_kernel else "signal"), message
        return "signal", None

    def lost(self, job: int, attempt: int, why: str) -> None:
        """Take it that an attempt is over and nobody knows how."""
        row = self._open(job, attempt)
        if row is not None:
            self._vanish(row, {"finished": self.core.clock.wall()}, why)
        self.core.after(self.core.hands.forget, [self.core.marks.of(job, attempt)])

    def never_began(self, job: int, attempt: int) -> None:
        """Take it that an attempt never began: the job waits again."""
        row = self._open(job, attempt)
        if row is not None and row.claimed_ahead:
            self.core.step(row, lc.Withdrawn())
            self.core.store.unclaim(job, attempt)
            self.core.after(self.core.hands.withdrawn, job, attempt)
        elif row is not None:
            self.core.store.run("end_attempt", ("withdrawn", *([None] * 11), job, attempt))
            # No try of the task's retries was used up.
            self.core.step(row._replace(tries_from=row.tries_from + 1), lc.Withdrawn())

    # --- functions, from the workers ------------------------------------------

    def done(self, worker_id: int, outcomes: Sequence[Said], good: Sequence[Good] = ()) -> None:
        """Take a worker's outcomes, and acknowledge them once committed."""
        worker = self.dispatch.workers.get(worker_id)
        if worker is not None:
            held = worker.holding
            ends = [end for end in good if end[_SEQ] in held]
            others = [said for said in outcomes if said[0]["seq"] in held]
            self.dispatch.measured_many(worker, [(end[0], end[5]) for end in ends])
            self.dispatch.measured_many(worker, [(said["seq"], said["duration"]) for said, _ in others])
            others += map(said_of, self._good_ones(ends))
            for said, blobs in sorted(others, key=lambda said: int(said[0]["seq"])):
                self._outcome(said, blobs)
        highest = max([int(said["seq"]) for said, _ in outcomes] + [end[_SEQ] for end in good], default=0)
        self.core.after(self.core.hands.acknowledge, worker_id, highest)

    def _good_ones(self, ends: list[Good]) -> list[Good]:
        """Apply in one pass those that change nothing but their own job; give the others back."""
        needed = self.core.needed
        quick = [end for end in ends if end[_JOB] not in needed]
        # One that is not as it should be sends all of them the long way.
        if not quick or not self.core.succeed_many(quick):
            return ends
        return [end for end in ends if end[_JOB] in needed]

    def _outcome(self, said: dict[str, Any], blobs: Sequence[bytes]) -> None:
        job, attempt = int(said["job"]), int(said["attempt"])
        row = self._open(job, attempt)
        if row is None:
            return

        left = _left(said, blobs)
        if said["how"] == "return":
            self._end(row, None, _returned(said, blobs))
        elif said["how"] == "raise":
            left["error"] = json.dumps(said["error"]).encode()
            left["result"] = _blob(said, blobs, "pickle")
            left["result_encoding"] = None if left["result"] is None else "exception"
            error = said["error"]
            self._end(row, "exception", left, message=f"{error['type']}: {error['message']}")
        else:
            code = int(said["code"])
            self._end(row, "exit" if code else None, left, exit_code=code)

    def begun(self, worker_id: int, seq: int) -> None:
        """Take it from a worker's page that a job of a batch has begun a while ago."""
        worker = self.dispatch.workers.get(worker_id)
        held = None if worker is None else worker.holding.get(seq)
        if held is None:
            return
        row = self._open(held[0], held[1])
        if row is not None and row.state == "assigned":
            self.core.step(row, lc.Begun())
            self._note_begun(held[0], held[1])

    def sent(self, jobs: Sequence[tuple[int, int, int]]) -> None:
        """Start the clocks of functions that went to their worker alone."""
        for _, job, attempt in jobs:
            row = self._open(job, attempt)
            if row is not None and row.state == "running":
                self._note_begun(job, attempt)

    def _note_begun(self, job: int, attempt: int) -> None:
        now, mono = self.core.clock.wall(), self.core.clock.mono()
        self.core.store.run("attempt_started", (None, None, now, mono, job, attempt))
        self.core.after(self.began, job, attempt, mono)

    def worker_gone(self, worker_id: int, end: WorkerEnd) -> None:
        """Decide each job of a worker that is gone, by its page and journal."""
        worker = self.dispatch.workers.get(worker_id)
        if worker is not None:
            withdrawn = self._may_begin_elsewhere(worker, end)
            for said, blobs in end.outcomes:
                if int(said["seq"]) in worker.holding:
                    self._outcome(said, blobs)
            for seq, (job, attempt, _) in sorted(worker.holding.items()):
                if seq <= end.started:
                    self._died_with(job, attempt, end)
                elif withdrawn:
                    self.never_began(job, attempt)
                else:
                    self._no_worker(job, attempt, end)
        self.core.store.run("worker_state", ("gone", None, None, worker_id))
        self.dispatch.worker_gone(worker_id)
        self.core.after(self.core.hands.forget, [self.core.marks.worker(worker_id)])

    def _may_begin_elsewhere(self, worker: Worker, end: WorkerEnd) -> bool:
        """Tell whether what a dead worker had not begun is worth another worker."""
        if end.error is not None:
            return False
        if worker.ready or end.started > 0 or not end.known:
            # What nobody saw says nothing of it either: it may have been committed and never spawned.
            return True
        # One that cannot live would kill its successors too; one that was killed says nothing of them.
        born_dead = self.dispatch.stillborn[worker.digest] = self.dispatch.stillborn.get(worker.digest, 0) + 1
        return born_dead <= PATIENCE and end.signal == SIGKILL

    def _died_with(self, job: int, attempt: int, end: WorkerEnd) -> None:
        """Charge the job that ran when its worker died."""
        row = self._open(job, attempt)
        if row is None:
            return
        left = {"finished": self.core.clock.wall(), "records": end.records or None}
        if not end.known:
            self._vanish(row, left, "its worker died and nobody who could learn its exit status watched")
        elif end.signal is not None:
            reason, message = self._reason(end.pid, None, end.signal)
            self._end(row, reason, left, signal=end.signal, message=message or "its worker was killed")
        else:
            # os._exit(0) in a function: it ended, without a result; it is no success that anybody declared.
            self._end(row, "exit", left, exit_code=end.exit_code, message="the function ended its process")

    def _no_worker(self, job: int, attempt: int, end: WorkerEnd) -> None:
        row = self._open(job, attempt)
        if row is not None:
            said = end.error or f"the worker ended before it was ready: {end.said.strip() or 'it said nothing'}"
            error = json.dumps({"type": "worker", "message": said}).encode()
            self._end(row, "spawn", {"finished": self.core.clock.wall(), "error": error}, message=said)

    def withdraw_from(self, worker: Worker, seq: int) -> None:
        """Take it that a worker did not begin what it holds from ``seq`` on."""
        for held, (job, attempt, _) in sorted(worker.holding.items()):
            if held >= seq:
                self.never_began(job, attempt)

    # --- shared ---------------------------------------------------------------

    def _open(self, job: int, attempt: int) -> JobRow | None:
        """Give a job if this attempt of it is the one under way."""
        self.core.store.unfold(job)
        row = self.core.store.job(job)
        if row is None or row.attempt != attempt or row.state not in ("assigned", "running", "suspended"):
            return None
        return row

    def _end(
        self, row: JobRow, reason: str | None, left: dict[str, Any], *, exit_code: int | None = None,
        signal: int | None = None, message: str | None = None,
    ) -> None:  # fmt: skip
        told = reason if reason == "spawn" else row.ending or reason
        bind = (
            "ended", left.get("started"), left["finished"], exit_code, signal, told, message,
            left.get("cpu"), left.get("peak_rss"), *left.get("process", _UNCHANGED), row.id, row.attempt,
        )  # fmt: skip
        self.core.store.run("end_attempt", bind)
        event = lc.Ended(
            now=self.core.clock.wall(),
            tries=row.attempt - row.tries_from,
            chance=self.core.chance(),
            reason=reason,
            exit_code=exit_code,
            signal=signal,
            message=message,
        )
        self._take(row, event, left)

    def _vanish(self, row: JobRow, left: dict[str, Any], why: str) -> None:
        bind = (
            "lost", left.get("started"), left["finished"], None, None, row.ending, why, None, None,
            *left.get("process", _UNCHANGED), row.id, row.attempt,
        )  # fmt: skip
        self.core.store.run("end_attempt", bind)
        self._take(row, lc.Vanished(self.core.clock.wall(), why), left)

    def _take(self, row: JobRow, event: lc.Event, left: dict[str, Any]) -> None:
        records = left.get("records")
        if records and not isinstance(lc.step(row.life(), event, row.policy())[0], lc.FINISHED):
            # The column holds the last attempt's only; this one will have a successor.
            self.core.hands.keep_records(row.id, row.attempt, records)
            left = {**left, "records": None}
        self.core.step(row, event, left=left)
