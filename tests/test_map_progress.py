"""How far a run is: what is said, how fast and how long; on a terminal, in a log, in a notebook."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import need, until
from vigie.errors import UsageError
from vigie.parallel.pace import Pace, Shot, line
from vigie.parallel.progress import SHORT, WORKER, Progress, display
from vigie.terminal import cells


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# How fast ---------------------------------------------------------------------------


def test_before_the_first_item_nobody_knows() -> None:
    pace = Pace(100.0)
    pace.seen(105.0, 0)
    assert pace.rate(105.0, 4) is None
    assert pace.left(105.0, 10, 4) is None


def test_a_steady_pace_is_measured_from_the_start() -> None:
    pace = Pace(100.0)
    for step in range(1, 600):
        pace.seen(100 + step / 10, 12 * step)
        assert pace.rate(100 + step / 10, 3) == pytest.approx(120)
        assert pace.left(100 + step / 10, 600, 0) == pytest.approx(5)


def test_what_came_last_counts_most() -> None:
    pace = Pace(0.0)
    done = 0
    for second in range(1, 121):
        done += 1000 if second <= 60 else 10
        pace.seen(second, done)
    rate = pace.rate(120.0, 0)
    assert rate is not None
    # The mean of all would be 505.
    assert 10 < rate < 40


def test_items_that_take_long_and_end_together_are_awaited_calmly() -> None:
    """Four at once, half a minute each: in between nothing slows down, and the rest is counted down."""
    pace = Pace(0.0)
    for burst in range(1, 6):
        pace.seen(30.0 * burst, 4 * burst)
        for later in range(0, 30, 3):
            now = 30.0 * burst + later
            assert pace.rate(now, 4) == pytest.approx(4 / 30)
            assert pace.left(now, 40 - 4 * burst, 4) == pytest.approx(300 - now)


def test_what_does_not_come_slows_it_down() -> None:
    pace = Pace(0.0)
    pace.seen(10.0, 100)
    seen = [pace.rate(10.0 + late, 10) for late in (0, 1, 2, 10, 100)]
    assert seen[0] == seen[1] == pytest.approx(10)
    assert all(a > b for a, b in itertools.pairwise(seen[1:]))


@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 10**7), st.integers(0, 10**5)), max_size=30))
def test_whatever_comes_the_pace_is_one(steps) -> None:
    pace, now, done = Pace(0.0), 0.0, 0
    for gap, more, running in steps:
        now, done = now + gap, done + more
        pace.seen(now, done)
        rate, left = pace.rate(now, running), pace.left(now, 1000, running)
        assert (rate is None) == (left is None)
        assert rate is None or (rate > 0 and left >= 0)


# What is said -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shot", "told"),
    [
        (Shot("", 1000, 812, failed=3, rate=120.4, left=4.1), "812 of 1,000 · 3 failed · 120/s · 0:00:05 left"),
        (Shot("", 10, 0, running=4, elapsed=12.9), "0 of 10 · 4 running · 0:00:12 so far"),
        (Shot("f", None, 5, rate=2.0, elapsed=3700), "f: 5 · 2/s · 1:01:40 so far"),
        (Shot("", 10, 2, running=4, rate=0.05, left=7200), "2 of 10 · 4 running · 3/min · 2:00:00 left"),
        (Shot("", 10, 2, running=4, rate=3.0, left=3), "2 of 10 · 3/s · 0:00:03 left"),
        (Shot("", 900, 700, earlier=600, rate=1.25, left=160), "700 of 900 · 600 earlier · 1.2/s · 0:02:40 left"),
        (Shot("", 10**7, 10, rate=12_345.6, left=86400 * 3), "10 of 10,000,000 · 12,300/s · 3 days left"),
        (Shot("", 10, 1, rate=0.004, left=3600), "1 of 10 · 14/h · 1:00:00 left"),
        (Shot("", 10, 1, rate=99.7, left=1), "1 of 10 · 100/s · 0:00:01 left"),
        (Shot("", 0, 0, elapsed=0.01, ended=True), "0 of 0 · in 0.0 s"),
        (Shot("", 9, 9, elapsed=75, rate=0.12, running=3, ended=True), "9 of 9 · 7.2/min · in 0:01:15"),
        (Shot("", 9, 4, elapsed=2.3, ended=True, note="interrupted"), "4 of 9 · interrupted after 2.3 s"),
    ],
)
def test_a_line_says(shot: Shot, told: str) -> None:
    assert line(shot) == told


# Choices ----------------------------------------------------------------------------


@pytest.mark.parametrize("choice", [1, 0, 2.5, b"x", []])
def test_a_choice_that_is_none_is_refused(choice) -> None:
    with pytest.raises(UsageError, match="it is True, False, None or a text"):
        display(choice, "f", 1)


def test_by_default_nothing_is_shown_where_nobody_watches(capfd) -> None:
    assert not sys.stderr.isatty()
    assert display(None, "f", 1) is None
    assert display(False, "f", 1) is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("choice", "label"), [(True, "f"), ("mine", "mine")])
def test_what_is_asked_for_is_shown_anywhere(choice, label, capfd) -> None:
    progress = display(choice, "f", 1)
    assert progress is not None
    progress.update(done=1, failed=0, running=0)
    progress.close()
    assert capfd.readouterr().err.startswith(f"{label}: 1 of 1 · ")


# Lines ------------------------------------------------------------------------------


def lines_of(seconds: int, step: float = 0.25, total: int | None = None) -> list[tuple[float, str]]:
    """Run for so many seconds at 8 items a second; give each line with its instant."""
    clock, out, found = Clock(), io.StringIO(), []
    progress = Progress("job", total, clock=clock, stream=out)
    while clock.now < seconds:
        clock.now += step
        progress.update(done=int(clock.now * 8), failed=0, running=2)
        if out.tell():
            found.append((clock.now, out.getvalue()))
            out.seek(0)
            out.truncate()
    progress.close()
    return [*found, (clock.now, out.getvalue())]


def test_lines_come_ever_more_rarely_and_each_minute_in_the_end() -> None:
    found = lines_of(3600, total=8 * 3600)
    instants = [instant for instant, _ in found[:-1]]
    gaps = [after - before for before, after in itertools.pairwise(instants)]
    assert instants[0] == 1.0
    assert all(gap <= 10 for before, gap in zip(instants, gaps, strict=False) if before <= 20)
    assert gaps == sorted(gaps)
    assert set(gaps[-50:]) == {60.0}
    assert found[0][1] == "job: 8 of 28,800 · 8/s · 0:59:59 left\n"
    assert found[-1][1] == "job: 28,800 of 28,800 · 8/s · in 1:00:00\n"


@given(st.text(), st.sampled_from(["", "broken\x1b[2J\noff"]))
def test_whatever_the_label_a_line_is_one(label: str, note: str) -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress(label, 3, clock=clock, stream=out)
    clock.now = 2.0
    progress.update(done=1, failed=0, running=1)
    progress.close(note)
    told = out.getvalue()
    assert told.count("\n") == 2
    assert not [c for c in told.replace("\n", "") if unicodedata.category(c) in ("Cc", "Cs")]


def test_items_of_an_earlier_run_make_it_no_faster() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress("job", 2000, clock=clock, stream=out)
    progress.update(done=1000, failed=0, running=2, earlier=1000)
    clock.now = 2.0
    progress.update(done=1010, failed=0, running=2, earlier=1000)
    clock.now = 4.0
    progress.close("interrupted")
    assert out.getvalue().splitlines() == [
        "job: 1,010 of 2,000 · 1,000 earlier · 5/s · 0:03:18 left",
        "job: 1,010 of 2,000 · 1,000 earlier · 2.5/s · interrupted after 4.0 s",
    ]


def test_a_total_may_come_later_and_be_wrong() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress("", None, clock=clock, stream=out)
    clock.now = 1.0
    progress.update(done=1, failed=0, running=0)
    progress.total = 3
    clock.now = 6.0
    progress.update(done=2, failed=0, running=0)
    clock.now = 60.0
    progress.update(done=4, failed=1, running=0)
    progress.close()
    assert [told.partition(" · ")[0] for told in out.getvalue().splitlines()] == ["1", "2 of 3", "4", "4"]


def test_who_waits_is_told_when_to_look_again() -> None:
    clock = Clock()
    progress = Progress("job", 3, clock=clock, stream=io.StringIO())
    clock.now = 0.5
    progress.update(done=0, failed=0, running=1)
    assert progress.due() == pytest.approx(0.5)
    clock.now = 1.5
    assert progress.due() == 0
    progress.update(done=0, failed=0, running=1)
    assert progress.due() == pytest.approx(4.0)
    progress.close()
    assert progress.due() == float("inf")


def test_drawing_that_takes_long_is_done_less_often() -> None:
    clock = Clock()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            clock.now += 1.0
            return super().write(text)

    progress = Progress("job", 3, clock=clock, stream=Slow())
    clock.now = 1.0
    progress.update(done=0, failed=0, running=1)
    assert progress.due() == pytest.approx(19.0)


def test_a_short_run_is_not_worth_it() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress("job", 3, clock=clock, stream=out, quiet=SHORT)
    clock.now = 0.49
    progress.update(done=2, failed=0, running=1)
    progress.close()
    assert out.getvalue() == ""


def test_nothing_follows_the_end() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress("job", 3, clock=clock, stream=out)
    progress.close()
    once = out.getvalue()
    clock.now = 100.0
    progress.update(done=3, failed=0, running=0)
    progress.close("again")
    assert out.getvalue() == once == "job: 0 of 3 · in 0.0 s\n"


# Real processes ---------------------------------------------------------------------

#: A program that says itself what the time is.
PRELUDE = """
import logging, os, subprocess, sys
from vigie.parallel.progress import SHORT, Progress, display
class Clock:
    now = 0.0
    def __call__(self): return self.now
clock = Clock()
def step(progress, seconds=1.0, **counts):
    clock.now += seconds
    progress.update(**({"failed": 0, "running": 2} | counts))
"""


def environment(**more: str | None) -> dict[str, str]:
    unwanted = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONUNBUFFERED", WORKER)
    made = {name: value for name, value in os.environ.items() if name not in unwanted}
    made |= {"TERM": "xterm-256color", "PYTHONUTF8": "1"}
    for name, value in more.items():
        made.pop(name, None)
        if value is not None:
            made[name] = value
    return made


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


def in_terminal(code: str, **env: str | None) -> str:
    """Run a program that has a terminal of its own; give all that it wrote there."""
    pid, terminal = pty.fork()
    if pid == 0:
        with contextlib.suppress(OSError):
            os.execve(sys.executable, [sys.executable, "-c", PRELUDE + code], environment(**env))
        os._exit(127)
    found = b""
    # Reading fails once nobody has the terminal open any more.
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 65536):
            found += piece
    os.close(terminal)
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
    found = b""
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 65536):
            found += piece
    os.close(ours)
    assert made.wait(30) == 0
    made.stdout.close()
    assert b"2,999 of 9,000" not in found
    assert b"8,765 of 9,000" in found


# What it looks like -----------------------------------------------------------------


class Window:
    """A window of a real terminal, and one program in it."""

    def __init__(self, directory: Path, code: str, wide: int, high: int) -> None:
        self._tmux = [need("tmux"), "-u", "-S", str(directory / "tmux"), "-f", os.devnull]
        script = directory / "script.py"
        script.write_text(PRELUDE + code)
        #: The program goes on when it can read a line.
        self._fifo = directory / "go"
        os.mkfifo(self._fifo)
        self._go = os.open(self._fifo, os.O_RDWR)
        run = f"{sys.executable} {script} {self._fifo}; echo END; exec cat"
        size = ["-x", str(wide), "-y", str(high)]
        subprocess.run([*self._tmux, "new-session", "-d", *size, run], check=True, env=environment(), timeout=30)

    def tmux(self, *words: str) -> str:
        return subprocess.run([*self._tmux, *words], check=True, capture_output=True, text=True, timeout=30).stdout

    def go(self, line: str = "") -> None:
        os.write(self._go, f"{line}\n".encode())

    def lines(self) -> list[str]:
        """All that was ever shown, without empty lines at the end."""
        return [shown.rstrip() for shown in self.tmux("capture-pane", "-p", "-S", "-").rstrip().splitlines()]

    def when(self, told: Callable[[list[str]], bool]) -> list[str]:
        return until(lambda: (found := self.lines()) and told(found) and found)

    def close(self) -> None:
        os.close(self._go)
        with contextlib.suppress(subprocess.CalledProcessError):
            self.tmux("kill-server")


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Callable[..., Window]]:
    made: list[Window] = []

    def opened(code: str, wide: int = 70, high: int = 12) -> Window:
        code = "go = open(sys.argv[1]) if len(sys.argv) > 1 else None\n" + code
        made.append(Window(tmp_path, code, wide, high))
        return made[-1]

    yield opened
    for one in made:
        one.close()


def bar(found: str) -> bool:
    return "━" in found


@pytest.mark.slow
@pytest.mark.parametrize("high", [24, 6])
def test_whatever_is_printed_stands_whole_above_the_bar(window: Callable[..., Window], high: int) -> None:
    code = """
logging.basicConfig(format="log %(message)s")
kept = sys.stderr
p = Progress("job", 100, clock=clock)
for done in range(1, 5):
    step(p, done=10 * done)
    print("one", done); print("two", done)
    logging.warning("%d\\nof two lines", done)
    print("err", done, file=kept)
    print("in", end=""); print(" parts", done)
    print(".", end="", flush=True)
    step(p, done=10 * done + 1)
    print(".\\nold\\r", end="", flush=True)
    step(p, done=10 * done + 1)
    print("n")
    subprocess.run(["echo", f"from another process {done}"])
    step(p, done=10 * done + 2)
    subprocess.run(["printf", "and an unfinished "])
    step(p, done=10 * done + 3)
    print("line")
step(p, done=70)
print("STANDS")
go.readline()
p.close()
"""
    wanted = []
    for n in range(1, 5):
        wanted += [f"one {n}", f"two {n}", f"log {n}", "of two lines", f"err {n}", f"in parts {n}", "..", "nld"]
        wanted += [f"from another process {n}", "and an unfinished line"]
    found = window(code, high=high)
    standing = found.when(lambda lines: "STANDS" in lines and bar(lines[-1]))
    assert standing[:-2] == [*wanted, "STANDS"]
    assert standing[-2] == ""
    assert bar(standing[-1])
    assert "70 of 100" in standing[-1]
    found.go()
    ended = found.when(lambda lines: lines[-1] == "END")
    assert ended[:-2] == [*wanted, "STANDS"]
    assert bar(ended[-2])
    assert "70 of 100" in ended[-2]


@pytest.mark.slow
def test_a_window_that_changes_keeps_no_remains(window: Callable[..., Window]) -> None:
    code = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
p = Progress("a label of some length", 1000, clock=clock)
wide = 100
for done in range(1, 5):
    while os.get_terminal_size(2).columns != wide:
        signal.sigwait({signal.SIGWINCH})
    step(p, done=done)
    print("at", done)
    wide = int(go.readline())
p.close()
"""
    found = window(code, wide=100)
    shown = found.when(lambda lines: lines[0] == "at 1")
    assert "label" in shown[-1]
    for number, wide in ((2, 60), (3, 30), (4, 120)):
        found.tmux("resize-window", "-x", str(wide))
        found.go(str(wide))
        shown = found.when(lambda lines, number=number: f"at {number}" in lines)
        assert shown[:-1] == [f"at {n}" for n in range(1, number + 1)] + [""]
        assert f"{number} of 1,000" in shown[-1]
        assert cells(shown[-1]) < wide
    found.go("0")
    assert len(found.when(lambda lines: lines[-1] == "END")) == 6


@pytest.mark.slow
def test_a_window_that_is_smaller_than_we_think_shows_one_line(window: Callable[..., Window]) -> None:
    code = """
os.environ["COLUMNS"] = "200"
p = Progress("a label that is so long that it would not fit into this window", 1000, clock=clock)
for done in range(1, 4):
    step(p, done=done)
    print("at", done)
print("STANDS")
go.readline()
"""
    shown = window(code, wide=40).when(lambda lines: "STANDS" in lines)
    assert shown[:-1] == ["at 1", "at 2", "at 3", "STANDS", ""]


@pytest.mark.slow
def test_more_bars_than_lines_cost_no_line(window: Callable[..., Window]) -> None:
    code = """
all = [Progress(f"job{n}", 9, clock=clock) for n in range(9)]
for n in range(9):
    for p in all: step(p, done=n)
    print("at", n)
print("STANDS")
go.readline()
for p in all: p.close()
"""
    found = window(code, high=5)
    shown = found.when(lambda lines: "STANDS" in lines)
    assert [told.partition(" ━")[0] for told in shown] == [
        *(f"at {n}" for n in range(9)),
        "STANDS",
        "",
        *"job0 job1 job2".split(),
    ]
    found.go()
    shown = found.when(lambda lines: lines[-1] == "END")
    assert [told.partition(" ━")[0] for told in shown[9:]] == ["STANDS", *(f"job{n}" for n in range(9)), "END"]


@pytest.mark.slow
def test_a_run_within_a_run_has_a_bar_as_long_as_it_lasts(window: Callable[..., Window]) -> None:
    code = """
outer = Progress("outer", 2, clock=clock)
step(outer, done=0)
for failed in (0, 1):
    inner = Progress("inner", 5, clock=clock, quiet=SHORT, lasting=False)
    step(inner, done=3, failed=failed)
    print("inside", failed)
    go.readline()
    inner.close()
    step(outer, done=1 + failed)
    print("outside", failed)
    go.readline()
outer.close()
"""
    found = window(code)
    shown = found.when(lambda lines: "inside 0" in lines)
    assert [told.split(" ")[0] for told in shown] == ["inside", "", "outer", "inner"]
    found.go()
    shown = found.when(lambda lines: "outside 0" in lines)
    assert [told.split(" ")[0] for told in shown] == ["inside", "outside", "", "outer"]
    found.go()
    found.when(lambda lines: "inside 1" in lines)
    found.go()
    # What failed is not swept away.
    shown = found.when(lambda lines: "outside 1" in lines)
    assert [told.split(" ")[0] for told in shown] == ["inside", "outside", "inside", "inner", "outside", "", "outer"]
    found.go()
    assert [told.split(" ")[0] for told in found.when(lambda lines: lines[-1] == "END")][-2:] == ["outer", "END"]


@pytest.mark.slow
def test_who_interrupts_sees_how_far_it_came(window: Callable[..., Window]) -> None:
    code = """
p = Progress("job", 9, clock=clock)
step(p, done=4)
print("READY")
try:
    go.readline()
except KeyboardInterrupt:
    p.close("interrupted")
"""
    found = window(code)
    found.when(lambda lines: lines[0] == "READY" and bar(lines[-1]))
    found.tmux("send-keys", "C-c")
    shown = found.when(lambda lines: lines[-1] == "END")
    assert len(shown) == 3
    assert shown[1].startswith("job ━")
    assert shown[1].endswith("4 of 9 · 4/s · interrupted after 1.0 s")


@pytest.mark.slow
def test_an_error_is_told_whole_and_the_terminal_left_clean(window: Callable[..., Window]) -> None:
    code = """
p = Progress("job", 9, clock=clock)
step(p, done=4)
raise RuntimeError("this")
"""
    shown = window(code).when(lambda lines: lines[-1] == "END")
    assert shown[0] == "Traceback (most recent call last):"
    assert shown[-3] == "RuntimeError: this"
    assert "4 of 9" in shown[-2]
    assert sum(map(bar, shown)) == 1


@pytest.mark.slow
def test_without_a_known_end_something_moves(window: Callable[..., Window]) -> None:
    code = """
p = Progress("job", None, clock=clock)
step(p, done=4)
print("READY")
go.readline()
p.close()
"""
    found = window(code)
    shown = found.when(lambda lines: lines[0] == "READY")
    assert shown[-1].startswith("job ━")
    assert shown[-1].endswith("4 · 4/s · 0:00:01 so far")
    found.go()
    assert found.when(lambda lines: lines[-1] == "END")[1] == "job 4 · 4/s · in 1.0 s"


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
