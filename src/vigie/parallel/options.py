"""Options of parallel runs and pools: what people give, checked, as numbers."""

from __future__ import annotations

from vigie.errors import UsageError
from vigie.values import parse_duration, parse_size

__all__ = ["a_count", "memory", "seconds"]


def a_count(value: int | None, name: str, least: int) -> int | None:
    """Check a whole number, if there is one.

    >>> a_count(3, "limit", 1)
    3
    >>> a_count(0, "limit", 1)
    Traceback (most recent call last):
        ...
    vigie.errors.UsageError: limit is 0: it must be 1 or more
    """
    if value is None:
        return None
    if not isinstance(value, int):
        raise UsageError(f"{name} is {value!r}: it must be a whole number")
    if value < least:
        raise UsageError(f"{name} is {value}: it must be {least} or more")
    return value


def seconds(value: float | str | None, name: str) -> float | None:
    """Give a duration in seconds, if there is one.

    >>> seconds("1.5m", "timeout"), seconds(None, "timeout")
    (90.0, None)
    """
    if value is None:
        return None
    found = parse_duration(value, name) / 1e6
    if found <= 0:
        raise UsageError(f"{name} is {value!r}: it must be above zero")
    return found


def memory(value: int | str | None) -> int | None:
    """Give the bytes of ``memory_limit``, if there is one."""
    return None if value is None else parse_size(value, "memory_limit")
