"""What the demo works on: a copy of a directory of this machine."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sysconfig
from typing import TYPE_CHECKING

from vigie.errors import UsageError, VigieError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["copy", "default_tree"]

#: What to copy at most, enough work for two seconds: bytes, files, bytes of one file.
_BYTES = 12 * 1000 * 1000
_FILES = 3000
_LARGEST = 1000 * 1000
_SKIPPED = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests", ".git"})
_ELSEWHERE = "vigie demo --dir /usr/share/doc"


def default_tree() -> str:
    """Give the directory of Python's own library: on every machine, readable, and text.

    >>> os.path.isdir(default_tree())
    True
    """
    found = sysconfig.get_path("stdlib")
    return found if os.path.isdir(found) else os.path.dirname(os.path.abspath(os.__file__))


def copy(source: str, target: str) -> tuple[int, int]:
    """Copy a tree's plain files until there is work for two seconds; give how many and their bytes.

    Links, special files, caches, tests, large files and what may not be read are left out.

    Raises
    ------
    UsageError
        When there is no such directory, or nothing in it that can be copied.
    VigieError
        When there is no room for the copy.
    """
    if not os.path.isdir(source):
        raise UsageError(f"--dir {source}: there is no such directory", _ELSEWHERE)
    count = size = 0
    for path, length in _plain(source, os.path.dirname(os.path.abspath(target))):
        if size + length > _BYTES or count == _FILES:
            break
        where = os.path.join(target, os.path.relpath(path, source))
        os.makedirs(os.path.dirname(where), exist_ok=True)
        try:
            shutil.copyfile(path, where)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise VigieError(f"no room for a copy in {target}", "set TMPDIR to a directory with 100 MB") from None
            # It was deleted meanwhile, or cannot be read after all.
            continue
        count, size = count + 1, size + length
    if not count:
        raise UsageError(f"--dir {source}: no file in it can be read", _ELSEWHERE)
    return count, size


def _plain(source: str, avoided: str) -> Iterator[tuple[str, int]]:
    """Give path and bytes of what can be copied; nothing below ``avoided``."""
    for directory, below, names in os.walk(source):
        below[:] = sorted(name for name in below if name not in _SKIPPED and os.path.join(directory, name) != avoided)
        for name in sorted(names):
            path = os.path.join(directory, name)
            try:
                info = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(info.st_mode) and 0 < info.st_size <= _LARGEST and os.access(path, os.R_OK):
                yield path, info.st_size
