"""The form of a finding, and the round through all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from vigie.config import Home

__all__ = ["STATUSES", "Check", "examine", "fail", "note", "ok", "warn", "worst"]

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


def examine(home: Home | None, *, deep: bool = False) -> Iterator[Check]:
    """Make all checks, in the order in which a person wants to read them.

    Parameters
    ----------
    home:
        The home to look at; None where none can be told.
    deep:
        Read the whole store and check it.
    """
    for name, look in _checks(home, deep=deep):
        try:
            yield look()
        except Exception as error:
            # A doctor that dies of one organ cannot speak of the others.
            said = f"could not look: {type(error).__name__}: {error}"
            yield warn(name, said, "this part of the machine is unknown", "report it with this line")


def _checks(home: Home | None, *, deep: bool) -> Iterator[tuple[str, Callable[[], Check]]]:
    from vigie.doctor import machine, places, pythons, session, storage

    yield "versions", machine.versions
    if home is None:
        yield "home", places.no_home
    else:
        yield "home", partial(places.home, home)
        yield "permissions", partial(places.permissions, home)
        yield "socket", partial(places.socket, home)
        yield "lock", partial(places.lock, home)
        yield "disk", partial(places.disk, home.root)
        yield "file system", partial(places.file_system, home.root)
    yield "sqlite", storage.sqlite
    if home is not None:
        yield "store", partial(storage.store, home, deep=deep)
    yield "pidfd", machine.pidfd
    yield "cgroups", machine.cgroups
    yield "logout", session.logout
    yield "interpreters", pythons.interpreters
    yield "clock", machine.clock
    yield "limits", machine.limits
    yield "signals", machine.signals
