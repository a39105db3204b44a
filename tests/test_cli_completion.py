"""Completion in real shells, and the quick verb behind it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

Program = Any


@pytest.fixture
def command(home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put ``vigie`` on PATH, as an installation does."""
    path = tmp_path / "bin" / "vigie"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m vigie "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return path


@pytest.fixture
def jobs(vigie: Program) -> None:
    """Make some jobs and a queue to complete."""
    vigie("run", "-n", "report", "--", "true", check=True)
    vigie("start", "--in", "1h", "-n", "later", "--", "true", check=True)
    vigie("queue", "set", "imports", "--slots", "1", check=True)


def complete(vigie: Program, *words: str) -> list[str]:
    lines = vigie("__complete", "--", *words, check=True).stdout.splitlines()
    return [line.partition("\t")[0] for line in lines]


# the verb ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sta"], ["start"]),
        (["nothing"], []),
        (["stop", "--gr"], ["--grace"]),
        (["queue", ""], ["list", "set", "pause", "resume"]),
        (["queue", "set", "x", "--sl"], ["--slots"]),
        (["agent", "re"], ["restart", "restore"]),
        (["agent", "restore", ""], [":files"]),
        (["stop", "--state", "s"], ["suspended", "stopped"]),
        (["stop", "--state=su"], ["--state=suspended"]),
        (["stop", "--state", "=", "su"], ["suspended"]),
        (
            ["stop", "--state", "="],
            ["queued", "blocked", "running", "suspended", "completed", "failed", "stopped", "lost"],
        ),
        (["jobs", "--state", "failed,l"], ["failed,lost"]),
        (["jobs", "--state", "failed,lost,s"], ["failed,lost,suspended", "failed,lost,stopped"]),
        (["jobs", "--state=failed,l"], ["--state=failed,lost"]),
        (["jobs", "--state", "failed,f"], []),
        (["logs", "--stream", "error,r"], ["error,result"]),
        (["start", "--on-lost", ""], ["fail", "rerun"]),
        (["start", "--cwd", ""], [":dirs"]),
        (["start", "--env-file", ""], [":files"]),
        (["start", ""], [":command 1"]),
        (["start", "-n", "x", "--", ""], [":command 1"]),
        (["run", "--now", "ls", "-l", "x"], [":command 3"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["nonsense", ""], []),
        (["help", "exit"], ["exit-codes"]),
    ],
)
def test_candidates(vigie: Program, home: Any, words: list[str], expected: list[str]) -> None:
    assert complete(vigie, *words) == expected
    assert not os.path.exists(home.root)


@pytest.mark.slow
def test_candidates_from_the_store(vigie: Program, home: Any, jobs: None) -> None:
    vigie("agent", "stop", check=True)
    assert complete(vigie, "show", "") == ["2", "1", "report", "later", "last"]
    assert complete(vigie, "show", "re") == ["report"]
    assert complete(vigie, "stop", "") == ["2", "later", "last"]
    assert complete(vigie, "suspend", "") == []
    assert complete(vigie, "start", "--queue", "") == ["default", "imports"]
    assert complete(vigie, "start", "--after", "l") == ["later", "last"]
    assert complete(vigie, "queue", "pause", "i") == ["imports"]
    assert complete(vigie, "jobs", "--name", "") == ["later", "report"]
    # It only read.
    assert home.processes("agent") == []


def test_a_damaged_store_is_no_reason_for_a_message(vigie: Program, home: Any) -> None:
    home.create()
    Path(home.db).write_bytes(b"x" * 5000)
    done = vigie("__complete", "--", "show", "")
    assert (done.stdout, done.stderr) == ("", "")


# shells -----------------------------------------------------------------------------


def shell(*argv: str) -> list[str]:
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL, cwd=os.environ["HOME"]
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def bash(need: Any, *words: str) -> list[str]:
    quoted = " ".join("'" + word + "'" for word in words)
    script = (
        "source <(vigie completion bash)\n"
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
        "$(complete -p vigie | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
        "((${#COMPREPLY[@]} == 0)) || printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    return shell(need("bash"), "--norc", "-c", script)


@pytest.mark.slow
def test_bash(need: Any, command: Path, jobs: None) -> None:
    assert bash(need, "vigie", "sta") == ["start"]
    assert bash(need, "vigie", "show", "re") == ["report"]
    assert bash(need, "vigie", "stop", "--state", "=", "su") == ["suspended"]
    assert bash(need, "vigie", "jobs", "--state", "failed,l") == ["failed,lost"]
    assert bash(need, "vigie", "queue", "pause", "") == ["default", "imports"]
    assert bash(need, "vigie", "nonsense", "") == []
    assert "bash" in bash(need, "vigie", "run", "--", "bas")
    assert bash(need, str(command), "sta") == ["start"]


@pytest.mark.slow
def test_fish(need: Any, command: Path, jobs: None) -> None:
    def fish(line: str) -> list[str]:
        script = f"source (vigie completion fish | psub); complete -C '{line}'"
        return [found.partition("\t")[0] for found in shell(need("fish"), "--no-config", "-c", script)]

    assert fish("vigie sta") == ["start"]
    assert fish("vigie show re") == ["report"]
    assert fish("vigie stop --state su") == ["suspended"]
    assert fish("vigie stop --state=su") == ["--state=suspended"]
    assert fish("vigie jobs --state failed,l") == ["failed,lost"]
    assert fish("vigie jobs --state=failed,l") == ["--state=failed,lost"]
    assert fish("vigie queue pause i") == ["imports"]
    assert "bash" in fish("vigie run -- bas")


@pytest.mark.slow
def test_zsh(need: Any, command: Path, jobs: None) -> None:
    # A pseudo-terminal is the only place where zsh completes.
    driver = """
zmodload zsh/zpty
zpty z PS1='' zsh -f -i
zpty -w z 'PS1=""; unsetopt beep prompt_cr prompt_sp; autoload -U compinit; compinit -D -u'
zpty -w z 'source <(vigie completion zsh)'
zpty -w z 'null-line () { print -r -- "<<$BUFFER>>"; zle kill-whole-line; }; zle -N null-line; bindkey "^X" null-line'
zpty -w z 'print -r RE''ADY'
zpty -r z got '*READY*'
complete_line () { zpty -n -w z "$1"$'\\t\\x18'; zpty -r z got '*<<*>>*'; print -r -- "${${got##*<<}%%>>*}"; }
for line in "$@"; do complete_line "$line"; done
zpty -d z
"""
    lines = [
        "vigie sta",
        "vigie show re",
        "vigie stop --state su",
        "vigie jobs --state failed,l",
        "vigie queue pause i",
    ]
    found = shell(need("zsh"), "-f", "-c", driver, "zsh", *lines)
    assert found == [
        "vigie start ",
        "vigie show report ",
        "vigie stop --state suspended ",
        "vigie jobs --state failed,lost ",
        "vigie queue pause imports ",
    ]
