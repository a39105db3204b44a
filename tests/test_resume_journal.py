"""The resume journal: cut at every byte, flipped, killed, and left without power between any two writes.

The power cuts are played in one process: ``Drive`` stands between the journal and ``os``, lets the
real file be what the kernel shows, and keeps beside it what the disk has (``power_cut.File``).
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import struct
import subprocess
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

sys.path.insert(0, os.path.dirname(__file__))

from power_cut import File, Write
from vigie.errors import Conflict, VigieError
from vigie.parallel import journal as module
from vigie.parallel.journal import Journal

FUNCTION = "3.11:aa"


def key(number: int) -> bytes:
    return struct.pack(">QQ", 7, number)


def value(number: int) -> bytes:
    """Something of another length each time, and told from all others."""
    return b"%d " % number * (number * 7 % 13 + 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "resume" / "name"


@pytest.fixture
def open_() -> Iterator[Callable[..., Journal]]:
    """Open journals that are let go of at the end."""
    opened: list[Journal] = []

    def open_one(path: Path, function: str = FUNCTION, **options: Any) -> Journal:
        opened.append(Journal.open(path, function=function, **options))
        return opened[-1]

    yield open_one
    for journal in opened:
        journal._let_go()


def batches(path: Path, *counts: int) -> list[int]:
    """Write batches of so many records each; give where each of them ends in the file."""
    ends = []
    with Journal.open(path, function=FUNCTION) as journal:
        number = len(journal)
        for count in counts:
            for number in range(number, number + count):  # noqa: B020 - goes on where the last one ended
                journal.add(key(number), value(number))
                ends.append(journal._size + len(journal._buffer))
            number += 1
            journal.sync()
    return ends


def holds(journal: Journal) -> int:
    """Give how many records it holds, which are the first that were written, each whole."""
    assert journal.failed == 0
    for number in range(len(journal)):
        assert journal.value(key(number)) == value(number)
    assert not journal.done(key(len(journal)))
    return len(journal)


# What it holds ----------------------------------------------------------------------


def test_what_was_added_is_there_again(path: Path, open_: Callable[..., Journal]) -> None:
    journal = open_(path)
    journal.add(key(1), b"one")
    journal.add(key(2), b"")
    journal.fail(key(3), "no \udce9 such file")
    # Before it is on disk, and behind what is.
    assert (journal.value(key(1)), journal.value(key(2)), journal.failure(key(3))) == (
        b"one",
        b"",
        "no \udce9 such file",
    )
    journal.sync()
    journal.add(key(4), b"four" * 5000)
    for again in (journal, None):
        if again is None:
            journal.close()
            again = open_(path)
        assert (len(again), again.failed) == (3, 1)
        assert [again.done(key(number)) for number in range(6)] == [False, True, True, False, True, False]
        assert (again.value(key(1)), again.value(key(2)), again.value(key(4))) == (b"one", b"", b"four" * 5000)
        assert again.failure(key(3)) == "no \udce9 such file"
        with pytest.raises(KeyError):
            again.value(key(3))
        with pytest.raises(KeyError):
            again.failure(key(1))


def test_the_format_is_the_documented_one(path: Path) -> None:
    import zlib

    with Journal.open(path, function=FUNCTION) as journal:
        journal.add(key(1), b"one")
        journal.sync()
        journal.fail(key(2), "two")
    data = path.read_bytes()
    magic, seed, version, salt = struct.unpack_from("<8sII16s", data)
    assert (magic, version, len(salt)) == (b"vigie-rj", 1, 16)
    assert seed == zlib.crc32(data[:8] + bytes(4) + data[12:32])
    found, at = [], 32
    while at < len(data):
        crc, kind, length, owner = struct.unpack_from("<IB3xQ16s", data, at)
        assert crc == zlib.crc32(data[at + 4 : at + 32 + length], seed)
        found.append((kind, owner, data[at + 32 : at + 32 + length]))
        at += 32 + length
    mark = b"\xf7rj-mark" + (32 + 32 + 7 + 32 + 3).to_bytes(8, "little")
    assert found == [(3, bytes(16), FUNCTION.encode()), (1, key(1), b"one"), (4, mark, b""), (2, key(2), b"two")]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 5), st.binary(max_size=60)),
            st.tuples(st.just("fail"), st.integers(0, 5), st.text(max_size=9)),
            st.sampled_from([("sync",), ("open",)]),
        ),
        max_size=30,
    )
)
@pytest.mark.slow
def test_of_each_key_the_last_record_counts(tmp_path: Path, steps: list[tuple[Any, ...]]) -> None:
    path = Path(tempfile.mkdtemp(dir=tmp_path), "name")
    done: dict[bytes, bytes] = {}
    failed: dict[bytes, str] = {}
    journal = Journal.open(path, function=FUNCTION)
    for step in [*steps, ("open",)]:
        if step[0] == "add":
            journal.add(key(step[1]), step[2])
            done[key(step[1])] = step[2]
            failed.pop(key(step[1]), None)
        elif step[0] == "fail":
            journal.fail(key(step[1]), step[2])
            failed[key(step[1])] = step[2]
            done.pop(key(step[1]), None)
        elif step[0] == "sync":
            journal.sync()
        else:
            journal.close()
            journal = Journal.open(path, function=FUNCTION)
        assert (len(journal), journal.failed) == (len(done), len(failed))
        assert {k: journal.value(k) for k in map(key, range(6)) if journal.done(k)} == done
        assert {k: journal.failure(k) for k in failed} == failed
    journal.close()


def test_records_larger_than_what_is_read_at_a_time(
    path: Path, open_: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 100)
    large = [os.urandom(size) for size in (67, 68, 69, 70, 99, 100, 250, 300, 1000)]
    journal = open_(path)
    for number, content in enumerate(large):
        journal.add(key(number), content)
        journal.fail(key(100 + number), "x" * len(content))
        if number % 2:
            journal.sync()
    journal.close()
    again = open_(path)
    assert (len(again), again.failed) == (len(large), len(large))
    assert [again.value(key(number)) for number in range(len(large))] == large
    again.close()
    # The last of them is torn: all but that, and the failure in front of it, is there.
    os.truncate(path, path.stat().st_size - 33 - 1000)
    again = open_(path)
    assert (len(again), again.failed) == (len(large) - 1, len(large) - 1)


@pytest.mark.parametrize("at", [*range(93, 104), 192, 200, 250])
def test_a_mark_is_found_wherever_a_block_ends(
    path: Path, monkeypatch: pytest.MonkeyPatch, open_: Callable[..., Journal], at: int
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 100)
    journal = open_(path)
    journal.add(key(0), bytes(at))
    journal.sync()
    journal.add(key(1), b"")
    journal.close()
    data = bytearray(path.read_bytes())
    data[80] ^= 1
    path.write_bytes(data)
    with pytest.raises(VigieError, match="damaged at byte 71, and more follows"):
        open_(path)


def test_a_key_has_16_bytes(path: Path, open_: Callable[..., Journal]) -> None:
    journal = open_(path)
    with pytest.raises(ValueError, match="a key has 16 bytes, and this one 3"):
        journal.add(b"key", b"")
    assert not journal.done(b"key")


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    Journal.open(tmp_path / "a" / "b" / "name", function=FUNCTION).close()
    assert [(tmp_path / part).stat().st_mode & 0o777 for part in ("a", "a/b", "a/b/name")] == [0o700, 0o700, 0o600]


def test_another_function_is_told_once_for_each_change(path: Path) -> None:
    def runs(*functions: str) -> list[bool]:
        told = []
        for function in functions:
            with Journal.open(path, function=function) as journal:
                told.append(journal.changed)
        return told

    assert runs("3.11:aa", "3.11:aa", "3.11:bb", "3.11:bb", "3.11:aa") == [False, False, True, False, True]
    # Another Python says nothing; and a change that it saw too is found all the same.
    size = path.stat().st_size
    assert runs("3.12:cc", "3.11:aa", "3.12:cc") == [False, False, False]
    assert path.stat().st_size == size + 32 + 32 + 7
    assert runs("3.12:cc", "3.11:bb", "3.12:dd") == [False, True, True]


# Damage -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_file_that_was_cut_at_any_byte_holds_the_records_before(path: Path) -> None:
    ends = batches(path, 3, 1, 4)
    data = path.read_bytes()
    assert ends[-1] == len(data)
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        with Journal.open(path, function=FUNCTION) as journal:
            whole = sum(end <= size for end in ends)
            assert holds(journal) == whole
            journal.add(key(whole), value(whole))
        with Journal.open(path, function=FUNCTION) as journal:
            assert holds(journal) == whole + 1
            assert not journal.changed


@pytest.mark.slow
def test_a_flipped_bit_is_refused_or_cuts_what_was_saved_last(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "fsync", lambda fd: None)
    ends = batches(path, 3, 1, 4)
    data = path.read_bytes()
    last = ends[3]  # where the mark of the last batch is
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        if at < last:
            with pytest.raises(VigieError) as refused:
                Journal.open(path, function=FUNCTION)
            assert "damaged" in str(refused.value)
            assert refused.value.hint == "fresh=True forgets all that it holds"
            assert path.read_bytes() == damaged
        else:
            with Journal.open(path, function=FUNCTION) as journal:
                assert holds(journal) == max(4, sum(end <= at for end in ends))


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_done_to_a_file_it_holds_a_prefix_or_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = Path(tempfile.mkdtemp(dir=tmp_path), "name")
    counts = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    batches(path, *counts)
    content = bytearray(path.read_bytes())
    for at, bit in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 7)), max_size=6)):
        content[at] ^= 1 << bit
    begin = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(begin, len(content)))
    how = data.draw(st.sampled_from(["nothing", "zeros", "gone", "twice", "garbage"]))
    if how == "zeros":
        content[begin:end] = bytes(end - begin)
    elif how == "gone":
        del content[begin:end]
    elif how == "twice":
        content[end:end] = content[begin:end]
    elif how == "garbage":
        content += data.draw(st.binary(max_size=200))
    path.write_bytes(content)
    try:
        journal = Journal.open(path, function=FUNCTION)
    except VigieError:
        with Journal.open(path, function=FUNCTION, fresh=True) as journal:
            assert len(journal) == 0
        return
    with journal:
        held = holds(journal)
        assert held <= sum(counts)
        journal.add(key(held), value(held))
    with Journal.open(path, function=FUNCTION) as journal:
        assert holds(journal) == held + 1


@pytest.mark.parametrize("tail", [bytes(1), bytes(31), bytes(32), bytes(5000), b"\xff" * 40, b"vigie-rj" * 9])
def test_what_a_power_cut_left_behind_the_end_is_cut_off(path: Path, tail: bytes) -> None:
    end = batches(path, 2, 2)[-1]
    with open(path, "ab") as file:
        file.write(tail)
    with Journal.open(path, function=FUNCTION) as journal:
        assert holds(journal) == 4
        assert path.stat().st_size == end


@pytest.mark.parametrize("content", [b"\0", bytes(32), bytes(9000), b"vig", b"vigie-rj", b"vigie-rj" + b"x" * 23])
def test_a_header_that_never_came_to_the_disk_is_an_empty_journal(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with Journal.open(path, function=FUNCTION) as journal:
        assert len(journal) == 0
        journal.add(key(0), value(0))
    with Journal.open(path, function=FUNCTION) as journal:
        assert holds(journal) == 1


@pytest.mark.parametrize("content", [b"x", b"my thesis\n" * 100, b"vigie-rj" + b"x" * 24, b"vigie-sj"])
def test_a_file_that_is_none_is_left_alone_unless_it_may_be_forgotten(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(VigieError, match="does not begin as a resume journal does"):
        Journal.open(path, function=FUNCTION)
    assert path.read_bytes() == content
    with Journal.open(path, function=FUNCTION, fresh=True) as journal:
        assert len(journal) == 0
    with Journal.open(path, function=FUNCTION) as journal:
        assert not journal.changed


@pytest.mark.parametrize("content", [bytes(32), b"vigie-rj" + bytes(24), bytes(64)])
def test_a_header_that_was_lost_with_saves_behind_it_is_damage(path: Path, content: bytes) -> None:
    batches(path, 2, 2)
    with open(path, "r+b") as file:
        file.write(content)
    damaged = path.read_bytes()
    with pytest.raises(VigieError, match="it is damaged, or none"):
        Journal.open(path, function=FUNCTION)
    assert path.read_bytes() == damaged


def test_a_newer_version_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERSION", 2)
    batches(path, 2)
    monkeypatch.undo()
    content = path.read_bytes()
    with pytest.raises(VigieError, match="has version 2, and this Vigie knows 1"):
        Journal.open(path, function=FUNCTION)
    assert path.read_bytes() == content


def test_fresh_forgets(path: Path) -> None:
    batches(path, 3, 3)
    with Journal.open(path, function="3.11:bb", fresh=True) as journal:
        assert (len(journal), journal.changed) == (0, False)
    with Journal.open(path, function="3.11:bb") as journal:
        assert (len(journal), journal.changed) == (0, False)


def test_a_record_of_another_file_is_none_of_this_one(path: Path, tmp_path: Path) -> None:
    batches(path, 1)
    batches(tmp_path / "other", 2)
    end = path.stat().st_size
    with open(path, "ab") as file:
        file.write((tmp_path / "other").read_bytes()[end:])
    with Journal.open(path, function=FUNCTION) as journal:
        assert holds(journal) == 1


@pytest.mark.parametrize("at", [0, 4, 8, 11, 15, 20, 33])
def test_a_value_is_verified_when_it_is_read(path: Path, open_: Callable[..., Journal], at: int) -> None:
    begin = batches(path, 3)[1]
    journal = open_(path)
    with open(path, "r+b") as file:
        file.seek(begin + at)
        file.write(b"\xff")
    assert [journal.value(key(number)) for number in (0, 1)] == [value(0), value(1)]
    with pytest.raises(VigieError, match=f"was damaged at byte {begin} since it was opened"):
        journal.value(key(2))
    os.truncate(path, begin + 5)
    with pytest.raises(VigieError, match="damaged"):
        journal.value(key(2))


# Who has it -------------------------------------------------------------------------


@contextmanager
def program(text: str, path: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program that has the journal's path in ``path``, and kill it at the end."""
    text = f"import os, sys\nfrom vigie.parallel.journal import Journal\npath, *words = sys.argv[1:]\n{text}"
    live = subprocess.Popen(
        [sys.executable, "-c", text, str(path), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield live
    finally:
        live.kill()
        live.communicate()


def line(live: subprocess.Popen[str]) -> str:
    assert live.stdout is not None
    return live.stdout.readline().strip()


@pytest.mark.slow
def test_the_second_one_is_turned_away(path: Path) -> None:
    with program(
        "journal = Journal.open(path, function='3.11:aa'); print('has it', flush=True); input()", path
    ) as live:
        assert line(live) == "has it"
        for fresh in (False, True):
            with pytest.raises(Conflict) as refused:
                Journal.open(path, function=FUNCTION, fresh=fresh)
            assert str(refused.value) == f"another run uses the resume journal {path}: pid {live.pid}"
        live.kill()
        live.wait()
        Journal.open(path, function=FUNCTION).close()


def test_the_second_one_of_the_same_process_too(path: Path, open_: Callable[..., Journal]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    first = open_(path)
    with pytest.raises(Conflict, match=f"pid {os.getpid()}, this very process"):
        open_(path)
    first.close()
    open_(path).close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_copy_of_the_descriptor_does_not_hold_the_lock(path: Path, open_: Callable[..., Journal]) -> None:
    """Such as a program has that is being started just then."""
    journal = open_(path)
    copy = os.dup(journal._fd)
    try:
        journal.close()
        open_(path)
    finally:
        os.close(copy)


def test_one_that_was_removed_before_it_was_locked_is_made_again(
    path: Path, open_: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two could have locks, each on a file of that name."""
    removed = []

    def flock(fd: int, how: int) -> None:
        if not removed:
            removed.append(path.unlink())
        fcntl.flock(fd, how)

    monkeypatch.setattr(module, "fcntl", type("", (), {**vars(fcntl), "flock": staticmethod(flock)}))
    open_(path)
    assert removed
    monkeypatch.undo()
    with pytest.raises(Conflict):
        open_(path)


def test_one_that_cannot_be_opened_leaves_nothing_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(module, "fcntl", type("", (), {**vars(fcntl), "flock": staticmethod(no_locks)}))
    with pytest.raises(OSError, match="no locks here"):
        Journal.open(path, function=FUNCTION)
    monkeypatch.undo()
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        Journal.open(path, function=FUNCTION)
    path.rmdir()
    path.write_bytes(b"none")
    with pytest.raises(VigieError):
        Journal.open(path, function=FUNCTION)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not module._held


def test_a_closed_one_says_so(path: Path, open_: Callable[..., Journal]) -> None:
    journal = open_(path)
    journal.add(key(0), b"")
    journal.close()
    journal.close()
    for call in (
        journal.sync,
        lambda: journal.add(key(1), b""),
        lambda: journal.value(key(0)),
        lambda: journal.done(b""),
    ):
        with pytest.raises(VigieError, match="is closed"):
            call()


_FORKS = """
journal = Journal.open(path, function='3.11:aa')
journal.add(b'a' * 16, b'before')
journal.sync()
journal.add(b'b' * 16, b'noted, not synced')
ready, told = os.pipe()
pid = os.fork()
if pid == 0:
    for call in (
        journal.sync, lambda: journal.add(b'c' * 16, b''), lambda: journal.fail(b'c' * 16, ''),
        lambda: journal.done(b'a' * 16), lambda: journal.value(b'a' * 16),
    ):
        try:
            call()
        except Exception as error:
            print(f'{type(error).__name__}: {error}', flush=True)
        else:
            print('it had a say', flush=True)
    journal.close()
    os.write(told, b'x')
    if words:
        sys.stdin.read()
    os._exit(0)
os.read(ready, 1)
print(os.getpid(), flush=True)
"""


@pytest.mark.slow
def test_a_fork_has_no_say(path: Path) -> None:
    more = "os.waitpid(pid, 0); input(); journal.add(b'd' * 16, b'after'); journal.close(); print('closed', flush=True)"
    with program(_FORKS + more, path) as live:
        said = [line(live) for _ in range(6)]
        expected = f"VigieError: the resume journal {path} belongs to pid {live.pid}, which forked this process"
        assert said == [expected] * 5 + [str(live.pid)]
        # Its close was not that of the parent.
        with pytest.raises(Conflict, match=f"pid {live.pid}"):
            Journal.open(path, function=FUNCTION)
        print(file=live.stdin, flush=True)
        assert line(live) == "closed"
    with Journal.open(path, function=FUNCTION) as journal:
        assert [journal.done(letter * 16) for letter in (b"a", b"b", b"c", b"d")] == [True, True, False, True]


@pytest.mark.slow
def test_a_fork_that_lives_on_does_not_hold_the_lock(path: Path) -> None:
    # The child has the other end of our pipe, and is gone when that is closed.
    with program(_FORKS + "input()", path, "stay") as live:
        assert line(live).startswith("VigieError")
        while line(live) != str(live.pid):
            pass
        os.kill(live.pid, signal.SIGKILL)
        live.wait()
        with Journal.open(path, function=FUNCTION) as journal:
            assert (len(journal), journal.value(b"a" * 16)) == (1, b"before")


# Kills ------------------------------------------------------------------------------

_WRITER = """
import struct
journal = Journal.open(path, function='3.11:aa')
number = len(journal)
while True:
    for number in range(number, number + 1 + number % 7):
        journal.add(struct.pack('>QQ', 7, number), b'%d ' % number * (number * 7 % 13 + 1))
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
    for call in (
        journal.sync,
        lambda: journal.add(key(1), b""),
        lambda: journal.value(key(0)),
        lambda: journal.done(b""),
    ):
        with pytest.raises(VigieError, match="the disk failed to keep the resume journal"):
            call()
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
import resource, struct
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
journal = Journal.open(path, function='3.11:aa')
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, most))
number = 0
try:
    while True:
        journal.add(struct.pack('>QQ', 7, number), b'%d ' % number * (number * 7 % 13 + 1))
        number += 1
        if number % 5 == 0:
            journal.sync()
except OSError as error:
    print(error.errno, number, os.path.getsize(path), flush=True)
if words:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    journal.sync()
    journal.add(struct.pack('>QQ', 7, number), b'%d ' % number * (number * 7 % 13 + 1))
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
