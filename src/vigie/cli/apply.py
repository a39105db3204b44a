"""``vigie apply``: make it so as a file says, or show what that would change."""

from __future__ import annotations

import gc
import os
import time

from vigie.change import differing, redacted
from vigie.changes import Changes
from vigie.cli.changed import change_lines, instant_of, plural
from vigie.cli.lasting import say_lasting
from vigie.errors import Conflict, UsageError
from vigie.manifest import LARGEST, Manifest, read_manifest
from vigie.manifest_keys import KINDS
from vigie.rid import new as new_rid
from vigie.terminal import paint

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.change import Change
    from vigie.cli.context import Context

__all__ = ["load"]

SUMMARY = "make it so as a file declares: tasks, schedules, queues"
USAGE = "vigie apply [FILE] [--plan] [--json]"
NOTES = """\
FILE is ./vigie.toml by default. A file owns what it declares: what has left it is removed, what is equal stays
untouched, and what was made by hand or belongs to another file is never touched. All of it is done, or nothing.

exit codes: 0 done, or nothing to do; 2 something in the file is wrong, and nothing was changed."""
EXAMPLES = """\
vigie apply --plan             # what would change, removals included, and which firings would move
vigie apply                    # ./vigie.toml
vigie apply /srv/shop/vigie.toml --json
vigie apply --moved-from /old/place/vigie.toml      # what that file declared is this one's
"""
#: Lines for things of one kind and sign, without --plan.
FEW = 20
#: How often a file is compared anew when something changed meanwhile.
TRIES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("file", metavar="FILE", nargs="?", default="vigie.toml", help="default ./vigie.toml")
    parser.add_argument("--plan", action="store_true", help="show what would change, and change nothing")
    parser.add_argument("--moved-from", metavar="FILE", help="take over what this file declared, at its old path")
    parser.add_argument("--json", action="store_true", help="answer with a JSON object")


def run(args: argparse.Namespace, out: Context) -> int:
    """Apply a file, or show what that would change."""
    # Nothing that is made here goes before the end, and to look for what might is a third of the work.
    gc.disable()
    try:
        return _run(args, out)
    finally:
        gc.enable()


def _run(args: argparse.Namespace, out: Context) -> int:
    manifest = load(args.file)
    moved_from = None if args.moved_from is None else os.path.realpath(args.moved_from)
    if args.plan:
        changes, applied = _compared(manifest, moved_from, out), False
    else:
        changes = make_so(manifest, moved_from, out)
        applied = bool(changes.list or moved_from is not None)
    if args.json:
        _print_json(changes, applied, out)
        return 0
    _print(changes.list, out, all_of_it=args.plan)
    if applied:
        kinds = {change.kind for change in changes.list}
        if any(change.sign == "+" and change.kind in ("schedule", "service") for change in changes.list):
            say_lasting(out)
        if out.is_person:
            lists = [f"vigie {kind} list" for kind in ("schedule", "service") if kind in kinds]
            out.say("· ".join(["", *(f"{each} " for each in lists), "vigie events"]))
    elif changes.list and out.is_person:
        out.say(f"nothing was changed yet · vigie apply {'' if args.file == 'vigie.toml' else args.file}".rstrip())
    return 0


def load(name: str) -> Manifest:
    """Read a file; what is wrong in it is noted, and said when all of it is known.

    Raises
    ------
    UsageError
        When it cannot be read, or is no TOML.
    """
    path = os.path.join(name, "vigie.toml") if os.path.isdir(name) else name
    owner = os.path.realpath(path)
    try:
        owner.encode()
        if not os.path.isfile(owner):
            os.stat(owner)  # says best what is wrong with it
            raise UsageError(f"cannot read {path}: it is no file", "vigie apply FILE")
        with open(owner, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "vigie apply FILE") from None
    except UnicodeEncodeError:
        raise UsageError(f"the path of {name!a} is no UTF-8", "move it to one that is") from None
    return read_manifest(data, owner, path, refuse=False)


def make_so(manifest: Manifest, moved_from: str | None, out: Context) -> Changes:
    """Make it so as a file declares; give what was changed."""
    changes = _compared(manifest, moved_from, out)
    return _apply(changes, out) if changes.list or moved_from is not None else changes


def _compared(manifest: Manifest, moved_from: str | None, out: Context) -> Changes:
    from vigie.store.manifest_reader import ManifestReader

    return Changes(manifest, ManifestReader(out.reader()), time.time_ns() // 1000, moved_from)


def _apply(changes: Changes, out: Context) -> Changes:
    """Have the agent do it; if something changed meanwhile, compare anew."""
    for left in reversed(range(TRIES)):
        try:
            _send(changes, out)
            return changes
        except Conflict:
            if not left:
                raise
        changes = _compared(changes.manifest, changes.moved_from, out)
        if not changes.list and changes.moved_from is None:
            break
    return changes


def _send(changes: Changes, out: Context) -> None:
    client = out.client()
    for op, fields, blobs in changes.requests(new_rid()):
        client.call_with_blobs(op, blobs, **fields)


# --- what it says -----------------------------------------------------------------


def _print(found: list[Change], out: Context, *, all_of_it: bool) -> None:
    if not found:
        out.print("nothing changed")
        return
    brush = paint(out)
    colours = {"+": "green", "~": "yellow", "-": "red"}
    shown: dict[tuple[str, str], int] = {}
    for change in found:
        key = (change.sign, change.kind)
        shown[key] = shown.get(key, 0) + 1
        if all_of_it or shown[key] <= FEW:
            for line in change_lines(change):
                out.print(brush(colours[change.sign], line[:1]) + line[1:])
    for (sign, kind), count in shown.items():
        if not all_of_it and count > FEW:
            out.print(f"{sign} … and {plural(count - FEW, kind)} more (--json names all of them)")
    signs = [change.sign for change in found]
    out.print(f"{signs.count('+'):,} added, {signs.count('~'):,} changed, {signs.count('-'):,} removed")


def _print_json(changes: Changes, applied: bool, out: Context) -> None:
    """Write an object, change by change: there may be a hundred thousand."""
    from vigie.cli.shown import dumps

    manifest = changes.manifest
    head = {"file": manifest.owner, "project": manifest.project, "applied": applied}
    out.stdout.flush()
    write = out.stdout.buffer.write
    write(dumps(head)[:-1].encode() + b', "changes": [')
    separator = b""
    for change in changes.list:
        write(separator + dumps(_json(change)).encode())
        separator = b",\n "
    write(b"]}\n")
    out.stdout.buffer.flush()


def _json(change: Change) -> dict[str, Any]:
    before, after = change.before, change.after
    found: dict[str, Any] = {
        "change": {"+": "add", "~": "change", "-": "remove"}[change.sign],
        "kind": change.kind,
        "name": change.name,
        "before": None if before is None else _known(change.kind, before),
        "after": None if after is None else _known(change.kind, after),
        "keys": [] if before is None or after is None else differing(change.kind, before, after),
    }
    if change.kind == "schedule":
        found["next"] = {"before": instant_of(change.due, change), "after": instant_of(change.next, change)}
    return found


def _known(kind: str, table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in redacted(table).items() if key in KINDS[kind]}
