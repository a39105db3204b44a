"""The one writer: what shares a transaction stands or falls by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from vigie.agent.core import Core
from vigie.agent.dispatch import Dispatch
from vigie.agent.marks import Marks
from vigie.agent.writer import Repeated, Writer
from vigie.errors import NotFound, VigieError
from vigie.lifecycle import Refusal
from vigie.store.sqlite import Store


class Clock:
    def wall(self) -> int:
        return 7

    def mono(self) -> int:
        return 7


class Place:
    """A writer with a real store, whose loop is turned by hand."""

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.store = Store(str(path / "vigie.db"))
        self.core = Core(self.store, Clock(), Mock(), ("host", "agent", "boot"), Marks("/h"))
        self.writer = Writer(self.core, Dispatch(self.core, 2), self.loop)
        self.answers: list[tuple[Any, str | None]] = []
        self.effects: list[str] = []

    def ask(self, work: Callable[..., Any], *args: Any) -> None:
        def answer(value: Any, error: VigieError | None) -> None:
            self.answers.append((value, None if error is None else error.message))

        self.writer.post(work, *args, answer=answer)

    def turn(self) -> None:
        for _ in range(3):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def note(self, key: str) -> str:
        self.store.run("set_meta", (key, "there"))
        self.core.after(self.effects.append, key)
        return key

    @property
    def noted(self) -> list[str]:
        rows = self.store.db.execute("SELECT key FROM meta WHERE value = 'there' ORDER BY key")
        return [key for (key,) in rows]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.loop.close()
    made.store.close()


def fails_with(place: Place, error: Exception) -> Callable[[str], None]:
    def work(key: str) -> None:
        place.note(key)
        raise error

    return work


FAILURES = [
    (NotFound("no such job"), None, "no such job"),
    (Refusal("it has ended"), None, "it has ended"),
    (Repeated("as before"), "as before", None),
    (OSError(28, "No space left on device"), None, "not accepted, nothing was written"),
    (ZeroDivisionError("oh"), None, "the agent could not do that: ZeroDivisionError: oh"),
]


@pytest.mark.parametrize(("error", "value", "said"), FAILURES, ids=lambda it: type(it).__name__)
def test_what_is_refused_after_it_wrote_is_undone_alone(
    place: Place, error: Exception, value: Any, said: str | None
) -> None:
    place.ask(place.note, "a")
    place.ask(fails_with(place, error), "b")
    place.ask(place.note, "c")
    place.turn()
    assert place.noted == ["a", "c"]
    assert place.effects == ["a", "c"]
    assert place.answers[0] == ("a", None)
    assert place.answers[2] == ("c", None)
    assert place.answers[1][0] == value
    assert (said or "") in (place.answers[1][1] or "")
    assert (place.answers[1][1] is None) == (said is None)
    assert place.writer.commits == 1


def test_what_is_refused_before_it_wrote_costs_the_others_nothing(place: Place) -> None:
    runs = []

    def refused() -> None:
        place.core.after(place.effects.append, "never")
        raise NotFound("no such job")

    def counted() -> None:
        runs.append(place.note("a"))

    place.ask(counted)
    place.ask(refused)
    place.turn()
    assert (runs, place.noted, place.effects) == (["a"], ["a"], ["a"])


def test_a_lone_one_that_is_refused_leaves_nothing(place: Place) -> None:
    place.ask(fails_with(place, NotFound("no such job")), "a")
    place.turn()
    assert (place.noted, place.effects, place.answers) == ([], [], [(None, "no such job")])


def test_what_is_there_already_shares_the_commit(place: Place) -> None:
    """Two came in one look at the sockets: one more look is taken, and no time is waited for."""
    place.ask(place.note, "a")
    place.ask(place.note, "b")
    place.loop.call_soon(place.ask, place.note, "c")
    place.turn()
    assert (place.noted, place.writer.commits) == (["a", "b", "c"], 1)


def test_what_is_posted_late_goes_along_with_what_is_not(place: Place) -> None:
    place.writer.post_late(place.note, "a")
    place.turn()
    assert place.writer.commits == 0
    place.ask(place.note, "b")
    place.turn()
    assert (place.noted, place.writer.commits) == (["a", "b"], 1)


def test_what_is_posted_late_comes_by_itself(place: Place) -> None:
    place.writer.post_late(place.note, "a")
    while not place.writer.commits:
        place.loop.run_until_complete(asyncio.sleep(0))
    assert place.noted == ["a"]
