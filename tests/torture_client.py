"""A client for the torture: starts jobs of every kind, and notes each one that was acknowledged.

Run as ``torture_client.py SEED WITNESS NOTES``. Each attempt appends its mark and a token to
the witness; each acknowledgement, one line on disk before anything else happens.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import torture_work
import vigie


class Client:
    """One random sequence of jobs.

    Parameters
    ----------
    seed:
        Of the sequence; tokens begin with it.
    witness, notes:
        The files.
    """

    def __init__(self, seed: int, witness: str, notes: str) -> None:
        self.seed = seed
        self.witness = witness
        self.chance = random.Random(seed)
        self.notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.count = 0
        self.last: vigie.Job | None = None

    def note(self, *lines: list[Any]) -> None:
        """Put lines on disk."""
        os.write(self.notes, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        os.fsync(self.notes)

    def command(self, code: int, **options: Any) -> vigie.Job:
        """Start a command that ends with a code."""
        token = f"{self.seed}-{self.count}"
        pause = self.chance.choice([0, 0, 0.02, 0.2])
        line = f"echo $VIGIE_ATTEMPT {token} >> {self.witness}; sleep {pause}; exit {code}"
        job = vigie.start(["/bin/sh", "-c", line], **options)
        self.note([job.id, token, {"code": code}])
        return job

    def function(self, how: str) -> vigie.Job:
        """Start a function that ends in a way."""
        token = f"{self.seed}-{self.count}"
        job = vigie.start(torture_work.job, self.witness, token, self.chance.choice([0, 0, 0.1]), how)
        self.note([job.id, token, {"how": how}])
        return job

    def many(self) -> vigie.Job:
        """Start a batch of tiny functions."""
        tokens = [f"{self.seed}-{self.count}.{i}" for i in range(self.chance.choice([5, 40, 150]))]
        jobs = vigie.start_many(torture_work.job, [(self.witness, token) for token in tokens])
        self.note(*([job.id, token, {"how": "return"}] for job, token in zip(jobs, tokens, strict=True)))
        return jobs[-1]

    def chained(self) -> vigie.Job:
        """Start a command after the job before."""
        return self.command(0, after_any=[] if self.last is None else [self.last])

    def step(self) -> None:
        """Start one job, and now and then stop it, or suspend and resume it."""
        self.count += 1
        chance = self.chance
        kinds: list[Callable[[], vigie.Job]] = [
            lambda: self.command(chance.choice([0, 5])),
            lambda: self.command(0, on_lost="rerun"),
            lambda: self.command(9, retries=2, backoff=0.05),
            lambda: self.command(0, concurrency={"key": 1}),
            lambda: self.command(0, delay=chance.choice([0.05, 0.5])),
            lambda: self.function(chance.choice(["return", "raise", "exit", "_exit"])),
            self.many,
            self.chained,
        ]
        job = self.last = chance.choice(kinds)()
        what = chance.random()
        if what < 0.15:
            self.note([job.id, "", {"stop": True}])
            job.stop(grace=0.1)
        elif what < 0.3:
            job.suspend()
            job.resume()
        elif what < 0.7:
            # Else there would be more work than can ever be done.
            job.wait()


def main() -> None:
    """Go on until killed."""
    client = Client(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    while True:
        try:
            client.step()
        except vigie.VigieError as error:
            # Ended before it could be suspended, say; whatever was acknowledged is noted.
            print(f"{type(error).__name__}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
