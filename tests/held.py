"""Commands that the agent has claimed ahead, so that the keeper holds them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import vigie
from vigie.agent.ahead import MEMORY
from vigie.session import session

LANE = "lane"


@dataclass
class Held:
    """One slot, a command in it that lasts, and others behind it."""

    busy: vigie.Job
    jobs: list[vigie.Job] = field(default_factory=list)

    def stop(self) -> None:
        """End them all, those that are held first."""
        for job in [*self.jobs, self.busy]:
            job.stop(grace=0)


def hold_commands(
    assigned: Callable[[], set[int]], count: int = 3, while_: Callable[[], bool] = lambda: True,
    words: tuple[str, ...] = ("true",),
) -> Held:  # fmt: skip
    """Have the keeper hold commands; ``assigned`` gives the ids of the jobs that the store calls so."""
    call = session().client.call
    call("queue_set", name=LANE, slots=1)
    deadline = time.monotonic() + 30
    while while_():
        for job in [vigie.start(["true"], queue=LANE) for _ in range(MEMORY)]:
            job.wait(30)
        held = Held(vigie.start(["sleep", "600"], queue=LANE))
        held.jobs += [vigie.start(list(words), queue=LANE) for _ in range(count)]
        if {job.id for job in held.jobs} <= assigned():
            return held
        # The machine was so busy that they did not look short.
        held.stop()
        assert time.monotonic() < deadline, "nothing is claimed ahead"
    raise AssertionError(f"nothing is needed any more; {os.getpid()}")
