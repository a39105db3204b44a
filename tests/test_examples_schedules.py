"""The examples of schedules: added by the line that each of them shows, run, and looked at for what they did."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vigie import declaration
from vigie.cli import schedule, schedule_options

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
DAY = 86_400


def shown(script: str) -> str:
    """Give the line that a script shows for scheduling it."""
    text = (EXAMPLES / script).read_text().replace("\\\\\n", "\\\n").replace("\n#", "\n")
    found = re.search(r"^ +(vigie schedule add (?:.*\\\n)*.*)$", text, re.M)
    assert found is not None
    return found[1]


@pytest.fixture
def example(vigie: Any) -> Callable[..., str]:
    """Give a runner: ``example("hello.sh")`` adds its schedule as shown and gives its name."""

    def add(script: str, directory: Path = EXAMPLES) -> str:
        line = shown(script)
        programs = {"PATH": f"{Path(sys.executable).parent}:{vigie.environment()['PATH']}"}
        subprocess.run(["/bin/sh", "-ec", line], check=True, cwd=directory, env=vigie.environment(programs), timeout=60)
        return line.split()[3]

    return add


def run(vigie: Any, name: str) -> tuple[str, list[str]]:
    """Run a schedule now; give the state in which its job ends, and what it wrote."""
    job = vigie("schedule", "run", name, check=True).stdout.strip()
    lines = vigie("logs", "-f", job).stdout.splitlines()
    (last,) = json.loads(vigie("schedule", "history", name, "-n", "1", "--json").stdout)
    assert str(last["job"]) == job
    assert (last["outcome"], last["cause"]) == ("ran", "by hand")
    return last["state"], lines


@pytest.mark.slow
def test_hello_is_said(example: Callable[..., str], vigie: Any) -> None:
    name = example("hello.sh")
    state, (line,) = run(vigie, name)
    assert state == "completed"
    assert re.fullmatch(r"Hello \w+, it is \w+, \d\d:\d\d\.", line)
    (plan,) = json.loads(vigie("schedule", "list", "--json").stdout)
    assert plan["next"][11:16] == "09:00"


@pytest.mark.slow
def test_old_temporary_files_go_and_others_stay(example: Callable[..., str], vigie: Any, tmp_path: Path) -> None:
    place = Path(vigie.home.user) / "tmp"
    kept = tmp_path / "kept"
    old = time.time() - 8 * DAY
    (place / "emptied" / "deep").mkdir(parents=True)
    (place / "empty").mkdir()
    for name in ("old", "emptied/deep/old", "emptied/a b\n"):
        (place / name).write_bytes(b"x" * 5_000)
    kept.write_text("linked to")
    (place / "link").symlink_to(kept)
    (place / "new").write_text("new")
    for path in [*place.rglob("*"), kept]:
        if path.name != "new":
            os.utime(path, (old, old), follow_symlinks=False)
    os.mkfifo(place / "pipe")
    os.utime(place / "pipe", (old, old))

    name = example("clean_temporary.py")
    state, (line,) = run(vigie, name)
    assert state == "completed"
    assert line == f"{place}: 4 files and 2 directories deleted, 0.0 MB"
    assert sorted(path.name for path in place.rglob("*")) == ["empty", "new", "pipe"]
    assert kept.read_text() == "linked to"
    _, (line,) = run(vigie, name)
    assert "0 files and 0 directories" in line


@pytest.mark.slow
@pytest.mark.parametrize("directory", ["/", "~", "~/link"])
def test_nobody_cleans_more_than_temporary_files(directory: str, vigie: Any) -> None:
    (Path(vigie.home.user) / "link").symlink_to(vigie.home.user)
    done = subprocess.run(
        [sys.executable, EXAMPLES / "clean_temporary.py", "--dry-run", directory],
        capture_output=True, text=True, check=False, env=vigie.environment(),
    )  # fmt: skip
    assert done.returncode == 2
    assert "holds more than temporary files" in done.stderr


SERVICES = """\
[clock]
start = ["sh", "-c", "while :; do date; sleep 60; done"]
[web]
start = ["sh", "-c", "touch up; exec sleep 600"]
check = ["test", "-e", "up"]
"""
BROKEN = """\
[broken]
start = ["false"]
"""


@pytest.mark.slow
def test_services_that_do_not_run_are_started(example: Callable[..., str], vigie: Any, tmp_path: Path) -> None:
    place = tmp_path / "services"
    place.mkdir()
    shutil.copy(EXAMPLES / "keep_running.py", place)
    (place / "services.toml").write_text(SERVICES + BROKEN)
    name = example("keep_running.py", place)

    def living() -> dict[str, int]:
        rows = json.loads(vigie("jobs", "--tag", "service", "--state", "running", "--json").stdout)
        return {row["name"]: row["id"] for row in rows}

    state, lines = run(vigie, name)
    first = living()
    assert state == "failed"
    assert set(first) == {"clock", "web"}
    assert lines[:2] == [f"clock: started as job {first['clock']}", f"web: started as job {first['web']}"]
    assert re.fullmatch(r"broken: failed at once; vigie why \d+", lines[2])

    (place / "services.toml").write_text(SERVICES)
    assert run(vigie, name) == ("completed", ["clock: well", "web: well"])
    assert living() == first

    vigie("stop", "clock", check=True)
    (place / "up").unlink()
    state, lines = run(vigie, name)
    second = living()
    assert state == "completed"
    assert lines == [
        f"web: job {first['web']} runs and does not answer; stopped",
        f"clock: started as job {second['clock']}",
        f"web: started as job {second['web']}",
    ]
    assert not set(first.values()) & set(second.values())
    vigie("stop", "--tag", "service", check=True)


def test_the_services_that_come_with_it_can_be_read() -> None:
    services = tomllib.loads((EXAMPLES / "services.toml").read_text())
    assert services
    for service in services.values():
        assert set(service) <= {"start", "check"}
        assert all(isinstance(word, str) for words in service.values() for word in words)


@pytest.mark.slow
def test_a_page_says_how_full_the_disks_are(example: Callable[..., str], vigie: Any) -> None:
    state, lines = run(vigie, example("disk_report.py"))
    path = Path(vigie.home.user) / "disk.html"
    page = path.read_text()
    assert lines[0].startswith(f"{path}: ")
    assert (state == "failed") == ('class="low"' in page)
    assert page.count("<tr") == page.count("</tr>") == int(lines[0].split()[1]) + 1
    assert re.search(r"<td>/</td><td class=\"n\">[\d.]+ [MGT]iB</td>", page)
    assert sorted(os.listdir(vigie.home.user)) == ["disk.html"]


@pytest.mark.slow
def test_a_disk_with_too_little_room_is_said(vigie: Any, tmp_path: Path) -> None:
    place = tmp_path / "<b>&\udcff"
    place.mkdir()
    page = tmp_path / "page.html"
    command = [sys.executable, str(EXAMPLES / "disk_report.py"), "-o", str(page), str(place), "/proc"]
    vigie("schedule", "add", "low", "daily 07:00", "--", *command, "--least", "100", check=True)
    state, lines = run(vigie, "low")
    assert state == "failed"
    assert lines[0] == f"{page}: 1 file system"
    assert re.fullmatch(r"'.*<b>&\\udcff' has \d+% free, .*B", lines[1])
    text = page.read_text()
    assert 'class="low"' in text
    assert "&lt;b&gt;&amp;�" in text
    assert "<b>" not in text


SCRIPTS = ["hello.sh", "clean_temporary.py", "keep_running.py", "disk_report.py"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_file_declares_what_the_script_shows(script: str) -> None:
    args = schedule.parse(shlex.split(shown(script))[2:], "vigie schedule")
    typed = schedule_options.table(args)
    declared = tables()[args.name]
    same = ("when", "jitter", "if", "timeout")
    assert {key: declared.get(key) for key in same} == {key: typed.get(key) for key in same}
    found = declaration.schedule(args.name, declared, base=str(EXAMPLES))
    assert script in " ".join(found.submission.task["argv"])


@pytest.mark.slow
def test_the_file_can_be_applied(vigie: Any) -> None:
    file = str(EXAMPLES / "vigie.toml")
    vigie("apply", file, check=True)
    found = json.loads(vigie("schedule", "list", "--json").stdout)
    assert {plan["name"] for plan in found} == {f"examples.{line.split()[3]}" for line in map(shown, SCRIPTS)}
    assert {plan["owner"] for plan in found} == {file}
    state, (line,) = run(vigie, "examples.hello")
    assert (state, line.split()[0]) == ("completed", "Hello")
    state, (line,) = run(vigie, "examples.clean")
    assert (state, line) == ("failed", f"{vigie.home.user}/tmp: No such file or directory")
    run(vigie, "examples.disk-report")
    assert os.listdir(vigie.home.user) == ["disk.html"]


def tables() -> dict[str, dict[str, Any]]:
    """Give the schedules of the file."""
    return tomllib.loads((EXAMPLES / "vigie.toml").read_text())["schedule"]
