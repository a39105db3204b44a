"""Large values on their way between processes of one machine: by memory that both can see.

The pickle leaves large buffers (arrays, by pickle protocol 5) out; it and they are written
once into memory without a name, whose descriptor is handed over the socket. Who gets it
maps it privately: what it writes there is its own, and nobody else sees it.

Standard library only; the worker loads this file by path.
"""

from __future__ import annotations

import errno
import mmap
import os
import pickle

from . import memfd, payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Places = list[list[int]]

__all__ = ["LARGE", "MOST_MAPPED", "dump", "load", "size", "write"]

#: What takes as many bytes goes by a segment; less is quicker through the socket.
LARGE = 1 << 20
#: Buffers of fewer bytes stay in the pickle.
APART = 1 << 17
#: A mapping keeps a descriptor open: with so many of them, what comes is copied.
MOST_MAPPED = 64
_ALIGNED = mmap.ALLOCATIONGRANULARITY

_mapped = 0


class _Mapping(mmap.mmap):
    """Memory of a segment, for as long as anything refers to it."""

    def __del__(self) -> None:
        global _mapped
        _mapped -= 1


def dump(value: Any, name: str) -> tuple[bytes, list[memoryview]]:
    """Pickle a value: the pickle, and the large buffers that are left out of it.

    Raises
    ------
    payload.PayloadError
        It cannot be pickled; the message calls it ``name``.

    >>> dump(b"a", "it") == (pickle.dumps(b"a", 5), [])
    True
    """
    apart: list[memoryview] = []

    def inside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < APART:
            return True
        apart.append(view)
        return False

    try:
        data = pickle.dumps(value, 5, buffer_callback=inside)
    except Exception:
        data = b"__main__"
    # What lives in __main__ is found there by name, and another process has another __main__.
    if b"__main__" in data:
        return payload.pickled(value, name), []
    return data, apart


def size(pickled: bytes, apart: Sequence[memoryview]) -> int:
    """Give the bytes of a pickle with all its buffers."""
    return len(pickled) + sum(view.nbytes for view in apart)


def write(pickled: bytes, apart: Sequence[memoryview] = ()) -> tuple[int, Places]:
    """Write what :func:`dump` gave into a new segment; give its descriptor, and where each part is: [offset, bytes].

    Raises
    ------
    OSError
        There is not as much memory.
    """
    fd = memfd.create("vigie-segment")
    places: Places = []
    end = 0
    try:
        for view in (memoryview(pickled), *apart):
            places.append([end, len(view)])
            done = 0
            while done < len(view):
                done += os.pwrite(fd, view[done:], end + done)
            end += -(-len(view) // _ALIGNED) * _ALIGNED
        os.ftruncate(fd, end)
    except BaseException:
        os.close(fd)
        raise
    return fd, places


def load(fd: int, places: Places, *, copied: bool = False) -> Any:
    """Make the value of a segment, and close the descriptor.

    Parameters
    ----------
    copied:
        Do not map it, which keeps a descriptor for as long as the value refers to it.

    Raises
    ------
    MemoryError
        There is not as much memory.

    >>> value = [bytearray(3_000_000), "b"]
    >>> load(*write(*dump(value, "it"))) == value
    True
    """
    try:
        # Each of them alone: whoever makes an array of a buffer may ask for the object behind it.
        pickled, *buffers = [_view(fd, start, length, copied=copied) for start, length in places]
    finally:
        os.close(fd)
    return pickle.loads(pickled, buffers=buffers)


def _view(fd: int, start: int, length: int, *, copied: bool) -> memoryview:
    global _mapped
    if not copied and _mapped < MOST_MAPPED:
        try:
            mapping = _Mapping(fd, length, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE, offset=start)
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError(f"no memory for {length:,} bytes") from None
            raise
        _mapped += 1  # not before: what cannot be mapped has no end either
        return memoryview(mapping)
    copy = memoryview(bytearray(length))
    done = 0
    while done < length and (count := os.preadv(fd, [copy[done:]], start + done)):
        done += count
    return copy
