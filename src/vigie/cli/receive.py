"""``vigie receive``: only what is new since the last time."""

from __future__ import annotations

import time

from vigie.cli import shown
from vigie.cli.logs import add_output_options, nothing, streams
from vigie.cli.printer import Printer
from vigie.errors import Conflict, NotFound
from vigie.output import POLL, Output
from vigie.terminal import moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.cli.context import Context

SUMMARY = "show what jobs have written since the last time; remembers how far that was"
EXAMPLES = """\
vigie receive 12                 # what is new; a second time: what is new since then
vigie receive --wait backup      # all the rest, once it has ended
vigie receive --follow 12        # as it comes
vigie receive --keep 12          # look, and let it be new the next time too
vigie receive --reader bot 12    # a position of its own beside everybody else's
vigie receive --wait --stream result 12    # what its function returned
"""
#: Seconds between two moves of a position while following: each is a commit on disk.
_MOVE = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("jobs", metavar="JOB", nargs="+", help="id, name (its newest), last, or - (ids on stdin)")
    add("--keep", action="store_true", help="leave the position where it is")
    add("--wait", action="store_true", help="wait for the jobs' ends first")
    add("--follow", action="store_true", help="go on with what comes, until the jobs have ended")
    add("--reader", metavar="R", default="default", help="whose position; each reader has its own")
    add_output_options(parser)


def run(args: argparse.Namespace, out: Context) -> int:
    """Show what is new."""
    reader = out.reader()
    jobs = reader.resolve(args.jobs)
    if args.wait:
        out.client().call("wait", ids=jobs, any=False, timeout=None, results=False)
    chosen = shown.streams_of(args.stream)
    name = reader_name(args.reader, chosen)
    printer = Printer(out, raw=args.raw, as_json=args.json, many=len(jobs) > 1)
    taken = [Reception(out, job, name, streams(args), keep=args.keep, chosen=chosen) for job in jobs]
    silent: list[Reception] = []
    for one in taken:
        before = printer.count
        try:
            (one.follow if args.follow else one.once)(printer)
        finally:
            # What was shown is received, also when Ctrl-C ends the following.
            one.close(printer)
        if printer.count == before:
            silent.append(one)
    printer.finish()
    for one in silent:
        one.say_nothing_new()
    return 0


def reader_name(name: str, chosen: tuple[str, ...] | None) -> str:
    """Give the reader's full name: a choice of streams has a position of its own.

    Else reading the errors alone would pass over output that nobody has seen.

    >>> reader_name("default", None), reader_name("default", ("error",))
    ('default', 'default/error')
    """
    return name if chosen is None else f"{name}/{','.join(sorted(chosen))}"


class Reception:
    """One job's new output for one reader: read, print, flush, and only then move the position."""

    def __init__(
        self,
        out: Context,
        job: int,
        name: str,
        wanted: tuple[str, ...],
        *,
        keep: bool,
        chosen: tuple[str, ...] | None = None,
    ) -> None:
        self._out = out
        self._job = job
        self._name = name
        self._keep = keep
        self._chosen = chosen
        stands = out.reader().cursor(job, name)
        self._old: dict[str, Any] | None = stands[0] if stands else None
        self._at = stands[1] if stands else None
        self._output = Output(out.reader(), out.home, job, position=self._old, streams=wanted)
        self._moved = 0.0

    def once(self, printer: Printer) -> None:
        """Print what there is now."""
        for piece in self._output.pump():
            printer.show(self._output, piece)

    def follow(self, printer: Printer) -> None:
        """Print what there is and what comes, moving the position as it goes."""
        count = printer.count

        def idle() -> None:
            nonlocal count
            if printer.count != count:
                count = printer.count
                printer.flush()
            if time.monotonic() - self._moved >= _MOVE:
                self._move()

        for piece in self._output.follow(POLL, idle):
            printer.show(self._output, piece)

    def close(self, printer: Printer) -> None:
        """Flush what was printed and move the position behind it."""
        printer.flush()
        self._move()
        self._output.close()

    def _move(self) -> None:
        new = self._output.position
        self._moved = time.monotonic()
        if self._keep or new == (self._old or {"attempt": 1, "out": 0, "err": 0, "records": 0}):
            return
        try:
            self._out.client().call("cursor", job=self._job, reader=self._name, old=self._old, new=new)
            self._old = new
        except Conflict as error:
            self._keep = True
            self._out.say(f"{self._job}: {error.message}")
            if error.hint:
                self._out.say(f"  {error.hint}")
        except NotFound:
            # Removed while we read it: there is no position to move any more.
            self._keep = True

    def say_nothing_new(self) -> None:
        """Say that nothing came, and since when."""
        if self._at is None:
            self._out.say(nothing(self._output, self._chosen))
            return
        since = moment(self._at, shown.now())
        self._out.say(f"nothing since {since}; everything: vigie logs {self._job}")
