"""Page, journal and result files by themselves."""

from __future__ import annotations

import mmap
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie import frames, workfiles
from vigie.config import Home
from vigie.workfiles import Journal, Page, PageError, read_journal


@pytest.fixture
def page(tmp_path):
    page = Page.create(str(tmp_path / "page"))
    yield page
    page.close()


def test_a_fresh_page_lets_nothing_start(page):
    assert (page.limit, page.started, page.ended, page.records()) == (0, 0, 0, b"")
    assert not page.may_start(1)
    assert page.started == 0


def test_the_layout_is_the_documented_one(page, tmp_path):
    page.limit = 5
    assert page.may_start(3)
    page.ended = 2
    page.raw = 77
    page.append(b"abc")
    data = (tmp_path / "page").read_bytes()
    assert len(data) == 8192
    assert data[:8] == b"vigie-p1"
    assert struct.unpack("=6Q", data[8:56]) == (5, 3, 2, 3, 77, 0)
    assert page.take_back(4)
    data = (tmp_path / "page").read_bytes()
    assert struct.unpack("=Q", data[48:56]) == (1,)
    assert struct.unpack("=2Q", data[64:80]) == (4, 5)
    assert data[4096:4099] == b"abc"
    assert os.stat(tmp_path / "page").st_mode & 0o777 == 0o600


def test_the_region_takes_4096_bytes_and_no_more(page):
    assert page.append(b"x" * 4000)
    assert not page.append(b"y" * 97)
    assert page.append(b"z" * 96)
    assert page.records() == b"x" * 4000 + b"z" * 96
    page.clear()
    assert page.records() == b""


@pytest.mark.parametrize("content", [b"", b"x" * 8192, b"vigie-p1"])
def test_what_is_no_page_is_refused(tmp_path, content):
    (tmp_path / "page").write_bytes(content)
    with pytest.raises(PageError):
        Page.open(str(tmp_path / "page"))


def test_a_missing_page(tmp_path):
    with pytest.raises(FileNotFoundError):
        Page.open(str(tmp_path / "page"))


def test_a_damaged_length_does_not_read_beyond_the_page(page, tmp_path):
    with open(tmp_path / "page", "r+b") as file, mmap.mmap(file.fileno(), 8192) as raw:
        raw[32:40] = struct.pack("=Q", 1 << 40)
    assert len(page.records()) == 4096


def test_what_was_taken_back_never_starts_and_what_was_not_does(page):
    page.limit = 10
    assert page.may_start(1)
    assert page.take_back(5)
    assert page.limit == 4
    page.limit = 12
    assert [s for s in range(2, 8) if page.may_start(s)] == [2, 3, 4]
    assert page.started == 4
    assert [s for s in range(8, 13) if page.may_start(s)] == [11, 12]
    assert not page.take_back(12)
    assert page.limit == 12


def test_taking_back_what_was_never_given(page):
    page.limit = 3
    assert page.take_back(9)
    assert page.limit == 3
    assert page.may_start(3)


@given(st.lists(st.tuples(st.sampled_from("give take start".split()), st.integers(1, 9)), max_size=60))
def test_each_job_has_one_fate_in_any_order_of_giving_and_taking(tmp_path_factory, steps):
    page = Page.create(str(tmp_path_factory.mktemp("page") / "page"))
    top, at = 0, 0
    back, ran = set(), set()
    for step, n in steps:
        if step == "give":
            top += n
            page.limit = top
        elif step == "take":
            alive = [s for s in range(at + 1, top + 1) if s not in back]
            if alive:
                cut = alive[min(n, len(alive)) - 1]
                assert page.take_back(cut)
                back |= {s for s in alive if s >= cut}
        else:
            for _ in range(n):
                if at < top:
                    at += 1
                    if page.may_start(at):
                        ran.add(at)
    assert not back & ran
    assert back | ran | set(range(at + 1, top + 1)) == set(range(1, top + 1))
    assert set(range(1, at + 1)) == ran | {s for s in back if s <= at}
    page.close()


def test_a_new_agent_withholds_everything(page):
    page.limit = 5
    assert page.may_start(1)
    assert page.withhold() == 1
    assert not page.may_start(2)
    assert not page.take_back(1)
    assert page.take_back(2)
    assert page.started == 1


def test_too_many_holes_are_refused_until_the_worker_has_passed_them(page):
    top = 0
    for _ in range(32):
        top += 2
        page.limit = top
        assert page.take_back(top)
    top += 2
    page.limit = top
    assert not page.take_back(top)
    assert page.limit == top
    assert [s for s in range(1, 21) if page.may_start(s)] == list(range(1, 21, 2))
    assert page.take_back(top)
    assert [s for s in range(21, top + 1) if page.may_start(s)] == list(range(21, top, 2))


@given(st.lists(st.tuples(st.binary(max_size=50), st.text(max_size=5)), max_size=8), st.data())
def test_a_torn_journal_gives_what_is_whole(tmp_path_factory, entries, data):
    path = str(tmp_path_factory.mktemp("journal") / "journal")
    journal = Journal(path)
    for seq, (blob, text) in enumerate(entries, 1):
        journal.append({"seq": seq, "text": text, "result": 0}, [blob])
    journal.close()
    size = os.path.getsize(path)
    cut = data.draw(st.integers(0, size))
    os.truncate(path, cut)
    found = read_journal(path)
    assert found == [({"seq": s, "text": t, "result": 0}, [b]) for s, (b, t) in enumerate(entries, 1)][: len(found)]
    if cut == size:
        assert len(found) == len(entries)
    # Opened again it goes on behind what is whole.
    journal = Journal(path)
    journal.append({"seq": 99})
    journal.close()
    assert [h["seq"] for h, _ in read_journal(path)] == [h["seq"] for h, _ in found] + [99]


def test_a_damaged_journal_ends_at_the_damage(tmp_path):
    path = str(tmp_path / "journal")
    journal = Journal(path)
    for seq in (1, 2, 3):
        journal.append({"seq": seq}, [b"x" * 100])
    journal.close()
    data = bytearray((tmp_path / "journal").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "journal").write_bytes(data)
    assert [h["seq"] for h, _ in read_journal(path)] == [1]


def test_forget(tmp_path):
    path = str(tmp_path / "journal")
    journal = Journal(path)
    for seq in range(1, 6):
        journal.append({"seq": seq})
    journal.forget(3)
    assert [h["seq"] for h, _ in read_journal(path)][-2:] == [4, 5]
    journal.forget(5)
    assert os.path.getsize(path) == 0
    journal.append({"seq": 6})
    assert [h["seq"] for h, _ in read_journal(path)] == [6]
    journal.close()


def test_a_journal_that_is_never_all_forgotten_stays_small(tmp_path):
    path = str(tmp_path / "journal")
    journal = Journal(path)
    for seq in range(1, 200):
        journal.append({"seq": seq}, [b"x" * 100_000])
        journal.forget(seq - 1)
        assert os.path.getsize(path) < 5 << 20
        assert read_journal(path)[-1][0]["seq"] == seq
    journal.close()
    assert os.listdir(tmp_path) == ["journal"]


def test_an_earlier_journal_can_be_forgotten(tmp_path):
    path = str(tmp_path / "journal")
    for seq in (1, 2):
        journal = Journal(path)
        journal.append({"seq": seq})
        journal.close()
    journal = Journal(path)
    journal.forget(2)
    assert read_journal(path) == []
    journal.close()


def test_a_failed_write_leaves_the_journal_whole(tmp_path):
    import resource
    import signal

    path = str(tmp_path / "journal")
    journal = Journal(path)
    journal.append({"seq": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            journal.append({"seq": 2}, [b"x" * 5000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    journal.append({"seq": 3})
    journal.close()
    assert [h["seq"] for h, _ in read_journal(path)] == [1, 3]


def test_journal_frames_are_frames():
    frame = frames.encode({"seq": 1}, [b"a"])
    assert frames.unseal(frames.seal(frame)) == ([({"seq": 1}, [b"a"])], len(frame) + 4)


@pytest.mark.parametrize("attempt", [1, 2, 10])
def test_job_files_are_where_config_says(attempt):
    for job in (1, 999, 1000, 123456):
        for stream in ("records", "result"):
            assert workfiles.job_file("/h", job, stream, attempt) == Home("/h").job_file(job, stream, attempt)


def test_results(tmp_path):
    path = workfiles.job_file(str(tmp_path), 7, "result")
    workfiles.write_result(path, "pickle", b"\n\x00data")
    assert workfiles.read_result(path) == ("pickle", b"\n\x00data")
    assert os.stat(path).st_mode & 0o777 == 0o600
    for directory in (tmp_path / "jobs", tmp_path / "jobs" / "007", tmp_path / "jobs" / "007" / "7"):
        assert directory.stat().st_mode & 0o777 == 0o700
