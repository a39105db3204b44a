"""Options that verbs share: those of ``start`` and ``run``, and SEL."""

from __future__ import annotations

from vigie.cli.table import Parsed, Table
from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vigie.cli.context import Context
    from vigie.submission import Options, Submission

__all__ = ["WHAT", "add_selection", "add_start_options", "parse", "selection", "split_words", "submission"]

WHAT = """\
WHAT is one of
  [--] CMD ARG…              a command; behind -- always a command
  script.py|.sh|.ps1 ARG…    a script, by its extension, when the file exists
  -f MODULE:FUNCTION         a Python function; its arguments by --args JSON
  --shell LINE               a line for /bin/sh
  NAME                       a task that vigie.toml declares (it goes before scripts and commands)"""

_OPTION = tuple[str, str, str | None, str]
_GROUPS: list[tuple[str | None, list[_OPTION]]] = [
    (
        "what to run",
        [
            ("-f --function", "function", "M:F", "a Python function by its import path"),
            ("--args", "args", "JSON", "its arguments: an array, or an object of keywords"),
            ("--shell", "shell", "LINE", "a line for /bin/sh"),
        ],
    ),
    (
        "surroundings",
        [
            ("-n --name", "name", "NAME", "a name to find the job by"),
            ("--tag", "tags", "T+", "a tag to filter by; may be repeated"),
            ("--cwd", "cwd", "D", "its directory; default: this one"),
            ("--env", "env", "K[=V]+", "set a variable, or copy it from here; may be repeated"),
            ("--env-file", "env_file", "F+", "set what a dotenv file says; may be repeated"),
            ("--env-none", "env_none", None, "begin with an empty environment, not this one"),
            ("--python", "python", "P", "interpreter of scripts and functions"),
            ("--stdin", "stdin", "F|-", "standard input: a file, or - for this one's, copied whole"),
            ("--fresh", "fresh", None, "give a function a process of its own"),
        ],
    ),
    (
        "limits and failures",
        [
            ("--timeout", "timeout", "T", "end it after this long: 90s, 5m, 1h30m"),
            ("--grace", "grace", "T", "between SIGTERM and SIGKILL when it is ended; default 10s"),
            ("--retries", "retries", "N", "try again this often after a failure"),
            ("--backoff", "backoff", "T", "wait this long before the first retry; then ever longer; default 1s"),
            ("--on-lost", "on_lost", "fail|rerun", "when a crash hid how it ended; default fail"),
            ("--max-output", "max_output", "S", "keep this much output: its head and its tail; default 1 GiB"),
        ],
    ),
    (
        "when it starts",
        [
            ("--queue", "queue", "Q", "wait for a slot in this queue; default: default"),
            ("--priority", "priority", "N", "higher goes first; default 0"),
            ("--now", "now", None, "start at once, whatever the slots"),
            ("--concurrency", "concurrency", "KEY=N+", "at most N jobs that name this key at once; may be repeated"),
            ("--after", "after", "JOB+", "only when that job has completed; may be repeated"),
            ("--after-any", "after_any", "JOB+", "when that job has ended, however; may be repeated"),
            ("--in", "delay", "T", "not before this long has passed"),
            ("--at", "at", "T", "not before then: 14:00, 2026-11-23T14:00"),
            ("--key", "key", "K", "submit once: the same key again gives the same job"),
        ],
    ),
]
_LAST: list[_OPTION] = [
    ("--dry-run", "dry_run", None, "show what would be submitted, secrets redacted"),
    ("--json", "json", None, "answer with a JSON object"),
]
_RAW: list[_OPTION] = [("--raw", "raw", None, "control sequences as they are, on a terminal too")]
_START = Table([*_GROUPS, (None, _LAST)])
_RUN = Table([*_GROUPS, (None, [*_LAST, *_RAW])])


def add_start_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``start`` and ``run``."""
    (_RUN if parser.prog.endswith("run") else _START).add_to(parser)


def parse(words: Sequence[str], prog: str) -> Parsed | None:
    """Read the command line of ``start`` or ``run``; None when help is asked for.

    Raises
    ------
    UsageError
        When an option is not known, has no value, or has one that it does not take.
    """
    return (_RUN if prog.endswith("run") else _START).parse(words, prog)


def split_words(words: Sequence[str]) -> tuple[list[str], list[str], bool]:
    """Split what was typed into options, WHAT, and whether ``--`` stood between.

    >>> split_words(["-n", "x", "ls", "-n"])
    (['-n', 'x'], ['ls', '-n'], False)
    >>> split_words(["--now", "--", "--now"])
    (['--now'], ['--now'], True)
    """
    return _RUN.split(words)


def submission(args: argparse.Namespace | Parsed, out: Context) -> Submission:
    """Build the submission that a parsed ``start`` or ``run`` means.

    Raises
    ------
    UsageError
        When an option makes no sense.
    NotFound
        When a job to come before it does not exist.
    """
    from vigie.cli.declared import find_task
    from vigie.submission import what

    if args.what and not args.literal and args.shell is None and args.function is None:
        known = find_task(args.what[0], out)
        if known is not None:
            _read_on(args, out)
            return known.submission(_options(args, out))
    return what(
        args.what,
        _options(args, out),
        literal=args.literal,
        line=args.shell,
        function_name=args.function,
        arguments=args.args,
    )


def _read_on(args: argparse.Namespace | Parsed, out: Context) -> None:
    """Read what stands behind a declared task, which takes no words of its own: options, and nothing else."""
    name, *rest = args.what
    more = parse(rest, out.program)
    if more is None:
        raise UsageError(f"{name} is a declared task", f"{out.program} -h")
    if more.what:
        raise UsageError(
            f"{name} is a declared task and takes no words: {more.what[0]!r} is too much",
            f"a command of that name: {out.program} -- {name} …",
        )
    for key, default in _RUN.defaults().items():
        found = getattr(more, key, default)
        if found != default:
            setattr(args, key, [*getattr(args, key), *found] if isinstance(default, list) else found)


def _options(args: argparse.Namespace | Parsed, out: Context) -> Options:
    from vigie.submission import Options

    given = {
        name: getattr(args, name)
        for _, options in _GROUPS
        for _, name, _, _ in options
        if name not in ("function", "args", "shell", "after", "after_any")
    }
    for name in ("after", "after_any"):
        words = getattr(args, name)
        given[name] = out.reader().resolve(words) if words else []
    return Options(**given)


# --- SEL --------------------------------------------------------------------------


def add_selection(parser: argparse.ArgumentParser, every: str) -> None:
    """Add SEL: jobs by id, name, ``last`` or ``-``; or a filter; or ``--all``, which means ``every``."""
    from vigie import selection as filters

    parser.add_argument("jobs", nargs="*", metavar="JOB", help="id, name (its newest), last, or - (ids on stdin)")
    parser.add_argument("--all", action="store_true", help=every)
    filters.add_arguments(parser)


def selection(args: argparse.Namespace, out: Context, states: Sequence[str] = ()) -> list[int]:
    """Give the ids that SEL means.

    Parameters
    ----------
    args, out:
        The parsed call.
    states:
        The states in which the verb can do something: ``--all`` and a filter
        choose among jobs in these, unless ``--state`` says which. Jobs that were
        named are taken as they are.

    Raises
    ------
    UsageError
        When nothing was chosen.
    NotFound
        When a word names no job.
    """
    from vigie import selection as filters

    chosen = filters.from_args(args)
    implied: Sequence[str] = ()
    if not args.jobs:
        if not chosen:
            raise UsageError("which jobs?", "give ids or names, a filter such as --tag T, or --all")
        if states and not chosen.states:
            implied = chosen.states = tuple(states)
    if args.jobs and args.all:
        raise UsageError("--all and jobs by name are two choices", "give one of them")
    found = out.reader().resolve(args.jobs, chosen)
    if not found and not args.json:
        from vigie.cli.nothing import say_nothing

        say_nothing(chosen, out, implied)
    return found
