"""The duty of doing what people ask of schedules: add, change, pause, resume, run, remove."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vigie import firing as rules
from vigie import zones
from vigie.agent.core import Core, Who
from vigie.agent.schedules import Schedules
from vigie.agent.submit import queue_of, task_of
from vigie.agent.whens import line, policy_of, read
from vigie.errors import Conflict, NotFound, Refused, UsageError
from vigie.store.rows import Row
from vigie.store.schedules import ScheduleRow
from vigie.triggers.when import When

__all__ = ["ScheduleControl"]


class ScheduleControl:
    """Changes schedules.

    Parameters
    ----------
    core:
        The agent's state.
    duty:
        The schedules that run.
    """

    def __init__(self, core: Core, duty: Schedules) -> None:
        self.core = core
        self.duty = duty
        self.store = core.store.schedules
        #: What the files of zones said when they were first used; an older word only makes plans be made anew.
        self._prints: dict[str, str] = {}

    # --- what there is --------------------------------------------------------

    def set(self, request: dict[str, Any], blobs: Sequence[bytes], who: Who) -> dict[str, Any]:
        """Add a schedule, or change it where the request says ``replace``.

        Raises
        ------
        Conflict
            When there is one of that name and nobody said ``replace``.
        UsageError
            When a part of it makes no sense, or nothing ever comes of it.
        """
        name = str(request["name"])
        known = self.store.named(name)
        owner = request.get("owner")
        if known is not None:
            self._may(known, owner, replace=bool(request.get("replace")))
            known = self.duty.see_to(known)
        fields = self._fields(request, blobs, known)
        before = None if known is None else known.spec
        if known is None:
            self.store.add(fields)
        else:
            now = self.core.clock.wall()
            self.store.run("withdraw", (known.id, now))
            self.store.run("change", {**fields, "id": known.id})
        verb = "schedule-added" if known is None else "schedule-changed"
        self.core.log(verb, who=who, thing=f"schedule:{name}", before=before, after=fields["spec"])
        self.core.after(self.duty.wake)
        self._known(name, read(fields["triggers"]).when, known)
        return {"name": name, "next": fields["next"], "changed": known is not None}

    def _known(self, name: str, when: When, before: ScheduleRow | None) -> None:
        """Tell the duty of a schedule that is new or another."""
        duty = self.duty
        (duty.follow_runs if when.again else duty.again.discard)(name)
        for zone in when.zones:
            if zone.name not in self._prints:
                self._prints[zone.name] = zones.fingerprint(zone)
            self.store.run("know_zone", (zone.name, self._prints[zone.name]))
        if when.occasions or (before is not None and before.occasions):
            row = self.store.named(name)
            if row is not None and when.occasions:
                duty.happenings.baseline(row.id, when.occasions)
            duty.happenings.learn()

    def _may(self, known: ScheduleRow, owner: str | None, *, replace: bool) -> None:
        """Refuse to touch what belongs to somebody else."""
        if known.owner is not None and known.owner != owner:
            raise Refused(
                f"schedule {known.name} belongs to {known.owner}", f"change it there: vigie apply {known.owner}"
            )
        if owner is not None and known.owner is None:
            raise Refused(f"schedule {known.name} was made by hand", f"vigie schedule remove {known.name}")
        if not replace:
            raise Conflict(f"there is a schedule {known.name} already", f"vigie schedule edit {known.name}")

    def _fields(self, request: dict[str, Any], blobs: Sequence[bytes], known: ScheduleRow | None) -> dict[str, Any]:
        """Check all of a request, and give the columns of its row."""
        core, name = self.core, str(request["name"])
        _check_name(name)
        triggers = json.dumps(request["triggers"], separators=(",", ":"), sort_keys=True)
        when = read(triggers).when
        policy = json.dumps(request.get("policy") or {}, separators=(",", ":"), sort_keys=True)
        policy_of(policy)
        work = self._work(request, blobs, known)
        now = core.clock.wall()
        relative = bool(when.relative or (when.again and when.timed is None))
        fields: dict[str, Any] = {
            "name": name, "owner": request.get("owner"), "spec": json.dumps(request.get("spec") or {}),
            "triggers": triggers, "policy": policy, **work,
            "zones": " ".join(zone.name for zone in when.zones), "relative": int(relative),
            "again": int(bool(when.again)), "occasions": int(bool(when.occasions)),
            "created": now if known is None else known.created, "changed": now, "planned": now,
        }  # fmt: skip
        row = _as_row(fields, known)
        most = policy_of(policy).max_runs
        runs = row.runs - row.by_hand
        if most is not None and runs >= most:
            raise UsageError(
                f"schedule {name} has had {runs} runs, and {most} are the most", "--max-runs, higher or none"
            )
        times = line(row)
        # What was put off, by its jitter say, counts as the next.
        waits = known is not None and self.store.waits(known.id)
        following = now + 1 if times.overdue(now) and not waits else times.after(now)
        if following is None and not when.again and not when.occasions:
            raise UsageError(f"schedule {name} never comes: {'; '.join(when.text)} has no instant later than now")
        fields["next"] = following
        fields["due"] = None
        if following is not None and row.state != "paused":
            fields["due"] = self.duty.due(row, following)
        return fields

    def _work(self, request: dict[str, Any], blobs: Sequence[bytes], known: ScheduleRow | None) -> dict[str, Any]:
        """Give the columns that say what runs: as the request has it, or as it was."""
        core = self.core
        if "task" not in request and known is not None:
            return {key: getattr(known, key) for key in ("task", "context", "args", "encoding", "job")}
        task, left = task_of(core, request["task"], blobs)
        return {
            "task": task,
            "context": core.store.intern_context(request["context"]),
            "args": left[0] if left else None,
            "encoding": _encoding(request) if left else None,
            "job": _job(core, request.get("job") or {}),
        }

    # --- by name --------------------------------------------------------------

    def remove(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Remove a schedule; its jobs stay."""
        row = self._named(request)
        if row.owner is not None and row.owner != request.get("owner"):
            raise Refused(f"schedule {row.name} is declared in {row.owner}", "take it out there, and: vigie apply")
        self.store.run("remove", (row.id,))
        self.duty.again.discard(row.name)
        self._look(row)
        self.core.log("schedule-removed", who=who, thing=f"schedule:{row.name}", before=row.spec)
        self.core.after(self.duty.wake)
        return {"name": row.name}

    def pause(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Start nothing more of it, until an instant or until it is resumed."""
        row = self._named(request)
        now, until = self.core.clock.wall(), request.get("until")
        if until is not None and until <= now:
            raise UsageError(
                "the pause would end before it begins", "vigie schedule pause NAME --until tomorrow's date"
            )
        if row.state == "done":
            raise Refused(f"schedule {row.name} has come to its end", f"vigie schedule edit {row.name}")
        if row.state == "active":
            row = self.duty.see_to(row)
        # What is planned and still to come becomes part of the pause; what has come and was put off, may outlast it.
        withdrawn = [instant for (instant,) in self.store.run("withdraw_all", (row.id, now)).fetchall()]
        planned = min([row.planned, *(instant - 1 for instant in withdrawn)])
        self.store.run("state", ("paused", until, None, None, planned, row.id))
        self._look(row)
        self.core.log(
            "schedule-paused", who=who, thing=f"schedule:{row.name}", detail=None if until is None else {"until": until}
        )
        self.core.after(self.duty.wake)
        return {"name": row.name, "state": "paused", "until": until}

    def resume(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Go on with a paused one."""
        row = self._named(request)
        if row.state == "paused":
            self.duty.resumed(row, self.core.clock.wall(), who)
            self._look(row)
            self.core.after(self.duty.wake)
        return {"name": row.name, "state": "active" if row.state == "paused" else row.state}

    def run(self, request: dict[str, Any], who: Who) -> dict[str, Any]:
        """Run it once, now, in the surroundings that it always has; overlap is heeded."""
        row = self._named(request)
        now = self.core.clock.wall()
        instant = now
        while not self.store.plan(row.id, instant, now, cause="by hand"):
            instant += 1
        (firing,) = self.store.deciding([(row.id, instant)])
        policy = policy_of(row.policy)
        how = rules.Standing(now, self.duty.open_jobs(row.name))
        verdict = rules.among(policy, "ran", how.open)
        if isinstance(verdict, rules.Skip):
            raise Refused(
                f"schedule {row.name} runs already: {verdict.detail}",
                f"vigie logs -f {row.name}, or --overlap parallel in: vigie schedule edit {row.name}",
            )
        job = self.duty.start(firing, verdict, now, who, by_hand=True)
        return {"name": row.name, "ids": [job]}

    def _look(self, row: ScheduleRow) -> None:
        """Have the duty look again who waits for something."""
        if row.occasions:
            self.duty.happenings.learn()

    def _named(self, request: dict[str, Any]) -> ScheduleRow:
        name = str(request["name"])
        row = self.store.named(name)
        if row is None:
            raise NotFound(f"no schedule {name}", "vigie schedule list")
        return row


def _check_name(name: str) -> None:
    if not name or name.isdigit() or name == "last":
        raise UsageError(f"{name!r} cannot be a name: digits are ids and 'last' is the newest job")


def _encoding(request: dict[str, Any]) -> str:
    """Give how the arguments of a function are encoded."""
    if request.get("deps"):
        raise UsageError("a schedule's arguments cannot hold the result of a job", "give the function the job's id")
    encodings = request.get("encodings") or [request.get("encoding", "json")]
    return str(encodings[0])


def _job(core: Core, given: dict[str, Any]) -> str:
    """Check the fields of the jobs to come, and give them as they are stored."""
    queue = given.get("queue")
    if queue is not None:
        queue_of(core, queue)
    for _, most in given.get("concurrency") or ():
        if int(most) < 1:
            raise UsageError("a concurrency key needs room for at least one")
    known = {key: given[key] for key in ("queue", "priority", "tags", "concurrency") if given.get(key)}
    return json.dumps(known, separators=(",", ":"), sort_keys=True)


def _as_row(fields: dict[str, Any], known: ScheduleRow | None) -> ScheduleRow:
    """Give the row that the fields will make."""
    if known is not None:
        state = "active" if known.state == "done" else known.state
        return known._replace(**fields, shift=0, state=state)
    empty: dict[str, Row | int | str | None] = dict.fromkeys(ScheduleRow._fields)
    return ScheduleRow(**{**empty, "id": 0, "state": "active", "shift": 0, "runs": 0, "by_hand": 0, **fields})
