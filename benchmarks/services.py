"""Services: up from nothing, restarted after a kill, a thousand at rest, an agent that dies, some that never stay up.

Each service of these benches is the same shell line on either side: it writes a byte into a FIFO, and sleeps.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness import Result, scaled
from homes import env_of, own_home, vigie
from peers import if_there, program
from processes import processor

from vigie import procs
from vigie.client import Client
from vigie.config import Home
from vigie.presence import agent_pid

#: Services that are killed, and so the rounds of restarts; each has been up for this long (s).
KILLED, STEADY = 25, 10.5
UP, REST, MANY, LOOPING = 100, 1_000, 200, 100
WINDOW = 20.0


class Fifo:
    """Where services say that they have begun."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, "began")
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)

    def line(self) -> str:
        """Give the shell line of a service."""
        return f"printf x > {self.path}; exec sleep 100000"

    def wait(self, count: int, seconds: float = 60.0) -> None:
        """Wait until so many have said so."""
        deadline, seen = time.monotonic() + seconds, 0
        while seen < count:
            if not select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"{seen} of {count} services began")
            seen += len(os.read(self._fd, 65_536))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


class Ours:
    """Our services in a home of their own."""

    title = "Vigie"

    def __init__(self, directory: str, home: Home, count: int) -> None:
        self.home = home
        self.fifo = Fifo(directory)
        self._count = count
        self._file = Path(directory, "vigie.toml")
        table = '[service.s{n}]\nrun = ["/bin/sh", "-c", "{line}"]\n'
        self._file.write_text("".join(table.format(n=n, line=self.fifo.line()) for n in range(count)), encoding="utf-8")

    def up(self) -> float:
        """Start all of them from nothing, the agent included; give how long it took (s)."""
        vigie("agent", "stop", home=self.home)
        began = time.perf_counter()
        vigie("up", "-d", str(self._file), home=self.home)
        self.fifo.wait(self._count)
        return time.perf_counter() - began

    def pids(self) -> list[int]:
        """Give their processes, in order."""
        import apsw

        query = """SELECT a.pid FROM instances i JOIN attempts a ON a.job = i.job ORDER BY i.id"""
        with contextlib.closing(apsw.Connection(self.home.db, flags=apsw.SQLITE_OPEN_READONLY)) as db:
            return [row[0] for row in db.execute(query)]

    def end(self) -> None:
        """End all."""
        with contextlib.suppress(Exception):
            vigie("down", "--now", str(self._file), home=self.home)
        self.fifo.close()


class Supervisord:
    """The same under supervisord."""

    title = "supervisord"

    def __init__(self, directory: str, count: int) -> None:
        self._program = program("supervisord", "supervisor")
        self.fifo = Fifo(directory)
        self._count = count
        self._file = Path(directory, "supervisord.conf")
        head = (
            f"[supervisord]\nnodaemon=true\nlogfile={directory}/log\npidfile={directory}/pid\nuser=root\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        )
        line = f'/bin/sh -c "{self.fifo.line()}"'
        files = "stdout_logfile={directory}/o{n}\nstderr_logfile={directory}/e{n}\n"
        parts = [f"[program:s{n:03}]\ncommand={line}\n{files.format(directory=directory, n=n)}" for n in range(count)]
        self._file.write_text(head + "".join(parts), encoding="utf-8")
        self._daemon: subprocess.Popen[bytes] | None = None

    def up(self) -> float:
        """Start all of them from nothing; give how long it took (s)."""
        began = time.perf_counter()
        self._daemon = subprocess.Popen(
            [self._program, "-c", str(self._file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.fifo.wait(self._count)
        return time.perf_counter() - began

    def pids(self) -> list[int]:
        """Give their processes, in order."""
        assert self._daemon is not None
        return sorted(procs.children(self._daemon.pid) or ())

    def end(self) -> None:
        """End all."""
        if self._daemon is not None:
            self._daemon.send_signal(signal.SIGTERM)
            self._daemon.wait(60)
        self.fifo.close()


class Runsv:
    """The same under runsv, one of it for each."""

    title = "runsv"

    def __init__(self, directory: str, count: int) -> None:
        self._program = program("runsv", "runit")
        self.fifo = Fifo(directory)
        self._count = count
        self._directories = [Path(directory, f"s{n}") for n in range(count)]
        for each in self._directories:
            each.mkdir()
            (each / "run").write_text(f"#!/bin/sh\n{self.fifo.line()}\n", encoding="utf-8")
            (each / "run").chmod(0o755)
        self._daemons: list[subprocess.Popen[bytes]] = []

    def up(self) -> float:
        """Start all of them; give how long it took (s)."""
        began = time.perf_counter()
        self._daemons = [subprocess.Popen([self._program, str(each)]) for each in self._directories]
        self.fifo.wait(self._count)
        return time.perf_counter() - began

    def pids(self) -> list[int]:
        """Give their processes, in order."""
        return [(procs.children(each.pid) or [0])[0] for each in self._daemons]

    def end(self) -> None:
        """End all."""
        for each in self._daemons:
            each.send_signal(signal.SIGTERM)
        for each in self._daemons:
            each.wait(60)
        self.fifo.close()


Side = Ours | Supervisord | Runsv


@contextlib.contextmanager
def place() -> Iterator[str]:
    """Give a directory of one side's own."""
    directory = tempfile.mkdtemp(prefix="vigie-bench-")
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def restart(side: Side, at: int) -> float:
    """Kill one; give how long it takes until another runs in its place (ms)."""
    pid = side.pids()[at]
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    side.fifo.wait(1)
    return (time.perf_counter() - began) * 1000


def restarts() -> list[Result]:
    """Kill services of ours and of the peers' in turn, each after it has been up for a while."""
    count = scaled(KILLED, least=2)
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(own_home())
        sides: list[Side] = [Ours(stack.enter_context(place()), home, count)]
        for peer in (Supervisord, Runsv):
            found, why = if_there(lambda peer=peer: peer(stack.enter_context(place()), count))  # type: ignore[misc]  # the default binds it
            if found is None:
                print(f"  without {peer.title}: {why}", file=sys.stderr)
            else:
                sides.append(found)
        for side in sides:
            stack.callback(side.end)
            side.up()
        time.sleep(scaled(round(STEADY * 1000), least=100) / 1000)
        taken: dict[str, list[float]] = {side.title: [] for side in sides}
        for at in range(count):
            for side in sides:
                taken[side.title].append(restart(side, at if side is sides[0] or side.title == "runsv" else 0))
    ours = taken.pop("Vigie")
    results = [Result("services-restart", "restart after kill -9 of a service that was steady", "ms", ours)]
    for title, values in taken.items():
        results.append(Result(f"services-restart-{title}", f"… beside {title}", "ms", ours, title, values))
    return results


def ups(rounds: int) -> list[Result]:
    """Start a hundred from nothing, in turn."""
    count = scaled(UP, least=3)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        with own_home() as home, place() as directory:
            side = Ours(directory, home, count)
            ours.append(side.up())
            side.end()
        with place() as directory:
            peer, _ = if_there(lambda directory=directory: Supervisord(directory, count))  # type: ignore[misc]  # as above
            if peer is not None:
                theirs.append(peer.up())
                peer.end()
    title = f"{count} services from nothing to all up"
    results = [Result("services-up", title, "s", ours)]
    if theirs:
        results.append(Result("services-up-supervisord", "… beside supervisord", "s", ours, "supervisord", theirs))
    return results


def rest() -> list[Result]:
    """Look at what a thousand cost that do nothing."""
    count, window = scaled(REST, least=5), scaled(int(WINDOW * 1000), least=100) / 1000
    with own_home() as home, place() as directory:
        side = Ours(directory, home, count)
        side.up()
        time.sleep(scaled(12_000, least=100) / 1000)
        agent = agent_pid(home) or 0
        keeper = Client(home).call("status")["keeper"]["pid"]
        before, began = processor(agent) + processor(keeper), time.monotonic()
        time.sleep(window)
        share = 100 * (processor(agent) + processor(keeper) - before) / (time.monotonic() - began)
        memory = ((procs.rss(agent) or 0) + (procs.rss(keeper) or 0)) / 1e6
        side.end()
    return [
        Result("services-rest-memory", f"{count:,} services at rest: agent and keeper, resident", "MB", [memory]),
        Result("services-rest-cpu", f"… both, share of a core over {window:.0f} s", "%", [share]),
    ]


def agent_dies(rounds: int) -> list[Result]:
    """Kill the agent above two hundred services; see that they stay, and when it answers again."""
    count = scaled(MANY, least=3)
    taken = []
    with own_home() as home, place() as directory:
        side = Ours(directory, home, count)
        side.up()
        pids = side.pids()
        for _ in range(rounds):
            began = time.perf_counter()
            os.kill(agent_pid(home) or 0, signal.SIGKILL)
            client = Client(home)
            client.call("service_start", names=["s0"])
            client.call("service_wait", names=["s0"], until="settled", timeout=10_000_000)
            client.close()
            taken.append(time.perf_counter() - began)
        if side.pids() != pids or not all(map(os.path.exists, (f"/proc/{pid}" for pid in pids))):
            raise RuntimeError("a service did not outlive the agent")
        side.end()
    title = f"agent killed above {count} services: every pid unchanged, control back after"
    return [Result("services-agent", title, "s", taken)]


def loops() -> list[Result]:
    """Have a hundred that never stay up, and see what they cost, and whom."""
    count, window = scaled(LOOPING, least=2), scaled(int(WINDOW * 1000), least=100) / 1000
    killed = scaled(10, least=1)
    with own_home() as home, place() as directory:
        side = Ours(directory, home, killed * 2)
        side.up()
        time.sleep(scaled(round(STEADY * 1000), least=100) / 1000)
        alone = [restart(side, at) for at in range(killed)]
        loop = Path(directory, "loop.toml")
        loop.write_text("".join(f'[service.l{n}]\nrun = ["false"]\n' for n in range(count)), encoding="utf-8")
        subprocess.run([sys.executable, "-m", "vigie", "apply", str(loop)], env=env_of(home), check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        agent = agent_pid(home) or 0
        before, began = processor(agent), time.monotonic()
        time.sleep(window)
        share = 100 * (processor(agent) - before) / (time.monotonic() - began)
        among = [restart(side, killed + at) for at in range(killed)]
        subprocess.run([sys.executable, "-m", "vigie", "down", "--now", str(loop)], env=env_of(home), check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        side.end()
    return [
        Result("services-loops", f"{count} services that end at once, their first {window:.0f} s: agent", "%", [share]),
        Result("services-loops-others", "… restart of another meanwhile, beside without them", "ms", among, "alone",
               alone),
    ]  # fmt: skip


def run(rounds: int) -> list[Result]:
    """Measure all of it."""
    return [*restarts(), *ups(min(rounds, 3)), *rest(), *agent_dies(rounds), *loops()]


if __name__ == "__main__":
    for result in run(3):
        print(result.name, [round(value, 2) for value in result.ours], statistics.median(result.ours))
