"""Our own stdout and stderr, as bytes: what goes there goes past the buffers of Python's streams."""

from __future__ import annotations

import errno
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

__all__ = ["Labelled", "Shared", "Sink", "pieces"]

#: Bytes that are copied at once.
BLOCK = 1 << 18
#: Bytes that the kernel is asked to copy at once.
_SENT = 1 << 30


def pieces(fd: int) -> Iterator[bytes]:
    """Give what is in a file, from its beginning, in blocks; not what somebody goes on writing meanwhile."""
    at, size = 0, os.fstat(fd).st_size
    while at < size and (block := os.pread(fd, min(BLOCK, size - at), at)):
        yield block
        at += len(block)


class Sink:
    """A file descriptor that takes all that is written to it.

    Attributes
    ----------
    busy:
        Whether something is being written, which may take as long as the reader likes.
    hurried:
        Set it to have dropped what the reader does not take at once.

    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as source:
    ...     _ = source.write(b"copied\\n"), source.flush()
    ...     sink = Sink(file.fileno())
    ...     sink.write(b"written\\n")
    ...     sink.copy(source.fileno())
    ...     os.pread(file.fileno(), 100, 0)
    b'written\\ncopied\\n'
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.busy = False
        self.hurried = False
        self._sends = sys.platform == "linux"

    def write(self, data: bytes) -> None:
        """Write all of it, however long that takes."""
        view = memoryview(data)
        self.busy = True
        try:
            while view:
                if self.hurried and not select.select([], [self.fd], [], 0)[1]:
                    return
                try:
                    # What can be written to takes so much without a wait.
                    view = view[os.write(self.fd, view[: select.PIPE_BUF] if self.hurried else view) :]
                except BlockingIOError:  # whoever shares the terminal or the pipe has made it so
                    select.select([], [self.fd], [])
        finally:
            self.busy = False

    def copy(self, source: int) -> None:
        """Write what is in a file by now, from its beginning."""
        size = os.fstat(source).st_size
        at = self._send(source, size) if self._sends and not self.hurried else 0
        while at < size and (block := os.pread(source, min(BLOCK, size - at), at)):
            self.write(block)
            at += len(block)

    def _send(self, source: int, size: int) -> int:
        """Let the kernel copy what it can; give how much that was."""
        at = 0
        self.busy = True
        try:
            while at < size and (sent := os.sendfile(self.fd, source, at, min(_SENT, size - at))):
                at += sent
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF):
                raise
            self._sends = False  # a terminal, or a file that is only appended to
        finally:
            self.busy = False
        return at


class Shared(Sink):
    """A terminal on which a bar stands: what goes there goes through Python's stream, so that the bar makes way."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream.fileno())
        self._stream = stream
        self._sends = False

    def write(self, data: bytes) -> None:
        """Write all of it."""
        self._stream.write(data.decode(self._stream.encoding, "surrogateescape"))
        self._stream.flush()


class Labelled:
    r"""A sink in which each line begins with a label.

    >>> sink = Labelled(Sink(1), b"web1\t")
    >>> sink.label(b"up\nall"), sink.label(b" well\n")
    (b'web1\tup\nweb1\tall', b' well\n')
    """

    def __init__(self, sink: Sink, label: bytes) -> None:
        self._sink = sink
        self._label = label
        self._begins = True

    def label(self, data: bytes) -> bytes:
        """Put the label before each line that begins in it."""
        if not data:
            return b""
        ended = data.endswith(b"\n")
        body = data[:-1] if ended else data
        text = body.replace(b"\n", b"\n" + self._label)
        if self._begins:
            text = self._label + text
        self._begins = ended
        return text + b"\n" if ended else text

    def write(self, data: bytes) -> None:
        """Write lines, or parts of them."""
        self._sink.write(self.label(data))

    def copy(self, source: int) -> None:
        """Write what is in a file, from its beginning."""
        for block in pieces(source):
            self.write(block)
