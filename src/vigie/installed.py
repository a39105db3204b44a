"""Whether something starts the agent at boot, and where that is written."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vigie.config import Home

__all__ = ["SYSTEM_HOME", "UNIT", "is_installed", "place"]

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


def is_installed(home: Home) -> bool:
    """Tell whether `vigie agent install` was run for a home, and not undone."""
    try:
        with open(place(home), encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return False
    # One file serves one home: it names it, unless that is the usual one.
    return f"VIGIE_HOME={home.root}" in text or f"<string>{home.root}</string>" in text
