"""From tables that stand on their own to the rows that the agent keeps.

All that can be computed beforehand is computed here, by whoever applies a file, so
that the agent, for whom everybody waits, has nothing left to do but to write. Much of
it is shared by many schedules of a file and is made once: surroundings, options,
triggers, policies.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from vigie import declaration
from vigie.declaration import JOB_KEYS, WHAT_KEYS, task
from vigie.digests import blake2b
from vigie.errors import UsageError
from vigie.firing import delay
from vigie.making_rows import LABEL, Row, canonical, context_row, part, task_row
from vigie.making_when import Read, read
from vigie.manifest import Manifest, Table
from vigie.policies import FIELDS, Policy, parse_policy
from vigie.store.rows import digest
from vigie.submission import Options, Submission, command
from vigie.triggers.when import KEYS as TRIGGERS

__all__ = ["Maker", "Scheduled", "Standing", "trigger_part"]

#: Triggers, policies and surroundings that are kept: a file may have as many of each as schedules.
_KEPT = 50_000
#: Policies that make sense together alone.
_WITH = {"catch_up": ("overlap", "catch_up")}


class Standing(NamedTuple):
    """How a schedule that is there stands, as far as its next instant depends on that."""

    state: str = "active"
    planned: int = 0
    created: int = 0
    started: int | None = None
    ended: int | None = None
    next: int | None = None
    due: int | None = None
    runs: int = 0


class Scheduled(NamedTuple):
    """A schedule made: what the agent keeps of it.

    ``task`` and ``context`` are digests of rows that go before it; ``triggers`` and what
    follows from them are None where they stay as they are; ``delay`` is how long after its
    next instant it is due (µs).
    """

    name: str
    spec: str
    policy: str
    task: str
    context: str
    args: str | None
    encoding: str | None
    job: str
    queue: str | None
    delay: int
    triggers: str | None = None
    zones: str | None = None
    relative: int | None = None
    again: int | None = None
    occasions: int | None = None
    planned: int | None = None
    next: int | None = None


class Maker:
    """Makes rows of the tables of one file.

    Parameters
    ----------
    manifest:
        The file; what is wrong with a table is noted there.
    now:
        The present instant (µs UTC), from which intervals count.

    Attributes
    ----------
    tasks, contexts:
        Digest → row, of all that was made.
    """

    def __init__(self, manifest: Manifest, now: int) -> None:
        self.manifest = manifest
        self.now = now
        self.tasks: dict[str, Row] = {}
        self.contexts: dict[str, dict[str, Any]] = {}
        self._shapes: dict[str, _Shape] = {}
        self._works: dict[str, tuple[_Shape, str, str | None]] = {}
        self._whens: dict[str, Read] = {}
        self._policies: dict[str, tuple[Policy, str]] = {}

    # --- tasks ----------------------------------------------------------------

    def task(self, name: str, table: Table) -> dict[str, Any] | None:
        """Make what is kept of a declared task: all of its request; None where it is wrong."""
        try:
            made = self._made(table)
        except (UsageError, ValueError) as error:
            self._blame(("task", self.manifest.plain(name)), table, error)
            return None
        return {
            "task": made.task,
            "context": made.context,
            "job": made.job,
            "fields": made.fields,
            "args": [blob.decode() for blob in made.blobs],
        }

    # --- schedules ------------------------------------------------------------

    def schedule(self, name: str, table: Table, standing: Standing | None, *, same_when: bool) -> Scheduled | None:
        """Make a schedule; None where something in its table is wrong, which is noted.

        Parameters
        ----------
        standing:
            How the one of this name stands; None: it is new.
        same_when:
            Its triggers are those that it has.
        """
        try:
            shape, task_key, args = self._work(table)
            policy, policy_text = self.policy(table)
            if standing is not None and not same_when and standing.runs >= (policy.max_runs or standing.runs + 1):
                path = ("schedule", self.manifest.plain(name), "max_runs")
                self.manifest.wrong(path, f"it has had {standing.runs} runs", "a higher number, or none")
                return None
            fields: dict[str, Any] = {}
            if same_when and standing is not None:
                following = standing.next
            else:
                found = self.when(name, table)
                following = found.first
                if found.again:
                    past = (None, None, self.now) if standing is None else (*standing[3:5], standing.created)
                    following = found.following(*past, self.now)
                fields = {**found.fields, "planned": self.now, "next": following}
        except (UsageError, ValueError) as error:
            self._blame(("schedule", self.manifest.plain(name)), table, error)
            return None
        return Scheduled(
            name=name,
            spec=canonical(table),
            policy=policy_text,
            task=task_key,
            context=shape.context_key,
            args=args,
            encoding=None if args is None else "json",
            job=shape.job,
            queue=shape.queue,
            delay=0 if following is None else delay(policy, name, following),
            **fields,
        )

    def when(self, name: str, table: Table) -> Read:
        """Read the triggers of a table.

        Raises
        ------
        UsageError
            When they cannot be read, or never come.
        """
        given = trigger_part(table)
        text = canonical(given)
        # The name matters to hashed fields of cron lines alone.
        seed = name if "H" in text else None
        key = text if seed is None else f"{text}\0{seed}"
        known = self._whens.get(key)
        if known is None:
            given.pop("files", None)
            known = read(given, self.now, self._calendar, self._absolute, seed)
            if len(self._whens) < _KEPT:
                self._whens[key] = known
        return known

    def policy(self, table: Table) -> tuple[Policy, str]:
        """Read the policies of a table; give them, and as they are stored.

        Raises
        ------
        UsageError
            When one makes no sense, or two contradict each other.
        """
        given = {key: table[key] for key in FIELDS if key in table}
        text = canonical(given)
        known = self._policies.get(text)
        if known is None:
            known = parse_policy(given), text
            if len(self._policies) < _KEPT:
                self._policies[text] = known
        return known

    def _work(self, table: Table) -> tuple[_Shape, str, str | None]:
        """Give what runs: its surroundings, the key of its task, and its arguments."""
        whole = canonical({key: table[key] for key in (*WHAT_KEYS, *JOB_KEYS) if key in table})
        known = self._works.get(whole)
        if known is None:
            known = self._make_work(table)
            if len(self._works) < _KEPT:
                self._works[whole] = known
        return known

    def _make_work(self, table: Table) -> tuple[_Shape, str, str | None]:
        options = {key: table[key] for key in JOB_KEYS if key in table}
        text = canonical(options)
        shape = self._shapes.get(text)
        if shape is None or not ("run" in table or table.get("shell", "").strip()):
            made = self._made(table)
            shape = _Shape(declaration.options(options, self.manifest.base), made)
            self.contexts[shape.context_key] = made.context
            if len(self._shapes) < _KEPT:
                self._shapes.setdefault(text, shape)
        elif "run" in table:
            words = [str(word) for word in table["run"]] if isinstance(table["run"], list) else [table["run"]]
            made = command(words, shape.options, context=shape.context)
        else:
            line = table["shell"]
            made = command(["/bin/sh", "-c", line], shape.options, context=shape.context, label=line)
        row = task_row(made.task)
        key = shape.digest(row)
        self.tasks[key] = row
        return shape, key, made.blobs[0].decode() if made.blobs else None

    def _made(self, table: Table) -> Submission:
        if "script" in table and not os.path.isfile(table["script"][0]):
            raise UsageError(f"there is no script {table['script'][0]}")
        return task(table, base=self.manifest.base)

    def _absolute(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.manifest.base, os.path.expanduser(path)))

    def _calendar(self, name: str) -> str:
        with open(self._absolute(name), encoding="utf-8-sig") as file:
            return file.read()

    # --- what is wrong --------------------------------------------------------

    def _blame(self, path: tuple[str, ...], table: Table, error: Exception) -> None:
        """Note what is wrong at each key that is to blame, or at the table."""
        found = {key: wrong for key in table if (wrong := self._alone(key, table)) is not None}
        if "timezone" in found:
            # Then nothing that has to do with time can be read.
            found = {key: wrong for key, wrong in found.items() if key == "timezone" or key not in TRIGGERS}
        for key, wrong in found.items():
            self.manifest.wrong((*path, key), _of_key(key, wrong))
        if not found:
            self.manifest.wrong(path, _of_key("", error))

    def _alone(self, key: str, table: Table) -> Exception | None:
        """Give the error that a key by itself leads to."""
        try:
            if key in TRIGGERS:
                given = {"timezone": table["timezone"], key: table[key]}
                if key in ("timezone", "from", "until", "except", "repeat"):
                    given = {"when": "daily 00:00", **given}
                self.when("", given)
            elif key == "catch_up" and self._alone("overlap", table) is not None:
                return None  # it depends on that
            elif key in FIELDS:
                parse_policy({each: table[each] for each in _WITH.get(key, (key,)) if each in table})
            elif key in WHAT_KEYS:
                self._made({key: table[key], **({"args": table["args"]} if "args" in table else {})})
            elif key in JOB_KEYS:
                self._made({"run": ["true"], key: table[key]})
        except (UsageError, ValueError) as error:
            return error
        return None


class _Shape:
    """What is the same for all that have the same options: surroundings, and how jobs are queued."""

    def __init__(self, options: Options, made: Submission) -> None:
        self.options = options
        self.context = made.context
        self.context_key = digest(*context_row(made.context)).hex()
        job = {key: made.job[key] for key in ("queue", "priority", "tags", "concurrency") if made.job.get(key)}
        self.job = canonical(job)
        self.queue: str | None = job.get("queue")
        self._tails: dict[Row, bytes] = {}

    def digest(self, row: Row) -> str:
        """Give ``digest(*row)`` of a task's row; most of it is the same for many."""
        tail = row[LABEL + 1 :]
        known = self._tails.get(tail)
        if known is None:
            known = self._tails[tail] = b"".join(map(part, tail))
        state = blake2b(b"".join(map(part, row[: LABEL + 1])), digest_size=16)
        state.update(known)
        return state.hexdigest()


def _of_key(key: str, error: Exception) -> UsageError:
    """Give an error without the name of the option, which its place says."""
    message = error.message if isinstance(error, UsageError) else str(error)
    hint = error.hint if isinstance(error, UsageError) else None
    for name in (f"--{key.replace('_', '-')}: ", f"{key}: ", f"{key.replace('_', '-')}: ", "-f: "):
        if key and message.startswith(name):
            message = message[len(name) :]
    return UsageError(message, hint)


def trigger_part(table: Table) -> Table:
    """Give what a table says of when, with the digests of the calendars that it leaves out."""
    found = {key: table[key] for key in TRIGGERS if key in table}
    files = {key: value for key, value in table.get("files", {}).items() if key.lower().endswith(".ics")}
    return {**found, "files": files} if files else found
