"""The resume journal: what it holds, and who has it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resume_journals import FUNCTION, holds, key, line, open_, path, program, refuses_all, value  # noqa: F401 - fixtures
from vigie.errors import Conflict, VigieError
from vigie.parallel import journal as module
from vigie.parallel.journal import Journal

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


# Who has it -------------------------------------------------------------------------


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

    held = set(module._held)
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
    opened = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert not [name for name in opened if name.startswith(str(path.resolve()))]
    assert module._held <= held


def test_a_closed_one_says_so(path: Path, open_: Callable[..., Journal]) -> None:
    journal = open_(path)
    journal.add(key(0), b"")
    journal.close()
    journal.close()
    refuses_all(journal, "is closed")


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
