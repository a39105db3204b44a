"""How far a run is, as one sees it in the window of a real terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import need, until
from progress_program import PRELUDE, environment
from vigie.terminal import cells


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
