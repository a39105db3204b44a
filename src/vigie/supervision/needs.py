"""What a service waits for, and what it lacks, by how the others stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vigie.supervision.events import Instance
from vigie.supervision.plan import Plan

__all__ = ["Look", "best", "lacking", "waits_for"]

#: Gives how a service stands; None if there is none of that name.
Look = Callable[[str], Instance | None]

#: From the best to the worst: a service stands as the best of its instances.
_ORDER = ("ready", "degraded", "reloading", "starting", "backoff", "paused", "stopping", "inactive", "failed")


def best(instances: Iterable[Instance]) -> Instance | None:
    """Give the instance by which a service counts for others: one that is ready is enough.

    >>> best([Instance(state="failed"), Instance(state="ready")]).state
    'ready'
    """
    return min(instances, key=lambda one: (_ORDER.index(one.state), one.desired != "up"), default=None)


def waits_for(plan: Plan, look: Look) -> str | None:
    """Say what a life of this plan would have to wait for now; None: nothing.

    What it ``requires`` has to be ready, whatever that takes. What it comes ``after`` is waited for while it is wanted
    and may still become ready; what it ``wants``, while it is on its way.

    >>> waits_for(Plan(after=("db",)), {"db": Instance("up", "backoff", "exit 1")}.get)
    'waits for db, which is in backoff: exit 1'
    >>> waits_for(Plan(wants=("db",)), {"db": Instance("up", "backoff", "exit 1")}.get) is None
    True
    """
    for name in plan.requires:
        other = look(name)
        if other is None:
            return f"waits for {name}, which is not there"
        if other.state not in ("ready", "reloading"):
            return f"waits for {name}, which {_is(other)}"
    for name in plan.after:
        other = look(name)
        if other is not None and other.desired != "down" and other.state not in _GOOD and not _ended(other):
            return f"waits for {name}, which {_is(other)}"
    for name in plan.wants:
        other = look(name)
        if other is not None and other.state == "starting":
            return f"waits for {name}, which {_is(other)}"
    return None


def lacking(plan: Plan, look: Look) -> str | None:
    """Say what of the required is not ready; None: all is.

    >>> lacking(Plan(requires=("db",)), {"db": Instance("down", "inactive", "stopped")}.get)
    'db is inactive: stopped'
    """
    for name in plan.requires:
        other = look(name)
        if other is None:
            return f"{name} is not there"
        if other.state not in ("ready", "reloading"):
            return f"{name} {_is(other)}"
    return None


_GOOD = ("ready", "degraded", "reloading")


def _ended(other: Instance) -> bool:
    """Tell whether nothing more comes of it by itself."""
    return other.state == "failed" or (other.state == "inactive" and other.at is None)


def _is(other: Instance) -> str:
    where = "in backoff" if other.state == "backoff" else other.state
    return f"is {where}: {other.cause}" if other.cause and other.cause != other.state else f"is {where}"
