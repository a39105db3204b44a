"""What the world may do to us: full and failing disks, too few descriptors, clients that do not read, wrong clocks."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import vigie
import work
from conftest import STRICT, HomeUnderTest, need, until
from vigie import frames, procs
from vigie.client import Client
from vigie.session import session
from vigie.sockets import connect_unix

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
#: Everything, and the measured: ``VIGIE_FAULTS=1``.
ALL = bool(os.environ.get("VIGIE_FAULTS"))


# A full disk -----------------------------------------------------------------------


@pytest.fixture
def on_small_disk(home: HomeUnderTest) -> object:
    """Play a scene of ``small_disk.py`` on a tmpfs that nobody else sees."""
    alone = [need("unshare"), "--mount"]
    if os.geteuid() != 0:
        alone += ["--user", "--map-root-user"]
    works = subprocess.run([*alone, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    if works.returncode != 0:
        said = f"no private mounts here: {works.stderr.strip()}"
        if STRICT and os.geteuid() == 0:
            pytest.fail(said)
        pytest.skip(said)

    def play(scene: str) -> None:
        words = [sys.executable, str(HERE / "small_disk.py"), scene, home.top]
        done = subprocess.run([*alone, *words], capture_output=True, text=True, timeout=120)
        if done.returncode:
            pytest.fail(done.stdout + done.stderr, pytrace=False)

    return play


@pytest.mark.parametrize(
    "scene", ["goes_on", "starts_again", "begins_without_room", "workers_without_room", "pages_without_room"]
)
def test_a_full_disk(on_small_disk, scene: str) -> None:
    on_small_disk(scene)


# A disk that fails -------------------------------------------------------------------


@pytest.fixture
def failing(home: HomeUnderTest, tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Make the next fsync of a process fail; it returns when that is so."""
    tracers: list[subprocess.Popen[bytes]] = []

    def fail(pid: int) -> None:
        inject = "inject=fsync,fdatasync:error=EIO:when=1"
        words = [need("strace"), "-f", "-p", str(pid), "-o", str(tmp_path / "failing"), "-e", "trace=fsync,fdatasync"]
        tracer = subprocess.Popen([*words, "-e", inject], stderr=subprocess.PIPE)
        tracers.append(tracer)
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        if b"attached" not in line and not STRICT:
            pytest.skip(f"strace may not attach here: {line.decode()}")
        assert b"attached" in line

    yield fail
    for tracer in tracers:
        tracer.send_signal(signal.SIGINT)  # it lets go of what it traces
        tracer.wait(30)
        assert tracer.stderr is not None
        tracer.stderr.close()


def test_an_fsync_that_fails_is_never_acknowledged(home: HomeUnderTest, tmp_path: Path, failing: Any) -> None:
    """The agent stops without an answer and opens the store anew; the client asks again and nothing is done twice."""
    running = vigie.start(["/bin/sh", "-c", f"while [ ! -e {tmp_path}/end ]; do sleep 0.02; done; exit 7"])
    until(lambda: running.info()["pid"] is not None)
    (agent,) = home.processes("agent")
    failing(agent.pid)
    jobs = [vigie.start(["/bin/sh", "-c", f"echo {i} >> {tmp_path}/ran"]) for i in range(3)]
    assert [job.result(30) for job in jobs] == [0, 0, 0]
    assert sorted((tmp_path / "ran").read_text().split()) == ["0", "1", "2"]
    assert "EIO" in (tmp_path / "failing").read_text()
    assert Path(home.agent_log).read_text().count("the agent starts anew") == 1
    (tmp_path / "end").touch()
    assert running.wait(30).exit_code == 7


# Too little of something ---------------------------------------------------------------


def own_agent(home: HomeUnderTest, *words: str, env: dict[str, str] | None = None) -> subprocess.Popen[Any]:
    """Start an agent through ``words``: a program that sets limits, say."""
    home.create()
    with open(home.agent_log, "ab") as log:
        command = [*words, sys.executable, "-m", "vigie.agent", home.root]
        agent = subprocess.Popen(command, stderr=log, env={**os.environ, **(env or {})})
    home.started.append(agent)
    until(lambda: os.path.exists(home.socket) or agent.poll() is not None)
    return agent


def test_clients_beyond_the_descriptors_make_nobody_spin(home: HomeUnderTest) -> None:
    """Two hundred come where fifty have room: the others go on, and all is well when they leave."""
    agent = own_agent(home, need("prlimit"), "--nofile=64")
    job = vigie.start(["sleep", "600"])
    until(lambda: job.info()["pid"] is not None)
    crowd = [connect_unix(home.socket, 30) for _ in range(200)]
    until(lambda: "out of system resource" in Path(home.agent_log).read_text())
    before = procs.cpu(agent.pid)
    with pytest.raises(vigie.WaitTimeout):
        job.wait(2.0)
    after = procs.cpu(agent.pid)
    assert before is not None
    assert after is not None
    # Who spins uses two seconds of these two.
    assert after - before < 500_000
    for one in crowd:
        one.close()
    client = Client(home)
    assert client.call("status")["pid"] == agent.pid
    client.close()
    job.stop(grace=0)
    assert vigie.start(["true"]).result(30) == 0


def test_a_limit_to_the_size_of_files_is_said(home: HomeUnderTest) -> None:
    """What was acknowledged is there, and when some of it goes there is room again."""
    agent = own_agent(home, need("prlimit"), "--fsize=1000000")
    client = session().client
    client.call("queue_pause", name="default")
    jobs: list[vigie.Job] = []
    with pytest.raises(vigie.VigieError, match="no space: files may not grow over 1000000 bytes"):
        for _ in range(100):
            jobs.append(vigie.start(work.double, "x" * 50_000))
    assert len(vigie.jobs()) == len(jobs) > 5
    for job in jobs:
        job.remove(force=True)
    client.call("queue_resume", name="default")
    assert vigie.start(["true"]).result(30) == 0
    assert agent.poll() is None


def test_a_soft_limit_to_the_size_of_files_is_not_the_agents(home: HomeUnderTest) -> None:
    """It is that of the terminal in which an agent was needed first."""
    own_agent(home, need("prlimit"), "--fsize=100000:")
    session().client.call("queue_pause", name="default")
    jobs = vigie.start_many(work.double, [("x" * 50_000,) for _ in range(20)])
    assert len(vigie.jobs()) == len(jobs)


# Clients that do not read ----------------------------------------------------------------


def greeted(home: HomeUnderTest) -> socket.socket:
    raw = connect_unix(home.socket, 30)
    raw.sendall(frames.encode({"vigie": 1, "role": "client"}))
    assert raw.recv(4096)
    return raw


def agents_memory(home: HomeUnderTest) -> int:
    (agent,) = home.processes("agent")
    anonymous = procs.anonymous(agent.pid)
    assert anonymous is not None
    return anonymous


def test_a_client_that_never_reads_is_not_listened_to(home: HomeUnderTest) -> None:
    """Its answers would fill the agent's memory; later it gets every one of them."""
    assert vigie.start(["true"]).result(30) == 0
    before = agents_memory(home)
    other = Client(home)
    raw = greeted(home)
    raw.setblocking(False)
    request = b"".join(frames.encode({"op": "status", "id": i}) for i in range(1000))
    sent = refused = 0
    # In step with another client: the agent has had its turn between two tries.
    while refused < 5 and sent < 50_000_000:
        try:
            sent += raw.send(request[sent % len(request) :])
            refused = 0
        except BlockingIOError:
            other.call("status")
            refused += 1
    assert refused == 5, "the agent reads on and on"
    assert agents_memory(home) - before < 20_000_000
    raw.settimeout(30)
    decoder = frames.Decoder()
    whole = sent // len(request) * 1000
    answers = 0
    while answers < whole:
        answers += len(decoder.feed(raw.recv(1 << 18)))
    raw.close()
    other.close()


def test_a_stopped_client_holds_up_nobody(home: HomeUnderTest, tmp_path: Path) -> None:
    """It asked for more than the socket holds, and is stopped before it reads any of it."""
    big = vigie.start(work.big, 900_000)
    assert len(big.result(30)) == 900_000
    before = agents_memory(home)
    stopped = subprocess.Popen([sys.executable, "-c", _ASKS_MUCH, home.socket, str(big.id)], stdout=subprocess.PIPE)
    home.started.append(stopped)
    assert stopped.stdout is not None
    assert stopped.stdout.readline() == b"asked\n"
    os.kill(stopped.pid, signal.SIGSTOP)
    assert vigie.start(["true"]).result(30) == 0
    assert vigie.start(work.double, 4).result(30) == 8
    assert agents_memory(home) - before < 20_000_000
    if ALL:
        measured = latencies(2000)
        print(f"beside a stopped client: p50 {statistics.median(measured) * 1e3:.2f}, p99 {measured[-20] * 1e3:.2f} ms")
        assert measured[-20] < 0.1


_ASKS_MUCH = """
import sys, time
from vigie import frames
from vigie.sockets import connect_unix
s = connect_unix(sys.argv[1], 30)
ask = {"op": "wait", "ids": [int(sys.argv[2])], "results": True}
s.sendall(frames.encode({"vigie": 1, "role": "client"}) + b"".join(frames.encode({**ask, "id": i}) for i in range(100)))
print("asked", flush=True)
time.sleep(600)
"""


def latencies(count: int) -> list[float]:
    """Give how long submits to a paused queue took, in seconds, the slowest last."""
    client = session().client
    client.call("queue_pause", name="default")
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        vigie.start(["true"])
        taken.append(time.perf_counter() - began)
    return sorted(taken)


# Jobs that take all there is ---------------------------------------------------------------


def test_a_flood_of_output_passes_the_agent_by(home: HomeUnderTest) -> None:
    size = 1 << 30 if ALL else 64 << 20
    assert vigie.start(["true"]).result(30) == 0
    before = agents_memory(home)
    job = vigie.start(["head", "-c", str(size), "/dev/zero"])
    assert job.result(120) == 0
    assert os.stat(home.job_file(job.id, "out")).st_size == size
    assert agents_memory(home) - before < 20_000_000


def test_a_fork_bomb_under_a_limit_is_stopped_whole(home: HomeUnderTest) -> None:
    """It forks again while it is being ended; nothing of it is left, and others are served meanwhile."""
    room = 40
    drop: list[str] = []
    if os.geteuid() == 0:
        # No limit binds root.
        drop = [need("setpriv"), "--reuid=54321", "--regid=54321", "--clear-groups"]
    else:
        room += sum(os.stat(f"/proc/{pid}").st_uid == os.geteuid() for pid in os.listdir("/proc") if pid.isdigit())
    # A shell that cannot fork ends; the first one stays, and others fill the gaps.
    bomb = "b() { while :; do b & sleep 0.05; done; }; b & b & exec sleep 600"
    job = vigie.start([*drop, need("prlimit"), f"--nproc={room}", "/bin/sh", "-c", bomb], cwd="/")
    until(lambda: len(home.processes("other")) >= 30, what="the bomb to fill its limit")
    assert vigie.start(["true"]).result(30) == 0
    assert job.stop(grace=0).state == "stopped"
    assert not home.processes("other")


# The wall clock is set -----------------------------------------------------------------------


class Watchmaker:
    """An agent whose wall clock is set by ``set``, with all its processes; ours goes right."""

    def __init__(self, home: HomeUnderTest, path: Path) -> None:
        self._file = path / "clock"
        self.set("+0")
        # Not through the program: it leaves a segment of shared memory behind.
        lib = Path(need("faketime")).parent.parent / "lib"
        preload = str(next(path for end in ("", "*/") for path in lib.glob(f"{end}faketime/libfaketime.so.1")))
        self.agent = own_agent(
            home,
            env={
                "LD_PRELOAD": preload,
                "FAKETIME_TIMESTAMP_FILE": str(self._file),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            },
        )
        self._home = home

    def set(self, by: str) -> None:
        """Set the clock to ours and so much: ``+365d``."""
        self._file.with_suffix(".new").write_text(f"{by}\n")
        os.replace(self._file.with_suffix(".new"), self._file)

    @staticmethod
    def look() -> None:
        """Have the agent look at its timers, by a job that has to wait for a moment to come."""
        assert vigie.start(["true"], delay=0.05).result(30) == 0


@pytest.fixture
def watchmaker(home: HomeUnderTest, tmp_path: Path) -> Iterator[Watchmaker]:
    made = Watchmaker(home, tmp_path)
    yield made
    made.agent.kill()
    made.agent.wait(30)
    # Shared memory that libfaketime made for it.
    for name in (f"faketime_shm_{made.agent.pid}", f"sem.faketime_sem_{made.agent.pid}"):
        Path("/dev/shm", name).unlink(missing_ok=True)


@pytest.mark.parametrize("steps", [["+365d"], ["-365d"], ["+365d", "+0"]], ids=" ".join)
def test_timeouts_delays_and_backoffs_know_no_wall_clock(watchmaker: Watchmaker, steps: list[str]) -> None:
    limited = vigie.start(["sleep", "600"], timeout=2)
    until(lambda: limited.info()["pid"] is not None)
    soon = vigie.start(["true"], delay=1.5)
    late = vigie.start(["true"], delay=3600)
    failing = vigie.start(["false"], retries=1, backoff=3600)
    until(lambda: failing.state == "blocked")
    for by in steps:
        watchmaker.set(by)
        watchmaker.look()
    assert (late.state, failing.state, limited.state) == ("blocked", "blocked", "running")
    # Not before its time either: its clock did not jump.
    assert limited.wait(30).reason == "timeout"
    assert 1.9 < limited.info()["duration"] < 30
    assert soon.result(30) == 0
    assert (late.state, failing.state) == ("blocked", "blocked")
    late.stop()
    failing.stop()


def test_an_instant_is_one_of_the_wall_clock(watchmaker: Watchmaker) -> None:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    job = vigie.start(["true"], at=at)
    watchmaker.look()
    assert job.state == "blocked"
    watchmaker.set("-365d")
    watchmaker.look()
    assert job.state == "blocked"
    watchmaker.set("+2h")
    watchmaker.look()
    assert job.result(30) == 0
