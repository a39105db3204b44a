"""By what items and functions are known again: the same everywhere, and never the same for two."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import json
import math
import operator
import os
import pathlib
import subprocess
import sys
import uuid
import zoneinfo
from collections import OrderedDict
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vigie
from test_worker import interpreters
from vigie.errors import UsageError
from vigie.parallel.keys import changed, digest, fingerprint

PYTHONS = [kept for kept in interpreters() if int(str(kept.id).partition(".")[2]) >= 11]
#: What another process needs to find us.
PATHS = os.pathsep.join([str(Path(vigie.__file__).parents[1]), str(Path(__file__).parent)])


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: Any
    y: Any = 0


@dataclass
class Vector:
    x: Any
    y: Any = 0


@dataclass(slots=True)
class Late:
    x: int
    y: int = field(init=False)


class Pair(NamedTuple):
    first: Any
    second: Any


class Couple(NamedTuple):
    first: Any
    second: Any


PARIS = zoneinfo.ZoneInfo("Europe/Paris")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NOON = dt.datetime(2026, 7, 1, 12)  # noqa: DTZ001 - naive ones are keys too

#: Values that all differ.
VALUES: dict[str, Any] = {
    "none": None, "true": True, "false": False, "one": 1, "zero": 0, "minus": -1, "127": 127, "128": 128,
    "255": 255, "256": 256, "huge": 1 << 20_000, "1.0": 1.0, "0.0": 0.0, "-0.0": -0.0, "nan": math.nan,
    "text": "1", "empty": "", "bytes": b"1", "no bytes": b"", "surrogate": "\udce9", "accent": "é",
    "no tuple": (), "tuple": (1,), "nested": ((1,),), "list": [1], "no list": [], "pair": (1, 2), "pairs": [(1, 2)],
    "joined": ("ab", "c"), "split": ("a", "bc"), "flat": ("a", "b", ("c",)), "deep": ("a", ("b", "c")),
    "no dict": {}, "dict": {1: 2}, "swapped": {2: 1}, "dict of text": {"1": 2}, "two": {1: 2, 3: 4},
    "crossed": {1: 4, 3: 2},
    "set": {1, 2}, "frozen": frozenset({1, 2}), "no set": set(), "set of text": {"1", "2"},
    "path": PurePosixPath("a/b"), "windows": PureWindowsPath("a/b"), "its text": "a/b",
    "day": dt.date(2026, 7, 1), "noon": NOON, "again": NOON.replace(fold=1), "midnight": NOON.replace(hour=0),
    "utc": NOON.replace(tzinfo=dt.UTC), "paris": NOON.replace(tzinfo=PARIS), "berlin": NOON.replace(tzinfo=BERLIN),
    "+2": NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))), "its iso": NOON.isoformat(),
    "decimal": Decimal(1), "decimal 1.0": Decimal("1.0"), "decimal nan": Decimal("nan"),
    "uuid": uuid.UUID(int=1), "its bytes": uuid.UUID(int=1).bytes,
    "red": Colour.RED, "green": Colour.GREEN, "low": Level.LOW, "read": Access.READ, "both": Access.READ | Access.WRITE,
    "point": Point(1, 2), "point too": Point(2, 1), "vector": Vector(1, 2), "points": Point(Point(1), [Point(2)]),
    "named": Pair(1, 2), "couple": Couple(1, 2), "late": Late(1),
}  # fmt: skip


def test_all_kinds_of_values_differ() -> None:
    by_digest: dict[bytes, str] = {}
    for name, value in VALUES.items():
        found = digest(value)
        assert len(found) == 16
        assert found not in by_digest, (name, by_digest[found])
        by_digest[found] = name


#: What every version of Vigie has made of them; what they are, and their digests, may never change.
KNOWN = {
    "none": "738096e476d3c5447c3cb95c39bfc964",
    "true": "cea3878a334b240469d159ff840b6434",
    "one": "b3aeab38613744d78d74ad98bedd7327",
    "minus": "098f4a7b31e4ae2a71c9a81d9099f86f",
    "1.0": "341cb5ede4c7ef3d610aded7e15c4451",
    "-0.0": "2935492cff899da300781ffe295ec445",
    "nan": "58e928e5d3c7e6fb42369352d17ef304",
    "text": "0d201e9e614713af9562e3f7ea7db71d",
    "surrogate": "79e7472f021c80947b677ce035086931",
    "bytes": "d62ac80c7cf058b3f921549a44cfe1bb",
    "pair": "aa1d08dee0da6dae39306240d48f48e0",
    "list": "b74ce9dda7c62c69e4363973c8ea7315",
    "crossed": "b3fa7ea2d019ea7521441077791688d0",
    "set": "9dfdc29c589b2a0fc5ea519fac82c3d6",
    "frozen": "f1cf479e926a597f8eb31d0e7ba6123f",
    "path": "566541b5ff15481871564b83c5c2d32f",
    "windows": "1c9dcb3498d2082687b6bd4802805362",
    "day": "87c9aabd2b62735ef286624813f4e089",
    "noon": "349e5456bf47be0d6fb3aa4dcd1d844a",
    "utc": "02a77272318341870b82f3e8641dd8d2",
    "paris": "c3cfdf4107d0863e924e60f968ac6c86",
    "decimal 1.0": "f184e3612ad5fbb69ce1022de83c0c1f",
    "uuid": "e84660e7b447d7f4c5517e163a86de0f",
    "red": "282f9cf743aeff329514de8e51938993",
    "low": "607b949e6850195bc0c6456a24c7a97f",
    "both": "7b78ace6ed02a0372e013dcbd34d5d54",
    "points": "b94de70a164120f9f8620512db1b49f0",
    "named": "046d917ce5c43b84521a65456e4ffea9",
    "late": "5226684912717b9cabf968fd4394c9cc",
    "huge": "2600c5edca942a8dbe5d09b7fa15f234",
}


@pytest.mark.parametrize("name", KNOWN)
def test_digests_are_what_they_always_were(name: str) -> None:
    assert digest(VALUES[name]).hex() == KNOWN[name]


_SAY = """
import json
import test_keys
from vigie.parallel.keys import digest, fingerprint
print(json.dumps([
    {name: digest(test_keys.VALUES[name]).hex() for name in test_keys.KNOWN},
    fingerprint(test_keys.various), fingerprint(test_keys.closed(3)),
]))
"""


def various(x: Any, *more: Any, of: Any = frozenset("abc"), **rest: Any) -> Any:
    """Hold sets, a nested function, a class and constants of all kinds."""

    class Inner:
        """Has a text."""

        def method(self) -> Any:
            self.one, self.two, self.three = x, more, rest
            return [..., 1j, b"", -0.0, 1 << 70]

    try:
        return x in {"d", "e", "f", 7, None}, lambda y: (y, x, Inner, of, (1, (..., 2j), "é"))
    except (KeyError, OSError):
        return {1, 2}


def closed(value: Any) -> Any:
    return lambda x: x + value


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_another_process_says_the_same(seed: str) -> None:
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": PATHS}
    said = json.loads(subprocess.run([sys.executable, "-c", _SAY], env=env, capture_output=True, check=True).stdout)
    assert said == [KNOWN, fingerprint(various), fingerprint(closed(3))]


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_another_version_of_python_says_the_same_of_keys(python: str) -> None:
    text = (
        "import datetime, decimal, enum, json, pathlib, sys, uuid; from vigie.parallel.keys import digest;"
        "A = enum.Flag('Access', 'READ WRITE', module='test_keys');"
        "print(json.dumps([digest(value).hex() for value in (None, -1, 1.5, 'é', {2: [b'']}, {1, 'a'},"
        "pathlib.Path('a'),"
        "datetime.datetime(2026, 7, 1, tzinfo=datetime.timezone.utc), decimal.Decimal('1.0'), uuid.UUID(int=1),"
        "A.READ | A.WRITE)]))"
    )
    env = {**os.environ, "PYTHONPATH": PATHS.partition(os.pathsep)[0], "PYTHONDONTWRITEBYTECODE": "1"}
    said = json.loads(subprocess.run([python, "-c", text], env=env, capture_output=True, check=True).stdout)
    day = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
    values = (None, -1, 1.5, "é", {2: [b""]}, {1, "a"}, Path("a"), day, Decimal("1.0"), uuid.UUID(int=1))
    assert said == [digest(value).hex() for value in (*values, Access.READ | Access.WRITE)]


def test_the_order_of_sets_and_dicts_does_not_count() -> None:
    names = [f"name{number}" for number in range(50)]
    assert digest(dict.fromkeys(names, 1)) == digest(dict.fromkeys(reversed(names), 1))
    assert digest({*names}) == digest({*reversed(names)})
    assert digest(Point({"a", "b"})) == digest(Point({"b", "a"}))
    assert digest([1, 2]) != digest([2, 1])


def test_one_that_means_the_same_is_the_same() -> None:
    assert digest(Path("a//b/")) == digest(PurePosixPath("a/b"))
    assert digest(math.nan) == digest(-math.nan)
    assert digest(Colour(1)) == digest(Colour.RED)
    assert digest(dt.datetime.fromisoformat("2026-07-01T12:00")) == digest(NOON)


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
_TREES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers(0, 3) | st.text(max_size=2), inner, max_size=3)
        | st.frozensets(_LEAVES, max_size=3)
    ),
    max_leaves=8,
)


def shape(value: Any) -> Any:
    """Give what two values share only if they are alike in all but the order of what has none."""
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, *map(shape, value))
    if isinstance(value, dict):
        return ("dict", frozenset((shape(key), shape(inner)) for key, inner in value.items()))
    if isinstance(value, frozenset):
        return ("frozenset", frozenset(map(shape, value)))
    return (type(value).__name__, repr(value))


@pytest.mark.slow
@given(one=_TREES, other=_TREES)
def test_two_are_the_same_only_if_they_are_alike(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == (shape(one) == shape(other))
    assert digest([one, other]) == digest([one, other])
    assert digest([one, other]) != digest([one, [other]])


class Text(str):
    __slots__ = ()


class Mine(Point):
    """A dataclass that is none itself."""


@dataclass
class Bag(list):
    label: str


class More(Couple):
    """A named tuple that may have attributes of its own."""


class Zone(dt.tzinfo):
    def utcoffset(self, when: Any) -> Any:
        return dt.timedelta(hours=2)


def tied() -> list[Any]:
    knot: list[Any] = []
    knot.append(knot)
    return knot


def more() -> Any:
    made = More(1, 2)
    made.third = 3
    return made


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "object"), (len, "builtin_function_or_method"), (Colour, "enum.EnumType"), (Point, "type"),
        (1j, "complex"), (..., "ellipsis"), (bytearray(b"1"), "bytearray"), (range(3), "range"), (Text("x"), "Text"),
        (OrderedDict(a=1), "collections.OrderedDict"), (iter(()), "tuple_iterator"), (Mine(1), "Mine"),
        (Bag("full"), "Bag"), (more(), "More"), ((1, [{"a": {2: object()}}]), "object"), (Point(1, object()), "object"),
        (NOON.replace(tzinfo=Zone()), "Zone"), (dt.timedelta(1), "datetime.timedelta"), (tied(), "list"),
        (functools.reduce(lambda inner, _: [inner], range(100_000), 1), "list"),
    ],
)  # fmt: skip
def test_what_may_hold_more_than_is_seen_is_refused(value: Any, named: str) -> None:
    with pytest.raises(UsageError) as refused:
        digest(value)
    assert f"{named} " in str(refused.value)
    assert "key=" in str(refused.value.hint)


def test_a_named_tuple_without_attributes_of_its_own_is_a_key() -> None:
    assert digest(More(1, 2)) not in (digest(Couple(1, 2)), digest(More(2, 1)))


def test_numpy_is_not_loaded_for_it() -> None:
    text = "import sys; from vigie.parallel.keys import digest; digest([1]); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], env={**os.environ, "PYTHONPATH": PATHS}).returncode == 0


def test_arrays_and_scalars() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed: no arrays to take digests of")
    array = numpy.arange(6, dtype="i4").reshape(2, 3)
    differ = [
        array, array.T, array.reshape(3, 2), array.astype("i8"), array.astype("f4"), array + 1, array.tolist(),
        array[0], array[0, 0], int(array[0, 0]), numpy.asarray(array[0, 0]), numpy.float64(0), 0.0, False,
        numpy.bool_(0), numpy.str_("a"), "a", numpy.bytes_(b"a"), numpy.datetime64(1, "s"), numpy.datetime64(1, "ms"),
        numpy.array(["a", "b"]), numpy.array(["a", "b"], dtype=object), numpy.array([["a"], "b"], dtype=object),
        numpy.zeros(2, "i4,f8"), numpy.zeros(2, [("a", "i4"), ("f1", "f8")]), numpy.zeros(2, "i4,f8")[0],
    ]  # fmt: skip
    assert len({digest(value) for value in differ}) == len(differ)
    assert digest(array.astype(">i4")) == digest(numpy.asfortranarray(array)) == digest(array)
    assert digest(array[:, ::2]) == digest(numpy.array([[0, 2], [3, 5]], dtype="i4"))
    # The bytes between fields say nothing.
    gaps = numpy.zeros(2, numpy.dtype("i1,f8", align=True))
    gaps.view("u1")[1:8] = 255
    assert digest(gaps) == digest(numpy.zeros(2, numpy.dtype("i1,f8", align=True)))
    for value in (numpy.ma.masked_array([1]), numpy.array([object()]), numpy.longdouble(1), numpy.dtype("i4")):
        with pytest.raises(UsageError, match="cannot be a key"):
            digest(value)


# Functions --------------------------------------------------------------------------

#: Two sources that make ``f``, and whether they are to be told apart.
CASES = [
    ("moved", "def f(x): return x + 1", "\n\n# more above it\ndef f(x):\n    # and inside\n\n    return x + 1", False),
    ("renamed", "def f(x): return x + 1", "def g(x): return x + 1\nf = g", False),
    ("documented", "def f(x): return None", "def f(x):\n    'It does nothing.'\n    return None", False),
    ("documented otherwise", "def f(x):\n 'a'\n return 'a'", "def f(x):\n 'b'\n return 'a'", False),
    ("annotated", "def f(x): return x", "def f(x: int) -> 'str': return x", False),
    ("documented inside", "def f():\n def g():\n  'a'\n return g", "def f():\n def g():\n  'b'\n return g", False),
    (
        "class that moved",
        "def f():\n class A:\n  x = 1\n return A",
        "\n\n\ndef f():\n class A:\n  'A.'\n  x = 1\n return A",
        False,
    ),
    ("class of another name", "def f():\n class A: x = 1\n return A", "def f():\n class B: x = 1\n return B", True),
    ("statement", "def f(x): return x", "def f(x): print(x); return x", True),
    ("constant", "def f(x): return x + 1", "def f(x): return x + 2", True),
    ("type of a constant", "def f(x): return x + 1", "def f(x): return x + 1.0", True),
    ("returned constant", "def f(): return 'a'", "def f(): return 'b'", True),
    ("sign of zero", "def f(): return 0.0", "def f(): return -0.0", True),
    ("constant in a tuple", "def f(): return (1, (2, ...))", "def f(): return (1, (3, ...))", True),
    ("imaginary constant", "def f(): return 1j", "def f(): return 2j", True),
    ("set of constants", "def f(x): return x in {1, 2}", "def f(x): return x in {1, 3}", True),
    ("order in a set", "def f(x): return x in {'a', 'b', 'c'}", "def f(x): return x in {'c', 'b', 'a'}", False),
    ("operator", "def f(x, y): return x + y", "def f(x, y): return x - y", True),
    ("comparison", "def f(x, y): return x < y", "def f(x, y): return x <= y", True),
    ("global name", "def f(x): return len(x)", "def f(x): return sum(x)", True),
    ("attribute", "def f(x): return x.a", "def f(x): return x.b", True),
    ("method", "def f(x): return x.a()", "def f(x): return x.b()", True),
    ("keyword", "def f(x): return x(a=1)", "def f(x): return x(b=1)", True),
    ("conversion", "def f(x): return f'{x!r}'", "def f(x): return f'{x!s}'", True),
    ("parameter's name", "def f(x): return 1", "def f(y): return 1", True),
    ("swapped parameters", "def f(x, y): return x - y", "def f(y, x): return x - y", True),
    ("one more parameter", "def f(x): return 1", "def f(x, y): return 1", True),
    ("keyword-only", "def f(x, y): return 1", "def f(x, *, y): return 1", True),
    ("positional-only", "def f(x, y): return 1", "def f(x, /, y): return 1", True),
    ("rest", "def f(x): return 1", "def f(*x): return 1", True),
    ("default", "def f(x=1): return x", "def f(x=2): return x", True),
    ("which has a default", "def f(x, y=1): return x", "def f(x=1, y=1): return x", True),
    ("default of a keyword", "def f(*, x=1): return x", "def f(*, x=2): return x", True),
    ("default without a digest", "def f(x=object()): return x", "def f(x=object()): return x", False),
    ("type of a default", "def f(x=object()): return x", "def f(x=[object()].__iter__()): return x", True),
    ("generator", "def f(): return 1", "def f():\n return 1\n yield", True),
    ("coroutine", "def f(): return 1", "async def f(): return 1", True),
    ("nested", "def f(): return lambda x: x + 1", "def f(): return lambda x: x + 2", True),
    ("comprehension", "def f(x): return [y for y in x]", "def f(x): return [-y for y in x]", True),
    (
        "what is caught",
        "def f():\n try: f()\n except OSError: f()",
        "def f():\n try: f()\n except ValueError: f()",
        True,
    ),
    (
        "how far it catches",
        "def f():\n try: f(); g()\n except E: h()",
        "def f():\n f()\n try: g()\n except E: h()",
        True,
    ),
    ("branch", "def f(x):\n while x: x = f(x) or x\n return 1", "def f(x):\n if x: x = f(x) or x\n return 1", True),
    ("closure", "g = lambda n: lambda x: x + n\nf = g(1)", "g = lambda n: lambda x: x + n\nf = g(2)", True),
    (
        "same closure",
        "g = lambda n: lambda x: x + n\nf = g({1: 'a'})",
        "g = lambda n: lambda x: x + n\nf = g({1: 'a'})",
        False,
    ),
    (
        "recursive closure",
        "def g():\n def f(x): return x and f(x - 1)\n return f\nf = g()",
        "def g():\n def f(x): return x and f(x - 2)\n return f\nf = g()",
        True,
    ),
    (
        "unbound closure",
        "def g():\n def f(): return y\n return f\n y = 1\nf = g()",
        "def g():\n def f(): return y\n return f\n y = 1\nf = g()",
        False,
    ),
    (
        "decorated",
        "def d(f):\n @functools.wraps(f)\n def w(*a): return f(*a)\n return w\n@d\ndef f(x): return 1",
        "def d(f):\n @functools.wraps(f)\n def w(*a): return f(*a)\n return w\n@d\ndef f(x): return 2",
        True,
    ),
    ("cached", "@functools.cache\ndef f(x): return 1", "@functools.cache\ndef f(x): return 2", True),
    ("partial", "f = functools.partial(max, 1)", "f = functools.partial(max, 2)", True),
    ("partial of another", "f = functools.partial(max, 1)", "f = functools.partial(min, 1)", True),
    ("partial of code", "f = functools.partial(lambda x, y: 1, 1)", "f = functools.partial(lambda x, y: 2, 1)", True),
    ("partial's keywords", "f = functools.partial(dict, a=1)", "f = functools.partial(dict, b=1)", True),
    ("order of keywords", "f = functools.partial(dict, a=1, b=2)", "f = functools.partial(dict, b=2, a=1)", False),
    (
        "partial that holds a function",
        "f = functools.partial(map, lambda x: 1)",
        "f = functools.partial(map, lambda x: 2)",
        True,
    ),
    (
        "bound method",
        "class A:\n def m(self): return 1\nf = A().m",
        "class A:\n def m(self): return 2\nf = A().m",
        True,
    ),
    (
        "method of another class",
        "class A:\n def m(self): return 1\nf = A().m",
        "class B:\n def m(self): return 1\nf = B().m",
        True,
    ),
    (
        "another object's method",
        "class A:\n def m(self): return 1\nf = A().m",
        "class A:\n def m(self): return 1\na = A()\nf = A().m",
        False,
    ),
    (
        "class method",
        "class A:\n @classmethod\n def m(cls): return 1\nf = A.m",
        "class A:\n @classmethod\n def m(cls): return 2\nf = A.m",
        True,
    ),
    (
        "object that is called",
        "class A:\n def __call__(self): return 1\nf = A()",
        "class A:\n def __call__(self): return 2\nf = A()",
        True,
    ),
    (
        "another such object",
        "class A:\n def __call__(self): return 1\nf = A()",
        "class A:\n def __call__(self): return 1\nf = A()",
        False,
    ),
    ("builtin", "f = len", "f = sum", True),
    ("same builtin", "f = len", "f = len", False),
    ("builtin of another module", "from os.path import join as f", "f = ''.join", True),
    ("builtin method", "f = ', '.join", "f = '; '.join", True),
    ("method of a builtin class", "f = str.upper", "f = str.lower", True),
    ("class", "class A: pass\nf = A", "class B: pass\nf = B", True),
    ("task", "import vigie\n@vigie.task\ndef f(x): return 1", "def f(x): return 1", False),
    (
        "changed task",
        "import vigie\n@vigie.task\ndef f(x): return 1",
        "import vigie\n@vigie.task\ndef f(x): return 2",
        True,
    ),
]

_COMPARE = """
import functools, json, sys
from vigie.parallel.keys import changed, fingerprint

def made(source):
    names = {"__name__": "some.module", "functools": functools}
    exec(compile(source, "source", "exec"), names)
    return fingerprint(names["f"])

cases = json.load(sys.stdin)
print(json.dumps([name for name, one, other, differ in cases if changed(made(one), made(other)) != differ]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_fingerprints_tell_what_is_another_function(python: str) -> None:
    env = {**os.environ, "PYTHONPATH": PATHS.partition(os.pathsep)[0], "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run([python, "-c", _COMPARE], env=env, input=json.dumps(CASES), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == []


def test_a_fingerprint_stays_while_its_function_runs() -> None:
    """Python changes bytecode as it runs, and where it is traced."""

    def busy(items: list[Any]) -> Any:
        total = 0
        for item in items:
            total += item.real
        return total, len(items), {str(item) for item in items}

    before = fingerprint(busy)
    seen = []
    trace = sys.gettrace()
    for _ in range(100):
        busy([1, 2, 3] * 30)
    assert fingerprint(busy) == before
    sys.settrace(lambda frame, event, arg: seen.append(event) or (lambda *_: None))
    try:
        busy([1])
        during = fingerprint(busy)
    finally:
        sys.settrace(trace)
    assert seen
    assert during == before


def test_a_fingerprint_names_the_version() -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert fingerprint(len).partition(":")[0].endswith(version)
    assert len(fingerprint(len).partition(":")[2]) == 32


def test_whatever_can_be_called_has_one() -> None:
    things = [
        operator.itemgetter(1), pathlib.Path.read_text, Path("a").read_text, type, print, [].append, "".__len__, {}.get,
        str.__len__, vigie.task(len), functools.partialmethod(len).func, functools.singledispatch(len), tied().append,
        (lambda: (yield)), object.__init_subclass__, Point, Colour, staticmethod(len), classmethod(len).__func__,
    ]  # fmt: skip
    assert len({fingerprint(thing) for thing in things}) >= len(things) - 2


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("3.11:aa", "3.11:aa", False), ("3.11:aa", "3.11:bb", True), ("3.11:aa", "3.12:aa", False),
        ("3.11:aa", "3.12:bb", False), ("pypy3.11:aa", "3.11:bb", False),
    ],
)  # fmt: skip
def test_only_fingerprints_of_one_python_are_compared(old: str, new: str, expected: bool) -> None:
    assert changed(old, new) is expected
