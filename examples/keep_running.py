"""See whether some services run, and start those that do not.

    python keep_running.py [services.toml]

Every hour, and when the machine has started:

    vigie schedule add keep-running hourly "at boot" --timeout 5m --script keep_running.py

In a file it is [schedule.keep-running] of vigie.toml. A service is a table: `start` is its command, and `check` one
that succeeds while it is well. Without `check` it is enough that its job has not ended. What is started is a job that
has the name of the service and outlives this one; what does not answer any more is stopped first. The exit code is
1 if a service could not be started.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from typing import Any

import vigie

#: Seconds for an answer; and how long a service must have lived to count as started.
PATIENCE = 10.0
SETTLED = 0.5

LIVING = ("queued", "blocked", "running", "suspended")


def is_well(name: str, service: dict[str, Any]) -> bool:
    if "check" not in service:
        return bool(vigie.jobs(name=name, state=LIVING))
    try:
        done = subprocess.run(service["check"], capture_output=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    return done.returncode == 0


def start(name: str, service: dict[str, Any]) -> vigie.Job:
    for old in vigie.jobs(name=name, state=LIVING):
        print(f"{name}: job {old.id} runs and does not answer; stopped")
        old.stop()
    # Past the slots of the queue: it stays, and nobody should wait for it.
    return vigie.start(service["start"], name=name, tags=["service"], now=True)


def main(path: str) -> int:
    with open(path, "rb") as file:
        services = tomllib.load(file)
    started = {}
    for name, service in services.items():
        if is_well(name, service):
            print(f"{name}: well")
        else:
            started[name] = start(name, service)
    failed = 0
    for name, job in started.items():
        try:
            job.wait(timeout=SETTLED)
        except TimeoutError:
            print(f"{name}: started as job {job.id}")
        else:
            failed += 1
            print(f"{name}: {job.state} at once; vigie why {job.id}")
    return 1 if failed else 0


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "services.toml")))
