"""Time zones by name, from this machine's files or those of the package tzdata.

A zone is loaded once and kept, as it keeps what was looked up in it. Whoever plans
ahead notes the :func:`fingerprint` of a zone beside the plan: when the file was
changed since, :func:`forget` the zone, and plan anew what is in it.
"""

from __future__ import annotations

import os
import re
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, timedelta, timezone
from functools import cache

from vigie.digests import blake2b
from vigie.errors import ExpressionError
from vigie.triggers.wall import Zone

__all__ = ["fingerprint", "forget", "load", "local_name"]

_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{2}):?([0-5]\d)?", re.IGNORECASE)
#: Names under the zones' directories that are no zones: copies with leap seconds, files of settings, this machine's.
_NOT_ZONES = re.compile(r"(?:posix|right)/|posixrules$|localtime$|Factory$", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")

_known: dict[str, Zone] = {}


def load(name: str | None = None) -> Zone:
    """Give the zone of a name.

    Parameters
    ----------
    name:
        An IANA name in any case (``europe/paris``), ``UTC``, or a fixed offset of
        under a day (``+02:00``, ``-0330``, ``UTC+02``). None is this machine's:
        :func:`local_name`.

    Raises
    ------
    ExpressionError
        For an unknown one, naming near ones.

    >>> load("europe/paris").name, load("+0200").name
    ('Europe/Paris', '+02:00')
    """
    if name is None:
        name = local_name()
    found = _known.get(name)
    if found is None:
        found = _fixed(name) or _named(name)
        # Told apart by what they are called, equal by what they mean.
        found = _known[name] = _known.setdefault(found.name, found)
    return found


def forget(name: str) -> None:
    """Let the next :func:`load` of a zone read its file again; zones given out before stay as they are."""
    folded = name.strip().lower()
    for each in [key for key, zone in _known.items() if folded in (key.lower(), zone.name.lower())]:
        del _known[each]
    _every.cache_clear()


def fingerprint(zone: Zone) -> str:
    """Give a digest of the zone's file as it is now: it is another once the rules are.

    It is ``fixed`` for an offset and UTC, and ``gone`` when there is no such file any more.

    >>> len(fingerprint(load("Europe/Paris"))), fingerprint(load("+02:00"))
    (16, 'fixed')
    """
    if _fixed(zone.name) is not None:
        return "fixed"
    data = _data(zone.name)
    return "gone" if data is None else blake2b(data, digest_size=8).hexdigest()


def local_name(
    environ: Mapping[str, str] | None = None, localtime: str = "/etc/localtime", timezone_file: str = "/etc/timezone"
) -> str:
    """Give the name of this machine's zone.

    It is ``TZ`` if that names a zone; else what ``/etc/localtime`` points to, or, if
    that is a copy, a zone that has the same file, if possible the one that
    ``/etc/timezone`` says; else what this says; else ``UTC``. An empty ``TZ`` is
    UTC, as for the C library.

    >>> local_name({"TZ": ":Asia/Tokyo"}), local_name({"TZ": ""})
    ('Asia/Tokyo', 'UTC')
    """
    told = (os.environ if environ is None else environ).get("TZ")
    if told is not None:
        found = _valid(told.removeprefix(":")) if told else "UTC"
        if found:
            return found
    written = _from_file(timezone_file)
    return _from_link(localtime) or _from_copy(localtime, written) or written or "UTC"


def _named(name: str) -> Zone:
    """Load the zone of a file."""
    try:
        return _read(name)
    except LookupError:
        pass
    folded = name.strip().lower()
    for each in _every():
        if each.lower() == folded:
            return _read(each)
    near = _near(folded)
    raise ExpressionError(
        f'there is no time zone "{name}"', expected=f"{near}, UTC, or an offset such as +02:00"
    ) from None


def _read(name: str) -> Zone:
    """Read a zone's file under exactly this name."""
    if not _NAME.fullmatch(name) or _NOT_ZONES.match(name):
        raise LookupError(name)
    try:
        # Not the copy that Python keeps: the file may have changed since.
        return Zone(name, zoneinfo.ZoneInfo.no_cache(name))
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise LookupError(name) from None


def _fixed(name: str) -> Zone | None:
    """Make the zone of an offset; None for what is none."""
    if name.upper() in ("UTC", "Z"):
        return Zone("UTC", UTC)
    found = _OFFSET.fullmatch(name)
    if found is None or int(found[2]) > 23:
        return None
    minutes = int(found[2]) * 60 + int(found[3] or 0)
    sign = "-" if found[1] == "-" and minutes else "+"
    offset = timedelta(minutes=-minutes if sign == "-" else minutes)
    return Zone(f"{sign}{minutes // 60:02}:{minutes % 60:02}", timezone(offset))


@cache
def _every() -> tuple[str, ...]:
    """List the names of all zones. It takes 40 ms, and only a wrong name asks for it."""
    return tuple(sorted(each for each in zoneinfo.available_timezones() if not _NOT_ZONES.match(each)))


def _near(folded: str) -> str:
    """Name the zones that may have been meant: by the whole name, or by its last part, the city."""
    cities = _folded(_every(), lambda each: each.rpartition("/")[2])
    whole = _folded(_every(), lambda each: each)
    from difflib import get_close_matches

    found = [cities[each] for each in get_close_matches(folded.rpartition("/")[2], cities, 2, 0.75)]
    found += [whole[each] for each in get_close_matches(folded, whole, 2, 0.75)]
    return ", ".join(dict.fromkeys(found)) or "an IANA name such as Europe/Paris"


def _folded(names: Iterable[str], key: Callable[[str], str]) -> dict[str, str]:
    return {key(each).lower(): each for each in names}


def _valid(text: str) -> str | None:
    """Give the name of a zone, given itself or as the path of its file."""
    name = text.rpartition("/zoneinfo/")[2]
    for above in ("posix/", "right/"):
        name = name.removeprefix(above)
    try:
        name = load(name).name
    except ExpressionError:
        return None
    return "UTC" if name == "Etc/UTC" else name


def _from_link(path: str) -> str | None:
    """Follow a link to the zone that it names, and not to what that one is an alias of today."""
    for _ in range(8):
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            return None
        if "/zoneinfo/" in path:
            return _valid(os.path.normpath(path))
    return None


def _from_file(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return _valid(file.read(200).strip())
    except OSError:
        return None


def _from_copy(path: str, written: str | None) -> str | None:
    """Find the zone that has the same file."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return None
    if written is not None and _data(written) == data:
        return written
    same = [name for name in _every() if _data(name) == data]
    # Region/City is what people choose in a list; the others are old names.
    same.sort(key=lambda name: ("/" not in name or name.startswith("Etc/"), name))
    return _valid(same[0]) if same else None


def _data(name: str) -> bytes | None:
    """Read the file of a zone, where zoneinfo looks for it."""
    for directory in zoneinfo.TZPATH:
        try:
            with open(os.path.join(directory, name), "rb") as file:
                return file.read()
        except OSError:
            continue
    *packages, last = name.split("/")
    try:
        from importlib import resources  # loaded where the system has no zones of its own

        return resources.files(".".join(("tzdata.zoneinfo", *packages))).joinpath(last).read_bytes()
    except (OSError, ImportError):
        return None
