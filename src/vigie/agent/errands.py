"""Commands that the agent itself wants an answer of: probes. They run under the keeper, and are no jobs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vigie.agent.service_units import Unit
    from vigie.agent.services import Services

__all__ = ["Errands"]

#: Bytes of what a command said that are looked at.
SAID = 4_096


class Errands:
    """Runs commands in the surroundings of a service, and tells how they ended.

    Nothing of them is stored: an agent that dies with some on their way asks anew, and what its
    successor hears of them is forgotten.
    """

    def __init__(self, duty: Services) -> None:
        self.duty = duty
        self._running: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0

    async def run(self, unit: Unit, argv: tuple[str, ...], within: int) -> str | None:
        """Run a command, at most ``within`` µs; give its failure in words, or None."""
        duty = self.duty
        self._count += 1
        mark = duty.core.marks.errand(os.getpid(), self._count)
        path = os.path.join(duty.home.tmp, mark)
        answer: asyncio.Future[dict[str, Any]] = duty.loop.create_future()
        self._running[mark] = answer
        duty.keeper.send({"op": "spawn", "mark": mark, "argv": list(argv), "out": path, "err": path,
                          "stdin": None, "dir": duty.home.tmp, **duty.hands.surroundings(unit)})  # fmt: skip
        try:
            async with asyncio.timeout(within / 1e6):
                said = await asyncio.shield(answer)
            return _failure(said, path)
        except TimeoutError:
            return f"does not end within {within / 1e6:g} s"
        finally:
            if not answer.done():
                duty.keeper.send({"op": "signal", "mark": mark, "signal": int(signal.SIGKILL), "group": True})
            with contextlib.suppress(OSError):
                os.unlink(path)

    def heard(self, mark: str, op: str, said: dict[str, Any]) -> None:
        """Take the keeper's word of one."""
        if op == "started":
            return
        answer = self._running.pop(mark, None)
        self.duty.keeper.send({"op": "forget", "marks": [mark]})
        if answer is not None and not answer.done():
            answer.set_result({**said, "op": op})

    def abandon(self) -> None:
        """Give up on all of them: the keeper that ran them is gone."""
        for answer in self._running.values():
            if not answer.done():
                answer.set_result({"op": "lost"})
        self._running.clear()


def _failure(said: dict[str, Any], path: str) -> str | None:
    if said["op"] == "failed":
        return f"cannot run: {said['message']}"
    if said.get("exit_code") == 0:
        return None
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - SAID))
        lines = file.read(SAID).decode("utf-8", "replace").strip().splitlines()
        if lines:
            return f"fails: {lines[-1][:200]}"
    code = said.get("exit_code")
    return f"fails: exit {code}" if code is not None else f"fails: signal {said.get('signal')}"
