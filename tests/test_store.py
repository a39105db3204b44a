"""What a store does: the suite that every store has to pass.

SQLite on a temporary file is the fast store; PostgreSQL will run the same. Two
stores opened on one file stand for two agents.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from vigie import lifecycle as lc
from vigie.errors import StoreError
from vigie.model import TASK_DEFAULTS
from vigie.store.copies import backup
from vigie.store.rows import join_items, split_items
from vigie.store.schema import SCHEMA
from vigie.store.sqlite import Stale, Store

CONTEXT = {"cwd": "/tmp", "env": {"A": "1", "B": "\udcff"}, "umask": 0o22, "python": None, "path": ["/x"]}
OWNER = ("host", "agent-1", "boot-1")
OTHER = ("host", "agent-2", "boot-1")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "vigie.db")


@pytest.fixture
def store(path: str) -> Iterator[Store]:
    store = Store(path)
    yield store
    store.close()


@pytest.fixture
def other(store: Store, path: str) -> Iterator[Store]:
    second = Store(path)
    yield second
    second.close()


def add(store: Store, *, state: str = "queued", queue: str = "default", priority: int = 0, keyed: int = 0) -> int:
    """Insert one job by the queries that the agent uses."""
    task = {**TASK_DEFAULTS, "kind": "command", "argv": ["true"], "label": "true"}
    store.begin()
    job = store.last_id() + 1
    row = (
        job, None, store.intern_task(task, None), store.intern_context(CONTEXT), None, None, state, None, queue,
        priority, 0, keyed, 1, None, None, None,
    )  # fmt: skip
    store.run("insert_job_given_id", row)
    store.commit()
    return job


def claim(store: Store, job: int, epoch: int, owner: tuple[str, str, str] = OWNER, **more: object) -> bool:
    fields = {"state": "running", "attempt": 1, "now": 5, "worker": None, "seq": None, "keyed": False, **more}
    return store.claim(job, epoch, owner=owner, **fields)  # type: ignore[arg-type]


def test_it_is_durable_by_its_settings(store: Store) -> None:
    assert store.db.pragma("journal_mode") == "wal"
    assert store.db.pragma("synchronous") == 2  # FULL
    assert store.db.pragma("foreign_keys") == 1
    assert store.db.pragma("trusted_schema") == 0


@pytest.mark.parametrize("gone", [[3], [1, 2, 3], [3, 2, 1], [2, 3], [3, 2]], ids=str)
def test_ids_are_never_reused(store: Store, gone: list[int]) -> None:
    assert [add(store) for _ in range(3)] == [1, 2, 3]
    for job in gone:
        store.begin()
        store.run("remove_job", (job,))
        store.commit()
    assert add(store) == 4
    store.begin()
    store.run("remove_job", (4,))
    store.commit()
    assert add(store) == 5


def test_contexts_and_tasks_are_stored_once(store: Store) -> None:
    add(store)
    add(store)
    assert store.db.execute("SELECT count(*) FROM contexts").fetchone()[0] == 1
    assert store.db.execute("SELECT count(*) FROM tasks").fetchone()[0] == 1
    (env,) = store.db.execute("SELECT env FROM contexts").fetchone()
    assert split_items(env) == ["A=1", "B=\udcff"]
    assert env == join_items(["A=1", "B=\udcff"])


def test_what_a_rollback_undid_is_stored_again(store: Store) -> None:
    store.begin()
    store.intern_context(CONTEXT)
    store.rollback()
    store.begin()
    known = store.intern_context(CONTEXT)
    store.commit()
    assert store.one("context", (known,)) is not None


def test_a_move_is_compare_and_set(store: Store, other: Store) -> None:
    job = add(store)
    mine, theirs = store.job(job), other.job(job)
    assert mine is not None
    assert theirs is not None
    store.begin()
    store.move(mine, lc.Stopped())
    store.commit()
    other.begin()
    with pytest.raises(Stale):
        other.move(theirs, lc.Blocked("time", 9))
    other.rollback()
    row = store.job(job)
    assert row is not None
    assert row.life() == lc.Stopped()
    assert row.epoch == mine.epoch + 1


def good_end(job: int, attempt: int = 1) -> tuple[Any, ...]:
    return (1, job, attempt, 10, 12, 2, 1, 1 << 20, b"4", None, "json")


@pytest.mark.parametrize(
    "change",
    [
        "ending = 'stop'", "keyed = 1", "attempt = 2", "state = 'queued'", "state = 'lost', finished = 1",
        "state = 'suspended'",
    ],
)  # fmt: skip
def test_good_ends_are_taken_all_or_none(store: Store, change: str) -> None:
    jobs = [add(store) for _ in range(3)]
    store.begin()
    for job in jobs:
        assert claim(store, job, 0, state="assigned")
    store.db.execute(f"UPDATE jobs SET {change} WHERE id = ?", (jobs[1],))
    before = store.db.execute("SELECT * FROM jobs").fetchall(), store.db.execute("SELECT * FROM attempts").fetchall()
    assert store.succeed_many([good_end(job) for job in jobs]) is False
    now = store.db.execute("SELECT * FROM jobs").fetchall(), store.db.execute("SELECT * FROM attempts").fetchall()
    assert now == before
    assert store.succeed_many([good_end(jobs[0]), good_end(jobs[2])]) is True
    store.commit()
    row = store.job(jobs[0])
    assert row is not None
    # What the table makes of it, the long way.
    ended = lc.Ended(now=12, tries=1, chance=0.0)
    new = [lc.step(state, ended, lc.Policy()) for state in (lc.Assigned(1), lc.Running(1))]
    assert new == [(row.life(), (lc.Effect.RELEASE, lc.Effect.FINISH))] * 2
    assert row.epoch == 2
    assert store.row("attempt", (jobs[0], 1))[0] == "ended"
    assert store.row("result", (jobs[0],))[5] == b"4"


def test_two_agents_never_claim_the_same_job(store: Store, other: Store) -> None:
    jobs = [add(store) for _ in range(40)]
    epochs = {job: store.job(job).epoch for job in jobs}  # type: ignore[union-attr]
    got: dict[str, list[int]] = {"a": [], "b": []}
    for i, job in enumerate(jobs):
        pair = [("a", store, OWNER), ("b", other, OTHER)]
        for name, agent, owner in pair if i % 2 else pair[::-1]:
            agent.begin()
            if claim(agent, job, epochs[job], owner):
                got[name].append(job)
            agent.commit()
    assert sorted(got["a"] + got["b"]) == jobs
    assert not set(got["a"]) & set(got["b"])
    query = "SELECT job, n, agent FROM attempts JOIN owners ON owners.id = owner ORDER BY job"
    rows = store.db.execute(query).fetchall()
    assert [row[0] for row in rows] == jobs
    assert all(row[2] == ("agent-1" if row[0] in got["a"] else "agent-2") for row in rows)


def test_an_attempt_is_recorded_with_its_claim_or_not_at_all(store: Store, path: str) -> None:
    job = add(store)
    store.begin()
    assert claim(store, job, 0)
    store.rollback()
    assert store.one("attempt", (job, 1)) is None
    row = store.job(job)
    assert row is not None
    assert row.state == "queued"


def test_an_attempt_number_cannot_be_taken_twice(store: Store) -> None:
    job = add(store)
    store.begin()
    assert claim(store, job, 0)
    row = store.job(job)
    assert row is not None
    store.move(row, lc.Queued())
    with pytest.raises(apsw.ConstraintError):
        claim(store, job, row.epoch + 1)
    store.rollback()


def test_a_claim_respects_concurrency_keys(store: Store) -> None:
    first, second = add(store, keyed=1), add(store, keyed=1)
    store.begin()
    for job in (first, second):
        store.run("add_key", (job, "database", 1))
    assert claim(store, first, 0, keyed=True)
    assert not claim(store, second, 0, keyed=True)
    store.run("release_keys", (first,))
    assert claim(store, second, 0, keyed=True)
    store.commit()


def test_ready_gives_priority_then_order(store: Store) -> None:
    low, high, low2 = add(store), add(store, priority=5), add(store)
    rows = store.ready("default", 10)
    assert [row.id for row in rows] == [high, low, low2]


def test_one_request_is_undone_alone(store: Store) -> None:
    kept = add(store)
    store.begin()
    store.savepoint()
    store.run("remove_job", (kept,))
    store.undo()
    store.savepoint()
    store.run("set_meta", ("x", "1"))
    store.release()
    store.commit()
    assert store.job(kept) is not None
    assert store.meta("x") == "1"


def test_removing_a_job_removes_all_of_it(store: Store) -> None:
    job = add(store)
    store.begin()
    store.run("add_tag", ("t", job))
    store.run("add_key", (job, "k", 1))
    store.run("set_cursor", (job, "default", "{}", 1))
    assert claim(store, job, 0)
    store.run("remove_job", (job,))
    store.commit()
    for table in ("tags", "job_keys", "cursors", "attempts"):
        assert store.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0


def test_a_reader_sees_only_what_was_committed(store: Store, other: Store) -> None:
    store.begin()
    store.run("set_meta", ("x", "1"))
    assert other.meta("x") is None
    store.commit()
    assert other.meta("x") == "1"


def test_the_log_begins_anew_in_the_same_file(store: Store) -> None:
    """Each commit then writes over what is there: a file that grows costs it another write to the disk."""
    store._most_pages = 25
    lengths = []
    copied = 0
    for _ in range(300):
        add(store)
        if store.log_is_long():
            store.checkpoint()
            copied += 1
        lengths.append(store.wal_size())
    assert copied > 3
    assert not store.log_is_long()
    full = max(lengths)
    assert 100_000 < full < 300_000
    assert lengths[lengths.index(full) :] == [full] * (len(lengths) - lengths.index(full))


def test_a_log_that_a_reader_holds_is_not_copied_for_every_commit(store: Store, other: Store) -> None:
    store._most_pages = 10
    add(store)
    other.db.execute("BEGIN")
    assert other.job(1) is not None
    tries = 0
    for _ in range(30):
        add(store)
        if store.log_is_long():
            tries += 1
            store.checkpoint()
    assert 0 < tries < 15
    other.db.execute("COMMIT")


def test_a_newer_schema_is_refused_by_name(store: Store, path: str) -> None:
    store.run("set_meta", ("schema", 99))
    store.close()
    with pytest.raises(StoreError, match="schema 99"):
        Store(path)


def test_an_older_store_is_brought_up_to_date_after_a_copy(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    path = str(tmp_path / "db" / "vigie.db")
    fresh = Store(path)
    tables = _shape(fresh)
    for table in ("firings", "seen_files", "schedules", "declared", "zones", "instances", "services"):
        fresh.db.execute(f"DROP TABLE {table}")
    fresh.db.execute("DROP INDEX jobs_service")
    fresh.db.execute("DROP INDEX events_object")
    fresh.run("set_meta", ("schema", 1))
    fresh.run("set_meta", ("last_id", 41))
    fresh.close()
    store = Store(path)
    assert _shape(store) == tables
    assert store.take_ids(1) == 42
    assert int(store.meta("schema") or 0) == SCHEMA
    copy = apsw.Connection(store.meta("backup_before") or "")
    assert dict(copy.execute("SELECT key, value FROM meta"))["schema"] == 1
    copy.close()
    store.close()


def _shape(store: Store) -> set[tuple[str, str]]:
    """Give what a store consists of, but for spaces and comments."""
    rows = store.db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {(name, " ".join(re.sub("--.*", "", sql).split())) for name, sql in rows}


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vigie.db"
    path.write_bytes(b"not a database " * 100)
    with pytest.raises(StoreError, match="cannot open"):
        Store(str(path))


def test_a_backup_is_a_whole_store_of_its_own(store: Store, tmp_path: Path) -> None:
    job = add(store)
    copy = str(tmp_path / "copy.db")
    assert backup(store.db, copy) == os.stat(copy).st_size
    assert not os.path.exists(copy + ".part")
    second = Store(copy)
    assert second.job(job) is not None
    assert second.db.pragma("integrity_check") == "ok"
    second.close()


@pytest.mark.parametrize(
    "state",
    [
        lc.Blocked("time", 7), lc.Queued(), lc.Running(1), lc.Running(1, "stop"), lc.Suspended(1, "timeout"),
        lc.Completed(0), lc.Failed("exit", 3, None, "m"), lc.Stopped(None, 15), lc.Lost("why"),
    ],
)  # fmt: skip
def test_a_state_comes_back_as_it_was_written(store: Store, state: lc.State) -> None:
    row = store.job(add(store))
    assert row is not None
    store.begin()
    store.move(row, state, attempt=1)
    store.commit()
    again = store.job(row.id)
    assert again is not None
    assert again.life() == state
