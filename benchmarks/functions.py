"""Function jobs: submit, run, stored result; in batches, and one at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import HERE, Result, paired, peer_python

#: Jobs of one round.
MANY = 20_000
ONE_BY_ONE = 300
PEER = str(HERE / "peer_huey.py")


class Ours:
    """A home of its own, with warm workers."""

    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="vigie-bench-")
        os.environ["VIGIE_HOME"] = self.directory.name
        import vigie
        import work

        self.work, self.vigie = work, vigie
        for job in vigie.start_many(work.double, [(i,) for i in range(200)]):
            job.wait(60)

    def batch(self) -> float:
        """Give jobs per second of one call that submits, runs and stores them all."""
        began = time.perf_counter()
        jobs = self.vigie.start_many(self.work.double, [(i,) for i in range(MANY)])
        jobs[0]._session.client.wait([job.id for job in jobs])
        took = time.perf_counter() - began
        assert jobs[-1].result(10) == 2 * (MANY - 1)
        return MANY / took

    def one(self) -> float:
        """Give the median milliseconds from a submit to its result."""
        times = []
        for i in range(ONE_BY_ONE):
            began = time.perf_counter()
            assert self.vigie.start(self.work.double, i).result(10) == 2 * i
            times.append(time.perf_counter() - began)
        return sorted(times)[ONE_BY_ONE // 2] * 1000

    def close(self) -> None:
        """End the agent; keeper and workers follow."""
        subprocess.run([sys.executable, "-m", "vigie", "agent", "stop"], capture_output=True, check=False)
        self.directory.cleanup()


class Huey:
    """huey on SQLite without fsync, two worker processes: its quickest set-up."""

    def __init__(self) -> None:
        self.python = peer_python("huey==2.5.3")

    def _run(self, what: str, count: int) -> float:
        with tempfile.TemporaryDirectory(prefix="vigie-bench-") as directory:
            path = str(Path(directory, "huey.db"))
            done = subprocess.run(
                [self.python, PEER, what, path, str(count)], capture_output=True, text=True, check=True, timeout=300
            )
        return float(done.stdout)

    def batch(self) -> float:
        """Give jobs per second."""
        return self._run("batch", MANY // 4)

    def one(self) -> float:
        """Give the median milliseconds from a submit to its result."""
        return self._run("one", ONE_BY_ONE)


def run(rounds: int) -> list[Result]:
    """Measure both figures."""
    ours, huey = Ours(), Huey()
    name = "huey, SQLite, no fsync"
    try:
        batch = paired(ours.batch, huey.batch, rounds)
        one = paired(ours.one, huey.one, rounds)
    finally:
        ours.close()
    return [
        Result(f"{MANY:,} trivial functions: submit, run, stored result", "jobs/s", batch[0], name, batch[1], "≥ 5"),
        Result("one function: submit to result", "ms", one[0], name, one[1], "≤ 1", higher_is_better=False),
    ]
