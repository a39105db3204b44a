"""Records: the lines of a function job's stream, and how they are read.

A record is one line of JSON: ``{"t": µs, "s": stream, …}`` with one payload:
``text``, ``b64`` (bytes that are not UTF-8), ``data`` (a JSON value) or
``pickle`` (a signed pickle in base64, with ``repr``). ``l`` is a level, ``name``
a logger, ``raw`` says that the bytes came from descriptor 1 or 2. A record's
sequence number is the offset of its line.

Standard library only; the worker loads this file by path.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

__all__ = ["ABSENT", "Record", "encode", "iter_records", "to_bytes"]

#: Stands for "no JSON value", since None is one.
ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "ABSENT", "__bool__": lambda self: False})()

_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def encode(
    stream: str,
    t: int,
    *,
    text: str | bytes | None = None,
    data: Any = ABSENT,
    json_data: str | None = None,
    pickled: bytes | None = None,
    shown: str | None = None,
    level: str | None = None,
    name: str | None = None,
    raw: bool = False,
) -> bytes:
    r"""Write one record as a line.

    Parameters
    ----------
    stream:
        One of ``model.STREAMS``.
    t:
        When, in µs UTC.
    text:
        Text, or bytes, which are kept exactly; text may hold bytes by surrogateescape.
    data, json_data:
        A value that JSON can carry, or the JSON of one.
    pickled, shown:
        A signed pickle, and what to show people in its place.
    level, name:
        Of a log record.
    raw:
        The bytes came from a descriptor and not through ``sys.stdout``.

    >>> encode("output", 5, text="a\n")
    b'{"t":5,"s":"output","text":"a\\n"}\n'
    >>> encode("output", 5, text=b"\xff")
    b'{"t":5,"s":"output","b64":"/w=="}\n'
    """
    line = '{"t":%d,"s":"%s"' % (t, stream)
    if level is not None:
        line += ',"l":' + encode_basestring(level)
    if name is not None:
        line += ',"name":' + encode_basestring(name)
    if raw:
        line += ',"raw":true'
    if json_data is not None:
        line += ',"data":' + json_data
    elif data is not ABSENT:
        line += ',"data":' + _dumps(data)
    if pickled is not None:
        line += ',"pickle":"%s"' % _base64(pickled)
    if shown is not None:
        line += ',"repr":' + encode_basestring(shown)
    if text is None:
        return (line + "}\n").encode("utf-8", "backslashreplace")
    if isinstance(text, str):
        try:
            return (line + ',"text":' + encode_basestring(text) + "}\n").encode()
        except UnicodeEncodeError:
            text = to_bytes(text)
    try:
        line += ',"text":' + encode_basestring(text.decode())
    except UnicodeDecodeError:
        line += ',"b64":"%s"' % _base64(text)
    return (line + "}\n").encode("utf-8", "backslashreplace")


def to_bytes(text: str) -> bytes:
    """Give the bytes of a text that may hold some by surrogateescape; it fails for no text."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _base64(data: bytes) -> str:
    import binascii

    return binascii.b2a_base64(data, newline=False).decode()


class Record:
    """One record as it was read.

    Attributes
    ----------
    seq, end:
        The offset of its line, and where the next one begins.
    time:
        µs UTC.
    stream, level, name, raw:
        See the module.
    text:
        The text, or None; for bytes that are not UTF-8 see ``content``.
    content:
        The payload as bytes: of ``text`` or ``b64``; None for values.
    data:
        The JSON value, or ``ABSENT``.
    pickled, shown:
        The signed pickle of a value, and what to show for it.
    """

    __slots__ = ("data", "end", "fields", "level", "name", "pickled", "raw", "seq", "shown", "stream", "text", "time")

    def __init__(self, seq: int, end: int, fields: dict[str, Any]) -> None:
        self.seq = seq
        self.end = end
        self.fields = fields
        self.time: int = fields.get("t", 0)
        self.stream: str = fields.get("s", "output")
        self.text: str | None = fields.get("text")
        self.data: Any = fields.get("data", ABSENT)
        self.level: str | None = fields.get("l")
        self.name: str | None = fields.get("name")
        self.raw = bool(fields.get("raw"))
        self.shown: str | None = fields.get("repr")
        pickled = fields.get("pickle")
        self.pickled: bytes | None = None if pickled is None else _unbase64(pickled)

    def __repr__(self) -> str:
        return f"Record({self.seq}, {self.fields!r})"

    @property
    def content(self) -> bytes | None:
        """The payload as bytes, or None if it is a value."""
        if self.text is not None:
            return self.text.encode("utf-8", "surrogateescape")
        coded = self.fields.get("b64")
        return None if coded is None else _unbase64(coded)


def _unbase64(coded: str) -> bytes:
    import binascii

    return binascii.a2b_base64(coded)


def iter_records(source: bytes | IO[bytes], offset: int = 0) -> Iterator[Record]:
    """Read records from ``offset``, the beginning of a line; an unfinished last line is left.

    Parameters
    ----------
    source:
        The bytes of a stream, or a file open for reading bytes.
    offset:
        Where to begin: 0, or the ``end`` of a record read earlier.

    >>> [r.text for r in iter_records(encode("output", 1, text="a") + b'{"t":')]
    ['a']
    """
    if isinstance(source, bytes):
        import io

        source = io.BytesIO(source)
    source.seek(offset)
    for line in source:
        if not line.endswith(b"\n"):
            return
        end = offset + len(line)
        try:
            fields = json.loads(line)
        except ValueError:
            fields = None
        # A line that is no record can only be damage; what stands behind it is still good.
        if isinstance(fields, dict):
            yield Record(offset, end, fields)
        offset = end
