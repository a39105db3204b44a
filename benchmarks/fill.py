"""A store with a million finished jobs.

Some real jobs run; then, with the agent stopped, all that they left in the store is
written again and again, with other ids and at other times. So each row is as the
agent writes it, whatever the schema holds.
"""

from __future__ import annotations

import apsw
from homes import vigie as program

import work
from vigie.config import Home

#: Jobs of the pattern: what ran well, and what did not.
FUNCTIONS, GOOD, BAD, STOPPED = 30, 17, 2, 1
PATTERN = FUNCTIONS + GOOD + BAD + STOPPED
#: The jobs lie in this many days, so that none is past its keeping time.
DAYS = 20
#: What is moved by ids, and by time, where it is not NULL.
_NUMBERS = {"jobs": ("id",), "attempts": ("job",), "events": ("job", "last")}
_TIMES = ("created", "due", "started", "finished", "at")


def fill(home: Home, count: int) -> int:
    """Fill a new home's store, whose agent runs, with about ``count`` finished jobs; give how many there are.

    The agent is stopped afterwards.
    """
    _pattern()
    program("agent", "stop", home=home)
    copies = max(1, count // PATTERN)
    db = apsw.Connection(home.db)
    try:
        assert db.execute("SELECT max(id), count(*) FROM jobs").fetchone() == (PATTERN, PATTERN)
        # A file that nobody misses needs no care; the agent switches it on again.
        db.pragma("journal_mode", "off")
        db.execute("PRAGMA synchronous=OFF; BEGIN")
        for table in _NUMBERS:
            _multiply(db, table, copies)
        db.execute("COMMIT")
        assert db.pragma("journal_mode", "wal") == "wal"
        return int(db.execute("SELECT count(*) FROM jobs WHERE finished IS NOT NULL").fetchone()[0])
    finally:
        db.close()


def _pattern() -> None:
    """Run the jobs whose rows are the pattern, to their ends."""
    import vigie

    sleeper = vigie.start(["sleep", "600"])
    jobs = vigie.start_many(work.double, [(i,) for i in range(FUNCTIONS)])
    jobs += [vigie.start(["/bin/true"]) for _ in range(GOOD)]
    jobs += [vigie.start(["/bin/false"]) for _ in range(BAD)]
    for job in jobs:
        job.wait(60)
    sleeper.stop()


def _multiply(db: apsw.Connection, table: str, copies: int) -> None:
    """Write a table's rows again, ``copies - 1`` times: the first of them is there."""
    names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    if table == "events":
        names.remove("id")  # the next one, whatever it is

    step = DAYS * 86_400_000_000 // copies

    def moved(name: str) -> str:
        if name in _NUMBERS[table]:
            return f"{name} + n.i * {PATTERN}"
        # The newest copy is as old as the pattern, the others lie before it.
        return f"{name} - (:copies - 1 - n.i) * :step" if name in _TIMES else name

    about = "WHERE job IS NOT NULL" if table == "events" else ""
    db.execute(f"CREATE TEMP TABLE pattern AS SELECT * FROM main.{table} {about} ORDER BY {_NUMBERS[table][0]}")
    db.execute(
        f"WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :copies) "
        f"INSERT INTO main.{table} ({', '.join(names)}) "
        f"SELECT {', '.join(map(moved, names))} FROM n CROSS JOIN temp.pattern",
        {"copies": copies, "step": step},
    )
    db.execute("DROP TABLE temp.pattern")
