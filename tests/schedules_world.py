"""A world of schedules, played from a seed: years of random schedules, jobs, deaths, sleeps and clocks that are set.

The agent's duties are those of production on a real store; time is a number that jumps
to whatever comes next: the agent's own alarm, the end of a job, or an incident. The
oracle hears of each write.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, islice, takewhile
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock
from zoneinfo import ZoneInfo

import apsw

import vigie.agent.gates
import vigie.agent.writer
from schedules_drawn import DAY, HOUR, KINDS, MINUTE, ODD, RULES, SECOND, TIMED, policy, span, table
from schedules_oracle import JOURNAL, Asked, Life, Oracle, Told, load
from schedules_oracle import RULES as RULES_OF_TODAY
from schedules_place import Place, us
from vigie import declaration, zones
from vigie.agent import whens
from vigie.agent.core import Who
from vigie.agent.outcomes import Outcomes
from vigie.agent.schedules import AHEAD
from vigie.agent.timers import Timers
from vigie.errors import ExpressionError, Refused, StoreError, UsageError, VigieError
from vigie.model import FINISHED
from vigie.policies import FIELDS, parse_policy
from vigie.triggers.wall import Zone
from vigie.triggers.when import When

#: An alarm that has passed rings so many times in a row at most.
MANY = 5_000
#: How often something happens between the planning of a firing and its instant.
RISK = 0.02
#: Nobody is away for longer than so many instants of a schedule.
MISSED = 3_000


class Killed(BaseException):
    """The agent dies here."""


class Clock:
    """A wall clock that can be set, beside one that cannot, on a machine that may sleep."""

    def __init__(self, now: int) -> None:
        self.true = 0
        self.ahead = now
        self.booted = 0
        self.slept = 0

    @property
    def now(self) -> int:
        return self.true + self.ahead

    def wall(self) -> int:
        return self.true + self.ahead

    def mono(self) -> int:
        return self.true - self.booted - self.slept

    def asleep(self) -> int:
        return self.slept

    def offset(self) -> int:
        return self.ahead + self.booted


class Alarm:
    """Rings when the world lets it."""

    def __init__(self) -> None:
        self.instant: int | None = None

    def set(self, instant: int | None) -> None:
        self.instant = instant

    def close(self) -> None:
        self.instant = None


class Agent(Place):
    """An agent that the world can kill in any commit."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dead = False
        #: So many commits are left, and in the last it dies "before" or "after", or the disk is "full".
        self.fuse = world.doom
        world.doom = None
        super().__init__(world.path, boot=f"boot-{world.clock.booted}", clock=world.clock)  # type: ignore[arg-type]

    def begin(self) -> None:
        self.alarm = self.duty.alarm = Alarm()  # type: ignore[assignment]
        self.outcomes = Outcomes(self.core, self.dispatch)
        self.timers = Timers(self.core, self.control, self.writer, self.loop)
        self.hands.spawn_command.side_effect = self.world.spawned
        self.hands.terminate.side_effect = self.world.told_to_end
        self.loop: Any
        self.store.db.execute("PRAGMA synchronous=OFF;" + JOURNAL)
        self.dispatch.rebuild()
        self.dispatch.open = True
        self._commit, self.store.commit = self.store.commit, self._burn  # type: ignore[method-assign]
        self._step, self.duty.step = self.duty.step, self._watched  # type: ignore[method-assign]
        self.loop.set_exception_handler(self._broke)
        self.writer.post(self.timers.follow_clock)
        self.writer.post(self.duty.begin)
        self.turn()

    def _broke(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed):
            self.world.trouble.append(error)

    def _watched(self) -> None:
        try:
            self._step()
        except VigieError as error:
            self.world.trouble.append(error)
            raise

    def _burn(self) -> None:
        left, how = self.fuse or (0, "")
        self.fuse = (left - 1, how) if left > 1 else None
        if left == 1:
            self.world.oracle.say(f"in a commit: {how}")
            if how == "full":
                raise apsw.FullError("database or disk is full")
            self.dead = self.writer.closed = True
            if how == "after":
                self._commit()
            else:
                self.store.rollback()
            raise Killed
        self._commit()

    def turn(self) -> None:
        while self.loop._ready or (self.writer.broken is not None and not self.dead):
            if not self.loop._ready:
                # It would try again in a second.
                self.writer.flush()
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def ask(self, work: Any, *args: Any) -> Any:
        """Give what is answered; None when nobody lives to answer."""
        answers: list[tuple[Any, VigieError | None]] = []
        self.writer.post(work, *args, answer=lambda value, error: answers.append((value, error)))
        self.turn()
        for value, error in answers:
            if error is not None:
                raise error
            return value
        return None


class World:
    """Years in the lives of schedules."""

    def __init__(self, path: Path, seed: int, *, years: float = 10.0, alive: int = 4) -> None:
        self.rng = Random(seed)
        self.path = path
        self.clock = Clock(us("2009-01-01") + self.rng.randrange(15 * 365 * DAY))
        self.end = int(years * 365 * DAY)
        self.alive = alive
        self.oracle = Oracle()
        self.agents: list[Agent] = []
        #: The fuse of the next agent.
        self.doom: tuple[int, str] | None = None
        #: What goes wrong where production would log it and go on.
        self.trouble: list[Any] = []
        #: What happens when: (true µs, number, what).
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self._number = count(1)
        #: Attempts under way, each with the number of its end, and how they ended of which nobody has heard.
        self.running: dict[tuple[int, int], int] = {}
        self.unheard: dict[tuple[int, int], dict[str, Any] | None] = {}
        self.turns = 0
        self._heard = 0
        self._clock: tuple[str, int] = ("", 0)
        self._slept = False
        #: One of two agents has died, and the other does not know what that has planned.
        self.bereaved = False

    # --- the course of things -------------------------------------------------

    def at(self, later: int, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.clock.true + max(0, later), next(self._number), what))

    def play(self) -> None:
        """Let it all happen."""
        with installed(self):
            self.at(0, self.start)
            self.at(1, self.tend)
            for what, each in INCIDENTS.items():
                self.at(self.rng.randrange(each), self._incident(what, each))
            try:
                while self.clock.true < self.end:
                    self.next()
            finally:
                for agent in self.agents:
                    agent.close()

    def _incident(self, what: str, each: int) -> Callable[[], None]:
        """Give something that happens, and again after ``each`` µs or so."""

        def happen() -> None:
            self.at(int(self.rng.expovariate(1 / each)) + 1, happen)
            if self.agents:
                getattr(self, what)()

        return happen

    def next(self) -> None:
        """Go on to what comes next."""
        rings = [agent.alarm.instant - self.clock.ahead for agent in self.agents if agent.alarm.instant is not None]
        ring = min(rings, default=self.end)
        if self.events[0][0] < ring:
            then, _, what = heapq.heappop(self.events)
            self.clock.true = max(self.clock.true, then)
            self.oracle.now = self.clock.now
            what()
        else:
            self.clock.true = max(self.clock.true, min(ring, self.end))
        self.come_to_rest()

    def come_to_rest(self) -> None:
        """Ring all alarms that have passed, and look."""
        self.settle()
        for rung in range(MANY + 1):
            ringing = [agent for agent in self.agents if (agent.alarm.instant or self.clock.now + 1) <= self.clock.now]
            if not ringing:
                break
            if rung == MANY:
                self.oracle.fail("the alarm rings again and again")
            for agent in ringing:
                agent.step()
            self.settle()
        if self.agents and not self.bereaved:
            for agent in self.agents if len(self.agents) > 1 else ():
                self._attempt(agent, agent.duty.adopt)
            self.settle()
            self.look()
            self.tempt()

    def tempt(self) -> None:
        """Now and then, let something happen between the planning of a firing and its instant: then it counts."""
        if self.rng.random() < RISK and any(
            firing.due > self.clock.now for life in self.oracle.lives.values() for firing in life.undecided.values()
        ):
            what = getattr(self, self.rng.choice(("death", "sleep", "set_clock", "fuse", "poison", "meddle", "second")))
            self.at(self.rng.randrange(AHEAD), lambda: what() if self.agents else None)

    def settle(self) -> None:
        """Hear what was written, and bury the dead."""
        self.oracle.now = self.clock.now
        if self.trouble:
            self.oracle.fail(f"inside the agent: {self.trouble}")
        for agent in list(self.agents):
            if agent.dead:
                self.hear(agent)
                self.kill(agent)
        if self.agents:
            self.turns += 1
            self.hear(self.agents[0])

    def hear(self, agent: Agent) -> None:
        oracle, db = self.oracle, agent.store.db
        self._hear_clock(agent)
        if self._slept and (agent.duty.back, agent.duty.absence) == (oracle.now, "asleep"):
            self._slept = False
            oracle.returned("asleep")
        if self._slept and agent.duty._slept == self.clock.slept:
            oracle.fail("the machine slept, and the agent did not notice")
        told = [Told(*row) for row in db.execute("SELECT * FROM told WHERE n > ? ORDER BY n", (self._heard,))]
        if told:
            self._heard = told[-1].n
            oracle.hear(told)
        for job in oracle.must_have_ended():
            finished, ending = db.execute("SELECT finished, ending FROM jobs WHERE id = ?", (job,)).fetchone()
            if finished is None and ending is None:
                oracle.fail(f"job {job} was replaced, and goes on")
        for key in list(self.unheard):
            if (agent.core.store.state_of(key[0]) or FINISHED)[0] in FINISHED:
                del self.unheard[key]

    def _hear_clock(self, agent: Agent) -> None:
        """Follow clock and boot as far as the agent has noticed."""
        oracle = self.oracle
        boot, _, offset = (agent.store.meta("clock") or "").partition(" ")
        known, self._clock = self._clock, (boot, int(offset or 0))
        step = self._clock[1] - known[1] if known[0] == boot else 0
        if step:
            oracle.shift += step
            oracle.sets += 1
            oracle.say(f"the clock was set by {step / SECOND:g} s")
            oracle.back_at = min(oracle.back_at, oracle.now)
            if step > 3 * HOUR:
                oracle.returned("down")
        if known[0] not in ("", boot):
            oracle.expect("boot")

    def look(self) -> None:
        oracle = self.oracle
        oracle.look()
        known = {key[1:] for agent in self.agents for key in agent.duty.heap}
        for life in oracle.lives.values():
            for firing in life.undecided.values():
                if (life.number, firing.instant) not in known and not (oracle.divided and firing.due > oracle.now):
                    oracle.fail(f"nobody knows of {firing}", life)
        self.leaving()

    def leaving(self) -> None:
        """All that has come up to now was seen to."""
        self.oracle.left, self.oracle.left_shift = self.clock.now, self.oracle.shift

    # --- life and death -------------------------------------------------------

    def start(self) -> None:
        """Start an agent, if none lives."""
        if self.agents:
            return
        oracle = self.oracle
        oracle.say(f"an agent starts in boot {self.clock.booted} with {self.doom}")
        self._slept = self.bereaved = self.oracle.divided = False
        self.follow_zone()
        agent = Agent(self)
        self.agents.append(agent)
        self._hear_clock(agent)
        oracle.returned("down")
        self.settle()
        if self.agents:
            self.find_running(agent)
            self.report()

    def follow_zone(self) -> None:
        """Who starts reads the files of zones."""
        zones._known.clear()
        whens.forget()
        self.oracle.rezone(ODD)

    def kill(self, agent: Agent) -> None:
        self.oracle.say("an agent is dead")
        agent.close()
        self.agents.remove(agent)
        if not self.agents:
            self.at(self.away(2 * HOUR), self.start)
        elif not self.bereaved:
            # What the dead one had planned is taken up by upkeep, which comes every minute; what else it has changed
            # is not known to one that lives on.
            self.bereaved = True
            self.at(MINUTE, self.inherit)
            self.at(span(self.rng, 2 * MINUTE, HOUR), lambda: self.death() if self.agents else None)

    def away(self, most: int = 90 * DAY) -> int:
        """Draw for how long nobody will be there."""
        return span(self.rng, 1_000, most)

    def calm(self, length: int) -> None:
        """Remove what comes too often for an absence of so many µs."""
        for life in list(self.oracle.lives.values()):
            if len(self.coming(life, length, MISSED)) == MISSED:
                self.ask("remove", life)

    def coming(self, life: Life, length: int, most: int) -> list[int]:
        """Give the instants of a schedule in the next so many µs."""
        now = self.clock.now - life.shift
        return list(islice(takewhile(lambda instant: instant <= now + length, life.after(now)), most))

    def death(self) -> None:
        """All agents die, and maybe the machine."""
        length = self.away()
        self.calm(length)
        self.leaving()
        while self.agents:
            self.kill(self.agents[0])
        self.at(length, self.start)
        if self.rng.random() < 0.3:
            self.oracle.say("and the machine")
            self.clock.booted, self.clock.slept = self.clock.true, 0
            self.unheard |= dict.fromkeys(self.running)
            self.running.clear()
        if self.rng.random() < 0.3:
            self.clock.ahead += self.step()
        if self.rng.random() < 0.3:
            self.doom = (self.rng.randrange(1, 4), self.rng.choice(("before", "after")))

    def fuse(self) -> None:
        """The agent will die in some commit to come, or the disk will be full."""
        how = self.rng.choice(("before", "after", "full"))
        self.agents[0].fuse = (self.rng.randrange(1, 6), how)

    def poison(self) -> None:
        """A part of a round has to be undone."""
        agent = self.agents[0]

        def fails() -> None:
            agent.store.run("set_meta", ("x", "y"))
            raise UsageError("no")

        if self.rng.random() < 0.5:
            agent.duty.wake()
        self._attempt(agent, fails)

    def second(self) -> None:
        """Another agent works on the same store for a while."""
        if len(self.agents) > 1 or self.bereaved or self._slept or self.agents[0].fuse:
            return
        self.oracle.say("two agents")
        self.oracle.divided = True
        self.agents.append(Agent(self))
        self.at(span(self.rng, MINUTE, 12 * HOUR), self.alone)

    def alone(self) -> None:
        if len(self.agents) > 1:
            self.kill(self.rng.choice(self.agents))

    def inherit(self) -> None:
        """Let upkeep look, now and when it has to."""
        for agent in self.agents if self.oracle.divided else ():
            self._attempt(agent, agent.duty.adopt)
        self.bereaved = False
        for life in self.oracle.lives.values() if len(self.agents) == 1 and self.oracle.divided else ():
            for firing in life.undecided.values():
                if firing.due > self.clock.now + MINUTE:
                    self.at(firing.due - self.clock.now - MINUTE // 2, self.inherit)

    # --- clocks ---------------------------------------------------------------

    def step(self) -> int:
        """Draw by how much a clock is set."""
        return span(self.rng, 2 * SECOND, 5 * DAY) * self.rng.choice((1, -1)) + self.rng.randrange(SECOND)

    def sleep(self) -> None:
        if len(self.agents) > 1:
            return
        length = span(self.rng, SECOND * 2, 20 * DAY)
        self.calm(length)
        self.leaving()
        self.oracle.say(f"the machine sleeps for {length / SECOND:g} s")
        self.clock.true += length
        self.clock.slept += length
        self._slept = True
        self.oracle.now = self.clock.now
        if self.rng.random() < 0.3:
            # Somebody wants something before the agent has looked.
            self.meddle()

    def set_clock(self, by: int | None = None) -> None:
        if len(self.agents) > 1:
            return
        step = self.step() if by is None else by
        self.calm(max(0, step))
        self.leaving()
        self.oracle.say(f"somebody sets the clock by {step / SECOND:g} s")
        self.clock.ahead += step
        if by is None and self.rng.random() < 0.7:
            self.at(span(self.rng, MINUTE, 10 * DAY), lambda: self.set_clock(-step) if self.agents else None)
        self.oracle.now = self.clock.now
        for agent in self.agents:
            if self.rng.random() < 0.2:
                self.meddle()
            if not agent.dead:
                agent.step()

    def set_zone(self) -> None:
        """The file of a zone is another, and it may be a while until somebody looks."""
        self.leaving()
        RULES_OF_TODAY[ODD] = self.rng.choice(RULES)
        self.oracle.say(f"{ODD} is {RULES_OF_TODAY[ODD]} now")
        self.oracle.rezone(ODD)
        for agent in self.agents:
            self._attempt(agent, agent.duty.look_at_zones)

    # --- people ---------------------------------------------------------------

    def tend(self) -> None:
        """See that there are some schedules."""
        self.at(span(self.rng, HOUR, 20 * DAY), self.tend)
        for _ in range(2 * self.alive):
            if self.agents and len(self.oracle.lives) < self.alive:
                self.add()

    def add(self, life: Life | None = None) -> bool:
        """Add a schedule, or change one; False when nobody took it."""
        kind = self.rng.choice(KINDS)
        name = f"{'w' if kind == 'job' else TIMED}{next(self._number)}" if life is None else life.name
        words = table(self.rng, self.clock.now, kind)
        if life is not None and self.rng.random() < 0.4:
            kind = "job" if name[0] == "w" else "again" if life.again else "cron"
            kept = {key: value for key, value in life.asked.table.items() if key not in FIELDS}
            words = {**kept, **policy(self.rng, kind)}
        if (kind == "job") != (name[0] == "w"):
            # Those that wait for others are told by their names, so that none waits for itself.
            return False
        try:
            found = declaration.schedule(name, words, now=self.clock.now, base=str(self.path))
        except ExpressionError:
            return False
        when = When.from_json(found.when.to_json(), load)
        policies = parse_policy({key: value for key, value in words.items() if key in FIELDS})
        fields, blobs = found.request(replace=life is not None)
        self.oracle.asked[name] = Asked(name, words, when, policies)
        self.clock.true += 1
        answer = self._ask("set", fields, blobs)
        self.oracle.asked.pop(name, None)
        made = self.oracle.named(name)
        if answer is not None and made is not None:
            self.plan_end(made)
        return answer is not None

    def plan_end(self, life: Life) -> None:
        """Let somebody want something else after some dozens of instants."""
        many = self.rng.randrange(5, 60)
        last = self.coming(life, self.end - self.clock.true, many)
        length = last[-1] + life.shift - self.clock.now if last else span(self.rng, DAY, 400 * DAY)
        if life.again:
            length = many * max(life.asked.again[0].every, 10 * MINUTE)
        number = life.number
        self.at(length, lambda: self.retire(number))

    def retire(self, number: int) -> None:
        life = self.oracle.lives.get(number)
        if life is None:
            return
        if not self.agents:
            self.at(HOUR, lambda: self.retire(number))
            return
        draw = self.rng.random()
        if draw < 0.5 and self.add(life):
            return
        if 0.5 < draw < 0.7 and life.state == "active":
            self.pause(life)
            self.plan_end(life)
            return
        self.ask("remove", life)
        if number in self.oracle.lives:
            self.at(MINUTE, lambda: self.retire(number))

    def pause(self, life: Life) -> None:
        length = span(self.rng, SECOND, 60 * DAY)
        many = self.coming(life, length, MISSED // 2)
        if len(many) == MISSED // 2:
            length = max(SECOND, many[-1] + life.shift - self.clock.now)
        if self.rng.random() < 0.5:
            self.ask("pause", life, until=self.clock.now + length)
            return
        self.ask("pause", life)
        number = life.number

        def resume() -> None:
            if number in self.oracle.lives:
                if self.agents:
                    self.ask("resume", self.oracle.lives[number])
                else:
                    self.at(MINUTE, resume)

        self.at(length, resume)

    def meddle(self) -> None:
        """Somebody wants something of some schedule."""
        if not self.oracle.lives:
            return
        life = self.rng.choice(list(self.oracle.lives.values()))
        match self.rng.randrange(5):
            case 0:
                self.add(life)
            case 1:
                self.pause(life)
            case 2:
                self.ask("resume", life)
            case _:
                self.ask("run", life)

    def ask(self, verb: str, life: Life, **more: Any) -> Any:
        self.oracle.say(f"asked to {verb} {more or ''}", life)
        return self._ask(verb, {"name": life.name, **more})

    def _ask(self, verb: str, *request: Any) -> Any:
        if not self.agents or self.agents[0].dead:
            return None
        agent = self.rng.choice(self.agents)
        answer = self._attempt(agent, getattr(agent.asked, verb), *request, Who())
        self.settle()
        return answer

    def _attempt(self, agent: Agent, work: Callable[..., Any], *args: Any) -> Any:
        try:
            return agent.ask(work, *args)
        except (Refused, UsageError, StoreError) as error:
            self.oracle.say(f"refused: {error}")
            return None

    def stop_one(self) -> None:
        jobs = [job for open_jobs in self.oracle.open.values() for job in open_jobs]
        if jobs:
            self._attempt(self.agents[0], self.agents[0].control.stop, {"ids": [self.rng.choice(jobs)]}, Who())

    def power(self) -> None:
        self.oracle.power = self.rng.random() < 0.7
        self.oracle.say(f"power: {self.oracle.power}")

    # --- jobs -----------------------------------------------------------------

    def spawned(self, job: int, attempt: int, lane: str | None = None, width: int | None = None) -> None:
        """A job begins, and will end."""
        length = span(self.rng, 10_000, self.rng.choice((10 * MINUTE, 10 * MINUTE, 3 * DAY)))
        code = self.rng.choice((0, 0, 0, 1))
        self._will_end((job, attempt), length, {"exit_code": code})

    def told_to_end(self, job: int, attempt: int, grace: int) -> None:
        self._will_end((job, attempt), span(self.rng, 1_000, 10 * SECOND), {"signal": 15})

    def _will_end(self, key: tuple[int, int], later: int, how: dict[str, Any]) -> None:
        number = self.running[key] = next(self._number)

        def end() -> None:
            if self.running.get(key) == number:
                del self.running[key]
                self.unheard[key] = {**how, "pid": 1, "at": self.clock.now, "mono": self.clock.mono()}
                self.report()

        self.at(later, end)

    def find_running(self, agent: Agent) -> None:
        """Learn from the store what the dead agent had begun."""
        for row in agent.store.open_attempts():
            key = (row.job, row.n)
            if key in self.unheard:
                continue
            if key not in self.running:
                self.spawned(*key)
            if row.ending is not None:
                self.told_to_end(*key, 0)

    def report(self) -> None:
        """Tell an agent of ends."""
        if not self.agents:
            return
        agent = self.rng.choice(self.agents)
        for (job, attempt), said in self.unheard.items():
            if said is None:
                agent.writer.post(agent.outcomes.lost, job, attempt, "the machine went down")
            else:
                agent.writer.post(agent.outcomes.ended, job, attempt, said)
        agent.turn()


#: What happens, and how often.
INCIDENTS = {
    "death": 120 * DAY, "fuse": 90 * DAY, "poison": 120 * DAY, "second": 400 * DAY, "sleep": 100 * DAY,
    "set_clock": 200 * DAY, "set_zone": 500 * DAY, "meddle": 60 * DAY, "stop_one": 60 * DAY, "power": 60 * DAY,
}  # fmt: skip


class Strict(logging.Handler):
    """Notes what production would log as an exception and go on."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], Exception):
            self.world.trouble.append(record.exc_info[1])


@contextmanager
def installed(world: World) -> Iterator[None]:
    """Put the world under the code of production."""

    def read_zone(name: str) -> Zone:
        if not zones._NAME.fullmatch(name):
            raise LookupError(name)
        return Zone(name, ZoneInfo.no_cache(RULES_OF_TODAY.get(name, name)))

    log, handler = logging.getLogger("vigie.agent"), Strict(world)
    with ExitStack() as stack:
        patch = mock.patch.object
        stack.enter_context(patch(zones, "_read", read_zone))
        stack.enter_context(patch(zones, "fingerprint", lambda zone: RULES_OF_TODAY.get(zone.name, "same")))
        stack.enter_context(patch(vigie.agent.gates, "holds", lambda condition: world.oracle.power))
        stack.enter_context(patch(vigie.agent.writer, "AGAIN", 1e9))
        stack.enter_context(patch(log, "propagate", new=False))
        stack.callback(log.removeHandler, handler)
        log.addHandler(handler)
        stack.callback(zones._known.clear)
        stack.callback(whens.forget)
        RULES_OF_TODAY.clear()
        zones._known.clear()
        whens.forget()
        yield
