"""What becomes of planned instants: the rules, one by one and for all mixtures."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.errors import UsageError
from vigie.firing import ABSENCE, LATE, REASONS, Run, Skip, Standing, delay, judge, settle
from vigie.policies import DEFAULT, FIELDS, Blackout, Condition, Policy, parse_policy
from vigie.triggers.wall import DAY, HOUR, MINUTE, Zone, day_number

UTC = Zone("UTC", ZoneInfo("UTC"))
PARIS = Zone("Europe/Paris", ZoneInfo("Europe/Paris"))


def of(due: int = 0, now: int = 0, period: int | None = DAY, missed: bool = False, zone: Zone = UTC, **more: object):
    policy = parse_policy({key: value for key, value in more.items() if key not in ("open", "runs")})
    how = Standing(now, tuple(more.get("open", ())), int(more.get("runs", 0)))  # type: ignore[call-overload, arg-type]  # of the test
    return judge(policy, zone, due, missed, period, how)


def test_in_time_it_runs_and_later_it_is_late() -> None:
    assert of(now=LATE) == Run("ran")
    assert of(now=LATE + 1) == Run("late")
    assert of(now=HOUR, missed=True) == Run("caught-up")


def test_the_longest_lateness_is_one_period_or_a_day() -> None:
    assert of(now=HOUR, period=HOUR) == Run("late")
    assert of(now=HOUR + 1, period=HOUR) == Skip("too-late", "1h late, and 1h is the most")
    assert of(now=DAY, period=30 * DAY) == Run("late")
    assert isinstance(of(now=DAY + 1, period=30 * DAY), Skip)
    assert isinstance(of(now=DAY + 1, period=None), Skip)


def test_what_comes_every_second_may_be_late_by_a_minute() -> None:
    assert of(now=ABSENCE, period=1_000_000) == Run("late")
    assert isinstance(of(now=ABSENCE + 1, period=1_000_000), Skip)


def test_a_lateness_that_is_given_holds() -> None:
    assert of(now=3 * DAY, lateness="3d") == Run("late")
    assert of(now=MINUTE + 1, lateness="1m").reason == "too-late"  # type: ignore[union-attr]  # a Skip


@pytest.mark.parametrize(
    ("overlap", "verdict"),
    [
        ("skip", Skip("overlap", "job 9 had not ended")),
        ("queue-one", Run("ran", after=(9,))),
        ("queue-all", Run("ran", after=(9,))),
        ("parallel", Run("ran")),
        ("replace", Run("ran", after=(9,), stop=(9,))),
    ],
)
def test_an_open_run_and_each_overlap(overlap: str, verdict: Run | Skip) -> None:
    assert of(overlap=overlap, open=(9,)) == verdict
    assert of(overlap=overlap) == Run("ran")


def test_one_may_wait_and_no_more() -> None:
    assert of(overlap="queue_one", open=(8, 9)) == Skip("overlap", "job 8 had not ended, and 1 waited behind it")


def test_so_many_may_wait_in_order() -> None:
    assert of(overlap="queue-all=3", open=(6, 7, 8)) == Run("ran", after=(8,))
    assert isinstance(of(overlap="queue-all=3", open=(6, 7, 8, 9)), Skip)


def test_all_of_them_are_replaced() -> None:
    assert of(overlap="replace", open=(8, 9)) == Run("ran", after=(8, 9), stop=(8, 9))


def test_after_all_its_runs_it_does_not() -> None:
    assert of(max_runs=3, runs=2) == Run("ran")
    assert of(max_runs=3, runs=3) == Skip("limit", "all its 3 runs are done")


def test_a_blackout_is_one_of_the_wall() -> None:
    instant = PARIS.first(day_number(2026, 7, 1) * DAY + 5 * HOUR)  # 03:00 UTC
    assert of(instant, instant, zone=PARIS, blackout="04:00-06:00") == Skip("blackout", "in 04:00-06:00")
    assert of(instant, instant, zone=UTC, blackout="04:00-06:00") == Run("ran")


@pytest.mark.parametrize(
    ("catch_up", "count", "run"), [("none", 9, 0), ("latest", 9, 1), ("all=3", 9, 3), ("all", 2, 2)]
)
def test_what_catch_up_makes_of_missed_instants(catch_up: str, count: int, run: int) -> None:
    assert settle(parse_policy({"catch_up": catch_up, "overlap": "parallel"}), count) == run


@given(st.integers(0, 10 * DAY), st.integers(0, 10 * DAY), st.lists(st.integers(1, 99), unique=True), st.data())
def test_there_is_always_one_verdict_and_its_reason_is_known(
    due: int, later: int, jobs: list[int], data: st.DataObject
) -> None:
    policy = Policy(
        overlap=data.draw(st.sampled_from(["skip", "queue_one", "queue_all", "parallel", "replace"])),
        lateness=data.draw(st.none() | st.integers(0, DAY)),
        max_runs=data.draw(st.none() | st.integers(1, 3)),
    )
    verdict = judge(policy, UTC, due, data.draw(st.booleans()), data.draw(st.none() | st.integers(1, DAY)),
                    Standing(due + later, tuple(sorted(jobs)), data.draw(st.integers(0, 4))))  # fmt: skip
    if isinstance(verdict, Skip):
        assert verdict.reason in REASONS
    else:
        assert set(verdict.stop) <= set(verdict.after) <= set(jobs)
        if policy.overlap == "skip":
            assert not jobs


@given(st.text(), st.integers(0, 1 << 50), st.integers(0, DAY))
def test_jitter_keeps_its_bound_and_its_word(name: str, instant: int, most: int) -> None:
    stable, random = Policy(jitter=most), Policy(jitter=most, random=True)
    assert 0 <= delay(stable, name, instant) <= most
    assert delay(stable, name, instant) == delay(stable, name, instant + 1)
    assert 0 <= delay(random, name, instant) <= most
    assert delay(random, name, instant) == delay(random, name, instant)


def test_another_delay_each_time_is_another() -> None:
    policy = Policy(jitter=HOUR, random=True)
    assert len({delay(policy, "nightly", instant) for instant in range(20)}) > 15


# --- the words ----------------------------------------------------------------------


def test_all_words_of_a_policy_are_read() -> None:
    policy = parse_policy(
        {
            "overlap": "queue-all=7", "catch_up": "all=9", "lateness": "2h", "jitter": "5m random",
            "if": ["power", "load < 1.5", "disk /srv 10 GiB", "idle 10m", "network", "command test -e '/a b'"],
            "if_wait": "10m", "blackout": ["sat,sun", "22:00-06:00"], "delete_after": "1d", "max_runs": 3, "history": 5,
        }
    )  # fmt: skip
    assert (policy.overlap, policy.overlap_limit, policy.catch_up, policy.catch_up_limit) == ("queue_all", 7, "all", 9)
    assert (policy.lateness, policy.jitter, policy.random) == (2 * HOUR, 5 * MINUTE, True)
    assert policy.conditions == (
        Condition("power"), Condition("load", 1.5), Condition("disk", ("/srv", 10 << 30)),
        Condition("idle", 10 * MINUTE), Condition("network"), Condition("command", ("test", "-e", "/a b")),
    )  # fmt: skip
    assert (policy.patience, policy.delete_after, policy.max_runs, policy.history) == (10 * MINUTE, DAY, 3, 5)
    assert len(policy.blackouts) == 2
    assert len(policy.describe()) == 15


def test_nothing_said_is_the_default() -> None:
    assert parse_policy({}) == parse_policy(dict.fromkeys(FIELDS)) == DEFAULT
    assert DEFAULT.describe() == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"overlap": "queue"}, "overlap: 'queue' is none of skip, queue-one, queue-all[=N], parallel, replace"),
        ({"overlap": "skip=3"}, "overlap: 'skip=3' is none of"),
        ({"overlap": "queue-all=0"}, "not a number above zero"),
        ({"catch_up": "all"}, "catch-up all with overlap skip"),
        ({"catch_up": "some"}, "catch-up: 'some' is none of"),
        ({"lateness": "soon"}, "'soon' is not a duration"),
        ({"if": "moon"}, "'moon' is no condition"),
        ({"if": "load < -1"}, "not above zero"),
        ({"if": "disk /srv"}, "is not a size"),
        ({"if": {"power": True, "network": True}}, "is no condition"),
        ({"blackout": "noon"}, "'noon' is no"),
        ({"blackout": "25:00-26:00"}, "no window of a day"),
        ({"blackout": ""}, "is no window"),
        ({"max_runs": 0}, "not a number above zero"),
        ({"history": True}, "not a number above zero"),
        ({"colour": "red"}, "has no policy 'colour'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=None) as refused:
        parse_policy(given)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("22:00-06:00", [(3, 23 * HOUR), (3, 5 * HOUR)], [(3, 6 * HOUR), (3, 21 * HOUR)]),
        ("fri 22:00-06:00", [(4, 23 * HOUR), (5, 5 * HOUR)], [(4, 5 * HOUR), (5, 23 * HOUR)]),
        ("mon-fri 09:00-17:00", [(0, 9 * HOUR), (4, 16 * HOUR)], [(5, 10 * HOUR), (0, 17 * HOUR)]),
        ("sat,sun", [(5, 0), (6, DAY - 1)], [(0, 0), (4, DAY - 1)]),
        ("fri-mon", [(4, 0), (6, 0), (0, 5)], [(1, 0), (3, 0)]),
        ("09:00-24:00", [(0, DAY - 1)], [(1, 0)]),
    ],
)
def test_windows(text: str, inside: list[tuple[int, int]], outside: list[tuple[int, int]]) -> None:
    window, monday = Blackout.parse(text), day_number(2026, 11, 23)
    for day, time in inside:
        assert window.covers((monday + day) * DAY + time), (day, time)
    for day, time in outside:
        assert not window.covers((monday + day) * DAY + time), (day, time)
