"""Functions on their way between processes: by name where another process finds it, else by value.

Standard library only; the worker loads this file by path.
"""

from __future__ import annotations

import sys

from . import payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["dump_function", "find", "import_function", "pack_function", "unwrap"]


# --- functions ----------------------------------------------------------------


def unwrap(function: Any) -> Any:
    """Give the function inside what ``vigie.task`` made of it."""
    return getattr(function, "__vigie_function__", function)


def dump_function(function: Callable[..., Any], key: bytes | None) -> tuple[str | None, bytes | None, str]:
    """Say how a function travels: as :func:`pack_function`, the pickle signed.

    >>> import os.path
    >>> dump_function(os.path.join, None)
    ('posixpath:join', None, 'posixpath:join')
    """
    reference, code, label = pack_function(function)
    return reference, None if code is None else payload.sign(code, key, label), label


def pack_function(function: Callable[..., Any]) -> tuple[str | None, bytes | None, str]:
    """Say how a function travels: by its import path where it has one, else pickled.

    Returns
    -------
    ``(reference, code, label)``: ``"module:qualified.name"`` or None, the
    pickle or None, and what to call it.

    Raises
    ------
    PayloadError
        It is no function, or it cannot be pickled; the message names the object
        that it takes along.
    """
    function = unwrap(function)
    if not callable(function):
        raise payload.PayloadError(f"{function!r} is a {payload.kind_of(function)}, which cannot be called")
    module, qualname = _place(function)
    label = f"{module}:{qualname}" if qualname else payload.kind_of(function)
    if qualname and _importable(function, module, qualname):
        return label, None, label
    with _ByValue(module):
        return None, payload.pickled_by_value(function, label), label


def import_function(reference: str) -> Any:
    """Give the object at ``package.module:qualified.name``.

    Raises
    ------
    ImportError
        There is no such module, or nothing of that name in it.
    TypeError
        It cannot be called.
    """
    module, _, qualname = reference.partition(":")
    if not module or not qualname:
        raise ImportError(f"{reference!r} is not of the form module:function")
    try:
        __import__(module)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, ModuleNotFoundError) and module.startswith(str(error.name)):
            why = f"there is no module {error.name!r}"
        raise ImportError(f"cannot import {module!r} for {reference}: {why}", name=module) from error
    found: Any = sys.modules[module]
    for word in qualname.split("."):
        try:
            found = getattr(found, word)
        except AttributeError:
            where = getattr(sys.modules[module], "__file__", None) or "built in"
            raise ImportError(f"module {module!r} ({where}) has no {qualname!r}", name=module) from None
    if not callable(unwrap(found)):
        raise TypeError(f"{reference} is a {type(found).__name__}, which cannot be called")
    return found


def find(reference: str | None, code: bytes) -> Any:
    """Give the function that :func:`pack_function` packed, with what a decorator of ours put around it taken off."""
    import pickle

    return unwrap(import_function(reference) if reference else pickle.loads(code))


def _place(function: Any) -> tuple[str, str]:
    module = getattr(function, "__module__", None)
    if module is None:
        # A method of a built-in class, such as str.upper, knows only its class.
        module = getattr(getattr(function, "__objclass__", None), "__module__", None) or "builtins"
    return str(module), str(getattr(function, "__qualname__", "") or "")


def _importable(function: Any, module: str, qualname: str) -> bool:
    """Tell whether a fresh interpreter finds this very object under its name."""
    if module in ("__main__", "__mp_main__") or "<" in qualname:
        return False
    owner = sys.modules.get(module)
    if getattr(owner, "__spec__", None) is None:
        return False
    found: Any = owner
    for word in qualname.split("."):
        found = getattr(found, word, None)
    found = unwrap(found)
    # A bound class method is made anew at each look.
    return found is function or (hasattr(function, "__self__") and type(found) is type(function) and found == function)


class _ByValue:
    """Have cloudpickle take along a module that another process cannot import."""

    def __init__(self, name: str) -> None:
        module = sys.modules.get(name)
        made_here = module is not None and name != "__main__" and getattr(module, "__spec__", None) is None
        self.module = module if made_here else None

    def __enter__(self) -> None:
        if self.module is not None:
            payload.cloudpickle_for(self.module.__name__).register_pickle_by_value(self.module)

    def __exit__(self, *exc: object) -> None:
        if self.module is not None:
            payload.cloudpickle_for(self.module.__name__).unregister_pickle_by_value(self.module)
