"""What a person is told when a filter matches nothing: which part of it is to blame, and what there is."""

from __future__ import annotations

import shlex
from fnmatch import fnmatchcase

from vigie import view
from vigie.selection import Filter
from vigie.terminal import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from vigie.cli.context import Context
    from vigie.store.reader import Reader

__all__ = ["say_nothing"]

#: How many of the newest jobs say which names and tags there are, and how many of these are told.
_LOOKED_AT = 500
_TOLD = 8


def say_nothing(chosen: Filter, out: Context, implied: Sequence[str] = ()) -> None:
    """Say that a filter matches no job, why, and what to do.

    Parameters
    ----------
    chosen:
        The filter.
    out:
        Where to; messages go to stderr.
    implied:
        The states that the verb chose by itself. A filter of these alone (``--all``)
        is no mistake, and only a person is told.
    """
    states = "" if not implied else _either(implied)
    asked = Filter(**{key: getattr(chosen, key) for key in Filter.__slots__} | ({"states": ()} if implied else {}))
    if not asked.about_jobs and asked.since is None:
        if out.is_person:
            out.say(f"no job is {states}" if states else "no jobs yet · vigie start -- sleep 60")
        return
    message, hint = _blame(asked, states, out.reader())
    out.say(f"{message}\n  {hint}")


def _blame(asked: Filter, states: str, reader: Reader) -> tuple[str, str]:
    """Find the first part of the filter that no job has, and say what jobs have instead."""
    newest = reader.jobs(Filter(every=True), _LOOKED_AT)
    if not newest:
        return "there is no job yet", "vigie start -- sleep 60"
    if asked.name is not None and not _some(Filter(name=asked.name, every=True), reader):
        names = [row["name"] for row in newest if row["name"]]
        return f"no job is called {clean(asked.name)}", _instead(asked.name, names, "--name", "names")
    for tag in asked.tags:
        if not _some(Filter(tags=(tag,), every=True), reader):
            tags = [tag for row in newest for tag in row["tags"]]
            return f"no job has the tag {clean(tag)}", _instead(tag, tags, "--tag", "tags")
    if asked.queue is not None and not _some(Filter(queue=asked.queue, every=True), reader):
        queues = [row["name"] for row in reader.queues()]
        return f"no job is in the queue {clean(asked.queue)}", _instead(asked.queue, queues, "--queue", "queues")
    if states and (count := len(reader.jobs(asked, _LOOKED_AT))):
        jobs = "the job" if count == 1 else f"of the {count} jobs"
        none = "that matches is not" if count == 1 else "that match none is"
        return f"{jobs} {none} {states}", f"vigie jobs {_options(asked)}"
    alone = "vigie jobs" if len(_words(asked)) == 2 else "leave one of them out"
    return f"no job matches {_options(asked)}", alone


def _some(one: Filter, reader: Reader) -> bool:
    return bool(reader.jobs(one, 1))


def _instead(word: str, known: Sequence[str], option: str, what: str) -> str:
    """Give near words; else those that there are."""
    from vigie.cli.parser import meant

    there = list(dict.fromkeys(known))
    near = meant(word.strip("*"), there, 3) or [name for name in there if fnmatchcase(name, f"*{word}*")][:3]
    if near:
        return f"did you mean {' or '.join(f'{option} {shlex.quote(clean(name))}' for name in near)}?"
    if not there:
        return "vigie jobs"
    more = ", …" if len(there) > _TOLD else ""
    return f"{what}: {', '.join(clean(name) for name in there[:_TOLD])}{more}"


def _options(asked: Filter) -> str:
    """Write a filter as it is typed."""
    return clean(shlex.join(_words(asked)))


def _words(asked: Filter) -> list[str]:
    words: list[str] = []
    if asked.states:
        words += ["--state", ",".join(asked.states)]
    for option, value in (("--name", asked.name), ("--queue", asked.queue)):
        words += [] if value is None else [option, value]
    for tag in asked.tags:
        words += ["--tag", tag]
    if asked.since is not None:
        words += ["--since", (view.instant(asked.since) or "")[:19]]
    return words


def _either(states: Sequence[str]) -> str:
    return states[0] if len(states) == 1 else f"{', '.join(states[:-1])} or {states[-1]}"
