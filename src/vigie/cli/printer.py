"""Prints pieces of output: bytes as they are, harmless text on a terminal, or JSON lines."""

from __future__ import annotations

from vigie.cli.shown import dumps
from vigie.output import Cutter
from vigie.terminal import PLAIN, Sanitizer, clean, paint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vigie.cli.context import Context
    from vigie.output import Output
    from vigie.streams import Piece

__all__ = ["Printer"]

_STYLES = {"error": "red", "warning": "yellow", "debug": "dim"}


class Printer:
    """Prints what jobs have written.

    Parameters
    ----------
    out:
        Where to.
    raw:
        Bytes as they are, on a terminal too.
    as_json:
        One JSON line a record.
    many:
        Several jobs: on a terminal a line says whose turn it is.
    """

    def __init__(self, out: Context, *, raw: bool = False, as_json: bool = False, many: bool = False) -> None:
        self.count = 0
        self._out = out
        self._json = as_json
        self._harmless = out.is_tty and not raw and not as_json
        self._heads = many and out.is_tty and not as_json
        self._paint = paint(out)
        self._write = out.stdout.buffer.write
        self._encoding = "utf-8" if as_json else (out.stdout.encoding or "utf-8")
        self._last: int | None = None
        self._open_line = False
        self._cutters: dict[int, Cutter] = {}
        self._sanitizers: dict[tuple[int, int, str], Sanitizer] = {}
        out.stdout.flush()

    def show(self, output: Output, piece: Piece) -> None:
        """Print one piece."""
        self.count += 1
        if self._json:
            cutter = self._cutters.setdefault(output.job, Cutter(output.job))
            for record in cutter.feed(piece):
                self._write(dumps(record.to_json()).encode() + b"\n")
            return
        if piece.note is not None:
            self.flush()
            self._out.say(f"{output.job}: {clean(piece.note)}")
            return
        if self._heads and self._last != output.job:
            self._head(output)
        self._last = output.job
        if self._harmless:
            self._text(output, piece)
        else:
            self._write(piece.shown)

    def _text(self, output: Output, piece: Piece) -> None:
        key = (output.job, piece.attempt, piece.stream)
        text = self._sanitizers.setdefault(key, Sanitizer()).feed(piece.shown)
        if text:
            self._put(text, piece.stream)

    def _put(self, text: str, stream: str) -> None:
        style = _STYLES.get(stream)
        # Each line has its own colour, so that a line end never carries one on.
        body = "\n".join(self._paint(style, line) for line in text.split("\n")) if style else text
        self._write(body.encode(self._encoding, PLAIN))
        self._open_line = not text.endswith("\n")

    def _head(self, output: Output) -> None:
        name = f" ({clean(output.row['name'])})" if output.row["name"] else ""
        gap = "\n" if self._open_line else ""
        gap += "\n" if self._last is not None else ""
        head = self._paint("dim", f"==> {output.job}{name}")
        self._write(f"{gap}{head}\n".encode(self._encoding, PLAIN))
        self._open_line = False

    def flush(self) -> None:
        """Let everything be seen."""
        self._out.stdout.buffer.flush()

    def finish(self) -> None:
        """Print what waited for its rest: half a line, half a character."""
        for cutter in self._cutters.values():
            for record in cutter.rest():
                self._write(dumps(record.to_json()).encode() + b"\n")
        for key, sanitizer in self._sanitizers.items():
            text = sanitizer.feed(b"", final=True)
            if text:
                self._put(text, key[2])
        if self._open_line:
            self._write(b"\n")
        self.flush()
