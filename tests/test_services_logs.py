"""What services write is kept within its bounds by the real agent, also when it is killed, and shown over all lives."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import HomeUnderTest, Program, until
from served import Served

pytestmark = pytest.mark.slow

TOTAL = 400_000
WRITER = Path(__file__).parent / "log_writer.py"
DROPPED = r"\d.* of (output|error) dropped here by the limit of the logs of web"


@pytest.fixture
def served(home: HomeUnderTest) -> Iterator[Served]:
    found = Served(home)
    yield found
    found.client.close()


def writes(served: Served, lines: int, *, then: str = "exec sleep 1000") -> tuple[str, ...]:
    """Give a service that writes so many lines, and says when it has."""
    program = f"{sys.executable} {WRITER} {lines}"
    return ("/bin/sh", "-c", f"{program} && touch {served.home.top}/done.$VIGIE_JOB; {then}")


def done(served: Served, life: int) -> bool:
    return Path(served.home.top, f"done.{life}").exists()


def shown(text: str, life: int) -> dict[str, list[int]]:
    """Give the numbers of the lines of a life by stream, from ``vigie logs --json``; each line is whole."""
    numbers: dict[str, list[int]] = {"output": [], "error": [], "warning": []}
    for record in map(json.loads, text.splitlines()):
        if record["job"] != life:
            continue
        if record["stream"] == "warning":
            assert re.fullmatch(DROPPED, record["text"])
            numbers["warning"].append(record["seq"])
            continue
        stream, number, length, rest = record["text"].removesuffix("\n").split(" ", 3)
        assert (record["stream"], len(rest)) == ({"out": "output", "err": "error"}[stream], int(length))
        numbers[record["stream"]].append(int(number))
    return numbers


def follow_one_another(numbers: list[int]) -> bool:
    return numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True


def on_disk(home: HomeUnderTest) -> int:
    total = 0
    for path in Path(home.jobs).rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512 if path.is_file() and path.suffix != ".gap" else 0
    return total


def test_lives_are_shown_one_after_the_other_and_what_went_is_named(
    served: Served, vigie: Program, home: HomeUnderTest
) -> None:
    served.add("web", *writes(served, 4_000), plan={"logs": {"part": TOTAL // 2, "total": TOTAL, "compress": True}})
    lives = []
    for at in range(3):
        served.wait("web")
        life = served.lives("web")[-1][0]
        lives.append(life)
        until(lambda life=life: done(served, life))
        if at < 2:
            served.ask("restart", "web")
    until(lambda: on_disk(home) <= TOTAL + 16 * 4096)
    text = vigie("logs", "web", "--json").stdout
    kept = {life: shown(text, life) for life in lives}
    for numbers in kept.values():
        assert follow_one_another(numbers["output"])
        assert follow_one_another(numbers["error"])
        assert len(numbers["warning"]) <= 2
    assert any(numbers["warning"] for numbers in kept.values())
    # The newest are kept longest.
    assert not kept[lives[0]]["output"] or kept[lives[-1]]["output"]
    last = vigie("logs", "web", "-n", "7", "--json").stdout.splitlines()
    # The index is written half a second later, and with it the times.
    without = [[{**json.loads(line), "time": None} for line in lines] for lines in (last, text.splitlines()[-7:])]
    assert without[0] == without[1]


def test_an_agent_that_is_killed_while_it_keeps_them_costs_no_line(
    served: Served, vigie: Program, home: HomeUnderTest
) -> None:
    served.add("web", *writes(served, 6_000), plan={"logs": {"part": TOTAL // 2, "total": TOTAL, "compress": True}})
    served.wait("web")
    ((life, _),) = served.lives("web")
    path = home.job_file(life, "out", 1)
    for _ in range(4):
        size = os.path.getsize(path) if os.path.exists(path) else 0
        until(lambda size=size: done(served, life) or os.path.getsize(path) > size + TOTAL // 2)
        for process in home.processes("agent"):
            os.kill(process.pid, signal.SIGKILL)
        served.client.call("status")
    until(lambda: done(served, life))
    until(lambda: on_disk(home) <= TOTAL + 16 * 4096)
    numbers = shown(vigie("logs", "web", "--json").stdout, life)
    for stream, name in (("output", "out"), ("error", "err")):
        assert follow_one_another(numbers[stream])
        assert numbers[stream], "what was written last is there"
        with open(home.job_file(life, name, 1), "rb") as file:
            file.seek(-5_000, os.SEEK_END)
            tail = file.read().rstrip(b"\n").rpartition(b"\n")[2]
        assert numbers[stream][-1] == int(tail.split()[1])
    assert len(numbers["warning"]) <= 2
