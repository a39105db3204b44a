"""What every test shares: a home of its own, the real program, and waiting.

``home`` gives each test a ``VIGIE_HOME`` that nothing else uses, and leaves no
process behind; ``vigie`` runs the program itself in it; ``until`` waits on the
outside world; ``need`` asks for a tool of the system. All are safe under
pytest-xdist, since no two tests share a path.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings

from vigie.config import Home

T = TypeVar("T")

CI = bool(os.environ.get("CI"))
#: Where ``make test`` has installed tools/system-packages, so that nothing is skipped.
STRICT = CI or (os.geteuid() == 0 and shutil.which("apt-get") is not None)

#: Searches for what breaks a promise: minutes, where the other tests take seconds.
PROOFS = {
    "test_crash_points.py", "test_damage.py", "test_faults.py", "test_power_cut.py", "test_shellmap_differences.py",
    "test_shellmap_oracle.py", "test_simulation.py", "test_torture_long.py", "test_triggers_calendar_fuzz.py",
    "test_triggers_rrule_fuzz.py",
}  # fmt: skip


#: Options that make a run as long as one likes.
LONG = ("VIGIE_FAULTS", "VIGIE_FUZZ", "VIGIE_POWER_CUT", "VIGIE_SEEDS", "VIGIE_SIMULATIONS", "VIGIE_TORTURE")


# Under nohup, all that we start would ignore it: tests tell what it does.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what ``make proofs`` runs, and let what was asked to be long take its time."""
    for item in items:
        if item.path.name in PROOFS:
            item.add_marker("proof")
            if any(os.environ.get(option) for option in LONG):
                item.add_marker(pytest.mark.timeout(0))


settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if CI else "dev"))


def until(
    predicate: Callable[[], T],
    timeout: float = 30.0,
    what: str | None = None,
    interval: float = 0.005,
) -> T:
    """Poll ``predicate`` until it gives something true, and return that.

    The only place of the tests that sleeps. It is for what sends no event to a
    test: a process table, a file that another program writes. Where there is
    something to wait on (a process, a socket, a pipe), wait on that instead.

    ``timeout`` and ``interval`` are in seconds. A timeout is a failure that
    says what was awaited and what was last seen.
    """
    deadline = time.monotonic() + timeout
    while True:
        seen = predicate()
        if seen:
            return seen
        if time.monotonic() > deadline:
            name = what or getattr(predicate, "__name__", repr(predicate))
            raise AssertionError(f"waited {timeout:g} s for {name}; last seen: {seen!r}")
        time.sleep(interval)


def need(tool: str, install: str | None = None) -> str:
    """Give the path of a program that a test drives, or end the test.

    On a laptop the test is skipped with the line that installs the tool. With ``CI``
    set, or as root where there is an apt-get, ``make test`` has installed
    ``tools/system-packages``: there a missing tool is a failure.
    """
    path = shutil.which(tool)
    if path:
        return path
    said = f"{tool} is missing; install it by: {install or f'apt-get install {tool}'}"
    if STRICT:
        pytest.fail(f"{said} (as root or with CI set nothing is skipped)")
    pytest.skip(said)


@pytest.fixture(name="until")
def _until() -> Callable[..., Any]:
    return until


@pytest.fixture(name="need")
def _need() -> Callable[..., str]:
    return need


# Processes ---------------------------------------------------------------------


@dataclass(frozen=True)
class Process:
    """A living process that belongs to a test's home."""

    pid: int
    ppid: int
    ticks: int
    argv: tuple[str, ...]
    attempt: str | None

    @property
    def kind(self) -> str:
        """``agent``, ``keeper``, ``worker`` or ``other``."""
        words = self.argv
        for module in ("agent", "keeper"):
            files = (f"vigie/{module}.py", f"vigie/{module}/__main__.py")
            if any(word == f"vigie.{module}" or word.endswith(files) for word in words):
                return module
        return "worker" if any(word.endswith("worker.py") for word in words) else "other"

    def __str__(self) -> str:
        mark = f" [{self.attempt}]" if self.attempt else ""
        return f"{self.pid}{mark} {' '.join(self.argv)[:200]}"


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start time of a process; None when it is gone."""
    text = _read(pid, "stat")
    if not text:
        return None
    fields = text.rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[1]), int(fields[19])


def _touches(pid: int, root: bytes) -> bool:
    for name in ("fd/0", "fd/1", "fd/2", "cwd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/{name}".encode()).startswith(root):
                return True
    return False


def processes_of(root: str | os.PathLike[str]) -> list[Process]:
    """List the living processes that belong to a home.

    One belongs when its command line or its environment names the home, when it
    carries an attempt's mark and has a file of the home for a stream, or when it
    descends from one that belongs.
    """
    where = os.fsencode(os.fspath(root))
    found: dict[int, Process] = {}
    rest: dict[int, Process] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        pid = int(entry)
        stat = _stat(pid)
        if stat is None or stat[0] in "ZX":
            continue
        environ = _read(pid, "environ").split(b"\0")
        marks = [item[14:].decode("utf-8", "replace") for item in environ if item.startswith(b"VIGIE_ATTEMPT=")]
        mark = marks[0] if marks else None
        argv = tuple(word.decode("utf-8", "replace") for word in _read(pid, "cmdline").split(b"\0")[:-1])
        process = Process(pid, stat[1], stat[2], argv, mark)
        ours = os.fsdecode(where) in argv or b"VIGIE_HOME=" + where in environ
        if ours or (mark is not None and _touches(pid, where + b"/")):
            found[pid] = process
        else:
            rest[pid] = process
    grown = True
    while grown:
        heirs = [pid for pid, process in rest.items() if process.ppid in found]
        for pid in heirs:
            found[pid] = rest.pop(pid)
        grown = bool(heirs)
    return sorted(found.values(), key=lambda process: process.pid)


def kill(process: Process) -> None:
    """Kill one process and wait until it is gone; its number may not have passed to another."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        stat = _stat(process.pid)
        if stat is None or stat[2] != process.ticks:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(10_000)
    finally:
        os.close(descriptor)


def _busy(process: Process, home: Home) -> bool:
    """Tell whether a worker's page says that it runs a job."""
    number = process.argv[-1]
    if not number.isdigit():
        return False
    page = Path(home.worker_dir(int(number)), "page")
    try:
        head = page.read_bytes()[:32]
    except OSError:
        return False
    if len(head) < 32:
        return False
    _limit, started, ended = struct.unpack_from("<QQQ", head, 8)
    return bool(started > ended)


class HomeUnderTest(Home):
    """The home of one test: :class:`vigie.config.Home`, and a path itself.

    ``str(home)``, ``os.fspath(home)`` and ``home / "db"`` work. ``user`` is the
    ``HOME`` of the test, an empty directory and the default directory of programs.
    Set ``leftovers_expected`` in a test that leaves work running on purpose: it is
    still ended, but not counted as a failure.
    """

    def __init__(self, top: str) -> None:
        super().__init__(os.path.join(top, "h"))
        self.top = top
        self.user = os.path.join(top, "u")
        self.leftovers_expected = False
        self.started: list[subprocess.Popen[Any]] = []

    def __fspath__(self) -> str:
        return self.root

    def __str__(self) -> str:
        return self.root

    def __truediv__(self, name: str) -> Path:
        return Path(self.root, name)

    def processes(self, kind: str | None = None) -> list[Process]:
        """List living processes of this home: all, or ``agent keeper worker other`` alone."""
        every = {process.pid: process for process in processes_of(self.root)}
        # A child between fork and exec looks like its parent.
        forked = {
            p.pid for p in every.values() if p.ppid in every and every[p.ppid].argv == p.argv and p.kind != "other"
        }
        return [p for p in every.values() if p.pid not in forked and kind in (None, p.kind)]

    def leftovers(self) -> list[Process]:
        """List what a test has no business to leave: all but agent, keeper and idle workers."""
        ours = ("agent", "keeper")
        return [
            process
            for process in processes_of(self.root)
            if process.kind not in ours and (process.kind != "worker" or _busy(process, self))
        ]

    def end(self) -> list[Process]:
        """End every process of this home and give those that should not have been there."""
        for live in self.started:
            if live.poll() is None:
                live.kill()
            live.wait()
            for stream in (live.stdin, live.stdout, live.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        if not os.path.exists(self.root) and not self.started:
            return []
        left = self.leftovers()
        if left and not self.leftovers_expected:
            # What was told to end may need a moment to be gone from the process table.
            with contextlib.suppress(AssertionError):
                until(lambda: not self.leftovers(), timeout=2.0)
            left = self.leftovers()
        # The agent first: it would replace a worker that dies.
        order = ("agent", "keeper", "worker", "other")
        quiet = 0
        while quiet < 2:
            alive = processes_of(self.root)
            for process in sorted(alive, key=lambda process: order.index(process.kind)):
                kill(process)
            quiet = 0 if alive else quiet + 1
        return left


def _isolate(monkeypatch: pytest.MonkeyPatch, home: HomeUnderTest) -> None:
    alone = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONUNBUFFERED", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
    for name in list(os.environ):
        if name.startswith(("XDG_", "VIGIE_")) or name in alone:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", home.user)
    monkeypatch.setenv("VIGIE_HOME", home.root)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[HomeUnderTest]:
    """Give a home of the test's own, in a path short enough for any socket.

    ``HOME`` is an empty directory, ``VIGIE_HOME`` is set to a directory that does
    not exist yet, every other ``VIGIE_*`` and all ``XDG_*`` are unset. At the end
    every process of the home is killed by pid; one that is neither agent, keeper
    nor an idle worker makes the test fail.
    """
    top = tempfile.mkdtemp(prefix="vg-", dir="/tmp" if os.access("/tmp", os.W_OK) else None)
    made = HomeUnderTest(top)
    os.mkdir(made.user, 0o700)
    _isolate(monkeypatch, made)
    left: list[Process] = []
    try:
        yield made
    finally:
        left = made.end()
        _delete(top)
    if left and not made.leftovers_expected:
        pytest.fail("the test left processes running:\n  " + "\n  ".join(map(str, left)))


def _delete(top: str) -> None:
    def open_up(remove: Callable[[str], Any], path: str, _error: object) -> None:
        # Tests take write permission away from directories on purpose.
        os.chmod(os.path.dirname(path), 0o700)
        with contextlib.suppress(FileNotFoundError):
            if os.path.isdir(path) and not os.path.islink(path):
                os.chmod(path, 0o700)
            remove(path)

    if sys.version_info >= (3, 12):
        shutil.rmtree(top, onexc=open_up)
    else:
        shutil.rmtree(top, onerror=open_up)


# The program -------------------------------------------------------------------


class Program:
    """Runs ``python -m vigie`` in a test's home."""

    def __init__(self, home: HomeUnderTest) -> None:
        self.home = home

    def environment(self, changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Give the environment of a run: the test's, with ``changes`` (None unsets)."""
        env = dict(os.environ)
        for name, value in (changes or {}).items():
            if value is None:
                env.pop(name, None)
            else:
                env[name] = value
        return env

    def __call__(
        self,
        *args: str | bytes | os.PathLike[str],
        input: str | bytes | None = None,  # noqa: A002 - the name that subprocess.run uses
        text: bool = True,
        timeout: float = 60.0,
        env: Mapping[str, str | None] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        check: bool = False,
    ) -> subprocess.CompletedProcess[Any]:
        """Run to the end and give the result, with ``stdout`` and ``stderr`` captured.

        ``text=False`` gives bytes. ``env`` changes the test's environment, ``cwd`` is
        the test's empty ``HOME`` unless given, ``timeout`` is in seconds, and ``check``
        fails the test with both streams shown unless the exit code is 0. Without
        ``input`` the standard input is /dev/null.
        """
        how: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"} if text else {}
        if isinstance(input, str) and not text:
            input = input.encode()  # noqa: A001
        if input is None:
            how["stdin"] = subprocess.DEVNULL
        else:
            how["input"] = input
        done = subprocess.run(
            [sys.executable, "-m", "vigie", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(env),
            cwd=cwd or self.home.user,
            timeout=timeout,
            check=False,
            **how,
        )
        if check and done.returncode:
            shown = " ".join(map(str, args))
            pytest.fail(f"vigie {shown} ended with {done.returncode}\n{done.stdout!s}\n{done.stderr!s}")
        return done

    def popen(
        self,
        *args: str | bytes | os.PathLike[str],
        text: bool = False,
        env: Mapping[str, str | None] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        **more: Any,
    ) -> subprocess.Popen[Any]:
        """Start and give the live process: its streams are pipes unless said otherwise.

        It is killed at the end of the test if it still lives then.
        """
        pipe = subprocess.PIPE
        how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe}
        if text:
            how |= {"encoding": "utf-8", "errors": "surrogateescape"}
        live = subprocess.Popen(
            [sys.executable, "-m", "vigie", *args],
            env=self.environment(env),
            cwd=cwd or self.home.user,
            **(how | more),
        )
        self.home.started.append(live)
        return live


@pytest.fixture
def vigie(home: HomeUnderTest) -> Program:
    """Give the real program: ``vigie("jobs", "--json").stdout``."""
    return Program(home)
