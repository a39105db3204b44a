"""Two threads that keep the output of services within its bounds, whatever else the agent does.

One looks at the lengths of files. How often, the bound says: a program that writes as fast
as memory takes it must not get far over it between two looks. What is silent costs nothing:
the kernel wakes us for the next write where it can (inotify). The other one packs heads
into parts, and waits for the disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence

from vigie import crash
from vigie.agent import holes
from vigie.agent.loghead import Shelf, Stream
from vigie.agent.modified import Modified
from vigie.agent.prompt import be_prompt
from vigie.logparts import Part
from vigie.supervision.plan import Logs

__all__ = ["Life", "LogWatch"]

log = logging.getLogger("vigie.agent")

#: Bytes a second of a writer that we are ready for, and a bound (bytes) below which such a one is over it anyway.
FULL_SPEED = 2_000_000_000
LITTLE = 10_000_000
#: Seconds between two looks at a file that grows; at one that does not where nobody can wake us.
FASTEST, SLOWEST = 0.001, 0.05
BLIND = 0.25
#: After an error, seconds until the next try.
PATIENCE = 1.0
#: Who fills the whole bound in this time (s) floods it; packing waits so long to see whether somebody does.
FLOOD = 0.25
CALM = 0.05
#: Bytes packed at a time, and how well: 100 MB/s of text, to a twelfth.
STEP = 1 << 18
LEVEL = 4
#: The first guess at how many bytes a second are packed.
SPEED = 40_000_000


class Life:
    """One life of a service: its two files, and how it is watched.

    Attributes
    ----------
    paths:
        Of ``out`` and ``err``.
    dormant:
        Nobody samples its lengths: tell when it is written to.
    low:
        How much of the heads of its two files is not in them any more.
    """

    def __init__(self, job: int, attempt: int, service: str, paths: tuple[str, str]) -> None:
        self.job = job
        self.attempt = attempt
        self.service = service
        self.paths = paths
        self.dormant = False
        self.streams: list[Stream] = []

    @property
    def low(self) -> tuple[int, int]:
        """See above."""
        found = {stream.path: stream.low for stream in self.streams}
        return found.get(self.paths[0], 0), found.get(self.paths[1], 0)


class _Watched:
    """A stream that may grow: since when it is watched, when it is looked at next, and whether the kernel wakes us."""

    __slots__ = ("armed", "due", "life", "shelf", "since", "stream")

    def __init__(self, stream: Stream, shelf: _Kept, life: Life, now: float) -> None:
        self.stream = stream
        self.shelf = shelf
        self.life = life
        self.since = self.due = now
        self.armed = False


class _Kept(Shelf):
    """A shelf with the speed at which it is written to."""

    rate = 0.0
    #: How many of its files are looked at now.
    active = 0
    _grown = 0
    _since = 0.0
    #: Of its trouble a person was told.
    told = False

    def grew(self, count: int, now: float) -> None:
        """Take note of growth."""
        self._grown += count
        took = now - self._since
        if took >= 0.005:
            fresh = self._grown / took
            self.rate = fresh if took > 1 else max(fresh, self.rate * 0.8)
            self._grown, self._since = 0, now
            self.flooded = self.rate * FLOOD > self.logs.total

    def rest(self) -> None:
        """Take note that nothing grows."""
        self.rate, self._grown, self._since, self.flooded = 0.0, 0, time.monotonic(), False

    @property
    def pause(self) -> float:
        """Seconds in which a writer does not fill what is left until it is far too much, however fast it gets."""
        room = 1.8 * max(self.logs.total, LITTLE) - self.used
        return min(SLOWEST, max(FASTEST, room / max(1.5 * FULL_SPEED, 4 * self.rate)))


class LogWatch:
    """Keeps what services have written within their bounds.

    Parameters
    ----------
    woken:
        Called from a thread of ours with (job, attempt) of a dormant life that was written to.
    problem:
        Called from there with (service, text) of what keeps its logs from their bounds, once.
    directory_of:
        Gives the directory of a job.
    punch:
        What releases a range of a file.
    """

    def __init__(
        self,
        woken: Callable[[int, int], None],
        problem: Callable[[str, str], None],
        directory_of: Callable[[int], str],
        punch: Callable[[str, int, int], None] = holes.punch,
    ) -> None:
        self._woken = woken
        self._problem = problem
        self._directory_of = directory_of
        self._punch = punch
        self.lock = threading.Lock()
        self.shelves: dict[str, _Kept] = {}
        self._watched: dict[str, _Watched] = {}
        self._active: set[_Watched] = set()
        self._orders: deque[Callable[[float], None]] = deque()
        self._modified: Modified | None = None
        self._bell = (-1, -1)
        self._threads: list[threading.Thread] = []
        self._work = threading.Event()
        self._closing = False
        self._stop = threading.Event()
        self._speed = float(SPEED)
        #: Orders that were carried out, for tests.
        self.done = 0

    # --- from the loop ----------------------------------------------------------

    def keep(self, life: Life, logs: Logs, lives: Sequence[tuple[int, int]], files: Callable[..., str]) -> None:
        """Keep a life under way, and all lives of its service, (job, attempts), within the bound."""
        self._order(lambda now: self._keep(life, logs, lives, files, now))

    def end(self, life: Life) -> None:
        """Take note that a life is over; its files stay, within the bound."""
        self._order(lambda now: self._end(life, now))

    def forget(self, job: int) -> None:
        """Take note that the files of a job are deleted."""
        if self._threads:
            self._order(lambda now: self._forget(job))

    def expire(self, service: str, before: float, heads: Sequence[tuple[str, int]]) -> None:
        """Let go of what a service wrote before an instant (s): of files under way, what is before these offsets."""
        self._order(lambda now: self._expire(service, before, heads))

    def close(self) -> None:
        """End the threads; what is half done is finished by who comes after us."""
        self._closing = True
        self._stop.set()
        if not self._threads:
            return
        self._ring()
        self._work.set()
        for thread in self._threads:
            thread.join(5.0)
        if self._modified is not None:
            self._modified.close()
        for fd in self._bell:
            os.close(fd)

    @property
    def wakes(self) -> bool:
        """Whether the kernel wakes us, so that what is silent need not be looked at."""
        return self._modified is not None and self._modified.fd >= 0

    def _order(self, order: Callable[[float], None]) -> None:
        if not self._threads:
            self._bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
            self._modified = Modified()
            for work in (self._look_on, self._pack_on):
                thread = threading.Thread(target=work, name=f"vigie-logs-{work.__name__}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._orders.append(order)
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._bell[1], b"x")

    # --- orders -------------------------------------------------------------------

    def _keep(
        self, life: Life, logs: Logs, lives: Sequence[tuple[int, int]], files: Callable[..., str], now: float
    ) -> None:
        shelf = self.shelves.get(life.service)
        fresh = shelf is None
        if shelf is None:
            shelf = self.shelves[life.service] = _Kept(life.service, logs, self._punch)
        shelf.logs = logs
        for path in life.paths:
            stream = shelf.add(life.job, life.attempt, path, living=True)
            if stream is not None and path not in self._watched:
                life.streams.append(stream)
                watched = self._watched[path] = _Watched(stream, shelf, life, now)
                self._wake(watched)
        known = {stream.job for stream in shelf.streams.values()}
        for job, attempts in lives:
            for attempt in range(1, attempts + 1) if job not in known else ():
                for name in ("out", "err"):
                    shelf.add(job, attempt, files(job, name, attempt), living=False)
        if fresh:
            shelf.debt = shelf.used
        self._fit(shelf)
        self._work.set()

    def _end(self, life: Life, now: float) -> None:
        shelf = self.shelves.get(life.service)
        for stream in life.streams:
            watched = self._watched.pop(stream.path, None)
            if watched is not None:
                self._leave(watched)
            if shelf is not None:
                shelf.end(stream)
        if shelf is not None:
            self._fit(shelf)
            shelf.rest()
            self._work.set()

    def _forget(self, job: int) -> None:
        for path in [path for path, watched in self._watched.items() if watched.stream.job == job]:
            self._leave(self._watched.pop(path))
        for name, shelf in list(self.shelves.items()):
            shelf.forget(job)
            if not shelf.streams:
                del self.shelves[name]
        # A part that was being written when all else went keeps its directory.
        shutil.rmtree(self._directory_of(job), ignore_errors=True)

    def _expire(self, service: str, before: float, heads: Sequence[tuple[str, int]]) -> None:
        shelf = self.shelves.get(service)
        if shelf is None:
            return
        shelf.expire(before)
        for path, end in heads:
            stream = shelf.streams.get(path)
            if stream is not None:
                shelf.expire_head(stream, end)

    # --- looking ------------------------------------------------------------------

    def _look_on(self) -> None:
        """Look until the end: the first thread."""
        be_prompt()
        poll = select.poll()
        poll.register(self._bell[0], select.POLLIN)
        assert self._modified is not None
        if self._modified.fd >= 0:
            poll.register(self._modified.fd, select.POLLIN)
        while not self._closing:
            wait = None
            if self._active:
                wait = max(0.0, min(one.due for one in self._active) - time.monotonic()) * 1000
            ready = [fd for fd, _ in poll.poll(wait)]
            if self._bell[0] in ready:
                os.read(self._bell[0], 4096)
            with self.lock:
                try:
                    self._round(woken=self._modified.fd in ready)
                except Exception:
                    log.exception("the logs of services: a look failed")
                    time.sleep(FASTEST)

    def _round(self, *, woken: bool) -> None:
        now = time.monotonic()
        while self._orders:
            order = self._orders.popleft()
            try:
                order(now)
            except OSError as error:
                log.warning("the logs of services: %s", error)
            self.done += 1
        if woken and self._modified is not None:
            for path in self._modified.take():
                watched = self._watched.get(path)
                if watched is not None:
                    watched.armed, watched.due = False, now
                    self._wake(watched)
        for watched in [one for one in self._active if one.due <= now + 0.0002]:
            try:
                self._look(watched, now)
            except FileNotFoundError:
                self._drop(watched)
            except OSError as error:
                watched.due = now + PATIENCE
                self._trouble(watched.shelf, str(error))

    def _look(self, watched: _Watched, now: float) -> None:
        if self._take_growth(watched, now):
            return
        shelf, stream = watched.shelf, watched.stream
        if not stream.size and not os.path.exists(stream.path):
            # It is about to be made, or waits for its turn.
            watched.due = now + min(SLOWEST, max(FASTEST, (now - watched.since) / 20))
        elif watched.armed or (self._modified is not None and self._modified.watch(stream.path)):
            watched.armed = True
            # Once more: who wrote before the watch stood has woken nobody.
            if not self._take_growth(watched, now):
                self._leave(watched)
                if not shelf.active:
                    shelf.rest()
                    self._work.set()
        else:
            watched.due = now + BLIND

    def _take_growth(self, watched: _Watched, now: float) -> bool:
        """Take note of what was written since the last look; False if that is nothing."""
        shelf, stream = watched.shelf, watched.stream
        grown = shelf.look(stream)
        if not grown:
            return False
        shelf.grew(grown, now)
        if watched.life.dormant:
            watched.life.dormant = False
            self._woken(watched.life.job, watched.life.attempt)
        self._fit(shelf)
        watched.due = now + shelf.pause
        if stream.plain > shelf.logs.part // 2:
            self._work.set()
        return True

    def _wake(self, watched: _Watched) -> None:
        if watched not in self._active:
            self._active.add(watched)
            watched.shelf.active += 1

    def _leave(self, watched: _Watched) -> None:
        if watched in self._active:
            self._active.remove(watched)
            watched.shelf.active -= 1

    def _drop(self, watched: _Watched) -> None:
        self._leave(watched)
        self._watched.pop(watched.stream.path, None)
        watched.shelf.lose(watched.stream)

    def _fit(self, shelf: _Kept) -> None:
        shelf.fit()
        if shelf.used > shelf.logs.total and shelf.rigid:
            self._trouble(shelf, "the file system can release no part of a file: they grow without a bound")

    def _trouble(self, shelf: _Kept, text: str) -> None:
        if not shelf.told:
            shelf.told = True
            log.warning("the logs of %s are not kept within their bounds: %s", shelf.service, text)
            self._problem(shelf.service, text)

    # --- packing ------------------------------------------------------------------

    def _pack_on(self) -> None:
        """Pack until the end: the second thread."""
        while not self._closing:
            self._work.wait()
            self._stop.wait(CALM)
            self._work.clear()
            while not self._closing and self.pack_one():
                pass

    def pack_one(self) -> bool:
        """Pack the next piece, if there is one that is worth it; True if there was."""
        with self.lock:
            found = self._next_piece()
        if found is None:
            return False
        shelf, stream, end = found
        part = Part.at(stream.path, stream.low, end)
        try:
            return self._pack(shelf, stream, part)
        except FileNotFoundError:
            return False
        except OSError as error:
            with self.lock:
                self._trouble(shelf, str(error))
            return False

    def _next_piece(self) -> tuple[_Kept, Stream, int] | None:
        for shelf in list(self.shelves.values()):
            piece = None
            with contextlib.suppress(OSError):  # its job is being removed
                piece = shelf.next_piece() if shelf.rate < self._speed / 2 else None
            if piece is not None:
                return shelf, *piece
            if shelf.debt:
                shelf.debt = 0
                self._fit(shelf)
        return None

    def _pack(self, shelf: _Kept, stream: Stream, part: Part) -> bool:
        fresh = part.path + ".part"
        done = False
        try:
            done = self._write(shelf, stream, part, fresh)
            if not done:
                return False
            crash.point("logs-before-part")
            # Not under the lock: it may wait for the disk. Nobody asks for it before the mark has moved.
            os.rename(fresh, part.path)
            size = os.stat(part.path).st_blocks * 512
            with self.lock:
                done = stream.low == part.start and shelf.streams.get(stream.path) is stream
                if done:
                    shelf.moved(stream, part, size)
                    shelf.fit()
        finally:
            for name in (fresh,) if done else (fresh, part.path):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
        return True

    def _write(self, shelf: _Kept, stream: Stream, part: Part, fresh: str) -> bool:
        """Write the part, and wait for the disk; False if its bytes went meanwhile, or would have to."""
        packer = zlib.compressobj(LEVEL, wbits=31)
        began = time.monotonic()
        source = os.open(stream.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with open(fresh, "wb", opener=_private) as file:
                at = part.start
                while at < part.end:
                    data = os.pread(source, min(STEP, part.end - at), at)
                    if not data or stream.low != part.start or shelf.rate > self._speed or self._closing:
                        return False
                    at += len(data)
                    file.write(packer.compress(data))
                file.write(packer.flush())
                self._speed += ((part.end - part.start) / max(1e-6, time.monotonic() - began) - self._speed) / 8
                file.flush()
                os.fsync(file.fileno())
        finally:
            os.close(source)
        return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
