"""What the verbs that show things share: tables of jobs, JSON in pieces, next commands."""

from __future__ import annotations

import json
import time

from vigie import view
from vigie.errors import UsageError
from vigie.model import DEFAULT_QUEUE, STREAMS
from vigie.selection import one_of
from vigie.terminal import Table, ago, lasting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from vigie.cli.context import Context
    from vigie.terminal import Paint

__all__ = ["JobTable", "dumps", "how_ended", "json_array", "next_commands", "now", "one_job", "streams_of"]

_encode = json.JSONEncoder(ensure_ascii=False).encode
_STREAM_NAMES = {"out": "output", "stdout": "output", "err": "error", "stderr": "error"}


def now() -> int:
    """Give the present instant, µs UTC."""
    return time.time_ns() // 1000


def dumps(value: Any) -> str:
    r"""Write JSON as UTF-8 can carry it: what is no UTF-8 is escaped.

    >>> dumps("é\udcff")
    '"\\u00e9\\udcff"'
    """
    text = _encode(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def json_array(out: Context, values: Iterable[Any]) -> None:
    """Write an array element by element, so that a million of them need no memory."""
    out.stdout.flush()
    write = out.stdout.buffer.write
    before = b"["
    for value in values:
        write(before + dumps(value).encode())
        before = b",\n "
    write(b"[]\n" if before == b"[" else b"]\n")
    out.stdout.buffer.flush()


def next_commands(out: Context, *commands: str) -> None:
    """Tell a person what to type next; programs are spared."""
    if commands and out.is_person and out.is_tty:
        out.say("  ".join(f"· {command}" for command in commands))


def streams_of(given: list[str] | None) -> tuple[str, ...] | None:
    """Read ``--stream S,…``.

    Raises
    ------
    UsageError
        When there is no such stream.
    """
    if not given:
        return None
    words = [word for part in given for word in part.split(",") if word]
    names = tuple(dict.fromkeys(_STREAM_NAMES.get(word, word) for word in words))
    for name in names:
        if name not in STREAMS:
            raise UsageError(f"no stream is called {name}", one_of(name, STREAMS, "streams"))
    return names


def one_job(words: list[str], out: Context) -> int:
    """Give the id that words name, which must be one."""
    found = out.reader().resolve(words)
    if len(found) != 1:
        raise UsageError(f"one job is shown at a time, and {len(found)} are named")
    return found[0]


def how_ended(row: dict[str, Any]) -> str:
    """Say in a word or two why a job failed, waits, or is being ended.

    >>> how_ended({"state": "failed", "reason": "exit", "exit_code": 3})
    'exit 3'
    """
    if row["state"] == "failed":
        if row["reason"] == "exit":
            return f"exit {row['exit_code']}"
        if row["reason"] == "signal" and row["signal"] is not None:
            from vigie.why import signal_name

            return signal_name(row["signal"])
        return str(row["reason"])
    if row["state"] == "blocked":
        return f"by {row['blocked_by']}"
    if row["state"] in ("running", "suspended") and row["ending"]:
        return "ending"
    return ""


class JobTable:
    """A table of jobs; columns that would be empty are left out, as the first page decides."""

    def __init__(self) -> None:
        self._table: Table | None = None
        self._columns: list[str] = []

    def lines(
        self, rows: Sequence[dict[str, Any]], at: int, *, room: int | None = None, paint: Paint | None = None
    ) -> list[str]:
        """Give the lines of a page; the first page has the header."""
        first = self._table is None
        if self._table is None:
            wanted = {
                "NAME": any(row["name"] for row in rows),
                "QUEUE": any(row["queue"] != DEFAULT_QUEUE for row in rows),
                "WHY": any(how_ended(row) for row in rows),
            }
            self._columns = [name for name in _CELLS if wanted.get(name, True)]
            spare, long = ([self._columns.index(name) for name in some if name in self._columns] for some in _GIVING)
            self._table = Table(self._columns, right=(0,), spare=spare, long=long)
        cells = ([_CELLS[name](row, at) for name in self._columns] for row in rows)
        return self._table.lines(cells, room=room, paint=paint, header=first)


def _since(row: dict[str, Any], at: int) -> str:
    if row["state"] == "blocked" and row["due"] is not None:
        return ago(row["due"], at)
    return ago(row["finished"] or row["started"] or row["created"], at)


#: What a narrow terminal does without, in this order; what it cuts short before.
_GIVING = (("QUEUE", "TOOK", "WHEN", "WHY"), ("NAME", "QUEUE"))
_Cell = str | tuple[str, str | None]
_CELLS: dict[str, Callable[[dict[str, Any], int], _Cell]] = {
    "ID": lambda row, at: str(row["id"]),
    "NAME": lambda row, at: (row["name"] or "-", "bold" if row["name"] else "dim"),
    "STATE": lambda row, at: (row["state"], row["state"]),
    "WHY": lambda row, at: how_ended(row) or "-",
    "WHEN": _since,
    "TOOK": lambda row, at: lasting(view.lasted(row, at)),
    "QUEUE": lambda row, at: row["queue"],
    "WHAT": lambda row, at: view.label(row),
}
