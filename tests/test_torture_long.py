"""Clients start jobs of every kind while everything is killed at random; then the books must balance.

``VIGIE_TORTURE=600 pytest tests/test_torture_long.py`` goes on for ten minutes a case instead of a
few seconds, and ``VIGIE_TORTURE_SEED`` repeats a case.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

sys.path.insert(0, os.path.dirname(__file__))

import vigie
from conftest import HomeUnderTest, until
from conftest import kill as kill_process
from vigie import workfiles
from vigie.client import Client
from vigie.model import FINISHED
from vigie.session import session

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("VIGIE_TORTURE", "3"))
SEED = int(os.environ.get("VIGIE_TORTURE_SEED") or random.SystemRandom().randrange(1 << 20))
CLIENTS = 2
#: How a function's end shows.
ENDS: dict[str, tuple[str, str | None, int | None]] = {
    "return": ("completed", None, None),
    "raise": ("failed", "exception", None),
    "exit": ("failed", "exit", 3),
    "_exit": ("failed", "exit", 4),
}


class Scene:
    """The clients of one case and what they noted."""

    def __init__(self, home: HomeUnderTest, path: Path, seed: int) -> None:
        self.home = home
        self.witness = path / "witness"
        self.notes = path / "notes"
        self.chance = random.Random(seed)
        self.clients: list[subprocess.Popen[bytes]] = []
        self.killed: Counter[str] = Counter()

    def client(self) -> None:
        """Start one more client."""
        script = os.path.join(os.path.dirname(__file__), "torture_client.py")
        seed = str(self.chance.randrange(1 << 30))
        words = [sys.executable, script, seed, str(self.witness), str(self.notes)]
        self.clients.append(subprocess.Popen(words, cwd=self.home.user, stderr=subprocess.DEVNULL))
        self.home.started.append(self.clients[-1])

    def kill(self, kind: str) -> None:
        """Kill one client, which is replaced, or one process of ours."""
        if kind == "client":
            victim = self.clients.pop(0)
            victim.kill()
            victim.wait()
            self.client()
        elif victims := self.home.processes(kind):
            kill_process(self.chance.choice(victims))
        self.killed[kind] += 1

    def run(self, kinds: list[str]) -> None:
        """Kill at random moments for as long as the torture lasts."""
        for _ in range(CLIENTS):
            self.client()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.clients[0].wait(self.chance.choice([0.05, 0.2, 0.5, 1.0]))
                pytest.fail("a client ended by itself")
            self.kill(self.chance.choice(kinds))
        for client in self.clients:
            client.kill()
            client.wait()

    def settle(self) -> None:
        """Let everything come to its end: what a dead client left suspended goes on."""

        def over() -> bool:
            client = Client(self.home)
            try:
                counts = client.call("status")["jobs"]
                suspended = [job.id for job in vigie.jobs(state="suspended")]
                if suspended:
                    client.call("resume", ids=suspended)
            finally:
                client.close()
            return not any(counts.values())

        try:
            until(over, timeout=120, what="every job to end", interval=0.2)
        except AssertionError:
            left = [(job, *row) for job, row in rows(self.home).items() if row[0] not in FINISHED]
            shown = "\n".join(self.alive())
            pytest.fail(f"seed {SEED}, killed {dict(self.killed)}: never ended: {left[:20]}\n{shown}")

    def alive(self) -> Iterator[str]:
        """Describe the processes that are there, and what the workers' pages say."""
        for process in self.home.processes():
            stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            yield f"{stat[0]} {process}"
        for path in sorted(Path(self.home.root).glob("**/page")):
            page = workfiles.Page.open(str(path))
            yield f"{path}: limit {page.limit}, started {page.started}, ended {page.ended}"
            page.close()
        yield from Path(self.home.agent_log).read_text().splitlines()[-20:]

    def noted(self) -> Iterator[list[Any]]:
        """Give the whole lines of the notes."""
        for line in self.notes.read_bytes().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue  # its client was killed in the middle of it: never acknowledged further on


def rows(home: HomeUnderTest) -> dict[int, tuple[Any, ...]]:
    db = apsw.Connection(home.db, flags=apsw.SQLITE_OPEN_READONLY)
    found: list[Any] = db.execute("SELECT id, state, reason, exit_code, signal, attempt FROM jobs").fetchall()
    db.close()
    return {row[0]: row[1:] for row in found}


def complaints(scene: Scene, kinds: list[str]) -> list[str]:
    """Compare what was acknowledged, what ran and what is said of it."""
    ran: dict[str, set[str]] = defaultdict(set)
    marks: Counter[str] = Counter()
    for line in scene.witness.read_text().splitlines():
        mark, _, token = line.partition(" ")
        marks[mark] += 1
        ran[token].add(mark)
    found = [f"attempt {mark} began {n} times" for mark, n in marks.items() if n > 1]
    known = rows(scene.home)
    notes = list(scene.noted())
    stopped = {job for job, _, how in notes if "stop" in how}
    for job, token, how in notes:
        if "stop" in how:
            continue
        if job not in known:
            found.append(f"job {job} was acknowledged and is not there")
        else:
            said = judge(how, known[job], len(ran[token]), asked=job in stopped, kinds=kinds)
            if said:
                found.append(f"job {job} ({how}): {said}: {known[job]}, ran {len(ran[token])} times")
    return found


def judge(how: dict[str, Any], row: tuple[Any, ...], ran: int, *, asked: bool, kinds: list[str]) -> str | None:
    """Say what is wrong with the end of a job; None: nothing."""
    state, reason, code, _signal, attempts = row
    if ran > attempts:
        return "ran more often than it has attempts"
    if state == "lost":
        # A keeper that dies between "begin" and "started" takes the knowledge of that one with it.
        return None if "keeper" in kinds else "lost, although the keeper lived"
    if state == "stopped":
        return None if asked else "stopped by nobody"
    if reason == "signal" and "how" in how and "worker" in kinds:
        return None
    if ran == 0:
        return "ended and never ran"
    return None if (state, reason, code) == expected(how) else "it did not end so"


def expected(how: dict[str, Any]) -> tuple[str, str | None, int | None]:
    """Give state, reason and exit code of a job that was let end."""
    if "how" in how:
        return ENDS[how["how"]]
    return ("failed", "exit", how["code"]) if how["code"] else ("completed", None, 0)


@pytest.mark.parametrize(
    "kinds",
    [["agent", "client"], ["keeper", "client"], ["worker", "client"], ["agent", "keeper", "worker", "client"]],
    ids="-".join,
)
def test_the_books_balance_after_random_kills(home: HomeUnderTest, tmp_path: Path, kinds: list[str]) -> None:
    scene = Scene(home, tmp_path, SEED)
    scene.run(kinds)
    scene.settle()
    found = complaints(scene, kinds)
    if "agent" not in kinds:
        assert sum(row[0] == "lost" for row in rows(home).values()) <= scene.killed["keeper"]
    assert not found, f"seed {SEED}, killed {dict(scene.killed)}:\n" + "\n".join(found[:20])
    # Nothing is held, and everything is handed out still.
    with apsw.Connection(home.db, flags=apsw.SQLITE_OPEN_READONLY) as db:
        assert db.execute("SELECT job FROM job_keys WHERE held = 1").fetchall() == []
        assert db.execute("SELECT job FROM attempts WHERE state IN ('assigned', 'running')").fetchall() == []
    assert vigie.start(["true"]).result(30) == 0
    assert vigie.start(abs, -2).result(30) == 2
    until(lambda: not home.processes("other"))
    assert "Traceback" not in Path(home.agent_log).read_text()
    assert "Traceback" not in Path(home.keeper_log).read_text()
    session().client.close()
