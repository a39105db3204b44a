"""A keeper as a real process, and the line to it that an agent has."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import HomeUnderTest, until
from vigie import frames, pidfd, procs
from vigie.config import Home
from vigie.sockets import connect_unix

SH = shutil.which("sh") or "/bin/sh"
PATH = "/usr/local/bin:/usr/bin:/bin"
#: Before each mark on the line: /proc is shared with the keepers of other tests.
TAG = f"t{os.getpid()}."


def _untagged(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "mark": said["mark"].removeprefix(TAG)} if "mark" in said else said


class Line:
    """One connection to a keeper, as an agent makes it."""

    def __init__(self, sock: socket.socket, role: str = "agent") -> None:
        self.sock = sock
        self.decoder = frames.Decoder()
        self.got: list[dict[str, Any]] = []
        self.send(vigie=1, role=role, version="0", pid=os.getpid())
        self.hello = self.next()

    def send(self, **header: Any) -> None:
        if "mark" in header:
            header["mark"] = TAG + header["mark"]
        if "marks" in header:
            header["marks"] = [TAG + mark for mark in header["marks"]]
        self.sock.sendall(frames.encode(header))

    def next(self) -> dict[str, Any]:
        while not self.got:
            data = self.sock.recv(1 << 16)
            if not data:
                raise EOFError("the keeper closed the connection")
            self.got += [header for header, _ in self.decoder.feed(data)]
        return _untagged(self.got.pop(0))

    def until(self, op: str, mark: str | None = None) -> dict[str, Any]:
        while True:
            said = self.next()
            if said.get("op") == op and mark in (None, said.get("mark")):
                return said

    def replay(self) -> list[dict[str, Any]]:
        """What it tells until ``replayed``."""
        said = []
        while (one := self.next())["op"] != "replayed":
            said.append(one)
        return said


class Bench:
    """A home, the keepers in it and the lines to them."""

    def __init__(self, home: HomeUnderTest) -> None:
        self.home = home
        self.paths: Home = home
        self.lines: list[Line] = []
        self.spawned: list[tuple[int, int]] = []

    def start(self, crash: str | None = None, **options: Any) -> subprocess.Popen[bytes]:
        env = {"PATH": PATH, "VIGIE_KEEPER_IDLE": "600", "VIGIE_HOME": self.home.root}
        env |= options.pop("env", {})
        if crash:
            env["VIGIE_CRASH_AT"] = crash
        argv = [sys.executable, "-m", "vigie.keeper", self.paths.root]
        keeper = subprocess.Popen(argv, env=env, cwd="/", start_new_session=True, **options)
        self.home.started.append(keeper)
        return keeper

    def connect(self, role: str = "agent") -> Line:
        def attempt() -> socket.socket | None:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                return connect_unix(self.paths.keeper_socket, timeout=30)
            return None

        sock = until(attempt, what="the keeper's socket")
        assert sock is not None
        line = Line(sock, role)
        self.lines.append(line)
        return line

    def agent(self) -> Line:
        """Connect and leave the replay behind."""
        line = self.connect()
        line.replay()
        return line

    def spawn(self, line: Line, mark: str, *argv: str, **fields: Any) -> dict[str, Any]:
        self.ask(line, mark, *argv, **fields)
        while (said := line.next()).get("mark") != mark:
            pass
        if said["op"] == "started":
            self.spawned.append((said["pid"], said["start_ticks"]))
        return said

    def ask(self, line: Line, mark: str, *argv: str, **fields: Any) -> None:
        request: dict[str, Any] = {"cwd": "/", "env": {"PATH": PATH}, "umask": 0o022, "argv": list(argv)}
        line.send(op="spawn", mark=mark, **{**request, "stdin": None, "out": None, "err": None, **fields})

    def fifo(self, name: str = "go") -> str:
        path = os.path.join(self.home.top, name)
        os.mkfifo(path)
        return path

    def journal(self) -> list[dict[str, Any]]:
        return [_untagged(json.loads(line)) for line in Path(self.home.keeper_journal).read_text().splitlines()]

    def close(self) -> None:
        for line in self.lines:
            line.sock.close()
        for pid, ticks in self.spawned:
            procs.send_signal(procs.Identity(pid, ticks), signal.SIGKILL)
        for keeper in self.home.started:
            with contextlib.suppress(OSError):
                keeper.kill()


@pytest.fixture
def bench(home: HomeUnderTest) -> Iterator[Bench]:
    bench = Bench(home)
    yield bench
    bench.close()


@pytest.fixture
def orphanage() -> Iterator[None]:
    """Get the orphans of a killed keeper, as the agent does."""
    assert pidfd.set_subreaper()
    yield
    pidfd.set_subreaper(on=False)
    # Whoever came to us waits to be reaped; no test of this process has others.
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def release(fifo: str) -> None:
    """Let the child that reads this FIFO go on."""
    fd = os.open(fifo, os.O_WRONLY)
    os.write(fd, b"\n")
    os.close(fd)


def reap(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
