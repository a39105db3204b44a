"""What is said of schedules and services while nothing starts the agent at boot."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vigie.cli.context import Context

__all__ = ["LASTS", "lasting", "say_lasting"]

LASTS = "runs until this machine restarts; `vigie agent install` makes it last"


def lasting(out: Context) -> list[str]:
    """Give the line that says so; none, if the agent is installed."""
    from vigie.installed import is_installed

    return [] if is_installed(out.home) else [LASTS]


def say_lasting(out: Context) -> None:
    """Say so, unless the agent is installed."""
    for line in lasting(out):
        out.say(line)
