"""The duty of watching output grow: the index of a command's streams, and their limit.

Commands write straight into files, so nothing passes through us; we look at the
lengths, at most every 20 ms while they grow and ever more rarely while they do
not. Between two samples the order of the streams is unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
from dataclasses import dataclass

import apsw

from vigie import crash
from vigie.agent.blanks import Blanks
from vigie.config import Home
from vigie.ports import Clock

__all__ = ["Sampler"]

log = logging.getLogger("vigie.agent")

FASTEST = 0.02
SLOWEST = 0.25
#: Rows wait at most this long (s) for their commit; it is not a durable one.
COMMIT = 0.5
_KEEP_SIZE, _PUNCH = 1, 2


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

    def end(self, job: int, attempt: int) -> None:
        """Take the last sample of an attempt; empty files are not kept."""
        output = self._outputs.pop((job, attempt), None)
        if output is None:
            return
        self._look(output)
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
            self._timer = self.loop.call_at(max(first, self.loop.time() + 0.005), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self.loop.time()
        for output in self._outputs.values():
            if output.next_at <= now + 0.002:
                grown = self._look(output)
                output.pause = FASTEST if grown else min(output.pause * 1.5, SLOWEST)
                output.next_at = now + output.pause
        self._arm()

    def _look(self, output: _Output) -> bool:
        lengths = (_length(output.paths[0]), _length(output.paths[1]))
        if lengths == output.lengths:
            return False
        output.lengths = lengths
        self._rows.append((output.job, output.attempt, self.clock.wall(), *lengths))
        if self._commit is None:
            self._commit = self.loop.call_later(COMMIT, self.flush)
        if max(lengths) > output.most:
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
                crash.point("samples-before-commit")
            crash.point("samples-after-commit")
        except apsw.Error as error:
            log.warning("samples not written: %s", error)

    def forget(self, job: int) -> None:
        """Delete the samples of a removed job."""
        try:
            crash.point("samples-before-delete")
            self.db.execute("DELETE FROM lengths WHERE job = ?", (job,))
            crash.point("samples-after-delete")
        except apsw.Error as error:
            log.warning("samples of job %d not deleted: %s", job, error)

    def close(self) -> None:
        """Write what is left and close."""
        self.blanks.clear()
        self.flush()
        self.db.close()

    # --- the limit ------------------------------------------------------------

    def _limit(self, output: _Output) -> None:
        """Release the middle of a stream that is over its limit: head and tail stay."""
        half = max(4096, output.most // 2 // 4096 * 4096)
        gaps = list(output.gaps)
        for i, (path, length) in enumerate(zip(output.paths, output.lengths, strict=True)):
            end = (length - half) // 4096 * 4096
            # Not for every few bytes: in steps of an eighth of the limit.
            if length > output.most and end - max(half, gaps[i]) >= output.most // 8:
                gaps[i] = end
                # Said before it is done: no reader takes released bytes for written ones.
                with open(path + ".gap.part", "w", encoding="ascii") as file:
                    json.dump({"from": half, "to": end}, file)
                os.replace(path + ".gap.part", path + ".gap")
                _punch(path, half, end)
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
        with open(os.path.join(os.path.dirname(__file__), "..", "store", "samples.sql"), encoding="utf-8") as file:
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


def _punch(path: str, start: int, end: int) -> bool:
    """Release the blocks of a file between two offsets; its length stays."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        fallocate = libc.fallocate
    except (OSError, AttributeError):
        return False
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    try:
        fd = os.open(path, os.O_WRONLY)
    except OSError:
        return False
    try:
        return bool(fallocate(fd, _KEEP_SIZE | _PUNCH, start, end - start) == 0)
    finally:
        os.close(fd)
