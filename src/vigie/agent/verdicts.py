"""Verdicts on firings by what is stored of them: which need no thought, and which concern only their own job.

Most firings just run: nothing but being late could hinder them, and they are not.
To see that takes a look at their row; what the texts in it mean is worked out once.
"""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache

from vigie import firing as rules
from vigie.agent.whens import policy_of
from vigie.errors import VigieError
from vigie.store.schedules import FiringRow

__all__ = ["at_once", "is_plain"]


def at_once(row: FiringRow, now: int, busy: Container[str]) -> str | None:
    """Give the outcome of a firing that is plain and just runs; None if that needs more thought.

    Parameters
    ----------
    busy:
        Names of the schedules of which a job has not ended.
    """
    late = now - row.due
    if (
        not 0 <= late <= _may_be_late(row.policy, row.job)
        or row.state == "paused" or row.name in busy or row.missed or row.cause or row.again
    ):  # fmt: skip
        return None
    return "late" if late > rules.LATE else "ran"


def is_plain(row: FiringRow, verdict: rules.Run) -> bool:
    """Tell whether a firing that runs concerns nothing but its own job."""
    return not (
        verdict.after or verdict.stop or row.cause or row.again or not _alone(row.job)
        or policy_of(row.policy).max_runs is not None
    )  # fmt: skip


@lru_cache(maxsize=1_000)
def _may_be_late(policy: str, job: str) -> int:
    """Give up to how late (µs) firings of a policy and of options of jobs need no thought; -1: they all do."""
    try:
        longest = rules.unhindered(policy_of(policy))
    except VigieError:
        return -1  # who thinks about it says so
    return longest if longest is not None and _alone(job) else -1


def _alone(job: str) -> bool:
    """Tell whether the stored options of a job name nothing that has rows of its own."""
    return "concurrency" not in job and "tags" not in job
