"""The write-ahead log as a file, looked at before SQLite opens it.

Format: https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import os
import struct

from vigie.errors import StoreError

__all__ = ["began_anew", "commits_from", "promised", "settle_log"]

_CHUNK = 1 << 20
#: Magic, format, page size, checkpoint number, two salts, two checksums; all big-endian.
_HEADER = struct.Struct(">8I")
#: Page, size of the database after a commit (else 0), two salts, two checksums.
_FRAME = struct.Struct(">6I")
#: Of the index, in the machine's order: version, changes, whether it is made, the frames, the salts as in the log.
_INDEX = struct.Struct("=IIIBBHII8s8s8s")


def settle_log(path: str) -> None:
    """Write the log of a store over itself and put it on disk.

    After an fsync that failed, the kernel holds pages that the disk lacks and that no
    later fsync writes. SQLite would read them, go on behind them, and after a power
    cut all of that would be out of reach. Written again, they are on disk or the next
    fsync fails as well.

    Only for who holds the agent's lock, before anybody in this process has the store open.

    Parameters
    ----------
    path:
        The store; its log is beside it. Without one nothing is done.

    Raises
    ------
    StoreError
        When the disk fails again.
    """
    try:
        log = os.open(path + "-wal", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"cannot open {path}-wal: {error.strerror}", "vigie doctor explains") from None
    try:
        at = 0
        while data := os.pread(log, _CHUNK, at):
            at += os.pwrite(log, data, at)
        os.fsync(log)
    except OSError as error:
        raise StoreError(f"the disk fails to keep {path}-wal: {error.strerror}", "vigie doctor explains") from None
    finally:
        os.close(log)


def commits_from(path: str, first: int) -> int:
    """Count the transactions in the log of a store that end at or behind a frame.

    SQLite reads the log up to the first frame whose checksum is wrong, and drops the
    rest without a word. Each commit is on disk before the next one is written, so
    that a power cut tears one transaction at most: if two lie behind that frame, the
    log was damaged afterwards, and what was acknowledged is gone.

    A log that began anew is written over an older one. A torn head there, half of the
    older commit's and half of the newer frame's, is no commit: its checksum, which goes
    on from that of the frame before it, is wrong.

    Parameters
    ----------
    path:
        The store.
    first:
        How many frames SQLite took.
    """
    try:
        with open(path + "-wal", "rb") as log:
            data = log.read()
    except FileNotFoundError:
        return 0
    if len(data) < _HEADER.size + _FRAME.size:
        return 0
    _, _, page, _, *salts = _HEADER.unpack_from(data)[:6]
    order = ">" if data[3] & 1 else "<"
    if first == 0 and not _sound(data):
        # Of a damaged header nothing can be believed; all frames of one log have the same salts.
        salts = list(_FRAME.unpack_from(data, _HEADER.size)[2:4])
        order = "="
    if not 512 <= page <= 65536 or page & (page - 1):
        page = 4096
    length = _FRAME.size + page
    count = 0
    for at in range(_HEADER.size + first * length, len(data) - _FRAME.size + 1, length):
        _, size, *of_frame = _FRAME.unpack_from(data, at)[:4]
        count += bool(size) and of_frame == salts and _follows(data, at, page, order)
    return count


def _follows(data: bytes, at: int, page: int, order: str) -> bool:
    """Tell whether a frame has the checksum that it should have behind the one before it."""
    # Of the first frame, that is the header, which ends with a checksum too.
    before = at - 8 if at == _HEADER.size else at - page - 8
    content = data[at : at + 8] + data[at + _FRAME.size : at + _FRAME.size + page]
    if len(content) < 8 + page:
        return False
    return _sum(content, order, *struct.unpack_from(">2I", data, before)) == struct.unpack_from(">2I", data, at + 16)


def _sum(data: bytes, order: str, one: int, two: int) -> tuple[int, int]:
    """Go on with a checksum of SQLite's."""
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for first in words:
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + next(words) + one) & 0xFFFFFFFF
    return one, two


def promised(path: str) -> int:
    """Give how many frames the log of a store had by its index, 0 if nothing can be said.

    The index is written when a commit is on disk; it outlives the agent, though not the
    next who opens the store. So this comes before.
    """
    frames, salts, head = _index(path)
    # Of a damaged header the salts may be what is damaged; each frame has them too.
    of_this_log = salts in (head[16:24], head[_HEADER.size + 8 : _HEADER.size + 16])
    return frames if of_this_log else 0


def began_anew(path: str) -> bool:
    """Tell whether who wrote last was about to begin the log of a store anew: nothing in it counts any more.

    All of it was in the database file by then. The index says so first, with the next
    salts, and the log has its old header until the commit that follows; who is killed
    between the two leaves that behind. As :func:`promised`, it has to be asked first.
    """
    frames, salts, head = _index(path)
    following = (int.from_bytes(head[16:20], "big") + 1) & 0xFFFFFFFF
    return frames == 0 and len(head) >= 24 and salts[:4] == following.to_bytes(4, "big")


def _index(path: str) -> tuple[int, bytes, bytes]:
    """Give how many frames and which salts the index names, if it is sound, and the beginning of the log."""
    try:
        with open(path + "-shm", "rb") as file:
            first, second = file.read(_INDEX.size), file.read(_INDEX.size)
        with open(path + "-wal", "rb") as file:
            head = file.read(_HEADER.size + _FRAME.size)
    except OSError:
        return 0, b"", b""
    if len(second) < _INDEX.size or first != second:
        return 0, b"", head
    version, _, _, ready, _, _, frames, _, _, salts, _ = _INDEX.unpack(first)
    return (int(frames), salts, head) if version == 3_007_000 and ready else (0, b"", head)


def _sound(head: bytes) -> bool:
    """Tell whether a log begins with a header of the checksum that it should have."""
    return _sum(head[:24], ">" if head[3] & 1 else "<", 0, 0) == struct.unpack(">2I", head[24:32])
