"""Promise 1 where it is hardest: the power goes away between any two writes.

The real agent, its keeper, workers and clients run under strace; the trace is replayed
(``power_cut``), and after every step the files are rebuilt as a disk could hold them. Then
the store must be whole, and everything that was acknowledged by then must be in it.

By default a sample of the cuts is tried; ``VIGIE_POWER_CUT=1`` traces more and tries them
all, ``VIGIE_POWER_CUT_SEED`` repeats a choice.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import HomeUnderTest, need
from power_cut import Disk, File, Talk, Tape, perform, read
from vigie import frames, keeper_journal
from vigie.config import Home
from vigie.errors import StoreError
from vigie.store.examine import examine
from vigie.store.rows import join_items
from vigie.store.sqlite import Store

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ALL = bool(os.environ.get("VIGIE_POWER_CUT"))
SEED = int(os.environ.get("VIGIE_POWER_CUT_SEED") or random.SystemRandom().randrange(1 << 20))
#: Trials in the default run, for each replay.
SAMPLE = 300
#: Random variants of each cut when all are tried.
VARIANTS = 8


@dataclass
class Report:
    """What a replay found."""

    seed: int
    cuts: int = 0
    trials: int = 0
    acknowledged: int = 0
    failures: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        said = f"{self.cuts} cuts, {self.trials} disks, {self.acknowledged} answers, seed {self.seed}"
        return "\n  ".join([f"{said}: {len(self.problems)} problems", *self.problems[:20]])


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Give a directory in memory, where SQLite's own fsync costs nothing."""
    path = Path(tempfile.mkdtemp(prefix="vg-cut-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield path
    shutil.rmtree(path)


# The judge ------------------------------------------------------------------------


class Judge:
    """Opens what a disk holds after a cut as the next agent would, and compares it with what was said."""

    def __init__(self, root: str, scratch: Path) -> None:
        self.home = Home(root)
        self.scratch = Home(str(scratch))
        os.makedirs(os.path.dirname(self.scratch.db))

    def problems(self, disk: Disk, files: dict[str, bytes], facts: dict[tuple[str, Any], Any]) -> list[str]:
        """Give what is corrupt or lost."""
        self._lay_out(files)
        try:
            if not facts and not os.path.exists(self.scratch.db):
                return []
            found = self._databases(facts)
        except (apsw.Error, UnicodeDecodeError, StoreError) as error:
            return [f"corrupt: {type(error).__name__}: {error}"]
        return found + self._files(disk, files, facts)

    def _lay_out(self, files: dict[str, bytes]) -> None:
        directory = os.path.dirname(self.scratch.db)
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))
        for path, content in files.items():
            if os.path.dirname(path) == os.path.dirname(self.home.db):
                Path(directory, os.path.basename(path)).write_bytes(content)

    def _databases(self, facts: dict[tuple[str, Any], Any]) -> list[str]:
        if os.path.exists(self.scratch.samples):
            self._whole(apsw.Connection(self.scratch.samples)).close()
        # As the next agent opens it, which must not take it for damaged, and makes it if it is not there.
        examine(self.scratch)
        store = Store(self.scratch.db)
        try:
            return list(_differences(self._whole(store.db), facts))
        finally:
            store.close()

    @staticmethod
    def _whole(db: apsw.Connection) -> apsw.Connection:
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        verdict = db.execute("PRAGMA integrity_check").fetchall()
        if verdict != [("ok",)]:
            raise apsw.CorruptError(str(verdict[:3]))
        return db

    def _files(self, disk: Disk, files: dict[str, bytes], facts: dict[tuple[str, Any], Any]) -> list[str]:
        found = []
        if facts and not self._same(disk, files, self.home.secret):
            found.append("lost: the key that signs pickles")
        for (kind, job), fact in facts.items():
            if kind == "job" and fact["stdin"]:
                places = (os.path.join(self.home.tmp, fact["stdin"]), self.home.job_file(job, "in"))
                if not any(self._same(disk, files, place) for place in places):
                    found.append(f"lost: the input of job {job}")
            elif kind == "end" and fact.get("encoding") == "file":
                result = self.home.job_file(job, "result")
                found += [] if self._same(disk, files, result) else [f"lost: the result of job {job}"]
        return found

    @staticmethod
    def _same(disk: Disk, files: dict[str, bytes], path: str) -> bool:
        """Tell whether a file is there as its writer left it."""
        if path not in files:
            return False
        holder: File | None = disk.now.get(path)
        if holder is None:
            # It has moved on since; whoever wrote it synced it first.
            return len(files[path]) > 0
        return files[path] == holder.after_cut("all", random.Random(0))


_JOBS = """
SELECT j.id, j.state, j.exit_code, j.args, j.stdin, j.result, t.argv, t.function, t.code, c.cwd
FROM jobs j JOIN tasks t ON t.id = j.task JOIN contexts c ON c.id = j.context
"""


def _differences(db: apsw.Connection, facts: dict[tuple[str, Any], Any]) -> Iterator[str]:
    jobs = {row[0]: row for row in db.execute(_JOBS)}
    queues = dict(db.execute("SELECT name, paused FROM queues"))
    for (kind, name), fact in facts.items():
        if kind == "queue":
            if queues.get(name, 0) != fact["paused"]:
                yield f"lost: queue {name} was {'paused' if fact['paused'] else 'resumed'}"
        elif kind == "gone":
            if name in jobs:
                yield f"lost: job {name} was removed"
        elif name not in jobs:
            yield f"lost: job {name}"
        elif kind == "end":
            _, state, code, _, _, result, *_ = jobs[name]
            same = "exit_code" not in fact or (code, result) == (fact["exit_code"], fact["result"])
            if state != fact["state"] or not same:
                yield f"lost: the end of job {name}: {state} {code}, and it was said to be {fact}"
        else:
            _, _, _, args, stdin, _, argv, function, code, cwd = jobs[name]
            wanted = fact["argv"] and join_items(fact["argv"])
            seen = (argv, function, code, args, stdin, os.fsdecode(cwd))
            if seen != (wanted, fact["function"], fact["code"], fact["args"], fact["stdin"], fact["cwd"]):
                yield f"lost: the task of job {name} is another: {seen}"


# The replay -----------------------------------------------------------------------


def replay(tape: Tape, root: str, scratch: Path, sample: int | None, variants: int = VARIANTS) -> Report:
    """Cut the power after every step of a trace (or as many as make ``sample`` disks), and judge the disks."""
    report = Report(SEED)
    share = 1.0 if sample is None else min(1.0, sample / 3 / max(1, _count(tape, root)))
    disk, talk, judge = Disk(root), Talk(), Judge(root, scratch)
    chance = random.Random(SEED)
    seen: set[Any] = set()
    for kind, call in tape:
        before = talk.acknowledged
        talk.step(kind, call)
        changed = disk.step(kind, call)
        if talk.acknowledged == before and not _of_store(changed):
            continue
        report.cuts += 1
        if chance.random() >= share:
            continue
        safe = (disk.safe(), talk.acknowledged)
        kinds = ["all", *["some"] * (variants if sample is None else 1)]
        if safe not in seen:
            kinds.insert(0, "none")
            seen.add(safe)
        for how in kinds:
            report.trials += 1
            seed = chance.randrange(1 << 32)
            files = disk.after_cut(how, random.Random(seed))
            for problem in judge.problems(disk, files, talk.facts):
                report.problems.append(f"{how}, after line {call.begin + 1} ({call.name}): {problem}")
        if len(report.problems) > 20:
            break
    report.acknowledged, report.failures = talk.acknowledged, disk.failures
    return report


def _count(tape: Tape, root: str) -> int:
    disk = Disk(root)
    return sum(_of_store(disk.step(kind, call)) for kind, call in tape)


def _of_store(path: str | None) -> bool:
    return path is not None and "journal" not in os.path.basename(path).split(".") and "/backups/" not in path


def show(report: Report) -> None:
    print(report)  # pytest shows it when the test fails, and with -s


@pytest.fixture
def traced(home: HomeUnderTest, tmp_path: Path) -> Callable[..., Tape]:
    """Run the scene under strace and give its calls."""

    def run(*words: str, inject: str | None = None) -> Tape:
        path = tmp_path / "trace"
        script = str(HERE / "power_cut_scene.py")
        perform(need("strace"), path, [script, *words], home, inject=inject)
        return read(path, home.root)

    return run


@pytest.mark.parametrize("words", [[], ["many"]] if ALL else [[]], ids=" ".join)
def test_no_power_cut_loses_what_was_acknowledged(
    traced: Callable[..., Tape], home: HomeUnderTest, scratch: Path, words: list[str]
) -> None:
    """With ``many`` the log is also copied into the database while the agent works, and begins anew (half an hour)."""
    tape = traced(*words)
    report = replay(tape, home.root, scratch, None if ALL else SAMPLE, 2 if words else VARIANTS)
    show(report)
    assert report.acknowledged > 30
    assert report.trials > SAMPLE / 2
    assert not report.problems, report
    assert journals(tape, home.root, scratch) > 100


@pytest.mark.parametrize("level", ["off", "normal"] if ALL else ["off"])
def test_the_replay_finds_a_store_that_is_not_synced(
    traced: Callable[..., Tape], home: HomeUnderTest, scratch: Path, level: str
) -> None:
    """The test of the test: with less than ``synchronous=FULL`` something must get lost."""
    report = replay(traced("brief", level), home.root, scratch, SAMPLE // 2)
    show(report)
    assert any("lost: job" in problem for problem in report.problems)


# Journals -------------------------------------------------------------------------


def journals(tape: Tape, root: str, scratch: Path) -> int:
    """See that what a power cut leaves of the journals, which are not synced, is true; give the number of trials.

    Another boot reads them: an end in them must be one that was written, whole; all else is lost.
    """
    keepers, workers = _Written(), _Written()
    chance = random.Random(SEED)
    disk = Disk(root)
    cuts = trials = 0
    for kind, call in tape:
        changed = disk.step(kind, call)
        if changed is None or os.path.basename(changed) not in ("journal", "journal.new"):
            continue
        cuts += 1
        of_keeper = os.path.basename(os.path.dirname(changed)) == "keeper"
        (keepers if of_keeper else workers).note(disk, changed)
        for how in ("none", "all", *["some"] * (VARIANTS if ALL else 2)):
            trials += 1
            left = disk.after_cut(how, random.Random(chance.randrange(1 << 32))).get(changed, b"")
            if of_keeper:
                _keepers_journal(left, keepers.said, scratch / "journal")
            else:
                assert all(outcome in workers.outcomes for outcome in frames.unseal(left)[0])
    print(f"journals: {cuts} cuts, {trials} files, seed {SEED}")
    return trials


class _Written:
    """All that was ever written into journals of one kind."""

    def __init__(self) -> None:
        self.said = b""
        self.outcomes: list[Any] = []
        self._last: Any = None

    def note(self, disk: Disk, path: str) -> None:
        pending = disk.now[path].pending if path in disk.now else []
        if pending and pending[-1] is not self._last and pending[-1].data:
            self._last = pending[-1]
            self.said += pending[-1].data
            # Several to a write, and of a rewritten one the same again.
            self.outcomes += frames.unseal(pending[-1].data)[0]


def _keepers_journal(left: bytes, written: bytes, path: Path) -> None:
    path.write_bytes(left)
    journal = keeper_journal.Journal(str(path), "another boot")
    journal.close()
    ends = [line for line in map(_parsed, written.splitlines()) if line.get("k") in ("ended", "failed")]
    for mark, said in journal.marks.items():
        # What "started" told stands in an end too, if it is there.
        true = [end for end in ends if end["mark"] == mark and end.items() <= said.items()]
        assert said == {"k": "lost", "mark": mark} or true, said


def _parsed(line: bytes) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(line)
    return said


@pytest.mark.parametrize("when", ["12..14", "16", "18", "14..17", "20..30"] if ALL else ["12..14"])
def test_nothing_is_lost_after_an_fsync_that_failed(
    traced: Callable[..., Tape], home: HomeUnderTest, scratch: Path, when: str
) -> None:
    """The kernel forgets what it could not write, and the next fsync says that all is well.

    Only when the log is written over itself before it is opened (``settle_log``) does this hold.
    """
    tape = traced("brief", inject=f"fdatasync:error=EIO:when={when}")
    report = replay(tape, home.root, scratch, None if ALL else SAMPLE // 2)
    show(report)
    assert report.failures > 0
    assert report.acknowledged > 3
    assert not report.problems, report
