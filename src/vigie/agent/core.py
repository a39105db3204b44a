"""What all duties of the agent share: the store, the clock, one step of a life.

Everything here runs inside the one writing transaction (see ``writer``). What
must happen in the world is only noted, with :meth:`Core.after`, and done by the
hands when the transaction is on disk.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vigie import lifecycle as lc
from vigie.agent.marks import Marks
from vigie.model import public_state
from vigie.ports import Clock, Hands
from vigie.store.rows import JobRow, ReadyRow
from vigie.store.sqlite import Store

if TYPE_CHECKING:
    from vigie.outcome import Good

__all__ = ["ENDS", "Core", "Who", "spans"]


@dataclass(frozen=True, slots=True)
class Who:
    """The person and program behind a request (from the socket's credentials)."""

    uid: int | None = None
    pid: int | None = None
    program: str | None = None
    terminal: str | None = None


Effect = tuple[Callable[..., Any], tuple[Any, ...]]
NOBODY = Who()
#: How many that wait are kept in memory from their submit until they are handed out.
FEW = 7


def spans(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Give the runs of ids without a gap, as pairs of the first and the last.

    >>> spans([3, 4, 5, 9])
    [(3, 5), (9, 9)]
    """
    found: list[tuple[int, int]] = []
    for job in ids:
        if found and job == found[-1][1] + 1:
            found[-1] = (found[-1][0], job)
        else:
            found.append((job, job))
    return found


@dataclass
class Core:
    """The agent's state that is not in the store, and the step that all duties take.

    Attributes
    ----------
    owner:
        (host, agent id, boot id), written into each attempt.
    marks:
        How attempts are called between processes.
    dirty:
        Queues in which something may be handed out now.
    needed:
        Jobs that somebody depends on (a superset: asking once too often is harmless).
    drained:
        Queues in which nothing waits, as far as that is known: only who puts something in can change it.
    arrived:
        All that waits in a queue that was drained before this transaction, while that is little.
    keyed:
        Queues in which a job with concurrency keys waits, or did since we looked.
    urgent, effects:
        What to do after the commit, in order: first what others can begin with meanwhile, then the rest.
    """

    store: Store
    clock: Clock
    hands: Hands
    owner: tuple[str, str, str]
    marks: Marks
    chance: Callable[[], float] = random.random
    dirty: set[str] = field(default_factory=set)
    drained: set[str] = field(default_factory=set)
    arrived: dict[str, list[ReadyRow]] = field(default_factory=dict)
    needed: set[int] = field(default_factory=set)
    keyed: set[str] = field(default_factory=set)
    urgent: list[Effect] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    #: Set by dispatch: gives the slot of an attempt back.
    release: Callable[[int, int], None] = lambda job, attempt: None
    #: Set by dispatch: the same for many.
    release_many: Callable[[Sequence[tuple[int, int]]], None] = lambda attempts: None
    #: Set by dispatch: tells whether jobs of a task in a queue will share batches, as things stand.
    tiny: Callable[[str, int], bool] = lambda queue, task: False
    #: Set by main: takes an assigned job back from its worker, else ends it.
    take_back: Callable[[int, int], None] = lambda job, attempt: None
    #: Called when what is known in memory may not be so any more (schedules, say).
    learners: list[Callable[[], None]] = field(default_factory=list)
    #: Set by main: the wall clock was set by so many µs.
    moved: Callable[[int], None] = lambda by: None
    #: Set while somebody waits for it: jobs have ended (inside the transaction that writes it).
    on_end: Callable[[Sequence[int]], None] | None = None
    #: Set by main: whether a job is a life of a service or beside one, and who hears of its end in the transaction.
    served: Callable[[int], bool] = lambda job: False
    on_served_end: Callable[[JobRow, lc.State], None] = lambda row, new: None
    #: Set by the timers: look again when the next blocked job is due.
    rearm: Callable[[], None] = lambda: None

    def after(self, effect: Callable[..., Any], *args: Any) -> None:
        """Note what to do when the transaction is on disk."""
        self.effects.append((effect, args))

    def at_once(self, effect: Callable[..., Any], *args: Any) -> None:
        """Note what to do first of all when the transaction is on disk."""
        self.urgent.append((effect, args))

    def reload(self) -> None:
        """Learn again from the store what a rollback made uncertain."""
        self.urgent.clear()
        self.effects.clear()
        self.learn()

    def learn(self) -> None:
        """Learn again who is needed and where something waits; effects noted by others stay."""
        self.needed = {row[0] for row in self.store.run("needed")}
        self.dirty = self.store.queues_ready()
        self.drained.clear()
        self.arrived.clear()
        self.keyed = {row[0] for row in self.store.run("keyed_queues")}
        for learn in self.learners:
            learn()

    def log(
        self,
        verb: str,
        job: int | None = None,
        *,
        who: Who = NOBODY,
        thing: str | None = None,
        before: str | None = None,
        after: str | None = None,
        detail: Any = None,
        at: int | None = None,
    ) -> None:
        """Write a line of the timeline."""
        if detail is not None and not isinstance(detail, str):
            detail = json.dumps(detail)
        instant = self.clock.wall() if at is None else at
        row = (instant, verb, job, thing, before, after, who.uid, who.pid, who.program, who.terminal, detail)
        self.store.run("event", row)

    def log_many(
        self, verb: str, jobs: Sequence[int], *, who: Who = NOBODY, before: str | None = None,
        after: str | None = None, detail: str | None = None, at: int | None = None,
    ) -> None:  # fmt: skip
        """Write what many jobs went through together, a line for each run of ids without a gap."""
        instant = self.clock.wall() if at is None else at
        by = (before, after, who.uid, who.pid, who.program, who.terminal, detail)
        for first, last in spans(jobs):
            self.store.run("event_of_many", (instant, verb, first, last if last > first else None, *by))

    def arrive(self, queue: str, rows: Sequence[ReadyRow] | None = None) -> None:
        """Say that something waits in a queue now; ``rows`` are all of it that came, where that is easy to tell."""
        self.dirty.add(queue)
        known = [] if queue in self.drained else self.arrived.get(queue)
        self.drained.discard(queue)
        if known is None or rows is None or len(known) + len(rows) > FEW:
            self.arrived.pop(queue, None)
        else:
            self.arrived[queue] = [*known, *rows]

    # --- one step of a life ---------------------------------------------------

    def step(
        self, row: JobRow, event: lc.Event, *, who: Who = NOBODY, left: dict[str, Any] | None = None,
        detail: dict[str, Any] | None = None, at: int | None = None,
    ) -> lc.State:  # fmt: skip
        """Take one event: write the new state and note its effects.

        ``left`` is what an ended attempt left behind (columns of ``finish_job``),
        ``detail`` what the timeline should say that the new state does not, ``at`` when it happened.

        Raises
        ------
        lifecycle.Refusal
            When the event cannot be taken in this state.
        """
        state = row.life()
        new, effects = lc.step(state, event, row.policy())
        if new == state and not effects:
            return state
        self.arrived.clear()  # it may be one of them
        self.store.unfold(row.id)
        if isinstance(event, lc.RetryAsked):
            (records,) = self.store.one("records", (row.id,)) or (None,)
            if records:
                self.hands.keep_records(row.id, row.attempt, records)
            self.store.reopen(row, new)
        elif isinstance(event, lc.Ended | lc.Vanished) or isinstance(new, lc.FINISHED):
            # An end by stop or a broken dependency has no attempt behind it.
            self.store.finish(row, new, left or {"finished": self.clock.wall()})
        else:
            self.store.move(row, new)
        self._note(row, event, new, who, detail, at)
        for effect in effects:
            _EFFECTS[effect](self, row, new)
        return new

    def succeed_many(self, ends: Sequence[Good]) -> bool:
        """Take the good ends of many jobs on which nobody depends: the same table, one pass over the store.

        False, and nothing has changed, when one of them is not simply under way.
        """
        if not self.store.succeed_many(ends):
            return False
        over = [(end[1], end[2]) for end in ends]
        self.release_many(over)
        if self.on_end is not None:
            self.on_end([job for job, _ in over])
        self.log_many("ended", [job for job, _ in over], before="running", after="completed")
        self.after(self.hands.over, ends)
        return True

    def _note(
        self, row: JobRow, event: lc.Event, new: lc.State, who: Who, more: dict[str, Any] | None, at: int | None
    ) -> None:
        waited = row.claimed_ahead
        before = "queued" if waited else public_state(row.state)
        after = "queued" if waited and isinstance(event, lc.StopAsked) else public_state(type(new).__name__.lower())
        detail = more
        match new:
            case lc.Failed(reason, code, signal, message):
                detail = {"reason": reason, "exit_code": code, "signal": signal, "message": message}
            case lc.Completed(code) if code is not None:
                detail = {"exit_code": code}
            case lc.Lost(message):
                detail = {"message": message}
            case lc.Running(attempt, ending):
                detail = more or {"attempt": attempt, "ending": ending}
            case lc.Blocked(by, due):
                detail = {"by": by, "due": due}
        self.log(_VERBS[type(event)], row.id, who=who, before=before, after=after, detail=detail, at=at)

    def _ready(self, row: JobRow, new: lc.State) -> None:
        self.arrive(row.queue)
        if row.keyed:
            self.keyed.add(row.queue)

    def _arm(self, row: JobRow, new: lc.State) -> None:
        self.after(self.rearm)

    def _release(self, row: JobRow, new: lc.State) -> None:
        self.release(row.id, row.attempt)
        self.after(self.hands.released, row.id, row.attempt)
        self.dirty.add(row.queue)
        if row.keyed:
            self.store.run("release_keys", (row.id,))
            self.dirty.update(name for (name,) in self.store.run("key_queues", (row.id,)).fetchall())

    def _finish(self, row: JobRow, new: lc.State) -> None:
        self.after(self.hands.finished, row.id)
        if self.on_end is not None:
            self.on_end((row.id,))
        if self.served(row.id):
            self.on_served_end(row, new)
        if row.id in self.needed:
            self.needed.discard(row.id)
            for job, mode in self.store.run("dependents", (row.id,)).fetchall():
                self._dependent(job, mode, row.id, new)

    def _dependent(self, job: int, mode: str, needs: int, end: lc.State) -> None:
        row = self.store.job(job)
        if row is None or row.state != "blocked":
            return
        if mode != "any" and not isinstance(end, lc.Completed):
            how = type(end).__name__.lower()
            self.step(row, lc.DependencyBroken(f"job {needs}, which it needs, {ENDS[how]}"))
        elif self.dependencies_met(job):
            self.step(row, lc.Unblocked(self.ahead(row.due)))

    def dependencies_met(self, job: int) -> bool:
        """Tell whether everything that a job needs has come, as it needs it."""
        return all(
            state in (_FINISHED if mode == "any" else _COME) for _, mode, state in self.store.run("needs_of", (job,))
        )

    def ahead(self, due: int | None) -> int | None:
        """Give an instant if it is still to come."""
        return due if due is not None and due > self.clock.wall() else None

    def _terminate(self, row: JobRow, new: lc.State) -> None:
        by_timeout = isinstance(new, lc.Running | lc.Suspended) and new.ending == "timeout"
        # A function cannot be asked to end in time: its worker goes at once.
        grace = 0 if by_timeout and row.kind == "function" else row.grace
        self.after(self.hands.terminate, row.id, row.attempt, grace)

    def _take_back(self, row: JobRow, new: lc.State) -> None:
        # First of all: what ends something else next makes room for it.
        self.at_once(self.take_back, row.id, row.attempt)

    def _freeze(self, row: JobRow, new: lc.State) -> None:
        self.store.run("freeze_attempt", (self.clock.mono(), row.id, row.attempt))
        self.after(self.hands.freeze, row.id, row.attempt)

    def _thaw(self, row: JobRow, new: lc.State) -> None:
        self.store.run("thaw_attempt", (self.clock.mono(), row.id, row.attempt))
        self.after(self.hands.thaw, row.id, row.attempt)

    def _nothing(self, row: JobRow, new: lc.State) -> None:
        """BEGIN is done by the dispatcher, which knows the worker."""


#: What was removed had ended.
_FINISHED = ("completed", "failed", "stopped", "lost", None)
_COME = ("completed", None)
#: How a job that ended badly is spoken of.
ENDS = {"failed": "failed", "stopped": "was stopped", "lost": "was lost"}
_EFFECTS: dict[lc.Effect, Callable[[Core, JobRow, lc.State], None]] = {
    lc.Effect.READY: Core._ready,
    lc.Effect.ARM: Core._arm,
    lc.Effect.BEGIN: Core._nothing,
    lc.Effect.RELEASE: Core._release,
    lc.Effect.FINISH: Core._finish,
    lc.Effect.WITHDRAW: Core._take_back,
    lc.Effect.TERMINATE: Core._terminate,
    lc.Effect.FREEZE: Core._freeze,
    lc.Effect.THAW: Core._thaw,
}
_VERBS: dict[type, str] = {
    lc.Unblocked: "unblocked",
    lc.DependencyBroken: "ended",
    lc.TimeCame: "due",
    lc.Claimed: "claimed",
    lc.Begun: "started",
    lc.Withdrawn: "withdrawn",
    lc.Ended: "ended",
    lc.Vanished: "ended",
    lc.StopAsked: "stop",
    lc.TimeoutPassed: "timeout",
    lc.SuspendAsked: "suspend",
    lc.ResumeAsked: "resume",
    lc.RetryAsked: "retry",
}
