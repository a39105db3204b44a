"""How the keeper starts one process, and says precisely why it could not.

Plain ``subprocess`` (which uses vfork): no code of ours runs between fork and
exec. The child gets its own session, only descriptors 0, 1 and 2, default
signals, an empty signal mask, and the limits that the keeper itself was given.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
import subprocess

from vigie.keeper_blank import reuse
from vigie.procs import MARK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["FileLimit", "SpawnError", "spawn"]


class SpawnError(Exception):
    """A process never ran.

    Attributes
    ----------
    what:
        ``argv``, ``cwd``, ``out``, ``stdin`` or ``fork``: what it failed on.
    errno:
        The system's number for it.
    """

    def __init__(self, what: str, number: int, message: str) -> None:
        super().__init__(message)
        self.what = what
        self.errno = number

    @property
    def error(self) -> str:
        """The number's name, such as ``ENOENT``."""
        return errno.errorcode.get(self.errno, str(self.errno))


class FileLimit:
    """Many descriptors for the keeper, the original limit for its children.

    A limit is inherited at the fork, so it is lowered around each spawn. What
    the keeper holds for long stands at or above the children's limit, so that
    the numbers below stay free for the spawn itself.

    Parameters
    ----------
    soft:
        The limit to give to children; default: the present one.
    """

    def __init__(self, soft: int | None = None) -> None:
        now, self._hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.soft = now if soft is None else soft
        self._raised = self._set(self._hard)

    def _set(self, soft: int) -> bool:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, self._hard))
        except (ValueError, OSError):
            return False
        return soft != self.soft

    def __enter__(self) -> None:
        if self._raised:
            self._set(self.soft)

    def __exit__(self, *exc: object) -> None:
        if self._raised:
            self._set(self._hard)

    def lift(self, fd: int | None) -> int | None:
        """Move a descriptor out of the numbers that a spawn needs."""
        if fd is None or not self._raised:
            return fd
        try:
            high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, self.soft)
        except OSError:
            return fd
        os.close(fd)
        return high


def spawn(
    request: dict[str, Any], limit: FileLimit, start: Callable[..., Any] | None = None
) -> subprocess.Popen[bytes]:  # fmt: skip
    """Start what a ``spawn`` frame asks for.

    Parameters
    ----------
    request:
        The header: ``mark argv cwd env umask stdin out err dir blank``; its strings
        are UTF-8 with surrogateescape, whatever the locale.
    limit:
        The keeper's own, lowered while the child is made.
    start:
        Makes the child in another way, of the same things; its ``filename`` says what failed.

    Raises
    ------
    SpawnError
        It never ran; nothing of it is left but perhaps an empty output file.
    """
    try:
        argv = [_bytes(word) for word in request.get("argv") or ()]
        cwd = _bytes(request.get("cwd") or "/")
        env = {_bytes(key): _bytes(value) for key, value in (request.get("env") or {}).items()}
        env[MARK.encode()] = _bytes(request["mark"])
        umask = int(request.get("umask", 0o077))
    except (AttributeError, TypeError, ValueError) as error:
        raise SpawnError("argv", errno.EINVAL, f"malformed request: {error}") from None
    if not argv:
        raise SpawnError("argv", errno.EINVAL, "there is no command to run")
    _check_directory(cwd)
    fds: list[int] = []
    with limit:
        try:
            stdin, out, err = _open_streams(request, fds)
            if start is not None:
                made: subprocess.Popen[bytes] = start(argv, env, cwd, umask, (stdin, out, err))
                return made
            return subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=out,
                stderr=err,
                cwd=cwd,
                env=env,
                close_fds=True,
                restore_signals=True,
                start_new_session=True,
                umask=umask,
            )
        except OSError as error:
            raise _explained(error, argv, cwd, env) from None
        except subprocess.SubprocessError as error:
            raise SpawnError("fork", errno.EAGAIN, f"cannot start another process: {error}") from None
        except ValueError as error:
            raise SpawnError("argv", errno.EINVAL, f"cannot run {show(argv[0])}: {error}") from None
        finally:
            for fd in fds:
                os.close(fd)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def show(name: bytes) -> str:
    """Give a name as a person can read it in a message, shortened.

    >>> show(b"caf\\xe9")
    'caf\\\\xe9'
    """
    text = name.decode("utf-8", "backslashreplace")
    return text if len(text) <= 200 else text[:197] + "…"


def _check_directory(cwd: bytes) -> None:
    try:
        # With the dot the kernel asks for a directory that may be entered.
        os.stat(os.path.join(cwd, b"."))
    except OSError as error:
        why = {
            errno.ENOENT: "does not exist",
            errno.ENOTDIR: "is not a directory",
            errno.EACCES: "may not be entered",
        }.get(error.errno or 0, error.strerror)
        raise SpawnError("cwd", error.errno or 0, f"the directory {show(cwd)} {why}") from None
    except ValueError as error:
        raise SpawnError("cwd", errno.EINVAL, f"the directory {show(cwd)}: {error}") from None


def _open_streams(request: dict[str, Any], fds: list[int]) -> tuple[int, int, int]:
    """Open 0, 1 and 2; every descriptor opened is in ``fds``."""
    stdin, out, err = (_bytes(request[key]) if request.get(key) else None for key in ("stdin", "out", "err"))
    if request.get("blank"):
        reuse(_bytes(request["blank"]), _bytes(request["dir"]))
    if request.get("dir"):
        _make_directory(_bytes(request["dir"]))
    first = _open("stdin", stdin or b"/dev/null", os.O_RDONLY, fds)
    second = _open("out", out or b"/dev/null", os.O_WRONLY | os.O_APPEND | os.O_CREAT, fds)
    if err == out:
        return first, second, second
    return first, second, _open("out", err or b"/dev/null", os.O_WRONLY | os.O_APPEND | os.O_CREAT, fds)


def _make_directory(path: bytes) -> None:
    try:
        try:
            os.mkdir(path, 0o700)  # as a rule, the one above it is there
        except (FileExistsError, FileNotFoundError):
            os.makedirs(path, mode=0o700, exist_ok=True)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or errno.EINVAL
        why = getattr(error, "strerror", None) or error
        raise SpawnError("out", number, f"cannot make the directory {show(path)}: {why}") from None


def _open(what: str, path: bytes, flags: int, fds: list[int]) -> int:
    verb = "read the input" if what == "stdin" else "write the output"
    try:
        # Non-blocking, because opening a FIFO would hold up every other child.
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, 0o600)
        fds.append(fd)
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.set_blocking(fd, True)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            what = "fork"
        raise SpawnError(what, error.errno or 0, f"cannot {verb} {show(path)}: {error.strerror}") from None
    except ValueError as error:
        raise SpawnError(what, errno.EINVAL, f"cannot {verb} {show(path)}: {error}") from None
    return fd


def _explained(error: OSError, argv: list[bytes], cwd: bytes, env: dict[bytes, bytes]) -> SpawnError:
    """Say what a failed fork or exec means."""
    number = error.errno or 0
    name = show(argv[0])
    if error.filename is not None and error.filename not in (cwd, argv[0]) and isinstance(error.filename, bytes):
        return SpawnError("argv", number, f"cannot set {show(error.filename)}: {error.strerror}")
    if error.filename is None and number in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM):
        return SpawnError("fork", number, f"cannot start another process: {error.strerror}")
    if error.filename == cwd and error.filename != argv[0]:
        return SpawnError("cwd", number, f"cannot enter the directory {show(cwd)}: {error.strerror}")
    if number == errno.E2BIG:
        return SpawnError("argv", number, _too_big(argv, env))
    path = _find(argv[0], cwd, env)
    if number in (errno.ENOENT, errno.ENOTDIR):
        return SpawnError("argv", number, _missing(name, path))
    if number == errno.EACCES:
        if path and os.path.isdir(path):
            return SpawnError("argv", number, f"{show(path)} is a directory, not a program")
        where = show(path) if path else name
        if path and os.access(path, os.F_OK) and not os.access(path, os.X_OK):
            return SpawnError("argv", number, f"{where} is not executable")
        return SpawnError("argv", number, f"{where} may not be run: {error.strerror}")
    if number == errno.ENOEXEC:
        return SpawnError("argv", number, f"{show(path or argv[0])} is no program: it lacks a #! line")
    return SpawnError("argv", number, f"cannot run {name}: {error.strerror}")


def _find(name: bytes, cwd: bytes, env: dict[bytes, bytes]) -> bytes | None:
    """Give the path that exec tried: the first on PATH that exists."""
    if b"/" in name:
        places = [os.path.join(cwd, name)]
    else:
        path = env.get(b"PATH", os.defpath.encode())
        places = [os.path.join(cwd, part or b".", name) for part in path.split(b":")]
    return next((place for place in places if os.path.lexists(place)), None)


def _missing(name: str, path: bytes | None) -> str:
    """Tell a missing command from a script whose interpreter is missing."""
    if path is None:
        return f"no such file: {name}" if "/" in name else f"command not found: {name}"
    if not os.path.exists(path):
        return f"{show(path)} is a link to nothing"
    try:
        with open(path, "rb") as file:
            first = file.readline(256)
    except OSError:
        first = b""
    if first.startswith(b"#!"):
        interpreter = show(first[2:].strip())
        return f"{show(path)} cannot run: its interpreter {interpreter} does not exist"
    return f"{show(path)} cannot run: the loader that it names does not exist"


def _too_big(argv: list[bytes], env: dict[bytes, bytes]) -> str:
    words = sum(len(word) + 9 for word in argv)
    variables = sum(len(key) + len(value) + 10 for key, value in env.items())
    return (
        f"the command line is too long: {words} bytes, and {variables} of environment; "
        f"the system takes {os.sysconf('SC_ARG_MAX')} in all and 131072 in one argument"
    )
