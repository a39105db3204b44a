"""The defaults of a task and of a job, and the words of their fields.

Plain constants and no dataclass: the command line imports this in each run of
``vigie start``, and ``dataclasses`` alone costs what the rest of it costs.
"""

from __future__ import annotations

__all__ = [
    "DEFAULT_QUEUE",
    "FINISHED",
    "JOB_STATES",
    "REASONS",
    "STREAMS",
    "TASK_DEFAULTS",
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


def public_state(state: str) -> str:
    """Give the state that people see for the store's.

    >>> public_state("assigned")
    'queued'
    """
    return "queued" if state == "assigned" else state
