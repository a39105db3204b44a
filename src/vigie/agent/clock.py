"""The real clocks, and what machine and boot this is."""

from __future__ import annotations

import socket
import time
import uuid

from vigie.procs import boot_id

__all__ = ["SystemClock", "owner"]


class SystemClock:
    """Wall clock and CLOCK_MONOTONIC in µs."""

    def wall(self) -> int:
        """Give the instant in µs UTC."""
        return time.time_ns() // 1000

    def mono(self) -> int:
        """Give CLOCK_MONOTONIC in µs."""
        return time.monotonic_ns() // 1000


def owner() -> tuple[str, str, str]:
    """Give (host, id of this agent, boot id), as attempts carry them."""
    return socket.gethostname(), uuid.uuid4().hex[:12], boot_id()
