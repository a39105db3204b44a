"""What happens to our processes when their user logs out."""

from __future__ import annotations

import os
import re

from vigie.doctor.check import Check, note, ok, warn

__all__ = ["kill_user_processes", "logind_texts", "logout"]

#: From weak to strong: a file of the same name in a later directory hides the earlier one.
CONFIG_DIRS = ("/usr/lib/systemd", "/usr/local/lib/systemd", "/run/systemd", "/etc/systemd")


def logind_texts(dirs: tuple[str, ...] = CONFIG_DIRS) -> list[str]:
    """Read logind.conf and its drop-ins, in the order in which they count (logind.conf(5))."""
    main = [path for path in (os.path.join(at, "logind.conf") for at in dirs) if os.path.isfile(path)]
    drops: dict[str, str] = {}
    for at in dirs:
        directory = os.path.join(at, "logind.conf.d")
        names = os.listdir(directory) if os.path.isdir(directory) else []
        drops.update({name: os.path.join(directory, name) for name in names if name.endswith(".conf")})
    texts = []
    for path in main[-1:] + [drops[name] for name in sorted(drops)]:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                texts.append(file.read())
        except OSError:
            continue
    return texts


def kill_user_processes(texts: list[str]) -> bool | None:
    """Tell whether logind kills what a user leaves behind; None when no file says.

    What a distribution was built with stands in its logind.conf as a comment.

    >>> kill_user_processes(["[Login]\\n#KillUserProcesses=no\\n"])
    False
    >>> kill_user_processes(["[Login]\\n#KillUserProcesses=no\\n", "[Login]\\nKillUserProcesses = yes\\n"])
    True
    """
    built: bool | None = None
    chosen: bool | None = None
    for text in texts:
        for mark, value in re.findall(r"^[ \t]*([#;]?)[ \t]*KillUserProcesses[ \t]*=[ \t]*(\w+)", text, re.MULTILINE):
            truth = value.lower() in {"1", "yes", "y", "true", "t", "on"}
            if mark:
                built = truth
            else:
                chosen = truth
    return built if chosen is None else chosen


def logout(
    *,
    systemd: bool | None = None,
    user: str | None = None,
    linger: bool | None = None,
    kills: bool | None = None,
) -> Check:
    """Tell whether jobs outlive a logout. The parameters stand for what is not looked up."""
    if systemd is None:
        systemd = os.path.isdir("/run/systemd/system")
    if not systemd:
        return ok("logout", "no systemd here: nobody kills what you leave running when you log out")
    if user is None:
        user = _user()
    if linger is None:
        linger = os.path.exists(f"/var/lib/systemd/linger/{user}")
    if kills is None:
        kills = kill_user_processes(logind_texts())
    if linger:
        return ok("logout", f"linger is on for {user}: your processes outlive a logout")
    enable = f"loginctl enable-linger {user}"
    if kills and os.geteuid() != 0:
        return warn("logout", "KillUserProcesses=yes, no linger", "a logout kills jobs, keeper and agent", enable)
    if kills is None:
        means = "whether a logout kills your processes (KillUserProcesses) cannot be told"
        return note("logout", "linger is off, and logind.conf says nothing", means, enable)
    said = f"KillUserProcesses={'yes, which spares root' if kills else 'no'}: jobs outlive a logout; linger is off"
    return note("logout", said, "nothing of yours runs between a restart of the machine and your login", enable)


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
