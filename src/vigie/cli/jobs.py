"""``vigie jobs``: the list."""

from __future__ import annotations

import itertools
import time

from vigie import selection, view
from vigie.cli import shown
from vigie.errors import UsageError
from vigie.terminal import height, paint, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.cli.context import Context

SUMMARY = "list jobs, newest first"
EXAMPLES = """\
vigie jobs                          # the newest, as many as a screen takes
vigie jobs --state failed,lost      # what went wrong
vigie jobs --name 'backup*' --since 2h
vigie jobs --watch                  # stays, and shows every change
vigie jobs --json | jq '.[] | select(.duration > 60) | .id'
"""
#: Jobs to a terminal when nobody says how many.
USUAL = 30
_PAGE = 500
#: Seconds between two looks, and between two redraws that only let the clocks go on.
_LOOK = 0.1
_TICK = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    selection.add_arguments(parser)
    add = parser.add_argument
    add("--all", action="store_true", help="all jobs: those of schedules, services and parallel runs too")
    add("--limit", metavar="N", type=int, help=f"at most N (on a terminal {USUAL}, else all; 0: all)")
    add("--watch", action="store_true", help="stay and show every change; Ctrl-C ends it")
    add("--json", action="store_true", help="as an array")


def run(args: argparse.Namespace, out: Context) -> int:
    """Show the list."""
    if args.limit is not None and args.limit < 0:
        raise UsageError(f"--limit is {args.limit}: it must not be negative")
    chosen = selection.from_args(args)
    if args.watch:
        if args.json:
            raise UsageError("--watch draws a table and --json writes one array", "vigie events --follow --json")
        return _watch(chosen, args.limit, out)
    limit = args.limit or None
    if args.json:
        at = shown.now()
        shown.json_array(out, (view.job(row, at) for row in out.reader().each(chosen, limit)))
        return 0
    if limit is None and args.limit is None and out.is_tty:
        limit = USUAL
    count = _print(chosen, limit, out)
    if not count:
        from vigie.cli.nothing import say_nothing

        say_nothing(chosen, out)
    return 0


def _print(chosen: selection.Filter, limit: int | None, out: Context) -> int:
    rows = out.reader().each(chosen, None if limit is None else limit + 1)
    table = shown.JobTable()
    room = width(out.stdout) if out.is_tty else None
    at, count = shown.now(), 0
    while page := list(itertools.islice(rows, _PAGE if limit is None else min(_PAGE, limit - count))):
        count += len(page)
        for line in table.lines(page, at, room=room, paint=paint(out)):
            out.print(line)
    if limit is not None and next(rows, None) is not None and out.is_person:
        out.say(f"{count} shown, there are older ones · vigie jobs --limit {4 * limit}")
    return count


# --- --watch -----------------------------------------------------------------------


def _watch(chosen: selection.Filter, limit: int | None, out: Context) -> int:
    """Draw the table anew at every commit; on a terminal over the old one, in one write."""
    reader = out.reader()
    version: Any = None
    drawn: list[str] = []
    last = 0.0
    while True:
        found = reader.data_version()
        tick = out.is_tty and time.monotonic() - last >= _TICK
        if found != version or tick:
            version, last = found, time.monotonic()
            lines = _frame(chosen, limit, out)
            if lines != drawn:
                _draw(lines, len(drawn), out)
                drawn = lines
        time.sleep(_LOOK)


def _frame(chosen: selection.Filter, limit: int | None, out: Context) -> list[str]:
    most = limit or (max(1, height(out.stdout) - 2) if out.is_tty else USUAL)
    if out.is_tty:
        most = min(most, max(1, height(out.stdout) - 2))
    rows = out.reader().jobs(chosen, most)
    room = width(out.stdout) - 1 if out.is_tty else None
    return shown.JobTable().lines(rows, shown.now(), room=room, paint=paint(out))


def _draw(lines: list[str], before: int, out: Context) -> None:
    if not out.is_tty:
        out.stdout.write("\n".join(lines) + "\n\n")
    else:
        up = f"\x1b[{before}A" if before else ""
        out.stdout.write("\r" + up + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
    out.stdout.flush()
