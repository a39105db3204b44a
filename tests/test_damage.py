"""Bits that flip and files that lose their end: found before they are believed, and nothing is made worse.

``VIGIE_FAULTS=1`` tries a thousand of each kind, ``VIGIE_FAULTS_SEED`` repeats a choice.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import apsw
import pytest

sys.path.insert(0, os.path.dirname(__file__))

import vigie
import work
from conftest import HomeUnderTest, Program, kill, need, until
from vigie.errors import StoreError
from vigie.session import session
from vigie.store.examine import examine
from vigie.store.sqlite import Store
from vigie.store.wal import began_anew

pytestmark = pytest.mark.slow

ALL = bool(os.environ.get("VIGIE_FAULTS"))
SEED = int(os.environ.get("VIGIE_FAULTS_SEED") or random.SystemRandom().randrange(1 << 20))
TRIALS = 1000 if ALL else 80
#: With a process for each.
FEW = 25 if ALL else 2


class Files:
    """The files of a store as they were left, to damage one and to put all back."""

    def __init__(self, home: HomeUnderTest) -> None:
        self.home = home
        self.names = [home.db + end for end in ("", "-wal", "-shm", ".seal") if os.path.exists(home.db + end)]
        self.sound = {name: Path(name).read_bytes() for name in self.names}
        self.times = {name: os.stat(name).st_mtime_ns for name in self.names}

    def write(self, name: str, content: bytes) -> None:
        """Change a file as a failing medium does: same file, same times."""
        with open(name, "r+b" if os.path.exists(name) else "wb") as file:
            file.write(content)
            file.truncate()
        os.utime(name, ns=(self.times[name], self.times[name]))

    def mend(self) -> None:
        """Put all back."""
        Path(self.home.db + ".damaged").unlink(missing_ok=True)
        for name, content in self.sound.items():
            if not os.path.exists(name) or Path(name).read_bytes() != content:
                self.write(name, content)
            os.utime(name, ns=(self.times[name], self.times[name]))

    def damage(self, name: str, chance: random.Random) -> str:
        """Flip one bit, or some, or cut the end off; tell what was done."""
        content = bytearray(self.sound[name])
        if chance.random() < 0.2:
            length = chance.randrange(len(content))
            self.write(name, bytes(content[:length]))
            return f"{os.path.basename(name)} cut to {length} of {len(content)}"
        places = [chance.randrange(8 * len(content)) for _ in range(chance.choice((1, 1, 1, 2, 8)))]
        for place in places:
            content[place // 8] ^= 1 << place % 8
        self.write(name, bytes(content))
        return f"{os.path.basename(name)} with bits {places} flipped"


def fill(home: HomeUnderTest) -> str:
    """Do some work, make the daily backup, and do a little more; give the backup's path."""
    for i in range(6):
        vigie.start(["/bin/sh", "-c", f"exit {i % 2}", f"command {i}"]).wait(30)
    vigie.start_many(work.add, [(i, 1) for i in range(100)])[-1].result(30)
    backup = str(session().client.call("backup", path=None)["path"])
    jobs = [vigie.start(["/bin/sh", "-c", "true", f"later {i}" * 20], delay=3600) for i in range(20)]
    vigie.start(["true"]).wait(30)
    assert jobs[-1].state == "blocked"
    # Who has the store open keeps its log from being copied and deleted.
    session().reader.close()
    return backup


def refused(home: HomeUnderTest, backup: str, what: str) -> bool:
    """Tell whether the look before the start finds the damage; if so it must say what to do."""
    before = {name: Path(name).read_bytes() for name in (home.db, home.db + "-wal") if os.path.exists(name)}
    try:
        examine(home)
    except StoreError as error:
        assert home.db in error.message, what
        assert f"vigie agent restore {backup}" in (error.hint or ""), what
        for name, content in before.items():
            assert Path(name).read_bytes() == content, f"{what}: {name} was not left as it was"
        return True
    return False


def test_whatever_happens_to_a_store_that_was_closed_in_order_is_found(home: HomeUnderTest) -> None:
    backup = fill(home)
    session().client.shutdown()
    until(lambda: not home.processes("agent"))
    files = Files(home)
    assert home.db + ".seal" in files.names
    assert home.db + "-wal" not in files.names
    assert not refused(home, backup, "sound")
    chance = random.Random(SEED)
    for _ in range(TRIALS):
        what = files.damage(home.db, chance)
        assert refused(home, backup, what), f"seed {SEED}: {what}"
        files.mend()
    assert not refused(home, backup, "sound again")


def test_damage_to_a_store_in_use_loses_no_job_unseen(home: HomeUnderTest) -> None:
    """Without a seal a flipped bit in a number or a text may pass; a job, or what it runs, may not."""
    fill(home)
    session().client.shutdown()  # so that much of it is in the database, and what follows in the log
    backup = fill(home)
    for process in home.processes("agent"):
        kill(process)
    files = Files(home)
    assert len(files.sound[home.db + "-wal"]) > 100_000
    with_log = what_is_there(home)
    files.mend()
    chance = random.Random(SEED)
    counted: Counter[str] = Counter()
    for place in [home.db, home.db + "-wal"] * (TRIALS // 2):
        what = files.damage(place, chance)
        if refused(home, backup, what):
            counted["found"] += 1
        else:
            counted[compare(with_log, what_is_there(home), f"seed {SEED}: {what}")] += 1
        files.mend()
    print(f"{dict(counted)}, seed {SEED}")
    assert counted["found"] > TRIALS / 10


def test_a_transaction_torn_over_an_older_log_is_no_damage(home: HomeUnderTest) -> None:
    """The log had begun anew: the heads of frames, torn, look like the older commits with the newer salts."""
    home.create()
    store = Store(home.db)
    store.db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    log = Path(home.db + "-wal")

    def write(value: str) -> bytes:
        store.begin()
        store.run("set_meta", ("test", value))
        store.commit()
        return log.read_bytes()

    for number in range(600):
        write(f"old {number}")
    store.checkpoint()
    old = log.read_bytes()
    whole = len(write("new"))  # the first frame of the new log
    assert whole == len(old)
    torn = bytearray(write("torn" * 500_000))
    store.close()
    ends = 32 + 4120
    frames = [at for at in range(ends, len(old) - 4119, 4120) if torn[at + 8 : at + 16] == torn[40:48]]
    for at in (frames[0], frames[-1]):
        torn[at : at + 4120] = old[at : at + 4120]
    mixed = [at for at in frames[1:-1] if (at + 8) % 512 == 0]
    for at in mixed:
        torn[at : at + 8] = old[at : at + 8]
    assert len(mixed) > 2
    log.write_bytes(torn)
    Path(home.db + "-shm").unlink()
    examine(home)
    store = Store(home.db)
    assert store.meta("test") == "new"
    store.close()


_JOBS = """
SELECT j.id, t.kind, t.argv, t.function, t.code, c.cwd, c.env, j.state, j.exit_code, j.args, j.result
FROM jobs j LEFT JOIN tasks t ON t.id = j.task LEFT JOIN contexts c ON c.id = j.context
"""


def what_is_there(home: HomeUnderTest) -> dict[int, tuple[Any, ...]]:
    """Read the store as the agent would after it has started."""
    store = Store(home.db)
    try:
        store.db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        return {row[0]: row[1:] for row in store.db.execute(_JOBS)}
    finally:
        store.close()


def compare(before: dict[int, tuple[Any, ...]], after: dict[int, tuple[Any, ...]], what: str) -> str:
    """Say what passed unseen, if that may: a number of a job that another number could stand for."""
    assert after.keys() == before.keys(), f"{what}: jobs were lost"
    # No task and no context is another than it was; a job may name one that belongs to others (promises.md).
    tasks, contexts = {row[:4] for row in before.values()}, {row[4:6] for row in before.values()}
    for job, row in after.items():
        assert row[:4] in tasks, f"{what}: job {job} is another: {row}"
        assert row[4:6] in contexts, f"{what}: job {job} has another context: {row}"
    return "harmless" if after == before else "a number or a text of a job's end or arguments passed"


# With the real agent -----------------------------------------------------------------


@pytest.mark.parametrize("closed", [True, False])
def test_the_agent_refuses_a_damaged_store_and_restores_its_backup(
    home: HomeUnderTest, vigie: Program, closed: bool
) -> None:
    backup = fill(home)
    if closed:
        session().client.shutdown()
    else:
        for process in home.processes("agent"):
            kill(process)
    until(lambda: not home.processes("agent"))
    files = Files(home)
    chance = random.Random(SEED)
    place = home.db if closed else home.db + "-wal"
    for _ in range(FEW):
        what = f"seed {SEED}: {files.damage(place, chance)}"
        while not refused(home, backup, what):
            files.mend()
            what = f"seed {SEED}: {files.damage(place, chance)}"
        broken = Path(home.db).read_bytes()
        said = vigie("start", "--", "true")
        assert said.returncode == 4, what
        assert f"vigie agent restore {backup}" in said.stderr, f"{what}: {said.stderr}"
        assert "Traceback" not in said.stderr + Path(home.agent_log).read_text(), what
        assert Path(home.db).read_bytes() == broken, what
        files.mend()


def test_what_the_message_says_brings_the_backup_back(home: HomeUnderTest, vigie: Program) -> None:
    backup = fill(home)
    session().client.shutdown()
    until(lambda: not home.processes("agent"))
    files = Files(home)
    chance = random.Random(SEED)
    for _ in range(FEW):
        what = f"seed {SEED}: {files.damage(home.db, chance)}"
        broken = Path(home.db).read_bytes()
        vigie("agent", "restore", backup, check=True)
        kept = [name for name in os.listdir(os.path.dirname(home.db)) if "replaced" in name]
        assert any(Path(os.path.dirname(home.db), name).read_bytes() == broken for name in kept), what
        assert len(vigie("jobs", "--json", "--limit", "1000", check=True).stdout) > 1000
        new = int(vigie("start", "--", "true", check=True).stdout)
        # Ids given after the backup are not given again.
        assert new > 106, what
        session().client.shutdown()
        until(lambda: not home.processes("agent"))
        for name in os.listdir(os.path.dirname(home.db)):
            if name.startswith(os.path.basename(home.db)):
                os.unlink(os.path.join(os.path.dirname(home.db), name))
        files.mend()


@pytest.mark.parametrize("how", ["emptied", "removed"])
def test_no_store_is_silently_begun_anew(home: HomeUnderTest, vigie: Program, how: str) -> None:
    backup = fill(home)
    session().client.shutdown()
    until(lambda: not home.processes("agent"))
    if how == "emptied":
        os.truncate(home.db, 0)
    else:
        os.unlink(home.db)
    said = vigie("start", "--", "true")
    assert said.returncode == 4
    assert f"vigie agent restore {backup}" in said.stderr
    assert "Traceback" not in said.stderr
    vigie("agent", "restore", backup, check=True)
    assert vigie("start", "--", "true").returncode == 0


@pytest.mark.parametrize("name", ["jobs", "show", "events", "logs"])
def test_who_reads_a_damaged_store_is_told_so(home: HomeUnderTest, vigie: Program, name: str) -> None:
    fill(home)
    session().client.shutdown()
    until(lambda: not home.processes("agent"))
    files = Files(home)
    chance = random.Random(SEED)
    words = [name] if name in ("jobs", "events") else [name, "3"]
    for _ in range(FEW):
        what = files.damage(home.db, chance)
        said = vigie(*words)
        assert "Traceback" not in said.stderr, what
        assert "bug" not in said.stderr, f"{what}: {said.stderr}"
        files.mend()


_ONE_COMMIT = """
import sys
from vigie.store.sqlite import Store
store = Store(sys.argv[1])
store.begin()
store.run("set_meta", ("more", 1))
store.commit()
"""
_EXAMINED = """
import sys
from vigie.config import Home
from vigie.store.examine import examine
from vigie.store.wal import began_anew
home = Home(sys.argv[1])
print(began_anew(home.db))
examine(home)
"""


def test_a_kill_where_the_log_begins_anew_is_no_damage(home: HomeUnderTest) -> None:
    """The index has the salts of the next log, and the file is the old one, while somebody keeps the index alive."""
    home.create()
    store = Store(home.db)
    for number in range(5):
        store.begin()
        store.run("set_meta", (f"number {number}", number))
        store.commit()
    store.checkpoint()
    words = [need("strace"), "-qq", "-o", os.devnull, "-P", home.db + "-wal", "-e", "trace=pwrite64"]
    words += ["-e", "inject=pwrite64:signal=SIGKILL:when=1", sys.executable, "-c", _ONE_COMMIT, home.db]
    died = subprocess.run(words, check=False)
    assert died.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    looked = subprocess.run([sys.executable, "-c", _EXAMINED, home.root], capture_output=True, text=True, check=False)
    assert (looked.returncode, looked.stdout) == (0, "True\n"), looked.stderr
    # Whoever comes next goes on with it.
    subprocess.run([sys.executable, "-c", _ONE_COMMIT, home.db], check=True)
    assert store.meta("more") == "1"
    assert store.meta("number 4") == "4"
    store.close()
    assert not began_anew(home.db)
