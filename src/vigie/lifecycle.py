"""What can happen to a job, as one table: (state, event) -> (state, effects).

The idea of this file is that nothing else decides. The agent turns what it
learns (a keeper's report, a person's wish, a clock) into an event, asks
:func:`step`, writes the new state with compare-and-set, commits, and only then
carries out the effects. There is no clock, no I/O and no randomness here:
instants and chance come in with the events. So the same code runs in production
and in a simulated world.

``TABLE`` names an action for every pair of state and event; a missing case would
show at a glance, and a test walks the whole of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

# --- states: each carries only the fields that exist in it -------------------


@dataclass(frozen=True, slots=True)
class Blocked:
    """Waits for something other than a slot: ``by`` is dependency, time or condition."""

    by: str
    due: int | None = None


@dataclass(frozen=True, slots=True)
class Queued:
    """Lacks only a slot, a key or an open queue."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """Committed to a worker's batch and not begun; people see it as queued."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt runs; ``ending`` is ``stop`` or ``timeout`` once it was told to end."""

    attempt: int
    ending: str | None = None


@dataclass(frozen=True, slots=True)
class Suspended:
    """An attempt's tree is stopped by SIGSTOP."""

    attempt: int
    ending: str | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """The work ended well."""

    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The work ended badly, for a known reason."""

    reason: str
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody stopped it, before or after it began."""

    exit_code: int | None = None
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """It ended, and nobody can know how."""

    message: str | None = None


State = Blocked | Queued | Assigned | Running | Suspended | Completed | Failed | Stopped | Lost
STATES = (Blocked, Queued, Assigned, Running, Suspended, Completed, Failed, Stopped, Lost)
FINISHED = (Completed, Failed, Stopped, Lost)

# --- events -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unblocked:
    """The last dependency is met; ``due`` is a delayed start still ahead, else None."""

    due: int | None = None


@dataclass(frozen=True, slots=True)
class DependencyBroken:
    """A job it depends on will never complete."""

    message: str


@dataclass(frozen=True, slots=True)
class TimeCame:
    """The instant of a delayed start or of a retry has come."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The dispatcher took it as this attempt; in a ``batch`` it may begin later."""

    attempt: int
    batch: bool = False


@dataclass(frozen=True, slots=True)
class Begun:
    """A worker was seen to have begun it."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Evidence shows that the attempt never began."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The attempt ended, and how is known. ``reason`` None is success.

    ``tries`` counts the attempts since the last start by hand, this one included;
    ``chance`` in [0, 1) is drawn by the caller for the jitter of a retry.
    """

    now: int
    tries: int
    chance: float
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Vanished:
    """The attempt is over and its end cannot be known."""

    now: int
    message: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants it stopped."""


@dataclass(frozen=True, slots=True)
class TimeoutPassed:
    """Its running time, suspensions excluded, has passed the limit."""


@dataclass(frozen=True, slots=True)
class SuspendAsked:
    """Somebody wants its tree frozen."""


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    """Somebody wants its tree to go on."""


@dataclass(frozen=True, slots=True)
class RetryAsked:
    """Somebody wants it run once more; ``blocked``: what it needs has not ended."""

    blocked: bool = False


Event = (
    Unblocked
    | DependencyBroken
    | TimeCame
    | Claimed
    | Begun
    | Withdrawn
    | Ended
    | Vanished
    | StopAsked
    | TimeoutPassed
    | SuspendAsked
    | ResumeAsked
    | RetryAsked
)
EVENTS = (
    Unblocked,
    DependencyBroken,
    TimeCame,
    Claimed,
    Begun,
    Withdrawn,
    Ended,
    Vanished,
    StopAsked,
    TimeoutPassed,
    SuspendAsked,
    ResumeAsked,
    RetryAsked,
)


class Effect(Enum):
    """What the agent does after the commit."""

    READY = auto()  #: look whether it can be handed out
    ARM = auto()  #: set the alarm for its due instant
    BEGIN = auto()  #: hand the attempt to the keeper or the worker
    RELEASE = auto()  #: the attempt gives its slot and keys back
    FINISH = auto()  #: tell waiters and dependents
    WITHDRAW = auto()  #: take it back from its worker, if it has not begun
    TERMINATE = auto()  #: end the whole tree
    FREEZE = auto()  #: stop the whole tree
    THAW = auto()  #: let the whole tree go on


@dataclass(frozen=True, slots=True)
class Policy:
    """What a task says about its retries (durations in µs)."""

    retries: int = 0
    backoff: int = 1_000_000
    backoff_max: int = 300_000_000
    jitter: float = 0.1
    on_lost: str = "fail"


class Refusal(Exception):
    """The event cannot be taken in this state; the text says why, for a person."""


Step = tuple[State, tuple[Effect, ...]]
NO_EFFECTS: tuple[Effect, ...] = ()


def retry_delay(policy: Policy, tries: int, chance: float) -> int:
    """Give the wait before the next attempt, in µs: doubling, bounded, jittered.

    >>> retry_delay(Policy(backoff=1_000_000, jitter=0.0), 3, 0.5)
    4000000
    """
    base: int = min(policy.backoff << min(tries - 1, 32), policy.backoff_max)
    return max(0, round(base * (1 + policy.jitter * (2 * chance - 1))))


# --- actions ------------------------------------------------------------------
# Each takes (state, event, policy). The table guarantees the types, so that the
# actions annotate the event they are made for.


def _unblock(state: Blocked, event: Unblocked, policy: Policy) -> Step:
    if state.by != "dependency":
        return state, NO_EFFECTS
    if event.due is not None:
        return Blocked("time", event.due), (Effect.ARM,)
    return Queued(), (Effect.READY,)


def _break(state: State, event: DependencyBroken, policy: Policy) -> Step:
    return Failed("dependency", message=event.message), (Effect.FINISH,)


def _come(state: Blocked, event: TimeCame, policy: Policy) -> Step:
    return (Queued(), (Effect.READY,)) if state.by == "time" else (state, NO_EFFECTS)


def _claim(state: Queued, event: Claimed, policy: Policy) -> Step:
    if event.batch:
        return Assigned(event.attempt), (Effect.BEGIN,)
    return Running(event.attempt), (Effect.BEGIN,)


def _begin(state: Assigned, event: Begun, policy: Policy) -> Step:
    return Running(state.attempt), NO_EFFECTS


def _thawed(action: Callable[..., Step]) -> Callable[..., Step]:
    """Let the tree go on, whatever becomes of the attempt: a worker outlives its job."""

    def act(state: Suspended, event: Event, policy: Policy) -> Step:
        new, effects = action(state, event, policy)
        return new, (*effects, Effect.THAW)

    act.__name__ = action.__name__
    return act


def _withdraw(state: Assigned | Running | Suspended, event: Withdrawn, policy: Policy) -> Step:
    ending = None if isinstance(state, Assigned) else state.ending
    if ending == "stop":
        return Stopped(), (Effect.RELEASE, Effect.FINISH)
    return Queued(), (Effect.RELEASE, Effect.READY)


def _end(state: Assigned | Running | Suspended, event: Ended, policy: Policy) -> Step:
    ending = None if isinstance(state, Assigned) else state.ending
    if ending == "stop":
        return Stopped(event.exit_code, event.signal), (Effect.RELEASE, Effect.FINISH)
    reason = "timeout" if ending == "timeout" else event.reason
    if reason is None:
        return Completed(event.exit_code), (Effect.RELEASE, Effect.FINISH)
    # Nothing that a retry could mend: the program is not there.
    if event.tries <= policy.retries and reason != "spawn":
        due = event.now + retry_delay(policy, event.tries, event.chance)
        return Blocked("time", due), (Effect.RELEASE, Effect.ARM)
    failed = Failed(reason, event.exit_code, event.signal, event.message)
    return failed, (Effect.RELEASE, Effect.FINISH)


def _vanish(state: Assigned | Running | Suspended, event: Vanished, policy: Policy) -> Step:
    if not isinstance(state, Assigned) and state.ending == "stop":
        return Stopped(), (Effect.RELEASE, Effect.FINISH)
    if policy.on_lost == "rerun":
        return Queued(), (Effect.RELEASE, Effect.READY)
    return Lost(event.message), (Effect.RELEASE, Effect.FINISH)


def _cancel(state: Blocked | Queued, event: StopAsked, policy: Policy) -> Step:
    return Stopped(), (Effect.FINISH,)


def _take_back(state: Assigned, event: StopAsked, policy: Policy) -> Step:
    # It becomes "running, told to stop" at once: Withdrawn or Ended both lead to stopped.
    return Running(state.attempt, "stop"), (Effect.WITHDRAW,)


def _stop(state: Running | Suspended, event: StopAsked, policy: Policy) -> Step:
    return Running(state.attempt, "stop"), (Effect.TERMINATE,)


def _time_out(state: Running | Suspended, event: TimeoutPassed, policy: Policy) -> Step:
    if state.ending:
        return state, NO_EFFECTS
    return replace(state, ending="timeout"), (Effect.TERMINATE,)


def _freeze(state: Running, event: SuspendAsked, policy: Policy) -> Step:
    if state.ending:
        raise Refusal("is being ended")
    return Suspended(state.attempt), (Effect.FREEZE,)


def _thaw(state: Suspended, event: ResumeAsked, policy: Policy) -> Step:
    return Running(state.attempt, state.ending), (Effect.THAW,)


def _again(state: Failed | Stopped | Lost, event: RetryAsked, policy: Policy) -> Step:
    return (Blocked("dependency"), NO_EFFECTS) if event.blocked else (Queued(), (Effect.READY,))


def _ignore(state: State, event: Event, policy: Policy) -> Step:
    return state, NO_EFFECTS


def _refuse(why: str) -> Callable[..., Step]:
    def refuse(state: State, event: Event, policy: Policy) -> Step:
        raise Refusal(why)

    refuse.__name__ = "refuse: " + why
    return refuse


_impossible = _refuse("cannot happen here")
_not_begun = _refuse("has not begun")
_over = _refuse("has ended")

_WAITING: dict[type, Callable[..., Step]] = {
    Unblocked: _ignore,
    DependencyBroken: _break,
    TimeCame: _ignore,
    Claimed: _impossible,
    Begun: _impossible,
    Withdrawn: _ignore,
    Ended: _impossible,
    Vanished: _impossible,
    StopAsked: _cancel,
    TimeoutPassed: _ignore,
    SuspendAsked: _not_begun,
    ResumeAsked: _not_begun,
    RetryAsked: _refuse("has not ended"),
}
_UNDER_WAY: dict[type, Callable[..., Step]] = {
    Unblocked: _ignore,
    DependencyBroken: _ignore,
    TimeCame: _ignore,
    Claimed: _impossible,
    Begun: _ignore,
    Withdrawn: _withdraw,
    Ended: _end,
    Vanished: _vanish,
    StopAsked: _stop,
    TimeoutPassed: _time_out,
    SuspendAsked: _freeze,
    ResumeAsked: _ignore,
    RetryAsked: _refuse("has not ended"),
}
_AT_REST: dict[type, Callable[..., Step]] = {
    **dict.fromkeys(EVENTS, _ignore),
    Claimed: _impossible,
    Begun: _impossible,
    StopAsked: _ignore,
    SuspendAsked: _over,
    ResumeAsked: _over,
    RetryAsked: _again,
}

#: The action for every state and event.
TABLE: dict[type, dict[type, Callable[..., Step]]] = {
    Blocked: {**_WAITING, Unblocked: _unblock, TimeCame: _come},
    Queued: {**_WAITING, Claimed: _claim},
    Assigned: {**_UNDER_WAY, Begun: _begin, StopAsked: _take_back, TimeoutPassed: _ignore, SuspendAsked: _not_begun},
    Running: _UNDER_WAY,
    Suspended: {
        **_UNDER_WAY,
        SuspendAsked: _ignore,
        ResumeAsked: _thaw,
        StopAsked: _thawed(_stop),
        Ended: _thawed(_end),
        Vanished: _thawed(_vanish),
        Withdrawn: _thawed(_withdraw),
    },
    Completed: {**_AT_REST, RetryAsked: _refuse("completed; start it anew instead")},
    Failed: _AT_REST,
    Stopped: _AT_REST,
    Lost: _AT_REST,
}


def step(state: State, event: Event, policy: Policy) -> Step:
    """Give the next state and the effects of an event.

    An event that changes nothing gives the same state and no effects.

    Raises
    ------
    Refusal
        When the event cannot be taken; the text completes "job 12 …".

    >>> step(Queued(), Claimed(1), Policy())
    (Running(attempt=1, ending=None), (<Effect.BEGIN: 3>,))
    """
    return TABLE[type(state)][type(event)](state, event, policy)
