"""The round through all checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from vigie.config import Home
from vigie.doctor import machine, places, pythons, session, storage
from vigie.doctor.check import Check, warn

__all__ = ["examine"]


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
