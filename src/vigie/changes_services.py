"""What applying a file would change of services: its tables against those of the last time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from vigie.change import Change, redacted
from vigie.errors import UsageError
from vigie.making_rows import canonical
from vigie.manifest import Manifest, Table
from vigie.manifest_resolve import near
from vigie.service_declaration import Declared, service
from vigie.store.manifest_reader import ManifestReader
from vigie.supervision.graph import circle
from vigie.supervision.plan import Plan
from vigie.supervision.reading import KEYS, read_key

__all__ = ["ServiceChanges"]

_NAMING = ("requires", "after", "wants")


class ServiceChanges:
    """Compares the services of a file with those of the last time.

    Parameters
    ----------
    manifest, reader:
        The file and the store.
    owner:
        The path under which the store knows the file.
    free:
        Notes which names of a kind belong to somebody else.

    Attributes
    ----------
    list:
        What changes, by name.
    rows:
        (kind, row) to send of it.
    """

    def __init__(
        self, manifest: Manifest, reader: ManifestReader, owner: str, free: Callable[[str, Iterable[str]], None]
    ) -> None:
        self.manifest = manifest
        self.list: list[Change] = []
        self.rows: list[tuple[str, list[Any]]] = []
        known = {name: json.loads(spec) for name, spec in reader.services(owner)}
        wanted = manifest.services
        free("service", [name for name in wanted if name not in known])
        made = {name: self._made(name, table) for name, table in wanted.items()}
        self._check_names(made, reader, gone=set(known) - set(wanted))
        for name in sorted({*known, *wanted}):
            before, after, declared = known.get(name), wanted.get(name), made.get(name)
            if after is None:
                self.list.append(Change("service", name, before, None))
                self.rows.append(("gone", ["service", name]))
            elif canonical(after) != canonical(before):
                self.list.append(Change("service", name, before, after))
                if declared is not None:
                    fields, _ = declared.request(replace=before is not None, start=before is None)
                    fields["spec"], fields["shown"] = after, canonical(redacted(after))
                    self.rows.append(("served", [name, json.dumps(fields)]))

    def _made(self, name: str, table: Table) -> Declared | None:
        """Read a table; what is wrong is noted at its key."""
        path = ("service", self.manifest.plain(name))
        words = {key: value for key, value in table.items() if key not in ("files", "task")}
        bad = False
        for key in KEYS:
            if words.get(key) is not None:
                try:
                    read_key(key, words[key])
                except UsageError as error:
                    bad = True
                    self.manifest.wrong((*path, key), _of_key(key, error))
        if bad:
            return None
        try:
            return service(name, words, base=self.manifest.base)
        except (UsageError, ValueError) as error:
            message = error.message if isinstance(error, UsageError) else str(error)
            key = message.partition(":")[0].removeprefix("--").replace("-", "_")
            hint = error.hint if isinstance(error, UsageError) else None
            if key in words:
                self.manifest.wrong((*path, key), _of_key(key, UsageError(message, hint)))
            else:
                self.manifest.wrong(path, message, hint)
            return None

    def _check_names(self, made: dict[str, Declared | None], reader: ManifestReader, gone: set[str]) -> None:
        """See that services name only such as there are, and wait for each other in no circle."""
        others = {name: Plan.from_json(plan) for name, plan in reader.plans() if name not in gone and name not in made}
        plans = {**others, **{name: each.plan for name, each in made.items() if each is not None}}
        there = {*others, *made, *(self.manifest.full(name) for kind, name in self.manifest.bad if kind == "service")}
        for name, declared in made.items():
            for key in _NAMING if declared is not None else ():
                for other in getattr(declared.plan, key):  # type: ignore[union-attr]  # not None, by the line above
                    if other not in there:
                        path = ("service", self.manifest.plain(name), key)
                        known = [self.manifest.plain(each) for each in there]
                        self.manifest.wrong(
                            path, f"there is no service {other!r}", near(other, known) if known else None
                        )
        found = circle(plans)
        if found is not None:
            first = next(name for name in found if name in made)
            shown = " → ".join(map(self.manifest.plain, found))
            self.manifest.wrong(
                ("service", self.manifest.plain(first)), f"they wait for each other in a circle: {shown}"
            )


def _of_key(key: str, error: UsageError) -> UsageError:
    """Give an error without the name of its key, which its place says."""
    for name in (f"{key}: ", f"--{key.replace('_', '-')}: "):
        if error.message.startswith(name):
            return UsageError(error.message.removeprefix(name), error.hint)
    return error
