"""``vigie service list`` and ``status``: all of it read, no agent needed."""

from __future__ import annotations

import time

from vigie import service_view
from vigie.cli.shown import json_array, next_commands
from vigie.terminal import Table, ago, clean, paint, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from vigie.cli.context import Context

__all__ = ["ACTIONS", "COLOURS", "last_lines", "say"]

#: How states are painted.
COLOURS = {
    "ready": "green", "failed": "red", "backoff": "red", "degraded": "yellow", "starting": "cyan", "stopping": "cyan",
    "reloading": "cyan", "paused": "yellow", "inactive": "dim",
}  # fmt: skip


def _now() -> int:
    return time.time_ns() // 1000


def _list(args: argparse.Namespace, out: Context) -> int:
    rows = out.reader().services.all()
    if args.json:
        json_array(out, map(service_view.service, rows))
        return 0
    now = _now()
    table = Table(["SERVICE", "STATE", "SINCE", "PID", "RESTARTS", "CAUSE"], right=(3, 4), spare=(4, 3), long=(5,))
    cells = [_cells(each, now) for row in rows for each in row["instances"]]
    room = width(out.stdout) if out.is_tty else None
    for line in table.lines(cells, room=room, paint=paint(out), header=bool(cells)):
        out.print(line)
    if not cells and out.is_person:
        out.say("no services yet · vigie service add web -- ./serve.sh")
    return 0


def _cells(row: dict[str, Any], now: int) -> list[Any]:
    cause = row["status"] if row["state"] == "ready" and row["status"] else row["cause"]
    if row["state"] == "backoff" and row["due"] is not None:
        cause += f"; next try {ago(row['due'], now)}"
    return [
        (row["name"], "bold"),
        (row["state"], COLOURS.get(row["state"])),
        ago(row["since"], now),
        "-" if row["pid"] is None else str(row["pid"]),
        str(row["restarts"]),
        clean(cause),
    ]


def _status(args: argparse.Namespace, out: Context) -> int:
    if not args.names:
        return _list(args, out)
    from vigie.cli.declared import service_name

    reader = out.reader().services
    found = []
    for name in args.names:
        whole = service_name(name, out)
        row = reader.get(reader.meant(whole) or whole)
        instances = [each for each in row["instances"] if whole in (row["name"], each["name"])]
        found.append({**row, "instances": instances})
    if args.json:
        shown = [_all_of(row, out, args.lines) for row in found]
        out.json(shown[0] if len(shown) == 1 else shown)
    else:
        for row in found:
            for each in row["instances"]:
                _show(row, each, out, args.lines)
    bad = any(each["state"] not in ("ready", "reloading", "paused") and each["desired"] == "up"
              for row in found for each in row["instances"])  # fmt: skip
    return 1 if bad else 0


def _all_of(row: dict[str, Any], out: Context, lines: int) -> dict[str, Any]:
    from vigie import view

    whole = service_view.service(row)
    for shown, each in zip(whole["instances"], row["instances"], strict=True):
        tree = _tree(each)
        shown["processes"] = [{"pid": pid, "command": command} for pid, command, _ in tree]
        shown["memory"] = _memory(tree)
        shown["cpu_seconds"] = _cpu(tree)
        shown["transitions"] = [
            {"time": view.instant(one["at"]), "before": one["before"], "after": one["after"], "cause": one["detail"]}
            for one in out.reader().services.transitions(each["name"])
        ]
        shown["last_lines"] = last_lines(each, out, lines)
    return whole


def _show(row: dict[str, Any], each: dict[str, Any], out: Context, lines: int) -> None:
    from vigie import view
    from vigie.values import format_size

    now, brush, tree = _now(), paint(out), _tree(each)
    out.print(f"{brush('bold', each['name'])}  {brush(COLOURS[each['state']], each['state'])}")
    said: list[tuple[str, str]] = [
        ("cause", clean(each["cause"])),
        ("since", f"{(view.instant(each['since']) or '')[:19].replace('T', ' ')}  ({ago(each['since'], now)})"),
        ("wanted", f"{each['desired']}; starts: {row['mode']}"),
        ("runs", f"{view.label(row)}  in {view.path_of(row['cwd'])}"),
        ("declared in", row["owner"] or "made by hand"),
    ]
    if each["status"]:
        said.append(("says", clean(each["status"])))
    if each["due"] is not None:
        said.append(("next try", ago(each["due"], now)))
    said.append(
        ("restarts", f"{each['restarts']}" + (f", {each['failures']} failures in a row" * (each["failures"] > 0)))
    )
    if tree:
        said.append(("memory", format_size(_memory(tree))))
        said.append(("cpu", f"{_cpu(tree):.2f} s"))
    said += [("processes", f"{'  ' * depth}{pid} {clean(command)}") for pid, command, depth in tree]
    for one in reversed(out.reader().services.transitions(each["name"])):
        said.append(
            ("lately", f"{ago(one['at'], now):>10}  {one['before']} → {one['after']}  {clean(one['detail'] or '')}")
        )
    said += [("last lines", clean(line)) for line in last_lines(each, out, lines)]
    before = ""
    for name, text in said:
        head = "" if name == before else name
        out.print(f"  {brush('dim', f'{head:<12}')} {text}")
        before = name
    good = each["state"] in ("ready", "inactive")
    next_commands(out, f"vigie logs -f {each['name']}", *([] if good else [f"vigie why {each['name']}"]))


def _tree(row: dict[str, Any]) -> list[tuple[int, str, int]]:
    """Give the processes of the life under way: number, command, depth."""
    if row["pid"] is None:
        return []
    from vigie import procs

    below: dict[int, list[procs.Process]] = {}
    known = {}
    for process in procs.scan():
        below.setdefault(process.ppid, []).append(process)
        known[process.pid] = process
    found: list[tuple[int, str, int]] = []
    todo = [(row["pid"], 0)]
    while todo:
        pid, depth = todo.pop()
        if pid in known:
            found.append((pid, _command(pid), depth))
            todo += [(child.pid, depth + 1) for child in sorted(below.get(pid, ()), key=lambda one: -one.pid)]
    return found


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4_096).split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode("utf-8", "surrogateescape").strip()[:200]


def _memory(tree: list[tuple[int, str, int]]) -> int:
    from vigie import procs

    return sum(procs.rss(pid) or 0 for pid, _, _ in tree)


def _cpu(tree: list[tuple[int, str, int]]) -> float:
    from vigie import procs

    return sum(procs.cpu(pid) or 0 for pid, _, _ in tree) / 1e6


def last_lines(row: dict[str, Any], out: Context, lines: int) -> list[str]:
    """Give the last lines of the life under way, or of the last one."""
    from vigie.errors import NotFound
    from vigie.output import LOUD, Output

    if row["job"] is None or lines <= 0:
        return []
    try:
        output = Output(out.reader(), out.home, row["job"], streams=LOUD)
    except NotFound:
        return []
    try:
        output.last(lines)
        data = b"".join((piece.data or b"")[piece.trim :] for piece in output.pump())
    finally:
        output.close()
    return data.decode("utf-8", "replace").splitlines()[-lines:]


def say(instances: list[dict[str, Any]], until: str, out: Context, *, changed: set[str]) -> None:
    """Say on a terminal how instances stand after what was asked."""
    if not out.is_person:
        return
    if until == "gone":
        out.say("removed")
        return
    for each in instances:
        name, state = each["name"], each["state"]
        cause = f": {clean(each['cause'])}" if each["cause"] not in ("", state) and state != "ready" else ""
        same = "" if name in changed else " already"
        then = f" · vigie logs -f {name}" if state == "ready" else f" · vigie why {name}" if state != "inactive" else ""
        where = "in backoff" if state == "backoff" else state
        out.say(f"{name} is {where}{same}{cause}{then}")


ACTIONS: dict[str, Callable[[Any, Any], int]] = {"list": _list, "status": _status}
