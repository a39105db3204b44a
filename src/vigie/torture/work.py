"""The function that the torture runs as a job: it leaves a line and ends as it is told."""

from __future__ import annotations

import os
import subprocess
import sys
import time

__all__ = ["job"]


def job(witness: str, token: str, seconds: float = 0, how: str = "return") -> str:
    """Append a line to the witness in one write, then end.

    Parameters
    ----------
    witness:
        The file.
    token:
        What the line says beside the attempt's mark.
    seconds:
        How long to take.
    how:
        To end by ``return``, ``raise``, ``exit`` (3) or ``_exit`` (4); ``child`` returns
        too, and leaves a process behind.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "witness")
    >>> os.environ["VIGIE_ATTEMPT"] = "01234567.9.1"
    >>> job(str(path), "token"), path.read_text()
    ('token', '01234567.9.1 token\\n')
    >>> del os.environ["VIGIE_ATTEMPT"]
    """
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
    if how == "child":
        subprocess.Popen(["sleep", "600"])
    return token
