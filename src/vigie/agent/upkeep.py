"""The duty of keeping house: retention, checkpoints, backups, idle workers.

Each duty is a step that a test calls directly; the loop around them is shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from vigie import rid
from vigie.agent import clock
from vigie.agent.core import Who
from vigie.agent.writer import sync_failed
from vigie.config import sync_directory
from vigie.errors import StoreError
from vigie.store.copies import backup

if TYPE_CHECKING:
    from vigie.agent.main import Agent

__all__ = ["Upkeep"]

log = logging.getLogger("vigie.agent")

SECOND = 1_000_000
DAY = 86_400 * SECOND
#: Finished jobs are kept this long, failed and lost ones three times as long.
KEEP = 30 * DAY
KEEP_FAILED = 90 * DAY
#: Output in all, bytes.
OUTPUT = 5 << 30
#: Under this much free disk: an event.
LOW_DISK = 1 << 30
#: Jobs removed in one transaction.
MANY = 200
#: At the start, the log is copied into the database file when it is longer than this (bytes).
WAL = 4 << 20
#: Daily backups kept.
BACKUPS = 7


class Upkeep:
    """Steps of the house."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._timers: list[asyncio.TimerHandle] = []
        self._low = False
        #: Commits when it was last looked whether work goes on, and when memory was given back.
        self._quiet_since = self._given_back = -1
        self._offset = clock.offset(agent.clock)

    def start(self) -> None:
        """Begin the rounds."""
        self._every(5.0, self.give_memory_back)
        self._every(60.0, self.tidy)
        self._every(3600.0, self.expire)

    def _every(self, seconds: float, step: Callable[[], None]) -> None:
        def ring() -> None:
            try:
                step()
            except Exception as error:
                if sync_failed(error):
                    self.agent.give_up(error)
                    return
                log.exception("upkeep: %s failed", step.__name__)
            self._every(seconds, step)

        self._timers = [timer for timer in self._timers if not timer.cancelled() and timer.when() > time.monotonic()]
        self._timers.append(self.agent.loop.call_later(seconds, ring))

    def stop(self) -> None:
        """End the rounds."""
        for timer in self._timers:
            timer.cancel()

    # --- small things ---------------------------------------------------------

    def give_memory_back(self) -> None:
        """Give memory back when work has stopped."""
        agent = self.agent
        commits = agent.writer.commits
        if commits == self._quiet_since and commits != self._given_back:
            self._give_back()
            self._given_back = commits
        self._quiet_since = commits

    def _give_back(self) -> None:
        self.agent.store.shrink()
        _trim()

    def trim_log(self) -> None:
        """Copy what the agent before left in the log, if that is much; later the writer sees to it."""
        if self.agent.store.wal_size() > WAL:
            self.agent.store.checkpoint()

    def tidy(self) -> None:
        """Let idle workers go, forget old requests, look at the disk, back up daily."""
        self.agent.writer.post(self._tidy)
        if self._backup_is_old():
            self.backup(None)

    def _tidy(self) -> None:
        agent = self.agent
        agent.staff.retire_idle()
        now = agent.clock.wall()
        # Ids from the future were made before the clock was set back.
        agent.store.run("forget_requests", (rid.earliest(now - DAY), rid.earliest(now + DAY), now - DAY))
        agent.store.run("drop_workers")
        agent.schedules.adopt()
        # After a power cut the input of an acknowledged job may stand there again.
        _drop_old(agent.home.tmp, {row[0] for row in agent.store.run("open_inputs")})
        free = _free(agent.home.root)
        if free < LOW_DISK and not self._low:
            agent.core.log("disk-low", thing="disk", detail={"free": free})
        self._low = free < LOW_DISK

    # --- retention ------------------------------------------------------------

    def expire(self) -> None:
        """Remove what is past its keeping time, and the oldest output over the limit."""
        now = self.agent.clock.wall()
        if abs(clock.offset(self.agent.clock) - self._offset) > DAY:
            # Wrong now or wrong before: what it makes look old may be of today.
            log.warning("the clock was set by days: nothing is removed by its age until the agent is started again")
        else:
            self.agent.writer.post(self._expire_older, now - KEEP, now - KEEP_FAILED, 0)
        self._expire_output()
        self.agent.writer.post(self.agent.schedules.look_at_zones)

    def _expire_older(self, before: int, failed_before: int, after_id: int) -> None:
        agent = self.agent
        rows = agent.store.run("old_finished", (after_id, before, failed_before, MANY)).fetchall()
        for (job,) in rows:
            agent.control.delete(job, Who(program="retention"))
        if rows:
            agent.core.after(agent.writer.post, self._expire_older, before, failed_before, rows[-1][0])
        else:
            self._forget_orphans()
            agent.store.run("timeline_before", (failed_before,))

    def _expire_output(self) -> None:
        """Remove the oldest finished jobs' output until all of it fits, failed ones last."""
        total, sizes = _output_sizes(self.agent.home.jobs)
        if total <= OUTPUT:
            return
        self.agent.writer.post(self._shrink, total, sizes)

    def _shrink(self, total: int, sizes: dict[int, int]) -> None:
        agent = self.agent
        store = agent.store
        ended: list[tuple[bool, int]] = []
        for job in sizes:
            state, finished = store.state_of(job) or (None, None)
            if finished is not None and store.one("wanted_by", (job,)) is None:
                ended.append((state in ("failed", "lost"), job))
        for _, job in sorted(ended):
            if total <= OUTPUT:
                return
            agent.core.log("output-removed", job, who=Who(program="retention"), detail={"bytes": sizes[job]})
            agent.core.after(agent.world.delete_files, job)
            total -= sizes[job]

    def prune(self, older_than: int | None, who: Who) -> dict[str, int]:
        """Remove finished jobs by hand, those that ended more than ``older_than`` µs ago."""
        before = self.agent.clock.wall() - (older_than or 0) + 1
        removed = after = 0
        while True:
            rows = self.agent.store.run("old_finished", (after, before, before, MANY)).fetchall()
            if not rows:
                break
            for (job,) in rows:
                self.agent.control.delete(job, who)
                removed += 1
                after = job
        self._forget_orphans()
        return {"removed": removed}

    def _forget_orphans(self) -> None:
        """Delete what no job refers to any more."""
        store = self.agent.store
        for name in ("orphan_contexts", "orphan_tasks", "orphan_owners"):
            store.run(name)
        store.forget_cached()

    # --- backups --------------------------------------------------------------

    def _backup_is_old(self) -> bool:
        ages = [time.time() - os.stat(os.path.join(self.agent.home.backups, name)).st_mtime for name in self._daily()]
        # One from the future, after the clock was set back, says nothing.
        return self.agent.store.last_id() > 0 and not any(0 <= age <= 86_400 for age in ages)

    def _daily(self) -> list[str]:
        return sorted(n for n in os.listdir(self.agent.home.backups) if n.startswith("daily-") and n.endswith(".db"))

    def backup(self, path: str | None) -> tuple[str, int]:
        """Copy the store; without a path, to ``backups/`` where the newest seven stay.

        Raises
        ------
        StoreError
            When the copy cannot be written.
        """
        home = self.agent.home
        target = path or os.path.join(home.backups, time.strftime("daily-%Y%m%d-%H%M%S.db"))
        try:
            size = backup(self.agent.store.db, os.path.abspath(target))
            sync_directory(os.path.dirname(os.path.abspath(target)))
        except Exception as error:
            raise StoreError(f"no backup in {target}: {error}", "give a path on a disk with room") from None
        self._give_back()  # of the pages of both
        if path is None:
            # Never the one just made, whatever the clock said when the others were.
            others = [name for name in self._daily() if name != os.path.basename(target)]
            for name in others[: -(BACKUPS - 1)]:
                os.unlink(os.path.join(home.backups, name))
        return target, size


def _drop_old(directory: str, wanted: set[str]) -> None:
    """Delete input whose submit never came: its client is gone, or has given up long ago."""
    for entry in os.scandir(directory):
        if entry.name in wanted or not entry.is_file(follow_symlinks=False):
            continue
        if time.time() - entry.stat().st_mtime > 86_400:
            os.unlink(entry.path)


def _free(path: str) -> int:
    info = os.statvfs(path)
    return info.f_bavail * info.f_frsize


def _output_sizes(root: str) -> tuple[int, dict[int, int]]:
    """Give the bytes that all jobs' files take on disk, and each job's."""
    total = 0
    sizes: dict[int, int] = {}
    for directory, _, names in os.walk(root):
        if not names:
            continue
        taken = 0
        for name in names:
            try:
                taken += os.lstat(os.path.join(directory, name)).st_blocks * 512
            except OSError:
                continue
        total += taken
        job = os.path.basename(directory)
        if job.isdigit():
            sizes[int(job)] = taken
    return total, sizes


def _trim() -> None:
    """Give freed memory back to the system: the C library keeps what a burst of work took."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
