"""Says what a calendar expression means: in systemd's canonical form, and in words.

The canonical form is what ``systemd-analyze calendar`` prints as "Normalized
form". The words name the clock first, from the second up (a unit that is not
restricted is left out), then the days. Numbers are written out where they are
few; a long list is said by its rule, as it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from vigie.triggers.calendar_parse import (
    DAYS,
    FROM_END,
    HOURS,
    MINUTES,
    MONTHS,
    SECONDS,
    YEARS,
    Field,
    Part,
    Parts,
    Written,
)
from vigie.triggers.wall import SECOND

__all__ = ["describe", "normal", "weekdays", "why_never"]

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
#: So many times or numbers are written out.
_FEW = 6
#: More numbers than these are not even looked at, one by one.
_MOST = 60
_ZERO = (Part(0),)


def normal(written: Written, zone: str | None) -> str:
    """Give systemd's canonical form.

    >>> from vigie.triggers.calendar_parse import read
    >>> normal(read("Sat,Thu,Mon-Wed *-1 8:0"), "UTC")
    'Mon..Thu,Sat *-*-01 08:00:00 UTC'
    """
    date = "-".join((_field(written.years, YEARS), _field(written.months, MONTHS)))
    date += ("~" if written.from_end else "-") + _field(written.days, DAYS)
    clock = ":".join((_field(written.hours, HOURS), _field(written.minutes, MINUTES), _field(written.seconds, SECONDS)))
    names = ""
    if len(written.weekdays) < 7:
        runs = [[_WEEKDAYS[number][:3] for number in run] for run in _runs(written.weekdays)]
        names = ",".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else run[0] for run in runs)
    return " ".join(word for word in (names, date, clock, zone) if word)


def _field(parts: Parts | None, field: Field) -> str:
    if parts is None or (field is SECONDS and parts == (Part(0, step=SECOND),)):
        return "*"
    return ",".join(_part(part, field) for part in parts)


def _part(part: Part, field: Field) -> str:
    """Write a part; a range by ones needs no step."""
    shown = _number(part.start, field)
    if part.stop is not None:
        shown += f"..{_number(part.stop, field)}"
    if part.repeats(field.unit):
        whole, rest = divmod(part.step, field.unit)
        shown += f"/{whole}.{rest:06}" if rest else f"/{whole}"
    return shown


def _number(number: int, field: Field) -> str:
    whole, rest = divmod(number, field.unit)
    return f"{whole:02}.{rest:06}" if rest else f"{whole:02}"


def describe(written: Written) -> str:
    """Say in words when it comes, without the zone.

    >>> from vigie.triggers.calendar_parse import read
    >>> describe(read("Mon..Fri 08:00")), describe(read("*:0/5"))
    ('at 08:00 on Monday to Friday', 'every 5 minutes')
    >>> describe(read("*-*~1 12:00")), describe(read("*-2-29"))
    ('at 12:00 on the last day of the month', 'at 00:00 on 29 February')
    """
    clock, days = _clock(written), _days(written)
    if not days and written.hours is not None and not _cycle(written.hours, HOURS):
        days = "every day"
    return f"{clock} {days}".rstrip()


def _clock(written: Written) -> str:
    """Say the time of day: as clock times where they are few, else from the second up."""
    hours, minutes, seconds = written.hours, written.minutes, written.seconds
    if HOURS.count(hours) * MINUTES.count(minutes) * SECONDS.count(seconds) <= _FEW:
        return "at " + _listed(
            [
                f"{hour:02}:{minute:02}" + (f":{_padded(second)}" if seconds != _ZERO else "")
                for hour in HOURS.numbers(hours)
                for minute in MINUTES.numbers(minutes)
                for second in SECONDS.numbers(seconds)
            ]
        )
    units: list[tuple[Parts | None, Field]] = [(seconds, SECONDS), (minutes, MINUTES), (hours, HOURS)]
    while units[0][0] == _ZERO and (len(units) > 2 or _cycle(hours, HOURS)):
        units.pop(0)
    parts, field = units.pop(0)
    step = _cycle(parts, field)
    said = f"every {_amount(step, field)}" if step else f"at {_named(parts, field)}"
    for parts, field in units:
        # Each minute is no news after every second, as each hour is none after each minute.
        above = _cycle(parts, field)
        if above != field.unit:
            said += f" of every {_ordinal(above)} {field.name}" if above else f" of {_named(parts, field)}"
        elif not step:
            said += f" of each {field.name}"
        step = above
    return said


def _cycle(parts: Parts | None, field: Field) -> int:
    """Give the step of a field that repeats evenly from 0, all around the clock; 0 for another."""
    if parts is None:
        return field.unit
    step = parts[0].step
    around = len(parts) == 1 and parts[0].stop is None and parts[0].start == 0
    return step if step and around and (field.high + 1) % step == 0 else 0


def _amount(number: int, field: Field) -> str:
    return field.name if number == field.unit else f"{_plain(number, field)} {field.name}s"


def _named(parts: Parts | None, field: Field) -> str:
    """Give ``minute 30`` or ``minutes 4 and 30``."""
    assert parts is not None
    return f"{field.name}{'s' * (field.count(parts) > 1)} {_numbers(parts, field)}"


def _numbers(parts: Parts, field: Field, names: Sequence[str] = ()) -> str:
    """List the numbers of a field, or its parts where that would be long."""

    def shown(number: int) -> str:
        return names[number - field.low] if names else _plain(number, field)

    if field.count(parts) <= _MOST:
        runs = _runs(field.numbers(parts), field.unit)
        if len(runs) <= _FEW:
            return _listed([shown(run[0]) + (f" to {shown(run[-1])}" if len(run) > 1 else "") for run in runs])
    return _listed([_sequence([*field.range(part)[:3], *field.range(part)[-1:]], shown) for part in parts])


def _sequence(numbers: list[int], shown: Callable[[int], str]) -> str:
    """Give the first three numbers of a part, and its last."""
    if len(set(numbers)) < 4:
        return _listed([shown(number) for number in sorted(set(numbers))])
    return f"{', '.join(shown(number) for number in numbers[:3])} … {shown(numbers[3])}"


def _days(written: Written) -> str:
    """Say on which days it comes; nothing where it comes each day."""
    names = weekdays(written.weekdays)
    months = "" if written.months is None else _numbers(written.months, MONTHS, _MONTHS)
    years = "" if written.years is None else _numbers(written.years, YEARS)
    if written.days is None:
        said = f"on {names}" if names else "every day" if months or years else ""
        when = f"{months} of {years}" if months and years else months or years
        return f"{said} in {when}" if when else said
    if written.from_end:
        said = f"on the {_from_end(written.days)} of {months or 'the month'}"
    elif DAYS.count(written.days) == 1 and MONTHS.count(written.months) == 1:
        said = f"on {_numbers(written.days, DAYS)} {months}"
        if YEARS.count(written.years) == 1:
            said, years = f"{said} {years}", ""
    else:
        said = f"on {_named(written.days, DAYS)} of {months or 'the month'}"
    said += f" in {years}" if years else ""
    return f"{said} if that is {weekdays(written.weekdays, 'or')}" if names else said


def why_never(written: Written) -> str:
    """Say why no day is such a day.

    >>> from vigie.triggers.calendar_parse import read
    >>> why_never(read("*-2-30"))
    'February has no day 30'
    """
    assert written.months is not None
    assert written.days is not None
    months = _numbers(written.months, MONTHS, _MONTHS)
    years = "" if written.years is None else f" of {_numbers(written.years, YEARS)}"
    has = "has" if MONTHS.count(written.months) == 1 else "have"
    return f"{months}{years} {has} no day {_numbers(written.days, DAYS)}"


def _from_end(parts: Parts) -> str:
    """Give ``last day``, ``last 7 days`` or ``3rd last and 5th last days``."""
    numbers = FROM_END.numbers(parts)
    runs = _runs(numbers)
    if runs[0][0] == 1 and len(runs) == 1:
        return f"last {numbers[-1]} days" if len(numbers) > 1 else "last day"
    said = [
        f"{_ordinal(run[0])} last" if len(run) == 1 else f"{_ordinal(run[0])} to {_ordinal(run[-1])} last"
        for run in runs
    ]
    return f"{_listed(said)} day{'s' * (len(numbers) > 1)}".replace("1st last", "last")


def weekdays(numbers: Sequence[int], last: str = "and") -> str:
    """Give ``Monday to Friday``, or nothing for all seven."""
    if len(numbers) == 7:
        return ""
    names = [[_WEEKDAYS[number] for number in run] for run in _runs(numbers)]
    return _listed([f"{run[0]} to {run[-1]}" if len(run) > 1 else run[0] for run in names], last)


def _runs(numbers: Iterable[int], unit: int = 1) -> list[list[int]]:
    """Group three and more numbers that follow each other."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + unit:
            found[-1].append(number)
        else:
            found.append([number])
    return [part for run in found for part in ([run] if len(run) > 2 else [[number] for number in run])]


def _plain(number: int, field: Field) -> str:
    whole, rest = divmod(number, field.unit)
    return f"{whole}.{rest:06}".rstrip("0") if rest else str(whole)


def _padded(second: int) -> str:
    return f"{second // SECOND:02}{_plain(second % SECOND, SECONDS)[1:]}"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _listed(words: Sequence[str], last: str = "and") -> str:
    """Give ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
