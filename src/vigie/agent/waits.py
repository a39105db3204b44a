"""The duty of telling those who wait that jobs have ended."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from vigie.agent.trees import Trees
from vigie.errors import NotFound
from vigie.model import FINISHED, public_state
from vigie.store.rows import Row
from vigie.store.sqlite import Store

if TYPE_CHECKING:
    from vigie.outcome import Good

__all__ = ["Waits"]

Answer = Callable[..., None]


class Listener(Protocol):
    """Who waits: while it is ``behind`` with reading, what it is to be told waits in ``held``."""

    behind: bool
    held: deque[Callable[[], None]]


class _Wait:
    """Somebody who waits for jobs."""

    __slots__ = ("alarm", "answer", "any", "before", "end", "ended", "ids", "open", "peer", "results", "trees")

    def __init__(self, peer: Listener, ids: list[int], answer: Answer) -> None:
        self.peer = peer
        self.ids = ids
        self.answer = answer
        self.open = set(ids)
        #: How those ended of which that is known already.
        self.ended: dict[int, str] = {}
        self.any = False
        self.results = False
        self.trees = False
        #: Of those to be stopped, which had ended before.
        self.before: frozenset[int] = frozenset()
        self.alarm: asyncio.TimerHandle | None = None
        #: What the last function returned, if it did.
        self.end: Good | None = None


def _outcome(row: Row, blobs: list[bytes]) -> dict[str, Any]:
    """Give an outcome from the columns of the query ``result``."""
    state, reason, exit_code, signal, message, result, encoding, error, attempt = row
    outcome = {
        "state": state, "reason": reason, "exit_code": exit_code, "signal": signal, "message": message,
        "encoding": encoding, "attempt": attempt, "error": None if error is None else json.loads(error),
    }  # fmt: skip
    if result is not None:
        outcome["blob"] = len(blobs)
        blobs.append(result)
    return outcome


class Waits:
    """Who waits for what."""

    def __init__(self, store: Store, trees: Trees, loop: asyncio.AbstractEventLoop) -> None:
        self.store = store
        self.trees = trees
        self.loop = loop
        #: A tuple, since one wait for many jobs is the same tuple for all of them.
        self._by_job: dict[int, tuple[_Wait, ...]] = {}

    def until_ended(
        self, peer: Listener, ids: list[int], any_one: bool, timeout: int | None, results: bool, answer: Answer
    ) -> None:
        """Answer when the jobs have ended (the first of them, if ``any_one``), or after ``timeout`` µs.

        Raises
        ------
        NotFound
            When one of them does not exist.
        """
        wait = _Wait(peer, ids, answer)
        wait.any = any_one
        wait.results = results and len(ids) == 1
        known = self.store.states_of(ids)
        for job in ids:
            if job not in known:
                raise NotFound(f"no job {job}", "vigie jobs --all")
        wait.ended = {job: state for job, state in known.items() if state in FINISHED}
        wait.open.difference_update(wait.ended)
        if self._satisfied(wait):
            self._give(wait)
            return
        if timeout is not None:
            wait.alarm = self.loop.call_later(timeout / 1e6, self._give, wait)
        self._listen(wait)

    def until_gone(self, peer: Listener, ids: list[int], before: Iterable[int], answer: Answer) -> None:
        """Answer when the jobs have ended and their trees are gone; those in ``before`` had ended already."""
        wait = _Wait(peer, ids, answer)
        wait.before = frozenset(before)
        wait.trees = True
        for job in ids:
            if self._gone(job):
                wait.open.discard(job)
        if wait.open:
            self._listen(wait)
        else:
            self._give(wait)

    def _listen(self, wait: _Wait) -> None:
        alone = (wait,)
        for job in wait.open:
            others = self._by_job.get(job)
            self._by_job[job] = alone if others is None else others + alone

    def _ended(self, job: int) -> bool:
        row = self.store.state_of(job)
        return row is None or row[1] is not None

    def _gone(self, job: int) -> bool:
        row = self.store.state_of(job)
        return (row is None or row[1] is not None) and not self.trees.busy(job)

    def _satisfied(self, wait: _Wait) -> bool:
        return not wait.open or (wait.any and len(wait.open) < len(wait.ids))

    def look_again(self) -> None:
        """Hear of every job for which somebody waits."""
        for job in list(self._by_job):
            self.hear(job)

    def hear(self, job: int, *, ended: bool = False) -> None:
        """A job ended (surely, if ``ended``), or its tree did."""
        for wait in self._by_job.get(job, ()):
            if not (self._gone(job) if wait.trees else ended or self._ended(job)):
                continue
            wait.open.discard(job)
            self._leave(job, wait)
            if self._satisfied(wait):
                self._give(wait)

    def hear_many(self, ends: Iterable[Good]) -> None:
        """Many functions have returned, surely, and their jobs completed."""
        if not self._by_job:
            return
        for end in ends:
            job = end[1]
            waits = self._by_job.get(job)
            if waits:
                for wait in waits:
                    wait.ended[job] = "completed"
                    wait.end = end
                self.hear(job, ended=True)

    def _leave(self, job: int, wait: _Wait) -> None:
        left = tuple(other for other in self._by_job.get(job, ()) if other is not wait)
        if left:
            self._by_job[job] = left
        else:
            self._by_job.pop(job, None)
            if not self._by_job:
                self._by_job = {}  # one that was large stays so

    def _give(self, wait: _Wait) -> None:
        self._drop(wait)
        if wait.peer.behind:
            # It has not read what it was told before: its answer is made when it has.
            wait.peer.held.append(partial(self._give, wait))
            return
        blobs: list[bytes] = []
        if wait.trees:
            value: dict[str, Any] = {"jobs": [self._stopped(job, job in wait.before) for job in wait.ids]}
        else:
            unknown = [job for job in wait.ids if job not in wait.ended]
            known = self.store.states_of(unknown) | wait.ended if unknown else wait.ended
            states = {str(job): public_state(known[job]) if job in known else None for job in wait.ids}
            value = {"done": self._satisfied(wait), "states": states, "pending": sorted(wait.open)}
            if wait.results and not wait.open:
                try:
                    value["outcome"] = _outcome(self._result(wait), blobs)
                except NotFound as error:
                    wait.answer(None, error)
                    return
        wait.answer(value, None, blobs)

    def _stopped(self, job: int, before: bool) -> dict[str, Any]:
        left = [] if self.trees is None else self.trees.left.get(job, [])
        state = self._state(job)
        note = f"job {job}: still there: {', '.join(map(str, left))}" if left else None
        if note is None and (before or state in ("completed", "failed", "lost")):
            had = "was" if state in ("stopped", "lost") else "had"
            note = f"job {job} was removed" if state is None else f"job {job} {had} {state} already"
        return {"id": job, "state": state, "left": left, "note": note}

    def _state(self, job: int) -> str | None:
        row = self.store.state_of(job)
        return None if row is None else public_state(row[0])

    def _result(self, wait: _Wait) -> Row:
        if wait.end is not None:
            # It was committed just now, and need not be read.
            attempt, result, encoding = wait.end[2], wait.end[8], wait.end[10]
            return ("completed", None, None, None, None, result, encoding, None, attempt)
        row = self.store.one("result", (wait.ids[0],))
        if row is None:
            raise NotFound(f"job {wait.ids[0]} was removed")
        return row

    def _drop(self, wait: _Wait) -> None:
        if wait.alarm is not None:
            wait.alarm.cancel()
        for job in wait.open:
            self._leave(job, wait)

    def forget(self, peer: Listener) -> None:
        """The peer has gone."""
        for wait in {w for waits in self._by_job.values() for w in waits if w.peer is peer}:
            self._drop(wait)
