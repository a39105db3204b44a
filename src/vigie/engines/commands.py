"""Commands as items of a parallel run: each is a process of its own, in a process group of its own.

Where its output goes is the outlet's matter (``vigie.shellmap.outlets``): this starts commands, waits
for them, and ends those that take too long or are not wanted any more, with all that they have started.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import time

from vigie.engines.batch import LONGEST, Back, Batch, Event, Failed, Group, Lost
from vigie.engines.command import GRACE, CommandFailed, Done, Running, families
from vigie.engines.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any, Protocol

    class Outlet(Protocol):
        """Where the output of commands goes."""

        def attach(self, watch: Watch) -> None: ...
        def open(self, done: Done) -> tuple[int, int]: ...
        def begun(self, done: Done) -> None: ...
        def ended(self, done: Done) -> None: ...


__all__ = ["Commands", "Outlet"]

#: Bytes of a name that are told.
_SHOWN = 200
#: Where pidfds are missing: seconds between two looks at who has ended.
LOOK = 0.01
#: What a shell gives for a command that is not there, or cannot be run.
NOT_FOUND, NOT_EXECUTABLE = 127, 126
#: There are not enough processes, memory or open files for another one.
_SCARCE = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
#: Python ignores some signals; whoever is started would ignore them too.
_DEFAULTED = tuple(getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name))


def _which(name: bytes, path: bytes) -> bytes | None:
    """Find a program in the directories of a search path; ``shutil`` takes longer to load than a command to run.

    As a shell does: a file that may not be run is what is meant if there is no other.
    """
    refused = None
    for directory in path.split(b":"):
        found = os.path.join(directory or b".", name)
        if os.path.isfile(found):
            if os.access(found, os.X_OK):
                return found
            refused = refused or found
    return refused


class Commands:
    """Runs commands; as the other engines.

    Parameters
    ----------
    fill:
        Gives the words of a command: ``fill(items, seq, slot)``.
    limit:
        How many run at once.
    outlet:
        Where their output goes.
    timeout:
        Seconds that one may take.
    gate:
        Tells whether another may start now, and otherwise after how many seconds to look again.
    files:
        The limits of open files (soft, hard) that commands are to have, if they are not ours.
    """

    place = "commands"

    def __init__(
        self, fill: Callable[[Sequence[bytes], int, int], list[bytes]], limit: int, outlet: Outlet, *,
        timeout: float | None = None, gate: Callable[[int], float | None] | None = None,
        files: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        self.fill = fill
        self.limit = limit
        self.timeout = timeout
        self._watch = Watch()
        self._outlet = outlet
        self._gate = gate
        self._files = files
        #: Seconds until the gate is to be asked again, if it is closed.
        self._closed_for: float | None = None
        self._programs: dict[bytes, bytes | None] = {}
        self._environment = dict(os.environb)
        self._running: dict[int, Running] = {}
        #: Commands that were told to end and have, but not all that they had started.
        self._leaving: list[Running] = []
        self._slots: list[int] = []
        self._highest = 0
        #: Whether the system says of each when it has ended.
        self._watched = True
        #: How many were ended because they were not wanted any more.
        self.stopped = 0
        self._events: list[Event] = []
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        self._watch.add(self._wake[0], self._woken)
        outlet.attach(self._watch)

    # --- what it can take -------------------------------------------------------

    def room(self) -> int:
        """Give how many commands may start now."""
        room = self.limit - len(self._running)
        self._closed_for = None
        if room > 0 and self._gate is not None:
            self._closed_for = self._gate(len(self._running))
            if self._closed_for is not None:
                return 0
        return max(0, room)

    def most(self) -> int | None:
        """One command is one item."""
        return 1

    def busy(self) -> int:
        """Give how many run."""
        return len(self._running)

    def held_bytes(self) -> int:
        """What is kept is on the disk."""
        return 0

    def take_back(self, least: int = 2) -> None:
        """Whatever was given has begun."""

    def resize(self, limit: int) -> None:
        """Have so many run at once from now on."""
        self.limit = limit

    # --- starting ---------------------------------------------------------------

    def give(self, batch: Batch) -> None:
        """Start a command."""
        slot = self._take_slot()
        items, seq = batch.items[0], batch.index + 1
        done = Done(items, self.fill(items, seq, slot), seq, slot)
        try:
            out, err = self._outlet.open(done)
        except OSError as error:
            if error.errno not in _SCARCE or not self._running:
                raise
            self._slots.append(slot)
            self._later(batch)
            return
        actions: list[Any] = [(os.POSIX_SPAWN_DUP2, self._null, 0)]
        if out >= 0:
            actions += [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)]
        try:
            pid = self._spawn(self._program(done.argv[0]), done.argv, actions)
        except OSError as error:
            if error.errno in _SCARCE and self._running:
                self._outlet.begun(done)
                self._outlet.ended(done)
                self._slots.append(slot)
                self._later(batch)
            else:
                self._refuse(batch, done, err, error)
            return
        self._outlet.begun(done)
        running = self._running[pid] = Running(batch, done, pid, self.reap)
        if running.pidfd is None:
            self._watched = False
        else:
            self._watch.add(running.pidfd, running)

    def _spawn(self, program: bytes, argv: list[bytes], actions: list[Any]) -> int:
        ours = None
        if self._files is not None:
            # A child has what its parent has at that moment; what is open already stays so.
            ours = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, self._files)
        try:
            return os.posix_spawn(
                program, argv, self._environment, file_actions=actions, setpgroup=0, setsigdef=_DEFAULTED
            )
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script that does not say whose it is, is the shell's.
            return self._spawn(b"/bin/sh", [b"sh", program, *argv[1:]], actions)
        finally:
            if ours is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, ours)

    def _take_slot(self) -> int:
        if self._slots:
            self._slots.sort(reverse=True)
            return self._slots.pop()
        self._highest += 1
        return self._highest

    def _program(self, name: bytes) -> bytes:
        """Find a program once, as a shell does."""
        if b"/" in name:
            return name
        if name not in self._programs:
            self._programs[name] = _which(name, self._environment.get(b"PATH", os.defpath.encode()))
        found = self._programs[name]
        if found is None:
            raise FileNotFoundError(2, "not found")
        return found

    def _refuse(self, batch: Batch, done: Done, err: int, error: OSError) -> None:
        """Let a command that cannot be started have failed, as in a shell."""
        done.status = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        why = (error.strerror or str(error)).encode()
        try:
            # A name may be longer than what a pipe takes.
            os.write(err if err >= 0 else 2, b"vigie map: cannot run %b: %b\n" % (done.argv[0][:_SHOWN], why))
        except OSError:
            pass  # nobody can be told
        self._outlet.begun(done)
        self._over(batch, done)

    def _later(self, batch: Batch) -> None:
        """Start a command when others have ended: the system has no room for more now."""
        self.limit = len(self._running)
        self._events.append(Back(batch))

    # --- what has happened --------------------------------------------------------

    def poll(self, wait: float | None) -> list[Event]:
        """Give what has happened, waiting up to ``wait`` seconds for something (None: for ever)."""
        if self._events:
            wait = 0
        if wait != 0:
            due = self._due()
            wait = due if wait is None else min(wait, due)
        self._watch.wait(wait)
        if not self._watched:
            for running in list(self._running.values()):
                self.reap(running)
        if self.timeout is not None or self._leaving or any(one.doomed is not None for one in self._running.values()):
            self._enforce()
        events, self._events = self._events, []
        return events

    def _due(self) -> float:
        """Give the seconds until there is something to do, whatever else happens."""
        least = LONGEST if self._closed_for is None else min(LONGEST, self._closed_for)
        least = least if self._watched else LOOK
        now = time.monotonic()
        for running in (*self._running.values(), *self._leaving):
            end = running.doomed
            if end is None and self.timeout is not None:
                end = running.mono + self.timeout
            if end is not None:
                least = min(least, max(0.001, end - now))
        return least

    def _woken(self) -> None:
        try:
            os.read(self._wake[0], 4096)
        except BlockingIOError:
            pass

    def _enforce(self) -> None:
        now = time.monotonic()
        for running in list(self._running.values()):
            if running.doomed is not None:
                if now >= running.doomed:
                    running.kill(families([running])[running.pid])
                    running.doomed = now + GRACE
            elif self.timeout is not None and now - running.mono > self.timeout:
                self._doom([running], "timeout")
        for running in list(self._leaving):
            if not running.lives():
                self._leaving.remove(running)
            elif now >= (running.doomed or 0.0):
                running.kill()
                self._leaving.remove(running)

    def _doom(self, condemned: Collection[Running], why: str) -> None:
        """Have commands end, with all that they have started: ask now, and force it later."""
        below = families(condemned)
        for running in condemned:
            running.doom(below[running.pid], why)

    def reap(self, running: Running) -> None:
        """Take the end of a command, if it has ended."""
        try:
            pid, status = os.waitpid(running.pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = running.pid, 255 << 8  # somebody else in this process has waited for it
        if not pid:
            return
        del self._running[running.pid]
        if running.pidfd is not None:
            self._watch.remove(running.pidfd)
            os.close(running.pidfd)
        done = running.done
        done.took = time.monotonic() - running.mono
        done.status = os.waitstatus_to_exitcode(status)
        done.timed_out = running.why == "timeout"
        if running.doomed is not None and running.lives():
            self._leaving.append(running)
        self._over(running.batch, done, running.why)

    def _over(self, batch: Batch, done: Done, why: str = "") -> None:
        self._slots.append(done.slot)
        self._outlet.ended(done)
        spent = int(done.took * 1e9)
        if why == "again":
            self._events.append(Back(batch))
        elif why == "skip" or (why == "stop" and done.status):
            self.stopped += why == "stop"
            self._events.append(Lost(batch.index, batch.items[0], spent, done.slot, "stopped", 0))
        elif done.status == 0 and not done.timed_out:
            self._events.append(Group(batch.index, [spent], [done], done.slot, 1))
        else:
            self._events.append(Failed(batch.index, batch.items[0], spent, done.slot, "", "", "", CommandFailed(done)))

    # --- its end ------------------------------------------------------------------

    @property
    def bell(self) -> int:
        """A descriptor: what is written to it has :meth:`poll` return."""
        return self._wake[1]

    def wake(self) -> None:
        """Have :meth:`poll` return, also from a handler of a signal or another thread."""
        try:
            os.write(self._wake[1], b"!")
        except (BlockingIOError, OSError):
            pass

    def pause(self) -> float:
        """Stop all that run, with what they have started; give when that was (monotonic seconds)."""
        below = families(self._running.values())
        for pid, running in self._running.items():
            running.below = {*running.below, *below[pid]}
        for running in (*self._running.values(), *self._leaving):
            running.signal(signal.SIGSTOP)
        return time.monotonic()

    def go_on(self, paused: float) -> None:
        """Let what was stopped go on; the time meanwhile counts for nobody."""
        lost = time.monotonic() - paused
        for running in (*self._running.values(), *self._leaving):
            running.mono += lost
            running.doomed = None if running.doomed is None else running.doomed + lost
            running.signal(signal.SIGCONT)

    def skip(self, index: int) -> None:
        """End a command that runs; its item has no outcome."""
        for running in self._running.values():
            if running.batch.index == index and running.doomed is None:
                self._doom([running], "skip")

    def send_back(self) -> None:
        """End the command that has begun last; it will be started again."""
        youngest = max(self._running.values(), key=lambda running: running.mono, default=None)
        if youngest is not None and youngest.doomed is None:
            self._doom([youngest], "again")

    def stop(self, *, at_once: bool = False) -> None:
        """End all that run; they are told of as any others."""
        unasked = [running for running in self._running.values() if running.doomed is None]
        if unasked:
            self._doom(unasked, "stop")
        if at_once:
            for running in (*self._running.values(), *self._leaving):
                running.doomed = 0.0
        self.wake()

    def close(self) -> None:
        """End all that run, at once."""
        if self._null < 0:
            return
        below = families(self._running.values()) if self._running else {}
        for pid, running in self._running.items():
            running.kill(below[pid])
        for running in self._running.values():
            try:
                os.waitpid(running.pid, 0)
            except ChildProcessError:
                pass
            if running.pidfd is not None:
                os.close(running.pidfd)
        self._running.clear()
        self._see_off()
        self._watch.close()
        for fd in (*self._wake, self._null):
            os.close(fd)
        self._null = -1

    def _see_off(self) -> None:
        """Wait for what is left of commands that were told to end, as long as they may take."""
        while self._leaving:
            running = self._leaving.pop()
            while running.lives() and time.monotonic() < (running.doomed or 0.0):
                time.sleep(LOOK)
            running.kill()
