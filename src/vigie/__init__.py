"""Vigie runs work for you and watches it: background jobs that outlive your terminal.

>>> import vigie
>>> @vigie.task(timeout="10m")
... def checksum(path): ...
>>> sorted(vigie.__all__)[:3]
['Conflict', 'Job', 'JobFailed']

Names are loaded on first use, so that importing the package costs nearly nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vigie.errors import (
        Conflict,
        JobFailed,
        JobLost,
        JobStopped,
        NotFound,
        NotSerializable,
        UsageError,
        VigieError,
        WaitTimeout,
    )
    from vigie.handle import Job, get, jobs
    from vigie.local import state
    from vigie.parallel.amap import amap
    from vigie.parallel.map import map  # noqa: A004 - like the builtin, on every core
    from vigie.parallel.outcome import Outcome
    from vigie.parallel.pool import Pool
    from vigie.scheduling import schedules
    from vigie.serving import service, services
    from vigie.tasks import Task, start, start_many, start_map, task

__version__ = "0.1.0"

__all__ = [
    "Conflict",
    "Job",
    "JobFailed",
    "JobLost",
    "JobStopped",
    "NotFound",
    "NotSerializable",
    "Outcome",
    "Pool",
    "Task",
    "UsageError",
    "VigieError",
    "WaitTimeout",
    "amap",
    "get",
    "jobs",
    "map",
    "schedules",
    "service",
    "services",
    "start",
    "start_many",
    "start_map",
    "state",
    "task",
]

_HOMES = {
    "handle": ("Job", "get", "jobs"),
    "local": ("state",),
    "parallel.amap": ("amap",),
    "parallel.map": ("map",),
    "parallel.outcome": ("Outcome",),
    "parallel.pool": ("Pool",),
    "scheduling": ("schedules",),
    "serving": ("service", "services"),
    "tasks": ("Task", "start", "start_many", "start_map", "task"),
    "errors": (
        "Conflict", "JobFailed", "JobLost", "JobStopped", "NotFound", "NotSerializable", "UsageError", "VigieError",
        "WaitTimeout",
    ),
}  # fmt: skip


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            import importlib

            value: object = getattr(importlib.import_module(f"vigie.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'vigie' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
