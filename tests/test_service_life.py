"""The table of a service's life: walked whole, and run in a world of random faults."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from vigie.supervision import events as ev
from vigie.supervision.events import EVENTS, STATES, Effect, Instance, Refusal
from vigie.supervision.life import TABLE, restart_delay, step
from vigie.supervision.needs import lacking, waits_for
from vigie.supervision.plan import SECOND, Plan, Probe

NOW = 1_000 * SECOND
PARTS = {
    "inactive": (None, "waits", "listens"),
    "starting": ("before_start", "spawn", "ready"),
    "stopping": ("before_start", "before_stop", "signals", "itself", "after_exit"),
}
#: One event of each kind, and more where it has variants.
SAMPLES = [
    ev.StartAsked(NOW), ev.StartAsked(NOW, "boot"), ev.StartAsked(NOW, "needed"), ev.StopAsked(NOW),
    ev.StopAsked(NOW, hurry=True), ev.RestartAsked(NOW), ev.ReloadAsked(NOW), ev.PauseAsked(NOW),
    ev.PauseAsked(NOW, "needs"), ev.ResumeAsked(NOW), ev.ResumeAsked(NOW, "needs"), ev.NeedsChanged(NOW),
    ev.NeedsChanged(NOW, "db is inactive"), ev.Connected(NOW), ev.HookEnded(NOW, "before_start"),
    ev.HookEnded(NOW, "before_stop", "exit 1"), ev.HookEnded(NOW, "after_exit"), ev.HookEnded(NOW, "reload"),
    ev.Began(NOW), ev.Readied(NOW), ev.Unready(NOW, "port 80 does not answer"), ev.Ailing(NOW, 0.5, "silent"),
    ev.TooLate(NOW, 0.5, "not ready within 90 s"), ev.Said(NOW, "reloading"), ev.Said(NOW, "stopping"),
    ev.Ended(NOW, 0.5, "exit 1", "1", 1), ev.Ended(NOW, 0.5, "exit 0", "0", 0, left=True),
    ev.Ended(NOW, 0.5, "command not found: x", never=True), ev.Gone(NOW), ev.Gone(NOW, left="process 7"),
    ev.Settled(NOW), ev.DueCame(NOW),
]  # fmt: skip
PLANS = [
    Plan(), Plan(restart="never"), Plan(restart="on-failure", ready=Probe("notify"), reload="HUP"),
    Plan(hooks={"before_start": ("a",), "before_stop": ("b",), "after_exit": ("c",), "on_failure": ("d",)}),
    Plan(requires=("db",), reload=("r",), give_up=2), Plan(on_connection=True, exits={"1": "hold", "0": "ignore"}),
]  # fmt: skip


def test_every_state_knows_every_event():
    assert {type(event) for event in SAMPLES} == set(EVENTS)
    assert set(TABLE) == set(STATES)
    for state, row in TABLE.items():
        assert set(row) == set(EVENTS), state


@pytest.mark.parametrize("state", STATES)
def test_the_whole_table_leads_from_state_to_state(state):
    refused = set()
    for at in PARTS.get(state, (None,)):
        for desired in ("up", "down", "paused"):
            for event in SAMPLES:
                for plan in PLANS:
                    for needs in (None, "waits for db"):
                        one = Instance(desired=desired, state=state, at=at, since=1, then="rest", ready_since=5)
                        try:
                            new, effects = step(one, event, plan, needs)
                        except Refusal as refusal:
                            assert str(refusal)
                            refused.add(type(event))
                            continue
                        assert new.state in STATES
                        assert new.at in PARTS.get(new.state, (None,)), (one, event, new)
                        assert (new.due is not None) == (new.state == "backoff" and Effect.ARM in effects) or (
                            new.due == one.due
                        )
                        assert new.since == NOW or (new.since == 1 and new.state == state)
                        assert effects.count(Effect.SPAWN) <= 1
    # Whatever happens by itself is never refused: only a person hears no.
    assert refused <= {ev.StartAsked, ev.ReloadAsked, ev.PauseAsked}


# --- what the issue says, sentence by sentence ----------------------------------------


def _up(plan: Plan, now: int = NOW) -> Instance:
    one, _ = step(Instance(), ev.StartAsked(now), plan)
    one, _ = step(one, ev.Began(now), plan)
    return one


def _die(one: Instance, plan: Plan, now: int, how: str = "exit 1", code: int | None = 1) -> Instance:
    return step(one, ev.Ended(now, 0.5, how, str(code), code), plan)[0]


def test_one_that_was_ready_for_ten_seconds_is_restarted_at_once():
    plan = Plan()
    again = _die(_up(plan), plan, NOW + 10 * SECOND)
    assert (again.state, again.at, again.failures, again.restarts) == ("starting", "spawn", 0, 1)


def test_else_the_wait_doubles_from_a_tenth_of_a_second_to_a_minute_and_that_is_said_once():
    plan, now, waits, said = Plan(), NOW, [], 0
    one = _up(plan)
    for _ in range(14):
        one, effects = step(one, ev.Ended(now, 0.5, "exit 1", "1", 1), plan)
        said += Effect.SLOW in effects
        assert one.state == "backoff"
        assert one.due is not None
        waits.append((one.due - now) / SECOND)
        now = one.due
        one, _ = step(one, ev.DueCame(now), plan)
        one, _ = step(one, ev.Began(now), plan)
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == 60
    assert said == 1
    assert step(one, ev.Settled(now), plan)[0].failures == 0


def test_jitter_is_a_tenth_either_way():
    assert restart_delay(Plan(), 1, 0.0) == 90_000
    assert restart_delay(Plan(), 1, 1.0) == 110_000


@pytest.mark.parametrize(
    ("restart", "code", "state"),
    [
        ("always", 0, "backoff"), ("always", 1, "backoff"), ("on-failure", 0, "inactive"), ("on-failure", 1, "backoff"),
        ("never", 0, "inactive"), ("never", 1, "failed"),
    ],
)  # fmt: skip
def test_restart_says_which_ends_are_followed_by_another_life(restart, code, state):
    plan = Plan(restart=restart)
    assert _die(_up(plan), plan, NOW + 1, f"exit {code}", code).state == state


@pytest.mark.parametrize(
    ("meaning", "state"), [("restart", "backoff"), ("ignore", "inactive"), ("fail", "failed"), ("hold", "failed")]
)
def test_a_code_can_mean_something_else(meaning, state):
    plan = Plan(restart="never" if meaning == "restart" else "always", exits={"3": meaning})
    assert _die(_up(plan), plan, NOW + 1, "exit 3", 3).state == state


def test_it_gives_up_where_the_plan_says_so():
    plan = Plan(give_up=2)
    one = _die(_up(plan), plan, NOW)
    one, _ = step(one, ev.DueCame(NOW), plan)
    one, _ = step(one, ev.Began(NOW), plan)
    one = _die(one, plan, NOW)
    assert one.state == "failed"
    assert "2 times" in one.cause
    again, _ = step(one, ev.StartAsked(NOW), plan)
    assert (again.state, again.failures) == ("starting", 0)


def test_a_program_that_is_missing_backs_off_the_same_way():
    plan = Plan()
    one, _ = step(Instance(), ev.StartAsked(NOW), plan)
    one, _ = step(one, ev.Ended(NOW, 0.5, "command not found: x", never=True), plan)
    assert (one.state, one.cause, one.due) == ("backoff", "command not found: x", NOW + 100_000)


def test_losing_readiness_only_degrades_and_a_lost_liveness_restarts():
    plan = Plan(ready=Probe("port", ["h", 1], every=SECOND), alive=Probe("port", ["h", 1]))
    one, _ = step(_up(plan), ev.Readied(NOW), plan)
    worse, effects = step(one, ev.Unready(NOW, "port 1 is shut"), plan)
    assert (worse.state, worse.cause) == ("degraded", "port 1 is shut")
    assert Effect.TERMINATE not in effects
    assert step(worse, ev.Readied(NOW), plan)[0].state == "ready"
    ending, effects = step(one, ev.Ailing(NOW, 0.5, "silent"), plan)
    assert ending.state == "stopping"
    assert Effect.TERMINATE in effects
    assert step(ending, ev.Gone(NOW), plan)[0].state == "backoff"


def test_a_dependent_waits_until_the_other_is_ready_and_is_degraded_without_it():
    plan = Plan(requires=("db",))
    db = Instance("up", "starting", "started", at="ready")
    look = {"db": db}.get
    one, _ = step(Instance(), ev.StartAsked(NOW), plan, waits_for(plan, look))
    assert (one.state, one.at, one.cause) == ("inactive", "waits", "waits for db, which is starting: started")
    one, effects = step(one, ev.NeedsChanged(NOW), plan, None)
    assert one.state == "starting"
    assert Effect.SPAWN in effects
    one, _ = step(one, ev.Began(NOW), plan)
    gone = {"db": replace(db, state="backoff", cause="exit 1")}.get
    one, _ = step(one, ev.NeedsChanged(NOW, lacking(plan, gone)), plan, waits_for(plan, gone))
    assert (one.state, one.cause) == ("degraded", "db is in backoff: exit 1")
    one, _ = step(one, ev.NeedsChanged(NOW, None), plan)
    assert one.state == "ready"


def test_an_operators_word_outlasts_what_it_needs():
    plan = Plan(requires=("db",))
    one, _ = step(_up(plan), ev.PauseAsked(NOW, "needs"), plan)
    one, _ = step(one, ev.PauseAsked(NOW, "person"), plan)
    one, effects = step(one, ev.ResumeAsked(NOW, "needs"), plan)
    assert one.state == "paused"
    assert not effects
    one, effects = step(one, ev.ResumeAsked(NOW, "person"), plan)
    assert one.state == "ready"
    assert Effect.THAW in effects


# --- a world of random faults ---------------------------------------------------------


class World:
    """Does what the effects ask, late and in any order, and lets anything go wrong."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.plan = self._plan()
        self.now = NOW
        self.one = Instance()
        self.needs: str | None = None
        #: The process: None, "asked" (to be spawned), "runs", "ends" (told to), and what is left of its tree.
        self.process: str | None = None
        self.left = False
        self.hook: str | None = None
        self.frozen = False

    def _plan(self) -> Plan:
        pick = self.random.choice
        hooks = {hook: ("x",) for hook in ("before_start", "before_stop", "after_exit") if self.random.random() < 0.3}
        return Plan(
            ready=pick([None, Probe("notify"), Probe("port", ["h", 1], every=SECOND)]),
            alive=pick([None, Probe("port", ["h", 1])]),
            restart=pick(["always", "on-failure", "never"]), exits=pick([{}, {"3": "hold", "4": "ignore"}]),
            give_up=pick([None, 3]), hooks=hooks, reload=pick([None, "HUP", ("r",)]),
            on_connection=self.random.random() < 0.2, requires=pick([(), ("db",)]),
        )  # fmt: skip

    def take(self, event: ev.Event) -> None:
        try:
            self.one, effects = step(self.one, event, self.plan, self.needs)
        except Refusal:
            return
        for effect in effects:
            self.do(effect)

    def do(self, effect: Effect) -> None:
        if effect is Effect.SPAWN:
            assert self.process is None, "two lives at once"
            assert not self.left, "a life beside what the last one left"
            assert self.hook is None, "a life during a hook"
            self.process = "asked"
        elif effect in (Effect.BEFORE_START, Effect.BEFORE_STOP, Effect.AFTER_EXIT):
            assert self.hook is None, "two hooks at once"
            self.hook = effect.name.lower()
        elif effect is Effect.TERMINATE and self.process is not None:
            self.process = "ends"
        elif effect is Effect.FREEZE:
            assert self.process == "runs"
            assert not self.frozen
            self.frozen = True
        elif effect is Effect.THAW:
            self.frozen = False

    def tick(self) -> None:
        """Let something happen that can."""
        self.now += self.random.choice([1_000, 50_000, SECOND, 11 * SECOND])
        now, roll = self.now, self.random.random()
        possible: list[ev.Event] = []
        if self.hook is not None:
            possible.append(ev.HookEnded(now, self.hook, self.random.choice([None, "exit 1"])))
        if self.process == "asked":
            possible += [ev.Began(now), ev.Ended(now, roll, "command not found: x", never=True)]
        if self.process in ("runs", "ends"):
            code = self.random.choice([0, 1, 3, 4, None])
            name = "KILL" if code is None else str(code)
            left = self.random.random() < 0.3
            possible.append(ev.Ended(now, roll, f"end {name}", name, code, left=left))
        if self.process is None and self.one.state == "stopping" and self.one.at == "signals":
            possible.append(ev.Gone(now, roll))
        if self.process == "runs" and not self.frozen:
            possible += [
                ev.Readied(now), ev.Unready(now, "shut"), ev.Ailing(now, roll, "silent"), ev.TooLate(now, roll, "late"),
                ev.Said(now, "reloading"), ev.Said(now, "stopping"), ev.Settled(now), ev.HookEnded(now, "reload"),
            ]  # fmt: skip
        if self.one.state == "backoff":
            possible.append(ev.DueCame(now))
        if self.one.at == "listens":
            possible.append(ev.Connected(now))
        if possible:
            self.happen(self.random.choice(possible))

    def happen(self, event: ev.Event) -> None:
        if isinstance(event, ev.Began):
            self.process = "runs"
        elif isinstance(event, ev.Ended):
            self.process, self.frozen, self.left = None, False, event.left
        elif isinstance(event, ev.HookEnded) and event.hook == self.hook:
            self.hook = None
        elif isinstance(event, ev.Gone):
            self.left = False
        self.take(event)

    def ask(self) -> None:
        """Let somebody ask for something, or something around it change."""
        now = self.now
        if self.plan.requires and self.random.random() < 0.5:
            self.needs = self.random.choice([None, "waits for db"])
            self.take(ev.NeedsChanged(now, None if self.needs is None else "db is inactive"))
            return
        asked = self.random.choice([
            ev.StartAsked(now), ev.StartAsked(now, "needed"), ev.StopAsked(now), ev.RestartAsked(now),
            ev.ReloadAsked(now), ev.PauseAsked(now), ev.ResumeAsked(now), ev.PauseAsked(now, "needs"),
            ev.ResumeAsked(now, "needs"),
        ])  # fmt: skip
        self.take(asked)

    def calm(self) -> None:
        """Let everything that is under way come to its end, with no more faults than must be."""
        for _ in range(60):
            self.now += 11 * SECOND
            if self.hook is not None:
                self.happen(ev.HookEnded(self.now, self.hook))
            elif self.process == "asked":
                self.happen(ev.Began(self.now))
            elif self.process == "ends" or self.one.at == "itself":
                self.happen(ev.Ended(self.now, 0.5, "exit 0", "0", 0))
            elif self.process is None and self.one.state == "stopping":
                self.happen(ev.Gone(self.now))
            elif self.one.state == "backoff":
                self.happen(ev.DueCame(self.now))
            elif self.one.state in ("starting", "reloading"):
                self.happen(ev.Readied(self.now))
            else:
                return
        raise AssertionError(f"it never comes to rest: {self.one}")


def _check_rest(world: World) -> None:
    one = world.one
    running = world.process == "runs"
    assert running == (one.state in ("ready", "degraded", "paused")), (one, world.process)
    assert world.frozen == (one.state == "paused"), one
    if one.desired == "down":
        assert one.state in ("inactive", "failed"), one
        assert one.at is None, one
    if one.state == "inactive" and one.at == "waits":
        assert world.needs is not None


@pytest.mark.parametrize("seed", range(400))
def test_whatever_fails_it_comes_to_rest_as_it_is_wanted(seed):
    world = World(seed)
    world.take(ev.StartAsked(NOW))
    for _ in range(world.random.randrange(5, 60)):
        (world.ask if world.random.random() < 0.25 else world.tick)()
    world.calm()
    _check_rest(world)
    world.needs = None
    world.take(ev.NeedsChanged(world.now))
    world.take(ev.ResumeAsked(world.now, "needs"))
    world.take(ev.ResumeAsked(world.now))
    world.take(ev.StartAsked(world.now))
    if world.one.at == "listens":
        world.take(ev.Connected(world.now))
    world.calm()
    assert world.one.state in ("ready", "degraded") or world.one.at == "listens", world.one
    world.take(ev.StopAsked(world.now))
    world.calm()
    assert (world.one.at, world.process, world.one.desired) == (None, None, "down")
    assert world.one.state in ("inactive", "failed")
