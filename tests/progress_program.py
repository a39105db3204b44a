"""A program of its own that shows how far it is, and says itself what the time is."""

from __future__ import annotations

import os

from vigie.parallel.progress import WORKER

#: A program that says itself what the time is.
PRELUDE = """
import logging, os, subprocess, sys
from vigie.parallel.progress import SHORT, Progress, display
class Clock:
    now = 0.0
    def __call__(self): return self.now
clock = Clock()
def step(progress, seconds=1.0, **counts):
    clock.now += seconds
    progress.update(**({"failed": 0, "running": 2} | counts))
"""


def environment(**more: str | None) -> dict[str, str]:
    unwanted = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONUNBUFFERED", WORKER)
    made = {name: value for name, value in os.environ.items() if name not in unwanted}
    made |= {"TERM": "xterm-256color", "PYTHONUTF8": "1"}
    for name, value in more.items():
        made.pop(name, None)
        if value is not None:
            made[name] = value
    return made
