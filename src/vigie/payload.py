"""Values on their way between processes.

A value that JSON gives back unchanged travels as JSON, which any version of
Python reads. Anything else is a pickle (protocol 5, else cloudpickle), signed
with the key in ``secret`` and bound to one version and prefix of Python::

    32 bytes HMAC-SHA256 of the rest | {"python":"3.11","prefix":"/usr"}\\n | pickle

The signature is checked before anything is unpickled. Standard library only
(cloudpickle where it is installed and needed); the worker loads this file by path.
"""

from __future__ import annotations

import itertools
import json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Path = list[Any]

__all__ = [
    "PayloadError",
    "cloudpickle_for",
    "dump_arguments",
    "dump_calls",
    "dump_exception",
    "dumps",
    "extract_dependencies",
    "insert",
    "kind_of",
    "load_exception",
    "loads",
    "pickled",
    "pickled_by_value",
    "read_key",
    "sign",
    "told",
]

_SIGNATURE = 32
_SCALARS = frozenset((type(None), bool, int, float, str))
#: Integers beyond this are refused by CPython's conversion from text (4300 digits).
_BITS = 14_000
#: Causes of an exception that travel with it.
_LINKS = 20

_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_dumps_standard = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_decoder = json.JSONDecoder()
#: What decode calls between two searches for white space, which is half of its time for a short text.
_scan: Any = getattr(_decoder, "scan_once", _decoder.raw_decode)


class PayloadError(ValueError):
    """A value cannot travel, or what came is not what was sent; the message says which."""


def read_key(path: str) -> bytes | None:
    """Give the signing key in the file ``secret``, or None if there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


# --- values -------------------------------------------------------------------


def dumps(value: Any, key: bytes | None, name: str = "the value") -> tuple[str, bytes]:
    """Encode a value.

    Parameters
    ----------
    value:
        Anything that JSON or pickle can carry.
    key:
        Signs a pickle; None if there is no key, and then only JSON will do.
    name:
        What to call the value in an error.

    Returns
    -------
    ``("json" | "pickle", bytes)``

    Raises
    ------
    PayloadError
        It cannot be pickled; the message names the object inside it.

    >>> dumps([1, "a"], None)
    ('json', b'[1,"a"]')
    >>> dumps((1, 2), b"key")[0]
    'pickle'
    """
    if value is None:
        return "json", b"null"
    if type(value) is int and value.bit_length() <= _BITS:
        return "json", b"%d" % value
    if _plain(value):
        try:
            return "json", _dumps(value).encode()
        except UnicodeEncodeError:
            pass  # lone surrogates: pickle keeps them
    return "pickle", sign(pickled(value, name), key, name)


def dump_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], key: bytes | None) -> tuple[str, bytes]:
    """Encode a call's arguments as ``[args, kwargs]``; see :func:`dumps`."""
    if _plain(both := [list(args), kwargs]):
        return dumps(both, key)
    for index, value in enumerate(args):
        _probe(value, f"args[{index}]")
    for word, value in kwargs.items():
        _probe(value, f"kwargs[{word!r}]")
    return dumps(both, key, "the arguments")


def dump_calls(calls: Sequence[tuple[Any, ...]]) -> bytes | None:
    """Encode the positional arguments of many calls as one JSON array of ``[args, {}]``.

    None unless every argument is a plain scalar that any JSON parser gives back unchanged: then
    each call must go through :func:`dump_arguments`.

    >>> dump_calls([(1, "a"), (2.5,)])
    b'[[[1,"a"],{}],[[2.5],{}]]'
    >>> dump_calls([(1, [])]), dump_calls([(float("nan"),)])
    (None, None)
    """
    values = list(itertools.chain.from_iterable(calls))
    if not set(map(type, values)) <= _SCALARS:
        return None
    if not all(value.bit_length() <= _BITS for value in values if type(value) is int):
        return None
    try:
        return _dumps_standard([(args, {}) for args in calls]).encode()
    except ValueError:
        return None  # NaN, Infinity or a lone surrogate


def loads(encoding: str, data: bytes, key: bytes | None) -> Any:
    """Decode a value.

    Raises
    ------
    PayloadError
        The signature is wrong, the pickle was made by another Python, or it
        cannot be read here.

    >>> loads("json", b"[1]", None)
    [1]
    """
    if encoding == "json":
        text = str(data, "utf-8")
        value, end = _scan(text, 0)
        return value if end == len(text) else _decoder.decode(text)
    if encoding != "pickle":
        raise PayloadError(f"unknown encoding {encoding!r}")
    body = _verify(data, key)
    import pickle

    try:
        return pickle.loads(body)
    except Exception as error:
        raise PayloadError(f"cannot be unpickled here: {_said(error)}") from error


def _plain(value: Any) -> bool:
    """Tell whether JSON gives a value back unchanged; lone surrogates apart."""
    try:
        return _survives(value)
    except RecursionError:
        return False


def _survives(value: Any) -> bool:
    kind = type(value)
    if kind is list:
        return _all_survive(value)
    if kind is dict:
        return set(map(type, value)) <= {str} and _all_survive(value.values())
    if kind is int:
        return bool(value.bit_length() <= _BITS)
    return kind in _SCALARS


def _all_survive(values: Any) -> bool:
    # The kinds are few however long the list; only containers and integers need a look inside.
    kinds = set(map(type, values))
    if not kinds <= _SCALARS | {list, dict}:
        return False
    return kinds.isdisjoint((int, list, dict)) or all(map(_survives, values))


def pickled(value: Any, name: str) -> bytes:
    """Pickle a value for another process of this interpreter, by value where it has to be.

    Raises
    ------
    PayloadError
        It cannot be pickled; the message names the object inside it.
    """
    import pickle

    try:
        data = pickle.dumps(value, 5)
    except Exception:
        data = b"__main__"
    # What lives in __main__ is found there by name, and another process has another __main__.
    if b"__main__" not in data:
        return data
    return pickled_by_value(value, name)


def cloudpickle_for(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        raise PayloadError(f"{name} needs cloudpickle to be sent, and {sys.executable} does not have it") from None


def pickled_by_value(value: Any, name: str) -> bytes:
    cloudpickle = cloudpickle_for(name)
    try:
        return bytes(cloudpickle.dumps(value, 5))
    except Exception as error:
        where, culprit, why = _culprit(value, name, error)
        raise PayloadError(
            f"{where} is a {kind_of(culprit)} and cannot be sent to another process: {_said(why)}"
        ) from error


def _probe(value: Any, name: str) -> None:
    if not _plain(value):
        pickled(value, name)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def told(error: BaseException, own: str = "") -> tuple[str, str, str]:
    """Give an exception's type, text and traceback, the latter without the frames of the file ``own`` at its top."""
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == own:
        trace = trace.tb_next
    try:
        return kind_of(error), str(error), "".join(traceback.format_exception(type(error), error, trace))
    except BaseException as failure:  # its text is made by somebody else's code
        text = f"its text cannot be made: {type(failure).__name__}"
        return kind_of(error), text, text


def kind_of(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _culprit(value: Any, name: str, error: Exception) -> tuple[str, Any, BaseException]:
    """Find the innermost object that refuses: its name, itself, its error."""
    cloudpickle = cloudpickle_for(name)
    seen = {id(value)}
    for _ in range(50):
        for where, child in _children(value, name):
            if id(child) in seen:
                continue
            try:
                cloudpickle.dumps(child, 5)
            except Exception as refusal:
                seen.add(id(child))
                value, name, error = child, where, refusal
                break
        else:
            break
    return name, value, error


def _children(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"{name}[{k!r}]", v) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"{name}[{i}]", v) for i, v in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [(f"an element of {name}", v) for v in value]
    if hasattr(value, "__code__"):
        return _captured(value, name)
    if hasattr(value, "__func__"):
        return [(f"{name}.__self__", value.__self__), (f"{name}.__func__", value.__func__)]
    found = []
    if type(value).__name__ == "partial":
        found = [(f"{name}.{k}", getattr(value, k)) for k in ("func", "args", "keywords")]
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        found += [(f"{name}.{k}", v) for k, v in attributes.items()]
    return found


def _captured(function: Any, name: str) -> list[tuple[str, Any]]:
    """Give what a function takes along: its closure, its globals, its defaults."""
    code = function.__code__
    found = []
    for variable, cell in zip(code.co_freevars, function.__closure__ or ()):  # noqa: B905 - Python 3.9
        try:
            found.append((f"the variable {variable!r} of {name}", cell.cell_contents))
        except ValueError:
            continue  # not bound yet
    names = function.__globals__
    found += [(f"the global {word!r} of {name}", names[word]) for word in code.co_names if word in names]
    found += [(f"default {i} of {name}", v) for i, v in enumerate(function.__defaults__ or ())]
    return found


# --- signatures ---------------------------------------------------------------


def _here() -> tuple[str, str]:
    return "%d.%d" % sys.version_info[:2], sys.prefix


def sign(data: bytes, key: bytes | None, name: str) -> bytes:
    if not key:
        raise PayloadError(f"{name} must be pickled, and there is no key to sign it with")
    import hmac

    python, prefix = _here()
    line = json.dumps({"python": python, "prefix": prefix}).encode() + b"\n"
    body = line + data
    return hmac.digest(key, body, "sha256") + body


def _verify(data: bytes, key: bytes | None) -> memoryview:
    """Check a signed pickle and give the pickle in it."""
    if not key:
        raise PayloadError("a pickle came, and there is no key to check its signature with")
    import hmac

    body = memoryview(data)[_SIGNATURE:]
    if len(data) <= _SIGNATURE or not hmac.compare_digest(hmac.digest(key, body, "sha256"), data[:_SIGNATURE]):
        raise PayloadError("the signature of a pickle is wrong: it was not made with the key of this home")
    end = data.index(b"\n", _SIGNATURE) - _SIGNATURE
    made = json.loads(bytes(body[:end]))
    python, prefix = _here()
    if (made["python"], made["prefix"]) != (python, prefix):
        raise PayloadError(
            "pickled by Python %s (%s), and this is Python %s (%s): pickles travel only within one interpreter"
            % (made["python"], made["prefix"], python, prefix)
        )
    return body[end + 1 :]


# --- exceptions ---------------------------------------------------------------


def dump_exception(error: BaseException, key: bytes | None) -> bytes | None:
    """Pickle an exception with its causes, as far as they can travel; None if it cannot itself."""
    import pickle

    chain: list[tuple[str, bytes]] = []
    link, current = "self", error
    for _ in range(_LINKS):
        try:
            data = pickled(current, "the exception")
            pickle.loads(data)
        except Exception:
            break
        chain.append((link, data))
        if current.__cause__ is not None:
            link, current = "cause", current.__cause__
        elif current.__context__ is not None and not current.__suppress_context__:
            link, current = "context", current.__context__
        else:
            break
    if not chain or not key:
        return None
    return sign(pickle.dumps(chain, 5), key, "the exception")


def load_exception(data: bytes, key: bytes | None) -> BaseException:
    """Make the exception again that :func:`dump_exception` pickled, its causes attached.

    Raises
    ------
    PayloadError
        As :func:`loads`.
    """
    import pickle

    chain: list[tuple[str, bytes]] = loads("pickle", data, key)
    made: BaseException | None = None
    below = ""
    for link, pickled in reversed(chain):
        try:
            error: BaseException = pickle.loads(pickled)
        except Exception as failure:
            if link == "self":
                raise PayloadError(f"the exception cannot be unpickled here: {_said(failure)}") from failure
            made = None
            continue
        if made is not None and below == "cause":
            error.__cause__ = made
        elif made is not None:
            error.__context__ = made
        made, below = error, link
    if made is None:
        raise PayloadError("the pickle holds no exception")
    return made


# --- dependencies -------------------------------------------------------------


def extract_dependencies(
    args: tuple[Any, ...], kwargs: dict[str, Any], is_job: Callable[[Any], bool]
) -> tuple[tuple[Any, ...], dict[str, Any], list[tuple[Path, int]]]:
    """Take the jobs out of a call's arguments.

    Parameters
    ----------
    args, kwargs:
        The arguments; jobs are found in lists, tuples and dicts, nested too.
    is_job:
        Tells a job, whose number is its ``id``.

    Returns
    -------
    The arguments with None for each job, and ``(path, id)`` for each: ``path``
    leads into ``[args, kwargs]``.

    Raises
    ------
    PayloadError
        A job stands in a set, or under a key that is neither text nor number.

    >>> class J: id = 7
    >>> extract_dependencies((1, [J()]), {"a": J()}, lambda v: isinstance(v, J))
    ((1, [None]), {'a': None}, [([0, 1, 0], 7), ([1, 'a'], 7)])
    """
    found: list[tuple[Path, int]] = []
    clean = _take(list(args), [0], is_job, found, set())
    named = _take(kwargs, [1], is_job, found, set())
    return tuple(clean), named, found


def _take(value: Any, path: Path, is_job: Callable[[Any], bool], found: list[tuple[Path, int]], above: set[int]) -> Any:
    if is_job(value):
        found.append((path, value.id))
        return None
    if isinstance(value, (set, frozenset)) and any(map(is_job, value)):
        raise PayloadError("a job in a set cannot be replaced by its result: use a list")
    if not isinstance(value, (list, tuple, dict)) or id(value) in above:
        return value
    items = value.items() if isinstance(value, dict) else enumerate(value)
    if set(map(type, value.values() if isinstance(value, dict) else value)) <= _SCALARS:
        return value
    above = above | {id(value)}
    before = len(found)
    fresh = [(k, _take(v, [*path, k], is_job, found, above)) for k, v in items]
    if len(found) == before:
        return value
    for where, _ in found[before:]:
        for key in where:
            if type(key) not in (str, int):
                raise PayloadError(f"a job under the key {key!r} cannot be replaced: use text or a number")
    return _rebuilt(value, fresh)


def _rebuilt(value: Any, items: list[tuple[Any, Any]]) -> Any:
    if isinstance(value, dict):
        import copy

        clone = copy.copy(value)
        clone.update(items)
        return clone
    values = [v for _, v in items]
    if isinstance(value, tuple):
        return value._make(values) if hasattr(value, "_make") else type(value)(values)
    return type(value)(values)


def insert(value: Any, path: Path, replacement: Any) -> Any:
    """Give ``value`` with ``replacement`` at ``path``; tuples on the way are made anew.

    >>> insert([[1, (None, 2)], {}], [0, 1, 0], "x")
    [[1, ('x', 2)], {}]
    """
    if not path:
        return replacement
    key, rest = path[0], path[1:]
    inner = insert(value[key], rest, replacement)
    if isinstance(value, tuple):
        return _rebuilt(value, list(enumerate((*value[:key], inner, *value[key + 1 :]))))
    value[key] = inner
    return value
