"""Stores built row by row, and output files, for tests of what reads them."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import apsw

from vigie.config import Home

NOW = 1_770_000_000_000_000
SECOND = 1_000_000


def _sql(name: str) -> str:
    return resources.files("vigie.store").joinpath(name).read_text(encoding="utf-8")


class Built:
    """A store that this process writes as the agent would, by one connection."""

    def __init__(self, home: Home) -> None:
        self.home = home
        home.create()
        self.db = apsw.Connection(home.db)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute(_sql("schema.sql"))
        self.db.execute("INSERT INTO meta (key, value) VALUES ('schema', 2), ('min_reader', 1)")
        self.samples = apsw.Connection(home.samples)
        self.samples.execute("PRAGMA journal_mode=WAL")
        self.samples.execute(_sql("samples.sql"))
        self.db.execute(
            "INSERT INTO contexts (id, digest, cwd, env, umask, python) VALUES (1, x'01', ?, ?, 18, ?)",
            (b"/srv", b"PATH=/bin\0TOKEN=hush\0", b"/usr/bin/python3"),
        )
        self.insert("owners", id=1, host="here", agent="a", boot="b")
        self.command = self.task(kind="command", argv=b"ls\0-l\0", label="ls -l")
        self.function = self.task(kind="function", function="shop:add", label="shop:add")

    def insert(self, table: str, **row: Any) -> int:
        marks = ", ".join("?" * len(row))
        self.db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
        return self.db.last_insert_rowid()

    def task(self, **row: Any) -> int:
        usual = {
            "digest": os.urandom(16), "backoff": SECOND, "backoff_max": SECOND, "jitter": 0.1,
            "grace": 10 * SECOND, "max_output": 1 << 30,
        }  # fmt: skip
        return self.insert("tasks", **(usual | row))

    def job(self, state: str = "completed", *, tags: tuple[str, ...] = (), **row: Any) -> int:
        usual: dict[str, Any] = {"task": self.command, "context": 1, "queue": "default", "created": NOW}
        if state in ("completed", "failed", "stopped", "lost"):
            usual |= {"attempt": 1, "started": NOW, "finished": NOW + SECOND, "duration": SECOND}
        if state in ("running", "suspended"):
            usual |= {"attempt": 1, "started": NOW}
        job = self.insert("jobs", state=state, **(usual | row))
        for tag in tags:
            self.insert("tags", tag=tag, job=job)
        return job

    def attempt(self, job: int, n: int = 1, state: str = "ended", **row: Any) -> None:
        usual = {"owner": 1, "epoch": 1, "created": NOW, "started": NOW}
        self.insert("attempts", job=job, n=n, state=state, **(usual | row))

    def event(self, verb: str, job: int | None = None, at: int = NOW, **row: Any) -> int:
        return self.insert("events", verb=verb, job=job, at=at, **row)

    def cursor(self, job: int, position: dict[str, int], reader: str = "default", at: int = NOW) -> None:
        self.insert("cursors", job=job, reader=reader, position=json.dumps(position), at=at)

    def write(self, job: int, stream: str, data: bytes, attempt: int = 1) -> Path:
        path = Path(self.home.job_file(job, stream, attempt))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)
        return path

    def lengths(self, job: int, *entries: tuple[int, int, int], attempt: int = 1) -> None:
        self.samples.executemany(
            "INSERT INTO lengths (job, attempt, at, out, err) VALUES (?, ?, ?, ?, ?)",
            [(job, attempt, *entry) for entry in entries],
        )

    def close(self) -> None:
        self.db.close()
        self.samples.close()
