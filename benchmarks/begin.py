"""How several client processes begin together; run by any Python, with nothing installed."""

from __future__ import annotations

import sys
from collections.abc import Callable


def at_the_word(work: Callable[[], object]) -> None:
    """Say that we are ready, wait for the word, do the work, and say that it is done."""
    print("ready", flush=True)
    if not sys.stdin.readline():
        sys.exit("nobody gave the word")
    work()
    print("done", flush=True)
