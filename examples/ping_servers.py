"""Ping several servers at once, each as a job of its own, and say which answer.

    python ping_servers.py [SERVER…]

A job that takes longer than its timeout fails with reason "timeout"; one slow server holds nobody up.
"""

from __future__ import annotations

import shutil
import sys

import vigie

SERVERS = ["127.0.0.1", "localhost"]


def ping_command() -> list[str]:
    if shutil.which("ping"):
        return ["ping", "-c", "1", "-W", "2"]
    print("ping is not installed: `true` stands in for it, so that no answer below means anything", file=sys.stderr)
    return ["true"]


def main(servers: list[str]) -> int:
    ping = ping_command()
    # Past the queue's slots: a ping waits for the network, not for a core.
    jobs = {
        server: vigie.start([*ping, server], name=f"ping-{server}", tags=["ping"], timeout="10s", now=True)
        for server in servers
    }
    silent = 0
    for server, job in jobs.items():
        job.wait()
        if job.state == "completed":
            print(f"{server}: answers")
        else:
            silent += 1
            said = "".join(map(str, job.receive())).strip().splitlines()
            print(f"{server}: {job.reason} {job.exit_code or ''} {said[-1] if said else ''}".rstrip())
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or SERVERS))
