"""The duty of doing what people ask of jobs and queues that exist."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from vigie import boards
from vigie import lifecycle as lc
from vigie.agent.core import ENDS, Core, Who
from vigie.agent.dispatch import Dispatch
from vigie.errors import Conflict, NotFound, Refused, UsageError
from vigie.model import FINISHED, public_state

__all__ = ["Control"]


class Control:
    """Stop, suspend, resume, retry, remove; queues and cursors."""

    def __init__(self, core: Core, dispatch: Dispatch) -> None:
        self.core = core
        self.dispatch = dispatch

    # --- jobs -----------------------------------------------------------------

    def stop(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Ask jobs to end; a job that has not begun is stopped at once. Those that had ended are named."""
        grace = request.get("grace")
        ended = []
        self._no_lives(request["ids"], "stop")
        # The newest first: what depends on another is stopped, and not failed by the other's stop.
        for job in sorted(self._known(request["ids"]), reverse=True):
            row = self.core.store.job(job)
            if row is None or row.state in FINISHED:
                ended.append(job)
                continue
            if grace is not None:
                row = row._replace(grace=int(grace))
            self.core.step(row, lc.StopAsked(), who=who)
        return {"ended": ended}

    def suspend(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Freeze the trees of running jobs."""
        self._no_lives(request["ids"], "suspend")
        return self._each(request["ids"], lambda row: lc.SuspendAsked(), who)

    def resume(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Let suspended jobs go on."""
        self._no_lives(request["ids"], "resume")
        return self._each(request["ids"], lambda row: lc.ResumeAsked(), who)

    def retry(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Run ended jobs once more."""
        self._no_lives(request["ids"], "start")
        return self._each(request["ids"], self._again, who)

    def _no_lives(self, ids: Sequence[int], verb: str) -> None:
        """Refuse what would go over the head of a service: its lives begin and end by its own rules."""
        for job in ids:
            found = self.core.store.services.run("service_of", (int(job),)).fetchone()
            if found is not None and found[0] is not None:
                raise Refused(f"job {job} is a life of service {found[0]}", f"vigie service {verb} {found[0]}")

    def _again(self, row: Any) -> lc.RetryAsked:
        """Give the event of a retry, which waits for what the job needs as the first start did."""
        needs = self.core.store.run("needs_of", (row.id,)).fetchall()
        for needed, mode, state in needs:
            if state is None and mode == "result":
                raise lc.Refusal(f"needs the result of job {needed}, which was removed")
            if state in ("failed", "stopped", "lost") and mode != "any" and row.state in FINISHED:
                raise lc.Refusal(f"needs job {needed}, which {ENDS[state]}: retry that one first")
        # Others may wait for it once more.
        self.core.needed.update((row.id, *(needed for needed, _, _ in needs)))
        return lc.RetryAsked(blocked=not self.core.dependencies_met(row.id))

    def _each(self, ids: Sequence[int], event: Callable[[Any], lc.Event], who: Who) -> dict[str, Any]:
        answer = []
        for job in self._known(ids):
            row = self.core.store.job(job)
            if row is None:
                continue
            note = None
            before = row.state
            try:
                after = public_state(type(self.core.step(row, event(row), who=who)).__name__.lower())
            except lc.Refusal as refusal:
                after, note = public_state(before), f"job {job} {refusal}"
            answer.append({"id": job, "state": after, "changed": after != public_state(before), "note": note})
        return {"jobs": answer}

    def _known(self, ids: Sequence[int]) -> list[int]:
        wanted = [int(job) for job in ids]
        for job in wanted:
            if self.core.store.state_of(job) is None:
                raise NotFound(f"no job {job}", "vigie jobs --all")
        return wanted

    def time_out(self, job: int, attempt: int) -> None:
        """Tell a job that its time is up."""
        row = self.core.store.job(job)
        if row is not None and row.attempt == attempt and row.state == "running":
            self.core.step(row, lc.TimeoutPassed())

    def clock_set(self, by: int) -> None:
        """Move what was given as a delay with the wall clock, which was set by so many µs."""
        self.core.store.run("shift_delays", (by,))
        self.core.log("clock-set", thing="clock", detail={"by": by / 1e6})
        self.core.moved(by)
        self.core.after(self.core.rearm)

    def come_due(self) -> None:
        """Let every job go on whose instant has come."""
        for (job,) in self.core.store.run("due_before", (self.core.clock.wall(),)).fetchall():
            row = self.core.store.job(job)
            if row is not None:
                self.core.step(row, lc.TimeCame())
        self.core.after(self.core.rearm)

    def remove(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Remove ended jobs with all they left; ``force`` takes those that wait as well."""
        removed, refused = [], []
        for job in self._known(request["ids"]):
            row = self.core.store.job(job)
            if row is None:
                continue
            if row.state in ("blocked", "queued") and request.get("force"):
                self.core.step(row, lc.StopAsked(), who=who)
            elif row.state not in FINISHED:
                why = f"job {job} is {public_state(row.state)}; stop it first: vigie stop {job}"
                refused.append({"id": job, "why": why, "state": public_state(row.state)})
                continue
            wanted = self.core.store.one("wanted_by", (job,))
            if wanted is not None:
                why = f"job {wanted[0]} takes the result of job {job} and has not run"
                refused.append({"id": job, "why": why})
                continue
            self.delete(job, who)
            removed.append(job)
        return {"removed": removed, "refused": refused}

    def delete(self, job: int, who: Who) -> None:
        """Remove one ended job; the timeline keeps the line of its removal."""
        self.core.store.run("remove_job_events", (job,))
        self.core.store.unfold(job)
        self.core.store.run("remove_job", (job,))
        self.core.log("removed", job, who=who)
        self.core.after(self.core.hands.delete_files, job)

    # --- parallel runs ----------------------------------------------------------

    def steer(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Tell a parallel run to go on otherwise: another limit, nothing more, or something of one item."""
        (job,) = self._known([request["job"]])
        order = _order(request.get("order"))
        row = self.core.store.job(job)
        function = None if row is None else self.core.store.one("task_code", (row.task,))
        if row is None or function is None or function[0] not in boards.RUNNERS:
            raise Refused(f"job {job} is no parallel run", "vigie map --background and vigie.start_map start one")
        if row.state in FINISHED:
            raise Refused(f"job {job} is {public_state(row.state)} already", f"vigie retry {job}")
        self.core.log("steer", job, who=who, detail=order)
        # What is meant for this attempt is no matter of those that follow.
        begun = row.state in ("assigned", "running", "suspended")
        return {"order": {**order, "attempt": row.attempt if begun else row.attempt + 1}}

    # --- queues ---------------------------------------------------------------

    def queue_set(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Make or change a queue; fields that are absent stay."""
        name = str(request["name"])
        if not name or name.isdigit() or name == "last":
            raise UsageError(f"{name!r} cannot be the name of a queue")
        slots, rate, paused = self.core.store.one("queue", (name,)) or (None, None, 0)
        before = {"slots": slots, "rate": rate}
        if "slots" in request:
            slots = request["slots"]
        if "rate" in request:
            rate = request["rate"]
        if slots is not None and slots < 1:
            raise UsageError(f"slots is {slots}: nothing could run", f"vigie queue pause {name}")
        if rate is not None and rate <= 0:
            raise UsageError(f"rate is {rate}: it must be above zero")
        return self._write(name, slots, rate, paused, "queue-set", before, who)

    def queue_pause(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Hand out nothing more from a queue; what runs goes on."""
        return self._pause(str(request["name"]), 1, "queue-pause", who)

    def queue_resume(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Hand out from a queue again."""
        return self._pause(str(request["name"]), 0, "queue-resume", who)

    def _pause(self, name: str, paused: int, verb: str, who: Who) -> dict[str, Any]:
        row = self.core.store.one("queue", (name,))
        if row is None and name not in ("default", "schedules"):
            raise NotFound(f"no queue {name!r}", "vigie queue list")
        slots, rate, was = row or (None, None, 0)
        return self._write(name, slots, rate, paused, verb, {"paused": bool(was)}, who)

    def _write(
        self, name: str, slots: int | None, rate: float | None, paused: int, verb: str, before: Any, who: Who
    ) -> dict[str, Any]:
        self.core.store.run("set_queue", (name, slots, rate, paused))
        self.dispatch.changed(name)
        settings = self.dispatch.settings(name)
        queue = {"name": name, "slots": settings.slots, "rate": rate, "paused": bool(paused)}
        self.core.log(verb, who=who, thing=f"queue:{name}", before=json.dumps(before), after=json.dumps(queue))
        return {"queue": queue}

    # --- readers --------------------------------------------------------------

    def cursor(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Move a reader's position from old to new; a stale move is refused."""
        (job,) = self._known([request["job"]])
        reader = str(request.get("reader") or "default")
        row = self.core.store.one("cursor", (job, reader))
        stands = None if row is None else json.loads(row[0])
        if stands != request.get("old"):
            raise Conflict(
                f"another reader moved the position of job {job} meanwhile; what was shown may show again",
                "use --reader NAME for a position of your own",
            )
        new = json.dumps(request["new"])
        self.core.store.run("set_cursor", (job, reader, new, self.core.clock.wall()))
        return {}


def _order(given: Any) -> dict[str, Any]:
    """Check what a parallel run is told."""
    if isinstance(given, dict) and len(given) == 1:
        ((word, value),) = given.items()
        least = {"limit": 1, "skip": 0, "retry": 0}.get(word)
        if word == "drain" or (least is not None and type(value) is int and value >= least):
            return {word: value}
    raise UsageError(f"{given!r} is nothing that a parallel run can be told")
