"""The duty of taking work in: a request becomes rows, all of them or none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vigie import lifecycle as lc
from vigie.agent.core import Core, Who
from vigie.errors import NotFound, UsageError
from vigie.model import DEFAULT_QUEUE, TASK_DEFAULTS
from vigie.store.rows import ReadyRow
from vigie.store.sqlite import SHORT

__all__ = ["queue_of", "submit", "task_of"]

#: From so many on, tiny functions that come together are stored as one.
PACK = 16

_BUILT_IN_QUEUES = (DEFAULT_QUEUE, "schedules")


def submit(core: Core, request: dict[str, Any], blobs: Sequence[bytes], who: Who) -> dict[str, Any]:
    """Write the jobs of a ``submit`` request and answer with their ids.

    Raises
    ------
    UsageError
        When a field makes no sense; nothing is written.
    NotFound
        When a dependency or a queue does not exist.
    """
    options = request.get("job") or {}
    count = int(request.get("count", 1))
    if count < 1:
        raise UsageError(f"count is {count}: there is nothing to start")
    key = options.get("key")
    if key is not None:
        if count != 1:
            raise UsageError("a key names one job, and this request makes several")
        found = core.store.one("job_by_key", (key,))
        if found is not None:
            return {"ids": [found[0]], "existing": True}
    context = _context(core, request["context"])
    named = _named(core, request["task"], blobs)
    if context is None or named is None:
        return {"ids": [], "existing": False, "again": True}
    task, label, blobs = named
    needs = _needs(core, options, request.get("deps") or {}, count)
    queue = queue_of(core, options.get("queue") or DEFAULT_QUEUE)
    jobs = _Jobs(core, options, queue, who)
    jobs.task, jobs.label = task, label
    jobs.context = context
    first = core.store.take_ids(count)
    alone = any(needs) or jobs.keys or jobs.tags
    if request.get("together") and not alone:
        jobs.insert_together(first, count, blobs)
    else:
        given = _given(core, request, blobs, count)
        if alone:
            for i, (args, encoding) in enumerate(given):
                jobs.insert(first + i, args, encoding, needs[i])
        else:
            jobs.insert_many(first, given)
    if jobs.due is not None and options.get("delay") is not None:
        core.store.run("mark_relative", (first, first + count - 1))
    core.arrive(queue, jobs.ready)
    if jobs.keys:
        core.keyed.add(queue)
    answer = {"ids": list(range(first, first + count)), "existing": False}
    if request.get("learn"):
        answer.update(context=core.store.context_name(context), task=core.store.task_name(task))
    return answer


def _context(core: Core, given: dict[str, Any] | str) -> int | None:
    """Give the id of a context; None if the caller named one that is not there any more."""
    return core.store.named_context(given) if isinstance(given, str) else core.store.intern_context(given)


def _named(core: Core, given: dict[str, Any] | str, blobs: Sequence[bytes]) -> tuple[int, str, Sequence[bytes]] | None:
    """Give id and label of a task, and the blobs that are not its code; None if the caller named an unknown one."""
    if isinstance(given, str):
        known = core.store.named_task(given)
        return None if known is None else (*known, blobs)
    task, code, blobs = _task(given, blobs)
    return core.store.intern_task(task, code), task["label"], blobs


def task_of(core: Core, given: dict[str, Any], blobs: Sequence[bytes]) -> tuple[int, Sequence[bytes]]:
    """Give the id of a task as a request has it, and the blobs that are not its code.

    Raises
    ------
    UsageError
        When a field makes no sense.
    """
    task, code, blobs = _task(given, blobs)
    return core.store.intern_task(task, code), blobs


def _given(
    core: Core, request: dict[str, Any], blobs: Sequence[bytes], count: int
) -> list[tuple[bytes | None, str | None]]:
    """Give the arguments of each job, and how they are encoded."""
    if request.get("together"):
        together: list[tuple[bytes | None, str | None]] = [
            (args, "json") for chunk in blobs for (args,) in core.store.run("apart", (chunk.decode(),))
        ]
        if len(together) != count:
            raise UsageError(f"count is {count}, and there are arguments for {len(together)}")
        return together
    encodings = request.get("encodings") or [request.get("encoding", "json")] * count
    return [(blobs[i], encodings[i]) if i < len(blobs) else (None, None) for i in range(count)]


def _task(wanted: dict[str, Any], blobs: Sequence[bytes]) -> tuple[dict[str, Any], bytes | None, Sequence[bytes]]:
    task = {**TASK_DEFAULTS, **{key: value for key, value in wanted.items() if value is not None}}
    code = None
    if wanted.get("code"):
        code, blobs = blobs[0], blobs[1:]
    if task["kind"] not in ("command", "function"):
        raise UsageError(f"a task is a command or a function, not {task['kind']!r}")
    if task["kind"] == "command" and not task.get("argv"):
        raise UsageError("a command needs at least its name")
    if task["on_lost"] not in ("fail", "rerun"):
        raise UsageError(f"on_lost is fail or rerun, not {task['on_lost']!r}")
    for name in ("timeout", "retries", "backoff", "backoff_max", "grace", "max_output"):
        value = task[name]
        if value is not None and (not isinstance(value, int) or value < 0):
            raise UsageError(f"{name} is {value!r}: it must not be negative")
    if task["timeout"] == 0:
        raise UsageError("timeout is 0: leave it out for no limit")
    # For people only; what runs stands in argv, byte for byte.
    task["label"] = str(task.get("label", "")).encode("utf-8", "replace").decode()
    return task, code, blobs


def queue_of(core: Core, name: str) -> str:
    """Give the name of a queue that exists.

    Raises
    ------
    NotFound
        When there is none.
    """
    if name in _BUILT_IN_QUEUES or core.store.has_queue(name):
        return name
    known = sorted({*_BUILT_IN_QUEUES, *(row[0] for row in core.store.run("queues"))})
    raise NotFound(
        f"no queue {name!r}; there are {', '.join(known)}",
        f"vigie queue set {name} --slots 2",
    )


#: What a job needs: {job id: (mode, paths of its result in the arguments as JSON)}.
Needs = dict[int, tuple[str, str | None]]


def _needs(core: Core, options: dict[str, Any], deps: dict[str, Any], count: int) -> list[Needs]:
    """Give for each job of the request what it needs."""
    shared: Needs = {}
    if not (deps or options.get("after") or options.get("after_any")):
        return [shared] * count
    for mode, field in (("any", "after_any"), ("completed", "after")):
        shared.update((int(job), (mode, None)) for job in options.get(field) or ())
    own = [shared] * count
    for index, pairs in deps.items():
        paths: dict[int, list[Any]] = {}
        for path, job in pairs:
            paths.setdefault(int(job), []).append(path)
        own[int(index)] = {**shared, **{job: ("result", json.dumps(places)) for job, places in paths.items()}}
    newest = core.store.last_id()
    for job in {job for needs in own for job in needs}:
        core.store.unfold(job)
        if core.store.state_of(job) is None:
            what = "was removed" if 0 < job <= newest else "does not exist"
            raise NotFound(f"job {job}, to come before this one, {what}", "vigie jobs")
    return own


class _Jobs:
    """Inserts the jobs of one request."""

    def __init__(self, core: Core, options: dict[str, Any], queue: str, who: Who) -> None:
        self.core = core
        self.options = options
        self.queue = queue
        self.who = who
        self.task = self.context = 0
        self.label = ""
        #: All of them as the dispatcher will see them, if they are few and plain.
        self.ready: list[ReadyRow] | None = None
        self.created = core.clock.wall()
        delay = options.get("delay")
        self.due = core.ahead(options.get("due") if delay is None else self.created + int(delay))
        self.keys = [(str(key), int(most)) for key, most in options.get("concurrency") or ()]
        self.tags = [str(tag) for tag in options.get("tags") or ()]
        name = options.get("name")
        if name is not None and (name.isdigit() or name == "last" or not name):
            raise UsageError(f"{name!r} cannot be a name: digits are ids and 'last' is the newest job")
        if any(most < 1 for _, most in self.keys):
            raise UsageError("a concurrency key needs room for at least one")

    @property
    def _head(self) -> tuple[Any, ...]:
        return self.options.get("name"), self.task, self.context

    def _tail(self) -> tuple[Any, ...]:
        get = self.options.get
        order = (self.queue, int(get("priority") or 0), int(bool(get("now"))), int(bool(self.keys)))
        return (*order, self.created, self.due, get("key"), get("stdin"))

    def insert_many(self, first: int, given: Sequence[tuple[bytes | None, str | None]]) -> None:
        """Insert jobs that wait for nothing but a time or a slot, with ids from ``first`` on."""
        state, blocked_by, _ = self._begin_state({})
        head, tail = self._head, self._tail()
        rows = [(job, *head, *own, state, blocked_by, *tail) for job, own in enumerate(given, first)]
        if len(rows) == 1:
            self.core.store.run("insert_job_given_id", rows[0])
            if state == "queued":
                self._keep(first, *given[0])
                says = self.core.store.task_says(self.task)
                _, priority, now, keyed, *_ = tail
                self.ready = [
                    ReadyRow(first, 0, 0, priority, self.context, keyed, now, self.task, says[0], says[-1], 0)
                ]
        else:
            self.core.store.run_many("insert_job_given_id", rows)
        self._note(first, len(given), state, blocked_by)

    def _keep(self, job: int, args: bytes | None, encoding: str | None) -> None:
        """Keep what a worker needs of a lone job."""
        if args is not None and len(args) <= SHORT:
            self.core.store.keep_facts(job, (args, encoding, self.task, self.context, 0))

    def insert_together(self, first: int, count: int, chunks: Sequence[bytes]) -> None:
        """The same, of functions whose arguments are JSON arrays."""
        state, blocked_by, _ = self._begin_state({})
        store, head, tail = self.core.store, self._head, self._tail()
        as_one = count >= PACK and state == "queued" and self._are_tiny()
        following = first
        for chunk in chunks:
            if as_one:
                following += store.packs.add(following, chunk.decode(), (*head, self.queue, tail[1], self.created))
            else:
                before = store.db.total_changes()
                store.run("insert_jobs_together", (following, *head, state, blocked_by, *tail, chunk.decode()))
                following += store.db.total_changes() - before
        if following - first != count:
            raise UsageError(f"count is {count}, and there are arguments for {following - first}")
        self._note(first, count, state, blocked_by)

    def _are_tiny(self) -> bool:
        """Tell whether the jobs will be handed out in batches, with nothing special about them."""
        return not self.options.get("now") and self.core.tiny(self.queue, self.task)

    def _note(self, first: int, count: int, state: str, blocked_by: str | None) -> None:
        core, jobs = self.core, range(first, first + count)
        core.log_many("submitted", jobs, who=self.who, after=state, detail=self.label, at=self.created)
        if blocked_by == "time":
            core.after(core.rearm)

    def insert(self, job: int, args: bytes | None, encoding: str | None, needs: Needs) -> None:
        state, blocked_by, broken = self._begin_state(needs)
        store = self.core.store
        store.run("insert_job_given_id", (job, *self._head, args, encoding, state, blocked_by, *self._tail()))
        for needed, (mode, paths) in needs.items():
            store.run("add_dependency", (job, needed, mode, paths))
            self.core.needed.add(needed)
        for key, most in self.keys:
            store.run("add_key", (job, key, most))
        for tag in self.tags:
            store.run("add_tag", (tag, job))
        self.core.log("submitted", job, who=self.who, after=state, detail=self.label, at=self.created)
        if broken is not None:
            self._break(job, *broken)
        elif blocked_by == "time":
            self.core.after(self.core.rearm)

    def _begin_state(self, needs: Needs) -> tuple[str, str | None, tuple[int, str] | None]:
        open_needs = False
        for needed, (mode, _) in needs.items():
            state, finished = self.core.store.state_of(needed) or ("lost", 0)
            if finished is None:
                open_needs = True
            elif mode != "any" and state != "completed":
                return "blocked", "dependency", (needed, state)
        if open_needs:
            return "blocked", "dependency", None
        return ("blocked", "time", None) if self.due is not None else ("queued", None, None)

    def _break(self, job: int, needed: int, state: str) -> None:
        row = self.core.store.job(job)
        if row is not None:
            ends = {"failed": "failed", "stopped": "was stopped", "lost": "was lost"}[state]
            self.core.step(row, lc.DependencyBroken(f"job {needed}, which it needs, {ends}"))
