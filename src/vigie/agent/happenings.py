"""The duty of watching for what happens at no known time: a boot, a login, a file, a job's end, quiet.

What can be told inside a transaction (a job's end, the first start after a boot) is
planned by that very transaction. The rest is looked at every second, and only while
some schedule waits for it: a scan of names works on every file system, and one that
takes long is done more seldom. A file is noted as seen by the commit that plans its
firing, so that it is handed out once, whoever dies in between.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vigie import firing as rules
from vigie.agent import presence
from vigie.agent.gates import asks
from vigie.agent.glances import Mark, glance, glances
from vigie.agent.handing import cause_of
from vigie.agent.whens import policy_of, read
from vigie.errors import VigieError
from vigie.store.schedules import ScheduleRow
from vigie.triggers.occasions import AtBoot, AtLogin, OnFile, OnIdle, OnJob, OnRecord

if TYPE_CHECKING:
    from vigie.agent.listening import Listener
    from vigie.agent.schedules import Schedules
    from vigie.triggers.occasions import Occasion

__all__ = ["Happenings"]

#: Seconds between two looks, and how many times longer than a look they are at least.
EVERY = 1.0
SPARING = 20
#: What stands among the files that a schedule has seen for a pattern itself: before it they are new to nobody.
_BEGUN = b"\0"
#: Files of one schedule that are taken in one look.
MANY = 1_000


class Happenings:
    """Turns what happens into planned firings.

    Parameters
    ----------
    duty:
        The schedules, which plan and decide.
    loop:
        The agent's.
    """

    def __init__(self, duty: Schedules, loop: asyncio.AbstractEventLoop) -> None:
        self.duty = duty
        self.loop = loop
        #: Schedules that wait for something, each with what it waits for.
        self.waiting: list[tuple[ScheduleRow, tuple[Occasion, ...]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at: set[type] = set()
        self._pending: dict[tuple[int, bytes], tuple[Mark, int]] = {}
        self._quiet: dict[tuple[int, OnIdle], int | None] = {}
        self._was_here = True
        #: Set by main: hears what jobs write.
        self.listener: Listener | None = None

    # --- who waits ------------------------------------------------------------

    def learn(self) -> None:
        """Learn from the store who waits for what."""
        rows = self.duty.store.with_occasions()
        self.waiting = []
        for row in rows:
            if row.state == "active":
                with self.duty.aside(row.id):
                    self.waiting.append((row, read(row.triggers).occasions))
        self._looks_at = {type(each) for _, occasions in self.waiting for each in occasions}
        ends = bool(self._looks_at & {OnJob, OnRecord})
        self.duty.core.on_end = self.jobs_ended if ends else None
        self.duty.core.after(self._watch)

    def begin(self, boot: str, before: str | None) -> None:
        """Take note of the boot in which the agent runs, and of the last one it knew."""
        self._was_here = presence.logged_in() if before == boot else False
        if self.listener is not None and OnRecord in self._looks_at:
            self.listener.begin()
        if before is not None and before != boot:
            for row, occasions in self.waiting:
                for each in occasions:
                    if isinstance(each, AtBoot):
                        self.happened(row, "boot", each)

    def baseline(self, number: int, occasions: Iterable[Occasion]) -> None:
        """Take the files that are there as seen, of each pattern that the schedule did not have before.

        Raises
        ------
        Refused
            When there are too many of them to look at.
        """
        seen = {path for path, _, _ in self.duty.store.run("seen", (number,))}
        for each in occasions:
            if isinstance(each, OnFile) and _begun(each.pattern) not in seen:
                self.duty.store.run("see", (number, _begun(each.pattern), 0, 0))
                for path, (size, mtime) in glance(each.pattern).items():
                    self.duty.store.run("see", (number, path, size, mtime))

    def happened(self, row: ScheduleRow, cause: str, what: Occasion) -> None:
        """Plan a firing for something that happened now (inside a transaction), unless it lies outside the limits."""
        duty = self.duty
        now = instant = duty.core.clock.wall()
        known = duty.store.numbered(row.id)
        if known is None or known.state != "active" or known.triggers != row.triggers:
            # It was removed, paused or changed since.
            return
        if not read(row.triggers).when.allows(what, now):
            return
        due = now + rules.delay(policy_of(row.policy), row.name, now)
        while not duty.planned(row.id, instant, due, cause=cause):
            instant += 1
        duty.core.after(duty.wake)

    # --- jobs -----------------------------------------------------------------

    def jobs_ended(self, jobs: Sequence[int]) -> None:
        """Take the ends of jobs, inside the transaction that writes them. No schedule waits for its own jobs."""
        for job in jobs:
            if self.listener is not None and OnRecord in self._looks_at:
                self.duty.core.after(self.listener.job_ended, job)
            found = self.duty.store.run("ended_job", (job,)).fetchone()
            if found is None:
                continue
            name, state, schedule, tags = found
            if asks(name, schedule):
                continue
            for row, occasions in self.waiting:
                for each in occasions if schedule != row.name else ():
                    if isinstance(each, OnJob) and each.matches(name, state, tags.split("\n"), schedule):
                        self.happened(row, f"job:{job}", each)
                        break

    # --- looking --------------------------------------------------------------

    def _watch(self) -> None:
        """Look from now on, or no more."""
        wanted = bool(self._looks_at & {OnFile, OnIdle, OnRecord, AtLogin})
        if wanted and self._timer is None:
            self._timer = self.loop.call_later(EVERY, self._look)
        elif not wanted and self._timer is not None:
            self.stop()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.listener is not None:
            self.listener.close()

    def _look(self) -> None:
        """Look: at files in a thread, since a disk may be slow and a tree large."""
        patterns = [each.pattern for _, occasions in self.waiting for each in occasions if isinstance(each, OnFile)]
        began = self.loop.time()
        if not patterns:
            self._looked(began, {})
            return
        future = self.loop.run_in_executor(None, glances, patterns)
        future.add_done_callback(lambda done: self._looked(began, done.result()))

    def _looked(self, began: float, files: dict[str, dict[bytes, Mark] | VigieError]) -> None:
        if self._timer is None:
            return  # nobody wants to know any more
        try:
            self.look(files)
        finally:
            took = self.loop.time() - began
            self._timer = self.loop.call_later(max(EVERY, SPARING * took), self._look)

    def look(self, files: dict[str, dict[bytes, Mark] | VigieError] | None = None) -> None:
        """Look at files (unless they are given, by pattern), sessions, the load and what jobs have written, once."""
        if self.listener is not None and OnRecord in self._looks_at:
            self.listener.look(self.waiting)
        came = AtLogin in self._looks_at and self._somebody_came()
        for row, occasions in self.waiting:
            for each in occasions:
                if isinstance(each, OnFile):
                    self._files(row, each, (glances([each.pattern]) if files is None else files).get(each.pattern, {}))
                elif isinstance(each, OnIdle) and self._is_quiet(row, each):
                    self.duty.writer.post(self.happened, row, "idle", each)
                elif isinstance(each, AtLogin) and came:
                    self.duty.writer.post(self.happened, row, "login", each)

    def _somebody_came(self) -> bool:
        here = presence.logged_in()
        came = here and not self._was_here
        self._was_here = here
        return came

    def _is_quiet(self, row: ScheduleRow, wanted: OnIdle) -> bool:
        """Tell whether the load has now been low for long enough; once until it rises again."""
        key, now = (row.id, wanted), self.duty.core.clock.mono()
        if os.getloadavg()[0] >= wanted.load:
            self._quiet[key] = now
            return False
        since = self._quiet.setdefault(key, now)
        if since is None or now - since < wanted.lasting:
            return False
        if presence.idle_hint() is False:
            # Somebody is at work, however little the machine has to do.
            self._quiet[key] = now
            return False
        self._quiet[key] = None
        return True

    # --- files ----------------------------------------------------------------

    def _files(self, row: ScheduleRow, wanted: OnFile, found: dict[bytes, Mark] | VigieError) -> None:
        if isinstance(found, VigieError):
            self.duty.writer.post(self._give_up, row.id, found)
            return
        seen: dict[bytes, Mark] = {path: (size, mtime) for path, size, mtime in self.duty.store.run("seen", (row.id,))}
        now = self.duty.core.clock.mono()
        new: list[tuple[bytes, Mark]] = []
        for path, mark in found.items():
            if path in seen and (wanted.what == "created" or seen[path] == mark):
                self._pending.pop((row.id, path), None)
            elif wanted.what != "settled" or self._has_settled((row.id, path), mark, now, wanted.settle):
                new.append((path, mark))
        missing = (path for path in seen if path not in found and not path.startswith(_BEGUN))
        gone = [path for path in missing if not os.path.lexists(path)]
        if new or gone:
            self.duty.writer.post(self._take, row, wanted, new[:MANY], gone)

    def _give_up(self, number: int, error: VigieError) -> None:
        with self.duty.aside(number):
            raise error

    def _has_settled(self, key: tuple[int, bytes], mark: Mark, now: int, settle: int) -> bool:
        known, since = self._pending.get(key, (None, now))
        if known != mark:
            self._pending[key] = (mark, now)
            return settle == 0
        return now - since >= settle

    def _take(self, row: ScheduleRow, wanted: OnFile, new: Sequence[tuple[bytes, Mark]], gone: Sequence[bytes]) -> None:
        """Plan a firing for each new file, and note it as seen."""
        store = self.duty.store
        current = store.numbered(row.id)
        if current is None or current.state != "active" or current.triggers != row.triggers:
            return
        seen = {path: (size, mtime) for path, size, mtime in store.run("seen", (row.id,))}
        for path, mark in new:
            if seen.get(path) != mark:
                store.run("see", (row.id, path, *mark))
                self.happened(current, cause_of(path), wanted)
            self._pending.pop((row.id, path), None)
        for path in gone:
            store.run("unsee", (row.id, path))


def _begun(pattern: str) -> bytes:
    return _BEGUN + os.fsencode(pattern)
