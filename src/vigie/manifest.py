"""``vigie.toml``: from its text to tables that stand on their own.

A table stands on its own when it says the same wherever it is read: names are whole
(``shop.nightly``), paths absolute, the time zone named, the task of a schedule written
into it; and of the files that it names, what they held is part of it, as a digest.
So two such tables tell what has changed between two times a file was applied, and
nothing else has to be remembered of the first time.

All that is wrong with a file is found before anything is said, each with its line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import date, datetime, time
from typing import Any

from vigie import __version__
from vigie.errors import UsageError, VigieError
from vigie.manifest_keys import FORMS, KINDS, LATER, PROJECT
from vigie.manifest_resolve import Resolver, near
from vigie.submission import check_name
from vigie.tomltext import Places, TomlError, parse

__all__ = ["BUILT_IN", "LARGEST", "Manifest", "Table", "read_manifest"]

Table = dict[str, Any]
#: A key, what is wrong there, and what to do about it.
Wrong = tuple[tuple[str, ...], str, str | None]

#: Bytes that a file may have: a hundred thousand schedules have a tenth of it.
LARGEST = 100 << 20
#: Queues that every home has, whoever declares what.
BUILT_IN = ("default", "schedules")
#: What is said of one file at a time.
_MOST = 20
_PROJECT = re.compile(PROJECT)
#: Names about which there is nothing to say.
_USUAL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")


class Manifest:
    """What a file declares.

    Parameters
    ----------
    text:
        Its text.
    owner:
        The absolute path of the file, which owns what it declares.
    shown:
        What it is called in messages.

    Attributes
    ----------
    base:
        Its directory.
    project:
        The prefix of its names, if it has one.
    tasks, schedules, services, queues:
        Whole name → table.
    bad:
        (kind, plain name) of each table in which something is wrong.
    """

    def __init__(self, text: str, owner: str, shown: str) -> None:
        self.owner = owner
        self.base = os.path.dirname(owner)
        self.shown = shown
        self.project: str | None = None
        self.tasks: dict[str, Table] = {}
        self.schedules: dict[str, Table] = {}
        self.queues: dict[str, Table] = {}
        self.services: dict[str, Table] = {}
        self.bad: set[tuple[str, str]] = set()
        self._text = text
        self._wrong: list[Wrong] = []

    def full(self, name: str) -> str:
        """Give the whole name of what the file calls so."""
        return name if self.project is None else f"{self.project}.{name}"

    def plain(self, name: str) -> str:
        """Give what the file calls something by its whole name."""
        return name if self.project is None else name.removeprefix(f"{self.project}.")

    # --- what is wrong --------------------------------------------------------

    def wrong(self, path: tuple[str, ...], error: str | VigieError, hint: str | None = None) -> None:
        """Take note of something wrong at a key."""
        if len(path) > 1:
            self.bad.add((path[0], path[1]))
        if isinstance(error, str):
            self._wrong.append((path, error, hint))
        else:
            self._wrong.append((path, error.message, error.hint))

    @property
    def noted(self) -> int:
        """How much that is wrong was noted."""
        return len(self._wrong)

    def since(self, noted: int) -> list[Wrong]:
        """Give what was noted since."""
        return self._wrong[noted:]

    def take(self, wrong: list[Wrong]) -> None:
        """Take note of what another process has found wrong."""
        self._wrong += [each for each in wrong if each not in self._wrong]

    def refuse(self) -> None:
        """Say all that was noted, if anything was.

        Raises
        ------
        UsageError
            With a line for each: ``vigie.toml:12: schedule.nightly.when: …``.
        """
        if not self._wrong:
            return
        places = Places(self._text)
        found = [(places.line(*path), path, message, hint) for path, message, hint in self._wrong]
        found.sort(key=lambda each: each[:3])
        said = [f"{self.shown}:{line}: {_where(path)}{message}" for line, path, message, _ in found]
        if len(said) == 1:
            raise UsageError(said[0], found[0][3])
        hints = [f"\n  {hint}" if hint else "" for *_, hint in found]
        lines = [text + hint for text, hint in zip(said, hints, strict=True)]
        if len(lines) > _MOST:
            lines[_MOST:] = [f"{self.shown}: … and {len(lines) - _MOST} more"]
        raise UsageError("\n".join(lines), "nothing was changed")


def _where(path: tuple[str, ...]) -> str:
    parts = [part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in path]
    return f"{'.'.join(parts)}: " if parts else ""


def read_manifest(
    data: bytes,
    owner: str,
    shown: str | None = None,
    read: Callable[[str], bytes] | None = None,
    *,
    refuse: bool = True,
) -> Manifest:
    """Read a file and check all that can be checked of it alone.

    Parameters
    ----------
    data:
        What it holds.
    owner:
        Its absolute path.
    shown:
        What it is called in messages; default its name.
    read:
        Gives the bytes of another file, by its path; default as it is on disk.
    refuse:
        Say at once what is wrong. False leaves that to whoever may find more
        (:meth:`Manifest.refuse`); what is wrong is not among the tables.

    Raises
    ------
    UsageError
        With all that is wrong, each with its line and key.

    >>> found = read_manifest(b'project = "a"\\n[task.b]\\nrun = ["c"]\\n', "/srv/vigie.toml")
    >>> found.tasks
    {'a.b': {'run': ['c'], 'cwd': '/srv'}}
    """
    shown = shown or os.path.basename(owner)
    text = _decoded(data, shown)
    try:
        given = parse(text)
    except TomlError as error:
        raise UsageError(f"{shown}:{error.line}: {error}", "this is no TOML · https://toml.io") from None
    found = Manifest(text, owner, shown)
    _top(found, given)
    tables = {kind: _tables(found, kind, given.get(kind, {})) for kind in KINDS}
    Resolver(found, tables, read or _contents).run()
    if refuse:
        found.refuse()
    return found


def _decoded(data: bytes, shown: str) -> str:
    if len(data) > LARGEST:
        raise UsageError(f"{shown} has {len(data) >> 20} MiB; {LARGEST >> 20} MiB are the most", "cut it into several")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UsageError(f"{shown}:1: it is UTF-16, and TOML is UTF-8", "save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{shown}:{line}: byte {data[error.start]:#04x} is no UTF-8", "save it as UTF-8") from None


# --- what stands in it ------------------------------------------------------------


def _top(found: Manifest, given: Table) -> None:
    """Check what stands above all tables, and which tables there are."""
    for key, value in given.items():
        if key == "project":
            if isinstance(value, str) and _PROJECT.fullmatch(value) and not value.isdigit() and value != "last":
                found.project = value
            else:
                found.wrong((key,), f"{value!r} is no name of a project", "letters, digits, - and _, and no more")
        elif key in LATER:
            found.wrong((key,), f"vigie {__version__} does not handle [{key}] yet", "take it out of the file")
        elif key not in KINDS:
            found.wrong((key,), f"there is no [{key}]", near(key, ["project", *KINDS]))


def _tables(found: Manifest, kind: str, given: Any) -> dict[str, Table]:
    """Check the tables of one kind: their names, their keys, and what the values look like."""
    if not isinstance(given, dict):
        found.wrong((kind,), f"it is no table; write [{kind}.NAME]")
        return {}
    good: dict[str, Table] = {}
    for name, table in given.items():
        if not isinstance(table, dict):
            found.wrong((kind, name), f"{name} is no table", f"write [{kind}.NAME], and its keys under it")
        elif _named(found, kind, name):
            good[name] = own = {}
            for key, value in table.items():
                if type(value) is str and (kind, key) in _TEXTUAL:
                    own[key] = value
                elif _keyed(found, kind, name, key, value):
                    own[key] = _plain(value)
    return {name: table for name, table in good.items() if (kind, name) not in found.bad} if found.bad else good


#: Keys that take any text.
_TEXTUAL = {(kind, key) for kind, keys in KINDS.items() for key in keys if FORMS[keys[key].form].fits("any text")}


def _named(found: Manifest, kind: str, name: str) -> bool:
    if _USUAL.fullmatch(name) and name not in ("last", *BUILT_IN):
        return True
    try:
        check_name(name, kind)
        check_name(found.full(name), kind)
    except UsageError as error:
        found.wrong((kind, name), error.message.partition(": ")[2], error.hint)
        return False
    if "/" in name:
        found.wrong((kind, name), f"{name!r} cannot be a name: it reads as a path")
        return False
    if kind == "queue" and name in BUILT_IN:
        found.wrong((kind, name), f"queue {name} is there in every home", f"vigie queue set {name} --slots N")
        return False
    return True


def _keyed(found: Manifest, kind: str, name: str, key: str, value: Any) -> bool:
    """Check one key of a table, and that its value looks as it should."""
    known = KINDS[kind]
    if key not in known:
        nested = isinstance(value, dict) and any(each in known for each in value)
        hint = f'a name with a dot stands in quotes: [{kind}."{name}.{key}"]' if nested else near(key, [*known])
        found.wrong((kind, name, key), f"a {kind} has no key {key!r}", hint)
        return False
    form = FORMS[known[key].form]
    if _endless(value) or not form.fits(_plain(value)):
        found.wrong((kind, name, key), f"{_said(value)} is not {form.expected}")
        return False
    return True


def _plain(value: Any) -> Any:
    """Give a value as JSON carries it: dates and times become texts."""
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def _endless(value: Any) -> bool:
    """Tell whether a value holds a number that JSON has not: inf, nan."""
    if isinstance(value, dict | list):
        return any(map(_endless, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and not abs(value) < float("inf")


def _said(value: Any) -> str:
    text = repr(_plain(value)) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "…"


def _contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
