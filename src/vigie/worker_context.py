"""The surroundings of a job, and how they are put back. The worker loads this file by path.

Most jobs change nothing, and consecutive ones share their context: whatever can be
compared in C is compared, and only what differs is written.
"""

from __future__ import annotations

import fcntl
import functools
import os
import signal
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .worker_streams import Recorder

__all__ = ["Context", "Surroundings"]

#: The C module under ``signal``: without the enums, calls take a fifth of the time.
_raw_signal: Any = sys.modules.get("_signal", signal)
#: Signals whose handlers are put back; nobody handles the real-time ones in Python.
_USUAL = sorted(int(n) for n in signal.valid_signals() if n < 32 and n not in (signal.SIGKILL, signal.SIGSTOP))


class Context:
    """One context as the agent told it: see internals.md.

    Parameters
    ----------
    header:
        ``{cwd, env, umask, path}``.
    """

    __slots__ = ("cwd", "env", "path", "umask")

    def __init__(self, header: dict[str, Any]) -> None:
        self.cwd = _bytes(header["cwd"])
        self.env = {_bytes(k): _bytes(v) for k, v in header["env"].items()}
        self.umask = int(header["umask"])
        self.path = [str(entry) for entry in header.get("path") or ()]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class _Variable:
    """A variable of the process that is another for each job.

    The C library's setenv() keeps every value that there ever was, in a tree. With
    putenv() a buffer of ours becomes part of the environment, and what we write into
    it later is what children get.
    """

    def __init__(self, name: bytes) -> None:
        self._name = name
        self._buffer: Any = None
        self._putenv: Any = None
        try:
            import ctypes

            self._buffer = ctypes.create_string_buffer(len(name) + 80)
            self._putenv = ctypes.CDLL(None).putenv
        except (ImportError, OSError, AttributeError):
            pass  # then by setenv

    def place(self, value: bytes) -> None:
        """Make it part of the environment, in place of whatever has its name."""
        if self._putenv is None:
            os.putenv(self._name, value)
        else:
            self.set(value)
            self._putenv(self._buffer)

    def set(self, value: bytes) -> None:
        """Give it another value."""
        if self._putenv is None:
            os.putenv(self._name, value)
        else:
            self._buffer.value = b"%b=%b" % (self._name, value)


class _Signals:
    """The handlers of signals, as they were before a job, and no alarm.

    To look at all handlers takes a tenth of the time of a tiny job: so whoever may
    change them is noticed when it is called.
    """

    def __init__(self) -> None:
        self._handlers = [_raw_signal.getsignal(n) for n in _USUAL]
        self._touched = True
        original = signal.signal

        @functools.wraps(original)
        def watched(*args: Any, **named: Any) -> Any:
            self._touched = True
            return original(*args, **named)

        signal.signal = watched

    def restore(self) -> None:
        """Put back what was changed."""
        _raw_signal.setitimer(signal.ITIMER_REAL, 0.0)
        if not self._touched:
            return
        if list(map(_raw_signal.getsignal, _USUAL)) != self._handlers:
            for number, handler in zip(_USUAL, self._handlers):  # noqa: B905 - Python 3.9
                if handler is not None and _raw_signal.getsignal(number) != handler:
                    _raw_signal.signal(number, handler)
        # Not before: a handler that raises in here leaves the rest to the next call.
        self._touched = False


class Surroundings:
    """Sets the scene for each job and clears up behind it."""

    def __init__(self, home: str, out: Recorder, err: Recorder, raw: bool) -> None:
        self._home = _bytes(home)
        # Our own mark is TAG.w.ID; a job's is TAG.J.N.
        self._tag = os.environb.get(b"VIGIE_ATTEMPT", b"").rpartition(b"w.")[0]
        self._out = out
        self._err = err
        self._base_path = list(sys.path)
        self._path_object = sys.path
        self._path: list[str] = list(sys.path)
        self._environ = os.environ
        self._env: dict[bytes, bytes] = dict(os.environb)
        # The mapping inside os.environ compares in C; absent in no CPython so far.
        self._live: Any = getattr(os.environ, "_data", os.environb)
        self._current: Context | None = None
        self._job, self._mark = _Variable(b"VIGIE_JOB"), _Variable(b"VIGIE_ATTEMPT")
        self._signals = _Signals()
        self._mask = _raw_signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._spare = [_keep(fd) for fd in (1, 2)] if raw else []
        self._stdin = _null()
        vars(sys).update(stdin=self._stdin, stdout=out, stderr=err)
        vars(sys).update(__stdin__=self._stdin, __stdout__=out, __stderr__=err)
        self._dirty = False

    def enter(self, context: Context, job: int, attempt: int) -> None:
        """Make the surroundings of a job.

        Raises
        ------
        OSError
            Its directory cannot be entered.
        """
        if self._dirty:
            self.leave()  # a signal handler of the job before came between
        self._dirty = True
        if context is not self._current:
            self._switch(context)
        os.umask(context.umask)
        number = b"%d" % job
        self._env[b"VIGIE_JOB"] = self._live[b"VIGIE_JOB"] = number
        self._job.set(number)
        mark = b"%b%b.%d" % (self._tag, number, attempt)
        self._env[b"VIGIE_ATTEMPT"] = self._live[b"VIGIE_ATTEMPT"] = mark
        self._mark.set(mark)
        sys.argv = [""]
        try:
            os.chdir(context.cwd)
        except OSError as error:
            shown = context.cwd.decode("utf-8", "replace")
            raise type(error)(error.errno, f"the job's working directory: {error.strerror}", shown) from None

    def _switch(self, context: Context) -> None:
        wanted = dict(context.env)
        wanted[b"VIGIE_HOME"] = self._home
        self._env = wanted
        self._restore_environ()
        self._path = context.path + [entry for entry in self._base_path if entry not in context.path]
        sys.path[:] = self._path
        self._current = context

    def _restore_environ(self) -> None:
        live = os.environb
        for name in list(live):
            if name not in self._env:
                del live[name]
        for name, value in self._env.items():
            if live.get(name) != value:
                live[name] = value
        # Written above, or by the job, they are no longer ours.
        self._job.place(self._env.get(b"VIGIE_JOB", b""))
        self._mark.place(self._env.get(b"VIGIE_ATTEMPT", b""))

    def leave(self) -> None:
        """Put back whatever a job changed; signals first, since a handler of its could run now."""
        self._signals.restore()
        if os.environ is not self._environ:
            os.environ = self._environ  # noqa: B003 - put back, as it was replaced
        if self._live != self._env:
            self._restore_environ()
        if sys.path is not self._path_object:
            sys.path = self._path_object
        if sys.path != self._path:
            sys.path[:] = self._path
        self._restore_streams()
        self._dirty = False

    def _restore_streams(self) -> None:
        if sys.stdout is not self._out:
            _flush(sys.stdout)
            vars(sys)["stdout"] = self._out
        if sys.stderr is not self._err:
            _flush(sys.stderr)
            vars(sys)["stderr"] = self._err
        if self._stdin.closed:
            self._stdin = vars(sys)["__stdin__"] = _null()
        sys.stdin = self._stdin
        for fd, spare, flags in self._spare:
            if _flags(fd) != flags:
                os.dup2(spare, fd)

    def rest(self) -> None:
        """Let go of the job's directory, and of signals it blocked, while there is nothing to do."""
        if _raw_signal.pthread_sigmask(signal.SIG_BLOCK, ()) != self._mask:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        os.chdir("/")


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except Exception:
        pass  # what it wraps may be closed; the job is over


def _keep(fd: int) -> tuple[int, int, int]:
    """Keep a second descriptor, and mark the open file, so that one call tells whether it is still there.

    The mark is O_NOATIME, which means nothing to a file that is only written and
    which nothing else sets: asking for it is four times as fast as fstat.
    """
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NOATIME)
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    except (OSError, AttributeError):
        pass  # without the mark, a job's own file opened for append is taken for ours
    return fd, os.dup(fd), flags


def _flags(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError:
        return -1


def _null() -> Any:
    """Make descriptor 0 /dev/null and give a file object for it."""
    fd = os.open(os.devnull, os.O_RDONLY)
    if fd != 0:
        os.dup2(fd, 0)
        os.close(fd)
    os.set_inheritable(0, True)
    return open(0, encoding="utf-8", errors="surrogateescape", closefd=False)


def interruptible() -> Interrupts:
    """Have SIGINT raise KeyboardInterrupt while a job runs, and do nothing otherwise."""
    interrupts = Interrupts()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupts)
    return interrupts


class Interrupts:
    """The handler of SIGINT."""

    def __init__(self) -> None:
        self.allowed = False

    def __call__(self, number: int, frame: object) -> None:
        if self.allowed:
            raise KeyboardInterrupt
