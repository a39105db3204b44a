"""The keeper as a real process, spoken to as the agent does, and killed where it hurts."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
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


# What a child gets ---------------------------------------------------------------


def test_exit_codes_and_signals_are_exact(bench: Bench) -> None:
    bench.start()
    line = bench.agent()
    started = bench.spawn(line, "1.1", SH, "-c", "exit 7")
    ended = line.until("ended", "1.1")
    assert (ended["exit_code"], ended["signal"], ended["known"], ended["core"]) == (7, None, True, False)
    assert ended["pid"] == started["pid"]
    assert ended["at"] >= started["at"] == ended["started_at"]
    assert ended["mono"] >= started["mono"] == ended["started_mono"]
    assert ended["cpu"] >= 0
    assert ended["peak_rss"] > 100_000
    bench.spawn(line, "2.1", SH, "-c", "kill -SEGV $$")
    ended = line.until("ended", "2.1")
    assert (ended["exit_code"], ended["signal"]) == (None, signal.SIGSEGV)


def test_output_is_appended_byte_for_byte(bench: Bench) -> None:
    bench.start()
    line = bench.agent()
    every = bytes(range(256)) * 5000
    source = bench.home / "in"
    source.write_bytes(every)
    directory = bench.home / "jobs" / "042" / "1042"
    out, err = directory / "out", directory / "err"
    files = {"out": str(out), "err": str(err), "dir": str(directory), "stdin": str(source)}
    for mark in ("1.1", "1.2"):
        bench.spawn(line, mark, SH, "-c", "cat; echo oops >&2", **files)
        assert line.until("ended", mark)["exit_code"] == 0
    assert out.read_bytes() == every * 2
    assert err.read_bytes() == b"oops\n" * 2
    assert [stat.S_IMODE(os.stat(path).st_mode) for path in (directory, out, err)] == [0o700, 0o600, 0o600]
    assert stat.S_IMODE(os.stat(directory.parent).st_mode) == 0o700


def test_one_path_for_both_streams_is_one_file(bench: Bench) -> None:
    bench.start()
    line = bench.agent()
    both = str(bench.home / "both")
    loop = "for i in 1 2 3; do echo $i; echo $i >&2; done"
    bench.spawn(line, "1.1", SH, "-c", loop, out=both, err=both)
    line.until("ended")
    assert Path(both).read_text() == "1\n1\n2\n2\n3\n3\n"


_REPORT = """
import json, os, resource, signal, sys
fds = [int(n) for n in os.listdir('/proc/self/fd')]
status = dict(l.split(':', 1) for l in open('/proc/self/status'))
json.dump({'fds': [n for n in fds if os.path.exists('/proc/self/fd/%d' % n)],
    'stdin': os.readlink('/proc/self/fd/0'),
    'env': sorted(os.environ), 'mark': os.environ['VIGIE_ATTEMPT'], 'cwd': os.getcwd(),
    'umask': os.umask(0), 'leader': os.getsid(0) == os.getpid() == os.getpgrp(),
    'ignored': status['SigIgn'].strip(), 'blocked': status['SigBlk'].strip(),
    'files': resource.getrlimit(resource.RLIMIT_NOFILE)}, sys.stdout)
"""


def test_a_child_inherits_nothing_of_the_keeper(bench: Bench) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    mine = min(300, hard)
    spare = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(spare, True)

    def handicap() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (mine, hard))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2])

    bench.start(preexec_fn=handicap, close_fds=False)
    os.close(spare)
    line = bench.agent()
    keepalive = bench.fifo()
    bench.spawn(line, "1.1", SH, "-c", f"read x < {keepalive}")
    out = str(bench.home / "out")
    # -S and -E: nothing but what the keeper gave; Python itself ignores SIGPIPE and SIGXFSZ.
    # 32 and 33 are the C library's own: under a make that spawns by posix_spawn all inherit them ignored.
    env = {"PATH": PATH, "A": "b=c\nd", "LC_CTYPE": "C.UTF-8"}
    bench.spawn(line, "2.1", sys.executable, "-ISc", _REPORT, cwd="/usr", env=env, umask=0o027, out=out)
    assert line.until("ended", "2.1")["exit_code"] == 0
    said = json.loads(Path(out).read_text())
    assert said.pop("fds") == [0, 1, 2]
    ignored = int(said.pop("ignored"), 16) & ~(1 << 31 | 1 << 32)
    assert ignored == 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    assert int(said.pop("blocked"), 16) == 0
    assert said == {
        "stdin": "/dev/null",
        "env": ["A", "LC_CTYPE", "PATH", "VIGIE_ATTEMPT"],
        "mark": TAG + "2.1",
        "cwd": "/usr",
        "umask": 0o027,
        "leader": True,
        "files": [mine, hard],
    }
    release(keepalive)
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)


def test_arguments_are_bytes(bench: Bench) -> None:
    bench.start(env={"LC_ALL": "C"})
    line = bench.agent()
    raw = [b"caf\xe9", b"\xff\x01\xfe", b"two\nlines", b'it\'s "quoted"', "été".encode(), b""]
    out = os.fsdecode(os.fsencode(str(bench.home / "o-")) + b"\xff")
    words = [word.decode("utf-8", "surrogateescape") for word in raw]
    bench.spawn(line, "1.1", "printf", "%s\\0", *words, out=out)
    assert line.until("ended")["exit_code"] == 0
    assert Path(out).read_bytes().split(b"\0") == [*raw, b""]


# What cannot run -----------------------------------------------------------------


def _script(bench: Bench, name: str, text: bytes, mode: int = 0o755) -> str:
    path = Path(bench.home.top, name)
    path.write_bytes(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("what", "error", "words", "request_of"),
    [
        ("argv", "ENOENT", "command not found: no-such-command", lambda b: {"argv": ["no-such-command"]}),
        ("argv", "ENOENT", "no such file: /no/such", lambda b: {"argv": ["/no/such"]}),
        ("argv", "EACCES", "is not executable", lambda b: {"argv": [_script(b, "s", b"#!/bin/sh\n", 0o644)]}),
        ("argv", "EACCES", "/usr is a directory", lambda b: {"argv": ["/usr"]}),
        (
            "argv",
            "ENOENT",
            "its interpreter /no/python does not exist",
            lambda b: {"argv": [_script(b, "s", b"#!/no/python\n")]},
        ),
        ("argv", "ENOEXEC", "lacks a #! line", lambda b: {"argv": [_script(b, "s", b"echo hello\n")]}),
        ("argv", "EINVAL", "no command", lambda b: {"argv": []}),
        ("argv", "EINVAL", "null byte", lambda b: {"argv": ["echo", "a\0b"]}),
        ("argv", "EINVAL", "environment variable name", lambda b: {"argv": ["true"], "env": {"A=B": "c"}}),
        ("argv", "EINVAL", "malformed", lambda b: {"argv": ["true"], "env": ["A"]}),
        ("argv", "EINVAL", "malformed", lambda b: {"argv": 5}),
        ("argv", "E2BIG", "the command line is too long", lambda b: {"argv": ["echo", "x" * (1 << 20)]}),
        ("cwd", "ENOENT", "the directory /no/dir does not exist", lambda b: {"argv": ["true"], "cwd": "/no/dir"}),
        ("cwd", "ENOTDIR", "/dev/null is not a directory", lambda b: {"argv": ["true"], "cwd": "/dev/null"}),
        ("stdin", "ENOENT", "cannot read the input /no/in", lambda b: {"argv": ["cat"], "stdin": "/no/in"}),
        ("stdin", "EISDIR", "cannot read the input /usr", lambda b: {"argv": ["cat"], "stdin": "/usr"}),
        ("out", "ENOENT", "cannot write the output /no/out", lambda b: {"argv": ["true"], "out": "/no/out"}),
        ("out", "EISDIR", "cannot write the output /usr", lambda b: {"argv": ["true"], "err": "/usr"}),
        (
            "out",
            "ENOTDIR",
            "cannot make the directory",
            lambda b: {"argv": ["true"], "dir": "/dev/null/x"},
        ),
    ],
)
def test_what_cannot_run_says_why(
    bench: Bench, what: str, error: str, words: str, request_of: Callable[[Bench], dict[str, Any]]
) -> None:
    bench.start()
    line = bench.agent()
    said = bench.spawn(line, "1.1", **request_of(bench))
    assert (said["op"], said["what"], said["error"]) == ("failed", what, error)
    assert words in said["message"]
    assert bench.spawn(line, "1.1", "true") == {**said, "replay": True}
    assert bench.spawn(line, "2.1", "true")["op"] == "started"


def test_a_fifo_holds_nobody_up(bench: Bench) -> None:
    bench.start()
    line = bench.agent()
    fifo = bench.fifo()
    said = bench.spawn(line, "1.1", "true", out=fifo)
    assert (said["op"], said["what"], said["error"]) == ("failed", "out", "ENXIO")
    assert bench.spawn(line, "2.1", "true", stdin=fifo)["op"] == "started"


def _without_privileges() -> None:
    """Let permissions count for root too: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH go."""
    if os.geteuid() == 0:
        drop = 24
        for capability in (1, 2):
            assert ctypes.CDLL(None).prctl(drop, capability, 0, 0, 0) == 0


def test_permissions_are_told(bench: Bench) -> None:
    bench.start(preexec_fn=_without_privileges)
    line = bench.agent()
    closed, secret = Path(bench.home.top, "closed"), Path(bench.home.top, "secret")
    closed.mkdir(mode=0)
    secret.touch(mode=0)
    said = bench.spawn(line, "1.1", "true", cwd=str(closed))
    assert (said["what"], said["error"]) == ("cwd", "EACCES")
    assert said["message"] == f"the directory {closed} may not be entered"
    said = bench.spawn(line, "2.1", "cat", stdin=str(secret))
    assert (said["what"], said["error"]) == ("stdin", "EACCES")
    said = bench.spawn(line, "3.1", "true", out=str(secret))
    assert (said["what"], said["error"]) == ("out", "EACCES")
    said = bench.spawn(line, "4.1", str(closed / "command"))
    assert (said["what"], said["error"]) == ("argv", "EACCES")


# Marks ---------------------------------------------------------------------------


def test_a_mark_is_spawned_once(bench: Bench) -> None:
    bench.start()
    line = bench.agent()
    fifo, out = bench.fifo(), str(bench.home / "out")
    script = f"echo once; read x < {fifo}; exit 3"
    first = bench.spawn(line, "1.1", SH, "-c", script, out=out)
    again = bench.spawn(line, "1.1", SH, "-c", script, out=out)
    assert again == first
    release(fifo)
    ended = line.until("ended", "1.1")
    assert bench.spawn(line, "1.1", SH, "-c", script, out=out) == {**first, "replay": True}
    assert line.next() == {**ended, "replay": True}
    assert Path(out).read_text() == "once\n"


def test_the_end_is_told_until_it_is_forgotten(bench: Bench) -> None:
    bench.start()
    line = bench.agent()
    bench.spawn(line, "1.1", SH, "-c", "exit 4")
    ended = line.until("ended")
    bench.spawn(line, "2.1", "no-such-command")
    line.sock.close()
    line = bench.connect()
    assert line.hello["boot"] == procs.boot_id()
    said = line.replay()
    assert said[0] == {**ended, "replay": True}
    assert (said[1]["op"], said[1]["mark"], said[1]["replay"]) == ("failed", "2.1", True)
    line.send(op="forget", marks=["1.1", "2.1", "unknown"])
    line.send(op="list")
    assert line.replay() == []


def test_a_living_child_is_not_forgotten(bench: Bench) -> None:
    bench.start()
    line = bench.agent()
    fifo = bench.fifo()
    bench.spawn(line, "1.1", SH, "-c", f"read x < {fifo}; exit 5")
    line.send(op="forget", marks=["1.1"])
    release(fifo)
    assert line.until("ended", "1.1")["exit_code"] == 5


def test_signals_reach_the_process_or_its_group(bench: Bench) -> None:
    bench.start()
    line = bench.agent()
    started = bench.spawn(line, "1.1", "sleep", "600")
    line.send(op="signal", mark="1.1", signal=int(signal.SIGTERM))
    assert line.until("ended", "1.1")["signal"] == signal.SIGTERM
    out = str(bench.home / "out")
    started = bench.spawn(line, "2.1", SH, "-c", "sleep 600 & echo $!; wait", out=out)
    below = until(lambda: Path(out).exists() and Path(out).read_text().strip())
    line.send(op="signal", mark="2.1", signal=int(signal.SIGKILL), group=True)
    assert line.until("ended", "2.1")["signal"] == signal.SIGKILL
    until(lambda: procs.start_ticks(int(below)) is None, what="the end of the other in the group")
    line.send(op="signal", mark="2.1", signal=int(signal.SIGKILL))
    line.send(op="signal", mark="unknown", signal=int(signal.SIGKILL))
    line.send(op="list")
    assert [said["mark"] for said in line.replay()] == ["1.1", "2.1"]
    assert started["pid"] > 1


# Death of a keeper ---------------------------------------------------------------


def test_nothing_is_known_of_a_spawn_before_its_begin(bench: Bench, orphanage: None) -> None:
    keeper = bench.start(crash="keeper-before-begin")
    bench.ask(bench.agent(), "1.1", "true")
    assert keeper.wait(30) == -signal.SIGKILL
    bench.start()
    assert bench.connect().replay() == []


def test_a_begin_without_a_process_is_lost(bench: Bench, orphanage: None) -> None:
    out = bench.home / "out"
    keeper = bench.start(crash="keeper-after-begin")
    bench.ask(bench.agent(), "1.1", SH, "-c", "echo ran", out=str(out))
    assert keeper.wait(30) == -signal.SIGKILL
    second = bench.start()
    lost = {"op": "lost", "mark": "1.1", "replay": True}
    assert bench.connect().replay() == [lost]
    second.kill()
    second.wait()
    bench.start()
    line = bench.connect()
    assert line.replay() == [lost]
    # Lost is an answer: the mark never starts late.
    assert bench.spawn(line, "1.1", SH, "-c", "echo ran", out=str(out)) == lost
    assert not out.exists()
    line.send(op="forget", marks=["1.1"])
    line.send(op="list")
    assert line.replay() == []


@pytest.mark.parametrize("crash", ["keeper-after-spawn", "keeper-after-started"])
@pytest.mark.parametrize("reaped", [True, False])
def test_a_living_child_is_adopted_with_its_exit_code(bench: Bench, orphanage: None, crash: str, reaped: bool) -> None:
    fifo, out = bench.fifo(), bench.home / "out"
    keeper = bench.start(crash=crash)
    bench.ask(bench.agent(), "1.1", SH, "-c", f"echo $$; read x < {fifo}; exit 9", out=str(out))
    assert keeper.wait(30) == -signal.SIGKILL
    pid = int(until(lambda: out.exists() and out.read_text().strip()))
    second = bench.start()
    line = bench.connect()
    (started,) = line.replay()
    assert (started["op"], started["mark"], started["pid"]) == ("started", "1.1", pid)
    assert started["start_ticks"] == procs.start_ticks(pid)
    if reaped:
        # Its parent, this process, reaps it before the keeper can look: only the
        # kernel's exit info knows the code then.
        second.send_signal(signal.SIGSTOP)
        release(fifo)
        assert reap(pid) == 9
        second.send_signal(signal.SIGCONT)
        ended = line.until("ended")
    else:
        release(fifo)
        ended = line.until("ended")
        assert reap(pid) == 9
    assert (ended["exit_code"], ended["known"], ended["pid"]) == (9, True, pid)
    assert (ended["cpu"], ended["peak_rss"]) == (None, None)


def test_an_adopted_child_is_signalled_and_its_signal_known(bench: Bench, orphanage: None) -> None:
    first = bench.start()
    pid = bench.spawn(bench.agent(), "1.1", "sleep", "600")["pid"]
    first.kill()
    first.wait()
    bench.start()
    line = bench.agent()
    line.send(op="signal", mark="1.1", signal=int(signal.SIGTERM), group=True)
    assert line.until("ended", "1.1")["signal"] == signal.SIGTERM
    assert reap(pid) == -signal.SIGTERM


def test_a_zombie_still_tells_its_exit_code(bench: Bench, orphanage: None) -> None:
    fifo = bench.fifo()
    first = bench.start()
    pid = bench.spawn(bench.agent(), "1.1", SH, "-c", f"read x < {fifo}; exit 11")["pid"]
    first.kill()
    first.wait()
    release(fifo)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    bench.start()
    line = bench.connect()
    line.replay()
    line.send(op="list")
    until(lambda: any(said["k"] == "ended" for said in bench.journal()))
    line.send(op="list")
    ends = [said for said in line.replay() + line.replay() if said["op"] == "ended"]
    assert {said["exit_code"] for said in ends} == {11}
    assert reap(pid) == 11


def test_a_process_older_than_its_begin_is_not_taken_for_it(bench: Bench, orphanage: None) -> None:
    env = {"PATH": PATH, "VIGIE_ATTEMPT": TAG + "1.1"}
    twin = subprocess.Popen(["sleep", "600"], env=env, start_new_session=True)
    bench.home.started.append(twin)
    ticks = until(lambda: procs.find_mark(TAG + "1.1"))
    assert ticks is not None
    # Clock ticks are coarse: the begin must fall into a later one.
    until(lambda: procs.boot_ticks() > ticks.start_ticks + 1)
    keeper = bench.start(crash="keeper-after-begin")
    bench.ask(bench.agent(), "1.1", "true")
    assert keeper.wait(30) == -signal.SIGKILL
    bench.start()
    assert bench.connect().replay() == [{"op": "lost", "mark": "1.1", "replay": True}]


def test_what_ended_and_was_reaped_without_a_keeper_is_lost(bench: Bench, orphanage: None) -> None:
    first = bench.start()
    pid = bench.spawn(bench.agent(), "1.1", "sleep", "600")["pid"]
    first.kill()
    first.wait()
    os.kill(pid, signal.SIGKILL)
    assert reap(pid) == -signal.SIGKILL
    bench.start()
    assert bench.connect().replay() == [{"op": "lost", "mark": "1.1", "replay": True}]


def test_an_end_is_written_before_it_is_told(bench: Bench, orphanage: None) -> None:
    keeper = bench.start(crash="keeper-after-ended")
    line = bench.agent()
    bench.spawn(line, "1.1", SH, "-c", "exit 6")
    assert keeper.wait(30) == -signal.SIGKILL
    bench.start()
    (ended,) = bench.connect().replay()
    assert (ended["op"], ended["exit_code"], ended["known"]) == ("ended", 6, True)


def test_another_boot_leaves_only_what_had_ended(bench: Bench) -> None:
    os.makedirs(bench.home.keeper_dir)
    ended = {
        "k": "ended", "mark": "1.1", "pid": 4, "ticks": 5, "at": 6, "mono": 7, "ended_at": 8, "ended_mono": 9,
        "exit_code": 3, "signal": None, "core": False, "known": True, "cpu": 1, "peak_rss": 2,
    }  # fmt: skip
    me = {"pid": os.getpid(), "ticks": procs.start_ticks(os.getpid()), "at": 1, "mono": 1}
    entries = [{"k": "boot", "boot": "earlier"}, ended, {"k": "started", "mark": "2.1", **me}]
    entries.append({"k": "begin", "mark": "3.1"})
    Path(bench.home.keeper_journal).write_text("".join(json.dumps(one) + "\n" for one in entries))
    bench.start()
    said = bench.connect().replay()
    assert [(one["op"], one["mark"]) for one in said] == [("ended", "1.1"), ("lost", "2.1"), ("lost", "3.1")]
    assert said[0]["exit_code"] == 3


def test_a_number_given_to_another_process_is_not_adopted(bench: Bench) -> None:
    os.makedirs(bench.home.keeper_dir)
    other = {"pid": os.getpid(), "ticks": (procs.start_ticks(os.getpid()) or 0) - 1, "at": 1, "mono": 1}
    entries = [{"k": "boot", "boot": procs.boot_id()}, {"k": "started", "mark": "2.1", **other}]
    Path(bench.home.keeper_journal).write_text("".join(json.dumps(one) + "\n" for one in entries))
    bench.start()
    assert bench.connect().replay() == [{"op": "lost", "mark": "2.1", "replay": True}]


@pytest.mark.slow
def test_a_full_disk_stops_new_spawns_and_loses_no_end(bench: Bench) -> None:
    keeper = bench.start()
    line = bench.agent()
    free = resource.prlimit(keeper.pid, resource.RLIMIT_FSIZE)
    size = os.path.getsize(bench.home.keeper_journal)
    # Room for `begin`, not for `started`.
    resource.prlimit(keeper.pid, resource.RLIMIT_FSIZE, (size + 80, free[1]))
    assert bench.spawn(line, "1.1", SH, "-c", "exit 5")["op"] == "started"
    assert line.until("ended", "1.1")["exit_code"] == 5
    refused = bench.spawn(line, "2.1", "true")
    assert (refused["op"], refused["what"], refused["error"]) == ("failed", "fork", "ENOSPC")
    line.send(op="upgrade")
    line.send(op="list")
    assert [said["op"] for said in line.replay()] == ["ended", "failed"]
    assert {said["k"] for said in bench.journal()} == {"boot", "begin"}
    resource.prlimit(keeper.pid, resource.RLIMIT_FSIZE, free)
    until(lambda: [said["k"] for said in bench.journal()] == ["boot", "ended", "failed"])
    assert bench.spawn(line, "3.1", "true")["op"] == "started"


# Upgrade -------------------------------------------------------------------------


def test_an_upgrade_keeps_children_and_exit_codes(bench: Bench, orphanage: None) -> None:
    go, went, soft = bench.fifo("a"), bench.fifo("b"), resource.getrlimit(resource.RLIMIT_NOFILE)
    first = bench.start()
    adopted = bench.spawn(bench.agent(), "1.1", SH, "-c", f"read x < {go}; exit 8")["pid"]
    first.kill()
    first.wait()
    second = bench.start()
    line = bench.agent()
    started = bench.spawn(line, "2.1", SH, "-c", f"read x < {went}; exit 9")
    bench.spawn(line, "3.1", SH, "-c", "exit 10")
    line.until("ended", "3.1")
    line.send(op="upgrade")
    with pytest.raises(EOFError):
        line.until("never")
    line = bench.connect()
    assert line.hello["pid"] == second.pid
    said = {one["mark"]: one for one in line.replay()}
    assert {mark: one["op"] for mark, one in said.items()} == {"1.1": "started", "2.1": "started", "3.1": "ended"}
    assert said["2.1"]["pid"] == started["pid"]
    assert said["3.1"]["exit_code"] == 10
    release(went)
    ended = line.until("ended", "2.1")
    assert (ended["exit_code"], ended["known"]) == (9, True)
    assert ended["cpu"] is not None
    # The pidfd of the adopted one was carried over, or its code would be gone now.
    second.send_signal(signal.SIGSTOP)
    release(go)
    assert reap(adopted) == 8
    line.send(op="upgrade")
    second.send_signal(signal.SIGCONT)
    with pytest.raises(EOFError):
        line.until("never")
    line = bench.connect()
    until(lambda: {one["mark"] for one in bench.journal() if one["k"] == "ended"} >= {"1.1"})
    line.replay()
    line.send(op="list")
    ended = next(one for one in line.replay() if one["mark"] == "1.1")
    assert (ended["op"], ended["exit_code"]) == ("ended", 8)
    out = str(bench.home / "limit")
    bench.spawn(line, "4.1", SH, "-c", "ulimit -n", out=out)
    line.until("ended", "4.1")
    assert Path(out).read_text().strip() == str(soft[0])


def test_a_failed_upgrade_goes_on_with_the_old_code(bench: Bench) -> None:
    link = Path(bench.home.top, "bin", "python")
    link.parent.mkdir()
    venv = Path(sys.executable).parent.parent / "pyvenv.cfg"
    if venv.exists():
        shutil.copy(venv, bench.home.top)
    link.symlink_to(sys.executable)
    env = {"VIGIE_KEEPER_IDLE": "600", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    argv = [str(link), "-m", "vigie.keeper", bench.home.root]
    keeper = subprocess.Popen(argv, env=env, start_new_session=True, stderr=subprocess.PIPE)
    bench.home.started.append(keeper)
    line = bench.agent()
    fifo = bench.fifo()
    bench.spawn(line, "1.1", SH, "-c", f"read x < {fifo}; exit 2")
    link.unlink()
    line.send(op="upgrade")
    release(fifo)
    assert line.until("ended", "1.1")["exit_code"] == 2
    assert bench.spawn(line, "2.1", "true")["op"] == "started"


# Who is spoken to ----------------------------------------------------------------


def test_a_new_agent_replaces_the_old(bench: Bench) -> None:
    bench.start()
    old = bench.agent()
    fifo = bench.fifo()
    bench.spawn(old, "1.1", SH, "-c", f"read x < {fifo}; exit 1")
    new = bench.connect()
    assert [said["op"] for said in new.replay()] == ["started"]
    with pytest.raises((EOFError, ConnectionResetError)):
        old.next()
    release(fifo)
    assert new.until("ended", "1.1")["exit_code"] == 1


def test_a_stranger_replaces_nobody(bench: Bench) -> None:
    bench.start()
    line = bench.agent()
    stranger = bench.connect(role="client")
    with pytest.raises((EOFError, ConnectionResetError)):
        stranger.next()
    with connect_unix(bench.home.keeper_socket, timeout=30) as noise:
        noise.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while noise.recv(4096):
                pass
    line.send(op="an operation of the future", more=1)
    assert bench.spawn(line, "1.1", "true")["op"] == "started"


@pytest.mark.slow
def test_an_agent_that_does_not_read_holds_nobody_up(bench: Bench) -> None:
    keeper = bench.start()
    line = bench.agent()
    fifo = bench.fifo()
    for number in range(20):
        bench.spawn(line, f"{number}.1", "true")
        line.until("ended")
    bench.spawn(line, "99.1", SH, "-c", f"read x < {fifo}; exit 1")
    line.sock.setblocking(False)
    asked = 0
    whole = frames.encode({"op": "list"})
    rest = b""
    # It stops reading from who does not read: the socket's buffers fill.
    while select.select([], [line.sock], [], 0.2)[1]:
        rest = rest or whole * 100
        asked += 0 if len(rest) < len(whole * 100) else 100
        with contextlib.suppress(BlockingIOError):
            rest = rest[line.sock.send(rest) :]
    release(fifo)
    until(lambda: any(one["k"] == "ended" and one["mark"] == "99.1" for one in bench.journal()))
    assert (procs.rss(keeper.pid) or 0) < 24 << 20
    line.sock.settimeout(30)
    seen = 0
    found = False
    while not found or seen < asked - 100:
        said = line.next()
        seen += said["op"] == "replayed"
        found = found or (said["op"], said.get("mark")) == ("ended", "99.1")
    assert seen > 0


@pytest.mark.slow
def test_many_fast_children_lose_no_end(bench: Bench) -> None:
    bench.start()
    line = bench.agent()
    expected = {}
    for number in range(300):
        expected[f"{number}.1"] = number % 200
        bench.ask(line, f"{number}.1", SH, "-c", f"exit {number % 200}")
    order: dict[str, list[str]] = {}
    codes: dict[str, int] = {}
    while len(codes) < 300:
        said = line.next()
        order.setdefault(said["mark"], []).append(said["op"])
        if said["op"] == "ended":
            codes[said["mark"]] = said["exit_code"]
    assert codes == expected
    assert set(map(tuple, order.values())) == {("started", "ended")}


@pytest.mark.slow
def test_more_children_than_the_original_limit_has_descriptors(bench: Bench) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard <= 200:
        pytest.skip("the hard limit of descriptors leaves no room")
    bench.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)))
    line = bench.agent()
    for number in range(100):
        assert bench.spawn(line, f"{number}.1", "sleep", "600")["op"] == "started"
    out = str(bench.home / "limit")
    bench.spawn(line, "a.1", SH, "-c", "ulimit -n", out=out)
    line.until("ended", "a.1")
    assert Path(out).read_text() == "64\n"
    for number in range(100):
        line.send(op="signal", mark=f"{number}.1", signal=int(signal.SIGKILL))
    for _ in range(100):
        assert line.until("ended")["signal"] == signal.SIGKILL


def test_orphans_of_children_are_reaped_in_silence(bench: Bench) -> None:
    keeper = bench.start()
    line = bench.agent()
    fifo, out = bench.fifo(), bench.home / "out"
    bench.spawn(line, "1.1", SH, "-c", f"(read x < {fifo}) & echo $!", out=str(out))
    line.until("ended", "1.1")
    orphan = int(out.read_text())
    assert procs.parent(procs.Identity(orphan, procs.start_ticks(orphan) or 0)) == keeper.pid
    release(fifo)
    until(lambda: procs.start_ticks(orphan) is None, what="the orphan to be reaped")
    line.send(op="list")
    assert [said["op"] for said in line.replay()] == ["ended"]


# Its own life --------------------------------------------------------------------


def test_it_starts_from_nothing_in_a_deep_home(bench: Bench) -> None:
    bench.paths = Home(os.path.join(bench.home.top, *("d" * 60 for _ in range(4)), "h"))
    argv = ["/usr/bin/env", "-i", sys.executable, "-m", "vigie.keeper", bench.paths.root]
    bench.home.started.append(subprocess.Popen(argv, start_new_session=True))
    keeper = bench.home.started[-1]
    line = bench.agent()
    bench.spawn(line, "1.1", "true")
    assert line.until("ended")["exit_code"] == 0
    line.send(op="quit")
    assert keeper.wait(30) == 0
    assert not os.path.lexists(bench.paths.keeper_socket)


def test_a_second_keeper_leaves_at_once(bench: Bench) -> None:
    first = bench.start()
    line = bench.agent()
    assert bench.start().wait(30) == 0
    assert first.poll() is None
    assert bench.spawn(line, "1.1", "true")["op"] == "started"


def _wakes(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


@pytest.mark.slow
def test_without_agent_and_children_it_ends(bench: Bench) -> None:
    keeper = bench.start(env={"VIGIE_KEEPER_IDLE": "0.05"})
    line = bench.agent()
    fifo = bench.fifo()
    bench.spawn(line, "1.1", SH, "-c", f"read x < {fifo}; exit 3")
    line.sock.close()
    before = _wakes(keeper.pid)
    until(lambda: _wakes(keeper.pid) >= before + 5, what="the keeper to look at its end several times")
    release(fifo)
    assert keeper.wait(30) == 0
    assert [said["exit_code"] for said in bench.journal() if said["k"] == "ended"] == [3]


def test_sigterm_and_quit_wait_for_children(bench: Bench) -> None:
    keeper = bench.start()
    line = bench.agent()
    fifo = bench.fifo()
    bench.spawn(line, "1.1", SH, "-c", f"read x < {fifo}")
    keeper.terminate()
    line.send(op="quit")
    keeper.send_signal(signal.SIGINT)
    keeper.send_signal(signal.SIGHUP)
    line.send(op="list")
    assert len(line.replay()) == 1
    release(fifo)
    line.until("ended")
    keeper.terminate()
    assert keeper.wait(30) == 0


@pytest.mark.slow
def test_a_removed_socket_file_is_made_again(bench: Bench) -> None:
    bench.start()
    line = bench.agent()
    os.unlink(bench.home.keeper_socket)
    assert bench.spawn(line, "1.1", "true")["op"] == "started"
    line.sock.close()
    assert [said["mark"] for said in bench.connect().replay()] == ["1.1"]


def test_it_stays_small(bench: Bench) -> None:
    keeper = bench.start()
    line = bench.agent()
    for number in range(20):
        bench.spawn(line, f"{number}.1", "true")
        line.until("ended")
    rss = procs.rss(keeper.pid) or 0
    assert 1 << 20 < rss < 14_000_000


def test_wrong_usage_is_told() -> None:
    done = subprocess.run([sys.executable, "-m", "vigie.keeper"], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"usage" in done.stderr
