"""The store on SQLite: one writing connection, every acknowledged fact on disk.

``synchronous=FULL`` with WAL: COMMIT returns when the log is synced, and only
then does anybody hear of it. Every change of a job's state is compare-and-set on
(id, epoch), so that two agents on one store cannot both move it.

The methods here are the conformance suite's subject: what PostgreSQL will have
to do too. Anything that decides lives in ``lifecycle`` and ``agent``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import apsw

from vigie import crash
from vigie import lifecycle as lc
from vigie.errors import StoreError
from vigie.store import sql
from vigie.store.packs import Packs
from vigie.store.rows import (
    JobRow,
    OpenAttempt,
    ReadyRow,
    Row,
    columns,
    digest,
    finish_bind,
    join_items,
    json_list,
)
from vigie.store.schedules import Schedules
from vigie.store.schema import settle
from vigie.store.services import Services
from vigie.store.trouble import explain

if TYPE_CHECKING:
    from vigie.outcome import Good
    from vigie.store.packs import Pack

__all__ = ["Stale", "Store"]

#: Bytes of the log after which it is copied into the database file and begins anew …
LOG = 6 << 20
#: … and how many its file keeps then: to write over what is there spares each commit the growth of a file.
LOG_FILE = 8 << 20
#: Of how many jobs what a worker needs is kept in memory until it is asked for, if it is not long (bytes).
KEPT, SHORT = 64, 4096


class Stale(Exception):
    """Somebody else moved the job first."""


class Store:
    """The writing side of one store file.

    Parameters
    ----------
    path:
        ``db/vigie.db``; made, with its schema, when it is not there.

    Raises
    ------
    StoreError
        When the file cannot be opened, is damaged, or was written by a newer Vigie.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._sql = sql.load("queries")
        #: Pages in the log, and how many of them were there when it was last copied.
        self._pages = self._copied = 0
        try:
            self.db = apsw.Connection(path)
            self._prepare()
        except apsw.Error as error:
            raise explain(path, error, f"cannot open the store {path}") from None
        self.packs = Packs(self.db)
        self.schedules = Schedules(self)
        self.services = Services(self)
        self._last: int | None = None
        self._recent: dict[Any, int] = {}
        self._named: dict[str, int] = {}
        self._named_tasks: dict[str, tuple[int, str]] = {}
        self._facts: dict[int, Row] = {}
        self._tasks: dict[Row, int] = {}
        self._says: dict[int, Row] = {}
        self._owners: dict[tuple[str, str, str], int] = {}
        self._queues: set[str] = set()

    def _prepare(self) -> None:
        db = self.db
        db.set_busy_timeout(10_000)
        mode = db.pragma("journal_mode", "wal")
        if mode != "wal":
            raise StoreError(
                f"{self.path} is on a file system without write-ahead logging (journal_mode is {mode})",
                "set VIGIE_HOME to a local disk",
            )
        db.execute("PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF")
        # Checkpoints are ours, so that none falls into somebody's commit.
        db.wal_autocheckpoint(0)
        # A log that begins anew does not keep the length it once had: each start reads all of the file.
        db.pragma("journal_size_limit", LOG_FILE)
        self._most_pages = LOG // int(db.pragma("page_size"))
        db.set_wal_hook(self._logged)
        db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        # Else a query on a partial index is planned anew for each value that it is given.
        db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        settle(db, self.path)

    def close(self) -> None:
        """Close the connection; the log goes into the database file first."""
        self.db.close()

    # --- transactions ---------------------------------------------------------

    def run(self, name: str, bind: Sequence[Any] = ()) -> Any:
        """Run a named query."""
        return self.db.execute(self._sql[name], bind)

    def run_many(self, name: str, binds: Iterable[Sequence[Any]]) -> None:
        """Run a named query for each row."""
        self.db.executemany(self._sql[name], binds)

    def one(self, name: str, bind: Sequence[Any] = ()) -> Row | None:
        """Give the first row of a named query."""
        row: Row | None = self.run(name, bind).fetchone()
        return row

    def row(self, name: str, bind: Sequence[Any] = ()) -> Row:
        """Give the row of a named query that has one.

        Raises
        ------
        LookupError
            When it has none after all.
        """
        row = self.one(name, bind)
        if row is None:
            raise LookupError(f"{name}{tuple(bind)!r} has no row")
        return row

    def begin(self) -> None:
        """Begin the one writing transaction."""
        self.db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make it durable: when this returns, it is on disk."""
        crash.point("store-before-commit")
        self.db.execute("COMMIT")
        crash.point("store-after-commit")

    def rollback(self) -> None:
        """Undo the transaction and whatever was remembered from it."""
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
        self.forget_cached()

    def forget_cached(self) -> None:
        """Forget what a rollback may have undone."""
        self.packs.forget()
        self._last = None
        self._recent.clear()
        self._named.clear()
        self._named_tasks.clear()
        self._facts.clear()
        self._tasks.clear()
        self._says.clear()
        self._owners.clear()
        self._queues.clear()

    def written(self) -> int:
        """Give a number that grows with each row that is written."""
        return self.db.total_changes()

    def savepoint(self) -> None:
        """Begin one request's part of the transaction."""
        self.db.execute("SAVEPOINT request")

    def release(self) -> None:
        """Keep the request's part."""
        self.db.execute("RELEASE request")

    def undo(self) -> None:
        """Undo the request's part alone."""
        self.db.execute("ROLLBACK TO request; RELEASE request")
        self.forget_cached()

    def _logged(self, db: apsw.Connection, name: str, pages: int) -> int:
        self._pages = pages
        if pages < self._copied:
            self._copied = 0  # it has begun anew
        return apsw.SQLITE_OK

    def log_is_long(self) -> bool:
        """Tell whether so much was written since the log was last copied that it should be again."""
        return self._pages - self._copied > self._most_pages

    def checkpoint(self) -> None:
        """Copy the log into the database file, as far as readers allow."""
        self._copied = self._pages
        self.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def shrink(self) -> None:
        """Give back the memory of pages that nobody needs now."""
        self.db.execute("PRAGMA shrink_memory")

    def wal_size(self) -> int:
        """Give the bytes of the log; the next commit reuses it after a full checkpoint."""
        try:
            return os.stat(self.path + "-wal").st_size
        except OSError:
            return 0

    def meta(self, key: str) -> str | None:
        """Give one setting of the store."""
        row = self.one("meta", (key,))
        return None if row is None else str(row[0])

    # --- answers --------------------------------------------------------------

    def remember(self, rid: bytes, at: int, answer: str) -> bool:
        """Keep the answer to a request for a repeat of it; False, and nothing is kept, if this is one."""
        self.run("remember", (rid, at, answer))
        return self.db.changes() == 1

    def remembered(self, rid: bytes) -> str | None:
        """Give the answer that was kept, None if there is none."""
        row = self.one("remembered", (rid,))
        return None if row is None else str(row[0])

    # --- what jobs share ------------------------------------------------------

    def intern_context(self, context: dict[str, Any]) -> int:
        """Give the id of a context, stored if it is new."""
        path = context.get("path")
        same = (context["cwd"], context["umask"], context.get("python"), tuple(path or ()), path is None)
        # Sorting and digesting an environment costs ten times the look at the last ones.
        recent = (same, frozenset(context["env"].items()))
        known = self._recent.get(recent)
        if known is None:
            if len(self._recent) >= 64:
                self._recent.clear()
            known = self._recent[recent] = self._intern_context(context)
        return known

    def _intern_context(self, context: dict[str, Any]) -> int:
        env = join_items(f"{key}={value}" for key, value in sorted(context["env"].items()))
        python = context.get("python")
        path = context.get("path")
        row = (
            os.fsencode(context["cwd"]),
            env,
            int(context["umask"]),
            None if python is None else os.fsencode(python),
            None if path is None else join_items(path),
        )
        known: int = self.run("intern_context", (digest(*row), *row)).fetchone()[0]
        return known

    def context_name(self, context: int) -> str:
        """Give what names a context by its content, in any store."""
        name: str = self.row("context_name", (context,))[0]
        self._named[name] = context
        return name

    def named_context(self, name: str) -> int | None:
        """Give the id of the context of a name, None if it is not stored (any more)."""
        known = self._named.get(name)
        if known is None:
            row = self.one("named_context", (name,))
            if row is not None:
                known = self._named[name] = row[0]
        return known

    def task_name(self, task: int) -> str:
        """Give what names a task by its content, in any store."""
        name, label = self.row("task_name", (task,))
        self._named_tasks[name] = task, label
        return str(name)

    def named_task(self, name: str) -> tuple[int, str] | None:
        """Give id and label of the task of a name, None if it is not stored (any more)."""
        known = self._named_tasks.get(name)
        if known is None:
            row = self.one("named_task", (name,))
            if row is not None:
                known = self._named_tasks[name] = row[0], row[1]
        return known

    def intern_task(self, task: dict[str, Any], code: bytes | None) -> int:
        """Give the id of a task, stored if it is new; all fields of ``task`` are set."""
        argv = task.get("argv")
        row = (
            task["kind"],
            None if argv is None else join_items(argv),
            task.get("function"),
            code,
            task["label"],
            task["timeout"],
            task["retries"],
            task["backoff"],
            task["backoff_max"],
            task["jitter"],
            task["grace"],
            int(task["fresh"]),
            task["on_lost"],
            task["max_output"],
        )
        known = self._tasks.get(row)
        if known is None:
            if len(self._tasks) >= 64:
                self._tasks.clear()
            known = self._tasks[row] = self.run("intern_task", (digest(*row), *row)).fetchone()[0]
        return known

    # --- jobs -----------------------------------------------------------------

    def job(self, job: int) -> JobRow | None:
        """Give a job as a step of its life needs it."""
        row = self.one("job", (job,)) or self.packs.row(job)
        return None if row is None else JobRow._make(row + self.task_says(row[-1]))

    def unfold(self, job: int) -> None:
        """Make sure that a job has a row of its own: whatever writes to one needs that."""
        self.packs.unfold(job)

    def state_of(self, job: int) -> tuple[str, int | None] | None:
        """Give a job's state and when it ended; None if it does not exist."""
        row = self.one("states", (job,))
        if row is None:
            folded = self.packs.states((job,))
            return (folded[job], None) if folded else None
        return row[0], row[1]

    def states_of(self, ids: Sequence[int]) -> dict[int, str]:
        """Give the states of many jobs; those that do not exist are left out."""
        if len(ids) == 1:
            known = {ids[0]: row[0]} if (row := self.one("states", ids)) else {}
        else:
            known = dict(self.run("states_of", (json_list(ids),)).fetchall())
        return known if len(known) == len(ids) else known | self.packs.states(job for job in ids if job not in known)

    def counts(self) -> dict[str, int]:
        """Give how many jobs are open, by state."""
        found = self.packs.counts()
        for state, count in self.run("counts"):
            found[state] = found.get(state, 0) + count
        return found

    def queues_ready(self) -> set[str]:
        """Give the queues in which something waits for a slot."""
        return {row[0] for row in self.run("queues_ready")} | self.packs.queues()

    def keep_facts(self, job: int, facts: Row) -> None:
        """Keep the row that :meth:`function_facts` gives of a job just stored: most are handed out at once."""
        if len(self._facts) >= KEPT:
            self._facts.clear()
        self._facts[job] = facts

    def function_facts(self, ids: Sequence[int]) -> dict[int, Row]:
        """Give what a worker needs of each job.

        That is its arguments, how they are encoded, task, context, and 1 if some of them are others' results.
        """
        found = {job: facts for job in ids if (facts := self._facts.pop(job, None)) is not None}
        rest = [job for job in ids if job not in found] if len(found) < len(ids) else ()
        if rest:
            found.update((row[0], row[1:]) for row in self.run("function_facts", (json_list(rest),)))
            for job in rest:
                if job not in found and (facts := self.packs.facts(job)) is not None:
                    found[job] = facts
        return found

    def lot_facts(self, first: int, last: int) -> tuple[int, int, bytes] | None:
        """Give task, context and a JSON array of arguments of jobs that follow one upon the other.

        None when they are not all alike, or take others' results.
        """
        return self.packs.together(first, last) or self.one("lot_facts", (first, last))

    def has_queue(self, name: str) -> bool:
        """Tell whether a queue was set up; none ever goes."""
        if name not in self._queues and self.one("queue", (name,)) is not None:
            self._queues.add(name)
        return name in self._queues

    def task_says(self, task: int) -> Row:
        """Give kind, retries, backoff, backoff_max, jitter, on_lost, grace, timeout and fresh of a task."""
        known = self._says.get(task)
        if known is None:
            if len(self._says) > 10_000:
                self._says.clear()
            known = self._says[task] = self.one("task_says", (task,)) or ()
        return known

    def ready(self, queue: str, most: int, *, only_now: bool = False, keyed: bool = True) -> list[ReadyRow]:
        """Give the next jobs of a queue in the order in which they go.

        ``only_now`` gives those that pass the slots; with ``keyed`` those whose keys
        are taken are left out, which costs more, so say False where none has any.
        """
        rows = []
        query = "ready_now" if only_now else "ready_keyed" if keyed else "ready"
        for row in self.run(query, (queue, most)):
            says = self.task_says(row[-1])
            rows.append(ReadyRow._make((*row, says[0], says[-1], 0)))
        packs = () if only_now else self.packs.ready(queue)
        return self._with_packs(rows, packs, most) if packs else rows

    def _with_packs(self, rows: list[ReadyRow], packs: Sequence[Pack], most: int) -> list[ReadyRow]:
        """Put in what waits in packs."""
        left = most
        for pack in packs:
            given = range(pack.next, min(pack.last + 1, pack.next + left))
            says = self.task_says(pack.task)
            same = (0, 0, pack.priority, pack.context, 0, 0, pack.task, says[0], says[-1], pack.first)
            rows += [ReadyRow(job, *same) for job in given]
            left -= len(given)
            if not left:
                break
        rows.sort(key=lambda row: (-row.priority, row.id))
        return rows[:most]

    def move(self, row: JobRow, state: lc.State, *, attempt: int | None = None, started: int | None = None) -> None:
        """Change a job's state, if it is where ``row`` says.

        Raises
        ------
        Stale
            When somebody moved it first.
        """
        bind = (
            *columns(state),
            row.attempt if attempt is None else attempt,
            row.tries_from,
            row.started if started is None else started,
            row.id,
            row.epoch,
        )
        self.run("move_job", bind)
        self._moved(row.id)

    def reopen(self, row: JobRow, state: lc.State) -> None:
        """Make an ended job wait again, its attempts counted anew."""
        self.run("reopen_job", (columns(state)[0], columns(state)[2], row.id, row.epoch))
        self._moved(row.id)

    def finish(self, row: JobRow, state: lc.State, left: dict[str, Any]) -> None:
        """Change a job's state at the end of an attempt, with what the attempt left."""
        self.run("finish_job", finish_bind(row, state, left))
        self._moved(row.id)

    def succeed_many(self, ends: Sequence[Good]) -> bool:
        """Complete many jobs and end their attempts, if all are under way; else change nothing and say False.

        One that has keys, or was told to end, is left to :meth:`finish`.
        """
        folded, ends = self._folded(ends)
        if ends and not self._succeed_rows(ends):
            return False
        if folded:
            self.packs.succeed(folded)
        return True

    def _folded(self, ends: Sequence[Good]) -> tuple[list[Good], Sequence[Good]]:
        """Part those that have no row from those that have."""
        of = self.packs.of
        folded = [end for end in ends if of(end[1]) is not None]
        if len(folded) == len(ends):
            return folded, ()
        return folded, [end for end in ends if of(end[1]) is None] if folded else ends

    def _succeed_rows(self, ends: Sequence[Good]) -> bool:
        if len(ends) == 1:
            self.run("succeed_job", ends[0])
            if self.db.changes() != 1:
                return False
            self.run("succeed_attempt", ends[0][:8])
            return True
        self.db.execute("SAVEPOINT ends")
        before = self.db.total_changes()
        self.run_many("succeed_job", ends)
        if self.db.total_changes() - before != len(ends):
            self.db.execute("ROLLBACK TO ends; RELEASE ends")
            return False
        self.run_many("succeed_attempt", (end[:8] for end in ends))
        self.db.execute("RELEASE ends")
        return True

    def _moved(self, job: int) -> None:
        if self.db.changes() != 1:
            raise Stale(job)

    def claim_many(
        self, rows: Sequence[ReadyRow], state: str, now: int, owner: tuple[str, str, str], worker: int, seq: int
    ) -> bool:
        """Take queued jobs for a worker's batch, numbered from ``seq`` on, none of them keyed, all of one pack or none.

        The rows were read in this very transaction, so that nobody else can have them;
        False for those of a pack that somebody else has nevertheless.
        """
        by = self._owner(owner)
        if rows[0].pack:
            return self.packs.claim(rows[0].id, len(rows), by, worker, seq, now)
        self.run_many("claim_job", ((state, row.attempt + 1, None, row.id, row.epoch) for row in rows))
        self.run_many(
            "insert_attempt",
            (
                (row.id, row.attempt + 1, "assigned", by, row.epoch + 1, worker, seq + i, now)
                for i, row in enumerate(rows)
            ),
        )
        return True

    def claim(
        self,
        job: int,
        epoch: int,
        *,
        state: str,
        attempt: int,
        now: int,
        owner: tuple[str, str, str],
        worker: int | None,
        seq: int | None,
        keyed: bool,
    ) -> bool:
        """Take a queued job and record its attempt, in the caller's transaction.

        ``owner`` is (host, agent, boot). False when somebody else has it or a key
        of it is not free; then nothing is changed.
        """
        if keyed and not self.keys_free(job):
            return False
        self.run("claim_job", (state, attempt, None if state == "assigned" else now, job, epoch))
        if self.db.changes() != 1:
            return False
        if keyed:
            self.run("hold_keys", (job,))
        bind = (job, attempt, "assigned", self._owner(owner), epoch + 1, worker, seq, now)
        self.run("insert_attempt", bind)
        return True

    def unclaim(self, job: int, attempt: int) -> None:
        """Undo the claim of a command that did not begin."""
        self.run("unclaim_job", (job, attempt))
        self.run("unclaim_attempt", (job, attempt))

    def keys_free(self, job: int) -> bool:
        """Tell whether every concurrency key of a job has room."""
        return bool(self.row("keys_free", (job,))[0])

    def _owner(self, owner: tuple[str, str, str]) -> int:
        known = self._owners.get(owner)
        if known is None:
            known = self._owners[owner] = self.run("intern_owner", owner).fetchone()[0]
        return known

    def open_attempts(self) -> list[OpenAttempt]:
        """Give every attempt without a known end."""
        rows = [OpenAttempt._make(row) for row in self.run("open_attempts")]
        return rows + self.packs.open_attempts()

    def take_ids(self, count: int) -> int:
        """Give the first of so many ids that nobody else has, nor had; they follow one upon the other."""
        if self._last is None:
            self._last = self.last_id()
        self._last += count
        return self._last - count + 1

    def last_id(self) -> int:
        """Give the highest job id ever stored."""
        return int(self.run("last_id").fetchone()[0])
