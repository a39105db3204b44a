"""The files that a worker and the agent share: page, journal, results.

The **page** is a mapping of 8192 bytes that both sides have open; a SIGKILL of
either keeps it. All numbers are u64 in the machine's own byte order, so that each
is read and written in one access:

====== ======== ===============================================================
offset name     meaning
====== ======== ===============================================================
0      magic    ``vigie-p1``
8      limit    agent: the highest sequence number that may start
16     started  worker: the one it is starting
24     ended    worker: the highest whose outcome is in the journal; map worker: the first of the batch it reads
32     length   worker: bytes used in the region
40     raw      worker: bytes of the file ``raw`` that are already records
48     holes    agent: how many of the holes may be in use
56     began    map worker: when ``started`` began (monotonic ns)
64     hole     agent: first and last of what was taken back; 32 times, free if last < first
4096   region   worker: the running job's records while they are few
====== ======== ===============================================================

Both sides write, pass a full memory barrier, then read what the other writes
(Dekker's pattern): of a job that is taken back and one that starts, exactly one
happens.

The **journal** has one sealed frame (see ``frames``) for each outcome, written
before ``ended`` rises.

Standard library only; the worker loads this file by path.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import threading
from collections import deque

from . import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = ["Journal", "Page", "PageError", "job_file", "read_journal", "read_result", "write_all", "write_result"]

_MAGIC = b"vigie-p1"
_LIMIT, _STARTED, _ENDED, _LENGTH, _RAW, _HOLES, _BEGAN = 1, 2, 3, 4, 5, 6, 7
#: Where the holes begin (words), and how many there can be.
_HOLE, _MOST_HOLES = 8, 32
_SIZE = 8192
_REGION = 4096
#: A page in memory has a larger region, for the results of a parallel run.
_IN_MEMORY = _REGION + (1 << 20)
#: Forgotten bytes at the head of a journal before its tail is written anew.
_COMPACT = 4 << 20
#: Here loads are not put before loads, nor stores before stores.
_TOTALLY_ORDERED = os.uname().machine in ("x86_64", "AMD64", "i686", "i386")


class PageError(ValueError):
    """The file is no page of ours."""


def _barrier(fd: int) -> Callable[[], None]:
    if _TOTALLY_ORDERED:
        # Taking a lock is a locked instruction there, and that is a full barrier.
        lock = threading.Lock()

        def local() -> None:
            lock.acquire()
            lock.release()

        return local

    import fcntl

    def shared() -> None:
        # Elsewhere only a critical section that both sides enter orders a store
        # before a later load.
        fcntl.flock(fd, fcntl.LOCK_EX)
        fcntl.flock(fd, fcntl.LOCK_UN)

    return shared


def _reserve(fd: int, size: int) -> None:
    os.ftruncate(fd, size)
    reserve = getattr(os, "posix_fallocate", None)
    if reserve is not None:
        reserve(fd, 0, size)


class Page:
    """The page of one worker; make one by :meth:`create` or :meth:`open`.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/page"
    >>> agent, worker = Page.create(path), Page.open(path)
    >>> agent.limit = 2
    >>> worker.may_start(1), agent.take_back(2), worker.may_start(2), agent.take_back(1)
    (True, True, False, False)
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        size = os.fstat(fd).st_size
        #: Bytes that the region holds.
        self.room = size - _REGION
        self._map = mmap.mmap(fd, size)
        if self._map[:8] != _MAGIC:
            self._map.close()
            raise PageError("the file does not begin as a page does")
        self._bytes = memoryview(self._map)
        self._words = self._bytes[:_REGION].cast("Q")
        self._pass = _barrier(fd)

    @classmethod
    def create(cls, path: str) -> Page:
        """Make a fresh page, in which nothing may start yet; its directory exists."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # With its blocks: a page that the disk has no room for kills whoever writes to it.
            _reserve(fd, _SIZE)
            os.pwrite(fd, _MAGIC, 0)
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def made(cls, fd: int) -> Page:
        """Make a page of a file that nobody else has written to, as memory without a name; the descriptor is its own.

        Whoever shares it with us has to be told when that is done.
        """
        try:
            os.ftruncate(fd, _IN_MEMORY)
            os.pwrite(fd, _MAGIC, 0)
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def open(cls, path: str) -> Page:
        """Open the page that someone made.

        Raises
        ------
        FileNotFoundError
            There is none.
        PageError
            The file is something else.
        """
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size < _SIZE:
                raise PageError(f"{path} is too short for a page")
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    def fileno(self) -> int:
        """Give the descriptor."""
        return self._fd

    def close(self) -> None:
        """Let go of the mapping; the file stays."""
        if self._fd >= 0:
            self._words.release()
            self._bytes.release()
            self._map.close()
            os.close(self._fd)
            self._fd = -1

    # --- numbers --------------------------------------------------------------

    @property
    def limit(self) -> int:
        """The highest sequence number that may start; the agent raises it before it sends jobs."""
        return self._words[_LIMIT]

    @limit.setter
    def limit(self, seq: int) -> None:
        self._words[_LIMIT] = seq

    @property
    def started(self) -> int:
        """The newest job that began."""
        return self._words[_STARTED]

    @property
    def ended(self) -> int:
        """The newest job whose outcome is in the journal."""
        return self._words[_ENDED]

    @ended.setter
    def ended(self, seq: int) -> None:
        self._words[_ENDED] = seq

    #: A map worker has no journal on disk; here stands the first of the batch that it reads.
    reading = ended

    @property
    def raw(self) -> int:
        """How many bytes of the worker's raw output are already records."""
        return self._words[_RAW]

    @raw.setter
    def raw(self, size: int) -> None:
        self._words[_RAW] = size

    @property
    def began(self) -> int:
        """When the newest item began (monotonic ns)."""
        return self._words[_BEGAN]

    @began.setter
    def began(self, instant: int) -> None:
        self._words[_BEGAN] = instant

    def may_start(self, seq: int) -> bool:
        """Begin a job, as the worker: False if it was taken back, and then it has not begun."""
        words = self._words
        before = words[_STARTED]
        words[_STARTED] = seq
        self._pass()
        if seq <= words[_LIMIT]:
            # Only now the holes: whoever sees a limit that was raised again sees the hole under it.
            if not _TOTALLY_ORDERED:
                self._pass()
            if not words[_HOLES] or not self.taken(seq):
                return True
        words[_STARTED] = before
        return False

    def fill_holes(self) -> None:
        """Forget what was taken back, as a worker that has dropped all that it was given."""
        self._words[_HOLES] = 0

    def taken(self, seq: int) -> bool:
        """Tell whether a job was taken back for good."""
        words = self._words
        return any(words[at] <= seq <= words[at + 1] for at in self._holes())

    def _holes(self) -> range:
        return range(_HOLE, _HOLE + 2 * self._words[_HOLES], 2)

    def take_back(self, seq: int) -> bool:
        """Take the job ``seq`` and all above it back, as the agent.

        True: none of them has begun or ever will, and ``limit`` may be raised
        for others. False: ``seq`` has begun, nothing is taken back; should the
        worker say ``held`` about it after all, it did not begin. (False as well
        if 32 earlier calls made holes that the worker has not passed yet.)
        """
        words = self._words
        limit = words[_LIMIT]
        if limit < seq:
            self._pass()
            return words[_STARTED] < seq
        words[_LIMIT] = seq - 1
        self._pass()
        if words[_STARTED] < seq and self._dig(seq, limit):
            self._pass()
            return True
        words[_LIMIT] = limit
        return False

    def withhold(self) -> int:
        """Let nothing more start, as an agent that has just begun; give what has started.

        The job of that number may yet turn out not to have begun: when the worker
        says hello, ``started`` is final for all that it had been given before.
        """
        self._words[_LIMIT] = 0
        self._pass()
        return self._words[_STARTED]

    def _dig(self, first: int, last: int) -> bool:
        """Make a hole. A worker that looks meanwhile is stopped by ``limit``."""
        words = self._words
        free = 0
        for at in self._holes():
            if words[at] == last + 1 <= words[at + 1]:
                words[at] = first
                return True
            if words[at + 1] < words[_STARTED]:
                # It has been passed: what stood in it cannot come any more.
                words[at + 1] = 0
                free = free or at
        if not free:
            free = _HOLE + 2 * words[_HOLES]
            if words[_HOLES] == _MOST_HOLES:
                return False
        words[free] = first
        words[free + 1] = last
        words[_HOLES] = max(words[_HOLES], (free - _HOLE) // 2 + 1)
        return True

    # --- the region -----------------------------------------------------------

    @property
    def length(self) -> int:
        """Bytes used in the region."""
        return self._words[_LENGTH]

    def records(self) -> bytes:
        """Give the records in the region: those of the job ``started``."""
        return bytes(self._bytes[_REGION : _REGION + min(self._words[_LENGTH], self.room)])

    def append(self, data: bytes) -> bool:
        """Add records to the region; False if they do not fit, and then nothing is added."""
        at = self._words[_LENGTH]
        end = at + len(data)
        if end > self.room:
            return False
        self._bytes[_REGION + at : _REGION + end] = data
        self._words[_LENGTH] = end
        return True

    def clear(self) -> None:
        """Empty the region."""
        self._words[_LENGTH] = 0


class Journal:
    """The journal of one worker, open for writing; a torn tail is cut off first.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/journal"
    >>> journal = Journal(path)
    >>> journal.append({"seq": 1, "how": "return", "result": 0}, [b"42"])
    >>> journal.close()
    >>> read_journal(path)
    [({'seq': 1, 'how': 'return', 'result': 0}, [b'42'])]
    """

    def __init__(self, path: str) -> None:
        self._path = path
        found, size = _read(path)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._fd, size)
        self._size = size
        #: (seq, where its frame ends) of what is not forgotten.
        self._ends: deque[tuple[int, int]] = deque()
        if found:
            # Where the frames of an earlier life end is not worth knowing: they go together.
            self._ends.append((int(found[-1][0]["seq"]), size))

    def append(self, header: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Write one outcome.

        Raises
        ------
        OSError
            It could not be written, as on a full disk; the journal is as before.
        """
        self.append_frame(int(header["seq"]), frames.encode(header, blobs))

    def append_frame(self, seq: int, frame: bytes) -> None:
        """Write one outcome that is a frame already; as :meth:`append`."""
        data = frames.seal(frame)
        try:
            write_all(self._fd, data)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)
        self._ends.append((seq, self._size))

    def forget(self, seq: int) -> None:
        """Drop the outcomes up to and including ``seq``; they are committed elsewhere."""
        ends = self._ends
        gone = 0
        while ends and ends[0][0] <= seq:
            gone = ends.popleft()[1]
        if not ends:
            if self._size:
                os.ftruncate(self._fd, 0)
                self._size = 0
        elif gone > _COMPACT:
            self._rewrite(gone)
        elif gone:
            # Remembered as forgotten, so that a later call may drop it.
            ends.appendleft((-1, gone))

    def _rewrite(self, start: int) -> None:
        fresh = self._path + ".new"
        with open(self._path, "rb") as source:
            source.seek(start)
            tail = source.read()
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, tail)
            os.rename(fresh, self._path)
        except OSError:
            os.close(fd)
            self._ends.appendleft((-1, start))
            return
        os.close(self._fd)
        self._fd = fd
        self._size -= start
        self._ends = deque((seq, end - start) for seq, end in self._ends)

    def fileno(self) -> int:
        """Give the descriptor."""
        return self._fd

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _read(path: str) -> tuple[list[frames.Frame], int]:
    try:
        with open(path, "rb") as file:
            return frames.unseal(file.read())
    except FileNotFoundError:
        return [], 0


def read_journal(path: str) -> list[frames.Frame]:
    """Give the outcomes in a journal as ``(header, blobs)``, without a torn tail; none if it is missing."""
    return _read(path)[0]


def write_all(fd: int, data: bytes) -> None:
    """Write every byte, also where one ``write`` takes only a part."""
    written = os.write(fd, data)
    if written < len(data):
        view = memoryview(data)
        while written < len(data):
            written += os.write(fd, view[written:])


def job_file(home: str, job: int, stream: str, attempt: int = 1) -> str:
    """Give the path that ``config.Home.job_file`` gives, where that cannot be imported.

    >>> job_file("/h", 1042, "result", 2)
    '/h/jobs/042/1042/result.2'
    """
    name = stream if attempt <= 1 else f"{stream}.{attempt}"
    return os.path.join(home, "jobs", f"{job % 1000:03d}", str(job), name)


def make_parents(path: str) -> None:
    """Make the directories of a job's file, each 0700 whatever the umask."""
    directory = os.path.dirname(path)
    if os.path.isdir(directory):
        return
    for wanted in (os.path.dirname(os.path.dirname(directory)), os.path.dirname(directory), directory):
        try:
            os.mkdir(wanted, 0o700)
            os.chmod(wanted, 0o700)
        except FileExistsError:
            continue


def write_result(path: str, encoding: str, data: bytes) -> None:
    """Write a large result beside its job, durably.

    Parameters
    ----------
    path:
        Where: ``job_file(…, "result", …)``; directories are made.
    encoding:
        ``json`` or ``pickle``.

    Raises
    ------
    OSError
        It could not be written; nothing is left at ``path``.
    """
    make_parents(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)
        write_all(fd, json.dumps({"encoding": encoding}).encode() + b"\n")
        write_all(fd, data)
        os.fsync(fd)
        _sync_names(path)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(fd)


def _sync_names(path: str) -> None:
    """Put the name of a job's file on disk, and those of its directories, whoever made them."""
    for _ in range(3):
        path = os.path.dirname(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as error:
            # Some file systems do not sync directories, and need not.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(fd)


def read_result(path: str) -> tuple[str, bytes]:
    """Read what :func:`write_result` wrote: the encoding, and the payload."""
    with open(path, "rb") as file:
        header = json.loads(file.readline())
        return str(header["encoding"]), file.read()
