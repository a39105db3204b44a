"""Services under the real agent and keeper."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import HomeUnderTest, until
from served import AT_ONCE, Served
from vigie.errors import Conflict, NotFound, Refused, UsageError
from vigie.procs import Identity, alive, start_ticks
from vigie.supervision.plan import Plan, Probe

pytestmark = pytest.mark.slow


@pytest.fixture
def served(home: HomeUnderTest) -> Iterator[Served]:
    found = Served(home)
    yield found
    found.client.close()


def _kill(home: HomeUnderTest, kind: str) -> None:
    victims = home.processes(kind)
    assert victims, f"no {kind} to kill"
    for process in victims:
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: not {p.pid for p in home.processes(kind)} & {p.pid for p in victims})


def _alive(pid: int) -> bool:
    ticks = start_ticks(pid)
    return ticks is not None and alive(Identity(pid, ticks))


# --- kept up --------------------------------------------------------------------


def test_one_that_is_killed_has_another_life_and_each_is_a_job(served):
    served.add("web", "sleep", "1000", plan=AT_ONCE)
    assert served.wait("web") == {"web": "ready"}
    first = served.kill("web")
    second = served.another("web", first)
    served.wait("web")
    assert not _alive(first)
    assert _alive(second)
    assert [state for _, state in served.lives("web")] == ["failed", "running"]
    assert served.rows("SELECT restarts, cause FROM instances") == [(1, "ready")]
    assert [state for state in served.states("web") if state != "stopping"] == ["starting", "ready"] * 2


def test_a_missing_program_backs_off_and_says_what_is_missing(served):
    served.add("web", "no-such-program", plan={"backoff": 50_000})
    assert served.wait("web") == {"web": "backoff"}
    assert served.cause("web") == "command not found: no-such-program"
    until(lambda: len(served.lives("web")) > 2)


def test_the_exit_code_decides_where_the_plan_says_so(served):
    served.add("held", "sh", "-c", "exit 7", plan={"exits": {"7": "hold"}})
    served.add("done", "sh", "-c", "exit 0", plan={"restart": "on-failure"})
    served.until_state("held", "failed")
    served.until_state("done", "inactive")
    assert "until somebody starts it" in served.cause("held")
    assert served.ask("start", "held")[0]["changed"]


@pytest.mark.parametrize("victims", [["agent"], ["keeper"], ["agent", "keeper"], ["keeper", "agent"]])
def test_it_outlives_every_process_of_ours_and_is_kept_up_after_that(served, home, victims):
    served.add("web", "sleep", "1000", plan=AT_ONCE)
    served.wait("web")
    pid = served.pid("web")
    for kind in victims:
        _kill(home, kind)
    again = Served(home)
    assert again.wait("web") == {"web": "ready"}
    assert again.pid("web") == pid
    assert _alive(pid)
    until(lambda: home.processes("keeper"))
    os.kill(pid, signal.SIGKILL)
    until(lambda: len(again.lives("web")) == 2)
    again.another("web", pid)
    again.client.close()


def test_what_ended_while_nobody_was_there_has_another_life(served, home):
    served.add("web", "sleep", "1000", plan=AT_ONCE)
    served.wait("web")
    pid = served.pid("web")
    _kill(home, "agent")
    os.kill(pid, signal.SIGKILL)
    again = Served(home)
    again.wait("web")
    again.another("web", pid)
    again.client.close()


# --- stopped ----------------------------------------------------------------------


def test_stop_ends_the_whole_tree_by_the_plans_own_sequence(served, tmp_path):
    marks = tmp_path / "marks"
    deaf = f"trap 'echo int >> {marks}' INT; trap '' TERM; (trap '' TERM INT; sleep 1001) & while :; do sleep 0.1; done"
    served.add("web", "bash", "-c", deaf, plan=Plan(stop=(("INT", 200_000), ("TERM", 200_000), ("KILL", 0))))
    served.wait("web")
    pid = served.pid("web")
    until(lambda: "sleep 1001" in " ".join(map(str, served.home.processes())))
    assert served.ask("stop", "web")[0]["desired"] == "down"
    assert served.wait("web", how="down") == {"web": "inactive"}
    assert not _alive(pid)
    assert "sleep 1001" not in " ".join(map(str, served.home.processes()))
    assert "int" in marks.read_text()


def test_what_a_life_leaves_behind_is_ended_before_the_next(served, tmp_path):
    line = f"echo $$ >> {tmp_path}/pids; setsid sleep 1002 & exit 1"
    served.add("web", "bash", "-c", line, plan={"backoff": 1_000_000})
    served.until_state("web", "backoff")
    assert "sleep 1002" not in " ".join(map(str, served.home.processes()))


def test_a_stop_lasts_over_restarts_of_the_agent_and_a_disabled_one_is_not_started(served, home):
    served.add("web", "sleep", "1000")
    served.add("other", "sleep", "1000")
    served.wait("web", "other")
    served.ask("stop", "web")
    served.ask("disable", "other")
    served.wait("web", "other", how="down")
    _kill(home, "agent")
    again = Served(home)
    assert again.wait("web", "other") == {"web": "inactive", "other": "inactive"}
    (answer,) = again.ask("start", "other")
    assert "is disabled" in answer["note"]
    again.ask("start", "web")
    again.ask("enable", "other")
    assert again.wait("web", "other") == {"web": "ready", "other": "ready"}
    assert again.ask("start", "web")[0]["changed"] is False
    again.client.close()


def test_after_a_boot_the_automatic_ones_are_started_and_no_others(served, home):
    served.add("web", "sleep", "1000")
    served.add("hand", "sleep", "1000", mode="manual")
    served.add("never", "sleep", "1000", mode="disabled")
    served.wait("web", "hand", "never")
    served.ask("stop", "web")
    served.ask("start", "hand")
    served.wait("web", how="down")
    served.wait("hand")
    served.client.call("shutdown")
    until(lambda: not home.processes("agent"))
    for process in home.processes():
        os.kill(process.pid, signal.SIGKILL)
    # As after a boot: nothing lives, and the store knows of another one.
    import apsw

    with apsw.Connection(home.db) as db:
        db.execute("UPDATE meta SET value = 'another boot' WHERE key IN ('services-boot', 'boot')")
        db.execute("UPDATE owners SET boot = 'another boot'")
    again = Served(home)
    assert again.wait("web", "hand", "never") == {"web": "ready", "hand": "inactive", "never": "inactive"}
    assert again.cause("hand") == "the machine was restarted"
    again.client.close()


def test_remove_stops_it_and_its_lives_stay_to_be_looked_at(served):
    served.add("web", "sleep", "1000")
    served.wait("web")
    pid = served.pid("web")
    served.ask("remove", "web")
    served.wait("web", how="gone")
    assert not _alive(pid)
    assert served.rows("SELECT count(*) FROM services") == [(0,)]
    assert len(served.lives("web")) == 1
    with pytest.raises(NotFound, match="no service web"):
        served.ask("start", "web")


# --- readiness ----------------------------------------------------------------------


def _port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_ready_is_when_the_port_answers_and_degraded_when_it_does_not(served, tmp_path):
    port, go = _port(), tmp_path / "go"
    program = (
        "import os, socket, time, signal\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        f"s = socket.create_server(('127.0.0.1', {port}))\n"
        "def shut(*_): s.close()\n"
        "signal.signal(signal.SIGUSR1, shut)\n"
        "while True: time.sleep(1)\n"
    )
    probe = Probe("port", ["127.0.0.1", port], every=50_000, failures=2)
    served.add("web", sys.executable, "-c", program, plan=Plan(ready=probe))
    served.until_state("web", "starting")
    pid = served.pid("web")
    go.touch()
    served.until_state("web", "ready")
    os.kill(pid, signal.SIGUSR1)
    served.until_state("web", "degraded")
    assert f"port {port} cannot be reached" in served.cause("web")
    assert served.pid("web") == pid


def test_ready_is_when_http_answers_well(served, tmp_path):
    port = _port()
    (tmp_path / "health").write_text("fine")
    url = f"http://127.0.0.1:{port}/health"
    program = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    served.add("web", *program, plan=Plan(ready=Probe("http", url)))
    served.until_state("web", "ready")
    served.add("lost", "sleep", "1000", plan=Plan(ready=Probe("http", url + "/none", within=300_000)))
    served.until_state("lost", "backoff")
    assert served.cause("lost") == "not ready within 0.3 s"


def test_ready_is_when_a_line_was_written(served, tmp_path):
    go = tmp_path / "go"
    line = f"while [ ! -e {go} ]; do sleep 0.02; done; echo now listening >&2; sleep 1000"
    served.add("web", "sh", "-c", line, plan=Plan(ready=Probe("log", "now listen")))
    served.until_state("web", "starting")
    served.pid("web")
    go.touch()
    served.until_state("web", "ready")


def test_ready_is_when_a_command_succeeds_and_what_it_says_is_the_cause(served, tmp_path):
    go = tmp_path / "go"
    go.touch()
    check = ("sh", "-c", f"test -e {go} || {{ echo no {go}; exit 1; }}")
    probe = Probe("command", list(check), every=50_000, failures=1)
    served.add("web", "sleep", "1000", plan=Plan(ready=probe))
    served.until_state("web", "ready")
    go.unlink()
    served.until_state("web", "degraded")
    assert f"no {go}" in served.cause("web")
    go.touch()
    served.until_state("web", "ready")


def test_one_whose_liveness_is_lost_is_restarted(served, tmp_path):
    sick = tmp_path / "sick"
    probe = Probe("command", ["test", "!", "-e", str(sick)], every=50_000, failures=2)
    served.add("web", "sleep", "1000", plan=Plan(alive=probe, settled=0))
    served.wait("web")
    first = served.pid("web")
    sick.touch()
    until(lambda: not _alive(first))
    sick.unlink()
    served.another("web", first)
    served.until_state("web", "ready")


# --- others ---------------------------------------------------------------------------


def test_a_dependent_waits_until_the_other_is_ready_also_through_restarts(served, tmp_path):
    go = tmp_path / "go"
    ready = Probe("command", ["test", "-e", str(go)])
    served.add("db", "sleep", "1000", plan=Plan(ready=ready, settled=0))
    served.add("api", "sleep", "1000", plan=Plan(requires=("db",)))
    served.until_state("db", "starting")
    assert served.state("api") == "inactive"
    assert served.cause("api").startswith("waits for db, which is starting")
    go.touch()
    assert served.wait("db", "api") == {"db": "ready", "api": "ready"}
    go.unlink()
    pid = served.pid("api")
    served.kill("db")
    served.until_state("api", "degraded")
    assert served.cause("api").startswith("db is starting")
    go.touch()
    served.until_state("api", "ready")
    assert served.pid("api") == pid


def test_what_is_required_is_started_with_it(served):
    served.add("db", "sleep", "1000", mode="manual")
    served.add("api", "sleep", "1000", plan=Plan(requires=("db",)))
    assert served.wait("db", "api") == {"db": "ready", "api": "ready"}


def test_suspending_freezes_the_tree_and_what_requires_it(served):
    served.add("db", "sleep", "1000")
    served.add("api", "sleep", "1000", plan=Plan(requires=("db",)))
    served.wait("db", "api")
    served.ask("suspend", "db")
    served.until_state("api", "paused")
    stat = Path(f"/proc/{served.pid('api')}/stat")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    served.ask("resume", "db")
    served.until_state("api", "ready")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S")


def test_instances_are_restarted_one_after_the_other(served):
    served.add("web", "sleep", "1000", plan=Plan(instances=3, ready=Probe("after", 50_000)))
    assert set(served.wait("web")) == {"web@1", "web@2", "web@3"}
    before = {name: served.pid(name) for name in ("web@1", "web@2", "web@3")}
    served.ask("restart", "web")
    served.wait("web")
    assert all(served.pid(name) != pid for name, pid in before.items())
    query = "SELECT object, before, after FROM events WHERE verb = 'service-state' AND id > ? ORDER BY id"
    down: set[str] = set()
    first = served.rows("SELECT max(id) FROM events WHERE verb = 'service-restart'")[0][0]
    for name, _, state in served.rows(query, first):
        (down.discard if state == "ready" else down.add)(name)
        assert len(down) <= 1


def test_a_rolling_restart_survives_the_agent(served, home):
    served.add("web", "sleep", "1000", plan=Plan(instances=3, ready=Probe("after", 300_000)))
    served.wait("web")
    before = {name: served.pid(name) for name in ("web@1", "web@2", "web@3")}
    served.ask("restart", "web")
    until(lambda: served.state("web@1") in ("stopping", "starting"))
    _kill(home, "agent")
    again = Served(home)
    again.wait("web")
    assert all(again.pid(name) != pid for name, pid in before.items())
    again.client.close()


def test_fewer_and_more_instances(served):
    served.add("web", "sleep", "1000", plan=Plan(instances=3))
    served.wait("web")
    served.add("web", "sleep", "1000", plan=Plan(instances=1), replace=True)
    until(lambda: served.rows("SELECT name FROM instances") == [("web",)])
    assert served.wait("web") == {"web": "ready"}
    served.add("web", "sleep", "1000", plan=Plan(instances=2), replace=True)
    until(lambda: served.rows("SELECT name FROM instances ORDER BY name") == [("web@1",), ("web@2",)])
    assert served.wait("web") == {"web@1": "ready", "web@2": "ready"}


def test_a_change_of_what_runs_begins_it_anew_and_one_of_policy_does_not(served):
    served.add("web", "sleep", "1000")
    served.wait("web")
    pid = served.pid("web")
    served.add("web", "sleep", "1000", plan={"restart": "on-failure"}, replace=True)
    served.wait("web")
    assert served.pid("web") == pid
    served.add("web", "sleep", "2000", replace=True)
    served.another("web", pid)
    served.wait("web")


# --- hooks and reload -----------------------------------------------------------------------


def test_hooks_run_in_their_order_and_know_how_it_ended(served, tmp_path):
    said = tmp_path / "said"
    hooks = {
        name: ("sh", "-c", f"echo {name} $VIGIE_SERVICE $VIGIE_EXIT_CODE >> {said}")
        for name in ("before_start", "after_start", "before_stop", "after_exit", "on_failure")
    }
    served.add("web", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.02; done", plan=Plan(hooks=hooks))
    served.wait("web")
    until(lambda: "after_start" in said.read_text())
    served.ask("stop", "web")
    served.wait("web", how="down")
    assert said.read_text().split("\n")[:4] == [
        "before_start web",
        "after_start web",
        "before_stop web",
        "after_exit web 3",
    ]


def test_a_life_does_not_begin_when_its_first_hook_fails(served, tmp_path):
    plan = Plan(hooks={"before_start": ("sh", "-c", "exit 4")}, give_up=1)
    served.add("web", "touch", str(tmp_path / "began"), plan=plan)
    assert served.wait("web") == {"web": "failed"}
    assert "before_start: exit 4" in served.cause("web")
    assert not (tmp_path / "began").exists()


def test_reload_by_a_signal_and_by_a_command(served, tmp_path):
    said = tmp_path / "said"
    line = f"trap 'echo hup >> {said}' HUP; while :; do sleep 0.02; done"
    served.add("web", "bash", "-c", line, plan=Plan(reload="HUP"))
    served.add("cmd", "sleep", "1000", plan=Plan(reload=("sh", "-c", f"echo $MAINPID >> {said}; exit 2")))
    served.add("none", "sleep", "1000")
    served.wait("web", "cmd", "none")
    pid = served.pid("cmd")
    served.ask("reload", "web")
    until(lambda: said.exists() and "hup" in said.read_text())
    served.ask("reload", "cmd")
    until(lambda: str(pid) in said.read_text())
    until(lambda: served.cause("cmd") == "the reload failed: exit 2")
    assert served.state("cmd") == "ready"
    (answer,) = served.ask("reload", "none")
    assert "cannot reload" in answer["note"]


# --- refused ----------------------------------------------------------------------------------


def test_what_cannot_be_is_refused_by_name(served):
    served.add("web", "sleep", "1000")
    with pytest.raises(Conflict, match="there is a service web already"):
        served.add("web", "sleep", "1")
    with pytest.raises(UsageError, match="instances is 0"):
        served.add("none", "sleep", "1", plan={"instances": 0})
    with pytest.raises(UsageError, match="cannot be the name"):
        served.add("a@b", "sleep", "1")
    with pytest.raises(NotFound, match="no service other"):
        served.ask("stop", "other")
    served.wait("web")
    job = served.lives("web")[0][0]
    for op in ("stop", "suspend", "resume", "retry"):
        with pytest.raises(Refused, match="is a life of service web"):
            served.client.call(op, ids=[job])


def test_one_that_never_stays_up_costs_no_more_than_its_last_lives(served):
    served.add("web", "false", plan={"backoff": 1_000, "backoff_max": 1_000, "history": 5})
    until(lambda: served.rows("SELECT max(id) FROM jobs")[0][0] > 30)
    assert served.rows("SELECT count(*) FROM jobs")[0][0] <= 5 + 8 + 2
    assert served.rows("SELECT count(*) FROM events WHERE verb = 'service-slow'") == [(1,)]
