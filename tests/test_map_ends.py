"""How runs of ``vigie.map`` end, whatever ends them: nothing is left, and nothing is swallowed."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vigie
from conftest import until
from map_workers import children, nothing_left, words
from vigie.errors import ItemTimeout

__all__ = ["nothing_left"]  # a fixture of each test

pytestmark = pytest.mark.slow

ENGINES = ["processes", "threads", "inline"]


# Ends -------------------------------------------------------------------------------


def test_an_abandoned_run_ends_its_workers() -> None:
    run = vigie.map(time.sleep, itertools.repeat(0.01), limit=2)
    next(run)
    assert children()
    del run
    until(lambda: not children())


def test_an_error_of_the_caller_ends_its_workers() -> None:
    with pytest.raises(RuntimeError), vigie.map(time.sleep, itertools.repeat(0.01)) as run:
        next(run)
        raise RuntimeError
    assert not children()


LONG = """
import os, subprocess, sys, time, vigie
def item(_):
    child = subprocess.Popen(["sleep", "600"])
    print(os.getpid(), child.pid, flush=True)
    time.sleep(600)
list(vigie.map(item, range(2), limit=2))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_the_caller(tmp_path: Path, number: int) -> None:
    """After Ctrl-C and after kill -9 no worker lives, and nothing that it had started."""
    script = tmp_path / "script.py"
    script.write_text(LONG)
    caller = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    lines = [caller.stdout.readline().split() for _ in range(2)]
    pids = [int(pid) for line in lines for pid in line]
    caller.send_signal(number)
    try:
        caller.wait(10)
        until(lambda: not [pid for pid in pids if words(pid)], timeout=10)
    finally:
        for pid in (int(pid) for line in lines for pid in line):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        caller.communicate()


# Inside one another -------------------------------------------------------------------


@pytest.mark.parametrize("outer", ENGINES)
@pytest.mark.parametrize("inner", ENGINES)
def test_maps_nest(outer: Any, inner: Any) -> None:
    def row(number: int) -> list[int]:
        return list(vigie.map(lambda column: number * column, range(20), on=inner, limit=2))

    expected = [[number * column for column in range(20)] for number in range(4)]
    assert list(vigie.map(row, range(4), on=outer, limit=2)) == expected


def test_a_nested_run_ends_with_the_item_that_made_it(tmp_path: Path) -> None:
    def inner(number: int) -> None:
        (tmp_path / f"{number}").write_text(str(os.getpid()))
        time.sleep(60)

    def outer(_: int) -> None:
        list(vigie.map(inner, range(2), limit=2))

    (found,) = vigie.map(outer, [0], timeout=1.5, errors="collect")
    assert isinstance(found.error, ItemTimeout)
    pids = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert pids
    assert until(lambda: not any(words(pid) for pid in pids))


def pipes(_: int) -> list[str]:
    links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink() and int(path.name) > 2]
    return [name for name in map(os.readlink, links) if name.startswith("pipe:")]


def test_a_worker_holds_nothing_of_its_caller_s() -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        (found,) = vigie.map(pipes, [0])
        assert len(found) == 1, "it has more than its lifeline"
        assert os.readlink(f"/proc/self/fd/{write}") not in found
    finally:
        os.close(read)
        os.close(write)


def test_a_caller_that_ignores_its_children() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert list(vigie.map(abs, range(-5, 0), limit=2)) == [5, 4, 3, 2, 1]
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_caller_without_standard_streams(tmp_path: Path, closed: str) -> None:
    script, said = tmp_path / "script.py", tmp_path / "said"
    script.write_text(
        "import vigie, pathlib\n"
        "def loud(number):\n"
        "    print('said', number)\n"
        "    return number * number\n"
        f"pathlib.Path({str(said)!r}).write_text(str(list(vigie.map(loud, range(5), limit=2))))\n"
    )
    subprocess.run(["/bin/sh", "-c", f'exec "$0" "$1" {closed}', sys.executable, script], check=False, timeout=60)
    assert said.read_text() == "[0, 1, 4, 9, 16]"


# Interrupts ---------------------------------------------------------------------------

INTERRUPTED = """
import gc, os, random, signal, sys, threading, time, vigie
chance, times, rounds = random.Random(int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
list(vigie.map(abs, [1]))
def children():
    tasks = os.listdir("/proc/self/task")
    return [pid for task in tasks for pid in open(f"/proc/self/task/{task}/children").read().split()]
descriptors, swallowed = len(os.listdir("/proc/self/fd")), 0
for _ in range(rounds):
    waits = [chance.random() * 0.02 for _ in range(times)]
    over = threading.Event()
    def shoot():
        for wait in waits:
            time.sleep(wait)
            os.kill(os.getpid(), signal.SIGINT)
        if not over.wait(20):
            os._exit(9)  # it was swallowed
    thread = threading.Thread(target=shoot)
    try:
        try:
            thread.start()
            for _ in vigie.map(abs, iter(int, 1), limit=3):
                pass
        finally:
            over.set()
    except KeyboardInterrupt:
        pass
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt:
            pass
gc.collect()
print(children(), len(os.listdir("/proc/self/fd")) - descriptors)
"""


@pytest.mark.parametrize("times", [1, 2])
def test_interrupts_at_any_instant_end_a_run_and_leave_nothing(tmp_path: Path, times: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    words = [sys.executable, script, "7", str(times), "60"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "[] 0\n"), done.stderr


# Workers that die, or never live ------------------------------------------------------


def test_workers_killed_before_they_are_ready_cost_nothing() -> None:
    run = vigie.map(abs, range(-40, 0), limit=1, recycle=2)
    found = [next(run)]
    killed: set[int] = set()
    for value in run:
        found.append(value)
        if len(killed) < 6:
            for pid in children() - killed:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
    assert len(found) + len(killed) >= 40
    assert set(found) <= set(range(1, 41))


@pytest.mark.parametrize("number", [signal.SIGKILL])
def test_a_worker_inside_endless_c_code_ends_with_its_caller(tmp_path: Path, number: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import collections, itertools, os, vigie\n"
        "def spin(_):\n"
        "    print(os.getpid(), flush=True)\n"
        "    collections.deque(itertools.repeat(1), maxlen=0)\n"
        "list(vigie.map(spin, [0]))\n"
    )
    caller = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    pid = int(caller.stdout.readline())
    caller.send_signal(number)
    try:
        caller.wait(10)
        assert until(lambda: not words(pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        caller.communicate()


# Descriptors --------------------------------------------------------------------------

PLANES = """
import pickle, time
class Plane:
    def __init__(self, data):
        self.data = data
    def __reduce_ex__(self, protocol):
        return Plane, (pickle.PickleBuffer(self.data),)
def plane(number):
    if number == 0:
        time.sleep(0.5)
    return Plane(bytearray([number % 251]) * 140_000)
"""
FEW = """
import resource, vigie
from planes import plane
import vigie.engines.processes, vigie.parallel.course
resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))
found = enumerate(vigie.map(plane, range(600), limit=2))
print(all(bytes(one.data[:2]) == bytes([number % 251] * 2) for number, one in found))
"""
NONE = """
import resource, vigie
from planes import plane
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
hogs, errors = [], set()
for one in vigie.map(plane, range(1, 100), limit=1, errors="collect", window=4):
    errors.add(str(one.error))
    try:
        while True:
            hogs.append(open("/dev/null"))
    except OSError:
        pass
print(errors - {"None"})
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], tuple[str, str]]:
    """Give what runs a program beside the module ``planes``, and gives what it says."""
    (tmp_path / "planes.py").write_text(PLANES)

    def run(code: str) -> tuple[str, str]:
        (tmp_path / "script.py").write_text(code)
        words = [sys.executable, tmp_path / "script.py"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout, done.stderr

    return run


def test_large_results_need_few_descriptors(run: Callable[[str], tuple[str, str]]) -> None:
    assert run(FEW) == ("True\n", "")


def test_where_none_is_left_it_is_said(run: Callable[[str], tuple[str, str]]) -> None:
    error = "[Errno 24] a large result came, and there was no descriptor left for it"
    assert run(NONE) == (f"{ ({error})!r}\n", "")


def test_a_limit_to_the_size_of_files_is_named(run: Callable[[str], tuple[str, str]]) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    assert "File too large" in run(f"{limit}import vigie\nlist(vigie.map(abs, [1]))\n")[1]
