"""Write the table of docs/reference/states.md by asking the lifecycle itself."""

from __future__ import annotations

import sys

import generated

from vigie import lifecycle as lc

#: Nothing changes.
NOTHING = "\N{EN DASH}"
#: Column → the states in it, which must agree.
STATES: dict[str, list[lc.State]] = {
    "blocked (dependency)": [lc.Blocked("dependency")],
    "blocked (time)": [lc.Blocked("time", 1)],
    "queued": [lc.Queued()],
    "queued, in a batch": [lc.Assigned(1)],
    "running": [lc.Running(1)],
    "running, told to stop": [lc.Running(1, "stop")],
    "suspended": [lc.Suspended(1)],
    "completed": [lc.Completed(0)],
    "failed, stopped, lost": [lc.Failed("exit", 1), lc.Stopped(), lc.Lost()],
}
ONCE, TWICE = lc.Policy(), lc.Policy(retries=1)
BADLY = lc.Ended(now=0, tries=1, chance=0.5, reason="exit", exit_code=1)
EVENTS: list[tuple[str, lc.Event, lc.Policy]] = [
    ("its dependencies are met", lc.Unblocked(), ONCE),
    ("they are met, its start lies ahead", lc.Unblocked(due=1), ONCE),
    ("a dependency will never be met", lc.DependencyBroken(""), ONCE),
    ("its time has come", lc.TimeCame(), ONCE),
    ("handed out", lc.Claimed(1), ONCE),
    ("handed out in a batch", lc.Claimed(1, batch=True), ONCE),
    ("its worker has begun it", lc.Begun(), ONCE),
    ("evidence that it never began", lc.Withdrawn(), ONCE),
    ("ended well", lc.Ended(now=0, tries=1, chance=0.5), ONCE),
    ("ended badly, retries left", BADLY, TWICE),
    ("ended badly, no retries left", BADLY, ONCE),
    ("over, nobody knows how", lc.Vanished(0, ""), ONCE),
    ("the same with --on-lost rerun", lc.Vanished(0, ""), lc.Policy(on_lost="rerun")),
    ("stop", lc.StopAsked(), ONCE),
    ("its timeout passed", lc.TimeoutPassed(), ONCE),
    ("suspend", lc.SuspendAsked(), ONCE),
    ("resume", lc.ResumeAsked(), ONCE),
    ("retry", lc.RetryAsked(), ONCE),
    ("retry, what it needs has not ended", lc.RetryAsked(blocked=True), ONCE),
]


def body() -> str:
    """Give the table: a row an event, a column a state."""
    missing = set(lc.EVENTS) - {type(event) for _, event, _ in EVENTS}
    assert not missing, f"events without a row: {missing}"
    lines = ["| | " + " | ".join(STATES) + " |", "|---" * (len(STATES) + 1) + "|"]
    for name, event, policy in EVENTS:
        cells = [_cell(states, event, policy) for states in STATES.values()]
        lines.append(f"| **{name}** | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(states: list[lc.State], event: lc.Event, policy: lc.Policy) -> str:
    found = {_outcome(state, event, policy) for state in states}
    assert len(found) == 1, f"{states} differ: {found}"
    return found.pop()


def _outcome(state: lc.State, event: lc.Event, policy: lc.Policy) -> str:
    try:
        after, effects = lc.step(state, event, policy)
    except lc.Refusal as refusal:
        return "" if str(refusal) == "cannot happen here" else f"refused: {refusal}"
    return NOTHING if after == state and not effects else _name(after)


def _name(state: lc.State) -> str:
    if isinstance(state, lc.Blocked):
        return f"blocked ({state.by})"
    if isinstance(state, lc.Failed):
        return f"failed ({state.reason})"
    if isinstance(state, lc.Assigned):
        return "queued, in a batch"
    ending = getattr(state, "ending", None)
    name = type(state).__name__.lower()
    if ending == "timeout":
        return f"{name}, being ended"
    return f"{name}, told to {ending}" if ending else name


if __name__ == "__main__":
    sys.exit(generated.main("reference/states.md", "states_reference", body()))
