"""What all triggers with instants have in common.

A trigger is a value: the text it was read from, and the instants that this text
means, given one by one and always later than the instant asked about. It holds
no clock and remembers nothing, so that whoever asks twice gets the same answer,
before and after a crash. All else is built on that one question: which instants
lie in a stretch of time, how many they are, and which was the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Protocol

__all__ = ["AnyOf", "Joinable", "Trigger", "count", "distinct", "latest"]

#: Instants walked one by one before their end is searched by halving.
_WALK = 64


class Trigger(Protocol):
    """Something that comes at instants.

    Attributes
    ----------
    text:
        What it was read from.
    """

    @property
    def text(self) -> str: ...

    def after(self, instant: int) -> Iterator[int]:
        """Give the instants (µs UTC) later than ``instant``, each later than the one before."""
        ...

    def describe(self) -> str:
        """Say in plain words how the text was read, without the zone."""
        ...


class Joinable:
    """Gives a trigger its ``|``: it comes when one of the two comes."""

    __slots__ = ()

    def __or__(self: Trigger, other: Trigger) -> AnyOf:
        return AnyOf((*_members(self), *_members(other)))


@dataclass(frozen=True, slots=True)
class AnyOf(Joinable):
    """Comes whenever one of its triggers comes; once where several come together.

    >>> from vigie.triggers.interval import Every
    >>> both = Every(4, 0) | Every(6, 0)
    >>> list(islice(both.after(0), 6))
    [4, 6, 8, 12, 16, 18]
    """

    triggers: tuple[Trigger, ...]

    @property
    def text(self) -> str:
        """The texts of its triggers."""
        return " | ".join(each.text for each in self.triggers)

    def after(self, instant: int) -> Iterator[int]:
        """Give the instants of all of them in order, each once."""
        return distinct(merge(*(each.after(instant) for each in self.triggers)))

    def describe(self) -> str:
        """Say when each comes."""
        return "; ".join(each.describe() for each in self.triggers)


def distinct(instants: Iterator[int]) -> Iterator[int]:
    """Leave out of ascending instants those that equal the one before."""
    last: int | None = None
    for instant in instants:
        if instant != last:
            yield instant
            last = instant


def count(trigger: Trigger, after: int, until: int, most: int) -> int:
    """Count the instants later than ``after`` and not later than ``until``, up to ``most``.

    >>> from vigie.triggers.interval import Every
    >>> count(Every(10, 0), 0, 100, 1_000), count(Every(10, 0), 0, 100, 3)
    (10, 3)
    """
    found = 0
    for instant in islice(trigger.after(after), max(most, 0)):
        if instant > until:
            break
        found += 1
    return found


def latest(trigger: Trigger, after: int, until: int) -> int | None:
    """Give the last instant later than ``after`` and not later than ``until``; None where there is none.

    A trigger only looks forward. So this looks from farther and farther back until
    something comes, and then halves what is left, as an instant may be followed by
    a million others.

    >>> from vigie.triggers.interval import Every
    >>> latest(Every(10, 0), 0, 99), latest(Every(10, 0), 90, 99)
    (90, None)
    """
    back = 1_000_000
    empty = until  # nothing comes later than this, up to ``until``
    while empty > after:
        low = max(after, until - back)
        first = next(trigger.after(low), None)
        if first is not None and first <= until:
            return _last(trigger, first, empty, until)
        empty, back = low, back * 4
    return None


def _last(trigger: Trigger, found: int, empty: int, until: int) -> int:
    """Give the last instant up to ``until``: one is known, and that none comes later than ``empty``."""
    while True:
        walked = 0
        for instant in islice(trigger.after(found), _WALK):
            if instant > until:
                return found
            found, walked = instant, walked + 1
        if walked < _WALK:
            return found
        low, high = found, empty
        while high > low:
            middle = (low + high) // 2
            first = next(trigger.after(middle), None)
            if first is not None and first <= until:
                found = first
                break
            high = empty = middle
        else:
            return found


def _members(trigger: Trigger) -> tuple[Trigger, ...]:
    return trigger.triggers if isinstance(trigger, AnyOf) else (trigger,)
