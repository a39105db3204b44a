"""Services that speak sd_notify, are given sockets, or run under limits: through the real keeper."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import until
from served import Served
from test_services import _alive, _kill, _port, served  # noqa: F401 - the fixture
from vigie import frames
from vigie.sockets import connect_unix
from vigie.supervision.plan import Listen, Plan, Probe

pytestmark = pytest.mark.slow

#: What a service in these tests says by: the protocol in a dozen lines.
SAY = """
import array, os, signal, socket, sys, time
def say(text, *fds):
    address = os.environ["NOTIFY_SOCKET"]
    if address.startswith("@"): address = "\\0" + address[1:]
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.connect(address)
    socket.send_fds(sock, [text.encode()], list(fds)) if fds else sock.send(text.encode())
    sock.close()
def barrier():
    read, write = os.pipe()
    say("BARRIER=1", write)
    os.close(write)
    assert os.read(read, 1) == b""
"""


def python(served: Served, name: str, body: str, **fields) -> None:
    served.add(name, sys.executable, "-c", SAY + body, **fields)


NOTIFY = Probe("notify")


def test_it_is_ready_when_it_says_so_and_its_status_is_shown(served, tmp_path):
    go = tmp_path / "go"
    body = (
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        "say('READY=1\\nSTATUS=serves 7\\nUNKNOWN=x')\ntime.sleep(1000)"
    )
    python(served, "web", body, plan=Plan(ready=NOTIFY))
    served.pid("web")
    assert served.state("web") == "starting"
    go.touch()
    served.until_state("web", "ready")
    until(lambda: served.rows("SELECT status FROM instances") == [("serves 7",)])


def test_systemd_notify_is_understood(served, need):
    need("systemd-notify")
    line = "systemd-notify --status='from a shell' --ready; sleep 1000"
    served.add("web", "sh", "-c", line, plan=Plan(ready=NOTIFY))
    served.until_state("web", "ready")
    until(lambda: served.rows("SELECT status FROM instances") == [("from a shell",)])


def test_a_watchdog_that_falls_silent_or_is_triggered_restarts_it(served, tmp_path):
    quiet, bite = tmp_path / "quiet", tmp_path / "bite"
    body = (
        "say('READY=1')\n"
        "while True:\n"
        f"    if os.path.exists({str(bite)!r}): say('WATCHDOG=trigger')\n"
        f"    elif not os.path.exists({str(quiet)!r}): say('WATCHDOG=1')\n"
        "    time.sleep(0.05)\n"
    )
    python(served, "web", body, plan=Plan(ready=NOTIFY, watchdog=600_000, settled=0))
    served.until_state("web", "ready")
    first = served.pid("web")
    environ = Path(f"/proc/{first}/environ").read_bytes()
    assert b"WATCHDOG_USEC=600000" in environ
    quiet.touch()
    second = served.another("web", first)
    quiet.unlink()
    served.until_state("web", "ready")
    bite.touch()
    until(lambda: not _alive(second))
    bite.unlink()
    causes = [
        row[0] for row in served.rows("SELECT detail FROM events WHERE verb = 'service-state' AND after = 'stopping'")
    ]
    assert causes == ["its watchdog is silent for 0.6 s", "it has triggered its watchdog"]


def test_reload_waits_for_its_word(served, tmp_path):
    go = tmp_path / "go"
    body = (
        "def hup(*_):\n"
        "    say('RELOADING=1\\nMONOTONIC_USEC=%d' % (time.monotonic_ns() // 1000))\n"
        f"    while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        "    say('READY=1')\n"
        "signal.signal(signal.SIGHUP, hup)\n"
        "say('READY=1')\n"
        "while True: time.sleep(1)\n"
    )
    python(served, "web", body, plan=Plan(ready=NOTIFY, reload="HUP"))
    served.until_state("web", "ready")
    served.ask("reload", "web")
    served.until_state("web", "reloading")
    go.touch()
    assert served.wait("web") == {"web": "ready"}


def test_stopping_and_its_errno_are_told(served):
    python(
        served,
        "web",
        "say('READY=1')\nsay('STOPPING=1\\nERRNO=2\\nSTATUS=no file')\ntime.sleep(0.2)",
        plan=Plan(ready=NOTIFY),
    )
    served.until_state("web", "backoff")
    assert "stopping" in served.states("web")
    assert served.rows("SELECT status FROM instances") == [("no file: No such file or directory",)]


@pytest.mark.parametrize("victims", [[], ["agent"]])
def test_a_daemon_that_forks_away_names_who_goes_on(served, home, victims):
    body = (
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        say('MAINPID=%d\\nREADY=1' % os.getpid())\n"
        "        time.sleep(1000)\n"
        "    os._exit(0)\n"
        "time.sleep(0.3)\n"
    )
    python(served, "web", body, plan=Plan(ready=NOTIFY, settled=0))
    served.until_state("web", "ready")
    first = served.lives("web")
    until(lambda: "-c" in " ".join(next(p.argv for p in home.processes() if p.pid == served.pid("web"))))
    pid = until(lambda: len(list(home.processes("other"))) == 1 and served.pid("web"))
    for kind in victims:
        _kill(home, kind)
        again = Served(home)
        again.wait("web")
        again.client.close()
    os.kill(pid, signal.SIGKILL)
    until(lambda: len(served.lives("web")) == len(first) + 1)
    assert served.rows("SELECT signal FROM jobs WHERE id = ?", first[0][0]) == [(9,)]


@pytest.mark.parametrize("with_file", [False, True])
def test_a_daemon_of_old_is_followed_by_its_file_or_by_being_alone(served, tmp_path, with_file):
    file = tmp_path / "pid"
    line = f"(sleep 1000 & echo $! > {file}.new; mv {file}.new {file}) & sleep 0.1"
    served.add("web", "sh", "-c", line, plan=Plan(forking=True, pid_file=str(file) if with_file else None, settled=0))
    until(file.exists)
    until(lambda: served.pid("web") == int(file.read_text()))
    served.until_state("web", "ready")
    os.kill(int(file.read_text()), signal.SIGKILL)
    until(lambda: len(served.lives("web")) == 2)


def test_descriptors_are_kept_over_lives_and_a_barrier_holds(served, tmp_path):
    said = tmp_path / "said"
    body = (
        "if os.environ.get('LISTEN_FDS'):\n"
        "    assert os.environ['LISTEN_PID'] == str(os.getpid())\n"
        f"    open({str(said)!r}, 'a').write(os.environ['LISTEN_FDNAMES'] + ' ' + os.read(3, 9).decode() + '\\n')\n"
        "read, write = os.pipe()\n"
        "os.write(write, b'kept')\n"
        "say('FDSTOREREMOVE=1\\nFDNAME=mine')\n"
        "say('FDSTORE=1\\nFDNAME=mine', read)\n"
        "barrier()\n"
        "say('READY=1')\n"
        "time.sleep(1000)\n"
    )
    python(served, "web", body, plan=Plan(ready=NOTIFY, fd_store=4, settled=0))
    served.until_state("web", "ready")
    first = served.kill("web")
    served.another("web", first)
    until(lambda: said.exists() and said.read_text() == "mine kept\n")


def test_a_message_of_a_stranger_is_named_and_changes_nothing(served, home):
    python(served, "web", "time.sleep(1000)", plan=Plan(ready=NOTIFY))
    pid = served.pid("web")
    environ = dict(
        item.split(b"=", 1) for item in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if b"=" in item
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(environ[b"NOTIFY_SOCKET"])
        sock.send(b"READY=1")
        until(lambda: served.rows("SELECT count(*) FROM events WHERE verb = 'service-stranger'") == [(1,)])
    assert served.state("web") == "starting"
    (detail,) = served.rows("SELECT detail FROM events WHERE verb = 'service-stranger'")[0]
    assert f"process {os.getpid()}" in detail


@pytest.mark.parametrize("victims", [["agent"], ["keeper"]])
def test_what_is_said_while_one_of_ours_is_gone_is_heard(served, home, tmp_path, victims):
    go, told = tmp_path / "go", tmp_path / "told"
    body = (
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        "while True:\n"
        "    try: say('READY=1\\nSTATUS=said in between')\n"
        "    except OSError: time.sleep(0.05)\n"
        "    else: break\n"
        f"open({str(told)!r}, 'w')\n"
        "time.sleep(1000)\n"
    )
    python(served, "web", body, plan=Plan(ready=NOTIFY))
    pid = served.pid("web")
    for kind in victims:
        _kill(home, kind)
    if victims == ["agent"]:
        go.touch()
        until(told.exists)
    again = Served(home)
    go.touch()
    assert again.wait("web") == {"web": "ready"}
    assert again.pid("web") == pid
    until(lambda: again.rows("SELECT status FROM instances") == [("said in between",)])
    again.client.close()


def test_an_upgrade_of_the_keeper_keeps_pids_sockets_and_what_was_stored(served, home, tmp_path):
    port = _port()
    body = (
        "read, write = os.pipe()\nos.write(write, b'x')\nsay('FDSTORE=1', read)\nsay('READY=1')\n"
        "sock = socket.socket(fileno=3)\n"
        "while True:\n    found, _ = sock.accept()\n"
        "    found.send(b'%s' % os.environ['LISTEN_FDNAMES'].encode())\n    found.close()\n"
    )
    plan = Plan(ready=NOTIFY, fd_store=2, listen=(Listen("tcp", ["127.0.0.1", port], "web"),), settled=0)
    python(served, "web", body, plan=plan)
    served.until_state("web", "ready")
    pid, (keeper,) = served.pid("web"), home.processes("keeper")
    with connect_unix(home.keeper_socket, 10) as sock:
        # As a new agent would; the one there is comes back when it has been replaced.
        sock.sendall(frames.encode({"vigie": frames.PROTOCOL, "role": "agent", "version": "0", "pid": os.getpid()}))
        sock.sendall(frames.encode({"op": "upgrade"}))
        while sock.recv(1 << 16):
            pass
    assert served.pid("web") == pid
    assert _ask(port) == b"web"
    served.kill("web")
    served.another("web", pid)
    until(lambda: _ask(port) == b"web:stored")
    assert [process.pid for process in home.processes("keeper")] == [keeper.pid]


# --- sockets ------------------------------------------------------------------------------


def _ask(port: int) -> bytes:
    with contextlib.suppress(ConnectionResetError), socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.settimeout(30)
        return sock.recv(100)
    return b""


SERVER = """
sock = socket.socket(fileno=3)
while True:
    found, _ = sock.accept()
    found.send(b'%d' % os.getpid())
    found.close()
"""


def test_no_connection_is_refused_through_restarts_and_the_death_of_the_keeper(served, home):
    port = _port()
    plan = Plan(listen=(Listen("tcp", ["127.0.0.1", port], "web"),), settled=0)
    python(served, "web", SERVER, plan=plan)
    served.wait("web")
    answers: list[bytes] = []
    refused: list[Exception] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                answers.append(_ask(port))
            except OSError as error:
                refused.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for turn in range(10):
            pid = served.pid("web")
            if turn == 5:
                _kill(home, "keeper")
                until(lambda: home.processes("keeper"))
            if turn % 2:
                os.kill(pid, signal.SIGKILL)
            else:
                served.ask("restart", "web")
            another = b"%d" % served.another("web", pid)
            until(lambda another=another: another in answers)
    finally:
        over.set()
        asking.join()
    assert refused == []
    assert len({answer for answer in answers if answer}) > 5


def test_a_port_in_use_is_named_with_who_has_it_and_the_others_go_on(served):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        plan = Plan(listen=(Listen("tcp", ["127.0.0.1", port], "web"),), backoff=50_000)
        python(served, "web", SERVER, plan=plan)
        served.add("fine", "sleep", "1000")
        assert served.wait("web", "fine") == {"web": "backoff", "fine": "ready"}
        assert f"tcp://127.0.0.1:{port}: address already in use (pid {os.getpid()}, " in served.cause("web")
    served.until_state("web", "ready")
    assert _ask(port)


def test_it_is_started_by_the_first_connection(served, tmp_path):
    path = str(Path(served.home.top, "web.sock"))
    plan = Plan(listen=(Listen("unix", path, "web"),), on_connection=True, restart="on-failure")
    body = "sock = socket.socket(fileno=3)\nfound, _ = sock.accept()\nfound.send(b'hello')\nfound.close()\n"
    python(served, "web", body, plan=plan)
    assert served.wait("web") == {"web": "inactive"}
    assert served.cause("web") == "waits for a connection"
    assert served.lives("web") == []
    assert os.path.exists(path)
    for turn in (1, 2):
        until(lambda: served.cause("web") == "waits for a connection")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            sock.settimeout(30)
            assert sock.recv(10) == b"hello"
        until(lambda turn=turn: len(served.lives("web")) == turn)
    assert os.stat(path).st_mode & 0o777 == 0o600
    until(lambda: served.cause("web") == "waits for a connection")
    served.ask("stop", "web")
    served.wait("web", how="down")
    until(lambda: not os.path.exists(path))


# --- limits ---------------------------------------------------------------------------------


def test_limits_niceness_processors_umask_and_surroundings_hold(served, tmp_path):
    said = tmp_path / "said"
    body = (
        "import resource\n"
        f"with open({str(said)!r}, 'w') as file:\n"
        "    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], resource.getrlimit(resource.RLIMIT_AS)[0],\n"
        "          resource.getrlimit(resource.RLIMIT_NPROC)[0], resource.getrlimit(resource.RLIMIT_CPU)[0],\n"
        "          os.nice(0), sorted(os.sched_getaffinity(0)), oct(os.umask(0)), os.getcwd(),\n"
        "          os.getsid(0) == os.getpid(),\n"
        "          os.environ['VIGIE_SERVICE'], os.environ['VIGIE_INSTANCE'], file=file)\n"
        "time.sleep(1000)\n"
    )
    limits = {"files": 77, "memory": 900 << 20, "processes": 55, "cpu_time": 30}
    python(served, "web", body, plan=Plan(limits=limits, nice=7, affinity=(0,), umask=0o27))
    text = until(lambda: said.exists() and said.read_text())
    assert text.split() == [
        "77", str(900 << 20), "55", "30", "7", "[0]", "0o27", served.home.top, "True", "web", "1",
    ]  # fmt: skip


def test_what_cannot_be_limited_here_is_said_and_the_rest_is_limited(served):
    served.add("web", "sleep", "1000", plan=Plan(limits={"cpu": 0.5, "files": 50}))
    served.wait("web")
    group = Path(f"/proc/{served.pid('web')}/cgroup").read_text()
    controlled = Path("/sys/fs/cgroup/cgroup.controllers")
    if not (controlled.exists() and "cpu" in controlled.read_text() and "/vigie/" in group):
        until(lambda: served.rows("SELECT count(*) FROM events WHERE verb = 'service-remark'") == [(1,)])
    if os.geteuid() == 0 and Path("/sys/fs/cgroup/unified").exists():
        # A hierarchy of version 2 is there, and root may use it, if without controllers.
        assert "/vigie/" in group


def test_one_that_takes_too_much_memory_fails_alone(served):
    python(served, "web", "x = bytearray(500 << 20)\ntime.sleep(1000)", plan=Plan(limits={"memory": 200 << 20}))
    served.until_state("web", "backoff")
    assert served.cause("web") == "exit 1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_fork_bomb_of_another_user_stays_under_its_limit(served, home):
    os.chmod(home.top, 0o755)
    bomb = (
        "count = 0\n"
        "while True:\n"
        "    try: pid = os.fork()\n"
        "    except OSError: break\n"
        "    if pid == 0: time.sleep(1000)\n"
        "    count += 1\n"
        "say('READY=1\\nSTATUS=%d children of %d' % (count, os.getuid()))\n"
        "time.sleep(1000)\n"
    )
    # One that everybody may run.
    served.add(
        "web", "/usr/bin/python3", "-c", SAY + bomb, plan=Plan(user="nobody", limits={"processes": 20}, ready=NOTIFY)
    )
    served.until_state("web", "ready")
    (status,) = until(lambda: served.rows("SELECT status FROM instances WHERE status IS NOT NULL"))[0]
    count, _, _, uid = status.split()
    assert (int(count) < 20, uid) == (True, "65534")
    served.ask("stop", "web", grace=0)
    served.wait("web", how="down")
    assert not [process for process in home.processes("other") if "fork" in " ".join(process.argv)]


def test_a_user_that_there_is_not_and_a_missing_program_are_named_by_the_fork_too(served):
    served.add("a", "true", plan=Plan(user="no-such-user", give_up=1))
    served.add("b", "no-such-program", plan=Plan(nice=5, give_up=1))
    served.wait("a", "b")
    assert "there is no user no-such-user" in served.cause("a")
    assert "command not found: no-such-program" in served.cause("b")


def test_two_instances_share_their_sockets(served):
    port = _port()
    plan = Plan(instances=2, listen=(Listen("tcp", ["127.0.0.1", port], "web"),))
    python(served, "web", SERVER, plan=plan)
    served.wait("web")
    pids = {b"%d" % served.pid("web@1"), b"%d" % served.pid("web@2")}
    assert _ask(port) in pids
