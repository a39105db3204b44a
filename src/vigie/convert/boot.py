"""What makes an agent start at boot: a systemd unit, a launchd plist, a line for cron."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from xml.sax.saxutils import escape

__all__ = ["cron_line", "launchd_plist", "plist_home", "systemd_unit", "unit_home"]


def systemd_unit(argv: Sequence[str], home: str, *, system: bool) -> str:
    """Give a unit for systemd: ``Type=notify``, always restarted, and only the agent itself is ever killed.

    Parameters
    ----------
    argv:
        The command that is the agent.
    home:
        Its home.
    system:
        For the system's own manager, not a user's.

    >>> print(systemd_unit(["/usr/bin/python3", "-m", "vigie.agent"], "/var/lib/vigie", system=True).splitlines()[1])
    Description=Vigie: background jobs, schedules and services
    """
    target = "multi-user.target" if system else "default.target"
    after = "After=network.target local-fs.target\n" if system else ""
    return f"""[Unit]
Description=Vigie: background jobs, schedules and services
{after}# While an agent that was started by hand has the home, ours tries again.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={" ".join(_unit_word(word).replace("$", "$$") for word in argv)}
{unit_home(home)}
Restart=always
RestartSec=1
# Limits of services hold for their whole trees.
Delegate=yes
# What runs goes on while the agent is restarted or upgraded.
KillMode=process
TimeoutStopSec=30
OOMPolicy=continue
TasksMax=infinity
LimitNOFILE=524288

[Install]
WantedBy={target}
"""


def unit_home(home: str) -> str:
    """Give the line of a unit that says which home its agent has.

    >>> unit_home("/var/lib/vigie")
    'Environment=VIGIE_HOME=/var/lib/vigie'
    """
    return f"Environment={_unit_word(f'VIGIE_HOME={home}')}"


def plist_home(home: str) -> str:
    """Give the line of a plist that says it."""
    return f"<string>{escape(home)}</string>"


def _unit_word(text: str) -> str:
    """Quote a word for a unit file.

    >>> _unit_word("/a b/100%")
    '"/a b/100%%"'
    """
    text = text.replace("%", "%%")
    if text and not any(char in text for char in " \t\"'\\;"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def launchd_plist(argv: Sequence[str], home: str, label: str, log: str) -> str:
    """Give an agent of launchd that is always kept up.

    >>> "<key>KeepAlive</key>" in launchd_plist(["python3"], "/h", "org.vigie.agent", "/h/agent.log")
    True
    """
    words = "\n".join(f"        <string>{escape(word)}</string>" for word in argv)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
    <key>Label</key>
    <string>{escape(label)}</string>
    <key>ProgramArguments</key>
    <array>
{words}
    </array>
    <key>EnvironmentVariables</key>
    <dict>
        <key>VIGIE_HOME</key>
        {plist_home(home)}
    </dict>
    <key>RunAtLoad</key>
    <true/>
    <key>KeepAlive</key>
    <true/>
    <key>AbandonProcessGroup</key>
    <true/>
    <key>StandardErrorPath</key>
    <string>{escape(log)}</string>
</dict>
</plist>
"""


def cron_line(argv: Sequence[str], home: str) -> str:
    """Give a line for ``crontab -e`` where nothing better starts programs at boot.

    >>> cron_line(["/usr/bin/vigie", "agent", "start"], "/h")
    '@reboot VIGIE_HOME=/h /usr/bin/vigie agent start'
    """
    return f"@reboot VIGIE_HOME={shlex.quote(home)} {shlex.join(argv)}".replace("%", "\\%")
