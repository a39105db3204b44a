"""A directory with a home of its own, of which nothing stays.

Whatever ends its use (the end, a failure, Ctrl-C, a closed terminal), the place is
left as it was found: every process of its home is ended by its number, which a scan
has found by the home's name in its words or by the mark of its attempt, and the
directory is deleted.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, Self

from vigie import procs
from vigie.agent.marks import Marks
from vigie.config import Home

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Place"]

#: Seconds for an agent to end when asked, and for the killed to be gone.
_ENDING = 5.0
_GONE = 10.0
#: By what a command line shows which process of ours it is.
_KINDS = {"agent": "vigie.agent", "keeper": "vigie.keeper", "worker": "worker.py"}


class Place:
    """A directory with a home; a context in which this process lives there.

    Parameters
    ----------
    prefix:
        How the directory's name begins.

    Attributes
    ----------
    keep:
        Set it to leave the directory where it is; its processes are ended all the same.

    On entering, the working directory, ``VIGIE_HOME`` and ``VIRTUAL_ENV`` (so that
    function jobs run on Vigie's own Python) are those of the place; on leaving, all
    its processes are ended, and the rest is as before.
    """

    def __init__(self, prefix: str = "vigie-demo-") -> None:
        self.top = os.path.realpath(tempfile.mkdtemp(prefix=prefix))
        self.home = Home(os.path.join(self.top, "home"))
        self.keep = False
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
            if not self.keep:
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
        return self.kind(process.pid) is not None

    def kind(self, pid: int) -> str | None:
        """Tell which process of ours a number is: ``agent keeper worker``; None if none of this home."""
        words = _words(pid)
        if self.home.root not in words:
            return None
        found = (kind for word in words for kind, end in _KINDS.items() if word.endswith(end))
        return next(found, None)

    def number(self, pid: int) -> int:
        """Give the number of a worker of this home; 0 for others."""
        words = [word for word in _words(pid) if word]
        return int(words[-1]) if words and words[-1].isdigit() else 0

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
            if self.kind(found.pid) == "agent":
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
