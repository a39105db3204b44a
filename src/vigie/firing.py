"""What becomes of a planned instant: the rules, with no clock and no store.

Two moments have rules. When instants have passed and nobody was there
(:func:`settle`), catch-up says which of them run after all. When an instant has come
(:func:`judge`), the policy says whether it runs now, behind what still runs, in the
place of it, or not at all. Each planned instant ends as ``ran``, ``late``,
``caught-up`` or ``skipped`` with a reason, exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass

from vigie.digests import blake2b
from vigie.policies import Policy
from vigie.triggers.wall import DAY, Zone
from vigie.values import format_duration

__all__ = [
    "ABSENCE",
    "FORWARD",
    "LATE",
    "REASONS",
    "Run",
    "Skip",
    "Standing",
    "among",
    "delay",
    "judge",
    "longest_delay",
    "settle",
    "unhindered",
]

#: Later than this (µs) a run is called late.
LATE = 1_000_000
#: An agent that was away for less than this was late, not down.
ABSENCE = 60_000_000
#: A wall clock that is set forward by no more than this makes runs late; by more, it is downtime.
FORWARD = 3 * 3600 * 1_000_000

REASONS = {
    "overlap": "an earlier run had not ended",
    "condition": "a condition did not hold",
    "blackout": "it fell into a blackout window",
    "too-late": "it would have started too late",
    "asleep": "the machine slept",
    "down": "no agent was running",
    "paused": "the schedule was paused",
    "limit": "the schedule has had all its runs",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How things are when an instant has come: the time, and the schedule's jobs that have not ended (oldest first)."""

    now: int
    open: tuple[int, ...] = ()
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """It runs: as what, behind which jobs, and which of them are stopped for it."""

    outcome: str
    after: tuple[int, ...] = ()
    stop: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Skip:
    """It does not, and why: one of :data:`REASONS`, and a sentence."""

    reason: str
    detail: str | None = None


def settle(policy: Policy, count: int) -> int:
    """Say how many of ``count`` missed instants are caught up.

    >>> settle(Policy(), 5), settle(Policy(catch_up="none"), 5)
    (1, 0)
    """
    most = {"none": 0, "latest": 1, "all": policy.catch_up_limit}[policy.catch_up]
    return min(count, most)


def judge(policy: Policy, zone: Zone, due: int, missed: bool, period: int | None, how: Standing) -> Run | Skip:
    """Say what becomes of an instant that has come.

    Parameters
    ----------
    due:
        When it was to run, its jitter included.
    missed:
        It passed in an absence and is caught up.
    period:
        Time to the next instant, where there is one and the run is later than :data:`ABSENCE`: the longest lateness,
        unless the policy names another.

    >>> from zoneinfo import ZoneInfo
    >>> utc = Zone("UTC", ZoneInfo("UTC"))
    >>> judge(Policy(), utc, 0, False, None, Standing(now=5, open=(7,)))
    Skip(reason='overlap', detail='job 7 had not ended')
    """
    lateness = how.now - due
    longest = policy.lateness
    if longest is None:
        longest = min(DAY, max(period or DAY, ABSENCE))
    if policy.max_runs is not None and how.runs >= policy.max_runs:
        return Skip("limit", f"all its {policy.max_runs} runs are done")
    if lateness > longest:
        return Skip("too-late", f"{format_duration(lateness)} late, and {format_duration(longest)} is the most")
    for blackout in policy.blackouts:
        if blackout.covers(zone.wall(how.now)):
            return Skip("blackout", f"in {blackout.text}")
    outcome = "caught-up" if missed else "late" if lateness > LATE else "ran"
    return among(policy, outcome, how.open)


def unhindered(policy: Policy) -> int | None:
    """Give up to how late (µs) an instant just runs while no job of its schedule is open; None if more has a say.

    This is what :func:`judge` says of most instants, so that it need not be asked of each.

    >>> unhindered(Policy()), unhindered(Policy(lateness=10)), unhindered(Policy(max_runs=3))
    (60000000, 10, None)
    """
    if policy.max_runs is not None or policy.blackouts or policy.conditions:
        return None
    return ABSENCE if policy.lateness is None else min(policy.lateness, ABSENCE)


def among(policy: Policy, outcome: str, others: tuple[int, ...]) -> Run | Skip:
    """Say the same as far as the schedule's open jobs matter, oldest first."""
    if not others or policy.overlap == "parallel":
        return Run(outcome)
    if policy.overlap == "replace":
        return Run(outcome, after=others, stop=others)
    if policy.overlap == "skip":
        return Skip("overlap", f"job {others[-1]} had not ended")
    waiting, most = len(others) - 1, 1 if policy.overlap == "queue_one" else policy.overlap_limit
    if waiting >= most:
        return Skip("overlap", f"job {others[0]} had not ended, and {waiting} waited behind it")
    return Run(outcome, after=others[-1:])


def delay(policy: Policy, name: str, instant: int) -> int:
    """Give the jitter of an instant in µs: the same for all of a schedule, or another for each.

    >>> delay(Policy(), "nightly", 0), 0 <= delay(Policy(jitter=10), "nightly", 0) <= 10
    (0, True)
    """
    if not policy.jitter:
        return 0
    seed = f"{name}\0{instant}" if policy.random else name
    number = int.from_bytes(blake2b(seed.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")
    return number % (policy.jitter + 1)


def longest_delay(policy: Policy, name: str) -> int:
    """Give the longest jitter of an instant in µs.

    >>> longest_delay(Policy(jitter=10, random=True), "nightly")
    10
    """
    return policy.jitter if policy.random else delay(policy, name, 0)
