"""What jobs have written: merged, resumed, followed, cut into records; on real files."""

from __future__ import annotations

import json
import os
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from built_store import NOW, SECOND, Built
from vigie import payload, records
from vigie.errors import NotFound, VigieError
from vigie.model import STREAMS
from vigie.output import LONGEST, LOUD, Cutter, Output, iter_records
from vigie.store.reader import Reader
from vigie.streams import CHUNK

ANYHOW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


@pytest.fixture
def built(home):
    made = Built(home)
    yield made
    made.close()


@pytest.fixture
def reader(built):
    with Reader(built.home) as made:
        yield made


def text_of(reader, built, job, **how):
    with Output(reader, built.home, job, **how) as output:
        return b"".join(piece.shown for piece in output.pump())


# --- commands --------------------------------------------------------------------------

Step = st.tuples(st.sampled_from(["out", "err", "sample"]), st.binary(max_size=6) | st.sampled_from([b"\n", b"a\nb\n"]))


def play(built, job, steps):
    """Write as a command would, with index entries between; give the expected merge."""
    merged, pending = [], {"out": b"", "err": b""}
    sizes = {"out": 0, "err": 0}
    entries = []
    for at, (what, data) in enumerate(steps):
        if what == "sample":
            entries.append((NOW + at, sizes["out"], sizes["err"]))
            merged += [("output", pending["out"]), ("error", pending["err"])]
            pending = {"out": b"", "err": b""}
        elif data:
            built.write(job, what, data)
            pending[what] += data
            sizes[what] += len(data)
    merged += [("output", pending["out"]), ("error", pending["err"])]
    built.lengths(job, *entries)
    return [(stream, data) for stream, data in merged if data]


@pytest.mark.slow
@ANYHOW
@given(steps=st.lists(Step, max_size=30))
def test_streams_merge_by_the_index(built, reader, steps):
    job = built.job()
    expected = play(built, job, steps)
    with Output(reader, built.home, job) as output:
        assert [(piece.stream, piece.data) for piece in output.pump()] == expected
        assert list(output.pump()) == []


@pytest.mark.slow
@ANYHOW
@given(steps=st.lists(Step, max_size=30), count=st.integers(1, 8), streams=st.sampled_from([None, ["error"]]))
def test_the_last_lines_are_those_of_the_whole(built, reader, steps, count, streams):
    job = built.job()
    play(built, job, steps)
    whole = text_of(reader, built, job, streams=streams)
    with Output(reader, built.home, job, streams=streams) as output:
        output.last(count)
        assert b"".join(piece.shown for piece in output.pump()) == b"".join(keepends(whole)[-count:])


def keepends(data):
    parts = data.split(b"\n")
    lines = [part + b"\n" for part in parts[:-1]]
    return lines + ([parts[-1]] if parts[-1] else [])


@pytest.mark.slow
@ANYHOW
@given(steps=st.lists(Step, max_size=30), cut=st.integers(0, 12))
def test_a_position_continues_where_it_stood(built, reader, steps, cut):
    job = built.job()
    expected = b"".join(data for _, data in play(built, job, steps))
    with Output(reader, built.home, job) as output:
        first = b""
        for _, piece in zip(range(cut), output.pump(), strict=False):
            first += piece.shown
        position = json.loads(json.dumps(output.position))
    assert first + text_of(reader, built, job, position=position) == expected


@pytest.mark.slow
@ANYHOW
@given(steps=st.lists(Step, max_size=20))
def test_what_grows_is_given_once_and_in_order(built, reader, steps):
    job = built.job("running")
    wrote, got = {"out": b"", "err": b""}, {"output": b"", "error": b""}
    with Output(reader, built.home, job) as output:
        for at, (what, data) in enumerate(steps):
            if what == "sample":
                built.lengths(job, (NOW + at, len(wrote["out"]), len(wrote["err"])))
            else:
                built.write(job, what, data)
                wrote[what] += data
            for piece in output.pump():
                got[piece.stream] += piece.data
            assert list(got.values()) == list(wrote.values())


def test_without_an_index_out_comes_first(built, reader):
    job = built.job()
    built.write(job, "err", b"e")
    built.write(job, "out", b"o")
    assert text_of(reader, built, job) == b"oe"


def test_binary_output_is_exact(built, reader):
    job = built.job()
    data = bytes(range(256)) * 5000 + b"\0\0"
    built.write(job, "out", data)
    assert text_of(reader, built, job) == data


@pytest.mark.slow
def test_a_line_of_100_mb_passes_in_pieces(built, reader):
    job = built.job()
    path = built.write(job, "out", b"")
    with path.open("r+b") as file:
        file.truncate(100 << 20)
        file.seek(0, os.SEEK_END)
        file.write(b"\nend\n")
    with Output(reader, built.home, job) as output:
        longest = total = 0
        for piece in output.pump():
            longest, total = max(longest, len(piece.data)), total + len(piece.data)
    assert total == (100 << 20) + 5
    assert longest <= CHUNK
    with Output(reader, built.home, job) as output:
        output.last(1)
        assert [piece.data for piece in output.pump()] == [b"end\n"]
    sizes = [len(record.text or "") for record in iter_records(reader, built.home, job)]
    assert max(sizes) <= LONGEST
    assert sum(sizes) == total


def test_attempts_follow_each_other(built, reader):
    job = built.job(attempt=3)
    for n, data in ((1, b"one\n"), (3, b"three\n")):
        built.write(job, "out", data, attempt=n)
    with Output(reader, built.home, job) as output:
        assert [(piece.attempt, piece.data) for piece in output.pump()] == [(1, b"one\n"), (3, b"three\n")]
        assert output.position == {"attempt": 3, "out": 6, "err": 0, "records": 0}
        output.last(2)
        assert b"".join(piece.data for piece in output.pump()) == b"one\nthree\n"
    assert text_of(reader, built, job, position={"attempt": 2, "out": 0, "err": 0, "records": 0}) == b"three\n"


def test_since_begins_at_the_index_entry_before(built, reader):
    job = built.job(attempt=2)
    built.attempt(job, 1, finished=NOW + SECOND)
    built.attempt(job, 2, finished=NOW + 9 * SECOND)
    built.write(job, "out", b"first life\n")
    built.write(job, "out", b"abcdef", attempt=2)
    built.lengths(job, (NOW + 2 * SECOND, 2, 0), (NOW + 4 * SECOND, 4, 0), attempt=2)
    for instant, expected in ((0, b"first life\nabcdef"), (2 * SECOND, b"abcdef"), (3 * SECOND, b"cdef")):
        with Output(reader, built.home, job) as output:
            output.since(NOW + instant)
            assert b"".join(piece.data for piece in output.pump()) == expected


def test_a_released_middle_is_named_and_skipped(built, reader):
    job = built.job()
    path = built.write(job, "out", b"head\n" + b"\0" * 100 + b"tail\n")
    built.write(job, "out.gap", json.dumps({"from": 5, "to": 105}).encode())
    with Output(reader, built.home, job) as output:
        head, hole, tail = output.pump()
    assert (head.data, tail.data, tail.seq) == (b"head\n", b"tail\n", 105)
    assert (hole.hole, hole.shown) == (100, b"")
    assert "100 bytes of output were released" in (hole.note or "")
    with Output(reader, built.home, job) as output:
        output.last(2)
        assert b"".join(piece.shown for piece in output.pump()) == b"head\ntail\n"
    assert [(r.stream, r.text) for r in iter_records(reader, built.home, job)] == [
        ("output", "head\n"),
        ("warning", "100 bytes of output were released here (max_output)"),
        ("output", "tail\n"),
    ]
    assert path.stat().st_size == 110


def test_a_file_that_shrinks_is_named_and_read_anew(built, reader):
    job = built.job("running")
    path = built.write(job, "out", b"0123456789")
    with Output(reader, built.home, job) as output:
        assert len(list(output.pump())) == 1
        os.truncate(path, 0)
        built.write(job, "out", b"new")
        note, piece = output.pump()
        assert "truncated" in (note.note or "")
        assert piece.data == b"new"


def test_times_come_from_the_index_then_from_the_end(built, reader):
    job = built.job()
    built.attempt(job, finished=NOW + SECOND)
    built.write(job, "out", b"abcd")
    built.lengths(job, (NOW + SECOND // 2, 2, 0))
    with Output(reader, built.home, job) as output:
        assert [piece.time for piece in output.pump()] == [NOW + SECOND // 2, NOW + SECOND]
    late = built.job()
    built.attempt(late, finished=NOW + 3600 * SECOND)
    built.write(late, "out", b"abcd")
    with Output(reader, built.home, late) as output:
        assert [piece.time for piece in output.pump()] == [None]


def test_an_unknown_job_has_no_output(built, reader):
    with pytest.raises(NotFound):
        Output(reader, built.home, 99)


# --- lines as records --------------------------------------------------------------------


def test_lines_are_records_named_by_their_offset(built, reader):
    job = built.job()
    built.write(job, "out", "un\ndeux é\n".encode() + b"\xff!")
    built.write(job, "err", b"oops\n")
    built.lengths(job, (NOW + 1, 4, 0), (NOW + 2, 11, 5))
    found = [(r.stream, r.seq, r.text) for r in iter_records(reader, built.home, job)]
    assert found == [
        ("output", 0, "un\n"),
        ("output", 3, "deux é\n"),
        ("error", 0, "oops\n"),
        ("output", 11, "\udcff!"),
    ]
    last = list(iter_records(reader, built.home, job))[-1]
    assert last.value == b"\xff!"
    assert last.to_json() == {
        "job": job, "seq": 11, "attempt": 1, "time": None, "stream": "output", "level": None, "text": "\udcff!",
    }  # fmt: skip


@ANYHOW
@given(data=st.text(alphabet="aé日🙂\n", max_size=40), sizes=st.lists(st.integers(1, 9), min_size=1))
def test_records_join_to_what_was_written_however_it_was_read(data, sizes):
    from vigie import output
    from vigie.streams import Piece

    raw, cutter, got, at, turn = data.encode(), Cutter(1), [], 0, 0
    before, output.LONGEST = output.LONGEST, 8
    try:
        while at < len(raw):
            size = sizes[turn % len(sizes)]
            got += cutter.feed(Piece(1, "output", at, None, raw[at : at + size]))
            at, turn = at + size, turn + 1
        got += cutter.rest()
    finally:
        output.LONGEST = before
    assert "".join(record.text or "" for record in got) == data
    offset = 0
    for record in got:
        assert record.seq == offset
        offset += len((record.text or "").encode())


# --- functions ---------------------------------------------------------------------------


def line(stream, t, **what):
    return records.encode(stream, NOW + t, **what)


def test_records_of_a_file_then_of_the_store(built, reader):
    kept = line("output", 3, text="c\n")
    job = built.job(task=built.function, records=kept)
    first = line("output", 1, text="a\n") + line("error", 2, text="b\n")
    built.write(job, "records", first + b'{"t":torn')
    found = list(iter_records(reader, built.home, job))
    assert [record.text for record in found] == ["a\n", "b\n", "c\n"]
    assert [record.seq for record in found] == [0, first.index(b"\n") + 1, len(first) + 9]
    with Output(reader, built.home, job) as output:
        list(output.pump())
        end = output.position
    assert text_of(reader, built, job, position=end) == b""


def test_records_kept_in_the_store_belong_to_the_attempt_that_ended(built, reader):
    job = built.job("running", task=built.function, attempt=2, records=line("output", 1, text="first\n"))
    with Output(reader, built.home, job) as output:
        assert [(piece.attempt, piece.shown) for piece in output.pump()] == [(1, b"first\n")]
        built.write(job, "records", line("output", 2, text="second\n"), attempt=2)
        assert [(piece.attempt, piece.shown) for piece in output.pump()] == [(2, b"second\n")]


def test_values_are_shown_and_typed(built, reader):
    key = b"k" * 32
    with open(built.home.secret, "wb") as file:
        file.write(key)
    value = {1, 2}
    encoding, pickled = payload.dumps(value, key)
    assert encoding == "pickle"
    stream = (
        line("output", 1, data={"a": [1, "é"]})
        + line("output", 2, data="plain")
        + line("output", 3, data=None)
        + line("output", 4, pickled=pickled, shown="{1, 2}")
        + line("warning", 5, text="mind", level="WARNING", name="shop")
        + line("output", 6, text=b"\xff\n")
        + line("progress", 7, data={"done": 1})
    )
    job = built.job(task=built.function, records=stream)
    assert text_of(reader, built, job, streams=LOUD) == (
        '{"a": [1, "é"]}\nplain\nnull\n{1, 2}\nmind\n'.encode() + b"\xff\n"
    )
    found = list(iter_records(reader, built.home, job))
    assert [record.value for record in found] == [
        {"a": [1, "é"]}, "plain", None, value, "mind", b"\xff\n", {"done": 1},
    ]  # fmt: skip
    made = found[4].to_json()
    assert (made["level"], made["name"], made["text"]) == ("WARNING", "shop", "mind")
    assert found[3].to_json()["repr"] == "{1, 2}"
    assert found[2].to_json()["data"] is None
    with open(built.home.secret, "wb") as file:
        file.write(b"another")
    with pytest.raises(VigieError):
        _ = list(iter_records(reader, built.home, job))[3].value


@pytest.mark.slow
@ANYHOW
@given(
    texts=st.lists(st.text(alphabet="ab\n", max_size=5), max_size=12),
    split=st.integers(0, 12),
    count=st.integers(1, 6),
)
def test_the_last_lines_of_records(built, reader, texts, split, count):
    lines = [line("output", at, text=text) for at, text in enumerate(texts)]
    job = built.job(task=built.function, records=b"".join(lines[split:]) or None)
    if lines[:split]:
        built.write(job, "records", b"".join(lines[:split]))
    whole = "".join(texts).encode()
    with Output(reader, built.home, job) as output:
        output.last(count)
        assert b"".join(piece.shown for piece in output.pump()) == b"".join(keepends(whole)[-count:])
    with Output(reader, built.home, job) as output:
        output.last(count, whole=True)
        assert [piece.line.text for piece in output.pump()] == texts[-count:]


def test_records_around_a_released_middle(built, reader):
    job = built.job(task=built.function)
    lines = [line("output", at, text=f"{at}\n") for at in range(6)]
    data = b"".join(lines)
    # The hole begins within the third record and ends within the fifth.
    start, end = len(lines[0]) * 2 + 4, len(lines[0]) * 4 + 4
    built.write(job, "records", data[:start] + b"\0" * (end - start) + data[end:])
    built.write(job, "records.gap", json.dumps({"from": start, "to": end}).encode())
    assert text_of(reader, built, job) == b"0\n1\n5\n"
    with Output(reader, built.home, job) as output:
        assert any(piece.hole for piece in output.pump())


def test_since_skips_older_records(built, reader):
    job = built.job(task=built.function, records=b"".join(line("output", at, text=f"{at}\n") for at in range(5)))
    built.attempt(job, finished=NOW + SECOND)
    with Output(reader, built.home, job) as output:
        output.since(NOW + 3)
        assert b"".join(piece.shown for piece in output.pump()) == b"3\n4\n"


# --- following -----------------------------------------------------------------------------


def test_follow_ends_when_the_job_has_and_all_is_given(built, reader):
    """The writer goes on only when the follower has shown what came before: no clocks."""
    job = built.job("running")
    seen: list[bytes] = []
    shown = threading.Event()
    problems: list[BaseException] = []

    def work() -> None:
        try:
            for n in range(1, 4):
                if n > 1:
                    built.db.execute("UPDATE jobs SET state = 'running', attempt = ? WHERE id = ?", (n, job))
                for part in (b"a", b"b"):
                    shown.clear()
                    built.write(job, "out", b"%d%s\n" % (n, part), attempt=n)
                    assert shown.wait(30)
                state = "blocked" if n < 3 else "completed"
                built.write(job, "err", b"last of %d\n" % n, attempt=n)
                built.db.execute(
                    "UPDATE jobs SET state = ?, finished = ? WHERE id = ?", (state, NOW if n == 3 else None, job)
                )
        except BaseException as error:
            problems.append(error)
            built.db.execute("UPDATE jobs SET state = 'failed', finished = 1 WHERE id = ?", (job,))

    worker = threading.Thread(target=work)
    worker.start()
    with Output(reader, built.home, job) as output:
        for piece in output.follow(0.001):
            seen.append(piece.data)
            shown.set()
    worker.join()
    assert not problems
    assert b"".join(seen) == b"1a\n1b\nlast of 1\n2a\n2b\nlast of 2\n3a\n3b\nlast of 3\n"


def test_follow_of_a_removed_job_ends(built, reader):
    job = built.job("running")
    with Output(reader, built.home, job) as output:
        built.db.execute("DELETE FROM jobs WHERE id = ?", (job,))
        assert list(output.follow(0.001)) == []


def test_streams_are_known_words():
    assert set(LOUD) < set(STREAMS)


def test_an_end_committed_while_the_follower_opens_is_seen(built):
    """Else it would wait for ever: nothing is committed after it."""
    job = built.job("running")

    class Late(Reader):
        def get(self, job):
            row = super().get(job)
            built.db.execute("UPDATE jobs SET state = 'completed', finished = 1 WHERE id = ?", (job,))
            return row

    with Late(built.home) as late, Output(late, built.home, job) as output:
        output.refresh()
        assert output.ended
