"""A deadline on the wall clock that notices when the clock is set.

On Linux, and with the machine's own clock, a timerfd of CLOCK_REALTIME with ``TFD_TIMER_CANCEL_ON_SET``
(timerfd_create(2)): it rings at the instant to the microsecond, and at once when
somebody sets the clock. Elsewhere the loop's own timer, which looks at the clock every
few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

from vigie.agent.clock import SystemClock
from vigie.ports import Clock

__all__ = ["Alarm"]

_CLOCK_REALTIME = 0
_ABSTIME, _CANCEL_ON_SET = 1, 2
#: A timerfd that rings so long (µs) before its instant follows another clock.
EARLY = 1_000_000
#: The longest sleep (s) towards an instant of the loop's own timer.
LONGEST = 15.0


class _Spec(ctypes.Structure):
    """struct itimerspec: interval and value, each seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "s", "ns")]


class Alarm:
    """Calls ``ring`` once when an instant has come, or when the clock was set meanwhile.

    Parameters
    ----------
    loop, clock:
        Of the agent.
    ring:
        What to call; it sets the alarm anew.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._clock = clock
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._instant: int | None = None
        self._fd = _timerfd() if isinstance(clock, SystemClock) else None
        if self._fd is not None:
            loop.add_reader(self._fd, self._readable)

    def set(self, instant: int | None) -> None:
        """Ring at an instant (µs UTC), or never."""
        self._instant = instant
        if self._fd is not None:
            # Zero would disarm it: what has passed rings at once all the same.
            seconds, micros = divmod(max(instant, 1), 1_000_000) if instant is not None else (0, 0)
            _settime(self._fd, seconds, micros * 1000)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if instant is not None:
            # Beside a timerfd too: under faketime(1) its clock is not the one that we read.
            wait = max(0.0, (instant - self._clock.wall()) / 1e6)
            self._timer = self._loop.call_later(min(wait, LONGEST), self._ring)

    def close(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._drop()

    def _readable(self) -> None:
        assert self._fd is not None
        # ECANCELED says that the clock was set: a reason to look, like the others.
        with contextlib.suppress(OSError):
            os.read(self._fd, 8)
            if self._instant is not None and self._clock.wall() + EARLY < self._instant:
                # It goes by another clock than ours.
                self._drop()
        self._ring()

    def _drop(self) -> None:
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _timerfd() -> int | None:
    """Make a timerfd that closes on exec; None where there is none."""
    if sys.platform != "linux":
        return None
    fd = int(_libc().timerfd_create(_CLOCK_REALTIME, os.O_CLOEXEC | os.O_NONBLOCK))
    return fd if fd >= 0 else None


def _settime(fd: int, seconds: int, nanos: int) -> None:
    spec = _Spec(0, 0, seconds, nanos)
    _libc().timerfd_settime(fd, _ABSTIME | _CANCEL_ON_SET, ctypes.byref(spec), None)
