"""The command line itself: verbs, help, errors, and what a start may not cost."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from typing import Any

import pytest

import vigie.cli.options
import vigie.cli.start
from vigie.cli.main import _ELSEWHERE, VERBS, load, main, parser_of
from vigie.cli.options import parse, split_words
from vigie.errors import UsageError

Program = Any


def existing() -> list[str]:
    found = []
    for verb in VERBS:
        try:
            load(verb)
        except ModuleNotFoundError:
            continue
        found.append(verb)
    return found


@pytest.mark.parametrize("module", [vigie.cli.options, vigie.cli.start])
def test_examples_of_the_docstrings(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


# Splitting ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ([], [], False)),
        (["ls"], ([], ["ls"], False)),
        (["ls", "-n", "x"], ([], ["ls", "-n", "x"], False)),
        (["-n", "x", "ls"], (["-n", "x"], ["ls"], False)),
        (["-nx", "ls"], (["-nx"], ["ls"], False)),
        (["--name=x", "ls"], (["--name=x"], ["ls"], False)),
        (["--name", "--", "ls"], (["--name", "--"], ["ls"], False)),
        (["--now", "--", "-x"], (["--now"], ["-x"], True)),
        (["--", "--"], ([], ["--"], True)),
        (["ls", "--", "x"], ([], ["ls", "--", "x"], False)),
        (["-", "x"], ([], ["-", "x"], False)),
    ],
)
def test_what_begins_at_the_first_word_that_is_no_option(words: list[str], expected: Any) -> None:
    assert split_words(words) == expected


def test_the_table_reads_what_the_parser_would() -> None:
    words = ["--name=a=b", "--tag", "x", "--tag=y", "--now", "-f", "m:f", "--timeout", "-5s", "--env", "A=-1"]
    by_table = parse(words, "vigie run")
    assert by_table is not None
    joined = ["--name=a=b", "--tag=x", "--tag=y", "--now", "-fm:f", "--timeout=-5s", "--env=A=-1"]
    by_parser = parser_of("run", load("run")).parse_args(joined)
    assert {name: value for name, value in vars(by_table).items() if name not in ("what", "literal")} == vars(by_parser)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nam", "x"], "there is no option --nam"),
        (["-x", "ls"], "there is no option -x"),
        (["--timeout"], "--timeout needs a value"),
        (["--now=1", "ls"], "--now takes no value"),
    ],
)
def test_wrong_options_of_start(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(words, "vigie start")


# Verbs and help -----------------------------------------------------------------


@pytest.mark.parametrize("verb", [verb for verb in existing() if not verb.startswith("_")])
def test_every_verb_has_a_help_with_examples(verb: str, home: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "-h"] if verb else ["help"]) == 0
    said = capsys.readouterr().out
    if verb:
        assert f"usage: vigie {verb}" in said
        assert "vigie " in said.partition("\nexamples:\n")[2]
        assert f"vigie {verb} -h" not in said


def test_the_help_lists_every_verb_that_works(vigie: Program) -> None:
    said = vigie("help", check=True).stdout
    for verb in existing():
        if verb and not verb.startswith("_"):
            assert f"vigie {verb} " in said
    assert said == vigie("--help", check=True).stdout
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("states", "suspended   frozen"),
        ("state", "suspended   frozen"),
        ("lost", "a state of a job"),
        ("oom", "a reason why a job failed"),
        ("exit codes", "127 not found"),
        ("exit-codes", "127 not found"),
        ("values", "PT1H30M"),
        ("keeper", "survives the agent"),
        ("queue", "vigie queue set"),
    ],
)
def test_words_are_explained(vigie: Program, word: str, said: str) -> None:
    assert said in vigie("help", word, check=True).stdout


def test_a_word_that_nobody_knows(vigie: Program) -> None:
    done = vigie("help", "keepr")
    assert (done.returncode, done.stdout) == (3, "")
    assert "did you mean keeper" in done.stderr


def test_the_version(vigie: Program) -> None:
    from vigie import __version__

    for word in ("--version", "version"):
        assert vigie(word, check=True).stdout == f"vigie {__version__}\n"


def test_a_verb_that_does_not_exist(vigie: Program) -> None:
    done = vigie("strat", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "vigie: there is no verb strat\n  did you mean vigie start?\n"
    assert vigie("tail", "x").stderr == "vigie: there is no verb tail\n  did you mean vigie logs -f?\n"
    for word in _ELSEWHERE.values():
        assert word.partition(" ")[0] in existing()
    assert not set(_ELSEWHERE) & set(VERBS)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["start"], 2, "nothing to run"),
        (["run"], 125, "nothing to run"),
        (["run", "--timeout", "-1", "--", "true"], 125, "--timeout: -1 is negative"),
        (["start", "--timeout=-1", "--", "true"], 2, "--timeout: -1 is negative"),
        (["start", "--cwd", "/nowhere", "--", "true"], 2, "/nowhere does not exist"),
        (["start", "-f", "m:f", "--args", "{1}"], 2, "at character 2"),
        (["start", "--after", "7", "--", "true"], 3, "7"),
        (["start", "--after", "nobody", "--", "true"], 3, "nobody"),
        (["stop"], 2, "which jobs?"),
        (["stop", "7"], 3, "7"),
        (["stop", "nobody"], 3, "nobody"),
        (["stop", "--all", "7"], 2, "two choices"),
        (["stop", "--state", "sleeping"], 2, "sleeping"),
        (["wait", "7", "--timeout", "-1"], 2, "negative"),
        (["wait", "--nonsense"], 2, "--nonsense"),
        (["remove", "--older-than", "1d"], 2, "--finished"),
        (["remove", "--finished", "7"], 2, "--finished"),
        (["queue", "--slots"], 2, "queue list: there is no option --slots"),
        (["queue", "set"], 2, "queue set: NAME is missing"),
        (["queue", "set", "x"], 2, "give --slots N (or default), --rate R (or none), or both"),
        (["queue", "sett", "x"], 2, "sett is none of list, set, pause, resume\n  did you mean vigie queue set? · "),
        (["queue", "set", "x", "--slot", "1"], 2, "did you mean --slots? · vigie queue set --help"),
        (["agent", "stpo"], 2, "did you mean vigie agent stop? · vigie agent --help"),
        (["completion", "tcsh"], 2, "tcsh is none of bash, fish, zsh"),
        (
            ["show"],
            2,
            "show: JOB is missing: id, name (its newest), last, or - (an id on stdin)\n  vigie show --help\n",
        ),
        (["show", "1", "2"], 2, "2 is one word too many: it takes JOB and no more\n  vigie show --help"),
        (
            ["jobs", "failed"],
            2,
            "jobs: it takes only options, and failed is none\n  did you mean --state failed? · vigie jobs --help",
        ),
        (["jobs", "--state", "fail"], 2, "did you mean failed? states: queued"),
        (["logs", "--stream", "eror", "1"], 2, "did you mean error? streams: output"),
        (["jobs", "copy"], 2, "did you mean --name copy?"),
        (["jobs", "12"], 2, "did you mean vigie show 12?"),
        (["jobs", "--json=1"], 2, "jobs: --json takes no value"),
        (["jobs", "--limit"], 2, "jobs: --limit needs a value"),
        (["jobs", "--limit", "--json"], 2, "jobs: --limit needs a value\n"),
        (["jobs", "--since", "-2h"], 2, "jobs: --since needs a value; if -2h is it: --since=-2h"),
        (["jobs", "--stat", "failed"], 2, "there is no option --stat\n  did you mean --state? · vigie jobs --help\n"),
        (
            ["jobs", "--since", "yesterday"],
            2,
            "--since: 'yesterday' is not a time\n  write it as 2h or 30m (ago), 14:00",
        ),
        (["logs", "-n", "x", "1"], 2, "logs: -n: 'x' is not a whole number\n  vigie logs --help\n"),
        (["logs", "-nx", "1"], 2, "logs: -n: 'x' is not a whole number"),
        (["logs", "--lines=x", "1"], 2, "logs: --lines: 'x' is not a whole number"),
        (["logs", "-x"], 2, "logs: there is no option -x"),
        (["events", "--limit", "many"], 2, "events: --limit: 'many' is not a whole number"),
        (["start", "--timout", "5m", "ls"], 2, "did you mean --timeout? · vigie start --help"),
        (["queue", "set", "7"], 2, "cannot be a name"),
        (["queue", "set", "a", "--slots", "many"], 2, "--slots"),
        (["queue", "set", "a", "--rate", "0/s"], 2, "--rate"),
        (["queue", "pause", "nobody"], 3, "there are: default"),
        (["queue", "pause", "defualt"], 3, "did you mean default?"),
        (["agent", "status"], 4, "does not run"),
        (["agent", "restore", "none.db"], 2, "there is no file"),
    ],
)
def test_bad_input_is_named_and_starts_nothing(
    vigie: Program, home: Any, words: list[str], code: int, said: str
) -> None:
    done = vigie(*words)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("vigie: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert home.processes() == []
    assert not os.path.exists(home.root)


def test_help_comes_whatever_else_is_wrong(vigie: Program) -> None:
    assert vigie("logs", "--nonsense", "-h", check=True).stdout.startswith("usage: vigie logs")


def test_words_behind_a_later_option_count_too(home: Any) -> None:
    def jobs(verb: str, *words: str) -> list[str]:
        found: list[str] = parser_of(verb, load(verb)).parse_args(words).jobs
        return found

    assert jobs("stop", "1", "--grace", "5s", "2") == ["1", "2"]
    assert jobs("logs", "-f", "1", "-n", "-5", "2", "-") == ["1", "2", "-"]
    assert jobs("logs", "-fn3", "1") == ["1"]
    assert jobs("logs", "--", "-f") == ["-f"]


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("stop", "all jobs that have not ended"),
        ("suspend", "all jobs that run"),
        ("retry", "all jobs that failed"),
        ("jobs", "all jobs: those of schedules"),
    ],
)
def test_the_help_says_all_of_what(verb: str, said: str) -> None:
    assert said in " ".join(parser_of(verb, load(verb)).format_help().split())


def test_a_traceback_only_when_asked_for(vigie: Program) -> None:
    assert "Traceback" in vigie("stop", "7", env={"VIGIE_DEBUG": "1"}).stderr


def test_a_dry_run_touches_nothing(vigie: Program, home: Any) -> None:
    done = vigie("start", "--dry-run", "--env", "A_TOKEN=hush", "-n", "x", "--in", "1h", "--", "ls", "a b", check=True)
    assert 'argv:         ["ls", "a b"]' in done.stdout
    assert "A_TOKEN=(redacted)" in done.stdout
    assert "hush" not in done.stdout
    assert not os.path.exists(home.root)
    import json

    shown = json.loads(vigie("run", "--dry-run", "--json", "--", "ls", check=True).stdout)
    assert shown["argv"] == ["ls"]


def test_a_home_that_cannot_be_made(vigie: Program, home: Any) -> None:
    with open(home.root, "w"):
        pass
    done = vigie("start", "--", "true")
    assert (done.returncode, done.stdout) == (4, "")
    assert f"cannot use {home.root}" in done.stderr


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupt_in_a_destructor_is_not_lost(name: str, code: int) -> None:
    """Python lets nothing out of one: the verb would go on as if nobody had typed Ctrl-C."""
    program = f"""
import os, signal, sys, time
from vigie.cli import main
class Verb:
    def run(args, out):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
        Dying()
        print("the destructor has returned", flush=True)
        time.sleep(60)
        return 0
    parse = lambda words, prog: words
class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
main.load = lambda verb: Verb
sys.argv = ["vigie", "start"]
main.entry()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (code, "")
    # It may come again before the next line or behind it.
    assert done.stdout in ("", "the destructor has returned\n")


def test_nobody_reads_the_output(home: Any) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "vigie", "help"], stdout=write, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_behind_stdout(home: Any) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vigie", "help"], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"vigie: No space left on device")


# What a start may not load ----------------------------------------------------------

HEAVY = {
    "apsw", "argparse", "asyncio", "cloudpickle", "concurrent", "dataclasses", "datetime", "gettext", "hashlib",
    "inspect", "locale", "logging", "pathlib", "pickle", "shutil", "subprocess", "tempfile", "threading", "traceback",
    "typing", "uuid", "zoneinfo",
}  # fmt: skip


def test_a_start_loads_nothing_heavy(home: Any) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from vigie.cli.main import main\n"
        "main(['start', '-n', 'x', '--timeout', '5m', '--tag', 'a', '--', 'true'])\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    home.create()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split()[1:])
    assert done.stdout.split()[0].isdigit()
    assert "vigie" in loaded
    assert not loaded & HEAVY
