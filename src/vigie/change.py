"""One thing that applying a file changes, and how two tables of it differ."""

from __future__ import annotations

from typing import Any, NamedTuple

from vigie.environment import is_secret
from vigie.manifest_keys import KINDS

__all__ = ["Change", "differing", "redacted"]

Table = dict[str, Any]


class Change(NamedTuple):
    """One thing that is new, another, or gone.

    Attributes
    ----------
    kind, name:
        What it is.
    before, after:
        Its table; None where there is none.
    due, next:
        When a schedule would have come next (µs UTC), and when it will; None: at no time that is known.
    zone:
        The zone of these.
    paused:
        It is paused, and so comes at no time.
    """

    kind: str
    name: str
    before: Table | None
    after: Table | None
    due: int | None = None
    next: int | None = None
    zone: str | None = None
    paused: bool = False

    @property
    def sign(self) -> str:
        """``+``, ``~`` or ``-``."""
        return "+" if self.before is None else "-" if self.after is None else "~"

    @property
    def keys(self) -> list[str]:
        """The keys in which it is another."""
        return differing(self.kind, self.before or {}, self.after or {})


def differing(kind: str, before: Table, after: Table) -> list[str]:
    """Give the keys in which two tables differ, in the order of the reference.

    A file that a table names, and that has other contents now, counts as its key.

    >>> differing("task", {"run": ["a"], "timeout": "1h"}, {"run": ["a"], "retries": 3})
    ['timeout', 'retries']
    """
    found = [key for key in KINDS[kind] if before.get(key) != after.get(key)]
    files = [table.get("files", {}) for table in (before, after)]
    for path in sorted({*files[0], *files[1]}):
        key = "except" if path.endswith(".ics") else "env_file"
        if files[0].get(path) != files[1].get(path) and key not in found:
            found.append(key)
    return found


def redacted(table: Table) -> Table:
    """Give a table that may be shown: without the values of variables that are likely to be secret.

    >>> redacted({"env": {"API_KEY": "x", "A": "1"}})
    {'env': {'API_KEY': '(redacted)', 'A': '1'}}
    """
    env = table.get("env")
    hidden = "(redacted)"
    shown: Any = env
    if isinstance(env, dict):
        shown = {key: hidden if is_secret(key) else value for key, value in env.items()}
    elif isinstance(env, list):
        pairs = [each.partition("=") for each in env]
        shown = [
            f"{key}={hidden}" if equals and is_secret(key) else key + equals + value for key, equals, value in pairs
        ]
    return {**{key: value for key, value in table.items() if key != "files"}, **({} if env is None else {"env": shown})}
