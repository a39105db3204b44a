"""``vigie schedule``: run things at moments and on events."""

from __future__ import annotations

from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from vigie.cli.context import Context

SUMMARY = "run things at set times, or when something happens"
#: What is meant when nothing is said.
BARE = "list"
EXAMPLES = """\
vigie schedule add nightly "daily 02:00" -- ./backup.sh
vigie schedule add report "mon-fri 08:00" "monthly last 18:00" --timezone Europe/Paris -- ./report.sh
vigie schedule add poll "every 5m" --overlap skip --timeout 4m -- curl -fsS https://example.com/poll
vigie schedule add import --on-file '/srv/in/*.csv' --overlap queue-all=1000 -- ./import.sh {file}
vigie schedule add crond '*/10 * * * mon-fri' --catch-up none -- ./check.sh
vigie schedule                              # as vigie schedule list
vigie schedule next "daily 02:00" -n 3      # what an expression means; needs no agent
vigie schedule history nightly              # each planned instant, and what became of it
vigie schedule edit nightly "daily 03:00" --plan
vigie schedule pause nightly --until 2026-12-01
vigie schedule simulate vigie.toml --to 7d  # all firings of a file, what collides, and the load
"""
NOTES = """\
WHEN is a plain phrase (daily 02:00, weekly mon 08:00, monthly last fri 18:00, every 5m, every 2 weeks on
mon,thu 08:00, on 2026-12-24 18:00, at boot, at login) or a cron line ("*/5 * * * *", @daily); several may
be given. What is to run stands behind --."""

_ACTIONS = ("add", "edit", "list", "show", "next", "history", "run", "pause", "resume", "remove", "simulate")


def parse(words: list[str], program: str) -> Any:
    """Read the words: what stands behind the first ``--`` is the command, whatever it looks like."""
    from vigie.cli.main import parser_of

    if not words or words[0] in ("-h", "--help"):
        if words:
            return None
        words = [BARE]
    if words[0].startswith("-"):
        words = [BARE, *words]
    command: list[str] | None = None
    if words[0] in ("add", "edit") and "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
        if not command:
            raise UsageError(
                f"schedule {words[0]}: nothing stands behind --", "vigie schedule add NAME WHEN -- CMD ARG…"
            )
    import sys

    args = parser_of("schedule", sys.modules[__name__]).parse_args(words)
    args.command = command
    return args


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done to schedules."""
    from vigie.cli import schedule_options as options

    actions = parser.add_subparsers(dest="action", metavar="|".join(_ACTIONS), required=True)
    for name, (text, build) in _BUILD.items():
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        build(action, options)
        action.add_argument("--json", action="store_true", help="answer with JSON")


def _adding(parser: argparse.ArgumentParser, options: Any) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of the schedule")
    parser.add_argument("when", metavar="WHEN", nargs="*", help="a plain phrase or a cron line")
    options.triggers(parser)
    options.policies(parser)
    options.work(parser)
    parser.usage = f"{parser.prog} NAME [WHEN…] [options] -- CMD ARG…"


def _editing(parser: argparse.ArgumentParser, options: Any) -> None:
    _adding(parser, options)
    parser.add_argument(
        "--plan", action="store_true", help="show what would change and which firings move; change nothing"
    )


def _named(parser: argparse.ArgumentParser, options: Any) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of the schedule")


def _pausing(parser: argparse.ArgumentParser, options: Any) -> None:
    _named(parser, options)
    parser.add_argument("--until", metavar="T", help="resume by itself then: a time, or a duration from now")


def _listing(parser: argparse.ArgumentParser, options: Any) -> None:
    """It takes nothing."""


def _coming(parser: argparse.ArgumentParser, options: Any) -> None:
    parser.add_argument("what", metavar="NAME|WHEN", nargs="*", help="a schedule's name, or an expression")
    options.triggers(parser)
    parser.add_argument("--from", metavar="T", dest="start", help="count from this time on; default now")
    parser.add_argument("-n", "--count", metavar="N", type=int, default=None, help="so many; default 5")


def _history(parser: argparse.ArgumentParser, options: Any) -> None:
    _named(parser, options)
    parser.add_argument("-n", "--count", metavar="N", type=int, default=20, help="so many, the newest; default 20")


def _simulating(parser: argparse.ArgumentParser, options: Any) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?", default="vigie.toml", help="default ./vigie.toml")
    parser.add_argument("--from", metavar="T", dest="start", help="from this time on; default now")
    parser.add_argument("--to", metavar="T", dest="end", help="up to this time, or for so long; default 1d")
    parser.add_argument(
        "--duration", metavar="NAME=T", dest="durations", action="append", default=[],
        help="a run of this schedule takes so long; default what its runs took, else its timeout",
    )  # fmt: skip


_BUILD: dict[str, tuple[str, Callable[[Any, Any], None]]] = {
    "add": ("add a schedule, and show when it comes next", _adding),
    "edit": ("change a schedule: what is not given stays", _editing),
    "list": ("list schedules", _listing),
    "show": ("show one: what it runs, when it comes, how it went", _named),
    "next": ("show the next instants of a schedule or of any expression", _coming),
    "history": ("show planned instants, and what became of each", _history),
    "run": ("run it once, now, in the surroundings it always has", _named),
    "pause": ("start nothing more of it", _pausing),
    "resume": ("go on with a paused one", _named),
    "remove": ("remove it; its jobs stay", _named),
    "simulate": ("show every firing of a vigie.toml in a time to come, what collides, and the load", _simulating),
}


#: Each with what it does, for the completion.
ACTIONS = [(name, text) for name, (text, _) in _BUILD.items()]


def run(args: argparse.Namespace, out: Context) -> int:
    """Do it."""
    if args.action == "simulate":
        from vigie.cli import schedule_simulate

        return schedule_simulate.run(args, out)
    _whole_names(args, out)
    if args.action in ("add", "edit"):
        from vigie.cli import schedule_add

        return schedule_add.run(args, out)
    if args.action in ("list", "show", "next", "history"):
        from vigie.cli import schedule_show

        return schedule_show.ACTIONS[args.action](args, out)
    return _ask(args, out)


def _whole_names(args: argparse.Namespace, out: Context) -> None:
    """Where a project's file is, its schedules go by their plain names too."""
    from vigie.cli.declared import schedule_name

    if args.action == "next" and len(args.what) == 1:
        args.what = [schedule_name(args.what[0], out)]
    elif args.action not in ("add", "next", "list"):
        args.name = schedule_name(args.name, out)


def _ask(args: argparse.Namespace, out: Context) -> int:
    """Ask the agent for it, by name."""
    name = args.name
    # Unknown names are refused with near ones, and no agent is started for them.
    out.reader().schedules.get(name)
    fields = {}
    if args.action == "pause" and args.until is not None:
        fields["until"] = _until(args.until)
    answer = out.client().call(f"schedule_{args.action}", name=name, **fields)
    if args.json:
        until = answer.get("until")
        if until is not None:
            from vigie import view

            answer["until"] = view.instant(until)
        out.json({key: answer[key] for key in ("name", "state", "until", "ids") if key in answer})
    elif args.action == "run":
        out.print(str(answer["ids"][0]))
        if out.is_person:
            out.say(f"started {answer['ids'][0]} · vigie logs -f {answer['ids'][0]}")
    elif out.is_person:
        until = fields.get("until")
        out.say(_SAID[args.action].format(name=name, until=f" until {_moment(until)}" if until else ""))
    return 0


def _moment(instant: int) -> str:
    from vigie import view

    return (view.instant(instant) or "").partition(".")[0].replace("T", " ")


_SAID = {
    "pause": "{name} is paused{until} · vigie schedule resume {name}",
    "resume": "{name} goes on · vigie schedule show {name}",
    "remove": "{name} is removed; its jobs stay: vigie jobs --schedule {name}",
}


def _until(text: str) -> int:
    import time

    from vigie.values import parse_duration, parse_time

    now = time.time_ns() // 1000
    try:
        return now + parse_duration(text)
    except ValueError:
        return parse_time(text, now, option="--until")
