"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import tempfile
import time

import peers
from harness import HERE, figure


def before() -> list[str]:
    """Say what is true before the run: the machine and its load."""
    disk = _file_system(tempfile.gettempdir())
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return [
        f"{os.cpu_count()} cores ({_processor()}), {_memory()}, {platform.system()} {platform.release()}",
        f"homes and databases on {disk}, where one write with fdatasync takes {_sync():.0f} µs",
        f"load before the run (1, 5, 15 minutes): {load}",
        time.strftime("%Y-%m-%d %H:%M"),
    ]


def versions() -> list[str]:
    """Say which versions took part; the peers' are known after the run."""
    import apsw

    import vigie

    ours = f"Vigie {vigie.__version__}{_revision()}, Python {platform.python_version()}"
    theirs = ", ".join(f"{name} {version}" for name, version in sorted(peers.used.items()))
    return [
        f"{ours}, SQLite {apsw.sqlite_lib_version()} (ours) and {sqlite3.sqlite_version} (Python's)",
        f"peers: {theirs}",
    ]


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> str:
    with open("/proc/meminfo", encoding="utf-8") as file:
        return f"{figure(int(file.readline().split()[1]) / (1 << 20))} GiB"


def _file_system(path: str) -> str:
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounts = [line.split()[1:3] for line in file]
    real = os.path.realpath(path)
    inside = [(len(point), kind) for point, kind in mounts if os.path.commonpath([real, point]) == point]
    return max(inside, default=(0, "an unknown file system"))[1]


def _sync() -> float:
    """Give the median µs until 4 KiB more are on disk."""
    times = []
    with tempfile.TemporaryFile() as file:
        for _ in range(101):
            began = time.perf_counter()
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)[50] * 1e6


def _revision() -> str:
    """Give the commit that the code is, if it is one."""
    done = subprocess.run(
        ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    changed = subprocess.run(
        ["git", "-C", str(HERE), "status", "--porcelain", "-uno", "--", "../src"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return ""
    return f" ({done.stdout.strip()}{' with changes' if changed.stdout else ''})"
