"""Names that files declare, as they are typed: a task to run, a schedule to look at."""

from __future__ import annotations

from vigie import environment as surroundings
from vigie import projects
from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from vigie.cli.context import Context
    from vigie.submission import Options, Submission

__all__ = ["DeclaredTask", "declared_tasks", "find_task", "schedule_name", "service_name"]


def schedule_name(name: str, out: Context) -> str:
    """Give the whole name of a schedule: where a project's file is, its plain names are those of the project."""
    meant = projects.candidates(out.home, name)
    if len(meant) > 1:
        from vigie.store.manifest_reader import ManifestReader

        known = ManifestReader(out.reader()).owners("schedule", meant)
        return next((each for each in meant if each in known), name)
    return name


def service_name(name: str, out: Context) -> str:
    """Give the whole name of a service or of an instance, as :func:`schedule_name` does; ``service:NAME`` is one."""
    name = name.removeprefix("service:")
    meant = projects.candidates(out.home, name)
    if len(meant) > 1:
        reader = out.reader().services
        return next((each for each in meant if reader.meant(each) is not None), name)
    return name


def declared_tasks(out: Context) -> dict[str, Any]:
    """Give the tables of all declared tasks, by name."""
    import json

    return {row["name"]: json.loads(row["spec"]) for row in out.reader().schedules.declared("task")}


def find_task(word: str, out: Context) -> DeclaredTask | None:
    """Give the declared task that a word names; None if it names none."""
    names = [] if "/" in word else projects.task_names(out.home, word)
    if not names:
        return None
    import json

    from vigie.store.manifest_reader import ManifestReader

    reader = ManifestReader(out.reader())
    for name in names:
        row = reader.one("task", name)
        if row is not None:
            return DeclaredTask(name, json.loads(row["spec"])["made"])
    return None


class DeclaredTask:
    """A task as it was made when its file was applied."""

    def __init__(self, name: str, made: dict[str, Any]) -> None:
        self.name = name
        self.made = made

    def submission(self, options: Options) -> Submission:
        """Build its submission: in the surroundings that its schedules have; what options say wins over its table.

        Raises
        ------
        UsageError
            When an option makes no sense.
        """
        from vigie.submission import Submission

        made = self.made
        context, work = _context(made["context"], options), dict(made["task"])
        if options.python is not None:
            before = context["python"]
            if before is None:
                raise UsageError(f"--python: {self.name} is neither a script nor a function", "take it out")
            context["python"] = surroundings.choose_python(options.python, context["cwd"])
            if work.get("argv"):
                work["argv"] = [context["python"] if word == before else word for word in work["argv"]]
        work["python"] = context["python"]
        blobs = [text.encode() for text in made["args"]]
        found = Submission(work, options, context=context, blobs=blobs, fields=made["fields"])
        found.job = {"name": self.name, **made["job"], **found.job}
        return found


def _context(context: dict[str, Any], options: Options) -> dict[str, Any]:
    """Give the surroundings of a task, with what the options say in their place."""
    env = {} if options.env_none else dict(context["env"])
    env |= surroundings.environment(none=True, files=options.env_file, given=options.env)
    cwd = context["cwd"] if options.cwd is None else surroundings.directory(options.cwd)
    return {**context, "env": env, "cwd": cwd}
