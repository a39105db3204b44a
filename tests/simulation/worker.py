"""The worker of production, set into the simulated machine."""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simulation.kernel import NEVER, Proc
from vigie import frames, worker_link
from vigie.outcome import Outcome
from vigie.worker_loop import Worker
from vigie.workfiles import Journal, Page

if TYPE_CHECKING:
    from simulation.world import World


class _Sink:
    """Records of the running job: none, or a few that its spec names."""

    in_child = False

    def __init__(self, page: Page) -> None:
        self.page = page
        self.text: bytes | None = None

    def begin(self, job: int, attempt: int) -> None:
        self.page.clear()
        self.text = None

    def say(self, text: bytes) -> None:
        self.text = text
        self.page.append(text)

    def end(self) -> bytes | None:
        text, self.text = self.text, None
        self.page.clear()
        return text


class _Sources:
    def changed(self) -> None:
        return None

    def note(self, began: int) -> None:
        return


class _Runner:
    """Runs nothing: a job that began goes on until the world ends it."""

    def __init__(self, worker: SimWorker) -> None:
        self.worker = worker
        self.tasks: dict[int, Any] = {}
        self.contexts: dict[int, Any] = {}

    def run(self, job: Any) -> None:
        assert job.task in self.tasks
        assert job.context in self.contexts
        self.worker.run(job)


class _Link(worker_link.Link):
    """The worker's connection; the world makes it."""

    def __init__(self, hello: dict[str, Any]) -> None:
        hello_now = frames.encode(hello)
        self._path = ""
        self._hello = hello_now
        self._sock: Any = None
        self._decoder = frames.Decoder()
        self._lock = contextlib.nullcontext()
        self._empty()


class _Page(Page):
    """Tells when a job has begun, which is when the page says so."""

    begun: Any = None

    def may_start(self, seq: int) -> bool:
        may = super().may_start(seq)
        if may:
            self.begun()
        return may


class _Journal(Journal):
    """Tells when an outcome is in it: from then on it is known."""

    noted: Any = None

    def append_frame(self, seq: int, frame: bytes) -> None:
        super().append_frame(seq, frame)
        self.noted()


class _Worker(Worker):
    def __init__(self, sim: SimWorker, directory: str) -> None:
        self._dir = directory
        self.page = _Page.open(os.path.join(directory, "page"))
        self.page.begun = lambda: sim.begun(self.queue[0])
        self.journal = _Journal(os.path.join(directory, "journal"))
        self.sink = _Sink(self.page)  # type: ignore[assignment]
        self.runner = _Runner(sim)  # type: ignore[assignment]
        hello = {"vigie": 1, "role": "worker", "worker": sim.id, "pid": sim.proc.pid}
        self.link = _Link(hello)
        self.sources = _Sources()  # type: ignore[assignment]
        self.queue = deque()
        self._last = self.page.started
        self._quitting = False
        self._done = 0
        self._looked = 0
        self._weighed = 0
        self._weight = 0

    def _outworn(self, now: int) -> str | None:
        return None


class SimWorker:
    """One worker process."""

    def __init__(self, world: World, proc: Proc, number: int) -> None:
        self.world = world
        self.proc = proc
        self.id = number
        self.worker: _Worker | None = None
        self.over = False
        self.running: Any = None
        self.deed: Any = None
        self.end_at = NEVER
        self.started_wall = self.started_mono = 0
        proc.on_death = self.died

    @property
    def real(self) -> _Worker:
        assert self.worker is not None
        return self.worker

    def todo(self) -> list[Callable[[], Any]]:
        """Give what it could do now."""
        if self.proc.state != "S":
            return []
        if self.worker is None:
            return [self.start]
        if self.running is not None:
            return [self.finish] if self.world.kernel.mono_us >= self.end_at else []
        worker = self.worker
        sock = worker.link._sock
        if sock is None:
            agent = self.world.agent
            return [self.connect] if agent is not None and agent.listening else []
        found: list[Callable[[], Any]] = [self.receive] if sock.readable else []
        if worker.queue:
            found.append(self.go_on)
        elif worker.link.since:
            found.append(self.flush)
        return found

    def flush(self) -> None:
        """Send what waits, as the flusher does."""
        self.real.link.flush()

    def start(self) -> None:
        self.worker = _Worker(self, self.world.home.worker_dir(self.id))

    def connect(self) -> None:
        """Do as ``Link.connect``."""
        agent = self.world.agent
        if agent is None or not agent.listening:
            return
        # Its own process accepts: the connection is there before the agent looks.
        me, self.world.kernel.me = self.world.kernel.me, None
        end = agent.connect("worker")
        self.world.kernel.me = me
        link = self.real.link
        self.real.page.fill_holes()
        link._decoder = frames.Decoder()
        link._sock = end
        link._send(link._hello)

    def receive(self) -> None:
        """Take what came, and work."""
        worker = self.real
        if self.running is not None or not worker.link._sock.readable:
            return
        got = worker.link.receive(block=True)
        if got is None:
            worker.queue.clear()
            worker.link.drop()
            return
        for frame in got:
            worker._take(*frame)
        self.go_on()

    def go_on(self) -> None:
        """Do one round of ``Worker._serve``."""
        worker = self.real
        if self.running is not None:
            return
        reason = worker._work()
        if reason is None and not worker.queue and self.running is None:
            worker.link.flush()
            if worker._quitting:
                reason = "quit"
        if reason is not None:
            self.leave(reason)

    def leave(self, reason: str) -> None:
        self.real._leave(reason)
        self.world.kernel.die(self.proc, 0)

    def begun(self, job: Any) -> None:
        """Take note that a job has begun."""
        self.deed = self.world.begin_function(self, job)

    def run(self, job: Any) -> None:
        """Have a job run, until :meth:`finish`."""
        self.running = job
        spec = self.deed.spec
        if spec.get("says"):
            self.real.sink.say(b'{"t":1,"s":"output","text":"%d"}\n' % job.job)  # type: ignore[attr-defined]
        self.started_wall, self.started_mono = self.world.kernel.wall_us, self.world.kernel.mono_us
        self.end_at = self.started_mono + spec["d"]
        self.proc.deaf = bool(spec.get("deaf"))

    def finish(self) -> None:
        """Have the running job come to its end."""
        job, deed, kernel = self.running, self.deed, self.world.kernel
        spec = deed.spec
        how = spec.get("how", "return")
        if how == "_exit":
            kernel.die(self.proc, (spec["code"] & 255) << 8)
            return
        if how == "killed":
            kernel.die(self.proc, 9)
            return
        self.running, self.end_at, self.proc.deaf = None, NEVER, False
        took = kernel.mono_us - self.started_mono
        code, error, encoding, result = None, None, None, None
        if how == "return" or (how == "exit" and not spec["code"]):
            how, encoding = "return", "json"
            result = json.dumps([job.job, job.attempt]).encode()
        elif how == "exit":
            code = int(spec["code"])
        else:
            error = json.dumps({"type": "ValueError", "message": "bad", "traceback": "", "pickled": False})
        # Thousands finish in the time of a real one: the wall clock may have been set meanwhile.
        outcome = Outcome(
            job.seq, job.job, job.attempt, started=self.started_wall, finished=self.started_wall + took, duration=took,
            cpu=1, rss=1, at=kernel.mono_us * 1000, how=how, code=code, encoding=encoding, error=error, result=result,
        )  # fmt: skip
        self.real.journal.noted = lambda: deed.end(how, code)  # type: ignore[attr-defined]
        reason = self.real._finish(outcome)
        if reason is None and spec.get("litters"):
            reason = "children"
        if reason is not None:
            self.leave(reason)
            return
        if not self.real.queue:
            self.go_on()

    def died(self) -> None:
        self.over = True
        if self.worker is not None:
            sock: Any = self.worker.link._sock
            if sock is not None:
                sock.close()
            self.worker.page.close()
            self.worker.journal.close()
        if self.deed is not None:
            self.deed.died()
        self.world.workers.pop(self.proc.pid, None)
