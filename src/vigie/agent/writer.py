"""The one writer: what arrives together shares a commit, and hears of it after.

Requests and reports are posted as functions. At the end of the loop's round,
when every socket that had something to say was read, the writer opens one
transaction, runs them in order, lets the dispatcher hand out what became possible,
commits, and only then carries out the effects and answers. Idle, a single request is
committed at once; what arrives while a commit waits for the disk is the next round.

What is refused has written nothing, as a rule. If it has, the round is taken back and
run once more, each request in a savepoint of its own, so that the others of the round
stand: savepoints copy each page that is written, and hardly any round needs them.

The commit runs in the loop's own thread (docs/decisions/001): no state is
shared between threads, and nothing could be decided during a commit anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import apsw

from vigie.agent.core import Core
from vigie.agent.dispatch import Dispatch
from vigie.errors import StoreError, VigieError
from vigie.lifecycle import Refusal
from vigie.store.trouble import explain

__all__ = ["Repeated", "Writer", "sync_failed"]

log = logging.getLogger("vigie.agent")

#: Rows of requests in one commit; a request is never split.
MOST_ROWS = 1_000
#: Seconds that a report may wait for company for which nobody waits.
LATE = 0.005
#: Seconds before reports that could not be written are tried again.
AGAIN = 1.0

Answer = Callable[[Any, VigieError | None], None]


class Repeated(Exception):
    """A request was carried out before: what it did now is undone, and ``answer`` is that of the first time."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer


class _Undo(Exception):
    """A part of the round has to be undone, and has no savepoint."""


@dataclass(slots=True)
class _Item:
    work: Callable[..., Any]
    args: tuple[Any, ...]
    answer: Answer | None
    rows: int


class Writer:
    """Runs posted work in shared transactions.

    Parameters
    ----------
    core, dispatch:
        What the work changes, and who hands out afterwards.
    loop:
        The agent's event loop.
    """

    def __init__(self, core: Core, dispatch: Dispatch, loop: asyncio.AbstractEventLoop) -> None:
        self.core = core
        self.dispatch = dispatch
        self.loop = loop
        self._items: deque[_Item] = deque()
        self._scheduled = False
        self._again = False
        #: How many wait for an answer.
        self._asked = 0
        self._late: asyncio.TimerHandle | None = None
        self.commits = 0
        self.closed = False
        self.broken: str | None = None
        #: Set by the timers: called before each transaction.
        self.look: Callable[[], None] = lambda: None
        #: Set by main: what a round says to the keeper goes out together.
        self.gathering: Callable[[], AbstractContextManager[None]] = nullcontext
        #: Set by main: the disk did not take what it was given, and nobody knows what it holds now.
        self.unsafe: Callable[[Exception], None] = lambda error: None

    def post(self, work: Callable[..., Any], *args: Any, answer: Answer | None = None, rows: int = 1) -> None:
        """Have ``work(*args)`` run in the next transaction.

        ``answer(value, error)`` is called after the commit. Work without an answer
        is a report of ours: it is kept and tried again until it is written.
        """
        self._items.append(_Item(work, args, answer, rows))
        self._asked += answer is not None
        self.wake()

    def post_late(self, work: Callable[..., Any], *args: Any) -> None:
        """Have it run in the next transaction, and have one in a moment if nothing else asks for one.

        For what nobody waits for, and what may be followed at once by something that counts.
        """
        self._items.append(_Item(work, args, None, 1))
        if not self._scheduled and self._late is None:
            self._late = self.loop.call_later(LATE, self._come_late)

    def _come_late(self) -> None:
        self._late = None
        if self._items:
            self.wake()

    def first(self, work: Callable[..., Any], *args: Any) -> None:
        """Have ``work(*args)`` run before all that was posted."""
        self._items.appendleft(_Item(work, args, None, 1))
        self.wake()

    def wake(self) -> None:
        """Have a transaction soon, be it only to hand out work."""
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self.flush)

    def close(self) -> None:
        """Run what was posted, and nothing any more."""
        self.flush()
        self.closed = True

    def flush(self) -> None:
        """Run one transaction with what has been posted."""
        if self.closed:
            return
        if self._asked > 1 and not self._again:
            # Several clients are at work: one more look takes in who has asked since the last, and waits for nobody.
            self._again = True
            self.loop.call_soon(self.flush)
            return
        self._again = False
        self._scheduled = False
        self.look()
        batch = self._take()
        core = self.core
        try:
            try:
                answers = self._transact(batch, apart=False)
            except _Undo:
                core.store.rollback()
                core.reload()
                self.dispatch.rebuild()
                answers = self._transact(batch, apart=True)
        except Exception as error:
            if not isinstance(error, apsw.Error | OSError):
                log.exception("a transaction failed inside the agent")
            self._failed(batch, error)
            return
        self.commits += 1
        if self.broken is not None:
            log.warning("the store accepts writes again")
            self.broken = None
        urgent, core.urgent = core.urgent, []
        effects, core.effects = core.effects, []
        for some in (urgent, effects):
            if some:
                with self.gathering():
                    for effect, args in some:
                        self._carry_out(effect, args)
        for item, value, refused in answers:
            if item.answer is not None:
                self._carry_out(item.answer, (value, refused))
        if core.store.log_is_long():
            self._copy_log()
        if self._items:
            self.wake()

    def _transact(self, batch: list[_Item], *, apart: bool) -> list[tuple[_Item, Any, VigieError | None]]:
        """Run and commit a round; ``apart`` gives each request a savepoint. Give what to answer."""
        store = self.core.store
        store.begin()
        answers = [(item, *self._run(item, apart=apart)) for item in batch]
        self.dispatch.run()
        store.commit()
        return answers

    def _carry_out(self, what: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Do one thing that follows a commit; should it fail, the others are done all the same."""
        try:
            what(*args)
        except Exception:
            log.exception("%s failed after its commit", getattr(what, "__qualname__", what))

    def _take(self) -> list[_Item]:
        batch: list[_Item] = []
        rows = 0
        while self._items and (not batch or rows + self._items[0].rows <= MOST_ROWS):
            item = self._items.popleft()
            rows += item.rows
            self._asked -= item.answer is not None
            batch.append(item)
        return batch

    def _run(self, item: _Item, *, apart: bool) -> tuple[Any, VigieError | None]:
        store = self.core.store
        noted, written = len(self.core.effects), store.written()
        if apart:
            store.savepoint()
        try:
            value = item.work(*item.args)
        except apsw.Error:
            raise
        except (VigieError, Refusal) as error:
            if apart or store.written() != written:
                self._undo(noted, apart)
            del self.core.effects[noted:]
            return None, error if isinstance(error, VigieError) else VigieError(str(error))
        except Repeated as repeated:
            self._undo(noted, apart)
            return repeated.answer, None
        except OSError as error:
            self._undo(noted, apart)
            log.error("a file could not be written: %s", error)
            if item.answer is None:
                # The others of the batch must not wait for what this one lacks.
                self.loop.call_later(AGAIN, self._put_back, item)
            return None, self._not_accepted(error)
        except Exception as error:
            self._undo(noted, apart)
            log.exception("a request failed inside the agent")
            return None, VigieError(
                f"the agent could not do that: {type(error).__name__}: {error}",
                f"this is a fault of Vigie; {log.name} wrote more to agent.log",
            )
        if apart:
            store.release()
        return value, None

    def _undo(self, noted: int, apart: bool) -> None:
        """Undo one request on disk, and learn again what it may have changed in memory."""
        if not apart:
            raise _Undo
        self.core.store.undo()
        del self.core.effects[noted:]
        self.core.learn()
        self.dispatch.rebuild()

    def _put_back(self, item: _Item) -> None:
        self._items.append(item)
        self.wake()

    def _not_accepted(self, error: Exception) -> StoreError:
        return explain(self.core.store.path, error, "not accepted, nothing was written")

    def _failed(self, batch: list[_Item], error: Exception) -> None:
        """Nothing was written: refuse requests, keep our own reports for later."""
        if sync_failed(error):
            # Answered by who can tell: a repeat asks the agent that reads the store anew.
            self.closed = True
            self.unsafe(error)
            return
        try:
            self.core.store.rollback()
        except apsw.Error:
            log.exception("rollback failed")
        if self.broken is None:
            log.error("the store refused a commit: %s", error)
        self.broken = str(error)
        # What the log holds has a place in the database; then the log begins anew, and need not grow.
        if not self._copy_log():
            return
        try:
            self.core.reload()
            self.dispatch.rebuild()
        except apsw.Error:
            log.exception("the store cannot be read")
        refusal = self._not_accepted(error)
        kept = [item for item in batch if item.answer is None]
        for item in batch:
            if item.answer is not None:
                self._carry_out(item.answer, (None, refusal))
        self._items.extendleft(reversed(kept))
        # Until the disk has room, one try a second: no spinning.
        self._scheduled = True
        self.loop.call_later(AGAIN, self.flush)

    def _copy_log(self) -> bool:
        """Copy the log into the database file; False when the disk failed, and the agent is about to end."""
        try:
            self.core.store.checkpoint()
        except apsw.Error as trouble:
            if sync_failed(trouble):
                self.closed = True
                self.unsafe(trouble)
                return False
            log.warning("the log could not be copied into the database: %s", trouble)
        return True


def sync_failed(error: Exception) -> bool:
    """Tell whether the disk may lack what the kernel no longer tries to write.

    After that a second fsync says that all is well, and it is not: the store has to
    be read and written anew.
    """
    return getattr(error, "extendedresult", None) in (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)
