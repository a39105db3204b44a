"""How far a run is: how fast and how long, what is said of it, and when."""

from __future__ import annotations

import io
import itertools
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.errors import UsageError
from vigie.parallel.pace import Pace, Shot, line
from vigie.parallel.progress import SHORT, Progress, display


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# How fast ---------------------------------------------------------------------------


def test_before_the_first_item_nobody_knows() -> None:
    pace = Pace(100.0)
    pace.seen(105.0, 0)
    assert pace.rate(105.0, 4) is None
    assert pace.left(105.0, 10, 4) is None


def test_a_steady_pace_is_measured_from_the_start() -> None:
    pace = Pace(100.0)
    for step in range(1, 600):
        pace.seen(100 + step / 10, 12 * step)
        assert pace.rate(100 + step / 10, 3) == pytest.approx(120)
        assert pace.left(100 + step / 10, 600, 0) == pytest.approx(5)


def test_what_came_last_counts_most() -> None:
    pace = Pace(0.0)
    done = 0
    for second in range(1, 121):
        done += 1000 if second <= 60 else 10
        pace.seen(second, done)
    rate = pace.rate(120.0, 0)
    assert rate is not None
    # The mean of all would be 505.
    assert 10 < rate < 40


def test_items_that_take_long_and_end_together_are_awaited_calmly() -> None:
    """Four at once, half a minute each: in between nothing slows down, and the rest is counted down."""
    pace = Pace(0.0)
    for burst in range(1, 6):
        pace.seen(30.0 * burst, 4 * burst)
        for later in range(0, 30, 3):
            now = 30.0 * burst + later
            assert pace.rate(now, 4) == pytest.approx(4 / 30)
            assert pace.left(now, 40 - 4 * burst, 4) == pytest.approx(300 - now)


def test_what_does_not_come_slows_it_down() -> None:
    pace = Pace(0.0)
    pace.seen(10.0, 100)
    seen = [pace.rate(10.0 + late, 10) for late in (0, 1, 2, 10, 100)]
    assert seen[0] == seen[1] == pytest.approx(10)
    assert all(a > b for a, b in itertools.pairwise(seen[1:]))


@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 10**7), st.integers(0, 10**5)), max_size=30))
def test_whatever_comes_the_pace_is_one(steps) -> None:
    pace, now, done = Pace(0.0), 0.0, 0
    for gap, more, running in steps:
        now, done = now + gap, done + more
        pace.seen(now, done)
        rate, left = pace.rate(now, running), pace.left(now, 1000, running)
        assert (rate is None) == (left is None)
        assert rate is None or (rate > 0 and left >= 0)


# What is said -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shot", "told"),
    [
        (Shot("", 1000, 812, failed=3, rate=120.4, left=4.1), "812 of 1,000 · 3 failed · 120/s · 0:00:05 left"),
        (Shot("", 10, 0, running=4, elapsed=12.9), "0 of 10 · 4 running · 0:00:12 so far"),
        (Shot("f", None, 5, rate=2.0, elapsed=3700), "f: 5 · 2/s · 1:01:40 so far"),
        (Shot("", 10, 2, running=4, rate=0.05, left=7200), "2 of 10 · 4 running · 3/min · 2:00:00 left"),
        (Shot("", 10, 2, running=4, rate=3.0, left=3), "2 of 10 · 3/s · 0:00:03 left"),
        (Shot("", 900, 700, earlier=600, rate=1.25, left=160), "700 of 900 · 600 earlier · 1.2/s · 0:02:40 left"),
        (Shot("", 10**7, 10, rate=12_345.6, left=86400 * 3), "10 of 10,000,000 · 12,300/s · 3 days left"),
        (Shot("", 10, 1, rate=0.004, left=3600), "1 of 10 · 14/h · 1:00:00 left"),
        (Shot("", 10, 1, rate=99.7, left=1), "1 of 10 · 100/s · 0:00:01 left"),
        (Shot("", 0, 0, elapsed=0.01, ended=True), "0 of 0 · in 0.0 s"),
        (Shot("", 9, 9, elapsed=75, rate=0.12, running=3, ended=True), "9 of 9 · 7.2/min · in 0:01:15"),
        (Shot("", 9, 4, elapsed=2.3, ended=True, note="interrupted"), "4 of 9 · interrupted after 2.3 s"),
    ],
)
def test_a_line_says(shot: Shot, told: str) -> None:
    assert line(shot) == told


# Choices ----------------------------------------------------------------------------


@pytest.mark.parametrize("choice", [1, 0, 2.5, b"x", []])
def test_a_choice_that_is_none_is_refused(choice) -> None:
    with pytest.raises(UsageError, match="it is True, False, None or a text"):
        display(choice, "f", 1)


def test_by_default_nothing_is_shown_where_nobody_watches(capfd) -> None:
    assert not sys.stderr.isatty()
    assert display(None, "f", 1) is None
    assert display(False, "f", 1) is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("choice", "label"), [(True, "f"), ("mine", "mine")])
def test_what_is_asked_for_is_shown_anywhere(choice, label, capfd) -> None:
    progress = display(choice, "f", 1)
    assert progress is not None
    progress.update(done=1, failed=0, running=0)
    progress.close()
    assert capfd.readouterr().err.startswith(f"{label}: 1 of 1 · ")


# Lines ------------------------------------------------------------------------------


def lines_of(seconds: int, step: float = 0.25, total: int | None = None) -> list[tuple[float, str]]:
    """Run for so many seconds at 8 items a second; give each line with its instant."""
    clock, out, found = Clock(), io.StringIO(), []
    progress = Progress("job", total, clock=clock, stream=out)
    while clock.now < seconds:
        clock.now += step
        progress.update(done=int(clock.now * 8), failed=0, running=2)
        if out.tell():
            found.append((clock.now, out.getvalue()))
            out.seek(0)
            out.truncate()
    progress.close()
    return [*found, (clock.now, out.getvalue())]


def test_lines_come_ever_more_rarely_and_each_minute_in_the_end() -> None:
    found = lines_of(3600, total=8 * 3600)
    instants = [instant for instant, _ in found[:-1]]
    gaps = [after - before for before, after in itertools.pairwise(instants)]
    assert instants[0] == 1.0
    assert all(gap <= 10 for before, gap in zip(instants, gaps, strict=False) if before <= 20)
    assert gaps == sorted(gaps)
    assert set(gaps[-50:]) == {60.0}
    assert found[0][1] == "job: 8 of 28,800 · 8/s · 0:59:59 left\n"
    assert found[-1][1] == "job: 28,800 of 28,800 · 8/s · in 1:00:00\n"


@given(st.text(), st.sampled_from(["", "broken\x1b[2J\noff"]))
def test_whatever_the_label_a_line_is_one(label: str, note: str) -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress(label, 3, clock=clock, stream=out)
    clock.now = 2.0
    progress.update(done=1, failed=0, running=1)
    progress.close(note)
    told = out.getvalue()
    assert told.count("\n") == 2
    assert not [c for c in told.replace("\n", "") if unicodedata.category(c) in ("Cc", "Cs")]


def test_items_of_an_earlier_run_make_it_no_faster() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress("job", 2000, clock=clock, stream=out)
    progress.update(done=1000, failed=0, running=2, earlier=1000)
    clock.now = 2.0
    progress.update(done=1010, failed=0, running=2, earlier=1000)
    clock.now = 4.0
    progress.close("interrupted")
    assert out.getvalue().splitlines() == [
        "job: 1,010 of 2,000 · 1,000 earlier · 5/s · 0:03:18 left",
        "job: 1,010 of 2,000 · 1,000 earlier · 2.5/s · interrupted after 4.0 s",
    ]


def test_a_total_may_come_later_and_be_wrong() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress("", None, clock=clock, stream=out)
    clock.now = 1.0
    progress.update(done=1, failed=0, running=0)
    progress.total = 3
    clock.now = 6.0
    progress.update(done=2, failed=0, running=0)
    clock.now = 60.0
    progress.update(done=4, failed=1, running=0)
    progress.close()
    assert [told.partition(" · ")[0] for told in out.getvalue().splitlines()] == ["1", "2 of 3", "4", "4"]


def test_who_waits_is_told_when_to_look_again() -> None:
    clock = Clock()
    progress = Progress("job", 3, clock=clock, stream=io.StringIO())
    clock.now = 0.5
    progress.update(done=0, failed=0, running=1)
    assert progress.due() == pytest.approx(0.5)
    clock.now = 1.5
    assert progress.due() == 0
    progress.update(done=0, failed=0, running=1)
    assert progress.due() == pytest.approx(4.0)
    progress.close()
    assert progress.due() == float("inf")


def test_drawing_that_takes_long_is_done_less_often() -> None:
    clock = Clock()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            clock.now += 1.0
            return super().write(text)

    progress = Progress("job", 3, clock=clock, stream=Slow())
    clock.now = 1.0
    progress.update(done=0, failed=0, running=1)
    assert progress.due() == pytest.approx(19.0)


def test_a_short_run_is_not_worth_it() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress("job", 3, clock=clock, stream=out, quiet=SHORT)
    clock.now = 0.49
    progress.update(done=2, failed=0, running=1)
    progress.close()
    assert out.getvalue() == ""


def test_nothing_follows_the_end() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress("job", 3, clock=clock, stream=out)
    progress.close()
    once = out.getvalue()
    clock.now = 100.0
    progress.update(done=3, failed=0, running=0)
    progress.close("again")
    assert out.getvalue() == once == "job: 0 of 3 · in 0.0 s\n"
