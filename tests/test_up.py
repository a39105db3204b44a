"""``vigie up`` and ``vigie down``: a project's services from one file, also as PID 1."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import HomeUnderTest, Program, until
from vigie.convert.procfile import parse_procfile, to_toml
from vigie.errors import UsageError
from vigie.manifest import read_manifest

slow = pytest.mark.slow


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    place = tmp_path / "shop"
    place.mkdir()
    return place


def _up(home: HomeUnderTest, place: Path, *words: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    home.leftovers_expected = True
    program = subprocess.Popen(
        [*before, sys.executable, "-m", "vigie", "up", *words], cwd=place, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "VIGIE_HOME": str(home)},
    )  # fmt: skip
    home.started.append(program)
    return program


def _line(program: subprocess.Popen[str], text: str) -> str:
    """Read on until a line holds a text."""
    assert program.stdout is not None
    while line := program.stdout.readline():
        if text in line:
            return line
    raise AssertionError(f"it ended before it said {text!r}")


def _states(vigie: Program) -> dict[str, Any]:
    return {row["name"]: row["state"] for row in json.loads(vigie("service", "list", "--json").stdout)}


# --- Procfiles -------------------------------------------------------------------------


def test_a_procfile_is_read_as_foreman_does() -> None:
    text = "# all of it\nweb: bundle exec rails s -p $PORT\n\nworker:  ./work \"a b\" 'ü'\n"
    found = parse_procfile(text)
    assert found == [("web", "bundle exec rails s -p $PORT"), ("worker", "./work \"a b\" 'ü'")]
    read = read_manifest(to_toml(found, project="shop", env_file=False).encode(), "/srv/shop/Procfile")
    assert read.services["shop.worker"]["shell"] == "./work \"a b\" 'ü'"
    assert [read.services[name]["env"]["PORT"] for name in read.services] == ["5000", "5100"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("web ./serve\n", "Procfile:1: 'web ./serve' is no process"), ("a: x\na: y\n", "Procfile:2: a stands there twice"),
     ("# nothing\n", "names no process")],
)  # fmt: skip
def test_what_is_no_procfile_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("'", ".")):
        parse_procfile(text)


# --- up and down -------------------------------------------------------------------------


@slow
def test_up_mixes_what_they_write_and_ctrl_c_stops_them_in_reverse_order(
    vigie: Program, home: HomeUnderTest, shop: Path
) -> None:
    (shop / ".env").write_text("GREETING=hello\n")
    (shop / "vigie.toml").write_text(
        "[service.db]\nshell = \"echo db up; trap 'echo db down; exit 0' TERM; while :; do sleep 0.05; done\"\n"
        "[service.web]\n"
        "shell = \"echo web up $GREETING; trap 'echo web down; exit 0' TERM; while :; do sleep 0.05; done\"\n"
        'requires = "db"\nenv_file = ".env"\n'
    )
    program = _up(home, shop)
    seen = sorted([_line(program, " up"), _line(program, " up")])
    assert seen == ["db  | db up\n", "web | web up hello\n"]
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    said = [line for line in out.splitlines() if "down" in line]
    assert said == ["web | web down", "db  | db down"]
    assert program.returncode == 130
    assert "stopping, in reverse order" in err
    assert _states(vigie) == {"db": "inactive", "web": "inactive"}


@slow
def test_detached_ones_stay_up_until_down(vigie: Program, home: HomeUnderTest, shop: Path) -> None:
    home.leftovers_expected = True
    (shop / "Procfile").write_text("web: sleep 1000\nworker: sleep 1000\n")
    assert vigie("up", "-d", cwd=shop).returncode == 0
    assert _states(vigie) == {"shop.web": "ready", "shop.worker": "ready"}
    assert vigie("up", "-d", cwd=shop).returncode == 0
    assert vigie("down", cwd=shop).returncode == 0
    assert _states(vigie) == {"shop.web": "inactive", "shop.worker": "inactive"}
    assert not [process for process in home.processes() if "sleep" in process.argv]
    lost = vigie("up", cwd=home.user)
    assert (lost.returncode, "neither a vigie.toml nor a Procfile" in lost.stderr) == (3, True)


@slow
def test_when_an_essential_one_fails_for_good_all_are_stopped(vigie: Program, home: HomeUnderTest, shop: Path) -> None:
    (shop / "vigie.toml").write_text(
        '[service.web]\nrun = ["sleep", "1000"]\n'
        '[service.core]\nshell = "sleep 0.2; exit 3"\nessential = true\nexits = { 3 = "fail" }\n'
    )
    program = _up(home, shop)
    _, err = program.communicate(timeout=60)
    assert program.returncode == 1
    assert "core is essential and has failed" in err
    assert _states(vigie) == {"core": "failed", "web": "inactive"}


@slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of processes needs root")
@pytest.mark.parametrize("essential", [False, True])
def test_as_pid_1_it_reaps_passes_signals_on_and_ends_with_its_services(
    home: HomeUnderTest, shop: Path, need: Any, essential: bool
) -> None:
    orphans = shop / "orphans"
    (shop / "vigie.toml").write_text(
        "[service.web]\n"
        "shell = \"trap 'echo hup' HUP; (setsid sh -c 'sleep 0.1' &) ; echo up; "
        'while :; do sleep 0.05; done"\n'
        "[service.look]\n"
        f'shell = "while :; do grep -c State:.Z /proc/[0-9]*/status | grep -c :1 > {orphans}; sleep 0.1; done"\n'
        '[service.core]\nshell = "while [ ! -e stop ]; do sleep 0.05; done; exit 3"\n'
        'exits = { 3 = "fail" }\n' + ("essential = true\n" if essential else "")
    )
    program = _up(home, shop, before=(need("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child"))
    _line(program, "web  | up")
    (inner,) = [int(word) for word in Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()]
    os.kill(inner, signal.SIGHUP)
    _line(program, "web  | hup")
    until(lambda: orphans.exists() and orphans.read_text().strip() == "0")
    if essential:
        (shop / "stop").touch()
    else:
        os.kill(inner, signal.SIGTERM)
    program.communicate(timeout=60)
    assert program.returncode == int(essential)
    assert not home.processes()
