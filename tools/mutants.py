"""Break a promise on purpose, and see a test fail: ``python tools/mutants.py [NAME …]``.

Each mutant is one change of the source in a copy of the tree, and the tests that have
to notice it. It ends with 1 if one survives, or no longer fits the source.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("src", "tests", "tools", "docs", "examples", "pyproject.toml", "README.md")
WAIT = 300.0


@dataclass(frozen=True)
class Mutant:
    """A change that must not go unnoticed.

    Attributes
    ----------
    name, why:
        What it is called, and the promise that it breaks.
    file, old, new:
        Where, and what becomes of which text (once).
    tests:
        Arguments for pytest: whatever of them fails first kills it.
    """

    name: str
    why: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "no-sync",
        "an acknowledged job is on disk",
        "src/vigie/store/sqlite.py",
        "PRAGMA synchronous=FULL;",
        "PRAGMA synchronous=OFF;",
        ("tests/test_store.py", "tests/test_power_cut.py"),
    ),
    Mutant(
        "early-answer",
        "nobody hears of what is not on disk",
        "src/vigie/agent/writer.py",
        "        self.dispatch.run()\n        store.commit()\n",
        "        self.dispatch.run()\n"
        "        for item, value, refused in answers:\n"
        "            if item.answer is not None:\n"
        "                self._carry_out(item.answer, (value, refused))\n"
        "        answers = []\n"
        "        store.commit()\n",
        ("tests/test_survival.py", "tests/test_torture.py", "tests/test_faults.py"),
    ),
    Mutant(
        "no-attempt",
        "an attempt is recorded before it starts",
        "src/vigie/store/sqlite.py",
        '        self.run("insert_attempt", bind)\n',
        "",
        ("tests/test_store.py", "tests/test_survival.py"),
    ),
    Mutant(
        "no-attempts",
        "each attempt of a batch is recorded before it starts",
        "src/vigie/store/sqlite.py",
        '        self.run_many(\n            "insert_attempt",',
        '        None if True else self.run_many(\n            "insert_attempt",',
        ("tests/test_packs.py", "tests/test_survival.py"),
    ),
    Mutant(
        "no-lot",
        "so is each of those that have no row of their own",
        "src/vigie/store/packs.py",
        '        self._run("add_lot", (pack.first, *lot))\n',
        "",
        ("tests/test_packs.py",),
    ),
    Mutant(
        "folded-away",
        "the attempts of such jobs outlive whatever happens to one of them",
        "src/vigie/store/packs.py",
        '            self._run("unfold_attempts", (pack.first,))\n',
        "",
        ("tests/test_packs.py",),
    ),
    Mutant(
        "no-begin",
        "the keeper writes down what it is about to start",
        "src/vigie/keeper.py",
        'self.journal.append("begin", mark=mark, since=procs.boot_ticks(), **more)',
        "pass",
        ("tests/test_keeper.py", "tests/test_survival.py"),
    ),
    Mutant(
        "no-fence",
        "two agents on one store cannot both move a job",
        "src/vigie/store/sqlite.py",
        "        if self.db.changes() != 1:\n            raise Stale(job)",
        "        pass",
        ("tests/test_store.py",),
    ),
    Mutant(
        "good-end-unchecked",
        "a batch of good ends changes nothing that was not under way",
        "src/vigie/store/sqlite.py",
        "        if self.db.total_changes() - before != len(ends):\n",
        "        if False:\n",
        ("tests/test_store.py",),
    ),
    Mutant(
        "rescue-by-age",
        "nothing is decided by age",
        "src/vigie/agent/recovery.py",
        "        for row in agent.store.open_attempts():\n            if row.worker is None:\n",
        "        for row in agent.store.open_attempts():\n"
        "            if row.started and agent.clock.wall() - row.started > 300_000:\n"
        '                agent.writer.post(agent.outcomes.lost, row.job, row.n, "it is old")\n'
        "            if row.worker is None:\n",
        ("tests/test_survival.py", "tests/test_torture.py"),
    ),
    Mutant(
        "page-unread",
        "what a worker had begun is not begun again",
        "src/vigie/agent/outcomes.py",
        "                if seq <= end.started:\n                    self._died_with(job, attempt, end)\n",
        "                if False:\n                    self._died_with(job, attempt, end)\n",
        ("tests/test_survival.py",),
    ),
    Mutant(
        "held-for-ever",
        "what the keeper holds does not outlast the agent that committed it",
        "src/vigie/keeper_lanes.py",
        '        """Drop all that waits; those that live go on to count."""\n        self._waiting.clear()\n',
        '        """Drop all that waits; those that live go on to count."""\n',
        ("tests/test_ahead.py",),
    ),
    Mutant(
        "uncounted-holders",
        "no more of a queue run at once than it has slots",
        "src/vigie/agent/ahead.py",
        "        if queue in self._called or not holders <= self._counted:\n",
        "        if queue in self._called:\n",
        ("tests/test_ahead.py",),
    ),
    Mutant(
        "told-before-noted",
        "what a run has told is never computed again",
        "src/vigie/parallel/course.py",
        "            self._resume.sync()\n",
        "            pass\n",
        ("tests/test_map_resume.py",),
    ),
    Mutant(
        "journal-of-the-dead",
        "what a worker had finished outlives it",
        "src/vigie/engines/ledger.py",
        "        events = self.take(self.page.records())\n",
        "        events: list[Event] = []\n",
        ("tests/test_map.py",),
    ),
    Mutant(
        "decided-twice",
        "at most one run for each (schedule, instant)",
        "src/vigie/store/schedules.sql",
        "WHERE f.outcome IS NULL;",
        ";",
        ("tests/test_schedules_world.py",),
    ),
    Mutant(
        "life-beside-leftovers",
        "a life of a service begins when nothing of the last one is left",
        "src/vigie/supervision/life.py",
        "    if event.left:\n        return new, (*effects, E.UNWATCH, E.CLEAR)\n",
        "",
        ("tests/test_service_life.py",),
    ),
    Mutant(
        "end-without-next",
        "the end of one life and the beginning of the next are one transaction",
        "src/vigie/agent/core.py",
        "            self.on_served_end(row, new)\n",
        "            pass\n",
        ("tests/test_services.py",),
    ),
    Mutant(
        "pause-unrecorded",
        "nothing planned is without a record",
        "src/vigie/agent/schedules.py",
        '            self._leave_out(row, last, missed, "paused", None)\n',
        "            pass\n",
        ("tests/test_schedules_world.py",),
    ),
    Mutant(
        "one-more-waits",
        "no more runs wait than the policy lets",
        "src/vigie/firing.py",
        "    if waiting >= most:\n",
        "    if waiting > most:\n",
        ("tests/test_schedules_world.py",),
    ),
)


def copy_tree(where: Path) -> Path:
    """Copy what the tests need, with an environment whose ``vigie`` is the copy; give its Python."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, where / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, where / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(where / ".venv")], check=True)
    site = next((where / ".venv" / "lib").glob("python*/site-packages"))
    others = sysconfig.get_path("purelib")
    (site / "mutant.pth").write_text(f"{where / 'src'}\nimport site; site.addsitedir({others!r})\n")
    return where / ".venv" / "bin" / "python"


def survives(mutant: Mutant, where: Path, python: Path) -> str | None:
    """Try one mutant; give what is wrong with the tests, or None if one of them failed."""
    path = where / mutant.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        return f"does not fit: {mutant.file} has its text {source.count(mutant.old)} times"
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    tests = [test for test in mutant.tests if (where / test.partition("::")[0]).exists()]
    command = [str(python), "-m", "pytest", "-q", "-x", "-n", "2", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=WAIT, check=False)
    except subprocess.TimeoutExpired:
        print(f"killed    {mutant.name}: the tests do not end")
        return None
    finally:
        path.write_text(source, encoding="utf-8")
    failed = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith("FAILED")]
    if done.returncode in (1, 2) and failed:  # 2: interrupted at the first failure
        print(f"killed    {mutant.name}: {failed[0].removeprefix('FAILED ')}", flush=True)
        return None
    return "survives" if done.returncode == 0 else f"pytest ended with {done.returncode}: {done.stdout[-300:]}"


def main(names: list[str]) -> int:
    """Try the named mutants, or all."""
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        print(f"no mutant {', '.join(sorted(unknown))}; there are {', '.join(m.name for m in MUTANTS)}")
        return 2
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="vigie-mutants-") as directory:
        python = copy_tree(Path(directory))
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # a mutant may be as old and as long as its source
        for mutant in MUTANTS:
            if not names or mutant.name in names:
                why = survives(mutant, Path(directory), python)
                if why is not None:
                    wrong += 1
                    print(f"NOT KILLED {mutant.name} ({mutant.why}): {why}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
