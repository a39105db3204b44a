"""What this machine gives Vigie, what it lacks, and what each lack means.

Each check is a small function that gives one :class:`~vigie.doctor.check.Check`.
What it looks at comes in as parameters where that is practical, so that a test
can show it another machine. Nothing here changes anything or starts the agent.
"""

from __future__ import annotations

from vigie.doctor.check import Check, worst
from vigie.doctor.examination import examine

__all__ = ["Check", "examine", "worst"]
