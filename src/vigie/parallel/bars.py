"""Bars on a terminal.

They stand under the line of the cursor, and drawing them does not move it. So what others
write to the terminal (workers, C libraries, the echo of keys) goes on where it was, and
how wide the window was when a bar was drawn need not be remembered: all below the cursor is
erased. What this process writes to the terminal takes the bars away first and puts them
back under it, so that many lines at once come out whole too.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable
from typing import ClassVar, TextIO

from vigie.parallel.pace import Shot, parts
from vigie.terminal import Paint, cells, clip, height, narrow, width

__all__ = ["Bar", "put"]


def put(stream: TextIO, text: str) -> None:
    """Write past the stream's buffer: what cannot be written must not fail again at the program's end."""
    try:
        file = stream.fileno()
    except (AttributeError, OSError, ValueError):
        stream.write(text)
        stream.flush()
        return
    stream.flush()
    data = text.encode(stream.encoding or "utf-8", "backslashreplace")
    while data:
        data = data[os.write(file, data) :]


class Bar:
    """One run on a terminal: a line with a bar, which rich draws.

    Parameters
    ----------
    lasting:
        The last state stays, even of a run within another one.
    """

    first = 0.0
    WIDEST, NARROWEST = 40, 8
    STYLES: ClassVar = {"count": "bold", "failed": "bold red", "time": "cyan", "note": "bold yellow"}
    #: What is left out first where the window is narrow.
    SPARE = ("rate", "running", "earlier")

    def __init__(self, stream: TextIO, *, lasting: bool) -> None:
        from rich.console import Console
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        self._made_bar, self._made_text = ProgressBar, Text
        self._stream = stream
        self._lasting = lasting
        self._paint = Paint(on=False, encoding=narrow(stream))
        self._console = Console(
            file=stream, force_jupyter=False, highlight=False, markup=False, emoji=False, legacy_windows=False
        )

    def gap(self, elapsed: float) -> float:
        return 0.1

    def show(self, shot: Shot) -> None:
        with _lock:
            screen = _screens.setdefault(self._stream, _Screen(self._stream))
        try:
            self._show(shot, screen)
        except BlockingIOError:
            raise
        except Exception:
            screen.remove(self)
            raise

    def _show(self, shot: Shot, screen: _Screen) -> None:
        drawn = self._drawn(shot)
        if not shot.ended:
            screen.show(self, drawn)
        elif self._lasting or shot.failed or shot.note or screen.alone(self):
            screen.leave(self, drawn, over=bool(shot.note))
        else:
            # One run within another: the outer one's bar tells what matters.
            screen.leave(self, "")

    def _drawn(self, shot: Shot) -> str:
        """Draw it as one line that fits the window."""
        room = width(self._stream) - 1
        between = self._paint.shown(" · ")
        label, said = self._fitted(shot, room, between)
        drawn = self._made_text(label and label + " ", end="", no_wrap=True)
        start = drawn.cell_len
        wide = min(self.WIDEST, room - start - _long(said, between) - 1)
        # Where no end is known, a bar only says that something goes on.
        if wide >= self.NARROWEST and (shot.total is not None or not shot.ended):
            bar = self._made_bar(shot.total, shot.done, width=wide, animation_time=shot.elapsed)
            for text, style, _ in self._console.render(bar, self._console.options.update(width=wide)):
                drawn.append(text, style)
            drawn.append(" " * (start + wide + 1 - drawn.cell_len))
        for at, (what, text) in enumerate(said):
            drawn.append(between if at else "", "dim")
            drawn.append(text, self.STYLES.get(what, ""))
        drawn.truncate(room)
        with self._console.capture() as captured:
            self._console.print(drawn, end="", width=room, soft_wrap=True)
        return captured.get()

    def _fitted(self, shot: Shot, room: int, between: str) -> tuple[str, list[tuple[str, str]]]:
        """Give the label and the parts for which there is room."""
        said = [(what, self._paint.shown(text)) for what, text in parts(shot)]
        if shot.total is not None:
            # The bar keeps its width while the count grows.
            said[0] = ("count", said[0][1].rjust(2 * len(f"{shot.total:,}") + 4))
        label = clip(self._paint.shown(shot.label), max(8, room // 3), self._paint.ellipsis)
        for spare in self.SPARE:
            if cells(label) + 1 + _long(said, between) <= room:
                break
            said = [part for part in said if part[0] != spare]
        if cells(label) + 1 + _long(said, between) > room:
            said[0] = ("count", said[0][1].lstrip())
        clipped = clip(label, max(0, room - 1 - _long(said, between)), self._paint.ellipsis)
        # A letter and an ellipsis say nothing.
        return (clipped if clipped == label or cells(clipped) > 3 else ""), said


def _long(said: list[tuple[str, str]], between: str) -> int:
    return cells(between.join(text for _, text in said))


# The terminal -----------------------------------------------------------------------

_lock = threading.RLock()
_screens: dict[TextIO, _Screen] = {}


class _Screen:
    """The bars that stand on a terminal, and what this process writes to it meanwhile."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._bars: dict[Bar, str] = {}
        #: What puts the bars there, empty if none should be; and whether they are there.
        self._under = ""
        self._standing = False
        #: What this process wrote last: unless it ended the line, something of it stands at the cursor.
        self._last = "\n"
        self._hooked: list[TextIO] = []

    def alone(self, bar: Bar) -> bool:
        """Tell whether no other bar stands here."""
        with _lock:
            return not self._bars.keys() - {bar}

    def show(self, bar: Bar, drawn: str) -> None:
        """Put a bar on the terminal, or draw it anew."""
        with _lock:
            if not self._bars:
                self._hook()
            self._bars[bar] = drawn
            self._draw("")

    def leave(self, bar: Bar, drawn: str, *, over: bool = False) -> None:
        """Take a bar away; what was drawn last stays as a line of its own, ``over`` what stands at the cursor."""
        with _lock:
            # Over the ^C of a person who interrupts, but never over what was printed.
            before = "\r\n\x1b[J" if self._last != "\n" else "\r\x1b[K" if over else ""
            self._last = "\n" if drawn else self._last
            self._bars.pop(bar, None)
            try:
                self._draw(f"{before}{drawn}\r\n\x1b[J" if drawn else "")
            finally:
                self.remove(bar)

    def remove(self, bar: Bar) -> None:
        """Forget a bar; the last one leaves the streams as they were."""
        with _lock:
            self._bars.pop(bar, None)
            if not self._bars:
                self.unhook()
                _screens.pop(self.stream, None)

    def _draw(self, above: str) -> None:
        """Draw all bars, under what is to stay above them."""
        lines = list(self._bars.values())[: max(0, height(self.stream) - 2)]
        ours = self._ours()
        self._under = _below(lines) if lines and ours else ""
        if ours:
            put(self.stream, above + self._rest() + _below(lines))
            self._standing = bool(lines)

    def _rest(self) -> str:
        """Give what erases the rest of the cursor's line, where a bar stood if others have written lines since."""
        # A line that is to be written over again has all of itself behind the cursor.
        return "" if self._last == "\r" else "\x1b[K"

    def _ours(self) -> bool:
        """Tell whether the terminal is ours to write to; it is not while the shell has us in the background."""
        try:
            return os.tcgetpgrp(self.stream.fileno()) == os.getpgrp()
        except (OSError, ValueError):
            return True  # not the terminal that controls us: nobody else may have it

    def _hook(self) -> None:
        """Let what this process writes to the terminal come above the bars.

        The streams themselves are told, not replaced: whoever holds one already, as handlers of
        ``logging`` do, is served too.
        """
        for stream in (self.stream, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            if isinstance(stream, io.TextIOWrapper) and "write" not in vars(stream) and self._same(stream):
                stream.write = self._writer(stream.write)  # type: ignore[method-assign]  # of this one alone
                self._hooked.append(stream)

    def _same(self, stream: TextIO) -> bool:
        try:
            return os.path.sameopenfile(stream.fileno(), self.stream.fileno())
        except (OSError, ValueError):
            return False

    def _writer(self, write: Callable[[str], int]) -> Callable[[str], int]:
        def above(text: str) -> int:
            with _lock:
                if not (self._under and text and isinstance(text, str)):
                    return write(text)
                before = self._rest() + _below([]) if self._standing else ""
                self._last = text[-1]
                # After part of a line the next drawing does, so that what is written bit by bit is written fast.
                self._standing = self._last == "\n"
                write(before + text + (self._under if self._standing else ""))
                return len(text)

        return above

    def unhook(self) -> None:
        """Let the streams be what they were."""
        self._under = ""
        for stream in self._hooked:
            del stream.write
        self._hooked.clear()


def _below(lines: list[str]) -> str:
    """Give what puts lines under the one of the cursor, in place of all that stands there.

    First room is made, by moving down, which scrolls at the last line and keeps the column, and up
    again. What comes then is between saving the cursor and its return, and wraps nowhere, should the
    window be narrower than we think. Erasing begins under the cursor's line: done at the very top of
    a window, some terminals keep what stood there for whoever scrolls back.
    """
    rows = max(1, len(lines))
    return "\x1bD" * rows + f"\x1b[{rows}A\x1b7\x1b[m\x1b[?7l\r\n\x1b[J" + "\r\n".join(lines) + "\x1b[?7h\x1b8"


def _forget() -> None:
    """In a forked child: the bars are the parent's."""
    global _lock
    _lock = threading.RLock()
    for screen in _screens.values():
        screen.unhook()
    _screens.clear()


os.register_at_fork(after_in_child=_forget)
