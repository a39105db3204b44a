"""What a schedule does besides its triggers: overlap, catch-up, jitter, conditions, an end.

A policy is what people typed, checked and turned into numbers. It is stored as JSON
of what differs from the defaults, in the words of ``vigie.toml``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vigie.errors import UsageError
from vigie.triggers.wall import DAY, HOUR, MINUTE, Zone, weekday
from vigie.values import format_duration, format_size, parse_duration, parse_size

__all__ = ["DEFAULT", "FIELDS", "OVERLAPS", "Blackout", "Condition", "Policy", "parse_policy"]

OVERLAPS = ("skip", "queue_one", "queue_all", "parallel", "replace")
CATCH_UPS = ("none", "latest", "all")
#: How many wait at most for "queue_all", and are caught up at most for "all", unless a number is given.
MOST = 100
#: Instants among which one outside all blackouts is looked for.
SEARCHED = 10_000
#: Records of a schedule that are kept.
HISTORY = 100
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CONDITIONS = ("power", "network", "idle", "load", "disk", "command")


@dataclass(frozen=True, slots=True)
class Blackout:
    """A window on the wall in which nothing starts: on some days of the week, from one time to another.

    >>> Blackout.parse("mon-fri 09:00-17:00").covers(9 * HOUR), Blackout.parse("22:00-06:00").covers(5 * HOUR)
    (True, True)
    """

    text: str
    days: frozenset[int]
    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Blackout:
        """Read ``[DAYS] [HH:MM-HH:MM]``: ``sat,sun``, ``22:00-06:00``, ``mon-fri 09:00-17:00``.

        Raises
        ------
        UsageError
            When it is none.
        """
        hint = "write it as 22:00-06:00, sat,sun or mon-fri 09:00-17:00"
        found = re.fullmatch(r"\s*([a-z][a-z,\- ]*?)?\s*(?:(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d))?\s*", text.lower())
        if found is None or not text.strip():
            raise UsageError(f"blackout: {text!r} is no window", hint)
        names, *clock = found.groups()
        days = frozenset(range(7)) if names is None else frozenset(_days(names, text, hint))
        if clock[0] is None:
            return cls(text.strip(), days, 0, DAY)
        numbers = [int(number) for number in clock]
        start, end = numbers[0] * HOUR + numbers[1] * MINUTE, numbers[2] * HOUR + numbers[3] * MINUTE
        if max(start, end) > DAY or max(numbers[1], numbers[3]) > 59 or start == end:
            raise UsageError(f"blackout: {text!r} is no window of a day", hint)
        return cls(text.strip(), days, start, end)

    def covers(self, wall: int) -> bool:
        """Tell whether a wall time lies in it; one over midnight belongs to the day on which it begins."""
        day, time = divmod(wall, DAY)
        if self.start < self.end:
            return self.start <= time < self.end and weekday(day) in self.days
        if time >= self.start:
            return weekday(day) in self.days
        return time < self.end and weekday(day - 1) in self.days


def _days(names: str, text: str, hint: str) -> list[int]:
    found: list[int] = []
    for part in names.replace(" ", "").split(","):
        ends = [each[:3] for each in part.split("-")]
        if len(ends) > 2 or any(each not in _DAYS for each in ends):
            raise UsageError(f"blackout: {part!r} in {text!r} is no day of the week", hint)
        first, last = _DAYS.index(ends[0]), _DAYS.index(ends[-1])
        found += [(first + i) % 7 for i in range((last - first) % 7 + 1)]
    return found


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that must hold when a run is to start.

    ``kind`` and ``value``: power (None), network (None), idle (µs without input), load (below),
    disk ((path, bytes free)), command (words).
    """

    kind: str
    value: Any = None

    def describe(self) -> str:
        """Say it in words.

        >>> Condition("disk", ("/srv", 10 << 30)).describe()
        'at least 10 GiB are free on /srv'
        """
        match self.kind:
            case "power":
                return "the machine runs on mains power"
            case "network":
                return "a network is there"
            case "idle":
                return f"nobody has used the machine for {format_duration(self.value)}"
            case "load":
                return f"the load is below {self.value:g}"
            case "disk":
                return f"at least {format_size(self.value[1])} are free on {self.value[0]}"
            case _:
                return f"{' '.join(self.value)} succeeds"


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it; durations in µs.

    Attributes
    ----------
    overlap, overlap_limit:
        What to do while an earlier run is still open; how many may wait (``queue_all``).
    catch_up, catch_up_limit:
        Which of the instants missed in a downtime run after it; how many (``all``).
    lateness:
        The longest lateness of a run. None: the shorter of one period and a day.
    jitter, random:
        The longest delay; the same for each instant (by the name), or another each time.
    conditions, patience:
        What must hold, and how long a firing waits for it.
    blackouts:
        When nothing starts.
    delete_after:
        The schedule goes so long after nothing more comes of it. None: it stays.
    max_runs:
        So many, and it is done.
    history:
        Records that are kept.
    """

    overlap: str = "skip"
    overlap_limit: int = MOST
    catch_up: str = "latest"
    catch_up_limit: int = MOST
    lateness: int | None = None
    jitter: int = 0
    random: bool = False
    conditions: tuple[Condition, ...] = ()
    patience: int = HOUR
    blackouts: tuple[Blackout, ...] = ()
    delete_after: int | None = None
    max_runs: int | None = None
    history: int = HISTORY

    def free(self, instants: Iterator[int], zone: Zone, count: int) -> list[int]:
        """Give the first so many of some instants (µs UTC) that lie in no blackout; of those to be found soon."""
        if self.blackouts:
            seen = islice(instants, SEARCHED)
            instants = (each for each in seen if not any(window.covers(zone.wall(each)) for window in self.blackouts))
        return list(islice(instants, count))

    def describe(self) -> list[str]:
        """Say what differs from the defaults, a sentence each."""
        said: list[str] = []
        if self.overlap != "skip":
            limit = f" (at most {self.overlap_limit})" if self.overlap == "queue_all" else ""
            said.append(f"overlap: {self.overlap}{limit}")
        if self.catch_up != "latest":
            said.append(f"catch-up: {self.catch_up}" + (f" (at most {self.catch_up_limit})" * (self.catch_up == "all")))
        if self.lateness is not None:
            said.append(f"not later than {format_duration(self.lateness)}")
        if self.jitter:
            said.append(f"jitter: up to {format_duration(self.jitter)}" + ", another each time" * self.random)
        said += [f"only if {each.describe()}" for each in self.conditions]
        if self.conditions:
            said.append(f"waits {format_duration(self.patience)} for that")
        said += [f"not in {each.text}" for each in self.blackouts]
        if self.max_runs is not None:
            said.append(f"at most {self.max_runs} runs")
        if self.delete_after is not None:
            said.append(f"removed {format_duration(self.delete_after)} after its end")
        return said


DEFAULT = Policy()


def _count(option: str) -> Any:
    def read(value: Any) -> int:
        text = str(value)
        if isinstance(value, bool) or not (text.isascii() and text.isdigit()) or not 0 < int(text) < 1 << 31:
            raise UsageError(f"{option}: {value!r} is not a number above zero", f"{option} = 10")
        return int(text)

    return read


def _word(option: str, words: tuple[str, ...], limited: str) -> Any:
    """Give the reader of a word that may carry a number: ``queue-all=5``."""

    def read(value: Any) -> dict[str, Any]:
        word, equals, number = str(value).partition("=")
        word = word.strip().lower().replace("-", "_")
        if word not in words or (equals and word != limited):
            shown = ", ".join(each.replace("_", "-") + ("[=N]" if each == limited else "") for each in words)
            import difflib

            close = difflib.get_close_matches(word, words, 1)
            hint = f"did you mean {close[0].replace('_', '-')}?" if close else "vigie help policy"
            raise UsageError(f"{option}: {value!r} is none of {shown}", hint)
        found: dict[str, Any] = {option.replace("-", "_"): word}
        if equals:
            found[option.replace("-", "_") + "_limit"] = _count(option)(number.strip())
        return found

    return read


def _jitter(value: Any) -> dict[str, Any]:
    text = str(value) if not isinstance(value, dict) else f"{value.get('up_to')} {'random' * bool(value.get('random'))}"
    words = text.split()
    random = words[-1:] == ["random"]
    return {"jitter": parse_duration(" ".join(words[: len(words) - random]), "jitter"), "random": random}


def _condition(value: Any) -> Condition:
    """Read one: ``power``, ``load < 1.5``, ``disk /srv 10 GiB``, ``idle 10m``, ``command test -e /x``."""
    hint = "power, network, idle 10m, load < 1.5, disk /srv 10 GiB, or command CMD ARG…"
    if isinstance(value, dict):
        ((kind, given),) = value.items() if len(value) == 1 else ((None, None),)
        text = kind if given is True else f"{kind} {given}" if not isinstance(given, list) else None
        if kind == "command" and isinstance(given, list) and given and all(isinstance(word, str) for word in given):
            return Condition("command", tuple(given))
    else:
        text = str(value)
    kind, _, rest = (text or "").strip().partition(" ")
    rest = rest.strip().removeprefix("<").strip()
    try:
        match kind:
            case "power" | "network" if rest in ("", "mains"):
                return Condition(kind)
            case "idle":
                return Condition("idle", parse_duration(rest, "idle"))
            case "load":
                return Condition("load", _positive(rest))
            case "disk":
                path, _, size = rest.partition(" ")
                return Condition("disk", (path, parse_size(size, "disk")))
            case "command" if rest:
                import shlex

                return Condition("command", tuple(shlex.split(rest)))
    except (ValueError, TypeError) as error:
        raise UsageError(f"if: {value!r}: {getattr(error, 'message', error)}", hint) from None
    raise UsageError(f"if: {value!r} is no condition", hint)


def _lateness(value: Any) -> int:
    found = parse_duration(value, "lateness")
    if found < 1_000_000:
        raise UsageError(f"lateness: {value} is less than any start takes", "1s or more")
    return found


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise UsageError(f"{text!r} is no number") from None
    if not 0 < number < float("inf"):
        raise UsageError(f"{text} is not above zero")
    return number


def _each(read: Any) -> Any:
    return lambda value: tuple(read(each) for each in (value if isinstance(value, (list, tuple)) else [value]))


#: Words of the file (and, with dashes, of the command line) → what reads them.
FIELDS: dict[str, Any] = {
    "overlap": _word("overlap", OVERLAPS, "queue_all"),
    "catch_up": _word("catch-up", CATCH_UPS, "all"),
    "lateness": lambda value: {"lateness": _lateness(value)},
    "jitter": _jitter,
    "if": lambda value: {"conditions": _each(_condition)(value)},
    "if_wait": lambda value: {"patience": parse_duration(value, "if_wait")},
    "blackout": lambda value: {"blackouts": _each(lambda each: Blackout.parse(str(each)))(value)},
    "delete_after": lambda value: {"delete_after": parse_duration(value, "delete_after")},
    "max_runs": lambda value: {"max_runs": _count("max_runs")(value)},
    "history": lambda value: {"history": _count("history")(value)},
}


def parse_policy(given: dict[str, Any]) -> Policy:
    """Read the words of a policy, as the file and the command line have them.

    Raises
    ------
    UsageError
        When one makes no sense, is unknown, or two contradict each other.

    >>> parse_policy({"overlap": "queue-all=5", "jitter": "5m random"}).overlap_limit
    5
    """
    found: dict[str, Any] = {}
    for key, value in given.items():
        read = FIELDS.get(key)
        if read is None:
            raise UsageError(f"a schedule has no policy {key!r}", f"there are: {', '.join(FIELDS)}")
        if value is not None:
            found.update(read(value))
    policy = dataclasses.replace(DEFAULT, **found)
    if any(window.days == frozenset(range(7)) and window.end - window.start == DAY for window in policy.blackouts):
        raise UsageError("blackout: it covers every day from midnight to midnight: nothing would ever start")
    if policy.catch_up == "all" and policy.overlap == "skip":
        raise UsageError(
            "catch-up all with overlap skip: the first run caught up would make all others be skipped",
            "--overlap queue-all, or --catch-up latest",
        )
    return policy
