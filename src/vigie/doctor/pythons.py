"""The interpreters that scripts and functions may run on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping

from vigie.doctor.check import Check, note, ok, warn

__all__ = ["interpreters", "nearest_venv", "on_path", "version_of", "versions_of"]

_NAME = re.compile(r"python(3(\.\d+)?)?")
ANSWER_SECONDS = 10.0
MOST = 12


def on_path(path: str) -> list[str]:
    """List the Pythons of a PATH, each program once, under the first name found for it."""
    found: dict[str, str] = {}
    for directory in path.split(os.pathsep):
        try:
            names = sorted(filter(_NAME.fullmatch, os.listdir(directory)))
        except OSError:
            continue
        for name in names:
            file = os.path.join(directory, name)
            if os.access(file, os.X_OK) and os.path.isfile(file):
                found.setdefault(_identity(file), file)
    return list(found.values())


def _identity(file: str) -> str:
    # A virtual environment's python is a link to the one it was made with, and not the same.
    home = os.path.dirname(os.path.dirname(file))
    if os.path.exists(os.path.join(home, "pyvenv.cfg")):
        return home
    return os.path.realpath(file)


def nearest_venv(directory: str) -> str | None:
    """Find the Python of the nearest ``.venv``, here or upwards."""
    while True:
        python = os.path.join(directory, ".venv", "bin", "python")
        if os.path.exists(python):
            return python
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent


def version_of(python: str) -> str | None:
    """Run an interpreter for its version; None when it does not run."""
    return versions_of([python])[python]


def versions_of(files: list[str]) -> dict[str, str | None]:
    """Run interpreters, all at once, for their versions; None for one that does not run."""
    code = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
    live: dict[str, subprocess.Popen[bytes] | None] = {}
    quiet = subprocess.DEVNULL
    for file in files:
        try:
            live[file] = subprocess.Popen(
                [file, "-I", "-S", "-c", code], stdin=quiet, stdout=subprocess.PIPE, stderr=quiet
            )
        except OSError:
            live[file] = None
    deadline = time.monotonic() + ANSWER_SECONDS
    return {
        file: None if process is None else _answer(process, deadline - time.monotonic())
        for file, process in live.items()
    }


def _answer(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    with process:
        try:
            said, _ = process.communicate(timeout=max(0.0, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            return None
    text = said.decode("ascii", "replace").strip()
    return text if process.returncode == 0 and text else None


def interpreters(environ: Mapping[str, str] | None = None, directory: str | None = None) -> Check:
    """Tell which Python a script or a function started here gets, and which others there are."""
    env = os.environ if environ is None else environ
    active = env.get("VIRTUAL_ENV")
    near = nearest_venv(directory or _here())
    if active:
        chosen, why = os.path.join(active, "bin", "python"), "$VIRTUAL_ENV"
    elif near:
        chosen, why = near, "the nearest .venv"
    else:
        chosen, why = sys.executable, "Vigie's own"
    version = version_of(chosen)
    beside = _others(env.get("PATH", ""))
    said = f"here Python files and functions run on {chosen} ({why}), {version or 'which does not run'}{beside}"
    if version is None:
        todo = "unset VIRTUAL_ENV, or make it again" if active else f"make {os.path.dirname(chosen)} again"
        return warn("interpreters", said, "Python jobs started here fail", f"{todo}; or give --python")
    ours = "{}.{}".format(*sys.version_info)
    if not version.startswith(ours + "."):
        means = f"lambdas and notebook functions travel only to Python {ours}, Vigie's own; importable ones go anywhere"
        return note("interpreters", said, means, "install Vigie into that environment, or give --python")
    return ok("interpreters", said)


def _others(path: str) -> str:
    files = on_path(path)
    found = versions_of(files[:MOST])
    runs = [f"{file} {version}" for file, version in found.items() if version]
    said = f"; on PATH: {', '.join(runs)}" if runs else "; none on PATH"
    # Shims of version managers are there for versions that are not.
    dead = len(found) - len(runs)
    said += f"; {dead} more on PATH {'does' if dead == 1 else 'do'} not run" if dead else ""
    return said + (f"; {len(files) - MOST} more" if len(files) > MOST else "")


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        # The directory we stand in was deleted.
        return "/"
