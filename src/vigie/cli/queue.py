"""``vigie queue``: slots, rates, pausing."""

from __future__ import annotations

from vigie.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.cli.context import Context

SUMMARY = "list queues, and say how much may run at once in each"
#: What is meant when nothing is said.
BARE = "list"
EXAMPLES = """\
vigie queue                    # as vigie queue list
vigie queue set imports --slots 4 --rate 10/s
vigie queue set imports --rate none
vigie queue pause imports      # what runs goes on
vigie queue resume imports
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done to queues."""
    actions = parser.add_subparsers(dest="action", metavar="list|set|pause|resume", required=True)
    listing = actions.add_parser("list", help="show queues and their use")
    setting = actions.add_parser("set", help="make a queue, or change it")
    setting.add_argument("name", metavar="NAME")
    setting.add_argument("--slots", metavar="N", help="jobs at once; 'default' for as many as cores")
    setting.add_argument("--rate", metavar="R", help="starts: 10/s, 600/m; 'none' for no limit")
    pausing = actions.add_parser("pause", help="start nothing more from it")
    pausing.add_argument("name", metavar="NAME")
    resuming = actions.add_parser("resume", help="start from it again")
    resuming.add_argument("name", metavar="NAME")
    for action in (listing, setting, pausing, resuming):
        action.add_argument("--json", action="store_true", help="answer with JSON")


def run(args: argparse.Namespace, out: Context) -> int:
    """Do it and show the queue."""
    if args.action == "list":
        return _list(args, out)
    if args.action == "set":
        name, settings = _name(args.name), _settings(args)
        if not settings:
            raise UsageError(
                f"queue set {name}: nothing is set: give --slots N (or default), --rate R (or none), or both",
                f"vigie queue set {name} --slots 2",
            )
        answer = out.client().call("queue_set", name=name, **settings)
    else:
        _known(args.name, out)
        answer = out.client().call(f"queue_{args.action}", name=args.name)
    if args.json:
        out.json(answer["queue"])
    elif out.is_person:
        out.say(_said(answer["queue"]))
    return 0


def _name(name: str) -> str:
    from vigie.submission import check_name

    return check_name(name, "queue set")


def _known(name: str, out: Context) -> None:
    """Refuse a queue that does not exist, naming those that do."""
    names = {row["name"] for row in out.reader().queues()} | {"schedules"}
    if name not in names:
        from vigie.cli.parser import meant

        near = meant(name, names)
        raise NotFound(
            f"there is no queue {name}; there are: {', '.join(sorted(names))}",
            f"did you mean {near[0]}?" if near else f"vigie queue set {name} --slots 2",
        )


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    from vigie.values import parse_rate

    fields: dict[str, Any] = {}
    if args.slots is not None:
        if args.slots == "default":
            fields["slots"] = None
        elif args.slots.isascii() and args.slots.isdigit() and len(args.slots) < 10:
            fields["slots"] = int(args.slots)
        else:
            raise UsageError(f"--slots: {args.slots!r} is not a number of jobs", "--slots 4")
    if args.rate is not None:
        fields["rate"] = None if args.rate == "none" else parse_rate(args.rate, "--rate")
    return fields


def _said(queue: dict[str, Any]) -> str:
    from vigie.values import format_rate

    rate = "" if queue.get("rate") is None else f", {format_rate(queue['rate'])}"
    paused = ", paused" if queue.get("paused") else ""
    return f"queue {queue['name']}: {queue['slots']} slots{rate}{paused} · vigie queue list"


def _list(args: argparse.Namespace, out: Context) -> int:
    from vigie import view

    rows = [view.queue(row) for row in out.reader().queues()]
    if args.json:
        out.json(rows)
        return 0
    from vigie.terminal import Table, paint, width
    from vigie.values import format_rate

    table = Table(["QUEUE", "SLOTS", "BUSY", "WAITING", "RATE", "STATE", "RUNS"], right=(1, 2, 3), spare=(6, 4))
    lines = table.lines(
        (
            [
                row["name"],
                str(row["slots"]),
                str(row["used"]),
                str(row["queued"]),
                format_rate(row["rate"]),
                ("paused", "yellow") if row["paused"] else ("open", None),
                ", ".join(map(str, row["busy"])),
            ]
            for row in rows
        ),
        room=width(out.stdout) if out.is_tty else None,
        paint=paint(out),
    )
    for line in lines:
        out.print(line)
    return 0
