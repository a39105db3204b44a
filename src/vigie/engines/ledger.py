"""What one worker process was given, and what became of it: by its messages, and after its death by its page."""

from __future__ import annotations

import pickle
import signal
import time
from array import array
from collections import deque
from typing import Any

from vigie.engines.batch import Back, Batch, Event, Failed, Group, Large, Lost
from vigie.worker_map import ERROR, ends
from vigie.workfiles import Page

__all__ = ["Given", "Ledger", "described"]


class Given:
    """A batch that a worker has: items ``done`` to ``end`` of it are open."""

    __slots__ = ("batch", "done", "end", "seq")

    def __init__(self, batch: Batch, seq: int) -> None:
        self.batch = batch
        self.seq = seq
        self.done = 0
        self.end = len(batch.items)

    @property
    def open(self) -> int:
        """How many items have no outcome."""
        return self.end - self.done

    def rest(self, start: int) -> Batch:
        """Give what is open of it from item ``start`` on."""
        return self.part(start, self.end)

    def part(self, start: int, end: int) -> Batch:
        """Give items of it as a batch of their own."""
        return Batch(self.batch.index + start, self.batch.items[start:end], timeout=self.batch.timeout)


class Ledger:
    """The books of one worker."""

    def __init__(self, number: int, page: Page) -> None:
        self.number = number
        self.page = page
        self.given: deque[Given] = deque()
        self.next_seq = 1
        #: Items that it was ever given.
        self.count = 0
        #: Set when its item is to end: (seq, when it is killed for good in monotonic s, why).
        self.doomed: tuple[int, float, str] | None = None
        #: It was told to end for an item that ended by itself: what it is at then has done nothing.
        self.shot = False

    @property
    def open(self) -> int:
        """How many items it has."""
        return sum(given.open for given in self.given)

    def add(self, batch: Batch) -> Given:
        """Enter a batch that it is given."""
        given = Given(batch, self.next_seq)
        self.given.append(given)
        self.next_seq += given.end
        self.count += given.end
        self.page.limit = self.next_seq - 1
        return given

    def take_back(self, first: int) -> list[Event]:
        """Have all come back from the item ``first`` on, if that has not begun; nothing if it has."""
        events: list[Event] = []
        if self.page.take_back(first):
            for given in self.given:
                start = max(given.done, first - given.seq)
                if start < given.end:
                    events.append(Back(given.rest(start)))
                    given.end = start
            self.page.limit = self.next_seq - 1
        return events

    # --- what it is at ----------------------------------------------------------

    def at(self) -> int | None:
        """Give the item that it is at, or the first of a batch that it reads; None if that has ended."""
        if not self.given:
            return None
        seq = max(self.page.started, self.page.reading)
        given = next((g for g in self.given if g.seq + g.done <= seq < g.seq + g.end), None)
        if given is None or any(end[0] == seq for end in ends(self.page.records())):
            return None
        return seq

    def late(self, age: int) -> bool:
        """Tell whether it is at an item for longer than ``age`` ns."""
        began = self.page.began
        return bool(began) and time.monotonic_ns() - began > age

    def behind(self) -> Given | None:
        """Give the batch that waits behind the one that it is at."""
        return self.given[1] if len(self.given) > 1 and self.given[1].open else None

    def unsent(self, age: int) -> list[Event]:
        """Take the outcomes that it keeps to itself while it is at an item for ``age`` ns and more."""
        page = self.page
        before = page.started, page.began
        if not page.length or not before[1] or time.monotonic_ns() - before[1] < age:
            return []
        records = page.records()
        if (page.started, page.began) != before:
            return []
        # It was inside that item all the time, so that it has sent and cleared nothing. But what it
        # sent before may still be on its way: what stands here comes after that.
        first = next((seq for seq, *_ in ends(records)), 0)
        return self.take(records) if first <= self.given[0].seq + self.given[0].done else []

    # --- what became of items ---------------------------------------------------

    def take(self, data: bytes) -> list[Event]:
        """Take what became of items, by a message or by the journal."""
        events: list[Event] = []
        group: Group | None = None
        given: Given | None = None
        for seq, kind, spent, rss, pickled in ends(data):
            if given is None or not given.seq <= seq < given.seq + len(given.batch.items):
                given = self._holder(seq)
                group = None
            if given is None or seq - given.seq < given.done:
                continue  # it was sent, and stands in the journal still
            at = seq - given.seq
            given.done = at + 1
            if kind == ERROR:
                group = None
                caught = self.doomed is not None and self.doomed[0] == seq  # our signal
                events.append(self._lose(given, at, 0) if caught else self._failed(given, at, spent, pickled))
                continue
            if group is None:
                group = self._group(given, at, [], [])
                group.packed = True
                events.append(group)
            group.times.append(spent)
            group.values.append(pickled)
            group.size += len(pickled)
            if rss:
                group.peak_rss, group = rss, None  # it is that of this item
        return events

    def take_run(self, seq: int, times: bytes, pickled: bytes) -> list[Event]:
        """Take plain values of items that follow one upon the other."""
        given = self._holder(seq)
        if given is None:
            return []
        told = max(0, given.done - (seq - given.seq))  # seen in the journal already
        spent, values = array("Q", times)[told:].tolist(), pickle.loads(pickled)[told:]
        if not values:
            return []
        at = seq - given.seq + told
        given.done = at + len(values)
        group = self._group(given, at, spent, values)
        group.size = len(pickled)
        return [group]

    def take_large(self, seq: int, spent: int, rss: int, large: Large) -> list[Event]:
        """Take a value that came in a segment."""
        given = self._holder(seq)
        if given is None or seq - given.seq < given.done:
            return []
        at = seq - given.seq
        given.done = at + 1
        group = self._group(given, at, [spent], [large])
        group.peak_rss, group.size, group.packed = rss, large.size, True
        return [group]

    def end_of_batch(self, *, alone: bool) -> list[Event]:
        """Take it that the worker has left a batch; what it has not computed comes back."""
        given = self.given.popleft()
        return [Back(given.rest(given.done), alone)] if given.open else []

    def _holder(self, seq: int) -> Given | None:
        return next((g for g in self.given if g.seq <= seq < g.seq + len(g.batch.items)), None)

    def _group(self, given: Given, at: int, times: list[int], values: list[Any]) -> Group:
        return Group(given.batch.index + at, times, values, self.number, len(given.batch.items))

    def _failed(self, given: Given, at: int, spent: int, description: bytes) -> Failed:
        index, item = given.batch.index + at, given.batch.items[at]
        return Failed(index, item, spent, self.number, *described(description))

    # --- its death --------------------------------------------------------------

    def dead(self, status: int) -> list[Event]:
        """Decide what a worker had that has ended with ``status`` (negative: a signal)."""
        events = self.take(self.page.records())
        seq = self.at()
        for given in self.given:
            at = -1 if seq is None else seq - given.seq
            if given.done <= at < given.end:
                if given.done < at:
                    # Ended, and neither sent nor in the journal: nobody knows with what.
                    events.append(Back(given.part(given.done, at)))
                given.done = at
                if self.page.started == seq or given.open == 1:
                    events.append(self._lose(given, at, status))
                else:
                    # It did not get beyond reading them: one of them is to blame.
                    events.append(Back(given.rest(at), alone=True))
                    given.done = given.end
            if given.open:
                events.append(Back(given.rest(given.done)))
        return events

    def _lose(self, given: Given, at: int, status: int) -> Lost | Back:
        """Take it that an item is over with nothing to show; its worker's ``status`` says how."""
        given.done = at + 1
        spent = time.monotonic_ns() - self.page.began if self.page.began else 0
        item, index = given.batch.items[at], given.batch.index + at
        why, number = ("signal", -status) if status < 0 else ("exit", status)
        if self.doomed and self.doomed[0] == given.seq + at:
            why, number = self.doomed[2], 0
        elif self.shot and number == signal.SIGTERM:
            return Back(given.part(at, at + 1))
        return Lost(index, item, spent, self.number, why, number, given.batch.timeout)

    # --- its time ---------------------------------------------------------------

    def due(self, limit: int | None, now: int) -> float | None:
        """Give the seconds until it may have been at its item for too long; None: never."""
        if self.doomed:
            return self.doomed[1] - now / 1e9
        least = self._least(limit)
        if least is None:
            return None
        began = self.page.began
        return (began + least - now) / 1e9 if began else 0.05

    def overdue(self, limit: int | None, now: int) -> int | None:
        """Give the item that it is at for too long."""
        began, least = self.page.began, self._least(limit)
        if not began or least is None or now - began <= least:
            return None
        seq = self.at()
        given = None if seq is None else self._holder(seq)
        if given is not None and given.batch.timeout is not None:
            limit = given.batch.timeout
        # The second look: what it was at may have ended between the first and the clock's.
        return seq if limit is not None and now - began > limit and self.at() == seq else None

    def _least(self, limit: int | None) -> int | None:
        """Give the shortest time (ns) that any of what it is at, or will be next, may take."""
        limits = [limit if one.batch.timeout is None else one.batch.timeout for one in list(self.given)]
        return min((one for one in limits if one is not None), default=None)


def described(description: bytes) -> tuple[str, str, str, BaseException | None]:
    """Give the name, text and traceback of an exception that travelled, and itself if it can be made here."""
    name, message, text, itself = pickle.loads(description)
    if itself is not None:
        try:
            error = pickle.loads(itself)
        except Exception:
            error = None
        if isinstance(error, BaseException):
            return name, message, text, error
    return name, message, text, None
