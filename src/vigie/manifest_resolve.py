"""Tables of a file that say the same wherever they are read: paths absolute, names whole, tasks written in."""

from __future__ import annotations

import os
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from vigie import zones
from vigie.declaration import WHAT_KEYS
from vigie.digests import blake2b
from vigie.manifest_keys import KINDS

if TYPE_CHECKING:
    from vigie.manifest import Manifest, Table

__all__ = ["Resolver", "near"]


class Resolver:
    """Makes each table say the same wherever it is read."""

    def __init__(self, found: Manifest, tables: dict[str, dict[str, Table]], read: Callable[[str], bytes]) -> None:
        self.found = found
        self.tables = tables
        self.read = read
        self._digests: dict[str, str | None] = {}
        self._paths: dict[str, str] = {}
        self._zone: str | None = None

    def run(self) -> None:
        """Fill in the manifest's tables."""
        found = self.found
        for name, table in self.tables["queue"].items():
            found.queues[found.full(name)] = {key: table[key] for key in KINDS["queue"] if key in table}
        for name, table in self.tables["task"].items():
            if self._one_way(("task", name), table):
                whole = self._at_home(("task", name), table)
                if ("task", name) not in found.bad:
                    found.tasks[found.full(name)] = whole
        for name, table in self.tables["service"].items():
            merged = self._with_task(("service", name), table)
            if merged is not None:
                whole = self._at_home(
                    ("service", name), {key: merged[key] for key in merged if key in KINDS["service"]}
                )
                for key in ("after", "requires", "wants"):
                    if key in whole:
                        whole[key] = [self._service(each) for each in _named(whole[key])]
                if ("service", name) not in found.bad:
                    found.services[found.full(name)] = whole
        for name, table in self.tables["schedule"].items():
            merged = self._with_task(("schedule", name), table)
            if merged is not None:
                whole = self._at_home(("schedule", name), merged)
                whole["timezone"] = whole.get("timezone") or self._local()
                if ("schedule", name) not in found.bad:
                    found.schedules[found.full(name)] = whole

    def _service(self, name: str) -> str:
        """Give the whole name of what a service names: the file's own goes before one of another."""
        return self.found.full(name) if name in self.tables["service"] else name

    def _one_way(self, path: tuple[str, ...], table: Table) -> bool:
        """See that a table says one thing to run."""
        ways = [key for key in WHAT_KEYS if key in table]
        if len(ways) == 1:
            return True
        if ways:
            self.found.wrong((*path, ways[1]), f"it says {' and '.join(ways)}, and can run one of them")
        else:
            also = " or task" if path[0] != "task" else ""
            self.found.wrong(path, f"it says nothing to run: give one of {', '.join(WHAT_KEYS)}{also}")
        return False

    def _with_task(self, path: tuple[str, ...], table: Table) -> Table | None:
        """Write the task into a schedule or a service that names one."""
        found = self.found
        if "task" not in table:
            return dict(table) if self._one_way(path, table) else None
        also = [key for key in WHAT_KEYS if key in table]
        if also:
            found.wrong((*path, also[0]), f"it says task and {also[0]}, and can run one of them")
            return None
        said = table["task"]
        plain = found.plain(said)
        task = self.tables["task"].get(plain)
        if ("task", plain) in found.bad:
            return None  # what is wrong there is said there
        if task is None:
            known = list(self.tables["task"])
            hint = near(plain, known) if known else f"write [task.{plain}]"
            found.wrong((*path, "task"), f"the file has no task {said!r}", hint)
            return None
        return {**task, **table, "task": found.full(plain)}

    def _at_home(self, path: tuple[str, ...], table: Table) -> Table:
        """Make paths absolute and names whole, and note what the files hold that are read when it is applied."""
        whole = dict(table)
        whole["cwd"] = self._absolute(table.get("cwd", "."))
        files: dict[str, str | None] = {}
        if "env_file" in table:
            whole["env_file"] = [self._absolute(each) for each in _listed(table["env_file"])]
            files |= {each: self._digest(path, "env_file", each) for each in whole["env_file"]}
        if "script" in table:
            script, *words = _listed(table["script"])
            whole["script"] = [self._absolute(script), *map(str, words)]
        if "/" in table.get("interpreter", ""):
            whole["interpreter"] = self._absolute(table["interpreter"])
        if table.get("queue") is not None and table["queue"] in self.tables["queue"]:
            whole["queue"] = self.found.full(table["queue"])
        for each in _listed(table["except"]) if "except" in table else ():
            if each.lower().endswith(".ics"):
                files[each] = self._digest(path, "except", self._absolute(each))
        if files:
            whole["files"] = files
        return whole

    def _absolute(self, path: str) -> str:
        known = self._paths.get(path)
        if known is None:
            known = self._paths[path] = os.path.normpath(os.path.join(self.found.base, os.path.expanduser(path)))
        return known

    def _digest(self, path: tuple[str, ...], key: str, file: str) -> str | None:
        if file not in self._digests:
            try:
                self._digests[file] = blake2b(self.read(file), digest_size=16).hexdigest()
            except (OSError, ValueError) as error:
                self._digests[file] = None
                self.found.wrong((*path, key), f"cannot read {file}: {getattr(error, 'strerror', None) or error}")
        return self._digests[file]

    def _local(self) -> str:
        if self._zone is None:
            self._zone = zones.load(None).name
        return self._zone


def _named(value: Any) -> list[str]:
    items = value.split(",") if isinstance(value, str) else value
    return [item.strip() for item in items if item.strip()]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def near(key: str, known: list[str]) -> str:
    close = get_close_matches(key, known, 3)
    return f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(known)}"
