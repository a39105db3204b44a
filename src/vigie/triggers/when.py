"""When: everything that sets something off, as one value.

:func:`parse_when` reads the one grammar that the command line, ``vigie.toml`` and
Python share. What it gives remembers the words, the zone and the moment at which
they were read, and nothing else is stored: who reads them again, in another process
and years later, gets the same instants (but for zones whose rules were changed).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from vigie.errors import ExpressionError
from vigie.triggers.base import AnyOf, Trigger, latest
from vigie.triggers.combine import moved, relative
from vigie.triggers.interval import Again
from vigie.triggers.occasions import Occasion
from vigie.triggers.reading import KEYS, Around, Json, Part, plain, read_parts
from vigie.triggers.wall import Zone

__all__ = ["KEYS", "When", "parse_when"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A value as it was read: with the same surroundings it reads the same again.

    Attributes
    ----------
    value:
        What was read, as JSON has it.
    zone, now, seed:
        As :func:`parse_when` had them.
    shift:
        By how much its relative triggers were moved since, µs.
    files, paths:
        The texts of the calendars, and the absolute forms of the patterns in it.
    """

    value: Json
    zone: Zone
    now: int
    seed: str | None = None
    shift: int = 0
    files: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = field(default=(), compare=False)
    used: tuple[Zone, ...] = field(default=(), compare=False)

    def to_json(self) -> dict[str, Any]:
        """Give what must be stored of it."""
        found = {"when": self.value, "zone": self.zone.name, "now": self.now}
        more = {"seed": self.seed, "shift": self.shift, "files": dict(self.files), "paths": dict(self.paths)}
        return found | {key: value for key, value in more.items() if value}


@dataclass(frozen=True, slots=True)
class When:
    """What sets something off: instants, ends of runs, and things that happen.

    Two are joined by ``|``: what sets off one of them sets off both.

    >>> from datetime import UTC
    >>> utc = Zone("UTC", UTC)
    >>> when = parse_when(["daily 22:00", "at boot"], utc, 0, zones=lambda name: utc)
    >>> when.describe()
    ['at 22:00 every day', 'once after the machine has started']
    >>> When.from_json(when.to_json(), zones=lambda name: utc) == when
    True
    """

    readings: tuple[Reading, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every trigger, with its limits and its zone."""
        return tuple(part for reading in self.readings for part in reading.parts)

    @property
    def timed(self) -> Trigger | None:
        """All triggers that have instants, as one; None if there is none."""
        found = tuple(part.timed for part in self.parts if part.timed is not None)
        return found[0] if len(found) == 1 else AnyOf(found) if found else None

    @property
    def again(self) -> tuple[Again, ...]:
        """Those that count from the start or the end of a run."""
        return tuple(part.trigger for part in self.parts if isinstance(part.trigger, Again))

    @property
    def occasions(self) -> tuple[Occasion, ...]:
        """Those that wait for something that happens."""
        return tuple(part.trigger for part in self.parts if isinstance(part.trigger, Occasion))

    @property
    def zone(self) -> Zone:
        """The zone in which to show its instants: that of its first trigger."""
        return self.parts[0].zone

    @property
    def zones(self) -> tuple[Zone, ...]:
        """Every zone on whose rules its instants depend."""
        found = {zone.name: zone for reading in self.readings for zone in (reading.zone, *reading.used)}
        return tuple(found.values())

    @property
    def text(self) -> list[str]:
        """What each trigger was read from."""
        return [part.text for part in self.parts]

    @property
    def relative(self) -> bool:
        """Whether all its instants are counted from a moment, and so move when the wall clock is set.

        Where clock times stand beside intervals it is not: one schedule has one
        clock, and there the intervals follow that on the wall too.
        """
        timed = self.timed
        return timed is not None and relative(timed)

    def describe(self) -> list[str]:
        """Say in plain words how each trigger was read."""
        return [part.describe() for part in self.parts]

    def allows(self, trigger: Again | Occasion, instant: int) -> bool:
        """Tell whether the limits of a trigger of :attr:`again` or :attr:`occasions` let it come at an instant."""
        return any(part.limits.allow(instant) for part in self.parts if part.trigger == trigger)

    def period(self, at: int) -> int | None:
        """Give how far apart the next two instants after ``at`` are, in µs; None if there are no two."""
        found = [] if self.timed is None else list(islice(self.timed.after(at), 2))
        return found[1] - found[0] if len(found) == 2 else None

    def moved(self, by: int) -> When:
        """Give it as it is after the wall clock was set by so many µs: intervals go on as if it had not been.

        It is for one that is :attr:`relative`; of another only the intervals move.
        """
        return When(tuple(_moved(reading, by) for reading in self.readings))

    def __or__(self, other: When) -> When:
        return When(self.readings + other.readings)

    def to_json(self) -> dict[str, Any]:
        """Give what must be stored of it, as JSON carries it."""
        return {"readings": [reading.to_json() for reading in self.readings]}

    @classmethod
    def from_json(cls, stored: dict[str, Any], zones: Callable[[str], Zone]) -> When:
        """Make it again.

        Parameters
        ----------
        stored:
            What :meth:`to_json` gave.
        zones:
            Gives the zone of a name.

        Raises
        ------
        ExpressionError
            When a zone is not there any more.
        """
        return cls(tuple(_restored(each, zones) for each in stored["readings"]))


def parse_when(
    value: object,
    zone: Zone,
    now: int,
    *,
    zones: Callable[[str], Zone],
    read: Callable[[str], str] | None = None,
    path: Callable[[str], str] = str,
    seed: str | None = None,
) -> When:
    """Read what says when.

    Parameters
    ----------
    value:
        A text: a cron line (``*/5 9-17 * * mon-fri``) or a plain phrase (``daily
        22:00``). A table: ``when cron calendar rrule every on_file on_event on_idle
        at_boot at_login`` say what sets off (each may be a list), ``from until except
        timezone repeat`` hold for all of them. Or a list of texts and tables.
    zone:
        Whose clocks show the times, where no other is named.
    now:
        The instant, µs UTC, from which intervals and every second week count.
    zones, read, path:
        Give the zone of a name, the text of an ``.ics`` file, and the absolute form
        of a file's pattern.
    seed:
        What ``H`` in cron lines depends on, such as the schedule's name.

    Raises
    ------
    ExpressionError
        For what cannot be read, and for a trigger that never comes after ``now``.
    """
    around = Around(zone, now, seed, zones, read, path)
    given = plain(value)
    parts = tuple(read_parts(given, around))
    for part in parts:
        _refuse_never(part, now)
    used = tuple(around.used.values())
    if _is_timeless(given, parts, around):
        # Then all schedules that say the same are stored the same, and read once.
        now, seed = 0, None
    return When((Reading(given, zone, now, seed, 0, around.files, around.paths, parts, used),))


def _is_timeless(given: Json, parts: tuple[Part, ...], around: Around) -> bool:
    """Tell whether the moment at which something was read, and who read it, make no difference."""
    try:
        other = replace(around, now=0, seed=None, used={})
        return tuple(read_parts(given, other)) == parts
    except ExpressionError:
        return False


def _restored(stored: dict[str, Any], zones: Callable[[str], Zone]) -> Reading:
    zone, now, seed, shift = zones(stored["zone"]), stored["now"], stored.get("seed"), stored.get("shift", 0)
    files, paths = stored.get("files", {}), stored.get("paths", {})
    around = Around(zone, now, seed, zones, files.__getitem__, lambda pattern: paths.get(pattern, pattern))
    parts = tuple(read_parts(stored["when"], around))
    used = tuple(around.used.values())
    reading = Reading(stored["when"], zone, now, seed, 0, around.files, around.paths, parts, used)
    return _moved(reading, shift) if shift else reading


def _moved(reading: Reading, by: int) -> Reading:
    parts = tuple(part if part.bare is None else replace(part, trigger=moved(part.bare, by)) for part in reading.parts)
    return replace(reading, shift=reading.shift + by, parts=parts)


def _refuse_never(part: Part, now: int) -> None:
    """Refuse a trigger that has no instant to come."""
    text = part.text
    if part.limits.end is not None and part.limits.end <= now:
        raise ExpressionError("it never comes: until has passed", text)
    timed = part.timed
    if timed is None or next(timed.after(now), None) is not None:
        return
    bare = part.bare
    if bare is None or next(bare.after(now), None) is not None:
        raise ExpressionError("it never comes: from, until and except leave nothing of it", text)
    past = latest(bare, 0, now) is not None
    raise ExpressionError("it comes no more: its last instant has passed" if past else "it never comes", text)
