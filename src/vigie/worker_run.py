"""Running one job: find the function, call it, make an outcome of whatever happens.

The worker loads this file by path.
"""

from __future__ import annotations

import json
import os
import resource
import time
import types

from . import callables, payload, workfiles
from .outcome import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .worker_context import Context, Interrupts, Surroundings
    from .worker_hooks import Hooks
    from .worker_streams import Sink

__all__ = ["Job", "Runner"]

#: A result larger than this is a file beside the job.
INLINE = 1 << 20
#: In less (ns) no child can have run, nor can much memory have been touched.
_QUICK = 200_000
#: Of an error's message and traceback, kept at most (characters).
_MESSAGE, _TRACEBACK = 1 << 16, 1 << 18
_PLAIN = frozenset((type(None), bool, int, float, str, bytes, list, tuple, dict, set))


class Job:
    """One job as the agent sent it.

    Parameters
    ----------
    given:
        ``{seq, job, attempt, task, context}``, and of one that comes alone ``encoding`` and ``deps``.
    first:
        It is the first one that came with its frame.
    """

    __slots__ = ("args", "attempt", "blobs", "both", "context", "deps", "encoding", "first", "job", "seq", "task")

    def __init__(self, given: dict[str, Any], first: bool, args: bytes = b"", blobs: Sequence[bytes] = ()) -> None:
        self.seq: int = given["seq"]
        self.job: int = given["job"]
        self.attempt: int = given.get("attempt", 1)
        self.task: int = given["task"]
        self.context: int = given["context"]
        self.encoding: str = given.get("encoding") or "json"
        self.deps: Sequence[Any] = given.get("deps") or ()
        self.args = args
        self.blobs = blobs if self.deps else ()
        self.first = first
        #: Arguments and keywords, if they are decoded already.
        self.both: Any = None

    @classmethod
    def lot(cls, given: dict[str, Any], together: bytes) -> list[Job]:
        """Give the jobs of a lot: those from ``given`` on, with their arguments in one JSON array."""
        found: list[Job] = []
        seq, job = given["seq"], given["job"]
        first = cls(given, True)
        for at, both in enumerate(payload.loads("json", together, None)):
            one = cls.__new__(cls)
            one.seq, one.job, one.both, one.first = seq + at, job + at, both, not at
            one.attempt, one.task, one.context = first.attempt, first.task, first.context
            one.encoding, one.deps, one.args, one.blobs = "json", (), b"", ()
            found.append(one)
        return found


class Task:
    """A function as the agent described it; found on first use."""

    __slots__ = ("code", "function", "reference")

    def __init__(self, reference: str | None, code: bytes | None) -> None:
        self.reference = reference
        self.code = code
        self.function: Any = None


class Runner:
    """Runs jobs one after the other in the main thread."""

    def __init__(self, home: str, sink: Sink, scene: Surroundings, hooks: Hooks, interrupts: Interrupts) -> None:
        self.home = home
        self.sink = sink
        self.tasks: dict[int, Task] = {}
        self.contexts: dict[int, Context] = {}
        self._scene = scene
        self._hooks = hooks
        self._interrupts = interrupts
        self._key: bytes | None = None
        self._pid = os.getpid()
        self._rss = 0
        self._cpu = self._since = self._below = 0
        self._peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self._peak_file: Any = None
        try:
            self._peak_file = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            pass  # then the peak of memory is that of the worker's whole life

    @property
    def key(self) -> bytes | None:
        """The signing key, read when first needed."""
        if self._key is None:
            self._key = payload.read_key(os.path.join(self.home, "secret"))
        return self._key

    def run(self, job: Job) -> Outcome:
        """Run a job; its context must not be looked at again before the next one."""
        how, code, encoding, error = "return", None, None, None
        result = pickled = None
        started = time.time_ns()
        begun = time.monotonic_ns()
        try:
            encoding, result = self._call(job)
        except BaseException as raised:
            if self.sink.in_child:
                self._end_child(raised)
            status = _exit_status(raised, self.sink)
            if status is None:
                how = "raise"
                error, pickled = self._describe(raised)
            elif status:
                how, code = "exit", status
            else:
                encoding, result = "json", b"null"
            # Its frames hold the job's values, large ones perhaps.
            raised.__traceback__ = None
        if self.sink.in_child:
            self._end_child(None)
        finished = time.monotonic_ns()
        self._hooks.restore()
        cpu, rss = self._usage(begun, finished)
        return Outcome(
            job.seq, job.job, job.attempt, started=started // 1000, finished=(started + finished - begun) // 1000,
            duration=(finished - begun) // 1000, cpu=cpu, rss=rss, at=finished, how=how, code=code, encoding=encoding,
            error=error, result=result, pickle=pickled,
        )  # fmt: skip

    # --- the call -------------------------------------------------------------

    def _call(self, job: Job) -> tuple[str, bytes | None]:
        interrupts = self._interrupts
        try:
            self._scene.enter(self.contexts[job.context], job.job, job.attempt)
            interrupts.allowed = True
            task = self.tasks[job.task]
            function = task.function or self._find(task)
            args, kwargs = self._arguments(job)
            value = function(*args, **kwargs)
            if type(value) not in _PLAIN:
                value = self._settle(value)
            encoding, data = payload.dumps(value, self.key, "the result")
        finally:
            interrupts.allowed = False
            self._scene.leave()
        if len(data) > INLINE:
            path = workfiles.job_file(self.home, job.job, "result", job.attempt)
            workfiles.write_result(path, encoding, data)
            return "file", None
        return encoding, data

    def _arguments(self, job: Job) -> tuple[list[Any], dict[str, Any]]:
        if job.both is not None:
            return job.both[0], job.both[1]
        both = payload.loads(job.encoding, job.args, self.key if job.encoding != "json" else None)
        for path, encoding, where in job.deps:
            data = job.blobs[where] if isinstance(where, int) else None
            kind, data = (encoding, data) if data is not None else workfiles.read_result(where)
            both = payload.insert(both, path, payload.loads(kind, data, self.key))
        return both[0], both[1]

    def _find(self, task: Task) -> Any:
        code = task.code
        found = (
            callables.import_function(task.reference or "") if code is None else payload.loads("pickle", code, self.key)
        )
        task.function = callables.unwrap(found)
        return task.function

    def _settle(self, value: Any) -> Any:
        """Run what a call has only prepared: a generator, a coroutine."""
        if isinstance(value, types.GeneratorType):
            while True:
                try:
                    item = next(value)
                except StopIteration as end:
                    return end.value
                self._yielded(item)
        if isinstance(value, types.CoroutineType):
            import asyncio

            return asyncio.run(value)
        if isinstance(value, types.AsyncGeneratorType):
            import asyncio

            return asyncio.run(self._drain(value))
        return value

    async def _drain(self, source: Any) -> None:
        async for item in source:
            self._yielded(item)

    def _yielded(self, item: Any) -> None:
        encoding, data = payload.dumps(item, self.key, "a yielded value")
        if encoding == "json":
            self.sink.record("output", json_data=data.decode())
        else:
            self.sink.record("output", pickled=data, shown=_shown(item))

    # --- when it goes wrong ---------------------------------------------------

    def _end_child(self, raised: BaseException | None) -> None:
        """End a forked child that came back from the function: there is one worker only."""
        status = 0
        if raised is not None:
            found = _exit_status(raised, self.sink)
            if found is None:
                self.sink.record("error", text=_traceback(raised))
            status = 1 if found is None else found
        self.sink.flush(everyone=True)
        os._exit(status)

    def _describe(self, raised: BaseException) -> tuple[str, bytes | None]:
        """Give the JSON of an error, and its signed pickle if it has one."""
        kind = type(raised)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        try:
            pickled = payload.dump_exception(raised, self.key)
        except Exception:  # a hostile __reduce__, or no memory left
            pickled = None
        if pickled is not None and len(pickled) > INLINE:
            pickled = None
        said = {
            "type": name,
            "message": _cut(_text(raised), _MESSAGE),
            "traceback": _cut(_traceback(raised), _TRACEBACK),
            "pickled": pickled is not None,
        }
        return json.dumps(said), pickled

    def start_clock(self) -> None:
        """Count processor time from here: what was used before is no job's."""
        self._cpu, self._since = time.process_time_ns(), time.monotonic_ns()

    def _usage(self, begun: int, finished: int) -> tuple[int, int]:
        """Give the processor time (µs) of a job and the peak of memory (bytes)."""
        took = finished - begun
        if took <= _QUICK:
            # To ask costs more than such a job; its only thread was at work all the time.
            return took // 1000, self._peak
        cpu = time.process_time_ns()
        # Since the clock was read last, what came before this job kept one thread busy.
        spent = max(0, cpu - self._cpu - max(0, begun - self._since))
        self._cpu, self._since = cpu, finished
        return (spent + self._look_closer()) // 1000, self._peak

    def _look_closer(self) -> int:
        """Give the processor time (ns) of children that have ended, and note the peak of memory."""
        below = resource.getrusage(resource.RUSAGE_CHILDREN)
        children = int((below.ru_utime + below.ru_stime) * 1e9)
        spent = children - self._below
        self._below = children
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if peak > self._rss:
            self._reset_peak()
        self._peak = peak * 1024
        return spent

    def _reset_peak(self) -> None:
        """Start anew where this job raised the peak, so that it is not the next one's."""
        if self._peak_file is not None:
            try:
                os.write(self._peak_file, b"5")
            except OSError:
                os.close(self._peak_file)
                self._peak_file = None
        self._rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _exit_status(raised: BaseException, sink: Sink) -> int | None:
    """Give the status that ``sys.exit`` asked for; None for any other exception."""
    if not isinstance(raised, SystemExit):
        return None
    code = raised.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sink.record("error", text=_text(code) + "\n")
    return 1


def _text(thing: object) -> str:
    try:
        return str(thing)
    except Exception as error:
        return f"<its text cannot be made: {type(error).__name__}>"


def _shown(value: object) -> str:
    try:
        return _cut(repr(value), 200)
    except Exception:
        return object.__repr__(value)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


_OWN = os.path.dirname(os.path.abspath(__file__))


def _is_own(filename: str) -> bool:
    folder, name = os.path.split(filename)
    return folder == _OWN and name.startswith(("worker", "payload", "callables", "workfiles"))


def _traceback(raised: BaseException) -> str:
    """Give the traceback as Python prints it, from the job's own code on."""
    import traceback

    try:
        seen: set[int] = set()
        error: BaseException | None = raised
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            trace = error.__traceback__
            while trace is not None and _is_own(trace.tb_frame.f_code.co_filename):
                trace = trace.tb_next
            error.__traceback__ = trace
            error = error.__cause__ or error.__context__
        return "".join(traceback.format_exception(type(raised), raised, raised.__traceback__))
    except Exception as failure:
        return f"{type(raised).__name__}: its traceback cannot be made: {type(failure).__name__}\n"
