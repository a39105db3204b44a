"""The text of a TOML file: its tables, and where in it each key stands.

The standard library reads TOML and forgets where it read what. So once a value turns
out to be wrong, the text is looked through again, by a scanner that knows no more of
TOML than it takes to tell where a statement begins: strings, brackets and comments.

A file of a hundred thousand plain tables takes the standard reader several seconds.
:func:`parse` reads those by a pattern first, block by block, and leaves to the standard
reader all of a file in which it finds anything but headers, and keys with plain values.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

__all__ = ["Places", "TomlError", "parse"]

#: From so many characters on the quicker way is worth its pattern.
LARGE = 200_000

_LINE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


class TomlError(ValueError):
    """The text is no TOML.

    Attributes
    ----------
    line:
        Where, counted from 1.
    """

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def parse(text: str) -> dict[str, Any]:
    r"""Read a text.

    Raises
    ------
    TomlError
        With the line at which reading stopped.

    >>> parse("[a]\nb = 1")
    {'a': {'b': 1}}
    >>> parse("[a]\nb = ")
    Traceback (most recent call last):
    vigie.tomltext.TomlError: invalid value
    """
    if len(text) >= LARGE and (found := _plain_tables(text)) is not None:
        return found
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        place = _LINE.search(said)
        line = int(place[1]) if place is not None and place[1] else text.count("\n") + (not text.endswith("\n"))
        message = said[: place.start()] if place is not None else said
        column = f" at character {place[2]}" if place is not None and place[2] else ""
        raise TomlError(message[:1].lower() + message[1:] + column * bool(place), max(line, 1)) from None
    except RecursionError:
        raise TomlError("brackets are nested too deeply", 1) from None
    except ValueError as error:
        # A number with more digits than Python reads, say.
        raise TomlError(str(error), 1) from None


# --- the quicker way --------------------------------------------------------------

_BARE = r"[A-Za-z0-9_-]+"
_TEXT = r'"[^"\\\x00-\x1f\x7f]*"'
_HEADER = re.compile(rf"\[({_BARE})\.({_BARE})\][ \t]*")
_KEY = re.compile(
    rf"({_BARE})[ \t]*=[ \t]*({_TEXT}|\[(?:{_TEXT}(?:, ?{_TEXT})*)?\]|true|false|0|[1-9][0-9]{{0,17}})[ \t]*"
)
#: Lines of which as many are kept: the same stand in many tables.
_KEPT = 10_000


def _plain_tables(text: str) -> dict[str, Any] | None:
    """Read a text of headers ``[a.b]`` and keys with plain values, one a line; None if it holds anything else.

    Such values are the same in JSON, whose reader is written in C.
    """
    found: dict[str, Any] = {}
    table = found
    known: dict[str, tuple[str, Any]] = {}
    for line in text.replace("\r\n", "\n").split("\n"):
        pair = known.get(line) or _pair(line, known)
        if pair is not None:
            name, value = pair
            if name in table:
                return None
            table[name] = value
        elif line[:1] == "[":
            header = _HEADER.fullmatch(line)
            if header is None:
                return None
            tables = found.setdefault(header[1], {})
            if not isinstance(tables, dict) or header[2] in tables:
                return None
            table = tables[header[2]] = {}
        elif line and not (line[0] == "#" and line.isprintable()):
            return None
    return found


def _pair(line: str, known: dict[str, tuple[str, Any]]) -> tuple[str, Any] | None:
    """Read a line ``key = value``; None if it is no such line."""
    pair = _KEY.fullmatch(line)
    if pair is None:
        return None
    name, value = pair.groups()
    if value[0] != '"':
        return name, json.loads(value)
    # A text needs no reader: what would have to be unescaped is not let in.
    if len(known) < _KEPT:
        known[line] = name, value[1:-1]
    return name, value[1:-1]


# --- where things stand -----------------------------------------------------------

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|\n|[\[\]{}=]|[^\s"\'#\[\]{}=]+|.',
    re.DOTALL,
)


class Places:
    r"""The lines on which the tables and keys of a text stand.

    >>> places = Places("a = '''\nb = 1\n'''\n[t.u]\nc.d = [\n1]\n")
    >>> places.line("t", "u", "c", "d"), places.line("t", "u", "none"), places.line("a"), places.line("b")
    (5, 4, 1, 1)
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, ...], int] = {}
        self._scan(text)

    def line(self, *path: str) -> int:
        """Give the line of a key, or of the nearest table above it that has one; 1 if none has."""
        while path:
            found = self._lines.get(path)
            if found is not None:
                return found
            path = path[:-1]
        return 1

    def _scan(self, text: str) -> None:
        line, depth = 1, 0
        table: tuple[str, ...] = ()
        statement: list[str] = []
        fresh = True  # no "=" of this statement has come yet
        for found in _TOKEN.finditer(text):
            part = found[0]
            if part == "\n" and depth == 0:
                if statement[:1] == ["["]:
                    table = _path("".join(statement).strip("[] \t\r"))
                    self._note(table, line)
                statement, fresh = [], True
            elif part == "=" and fresh and statement[:1] != ["["]:
                self._note(table + _path("".join(statement).strip()), line)
                fresh = False
            elif part in ("[", "{") and not fresh:
                depth += 1
            elif part in ("]", "}") and not fresh:
                depth = max(0, depth - 1)
            elif fresh and not part.startswith("#") and (statement or not part.isspace()):
                statement.append(part)
            line += part.count("\n")
        if statement[:1] == ["["] and fresh:
            self._note(_path("".join(statement).strip("[] \t\r")), line)

    def _note(self, path: tuple[str, ...], line: int) -> None:
        for end in range(1, len(path) + 1):
            self._lines.setdefault(path[:end], line)


def _path(key: str) -> tuple[str, ...]:
    """Give the parts of a key as it is written: ``a."b c".d``."""
    if re.fullmatch(_BARE, key):
        return (key,)
    try:
        found: Any = tomllib.loads(f"{key} = 0")
    except ValueError:
        return ()
    parts: list[str] = []
    while isinstance(found, dict):
        ((part, found),) = found.items()
        parts.append(part)
    return tuple(parts)
