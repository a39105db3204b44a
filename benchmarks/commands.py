"""Commands: a thousand of /bin/true, and the whole process of ``vigie start``."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import peers
from harness import Result, in_turn, scaled, timed
from homes import VIGIE, own_home

MANY = 1_000


def many() -> float:
    """Give the seconds of a thousand jobs of /bin/true, from one call to all completed."""
    from vigie.session import session

    client = session().client
    task = {"kind": "command", "argv": ["/bin/true"], "label": "true"}
    context = {"cwd": "/", "env": {"PATH": os.environ["PATH"]}, "umask": 18, "python": None, "path": []}
    began = time.perf_counter()
    ids = client.call("submit", task=task, context=context, job={}, count=scaled(MANY))["ids"]
    answer, _ = client.wait(ids)
    took = time.perf_counter() - began
    assert set(answer["states"].values()) == {"completed"}
    return took


def xargs() -> float:
    """Give the seconds of the same by xargs, two at a time."""
    words = "x\n" * scaled(MANY)
    began = time.perf_counter()
    subprocess.run(["xargs", "-P2", "-n1", "/bin/true"], input=words, text=True, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def run(rounds: int) -> list[Result]:
    """Measure both figures."""
    peers.program("xargs", "findutils")
    with own_home():
        jobs, by_xargs = in_turn([many, xargs], rounds)
        starts, passes = in_turn(
            [
                lambda: timed([VIGIE, "start", "--", "true"]) * 1000,
                lambda: timed([sys.executable, "-c", "pass"]) * 1000,
            ],
            scaled(rounds * 4, least=1),
        )
    title = f"{scaled(MANY):,} jobs of /bin/true, submitted in one call"
    return [
        Result("commands", title, "s", jobs, "xargs -P2", by_xargs),
        Result("start", "`vigie start -- true`, whole process", "ms", starts, "python3 -c pass", passes),
    ]
