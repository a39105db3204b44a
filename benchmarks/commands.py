"""Commands: a thousand of /bin/true, and the whole process of ``vigie start``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness import Result, paired, timed

MANY = 1000


@contextmanager
def home() -> Iterator[str]:
    """Give a home of its own, with its agent running."""
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as directory:
        os.environ["VIGIE_HOME"] = directory
        subprocess.run([sys.executable, "-m", "vigie", "agent", "start"], capture_output=True, check=True)
        try:
            yield directory
        finally:
            subprocess.run([sys.executable, "-m", "vigie", "agent", "stop"], capture_output=True, check=False)


def many() -> float:
    """Give the seconds of a thousand jobs of /bin/true, from one call to all completed."""
    from vigie.session import session

    client = session().client
    task = {"kind": "command", "argv": ["/bin/true"], "label": "true"}
    context = {"cwd": "/", "env": {"PATH": os.environ["PATH"]}, "umask": 18, "python": None, "path": []}
    began = time.perf_counter()
    ids = client.call("submit", task=task, context=context, job={}, count=MANY)["ids"]
    client.wait(ids)
    return time.perf_counter() - began


def xargs() -> float:
    """Give the seconds of the same by xargs, two at a time."""
    began = time.perf_counter()
    subprocess.run(
        ["xargs", "-P2", "-n1", "/bin/true"], input="x\n" * MANY, text=True, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def run(rounds: int) -> list[Result]:
    """Measure both figures."""
    vigie = os.path.join(os.path.dirname(sys.executable), "vigie")
    python = [sys.executable, "-c", "pass"]
    with home():
        jobs = paired(many, xargs, rounds)
        start = paired(lambda: timed([vigie, "start", "--", "true"]), lambda: timed(python), rounds * 4)
    return [
        Result(f"{MANY:,} jobs of /bin/true", "s", jobs[0], "xargs -P2", jobs[1], "≤ 2.5", higher_is_better=False),
        Result(
            "`vigie start -- true`, whole process", "s", start[0], "python -c pass", start[1], "≤ 3",
            higher_is_better=False,
        ),
    ]  # fmt: skip
