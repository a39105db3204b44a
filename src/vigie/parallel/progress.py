"""How far a run is, for whoever watches: a bar on a terminal, lines elsewhere, HTML in a notebook.

Nothing runs behind the caller's back: whoever does the work calls :meth:`Progress.update`
whenever it likes, which draws when that is due and else costs next to nothing.
"""

from __future__ import annotations

import atexit
import math
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol, TextIO

from vigie.errors import UsageError
from vigie.parallel.bars import Bar, put
from vigie.parallel.pace import Pace, Shot, line, parts
from vigie.terminal import Paint, clean, narrow

__all__ = ["Progress", "display"]

#: A run that ends within this (s) is not worth a display that nobody asked for.
SHORT = 0.5
#: The first look (s), and the longest time between two measurements.
FIRST, SAMPLE = 0.1, 1.0
#: Drawing may take one part in so many of the caller's time.
SHARE = 20
#: Set in worker processes, whose stderr is the terminal on which the caller's own bar stands.
WORKER = "VIGIE_MAP_WORKER"


# Where to show it ---------------------------------------------------------------------


class _Face(Protocol):
    """Where a run is shown; ``first``: seconds after its beginning."""

    first: float

    def gap(self, elapsed: float) -> float: ...
    def show(self, shot: Shot) -> None: ...


class _Lines:
    """A line now and then, for logs: ever more rarely, and each minute in the end."""

    first = 1.0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._paint = Paint(on=False, encoding=narrow(stream))

    def gap(self, elapsed: float) -> float:
        return min(60.0, max(4.0, elapsed / 2))

    def show(self, shot: Shot) -> None:
        put(self._stream, self._paint.shown(line(shot)) + "\n")


class _Cell:
    """An output of a notebook that is written anew."""

    first = 0.0
    STYLE = "font-variant-numeric: tabular-nums"

    def __init__(self) -> None:
        self._handle: Any = None

    def gap(self, elapsed: float) -> float:
        return 0.2

    def show(self, shot: Shot) -> None:
        bundle = {"text/plain": line(shot), "text/html": self._html(shot)}
        if self._handle is None:
            self._handle = import_module("IPython.display").display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def _html(self, shot: Shot) -> str:
        from html import escape

        if shot.total:
            bar = f'<progress value="{shot.done}" max="{shot.total}"></progress> '
        else:
            # One without a value never stands still.
            bar = "" if shot.ended else "<progress></progress> "
        told = " · ".join(f"<b>{escape(text)}</b>" if what == "failed" else escape(text) for what, text in parts(shot))
        label = escape(shot.label) + " " if shot.label else ""
        return f'<div style="{self.STYLE}">{label}{bar}{told}</div>'


# The run ----------------------------------------------------------------------------


class Progress:
    """Shows how far a run is; everything is done by the thread that calls.

    Parameters
    ----------
    label:
        What the run is, in a word or two.
    total:
        How many items there are; None: unknown. It may be set later.
    clock:
        Gives seconds that only grow.
    stream:
        Where to show it: a bar if it is a terminal that can, else lines. Default: the notebook that
        this runs in, else stderr.
    quiet:
        A run that ends within so many seconds is not shown at all.
    lasting:
        The last state stays even of a run within another one.

    >>> import io
    >>> out = io.StringIO()
    >>> progress = Progress("square", 3, clock=iter([0.0, 0.5, 2.0]).__next__, stream=out)
    >>> progress.update(done=2, failed=0, running=1)
    >>> progress.close("interrupted")
    >>> out.getvalue()
    'square: 2 of 3 · 1/s · interrupted after 2.0 s\\n'
    """

    def __init__(
        self, label: str, total: int | None, *, clock: Callable[[], float] = time.monotonic,
        stream: TextIO | None = None, quiet: float = 0.0, lasting: bool = True,
    ) -> None:  # fmt: skip
        self.total = total
        self._label = clean(label)
        self._clock = clock
        self._stream = stream
        self._quiet = quiet
        self._lasting = lasting
        self._process = os.getpid()
        self._face: _Face | None = None
        self._opened = self._closed = False
        self._counts = (0, 0, 0, 0)
        self._began = clock()
        self._pace = Pace(self._began)
        #: When to draw, and when there is anything to do at all.
        self._next = self._due = self._began + max(quiet, FIRST)

    def update(self, *, done: int, failed: int, running: int, earlier: int = 0) -> None:
        """Say how far the run is; call it as often as you like.

        Parameters
        ----------
        done:
            Items of which it is known what became: the failed and the earlier ones are among them.
        running:
            Items that are with the workers.
        earlier:
            Items that were done before this run; they do not make it faster.
        """
        self._counts = (done, failed, running, earlier)
        now = self._clock()
        if now >= self._due:
            self._look(now)

    def due(self) -> float:
        """Give the seconds until the next update would draw, ``inf`` if none will."""
        return max(0.0, self._next - self._clock())

    def close(self, note: str = "") -> None:
        """Show the last state, which stays; ``note`` says how the run ended if not well."""
        if self._closed:
            return
        self._closed = True
        self._next = self._due = math.inf
        now = self._clock()
        if self._opened or now - self._began >= self._quiet:
            self._draw(self._shot(now, ended=True, note=clean(note)))
        atexit.unregister(self.close)

    def _look(self, now: float) -> None:
        """Measure, and draw if it is time."""
        done, _, _, earlier = self._counts
        self._pace.seen(now, done - earlier)
        if not self._opened:
            # Whoever leaves a run unfinished gets a clean terminal back.
            atexit.register(self.close)
            self._open()
            self._next = max(now, self._began + self._face.first) if self._face else math.inf
        if now >= self._next:
            begun = self._clock()
            self._draw(self._shot(now))
            if self._face:
                self._next = now + max(self._face.gap(now - self._began), SHARE * (self._clock() - begun))
        self._due = min(self._next, now + SAMPLE) if self._face else math.inf

    def _shot(self, now: float, *, ended: bool = False, note: str = "") -> Shot:
        done, failed, running, earlier = self._counts
        elapsed = now - self._began
        total = self.total if self.total is None or done <= self.total else None
        if ended:
            ours = done - earlier
            rate = ours / elapsed if ours and elapsed > 0 else None
            return Shot(self._label, total, done, failed, running, earlier, elapsed, rate, None, ended, note)
        rate = self._pace.rate(now, running)
        left = None if total is None else self._pace.left(now, total - done, running)
        return Shot(self._label, total, done, failed, running, earlier, elapsed, rate, left)

    def _draw(self, shot: Shot) -> None:
        """Show it; what cannot be shown must not cost anybody a run."""
        self._open()
        if self._face is None or self._process != os.getpid():
            return  # a forked child has a copy of what it does not run
        try:
            self._face.show(shot)
        except BlockingIOError:
            pass  # a terminal that does not keep up; the next one may go through
        except Exception:
            self._face, self._next = None, math.inf

    def _open(self) -> None:
        if self._opened:
            return
        self._opened = True
        try:
            self._face = _face(self._stream, lasting=self._lasting)
        except Exception:
            self._face = None


def _face(stream: TextIO | None, *, lasting: bool) -> _Face | None:
    """Choose where to show a run."""
    if stream is None and _in_notebook():
        return _Cell()
    stream = sys.stderr if stream is None else stream
    if stream is None:
        return None  # stderr was closed when Python began
    if not _is_terminal(stream) or os.environ.get("TERM", "dumb") in ("", "dumb", "unknown") or WORKER in os.environ:
        return _Lines(stream)
    return Bar(stream, lasting=lasting)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False  # it is closed


def _in_notebook() -> bool:
    """Tell whether a kernel shows what this process displays; IPython is not loaded to find out."""
    ask = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = ask() if ask is not None else None
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


def display(choice: bool | str | None, label: str, total: int | None) -> Progress | None:
    """Give what shows a run, None if nothing does.

    Parameters
    ----------
    choice:
        True: always show it. A text: so too, under that label. False: never. None: on a terminal or
        in a notebook, if it takes longer than half a second.

    Raises
    ------
    UsageError
        When ``choice`` is anything else.

    >>> display(False, "square", 1000) is None
    True
    """
    if choice is not None and not isinstance(choice, (bool, str)):
        raise UsageError(f"progress is {choice!r}: it is True, False, None or a text")
    if choice is False:
        return None
    if choice is None:
        if WORKER in os.environ or not (_in_notebook() or _is_terminal(sys.stderr)):
            return None
        return Progress(label, total, quiet=SHORT, lasting=False)
    return Progress(choice if isinstance(choice, str) else label, total)
