"""``vigie agent install`` and ``uninstall``: have the agent started at boot, and kept up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from vigie.convert.boot import cron_line, launchd_plist, systemd_unit
from vigie.errors import Refused
from vigie.installed import LABEL, SYSTEM_HOME, UNIT, is_installed, place, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from vigie.cli.context import Context
    from vigie.config import Home

__all__ = ["control", "install", "uninstall"]


def _is_system(home: Home) -> bool:
    return os.path.realpath(home.root) == SYSTEM_HOME


def _agent(home: Home) -> list[str]:
    return [sys.executable, "-P", "-m", "vigie.agent", home.root]


def manager(home: Home) -> str | None:
    """Give what starts programs at boot here: ``systemd``, ``launchd``, or None."""
    if sys.platform == "darwin":
        return "launchd"
    if shutil.which("systemctl") is None:
        return None
    said = subprocess.run(
        ["systemctl", *_scope(home), "is-system-running"], capture_output=True, text=True, check=False
    )
    # "offline" is what it says where systemd does not run; without a bus of the user's it says nothing.
    return "systemd" if said.stdout.strip() not in ("", "offline", "unknown") else None


def install(args: argparse.Namespace, out: Context) -> int:
    """Write the file that starts the agent at boot, and hand the agent over to it."""
    home = out.home
    kind = manager(home)
    if kind is None:
        return _say_how(out)
    path = place(home)
    if written(home) is not None and not is_installed(home):
        raise Refused(f"{path} starts the agent of another home", "vigie agent uninstall there first")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(_text(kind, home))
    except OSError as error:
        raise Refused(f"cannot write {path}: {error.strerror}", "as root: vigie --system agent install") from None
    home.create()
    _hand_over(out)
    try:
        _enable(kind, home, path)
    except Refused:
        # As it was: no file, and an agent that somebody has started.
        os.unlink(path)
        out.client().connect()
        raise
    lingers = kind == "systemd" and not _is_system(home) and _linger(out)
    if args.json:
        out.json({"installed": path, "manager": kind, "lingers": lingers})
    else:
        out.print(path)
        out.say("the agent starts at boot and is kept up · vigie agent status · vigie agent uninstall undoes it")
    return 0


def _enable(kind: str, home: Home, path: str) -> None:
    if kind == "launchd":
        _must(["launchctl", "load", "-w", path])
    else:
        _systemctl(home, "daemon-reload")
        _systemctl(home, "enable", "--now", UNIT)


def _text(kind: str, home: Home) -> str:
    if kind == "launchd":
        return launchd_plist(_agent(home), home.root, LABEL, home.agent_log)
    return systemd_unit(_agent(home), home.root, system=_is_system(home))


def _hand_over(out: Context) -> None:
    """End an agent that was started by hand: what runs goes on under the one that follows."""
    from vigie.cli.agent_end import end
    from vigie.presence import agent_pid

    if agent_pid(out.home) is not None:
        end(out.client(), out)
        out.client().close()


def _linger(out: Context) -> bool:
    """Let the user's manager run without anybody being logged in; remember that it was us."""
    user = str(os.getuid())
    if os.path.exists(f"/var/lib/systemd/linger/{_name()}"):
        return True
    done = subprocess.run(["loginctl", "enable-linger", user], capture_output=True, text=True, check=False)
    if done.returncode:
        why = done.stderr.strip() or "loginctl failed"
        out.say(f"at your login only: {why}\n  as root: loginctl enable-linger {_name()}")
        return False
    with open(_mark(out.home), "w", encoding="utf-8"):
        pass
    return True


def _mark(home: Home) -> str:
    return os.path.join(home.root, "lingers")


def _name() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def uninstall(args: argparse.Namespace, out: Context) -> int:
    """Undo it; what runs goes on, under an agent as somebody would have started it by hand."""
    home, path = out.home, place(out.home)
    if not is_installed(home):
        raise Refused(f"the agent of {home.root} is not installed", "vigie agent install")
    if sys.platform == "darwin":
        subprocess.run(["launchctl", "unload", "-w", path], capture_output=True, check=False)
        os.unlink(path)
    else:
        subprocess.run(["systemctl", *_scope(home), "disable", "--now", UNIT], capture_output=True, check=False)
        os.unlink(path)
        _systemctl(home, "daemon-reload")
    if os.path.exists(_mark(home)):
        subprocess.run(["loginctl", "disable-linger", str(os.getuid())], capture_output=True, check=False)
        os.unlink(_mark(home))
    out.client().connect()
    if args.json:
        out.json({"uninstalled": path})
    else:
        out.say(f"{path} is gone; what runs goes on, until this machine restarts")
    return 0


def control(home: Home, verb: str) -> bool:
    """Have the manager start, stop or restart an installed agent; False: it is not installed, or nobody is there."""
    if not is_installed(home) or manager(home) != "systemd":
        return False
    _systemctl(home, verb, UNIT)
    return True


def _systemctl(home: Home, *words: str) -> None:
    _must(["systemctl", *_scope(home), *words])


def _scope(home: Home) -> list[str]:
    return [] if _is_system(home) else ["--user"]


def _must(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}"
        raise Refused(f"{' '.join(argv)}: {said}", "nothing was changed; VIGIE_DEBUG=1 shows more")


def _say_how(out: Context) -> int:
    """Say what to do where neither systemd nor launchd is there."""
    program = shutil.which("vigie") or f"{sys.executable} -m vigie"
    line = cron_line([*program.split(" "), "agent", "start"], out.home.root)
    out.say(
        "neither systemd nor launchd runs here, so nothing was changed. To have the agent started at boot:\n"
        "  with cron: crontab -e, and add the line\n"
        f"    {line}\n"
        "  in a container: make `vigie up` its command; it runs the services of ./vigie.toml as PID 1\n"
        "  with another init (runit, s6, OpenRC): have it run, and restart, in the foreground\n"
        f"    VIGIE_HOME={out.home.root} {' '.join(_agent(out.home))}"
    )
    return 1
