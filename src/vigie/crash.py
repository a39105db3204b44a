"""Crash points: places where a test may kill the process, free otherwise."""

from __future__ import annotations

import os
import signal

_AT = os.environ.get("VIGIE_CRASH_AT")


def point(name: str) -> None:
    """Die by SIGKILL here if ``VIGIE_CRASH_AT`` names this point."""
    if _AT is not None and name == _AT:
        os.kill(os.getpid(), signal.SIGKILL)
