"""A resume journal and its disk: killed, full, failing, and left without power between any two writes.

The power cuts are played in one process: ``Drive`` stands between the journal and ``os``, lets the
real file be what the kernel shows, and keeps beside it what the disk has (``power_cut.File``).
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from power_cut import File, Write
from resume_journals import FUNCTION, batches, holds, key, line, open_, path, program, refuses_all, value  # noqa: F401 - fixtures
from vigie.errors import VigieError
from vigie.parallel import journal as module
from vigie.parallel.journal import Journal

# Kills ------------------------------------------------------------------------------


_WRITER = """
journal = Journal.open(path, function='3.11:aa')
number = len(journal)
while True:
    for number in range(number, number + 1 + number % 7):
        journal.add(key(number), value(number))
    number += 1
    journal.sync()
    print(number, flush=True)
"""


@pytest.mark.slow
def test_all_that_was_synced_outlives_a_kill(path: Path) -> None:
    known = 0
    for life in range(8):
        with program(_WRITER, path) as live:
            for _ in range(1 + life * 3):
                known = int(line(live))
            live.kill()
            assert live.stdout is not None
            # It went on until the kill came.
            for word in live.stdout.read().split("\n")[:-1]:
                known = int(word)
            live.wait()
        with Journal.open(path, function=FUNCTION) as journal:
            assert holds(journal) >= known


# Power cuts -------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


class Drive:
    """Stands for ``os`` in the journal: follows what is on its way to the disk, and fails when it is told to."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.file = File()
        #: Calls until the process is killed, and until a sync fails.
        self.kill_in = self.fail_in = -1
        self.calls: list[str] = []
        #: Do nothing of what opening the file asks for.
        self.careless = False

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _step(self, name: str) -> bool:
        """Count a call; True if the process is killed in it."""
        self.calls.append(name)
        self.kill_in -= 1
        return self.kill_in == 0

    def pwrite(self, fd: int, data: Any, at: int) -> int:
        data = bytes(data)
        if self.careless:
            return len(data)
        killed = self._step("write")
        if killed:
            data = data[: self.chance.randint(0, len(data))]
        assert os.pwrite(fd, data, at) == len(data)
        self.file.pending.append(Write(at, data, ended=True))
        if killed:
            raise Killed
        return len(data)

    def ftruncate(self, fd: int, length: int) -> None:
        if self._step("truncate"):
            raise Killed
        os.ftruncate(fd, length)
        self.file.pending.append(Write(length, None, ended=True))

    def fsync(self, fd: int) -> None:
        if self.careless:
            return
        killed = self._step("sync")
        self.fail_in -= 1
        if self.fail_in == 0:
            # The kernel forgets what it could not write, and goes on showing it. For lengths it has a log of its own.
            self.file.fail([write for write in self.file.pending if write.data is not None])
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if killed:
            raise Killed
        self.file.settle(list(self.file.pending))

    fdatasync = fsync


class Lives:
    """One run after the other over the same file, each ended by a kill, a failing disk, or a power cut."""

    def __init__(self, path: Path, seed: int, *, careless: bool = False) -> None:
        self.path = path
        self.chance = random.Random(seed)
        self.drive = Drive(self.chance)
        self.careless = careless
        #: Records that were ever noted, in their order; so many of them are promised.
        self.written = self.promised = 0
        self.cuts = 0

    def run(self, lives: int) -> None:
        """Live; raise when a promise is broken."""
        for _ in range(lives):
            self.drive.kill_in = self.chance.choice((-1, self.chance.randint(1, 12)))
            self.drive.fail_in = self.chance.choice((-1, self.chance.randint(1, 6)))
            journal = None
            with suppress(Killed, OSError):
                fresh = self.chance.random() < 0.1
                if fresh:
                    self.promised = 0
                self.drive.careless = self.careless
                journal = Journal.open(self.path, function=FUNCTION, fresh=fresh)
                self.drive.careless = False
                self._live(journal)
            if journal is not None:
                journal._let_go()  # as the kernel does
            if self.chance.random() < 0.6:
                self._cut()

    def _live(self, journal: Journal) -> None:
        self.written = holds(journal)
        assert self.written >= self.promised, f"{self.promised} were promised, and {self.written} are there"
        self.promised = self.written
        for _ in range(self.chance.randint(0, 4)):
            # Some batches over many sectors, most within one.
            for _ in range(self.chance.choice((1, 2, 5, 60))):
                journal.add(key(self.written), value(self.written))
                self.written += 1
            journal.sync()
            self.promised = self.written

    def _cut(self) -> None:
        self.cuts += 1
        left = self.drive.file.after_cut(self.chance.choice(("none", "all", "some", "some")), self.chance)
        self.path.write_bytes(left)
        self.drive.file = File(durable=bytearray(left))


@contextmanager
def driven(lives: Lives) -> Iterator[Lives]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "os", lives.drive)
        patch.setattr(module, "_sync_names", lambda path: None)
        yield lives


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
def test_what_was_synced_outlives_power_cuts_and_failing_disks(tmp_path: Path, seed: int) -> None:
    with driven(Lives(Path(tempfile.mkdtemp(dir=tmp_path), "name"), seed)) as lives:
        lives.run(12)


def problems(tmp_path: Path, **options: Any) -> str:
    found = []
    for seed in range(200):
        with driven(Lives(Path(tempfile.mkdtemp(dir=tmp_path), "name"), seed, **options)) as lives:
            try:
                lives.run(12)
            except (AssertionError, VigieError) as error:
                found.append(str(error))
    return "\n".join(found)


@pytest.mark.slow
def test_the_power_cuts_find_a_last_batch_that_is_not_settled(tmp_path: Path) -> None:
    assert "and more follows" in problems(tmp_path, careless=True)


@pytest.mark.slow
def test_the_power_cuts_find_saves_that_are_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_sync_data", lambda fd: None)
    assert "were promised" in problems(tmp_path)


@pytest.mark.slow
def test_the_power_cuts_leave_whole_records_behind_torn_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were they taken for a proof of damage, a journal would be refused that nothing has damaged."""

    def whole_record_behind(journal: Journal, at: int, size: int) -> bool:
        data = journal.path and Path(journal.path).read_bytes()
        return any(journal._take(data[begin:], begin)[0] for begin in range(at + 1, size - 31))

    monkeypatch.setattr(Journal, "_mark_behind", whole_record_behind)
    assert "and more follows" in problems(tmp_path)


# Saves ------------------------------------------------------------------------------


def test_opening_writes_no_more_than_the_last_batch(path: Path, open_: Callable[..., Journal]) -> None:
    """What was saved before it is on disk."""
    with driven(Lives(path, 0)) as lives:
        ends = batches(path, 50, 50, 2)
        written: list[Write] = []
        lives.drive.file.settle = written.extend  # type: ignore[method-assign]  # to see what is on its way
        open_(path)
        assert lives.drive.calls[-2:] == ["write", "sync"]
        assert [(write.at, len(write.data or b"")) for write in written[-1:]] == [(ends[99], ends[101] - ends[99])]


def test_a_save_is_one_write_and_one_sync(path: Path, open_: Callable[..., Journal]) -> None:
    with driven(Lives(path, 0)) as lives:
        journal = open_(path)
        assert lives.drive.calls == ["sync"]
        for _ in range(3):
            for number in range(50):
                journal.add(key(number), value(number))
            lives.drive.calls.clear()
            journal.sync()
            assert lives.drive.calls == ["write", "sync"]
            journal.sync()
            assert lives.drive.calls == ["write", "sync"]


@pytest.mark.parametrize("exists", [False, True])
def test_the_names_are_on_disk_after_the_first_save(
    tmp_path: Path, open_: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    """Also those that another run made, which may have been killed before it could sync them."""
    path = tmp_path / "a" / "b" / "name"
    if exists:
        batches(path, 1)
    journal = open_(path)
    synced: list[str] = []
    monkeypatch.setattr(module, "sync_directory", synced.append)
    journal.add(key(1), b"")
    assert not synced
    journal.sync()
    assert synced[:3] == [str(tmp_path / "a" / "b"), str(tmp_path / "a"), str(tmp_path)]
    synced.clear()
    journal.add(key(2), b"")
    journal.sync()
    assert not synced


@pytest.mark.parametrize("which", ["_sync_data", "_sync_names"])
def test_after_a_sync_that_failed_nothing_is_believed(
    path: Path, open_: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    def fails(_: object) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    journal = open_(path)
    journal.add(key(0), value(0))
    monkeypatch.setattr(module, which, fails)
    with pytest.raises(OSError, match="the disk is gone"):
        journal.sync()
    monkeypatch.undo()
    refuses_all(journal, "the disk failed to keep the resume journal")
    journal.close()
    with Journal.open(path, function=FUNCTION) as again:
        assert holds(again) == 1


@pytest.mark.slow
@pytest.mark.parametrize("synced", [0, 2])
def test_an_interrupt_at_any_line_does_no_harm(path: Path, synced: int) -> None:
    """Whatever a signal handler raises, the same calls again put all on disk."""

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != module.__file__:
            return None
        lines += event == "line"
        if event == "line" and lines == wanted:
            raise KeyboardInterrupt
        return trace

    def work() -> None:
        for number in range(synced, synced + 3):
            if not journal.done(key(number)):
                journal.add(key(number), value(number))
            if number % 2:
                journal.sync()
        journal.sync()

    wanted, lines, struck = 0, 0, True
    before = sys.gettrace()
    while struck:
        wanted += 1
        with Journal.open(path, function=FUNCTION, fresh=True) as journal:
            for number in range(synced):
                journal.add(key(number), value(number))
                journal.sync()
            lines, struck = 0, False
            sys.settrace(trace)
            try:
                work()
            except KeyboardInterrupt:
                struck = True
                work()
            finally:
                sys.settrace(before)
            assert holds(journal) == synced + 3
        with Journal.open(path, function=FUNCTION) as journal:
            assert holds(journal) == synced + 3
    assert wanted > 50


_FULL = """
import resource
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
journal = Journal.open(path, function='3.11:aa')
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, most))
number = 0
try:
    while True:
        journal.add(key(number), value(number))
        number += 1
        if number % 5 == 0:
            journal.sync()
except OSError as error:
    print(error.errno, number, os.path.getsize(path), flush=True)
if words:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    journal.sync()
    journal.add(key(number), value(number))
    journal.close()
    print(number + 1, flush=True)
else:
    os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("room", [True, False])
def test_a_full_disk(path: Path, room: bool) -> None:
    """Half of a batch fits. With room again the same call does it; without, what was synced is there."""
    with program(_FULL, path, *["room"] * room) as live:
        number, added, size = map(int, line(live).split())
        assert (number, size) == (errno.EFBIG, 1500)
        if room:
            assert int(line(live)) == added + 1
        live.wait()
    with Journal.open(path, function=FUNCTION) as journal:
        assert added - 5 <= holds(journal) <= added if not room else holds(journal) == added + 1


@pytest.mark.parametrize("platform", ["fdatasync", "fsync", "F_FULLFSYNC", "F_FULLFSYNC refused"])
def test_each_platform_syncs_as_it_can(
    path: Path, open_: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    called: list[str] = []
    journal = open_(path)
    journal.add(key(0), value(0))
    drive = Drive(random.Random(0))
    monkeypatch.setattr(module, "os", drive)
    monkeypatch.setattr(module, "_sync_names", lambda path: None)
    monkeypatch.setattr(drive, "fdatasync", lambda fd: called.append("fdatasync"), raising=False)
    monkeypatch.setattr(drive, "fsync", lambda fd: called.append("fsync"), raising=False)

    def full(fd: int, what: int) -> None:
        called.append("full")
        if platform.endswith("refused"):
            raise OSError(errno.ENOTSUP, "not here")

    if platform == "fsync":
        # As where there is no fdatasync at all.
        monkeypatch.setattr(module, "os", type("", (), {**vars(os), "fsync": drive.fsync}))
        monkeypatch.delattr(module.os, "fdatasync")
    elif platform != "fdatasync":
        monkeypatch.setattr(
            module, "fcntl", type("", (), {**vars(fcntl), "F_FULLFSYNC": 51, "fcntl": staticmethod(full)})
        )
    journal.sync()
    monkeypatch.undo()
    expected = {"F_FULLFSYNC": ["full"], "F_FULLFSYNC refused": ["full", "fdatasync"]}
    assert called == expected.get(platform, [platform])


@pytest.mark.slow
def test_it_costs_no_more_memory_than_its_keys(path: Path) -> None:
    """Values stay in the file."""
    size = 200_000
    with Journal.open(path, function=FUNCTION) as journal:
        for number in range(20):
            journal.add(key(number), bytes(size))
    text = (
        "import tracemalloc; tracemalloc.start(); journal = Journal.open(path, function='3.11:aa');"
        "print(len(journal), tracemalloc.get_traced_memory()[0])"
    )
    with program(text, path) as live:
        count, held = map(int, line(live).split())
    assert count == 20
    assert held < size
