"""From words and options to a submit request, without anything being touched."""

from __future__ import annotations

import doctest
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

import vigie.environment
import vigie.submission
from vigie.config import Home
from vigie.environment import choose_python, directory, environment, import_path, redacted
from vigie.errors import Conflict, NotFound, UsageError
from vigie.submission import Options, Submission, check_name, command, function, shell, what


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def program(path: Path, text: str = "#!/bin/sh\n", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("module", [vigie.environment, vigie.submission])
def test_examples_of_the_docstrings(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


# What ---------------------------------------------------------------------------


def argv(words: list[str], **more: Any) -> list[str]:
    options = more.pop("options", Options())
    found: list[str] = what(words, options, **more).task["argv"]
    return found


def test_a_command_stays_as_it_is(here: Path) -> None:
    words = ["ls", "-l", "a b", "", "x\ny", "it's", "\udcff", "$HOME"]
    assert argv(words) == words
    assert argv(words, literal=True) == words


def test_a_script_is_known_by_its_extension_when_it_exists(here: Path) -> None:
    program(here / "a.py", "", 0o644)
    assert argv(["a.py", "-x"]) == [sys.executable, "a.py", "-x"]
    assert argv(["a.py"], literal=True) == ["a.py"]
    assert argv(["none.py"]) == ["none.py"]
    assert what(["a.py", "1"], Options()).task["label"] == "a.py 1"
    assert what(["a.py"], Options()).context["python"] == sys.executable


def test_a_shell_script_runs_by_its_shebang_if_it_may(here: Path) -> None:
    program(here / "a.sh", "#!/bin/bash\n")
    program(here / "b.sh", "#!/bin/bash\n", 0o644)
    program(here / "c.sh", "echo\n")
    program(here / "-d.sh", "echo\n", 0o644)
    assert argv(["a.sh", "1"]) == ["./a.sh", "1"]
    assert argv([f"{here}/a.sh"]) == [f"{here}/a.sh"]
    assert argv(["b.sh"]) == ["/bin/sh", "b.sh"]
    assert argv(["c.sh"]) == ["/bin/sh", "c.sh"]
    assert argv(["-d.sh"]) == ["/bin/sh", "./-d.sh"]


def test_a_powershell_script_goes_to_pwsh(here: Path) -> None:
    program(here / "a.ps1", "")
    assert argv(["a.ps1", "-Name", "x"]) == ["pwsh", "-File", "a.ps1", "-Name", "x"]


def test_a_script_is_looked_for_where_it_will_run_then_here(here: Path) -> None:
    program(here / "sub" / "a.py", "")
    program(here / "b.py", "")
    options = Options(cwd="sub")
    assert argv(["a.py"], options=options) == [sys.executable, "a.py"]
    assert argv(["b.py"], options=options) == [sys.executable, str(here / "b.py")]


def test_a_shell_line(here: Path) -> None:
    made = what([], Options(), line="echo $HOME | wc")
    assert made.task["argv"] == ["/bin/sh", "-c", "echo $HOME | wc"]
    assert made.task["label"] == "echo $HOME | wc"


def test_a_function_by_its_import_path(here: Path) -> None:
    made = what([], Options(), function_name="shop.tasks:Class.rebuild", arguments='["a", 1]')
    assert made.task["kind"] == "function"
    assert made.task["function"] == "shop.tasks:Class.rebuild"
    assert made.task["label"] == 'shop.tasks:Class.rebuild("a", 1)'
    assert (made.blobs, made.fields) == ([b'[["a",1],{}]'], {})
    assert made.context["path"] == [str(here)]
    assert made.context["python"] == sys.executable
    keywords = what([], Options(), function_name="m:f", arguments='{"x": [1]}')
    assert keywords.blobs == [b'[[],{"x":[1]}]']


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"words": []}, "nothing to run"),
        ({"words": [""]}, "needs at least its name"),
        ({"words": ["a\0b"]}, "NUL"),
        ({"words": ["x"], "line": "y"}, "'x' is too much"),
        ({"words": [], "line": "  "}, "the line is empty"),
        ({"words": ["x"], "function_name": "m:f"}, "'x' is too much"),
        ({"words": [], "function_name": "m:f", "line": "y"}, "two things"),
        ({"words": ["x"], "arguments": "[]"}, "--args goes with -f"),
        ({"words": [], "function_name": "m.f"}, "not module:function"),
        ({"words": [], "function_name": "m:f()"}, "not module:function"),
        ({"words": [], "function_name": "m:f", "arguments": "3"}, "array or an object"),
        ({"words": [], "function_name": "m:f", "arguments": "[" * 100_000}, "--args"),
    ],
)
def test_what_cannot_be_run_is_refused(given: dict[str, Any], said: str) -> None:
    words = given.pop("words")
    with pytest.raises(UsageError, match=said):
        what(words, Options(), **given)


def test_bad_json_shows_where_it_goes_wrong() -> None:
    with pytest.raises(UsageError, match=r"at character 5: \[1, ▸x\]"):
        what([], Options(), function_name="m:f", arguments="[1, x]")


def test_arguments_as_bytes_and_paths(here: Path) -> None:
    made = command([b"ls", Path("/x"), b"\xff"], Options())
    assert made.task["argv"] == ["ls", "/x", "\udcff"]
    assert made.task["label"] == "ls /x '\\xff'"


def test_a_long_line_is_shortened_where_it_is_only_a_label(here: Path) -> None:
    made = command(["echo", "x" * 1_000_000], Options())
    assert len(made.task["label"]) == 500
    assert len(made.task["argv"][1]) == 1_000_000


# Options ------------------------------------------------------------------------


def test_nothing_given_leaves_the_defaults_to_the_agent(here: Path) -> None:
    made = command(["true"], Options())
    assert made.task == {"kind": "command", "argv": ["true"], "label": "true"}
    assert made.job == {}
    assert made.context["cwd"] == str(here)


def test_every_option_finds_its_field(here: Path) -> None:
    options = Options(
        name="n", timeout="1m", retries="3", backoff="2s", grace="0", max_output="1 MiB", on_lost="rerun",
        priority="-2", queue="q", now=True, tags=["a", "b", "a"], concurrency=["db=2", "net=1"], after=[1],
        after_any=[2], key="k", fresh=True,
    )  # fmt: skip
    made = command(["true"], options)
    del made.task["argv"], made.task["kind"], made.task["label"]
    assert made.task == {
        "timeout": 60_000_000, "retries": 3, "backoff": 2_000_000, "grace": 0, "max_output": 1 << 20,
        "on_lost": "rerun", "fresh": True,
    }  # fmt: skip
    assert made.job == {
        "name": "n", "tags": ["a", "b"], "queue": "q", "priority": -2, "after": [1], "after_any": [2], "key": "k",
        "concurrency": [["db", 2], ["net", 1]], "now": True,
    }  # fmt: skip


def test_a_long_first_backoff_raises_the_longest(here: Path) -> None:
    assert command(["x"], Options(backoff="1h")).task["backoff_max"] == 3_600_000_000


def test_a_delayed_start(here: Path) -> None:
    import time

    before = time.time_ns() // 1000
    due = command(["x"], Options(delay="1h")).job["due"]
    assert before + 3_600_000_000 <= due <= time.time_ns() // 1000 + 3_600_000_000
    assert command(["x"], Options(at="2100-01-01T00:00Z")).job["due"] == 4_102_444_800_000_000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": "-5s"}, "--timeout: -5s is negative"),
        ({"timeout": "0"}, "--timeout: 0"),
        ({"timeout": "soon"}, "--timeout: 'soon' is not"),
        ({"retries": "-1"}, "--retries: -1 is less than 0"),
        ({"retries": "x"}, "--retries: 'x' is not a whole number"),
        ({"retries": 1 << 40}, "too large"),
        ({"priority": "1.5"}, "--priority"),
        ({"max_output": "-1"}, "--max-output"),
        ({"on_lost": "maybe"}, "--on-lost"),
        ({"delay": "-1s"}, "--in"),
        ({"delay": "1s", "at": "12:00"}, "--in and --at"),
        ({"at": "never"}, "--at"),
        ({"concurrency": ["db=0"]}, "less than 1"),
        ({"concurrency": ["db"]}, "is not KEY=N"),
        ({"name": "12"}, "cannot be a name"),
        ({"name": "last"}, "cannot be a name"),
        ({"name": "-x"}, "read as an option"),
        ({"name": ""}, "1 to 200"),
        ({"name": "a\nb"}, "1 to 200"),
        ({"tags": [""]}, "--tag"),
        ({"cwd": "none"}, "--cwd: none does not exist"),
        ({"cwd": "/etc/passwd"}, "is not a directory"),
        ({"env": ["NOT_SET_ANYWHERE"]}, "is not set here"),
        ({"env": ["=x"]}, "--env"),
        ({"env_file": ["none.env"]}, "none.env"),
        ({"nonsense": 1}, "there is no option nonsense"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(here: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        command(["true"], Options(**options))


def test_names() -> None:
    assert check_name("日本 1") == "日本 1"


# Surroundings ---------------------------------------------------------------------


def test_the_environment_is_the_callers_then_files_then_options(here: Path) -> None:
    (here / "a.env").write_text("A=file\nB=file\n")
    caller = {"A": "caller", "C": "caller", "PATH": "/bin"}
    found = environment(files=["a.env"], given=["B=option"], caller=caller)
    assert found == {"A": "file", "B": "option", "C": "caller", "PATH": "/bin", "PYTHONUNBUFFERED": "1"}


def test_output_is_unbuffered_unless_the_caller_said_otherwise(here: Path) -> None:
    assert environment(caller={"PYTHONUNBUFFERED": ""})["PYTHONUNBUFFERED"] == ""


def test_the_environment_is_that_of_the_moment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is copied once and kept until it changes."""
    for word in ("one", "two", "\udcff"):
        monkeypatch.setenv("WORD", word)
        first = environment()
        assert first["WORD"] == word
        first["WORD"] = "changed by who was given it"
        assert environment()["WORD"] == word
    monkeypatch.delenv("WORD")
    assert "WORD" not in environment()
    assert environment() == {"PYTHONUNBUFFERED": "1", **os.environ}


def test_no_environment_means_none(here: Path) -> None:
    assert environment(none=True, caller={"A": "1"}) == {}
    assert environment(none=True, given=["A", "B=2"], caller={"A": "1"}) == {"A": "1", "B": "2"}


def test_a_job_in_a_job_does_not_inherit_the_mark(here: Path) -> None:
    assert "VIGIE_ATTEMPT" not in environment(caller={"VIGIE_ATTEMPT": "1.1"})


def test_a_directory_by_a_link_and_back(here: Path) -> None:
    (here / "a" / "b").mkdir(parents=True)
    (here / "link").symlink_to(here / "a" / "b")
    assert directory("link/..") == str((here / "a").resolve())
    assert directory("link") == str(here / "link")
    assert environment(cwd="/x", caller={"PWD": "/y"})["PWD"] == "/x"


def test_a_directory_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="does not exist any more"):
        command(["true"], Options())
    assert command(["true"], Options(cwd="/")).context["cwd"] == "/"


def test_the_interpreter(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = here / "a" / "b"
    deep.mkdir(parents=True)
    assert choose_python(None, str(deep), {}) == sys.executable
    nearest = program(here / "a" / ".venv" / "bin" / "python")
    program(here / ".venv" / "bin" / "python")
    assert choose_python(None, str(deep), {}) == str(nearest)
    active = program(here / "active" / "bin" / "python")
    assert choose_python(None, str(deep), {"VIRTUAL_ENV": str(here / "active")}) == str(active)
    assert choose_python(None, str(deep), {"VIRTUAL_ENV": str(here / "none")}) == str(nearest)
    named = program(here / "bin" / "mypython")
    assert choose_python("mypython", str(deep), {"PATH": str(here / "bin")}) == str(named)
    assert choose_python("./active", str(deep), {}) == str(active)
    for missing in ("none", "./none", "/etc/passwd"):
        with pytest.raises(UsageError, match="there is no interpreter"):
            choose_python(missing, str(deep), {"PATH": "/nowhere"})


def test_the_import_path_leaves_out_what_the_interpreter_knows(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    library = os.path.dirname(os.path.dirname(json.__file__))
    monkeypatch.setattr(sys, "path", ["", library, f"{library}/site-packages", "/opt/mine", "lib"])
    assert import_path("/w") == ["/w", "/opt/mine", str(here / "lib")]
    monkeypatch.setenv("PYTHONPATH", "/p:q")
    assert import_path("/w", own=False) == ["/w", "/p", str(here / "q")]


def test_secrets_are_redacted_in_what_is_shown(here: Path) -> None:
    env = {"A_TOKEN": "1", "DB_PASSWORD": "2", "X": "3", "URL": "https://eve:pw@x/y", "PLAIN": "https://x/y@z:1"}
    shown = redacted(env)
    assert shown["A_TOKEN"] == shown["DB_PASSWORD"] == "(redacted)"
    assert (shown["X"], shown["URL"]) == ("3", "https://eve:(redacted)@x/y")
    assert shown["PLAIN"] == env["PLAIN"]


def test_a_dry_run_says_all_of_it_and_no_secret(here: Path) -> None:
    options = Options(env_none=True, env=["MY_SECRET=hush", "A=1"], timeout="5m", name="n", stdin="none.txt")
    shown = command(["ls", "-l"], options).describe()
    assert shown["argv"] == ["ls", "-l"]
    assert (shown["cwd"], shown["name"], shown["queue"]) == (str(here), "n", "default")
    assert (shown["timeout"], shown["grace"], shown["retries"]) == (300.0, 10.0, 0)
    assert shown["env"] == {"A": "1", "MY_SECRET": "(redacted)"}
    assert "hush" not in repr(shown)


# Sending ----------------------------------------------------------------------------


class Recorder:
    """A client that keeps what it is asked, and answers as told."""

    def __init__(self, home: Home, answer: dict[str, Any] | Exception) -> None:
        self.home = home
        self.answer = answer
        self.asked: dict[str, Any] = {}
        self.input: bytes | None = None

    def call_with_blobs(self, op: str, blobs: Any = (), **fields: Any) -> tuple[dict[str, Any], list[bytes]]:
        self.asked = {"op": op, "blobs": list(blobs), **fields}
        name = fields["job"].get("stdin")
        if name is not None:
            path = Path(self.home.tmp, name)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            self.input = path.read_bytes()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer, []


def send(made: Submission, home: Home, answer: dict[str, Any] | Exception) -> Recorder:
    recorder = Recorder(home, answer)
    made.send(recorder)  # type: ignore[arg-type]
    return recorder


def test_standard_input_is_on_disk_before_the_request(home: Home, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    source = tmp_path / "in"
    source.write_bytes(data)
    for stdin in (str(source), data):
        asked = send(command(["cat"], Options(stdin=stdin)), home, {"ids": [1]})
        assert asked.input == data
        assert asked.asked["job"]["stdin"] == f"{asked.asked['rid']}.in"


@pytest.mark.parametrize("error", [UsageError("x"), NotFound("x"), Conflict("x")])
def test_input_of_a_refused_job_is_deleted(home: Home, error: Exception) -> None:
    with pytest.raises(type(error)):
        send(command(["cat"], Options(stdin=b"x")), home, error)
    assert os.listdir(home.tmp) == []


def test_input_is_not_needed_twice_for_one_key(home: Home) -> None:
    send(command(["cat"], Options(stdin=b"x", key="k")), home, {"ids": [1], "existing": True})
    assert os.listdir(home.tmp) == []


def test_input_that_cannot_be_read(home: Home, tmp_path: Path) -> None:
    for bad in (str(tmp_path / "none"), str(tmp_path)):
        with pytest.raises(UsageError, match="--stdin: cannot read"):
            send(command(["cat"], Options(stdin=bad)), home, {"ids": [1]})
    assert os.listdir(home.tmp) == []


def test_shell_and_function_are_public_too(here: Path) -> None:
    assert shell("a | b", Options()).task["argv"][0] == "/bin/sh"
    assert function("m:f", Options()).blobs == [b"[[],{}]"]


def test_none_is_as_if_an_option_were_not_given() -> None:
    names = [name for name in vars(Options) if not name.startswith("_") and not callable(getattr(Options, name))]
    nothing = Options(**dict.fromkeys(names))
    assert nothing.fields() == Options().fields()
    with pytest.raises(UsageError):
        Options(nonsense=None)
