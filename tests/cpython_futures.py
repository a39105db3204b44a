"""CPython's own tests of executors, with our pools in place of its executors; ``test_pool_cpython.py`` runs them.

The file is Debian's (libpython3.11-testsuite). Its text is run here, so that workers and
scripts, which import this module by its name, find in it what the tests define.
"""

from __future__ import annotations

import concurrent.futures
import os
import signal
import sys
import types
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import vigie
from vigie.errors import NotSerializable, WorkerDied
from vigie.parallel.failures import _RemoteTraceback

#: The module that has the tests, as it is in Debian.
FILE = Path("/usr/lib/python3.11/test/test_concurrent_futures.py")

# What is put in its place in the text: (what, by what, why).
INSTEAD = [
    ("from concurrent import futures\n", "\n", "ours is below"),
    ("from concurrent.futures import {executor_type}", "from cpython_futures import {executor_type}", "scripts"),
    ("import ThreadPoolExecutor\n", "import Threads as ThreadPoolExecutor\n", "a script"),
    ("from concurrent.futures import Threads", "from cpython_futures import Threads", "that script"),
    ("from test.test_concurrent_futures import", "from cpython_futures import", "scripts"),
    ("if self.executor_type == futures.ProcessPoolExecutor:", "if False:", "theirs hangs there, ours does not"),
    ("with futures.ProcessPoolExecutor(1, mp_context=mp.get", "with Forking(1, mp_context=mp.get", "it is to fork us"),
]


class _InPlace(vigie.Pool):
    """What the tests look at inside an executor, from what ours says of itself."""

    @property
    def _max_workers(self) -> int:
        return self.stats().limit

    @property
    def _broken(self) -> bool:
        try:
            self.submit(int)
        except BrokenExecutor:
            return True
        return False


class Threads(_InPlace):
    """In place of ``ThreadPoolExecutor``."""

    def __init__(self, max_workers: int | None = None, **options: Any) -> None:
        super().__init__(max_workers, on="threads", **options)

    @property
    def _threads(self) -> list[Any]:
        return list(self._desk.crew._threads)


class Processes(_InPlace):
    """In place of ``ProcessPoolExecutor``; our workers have no start method."""

    def __init__(
        self, max_workers: int | None = None, mp_context: Any = None, max_tasks_per_child: int | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(max_workers, recycle=max_tasks_per_child, **options)

    @property
    def _processes(self) -> dict[int, Worker]:
        return {pid: Worker(pid) for pid in self._desk.crew.pids()}

    @property
    def _executor_manager_thread(self) -> Any:
        return self._desk.thread

    #: They are sockets, which need nobody to end them.
    _call_queue = types.SimpleNamespace(join_thread=lambda: None)


class Interpreters(Threads):
    """In place of ``ThreadPoolExecutor``, where Python has interpreters."""

    def __init__(self, max_workers: int | None = None, **options: Any) -> None:
        _InPlace.__init__(self, max_workers, on="interpreters", **options)


class Worker:
    """A worker process, as the tests speak of it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def join(self) -> None:
        from conftest import until

        until(lambda: not os.path.exists(f"/proc/{self.pid}"), what=f"the end of {self.pid}")

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)


#: What the tests take from ``concurrent.futures``.
futures = types.SimpleNamespace(
    **{name: getattr(concurrent.futures, name) for name in dir(concurrent.futures) if not name.startswith("__")}
)
futures.ThreadPoolExecutor, futures.ProcessPoolExecutor = Threads, Processes
futures.process = types.SimpleNamespace(_RemoteTraceback=_RemoteTraceback)
Forking = concurrent.futures.ProcessPoolExecutor


def _text() -> str:
    text = FILE.read_text()
    for what, by, why in INSTEAD:
        assert what in text, f"{FILE} has no {what!r} ({why})"
        text = text.replace(what, by)
    return text


if FILE.exists():
    try:
        import test
    except ImportError:  # there are Pythons without
        test = sys.modules["test"] = types.ModuleType("test")
        test.__path__ = []
    test.__path__.append(str(FILE.parent))
    exec(compile(_text(), str(FILE), "exec"))
    _assert_python_ok = assert_python_ok  # noqa: F821 - the text defines it

    def assert_python_ok(how: str, script: str) -> Any:
        """Run a script that finds this module, and Vigie."""
        path = [os.path.dirname(__file__), os.path.dirname(os.path.dirname(vigie.__file__))]
        return _assert_python_ok(how, f"import sys; sys.path[:0] = {path}\n{script}")

    # What is not broken for all fails for one, and what cannot travel says so by one error of ours.
    BrokenProcessPool, PicklingError = WorkerDied, NotSerializable
    _RemoteTraceback.tb = property(lambda self: self.text)

assert sys.modules[__name__].__spec__ is not None, "workers import it by its name"
