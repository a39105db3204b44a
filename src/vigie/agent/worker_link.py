"""The agent's side of one worker: its page, its journal, its connection.

The page and the journal are files, so that they tell the truth when the worker
or the agent is dead; the connection only makes things quick.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vigie import crash, frames, outcome, workfiles
from vigie.agent.outcomes import WorkerEnd
from vigie.config import Home
from vigie.store.rows import split_items
from vigie.store.sqlite import Store

if TYPE_CHECKING:
    from vigie.outcome import Said

__all__ = ["WorkerLink"]

#: Of a worker that failed, how much of its raw output is told.
TAIL = 2_000
#: From so many on, jobs that follow one upon the other go as one lot.
LOT = 4


def _runs(jobs: Sequence[tuple[int, int, int]]) -> Iterable[Sequence[tuple[int, int, int]]]:
    """Cut (seq, job, attempt) where a number does not follow upon the one before."""
    start = 0
    for at in range(1, len(jobs)):
        seq, job, attempt = jobs[at - 1]
        if jobs[at] != (seq + 1, job + 1, attempt):
            yield jobs[start:at]
            start = at
    yield jobs[start:]


class WorkerLink:
    """One worker, whether or not it is connected.

    Parameters
    ----------
    home, store:
        Where its files are, and where its jobs stand.
    worker:
        Its id.
    """

    def __init__(self, home: Home, store: Store, worker: int) -> None:
        self.home = home
        self.store = store
        self.id = worker
        self.directory = home.worker_dir(worker)
        self.peer: Any = None
        self._told: set[tuple[str, int]] = set()
        #: Taken back before they were sent.
        self._void: set[int] = set()
        #: The highest outcome that the worker may forget and was not told of.
        self._forget = 0
        #: Its page is no page any more: nobody knows what it began.
        self.damaged = False
        self.page: workfiles.Page | None = self._open_page(os.path.join(self.directory, "page"))

    def _open_page(self, path: str) -> workfiles.Page | None:
        if not os.path.exists(path):
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            return workfiles.Page.create(path)
        try:
            return workfiles.Page.open(path)
        except workfiles.PageError:
            self.damaged = True
            return None

    def attached(self, peer: Any) -> None:
        """The worker connected: it knows no task and no context yet."""
        self.peer = peer
        self._told.clear()

    def detached(self) -> None:
        """The worker's connection broke."""
        self.peer = None

    # --- words to the worker --------------------------------------------------

    def send_jobs(self, jobs: Sequence[tuple[int, int, int]]) -> None:
        """Raise the limit and send the jobs, telling first what they refer to."""
        if self.peer is None or self.page is None:
            return  # when it connects again, it is asked for what it has done
        if self._void:
            jobs = [job for job in jobs if job[0] not in self._void]
        out: list[bytes] = []
        for run in _runs(jobs):
            if len(run) < LOT or not self._lot(out, run):
                self._singly(out, run)
        if not out:
            return
        crash.point("agent-before-limit")
        self.page.limit = jobs[-1][0]
        crash.point("agent-after-limit")
        if self._forget:
            # Not on its own: it would wake an idle worker up.
            out.insert(0, frames.encode({"op": "forget", "seq": self._forget}))
            self._forget = 0
        self.peer.write(b"".join(out))
        crash.point("agent-after-jobs")

    def _lot(self, out: list[bytes], run: Sequence[tuple[int, int, int]]) -> bool:
        """Add jobs that follow one upon the other as one; False if they are not all alike."""
        seq, job, attempt = run[0]
        facts = self.store.lot_facts(job, run[-1][1])
        if facts is None:
            return False
        task, context, together = facts
        self._tell(out, task, context)
        lot = {"op": "lot", "seq": seq, "job": job, "count": len(run), "attempt": attempt}
        out.append(frames.encode({**lot, "task": task, "context": context}, [together]))
        return True

    def _singly(self, out: list[bytes], jobs: Sequence[tuple[int, int, int]]) -> None:
        headers: list[dict[str, Any]] = []
        args: list[bytes] = []
        extra: list[bytes] = []
        ids = [job for _, job, _ in jobs]
        facts = self.store.function_facts(ids)
        for seq, job, attempt in jobs:
            if job not in facts:
                continue
            blob, encoding, task, context, takes = facts[job]
            self._tell(out, task, context)
            header = {"seq": seq, "job": job, "attempt": attempt, "task": task, "context": context}
            header["encoding"] = encoding or "json"
            if takes:
                results = self.store.run("results_for", (job,)).fetchall()
                header["deps"] = self._dependencies(results, len(facts), extra)
            headers.append(header)
            args.append(blob if blob is not None else b"[[],{}]")
        if headers:
            out.append(frames.encode({"op": "jobs", "jobs": headers}, args + extra))

    def _dependencies(self, results: Sequence[Any], first: int, extra: list[bytes]) -> list[Any]:
        deps = []
        for needs, paths, result, encoding, attempt in results:
            if encoding == "file":
                where: int | str = self.home.job_file(needs, "result", attempt)
            else:
                where = first + len(extra)
                extra.append(result if result is not None else b"null")
            for path in json.loads(paths):
                deps.append([path, encoding or "json", where])
        return deps

    def _tell(self, out: list[bytes], task: int, context: int) -> None:
        if ("context", context) not in self._told:
            self._told.add(("context", context))
            cwd, env, umask, _, path = self.store.row("context", (context,))
            pairs = dict(item.partition("=")[::2] for item in split_items(env))
            told = {"op": "context", "context": context, "cwd": os.fsdecode(cwd), "env": pairs, "umask": umask}
            out.append(frames.encode({**told, "path": split_items(path)}))
        if ("task", task) not in self._told:
            self._told.add(("task", task))
            function, code = self.store.row("task_code", (task,))
            told = {"op": "task", "task": task, "function": function, "pickled": code is not None}
            out.append(frames.encode(told, [] if code is None else [code]))

    def acknowledge(self, seq: int) -> None:
        """Tell the worker, with its next jobs, that outcomes up to ``seq`` are committed."""
        self._forget = max(self._forget, seq)

    def say(self, header: dict[str, Any]) -> None:
        """Send a frame, if it is connected."""
        if self.peer is not None:
            if crash.ARMED:
                crash.point(f"agent-before-worker-{header['op']}")
            self.peer.write(frames.encode(header))
            if crash.ARMED:
                crash.point(f"agent-after-worker-{header['op']}")

    # --- what its files tell --------------------------------------------------

    def take_back(self, seq: int, holding: Iterable[int] = ()) -> bool:
        """Take every job from ``seq`` on back; False if that one has begun.

        Of what the worker holds, ``holding``, some may not have been sent yet: it never will be.
        """
        if self.page is None:
            return True
        limit = self.page.limit
        if not self.page.take_back(seq):
            return False
        self._void.update(held for held in holding if held >= seq and held > limit)
        return True

    def hold_still(self) -> None:
        """Let it begin nothing more until it has said hello and was given jobs anew."""
        if self.page is not None:
            self.page.withhold()

    def started(self) -> int:
        """Give the highest sequence number that it began."""
        return self.page.started if self.page is not None else 0

    def ended(self) -> int:
        """Give the highest sequence number whose outcome is in its journal."""
        return self.page.ended if self.page is not None else 0

    def outcomes(self) -> Sequence[Said]:
        """Read the outcomes in its journal that it was not told to forget."""
        return outcome.read(workfiles.read_journal(os.path.join(self.directory, "journal")))

    def autopsy(self, said: dict[str, Any]) -> WorkerEnd:
        """Say what is known of a worker that is gone; ``said`` is the keeper's word of it."""
        if self.damaged:
            # Any of its jobs may have begun, and it is not known which of them the end concerns.
            return WorkerEnd(sys.maxsize, self.outcomes())
        return WorkerEnd(
            self.started(),
            self.outcomes(),
            pid=said.get("pid"),
            exit_code=said.get("exit_code"),
            signal=said.get("signal"),
            records=b"" if self.page is None else self.page.records(),
            said=self._tail(),
        )

    def _tail(self) -> str:
        try:
            with open(os.path.join(self.directory, "raw"), "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - TAIL))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def clear(self) -> None:
        """Delete its files; it is gone and everything of it is committed."""
        if self.page is not None:
            self.page.close()
            self.page = None
        for name in ("page", "journal", "raw"):
            try:
                os.unlink(os.path.join(self.directory, name))
            except OSError:
                continue
        try:
            os.rmdir(self.directory)
        except OSError:
            return
