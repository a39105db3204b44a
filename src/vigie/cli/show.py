"""``vigie show``: one job with all that is known of it."""

from __future__ import annotations

import json
import os
import re

from vigie import boards, view
from vigie.cli import shown
from vigie.terminal import Table, ago, clean, clip, lasting, paint, size, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.cli.context import Context
    from vigie.config import Home

SUMMARY = "show one job with all that is known of it"
EXAMPLES = """\
vigie show 12
vigie show backup            # the newest of that name
vigie show last --json | jq .task
"""
#: Columns of a result; ``--json`` gives all of it.
_RESULT = 200
_FILE = re.compile(r"(out|err|records|in|result)(?:\.(\d+))?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("job", metavar="JOB", help="id, name (its newest), last, or - (an id on stdin)")
    parser.add_argument("--json", action="store_true", help="as an object")


def run(args: argparse.Namespace, out: Context) -> int:
    """Show it."""
    reader = out.reader()
    row = reader.get(shown.one_job([args.job], out))
    whole = describe(row, out)
    if args.json:
        out.json(whole)
        return 0
    brush = paint(out)
    pairs = _pairs(row, whole, shown.now())
    wide = max(len(name) for name, _, _ in pairs)
    for name, text, style in pairs:
        out.print(f"{brush('dim', name.rjust(wide))}  {brush(style, clean(text))}")
    if len(whole["attempts"]) > 1:
        out.print("")
        table = Table(["ATTEMPT", "STATE", "STARTED", "TOOK", "HOW"], right=(0,), spare=(3, 2))
        room = width(out.stdout) if out.is_tty else None
        for line in table.lines(_attempt_rows(reader.attempts(row["id"])), room=room, paint=brush):
            out.print(line)
    _next(row, out)
    return 0


def describe(row: dict[str, Any], out: Context) -> dict[str, Any]:
    """Give the JSON of one job with its particulars."""
    reader = out.reader()
    job = row["id"]
    made = view.job(row, shown.now())
    made["progress"] = boards.read_board(out.home.job_dir(job))
    made["options"] = view.options(row)
    made["attempts"] = [view.attempt(one) for one in reader.attempts(job)]
    made["dependencies"] = [view.dependency(one) for one in reader.dependencies(job)]
    made["dependents"] = [one["job"] for one in reader.dependents(job)]
    made["concurrency"] = [
        {"key": one["key"], "most": one["most"], "held": bool(one["held"])} for one in reader.keys(job)
    ]
    content = reader.content(job)
    made["error"] = view.error(content.get("error"))
    made["result_encoding"] = content.get("result_encoding")
    made["result"] = _result(content)
    made["context"] = view.context(reader.context(job))
    made["firing"] = _firing(row, out)
    made["files"] = files(out.home, job)
    return made


def _result(content: dict[str, Any]) -> Any:
    """Give what a function returned, where that is a plain value kept as JSON."""
    if content.get("result_encoding") != "json" or content.get("result") is None:
        return None
    return json.loads(content["result"])


def _firing(row: dict[str, Any], out: Context) -> dict[str, Any] | None:
    """Give what made a job of a schedule come: ``schedule, planned, outcome, cause``."""
    found = None if row["schedule"] is None else out.reader().schedules.firing_of(row["id"])
    if found is None:
        return None
    return {
        "schedule": found["name"],
        "planned": view.instant(found["instant"]),
        "outcome": found["outcome"],
        "cause": found["cause"],
    }


def _fired(found: dict[str, Any] | None) -> str | None:
    """Say it in a line."""
    if found is None:
        return None
    cause = f", {'' if found['cause'] == 'by hand' else 'by '}{found['cause']}" if found["cause"] else ""
    return f"{found['schedule']}, planned {found['planned']} ({found['outcome']}{cause})"


def files(home: Home, job: int) -> list[dict[str, Any]]:
    """Give a job's files: ``stream, attempt, path, size`` in bytes."""
    directory = home.job_dir(job)
    found = []
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    for name in names:
        match = _FILE.fullmatch(name)
        if match is None:
            continue
        path = os.path.join(directory, name)
        try:
            length = os.stat(path).st_size
        except OSError:
            # Removed since it was listed.
            continue
        found.append({"stream": match[1], "attempt": int(match[2] or 1), "path": path, "size": length})
    return found


def _pairs(row: dict[str, Any], whole: dict[str, Any], at: int) -> list[tuple[str, str, str | None]]:
    how = shown.how_ended(row)
    pairs: list[tuple[str, str | None, str | None]] = [
        ("job", str(row["id"]), "bold"),
        ("name", row["name"], "bold"),
        ("state", row["state"] + (f" ({how})" if how else ""), row["state"]),
        ("message", row["message"], None),
        ("progress", _progress(whole["progress"]), None),
        ("what", view.label(row), None),
        ("schedule", _fired(whole["firing"]), None),
        ("kind", "function" if row["kind"] == "function" else "command", None),
        ("directory", view.path_of(row["cwd"]), None),
        ("python", view.path_of(row["python"]), None),
        ("queue", row["queue"] + (f", priority {row['priority']}" if row["priority"] else ""), None),
        ("tags", ", ".join(row["tags"]), None),
        ("pid", str(whole["pid"]) if whole["pid"] else None, None),
        *((name, _when(row[key], at), None) for name, key in _INSTANTS.items()),
        ("took", None if view.lasted(row, at) is None else lasting(view.lasted(row, at)), None),
        ("processor", None if row["cpu"] is None else lasting(row["cpu"]), None),
        ("memory", None if row["peak_rss"] is None else size(row["peak_rss"]), None),
        ("attempt", _tries(row), None),
        ("timeout", None if row["timeout"] is None else lasting(row["timeout"]), None),
        ("needs", _needs(whole), None),
        ("needed by", ", ".join(map(str, whole["dependents"])), None),
        ("keys", ", ".join(f"{one['key']}={one['most']}" for one in whole["concurrency"]), None),
        ("key", row["key"], None),
        ("output", _sizes(whole["files"]), None),
        ("result", _returned(whole), None),
    ]
    return [(name, text, style) for name, text, style in pairs if text]


def _progress(board: dict[str, Any] | None) -> str | None:
    """Say how far a parallel run is."""
    if board is None:
        return None
    parts = [f"{board['done']:,} of {board['total']:,} items"]
    parts += [
        f"{board[name]:,} {word}" for name, word in (("failed", "failed"), ("earlier", "done earlier")) if board[name]
    ]
    if board["running"]:
        parts.append(f"{board['running']} of {board['limit']} at once")
    if board["left"] is not None:
        parts.append(f"{lasting(round(board['left'] * 1e6))} left")
    return " · ".join(parts)


def _returned(whole: dict[str, Any]) -> str | None:
    encoding, value = whole["result_encoding"], whole["result"]
    if encoding == "json":
        return None if value is None else clip(json.dumps(value, ensure_ascii=False), _RESULT)
    if encoding in ("pickle", "file"):
        return f"an object: vigie.get({whole['id']}).result() in Python"
    return None


_INSTANTS = {"created": "created", "due": "due", "started": "started", "finished": "finished"}


def _when(instant: int | None, at: int) -> str | None:
    if instant is None:
        return None
    return f"{(view.instant(instant) or '')[:19].replace('T', ' ')} ({ago(instant, at)})"


def _tries(row: dict[str, Any]) -> str | None:
    if row["attempt"] <= 1 and not row["retries"]:
        return None
    return f"{row['attempt'] - row['tries_from']} of {row['retries'] + 1}"


def _needs(whole: dict[str, Any]) -> str:
    return ", ".join(f"{one['job']} ({one['state'] or 'removed'})" for one in whole["dependencies"])


def _sizes(found: list[dict[str, Any]]) -> str:
    totals: dict[str, int] = {}
    for one in found:
        if one["stream"] != "in":
            totals[one["stream"]] = totals.get(one["stream"], 0) + one["size"]
    return ", ".join(f"{stream} {size(total)}" for stream, total in totals.items())


def _attempt_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    from vigie.why import signal_name

    made = []
    for row in rows:
        how = row["message"] or row["reason"] or ""
        if row["signal"] is not None:
            how = signal_name(row["signal"])
        elif row["exit_code"] is not None:
            how = f"exit {row['exit_code']}"
        began, ended = row["started"], row["finished"]
        took = "-" if began is None or ended is None else lasting(ended - began)
        started = "-" if began is None else (view.instant(began) or "")[:19].replace("T", " ")
        made.append([str(row["n"]), row["state"], started, took, how])
    return made


def _next(row: dict[str, Any], out: Context) -> None:
    job = row["id"]
    commands = {
        "completed": [f"vigie receive {job}"],
        "running": [f"vigie logs -f {job}", f"vigie stop {job}"],
        "suspended": [f"vigie resume {job}"],
    }.get(row["state"], [f"vigie why {job}"])
    shown.next_commands(out, *commands)
