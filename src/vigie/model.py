"""The defaults of a task and of a job, and the words of their fields.

Plain constants and no dataclass: the command line imports this in each run of
``vigie start``, and ``dataclasses`` alone costs what the rest of it costs.
"""

from __future__ import annotations

import os

__all__ = [
    "DEFAULT_QUEUE",
    "FINISHED",
    "JOB_STATES",
    "REASONS",
    "SCHEDULES",
    "STREAMS",
    "TASK_DEFAULTS",
    "cores",
    "default_slots",
    "public_state",
]

SECOND = 1_000_000
GIB = 1 << 30

#: States as a person sees them.
JOB_STATES = ("queued", "blocked", "running", "suspended", "completed", "failed", "stopped", "lost")
FINISHED = ("completed", "failed", "stopped", "lost")
REASONS = ("exit", "signal", "timeout", "exception", "spawn", "oom", "dependency")
STREAMS = ("output", "error", "warning", "info", "debug", "log", "progress", "checkpoint", "result")

DEFAULT_QUEUE = "default"
#: In which the jobs of schedules run, unless they name another.
SCHEDULES = "schedules"

#: Durations in µs, sizes in bytes.
TASK_DEFAULTS: dict[str, object] = {
    "timeout": None,
    "retries": 0,
    "backoff": SECOND,
    "backoff_max": 5 * 60 * SECOND,
    "jitter": 0.1,
    "grace": 10 * SECOND,
    "fresh": False,
    "on_lost": "fail",
    "max_output": GIB,
}


def cores() -> int:
    """Give the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_slots(queue: str, count: int | None = None) -> int:
    """Give the slots of a queue for which nobody set a number, on ``count`` cores (default: those there are).

    >>> default_slots("default", 2), default_slots("schedules", 2)
    (2, 16)
    """
    count = cores() if count is None else count
    return max(16, 4 * count) if queue == "schedules" else count


def public_state(state: str) -> str:
    """Give the state that people see for the store's.

    >>> public_state("assigned")
    'queued'
    """
    return "queued" if state == "assigned" else state
