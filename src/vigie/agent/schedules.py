"""The duty of schedules: instants are planned ahead, and decided when they have come.

*Planning* writes the instants of the next seconds into the store, many in one
commit, and keeps them in a heap. *Deciding* takes from the heap what has come,
asks ``firing.judge`` and writes the verdict together with the job: a crash leaves an
instant either planned or decided. What passed while nobody was there (no agent, a
sleeping machine, a wall clock set forward by hours) goes through catch-up when it is
planned.

The store never gives more than a part of what is due, so that other requests come
between; a million schedules cost memory only when their time is near.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vigie import firing as rules
from vigie import lifecycle as lc
from vigie.agent.alarm import Alarm
from vigie.agent.coming import Coming
from vigie.agent.core import Core, Who
from vigie.agent.gates import Gates
from vigie.agent.handing import handed
from vigie.agent.happenings import Happenings
from vigie.agent.rezone import Rezone
from vigie.agent.verdicts import at_once, is_plain
from vigie.agent.whens import Line, line, policy_of, read
from vigie.agent.writer import Writer
from vigie.errors import VigieError
from vigie.model import FINISHED
from vigie.policies import Policy
from vigie.store.schedules import FiringRow, ScheduleRow, queue_of

if TYPE_CHECKING:
    from vigie.outcome import Good

__all__ = ["QUEUE", "Schedules"]

QUEUE = "schedules"
#: How far ahead instants are planned (µs).
AHEAD = 2_000_000
#: Schedules planned, and firings decided, in one transaction: at most so many, fewer where they take long (µs).
PART, LEAST = 500, 50
LONG = 30_000
#: Schedules planned between two looks at the clock.
SLICE = 20
#: Firings that are decided together and have a line each in the timeline; more have one for all.
FEW = 16
#: Instants of one schedule planned at a time.
EACH = 64
#: A missed instant is counted up to here.
COUNTED = 100_000
#: Records beyond those that are kept are looked for after so many decisions, of as many schedules at most.
TRIM = 8
#: A condition that does not hold is looked at again after (µs).
RECHECK = 5_000_000
#: More than this (µs) on the clock that sleeps and the machine has slept.
NAP = 1_000_000

BY_CLOCK = Who(program="schedule")


class Schedules:
    """Plans and decides firings.

    Parameters
    ----------
    core, writer, loop:
        Of the agent.
    """

    def __init__(self, core: Core, writer: Writer, loop: asyncio.AbstractEventLoop) -> None:
        self.core = core
        self.writer = writer
        self.store = core.store.schedules
        self.gates = Gates(self)
        #: What is planned and not decided: (when to look, schedule, instant).
        self.heap = Coming()
        #: Jobs of schedules that have not ended: by schedule, oldest first; and whose they are.
        self.open: dict[str, list[int]] = {}
        self.of: dict[int, str] = {}
        #: Schedules that count from the end or start of a run.
        self.again: set[str] = set()
        #: Since when somebody is here, and why nobody was before.
        self.back = core.clock.wall()
        self.absence = "down"
        self.zones = Rezone(self)
        self._slept = self._sleep()
        self._posted = False
        self.happenings = Happenings(self, loop)
        self.alarm = Alarm(loop, core.clock, self.wake)
        self._decided = 0
        self._part = PART

    # --- waking ---------------------------------------------------------------

    def wake(self) -> None:
        """Look in the next transaction what has come."""
        if not self._posted:
            self._posted = True
            self.writer.post(self.step)

    def close(self) -> None:
        """Ring no more, and look no more."""
        self.alarm.close()
        self.happenings.stop()

    def step(self) -> None:
        """Decide what has come, plan what comes next."""
        self._posted = False
        self._look_whether_slept()
        began = self.core.clock.mono()
        more = self.decide()
        more = self.plan() or more
        if more:
            # Others wait for the end of it.
            took = self.core.clock.mono() - began
            self._part = max(LEAST, self._part // 2) if took > LONG else min(PART, self._part * 2)
        self.core.after(self.wake if more else self.arm)

    def arm(self) -> None:
        """Set the alarm for what comes first."""
        times = [self.heap[0][0]] if self.heap else []
        due, until = self.store.first("next_due"), self.store.first("next_until")
        if due is not None:
            times.append(due - AHEAD)
        if until is not None:
            times.append(until)
        self.alarm.set(min(times, default=None))

    def _look_whether_slept(self) -> None:
        """Take note of a sleep of the machine; should the transaction be undone, it is taken note of again."""
        slept = self._sleep()
        if slept - self._slept > NAP:
            self.leave(self.core.clock.wall(), "asleep")
        self.core.after(setattr, self, "_slept", slept)

    def _sleep(self) -> int:
        tell = getattr(self.core.clock, "asleep", None)
        return int(tell()) if tell is not None else 0

    # --- what the store says --------------------------------------------------

    def learn(self) -> None:
        """Learn from the store what is planned and what is open, at the start and after a rollback."""
        self.heap = Coming(self.store.run("open", (1 << 20,)))
        self.open.clear()
        self.of.clear()
        for job, name in self.store.run("open_jobs"):
            self._opened(job, name)
        self.again = {name for (name,) in self.store.run("again")}
        self.gates.learn()
        self.happenings.learn()

    def begin(self) -> None:
        """Take up the work of the agent before: what passed since was missed."""
        self.leave(self.core.clock.wall(), "down")
        boot = self.core.owner[2]
        self.happenings.begin(boot, self.core.store.meta("boot"))
        self.core.store.run("set_meta", ("boot", boot))
        for name in self.again:
            self._find_end(name)
        self.zones.look(missed=True)
        self.core.after(self.wake)

    def adopt(self) -> None:
        """Take up what another agent on the same store has planned and is due: it may be dead by then."""
        found = self.store.run("open_before", (self.core.clock.wall() + rules.ABSENCE, PART)).fetchall()
        known = {key[1:] for key in self.heap} if found else set()
        for due, schedule, instant in found:
            if (schedule, instant) not in known:
                self.heap.push((due, schedule, instant))
        for name in self.again:
            self._find_end(name)
        self.core.after(self.wake if found else self.arm)

    def leave(self, back: int, why: str) -> None:
        """Take note of an absence that is over: what passed in it was missed, not late."""
        self.back, self.absence = back, why
        before = back - rules.ABSENCE
        self.store.run("unplan", (before,))
        self.store.run("unplanned")
        self.learn()

    def clock_set(self, by: int) -> None:
        """Follow the wall clock, which was set by so many µs: intervals do not care, a long step forward is absence."""
        self.store.run("shift", (by,))
        self.store.run("shift_firings", (by,))
        self.store.run("shift_waits", (by,))
        for row in self.store.limited():
            # Their limits do not move.
            following = line(row).after(row.planned)
            self.store.run("advance", (row.planned, following, self.due(row, following), row.id))
        self.learn()
        now = self.core.clock.wall()
        self.back = min(self.back, now)
        if by > rules.FORWARD:
            self.leave(now, "down")
        self.core.after(self.wake)

    def look_at_zones(self) -> None:
        """Plan anew what stands in a zone whose file has changed."""
        self.zones.look()

    # --- planning -------------------------------------------------------------

    def plan(self) -> bool:
        """Plan the instants of the next seconds; True if there are more than one transaction should take."""
        now = self.core.clock.wall()
        for row in self.store.resuming(now):
            if row.state == "done":
                self.store.run("remove", (row.id,))
                self.core.log("schedule-removed", thing=f"schedule:{row.name}", who=BY_CLOCK, before=row.spec)
            else:
                with self.aside(row.id):
                    self.resumed(row, now)
        rows = self.store.due(now + AHEAD, self._part)
        began = self.core.clock.mono()
        for at in range(0, len(rows), SLICE):
            self._plan(rows[at : at + SLICE], now)
            if self.core.clock.mono() - began > LONG:
                # Each may have a long absence to go through.
                return True
        return len(rows) == self._part

    def _plan(self, rows: Sequence[ScheduleRow], now: int, come: int = 0) -> None:
        """Plan what comes next of schedules, and all of them that has come by ``come``."""
        planned: list[tuple[int, int, int]] = []
        moved: list[tuple[int, int | None, int | None, int]] = []
        for row in rows:
            try:
                moved.append(self._advance(row, now, planned, come))
            except VigieError as error:
                self._put_aside(row.id, error)
        self.store.plan_many(planned)
        self.store.advance_many(moved)
        for key in planned:
            self.heap.push(key)
        for _, following, _, number in moved:
            if following is None:
                self._finish_if_over(number, now)

    def see_to(self, row: ScheduleRow) -> ScheduleRow:
        """Plan or record all of a schedule that has come, before somebody makes it another; give it as it is then."""
        now = self.core.clock.wall()
        self._look_whether_slept()
        row, before = self.store.numbered(row.id) or row, -1
        if row.state == "paused":
            self._record_pause(row, now, now)
        while row.state == "active" and row.next is not None and row.next <= now and row.planned != before:
            before = row.planned
            self._plan([row], now, come=now)
            row = self.store.numbered(row.id) or row
        return row

    @contextmanager
    def aside(self, number: int) -> Iterator[None]:
        """Put a schedule aside that cannot be read any more, as one whose zone has gone: the others go on."""
        try:
            yield
        except VigieError as error:
            self._put_aside(number, error)

    def _put_aside(self, number: int, error: VigieError) -> None:
        row = self.store.numbered(number)
        if row is not None and row.state == "active":
            self.store.run("state", ("paused", None, None, None, row.planned, number))
            self.core.log("schedule-paused", thing=f"schedule:{row.name}", who=BY_CLOCK, detail=error.message)

    def resumed(self, row: ScheduleRow, now: int, who: Who = BY_CLOCK) -> None:
        """Make a paused schedule active; what it would have done meanwhile is one record."""
        # It may have ended while nobody was here to see it: what came after that was missed.
        end = now if row.until is None else min(now, row.until)
        planned = self._record_pause(row, end, now)
        following = line(row._replace(planned=planned)).after(planned)
        self.store.run("state", ("active", None, following, self.due(row, following), planned, row.id))
        self.core.log("schedule-resumed", thing=f"schedule:{row.name}", who=who)
        if row.occasions:
            self.happenings.learn()

    def _record_pause(self, row: ScheduleRow, end: int, now: int) -> int:
        """Record the instants that fell into a pause, up to ``end``; give how far the schedule has come then."""
        times = line(row)
        missed = times.count(row.planned, end, COUNTED)
        if missed:
            last = times.newest(row.planned, end, 1)[-1]
            self._leave_out(row, last, missed, "paused", None)
        return max(row.planned, end)

    def _advance(
        self, row: ScheduleRow, now: int, found: list[tuple[int, int, int]], come: int
    ) -> tuple[int, int | None, int | None, int]:
        """Find one schedule's instants, those that were missed by the rules of catch-up; give how far it is then."""
        times, planned, instant, policy = line(row), row.planned, row.next, policy_of(row.policy)
        if self.zones.concern(row):
            instant = times.after(planned)
        # What was put off, and has still to start, was not missed.
        before = self.back - rules.ABSENCE - rules.longest_delay(policy, row.name)
        if instant is not None and instant <= before and times.count(planned, before, 1):
            planned = self._catch_up(row, times, before, now)
            instant = line(row._replace(planned=planned)).after(planned)
        ahead = self.due(row, instant)
        for _ in range(EACH):
            if instant is None or ahead is None or (ahead > now + AHEAD and instant > come):
                break
            found.append((instant + rules.delay(policy, row.name, instant), row.id, instant))
            planned, instant = instant, times.first(instant)
            ahead = self.due(row, instant)
        return planned, instant, ahead, row.id

    def planned(self, number: int, instant: int, due: int, *, missed: bool = False, cause: str | None = None) -> bool:
        """Plan one instant; False, and nothing is done, if it has its record."""
        new = self.store.plan(number, instant, due, missed=missed, cause=cause)
        if new:
            self.heap.push((due, number, instant))
        return new

    def due(self, row: ScheduleRow, instant: int | None) -> int | None:
        """Give up to when an instant has to be planned: when it starts, its jitter included.

        One whose delay is another each time may start before those that came earlier: then that is at once.
        """
        policy = policy_of(row.policy)
        return instant if instant is None or policy.random else instant + rules.delay(policy, row.name, instant)

    def _catch_up(self, row: ScheduleRow, times: Line, before: int, now: int) -> int:
        """Plan those of the missed instants that run after all, record the rest; give the last of them."""
        policy = policy_of(row.policy)
        count = times.count(row.planned, before, COUNTED)
        newest = times.newest(row.planned, before, max(1, rules.settle(policy, count)))
        kept = newest if policy.catch_up != "none" else []
        skipped = count - len(kept)
        if skipped:
            last = times.newest(row.planned, kept[0] - 1 if kept else before, 1)[-1]
            detail = f"{'at least ' if count == COUNTED else ''}{skipped} of them"
            detail += f", all but the newest {len(kept)}" if kept else ""
            self._leave_out(row, last, skipped, self.absence, detail)
            self._log_skip(row.name, self.absence, detail)
        for instant in kept:
            self.planned(row.id, instant, self.due(row, instant) or instant, missed=True)
        return newest[-1]

    def _leave_out(self, row: ScheduleRow, last: int, count: int, reason: str, detail: str | None) -> None:
        """Record the next ``count`` instants as skipped, but for those that came before the clock was set back."""
        for left, first in zip(range(count, 0, -1), line(row).each(row.planned), strict=False):
            if self.store.skip(row.id, first, last, left, reason, detail, self.core.clock.wall()):
                return

    def _finish_if_over(self, number: int, now: int) -> None:
        """Take note that nothing more comes of a schedule, once its last instant is decided."""
        row = self.store.over(number)
        if row is not None:
            self._finish(row, now)

    def _finish(self, row: ScheduleRow, now: int) -> None:
        after = policy_of(row.policy).delete_after
        self.store.run("state", ("done", None if after is None else now + after, None, None, row.planned, row.id))
        self.core.log("schedule-done", thing=f"schedule:{row.name}", who=BY_CLOCK)

    # --- deciding -------------------------------------------------------------

    def decide(self) -> bool:
        """Decide what has come; True if there is more than one transaction should take."""
        now = self.core.clock.wall()
        keys = list({key[1:]: None for key in self.heap.take(now, self._part)})
        if not keys:
            return False
        taken: dict[str, int] = {}
        plain: list[tuple[FiringRow, str]] = []
        last: set[int] = set()
        rows = self.store.deciding(keys)
        self._trim(rows)
        for row in rows:
            if row.next is None:
                last.add(row.schedule)
            before = taken.get(row.name, 0)
            if not before:
                outcome = at_once(row, now, self.open)
                if outcome is not None:
                    taken[row.name] = 1
                    plain.append((row, outcome))
                    continue
            if before:
                # What it judges by has to be written.
                self._start_plain(plain, now)
                plain = []
            verdict: rules.Run | rules.Skip | None = None
            with self.aside(row.schedule):
                verdict = self._judge(row, now, before)
            if isinstance(verdict, rules.Skip):
                self._skip(row, verdict, now)
            elif verdict is not None:
                taken[row.name] = before + 1
                if is_plain(row, verdict):
                    plain.append((row, verdict.outcome))
                else:
                    self.start(row._replace(runs=row.runs + before + 1), verdict, now)
        self._start_plain(plain, now)
        for number in last:
            self._finish_if_over(number, now)
        return bool(self.heap) and self.heap[0][0] <= now

    def _start_plain(self, firings: Sequence[tuple[FiringRow, str]], now: int) -> None:
        """Insert the jobs of firings that wait for nothing, together."""
        if not firings:
            return
        core, first = self.core, self.core.store.take_ids(len(firings))
        self.store.start_many(first, firings, now, QUEUE)
        if len(firings) <= FEW:
            for job, (row, outcome) in enumerate(firings, first):
                core.log("fired", job, who=BY_CLOCK, thing=f"schedule:{row.name}", after="queued", detail=outcome)
        else:
            core.log_many("fired", range(first, first + len(firings)), who=BY_CLOCK, after="queued")
        for job, (row, _) in enumerate(firings, first):
            self._opened(job, row.name)
            self.gates.forget(row.schedule, row.instant)
        for options in {row.job for row, _ in firings}:
            core.arrive(queue_of(options, QUEUE))

    def _trim(self, rows: Sequence[FiringRow]) -> None:
        """Now and then, forget records of some schedules beyond those that are kept."""
        self._decided += len(rows)
        if self._decided >= TRIM:
            self._decided = 0
            for row in rows[:: max(1, len(rows) // TRIM)]:
                self.store.run("trim", (row.schedule, policy_of(row.policy).history))

    def _judge(self, row: FiringRow, now: int, also: int) -> rules.Run | rules.Skip | None:
        """Give the verdict; None while a condition is waited for."""
        if row.due > now:
            # It was planned anew meanwhile, with another jitter.
            self.heap.push((row.due, row.schedule, row.instant))
            return None
        policy = policy_of(row.policy)
        if row.state == "paused":
            return rules.Skip("paused")
        when = read(row.triggers)
        # Only what is late by much has to be compared with the time to the next.
        period = when.period(row.instant) if now - row.due > rules.ABSENCE else None
        how = rules.Standing(now, self.open_jobs(row.name), row.runs + also)
        verdict = rules.judge(policy, when.zone, row.due, bool(row.missed), period, how)
        if isinstance(verdict, rules.Run) and policy.conditions:
            lacking = self.gates.lacking(row, policy)
            if lacking is not None:
                return self._wait(row, policy, lacking, now)
        return verdict

    def _wait(self, row: FiringRow, policy: Policy, lacking: str, now: int) -> rules.Skip | None:
        since = row.since or now
        if now - since >= policy.patience:
            return rules.Skip("condition", f"not so: {lacking}")
        self.store.run("wait", (lacking, now, row.schedule, row.instant))
        again = min(now + RECHECK, since + policy.patience)
        self.heap.push((again, row.schedule, row.instant))
        return None

    def look_again(self, schedule: int, instant: int) -> None:
        """Decide a firing that waits at once: what it waits for may have come."""
        self.heap.push((0, schedule, instant))
        self.wake()

    def open_jobs(self, name: str) -> tuple[int, ...]:
        """Give a schedule's jobs that have not ended, oldest first."""
        # One may have ended in this very transaction, which is heard of after it.
        known = self.open.get(name, ())
        return tuple(job for job in known if (self.core.store.state_of(job) or ("lost",))[0] not in FINISHED)

    def _skip(self, row: FiringRow, verdict: rules.Skip, now: int) -> None:
        if self.store.decide(row, "skipped", now, reason=verdict.reason, detail=verdict.detail):
            self._log_skip(row.name, verdict.reason, verdict.detail)
            self.gates.forget(row.schedule, row.instant)
            if verdict.reason == "limit":
                self._have_done(row, now)
            elif row.again:
                self._go_on(row.schedule, skipped=now)

    def _log_skip(self, name: str, reason: str, detail: str | None) -> None:
        said = rules.REASONS[reason] + (f": {detail}" if detail else "")
        self.core.log("skipped", thing=f"schedule:{name}", who=BY_CLOCK, detail=said)

    def start(
        self, row: FiringRow, verdict: rules.Run, now: int, who: Who = BY_CLOCK, *, by_hand: bool = False
    ) -> int | None:
        """Insert the job of a firing, the schedule's ``runs``-th run; None if somebody else has decided it."""
        core, store = self.core, self.store
        job = core.store.take_ids(1)
        if not store.decide(row, verdict.outcome, now, job=job):
            return None
        for other in verdict.stop:
            open_row = core.store.job(other)
            if open_row is not None and open_row.state not in FINISHED:
                core.step(open_row, lc.StopAsked(), who=who)
        behind = tuple(other for other in verdict.after if (core.store.state_of(other) or ("lost",))[0] not in FINISHED)
        queue = self._insert(job, row, behind, now)
        store.run("ran", (int(by_hand), now, row.schedule))
        after = "blocked" if behind else "queued"
        core.log("fired", job, who=who, thing=f"schedule:{row.name}", after=after, detail=verdict.outcome)
        if not behind:
            core.arrive(queue)
        self._opened(job, row.name)
        self.gates.forget(row.schedule, row.instant)
        most = policy_of(row.policy).max_runs
        if most is not None and row.runs >= most and not by_hand:
            self._have_done(row, now)
        elif row.again:
            self._go_on(row.schedule)
        return job

    def _insert(self, job: int, row: FiringRow, behind: Sequence[int], now: int) -> str:
        """Insert a job behind others; give its queue."""
        core, row = self.core, handed(self.core.store, row)
        fields = json.loads(row.job) if row.job != "{}" else {}
        keys: Sequence[tuple[str, int]] = fields.get("concurrency") or ()
        queue: str = fields.get("queue", QUEUE)
        state, by = ("blocked", "dependency") if behind else ("queued", None)
        self.store.run("insert_job", (
            job, row.name, row.task, row.context, row.args, row.encoding, state, by, queue,
            int(fields.get("priority") or 0), int(bool(keys)), now, row.instant, row.name,
        ))  # fmt: skip
        for other in behind:
            core.store.run("add_dependency", (job, other, "any", None))
            core.needed.add(other)
        for key, most in keys:
            core.store.run("add_key", (job, key, most))
            core.keyed.add(queue)
        for tag in fields.get("tags") or ():
            core.store.run("add_tag", (tag, job))
        return queue

    def _have_done(self, row: FiringRow, now: int) -> None:
        """Plan no more of a schedule that has had all its runs."""
        whole = self.store.numbered(row.schedule)
        if whole is not None and whole.state != "done":
            self.store.run("withdraw", (row.schedule, now))
            self._finish(whole, now)

    # --- runs -----------------------------------------------------------------

    def _opened(self, job: int, name: str) -> None:
        self.open.setdefault(name, []).append(job)
        self.of[job] = name

    def _go_on(self, number: int, skipped: int = 0) -> None:
        """Let one that counts from its runs go on: one began, or was ``skipped`` at an instant, which counts as one."""
        row = self.store.numbered(number)
        if row is not None and row.state == "active":
            following = line(row._replace(planned=max(row.planned, skipped))).after(row.planned)
            self.store.run("advance", (row.planned, following, self.due(row, following), row.id))

    def job_ended(self, job: int) -> None:
        """Take note that a job of a schedule has ended (after its commit)."""
        if self.gates.asked:
            self.gates.job_ended(job)
        name = self.of.pop(job, None)
        if name is None:
            return
        jobs = self.open.get(name, [])
        if job in jobs:
            jobs.remove(job)
        if not jobs:
            self.open.pop(name, None)
        if name in self.again:
            self.writer.post(self._run_ended, name)

    def jobs_ended(self, ends: Sequence[Good]) -> None:
        """Take note of many."""
        if self.of or self.gates.asked:
            for end in ends:
                self.job_ended(end[1])

    def _run_ended(self, name: str, at: int | None = None) -> None:
        row = self.store.named(name)
        if row is None:
            return
        ended = self.core.clock.wall() if at is None else at
        # The clock may have been set back in between, while the machine was off.
        row = row._replace(ended=ended, started=min(row.started or ended, ended))
        following = line(row).after(row.planned) if row.state == "active" else None
        self.store.run("ended", (row.ended, row.started, following, self.due(row, following), row.id))
        self.core.after(self.arm)

    def _find_end(self, name: str) -> None:
        """Take note of a run that ended when nobody lived to tell its schedule."""
        row = None if self.open.get(name) else self.store.named(name)
        if row is not None and row.started is not None and (row.ended is None or row.ended < row.started):
            now = self.core.clock.wall()
            (ended,) = self.store.run("last_end", (row.id,)).fetchone() or (now,)
            if ended is not None:  # else another agent has started it
                self._run_ended(name, min(now, ended))

    def follow_runs(self, name: str) -> None:
        """Let one go by its runs from now on; it may have had some."""
        self.again.add(name)
        self._find_end(name)
