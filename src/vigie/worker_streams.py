"""What a job says: ``sys.stdout``, ``sys.stderr`` and descriptors 1 and 2 become records.

All of it goes through one :class:`Sink`, in the order in which it happens. While a
job's records are few and young they stay in the worker's page, which costs no
system call; then they go to the job's file. Both outlive a SIGKILL. The worker
loads this file by path.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections import deque

from . import records, workfiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .workfiles import Page

__all__ = ["Recorder", "Sink"]

#: A line this long is no longer waited for.
_LONGEST_PENDING = 1 << 16
_CHUNK = 1 << 20
#: Raw output that is in records is dropped from the worker's file beyond this size.
_RAW_KEPT = 1 << 20
#: How long records may stay in the page (ns). The flusher looks every 10 ms.
_YOUNG = 10_000_000


class Sink:
    """Where the records of the running job go.

    Parameters
    ----------
    page:
        The worker's page.
    home:
        The directory that holds ``jobs/``.
    """

    def __init__(self, page: Page, home: str) -> None:
        # Reentrant: a signal handler may print while its own thread is in here.
        self.lock = threading.RLock()
        self.page = page
        self.home = home
        #: A job runs, and this is the process that runs it.
        self.active = False
        self.in_child = False
        self._job = (0, 0)
        self._began = 0
        self._fd = -1
        self._size = 0
        self._dropped = 0
        self._why = ""
        self._emitting = self._taking = False
        self._waiting: deque[bytes] = deque()
        #: Unfinished lines by thread, so that two that print do not cut each other's.
        self._pending: dict[int, _Partial] = {}
        self._raw = _open_raw()
        self._raw_size = self._raw_length()
        self.page.raw = self._raw_size
        os.register_at_fork(before=self.lock.acquire, after_in_parent=self.lock.release, after_in_child=self._forked)

    def _forked(self) -> None:
        # The page is shared: a child that wrote there would write into its parent's records.
        self.in_child = True
        self.active = False
        self._pending.clear()
        self._waiting.clear()
        self._emitting = self._taking = False
        self.lock.release()

    # --- a job's life ---------------------------------------------------------

    def begin(self, job: int, attempt: int) -> None:
        """Start with the records of a job; called before the page says that it started."""
        self.page.clear()
        self._job = (job, attempt)
        self._began = time.monotonic_ns()
        self._dropped = 0
        if self._pending:
            self.flush(everyone=True)
        self.active = True

    def end(self) -> bytes | None:
        """Finish a job's records and give those that fit into its outcome."""
        with self.lock:
            if self._pending:
                self.flush(everyone=True)
            self._take_raw(last=True)
            if self._waiting:
                self._drain()
            extra = self._confess() if self._dropped else b""
            self.active = False
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
                return None
            held = self.page.records() if self.page.length else b""
            return (held + extra) or None

    def _confess(self) -> bytes:
        """Say that records were dropped: in the file if it takes that much, else with the outcome."""
        text = f"{self._dropped} records could not be kept: {self._why}"
        line = records.encode("warning", _now(), text=text, level="warning")
        if self._fd >= 0:
            self._write(line)
            return b""
        return line

    def resync(self) -> None:
        """Note what stray threads wrote while no job ran, so that it is no job's."""
        if self._raw >= 0:
            self._raw_size = self._raw_length()
            self.page.raw = self._raw_size

    def tick(self) -> None:
        """Pass on what has waited long enough; called by the flusher."""
        with self.lock:
            if not self.active:
                return
            for thread, partial in list(self._pending.items()):
                if partial.old:
                    self.flush(thread)
                partial.old = True
            self._take_raw()
            old = time.monotonic_ns() - self._began >= _YOUNG
            if old and self._fd < 0 and self.page.length:
                self._spill()

    # --- what is recorded -----------------------------------------------------

    def write(self, stream: str, text: str) -> None:
        """Take text from ``sys.stdout`` or ``sys.stderr``: a record ends with a line."""
        with self.lock:
            thread = threading.get_ident()
            # Whatever is taken out is ours: a signal handler may print between any two lines.
            held = self._pending.pop(thread, None)
            if held is not None and held.stream != stream:
                self._record(held.stream, "".join(held.parts))
                held = None
            if text[-1:] == "\n":
                if held is not None:
                    held.parts.append(text)
                    text = "".join(held.parts)
                self._record(stream, text)
            elif text or held is not None:
                self._keep(thread, held or _Partial(stream), text)

    def _keep(self, thread: int, held: _Partial, text: str) -> None:
        held.parts.append(text)
        held.size += len(text)
        kept = self._pending.setdefault(thread, held)
        if kept is not held:
            kept.parts.extend(held.parts)
        if held.size > _LONGEST_PENDING:
            self.flush()

    def write_bytes(self, stream: str, data: bytes) -> None:
        """Take bytes from ``sys.stdout.buffer``: one record each time."""
        with self.lock:
            if data:
                self.flush()
                self._record(stream, data)

    def record(self, stream: str, **payload: Any) -> None:
        """Take any other record; ``payload`` is that of ``records.encode``."""
        with self.lock:
            if self.active:
                self.flush()
                self._take_raw()
                self._emit(records.encode(stream, _now(), **payload))
            elif payload.get("text") is not None:
                text = payload["text"]
                data = text if isinstance(text, bytes) else records.to_bytes(text)
                self._stray("error", data if data.endswith(b"\n") else data + b"\n")

    def flush(self, thread: int | None = None, everyone: bool = False) -> None:
        """Make a record of the unfinished line of this thread, of another, or of all."""
        with self.lock:
            for who in list(self._pending) if everyone else (thread or threading.get_ident(),):
                held = self._pending.pop(who, None)
                if held is not None:
                    self._record(held.stream, "".join(held.parts))

    def _record(self, stream: str, text: str | bytes) -> None:
        if not self.active:
            self._stray(stream, text if isinstance(text, bytes) else records.to_bytes(text))
            return
        self._take_raw()
        self._emit(records.encode(stream, _now(), text=text))

    def _stray(self, stream: str, data: bytes) -> None:
        """Write what belongs to no job, or comes from a forked child, to the descriptor."""
        try:
            workfiles.write_all(2 if stream == "error" else 1, data)
        except OSError:
            pass  # nobody is left to tell

    # --- page and file --------------------------------------------------------

    def _emit(self, line: bytes) -> None:
        # A signal handler that prints may have come between the lines below.
        self._waiting.append(line)
        if not self._emitting:
            self._drain()

    def _drain(self) -> None:
        self._emitting = True
        try:
            while self._waiting:
                self._put(self._waiting.popleft())
        finally:
            self._emitting = False

    def _put(self, line: bytes) -> None:
        if self._fd < 0 and (self.page.append(line) or not self._spill(line)):
            return
        self._write(line)

    def _spill(self, line: bytes | None = None) -> bool:
        """Move from the page to the file; ``line`` is lost with it if that fails."""
        path = workfiles.job_file(self.home, self._job[0], "records", self._job[1])
        fd = -1
        try:
            workfiles.make_parents(path)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.fchmod(fd, 0o600)
            self._size = os.fstat(fd).st_size
            held = self.page.records()
            workfiles.write_all(fd, held)
        except OSError as error:
            if fd >= 0:
                os.ftruncate(fd, self._size)
                os.close(fd)
            if line is not None:
                self._drop(error)
            return False
        self._fd = fd
        self._size += len(held)
        self.page.clear()
        return True

    def _write(self, line: bytes) -> None:
        try:
            workfiles.write_all(self._fd, line)
            self._size += len(line)
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            self._drop(error)
        except BaseException:
            # KeyboardInterrupt in the middle of a line.
            os.ftruncate(self._fd, self._size)
            raise

    def _drop(self, error: OSError) -> None:
        self._dropped += 1
        self._why = error.strerror or str(error)

    # --- descriptors 1 and 2 --------------------------------------------------

    @property
    def has_raw(self) -> bool:
        """Whether descriptor 1 is a file, in which raw output can be seen."""
        return self._raw >= 0

    def _raw_length(self) -> int:
        return os.lseek(self._raw, 0, os.SEEK_END) if self._raw >= 0 else 0

    def _take_raw(self, last: bool = False) -> None:
        """Make records of what C code and children wrote to descriptors 1 and 2."""
        if self._raw < 0 or self._taking:
            return
        size = os.lseek(self._raw, 0, os.SEEK_END)
        if size == self._raw_size:
            return
        self._taking = True
        try:
            self._take_new(size, last)
        finally:
            self._taking = False
        if last and self._raw_size > _RAW_KEPT:
            self._forget_raw()
        self.page.raw = self._raw_size

    def _take_new(self, size: int, last: bool) -> None:
        if size < self._raw_size:
            self._raw_size = 0  # somebody opened it afresh and cut it off
        while self._raw_size < size:
            data = os.pread(self._raw, min(_CHUNK, size - self._raw_size), self._raw_size)
            if not (last and self._raw_size + len(data) >= size):
                data = _whole(data)
            if not data:
                break
            self._raw_size += len(data)
            self._emit(records.encode("output", _now(), text=data, raw=True))

    def _forget_raw(self) -> None:
        try:
            os.truncate("/proc/self/fd/%d" % self._raw, 0)
            self._raw_size = 0
        except OSError:
            pass  # it grows, that is all


class _Partial:
    """The beginning of a line."""

    __slots__ = ("old", "parts", "size", "stream")

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.parts: list[str] = []
        self.size = 0
        #: The flusher has seen it before.
        self.old = False


def _open_raw() -> int:
    """Open what is behind descriptor 1 for reading, if it is a file."""
    try:
        import stat

        if stat.S_ISREG(os.fstat(1).st_mode):
            return os.open("/proc/self/fd/1", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        pass
    return -1


def _whole(data: bytes) -> bytes:
    """Cut off a character of UTF-8 whose rest has yet to come."""
    try:
        data[-4:].decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return data[: len(data) - len(data[-4:]) + error.start]
        for back in (1, 2, 3):
            if len(data) >= back and data[-back] >= 0xC0:
                needs = 2 if data[-back] < 0xE0 else 3 if data[-back] < 0xF0 else 4
                return data[:-back] if needs > back else data
    return data


def _now() -> int:
    return time.time_ns() // 1000


class _Bytes(io.BufferedIOBase):
    """``sys.stdout.buffer``."""

    def __init__(self, owner: Recorder) -> None:
        self._owner = owner
        self.name = owner.name
        self.mode = "wb"
        self.raw: Any = self

    def write(self, data: Any) -> int:
        if isinstance(data, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        kept = bytes(data)
        self._owner.sink.write_bytes(self._owner.stream, kept)
        return len(kept)

    def flush(self) -> None:
        self._owner.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._owner.fileno()

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        # A TextIOWrapper around it closes it when it is collected; the next job needs it.
        self.flush()

    @property
    def closed(self) -> bool:
        return False


class Recorder(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr`` of every job of a worker.

    Parameters
    ----------
    sink:
        Takes what is written.
    stream:
        ``output`` or ``error``.
    fd:
        1 or 2, for C code that asks for it.
    """

    def __init__(self, sink: Sink, stream: str, fd: int) -> None:
        self.sink = sink
        self.stream = stream
        self._fd = fd
        self.name = "<stdout>" if fd == 1 else "<stderr>"
        self.mode = "w"
        self.line_buffering = True
        self.write_through = False
        self.buffer: Any = _Bytes(self)

    encoding = property(lambda self: "utf-8")
    errors = property(lambda self: "surrogateescape")
    newlines = property(lambda self: None)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.sink.write(self.stream, text)
        return len(text)

    def flush(self) -> None:
        self.sink.flush()

    def reconfigure(self, **options: Any) -> None:
        """Accept what a TextIOWrapper accepts: text is kept as it is, whatever the encoding."""

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        # Stays open for the next job.
        self.flush()

    @property
    def closed(self) -> bool:
        return False
