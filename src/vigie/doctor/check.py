"""The form of a finding."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["STATUSES", "Check", "fail", "note", "ok", "warn", "worst"]

#: From good to bad. ``note``: something is missing that Vigie does without.
STATUSES = ("ok", "note", "warn", "fail")


class Check(NamedTuple):
    """One finding.

    ``said`` is what was seen, ``means`` what follows from it, ``todo`` what to do.
    """

    name: str
    status: str
    said: str
    means: str | None = None
    todo: str | None = None


def ok(name: str, said: str) -> Check:
    """Give a finding that needs nothing."""
    return Check(name, "ok", said)


def note(name: str, said: str, means: str, todo: str | None = None) -> Check:
    """Give a finding of something that Vigie does without."""
    return Check(name, "note", said, means, todo)


def warn(name: str, said: str, means: str, todo: str | None = None) -> Check:
    """Give a finding that costs a promise or soon will."""
    return Check(name, "warn", said, means, todo)


def fail(name: str, said: str, means: str, todo: str | None = None) -> Check:
    """Give a finding with which Vigie cannot work."""
    return Check(name, "fail", said, means, todo)


def worst(checks: list[Check]) -> str:
    """Give the worst status of all.

    >>> worst([ok("a", "fine"), warn("b", "hm", "it costs")])
    'warn'
    """
    return max((check.status for check in checks), key=STATUSES.index, default="ok")
