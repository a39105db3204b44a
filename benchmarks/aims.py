"""What each bench is to reach.

A bench's name stands here, in its result, and in ``limits.py``. What is not named here
is measured for information.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Aim:
    """A bound on the ratio to the peer, on our own figure, or on the difference."""

    limit: float
    of: str = "ratio"
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Tell whether a value is within the bound."""
        return value >= self.limit if self.at_least else value <= self.limit

    def text(self, unit: str) -> str:
        """Say it.

        >>> Aim(5, at_least=True).text("jobs/s"), Aim(36, of="figure").text("MB")
        ('≥ 5 x', '≤ 36 MB')
        """
        sign = "≥" if self.at_least else "≤"
        amount = f"{self.limit:,g}"
        if self.of == "ratio":
            return f"{sign} {amount} x"
        return f"{sign} {'+' if self.of == 'difference' else ''}{amount} {unit}"


AIMS = {
    "functions-huey": Aim(5, at_least=True),
    "functions-celery": Aim(50, at_least=True),
    "function-one": Aim(1),
    "submits-one": Aim(1_500, of="figure", at_least=True),
    "submits-eight": Aim(6_000, of="figure", at_least=True),
    "start": Aim(3),
    "commands": Aim(2.5),
    "output": Aim(1.05),
    "output-memory": Aim(20, of="figure"),
    "rest-memory": Aim(36, of="figure"),
    "rest-anonymous": Aim(20, of="figure"),
    "rest-cpu": Aim(0.3, of="figure"),
    "rest-keeper": Aim(14, of="figure"),
    "million-jobs": Aim(150, of="figure"),
    "million-submits": Aim(0.8, at_least=True),
    "million-start": Aim(2, of="figure"),
    "bystanders-stopped-status": Aim(100, of="figure"),
    "bystanders-stopped-function": Aim(100, of="figure"),
    "bystanders-deaf-status": Aim(100, of="figure"),
    "bystanders-deaf-function": Aim(100, of="figure"),
    "import": Aim(40, of="difference"),
    "item-command": Aim(0.01),
    "item-function": Aim(0.01),
    "item-batch": Aim(0.01),
    "shellmaps-true": Aim(1.1),
    "shellmaps-true-parallel": Aim(0.25),
    "shellmaps-grouped": Aim(1.3),
    "shellmaps-many": Aim(1),
    "shellmaps-many-memory": Aim(1.1),
    "shellmaps-one": Aim(3.5),
    "maps-busy": Aim(1),
    "maps-busy-speedup": Aim(1.8, at_least=True),
    "maps-trivial": Aim(2, of="figure"),
    "maps-trivial-joblib": Aim(1),
    "maps-trivial-mpire": Aim(1),
    "maps-uneven": Aim(1.1),
    "maps-cold": Aim(1),
    "maps-threads": Aim(1.1),
    "maps-array": Aim(0.333),
    "maps-memory-caller": Aim(100, of="figure"),
    "maps-memory-worker": Aim(100, of="figure"),
    "maps-memory-rise": Aim(5, of="figure"),
    "pools-trip": Aim(150, of="figure"),
    "triggers-cron-croniter": Aim(0.2),
    "triggers-cron-cronsim": Aim(1),
    "triggers-calendar-croniter": Aim(0.2),
    "triggers-calendar-cronsim": Aim(1),
    "schedules-memory": Aim(150, of="figure"),
    "schedules-start": Aim(5, of="figure"),
    "schedules-cpu": Aim(3, of="figure"),
    "schedules-lag": Aim(5, of="figure"),
    "schedules-lag-p99": Aim(50, of="figure"),
    "schedules-ran": Aim(100, of="figure", at_least=True),
    "schedules-herd": Aim(2, of="figure"),
    "schedules-herd-submit": Aim(100, of="figure"),
    "schedules-alone": Aim(5, of="figure"),
    "schedules-apply": Aim(10_000, of="figure", at_least=True),
    "services-restart": Aim(10, of="figure"),
    "services-up": Aim(0.5, of="figure"),
    "services-rest-memory": Aim(70, of="figure"),
    "services-rest-cpu": Aim(1, of="figure"),
    "services-agent": Aim(1, of="figure"),
    "services-loops": Aim(5, of="figure"),
    "services-loops-others": Aim(1.2),
    "services-logs": Aim(1.1),
    "services-logs-disk": Aim(20, of="figure"),
}
