"""Recurrence rules in plain English: how they were read, and why one never comes."""

from __future__ import annotations

from vigie.triggers.rrule_days import Filter
from vigie.triggers.rrule_parts import Parts
from vigie.triggers.rrule_rule import Rule
from vigie.triggers.wall import DAY, HOUR, MINUTE, SECOND, civil

__all__ = ["say_rule", "say_wall", "why_never"]

_UNITS = {
    "SECONDLY": "second",
    "MINUTELY": "minute",
    "HOURLY": "hour",
    "DAILY": "day",
    "WEEKLY": "week",
    "MONTHLY": "month",
    "YEARLY": "year",
}
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
#: More times of a day than this are said by their fields.
_MOST_TIMES = 6


def say_rule(rule: Rule) -> str:
    """Say what a rule means.

    What DTSTART filled in is said as if it had been written.
    """
    parts = rule.parts
    unit = _UNITS[parts.freq]
    said = [f"every {unit}" if parts.interval == 1 else f"every {parts.interval} {unit}s", *_days(rule), *_times(rule)]
    text = " ".join(said)
    if parts.positions:
        text += f", only the {_ordinals(parts.positions)} of each {unit}'s"
    if parts.interval > 1 or parts.count is not None:
        text += f", from {say_wall(rule.wall)}"
    if parts.count is not None:
        text += ", once" if parts.count == 1 else f", {parts.count:,} times"
    if parts.until is not None:
        text += ", until " + say_wall(parts.until.wall, date=parts.until.date)
        text += " UTC" if parts.until.zone is not None else ""
    return text


def why_never(rule: Rule) -> tuple[str, str] | None:
    """Say why a rule gives nothing at all, and which of its parts to look at; None if it gives something."""
    if rule.end is not None and rule.end < rule.start:
        return "UNTIL lies before its start", "UNTIL"
    if rule.comes():
        return None
    passing = rule.days.passing
    # A leap year and another: what days they have does not hang on their weekdays.
    bare = Filter(months=passing.months, monthdays=passing.monthdays)
    if passing.monthdays and not any(bare.offsets(year) for year in (2023, 2024)):
        months = _listed([_MONTHS[number - 1] for number in passing.months])
        have = "has" if len(passing.months) == 1 else "have"
        return f"{months} {have} no {_numbered('day', passing.monthdays)}", "BYMONTHDAY"
    if rule.parts.positions:
        return "BYSETPOS chooses none of what its other parts give", "BYSETPOS"
    return "nothing fits all its parts" + ("" if rule.end is None else " before its end"), "FREQ"


def say_wall(wall: int, *, date: bool = False) -> str:
    """Write a wall time as ISO 8601, without seconds where there are none.

    >>> say_wall(90_000_000), say_wall(0, date=True)
    ('1970-01-01T00:01:30', '1970-01-01')
    """
    day = "{:04}-{:02}-{:02}".format(*civil(wall // DAY))
    return day if date else f"{day}T{_clock(wall % DAY)}"


def _clock(time: int) -> str:
    """Write a time of day."""
    hour, rest = divmod(time, HOUR)
    minute, second = divmod(rest, MINUTE)
    return f"{hour:02}:{minute:02}" + (f":{second // SECOND:02}" if second else "")


def _days(rule: Rule) -> list[str]:
    """Say which days pass."""
    passing, said = rule.days.passing, []
    if passing.weekdays:
        each = _listed([_weekday(*pair) for pair in sorted(passing.weekdays, key=lambda pair: (pair[0] < 0, pair))])
        span = "month" if passing.monthly else "year"
        ordinals = any(ordinal for ordinal, _ in passing.weekdays)
        said.append(f"on {each}" + (f" of the {span}" if ordinals and rule.parts.freq == "YEARLY" else ""))
    if passing.monthdays:
        said.append(
            f"on {_numbered('day', passing.monthdays)}" + ("" if rule.parts.freq == "MONTHLY" else " of the month")
        )
    if passing.yeardays:
        said.append(f"on {_numbered('day', passing.yeardays)} of the year")
    if passing.weeks:
        said.append(f"in {_numbered('week', passing.weeks)} of the year")
    if passing.months:
        said.append("in " + _listed([_MONTHS[number - 1] for number in passing.months]))
    return said


def _times(rule: Rule) -> list[str]:
    """Say at which times of the day, or within the unit."""
    parts, clock = rule.parts, rule.clock
    minutes = parts.minutes or ((clock.minutes[0],) if parts.freq == "HOURLY" else ())
    seconds = [second // SECOND for second in clock.seconds] if parts.freq != "SECONDLY" or parts.seconds else []
    seconds = [] if seconds == [0] and not parts.seconds else seconds
    if parts.freq in ("HOURLY", "MINUTELY", "SECONDLY"):
        return _fields(parts, parts.hours, minutes, seconds)
    if len(clock.hours) * len(clock.minutes) * len(clock.seconds) > _MOST_TIMES:
        return _fields(parts, clock.hours, clock.minutes, seconds)
    return ["at " + _listed([_clock(time) for time in clock.times()])]


def _fields(parts: Parts, hours: tuple[int, ...], minutes: tuple[int, ...], seconds: list[int]) -> list[str]:
    """Say times by their fields."""
    said = []
    if minutes:
        said.append(f"at {_numbered('minute', minutes)}")
    if seconds:
        said.append(f"at {_numbered('second', tuple(seconds))}")
    if hours:
        said.append(f"in {_numbered('hour', hours)}")
    return said


def _weekday(ordinal: int, day: int) -> str:
    return f"the {_ordinal(ordinal)} {_DAYS[day]}" if ordinal else _DAYS[day]


def _ordinal(number: int) -> str:
    """Write 1 as 1st, and -1 as last."""
    if number == -1:
        return "last"
    place = abs(number)
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}" + (" to last" if number < 0 else "")


def _ordinals(numbers: tuple[int, ...]) -> str:
    """Write several ordinals, those from the end behind."""
    return _listed([_ordinal(number) for number in sorted(numbers, key=lambda number: (number < 0, number))])


def _numbered(what: str, numbers: tuple[int, ...]) -> str:
    """Write ``day 1``, ``days 1 and 15`` or ``the last day``; runs of three or more are drawn together."""
    front = [number for number in numbers if number >= 0]
    back = tuple(number for number in numbers if number < 0)
    said = []
    if front:
        runs: list[list[int]] = []
        for number in front:
            if runs and runs[-1][-1] == number - 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        words = [word for run in runs for word in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))]
        said.append(f"{what}{'s' if len(front) > 1 else ''} {_listed(words)}")
    if back:
        said.append(f"the {_ordinals(back)} {what}")
    return " and ".join(said)


def _listed(words: list[str]) -> str:
    """Join words as English does."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
