"""The table of lives: walked whole, and its rules."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie import lifecycle as lc
from vigie.lifecycle import Effect, Policy, Refusal, step

EXAMPLES = {
    lc.Blocked: [lc.Blocked("dependency"), lc.Blocked("time", 5), lc.Blocked("condition")],
    lc.Queued: [lc.Queued()],
    lc.Assigned: [lc.Assigned(1)],
    lc.Running: [lc.Running(1), lc.Running(2, "stop"), lc.Running(2, "timeout")],
    lc.Suspended: [lc.Suspended(1), lc.Suspended(1, "timeout")],
    lc.Completed: [lc.Completed(0), lc.Completed()],
    lc.Failed: [lc.Failed("exit", 3), lc.Failed("dependency")],
    lc.Stopped: [lc.Stopped()],
    lc.Lost: [lc.Lost("why")],
}
EVENTS = {
    lc.Unblocked: [lc.Unblocked(), lc.Unblocked(99)],
    lc.DependencyBroken: [lc.DependencyBroken("job 1 failed")],
    lc.TimeCame: [lc.TimeCame()],
    lc.Claimed: [lc.Claimed(1), lc.Claimed(3, batch=True)],
    lc.Begun: [lc.Begun()],
    lc.Withdrawn: [lc.Withdrawn()],
    lc.Ended: [
        lc.Ended(10, 1, 0.5, exit_code=0),
        lc.Ended(10, 1, 0.5, "exit", 2),
        lc.Ended(10, 9, 0.5, "signal", signal=9),
    ],
    lc.Vanished: [lc.Vanished(10, "nobody knows")],
    lc.StopAsked: [lc.StopAsked()],
    lc.TimeoutPassed: [lc.TimeoutPassed()],
    lc.SuspendAsked: [lc.SuspendAsked()],
    lc.ResumeAsked: [lc.ResumeAsked()],
    lc.RetryAsked: [lc.RetryAsked(), lc.RetryAsked(blocked=True)],
}
#: For each state the states that an event may lead to, itself included: nothing else is legal.
LEGAL = {
    lc.Blocked: {lc.Queued, lc.Stopped, lc.Failed},
    lc.Queued: {lc.Assigned, lc.Running, lc.Stopped, lc.Failed},
    lc.Assigned: {lc.Running, lc.Queued, lc.Blocked, lc.Completed, lc.Failed, lc.Lost},
    lc.Running: {lc.Suspended, lc.Queued, lc.Blocked, lc.Completed, lc.Failed, lc.Stopped, lc.Lost},
    lc.Suspended: {lc.Running, lc.Queued, lc.Blocked, lc.Completed, lc.Failed, lc.Stopped, lc.Lost},
    lc.Completed: set(),
    lc.Failed: {lc.Queued, lc.Blocked},
    lc.Stopped: {lc.Queued, lc.Blocked},
    lc.Lost: {lc.Queued, lc.Blocked},
}
HOLDS = (lc.Assigned, lc.Running, lc.Suspended)
POLICIES = [Policy(), Policy(retries=3), Policy(on_lost="rerun"), Policy(retries=1, jitter=0.0)]
CASES = [
    pytest.param(state, event, policy, id=f"{state}-{event}-{i}")
    for states in EXAMPLES.values()
    for state in states
    for events in EVENTS.values()
    for event in events
    for i, policy in enumerate(POLICIES)
]


def test_every_state_and_event_has_an_action() -> None:
    assert set(lc.TABLE) == set(lc.STATES) == set(EXAMPLES)
    for row in lc.TABLE.values():
        assert set(row) == set(lc.EVENTS) == set(EVENTS)


@pytest.mark.parametrize(("state", "event", "policy"), CASES)
def test_the_table_walked_whole(state: lc.State, event: lc.Event, policy: Policy) -> None:
    try:
        new, effects = step(state, event, policy)
    except Refusal as refusal:
        assert str(refusal)
        return
    if new == state:
        assert not effects or isinstance(event, lc.StopAsked)
        return
    assert type(new) in LEGAL[type(state)] | {type(state)}
    # What holds a slot gives it back exactly when it stops holding it.
    released = isinstance(state, HOLDS) and not isinstance(new, HOLDS)
    assert (Effect.RELEASE in effects) is released
    # Whoever waits is told exactly when it ends.
    assert (Effect.FINISH in effects) is (isinstance(new, lc.FINISHED) and not isinstance(state, lc.FINISHED))
    assert (Effect.READY in effects) is isinstance(new, lc.Queued)
    assert (Effect.ARM in effects) is (isinstance(new, lc.Blocked) and new.by == "time")
    assert (Effect.BEGIN in effects) is isinstance(event, lc.Claimed)
    # What was stopped by SIGSTOP and lives goes on: a worker would be frozen for ever.
    if isinstance(state, lc.Suspended) and not isinstance(new, lc.Suspended) and not isinstance(event, lc.Vanished):
        assert {Effect.THAW, Effect.TERMINATE} & set(effects)


def test_a_stop_wins_over_every_end() -> None:
    for event in EVENTS[lc.Ended] + EVENTS[lc.Vanished] + EVENTS[lc.Withdrawn]:
        for policy in POLICIES:
            assert isinstance(step(lc.Running(1, "stop"), event, policy)[0], lc.Stopped)


def test_a_timeout_is_the_reason_whatever_the_process_says() -> None:
    new, _ = step(lc.Running(1, "timeout"), lc.Ended(0, 1, 0.5, exit_code=0), Policy())
    assert new == lc.Failed("timeout", 0)


def test_a_spawn_failure_is_not_retried() -> None:
    new, _ = step(lc.Running(1), lc.Ended(0, 1, 0.5, "spawn", message="command not found"), Policy(retries=5))
    assert new == lc.Failed("spawn", message="command not found")


def test_what_is_lost_is_not_retried_but_may_rerun() -> None:
    event = lc.Vanished(0, "gone")
    assert step(lc.Running(1), event, Policy(retries=5))[0] == lc.Lost("gone")
    assert step(lc.Running(1), event, Policy(on_lost="rerun"))[0] == lc.Queued()


@given(tries=st.integers(1, 60), chance=st.floats(0, 1, exclude_max=True))
def test_the_back_off_doubles_within_its_bounds(tries: int, chance: float) -> None:
    policy = Policy(retries=99, backoff=1_000, backoff_max=60_000, jitter=0.1)
    delay = lc.retry_delay(policy, tries, chance)
    plain = min(1_000 * 2 ** (tries - 1), 60_000)
    assert 0.9 * plain - 1 <= delay <= 1.1 * plain + 1


@given(seed=st.integers(0, 2**32), retries=st.integers(0, 3))
def test_a_life_ends_and_uses_no_more_attempts_than_allowed(seed: int, retries: int) -> None:
    """Any order of ends leads to rest after at most retries + 1 attempts."""
    chance = random.Random(seed)
    state: lc.State = lc.Queued()
    policy = Policy(retries=retries)
    attempts = 0
    for _ in range(50):
        if isinstance(state, lc.FINISHED):
            break
        if isinstance(state, lc.Queued):
            attempts += 1
            state, _ = step(state, lc.Claimed(attempts, batch=chance.random() < 0.5), policy)
        elif isinstance(state, lc.Blocked):
            state, _ = step(state, lc.TimeCame(), policy)
        else:
            reason = chance.choice([None, "exit", "signal", "exception"])
            state, _ = step(state, lc.Ended(0, attempts, chance.random(), reason), policy)
    assert isinstance(state, lc.Completed | lc.Failed)
    assert attempts <= retries + 1
