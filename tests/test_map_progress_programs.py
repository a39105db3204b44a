"""How far a run is, as programs show it: in a pipe, on a terminal of their own, in a notebook."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from progress_program import PRELUDE, environment
from vigie.parallel.progress import WORKER

# A pipe -----------------------------------------------------------------------------


def piped(code: str, **how) -> subprocess.CompletedProcess[str]:
    env = environment(**how.pop("env", {}))
    command = [sys.executable, "-c", PRELUDE + code]
    return subprocess.run(command, env=env, text=True, timeout=60, **({"capture_output": True} | how))


RUN = """
p = Progress("job", 4, clock=clock)
for done in range(5): step(p, done=done)
p.close()
"""


@pytest.mark.slow
def test_a_pipe_gets_lines_that_any_encoding_can_show() -> None:
    done = piped(RUN, env={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"})
    assert done.stderr.splitlines() == [
        "job: 0 of 4 - 2 running - 0:00:01 so far",
        "job: 4 of 4 - 2 running - 48/min - 0:00:00 left",
        "job: 4 of 4 - 48/min - in 5.0 s",
    ]
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.slow
def test_a_reader_that_has_gone_costs_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = piped(RUN + "print(p.due())", stderr=writer, stdout=subprocess.PIPE, capture_output=False)
    finally:
        os.close(writer)
    assert (done.stdout, done.returncode) == ("inf\n", 0)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["os.close(2)", "sys.stderr.close()", "sys.stderr = None"])
def test_neither_does_a_closed_stderr(how: str) -> None:
    done = piped(f"{how}\nprint(display(None, 'f', 1))\np = display(True, 'f', 4)" + RUN[RUN.index("\nfor") :])
    assert (done.stdout, done.returncode) == ("None\n", 0)


# A terminal -------------------------------------------------------------------------


def drained(terminal: int) -> bytes:
    """Read all that is written to a terminal, until nobody has it open any more."""
    found = b""
    # Reading fails then.
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 65536):
            found += piece
    os.close(terminal)
    return found


def in_terminal(code: str, **env: str | None) -> str:
    """Run a program that has a terminal of its own; give all that it wrote there."""
    pid, terminal = pty.fork()
    if pid == 0:
        with contextlib.suppress(OSError):
            os.execve(sys.executable, [sys.executable, "-c", PRELUDE + code], environment(**env))
        os._exit(127)
    found = drained(terminal)
    _, status = os.waitpid(pid, 0)
    assert status == 0, found.decode()
    return found.decode()


LOADED = "print('LOADED', sorted({name.partition('.')[0] for name in sys.modules} & {'rich', 'IPython'}))\n"
#: As by default.
UNASKED = "p = Progress('f', 10, clock=clock, quiet=SHORT, lasting=False)\n"


@pytest.mark.slow
def test_a_short_run_loads_nothing_and_shows_nothing_on_a_terminal() -> None:
    assert in_terminal("print(display(None, 'f', 1)._quiet == SHORT)") == "True\r\n"
    told = in_terminal(UNASKED + "step(p, 0.4, done=10)\np.close()\n" + LOADED)
    assert told == "LOADED []\r\n"


@pytest.mark.slow
def test_a_longer_one_has_a_bar_with_colours() -> None:
    told = in_terminal(UNASKED + "step(p, 0.6, done=5, failed=1)\np.close()\n" + LOADED)
    assert "LOADED ['rich']" in told
    assert "\x1b[38;5;" in told
    assert "━━━━" in told
    assert "1 failed" in told


@pytest.mark.slow
def test_colours_may_be_declined() -> None:
    told = in_terminal(UNASKED + "step(p, 0.6, done=5, failed=1)\np.close()\n", NO_COLOR="1")
    assert "━━━━" in told
    assert "\x1b[3" not in told


@pytest.mark.slow
@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"TERM": None}, {WORKER: "1"}])
def test_where_nothing_can_move_there_are_lines(env: dict[str, str]) -> None:
    told = in_terminal(RUN + LOADED, **env)
    assert told.splitlines()[-2:] == ["job: 4 of 4 · 48/min · in 5.0 s", "LOADED []"]
    assert "\x1b" not in told


@pytest.mark.slow
def test_a_worker_process_shows_nothing_by_itself() -> None:
    assert in_terminal("print(display(None, 'f', 1))", **{WORKER: "1"}) == "None\r\n"


@pytest.mark.slow
def test_the_streams_are_afterwards_what_they_were() -> None:
    code = """
p = Progress("job", 4, clock=clock)
step(p, done=1)
print("write" in vars(sys.stdout), "write" in vars(sys.stderr))
p.close()
print("write" in vars(sys.stdout), "write" in vars(sys.stderr), sys.stdout.write("") == 0)
"""
    told = in_terminal(code)
    assert re.search("True(\x1b[^T]*)? (\x1b[^T]*)?True", told)
    assert told.endswith("False False True\r\n")


@pytest.mark.slow
def test_a_forked_child_leaves_the_bars_to_its_parent() -> None:
    code = """
p = Progress("job", 4, clock=clock)
step(p, done=1)
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    read = os.dup(1)
    os.write(1, b"<")
    print("child", end="")
    step(p, done=2)
    p.close()
    sys.stdout.flush()
    os.write(1, b">")
    os._exit(0)
os.waitpid(pid, 0)
p.close()
"""
    assert "<child>" in in_terminal(code)


@pytest.mark.slow
def test_in_the_background_the_terminal_is_left_alone() -> None:
    code = """
import signal
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
p = Progress("job", 9, clock=clock)
step(p, done=1)
other = subprocess.Popen(["cat"], stdin=subprocess.PIPE, process_group=0)
os.tcsetpgrp(2, other.pid)
os.write(2, b"<")
step(p, done=2)
print("plain", flush=True)
os.write(2, b">")
os.tcsetpgrp(2, os.getpgrp())
other.stdin.close()
other.wait()
step(p, done=3)
p.close()
"""
    told = in_terminal(code)
    assert "<plain\r\n>" in told
    assert "3 of 9" in told


@pytest.mark.slow
def test_a_terminal_that_goes_away_costs_nothing(tmp_path: Path) -> None:
    """As when its window is closed and the program ignores the signal."""
    code = f"""
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
p = Progress("job", 4, clock=clock)
step(p, done=1)
sys.stdin.readline()
step(p, done=2)
p.close()
open({str(tmp_path / "out")!r}, "w").write(repr((p.due(), "write" in vars(sys.stderr))))
"""
    ours, theirs = pty.openpty()
    made = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code], stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, env=environment()
    )
    os.close(theirs)
    seen = b""
    while b"1 of 4" not in seen:
        seen += os.read(ours, 65536)
    os.close(ours)
    made.communicate(b"\n", timeout=30)
    assert (tmp_path / "out").read_text() == "(inf, False)"
    assert made.returncode == 0


@pytest.mark.slow
def test_a_terminal_that_does_not_keep_up_is_tried_again() -> None:
    code = """
import select, signal
os.set_blocking(2, False)
p = Progress("job", 9000, clock=clock)
for done in range(3000): step(p, done=done)
os.write(1, b"X")
sys.stdin.readline()
select.select([], [2], [])
step(p, done=8765)
p.close()
"""
    ours, theirs = pty.openpty()
    made = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs, env=environment(),
    )  # fmt: skip
    os.close(theirs)
    assert made.stdout.read(1) == b"X"
    made.stdin.write(b"\n")
    made.stdin.close()
    found = drained(ours)
    assert made.wait(30) == 0
    made.stdout.close()
    assert b"2,999 of 9,000" not in found
    assert b"8,765 of 9,000" in found


# A notebook -------------------------------------------------------------------------


NOTEBOOK = """
import json, sys
import nbformat
from nbclient import NotebookClient
cells = [nbformat.v4.new_code_cell(text) for text in json.load(sys.stdin)]
made = NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=60, kernel_name="python3").execute()
json.dump([cell["outputs"] for cell in made.cells], sys.stdout)
"""


@pytest.mark.slow
def test_a_notebook_keeps_one_output_with_the_last_state(tmp_path: Path) -> None:
    finished = """
p = Progress("a < b", 4, clock=clock)
for done in range(5):
    step(p, done=done, failed=done // 2)
    print(done)
p.close()
"""
    brief = UNASKED + "step(p, 0.4, done=10)\np.close()"
    endless = UNASKED + "p.total = None\nstep(p, done=7)\nprint(p._face.__class__.__name__)\np.close('interrupted')"
    cells_ = [PRELUDE, finished, brief, endless, "print('rich' in sys.modules)"]
    env = environment(HOME=str(tmp_path), IPYTHONDIR=str(tmp_path / "i"), JUPYTER_RUNTIME_DIR=str(tmp_path))
    command = [sys.executable, "-W", "ignore", "-c", NOTEBOOK]
    done = subprocess.run(command, input=json.dumps(cells_), text=True, capture_output=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    _, first, second, third, last = json.loads(done.stdout)
    shown = [output for output in first if output["output_type"] == "display_data"]
    assert len(shown) == 1
    assert shown[0]["data"]["text/plain"] == "a < b: 4 of 4 · 2 failed · 48/min · in 5.0 s"
    assert '<progress value="4" max="4"></progress>' in shown[0]["data"]["text/html"]
    assert "a &lt; b" in shown[0]["data"]["text/html"]
    assert "".join(output.get("text", "") for output in first) == "0\n1\n2\n3\n4\n"
    assert {output.get("name") for output in first} == {"stdout", None}
    assert second == []
    assert [output["output_type"] for output in third] == ["display_data", "stream"]
    assert third[0]["data"]["text/plain"] == "f: 7 · 7/s · interrupted after 1.0 s"
    assert "<progress" not in third[0]["data"]["text/html"]
    assert last[0]["text"] == "False\n"
