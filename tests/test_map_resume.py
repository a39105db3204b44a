"""``vigie.map(resume=…)``: whatever ends a run, the next one does the rest, and gives the whole."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import vigie
from conftest import until
from vigie.errors import Conflict, UsageError
from vigie.parallel.resume import ResumeWarning

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("home")]  # its journals are in a home of the test's own

PLACES = ["processes", "threads", "inline"]


def counted(log: Path, fails: frozenset[int] = frozenset()) -> Any:
    def square(number: int) -> int:
        with open(log, "a") as file:
            file.write(f"{number}\n")
        if number in fails:
            raise ValueError(number)
        return number * number

    return square


def seen(log: Path) -> list[int]:
    return sorted(map(int, log.read_text().split())) if log.exists() else []


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("on", PLACES)
def test_the_second_run_does_the_rest_and_gives_the_whole(on: Any, ordered: bool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    options: Any = {"on": on, "ordered": ordered, "resume": "squares"}
    fails = frozenset({3, 70})
    first = list(vigie.map(counted(log, fails), range(100), errors="skip", **options))
    assert sorted(first) == sorted(number * number for number in range(100) if number not in fails)
    log.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResumeWarning)  # another set of failing items is other code
        whole = list(vigie.map(counted(log), range(120), **options))
    assert (whole if ordered else sorted(whole)) == [number * number for number in range(120)]
    assert seen(log) == [3, 70, *range(100, 120)]


def test_what_was_told_is_never_computed_again_whatever_kills_the_program(tmp_path: Path) -> None:
    log, script, told = tmp_path / "log", tmp_path / "script.py", tmp_path / "told"
    script.write_text(
        f"""
import vigie
def square(number):
    with open({str(log)!r}, "a") as file:
        file.write(f"{{number}}\\n")
    return number * number
with open({str(told)!r}, "a") as out:
    for number, value in enumerate(vigie.map(square, range(3000), limit=2, resume="killed")):
        assert value == number * number
        out.write(f"{{number}}\\n")
        out.flush()
"""
    )
    chance = random.Random(5)
    known: set[int] = set()
    for _ in range(6):
        if log.exists():
            log.unlink()
        before = told.stat().st_size if told.exists() else 0
        program = subprocess.Popen([sys.executable, script])
        wanted = before + chance.randrange(200, 2000)
        until(lambda: program.poll() is not None or (told.exists() and told.stat().st_size > wanted))  # noqa: B023
        program.send_signal(signal.SIGKILL)
        program.wait()
        assert not known & set(seen(log)), "it was told, and computed again"
        lines = told.read_text().split("\n")[:-1]
        known = set(map(int, lines))
        told.write_text("")
    assert subprocess.run([sys.executable, script], check=False).returncode == 0
    assert set(map(int, told.read_text().split())) == set(range(3000))


def test_items_are_told_apart_by_the_key(tmp_path: Path) -> None:
    log = tmp_path / "log"
    work = counted(log)
    items = [{"id": number, "seen": time.time()} for number in range(10)]

    def of(item: dict[str, Any]) -> int:
        return int(work(item["id"]))

    list(vigie.map(of, items, on="inline", resume="keys", key=lambda item: item["id"]))
    for item in items:
        item["seen"] = 0
    assert list(vigie.map(of, items, on="inline", resume="keys", key=lambda item: item["id"])) == [
        number * number for number in range(10)
    ]
    assert seen(log) == list(range(10))


def test_fresh_forgets(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        list(vigie.map(counted(log), range(5), on="inline", resume="fresh", fresh=True))
    assert seen(log) == sorted([*range(5)] * 2)


def test_other_code_is_told_of_once() -> None:
    list(vigie.map(lambda x: x + 1, range(5), on="inline", resume="code"))
    with pytest.warns(ResumeWarning, match="5 results are of the earlier code"):
        assert list(vigie.map(lambda x: x + 2, range(6), on="inline", resume="code")) == [1, 2, 3, 4, 5, 7]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(vigie.map(lambda x: x + 2, range(6), on="inline", resume="code"))


def test_two_runs_of_one_name_at_once_are_refused() -> None:
    run = vigie.map(abs, range(5), on="inline", resume="one")
    next(run)
    with pytest.raises(Conflict):
        vigie.map(abs, range(5), resume="one")
    run.close()
    assert list(vigie.map(abs, range(5), resume="one")) == list(range(5))


def test_large_values_come_from_the_journal_too() -> None:
    for _ in range(2):
        assert [len(value) for value in vigie.map(bytes, [3_000_000, 5], resume="large")] == [3_000_000, 5]


def test_the_summary_says_what_there_is_to_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    work = counted(tmp_path / "log", frozenset({7}))
    list(vigie.map(work, range(50), on="inline", errors="skip", resume="said"))
    list(vigie.map(work, range(60), on="inline", errors="skip", resume="said", progress=True))
    assert "49 of 60 done earlier, 1 failed, 11 to do" in capsys.readouterr().err


def test_the_journal_is_ours_alone(home: Any) -> None:
    list(vigie.map(abs, range(3), on="inline", resume="mode"))
    path = Path(home.root) / "resume" / "mode"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 200, 3])
def test_a_name_is_no_path(name: Any) -> None:
    with pytest.raises(UsageError, match="resume is"):
        vigie.map(abs, [1], on="inline", resume=name)


def test_key_and_fresh_need_a_name() -> None:
    for options in ({"key": abs}, {"fresh": True}):
        with pytest.raises(UsageError, match="are for resume"):
            vigie.map(abs, [1], **options)  # type: ignore[arg-type]  # of one kind each


def test_an_item_without_a_stable_hash_says_so() -> None:
    with pytest.raises(UsageError, match="key="):
        list(vigie.map(id, [object()], on="inline", resume="hash"))


def test_an_interrupt_says_what_was_done(tmp_path: Path) -> None:
    script, ready = tmp_path / "script.py", tmp_path / "ready"
    script.write_text(
        f"""
import time, vigie
def work(number):
    if number == 40:
        open({str(ready)!r}, "w").close()
        time.sleep(60)
    return number
list(vigie.map(work, range(100), limit=1, resume="interrupted"))
"""
    )
    program = subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, text=True)
    until(ready.exists)
    os.kill(program.pid, signal.SIGINT)
    _, said = program.communicate(timeout=10)
    assert re.search(r"vigie\.map: \d+ items done, 0 failed, \d+ were not finished", said), said
    assert "the same call goes on from there" in said


@pytest.mark.parametrize("on", ["async", "processes", "threads"])
def test_amap_resumes_and_shows(on: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    work = counted(log, frozenset({3}))

    async def awaited(number: int) -> int:
        return int(work(number))

    async def run(count: int) -> list[int]:
        what: Any = awaited if on == "async" else work
        options: Any = {"on": on, "errors": "skip", "resume": "async", "progress": True}
        return [value async for value in vigie.amap(what, range(count), **options)]

    assert asyncio.run(run(10)) == [number * number for number in range(10) if number != 3]
    assert asyncio.run(run(12)) == [number * number for number in range(12) if number != 3]
    assert seen(log) == [0, 1, 2, 3, 3, *range(4, 12)]
    said = capsys.readouterr().err
    assert "9 of 12 done earlier, 1 failed, 3 to do" in said
    assert "12 of 12 · 9 earlier · 1 failed" in said


class WithoutText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_without_a_text_is_noted() -> None:
    def fail(number: int) -> int:
        if number == 2:
            raise WithoutText
        return number

    for _ in range(2):
        found = list(vigie.map(fail, range(4), on="inline", errors="collect", resume="text"))
        assert [one.ok for one in found] == [True, True, False, True]
