"""Where the demo plays: a directory with a home of its own, of which nothing stays.

Whatever ends the demo (its end, a failure, Ctrl-C, a closed terminal), the place is
left as it was found: every process of its home is ended by its number, which a scan
has found by the home's name in its words or by the mark of its attempt, and the
directory is deleted.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import sys
import sysconfig
import tempfile
import time
from typing import TYPE_CHECKING, Any, Self

from vigie import procs
from vigie.agent.marks import Marks
from vigie.config import Home
from vigie.errors import UsageError, VigieError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Place", "copy", "default_tree"]

#: What to copy at most, enough work for two seconds: bytes, files, bytes of one file.
_BYTES = 12 * 1000 * 1000
_FILES = 3000
_LARGEST = 1000 * 1000
_SKIPPED = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests", ".git"})
#: Seconds for an agent to end when asked, and for the killed to be gone.
_ENDING = 5.0
_GONE = 10.0
_ELSEWHERE = "vigie demo --dir /usr/share/doc"


def default_tree() -> str:
    """Give the directory of Python's own library: on every machine, readable, and text.

    >>> os.path.isdir(default_tree())
    True
    """
    found = sysconfig.get_path("stdlib")
    return found if os.path.isdir(found) else os.path.dirname(os.path.abspath(os.__file__))


class Place:
    """A directory with a home; a context in which this process lives there.

    Parameters
    ----------
    prefix:
        How the directory's name begins.

    On entering, the working directory, ``VIGIE_HOME`` and ``VIRTUAL_ENV`` (so that
    function jobs run on Vigie's own Python) are those of the place; on leaving, all
    its processes are ended, and the rest is as before.
    """

    def __init__(self, prefix: str = "vigie-demo-") -> None:
        self.top = os.path.realpath(tempfile.mkdtemp(prefix=prefix))
        self.home = Home(os.path.join(self.top, "home"))
        self._before: dict[str, str] = {}
        self._handlers: dict[int, Any] = {}
        self._cwd = -1

    def __enter__(self) -> Self:
        self._before = dict(os.environ)
        os.environ["VIGIE_HOME"] = self.home.root
        os.environ.pop("VIGIE_CRASH_AT", None)
        os.environ.pop("VIRTUAL_ENV", None)
        if sys.prefix != sys.base_prefix:
            os.environ["VIRTUAL_ENV"] = sys.prefix
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, _leave)
        self._cwd = os.open(".", os.O_RDONLY | os.O_CLOEXEC) if os.path.isdir(".") else -1
        os.chdir(self.top)
        return self

    def __exit__(self, *error: object) -> None:
        # Cleaning up takes a moment, and must not be cut short.
        numbers = (signal.SIGINT, *self._handlers)
        before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
        try:
            self.end()
        finally:
            if self._cwd >= 0:
                os.fchdir(self._cwd)
                os.close(self._cwd)
            else:
                os.chdir("/")
            shutil.rmtree(self.top, ignore_errors=True)
            for name in [name for name in os.environ if name not in self._before]:
                del os.environ[name]
            os.environ.update(self._before)
            signal.signal(signal.SIGINT, before[0])
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def processes(self) -> list[procs.Process]:
        """Find the living processes of this home: agent, keeper, workers, and what jobs left."""
        tag = Marks(self.home.root).tag + "."
        return [
            found
            for found in procs.scan()
            if not found.zombie
            and found.pid != os.getpid()
            and ((found.mark or "").startswith(tag) or self._ours(found))
        ]

    def _ours(self, process: procs.Process) -> bool:
        words = _words(process.pid)
        ours = any(word in ("vigie.agent", "vigie.keeper") or word.endswith("worker.py") for word in words)
        return ours and self.home.root in words

    def members(self, job: int) -> list[procs.Process]:
        """Find the living processes of a job's attempts, by their mark alone."""
        begin = Marks(self.home.root).of(job, 0).removesuffix("0")
        return [found for found in procs.scan() if not found.zombie and (found.mark or "").startswith(begin)]

    def end(self) -> None:
        """End every process of this home: the agent is asked first, the others are killed.

        Raises
        ------
        RuntimeError
            When one could not be ended, naming it.
        """
        for found in self.processes():
            if "vigie.agent" in _words(found.pid):
                procs.send_signal(found.identity, signal.SIGTERM)
                _await(found, _ENDING)
        deadline = time.monotonic() + _GONE
        # Twice, for one that was just between fork and exec.
        while left := self.processes() or self.processes():
            if time.monotonic() > deadline:
                raise RuntimeError(f"these processes could not be ended: {left}")
            for found in left:
                procs.send_signal(found.identity, signal.SIGKILL)
            for found in left:
                _await(found, 1.0)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _words(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsdecode(file.read()).split("\0")
    except OSError:
        return []


def _await(process: procs.Process, seconds: float) -> None:
    """Wait until a process is gone, or the time is up."""
    deadline = time.monotonic() + seconds
    while procs.alive(process.identity) and time.monotonic() < deadline:
        time.sleep(0.01)


# --- the tree ---------------------------------------------------------------------


def copy(source: str, target: str) -> tuple[int, int]:
    """Copy a tree's plain files until there is work for two seconds; give how many and their bytes.

    Links, special files, caches, tests, large files and what may not be read are left out.

    Raises
    ------
    UsageError
        When there is no such directory, or nothing in it that can be copied.
    VigieError
        When there is no room for the copy.
    """
    if not os.path.isdir(source):
        raise UsageError(f"--dir {source}: there is no such directory", _ELSEWHERE)
    count = size = 0
    for path, length in _plain(source, os.path.dirname(os.path.abspath(target))):
        if size + length > _BYTES or count == _FILES:
            break
        where = os.path.join(target, os.path.relpath(path, source))
        os.makedirs(os.path.dirname(where), exist_ok=True)
        try:
            shutil.copyfile(path, where)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise VigieError(f"no room for a copy in {target}", "set TMPDIR to a directory with 100 MB") from None
            # It was deleted meanwhile, or cannot be read after all.
            continue
        count, size = count + 1, size + length
    if not count:
        raise UsageError(f"--dir {source}: no file in it can be read", _ELSEWHERE)
    return count, size


def _plain(source: str, avoided: str) -> Iterator[tuple[str, int]]:
    """Give path and bytes of what can be copied; nothing below ``avoided``."""
    for directory, below, names in os.walk(source):
        below[:] = sorted(name for name in below if name not in _SKIPPED and os.path.join(directory, name) != avoided)
        for name in sorted(names):
            path = os.path.join(directory, name)
            try:
                info = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(info.st_mode) and 0 < info.st_size <= _LARGEST and os.access(path, os.R_OK):
                yield path, info.st_size
