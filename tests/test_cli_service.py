"""``vigie service`` as its user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import HomeUnderTest, Program, until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _leave(home: HomeUnderTest) -> None:
    home.leftovers_expected = True


def _state(vigie: Program, name: str) -> str:
    return str(json.loads(vigie("service", "status", name, "--json").stdout)["state"])


def test_one_is_added_seen_stopped_and_removed(vigie: Program, home: HomeUnderTest) -> None:
    said = vigie("service", "add", "web", "--", "sh", "-c", "echo hello; sleep 1000")
    assert "runs until this machine restarts; `vigie agent install` makes it last" in said.stderr
    (row,) = json.loads(vigie("service", "list", "--json").stdout)
    assert (row["name"], row["state"], row["desired"], row["start"]) == ("web", "ready", "up", "automatic")
    assert Path(f"/proc/{row['pid']}").exists()
    shown = vigie("service", "status", "web").stdout
    for text in ("web", "ready", "sleep 1000", "inactive → starting", "starting → ready"):
        assert text in shown
    until(lambda: "hello" in vigie("service", "status", "web").stdout)
    assert vigie("logs", "web").stdout == "hello\n"
    vigie("service", "stop", "web")
    assert _state(vigie, "web") == "inactive"
    vigie("service", "start", "web")
    vigie("service", "start", "web")
    assert vigie("logs", "web").stdout.startswith("hello\n")
    assert vigie("logs", "-n", "1", "web").stdout == "hello\n"
    vigie("service", "remove", "web")
    assert json.loads(vigie("service", "list", "--json").stdout) == []
    assert not [process for process in home.processes() if "sleep" in process.argv]


def test_what_fails_is_said_and_is_the_exit_code(vigie: Program) -> None:
    done = vigie("service", "add", "bad", "--backoff", "20s", "--", "no-such-program")
    assert done.returncode == 1
    assert vigie("service", "status", "bad").returncode == 1
    done = vigie("service", "stop", "web")
    assert done.returncode == 3
    assert "there is no service web" in done.stderr
    done = vigie("service", "add", "bad", "--", "true")
    assert "there is a service bad already" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--instances", "0", "--", "true"], "instances: 0 is not between 1 and"),
        (["--stop", "WINCHY 5s", "--", "true"], "there is no signal 'WINCHY'"),
        (["--listen", "tcp://x:99999", "--", "true"], "'99999' is no port"),
        (["--ready", "soon", "--", "true"], "ready: 'soon' is nothing that can be looked at"),
        (["--user", "nobody-of-that-name", "--", "true"], "there is no user 'nobody-of-that-name'"),
        (["--restart", "sometimes", "--", "true"], "restart: 'sometimes' is none of"),
        ([], "there is nothing to run"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_key(vigie: Program, words: list[str], said: str) -> None:
    done = vigie("service", "add", "web", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_an_edit_changes_one_thing_and_keeps_the_rest(vigie: Program) -> None:
    vigie("service", "add", "web", "--restart", "on-failure", "--", "sleep", "1000")
    vigie("service", "edit", "web", "--instances", "2")
    row = json.loads(vigie("service", "status", "web", "--json").stdout)
    assert row["restart"] == "on-failure"
    assert [each["name"] for each in row["instances"]] == ["web@1", "web@2"]
    vigie("service", "edit", "web", "--", "sleep", "2000")
    assert "sleep 2000" in vigie("service", "status", "web@2").stdout


def test_a_python_function_is_kept_up_in_a_process_of_its_own(vigie: Program, tmp_path: Path) -> None:
    (tmp_path / "watcher.py").write_text(
        "import time\n"
        "def watch(name, *, pause):\n"
        "    print('watching', name, flush=True)\n"
        "    try:\n"
        "        while True: time.sleep(pause)\n"
        "    finally:\n"
        "        print('done', flush=True)\n"
    )
    vigie(
        "service", "add", "w", "--cwd", str(tmp_path), "-f", "watcher:watch", "--args", '{"name": "x", "pause": 0.05}'
    )
    until(lambda: vigie("logs", "w").stdout == "watching x\n")
    vigie("service", "stop", "w")
    assert vigie("logs", "w").stdout == "watching x\ndone\n"


def test_logs_follow_from_life_to_life(vigie: Program, home: HomeUnderTest, tmp_path: Path) -> None:
    count = tmp_path / "count"
    line = f"echo x >> {count}; echo life $(wc -l < {count}); sleep 0.1; exit 1"
    vigie("service", "add", "web", "--backoff", "10ms", "--no-wait", "--", "sh", "-c", line)
    follow = subprocess.Popen(
        [sys.executable, "-m", "vigie", "logs", "-f", "web"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "VIGIE_HOME": str(home)},
    )
    home.started.append(follow)
    assert follow.stdout is not None
    seen = [follow.stdout.readline().strip() for _ in range(3)]
    assert seen == ["life 1", "life 2", "life 3"]


# --- always on -------------------------------------------------------------------------


def test_where_nothing_starts_programs_it_says_exactly_what_to_do(vigie: Program, home: HomeUnderTest) -> None:
    done = vigie("agent", "install")
    assert done.returncode == 1
    assert f"@reboot VIGIE_HOME={home}" in done.stderr
    assert "agent start" in done.stderr


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a systemctl and a loginctl on PATH that write down how they were called, and say that systemd runs."""
    calls = tmp_path / "calls"
    for name in ("systemctl", "loginctl"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {calls}\ncase "$*" in *is-system-running*) echo running;; esac\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return calls


def test_install_writes_a_unit_that_systemd_accepts_and_uninstall_undoes_it(
    vigie: Program, home: HomeUnderTest, systemd: Path, need
) -> None:
    unit = Path(home.user, ".config/systemd/user/vigie.service")
    vigie("agent", "start")
    vigie("agent", "install")
    text = unit.read_text()
    for line in ("Type=notify", "Restart=always", "KillMode=process", f"Environment=VIGIE_HOME={home}"):
        assert line in text.splitlines()
    checked = subprocess.run(
        [need("systemd-analyze"), "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "systemctl --user enable --now vigie.service" in systemd.read_text()
    # The one that ran by hand has made room.
    until(lambda: not home.processes("agent"))
    said = vigie("service", "add", "web", "--", "sleep", "1000")
    assert "until this machine restarts" not in said.stderr
    vigie("agent", "uninstall")
    assert not unit.exists()
    assert "systemctl --user disable --now vigie.service" in systemd.read_text()


def test_the_agent_tells_the_manager_that_started_it_when_it_serves(home: HomeUnderTest, tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "n"))
        sock.settimeout(30)
        env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "200000"}
        agent = subprocess.Popen([sys.executable, "-P", "-m", "vigie.agent", str(home)], env=env)
        home.started.append(agent)
        assert sock.recv(1_000).startswith(b"READY=1")
        assert sock.recv(1_000) == b"WATCHDOG=1"
        for process in home.processes("agent"):
            environ = Path(f"/proc/{process.pid}/environ")
            assert environ.exists()
        agent.terminate()
        until(lambda: b"STOPPING=1" in sock.recv(1_000))


def test_the_systems_own_agent_is_root_s(vigie: Program) -> None:
    done = vigie("--system", "agent", "status")
    assert "--system means /var/lib/vigie, and VIGIE_HOME is" in done.stderr
