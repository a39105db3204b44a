"""What is looked after of one instance: alarms, probes and its watchdog, as its state asks."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from vigie.supervision import events as ev
from vigie.supervision.plan import Probe

if TYPE_CHECKING:
    from vigie.agent.service_units import Unit
    from vigie.agent.services import Services

__all__ = ["Lookout"]

#: Seconds between two looks for readiness: at first, and at last.
SOON, LATER = 0.02, 0.5
#: Bytes of output that are searched at a time.
CHUNK = 1 << 16


class Lookout:
    """Alarms and probes of one instance.

    Parameters
    ----------
    duty:
        Whom it tells.
    unit:
        Of whom.
    """

    def __init__(self, duty: Services, unit: Unit) -> None:
        self.duty = duty
        self.unit = unit
        self._alarms: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        #: When it last said that it lives, and how often it must (s).
        self._alive_at = 0.0
        self._period = 0.0
        #: What is looked after: (state, part, life).
        self._followed: tuple[object, ...] = ()

    def drop(self) -> None:
        """Look after nothing."""
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._followed = ()

    def follow(self) -> None:
        """Look after what the state asks for now."""
        unit, plan, one = self.unit, self.unit.plan, self.unit.one
        up = one.state in ("ready", "degraded")
        wanted = ("up" if up else one.state, one.at, unit.job)
        if wanted == self._followed:
            return
        self.drop()
        self._followed = wanted
        if one.state == "backoff" and one.due is not None:
            wait = min(max(0, one.due - self.duty.core.clock.wall()), plan.backoff_max * 2)
            self._in("due", wait, self._say, ev.DueCame)
        if one.state == "starting" and one.at == "ready" and plan.ready is not None:
            self._late(plan.ready.within)
            self._seek(plan.ready)
        if one.state == "reloading":
            self._late((plan.ready or Probe("after")).within)
        if one.state == "stopping" and one.at == "itself":
            self._late(sum(wait for _, wait in plan.stop) or 1)
        if up:
            since = one.ready_since or 0
            if one.failures or one.slow:
                self._in("settled", max(0, since + plan.settled - self.duty.core.clock.wall()), self._say, ev.Settled)
            if plan.ready is not None and plan.ready.every and plan.ready.kind not in ("after", "notify", "log"):
                self._begin(self._keep(plan.ready, self._unready, self._ready))
            if plan.alive is not None:
                self._begin(self._keep(plan.alive, self._ails, None))
            if plan.watchdog is not None:
                self.watch(plan.watchdog)

    # --- alarms ---------------------------------------------------------------

    def _in(self, name: str, micros: float, call: Callable[..., None], *args: Any) -> None:
        earlier = self._alarms.pop(name, None)
        if earlier is not None:
            earlier.cancel()
        self._alarms[name] = self.duty.loop.call_later(micros / 1e6, call, *args)

    def _say(self, kind: Callable[..., ev.Event], **fields: Any) -> None:
        self.duty.post(self.unit, kind, **fields)

    def _late(self, within: int) -> None:
        def passed() -> None:
            what = {"starting": "ready", "reloading": "ready after the reload"}.get(self.unit.one.state, "gone")
            self._say(ev.TooLate, chance=self.duty.core.chance(), cause=f"not {what} within {within / 1e6:g} s")

        self._in("late", within, passed)

    def extend(self, micros: int) -> None:
        """Give it more time for what it is about (EXTEND_TIMEOUT_USEC)."""
        if "late" in self._alarms:
            self._late(micros)

    # --- the watchdog ---------------------------------------------------------

    def ping(self) -> None:
        """It says that it lives."""
        self._alive_at = self.duty.loop.time()

    def watch(self, period: int) -> None:
        """Ask it to say so every ``period`` µs from now on; 0: not any more."""
        alarm = self._alarms.pop("watchdog", None)
        if alarm is not None:
            alarm.cancel()
        self._period = period / 1e6
        if period:
            self.ping()
            self._in("watchdog", period, self._bark)

    def _bark(self) -> None:
        silent = self.duty.loop.time() - self._alive_at
        if silent + 0.001 < self._period:
            self._in("watchdog", (self._period - silent) * 1e6, self._bark)
            return
        self._ails(f"its watchdog is silent for {self._period:g} s")

    def _ails(self, cause: str) -> None:
        self._say(ev.Ailing, chance=self.duty.core.chance(), cause=cause)

    def _unready(self, cause: str) -> None:
        self._say(ev.Unready, cause=cause)

    def _ready(self) -> None:
        self._say(ev.Readied)

    # --- probes ---------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.duty.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _seek(self, probe: Probe) -> None:
        """Find out when it is ready."""
        if probe.kind == "after":
            self._in("after", probe.value, self._ready)
        elif probe.kind != "notify":
            self._begin(self._until(probe))

    async def _until(self, probe: Probe) -> None:
        look, pause = self._way(probe), SOON
        while await look() is not None:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LATER)
        self._ready()

    async def _keep(self, probe: Probe, lost: Callable[[str], None], found: Callable[[], None] | None) -> None:
        look, failures = self._way(probe), 0
        every = (probe.every or 10_000_000) / 1e6
        while True:
            await asyncio.sleep(every)
            failure = await look()
            if failure is None:
                if failures >= probe.failures and found is not None:
                    found()
                failures = 0
                continue
            failures += 1
            if failures == probe.failures:
                times = f" {failures} times in a row" if failures > 1 else ""
                lost(f"{_said(probe)} {failure}{times}")

    def _way(self, probe: Probe) -> Callable[[], Awaitable[str | None]]:
        """Give what looks once: the failure in words, or None."""
        ways: dict[str, Callable[[Probe], Callable[[], Awaitable[str | None]]]] = {
            "port": self._port, "http": self._http, "log": self._log, "command": self._command,
        }  # fmt: skip
        return ways[probe.kind](probe)

    def _port(self, probe: Probe) -> Callable[[], Awaitable[str | None]]:
        host, port = probe.value

        async def look() -> str | None:
            try:
                async with asyncio.timeout(probe.timeout / 1e6):
                    _, writer = await asyncio.open_connection(host, port)
                writer.close()
            except TimeoutError:
                return f"does not answer within {probe.timeout / 1e6:g} s"
            except OSError as error:
                return f"cannot be reached: {os.strerror(error.errno) if error.errno else error}"
            return None

        return look

    def _http(self, probe: Probe) -> Callable[[], Awaitable[str | None]]:
        from_host, path = probe.value.removeprefix("http://").partition("/")[::2]
        host, port = _address(from_host)
        request = (
            f"GET /{path} HTTP/1.1\r\nHost: {from_host}\r\nUser-Agent: vigie\r\nConnection: close\r\n\r\n".encode()
        )

        async def look() -> str | None:
            try:
                async with asyncio.timeout(probe.timeout / 1e6):
                    reader, writer = await asyncio.open_connection(host, port, limit=CHUNK)
                    try:
                        writer.write(request)
                        line = await reader.readline()
                    finally:
                        writer.close()
            except TimeoutError:
                return f"does not answer within {probe.timeout / 1e6:g} s"
            except (OSError, ValueError) as error:
                number = getattr(error, "errno", None)
                return f"cannot be reached: {os.strerror(number) if number else error}"
            words = line.decode("latin-1").split(None, 2)
            code = words[1] if len(words) > 1 else ""
            return None if code[:1] in ("2", "3") else f"answers {' '.join(words[1:]).strip() or 'nothing'}"

        return look

    def _log(self, probe: Probe) -> Callable[[], Awaitable[str | None]]:
        search = _Search(probe.value, self.duty.hands.output_of(self.unit))

        async def look() -> str | None:
            return None if search.look() else "no such line"

        return look

    def _command(self, probe: Probe) -> Callable[[], Awaitable[str | None]]:
        return lambda: self.duty.errands.run(self.unit, tuple(probe.value), probe.timeout)


class _Search:
    """Looks for a line in files that grow."""

    def __init__(self, pattern: str, paths: list[str]) -> None:
        self._pattern = re.compile(pattern.encode("utf-8", "surrogateescape"))
        self._places = dict.fromkeys(paths, 0)
        self._rests = dict.fromkeys(paths, b"")

    def look(self) -> bool:
        """Read on, a piece of each file; True once there is such a line."""
        return any(self._found(path) for path in self._places)

    def _found(self, path: str) -> bool:
        try:
            with open(path, "rb") as file:
                file.seek(self._places[path])
                data = file.read(CHUNK)
        except OSError:
            return False
        self._places[path] += len(data)
        lines = (self._rests[path] + data).split(b"\n")
        self._rests[path] = lines[-1][-CHUNK:]
        return any(map(self._pattern.search, lines))


def _address(text: str) -> tuple[str, int]:
    """Give host and port of what stands in a URL.

    >>> _address("localhost:80"), _address("[::1]:8080"), _address("h")
    (('localhost', 80), ('::1', 8080), ('h', 80))
    """
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, "80"
    return host.strip("[]"), int(port)


def _said(probe: Probe) -> str:
    """Name a probe for a person."""
    if probe.kind == "port":
        return f"port {probe.value[1]}"
    return str(probe.value) if probe.kind == "http" else "the command of the probe"
