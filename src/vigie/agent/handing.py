"""What a firing hands to its job: the path of a file, where it was a file that made it come.

The path stands in the variable ``VIGIE_FILE``, and in the place of ``{file}`` wherever that
stands in the words of a command or in the JSON arguments of a function. Whatever the path
is, it stays one word and is read by no shell: in a shell's line ``{file}`` stays as it is.
"""

from __future__ import annotations

import json
import os
from typing import Any

from vigie.filemark import FILE_MARK as MARK
from vigie.filemark import shell_line
from vigie.store.rows import split_items
from vigie.store.schedules import FiringRow
from vigie.store.sqlite import Store

__all__ = ["MARK", "cause_of", "handed", "path_of"]

_FILE = "file:"
#: Before a path that is no text: its bytes, in hexadecimal.
_BYTES = "file-bytes:"
_COLUMNS = (
    "kind", "argv", "function", "code", "label", "timeout", "retries", "backoff", "backoff_max", "jitter", "grace",
    "fresh", "on_lost", "max_output",
)  # fmt: skip


def handed(store: Store, row: FiringRow) -> FiringRow:
    """Give a firing with task, context and arguments as its job gets them."""
    if row.cause is None or not row.cause.startswith((_FILE, _BYTES)):
        return row
    path = path_of(row.cause)
    return row._replace(
        task=_task(store, row.task, path), context=_context(store, row.context, path), args=_arguments(row, path)
    )


def cause_of(path: bytes) -> str:
    """Give what a firing that a file made is recorded with.

    >>> cause_of(b"/in/a b"), cause_of(b"/in/\\xff")
    ('file:/in/a b', 'file-bytes:2f696e2fff')
    """
    try:
        return _FILE + path.decode()
    except UnicodeDecodeError:
        return _BYTES + path.hex()


def path_of(cause: str) -> str:
    """Give the path back, as programs in Python have it.

    >>> path_of("file:/in/a b"), path_of("file-bytes:2f696e2fff")
    ('/in/a b', '/in/\\udcff')
    """
    if cause.startswith(_BYTES):
        return os.fsdecode(bytes.fromhex(cause.removeprefix(_BYTES)))
    return cause.removeprefix(_FILE)


def _task(store: Store, number: int, path: str) -> int:
    task: dict[str, Any] = dict(zip(_COLUMNS, store.schedules.run("task", (number,)).fetchone(), strict=True))
    argv = split_items(task["argv"])
    line = shell_line(argv)
    if not any(MARK in word for word in argv[:line] + argv[line + 1 :]):
        return number
    task["argv"] = [word if at == line else word.replace(MARK, path) for at, word in enumerate(argv)]
    task["label"] = task["label"].replace(MARK, os.fsencode(path).decode("utf-8", "replace"))
    return store.intern_task(task, task["code"])


def _context(store: Store, number: int, path: str) -> int:
    cwd, env, umask, python, import_path = store.row("context", (number,))
    variables = dict(item.partition("=")[::2] for item in split_items(env))
    return store.intern_context(
        {
            "cwd": os.fsdecode(cwd),
            "env": {**variables, "VIGIE_FILE": path},
            "umask": umask,
            "python": None if python is None else os.fsdecode(python),
            "path": None if import_path is None else split_items(import_path),
        }
    )


def _arguments(row: FiringRow, path: str) -> bytes | None:
    if row.args is None or row.encoding != "json" or MARK.encode() not in row.args:
        return row.args
    return json.dumps(_put(json.loads(row.args), path)).encode("utf-8", "surrogateescape")


def _put(value: Any, path: str) -> Any:
    if isinstance(value, str):
        return value.replace(MARK, path)
    if isinstance(value, list):
        return [_put(each, path) for each in value]
    if isinstance(value, dict):
        return {key: _put(each, path) for key, each in value.items()}
    return value
