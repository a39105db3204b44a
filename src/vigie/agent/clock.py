"""The real clocks, and what machine and boot this is."""

from __future__ import annotations

import os
import socket
import time

from vigie.ports import Clock
from vigie.procs import boot_id

__all__ = ["SystemClock", "offset", "owner"]


class SystemClock:
    """Wall clock and CLOCK_MONOTONIC in µs."""

    def wall(self) -> int:
        """Give the instant in µs UTC."""
        return time.time_ns() // 1000

    def mono(self) -> int:
        """Give CLOCK_MONOTONIC in µs."""
        return time.monotonic_ns() // 1000

    def asleep(self) -> int:
        """Give for how long the machine has slept since its boot, in µs."""
        boot = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return (time.clock_gettime_ns(boot) - time.monotonic_ns()) // 1000

    def offset(self) -> int:
        """Give how far the wall clock is ahead of the time since boot; see :func:`offset`."""
        boot = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return (time.time_ns() - time.clock_gettime_ns(boot)) // 1000


def offset(clock: Clock) -> int:
    """Give how far the wall clock is ahead of one that nobody sets, in µs: it changes when the wall clock is set.

    The machine's own knows one that goes on while the machine sleeps; a simulated machine does not sleep.
    """
    tell = getattr(clock, "offset", None)
    return int(tell()) if tell is not None else clock.wall() - clock.mono()


def owner() -> tuple[str, str, str]:
    """Give (host, id of this agent, boot id), as attempts carry them."""
    return socket.gethostname(), os.urandom(6).hex(), boot_id()
