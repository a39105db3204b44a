"""``vigie service add`` and ``edit``."""

from __future__ import annotations

from vigie import environment
from vigie.cli import service_options, service_wait
from vigie.errors import Refused, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.cli.context import Context

__all__ = ["run"]

_WHAT = ("run", "shell", "script", "python", "task")


def run(args: argparse.Namespace, out: Context) -> int:
    """Add or change a service, and say how it stands."""
    from vigie.cli.declared import declared_tasks
    from vigie.service_declaration import service as declare

    typed = service_options.table(args)
    changing = args.action == "edit"
    if changing:
        table = _changed(args.name, typed, out)
    else:
        _check(args.name, typed, out)
        table = {**typed, "cwd": environment.directory(typed.get("cwd"))}
    found = declare(args.name, table, tasks=declared_tasks(out), base=table["cwd"])
    fields, blobs = found.request(replace=changing, start=not (args.no_start or changing))
    answer, _ = out.client().call_with_blobs("service_set", blobs, **fields)
    if not changing:
        from vigie.cli.lasting import say_lasting

        say_lasting(out)
    names = [args.name]
    if changing or args.no_start or found.plan.mode != "automatic":
        args.no_wait = args.no_wait or not changing
    instances = [{"name": name, "state": "inactive", "desired": "down", "cause": ""} for name in answer["instances"]]
    return service_wait.finish(args, instances, names, "settled", out)


def _check(name: str, typed: dict[str, Any], out: Context) -> None:
    """Refuse a name that means another service here, and a service that runs nothing."""
    from vigie.cli.declared import service_name

    meant = service_name(name, out)
    if meant != name:
        raise Refused(f"{name} means {meant} in this directory, which vigie.toml declares", "take another name")
    if not set(typed) & set(_WHAT):
        raise UsageError(f"service add {name}: there is nothing to run", f"vigie service add {name} -- CMD ARG…")


def _changed(name: str, typed: dict[str, Any], out: Context) -> dict[str, Any]:
    """Give the table of a service with what was typed in the place of what it said."""
    import json

    row = out.reader().services.get(name)
    if row["owner"] is not None:
        raise Refused(f"service {name} is declared in {row['owner']}", "change it there, and: vigie apply")
    if not typed:
        raise UsageError(f"service edit {name}: nothing is changed", "vigie service edit -h shows what can be")
    before = json.loads(row["spec"])
    gone = {*_WHAT, "args"} if set(typed) & set(_WHAT) else set()
    kept = {key: value for key, value in before.items() if key not in gone}
    kept.setdefault("cwd", row["cwd"].rstrip(b"\0").decode("utf-8", "surrogateescape"))
    taken_back = {key: None if value in ("none", ["none"]) else value for key, value in typed.items()}
    return {**kept, **taken_back}
