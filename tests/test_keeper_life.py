"""The keeper as a process of its own: whom it hears, what it bears, when it ends."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import until
from keeper_bench import SH, Bench, bench, release  # noqa: F401 - fixtures
from vigie import frames, procs
from vigie.config import Home
from vigie.sockets import connect_unix

# Who is spoken to -------------------------------------------------------------------


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


# Its own life -----------------------------------------------------------------------


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
