"""Services' logs: heads move to parts and go, and every line is there once or is said to be dropped."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from built_store import NOW, Built
from conftest import until
from vigie.agent import holes, loghead
from vigie.agent.loghead import LEAST, Shelf, Stream, level, line_end
from vigie.agent.logwatch import Life, LogWatch
from vigie.config import Home
from vigie.crash import POINTS
from vigie.logparts import Gap, gap_path, parts_of, read_gap, write_gap
from vigie.output import Output
from vigie.store.reader import Reader
from vigie.streams import StreamFile
from vigie.supervision.plan import Logs

HERE = Path(__file__).parent
SMALL = Logs(part=32 << 10, total=128 << 10)


def punchable(directory: Path) -> bool:
    path = directory / "probe"
    path.write_bytes(b"x")
    try:
        holes.punch(str(path), 1 << 20, (1 << 20) + 4096)
    except OSError:
        return False
    return True


@pytest.fixture(autouse=True)
def _needs_holes(tmp_path: Path) -> None:
    if not punchable(tmp_path):
        pytest.skip("the file system of the tests can release no part of a file")


class Books:
    """A file of lines, what keeps it, and all that was ever written to it."""

    def __init__(self, directory: Path, logs: Logs = SMALL) -> None:
        self.path = str(directory / "out")
        self.watch = LogWatch(lambda job, attempt: None, lambda service, text: None, lambda job: str(directory))
        self.logs = logs
        self.all = b""
        Path(self.path).touch()
        self.anew()

    def anew(self) -> None:
        """Be an agent that has just begun."""
        self.watch.shelves.clear()
        life = Life(1, 1, "web", (self.path, self.path + "2"))
        self.watch._keep(life, self.logs, [], lambda job, name, attempt: self.path, 0.0)
        self.shelf = self.watch.shelves["web"]
        self.stream = self.shelf.streams[self.path]

    def write(self, data: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(data)
        self.all += data
        self.shelf.look(self.stream)

    def read(self) -> list[tuple[int, bytes, int]]:
        file = StreamFile(self.path)
        try:
            return list(file.read(file.size()))
        finally:
            file.close()

    def backwards(self) -> list[tuple[int, bytes]]:
        file = StreamFile(self.path)
        try:
            return list(file.back(0, file.size()))
        finally:
            file.close()

    def check(self) -> None:
        at = 0
        for start, data, hole in self.read():
            assert start == at
            assert bool(data) != bool(hole)
            assert data == self.all[start : start + len(data)], (start, self.stream)
            at += len(data) + hole
            if hole:
                assert self.all[at - 1 : at] == b"\n", "torn"
        assert at == len(self.all)
        for start, data in self.backwards():
            assert data == self.all[start : start + len(data)]
        kept = sum(len(data) for _, data, _ in self.read())
        assert kept == sum(len(data) for _, data in self.backwards())

    @property
    def on_disk(self) -> int:
        directory = os.path.dirname(self.path)
        names = [name for name in os.listdir(directory) if name.startswith("out") and not name.endswith(".gap")]
        return sum(os.stat(os.path.join(directory, name)).st_blocks * 512 for name in names)


def some_lines(chance: random.Random) -> bytes:
    count = chance.choice((1, 3, 40, 200))
    # Random letters, so that packing does not make all of it small.
    return b"".join(chance.randbytes(chance.choice((0, 5, 40, 300))).hex().encode() + b"\n" for _ in range(count))


def test_amounts_are_cut_to_one_height() -> None:
    assert level([], 5) == 0
    for seed in range(50):
        chance = random.Random(seed)
        plains = [chance.randrange(1000) for _ in range(chance.randrange(1, 9))]
        room = chance.randrange(sum(plains) + 10)
        most = level(plains, room)
        assert sum(min(each, most) for each in plains) <= room
        if room < sum(plains):  # and no room is left that each could use
            assert (
                sum(min(each, most + 1) for each in plains) > room
                or most + 1 > max(plains)
                or room - sum(min(each, most) for each in plains) < len(plains)
            )


def test_cuts_are_made_at_line_ends(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    data = b"one\n\ntwo\nunfinished"
    Path(path).write_bytes(data)
    for offset in range(1, len(data) + 1):
        ahead, back = line_end(path, offset, len(data)), line_end(path, offset, len(data), back=True)
        ends = [at + 1 for at, byte in enumerate(data) if byte == 10]
        assert ahead == min((end for end in ends if end >= offset), default=9)
        assert back == max((end for end in ends if end <= offset), default=None)
    assert line_end(path, 15, len(data), 9) is None
    Path(path).write_bytes(b"y" * (1 << 20))
    assert line_end(path, 500_000, 1 << 20) == 500_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_done_every_byte_is_there_once_or_said_to_be_dropped(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    books = Books(tmp_path)
    for _ in range(120):
        match chance.randrange(8):
            case 0 | 1 | 2:
                books.write(some_lines(chance))
                if chance.random() < 0.3:
                    books.write(b"unfinished")
            case 3 | 4:
                books.shelf.debt = 0
                books.shelf.fit()
                assert books.shelf.used <= SMALL.total
                assert books.on_disk <= SMALL.total + 3 * 4096
            case 5:
                while books.watch.pack_one():
                    pass
                share = books.shelf.share
                assert books.stream.plain <= share + LEAST
            case 6:
                books.anew()
            case 7 if chance.random() < 0.2:
                books.shelf.expire_head(books.stream, chance.randrange(len(books.all) + 1))
        books.check()


def test_reading_goes_on_over_a_head_that_moves(tmp_path: Path) -> None:
    """Between the reader's look at the mark and its reading the head goes: it must not read zeros."""
    books = Books(tmp_path)
    lines = b"".join(b"%09d\n" % n for n in range(9_000))
    books.write(lines)
    file = StreamFile(books.path)
    real = file.gap

    def gap() -> tuple[int, int] | None:
        found = real()
        if not books.stream.low:
            books.shelf._drop_head(books.stream, 50_000)
        return found

    file.gap = gap  # type: ignore[method-assign]  # the moment between two of its steps
    (_, nothing, hole), *rest = file.read(file.size())
    assert (nothing, hole) == (b"", 50_000)
    assert b"".join(data for _, data, _ in rest) == lines[50_000:]
    file.close()


def test_a_file_that_its_program_truncates_begins_anew(tmp_path: Path) -> None:
    books = Books(tmp_path)
    books.write(b"a line\n" * 20_000)
    while books.watch.pack_one():
        pass
    assert parts_of(books.path)
    os.truncate(books.path, 0)
    books.all = b""
    books.write(b"anew\n")
    assert books.read() == [(0, b"anew\n", 0)]
    assert (read_gap(books.path), parts_of(books.path)) == (None, [])


@pytest.mark.parametrize("mark", ["gone", "old", "damaged"])
def test_a_mark_that_a_power_cut_took_is_found_again(tmp_path: Path, mark: str) -> None:
    """The parts are on disk and the blocks are released: what the mark said is told by both."""
    books = Books(tmp_path)
    for _ in range(4):
        books.write(b"".join(b"%09d of the service\n" % n for n in range(2_000)))
        while books.watch.pack_one():
            pass
    assert len(parts_of(books.path)) > 1
    first = parts_of(books.path)[0]
    match mark:
        case "gone":
            os.unlink(gap_path(books.path))
        case "old":
            write_gap(books.path, Gap(0, first.end, "web"))
        case "damaged":
            Path(gap_path(books.path)).write_bytes(bytes(64))
    books.anew()
    books.check()
    assert sum(hole for _, _, hole in books.read()) == 0


def test_on_a_full_disk_bytes_are_released_before_the_mark_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = Books(tmp_path)
    books.write(b"a line of the service\n" * 20_000)
    real, tried = loghead.write_gap, []

    def write_gap(path: str, gap: Gap) -> None:
        tried.append(holes.data_start(path))
        if len(tried) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        real(path, gap)

    monkeypatch.setattr(loghead, "write_gap", write_gap)
    books.shelf.debt = 0
    books.shelf.fit()
    assert tried[0] == 0 < tried[1]
    books.check()


def test_where_nothing_can_be_released_nothing_goes_and_it_is_said_once(tmp_path: Path) -> None:
    said: list[tuple[str, str]] = []

    def no_punch(path: str, start: int, end: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)

    watch = LogWatch(lambda job, attempt: None, lambda *words: said.append(words), lambda job: "", no_punch)
    path = tmp_path / "out"
    path.write_bytes(b"line\n" * 100_000)
    for _ in range(2):
        life = Life(1, 1, "web", (str(path), str(tmp_path / "err")))
        watch._keep(life, SMALL, [], lambda *of: "", 0.0)
        assert not watch.pack_one()
    assert len(said) == 1
    assert said[0][0] == "web"
    assert read_gap(str(path)) is None
    assert path.read_bytes() == b"line\n" * 100_000


def test_the_oldest_lives_go_first_and_the_newest_bytes_are_kept_longest(tmp_path: Path) -> None:
    shelf = Shelf("web", SMALL)
    streams: list[Stream] = []
    for job in (1, 2, 3):
        path = tmp_path / f"{job}-out"
        path.write_bytes(b"%d says something\n" % job * 4_000)
        os.utime(path, (job, job))
        stream = shelf.add(job, 1, str(path), living=job == 3)
        assert stream is not None
        streams.append(stream)
    shelf.fit()
    assert shelf.used <= SMALL.total
    assert streams[0].plain == 0
    assert 0 < streams[1].plain < streams[1].size
    assert streams[2].low == 0
    file = StreamFile(streams[0].path)
    assert list(file.read(file.size())) == [(0, b"", streams[0].size)]
    file.close()


def test_a_flood_of_one_instance_leaves_the_few_lines_of_another(tmp_path: Path) -> None:
    shelf = Shelf("web", SMALL)
    for job, lines in ((1, 10), (2, 40_000)):
        path = tmp_path / f"{job}-out"
        path.write_bytes(b"a line\n" * lines)
        shelf.add(job, 1, str(path), living=True)
    shelf.fit()
    quiet, loud = shelf.streams.values()
    assert quiet.low == 0
    assert loud.low > 0
    assert shelf.used <= SMALL.total


def test_what_was_written_without_an_agent_is_packed_before_any_of_it_goes(tmp_path: Path) -> None:
    books = Books(tmp_path)
    books.write(b"".join(b"%09d of the service\n" % n for n in range(4 * SMALL.total // 24)))
    books.anew()
    while books.watch.pack_one():
        pass
    assert books.read()[0][:2] == (0, books.all[: len(books.read()[0][1])])
    assert sum(hole for _, _, hole in books.read()) == 0
    assert books.on_disk <= SMALL.total
    books.check()


def test_what_is_older_than_the_age_goes(tmp_path: Path) -> None:
    books = Books(tmp_path)
    books.write(b"".join(b"%09d\n" % n for n in range(12_000)))
    while books.watch.pack_one():
        pass
    first = parts_of(books.path)[0]
    assert len(parts_of(books.path)) > 1
    books.shelf.expire_head(books.stream, first.end)
    assert parts_of(books.path)[0].start == first.end
    books.check()
    plain_from = books.stream.low
    books.shelf.expire_head(books.stream, plain_from + 15)
    assert parts_of(books.path) == []
    assert books.read()[0] == (0, b"", plain_from + 10)
    books.shelf.end(books.stream)
    books.shelf.expire(books.stream.touched + 1)
    assert books.read() == [(0, b"", len(books.all))]


# Reading: vigie logs -------------------------------------------------------------------


@pytest.fixture
def built(tmp_path: Path):
    built = Built(Home(str(tmp_path / "home")))
    yield built
    built.close()


def kept_job(built: Built, lines: int) -> tuple[int, bytes]:
    """A life of web whose log was cut and packed, with its index."""
    job = built.job("running", service="web", name="web")
    data = b"".join(b"%08d of the service\n" % n for n in range(lines))
    path = str(built.write(job, "out", b""))
    watch = LogWatch(lambda job, attempt: None, lambda service, text: None, lambda job: "")
    life = Life(job, 1, "web", (path, path[:-3] + "err"))
    watch._keep(life, SMALL, [], built.home.job_file, 0.0)
    shelf = watch.shelves["web"]
    stream = shelf.streams[path]
    step = len(data) // 20 // 24 * 24
    at = 0
    while at < len(data):
        built.write(job, "out", data[at : at + step])
        at = min(at + step, len(data))
        built.lengths(job, (NOW + at, at, 0))
        shelf.look(stream)
        while watch.pack_one():
            pass
    # As if packing made it no smaller: the oldest parts go.
    shelf.logs = Logs(part=32 << 10, total=shelf.used - 3000)
    shelf.fit()
    assert parts_of(path)
    assert parts_of(path)[0].start > 0
    return job, data


def shown(output: Output) -> tuple[bytes, list[str]]:
    pieces = list(output.pump())
    return b"".join(piece.shown for piece in pieces), [piece.note for piece in pieces if piece.note]


def test_logs_are_read_over_parts_and_what_went_is_said_once(built: Built) -> None:
    job, data = kept_job(built, 20_000)
    with Reader(built.home) as reader, Output(reader, built.home, job) as output:
        text, notes = shown(output)
        assert data.endswith(text)
        assert 0 < len(text) < len(data)
        assert text.startswith(data[-len(text) :][:24])
        (note,) = notes
        assert re.fullmatch(r"\d.* of output dropped here by the limit of the logs of web", note)


@pytest.mark.parametrize("lines", [1, 7, 1_000, 4_000, 9_000, 50_000])
def test_the_last_lines_are_found_in_parts(built: Built, lines: int) -> None:
    job, _ = kept_job(built, 20_000)
    with Reader(built.home) as reader:
        with Output(reader, built.home, job) as output:
            everything = shown(output)[0].splitlines()
        with Output(reader, built.home, job) as output:
            missing = output.last(lines)
            text, notes = shown(output)
    assert text.splitlines() == everything[-lines:]
    assert missing == max(0, lines - len(everything))
    assert bool(notes) == (lines > len(everything))


def test_since_begins_in_a_part(built: Built) -> None:
    job, data = kept_job(built, 20_000)
    path = built.home.job_file(job, "out", 1)
    part = parts_of(path)[1]
    with Reader(built.home) as reader, Output(reader, built.home, job) as output:
        output.since(NOW + part.end)
        text, notes = shown(output)
    assert notes == []
    assert data.endswith(text)
    assert part.start <= len(data) - len(text) <= part.end


def test_a_receiver_whose_place_went_is_told_and_goes_on(built: Built) -> None:
    job, data = kept_job(built, 20_000)
    with Reader(built.home) as reader:
        at = {"attempt": 1, "out": 24, "err": 0, "records": 0}
        with Output(reader, built.home, job, position=at) as output:
            text, notes = shown(output)
        assert len(notes) == 1
        assert data.endswith(text)


# Real writers, while it goes on ----------------------------------------------------------


def files_of(directory: Path) -> Callable[[int, str, int], str]:
    return lambda job, name, attempt: str(directory / str(job) / name)


class Account:
    """Takes what a reader gives of one stream: each line once, whole, in order, or dropped."""

    def __init__(self, stream: str, *, overtaken: bool) -> None:
        self.stream = stream
        #: It follows, and what it has read half may go before it reads on.
        self.overtaken = overtaken
        self.kept = self.dropped = 0
        self.rest = b""
        self.next: int | None = 0

    def take(self, data: bytes, hole: int) -> None:
        if hole:
            assert self.overtaken or not self.rest, "a torn line before what was dropped"
            self.rest = b""
            self.dropped += hole
            self.next = None
            return
        self.kept += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            stream, number, length, rest = line.decode().split(" ", 3)
            assert (stream, len(rest)) == (self.stream, int(length))
            assert self.next is None or int(number) == self.next
            self.next = int(number) + 1


def account_for(path: str, stream: str, until_over: Callable[[], bool] | None = None) -> Account:
    account = Account(stream, overtaken=until_over is not None)
    file = StreamFile(path)
    while True:
        over = until_over is None or until_over()
        for _, data, hole in file.read(file.size()):
            account.take(data, hole)
        if over:
            break
    assert account.rest == b""
    assert account.kept + account.dropped == file.size()
    file.close()
    return account


@pytest.mark.slow
def test_real_writers_and_readers_at_once_lose_no_line(tmp_path: Path) -> None:
    """Two lives write; readers follow from the first byte, and read again once it is over."""
    files = files_of(tmp_path)
    logs = Logs(part=256 << 10, total=1 << 20)
    watch = LogWatch(lambda job, attempt: None, lambda service, text: None, lambda job: str(tmp_path / str(job)))
    lives, writers, problems = [], [], []
    for job in (1, 2):
        (tmp_path / str(job)).mkdir()
        life = Life(job, 1, "web", (files(job, "out", 1), files(job, "err", 1)))
        watch.keep(life, logs, [(other, 1) for other in range(1, job + 1)], files)
        lives.append(life)
    for job in (1, 2):
        with open(files(job, "out", 1), "ab") as out, open(files(job, "err", 1), "ab") as err:
            words = [sys.executable, str(HERE / "log_writer.py"), "8000", str(job)]
            writers.append(subprocess.Popen(words, stdout=out, stderr=err))

    def follow(job: int, stream: str) -> None:
        try:
            account_for(files(job, stream, 1), stream, lambda: writers[job - 1].poll() is not None)
        except BaseException as error:
            problems.append(error)

    readers = [threading.Thread(target=follow, args=(job, stream)) for job in (1, 2) for stream in ("out", "err")]
    for thread in readers:
        thread.start()
    for writer in writers:
        assert writer.wait(120) == 0
    for thread in readers:
        thread.join()
    assert not problems, problems
    ends = watch.done + 2
    for life in lives:
        watch.end(life)
    until(lambda: watch.done == ends)
    watch.close()
    written = 0
    for job in (1, 2):
        for stream in ("out", "err"):
            path = files(job, stream, 1)
            account_for(path, stream)
            written += os.stat(path).st_size
    taken = sum(path.stat().st_blocks * 512 for path in tmp_path.glob("[12]/*") if path.suffix != ".gap")
    assert written > 3 * logs.total
    assert taken <= logs.total + 12 * 4096
    assert list(tmp_path.glob("[12]/*.part")) == []


def test_what_was_silent_is_noticed_when_it_writes_again(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    (tmp_path / "1").mkdir()
    woken = threading.Event()
    watch = LogWatch(lambda job, attempt: woken.set(), lambda service, text: None, lambda job: str(tmp_path / "1"))
    life = Life(1, 1, "web", (files(1, "out", 1), files(1, "err", 1)))
    for path in life.paths:
        Path(path).touch()
    watch.keep(life, SMALL, [], files)
    until(lambda: watch.done == 1 and not watch._active)
    life.dormant = True
    with open(life.paths[1], "ab") as file:
        file.write(b"line\n")
    assert woken.wait(30)
    watch.close()


DRIVER = """
import sys, time
from vigie.agent.logwatch import Life, LogWatch
from vigie.supervision.plan import Logs
top, total = sys.argv[1], int(sys.argv[2])
watch = LogWatch(lambda *a: None, lambda *a: None, lambda job: top)
life = Life(1, 1, "web", (top + "/out", top + "/err"))
watch.keep(life, Logs(part=total // 4, total=total), [], lambda job, name, attempt: top + "/" + name)
print("keeps", flush=True)
sys.stdin.read()
watch.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("logs-")])
def test_a_kill_at_any_point_leaves_every_line_readable_once(tmp_path: Path, point: str) -> None:
    top = tmp_path / "life"
    top.mkdir()
    keepers: list[subprocess.Popen[bytes]] = []

    def keep(**more: str) -> subprocess.Popen[bytes]:
        made = subprocess.Popen(
            [sys.executable, "-P", "-c", DRIVER, str(top), str(400_000)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **more},
        )  # fmt: skip
        assert made.stdout is not None
        assert made.stdout.readline() == b"keeps\n"
        keepers.append(made)
        return made

    chance = random.Random(point)
    wrote = {"out": b"", "err": b""}
    for times in (1, 4):
        doomed = keep(VIGIE_CRASH_AT=f"{point}:{times}")
        # Slower than a flood, so that there is time to pack; and for ever, if it never comes there.
        while doomed.poll() is None:
            name = chance.choice(("out", "out", "err"))
            lines = some_lines(chance)
            with open(top / name, "ab") as file:
                file.write(lines)
            wrote[name] += lines
        assert doomed.wait() == -signal.SIGKILL
        before = {name: dropped_of(str(top / name), wrote[name]) for name in wrote}
        sound = keep()
        assert sound.stdin is not None
        sound.stdin.close()
        assert sound.wait(30) == 0
        for name, dropped in before.items():
            # Who comes next may have to drop more, and never loses what was there.
            assert dropped_of(str(top / name), wrote[name]) >= dropped
        assert not list(top.glob("*.gz.part"))
        assert all(part.end <= read_gap(str(top / "out")).end for part in parts_of(str(top / "out")))
    for made in keepers:
        for pipe in (made.stdin, made.stdout):
            assert pipe is not None
            pipe.close()


def dropped_of(path: str, wrote: bytes) -> int:
    """Read all of a file, compare it with what was written, and give how much of it was dropped."""
    file = StreamFile(path)
    at = dropped = 0
    for start, data, hole in file.read(file.size()):
        assert start == at
        assert data == wrote[at : at + len(data)]
        assert not hole or wrote[:at].endswith(b"\n") or not at
        dropped += hole
        at += len(data) + hole
        assert not hole or wrote[:at].endswith(b"\n")
    assert at == len(wrote)
    file.close()
    return dropped
