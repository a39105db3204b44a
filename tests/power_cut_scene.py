"""What is traced for the replay of power cuts: every kind of write that is acknowledged.

``python power_cut_scene.py [many | brief | brief SYNCHRONOUS]``; ``VIGIE_HOME`` says where. It prints ``done``
and waits to be killed. With a value for SQLite's ``synchronous`` the agent is one that breaks our promise.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import vigie
import work
from vigie.config import Home
from vigie.launch import lock_holder
from vigie.session import session


def commands(count: int) -> list[vigie.Job]:
    """Submit commands one by one: plain ones, with input, with long arguments."""
    jobs = []
    for i in range(count):
        words = ["/bin/sh", "-c", f"exit {i % 3}", f"command-{i}", "x" * (i % 5 * 900)]
        jobs.append(vigie.start(words, stdin=f"input {i}\n".encode() * 100 if i % 4 == 0 else None))
    return jobs


def first_life(many: int) -> None:
    """Everything once, with a paused queue and with an open one."""
    client = session().client
    jobs = commands(2 * many)
    client.call("queue_pause", name="default")
    jobs += commands(2 * many)
    results = vigie.start_many(work.double, [(i,) for i in range(3 * many)])
    jobs.append(vigie.start(work.add, results[0], 5))
    jobs.append(vigie.start(work.big, (1 << 20) + 100))
    later = vigie.start(["true"], delay=3600)
    client.call("queue_resume", name="default")
    for job in jobs + results:
        job.wait(120)
    for job in (jobs[0], results[1], jobs[-1]):
        client.wait([job.id], results=True)
    failed = next(job for job in jobs if job.state == "failed")
    failed.retry()
    failed.wait(60)
    jobs[3].remove()
    later.remove(force=True)


_CARELESS = """
import sys
from vigie.agent import __main__ as start
from vigie.store.sqlite import Store
prepare = Store._prepare
def careless(self):
    prepare(self)
    self.db.pragma("synchronous", {level!r})
Store._prepare = careless
sys.exit(start.main())
"""


def careless_agent(level: str) -> subprocess.Popen[bytes]:
    """Start an agent that does not sync as ours does."""
    home = Home()
    home.create()
    agent = subprocess.Popen([sys.executable, "-c", _CARELESS.format(level=level), home.root])
    while not os.path.exists(home.socket):
        assert agent.poll() is None
        time.sleep(0.01)
    return agent


def main() -> None:
    if "brief" in sys.argv:
        if sys.argv[-1] != "brief":
            careless_agent(sys.argv[-1])
        for job in commands(4):
            job.wait(60)
    else:
        whole("many" in sys.argv)
    print("done", flush=True)
    signal.pause()


def whole(more: bool) -> None:
    """Three lives of the agent."""
    many = 8 if more else 2
    first_life(many)
    client = session().client
    # The log goes into the database, and another agent begins a new one.
    client.shutdown()
    for job in commands(many):
        job.wait(60)
    if more:
        # Over the size at which the log is copied into the database while the agent works.
        client.call("queue_pause", name="default")
        for _ in range(45):
            vigie.start(work.double, "y" * 100_000)
            vigie.start(["true"]).remove(force=True)
        while os.stat(session().home.db).st_size < 4 << 20:
            time.sleep(0.1)
        for _ in range(30):
            vigie.start(["echo", "in the log's second round"])
        client.call("queue_resume", name="default")
    client.call("backup", path=None)
    agent = lock_holder(session().home)
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
    for job in commands(many):
        job.wait(60)


if __name__ == "__main__":
    main()
