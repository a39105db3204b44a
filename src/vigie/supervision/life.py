"""What can happen to an instance of a service, as one table: (state, event) -> (state, effects).

The idea is that of ``lifecycle``, one floor up. There an attempt lives once; here an
instance has one life after the other, each of them a job. The agent's duty
(``agent/services.py``) turns what it learns into an event, asks :func:`step`, writes the
new state in the transaction that told it, and carries out the effects. There is no
clock, no I/O and no chance here: instants and chance come in with the events, and what
an instance waits for comes in as a sentence.

The observed state is one of :data:`STATES`. Where a state has several parts, ``at`` says
which:

========  ==========================================================================
inactive  None; ``waits`` for what it needs; ``listens`` for the first connection
starting  ``before_start``, ``spawn`` (the process is to begin), ``ready`` (it runs, and is not ready)
stopping  ``before_stop``, ``signals`` (until the tree is gone), ``itself`` (it says that it ends),
          ``after_exit``
========  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vigie.supervision.events import (
    EVENTS,
    Ailing,
    Began,
    Connected,
    DueCame,
    Effect,
    Ended,
    Event,
    Gone,
    HookEnded,
    Instance,
    NeedsChanged,
    PauseAsked,
    Readied,
    Refusal,
    ReloadAsked,
    RestartAsked,
    ResumeAsked,
    Said,
    Settled,
    StartAsked,
    StopAsked,
    TooLate,
    Unready,
)
from vigie.supervision.plan import Plan

__all__ = ["TABLE", "on_its_way", "restart_delay", "step"]

Step = tuple[Instance, tuple[Effect, ...]]
NOTHING: tuple[Effect, ...] = ()
E = Effect


def on_its_way(one: Instance) -> bool:
    """Tell whether it is about to be something else of itself, and soon."""
    return one.state in ("starting", "stopping", "reloading")


def restart_delay(plan: Plan, failures: int, chance: float) -> int:
    """Give the wait before the next life (µs): doubling, bounded, jittered by a tenth.

    >>> [restart_delay(Plan(), n, 0.5) for n in (1, 2, 3, 99)]
    [100000, 200000, 400000, 60000000]
    """
    base: int = min(plan.backoff << min(max(failures, 1) - 1, 40), plan.backoff_max)
    return max(0, round(base * (1 + 0.1 * (2 * chance - 1))))


# --- parts of actions ------------------------------------------------------------


def _become(one: Instance, now: int, state: str, cause: str, *, at: str | None = None, **more: object) -> Instance:
    """Give it in another state; what belongs to the old one goes."""
    since = now if state != one.state else one.since
    fields: dict[str, Any] = {"then": None, "then_cause": "", "due": None, "lacks": (), "paused_by": None, **more}
    return replace(one, state=state, cause=cause, since=since, at=at, **fields)


def _afresh(one: Instance) -> Instance:
    """Give it wanted, with its counters cleared: a person's word begins a new count."""
    return replace(one, desired="up", failures=0, restarts=0, slow=False)


def _go(one: Instance, now: int, plan: Plan, needs: str | None, cause: str, *, connected: bool = False) -> Step:
    """Begin a life, or wait for what that needs."""
    if needs is not None:
        return _become(one, now, "inactive", needs, at="waits", ready_since=None), (E.TELL,)
    if plan.on_connection and not connected:
        waits = _become(one, now, "inactive", "waits for a connection", at="listens", ready_since=None)
        return waits, (E.LISTEN, E.TELL)
    if "before_start" in plan.hooks:
        return _become(one, now, "starting", cause, at="before_start", ready_since=None), (E.BEFORE_START, E.TELL)
    return _become(one, now, "starting", cause, at="spawn", ready_since=None), (E.SPAWN, E.TELL)


def _rest(one: Instance, now: int, cause: str) -> Step:
    return _become(one, now, "inactive", cause, ready_since=None), (E.UNWATCH, E.TELL)


def _fail(one: Instance, now: int, cause: str) -> Step:
    return _become(one, now, "failed", cause, ready_since=None), (E.UNWATCH, E.TELL)


def _stop(one: Instance, now: int, plan: Plan, cause: str, then: str, then_cause: str = "") -> Step:
    """End the life that is under way, and what then."""
    told = {"then": then, "then_cause": then_cause or cause, "ready_since": one.ready_since}
    thaw = (E.THAW,) if one.state == "paused" else NOTHING
    if one.state == "starting" and one.at == "before_start":
        return _become(one, now, "stopping", cause, at="before_start", **told), (E.STOP_HOOK, E.UNWATCH, E.TELL)
    if "before_stop" in plan.hooks and one.state != "starting":
        return _become(one, now, "stopping", cause, at="before_stop", **told), (*thaw, E.BEFORE_STOP, E.UNWATCH, E.TELL)
    return _become(one, now, "stopping", cause, at="signals", **told), (*thaw, E.TERMINATE, E.UNWATCH, E.TELL)


def _verdict(
    one: Instance, event: Ended | Ailing | TooLate, plan: Plan
) -> tuple[Instance, str, str, tuple[Effect, ...]]:
    """Judge an end that nobody asked for: the counters then, what follows, why, and what else is to be done."""
    how = event.how if isinstance(event, Ended) else event.cause
    name = event.name if isinstance(event, Ended) else ""
    never = isinstance(event, Ended) and event.never
    unready = plan.ready is not None and one.ready_since is None
    good = isinstance(event, Ended) and event.code == 0 and not unready
    meaning = plan.exits.get(name) if name else None
    if one.desired == "paused":
        return one, "rest", f"ended while it was paused: {how}", NOTHING
    if meaning == "ignore":
        return one, "rest", f"ended: {how}, which is ignored", NOTHING
    alarm = NOTHING if good else (E.ON_FAILURE,)
    if meaning in ("fail", "hold"):
        why = how if meaning == "fail" else f"{how}, on which it is held until somebody starts it"
        return one, "fail", why, alarm
    wanted = meaning == "restart" or plan.restart == "always" or (plan.restart == "on-failure" and not good)
    if not wanted:
        return (one, "rest", f"ended: {how}", NOTHING) if good else (one, "fail", f"{how}; restart is never", alarm)
    steady = one.ready_since is not None and event.now - one.ready_since >= plan.settled
    if steady and not never:
        return replace(one, failures=0, slow=False), "restart", how, alarm
    one = replace(one, failures=one.failures + 1)
    if plan.give_up is not None and one.failures >= plan.give_up:
        return one, "fail", f"{how}; {one.failures} times in a row, and it is given up", alarm
    if not one.slow and plan.backoff << min(one.failures - 1, 40) >= plan.backoff_max:
        one, alarm = replace(one, slow=True), (*alarm, E.SLOW)
    return one, "backoff", how, alarm


def _follow(one: Instance, now: int, chance: float, plan: Plan, needs: str | None) -> Step:
    """Do what was to follow once nothing of the life is left."""
    then, cause = one.then, one.then_cause
    if then == "start":
        return _go(one, now, plan, needs, cause)
    if then == "restart":
        return _go(replace(one, restarts=one.restarts + 1), now, plan, needs, f"restarted after {cause}")
    if then == "backoff":
        due = now + restart_delay(plan, one.failures, chance)
        return _become(one, now, "backoff", cause, due=due, ready_since=None), (E.ARM, E.UNWATCH, E.TELL)
    if then == "fail":
        return _fail(one, now, cause)
    state, effects = _rest(one, now, cause)
    if plan.on_connection and one.desired == "up":
        return replace(state, at="listens", cause="waits for a connection"), (*effects, E.LISTEN)
    return state, effects


def _over(one: Instance, event: Gone | HookEnded, plan: Plan, needs: str | None) -> Step:
    """Nothing of the life is left: the hook behind it, then what follows."""
    chance = event.chance if isinstance(event, Gone) else 0.5
    left = event.left if isinstance(event, Gone) else None
    if left is not None:
        return _fail(one, event.now, f"{one.cause}; still there: {left}")
    if "after_exit" in plan.hooks and one.at != "after_exit":
        return replace(one, at="after_exit"), (E.AFTER_EXIT,)
    return _follow(one, event.now, chance, plan, needs)


def _lack(one: Instance, now: int, source: str, cause: str | None) -> Step:
    """Take note that one source of readiness fails, or not any more."""
    lacks = tuple(each for each in one.lacks if each[0] != source)
    if cause is not None:
        lacks = (*lacks, (source, cause))
    if lacks == one.lacks:
        return one, NOTHING
    if one.state in ("starting", "reloading", "paused"):
        return replace(one, lacks=lacks), NOTHING
    state = "degraded" if lacks else "ready"
    said = lacks[0][1] if lacks else "ready again"
    return _become(one, now, state, said, lacks=lacks), ((E.TELL,) if state != one.state else NOTHING)


def _ready(one: Instance, now: int, plan: Plan) -> Step:
    """It is ready, unless something that it requires is not."""
    fresh = one.ready_since is None
    lacks = tuple(each for each in one.lacks if each[0] != "self")
    state = "degraded" if lacks else "ready"
    cause = lacks[0][1] if lacks else ("ready" if fresh else "ready again")
    new = _become(one, now, state, cause, lacks=lacks, ready_since=now if fresh else one.ready_since)
    hook = (E.AFTER_START,) if fresh and "after_start" in plan.hooks else NOTHING
    return new, (E.WATCH, *hook, E.TELL)


# --- actions: (instance, event, plan, needs) ----------------------------------------


def _start(one: Instance, event: StartAsked, plan: Plan, needs: str | None) -> Step:
    if event.by == "needed" and one.state in ("failed", "backoff"):
        return one, NOTHING  # what becomes of it is decided already
    cause = {"person": "started", "boot": "started at boot", "needed": "started for another"}[event.by]
    return _go(_afresh(one), event.now, plan, needs, cause)


def _keep(one: Instance, event: StartAsked, plan: Plan, needs: str | None) -> Step:
    if one.state == "paused" and event.by == "person":
        raise Refusal("is paused; vigie service resume lets it go on")
    if one.state == "paused":
        return one, NOTHING
    return replace(one, desired="up"), NOTHING


def _start_after(one: Instance, event: StartAsked | RestartAsked, plan: Plan, needs: str | None) -> Step:
    return replace(_afresh(one), then="start", then_cause="started"), NOTHING


def _halt(one: Instance, event: StopAsked, plan: Plan, needs: str | None) -> Step:
    return _stop(replace(one, desired="down"), event.now, plan, event.cause, "rest")


def _halt_anyway(one: Instance, event: StopAsked, plan: Plan, needs: str | None) -> Step:
    new = replace(one, desired="down", then="rest", then_cause=event.cause)
    if one.at == "itself":
        return _become(new, event.now, "stopping", event.cause, at="signals", then="rest"), (E.TERMINATE,)
    if not event.hurry:
        return new, NOTHING
    return new, ((E.STOP_HOOK,) if one.at in ("before_start", "before_stop", "after_exit") else (E.HURRY,))


def _down(one: Instance, event: StopAsked, plan: Plan, needs: str | None) -> Step:
    if one.state == "failed" or (one.state == "inactive" and one.at is None):
        return replace(one, desired="down"), NOTHING  # how it failed is worth to be seen still
    return _rest(replace(one, desired="down"), event.now, event.cause)


def _renew(one: Instance, event: RestartAsked, plan: Plan, needs: str | None) -> Step:
    return _stop(_afresh(one), event.now, plan, event.cause, "start", event.cause)


def _begin_anew(one: Instance, event: RestartAsked, plan: Plan, needs: str | None) -> Step:
    return _go(_afresh(one), event.now, plan, needs, event.cause)


def _reload(one: Instance, event: ReloadAsked, plan: Plan, needs: str | None) -> Step:
    if plan.reload is None:
        raise Refusal('cannot reload: nothing says how; give it reload = "HUP", or a command')
    confirmed = not isinstance(plan.reload, str) or (plan.ready is not None and plan.ready.kind == "notify")
    if not confirmed:
        return one, (E.RELOAD,)
    return _become(one, event.now, "reloading", "asked to", lacks=one.lacks), (E.RELOAD, E.WATCH)


def _reloaded(one: Instance, event: HookEnded, plan: Plan, needs: str | None) -> Step:
    if event.hook != "reload":
        return one, NOTHING
    new, effects = _ready(one, event.now, plan)
    return (new if event.failure is None else replace(new, cause=f"the reload failed: {event.failure}")), effects


def _pause(one: Instance, event: PauseAsked, plan: Plan, needs: str | None) -> Step:
    desired = "paused" if event.by == "person" else one.desired
    cause = "suspended" if event.by == "person" else "what it needs is suspended"
    new = _become(one, event.now, "paused", cause, lacks=one.lacks, paused_by=event.by)
    return replace(new, desired=desired), (E.FREEZE, E.UNWATCH, E.TELL)


def _pause_more(one: Instance, event: PauseAsked, plan: Plan, needs: str | None) -> Step:
    """A person's word outlasts that of what it needs."""
    if event.by == "needs":
        return one, NOTHING
    return replace(one, desired="paused", paused_by="person", cause="suspended"), NOTHING


def _resume(one: Instance, event: ResumeAsked, plan: Plan, needs: str | None) -> Step:
    if event.by != one.paused_by:
        return one, NOTHING
    lacks = one.lacks
    new = _become(one, event.now, "degraded" if lacks else "ready", lacks[0][1] if lacks else "resumed", lacks=lacks)
    return replace(new, desired="up"), (E.THAW, E.WATCH, E.TELL)


def _resume_down(one: Instance, event: ResumeAsked, plan: Plan, needs: str | None) -> Step:
    if one.desired != "paused" or event.by != "person":
        return one, NOTHING
    return _go(replace(one, desired="up"), event.now, plan, needs, "resumed")


def _need_waiting(one: Instance, event: NeedsChanged, plan: Plan, needs: str | None) -> Step:
    if one.at != "waits":
        return one, NOTHING
    if needs is None:
        return _go(one, event.now, plan, None, "what it waited for is there")
    return (one if one.cause == needs else replace(one, cause=needs)), NOTHING


def _need(one: Instance, event: NeedsChanged, plan: Plan, needs: str | None) -> Step:
    return _lack(one, event.now, "needs", event.lacking)


def _connect(one: Instance, event: Connected, plan: Plan, needs: str | None) -> Step:
    if one.at != "listens":
        return one, NOTHING
    return _go(one, event.now, plan, needs, "a connection came", connected=True)


def _hook_of_start(one: Instance, event: HookEnded, plan: Plan, needs: str | None) -> Step:
    if event.hook != "before_start" or one.at != "before_start":
        return one, NOTHING
    if event.failure is None:
        return replace(one, at="spawn"), (E.SPAWN,)
    how = f"before_start: {event.failure}"
    return _ended(one, Ended(event.now, 0.5, how, never=True), plan, needs)


def _hook_of_stop(one: Instance, event: HookEnded, plan: Plan, needs: str | None) -> Step:
    if event.hook != one.at:
        return one, NOTHING
    if one.at == "before_stop":
        return replace(one, at="signals"), (E.TERMINATE,)
    return _over(one, event, plan, needs)


def _begin(one: Instance, event: Began, plan: Plan, needs: str | None) -> Step:
    if one.at != "spawn":
        return one, NOTHING
    if plan.ready is None:
        return _ready(one, event.now, plan)
    return replace(one, at="ready"), (E.WATCH,)


def _readied(one: Instance, event: Readied, plan: Plan, needs: str | None) -> Step:
    return (one, NOTHING) if one.at == "before_start" else _ready(one, event.now, plan)


def _ready_again(one: Instance, event: Readied, plan: Plan, needs: str | None) -> Step:
    return _lack(one, event.now, "self", None)


def _unready(one: Instance, event: Unready, plan: Plan, needs: str | None) -> Step:
    return _lack(one, event.now, "self", event.cause)


def _ail(one: Instance, event: Ailing | TooLate, plan: Plan, needs: str | None) -> Step:
    new, then, cause, effects = _verdict(one, event, plan)
    new, more = _stop(new, event.now, plan, event.cause, then, cause)
    return new, (*effects, *more)


def _late_reload(one: Instance, event: TooLate, plan: Plan, needs: str | None) -> Step:
    new = _become(one, event.now, "ready", "", lacks=one.lacks)
    return _lack(new, event.now, "self", event.cause)[0], (E.WATCH, E.TELL)


def _said(one: Instance, event: Said, plan: Plan, needs: str | None) -> Step:
    if event.what == "reloading":
        return _become(one, event.now, "reloading", "it says so", lacks=one.lacks), (E.WATCH,)
    new = _become(one, event.now, "stopping", "it says so", at="itself", ready_since=one.ready_since)
    return new, (E.UNWATCH, E.TELL)


def _ended(one: Instance, event: Ended, plan: Plan, needs: str | None) -> Step:
    """Its process has ended, and nobody asked for that."""
    new, then, cause, effects = _verdict(one, event, plan)
    new = _become(
        new, event.now, "stopping", event.how, at="signals", then=then, then_cause=cause, ready_since=one.ready_since
    )
    if event.left:
        return new, (*effects, E.UNWATCH, E.CLEAR)
    following, more = _over(new, Gone(event.now, event.chance), plan, needs)
    if following.state not in ("stopping", one.state):
        following = replace(following, since=event.now)
    return following, (*effects, E.UNWATCH, *more)


def _ended_in_stop(one: Instance, event: Ended, plan: Plan, needs: str | None) -> Step:
    """It has ended as it was told to, or as it had said; of the former the tree has still to go (:class:`Gone`)."""
    if one.at == "itself":
        return _ended(one, event, plan, needs)
    # Else what it left goes by the signals, which come after the hook.
    return one, NOTHING


def _gone(one: Instance, event: Gone, plan: Plan, needs: str | None) -> Step:
    return _over(one, event, plan, needs) if one.at == "signals" else (one, NOTHING)


def _settle(one: Instance, event: Settled, plan: Plan, needs: str | None) -> Step:
    return replace(one, failures=0, slow=False), NOTHING


def _come_due(one: Instance, event: DueCame, plan: Plan, needs: str | None) -> Step:
    tries = f"tried again after {one.cause}"
    return _go(replace(one, restarts=one.restarts + 1), event.now, plan, needs, tries)


def _ignore(one: Instance, event: Event, plan: Plan, needs: str | None) -> Step:
    return one, NOTHING


def _refuse(why: str) -> Callable[..., Step]:
    def refuse(one: Instance, event: Event, plan: Plan, needs: str | None) -> Step:
        raise Refusal(why)

    refuse.__name__ = "refuse: " + why
    return refuse


def _by_person(action: Callable[..., Step]) -> Callable[..., Step]:
    """Give the action where a person asks; what comes of something else changes nothing."""

    def act(one: Instance, event: PauseAsked, plan: Plan, needs: str | None) -> Step:
        return action(one, event, plan, needs) if event.by == "person" else (one, NOTHING)

    act.__name__ = action.__name__
    return act


_not_running = _refuse("is not running")

_AT_REST: dict[type, Callable[..., Step]] = {
    **dict.fromkeys(EVENTS, _ignore),
    StartAsked: _start,
    StopAsked: _down,
    RestartAsked: _begin_anew,
    ReloadAsked: _not_running,
    PauseAsked: _by_person(_not_running),
    ResumeAsked: _resume_down,
}
_RUNNING: dict[type, Callable[..., Step]] = {
    **dict.fromkeys(EVENTS, _ignore),
    StartAsked: _keep,
    StopAsked: _halt,
    RestartAsked: _renew,
    ReloadAsked: _reload,
    PauseAsked: _pause,
    NeedsChanged: _need,
    Readied: _ready_again,
    Unready: _unready,
    Ailing: _ail,
    Said: _said,
    Ended: _ended,
    Settled: _settle,
}
_on_its_way = _refuse("is on its way: wait until it is ready")

#: The action for every state and event.
TABLE: dict[str, dict[type, Callable[..., Step]]] = {
    "inactive": {**_AT_REST, NeedsChanged: _need_waiting, Connected: _connect},
    "starting": {
        **_RUNNING,
        ReloadAsked: _on_its_way,
        PauseAsked: _by_person(_on_its_way),
        HookEnded: _hook_of_start,
        Began: _begin,
        Readied: _readied,
        Unready: _ignore,
        TooLate: _ail,
        Settled: _ignore,
    },
    "ready": _RUNNING,
    "degraded": _RUNNING,
    "reloading": {**_RUNNING, ReloadAsked: _ignore, HookEnded: _reloaded, Readied: _readied, TooLate: _late_reload},
    "paused": {
        **_RUNNING,
        ReloadAsked: _refuse("is paused"),
        PauseAsked: _pause_more,
        ResumeAsked: _resume,
        Ailing: _ignore,
        Said: _ignore,
        Settled: _ignore,
    },
    "stopping": {
        **dict.fromkeys(EVENTS, _ignore),
        StartAsked: _start_after,
        StopAsked: _halt_anyway,
        RestartAsked: _start_after,
        ReloadAsked: _refuse("is stopping"),
        PauseAsked: _by_person(_refuse("is stopping")),
        HookEnded: _hook_of_stop,
        Ended: _ended_in_stop,
        Gone: _gone,
    },
    "backoff": {**_AT_REST, DueCame: _come_due},
    "failed": _AT_REST,
}


def step(one: Instance, event: Event, plan: Plan, needs: str | None = None) -> Step:
    """Give the next state of an instance and the effects of an event.

    Parameters
    ----------
    needs:
        What a life would have to wait for now, as a sentence; None: nothing.

    Raises
    ------
    Refusal
        When a person asks for what cannot be.

    >>> up, effects = step(Instance(), StartAsked(5), Plan())
    >>> up.state, [each.name for each in effects]
    ('starting', ['SPAWN', 'TELL'])
    >>> step(up, Began(6), Plan())[0].state
    'ready'
    """
    return TABLE[one.state][type(event)](one, event, plan, needs)
