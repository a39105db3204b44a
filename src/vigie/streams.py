"""The files of one attempt, read as pieces in the order in which things happened.

A command has two files, ``out`` and ``err``, and an index of their lengths over
time: between two entries of the index what came on ``out`` is shown first, then
``err``; behind the last entry, or without an index, all of ``out`` then all of
``err``. A function has one file of records, or a few records in the store.

Nothing here holds a file in memory: pieces are at most 256 KiB. Each source can
be asked again and again (:meth:`pump`) and gives what has been added since.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from vigie.logparts import PartReader, parts_of, read_gap
from vigie.records import ABSENT, iter_records
from vigie.records import Record as Line
from vigie.values import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vigie.config import Home
    from vigie.logparts import Gap, Part
    from vigie.store.reader import Reader

__all__ = ["CHUNK", "CommandSource", "Piece", "RecordSource", "StreamFile", "shown"]

CHUNK = 1 << 18
_BACK = 1 << 16


class Piece:
    """What one reading gave: bytes of a command's stream, a function's record, or a hole.

    Attributes
    ----------
    attempt, stream, seq:
        Whose it is; ``seq`` is the offset of its first byte in its file.
    time:
        µs UTC by when it had been written, None if not known.
    data:
        The bytes, of a command.
    line:
        The record, of a function.
    hole:
        Bytes that ``max_output`` released here, or 0.
    note:
        What is odd about the place, for people: a hole, a file that shrank.
    trim:
        Bytes at the beginning that were not asked for.
    """

    __slots__ = ("attempt", "data", "hole", "line", "note", "seq", "stream", "time", "trim")

    def __init__(
        self,
        attempt: int,
        stream: str,
        seq: int,
        time: int | None,
        data: bytes = b"",
        *,
        line: Line | None = None,
        hole: int = 0,
        note: str | None = None,
        trim: int = 0,
    ) -> None:
        self.attempt = attempt
        self.stream = stream
        self.seq = seq
        self.time = time
        self.data = data
        self.line = line
        self.hole = hole
        self.note = note
        self.trim = trim

    @property
    def shown(self) -> bytes:
        """What a person reads of it."""
        return self.data if self.line is None else shown(self.line)[self.trim :]

    def __repr__(self) -> str:
        what = self.line if self.line is not None else self.note or self.data
        return f"Piece({self.attempt}, {self.stream!r}, {self.seq}, {what!r})"


class StreamFile:
    """One file that somebody appends to, read from a position.

    Parameters
    ----------
    path:
        The file; it may come into being later. What the agent has released in it or
        moved to parts beside it: see :mod:`vigie.logparts`.
    position:
        The offset of the next byte to read.
    """

    def __init__(self, path: str, position: int = 0) -> None:
        self.path = path
        self.position = position
        #: Of which service's logs the limit is that moved the head away, if one has.
        self.service: str | None = None
        self._gap: Gap | None = None
        self._part: PartReader | None = None
        self._fd = -1

    def close(self) -> None:
        """Let go of the file."""
        self._part = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close

    def size(self) -> int:
        """Give the file's length, 0 while there is none."""
        if self._fd < 0:
            try:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return 0
        return os.fstat(self._fd).st_size

    def gap(self) -> tuple[int, int] | None:
        """Give the range that is not in the file, read anew each time since it grows."""
        try:
            self._gap = read_gap(self.path)
        except ValueError:
            pass  # what it said before
        if self._gap is None:
            return None
        self.service = self._gap.service
        return self._gap.start, self._gap.end

    def read(self, end: int) -> Iterator[tuple[int, bytes, int]]:
        """Read up to the offset ``end``: (offset, bytes, 0), or (offset, b"", bytes that are there no more)."""
        while self.position < end:
            start = self.position
            gap = self.gap()
            if gap is not None and gap[0] <= start < gap[1]:
                data, hole = self._in_gap(start, min(end, start + CHUNK), gap)
                self.position = start + len(data) + hole
                yield start, data, hole
                continue
            most = min(CHUNK, end - start)
            found = self._pread(start, start + most, gap)
            if found is None:
                continue
            if not found:
                return
            self.position = start + len(found)
            yield start, found, 0

    def _pread(self, start: int, end: int, gap: tuple[int, int] | None) -> bytes | None:
        """Read a range, or its beginning, from the file itself; None if its bytes were moved meanwhile."""
        if gap is not None and start < gap[0]:
            end = min(end, gap[0])
        data = os.pread(self._fd, end - start, start)
        # Bytes are released after the mark has moved: it tells whether these were still there.
        now = self.gap()
        if now is None or now == gap:
            return data
        if now[0] <= start < now[1]:
            return None
        return data[: now[0] - start] if start < now[0] else data

    def _in_gap(self, start: int, end: int, gap: tuple[int, int]) -> tuple[bytes, int]:
        """Give what a part has at an offset of the gap, or how many bytes are dropped from there on."""
        known = self._part
        if known is None or not known.part.start <= start < known.part.end:
            parts = [part for part in parts_of(self.path) if part.start < gap[1] and part.end > start]
            if not parts or parts[0].start > start:
                return b"", min([gap[1], *(part.start for part in parts)]) - start
            known = self._enter(parts[0])
            if known is None:
                return self._in_gap(start, end, gap)
        data = known.range(start, min(end, known.part.end, gap[1]))
        return data, 0 if data else min(known.part.end, gap[1]) - start

    def _enter(self, part: Part) -> PartReader | None:
        try:
            self._part = PartReader(part)
        except FileNotFoundError:
            self._part = None
        return self._part

    def back(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Read the range backwards: (offset, bytes), the last first; bytes that are there no more are left out."""
        while end > start:
            gap = self.gap()
            if gap is not None and gap[0] < end <= gap[1]:
                low, data = self._back_in_gap(max(start, gap[0]), end)
            else:
                low = max(start, end - _BACK)
                if gap is not None and low < gap[1] < end:
                    low = gap[1]
                found = self._pread(low, end, gap)
                if found is None or len(found) < end - low:
                    if found is not None and self.gap() == gap:
                        return  # somebody has truncated it
                    continue
                data = found
            if data:
                yield low, data
            end = low

    def _back_in_gap(self, start: int, end: int) -> tuple[int, bytes]:
        """Give the bytes of the gap that end at an offset: (offset, bytes), without bytes if they were dropped."""
        known = self._part
        if known is None or not known.part.start < end <= known.part.end:
            parts = [part for part in parts_of(self.path) if part.start < end]
            if not parts or parts[-1].end < end:
                return max([start, *(part.end for part in parts)]), b""
            known = self._enter(parts[-1])
            if known is None:
                return self._back_in_gap(start, end)
        low = max(start, known.part.start, end - _BACK)
        return low, known.range(low, end)


class CommandSource:
    """The two streams of a command's attempt, merged.

    Parameters
    ----------
    reader, home, job, attempt:
        Whose.
    out, err:
        The offsets to begin at.
    clock:
        Gives the time (µs UTC) of what is read behind the index; see :class:`Piece`.
    """

    def __init__(
        self,
        reader: Reader,
        home: Home,
        job: int,
        attempt: int,
        out: int = 0,
        err: int = 0,
        clock: Callable[[int], int | None] = lambda last: None,
    ) -> None:
        self.attempt = attempt
        self._reader = reader
        self._job = job
        self._clock = clock
        self._out = StreamFile(home.job_file(job, "out", attempt), out)
        self._err = StreamFile(home.job_file(job, "err", attempt), err)
        self._last = self._indexed() if out or err else -1

    def close(self) -> None:
        """Let go of the files."""
        self._out.close()
        self._err.close()

    @property
    def position(self) -> dict[str, int]:
        """Where the next reading begins."""
        return {"out": self._out.position, "err": self._err.position, "records": 0}

    def _indexed(self) -> int:
        """Find the last entry of the index that speaks of bytes already read."""
        before = (1 << 63) - 1
        while page := self._reader.lengths_back(self._job, self.attempt, before):
            for at, out, err in page:
                if out <= self._out.position and err <= self._err.position:
                    return at
            before = page[-1][0]
        return -1

    def pump(self, wanted: Callable[[str], bool]) -> Iterator[Piece]:
        """Give what there is now behind the position, without the streams not wanted."""
        sizes = self._out.size(), self._err.size()
        for stream, file, end in (("output", self._out, sizes[0]), ("error", self._err, sizes[1])):
            if end < file.position:
                note = f"{stream} shrank from {file.position} to {end} bytes: somebody truncated it"
                file.position = 0
                yield Piece(self.attempt, stream, 0, None, note=note)
        if (self._out.position, self._err.position) == sizes:
            return
        while page := self._reader.lengths(self._job, self.attempt, self._last):
            for at, out, err in page:
                self._last = at
                yield from self._read("output", self._out, min(out, sizes[0]), at, wanted)
                yield from self._read("error", self._err, min(err, sizes[1]), at, wanted)
        at_end = self._clock(self._last)
        yield from self._read("output", self._out, sizes[0], at_end, wanted)
        yield from self._read("error", self._err, sizes[1], at_end, wanted)

    def _read(
        self, stream: str, file: StreamFile, end: int, at: int | None, wanted: Callable[[str], bool]
    ) -> Iterator[Piece]:
        if end <= file.position:
            return
        if not wanted(stream):
            file.position = end
            return
        for start, data, hole in file.read(end):
            note = None if not hole else _gone(hole, stream, file.service)
            yield Piece(self.attempt, stream, start, at, data, hole=hole, note=note)

    def seek_time(self, instant: int) -> None:
        """Go to the last entry of the index before an instant."""
        self._last, self._out.position, self._err.position = self._reader.length_before(
            self._job, self.attempt, instant
        )

    def seek_back(self, lines: int, wanted: Callable[[str], bool], *, whole: bool = False) -> int:
        """Go to where the last ``lines`` lines begin; give how many are still missing (then at the start)."""
        missing = lines
        fresh = True
        for stream, start, end, other in self._segments():
            file = self._out if stream == "output" else self._err
            if not wanted(stream):
                continue
            for low, data in file.back(start, end):
                at = len(data)
                if fresh and data.endswith(b"\n"):
                    at -= 1
                fresh = False
                while missing:
                    at = data.rfind(b"\n", 0, at)
                    if at < 0:
                        break
                    missing -= 1
                if not missing:
                    self._stand(stream, low + at + 1, other)
                    return 0
        self._stand("output", 0, 0)
        # The first line has no line end before it.
        return missing if fresh else missing - 1

    def seek_end(self) -> None:
        """Go behind everything that there is."""
        self._out.position, self._err.position = self._out.size(), self._err.size()
        self._last = self._indexed()

    def _stand(self, stream: str, offset: int, other: int) -> None:
        here, there = (self._out, self._err) if stream == "output" else (self._err, self._out)
        here.position, there.position = offset, other
        self._last = self._indexed()

    def _segments(self) -> Iterator[tuple[str, int, int, int]]:
        """Give the merged order backwards: (stream, from, to, where the other stream stands then)."""
        out_end, err_end = self._out.size(), self._err.size()
        before = (1 << 63) - 1
        while page := self._reader.lengths_back(self._job, self.attempt, before):
            for _, out, err in page:
                out_start, err_start = min(out, out_end), min(err, err_end)
                yield "error", err_start, err_end, out_end
                yield "output", out_start, out_end, err_start
                out_end, err_end = out_start, err_start
            before = page[-1][0]
        yield "error", 0, err_end, out_end
        yield "output", 0, out_end, 0


def _gone(hole: int, stream: str, service: str | None) -> str:
    if service is None:
        return f"{hole} bytes of {stream} were released here (max_output)"
    return f"{format_size(hole)} of {stream} dropped here by the limit of the logs of {service}"


class RecordSource:
    """The records of a function's attempt: its file, then those kept in the store.

    Parameters
    ----------
    home, job, attempt:
        Whose.
    position:
        The offset of the next record.
    inline:
        Gives the records that the store keeps of this attempt.
    """

    def __init__(
        self, home: Home, job: int, attempt: int, position: int = 0, inline: Callable[[], bytes] = lambda: b""
    ) -> None:
        self.attempt = attempt
        self._path = home.job_file(job, "records", attempt)
        self._file = StreamFile(self._path)
        self._offset = position
        self._inline = inline
        self._seen = -1
        #: Bytes to leave out of the first record shown.
        self._trim = 0

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @property
    def position(self) -> dict[str, int]:
        """Where the next reading begins."""
        return {"out": 0, "err": 0, "records": self._offset}

    def pump(self, wanted: Callable[[str], bool]) -> Iterator[Piece]:
        """Give what there is now behind the position, without the streams not wanted."""
        size = self._file.size()
        if size > self._offset and size != self._seen:
            yield from self._from_file(wanted)
            self._seen = size
        kept = self._inline()
        # Records that the store keeps stand behind those of the file, whose last
        # one may have been cut short when its worker was killed.
        if kept and self._offset < size + len(kept):
            self._offset = max(self._offset, size)
            yield from self._pieces(iter_records(kept, self._offset - size), size, wanted)

    def _from_file(self, wanted: Callable[[str], bool]) -> Iterator[Piece]:
        with open(self._path, "rb") as file:
            gap = self._file.gap()
            if gap is not None and self._offset < gap[1]:
                if self._offset < gap[0]:
                    yield from self._pieces(self._until(file, gap[0]), 0, wanted)
                yield from self._over(file, gap[1])
            yield from self._pieces(iter_records(file, self._offset), 0, wanted)

    def _until(self, file: Any, end: int) -> Iterator[Line]:
        for line in iter_records(file, self._offset):
            if line.end > end:
                return
            yield line

    def _over(self, file: Any, end: int) -> Iterator[Piece]:
        """Skip what was released, and the rest of the record that it cut."""
        start = self._offset
        file.seek(end)
        file.readline()
        self._offset = file.tell()
        note = f"{self._offset - start} bytes of records were released here (max_output)"
        yield Piece(self.attempt, "output", start, None, hole=self._offset - start, note=note)

    def _pieces(self, lines: Iterator[Line], shift: int, wanted: Callable[[str], bool]) -> Iterator[Piece]:
        for line in lines:
            line.seq += shift
            line.end += shift
            self._offset = line.end
            if wanted(line.stream):
                yield Piece(self.attempt, line.stream, line.seq, line.time, line=line, trim=self._trim)
                self._trim = 0

    def seek_time(self, instant: int) -> None:
        """Go to the first record at or after an instant."""
        for piece in self.pump(lambda stream: True):
            if piece.line is not None and piece.line.time >= instant:
                self._offset = piece.seq
                break
        self._seen = -1

    def seek_end(self) -> None:
        """Go behind everything that there is."""
        for _ in self.pump(lambda stream: False):
            pass

    def seek_back(self, lines: int, wanted: Callable[[str], bool], *, whole: bool = False) -> int:
        """Go to where the last ``lines`` lines begin (with ``whole``: the last records).

        Gives how many are still missing; then it stands at the start.
        """
        missing = lines
        fresh = True
        for start, raw in self._lines_back():
            line = next(iter_records(raw), None)
            if line is None or not wanted(line.stream):
                continue
            if whole:
                missing -= 1
                if not missing:
                    self._offset = start
                    return 0
                continue
            data = shown(line)
            at = len(data) - (fresh and data.endswith(b"\n"))
            fresh = fresh and not data
            while missing and (at := data.rfind(b"\n", 0, at)) >= 0:
                missing -= 1
            if not missing:
                self._offset, self._trim = (start + len(raw), 0) if at + 1 == len(data) else (start, at + 1)
                return 0
        self._offset = 0
        return missing if fresh or whole else missing - 1

    def _lines_back(self) -> Iterator[tuple[int, bytes]]:
        """Give the records backwards: (offset, line). An unfinished last one is left out."""
        size = self._file.size()
        kept = self._inline()
        at = size + len(kept)
        for line in reversed(kept.splitlines(keepends=True)):
            at -= len(line)
            yield at, line
        rest: list[bytes] = []
        whole = False
        low = 0
        for low, data in self._file.back(0, size):
            end = len(data)
            while (cut := data.rfind(b"\n", 0, end)) >= 0:
                if whole:
                    yield low + cut + 1, data[cut + 1 : end] + b"".join(reversed(rest)) + b"\n"
                rest.clear()
                whole, end = True, cut
            rest.append(data[:end])
        if whole:
            yield low, b"".join(reversed(rest)) + b"\n"


def shown(line: Line) -> bytes:
    r"""Give a record as a person reads it: text as it is, a value as JSON, other objects as their repr.

    >>> from vigie.records import encode
    >>> [shown(r) for r in iter_records(encode("output", 1, data=[1, "é"]) + encode("output", 1, data="é"))]
    [b'[1, "\xc3\xa9"]\n', b'\xc3\xa9\n']
    """
    content = line.content
    if content is not None:
        bare = line.stream in ("output", "error") and line.level is None
        return content if bare or content.endswith(b"\n") else content + b"\n"
    if line.pickled is not None:
        text = line.shown or "(an object)"
    elif isinstance(line.data, str):
        text = line.data
    elif line.data is ABSENT:
        text = ""
    else:
        text = json.dumps(line.data, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"
