"""What is traced for the replay of power cuts: every kind of write that is acknowledged.

``python power_cut_scene.py [turns | many | brief | brief SYNCHRONOUS | saves | saves careless]``; ``VIGIE_HOME`` says
where. It prints ``done`` and waits to be killed. With a value for SQLite's ``synchronous`` the agent is one that breaks
our promise. With ``turns`` the log is copied into the database and begins anew while the agent works, again and again;
``many`` does that at its usual size. ``saves`` is no agent, but a program that saves its state.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import vigie
import work
from vigie import frames, locks, workfiles
from vigie.config import Home, sync_directory
from vigie.session import session
from vigie.store.sqlite import LOG


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
    # By now the function is known to be quick: these are stored as one.
    quick = vigie.start_many(work.double, [(i,) for i in range(40)])
    for job in quick[::7]:
        job.wait(120)
    failed = next(job for job in jobs if job.state == "failed")
    failed.retry()
    failed.wait(60)
    jobs[3].remove()
    later.remove(force=True)


_SHORT_LOG = """
import sys
from vigie.agent import __main__ as start
from vigie.store import sqlite
sqlite.LOG = {size}
sys.exit(start.main())
"""
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


def altered_agent(text: str) -> subprocess.Popen[bytes]:
    """Start an agent that is not quite ours."""
    home = Home()
    home.create()
    agent = subprocess.Popen([sys.executable, "-c", text, home.root])
    while not os.path.exists(home.socket):
        assert agent.poll() is None
        time.sleep(0.01)
    return agent


def main() -> None:
    if "saves" in sys.argv:
        saves("careless" not in sys.argv)
    elif "brief" in sys.argv:
        if sys.argv[-1] != "brief":
            # One that does not sync as ours does.
            altered_agent(_CARELESS.format(level=sys.argv[-1]))
        for job in commands(4):
            job.wait(60)
    else:
        whole(sys.argv[-1])
    print("done", flush=True)
    signal.pause()


def whole(how: str) -> None:
    """Three lives of the agent."""
    many = 8 if how == "many" else 2
    first_life(many)
    client = session().client
    # The log goes into the database, and another agent begins a new one.
    client.shutdown()
    if how == "turns":
        while locks.holder(session().home.lock) is not None:
            time.sleep(0.01)
        altered_agent(_SHORT_LOG.format(size=SHORT))
    for job in commands(many):
        job.wait(60)
    if how == "turns":
        for _ in range(2):
            another_turn(8, SHORT // 8, SHORT)
    elif how == "many":
        another_turn(80, 100_000, LOG)
    client.call("backup", path=None)
    agent = locks.holder(session().home.lock)
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
    for job in commands(many):
        job.wait(60)


#: The size over which a short log is copied into the database (bytes).
SHORT = 100_000


def another_turn(jobs: int, each: int, size: int) -> None:
    """Have the log grow over its size, be copied into the database while the agent works, and begin anew."""
    home, client = session().home, session().client
    client.call("queue_pause", name="default")
    least = size if os.stat(home.db).st_size < size else os.stat(home.db).st_size + size // 4
    for _ in range(jobs):
        vigie.start(work.double, "y" * each)
        vigie.start(["true"]).remove(force=True)
    while os.stat(home.db).st_size < least:
        time.sleep(0.05)
    for _ in range(jobs // 2 + 8):
        vigie.start(["echo", "in the log's next round"])
    client.call("queue_resume", name="default")


# A program that saves its state ------------------------------------------------------


#: Saves of each life: from less than a sector to more than a page.
SIZES = (10, 300, 505, 4096, 9000, 0, 20_000)
LIVES = 4


def state(number: int) -> tuple[dict[str, int], list[bytes]]:
    """Give what is saved for the n-th time."""
    chance = random.Random(number)
    return {"seq": number, "version": 1}, [chance.randbytes(SIZES[number % len(SIZES)])]


def saves(careful: bool) -> None:
    """Save again and again, one append and one fdatasync each, and say so; each life leaves half a save behind."""
    home = Home()
    home.create()
    path = os.path.join(home.root, "saves")
    number = 0
    for _ in range(LIVES):
        journal = workfiles.Journal(path)
        if careful:
            home.sync()
            sync_directory(os.path.dirname(path))
        number = len(workfiles.read_journal(path))
        for _ in SIZES:
            number += 1
            journal.append(*state(number))
            if careful:
                os.fdatasync(journal.fileno())
            print(f"saved {number}", flush=True)
        torn = frames.seal(frames.encode({"seq": number + 1, "torn": True}, [b"torn" * 1000]))
        workfiles.write_all(journal.fileno(), torn[: len(torn) // 2])
        journal.close()


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        # Those that it started have its output too: nobody would see the end of it.
        traceback.print_exc(file=sys.stdout)
        print("failed", flush=True)
        raise
