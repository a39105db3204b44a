"""Calendar expressions against systemd's own program, on made-up expressions.

Three things are compared with what ``systemd-analyze calendar`` says: which
expressions are read and what their canonical form is; the wall times (in UTC,
where a wall time is an instant); and the instants in zones that set their
clocks. On days of clock changes the two rules differ, so both are computed here
from the wall times, by zoneinfo alone: what systemd says must be its rule, and
what we say ours.

The suite runs a few hundred expressions, always the same; ``VIGIE_FUZZ=SECONDS``
goes on for so long, with others each time.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest

from vigie.errors import ExpressionError
from vigie.triggers.calendar import Calendar
from vigie.triggers.calendar_parse import DAYS, FROM_END, HOURS, MINUTES, MONTHS, SECONDS, Field, Part, Parts, read
from vigie.triggers.calendar_words import normal
from vigie.triggers.wall import DAY, HOUR, MINUTE, SECOND, Zone

ZONES = (
    "Europe/Paris", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "UTC",
)  # fmt: skip
LONG = float(os.environ.get("VIGIE_FUZZ") or 0)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE = EPOCH.replace(tzinfo=None)
#: systemd's calendar ends there where the year is ``*``.
END = (datetime(2200, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
#: So many instants of each expression.
COUNT = 10

zone = cache(lambda name: Zone(name, ZoneInfo(name)))


def calendar(text: str, name: str = "UTC") -> Calendar:
    return Calendar.parse(text, zone(name), zone)


# systemd -------------------------------------------------------------------------

SHOWN = re.compile(r"(Next elapse|Iter\. *#\d+|\(in UTC\)): (?:\w{3} )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|never)")


@dataclass
class Said:
    """What systemd says of an expression."""

    form: str
    instants: list[int]


#: It gave up looking for one of the instants, and said nothing ("infinite loop in calendar calculation").
STUCK = Said("", [])


def systemd(program: str, texts: list[str], name: str, after: int, count: int = COUNT) -> list[Said | None]:
    """Ask systemd for the canonical form and the next instants (in whole seconds); None for what it does not read."""
    command = [program, "calendar", f"--base-time=@{after // SECOND}", f"--iterations={count}", "--", *texts]
    done = subprocess.run(command, capture_output=True, text=True, env={"TZ": name, "LC_ALL": "C.UTF-8"}, timeout=60)
    refused = set(re.findall("^Failed to parse calendar specification '(.*)': .*$", done.stderr, re.MULTILINE))
    stuck = set(re.findall("^Failed to determine next elapse for '(.*)': .*$", done.stderr, re.MULTILINE))
    found: list[Said] = []
    for line in done.stdout.splitlines():
        if line.startswith("Normalized form: "):
            found.append(Said(line.removeprefix("Normalized form: "), []))
        elif (match := SHOWN.search(line)) and match[2] != "never" and (match[1] == "(in UTC)") == (name != "UTC"):
            found[-1].instants.append((datetime.fromisoformat(match[2]) - NAIVE) // timedelta(seconds=1) * SECOND)
    answers = iter(found)
    given = [None if text in refused else STUCK if text in stuck else next(answers) for text in texts]
    assert next(answers, None) is None, done.stderr
    return given


# The two rules on days of clock changes, by zoneinfo ---------------------------------


def instants(wall: int, rules: ZoneInfo) -> list[int]:
    """Give the instants at which the wall shows a time."""
    naive = NAIVE + timedelta(microseconds=wall)
    both = {(naive.replace(tzinfo=rules, fold=fold) - EPOCH) // timedelta(microseconds=1) for fold in (0, 1)}
    return sorted(at for at in both if offset(at, rules) + at == wall)


def offset(at: int, rules: ZoneInfo) -> int:
    found = (EPOCH + timedelta(microseconds=at)).astimezone(rules).utcoffset()
    assert found is not None
    return found // timedelta(microseconds=1)


def fixed(wall: int, rules: ZoneInfo) -> list[int]:
    return instants(wall, rules)[:1] or [gap_end(wall, rules)]


def gap_end(wall: int, rules: ZoneInfo) -> int:
    """Halve the time around a wall time that is passed over, until the instant is found at which clocks are set."""
    naive = NAIVE + timedelta(microseconds=wall)
    one, other = ((naive.replace(tzinfo=rules, fold=fold) - EPOCH) // timedelta(microseconds=1) for fold in (0, 1))
    low, high = sorted((one, other))
    before = offset(low, rules)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset(middle, rules) == before else (low, middle)
    return high


# Made-up expressions -------------------------------------------------------------


class Maker:
    """Makes expressions; ``wild`` ones break a rule now and then."""

    def __init__(self, chance: random.Random, *, wild: bool = False) -> None:
        self.chance = chance
        self.wild = wild

    def expression(self) -> str:
        words = []
        if self.chance.random() < 0.3:
            words.append(self.weekdays())
        if self.chance.random() < 0.7 or not words:
            words.append(self.date())
        if self.chance.random() < 0.9:
            words.append(self.time())
        return " ".join(words)

    def weekdays(self) -> str:
        names = ["Mon", "tuesday", "Wed", "Thursday", "FRI", "Sat", "sun"]
        found = []
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            first, last = sorted(self.chance.sample(range(7), 2))
            if self.wild and self.chance.random() < 0.1:
                first, last = last, first
            found.append(
                self.chance.choice((names[first], f"{names[first]}..{names[last]}", f"{names[first]}-{names[last]}"))
            )
        return ",".join(found) + "," * (self.chance.random() < 0.1)

    def date(self) -> str:
        month = self.field(1, 12, star=0.6)
        if self.chance.random() < 0.3:
            day = f"~{self.field(1, 28, star=0.1, down=True)}"
        else:
            day = f"-{self.field(1, 31, star=0.4)}"
        if self.chance.random() < 0.2:
            return month + day
        year = "*" if self.chance.random() < 0.7 else self.field(1972, 2110, star=0)
        return f"{year}-{month}{day}"

    def time(self) -> str:
        found = f"{self.field(0, 23, star=0.3)}:{self.field(0, 59, star=0.3)}"
        kind = self.chance.random()
        if kind < 0.2:
            found += f":{self.field(0, 59, star=0.3)}"
        elif kind < 0.35:
            found += f":{self.fraction()}"
        return found

    def field(self, low: int, high: int, *, star: float, down: bool = False) -> str:
        if self.chance.random() < star:
            return "*"
        return ",".join(self.part(low, high, down=down) for _ in range(self.chance.choice((1, 1, 1, 2, 3))))

    def part(self, low: int, high: int, *, down: bool) -> str:
        if self.wild:
            low, high = low - (low > 0), high + 1
        start, stop = sorted(self.chance.choices(range(low, high + 1), k=2))
        kind = self.chance.random()
        shown = f"{start:02}" if self.chance.random() < 0.3 else str(start)
        if kind < 0.5 or (start == stop and kind < 0.7 and not self.wild):
            return shown
        if kind < 0.7:
            return f"{shown}..{stop}"
        if kind < 0.85:
            return f"{shown}..{stop}/{self.chance.randint(1, 7)}"
        room = start - low if down else high - start
        if not self.wild:
            return f"{shown}/{self.chance.randint(1, room)}" if room else shown
        return f"{shown}/{self.chance.randint(0, room + 1)}"

    def fraction(self) -> str:
        start = self.chance.choice(("0", "1.5", "7.25", "12.000001", "30", "3.1234567"))
        step = self.chance.choice(("", "/0.5", "/7.3", "/20", "/1.000001", "..40/0.7", "..35.5", "..50"))
        return start + step


def made(chance: random.Random, count: int) -> list[str]:
    """Give expressions that come, as far as we can tell."""
    found: list[str] = []
    maker = Maker(chance)
    while len(found) < count:
        text = maker.expression()
        try:
            calendar(text)
        except ExpressionError as error:
            assert "never comes" in str(error), text
            continue
        if not narrowed(text) and not narrowed(closed(text)):
            found.append(text)
    return found


def rounds(name: str, few: int) -> Iterator[random.Random]:
    """Give chances: always the same few, and others for as long as was asked."""
    for number in range(few):
        yield random.Random(f"{name} {number}")
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        seed = f"{name} {random.SystemRandom().getrandbits(48)}"
        print("seed:", seed)  # the last one is that of a failure
        yield random.Random(seed)


@pytest.fixture
def program(need: Callable[..., str]) -> str:
    return need("systemd-analyze", "apt-get install systemd")


def test_the_canonical_form_means_the_same() -> None:
    for chance in rounds("twice", 2):
        for text in made(chance, 50):
            first = calendar(text)
            again = calendar(first.normal)
            assert (again.normal, again.fixed, again.describe()) == (first.normal, first.fixed, first.describe()), text
            after = chance.randrange(0, 130 * 365) * DAY
            assert list(islice(again.after(after), 5)) == list(islice(first.after(after), 5)), text


@pytest.mark.slow
def test_what_is_read_and_its_canonical_form(program: str) -> None:
    for chance in rounds("forms", 4):
        maker = Maker(chance, wild=True)
        texts = [maker.expression() for _ in range(100)]
        for text, answer in zip(texts, systemd(program, texts, "UTC", 0, 1), strict=True):
            try:
                found = calendar(text).normal
            except ExpressionError as error:
                if "never comes" in str(error):
                    assert answer is None or not answer.instants, text
                else:
                    assert answer is None or beyond(text), (text, str(error))
            else:
                assert (answer is None and narrowed(text)) or (answer is not None and found == answer.form), text


def beyond(text: str) -> bool:
    """Tell whether a range ends beyond its field, at a number that its step never meets: systemd lets that pass."""
    return re.search(r"[.][.](24|60|13|32|29)/", text) is not None


def narrowed(text: str) -> bool:
    """Tell whether systemd refuses a list after ``~``: there the n-th part must be at most 31 - 3n, by a slip."""
    written = read(text)
    return written.from_end and any(
        max(part.start, part.stop or 0) > 31 - 3 * n for n, part in enumerate(written.days or (), 1)
    )


@pytest.mark.slow
def test_wall_times(program: str) -> None:
    for chance in rounds("walls", 8):
        texts = made(chance, 25)
        after = chance.randrange(0, 130 * 365) * DAY + chance.randrange(DAY) // SECOND * SECOND
        answers = systemd(program, [closed(text) for text in texts] + texts, "UTC", after)
        for text, answer, loose in zip(texts, answers, answers[len(texts) :], strict=False):
            ours = upto(END, islice(calendar(text).after(after), COUNT))
            assert answer is not None, text
            assert answer is not STUCK, text
            assert whole(ours) == answer.instants, (text, after)
            assert loose is not None, text
            until = loose.instants[-1] + SECOND if len(loose.instants) == COUNT else END
            ours = upto(until, calendar(text).after(after))
            missing = [at for at in whole(ours) if at not in loose.instants]
            assert missing == whole(lost(text, after, ours, loose.instants)), (text, after)


def whole(instants: Iterable[int]) -> list[int]:
    """Cut to seconds, as systemd shows instants."""
    return [at // SECOND * SECOND for at in instants]


def upto(end: int, instants: Iterable[int]) -> list[int]:
    return list(takewhile(lambda at: at < end, instants))


def closed(text: str) -> str:
    """Give the canonical form with an end to each repetition: without one, systemd loses instants (see ``lost``)."""
    written = read(text)

    def ended(parts: Parts | None, field: Field) -> Parts | None:
        return parts and tuple(
            Part(field.range(part)[-1], part.start, part.step)
            if field is FROM_END and part.step and part.stop is None
            else Part(part.start, field.high, part.step)
            if part.step and part.stop is None
            else part
            for part in parts
        )

    found = replace(
        written,
        months=ended(written.months, MONTHS),
        days=ended(written.days, FROM_END if written.from_end else DAYS),
        hours=ended(written.hours, HOURS),
        minutes=ended(written.minutes, MINUTES),
        seconds=ended(written.seconds, SECONDS) or (),
    )
    return normal(found, None)


def lost(text: str, after: int, ours: list[int], said: list[int]) -> list[int]:
    """Give the instants that systemd may pass over.

    It adds the step to the last number of a repetition without an end (23:56 and
    7 minutes: 00:03 of the next day), and where this carries over two units, or
    has a fraction, it looks for the next instant only from there on.
    """
    written = read(text)
    units = (
        (written.months, 31 * DAY), (written.days, DAY),
        (written.hours, HOUR), (written.minutes, MINUTE), (written.seconds, 1),
    )  # fmt: skip
    steps = [part.step * unit for parts, unit in units for part in parts or () if part.stop is None]
    each_day = calendar(normal(replace(written, weekdays=tuple(range(7))), None))
    return [
        at
        for at in ours
        if at // SECOND * SECOND not in said
        and any(after > at - step or next(each_day.after(at - step)) < at for step in steps)
    ]


@cache
def clock_changes(name: str) -> list[int]:
    """Give the instants at which clocks are set in a zone, 1970 to 2100."""
    rules, found = ZoneInfo(name), []
    for start in range(0, 131 * 365 * DAY, 5 * DAY):
        low, high = start, start + 5 * DAY
        before = offset(low, rules)
        if offset(high, rules) != before:
            while high - low > SECOND:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle, rules) == before else (low, middle)
            found.append(high // SECOND * SECOND)
    return found or [0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ZONES)
def test_instants_where_clocks_are_set(program: str, name: str) -> None:
    for chance in rounds(name, 6):
        texts = made(chance, 10)
        before = chance.choice((10 * MINUTE, 3 * HOUR, 9 * HOUR, 2 * DAY, 300 * DAY))
        after = max(chance.choice(clock_changes(name)) - before, DAY) // SECOND * SECOND
        answers = systemd(program, [closed(text) for text in texts], name, after)
        assert answers.count(STUCK) < len(texts) / 2
        for text, answer in zip(texts, answers, strict=True):
            assert answer is not None, text
            check(text, name, after, answer)


def check(text: str, name: str, after: int, answer: Said) -> None:
    """Compare with what both rules make of the wall times, as far as systemd has said what comes."""
    ours, rules = calendar(text, name), ZoneInfo(name)
    said = answer.instants or list(islice(ours.after(after), COUNT))
    last = said[-1] + SECOND - 1 if len(said) == COUNT else END
    walls = walls_between(text, name, after, last)
    rule = fixed if ours.fixed else instants
    assert upto(last + 1, ours.after(after)) == by_rule(walls, rule, rules, after, last), text
    if answer is not STUCK:
        shown = set(whole(by_rule(walls, instants, rules, after, last)))
        gone = {wall for wall in walls if not instants(wall, rules)}
        for at in shown.symmetric_difference(answer.instants):
            assert excused(at, name, read(text).from_end, gone), (text, after, at)


def excused(at: int, name: str, from_end: bool, gone: set[int]) -> bool:
    """Tell whether systemd may say an instant that we do not, or the reverse, on a day on which clocks are set.

    ``gone`` are the wall times of the expression that do not exist. A time that
    exists twice comes once there: at the one or the other, since libc goes by what
    it was asked before. Where summer time is the standard one, libc answers a time
    in the gap with one before it, and systemd drops the rest of the day. Where the
    last day but one of a month does not exist, libc takes the next for it.
    """
    rules = ZoneInfo(name)
    wall = at + offset(at, rules)
    if len(instants(wall, rules)) > 1:
        return True
    if name == "Africa/Casablanca":
        return any(wall // DAY * DAY <= other < wall for other in gone)
    return name == "Pacific/Apia" and from_end and wall - DAY in set(whole(gone))


def walls_between(text: str, name: str, after: int, last: int) -> list[int]:
    """Give the wall times of an expression that can be shown later than one instant and not later than another."""
    rules = ZoneInfo(name)
    near = [at for at in clock_changes(name) if after - 2 * DAY <= at <= last + 2 * DAY]
    offsets = [offset(at, rules) for at in (after - 2 * DAY, *near, last + 2 * DAY)]
    return upto(last + max(offsets) + 1, calendar(text).after(after + min(offsets) - 1))


def by_rule(
    walls: Iterable[int], rule: Callable[[int, ZoneInfo], list[int]], rules: ZoneInfo, after: int, last: int
) -> list[int]:
    return sorted({at for wall in walls for at in rule(wall, rules) if after < at <= last})
