"""The duty of conditions: what must hold before a firing may run.

Most are looked up at once, in /proc and /sys. A command is asked as a job of its own,
with the schedule's surroundings, so that its output can be read and nothing of it
runs in the agent; it is asked again every minute while the firing waits.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vigie.lifecycle import StopAsked
from vigie.model import FINISHED, TASK_DEFAULTS
from vigie.policies import Condition, Policy
from vigie.store.schedules import FiringRow

if TYPE_CHECKING:
    from vigie.agent.schedules import Schedules

__all__ = ["Gates", "asks", "holds", "idle_time"]

#: A job that answers for a schedule is called as that is, and this.
QUESTION = ": if"

#: A command that failed is asked again after (µs).
AGAIN = 60_000_000
#: A command that answers nothing for so long (µs) has failed.
PATIENCE = 60_000_000

#: Schedule, instant, and the command.
Key = tuple[int, int, tuple[str, ...]]


class Gates:
    """Looks whether conditions hold."""

    def __init__(self, duty: Schedules) -> None:
        self.duty = duty
        #: Jobs that answer for a firing, and when the last one did not succeed.
        self._asked: dict[Key, int] = {}
        self._refused: dict[Key, int] = {}
        self._said_yes: set[Key] = set()

    def learn(self) -> None:
        """Forget what was never asked: its transaction was undone, and another job may get the same number."""
        store = self.duty.core.store
        self._asked = {key: job for key, job in self._asked.items() if store.state_of(job) is not None}

    def lacking(self, row: FiringRow, policy: Policy) -> str | None:
        """Give in words the first condition of a firing that does not hold; None when all do."""
        for condition in policy.conditions:
            if not (self._command(row, condition) if condition.kind == "command" else holds(condition)):
                return condition.describe()
        return None

    def _command(self, row: FiringRow, condition: Condition) -> bool:
        """Tell whether the command has succeeded; ask it if it has not been asked lately."""
        key = (row.schedule, row.instant, condition.value)
        if key in self._said_yes:
            return True
        now = self.duty.core.clock.mono()
        if key not in self._asked and now - self._refused.get(key, now - AGAIN) >= AGAIN:
            self._asked[key] = self._ask(row, condition)
        return False

    def _ask(self, row: FiringRow, condition: Condition) -> int:
        core = self.duty.core
        argv = list(condition.value)
        task = {**TASK_DEFAULTS, "kind": "command", "argv": argv, "label": shlex.join(argv), "timeout": PATIENCE}
        job = core.store.take_ids(1)
        now = core.clock.wall()
        fields = json.loads(row.job)
        self.duty.store.run("insert_job", (
            job, row.name + QUESTION, core.store.intern_task(task, None), row.context, None, None, "queued", None,
            fields.get("queue", "schedules"), 0, 0, now, None, None,
        ))  # fmt: skip
        core.log("submitted", job, thing=f"schedule:{row.name}", after="queued", detail=task["label"])
        core.arrive(fields.get("queue", "schedules"))
        return job

    def job_ended(self, job: int) -> None:
        """Take the answer of a command (after its commit)."""
        for key, asked in list(self._asked.items()):
            if asked == job:
                del self._asked[key]
                state = (self.duty.core.store.state_of(job) or ("lost",))[0]
                if state == "completed":
                    self._said_yes.add(key)
                else:
                    self._refused[key] = self.duty.core.clock.mono()
                self.duty.look_again(*key[:2])

    @property
    def asked(self) -> bool:
        """Whether a command is being asked."""
        return bool(self._asked)

    def forget(self, schedule: int, instant: int) -> None:
        """Forget what was asked for a firing that is decided, and ask no more."""
        if not (self._said_yes or self._refused or self._asked):
            return
        core = self.duty.core
        for key in [key for key in (*self._said_yes, *self._refused, *self._asked) if key[:2] == (schedule, instant)]:
            self._said_yes.discard(key)
            self._refused.pop(key, None)
            row = core.store.job(self._asked.pop(key, 0))
            if row is not None and row.state not in FINISHED:
                core.step(row, StopAsked())


def asks(name: str | None, schedule: str | None) -> bool:
    """Tell whether a job is the command of a condition, of which nobody but its firing wants to hear.

    >>> asks("nightly: if", None), asks("nightly", "nightly")
    (True, False)
    """
    return schedule is None and name is not None and name.endswith(QUESTION)


def holds(condition: Condition) -> bool:
    """Tell whether a condition other than a command holds now."""
    return _LOOK[condition.kind](condition.value)


def _power(_: Any) -> bool:
    """On mains: some mains supply is online, or there is none, and so no battery to spare."""
    supplies = [
        _read(os.path.join(directory, "online"))
        for directory in glob.glob("/sys/class/power_supply/*")
        if _read(os.path.join(directory, "type")) in ("Mains", "USB")
    ]
    return not supplies or "1" in supplies


def _network(_: Any) -> bool:
    """A default route of IPv4 or IPv6 by an interface other than the loopback."""
    routes = [line.split() for line in _read("/proc/net/route").splitlines()[1:]]
    if any(len(words) > 7 and words[1] == "00000000" and words[0] != "lo" for words in routes):
        return True
    six = [line.split() for line in _read("/proc/net/ipv6_route").splitlines()]
    return any(words[0] == "0" * 32 and words[1] == "00" and words[-1] != "lo" for words in six if len(words) > 9)


def _load(most: float) -> bool:
    return os.getloadavg()[0] < most


def _disk(wanted: tuple[str, int]) -> bool:
    try:
        found = os.statvfs(wanted[0])
    except OSError:
        return False
    return found.f_bavail * found.f_frsize >= wanted[1]


def _idle(wanted: int) -> bool:
    return idle_time() >= wanted


def idle_time() -> int:
    """Give for how long (µs) nobody has typed at a terminal of this machine; a day where there is none."""
    newest = 0.0
    for name in [*glob.glob("/dev/pts/[0-9]*"), *glob.glob("/dev/tty[0-9]*")]:
        with contextlib.suppress(OSError):
            found = os.stat(name)
            if found.st_uid or name.startswith("/dev/pts/"):
                newest = max(newest, found.st_atime)
    return int(min(max(0.0, time.time() - newest), 86_400.0) * 1e6)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


_LOOK: dict[str, Callable[[Any], bool]] = {
    "power": _power, "network": _network, "load": _load, "disk": _disk, "idle": _idle,
}  # fmt: skip
