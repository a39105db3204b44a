"""A job in Python: what ``start`` gives back, and ``get`` finds again.

A handle holds nothing but the id; everything it tells is read when it is asked. The
waiting forms are written once: :meth:`Job.wait` asks the agent, callbacks and
``await`` share one watcher for all jobs of the process.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from vigie.errors import JobFailed, JobLost, JobStopped, NotFound, Refused, UsageError, WaitTimeout
from vigie.model import FINISHED, JOB_STATES, STREAMS
from vigie.session import Session, session
from vigie.values import parse_duration

if TYPE_CHECKING:
    from datetime import timedelta

    from vigie.output import Record

__all__ = ["Job", "RemoteError", "get", "jobs"]

_ABSENT = object()
#: A result is asked for as such.
_SAID = tuple(stream for stream in STREAMS if stream != "result")


class RemoteError(Exception):
    """An exception of a job that could not travel; its text is the remote traceback."""


class Job:
    """A handle on one job.

    Parameters
    ----------
    id:
        The number that the store gave it.

    >>> Job(12).id
    12
    """

    __slots__ = ("_session", "id")

    def __init__(self, id: int, _session: Session | None = None) -> None:  # noqa: A002 - the word of DESIGN
        self.id = id
        self._session = _session or session()

    # --- what it is -----------------------------------------------------------

    def __repr__(self) -> str:
        try:
            row = self._session.reader.get(self.id)
        except NotFound:
            return f"<job {self.id}: removed>"
        from vigie import view

        how = row["state"] + (f" ({row['reason']})" if row["reason"] else "")
        return f"<job {view.what(row)}: {how} · {view.label(row)}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Job):
            return NotImplemented
        return self.id == other.id and self._session.home.root == other._session.home.root

    def __hash__(self) -> int:
        return hash((self.id, self._session.home.root))

    def __reduce__(self) -> tuple[Any, ...]:
        return Job, (self.id,)

    def _repr_html_(self) -> str:
        from html import escape

        info = self.info()
        shown = ("state", "reason", "exit_code", "duration", "created", "started", "finished")
        cells = "".join(
            f"<tr><th>{name}</th><td>{escape(str(info[name]))}</td></tr>" for name in shown if info[name] is not None
        )
        return f"<table><caption>{escape(repr(self))}</caption>{cells}</table>"

    def info(self) -> dict[str, Any]:
        """Give everything known of it: the form of ``vigie show --json``.

        Raises
        ------
        NotFound
            When it was removed.
        """
        from vigie import view

        made: dict[str, Any] = view.job(self._session.reader.get(self.id), time.time_ns() // 1000)
        made["progress"] = self.progress
        return made

    @property
    def state(self) -> str:
        """One of ``queued blocked running suspended completed failed stopped lost``."""
        state: str = self._session.reader.get(self.id)["state"]
        return state

    @property
    def name(self) -> str | None:
        """The name given at the start."""
        name: str | None = self._session.reader.get(self.id)["name"]
        return name

    @property
    def reason(self) -> str | None:
        """Why it failed: ``exit signal timeout exception spawn oom dependency``."""
        reason: str | None = self._session.reader.get(self.id)["reason"]
        return reason

    @property
    def exit_code(self) -> int | None:
        """The exit code of a command that ended by itself."""
        code: int | None = self._session.reader.get(self.id)["exit_code"]
        return code

    @property
    def progress(self) -> dict[str, Any] | None:
        """How far it is, if it says so.

        Of a parallel run ``{total, done, earlier, failed, running, limit, rate, left, problems, drained}``:
        ``earlier`` is what attempts before this one have done, ``rate`` items a second, ``left`` seconds.
        """
        from vigie import boards

        return boards.read_board(self._session.home.job_dir(self.id))

    def done(self) -> bool:
        """Tell whether it has ended, however."""
        return self.state in FINISHED

    # --- waiting --------------------------------------------------------------

    def wait(self, timeout: str | float | timedelta | None = None) -> Job:
        """Wait until it has ended, however; give the job itself.

        Parameters
        ----------
        timeout:
            Seconds, or text such as ``"5m"``.

        Raises
        ------
        WaitTimeout
            When it had not ended by then; it goes on.
        """
        self._outcome(timeout, results=False)
        return self

    def result(self, timeout: str | float | timedelta | None = None) -> Any:
        """Wait, and give what the function returned (of a command: its exit code, 0).

        Raises
        ------
        JobFailed
            When it failed; the remote exception, if there is one, is the cause.
        JobStopped, JobLost
            When it was stopped, or nobody can know how it ended.
        WaitTimeout
            When it had not ended by then.
        """
        answer, blobs = self._outcome(timeout, results=True)
        outcome = answer["outcome"]
        blob = None if outcome.get("blob") is None else blobs[outcome["blob"]]
        if outcome["state"] != "completed":
            raise self._failure(outcome, blob)
        return self._value(outcome, blob)

    def exception(self, timeout: str | float | timedelta | None = None) -> JobFailed | None:
        """Wait, and give the error that :meth:`result` would raise, or None."""
        try:
            self.result(timeout)
        except JobFailed as error:
            return error
        return None

    def _outcome(self, timeout: str | float | timedelta | None, *, results: bool) -> tuple[dict[str, Any], list[bytes]]:
        micros = None if timeout is None else parse_duration(timeout, "timeout")
        answer, blobs = self._session.client.wait([self.id], timeout=micros, results=results)
        if not answer["done"]:
            raise WaitTimeout(f"job {self.id} has not ended in {timeout} s", f"vigie why {self.id}")
        return answer, blobs

    def _value(self, outcome: dict[str, Any], blob: bytes | None) -> Any:
        encoding = outcome["encoding"]
        if encoding is None:
            return outcome["exit_code"]
        from vigie import payload, workfiles

        if encoding == "file":
            encoding, blob = workfiles.read_result(self._session.home.job_file(self.id, "result", outcome["attempt"]))
        key = self._session.key if encoding == "pickle" else None
        return payload.loads(encoding, blob if blob is not None else b"null", key)

    def _failure(self, outcome: dict[str, Any], blob: bytes | None) -> JobFailed:
        kinds = {"stopped": JobStopped, "lost": JobLost}
        kind = kinds.get(outcome["state"], JobFailed)
        said = outcome["message"] or _end_in_words(outcome)
        error = kind(
            f"job {self.id} {'was ' if kind is not JobFailed else ''}{outcome['state']}: {said}",
            f"vigie why {self.id}",
            job=self.id,
            reason=outcome["reason"],
            exit_code=outcome["exit_code"],
            signal=outcome["signal"],
        )
        remote = outcome.get("error")
        if remote and remote.get("traceback"):
            error.__cause__ = self._remote(remote, blob)
        return error

    def _remote(self, remote: dict[str, Any], blob: bytes | None) -> BaseException:
        if blob is not None:
            from vigie import payload

            try:
                made = payload.load_exception(blob, self._session.key)
            except payload.PayloadError:
                made = RemoteError(remote["traceback"])
            else:
                made.add_note("in the job:\n" + remote["traceback"])
            return made
        return RemoteError("\n" + remote["traceback"])

    def add_done_callback(self, call: Callable[[Job], object]) -> None:
        """Have ``call(job)`` run when it has ended, in a thread of the library's."""
        _watcher(self._session).add(self, call)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._await().__await__()

    async def _await(self) -> Any:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            if not ended.done():
                ended.set_result(None)

        def tell(job: Job) -> None:
            loop.call_soon_threadsafe(end)

        self.add_done_callback(tell)
        await ended
        return await asyncio.to_thread(self.result)

    # --- output ---------------------------------------------------------------

    def logs(self, *, streams: Iterable[str] | None = None) -> list[Record]:
        """Give all records so far: a command's lines, what a function said and yielded.

        What it returned is a record too if ``streams`` names ``result``.
        """
        from vigie import output

        chosen = _SAID if streams is None else streams
        return list(output.iter_records(self._session.reader, self._session.home, self.id, streams=chosen))

    def receive(
        self, *, keep: bool = False, wait: bool = False, reader: str = "default", streams: Iterable[str] | None = None
    ) -> list[Any]:
        """Give the values that are new since this reader's last time.

        Parameters
        ----------
        keep:
            Leave the position where it is.
        wait:
            Wait for the end first.
        reader:
            Whose position; each name has its own.
        streams:
            Only these; default: output and error.

        Raises
        ------
        Conflict
            When another process moved the position meanwhile; nothing was lost, and
            what came may come again.
        """
        from vigie import output

        if wait:
            self.wait()
        source = self._session.reader
        if streams is not None:
            # What a choice of streams leaves out must not count as seen by the whole.
            streams = sorted(streams)
            reader = f"{reader}/{','.join(streams)}"
        found = source.cursor(self.id, reader)
        old = None if found is None else found[0]
        chosen = tuple(streams) if streams is not None else ("output", "error")
        cutter = output.Cutter(self.id, self._session.home.secret)
        with output.Output(source, self._session.home, self.id, position=old, streams=chosen) as out:
            values = [record.value for piece in out.pump() for record in cutter.feed(piece)]
            values += [record.value for record in cutter.rest()]
            new = out.position
        if not keep and new != old:
            self._session.client.call("cursor", job=self.id, reader=reader, old=old, new=new)
        return values

    def __iter__(self) -> Iterator[Record]:
        """Give the records as they come, until it has ended; what a function returns is no part of it."""
        from vigie import output

        reader, home = self._session.reader, self._session.home
        return output.iter_records(reader, home, self.id, streams=_SAID, follow=True)

    async def __aiter__(self) -> AsyncIterator[Record]:
        """Give the records as they come, without holding up the event loop."""
        queue: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def pump() -> None:
            # The SQLite connection must stay in one thread from open to close.
            try:
                for record in Job(self.id, self._session):
                    loop.call_soon_threadsafe(queue.put_nowait, record)
                loop.call_soon_threadsafe(queue.put_nowait, _ABSENT)
            except BaseException as error:
                loop.call_soon_threadsafe(queue.put_nowait, error)

        threading.Thread(target=pump, name=f"vigie-records-{self.id}", daemon=True).start()
        while (item := await queue.get()) is not _ABSENT:
            if isinstance(item, BaseException):
                raise item
            yield item

    # --- control --------------------------------------------------------------

    def stop(self, grace: str | float | timedelta | None = None) -> Job:
        """End its whole process tree: SIGTERM, the grace, SIGKILL; returns when it is gone.

        Raises
        ------
        Refused
            When something of the tree is left; the message names the processes.
        """
        micros = None if grace is None else parse_duration(grace, "grace")
        answer = self._session.client.call("stop", ids=[self.id], grace=micros)
        left = answer["jobs"][0]["left"]
        if left:
            raise Refused(f"of job {self.id} these processes are left: {', '.join(map(str, left))}")
        return self

    def suspend(self) -> Job:
        """Freeze its whole process tree."""
        return self._ask("suspend")

    def resume(self) -> Job:
        """Let its process tree go on."""
        return self._ask("resume")

    def retry(self, *, item: int | None = None) -> Job:
        """Run it once more, after it failed, was stopped or was lost; or a failed ``item`` of a run that goes on."""
        return self._ask("retry") if item is None else self._steer(retry=item)

    def _ask(self, op: str) -> Job:
        answer = self._session.client.call(op, ids=[self.id])["jobs"][0]
        if answer["note"]:
            raise Refused(answer["note"], f"vigie why {self.id}")
        return self

    def limit(self, count: int) -> Job:
        """Have so many items of a parallel run computed at once from now on.

        Raises
        ------
        Refused
            When it is no parallel run, or has ended.
        """
        return self._steer(limit=count)

    def drain(self) -> Job:
        """Have a parallel run begin no item more, and end; :meth:`retry` does the rest. Raises as :meth:`limit`."""
        return self._steer(drain=True)

    def skip(self, *items: int) -> Job:
        """Have items of a parallel run not computed; those that run are stopped. Raises as :meth:`limit`."""
        for index in items:
            self._steer(skip=index)
        return self

    def _steer(self, **order: Any) -> Job:
        self._session.client.call("steer", job=self.id, order=order)
        return self

    def remove(self, *, force: bool = False) -> None:
        """Remove it with all that it left; ``force`` also if it still waits.

        Raises
        ------
        Refused
            When it runs.
        """
        answer = self._session.client.remove([self.id], force=force)
        if answer["refused"]:
            raise Refused(answer["refused"][0]["why"])


def _end_in_words(outcome: dict[str, Any]) -> str:
    if outcome["signal"] is not None:
        return f"signal {outcome['signal']}"
    if outcome["reason"] == "timeout":
        return "its timeout passed"
    if outcome["exit_code"] is not None:
        return f"exit code {outcome['exit_code']}"
    return outcome["reason"] or "by request"


# --- finding ------------------------------------------------------------------


def get(job: int | str) -> Job:
    """Give a handle on a job by id or name (its newest).

    Raises
    ------
    NotFound
        When there is none.
    """
    here = session()
    return Job(here.reader.resolve([str(job)])[0], here)


def jobs(
    *,
    state: str | Iterable[str] = (),
    name: str | None = None,
    tag: str | None = None,
    queue: str | None = None,
    limit: int | None = None,
) -> list[Job]:
    """Give handles on jobs, newest first.

    Parameters
    ----------
    state:
        One or several states.
    name:
        A name or a pattern such as ``"copy-*"``.
    tag, queue:
        Only with this tag, in this queue.
    limit:
        At most so many.
    """
    from vigie.selection import Filter

    here = session()
    states = (state,) if isinstance(state, str) and state else tuple(state)
    for one in states:
        if one not in JOB_STATES:
            raise UsageError(f"{one!r} is no state of a job", f"there are {', '.join(JOB_STATES)}")
    chosen = Filter(states=states, name=name, tags=() if tag is None else (tag,), queue=queue)
    return [Job(row["id"], here) for row in here.reader.each(chosen, limit)]


# --- callbacks ----------------------------------------------------------------


class _Watcher:
    """Waits for many jobs at once, and calls back.

    Jobs that come within a moment of each other are one group with one thread and one
    request; a job that comes while a group waits begins the next group.
    """

    GATHER = 0.003

    def __init__(self, here: Session) -> None:
        self._session = here
        self._lock = threading.Lock()
        self._fresh: dict[int, list[tuple[Job, Callable[[Job], object]]]] = {}
        self._gathering = False

    def add(self, job: Job, call: Callable[[Job], object]) -> None:
        with self._lock:
            self._fresh.setdefault(job.id, []).append((job, call))
            if self._gathering:
                return
            self._gathering = True
        threading.Thread(target=self._run, name="vigie-watcher", daemon=True).start()

    def _run(self) -> None:
        time.sleep(self.GATHER)
        with self._lock:
            group, self._fresh = self._fresh, {}
            self._gathering = False
        while group:
            answer, _ = self._session.client.wait(group, any=True)
            for job in set(group) - set(answer["pending"]):
                for handle, call in group.pop(job):
                    _call(call, handle)


def _call(call: Callable[[Job], object], job: Job) -> None:
    try:
        call(job)
    except Exception:
        import logging

        logging.getLogger("vigie").exception("a callback of job %d failed", job.id)


_watchers: dict[int, _Watcher] = {}


def _watcher(here: Session) -> _Watcher:
    return _watchers.setdefault(id(here), _Watcher(here))
