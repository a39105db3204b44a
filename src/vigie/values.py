"""Durations, sizes, rates and times: from the words people type, and back.

Everything is kept as whole numbers (µs, bytes) and computed without floats, so
that ``1.1s`` is 1,100,000 µs and a value that was printed exactly reads back as
itself. ``datetime`` is loaded only when a calendar is needed: ``vigie start``
must not pay for it.
"""

from __future__ import annotations

from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta, tzinfo

__all__ = [
    "format_duration",
    "format_rate",
    "format_size",
    "format_time",
    "parse_duration",
    "parse_rate",
    "parse_size",
    "parse_time",
]

_SECOND = 1_000_000
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
#: A thousand years: what is longer is a slip of the pen, and would leave the calendar.
_LONGEST = 365_250 * _DAY

_DURATION_UNITS = {
    "us": 1,
    "µs": 1,
    "μs": 1,
    "ms": 1000,
    "s": _SECOND,
    "sec": _SECOND,
    "second": _SECOND,
    "seconds": _SECOND,
    "m": _MINUTE,
    "min": _MINUTE,
    "minute": _MINUTE,
    "minutes": _MINUTE,
    "h": _HOUR,
    "hour": _HOUR,
    "hours": _HOUR,
    "d": _DAY,
    "day": _DAY,
    "days": _DAY,
    "w": 7 * _DAY,
    "week": 7 * _DAY,
    "weeks": 7 * _DAY,
}
_SIZE_UNITS = {"": 1, "b": 1, "byte": 1, "bytes": 1}
for _power, _letter in enumerate("kmgtpe", start=1):
    _SIZE_UNITS[_letter + "b"] = 1000**_power
    _SIZE_UNITS[_letter + "ib"] = _SIZE_UNITS[_letter] = 1024**_power

_DURATION_HINT = "write it as 90s, 5m, 1h30m, 2d, 250ms or PT1H30M"
_SIZE_HINT = "write it as 10 GiB, 500 MB or a number of bytes"
_RATE_HINT = "write it as 10/s, 600/m or 5/h"
_TIME_HINT = "write it as 2026-11-23T14:00, 2026-11-23T14:00+01:00 or 14:00"
_PAST_HINT = "write it as 2h or 30m (ago), 14:00, 2026-11-23, 2026-11-23T14:00 or 2026-11-23T14:00+01:00"


def parse_duration(text: str | float | timedelta, option: str = "duration") -> int:
    """Read a duration and give it in µs.

    Parameters
    ----------
    text:
        ``90s``, ``5m``, ``1h30m``, ``1.5h``, ISO 8601 as ``PT1H30M``, a bare
        number of seconds (text or number), or a ``timedelta``.
    option:
        What the value is for; it stands in the error.

    Raises
    ------
    UsageError
        When it is no duration, is negative, or longer than a thousand years.

    >>> parse_duration("1h30m"), parse_duration("250ms"), parse_duration(1.5)
    (5400000000, 250000, 1500000)
    """
    if isinstance(text, str):
        found = _duration_text(text.strip(), text, option)
    elif isinstance(text, bool):
        raise UsageError(f"{option}: {text!r} is not a duration", _DURATION_HINT)
    elif isinstance(text, (int, float)):
        if not abs(text) < float("inf"):
            raise UsageError(f"{option}: {text!r} is not a duration", _DURATION_HINT)
        found = round(text * _SECOND)
    elif hasattr(text, "total_seconds"):
        found = int(text.days * 86400 + text.seconds) * _SECOND + int(text.microseconds)
    else:
        raise UsageError(f"{option}: {text!r} is not a duration", _DURATION_HINT)
    if found < 0:
        raise UsageError(f"{option}: {text} is negative", _DURATION_HINT)
    if found > _LONGEST:
        raise UsageError(f"{option}: {text} is longer than a thousand years", _DURATION_HINT)
    return found


def _duration_text(text: str, shown: str, option: str) -> int:
    """Read one of the three written forms."""
    wrong = UsageError(f"{option}: {shown!r} is not a duration", _DURATION_HINT)
    negative = text.startswith("-")
    body = text[1:] if text[:1] in ("-", "+") else text
    if not body:
        raise wrong
    found = _iso_duration(body[1:].upper()) if body[0] in "Pp" else _unit_duration(body.lower())
    if found is None:
        raise wrong
    return -found if negative else found


def _unit_duration(text: str) -> int | None:
    """Sum ``1h30m``; a bare number is seconds."""
    number, rest = _number(text)
    if number and not rest:
        return _scaled(number, _SECOND)
    total = 0
    while text:
        number, rest = _number(text)
        at = 0
        while at < len(rest) and (rest[at].isalpha() and not rest[at].isdigit()):
            at += 1
        unit = _DURATION_UNITS.get(rest[:at])
        if not number or unit is None:
            return None
        total += _scaled(number, unit)
        text = rest[at:].lstrip()
    return total


def _iso_duration(text: str) -> int | None:
    """Read what follows the P of ISO 8601; years and months have no fixed length."""
    date, separator, clock = text.partition("T")
    if not (date or clock) or (separator and not clock):
        return None
    total = 0
    for left, letters in ((date, "WD"), (clock, "HMS")):
        while left:
            number, left = _number(left.replace(",", "."))
            at = letters.find(left[:1])
            if not number or not left or at < 0:
                return None
            total += _scaled(number, _DURATION_UNITS[left[0].lower()])
            letters = letters[at + 1 :]
            left = left[1:]
    return total


def _number(text: str) -> tuple[str, str]:
    """Split the decimal number in front off, and the space behind it."""
    at = 0
    points = 0
    digits = 0
    while at < len(text) and (text[at] in "0123456789" or (text[at] == "." and not points)):
        points += text[at] == "."
        digits += text[at] != "."
        at += 1
    # int() refuses endless numbers; so do we, before it does.
    if not digits or digits > 40:
        return "", text
    return text[:at], text[at:].lstrip()


def _scaled(number: str, unit: int) -> int:
    """Multiply a decimal number by a unit, rounding half up, without a float."""
    whole, _, fraction = number.partition(".")
    scale = int("1" + "0" * len(fraction))
    value = int((whole or "0") + fraction) * unit
    return (2 * value + scale) // (2 * scale)


def format_duration(us: int, *, exact: bool = False) -> str:
    """Write a duration in µs: short for people, or exact.

    >>> format_duration(5_400_000_000), format_duration(12_345_678), format_duration(250_000)
    ('1h30m', '12.3s', '250ms')
    >>> format_duration(12_345_678, exact=True)
    '12s345ms678us'
    """
    if us < 0:
        return "-" + format_duration(-us, exact=exact)
    if not exact and us < _MINUTE:
        return _below_a_minute(us)
    if not exact and us >= _DAY:
        us = (us + _HOUR // 2) // _HOUR * _HOUR
    elif not exact and us >= _HOUR:
        us = (us + _MINUTE // 2) // _MINUTE * _MINUTE
    elif not exact:
        us = (us + _SECOND // 2) // _SECOND * _SECOND
    parts = []
    for name, unit in (("d", _DAY), ("h", _HOUR), ("m", _MINUTE), ("s", _SECOND), ("ms", 1000), ("us", 1)):
        count, us = divmod(us, unit)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"


def _below_a_minute(us: int) -> str:
    """Write three digits of it at most."""
    if us == 0:
        return "0s"
    if us < 1000:
        return f"{us}us"
    if us < 10_000:
        return _trim(f"{us / 1000:.1f}") + "ms"
    if us < 999_500:
        return f"{(us + 500) // 1000}ms"
    if us < 59_950_000:
        return _trim(f"{us / _SECOND:.1f}") + "s"
    return "1m"


def _trim(text: str) -> str:
    """Drop a fraction of nothing."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_size(text: str | int, option: str = "size") -> int:
    """Read a size and give it in bytes.

    ``kB MB GB`` count by 1,000, ``KiB MiB GiB`` and the bare letters ``K M G``
    by 1,024.

    Raises
    ------
    UsageError
        When it is no size or negative.

    >>> parse_size("10 GiB"), parse_size("500 MB"), parse_size("1024")
    (10737418240, 500000000, 1024)
    """
    shown = text
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        raise UsageError(f"{option}: {shown!r} is not a size", _SIZE_HINT)
    if isinstance(text, int):
        text = str(text)
    body = text.strip()
    if body.startswith("-"):
        raise UsageError(f"{option}: {shown} is negative", _SIZE_HINT)
    number, rest = _number(body)
    unit = _SIZE_UNITS.get(rest.strip().lower())
    if not number or unit is None:
        raise UsageError(f"{option}: {shown!r} is not a size", _SIZE_HINT)
    found = _scaled(number, unit)
    if found >= 1 << 63:
        raise UsageError(f"{option}: {shown} is larger than any file", _SIZE_HINT)
    return found


def format_size(size: int, *, exact: bool = False) -> str:
    """Write a size in bytes: short for people, or exact.

    >>> format_size(1536), format_size(1536, exact=True), format_size(10 << 30, exact=True)
    ('1.5 KiB', '1536 B', '10 GiB')
    """
    names = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = 0
    if exact:
        while power < 6 and size and size % 1024 == 0:
            size //= 1024
            power += 1
        return f"{size} {names[power]}"
    value = float(size)
    while power < 6 and abs(value) >= 999.5:
        value /= 1024
        power += 1
    return f"{_trim(f'{value:.1f}') if abs(value) < 99.95 else f'{value:.0f}'} {names[power]}"


def parse_rate(text: str | float, option: str = "rate") -> float:
    """Read a rate and give it in starts a second.

    Raises
    ------
    UsageError
        When it is no rate, or not above zero.

    >>> parse_rate("10/s"), parse_rate("600/m"), parse_rate("1/10s")
    (10.0, 10.0, 0.1)
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        text = f"{text}/s"
    if not isinstance(text, str):
        raise UsageError(f"{option}: {text!r} is not a rate", _RATE_HINT)
    count, slash, per = text.strip().partition("/")
    try:
        number = float(count)
        per = per.strip()
        period = parse_duration(per if per[:1].isdigit() or not per else "1" + per) if slash else _SECOND
    except ValueError:
        raise UsageError(f"{option}: {text!r} is not a rate", _RATE_HINT) from None
    if not 0 < number < float("inf") or period <= 0:
        raise UsageError(f"{option}: {text} is not above zero", _RATE_HINT)
    return number * _SECOND / period


def format_rate(rate: float | None) -> str:
    """Write a rate given in starts a second.

    >>> format_rate(10.0), format_rate(0.1), format_rate(None)
    ('10/s', '6/m', '-')
    """
    if rate is None:
        return "-"
    for factor, unit in ((1, "s"), (60, "m"), (3600, "h"), (86400, "d")):
        if rate * factor >= 1:
            return f"{rate * factor:.6g}/{unit}"
    return f"{rate * 86400:.6g}/d"


def parse_time(
    text: str,
    now_us: int,
    tz: tzinfo | None = None,
    *,
    past: bool = False,
    option: str = "time",
) -> int:
    """Read an instant and give it in µs UTC.

    Parameters
    ----------
    text:
        ISO 8601, with an offset or local; or local ``HH:MM`` or ``HH:MM:SS``:
        the next such moment after ``now_us``. A wall time that the clocks skip
        in spring is as long after midnight as it would have been (02:30 becomes
        03:30); one that comes twice in autumn is the first that fits.
    now_us:
        The present instant in µs.
    tz:
        The zone of local times; default this machine's.
    past:
        Look back: ``HH:MM`` is the last such moment, and a duration such as
        ``2h`` is that long ago.

    Raises
    ------
    UsageError
        When it is no time.

    >>> from datetime import timezone
    >>> parse_time("1970-01-01T00:01:00Z", 0)
    60000000
    >>> parse_time("00:02", 180_000_000, timezone.utc) // 1_000_000 - 86400
    120
    """
    from datetime import date, datetime, time

    body = text.strip()
    try:
        if body[2:3] == ":" and "+" not in body and "-" not in body and not body.endswith(("Z", "z")):
            return _nearest_moment(time.fromisoformat(body), now_us, tz, past=past)
        if len(body) <= 10 and body.count("-") == 2:
            return _instant(datetime.combine(date.fromisoformat(body), time()), tz)
        # Every digit is an instant's; a bare number would be read as a date of the basic format.
        if body.isdigit():
            raise ValueError(body)
        return _instant(datetime.fromisoformat(body), tz)
    except (ValueError, OverflowError):
        if past:
            try:
                return now_us - parse_duration(body)
            except ValueError:
                pass
        raise UsageError(f"{option}: {text!r} is not a time", _PAST_HINT if past else _TIME_HINT) from None


def _nearest_moment(clock: object, now_us: int, tz: tzinfo | None, *, past: bool) -> int:
    """Find the moment next to now at which local clocks show this time."""
    from datetime import datetime, time, timedelta

    assert isinstance(clock, time)
    today = _local(now_us, tz).date()
    found: list[int] = []
    for days in (-2, -1, 0, 1, 2):
        wall = datetime.combine(today + timedelta(days=days), clock.replace(tzinfo=None))
        for fold in (0, 1):
            at = _instant(wall.replace(fold=fold), tz)
            shown = _local(at, tz).replace(tzinfo=None, fold=0)
            if shown == wall or fold == 0:
                found.append(at)
    if past:
        return max(at for at in found if at <= now_us)
    return min(at for at in found if at > now_us)


def _instant(moment: datetime, tz: tzinfo | None) -> int:
    """Give the instant of a date and time; one without offset is local."""
    from datetime import UTC, datetime, timedelta

    if moment.tzinfo is None:
        moment = moment.astimezone() if tz is None else moment.replace(tzinfo=tz)
    since: int = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return since


def _local(us: int, tz: tzinfo | None) -> datetime:
    """Give what local clocks show at an instant."""
    from datetime import UTC, datetime, timedelta

    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).astimezone(tz)


def format_time(us: int, tz: tzinfo | None = None) -> str:
    """Write an instant as ISO 8601 with its offset, local unless ``tz`` is given.

    >>> from datetime import timezone
    >>> format_time(90_500_000, timezone.utc)
    '1970-01-01T00:01:30.500000+00:00'
    """
    return _local(us, tz).isoformat()
