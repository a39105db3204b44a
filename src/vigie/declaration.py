"""From the words of a schedule to what the agent is asked to keep: one table for file, command line and Python.

A table has the keys of ``[schedule.NAME]`` in ``vigie.toml``: what to run, when, and how. The
command line and the library build the same table, so that all three mean the same and
``schedule edit`` can change one word of it. Its surroundings are those of a declared task: little
of the environment of whoever adds it, and the directory of the file, or where ``add`` was typed.
"""

from __future__ import annotations

import difflib
import time
from typing import TYPE_CHECKING, Any

from vigie import environment, zones
from vigie.errors import UsageError
from vigie.filemark import FILE_MARK, shell_line
from vigie.policies import FIELDS as POLICIES
from vigie.policies import Policy, parse_policy
from vigie.submission import Options, Submission, check_name, command, function, shell, what
from vigie.triggers.occasions import OnFile
from vigie.triggers.when import KEYS as TRIGGERS
from vigie.triggers.when import When, parse_when

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["JOB_KEYS", "WHAT_KEYS", "Scheduled", "near", "options", "read_when", "schedule", "task"]

#: What holds for all triggers of a table.
LIMITS = ("from", "until", "except", "timezone", "repeat")
#: What to run: one of these, or ``task``.
WHAT_KEYS = ("run", "shell", "script", "python")
#: How to run it: options of a submission that a declared task can have.
JOB_KEYS = (
    "args", "interpreter", "cwd", "env", "env_file", "fresh", "timeout", "retries", "backoff", "grace", "max_output",
    "on_lost", "priority", "queue", "tags", "concurrency",
)  # fmt: skip


class Scheduled:
    """A schedule ready to be sent.

    Attributes
    ----------
    name, table:
        As given.
    when:
        Its triggers.
    submission:
        What each firing runs; None: what it has run so far.
    policy:
        What else holds.
    """

    def __init__(
        self, name: str, table: dict[str, Any], when: When, submission: Submission | None, policy: Policy
    ) -> None:
        self.name = name
        self.table = table
        self.when = when
        self.submission = submission
        self.policy = policy

    def request(self, *, owner: str | None = None, replace: bool = False) -> tuple[dict[str, Any], list[bytes]]:
        """Give the fields of a ``schedule_set`` request, and its blobs."""
        wanted = self.submission
        fields: dict[str, Any] = {
            "name": self.name,
            "spec": self.table,
            "triggers": self.when.to_json(),
            "policy": {key: self.table[key] for key in POLICIES if self.table.get(key) is not None},
        }
        if wanted is not None:
            fields |= {"task": wanted.task, "context": wanted.context, "job": wanted.job, **wanted.fields}
        if owner is not None:
            fields["owner"] = owner
        if replace:
            fields["replace"] = True
        return fields, [] if wanted is None else wanted.blobs


def schedule(
    name: str,
    table: Mapping[str, Any],
    *,
    now: int | None = None,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    base: str | None = None,
    built: Callable[[Options], Submission] | None = None,
    triggers: When | None = None,
    keep: bool = False,
    when_base: str | None = None,
) -> Scheduled:
    """Read the table of a schedule.

    Parameters
    ----------
    name:
        Its name.
    table:
        What to run, when, and how; with the keys of ``[schedule.NAME]``.
    now:
        The present instant (µs UTC), from which intervals count.
    tasks:
        The tables of declared tasks, for ``task = "…"``.
    base:
        The directory in which it runs and from which paths are meant; default the current one.
    built:
        Makes the submission where no words can say it: a Python function's.
    triggers:
        When, where that has been read already.
    keep:
        It goes on running what it has run so far.
    when_base:
        The directory from which patterns and calendars are meant, if not ``base``.

    Raises
    ------
    UsageError
        When a key is unknown, or a value makes no sense.
    """
    check_name(name, "schedule")
    given = {key: value for key, value in table.items() if value is not None}
    known = (*TRIGGERS, *POLICIES, *JOB_KEYS, *WHAT_KEYS, "task")
    for key in given:
        if key not in known:
            raise UsageError(f"schedule {name} has no key {key!r}", near(key, known))
    when = triggers or read_when(
        {key: given[key] for key in TRIGGERS if key in given}, now=now, base=when_base or base, seed=name
    )
    if triggers is not None:
        given["when"] = [reading.value for reading in triggers.readings]
    policy = parse_policy({key: given[key] for key in POLICIES if key in given})
    own = {key: given[key] for key in (*JOB_KEYS, *WHAT_KEYS) if key in given}
    submission: Submission | None
    if keep:
        submission = None
    elif built is not None:
        submission = built(options(own, base))
    elif "task" in given:
        found = (tasks or {}).get(str(given["task"]))
        if found is None:
            names = ", ".join(sorted(tasks or {})) or "none"
            raise UsageError(f"schedule {name}: no task {given['task']!r} is declared; there are: {names}")
        submission = task({**found, **own}, base=base)
    else:
        submission = task(own, base=base, of=f"schedule {name}")
    if submission is not None and any(isinstance(each, OnFile) for each in when.occasions):
        _no_file_in_a_line(name, submission.task.get("argv") or [])
    return Scheduled(name, dict(given), when, submission, policy)


def _no_file_in_a_line(name: str, argv: list[str]) -> None:
    """Refuse a shell's line with the mark of a file: what the path says would be run."""
    line = shell_line(argv)
    if line < len(argv) and FILE_MARK in argv[line]:
        raise UsageError(
            f"schedule {name}: {FILE_MARK} in a shell's line would be read by the shell", 'write "$VIGIE_FILE"'
        )


def read_when(value: Any, *, now: int | None = None, base: str | None = None, seed: str | None = None) -> When:
    """Read what says when, as a person or a program of this machine means it.

    Parameters
    ----------
    value:
        A phrase, a cron line, a table of triggers, or a list of these.
    now:
        From when intervals count (µs UTC); default now.
    base:
        The directory from which patterns and calendars are meant; default the current one.
    seed:
        What ``H`` in cron lines depends on: the schedule's name.

    Raises
    ------
    UsageError
        When it cannot be read, or never comes.
    """
    import os

    def path(pattern: str) -> str:
        return os.path.normpath(os.path.join(base or environment.current_directory(), os.path.expanduser(pattern)))

    def read(name: str) -> str:
        try:
            with open(path(name), encoding="utf-8-sig") as file:
                return file.read()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise UsageError(
                f"except: cannot read {name}: {why}", "an .ics file, or dates such as 2026-12-25"
            ) from None

    instant = time.time_ns() // 1000 if now is None else now
    if isinstance(value, dict) and isinstance(value.get("when"), (list, tuple)):
        value = _spread(value)
    return parse_when(value, zones.load(None), instant, zones=zones.load, read=read, path=path, seed=seed)


def _spread(table: dict[str, Any]) -> Any:
    """Give tables that stand among phrases a place of their own: limits and zone hold for each of them."""
    tables = [each for each in table["when"] if isinstance(each, dict)]
    if not tables:
        return table
    texts = [each for each in table["when"] if not isinstance(each, dict)]
    limits = {key: table[key] for key in LIMITS if key in table}
    plain = {**table, "when": texts} if texts else {key: value for key, value in table.items() if key != "when"}
    return [*([plain] if plain.keys() - limits.keys() else []), *({**limits, **each} for each in tables)]


def task(table: Mapping[str, Any], *, base: str | None = None, of: str = "a task") -> Submission:
    """Read the table of a task: what to run and how.

    Raises
    ------
    UsageError
        When it says nothing to run, or two things; or a value makes no sense.
    """
    given = options(table, base)
    ways = [key for key in WHAT_KEYS if table.get(key)]
    if len(ways) != 1:
        said = f"says {' and '.join(ways)}" if ways else "says nothing to run"
        raise UsageError(f"{of} {said}: give one of {', '.join(WHAT_KEYS)}")
    way, value = ways[0], table[ways[0]]
    if way == "run":
        return command([str(word) for word in ([value] if isinstance(value, str) else value)], given)
    if way == "shell":
        return shell(str(value), given)
    if way == "script":
        words = [str(value)] if isinstance(value, str) else [str(word) for word in value]
        return what(words, given)
    import json

    return function(str(value), given, json.dumps(table["args"]) if "args" in table else None)


def options(table: Mapping[str, Any], base: str | None) -> Options:
    """Give the options that a table means, in the surroundings of a declared task."""
    given = {key: table[key] for key in JOB_KEYS if key in table and key not in ("args", "interpreter")}
    if isinstance(given.get("env_file"), str):
        given["env_file"] = [given["env_file"]]
    if isinstance(given.get("tags"), str):
        given["tags"] = [given["tags"]]
    env = given.get("env") or ()
    if not hasattr(env, "items"):
        given["env"] = [item for item in env if "=" in item]
    if base is not None:
        import os

        given["cwd"] = os.path.join(base, os.path.expanduser(given.get("cwd", "")))
        given["env_file"] = [os.path.join(base, os.path.expanduser(path)) for path in given.get("env_file", ())]
    return Options(python=table.get("interpreter"), surroundings=environment.declared(env), **given)


def near(key: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(key, known, 3)
    return f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(known)}"
