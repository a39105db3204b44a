"""Ending the agent, and waiting until it has."""

from __future__ import annotations

import os

from vigie.errors import AgentUnreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vigie.cli.context import Context
    from vigie.client import Client

__all__ = ["end"]

#: Seconds for an agent that was asked to end.
_ENDING = 30.0


def end(client: Client, out: Context) -> int | None:
    """Ask the agent to end, and wait until it has; give the pid that it had.

    Raises
    ------
    AgentUnreachable
        When it does not end.
    """
    from vigie import locks

    pid = locks.holder(out.home.lock)
    watch = None if pid is None else _pidfd(pid)
    try:
        if not client.shutdown() and pid is None:
            return None
        if watch is not None:
            _await_end(watch, pid)
    finally:
        if watch is not None:
            os.close(watch)
    return pid


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):  # no pidfds on this system
        return None


def _await_end(watch: int, pid: int | None) -> None:
    import select

    if not select.select([watch], [], [], _ENDING)[0]:
        raise AgentUnreachable(f"the agent (pid {pid}) did not end within {_ENDING:.0f} s", f"kill {pid}")
