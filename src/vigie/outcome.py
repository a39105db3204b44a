"""What became of a function job, on its way from the worker to the agent.

An outcome is a JSON object with blobs (see "Agent and worker" in
docs/explanation/internals.md). Most functions simply return: their outcomes are packed,
numbers of fixed size and the result, which both sides handle in a tenth of the time.

Standard library only; the worker loads this file by path.
"""

from __future__ import annotations

import struct

from . import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    #: A good end: seq, job, attempt, started, finished, duration, cpu, rss, result, records, encoding.
    Good = tuple[int, int, int, int, int, int, int, int, Any, Any, str]
    #: What a worker says of a job, and the blobs that it names by index.
    Said = tuple[dict[str, Any], Sequence[bytes]]

__all__ = ["Outcome", "read", "said_of", "unpack"]

#: seq, job, attempt, started, finished, duration, cpu, rss, bytes of result and of records (-1: none), encoding.
_GOOD = struct.Struct(">10qB")
_SIZE = _GOOD.size
_ENCODINGS = ("json", "pickle", "file")
_INDEX = {name: index for index, name in enumerate(_ENCODINGS)}
_WORDS = ("seq", "job", "attempt", "started", "finished", "duration", "cpu", "rss")


class Outcome:
    """What became of one job.

    Parameters
    ----------
    seq, job, attempt:
        Whose it is.
    how:
        ``return``, ``raise`` or ``exit``; ``code`` belongs to the last.
    started, finished, duration, cpu:
        µs; the first two by the wall clock.
    rss:
        The peak of memory in bytes.
    encoding:
        Of the result: ``json``, ``pickle``, or ``file`` when it is one beside the job.
    error:
        Of ``raise``: its JSON.
    result, pickle:
        The result, the signed pickle of the exception.
    at:
        When, by the monotonic clock (ns).
    """

    __slots__ = (
        "_packed", "at", "attempt", "code", "cpu", "duration", "encoding", "error", "finished", "how", "job", "pickle",
        "records", "result", "rss", "seq", "started",
    )  # fmt: skip

    def __init__(
        self, seq: int, job: int, attempt: int, *, started: int, finished: int, duration: int, cpu: int, rss: int,
        at: int, how: str = "return", code: int | None = None, encoding: str | None = None, error: str | None = None,
        result: bytes | None = None, pickle: bytes | None = None,
    ) -> None:  # fmt: skip
        self.seq, self.job, self.attempt = seq, job, attempt
        self.started, self.finished, self.duration = started, finished, duration
        self.cpu, self.rss, self.at = cpu, rss, at
        self.how, self.code, self.encoding, self.error = how, code, encoding, error
        self.result, self.pickle = result, pickle
        #: What it printed, while that is small; known when its records are closed.
        self.records: bytes | None = None
        self._packed: tuple[bytes, bytes] | None = None

    @property
    def good(self) -> bool:
        """Whether it can be packed: the function returned."""
        return self.how == "return"

    def packed(self) -> tuple[bytes, bytes]:
        """Give the numbers of a good outcome, and its blobs one behind the other."""
        packed = self._packed
        if packed is None:
            result, records = self.result, self.records
            numbers = _GOOD.pack(
                self.seq, self.job, self.attempt, self.started, self.finished, self.duration, self.cpu, self.rss,
                -1 if result is None else len(result), -1 if records is None else len(records),
                _INDEX[self.encoding or "json"],
            )  # fmt: skip
            packed = self._packed = numbers, (result or b"") + (records or b"")
        return packed

    def add_to(self, blobs: list[bytes]) -> str:
        """Append the blobs and give the JSON, which names their places."""
        places: list[str] = []
        for blob in (self.result, self.records, self.pickle):
            if blob is None:
                places.append("null")
            else:
                places.append(str(len(blobs)))
                blobs.append(blob)
        return (
            '{"seq":%d,"job":%d,"attempt":%d,"started":%d,"finished":%d,"duration":%d,"cpu":%d,"rss":%d,'
            '"how":"%s","code":%s,"encoding":%s,"error":%s,"result":%s,"records":%s,"pickle":%s}'
        ) % (
            self.seq, self.job, self.attempt, self.started, self.finished, self.duration, self.cpu, self.rss,
            self.how, "null" if self.code is None else str(self.code),
            "null" if self.encoding is None else '"%s"' % self.encoding, self.error or "null",
            places[0], places[1], places[2],
        )  # fmt: skip

    def frame(self) -> bytes:
        """Give the outcome as the frame that the journal keeps."""
        if self.good:
            numbers, body = self.packed()
            text = b'{"seq":%d,"good":true,"blobs":[%d,%d]}' % (self.seq, _SIZE, len(body))
            return frames.headed(text, numbers + body)
        blobs: list[bytes] = []
        return named(self.add_to(blobs), blobs)


def named(text: str, blobs: Sequence[bytes]) -> bytes:
    """Make a frame of JSON that does not name its blobs' lengths yet."""
    if blobs:
        text = text[:-1] + ',"blobs":[%s]}' % ",".join([str(len(blob)) for blob in blobs])
    return frames.assemble(text.encode(), blobs)


def unpack(numbers: bytes, body: bytes) -> list[Good]:
    """Give the good ends in what :meth:`Outcome.packed` made of them, all numbers and all blobs one behind the other.

    >>> one = Outcome(1, 2, 1, started=3, finished=5, duration=2, cpu=1, rss=9, at=0, encoding="json", result=b"42")
    >>> unpack(*one.packed())
    [(1, 2, 1, 3, 5, 2, 1, 9, b'42', None, 'json')]
    """
    if len(numbers) % _GOOD.size:
        raise frames.FrameError("the numbers of an outcome are cut off")
    found = []
    at = 0
    for *facts, result, records, encoding in _GOOD.iter_unpack(numbers):
        start = at + result if result > 0 else at
        end = start + records if records > 0 else start
        found.append((
            *facts, body[at:start] if result >= 0 else None, body[start:end] if records >= 0 else None,
            _ENCODINGS[encoding],
        ))  # fmt: skip
        at = end
    if at != len(body):
        raise frames.FrameError("the blobs of outcomes are not as long as they say")
    return found


def said_of(good: Good) -> Said:
    """Give a good end as the JSON object that it would have been, and its blobs."""
    *facts, result, records, encoding = good
    said: dict[str, Any] = dict(zip(_WORDS, facts))  # noqa: B905 - Python 3.9
    blobs = [blob for blob in (result, records) if blob is not None]
    said.update(how="return", code=None, encoding=encoding, error=None, pickle=None)
    said["result"] = None if result is None else 0
    said["records"] = None if records is None else len(blobs) - 1
    return said, blobs


def read(journal: Iterable[Said]) -> list[Said]:
    """Give the outcomes in the frames of a worker's journal."""
    return [said_of(unpack(*blobs)[0]) if said.get("good") else (said, blobs) for said, blobs in journal]
