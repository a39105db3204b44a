"""Write docs/reference/python.md from the docstrings of the library."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

import generated

import vigie
from vigie import errors
from vigie.output import Record
from vigie.parallel.pool import PoolFuture, PoolStats

_SECTIONS = ("Parameters", "Raises", "Examples", "Attributes", "Returns", "Yields")


def body() -> str:
    """Give functions, then classes, then the tree of errors."""
    public = {name: getattr(vigie, name) for name in vigie.__all__}
    kinds = {name: value for name, value in public.items() if not _is_error(value)}
    # An object speaks through its class.
    kinds = {name: value if callable(value) else type(value) for name, value in kinds.items()}
    functions = [_function(f"vigie.{name}", value, "##") for name, value in kinds.items() if not inspect.isclass(value)]
    classes = [_class(f"vigie.{name}", value) for name, value in kinds.items() if inspect.isclass(value)]
    others = [_class(cls.__name__, cls) for cls in (PoolFuture, PoolStats, Record)]
    return "\n\n".join([*functions, *classes, *others, _errors()])


def _is_error(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception)


def _function(name: str, function: Any, level: str) -> str:
    return f"{level} {name}\n\n```text\n{name.rpartition('.')[2]}{_signature(function)}\n```\n\n{_text(function)}"


def _signature(function: Any) -> str:
    text = re.sub(r"\(self(, )?", "(", str(inspect.signature(function)))
    # Annotations are text, and would stand in quotes.
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
    return text.replace("(function: Any = None, /, **options: Any) -> Any", "(**options: Any)")


def _class(name: str, cls: type) -> str:
    parts = [f"## {name}", _text(cls)]
    for member, value in vars(cls).items():
        if member.startswith("_") and member not in ("__call__", "__iter__", "__aiter__", "__await__"):
            continue
        if isinstance(value, property):
            parts.append(f"### {name}.{member}\n\n{_text(value)}")
        elif inspect.isfunction(value) and value.__doc__:
            parts.append(_function(f"{name}.{member}", value, "###"))
    return "\n\n".join(part for part in parts if part)


def _text(thing: Any) -> str:
    """Turn a docstring into Markdown."""
    lines = (inspect.getdoc(thing) or "").splitlines()
    made: list[str] = []
    section = ""
    at = 0
    while at < len(lines):
        line = lines[at]
        if line in _SECTIONS and at + 1 < len(lines) and set(lines[at + 1]) == {"-"}:
            section = line
            made += [f"*{section}*", ""]
            at += 2
            continue
        if line.startswith(">>> "):
            at = _example(lines, at, made)
            continue
        made.append(_item(line, section))
        at += 1
    return _inline("\n".join(made).strip())


def _example(lines: list[str], at: int, made: list[str]) -> int:
    """Copy an example of a prompt, unrun here: the tests run it where it stands."""
    made.append("```pycon")
    while at < len(lines) and lines[at].strip():
        made.append(lines[at])
        at += 1
    made.append("```")
    return at


def _item(line: str, section: str) -> str:
    if section not in ("Parameters", "Raises", "Attributes") or not line:
        return line
    return f"  {line.strip()}" if line.startswith(" ") else f"- `{line.rstrip(':')}`"


def _inline(text: str) -> str:
    text = re.sub(r":\w+:`~?([\w.]+)`", lambda found: f"`{found[1].removeprefix('vigie.')}`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def _errors() -> str:
    rows = ["## Errors", "| error | is a | exit code | |", "|---|---|---|---|"]
    table = rows[1:]
    for name in errors.__all__:
        cls: Any = getattr(errors, name)
        if not _is_error(cls):
            continue
        bases = ", ".join(f"`{base.__name__}`" for base in cls.__bases__)
        where = f"`vigie.{name}`" if name in vigie.__all__ else f"`vigie.errors.{name}`"
        first = _inline((inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " "))
        table.append(f"| {where} | {bases} | {cls.code} | {first} |")
    return rows[0] + "\n\n" + "\n".join(table)


if __name__ == "__main__":
    sys.exit(generated.main("reference/python.md", "python_reference", body()))
