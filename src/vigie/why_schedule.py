"""Why a schedule did or did not run, in sentences. Pure: rows in, text out."""

from __future__ import annotations

from typing import Any

from vigie.agenda import Agenda, in_zone, outcome
from vigie.terminal import ago
from vigie.why import Explanation

__all__ = ["explain", "explain_at"]

Row = dict[str, Any]


def explain(plan: Agenda, newest: Row | None, now: int, *, agent: bool, queue: Row | None = None) -> Explanation:
    """Explain how a schedule stands.

    Parameters
    ----------
    plan:
        The schedule.
    newest:
        Its newest firing that has come.
    now:
        µs UTC.
    agent:
        Whether an agent runs.
    queue:
        The queue of its jobs.
    """
    made, row = Explanation(), plan.row
    name = row["name"]
    made.say(f"{name} runs {_and(plan.when.describe())} ({plan.zone.name}).")
    if row["state"] == "done":
        made.say("Nothing more comes of it: it has had all its runs, or its last instant has passed.")
    elif row["state"] == "paused":
        until = f" until {_wall(plan, row['until'])}" if row["until"] else ""
        made.say(f"It is paused{until}, and starts nothing.")
        made.suggest(f"vigie schedule resume {name}")
    if not agent and row["state"] == "active":
        made.say("No agent runs, so nothing starts; what passes meanwhile follows its catch-up.")
        made.suggest("vigie agent start")
    if queue is not None and queue.get("paused"):
        made.say(f"Its queue, {queue['name']}, is paused: its jobs wait there.")
        made.suggest(f"vigie queue resume {queue['name']}")
    if newest is None:
        made.say("It has not come yet.")
    else:
        made.say("Last: " + _record(plan, newest))
        _suggest(made, newest)
    coming = plan.coming(1, now)
    if coming:
        made.say(f"Next: {_wall(plan, coming[0])} ({ago(coming[0], now)}).")
    made.suggest(f"vigie schedule history {name}")
    return made


def explain_at(plan: Agenda, record: Row | None, at: int) -> Explanation:
    """Explain what became of the instant at ``at``, or of the last one before it."""
    made = Explanation()
    if record is None:
        made.say(f"Nothing of {plan.row['name']} was planned at {_wall(plan, at)}, nor is there a record of before.")
        if at < plan.row["created"]:
            made.say(f"It was added later, at {_wall(plan, plan.row['created'])}.")
    else:
        last = record["last"] or record["instant"]
        if not record["instant"] <= at <= last:
            made.say(f"Nothing of {plan.row['name']} was planned at {_wall(plan, at)}. The last one before:")
        made.say(_record(plan, record))
        _suggest(made, record)
    made.suggest(f"vigie schedule history {plan.row['name']}")
    return made


def _record(plan: Agenda, row: Row) -> str:
    when = _wall(plan, row["instant"])
    if row["last"] is not None:
        when = f"{row['count']} instants from {when} to {_wall(plan, row['last'])}"
    said = f"{when} {_verb(row)}{outcome(row)}"
    if row["cause"]:
        said += (
            ", started by hand" if row["cause"] == "by hand" else f", set off by {row['cause'].replace(':', ' ', 1)}"
        )
    if row["job"] is None:
        return f"{said}."
    job = f"job {row['job']}"
    if row["state"] is None:
        return f"{said} as {job}, which has been removed."
    if row["state"] == "failed":
        return f"{said} as {job}, which failed ({row['failed']})."
    return f"{said} as {job}, which {_STATES.get(row['state'], 'is ' + row['state'])}."


_STATES = {"completed": "completed", "stopped": "was stopped", "lost": "was lost", "assigned": "is queued"}


def _verb(row: Row) -> str:
    if row["outcome"] == "skipped":
        return "were " if row["last"] is not None else "was "
    return {"caught-up": "was ", "late": "ran "}.get(row["outcome"] or "", "")


def _suggest(made: Explanation, row: Row) -> None:
    if row["job"] is not None and row["state"] is not None:
        verb = "why" if row["state"] in ("failed", "lost", "queued", "blocked") else "show"
        made.suggest(f"vigie {verb} {row['job']}")


def _wall(plan: Agenda, instant: int) -> str:
    return (in_zone(instant, plan.zone) or "").replace("T", " ")


def _and(parts: list[str]) -> str:
    return " and ".join(parts) if len(parts) < 3 else ", ".join(parts[:-1]) + " and " + parts[-1]
