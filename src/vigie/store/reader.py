"""The reading side of the store: what the lists, ``show``, ``logs`` and ``why`` read.

Every read works with the agent up, down, or killed a moment ago. The connection
is read-only (the close of a read-write one would checkpoint), and a statement
lives no longer than a page of rows, so that no reader holds the log back from
its checkpoint. A store that is not there yet is empty, not an error.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from vigie.errors import NotFound
from vigie.model import DEFAULT_QUEUE, SCHEDULES, default_slots, public_state
from vigie.selection import Filter
from vigie.store import sql
from vigie.store.readonly import ReadOnly, Row
from vigie.store.schedule_reader import ScheduleReader
from vigie.store.service_reader import ServiceReader
from vigie.store.unfolded import Unfolded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vigie.config import Home

__all__ = ["Reader", "Row"]

#: Rows to a statement.
PAGE = 500
_LAST = (1 << 63) - 1
_OPEN = ("queued", "assigned", "blocked", "running", "suspended")


class Reader:
    """Reads the store of one home, and nothing else of it.

    Parameters
    ----------
    home:
        Whose store. The file is opened at the first read, and again when
        another was put in its place (``vigie agent restore``).

    Each method raises :class:`StoreError` when the store is damaged, may not be
    read, or was written by a Vigie too new for this one.

    >>> from vigie.config import Home
    >>> Reader(Home("/nonexistent")).jobs()
    []
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self._sql = sql.load("read")
        self._store = ReadOnly(home.db)
        self._samples = ReadOnly(home.samples)
        self._jobs = Unfolded(self._store)
        self.schedules = ScheduleReader(self._store)
        self.services = ServiceReader(self._store)

    def close(self) -> None:
        """Close the connections; the next read opens them again."""
        self._store.close()
        self._samples.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- the store as a whole -------------------------------------------------

    @property
    def exists(self) -> bool:
        """Whether there is a store."""
        return self._store.open() is not None

    def data_version(self) -> tuple[int, int]:
        """Give a value that changes with every commit of somebody else; cheap enough to poll."""
        self._store.reopen_if_replaced()
        rows = self._store.rows("PRAGMA data_version", {})
        return (self._store.opened, rows[0]["data_version"] if rows else 0)

    # --- jobs -----------------------------------------------------------------

    def job(self, job: int) -> Row | None:
        """Give one job with its task, its context's directory and its newest attempt's process."""
        return next(iter(self.rows_of([job])), None)

    def get(self, job: int) -> Row:
        """Give one job.

        Raises
        ------
        NotFound
            When there is none with that id.
        """
        row = self.job(job)
        if row is None:
            raise _no_job(str(job))
        return row

    def rows_of(self, ids: list[int]) -> list[Row]:
        """Give the rows of these ids, in their order; unknown ones are left out."""
        place = {job: at for at, job in enumerate(ids)}
        rows = sorted(self._rows("jobs", ids=json.dumps(ids)), key=lambda row: place[row["id"]])
        for row in rows:
            row["assigned"] = row["state"] == "assigned"
            row["state"] = public_state(row["state"])
            row["tags"] = json.loads(row["tags"])
        return rows

    def jobs(self, filter: Filter | None = None, limit: int = PAGE, after: Row | None = None) -> list[Row]:  # noqa: A002 - the documents' word
        """Give a page of jobs, newest first (failed and lost ones alone: last ended first).

        Parameters
        ----------
        filter:
            Which; default: those started by hand.
        limit:
            How many rows at most.
        after:
            The last row of the page before.
        """
        return self.rows_of([row["id"] for row in self._page(filter or Filter(), limit, after)])

    def each(self, filter: Filter | None = None, limit: int | None = None) -> Iterator[Row]:  # noqa: A002 - the documents' word
        """Give all jobs chosen, a page at a time, in the order of :meth:`jobs`."""
        after: Row | None = None
        left = _LAST if limit is None else limit
        while left > 0:
            page = self._page(filter or Filter(), min(PAGE, left), after)
            yield from self.rows_of([row["id"] for row in page])
            if len(page) < min(PAGE, left):
                return
            left -= len(page)
            after = page[-1]

    def ids(self, filter: Filter) -> list[int]:  # noqa: A002 - the documents' word
        """Give the ids of all jobs chosen, lowest first."""
        found: list[int] = []
        after: Row | None = None
        while page := self._page(filter, 10 * PAGE, after):
            found += [row["id"] for row in page]
            after = page[-1]
        return sorted(found)

    def _page(self, chosen: Filter, limit: int, after: Row | None) -> list[Row]:
        """Choose the index that finds these jobs soonest and walk it."""
        bind = {**chosen.parameters(), "limit": limit, "before": after["id"] if after else _LAST}
        states = set(chosen.stored_states)
        if chosen.tags:
            found = self._filtered("ids_tagged", {**bind, "tag": chosen.tags[0]})
        elif chosen.exact_name is not None or chosen.schedule is not None:
            # Jobs of a schedule bear its name.
            found = self._filtered("ids_named", {**bind, "exact": chosen.exact_name or chosen.schedule})
        elif chosen.service is not None:
            found = self._filtered("ids_served", bind)
        elif states and states <= set(_OPEN) and not ("queued" in states and after):
            # The first page of those that are queued sorts them all; the next ones walk on through the table.
            pages = [
                self._filtered("ids_queued" if state == "queued" else "ids_open", {**bind, "state": state})
                for state in states
            ]
            found = [row for page in pages for row in page]
        elif states and states <= {"failed", "lost"}:
            return self._filtered("ids_bad", {**bind, "ended": after["finished"] if after else _LAST})
        else:
            found = self._filtered("ids_newest", bind)
        return sorted(found, key=lambda row: -row["id"])[:limit]

    # --- words for jobs -------------------------------------------------------

    def resolve(self, selector: list[str], filter: Filter | None = None, stdin: Any = None) -> list[int]:  # noqa: A002 - the documents' word
        """Give the ids that JOB words and a filter name, each once.

        Parameters
        ----------
        selector:
            Ids, names (the newest of that name), ``last``, ``-`` (ids on stdin).
        filter:
            Without words: all that it chooses. With words: it narrows them.
        stdin:
            What ``-`` reads; default ``sys.stdin``.

        Raises
        ------
        NotFound
            When a word names no job.
        """
        if not selector:
            return self.ids(filter) if filter else []
        words: list[str] = []
        for word in selector:
            words += _from_stdin(stdin) if word == "-" else [word]
        numbers = [int(word) for word in words if _is_id(word) and len(word) < 19]
        known = self.states(numbers)
        found = dict.fromkeys(self._one(word, known) for word in words)
        if filter:
            chosen = set(self.ids(_every(filter)))
            return [job for job in found if job in chosen]
        return list(found)

    def states(self, ids: list[int]) -> dict[int, str]:
        """Give the state of each id that exists."""
        rows = self._rows("known", ids=json.dumps(ids))
        return {row["id"]: public_state(row["state"]) for row in rows}

    def _one(self, word: str, known: dict[int, str]) -> int:
        if _is_id(word):
            if int(word) not in known:
                raise _no_job(word)
            return int(word)
        rows = self._rows("newest") if word == "last" else self._rows("named", name=word)
        if rows:
            return max(int(row["id"]) for row in rows)
        if word == "last":
            raise NotFound("there is no job yet", "vigie start -- CMD …")
        raise NotFound(f"no job is called {word}", self._guess(word))

    def _guess(self, word: str) -> str:
        from difflib import get_close_matches

        if next(self.schedules.all([word]), None) is not None:
            return f"it is a schedule: vigie schedule show {word}, or vigie jobs --schedule {word}"
        names = [row["name"] for row in self._rows("names")]
        close = get_close_matches(word, names, 3)
        return f"did you mean {' or '.join(close)}?" if close else "vigie jobs shows ids and names"

    # --- one job's particulars ------------------------------------------------

    def attempts(self, job: int) -> list[Row]:
        """Give the attempts of a job, the first first."""
        return self._rows("attempts", job=job)

    def dependencies(self, job: int) -> list[Row]:
        """Give what a job waits for: ``needs, mode, state, name, reason`` (state None: removed)."""
        return _public(self._rows_alone("dependencies", job=job))

    def dependents(self, job: int) -> list[Row]:
        """Give who waits for a job: ``job, mode, state, name``; a hundred at most."""
        return _public(self._rows_alone("dependents", job=job))

    def keys(self, job: int) -> list[Row]:
        """Give a job's concurrency keys: ``key, most, held, holders``."""
        rows = self._rows("keys", job=job)
        for row in rows:
            row["holders"] = sorted(json.loads(row["holders"]))
        return rows

    def content(self, job: int) -> Row:
        """Give the large columns: ``args encoding result result_encoding error records``."""
        return next(iter(self._rows("content", job=job)), {})

    def context(self, job: int) -> Row:
        """Give a job's context: ``cwd env umask python path`` as stored. It holds secrets."""
        return next(iter(self._rows("context", job=job)), {})

    def cursor(self, job: int, reader: str = "default") -> tuple[dict[str, Any], int] | None:
        """Give where a reader of ``receive`` stands and since when (µs UTC)."""
        rows = self._rows("cursor", job=job, reader=reader)
        return (json.loads(rows[0]["position"]), rows[0]["at"]) if rows else None

    def lengths(self, job: int, attempt: int, after: int = -1, limit: int = PAGE) -> list[tuple[int, int, int]]:
        """Give a page of the index of a command's streams: (instant, length of out, of err)."""
        return self._lengths("lengths", job=job, attempt=attempt, after=after, limit=limit)

    def lengths_back(
        self, job: int, attempt: int, before: int = _LAST, limit: int = PAGE
    ) -> list[tuple[int, int, int]]:
        """Give the same from the end backwards."""
        return self._lengths("lengths_back", job=job, attempt=attempt, before=before, limit=limit)

    def length_before(self, job: int, attempt: int, at: int) -> tuple[int, int, int]:
        """Give the last entry before an instant, or zeros."""
        return next(iter(self._lengths("length_before", job=job, attempt=attempt, at=at)), (0, 0, 0))

    # --- queues, counts, events -----------------------------------------------

    def queues(self) -> list[Row]:
        """Give the queues with their use.

        Each row has ``name, slots, rate, paused, used`` (slots taken), ``busy``
        (ids of who takes them) and ``queued`` (how many wait).
        """
        known = {row["name"]: row for row in self._rows("queues")}
        waiting: dict[str, int] = {}
        for row in self._rows("queue_waiting"):
            waiting[row["queue"]] = waiting.get(row["queue"], 0) + row["n"]
        busy: dict[str, list[Row]] = {}
        for row in self._rows("queue_busy"):
            busy.setdefault(row["queue"], []).append(row)
        used = [SCHEDULES] if self.schedules.coming(1) else []
        names = dict.fromkeys([DEFAULT_QUEUE, *used, *known, *waiting, *busy])
        return [self._queue(name, known.get(name, {}), busy.get(name, []), waiting.get(name, 0)) for name in names]

    def queue(self, name: str) -> Row:
        """Give one queue as :meth:`queues` does; one that nobody set up has the defaults."""
        found = [row for row in self.queues() if row["name"] == name]
        return found[0] if found else self._queue(name, {}, [], 0)

    @staticmethod
    def _queue(name: str, row: Row, busy: list[Row], queued: int) -> Row:
        slots = row.get("slots")
        # A worker is one slot, whatever it holds; what the keeper holds has none yet.
        taken = {("w", r["worker"]) for r in busy if r["worker"] is not None}
        taken |= {("j", r["id"]) for r in busy if r["worker"] is None and r["state"] != "assigned"}
        return {
            "name": name,
            "slots": default_slots(name) if slots is None else slots,
            "rate": row.get("rate"),
            "paused": bool(row.get("paused")),
            "used": len(taken),
            "busy": [r["id"] for r in busy if r["state"] != "assigned"],
            "queued": queued + sum(r["state"] == "assigned" for r in busy),
        }

    def ahead(self, row: Row) -> int:
        """Give how many jobs of its queue are handed out before a queued one."""
        whose = {"queue": row["queue"], "priority": row["priority"], "job": row["id"], "assigned": row["assigned"]}
        rows = [*self._rows("ahead", **whose), *self._rows("assigned_ahead", **whose)]
        return sum(int(next(iter(row.values()))) for row in rows)

    def counts(self) -> dict[str, int]:
        """Give how many jobs have not ended, by state."""
        counted: dict[str, int] = {}
        for row in self._rows("counts"):
            state = public_state(row["state"])
            counted[state] = counted.get(state, 0) + row["n"]
        return counted

    def bad_since(self, instant: int) -> int:
        """Give how many failed or were lost since an instant (µs UTC)."""
        rows = self._rows("bad_since", since=instant)
        return int(next(iter(rows[0].values()))) if rows else 0

    def events(
        self,
        filter: Filter | None = None,  # noqa: A002 - the documents' word
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = PAGE,
    ) -> list[Row]:
        """Give a page of the timeline, oldest first.

        With ``after`` (an event's id) those that follow it; else the newest ones,
        or the newest before ``before``.
        """
        chosen = filter or Filter()
        bind = {**chosen.parameters(), "since": None, "since_event": chosen.since, "limit": limit}
        bind["about"] = int(chosen.about_jobs)
        if after is not None:
            return self._events("events_on", {**bind, "after": after})[:limit]
        return self._events("events_back", {**bind, "before": _LAST if before is None else before})[-limit:]

    def _events(self, name: str, bind: Row) -> list[Row]:
        """Give the events of a page, the oldest first; one may be about jobs with rows and about others."""
        if not bind["about"]:
            return sorted(self._store.rows(self.statement(name), bind), key=lambda row: row["id"])
        found = {row["id"]: row for row in self._filtered(name, bind)}
        return [found[event] for event in sorted(found)]

    def job_events(self, job: int, after: int = 0, limit: int = PAGE) -> list[Row]:
        """Give a page of one job's events after an event's id, oldest first."""
        return self._rows("events_job", job=job, after=after, limit=limit)

    def newest_event(self) -> int:
        """Give the id of the last event, 0 if there is none."""
        rows = self._rows("newest_event")
        return int(next(iter(rows[0].values())) or 0) if rows else 0

    # --- queries --------------------------------------------------------------

    def statement(self, name: str) -> str:
        """Give the SQL of a named query, its filter put in."""
        return self._sql[name].replace("{filter}", f"({self._sql['filter']})")

    def _rows(self, name: str, /, **bind: Any) -> list[Row]:
        return self._jobs.rows(self._sql[name], bind)

    def _rows_alone(self, name: str, /, **bind: Any) -> list[Row]:
        """Give what only jobs with rows of their own have: whoever depends is unfolded, and whoever is needed."""
        return self._store.rows(self._sql[name], bind)

    def _filtered(self, name: str, bind: Row) -> list[Row]:
        return self._jobs.rows(self.statement(name), bind)

    def _lengths(self, name: str, /, **bind: Any) -> list[tuple[int, int, int]]:
        return [(row["at"], row["out"], row["err"]) for row in self._samples.rows(self._sql[name], bind)]


def _public(rows: list[Row]) -> list[Row]:
    for row in rows:
        row["state"] = None if row["state"] is None else public_state(row["state"])
    return rows


def _is_id(word: str) -> bool:
    # SQLite's integers end at 2**63 - 1; a longer row of digits is no id.
    return word.isascii() and word.isdigit()


def _no_job(word: str) -> NotFound:
    return NotFound(f"there is no job {word}", "vigie jobs --all shows those that exist")


def _every(chosen: Filter) -> Filter:
    """Give the same filter, not limited to jobs started by hand: the words said which."""
    return Filter(**{key: getattr(chosen, key) for key in Filter.__slots__} | {"every": True})


def _from_stdin(stdin: Any) -> list[str]:
    import sys

    words: list[str] = (sys.stdin if stdin is None else stdin).read().split()
    for word in words:
        if not _is_id(word):
            raise NotFound(f"- reads ids from stdin, and {word[:40]!r} is none", "vigie jobs --json | jq '.[].id'")
    return words
