"""``vigie demo`` keeps its word and cleans up; the README and its picture show what happens."""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import docs_session
from vigie.cli import main
from vigie.demo import stage, work
from vigie.demo import tree as trees
from vigie.demo.load import Count
from vigie.errors import UsageError, VigieError
from vigie.place import Place

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
VIGIE = os.path.join(os.path.dirname(sys.executable), "vigie")
SMALL = ("--jobs", "40", "--dir")


# Counting -------------------------------------------------------------------------


def count(states: dict[int, str], lines: list[str], accepted: list[tuple[int, str]] | None = None) -> Count:
    return Count.of([(1, "a"), (2, "b")] if accepted is None else accepted, states, lines)


def test_all_is_well() -> None:
    found = count({1: "completed", 2: "completed"}, ["b 1", "a 2"])
    assert (found.broken, found.headline) == ([], "2 accepted, 0 lost, 0 run twice")


def test_an_end_that_nobody_saw_is_told_apart() -> None:
    for lines in (["a 1"], ["a 1", "b 1"]):
        found = count({1: "completed", 2: "lost"}, lines)
        assert found.broken == []
        assert found.headline == "2 accepted, 0 lost without a trace, 0 run twice; 1 ended unseen and is marked so"


@pytest.mark.parametrize(
    ("states", "lines", "accepted", "said"),
    [
        ({1: "completed"}, ["a", "b"], None, "1 vanished without a trace (2)"),
        ({1: "completed", 2: "completed"}, ["a", "b", "a"], None, "1 ran twice (1)"),
        ({1: "lost", 2: "completed"}, ["a", "b", "a"], None, "1 ran twice (1)"),
        ({1: "completed", 2: "completed"}, ["a"], None, "1 are called completed and never ran (2)"),
        ({1: "completed", 2: "failed"}, ["a", "b"], None, "1 failed, though their work cannot (2)"),
        ({1: "completed", 2: "stopped"}, ["a", "b"], None, "1 failed, though their work cannot (2)"),
        ({1: "completed", 2: "queued"}, ["a"], None, "1 have not ended after 60 s (2)"),
        ({1: "completed"}, ["a", "b"], [(1, "a"), (1, "b")], "1 share an id with another (1)"),
    ],
)
def test_each_broken_promise_is_named(
    states: dict[int, str], lines: list[str], accepted: list[tuple[int, str]] | None, said: str
) -> None:
    assert count(states, lines, accepted).broken == [said]


@given(st.dictionaries(st.integers(1, 30), st.sampled_from(["completed", "lost", "failed", "running"])), st.data())
def test_every_accepted_job_is_counted_once(states: dict[int, str], data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(1, 30), unique=True))
    found = Count.of([(job, str(job)) for job in ids], states, [])
    kinds = (found.completed, found.marked, found.vanished, found.unended, found.failed)
    assert sorted(job for kind in kinds for job in kind) == sorted(ids)


# The tree -------------------------------------------------------------------------


def test_only_plain_files_are_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub" / "__pycache__").mkdir(parents=True)
    (source / "sub" / "a").write_bytes(b"aaa")
    (source / "sub" / "__pycache__" / "b").write_bytes(b"b")
    (source / "empty").touch()
    (source / "link").symlink_to("sub/a")
    os.mkfifo(source / "fifo")
    (source / "large").write_bytes(bytes(trees._LARGEST + 1))
    target = tmp_path / "target"
    assert trees.copy(str(source), str(target)) == (1, 3)
    assert work.files_of(str(target)) == [str(target / "sub" / "a")]


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.EIO])
def test_what_cannot_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    fail_to_copy(tmp_path, monkeypatch, number)
    assert trees.copy(str(tmp_path / "source"), str(tmp_path / "target")) == (1, 4)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_copy(tmp_path, monkeypatch, errno.ENOSPC)
    with pytest.raises(VigieError, match="no room for a copy"):
        trees.copy(str(tmp_path / "source"), str(tmp_path / "target"))


def fail_to_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the copy of one of two files fail, as a disk or a permission would have it (root may read all)."""
    (tmp_path / "source").mkdir()
    for name in ("good", "secret"):
        (tmp_path / "source" / name).write_text(name)
    real = shutil.copyfile

    def copyfile(path: str, where: str) -> None:
        if path.endswith("secret"):
            raise OSError(number, os.strerror(number), path)
        real(path, where)

    monkeypatch.setattr(trees.shutil, "copyfile", copyfile)


def test_a_copy_does_not_copy_itself(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "b").write_text("b")
    assert trees.copy(str(tmp_path), str(tmp_path / "place" / "tree")) == (1, 1)


def test_a_copy_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").mkdir()
    for n in range(5):
        (tmp_path / "source" / str(n)).write_bytes(bytes(10))
    monkeypatch.setattr(trees, "_BYTES", 35)
    assert trees.copy(str(tmp_path / "source"), str(tmp_path / "one")) == (3, 30)
    monkeypatch.setattr(trees, "_FILES", 2)
    assert trees.copy(str(tmp_path / "source"), str(tmp_path / "two")) == (2, 20)


@pytest.mark.parametrize("there", [False, True])
def test_nothing_to_work_on(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "source").mkdir()
    with pytest.raises(UsageError, match="source"):
        trees.copy(str(tmp_path / "source"), str(tmp_path / "target"))


# The place ------------------------------------------------------------------------


def test_a_place_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    before = dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyError), Place() as here:
        assert os.environ["VIGIE_HOME"] == here.home.root
        assert os.environ.get("VIRTUAL_ENV") != "/elsewhere"
        assert os.getcwd() == here.top
        Path("file").touch()
        raise KeyError
    assert (dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert os.getcwd() == str(tmp_path)
    assert not os.path.exists(here.top)


@pytest.mark.slow
def test_a_place_ends_what_carries_its_mark_and_nothing_else() -> None:
    from vigie.agent.marks import Marks

    def sleeper(*words: str, **env: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "300"], env={**os.environ, **env}, start_new_session=True)

    with Place() as here:
        mine = sleeper(VIGIE_ATTEMPT=Marks(here.home.root).of(7, 1))
        strangers = [sleeper(VIGIE_ATTEMPT=Marks("/another").of(7, 1)), sleeper(VIGIE_HOME=here.home.root)]
        assert [found.pid for found in here.processes()] == [mine.pid]
        assert [found.pid for found in here.members(7)] == [mine.pid]
        assert here.members(1) == []
    try:
        assert mine.wait(10) == -signal.SIGKILL
        assert [stranger.poll() for stranger in strangers] == [None, None]
    finally:
        for stranger in strangers:
            stranger.kill()
            stranger.wait()


# The program ----------------------------------------------------------------------


@pytest.mark.parametrize("called", [VIGIE, os.path.relpath(VIGIE, "/"), "vigie", "/x/vigie/__main__.py"])
def test_the_program_is_named_with_its_full_path(called: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("PATH", os.path.dirname(VIGIE))
    monkeypatch.setattr(sys, "argv", [called])
    assert stage.program() == [VIGIE]


def test_without_a_program_the_module_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/vigie/__main__.py"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert stage.program() == [str(tmp_path / "python"), "-m", "vigie"]


def test_the_function_says_how_far_it_is_and_its_checksum(tmp_path: Path) -> None:
    for n in range(25):
        (tmp_path / str(n)).write_text(str(n))
    said: list[dict[str, Any]] = []
    running = work.checksums(str(tmp_path))
    while True:
        try:
            said.append(next(running))
        except StopIteration as end:
            total = end.value
            break
    assert [one["files"] for one in said][-1] == 25
    assert len(said) == work._REPORTS
    assert total["sha256"] == work.digest(str(tmp_path))


# The demo -------------------------------------------------------------------------


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
    assert_shown(readme_block("text"), said)


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


# README ---------------------------------------------------------------------------


def readme_block(language: str) -> list[str]:
    return next(block.lines for block in docs_session.blocks(README) if block.language == language)


def parse(words: list[str]) -> None:
    """Read words as the command line would; wrong verbs and options raise."""
    verb, rest = main._verb(words)
    if verb == "version" or words[1:] in (["--help"], ["-h"]):
        assert verb in ("version", *main.VERBS)
        return
    assert verb in main.VERBS, verb
    main._parse(verb, main.load(verb), rest)


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


@pytest.mark.slow
def test_the_readme_shows_what_happens(home: Any) -> None:
    with docs_session.Session(home.user, home.root) as session:
        found = list(docs_session.differences(README, session))
    assert not found, "\n(python tests/docs_session.py --write README.md rewrites it)\n" + "\n".join(map(str, found))


@pytest.mark.slow
def test_the_example_of_python_runs_as_a_program(home: Any, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text("\n".join(readme_block("python")), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert re.fullmatch(r"<job 1: .* [0-9a-f]{64}", said[0])
    assert said[1:3] == ["[0, 1, 4, 9, 16] done", "True"]
    assert said[3].startswith("job 4 failed: exit code 1")


def commands_in_readme() -> Iterator[str]:
    for block in docs_session.blocks(README):
        if block.language == "console":
            yield from (command.text for command in docs_session.commands(block))
        elif block.language == "text":
            yield from (line[2:] for line in block.lines if line.startswith("$ "))
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    yield from (found for found in re.findall(r"`([^`]+)`", prose) if found.startswith("vigie "))


def test_every_verb_and_option_of_the_readme_exists() -> None:
    found = list(commands_in_readme())
    assert len(found) > 15
    for line in found:
        words = shlex.split(re.sub(r"; echo [^']*$", "", line), comments=True)
        if words[0] == "vigie" and words != ["vigie"]:
            parse(words[1:])


def test_the_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake ([a-z]+)", README)) <= targets


def test_the_readme_names_no_figure_of_its_own() -> None:
    """Times, rates and sizes stand in benchmarks/RESULTS.md; outside of blocks there is one: the demo's."""
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert re.findall(r"\d+(?:\.\d+)? ?(?:ms|µs|s|MB|MiB|/s|times)\b", prose) == []


# The picture ----------------------------------------------------------------------

PICTURE = ROOT / "docs" / "pictures" / "tour.svg"


def test_the_picture_is_of_the_tour() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "picture.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_picture_shows_what_the_readme_shows() -> None:
    root = ET.parse(PICTURE).getroot()
    drawn = root.findtext("{http://www.w3.org/2000/svg}desc")
    assert drawn is not None
    assert docs_session.matches(readme_block("console"), drawn.splitlines())


def test_the_picture_is_small_and_needs_nothing_from_elsewhere() -> None:
    text = PICTURE.read_text(encoding="utf-8")
    assert len(text) < 20_000
    assert (
        re.findall(r"https?://(?!www\.w3\.org/2000/svg)|<(?:image|script|style|a|use|foreignObject)\b|@import", text)
        == []
    )
    assert f"]({PICTURE.relative_to(ROOT)})" in README


@pytest.mark.slow
def test_the_picture_is_drawn_from_a_real_terminal(need: Callable[..., str], tmp_path: Path) -> None:
    need("tmux")
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import picture
    finally:
        sys.path.pop(0)
    svg = picture.draw(picture.shot(["printf '\\033[1;31mred\\033[0m  <plain>\\n'", "vigie jobs"]))
    root = ET.fromstring(svg)
    texts = {one.text: one for one in root.iter("{http://www.w3.org/2000/svg}text")}
    assert texts["red"].get("fill") == picture._COLORS[31]
    assert texts["red"].get("font-weight") == "bold"
    assert float(texts["<plain>"].get("x") or 0) - float(texts["red"].get("x") or 0) == pytest.approx(
        5 * picture._WIDE, abs=0.1
    )
    assert "no jobs yet · vigie start -- sleep 60" in texts
