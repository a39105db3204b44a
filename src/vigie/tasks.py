"""Functions as tasks: the decorator, ``start`` and ``start_many``."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, overload

from vigie import callables, environment, payload, submission
from vigie.errors import NotSerializable, UsageError
from vigie.handle import Job
from vigie.session import Session, session
from vigie.submission import Options, Submission

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vigie.parallel.course import Run
    from vigie.scheduling import Schedule

__all__ = ["Task", "start", "start_many", "start_map", "task"]

P = ParamSpec("P")
R = TypeVar("R")


#: Options that name jobs.
_WAITED = frozenset({"after", "after_any"})
#: Options that make a function's surroundings others than its caller's.
_AROUND = frozenset({"cwd", "env", "env_file", "env_none", "python", "surroundings"})
#: Calls whose arguments travel, and may be stored, as one.
_TOGETHER = 1_000


class Task(Generic[P, R]):
    """A function that can be called here, or started in the background.

    Made by :func:`task`. Calling it runs the function here and now.
    """

    def __init__(self, function: Callable[P, R], options: dict[str, Any]) -> None:
        self.__vigie_function__ = function
        self._options = options
        #: The same as they are submitted; what a job waits for is looked up each time.
        self._given = Options(**options) if _WAITED.isdisjoint(options) else None
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__vigie_function__(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        return Task(self.__vigie_function__.__get__(instance, owner), self._options)

    def __repr__(self) -> str:
        function = self.__vigie_function__
        return f"<task {getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', '?')}>"

    def options(self, **options: Any) -> Task[P, R]:
        """Give the same task with other options: ``checksum.options(timeout="1h").start(p)``.

        The options are those of :func:`start` for commands.
        """
        return Task(self.__vigie_function__, {**self._options, **options})

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Start it in the background; every argument is the function's.

        A :class:`~vigie.Job` among the arguments is a dependency, and is replaced by
        its result.

        Raises
        ------
        NotSerializable
            When the function or an argument cannot travel; the message says which.
        AgentUnreachable
            When the agent cannot be reached or started.
        """
        return start_function(self.__vigie_function__, [(args, kwargs)], self._given or self._options)[0]

    def map(self, items: Iterable[Any], /, **options: Any) -> Run:
        """Call it with each item, several at once, and give the results as they come.

        The options are those of :func:`vigie.map`; ``timeout`` and ``retries`` are the task's,
        unless given. See there for what is raised.
        """
        from vigie.parallel.map import map as map_items

        own = {name: self._options[name] for name in ("timeout", "retries") if self._options.get(name) is not None}
        return map_items(self.__vigie_function__, items, **{**own, **options})

    def schedule(
        self, when: Any, /, *, name: str | None = None, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None,
        **table: Any,
    ) -> Schedule:  # fmt: skip
        """Run it whenever a trigger comes: ``checksum.schedule("daily 22:00", args=("/srv/a.iso",))``.

        A schedule of that name is changed, so that a program may say this each time it starts.

        Parameters
        ----------
        when:
            A phrase, a cron line, a table or a list of these; or a value of :mod:`vigie.when`.
        name:
            Default the function's name.
        args, kwargs:
            What the function is given each time.
        table:
            ``timezone``, and policies as in ``vigie.toml``: ``overlap="queue_one"``, ``catch_up="none"``,
            ``jitter="5m"``, ``lateness``, ``blackout``, ``max_runs`` …

        Raises
        ------
        UsageError
            When a word makes no sense, or nothing ever comes.
        NotSerializable
            When the function or an argument cannot travel.
        Refused
            When a file declares a schedule of that name.
        """
        from vigie.declaration import JOB_KEYS
        from vigie.scheduling import add

        function = self.__vigie_function__
        options = {key: value for key, value in self._options.items() if value is not None}
        called = str(options.pop("name", None) or getattr(function, "__name__", "task"))
        words = {key: options.pop(key) for key in tuple(options) if key in JOB_KEYS}
        if options:
            raise UsageError(f"a schedule has no use for the task's {', '.join(sorted(options))}")

        def built(given: Options) -> Submission:
            return function_submission(function, [(tuple(args), dict(kwargs or {}))], given, session())

        return add(name or called, when, {**words, **table}, built)

    def start_many(self, calls: Iterable[Sequence[Any]]) -> list[Job]:
        """Start it once for each tuple of arguments, in one commit."""
        given = self._given or self._options
        return start_function(self.__vigie_function__, [(tuple(args), {}) for args in calls], given)


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(function: Any = None, /, **options: Any) -> Any:
    """Make a function a task, with options for its background runs.

    Parameters
    ----------
    options:
        Those of :func:`start` for commands: ``timeout="10m"``, ``retries=3`` …

    >>> @task(timeout="10m", retries=3)
    ... def double(n):
    ...     return 2 * n
    >>> double(4)
    8
    """
    Options(**options)  # wrong words are refused where they are written
    if function is None:
        return lambda fn: Task(fn, options)
    return Task(function, options)


def start(what: Any, /, *args: Any, **kwargs: Any) -> Job:
    """Start a function or a command in the background, and give a handle on the job.

    Parameters
    ----------
    what:
        A function: every further argument is the function's. Or a command, as a list of
        words: then the keywords are options, each optional: ``name, cwd, env, env_file,
        env_none, python, stdin, timeout, retries, backoff, grace, max_output, on_lost,
        priority, queue, now, tags, concurrency, after, after_any, delay, at, key``.
        Durations are seconds or text (``"1h30m"``), sizes bytes or text (``"10 GiB"``);
        ``after`` takes jobs or ids; ``stdin`` is a path, or bytes.

    Raises
    ------
    UsageError
        When an option makes no sense.
    NotSerializable
        When the function or an argument cannot travel.
    AgentUnreachable
        When the agent cannot be reached or started.

    Examples
    --------
    ``start(["rsync", "-a", "x", "y"], name="copy", timeout="1h")``, ``start(math.sqrt, 16)``
    """
    if callable(what):
        options = what._options if isinstance(what, Task) else {}
        return start_function(what, [(args, kwargs)], options)[0]
    if isinstance(what, str | bytes):
        raise UsageError(
            f"a command is a list of words, not {what!r}", f"vigie.start([{what!r}]) or ['/bin/sh', '-c', line]"
        )
    if args:
        raise UsageError("a command takes options only: its words are all in the list")
    here = session()
    made = submission.command(list(what), _options(kwargs))
    return Job(made.send(here.client)["ids"][0], here)


def start_many(function: Callable[..., Any], calls: Iterable[Sequence[Any]], /) -> list[Job]:
    """Start a function once for each tuple of arguments: one request, one commit.

    Parameters
    ----------
    function:
        A function, or a task with its options.
    calls:
        Tuples of positional arguments.

    Examples
    --------
    ``start_many(checksum, [(path,) for path in paths])``
    """
    options = function._options if isinstance(function, Task) else {}
    return start_function(function, [(tuple(args), {}) for args in calls], options)


def start_map(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    /,
    *,
    limit: int | None = None,
    on: str = "processes",
    timeout: float | str | None = None,
    retries: int | None = None,
    rate: str | float | None = None,
    errors: str = "raise",
    init: Callable[[], Any] | None = None,
    recycle: int | None = None,
    memory_limit: int | str | None = None,
    **options: Any,
) -> Job:
    """Run a function over many items in the background: one job, however many items there are.

    Its :attr:`~vigie.Job.progress` tells how far it is; :meth:`~vigie.Job.limit`, :meth:`~vigie.Job.drain`
    and :meth:`~vigie.Job.skip` steer it. Finished items are kept beside the job: a retry, after
    whatever ended it, computes the rest only. Its result is the list of values.

    Parameters
    ----------
    function, limit, on, timeout, retries, rate, init, recycle, memory_limit:
        As for :func:`vigie.map`: ``timeout`` and ``retries`` are of each item.
    items:
        They are all read, and sent with the job.
    errors:
        ``raise``: the job fails with the first item that does. ``skip``: its result leaves out what failed.
        ``collect``: its result is an :class:`~vigie.Outcome` of each.
    options:
        Of the job, as for commands in :func:`start`: ``name``, ``queue``, ``priority``, ``tags``, ``after`` …

    Raises
    ------
    UsageError
        When an option makes no sense.
    NotSerializable
        When the function or an item cannot travel.
    AgentUnreachable
        When the agent cannot be reached or started.

    Examples
    --------
    ``job = start_map(checksum, paths, limit=4, retries=2, name="checksums")``
    """
    from vigie.parallel.background import run
    from vigie.parallel.plan import Crew, Plan

    given: dict[str, Any] = {"timeout": timeout, "retries": retries, "rate": rate, "errors": errors}
    if isinstance(function, Task):
        own = dict(function._options)
        for name in ("timeout", "retries"):
            value = own.pop(name, None)
            given[name] = value if given[name] is None else given[name]
        options = {**own, **options}
    given = {name: value for name, value in given.items() if value is not None}
    crew: dict[str, Any] = {"limit": limit, "init": init, "recycle": recycle, "memory_limit": memory_limit}
    Crew(function, on, Plan(**given), **crew)  # wrong words are refused here
    everything = list(items)
    try:
        reference, code, label = callables.pack_function(function)
    except payload.PayloadError as error:
        raise NotSerializable(str(error)) from None
    call = (session().home.root, reference, code, everything, {**given, **crew, "on": on})
    return start_function(run, [(call, {})], options, label=f"map {label} over {len(everything):,} items")[0]


def _options(given: dict[str, Any]) -> Options:
    for name in ("after", "after_any"):
        value = given.get(name)
        if value is not None:
            several = [value] if isinstance(value, Job | int) else list(value)
            given = {**given, name: [job.id if isinstance(job, Job) else int(job) for job in several]}
    return Options(**given)


def start_function(
    function: Any, calls: list[tuple[tuple[Any, ...], dict[str, Any]]], given: dict[str, Any] | Options,
    label: str | None = None,
) -> list[Job]:  # fmt: skip
    if not calls:
        return []
    here = session()
    made = function_submission(function, calls, given if isinstance(given, Options) else _options(given), here, label)
    return [Job(job, here) for job in made.send(here.client)["ids"]]


def function_submission(
    function: Any, calls: list[tuple[tuple[Any, ...], dict[str, Any]]], options: Options, here: Session,
    label: str | None = None,
) -> Submission:  # fmt: skip
    """Give the submission of calls of a function."""
    try:
        reference, code, known_as = callables.dump_function(function, here.key)
        blobs, fields = _arguments(here, calls)
    except payload.PayloadError as error:
        raise NotSerializable(str(error)) from None
    task_fields = {"kind": "function", "function": reference or known_as, "code": code is not None}
    task_fields["label"] = label or known_as
    blobs = [code, *blobs] if code is not None else blobs
    if options.given.isdisjoint(_AROUND):
        python = _own_python()
        more: dict[str, Any] = {"context": environment.of_caller(python)}
    else:
        where = environment.directory(options.cwd)
        python = environment.choose_python(options.python, where) if options.python else _own_python()
        more = {"cwd": where, "path": environment.import_path(where)}
    task_fields["python"] = python
    return Submission(task_fields, options, blobs=blobs, count=len(calls), fields=fields, **more)


def _own_python() -> str:
    import sys

    return sys.executable or os.path.join(sys.prefix, "bin", "python3")


def _arguments(
    here: Session, calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
) -> tuple[list[bytes], dict[str, Any]]:
    """Encode the arguments of each call; give the blobs, and what the request says of them."""
    if not any(kwargs for _, kwargs in calls):
        chunks = (calls[at : at + _TOGETHER] for at in range(0, len(calls), _TOGETHER))
        together = [payload.dump_calls([args for args, _ in chunk]) for chunk in chunks]
        if None not in together:
            whole = [chunk for chunk in together if chunk is not None]
            # What is left of one without its array is its arguments alone.
            return (whole, {"together": True}) if len(calls) > 1 else ([whole[0][1:-1]], {})
    encodings: list[str] = []
    blobs: list[bytes] = []
    deps: dict[str, Any] = {}
    for index, (args, kwargs) in enumerate(calls):
        clean, named, found = payload.extract_dependencies(args, kwargs, lambda value: isinstance(value, Job))
        if found:
            deps[str(index)] = [[path, job] for path, job in found]
        encoding, blob = payload.dump_arguments(clean, named, here.key)
        encodings.append(encoding)
        blobs.append(blob)
    return blobs, {"encodings": encodings, **({"deps": deps} if deps else {})}
