"""The resume journal: what a parallel run has finished, kept over kills and power cuts.

A file that only grows. It begins with a header of 32 bytes, then come records: 32 bytes each,
little-endian, and a payload.

====== ======= ==========================================================================
offset header  record
====== ======= ==========================================================================
0      magic   crc32 of all that follows, begun with the header's own: a record of
               another file, on a block that a disk did not clear, is none of this one
4              kind (one byte), and three that are zero
8      crc32   length of the payload (u64)
12     version
16     salt    key
====== ======= ==========================================================================

Each save is a batch: a mark, its records, one write and one fdatasync. What may be torn is
only the last batch: none is written before the one in front of it is on disk. A power cut
leaves of it any of its sectors, so a whole record behind a damaged one is no proof of
anything; a mark is, because it begins a later batch. Damage with a mark behind it is damage
to what was safe, and refused; any other is a torn tail, and cut off.

Nobody knows whether the last batch of a writer that was killed is on disk, or whether its
fdatasync failed (after which the kernel takes what it could not write for written). Whoever
opens the file writes that batch over itself, and syncs it, before anything is put behind it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import zlib

from vigie.config import sync_directory
from vigie.errors import Conflict, VigieError
from vigie.parallel import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

__all__ = ["Journal"]

VERSION = 1
_MAGIC = b"vigie-rj"
#: In the key of each mark, with its own offset behind it.
_MARK_MAGIC = b"\xf7rj-mark"

_HEADER = struct.Struct("<8sII16s")
_RECORD = struct.Struct("<IB3xQ16s")
#: A record without its checksum.
_SUMMED = struct.Struct("<B3xQ16s")
_SIZE = 32
_DONE, _FAILED, _FUNCTION, _MARK = 1, 2, 3, 4
_NO_KEY = bytes(16)

#: Bytes that are read at a time when a file is opened.
_BLOCK = 4 << 20
#: Bytes that are read for one value before its length is known.
_LIKELY = 4096

_FORGET = "fresh=True forgets all that it holds"

#: Descriptors of the journals that this process has open.
_held: set[int] = set()


def _after_fork() -> None:
    """Let go of the parent's journals: a lock lasts until the last process that has it has closed it."""
    for fd in _held:
        with contextlib.suppress(OSError):
            os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)


class Journal:
    """The journal of one run, by keys of 16 bytes; made by :meth:`open`, and for one thread.

    Attributes
    ----------
    path:
        The file.
    changed:
        Whether the function is another one than that of the run before; told once for each change.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/resume/squares"
    >>> with Journal.open(path, function="3.11:aa") as journal:
    ...     journal.add(b"k" * 16, b"a pickle")
    >>> with Journal.open(path, function="3.11:bb") as journal:
    ...     journal.done(b"k" * 16), journal.value(b"k" * 16), len(journal), journal.changed
    (True, b'a pickle', 1, True)
    """

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.changed = False
        self._fd = fd
        self._pid = os.getpid()
        #: Where the last record of each key begins.
        self._done: dict[bytes, int] = {}
        self._failed: dict[bytes, int] = {}
        #: The fingerprints of functions, the newest last.
        self._functions: list[str] = []
        #: Bytes that are on disk, and those to put behind them: room for a mark, then records.
        self._size = 0
        self._buffer = bytearray(_SIZE)
        self._header = b""
        self._seed = 0
        #: The names that lead to the file are on disk.
        self._named = False
        self._broken = False
        _held.add(fd)

    @classmethod
    def open(cls, path: str | Path, *, function: str, fresh: bool = False) -> Journal:
        """Open a journal for this process alone, and read what it holds.

        Parameters
        ----------
        path:
            The file; made with mode 0600, and its directories with 0700.
        function:
            The fingerprint of the function (:func:`vigie.parallel.keys.fingerprint`).
        fresh:
            Forget all that the file holds, whatever it is.

        Raises
        ------
        Conflict
            When somebody has it open.
        VigieError
            When it is damaged, or of a newer version.
        OSError
            When it cannot be made, read or written.
        """
        path = os.path.abspath(path)
        journal = cls(path, _take(path))
        try:
            journal._load(fresh)
            journal._remember(function)
        except BaseException:
            journal._let_go()
            raise
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._done)

    @property
    def failed(self) -> int:
        """How many keys failed when they were tried last."""
        return len(self._failed)

    # --- reading ------------------------------------------------------------------

    def done(self, key: bytes) -> bool:
        """Tell whether a key has a value."""
        self._check()
        return key in self._done

    def value(self, key: bytes) -> bytes:
        """Give the pickle of a key's value, read anew and its checksum verified.

        Raises
        ------
        KeyError
            It has none.
        VigieError
            The file was damaged since it was opened.
        """
        return self._payload(_DONE, key, self._done)

    def failure(self, key: bytes) -> str:
        """Give what :meth:`fail` was told of a key; raises as :meth:`value`."""
        return self._payload(_FAILED, key, self._failed).decode("utf-8", "surrogatepass")

    def _payload(self, kind: int, key: bytes, where: dict[bytes, int]) -> bytes:
        self._check()
        at = where[key]
        if at >= self._size:
            begin = at - self._size
            length = _RECORD.unpack_from(self._buffer, begin)[2]
            return bytes(self._buffer[begin + _SIZE : begin + _SIZE + length])
        data = _read_at(self._fd, _LIKELY, at)
        if len(data) >= _SIZE:
            crc, found, length, owner = _RECORD.unpack_from(data)
            if (found, owner) == (kind, key) and at + _SIZE + length <= self._size:
                if _SIZE + length > len(data):
                    data += _read_at(self._fd, _SIZE + length - len(data), at + len(data))
                data = data[: _SIZE + length]
                if zlib.crc32(memoryview(data)[4:], self._seed) == crc:
                    return data[_SIZE:]
        raise VigieError(f"the resume journal {self.path} was damaged at byte {at} since it was opened", _FORGET)

    # --- writing ------------------------------------------------------------------

    def add(self, key: bytes, pickled: bytes) -> None:
        """Note a key's value, for the next :meth:`sync`.

        Raises
        ------
        VigieError
            The journal is closed, belongs to the parent, or its disk has failed.
        """
        self._done[key] = self._append(_DONE, key, pickled)
        if self._failed:
            self._failed.pop(key, None)

    def fail(self, key: bytes, message: str) -> None:
        """Note that a key has failed, for the next :meth:`sync`; raises as :meth:`add`."""
        self._failed[key] = self._append(_FAILED, key, message.encode("utf-8", "surrogatepass"))
        self._done.pop(key, None)

    def _append(self, kind: int, key: bytes, payload: bytes) -> int:
        self._check()
        if len(key) != 16:
            raise ValueError(f"a key has 16 bytes, and this one {len(key)}")
        summed = _SUMMED.pack(kind, len(payload), key)
        crc = zlib.crc32(payload, zlib.crc32(summed, self._seed))
        at = self._size + len(self._buffer)
        # At once: whatever a signal handler raises, no half of a record stays.
        self._buffer += b"".join((crc.to_bytes(4, "little"), summed, payload))
        return at

    def sync(self) -> None:
        """Put all that was noted on disk: one write, one fdatasync.

        Raises
        ------
        OSError
            It could not be written, as on a full disk: a later call tries again. Or it could not
            be synced: nobody knows what is on disk, and every later call but :meth:`close` raises.
        VigieError
            As :meth:`add`.
        """
        self._check()
        buffer = self._buffer
        if len(buffer) == _SIZE:
            return
        buffer[:_SIZE] = self._mark(self._size) if self._size else self._header
        _write_at(self._fd, buffer, self._size)
        try:
            _sync_data(self._fd)
            if not self._named:
                _sync_names(self.path)
        except OSError:
            self._broken = True
            raise
        self._named = True
        # In this order: between the two, the batch would be written once more, behind itself.
        self._size += len(buffer)
        self._buffer = bytearray(_SIZE)

    def close(self) -> None:
        """Sync, and let go of the file; again it does nothing.

        Raises
        ------
        OSError
            As :meth:`sync`; the file is let go of all the same.
        """
        try:
            if self._fd >= 0 and self._pid == os.getpid() and not self._broken:
                self.sync()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0 or self._pid != os.getpid():
            return
        _held.discard(fd)
        # A program that is being started has a copy of the descriptor, which would hold the lock on.
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)

    def _check(self) -> None:
        if self._fd < 0:
            raise VigieError(f"the resume journal {self.path} is closed")
        if self._pid != os.getpid():
            raise VigieError(f"the resume journal {self.path} belongs to pid {self._pid}, which forked this process")
        if self._broken:
            raise VigieError(f"the disk failed to keep the resume journal {self.path}", "run again: what it has counts")

    def _mark(self, at: int) -> bytes:
        summed = _SUMMED.pack(_MARK, 0, _MARK_MAGIC + at.to_bytes(8, "little"))
        return zlib.crc32(summed, self._seed).to_bytes(4, "little") + summed

    # --- opening ------------------------------------------------------------------

    def _load(self, fresh: bool) -> None:
        size = os.fstat(self._fd).st_size
        good = last = 0
        if size and not fresh and self._begins(size):
            good, last = self._scan(size)
        if good < size:
            os.ftruncate(self._fd, good)
        for at in range(last, good, _BLOCK):
            _write_at(self._fd, _read_at(self._fd, min(_BLOCK, good - at), at), at)
        # Also when there is nothing: one that was killed here may have cut off what is still on disk.
        os.fsync(self._fd)
        self._size = good
        if not good:
            salt = os.urandom(16)
            self._seed = zlib.crc32(_HEADER.pack(_MAGIC, 0, VERSION, salt))
            self._header = _HEADER.pack(_MAGIC, self._seed, VERSION, salt)

    def _begins(self, size: int) -> bool:
        """Read the header; False if it is torn, and then nothing was ever saved."""
        head = _read_at(self._fd, _SIZE, 0)
        if len(head) == _SIZE:
            magic, crc, version, salt = _HEADER.unpack(head)
            if magic == _MAGIC and crc == zlib.crc32(_HEADER.pack(magic, 0, version, salt)):
                if version > VERSION:
                    raise VigieError(
                        f"the resume journal {self.path} has version {version}, and this Vigie knows {VERSION}",
                        f"upgrade Vigie; {_FORGET}",
                    )
                self._seed = crc
                return True
        torn = not head.strip(b"\0") or (len(head) < _SIZE and head[:8] == _MAGIC[: len(head)])
        if torn and not self._mark_behind(0, size):
            return False
        raise VigieError(f"{self.path} does not begin as a resume journal does: it is damaged, or none", _FORGET)

    def _scan(self, size: int) -> tuple[int, int]:
        """Read all records; give where the good ones end, and where their last batch begins."""
        at, last = _SIZE, 0
        while at + _SIZE <= size:
            block = _read_at(self._fd, _BLOCK, at)
            used, mark = self._take(block, at)
            if not used and len(block) == _BLOCK:
                used = self._take_large(block, at, size)
            if not used:
                break
            at += used
            last = mark or last
        if at < size and self._mark_behind(at, size):
            raise VigieError(f"the resume journal {self.path} is damaged at byte {at}, and more follows", _FORGET)
        return at, last

    def _take(self, block: bytes, base: int) -> tuple[int, int]:
        """Take the records at the head of a block; give the bytes that they fill, and where the last mark is."""
        at = mark = 0
        end = len(block)
        seed, done = self._seed, self._done
        unpack, crc32 = _RECORD.unpack_from, zlib.crc32
        view = memoryview(block)
        while at + _SIZE <= end:
            crc, kind, length, key = unpack(block, at)
            behind = at + _SIZE + length
            if behind > end or crc32(view[at + 4 : behind], seed) != crc:
                break
            if kind == _DONE:
                done[key] = base + at
                if self._failed:
                    self._failed.pop(key, None)
            elif kind == _MARK:
                mark = base + at
            elif not self._note(kind, key, base + at, block[at + _SIZE : behind]):
                break
            at = behind
        return at, mark

    def _take_large(self, block: bytes, at: int, size: int) -> int:
        """Take a record that is larger than a block; give its bytes, or 0 if that is not what is there."""
        crc, kind, length, key = _RECORD.unpack_from(block)
        behind: int = at + _SIZE + length
        if behind <= at + len(block) or behind > size or kind not in (_DONE, _FAILED):
            return 0
        found = zlib.crc32(memoryview(block)[4:], self._seed)
        for begin in range(at + len(block), behind, _BLOCK):
            found = zlib.crc32(_read_at(self._fd, min(_BLOCK, behind - begin), begin), found)
        if found != crc:
            return 0
        self._note(kind, key, at, b"")
        return behind - at

    def _note(self, kind: int, key: bytes, at: int, payload: bytes) -> bool:
        """Take account of one record; False if it is none that we write."""
        if kind == _DONE:
            self._done[key] = at
            self._failed.pop(key, None)
        elif kind == _FAILED:
            self._failed[key] = at
            self._done.pop(key, None)
        elif kind == _FUNCTION:
            self._functions.append(payload.decode())
        else:
            return False
        return True

    def _mark_behind(self, at: int, size: int) -> bool:
        """Tell whether a later batch begins behind ``at``."""
        # Without a header, the checksum of a mark says nothing.
        part = slice(0 if self._seed else 16, _SIZE)
        while at < size:
            block = _read_at(self._fd, _BLOCK, at)
            found = block.find(_MARK_MAGIC)
            while found >= 0:
                begin = found - 16
                if begin > 0 and block[begin : begin + _SIZE][part] == self._mark(at + begin)[part]:
                    return True
                found = block.find(_MARK_MAGIC, found + 1)
            if len(block) < _BLOCK:
                break
            # A mark may stand across two blocks.
            at += len(block) - _SIZE
        return False

    def _remember(self, function: str) -> None:
        """See whether the function has changed, and note it if it is not that of the last run."""
        for known in reversed(self._functions):
            if known == function:
                return
            if keys.changed(known, function):
                self.changed = True
                break
        self._append(_FUNCTION, _NO_KEY, function.encode())
        self._functions.append(function)


def _take(path: str) -> int:
    """Open a file under its lock; make it, and its directories, if they are missing."""
    while True:
        _make_directories(os.path.dirname(path))
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # One that was removed meanwhile is nobody's any more.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    return fd
        except BlockingIOError:
            said = _holder(fd)
            os.close(fd)
            raise Conflict(
                f"another run uses the resume journal {path}: {said}",
                "wait for its end, or give this run a name of its own",
            ) from None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _make_directories(path: str) -> None:
    missing = []
    while not os.path.isdir(path) and path != os.path.dirname(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)


def _holder(fd: int) -> str:
    """Say who has the lock on a file."""
    info = os.fstat(fd)
    pid = None
    with contextlib.suppress(OSError), open("/proc/locks", encoding="ascii", errors="replace") as table:
        pid = _flock_holder(table.read(), info.st_dev, info.st_ino)
    if pid == os.getpid():
        return f"pid {pid}, this very process"
    return f"pid {pid}" if pid else "a process out of sight"


def _flock_holder(locks: str, device: int, inode: int) -> int | None:
    """Find who holds an flock on a file, from the text of ``/proc/locks``.

    The pid is 0 for a holder in another namespace; None when nobody holds it.

    >>> _flock_holder("1: FLOCK  ADVISORY  WRITE 4711 fe:01:99 0 EOF", 0xfe01, 99)
    4711
    """
    wanted = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    for line in locks.splitlines():
        fields = line.split()
        # A waiter's line has an arrow in front.
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == wanted:
            return max(0, int(fields[4]))
    return None


def _read_at(fd: int, length: int, at: int) -> bytes:
    """Read as many bytes as are wanted, fewer only at the end of the file."""
    data = os.pread(fd, length, at)
    while data and len(data) < length:
        more = os.pread(fd, length - len(data), at + len(data))
        if not more:
            break
        data += more
    return data


def _write_at(fd: int, data: bytes | bytearray, at: int) -> None:
    written = os.pwrite(fd, data, at)
    if written < len(data):
        with memoryview(data) as view:
            while written < len(data):
                written += os.pwrite(fd, view[written:], at + written)


def _sync_data(fd: int) -> None:
    """Put the contents of a file on disk, with the little of its inode that reading them needs."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        # There fsync leaves them in the disk's cache. Where this is not known, fsync is all that there is.
        try:
            fcntl.fcntl(fd, full)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOTTY):
                raise
        else:
            return
    getattr(os, "fdatasync", os.fsync)(fd)


def _sync_names(path: str) -> None:
    """Put the name of a file on disk, and those of the directories above it, whoever made them."""
    path, above = os.path.dirname(path), path
    # Somebody else's directory is not one that we made on the way.
    while path != above and os.stat(path).st_uid == os.geteuid():
        try:
            sync_directory(path)
        except PermissionError:
            break
        path, above = os.path.dirname(path), path
