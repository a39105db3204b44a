"""What surrounds a job: directory, environment, umask, interpreter, import path.

A job started by hand gets its caller's (see "Environment of a task" in the
reference). Everything here only looks; nothing is changed or run.
"""

from __future__ import annotations

import functools
import os
import sys

from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

__all__ = [
    "KEPT",
    "choose_python",
    "current_directory",
    "current_umask",
    "declared",
    "directory",
    "environment",
    "import_path",
    "is_secret",
    "of_caller",
    "redacted",
]

_SECRETS = ("SECRET", "TOKEN", "PASSW", "PASSPHRASE", "KEY", "CREDENTIAL", "PRIVATE", "COOKIE", "AUTHORIZATION", "DSN")
_REDACTED = "(redacted)"


def current_directory() -> str:
    """Give the caller's directory.

    Raises
    ------
    UsageError
        When it was deleted meanwhile.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UsageError("the current directory does not exist any more", "cd to one that does, or use --cwd") from None


def directory(given: str | None) -> str:
    """Give the absolute path of the directory of a job.

    Raises
    ------
    UsageError
        When there is no such directory.

    >>> directory("/")
    '/'
    """
    if given is None:
        return current_directory()
    given = os.path.expanduser(given)
    path = given if os.path.isabs(given) else os.path.join(current_directory(), given)
    # "link/.." is not where the text alone says it is.
    path = os.path.realpath(path) if ".." in path.split("/") else os.path.normpath(path)
    if not os.path.isdir(path):
        what = "is not a directory" if os.path.lexists(path) else "does not exist"
        raise UsageError(f"--cwd: {given} {what}", "make it first, or name another")
    return path


def environment(
    *,
    none: bool = False,
    files: Sequence[str] = (),
    given: Iterable[str] | Mapping[str, str] = (),
    cwd: str | None = None,
    caller: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Put the environment of a job together.

    The caller's (unless ``none``), then what the files say, then what is given.
    ``PYTHONUNBUFFERED=1`` is added unless the caller set it, since a job's output
    is read while it runs.

    Parameters
    ----------
    none:
        Begin with nothing.
    files:
        dotenv files, in order.
    given:
        ``K=V``, or ``K`` to copy it from the caller; or a mapping.
    cwd:
        The job's directory: ``PWD`` follows it.
    caller:
        Default: this process's.

    Raises
    ------
    UsageError
        When a file cannot be understood, or a ``K`` to copy is not set.

    >>> environment(none=True, given=["A=1", "B"], caller={"B": "2"})
    {'A': '1', 'B': '2'}
    """
    source = os.environ if caller is None else caller
    env = {} if none else dict(source if caller is not None else _now()[1])
    # What marks the job that we may run in does not mark the one to come.
    for mark in ("VIGIE_ATTEMPT", "VIGIE_JOB"):
        env.pop(mark, None)
    if not none:
        env.setdefault("PYTHONUNBUFFERED", "1")
        if cwd is not None and "PWD" in env:
            env["PWD"] = cwd
    for file in files:
        from vigie import dotenv

        env.update(dotenv.read(file))
    if hasattr(given, "items"):
        pairs = [(str(key), str(value)) for key, value in given.items()]
    else:
        pairs = [_pair(item, source) for item in given]
    for key, value in pairs:
        if not key or "=" in key or "\0" in key + value:
            raise UsageError(f"--env: {key!r} cannot be the name of a variable", "write it as NAME=VALUE")
        env[key] = value
    return env


#: What a schedule, a service or a declared task has of the environment of whoever added it.
KEPT = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "XDG_RUNTIME_DIR", "PATH")


def declared(given: Iterable[str] | Mapping[str, str] = (), caller: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give what the environment of a declared task begins with: :data:`KEPT`, and each ``K`` that is to be copied.

    Raises
    ------
    UsageError
        When a ``K`` to copy is not set.

    >>> declared(["B", "C=3"], {"HOME": "/h", "A": "1", "B": "2"})
    {'HOME': '/h', 'B': '2'}
    """
    source = os.environ if caller is None else caller
    env = {key: source[key] for key in KEPT if key in source}
    if not hasattr(given, "items"):
        env.update(_pair(item, source) for item in given if "=" not in item)
    return env


#: The environment as it was when it was last looked at, in bytes and as text.
_last: tuple[dict[bytes, bytes], dict[str, str]] | None = None
#: What the surroundings of the last function depended on, and they.
_around: tuple[tuple[Any, ...], dict[str, Any]] | None = None


def _now() -> tuple[dict[bytes, bytes], dict[str, str]]:
    """Give this process's environment; decoding it each time would be half of a submit's preparation."""
    global _last
    # The mapping inside os.environ compares in C; absent in no CPython so far.
    live: Any = getattr(os.environ, "_data", os.environb)
    last = _last
    if last is None or last[0] != live:
        raw = dict(live)
        last = _last = (raw, {os.fsdecode(key): os.fsdecode(value) for key, value in raw.items()})
    return last


def of_caller(python: str) -> dict[str, Any]:
    """Give the surroundings of a function that takes all of them from its caller.

    As long as nothing changes it is the same object, which nobody may change.

    Parameters
    ----------
    python:
        The interpreter that runs it.

    Raises
    ------
    UsageError
        When the current directory was deleted.
    """
    global _around
    raw, _ = _now()
    key = (current_directory(), current_umask(), python, tuple(sys.path), raw)
    known = _around
    if known is None or known[0] != key:
        cwd, umask = key[:2]
        context = {"cwd": cwd, "env": environment(), "umask": umask, "python": python, "path": import_path(cwd)}
        known = _around = key, context
    return known[1]


def _pair(item: str, source: Mapping[str, str]) -> tuple[str, str]:
    key, equals, value = item.partition("=")
    if equals:
        return key, value
    if key not in source:
        raise UsageError(f"--env: {key} is not set here, so it cannot be copied", f"--env {key}=VALUE sets it")
    return key, source[key]


def current_umask() -> int:
    """Give the umask without setting it, which other threads would notice."""
    try:
        status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = os.read(status, 256)
        finally:
            os.close(status)
        return int(head[head.index(b"\nUmask:") + 7 :].split(None, 1)[0], 8)
    except (OSError, ValueError):
        pass
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def choose_python(given: str | None, cwd: str, env: Mapping[str, str] | None = None) -> str:
    """Give the interpreter for scripts and functions.

    The one given, else ``$VIRTUAL_ENV``'s, else that of the nearest ``.venv`` from
    the job's directory upwards, else the one that runs Vigie.

    Raises
    ------
    UsageError
        When the one given is not there or cannot be run.
    """
    caller = os.environ if env is None else env
    if given is not None:
        return _given_python(os.path.expanduser(given), caller)
    active = caller.get("VIRTUAL_ENV")
    if active and (found := _python_of(active)):
        return found
    at = cwd
    while True:
        if found := _python_of(os.path.join(at, ".venv")):
            return found
        above = os.path.dirname(at)
        if above == at:
            return sys.executable
        at = above


def _given_python(given: str, caller: Mapping[str, str]) -> str:
    if "/" not in given:
        places = [os.path.join(item or ".", given) for item in caller.get("PATH", os.defpath).split(os.pathsep)]
    else:
        places = [given]
        # A virtual environment's directory is as clear.
        if os.path.isdir(given):
            places = [os.path.join(given, "bin", "python")]
    for place in places:
        if _is_program(place):
            return os.path.abspath(place)
    raise UsageError(f"--python: there is no interpreter {given}", "name a file, or a program on PATH")


def _python_of(environment: str) -> str | None:
    path = os.path.join(environment, "bin", "python")
    return os.path.abspath(path) if _is_program(path) else None


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def import_path(cwd: str, *, own: bool = True) -> list[str]:
    """Give where a function's modules are looked for, in order.

    The directory first, then the entries of ``sys.path`` that are not the
    interpreter's own; with ``own=False`` (a function named on the command line)
    those of ``PYTHONPATH`` alone.
    """
    if own:
        entries = [item for item in sys.path if item and not _is_interpreters(item)]
    else:
        entries = [item for item in os.environ.get("PYTHONPATH", "").split(os.pathsep) if item]
    here = current_directory()
    return list(dict.fromkeys([cwd, *(os.path.join(here, item) for item in entries)]))


@functools.lru_cache(maxsize=256)
def _is_interpreters(item: str) -> bool:
    """Tell whether an entry of ``sys.path`` is there without our help."""
    if os.path.basename(item) in ("site-packages", "dist-packages"):
        return True
    roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    libraries = [os.path.join(root, library) for root in roots for library in ("lib", "lib64")]
    for library in libraries:
        rest = item.removeprefix(library + os.sep)
        if rest != item and rest.startswith("python"):
            return True
    return False


def is_secret(name: str) -> bool:
    """Tell whether a variable of this name is likely to hold a secret.

    >>> is_secret("GITHUB_TOKEN"), is_secret("db_password"), is_secret("LANG")
    (True, True, False)
    """
    upper = name.upper()
    return any(word in upper for word in _SECRETS)


def redacted(env: Mapping[str, str]) -> dict[str, str]:
    """Give an environment that may be shown: sorted, without what looks like a secret.

    >>> redacted({"API_KEY": "x", "A": "1", "URL": "postgres://eve:pw@db/x"})
    {'A': '1', 'API_KEY': '(redacted)', 'URL': 'postgres://eve:(redacted)@db/x'}
    """
    return {key: _REDACTED if is_secret(key) else _without_password(env[key]) for key in sorted(env)}


def _without_password(value: str) -> str:
    """Take the password out of a URL that holds one."""
    scheme, separator, rest = value.partition("://")
    login, at, place = rest.partition("@")
    user, colon, password = login.partition(":")
    if separator and at and colon and password and "/" not in login:
        return f"{scheme}://{user}:{_REDACTED}@{place}"
    return value
