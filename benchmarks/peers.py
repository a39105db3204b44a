"""The peers' environment, made and filled by the bench itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harness import HERE

#: The peers live in an environment of their own.
PEERS = Path(os.environ.get("VIGIE_PEERS", HERE / ".peers"))
#: Each in the version that is the quicker one here of this and the newest (huey 3.5, Celery 5.7).
HUEY = "huey==2.5.3"
CELERY = ("celery[redis]==5.5.3",)
JOBLIB = "joblib==1.6.0"
MPIRE = "mpire==2.10.2"
APSCHEDULER = ("APScheduler==3.11.3", "SQLAlchemy==2.1.9")
CRONITER = "croniter==7.0.0"
CRONSIM = "cronsim==2.8"
#: No peer: what both sides of a bench send about.
NUMPY = "numpy==2.4.6"

T = TypeVar("T")

_allowed = True
#: What was measured, for the conditions.
used: dict[str, str] = {}


class Missing(Exception):
    """A peer is not on this machine; the text says what is lacking."""


def forbid() -> None:
    """Measure without the peers that need an environment of their own."""
    global _allowed
    _allowed = False


def if_there(make: Callable[[], T]) -> tuple[T | None, str]:
    """Make a peer; or give None, and why it is not there."""
    try:
        return make(), ""
    except Missing as error:
        print(f"  not measured: {error}", file=sys.stderr, flush=True)
        return None, f" (not measured: {error})"


def python(*packages: str) -> str:
    """Give the interpreter of the peers' environment, with the packages installed.

    Raises
    ------
    Missing
        When they cannot be installed.
    """
    if not _allowed:
        raise Missing("run without peers")
    interpreter = str(PEERS / "bin" / "python")
    if not os.path.exists(interpreter):
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
    for package in packages:
        name, _, version = package.partition("==")
        name = name.partition("[")[0]
        if _version(interpreter, name) != version:
            print(f"  installing {package} into {PEERS}", file=sys.stderr, flush=True)
            done = subprocess.run([interpreter, "-m", "pip", "-q", "install", package], check=False)
            if done.returncode:
                raise Missing(f"{package} could not be installed")
        used[name] = version
    return interpreter


def _version(interpreter: str, name: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def program(name: str, package: str) -> str:
    """Give the path of a system's program.

    Raises
    ------
    Missing
        When it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise Missing(f"no {name}; apt-get install {package}")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+\.[\w.]+|\d{4,}", said)
    used[name] = found[0] if found else "of an unknown version"
    return path
