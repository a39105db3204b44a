"""``vigie logs``: everything that jobs have written, as often as one likes."""

from __future__ import annotations

import time

from vigie import selection
from vigie.cli import shown
from vigie.cli.printer import Printer
from vigie.errors import UsageError
from vigie.model import STREAMS
from vigie.output import LOUD, POLL, Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from vigie.cli.context import Context

SUMMARY = "show everything that jobs have written; moves nothing"
EXAMPLES = """\
vigie logs 12                    # all of it, on stdout
vigie logs -f backup             # and what comes, until the job ends
vigie logs -n 20 last
vigie logs -f web                # a service: all of its lives, and those to come
vigie logs 12 --stream error     # or output, warning, info, debug, log, progress, checkpoint
vigie logs 12 --stream result    # what its function returned
vigie logs 12 --raw > copy       # to a file bytes always pass unchanged
vigie logs 12 --json | jq -r .text
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("jobs", metavar="JOB|SERVICE", nargs="+", help="id, name (its newest), last, - (ids on stdin), or a service")
    add("-f", "--follow", action="store_true", help="go on with what comes, until the jobs have ended")
    add("-n", "--lines", metavar="N", type=int, help="only the last N lines (with --json: records)")
    add("--since", metavar="T", help="only what was written since: 09:30, 2026-01-31T09:30, or 5m (ago)")
    add_output_options(parser)


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``logs`` and ``receive`` have in common."""
    add = parser.add_argument
    add("--stream", metavar="S,…", action="append", help="only these streams: output, error, warning, result …")
    add("--raw", action="store_true", help="control sequences too, on a terminal")
    add("--json", action="store_true", help="one JSON line a record")


def streams(args: argparse.Namespace) -> tuple[str, ...]:
    """Give the streams to show: as asked, else those fit for the form."""
    return shown.streams_of(args.stream) or (STREAMS if args.json else LOUD)


def run(args: argparse.Namespace, out: Context) -> int:
    """Show the output."""
    if args.lines is not None and args.lines < 0:
        raise UsageError(f"-n is {args.lines}: it must not be negative")
    if args.lines is not None and args.since is not None:
        raise UsageError("-n and --since both say where to begin: give one of them")
    since = None if args.since is None else selection.moment(args.since)
    reader = out.reader()
    wanted = streams(args)
    from vigie.cli import service_logs

    served = service_logs.instances_of(args.jobs, out)
    if served:
        return service_logs.run(served, args, wanted, since, out)
    outputs = [Output(reader, out.home, job, streams=wanted) for job in reader.resolve(args.jobs)]
    for output in outputs:
        if since is not None:
            output.since(since)
        elif args.lines is not None:
            output.last(args.lines, whole=args.json)
    printer = Printer(out, raw=args.raw, as_json=args.json, many=len(outputs) > 1)
    if args.follow:
        follow(outputs, printer)
    else:
        for output in outputs:
            for piece in output.pump():
                printer.show(output, piece)
    printer.finish()
    for output in outputs:
        output.close()
    if args.follow:
        _endings(outputs, out)
    elif not printer.count:
        _nothing(outputs, shown.streams_of(args.stream), out)
    return 0


def follow(outputs: list[Output], printer: Printer) -> None:
    """Print what there is and what comes, of several jobs in turn, until all have ended."""
    living = list(outputs)
    for output in living:
        output.go_live()
    while living:
        before = printer.count
        for output in list(living):
            output.refresh()
            ended = output.ended
            for piece in output.pump():
                printer.show(output, piece)
            if ended:
                living.remove(output)
        if printer.count != before:
            printer.flush()
        if living:
            time.sleep(POLL)


def _endings(outputs: list[Output], out: Context) -> None:
    """Tell a person how the jobs ended that were followed."""
    if not out.is_person:
        return
    from vigie import view
    from vigie.terminal import clean, lasting

    for output in outputs:
        row = output.row
        how = shown.how_ended(row)
        took = "" if row["duration"] is None else f" after {lasting(row['duration'])}"
        then = "" if row["state"] == "completed" else f" · vigie why {row['id']}"
        out.say(f"{clean(view.what(row))} {row['state']}{f' ({how})' if how else ''}{took}{then}")


def _nothing(outputs: list[Output], chosen: tuple[str, ...] | None, out: Context) -> None:
    if not out.is_person or not outputs:
        return
    for output in outputs:
        out.say(nothing(output, chosen))


def nothing(output: Output, chosen: tuple[str, ...] | None) -> str:
    """Say that a job has written nothing (to the streams chosen), and where to look."""
    from vigie import view
    from vigie.terminal import clean

    how = f"{clean(view.what(output.row))} is {output.row['state']} and has"
    if chosen is not None:
        return f"{how} nothing in {', '.join(chosen)}; everything: vigie logs {output.job}"
    then = f"vigie show {output.job}" if output.ended else f"vigie logs -f {output.job}"
    return f"{how} written nothing · {then}"
