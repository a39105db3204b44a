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
    "PLAIN",
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


# --- characters that a stream cannot show ---------------------------------------------

#: The name of :func:`_plain` as an error handler of encodings.
PLAIN = "vigie.plain"
_PLAIN = {
    **dict.fromkeys("\u2500\u2501\u2504\u2508\u254c\u2550\u2013\u2014\u00b7\u2022", "-"),
    **dict.fromkeys("\u2502\u2503\u2506\u250a\u254e\u2551", "|"),
    **{chr(code): "+" for code in range(0x250C, 0x254C)},
    **{chr(code): "+" for code in range(0x2552, 0x2574)},
    **{chr(code): "#" for code in range(0x2580, 0x2590)},
    **dict.fromkeys("\u2591\u2592\u2593", "."),
    **{chr(0x2400 + code): "^" + chr(code ^ 0x40) for code in range(0x20)},
    "\u2421": "^?",
    "\u2026": "...",
    "\u2192": "->",
    "\u2190": "<-",
    "\u25b8": ">",
    "\u00d7": "x",
    "\u00b5": "u",
    "\u03bc": "u",
    "\u2264": "<=",
    "\u2265": ">=",
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
}


def _plain(error: UnicodeError) -> tuple[str, int]:
    r"""Write what an encoding lacks in plain characters, or as an escape.

    >>> "a → b… é".encode("ascii", PLAIN)
    b'a -> b... \\xe9'
    """
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error(PLAIN, _plain)


def narrow(stream: Any) -> str | None:
    """Give the encoding of a stream that cannot show every character, None of one that can."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return None if encoding.lower().replace("-", "").replace("_", "").startswith("utf") else str(encoding)


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
    encoding:
        The stream's, where it cannot show every character.

    >>> Paint(False)("red", "x"), Paint(True)("red", "x")
    ('x', '\\x1b[31mx\\x1b[0m')
    """

    def __init__(self, on: bool, encoding: str | None = None) -> None:
        self.on = on
        self.encoding = encoding
        self.ellipsis = self.shown("\u2026")

    def shown(self, text: str) -> str:
        """Give a text as the stream will show it, so that its width is right."""
        return text if self.encoding is None else text.encode(self.encoding, PLAIN).decode(self.encoding)

    def __call__(self, style: str | None, text: str) -> str:
        """Give ``text`` in a style: ``bold dim red green yellow blue cyan``, or a job's state."""
        code = _CODES.get(_STATES.get(style or "", style or ""))
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and code and text else text


def paint(out: Context) -> Paint:
    """Give the colours that the stdout of a call takes."""
    return Paint(out.color, narrow(out.stdout))


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


def clip(text: str, room: int, ellipsis: str = "\u2026") -> str:
    """Shorten a text to ``room`` columns, an ellipsis at its end where something is left out.

    >>> clip("rsync -a x y", 8)
    'rsync -…'
    """
    if cells(text) <= room:
        return text
    ellipsis = ellipsis[: max(0, room)]
    taken, used = [], 0
    for char in text:
        used += _cell(char)
        if used > room - len(ellipsis):
            break
        taken.append(char)
    return "".join(taken) + ellipsis


#: A column that gives way keeps this much.
_LEAST = 12


class Table:
    """A table with aligned columns.

    Parameters
    ----------
    headers:
        The names of the columns.
    flexible:
        Which column gives way first when a line is too long: by default the last one.
    right:
        Columns of numbers.
    spare:
        Columns left out where there is no room, the first of these first.
    long:
        Columns of names, which take a quarter of the line at most where there is no room.

    A cell is a text, or ``(text, style)``; texts are cleaned here. Widths only
    grow, so that pages of one long list stay aligned.

    >>> for line in Table(["ID", "WHAT"], right=(0,)).lines([["7", "ls"], ["12", "df -h"]]): print(line)
    ID  WHAT
     7  ls
    12  df -h
    """

    def __init__(
        self,
        headers: Sequence[str],
        *,
        flexible: int = -1,
        right: Sequence[int] = (),
        spare: Sequence[int] = (),
        long: Sequence[int] = (),
    ) -> None:
        self.headers = list(headers)
        self.flexible = flexible % len(headers)
        self.right = right
        self.spare = spare
        self.long = long
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
        split = [[self._cell(cell, brush) for cell in row] for row in rows]
        for row in split:
            for i, (text, _) in enumerate(row):
                self._widths[i] = max(self._widths[i], cells(text))
        widths = self._fitted(room)
        made = [self._line([(name, "dim") for name in self.headers], widths, brush)] if header else []
        return made + [self._line(row, widths, brush) for row in split]

    @staticmethod
    def _cell(cell: str | tuple[str, str | None], brush: Paint) -> tuple[str, str | None]:
        text, style = (cell, None) if isinstance(cell, str) else cell
        return brush.shown(clean(text)), style

    def _fitted(self, room: int | None) -> dict[int, int]:
        """Give the columns to show and their widths."""
        widths = dict(enumerate(self._widths))
        if room is None or _over(widths, room) <= 0:
            return widths
        for i in self.long:
            # One long name must not cost the other columns their place.
            widths[i] = min(widths[i], max(_LEAST, room // 4))
        least = min(widths[self.flexible], _LEAST)
        for i in self.spare:
            if _over({**widths, self.flexible: least} if self.flexible in widths else widths, room) <= 0:
                break
            del widths[i]
        if self.flexible in widths:
            widths[self.flexible] = max(least, widths[self.flexible] - max(0, _over(widths, room)))
        while _over(widths, room) > 0 and max(widths.values()) > 1:
            widest = max(widths, key=lambda i: widths[i])
            widths[widest] -= 1
        return widths

    def _line(self, row: Sequence[tuple[str, str | None]], widths: dict[int, int], brush: Paint) -> str:
        parts = []
        last = max(widths)
        for i, width in widths.items():
            text, style = row[i]
            shown = clip(text, width, brush.ellipsis)
            pad = " " * (width - cells(shown))
            painted = brush(style, shown)
            parts.append(pad + painted if i in self.right else painted if i == last else painted + pad)
        return "  ".join(parts).rstrip(" ")


def _over(widths: dict[int, int], room: int) -> int:
    """Give how many columns of the terminal a line has too many."""
    return sum(widths.values()) + 2 * (len(widths) - 1) - room


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
