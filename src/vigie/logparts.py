"""The parts that the head of a stream was moved to, and the mark of what the file itself holds no more.

Beside ``out`` stand ``out.gap`` (JSON ``{"from": n, "to": m}``: these bytes are not in the
file any more) and ``out.<from>-<to>.gz``, each with the bytes of one range of the gap.
Offsets are those of the stream for ever. What is in the gap and in no part was dropped.

Whoever moves bytes first gives the part its name, then moves the mark, then releases the
bytes in the file. So a reader that asks the mark again after it has read knows whether
what it has read was still there.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from typing import Any, NamedTuple

__all__ = ["Gap", "Part", "PartReader", "gap_path", "parts_of", "read_gap", "write_gap"]

_NAME = re.compile(r"\.(\d{1,19})-(\d{1,19})\.gz")


class Gap(NamedTuple):
    """Bytes that are not in the file: from, to, and of which service's logs the limit is that moved them."""

    start: int
    end: int
    service: str | None = None


class Part(NamedTuple):
    """A file with the bytes of a range.

    >>> Part.at("/x/out", 0, 12).path
    '/x/out.0-12.gz'
    """

    start: int
    end: int
    path: str

    @staticmethod
    def at(path: str, start: int, end: int) -> Part:
        """Give the part of a stream's file for a range."""
        return Part(start, end, f"{path}.{start}-{end}.gz")


def gap_path(path: str) -> str:
    """Give the name of the mark of a file."""
    return path + ".gap"


def read_gap(path: str) -> Gap | None:
    """Read the mark of a file, if there is one.

    Raises
    ------
    ValueError
        When it is damaged.
    """
    for _ in range(100):
        try:
            with open(gap_path(path), "rb", buffering=0) as file:
                said: Any = json.loads(file.read())
            gap = Gap(int(said["from"]), int(said["to"]), said.get("service"))
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{gap_path(path)} is damaged") from error
        if said.get("again", gap.end) == gap.end:
            return gap
        # Read in the middle of a write: once more.
    raise ValueError(f"{gap_path(path)} is damaged")


def write_gap(path: str, gap: Gap) -> None:
    """Set the mark of a file; whoever reads sees the old one or the new one.

    It is written in place, where there is one: to rename a file onto another may wait for
    the disk, and who has to release bytes in time cannot.
    """
    service = f', "service": {json.dumps(gap.service)}' if gap.service else ""
    text = f'{{"from": {gap.start:>19}, "to": {gap.end:>19}{service}, "again": {gap.end:>19}}}\n'.encode()
    name = gap_path(path)
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        _make(name, text)
        return
    try:
        same = os.fstat(fd).st_size == len(text)
        if same:
            os.pwrite(fd, text, 0)
    finally:
        os.close(fd)
    if not same:
        _make(name, text)


def _make(name: str, text: bytes) -> None:
    with open(name + ".part", "wb") as file:
        file.write(text)
    os.replace(name + ".part", name)


def parts_of(path: str) -> list[Part]:
    """Give the parts of a file, in order."""
    directory, name = os.path.split(path)
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                match = _NAME.fullmatch(entry.name, len(name)) if entry.name.startswith(name) else None
                if match is not None:
                    found.append(Part(int(match[1]), int(match[2]), entry.path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found)


class PartReader:
    """The bytes of a part, unpacked: no part holds more than a few MB.

    Raises
    ------
    FileNotFoundError
        When it was dropped meanwhile.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        with open(part.path, "rb") as file:
            packed = file.read()
        try:
            self._data = zlib.decompressobj(wbits=31).decompress(packed, part.end - part.start)
        except zlib.error:
            self._data = b""

    def range(self, start: int, end: int) -> bytes:
        """Give the bytes between two offsets of the stream; fewer if the part is damaged."""
        return self._data[start - self.part.start : end - self.part.start]
