"""A cron line in plain English: how it was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from vigie.triggers.cron_fields import MONTH, WEEKDAY, Days

__all__ = ["day_words", "describe"]

_EVERY_DAY = "every day"
#: So many times of a day are said one by one.
_FEW = 6


def describe(seconds: Sequence[int], minutes: Sequence[int], hours: Sequence[int], days: str) -> str:
    """Put the times of a day (seconds, minutes and hours, each in order) and its days into one phrase.

    >>> describe((0,), (0, 30), (8, 12), "on Monday to Friday")
    'at 08:00, 08:30, 12:00 and 12:30 on Monday to Friday'
    >>> describe((0,), range(0, 60, 15), range(24), "every day")
    'every 15 minutes'
    """
    few = len(seconds) * len(minutes) * len(hours) <= _FEW
    clock = _points(seconds, minutes, hours) if few else _often(seconds, minutes, hours)
    whole = len(hours) == 24 or (not few and _every(hours, 24, "hour"))
    return clock if days == _EVERY_DAY and whole else f"{clock} {days}"


def _points(seconds: Sequence[int], minutes: Sequence[int], hours: Sequence[int]) -> str:
    tails = [""] if list(seconds) == [0] else [f":{second:02}" for second in seconds]
    return "at " + _and([f"{h:02}:{m:02}{tail}" for h in hours for m in minutes for tail in tails])


def _often(seconds: Sequence[int], minutes: Sequence[int], hours: Sequence[int]) -> str:
    if list(seconds) == [0]:
        return _in_hours(minutes, hours)
    often = _every(seconds, 60, "second") or f"at second {_and(_spans(seconds))}"
    if len(minutes) == 60 and len(hours) == 24:
        return often if often.startswith("every") else f"{often} of every minute"
    if len(minutes) * len(hours) <= _FEW:
        return f"{often} of {_and([f'{h:02}:{m:02}' for h in hours for m in minutes])}"
    return f"{often} of each minute, {_in_hours(minutes, hours)}"


def _in_hours(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """Say which minutes of which hours."""
    marks = f"at {_and(_spans(minutes, ':{:02}'.format))}"
    often = _every(minutes, 60, "minute")
    by_hour = "every hour" if len(hours) == 24 else _every(hours, 24, "hour")
    if list(minutes) == [0] and by_hour:
        return by_hour
    if len(hours) == 24:
        return often or f"{marks} of every hour"
    if len(minutes) == 1 and by_hour:
        return f"{by_hour} {marks}"
    if list(hours) == list(range(hours[0], hours[-1] + 1)) and (often or list(minutes) == [0]):
        return f"{often or 'every hour'} from {hours[0]:02}:{minutes[0]:02} to {hours[-1]:02}:{minutes[-1]:02}"
    return f"{often or marks} of the hours {_and(_spans(hours))}"


def _every(numbers: Sequence[int], size: int, unit: str) -> str | None:
    """Say ``every 15 minutes`` of numbers that part the whole evenly, from 0 on."""
    step = size // len(numbers)
    if len(numbers) == 1 or list(numbers) != list(range(0, size, step)):
        return None
    return f"every {unit}" if step == 1 else f"every {step} {unit}s"


def day_words(chosen: Days, months: Sequence[int], years: Sequence[int] | None) -> str:
    """Say on which days: those of some months (in order), and of some years or of all.

    >>> from vigie.triggers.cron_fields import DATE, days, read
    >>> day_words(days(read(DATE, "L"), read(WEEKDAY, "*")), [2], None)
    'on the last day of February'
    """
    named = _and(_spans(months, lambda month: MONTH.names[month - 1].title())) if len(months) < 12 else "the month"
    inside = f" in {named}" if len(months) < 12 else ""
    dates = f"on {_and(_dates(chosen))} of {named}"
    every_date, every_weekday = chosen.dates.numbers >= set(range(1, 32)), chosen.weekdays.numbers >= set(range(7))
    if (every_date and every_weekday) if chosen.both else (every_date or every_weekday):
        found = f"{_EVERY_DAY}{inside}"
    elif chosen.both and every_weekday:
        found = dates
    elif chosen.both and not every_date:
        found = f"{dates} if it is {_and(_weekdays(chosen), 'or')}"
    else:
        weekdays = _and(_weekdays(chosen), "and" if chosen.both else "or")
        found = f"on {weekdays} of {named}" if chosen.weekdays.nth else f"on {weekdays}{inside}"
        found = found if chosen.both else f"{dates} or {found}"
    return found if years is None else f"{found} in {_and(_spans(years))}"


def _dates(chosen: Days) -> list[str]:
    plain = sorted(day for day in chosen.dates.numbers if day > 0)
    step = plain[1] - plain[0] if len(plain) > 4 else 1
    if step > 1 and plain == list(range(plain[0], 32, step)):
        found = [f"each {_nth(step)} day from the {_nth(plain[0])}"]
    else:
        found = [f"the {span}" for span in _spans(plain, _nth)]
    found += [
        "the last day" if day == 0 else f"the {_from_end(day)}" for day in sorted(chosen.dates.numbers) if day <= 0
    ]
    for day in sorted(chosen.dates.near):
        nearest = _nth(day) if day > 0 else _from_end(day)
        found.append(f"the working day nearest the {nearest}" if day else "the last working day")
    return found


def _from_end(day: int) -> str:
    return f"{_nth(-day)} day before the last day" if day else "last day"


def _weekdays(chosen: Days) -> list[str]:
    def name(number: int) -> str:
        return WEEKDAY.names[number % 7].title()

    found = _spans(sorted(number or 7 for number in chosen.weekdays.numbers), name)
    for number, nth in sorted(chosen.weekdays.nth):
        found.append(f"the {_nth(nth) if nth else 'last'} {name(number)}")
    return found


def _nth(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number not in (11, 12, 13) else "th"
    return f"{number}{ending}"


def _spans(numbers: Sequence[int], name: Callable[[int], str] = str) -> list[str]:
    """Name numbers that are in order, three or more in a row as ``1 to 3``."""
    found: list[str] = []
    at = 0
    while at < len(numbers):
        end = at
        while end + 1 < len(numbers) and numbers[end + 1] == numbers[end] + 1:
            end += 1
        if end - at >= 2:
            found.append(f"{name(numbers[at])} to {name(numbers[end])}")
        else:
            found += [name(number) for number in numbers[at : end + 1]]
        at = end + 1
    return found


def _and(words: Iterable[str], last: str = "and") -> str:
    *rest, end = words
    return f"{', '.join(rest)} {last} {end}" if rest else end
