"""``vigie schedule list``, ``show``, ``next`` and ``history``: all of it read, no agent needed."""

from __future__ import annotations

import difflib
import time
from itertools import islice

from vigie import agenda, zones
from vigie.agenda import Agenda, in_zone
from vigie.cli import schedule_options
from vigie.cli.schedule_hints import hinted
from vigie.cli.shown import json_array, next_commands
from vigie.errors import ExpressionError, UsageError
from vigie.terminal import Table, ago, lasting, paint, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from vigie.cli.context import Context
    from vigie.triggers.when import When

__all__ = ["ACTIONS"]

#: Jobs that count for the success rate and the durations.
LATELY = 1000
#: Schedules that are laid out together.
PAGE = 500


def _now() -> int:
    return time.time_ns() // 1000


# --- list -------------------------------------------------------------------------


def _list(args: argparse.Namespace, out: Context) -> int:
    now = _now()
    rows = out.reader().schedules.all()
    if args.json:
        json_array(out, (Agenda(row).json(now) for row in rows))
        return 0
    table = Table(["SCHEDULE", "STATE", "NEXT", "WHEN", "LAST", "RUNS"], right=(5,), spare=(5, 4), long=(3,))
    shown = 0
    while page := [_cells(Agenda(row), now) for row in islice(rows, PAGE)]:
        _table(table, page, out, header=not shown)
        shown += len(page)
    if not shown and out.is_person:
        out.say('no schedules yet · vigie schedule add nightly "daily 02:00" -- ./backup.sh')
    return 0


def _cells(each: Agenda, now: int) -> list[Any]:
    row = each.row
    coming = each.coming(1, now)
    state = "paused" if row["state"] == "paused" else row["state"]
    colour = {"paused": "yellow", "done": "dim"}.get(state)
    last = each.last()
    return [
        (row["name"], "bold"),
        (state, colour),
        ago(coming[0], now)
        if coming
        else f"resumes {ago(row['until'], now)}"
        if state == "paused" and row["until"]
        else "-",
        ", ".join(each.when.text),
        (last or "-", row["last_state"] if last else "dim"),
        str(row["runs"]),
    ]


# --- show -------------------------------------------------------------------------


def _show(args: argparse.Namespace, out: Context) -> int:
    now = _now()
    reader = out.reader().schedules
    each = Agenda(reader.get(args.name))
    ended = reader.ended(args.name, LATELY)
    counted = _counted(ended)
    if args.json:
        out.json({**each.json(now, coming=10), **counted})
        return 0
    row, zone = each.row, each.zone
    until = f" until {in_zone(row['until'], zone)}" if row["until"] else ""
    lines: list[tuple[str, str]] = [("state", row["state"] + until)]
    lines += [("when", text) for text in each.when.describe()]
    lines += [("zone", zone.name)]
    lines += [("policy", text) for text in each.policy.describe()]
    lines += [("runs", _work(row)), ("declared in", row["owner"] or "made by hand")]
    last = each.last()
    if last is not None:
        job = f" (job {row['last_job']})" if row["last_job"] else ""
        lines.append(("last", f"{_wall(row['last_instant'], zone)} {last}{job}"))
    if counted["success_rate"] is not None:
        rate = f"{counted['success_rate']:.0%} of {counted['ended']} went well"
        lines.append(("lately", f"{rate}; p50 {_long(counted['p50'])}, p95 {_long(counted['p95'])}"))
    for instant in each.coming(10, now):
        lines.append(("next", f"{_wall(instant, zone)}  ({ago(instant, now)})"))
    brush = paint(out)
    before = ""
    out.print(brush("bold", row["name"]))
    for name, text in lines:
        head = "" if name == before else name
        out.print(f"  {brush('dim', f'{head:<12}')} {text}")
        before = name
    next_commands(out, f"vigie schedule history {args.name}", f"vigie schedule run {args.name}")
    return 0


def _work(row: dict[str, Any]) -> str:
    from vigie import view

    return f"{view.label(row)}  in {view.path_of(row['cwd'])}"


def _counted(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Give success rate and durations (s) of the newest jobs; unknown is None."""
    good = [row for row in rows if row["state"] == "completed"]
    durations = sorted(row["duration"] for row in good if row["duration"] is not None)
    return {
        "ended": len(rows),
        "success_rate": len(good) / len(rows) if rows else None,
        "p50": _percentile(durations, 50),
        "p95": _percentile(durations, 95),
    }


def _percentile(values: Sequence[int], percent: int) -> float | None:
    """Give the nearest-rank percentile of sorted µs, in seconds."""
    return values[max(0, -(-len(values) * percent // 100) - 1)] / 1e6 if values else None


def _long(seconds: float | None) -> str:
    return "-" if seconds is None else lasting(int(seconds * 1e6))


def _wall(instant: int, zone: Any) -> str:
    return (in_zone(instant, zone) or "").replace("T", " ")


# --- next -------------------------------------------------------------------------


def _next(args: argparse.Namespace, out: Context) -> int:
    now = _now()
    name, when = _meant(args, out, now)
    start = now if args.start is None else _at(args.start, when.zone, now)
    count = 5 if args.count is None else args.count
    if count < 1:
        raise UsageError(f"-n is {count}: at least 1")
    plan = None if name is None or args.start is not None else Agenda(out.reader().schedules.get(name))
    instants = _instants(when, start, count) if plan is None else iter(plan.coming(count, now))
    shown = (in_zone(instant, when.zone) for instant in instants)
    if args.json:
        if count <= PAGE:
            out.json(list(shown))
        else:
            json_array(out, shown)
        return 0
    if out.is_person:
        out.say(f"{'; '.join(when.describe())} ({when.zone.name})")
    empty = True
    for text in shown:
        out.print(text or "")
        empty = False
    if empty and out.is_person:
        out.say(_none_comes(plan))
    return 0


def _none_comes(plan: Agenda | None) -> str:
    """Say why there is no instant to show."""
    state = None if plan is None else plan.row["state"]
    if plan is not None and state == "paused":
        until = f" until {_wall(plan.row['until'], plan.zone)}" if plan.row["until"] else ""
        return f"it is paused{until} · vigie schedule resume {plan.row['name']}"
    return "it has come to its end" if state == "done" else "nothing comes that a clock alone decides"


def _instants(when: When, start: int, count: int) -> Iterator[int]:
    if when.timed is not None:
        return islice(when.timed.after(start), count)
    # An interval from a run, if each took no time.
    return (start + (number + 1) * each.every for each in when.again[:1] for number in range(count))


def _meant(args: argparse.Namespace, out: Context, now: int) -> tuple[str | None, When]:
    """Give the schedule that is meant, if one is, and its triggers."""
    from vigie.declaration import read_when

    args.when = args.what
    table = schedule_options.table(args)
    if len(args.what) == 1 and set(table) == {"when"} and args.what[0] in out.reader().schedules.names():
        return args.what[0], Agenda(out.reader().schedules.get(args.what[0])).when
    if not table:
        raise UsageError(
            "schedule next: nothing is asked", 'vigie schedule next "daily 02:00", or the name of a schedule'
        )
    zone = zones.load(table.get("timezone"))
    try:
        return None, read_when(table, now=now if args.start is None else _at(args.start, zone, now))
    except ExpressionError as error:
        close = (
            difflib.get_close_matches(args.what[0], out.reader().schedules.names(), 2) if len(args.what) == 1 else ()
        )
        if close:
            raise UsageError(error.message, f"or the schedule {' or '.join(close)}?") from None
        raise hinted(error, args.what, says_what=True) from None


def _at(text: str, zone: Any, now: int) -> int:
    from vigie.values import parse_time

    return parse_time(text, now, zone.rules, option="--from")


# --- history ----------------------------------------------------------------------


def _history(args: argparse.Namespace, out: Context) -> int:
    if args.count < 1:
        raise UsageError(f"-n is {args.count}: at least 1")
    reader = out.reader().schedules
    each = Agenda(reader.get(args.name))
    rows = reader.history(each.row["id"], args.count, _now())
    if args.json:
        out.json([agenda.firing(row, each.zone) for row in rows])
        return 0
    if not rows:
        if out.is_person:
            out.say(f"{args.name} has not come yet · vigie schedule next {args.name}")
        return 0
    table = Table(["PLANNED", "OUTCOME", "JOB", "STATE", "TOOK"], right=(2,), spare=(4,), long=(1,))
    _table(table, (_record(row, each.zone) for row in rows), out)
    return 0


def _record(row: dict[str, Any], zone: Any) -> list[Any]:
    planned = _wall(row["instant"], zone)
    if row["last"] is not None:
        planned += f" … {row['count']} times"
    said = agenda.outcome(row)
    colour = {"skipped": "yellow", "late": "yellow", "caught-up": "cyan"}.get(row["outcome"] or "")
    gone = row["job"] is not None and row["state"] is None
    return [
        planned,
        (said, colour),
        str(row["job"] or "-"),
        ("removed" if gone else row["state"] or "-", row["state"]),
        lasting(row["duration"]) if row["duration"] is not None else "-",
    ]


def _table(table: Table, rows: Iterable[list[Any]], out: Context, *, header: bool = True) -> None:
    room = width(out.stdout) if out.is_tty else None
    for line in table.lines(rows, room=room, paint=paint(out), header=header):
        out.print(line)


ACTIONS: dict[str, Callable[[argparse.Namespace, Context], int]] = {
    "list": _list,
    "show": _show,
    "next": _next,
    "history": _history,
}
