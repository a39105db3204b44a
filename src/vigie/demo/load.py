"""The crash: many small jobs, agent and keeper killed among them, and the count after it.

Every job writes one line into ``witness`` when it runs. So two independent books are
kept, the store's and the witness's, and :class:`Count` compares them with the list of
what was acknowledged.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from vigie import procs
from vigie.demo import work
from vigie.demo.stage import Broken
from vigie.errors import VigieError
from vigie.model import FINISHED
from vigie.session import session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vigie.demo.stage import Stage
    from vigie.handle import Job
    from vigie.place import Place

__all__ = ["Count", "survive"]

#: Seconds for all jobs to end.
_LONGEST = 60.0
_LOOK = 0.05

_TYPED = """\
import vigie
from vigie.demo.work import command, note
for n, file in enumerate(files):
    jobs.append(vigie.start(command(n, file)))
    jobs.append(vigie.start(note, n, file))
"""


class Count(NamedTuple):
    """What became of the acknowledged jobs.

    Each field but ``accepted`` holds the ids it counts: ``completed``; ``marked``, of
    which the store says ``lost`` (they ran while nobody was left to see the end);
    ``vanished``, of which it knows nothing; ``unended``, which had no end when we stopped
    to wait; ``failed``, with any other end;
    ``unwitnessed``, which it calls completed and nobody saw run; ``twice``, with more
    than one line in the witness; ``doubled``, whose id was given to two submits.
    """

    accepted: int
    completed: list[int]
    marked: list[int]
    vanished: list[int]
    unended: list[int]
    failed: list[int]
    unwitnessed: list[int]
    twice: list[int]
    doubled: list[int]

    @classmethod
    def of(cls, accepted: Sequence[tuple[int, str]], states: Mapping[int, str], lines: Sequence[str]) -> Count:
        """Compare the three books.

        Parameters
        ----------
        accepted:
            Id and key of each job that was acknowledged.
        states:
            What the store says of each id.
        lines:
            The witness: one line an execution, which begins with the key.

        >>> Count.of([(1, "a"), (2, "b")], {1: "completed", 2: "completed"}, ["a 9", "b 9", "b 9"]).twice
        [2]
        """
        ran = Counter(line.split(" ", 1)[0] for line in lines)
        ids = [job for job, _ in accepted]
        by_state: dict[str, list[int]] = {}
        for job in ids:
            by_state.setdefault(states.get(job, "vanished"), []).append(job)
        completed, marked = by_state.pop("completed", []), by_state.pop("lost", [])
        failed = [job for state in ("failed", "stopped") for job in by_state.pop(state, [])]
        return cls(
            accepted=len(ids),
            completed=completed,
            marked=marked,
            vanished=by_state.pop("vanished", []),
            unended=[job for rest in by_state.values() for job in rest],
            failed=failed,
            unwitnessed=[job for job, key in accepted if states.get(job) == "completed" and not ran[key]],
            twice=[job for job, key in accepted if ran[key] > 1],
            doubled=[job for job, times in Counter(ids).items() if times > 1],
        )

    @property
    def broken(self) -> list[str]:
        """What did not hold, in words; nothing, if all did."""
        told = {
            "vanished without a trace": self.vanished,
            f"have not ended after {_LONGEST:.0f} s": self.unended,
            "failed, though their work cannot": self.failed,
            "are called completed and never ran": self.unwitnessed,
            "ran twice": self.twice,
            "share an id with another": self.doubled,
        }
        return [f"{len(ids)} {what} ({', '.join(map(str, ids[:5]))})" for what, ids in told.items() if ids]

    @property
    def headline(self) -> str:
        """The count in a line.

        >>> Count(9, [1], [], [], [], [], [], [], []).headline
        '9 accepted, 0 lost, 0 run twice'
        >>> Count(9, [1], [2], [], [], [], [], [], []).headline
        '9 accepted, 0 lost without a trace, 0 run twice; 1 ended unseen and is marked so'
        """
        trace, unseen = "", ""
        if self.marked:
            trace = " without a trace"
            unseen = f"; {len(self.marked)} ended unseen and {'is' if len(self.marked) == 1 else 'are'} marked so"
        return f"{self.accepted} accepted, {len(self.vanished)} lost{trace}, {len(self.twice)} run twice{unseen}"


def survive(stage: Stage, place: Place, jobs: int) -> None:
    """Submit ``jobs`` jobs, kill agent and keeper meanwhile, wait, and count.

    Raises
    ------
    Broken
        When an acknowledged job vanished, ran twice, or was called completed unseen.
    """
    stage.scene(
        f"5. kill -9 of agent and keeper, in the middle of {jobs} jobs",
        "Each takes the checksum of one of the files, and notes it as a line in the file witness.",
    )
    stage.vigie("agent", "status")
    found = work.files_of("tree")
    files = [found[n % len(found)] for n in range(jobs // 2)]
    made: list[Job] = []
    killer = _Killer(stage, made, len(files) // 2)
    killer.start()
    try:
        stage.python(_TYPED, {"files": files, "jobs": made})
    finally:
        killer.finish()
    _await(stage, made)
    count = _count(made)
    _tell(stage, count)
    if count.broken:
        raise Broken("a promise did not hold: of the acknowledged jobs " + "; ".join(count.broken))
    if not killer.killed:
        raise Broken(
            "all was over before agent and keeper could be killed: nothing was shown", "vigie demo --jobs 1000"
        )


class _Killer(threading.Thread):
    """Kills agent and keeper once so many jobs are acknowledged and the first have run."""

    def __init__(self, stage: Stage, made: list[Job], after: int) -> None:
        super().__init__(name="demo-killer", daemon=True)
        self._stage = stage
        self._made = made
        self._after = after
        self._over = threading.Event()
        self.killed = False

    def run(self) -> None:
        """Wait for the moment, then kill both."""
        try:
            status = session().client.call("status")
        except VigieError:
            return  # who submits will hear of it too
        victims = [status["pid"], status["keeper"]["pid"]]
        known = [procs.Identity(pid, ticks) for pid in victims if (ticks := procs.start_ticks(pid)) is not None]
        while len(self._made) < self._after or not os.path.exists("witness"):
            if self._over.wait(0.001):
                return
        for identity in known:
            procs.send_signal(identity, signal.SIGKILL)
        self.killed = len(known) == len(victims)
        told = f"kill -9 {' '.join(map(str, victims))}"
        self._stage.typed(f"{told}    # agent and keeper; {len(self._made)} accepted")

    def finish(self) -> None:
        """Let it do what it has begun, and nothing more."""
        self._over.set()
        self.join()


def _await(stage: Stage, made: list[Job]) -> None:
    """Wait until all have ended, saying how many have."""
    reader = session().reader
    ids = [job.id for job in made]
    session().client.connect()
    deadline = time.monotonic() + _LONGEST
    while True:
        # One that is not there any more will not end: that is for the count to say.
        left = sum(row["state"] not in FINISHED for row in reader.rows_of(ids))
        stage.progress(f"{len(made)} accepted, {len(made) - left} ended")
        if not left or time.monotonic() > deadline:
            return
        time.sleep(_LOOK)


def _count(made: list[Job]) -> Count:
    rows: list[dict[str, Any]] = session().reader.rows_of([job.id for job in made])
    with open("witness", encoding="utf-8") as file:
        lines = file.read().splitlines()
    keys = [f"{'cf'[n % 2]}{n // 2}" for n in range(len(made))]
    states = {row["id"]: row["state"] for row in rows}
    return Count.of([(job.id, key) for job, key in zip(made, keys, strict=True)], states, lines)


def _tell(stage: Stage, count: Count) -> None:
    stage.tell("The client has started a new agent by itself, and it a new keeper:")
    stage.vigie("agent", "status")
    if count.marked:
        stage.tell(
            f"{len(count.marked)} ended while neither agent nor keeper was alive to see how. Nobody guesses: "
            "they are marked lost (or run again, with --on-lost rerun)."
        )
        stage.vigie("why", str(count.marked[0]))
    if not count.broken:
        stage.tell(f"{len(count.completed)} are completed, and each has exactly one line in witness:")
    stage.line(stage.paint("red" if count.broken else "green", count.headline))
