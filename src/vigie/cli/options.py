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

__all__ = ["WHAT", "add_selection", "add_start_options", "selection", "split_words", "submission"]

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
_SWITCHES = {
    flag for _, options in _GROUPS for flags, _, metavar, _ in options if not metavar for flag in flags.split()
}
_SWITCHES |= {"-h", "--help", "--dry-run", "--json"}
_VALUED = {flag for _, options in _GROUPS for flags, _, metavar, _ in options if metavar for flag in flags.split()}


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
        if word in _VALUED:
            # With its value as one word, one that begins with a dash is not taken for an option.
            at += 2
        elif word in _SWITCHES or "=" in word or not word.startswith("--"):
            at += 1
        else:
            # Unknown: the parser will say so.
            return list(words[: at + 1]), [], False
    return list(words[:at]), list(words[at:]), False


def joined(words: Sequence[str]) -> list[str]:
    """Write ``--option value`` as ``--option=value``, so that the value may begin with a dash.

    >>> joined(["--timeout", "-5s", "--now"])
    ['--timeout=-5s', '--now']
    """
    out: list[str] = []
    rest = iter(words)
    for word in rest:
        value = next(rest, None) if word in _VALUED else None
        if value is None:
            out.append(word)
        else:
            out.append(f"{word}={value}" if word.startswith("--") else f"{word}{value}")
    return out


def submission(args: argparse.Namespace, out: Context) -> Submission:
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


def _options(args: argparse.Namespace, out: Context) -> Options:
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


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add SEL: jobs by id, name, ``last`` or ``-``; or a filter; or ``--all``."""
    from vigie import selection as filters

    parser.add_argument("jobs", nargs="*", metavar="JOB", help="id, name (its newest), last, or - (ids on stdin)")
    parser.add_argument("--all", action="store_true", help="all that the verb can do something to")
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
    if not args.jobs:
        if not chosen:
            raise UsageError("which jobs?", "give ids or names, a filter such as --tag T, or --all")
        if states and not chosen.states:
            chosen.states = tuple(states)
    if args.jobs and args.all:
        raise UsageError("--all and jobs by name are two choices", "give one of them")
    found = out.reader().resolve(args.jobs, chosen)
    if not found and out.is_person:
        out.say("no job matches")
    return found
