"""Cron lines against what the tests of eight other programs expect (../shared/vectors).

Each dialect is translated where it says the same in other words; what then still
differs is listed, by a rule and with its reason (docs/reference/differences-cron.md),
and must really differ.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from vigie.errors import ExpressionError
from vigie.triggers.cron import Cron
from vigie.triggers.wall import DAY, SECOND, Zone

VECTORS = Path(__file__).parents[2] / "shared" / "vectors"
pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason="no folder of vectors stands beside the project")

Vector = dict[str, Any]


def vectors_of(name: str) -> list[Vector]:
    return json.loads((VECTORS / f"{name}.json").read_text())["vectors"]


# A question, and its answer -----------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A cron line of ours, and how to ask it."""

    text: str
    zone: Zone
    start: int
    seconds: bool | None = None
    stop: int | None = None
    shift: int = 0  # days
    apart: int = 0  # µs

    def line(self) -> Cron:
        return Cron.parse(self.text, self.zone, self.seconds)

    def after(self, instant: int) -> Iterator[int]:
        found: Iterator[int] = self.line().after(instant)
        if self.shift:
            found = (at + self.shift * DAY for at in found)
        if self.apart:
            found = spaced(found, instant, self.apart)
        return found if self.stop is None else itertools.takewhile(lambda at: at < self.stop, found)


def spaced(found: Iterator[int], last: int, apart: int) -> Iterator[int]:
    for at in found:
        if at >= last + apart:
            yield at
            last = at


def asked(vector: Vector) -> Asked:
    zone, start = zone_of(vector), vector.get("start") or vector["at"]
    return Asked(vector["expr"], zone, instant(start, zone), vector.get("seconds"))


def zone_of(vector: Vector) -> Zone:
    name = vector.get("tz")
    if name is None:
        given = datetime.fromisoformat(vector.get("start") or vector["at"]).tzinfo
        rules: tzinfo = timezone(given.utcoffset(None) or timedelta()) if given else UTC
        return Zone("fixed", rules)
    name = re.sub(r"tzfile\('/usr/share/zoneinfo/(.*)'\)", r"\1", name)
    return Zone(name, ZoneInfo(name))


def instant(text: str, zone: Zone) -> int:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        wall = (at.replace(tzinfo=UTC) - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
        return zone.first(wall)
    return (at - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def agrees(vector: Vector, ask: Asked) -> bool:
    """Tell whether a line gives what a vector expects."""
    if "matches" in vector:
        return (next(ask.after(ask.start - 1), None) == ask.start) is vector["matches"]
    expected = [instant(text, ask.zone) for text in vector["expected"]]
    if not expected and vector["no_more"] and never_fires(ask):
        return True
    if vector.get("direction") == "prev":
        return agrees_backwards(expected, ask)
    found = ask.after(ask.start - (1 if vector["inclusive"] else 0))
    if vector.get("no_more"):
        return list(itertools.islice(found, len(expected) + 1)) == expected
    return list(itertools.islice(found, len(expected))) == expected


def agrees_backwards(expected: list[int], ask: Asked) -> bool:
    """Count up to the start instead of down from it; a match counts the start too."""
    end = ask.start + 1 if expected[0] == ask.start else ask.start
    end = end if ask.stop is None else min(end, ask.stop)
    found = replace(ask, stop=end).after(expected[-1] - 1 - abs(ask.shift) * DAY)
    return [at for at in found if at >= expected[-1]] == expected[::-1]


def never_fires(ask: Asked) -> bool:
    try:
        ask.line()
    except ExpressionError as error:
        return "never fires" in error.message
    return False


# Dialects: what each says in other words ----------------------------------------


def both(fields: list[str]) -> list[str]:
    """Let day-of-month and day-of-week both match."""
    return [*fields[:-1], fields[-1] if fields[-1] in "*?" or fields[-3] in "*?" else f"+{fields[-1]}"]


def unstarred(fields: list[str]) -> list[str]:
    """Keep ``*/2`` from saying that both day fields must match: only a bare ``*`` does there."""
    dates = re.sub(r"^\*/", "1-31/", fields[-3])
    return [*fields[:-3], dates, fields[-2], re.sub(r"^\*/", "0-6/", fields[-1])]


def croniter(vector: Vector) -> Asked:
    options = vector.get("options", {})
    fields, year = vector["expr"].split(), []
    if len(fields) == 7:
        fields, year = fields[:6], fields[6:]
    if len(fields) == 6 and not options.get("second_at_beginning"):
        fields = [fields[5], *fields[:5]]
    if year and len(fields) == 5:
        fields = ["0", *fields]
    *rest, dates, months, weekdays = fields
    if "#" in weekdays:
        weekdays = weekdays.removeprefix("*,")  # the stars beside a # count for nothing
    if "-" in weekdays and len({day.replace("7", "0") for day in weekdays.lower().split("-")}) == 1:
        weekdays = "*"  # from Sunday to Sunday is the whole week
    fields = [*rest, dates, unwrapped(months), weekdays]
    if options.get("expand_from_start_time"):
        fields = from_start(fields, datetime.fromisoformat(vector["start"]))
    elif not options.get("implement_cron_bug") and weekdays != "*" and dates != "*":
        fields = unstarred(fields)
    if options.get("day_or") is False or "#" in weekdays:
        fields = both(fields)
    return replace(asked(vector), text=" ".join([*fields, *year]))


MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()


def unwrapped(field: str) -> str:
    """Write months that run over the end of the year as a list."""
    found = re.fullmatch(r"([a-z]{3})-([a-z]{3})(?:/(\d+))?", field.lower())
    if not found or MONTHS.index(found[1]) <= MONTHS.index(found[2]):
        return field
    low, high = MONTHS.index(found[1]), MONTHS.index(found[2]) + 12
    return ",".join(str(month % 12 + 1) for month in range(low, high + 1, int(found[3] or 1)))


def from_start(fields: list[str], start: datetime) -> list[str]:
    """Count steps from the start: each field's numbers that are a step apart from what the start shows there."""
    shown = (start.minute, start.hour, start.day, start.month, start.isoweekday() % 7)
    lowest, highest = (0, 0, 1, 1, 0), (59, 23, 31, 12, 6)
    found = []
    for field, at, low, high in zip(fields, shown, lowest, highest, strict=True):
        step = int(field[2:]) if field.startswith("*/") else 0
        found.append(f"{low + (at - low) % step}-{high}/{step}" if step else field)
    return found


def croner(vector: Vector) -> Asked:
    options = vector.get("options", {})
    fields = [re.sub(r"^/", "*/", field).replace("1-9999/", "1971-9999/") for field in vector["expr"].split()]
    if options.get("domAndDow"):
        fields = both(fields)
    if options.get("alternativeWeekdays"):
        fields[-1] = from_one(fields[-1])
    ask = replace(asked(vector), text=" ".join(fields), shift=options.get("dayOffset", 0))
    stop = instant(options["stopAt"], ask.zone) if "stopAt" in options else None
    return replace(ask, stop=stop, apart=options.get("interval", 0) * SECOND)


def from_one(field: str) -> str:
    """Count weekdays from Sunday as 1, as Quartz does."""
    return re.sub(r"(?<![#/\d])\d+", lambda found: str(int(found[0]) - 1), field)


def quartz(vector: Vector) -> Asked:
    fields = vector["expr"].split()
    if len(fields) > 5:
        fields[5] = from_one(fields[5])
    return replace(asked({"at": "1970-01-01"} | vector), text=" ".join(fields))


def ncrontab(vector: Vector) -> Asked:
    return replace(asked(vector), text=" ".join(both(vector["expr"].split())))


def robfig(vector: Vector) -> Asked:
    text = re.sub(r"^(CRON_)?TZ=\S+ ", "", vector["expr"])
    fields = [re.sub(r"^(\w+)/", r"\1-6/", field) if at == 5 else field for at, field in enumerate(text.split())]
    return replace(asked(vector), text=" ".join(unstarred(fields) if len(fields) > 1 else fields))


def apscheduler(vector: Vector) -> Asked:
    """Write the arguments of a CronTrigger as fields: those below the last that is given stay at their lowest."""
    given = vector["expr"]
    if given["trigger"] != "CronTrigger" or "week" in given:
        raise LookupError(given)
    lowest = {"year": "*", "month": "1", "day": "1", "day_of_week": "*", "hour": "0", "minute": "0", "second": "0"}
    last = max(at for at, name in enumerate(lowest) if name in given)
    chosen = {name: str(given.get(name, "*" if at < last else low)) for at, (name, low) in enumerate(lowest.items())}
    if found := re.fullmatch(r"(?:last|(\d)\w\w) (\w+)", chosen["day"]):
        chosen |= {"day": "*", "day_of_week": f"{found[2]}#{found[1] or 'L'}"}
    chosen["day"] = chosen["day"].replace("last", "L")
    text = " ".join(chosen[name] for name in ("second", "minute", "hour", "day", "month", "day_of_week", "year"))
    ask = asked(vector | {"expr": text})
    return replace(ask, stop=instant(given["end_time"], ask.zone) + 1 if "end_time" in given else None)


# What differs, by rule ----------------------------------------------------------

Holds = Callable[[Vector], bool]


def numbered(*numbers: int) -> Holds:
    return lambda vector: int(vector["id"][-4:]) in numbers


#: Of each file: its dialect, the rules of what differs, and how many pass as they are, translated, and differ.
FILES: dict[str, tuple[Callable[[Vector], Asked], dict[str, Holds], tuple[int, int, int]]] = {
    "cronsim_next": (
        asked,
        {"six fields follow elapsed time there, five a point in time": numbered(45, 46, 47)},
        (44, 0, 3),
    ),
    "croniter_next": (
        croniter,
        {"every second month from April to March goes on there with March, not February": numbered(142)},
        (138, 90, 1),
    ),
    "croner_next": (
        croner,
        {
            "in a gap it adds the gap's length": numbered(44, 122, 231, 235),
            "a wildcard skips the repeated hour there": numbered(242),
            "it counts an interval back from the start": numbered(159),
            "the library was wrong": lambda vector: "suspect" in vector,
        },
        (200, 37, 8),
    ),
    "cronexpr_next": (asked, {}, (62, 0, 0)),
    "ncrontab_next": (ncrontab, {}, (113, 13, 0)),
    "quartz_next": (quartz, {}, (2, 0, 0)),
    "quartz_match": (quartz, {}, (69, 0, 0)),
    "robfig_next": (
        robfig,
        {
            "a time in a gap is left out there": numbered(20, 31),
            "a time that exists twice runs twice there": numbered(33, 38, 48),
        },
        (31, 26, 5),
    ),
    "robfig_match": (robfig, {}, (27, 2, 0)),
    "apscheduler4_next": (
        apscheduler,
        {
            "weeks of the year are no field of cron": lambda vector: "week" in vector["expr"],
            "no cron: intervals": lambda vector: vector["expr"]["trigger"] != "CronTrigger",
        },
        (0, 10, 7),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_vectors(name: str) -> None:
    translate, rules, counts = FILES[name]
    found = {"passed": 0, "translated": 0, "listed": 0}
    wrong = []
    for vector in vectors_of(name):
        known = [rule for rule, holds in rules.items() if holds(vector)]
        try:
            ask = translate(vector)
            right = agrees(vector, ask)
        except (ExpressionError, LookupError):
            ask, right = None, False
        if right is bool(known):
            wrong.append((vector, ask, known))
        own = ask is not None and isinstance(vector["expr"], str) and ask == asked(vector)
        found["listed" if known else "passed" if own else "translated"] += 1
    assert not wrong
    assert tuple(found.values()) == counts


#: Of each file of what must be refused: its dialect, what is not refused and why, and how many that is.
REFUSED: dict[str, tuple[Callable[[Vector], str], dict[str, Holds], int]] = {
    "cronsim_invalid": (
        lambda vector: vector["expr"],
        {"MONL is 1L, as in croner": lambda vector: vector["expr"] == "* * * * MONL"},
        1,
    ),
    "quartz_invalid": (
        lambda vector: quartz(vector).text,
        {
            "both day fields may be given": numbered(4, 5, 6),
            "a step over the end is Debian's too": lambda vector: re.search(r"(^|^0 |^0 0 )0/120 ", vector["expr"]),
        },
        6,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    translate, rules, count = REFUSED[name]
    accepted = []
    for vector in vectors_of(name):
        text = translate(vector)
        try:
            Cron.parse(text, Zone("UTC", UTC))
        except ExpressionError as error:
            assert error.at is not None, text
            assert error.expected, text
            assert not any(holds(vector) for holds in rules.values()), text
        else:
            assert any(holds(vector) for holds in rules.values()), text
            accepted.append(text)
    assert len(accepted) == count
