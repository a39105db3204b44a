"""One command of a run: how it ended, and while it runs, all that it has started."""

from __future__ import annotations

import os
import signal
import time

from vigie import pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any

    from vigie.engines.batch import Batch
    from vigie.procs import Identity

__all__ = ["GRACE", "CommandFailed", "Done", "Running", "families"]

#: Seconds between SIGTERM and SIGKILL.
GRACE = 2.0


class Done:
    """One try at a command.

    Attributes
    ----------
    items:
        The items that it was made of.
    seq, slot:
        Its number, and the lowest one that no other command had then; from 1 on.
    status:
        Its exit status, or minus the signal that ended it.
    timed_out:
        Whether it was ended for taking too long.
    began, took:
        When it began (epoch seconds), and for how long it ran (s).
    out, err:
        Files of what it wrote, if the outlet keeps them; who has shown them closes them.
    """

    __slots__ = ("argv", "began", "err", "items", "out", "seq", "slot", "status", "timed_out", "took")

    def __init__(self, items: Sequence[bytes], argv: list[bytes], seq: int, slot: int) -> None:
        self.items = items
        self.argv = argv
        self.seq = seq
        self.slot = slot
        self.status = 0
        self.timed_out = False
        self.began = time.time()
        self.took = 0.0
        self.out = self.err = -1

    def __reduce__(self) -> Any:
        """Travel as nothing: what a journal keeps of a command is that it ended well."""
        return type(None), ()

    def close(self) -> None:
        """Let go of the files."""
        out, err, self.out, self.err = self.out, self.err, -1, -1
        for fd in (out, err):
            if fd >= 0:
                os.close(fd)

    def __del__(self) -> None:
        self.close()

    def failure(self) -> str:
        """Say how it failed.

        >>> done = Done([b"x"], [b"false"], 1, 1)
        >>> done.status = -9
        >>> done.failure()
        'ended by SIGKILL'
        """
        if self.timed_out:
            return "took too long"
        if self.status < 0:
            try:
                return f"ended by {signal.Signals(-self.status).name}"
            except ValueError:
                return f"ended by signal {-self.status}"
        return f"exit status {self.status}"


class CommandFailed(Exception):
    """A command did not end with 0; ``done`` is how it ended."""

    def __init__(self, done: Done) -> None:
        super().__init__(done.failure())
        self.done = done


class Running:
    """A command that runs, in a process group of its own; ``ended`` is called when something has become of it."""

    __slots__ = ("batch", "below", "done", "doomed", "ended", "mono", "pid", "pidfd", "why")

    def __init__(self, batch: Batch, done: Done, pid: int, ended: Callable[[Running], None]) -> None:
        self.batch = batch
        self.done = done
        self.pid = pid
        self.ended = ended
        self.pidfd = pidfd.open_pid(pid)
        self.mono = time.monotonic()
        #: When it is killed for good, once it was told to end, and why it was.
        self.doomed: float | None = None
        self.why = ""
        #: What it had started by then, wherever that went.
        self.below: Collection[Identity] = ()

    def __call__(self) -> None:
        self.ended(self)

    def signal(self, number: int) -> None:
        """Send a signal to its process group, and to what it has started that has left that."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass
        if self.below:
            from vigie.procs import send_signal

            for identity in self._strays():
                send_signal(identity, number)

    def _strays(self) -> list[Identity]:
        from vigie.procs import alive

        found = []
        for identity in self.below:
            try:
                if os.getpgid(identity.pid) != self.pid and alive(identity):
                    found.append(identity)
            except ProcessLookupError:
                pass
        return found

    def lives(self) -> bool:
        """Tell whether anything of it is left, whatever has become of itself."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return bool(self._strays())
        except PermissionError:
            pass
        return True

    def doom(self, below: Collection[Identity], why: str) -> None:
        """Ask it to end, and say when it will have to."""
        self.doomed, self.why, self.below = time.monotonic() + GRACE, why, below
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)

    def kill(self, below: Collection[Identity] = ()) -> None:
        """End it."""
        self.below = {*self.below, *below}
        self.signal(signal.SIGKILL)


def families(running: Collection[Running]) -> dict[int, set[Identity]]:
    """Give what commands have started, by their pids."""
    from vigie.proctree import descendants_of

    return descendants_of([one.pid for one in running])
