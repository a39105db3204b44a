"""Agent, keeper and workers in a simulated world, in which anything may fail at any moment.

``VIGIE_SIMULATIONS=100000 pytest tests/test_simulation.py`` plays more sequences than usual, and
``--hypothesis-seed`` repeats a run. What a failing sequence has taught stands at the end as a case.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from simulation.deeds import Script
from simulation.installed import installed
from simulation.kernel import SECOND
from simulation.machine import Machine
from simulation.now import Now
from simulation.world import World
from vigie.agent.core import Who

SEQUENCES = int(os.environ.get("VIGIE_SIMULATIONS", "2000"))
PARTS = 4


@pytest.fixture(autouse=True)
def _simulated() -> Iterator[None]:
    with installed():
        yield


@pytest.fixture
def world() -> Iterator[World]:
    """Give a world with an agent; at the end all must come to rest, and every promise hold."""
    made = World()
    made.start_agent()
    try:
        yield made
        made.settle()
    finally:
        made.close()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_the_promises_hold_whatever_happens(part: int) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=max(1, SEQUENCES // PARTS),
            stateful_step_count=14,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


# One scene, and a death at each of its effects --------------------------------------


def scene(world: World) -> None:
    """Play a little of everything."""
    clients = world.clients
    world.warm = True
    world.start_agent()
    clients.start("command", [{"d": 300_000, "code": 3}], {"retries": 1, "backoff": SECOND})
    clients.start("function", [{"d": 100} for _ in range(4)], {"function": "m:tiny"})
    world.pass_time(10_000)
    clients.start("function", [{"d": 100}, {"d": 100, "how": "raise"}, {"d": 100}], {"function": "m:tiny"})
    clients.start("command", [{"d": 60 * SECOND, "children": [(True, False)]}], {"grace": SECOND})
    clients.start(
        "command", [{"d": 60 * SECOND, "deaf": True}], {"timeout": SECOND, "grace": SECOND, "on_lost": "rerun"}
    )
    world.pass_time(SECOND // 2)
    jobs = sorted(clients.jobs)
    clients.start("function", [{"d": 400_000}], {"retries": 1}, {"after_any": jobs[:1], "concurrency": [["one", 1]]})
    running = [deed.job for deed in world.deeds.values() if deed.living]
    if running:
        clients.say("suspend", running[:1])
    world.pass_time(SECOND // 2)
    if running:
        clients.say("resume", running[:1])
        clients.say("stop", running[-1:])
    world.pass_time(4 * SECOND)


@pytest.mark.slow
@pytest.mark.parametrize("along", [(), ("agent", "keeper"), ("agent", "keeper", "worker", "command")])
@pytest.mark.parametrize("kind", ["agent", "keeper", "worker"])
def test_a_death_at_any_effect_breaks_no_promise(kind: str, along: tuple[str, ...]) -> None:
    number = 1
    reached = True
    while reached:
        world = World()
        world.kernel.doom, world.along = (kind, number), along
        try:
            scene(world)
            reached = world.kernel.effects[kind] >= number
            world.settle()
        except BaseException as error:
            error.add_note(f"it died at effect {number} of the {kind}\n" + "\n".join(world.history))
            raise
        finally:
            world.close()
        # Alone at each; the rarer deaths of several at some.
        number += 4 if along else 1
    assert number > 40


# Cases ---------------------------------------------------------------------------


def test_workers_that_were_never_spawned_are_not_born_dead(world: World) -> None:
    """Seven were committed, and the keeper had heard of none when it died with the agent."""
    world.clients.start("function", [{} for _ in range(7)], options={"now": True})
    world.calm(16)
    assert not list(world.kernel.living("worker"))
    world.kill(world.only("agent"), 0)
    world.kill(world.only("keeper"), 0)


def test_a_worker_frozen_for_a_job_that_was_stopped_goes_on(world: World) -> None:
    world.clients.start("function", [{}])
    world.until(lambda: list(world.kernel.living("worker")))
    world.clients.say("suspend", [1])
    world.until(lambda: world.only("worker").state == "T")
    world.clients.say("stop", [1], grace=0)
    world.until(lambda: world.state(1) == "stopped")
    world.clients.start("function", [{}])


def test_what_is_left_of_a_lost_job_does_not_stay_frozen(world: World) -> None:
    world.clients.start("command", [{"d": SECOND, "children": [(False, False)]}])
    world.until(lambda: world.runs(1))
    world.clients.say("suspend", [1])
    world.until(lambda: world.only("child").state == "T")
    world.kill(world.only("keeper"), 0)
    world.kill(world.only("agent"), 0)
    world.kill(world.only("command"), 0)


def test_nobody_rides_with_those_that_pass_the_slots(world: World) -> None:
    world.warm = True
    world.clients.set_slots(1)
    world.calm()
    world.clients.start("command", [{"d": SECOND}])
    world.until(lambda: world.runs(1))
    world.clients.start("function", [{"d": 100_000} for _ in range(3)], {"function": "m:tiny"}, {"now": True})
    world.until(lambda: world.runs(2))
    world.clients.start("function", [{"d": 100_000}], {"function": "m:tiny"})


def test_a_job_whose_argument_never_came_does_not_run(world: World) -> None:
    """Job 2 fails with job 1, and job 3 waited for any end of job 2, but for the result of job 1 too."""
    world.clients.start("function", [{"how": "raise", "d": SECOND}])
    world.calm()
    world.clients.start("function", [{}], results=[1])
    world.calm()
    world.clients.start("function", [{}], options={"after_any": [2]}, results=[1])
    world.calm()
    world.pass_time(2 * SECOND)
    assert world.state(3) == "failed"


def test_after_a_power_cut_the_page_of_a_worker_is_no_proof(world: World) -> None:
    """Its bytes never reached the disk, so that to a stop it seemed that nothing had begun."""
    world.clients.start("function", [{"d": SECOND}, {"d": SECOND}])
    world.until(lambda: world.runs(1) and world.runs(2))
    world.power_cut(Script(b"\1" * 64))
    world.clients.say("stop", [1])
    world.calm()
    assert (world.state(1), world.state(2)) == ("stopped", "lost")


def test_after_a_power_cut_the_end_of_a_worker_is_nobody_s(world: World) -> None:
    """The keeper had noted that it ended in order, which is not how the jobs ended that it held."""
    world.warm = True
    world.clients.start("function", [{"litters": True}, {}, {}], {"function": "m:tiny"})
    world.until(lambda: world.runs(1))
    world.kernel.advance(1000)
    world.until(lambda: b"ended" in Path(world.home.keeper_journal).read_bytes())
    world.power_cut(Script(b""))


def test_a_stop_that_an_agent_did_not_survive_is_finished_by_the_next(world: World) -> None:
    """A child ignored the SIGTERM; the repeat of the request must not be answered while it lives."""
    world.clients.start("command", [{"d": 60 * SECOND, "children": [(True, False)]}], {"grace": 3 * SECOND})
    world.until(lambda: world.runs(1))
    world.clients.say("stop", [1])
    world.until(lambda: world.state(1) == "stopped")
    assert list(world.kernel.living("child"))
    world.kill(world.only("agent"), 0)


def test_what_an_agent_had_not_thawed_at_an_end_is_thawed_by_the_next(world: World) -> None:
    world.clients.start("command", [{"d": 60 * SECOND, "children": [(False, False)]}])
    world.until(lambda: world.runs(1))
    world.clients.say("suspend", [1])
    world.until(lambda: world.only("child").state == "T")
    world.calm()
    world.only("agent").dies_at = "store-after-commit"
    world.kill(world.only("command"), 0)
    world.until(lambda: world.agent is None)


def test_who_waits_for_a_job_that_is_retried_hears_of_its_next_end(world: World) -> None:
    world.clients.start("command", [{"code": 3}])
    world.clients.start("command", [{"d": 2 * SECOND}])
    world.until(lambda: world.runs(1))
    world.clients.start("command", [{}], options={"after_any": [1, 2]})
    world.pass_time(SECOND)
    world.clients.say("retry", [1])
    world.until(lambda: world.runs(1, 2))
    world.kill(next(proc for proc in world.kernel.living("command") if proc is world.deeds[2, 1].proc), 0)


def test_the_clock_is_set_once_for_what_was_delayed_meanwhile(world: World) -> None:
    """A new agent learnt of a step of the clock, and of an end whose retry it computed by the new clock."""
    world.clients.start("command", [{"d": SECOND, "code": 3}], {"retries": 1, "backoff": SECOND})
    world.until(lambda: world.runs(1))
    world.kill(world.only("agent"), 0)
    world.kill(world.only("command"), 0)
    world.kernel.set_wall(86_400 * 365 * SECOND)
    world.start_agent()
    # Its first commit fails, so that both are in the second.
    Now.vfs.disk.trouble, Now.vfs.disk.many = "full", 1
    world.calm()


def test_those_that_pass_the_slots_pass_whoever_stands_before_them(world: World) -> None:
    world.clients.start("command", [{"d": SECOND}])
    world.until(lambda: world.runs(1))
    world.clients.start("command", [{"d": SECOND}, {"d": SECOND}])
    world.clients.start("command", [{}], options={"now": True})
    # Both arrive in one transaction: one slot is free, and the other command stands in the way.
    world.clients.arrive()
    world.until(lambda: world.runs(4))


def test_no_worker_is_made_for_whom_a_key_is_not_free(world: World) -> None:
    """Each round made one for each of those that wait, and each worker's hello a round: more than 160 of them."""
    world.clients.start(
        "function", [{"d": SECOND} for _ in range(7)], {"fresh": True}, {"concurrency": [["one", 1]], "now": True}
    )
    world.until(lambda: world.runs(1))
    assert world.kernel.living("worker") == [world.only("worker")]


def test_a_suspended_command_whose_beginning_was_not_written_is_not_taken_for_a_running_one(world: World) -> None:
    """It was suspended before we had heard that it began, and beginning and end came in one round."""
    world.clients.start("command", [{"d": SECOND}])
    world.until(lambda: world.runs(1))
    assert world.agent is not None
    agent = world.agent.real
    now, mono = world.kernel.wall_us, world.kernel.mono_us
    said = {
        "at": now, "mono": mono, "started_at": now, "started_mono": mono, "pid": 5, "start_ticks": 7,
        "exit_code": 0, "signal": None,
    }  # fmt: skip
    changes: list[Any] = []

    def one_round() -> None:
        agent.store.begin()
        agent.control.suspend({"ids": [1]}, Who())
        agent.outcomes.over.add((1, 1))
        agent.outcomes.started(1, 1, said)
        agent.outcomes.ended(1, 1, said)
        rows = agent.store.db.execute("SELECT before, after FROM events WHERE verb IN ('suspend', 'ended') ORDER BY id")
        changes.extend(rows.fetchall())
        agent.store.rollback()
        agent.outcomes.over.clear()
        agent.core.reload()
        agent.dispatch.rebuild()

    world.do(world.agent.proc, one_round)
    assert changes == [("running", "suspended"), ("suspended", "completed")]
