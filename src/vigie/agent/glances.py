"""Looking at the files of a pattern, without getting lost.

As ``glob`` does it, but that ``**`` follows no symbolic link to a directory, so that a
link to its own parent is no endless tree; and a look ends after a number of entries.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import translate

from vigie.errors import Refused, VigieError

__all__ = ["MOST", "Mark", "glance", "glances"]

#: Entries of directories that one look takes.
MOST = 500_000
#: Size and time of change (ns): what tells one state of a file from another.
Mark = tuple[int, int]

_MAGIC = re.compile(rb"[*?\[]")


def glance(pattern: str, most: int = MOST) -> dict[bytes, Mark]:
    """Give the regular files of a pattern, each with its size and its time of change.

    Raises
    ------
    Refused
        When there is too much to look at.

    >>> glance("/nowhere/*.csv")
    {}
    """
    found: dict[bytes, Mark] = {}
    for path in _Walk(pattern, most).paths():
        try:
            state = os.stat(path)
        except OSError:
            continue
        if state.st_mode & 0o170000 == 0o100000:
            found[path] = (state.st_size, state.st_mtime_ns)
    return found


def glances(patterns: Iterable[str]) -> dict[str, dict[bytes, Mark] | VigieError]:
    """Give the files of several patterns, or what went wrong with one."""
    found: dict[str, dict[bytes, Mark] | VigieError] = {}
    for pattern in patterns:
        try:
            found[pattern] = glance(pattern)
        except VigieError as error:
            found[pattern] = error
    return found


class _Walk:
    """One walk along a pattern."""

    def __init__(self, pattern: str, most: int) -> None:
        self.pattern = pattern
        self._left = self._most = most

    def paths(self) -> Iterator[bytes]:
        """Give all that match, of whatever kind."""
        root, *parts = os.fsencode(self.pattern).split(b"/")
        yield from self._along(root or b"/", [part for part in parts if part])

    def _along(self, base: bytes, parts: list[bytes]) -> Iterator[bytes]:
        if not parts:
            yield base
            return
        part, rest = parts[0], parts[1:]
        if part == b"**":
            yield from self._along(base, rest) if rest else ()
            for entry in self._entries(base):
                if not entry.name.startswith(b"."):
                    if not rest:
                        yield entry.path
                    if entry.is_dir(follow_symlinks=False):
                        yield from self._along(entry.path, parts)
        elif _MAGIC.search(part):
            fits = re.compile(translate(os.fsdecode(part))).fullmatch
            for entry in self._entries(base):
                hidden = entry.name.startswith(b".") and not part.startswith(b".")
                if not hidden and fits(os.fsdecode(entry.name)) and (not rest or entry.is_dir()):
                    yield from self._along(entry.path, rest)
        else:
            path = os.path.join(base, part)
            if rest or os.path.lexists(path):
                yield from self._along(path, rest)

    def _entries(self, directory: bytes) -> Iterator[os.DirEntry[bytes]]:
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    self._left -= 1
                    if self._left < 0:
                        raise Refused(
                            f"{self.pattern} has more than {self._most:,} files and directories to look at",
                            "a pattern that begins deeper, or without **",
                        )
                    yield entry
        except OSError:
            return  # it is none, may not be read, or has gone
