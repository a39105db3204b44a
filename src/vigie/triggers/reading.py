"""From what people write to triggers: a text, or a table of vigie.toml.

A text is a cron line if it begins like one, else a plain phrase. Where neither
can be read, but something like it, or another kind of expression, that is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial

from vigie.errors import ExpressionError, UsageError
from vigie.triggers.base import Trigger
from vigie.triggers.calendar import Calendar
from vigie.triggers.combine import Busy, Repeated, check_repetition
from vigie.triggers.cron import Cron
from vigie.triggers.ics import parse_ics
from vigie.triggers.interval import Again
from vigie.triggers.limits import Limits, read_limits
from vigie.triggers.occasions import KEYWORDS, AtBoot, AtLogin, Occasion, OnFile, OnIdle, OnJob, OnRecord
from vigie.triggers.phrases import FIRST_WORDS, parse_phrase
from vigie.triggers.rrule import Recurrence
from vigie.triggers.wall import DAY, Zone
from vigie.triggers.words import near, quoted
from vigie.values import format_duration, parse_duration

__all__ = ["KEYS", "Around", "Json", "Part", "plain", "read_parts"]

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]

#: What a table may say about when.
KEYS = (
    "when", "cron", "calendar", "rrule", "every", "on_file", "on_event", "on_idle", "at_boot", "at_login",
    "from", "until", "except", "timezone", "repeat",
)  # fmt: skip
_TRIGGERS = KEYS[:10]

_UNTIMED = (Again, AtBoot, AtLogin, OnFile, OnJob, OnRecord, OnIdle)

#: With what a cron line begins: a number, a star, a question mark, L, H, or a name behind @.
_CRON = re.compile(r"[\d*?]|H(?:[(/,]\S*)?\s|@[a-z]", re.IGNORECASE)
#: How a phrase may begin whose first word was forgotten.
_FORGOTTEN = ("every", "daily", "weekly", "on", "at", "yearly", "monthly")


@dataclass(frozen=True, slots=True)
class Part:
    """One trigger, what bounds it, and the zone in which it was read."""

    trigger: Trigger | Again | Occasion
    limits: Limits
    zone: Zone

    @property
    def text(self) -> str:
        """What it was read from."""
        return self.trigger.text + self.limits.text

    @property
    def bare(self) -> Trigger | None:
        """The trigger without its limits, if it has instants."""
        return None if isinstance(self.trigger, _UNTIMED) else self.trigger

    @property
    def timed(self) -> Trigger | None:
        """The trigger within its limits, if it has instants."""
        return None if self.bare is None else self.limits.of(self.bare)

    def describe(self) -> str:
        """Say how it was read."""
        return self.trigger.describe() + self.limits.text


@dataclass(slots=True)
class Around:
    """What an expression may refer to, and what it did refer to.

    Parameters
    ----------
    zone, now, seed:
        Hold for expressions that name no zone; the instant from which intervals
        count; what tells hashed fields of cron lines apart.
    zones, read, path:
        Give the zone of a name, the text of an ``.ics`` file, and the absolute form
        of a file's pattern.
    """

    zone: Zone
    now: int
    seed: str | None
    zones: Callable[[str], Zone]
    read: Callable[[str], str] | None
    path: Callable[[str], str]
    used: dict[str, Zone] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)

    def named(self, name: str) -> Zone:
        """Give the zone of a name, and note it."""
        found = self.zones(name)
        self.used[found.name] = found
        return found

    def absolute(self, pattern: str) -> str:
        """Give the absolute form of a pattern, and note it."""
        found = self.path(pattern)
        if found != pattern:
            self.paths[pattern] = found
        return found

    def calendar(self, name: str, zone: Zone) -> Busy:
        """Read a file of days to leave out, and note its text."""
        if name not in self.files:
            if self.read is None:
                raise ExpressionError(f'the calendar "{name}" cannot be read here', expected="dates such as 2026-12-24")
            try:
                self.files[name] = self.read(name)
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "it is no text"
                raise UsageError(f"cannot read the calendar {name}: {why}") from None
        try:
            return parse_ics(self.files[name], zone, self.named)
        except ExpressionError as error:
            raise ExpressionError(f"calendar {name}: {error.message}", at=error.at, expected=error.expected) from None


def plain(value: object) -> Json:
    """Give a value as JSON carries it: dates of TOML become texts.

    >>> plain({"from": date(2026, 1, 1), "every": 300})
    {'from': '2026-01-01', 'every': 300}
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return format_duration(value // timedelta(microseconds=1), exact=True)
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each) for each in value]
    raise UsageError(f"{value!r} does not say when", "write a text, a table or a list of them")


def read_parts(value: Json, around: Around) -> list[Part]:
    """Read what says when.

    Raises
    ------
    ExpressionError
        For what cannot be read, with the place in its text.
    """
    if isinstance(value, str):
        limits = Limits(None, None, frozenset(), (), around.zone)
        return [Part(_read_text(value, around, around.zone), limits, around.zone)]
    if isinstance(value, dict):
        return list(_read_table(value, around))
    if isinstance(value, list) and value:
        return [part for each in value for part in read_parts(each, around)]
    raise ExpressionError("nothing says when", expected='a text such as "daily 22:00", a table or a list of them')


def _read_text(text: str, around: Around, zone: Zone) -> Trigger | Again | Occasion:
    """Read a cron line or a plain phrase."""
    body = text.strip()
    if not body:
        raise ExpressionError("nothing says when", expected='a text such as "daily 22:00"')
    try:
        if _CRON.match(body) and body.lower() != "@reboot":
            return Cron.parse(body, zone, seed=around.seed)
        return parse_phrase(body, zone, around.now, around.absolute)
    except ExpressionError as error:
        meant = None if body.partition(" ")[0].lower() in FIRST_WORDS else _meant(body, around, zone)
        if meant is None:
            raise
        raise ExpressionError(f'"{body}" is neither a cron line nor a plain phrase', expected=meant) from error


def _meant(text: str, around: Around, zone: Zone) -> str | None:
    """Say how a text could be written that is nothing as it stands."""
    found = []
    for word in _FORGOTTEN:
        if _reads(lambda: parse_phrase(f"{word} {text}", zone, around.now)):  # noqa: B023 - called at once
            found.append(f'"{word} {text}"')
            break
    if _reads(lambda: Calendar.parse(text, zone, around.zones)):
        found.append("--calendar, or calendar = …, if it is a calendar expression")
    elif _reads(lambda: Recurrence.parse(text, zone, around.now, around.zones)):
        found.append("--rrule, or rrule = …, as it is a recurrence rule")
    return "; ".join(found) or None


def _reads(read: Callable[[], object]) -> bool:
    try:
        read()
    except ExpressionError:
        return False
    return True


def _read_table(table: dict[str, Json], around: Around) -> Iterator[Part]:
    """Read a table: its triggers, each within its limits."""
    for key in table:
        if key not in KEYS:
            raise ExpressionError(f"{key} does not say when", expected=near(key, KEYS))
    zone = around.zone
    if "timezone" in table:
        zone = around.named(_text("timezone", table["timezone"]))
    limits = read_limits(
        _text("from", table["from"]) if "from" in table else None,
        _text("until", table["until"]) if "until" in table else None,
        _texts("except", table.get("except", [])),
        zone,
        partial(around.calendar, zone=zone),
    )
    repeat = _repetition(table["repeat"]) if "repeat" in table else None
    triggers = [each for key in _TRIGGERS if key in table for each in _read_key(key, table[key], around, zone)]
    if not triggers:
        raise ExpressionError("the table does not say when", expected=f"one of {', '.join(_TRIGGERS)}")
    if repeat and all(isinstance(each, _UNTIMED) for each in triggers):
        raise ExpressionError("nothing that repeat could repeat", expected="a trigger with times, such as when or cron")
    for trigger in triggers:
        if repeat and not isinstance(trigger, _UNTIMED):
            trigger = Repeated(trigger, *repeat)
        yield Part(trigger, limits, zone)


def _read_key(key: str, value: Json, around: Around, zone: Zone) -> Iterator[Trigger | Again | Occasion]:
    """Read the triggers of one key of a table."""
    if key in ("at_boot", "at_login"):
        if not isinstance(value, bool):
            raise ExpressionError(f"{key} is {value!r}", expected="true or false")
        if value:
            yield AtBoot() if key == "at_boot" else AtLogin()
    elif key == "every" and isinstance(value, (int, float)) and not isinstance(value, bool):
        length = parse_duration(value, "every")
        yield _phrase("every", f"every {format_duration(length, exact=True)}", around, zone)
    elif key in ("on_file", "on_event", "on_idle") and not isinstance(value, str):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str):
                yield from _read_key(key, each, around, zone)
            elif isinstance(each, dict):
                yield _phrase(key, _OCCASIONS[key](each), around, zone)
            else:
                raise ExpressionError(f"{key} is {each!r}", expected="a text or a table")
    else:
        for text in _texts(key, value):
            yield _expression(key, text, around, zone)


def _expression(key: str, text: str, around: Around, zone: Zone) -> Trigger | Again | Occasion:
    """Read one text of a key that says what kind of expression it is."""
    if key == "when":
        return _read_text(text, around, zone)
    if key == "cron":
        if text.strip().lower() == "@reboot":
            return AtBoot()
        return Cron.parse(text, zone, seed=around.seed)
    if key == "calendar":
        return Calendar.parse(text, zone, around.named)
    if key == "rrule":
        return Recurrence.parse(text, zone, _midnight(around.now, zone), around.named)
    if key == "on_file":
        if not text:
            raise ExpressionError("on_file has no name", expected="a path such as /srv/in/*.csv")
        return OnFile(around.absolute(text))
    return _phrase(key, text, around, zone)


def _midnight(now: int, zone: Zone) -> int:
    """Give when the day began: from there a recurrence rule without DTSTART counts, so that 8 o'clock is 08:00:00."""
    return zone.first(zone.wall(now) // DAY * DAY)


def _phrase(key: str, text: str, around: Around, zone: Zone) -> Trigger | Again | Occasion:
    """Read a phrase whose first words may stand in the key."""
    ahead = {"every": "every", "on_file": "on file", "on_event": "on", "on_idle": "on idle"}[key]
    if not f"{text} ".lower().startswith(f"{ahead} "):
        text = f"{ahead} {text}"
    if key == "on_event" and text.split()[1:2] not in (["job"], ["record"]):
        raise ExpressionError(
            "on_event is about a job or a record", text, at=3, expected="job NAME failed, or record …"
        )
    return parse_phrase(text, zone, around.now, around.absolute)


def _file(table: dict[str, Json]) -> str:
    values = _pick("on_file", table, ("path", "what", "for"), "path")
    return f"on file {quoted(values['path'])} {values.get('what', 'settled')}{_tail(values, 'for')}"


def _event(table: dict[str, Json]) -> str:
    if "job" in table or "state" in table or not table.keys() & {"record", "level", "matching"}:
        values = _pick("on_event", table, ("job", "tag", "schedule", "state"), "state")
        ahead = f"on job {quoted(values.get('job', '*'), KEYWORDS)}{_tail(values, 'tag', 'schedule')}"
        return f"{ahead} {values['state']}"
    values = _pick("on_event", table, ("record", "tag", "schedule", "level", "matching"))
    whose = f"{quoted(values.get('record', '*'), KEYWORDS)}{_tail(values, 'tag', 'schedule')}"
    return f"on record {whose}{_tail(values, 'level', 'matching')}"


def _idle(table: dict[str, Json]) -> str:
    values = _pick("on_idle", table, ("for", "load"), "for")
    return f"on idle {values['for']}{_tail(values, 'load')}"


_OCCASIONS: dict[str, Callable[[dict[str, Json]], str]] = {"on_file": _file, "on_event": _event, "on_idle": _idle}


def _pick(key: str, table: dict[str, Json], known: tuple[str, ...], needed: str | None = None) -> dict[str, str]:
    """Give the values of a small table as texts."""
    for name in table:
        if name not in known:
            raise ExpressionError(f"{key} knows no {name}", expected=near(name, known))
    if needed is not None and needed not in table:
        raise ExpressionError(f"{key} lacks {needed}", expected=f"{needed} = …")
    found = {}
    for name, value in table.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = format_duration(parse_duration(value, name), exact=True) if name == "for" else str(value)
        else:
            found[name] = ",".join(_texts(f"{key}.{name}", value))
    return found


def _tail(values: dict[str, str], *names: str) -> str:
    """Write what was given of some keys, as a phrase has them."""
    return "".join(f" {name} {quoted(values[name])}" for name in names if name in values)


def _repetition(value: Json) -> tuple[int, int]:
    """Read ``{every, for}``."""
    if not isinstance(value, dict):
        raise ExpressionError(f"repeat is {value!r}", expected='{every = "10m", for = "2h"}')
    values = _pick("repeat", value, ("every", "for"), "every")
    if "for" not in values:
        raise ExpressionError("repeat lacks for", expected='for = "2h"')
    every, lasting = parse_duration(values["every"], "repeat.every"), parse_duration(values["for"], "repeat.for")
    check_repetition(every, lasting)
    return every, lasting


def _text(key: str, value: Json) -> str:
    if not isinstance(value, str):
        raise ExpressionError(f"{key} is {value!r}", expected="a text")
    return value


def _texts(key: str, value: Json) -> list[str]:
    return [_text(key, each) for each in (value if isinstance(value, list) else [value])]
