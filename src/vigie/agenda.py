"""Schedules as people see them: rows of the store become sentences and JSON. No store is opened here.

Instants of a schedule show in its own zone, since that is where they were meant.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from vigie import view, zones
from vigie.firing import REASONS, delay
from vigie.policies import Policy, parse_policy
from vigie.triggers.wall import Zone
from vigie.triggers.when import When

__all__ = ["Agenda", "firing", "in_zone", "outcome"]

Row = dict[str, Any]
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def in_zone(instant: int | None, zone: Zone) -> str | None:
    """Write an instant (µs UTC) as ISO 8601 with the offset that its zone has then.

    >>> in_zone(0, zones.load("Europe/Paris"))
    '1970-01-01T01:00:00+01:00'
    """
    if instant is None:
        return None
    return (_EPOCH + dt.timedelta(microseconds=instant)).astimezone(zone.rules).isoformat()


class Agenda:
    """One schedule of the store, understood.

    Attributes
    ----------
    row:
        As the query ``schedules`` gives it.
    when, policy, table:
        Its triggers, its policy, and the table that it was made from.
    """

    def __init__(self, row: Row) -> None:
        self.row = row
        self.table: dict[str, Any] = json.loads(row["spec"])
        self.when = When.from_json(json.loads(row["triggers"]), zones.load)
        self.policy: Policy = parse_policy(json.loads(row["policy"]))

    @property
    def zone(self) -> Zone:
        """The zone in which its instants are meant."""
        return self.when.zone

    def coming(self, count: int, now: int) -> list[int]:
        """Give the next instants at which it will be due, its jitter included, as far as clocks alone decide."""
        if self.row["state"] != "active":
            return []
        policy = self.policy
        timed = self.when.moved(self.row["shift"]).timed if self.row["shift"] else self.when.timed
        found = [] if self.row["waiting"] is None or self.row["waiting"] < now else [self.row["waiting"]]
        since = max(self.row["planned"], now)
        if timed is not None:
            found += self.policy.free(timed.after(since), self.zone, count)
        if self.row["next"] is not None and self.row["next"] not in found and not self.policy.blackouts:
            found.append(self.row["next"])
        return sorted(instant + delay(policy, self.row["name"], instant) for instant in set(found))[:count]

    def last(self) -> str | None:
        """Say how its last firing ended."""
        row = self.row
        if row["last_instant"] is None:
            return None
        if row["last_outcome"] == "skipped":
            return f"skipped: {REASONS.get(row['last_reason'], row['last_reason'])}"
        return str(row["last_state"] or "ran")

    def json(self, now: int, coming: int = 1) -> dict[str, Any]:
        """Give its JSON form, the contract of ``--json``."""
        row, zone = self.row, self.zone
        following = [in_zone(instant, zone) for instant in self.coming(coming, now)]
        last = None
        if row["last_instant"] is not None:
            last = {
                "planned": in_zone(row["last_instant"], zone),
                "outcome": row["last_outcome"],
                "reason": row["last_reason"],
                "detail": row["last_detail"],
                "job": row["last_job"],
                "state": row["last_state"],
                "exit_code": row["last_exit_code"],
                "duration": view.seconds(row["last_duration"]),
            }
        return {
            "name": row["name"],
            "state": row["state"],
            "paused_until": in_zone(row["until"], zone),
            "when": list(self.when.text),
            "description": self.when.describe(),
            "timezone": zone.name,
            "policy": json.loads(row["policy"]),
            "what": view.label(row),
            "cwd": view.path_of(row["cwd"]),
            "owner": row["owner"],
            "next": following[0] if following else None,
            "coming": following,
            "runs": row["runs"],
            "last": last,
            "created": in_zone(row["created"], zone),
            "changed": in_zone(row["changed"], zone),
        }


def outcome(row: Row) -> str:
    """Say in a sentence what became of a planned instant.

    >>> base = {"count": 1, "detail": None, "job": 7, "state": "completed", "outcome": "ran", "reason": None}
    >>> outcome(base), outcome(base | {"outcome": "skipped", "reason": "overlap", "job": None})
    ('ran', 'skipped: an earlier run had not ended')
    """
    if row["outcome"] is None:
        return f"waits: {row['reason']}" if row["reason"] else "to come"
    if row["outcome"] != "skipped":
        return str(row["outcome"]).replace("-", " ")
    said = f"skipped: {REASONS.get(row['reason'], row['reason'])}"
    return said + (f" ({row['detail']})" if row["detail"] else "")


def firing(row: Row, zone: Zone) -> dict[str, Any]:
    """Give a firing in JSON."""
    return {
        "planned": in_zone(row["instant"], zone),
        "due": in_zone(row["due"], zone),
        "last": in_zone(row["last"], zone),
        "count": row["count"],
        "outcome": row["outcome"],
        "reason": row["reason"],
        "detail": row["detail"],
        "cause": row["cause"],
        "job": row["job"],
        "state": None if row["job"] is None else row["state"],
        "exit_code": row["exit_code"],
        "started": in_zone(row["started"], zone),
        "lag": None if row["started"] is None else (row["started"] - row["due"]) / 1e6,
        "duration": view.seconds(row["duration"]),
        "decided": in_zone(row["at"], zone),
    }
