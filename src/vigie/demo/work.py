"""The demo's jobs. They need the standard library alone, as any function job may."""

from __future__ import annotations

import hashlib
import os
import shlex
import zlib
from collections.abc import Generator
from typing import Any

__all__ = ["checksums", "command", "digest", "files_of", "note"]

#: Values that :func:`checksums` yields on its way.
_REPORTS = 10


def files_of(tree: str) -> list[str]:
    """Give the regular files of a tree, sorted; links are not followed.

    >>> files_of("/nonexistent")
    []
    """
    found = []
    for directory, _, names in os.walk(tree):
        paths = (os.path.join(directory, name) for name in names)
        found += [path for path in paths if os.path.isfile(path) and not os.path.islink(path)]
    return sorted(found)


def checksums(tree: str) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Read each file of a tree, take its checksum, and see how small it could be.

    Yields
    ------
    How far it is: ``files`` done, ``of`` all, ``bytes`` read.

    Returns ``files``, ``bytes``, ``packed`` bytes and the ``sha256`` of all checksums.
    """
    paths = files_of(tree)
    whole = hashlib.sha256()
    read = packed = 0
    for count, path in enumerate(paths, 1):
        with open(path, "rb") as file:
            data = file.read()
        whole.update(hashlib.sha256(data).digest())
        read += len(data)
        packed += len(zlib.compress(data, 9))
        if count * _REPORTS // len(paths) > (count - 1) * _REPORTS // len(paths):
            yield {"files": count, "of": len(paths), "bytes": read}
    return {"files": len(paths), "bytes": read, "packed": packed, "sha256": whole.hexdigest()}


def digest(tree: str) -> str:
    """Give the ``sha256`` that :func:`checksums` returns, without the rest of its work.

    >>> digest("/nonexistent")[:8]
    'e3b0c442'
    """
    whole = hashlib.sha256()
    for path in files_of(tree):
        with open(path, "rb") as file:
            whole.update(hashlib.sha256(file.read()).digest())
    return whole.hexdigest()


def command(number: int, path: str) -> list[str]:
    """Give the command that notes the checksum of a file in ``witness``: one line, one write.

    >>> command(7, "a b")
    ['sh', '-c', "echo c7 $(cksum < 'a b') >> witness"]
    """
    return ["sh", "-c", f"echo c{number} $(cksum < {shlex.quote(path)}) >> witness"]


def note(number: int, path: str) -> int:
    """Note the checksum of a file in ``witness``, as :func:`command` does, and give it."""
    with open(path, "rb") as file:
        checksum = zlib.crc32(file.read())
    witness = os.open("witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(witness, f"f{number} {checksum}\n".encode())
    finally:
        os.close(witness)
    return checksum
