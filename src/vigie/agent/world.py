"""The hands: what the duties decided becomes frames, signals and files.

Everything here happens after the commit that decided it, and may be repeated
after a crash: the keeper answers a second spawn like the first, a worker's page
tells what it began.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import vigie
from vigie import boards
from vigie.agent.core import Core
from vigie.agent.keeper_link import KeeperLink, plain_environment
from vigie.agent.trees import Trees
from vigie.agent.watch import Watch
from vigie.agent.worker_link import WorkerLink
from vigie.config import Home
from vigie.procs import Identity
from vigie.store.rows import split_items

if TYPE_CHECKING:
    from vigie.outcome import Good

__all__ = ["World"]

#: Run by path: a project's environment need not contain Vigie.
WORKER = os.path.join(os.path.dirname(os.path.abspath(vigie.__file__)), "worker.py")

log = logging.getLogger("vigie.agent")


def pairs(env: bytes | None) -> dict[str, str]:
    """Give an environment from its stored items."""
    return dict(item.partition("=")[::2] for item in split_items(env))


def _failure(what: str, error: OSError) -> dict[str, Any]:
    number = error.errno or 0
    name = errno.errorcode.get(number, str(number))
    return {"errno": number, "error": name, "what": what, "message": f"cannot write a file for it: {error}"}


class World:
    """Implements :class:`vigie.ports.Hands` with the real processes."""

    def __init__(self, home: Home, watch: Watch) -> None:
        self.home = home
        self.watch = watch
        self.links: dict[int, WorkerLink] = {}
        #: What has to wait until an attempt's process is known.
        self._later: dict[str, list[Callable[[], None]]] = {}
        #: Directories named to the keeper with a command that it holds.
        self._lent: dict[str, str] = {}
        #: Set by main: (job, attempt) -> take back what its worker holds behind it.
        self.spare: Callable[[int, int], bool] = lambda job, attempt: True
        #: Called with a job whose files were deleted.
        self.on_deleted: Callable[[int], None] = lambda job: None
        #: Set by main: True if a function's job was taken back before it began.
        self.recall: Callable[[int, int], bool] = lambda job, attempt: False
        #: Set by main: what else the keeper has to know of the life of a service, and how its tree is ended.
        self.service_of: Callable[[int], dict[str, Any] | None] = lambda job: None
        self.sequence_of: Callable[[int], Sequence[tuple[str, int]] | None] = lambda job: None
        self.core: Core
        self.keeper: KeeperLink
        self.trees: Trees
        #: Who hears that an attempt is over (the timers, the sampler) …
        self.on_released: Callable[[int, int], None] = lambda job, attempt: None
        #: … and that a job is (those who wait).
        self.on_finished: Callable[[int], None] = lambda job: None
        #: Who hears both of many.
        self.on_over: Callable[[Sequence[Good]], None] = lambda ends: None
        #: Called with (worker, jobs) once jobs went out, to start their clocks.
        self.on_sent: Callable[[Sequence[tuple[int, int, int]]], None] = lambda jobs: None
        #: Called with (job, attempt, most bytes) when a command goes to the keeper: a directory that it may have.
        self.on_spawn: Callable[..., str | None] = lambda job, attempt, most, new: None
        #: Called with a mark and what the keeper would say of it when we could not even ask the keeper.
        self.on_failed: Callable[[str, dict[str, Any]], None] = lambda mark, said: None

    # --- commands -------------------------------------------------------------

    def spawn_command(self, job: int, attempt: int, lane: str | None = None, width: int | None = None) -> None:
        """Have the keeper run a command's attempt, at once or when fewer than ``width`` live in its lane."""
        row = self.core.store.one("spawn_facts", (job,))
        if row is None:
            return
        argv, cwd, env, umask, stdin, _, most, _ = row
        extra = self.service_of(job) or {}
        mark = self.core.marks.of(job, attempt)
        try:
            given = self.stdin_of(job, stdin)
        except OSError as error:
            self.on_failed(mark, _failure("stdin", error))
            return
        file = self.home.job_file
        blank = self.on_spawn(job, attempt, most, new=attempt == 1 and given is None)
        if blank and width is not None:
            self._lent[mark] = blank
        self.keeper.send(
            {
                "op": "spawn",
                "mark": mark,
                "argv": split_items(argv),
                "cwd": os.fsdecode(cwd),
                "env": {**pairs(env), "VIGIE_JOB": str(job), "VIGIE_HOME": self.home.root, **extra.get("env", {})},
                "umask": extra.get("umask", umask),
                "stdin": given,
                "dir": self.home.job_dir(job),
                **({"blank": blank} if blank else {}),
                "out": file(job, "out", attempt),
                "err": file(job, "err", attempt),
                **({"service": extra["service"]} if "service" in extra else {}),
                **({} if lane is None else {"lane": lane}),
                **({} if width is None else {"width": width}),
            }
        )

    def withdraw(self, attempts: Sequence[tuple[int, int]]) -> None:
        """Have the keeper drop those of the commands that it holds."""
        self.keeper.send({"op": "withdraw", "marks": [self.core.marks.of(*attempt) for attempt in attempts]})

    def withdrawn(self, job: int, attempt: int) -> None:
        """Forget what was to be done to a command once it had begun: it does not."""
        mark = self.core.marks.of(job, attempt)
        self._later.pop(mark, None)
        blank = self._lent.pop(mark, None)
        if blank is not None:
            shutil.rmtree(blank, ignore_errors=True)

    def stdin_of(self, job: int, name: str | None) -> str | None:
        """Give the path of a job's ``in`` file, moved to its place if it is not there yet."""
        if name is None:
            return None
        path = self.home.job_file(job, "in")
        waiting = os.path.join(self.home.tmp, os.path.basename(name))
        if os.path.exists(waiting):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            os.rename(waiting, path)
        return path

    def forget(self, marks: Sequence[str]) -> None:
        """Tell the keeper that ends are committed."""
        for mark in marks:
            self.watch.forget(mark)
            self._later.pop(mark, None)
        self.keeper.send({"op": "forget", "marks": list(marks)})

    # --- workers --------------------------------------------------------------

    def spawn_worker(self, worker: int) -> None:
        """Have the keeper run a worker."""
        mark = self.core.marks.worker(worker)
        try:
            link = self.link(worker)
        except OSError as error:
            self.on_failed(mark, _failure("out", error))
            return
        row = self.core.store.one("worker", (worker,))
        if row is None or link.page is None:
            return
        python = os.fsdecode(row[0]) or sys.executable
        raw = os.path.join(link.directory, "raw")
        self.keeper.send(
            {
                "op": "spawn",
                "mark": mark,
                "argv": [python, WORKER, self.home.root, str(worker)],
                "cwd": "/",
                "env": {**plain_environment(), **pairs(row[1])},
                "umask": 0o077,
                "stdin": None,
                "out": raw,
                "err": raw,
                "dir": link.directory,
            }
        )

    def link(self, worker: int) -> WorkerLink:
        """Give the link of a worker."""
        known = self.links.get(worker)
        if known is None:
            known = self.links[worker] = WorkerLink(self.home, self.core.store, worker)
        return known

    def send_jobs(self, worker: int, jobs: Sequence[tuple[int, int, int]]) -> None:
        """Give a worker its next jobs, and start the clock of one that goes alone."""
        self.link(worker).send_jobs(jobs)
        if len(jobs) == 1:
            self.on_sent(jobs)

    def acknowledge(self, worker: int, seq: int) -> None:
        """Tell a worker, with its next jobs, that outcomes up to seq are committed."""
        link = self.links.get(worker)
        if link is not None:
            link.acknowledge(seq)

    def quit_worker(self, worker: int) -> None:
        """Let a worker end when it has nothing to do."""
        link = self.links.get(worker)
        if link is not None:
            link.say({"op": "quit"})

    def take_back(self, worker: int, seq: int) -> bool:
        """Take every job from seq on back from a worker; False if seq has begun."""
        return self.link(worker).take_back(seq)

    # --- trees ----------------------------------------------------------------

    def root(self, job: int, attempt: int) -> tuple[Identity, tuple[str, ...]] | None:
        """Give the main process of an attempt and the marks of its tree."""
        mark = self.core.marks.of(job, attempt)
        facts = self.core.store.one("attempt", (job, attempt))
        if facts is None:
            return None
        worker = facts[1]
        if worker is not None:
            own = self.core.marks.worker(worker)
            process = self.watch.identity(own)
            return None if process is None else (process, (own, mark))
        process = self.watch.identity(mark)
        if process is None and facts[3] is not None:
            process = Identity(facts[3], facts[4])
        return None if process is None else (process, (mark,))

    def terminate(self, job: int, attempt: int, grace: int) -> None:
        """End the whole tree of an attempt."""
        if self.recall(job, attempt):
            return
        found = self.root(job, attempt)
        if found is None:
            self._once_begun(job, attempt, self.terminate, grace)
            return
        if not self.spare(job, attempt):
            return
        root, marks = found
        earlier = self.core.store.run("earlier_attempts", (job, attempt)).fetchall()
        # What they left behind ends with the job; of a function's attempt nobody knows when its worker began.
        since = min((ticks or 0 for _, ticks in earlier), default=None)
        marks += tuple(self.core.marks.of(job, n) for n, _ in earlier)
        named = None if grace == 0 else self.sequence_of(job)
        sequence = None if named is None else [(int(getattr(signal, f"SIG{name}")), wait) for name, wait in named]
        self.trees.terminate((job, attempt), root, marks, grace, since, sequence)

    def freeze(self, job: int, attempt: int) -> None:
        """Stop the whole tree of an attempt."""
        found = self.root(job, attempt)
        if found is None:
            self._once_begun(job, attempt, self.freeze)
            return
        if self.spare(job, attempt):
            self.trees.freeze(*found)

    def thaw(self, job: int, attempt: int) -> None:
        """Let the whole tree of an attempt go on."""
        found = self.root(job, attempt)
        if found is None:
            # What waits to freeze it must not have the last word.
            self._once_begun(job, attempt, self.thaw)
            return
        self.trees.thaw(*found)

    def _once_begun(self, job: int, attempt: int, work: Callable[..., None], *args: int) -> None:
        """Do something to an attempt that is committed and not begun, when the keeper says that it has."""
        facts = self.core.store.one("attempt", (job, attempt))
        if facts is not None:
            marks = self.core.marks
            mark = marks.of(job, attempt) if facts[1] is None else marks.worker(facts[1])
            self._later.setdefault(mark, []).append(lambda: work(job, attempt, *args))

    def began(self, mark: str) -> None:
        """Do what had to wait until a process was known."""
        self._lent.pop(mark, None)
        for work in self._later.pop(mark, ()):
            work()

    # --- ends -----------------------------------------------------------------

    def released(self, job: int, attempt: int) -> None:
        """Let go of what was held for an attempt that is over."""
        self.on_released(job, attempt)

    def finished(self, job: int) -> None:
        """Tell whoever waits that a job has ended."""
        self.on_finished(job)

    def over(self, ends: Sequence[Good]) -> None:
        """Do both for many functions that returned, and their jobs."""
        self.on_over(ends)

    def keep_records(self, job: int, attempt: int, records: bytes) -> None:
        """Write an attempt's records to its file (before the commit: a repeat writes the same)."""
        path = self.home.job_file(job, "records", attempt)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "wb") as file:
            file.write(records)

    def order(self, job: int, order: dict[str, Any]) -> None:
        """Tell a parallel run something."""
        boards.append_order(self.home.job_dir(job), order)

    def delete_files(self, job: int) -> None:
        """Delete the files of a removed job, and its parent directory when it was the last."""
        directory = self.home.job_dir(job)
        shutil.rmtree(directory, ignore_errors=True)
        self.on_deleted(job)
        try:
            os.rmdir(os.path.dirname(directory))
        except OSError:
            return
