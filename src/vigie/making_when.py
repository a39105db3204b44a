"""When a schedule of a file comes: its triggers read once, and what is stored of them.

Most schedules of a large file say one plain phrase or cron line each, and a hundred
thousand of them are worth a way of their own: what means the same whenever it is read
is read by its own reader alone, and gives the same as the one grammar of WHEN.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from vigie import zones
from vigie.errors import ExpressionError
from vigie.making_rows import canonical
from vigie.triggers.base import Trigger
from vigie.triggers.cron import Cron
from vigie.triggers.interval import Again
from vigie.triggers.phrases import parse_phrase
from vigie.triggers.wall import Zone
from vigie.triggers.when import When, parse_when

__all__ = ["Read", "read"]

Table = dict[str, Any]

#: Phrases that count from nothing, so that it does not matter when they were read.
_PHRASE = re.compile(r"(?:daily|weekdays|weekends|weekly|monthly|yearly|hourly)\b", re.IGNORECASE)
#: Cron lines without hashed fields, so that it does not matter whose they are.
_CRON = re.compile(r"[\d*][^hH]*")


class Read:
    """Triggers that were read.

    Attributes
    ----------
    timed:
        All that have instants, as one; None if none has.
    first:
        The first instant later than the present one; None if none is known.
    again:
        Those that count from a run.
    allows:
        Tells whether the limits of one of these let it come at an instant.
    fields:
        What the agent keeps of them.
    """

    def __init__(self, timed: Trigger | None, first: int | None, stored: Table, zone_names: str) -> None:
        self.timed = timed
        self.first = first
        self.again: tuple[Again, ...] = ()
        self.allows: Callable[[Again, int], bool] = lambda trigger, instant: True
        self.fields: dict[str, Any] = {
            "triggers": canonical(stored), "zones": zone_names, "relative": 0, "again": 0, "occasions": 0,
        }  # fmt: skip

    @classmethod
    def of(cls, when: When, now: int) -> Read:
        """Take what the grammar of WHEN has read."""
        timed = when.timed
        first = None if timed is None else next(timed.after(now), None)
        found = cls(timed, first, when.to_json(), " ".join(zone.name for zone in when.zones))
        found.again, found.allows = when.again, when.allows
        found.fields["relative"] = int(when.relative or (bool(when.again) and timed is None))
        found.fields["again"] = int(bool(when.again))
        found.fields["occasions"] = int(bool(when.occasions))
        return found

    def following(self, started: int | None, ended: int | None, created: int, now: int) -> int | None:
        """Give the first instant later than now, where some count from runs (µs UTC)."""
        found = [] if self.first is None else [self.first]
        for trigger in self.again:
            instant = trigger.next(started, ended, created)
            if instant is not None and self.allows(trigger, instant):
                found.append(max(instant, now + 1))
        return min(found, default=None)


def read(given: Table, now: int, calendar: Callable[[str], str], path: Callable[[str], str], seed: str | None) -> Read:
    """Read the triggers of a table.

    Parameters
    ----------
    given:
        The keys that say when, with ``timezone``.
    now:
        The present instant (µs UTC).
    calendar, path:
        Give the text of a calendar, and the absolute form of a pattern.
    seed:
        What hashed fields of cron lines depend on.

    Raises
    ------
    ExpressionError
        When they cannot be read, or never come.
    """
    table = dict(given)
    zone = zones.load(table.pop("timezone"))
    quick = _plainly(table["when"], zone, now) if table.keys() == {"when"} else None
    if quick is not None:
        trigger, first = quick
        stored = {"readings": [{"now": 0, "when": table, "zone": zone.name}]}
        return Read(trigger, first, stored, zone.name)
    return Read.of(parse_when(table, zone, now, zones=zones.load, read=calendar, path=path, seed=seed), now)


def _plainly(text: object, zone: Zone, now: int) -> tuple[Trigger, int] | None:
    """Read a phrase or a cron line that means the same whenever it is read; None: it needs a closer look."""
    if not isinstance(text, str) or text != text.strip():
        return None
    try:
        found: Any
        if _PHRASE.match(text):
            found = parse_phrase(text, zone, now)
        elif _CRON.fullmatch(text):
            found = Cron.parse(text, zone)
        else:
            return None
    except ExpressionError:
        return None
    first = next(found.after(now), None)
    return None if first is None else (found, first)
