"""Many firings that are decided together: each as if it were alone."""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from schedules_place import MINUTE, SECOND, Place
from vigie import firing as rules
from vigie.agent.coming import Coming
from vigie.agent.verdicts import at_once
from vigie.policies import parse_policy
from vigie.store.schedules import FiringRow
from vigie.triggers.wall import DAY, Zone

UTC = Zone("UTC", ZoneInfo("UTC"))
POLICIES = (
    {},
    {"lateness": "2s"},
    {"lateness": "5m"},
    {"max_runs": 3},
    {"blackout": "00:00-23:59"},
    {"overlap": "queue_one"},
)
LATENESS = (0, rules.LATE, rules.LATE + 1, 2 * SECOND, 2 * SECOND + 1, rules.ABSENCE, rules.ABSENCE + 1, DAY)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    it = Place(tmp_path)
    yield it
    it.close()


def firing(policy: str, **more: object) -> FiringRow:
    fields = dict.fromkeys(FiringRow._fields)
    return FiringRow(**{**fields, "due": 0, "missed": 0, "name": "one", "policy": policy, "job": "{}",
                        "state": "active", "runs": 0, "again": 0, **more})  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_what_needs_no_thought_is_what_thought_would_say(policy: dict[str, object]) -> None:
    text = json.dumps(policy)
    found = [at_once(firing(text), late, ()) for late in LATENESS]
    for late, outcome in zip(LATENESS, found, strict=True):
        judged = rules.judge(parse_policy(policy), UTC, 0, False, MINUTE, rules.Standing(late))
        assert outcome is None or judged == rules.Run(outcome)
    assert any(found) == (policy.keys() <= {"lateness", "overlap"})


@pytest.mark.parametrize(
    "more",
    [{"missed": 1}, {"again": 1}, {"cause": "file:/a"}, {"state": "paused"}, {"due": SECOND}, {"name": "busy"},
     {"job": '{"tags":["a"]}'}, {"job": '{"concurrency":[["a",1]]}'}],
    ids=str,
)  # fmt: skip
def test_what_more_has_a_say_in_needs_thought(more: dict[str, object]) -> None:
    assert at_once(firing("{}"), 5, ("busy",)) == "ran"
    assert at_once(firing("{}", **more), 5, ("busy",)) is None


@pytest.mark.parametrize("seed", range(20))
def test_what_comes_is_taken_in_order(seed: int) -> None:
    chance = random.Random(seed)
    coming, told, now = Coming(), [], 0
    for _ in range(300):
        now += chance.randrange(3)
        for _ in range(chance.randrange(4)):
            # Mostly in order, sometimes not, and some twice.
            key = (now + (chance.randrange(9) if chance.random() < 0.1 else 9), chance.randrange(5), 0)
            coming.push(key)
            heapq.heappush(told, key)
        most = chance.choice((1, 3, 100))
        expected = [heapq.heappop(told) for _ in range(min(most, sum(due <= now for due, *_ in told)))]
        assert coming.take(now, most) == expected
        assert len(coming) == len(told)
        assert not told or coming[0] == told[0]


def test_each_of_a_herd_has_its_own_job(place: Place) -> None:
    options = (
        {},
        {"priority": 7},
        {"queue": "default"},
        {"queue": "default", "priority": -2},
        {"tags": ["a"]},
        {"max_runs": 9},
    )
    whens = ("daily 13:00", "daily 13:00:01", "every 1h")
    for number in range(36):
        place.add(f"s{number:02}", whens[number // 6 % 3], run=["echo", str(number)], **options[number % 6])
    place.until("2026-03-01 12:59:59")
    assert place.jobs() == []
    place.clock.pass_by(2 * SECOND + SECOND // 2)
    place.step()
    jobs = place.jobs()
    assert jobs == list(range(1, 37))
    firings = dict(place.store.db.execute("SELECT job, instant FROM firings WHERE outcome IS NOT NULL"))
    for number in range(36):
        name = f"s{number:02}"
        (job,) = place.jobs(name)
        found, row, given = place.job(job), place.row(name), options[number % 6]
        assert (found["queue"], found["priority"]) == (given.get("queue", "schedules"), given.get("priority", 0))
        assert (found["name"], found["state"], found["keyed"], found["now"]) == (name, "queued", 0, 0)
        assert (found["task"], found["context"], found["args"]) == (row.task, row.context, row.args)
        assert found["due"] == firings[job]
        assert (row.runs, row.by_hand, row.started) == (1, 0, found["created"])
        ((_, outcome, reason),) = place.decided(name)
        # The others came a second and a half after their time.
        assert (outcome, reason) == ("ran" if whens[number // 6 % 3] == "daily 13:00:01" else "late", None)
    assert len(firings) == 36
