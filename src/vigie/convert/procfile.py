"""From a Procfile to a vigie.toml: a line ``web: bundle exec …`` is a service.

The rules are those of foreman: each process gets ``PORT``, 100 more than the one before, from 5000 on
or from the ``PORT`` that is set; ``.env`` beside the file is read. A process that ends well has ended;
one that fails is restarted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from vigie.errors import UsageError

__all__ = ["parse_procfile", "to_toml"]

_LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(.+)")
PORT = 5000


def parse_procfile(text: str, shown: str = "Procfile") -> list[tuple[str, str]]:
    """Give name and command line of each process, in their order.

    Raises
    ------
    UsageError
        When a line is none, or a name stands there twice.

    >>> parse_procfile("web: ./serve -p $PORT\\n# no\\nworker: ./work\\n")
    [('web', './serve -p $PORT'), ('worker', './work')]
    """
    found: list[tuple[str, str]] = []
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise UsageError(f"{shown}:{number}: {line.strip()!r} is no process", "web: ./serve --port $PORT")
        name, command = match.groups()
        if any(name == other for other, _ in found):
            raise UsageError(f"{shown}:{number}: {name} stands there twice", "give one another name")
        found.append((name, command))
    if not found:
        raise UsageError(f"{shown} names no process", "web: ./serve --port $PORT")
    return found


def to_toml(processes: Sequence[tuple[str, str]], *, project: str | None, env_file: bool, port: int = PORT) -> str:
    """Write the same as a vigie.toml.

    >>> print(to_toml([("web", "./serve")], project=None, env_file=False))
    [service.web]
    shell = "./serve"
    restart = "on-failure"
    env = { PORT = "5000" }
    <BLANKLINE>
    """
    parts = [] if project is None else [f"project = {json.dumps(project)}\n"]
    for at, (name, command) in enumerate(processes):
        lines = [f"[service.{name}]", f"shell = {_text(command)}", 'restart = "on-failure"']
        lines.append(f'env = {{ PORT = "{port + 100 * at}" }}')
        if env_file:
            lines.append('env_file = ".env"')
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _text(text: str) -> str:
    """Write a TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
