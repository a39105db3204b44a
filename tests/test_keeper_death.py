"""The keeper killed where it hurts, and replaced by a newer one: no exit code is lost, and none invented."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import until
from keeper_bench import PATH, SH, TAG, Bench, bench, orphanage, reap, release  # noqa: F401 - fixtures
from vigie import procs

# Death of a keeper ------------------------------------------------------------------


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
    ticks = procs.start_ticks(pid)
    assert reap(pid) == -signal.SIGKILL
    bench.start()
    lost = {"op": "lost", "mark": "1.1", "replay": True, "pid": pid, "start_ticks": ticks}
    assert bench.connect().replay() == [lost]


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
    identity = {"pid": other["pid"], "start_ticks": other["ticks"]}
    assert bench.connect().replay() == [{"op": "lost", "mark": "2.1", "replay": True, **identity}]


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


# Upgrade ----------------------------------------------------------------------------


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
