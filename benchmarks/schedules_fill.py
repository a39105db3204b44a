"""A store with many schedules.

One is added as people add one; then, with the agent stopped, its row is written again and
again, with other names and other instants. So each row is as the agent writes it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

import apsw
from harness import HERE
from homes import vigie as program

from vigie import declaration
from vigie.config import Home
from vigie.errors import NotFound, Refused
from vigie.session import session

SECOND = 1_000_000
#: How the schedules are named.
NAMED = "schedule-{:07}"
#: Jobs that warm the workers.
WARMING = 4
_NAME = "as-added"


class Planned(NamedTuple):
    """A schedule to be: when it comes in words, from when that counts, and its first instant (µs UTC)."""

    when: str
    since: int
    first: int


def table(when: str) -> dict[str, object]:
    """Give the table of a schedule that runs a function that does nothing."""
    what = {"python": "work:double", "args": [1], "cwd": str(HERE), "interpreter": sys.executable}
    return {"when": when, "timezone": "UTC", **what}


def fill(home: Home, planned: Iterable[Planned], sample: str) -> int:
    """Fill a new home's store, whose agent runs, with schedules; give how many there are.

    Parameters
    ----------
    sample:
        When the schedule comes whose row is taken: of the same kind as those to be.

    The agent is stopped afterwards.
    """
    since = time.time_ns() // 1000
    fields, blobs = declaration.schedule(_NAME, table(sample), now=since).request()
    session().client.call_with_blobs("schedule_set", blobs, **fields)
    program("agent", "stop", home=home)
    db = apsw.Connection(home.db)
    try:
        # A file that nobody misses needs no care; the agent switches it on again.
        db.pragma("journal_mode", "off")
        db.execute("PRAGMA synchronous=OFF; BEGIN; CREATE TEMP TABLE added AS SELECT * FROM schedules")
        db.execute("DELETE FROM schedules; DELETE FROM firings")
        db.executemany(_statement(db, sample, since), _numbered(planned))
        db.execute("COMMIT")
        assert db.pragma("journal_mode", "wal") == "wal"
        return int(db.execute("SELECT count(*) FROM schedules").fetchone()[0])
    finally:
        db.close()


def _numbered(planned: Iterable[Planned]) -> Iterable[tuple[str, str, int, int]]:
    return ((NAMED.format(number), *each) for number, each in enumerate(planned))


def _statement(db: apsw.Connection, sample: str, since: int) -> str:
    """Give the insert of one more: as it was added, but for its name (?1), triggers (?2, ?3) and instants (?4)."""
    another = {
        "name": "?1",
        "spec": f"replace(spec, '{sample}', ?2)",
        "triggers": f"replace(replace(replace(triggers, '{sample}', ?2), '{since}', ?3), '{_NAME}', ?1)",
        "planned": "min(planned, ?4 - 1)",
        "next": "?4",
        "due": "?4",
    }
    columns = [row[1] for row in db.execute("PRAGMA table_info(schedules)") if row[1] != "id"]
    values = ", ".join(another.get(column, column) for column in columns)
    return f"INSERT INTO schedules ({', '.join(columns)}) SELECT {values} FROM temp.added"


def warm() -> None:
    """Have the first schedules run by hand, so that their workers are there."""
    client = session().client
    for number in range(WARMING):
        try:
            job = client.call("schedule_run", name=NAMED.format(number))["ids"][0]
        except NotFound:
            break
        except Refused:
            continue  # it runs already
        client.wait([job], timeout=30 * SECOND)
