"""Every error that Vigie raises, in one tree.

Each message says what happened, to what, and (as ``hint``) what to do next.
``code`` is the exit code of the command line (``docs/reference/cli.md``), and
``kind`` the name that an error has in frames and in JSON.
"""

from __future__ import annotations

__all__ = [
    "AgentUnreachable",
    "Conflict",
    "ExpressionError",
    "ItemStopped",
    "ItemTimeout",
    "JobFailed",
    "JobLost",
    "JobStopped",
    "NotFound",
    "NotSerializable",
    "Refused",
    "StoreError",
    "UsageError",
    "VigieError",
    "WaitTimeout",
    "WorkerDied",
    "from_wire",
]


class VigieError(Exception):
    """The root of the tree.

    Parameters
    ----------
    message:
        What happened, and to what.
    hint:
        What to do next: usually a command to type.
    """

    kind = "error"
    code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint is not None:
            self.add_note(hint)  # a Python program's traceback shows it too

    def to_wire(self) -> dict[str, str | None]:
        """Give the form in which the error travels in a frame."""
        return {"kind": self.kind, "message": self.message, "hint": self.hint}


class UsageError(VigieError, ValueError):
    """The caller's words cannot be carried out: a negative timeout, bad JSON, a cycle."""

    kind = "usage"
    code = 2


class ExpressionError(UsageError):
    """An expression of time cannot be read, or never comes.

    Parameters
    ----------
    what:
        What is wrong, with the field's name: ``hour 25 is not in 0..23``.
    text:
        The whole expression.
    at:
        Where in it, counted from 0.
    expected:
        What could stand there.

    >>> raise ExpressionError("hour 25 is not in 0..23", "0 25 * * *", at=2, expected="0 to 23, or *")
    Traceback (most recent call last):
    vigie.errors.ExpressionError: hour 25 is not in 0..23: "0 25 * * *"
    at character 3: expected 0 to 23, or *
    """

    kind = "expression"

    def __init__(
        self, what: str, text: str | None = None, *, at: int | None = None, expected: str | None = None
    ) -> None:
        place = f"at character {at + 1}" if at is not None else None
        hint = f"{place}: expected {expected}" if place and expected else place or (expected and f"expected {expected}")
        super().__init__(what if text is None else f'{what}: "{text}"', hint)
        self.text = text
        self.at = at
        self.expected = expected


class NotSerializable(UsageError, TypeError):
    """A function, an argument or a result cannot travel to another process."""

    kind = "not_serializable"


class NotFound(VigieError, LookupError):
    """No job, queue or other object has that name or id."""

    kind = "not_found"
    code = 3


class Conflict(VigieError):
    """The request was made against a state that has changed, such as a stale cursor."""

    kind = "conflict"


class Refused(VigieError):
    """The request is understood and not allowed: removing a running job, say."""

    kind = "refused"


class AgentUnreachable(VigieError):
    """The agent cannot be reached or started."""

    kind = "agent"
    code = 4


class StoreError(AgentUnreachable):
    """The store cannot be opened, written or understood: full disk, newer schema, damage."""

    kind = "store"


class WaitTimeout(VigieError, TimeoutError):
    """What was waited for did not come in time; the work itself goes on."""

    kind = "timeout"
    code = 124


class JobFailed(VigieError):
    """A job ended as ``failed``; its remote exception, where there is one, is the cause.

    ``reason`` is one of ``exit signal timeout exception spawn oom dependency``.
    """

    kind = "job_failed"

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        job: int | None = None,
        reason: str | None = None,
        exit_code: int | None = None,
        signal: int | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.job = job
        self.reason = reason
        self.exit_code = exit_code
        self.signal = signal


class JobStopped(JobFailed):
    """A job was stopped before it had a result."""

    kind = "job_stopped"


class JobLost(JobFailed):
    """A job ended and nobody can know how."""

    kind = "job_lost"


class ItemTimeout(VigieError, TimeoutError):
    """An item of a parallel run took longer than it may; its worker was ended."""

    kind = "item_timeout"


class ItemStopped(VigieError):
    """An item of a parallel run, or a call in a pool, was stopped before it had a result."""

    kind = "item_stopped"


class WorkerDied(VigieError):
    """The process that computed an item of a parallel run ended with it: killed, crashed, or by its own will."""

    kind = "worker_died"


_KINDS: dict[str, type[VigieError]] = {
    cls.kind: cls
    for cls in (
        VigieError,
        UsageError,
        ExpressionError,
        NotSerializable,
        NotFound,
        Conflict,
        Refused,
        AgentUnreachable,
        StoreError,
        WaitTimeout,
        JobFailed,
        JobStopped,
        JobLost,
        ItemStopped,
        ItemTimeout,
        WorkerDied,
    )
}


def from_wire(error: dict[str, str | None]) -> VigieError:
    """Make the error again that :meth:`VigieError.to_wire` wrote.

    >>> from_wire({"kind": "not_found", "message": "no job 9", "hint": None}).code
    3
    """
    cls = _KINDS.get(error.get("kind") or "", VigieError)
    if cls is ExpressionError:
        # Its message is made; what it was made of does not travel.
        found = ExpressionError(error.get("message") or "unknown error")
        found.hint = error.get("hint")
        return found
    return cls(error.get("message") or "unknown error", error.get("hint"))
