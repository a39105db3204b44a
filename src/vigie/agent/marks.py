"""Marks: the names of attempts and workers between agent, keeper and /proc.

A mark stands as ``VIGIE_ATTEMPT`` in the environment of a tree, where the agents of
other homes of the same user see it too; so it begins with a tag of its home.
"""

from __future__ import annotations

import os

from vigie.digests import blake2b

__all__ = ["Marks"]


class Marks:
    """The marks of one home.

    >>> marks = Marks("/h")
    >>> marks.parse(marks.of(12, 1)), marks.parse(marks.worker(3)), marks.parse("1.1")
    ((12, 1), (3, None), None)
    """

    def __init__(self, root: str) -> None:
        self.tag = blake2b(os.fsencode(os.path.realpath(root)), digest_size=4).hexdigest()

    def of(self, job: int, attempt: int) -> str:
        """Give the mark of an attempt."""
        return f"{self.tag}.{job}.{attempt}"

    def worker(self, worker: int) -> str:
        """Give the mark of a worker."""
        return f"{self.tag}.w.{worker}"

    def errand(self, agent: int, number: int) -> str:
        """Give the mark of a command that the agent (by its pid) wants an answer of, and that is no job."""
        return f"{self.tag}.e.{agent}{number:07d}"

    def is_errand(self, mark: str) -> bool:
        """Tell whether a mark is of one."""
        return mark.startswith(f"{self.tag}.e.")

    def parse(self, mark: str) -> tuple[int, int | None] | None:
        """Give (job, attempt) of a mark, (worker, None) of a worker's, None if it is not ours."""
        tag, _, rest = mark.partition(".")
        first, _, second = rest.partition(".")
        if tag != self.tag or not second.isdigit():
            return None
        if first == "w":
            return int(second), None
        return (int(first), int(second)) if first.isdigit() else None
