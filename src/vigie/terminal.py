"""What a person sees: tables, colours, widths, and text that cannot harm the terminal.

Everything that comes from jobs (output, names, arguments, messages) passes
:func:`clean` or a :class:`Sanitizer` before a terminal shows it: an escape
sequence in a job's output must not retitle the window, hide a line or type for
the reader.
"""

from __future__ import annotations

import codecs
import os
import time
from typing import TYPE_CHECKING, Any

from vigie.values import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vigie.cli.context import Context

__all__ = [
    "Paint",
    "Sanitizer",
    "Table",
    "ago",
    "cells",
    "clean",
    "clip",
    "lasting",
    "moment",
    "paint",
    "size",
    "width",
]

SECOND = 1_000_000
DAY = 86_400 * SECOND

#: Marks that turn or hide what stands beside them, in Unicode's own notation.
_TURNING = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_HARMLESS: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A)},
    0x7F: "\u2421",
    **{code: f"<U+{code:04X}>" for code in (*range(0x80, 0xA0), *_TURNING, 0x2028, 0x2029)},
}
#: A carriage return as programs use it: the line is written anew. Erasing it first
#: keeps the new text from being mixed with the rest of the old one.
_AGAIN = "\r\x1b[K"
_STREAMED = {code: text for code, text in _HARMLESS.items() if code != 0x0D}
_ONE_LINE = {**_HARMLESS, 0x09: " ", 0x0A: "\u240a"}


class Sanitizer:
    r"""Makes a stream of bytes harmless for a terminal, piece by piece.

    UTF-8 and line ends stay; ``\r`` rewrites its line; every other control
    character, and marks that reverse the direction of text, become visible.
    Bytes that are no UTF-8 show as ``\xff``.

    >>> Sanitizer().feed(b"a\x1b[2Jb\n")
    'a\u241b[2Jb\n'
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._return = False

    def feed(self, data: bytes, *, final: bool = False) -> str:
        """Take the next bytes and give what can be shown of them so far."""
        text = self._decoder.decode(data, final)
        if self._return:
            text = "\r" + text
        # Whether a line end follows is known only with the next piece.
        self._return = text.endswith("\r") and not final
        if self._return:
            text = text.rstrip("\r")
        text = text.translate(_STREAMED)
        if "\r" not in text:
            return text
        while "\r\r" in text:
            text = text.replace("\r\r", "\r")
        return text.replace("\r\n", "\n").replace("\r", _AGAIN)


def clean(text: object) -> str:
    r"""Give one harmless line, for a cell of a table or a place in a sentence.

    >>> clean("a\tb\x1b]0;x\x07")
    'a b\u241b]0;x\u2407'
    """
    given = str(text)
    if not given.isascii():
        try:
            data = given.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            data = given.encode("utf-8", "surrogatepass")
        given = data.decode("utf-8", "backslashreplace")
    return given.translate(_ONE_LINE)


# --- colours -----------------------------------------------------------------------

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_STATES = {
    "completed": "green",
    "running": "cyan",
    "failed": "red",
    "lost": "red",
    "stopped": "yellow",
    "suspended": "yellow",
    "blocked": "dim",
    "queued": "blue",
}


class Paint:
    """Colours text, or leaves it.

    Parameters
    ----------
    on:
        Whether the stream takes colours.

    >>> Paint(False)("red", "x"), Paint(True)("red", "x")
    ('x', '\\x1b[31mx\\x1b[0m')
    """

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, style: str | None, text: str) -> str:
        """Give ``text`` in a style: ``bold dim red green yellow blue cyan``, or a job's state."""
        code = _CODES.get(_STATES.get(style or "", style or ""))
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and code and text else text


def paint(out: Context) -> Paint:
    """Give the colours that the stdout of a call takes."""
    return Paint(out.color)


# --- widths ------------------------------------------------------------------------


def width(stream: Any = None, default: int = 80) -> int:
    """Give the columns of the terminal behind a stream; ``COLUMNS`` has the first word."""
    try:
        asked = int(os.environ.get("COLUMNS", "0"))
    except ValueError:
        asked = 0
    if asked > 0:
        return asked
    try:
        return os.get_terminal_size(1 if stream is None else stream.fileno()).columns or default
    except (OSError, ValueError, AttributeError):
        return default


def height(stream: Any = None, default: int = 24) -> int:
    """Give the lines of the terminal behind a stream."""
    try:
        return os.get_terminal_size(1 if stream is None else stream.fileno()).lines or default
    except (OSError, ValueError, AttributeError):
        return default


def cells(text: str) -> int:
    """Give the columns that a text takes on a terminal.

    >>> cells("abc"), cells("日本"), cells("e\u0301")
    (3, 4, 1)
    """
    if text.isascii():
        return len(text)
    return sum(_cell(char) for char in text)


def _cell(char: str) -> int:
    from unicodedata import combining, east_asian_width

    if combining(char) or char in "\u200b\u200c\u200d\ufe0f":
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def clip(text: str, room: int) -> str:
    """Shorten a text to ``room`` columns, an ellipsis at its end where something is left out.

    >>> clip("rsync -a x y", 8)
    'rsync -…'
    """
    if cells(text) <= room:
        return text
    if room < 1:
        return ""
    taken, used = [], 0
    for char in text:
        used += _cell(char)
        if used > room - 1:
            break
        taken.append(char)
    return "".join(taken) + "…"


class Table:
    """A table with aligned columns.

    Parameters
    ----------
    headers:
        The names of the columns.
    flexible:
        Which column gives way when a line is too long: by default the last one.
    right:
        Columns of numbers.

    A cell is a text, or ``(text, style)``; texts are cleaned here. Widths only
    grow, so that pages of one long list stay aligned.

    >>> for line in Table(["ID", "WHAT"], right=(0,)).lines([["7", "ls"], ["12", "df -h"]]): print(line)
    ID  WHAT
     7  ls
    12  df -h
    """

    def __init__(self, headers: Sequence[str], *, flexible: int = -1, right: Sequence[int] = ()) -> None:
        self.headers = list(headers)
        self.flexible = flexible % len(headers)
        self.right = right
        self._widths = [cells(header) for header in headers]

    def lines(
        self,
        rows: Iterable[Sequence[str | tuple[str, str | None]]],
        *,
        room: int | None = None,
        paint: Paint | None = None,
        header: bool = True,
    ) -> list[str]:
        """Give the lines; none is longer than ``room`` columns, where that is given."""
        brush = paint or Paint(on=False)
        split = [[self._cell(cell) for cell in row] for row in rows]
        for row in split:
            for i, (text, _) in enumerate(row):
                self._widths[i] = max(self._widths[i], cells(text))
        widths = self._fitted(room)
        made = [self._line([(name, "dim") for name in self.headers], widths, brush)] if header else []
        return made + [self._line(row, widths, brush) for row in split]

    @staticmethod
    def _cell(cell: str | tuple[str, str | None]) -> tuple[str, str | None]:
        text, style = (cell, None) if isinstance(cell, str) else cell
        return clean(text), style

    def _fitted(self, room: int | None) -> list[int]:
        widths = list(self._widths)
        if room is not None:
            over = sum(widths) + 2 * (len(widths) - 1) - room
            if over > 0:
                least = min(widths[self.flexible], 8)
                widths[self.flexible] = max(least, widths[self.flexible] - over)
        return widths

    def _line(self, row: Sequence[tuple[str, str | None]], widths: list[int], brush: Paint) -> str:
        parts = []
        for i, (text, style) in enumerate(row):
            shown = clip(text, widths[i])
            pad = " " * (widths[i] - cells(shown))
            last = i == len(row) - 1
            painted = brush(style, shown)
            parts.append(pad + painted if i in self.right else painted if last else painted + pad)
        return "  ".join(parts).rstrip(" ")


# --- figures -----------------------------------------------------------------------


def lasting(us: int | None) -> str:
    """Write a duration for a person.

    >>> lasting(90_000_000), lasting(None)
    ('1m30s', '-')
    """
    return "-" if us is None else format_duration(max(0, us))


def size(count: int | None) -> str:
    """Write a size in bytes for a person."""
    return "-" if count is None else format_size(count)


def ago(then: int, now: int) -> str:
    """Say how long ago an instant (µs UTC) was, or how far ahead.

    >>> ago(0, 90_000_000), ago(90_000_000, 0), ago(0, 200_000)
    ('1m30s ago', 'in 1m30s', 'just now')
    """
    if abs(now - then) < SECOND:
        return "just now"
    seconds = abs(now - then) // SECOND * SECOND
    return f"{_coarse(seconds)} ago" if then < now else f"in {_coarse(seconds)}"


def _coarse(us: int) -> str:
    """Two figures are enough for a person: days and hours, hours and minutes."""
    unit = 3600 * SECOND if us >= DAY else 60 * SECOND if us >= 3600 * SECOND else SECOND
    return format_duration(us // unit * unit)


def moment(then: int, now: int) -> str:
    """Write an instant (µs UTC) in local time: the clock alone when it is within a day.

    The date comes along when it lies further away.
    """
    clock = time.localtime(then / SECOND)
    if abs(now - then) < DAY and time.localtime(now / SECOND).tm_yday == clock.tm_yday:
        return time.strftime("%H:%M" if now - then > 60 * SECOND else "%H:%M:%S", clock)
    return time.strftime("%Y-%m-%d %H:%M", clock)
