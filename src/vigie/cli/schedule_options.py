"""The options of ``vigie schedule``: triggers, policies, and what is to run."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

__all__ = ["POLICY_OPTIONS", "TRIGGER_OPTIONS", "WORK_OPTIONS", "parse_json", "policies", "table", "triggers", "work"]

#: Destination → key of the table. Those with a list may be given more than once.
TRIGGER_OPTIONS = {
    "cron": "cron", "calendar": "calendar", "rrule": "rrule", "on_file": "on_file", "on_event": "on_event",
    "on_idle": "on_idle", "first": "from", "last": "until", "leave_out": "except", "timezone": "timezone",
}  # fmt: skip
POLICY_OPTIONS = {
    "overlap": "overlap", "catch_up": "catch_up", "lateness": "lateness", "jitter": "jitter", "condition": "if",
    "condition_wait": "if_wait", "blackout": "blackout", "delete_after": "delete_after", "max_runs": "max_runs",
    "history": "history",
}  # fmt: skip
WORK_OPTIONS = {
    "shell": "shell", "script": "script", "function": "python", "arguments": "args", "task": "task",
    "interpreter": "interpreter", "cwd": "cwd", "env": "env", "env_file": "env_file", "timeout": "timeout",
    "retries": "retries", "backoff": "backoff", "grace": "grace", "queue": "queue", "priority": "priority",
    "tag": "tags", "concurrency": "concurrency", "on_lost": "on_lost", "max_output": "max_output",
}  # fmt: skip


def triggers(parser: argparse.ArgumentParser) -> None:
    """Add the options that say when."""
    add = parser.add_argument_group("when").add_argument
    add("--cron", metavar="E", action="append", help="a cron line of 5 fields, or 6 with seconds first")
    add("--calendar", metavar="E", action="append", help="a systemd calendar expression: 'Mon..Fri *-*-* 08:00'")
    add("--rrule", metavar="E", action="append", help="a recurrence rule of RFC 5545: 'FREQ=DAILY;BYHOUR=8'")
    add(
        "--on-file",
        metavar="P",
        action="append",
        help="a file comes and has settled; a pattern (more: WHEN 'on file P created')",
    )
    add("--on-event", metavar="E", action="append", help="'job NAME failed': completed, failed, stopped, lost or ended")
    add("--on-idle", metavar="T", action="append", help="the machine has been idle for T")
    add("--timezone", metavar="Z", help="the zone of all times: Europe/Paris, UTC, +02:00; default this machine's")
    add("--not-before", metavar="T", dest="first", help="nothing comes before this time")
    add("--not-after", metavar="T", dest="last", help="nothing comes after this time")
    add("--except", metavar="D", dest="leave_out", action="append", help="a date left out, or an .ics file of them")


def policies(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what else holds."""
    add = parser.add_argument_group("policies").add_argument
    add(
        "--overlap",
        metavar="HOW",
        help="an earlier run goes on: skip (default), queue-one, queue-all[=N], parallel, replace",
    )
    add("--catch-up", metavar="HOW", help="instants missed while nobody was there: none, latest (default), all[=N]")
    add("--lateness", metavar="T", help="never start later than this; default one period, a day at most")
    add("--jitter", metavar="T", help="spread the starts over so long; 'T random': another delay each time")
    add("--if", metavar="C", dest="condition", action="append",
        help="power, network, 'idle 10m', 'load < 1.5', 'disk /srv 10 GiB', 'command CMD ARG…'")  # fmt: skip
    add("--if-wait", metavar="T", dest="condition_wait", help="how long to wait for that; default 1h")
    add(
        "--blackout",
        metavar="W",
        action="append",
        help="start nothing then: 22:00-06:00, sat,sun, 'mon-fri 09:00-17:00'",
    )
    add("--delete-after", metavar="T", help="remove the schedule so long after its end")
    add("--max-runs", metavar="N", help="so many runs, and it is done")
    add("--history", metavar="N", help="records kept; default 100")


def work(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what runs, and how."""
    add = parser.add_argument_group("what runs (or: -- CMD ARG…)").add_argument
    add("--shell", metavar="LINE", help="a line for /bin/sh")
    add("--script", metavar="FILE", help="a script, by its extension; its arguments behind --")
    add("-f", dest="function", metavar="M:F", help="a Python function; its arguments by --args JSON")
    add("--args", dest="arguments", metavar="JSON", help="a JSON array, or an object of keyword arguments")
    add("--task", metavar="NAME", help="a task that vigie.toml declares")
    add("--python", dest="interpreter", metavar="P", help="the interpreter of scripts and functions")
    add = parser.add_argument_group("how").add_argument
    add("--cwd", metavar="D", help="its directory; default where this is typed")
    add("--env", metavar="K[=V]", action="append", help="a variable; K alone copies it from here")
    add("--env-file", metavar="F", action="append", help="a dotenv file")
    add("--timeout", metavar="T", help="end it after this time")
    add("--retries", metavar="N", help="try so often again")
    add("--backoff", metavar="T", help="wait so long before the first of them; doubles")
    add("--grace", metavar="T", help="time between SIGTERM and SIGKILL")
    add("--queue", metavar="Q", help="default schedules")
    add("--priority", metavar="N", help="higher goes first")
    add("--tag", metavar="T", action="append", help="a label of its jobs")
    add("--concurrency", metavar="KEY=N", action="append", help="at most N of those with this key at once")
    add("--on-lost", metavar="HOW", help="fail or rerun what was lost in a crash")
    add("--max-output", metavar="S", help="bytes of output kept of each job")


def table(args: argparse.Namespace) -> dict[str, Any]:
    """Give what was typed as the table that ``vigie.toml`` would have."""
    found: dict[str, Any] = {}
    if getattr(args, "when", None):
        found["when"] = args.when[0] if len(args.when) == 1 else args.when
    for options in (TRIGGER_OPTIONS, POLICY_OPTIONS, WORK_OPTIONS):
        for name, key in options.items():
            value = getattr(args, name, None)
            if value not in (None, []):
                found[key] = value[0] if isinstance(value, list) and len(value) == 1 and key in _SINGLE else value
    if "args" in found:
        found["args"] = parse_json(found["args"])
    command = getattr(args, "command", None)
    if command and "script" in found:
        found["script"] = [found["script"], *command]
    elif command:
        found["run"] = command
    return found


#: Of what may be given more than once, a table of one says it plainly.
_SINGLE = ("cron", "calendar", "rrule", "on_file", "on_event", "on_idle", "if", "blackout", "tags")


def parse_json(text: str) -> Any:
    """Read the arguments of a function.

    Raises
    ------
    UsageError
        When the text is no JSON.
    """
    import json

    from vigie.errors import UsageError

    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"--args: {text!r} is not JSON: {error}", "--args '[1, \"two\"]'") from None
