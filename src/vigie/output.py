"""What a job has written: read whole, from a position, from the end, or as it comes.

Positions are what ``receive`` keeps: ``{"attempt": n, "out": bytes, "err": bytes,
"records": bytes}``; everything of earlier attempts lies before it. Reading needs
no agent and moves nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from vigie.model import FINISHED, STREAMS
from vigie.records import ABSENT, encode
from vigie.streams import CommandSource, Piece, RecordSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vigie.config import Home
    from vigie.store.reader import Reader, Row

__all__ = ["LOUD", "POLL", "Cutter", "Output", "Record", "iter_records"]

#: Streams that a person reads as text; the others are for programs.
LOUD = tuple(name for name in STREAMS if name not in ("progress", "checkpoint", "result"))
#: Seconds between two looks while following: half of the 50 ms promised, and some.
POLL = 0.015
#: A line longer than this is several records.
LONGEST = 1 << 16
#: An end this near (µs) to the last entry of the index dates what came behind it.
_NEAR = 1_000_000


class Output:
    """The output of one job, read piece by piece.

    Parameters
    ----------
    reader, home:
        The store and the files.
    job:
        Its id.
    position:
        Where to begin; default: at the first byte of the first attempt.
    streams:
        Only these; default all.

    Raises
    ------
    NotFound
        When there is no such job.
    """

    def __init__(
        self,
        reader: Reader,
        home: Home,
        job: int,
        *,
        position: dict[str, int] | None = None,
        streams: Iterable[str] | None = None,
    ) -> None:
        self.job = job
        self._reader = reader
        self._home = home
        # Before the row: what is committed between the two is then read at the next look.
        self._version = reader.data_version()
        self.row: Row = reader.get(job)
        self._streams = frozenset(STREAMS if streams is None else streams)
        self._live = False
        self._inline: tuple[tuple[int, int], bytes] = ((0, 0), b"")
        self._since: int | None = None
        start = position or {}
        self._source = self._open(start.get("attempt", 1), start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._source.close()

    @property
    def position(self) -> dict[str, int]:
        """Where the next reading begins; what was yielded lies before it."""
        return {"attempt": self._source.attempt, **self._source.position}

    @property
    def ended(self) -> bool:
        """Whether the job had ended when its row was last read."""
        return self.row["state"] in FINISHED

    def wanted(self, stream: str) -> bool:
        """Tell whether a stream was asked for."""
        return stream in self._streams

    # --- reading --------------------------------------------------------------

    def refresh(self) -> None:
        """Read the job's row anew if anything was committed since."""
        version = self._reader.data_version()
        if version != self._version:
            row = self._reader.job(self.job)
            # A job removed while somebody reads it has ended for that reader.
            self.row = {**self.row, "state": "stopped"} if row is None else row
            self._version = version

    def go_live(self) -> None:
        """From now on what stands behind the index is dated by the clock: it has just come."""
        self._live = True

    def pump(self) -> Iterator[Piece]:
        """Give what there is behind the position, over all attempts."""
        while True:
            newest = self.row["attempt"]
            yield from self._source.pump(self.wanted)
            if newest <= self._source.attempt:
                return
            attempt = self._source.attempt + 1
            self._source.close()
            self._source = self._open(attempt, {})
            if self._since is not None:
                self._source.seek_time(self._since)

    def follow(self, poll: float = POLL, idle: Callable[[], None] = lambda: None) -> Iterator[Piece]:
        """Give what there is, then what comes, until the job has ended and all was given.

        ``idle`` is called before each wait of ``poll`` seconds.
        """
        self.go_live()
        while True:
            self.refresh()
            ended = self.ended
            yield from self.pump()
            if ended:
                return
            idle()
            time.sleep(poll)

    # --- where to begin -------------------------------------------------------

    def since(self, instant: int) -> None:
        """Begin at what was written from an instant (µs UTC) on, as well as is known."""
        self._since = instant
        attempts = self._reader.attempts(self.job)
        later = [row["n"] for row in attempts if row["finished"] is None or row["finished"] >= instant]
        self._move_to(min(later, default=max(1, self.row["attempt"])))
        self._source.seek_time(instant)

    def last(self, lines: int, *, whole: bool = False) -> int:
        """Begin at the last lines, counted over all streams wanted; ``whole``: the last records.

        Gives how many there are too few of.
        """
        self._move_to(max(1, self.row["attempt"]))
        if lines <= 0:
            self._source.seek_end()
            return 0
        missing = self._source.seek_back(lines, self.wanted, whole=whole)
        while missing > 0 and self._source.attempt > 1:
            self._move_to(self._source.attempt - 1)
            missing = self._source.seek_back(missing, self.wanted, whole=whole)
        return missing

    def _move_to(self, attempt: int) -> None:
        self._source.close()
        self._source = self._open(attempt, {})

    def _open(self, attempt: int, at: dict[str, int]) -> CommandSource | RecordSource:
        if self.row["kind"] == "function":
            return RecordSource(self._home, self.job, attempt, at.get("records", 0), lambda: self._kept(attempt))
        return CommandSource(
            self._reader,
            self._home,
            self.job,
            attempt,
            at.get("out", 0),
            at.get("err", 0),
            lambda last: self._tail_time(attempt, last),
        )

    def _kept(self, attempt: int) -> bytes:
        """Give the records that the store keeps of an attempt; it keeps those of the newest to end."""
        under_way = self.row["assigned"] or self.row["state"] in ("running", "suspended")
        if attempt != self.row["attempt"] - under_way:
            return b""
        key = (attempt, self._version[1])
        if self._inline[0] != key:
            content = self._reader.content(self.job)
            self._inline = (key, (content.get("records") or b"") + self._returned(attempt, content))
        return self._inline[1]

    def _returned(self, attempt: int, content: Row) -> bytes:
        """Give the last record of an attempt that completed: what its function returned, if not None."""
        if "result" not in self._streams or self.row["state"] != "completed" or attempt != self.row["attempt"]:
            return b""
        encoding, blob = content.get("result_encoding"), content.get("result")
        if encoding == "file":
            from vigie.workfiles import read_result

            try:
                encoding, blob = read_result(self._home.job_file(self.job, "result", attempt))
            except FileNotFoundError:
                # Removed with its job while we read.
                return b""
        at = self.row["finished"]
        if encoding == "json" and blob not in (None, b"null"):
            return encode("result", at, json_data=bytes(blob).decode())
        return encode("result", at, pickled=bytes(blob)) if encoding == "pickle" and blob is not None else b""

    def _tail_time(self, attempt: int, last: int) -> int | None:
        """Date what stands behind the last entry of the index."""
        if self._live and not self.ended:
            return time.time_ns() // 1000
        for row in self._reader.attempts(self.job):
            if row["n"] == attempt and row["finished"] is not None:
                before = last if last >= 0 else row["started"]
                near = before is not None and row["finished"] - before < _NEAR
                return int(row["finished"]) if near else None
        return None


class Record:
    """One entry in a job's stream, as the library gives it.

    Attributes
    ----------
    job, attempt, stream, seq:
        Its name for ever: ``seq`` is the offset in its file.
    time:
        µs UTC, or None if not known.
    level, name:
        Of a log record.
    text:
        The text with its line end as it was written, bytes that are no UTF-8 by
        surrogateescape; None for a value.
    """

    __slots__ = ("_line", "_secret", "attempt", "job", "level", "name", "seq", "stream", "text", "time")

    def __init__(self, job: int, piece: Piece, content: bytes | None, secret: str = "") -> None:
        line = piece.line
        self.job = job
        self.attempt = piece.attempt
        self.seq = piece.seq
        self.time = piece.time
        self.stream = piece.stream
        self.level: str | None = None if line is None else line.level
        self.name: str | None = None if line is None else line.name
        self.text = None if content is None else content.decode("utf-8", "surrogateescape")
        self._line = line
        self._secret = secret

    def __repr__(self) -> str:
        return f"<record {self.job}.{self.attempt} {self.stream} {self.seq}: {self.shown!r}>"

    @property
    def shown(self) -> str:
        """What a person reads of it, without the line end."""
        from vigie.streams import shown

        if self.text is not None or self._line is None:
            return (self.text or "").removesuffix("\n")
        return shown(self._line).decode("utf-8", "backslashreplace").removesuffix("\n")

    @property
    def value(self) -> Any:
        """The value: text (bytes if it is no UTF-8), or the object as it was yielded.

        Raises
        ------
        VigieError
            When a pickle's signature is wrong, or this interpreter cannot read it.
        """
        if self.text is not None:
            try:
                self.text.encode()
            except UnicodeEncodeError:
                return self.text.encode("utf-8", "surrogateescape")
            return self.text
        if self._line is None or self._line.pickled is None:
            return None if self._line is None or self._line.data is ABSENT else self._line.data
        return _unpickle(self._line.pickled, self._secret)

    def to_json(self) -> dict[str, Any]:
        """Give the form of ``--json``: ``seq, attempt, time, stream, level, text|data``."""
        from vigie import view

        made: dict[str, Any] = {
            "job": self.job,
            "seq": self.seq,
            "attempt": self.attempt,
            "time": view.instant(self.time),
            "stream": self.stream,
            "level": self.level,
        }
        if self.name is not None:
            made["name"] = self.name
        if self.text is not None:
            made["text"] = self.text
        elif self._line is not None and self._line.pickled is not None:
            made |= {"data": None, "repr": self._line.shown}
        elif self._line is not None:
            made["data"] = None if self._line.data is ABSENT else self._line.data
        return made


def _unpickle(blob: bytes, secret: str) -> Any:
    from vigie import payload
    from vigie.errors import VigieError

    try:
        return payload.loads("pickle", blob, payload.read_key(secret))
    except payload.PayloadError as error:
        raise VigieError(str(error)) from error


class Cutter:
    """Cuts the pieces of one job into records: a command's bytes into lines.

    A line is a record where it ends; one longer than 64 KiB is several, cut
    between characters. What has no line end yet waits for :meth:`rest`.
    """

    def __init__(self, job: int, secret: str = "") -> None:
        self._job = job
        self._secret = secret
        #: (attempt, stream) -> what waits for its line end, as the piece that began it.
        self._begun: dict[tuple[int, str], tuple[Piece, bytearray]] = {}

    def feed(self, piece: Piece) -> Iterator[Record]:
        """Take a piece and give the records that it completes."""
        if piece.note is not None:
            yield from self.rest((piece.attempt, piece.stream))
            warning = Piece(piece.attempt, "warning", piece.seq, piece.time)
            yield Record(self._job, warning, piece.note.encode())
        elif piece.line is not None:
            yield Record(self._job, piece, piece.line.content, self._secret)
        else:
            yield from self._lines(piece)

    def _lines(self, piece: Piece) -> Iterator[Record]:
        key = (piece.attempt, piece.stream)
        begun = self._begun.pop(key, None)
        seq, waiting = (piece.seq, bytearray()) if begun is None else (begun[0].seq, begun[1])
        waiting += piece.data
        at = 0
        while at < len(waiting):
            end = waiting.find(b"\n", at, at + LONGEST) + 1
            if not end:
                if len(waiting) - at < LONGEST:
                    break
                end = _between_characters(waiting, at + LONGEST)
            yield self._record(piece, seq + at, bytes(waiting[at:end]))
            at = end
        if at < len(waiting):
            self._begun[key] = (Piece(piece.attempt, piece.stream, seq + at, piece.time), waiting[at:])

    def _record(self, piece: Piece, seq: int, content: bytes) -> Record:
        return Record(self._job, Piece(piece.attempt, piece.stream, seq, piece.time), content)

    def rest(self, only: tuple[int, str] | None = None) -> Iterator[Record]:
        """Give what still waited for a line end."""
        for key in [key for key in self._begun if only in (None, key)]:
            piece, waiting = self._begun.pop(key)
            yield Record(self._job, piece, bytes(waiting))


def _between_characters(data: bytearray, end: int) -> int:
    """Move a cut back to where a character of UTF-8 begins."""
    for back in range(1, 4):
        byte = data[end - back]
        if byte < 0x80:
            return end
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return end if length <= back else end - back
    return end


def iter_records(
    reader: Reader,
    home: Home,
    job: int,
    *,
    follow: bool = False,
    streams: Iterable[str] | None = None,
    position: dict[str, int] | None = None,
) -> Iterator[Record]:
    """Give the records of a job in order: of a command its lines, of a function what it said.

    Parameters
    ----------
    reader, home, job:
        Whose.
    follow:
        Go on with what comes, until the job has ended.
    streams:
        Only these; default all.
    position:
        Where to begin; default: at the beginning.

    Raises
    ------
    NotFound
        When there is no such job.
    """
    with Output(reader, home, job, position=position, streams=streams) as output:
        cutter = Cutter(job, home.secret)
        for piece in output.follow() if follow else output.pump():
            yield from cutter.feed(piece)
        yield from cutter.rest()
