"""Rows of the store as the duties see them, and how states and texts become columns.

Nothing here touches a database: any store has these rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from vigie import lifecycle as lc
from vigie.digests import blake2b

__all__ = [
    "JobRow", "OpenAttempt", "ReadyRow", "Row", "columns", "digest", "finish_bind", "join_items", "json_list",
    "split_items", "state_name",
]  # fmt: skip

Row = tuple[Any, ...]


class JobRow(NamedTuple):
    """A job as a step of its life needs it (columns of the query ``job``, then those of ``task_says``)."""

    id: int
    state: str
    reason: str | None
    blocked_by: str | None
    ending: str | None
    exit_code: int | None
    signal: int | None
    message: str | None
    attempt: int
    tries_from: int
    epoch: int
    queue: str
    keyed: int
    due: int | None
    started: int | None
    context: int
    stdin: str | None
    task: int
    kind: str
    retries: int
    backoff: int
    backoff_max: int
    jitter: float
    on_lost: str
    grace: int
    timeout: int | None
    fresh: int

    @property
    def claimed_ahead(self) -> bool:
        """Whether it is a command that the keeper was given to hold and, as far as we know, has not begun."""
        return self.started is None and self.kind == "command" and self.state in ("assigned", "running")

    def life(self) -> lc.State:
        """Give the state with the fields that exist in it."""
        state: lc.State = _FROM_ROW[self.state](self)
        return state

    def policy(self) -> lc.Policy:
        """Give what the task says of retries."""
        return lc.Policy(self.retries, self.backoff, self.backoff_max, self.jitter, self.on_lost)


class ReadyRow(NamedTuple):
    """A job that may be handed out (columns of the query ``ready``, two of its task, and its pack)."""

    id: int
    epoch: int
    attempt: int
    priority: int
    context: int
    keyed: int
    now: int
    task: int
    kind: str
    fresh: int
    #: The first id of the pack in which it has no row of its own; 0: it has one.
    pack: int

    @property
    def sort(self) -> tuple[object, ...]:
        """Give what jobs of one batch have in common."""
        return self[4:]


class OpenAttempt(NamedTuple):
    """An attempt without a known end (columns of the query ``open_attempts``)."""

    job: int
    n: int
    state: str
    boot: str
    worker: int | None
    seq: int | None
    pid: int | None
    start_ticks: int | None
    started: int | None
    started_mono: int | None
    suspended: int
    frozen_mono: int | None
    queue: str
    job_state: str
    ending: str | None
    now: int
    task: int
    timeout: int | None
    max_output: int
    kind: str
    grace: int


_FROM_ROW: dict[str, Any] = {
    "blocked": lambda r: lc.Blocked(r.blocked_by, r.due),
    "queued": lambda r: lc.Queued(),
    "assigned": lambda r: lc.Assigned(r.attempt),
    "running": lambda r: lc.Running(r.attempt, r.ending),
    "suspended": lambda r: lc.Suspended(r.attempt, r.ending),
    "completed": lambda r: lc.Completed(r.exit_code),
    "failed": lambda r: lc.Failed(r.reason, r.exit_code, r.signal, r.message),
    "stopped": lambda r: lc.Stopped(r.exit_code, r.signal),
    "lost": lambda r: lc.Lost(r.message),
}

_Columns = tuple[str, str | None, str | None, str | None, int | None, int | None, str | None, int | None]


def columns(state: lc.State) -> _Columns:
    """Give a state's columns: state, reason, blocked_by, ending, exit_code, signal, message, due."""
    match state:
        case lc.Blocked(by, due):
            return ("blocked", None, by, None, None, None, None, due)
        case lc.Queued():
            return ("queued", None, None, None, None, None, None, None)
        case lc.Assigned():
            return ("assigned", None, None, None, None, None, None, None)
        case lc.Running(_, ending):
            return ("running", None, None, ending, None, None, None, None)
        case lc.Suspended(_, ending):
            return ("suspended", None, None, ending, None, None, None, None)
        case lc.Completed(code):
            return ("completed", None, None, None, code, None, None, None)
        case lc.Failed(reason, code, signal, message):
            return ("failed", reason, None, None, code, signal, message, None)
        case lc.Stopped(code, signal):
            return ("stopped", None, None, None, code, signal, None, None)
        case lc.Lost(message):
            return ("lost", None, None, None, None, None, message, None)


def finish_bind(row: JobRow, state: lc.State, left: dict[str, Any]) -> Row:
    """Give the values of the query ``finish_job``: what an attempt left behind, with the new state."""
    get = left.get
    return (
        *columns(state),
        get("started"),
        get("finished") if isinstance(state, lc.FINISHED) else None,
        get("duration"),
        get("result"),
        get("result_encoding"),
        get("error"),
        get("records"),
        get("peak_rss"),
        get("cpu"),
        row.id,
        row.epoch,
    )


def state_name(state: lc.State) -> str:
    """Give the store's word for a state.

    >>> state_name(lc.Queued())
    'queued'
    """
    return columns(state)[0]


def join_items(items: Iterable[str]) -> bytes:
    r"""Give strings (surrogateescape) as NUL-terminated bytes.

    >>> join_items(["a", ""])
    b'a\x00\x00'
    """
    return b"".join(os.fsencode(item) + b"\0" for item in items)


def split_items(data: bytes | None) -> list[str]:
    r"""Give back what :func:`join_items` took.

    >>> split_items(b"a\x00\x00")
    ['a', '']
    """
    return [os.fsdecode(item) for item in data.split(b"\0")[:-1]] if data else []


def digest(*parts: object) -> bytes:
    """Give 16 bytes that name a content."""
    state = blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogateescape")
        state.update(len(data).to_bytes(8, "little") + data)
    return state.digest()


def json_list(ids: Iterable[int]) -> str:
    """Give ids as the JSON list that a query takes.

    >>> json_list([3, 4])
    '[3,4]'
    """
    return f"[{','.join(map(str, ids))}]"
