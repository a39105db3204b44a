"""The keeper as a real process: what it starts, what a child gets, and what is told of each mark."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import until
from keeper_bench import PATH, SH, TAG, Bench, bench, release  # noqa: F401 - fixtures
from vigie import procs

# What a child gets ------------------------------------------------------------------


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


# What cannot run --------------------------------------------------------------------


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


# Marks ------------------------------------------------------------------------------


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
