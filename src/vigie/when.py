"""Triggers as values, for Python programs: made from words, joined by ``|``.

>>> from vigie.when import cron, when
>>> both = when("daily 22:00", timezone="UTC") | cron("0 6 * * sun", timezone="UTC")
>>> both.describe()
['at 22:00 every day', 'at 06:00 on Sunday']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vigie.declaration import read_when

if TYPE_CHECKING:
    from vigie.triggers.when import When

__all__ = ["calendar", "cron", "on_file", "rrule", "when"]


def when(value: str | list[Any] | dict[str, Any], /, *, timezone: str | None = None, **limits: Any) -> When:
    """Give the triggers that a phrase or a cron line, a table, or a list of these mean.

    Parameters
    ----------
    value:
        ``"daily 22:00"``, ``"every 5m"``, ``"*/5 * * * *"``, ``{"calendar": "Mon 08:00"}`` …: what stands
        behind ``when =`` in ``vigie.toml``.
    timezone:
        The zone of its times; default this machine's.
    limits:
        ``repeat``, ``until``, and others that a table of ``vigie.toml`` has.

    Raises
    ------
    UsageError
        When it cannot be read, or never comes; the message says where and what was expected.

    >>> from itertools import islice
    >>> moon = when("monthly 1 00:00", timezone="UTC")
    >>> next(moon.timed.after(0)) // 86_400_000_000
    31
    """
    return _read({"when": value}, timezone, limits) if not isinstance(value, dict) else _read(value, timezone, limits)


def cron(line: str, /, *, timezone: str | None = None, **limits: Any) -> When:
    """Give the trigger that a cron line means, of 5 fields, or 6 with seconds first."""
    return _read({"cron": line}, timezone, limits)


def calendar(expression: str, /, *, timezone: str | None = None, **limits: Any) -> When:
    """Give the trigger that a systemd calendar expression means: ``Mon..Fri *-*-* 08:00``."""
    return _read({"calendar": expression}, timezone, limits)


def rrule(rule: str, /, *, timezone: str | None = None, **limits: Any) -> When:
    """Give the trigger that a recurrence rule of RFC 5545 means: ``FREQ=DAILY;BYHOUR=8``."""
    return _read({"rrule": rule}, timezone, limits)


def on_file(pattern: str, /, what: str = "settled", **limits: Any) -> When:
    """Give the trigger that comes for each file of a pattern: ``created``, ``changed``, or ``settled``."""
    return _read({"on_file": {"path": pattern, "what": what}}, None, limits)


def _read(table: dict[str, Any], timezone: str | None, limits: dict[str, Any]) -> When:
    zone = {} if timezone is None else {"timezone": timezone}
    return read_when({**table, **zone, **limits})
