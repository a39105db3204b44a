"""Threads that each have an interpreter of their own: Python's own cores without processes, from 3.14 on."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pickle
import sys
import threading

from vigie import callables, payload
from vigie.engines.ledger import described
from vigie.engines.threads import Elsewhere, Threads
from vigie.errors import NotSerializable, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Interpreters"]

#: As many functions are kept in an interpreter.
MOST = 128


class Interpreters(Threads):
    """A crew of threads, each of which has its items computed by an interpreter of its own.

    Parameters
    ----------
    function:
        Called with each item; None: an item is ``((reference, code), args, kwargs)``, see ``callables.pack_function``.

    Raises
    ------
    UsageError
        This Python has no interpreters.
    NotSerializable
        The function or ``init`` cannot travel.
    """

    def __init__(
        self, function: Callable[[Any], Any] | None, limit: int, *, timeout: float | None = None,
        init: Callable[[], Any] | None = None, depth: int = 1, wait: bool = False,
    ) -> None:  # fmt: skip
        if not there():
            version = ".".join(map(str, sys.version_info[:2]))
            raise UsageError(f"interpreters need Python 3.14, and this is {version}", "on='processes' works here")
        try:
            self._code = None if function is None else callables.pack_function(function)[:2]
            self._begin = None if init is None else payload.pickled(init, "init")
        except payload.PayloadError as error:
            raise NotSerializable(str(error)) from None
        self._own = threading.local()
        super().__init__(self._apply, limit, timeout=timeout, init=init, depth=depth, wait=wait)

    def enter(self) -> None:
        """Make this thread's interpreter."""
        self._own.interpreter = importlib.import_module("concurrent.interpreters").create()
        path, argv = list(map(str, sys.path)), list(map(str, sys.argv))
        # As text: it does not find us before.
        self._own.interpreter.exec(f"import sys; sys.path[:] = {path!r}; sys.argv = {argv!r}")
        if self._begin is not None:
            self._call(_enter, self._begin)

    def leave(self) -> None:
        """End this thread's interpreter."""
        self._own.interpreter.close()

    def _apply(self, item: Any) -> Any:
        code, args, kwargs = item if self._code is None else (self._code, (item,), {})
        try:
            data = payload.pickled((args, kwargs), "an item")
        except payload.PayloadError as error:
            raise NotSerializable(str(error)) from None
        return pickle.loads(self._call(_compute, *code, data))

    def _call(self, function: Callable[..., tuple[bool, bytes]], *args: Any) -> bytes:
        fine: bool
        data: bytes
        fine, data = self._own.interpreter.call(function, *args)
        if not fine:
            kind, message, text, error = described(data)
            # As from a process: what cannot travel is told apart by its name.
            raise Elsewhere(kind, message, text, None if isinstance(error, payload.PayloadError) else error)
        return data


def there() -> bool:
    """Tell whether this Python has interpreters."""
    return importlib.util.find_spec("concurrent.interpreters") is not None


# --- inside an interpreter ------------------------------------------------------------


def _enter(init: bytes) -> tuple[bool, bytes]:
    """Make the interpreter's own state."""
    from vigie.worker_map import _begin_state

    try:
        _begin_state(pickle.loads(init))
    except BaseException as error:
        return False, _failed(error)
    return True, b""


def _compute(reference: str | None, code: bytes | None, data: bytes) -> tuple[bool, bytes]:
    """Call a function."""
    try:
        args, kwargs = pickle.loads(data)
        return True, payload.pickled(_found(reference, code or b"")(*args, **kwargs), "the result")
    except BaseException as error:
        return False, _failed(error)


@functools.lru_cache(MOST)
def _found(reference: str | None, code: bytes) -> Any:
    return callables.find(reference, code)


def _failed(error: BaseException) -> bytes:
    from vigie.worker_map import describe

    return describe(error)
