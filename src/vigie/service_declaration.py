"""From the words of a service to what the agent is asked to keep: one table for file, command line and Python.

A table has the keys of ``[service.NAME]`` in ``vigie.toml``. What runs, and in which surroundings, is read as
for a task; how it is kept is its plan (``supervision/reading.py``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from vigie import declaration
from vigie.declaration import WHAT_KEYS
from vigie.errors import UsageError
from vigie.submission import Submission, check_name, command
from vigie.supervision.plan import Plan
from vigie.supervision.reading import KEYS, parse_plan

__all__ = ["SERVICE_KEYS", "WORK_KEYS", "Declared", "service"]

#: What runs, and how, of that what a task can have.
WORK_KEYS = ("args", "interpreter", "cwd", "env", "env_file", "priority", "tags")
#: All keys that a service can have.
SERVICE_KEYS = (*WHAT_KEYS, "task", *WORK_KEYS, *KEYS)
#: What a task may say and a service has no use for: it is not run once.
_OF_RUNS = ("timeout", "retries", "backoff", "grace", "max_output", "on_lost", "queue", "concurrency", "fresh")
RUNNER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "run_function.py")


class Declared:
    """A service ready to be sent.

    Attributes
    ----------
    name, table:
        As given.
    plan:
        How it is kept.
    submission:
        What each life runs.
    """

    def __init__(self, name: str, table: dict[str, Any], plan: Plan, submission: Submission) -> None:
        self.name = name
        self.table = table
        self.plan = plan
        self.submission = submission

    def request(
        self, *, owner: str | None = None, replace: bool = False, start: bool = True
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Give the fields of a ``service_set`` request, and its blobs."""
        wanted = self.submission
        fields: dict[str, Any] = {
            "name": self.name, "spec": self.table, "plan": json.loads(self.plan.to_json()), "mode": self.plan.mode,
            "task": wanted.task, "context": wanted.context, "job": wanted.job, "start": start,
        }  # fmt: skip
        if owner is not None:
            fields["owner"] = owner
        if replace:
            fields["replace"] = True
        return fields, []


def service(
    name: str,
    table: Mapping[str, Any],
    *,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    base: str | None = None,
    built: Submission | None = None,
) -> Declared:
    """Read the table of a service.

    Parameters
    ----------
    name:
        Its name.
    table:
        What to run and how to keep it; with the keys of ``[service.NAME]``.
    tasks:
        The tables of declared tasks, for ``task = "…"``.
    base:
        The directory in which it runs and from which paths are meant; default the current one.
    built:
        What runs, where no words can say it.

    Raises
    ------
    UsageError
        When a key is unknown, or a value makes no sense.
    """
    check_name(name, "service")
    if "@" in name:
        raise UsageError(f"service: {name!r} cannot be its name: behind @ stands the number of an instance")
    given = {key: value for key, value in table.items() if value is not None}
    for key in given:
        if key not in SERVICE_KEYS:
            raise UsageError(f"service {name} has no key {key!r}", declaration.near(key, SERVICE_KEYS))
    plan = parse_plan(given)
    _check_user(plan)
    work = {key: given[key] for key in (*WHAT_KEYS, *WORK_KEYS) if key in given}
    if "task" in given and built is None:
        found = (tasks or {}).get(str(given["task"]))
        if found is None:
            names = ", ".join(sorted(tasks or {})) or "none"
            raise UsageError(f"service {name}: no task {given['task']!r} is declared; there are: {names}")
        work = {**{key: value for key, value in found.items() if key not in _OF_RUNS}, **work}
    return Declared(name, given, plan, built or _work(name, work, base))


def _check_user(plan: Plan) -> None:
    """See that a user and a group exist here, and that somebody may become them."""
    if plan.user is None and plan.group is None:
        return
    import grp
    import pwd

    for key, value, known in (("user", plan.user, pwd.getpwnam), ("group", plan.group, grp.getgrnam)):
        if value is not None and not value.isdigit():
            try:
                known(value)
            except KeyError:
                raise UsageError(f"{key}: there is no {key} {value!r} on this machine") from None
    if (
        plan.user is not None
        and os.geteuid() != 0
        and plan.user not in (str(os.geteuid()), pwd.getpwuid(os.geteuid())[0])
    ):
        raise UsageError("user: only root can run a service as somebody else", "vigie --system, as root")


def _work(name: str, table: Mapping[str, Any], base: str | None) -> Submission:
    if "python" not in table:
        return declaration.task(table, base=base, of=f"service {name}")
    # A function runs as a process of its own, on the project's interpreter.
    made = declaration.task(table, base=base, of=f"service {name}")
    where, _, function = str(table["python"]).partition(":")
    words = [made.python or "python3", RUNNER, where, function, made.blobs[0].decode()]
    found = command(words, declaration.options(table, base), context=made.context, label=str(made.task["label"]))
    found.context["env"] = {**_with_path(made.context), "PYTHONUNBUFFERED": "1"}
    return found


def _with_path(context: Mapping[str, Any]) -> dict[str, str]:
    """Give an environment in which a function's modules are found."""
    env, path = dict(context["env"]), [part for part in context.get("path") or () if part]
    if path:
        env["PYTHONPATH"] = os.pathsep.join([*path, *filter(None, [env.get("PYTHONPATH")])])
    return env
