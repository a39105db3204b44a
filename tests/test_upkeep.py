"""Keeping house, each step called directly on a real agent in this process."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import vigie
from conftest import HomeUnderTest, until
from vigie import pidfd
from vigie.agent import upkeep
from vigie.agent.claim import make_secret
from vigie.agent.clock import SystemClock
from vigie.agent.main import Agent

pytestmark = pytest.mark.slow
DAY = 86_400_000_000


class Shifted:
    """The real clocks, ahead by as much as the test says (µs): so much time has passed."""

    def __init__(self) -> None:
        self.shift = 0

    def wall(self) -> int:
        return time.time_ns() // 1000 + self.shift

    def mono(self) -> int:
        return time.monotonic_ns() // 1000

    def offset(self) -> int:
        return SystemClock().offset()


@asynccontextmanager
async def serving(home: HomeUnderTest) -> AsyncIterator[Agent]:
    agent = Agent(home, asyncio.get_running_loop())
    agent.clock = agent.core.clock = Shifted()  # type: ignore[assignment]
    running = asyncio.ensure_future(agent.run())
    try:
        await asyncio.to_thread(until, lambda: agent.dispatch.open or running.done())
        yield agent
    finally:
        agent.stop()
        await running
        pidfd.set_subreaper(on=False)


@pytest.fixture
def live(home: HomeUnderTest) -> Callable[[Callable[[Agent], object]], None]:
    """Run a step on a live agent of the test's home: ``live(step)``; blocking calls go to threads."""
    home.create()
    make_secret(home)

    def run(step: Callable[[Agent], object]) -> None:
        async def main() -> None:
            async with serving(home) as agent:
                done = step(agent)
                if asyncio.iscoroutine(done):
                    await done

        asyncio.run(main())

    return run


async def finished(line: str, **options: object) -> vigie.Job:
    job = await asyncio.to_thread(lambda: vigie.start(["/bin/sh", "-c", line], **options))
    return await asyncio.to_thread(job.wait, 30)


async def settle(agent: Agent) -> None:
    """Wait until everything posted is committed and carried out."""
    for _ in range(3):
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        agent.writer.post(lambda: None, answer=lambda value, error, told=told: told.set_result(None))
        await told


def test_finished_jobs_go_after_thirty_days_and_failed_ones_after_ninety(
    live: Callable[..., None], home: HomeUnderTest
) -> None:
    async def step(agent: Agent) -> None:
        good = await finished("echo good")
        bad = await finished("echo bad; exit 1")
        ends = []
        for days in (29, 31, 91):
            agent.clock.shift = days * DAY  # type: ignore[attr-defined]
            agent.upkeep.expire()
            await settle(agent)
            ends.append([agent.store.job(job.id) is not None for job in (good, bad)])
        assert ends == [[True, True], [False, True], [False, False]]
        assert not os.path.exists(home.job_dir(good.id))
        # Contexts hold secrets: gone with their last job.
        assert agent.store.db.execute("SELECT count(*) FROM contexts").fetchone()[0] == 0
        assert agent.store.db.execute("SELECT count(*) FROM tasks").fetchone()[0] == 0

    live(step)


def test_running_jobs_never_expire(live: Callable[..., None], tmp_path: Path) -> None:
    async def step(agent: Agent) -> None:
        end = tmp_path / "end"
        job = await asyncio.to_thread(vigie.start, ["/bin/sh", "-c", f"while [ ! -e {end} ]; do sleep 0.02; done"])
        agent.clock.shift = 400 * DAY  # type: ignore[attr-defined]
        agent.upkeep.expire()
        await settle(agent)
        assert agent.store.job(job.id) is not None
        end.touch()
        agent.clock.shift = 0  # type: ignore[attr-defined]
        await asyncio.to_thread(job.wait, 30)

    live(step)


def test_output_over_the_limit_goes_oldest_first_and_failed_last(
    live: Callable[..., None], home: HomeUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def step(agent: Agent) -> None:
        write = "head -c 400000 /dev/zero | tr '\\0' x"
        bad = await finished(f"{write}; exit 1")
        jobs = [await finished(write) for _ in range(3)]
        monkeypatch.setattr(upkeep, "OUTPUT", 900_000)
        agent.upkeep.expire()
        await settle(agent)
        kept = [os.path.exists(home.job_file(job.id, "out")) for job in [bad, *jobs]]
        assert kept == [True, False, False, True]
        verbs = [row[0] for row in agent.store.db.execute("SELECT verb FROM events WHERE job = ?", (jobs[0].id,))]
        assert "output-removed" in verbs

    live(step)


def test_a_daily_backup_is_made_and_seven_are_kept(live: Callable[..., None], home: HomeUnderTest) -> None:
    async def step(agent: Agent) -> None:
        await finished("true")
        agent.upkeep.tidy()
        await settle(agent)
        first = os.listdir(home.backups)
        assert len(first) == 1
        agent.upkeep.tidy()
        assert os.listdir(home.backups) == first
        for day in range(1, 12):
            Path(home.backups, f"daily-2020010{day:02d}-000000.db").touch()
        agent.upkeep.backup(None)
        assert len(os.listdir(home.backups)) == upkeep.BACKUPS

    live(step)


def test_a_clock_that_was_set_removes_no_history(
    live: Callable[..., None], home: HomeUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def step(agent: Agent) -> None:
        job = await finished("true")
        year = 365 * DAY
        agent.clock.shift = year  # type: ignore[attr-defined]
        before = SystemClock().offset()
        monkeypatch.setattr(Shifted, "offset", lambda self: before + year)
        agent.upkeep.expire()
        await settle(agent)
        assert agent.store.job(job.id) is not None

    live(step)


def test_backups_go_on_after_the_clock_was_set_back(live: Callable[..., None], home: HomeUnderTest) -> None:
    """Those from the future are neither young nor more worth than the one just made."""

    async def step(agent: Agent) -> None:
        await finished("true")
        for day in range(1, 9):
            future = Path(home.backups, f"daily-2099010{day}-000000.db")
            future.touch()
            os.utime(future, (4e9, 4e9))
        agent.upkeep.tidy()
        await settle(agent)
        (made,) = [name for name in os.listdir(home.backups) if "2099" not in name]
        agent.upkeep.tidy()
        assert [name for name in os.listdir(home.backups) if "2099" not in name] == [made]
        assert len(os.listdir(home.backups)) == upkeep.BACKUPS

    live(step)


def test_low_disk_is_said_once(live: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def step(agent: Agent) -> None:
        monkeypatch.setattr(upkeep, "LOW_DISK", 1 << 60)
        for _ in range(3):
            agent.upkeep.tidy()
            await settle(agent)
        said = agent.store.db.execute("SELECT count(*) FROM events WHERE verb = 'disk-low'").fetchone()[0]
        assert said == 1

    live(step)


def test_answers_are_forgotten_after_a_day_and_old_input_too(live: Callable[..., None], home: HomeUnderTest) -> None:
    async def step(agent: Agent) -> None:
        await finished("true")
        old = Path(home.tmp, "0123.in")
        old.write_bytes(b"x")
        os.utime(old, (0, 0))
        new = Path(home.tmp, "4567.in")
        new.write_bytes(b"x")
        wall = agent.clock.wall()
        # As if made before the clock was set, in either direction.
        foreign = [b"\xff" * 16, bytes(16)]
        for rid in foreign:
            agent.writer.post(agent.store.run, "remember", (rid, wall, "{}"))
        await settle(agent)
        kept = "SELECT rid FROM requests ORDER BY rid"
        before = agent.store.db.execute(kept).fetchall()
        assert len(before) > len(foreign)
        agent.upkeep.tidy()
        await settle(agent)
        assert agent.store.db.execute(kept).fetchall() == before
        agent.clock.shift = 2 * DAY  # type: ignore[attr-defined]
        agent.upkeep.tidy()
        await settle(agent)
        assert agent.store.db.execute(kept).fetchall() == []
        assert (old.exists(), new.exists()) == (False, True)

    live(step)


def test_the_input_of_an_open_job_is_never_taken_for_a_stray(live: Callable[..., None], home: HomeUnderTest) -> None:
    """A power cut may take back its move, and then it stands in tmp/ again."""

    async def step(agent: Agent) -> None:
        job = await asyncio.to_thread(lambda: vigie.start(["cat"], stdin=b"given", delay=3600))
        (name,) = agent.store.db.execute("SELECT stdin FROM jobs WHERE id = ?", (job.id,)).fetchone()
        back = Path(home.tmp, name)
        os.rename(home.job_file(job.id, "in"), back)
        os.utime(back, (0, 0))
        agent.upkeep.tidy()
        await settle(agent)
        assert back.read_bytes() == b"given"

    live(step)


def test_a_long_log_is_copied_into_the_database_file(
    live: Callable[..., None], home: HomeUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def step(agent: Agent) -> None:
        await finished("true")
        before = os.stat(home.db).st_size
        monkeypatch.setattr(agent.store, "log_is_long", lambda: True)
        await finished("true")
        assert os.stat(home.db).st_size > before

    live(step)


def test_what_an_agent_left_in_the_log_is_copied_by_the_next(
    live: Callable[..., None], home: HomeUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def step(agent: Agent) -> None:
        await finished("true")
        before = os.stat(home.db).st_size
        monkeypatch.setattr(upkeep, "WAL", 0)
        agent.upkeep.trim_log()
        assert os.stat(home.db).st_size > before

    live(step)


def test_idle_workers_are_let_go(live: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def step(agent: Agent) -> None:
        job = await asyncio.to_thread(vigie.start, abs, -3)
        assert await asyncio.to_thread(job.result, 30) == 3
        assert len(agent.dispatch.workers) == 1
        monkeypatch.setattr("vigie.agent.staff.IDLE", -1)
        agent.upkeep.tidy()
        await asyncio.to_thread(until, lambda: not agent.dispatch.workers)

    live(step)


def test_max_output_keeps_head_and_tail(live: Callable[..., None], home: HomeUnderTest) -> None:
    async def step(agent: Agent) -> None:
        line = (
            "i=0; while [ $i -lt 40 ]; do head -c 100000 /dev/zero | tr '\\0' x; i=$((i+1)); sleep 0.02; done; echo end"
        )
        job = await finished("echo begin; " + line, max_output="1 MB")
        path = home.job_file(job.id, "out")
        info = os.stat(path)
        assert info.st_size == 4_000_010
        assert info.st_blocks * 512 < 2_500_000
        gap = json.loads(Path(path + ".gap").read_text())
        data = Path(path).read_bytes()
        assert data.startswith(b"begin\nxxx")
        assert data.endswith(b"xend\n")
        assert set(data[gap["from"] : gap["to"]]) == {0}
        texts = "".join(record.text or "" for record in await asyncio.to_thread(job.logs))
        assert "\0" not in texts
        assert texts.startswith("begin\n")
        assert texts.endswith("xend\n")

    live(step)


def test_every_write_of_a_person_is_in_the_timeline(live: Callable[..., None]) -> None:
    async def step(agent: Agent) -> None:
        job = await finished("exit 1")
        await asyncio.to_thread(job.retry)
        await asyncio.to_thread(job.wait, 30)
        rows = agent.store.db.execute(
            "SELECT verb, uid, pid, program FROM events WHERE job = ? AND program IS NOT NULL", (job.id,)
        ).fetchall()
        assert [row[0] for row in rows] == ["submitted", "retry"]
        assert {row[1:] for row in rows} == {(os.geteuid(), os.getpid(), "python")}

    live(step)
