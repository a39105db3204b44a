"""Control groups of version 2 for lives with limits, where one is delegated to us.

A limit of memory or processes then holds for the whole tree of a life, and ``cpu`` can be
limited at all. Where the system does not let us, there are the limits of single processes.

The rules: https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Cgroups"]

#: A period of the processor limit (µs).
PERIOD = 100_000
_NEEDS = {"memory": "memory", "processes": "pids", "cpu": "cpu"}


class Cgroups:
    """Makes a control group for each life that asks for limits.

    Parameters
    ----------
    pid, parent:
        The keeper and the agent: where controllers are handed to groups below, nobody may be in ours itself.
    """

    def __init__(self, pid: int, parent: int) -> None:
        self._ours = [pid, parent]
        self._base: str | None = None
        self._looked = False
        self._controllers: frozenset[str] = frozenset()

    def make(self, name: str, limits: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Give the group of a life, and those of its limits that it does not hold.

        The group is None where there can be none.
        """
        base = self._find()
        if base is None:
            return None, limits
        path = os.path.join(base, "vigie", name.replace("/", "_"))
        try:
            os.makedirs(path, exist_ok=True)
            rest = dict(limits)
            for limit, file, value in _settings(limits):
                if _NEEDS[limit] in self._controllers:
                    _write(os.path.join(path, file), value)
                    rest.pop(limit, None)
        except OSError:
            return None, limits
        return path, rest

    def remove(self, name: str) -> None:
        """Remove the group of a life that is over; one that still holds somebody stays."""
        if self._base is not None:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(self._base, "vigie", name.replace("/", "_")))

    def _find(self) -> str | None:
        """Find our own group, once, and hand its controllers on."""
        if self._looked:
            return self._base
        self._looked = True
        base = _own()
        if base is None or not os.access(os.path.join(base, "cgroup.procs"), os.W_OK):
            return None
        try:
            os.makedirs(os.path.join(base, "vigie"), exist_ok=True)
        except OSError:
            return None
        self._base = base
        have = set(_read(os.path.join(base, "cgroup.controllers")).split()) & set(_NEEDS.values())
        if have:
            self._hand_on(base, have)
        return base

    def _hand_on(self, base: str, have: set[str]) -> None:
        words = " ".join(f"+{name}" for name in sorted(have))
        with contextlib.suppress(OSError):
            aside = os.path.join(base, "vigie-itself")
            if _read(os.path.join(base, "cgroup.type")):  # the root of all has none, and may hold processes
                os.makedirs(aside, exist_ok=True)
                for pid in self._ours:
                    with contextlib.suppress(OSError):
                        _write(os.path.join(aside, "cgroup.procs"), str(pid))
            for path in (base, os.path.join(base, "vigie")):
                _write(os.path.join(path, "cgroup.subtree_control"), words)
            self._controllers = frozenset(have)


def _settings(limits: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Give (limit, file, value) for what a group can limit."""
    found = []
    if "memory" in limits:
        found += [("memory", "memory.max", str(int(limits["memory"])))]
    if "processes" in limits:
        found += [("processes", "pids.max", str(int(limits["processes"])))]
    if "cpu" in limits:
        found += [("cpu", "cpu.max", f"{max(1_000, int(float(limits['cpu']) * PERIOD))} {PERIOD}")]
    return found


def _own() -> str | None:
    """Give the directory of our own group, in a hierarchy of version 2."""
    mount = next((words[4] for words in _mounts() if "cgroup2" in words[words.index("-") + 1 :][:1]), None)
    line = next((line for line in _read("/proc/self/cgroup").splitlines() if line.startswith("0::")), None)
    return None if mount is None or line is None else os.path.join(mount, line[3:].strip("/")).rstrip("/")


def _mounts() -> list[list[str]]:
    return [line.split() for line in _read("/proc/self/mountinfo").splitlines() if " - " in line]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
