"""The duty of handing out work: first in, first out, within slots, rates and keys.

A command, and a function whose running time is not known, goes alone and takes a
slot. Functions that were measured to take under 5 ms share a batch, sized so that
a worker has about 20 ms of work before it; a worker is one slot whatever it
holds. A worker is topped up when half of its batch is left, so that it does not
wait for our commit.

A claim, its attempt and the worker's sequence number are written in the same
transaction as whatever made the claim possible; the keeper and the workers hear
of it after the commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vigie import lifecycle as lc
from vigie.agent.ahead import Ahead
from vigie.agent.core import Core
from vigie.model import default_slots
from vigie.store.rows import ReadyRow, digest, state_name

__all__ = ["Dispatch", "Worker"]

#: A batch is for tasks whose median is under this (µs) …
TINY = 5_000
#: … and holds about this much work (µs), at most so many jobs.
BATCH = 20_000
MOST = 1_000
#: Measured runs before a task counts as known.
KNOWN_AFTER = 3
#: Rows read at a time: few at first, since mostly one slot came free.
FIRST_PAGE = 8
PAGE = 512

#: Variables that count when an interpreter starts.
AT_START = (b"LD_", b"DYLD_", b"PYTHON")


#: What the table makes of a claim, alone and in a batch.
ALONE = state_name(lc.step(lc.Queued(), lc.Claimed(1), lc.Policy())[0])
BATCHED = state_name(lc.step(lc.Queued(), lc.Claimed(1, batch=True), lc.Policy())[0])


@dataclass
class Worker:
    """A worker as the dispatcher sees it."""

    id: int
    digest: bytes
    fresh: bool = False
    ready: bool = False
    leaving: bool = False
    #: Of an earlier boot.
    outlived: bool = False
    queue: str | None = None
    next_seq: int = 1
    #: seq -> (job, attempt, task): given to it and not ended.
    holding: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    idle_since: int = 0


@dataclass
class _Settings:
    slots: int
    rate: float | None
    paused: bool
    #: When the next start is allowed (mono µs), under a rate.
    next_at: float = 0.0


class Dispatch:
    """Which job goes where next.

    Parameters
    ----------
    core:
        What the duties share.
    cores:
        Processors, for the default number of slots.
    """

    def __init__(self, core: Core, cores: int) -> None:
        self.core = core
        self.cores = cores
        self.open = False
        self.workers: dict[int, Worker] = {}
        #: queue -> what takes its slots: (job, attempt) or a worker's id.
        self.holders: dict[str, set[tuple[int, int] | int]] = {}
        #: (job, attempt) of a command -> (queue, passes slots).
        self.running: dict[tuple[int, int], str] = {}
        #: (job, attempt) of a function -> (worker, seq).
        self.assigned: dict[tuple[int, int], tuple[Worker, int]] = {}
        #: Kind of worker -> how many died in a row before they were ready.
        self.stillborn: dict[bytes, int] = {}
        self.ahead = Ahead()
        #: Something could not be claimed that seemed to wait.
        self._missed = False
        self._settings: dict[str, _Settings] = {}
        self._durations: dict[int, deque[int]] = {}
        self._digests: dict[int, bytes] = {}
        #: Set by the timers: look at a queue again at an instant (mono µs).
        self.wake_at: Any = lambda queue, at: None
        core.release, core.release_many = self.release, self.release_many
        core.tiny = self.shares_batches

    # --- what is taken --------------------------------------------------------

    def settings(self, queue: str) -> _Settings:
        """Give the settings of a queue, defaults filled in."""
        known = self._settings.get(queue)
        if known is None:
            row = self.core.store.one("queue", (queue,)) or (None, None, 0)
            slots = default_slots(queue, self.cores) if row[0] is None else row[0]
            known = self._settings[queue] = _Settings(slots, row[1], bool(row[2]))
        return known

    def changed(self, queue: str) -> None:
        """Read the settings of a queue anew and look at it."""
        self._settings.pop(queue, None)
        self.ahead.call_back(queue, self._call_back)
        self.core.dirty.add(queue)

    def used(self, queue: str) -> int:
        """Give how many slots of a queue are taken."""
        return len(self.holders.get(queue, ()))

    def hold(self, queue: str, holder: tuple[int, int] | int) -> None:
        """Take a slot."""
        self.holders.setdefault(queue, set()).add(holder)

    def release(self, job: int, attempt: int) -> None:
        """Give back what an attempt held."""
        if self.ahead.over((job, attempt)) is not None:
            return
        queue = self.running.pop((job, attempt), None)
        if queue is not None:
            self.holders.get(queue, set()).discard((job, attempt))
            return
        self.release_many([(job, attempt)])

    def begun(self, job: int, attempt: int) -> None:
        """Have a command that was claimed ahead take its slot: it has begun."""
        queue = self.ahead.begun((job, attempt))
        if queue is not None:
            self.running[job, attempt] = queue
            self.hold(queue, (job, attempt))
            self.core.dirty.add(queue)

    def _call_back(self, attempts: Sequence[tuple[int, int]]) -> None:
        self.core.after(self.core.hands.withdraw, attempts)

    def release_many(self, attempts: Sequence[tuple[int, int]]) -> None:
        """Give back what functions held; a worker keeps its slot while it holds others."""
        touched: dict[int, Worker] = {}
        for attempt in attempts:
            place = self.assigned.pop(attempt, None)
            if place is not None:
                worker, seq = place
                worker.holding.pop(seq, None)
                touched[worker.id] = worker
        if not self.assigned:
            self.assigned = {}  # one that was large stays so
        for worker in touched.values():
            if worker.queue is not None:
                self.core.dirty.add(worker.queue)
                if not worker.holding:
                    self._idle(worker)

    def _idle(self, worker: Worker) -> None:
        if worker.queue is not None:
            self.holders.get(worker.queue, set()).discard(worker.id)
        worker.queue = None
        worker.idle_since = self.core.clock.mono()
        if worker.fresh and worker.next_seq > 1:
            self.retire(worker)

    def retire(self, worker: Worker) -> None:
        """Give a worker no more work and let it end."""
        if not worker.leaving:
            worker.leaving = True
            self.core.after(self.core.hands.quit_worker, worker.id)

    def measured(self, task: int, duration: int) -> None:
        """Remember how long a function took (µs)."""
        times = self._durations.get(task)
        if times is None:
            times = self._durations[task] = deque(maxlen=31)
        times.append(duration)

    def measured_many(self, worker: Worker, taken: Iterable[tuple[int, int]]) -> None:
        """Remember how long functions that a worker holds took: (seq, µs)."""
        for seq, duration in taken:
            self.measured(worker.holding[seq][2], duration)

    def batch_size(self, task: int) -> int:
        """Give how many jobs of a task a worker may hold: 1 unless it is known to be tiny."""
        times = self._durations.get(task)
        if times is None or len(times) < KNOWN_AFTER:
            return 1
        typical = sorted(times)[len(times) // 2]
        return 1 if typical >= TINY else max(1, min(MOST, int(BATCH / max(typical, 1))))

    def has_timeout(self, job: int, attempt: int) -> bool:
        """Tell whether an attempt that a worker holds has a limit of time."""
        place = self.assigned.get((job, attempt))
        return place is not None and self.core.store.task_says(place[0].holding[place[1]][2])[-2] is not None

    def shares_batches(self, queue: str, task: int) -> bool:
        """Tell whether jobs of a task will share batches in a queue, and soon."""
        settings = self.settings(queue)
        return (
            not (settings.paused or settings.rate or self.core.store.task_says(task)[-1]) and self.batch_size(task) > 1
        )

    # --- handing out ----------------------------------------------------------

    def run(self) -> None:
        """Hand out whatever may go, in the open transaction."""
        dirty = self.core.dirty
        while dirty and self.open:
            self._queue(dirty.pop())
        # Whatever still waits may change before the next transaction.
        self.core.arrived.clear()

    def _queue(self, queue: str) -> None:
        settings = self.settings(queue)
        if settings.paused or queue in self.core.drained:
            return
        # Nobody overtakes what was called back, but for those that pass the slots.
        page, only_now = FIRST_PAGE, self.ahead.called_back(queue)
        self._missed = False
        while True:
            if not only_now and self._full(queue, settings):
                room = self._room_ahead(queue, settings)
                if room > 0 or self.ahead.held(queue):
                    # One more, even if there is no room for it: it may have to go before those that are held.
                    page = min(page, max(room, 1))
                else:
                    only_now = not self._room(queue)
            rows = self._ready(queue, only_now, page)
            if rows and not only_now and self.ahead.outranked(queue, rows[0].priority):
                self.ahead.call_back(queue, self._call_back)
                only_now = True
                continue
            claimed = self._claim_rows(queue, settings, rows)
            if claimed < len(rows):
                if only_now:
                    return
                only_now = True  # those that pass the slots may stand behind
            elif len(rows) < page:
                if not (only_now or self._missed or queue in self.core.keyed):
                    self.core.drained.add(queue)
                return
            page = PAGE

    def _full(self, queue: str, settings: _Settings) -> bool:
        """Tell whether all slots of a queue are taken, or will be by what the keeper begins of itself."""
        return self.used(queue) + self.ahead.held(queue) >= settings.slots

    def _room(self, queue: str) -> bool:
        """Tell whether a busy worker of a queue may get more."""
        return any(
            w.queue == queue and w.holding and not w.leaving and len(w.holding) * 2 <= self._capacity(w)
            for w in self.workers.values()
        )

    def _capacity(self, worker: Worker) -> int:
        if worker.fresh or not worker.holding:
            return 1
        return self.batch_size(next(reversed(worker.holding.values()))[2])

    def _ready(self, queue: str, only_now: bool, page: int) -> list[ReadyRow]:
        if only_now and not self.core.store.row("now_waiting", (queue,))[0]:
            return []
        few = self.core.arrived.pop(queue, None)
        if few is not None and not only_now:
            return sorted(few, key=lambda row: (-row.priority, row.id))
        return self.core.store.ready(queue, page, only_now=only_now, keyed=queue in self.core.keyed)

    def _claim_rows(self, queue: str, settings: _Settings, rows: list[ReadyRow]) -> int:
        """Claim rows from the front until something is lacking; give how many went."""
        sends: dict[int, list[tuple[int, int, int]]] = {}
        at = 0
        while at < len(rows):
            if not self._rate_allows(queue, settings):
                break
            row = rows[at]
            free = bool(row.now) or not self._full(queue, settings)
            if row.kind == "command":
                if not (free or (not row.keyed and self._room_ahead(queue, settings) > 0)):
                    break
                self._claim_command(queue, row, None if free else settings.slots)
                self._spend(settings)
                at += 1
                continue
            if row.keyed and not self.core.store.keys_free(row.id):
                at += 1  # before a worker is made that would have nothing to do
                continue
            # Those that pass the slots may have taken too many: nobody else rides with them.
            ride = bool(row.now) or self.used(queue) <= settings.slots
            worker, room = self._worker_for(row, queue, free, ride)
            if worker is None:
                break
            many = 1 if settings.rate else room
            run = self._same(rows, at, many)
            self._claim_functions(queue, worker, rows[at : at + run], sends)
            self._spend(settings)
            at += run
        for worker_id, jobs in sends.items():
            self._send(worker_id, jobs)
        return at

    def _rate_allows(self, queue: str, settings: _Settings) -> bool:
        if not settings.rate:
            return True
        now = self.core.clock.mono()
        if now < settings.next_at:
            self.core.after(self.wake_at, queue, int(settings.next_at))
            return False
        return True

    def _spend(self, settings: _Settings) -> None:
        """Count one start against the rate; idle time is not saved up."""
        if settings.rate:
            settings.next_at = max(settings.next_at, self.core.clock.mono()) + 1_000_000 / settings.rate

    def _same(self, rows: list[ReadyRow], at: int, most: int) -> int:
        """Give how many rows from ``at`` may share a batch with the first."""
        first = rows[at]
        if first.keyed or first.fresh:
            return 1
        end, sort = at + 1, first.sort
        while end < len(rows) and end - at < most and rows[end].sort == sort:
            end += 1
        return end - at

    def _room_ahead(self, queue: str, settings: _Settings) -> int:
        """Give how many commands of a queue without a free slot may be claimed all the same."""
        return 0 if settings.rate else self.ahead.room(queue, self.holders.get(queue, set()), settings.slots)

    def _claim_command(self, queue: str, row: ReadyRow, width: int | None) -> None:
        """Claim a command; with a ``width`` the keeper holds it until fewer live in the queue."""
        job, attempt = row.id, row.attempt + 1
        if not self._claim(row, attempt, None, None, ahead=width is not None):
            self._missed = True
            return
        if width is None:
            self.running[job, attempt] = queue
            self.hold(queue, (job, attempt))
            self.ahead.count((job, attempt))
        else:
            self.ahead.claim(queue, (job, attempt), row.priority)
        self.core.at_once(self.core.hands.spawn_command, job, attempt, queue, width)

    def _claim(self, row: ReadyRow, attempt: int, worker: int | None, seq: int | None, *, ahead: bool = False) -> bool:
        core = self.core
        now = core.clock.wall()
        taken = core.store.claim(
            row.id, row.epoch, state=BATCHED if ahead else ALONE, attempt=attempt, now=now, owner=core.owner,
            worker=worker, seq=seq, keyed=bool(row.keyed),
        )  # fmt: skip
        if taken and not ahead:
            detail = f'{{"attempt": {attempt}}}'
            core.log("claimed", row.id, before="queued", after="running", detail=detail, at=now)
        return taken

    def _claim_functions(
        self, queue: str, worker: Worker, rows: list[ReadyRow], sends: dict[int, list[tuple[int, int, int]]]
    ) -> None:
        core, first = self.core, worker.next_seq
        if len(rows) == 1 and not worker.holding and not rows[0].pack:
            taken = self._claim(rows[0], rows[0].attempt + 1, worker.id, first)
        else:
            taken = core.store.claim_many(rows, BATCHED, core.clock.wall(), core.owner, worker.id, first)
        if not taken:
            self._missed = True
            return
        for seq, row in enumerate(rows, first):
            job, attempt = row.id, row.attempt + 1
            worker.holding[seq] = (job, attempt, row.task)
            self.assigned[job, attempt] = (worker, seq)
            sends.setdefault(worker.id, []).append((seq, job, attempt))
        worker.next_seq = first + len(rows)
        if worker.holding and worker.queue is None:
            worker.queue = queue
            self.hold(queue, worker.id)
            # The keeper counts no workers.
            self.ahead.call_back(queue, self._call_back)

    def _send(self, worker: int, jobs: list[tuple[int, int, int]]) -> None:
        if self.workers[worker].ready:
            self.core.after(self.core.hands.send_jobs, worker, jobs)

    # --- workers --------------------------------------------------------------

    def _worker_for(self, row: ReadyRow, queue: str, free: bool, ride: bool) -> tuple[Worker | None, int]:
        """Give the worker that takes a row (a busy one only to ``ride``), and how many jobs it has room for."""
        kind = self._digest(row.context)
        fresh = bool(row.fresh)
        most = 1 if fresh or row.keyed else self.batch_size(row.task)
        if most > 1 and ride:
            for worker in self.workers.values():
                held = len(worker.holding)
                if (
                    worker.queue == queue and worker.digest == kind and not worker.leaving and not worker.fresh
                    and 0 < held <= most // 2 and self._capacity(worker) > 1
                ):  # fmt: skip
                    return worker, most - held
        if not free:
            return None, 0
        for worker in self.workers.values():
            if worker.holding or worker.leaving or worker.digest != kind or worker.fresh != fresh:
                continue
            if not fresh or worker.next_seq == 1:
                return worker, most
        self._make_room()
        return self._spawn(kind, row.context, fresh), most

    def _make_room(self) -> None:
        """Retire the worker that has idled longest, once there are as many as the slots can use."""
        idle = [w for w in self.workers.values() if not w.holding and not w.leaving and w.ready]
        if len(self.workers) >= 2 * max(self.cores, 4) and idle:
            self.retire(min(idle, key=lambda w: w.idle_since))

    def _digest(self, context: int) -> bytes:
        known = self._digests.get(context)
        if known is None:
            python, env, path = self._starting(context)
            known = self._digests[context] = digest(python, env, path)
        return known

    def _starting(self, context: int) -> tuple[bytes, bytes, bytes | None]:
        """Give what makes workers differ: interpreter, variables that count at its start, import path."""
        _, env, _, python, path = self.core.store.row("context", (context,))
        items = [item for item in (env or b"").split(b"\0") if item.startswith(AT_START)]
        return python or b"", b"".join(item + b"\0" for item in items), path

    def _spawn(self, kind: bytes, context: int, fresh: bool) -> Worker:
        core = self.core
        python, env, _ = self._starting(context)
        core.store.run("add_worker", (kind, python, env, int(fresh), core.owner[2], core.clock.wall()))
        worker = Worker(core.store.db.last_insert_rowid(), kind, fresh, idle_since=core.clock.mono())
        self.workers[worker.id] = worker
        core.after(core.hands.spawn_worker, worker.id)
        return worker

    def worker_ready(self, worker: Worker) -> None:
        """Send what was claimed for a worker while it started."""
        worker.ready = True
        self.stillborn.pop(worker.digest, None)
        jobs = [(seq, job, attempt) for seq, (job, attempt, _) in sorted(worker.holding.items())]
        if jobs:
            self.core.after(self.core.hands.send_jobs, worker.id, jobs)

    def worker_gone(self, worker: int) -> None:
        """Forget a worker; what it held has been decided before."""
        gone = self.workers.get(worker)
        if gone is None:
            return
        gone.leaving = True
        if gone.queue is not None:
            self.holders.get(gone.queue, set()).discard(worker)
            self.core.dirty.add(gone.queue)
        # Not before the commit: should that fail, its jobs are decided once more.
        self.core.after(self.workers.pop, worker, None)

    def idle_workers(self, since: int) -> Iterable[Worker]:
        """Give the workers that have had nothing to do since an instant (mono µs)."""
        return [
            w for w in self.workers.values() if w.ready and not w.holding and not w.leaving and w.idle_since <= since
        ]

    # --- after a restart or a rollback ----------------------------------------

    def rebuild(self) -> None:
        """Learn from the store what is taken; the workers themselves stay known."""
        self.holders.clear()
        self.running.clear()
        self.assigned.clear()
        self._settings.clear()
        self._digests.clear()
        # One whose row was rolled back was never spawned; one that is back has still to be decided.
        self.workers = {
            row[0]: self.workers.get(row[0]) or Worker(row[0], row[1], bool(row[3]), leaving=True)
            for row in self.core.store.run("live_workers").fetchall()
        }
        for worker in self.workers.values():
            worker.holding.clear()
            worker.queue = None
            if worker.leaving:
                self.core.after(self.core.hands.quit_worker, worker.id)
        rows = self.core.store.open_attempts()
        commands = [row for row in rows if row.worker is None]
        self.ahead.rebuild([(row.queue, (row.job, row.n), row.job_state == "assigned") for row in commands])
        for row in rows:
            key = (row.job, row.n)
            if row.worker is None or row.seq is None:
                if not self.ahead.holds(key):
                    self.running[key] = row.queue
                    self.hold(row.queue, key)
                continue
            holder = self.workers.get(row.worker)
            if holder is not None:
                holder.holding[row.seq] = (row.job, row.n, row.task)
                holder.next_seq = max(holder.next_seq, row.seq + 1)
                holder.queue = row.queue
                self.assigned[key] = (holder, row.seq)
                self.hold(row.queue, holder.id)
