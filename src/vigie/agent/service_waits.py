"""Who waits until services are settled, down or gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vigie.errors import UsageError
from vigie.supervision.life import on_its_way

if TYPE_CHECKING:
    from vigie.agent.service_units import Unit
    from vigie.agent.services import Services

__all__ = ["UNTIL", "ServiceWaits"]

Answer = Callable[..., None]
UNTIL = ("settled", "down", "gone")


class _Wait:
    __slots__ = ("alarm", "answer", "names", "peer", "until")

    def __init__(self, peer: object, names: list[str], until: str, answer: Answer) -> None:
        self.peer = peer
        self.names = names
        self.until = until
        self.answer = answer
        self.alarm: asyncio.TimerHandle | None = None


class ServiceWaits:
    """Answers when it is so, or when the time is over."""

    def __init__(self, duty: Services) -> None:
        self.duty = duty
        self._waits: list[_Wait] = []

    def wait(self, peer: object, names: Sequence[str], until: str, timeout: int | None, answer: Answer) -> None:
        """Answer once all of ``names`` are ``until``, or after ``timeout`` µs.

        Raises
        ------
        UsageError
            When ``until`` is none of :data:`UNTIL`.
        """
        if until not in UNTIL:
            raise UsageError(f"services can be waited for until {', '.join(UNTIL)}, and not until {until!r}")
        wait = _Wait(peer, list(names), until, answer)
        if self._is_so(wait):
            self._give(wait, done=True)
            return
        if timeout is not None:
            wait.alarm = self.duty.loop.call_later(timeout / 1e6, self._too_late, wait)
        self._waits.append(wait)

    def look(self) -> None:
        """See who has waited long enough."""
        for wait in [wait for wait in self._waits if self._is_so(wait)]:
            self._waits.remove(wait)
            self._give(wait, done=True)

    def forget(self, peer: object) -> None:
        """A peer has gone."""
        for wait in [wait for wait in self._waits if wait.peer is peer]:
            self._waits.remove(wait)
            if wait.alarm is not None:
                wait.alarm.cancel()

    def _too_late(self, wait: _Wait) -> None:
        if wait in self._waits:
            self._waits.remove(wait)
            self._give(wait, done=False)

    def _units(self, wait: _Wait) -> list[Unit]:
        found: dict[str, Unit] = {}
        for name in wait.names:
            for unit in self.duty.roster.named(name) or ():
                found[unit.name] = unit
        return list(found.values())

    def _is_so(self, wait: _Wait) -> bool:
        units = self._units(wait)
        if wait.until == "gone":
            return not units
        if wait.until == "down":
            return all(self._is_down(unit) for unit in units)
        return all(self._is_settled(unit) for unit in units)

    def _is_down(self, unit: Unit) -> bool:
        gone = unit.job is None or not self.duty.trees.busy(unit.job)
        return unit.one.state in ("inactive", "failed") and unit.one.at is None and gone

    def _is_settled(self, unit: Unit, seen: frozenset[str] = frozenset()) -> bool:
        """Tell whether it changes no more of itself, as far as can be seen."""
        if on_its_way(unit.one) or unit.noted.get("renew") or unit.noted.get("leaving"):
            return False
        if unit.one.at == "listens":
            return unit.served.name in self.duty.hands.opened
        if unit.one.at != "waits":
            return True
        plan, roster = unit.plan, self.duty.roster
        behind = [name for name in (*plan.requires, *plan.after, *plan.wants) if name not in seen]
        others = [each for name in behind if name in roster.services for each in roster.services[name].units]
        return all(self._is_settled(each, seen | {unit.served.name}) for each in others)

    def _give(self, wait: _Wait, *, done: bool) -> None:
        if wait.alarm is not None:
            wait.alarm.cancel()
        wait.answer({"done": done, "instances": [said(unit) for unit in self._units(wait)]}, None)


def said(unit: Unit) -> dict[str, Any]:
    """Give how an instance stands, as an answer has it."""
    one = unit.one
    return {"name": unit.name, "state": one.state, "desired": one.desired, "cause": one.cause}
