"""The function that the torture runs as a job: it leaves a line and ends as it is told."""

from __future__ import annotations

import os
import sys
import time


def job(witness: str, token: str, seconds: float = 0, how: str = "return") -> str:
    """Append one line in one write, then end by ``return``, ``raise``, ``exit`` or ``_exit``."""
    fd = os.open(witness, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, f"{os.environ['VIGIE_ATTEMPT']} {token}\n".encode())
    finally:
        os.close(fd)
    time.sleep(seconds)
    if how == "raise":
        raise ValueError(token)
    if how == "exit":
        sys.exit(3)
    if how == "_exit":
        os._exit(4)
    return token
