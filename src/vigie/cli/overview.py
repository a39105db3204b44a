"""Bare ``vigie``: one screen that says how things stand and what to type next."""

from __future__ import annotations

from vigie import service_view
from vigie.cli import shown
from vigie.presence import agent_pid
from vigie.selection import Filter
from vigie.terminal import Table, ago, clean, moment, paint, width
from vigie.values import format_rate

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.cli.context import Context

SUMMARY = "show on one screen: the agent, what runs, what failed, what comes next"
EXAMPLES = """\
vigie
vigie --json
vigie help            # all verbs
"""
_SHOWN = 8
_LATELY = 24 * 3600 * 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--json", action="store_true", help="as an object")


def run(args: argparse.Namespace, out: Context) -> int:
    """Show the screen."""
    at = shown.now()
    reader = out.reader()
    pid = agent_pid(out.home)
    counts = reader.counts()
    services = reader.services.all()
    # Lives of services are shown by their services: as many more are looked at as there may be of them.
    lives = sum(each["job_state"] in ("running", "suspended") for row in services for each in row["instances"])
    running = _others(reader.jobs(Filter(states=("running", "suspended"), every=True), _SHOWN + lives))
    waiting = reader.jobs(Filter(states=("queued", "blocked"), every=True), _SHOWN)
    failed = _others(reader.jobs(Filter(states=("failed", "lost"), every=True), _SHOWN * (20 if services else 1)))
    failed = [row for row in failed if row["finished"] >= at - _LATELY]
    queues = reader.queues()
    coming = reader.schedules.coming(_SHOWN)
    if args.json:
        from vigie import view

        out.json(
            {
                "agent": {"running": pid is not None, "pid": pid or None},
                "home": out.home.root,
                "counts": counts | {"failed_24h": reader.bad_since(at - _LATELY)},
                "running": [view.job(row, at) for row in running],
                "waiting": [view.job(row, at) for row in waiting],
                "failed": [view.job(row, at) for row in failed],
                "queues": [view.queue(row) for row in queues],
                "services": [service_view.service(row) for row in services],
                "coming": [{"schedule": row["name"], "at": view.instant(row["due"])} for row in coming],
            }
        )
        return 0
    _agent(pid, counts, bool(coming), out)
    active = counts.get("running", 0) + counts.get("suspended", 0) - lives
    _section(f"running ({active})", running, active, at, out)
    _services(services, at, out)
    _section("failed within a day", failed, reader.bad_since(at - _LATELY), at, out)
    idle = counts.get("queued", 0) + counts.get("blocked", 0)
    _section(f"waiting ({idle})", waiting, idle, at, out)
    _coming(coming, at, out)
    _queues(queues, out)
    _next(running, waiting, failed, out)
    return 0


def _agent(pid: int | None, counts: dict[str, int], scheduled: bool, out: Context) -> None:
    brush = paint(out)
    if pid is None:
        waits = "schedules" if scheduled and not counts else "jobs and schedules" if scheduled else "jobs"
        idle = f"{waits} wait for it" if counts or scheduled else "nothing waits for it"
        starts = "vigie agent start" if scheduled else "any write starts it"
        out.print(f"{brush('yellow', 'agent does not run')}: {idle}; {starts} · {out.home.root}")
    else:
        number = f" (pid {pid})" if pid else ""
        out.print(f"{brush('green', 'agent runs')}{number} · {out.home.root}")


def _section(title: str, rows: list[dict[str, Any]], total: int, at: int, out: Context) -> None:
    if not rows:
        return
    out.print("")
    out.print(paint(out)("bold", title))
    for line in shown.JobTable().lines(rows, at, room=_room(out), paint=paint(out)):
        out.print("  " + line)
    if total > len(rows):
        out.print(f"  and {total - len(rows)} more")


def _others(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the jobs that are no lives of services."""
    return [row for row in rows if row["service"] is None][:_SHOWN]


def _services(rows: list[dict[str, Any]], at: int, out: Context) -> None:
    """Count services by their states, and show those that are not as they are wanted."""
    if not rows:
        return
    from vigie.cli.service_show import COLOURS

    counts: dict[str, int] = {}
    for row in rows:
        for each in row["instances"]:
            counts[each["state"]] = counts.get(each["state"], 0) + 1
    brush = paint(out)
    out.print("")
    said = ", ".join(f"{count} {brush(COLOURS[state], state)}" for state, count in sorted(counts.items()))
    out.print(f"{brush('bold', 'services')}: {said}")
    bad = [each for row in rows if not service_view.is_as_wanted(row) for each in row["instances"]]
    bad = [each for each in bad if each["state"] != "ready"]
    table = Table(["SERVICE", "STATE", "SINCE", "CAUSE"], long=(3,))
    cells = [[each["name"], (each["state"], COLOURS[each["state"]]), ago(each["since"], at), clean(each["cause"])]
             for each in bad[:_SHOWN]]  # fmt: skip
    for line in table.lines(cells, room=_room(out), paint=brush, header=bool(cells)):
        out.print("  " + line)
    if len(bad) > _SHOWN:
        out.print(f"  and {len(bad) - _SHOWN} more")


def _coming(rows: list[dict[str, Any]], at: int, out: Context) -> None:
    if not rows:
        return
    out.print("")
    out.print(paint(out)("bold", "coming"))
    table = Table(["SCHEDULE", "WHEN", "AT"])
    cells = ([row["name"], ago(row["due"], at), moment(row["due"], at)] for row in rows)
    for line in table.lines(cells, room=_room(out), paint=paint(out)):
        out.print("  " + line)


def _room(out: Context) -> int | None:
    """Give the columns of an indented table."""
    return width(out.stdout) - 2 if out.is_tty else None


def _queues(rows: list[dict[str, Any]], out: Context) -> None:
    rows = [row for row in rows if row["used"] or row["queued"] or row["paused"] or row["rate"] is not None]
    if not rows:
        return
    out.print("")
    out.print(paint(out)("bold", "queues"))
    table = Table(["NAME", "BUSY", "WAITING", "RATE", "STATE"], right=(1, 2), spare=(3,))
    cells: list[list[str | tuple[str, str | None]]] = [
        [
            row["name"],
            f"{row['used']} of {row['slots']}",
            str(row["queued"]),
            format_rate(row["rate"]),
            ("paused", "yellow") if row["paused"] else "open",
        ]
        for row in rows
    ]
    for line in table.lines(cells, room=_room(out), paint=paint(out)):
        out.print("  " + line)


def _next(
    running: list[dict[str, Any]], waiting: list[dict[str, Any]], failed: list[dict[str, Any]], out: Context
) -> None:
    commands = []
    if failed:
        commands.append(f"vigie why {failed[0]['id']}")
    if running:
        commands.append(f"vigie logs -f {running[0]['id']}")
    elif waiting:
        commands.append(f"vigie why {waiting[-1]['id']}")
    if not commands:
        commands.append("vigie start -- CMD …")
    if out.is_tty:
        out.print("")
        out.print(paint(out)("dim", "  ".join(f"· {command}" for command in [*commands, "vigie jobs", "vigie help"])))
