"""Every example runs as it stands, and says what it should."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

pytestmark = pytest.mark.slow


@pytest.fixture
def example(vigie):
    """Give a runner: ``example("pipeline.py", …)`` ends well and gives what it printed."""

    def run(name, *args, code=0):
        path = EXAMPLES / name
        command = [sys.executable, path] if path.suffix == ".py" else ["/bin/sh", path]
        programs = {"PATH": f"{Path(sys.executable).parent}:{vigie.environment()['PATH']}"}
        done = subprocess.run(
            [*command, *map(str, args)], capture_output=True, text=True, check=False, timeout=60,
            cwd=vigie.home.user, env=vigie.environment(programs),
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def test_servers_are_pinged(example, vigie):
    done = example("ping_servers.py", "127.0.0.1", "localhost")
    assert done.stdout == "127.0.0.1: answers\nlocalhost: answers\n"
    assert ("ping is not installed" in done.stderr) == (shutil.which("ping") is None)
    assert "ping-localhost" in vigie("jobs", "--tag", "ping").stdout


def test_a_server_that_is_silent_is_said(example, tmp_path, monkeypatch):
    fake = tmp_path / "ping"
    fake.write_text('#!/bin/sh\n[ "$5" = up ] || { echo "100% packet loss"; exit 1; }\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    done = example("ping_servers.py", "up", "down", code=1)
    assert done.stdout == "up: answers\ndown: exit 1 100% packet loss\n"


def test_a_large_directory_is_listed(example, tmp_path):
    for number in range(40):
        directory = tmp_path / "tree" / str(number)
        directory.mkdir(parents=True)
        for file in range(50):
            (directory / f"{file}.txt").write_bytes(b"x" * file)
    (tmp_path / "tree" / "7" / "big").write_bytes(b"x" * 5000)
    done = example("list_directory.py", tmp_path / "tree")
    assert done.stdout == f"2001 files, {40 * sum(range(50)) + 5000} bytes\nlargest: 7/big, 5000 bytes\n"


def test_errors_of_sample_logs_are_counted(example):
    lines = example("count_errors.py").stdout.splitlines()
    counts = [int(line.split()[0]) for line in lines]
    assert len(lines) == 6
    assert counts[:5] == sorted(counts[:5], reverse=True)
    assert counts[5] == sum(counts[:5]) > 0


def test_errors_are_counted_and_the_unreadable_is_said(example, tmp_path):
    (tmp_path / "a.log").write_text("ERROR 1\nINFO\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.log").write_text("ERROR 1\nERROR 2\n")
    (tmp_path / "c.log").symlink_to("nowhere")
    done = example("count_errors.py", tmp_path, code=1)
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["2", "of", "2", "lines", "sub/b.log"],
        ["1", "of", "2", "lines", "a.log"],
        ["3", "errors", "in", "2", "files"],
    ]
    assert "c.log" in done.stderr
    assert "No such file" in done.stderr


def test_the_pipeline_ends_with_its_report(example, vigie):
    done = example("pipeline.py")
    assert done.stdout == "4 the\n2 and\n2 dog\n2 moon\n1 a\n1 cat\nlines in all parts: 3\nclean-up: completed\n"
    assert vigie("jobs", "--state", "failed,lost", "--json").stdout == "[]\n"


def test_the_download_comes_at_the_third_attempt(example, vigie):
    done = example("flaky_download.py")
    digest = hashlib.sha256(b"the moon and the sea\n" * 1000).hexdigest()
    assert done.stdout == f"21000 bytes at attempt 3, sha256 {digest[:16]}…\n"
    assert vigie("logs", "download").stdout.count("asking http://127.0.0.1") == 3


def test_jobs_are_gathered(example):
    assert example("gather.py").stdout.splitlines() == [
        "live: 3",
        "live: 2",
        "live: 1",
        "live: lift-off",
        "steps: [8, 16, 111, 118, 178]",
        "84 by 0: exception: integer division or modulo by zero",
        "84 by 2: (42, 0)",
    ]


def test_a_backup_is_whole(example, tmp_path, vigie):
    source, target = tmp_path / "it's a source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "a").write_text("one")
    (source / "b").write_text("two")
    done = example("backup.py", source, target)
    archive, summed = sorted(target.iterdir())
    assert re.fullmatch(rf"2 files in {re.escape(str(archive))}, sha256 [0-9a-f]{{16}}…\n", done.stdout)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert summed.read_text() == f"{digest}  {archive.name}\n"
    assert len(vigie("jobs", "--tag", "backup", "--state", "completed").stdout.splitlines()) == 4


def test_jobs_in_a_shell_script(example, tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("x")
    lines = example("start_wait_receive.sh", tmp_path).stdout.splitlines()
    assert lines[0] == "files: 2"
    assert re.fullmatch(r"kilobytes: \d+", lines[1])
    assert re.fullmatch(r"3 \(broken\) failed .*: exit code 3\.", lines[2])
    assert lines[3:] == ["  | no such table", "0 lines from what needed it"]


def test_a_tree_is_summed_once(example, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    contents = {"a": b"one", "b\nc": b"two", "d": b"three", "e": b"four"}
    for name, content in contents.items():
        (tree / name).write_bytes(content)
    (tree / "link").symlink_to("a")
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    lines = [f"{sums['a']}  a", f"\\{sums[chr(98) + chr(10) + 'c']}  b\\nc", f"{sums['d']}  d", f"{sums['e']}  e"]
    assert example("checksums.py", tree).stdout.splitlines() == lines

    # One looks as it did, so that nobody reads it again; another does not.
    about = os.stat(tree / "a")
    (tree / "a").write_bytes(b"ONE")
    os.utime(tree / "a", ns=(about.st_atime_ns, about.st_mtime_ns))
    (tree / "d").write_bytes(b"three and more")
    lines[2] = f"{hashlib.sha256(b'three and more').hexdigest()}  d"
    assert example("checksums.py", tree).stdout.splitlines() == lines
    lines[0] = f"{hashlib.sha256(b'ONE').hexdigest()}  a"
    assert example("checksums.py", tree, "--fresh").stdout.splitlines() == lines


def test_a_pool_outlives_its_calls(example):
    *lines, stats = example("pool.py").stdout.splitlines()
    assert lines == [
        "(: no pattern: missing ), unterminated subpattern at position 0",
        "(a+)+$: given up",
        r"\bs\w+a\b: found in 2 lines",
        "m[aeo]+n?: found in 2 lines",
        "moon: found in 2 lines",
        "crash: the worker that had the call was killed by SIGSEGV",
        "stopped: True and what waited: found in 3 lines",
    ]
    assert re.fullmatch(r"PoolStats\(limit=1, .*, done=4, failed=3, stopped=1, cancelled=0\)", stats)


def test_every_example_is_listed_and_tested():
    programs = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh", ".ipynb", ".toml")}
    listed = set(re.findall(r"\]\(([\w.]+)\)", (EXAMPLES / "README.md").read_text()))
    tests = [
        Path(__file__).with_name(f"test_{name}.py")
        for name in ("examples", "examples_schedules", "examples_services", "notebook")
    ]
    tested = {name for path in tests for name in re.findall(r'(?:example\(|EXAMPLES / )"([\w.]+)"', path.read_text())}
    assert listed == programs
    assert tested >= programs
