"""Why a service is as it is, in sentences: the chain of causes. Pure: rows in, text out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vigie import service_view
from vigie.supervision.graph import needed
from vigie.supervision.plan import Plan
from vigie.terminal import ago
from vigie.why import Explanation

__all__ = ["explain", "following"]

Row = dict[str, Any]
_TIMES = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}


def following(row: Row) -> list[str]:
    """Give the services from which the state of one may follow."""
    return list(needed(Plan.from_json(row["plan"])))


def explain(
    row: Row, others: Mapping[str, Row], last_lines: Mapping[str, str], now: int, *, agent: bool
) -> Explanation:  # fmt: skip
    """Explain how a service stands, and what that follows from.

    Parameters
    ----------
    row:
        The service, with its instances.
    others:
        The services that it and those that it needs depend on, by name.
    last_lines:
        The last line that an instance has written, by its name.
    now:
        µs UTC.
    agent:
        Whether an agent runs.
    """
    made = Explanation()
    for each in row["instances"]:
        made.say(_sentence(each, row, last_lines.get(each["name"]), now))
    if not row["instances"]:
        made.say(f"{row['name']} has no instance yet.")
    if not agent:
        made.say("No agent runs, so nothing restarts it.")
        made.suggest("vigie agent start")
    worst = service_view.summary(row)
    _chain(made, row, others, last_lines, now, {row["name"]})
    _suggest(made, row, worst)
    return made


def _chain(
    made: Explanation, row: Row, others: Mapping[str, Row], last_lines: Mapping[str, str], now: int, seen: set[str]
) -> None:  # fmt: skip
    """Go down to what the state follows from: that which it needs, and is not ready."""
    if service_view.is_as_wanted(row):
        return
    for name in following(row):
        other = others.get(name)
        if name in seen:
            continue
        seen.add(name)
        if other is None:
            made.say(f"  {name}, which it needs, is not there.")
            continue
        worst = service_view.summary(other)
        if worst["state"] != "ready":
            made.say("  " + _sentence(worst, other, last_lines.get(worst.get("name", "")), now))
            _chain(made, other, others, last_lines, now, seen)


def _sentence(each: Row, row: Row, line: str | None, now: int) -> str:
    """Say of one instance how it stands and why."""
    name, state, cause = each.get("name", row["name"]), each["state"], each["cause"]
    where = "in backoff" if state == "backoff" else state
    since = "" if each["since"] is None else f" since {ago(each['since'], now)}"
    said = f"{name} is {where}{since}"
    if state == "degraded":
        said += f" because {cause}"
    elif cause and cause != state:
        said += f": {cause}"
    if each.get("failures", 0) > 1 and state in ("backoff", "failed", "starting"):
        count = each["failures"]
        said += f", {_TIMES.get(count, f'{count} times')} in a row"
    if each.get("due") is not None:
        said += f"; next try {ago(each['due'], now)}"
    if line and state in ("backoff", "failed", "starting"):
        said += f"; last line: {line}"
    return said + "."


def _suggest(made: Explanation, row: Row, worst: Row) -> None:
    name = row["name"]
    if worst["state"] in ("failed", "backoff"):
        made.suggest(f"vigie logs {name}")
        made.suggest(f"vigie service restart {name}")
    elif worst["state"] == "paused":
        made.suggest(f"vigie service resume {name}")
    elif worst["state"] == "inactive" and worst["desired"] == "down":
        made.suggest(f"vigie service enable {name}" if row["mode"] == "disabled" else f"vigie service start {name}")
    made.suggest(f"vigie service status {name}")
