"""What a job writes: typed, in order, while it runs, and of every attempt."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import vigie
import work
from conftest import HomeUnderTest, until
from job_calls import command, until_there

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("home")]


def test_records_come_in_order_and_typed() -> None:
    job = vigie.start(work.talk)
    assert job.result(30) == "done"
    records = job.logs()
    assert [(r.stream, r.text.strip() if r.text else r.value) for r in records if r.stream != "result"] == [
        ("output", "printed"),
        ("error", "complained"),
        ("warning", records[2].text.strip()),
        ("error", "logged"),
        ("output", {"yielded": 1}),
        ("output", (1, 2)),
        ("output", "last"),
    ]
    times = [r.time for r in records]
    assert times == sorted(times)


def test_receive_gives_what_is_new() -> None:
    job = command("echo one; echo two").wait(30)
    assert job.receive(keep=True) == ["one\n", "two\n"]
    assert job.receive() == ["one\n", "two\n"]
    assert job.receive() == []
    assert job.receive(reader="another") == ["one\n", "two\n"]


def test_bytes_are_kept_exactly(tmp_path: Path, home: HomeUnderTest) -> None:
    blob = os.urandom(200_000) + b"\x00\n\xff" + b"y" * 5_000_000
    (tmp_path / "in").write_bytes(blob)
    job = vigie.start(["cat"], stdin=str(tmp_path / "in")).wait(30)
    assert Path(home.job_file(job.id, "out")).read_bytes() == blob


def test_live_records_come_while_it_runs(tmp_path: Path) -> None:
    job = command(f"echo one; {until_there(tmp_path / 'go')}; echo two")
    seen = []
    for record in job:
        seen.append(record.text)
        (tmp_path / "go").touch()
    assert seen == ["one\n", "two\n"]


def test_records_can_be_awaited() -> None:
    async def read() -> list[str | None]:
        return [record.text async for record in command("echo a; echo b")]

    assert asyncio.run(read()) == ["a\n", "b\n"]


def test_records_of_every_attempt_stay(tmp_path: Path) -> None:
    """The first attempts' records are small and would be overwritten by the last one's."""
    job = vigie.task(retries=2, backoff=0.01)(_say_and_fail).start(str(tmp_path / "n")).wait(30)
    job.retry()
    until(lambda: job.done() and job.info()["attempt"] == 6)
    assert [record.text for record in job.logs() if record.stream == "output"] == [f"try {i}\n" for i in range(1, 7)]


def _say_and_fail(counter: str) -> None:
    work.witness(counter, "x")
    print("try", Path(counter).read_text().count("x"))
    raise RuntimeError("again")


def test_the_order_of_two_streams_is_known_at_the_end() -> None:
    job = command("echo a; sleep 0.1; echo b >&2; sleep 0.1; echo c").wait(30)
    assert [(record.stream, record.text) for record in job.logs()] == [
        ("output", "a\n"),
        ("error", "b\n"),
        ("output", "c\n"),
    ]


def test_empty_files_of_an_attempt_that_is_retried_do_not_stay(home: HomeUnderTest) -> None:
    job = command("echo x; exit 1", retries=1, backoff=0.01).wait(30)
    assert sorted(os.listdir(home.job_dir(job.id))) == ["out", "out.2"]
