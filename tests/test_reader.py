"""The reading side of the store, on real files, while somebody writes and while nobody does."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import apsw
import pytest

from built_store import NOW, SECOND, Built
from vigie.config import Home
from vigie.errors import NotFound, StoreError, UsageError
from vigie.selection import Filter, moment
from vigie.store.reader import Reader
from vigie.store.sql import load, parse


@pytest.fixture
def built(home):
    made = Built(home)
    yield made
    made.close()


@pytest.fixture
def reader(built):
    with Reader(built.home) as made:
        yield made


def test_no_store_reads_as_an_empty_one(home):
    with Reader(home) as reader:
        assert not reader.exists
        assert reader.jobs() == []
        assert list(reader.each()) == []
        assert reader.job(1) is None
        assert reader.events() == []
        assert reader.counts() == {}
        assert [row["name"] for row in reader.queues()] == ["default"]
        assert reader.data_version() == reader.data_version()
        with pytest.raises(NotFound):
            reader.resolve(["last"])
    assert not os.path.exists(home.root)


def test_a_store_made_later_is_seen_by_a_reader_made_before(home):
    with Reader(home) as reader:
        assert reader.jobs() == []
        version = reader.data_version()
        built = Built(home)
        built.job()
        assert [row["id"] for row in reader.jobs()] == [1]
        assert reader.data_version() != version
        built.close()


def test_a_file_without_tables_is_a_store_not_yet_made(home):
    home.create()
    apsw.Connection(home.db).close()
    Path(home.db).touch()
    with Reader(home) as reader:
        assert reader.jobs() == []


def test_pages_follow_each_other_without_gap_or_repeat(built, reader):
    ids = [built.job() for _ in range(25)]
    seen, after = [], None
    while page := reader.jobs(limit=4, after=after):
        assert len(page) <= 4
        seen += [row["id"] for row in page]
        after = page[-1]
    assert seen == ids[::-1]
    assert [row["id"] for row in reader.each(limit=7)] == ids[::-1][:7]


def test_an_assigned_job_is_shown_as_queued(built, reader):
    job = built.job("assigned")
    row = reader.get(job)
    assert (row["state"], row["assigned"]) == ("queued", True)
    assert [row["id"] for row in reader.jobs(Filter(states=("queued",)))] == [job]
    assert reader.counts() == {"queued": 1}
    assert reader.states([job]) == {job: "queued"}


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (Filter(states=("running",)), ["b"]),
        (Filter(states=("running", "blocked", "queued")), ["d", "c", "b"]),
        (Filter(states=("failed", "lost")), ["a", "f"]),
        (Filter(states=("lost",)), ["f"]),
        (Filter(states=("failed", "running")), ["b", "a"]),
        (Filter(name="a"), ["a"]),
        (Filter(name="[bc]"), ["c", "b"]),
        (Filter(name="zzz"), []),
        (Filter(tags=("red",)), ["c", "a"]),
        (Filter(tags=("red", "big")), ["c"]),
        (Filter(tags=("red",), states=("failed",)), ["a"]),
        (Filter(queue="imports"), ["d"]),
        (Filter(since=NOW + 5), ["e"]),
        (Filter(schedule="nightly"), ["nightly"]),
        (Filter(service="web"), ["w"]),
        (Filter(parent=1), ["p"]),
        (Filter(), ["f", "e", "d", "c", "b", "a"]),
        (Filter(every=True), ["p", "w", "nightly", "f", "e", "d", "c", "b", "a"]),
    ],
)
def test_filters_choose(built, reader, chosen, names):
    built.job("failed", name="a", tags=("red",), finished=NOW + 9 * SECOND)
    built.job("running", name="b")
    built.job("queued", name="c", tags=("red", "big"))
    built.job("blocked", name="d", queue="imports", blocked_by="time")
    built.job("completed", name="e", created=NOW + 5)
    built.job("lost", name="f")
    built.job("completed", name="nightly", schedule="nightly")
    built.job("completed", name="w", service="web")
    built.job("completed", name="p", parent=1)
    assert [row["name"] for row in reader.jobs(chosen)] == names
    assert reader.ids(chosen) == sorted(row["id"] for row in reader.jobs(chosen))
    paged, after = [], None
    while page := reader.jobs(chosen, 1, after):
        paged += [row["name"] for row in page]
        after = page[-1]
    assert paged == names


def test_words_name_jobs(built, reader):
    first = built.job(name="copy")
    second = built.job(name="copy")
    third = built.job()
    built.job(schedule="nightly")
    assert reader.resolve(["copy"]) == [second]
    assert reader.resolve(["last"]) == [third]
    assert reader.resolve([str(first), "copy", str(first)]) == [first, second]
    assert reader.resolve(["-"], stdin=io.StringIO(f"{third}\n{first}\n")) == [third, first]
    assert reader.resolve([], Filter(name="copy")) == [first, second]
    assert reader.resolve(["copy", "last"], Filter(name="c*")) == [second]
    assert reader.resolve([], None) == []


@pytest.mark.parametrize("word", ["99", "9" * 30, "copi"])
def test_an_unknown_word_is_not_found_with_a_hint(built, reader, word):
    built.job(name="copy")
    with pytest.raises(NotFound) as caught:
        reader.resolve([word])
    assert word in caught.value.message
    assert caught.value.hint == ("did you mean copy?" if word == "copi" else "vigie jobs --all shows those that exist")


def test_stdin_takes_ids_alone(built, reader):
    with pytest.raises(NotFound, match="none"):
        reader.resolve(["-"], stdin=io.StringIO("1 two"))


def test_queue_use_counts_a_worker_as_one_slot(built, reader):
    built.insert("queues", name="imports", slots=3, rate=2.0, paused=1)
    for _ in range(3):
        built.attempt(built.job("assigned", task=built.function, attempt=1), state="assigned", worker=5)
    running = built.job("running", task=built.function)
    built.attempt(running, state="running", worker=5)
    alone = built.job("running")
    built.attempt(alone, state="running")
    built.job("queued", queue="imports")
    default, imports = reader.queues()
    assert (default["used"], default["busy"], default["queued"]) == (2, [running, alone], 3)
    assert (imports["slots"], imports["rate"], imports["paused"], imports["queued"]) == (3, 2.0, True, 1)
    assert reader.queue("nobody's")["used"] == 0


def test_ahead_counts_priority_then_age(built, reader):
    built.job("queued")
    mine = built.job("queued")
    built.job("queued")
    built.job("queued", priority=5)
    assert reader.ahead(reader.get(mine)) == 2


def test_events_page_both_ways(built, reader):
    job = built.job(name="copy")
    ids = [built.event("started", job if i % 2 else None, at=NOW + i) for i in range(10)]
    assert [row["id"] for row in reader.events(limit=3)] == ids[-3:]
    assert [row["id"] for row in reader.events(before=ids[-3], limit=3)] == ids[-6:-3]
    assert [row["id"] for row in reader.events(after=ids[7])] == ids[8:]
    assert [row["id"] for row in reader.events(Filter(name="copy"))] == ids[1::2]
    assert [row["id"] for row in reader.events(Filter(since=NOW + 8))] == ids[8:]
    assert [row["id"] for row in reader.job_events(job, ids[5])] == [ids[7], ids[9]]
    assert reader.newest_event() == ids[-1]


def test_a_job_s_particulars(built, reader):
    needed = built.job("failed", name="build")
    job = built.job("blocked", blocked_by="dependency", keyed=1)
    holder = built.job("running")
    built.insert("dependencies", job=job, needs=needed, mode="completed")
    built.insert("dependencies", job=job, needs=999, mode="any")
    built.insert("job_keys", job=job, key="db", most=1)
    built.insert("job_keys", job=holder, key="db", most=1, held=1)
    built.cursor(job, {"attempt": 1, "out": 3, "err": 0, "records": 0}, at=NOW + 1)
    assert [(row["needs"], row["state"]) for row in reader.dependencies(job)] == [(needed, "failed"), (999, None)]
    assert [row["job"] for row in reader.dependents(needed)] == [job]
    assert reader.keys(job) == [{"key": "db", "most": 1, "held": 0, "holders": [holder]}]
    assert reader.cursor(job) == ({"attempt": 1, "out": 3, "err": 0, "records": 0}, NOW + 1)
    assert reader.cursor(job, "other") is None


def test_a_newer_store_is_refused_and_says_so(built):
    built.db.execute("UPDATE meta SET value = 7 WHERE key = 'min_reader'")
    with Reader(built.home) as reader, pytest.raises(StoreError, match="newer Vigie") as caught:
        reader.jobs()
    assert caught.value.hint
    assert caught.value.code == 4


def test_damage_is_named(home):
    home.create()
    Path(home.db).write_bytes(b"no database at all, but rather long" * 100)
    with Reader(home) as reader, pytest.raises(StoreError, match="damaged") as caught:
        reader.jobs()
    assert "restore" in (caught.value.hint or "")


def test_a_store_put_in_its_place_is_read_instead(built, reader):
    built.job(name="old")
    assert reader.jobs()[0]["name"] == "old"
    version = reader.data_version()
    built.close()
    reader.close()
    os.rename(built.home.db, built.home.db + ".replaced")
    for ending in ("-wal", "-shm"):
        Path(built.home.db + ending).unlink(missing_ok=True)
    Path(built.home.samples).unlink()
    reader.jobs()
    fresh = Built(built.home)
    fresh.job(name="new")
    assert reader.data_version() != version
    assert reader.jobs()[0]["name"] == "new"
    fresh.close()


def test_reads_what_a_killed_writer_left_in_its_log(home):
    script = """
import os, signal, sys
from built_store import Built
from vigie.config import Home
built = Built(Home())
built.db.wal_autocheckpoint(0)
built.job(name="kept")
os.kill(os.getpid(), signal.SIGKILL)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", script], env=env, check=False)
    assert os.path.getsize(home.db + "-wal") > 0
    with Reader(home) as reader:
        assert [row["name"] for row in reader.jobs()] == ["kept"]
    # The reader's end is no checkpoint: the log is the writer's business.
    assert os.path.getsize(home.db + "-wal") > 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user; run it as root")
def test_reads_a_directory_that_may_not_be_written():
    top = tempfile.mkdtemp(prefix="vg-")
    try:
        home = Home(os.path.join(top, "h"))
        built = Built(home)
        built.job(name="there")
        built.close()
        assert not os.path.exists(home.db + "-wal")
        for where, _, files in os.walk(top):
            os.chmod(where, 0o555)
            for name in files:
                os.chmod(os.path.join(where, name), 0o444)
        pid = os.fork()
        if pid == 0:
            seen: object = None
            try:
                os.setgid(65534)
                os.setuid(65534)
                seen = [row["name"] for row in Reader(home).jobs()]
            finally:
                os._exit(0 if seen == ["there"] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        shutil.rmtree(top)


@pytest.mark.slow
def test_reads_while_a_writer_commits(built):
    total, done = 300, threading.Event()
    problems: list[str] = []

    def read() -> None:
        with Reader(built.home) as reader:
            while True:
                ended = done.is_set()
                rows = list(reader.each())
                ids = [row["id"] for row in rows]
                # What is seen is a prefix of what was committed, whole transactions of two.
                if ids != list(range(len(ids), 0, -1)) or len(ids) % 2:
                    problems.append(f"{ids[:3]}… {len(ids)}")
                if ended:
                    if len(ids) != total:
                        problems.append(f"{len(ids)} at the end")
                    return

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(total // 2):
        built.db.execute("BEGIN IMMEDIATE")
        built.job()
        built.job()
        built.db.execute("COMMIT")
    done.set()
    for thread in threads:
        thread.join()
    assert problems == []


def test_no_reader_holds_the_log_back(built, reader):
    for _ in range(20):
        built.job()
    pages = reader.each()
    next(pages)
    built.job()
    # A full checkpoint needs every reader to be out of the log.
    total, done = built.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    assert (total, done) == (0, 0)


LISTS = {
    "ids_newest": (Filter(), {}),
    "ids_named": (Filter(name="x"), {"exact": "x"}),
    "ids_tagged": (Filter(tags=("x",)), {"tag": "x"}),
    "ids_open": (Filter(states=("running",)), {"state": "running"}),
    "ids_queued": (Filter(states=("queued",)), {}),
    "ids_bad": (Filter(states=("failed",)), {"ended": 1}),
    "events_back": (Filter(), {"since_event": None, "about": 0}),
    "events_on": (Filter(), {"since_event": None, "about": 0, "after": 0}),
    "events_job": (Filter(), {"job": 1, "after": 0}),
    "ahead": (Filter(), {"job": 1, "priority": 0, "assigned": 0}),
    "assigned_ahead": (Filter(), {"job": 1, "priority": 0, "assigned": 0}),
    "bad_since": (Filter(), {}),
    "counts": (Filter(), {}),
    "queue_waiting": (Filter(), {}),
    "queue_busy": (Filter(), {}),
    "newest": (Filter(), {}),
    "named": (Filter(), {}),
    "dependents": (Filter(), {"job": 1}),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_walk_an_index_and_never_sort(built, reader, name):
    chosen, more = LISTS[name]
    bind = {**chosen.parameters(), "before": 1 << 62, "limit": 5, **more}
    plan = [row[3] for row in built.db.execute("EXPLAIN QUERY PLAN " + reader.statement(name), bind)]
    outer = [line for line in plan if "VIRTUAL TABLE" not in line and "json_each" not in line]
    # They sort what has not ended, not what has; and the few lines that a job shares with others.
    few = ("counts", "ids_queued", "queue_busy", "events_job")
    assert not any("TEMP B-TREE" in line for line in outer if name not in few), plan
    if name == "newest":
        assert outer == ["SCAN jobs"], plan
    else:
        assert not any(line.startswith("SCAN jobs") and "INDEX" not in line for line in outer), plan


@pytest.mark.slow
def test_a_long_history_costs_a_list_nothing(built, reader):
    """Count the steps of SQLite's machine, not seconds: a page must not depend on the length of the list."""
    script = """
    INSERT INTO jobs (task, context, state, queue, created, finished, attempt, name)
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
    SELECT 1, 1, CASE WHEN i % 1000 THEN 'completed' ELSE 'failed' END, 'default', i, i, 1, 'n' || (i % 7) FROM n
    """

    def steps() -> list[int]:
        counted = []
        for chosen in (Filter(), Filter(states=("failed",)), Filter(states=("running",)), Filter(name="n3")):
            before = _steps(reader)
            assert len(reader.jobs(chosen, 20)) in (0, 20)
            counted.append(_steps(reader) - before)
        return counted

    built.db.execute(script.format(40_000))
    few = steps()
    built.db.execute(script.format(160_000))
    many = steps()
    assert all(after <= before * 1.5 + 200 for before, after in zip(few, many, strict=True)), (few, many)


def _steps(reader: Reader) -> int:
    connection = reader._store.open()
    assert connection is not None
    if not hasattr(reader, "counted"):
        reader.counted = 0  # type: ignore[attr-defined]

        def count() -> bool:
            reader.counted += 1  # type: ignore[attr-defined]
            return False

        connection.set_progress_handler(count, 1)
    return reader.counted  # type: ignore[attr-defined,no-any-return]


def test_named_queries_are_parsed_and_doubles_refused():
    assert "ids_newest" in load("read")
    with pytest.raises(ValueError, match="twice"):
        parse("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;")
    with pytest.raises(ValueError, match="empty"):
        parse("-- name: a\n-- nothing\n")


def test_moments_look_back():
    assert moment("2h", 10 * 3600 * SECOND) == 8 * 3600 * SECOND
    with pytest.raises(UsageError):
        moment("soonish", 0)
