"""The disk under SQLite: what was not synced may be lost, and each write may fail."""

from __future__ import annotations

import os
from collections.abc import Callable

import apsw

NAME = "vigie-simulation"


class PowerFails(BaseException):
    """The power fails while somebody writes."""


class _Content:
    """One file: what is surely on disk, and what came after."""

    def __init__(self, synced: bytes) -> None:
        self.synced = bytearray(synced)
        #: (offset, data) or (length, None) for a truncation.
        self.writes: list[tuple[int, bytes | None]] = []

    def settle(self, many: int | None = None) -> None:
        """Have the first writes on disk, all by default."""
        for offset, data in self.writes[:many]:
            if data is None:
                del self.synced[offset:]
                self.synced.extend(bytes(offset - len(self.synced)))
            else:
                if len(self.synced) < offset:
                    self.synced.extend(bytes(offset - len(self.synced)))
                self.synced[offset : offset + len(data)] = data
        self.writes.clear()


class Disk:
    """The files of one store, and what is wrong with them."""

    def __init__(self) -> None:
        self.files: dict[str, _Content] = {}
        #: The process that had them open is dead: whatever its library does now does not happen.
        self.frozen = False
        #: Raised by the next writes: "full" or "sync".
        self.trouble: str | None = None
        #: Failures until the trouble is over.
        self.many = 0
        #: Writes and syncs until the power fails.
        self.power: int | None = None
        #: A sync has failed: what an open connection believes is not what the disk has.
        self.unsafe = False

    def content(self, path: str) -> _Content:
        known = self.files.get(path)
        if known is None:
            data = b""
            if os.path.exists(path):
                with open(path, "rb") as file:
                    data = file.read()
            known = self.files[path] = _Content(data)
        return known

    def fails(self, what: str) -> bool:
        if self.power is not None:
            self.power -= 1
            if self.power <= 0:
                self.power = None
                self.unsafe = True
                raise PowerFails
        if self.trouble != what:
            return False
        self.many -= 1
        if self.many <= 0:
            self.trouble = None
        return True

    def rewritten(self, path: str) -> None:
        """Somebody has written a file over itself, and synced it."""
        self.files.pop(path, None)

    def cut(self, keep: Callable[[int], int]) -> None:
        """Lose what was not synced, but for as many of the first writes as ``keep(how many)`` says.

        The last of those that are kept may be torn.
        """
        for path, content in self.files.items():
            many = keep(len(content.writes) * 2)
            kept = content.writes[: many // 2]
            if many % 2:
                offset, data = content.writes[many // 2]
                kept.append((offset, data if data is None else data[: len(data) // 2 // 512 * 512]))
            content.writes = kept
            content.settle()
            with open(path, "wb") as file:
                file.write(content.synced)
        # The index of the log is memory.
        for path in list(self.files):
            if os.path.exists(path + "-shm"):
                os.unlink(path + "-shm")


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: object, flags: list[int]) -> None:
        super().__init__("unix", name, flags)  # type: ignore[arg-type]
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk = disk
        self._content = None if path is None else disk.content(str(path))

    def xWrite(self, data: bytes, offset: int) -> None:
        disk = self._disk
        if disk.frozen:
            return
        if disk.fails("full"):
            error = apsw.FullError("the disk is full")
            error.extendedresult = apsw.SQLITE_FULL
            raise error
        if self._content is not None:
            self._content.writes.append((offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        if self._disk.frozen:
            return
        if self._content is not None:
            self._content.writes.append((size, None))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        disk = self._disk
        if disk.frozen:
            return
        if disk.fails("sync"):
            error = apsw.IOError("the disk does not take it")
            error.extendedresult = apsw.SQLITE_IOERR_FSYNC
            disk.unsafe = True
            if self._content is not None:
                # As Linux does: what could not be written passes for written, and is not tried again.
                self._content.writes.clear()
            raise error
        if self._content is not None:
            self._content.settle()


class Vfs(apsw.VFS):
    """SQLite's files on the present disk (:attr:`disk`)."""

    def __init__(self) -> None:
        self.disk = Disk()
        super().__init__(NAME, "unix")

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:
        return _File(self.disk, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:
        if not self.disk.frozen:
            self.disk.files.pop(name, None)
            super().xDelete(name, sync)
