"""What the tests of jobs ask for: lines of a shell as jobs, and the agent itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(__file__))
import vigie
from vigie.session import session


def command(line: str, **options: object) -> vigie.Job:
    """Start a line of a shell."""
    return vigie.start(["/bin/sh", "-c", line], **options)


def until_there(path: Path) -> str:
    """Give a line of a shell that runs until a file appears."""
    return f"while [ ! -e {path} ]; do sleep 0.02; done"


def call(op: str, **fields: object) -> dict[str, object]:
    """Ask the agent."""
    return session().client.call(op, **fields)
