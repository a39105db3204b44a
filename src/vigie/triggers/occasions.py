"""What happens at no time that is known: the machine starts, a file comes, a job fails, nothing goes on.

These are values too, with a text that reads back as the same value::

    at boot
    at login
    on file PATTERN [created | changed | settled [for 2s]]
    on job [NAME] [tag TAG] [schedule NAME] completed|failed|stopped|lost|ended
    on record [NAME] [tag TAG] [schedule NAME] [level LEVEL] [matching TEXT]
    on idle 10m [load 0.5]

Names of jobs and files are shell patterns; one with spaces, or that reads as one
of the words above, stands in double quotes. What observes is elsewhere; these say
what is wanted, and whether something that was observed is it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from vigie.errors import ExpressionError
from vigie.triggers.days import listed
from vigie.triggers.interval import spell
from vigie.triggers.words import Words, quoted
from vigie.values import format_duration

__all__ = [
    "ENDS",
    "KEYWORDS",
    "LEVELS",
    "AtBoot",
    "AtLogin",
    "Occasion",
    "OnEvent",
    "OnFile",
    "OnIdle",
    "OnJob",
    "OnRecord",
    "parse_occasion",
]

#: How a job ends; ``ended`` stands for all of them.
ENDS = ("completed", "failed", "stopped", "lost")
#: From the least to the most.
LEVELS = ("debug", "info", "warning", "error", "critical")
#: How long a file must have stayed the same to be settled, µs.
SETTLE = 2_000_000
#: Below which load average (of one minute, of the whole machine) it is idle.
IDLE_LOAD = 0.5

_WHAT = ("created", "changed", "settled")
_WHOSE = ("tag", "schedule")
#: A job that is called like one of these stands in quotes.
KEYWORDS = frozenset((*_WHOSE, *ENDS, "ended", "level", "matching"))


@dataclass(frozen=True, slots=True)
class AtBoot:
    """Comes once after the machine started."""

    @property
    def text(self) -> str:
        return "at boot"

    def describe(self) -> str:
        return "once after the machine has started"


@dataclass(frozen=True, slots=True)
class AtLogin:
    """Comes at the user's first session since the machine started or since the last one ended."""

    @property
    def text(self) -> str:
        return "at login"

    def describe(self) -> str:
        return "at the first session of the user"


@dataclass(frozen=True, slots=True)
class OnFile:
    """Comes for each file that appears, changes, or has come to rest.

    Parameters
    ----------
    pattern:
        A path, in which ``*``, ``?``, ``[…]`` and ``**`` are a shell's.
    what:
        ``created``: it was not there before. ``changed``: that, or its size or time
        of change is another. ``settled`` (the default): changed, and then the same
        for ``settle``, so that no file is taken while it is still being written.
    settle:
        How long, in µs; 0 with the other two.
    """

    pattern: str
    what: Literal["created", "changed", "settled"] = "settled"
    settle: int = SETTLE

    @property
    def text(self) -> str:
        rest = f" for {format_duration(self.settle, exact=True)}" if self.what == "settled" else ""
        return f"on file {quoted(self.pattern)} {self.what}{rest}"

    def describe(self) -> str:
        how = {"created": "is new", "changed": "is new or changed"}
        return f"when a file {self.pattern} {how.get(self.what) or f'has not changed for {spell(self.settle)}'}"


@dataclass(frozen=True, slots=True)
class OnJob:
    """Comes when a job ends in one of some ways.

    Parameters
    ----------
    name:
        A shell pattern of job names.
    states:
        Some of ``ENDS``, in their order.
    tag, schedule:
        The job has this tag, and is a firing of this schedule; None for any.
    """

    name: str = "*"
    states: tuple[str, ...] = ENDS
    tag: str | None = None
    schedule: str | None = None

    @property
    def text(self) -> str:
        return f"on job {_whose(self.name, self.tag, self.schedule)} {_states(self.states)}"

    def describe(self) -> str:
        how = "ends" if self.states == ENDS else f"ends as {' or '.join(self.states)}"
        return f"when {_who('a job', self.name, self.tag, self.schedule)} {how}"

    def matches(self, name: str | None, state: str, tags: Collection[str] = (), schedule: str | None = None) -> bool:
        """Tell whether a job that ended is meant.

        >>> OnJob("backup-*", ("failed",)).matches("backup-home", "failed")
        True
        """
        return state in self.states and _meant(self, name, tags, schedule)


@dataclass(frozen=True, slots=True)
class OnRecord:
    """Comes when a job writes a record that matches.

    Parameters
    ----------
    name, tag, schedule:
        Whose record, as in :class:`OnJob`.
    level:
        At least this one of ``LEVELS``; None for any, also for plain output.
    matching:
        The record's text contains this; None for any.
    """

    name: str = "*"
    tag: str | None = None
    schedule: str | None = None
    level: str | None = None
    matching: str | None = None

    @property
    def text(self) -> str:
        level = f" level {self.level}" if self.level else ""
        matching = f" matching {quoted(self.matching)}" if self.matching is not None else ""
        return f"on record {_whose(self.name, self.tag, self.schedule)}{level}{matching}"

    def describe(self) -> str:
        level = f" of level {self.level} or above" if self.level else ""
        matching = f' that contains "{self.matching}"' if self.matching is not None else ""
        return f"when {_who('a job', self.name, self.tag, self.schedule)} writes a record{level}{matching}"

    def concerns(self, name: str | None, tags: Collection[str] = (), schedule: str | None = None) -> bool:
        """Tell whether a job's records are meant at all."""
        return _meant(self, name, tags, schedule)

    def matches(
        self,
        name: str | None,
        stream: str,
        level: str | None,
        text: str,
        tags: Collection[str] = (),
        schedule: str | None = None,
    ) -> bool:
        """Tell whether a record is meant; one without a level has that of its stream, if the stream is one.

        >>> OnRecord("*", level="warning").matches("import", "log", "error", "disk full")
        True
        """
        if self.level is not None:
            found = level if level in LEVELS else stream
            if found not in LEVELS or LEVELS.index(found) < LEVELS.index(self.level):
                return False
        return (self.matching is None or self.matching in text) and _meant(self, name, tags, schedule)


@dataclass(frozen=True, slots=True)
class OnIdle:
    """Comes when the machine has been idle for a while; again only after it was busy.

    Parameters
    ----------
    lasting:
        For how long, in µs.
    load:
        The load average of one minute (of all cores together) stayed under this.
    """

    lasting: int
    load: float = IDLE_LOAD

    @property
    def text(self) -> str:
        return f"on idle {format_duration(self.lasting, exact=True)} load {self.load!r}"

    def describe(self) -> str:
        return f"when the load has been under {self.load:g} for {spell(self.lasting)}"


OnEvent = OnJob | OnRecord
Occasion = AtBoot | AtLogin | OnFile | OnJob | OnRecord | OnIdle


def parse_occasion(words: Words, path: Callable[[str], str]) -> Occasion:
    """Read what follows ``on``, if it is no date.

    Parameters
    ----------
    words:
        Stand behind ``on``, at ``file``, ``job``, ``record`` or ``idle``.
    path:
        Gives the absolute form of a file's pattern.

    Raises
    ------
    ExpressionError
        With the word at which reading stopped.

    >>> parse_occasion(Words("file /srv/in/*.csv"), str).describe()
    'when a file /srv/in/*.csv has not changed for 2 seconds'
    """
    kind = words.take()
    if kind == "file":
        found: Occasion = _file(words, path)
    elif kind == "job":
        found = _job(words)
    elif kind == "record":
        found = _record(words)
    else:
        found = _idle(words)
    words.end()
    return found


def _file(words: Words, path: Callable[[str], str]) -> OnFile:
    at = words.at
    pattern = words.raw("file", "a path such as /srv/in/*.csv")
    if not pattern:
        raise ExpressionError("a file has no name", words.text, at=at, expected="a path such as /srv/in/*.csv")
    what = words.peek() or "settled"
    if what not in _WHAT:
        words.fail("word", "created, changed or settled; a path with spaces stands in double quotes", _WHAT)
    words.take()
    settle = SETTLE if what == "settled" else 0
    if words.peek() == "for":
        if what != "settled":
            words.fail("word", f"nothing more: only settled takes a time, {what} comes at once")
        words.take()
        settle = words.duration()
    return OnFile(path(pattern), what, settle)  # type: ignore[arg-type]


def _job(words: Words) -> OnJob:
    name, tag, schedule = _read_whose(words)
    states: set[str] = set()
    while True:
        word = words.peek()
        if word not in (*ENDS, "ended"):
            words.fail("end of a job", "completed, failed, stopped, lost or ended", (*ENDS, "ended"))
        states.update(ENDS if word == "ended" else (word,))
        words.take()
        if not (words.another() or words.skip("or")):
            return OnJob(name, tuple(each for each in ENDS if each in states), tag, schedule)


def _record(words: Words) -> OnRecord:
    name, tag, schedule = _read_whose(words)
    level = None
    if words.skip("level"):
        level = words.peek()
        if level not in LEVELS:
            words.fail("level", listed(LEVELS).replace(" and ", " or "), LEVELS)
        words.take()
    if not words.skip("matching"):
        words.end("level, matching, or nothing more")
        return OnRecord(name, tag, schedule, level)
    in_quotes = words.peek().startswith('"')
    matching = words.raw("text", "the text to look for") if in_quotes else words.rest()
    if not matching:
        words.fail("text", "the text to look for")
    return OnRecord(name, tag, schedule, level, matching)


def _idle(words: Words) -> OnIdle:
    lasting = words.duration()
    load = IDLE_LOAD
    if words.skip("load"):
        at = words.at
        word = words.raw("load", "a number above zero, such as 0.5")
        try:
            load = float(word)
        except ValueError:
            load = 0.0
        if not 0 < load < float("inf"):
            raise ExpressionError(
                f'load "{word}" is no number above zero', words.text, at=at, expected="a number such as 0.5"
            )
    return OnIdle(lasting, load)


def _read_whose(words: Words) -> tuple[str, str | None, str | None]:
    name = "*"
    if words.peek() and words.peek() not in KEYWORDS:
        name = words.raw("job", "a job's name") or "*"
    tag = words.raw("tag", "a job's tag") if words.skip("tag") else None
    schedule = words.raw("schedule", "a schedule's name") if words.skip("schedule") else None
    return name, tag, schedule


def _whose(name: str, tag: str | None, schedule: str | None) -> str:
    """Write whose job it is as it is read."""
    parts = [quoted(name, KEYWORDS)]
    parts += [f"{key} {quoted(value)}" for key, value in zip(_WHOSE, (tag, schedule), strict=True) if value is not None]
    return " ".join(parts)


def _who(what: str, name: str, tag: str | None, schedule: str | None) -> str:
    """Say whose job it is."""
    called = f"{what} {name}" if name != "*" else what
    return f"{called}{f' tagged {tag}' if tag else ''}{f' of schedule {schedule}' if schedule else ''}"


def _states(states: tuple[str, ...]) -> str:
    return "ended" if states == ENDS else ",".join(states)


def _meant(occasion: OnEvent, name: str | None, tags: Collection[str], schedule: str | None) -> bool:
    return (
        (occasion.tag is None or occasion.tag in tags)
        and (occasion.schedule is None or occasion.schedule == schedule)
        and (occasion.name == "*" or (name is not None and fnmatchcase(name, occasion.name)))
    )
