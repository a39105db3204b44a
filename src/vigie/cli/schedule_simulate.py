"""``vigie schedule simulate``: what a whole ``vigie.toml`` would do in a span of time."""

from __future__ import annotations

import time

from vigie import zones
from vigie.agenda import in_zone
from vigie.cli.apply import load
from vigie.cli.changed import plural
from vigie.cli.shown import dumps
from vigie.errors import UsageError
from vigie.firing import REASONS
from vigie.making import Maker
from vigie.model import default_slots
from vigie.rehearsal import Course, Tally, rehearse
from vigie.terminal import clean, paint
from vigie.triggers.wall import DAY
from vigie.values import parse_duration, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.cli.context import Context
    from vigie.manifest import Manifest, Table
    from vigie.rehearsal import Firing, Load

__all__ = ["run"]

#: Jobs of a schedule that tell how long the next one takes.
LATELY = 1000


class _Plan:
    """What is simulated: the schedules, and how it is known how long each takes."""

    def __init__(self, manifest: Manifest, start: int, given: dict[str, int], out: Context) -> None:
        self.manifest = manifest
        self.given = given
        self.out = out
        self.courses: list[Course] = []
        #: Name → what its duration was taken from: given, history, timeout; None: unknown.
        self.sources: dict[str, str | None] = {}
        self.untimed: list[str] = []
        maker = Maker(manifest, start)
        for name, table in manifest.schedules.items():
            # What is wrong with a table is noted, as when it is applied.
            if maker.schedule(name, table, None, same_when=False) is None:
                continue
            timed = maker.when(name, table).timed
            if timed is None:
                self.untimed.append(name)
                continue
            duration = self._duration(name, table)
            queue = table.get("queue", "schedules")
            policy, zone = maker.policy(table)[0], zones.load(table["timezone"])
            self.courses.append(Course(name, timed, policy, zone, queue, duration))
        manifest.refuse()

    def _duration(self, name: str, table: Table) -> int | None:
        for known, source in (
            (self.given.pop(name, None) or self.given.pop(self.manifest.plain(name), None), "given"),
            (self._median(name), "history"),
            (parse_duration(table["timeout"]) if "timeout" in table else None, "timeout"),
        ):
            if known is not None:
                self.sources[name] = source
                return known
        self.sources[name] = None
        return None

    def _median(self, name: str) -> int | None:
        rows = self.out.reader().schedules.ended(name, LATELY)
        took = sorted(row["duration"] for row in rows if row["state"] == "completed" and row["duration"] is not None)
        return took[(len(took) - 1) // 2] if took else None

    def slots(self, queue: str) -> int:
        """Give the slots of a queue, as the file or else the store has it."""
        declared = self.manifest.queues.get(queue)
        if declared is not None:
            return int(declared.get("slots") or default_slots(queue))
        return int(self.out.reader().queue(queue)["slots"])


def run(args: argparse.Namespace, out: Context) -> int:
    """Show every firing, then what collides and how much runs at once."""
    now = time.time_ns() // 1000
    start = now if args.start is None else parse_time(args.start, now, option="--from")
    end = _end(args.end, start)
    if end <= start:
        raise UsageError("schedule simulate: --to is not later than --from", "--to 7d, or a time")
    plan = _Plan(load(args.file), start, _durations(args.durations), out)
    if plan.given:
        raise UsageError(f"--duration: the file has no schedule {next(iter(plan.given))}", "--duration NAME=5m")
    tally = Tally()
    firings = rehearse(plan.courses, start, end, tally)
    if args.json:
        _write_json(plan, firings, tally, start, end, out)
        return 0
    brush = paint(out)
    for firing in firings:
        said = "" if firing.skip is None else brush("yellow", f"  skipped: {REASONS[firing.skip.reason]}")
        out.print(f"{_wall(firing.due, firing)}  {clean(firing.course.name)}{said}")
    if tally.count:
        out.print("")
    for line in _summary(plan, tally, start, end):
        out.print(line)
    return 0


def _end(text: str | None, start: int) -> int:
    if text is None:
        return start + DAY
    try:
        return start + parse_duration(text)
    except ValueError:
        return parse_time(text, start, option="--to")


def _durations(given: list[str]) -> dict[str, int]:
    found = {}
    for each in given:
        name, equals, text = each.rpartition("=")
        if not equals or not name:
            raise UsageError(f"--duration: {each!r} is not NAME=T", "--duration nightly=5m")
        found[name] = parse_duration(text, "--duration")
    return found


def _wall(instant: int, firing: Firing) -> str:
    return (in_zone(instant, firing.course.zone) or "").replace("T", " ")


# --- what it comes to -------------------------------------------------------------


def _summary(plan: _Plan, tally: Tally, start: int, end: int) -> list[str]:
    zone = zones.load(None)
    wall = [(in_zone(at, zone) or "").replace("T", " ")[:19] for at in (start, end)]
    skipped = f", {tally.skipped:,} of them skipped" if tally.skipped else ""
    said = f"{plural(tally.count, 'firing')} of {plural(len(plan.courses), 'schedule')}{skipped}"
    lines = [f"{said}, from {wall[0]} to {wall[1]} ({zone.name})"]
    if tally.crowd > 1:
        lines.append(f"collisions: several begin in {plural(tally.shared, 'minute')}; {_crowd(tally)}")
    lines += [_load(queue, found, plan.slots(queue)) for queue, found in sorted(tally.loads.items())]
    unknown = [name for name, source in plan.sources.items() if source is None]
    if unknown:
        example = plan.manifest.plain(unknown[0])
        lines.append(f"not in the load, as nobody knows how long they take: {_some(unknown)} (--duration {example}=5m)")
    if plan.untimed:
        lines.append(f"not simulated, as no clock says when they come: {_some(plan.untimed)}")
    return lines


def _crowd(tally: Tally) -> str:
    zone = zones.load(None)
    minute = (in_zone(tally.crowd_at, zone) or "").replace("T", " ")[:16]
    said = f"at most {tally.crowd:,} in one, at {minute}"
    if tally.most > 1:
        more = ", …" if tally.most > len(tally.names) else ""
        at = (in_zone(tally.at, zone) or "").replace("T", " ")
        said += f"; at most {tally.most:,} at one instant, {at}: {', '.join(tally.names)}{more}"
    return clean(said)


def _load(queue: str, found: Load, slots: int) -> str:
    at = (in_zone(found.at, zones.load(None)) or "").replace("T", " ")
    wait = f": {found.most - slots:,} wait" if found.most > slots else ""
    return clean(
        f"load: at most {found.most:,} at once in queue {queue}, at {at}; it has {plural(slots, 'slot')}{wait}"
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return clean(", ".join(names[:10]) + more)


def _write_json(plan: _Plan, firings: Any, tally: Tally, start: int, end: int, out: Context) -> None:
    """Write one object, firing by firing: there may be a million."""
    local = zones.load(None)
    out.stdout.flush()
    write = out.stdout.buffer.write
    head = {"from": in_zone(start, local), "to": in_zone(end, local)}
    write(dumps(head)[:-1].encode() + b', "firings": [')
    separator = b""
    for firing in firings:
        write(separator + dumps(_json(firing)).encode())
        separator = b",\n "
    tail = {
        "count": tally.count,
        "skipped": tally.skipped,
        "collisions": {
            "minutes": tally.shared,
            "most_in_a_minute": tally.crowd,
            "minute": in_zone(tally.crowd_at, local),
            "most_at_once": tally.most,
            "at": in_zone(tally.at, local),
            "names": tally.names,
        },
        "load": [
            {"queue": queue, "most": found.most, "at": in_zone(found.at, local), "slots": plan.slots(queue)}
            for queue, found in sorted(tally.loads.items())
        ],
        "durations": {
            each.name: {
                "seconds": None if each.duration is None else each.duration / 1e6,
                "from": plan.sources[each.name],
            }
            for each in plan.courses
        },
        "not_timed": plan.untimed,
    }
    write(b"],\n" + dumps(tail)[1:].encode() + b"\n")
    out.stdout.buffer.flush()


def _json(firing: Firing) -> dict[str, Any]:
    zone, skip = firing.course.zone, firing.skip
    return {
        "name": firing.course.name,
        "planned": in_zone(firing.instant, zone),
        "due": in_zone(firing.due, zone),
        "queue": firing.course.queue,
        "skipped": None if skip is None else skip.reason,
    }
