"""Where the output of commands goes while they run: a file of each, lines of all, or where ours goes.

Only the first two keep stdout and stderr of one command apart from those of others. What is in a file costs
no memory, however much a command writes; a file has no name, so that nothing is left of it whatever happens.
"""

from __future__ import annotations

import contextlib
import os
import sys
from functools import partial

from vigie.errors import UsageError
from vigie.shellmap.sinks import Labelled, Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vigie.engines.command import Done
    from vigie.engines.watch import Watch

__all__ = ["Bare", "Files", "Lines", "Results", "nameless", "temporary"]

#: Bytes to read at once of a command that writes lines.
CHUNK = 1 << 16


def temporary() -> str:
    """Give the directory of temporary files; to load ``tempfile`` for that takes longer than a command."""
    return os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - what is made there has no name


def nameless(directory: str) -> int:
    """Open a new file that has no name; it closes on exec.

    Raises
    ------
    OSError
        When none can be made there.
    """
    if hasattr(os, "O_TMPFILE"):
        try:
            return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:
            pass  # not every file system has them
    import tempfile

    fd, path = tempfile.mkstemp(dir=directory)
    os.unlink(path)
    return fd


class Bare:
    """Commands write where we do: nothing is kept, and lines of several may mix."""

    def attach(self, watch: Watch) -> None:
        """There is nothing to watch."""

    def open(self, done: Done) -> tuple[int, int]:
        """Give what a command writes to; -1: what is ours."""
        return -1, -1

    def begun(self, done: Done) -> None:
        """It has begun."""

    def ended(self, done: Done) -> None:
        """It has ended."""


class Files(Bare):
    """Two files of each command, which are shown when it has ended."""

    def __init__(self, directory: str | None = None) -> None:
        self._directory = directory or temporary()

    def open(self, done: Done) -> tuple[int, int]:
        """Give two files."""
        done.out = nameless(self._directory)
        done.err = nameless(self._directory)
        return done.out, done.err

    def ended(self, done: Done) -> None:
        """Let go of what is empty: many may wait for their turn to be shown."""
        out, err = done.out, done.err
        if not os.fstat(out).st_size:
            done.out = -1
            os.close(out)
        if not os.fstat(err).st_size:
            done.err = -1
            os.close(err)


class Results(Bare):
    """Files that stay: ``DIR/SEQ/stdout`` and ``stderr``, and how it went in ``DIR/SEQ/result.json``."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as error:
            raise UsageError(f"map: --results {directory}: {error.strerror}") from None

    def open(self, done: Done) -> tuple[int, int]:
        """Give two files."""
        where = os.path.join(self._directory, str(done.seq))
        os.makedirs(where, exist_ok=True)
        for name in ("stdout", "stderr"):
            # What an earlier try has left running may still write to its own.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(where, name))
        how = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        done.out = os.open(os.path.join(where, "stdout"), how, 0o666)
        done.err = os.open(os.path.join(where, "stderr"), how, 0o666)
        return done.out, done.err

    def ended(self, done: Done) -> None:
        """Note how it went."""
        import json

        told = {
            "seq": done.seq, "items": [os.fsdecode(item) for item in done.items],
            "argv": [os.fsdecode(word) for word in done.argv],
            "exit": done.status if done.status >= 0 else None, "signal": -done.status if done.status < 0 else None,
            "timed_out": done.timed_out, "began": done.began, "seconds": done.took,
        }  # fmt: skip
        path = os.path.join(self._directory, str(done.seq), "result.json")
        with open(path + ".part", "w", encoding="utf-8") as file:
            json.dump(told, file)
            file.write("\n")
        os.replace(path + ".part", path)


class _Stream:
    """One stream of a command that runs, given on line by line; while it is not its turn it is kept in a file."""

    def __init__(self, fd: int, sink: Sink | Labelled, directory: str) -> None:
        self.fd = fd
        self._sink = sink
        self._directory = directory
        self._kept = -1
        self._line = b""
        self.waits = False

    def read(self) -> bool:
        """Take what is there; False at its end."""
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return True
        if not data:
            return False
        end = data.rfind(b"\n") + 1
        if not end and len(self._line) + len(data) < CHUNK:
            self._line += data
            return True
        # A line without an end is not waited for without an end.
        end = end or len(data)
        self._put(self._line + data[:end])
        self._line = data[end:]
        return True

    def _put(self, data: bytes) -> None:
        if not self.waits:
            self._sink.write(data)
            return
        if self._kept < 0:
            self._kept = nameless(self._directory)
        while data:
            data = data[os.write(self._kept, data) :]

    def turn(self) -> None:
        """Give on what was kept: from now on nothing is."""
        self.waits = False
        kept, self._kept = self._kept, -1
        if kept >= 0:
            self._sink.copy(kept)
            os.close(kept)

    def close(self) -> None:
        """Take what is there by now; whoever else has the other end is not waited for, and may write on."""
        for _ in range(1 + _waiting(self.fd) // CHUNK):
            if not self.read():
                break
        if self._line:
            self._put(self._line)
            self._line = b""
        os.close(self.fd)


def _waiting(pipe: int) -> int:
    """Give how many bytes there are in a pipe."""
    import fcntl
    import termios

    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


class Lines(Bare):
    """Lines as they come, each whole.

    Parameters
    ----------
    sink:
        Gives where a stream (1 or 2) of a command's goes.
    keep_order:
        Only one command's lines come at once, those of the others when it is their turn.
    """

    def __init__(
        self, sink: Callable[[int, Sequence[bytes]], Sink | Labelled], directory: str | None, *, keep_order: bool
    ) -> None:
        self._sink = sink
        self._directory = directory or temporary()
        self._keep_order = keep_order
        self._turn = 1
        self._streams: dict[int, list[_Stream]] = {}
        self._opened: dict[int, tuple[int, int]] = {}
        self._watch: Watch | None = None

    def attach(self, watch: Watch) -> None:
        """Have what comes looked at."""
        self._watch = watch

    def open(self, done: Done) -> tuple[int, int]:
        """Give the ends of two pipes."""
        pipes = [os.pipe()]
        try:
            pipes.append(os.pipe())
        except OSError:
            for fd in pipes[0]:
                os.close(fd)
            raise
        streams = self._streams.setdefault(done.seq, [])
        ends = []
        for number, (read, write) in enumerate(pipes, 1):
            os.set_blocking(read, False)
            stream = _Stream(read, self._sink(number, done.items), self._directory)
            stream.waits = self._keep_order and done.seq != self._turn
            streams.append(stream)
            ends.append(write)
        self._opened[done.seq] = (ends[0], ends[1])
        return ends[0], ends[1]

    def begun(self, done: Done) -> None:
        """Keep only our ends of the pipes, and read them from now on."""
        for fd in self._opened.pop(done.seq):
            os.close(fd)
        assert self._watch is not None
        for stream in self._streams[done.seq][-2:]:
            self._watch.add(stream.fd, partial(self._read, stream))

    def _read(self, stream: _Stream) -> None:
        if not stream.read() and self._watch is not None:
            self._watch.remove(stream.fd)

    def ended(self, done: Done) -> None:
        """Take the rest of what it wrote."""
        assert self._watch is not None
        for stream in self._streams[done.seq][-2:]:
            self._watch.remove(stream.fd)
            stream.close()
        if not self._keep_order:
            del self._streams[done.seq]

    def shown(self, seq: int) -> None:
        """Go on to the next: all is known of a command, and of those before it."""
        if not self._keep_order:
            return
        for stream in self._streams.pop(seq, ()):
            stream.turn()
        self._turn = seq + 1
        for stream in self._streams.get(self._turn, ()):
            stream.turn()
