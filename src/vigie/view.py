"""Rows of the store → their JSON form, the contract of ``--json``. Pure.

Instants become ISO 8601 with the local offset, durations seconds, sizes bytes;
what is not known is null. Bytes show by surrogateescape. Values of environment
variables are secrets and never appear.
"""

from __future__ import annotations

import json
import os
import time
from functools import lru_cache
from typing import Any

__all__ = ["attempt", "dependency", "event", "instant", "items", "job", "label", "path_of", "queue", "seconds", "what"]

SECOND = 1_000_000
Row = dict[str, Any]


def instant(us: int | None) -> str | None:
    """Write an instant (µs UTC) as ISO 8601 in local time, with its offset.

    >>> instant(None) is None, len(instant(1_700_000_000_000_000))
    (True, 32)
    """
    if us is None:
        return None
    minute, rest = divmod(us, 60 * SECOND)
    begins, zone = _minute(minute)
    return f"{begins}{rest // SECOND:02d}.{rest % SECOND:06d}{zone}"


@lru_cache(maxsize=1024)
def _minute(minute: int) -> tuple[str, str]:
    """Give how a minute since 1970 is written, and its offset: what many instants share."""
    local = time.localtime(minute * 60)
    sign, offset = ("-" if local.tm_gmtoff < 0 else "+"), abs(local.tm_gmtoff) // 60
    return time.strftime("%Y-%m-%dT%H:%M:", local), f"{sign}{offset // 60:02d}:{offset % 60:02d}"


def seconds(us: int | None) -> float | None:
    """Write a duration (µs) in seconds.

    >>> seconds(1_500_000)
    1.5
    """
    return None if us is None else us / SECOND


def items(blob: bytes | None) -> list[str]:
    r"""Give the strings of NUL-terminated bytes.

    >>> items(b"ls\0-l\0")
    ['ls', '-l']
    """
    return [os.fsdecode(item) for item in blob.split(b"\0")[:-1]] if blob else []


def path_of(blob: bytes | None) -> str | None:
    """Give a path as a string."""
    return None if blob is None else os.fsdecode(blob.rstrip(b"\0"))


def label(row: Row) -> str:
    """Give what a person calls the work of a job: the line typed, or the function."""
    if row["label"]:
        return str(row["label"])
    if row["kind"] == "function":
        return str(row["function"])
    import shlex

    return shlex.join(items(row["argv"]))


def what(row: Row) -> str:
    """Give how a job is called in a sentence: its id, and its name if it has one."""
    return f"{row['id']} ({row['name']})" if row["name"] else str(row["id"])


def lasted(row: Row, now: int) -> int | None:
    """Give how long the newest attempt took, or has taken so far (µs)."""
    if row["state"] in ("running", "suspended") and row["started"] is not None:
        return max(0, now - int(row["started"]))
    return None if row["duration"] is None else int(row["duration"])


def job(row: Row, now: int) -> dict[str, Any]:
    """Give a job in JSON, as DESIGN words it; a running job's duration is so far."""
    task: dict[str, Any] = {"kind": row["kind"], "label": label(row)}
    if row["kind"] == "function":
        task["function"] = row["function"]
    else:
        task["command"] = items(row["argv"])
    task["cwd"] = path_of(row["cwd"])
    task["python"] = path_of(row["python"])
    return {
        "id": row["id"],
        "name": row["name"],
        "state": row["state"],
        "reason": row["reason"],
        "blocked_by": row["blocked_by"],
        "exit_code": row["exit_code"],
        "signal": row["signal"],
        "message": row["message"],
        "attempt": row["attempt"],
        "queue": row["queue"],
        "priority": row["priority"],
        "tags": row["tags"],
        "task": task,
        "host": row["host"],
        "pid": row["pid"] if row["state"] in ("running", "suspended") else None,
        "created": instant(row["created"]),
        "due": instant(row["due"]),
        "started": instant(row["started"]),
        "finished": instant(row["finished"]),
        "duration": seconds(lasted(row, now)),
        "progress": None,
        "parent": row["parent"],
        "schedule": row["schedule"],
        "service": row["service"],
        "peak_rss": row["peak_rss"],
        "cpu_seconds": seconds(row["cpu"]),
    }


def options(row: Row) -> dict[str, Any]:
    """Give what a job's task and request ask beyond the work itself."""
    return {
        "timeout": seconds(row["timeout"]),
        "retries": row["retries"],
        "backoff": seconds(row["backoff"]),
        "backoff_max": seconds(row["backoff_max"]),
        "jitter": row["jitter"],
        "grace": seconds(row["grace"]),
        "fresh": bool(row["fresh"]),
        "on_lost": row["on_lost"],
        "max_output": row["max_output"],
        "now": bool(row["now"]),
        "key": row["key"],
    }


def attempt(row: Row) -> dict[str, Any]:
    """Give one attempt in JSON."""
    return {
        "attempt": row["n"],
        "state": "queued" if row["state"] == "assigned" else row["state"],
        "host": row["host"],
        "pid": row["pid"],
        "worker": row["worker"],
        "started": instant(row["started"]),
        "finished": instant(row["finished"]),
        "suspended": seconds(row["suspended"]),
        "exit_code": row["exit_code"],
        "signal": row["signal"],
        "reason": row["reason"],
        "message": row["message"],
        "peak_rss": row["peak_rss"],
        "cpu_seconds": seconds(row["cpu"]),
    }


def dependency(row: Row) -> dict[str, Any]:
    """Give what a job waits for in JSON; a state of null: it was removed."""
    return {"job": row["needs"], "mode": row["mode"], "state": row["state"], "name": row["name"]}


def context(row: Row) -> dict[str, Any]:
    """Give a context in JSON: of the environment only the names."""
    return {
        "cwd": path_of(row["cwd"]),
        "python": path_of(row["python"]),
        "umask": f"{row['umask']:04o}",
        "env_names": sorted(item.partition("=")[0] for item in items(row["env"])),
        "path": items(row["path"]),
    }


def error(blob: bytes | None) -> dict[str, Any] | None:
    """Give the exception of a job: ``type, message, traceback``."""
    if not blob:
        return None
    try:
        found = json.loads(blob)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def event(row: Row) -> dict[str, Any]:
    """Give one event in JSON; ``detail`` is parsed where it holds JSON."""
    return {
        "id": row["id"],
        "time": instant(row["at"]),
        "verb": row["verb"],
        "job": row["job"],
        "last_job": row["last"],
        "object": row["object"],
        "before": _parsed(row["before"]),
        "after": _parsed(row["after"]),
        "detail": _parsed(row["detail"]),
        "uid": row["uid"],
        "pid": row["pid"],
        "program": row["program"],
        "terminal": row["terminal"],
    }


def _parsed(text: str | None) -> Any:
    if text is None or not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def queue(row: Row) -> dict[str, Any]:
    """Give a queue with its use in JSON; ``rate`` is starts a second."""
    return {key: row[key] for key in ("name", "slots", "rate", "paused", "used", "busy", "queued")}
