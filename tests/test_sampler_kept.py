"""The sampler and the lives of services: silent ones are not looked at, and their index stays small."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from vigie.agent.clock import SystemClock
from vigie.agent.sampler import OLD_ROWS, SECOND, THIN_AFTER, Sampler
from vigie.config import Home
from vigie.logparts import read_gap
from vigie.supervision.plan import Logs

SMALL = Logs(part=32 << 10, total=128 << 10)


class Clock(SystemClock):
    """Real, but for what is added."""

    ahead = 0

    def wall(self) -> int:
        return super().wall() + self.ahead


@asynccontextmanager
async def a_sampler(top: Path) -> AsyncIterator[Sampler]:
    home = Home(str(top / "home"))
    home.create()
    sampler = Sampler(home, Clock(), asyncio.get_running_loop())
    try:
        yield sampler
    finally:
        sampler.close()


async def until_true(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110 - of files and of threads nobody tells us
            await asyncio.sleep(0.005)


def write(sampler: Sampler, data: bytes, stream: str = "out", job: int = 1) -> str:
    path = sampler.home.job_file(job, stream, 1)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "ab") as file:
        file.write(data)
    return path


def keep(sampler: Sampler, logs: Logs = SMALL, job: int = 1) -> None:
    write(sampler, b"", "err", job)
    write(sampler, b"", job=job)
    sampler.begin(job, 1, 1 << 30)
    sampler.keep(job, 1, "web", logs, lambda: [(each, 1) for each in range(1, job + 1)])


@pytest.mark.slow
def test_a_silent_life_is_not_looked_at_and_its_next_line_is_in_the_index(tmp_path: Path) -> None:
    async def main() -> None:
        async with a_sampler(tmp_path) as sampler:
            keep(sampler)
            write(sampler, b"first\n")
            output = sampler._outputs[1, 1]
            await until_true(lambda: output.lengths == (6, 0) and output.next_at == math.inf)
            assert sampler._timer is None, "nobody else is looked at"
            write(sampler, b"second\n", "err")
            await until_true(lambda: output.lengths == (6, 7))
            sampler.flush()
            rows = sampler.db.execute("SELECT out, err FROM lengths ORDER BY at").fetchall()
            assert rows[-2:] == [(6, 0), (6, 7)]

    asyncio.run(main())


@pytest.mark.slow
def test_a_life_has_the_bounds_of_its_service_and_no_limit_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with a_sampler(tmp_path) as sampler:
            keep(sampler)
            sampler._outputs[1, 1].most = 4096
            path = write(sampler, b"a line of the service\n" * 40_000)
            await until_true(lambda: read_gap(path) is not None)
            gap = read_gap(path)
            assert gap is not None
            assert (gap.start, gap.service) == (0, "web")
            sampler.end(1, 1)
            # Its files count when the next life comes.
            keep(sampler, job=2)
            await until_true(lambda: len(sampler.watch.shelves["web"].streams) == 3)
            sampler.forget(1)
            await until_true(lambda: len(sampler.watch.shelves["web"].streams) == 2)

    asyncio.run(main())


@pytest.mark.slow
def test_a_life_that_nobody_named_one_is_not_cut_in_its_middle(tmp_path: Path) -> None:
    """An agent that does not know yet whose file this is: the released head must not be taken for a short file."""

    async def main() -> None:
        async with a_sampler(tmp_path) as sampler:
            keep(sampler)
            path = write(sampler, b"a line of the service\n" * 40_000)
            await until_true(lambda: read_gap(path) is not None)
            sampler.end(1, 1)
            await until_true(lambda: sampler.watch.done == 2)
            before = read_gap(path)
            sampler.begin(1, 1, 4096)
            assert sampler._look(sampler._outputs[1, 1])
            assert read_gap(path) == before

    asyncio.run(main())


@pytest.mark.slow
def test_the_index_of_weeks_of_writing_stays_small(tmp_path: Path) -> None:
    async def main() -> None:
        async with a_sampler(tmp_path) as sampler:
            keep(sampler)
            output = sampler._outputs[1, 1]
            now = sampler.clock.wall()
            sampler.clock.wall = lambda: now  # type: ignore[method-assign]  # rows are of one moment
            weeks = 3 * 7 * 86_400 * SECOND
            count = 60_000
            old = [(1, 1, now - weeks + at * (weeks // count), at, 0) for at in range(count)]
            recent = [(1, 1, now - 90 * SECOND + at * SECOND // 50, count + at, 0) for at in range(4_500)]
            sampler._rows = old + recent
            output.rows = THIN_AFTER
            sampler.flush()
            rows = sampler.db.execute("SELECT at, out FROM lengths ORDER BY at").fetchall()
            assert len(rows) <= 1.1 * OLD_ROWS + 3_600 + 3_100
            # Of the last minute all, of what is before one a second.
            assert [row for row in rows if row[0] >= now - 60 * SECOND] == [
                row[2:4] for row in recent if row[2] >= now - 60 * SECOND
            ]
            assert 28 <= sum(now - 90 * SECOND <= at < now - 60 * SECOND for at, _ in rows) <= 32
            # What is dropped needs no index, but for where it ends.
            write(sampler, b"line\n" * 20_000)
            await until_true(lambda: output.life is not None and len(output.life.streams) == 2)
            assert output.life is not None
            output.life.streams[0].low = count // 2
            sampler.thin(output)
            ((first, least),) = sampler.db.execute("SELECT out, min(at) FROM lengths")
            assert least is not None
            assert count // 2 - 20 <= first <= count // 2

    asyncio.run(main())


@pytest.mark.slow
def test_what_is_older_than_the_age_of_the_logs_goes(tmp_path: Path) -> None:
    async def main() -> None:
        async with a_sampler(tmp_path) as sampler:
            keep(sampler, Logs(age=3_600 * SECOND))
            path = write(sampler, b"old\n" * 3_000)
            output = sampler._outputs[1, 1]
            await until_true(lambda: output.lengths[0] == 12_000)
            sampler.flush()
            sampler.clock.ahead = 1_800 * SECOND  # type: ignore[attr-defined]  # ours
            write(sampler, b"new\n")
            await until_true(lambda: output.lengths[0] == 12_004)
            sampler.flush()
            sampler.expire("web")
            await until_true(lambda: sampler.watch.done == 2)
            assert read_gap(path) is None
            sampler.clock.ahead = 4_000 * SECOND  # type: ignore[attr-defined]  # ours
            sampler.expire("web")
            await until_true(lambda: sampler.watch.done == 3)
            gap = read_gap(path)
            assert gap is not None
            assert gap.end == 12_000

    asyncio.run(main())
