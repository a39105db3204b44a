"""Packs: tiny functions of one request that have no row of their own before they end.

A row that is inserted, claimed and completed is written three times, with all its
indexes, and its attempt twice. A function that takes microseconds costs less than
that. So the jobs of one request that differ in nothing but their arguments are
stored as one: the *pack* says what is common to them, a *lot* records the attempts
of those that were handed out together, and each job's row and attempt are written
once, when it has ended well.

Whatever else becomes of one of them (it fails, is stopped, taken back, waited for
by another; its worker dies) **unfolds** the pack first: all its jobs that have no
row get one, as if they had been submitted singly, and the pack is gone. So nobody
but this file, and the readers' views (views.sql), knows of packs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw

from vigie.store import sql
from vigie.store.rows import OpenAttempt, Row

if TYPE_CHECKING:
    from vigie.outcome import Good

__all__ = ["Pack", "Packs"]

#: Rows that are inserted by one statement.
TOGETHER = 20


class _Lot(NamedTuple):
    """Attempts that were handed out together."""

    first: int
    last: int
    owner: int
    worker: int
    seq: int
    created: int


class Pack:
    """One pack, as far as it matters while it lives."""

    def __init__(
        self, first: int, last: int, following: int, name: str | None, task: int, context: int, queue: str,
        priority: int, created: int,
    ) -> None:  # fmt: skip
        self.first = first
        self.last = last
        #: The next job to be handed out.
        self.next = following
        self.name = name
        self.task = task
        self.context = context
        self.queue = queue
        self.priority = priority
        self.created = created
        self.lots: list[_Lot] = []
        #: 1 for each job that has a row.
        self.ended = bytearray(last - first + 1)
        #: How many have none.
        self.left = last - first + 1
        self.args: list[bytes] | None = None

    def state(self, job: int) -> str:
        """Give the state of a job that has no row."""
        return "assigned" if job < self.next else "queued"

    def lot(self, job: int) -> _Lot:
        """Give the lot in which a job was handed out."""
        return next(lot for lot in reversed(self.lots) if lot.first <= job <= lot.last)


class Packs:
    """The packs of a store, in the caller's transaction.

    What is known of them is read once and kept; after a rollback :meth:`forget` it.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._sql = sql.load("packs")
        self._several = {name: sql.several(self._sql[name], TOGETHER) for name in ("end_job", "end_attempt")}
        self._known: dict[int, Pack] | None = None
        self._firsts: list[int] = []

    def _run(self, name: str, bind: Sequence[Any] = ()) -> Any:
        return self._db.execute(self._sql[name], bind)

    # --- what there is --------------------------------------------------------

    def forget(self) -> None:
        """Read all of it again when next it is needed."""
        self._known = None

    def _all(self) -> dict[int, Pack]:
        if self._known is None:
            self._known = {}
            for row in self._run("packs").fetchall():
                pack = self._known[row[0]] = Pack(*row)
                pack.lots = [_Lot._make(lot) for lot in self._run("lots", (pack.first,))]
                for (job,) in self._run("ended", (pack.first, pack.last)):
                    pack.ended[job - pack.first] = 1
                    pack.left -= 1
            self._firsts = list(self._known)
        return self._known

    def of(self, job: int) -> Pack | None:
        """Give the pack of a job that has no row yet."""
        pack = self._around(job)
        return None if pack is None or pack.ended[job - pack.first] else pack

    def _around(self, job: int) -> Pack | None:
        """Give the pack in whose range a job is, ended or not."""
        known = self._all()
        at = bisect_right(self._firsts, job) - 1
        if at < 0:
            return None
        pack = known[self._firsts[at]]
        return pack if job <= pack.last else None

    def row(self, job: int) -> Row | None:
        """Give the columns of the query ``job`` of one that has no row."""
        pack = self.of(job)
        if pack is None:
            return None
        given = int(job < pack.next)
        state = pack.state(job)
        fixed = (None, None, None, None, None, None)
        return (job, state, *fixed, given, 0, given, pack.queue, 0, None, None, pack.context, None, pack.task)

    def states(self, jobs: Iterable[int]) -> dict[int, str]:
        """Give the states of those that have no row."""
        if not self._all():
            return {}
        return {job: pack.state(job) for job in jobs if (pack := self.of(job)) is not None}

    def counts(self) -> dict[str, int]:
        """Give how many have no row, by state."""
        found = {"queued": 0, "assigned": 0}
        for pack in self._all().values():
            queued = pack.last + 1 - pack.next
            found["queued"] += queued
            found["assigned"] += pack.left - queued
        return found

    def queues(self) -> set[str]:
        """Give the queues in which some wait."""
        return {pack.queue for pack in self._all().values() if pack.next <= pack.last}

    def ready(self, queue: str) -> list[Pack]:
        """Give the packs of a queue from which some may be handed out, in the order in which they go."""
        found = [pack for pack in self._all().values() if pack.queue == queue and pack.next <= pack.last]
        return sorted(found, key=lambda pack: -pack.priority)  # each kind is in the order of ids

    def open_attempts(self) -> list[OpenAttempt]:
        """Give every attempt without a known end that has no row."""
        found = []
        for first, last, seq, worker, boot, queue, task, *says in self._run("open_lots").fetchall():
            for job in range(first, last + 1):
                if self.of(job) is not None:
                    attempt = (job, 1, "assigned", boot, worker, seq + job - first, None, None, None, None, 0, None)
                    found.append(OpenAttempt._make((*attempt, queue, "assigned", None, 0, task, *says)))
        return found

    def facts(self, job: int) -> Row | None:
        """Give the columns of the query ``function_facts``, but the id, of one that has no row."""
        pack = self.of(job)
        return None if pack is None else (self._args(pack)[job - pack.first], "json", pack.task, pack.context, 0)

    def together(self, first: int, last: int) -> tuple[int, int, bytes] | None:
        """Give task, context and the JSON array of arguments of jobs of one pack."""
        pack = self.of(first)
        if pack is None or last > pack.last:
            return None
        args = self._args(pack)[first - pack.first : last - pack.first + 1]
        return pack.task, pack.context, b"[" + b",".join(args) + b"]"

    def _args(self, pack: Pack) -> list[bytes]:
        if pack.args is None:
            pack.args = [args for (args,) in self._run("args", (pack.first,))]
        return pack.args

    # --- what becomes of them -------------------------------------------------

    def add(self, first: int, together: str, common: Sequence[Any]) -> int:
        """Store jobs as one, with ids from ``first`` on; give how many their arguments make them.

        ``common`` are name, task, context, queue, priority and the instant of the request.
        """
        count: int = self._run("length", (together,)).fetchone()[0]
        known, last = self._all(), first + count - 1
        name, task, context, queue, priority, created = common
        self._run("add", (first, last, name, task, context, queue, priority, created))
        self._run("add_args", (first, together))
        known[first] = Pack(first, last, first, name, task, context, queue, priority, created)
        self._firsts.append(first)
        return count

    def claim(self, first: int, count: int, owner: int, worker: int, seq: int, now: int) -> bool:
        """Hand out the next jobs of a pack as one lot; False if somebody else has."""
        pack = self.of(first)
        if pack is None or pack.next != first or first + count - 1 > pack.last:
            return False
        self._run("advance", (first + count, pack.first, first))
        if self._db.changes() != 1:
            return False
        lot = _Lot(first, first + count - 1, owner, worker, seq, now)
        self._run("add_lot", (pack.first, *lot))
        pack.lots.append(lot)
        pack.next = first + count
        return True

    def succeed(self, ends: Sequence[Good]) -> None:
        """Write the rows of jobs that have ended well, each of which had none."""
        jobs: list[Row] = []
        attempts: list[Row] = []
        pack, lot = None, None
        for seq, job, _, started, finished, duration, cpu, rss, result, records, encoding in ends:
            if pack is None or lot is None or not lot.first <= job <= lot.last:
                pack = self.of(job)
                assert pack is not None
                lot = pack.lot(job)
            at = job - pack.first
            args = self._args(pack)[at]
            jobs.append((
                job, pack.name, pack.task, pack.context, args, pack.queue, pack.priority, pack.created,
                started, finished, duration, cpu, rss, result, records, encoding,
            ))  # fmt: skip
            attempts.append((job, lot.owner, lot.worker, seq, lot.created, started, finished, cpu, rss))
            pack.ended[at] = 1
            pack.left -= 1
            if not pack.left:
                self._drop(pack)
                pack = None
        self._insert("end_job", jobs)
        self._insert("end_attempt", attempts)

    def _insert(self, name: str, rows: list[Row]) -> None:
        """Insert rows, many with one statement: each that is run costs as much as a third of a row."""
        whole = len(rows) // TOGETHER * TOGETHER
        several = self._several[name]
        for at in range(0, whole, TOGETHER):
            self._db.execute(several, tuple(chain.from_iterable(rows[at : at + TOGETHER])))
        if whole < len(rows):
            self._db.executemany(self._sql[name], rows[whole:])

    def unfold(self, job: int) -> None:
        """Give every job of a job's pack its row, if it has none; also when the job itself has ended."""
        pack = self._around(job)
        if pack is not None:
            self._run("unfold_jobs", (pack.first,))
            self._run("unfold_attempts", (pack.first,))
            self._drop(pack)

    def _drop(self, pack: Pack) -> None:
        self._run("drop", (pack.first,))
        del self._all()[pack.first]
        self._firsts.remove(pack.first)
