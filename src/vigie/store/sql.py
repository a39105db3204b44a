"""Named queries: SQL stands in ``.sql`` files beside this one.

A query begins at a line ``-- name: open_jobs``; the comment lines under it say
its purpose and are not part of it. What stands before the first name is the
file's own comment.
"""

from __future__ import annotations

import os
from functools import cache

__all__ = ["load", "parse", "several"]

_MARK = "-- name:"


@cache
def load(name: str) -> dict[str, str]:
    """Give the queries of ``store/NAME.sql`` by their names.

    Parameters
    ----------
    name:
        The file's name without its suffix: ``read``.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When a name is given twice or has no query.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.sql")
    with open(path, encoding="utf-8") as file:
        return parse(file.read())


def parse(text: str) -> dict[str, str]:
    r"""Cut the text of such a file into its queries.

    >>> parse("-- name: one\n-- The number one.\nSELECT 1;\n")
    {'one': 'SELECT 1'}
    """
    queries: dict[str, str] = {}
    for part in text.split(_MARK)[1:]:
        head, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if not line.lstrip().startswith("--")]
        name, query = head.strip(), "\n".join(lines).strip().rstrip(";")
        if not name or not query:
            raise ValueError(f"query {name or '?'} is empty")
        if name in queries:
            raise ValueError(f"query {name} is there twice")
        queries[name] = query
    return queries


def several(insert: str, rows: int) -> str:
    """Give an ``INSERT … VALUES (…)`` that inserts so many rows at once.

    >>> several("INSERT INTO t (a, b) VALUES (?, 1)", 2)
    'INSERT INTO t (a, b) VALUES (?, 1), (?, 1)'
    """
    head, values, row = insert.rpartition("VALUES ")
    return head + values + ", ".join([row] * rows)
