"""The bounds of a service's output: which bytes are moved to parts, and which go.

A service's program writes straight into its files, for weeks; what it wrote first has to
give way, and the program must not notice. So the head of a file is released in place: its
length, and with it every offset, stays (:mod:`vigie.agent.holes`). Before that it is packed
into a part beside the file (:mod:`vigie.logparts`), unless it would have to go at once.

Each step leaves every byte readable once, whatever dies in between:

1. the part is written under another name, and is on disk;
2. it gets its name; nobody asks it for bytes that are in the file still;
3. the mark moves: from now on they are read from the part;
4. they are released in the file.

What goes for good has no part: the mark says so before the bytes are released. Cuts are
made at line ends. After a crash, and after a power cut that a mark has not survived,
:meth:`Shelf.add` sees by the parts and by the holes how far it had come.

Nothing here knows of threads or of when to look: see :mod:`vigie.agent.logwatch`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from vigie import crash
from vigie.agent import holes
from vigie.logparts import Gap, Part, parts_of, read_gap, write_gap
from vigie.supervision.plan import Logs

__all__ = ["PIECE", "Shelf", "Stream", "level", "line_end"]

#: The most bytes that a part holds, but for the rest of its last line; and the fewest that are worth one.
PIECE = 4 << 20
LEAST = 1 << 14
#: A line end is looked for so far; a longer line is torn.
FAR = 1 << 18
_BLOCK = holes.BLOCK


@dataclass(slots=True, eq=False)
class Stream:
    """One file of one life.

    Attributes
    ----------
    size, low:
        Its length; before this offset nothing is in the file itself.
    parts:
        What is in parts: (part, bytes on disk, written at (s)), in order.
    living:
        Somebody may write to it.
    touched:
        When somebody last did (s), once nobody does.
    """

    job: int
    attempt: int
    path: str
    living: bool
    size: int = 0
    low: int = 0
    parts: list[tuple[Part, int, float]] = field(default_factory=list)
    touched: float = 0.0

    @property
    def plain(self) -> int:
        """How many bytes are in the file itself."""
        return self.size - self.low


class Shelf:
    """The output of one service: all files of all of its lives.

    Parameters
    ----------
    service, logs:
        Whose, and how much of it is kept.
    punch:
        What releases a range of a file.
    """

    def __init__(self, service: str, logs: Logs, punch: Callable[[str, int, int], None] = holes.punch) -> None:
        self.service = service
        self.logs = logs
        self.streams: dict[str, Stream] = {}
        self._punch = punch
        #: Bytes of all that is in parts or in files of ended lives, and of how many things.
        self._settled = 0
        self._things = 0
        self._living: list[Stream] = []
        #: Whether the file system can release anything; None: not tried yet.
        self._soft: bool | None = None
        #: It is written to so fast that the bound is reached in no time.
        self.flooded = False
        #: So much (bytes) was there when nobody had seen to it for a while, and may be until all is packed.
        self.debt = 0

    @property
    def rigid(self) -> bool:
        """Whether the file system can release nothing: then nothing is moved, and only parts go."""
        if self._soft is None:
            self._soft = self._is_soft()
        return self._soft is False

    def _is_soft(self) -> bool | None:
        path = next((stream.path for stream in self.streams.values() if stream.size), None)
        if path is None:
            return None
        try:
            # Behind all that is there: nothing is released, and whether it could be is known.
            self._punch(path, 1 << 40, (1 << 40) + _BLOCK)
        except OSError as error:
            return False if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS) else None
        return True

    # --- what there is --------------------------------------------------------

    @property
    def used(self) -> int:
        """Bytes on disk."""
        return self._settled + sum(_blocks(stream.plain) for stream in self._living)

    @property
    def share(self) -> int:
        """How much of a stream stays as it was written."""
        filled = sum(stream.plain > 0 for stream in self.streams.values())
        return min(self.logs.part, self.logs.total // (2 * max(1, filled)))

    def add(self, job: int, attempt: int, path: str, *, living: bool) -> Stream | None:
        """Take a file in, and finish what a crash has left half done to it; None if nobody writes it and it is not."""
        known = self.streams.get(path)
        if known is not None:
            if living and not known.living:
                known.living = True
                self._count()
            return known
        stream = Stream(job, attempt, path, living)
        try:
            info = os.stat(path)
        except FileNotFoundError:
            if not living:
                return None
        else:
            stream.size, stream.touched = info.st_size, info.st_mtime
            self._mend(stream)
        self.streams[path] = stream
        self._count()
        return stream

    def _mend(self, stream: Stream) -> None:
        """See how far the moving of a head had come, and bring it to its end."""
        path = stream.path
        try:
            gap = read_gap(path)
        except ValueError:
            gap = None
        low = said = 0 if gap is None else gap.end
        parts = parts_of(path)
        if not parts and gap is None and stream.size < _BLOCK:
            return
        for name in os.listdir(os.path.dirname(path)):
            if name.startswith(os.path.basename(path) + ".") and name.endswith(".gz.part"):
                os.unlink(os.path.join(os.path.dirname(path), name))
        data = holes.data_start(path)
        if data > low:
            low = min(line_end(path, data, stream.size) or stream.size, stream.size)
        for part in parts:
            # It has its name, and the mark had not moved; or the mark did not come through a power cut.
            if part.start <= low < part.end:
                low = part.end
        low = min(low, stream.size)
        for part in parts:
            info = os.stat(part.path)
            stream.parts.append((part, info.st_blocks * 512, info.st_mtime))
        stream.low = low
        if low != said:
            write_gap(path, Gap(0, low, self.service))
        if data < low // _BLOCK * _BLOCK and not self.rigid:
            self._release(stream, 0)

    def forget(self, job: int) -> None:
        """Forget the files of a job that is removed."""
        for path in [path for path, stream in self.streams.items() if stream.job == job]:
            del self.streams[path]
        self._count()

    def lose(self, stream: Stream) -> None:
        """Forget a file that is not there any more."""
        self.streams.pop(stream.path, None)
        self._count()

    def end(self, stream: Stream) -> None:
        """Take note that nobody writes to a file any more."""
        try:
            info = os.stat(stream.path)
        except FileNotFoundError:
            self.lose(stream)
            return
        stream.size, stream.touched, stream.living = info.st_size, info.st_mtime, False
        self._count()
        if not stream.size:
            self.lose(stream)  # empty ones are not kept

    def look(self, stream: Stream) -> int:
        """Give by how much a file has grown; a missing one has not.

        Raises
        ------
        FileNotFoundError
            When it was there and is not any more.
        """
        try:
            size = os.stat(stream.path).st_size
        except FileNotFoundError:
            if stream.size:
                raise
            return 0
        if size < stream.low:
            self._cut_short(stream)
        grown, stream.size = size - stream.size, size
        return max(0, grown)

    def _cut_short(self, stream: Stream) -> None:
        """Somebody has truncated the file: its offsets begin anew, and those of its parts mean nothing."""
        for suffix in (stream.path + ".gap", *(part.path for part, _, _ in stream.parts)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(suffix)
        stream.parts.clear()
        stream.low = stream.size = 0
        self._count()

    def _count(self) -> None:
        parts = sum(size for stream in self.streams.values() for _, size, _ in stream.parts)
        ended = [_blocks(stream.plain) for stream in self.streams.values() if not stream.living and stream.plain]
        self._living = [stream for stream in self.streams.values() if stream.living]
        self._settled = parts + sum(ended)
        self._things = len(ended) + sum(len(stream.parts) for stream in self.streams.values())

    # --- what goes ------------------------------------------------------------

    def fit(self) -> None:
        """Let the oldest go until all of it is within the bound."""
        # Of a flood less, since it cannot be looked at before it is further.
        total, used = self.logs.total * (3 if self.flooded else 4) // 4, self.used
        # What was found is packed before any of it goes.
        self.debt = 0 if self.flooded else min(self.debt, used)
        if used <= max(total, self.debt) or self.rigid:
            return
        # A little more, so that not every line costs a step.
        goal = self.logs.total // 2 if self.flooded else total - total // 16
        while self._things and (excess := self.used - goal) > 0:
            self._drop_oldest(excess)
        room = goal - self._settled
        if room < self.used - self._settled:
            living = [stream for stream in self._living if stream.plain]
            most = level([stream.plain for stream in living], max(0, room))
            for stream in living:
                if stream.plain > most:
                    self._drop_head(stream, stream.size - most)

    def expire(self, before: float) -> None:
        """Let go of what was written before an instant (s), of parts and of ended lives."""
        for stream in list(self.streams.values()):
            while stream.parts and stream.parts[0][2] < before:
                self._drop_part(stream)
            if not stream.living and stream.plain and stream.touched < before and not self.rigid:
                self._drop_head(stream, stream.size)

    def expire_head(self, stream: Stream, end: int) -> None:
        """Let go of the whole lines of a file before an offset."""
        while stream.parts and stream.parts[0][0].end <= end:
            self._drop_part(stream)
        if end > stream.low and not self.rigid:
            self._drop_head(stream, min(end, stream.size), back=True)

    def _drop_oldest(self, excess: int) -> None:
        """Let go of the oldest thing that is settled, or of as much of it as is too much."""
        found = [
            (stream.parts[0][2] if stream.parts else stream.touched, stream)
            for stream in self.streams.values()
            if stream.parts or (not stream.living and stream.plain)
        ]
        stream = min(found, key=lambda one: one[0])[1]
        if stream.parts:
            self._drop_part(stream)
        else:
            self._drop_head(stream, stream.size if stream.plain - excess < LEAST else stream.low + excess)

    def _drop_part(self, stream: Stream) -> None:
        crash.point("logs-before-drop")
        part, _, _ = stream.parts.pop(0)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part.path)
        crash.point("logs-after-drop")
        self._count()

    def _drop_head(self, stream: Stream, end: int, *, back: bool = False) -> None:
        """Let go of the lines that begin before an offset, or with ``back`` of those that end before it."""
        if end < stream.size:
            found = line_end(stream.path, end, stream.size, stream.low, back=back)
            if found is None and stream.living:
                return  # one line, that is not at its end
            end = stream.size if found is None else found
        if end > stream.low:
            self._advance(stream, end)

    def _advance(self, stream: Stream, end: int) -> None:
        """Move the mark, then release what is before it."""
        before, stream.low = stream.low, end
        gap = Gap(0, end, self.service)
        try:
            write_gap(stream.path, gap)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                stream.low = before
                raise
            # There is room for the mark once there is some for anything.
            self._release(stream, before)
            write_gap(stream.path, gap)
        crash.point("logs-after-mark")
        try:
            self._release(stream, before)
        finally:
            if not stream.living:
                self._count()
        crash.point("logs-after-release")

    def _release(self, stream: Stream, start: int) -> None:
        """Release the whole blocks between an offset and where the file begins now."""
        end = stream.low // _BLOCK * _BLOCK
        if not stream.living and stream.low == stream.size:
            end = -(-stream.low // _BLOCK) * _BLOCK
        start = start // _BLOCK * _BLOCK
        if end > start:
            self._punch(stream.path, start, end)

    # --- what is moved --------------------------------------------------------

    def next_piece(self) -> tuple[Stream, int] | None:
        """Give the stream whose head is to be packed next, and where that head ends."""
        if not self.logs.compress or self.rigid:
            return None
        share = self.share
        for stream in sorted(self.streams.values(), key=lambda one: (one.living, one.job)):
            most = stream.plain - (share // 2 if stream.living else 0)
            if stream.plain > share and most >= LEAST:
                end = line_end(
                    stream.path, stream.low + min(most, PIECE, max(share, LEAST)), stream.size, stream.low, back=True
                )
                if end is not None and end - stream.low >= LEAST // 2:
                    return stream, end
        return None

    def moved(self, stream: Stream, part: Part, size: int) -> None:
        """Take in a part that has its name: its bytes are read from it now, and released in the file."""
        crash.point("logs-after-part")
        stream.parts.append((part, size, time.time() if stream.living else stream.touched))
        self._count()
        self._advance(stream, part.end)


def _blocks(count: int) -> int:
    """Give what so many bytes take on disk."""
    return -(-count // _BLOCK) * _BLOCK


def level(plains: Iterable[int], room: int) -> int:
    """Give the height to which amounts are cut so that all fit: small ones stay whole.

    >>> level([10, 100, 100], 110), level([5, 5], 100)
    (50, 5)
    """
    heights = sorted(plains)
    for at, height in enumerate(heights):
        even = room // (len(heights) - at)
        if height > even:
            return even
        room -= height
    return heights[-1] if heights else 0


def line_end(path: str, offset: int, size: int, low: int = 0, *, back: bool = False) -> int | None:
    """Give the offset behind a line end near another: the next one, or with ``back`` the last.

    A line longer than 256 KiB is cut at the offset itself. None: there is no line end, and the line may go on.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not back:
            data = os.pread(fd, min(FAR, size - offset + 1), max(0, offset - 1))
            found = data.find(b"\n")
            if found >= 0:
                return max(0, offset - 1) + found + 1
            if len(data) >= FAR:
                return offset
        start = max(low, offset - FAR)
        found = os.pread(fd, offset - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        return offset if offset - start >= FAR else None
    finally:
        os.close(fd)
