"""What a run of commands prints: the output of each as one piece, lines with labels, or JSON."""

from __future__ import annotations

import os
import sys

from vigie.shellmap.sinks import Labelled, Shared, Sink, pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from vigie.engines.command import Done

__all__ = ["Printer", "label"]


def label(items: Sequence[bytes]) -> bytes:
    """Give what stands before each line of a command's output.

    >>> label([b"web1", b"db 2"])
    b'web1 db 2\\t'
    """
    return b" ".join(items).replace(b"\n", b" ") + b"\t"


class Printer:
    """Prints what commands wrote, stdout to ours and stderr to ours.

    Parameters
    ----------
    prefix:
        Each line begins with the items of its command.
    as_json:
        One JSON object for each command instead.
    shared:
        A bar may stand on the terminal.
    recorded:
        Python's stderr is more than a descriptor, as in a worker of Vigie, which records what is written there.
    """

    def __init__(
        self, *, prefix: bool = False, as_json: bool = False, shared: bool = False, recorded: bool = False
    ) -> None:
        self._prefix = prefix
        self._as_json = as_json
        self._sinks = {1: Sink(1), 2: Sink(2)}
        if recorded:
            self._sinks[2] = Shared(sys.stderr)
        if shared:
            streams = {1: sys.stdout, 2: sys.stderr}
            self._sinks |= {number: Shared(stream) for number, stream in streams.items() if stream.isatty()}

    def sink(self, number: int, items: Sequence[bytes]) -> Sink | Labelled:
        """Give where a stream (1 or 2) of a command's goes."""
        sink = self._sinks[number]
        return Labelled(sink, label(items)) if self._prefix else sink

    @property
    def busy(self) -> bool:
        """Whether something is being written."""
        return any(sink.busy for sink in self._sinks.values())

    def hurry(self) -> None:
        """Wait for no reader any more."""
        for sink in self._sinks.values():
            sink.hurried = True

    def show(self, done: Done, tries: int) -> None:
        """Print what one has written, and let go of it."""
        if self._as_json:
            self._object(done, tries)
        else:
            for number, fd in ((1, done.out), (2, done.err)):
                if fd >= 0:
                    self.sink(number, done.items).copy(fd)
        done.close()

    def _object(self, done: Done, tries: int) -> None:
        """Print one as JSON, its output bit by bit: nobody knows how long that is."""
        import json

        head = {
            "seq": done.seq, "items": [os.fsdecode(item) for item in done.items],
            "exit": done.status if done.status >= 0 else None, "signal": -done.status if done.status < 0 else None,
            "timed_out": done.timed_out, "tries": tries, "began": round(done.began, 6), "seconds": round(done.took, 6),
        }  # fmt: skip
        sink = self._sinks[1]
        sink.write(json.dumps(head)[:-1].encode())
        for name, fd in (("stdout", done.out), ("stderr", done.err)):
            sink.write(b', "%b": "' % name.encode())
            self._text(fd, sink)
            sink.write(b'"')
        sink.write(b"}\n")

    def _text(self, fd: int, sink: Sink) -> None:
        import codecs
        import json

        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        for block in pieces(fd) if fd >= 0 else ():
            sink.write(json.dumps(decoder.decode(block))[1:-1].encode())
        sink.write(json.dumps(decoder.decode(b"", final=True))[1:-1].encode())
