"""Promise 1 where it is hardest: the power goes away between any two writes.

The real agent, its keeper, workers and clients run under strace; the trace is replayed
(``power_cut``), and after every step the files are rebuilt as a disk could hold them. Then
the store must be whole, and everything that was acknowledged by then must be in it.

By default a sample of the cuts is tried; ``VIGIE_POWER_CUT=1`` traces more and tries them
all, on all cores (some minutes); ``VIGIE_POWER_CUT_SEED`` repeats a choice.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import HomeUnderTest, need
from power_cut import Disk, File, Talk, Tape, perform, read
from power_cut_scene import LIVES, SIZES, state
from vigie import frames, keeper_journal, workfiles
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
#: The same where the log takes its turns at its usual size.
LARGE = 2000
#: Random variants of each cut when all are tried.
VARIANTS = 8
#: Steps that one process takes before the next one takes some.
_BLOCK = 50


@dataclass
class Report:
    """What a replay found."""

    seed: int
    cuts: int = 0
    trials: int = 0
    acknowledged: int = 0
    failures: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Count what another process has tried of the same trace."""
        self.trials += other.trials
        self.problems += other.problems

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
            db = self._whole(store.db)
            store.begin()
            for (pack,) in db.execute("SELECT first FROM packs").fetchall():
                store.unfold(pack)
            return list(_differences(db, facts))
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


@dataclass
class Trace:
    """Where a trace is, and of which home."""

    path: Path
    root: str

    def tape(self) -> Tape:
        return read(self.path, self.root)


def replay(trace: Trace, scratch: Path, sample: int | None) -> Report:
    """Cut the power after every step of a trace (or as many as make ``sample`` disks), and judge the disks."""
    if sample is not None:
        tape = trace.tape()
        share = min(1.0, sample / 3 / max(1, _count(tape, trace.root)))
        return replay_part(tape, trace.root, scratch, SEED, share)
    parts = len(os.sched_getaffinity(0))
    words = [sys.executable, "-c", _PART, str(trace.path), trace.root, str(scratch), str(SEED), str(parts)]
    pipe = subprocess.PIPE
    live = [subprocess.Popen([*words, str(part)], cwd=HERE, stdout=pipe, text=True) for part in range(parts)]
    said = [one.communicate()[0] for one in live]
    assert [one.returncode for one in live] == [0] * parts
    first, *others = (Report(**json.loads(text)) for text in said)
    for other in others:
        first.add(other)
    return first


_PART = """
import sys
import test_power_cut
test_power_cut.part_of_all(*sys.argv[1:])
"""


def part_of_all(path: str, root: str, scratch: str, seed: str, parts: str, part: str) -> None:
    """Judge one part of all cuts, in a process of its own, and print the report."""
    own = Path(scratch, f"part{part}")
    own.mkdir()
    tape = Trace(Path(path), root).tape()
    report = replay_part(tape, root, own, int(seed), 1.0, int(parts), int(part), VARIANTS)
    print(json.dumps(asdict(report)))


def replay_part(
    tape: Tape,
    root: str,
    scratch: Path,
    seed: int,
    share: float,
    parts: int = 1,
    part: int = 0,
    variants: int = 1,
) -> Report:
    """Replay all of a trace, and judge the cuts of one part of it, or a share of them."""
    report = Report(seed)
    disk, talk, judge = Disk(root), Talk(), Judge(root, scratch)
    seen: set[Any] = set()
    for kind, call in tape:
        before = talk.acknowledged
        talk.step(kind, call)
        changed = disk.step(kind, call)
        if talk.acknowledged == before and not _of_store(changed):
            continue
        report.cuts += 1
        # The same choices, however many share the work.
        chance = random.Random(f"{seed}.{report.cuts}")
        if chance.random() >= share or report.cuts // _BLOCK % parts != part:
            continue
        safe = (disk.safe(), talk.acknowledged)
        kinds = ["all", *["some"] * variants]
        if safe not in seen:
            kinds.insert(0, "none")
            seen.add(safe)
        for how in kinds:
            report.trials += 1
            files = disk.after_cut(how, random.Random(chance.randrange(1 << 32)))
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
def traced(home: HomeUnderTest, tmp_path: Path) -> Callable[..., Trace]:
    """Run the scene under strace and give its trace."""

    def run(*words: str, inject: str | None = None) -> Trace:
        path = tmp_path / "trace"
        script = str(HERE / "power_cut_scene.py")
        perform(need("strace"), path, [script, *words], home, inject=inject)
        return Trace(path, home.root)

    return run


@pytest.mark.parametrize("words", [[], ["turns"], ["many"]] if ALL else [[], ["turns"]], ids=" ".join)
def test_no_power_cut_loses_what_was_acknowledged(
    traced: Callable[..., Trace], home: HomeUnderTest, scratch: Path, words: list[str]
) -> None:
    """With ``turns`` the log is also copied into the database while the agent works, and begins anew.

    With ``many`` it does so at its usual size: of those tens of thousands of cuts some are tried.
    """
    trace = traced(*words)
    sample = SAMPLE if not ALL else LARGE if words == ["many"] else None
    report = replay(trace, scratch, sample)
    show(report)
    assert report.acknowledged > 30
    assert report.trials > SAMPLE / 2
    assert not report.problems, report
    assert journals(trace.tape(), home.root, scratch) > 100


@pytest.mark.parametrize("level", ["off", "normal"] if ALL else ["off"])
def test_the_replay_finds_a_store_that_is_not_synced(traced: Callable[..., Trace], scratch: Path, level: str) -> None:
    """The test of the test: with less than ``synchronous=FULL`` something must get lost."""
    report = replay(traced("brief", level), scratch, SAMPLE // 2)
    show(report)
    assert any("lost: job" in problem for problem in report.problems)


# Saves ------------------------------------------------------------------------------


def judge_saves(trace: Trace, path: Path) -> tuple[int, int, list[str]]:
    """Cut the power at every step of a program that saves; give saves, trials and problems.

    Each save that was said to be made must be there, what is there must be whole and in
    order, and the next life must be able to go on behind it.
    """
    disk, chance = Disk(trace.root), random.Random(SEED)
    saved = trials = 0
    problems: list[str] = []
    for kind, call in trace.tape():
        changed = disk.step(kind, call)
        if kind == "end" and call.name == "write" and call.strings and call.strings[0].startswith(b"saved "):
            saved = int(call.strings[0].split()[1])
        elif changed is None:
            continue
        for how in ("none", "all", *["some"] * VARIANTS):
            trials += 1
            files = disk.after_cut(how, random.Random(chance.randrange(1 << 32)))
            path.write_bytes(files.get(os.path.join(trace.root, "saves"), b""))
            problem = _unlike_saves(path, saved)
            if problem:
                problems.append(f"seed {SEED}: {how}, after line {call.begin + 1} ({call.name}): {problem}")
    return saved, trials, problems


def _unlike_saves(path: Path, saved: int) -> str | None:
    found = workfiles.read_journal(str(path))
    if len(found) < saved:
        return f"lost: {saved} were saved, and {len(found)} are there"
    if found != [state(number) for number in range(1, len(found) + 1)]:
        return "something that was never saved is there"
    journal = workfiles.Journal(str(path))
    journal.append(*state(len(found) + 1))
    journal.close()
    if workfiles.read_journal(str(path)) != [*found, state(len(found) + 1)]:
        return "a save behind it is not found"
    return None


def test_what_a_program_has_saved_outlives_a_power_cut(traced: Callable[..., Trace], scratch: Path) -> None:
    """At every step: files of sealed frames, an append and an fdatasync each; every life ends in the middle of one."""
    saved, trials, problems = judge_saves(traced("saves"), scratch / "saves")
    print(f"saves: {saved}, {trials} files, seed {SEED}: {len(problems)} problems")
    assert saved == LIVES * len(SIZES)
    assert trials > 500
    assert not problems, "\n".join(problems[:20])


def test_the_replay_finds_saves_that_are_not_synced(traced: Callable[..., Trace], scratch: Path) -> None:
    _, _, problems = judge_saves(traced("saves", "careless"), scratch / "saves")
    assert any("lost: " in problem for problem in problems)


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
def test_nothing_is_lost_after_an_fsync_that_failed(traced: Callable[..., Trace], scratch: Path, when: str) -> None:
    """The kernel forgets what it could not write, and the next fsync says that all is well.

    Only when the log is written over itself before it is opened (``settle_log``) does this hold.
    """
    trace = traced("brief", inject=f"fdatasync:error=EIO:when={when}")
    report = replay(trace, scratch, None if ALL else SAMPLE // 2)
    show(report)
    assert report.failures > 0
    assert report.acknowledged > 3
    assert not report.problems, report
