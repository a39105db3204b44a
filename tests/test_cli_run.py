"""``vigie run``: live output, exit codes, signals, a closed terminal, a killed agent."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

Program = Any

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--", "true"], 0, ""),
        (["--shell", "exit 3"], 3, ""),
        (["--shell", "exit 255"], 255, ""),
        (["--shell", "kill -KILL $$"], 137, "SIGKILL"),
        (["--shell", "kill -TERM $$"], 143, "SIGTERM"),
        (["--timeout", "50ms", "--grace", "0", "--", "sleep", "600"], 124, "timeout"),
        (["--", "no-such-program"], 127, "no-such-program"),
        (["--", "/no/such/program"], 127, "/no/such/program"),
        (["--", "/etc/passwd"], 126, "/etc/passwd"),
        (["--", "/"], 126, "/"),
        (["-f", "os:_exit", "--args", "[7]"], 7, ""),
        (["-f", "sys:exit", "--args", "[8]"], 8, ""),
        (["-f", "math:sqrt", "--args", '["x"]'], 1, "TypeError: must be real number"),
        (["-f", "no_such_module:f"], 1, "no_such_module"),
        (["-f", "math:no_such"], 1, "no_such"),
        (["--python", "/no/python", "-f", "math:sqrt"], 125, "no interpreter"),
    ],
)
def test_it_ends_as_the_work_ends(vigie: Program, words: list[str], code: int, said: str) -> None:
    done = vigie("run", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    if not said:
        assert done.stderr == ""


def test_streams_go_where_they_belong_byte_for_byte(vigie: Program, tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    (tmp_path / "data").write_bytes(data)
    done = vigie("run", "--shell", "cat data; printf 'e\\377' >&2", cwd=tmp_path, text=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"e\xff")


def test_output_comes_while_it_runs(vigie: Program, home: Any) -> None:
    fifo = os.path.join(home.user, "go")
    os.mkfifo(fifo)
    live = vigie.popen("run", "--shell", "echo first; cat go; echo last")
    assert live.stdout.readline() == b"first\n"
    with open(fifo, "w") as go:
        go.write("between\n")
    assert live.communicate(timeout=60) == (b"between\nlast\n", b"")
    assert live.returncode == 0


def test_a_function_shows_what_it_says_and_returns(vigie: Program, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import sys\n"
        "def work(n, *, more=0):\n"
        "    print('printed', n)\n"
        "    print('oops', file=sys.stderr)\n"
        "    yield {'n': n + more}\n"
        "def plain():\n"
        "    return [1, 'é']\n"
    )
    done = vigie("run", "-f", "mine:work", "--args", '{"n": 1, "more": 2}', cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, 'printed 1\n{"n": 3}\n', "oops\n")
    assert vigie("run", "-f", "mine:plain", cwd=tmp_path).stdout.strip() in ('[1, "é"]', '[1,"é"]')


def test_retries_are_shown_one_after_the_other(vigie: Program, home: Any) -> None:
    line = "echo try; test -e second && exit 0; touch second; exit 1"
    done = vigie("run", "--retries", "1", "--backoff", "1ms", "--shell", line)
    assert (done.returncode, done.stdout) == (0, "try\ntry\n")
    assert re.fullmatch(r"vigie: attempt 1 failed \(exit 1\); attempt 2 (in \S+|begins)\n", done.stderr)


@pytest.mark.slow
def test_a_retry_is_announced(vigie: Program, home: Any) -> None:
    done = vigie("run", "--retries", "1", "--", "sh", "-c", "exit 3")
    assert done.returncode == 3
    assert re.fullmatch(r"vigie: attempt 1 failed \(exit 3\); attempt 2 (in \S+|begins)\n", done.stderr)
    words = ["--retries", "2", "--backoff", "0", "--", "sh", "-c", "kill -9 $$"]
    done = vigie("run", *words)
    lines = done.stderr.splitlines()
    assert [line.partition(";")[0] for line in lines[:2]] == [f"vigie: attempt {n} failed (SIGKILL)" for n in (1, 2)]
    assert done.returncode == 137
    assert len(lines) == 3


def test_a_run_that_waits_for_a_slot_says_so_once(vigie: Program, home: Any, until: Any) -> None:
    vigie("queue", "set", "q", "--slots", "1", check=True)
    vigie("start", "--queue", "q", "--", "sleep", "600", check=True)
    live = vigie.popen("run", "--queue", "q", "--", "echo", "x", text=True)
    assert live.stderr.readline() == "vigie: 2 waits: q has 1 of 1 slots busy (1); --now starts it at once\n"
    vigie("stop", "1", "--grace", "0", check=True)
    assert live.communicate(timeout=60) == ("x\n", "")
    assert live.returncode == 0


# signals ---------------------------------------------------------------------------


def running(vigie: Program, line: str, **more: Any) -> subprocess.Popen[bytes]:
    """Run a line that says when it is under way."""
    live: subprocess.Popen[bytes] = vigie.popen("run", "--grace", "10m", "--shell", line, **more)
    assert live.stdout is not None
    assert live.stdout.readline() == b"ready\n"
    return live


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_work(vigie: Program, home: Any, number: signal.Signals, code: int) -> None:
    live = running(vigie, "trap 'echo ending; exit 0' TERM; echo ready; while :; do sleep 0.01; done")
    live.send_signal(number)
    assert live.communicate(timeout=60)[0] == b"ending\n"
    assert live.returncode == code
    assert home.processes("other") == []


def test_a_second_one_ends_the_grace(vigie: Program, home: Any, until: Any) -> None:
    live = running(vigie, "trap 'echo asked' TERM; echo ready; while :; do sleep 0.01; done")
    live.send_signal(signal.SIGINT)
    assert live.stdout is not None
    assert live.stdout.readline() == b"asked\n"
    live.send_signal(signal.SIGINT)
    live.communicate(timeout=60)
    assert live.returncode == 130
    assert home.processes("other") == []


def test_a_hangup_ends_the_watching_and_not_the_work(vigie: Program, home: Any) -> None:
    live = running(vigie, "echo ready; exec sleep 600")
    live.send_signal(signal.SIGHUP)
    assert live.communicate(timeout=60) == (b"", b"vigie: 1 goes on \xc2\xb7 vigie logs -f 1\n")
    assert live.returncode == 129
    assert [one.argv for one in home.processes("other")] == [("sleep", "600")]
    vigie("stop", "1", "--grace", "0", check=True)


def test_a_closed_terminal_does_not_stop_the_work(vigie: Program, home: Any) -> None:
    master, slave = pty.openpty()

    def own_terminal() -> None:
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    live = subprocess.Popen(
        [sys.executable, "-m", "vigie", "run", "--shell", "echo ready; exec sleep 600"],
        stdin=slave, stdout=slave, stderr=slave, cwd=home.user,
        preexec_fn=own_terminal,  # noqa: PLW1509 - no thread of the test holds a lock here
    )  # fmt: skip
    os.close(slave)
    seen = b""
    while b"ready" not in seen:
        seen += os.read(master, 4096)
    os.close(master)
    assert live.wait(timeout=60) == 129
    assert [one.argv for one in home.processes("other")] == [("sleep", "600")]
    vigie("stop", "1", "--grace", "0", check=True)


def test_nobody_reads_any_more(vigie: Program, home: Any) -> None:
    fifo = os.path.join(home.user, "go")
    os.mkfifo(fifo)
    live = running(vigie, "echo ready; cat go; exec sleep 600")
    assert live.stdout is not None
    live.stdout.close()
    with open(fifo, "w") as go:
        go.write("more\n")
    assert live.wait(timeout=60) == 141
    assert live.stderr is not None
    assert live.stderr.read() == b"vigie: 1 goes on \xc2\xb7 vigie logs -f 1\n"
    vigie("stop", "1", "--grace", "0", check=True)


def test_nohup_is_heeded(vigie: Program, home: Any) -> None:
    live = running(vigie, "echo ready; read line < go; echo got", preexec_fn=_ignore_hangup)
    live.send_signal(signal.SIGHUP)
    with open(os.path.join(home.user, "go"), "w") as go:
        go.write("x\n")
    assert live.communicate(timeout=60)[0] == b"got\n"
    assert live.returncode == 0


def _ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.mkfifo("go")


# the agent dies ----------------------------------------------------------------------


def test_it_goes_on_watching_when_the_agent_is_killed(vigie: Program, home: Any) -> None:
    fifo = os.path.join(home.user, "go")
    os.mkfifo(fifo)
    live = running(vigie, "echo ready; cat go; exit 5")
    (agent,) = home.processes("agent")
    os.kill(agent.pid, signal.SIGKILL)
    with open(fifo, "w") as go:
        go.write("later\n")
    assert live.communicate(timeout=60) == (b"later\n", b"")
    assert live.returncode == 5


# on a terminal -----------------------------------------------------------------------


def on_terminal(home: Any, *words: str) -> tuple[int, str, str]:
    """Run with stderr on a terminal; give exit code, stdout, and what the terminal showed."""
    master, slave = pty.openpty()
    live = subprocess.Popen(
        [sys.executable, "-m", "vigie", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        cwd=home.user,
    )
    os.close(slave)
    out, _ = live.communicate(timeout=60)
    shown = b""
    try:
        while data := os.read(master, 4096):
            shown += data
    except OSError:
        # The terminal's other side is closed: all was read.
        pass
    os.close(master)
    return live.returncode, out.decode(), shown.decode().replace("\r\n", "\n")


def test_a_person_is_told_what_to_type_next(vigie: Program, home: Any) -> None:
    assert on_terminal(home, "start", "--", "true") == (0, "1\n", "started 1 · vigie logs -f 1\n")
    vigie("wait", "1", check=True)
    vigie("queue", "set", "default", "--slots", "1", check=True)
    vigie("start", "--", "sleep", "600", check=True)
    code, out, shown = on_terminal(home, "start", "--", "true")
    assert (code, out) == (0, "3\n")
    assert shown == "3 waits: default has 1 of 1 slots busy (2); --now starts it at once\n"
    vigie("queue", "pause", "default", check=True)
    assert (
        on_terminal(home, "start", "--", "true")[2] == "4 waits: queue default is paused · vigie queue resume default\n"
    )
    assert on_terminal(home, "stop", "4")[2] == "stopped 4\n"
    assert on_terminal(home, "stop", "--all", "--grace", "0")[2] == "stopped 2\nstopped 3\n"
    assert on_terminal(home, "stop", "--all")[2] == "no job is queued, blocked, running or suspended\n"
    assert on_terminal(home, "remove", "--finished")[2] == "removed 4 jobs\n"


def test_a_key_that_is_held_is_named_and_one_that_is_free_is_not(vigie: Program, home: Any, until: Any) -> None:
    # The first job of a home is queued while the agent starts its keeper: nothing holds it.
    keyed = ["--now", "--concurrency", "db=1", "--"]
    assert on_terminal(home, "start", *keyed, "sleep", "600")[2] == "started 1 · vigie logs -f 1\n"
    until(lambda: '"running"' in vigie("jobs", "--json").stdout)
    said = on_terminal(home, "start", *keyed, "true")[2]
    assert said == "2 waits: concurrency key 'db' is held by 1 · vigie why 2\n"
    live = vigie.popen("run", *keyed, "true", text=True)
    assert live.stderr.readline() == "vigie: 3 waits: concurrency key 'db' is held by 1 · vigie why 3\n"
    vigie("stop", "1", "--grace", "0", check=True)
    assert live.wait(60) == 0


def test_a_terminal_is_not_steered_by_output_unless_asked(vigie: Program, home: Any) -> None:
    steering = ["--", "sh", "-c", "printf 'A\\033[2JB\\n' >&2"]
    assert on_terminal(home, "run", *steering)[2] == "A␛[2JB\n"
    assert on_terminal(home, "run", "--raw", *steering)[2] == "A\x1b[2JB\n"
    # Where no terminal reads, every byte stays.
    assert vigie("run", *steering, check=True).stderr == "A\x1b[2JB\n"


def test_a_failure_says_what_to_type_next(vigie: Program, home: Any) -> None:
    code, _, shown = on_terminal(home, "run", "--", "sh", "-c", "exit 3")
    assert (code, shown) == (3, "vigie: 1 failed: exit code 3 · vigie why 1\n")
    assert vigie("run", "--", "sh", "-c", "exit 3").stderr == ""
