"""From what somebody wants run to a ``submit`` request: for the command line and the library.

WHAT becomes a task (a command or a function), options become fields of task and
job, and the caller's surroundings become the context. Nothing is touched until
:meth:`Submission.send`, so that a dry run and a refusal leave no trace. No command
is looked up here: whether it can be run is known when it is, and is the job's
own outcome.
"""

from __future__ import annotations

import os
import time

from vigie import environment as surroundings
from vigie.errors import Conflict, NotFound, Refused, StoreError, UsageError
from vigie.model import DEFAULT_QUEUE, TASK_DEFAULTS
from vigie.rid import new as new_rid
from vigie.values import format_duration, parse_duration, parse_size, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta
    from typing import Any

    from vigie.client import Client
    from vigie.config import Home

__all__ = ["Options", "Submission", "check_name", "command", "function", "quoted", "shell", "what"]

#: Characters of the line typed that are kept to name a job by.
_LABEL = 500
_CHUNK = 1 << 20


class Options:
    """The options of one submission, as a person or a program gave them.

    Durations are text (``5m``) or seconds, sizes text or bytes; ``None`` means that
    the option was not given. Nothing is checked before a submission is built.

    >>> Options(name="copy", timeout="1h").timeout
    '1h'
    """

    name: str | None = None
    cwd: str | None = None
    env: Iterable[str] | Mapping[str, str] = ()
    env_file: Sequence[str] = ()
    env_none: bool = False
    #: The environment to begin with; default this process's.
    surroundings: Mapping[str, str] | None = None
    python: str | None = None
    #: A path, ``-`` for this process's standard input, or the bytes themselves.
    stdin: str | bytes | None = None
    fresh: bool = False
    timeout: str | float | timedelta | None = None
    retries: str | int | None = None
    backoff: str | float | timedelta | None = None
    grace: str | float | timedelta | None = None
    max_output: str | int | None = None
    on_lost: str | None = None
    priority: str | int | None = None
    queue: str | None = None
    now: bool = False
    tags: Sequence[str] = ()
    #: ``KEY=N`` items, or a mapping from key to how many at most.
    concurrency: Iterable[str] | Mapping[str, int] = ()
    #: Ids of jobs that must have completed, and of jobs that must have ended.
    after: Sequence[int] = ()
    after_any: Sequence[int] = ()
    delay: str | float | timedelta | None = None
    at: str | None = None
    key: str | None = None

    def __init__(self, **given: Any) -> None:
        for key, value in given.items():
            if key.startswith("_") or not hasattr(type(self), key):
                raise UsageError(f"there is no option {key}", "see: vigie start -h")
            if value is not None:
                setattr(self, key, value)
        #: Which of them were given; None is as if it were not.
        self.given: frozenset[str] = frozenset(key for key, value in given.items() if value is not None)
        self._fields: tuple[dict[str, Any], dict[str, Any]] | None = None

    def fields(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give the fields of task and job that they make; nobody may change them.

        Raises
        ------
        UsageError
            When one makes no sense.
        """
        if not self.given:
            return _NO_FIELDS
        if self._fields is None or not self.given.isdisjoint(_MOMENTS):
            self._fields = _task_fields(self), _job_fields(self)
        return self._fields


#: What options give when there are none, and those that mean another instant each time.
_NO_FIELDS: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
_MOMENTS = frozenset({"at", "delay"})


class Submission:
    """A request ready to be sent: ``task``, ``context`` and ``job`` as the protocol has them.

    ``blobs`` are the code of a pickled function, if any, and then the arguments of the
    jobs; ``fields`` is what the request says of them: how each is encoded, say.
    """

    def __init__(
        self,
        task: dict[str, Any],
        options: Options,
        *,
        cwd: str | None = None,
        blobs: Sequence[bytes] = (),
        path: Sequence[str] = (),
        count: int = 1,
        fields: Mapping[str, Any] | None = None,
        context: dict[str, Any] | None = None,
    ) -> None:
        self.python: str | None = task.pop("python", None)
        of_task, of_job = options.fields()
        self.task = {**task, **of_task} if of_task else task
        self.job = dict(of_job)
        self.context = self._context(options, cwd, path) if context is None else context
        self.blobs = list(blobs)
        self.count = count
        self.fields = dict(fields or {})
        self.stdin = options.stdin

    def _context(self, options: Options, cwd: str | None, path: Sequence[str]) -> dict[str, Any]:
        where = surroundings.directory(options.cwd) if cwd is None else cwd
        env = surroundings.environment(
            none=options.env_none,
            files=options.env_file,
            given=options.env,
            cwd=None if options.cwd is None else where,
            caller=options.surroundings,
        )
        umask = surroundings.current_umask()
        return {"cwd": where, "env": env, "umask": umask, "python": self.python, "path": list(path)}

    def send(self, client: Client, *, tell: bool = False) -> dict[str, Any]:
        """Submit it and give the answer: ``ids, existing``, and with ``tell`` ``states, waits``.

        Standard input is copied whole and on disk before the request is made, so
        that an acknowledged job has its input whatever becomes of the caller.

        Raises
        ------
        UsageError
            When standard input cannot be read.
        VigieError
            What the client raises; nothing was submitted then.
        """
        fields: dict[str, Any] = {"task": self.task, "context": self.context, **self.fields}
        if self.job:
            fields["job"] = self.job
        if self.count != 1:
            fields["count"] = self.count
        if tell:
            fields["tell"] = True
        if self.stdin is None:
            return self._send(client, fields)
        rid = new_rid()
        copy = os.path.join(client.home.tmp, f"{rid}.in")
        _keep(self.stdin, client.home, copy)
        fields["job"] = self.job
        self.job["stdin"] = os.path.basename(copy)
        try:
            answer, _ = client.call_with_blobs("submit", self.blobs, rid=rid, **fields)
        except (Conflict, NotFound, Refused, StoreError, UsageError):
            # Surely not submitted; after a lost connection nobody knows, and the agent clears up.
            _discard(copy)
            raise
        if answer.get("existing"):
            _discard(copy)
        return answer

    def _send(self, client: Client, fields: dict[str, Any]) -> dict[str, Any]:
        """Submit it; what the agent has a name for goes by its name."""
        names, blobs, short = client.names, self.blobs, dict(fields)
        code = blobs[0] if self.task.get("code") else None
        context, task = names.context(self.context), names.task(self.task, code)
        if context is not None:
            short["context"] = context
        if task is not None:
            short["task"] = task
            blobs = blobs if code is None else blobs[1:]
        if context is None or (task is None and self.task["kind"] == "function"):
            short["learn"] = True
        answer, _ = client.call_with_blobs("submit", blobs, **short)
        if answer.get("again"):
            names.forget()
            answer, _ = client.call_with_blobs("submit", self.blobs, **fields, learn=True)
        names.learn(self.context, self.task, code, answer)
        return answer

    def describe(self) -> dict[str, Any]:
        """Give all of it for a person to look at, secrets redacted; durations in seconds."""
        options = {**{key: TASK_DEFAULTS[key] for key in TASK_DEFAULTS}, **self.task}
        shown: dict[str, Any] = {
            "kind": self.task["kind"],
            "argv": self.task.get("argv"),
            "function": self.task.get("function"),
            "args": [blob.decode("utf-8", "replace") for blob in self.blobs]
            if self.task["kind"] == "function"
            else None,
            "cwd": self.context["cwd"],
            "python": self.python,
            "path": self.context["path"],
            "umask": f"{self.context['umask']:03o}",
            "stdin": self.stdin if isinstance(self.stdin, str) else None,
            "name": self.job.get("name"),
            "queue": self.job.get("queue", DEFAULT_QUEUE),
            "priority": self.job.get("priority", 0),
            "now": self.job.get("now", False),
            "tags": self.job.get("tags", []),
            "after": self.job.get("after", []),
            "after_any": self.job.get("after_any", []),
            "due": self.job.get("due"),
            "key": self.job.get("key"),
            "concurrency": dict(self.job.get("concurrency", [])),
        }
        for name in TASK_DEFAULTS:
            value = options[name]
            is_duration = name in ("timeout", "backoff", "backoff_max", "grace")
            shown[name] = value / 1e6 if is_duration and isinstance(value, int) else value
        shown["env"] = surroundings.redacted(self.context["env"])
        return shown


# --- what to run ------------------------------------------------------------------


def what(
    words: Sequence[str],
    options: Options,
    *,
    literal: bool = False,
    line: str | None = None,
    function_name: str | None = None,
    arguments: str | None = None,
) -> Submission:
    """Build the submission that the words of a command line mean.

    Parameters
    ----------
    words:
        What stands behind the options.
    options:
        The options.
    literal:
        ``--`` stood before the words: always a command.
    line:
        The line of ``--shell``.
    function_name, arguments:
        Of ``-f module:function --args JSON``.

    Raises
    ------
    UsageError
        When nothing, or two things at once, are to be run; or an option is wrong.
    """
    if arguments is not None and function_name is None:
        raise UsageError("--args goes with -f", "vigie start -f module:function --args '[1, 2]'")
    if line is not None and function_name is not None:
        raise UsageError("--shell and -f are two things to run", "give one of them")
    if line is not None:
        if words:
            raise UsageError(f"--shell takes one line; {words[0]!r} is too much", "quote the whole line")
        return shell(line, options)
    if function_name is not None:
        if words:
            raise UsageError(f"-f takes its arguments by --args; {words[0]!r} is too much", "--args '[1, 2]'")
        return function(function_name, options, arguments)
    if not words:
        raise UsageError("nothing to run", "give a command, a script, -f MODULE:FUNCTION or --shell LINE")
    # Declared tasks were looked for before, by who knows of files that declare some (cli/declared.py).
    script = None if literal else _script(words, options)
    return script or command(words, options)


def command(argv: Sequence[str | bytes | os.PathLike[str]], options: Options, **more: Any) -> Submission:
    """Build the submission of a command, as it stands and through no shell.

    >>> command(["echo", "a b"], Options()).task["label"]
    "echo 'a b'"
    """
    words = [os.fsdecode(word) for word in argv]
    if not words or not words[0]:
        raise UsageError("a command needs at least its name", "vigie start -- CMD ARG…")
    if any("\0" in word for word in words):
        raise UsageError("an argument holds a NUL byte, which no program can be given", "pass it by --stdin")
    label = more.pop("label", None) or " ".join(map(quoted, words))
    task = {"kind": "command", "argv": words, "label": _label(label), "python": more.pop("python", None)}
    return Submission(task, options, **more)


def shell(line: str, options: Options) -> Submission:
    """Build the submission of a line for /bin/sh."""
    if not line.strip():
        raise UsageError("--shell: the line is empty", "vigie start --shell 'a | b'")
    return command(["/bin/sh", "-c", line], options, label=line)


def function(name: str, options: Options, arguments: str | None = None) -> Submission:
    """Build the submission of a function given by its import path, with arguments as JSON.

    A JSON array holds positional arguments, an object keyword arguments. The function
    is looked for in the job's directory and in ``PYTHONPATH``.
    """
    module, colon, qualname = name.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *qualname.split(".")]):
        close = ":".join(name.rpartition(".")[::2]) if "." in name and not colon else "package.module:function"
        raise UsageError(f"-f: {name!r} is not module:function", f"write it as -f {close}")
    if module.endswith(".py"):
        raise UsageError(f"-f: {name!r} names a file, not a module", f"write it as -f {module[:-3]}:{qualname}")
    args, kwargs = _arguments(arguments)
    where = surroundings.directory(options.cwd)
    task = {
        "kind": "function",
        "function": name,
        "label": _label(_call(name, args, kwargs)),
        "python": surroundings.choose_python(options.python, where),
    }
    import json

    blob = json.dumps([args, kwargs], separators=(",", ":")).encode()
    path = surroundings.import_path(where, own=False)
    return Submission(task, options, cwd=where, blobs=[blob], path=path)


def _arguments(text: str | None) -> tuple[list[Any], dict[str, Any]]:
    if text is None:
        return [], {}
    import json

    try:
        value = json.loads(text)
    except RecursionError:
        raise UsageError("--args: the JSON is nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"--args: not JSON: {_position(text, error)}", """--args '["a", 1]' or '{"x": 1}'""") from None
    if isinstance(value, list):
        return value, {}
    if isinstance(value, dict):
        return [], value
    raise UsageError("--args: the JSON must be an array or an object", """--args '["a", 1]' or '{"x": 1}'""")


def _position(text: str, error: ValueError) -> str:
    """Show where JSON goes wrong."""
    at = getattr(error, "pos", None)
    said = getattr(error, "msg", str(error)).lower()
    if at is None:
        return said
    before, after = text[max(0, at - 20) : at], text[at : at + 20]
    return f"{said} at character {at + 1}: {before}▸{after}"


def _call(name: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    import json

    shown = [json.dumps(value, ensure_ascii=False) for value in args]
    shown += [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(shown)})"


def _label(text: str) -> str:
    """Give what a job is called by, as text that any store and any screen can hold."""
    return text[:_LABEL].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _script(words: Sequence[str], options: Options) -> Submission | None:
    """Build the submission of a script, if the first word is one by its extension and exists."""
    extension = os.path.splitext(words[0])[1].lower()
    if extension not in (".py", ".sh", ".ps1"):
        return None
    where = surroundings.directory(options.cwd)
    # As the job will see it; else as the caller does, who may have completed it by Tab.
    path = words[0] if os.path.isfile(os.path.join(where, words[0])) else os.path.abspath(words[0])
    full = os.path.join(where, path)
    if not os.path.isfile(full):
        return None
    label = " ".join(map(quoted, words))
    arguments = list(words[1:])
    if extension == ".py":
        python = surroundings.choose_python(options.python, where)
        return command([python, path, *arguments], options, cwd=where, label=label, python=python)
    if extension == ".ps1":
        return command(["pwsh", "-File", path, *arguments], options, cwd=where, label=label)
    if os.access(full, os.X_OK) and _has_shebang(full):
        run = [path if "/" in path else f"./{path}"]
    else:
        run = ["/bin/sh", path if not path.startswith("-") else f"./{path}"]
    return command([*run, *arguments], options, cwd=where, label=label)


def _has_shebang(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def quoted(word: str) -> str:
    """Quote a word for a shell, if it needs that.

    >>> quoted("a-b/c.d"), quoted("it's")
    ('a-b/c.d', '\\'it\\'"\\'"\\'s\\'')
    """
    if word and word.isascii() and all(c.isalnum() or c in "@%+=:,./-_" for c in word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


# --- options ------------------------------------------------------------------------


def _task_fields(options: Options) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in ("timeout", "backoff", "grace"):
        value = getattr(options, name)
        if value is not None:
            fields[name] = parse_duration(value, f"--{name}")
    if fields.get("timeout") == 0:
        raise UsageError("--timeout: 0 would end it before it began", "leave it out for no limit")
    if fields.get("backoff", 0) > _number(TASK_DEFAULTS["backoff_max"]):
        fields["backoff_max"] = fields["backoff"]
    if options.retries is not None:
        fields["retries"] = _whole(options.retries, "--retries", least=0)
    if options.max_output is not None:
        fields["max_output"] = parse_size(options.max_output, "--max-output")
    if options.on_lost is not None:
        if options.on_lost not in ("fail", "rerun"):
            raise UsageError(f"--on-lost: {options.on_lost!r} is neither fail nor rerun")
        fields["on_lost"] = options.on_lost
    if options.fresh:
        fields["fresh"] = True
    return fields


def _job_fields(options: Options) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": None if options.name is None else check_name(options.name),
        "tags": list(dict.fromkeys(_word(tag, "--tag") for tag in options.tags)),
        "queue": options.queue,
        "priority": None if options.priority is None else _whole(options.priority, "--priority"),
        "after": list(options.after),
        "after_any": list(options.after_any),
        "due": _due(options),
        "delay": None if options.delay is None else parse_duration(options.delay, "--in"),
        "key": None if options.key is None else _word(options.key, "--key"),
        "concurrency": _concurrency(options.concurrency),
        "now": options.now,
    }
    return {key: value for key, value in fields.items() if value not in (None, [], False)}


def _due(options: Options) -> int | None:
    if options.delay is not None and options.at is not None:
        raise UsageError("--in and --at are two moments", "give one of them")
    now = time.time_ns() // 1000
    if options.delay is not None:
        return now + parse_duration(options.delay, "--in")
    return None if options.at is None else parse_time(options.at, now, option="--at")


def _concurrency(given: Iterable[str] | Mapping[str, int]) -> list[list[Any]]:
    items: Iterable[tuple[str, Any]]
    if hasattr(given, "items"):
        items = given.items()
    else:
        items = [(key, most) for key, _, most in (item.rpartition("=") for item in given)]
    found: dict[str, int] = {}
    for key, most in items:
        if not key:
            raise UsageError(f"--concurrency: {most!r} is not KEY=N", "--concurrency database=2")
        found[_word(key, "--concurrency")] = _whole(most, "--concurrency", least=1)
    return [[key, most] for key, most in found.items()]


def check_name(name: str, option: str = "--name") -> str:
    """Give a name back if a job can be called so.

    Raises
    ------
    UsageError
        When it is empty, all digits (an id), ``last``, or holds what cannot be typed.
    """
    _word(name, option)
    if name.isdigit() or name == "last":
        raise UsageError(f"{option}: {name!r} cannot be a name: digits are ids, and 'last' is the newest job")
    if name.startswith("-"):
        raise UsageError(f"{option}: {name!r} would be read as an option")
    return name


def _word(text: str, option: str) -> str:
    if not text or len(text) > 200 or not text.isprintable() or text != text.strip():
        raise UsageError(f"{option}: {text[:40]!r} must be 1 to 200 printable characters")
    return text


def _whole(value: str | int, option: str, least: int | None = None) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise UsageError(f"{option}: {value!r} is not a whole number") from None
    if least is not None and number < least:
        raise UsageError(f"{option}: {number} is less than {least}")
    if abs(number) >= 1 << 31:
        raise UsageError(f"{option}: {number} is too large")
    return number


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


# --- standard input ----------------------------------------------------------------


def _keep(source: str | bytes, home: Home, copy: str) -> None:
    """Write all of a job's input to ``copy``, to the disk itself."""
    home.create()
    into = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            if isinstance(source, bytes):
                _write(into, source)
            else:
                _copy(source, into)
            os.fsync(into)
        finally:
            os.close(into)
        directory = os.open(home.tmp, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except BaseException:
        _discard(copy)
        raise


def _copy(source: str, into: int) -> None:
    try:
        given = 0 if source == "-" else os.open(os.path.expanduser(source), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"--stdin: cannot read {source}: {error.strerror}") from None
    try:
        while True:
            try:
                data = os.read(given, _CHUNK)
            except OSError as error:
                raise UsageError(f"--stdin: cannot read {source}: {error.strerror}") from None
            if not data:
                return
            _write(into, data)
    finally:
        if given:
            os.close(given)


def _write(into: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(into, view) :]


def _discard(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def describe_due(due: int, now: int) -> str:
    """Say when a delayed job starts.

    >>> describe_due(90_000_000, 0)
    'in 1m30s'
    """
    return f"in {format_duration(due - now)}" if due > now else "now"
