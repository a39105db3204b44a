"""A client of the torture: starts jobs of every kind, and notes each one that was acknowledged.

Run as ``python -m vigie.torture.client SEED DIRECTORY RATE [KINDS]``. Each attempt appends
its mark and a token to ``witness`` in the directory; each acknowledgement becomes a line
of ``notes``, on disk before anything else happens. It goes on until it is killed, or
whoever started it is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import sys
import time
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any

import vigie
from vigie.torture import work

if TYPE_CHECKING:
    from collections.abc import Callable

    from vigie.handle import Job

__all__ = ["KINDS", "Client", "main"]

#: Kinds of step, and how often each is chosen.
KINDS = {
    "command": 40,
    "function": 36,
    "batch": 3,
    "rerun": 4,
    "retries": 3,
    "key": 4,
    "delayed": 3,
    "chained": 3,
    "output": 2,
    "missing": 1,
    "child": 1,
    "fresh": 1,
}
#: What happens to a job that was started, in the same measure.
_STOPPED, _SUSPENDED = 4, 4
#: Jobs without a known end at which a client waits for the oldest: else a slow machine
#: would never come to the end of them.
_MOST_OPEN = 40
_PATIENCE = 2.0
#: Seconds of an outage that a client makes up for.
_CATCH_UP = 0.5
_FRESH = vigie.task(fresh=True)(work.job)


class Client:
    """One random sequence of jobs.

    Parameters
    ----------
    seed:
        Of the sequence; tokens begin with it.
    directory:
        Where ``notes`` and ``witness`` are.
    rate:
        Jobs a second, at most.
    kinds:
        Kinds of step to choose from.
    """

    def __init__(self, seed: int, directory: str, rate: float, kinds: list[str]) -> None:
        self.seed = seed
        self.witness = os.path.join(directory, "witness")
        self.rate = rate
        self.kinds = kinds
        self.chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be guessed
        self.count = 0
        self.open: deque[Job] = deque()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._notes = os.open(os.path.join(directory, "notes"), flags, 0o600)
        self._due = time.monotonic()

    def note(self, *said: dict[str, Any]) -> None:
        """Put facts on disk."""
        os.write(self._notes, b"".join(json.dumps(one).encode() + b"\n" for one in said))
        os.fsync(self._notes)

    def _token(self) -> str:
        return f"{self.seed}-{self.count}"

    # --- what it starts -------------------------------------------------------

    def command(self, code: int = 0, **options: Any) -> Job:
        """Start a command that ends with a code."""
        token = self._token()
        pause = self.chance.choice(["", "", "", "sleep 0.02; ", "sleep 0.2; "])
        line = f'echo "$VIGIE_ATTEMPT {token}" >> {shlex.quote(self.witness)}; {pause}exit {code}'
        job = vigie.start(["/bin/sh", "-c", line], **options)
        retries = options.get("retries", 0)
        self.note({"job": job.id, "token": token, "how": "command", "code": code, "retries": retries})
        return job

    def output(self) -> Job:
        """Start a command that says its token on both streams."""
        token = self._token()
        mark = f'echo "$VIGIE_ATTEMPT {token}" >> {shlex.quote(self.witness)}'
        job = vigie.start(["/bin/sh", "-c", f"{mark}; echo {token}; echo {token} >&2"])
        self.note({"job": job.id, "token": token, "how": "command", "code": 0, "says": token})
        return job

    def missing(self) -> Job:
        """Start a command that does not exist."""
        job = vigie.start(["/nonexistent/command"])
        self.note({"job": job.id, "token": self._token(), "how": "missing"})
        return job

    def function(self, how: str | None = None, *, fresh: bool = False) -> Job:
        """Start a function that ends in a way, in a process of its own if it is to be fresh."""
        token = self._token()
        how = how or self.chance.choice(["return", "return", "return", "raise", "exit", "_exit"])
        function = _FRESH if fresh else work.job
        job = vigie.start(function, self.witness, token, self.chance.choice([0, 0, 0, 0.05]), how)
        self.note({"job": job.id, "token": token, "how": how})
        return job

    def batch(self) -> Job:
        """Start many tiny functions in one request; the first of them takes its time."""
        tokens = [f"{self._token()}.{i}" for i in range(self.chance.choice([5, 20, 60]))]
        calls = [(self.witness, token, 0.05 if i == 0 else 0) for i, token in enumerate(tokens)]
        jobs = vigie.start_many(work.job, calls)
        self.note(*({"job": job.id, "token": token, "how": "return"} for job, token in zip(jobs, tokens, strict=True)))
        self.open.extend(jobs[:-1])
        return jobs[-1]

    def start(self, kind: str) -> Job:
        """Start the job, or the jobs, of a kind; give the last."""
        chance, last = self.chance, [self.open[-1]] if self.open else []
        kinds: dict[str, Callable[[], Job]] = {
            "command": lambda: self.command(chance.choice([0, 0, 5])),
            "function": self.function,
            "batch": self.batch,
            "rerun": lambda: self.command(on_lost="rerun"),
            "retries": lambda: self.command(9, retries=2, backoff=0.02),
            "key": lambda: self.command(concurrency={"key": 1}),
            "delayed": lambda: self.command(delay=chance.choice([0.05, 0.5])),
            "chained": lambda: self.command(after_any=last),
            "output": self.output,
            "missing": self.missing,
            "child": lambda: self.function("child"),
            "fresh": lambda: self.function("return", fresh=True),
        }
        return kinds[kind]()

    # --- its life -------------------------------------------------------------

    def step(self) -> None:
        """Start one job, and now and then stop it, or suspend and resume it."""
        self.count += 1
        before = len(self.open)
        kind = self.chance.choices(self.kinds, [KINDS[kind] for kind in self.kinds])[0]
        job = self.start(kind)
        self.open.append(job)
        what = self.chance.randrange(100)
        if what < _STOPPED or (kind == "batch" and what < 40):
            self.note({"stop": job.id})
            job.stop(grace=0.1)
        elif what < _STOPPED + _SUSPENDED:
            # Ended before it could be frozen: that is refused, and fine.
            with contextlib.suppress(vigie.VigieError):
                job.suspend()
            job.resume()
        self._pace(len(self.open) - before)

    def _pace(self, started: int) -> None:
        while len(self.open) > _MOST_OPEN:
            with contextlib.suppress(vigie.WaitTimeout):
                self.open[0].wait(_PATIENCE)
            self.open.popleft()
        now = time.monotonic()
        # An outage is followed by a burst, within reason.
        self._due = max(self._due + started / self.rate, now - _CATCH_UP)
        time.sleep(max(0.0, self._due - now))


def main(argv: list[str]) -> None:
    """Go on until killed, or alone."""
    kinds = argv[3].split(",") if len(argv) > 3 else list(KINDS)
    client = Client(int(argv[0]), argv[1], float(argv[2]), kinds)
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            client.step()
        except vigie.VigieError:
            # Ended before it could be resumed, say; whatever was acknowledged is noted.
            traceback.print_exc()


if __name__ == "__main__":
    main(sys.argv[1:])
