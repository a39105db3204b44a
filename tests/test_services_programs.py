"""Services that somebody else wrote: each is kept up by the protocol that it speaks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import until
from served import Served
from test_services import _alive, _port, served  # noqa: F401 - the fixture
from vigie.supervision.plan import Listen, Plan, Probe

pytestmark = pytest.mark.slow


def _get(port: int, path: str = "/") -> tuple[int, str]:
    """Ask a web server by hand: any error of the connection is an error of the test."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.settimeout(30)
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        data = b""
        while more := sock.recv(1 << 16):
            data += more
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body.decode()


def test_redis_says_when_it_is_ready_and_saves_what_it_has_at_its_end(served: Served, need, tmp_path: Path) -> None:
    port = _port()
    argv = [
        need("redis-server"),
        "--supervised",
        "systemd",
        "--daemonize",
        "no",
        "--port",
        str(port),
        "--dir",
        str(tmp_path),
    ]
    ask = [need("redis-cli", "apt-get install redis-tools"), "-p", str(port)]
    served.add("cache", *argv, plan=Plan(ready=Probe("notify"), stop=(("TERM", 30_000_000), ("KILL", 0))))
    assert served.wait("cache") == {"cache": "ready"}
    until(lambda: "Ready to accept connections" in str(served.rows("SELECT status FROM instances")))
    subprocess.run([*ask, "set", "word", "kept"], check=True, capture_output=True)
    served.ask("restart", "cache")
    served.wait("cache")
    assert subprocess.run([*ask, "get", "word"], check=True, capture_output=True, text=True).stdout == "kept\n"


def test_nginx_forks_away_is_followed_reloads_and_quits(served: Served, need, tmp_path: Path) -> None:
    port = _port()
    config = tmp_path / "nginx.conf"
    text = (
        "worker_processes 1; pid {place}/pid; error_log {place}/error.log;\n"
        "events {{}}\n"
        "http {{ access_log off; client_body_temp_path {place}/b; proxy_temp_path {place}/p;\n"
        "fastcgi_temp_path {place}/f;\n"
        "uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n"
        "server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{word}'; }} }} }}\n"
    )
    if os.geteuid() == 0:
        text = "user root;\n" + text
    config.write_text(text.format(place=tmp_path, port=port, word="one"))
    ready = Probe("http", f"http://127.0.0.1:{port}/")
    plan = Plan(
        forking=True, pid_file=str(tmp_path / "pid"), reload="HUP", ready=ready,
        stop=(("QUIT", 10_000_000), ("KILL", 0)),
    )  # fmt: skip
    served.add("nginx", need("nginx", "apt-get install nginx-light"), "-c", str(config), plan=plan)
    assert served.wait("nginx") == {"nginx": "ready"}
    master = served.pid("nginx")
    assert int((tmp_path / "pid").read_text()) == master
    assert _get(port) == (200, "one")
    config.write_text(text.format(place=tmp_path, port=port, word="two"))
    served.ask("reload", "nginx")
    until(lambda: _get(port) == (200, "two"))
    assert served.pid("nginx") == master
    os.kill(master, signal.SIGKILL)
    served.another("nginx", master)
    until(lambda: served.state("nginx") == "ready")
    served.ask("stop", "nginx")
    served.wait("nginx", how="down")
    assert not [process for process in served.home.processes() if "nginx" in " ".join(process.argv)]


def test_gunicorn_on_a_passed_socket_refuses_nobody_through_ten_restarts(served: Served, need, tmp_path: Path) -> None:
    port = _port()
    (tmp_path / "shop.py").write_text(
        "import os\n"
        "def app(environ, start):\n"
        "    start('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [str(os.getppid()).encode()]\n"
    )
    plan = Plan(
        listen=(Listen("tcp", ["127.0.0.1", port], "web"),), ready=Probe("notify"),
        stop=(("TERM", 20_000_000), ("KILL", 0)),
    )  # fmt: skip
    argv = [need("gunicorn"), "--chdir", str(tmp_path), "--workers", "1", "--graceful-timeout", "15", "shop:app"]
    served.add("web", *argv, plan=plan)
    assert served.wait("web", seconds=60) == {"web": "ready"}
    answers: set[str] = set()
    errors: list[BaseException] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                answers.add(_get(port)[1])
            except OSError as error:
                errors.append(error)
                return

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(10):
            before = served.pid("web")
            served.ask("restart", "web")
            after = served.another("web", before)
            until(lambda after=after: str(after) in answers or errors, what="an answer of the new one")
            assert not errors, errors
            assert not _alive(before)
    finally:
        over.set()
        asking.join()
    assert errors == []
    assert len(answers) >= 10
