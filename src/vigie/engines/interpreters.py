"""Threads that each have an interpreter of their own: Python's own cores without processes, from 3.14 on."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

from vigie import callables, payload
from vigie.engines.threads import Threads
from vigie.errors import NotSerializable, UsageError

__all__ = ["Interpreters"]


class Interpreters(Threads):
    """A crew of threads, each of which has its items computed by an interpreter of its own.

    Parameters
    ----------
    function:
        Called with each item; None: an item is ``(number of a lesson, args, kwargs)``.

    Raises
    ------
    UsageError
        This Python has no interpreters.
    NotSerializable
        The function or ``init`` cannot travel.
    """

    def __init__(
        self, function: Callable[[Any], Any] | None, limit: int, *, timeout: float | None = None,
        init: Callable[[], Any] | None = None, depth: int = 1,
    ) -> None:  # fmt: skip
        if importlib.util.find_spec("concurrent.interpreters") is None:
            version = ".".join(map(str, sys.version_info[:2]))
            raise UsageError(f"interpreters need Python 3.14, and this is {version}", "on='processes' works here")
        try:
            self._code = None if function is None else callables.pack_function(function)[:2]
            self._state = None if init is None else payload.pickled(init, "init")
        except payload.PayloadError as error:
            raise NotSerializable(str(error)) from None
        self._lessons: dict[int, Any] = {}
        self._own = threading.local()
        super().__init__(self._apply, limit, timeout=timeout, init=self._begin, depth=depth)

    def teach(self, number: int, code: Any) -> None:
        """Say which function is meant by a number; None: forget it."""
        if code is None:
            del self._lessons[number]
        else:
            self._lessons[number] = code

    def _begin(self) -> None:
        """Make this thread's interpreter."""
        self._own.interpreter = importlib.import_module("concurrent.interpreters").create()
        self._own.interpreter.call(_enter, list(map(str, sys.path)), self._state)

    def _apply(self, item: Any) -> Any:
        code = self._code
        if code is None:
            number, args, kwargs = item
            code, call = self._lessons[number], (args, kwargs)
        else:
            call = ((item,), {})
        try:
            data = payload.pickled(call, "an item")
        except payload.PayloadError as error:
            raise NotSerializable(str(error)) from None
        fine, made = self._own.interpreter.call(_compute, *code, data)
        if fine:
            return pickle.loads(made)
        raise pickle.loads(made)


def _enter(path: list[str], init: bytes | None) -> None:
    """Begin, inside an interpreter."""
    sys.path[:] = path
    if init is not None:
        named = pickle.loads(init)()
        if isinstance(named, dict):
            from vigie.local import state

            state.fill(named)


def _compute(reference: str | None, code: bytes | None, data: bytes) -> tuple[bool, bytes]:
    """Call a function, inside an interpreter."""
    try:
        args, kwargs = pickle.loads(data)
        return True, payload.pickled(callables.find(reference, code or b"")(*args, **kwargs), "the result")
    except BaseException as error:
        error.add_note("".join(payload.told(error)[2]).rstrip())
        return False, payload.pickled(error, "the exception")
