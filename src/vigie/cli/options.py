"""Options that verbs share: those of ``start`` and ``run``, and SEL.

``start`` has its options as a table and not as a parser alone, since WHAT begins
at the first word that is neither an option nor an option's value: what stands
behind it belongs to the command, however much it looks like ours.
"""

from __future__ import annotations

from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

    from vigie.cli.context import Context
    from vigie.submission import Options, Submission

__all__ = ["WHAT", "Parsed", "add_selection", "add_start_options", "parse", "selection", "split_words", "submission"]

WHAT = """\
WHAT is one of
  [--] CMD ARG…              a command; behind -- always a command
  script.py|.sh|.ps1 ARG…    a script, by its extension, when the file exists
  -f MODULE:FUNCTION         a Python function; its arguments by --args JSON
  --shell LINE               a line for /bin/sh"""

_OPTION = tuple[str, str, str | None, str]
#: (title of the group, [(flags, destination, metavar or None for a switch, help)]).
_GROUPS: list[tuple[str, list[_OPTION]]] = [
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
#: Flag → (destination, metavar).
_NAMES: dict[str, tuple[str, str | None]] = {
    flag: (name, metavar) for _, options in _GROUPS for flags, name, metavar, _ in options for flag in flags.split()
}
_NAMES |= {
    "--raw": ("raw", None),
    "--dry-run": ("dry_run", None),
    "--json": ("json", None),
    "-h": ("help", None),
    "--help": ("help", None),
}


def add_start_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``start`` and ``run``."""
    for title, options in _GROUPS:
        group = parser.add_argument_group(title)
        for flags, destination, metavar, text in options:
            how: dict[str, Any] = {"dest": destination, "help": text}
            if metavar is None:
                how["action"] = "store_true"
            elif metavar.endswith("+"):
                how |= {"action": "append", "default": [], "metavar": metavar[:-1]}
            else:
                how["metavar"] = metavar
            group.add_argument(*flags.split(), **how)
    parser.add_argument("--dry-run", action="store_true", help="show what would be submitted, secrets redacted")
    parser.add_argument("--json", action="store_true", help="answer with a JSON object")


class Parsed:
    """What :func:`parse` found, under the names that a parser would use."""

    what: list[str]
    literal: bool
    json: bool
    dry_run: bool
    raw: bool
    function: str | None
    args: str | None
    shell: str | None

    def __init__(self) -> None:
        for _, options in _GROUPS:
            for _, name, metavar, _ in options:
                setattr(self, name, False if metavar is None else [] if metavar.endswith("+") else None)
        self.dry_run = self.json = self.raw = False


def parse(words: Sequence[str], prog: str) -> Parsed | None:
    """Read the command line of ``start`` or ``run``; None when help is asked for.

    By the table alone: building argparse's parser and what it imports would be a
    third of the time that ``vigie start`` takes.

    Raises
    ------
    UsageError
        When an option is not known, has no value, or has one that it does not take.
    """
    options, what, literal = split_words(words)
    found = Parsed()
    found.what, found.literal = what, literal
    rest = iter(options)
    for word in rest:
        flag, value = _flag(word, prog)
        if flag in ("-h", "--help"):
            return None
        name, metavar = _NAMES[flag]
        if name == "raw" and not prog.endswith("run"):
            raise _unknown(flag, prog)
        if metavar is None:
            if value is not None:
                raise UsageError(f"{prog[6:]}: {flag} takes no value", f"{prog} --help")
            setattr(found, name, True)
            continue
        if value is None:
            value = next(rest, None)
        if value is None:
            raise UsageError(f"{prog[6:]}: {flag} needs a value", f"{prog} --help")
        if metavar.endswith("+"):
            getattr(found, name).append(value)
        else:
            setattr(found, name, value)
    return found


def _flag(word: str, prog: str) -> tuple[str, str | None]:
    """Split ``--option=value`` and ``-nvalue``."""
    flag, equals, value = word.partition("=")
    if word.startswith("--") and flag in _NAMES:
        return flag, value if equals else None
    if not word.startswith("--") and word[:2] in _NAMES:
        return word[:2], word[2:] or None
    raise _unknown(flag, prog)


def _unknown(flag: str, prog: str) -> UsageError:
    from vigie.cli.parser import no_option

    return no_option(flag, [name for name in _NAMES if name != "--raw" or prog.endswith("run")], prog)


def split_words(words: Sequence[str]) -> tuple[list[str], list[str], bool]:
    """Split what was typed into options, WHAT, and whether ``--`` stood between.

    >>> split_words(["-n", "x", "ls", "-n"])
    (['-n', 'x'], ['ls', '-n'], False)
    >>> split_words(["--now", "--", "--now"])
    (['--now'], ['--now'], True)
    """
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            return list(words[:at]), list(words[at + 1 :]), True
        if len(word) < 2 or not word.startswith("-"):
            break
        metavar = _NAMES.get(word, (None, None))[1]
        # Its value too, even one that begins with a dash.
        at += 1 if metavar is None else 2
    return list(words[:at]), list(words[at:]), False


def submission(args: argparse.Namespace | Parsed, out: Context) -> Submission:
    """Build the submission that a parsed ``start`` or ``run`` means.

    Raises
    ------
    UsageError
        When an option makes no sense.
    NotFound
        When a job to come before it does not exist.
    """
    from vigie.submission import what

    return what(
        args.what,
        _options(args, out),
        literal=args.literal,
        line=args.shell,
        function_name=args.function,
        arguments=args.args,
    )


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
