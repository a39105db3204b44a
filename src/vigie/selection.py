"""FILTER: which jobs a verb is about, from options to the parameters of a query.

A plain class and late imports: every verb that takes jobs loads this module.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vigie.errors import UsageError
from vigie.model import JOB_STATES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["Filter", "add_arguments", "from_args"]


class Filter:
    """What a job must be to be chosen; every criterion given must hold.

    Parameters
    ----------
    states:
        Any of these states, as people see them.
    name, queue, schedule, service:
        Shell patterns (``*``, ``?``, ``[a-z]``) for ``name``; the rest are exact.
    tags:
        All of these tags.
    since:
        Created (an event: written) at or after this instant, µs UTC.
    parent:
        Items of this background parallel run.
    every:
        Schedules' firings, services' lives and map items too; without it only
        jobs started by hand, unless ``schedule``, ``service`` or ``parent`` asks.

    >>> bool(Filter()), bool(Filter(name="copy*")), bool(Filter(every=True))
    (False, True, True)
    """

    __slots__ = ("every", "name", "parent", "queue", "schedule", "service", "since", "states", "tags")

    def __init__(
        self,
        *,
        states: tuple[str, ...] = (),
        name: str | None = None,
        tags: tuple[str, ...] = (),
        queue: str | None = None,
        since: int | None = None,
        schedule: str | None = None,
        service: str | None = None,
        parent: int | None = None,
        every: bool = False,
    ) -> None:
        self.states = states
        self.name = name
        self.tags = tags
        self.queue = queue
        self.since = since
        self.schedule = schedule
        self.service = service
        self.parent = parent
        self.every = every

    def __bool__(self) -> bool:
        return self.every or self.about_jobs or self.since is not None

    def __repr__(self) -> str:
        chosen = [f"{key}={getattr(self, key)!r}" for key in self.__slots__ if getattr(self, key)]
        return f"Filter({', '.join(chosen)})"

    @property
    def about_jobs(self) -> bool:
        """Whether a criterion speaks of the job itself rather than of a moment."""
        return (
            bool(self.states or self.name or self.tags or self.queue or self.schedule or self.service)
            or self.parent is not None
        )

    @property
    def stored_states(self) -> tuple[str, ...]:
        """The store's states for those that people see.

        >>> Filter(states=("queued",)).stored_states
        ('queued', 'assigned')
        """
        extra = ("assigned",) if "queued" in self.states else ()
        return (*self.states, *extra)

    @property
    def exact_name(self) -> str | None:
        """The name, when it holds no pattern and an index can find it."""
        return None if self.name is None or any(c in self.name for c in "*?[") else self.name

    def parameters(self) -> dict[str, Any]:
        """Give the bindings of the fragment ``filter`` in ``store/read.sql``."""
        asked = self.every or self.schedule or self.service or self.parent is not None
        return {
            "by_hand": 0 if asked else 1,
            "states": json.dumps(self.stored_states) if self.states else None,
            "name": self.name,
            "tags": json.dumps(self.tags) if self.tags else None,
            "queue": self.queue,
            "since": self.since,
            "schedule": self.schedule,
            "service": self.service,
            "parent": self.parent,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of FILTER to a verb's parser, in a group of their own."""
    import argparse

    # What comes with services and parallel runs enters the help with them.
    group = parser.add_argument_group("which jobs (FILTER)")
    add = group.add_argument
    add("--state", metavar="S", action="append", default=[], help="in this state; repeat or join by commas")
    add("--name", metavar="GLOB", help="with such a name: 'copy*'")
    add("--tag", metavar="T", action="append", default=[], help="with this tag; repeated: with all of them")
    add("--queue", metavar="Q", help="of this queue")
    add("--since", metavar="T", help="since then: 09:30, 2026-01-31T09:30, or 2h (ago)")
    add("--schedule", metavar="N", help="of this schedule's firings")
    add("--service", metavar="N", help=argparse.SUPPRESS)
    add("--parent", metavar="JOB", help=argparse.SUPPRESS)


def from_args(args: argparse.Namespace, now: int | None = None) -> Filter:
    """Read back what :func:`add_arguments` added.

    ``--all``, where the verb has it, sets ``every``. ``now`` is µs UTC, for
    ``--since 2h``; default: the clock.

    Raises
    ------
    UsageError
        When a state, a time or an id cannot be understood.
    """
    get = args.__dict__.get
    since = get("since")
    return Filter(
        states=_states(get("state") or []),
        name=get("name"),
        tags=tuple(get("tag") or ()),
        queue=get("queue"),
        since=None if since is None else moment(since, now),
        schedule=get("schedule"),
        service=get("service"),
        parent=_parent(get("parent")),
        every=bool(get("all")),
    )


def moment(text: str, now: int | None = None, option: str = "--since") -> int:
    """Give the instant (µs UTC) that ``2h`` (ago), ``09:30`` or ISO 8601 names."""
    import time

    from vigie import values

    return values.parse_time(text, time.time_ns() // 1000 if now is None else now, past=True, option=option)


def _states(given: list[str]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(word for part in given for word in part.split(",") if word))
    for word in chosen:
        if word not in JOB_STATES:
            raise UsageError(f"no state is called {word}", one_of(word, JOB_STATES, "states"))
    return chosen


def one_of(word: str, known: Sequence[str], what: str) -> str:
    """Give the hint for a word that is none of those known.

    >>> one_of("fail", ("completed", "failed"), "states")
    'did you mean failed? states: completed, failed'
    """
    from difflib import get_close_matches

    close = get_close_matches(word, known, 1)
    return f"{f'did you mean {close[0]}? ' if close else ''}{what}: {', '.join(known)}"


def _parent(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        raise UsageError(f"--parent wants a job's id, not {text}")
    return int(text)
