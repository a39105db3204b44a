"""A run of commands from its first item to its exit code; see ``vigie map``.

It drives the course that ``vigie.map`` drives, with commands as the items' workers. Signals are only noted
when they come, and heeded between two steps: the course is never interrupted in the midst of one.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import sys

from vigie.engines.command import Done
from vigie.engines.commands import Commands
from vigie.parallel.course import Course
from vigie.parallel.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType
    from typing import Any

    from vigie.engines.commands import Outlet
    from vigie.parallel.course import Earlier, Show
    from vigie.shellmap.feed import Feed
    from vigie.shellmap.gate import Gate
    from vigie.shellmap.halt import Halt
    from vigie.shellmap.joblog import Joblog
    from vigie.shellmap.printer import Printer

__all__ = ["MANY", "CommandRun", "exit_code"]

#: The exit code when more items failed than an exit code can say.
MANY = 101
#: Signals that end what runs the first time they come.
_AT_ONCE = (signal.SIGHUP, signal.SIGQUIT)


def exit_code(failed: int) -> int:
    """Give the exit code for so many items that failed.

    >>> exit_code(0), exit_code(100), exit_code(3000)
    (0, 100, 101)
    """
    return min(failed, MANY)


class _Enough(BaseException):
    """Nobody reads what is printed, and somebody wants it to end."""


class _Course(Course):
    """One that tells of each command how it ended: (its last try or None, how often it was tried)."""

    def pump(self, wait: float | None) -> None:
        """Give out what can be given; between two that are told nobody is asked what else has ended."""
        if wait == 0:
            self.feed()
        else:
            super().pump(wait)

    def _tell(self, come: Any) -> Iterator[tuple[int, Done | None, int]]:
        self._told += 1
        self._bytes -= getattr(come, "size", 0)
        error = getattr(come, "error", None)
        if error is not None:
            yield come.index, getattr(error, "done", None), come.tries
        elif come.packed:  # of an earlier run
            yield come.index, None, 0
        else:
            yield come.index, come.values[0], come.tries


class CommandRun:
    """One call of ``vigie map``.

    Parameters
    ----------
    fill:
        Gives the argv of a command: ``fill(items, seq, slot)``.
    rows:
        The items of each.
    outlet, printer:
        Where the output goes while a command runs, and what of it is printed when it has ended.
    total:
        How many rows there are, if that is known.
    """

    def __init__(
        self, fill: Callable[[Sequence[bytes], int, int], list[bytes]], rows: Iterable[Sequence[bytes]], plan: Plan, *,
        limit: int, outlet: Outlet, printer: Printer, total: int | None = None, gate: Gate | None = None,
        feed: Feed | None = None, halt: Halt | None = None, resume: Earlier | None = None, show: Show | None = None,
        joblog: Joblog | None = None, spell: Callable[[Done], bytes] = lambda done: b" ".join(done.argv),
        files: tuple[int, int] | None = None, say: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        self._engine = Commands(fill, limit, outlet, timeout=plan.timeout, gate=gate, files=files)
        self._outlet = outlet
        self._printer = printer
        self._total = total
        self._halt = halt
        self._show = show
        self._joblog = joblog
        self._spell = spell
        self._say = say
        self.course = _Course(self._engine, rows, plan, resume, self)
        if gate is not None:
            gate.short = self._engine.send_back
            gate.again = self.course.has_again
        if feed is not None:
            feed.begin(self._engine.wake)
        #: Signals that ask for an end, as they come; and how many of them were heeded.
        self._asked: list[int] = []
        self._heeded = 0
        self._halted = False
        self._paused = False
        self._before: dict[int, Any] = {}
        self._bell = -1

    def run(self) -> int:
        """Run all commands; give the exit code.

        Raises
        ------
        BrokenPipeError
            Nobody reads what is printed.
        """
        sys.stdout.flush()
        gc.freeze()  # what was loaded need not be looked through again and again
        shown = getattr(self._outlet, "shown", None)
        self._catch()
        try:
            for index, done, tries in self.course.drive():
                if done is not None:
                    self._end(done, tries)
                if shown is not None:
                    shown(index + 1)
        except _Enough:
            pass
        finally:
            self.course.close()
            if self._joblog is not None:
                self._joblog.close()
            self._release()
        return self._code()

    def _end(self, done: Done, tries: int) -> None:
        if self._joblog is not None:
            received = os.fstat(done.out).st_size if done.out >= 0 else 0
            self._joblog.write(done, self._spell(done), received)
        self._printer.show(done, tries)

    def _code(self) -> int:
        if self._asked:
            return 128 + self._asked[0]
        if self._halted and self._halt is not None and self._halt.why == "success":
            return 0
        return exit_code(self.failed)

    @property
    def failed(self) -> int:
        """How many have failed, but for those that were ended."""
        return self.course.tally.failed - self._engine.stopped

    # --- what the course shows its progress to ------------------------------------

    def due(self) -> float:
        """Give the seconds until there is something to show."""
        return math.inf if self._show is None else self._show.due()

    def update(self, *, done: int, failed: int, running: int, earlier: int = 0) -> None:
        """Heed what was asked for, end what is to end, and show how far it is."""
        if self._paused:
            self._pause()
        if len(self._asked) > self._heeded:
            self._heed()
        tally = self.course.tally
        if self._halt is not None and not self._halted:
            own = self.failed
            if self._halt.reached(failed=own, succeeded=tally.done, total=self._total):
                self._halted = True
                self.course.drain()
                if self._halt.now:
                    self._engine.stop()
                self._say(f"vigie map: ends early, by --halt {self._halt.text}")
        if self._show is not None:
            self._show.update(done=done, failed=failed, running=running, earlier=earlier)

    def close(self, note: str = "") -> None:
        """Show the last state."""
        if self._show is not None:
            self._show.close("interrupted" if self._asked else "halted" if self._halted else note)

    # --- signals ------------------------------------------------------------------

    def _catch(self) -> None:
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # Whoever ignores it is never told how a child has ended.
            self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGTERM, *_AT_ONCE):
            # nohup and background jobs of a shell ignore some on purpose.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        # The handler may come to its turn only when the wait has ended: this ends it.
        self._bell = signal.set_wakeup_fd(self._engine.bell, warn_on_full_buffer=False)
        if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
            self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._note_pause)

    def _release(self) -> None:
        signal.set_wakeup_fd(self._bell)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked.append(number)
        self._engine.wake()
        if (len(self._asked) > 1 or number in _AT_ONCE) and self._printer.busy:
            raise _Enough  # out of a write for which there may never be a reader

    def _note_pause(self, number: int, frame: FrameType | None) -> None:
        self._paused = True
        self._engine.wake()
        if self._printer.busy:
            self._pause()  # it may be long until whoever reads goes on

    def _pause(self) -> None:
        """Stop with all that runs, as Ctrl-Z means it, and go on with it."""
        self._paused = False
        since = self._engine.pause()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._engine.go_on(since)

    def _heed(self) -> None:
        """Once: begin nothing more. Twice, or when the terminal is gone: end what runs. Three times: at once."""
        asked = len(self._asked)
        running = self._engine.busy()
        self._heeded = asked
        self.course.drain()
        if asked > 1 or self._asked[-1] in _AT_ONCE:
            self._printer.hurry()
        if asked > 2:
            self._engine.stop(at_once=True)
        elif asked == 2 or self._asked[-1] in _AT_ONCE:
            self._engine.stop()
        elif running:
            again = "Ctrl-C" if self._asked[0] == signal.SIGINT else "SIGTERM"
            self._say(f"vigie map: starts no more; waits for {running} that run (once more {again} ends them)")
