"""``vigie demo`` keeps its word, says what is broken, and cleans up."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import docs_session
from readme import VIGIE, block, parse

SMALL = ("--jobs", "40", "--dir")


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Demo:
    """Runs the demo with a TMPDIR of its own, as somebody with nothing set, and sees what it leaves."""

    def __init__(self, top: Path) -> None:
        self.temporary = top / "t"
        self.user = top / "u"
        self.temporary.mkdir()
        self.user.mkdir()
        self.env = {"HOME": str(self.user), "PATH": "/usr/bin:/bin", "TMPDIR": str(self.temporary)}
        self.started: list[subprocess.Popen[Any]] = []

    def start(self, *words: str, **how: Any) -> subprocess.Popen[Any]:
        # What a shell in the foreground gives: a group of its own, and Ctrl-C not ignored.
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **how}
        how["env"] = {**self.env, **how.get("env", {})}
        begun = subprocess.Popen(
            [VIGIE, "demo", *words],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_hear_interrupts,  # noqa: PLW1509 - the test has no threads
            **how,
        )
        self.started.append(begun)
        return begun

    def run(self, *words: str, **how: Any) -> tuple[int, str]:
        begun = self.start(*words, **how)
        said, _ = begun.communicate(timeout=120)
        return begun.returncode, said

    def home(self) -> str | None:
        found = list(self.temporary.iterdir())
        return str(found[0] / "home") if found else None

    def left(self) -> list[str]:
        """Give the living processes that have this directory in their words or their environment."""
        sought = os.fsencode(self.temporary)
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                # Of a zombie there are neither.
                if sought in words + Path(f"/proc/{pid}/environ").read_bytes():
                    found.append(f"{pid} {words!r}")
        return found

    def assert_clean(self) -> None:
        assert list(self.temporary.iterdir()) == []
        assert list(self.user.iterdir()) == []
        assert self.left() == []


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    made = Demo(tmp_path)
    yield made
    for begun in made.started:
        if begun.poll() is None:
            begun.send_signal(signal.SIGTERM)
        begun.wait(30)
        if begun.stdout is not None:
            begun.stdout.close()


@pytest.fixture
def tree(tmp_path: Path) -> str:
    source = tmp_path / "source"
    source.mkdir()
    for n in range(30):
        (source / f"{n}.txt").write_text(f"{n}\n" * 2000)
    return str(source)


def until_line(begun: subprocess.Popen[str], begin: str) -> str:
    """Read what the demo says until a line begins so, and give all of it."""
    assert begun.stdout is not None
    said = ""
    for line in begun.stdout:
        said += line
        if line.startswith(begin):
            return said
    raise AssertionError(f"it ended without {begin!r}:\n{said}")


@pytest.mark.slow
def test_the_demo_as_cron_would_run_it(demo: Demo) -> None:
    code, said = demo.run()
    assert code == 0, said
    assert re.search(r"^200 accepted, 0 lost( without a trace)?, 0 run twice(; \d+ ended unseen .*)?$", said, re.M), (
        said
    )
    assert "\x1b" not in said
    assert "\r" not in said
    demo.assert_clean()
    after = said[said.index("Try next:") :].splitlines()[1:]
    assert len(after) == 3
    for line in after:
        words = shlex.split(line)
        assert words[0] == VIGIE
        parse(words[1:])
    assert_shown(block("text"), said)


@pytest.mark.slow
def test_each_command_shown_is_one_that_can_be_typed(demo: Demo, tree: str) -> None:
    code, said = demo.run(*SMALL, tree)
    assert code == 0, said
    typed = [line[2:] for line in said.splitlines() if line.startswith("$ ")]
    for line in typed:
        words = shlex.split(line, comments=True)
        assert words[0] in ("vigie", "cd", "export", "kill")
        if words[0] == "vigie":
            parse(words[1:])
    for verb in ("start", "jobs", "receive", "wait", "logs", "stop", "why", "agent"):
        assert any(line.startswith(f"vigie {verb}") for line in typed), verb
    killed = [line.split()[2:4] for line in typed if line.startswith("kill -9")]
    assert re.findall(r"^(?:agent|keeper): +pid (\d+)", said, re.M)[:2] == killed[0]
    demo.assert_clean()


@pytest.mark.slow
@pytest.mark.parametrize("colors", [True, False])
def test_a_narrow_terminal(demo: Demo, tree: str, colors: bool) -> None:
    terminal, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 60))
    env = {"TERM": "xterm-256color", "LANG": "C.UTF-8"} | ({} if colors else {"NO_COLOR": "1"})
    begun = demo.start(*SMALL, tree, stdout=theirs, stderr=theirs, text=False, env=env)
    os.close(theirs)
    said = b""
    # At the end of the last writer a terminal gives an error, not an end.
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 65536):
            said += data
    os.close(terminal)
    assert begun.wait(60) == 0, said.decode()
    text = said.decode()
    assert ("\x1b[1m" in text) == colors
    assert re.search(r"\r(\x1b\[36m)?  sums: 30 of 30 files", text)
    plain = re.sub(r"\x1b\[[\d;]*[mK]", "", text).replace("\r\n", "\n")
    tables = [line for line in plain.splitlines() if line.startswith("ID ")]
    assert tables
    for line in re.split(r"[\r\n]", plain):
        if line.startswith((" ", "ID ", "The ", "Each ", "What ", "No ")):
            assert len(line) <= 60 or "vigie" in line, line
    demo.assert_clean()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [
        ("1. A command", signal.SIGINT, 130),
        ("$ vigie stop endless", signal.SIGINT, 130),
        ("...     jobs.append(vigie.start(note", signal.SIGINT, 130),
        ("$ kill -9", signal.SIGINT, 130),
        ("$ kill -9", signal.SIGTERM, 143),
        ("$ vigie start -n endless", signal.SIGHUP, 129),
    ],
)
def test_an_interrupted_demo_leaves_nothing(demo: Demo, tree: str, moment: str, number: int, code: int) -> None:
    begun = demo.start("--jobs", "1000", "--dir", tree)
    until_line(begun, moment)
    if number == signal.SIGTERM:
        begun.send_signal(number)
    else:
        os.killpg(begun.pid, number)
    rest, _ = begun.communicate(timeout=60)
    assert begun.returncode == code, rest
    assert "ended early; its processes have ended and its files are deleted" in rest
    assert "Traceback" not in rest
    demo.assert_clean()


@pytest.mark.slow
def test_a_job_that_ran_twice_is_found(demo: Demo, tree: str) -> None:
    """Somebody writes the line of the first job into the witness once more."""
    begun = demo.start("--jobs", "400", "--dir", tree)
    until_line(begun, "$ kill -9")
    home = demo.home()
    assert home is not None
    with open(os.path.join(os.path.dirname(home), "witness"), "a", encoding="utf-8") as witness:
        witness.write("c0 1\n")
    rest, _ = begun.communicate(timeout=60)
    assert begun.returncode == 1, rest
    assert "1 run twice" in rest
    assert "vigie: a promise did not hold: of the acknowledged jobs 1 ran twice (" in rest
    demo.assert_clean()


@pytest.mark.slow
def test_jobs_that_vanish_are_found(demo: Demo, tree: str, until: Callable[..., Any]) -> None:
    """Somebody removes what had completed, behind the demo's back, while a queue holds the rest."""
    begun = demo.start("--jobs", "1000", "--dir", tree)
    until_line(begun, "$ kill -9")
    home = demo.home()
    assert home is not None
    env = {**demo.env, "VIGIE_HOME": home}

    def removed() -> bool:
        done = subprocess.run([VIGIE, "remove", "--finished"], env=env, capture_output=True, text=True, check=False)
        return done.returncode == 0

    until(removed)
    rest, _ = begun.communicate(timeout=90)
    assert begun.returncode == 1, rest
    assert "vanished without a trace" in rest
    demo.assert_clean()


@pytest.mark.slow
def test_nobody_reads_any_more(demo: Demo, tree: str) -> None:
    begun = demo.start(*SMALL, tree, stderr=subprocess.PIPE)
    until_line(begun, "1. A command")
    assert begun.stdout is not None
    begun.stdout.close()
    assert begun.stderr is not None
    said = begun.stderr.read()
    begun.stderr.close()
    assert begun.wait(60) == 141
    assert "Traceback" not in said
    demo.assert_clean()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dir", "/nonexistent"], "--dir /nonexistent: there is no such directory"),
        (["--jobs", "3"], "--jobs is 3: from 20 to 100000 make sense"),
        (["more"], "it takes only options, and more is none"),
    ],
)
def test_wrong_usage(demo: Demo, words: list[str], said: str) -> None:
    code, output = demo.run(*words)
    assert (code, said in output) == (2, True), output
    demo.assert_clean()


def test_a_missing_tool_is_named(demo: Demo, tmp_path: Path, tree: str) -> None:
    code, output = demo.run("--dir", tree, env={"PATH": str(tmp_path)})
    assert (code, "the demo runs tar, which is not here" in output) == (1, True), output
    demo.assert_clean()


def normal(line: str) -> str:
    """Give a line without what differs from run to run."""
    line = re.sub(r"vigie-demo-\w+", "vigie-demo-…", docs_session.form(line))
    line = re.sub(r"\S*/vigie-demo", "/vigie-demo", line)
    line = re.sub(r"kill -9 \d+ \d+", "kill -9 …", line)
    return re.sub(r"\b\d+\b", "…", line)


def assert_shown(excerpt: list[str], said: str) -> None:
    """See that lines stand in an output, in this order, but for progress and the last count."""
    rest = iter(normal(line) for line in said.splitlines())
    wanted = [line for line in excerpt if "accepted, " not in line and not line.startswith("200 are")]
    for line in wanted:
        assert normal(line) in rest, f"README shows {line!r}, and the demo does not"
