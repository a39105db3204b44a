"""The real program against the real agent: submit, control, wait, queues."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

Program = Any

pytestmark = pytest.mark.slow


def start(vigie: Program, *words: str, **more: Any) -> int:
    """Submit and give the id, which stands alone on stdout."""
    done = vigie("start", *words, check=True, **more)
    assert done.stdout.strip().isdigit()
    return int(done.stdout)


def shown(vigie: Program, job: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(vigie("show", str(job), "--json", check=True).stdout)
    return found


def output(home: Any, job: int, stream: str = "out") -> bytes:
    return Path(home.job_file(job, stream)).read_bytes()


# start and wait -----------------------------------------------------------------


def test_start_prints_the_id_alone_and_wait_gives_the_verdict(vigie: Program, home: Any) -> None:
    good, bad = start(vigie, "--", "echo", "hi"), start(vigie, "--", "false")
    assert (good, bad) == (1, 2)
    assert vigie("wait", "1", check=True).stdout == ""
    done = vigie("wait", "1", "2")
    assert (done.returncode, done.stdout) == (1, "")
    assert "2 failed" in done.stderr
    assert output(home, good) == b"hi\n"


def test_start_and_wait_in_json(vigie: Program) -> None:
    made = json.loads(vigie("start", "--json", "-n", "a", "--", "true", check=True).stdout)
    assert (made["id"], made["name"], made["existing"], made["waits"]) == (1, "a", False, None)
    waited = json.loads(vigie("wait", "a", "--json", check=True).stdout)
    assert waited == {"done": True, "states": {"1": "completed"}, "pending": []}


def test_a_wait_that_takes_too_long(vigie: Program) -> None:
    start(vigie, "--", "sleep", "600")
    done = vigie("wait", "last", "--timeout", "10ms", "--json")
    assert done.returncode == 124
    assert json.loads(done.stdout)["pending"] == [1]
    assert "time is up; still open: 1" in done.stderr
    vigie("stop", "1", "--grace", "0", check=True)


def test_wait_for_any(vigie: Program) -> None:
    start(vigie, "--now", "--", "sleep", "600")
    start(vigie, "--now", "--", "true")
    assert vigie("wait", "--any", "1", "2").returncode == 0
    assert vigie("wait", "--all", "--any", "--timeout", "1ms").returncode == 124
    vigie("stop", "--all", "--grace", "0", check=True)
    assert vigie("wait", "--all").returncode == 0


def test_a_key_submits_once(vigie: Program) -> None:
    assert start(vigie, "--key", "k", "--", "true") == start(vigie, "--key", "k", "--", "true")
    assert json.loads(vigie("start", "--key", "k", "--json", "--", "true").stdout)["existing"] is True


def test_arguments_of_any_bytes_arrive_as_they_are(vigie: Program, home: Any) -> None:
    code = "import os, sys; os.write(1, b'|'.join(map(os.fsencode, sys.argv[1:])))"
    odd = [b"a b", b"", b"x\ny", b"'\"$HOME`", b"\xff\xfe", b"-n", b"--"]
    vigie("run", "--", sys.executable, "-c", code, *odd, check=True)
    assert output(home, 1) == b"|".join(odd)


def test_a_command_line_of_a_megabyte(vigie: Program, home: Any) -> None:
    words = ["x" * 100_000] * 10
    done = vigie("run", "--", sys.executable, "-c", "import sys; print(sum(map(len, sys.argv[1:])))", *words)
    assert (done.returncode, done.stdout) == (0, "1000000\n")


def test_environment_and_directory_of_the_caller(vigie: Program, home: Any, tmp_path: Path) -> None:
    done = vigie("run", "--shell", 'echo "$PWD $A ${B-none} $PYTHONUNBUFFERED"', env={"A": "é"}, cwd=tmp_path)
    assert done.stdout == f"{tmp_path} é none 1\n"
    bare = vigie("run", "--env-none", "--env", "B=1", "--", "/usr/bin/env").stdout.splitlines()
    assert [line for line in bare if not line.startswith("VIGIE_")] == ["B=1"]


def test_env_as_cron_has_it(vigie: Program, home: Any) -> None:
    import subprocess

    bare = {"HOME": home.user, "VIGIE_HOME": home.root}
    done = subprocess.run(
        [sys.executable, "-m", "vigie", "run", "--", "/bin/echo", "é"],
        env=bare, capture_output=True, timeout=60, check=False, cwd="/", stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "é\n".encode(), b"")


def test_scripts_run_on_the_nearest_environment(vigie: Program, home: Any, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import sys; print(sys.argv[1:])")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho nearest\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert vigie("run", "a.py", "1", cwd=tmp_path).stdout == "nearest\n['1']\n"
    (tmp_path / "a.sh").write_text("echo $0 $1")
    assert vigie("run", "a.sh", "2", cwd=tmp_path).stdout == "a.sh 2\n"


def test_standard_input_from_a_pipe_and_a_file(vigie: Program, home: Any, tmp_path: Path) -> None:
    data = os.urandom(2 << 20)
    assert vigie("run", "--stdin", "-", "--", "cat", input=data, text=False).stdout == data
    (tmp_path / "in").write_bytes(data)
    assert vigie("run", "--stdin", "in", "--", "cat", text=False, cwd=tmp_path).stdout == data
    assert vigie("run", "--", "cat", input=b"not for it", text=False).stdout == b""
    assert not list(Path(home.tmp).glob("*.in"))


def test_dependencies(vigie: Program) -> None:
    start(vigie, "-n", "first", "--", "false")
    start(vigie, "--after", "first", "--", "true")
    start(vigie, "--after-any", "1", "--", "true")
    assert vigie("wait", "1", "2", "3").returncode == 1
    assert shown(vigie, 2)["reason"] == "dependency"
    assert shown(vigie, 3)["state"] == "completed"


def test_a_delayed_start_waits_for_its_time(vigie: Program) -> None:
    start(vigie, "--in", "1h", "--", "true")
    job = shown(vigie, 1)
    assert (job["state"], job["blocked_by"]) == ("blocked", "time")
    vigie("stop", "1", check=True)
    assert vigie("run", "--in", "20ms", "--", "echo", "late").stdout == "late\n"


def test_an_unknown_queue_names_those_that_exist(vigie: Program, home: Any) -> None:
    done = vigie("start", "--queue", "nobody", "--stdin", "-", "--", "true", input="x")
    assert (done.returncode, done.stdout) == (3, "")
    assert "default" in done.stderr
    assert not list(Path(home.tmp).glob("*.in"))


# control ---------------------------------------------------------------------------


def test_stop_ends_the_tree_and_says_what_had_ended_before(vigie: Program, home: Any) -> None:
    start(vigie, "--shell", "sleep 600 & sleep 600 & wait")
    start(vigie, "--", "true")
    vigie("wait", "2", check=True)
    stopped = json.loads(vigie("stop", "1", "2", "--json", check=True).stdout)
    assert [(job["id"], job["state"], job["left"]) for job in stopped] == [(1, "stopped", []), (2, "completed", [])]
    assert home.processes("other") == []
    assert vigie("wait", "1").returncode == 1
    again = vigie("stop", "1", "2", check=True)
    assert (again.stdout, "job 1 was stopped already" in again.stderr) == ("", True)
    assert "job 2 had completed already" in again.stderr


def test_a_queued_job_that_is_stopped_never_starts(vigie: Program, home: Any) -> None:
    refused = vigie("queue", "set", "q", "--slots", "0")
    assert (refused.returncode, "vigie queue pause q" in refused.stderr) == (2, True)
    vigie("queue", "set", "q", "--slots", "1", check=True)
    vigie("queue", "pause", "q", check=True)
    start(vigie, "--queue", "q", "--", "touch", "never")
    vigie("stop", "1", check=True)
    vigie("queue", "resume", "q", check=True)
    vigie("run", "--queue", "q", "--", "true", check=True)
    assert not os.path.exists(os.path.join(home.user, "never"))


def test_suspend_and_resume(vigie: Program, home: Any, until: Any) -> None:
    start(vigie, "--", "sleep", "600")
    until(lambda: shown(vigie, 1)["state"] == "running")
    changed = json.loads(vigie("suspend", "1", "--json", check=True).stdout)
    assert (changed[0]["state"], changed[0]["changed"]) == ("suspended", True)
    assert json.loads(vigie("resume", "--all", "--json", check=True).stdout)[0]["state"] == "running"
    done = vigie("resume", "1")
    assert (done.returncode, done.stdout) in ((0, ""), (1, ""))
    vigie("stop", "1", "--grace", "0", check=True)


def test_retry_runs_it_again_under_the_same_id(vigie: Program, home: Any) -> None:
    assert vigie("run", "--shell", "test -e again || { touch again; exit 1; }").returncode == 1
    vigie("retry", "--state", "failed", check=True)
    vigie("wait", "1", check=True)
    assert shown(vigie, 1)["attempt"] == 2
    refused = vigie("retry", "1")
    assert refused.returncode == 1
    assert refused.stderr.startswith("vigie: job 1 completed")


def test_remove(vigie: Program, home: Any) -> None:
    for _ in range(3):
        vigie("run", "--", "echo", "x", check=True)
    start(vigie, "--in", "1h", "--", "true")
    refused = vigie("remove", "1", "4")
    assert refused.returncode == 1
    assert "stop it first" in refused.stderr
    assert vigie("show", "1").returncode == 3
    assert json.loads(vigie("remove", "4", "--force", "--json", check=True).stdout)["removed"] == [4]
    assert vigie("remove", "--finished", "--older-than", "1d", "--json", check=True).stdout == '{"removed": 0}\n'
    assert json.loads(vigie("remove", "--finished", "--json", check=True).stdout)["removed"] == 2
    assert vigie("run", "--", "true").returncode == 0
    assert shown(vigie, 5)["state"] == "completed"


def test_ids_from_standard_input(vigie: Program) -> None:
    for _ in range(3):
        start(vigie, "--tag", "t", "--now", "--", "sleep", "600")
    done = vigie("stop", "-", "--grace", "0", "--json", input="1\n2\n")
    assert [job["id"] for job in json.loads(done.stdout)] == [1, 2]
    done = vigie("stop", "--tag", "t", "--grace", "0", "--json")
    assert [job["id"] for job in json.loads(done.stdout)] == [3]
    assert vigie("stop", "--tag", "none", check=True).stdout == ""


# queues ----------------------------------------------------------------------------


def test_queues(vigie: Program) -> None:
    made = json.loads(vigie("queue", "set", "q", "--slots", "1", "--rate", "600/m", "--json", check=True).stdout)
    assert (made["name"], made["slots"], made["rate"], made["paused"]) == ("q", 1, 10.0, False)
    vigie("queue", "pause", "q", check=True)
    waits = json.loads(vigie("start", "--queue", "q", "--json", "--", "true", check=True).stdout)
    assert (waits["state"], waits["waits"]["paused"]) == ("queued", True)
    listed = {queue["name"]: queue for queue in json.loads(vigie("queue", "list", "--json", check=True).stdout)}
    assert (listed["q"]["paused"], listed["q"]["queued"]) == (True, 1)
    assert "q " in vigie("queue", "list", check=True).stdout
    vigie("queue", "resume", "q", check=True)
    assert vigie("wait", "1").returncode == 0
    changed = json.loads(vigie("queue", "set", "q", "--rate", "none", "--json", check=True).stdout)
    assert (changed["slots"], changed["rate"]) == (1, None)


# the agent ---------------------------------------------------------------------------


def test_stop_start_restart_and_status(vigie: Program, home: Any, until: Any) -> None:
    job = start(vigie, "--", "sleep", "600")
    # The first agent hands out when its keeper is there, a moment after the acknowledgement.
    until(lambda: shown(vigie, job)["state"] == "running")
    first = json.loads(vigie("agent", "status", "--json", check=True).stdout)
    assert (first["running"], first["home"], first["jobs"]["running"]) == (True, home.root, 1)
    second = json.loads(vigie("agent", "restart", "--json", check=True).stdout)
    assert second["pid"] != first["pid"]
    assert json.loads(vigie("agent", "stop", "--json", check=True).stdout) == {"stopped": second["pid"]}
    assert home.processes("agent") == []
    assert json.loads(vigie("agent", "status", "--json").stdout)["running"] is False
    assert vigie("agent", "stop", check=True).stdout == ""
    third = json.loads(vigie("agent", "start", "--json", check=True).stdout)
    assert third["pid"] == json.loads(vigie("agent", "start", "--json", check=True).stdout)["pid"]
    assert "running" in vigie("agent", "status", check=True).stdout
    # What is meant when nothing is said.
    assert json.loads(vigie("agent", "--json", check=True).stdout)["pid"] == third["pid"]
    assert vigie("queue", check=True).stdout == vigie("queue", "list", check=True).stdout
    assert shown(vigie, job)["state"] == "running"
    vigie("stop", str(job), "--grace", "0", check=True)


def test_the_agent_owes_its_starter_nothing(vigie: Program, home: Any) -> None:
    import subprocess

    lock = os.open(os.path.join(home.user, "lock"), os.O_CREAT | os.O_RDWR)
    os.set_inheritable(lock, True)
    done = subprocess.run(
        [sys.executable, "-m", "vigie", "start", "--env", "A=1", "--", "true"],
        env={**os.environ, "MY_SECRET": "x"}, pass_fds=(lock,), timeout=60, check=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=home.user,
    )  # fmt: skip
    assert done.stdout == b"1\n"
    (agent,) = home.processes("agent")
    root = Path("/proc", str(agent.pid))
    assert os.readlink(root / "cwd") == "/"
    assert os.getsid(agent.pid) != os.getsid(0)
    assert agent.ppid != os.getpid()
    open_files = [os.readlink(entry) for entry in (root / "fd").iterdir()]
    assert os.path.join(home.user, "lock") not in open_files
    names = {item.partition(b"=")[0] for item in (root / "environ").read_bytes().split(b"\0")}
    assert b"MY_SECRET" not in names
    assert b"VIGIE_HOME" in names
    os.close(lock)


def test_many_first_starts_at_once_make_one_agent(vigie: Program, home: Any, until: Any) -> None:
    live = [vigie.popen("start", "--", "true") for _ in range(8)]
    ids = sorted(int(one.communicate(timeout=60)[0]) for one in live)
    assert ids == list(range(1, 9))
    # Those that lost the race for the lock are about to end.
    until(lambda: len(home.processes("agent")) == 1)


def test_an_agent_that_cannot_start_says_why(vigie: Program, home: Any) -> None:
    home.create()
    Path(home.db).write_bytes(b"this is no database" * 1000)
    done = vigie("start", "--", "true")
    assert (done.returncode, done.stdout) == (4, "")
    assert "the agent ended at once: " in done.stderr
    assert home.agent_log in done.stderr


def test_backup_and_restore(vigie: Program, home: Any, tmp_path: Path) -> None:
    vigie("run", "--", "echo", "1", check=True)
    backup = tmp_path / "b.db"
    assert vigie("agent", "backup", str(backup), check=True).stdout == f"{backup}\n"
    vigie("run", "--", "echo", "2", check=True)
    start(vigie, "--", "sleep", "600")
    refused = vigie("agent", "restore", str(backup))
    assert refused.returncode == 1
    assert "1 job runs (3)" in refused.stderr
    said = json.loads(vigie("agent", "restore", str(backup), "--force", "--json", check=True).stdout)
    assert (said["restored"], said["jobs"]) == (str(backup), 1)
    assert vigie("show", "2").returncode == 3
    assert shown(vigie, 1)["state"] == "completed"
    # What the backup does not know keeps its number and its output.
    assert start(vigie, "--", "true") == 4
    assert output(home, 2) == b"2\n"
    vigie("wait", "4", check=True)
    assert home.processes("other") == []
    again = json.loads(vigie("agent", "restore", said["replaced"], "--json", check=True).stdout)
    assert again["jobs"] == 3
    assert shown(vigie, 2)["state"] == "completed"
    assert start(vigie, "--", "true") == 5


def test_restore_over_a_damaged_store(vigie: Program, home: Any, tmp_path: Path) -> None:
    vigie("run", "--", "echo", "1", check=True)
    backup = tmp_path / "b.db"
    vigie("agent", "backup", str(backup), check=True)
    vigie("run", "--", "echo", "2", check=True)
    vigie("agent", "stop", check=True)
    Path(home.db).write_bytes(b"damage" * 10_000)
    assert vigie("show", "1").returncode == 4
    vigie("agent", "restore", str(backup), check=True)
    assert start(vigie, "--", "true") == 3


@pytest.mark.parametrize("damage", [b"", b"x" * 5000, None])
def test_a_backup_that_is_none_is_refused(vigie: Program, home: Any, tmp_path: Path, damage: bytes | None) -> None:
    vigie("run", "--", "true", check=True)
    backup = tmp_path / "b.db"
    if damage is None:
        vigie("agent", "backup", str(backup), check=True)
        data = bytearray(backup.read_bytes())
        data[8192:16384] = os.urandom(8192)
        backup.write_bytes(data)
    else:
        backup.write_bytes(damage)
    done = vigie("agent", "restore", str(backup))
    assert done.returncode in (2, 4)
    assert done.stderr.startswith("vigie: ")
    assert vigie("show", "1").returncode == 0
    assert not [name for name in os.listdir(os.path.dirname(home.db)) if "replaced" in name or "restoring" in name]


# the agent dies meanwhile -----------------------------------------------------------


def kill(pid: int) -> None:
    import signal

    os.kill(pid, signal.SIGKILL)


def test_a_wait_outlives_the_agent(vigie: Program, home: Any, until: Any) -> None:
    fifo = os.path.join(home.user, "go")
    os.mkfifo(fifo)
    start(vigie, "--", "cat", fifo)
    live = vigie.popen("wait", "1")
    (agent,) = home.processes("agent")
    until(lambda: _connections(home) >= 1)
    kill(agent.pid)
    until(lambda: [one.pid for one in home.processes("agent")] not in ([], [agent.pid]))
    with open(fifo, "w"):
        pass
    assert live.wait(timeout=60) == 0


def _connections(home: Any) -> int:
    """Count what is connected to the agent's socket."""
    table = Path("/proc/net/unix").read_text()
    return sum(line.endswith(home.socket) and line.split()[5] == "03" for line in table.splitlines())
