"""What limits a bench that falls short: one line each, by the bench's name.

A line is shown in RESULTS.md while its aim is missed, and left out once it is met.
"""

from __future__ import annotations

LIMITS: dict[str, str] = {}
