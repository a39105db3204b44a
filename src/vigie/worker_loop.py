"""The worker's life: receive jobs, run them in turn, journal and report outcomes.

See "Agent and worker" in docs/explanation/internals.md. The worker loads this file
by path, as everything it imports.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections import deque

from . import crash, worker_watch
from .worker_context import Context, Surroundings, interruptible
from .worker_hooks import Hooks
from .worker_link import LATEST, Flusher, Link
from .worker_run import Job, Runner, Task
from .worker_streams import Recorder, Sink
from .workfiles import Journal, Page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from .outcome import Outcome

__all__ = ["Worker", "main"]

#: A worker ends after so many jobs, or when it has grown so much (bytes).
MOST_JOBS = 100_000
MOST_GROWTH = 500_000_000
#: How often to look for frames between the jobs of a batch (ns).
_LOOK = 5_000_000
#: In so short a time (µs) no process can be made: to ask whether there is one takes longer than such a job.
_INSTANT = 20


class Worker:
    """One worker.

    Parameters
    ----------
    home:
        The home of the agent.
    number:
        The worker's id.
    """

    def __init__(self, home: str, number: int) -> None:
        self._dir = os.path.join(home, "workers", str(number))
        os.makedirs(self._dir, mode=0o700, exist_ok=True)
        path = os.path.join(self._dir, "page")
        self.page = Page.open(path) if os.path.exists(path) else Page.create(path)
        self.journal = Journal(os.path.join(self._dir, "journal"))
        self.sink = Sink(self.page, home)
        interrupts = interruptible()
        out, err = Recorder(self.sink, "output", 1), Recorder(self.sink, "error", 2)
        self.scene = Surroundings(home, out, err, self.sink.has_raw)
        self.runner = Runner(home, self.sink, self.scene, Hooks(self.sink), interrupts)
        version = "%d.%d.%d" % sys.version_info[:3]
        hello = {"vigie": 1, "role": "worker", "worker": number, "pid": os.getpid()}
        hello.update(python=version, prefix=sys.prefix)
        self.link = Link(os.path.join(home, "agent.sock"), hello)
        self.flusher = Flusher(self.sink, self.link)
        self.sources = worker_watch.Sources()
        self.queue: deque[Job] = deque()
        self._last = self.page.started
        self._quitting = False
        self._done = 0
        self._looked = 0
        self._weighed = 0
        self._weight = 0

    def live(self) -> None:
        """Serve agents until one says quit, none comes, or the worker is unfit."""
        worker_watch.become_subreaper()
        sys.modules["_vigie"].record = self.sink.record  # type: ignore[attr-defined]
        self._weight = worker_watch.resident()
        self.flusher.start()
        while self.link.connect(lambda: os.path.isdir(self._dir), self.page.fill_holes):
            reason = self._serve()
            self.flusher.rest()
            if reason is not None:
                self._leave(reason)
                return
            self.queue.clear()
            self.link.drop()

    def _serve(self) -> str | None:
        """Work for one agent; give the reason to leave, or None when it is gone."""
        while True:
            if not self.queue:
                self.link.flush()
                if crash.ARMED and self._done:
                    crash.point("worker-after-report")
                if self._quitting:
                    return "quit"
                self.flusher.rest()
                self.scene.rest()
                frames = self.link.receive(block=True)
                self.flusher.work()
                self.sink.resync()
                self.runner.start_clock()
            elif time.monotonic_ns() - self._looked > _LOOK:
                frames = self.link.receive(block=False)
            else:
                frames = []
            if frames is None:
                return None
            self._looked = time.monotonic_ns()
            for frame in frames:
                self._take(*frame)
            reason = self._work()
            if reason is not None:
                return reason

    def _take(self, header: dict[str, Any], blobs: list[bytes]) -> None:
        """Take one frame from the agent; what is unknown is left."""
        op = header.get("op")
        if op == "jobs":
            for at, job in enumerate(header["jobs"]):
                self.queue.append(Job(job, at == 0, blobs[at], blobs))
                self._last = job["seq"]
        elif op == "lot":
            self.queue.extend(Job.lot(header, blobs[0]))
            self._last = header["seq"] + header["count"] - 1
        elif op == "forget":
            crash.point("worker-before-forget")
            self.journal.forget(int(header["seq"]))
            crash.point("worker-after-forget")
        elif op == "task":
            code = blobs[0] if header.get("pickled") else None
            self.runner.tasks[header["task"]] = Task(header.get("function"), code)
        elif op == "context":
            self.runner.contexts[header["context"]] = Context(header)
        elif op == "quit":
            self._quitting = True

    def _work(self) -> str | None:
        """Run jobs until there is reason to look at the socket; give the reason to leave, if any."""
        while self.queue:
            job = self.queue[0]
            if self._quitting:
                return "quit"
            if job.first and self.sources.changed() is not None:
                return "stale"
            outcome = self._begin(job)
            if outcome is None:
                return None
            reason = self._finish(outcome)
            if reason is not None:
                return reason
            if outcome.at - self.link.since > LATEST:
                self.link.flush()
            if outcome.at - self._looked > _LOOK:
                return None
        return None

    def _begin(self, job: Job) -> Outcome | None:
        """Run the first job of the queue, unless it was taken back."""
        if crash.ARMED:
            crash.point("worker-before-started")
        self.sink.begin(job.job, job.attempt)
        if not self.page.may_start(job.seq):
            self.sink.end()
            self._hold(job.seq)
            return None
        self.queue.popleft()
        if crash.ARMED:
            crash.point("worker-after-started")
        began = time.time_ns()
        outcome = self.runner.run(job)
        self.sources.note(began)
        return outcome

    def _hold(self, seq: int) -> None:
        """Leave out a job that must not start."""
        out = 1 if self.page.taken(seq) else len(self.queue)
        # Over the limit the others wait no longer either: it might rise again between two of them,
        # and then ``started`` would no longer tell what began.
        crash.point("worker-before-held")
        for _ in range(out):
            self.link.say({"op": "held", "seq": self.queue.popleft().seq})
        crash.point("worker-after-held")

    def _finish(self, outcome: Outcome) -> str | None:
        """Journal and report an outcome; give the reason to leave, if there is one."""
        reason = None
        if outcome.duration > _INSTANT and worker_watch.has_children():
            left = worker_watch.stop_children()
            if left:
                many = "1 process" if len(left) == 1 else f"{len(left)} processes"
                text = f"the job left {many} behind, now stopped: {', '.join(left)}"
                self.sink.record("warning", text=text, level="warning")
                reason = "children"
        outcome.records = self.sink.end()
        if crash.ARMED:
            crash.point("worker-after-run")
        try:
            self.journal.append_frame(outcome.seq, outcome.frame())
        except OSError:
            # The disk is full: only the agent's commit can keep it now.
            self.link.put(outcome)
            self.link.flush()
        else:
            if crash.ARMED:
                crash.point("worker-after-journal")
            self.page.ended = outcome.seq
            crash.point("worker-after-ended")
            self.link.put(outcome)
        self._done += 1
        return reason or self._outworn(outcome.at)

    def _outworn(self, now: int) -> str | None:
        if self._done >= MOST_JOBS:
            return "count"
        if self._done % 100 == 0 or now - self._weighed > 1_000_000_000:
            self._weighed = now
            if worker_watch.resident() - self._weight > MOST_GROWTH:
                return "grown"
        return None

    def _leave(self, reason: str) -> None:
        start = self.queue[0].seq if self.queue else max(self._last, self.page.started) + 1
        crash.point("worker-before-leave")
        self.link.say({"op": "leave", "reason": reason, "from": start})
        crash.point("worker-after-leave")


def _end() -> NoReturn:
    """Run what was registered with atexit, for 2 s at most, and end."""
    limit = threading.Timer(2.0, os._exit, (0,))
    limit.daemon = True
    limit.start()
    atexit._run_exitfuncs()
    os._exit(0)


def main(argv: list[str]) -> NoReturn:
    """Run ``worker.py HOME ID``."""
    if len(argv) != 3 or not argv[2].isdigit():
        sys.exit("usage: worker.py HOME ID")
    Worker(os.path.abspath(argv[1]), int(argv[2])).live()
    _end()
