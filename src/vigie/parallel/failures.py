"""What the caller gets for an item or a call that has no value."""

from __future__ import annotations

import signal

from vigie.engines.batch import Broken, Failed, Lost
from vigie.errors import ItemStopped, ItemTimeout, NotSerializable, VigieError, WorkerDied

__all__ = ["broken", "lost", "raised"]


class _RemoteTraceback(Exception):
    """Where an exception was raised in a worker."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def raised(event: Failed) -> BaseException:
    """Give what the function raised, with where it did as the cause."""
    if event.kind.endswith("payload.PayloadError"):
        return NotSerializable(event.message)  # a worker's own, which nobody else has a class for
    error = event.error
    if error is None:
        error = VigieError(f"{event.kind}: {event.message}")
    if error.__traceback__ is None and event.traceback:
        error.__cause__ = _RemoteTraceback(event.traceback)
    return error


def lost(event: Lost, what: str, timeout: float | None) -> BaseException:
    """Say why there is no outcome of ``what`` ("item 3"), which might take ``timeout`` seconds."""
    if event.why == "timeout":
        return ItemTimeout(f"{what} took longer than {timeout:g} s")
    if event.why == "stopped":
        return ItemStopped(f"{what} was stopped")
    if event.why == "oom":
        return WorkerDied(f"the system was out of memory, and killed the worker that had {what}")
    if event.why == "signal":
        name = signal.Signals(event.number).name if event.number in set(signal.Signals) else str(event.number)
        return WorkerDied(f"the worker that had {what} was killed by {name}")
    return WorkerDied(f"{what} ended its worker with exit status {event.number}")


def broken(event: Broken) -> VigieError:
    """Say why no worker can do anything."""
    if event.where == "worker":
        return WorkerDied(event.message)
    made: VigieError
    if event.where == "init":
        made = WorkerDied(f"init failed in a worker: {event.kind}: {event.message}")
    else:
        made = NotSerializable(f"a worker cannot find the function: {event.kind}: {event.message}")
    made.__cause__ = _RemoteTraceback(event.traceback) if event.error is None else event.error
    return made
