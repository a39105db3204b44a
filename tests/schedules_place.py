"""Schedules with a real store and a clock that is set by hand; nothing is handed out, jobs end when told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock

from vigie import declaration
from vigie.agent.control import Control
from vigie.agent.core import Core, Who
from vigie.agent.dispatch import Dispatch
from vigie.agent.marks import Marks
from vigie.agent.schedule_control import ScheduleControl
from vigie.agent.schedules import Schedules
from vigie.agent.writer import Writer
from vigie.errors import VigieError
from vigie.store.sqlite import Store

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def us(text: str) -> int:
    """Give µs UTC of ``2026-03-01 02:00`` (UTC, unless an offset is given)."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(microseconds=1)


class Firing(NamedTuple):
    at: str
    outcome: str | None
    reason: str | None
    job: int | None
    count: int


class Clock:
    def __init__(self, now: int) -> None:
        self.now = now
        self.since_boot = 0
        self.slept = 0

    def wall(self) -> int:
        return self.now

    def mono(self) -> int:
        return self.since_boot

    def asleep(self) -> int:
        return self.slept

    def pass_by(self, by: int) -> None:
        self.now += by
        self.since_boot += by


class Place:
    """One agent's worth of schedules."""

    def __init__(
        self, path: Path, now: str = "2026-03-01 12:00", *, boot: str = "boot", clock: Clock | None = None
    ) -> None:
        self.path = path
        self.clock = clock or Clock(us(now))
        self.loop = asyncio.new_event_loop()
        self.store = Store(str(path / "vigie.db"))
        self.hands = Mock()
        self.core = Core(self.store, self.clock, self.hands, ("host", "agent", boot), Marks("/h"))
        self.dispatch = Dispatch(self.core, 2)
        self.writer = Writer(self.core, self.dispatch, self.loop)
        self.control = Control(self.core, self.dispatch)
        self.duty = Schedules(self.core, self.writer, self.loop)
        self.hands.finished.side_effect = self.duty.job_ended
        self.asked = ScheduleControl(self.core, self.duty)
        self.core.learners.append(self.duty.learn)
        self.core.moved = self.duty.clock_set
        self.core.reload()
        self.begin()

    def begin(self) -> None:
        self.writer.post(self.duty.begin)
        self.turn()

    def close(self) -> None:
        self.duty.close()
        self.loop.close()
        self.store.close()

    def turn(self) -> None:
        """Let all that is posted happen."""
        for _ in range(100):
            commits = self.writer.commits
            for _ in range(4):
                self.loop.call_soon(self.loop.stop)
                self.loop.run_forever()
            if self.writer.commits == commits:
                return

    def ask(self, work: Any, *args: Any) -> Any:
        answers: list[tuple[Any, VigieError | None]] = []
        self.writer.post(work, *args, answer=lambda value, error: answers.append((value, error)))
        self.turn()
        ((value, error),) = answers
        if error is not None:
            raise error
        return value

    # --- what people do -------------------------------------------------------

    def add(self, name: str, when: Any, *, replace: bool = False, **table: Any) -> dict[str, Any]:
        words = {"run": ["true"], "timezone": "UTC", "when": when, **table}
        found = declaration.schedule(name, words, now=self.clock.now, base=str(self.path))
        fields, blobs = found.request(replace=replace)
        return self.ask(self.asked.set, fields, blobs, Who())

    def do(self, verb: str, name: str, **more: Any) -> dict[str, Any]:
        return self.ask(getattr(self.asked, verb), {"name": name, **more}, Who())

    # --- time -----------------------------------------------------------------

    def until(self, when: str | int) -> None:
        """Let time pass up to an instant, waking whenever the schedules want to."""
        end = when if isinstance(when, int) else us(when)
        while True:
            wake = self.next_wake()
            if wake is None or wake > end:
                break
            self.clock.pass_by(max(0, wake - self.clock.now))
            before = self.clock.now, self.next_wake()
            self.step()
            if (self.clock.now, self.next_wake()) == before:
                self.clock.pass_by(1)
        self.clock.pass_by(end - self.clock.now)
        self.step()

    def next_wake(self) -> int | None:
        times = [self.duty.heap[0][0]] if self.duty.heap else []
        times += [
            at for at in (self.duty.store.first("next_due"), self.duty.store.first("next_until")) if at is not None
        ]
        return min(times, default=None)

    def step(self) -> None:
        self.duty.wake()
        self.turn()

    def jump(self, by: int) -> None:
        """Set the wall clock."""
        self.clock.now += by
        self.ask(self.control.clock_set, by)
        self.step()

    def sleep(self, by: int) -> None:
        """Let the machine sleep."""
        self.clock.now += by
        self.clock.slept += by
        self.step()

    def again(self, later: int = 0, *, boot: str = "boot") -> Place:
        """Kill the agent, and start another so much later."""
        self.close()
        self.clock.pass_by(later)
        return Place(self.path, boot=boot, clock=self.clock)

    # --- jobs -----------------------------------------------------------------

    def end(self, *jobs: int) -> None:
        """End jobs that wait, as stopped."""
        self.ask(self.control.stop, {"ids": list(jobs)}, Who())

    def complete(self, job: int) -> None:
        """End one as completed."""

        def work() -> None:
            self.store.db.execute(
                "UPDATE jobs SET state = 'completed', finished = ?, epoch = epoch + 1 WHERE id = ?",
                (self.clock.now, job),
            )
            if self.core.on_end is not None:
                self.core.on_end((job,))
            self.core.after(self.duty.job_ended, job)

        self.ask(work)

    def jobs(self, name: str | None = None) -> list[int]:
        rows = self.store.db.execute("SELECT id FROM jobs WHERE ?1 IS NULL OR schedule = ?1 ORDER BY id", (name,))
        return [job for (job,) in rows]

    def job(self, job: int) -> dict[str, Any]:
        cursor = self.store.db.execute("SELECT * FROM jobs WHERE id = ?", (job,))
        names = [column[0] for column in cursor.getdescription()]
        return dict(zip(names, cursor.fetchone(), strict=True))

    def firings(self, name: str) -> list[Firing]:
        rows = self.store.db.execute(
            "SELECT f.instant, f.outcome, f.reason, f.job, f.count FROM firings f JOIN schedules s ON s.id = f.schedule"
            " WHERE s.name = ? ORDER BY f.instant",
            (name,),
        )
        return [Firing(shown(at), outcome, reason, job, count) for at, outcome, reason, job, count in rows]

    def decided(self, name: str) -> list[tuple[str, str | None, str | None]]:
        return [(each.at, each.outcome, each.reason) for each in self.firings(name) if each.outcome is not None]

    def row(self, name: str) -> Any:
        return self.duty.store.named(name)


def shown(at: int) -> str:
    moment = EPOCH + timedelta(microseconds=at)
    return moment.strftime("%m-%d %H:%M" + (":%S" if at % MINUTE else ""))
