"""How a parallel run is to go, and who computes its items: what people ask for, checked.

Little is loaded here: while the first worker process comes up there is time for the rest.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sized

from vigie.errors import UsageError
from vigie.model import cores
from vigie.parallel.batching import TARGET
from vigie.parallel.options import a_count, memory, seconds
from vigie.values import parse_rate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from vigie.engines.launch import Launched
    from vigie.parallel.course import Engine
    from vigie.parallel.progress import Progress
    from vigie.parallel.resume import Resume

__all__ = ["COROUTINES", "PLACES", "THREADS", "Crew", "Plan", "no_key", "shown"]

#: Where items can be computed.
PLACES = ("processes", "threads", "interpreters", "async", "inline", "auto")
#: Threads, and coroutines, at once, unless somebody says how many.
THREADS, COROUTINES = 32, 100
#: Elsewhere than in processes an item costs little to give, and should not wait for another one: ns of a batch.
SHORT = 1_000_000


class Plan:
    """How a run is to go; see :func:`vigie.map`.

    Attributes
    ----------
    interval:
        Seconds between two starts, by ``clock``.
    target:
        How long a batch of items should take (ns).

    Raises
    ------
    UsageError
        When that makes no sense.
    """

    __slots__ = ("clock", "errors", "interval", "ordered", "retries", "target", "timeout", "window")

    def __init__(
        self, *, ordered: bool = True, timeout: float | str | None = None, retries: int = 0,
        rate: str | float | None = None, errors: str = "raise", window: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if errors not in ("raise", "collect", "skip"):
            raise UsageError(f"errors is {errors!r}: it is raise, collect or skip")
        self.ordered = ordered
        self.timeout = seconds(timeout, "timeout")
        self.retries = a_count(retries, "retries", 0) or 0
        self.interval = None if rate is None else 1.0 / parse_rate(rate)
        self.errors = errors
        self.window = a_count(window, "window", 1)
        self.target = TARGET
        self.clock = clock

    def space(self, delay: float | str | None) -> None:
        """Let at least so many seconds pass between two starts."""
        given = seconds(delay, "delay")
        if given is not None:
            self.interval = max(self.interval or 0.0, given)


class Crew:
    """Who computes the items of a run; see :func:`vigie.map`.

    Raises
    ------
    UsageError
        When that makes no sense.
    """

    def __init__(
        self, function: Callable[[Any], Any], on: str, plan: Plan, *, limit: int | None = None,
        init: Callable[[], Any] | None = None, recycle: int | None = None, memory_limit: int | str | None = None,
    ) -> None:  # fmt: skip
        from vigie.callables import unwrap

        if not callable(function):
            raise UsageError(f"{function!r} cannot be called")
        if on not in PLACES:
            raise UsageError(f"on is {on!r}: it is {', '.join(PLACES[:-1])} or {PLACES[-1]}")
        for name, given in (("recycle", recycle), ("memory_limit", memory_limit)):
            if given is not None and on not in ("processes", "auto"):
                raise UsageError(f"{name} is for processes: here the workers share everything with the caller")
        if on == "inline" and plan.timeout is not None:
            raise UsageError("inline nobody is there to end an item that takes too long", "on='processes'")
        self.function = unwrap(function)
        self.awaits = _awaits(self.function)
        if on not in ("async", "auto") and self.awaits:
            raise UsageError(f"{function!r} is a coroutine function: nobody would await it", "on='async'")
        self.limit = a_count(limit, "limit", 1)
        self.timeout = plan.timeout
        self.init = init
        self.recycle = a_count(recycle, "recycle", 1)
        self.memory_limit = memory(memory_limit)
        self._plan = plan
        self.turn(on)

    def turn(self, on: str) -> None:
        """Have items computed somewhere else, as nothing has been yet."""
        self.on = on
        self._plan.target = TARGET if on in ("processes", "interpreters") else SHORT

    def engine(self, launched: Launched | None = None) -> Engine:
        """Make what computes them, with the first worker if that was ``launched``.

        Raises
        ------
        NotSerializable
            The function or ``init`` cannot travel.
        """
        if self.on == "processes":
            return self._processes(launched)
        if self.on == "auto":
            from vigie.engines.auto import Auto

            return Auto(self)
        if self.on == "interpreters":
            from vigie.engines.interpreters import Interpreters

            return Interpreters(self.function, self.limit or cores(), timeout=self.timeout, init=self.init)
        if self.on == "async":
            from vigie.engines.coroutines import Coroutines

            return Coroutines(self.function, self.limit or COROUTINES, timeout=self.timeout, init=self.init)
        from vigie.engines.threads import Inline, Threads

        if self.on == "threads":
            return Threads(self.function, self.limit or THREADS, timeout=self.timeout, init=self.init)
        return Inline(self.function, self.init)

    def _processes(self, launched: Launched | None) -> Engine:
        from vigie.engines.processes import Processes

        return Processes(
            self.function, self.limit or cores(), timeout=self.timeout, init=self.init, recycle=self.recycle,
            memory_limit=self.memory_limit, launched=launched,
        )  # fmt: skip


def _awaits(function: Any) -> bool:
    """Tell a coroutine function, without loading ``inspect``."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None)
    return bool(getattr(code, "co_flags", 0) & 0x80)


def no_key(resume: str | None, key: Any, *, fresh: bool) -> None:
    """Refuse what is for ``resume`` alone."""
    if resume is None and (key is not None or fresh):
        raise UsageError("key and fresh are for resume, which gives the journal its name")


def shown(
    choice: bool | str | None, function: Callable[..., Any], items: Any, journal: Resume | None
) -> Progress | None:
    """Give what shows a run's progress, and say what its journal holds; nothing is loaded where nobody looks."""
    stderr = sys.stderr
    watched = "IPython" in sys.modules or (stderr is not None and not stderr.closed and stderr.isatty())
    if choice is False or (choice is None and not watched):
        return None
    from vigie.parallel.progress import display

    name = getattr(function, "__name__", type(function).__name__)
    show = display(choice, "map" if name == "<lambda>" else name, len(items) if isinstance(items, Sized) else None)
    if show is not None and journal:
        stderr.write(f"{journal.summary}\n")
    return show
