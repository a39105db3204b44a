"""A crash at each point of ``vigie.crash.POINTS``, with commands and functions under way.

The cases are made from the registry: a new point has its test, which fails unless a
process really dies there, and unless the torture's judge finds the books in order.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import apsw
import pytest

import vigie
from conftest import HomeUnderTest, until
from held import hold_commands
from vigie.crash import POINTS
from vigie.place import Place
from vigie.procs import Identity, send_signal
from vigie.session import session
from vigie.torture.books import Kill
from vigie.torture.storm import Storm

pytestmark = pytest.mark.slow

SOURCE = Path(vigie.__file__).parent
#: What the client starts, so that every point is passed soon.
KINDS = ["command", "function", "batch", "retries", "chained", "rerun"]
MORE = {
    "failed": ["missing"] * 40,
    "leave": ["child"] * 40,
    "quit": ["fresh"] * 40,
    "held": ["batch"] * 25,
    "samples": ["output"] * 40,
}
#: Points that everything passes again and again: there the crash comes in the middle of things.
LATER = 6
ONCE = (
    "hello",
    "replay",
    "greeting",
    "upgrade",
    "lost",
    "adopted",
    "rename",
    "exec",
    "leave",
    "held",
    "quit",
    "replayed",
    "delete",
    "create",
    "withdraw",
    "withdrawn",
)
#: A restore runs while no agent does.
RESTORE = [point for point in POINTS if point.startswith("restore-")]
#: What services write: tests/test_logs_kept.py.
LOGS = [point for point in POINTS if point.startswith("logs-")]
#: Jobs to be acknowledged after the crash.
AFTER = 12
RATE = 150.0


# What leads to the rarer points -----------------------------------------------------


def lose_a_command(storm: Storm) -> None:
    """The keeper dies, and with it a command: its successor finds nothing."""
    job = vigie.start(["sleep", "600"], now=True)
    until(lambda: job.info()["pid"] is not None)
    ((keeper, _),) = storm.victims("keeper")
    ((pid, ticks),) = rows(storm, "SELECT pid, start_ticks FROM attempts WHERE job = ?", job.id)
    storm.kills.append(Kill("keeper", 0, keeper=True))
    send_signal(keeper, signal.SIGKILL)
    send_signal(Identity(pid, ticks), signal.SIGKILL)


def remove_a_job(storm: Storm) -> None:
    """Its output goes, and what is known of it. The agent dies over that, and the next one answers."""
    job = vigie.start(["/bin/sh", "-c", "echo out; echo err >&2"], now=True)
    job.wait(30)
    assert lengths(storm, job.id)
    job.remove()
    assert job.id not in {one.id for one in vigie.jobs()}


def stop_what_is_held(storm: Storm) -> None:
    """Commands that the keeper holds are not wanted any more."""
    once = Path(storm.place.top, "once")
    while not once.exists():
        with contextlib.suppress(AssertionError):  # it may fall into the crash
            hold_commands(lambda: set(ids(storm, "assigned")), while_=lambda: not once.exists()).stop()


def ids(storm: Storm, state: str) -> list[int]:
    return [row[0] for row in rows(storm, "SELECT id FROM jobs WHERE state = ?", state)]


def kinds_for(point: str) -> list[str]:
    if point.endswith("-adopted"):
        return ["function"]  # a worker lives long enough for a successor to find it
    return KINDS + next((more for word, more in MORE.items() if word in point), [])


def nothing_more(storm: Storm) -> None:
    pass


def trigger_of(point: str) -> Callable[[Storm], None]:
    if point.endswith("-delete"):
        return remove_a_job
    if point.endswith(("-withdraw", "-withdrawn")):
        return stop_what_is_held
    return lose_a_command if point.endswith("-lost") else nothing_more


def old_keeper(place: Place) -> subprocess.Popen[bytes]:
    """A keeper of another version is there first: it will be told to become the newest."""
    place.home.create()
    text = "import sys, vigie; vigie.__version__ = '0.0.1'; from vigie.keeper import main; sys.exit(main(sys.argv[1:]))"
    with open(place.home.keeper_log, "ab") as log:
        words = [sys.executable, "-P", "-c", text, place.home.root]
        made = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    until(lambda: os.path.exists(place.home.keeper_socket))
    return made


# The case ---------------------------------------------------------------------------


def rows(storm: Storm, statement: str, *bind: object) -> list[Any]:
    with closing(apsw.Connection(storm.home.db, flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return db.execute(statement, bind).fetchall()


def lengths(storm: Storm, job: int | None = None) -> list[Any]:
    """Read the samples, all or those of a job; the file must be whole."""
    with closing(apsw.Connection(storm.home.samples, flags=apsw.SQLITE_OPEN_READONLY)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return db.execute("SELECT job, attempt, at, out, err FROM lengths WHERE ? IN (job, 0)", (job or 0,)).fetchall()


def said(place: Place) -> dict[int, str]:
    """What each job says on both streams, as its client noted."""
    notes = [json.loads(line) for line in Path(place.top, "notes").read_text().splitlines()]
    return {note["job"]: note["says"] for note in notes if "says" in note}


def noted(place: Place) -> int:
    return Path(place.top, "notes").read_bytes().count(b"\n")


def wanted(point: str, place: Place) -> str:
    """The variable: who passes the point first, or for the n-th time, dies; nobody after it."""
    times = 1 if any(point.endswith(word) for word in ONCE) else LATER
    said = f"{point}:{times}:{place.top}/once"
    if point.endswith("-adopted"):  # a successor finds a process whose keeper died before it could say so
        said += f",keeper-after-spawn:1:{place.top}/before"
    return said


def the_crash(point: str, once: Path, storm: Storm) -> Kill:
    """What the dead process left in its file, as the judge takes it."""
    pid, at = map(int, once.read_text().split())
    kind = "agent" if point.startswith(("store", "samples")) else point.partition("-")[0]
    workers = tuple(row[0] for row in rows(storm, "SELECT id FROM workers WHERE pid = ?", pid))
    assert workers or kind != "worker"
    return Kill(kind, at, keeper=kind == "keeper", workers=workers, alone=kind == "keeper" and not storm.kills)


def unlike(storm: Storm) -> list[str]:
    """Name the jobs of whose two streams something is missing or too much, or sampled longer than they are."""
    found = []
    sampled = {job: (out, err) for job, _, _, out, err in sorted(lengths(storm))}
    for job, token in said(storm.place).items():
        if vigie.get(job).state != "completed":
            continue  # stopped before it could speak
        records = sorted((record.stream, record.text) for record in vigie.get(job).logs())
        most = max(sampled.get(job, (0, 0)))
        if records != [("error", f"{token}\n"), ("output", f"{token}\n")] or most > len(token) + 1:
            found.append(f"job {job} said {records}, {most} of it sampled, and should {token} on both")
    return found


@pytest.mark.parametrize("point", [point for point in POINTS if point not in RESTORE + LOGS])
def test_a_crash_at_any_point_costs_nothing(home: HomeUnderTest, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    with Place("vigie-crash-") as place, ExitStack() as stack:
        monkeypatch.setenv("VIGIE_CRASH_AT", wanted(point, place))
        once = Path(place.top, "once")
        if point.endswith(("upgrade", "exec")):
            stack.callback(old_keeper(place).wait)
            stack.callback(place.end)
        kinds = kinds_for(point)
        storm = Storm(place, 1, clients=1, rate=RATE, kinds=kinds)
        stack.callback(storm.close)
        storm.begin()
        trigger_of(point)(storm)
        died = lambda: once.exists() and len(once.read_text().split()) == 2
        until(died, what=f"a process to die at {point}: {POINTS[point]}")
        enough = noted(place) + AFTER
        storm.kills.append(the_crash(point, once, storm))
        if storm.kills[-1].kind == "client":
            storm.replace_client()
        until(lambda: noted(place) >= enough)
        storm.end_clients()
        storm.settle()
        verdict = storm.verdict(within=None)
        streams = unlike(storm)
        place.keep = not verdict.good or bool(streams)
    assert {rule: lines for rule, lines in verdict.broken.items() if lines} == {}, f"kept: {place.top}"
    assert streams == [], f"kept: {place.top}"


def the_restore(backup: Path, **more: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "vigie", "agent", "restore", str(backup), "--json"]
    return subprocess.run(words, env={**os.environ, **more}, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("point", RESTORE)
def test_a_crash_of_a_restore_leaves_one_store_or_the_other(home: HomeUnderTest, tmp_path: Path, point: str) -> None:
    backup = tmp_path / "backup.db"
    vigie.start(["true"], name="before").wait(30)
    session().client.call("backup", path=str(backup))
    vigie.start(["true"], name="after").wait(30)
    assert the_restore(backup, VIGIE_CRASH_AT=point).returncode == -signal.SIGKILL
    there = {job.name for job in vigie.jobs()}
    assert there == ({"before"} if point == "restore-after-rename" else {"before", "after"})
    # Whichever it is, it serves, and an id is never given twice.
    assert vigie.start(["true"], name="new").wait(30).id == 3
    assert {job.name for job in vigie.jobs()} == there | {"new"}
    done = the_restore(backup)
    assert done.returncode == 0, done.stderr
    assert {job.name for job in vigie.jobs()} == {"before"}
    replaced = Path(json.loads(done.stdout)["replaced"])
    with closing(apsw.Connection(str(replaced), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        assert {name for (name,) in db.execute("SELECT name FROM jobs")} == there | {"new"}
    assert vigie.start(["true"]).wait(30).id == 4


# The registry -----------------------------------------------------------------------


def literals() -> Iterator[tuple[str, str]]:
    """Every point that the source names in full, and where."""
    for path in SOURCE.rglob("*.py"):
        if path.name != "crash.py":
            for name in re.findall(r"\bpoint\(\"([^\"{]+)\"\)", path.read_text()):
                yield name, str(path.relative_to(SOURCE))


def test_a_point_is_registered_and_stands_in_one_place() -> None:
    found = list(literals())
    names = [name for name, _ in found]
    assert set(names) <= set(POINTS)
    assert len(names) == len(set(names))
    composed = set(POINTS) - set(names)
    # Put together from the operation that a frame names, where frames are sent.
    assert all(re.fullmatch(r"agent-(before|after)-(worker-)?[a-z]+", name) for name in composed)


def test_a_point_that_nobody_registered_is_refused() -> None:
    text = "from vigie import crash; crash.point('nowhere')"
    for variable, code in (("anything", 1), (None, 0)):
        env = {key: value for key, value in os.environ.items() if key != "VIGIE_CRASH_AT"}
        if variable is not None:
            env["VIGIE_CRASH_AT"] = variable
        done = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert ("nowhere is not in vigie.crash.POINTS" in done.stderr) == bool(code)


def test_one_of_all_dies_at_its_nth_passing(tmp_path: Path) -> None:
    text = "import sys; from vigie.crash import point\nfor n in range(5): print(n, flush=True); point('agent-replayed')"
    env = {**os.environ, "VIGIE_CRASH_AT": f"store-after-commit,agent-replayed:3:{tmp_path}/once"}
    ends = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True)
        ends.append((done.returncode, done.stdout.split()))
    assert ends == [(-signal.SIGKILL, ["0", "1", "2"]), (0, ["0", "1", "2", "3", "4"])]
    pid, at = (tmp_path / "once").read_text().split()
    assert int(pid) > 1
    assert int(at) > 1_700_000_000_000_000
