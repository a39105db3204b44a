"""What makes a worker unfit for another job: children, old sources, growth.

The worker loads this file by path.
"""

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Sources", "become_subreaper", "has_children", "resident", "stop_children"]

_PR_SET_CHILD_SUBREAPER = 36
#: Seconds for children that are ending anyway, as a shell whose output was just read to its end.
_ENDING = 0.1
#: Seconds between SIGTERM and SIGKILL, and until we stop waiting for a killed child.
_GRACE = 0.5
_PATIENCE = 5.0


# --- children -----------------------------------------------------------------


def become_subreaper() -> bool:
    """Have orphans of our jobs come to us, also those in sessions of their own; True on success."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


def has_children() -> bool:
    """Tell whether there is any child, ended ones included; 1.5 µs when there is none."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def stop_children() -> list[str]:
    """Stop every process that a job left behind, and name them.

    Those that Python itself keeps for a while (multiprocessing's resource tracker
    and fork server) are told to end and not named; ended ones are reaped, and those
    that end by themselves within a moment are not named either.
    """
    _stop_helpers()
    left = _wait_for_end(time.monotonic() + _ENDING)
    names = [f"{pid} ({name})" for pid, name in left.items()]
    number = signal.SIGTERM
    start = time.monotonic()
    while left and time.monotonic() - start < _GRACE + _PATIENCE:
        for pid in left:
            _kill(pid, number)
            _kill(pid, signal.SIGCONT)
        deadline = start + _GRACE if number == signal.SIGTERM else time.monotonic() + 0.05
        left = _wait_for_end(deadline)
        number = signal.SIGKILL
    return names


def _wait_for_end(deadline: float) -> dict[int, str]:
    """Reap what ends until nothing is left or it is time; give what is left."""
    while True:
        left = _descendants()
        _reap()  # after the look, so that whatever it left out as ended is gone
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.002)


def _stop_helpers() -> None:
    for module, thing in (("forkserver", "_forkserver"), ("resource_tracker", "_resource_tracker")):
        helper: Any = getattr(sys.modules.get("multiprocessing." + module), thing, None)
        try:
            if helper is not None:
                helper._stop()
        except Exception:
            pass  # then it is stopped as any other child


def _reap() -> None:
    try:
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is not None:
            pass
    except ChildProcessError:
        pass


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass  # gone, or no longer ours to signal


def _descendants() -> dict[int, str]:
    """Give the living processes below us: pid -> name, parents first."""
    below: dict[int, list[tuple[int, str]]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    head, _, tail = file.read().rpartition(b")")
            except OSError:
                continue
            fields = tail.split()
            if fields[0] not in (b"Z", b"X"):
                name = head.partition(b"(")[2].decode("utf-8", "replace")
                below.setdefault(int(fields[1]), []).append((int(entry), name))
    found: dict[int, str] = {}
    wanted = [os.getpid()]
    for parent in wanted:
        for pid, name in below.get(parent, ()):
            found[pid] = name
            wanted.append(pid)
    return found


# --- sources ------------------------------------------------------------------


class Sources:
    """Knows the source files that jobs have imported, and when one has changed.

    The standard library, installed packages and our own files are left out.
    """

    def __init__(self) -> None:
        own = os.path.dirname(os.path.realpath(__file__))
        self._outside = (os.path.dirname(os.__file__) + os.sep, own + os.sep)
        self._count = 0
        self._modules: set[str] = set()
        self._files: dict[str, tuple[int, int]] = {}
        self._changed: str | None = None
        self.note(0)

    def note(self, began: int) -> None:
        """Look for modules imported since the last call; ``began`` (ns UTC) is before their import."""
        if len(sys.modules) == self._count:
            return
        for name, module in list(sys.modules.items()):
            if name in self._modules:
                continue
            self._modules.add(name)
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and self._watched(path):
                state = _state(path)
                if state is not None:
                    self._files[path] = state
                    # Changed while it was being imported: what we run may be either.
                    if began and state[0] > began:
                        self._changed = path
        self._count = len(sys.modules)

    def _watched(self, path: str) -> bool:
        if "/site-packages/" in path or "/dist-packages/" in path:
            return False
        return not path.startswith(self._outside)

    def changed(self) -> str | None:
        """Give a file that is no longer as it was imported, or None."""
        if self._changed is None:
            for path, state in self._files.items():
                if _state(path) != state:
                    return path
        return self._changed


def _state(path: str) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size


# --- memory -------------------------------------------------------------------


def resident() -> int:
    """Give our resident memory in bytes, 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
