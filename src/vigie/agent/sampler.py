"""The duty of watching output grow: the index of a command's streams, and their limit.

Commands write straight into files, so nothing passes through us; we look at the
lengths, at most every 20 ms while they grow and ever more rarely while they do
not. Between two samples the order of the streams is unknown.

What services write has another limit, over all of their lives: two threads see to it
(:mod:`vigie.agent.logwatch`). Of a life that is silent they tell when it is written to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apsw

from vigie import crash
from vigie.agent import holes
from vigie.agent.blanks import Blanks
from vigie.agent.logwatch import Life, LogWatch
from vigie.config import Home
from vigie.logparts import Gap, read_gap, write_gap
from vigie.ports import Clock
from vigie.store import sql
from vigie.supervision.plan import Logs

__all__ = ["Sampler"]

log = logging.getLogger("vigie.agent")

FASTEST = 0.02
SLOWEST = 0.25
#: Rows wait at most this long (s) for their commit; it is not a durable one.
COMMIT = 0.5
SECOND = 1_000_000
#: Of a life of a service, after so many new rows older ones are thinned out: the last minute has
#: them all, the last hour one a second, and what is older about so many.
THIN_AFTER = 4_000
OLD_ROWS = 8_000

_STORE = os.path.join(os.path.dirname(__file__), "..", "store")
_SQL = sql.load("samples_kept")


@dataclass
class _Output:
    job: int
    attempt: int
    paths: tuple[str, str]
    most: int
    #: Nothing else is in its directory.
    alone: bool = False
    lengths: tuple[int, int] = (0, 0)
    gaps: tuple[int, int] = (0, 0)
    pause: float = FASTEST
    next_at: float = 0.0
    #: Of the life of a service: who keeps its files, and rows since they were thinned out.
    life: Life | None = None
    rows: int = 0


class Sampler:
    """Samples the output of running commands into ``samples.db``."""

    def __init__(self, home: Home, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self.home = home
        self.clock = clock
        self.loop = loop
        self.db = _open(home.samples)
        self._outputs: dict[tuple[int, int], _Output] = {}
        self.blanks = Blanks(home, loop)
        self._rows: list[tuple[int, int, int, int, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._commit: asyncio.TimerHandle | None = None
        #: Set by main: told, with (service, text), what keeps the logs of a service from their bounds.
        self.on_problem: Callable[[str, str], None] = lambda service, text: None
        self.watch = LogWatch(self._call(self._woken), self._call(self._problem), home.job_dir)
        #: Services whose logs have an age (µs), and when they are looked at for it.
        self._ages: dict[str, int] = {}
        self._age_timer: asyncio.TimerHandle | None = None

    def spawn(self, job: int, attempt: int, most: int, *, new: bool) -> str | None:
        """Watch the output of an attempt that goes to the keeper now.

        If its job is ``new``, and has no files, give a directory that it may have.
        """
        self.begin(job, attempt, most)
        self._outputs[job, attempt].alone = new
        return self.blanks.take() if new else None

    def begin(self, job: int, attempt: int, most: int) -> None:
        """Watch the output of an attempt that runs."""
        file = self.home.job_file
        paths = (file(job, "out", attempt), file(job, "err", attempt))
        self._outputs[job, attempt] = _Output(job, attempt, paths, most, next_at=self.loop.time() + FASTEST)
        self._arm()

    def keep(
        self, job: int, attempt: int, service: str, logs: Logs, lives: Callable[[], Sequence[tuple[int, int]]]
    ) -> None:
        """Keep an attempt that is watched within the bounds of a service's logs instead of a limit of its own.

        Parameters
        ----------
        service, logs:
            Whose life it is, and how much is kept of all of its lives together.
        lives:
            Gives (job, attempts) of all of them that are in the store.
        """
        output = self._outputs.get((job, attempt))
        if output is None:
            return
        output.life = output.life or Life(job, attempt, service, output.paths)
        self.watch.keep(output.life, logs, list(lives()), self.home.job_file)
        self._ages.pop(service, None)
        if logs.age is not None:
            self._ages[service] = logs.age
            self._age_after(self._age_pause())

    def end(self, job: int, attempt: int) -> None:
        """Take the last sample of an attempt; empty files are not kept."""
        output = self._outputs.pop((job, attempt), None)
        if output is None:
            return
        self._look(output)
        if output.life is not None:
            self.watch.end(output.life)
        if all(output.lengths):
            # Whoever waits for the end reads the two streams in their order.
            self.flush()
        if output.alone and not any(output.lengths) and self.blanks.leave(job):
            return
        for path, length in zip(output.paths, output.lengths, strict=True):
            if not length:
                with contextlib.suppress(OSError):
                    os.unlink(path)
        if not any(output.lengths):
            with contextlib.suppress(OSError):  # unless something else is in it
                os.rmdir(self.home.job_dir(job))

    def _arm(self) -> None:
        if self._timer is None and self._outputs:
            first = min(output.next_at for output in self._outputs.values())
            if first == math.inf:
                return
            self._timer = self.loop.call_at(max(first, self.loop.time() + 0.005), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self.loop.time()
        for output in self._outputs.values():
            if output.next_at <= now + 0.002:
                grown = self._look(output)
                output.pause = FASTEST if grown else min(output.pause * 1.5, SLOWEST)
                output.next_at = now + output.pause
                if output.pause == SLOWEST and output.life is not None and self.watch.wakes:
                    self._let_sleep(output, output.life)
        self._arm()

    def _let_sleep(self, output: _Output, life: Life) -> None:
        """Look no more until the life is written to."""
        life.dormant = True
        # Once more: who writes before it is known that we sleep has woken nobody.
        if self._look(output):
            life.dormant = False
        else:
            output.next_at = math.inf

    def _woken(self, job: int, attempt: int) -> None:
        output = self._outputs.get((job, attempt))
        if output is not None:
            self._look(output)
            output.pause = FASTEST
            output.next_at = self.loop.time() + FASTEST
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._arm()

    def _problem(self, service: str, text: str) -> None:
        self.on_problem(service, text)

    def _call(self, work: Callable[..., None]) -> Callable[..., None]:
        """Give what has the loop do something, from any thread."""

        def call(*args: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(work, *args)

        return call

    def _look(self, output: _Output) -> bool:
        lengths = (_length(output.paths[0]), _length(output.paths[1]))
        if lengths == output.lengths:
            return False
        output.lengths = lengths
        self._rows.append((output.job, output.attempt, self.clock.wall(), *lengths))
        if self._commit is None:
            self._commit = self.loop.call_later(COMMIT, self.flush)
        if output.life is not None:
            output.rows += 1
        elif max(lengths) > output.most:
            try:
                self._limit(output)
            except OSError as error:
                log.warning("the output of job %d is not kept to its limit: %s", output.job, error)
        return True

    def flush(self) -> None:
        """Write the samples taken so far."""
        if self._commit is not None:
            self._commit.cancel()
            self._commit = None
        rows, self._rows = self._rows, []
        if not rows:
            return
        try:
            with self.db:
                self.db.executemany("INSERT OR REPLACE INTO lengths VALUES (?, ?, ?, ?, ?)", rows)
                for output in self._outputs.values():
                    if output.rows >= THIN_AFTER:
                        self.thin(output)
                crash.point("samples-before-commit")
            crash.point("samples-after-commit")
        except apsw.Error as error:
            log.warning("samples not written: %s", error)

    def thin(self, output: _Output) -> None:
        """Delete samples of a life of a service: of what is dropped, and most of what is old."""
        output.rows = 0
        assert output.life is not None
        of = (output.job, output.attempt)
        ((kept,),) = self.db.execute(_SQL["kept_from"], (*of, *output.life.low))
        if kept is not None:
            self.db.execute(_SQL["drop_before"], (*of, kept))
        now = self.clock.wall()
        ((first,),) = self.db.execute(_SQL["first"], of)
        hour = now - 3_600 * SECOND
        if first is not None and first < hour:
            step = max(SECOND, (hour - first) // OLD_ROWS)
            self.db.execute(_SQL["thin_out"], (*of, hour, *of, hour, step))
        minute = now - 60 * SECOND
        self.db.execute(_SQL["thin_out_recent"], (*of, hour, minute, *of, hour, minute, SECOND))

    # --- the age of logs --------------------------------------------------------

    def _age_pause(self) -> float:
        return min(3_600.0, max(1.0, min(self._ages.values(), default=0) / SECOND / 32))

    def _age_after(self, seconds: float) -> None:
        if self._age_timer is not None:
            self._age_timer.cancel()
        self._age_timer = self.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        self._age_timer = None
        try:
            for service in self._ages:
                self.expire(service)
        except apsw.Error as error:
            log.warning("the age of logs is not looked at: %s", error)
        if self._ages:
            self._age_after(self._age_pause())

    def expire(self, service: str) -> None:
        """Let go of what a service wrote longer ago than its logs are kept."""
        before = self.clock.wall() - self._ages[service]
        heads: list[tuple[str, int]] = []
        for output in self._outputs.values():
            if output.life is not None and output.life.service == service:
                row = self.db.execute(_SQL["length_at"], (output.job, output.attempt, before)).fetchone()
                heads += zip(output.paths, row or (0, 0), strict=True)
        self.watch.expire(service, before / SECOND, heads)

    def forget(self, job: int) -> None:
        """Delete the samples of a removed job."""
        self.watch.forget(job)
        try:
            crash.point("samples-before-delete")
            self.db.execute("DELETE FROM lengths WHERE job = ?", (job,))
            crash.point("samples-after-delete")
        except apsw.Error as error:
            log.warning("samples of job %d not deleted: %s", job, error)

    def close(self) -> None:
        """Write what is left and close."""
        if self._age_timer is not None:
            self._age_timer.cancel()
        self.watch.close()
        self.blanks.clear()
        self.flush()
        self.db.close()

    # --- the limit ------------------------------------------------------------

    def _limit(self, output: _Output) -> None:
        """Release the middle of a stream that is over its limit: head and tail stay."""
        half = max(4096, output.most // 2 // 4096 * 4096)
        if any((gap := read_gap(path)) is not None and gap.service for path in output.paths):
            return  # a service's, of which we were not told
        gaps = list(output.gaps)
        for i, (path, length) in enumerate(zip(output.paths, output.lengths, strict=True)):
            end = (length - half) // 4096 * 4096
            # Not for every few bytes: in steps of an eighth of the limit.
            if length > output.most and end - max(half, gaps[i]) >= output.most // 8:
                gaps[i] = end
                # Said before it is done: no reader takes released bytes for written ones.
                write_gap(path, Gap(half, end))
                with contextlib.suppress(OSError):  # where no file system can, the file grows
                    holes.punch(path, half, end)
        output.gaps = (gaps[0], gaps[1])


def _open(path: str) -> apsw.Connection:
    """Open the samples, anew if they are damaged: without them only the order of streams is not known."""
    try:
        return _connect(path)
    except (apsw.NotADBError, apsw.CorruptError) as error:
        log.error("%s is damaged (%s); it is kept as %s.damaged", path, error, path)
        os.replace(path, path + ".damaged")
        for name in (path + "-wal", path + "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        return _connect(path)
    except apsw.Error as error:
        log.error("%s cannot be written (%s); the order of the streams is not kept by this agent", path, error)
        return _connect(":memory:")


def _connect(path: str) -> apsw.Connection:
    db = apsw.Connection(path)
    try:
        db.set_busy_timeout(2_000)
        db.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")
        with open(os.path.join(_STORE, "samples.sql"), encoding="utf-8") as file:
            db.execute(file.read())
    except BaseException:
        db.close()
        raise
    return db


def _length(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
