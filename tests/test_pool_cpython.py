"""CPython's own tests of executors pass with our pools in place of its executors; what does not is listed here."""

from __future__ import annotations

import os
import pickle
import tempfile
from inspect import isfunction
from typing import Any
from unittest import mock

import pytest

import cpython_futures as cpython
from conftest import STRICT, until
from vigie.engines.interpreters import there
from vigie.errors import WorkerDied
from vigie.model import cores
from work import begin_then_wait

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
]

#: Tests that are not run, and why.
NOT_OURS = {
    "test_thread_names_assigned": "threads are named by their number alone; there is no thread_name_prefix",
    "test_thread_names_default": "as above",
    "test_max_tasks_per_child_defaults_to_spawn_context": "workers are always new processes: there is no mp_context",
    "test_max_workers_too_large": "of Windows",
}
#: Tests that run, and expect something else.
OTHERWISE = {
    "test_killed_child": "a killed worker costs the call that it had; theirs breaks the pool",
    "test_error_at_task_unpickle": "the error that an argument raises where it is read is its call's; as above",
    "test_exit_at_task_unpickle": "as above",
    "test_error_during_result_unpickle_in_result_handler": "the error that a result raises where it is read; as above",
    "test_exit_during_result_unpickle_in_result_handler": "as above",
}
#: What they expect of a call.
ERRORS: dict[str, type[BaseException]] = {
    "test_error_at_task_unpickle": pickle.UnpicklingError,
    "test_exit_at_task_unpickle": SystemExit,
    "test_error_during_result_unpickle_in_result_handler": pickle.UnpicklingError,
    "test_exit_during_result_unpickle_in_result_handler": SystemExit,
}


class Context:
    """Of ``multiprocessing``, what the tests ask for; what processes share comes from a manager."""

    def __init__(self) -> None:
        self._manager: Any = None

    def get_start_method(self, allow_none: bool = False) -> str:
        return "spawn"

    def Manager(self) -> Any:
        return cpython.mp.get_context("spawn").Manager()

    def Semaphore(self, value: int) -> Any:
        self._manager = self._manager or self.Manager()
        return self._manager.Semaphore(value)

    def close(self) -> None:
        if self._manager is not None:
            self._manager.shutdown()


class Ours:
    """What holds for all of them."""

    def setUp(self) -> None:
        self.context = Context()
        cpython.support.environment_altered = False
        super().setUp()

    def tearDown(self) -> None:
        super().tearDown()
        self.context.close()
        assert not cpython.support.environment_altered, "a thread or a process is left"

    def get_context(self) -> Context:
        return self.context


class Otherwise:
    """What takes the place of theirs."""

    def test_killed_child(self) -> None:
        with tempfile.TemporaryDirectory() as path:
            slow = self.executor.submit(begin_then_wait, f"{path}/begun", f"{path}/never")
            until(lambda: os.path.exists(f"{path}/begun"))
        for worker in self.executor._processes.values():
            worker.terminate()
        with pytest.raises(WorkerDied):
            slow.result()
        assert self.executor.submit(pow, 2, 8).result() == 256

    def test_default_workers(self) -> None:
        with mock.patch.object(os, "cpu_count", cores):  # theirs counts those too that we may not use
            self.theirs.test_default_workers(self)

    def test_traceback(self) -> None:
        # It travels by its name: by value, newer versions of cloudpickle leave out where it stood.
        with mock.patch.object(cpython, "ProcessPoolExecutorTest", type(self)):
            self.theirs.test_traceback(self)

    def _check_crash(self, error: type[BaseException], *args: Any, **how: Any) -> None:
        self.theirs._check_crash(self, ERRORS.get(self._testMethodName, error), *args, **how)


CHANGES = {name: change for name, change in vars(Otherwise).items() if isfunction(change)}


def _suites(crew: str) -> dict[str, type]:
    suites = {
        "Wait": cpython.WaitTests,
        "AsCompleted": cpython.AsCompletedTests,
        "Initializer": cpython.InitializerMixin,
        "FailingInitializer": cpython.FailingInitializerMixin,
        "Executor": cpython.ExecutorTest,
        "Shutdown": cpython.ExecutorShutdownTest,
    }
    if crew == "Threads":
        suites["Wait"] = cpython.ThreadPoolWaitTests
        suites["Executor"] = cpython.ThreadPoolExecutorTest
        suites["Shutdown"] = cpython.ThreadPoolShutdownTest
    if crew == "Processes":
        suites["Executor"] = cpython.ProcessPoolExecutorTest
        suites["Shutdown"] = cpython.ProcessPoolShutdownTest
        suites["Deadlock"] = cpython.ExecutorDeadlockTest
    return suites


def _cases() -> dict[str, type]:
    """Make the test cases: theirs, with ours in place."""
    base, made = cpython.BaseTestCase, {}
    for crew in ["Threads", "Processes", *(["Interpreters"] if there() else [])]:
        for suite, tests in _suites(crew).items():
            bases = (tests,) if issubclass(tests, base) else (tests, cpython.ExecutorMixin, base)
            own: dict[str, Any] = {name: None for name in NOT_OURS if hasattr(tests, name)}
            own |= {name: change for name, change in CHANGES.items() if hasattr(tests, name)}
            own |= {"executor_type": getattr(cpython, crew), "theirs": tests}
            made[crew + suite] = type(crew + suite, (Ours, *dict.fromkeys(bases)), own)
    return made


if cpython.FILE.exists():
    globals().update(_cases())


def test_they_are_here() -> None:
    if not cpython.FILE.exists():
        said = f"there is no {cpython.FILE}; install it by: apt-get install libpython3.11-testsuite"
        if STRICT:
            pytest.fail(said)
        pytest.skip(said)
    theirs = {name for tests in _suites("Threads").values() for name in dir(tests)}
    theirs |= {name for tests in _suites("Processes").values() for name in dir(tests)}
    assert {*NOT_OURS, *OTHERWISE, *ERRORS} <= theirs
