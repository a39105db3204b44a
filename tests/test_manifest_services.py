"""``[service.NAME]`` in vigie.toml: read, compared, applied."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, os.path.dirname(__file__))

import itertools

from conftest import HomeUnderTest, Program, until
from vigie.errors import UsageError
from vigie.supervision.graph import circle, in_order
from vigie.supervision.plan import Plan
from vigie.supervision.reading import KEYS, parse_plan

# --- reading -------------------------------------------------------------------------

WHOLE = {
    "start": "manual",
    "instances": 3,
    "after": "a, b",
    "requires": ["c"],
    "wants": "d",
    "ready": {"http": "http://127.0.0.1:8000/x", "within": "5s", "every": "2s", "failures": 2},
    "alive": {"command": ["test", "-e", "/x"], "timeout": "3s"},
    "watchdog": "10s",
    "restart": "on-failure",
    "exits": {"0": "ignore", "64-66": "hold", "TERM": "ignore"},
    "backoff": {"first": "1s", "most": "5m", "reset": "20s"},
    "give_up": 9,
    "essential": True,
    "stop": ["INT 5s", "TERM 10s"],
    "reload": "HUP",
    "before_start": "mkdir -p x",
    "on_failure": ["mail", "me"],
    "listen": ["tcp://127.0.0.1:80", {"address": "unix:///run/x", "name": "x", "mode": "660"}],
    "fd_store": 2,
    "user": "root",
    "limits": {"memory": "1 GiB", "cpu": "50%", "files": 99, "cpu_time": "1h"},
    "nice": -3,
    "affinity": "0-2,5",
    "umask": "027",
    "logs": {"total": "1 GiB", "age": "7d", "compress": False},
    "history": 5,
}


def test_every_word_of_a_table_is_in_the_plan_and_the_plan_outlives_its_json() -> None:
    plan = parse_plan(WHOLE)
    assert (plan.mode, plan.instances, plan.after, plan.requires) == ("manual", 3, ("a", "b"), ("c",))
    assert (plan.exits["65"], plan.exits["TERM"], plan.stop[0]) == ("hold", "ignore", ("INT", 5_000_000))
    assert (plan.limits["cpu"], plan.affinity, plan.umask) == (0.5, (0, 1, 2, 5), 0o27)
    assert (plan.hooks["before_start"], plan.hooks["on_failure"]) == (("mkdir", "-p", "x"), ("mail", "me"))
    assert (plan.listen[1].name, plan.listen[1].mode, plan.logs.total) == ("x", 0o660, 1 << 30)
    assert Plan.from_json(plan.to_json()) == plan
    assert set(WHOLE) <= set(KEYS)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"instances": 0}, "instances: 0 is not between"),
        ({"stop": "WINCHY 1s"}, "stop: there is no signal"),
        ({"ready": "https://x/"}, "ready: only http is looked at"),
        ({"ready": {"port": 1, "log": "x"}}, "says port and log"),
        ({"alive": "notify"}, "alive: notify says nothing"),
        ({"ready": {"port": 1, "often": 1}}, "there is no 'often'"),
        ({"on_connection": True}, "on_connection: there is nothing"),
        ({"pid_file": "/x"}, "pid_file: it says who goes on"),
        ({"restart": "never", "give_up": 3}, "give_up: restart is never"),
        ({"exits": {"1": "explode"}}, "exits: 'explode'"),
        ({"exits": {"999": "hold"}}, "exits: 999"),
        ({"listen": "tcp://x"}, "has no port"),
        ({"umask": "999"}, "umask"),
        ({"listen": ["unix:///a", "unix:///a"]}, "stands there twice"),
        ({"limits": {"love": 1}}, "no limit 'love'"),
        ({"ready": {"log": "("}}, "no regular expression"),
        ({"before_start": ""}, "there is no command"),
        ({"after": "a", "requires": "a"}, "after: a is required"),
        ({"logs": "10"}, "logs: 10 bytes in all are too few"),
    ],
)
def test_what_makes_no_sense_is_named(table: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_plan(table)
    assert said in caught.value.message


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(KEYS)), _ANY, max_size=4))
def test_any_table_is_read_or_refused_by_a_sentence(table: dict[str, object]) -> None:
    try:
        plan = parse_plan(table)
    except UsageError as error:
        assert error.message
        return
    assert Plan.from_json(plan.to_json()) == plan


@given(st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from("abcdef"), max_size=3), max_size=6))
def test_a_circle_is_found_where_there_is_one_and_else_there_is_an_order(needs: dict[str, set[str]]) -> None:
    plans = {name: Plan(requires=tuple(sorted(others))) for name, others in needs.items()}
    found = circle(plans)
    if found is not None:
        assert found[0] == found[-1]
        assert all(after in needs[before] for before, after in itertools.pairwise(found))
        return
    order = in_order(plans)
    assert sorted(order) == sorted(plans)
    for at, name in enumerate(order):
        assert all(other in order[:at] for other in needs[name] & set(plans))


# --- applied -------------------------------------------------------------------------------

FILE = """
project = "shop"
[task.serve]
run = ["sleep", "1000"]
timeout = "1h"
[service.db]
shell = "sleep 1000"
stop = "2s"
[service.web]
task = "serve"
requires = "db"
instances = 2
"""


def _services(vigie: Program) -> dict[str, tuple[str, ...]]:
    rows = json.loads(vigie("service", "list", "--json").stdout)
    return {row["name"]: tuple(each["state"] for each in row["instances"]) for row in rows}


@pytest.mark.slow
def test_a_file_declares_changes_and_takes_back_services(vigie: Program, home: HomeUnderTest, tmp_path: Path) -> None:
    home.leftovers_expected = True
    file = tmp_path / "vigie.toml"
    file.write_text(FILE)
    planned = vigie("apply", "--plan", str(file))
    assert "+ service shop.web" in planned.stdout
    assert _services(vigie) == {}
    vigie("apply", str(file))
    until(lambda: _services(vigie) == {"shop.db": ("ready",), "shop.web": ("ready", "ready")})
    assert "nothing changed" in vigie("apply", str(file)).stdout
    before = json.loads(vigie("service", "status", "shop.db", "--json").stdout)["pid"]
    file.write_text(FILE.replace("instances = 2", "instances = 1").replace('stop = "2s"', 'stop = "3s"'))
    done = vigie("apply", str(file))
    assert "~ service shop.db" in done.stdout
    until(lambda: _services(vigie) == {"shop.db": ("ready",), "shop.web": ("ready",)})
    assert json.loads(vigie("service", "status", "shop.db", "--json").stdout)["pid"] == before
    # Where the file is, its services go by their plain names.
    assert vigie("service", "status", "web", cwd=tmp_path).returncode == 0
    refused = vigie("service", "remove", "shop.web")
    assert "belongs to" in refused.stderr
    file.write_text('project = "shop"\n')
    vigie("apply", str(file))
    until(lambda: _services(vigie) == {})
    until(lambda: not [process for process in home.processes() if "sleep" in process.argv])


@pytest.mark.slow
def test_all_that_is_wrong_is_said_with_its_line_and_nothing_is_changed(vigie: Program, tmp_path: Path) -> None:
    file = tmp_path / "vigie.toml"
    file.write_text(
        '[service.a]\nrun = ["true"]\nrequires = "b"\n[service.b]\nrun = ["true"]\nafter = ["a"]\n'
        '[service.c]\nrun = ["true"]\nwants = "bb"\nstop = "NONE 1s"\n[service.d]\nrun = ["true"]\ninstances = 0\n'
        '[service.e]\nrun = ["true"]\nlisten = "tcp://127.0.0.1:x"\nready = "soon"\n'
        '[service.f]\nrun = ["true"]\nwant = "a"\n'
    )
    done = vigie("apply", str(file))
    assert done.returncode == 2
    for line in (
        "vigie.toml:1: service.a: they wait for each other in a circle: a → b → a",
        "vigie.toml:10: service.c.stop: there is no signal 'NONE'",
        "vigie.toml:13: service.d.instances: 0 is not a whole number above zero",
        "vigie.toml:16: service.e.listen: 'x' is no port",
        "vigie.toml:17: service.e.ready: 'soon' is nothing that can be looked at",
        "vigie.toml:20: service.f.want: a service has no key 'want'",
    ):
        assert line in done.stderr, line
    file.write_text('[service.c]\nrun = ["true"]\nwants = "bb"\n')
    assert "service.c.wants: there is no service 'bb'" in vigie("apply", str(file)).stderr
    assert _services(vigie) == {}
