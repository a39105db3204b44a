"""The promises, checked against what really happened.

Nothing in here asks the code under test what is right: the table of transitions and
the rules stand here once more, written from the documents.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import apsw

from simulation.clients import KEYS
from simulation.deeds import Broken, Deed, spec_of
from simulation.now import Now

if TYPE_CHECKING:
    from simulation.world import World

#: What people may see a job do: state -> states that may follow.
LEGAL = {
    None: {"queued", "blocked"},
    "queued": {"queued", "running", "completed", "failed", "stopped", "lost", "blocked"},
    "blocked": {"queued", "stopped", "failed", "blocked"},
    "running": {"running", "suspended", "queued", "blocked", "completed", "failed", "stopped", "lost"},
    "suspended": {"suspended", "running", "queued", "blocked", "completed", "failed", "stopped", "lost"},
    "completed": set(),
    "failed": {"queued", "blocked"},
    "stopped": {"queued", "blocked"},
    "lost": {"queued", "blocked"},
}
FINISHED = ("completed", "failed", "stopped", "lost")

#: In front of a query: jobs and attempts with those that have no row of their own (vigie/store/packs.py).
WHOLE = """
WITH folded (id, pack, following, task, queue, priority, args) AS (
    SELECT p.first + a.key, p.first, p.next, p.task, p.queue, p.priority, CAST(a.value AS BLOB)
    FROM packs p JOIN pack_args g ON g.pack = p.first JOIN json_each(g.args) a
    WHERE NOT EXISTS (SELECT 1 FROM main.jobs d WHERE d.id = p.first + a.key)),
jobs AS (
    SELECT id, state, reason, exit_code, signal, attempt, tries_from, result, task, args, finished, blocked_by,
        ending, queue, priority, now, keyed, due FROM main.jobs
    UNION ALL
    SELECT id, CASE WHEN id < following THEN 'assigned' ELSE 'queued' END, NULL, NULL, NULL, id < following, 0, NULL,
        task, args, NULL, NULL, NULL, queue, priority, 0, 0, NULL FROM folded),
attempts AS (
    SELECT job, n, state, exit_code, signal, reason, worker, seq FROM main.attempts
    UNION ALL
    SELECT f.id, 1, 'assigned', NULL, NULL, NULL, l.worker, l.seq + f.id - l.first
    FROM folded f JOIN lots l ON l.pack = f.pack AND f.id BETWEEN l.first AND l.last)
"""
OPEN = f"""{WHOLE}
SELECT a.job, a.n, a.worker, j.queue, j.now, j.keyed,
    a.state = 'assigned' AND (j.state = 'assigned' OR j.ending IS NOT NULL) FROM attempts a JOIN jobs j ON j.id = a.job
WHERE a.state IN ('assigned', 'running')"""
HELD = f"""{WHOLE}
SELECT k.key, count(*) FROM job_keys k JOIN jobs j ON j.id = k.job
WHERE j.state IN ('assigned', 'running', 'suspended') GROUP BY k.key"""
ATTEMPTS = f"{WHOLE} SELECT n, state, exit_code, signal, reason FROM attempts WHERE job = ?"
EVENTS = "SELECT id, verb, job, last, before, after FROM events WHERE id > ? ORDER BY id"
AT_ONCE = f"{WHOLE} SELECT id FROM jobs WHERE state = 'queued' AND now = 1 AND keyed = 0"
WAITING = f"{WHOLE} SELECT id, priority FROM jobs WHERE state = 'queued' AND keyed = 0 AND queue = 'default'"
JOBS = f"""{WHOLE}
SELECT j.id, j.state, j.reason, j.exit_code, j.signal, j.attempt, j.tries_from, j.result, t.kind, t.argv, j.args,
    t.retries, j.finished, j.blocked_by, j.ending
FROM jobs j JOIN tasks t ON t.id = j.task"""


class Checks:
    """Looks at the store after each commit, and at everything at the end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._commits: tuple[Any, int] = (None, 0)
        self._event = 0
        self._states: dict[int, str | None] = {}
        self._lost: set[tuple[int, int]] = set()
        self._taken: dict[str, int] = {}
        #: What the keeper holds, and how many slots its queue had then.
        self._widths: dict[tuple[int, int], int] = {}
        self._open: set[tuple[int, int]] = set()

    @property
    def db(self) -> apsw.Connection:
        agent = self.world.agent
        assert agent is not None
        return agent.real.store.db

    # --- after each commit ------------------------------------------------------------

    def look(self) -> None:
        """Check what one commit has changed."""
        agent = self.world.agent
        assert agent is not None
        if agent.agent is None:
            return
        mark = (agent, agent.real.writer.commits)
        if mark == self._commits:
            return
        fresh = self._commits[0] is not agent
        self._commits = mark
        db = self.db
        self._transitions(db)
        rows = db.execute(OPEN).fetchall()
        self._slots(rows)
        if any(row[5] for row in rows):
            for key, held in db.execute(HELD).fetchall():
                if held > KEYS[key]:
                    raise Broken(f"{held} jobs hold the key {key}, of which {KEYS[key]} may")
        now_open = {(row[0], row[1]) for row in rows}
        if not fresh:
            self._in_order(db, [row for row in rows if (row[0], row[1]) not in self._open])
        dispatch = agent.real.dispatch
        if dispatch.open and not dispatch.settings("default").paused:
            waiting = db.execute(AT_ONCE).fetchall()
            if waiting:
                raise Broken(f"jobs wait that may pass the slots: {waiting}")
        gone = self._open - now_open
        self._open = now_open
        if gone or fresh:
            self._losses(db)

    def _transitions(self, db: apsw.Connection) -> None:
        rows = db.execute(EVENTS, (self._event,)).fetchall()
        for number, verb, first, last, before, after in rows:
            self._event = number
            if first is None or after is None:
                continue
            for job in range(first, (last or first) + 1):
                was = self._states.get(job)
                # Of what ended in a batch nobody has seen that it began.
                if before != was and not (was == "queued" and (verb, before) == ("ended", "running")):
                    raise Broken(f"job {job} was {was}, and {verb} took it from {before} to {after}")
                if after not in LEGAL[was]:
                    raise Broken(f"job {job} went from {was} to {after} by {verb}")
                self._states[job] = after

    def _slots(self, rows: list[tuple[Any, ...]]) -> None:
        holders: dict[str, set[Any]] = {}
        for job, n, worker, queue, now, _, waits in rows:
            # The keeper holds a command without a slot, also while it is asked to drop it.
            if waits and worker is None:
                self._widths.setdefault((job, n), self._slots_of(queue))
            elif not now:
                holders.setdefault(queue, set()).add((job, n) if worker is None else worker)
        for queue, holding in holders.items():
            # One may have begun just before the keeper heard that the slots are fewer now.
            begun = max((self._widths.pop(one, 0) for one in holding if not isinstance(one, int)), default=0)
            if len(holding) <= max(1, begun, self._taken.get(queue, 0)):
                continue
            slots = self._slots_of(queue)
            if len(holding) > max(slots, self._taken.get(queue, 0)):
                raise Broken(f"{len(holding)} hold the {slots} slots of {queue}: {holding}")
        self._taken = {queue: len(holding) for queue, holding in holders.items()}

    def _slots_of(self, queue: str) -> int:
        row = self.db.execute("SELECT slots FROM queues WHERE name = ?", (queue,)).fetchone()
        return 2 if row is None or row[0] is None else int(row[0])

    def _in_order(self, db: apsw.Connection, claimed: list[tuple[Any, ...]]) -> None:
        """First in, first out, among those of one priority that wait for nothing but a slot."""
        newest = max((row[0] for row in claimed if not row[5] and not row[4]), default=None)
        if newest is None:
            return
        priority = db.execute(f"{WHOLE} SELECT priority FROM jobs WHERE id = ?", (newest,)).fetchone()
        for job, its in db.execute(WAITING).fetchall():
            if priority is not None and job < newest and its >= priority[0]:
                raise Broken(f"job {newest} was handed out before {job}")

    def _losses(self, db: apsw.Connection) -> None:
        for job, n in db.execute(f"{WHOLE} SELECT job, n FROM attempts WHERE state = 'lost'").fetchall():
            if (job, n) in self._lost:
                continue
            self._lost.add((job, n))
            deed = self.world.deeds.get((job, n))
            if deed is None:
                if not self.world.cuts and not self.world.counts["keeper"] > 1:
                    raise Broken(f"attempt {job}.{n} is lost, never began, and nothing happened to the keeper")
                continue
            self._may_be_lost(deed)

    def _may_be_lost(self, deed: Deed) -> None:
        if deed.living:
            raise Broken(f"an attempt that runs is called lost: {deed}")
        if deed.boot != self.world.kernel.boots:
            return
        if deed.how is not None:
            raise Broken(f"an attempt is called lost whose outcome is in the worker's journal: {deed}")
        mark = deed.proc.mark
        assert mark is not None
        knower = self.world.known_end(deed, mark)
        if knower is not None:
            raise Broken(f"an attempt is called lost, and {knower} knows how it ended: {deed}")

    # --- at other moments -----------------------------------------------------------------

    def beginning(self, job: int) -> None:
        """Check a job that is about to begin."""
        clients = self.world.clients
        deeds = [deed for deed in self.world.deeds.values() if deed.living]
        plan = clients.jobs.get(job)
        if plan is None:
            return
        for key, most in plan.options.get("concurrency", ()):
            others = [d.job for d in deeds if d.job in clients.jobs and self._has_key(d.job, key)]
            if len(others) >= most:
                raise Broken(f"job {job} begins beside {others} with the key {key}, of which {most} may run")
        if not plan.options.get("now"):
            busy = {d.proc.pid for d in deeds if not self._passes(d.job)}
            if len(busy) >= clients.most_slots + (1 if plan.kind == "function" else 0):
                raise Broken(f"job {job} begins beside {busy} in {clients.most_slots} slots")
        for needed in plan.needs:
            if needed not in clients.asked["retry"] and any(d.job == needed for d in deeds):
                raise Broken(f"job {job} begins while {needed}, which it needs, runs")

    def _has_key(self, job: int, key: str) -> bool:
        plan = self.world.clients.jobs[job]
        return any(name == key for name, _ in plan.options.get("concurrency", ()))

    def _passes(self, job: int) -> bool:
        plan = self.world.clients.jobs.get(job)
        return plan is None or bool(plan.options.get("now"))

    def arguments(self, job: Any) -> None:
        """Check the results of others that a function was given."""
        for path, encoding, where in job.deps:
            value = json.loads(job.blobs[where])
            deed = self.world.deeds.get(tuple(value))
            if encoding != "json" or path != [0, "from"] or deed is None or deed.how != "return":
                raise Broken(f"job {job.job} was given {value}, which no function returned")

    def stopped(self, said: dict[str, Any]) -> None:
        """Check the answer of a stop: nothing of the tree may live."""
        job = said["id"]
        world = self.world
        if job in world.clients.asked["retry"] or said["left"]:
            return
        if said["state"] not in (*FINISHED, None):
            raise Broken(f"stop was answered while job {job} is {said['state']}")
        for deed in world.deeds.values():
            if deed.job == job and deed.living:
                raise Broken(f"stop of job {job} was answered, and it runs: {deed}")
        if said["state"] == "stopped" and self._ran_when_stopped(job):
            living = world.kernel.living("command", "child")
            left = [proc for proc in living if proc.mark and (world.marks.parse(proc.mark) or (0,))[0] == job]
            if left:
                raise Broken(f"stop of job {job} was answered, and of its tree there live {left}")

    def _ran_when_stopped(self, job: int) -> bool:
        agent = self.world.agent
        if agent is None or agent.agent is None:
            return False
        query = "SELECT before FROM events WHERE job = ? AND verb = 'stop' ORDER BY id DESC LIMIT 1"
        row = self.db.execute(query, (job,)).fetchone()
        return row is not None and row[0] in ("running", "suspended")

    def after_cut(self) -> None:
        """Check the store as the next agent finds it after a power cut."""
        db = apsw.Connection(self.world.home.db, vfs="unix")
        try:
            if db.pragma("integrity_check") != "ok":
                raise Broken("the store is damaged")
            self._nothing_missing(db, "after a power cut")
        finally:
            db.close()
            # What this look has moved from the log to the file is as it was.
            Now.vfs.disk.files.clear()

    def _nothing_missing(self, db: apsw.Connection, when: str) -> None:
        clients = self.world.clients
        there = {row[0] for row in db.execute(f"{WHOLE} SELECT id FROM jobs").fetchall()}
        missing = set(clients.jobs) - there - clients.asked["remove"]
        if missing:
            raise Broken(f"acknowledged and missing {when}: {sorted(missing)}")
        attempts = set(db.execute(f"{WHOLE} SELECT job, n FROM attempts").fetchall())
        unrecorded = {key for key in self.world.deeds if key not in attempts and key[0] not in clients.asked["remove"]}
        if unrecorded:
            raise Broken(f"began without a record {when}: {sorted(unrecorded)}")

    # --- the end ------------------------------------------------------------------------------

    def open_jobs(self) -> list[int]:
        return [row[0] for row in self.db.execute(f"{WHOLE} SELECT id FROM jobs WHERE finished IS NULL").fetchall()]

    def paused(self) -> list[str]:
        """Name the queues that hand out nothing."""
        if self.world.agent is None or self.world.agent.agent is None:
            return []
        return [row[0] for row in self.db.execute("SELECT name FROM queues WHERE paused = 1").fetchall()]

    def open_states(self) -> dict[int, tuple[str, dict[str, Any]]]:
        """Give state and spec of every job that has not ended, read beside the agent."""
        if self.world.agent is None or self.world.agent.agent is None:
            return {}
        found = {}
        for row in self.db.execute(JOBS + " WHERE j.finished IS NULL").fetchall():
            found[row[0]] = (row[1], spec_of(row[8], row[9], row[10]))
        return found

    def open_work(self) -> str:
        """Say what is not at rest."""
        rows = self.db.execute(
            f"{WHOLE} SELECT id, state, blocked_by, ending, attempt, due FROM jobs WHERE finished IS NULL"
        )
        attempts = self.db.execute(
            f"{WHOLE} SELECT job, n, state, worker, seq FROM attempts WHERE state IN ('assigned', 'running')"
        )
        living = [str(deed) for deed in self.world.deeds.values() if deed.living]
        asked = [request.header for request in self.world.clients.waiting]
        return (
            f"jobs {rows.fetchall()}, attempts {attempts.fetchall()}, deeds {living},"
            f" processes {self.world.kernel.table}, asked {asked}"
        )

    def at_end(self) -> None:
        """Check everything, now that all is at rest."""
        db = self.db
        self._nothing_missing(db, "at the end")
        rows = db.execute(JOBS).fetchall()
        self._one_each(rows)
        for row in rows:
            self._job(db, row)
        if db.execute("SELECT count(*) FROM job_keys WHERE held = 1").fetchone() != (0,):
            raise Broken("a key is held and no job runs")
        assert self.world.agent is not None
        agent = self.world.agent.real
        if any(agent.dispatch.holders.values()) or agent.dispatch.running or agent.dispatch.assigned:
            raise Broken(f"slots are taken and no job runs: {agent.dispatch.holders} {agent.dispatch.assigned}")
        stuck = [p for p in self.world.kernel.living("worker") if p.state == "T"]
        if stuck:
            raise Broken(f"a worker is frozen at nothing: {stuck}")

    def _one_each(self, rows: list[tuple[Any, ...]]) -> None:
        """A request makes its jobs once, however often it was sent."""
        made: dict[int, list[int]] = {}
        for row in rows:
            made.setdefault(spec_of(row[8], row[9], row[10])["k"], []).append(row[0])
        for number, ids in made.items():
            plan = self.world.clients.plans[number]
            if len(ids) > len(plan.specs):
                raise Broken(f"request {number} was for {len(plan.specs)} jobs and made {ids}")
            if plan.ids and not set(ids) <= set(plan.ids):
                raise Broken(f"request {number} was told {plan.ids} and made {ids}")

    def _job(self, db: apsw.Connection, row: tuple[Any, ...]) -> None:
        job, state, reason, code, number, attempt, tries_from, result, kind, argv, args, retries = row[:12]
        spec = spec_of(kind, argv, args)
        clients = self.world.clients
        plan = clients.plans[spec["k"]]
        attempts = db.execute(ATTEMPTS, (job,)).fetchall()
        for n, its, a_code, a_signal, a_reason in attempts:
            self._attempt(job, n, its, a_code, a_signal, a_reason)
        deed = self.world.deeds.get((job, attempt))
        last = next((a[1] for a in attempts if a[0] == attempt), None)
        where = f"job {job} {state} {reason} code={code} signal={number} spec={spec}; {deed}; attempts {attempts}"
        if state == "completed":
            self._completed(job, attempt, deed, result, code, where)
        elif state == "lost":
            if last != "lost" or plan.task.get("on_lost") == "rerun":
                raise Broken(f"lost, and should not be: {where}")
        elif state == "stopped":
            if job not in clients.asked["stop"]:
                raise Broken(f"stopped, and nobody asked: {where}")
        elif state == "failed":
            ways = {
                "exit": code is not None,
                "signal": number is not None,
                "exception": deed is not None and deed.how == "raise",
                "timeout": plan.task.get("timeout") is not None,
                "spawn": bool(spec.get("missing")),
                "dependency": bool(plan.needs),
            }
            if not ways.get(reason):
                raise Broken(f"failed for a reason that is none: {where}")
            if reason not in ("spawn", "dependency") and attempt - tries_from < retries + 1:
                raise Broken(f"failed with tries left ({attempt - tries_from} of {retries + 1}): {where}")
        if (code, number) != (None, None) and not self._true(deed, code, number):
            raise Broken(f"an exit was invented: {where}")

    def _attempt(self, job: int, n: int, state: str, code: int | None, number: int | None, reason: str | None) -> None:
        deed = self.world.deeds.get((job, n))
        where = f"attempt {job}.{n} {state} {reason} code={code} signal={number}; {deed}"
        if state in ("assigned", "running"):
            raise Broken(f"an attempt is open and all is at rest: {where}")
        if state == "withdrawn" and deed is not None:
            raise Broken(f"an attempt was withdrawn that had begun: {where}")
        if state == "ended":
            if deed is None and reason != "spawn":
                raise Broken(f"an attempt ended that never began: {where}")
            if deed is not None and not self._true(deed, code, number):
                raise Broken(f"an exit was invented: {where}")

    def _true(self, deed: Deed | None, code: int | None, number: int | None) -> bool:
        """Tell whether an attempt ended like that."""
        if deed is None:
            return False
        if (code, number) == (deed.code, deed.signal):
            return True
        mark = deed.proc.mark or ""
        return mark in self.world.nameless and (code, number) in self.world.child_ends.get(mark, ())

    def _completed(
        self, job: int, attempt: int, deed: Deed | None, result: bytes | None, code: Any, where: str
    ) -> None:
        if deed is None or not (self._true(deed, 0, None) or deed.how == "return"):
            raise Broken(f"completed, and it did not end well: {where}")
        if deed.kind == "function":
            if deed.how != "return" or result is None or json.loads(result) != [job, attempt]:
                raise Broken(f"completed with another's result {result!r}: {where}")
        elif code != 0:
            raise Broken(f"completed without its exit code: {where}")
