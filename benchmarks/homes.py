"""A home for one bench, of which nothing stays: each has agent, keeper and store of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vigie.config import Home
from vigie.place import Place

#: The program as installed.
VIGIE = os.path.join(os.path.dirname(sys.executable), "vigie")
#: The queue that hands nothing out.
HELD = "held"


@contextmanager
def own_home() -> Iterator[Home]:
    """Give a home with its agent running; ``VIGIE_HOME`` names it meanwhile."""
    with Place("vigie-bench-") as place:
        vigie("agent", "start")
        yield place.home


def env_of(home: Home) -> dict[str, str]:
    """Give the environment in which a process uses a home."""
    return {**os.environ, "VIGIE_HOME": home.root}


def vigie(*words: str, home: Home | None = None) -> None:
    """Run the program, in the home that the environment names unless told."""
    env = None if home is None else env_of(home)
    subprocess.run([VIGIE, *words], env=env, capture_output=True, check=True)


def hold(home: Home) -> None:
    """Make the paused queue."""
    vigie("queue", "set", HELD, "--slots", "1", home=home)
    vigie("queue", "pause", HELD, home=home)
