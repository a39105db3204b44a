"""Names that files declare, for whoever types one: which tasks there are, and what a plain name means here.

``vigie start NAME`` must know whether a word is a declared task, and has no time to open
the store for it. So the agent keeps a small file beside the store, written after each
commit that changes it, and at its start: the files that own things, then the names of
the tasks. The store alone counts; whoever finds a name in here asks it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from vigie.config import Home

__all__ = ["candidates", "task_names", "write"]


def write(home: Home, files: Sequence[tuple[str, str | None]], tasks: Sequence[str]) -> None:
    """Write the index.

    Parameters
    ----------
    files:
        The path and the project of each file.
    tasks:
        Whole names.
    """
    if not files:
        try:
            os.unlink(home.declared)
        except FileNotFoundError:
            pass
        return
    import json

    text = "\n".join([json.dumps([list(file) for file in files]), *tasks, ""])
    fresh = f"{home.declared}.new"
    into = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(into, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(fresh, home.declared)


def _read(home: Home) -> bytes:
    try:
        with open(home.declared, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _prefixes(first: bytes, cwd: str) -> list[str]:
    """Give the projects of the nearest directory, from ``cwd`` upwards, in which a file was applied."""
    import json

    try:
        files = [(os.path.split(path), project) for path, project in json.loads(first)]
    except (ValueError, TypeError):
        return []
    at = cwd
    while True:
        # vigie.toml is the file of a directory; others in it are read after it.
        here = sorted((name != "vigie.toml", name, project) for (where, name), project in files if where == at)
        if here:
            return [project for _, _, project in here if project is not None]
        above = os.path.dirname(at)
        if above == at:
            return []
        at = above


def candidates(home: Home, name: str, cwd: str | None = None) -> list[str]:
    """Give the whole names that a name may be meant to be, the likeliest first; itself is the last.

    >>> from vigie.config import Home
    >>> candidates(Home("/nonexistent"), "nightly")
    ['nightly']
    """
    first = _read(home).partition(b"\n")[0]
    if len(first) <= 2:
        return [name]
    return [*(f"{prefix}.{name}" for prefix in _prefixes(first, _here(cwd))), name]


def task_names(home: Home, word: str, cwd: str | None = None) -> list[str]:
    """Give the whole names of declared tasks that a word may be meant to be, the likeliest first."""
    data = _read(home)
    start = data.find(b"\n")
    wanted = word.encode("utf-8", "surrogateescape") + b"\n"
    # Its plain name ends the whole one: nearly every word is found to be none of them by one look.
    at = data.find(wanted, start + 1)
    while at >= 0 and data[at - 1 : at] not in (b"\n", b"."):
        at = data.find(wanted, at + 1)
    if at < 0:
        return []
    found = [f"{prefix}.{word}" for prefix in _prefixes(data[:start], _here(cwd))]
    return [name for name in [*found, word] if data.find(b"\n" + name.encode("utf-8", "surrogateescape") + b"\n") >= 0]


def _here(cwd: str | None) -> str:
    try:
        return os.path.realpath(cwd) if cwd is not None else os.getcwd()
    except OSError:
        return "/"
