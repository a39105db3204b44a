"""What applying a file would change: its tables against those of the last time.

The store keeps the table of each thing that a file declared as it was applied. What is
equal to it stays untouched, with the instants that are planned; a schedule whose table
differs, but not in what says when, keeps its instants too. Only what is new or another
is made anew, and only that is sent.

A hundred thousand schedules take seconds to make. They are shared out to as many
processes as there are cores, each of which writes down what it has made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from vigie import __version__
from vigie.change import Change, redacted
from vigie.changes_services import ServiceChanges
from vigie.errors import UsageError
from vigie.making import Maker, Scheduled, Standing, trigger_part
from vigie.making_rows import canonical
from vigie.manifest import BUILT_IN, Manifest, Table
from vigie.model import cores
from vigie.shares import Rows, shared
from vigie.store.manifest_reader import ManifestReader
from vigie.values import format_rate, parse_rate

__all__ = ["Changes"]

#: From so many schedules on they are made by several processes.
MANY = 5_000

#: Schedules to make: the name, the table that it had, how it stands.
Work = list[tuple[str, Table | None, Standing | None]]


class Changes:
    """Finds what applying a file would change, and makes the rows of it.

    Parameters
    ----------
    manifest:
        The file.
    reader:
        The store.
    now:
        The present instant (µs UTC).
    moved_from:
        The path that the file had, if it was moved.

    Attributes
    ----------
    version:
        How often the file was applied.
    list:
        All changes: tasks, queues, schedules, each by name.
    contexts:
        Surroundings of what was made, by digest.
    parts:
        Rows to send, as JSON.

    Raises
    ------
    UsageError
        With all that is wrong with the file, each with its line.
    """

    def __init__(self, manifest: Manifest, reader: ManifestReader, now: int, moved_from: str | None = None) -> None:
        self.manifest = manifest
        self.reader = reader
        self.now = now
        self.moved_from = moved_from
        self.list: list[Change] = []
        self.contexts: dict[str, dict[str, Any]] = {}
        self.parts: list[bytes] = []
        self._rows = Rows()
        self._maker = Maker(manifest, now)
        self._owner = moved_from or manifest.owner
        self.version = self._version()
        self._declared()
        gone = {change.name for change in self.list if change.kind == "queue" and change.after is None}
        self._check_queues(gone)
        services = ServiceChanges(manifest, reader, self._owner, self._free)
        self.list += services.list
        for kind, row in services.rows:
            self._rows.add(kind, row)
        self._schedules()
        manifest.refuse()
        self.parts += self._rows.take()

    def requests(self, of: str) -> Iterator[tuple[str, dict[str, Any], list[bytes]]]:
        """Give what to ask the agent, in turn: operation, fields, blobs.

        Parameters
        ----------
        of:
            Tells these requests from those of others.
        """
        *before, last = self.parts or [b"[]"]
        for number, part in enumerate(before):
            yield "apply_part", {"of": of, "part": number}, [part]
        signs = [change.sign for change in self.list]
        fields = {
            "of": of,
            "part": len(before),
            "vigie": __version__,
            "owner": self.manifest.owner,
            "project": self.manifest.project,
            "moved_from": self.moved_from,
            "version": self.version,
            "at": self.now,
            "contexts": self.contexts,
            "counts": {name: signs.count(sign) for name, sign in (("added", "+"), ("changed", "~"), ("removed", "-"))},
            # As many rows as this share a transaction with nobody.
            "count": max(1, len(self.list)),
        }
        yield "apply", fields, [last]

    # --- ownership ------------------------------------------------------------

    def _version(self) -> int:
        version = 0
        mine = self.manifest.owner
        if self.moved_from is not None and self.moved_from != mine and self.reader.file(mine, None):
            raise UsageError(f"{self.manifest.shown} was applied already", "--moved-from goes with its first apply")
        for row in self.reader.file(self._owner, self.manifest.project):
            if row["owner"] not in (self._owner, self.manifest.owner):
                self.manifest.wrong(
                    ("project",), f"project {row['name']} belongs to {row['owner']}", self._hint(row["owner"])
                )
            else:
                version = max(version, int(json.loads(row["spec"])["version"]))
        return version

    def _free(self, kind: str, names: Iterable[str]) -> None:
        """See that names to be added are free."""
        mine = (self._owner, self.manifest.owner)
        for name, owner in self.reader.owners(kind, list(names)).items():
            path = (kind, self.manifest.plain(name))
            if not owner:
                hint = f"vigie {kind} remove {name}, or give this one another name"
                self.manifest.wrong(path, f"{kind} {name} was made by hand", hint)
            elif owner not in mine:
                self.manifest.wrong(path, f"{kind} {name} belongs to {owner}", self._hint(owner))

    def _hint(self, owner: str) -> str:
        if os.path.exists(owner):
            return f"take it out there, and: vigie apply {owner}"
        again = f"vigie apply {self.manifest.shown} --moved-from {owner}"
        return f"that file is not there any more; if this one is it: {again}"

    # --- tasks and queues -----------------------------------------------------

    def _declared(self) -> None:
        """Compare tasks and queues."""
        known: dict[tuple[str, str], Table] = {
            (row["kind"], row["name"]): json.loads(row["spec"]) for row in self.reader.declared(self._owner)
        }
        wanted = {("task", name): table for name, table in self.manifest.tasks.items()}
        wanted |= {("queue", name): table for name, table in self.manifest.queues.items()}
        for kind in ("task", "queue"):
            self._free(kind, [name for of, name in wanted if of == kind and (kind, name) not in known])
        set_up = self.reader.queues()
        for kind, name in sorted({*known, *wanted}):
            before, after = known.get((kind, name)), wanted.get((kind, name))
            if kind == "task":
                self._task(name, before, after)
            else:
                self._queue(name, before, after, set_up.get(name))

    def _task(self, name: str, before: Table | None, after: Table | None) -> None:
        old = None if before is None else {key: value for key, value in before.items() if key != "made"}
        if after is None:
            self._note(Change("task", name, old, None))
            return
        if old == after:
            return
        self._note(Change("task", name, old, after))
        made = self._maker.task(name, after)
        if made is not None:
            self._rows.add("declared", ["task", name, canonical({**after, "made": made}), canonical(redacted(after))])

    def _queue(self, name: str, before: Table | None, after: Table | None, stands: dict[str, Any] | None) -> None:
        path = ("queue", self.manifest.plain(name))
        if after is None:
            self._note(Change("queue", name, before, None))
            return
        try:
            rate = parse_rate(after["rate"]) if "rate" in after else None
        except UsageError as error:
            self.manifest.wrong((*path, "rate"), error.message.removeprefix("rate: "), error.hint)
            return
        is_set = stands is not None and (stands["slots"] is not None or stands["rate"] is not None)
        if before is None and is_set:
            hint = f"vigie queue set {name} --slots default --rate none, and apply again"
            self.manifest.wrong(path, f"queue {name} was set by hand", hint)
            return
        if (
            before is not None
            and stands is not None
            and (stands["slots"], stands["rate"]) != (after.get("slots"), rate)
        ):
            # As it is set now, which somebody may have done by hand.
            before = {key: value for key, value in (("slots", stands["slots"]), ("rate", stands["rate"])) if value}
            if "rate" in before:
                before["rate"] = format_rate(before["rate"])
        if before != after or stands is None:
            self._note(Change("queue", name, before, after))
            self._rows.add("declared", ["queue", name, canonical(after), None])

    def _check_queues(self, gone: set[str]) -> None:
        """See that every queue is there that something waits in."""
        known = ({*BUILT_IN, *self.reader.queues()} - gone) | set(self.manifest.queues)
        known |= {self.manifest.full(name) for kind, name in self.manifest.bad if kind == "queue"}
        for kind, tables in (("task", self.manifest.tasks), ("schedule", self.manifest.schedules)):
            for name, table in tables.items():
                queue = table.get("queue")
                if queue is not None and queue not in known:
                    path = (kind, self.manifest.plain(name), "queue")
                    self.manifest.wrong(path, f"there is no queue {queue!r}", f"write [queue.{queue}], with its slots")

    # --- schedules ------------------------------------------------------------

    def _schedules(self) -> None:
        """Compare schedules, and make those that are new or another."""
        wanted = self.manifest.schedules
        left = dict(wanted)
        changed: dict[str, Table] = {}
        gone: dict[str, Table] = {}
        for name, spec in self.reader.schedules(self._owner):
            table = left.pop(name, None)
            if table is None:
                gone[name] = json.loads(spec)
            elif canonical(table) != spec:
                changed[name] = json.loads(spec)
        self._free("schedule", left)
        standing = self.reader.standing([*changed, *gone])
        work: Work = [(name, changed.get(name), _standing(standing.get(name))) for name in sorted({*left, *changed})]
        for name, how in self._made(work):
            after, before = wanted[name], changed.get(name)
            self._note(_change(name, before, after, _standing(standing.get(name)), how))
        for name, table in gone.items():
            self._rows.add("gone", ["schedule", name])
            row = standing.get(name)
            paused = row is not None and row["state"] == "paused"
            due = None if row is None else row["due"]
            self.list.append(Change("schedule", name, table, None, due, zone=table.get("timezone"), paused=paused))
        order = ("queue", "task", "service", "schedule")
        self.list.sort(key=lambda change: (order.index(change.kind), change.name))

    def _made(self, work: Work) -> Iterator[tuple[str, int | None]]:
        """Make schedules; give of each when it comes next."""
        shares: list[Work] = [work]
        if len(work) >= MANY and cores() > 1:
            shares = [[] for _ in range(cores())]
            for each in work:
                # What is alike goes to one process, which then makes it once.
                when = canonical(trigger_part(self.manifest.schedules[each[0]]))
                shares[hash(when) % len(shares)].append(each)
        results = shared(self._make, shares)
        for made in results:
            self.parts += made.parts
            self.contexts |= made.contexts
            self.manifest.take(made.wrong)
            yield from made.comes

    def _make(self, work: Work) -> _Made:
        """Make some of them."""
        maker, rows = Maker(self.manifest, self.now), Rows()
        comes: list[tuple[str, int | None]] = []
        sent: set[str] = set()
        noted = self.manifest.noted
        for name, before, stands in work:
            table = self.manifest.schedules[name]
            same = before is not None and _same_when(before, table, stands)
            made = maker.schedule(name, table, stands, same_when=same)
            if made is None:
                continue
            if made.task not in sent:
                sent.add(made.task)
                rows.add("task", _task_row(made.task, maker.tasks.pop(made.task)))
            how = "add" if before is None else "keep" if same else "move"
            rows.add("schedule", _schedule_row(how, made, table))
            following = stands.next if same and stands is not None else made.next
            comes.append((name, None if following is None else following + made.delay))
        return _Made(rows.take(), maker.contexts, comes, self.manifest.since(noted))

    def _note(self, change: Change) -> None:
        self.list.append(change)
        if change.after is None:
            self._rows.add("gone", [change.kind, change.name])


class _Made(NamedTuple):
    """What one process has made."""

    parts: list[bytes]
    contexts: dict[str, dict[str, Any]]
    comes: list[tuple[str, int | None]]
    wrong: list[Any]


def _same_when(before: Table, after: Table, stands: Standing | None) -> bool:
    """Tell whether a schedule keeps its instants: one that is done begins anew when it may have other runs."""
    more = stands is not None and stands.state == "done" and before.get("max_runs") != after.get("max_runs")
    return not more and trigger_part(before) == trigger_part(after)


def _standing(row: dict[str, Any] | None) -> Standing | None:
    return None if row is None else Standing(**{key: row[key] for key in Standing._fields})


def _change(name: str, before: Table | None, after: Table, stands: Standing | None, comes: int | None) -> Change:
    paused = stands is not None and stands.state == "paused"
    due = None if stands is None else stands.due
    return Change("schedule", name, before, after, due, None if paused else comes, after["timezone"], paused)


def _task_row(key: str, row: tuple[Any, ...]) -> list[Any]:
    kind, argv, *rest = row
    return [key, kind, None if argv is None else os.fsdecode(argv), *rest]


def _schedule_row(how: str, made: Scheduled, table: Table) -> list[Any]:
    told = canonical(redacted(table)) if "env" in table or "files" in table else None
    return [
        made.name, how, made.spec, made.policy, made.task, made.context, made.args, made.encoding, made.job, made.queue,
        made.delay, made.triggers, made.zones, made.relative, made.again, made.occasions, made.planned, made.next, told,
    ]  # fmt: skip
