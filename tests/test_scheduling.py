"""Schedules from Python: the decorator's method, the handles, and triggers as values."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

import pytest

import vigie as library
from conftest import until
from vigie.errors import NotFound, NotSerializable, UsageError
from vigie.when import calendar, cron, on_file, rrule, when

pytestmark = pytest.mark.slow


@library.task(timeout="20s")
def greet(who: str, times: int = 1) -> str:
    return "hi " + who * times


def test_a_task_runs_when_its_trigger_comes(home: Any) -> None:
    plan = greet.schedule("every 1s", args=("bob",), kwargs={"times": 2}, max_runs=1)
    assert plan.name == "greet"
    until(lambda: plan.state == "done")
    (row,) = plan.history()
    assert library.get(row["job"]).result(timeout=30) == "hi bobbob"


def test_said_again_it_is_changed_and_not_doubled(home: Any) -> None:
    for hour in (2, 3):
        plan = greet.schedule(f"daily 0{hour}:00", name="greeting", args=("x",), timezone="UTC", overlap="parallel")
    assert library.schedules() == [plan]
    assert plan.next is not None
    assert plan.next.hour == 3
    assert plan.describe()["policy"] == {"overlap": "parallel"}


def test_triggers_are_values_that_combine(home: Any) -> None:
    both = (
        cron("0 2 * * *", timezone="UTC")
        | calendar("Mon *-*-* 08:00", timezone="Europe/Paris")
        | when("yearly 12-24 18:00")
    )
    plan = greet.schedule(both | rrule("FREQ=YEARLY", timezone="UTC"), name="all", args=("x",))
    assert plan.describe()["when"][:3] == ["0 2 * * *", "Mon *-*-* 08:00", "yearly 12-24 18:00"]
    assert len(plan.coming(20)) == 20
    assert plan.coming(20) == sorted(plan.coming(20))


def test_a_handle_does_what_the_command_line_does(home: Any) -> None:
    plan = greet.schedule("daily 02:00", args=("x",))
    assert plan.run().result(timeout=30) == "hi x"
    plan.pause(until=datetime.fromisoformat("2100-01-01T00:00:00+00:00"))
    assert (plan.state, plan.next) == ("paused", None)
    plan.resume()
    assert plan.state == "active"
    plan.remove()
    with pytest.raises(NotFound):
        plan.describe()
    assert library.schedules() == []


def test_closures_travel_and_what_cannot_is_named(home: Any) -> None:
    number = 20
    plan = library.task(lambda more: number + more).schedule("daily 02:00", name="closure", args=(22,))
    assert plan.run().result(timeout=30) == 42
    with pytest.raises(NotSerializable):
        greet.schedule("daily 02:00", args=(threading.Lock(),))


def test_wrong_words_are_refused_where_they_are_said(home: Any) -> None:
    with pytest.raises(UsageError, match="hour 25"):
        cron("0 25 * * *")
    with pytest.raises(UsageError, match="no key 'overlapp'"):
        greet.schedule("daily 02:00", args=("x",), overlapp="skip")
    with pytest.raises(UsageError, match="cannot hold the result of a job"):
        greet.schedule("daily 02:00", args=(library.start(["true"]),))
    assert on_file("/srv/in/*.csv").describe() == ["when a file /srv/in/*.csv has not changed for 2 seconds"]
