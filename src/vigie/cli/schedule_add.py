"""``vigie schedule add`` and ``edit``."""

from __future__ import annotations

from vigie import environment, zones
from vigie.agenda import in_zone
from vigie.cli import schedule_options
from vigie.cli.declared import declared_tasks
from vigie.cli.lasting import lasting
from vigie.cli.schedule_hints import check_words, hinted
from vigie.declaration import JOB_KEYS, WHAT_KEYS, Scheduled, schedule
from vigie.errors import ExpressionError, Refused, UsageError
from vigie.firing import delay
from vigie.triggers.when import KEYS as TRIGGERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.cli.context import Context

__all__ = ["run"]

#: Which triggers take the place of which when a schedule is edited: those that say when, all together.
_WHEN = tuple(key for key in TRIGGERS if key not in ("timezone", "from", "until", "except"))

#: Firings to come that a plan compares.
SHOWN = 3
#: What decides what runs, and how.
_WORK = {*WHAT_KEYS, *JOB_KEYS, "task"}


def run(args: argparse.Namespace, out: Context) -> int:
    """Add or change a schedule, and say how it was read."""
    given = typed = schedule_options.table(args)
    changing = args.action == "edit"
    if changing:
        given = _changed(args.name, given, out)
    else:
        # What it means must not change with the place and the machine on which it is read.
        given = {"timezone": zones.load(None).name, **given, "cwd": environment.directory(given.get("cwd"))}
    if not changing:
        _check_name(args.name, out)
        says_what = bool(set(typed) & {*WHAT_KEYS, "task"})
        check_words("schedule add", args.when, says_when=bool(set(typed) & set(_WHEN)), says_what=says_what)
    # What was typed before is meant from where it was typed.
    base = given["cwd"] if changing and not set(typed) & set(_WHEN) else None
    try:
        found = schedule(
            args.name, given, tasks=declared_tasks(out), keep=changing and not set(typed) & _WORK, when_base=base
        )
    except ExpressionError as error:
        raise hinted(error, args.when, says_what=args.command is not None) from None
    if changing and args.plan:
        return _plan(found, out, as_json=args.json)
    fields, blobs = found.request(replace=changing)
    answer, _ = out.client().call_with_blobs("schedule_set", blobs, **fields)
    if args.json:
        coming = [in_zone(each + delay(found.policy, args.name, each), found.when.zone) for each in _next(found, 3)]
        out.json({"name": args.name, "changed": answer["changed"], "when": list(found.when.text),
                  "description": found.when.describe(), "timezone": found.when.zone.name, "next": coming})  # fmt: skip
    else:
        _say(found, changing, out)
    return 0


def _check_name(name: str, out: Context) -> None:
    """Refuse a name that means another schedule here: the project's of this directory."""
    from vigie.cli.declared import schedule_name

    meant = schedule_name(name, out)
    if meant != name:
        raise Refused(f"{name} means {meant} in this directory, which vigie.toml declares", "take another name")


def _changed(name: str, given: dict[str, Any], out: Context) -> dict[str, Any]:
    """Give the table of a schedule with what was typed in the place of what it said."""
    import json

    row = out.reader().schedules.get(name)
    if row["owner"] is not None:
        raise Refused(f"schedule {name} is declared in {row['owner']}", "change it there, and: vigie apply")
    if not given:
        raise UsageError(f"schedule edit {name}: nothing is changed", "vigie schedule edit -h shows what can be")
    before = json.loads(row["spec"])
    gone: set[str] = set()
    if set(given) & set(_WHEN):
        gone |= set(_WHEN)
    if set(given) & _WORK and not {*given, *before} & {*WHAT_KEYS, "task"}:
        raise Refused(
            f"what schedule {name} runs was given by a Python program",
            "change it there, or give it a command: -- CMD ARG…",
        )
    if set(given) & {*WHAT_KEYS, "task"}:
        gone |= {*WHAT_KEYS, "task", "args"}
    kept = {key: value for key, value in before.items() if key not in gone}
    kept.setdefault("cwd", row["cwd"].rstrip(b"\0").decode("utf-8", "surrogateescape"))
    return {**kept, **{key: None if _is_nothing(key, value) else value for key, value in given.items()}}


def _is_nothing(key: str, value: Any) -> bool:
    """Tell whether a word takes back what was said before: none, where that is no value of its own."""
    return value in ("none", ["none"]) and key not in ("catch_up", "queue", "args", "interpreter", "cwd")


def _plan(found: Scheduled, out: Context, *, as_json: bool) -> int:
    """Show what an edit would change, and which firings would move; nothing is changed."""
    import time

    from vigie.agenda import Agenda
    from vigie.change import Change
    from vigie.cli.changed import change_lines

    now, row = time.time_ns() // 1000, out.reader().schedules.get(found.name)
    plan, zone = Agenda(row), found.when.zone
    before = plan.coming(SHOWN, now)
    after = (
        []
        if row["state"] == "paused"
        else [each + delay(found.policy, found.name, each) for each in _next(found, SHOWN)]
    )
    table = {key: value for key, value in found.table.items() if value is not None}
    change = Change(
        "schedule", found.name, plan.table, table, before[0] if before else None, after[0] if after else None,
        zone.name, row["state"] == "paused",
    )  # fmt: skip
    gone = [in_zone(each, zone) for each in before if each not in after]
    new = [in_zone(each, zone) for each in after if each not in before]
    if as_json:
        out.json({"name": found.name, "keys": change.keys, "moved_from": gone, "moved_to": new})
        return 0
    for line in change_lines(change):
        out.print(line)
    for sign, instants in (("-", gone), ("+", new)):
        for text in instants:
            out.print(f"    {sign} {_short(text or '')}")
    if out.is_person:
        out.say("nothing was changed yet")
    return 0


def _next(found: Scheduled, count: int) -> list[int]:
    import time

    timed = found.when.timed
    return [] if timed is None else found.policy.free(timed.after(time.time_ns() // 1000), found.when.zone, count)


def _say(found: Scheduled, changing: bool, out: Context) -> None:
    """Say how it was read, and when it comes."""
    zone = found.when.zone
    said = [f"{'changed' if changing else 'added'} {found.name}: {'; '.join(found.when.describe())}"]
    coming = [in_zone(instant + delay(found.policy, found.name, instant), zone) for instant in _next(found, 3)]
    if coming:
        said.append(f"  next {', '.join(_short(each or '') for each in coming)} ({zone.name})")
    elif found.when.again:
        said.append("  next after its first run, and so on")
    out.say("\n".join([*said, *(f"  {line}" for line in lasting(out))]))
    if out.is_person:
        out.say(f"  · vigie schedule show {found.name} · vigie schedule run {found.name}")


def _short(text: str) -> str:
    """Give an instant as people read it: no T, no seconds that are none."""
    return text.replace("T", " ").replace(":00+", "+", 1) if ":00+" in text else text.replace("T", " ")
