"""Packs: what is stored as one is to everybody as if each job had its row."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.config import Home
from vigie.model import TASK_DEFAULTS
from vigie.selection import Filter
from vigie.store.reader import Reader
from vigie.store.sqlite import Store

CONTEXT = {"cwd": "/tmp", "env": {"A": "1"}, "umask": 0o22, "python": "/usr/bin/python3", "path": ["/x"]}
OWNER = ("host", "agent-1", "boot-1")
NOW = 1_770_000_000_000_000
COUNT = 6


class Twin:
    """Two stores to which the same happens: in one the jobs are packed, in the other each has its row."""

    def __init__(self, directory: str) -> None:
        self.homes = [Home(os.path.join(directory, name)) for name in ("packed", "rows")]
        for home in self.homes:
            home.create()
        self.packed, self.rows = self.stores = [Store(home.db) for home in self.homes]
        for store in self.stores:
            store.begin()
            task = {**TASK_DEFAULTS, "kind": "function", "function": "m:f", "label": "m:f"}
            common = ("n", store.intern_task(task, None), store.intern_context(CONTEXT))
            args = json.dumps([[[i, "é"], {}] for i in range(COUNT)], ensure_ascii=False, separators=(",", ":"))
            if store is self.packed:
                assert store.packs.add(1, args, (*common, "default", 3, NOW)) == COUNT
            else:
                tail = ("queued", None, "default", 3, 0, 0, NOW, None, None, None)
                store.run("insert_jobs_together", (1, *common, *tail, args))
            # One with a row in either store, which waits for one that has none in the first.
            after = ("blocked", "dependency", "default", 0, 0, 0, NOW, None, None, None)
            store.run("insert_job_given_id", (COUNT + 1, "m", *common[1:], b"[[],{}]", "json", *after))
            store.run("add_dependency", (COUNT + 1, COUNT + 1, "any", None))
            for job in (1, COUNT + 1):
                store.run("event", (NOW, "submitted", job, *[None] * 8))
            store.commit()
        self.next = 1

    def claim(self, count: int) -> None:
        """Hand out the next ones."""
        for store in self.stores:
            store.begin()
            ready = store.ready("default", count, keyed=False)
            assert [row.id for row in ready] == list(range(self.next, self.next + count))
            assert store.claim_many(ready, "assigned", NOW + 5, OWNER, 7, 100 + self.next)
            store.commit()
        self.next += count

    def end(self, jobs: list[int]) -> None:
        """End some of those that were handed out."""
        ends = [(100 + job, job, 1, NOW + 6, NOW + 9, 3, 2, 1 << 20, b"%d" % job, None, "json") for job in jobs]
        for store in self.stores:
            store.begin()
            assert store.succeed_many(ends)
            store.commit()

    def everything(self, store: Store) -> list[Any]:
        """Give all rows of jobs and attempts."""
        queries = ("SELECT * FROM jobs ORDER BY id", "SELECT * FROM attempts ORDER BY job, n", "SELECT * FROM packs")
        return [store.db.execute(query).fetchall() for query in queries]

    def close(self) -> None:
        for store in self.stores:
            store.close()


@contextmanager
def twin() -> Iterator[Twin]:
    with tempfile.TemporaryDirectory(prefix="vg-") as directory:
        made = Twin(directory)
        try:
            yield made
        finally:
            made.close()


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Draw how jobs are handed out and end, in any order."""
    done: list[tuple[str, Any]] = []
    following, open_jobs = 1, []
    for _ in range(draw(st.integers(0, 6))):
        if following <= COUNT and draw(st.booleans()):
            count = draw(st.integers(1, COUNT + 1 - following))
            done.append(("claim", count))
            open_jobs += range(following, following + count)
            following += count
        elif open_jobs:
            ending = draw(st.lists(st.sampled_from(open_jobs), unique=True, min_size=1))
            done.append(("end", ending))
            open_jobs = [job for job in open_jobs if job not in ending]
    return done


def seen_by_readers(home: Home) -> dict[str, Any]:
    """Give what every way of reading shows of the jobs."""
    with Reader(home) as reader:
        ids = list(range(COUNT, 0, -1))
        return {
            "rows": reader.rows_of(ids),
            "pages": [reader.jobs(limit=4), reader.jobs(limit=4, after=reader.jobs(limit=4)[-1])],
            "open": [reader.jobs(Filter(states=[state])) for state in ("queued", "completed")],
            "named": [reader.ids(Filter(name="n")), reader.resolve(["n"]), reader.resolve(["last"])],
            "states": reader.states(ids),
            "counts": reader.counts(),
            "queues": reader.queues(),
            "ahead": [reader.ahead(row) for row in reader.rows_of(ids)],
            "attempts": [reader.attempts(job) for job in ids],
            "content": [reader.content(job) for job in ids],
            "context": [reader.context(job) for job in ids],
            "needs": [reader.dependencies(COUNT + 1), reader.dependents(COUNT)],
            "events": [row["job"] for row in reader.events(limit=3)],
            "events before": [row["job"] for row in reader.events(before=2, limit=3)],
            "events on": [row["job"] for row in reader.events(after=0, limit=3)],
            "events of some": [
                [row["job"] for row in reader.events(Filter(name=name), limit=3)] for name in ("n", "m")
            ],
        }


@given(histories())
def test_packed_jobs_are_as_those_with_rows(history: list[tuple[str, Any]]) -> None:
    with twin() as both:
        for what, value in history:
            getattr(both, what)(value)
        packed, rows = both.packed, both.rows
        ids = range(COUNT + 2)
        assert packed.states_of(list(ids)) == rows.states_of(list(ids))
        assert [packed.job(job) for job in ids] == [rows.job(job) for job in ids]
        assert [packed.state_of(job) for job in ids] == [rows.state_of(job) for job in ids]
        assert {k: v for k, v in packed.counts().items() if v} == {k: v for k, v in rows.counts().items() if v}
        assert sorted(packed.open_attempts()) == sorted(rows.open_attempts())
        assert packed.queues_ready() == rows.queues_ready()
        assert packed.function_facts(list(ids)) == rows.function_facts(list(ids))
        assert packed.last_id() == rows.last_id() == COUNT + 1
        assert seen_by_readers(both.homes[0]) == seen_by_readers(both.homes[1])


@given(histories(), st.integers(1, COUNT))
def test_unfolding_gives_the_rows_that_there_would_have_been(history: list[tuple[str, Any]], job: int) -> None:
    with twin() as both:
        for what, value in history:
            getattr(both, what)(value)
        both.packed.begin()
        for each in (job, *range(1, COUNT + 1)):
            both.packed.unfold(each)
        both.packed.commit()
        assert both.everything(both.packed) == both.everything(both.rows)


@given(histories(), histories())
def test_what_is_remembered_is_what_is_stored(before: list[tuple[str, Any]], undone: list[tuple[str, Any]]) -> None:
    """After a rollback, and in another process."""
    with twin() as both:
        for what, value in before:
            getattr(both, what)(value)
        known = [both.packed.job(job) for job in range(1, COUNT + 1)]
        both.packed.begin()
        both.packed.savepoint()
        for job in (1, COUNT):
            both.packed.unfold(job)
        both.packed.undo()
        both.packed.rollback()
        assert [both.packed.job(job) for job in range(1, COUNT + 1)] == known
        again = Store(both.homes[0].db)
        assert [again.job(job) for job in range(1, COUNT + 1)] == known
        again.close()


def test_a_pack_ends_with_its_last_job() -> None:
    with twin() as both:
        both.claim(COUNT)
        both.end(list(range(1, COUNT)))
        assert both.packed.db.execute("SELECT count(*) FROM packs").fetchone() == (1,)
        both.end([COUNT])
        for table in ("packs", "pack_args", "lots"):
            assert both.packed.db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        assert both.everything(both.packed) == both.everything(both.rows)


def test_another_store_cannot_hand_out_the_same() -> None:
    with twin() as both:
        other = Store(both.homes[0].db)
        ready = other.ready("default", 2, keyed=False)
        both.claim(3)
        other.begin()
        assert not other.claim_many(ready, "assigned", NOW, OWNER, 8, 1)
        other.rollback()
        other.close()


@pytest.mark.parametrize("removed", [1, 3])
def test_a_removed_job_of_a_pack_stays_removed(removed: int) -> None:
    """Its row is gone, and yet it does not wait."""
    with twin() as both:
        both.claim(4)
        both.end([removed])
        for store in both.stores:
            store.begin()
            store.unfold(removed)
            store.run("remove_job", (removed,))
            store.commit()
        both.packed.packs.forget()
        assert both.packed.job(removed) is None
        assert both.packed.states_of(list(range(1, COUNT + 1))) == both.rows.states_of(list(range(1, COUNT + 1)))
