"""The torture that ``vigie doctor`` offers, and that its judge sees what is wrong.

``VIGIE_TORTURE=1000 pytest tests/test_torture_long.py`` goes on for so many rounds, and
``VIGIE_TORTURE_SEED`` repeats the choices of a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from conftest import HomeUnderTest, Program, processes_of, until
from vigie.agent.marks import Marks
from vigie.place import Place
from vigie.torture.books import RULES, Evidence, Kill, Verdict, judge
from vigie.torture.storm import KINDS, WITHIN, Outcome, Storm, torture

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("VIGIE_TORTURE", "30"))
SEED = int(os.environ.get("VIGIE_TORTURE_SEED") or random.SystemRandom().randrange(1 << 20))


def broken(verdict: Verdict) -> dict[str, list[str]]:
    return {rule: lines for rule, lines in verdict.broken.items() if lines}


def run(rounds: int) -> tuple[Place, Outcome]:
    """Torture, and keep the directory; a broken promise is told with the seed."""
    with Place("vigie-torture-") as place:
        outcome = torture(place, rounds, SEED, within=None)
        place.keep = True
    assert broken(outcome.verdict) == {}, f"VIGIE_TORTURE_SEED={SEED}; kept in {place.top}"
    return place, outcome


def test_the_books_balance_after_random_kills(home: HomeUnderTest) -> None:
    place, outcome = run(ROUNDS)
    shutil.rmtree(place.top)
    assert sum(outcome.killed.values()) == ROUNDS
    assert set(outcome.killed) == set(KINDS)
    assert outcome.verdict.acknowledged > ROUNDS
    assert outcome.verdict.attempts > ROUNDS
    # How long the slowest took is the machine's affair, and its load's.
    assert outcome.median is not None
    assert outcome.median <= WITHIN


# The program ----------------------------------------------------------------------


def directory_of(said: str) -> Path:
    """The place that the first line names."""
    (found,) = re.findall(r"rounds? in (\S+), seed", said)[:1]
    return Path(found)


def test_the_verb_tells_its_figures_as_json_and_leaves_nothing(vigie: Program) -> None:
    done = vigie("doctor", "--torture", "5", "--seed", "7", "--json")
    said = json.loads(done.stdout)
    others = {rule: n for rule, n in said["broken"].items() if n and rule != "slow"}
    assert others == {}, said["details"]
    assert done.returncode == (0 if said["kept_promises"] else 1)
    assert said["kills"] == dict.fromkeys(KINDS, 1)
    assert (said["rounds"], said["seed"]) == (5, 7)
    assert said["acknowledged"] >= sum(said["ends"].values()) > 0
    assert said["served"]["times"] == 2
    if said["directory"] is None:
        where = directory_of(done.stderr)
        assert not where.exists()
        assert processes_of(where) == []


def test_on_a_terminal_one_line_is_written_anew(vigie: Program) -> None:
    main, side = pty.openpty()
    live = vigie.popen("doctor", "--torture", "1", "--seed", "3", stderr=side, env={"TERM": "xterm"}, text=True)
    os.close(side)
    told = b""
    with contextlib.suppress(OSError):  # EIO: the other side is closed
        while data := os.read(main, 4096):
            told += data
    os.close(main)
    shown = live.communicate(timeout=60)[0]
    assert live.returncode == 0, shown
    assert "seed 3" in shown
    assert "every promise was kept: 1 round in" in shown
    first, _, rest = told.decode().partition("\r\n")
    assert "seed 3" in first
    assert "\n" not in rest
    assert re.findall(r"\r(round [01] of 1: [a-z ]+)", rest)[0] == "round 0 of 1: clients start"


def test_a_broken_promise_keeps_the_directory_and_ends_with_1(vigie: Program) -> None:
    """An attempt that is seen to begin twice, because the witness is made to say so."""
    live = vigie.popen("doctor", "--torture", "3", "--seed", "5", text=True)
    assert live.stderr is not None
    where = directory_of(live.stderr.readline())
    witness = where / "witness"
    try:
        until(lambda: witness.exists() and witness.read_text().endswith("\n"))
        line = witness.read_text().splitlines()[0]
        with witness.open("a") as file:
            file.write(line + "\n")
        shown = live.communicate(timeout=120)[0]
        assert live.returncode == 1
        assert re.search(r"attempts started twice +1\n", shown)
        assert f"attempt {line.split()[0]} began 2 times" in shown
        assert "a promise was broken: 3 rounds" in shown
        assert "seed 5" in shown
        assert f"kept for you: {where}" in shown
        kept = json.loads((where / "verdict.json").read_text())
        assert kept["broken"]["twice"] == 1
        assert len(kept["kills"]) == 3
        assert processes_of(where) == []
    finally:
        shutil.rmtree(where, ignore_errors=True)


def test_ctrl_c_leaves_nothing(vigie: Program) -> None:
    live = vigie.popen("doctor", "--torture", "1000", text=True)
    assert live.stderr is not None
    where = directory_of(live.stderr.readline())
    until((where / "witness").exists)
    live.send_signal(signal.SIGINT)
    shown = live.communicate(timeout=60)[1]
    assert live.returncode == 130
    assert "its processes are ended and its files deleted" in shown
    assert not where.exists()
    assert processes_of(where) == []
    assert processes_of(where / "home") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--torture"], "--torture needs a value"),
        (["--torture", "0"], "number of rounds"),
        (["--torture", "3", "--deep"], "one after the other"),
        (["--seed", "3"], "belongs to --torture"),
    ],
)
def test_wrong_usage_says_what_is_right(vigie: Program, words: list[str], said: str) -> None:
    done = vigie("doctor", *words)
    assert done.returncode == 2
    assert said in done.stderr


# The judge ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept() -> Iterator[tuple[Place, Outcome]]:
    """A torture whose books are right."""
    place, outcome = run(5)
    yield place, outcome
    shutil.rmtree(place.top)


class Books:
    """The books of a torture, to be falsified; they are put right again afterwards."""

    def __init__(self, place: Place, kills: list[Kill]) -> None:
        self.place = place
        self.top = Path(place.top)
        self.home = place.home
        self.kills = kills
        self.marks = Marks(self.home.root)

    def verdict(self, **how: Any) -> Verdict:
        return judge(Evidence.read(self.place.top, self.home, self.kills), **how)

    def sql(self, statement: str, *bind: Any) -> list[Any]:
        with contextlib.closing(apsw.Connection(self.home.db)) as db:
            return db.execute(statement, bind).fetchall()

    def some(self, how: str, code: int | None = None, count: int = 1) -> list[int]:
        """Jobs of a kind that ended by themselves, at their first attempt."""
        notes = [json.loads(line) for line in (self.top / "notes").read_text().splitlines()]
        stopped = {note["stop"] for note in notes if "stop" in note}
        fine = {row[0] for row in self.sql("SELECT job FROM attempts GROUP BY job HAVING max(n) = 1")}
        fine -= {row[0] for row in self.sql("SELECT job FROM attempts WHERE state = 'lost' OR signal IS NOT NULL")}
        found = [
            note["job"]
            for note in notes
            if note.get("how") == how and note.get("code") == code and note["job"] in fine - stopped
        ]
        return found[:count]

    def append(self, name: str, line: str) -> None:
        with (self.top / name).open("a") as file:
            file.write(line + "\n")

    def witness(self, job: int) -> str:
        """The line of a job's first attempt."""
        lines = (self.top / "witness").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith(self.marks.of(job, 1) + " "))
        return line


@pytest.fixture
def books(kept: tuple[Place, Outcome], tmp_path: Path) -> Iterator[Books]:
    place, outcome = kept
    made = Books(place, list(outcome.kills))
    names = ["notes", "witness", "home/db", "home/agent.log", "home/keeper/log"]
    for name in names:
        source, copy = made.top / name, tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, copy)
    assert broken(made.verdict()) == {}
    yield made
    shutil.rmtree(made.top / "home/db")
    for name in names:
        copy = tmp_path / name
        (shutil.copytree if copy.is_dir() else shutil.copyfile)(copy, made.top / name)


def line_doubled(books: Books) -> None:
    (job,) = books.some("command", 0)
    books.append("witness", books.witness(job))


def ran_for_nobody(books: Books) -> None:
    books.append("witness", f"{books.marks.of(10**6, 1)} somebody")


def ran_as_two_jobs(books: Books) -> None:
    one, two = books.some("command", 0, count=2)
    books.append("witness", books.witness(one).replace(books.marks.of(one, 1), books.marks.of(two, 2)))
    columns = [row[1] for row in books.sql("PRAGMA table_info(attempts)")]
    values = ", ".join("2" if column == "n" else column for column in columns)
    books.sql(f"INSERT INTO attempts ({', '.join(columns)}) SELECT {values} FROM attempts WHERE job = ?", two)


def never_ran(books: Books) -> None:
    (job,) = books.some("return")
    witness = books.top / "witness"
    witness.write_text(witness.read_text().replace(books.witness(job) + "\n", ""))


def gone_from_the_store(books: Books) -> None:
    (job,) = books.some("missing") or books.some("command", 0)
    witness = books.top / "witness"
    lines = [line for line in witness.read_text().splitlines() if f".{job}." not in line]
    witness.write_text("".join(line + "\n" for line in lines))
    books.sql("DELETE FROM attempts WHERE job = ?", job)
    books.sql("DELETE FROM jobs WHERE id = ?", job)


def promised_twice(books: Books) -> None:
    (job,) = books.some("command", 0)
    books.append("notes", json.dumps({"job": job, "token": "another", "how": "command", "code": 0, "retries": 0}))


def withdrawn_and_ran(books: Books) -> None:
    (job,) = books.some("command", 0)
    books.sql("UPDATE attempts SET state = 'withdrawn' WHERE job = ?", job)


def still_queued(books: Books) -> None:
    (job,) = books.some("command", 0)
    books.sql("UPDATE jobs SET state = 'queued' WHERE id = ?", job)


def success_invented(books: Books) -> None:
    (job,) = books.some("command", 5)
    books.sql("UPDATE attempts SET exit_code = 0, reason = NULL WHERE job = ?", job)
    books.sql("UPDATE jobs SET state = 'completed', exit_code = 0, reason = NULL WHERE id = ?", job)


def failure_invented(books: Books) -> None:
    (job,) = books.some("command", 0)
    books.sql("UPDATE attempts SET exit_code = 1, reason = 'exit' WHERE job = ?", job)
    books.sql("UPDATE jobs SET state = 'failed', exit_code = 1, reason = 'exit' WHERE id = ?", job)


def job_unlike_its_attempt(books: Books) -> None:
    (job,) = books.some("command", 5)
    books.sql("UPDATE jobs SET exit_code = 6 WHERE id = ?", job)


def killed_by_nobody(books: Books) -> None:
    (job,) = books.some("return")
    books.kills = [kill._replace(workers=()) for kill in books.kills]
    books.sql("UPDATE attempts SET exit_code = NULL, reason = 'signal', signal = 9 WHERE job = ?", job)
    books.sql("UPDATE jobs SET state = 'failed', exit_code = NULL, reason = 'signal', signal = 9 WHERE id = ?", job)


def stopped_by_nobody(books: Books) -> None:
    (job,) = books.some("command", 0)
    books.sql("UPDATE jobs SET state = 'stopped' WHERE id = ?", job)


def lost(books: Books, jobs: list[int]) -> None:
    for job in jobs:
        books.sql("UPDATE attempts SET state = 'lost', exit_code = NULL WHERE job = ?", job)
        books.sql("UPDATE jobs SET state = 'lost', exit_code = NULL WHERE id = ?", job)


def lost_for_nothing(books: Books) -> None:
    lost(books, books.some("command", 0))
    books.kills = [kill for kill in books.kills if kill.kind in ("agent", "client")]


def lost_by_the_keeper_alone(books: Books) -> None:
    lost(books, books.some("command", 0, count=2))
    books.kills = [kill for kill in books.kills if not kill.keeper]
    books.kills.append(Kill("keeper", 0, 1 << 62, keeper=True, alone=True))


def retried_too_little(books: Books) -> None:
    (job,) = books.some("command", 5)
    notes = books.top / "notes"
    lines = [json.loads(line) for line in notes.read_text().splitlines()]
    notes.write_text(
        "".join(json.dumps({**line, "retries": 2} if line.get("job") == job else line) + "\n" for line in lines)
    )


def key_held(books: Books) -> None:
    (job,) = books.some("command", 0)
    books.sql("INSERT OR REPLACE INTO job_keys (job, key, most, held) VALUES (?, 'key', 1, 1)", job)


def attempt_open(books: Books) -> None:
    (job,) = books.some("return")
    books.sql("UPDATE attempts SET state = 'running' WHERE job = ?", job)


def error_logged(books: Books) -> None:
    books.append("home/agent.log", "Traceback (most recent call last):")


FALSIFIED: list[tuple[Callable[[Books], None], str]] = [
    (line_doubled, "twice"),
    (ran_as_two_jobs, "twice"),
    (withdrawn_and_ran, "twice"),
    (ran_for_nobody, "unrecorded"),
    (never_ran, "vanished"),
    (gone_from_the_store, "vanished"),
    (promised_twice, "vanished"),
    (retried_too_little, "vanished"),
    (still_queued, "unended"),
    (success_invented, "invented"),
    (failure_invented, "invented"),
    (job_unlike_its_attempt, "invented"),
    (killed_by_nobody, "invented"),
    (stopped_by_nobody, "invented"),
    (lost_for_nothing, "lost"),
    (lost_by_the_keeper_alone, "lost"),
    (key_held, "held"),
    (attempt_open, "held"),
    (error_logged, "trouble"),
]


@pytest.mark.parametrize(("falsify", "rule"), FALSIFIED, ids=[falsify.__name__ for falsify, _ in FALSIFIED])
def test_the_judge_sees_what_is_wrong(books: Books, falsify: Callable[[Books], None], rule: str) -> None:
    falsify(books)
    assert rule in broken(books.verdict())
    assert not books.verdict().good


def test_the_judge_sees_an_agent_that_is_slow(books: Books) -> None:
    books.kills.append(Kill("agent", 0, 1, served=2.5))
    assert broken(books.verdict()) == {}
    assert broken(books.verdict(within=2.0))["slow"][-1] == "2.50 s after the kill of agent"


def test_a_process_that_is_left_is_found(home: HomeUnderTest) -> None:
    with Place("vigie-torture-") as place:
        storm = Storm(place, SEED, clients=1)
        mark = Marks(place.home.root).of(7, 1)
        left = subprocess.Popen(["sleep", "600"], env={**os.environ, "VIGIE_ATTEMPT": mark})
        try:
            found = storm.left(0)
            assert [f" {left.pid} " in said for said in found] == [True]
            assert broken(judge(Evidence(), left=found)) == {"left": found}
        finally:
            left.kill()
            left.wait()
        assert storm.left() == []
        storm.close()


def test_every_rule_is_seen_to_be_broken() -> None:
    assert {rule for _, rule in FALSIFIED} | {"slow", "left"} == set(RULES)
