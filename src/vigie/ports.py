"""The seams: what the agent's duties ask of the world around them.

The duties under ``agent/`` decide inside a transaction and record *effects*;
the hands carry them out after the commit. In production the hands are the
keeper's and the workers' connections, in a simulation they are a script.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vigie.outcome import Good

__all__ = ["Clock", "Hands"]


class Clock(Protocol):
    """Both clocks, in µs."""

    def wall(self) -> int:
        """Give the instant in µs UTC."""

    def mono(self) -> int:
        """Give CLOCK_MONOTONIC in µs: one time line for all processes of a boot."""


class Hands(Protocol):
    """What the agent does to the world, always after the commit that decided it."""

    def spawn_command(self, job: int, attempt: int, lane: str | None = None, width: int | None = None) -> None:
        """Have the keeper run a command's attempt, at once or when fewer than ``width`` live in its lane."""

    def withdraw(self, attempts: Sequence[tuple[int, int]]) -> None:
        """Have the keeper drop those of the commands that it holds."""

    def withdrawn(self, job: int, attempt: int) -> None:
        """Let go of what was kept for a command that will not begin."""

    def spawn_worker(self, worker: int) -> None:
        """Have the keeper run a worker."""

    def send_jobs(self, worker: int, jobs: Sequence[tuple[int, int, int]]) -> None:
        """Give a worker its next jobs: (seq, job, attempt), rising."""

    def acknowledge(self, worker: int, seq: int) -> None:
        """Tell a worker, now or with its next jobs, that outcomes up to seq are committed."""

    def quit_worker(self, worker: int) -> None:
        """Let a worker end when it has nothing to do."""

    def forget(self, marks: Sequence[str]) -> None:
        """Tell the keeper that ends are committed."""

    def take_back(self, worker: int, seq: int) -> bool:
        """Take every job from seq on back from a worker; False if seq has begun."""

    def terminate(self, job: int, attempt: int, grace: int) -> None:
        """End the whole tree of an attempt."""

    def freeze(self, job: int, attempt: int) -> None:
        """Stop the whole tree of an attempt."""

    def thaw(self, job: int, attempt: int) -> None:
        """Let the whole tree of an attempt go on."""

    def released(self, job: int, attempt: int) -> None:
        """Let go of what was held for an attempt that is over: its alarm, its samples."""

    def finished(self, job: int) -> None:
        """Tell whoever waits that a job has ended."""

    def over(self, ends: Sequence[Good]) -> None:
        """Do both for many functions that returned, and their jobs."""

    def keep_records(self, job: int, attempt: int, records: bytes) -> None:
        """Write an attempt's records to its file: the one act before the commit, and repeatable."""

    def delete_files(self, job: int) -> None:
        """Delete the files of a removed job."""
