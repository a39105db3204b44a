"""Frames: what our processes say to each other over unix sockets.

A frame is ``>II`` (length of the header, length of the body), a JSON header in
UTF-8, and the body: raw blobs one after the other, whose lengths stand in the
header under ``blobs``. Paths, arguments and environment are bytes: in headers
they are ``str`` decoded with surrogateescape, which JSON carries unharmed as
``\\udcXX``.

The first frame of each side is a hello: ``{"vigie": 1, "role": …}``. Unknown
fields are ignored, so that version n serves version n-1.

Standard library only, and no import of ours: the worker loads this file by path
into interpreters that know nothing of Vigie.
"""

from __future__ import annotations

import json
import struct
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    #: A header, and the blobs that came with it.
    Frame = tuple[dict[str, Any], list[bytes]]

PROTOCOL = 1
#: A larger header or body is an error of the sender, or not our protocol at all.
MAX_HEADER = 256 << 20
MAX_BODY = 4 << 30

_parse = json.JSONDecoder().raw_decode

_PREFIX = struct.Struct(">II")
_CRC = struct.Struct(">I")


def _encoder() -> Callable[[Any], str]:
    """Give ``JSONEncoder.encode`` without what it makes anew at each call: that is half of its time."""
    plain = json.JSONEncoder(separators=(",", ":"), check_circular=False)
    encoder: Any = json.encoder
    text = encoder.encode_basestring_ascii
    sample = {"a": [1, 2.5, None, "é"], "b": {}}
    try:
        parts = encoder.c_make_encoder(None, plain.default, text, None, ":", ",", False, False, True)
        if "".join(parts(sample, 0)) == plain.encode(sample):
            return lambda value: "".join(parts(value, 0))
    except (AttributeError, TypeError):
        pass  # no interpreter so far
    return plain.encode


#: JSON in as few bytes as it takes.
dumps = _encoder()


class FrameError(ValueError):
    """The bytes are not a frame of ours."""


def encode(header: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """Encode one frame.

    >>> header, blobs = Decoder().feed(encode({"op": "x"}, [b"ab", b"c"]))[0]
    >>> header["op"], blobs
    ('x', [b'ab', b'c'])
    """
    if blobs:
        header = {**header, "blobs": [len(blob) for blob in blobs]}
    return assemble(dumps(header).encode(), blobs)


def assemble(text: bytes, blobs: Iterable[bytes] = ()) -> bytes:
    """Make a frame of a header that is JSON already and names its blobs' lengths."""
    return headed(text, b"".join(blobs))


def headed(text: bytes, body: bytes) -> bytes:
    """Make a frame as :func:`assemble`, its blobs joined already."""
    return _PREFIX.pack(len(text), len(body)) + text + body


class Decoder:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes received that are no whole frame yet."""
        return len(self._buffer)

    def feed(self, data: bytes | memoryview) -> list[Frame]:
        """Take bytes and give the list of ``(header, blobs)`` that are now whole."""
        buffer = self._buffer
        if not buffer and len(data) >= _PREFIX.size:
            size, body = _PREFIX.unpack_from(data)
            start = _PREFIX.size + size
            if start + body == len(data) <= MAX_HEADER:
                # One frame, and no more: so it is with nearly all of them.
                whole = bytes(data)
                return [_split(whole[_PREFIX.size : start], whole[start:])]
        buffer += data
        frames: list[Frame] = []
        at = 0
        while len(buffer) - at >= _PREFIX.size:
            size, body = _PREFIX.unpack_from(buffer, at)
            if size > MAX_HEADER or body > MAX_BODY:
                raise FrameError("frame of %d + %d bytes: not our protocol" % (size, body))
            start = at + _PREFIX.size
            end = start + size + body
            if len(buffer) < end:
                break
            frames.append(_split(bytes(buffer[start : start + size]), bytes(buffer[start + size : end])))
            at = end
        if at:
            del buffer[:at]
        return frames


def _split(text: bytes, body: bytes) -> Frame:
    try:
        whole = text.decode()
        header, end = _parse(whole)
        if end != len(whole):
            raise ValueError("something follows it")
    except ValueError as error:
        raise FrameError("header is not JSON: %s" % error) from None
    if not isinstance(header, dict):
        raise FrameError("header is not an object")
    blobs = []
    at = 0
    for size in header.pop("blobs", ()):
        blobs.append(body[at : at + size])
        at += size
    if at != len(body):
        raise FrameError("blobs do not fill the body")
    return header, blobs


def seal(frame: bytes) -> bytes:
    """Add a checksum behind a frame, for journals that a crash may tear."""
    return frame + _CRC.pack(zlib.crc32(frame))


def unseal(data: bytes) -> tuple[list[Frame], int]:
    """Read sealed frames until the end or the first torn one.

    Gives ``(frames, good)``: the frames and how many bytes they fill; what
    stands behind ``good`` is a torn tail to drop.
    """
    frames: list[Frame] = []
    at = 0
    while len(data) - at >= _PREFIX.size:
        size, body = _PREFIX.unpack_from(data, at)
        end = at + _PREFIX.size + size + body
        if len(data) < end + _CRC.size:
            break
        if _CRC.unpack_from(data, end)[0] != zlib.crc32(data[at:end]):
            break
        start = at + _PREFIX.size
        frames.append(_split(bytes(data[start : start + size]), bytes(data[start + size : end])))
        at = end + _CRC.size
    return frames, at
