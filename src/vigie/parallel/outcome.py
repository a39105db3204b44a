"""What became of an item of a parallel run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Outcome"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of one item.

    Attributes
    ----------
    index:
        Its place among the items, from 0 on.
    value:
        What the function returned; None if it did not.
    error:
        What it raised, :class:`~vigie.errors.ItemTimeout`, :class:`~vigie.errors.WorkerDied`, or None.
    attempts:
        How often it was tried.
    duration:
        Seconds of the last try.
    worker:
        The number of the worker that had it last.
    signal:
        What killed its worker, if that is what happened.
    peak_rss:
        The most memory that its worker had held until then, in bytes; of items over 10 ms in processes.
    """

    index: int
    value: T | None
    error: BaseException | None
    attempts: int
    duration: float
    worker: int
    signal: int | None = None
    peak_rss: int | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None
