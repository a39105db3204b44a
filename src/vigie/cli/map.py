"""``vigie map``: one command over many items, several at once."""

from __future__ import annotations

from vigie.cli.table import Parsed, Table
from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vigie.cli.context import Context

__all__ = ["EXAMPLES", "NOTES", "SUMMARY", "USAGE", "add_arguments", "parse", "run", "split_words"]

SUMMARY = "run a command over many items, several at once"
USAGE = "vigie map [options] [--] CMD {} [::: ITEM…]"
NOTES = """\
items come from behind :::, else from files (-a, ::::), else from standard input, one on each line.
  ::: A B ::: 1 2            each with each: A 1, A 2, B 1, B 2
  ::: A B :::+ 1 2           side by side: A 1, B 2
  :::: FILE, ::::+ FILE      likewise, from files; - is standard input

in the words of CMD; without any of them the items come at its end:
  {}  the item         {.}  without extension         {/}   its last part
  {//} its directory   {/.} last part, no extension   {2}, {-1}, {2/.} …  one of several
  {#} number of the command, from 1                   {%}   number of its slot, from 1
An item is an argument and is never parsed by a shell, unless --shell LINE says so; there it is quoted.

exit code: how many items failed, 101 for more than 100; 125 an error of Vigie's own; 130 after Ctrl-C,
  143 after SIGTERM, 129 after SIGHUP; 141 when nobody reads the output.
Ctrl-C starts no more and waits for those that run; once more ends them."""
EXAMPLES = """\
vigie map -- gzip -9 {} ::: *.log
find . -name '*.png' -print0 | vigie map -0 -j8 -- convert {} {.}.webp
vigie map --shell 'sort {} | uniq -c > {.}.counts' ::: *.txt
vigie map -j32 --prefix --timeout 20s -- ssh -o BatchMode=yes {} uptime < hosts
vigie map -k --joblog log --resume-failed -- ./import.sh {} :::: list
vigie map --background --name thumbs -- convert {} {.}.jpg ::: *.png
"""

_TABLE = Table(
    [
        (
            "items",
            [
                ("-a --arg-file", "files", "FILE+", "read them from a file; may be repeated"),
                ("-0 --null", "null", None, "they end with NUL, as find -print0 writes them"),
                ("-d --delimiter", "delimiter", "C", "they end with this instead of a line's end: , \\t \\x1f"),
                ("-n --max-args", "max_args", "N", "so many for each command"),
                ("--colsep", "columns", "RE", "cut each where this expression matches: {1} {2} …"),
                ("-r --no-run-if-empty", "no_blank", None, "leave out those that are empty or blank"),
            ],
        ),
        (
            "running",
            [
                ("-j --jobs", "jobs", "N|N%", "so many at once; default: the cores (N%: of them)"),
                ("--shell", "shell", "LINE", "run a line for /bin/sh instead of CMD"),
                ("--timeout", "timeout", "T", "end a command after this long: 20s, 5m"),
                ("--retries", "retries", "N", "try again this often after a failure"),
                ("--halt", "halt", "W,WHY", "end early: now|soon, and fail|success|done=N or N%"),
                ("--delay", "delay", "T", "so long between two starts"),
                ("--rate", "rate", "R", "so many starts: 10/s, 600/m"),
                ("--load", "load", "N|N%", "start none while so many processes run (N%: of the cores)"),
                (
                    "--memfree",
                    "memfree",
                    "SIZE",
                    "start none while less memory is free; at half of it, end the last",
                ),
                ("--nice", "nice", "N", "run all with this niceness"),
            ],
        ),
        (
            "output",
            [
                ("-k --keep-order", "keep_order", None, "in the order of the items, not as they end"),
                ("--prefix", "prefix", None, "the item before each line"),
                ("--line-buffer --lb", "lines", None, "lines as they come, each whole; not a command's output as one"),
                ("-u --ungroup", "ungroup", None, "as it comes, whatever mixes"),
                ("--results", "results", "DIR", "keep it too, in DIR/NUMBER/stdout, stderr and result.json"),
                ("--tmpdir", "tmpdir", "DIR", "keep it there until it is shown; default: $TMPDIR or /tmp"),
                ("--progress --bar", "progress", None, "show how far it is, on standard error"),
                ("--json", "json", None, "one JSON object for each command, with its output"),
                ("--dry-run", "dry_run", None, "print the commands, and run none"),
            ],
        ),
        (
            "going on later",
            [
                ("--joblog", "joblog", "FILE", "a line for each command that has ended, as GNU parallel writes it"),
                ("--resume-joblog", "resume_joblog", None, "leave out those that the joblog has"),
                ("--resume-failed", "resume_failed", None, "leave out those that ended well by the joblog"),
                ("--resume", "resume", "NAME", "keep a journal of this name, and leave out what ended well by it"),
                ("--fresh", "fresh", None, "with --resume: forget what earlier runs did"),
            ],
        ),
        (
            "in the background",
            [
                ("--background", "background", None, "as one job; its id goes to standard output"),
                ("--name", "name", "NAME", "a name to find the job by"),
                ("--tag", "tags", "T+", "a tag to filter it by; may be repeated"),
                ("--queue", "queue", "Q", "wait for a slot in this queue; default: default"),
                ("--priority", "priority", "N", "higher goes first; default 0"),
            ],
        ),
    ]
)
#: Options of GNU parallel and xargs, and what to do instead.
_ELSEWHERE = {
    "-N": "-n N takes so many items for each command",
    "-L": "-n N takes so many items for each command",
    "-P": "-j N is how many run at once",
    "-I": "{} is the item, wherever it stands",
    "--eta": "--progress shows how long it will take",
    "--no-notice": "there is none",
    "-q": "words are arguments as they are: no quoting is needed",
    "--quote": "words are arguments as they are: no quoting is needed",
    "-m": "-n N takes so many items for each command",
    "-X": "-n N takes so many items for each command",
    "--pipe": "items are arguments here; --shell 'CMD < {}' reads files",
    "--tagstring": "--prefix puts the item before each line",
    "-S": "vigie map -- ssh {} CMD ::: HOST… runs on other hosts",
    "--sshlogin": "vigie map -- ssh {} CMD ::: HOST… runs on other hosts",
    "--sshloginfile": "vigie map -- ssh {} CMD < FILE runs on other hosts",
    "--keeporder": "-k or --keep-order",
    "--linebuffer": "--line-buffer",
}
_JOB = ("name", "tags", "queue", "priority")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    _TABLE.add_to(parser)


def parse(words: Sequence[str], prog: str) -> Parsed | None:
    """Read the command line; None when help is asked for."""
    try:
        return _TABLE.parse(words, prog)
    except UsageError as error:
        flag = error.message.rpartition(" ")[2]
        flag = flag if flag.startswith("--") else flag[:2]
        if "there is no option" not in error.message or flag not in _ELSEWHERE:
            raise
        raise UsageError(error.message, f"{_ELSEWHERE[flag]} · {prog} --help") from None


split_words = _TABLE.split


def run(args: Parsed, out: Context) -> int:
    """Run the commands, print what they wrote, and give the exit code."""
    from vigie.shellmap import wanted

    _check(args)
    what = wanted.Wanted(args)
    if args.dry_run:
        return _print(what, out)
    if args.background:
        return _submit(args, what, out)
    if out.is_person and what.reads_terminal():
        out.say("vigie map: reads items from the terminal, one on each line, until Ctrl-D")
    code = what.make(out.say).run()
    if what.failed and out.is_person:
        out.say(f"vigie map: {what.failed:,} failed" + (f" · {what.hint}" if what.hint else ""))
    return code


def _check(args: Parsed) -> None:
    """Refuse options that contradict each other."""
    for names in (
        ("lines", "ungroup", "json"),
        ("results", "lines", "ungroup"),
        ("prefix", "ungroup", "json"),
        ("keep_order", "ungroup"),
    ):
        given = [name for name in names if getattr(args, name)]
        if len(given) > 1:
            raise UsageError(f"map: {_flag(given[0])} and {_flag(given[1])} are two ways to show the output")
    if (args.resume_joblog or args.resume_failed) and not args.joblog:
        raise UsageError("map: there is no joblog to resume from", "--joblog FILE names it")
    if args.joblog and args.resume:
        raise UsageError("map: --joblog and --resume both say what was done", "give one of them")
    if args.fresh and not args.resume:
        raise UsageError("map: --fresh is for --resume, which gives the journal its name")
    if args.background:
        for name in ("lines", "ungroup", "json", "joblog", "resume", "progress", "keep_order", "halt"):
            if getattr(args, name):
                raise UsageError(f"map: {_flag(name)} is not for the background", "vigie show and vigie logs tell")
        return
    for name in _JOB:
        if getattr(args, name):
            raise UsageError(f"map: {_flag(name)} is for --background")


def _flag(name: str) -> str:
    return next(flag for flag, (found, _) in _TABLE.names.items() if found == name and flag.startswith("--"))


def _print(what: Wanted, out: Context) -> int:
    """Print the commands."""
    from vigie.shellmap.sinks import Sink
    from vigie.shellmap.wanted import spell

    out.stdout.flush()
    sink = Sink(1)
    for argv in what.commands():
        sink.write(spell(argv) + b"\n")
    return 0


def _submit(args: Parsed, what: Wanted, out: Context) -> int:
    """Make a job of it, and print its id."""
    from vigie.shellmap.background import submit

    job = submit(what, {name: getattr(args, name) for name in _JOB if getattr(args, name)})
    out.print(str(job))
    if out.is_person:
        out.say(f"started {job} · vigie show {job} · vigie logs -f {job}")
    return 0


if TYPE_CHECKING:
    from vigie.shellmap.wanted import Wanted
