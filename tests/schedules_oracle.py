"""What must be so of schedules: an oracle that hears of each write, and knows the rules by itself.

Triggers in the store tell it of every firing that is planned, decided, moved or
withdrawn, of every change of a schedule, and of the jobs of schedules, in the order in
which they were written. It computes the instants of each schedule itself, and holds
what it hears against them and against the policy, entry by entry. Instants are kept on
the schedule's own time line: that of the wall without the steps that an interval does
not follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import cache
from itertools import islice
from typing import Any, NamedTuple, NoReturn
from zoneinfo import ZoneInfo

from schedules_place import DAY, EPOCH, SECOND
from vigie import firing as rules
from vigie import zones
from vigie.agent.schedules import AHEAD, COUNTED, RECHECK
from vigie.policies import Policy
from vigie.triggers.base import Trigger
from vigie.triggers.wall import Zone
from vigie.triggers.when import When

ABSENCE = 60 * SECOND
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_FIRING = ("schedule", "instant", "due", "last", "count", "missed", "outcome", "reason", "cause", "job")
_SCHEDULE = ("name", "state", "planned", "next", "shift", "until", "started", "ended")


class Told(NamedTuple):
    n: int
    what: str
    schedule: int | None
    instant: int | None
    due: int | None
    last: int | None
    count: int | None
    missed: int | None
    outcome: str | None
    reason: str | None
    cause: str | None
    job: int | None
    was: str | None
    before: int | None
    name: str | None
    state: str | None
    planned: int | None
    next: int | None
    shift: int | None
    until: int | None
    started: int | None
    ended: int | None


def _tell(name: str, on: str, what: str, columns: dict[str, str]) -> str:
    return (
        f"CREATE TRIGGER IF NOT EXISTS told_{name} {on} BEGIN INSERT INTO told (what, {', '.join(columns)})"
        f" VALUES ('{what}', {', '.join(columns.values())}); END;"
    )


def _of(row: str, columns: tuple[str, ...]) -> dict[str, str]:
    return {column: f"{row}.{column}" for column in columns}


def _journal() -> str:
    old, new = _of("OLD", _FIRING), _of("NEW", _FIRING)
    changed = {**new, "was": "OLD.outcome", "before": "OLD.instant"}
    schedule = {"schedule": "NEW.id", **_of("NEW", _SCHEDULE)}
    job = {"job": "NEW.id", "name": "NEW.schedule", "state": "NEW.state"}
    return "\n".join(
        (
            f"CREATE TABLE IF NOT EXISTS told (n INTEGER PRIMARY KEY, {', '.join(Told._fields[1:])});",
            _tell("planned", "AFTER INSERT ON firings", "planned", new),
            _tell("changed", "AFTER UPDATE ON firings", "changed", changed),
            _tell("withdrawn", "AFTER DELETE ON firings", "withdrawn", old),
            _tell("added", "AFTER INSERT ON schedules", "added", schedule),
            _tell("set", "AFTER UPDATE ON schedules WHEN NEW.changed = OLD.changed", "set", schedule),
            _tell("edited", "AFTER UPDATE ON schedules WHEN NEW.changed <> OLD.changed", "edited", schedule),
            _tell("removed", "AFTER DELETE ON schedules", "removed", {"schedule": "OLD.id", "name": "OLD.name"}),
            _tell("job", "AFTER INSERT ON jobs WHEN NEW.schedule IS NOT NULL", "job", job),
            _tell("ended", "AFTER UPDATE ON jobs WHEN NEW.finished IS NOT NULL AND OLD.finished IS NULL", "ended", job),
        )
    )


JOURNAL = _journal()


#: What the files of zones say, where that is not what their names do.
RULES: dict[str, str] = {}


@cache
def _zone(name: str, rules: str) -> Zone:
    return zones._fixed(name) or Zone(name, ZoneInfo.no_cache(rules))


def load(name: str) -> Zone:
    """Give a zone by the rules of the day, without the caches of production."""
    return _zone(name, RULES.get(name, name))


def shown(at: int | None) -> str:
    return "never" if at is None else f"{EPOCH + timedelta(microseconds=at):%Y-%m-%d %H:%M:%S.%f}"


@dataclass
class Firing:
    """A firing that has a row of its own."""

    instant: int
    due: int
    missed: bool
    cause: str | None
    outcome: str | None = None
    #: Waits for a condition since.
    since: int | None = None
    #: When it was last looked whether it holds, and how often the clock had been set by then.
    looked: int = 0
    sets: int = 0


@dataclass
class Asked:
    """What somebody wants a schedule to be."""

    name: str
    table: dict[str, Any]
    when: When
    policy: Policy

    def __post_init__(self) -> None:
        self.relative = self.when.relative
        self.again = self.when.again
        self.occasions = self.when.occasions


@dataclass
class Life:
    """A schedule as it should be."""

    number: int
    asked: Asked
    #: Steps of the wall clock before it began (or was edited), and since, if it goes by intervals.
    shift: int
    #: On its own time line: nothing of it comes up to here, and all up to here has its record.
    since: int
    frontier: int
    added: int
    state: str = "active"
    shift_before: int = 0
    runs: int = 0
    planned: int = 0
    next: int | None = None
    until: int | None = None
    paused: int = 0
    firings: dict[int, Firing] = field(default_factory=dict)
    undecided: dict[int, Firing] = field(default_factory=dict)
    ranges: list[tuple[int, int]] = field(default_factory=list)
    #: Of one that counts from its runs: the last of them, or the last that was skipped.
    newest: int | None = None
    #: On the wall: when the last run began or ended; and its job.
    last_run: int = 0
    job: int = 0
    #: What was planned before, and may be planned anew.
    seen: set[int] = field(default_factory=set)
    rezoned: int = 0
    #: The clock was set back, and then somebody changed it: what stands inside a range may come once more.
    reopened: bool = False

    def __post_init__(self) -> None:
        self._timed: dict[int, Trigger | None] = {}
        self._ahead: Iterator[int] | None = None
        self._peeked: int | None = None

    @property
    def name(self) -> str:
        return self.asked.name

    @property
    def policy(self) -> Policy:
        return self.asked.policy

    @property
    def again(self) -> bool:
        return bool(self.asked.again)

    def timed(self) -> Trigger | None:
        if self.shift not in self._timed:
            self._timed = {self.shift: self.asked.when.moved(self.shift).timed}
        return self._timed[self.shift]

    def after(self, own: int) -> Iterator[int]:
        """Give its instants later than one, on its own time line."""
        timed = self.timed()
        return iter(()) if timed is None else (each - self.shift for each in timed.after(own + self.shift))

    def comes_at(self, own: int) -> bool:
        return next(self.after(own - 1), None) == own

    def peek(self) -> int | None:
        """Give its first instant that is not known to have its record."""
        if self._ahead is None:
            self._ahead = self.after(self.frontier)
            self._peeked = next(self._ahead, None)
        return self._peeked

    def passed(self) -> None:
        assert self._peeked is not None
        assert self._ahead is not None
        self.frontier = self._peeked
        self._peeked = next(self._ahead, None)

    def anew(self) -> None:
        """Compute its instants once more: something about them is another."""
        self._timed.clear()
        self._ahead = None

    def back(self, own: int) -> None:
        """Something that had its record has it no more."""
        if own <= self.frontier:
            self.frontier = own - 1
            self._ahead = None

    def covers(self, own: int) -> bool:
        return own in self.firings or any(first <= own <= last for first, last in reversed(self.ranges))


class Broken(AssertionError):
    """Something is not as it must be."""


class Oracle:
    """Hears what is written, and complains."""

    def __init__(self) -> None:
        self.lives: dict[int, Life] = {}
        #: What was asked for and is not in the store yet.
        self.asked: dict[str, Asked] = {}
        self.open: dict[str, list[int]] = {}
        self.now = 0
        #: By how much the clock was set, and how often.
        self.shift, self.sets = 0, 0
        #: When somebody came back, why nobody was there, and until when somebody had been.
        self.back_at = 0
        self.absence = "down"
        self.left, self.left_shift = 0, 0
        self.power = True
        #: There are two agents, or were: what one has started, the other does not know.
        self.divided = False
        self.story: list[tuple[int, int | None, str]] = []
        self._fired: dict[int, Life] = {}
        self._must_end: list[int] = []
        self._expected: list[tuple[str, str]] = []
        self._caused: list[tuple[str, str]] = []
        self._lost: list[tuple[int, str]] = []
        self._gone: list[tuple[int, str]] = []
        self._missed: dict[int, int] = {}

    # --- telling --------------------------------------------------------------

    def say(self, text: str, life: Life | None = None) -> None:
        self.story.append((self.now, None if life is None else life.number, text))

    def fail(self, what: str, life: Life | None = None) -> NoReturn:
        lines = [
            f"{shown(at)} {text}"
            for at, number, text in self.story
            if number is None or (life is not None and number == life.number)
        ]
        who = f"schedule {life.name} ({life.asked.table}, {life.state}, shift {life.shift}): " if life else ""
        raise Broken(f"{who}{what} at {shown(self.now)}\n" + "\n".join(lines[-50:]))

    def named(self, name: str) -> Life | None:
        return next((life for life in self.lives.values() if life.name == name), None)

    def returned(self, why: str) -> None:
        """Somebody is here again: began, woke up, or found the clock far ahead."""
        self.back_at, self.absence = self.now, why

    def rezone(self, name: str) -> None:
        """The rules of a zone are others, and whoever plans knows it."""
        for life in self.lives.values():
            if any(zone.name == name for zone in life.asked.when.zones):
                life.asked.when = When.from_json(life.asked.when.to_json(), load)
                life.since = min(life.since, life.planned - life.shift)
                # By the new rules there may be instants where somebody was here, and they count as missed or not.
                life.frontier = life.rezoned = max(life.frontier, self._left(life))
                life.anew()

    # --- hearing --------------------------------------------------------------

    def hear(self, told: list[Told]) -> None:
        """Take what was written by transactions at one moment."""
        self._missed.clear()
        for each in told:
            getattr(self, "_" + each.what)(each)
        for job, life in self._fired.items():
            self.fail(f"job {job} was never made", life)
        for number, what in self._lost:
            if number in self.lives:
                self.fail(what, self.lives[number])
        self._lost.clear()
        self._gone.clear()
        self._hear_ends()

    def must_have_ended(self) -> list[int]:
        """Give jobs that were replaced: asked to end by now."""
        found, self._must_end = self._must_end, []
        return found

    def _added(self, told: Told) -> None:
        asked = self.asked.pop(str(told.name))
        life = Life(int(told.schedule or 0), asked, 0, self.now, self.now, self.now, shift_before=self.shift)
        self.lives[life.number] = life
        self.say(f"added {asked.table}", life)
        self._take(life, told)

    def _edited(self, told: Told) -> None:
        life = self.lives[int(told.schedule or 0)]
        self._complete(life)
        if any(each.instant > self.now and each.cause is None for each in life.undecided.values()):
            self.fail("edited, and what was planned before is still to come", life)
        # Its time line is another: what was, keeps its place on the wall.
        life.firings = {each.instant: each for each in life.firings.values()}
        life.undecided = {own: each for own, each in life.firings.items() if each.outcome is None}
        life.ranges = [(first + life.shift, last + life.shift) for first, last in life.ranges]
        life.asked = self.asked.pop(life.name)
        life.shift, life.shift_before = 0, self.shift
        life.since = life.frontier = self.now
        life.reopened, life.newest = True, None
        life.anew()
        self.say(f"edited {life.asked.table}", life)
        self._take(life, told)

    def _set(self, told: Told) -> None:
        self._take(self.lives[int(told.schedule or 0)], told)

    def _take(self, life: Life, told: Told) -> None:
        planned = int(told.planned or 0)
        if told.state != life.state:
            self.say(f"{life.state} -> {told.state} (until {shown(told.until)})", life)
            if told.state == "paused":
                life.paused = self.now
            if told.state == "done":
                self._done(life)
        run = told.ended if life.again and life.asked.again[0].since == "end" else told.started
        life.last_run = run or 0
        life.state, life.until, life.planned, life.next = str(told.state), told.until, planned, told.next
        if life.shift != told.shift:
            if life.asked.relative:
                # Limits do not move: what passed outside them may lie within now.
                life.rezoned = max(life.rezoned, self._left(life))
            life.shift = int(told.shift or 0)
            life.anew()
        if told.next is not None and told.next <= planned:
            self.fail(f"next {shown(told.next)} is not later than planned {shown(planned)}", life)

    def _done(self, life: Life) -> None:
        if self._had_all(life):
            return
        if life.undecided:
            self.fail("done, and something is still to be decided", life)
        newest = max([life.frontier, *life.firings, *(last for _, last in life.ranges)])
        later = next(life.after(newest), None)
        if later is not None or life.again or life.asked.occasions:
            self.fail(f"done, and {shown(later)} is still to come", life)

    def _had_all(self, life: Life) -> bool:
        return life.policy.max_runs is not None and life.runs >= life.policy.max_runs

    def _removed(self, told: Told) -> None:
        life = self.lives.pop(int(told.schedule or 0))
        undecided = [shown(each.instant) for each in life.undecided.values()]
        undecided += [what for number, what in self._gone if number == life.number]
        alone = life.state == "done" and life.until is not None and life.until <= self.now
        if alone and undecided and not self._had_all(life):
            self.fail(f"it was removed of itself before this was decided: {undecided}", life)
        self.say("removed", life)

    # --- firings --------------------------------------------------------------

    def _planned(self, told: Told) -> None:
        life, instant = self.lives[int(told.schedule or 0)], int(told.instant or 0)
        own = instant - life.shift
        if told.outcome is not None:
            self._range(life, own, told)
            return
        if own in life.firings:
            self.fail(f"planned {shown(instant)} once more", life)
        firing = life.undecided[own] = life.firings[own] = Firing(
            instant, int(told.due or 0), bool(told.missed), told.cause
        )
        word = "missed" if firing.missed else "planned"
        self.say(f"{word} {shown(instant)} due {shown(firing.due)} {told.cause or ''}", life)
        if told.cause is not None:
            if told.cause != "by hand":
                self._caused.append((life.name, told.cause))
            return
        if life.state != "active":
            self.fail("planned all the same", life)
        ahead = instant if life.policy.random else firing.due
        if not firing.missed and instant > self.now and ahead > self.now + AHEAD:
            self.fail(f"planned {shown(instant)} too early", life)
        jitter = firing.due - instant
        least = 0 if life.policy.random else rules.delay(life.policy, life.name, instant)
        if not least <= jitter <= (life.policy.jitter if life.policy.random else least):
            self.fail(f"a jitter of {jitter}", life)
        if life.again:
            self._again(life, own)
        else:
            self._timed(life, own, instant)
        if firing.missed and not life.again:
            self._was_absent(life, own, own)
            number = self._missed[life.number] = self._missed.get(life.number, 0) + 1
            most = {"none": 0, "latest": 1, "all": life.policy.catch_up_limit}[life.policy.catch_up]
            if number > most:
                self.fail(f"{number} are caught up", life)

    def _timed(self, life: Life, own: int, instant: int) -> None:
        if not life.comes_at(own):
            self.fail(f"planned {shown(instant)}, which is no instant of it", life)
        if own <= life.since:
            self.fail(f"planned {shown(instant)}, from before it was added or changed", life)
        if not life.reopened and any(first <= own <= last for first, last in life.ranges):
            self.fail(f"planned {shown(instant)}, which has its record", life)

    def _again(self, life: Life, own: int) -> None:
        every = life.asked.again[0].every
        newest = max([life.newest or 0, *(each for each in life.undecided if each != own)])
        # What came of a run counts more than what was skipped since; one that is overdue when it is changed comes now.
        # After the clock was set back with the machine off, what was planned last stands in the place of a run.
        runs = (life.last_run - life.shift, life.added, life.planned - life.shift)
        fine = own in life.seen or own == life.since + 1 or own - every in runs
        life.seen.add(own)
        if own < newest + every and not fine:
            self.fail(f"planned {shown(own + life.shift)}, sooner than {every} µs after {shown(newest)}", life)

    def _was_absent(self, life: Life, first: int, last: int) -> None:
        """See that nobody was there when instants came that are called missed."""
        # As the delay of a random one is another each time, only of those without can it be told.
        delay = 0 if life.policy.random else rules.delay(life.policy, life.name, first)
        if last + delay + life.shift > self.back_at - ABSENCE:
            self.fail(f"{shown(last + life.shift)} is called missed, and somebody was here", life)
        left = self._left(life)
        if not life.policy.random and max(first + delay, life.rezoned + 1) <= left:
            self.fail(f"{shown(first + life.shift)} is called missed, and somebody was here until {shown(left)}", life)

    def _left(self, life: Life) -> int:
        """Give until when somebody was here, on a schedule's time line."""
        return self.left - (self.left_shift - life.shift_before if life.asked.relative else 0)

    def _range(self, life: Life, own: int, told: Told) -> None:
        last = own if told.last is None else told.last - life.shift
        self.say(f"{told.count} from {shown(told.instant)} to {shown(told.last)}: {told.reason}", life)
        inside = 0
        for each in islice(life.after(own - 1), COUNTED):
            if each > last:
                break
            inside += 1
            if (each in life.firings or any(a <= each <= b for a, b in life.ranges)) and not life.reopened:
                self.fail(f"{shown(each + life.shift)} has its record, and is one of those skipped", life)
        if inside != told.count or not life.comes_at(own) or not (last == own or life.comes_at(last)):
            self.fail(f"{told.count} skipped from {shown(told.instant)} to {shown(told.last)}: it is {inside}", life)
        if told.reason == "paused":
            if life.state != "paused":
                self.fail("skipped as paused, and it is not", life)
            if life.until is not None and last + life.shift > max(life.until, life.paused):
                self.fail(
                    f"{shown(last + life.shift)} is skipped as paused, which it was until {shown(life.until)}", life
                )
        else:
            self._was_absent(life, own, last)
            if told.reason != self.absence:
                self.fail(f"{told.reason} is no reason: {self.absence}", life)
        life.ranges.append((own, last))

    def _changed(self, told: Told) -> None:
        life = self.lives[int(told.schedule or 0)]
        own = int(told.instant or 0) - life.shift
        if told.was is not None:
            self.fail(f"the record of {shown(told.instant)} was changed from {told.was} to {told.outcome}", life)
        firing = life.undecided.get(own)
        if firing is None:
            self.fail(f"{told.what} {shown(told.instant)} that was never planned: {told}", life)
        firing.instant, firing.due = int(told.instant or 0), int(told.due or 0)
        if told.outcome is None:
            firing.looked = self.now
            if told.reason is not None and firing.since is None:
                firing.since, firing.sets = self.now, self.sets
                self.say(f"{shown(told.instant)} waits: {told.reason}", life)
            return
        del life.undecided[own]
        firing.outcome = told.outcome
        self.say(f"{shown(told.instant)} {told.outcome} {told.reason or ''} {told.job or ''}", life)
        if told.outcome == "skipped":
            if told.job is not None:
                self.fail("skipped with a job", life)
            self._skipped(life, firing, own, str(told.reason))
        else:
            self._ran(life, firing, own, told)

    def _withdrawn(self, told: Told) -> None:
        life = self.lives.get(int(told.schedule or 0))
        if life is None:
            return
        own = int(told.instant or 0) - life.shift
        if told.outcome is not None:
            self._lost.append((life.number, f"the record of {shown(told.instant)} is gone"))
            return
        self.say(f"withdrawn {shown(told.instant)}", life)
        self._gone.append((life.number, shown(told.instant)))
        firing = life.undecided.pop(own, None)
        life.firings.pop(own, None)
        if firing is None:
            self.fail(f"withdrawn {shown(told.instant)}, which was not there", life)
        life.back(own)

    # --- verdicts -------------------------------------------------------------

    def _longest(self, life: Life, instant: int) -> int:
        """Give the longest lateness of a run."""
        if life.policy.lateness is not None:
            return life.policy.lateness
        # Of an interval, of which a clock that was set moved the instants, any two will do.
        two = list(islice(life.after(instant), 2))
        if life.asked.relative:
            period = two[1] - two[0] if len(two) == 2 else DAY
        else:
            period = two[0] - instant if two else DAY
        return min(DAY, max(period, ABSENCE))

    def _ran(self, life: Life, firing: Firing, own: int, told: Told) -> None:
        policy, late = life.policy, self.now - firing.due
        if told.job is None or told.job in self._fired:
            self.fail(f"job {told.job} of two firings, or of none", life)
        self._fired[told.job], life.job = life, told.job
        life.newest = self.now - life.shift if life.again else None
        if firing.cause == "by hand":
            return
        life.runs += 1
        if life.state == "paused":
            self.fail("it ran while it was paused", life)
        if late < 0:
            self.fail("it ran too early", life)
        expected = "caught-up" if firing.missed else "late" if late > SECOND else "ran"
        if told.outcome != expected:
            self.fail(f"{told.outcome} is {expected}", life)
        plain = (
            own > life.since
            and firing.cause is None
            and firing.since is None
            and not (life.again or policy.random or firing.missed)
        )
        if plain and firing.due <= min(self.back_at - ABSENCE, self.now):
            self.fail(f"it was missed, and is called {told.outcome}", life)
        if late > self._longest(life, own):
            self.fail(f"it ran {late} µs late, and {self._longest(life, own)} is the most", life)
        if self._blacked_out(life):
            self.fail("it ran in a blackout", life)
        if policy.max_runs is not None and life.runs > policy.max_runs:
            self.fail(f"run {life.runs} of {policy.max_runs}", life)
        if any(each.kind == "power" for each in policy.conditions) and not self.power:
            self.fail("it ran without power", life)

    def _skipped(self, life: Life, firing: Firing, own: int, reason: str) -> None:
        policy = life.policy
        match reason:
            case "paused":
                fine = life.state == "paused"
            case "overlap":
                fine = policy.overlap != "parallel" and bool(self.open.get(life.name))
            case "blackout":
                fine = self._blacked_out(life)
            case "too-late":
                fine = self.now - firing.due > self._longest(life, own)
            case "limit":
                fine = self._had_all(life)
            case "condition":
                waited = self.now - (self.now if firing.since is None else firing.since)
                fine = bool(policy.conditions) and (waited >= policy.patience or firing.sets != self.sets)
            case _:
                fine = False
        if not fine:
            self.fail(f"skipped for no good reason: {reason}", life)
        if life.again:
            life.newest = max(life.newest or 0, own)

    def _blacked_out(self, life: Life) -> bool:
        wall = datetime.fromtimestamp(self.now / 1e6, life.asked.when.zone.rules)
        return any(blacked_out(each.text, wall) for each in life.policy.blackouts)

    # --- jobs -----------------------------------------------------------------

    def _job(self, told: Told) -> None:
        job, name = int(told.job or 0), str(told.name)
        life = self._fired.pop(job, None)
        if life is None:
            self.fail(f"job {job} of {name} belongs to no firing", self.named(name))
        others = self.open.setdefault(name, [])
        most = {"skip": 0, "queue_one": 1, "queue_all": life.policy.overlap_limit}.get(life.policy.overlap)
        if most is not None and len(others) > most and not self.divided:
            self.fail(f"job {job} beside {others} (overlap {life.policy.overlap})", life)
        if life.policy.overlap == "replace" and not self.divided:
            self._must_end += others
        others.append(job)

    def _ended(self, told: Told) -> None:
        job = int(told.job or 0)
        if told.name is None:
            return
        name = str(told.name)
        self.open[name].remove(job)
        life = self.named(name)
        self.say(f"job {job} {told.state}", life)
        if life is not None and life.again and life.asked.again[0].since == "end" and job == life.job:
            life.newest = self.now - life.shift
        for each in self.lives.values():
            for wanted in each.asked.occasions if each.state == "active" and each.name != name else ():
                states = getattr(wanted, "states", ())
                fits = told.state in states and fnmatchcase(name, getattr(wanted, "name", ""))
                if fits and each.asked.when.allows(wanted, self.now):
                    self._expected.append((each.name, f"job:{job}"))

    def expect(self, cause: str) -> None:
        """Something happens now that schedules wait for: a boot."""
        self._expected.extend(
            (life.name, cause)
            for life in self.lives.values()
            for wanted in life.asked.occasions
            if life.state == "active" and wanted.text == f"at {cause}" and life.asked.when.allows(wanted, self.now)
        )

    def _hear_ends(self) -> None:
        expected, caused = sorted(set(self._expected)), sorted(self._caused)
        if expected != caused and not self.divided:
            name = next(iter(set(expected) ^ set(caused)), ("", ""))[0]
            self.fail(f"should come for {expected}, and came for {caused}", self.named(name))
        self._expected.clear()
        self._caused.clear()

    # --- looking --------------------------------------------------------------

    def _complete(self, life: Life) -> None:
        """See that all of a schedule's instants that have come, and are not put off, have their record."""
        if life.state == "done" and self._had_all(life):
            return
        now = self.now - life.shift
        # Those that are put off by another time each are planned when they come.
        delay = 0 if life.policy.random else rules.delay(life.policy, life.name, 0)
        while (own := life.peek()) is not None and own + delay <= now:
            if not life.covers(own):
                self.fail(f"{shown(own + life.shift)} has no record", life)
            life.passed()

    def look(self) -> None:
        """See that all is as it must be, when whoever plans has nothing to do."""
        for life in self.lives.values():
            if life.asked.relative and life.shift != self.shift - life.shift_before:
                self.fail(f"its intervals follow the clock: {life.shift}, {self.shift - life.shift_before}", life)
            for own, firing in life.undecided.items():
                waits = firing.since is not None and self.now - firing.looked <= RECHECK
                if firing.due <= self.now and not waits:
                    self.fail(f"{shown(own + life.shift)} is due and not decided", life)
            if life.state == "active":
                self._complete(life)
                if life.again:
                    self._look_again(life)

    def _look_again(self, life: Life) -> None:
        """See that one that counts from its runs goes on."""
        if life.undecided or life.next is not None or self.divided:
            return
        if life.asked.again[0].since == "end" and self.open.get(life.name):
            return
        self.fail("nothing of it will ever come again", life)


def blacked_out(text: str, wall: datetime) -> bool:
    """Tell whether a window such as ``mon-fri 09:00-17:00`` covers a time on the wall."""
    words = text.split()
    hours = words.pop() if ":" in words[-1] else "00:00-24:00"
    begins, ends = (int(each[:2]) * 60 + int(each[3:]) for each in hours.split("-"))
    named: set[int] = set()
    for part in words[0].split(",") if words else ("mon-sun",):
        first, _, last = part.partition("-")
        named.update(range(DAYS.index(first), DAYS.index(last or first) + 1))
    minute = wall.hour * 60 + wall.minute
    if begins < ends:
        return wall.weekday() in named and begins <= minute < ends
    return (wall.weekday() in named and minute >= begins) or ((wall.weekday() - 1) % 7 in named and minute < ends)
