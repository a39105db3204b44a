"""Who is at the machine, and whether it does anything: for triggers that wait for a login or for quiet.

logind says it where it runs (its files under /run/systemd/users; sd-login(3)), else the
file of sessions that login programs keep (utmp(5)).
"""

from __future__ import annotations

import os
import pwd
import struct
import subprocess

__all__ = ["idle_hint", "logged_in", "utmp_users"]

_USERS = "/run/systemd/users"
_SEATS = "/run/systemd/seats"
_UTMP = ("/var/run/utmp", "/run/utmp")
#: struct utmp of glibc on all 64-bit machines: type, pid, line, id, user, host and the rest.
_ENTRY = struct.Struct("@hi32s4s32s256shhiii4I20x")
_USER_PROCESS = 7
#: Seconds that a program may take to tell.
_PATIENCE = 2.0


def logged_in(uid: int | None = None) -> bool:
    """Tell whether a user (default: ours) has a session at this machine."""
    uid = os.getuid() if uid is None else uid
    if os.path.isdir(_USERS):
        return _says(f"{_USERS}/{uid}", "STATE") in ("active", "online")
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return False
    return any(name in utmp_users(path) for path in _UTMP if os.path.exists(path))


def utmp_users(path: str) -> set[str]:
    """Give the users who have a session, as a utmp file says it."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return set()
    whole = len(data) // _ENTRY.size * _ENTRY.size
    entries = _ENTRY.iter_unpack(data[:whole])
    return {entry[4].split(b"\0")[0].decode("utf-8", "replace") for entry in entries if entry[0] == _USER_PROCESS}


def idle_hint() -> bool | None:
    """Ask logind whether all sessions are idle; None where it cannot say. It takes a few milliseconds."""
    if not os.path.isdir(_SEATS):
        return None
    words = ["loginctl", "show", "--property=IdleHint", "--value"]
    try:
        found = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(found.stdout.strip())


def _says(path: str, key: str) -> str:
    """Give a value out of a file of ``KEY=value`` lines."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.strip().partition("=")
                if name == key:
                    return value
    except OSError:
        pass
    return ""
