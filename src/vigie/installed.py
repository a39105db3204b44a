"""Whether something starts the agent at boot, and where that is written."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vigie.config import Home

__all__ = ["LABEL", "SYSTEM_HOME", "UNIT", "is_installed", "place", "written"]

#: What the system's own agent keeps its state under.
SYSTEM_HOME = "/var/lib/vigie"
UNIT = "vigie.service"
LABEL = "org.vigie.agent"


def place(home: Home) -> str:
    """Give the path of the file that starts the agent of a home at boot, be it there or not."""
    system = os.path.realpath(home.root) == SYSTEM_HOME
    if sys.platform == "darwin":
        top = "/Library/LaunchDaemons" if system else os.path.expanduser("~/Library/LaunchAgents")
        return os.path.join(top, f"{LABEL}.plist")
    if system:
        return f"/etc/systemd/system/{UNIT}"
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(config, "systemd", "user", UNIT)


def written(home: Home) -> list[str] | None:
    """Give the lines of the file that starts an agent at boot, this home's or another's; None: there is none."""
    try:
        with open(place(home), encoding="utf-8", errors="replace") as file:
            return [line.strip() for line in file]
    except OSError:
        return None


def is_installed(home: Home) -> bool:
    """Tell whether `vigie agent install` was run for a home, and not undone: one file serves one home."""
    lines = written(home)
    if lines is None:
        return False
    from vigie.convert.boot import plist_home, unit_home

    return unit_home(home.root) in lines or plist_home(home.root) in lines
