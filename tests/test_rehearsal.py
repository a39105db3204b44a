"""What ``vigie schedule simulate`` foresees: order, overlap, collisions, load."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import Any

import pytest

from vigie import zones
from vigie.firing import delay
from vigie.policies import parse_policy
from vigie.rehearsal import Course, Firing, Tally, rehearse
from vigie.triggers.interval import Every

SECOND = 1_000_000
MINUTE = 60 * SECOND
UTC = zones.load("UTC")


def course(name: str, every: int, duration: int | None = None, queue: str = "q", **policy: Any) -> Course:
    return Course(name, Every(every, 0), parse_policy(policy), UTC, queue, duration)


def rehearsed(*courses: Course, end: int = 600 * SECOND) -> tuple[list[Firing], Tally]:
    tally = Tally()
    return list(rehearse(courses, 0, end, tally)), tally


def test_all_firings_come_in_order_each_once() -> None:
    found, tally = rehearsed(course("a", 60 * SECOND), course("b", 90 * SECOND))
    seen = [(each.due // SECOND, each.course.name) for each in found]
    expected = [(at, "a") for at in range(60, 600, 60)] + [(at, "b") for at in range(90, 600, 90)]
    assert seen == sorted(expected)
    assert (tally.count, tally.skipped, tally.loads) == (len(expected), 0, {})
    # In each minute in which b begins, a begins too: at 180, 360 and 540 at the same instant.
    assert (tally.shared, tally.crowd, tally.most, tally.at, tally.names) == (6, 2, 2, 180 * SECOND, ["a", "b"])


@pytest.mark.parametrize("jitter", ["50s", "50s random", "5m random"])
def test_jitter_moves_each_and_keeps_the_order(jitter: str) -> None:
    each = course("a", 20 * SECOND, jitter=jitter)
    start, end = 1000 * SECOND, 2000 * SECOND
    found = list(rehearse([each], start, end, Tally()))
    instants = range(0, 2000 * SECOND, 20 * SECOND)
    dues = [(at + delay(each.policy, "a", at), at) for at in instants]
    assert [(one.due, one.instant) for one in found] == sorted(pair for pair in dues if start <= pair[0] < end)
    assert all(one.due <= other.due for one, other in pairwise(found))


@pytest.mark.parametrize(
    ("policy", "starts", "most"),
    [
        ({"overlap": "skip"}, [1, 4, 7], 1),
        ({"overlap": "parallel"}, [1, 2, 3, 4, 5, 6, 7, 8, 9], 3),
        # One waits behind the one that runs, and begins when that ends.
        ({"overlap": "queue_one"}, [1, 2, 4, 6, 9], 1),
        ({"overlap": "queue_all"}, [1, 2, 3, 4, 5, 6, 7, 8, 9], 1),
        ({"overlap": "replace"}, [1, 2, 3, 4, 5, 6, 7, 8, 9], 1),
        ({"overlap": "parallel", "max_runs": 2}, [1, 2], 2),
    ],
)
def test_overlap_follows_the_agents_rules(policy: dict[str, Any], starts: list[int], most: int) -> None:
    found, tally = rehearsed(course("a", 10 * SECOND, 25 * SECOND, **policy), end=95 * SECOND)
    assert [each.due // (10 * SECOND) for each in found if each.skip is None] == starts
    assert tally.skipped == len(found) - len(starts)
    assert tally.loads["q"].most == most


def test_what_nobody_knows_the_length_of_takes_no_slot_and_never_overlaps() -> None:
    found, tally = rehearsed(course("a", 10 * SECOND), course("b", 10 * SECOND, 0))
    assert {each.skip for each in found} == {None}
    assert tally.loads["q"].most == 1


def test_the_load_of_each_queue_is_its_own() -> None:
    _, tally = rehearsed(
        course("a", 60 * SECOND, 30 * SECOND),
        course("b", 60 * SECOND, 30 * SECOND),
        course("c", 90 * SECOND, MINUTE, "r"),
    )
    assert {name: (load.most, load.at, load.now) for name, load in tally.loads.items()} == {
        "q": (2, MINUTE, 0), "r": (1, 90 * SECOND, 0),
    }  # fmt: skip


def test_one_that_ends_as_another_begins_gives_its_slot() -> None:
    _, tally = rehearsed(course("a", MINUTE, MINUTE, overlap="parallel"))
    assert tally.loads["q"].most == 1


@pytest.mark.slow
def test_many_firings_take_no_more_room_than_few() -> None:
    def peak(end: int) -> int:
        tally = Tally()
        tracemalloc.start()
        for _ in rehearse([course("a", SECOND, 3 * SECOND, overlap="parallel")], 0, end, tally):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert tally.count > end // SECOND - 10
        return most

    # As a list, these would take some megabytes.
    assert peak(20_000 * SECOND) < 400_000
