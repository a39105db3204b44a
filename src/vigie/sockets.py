"""Unix sockets at paths of any length.

A socket's address holds 107 bytes, and a home may lie deeper than that. A path
too long is reached through a descriptor of its directory:
``/proc/self/fd/N/NAME``; only NAME must be short (80 bytes). Standard library only, and no import of ours.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

__all__ = ["bind_unix", "connect_unix"]

#: The shortest ``sun_path`` of the systems we run on (104 on macOS), without its NUL.
_LONGEST = 103
_TIMEVAL = struct.Struct("@ll")


@contextlib.contextmanager
def _address(path: str) -> Iterator[str]:
    """Give an address short enough for the kernel, valid within the block."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.path.isdir("/proc/self/fd"):
            yield f"/proc/self/fd/{fd}/{name}"
            return
        back = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchdir(fd)
            yield name
        finally:
            os.fchdir(back)
            os.close(back)
    finally:
        os.close(fd)


def bind_unix(path: str, backlog: int = 128) -> socket.socket:
    """Listen at ``path``, replacing a socket file that an earlier process left.

    The caller holds the lock that says nobody else listens there. The file has
    mode 0600 from its first moment, whatever the umask.

    Parameters
    ----------
    path:
        Where the socket's file goes; its directory exists and may be of any depth.
    backlog:
        How many connections may wait to be accepted.

    Raises
    ------
    OSError
        The directory is missing or cannot be written.

    >>> import tempfile
    >>> deep = tempfile.mkdtemp(suffix="x" * 150)
    >>> server = bind_unix(deep + "/sock")
    >>> client = connect_unix(deep + "/sock", timeout=5)
    >>> client.close(); server.close()
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(OSError):
            # On Linux the file takes its mode from the unbound socket.
            os.fchmod(sock.fileno(), 0o600)
        with _address(path) as address:
            sock.bind(address)
        os.chmod(path, 0o600)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def connect_unix(path: str, timeout: float | None = None) -> socket.socket:
    """Connect to the socket at ``path``, which may be of any length.

    Parameters
    ----------
    path:
        The socket's file, at any depth.
    timeout:
        Seconds to wait for a place in the listener's queue, and then for each
        call on the socket given back; ``None`` waits for ever.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ConnectionRefusedError
        The file is there and nobody listens.
    TimeoutError
        The listener's queue stayed full.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A socket with Python's own timeout is non-blocking, and then a full
        # queue is an immediate EAGAIN instead of a wait.
        _send_timeout(sock, timeout)
        with _address(path) as address:
            sock.connect(address)
        _send_timeout(sock, None)
        sock.settimeout(timeout)
    except BlockingIOError:
        sock.close()
        raise TimeoutError(f"nobody accepted a connection to {path} within {timeout} s") from None
    except BaseException:
        sock.close()
        raise
    return sock


def _send_timeout(sock: socket.socket, timeout: float | None) -> None:
    microseconds = 0 if timeout is None else max(1, int(timeout * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(*divmod(microseconds, 1_000_000)))
