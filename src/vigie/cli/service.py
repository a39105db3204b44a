"""``vigie service``: keep things up."""

from __future__ import annotations

from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from vigie.cli.context import Context

SUMMARY = "keep programs up: started, ready, restarted, logged"
#: What is meant when nothing is said.
BARE = "list"
EXAMPLES = """\
vigie service add web --ready http=http://127.0.0.1:8000/health -- ./serve.sh
vigie service add db --ready notify --stop 'INT 30s' -- redis-server --supervised systemd --daemonize no
vigie service add api --requires db --instances 4 --env PORT=8000 -- ./api.sh
vigie service add web --listen tcp://127.0.0.1:8000 -- uvicorn shop:app --fd 3
vigie service                       # as vigie service list
vigie service status web            # state, cause, processes, last transitions, last lines
vigie service restart api           # one instance after the other
vigie service stop web              # until it is started, or the machine is
vigie service disable web           # over boots too
vigie service remove web
vigie logs -f web                   # what it writes, over all of its lives
vigie why web                       # why it is as it is
"""
NOTES = """\
What is to run stands behind --. NAME may be a service or one of its instances (web@2)."""

_ACTIONS = (
    "add", "edit", "list", "status", "start", "stop", "restart", "reload", "suspend", "resume", "enable", "disable",
    "remove",
)  # fmt: skip


def parse(words: list[str], program: str) -> Any:
    """Read the words: what stands behind the first ``--`` is the command, whatever it looks like."""
    from vigie.cli.main import parser_of

    if words and words[0] in ("-h", "--help"):
        return None
    if not words or words[0].startswith("-"):
        words = [BARE, *words]
    command: list[str] | None = None
    if words[0] in ("add", "edit") and "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
        if not command:
            raise UsageError(f"service {words[0]}: nothing stands behind --", "vigie service add NAME -- CMD ARG…")
    import sys

    args = parser_of("service", sys.modules[__name__]).parse_args(words)
    args.command = command
    return args


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done to services."""
    from vigie.cli import service_options

    actions = parser.add_subparsers(dest="action", metavar="|".join(_ACTIONS), required=True)
    for name, (text, build) in _BUILD.items():
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        build(action, service_options)
        action.add_argument("--json", action="store_true", help="answer with JSON")


def _adding(parser: argparse.ArgumentParser, options: Any) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of the service")
    options.arguments(parser)
    parser.add_argument("--no-start", action="store_true", help="leave it down for now")
    _waiting(parser, options)
    parser.usage = f"{parser.prog} NAME [options] -- CMD ARG…"


def _editing(parser: argparse.ArgumentParser, options: Any) -> None:
    _adding(parser, options)


def _waiting(parser: argparse.ArgumentParser, options: Any) -> None:
    parser.add_argument("--no-wait", action="store_true", help="do not wait until it is so")
    parser.add_argument("--timeout", metavar="T", help="wait at most so long; default 2m")


def _listing(parser: argparse.ArgumentParser, options: Any) -> None:
    """It takes nothing."""


def _status(parser: argparse.ArgumentParser, options: Any) -> None:
    parser.add_argument("names", metavar="NAME", nargs="*", help="all of one; without names, a line each")
    parser.add_argument(
        "-n", "--lines", metavar="N", type=int, default=5, help="so many last lines of output; default 5"
    )


def _names(parser: argparse.ArgumentParser, options: Any) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help="services, or instances of them")
    _waiting(parser, options)


def _stopping(parser: argparse.ArgumentParser, options: Any) -> None:
    _names(parser, options)
    parser.add_argument("--now", action="store_true", help="kill at once, without the waits of its stop sequence")


_BUILD: dict[str, tuple[str, Callable[[Any, Any], None]]] = {
    "add": ("add a service and start it", _adding),
    "edit": ("change a service: what is not given stays; it is restarted if it has to be", _editing),
    "list": ("list services", _listing),
    "status": ("show how services stand, and all of those that are named", _status),
    "start": ("have it up, and what it requires; 0 if it is up", _names),
    "stop": ("have it down until it is started again, or the machine is", _stopping),
    "restart": ("give it a new life; several instances one after the other", _names),
    "reload": ("have it read its settings anew", _names),
    "suspend": ("freeze its processes, and those of what requires it", _names),
    "resume": ("let it go on", _names),
    "enable": ("have it start by itself from now on, and now", _names),
    "disable": ("have it down, also after a boot", _stopping),
    "remove": ("stop it and remove it; its lives stay in vigie jobs --service NAME", _names),
}

#: Each with what it does, for the completion.
ACTIONS = [(name, text) for name, (text, _) in _BUILD.items()]


def run(args: argparse.Namespace, out: Context) -> int:
    """Do it."""
    if args.action in ("add", "edit"):
        from vigie.cli import service_add

        return service_add.run(args, out)
    if args.action in ("list", "status"):
        from vigie.cli import service_show

        return service_show.ACTIONS[args.action](args, out)
    return _ask(args, out)


def _ask(args: argparse.Namespace, out: Context) -> int:
    """Ask the agent for it, and wait until it has come true."""
    from vigie.cli import service_wait
    from vigie.cli.declared import service_name

    reader = out.reader().services
    names = [service_name(name, out) for name in args.names]
    for name in names:
        # Unknown names are refused with near ones, and no agent is started for them.
        if reader.meant(name) is None:
            reader.get(name)
    fields: dict[str, Any] = {}
    if getattr(args, "now", False):
        fields["grace"] = 0
    answer = out.client().call(f"service_{args.action}", names=names, **fields)["instances"]
    until = {"stop": "down", "disable": "down", "remove": "gone"}.get(args.action, "settled")
    return service_wait.finish(args, answer, names, until, out)
