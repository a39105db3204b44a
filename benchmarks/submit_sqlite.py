"""A client that inserts and commits COUNT rows, each by itself: ``submit_sqlite.py DATABASE COUNT``.

The least that a durable queue on SQLite can do: no agent, no protocol, one table.
"""

from __future__ import annotations

import sys

import apsw
from begin import at_the_word

if __name__ == "__main__":
    path, count = sys.argv[1], int(sys.argv[2])
    db = apsw.Connection(path)
    db.set_busy_timeout(60_000)
    db.pragma("journal_mode", "wal")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")

    def insert(i: int) -> None:
        # Outside of a transaction each statement is its own: written, synced, committed.
        db.execute("INSERT INTO jobs (body) VALUES (?)", (b"[[%d],{}]" % i + bytes(100),))

    insert(0)
    at_the_word(lambda: [insert(i) for i in range(count)])
