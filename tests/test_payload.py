"""Values, functions and exceptions on their way between processes."""

from __future__ import annotations

import functools
import json
import math
import os
import subprocess
import sys
import threading
import types
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vigie.payload as p
from vigie import callables

KEY = b"secret" * 6

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda c: st.lists(c) | st.dictionaries(st.text(), c),
)
values = st.recursive(
    json_values
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters(codec=None, exclude_categories=())),
    lambda c: st.lists(c) | st.tuples(c, c) | st.dictionaries(st.integers() | st.text(), c),
)


class Point(NamedTuple):
    x: object
    y: object


def same(a, b):
    """Equal, and of the same kinds all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@given(json_values)
def test_plain_values_travel_as_json(value):
    encoding, data = p.dumps(value, None)
    assert encoding == "json"
    assert same(json.loads(data), value)
    assert same(p.loads(encoding, data, None), value)


@given(values)
def test_every_value_comes_back_the_same(value):
    encoding, data = p.dumps(value, KEY)
    assert same(p.loads(encoding, data, KEY), value)


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize("value", [
    (), b"", {1: 2}, {"a": (1,)}, [[b""]], True + 1j, "\ud800", ["\udcff"], Text("a"), {Text("a"): 1},
    pytest.param(10**5000, id="huge"), pytest.param([10**5000], id="huge inside"),
    Point(1, 2), frozenset([1]), {None: 1}, range(3), math.sqrt, Ellipsis,
])  # fmt: skip
def test_what_json_would_change_is_pickled(value):
    encoding, data = p.dumps(value, KEY)
    assert encoding == "pickle"
    assert same(p.loads(encoding, data, KEY), value)


def test_not_finite():
    encoding, data = p.dumps([float("nan"), float("-inf")], None)
    assert encoding == "json"
    back = p.loads(encoding, data, None)
    assert math.isnan(back[0])
    assert back[1] == float("-inf")


def test_a_cycle_is_pickled_and_depth_survives():
    loop = []
    loop.append(loop)
    encoding, data = p.dumps(loop, KEY)
    back = p.loads(encoding, data, KEY)
    assert back[0] is back


# --- signatures ---------------------------------------------------------------


@given(st.data())
def test_any_changed_byte_is_refused_before_it_is_unpickled(data):
    _, signed = p.dumps((1, 2), KEY)
    at = data.draw(st.integers(0, len(signed) - 1))
    bit = data.draw(st.integers(0, 7))
    forged = bytearray(signed)
    forged[at] ^= 1 << bit
    with pytest.raises(p.PayloadError, match="signature"):
        p.loads("pickle", bytes(forged), KEY)


@pytest.mark.parametrize("data", [b"", b"x" * 32, b"x" * 100])
def test_garbage_is_refused(data):
    with pytest.raises(p.PayloadError, match="signature"):
        p.loads("pickle", data, KEY)


def test_without_a_key_nothing_is_pickled():
    with pytest.raises(p.PayloadError, match="no key"):
        p.dumps((1,), None)
    with pytest.raises(p.PayloadError, match="no key"):
        p.loads("pickle", p.dumps((1,), KEY)[1], None)


def test_a_pickle_of_another_python_is_refused(monkeypatch):
    monkeypatch.setattr(p, "_here", lambda: ("3.8", "/elsewhere"))
    _, data = p.dumps((1,), KEY)
    monkeypatch.undo()
    with pytest.raises(p.PayloadError, match=r"Python 3\.8 \(/elsewhere\)"):
        p.loads("pickle", data, KEY)


def test_unknown_encoding():
    with pytest.raises(p.PayloadError, match="zip"):
        p.loads("zip", b"", KEY)


def test_what_cannot_be_unpickled_says_so():
    module = types.ModuleType("gone_module")
    module.Thing = type("Thing", (), {"__module__": "gone_module"})
    sys.modules["gone_module"] = module
    _, data = p.dumps(module.Thing(), KEY)
    del sys.modules["gone_module"]
    with pytest.raises(p.PayloadError, match="gone_module"):
        p.loads("pickle", data, KEY)


# --- who cannot travel --------------------------------------------------------


class Holder:
    def __init__(self, held):
        self.held = held


@pytest.mark.parametrize(("args", "kwargs", "where"), [
    (([{"x": threading.Lock()}],), {}, r"args\[0\]\[0\]\['x'\]"),
    ((1, Holder([threading.Lock()])), {}, r"args\[1\]\.held\[0\]"),
    ((), {"word": (1, threading.Lock())}, r"kwargs\['word'\]\[1\]"),
    ((functools.partial(len, threading.Lock()),), {}, r"args\[0\]\.args\[0\]"),
])  # fmt: skip
def test_the_culprit_is_named(args, kwargs, where):
    with pytest.raises(p.PayloadError, match=where + " is a _thread.lock"):
        p.dump_arguments(args, kwargs, KEY)


def test_the_culprit_that_a_function_takes_along_is_named():
    lock = threading.Lock()

    def uses():
        return lock

    with pytest.raises(p.PayloadError, match=r"the variable 'lock' of .*uses is a _thread.lock"):
        callables.dump_function(uses, KEY)


def test_arguments():
    assert p.dump_arguments((1, "a"), {"k": []}, None) == ("json", b'[[1,"a"],{"k":[]}]')
    encoding, data = p.dump_arguments(((1,),), {}, KEY)
    assert p.loads(encoding, data, KEY) == [[(1,)], {}]


# --- functions ----------------------------------------------------------------


class Kind:
    def method(self):
        return self

    @classmethod
    def make(cls):
        return cls

    @staticmethod
    def plain():
        return 1


class Wrapper:
    def __init__(self, function):
        self.__vigie_function__ = function


def original():
    return "original"


wrapped = Wrapper(original)
original_behind = Wrapper(original)


def behind_its_wrapper():
    return "behind"


behind_its_wrapper = Wrapper(behind_its_wrapper)


@pytest.mark.parametrize(("function", "reference"), [
    (os.path.join, "posixpath:join"), (len, "builtins:len"), (math.sqrt, "math:sqrt"),
    (Kind.make, f"{__name__}:Kind.make"), (Kind.plain, f"{__name__}:Kind.plain"), (Kind, f"{__name__}:Kind"),
    (wrapped, f"{__name__}:original"), (behind_its_wrapper, f"{__name__}:behind_its_wrapper"),
    (json.JSONDecoder.decode, "json.decoder:JSONDecoder.decode"), (str.upper, "builtins:str.upper"),
    (dict.fromkeys, "builtins:dict.fromkeys"),
])  # fmt: skip
def test_what_can_be_imported_travels_by_its_path(function, reference):
    assert callables.dump_function(function, None) == (reference, None, reference)


def made(n):
    def inner(x):
        return x + n

    return inner


@pytest.mark.parametrize(("function", "args", "value", "label"), [
    (lambda x: x * 2, (4,), 8, "<lambda>"), (made(3), (4,), 7, "made.<locals>.inner"),
    (functools.partial(int, base=2), ("11",), 3, "functools.partial"), ("abc".upper, (), "ABC", "str.upper"),
    (functools.partial(made(1), 1), (), 2, "partial"),
])  # fmt: skip
def test_the_rest_is_pickled(function, args, value, label):
    reference, code, shown = callables.dump_function(function, KEY)
    assert reference is None
    assert label in shown
    assert p.loads("pickle", code, KEY)(*args) == value


def test_a_name_that_means_something_else_now_is_pickled():
    def original():
        return "another"

    original.__qualname__ = "original"
    reference, code, _ = callables.dump_function(original, KEY)
    assert reference is None
    assert p.loads("pickle", code, KEY)() == "another"


def test_a_function_of_main_or_of_a_made_up_module_reaches_another_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, types, vigie.payload as p\nfrom vigie import callables\n"
        "def helper(): return 'helped'\n"
        "def f(): return helper()\n"
        "class C:\n    pass\n"
        "m = types.ModuleType('made_up'); sys.modules['made_up'] = m\n"
        "exec('def g(): return h()\\ndef h(): return 5', m.__dict__)\n"
        "for fn in (f, m.g):\n"
        "    ref, code, label = callables.dump_function(fn, b'k')\n"
        "    assert ref is None, ref\n"
        "    print(code.hex())\n"
        "c = C(); c.x = 4\n"
        "print(p.dumps(c, b'k')[1].hex())\n"
    )
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout.split()
    reader = (
        "import sys, vigie.payload as p\nfrom vigie import callables\n"
        "f, g, c = (p.loads('pickle', bytes.fromhex(x), b'k') for x in sys.argv[1:])\n"
        "assert (f(), g(), c.x) == ('helped', 5, 4)\n"
    )
    subprocess.run([sys.executable, "-c", reader, *made], check=True)


def test_what_cannot_be_called():
    with pytest.raises(p.PayloadError, match="cannot be called"):
        callables.dump_function(5, KEY)


# --- exceptions ---------------------------------------------------------------


class TwoArguments(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def raised(function):
    try:
        function()
    except BaseException as error:
        return error


def test_an_exception_keeps_its_causes_and_attributes():
    def fail():
        try:
            try:
                {}["k"]
            except KeyError:
                raise OSError(2, "inner") from None
        except OSError as error:
            problem = ValueError("outer", 5)
            problem.extra = {"a": 1}
            raise problem from error

    back = p.load_exception(p.dump_exception(raised(fail), KEY), KEY)
    assert type(back) is ValueError
    assert back.args == ("outer", 5)
    assert back.extra == {"a": 1}
    assert isinstance(back.__cause__, FileNotFoundError)
    assert back.__cause__.errno == 2


def test_a_context_travels_too():
    def fail():
        try:
            {}["k"]
        except KeyError:
            raise ValueError("second")  # noqa: B904

    back = p.load_exception(p.dump_exception(raised(fail), KEY), KEY)
    assert isinstance(back.__context__, KeyError)
    assert back.__cause__ is None


def test_an_exception_that_cannot_travel():
    assert p.dump_exception(TwoArguments(1, 2), KEY) is None
    cause = ValueError("fine")
    cause.__cause__ = TwoArguments(1, 2)
    back = p.load_exception(p.dump_exception(cause, KEY), KEY)
    assert str(back) == "fine"
    assert back.__cause__ is None
    assert p.dump_exception(ValueError("x"), None) is None


# --- dependencies -------------------------------------------------------------


class Job:
    def __init__(self, number):
        self.id = number


def is_job(value):
    return isinstance(value, Job)


def test_jobs_are_found_wherever_they_stand():
    args = (Job(1), [0, (Job(2), {"k": Job(3), 4: [Job(4)]})], Point(Job(5), 1), "text")
    kwargs = {"word": Job(6), "none": None}
    clean, named, found = p.extract_dependencies(args, kwargs, is_job)
    assert clean == (None, [0, (None, {"k": None, 4: [None]})], Point(None, 1), "text")
    assert isinstance(clean[2], Point)
    assert named == {"word": None, "none": None}
    assert [job for _, job in found] == [1, 2, 3, 4, 5, 6]
    assert args[0].id == 1, "the caller's own values stay"
    assert args[1][1][0].id == 2
    both = [list(clean), named]
    for path, job in json.loads(json.dumps(found)):
        both = p.insert(both, path, f"result {job}")
    assert both == [
        ["result 1", [0, ("result 2", {"k": "result 3", 4: ["result 4"]})], Point("result 5", 1), "text"],
        {"word": "result 6", "none": None},
    ]


def test_without_jobs_nothing_is_copied():
    value = [{"a": [1, 2]}]
    clean, _, found = p.extract_dependencies((value,), {}, is_job)
    assert found == []
    assert clean[0] is value


@pytest.mark.parametrize("value", [{Job(1)}, {(1, 2): Job(1)}, {None: [Job(1)]}])
def test_jobs_where_they_cannot_be_replaced(value):
    with pytest.raises(p.PayloadError, match="cannot be replaced"):
        p.extract_dependencies((value,), {}, is_job)


def test_a_cycle_in_the_arguments_ends():
    loop = [1]
    loop.append(loop)
    clean, _, found = p.extract_dependencies((loop,), {}, is_job)
    assert found == []
    assert clean[0] is loop


# --- the key, and what it costs -----------------------------------------------


def test_the_key_is_every_byte_of_the_file(tmp_path):
    (tmp_path / "secret").write_bytes(b" key\n")
    assert p.read_key(str(tmp_path / "secret")) == b" key\n"
    assert p.read_key(str(tmp_path / "none")) is None


def test_json_alone_loads_nothing_heavy():
    program = (
        "import sys, json; before = set(sys.modules); import vigie.payload as p\nfrom vigie import callables\n"
        "p.loads(*p.dumps([1, {'a': None}], None), None); callables.dump_function(len, None)\n"
        "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('vigie')))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not {"pickle", "hmac", "hashlib", "cloudpickle", "typing"} & set(out.split())
