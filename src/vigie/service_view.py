"""Services as they are shown: in JSON, as DESIGN words it, and in words."""

from __future__ import annotations

import json
from typing import Any

from vigie import view
from vigie.supervision.plan import Plan

__all__ = ["instance", "is_as_wanted", "service", "summary"]

Row = dict[str, Any]
#: A service with several instances stands as the worst of them.
_WORST = ("failed", "backoff", "degraded", "stopping", "starting", "reloading", "paused", "inactive", "ready")


def summary(row: Row) -> Row:
    """Give the instance by which a service is shown: the worst.

    >>> summary({"instances": [{"state": "ready"}, {"state": "backoff"}]})["state"]
    'backoff'
    """
    found: Row = min(row["instances"], key=lambda each: _WORST.index(each["state"]), default=_NOTHING)
    return found


#: How a service stands that is being made or removed this very moment.
_NOTHING: Row = {
    "state": "inactive", "desired": "down", "cause": "", "since": None, "pid": None, "restarts": 0, "due": None,
    "ready_since": None, "status": None, "failures": 0, "job": None,
}  # fmt: skip


def is_as_wanted(row: Row) -> bool:
    """Tell whether every instance of a service is as it is wanted to be."""
    good = {"up": ("ready", "reloading"), "down": ("inactive",), "paused": ("paused",)}
    return all(
        each["state"] in good[each["desired"]] or (each["state"] == "inactive" and "listens" in each["detail"])
        for each in row["instances"]
    )


def instance(row: Row) -> dict[str, Any]:
    """Give an instance in JSON."""
    return {
        "name": row["name"],
        "state": row["state"],
        "desired": row["desired"],
        "cause": row["cause"],
        "since": view.instant(row["since"]),
        "pid": row["pid"],
        "job": row["job"],
        "restarts": row["restarts"],
        "failures": row["failures"],
        "ready_since": view.instant(row["ready_since"]),
        "next_try": view.instant(row["due"]),
        "status": row["status"],
    }


def service(row: Row) -> dict[str, Any]:
    """Give a service in JSON; of several instances ``state``, ``cause`` and ``since`` are the worst one's."""
    worst, several = summary(row), len(row["instances"]) > 1
    plan = Plan.from_json(row["plan"])
    return {
        "name": row["name"],
        "state": worst["state"],
        "desired": worst["desired"],
        "cause": worst["cause"],
        "since": view.instant(worst["since"]),
        "pid": None if several else worst["pid"],
        "restarts": sum(each["restarts"] for each in row["instances"]),
        "ready_since": view.instant(worst["ready_since"]),
        "status": None if several else worst["status"],
        "start": row["mode"],
        "restart": plan.restart,
        "requires": list(plan.requires),
        "after": list(plan.after),
        "wants": list(plan.wants),
        "owner": row["owner"],
        "command": view.label(row),
        "cwd": view.path_of(row["cwd"]),
        "declared": json.loads(row["spec"]),
        "instances": [instance(each) for each in row["instances"]],
    }
