"""By what a run knows its items and its function again, in another process and another year.

A key is a digest of an encoding that says of every value its type and its length, so that no
two values have the same. It must never change: what earlier runs have finished would not be
found again.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import struct
import sys
import types

from vigie.callables import unwrap
from vigie.digests import blake2b
from vigie.errors import UsageError
from vigie.payload import kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["changed", "digest", "fingerprint"]


# --- keys -------------------------------------------------------------------------


def digest(key: object) -> bytes:
    """Give the 16 bytes by which a key is known: the same in every process and version of Python.

    Parameters
    ----------
    key:
        None, a truth value, a number, text, bytes, a path, a date, a ``Decimal``, a ``UUID``, a
        member of an enumeration, an array or a scalar of NumPy; or a tuple, list, dict, set or
        dataclass of such. Values of different types differ: ``1``, ``1.0``, ``True`` and ``"1"``.

    Raises
    ------
    UsageError
        When it is or holds something else; also an instance of a subclass, which may hold more
        than can be seen.

    >>> digest(("a", 1)).hex()
    'ef687efad44575580fd317248deef8d0'
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    try:
        encoded = _encode(key)
    except RecursionError:
        raise _refusal(key, "holds itself, or is too deep") from None
    return blake2b(encoded, digest_size=16).digest()


def _refusal(value: object, why: str) -> UsageError:
    return UsageError(
        f"a value of type {kind_of(value)} {why}: there is no telling whether it was done before",
        "give key=: it takes a function that makes text, a number or a tuple of an item",
    )


def _encode(value: Any) -> bytes:
    encode = _ENCODERS.get(type(value))
    return _encode_other(value) if encode is None else encode(value)


def _leaf(tag: bytes, data: bytes) -> bytes:
    return tag + len(data).to_bytes(8, "little") + data


def _branch(tag: bytes, parts: list[bytes]) -> bytes:
    """Encode a number of parts, each of which says itself where it ends."""
    return tag + len(parts).to_bytes(8, "little") + b"".join(parts)


def _text(value: str) -> bytes:
    return _leaf(b"s", value.encode("utf-8", "surrogatepass"))


def _integer(value: int) -> bytes:
    return _leaf(b"i", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _real(value: float) -> bytes:
    return b"f" + (_NAN if math.isnan(value) else struct.pack("<d", value))


#: Of the many that are no number, one stands for all.
_NAN = bytes.fromhex("000000000000f87f")


def _pairs(items: Iterable[tuple[Any, Any]]) -> list[bytes]:
    return [_encode(key) + _encode(value) for key, value in items]


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"N",
    bool: lambda value: b"1" if value else b"0",
    int: _integer,
    float: _real,
    str: _text,
    bytes: lambda value: _leaf(b"b", value),
    tuple: lambda value: _branch(b"t", [_encode(part) for part in value]),
    list: lambda value: _branch(b"l", [_encode(part) for part in value]),
    dict: lambda value: _branch(b"d", sorted(_pairs(value.items()))),
    set: lambda value: _branch(b"S", sorted(map(_encode, value))),
    frozenset: lambda value: _branch(b"F", sorted(map(_encode, value))),
}
#: Whoever derives from these has more than attributes.
_HOLDERS = tuple(_ENCODERS)


def _encode_other(value: Any) -> bytes:
    """Encode what is known by more than its exact type."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        # The name of a combination of flags is not the same everywhere.
        member = value._value_ if isinstance(value, enum.Flag) else value._name_
        return b"E" + _text(_name(kind)) + _encode(member)
    if "__dataclass_fields__" in vars(kind) and not isinstance(value, _HOLDERS):
        names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
        return b"D" + _text(_name(kind)) + _branch(b"", _pairs((name, getattr(value, name)) for name in names))
    if isinstance(value, tuple) and isinstance(getattr(kind, "_fields", None), tuple) and not _more(value):
        return b"T" + _text(_name(kind)) + _branch(b"", [_encode(part) for part in value])
    package = kind.__module__.partition(".")[0]
    if package == "numpy":
        return _encode_numpy(value)
    encode = _LIBRARY.get((package, kind.__qualname__))
    if encode is None:
        raise _refusal(value, "cannot be a key")
    return encode(value)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _more(value: object) -> bool:
    """Tell whether an object has attributes of its own."""
    return bool(getattr(value, "__dict__", None))


def _path(value: Any) -> bytes:
    return b"p" + _text(str(value))


def _datetime(value: Any) -> bytes:
    zone = value.tzinfo
    of = f"{type(zone).__module__}.{type(zone).__qualname__}"
    # Two zones that agree at one instant need not agree an hour later: a name tells them apart.
    name = None if zone is None else str(zone) if of == "datetime.timezone" else getattr(zone, "key", None)
    if zone is not None and (of not in _ZONES or name is None):
        raise _refusal(zone, "cannot be part of a key")
    return b"w" + _text(value.isoformat()) + _encode((value.fold, name))


_ZONES = ("datetime.timezone", "zoneinfo.ZoneInfo")

#: Of the standard library, by package and name: whoever has one has loaded its module.
_LIBRARY: dict[tuple[str, str], Callable[[Any], bytes]] = {
    ("pathlib", "PosixPath"): _path,
    ("pathlib", "PurePosixPath"): _path,
    ("pathlib", "WindowsPath"): lambda value: b"W" + _text(str(value)),
    ("pathlib", "PureWindowsPath"): lambda value: b"W" + _text(str(value)),
    ("datetime", "datetime"): _datetime,
    ("datetime", "date"): lambda value: b"y" + _text(value.isoformat()),
    ("decimal", "Decimal"): lambda value: b"m" + _text(str(value)),
    ("uuid", "UUID"): lambda value: b"u" + value.bytes,
}


def _encode_numpy(value: Any) -> bytes:
    numpy = sys.modules["numpy"]
    if isinstance(value, numpy.generic):
        return b"g" + _array(numpy.asarray(value), numpy)
    if type(value) in (numpy.ndarray, numpy.memmap):
        return b"a" + _array(value, numpy)
    raise _refusal(value, "cannot be a key")


def _array(array: Any, numpy: Any) -> bytes:
    kind = array.dtype
    shape = _encode(array.shape)
    if kind.names is not None:
        # Between the fields there may be bytes that mean nothing.
        return b"R" + shape + _branch(b"", [_text(name) + _array(array[name], numpy) for name in kind.names])
    if kind.kind == "O":
        return b"O" + shape + _branch(b"", [_encode(part) for part in array.ravel().tolist()])
    # The widest floats have such bytes too; what is left are arrays of addresses.
    if kind.kind not in "biufcmMSUV" or kind.char in "gG":
        raise _refusal(array, f"of {kind} cannot be a key")
    little = kind.newbyteorder("<")
    content = numpy.ascontiguousarray(array, dtype=little).tobytes()
    return b"A" + shape + _text(little.str) + blake2b(content, digest_size=32).digest()


# --- functions --------------------------------------------------------------------


def fingerprint(function: Any) -> str:
    """Give a text that differs when a function does something else, and not when it only stands elsewhere.

    It tells apart the bytecode of functions and of those inside them, constants, names, defaults, what
    a closure and ``functools.partial`` hold, and methods of different classes. It does not
    see what a function calls by name, nor docstrings and annotations.

    >>> fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 1)
    True
    >>> fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 2)
    False
    """
    name = "" if sys.implementation.name == "cpython" else sys.implementation.name
    version = "%d.%d" % sys.version_info[:2]
    return f"{name}{version}:{blake2b(_encode_function(function, ()), digest_size=16).hexdigest()}"


def changed(old: str, new: str) -> bool:
    """Tell whether two fingerprints are of different functions; those of different Pythons say nothing.

    >>> changed("3.11:aa", "3.11:bb"), changed("3.11:aa", "3.12:bb")
    (True, False)
    """
    return old != new and old.partition(":")[0] == new.partition(":")[0]


def _encode_function(function: Any, above: tuple[int, ...]) -> bytes:
    """Encode something that can be called; ``above`` are those that it was found in."""
    function = unwrap(function)
    if id(function) in above:
        return b"~"
    above = (*above, id(function))
    if isinstance(function, types.FunctionType):
        defaults = [_encode_held(value, above) for value in function.__defaults__ or ()]
        named = [_text(name) + _encode_held(value, above) for name, value in (function.__kwdefaults__ or {}).items()]
        cells = [_encode_cell(cell, above) for cell in function.__closure__ or ()]
        return (
            b"c" + _encode_code(function.__code__) + _branch(b"", defaults) + _branch(b"", named) + _branch(b"", cells)
        )
    if isinstance(function, types.MethodType):
        owner = function.__self__ if isinstance(function.__self__, type) else type(function.__self__)
        return b"M" + _text(_name(owner)) + _encode_function(function.__func__, above)
    if isinstance(function, functools.partial):
        given = [_encode_held(value, above) for value in function.args]
        named = sorted(_text(name) + _encode_held(value, above) for name, value in function.keywords.items())
        return b"P" + _encode_function(function.func, above) + _branch(b"", given) + _branch(b"", named)
    if callable(getattr(function, "__wrapped__", None)):  # functools.cache, say
        return b"w" + _encode_function(function.__wrapped__, above)
    return b"n" + _encode_named(function, above)


def _encode_named(function: Any, above: tuple[int, ...]) -> bytes:
    """Encode what has no code that can be seen: a builtin, a class, an object with ``__call__``."""
    name = getattr(function, "__qualname__", None)
    if isinstance(name, str):
        owner = getattr(function, "__self__", None)
        # ", ".join is not "; ".join; the owner of a plain builtin is its module.
        held = b"" if owner is None or isinstance(owner, types.ModuleType) else _encode_held(owner, above)
        return _text(f"{getattr(function, '__module__', None)}.{name}") + held
    call = type(function).__call__
    code = _encode_function(call, above) if isinstance(call, types.FunctionType) else b""
    return _text(_name(type(function))) + code


def _encode_held(value: Any, above: tuple[int, ...]) -> bytes:
    """Encode a value that a function has: by its digest, else by its type alone."""
    if isinstance(unwrap(value), (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)):
        return b"c" + _encode_function(value, above)
    try:
        return b"v" + digest(value)
    except UsageError:
        return b"k" + _text(_name(type(value)))


def _encode_cell(cell: Any, above: tuple[int, ...]) -> bytes:
    try:
        value = cell.cell_contents
    except ValueError:  # not bound yet
        return b"e"
    return _encode_held(value, above)


#: Of the flags of code: what its arguments are, and whether it is a generator or a coroutine.
_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200


def _encode_code(code: types.CodeType) -> bytes:
    """Encode what code does: each instruction with what it names, and where exceptions go."""
    numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _FLAGS)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return _branch(b"C", [_encode((numbers, names, code.co_exceptiontable)), *_instructions(code)])


#: What the body of a class notes of where it stands, and of what nothing comes.
_NOTED = {"__doc__", "__firstlineno__", "__qualname__", "__static_attributes__"}


def _instructions(code: types.CodeType) -> list[bytes]:
    import dis

    steps: list[bytes] = []
    # Through dis: the numbers of constants and names change with those that a docstring adds.
    for step in dis.get_instructions(code):
        if step.opcode in dis.hasconst and step.arg is not None:
            # Not argval: 3.11 does not give the names of keywords there.
            steps.append(_text(step.opname) + _encode_constant(code.co_consts[step.arg]))
        elif step.opname == "STORE_NAME" and step.argval in _NOTED:
            steps.pop()
        else:
            named = isinstance(step.argval, (str, tuple))
            steps.append(_text(step.opname) + _text(repr(step.argval) if named else str(step.arg)))
    return steps


def _encode_constant(value: Any) -> bytes:
    if isinstance(value, types.CodeType):
        return _encode_code(value)
    if isinstance(value, tuple):
        return _branch(b"t", [_encode_constant(part) for part in value])
    if isinstance(value, frozenset):
        return _branch(b"F", sorted(map(_encode_constant, value)))
    try:
        return _encode(value)
    except UsageError:  # complex numbers, the ellipsis, slices: of each the text says all
        return b"r" + _text(repr(value))
