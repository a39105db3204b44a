"""``vigie limit``, ``drain`` and ``skip``: tell a parallel run in the background how to go on."""

from __future__ import annotations

from vigie.cli.context import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from vigie.cli.context import Context

__all__ = ["DRAIN", "LIMIT", "SKIP", "steer"]


def steer(args: argparse.Namespace, out: Context, orders: list[dict[str, Any]], said: str) -> int:
    """Give a job's run some orders, and say so."""
    from vigie.cli import shown

    job = shown.one_job([args.job], out)
    answers = [out.client().call("steer", job=job, order=order)["order"] for order in orders]
    if args.json:
        out.json({"job": job, "orders": answers})
    elif out.is_person:
        out.say(f"{said} · vigie show {job}")
    return 0


def _arguments(*more: Callable[[argparse.ArgumentParser], None]) -> Callable[[argparse.ArgumentParser], None]:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("job", metavar="JOB", help="id, name (its newest), or last")
        for each in more:
            each(parser)
        parser.add_argument("--json", action="store_true", help="answer with JSON")

    return add


def _add_count(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("count", metavar="N", type=int, help="items at once, from now on")


def _add_items(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("items", metavar="ITEM", type=int, nargs="+", help="its place among the items, from 0 on")


def _limit(args: argparse.Namespace, out: Context) -> int:
    return steer(args, out, [{"limit": args.count}], f"{args.job}: {args.count} at once")


def _drain(args: argparse.Namespace, out: Context) -> int:
    return steer(args, out, [{"drain": True}], f"{args.job} begins nothing more")


def _skip(args: argparse.Namespace, out: Context) -> int:
    orders = [{"skip": item} for item in args.items]
    return steer(args, out, orders, f"{args.job} skips {', '.join(map(str, args.items))}")


LIMIT = Verb(
    "change how many items of a parallel run are computed at once",
    """\
vigie limit 12 8
vigie limit checksums 1
""",
    _arguments(_add_count),
    _limit,
)
DRAIN = Verb(
    "let a parallel run finish what it has begun, and end; retry does the rest",
    """\
vigie drain 12
vigie drain 12 && vigie wait 12; vigie retry 12
""",
    _arguments(),
    _drain,
)
SKIP = Verb(
    "leave out items of a parallel run; those that run are stopped",
    """\
vigie skip 12 503
vigie skip checksums 7 8 9
""",
    _arguments(_add_items),
    _skip,
)
