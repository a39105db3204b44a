"""Services from Python programs, and why a service is as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import vigie
from conftest import HomeUnderTest, Program, until
from vigie.errors import NotFound, NotSerializable, UsageError
from vigie.why_service import explain

slow = pytest.mark.slow
NOW = 1_000_000_000


def _row(name: str, state: str, cause: str, **more: object) -> dict[str, object]:
    plan = json.dumps({"requires": more.pop("requires", [])})
    each = {
        "name": name, "state": state, "desired": "up", "cause": cause, "since": NOW - 5_000_000, "failures": 0,
        "restarts": 0, "due": None, "detail": "{}", **more,
    }  # fmt: skip
    return {"name": name, "plan": plan, "mode": "automatic", "instances": [each]}


def test_the_chain_of_causes_is_told_down_to_its_end() -> None:
    api = _row("api", "degraded", "db is in backoff: exit 1", requires=["db"])
    db = _row("db", "backoff", "exit 1", failures=4, due=NOW + 8_000_000, requires=["disk"])
    disk = _row("disk", "failed", "exit 2, on which it is held until somebody starts it")
    others = {"api": api, "db": db, "disk": disk}
    made = explain(api, others, {"db": "cannot open /srv/x"}, NOW, agent=True)
    assert made.sentences == [
        "api is degraded since 5s ago because db is in backoff: exit 1.",
        "  db is in backoff since 5s ago: exit 1, four times in a row; next try in 8s; last line: cannot open /srv/x.",
        "  disk is failed since 5s ago: exit 2, on which it is held until somebody starts it.",
    ]
    assert "No agent runs, so nothing restarts it." in explain(db, others, {}, NOW, agent=False).sentences


@slow
def test_why_and_the_overview_tell_of_what_is_down(vigie: Program, home: HomeUnderTest) -> None:
    home.leftovers_expected = True
    line = "echo no disk >&2; exit 4"
    vigie("service", "add", "db", "--backoff", "20s", "--no-wait", "--", "sh", "-c", line)
    vigie("service", "add", "api", "--requires", "db", "--no-wait", "--", "sleep", "1000")
    vigie("service", "add", "fine", "--", "sleep", "1000")
    until(lambda: json.loads(vigie("service", "status", "db", "--json").stdout)["state"] == "backoff")
    said = vigie("why", "api").stdout
    assert "api is inactive" in said
    assert "waits for db" in said
    assert "db is in backoff" in said
    assert "last line: no disk" in said
    screen = vigie().stdout
    assert "services: 1 backoff, 1 inactive, 1 ready" in screen
    assert "exit 4" in screen
    assert "sleep 1000" not in screen
    assert [row["name"] for row in json.loads(vigie("--json").stdout)["services"]] == ["api", "db", "fine"]


@slow
def test_a_command_is_kept_up_and_its_handle_does_all_that_the_program_does(home: HomeUnderTest) -> None:
    home.leftovers_expected = True
    cache = vigie.service(["sh", "-c", "echo up; sleep 1000"], name="cache", reload="HUP", stop="1s")
    assert (cache.wait(), cache.desired, cache.cause) == ("ready", "up", "ready")
    until(lambda: [record.text for record in cache.logs()] == ["up\n"])
    cache.suspend()
    assert (cache.state, cache.desired) == ("paused", "paused")
    cache.resume()
    cache.restart()
    cache.disable()
    with pytest.raises(UsageError, match="is disabled"):
        cache.start()
    cache.enable()
    assert [each.name for each in vigie.services()] == ["cache"]
    assert (cache.instances, repr(cache)) == ([cache], "<service cache>")
    cache.stop()
    assert cache.state == "inactive"
    cache.remove()
    with pytest.raises(NotFound):
        cache.describe()


@slow
def test_a_function_of_a_script_is_kept_up(home: HomeUnderTest, tmp_path: Path) -> None:
    home.leftovers_expected = True
    script = tmp_path / "watcher.py"
    script.write_text(
        "import time, vigie\n"
        "@vigie.service(args=('here',), restart='on-failure')\n"
        "def watch(what):\n"
        "    print('watching', what)\n"
        "    while True: time.sleep(0.05)\n"
        "if __name__ == '__main__':\n"
        "    print(watch.add().wait())\n"
        "    print(watch.add().wait())\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("ready\nready\n", "")
    (found,) = vigie.services()
    until(lambda: [record.text for record in found.logs()] == ["watching here\n"])
    assert found.describe()["restart"] == "on-failure"


def test_what_no_other_process_finds_is_refused() -> None:
    @vigie.service
    def inner() -> None: ...

    with pytest.raises(NotSerializable, match="stands inside of another function"):
        inner.add()
    assert inner() is None
    with pytest.raises(UsageError, match="needs a name"):
        vigie.service(["true"])  # type: ignore[call-overload]  # that is the test
