"""The parts of ``vigie map`` one by one: streams, the list of commands, items, when it ends, and when it waits."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vigie.engines.command import Done
from vigie.engines.commands import Commands
from vigie.engines.watch import Watch
from vigie.errors import UsageError
from vigie.parallel.course import Course
from vigie.parallel.plan import Plan
from vigie.shellmap import gate as gates
from vigie.shellmap import sinks
from vigie.shellmap.feed import AHEAD, Feed
from vigie.shellmap.gate import Gate
from vigie.shellmap.halt import Halt
from vigie.shellmap.joblog import Joblog, Listed, ended_earlier
from vigie.shellmap.outlets import CHUNK, Files, Lines
from vigie.shellmap.printer import Printer, label
from vigie.shellmap.sinks import Labelled, Sink

texts = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n", b"\t", b"\xff", b"x" * 30]), max_size=30).map(b"".join)
cuts = st.lists(st.integers(0, 200), max_size=8)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut data into pieces, of which some may be empty."""
    ends = sorted(min(place, len(data)) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


class Kept(Sink):
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def copy(self, source: int) -> None:
        for block in sinks.pieces(source):
            self.write(block)


def written(data: bytes) -> int:
    """Give a descriptor of a file with some data."""
    fd = os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR)
    os.write(fd, data)
    return fd


def ended(seq: int = 1, status: int = 0, *, items: tuple[bytes, ...] = (b"x",)) -> Done:
    done = Done(items, [b"echo", *items], seq, 1)
    done.status = status
    done.began = 1_700_000_000.0
    return done


# Streams -------------------------------------------------------------------------------


@pytest.mark.slow
@given(texts, cuts)
def test_a_label_does_not_depend_on_how_lines_are_cut(data: bytes, places: list[int]) -> None:
    kept = Kept()
    labelled = Labelled(kept, b"L\t")
    for piece in cut(data, places):
        labelled.write(piece)
    assert kept.data == lines_with(data)


def lines_with(data: bytes) -> bytes:
    """Put a label before each line, the slow way."""
    *whole, rest = data.split(b"\n")
    return b"".join(b"L\t" + line + b"\n" for line in whole) + (b"L\t" + rest if rest else b"")


def test_a_label_is_one_line() -> None:
    assert label([b"a\nb", b"\xff"]) == b"a b \xff\t"


@pytest.mark.parametrize("kind", ["file", "appended", "pipe", "slow pipe"])
def test_all_is_copied_wherever_it_goes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(700_000)
    source = written(data)
    if "pipe" in kind:
        read, write = os.pipe()
        os.set_blocking(write, kind == "pipe")
        got: list[bytes] = []

        def reader() -> None:
            with open(read, "rb") as file:
                got.append(file.read())

        thread = threading.Thread(target=reader)
        thread.start()
        sink = Sink(write)
        sink.write(b"first")
        sink.copy(source)
        sink.write(data)
        os.close(write)
        thread.join()
        assert got == [b"first" + data + data]
    else:
        with tempfile.NamedTemporaryFile() as file:
            target = os.open(file.name, os.O_WRONLY | (os.O_APPEND if kind == "appended" else 0))
            sink = Sink(target)
            sink.write(b"first")
            sink.copy(source)
            sink.copy(source)
            os.close(target)
            assert file.read() == b"first" + data + data
    os.close(source)


pieces_of_two = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), texts), max_size=12)


@pytest.mark.slow
@given(pieces_of_two, st.booleans(), st.booleans())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_lines_of_two_commands_stay_whole(written: list[tuple[int, int, bytes]], keep: bool, labelled: bool) -> None:
    kept = {1: Kept(), 2: Kept()}

    def sink(number: int, items: object) -> Sink | Labelled:
        assert isinstance(items, tuple)
        return Labelled(kept[number], label(items)) if labelled else kept[number]

    lines, watch = Lines(sink, None, keep_order=keep), Watch()
    lines.attach(watch)
    commands = [ended(1, items=(b"one",)), ended(2, items=(b"two",))]
    ours = []
    for done in commands:
        # As a command has its own copies of them.
        ours.append([os.dup(fd) for fd in lines.open(done)])
        lines.begun(done)
    each = [[b"", b""], [b"", b""]]
    for command, stream, piece in written:
        text = piece.replace(b"a", b"%d" % command)
        os.write(ours[command][stream], text)
        each[command][stream] += text
        watch.wait(0)
    # The second ends first.
    for command in (1, 0):
        for fd in ours[command]:
            os.close(fd)
        lines.ended(commands[command])
    for done in commands:
        lines.shown(done.seq)
    watch.close()
    for stream in (0, 1):
        expected = [each[command][stream] for command in (0, 1)]
        if labelled:
            expected = [
                lines_with(text).replace(b"L\t", tag) for text, tag in zip(expected, (b"one\t", b"two\t"), strict=True)
            ]
        found = kept[stream + 1].data
        if keep:
            assert found == b"".join(expected)
            continue
        # Only behind a line that has no end another's may stand.
        whole = [text if text.endswith(b"\n") or not text else text + b"\n" for text in expected]
        assert sorted(found.replace(b"\n", b"")) == sorted(b"".join(expected).replace(b"\n", b""))
        if whole == expected:
            assert sorted(found.splitlines()) == sorted(b"".join(expected).splitlines())


def test_a_line_without_an_end_is_passed_on_all_the_same() -> None:
    kept = Kept()
    lines, watch = Lines(lambda number, items: kept, None, keep_order=False), Watch()
    lines.attach(watch)
    done = ended()
    out, err = map(os.dup, lines.open(done))
    lines.begun(done)
    for _ in range(CHUNK // 1000 + 1):
        os.write(out, b"x" * 1000)
        watch.wait(0)
    assert len(kept.data) >= CHUNK
    os.close(out)
    os.close(err)
    lines.ended(done)
    assert len(kept.data) == (CHUNK // 1000 + 1) * 1000
    watch.close()


@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(1, 7))
def test_an_object_has_the_output_whatever_its_bytes(out: bytes, err: bytes, block: int) -> None:
    kept = Kept()
    printer = Printer(as_json=True)
    printer._sinks[1] = kept
    done = ended(3, -9, items=(b"\xff", b"\n"))
    done.out, done.err = written(out), written(err) if err else -1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sinks, "BLOCK", block)
        printer.show(done, 2)
    assert kept.data.count(b"\n") == 1
    found = json.loads(kept.data)
    assert (os.fsencode(found["stdout"]), os.fsencode(found["stderr"])) == (out, err)
    assert [os.fsencode(item) for item in found["items"]] == [b"\xff", b"\n"]
    assert (found["seq"], found["exit"], found["signal"], found["tries"]) == (3, None, 9, 2)
    assert (done.out, done.err) == (-1, -1)


# The list of commands --------------------------------------------------------------------

tries = st.lists(st.tuples(st.integers(1, 6), st.sampled_from([0, 0, 1, 255, -9, -15]), st.booleans()), max_size=10)
odd = st.binary(max_size=8).filter(lambda word: b"\0" not in word)


@pytest.mark.slow
@given(tries, odd, st.integers(0, 120))
def test_what_a_joblog_says_is_what_was_noted(noted: list[tuple[int, int, bool]], word: bytes, lost: int) -> None:
    with tempfile.TemporaryDirectory() as top:
        path = os.path.join(top, "log")
        joblog = Joblog(path, more=False)
        last = {}
        for seq, status, late in noted:
            done = ended(seq, status)
            done.timed_out = late
            joblog.write(done, b"echo " + word, 7)
            last[seq] = status == 0 and not late
        joblog.close()
        joblog.close()
        assert ended_earlier(path, well=False) == set(last)
        assert ended_earlier(path, well=True) == {seq for seq, well in last.items() if well}
        # Its writer was interrupted: whatever is left of the last line, the others count, and it goes on.
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            head, *lines = file
        if not lines:
            return
        os.truncate(path, max(size - lost, size - len(lines[-1])))
        assert {seq for seq, _, _ in noted[:-1]} <= ended_earlier(path, well=False) <= set(last)
        more = Joblog(path, more=True)
        more.write(ended(9), b"more", 0)
        more.close()
        with open(path, "rb") as file:
            again = list(file)
        assert again[: len(lines)] == [head, *lines[:-1]]
        assert again[-1].startswith(b"9\t:\t")


def test_a_file_that_is_no_joblog_is_refused(tmp_path) -> None:
    path = tmp_path / "log"
    assert ended_earlier(str(path), well=False) == set()
    for text in ("what\n", "Seq\tHost\n", "x\t:\t1\t1\t0\t0\t0\t0\techo\n"):
        path.write_text(text)
        with pytest.raises(UsageError, match="--joblog"):
            ended_earlier(str(path), well=False)
    with pytest.raises(UsageError, match="--joblog"):
        ended_earlier(str(tmp_path), well=False)
    with pytest.raises(UsageError, match="--joblog"):
        Joblog(str(tmp_path), more=True)


def test_what_is_listed_is_not_run() -> None:
    listed = Listed({1, 3})
    assert [listed.earlier(index, None) is not None for index in range(4)] == [True, False, True, False]


# When it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "counts", "expected"),
    [
        ("now,fail=2", [(0, 9), (1, 9), (2, 0), (3, 0)], [False, False, True, True]),
        ("soon,success=2", [(9, 0), (9, 1), (0, 2)], [False, False, True]),
        ("soon,done=3", [(1, 1), (2, 1), (0, 3), (3, 0)], [False, True, True, True]),
        ("now,fail=34%", [(0, 9), (1, 0), (3, 0), (4, 0)], [False, False, False, True]),
        ("now,done=100%", [(9, 0), (5, 4), (5, 5)], [False, False, True]),
        ("soon,fail=1%", [(0, 10), (1, 0)], [False, True]),
        ("never", [(10, 10)], [False]),
    ],
)
def test_when_it_is_reached(text: str, counts: list[tuple[int, int]], expected: list[bool]) -> None:
    halt = Halt(text)
    assert [halt.reached(failed=f, succeeded=s, total=10) for f, s in counts] == expected
    assert halt.now == text.startswith("now")


@pytest.mark.parametrize(
    "text",
    ["", "now", "now,", "now,fail", "now,fail=", "now,fail=x", "now,fail=-1", "now,fail=0", "now,fail=0%",
     "now,fail=101%", "later,fail=1", "now,fails=1", "now,fail=1,2", "never,fail=1", "now,fail=1.5", "1"],
)  # fmt: skip
def test_what_says_nothing_of_an_end_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--halt"):
        Halt(text)


# Items that keep one waiting -----------------------------------------------------------------


def test_a_feed_says_whether_there_is_something() -> None:
    go, woken = threading.Event(), threading.Event()

    def rows() -> Iterator[tuple[bytes]]:
        yield (b"a",)
        go.wait()
        yield (b"b",)
        raise UsageError("no more")

    feed = Feed(rows())
    feed.begin(woken.set)
    assert next(feed) == (b"a",)
    assert not feed.ready()
    assert not woken.is_set()
    go.set()
    assert woken.wait(30)
    assert feed.ready()
    assert next(feed) == (b"b",)
    with pytest.raises(UsageError, match="no more"):
        next(feed)
    with pytest.raises(StopIteration):
        next(feed)


def test_a_feed_is_not_read_far_ahead() -> None:
    taken = []

    def rows() -> Iterator[tuple[int]]:
        for number in range(5 * AHEAD):
            taken.append(number)
            yield (number,)

    feed = Feed(rows())
    feed.begin(lambda: None)
    for at, row in enumerate(feed):
        assert row == (at,)
        assert len(taken) <= at + AHEAD + 3
    assert len(taken) == 5 * AHEAD


# The gate --------------------------------------------------------------------------------


class Machine:
    """What it says of itself, and its clock."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.free = 1_000
        self.busy = 0.0
        patch.setattr(gates, "free_memory", lambda: self.free)
        patch.setattr(gates, "busy_processes", lambda: self.busy)

    def __call__(self) -> float:
        return self.now


def test_a_busy_machine_closes_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    gate = Gate("2", clock=machine)
    assert gate.needed
    assert gate(0) is None
    machine.busy = 2.0
    assert gate(0) == gates.LOOK
    machine.busy = 1.0
    assert gate(5) is None
    assert not Gate(clock=machine).needed
    monkeypatch.setattr(gates, "cores", lambda: 4)
    part = Gate("50%", clock=machine)
    machine.busy = 1.9
    assert part(0) is None
    machine.busy = 2.0
    assert part(0) is not None


def test_short_memory_closes_the_gate_and_ends_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    gate = Gate(memory="800", clock=machine)
    ended: list[float] = []
    gate.short = lambda: ended.append(machine.now)
    assert gate(1) is None
    machine.free = 500
    assert gate(1) is None, "it looks but now and then"
    machine.now += 1.0
    assert gate(3) == gates.LOOK
    assert ended == []
    machine.free = 300
    machine.now += 1.0
    assert gate(1) == gates.LOOK
    assert ended == [], "the only one goes on"
    assert gate(2) == gates.LOOK
    assert ended == [machine.now]
    machine.now += 1.0
    machine.free = 900
    assert gate(2) is None


def test_where_nobody_knows_the_memory_the_option_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "free_memory", lambda: None)
    with pytest.raises(UsageError, match="--memfree"):
        Gate(memory="1G")


# Too few processes -------------------------------------------------------------------------


def outcomes(engine: Commands, items: list[bytes]) -> list[Any]:
    course = Course(engine, [(item,) for item in items], Plan(ordered=False, errors="collect"))
    return sorted(course.drive(), key=lambda outcome: outcome.index)


def refusing(patch: pytest.MonkeyPatch, when: Callable[[int], bool], number: int) -> list[int]:
    """Have some calls of ``posix_spawn`` fail, by their number; give those that have."""
    spawn = os.posix_spawn
    made, refused = [], []

    def spawn_or_not(*args: Any, **how: Any) -> int:
        made.append(args)
        if when(len(made)):
            refused.append(len(made))
            raise OSError(number, os.strerror(number))
        return spawn(*args, **how)

    patch.setattr(os, "posix_spawn", spawn_or_not)
    return refused


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_too_few_processes_make_fewer_run_and_lose_nothing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    engine = Commands(lambda items, seq, slot: [b"sh", b"-c", b"echo $0", *items], 4, Files())
    # While others run, every second time.
    refused = refusing(monkeypatch, lambda made: engine.busy() > 0 and made % 2 == 0, number)
    found = outcomes(engine, [b"%d" % at for at in range(12)])
    assert refused
    assert [outcome.error for outcome in found] == [None] * 12
    assert [os.pread(outcome.value.out, 100, 0) for outcome in found] == [b"%d\n" % at for at in range(12)]
    assert 1 <= engine.limit < 4


def test_too_few_processes_for_any_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, lambda made: made == 1, errno.EAGAIN)
    found = outcomes(Commands(lambda items, seq, slot: [b"echo", *items], 1, Files()), [b"a", b"b"])
    assert [getattr(outcome.error, "done", outcome.value).status for outcome in found] == [126, 0]
    said = os.pread(found[0].error.done.err, 200, 0)
    assert said == b"vigie map: cannot run echo: %b\n" % os.strerror(errno.EAGAIN).encode()
