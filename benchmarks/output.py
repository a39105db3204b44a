"""A job that writes 900 MB, beside the same command with its output in a file; the disk varies more than either."""

from __future__ import annotations

import os
import subprocess
import time

from harness import Result, in_turn, scaled
from homes import own_home
from processes import Memory

from vigie.config import Home

BYTES = 900_000_000


class Flood:
    """Both sides write on one file system, and begin with nothing left to be written."""

    def __init__(self, home: Home) -> None:
        from vigie.presence import agent_pid

        self.home = home
        self.bytes = scaled(BYTES)
        self.command = ["head", "-c", str(self.bytes), "/dev/zero"]
        self.memory = Memory(agent_pid(home))
        #: By how many MB the agent grew in each round.
        self.grown: list[float] = []

    def ours(self) -> float:
        """Give the seconds from a submit to the end."""
        import vigie

        self.memory.mark()
        began = time.perf_counter()
        job = vigie.start(self.command)
        assert job.result(120) == 0
        took = time.perf_counter() - began
        self.grown.append(self.memory.growth() / 1e6)
        path = self.home.job_file(job.id, "out")
        assert os.path.getsize(path) == self.bytes
        job.remove()
        assert not os.path.exists(path)
        os.sync()
        return took

    def redirected(self) -> float:
        """Give the seconds of the command alone."""
        path = os.path.join(self.home.root, "redirected")
        began = time.perf_counter()
        with open(path, "wb") as file:
            subprocess.run(self.command, stdout=file, check=True)
        took = time.perf_counter() - began
        assert os.path.getsize(path) == self.bytes
        os.unlink(path)
        os.sync()
        return took


def run(rounds: int) -> list[Result]:
    """Measure both."""
    with own_home() as home:
        flood = Flood(home)
        ours, alone = in_turn([flood.ours, flood.redirected], scaled(rounds * 5, least=1))
    grown = flood.grown[-len(ours) :]  # without the round to warm up
    title = f"a job writes {flood.bytes / 1e6:,.0f} MB to stdout"
    return [
        Result("output", title, "s", ours, "the command alone, into a file", alone),
        Result("output-memory", "… and how far the agent's memory rises above what it was", "MB", grown),
    ]
