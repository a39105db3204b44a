"""What agent and keeper take when there is nothing to do, after they have worked."""

from __future__ import annotations

import time

import commands
from functions import Ours
from harness import Result, scaled
from homes import own_home, vigie
from processes import processor

from vigie import procs
from vigie.presence import agent_pid

WINDOW = 20.0
WINDOWS = 3


def work() -> tuple[int, int]:
    """Have some thousand functions and commands run, and lists read; give the pids of agent and keeper."""
    ours = Ours()
    ours.batch()
    ours.one()
    commands.many()
    vigie("jobs")
    status = ours.client.call("status")
    return status["pid"], status["keeper"]["pid"]


def shares(pid: int) -> list[float]:
    """Give the percent of a core that a process takes, in each of some windows."""
    seconds = scaled(int(WINDOW * 1000), least=100) / 1000
    found = []
    for _ in range(WINDOWS if seconds == WINDOW else 1):
        before, began = processor(pid), time.monotonic()
        time.sleep(seconds)
        found.append(100 * (processor(pid) - before) / (time.monotonic() - began))
    return found


def run(rounds: int) -> list[Result]:
    """Measure all of it; its rounds are windows of time."""
    with own_home() as home:
        new = procs.rss(agent_pid(home) or 0)
        agent, keeper = work()
        share = shares(agent)
        resident, own, kept = procs.rss(agent), procs.anonymous(agent), procs.rss(keeper)
    assert new
    assert resident
    assert own
    assert kept
    return [
        Result("rest-memory", "agent at rest, after 20,000 jobs: resident", "MB", [resident / 1e6]),
        Result("rest-anonymous", "… anonymous", "MB", [own / 1e6]),
        Result("rest-cpu", f"… share of a core over {WINDOW:.0f} s", "%", share),
        Result("rest-new", "… resident before its first job, for comparison", "MB", [new / 1e6]),
        Result("rest-keeper", "keeper at rest: resident", "MB", [kept / 1e6]),
    ]
