"""The duty of watching clocks: timeouts, delayed starts, rates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from vigie.agent import clock
from vigie.agent.control import Control
from vigie.agent.core import Core
from vigie.agent.writer import Writer

if TYPE_CHECKING:
    from vigie.outcome import Good

__all__ = ["Timers"]

#: The wall clock may be set: never sleep longer than this (s) towards an instant of it.
LONGEST = 15.0
#: The wall clock was set, and not only steered, if it is off by more than this (µs).
STEP = 1_000_000


class Timers:
    """Turns instants into posted work.

    A timeout counts running time on the monotonic clock, without suspensions. A
    due instant is one of the wall clock; one that was given as a delay moves with it.
    """

    def __init__(self, core: Core, control: Control, writer: Writer, loop: asyncio.AbstractEventLoop) -> None:
        self.core = core
        self.control = control
        self.writer = writer
        self.loop = loop
        self._due: asyncio.TimerHandle | None = None
        self._timeouts: dict[tuple[int, int], asyncio.TimerHandle] = {}
        self._queues: dict[str, asyncio.TimerHandle] = {}
        self._offset = clock.offset(core.clock)
        writer.look = self._look_at_clock
        core.rearm = self.rearm

    def _in(self, micros: int, call: Callable[..., None], *args: object) -> asyncio.TimerHandle:
        return self.loop.call_later(max(0.0, micros / 1e6), call, *args)

    # --- delayed starts and retries -------------------------------------------

    def rearm(self) -> None:
        """Look when the next blocked job is due, and wake then."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        due = self.core.store.one("next_due")
        if due is None or due[0] is None:
            return
        wait = due[0] - self.core.clock.wall()
        self._due = self._in(int(min(wait, LONGEST * 1e6)), self._ring)

    def _ring(self) -> None:
        self._due = None
        self.writer.post(self.control.come_due)

    # --- the wall clock -------------------------------------------------------

    def follow_clock(self) -> None:
        """Move delays by as much as the clock was set since the store knew it last, in this boot of the machine.

        The store is what remembers, so that each step is taken once, whoever dies or fails between.
        """
        boot = self.core.owner[2]
        known, _, offset = (self.core.store.meta("clock") or "").partition(" ")
        self._offset = clock.offset(self.core.clock)
        step = self._offset - int(offset) if known == boot else 0
        if abs(step) > STEP:
            self.control.clock_set(step)
        if known != boot or abs(step) > STEP:
            self.core.store.run("set_meta", ("clock", f"{boot} {self._offset}"))

    def _look_at_clock(self) -> None:
        """Before each transaction, so that every instant in it is one of the clock as it is."""
        now = clock.offset(self.core.clock)
        if abs(now - self._offset) > STEP:
            self._offset = now
            self.writer.first(self.follow_clock)

    # --- rates ----------------------------------------------------------------

    def wake_at(self, queue: str, mono: int) -> None:
        """Look at a queue again at an instant of the monotonic clock."""
        earlier = self._queues.pop(queue, None)
        if earlier is not None:
            earlier.cancel()
        self._queues[queue] = self._in(mono - self.core.clock.mono(), self._look, queue)

    def _look(self, queue: str) -> None:
        self._queues.pop(queue, None)
        self.core.dirty.add(queue)
        self.writer.wake()

    # --- timeouts -------------------------------------------------------------

    def began(self, job: int, attempt: int, mono: int) -> None:
        """Set the alarm of an attempt that began at ``mono``, if its task has a timeout."""
        row = self.core.store.job(job)
        if row is None or row.attempt != attempt or row.timeout is None:
            return
        facts = self.core.store.one("attempt", (job, attempt))
        if facts is None:
            return
        began, suspended, frozen = facts[6] or mono, facts[7], facts[8]
        self.forget(job, attempt)
        if frozen is not None:
            return
        left = began + suspended + row.timeout - self.core.clock.mono()
        self._timeouts[job, attempt] = self._in(left, self._passed, job, attempt)

    def forget(self, job: int, attempt: int) -> None:
        """Cancel the alarm of an attempt."""
        alarm = self._timeouts.pop((job, attempt), None)
        if alarm is not None:
            alarm.cancel()

    def forget_many(self, ends: Iterable[Good]) -> None:
        """Cancel the alarms of many."""
        if self._timeouts:
            for _, job, attempt, *_ in ends:
                self.forget(job, attempt)

    def _passed(self, job: int, attempt: int) -> None:
        self._timeouts.pop((job, attempt), None)
        self.writer.post(self.control.time_out, job, attempt)
