"""A parallel run as one job in the background: see ``vigie.start_map``.

The job's function is :func:`run`. It drives the same course as ``vigie.map``; each finished
item is in a journal beside the job, so that an attempt that follows another does the rest.
Its board says how far it is, and now and then it looks for orders (``vigie.boards``).
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vigie import boards, callables
from vigie.config import Home
from vigie.errors import ItemStopped
from vigie.parallel.course import Course
from vigie.parallel.journal import Journal
from vigie.parallel.keys import fingerprint
from vigie.parallel.outcome import Outcome
from vigie.parallel.pace import Pace
from vigie.parallel.plan import Crew, Plan
from vigie.parallel.resume import Resume
from vigie.payload import told

if TYPE_CHECKING:
    from vigie.parallel.course import Engine

__all__ = ["Background", "Items", "job_directory", "run"]

#: Seconds between two looks at the orders, and two writes of the board.
LOOK = 0.1
#: The board names so many failed items.
NAMED = 10


def run(home: str, reference: str | None, code: bytes | None, items: Sequence[Any], options: dict[str, Any]) -> Any:
    """Compute all items, as the function of a job; give the values, or the outcomes if errors are collected."""
    function = callables.find(reference, code or b"")
    given = dict(options)
    errors = given.pop("errors", None) or "raise"
    chosen = {name: given.pop(name, None) for name in ("limit", "init", "recycle", "memory_limit")}
    on = given.pop("on", None) or "processes"
    plan = Plan(ordered=False, errors="collect", **{k: v for k, v in given.items() if v is not None})
    crew = Crew(function, on, plan, **chosen)
    directory = job_directory(home)
    journal = Items(os.path.join(directory, "items"), fingerprint(function))
    return Background(directory, crew.engine(), items, plan, journal, errors=errors).run()


def job_directory(home: str) -> str:
    """Give the directory of the job that this is, which is made if it is missing."""
    directory = Home(home).job_dir(int(os.environ["VIGIE_JOB"]))
    os.makedirs(directory, mode=0o700, exist_ok=True)
    return directory


class Items(Resume):
    """The journal of the job: an item's key is its place; ``function`` is the fingerprint of what computes them."""

    def __init__(self, path: str, function: str) -> None:
        self._journal = Journal.open(path, function=function)
        self._keys = {}
        self._closed = False

    def earlier(self, index: int, item: Any) -> bytes | None:
        """Give the pickle of a value that an earlier attempt has computed."""
        key = _key(index)
        if self._journal.done(key):
            return self._journal.value(key)
        self._keys[index] = key
        return None

    def close(self) -> None:
        """Stay open: the values are read at the end."""

    def end(self) -> None:
        """Let go of the journal."""
        super().close()

    def expect(self, index: int) -> None:
        """Have an item noted that is tried once more."""
        self._keys[index] = _key(index)

    def value(self, index: int) -> Any:
        """Give the value of an item."""
        return pickle.loads(self._journal.value(_key(index)))


def _key(index: int) -> bytes:
    return index.to_bytes(16, "little")


class Background:
    """One attempt at a parallel run.

    Parameters
    ----------
    directory:
        Of the job: its board, its orders and its journal are there.
    engine:
        What computes the items.
    errors:
        As of :func:`vigie.start_map`.
    """

    def __init__(
        self, directory: str, engine: Engine, items: Sequence[Any], plan: Plan, journal: Items, *, errors: str = "raise"
    ) -> None:
        self._directory = directory
        self._items = items
        self._errors = errors
        self._journal = journal
        self._orders = boards.Orders(directory)
        self._engine = engine
        self._course = Course(self._engine, items, plan, self._journal, self)
        self._failed: dict[int, Outcome[Any]] = {}
        self._drained = False
        self._attempt = int(os.environ["VIGIE_ATTEMPT"].rpartition(".")[2])
        self._pace = Pace(time.monotonic())
        self._next = 0.0

    def run(self) -> Any:
        """See :func:`run`."""
        try:
            self._look()
            for outcome in self._course.drive():
                self._take(outcome)
            return self._result()
        finally:
            self._write(ended=True)
            self._course.close()
            self._journal.end()

    def _take(self, outcome: Outcome[Any]) -> None:
        if outcome.error is None:
            self._failed.pop(outcome.index, None)
            return
        self._failed[outcome.index] = outcome
        if self._errors == "raise" and not isinstance(outcome.error, ItemStopped):
            raise outcome.error

    def _result(self) -> Any:
        tally, count = self._course.tally, len(self._items)
        ended = tally.done + tally.earlier + tally.failed
        if self._drained and ended < count:
            raise ItemStopped(f"drained: {ended:,} of {count:,} items have ended; vigie retry does the rest")
        return self._values()

    def _values(self) -> Any:
        """Give the result of the job, all items having ended."""
        count = len(self._items)
        if self._errors != "collect":
            return [self._journal.value(index) for index in range(count) if index not in self._failed]
        return [self._failed.get(index) or self._value(index) for index in range(count)]

    def _value(self, index: int) -> Outcome[Any]:
        return Outcome(index, self._journal.value(index), None, 1, 0.0, 0)

    # --- what the course shows its progress to ------------------------------------

    def due(self) -> float:
        """Give the seconds until the next look."""
        return max(0.0, self._next - time.monotonic())

    def update(self, *, done: int, failed: int, running: int, earlier: int = 0) -> None:
        """Write the board, and follow the orders, if that is due."""
        if time.monotonic() >= self._next:
            self._look()

    def close(self, note: str = "") -> None:
        """The last state is on the board already."""

    def _look(self) -> None:
        for order in self._orders.new():
            self._follow(order)
        self._write()
        self._next = time.monotonic() + LOOK

    def _follow(self, order: dict[str, Any]) -> None:
        if "limit" in order:
            self._course.resize(int(order["limit"]))
        elif "drain" in order:
            if order.get("attempt") == self._attempt:
                self._drained = True
                self._course.drain()
        elif "skip" in order:
            self._course.skip(int(order["skip"]))
        elif "retry" in order:
            index = int(order["retry"])
            if self._failed.pop(index, None) is not None:
                self._journal.expect(index)
                self._course.again(index, self._items[index])
            else:
                self._course.unskip(index)

    def _write(self, *, ended: bool = False) -> None:
        tally, now = self._course.tally, time.monotonic()
        done, running = tally.done + tally.earlier, 0 if ended else self._engine.busy()
        self._pace.seen(now, tally.done)
        rate = self._pace.rate(now, running)
        left = None if ended else self._pace.left(now, len(self._items) - done - tally.failed, running)
        problems = [[index, _text(self._failed[index].error)] for index in list(self._failed)[:NAMED]]
        board = {
            "total": len(self._items), "done": done, "earlier": tally.earlier, "failed": tally.failed,
            "running": running, "limit": self._engine.limit, "rate": rate, "left": left, "problems": problems,
            "drained": self._drained,
        }  # fmt: skip
        boards.write_board(self._directory, board)


def _text(error: BaseException | None) -> str:
    return "" if error is None else told(error)[1][:200]
