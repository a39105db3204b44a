"""What the demo shows: each command as one would type it, then what it really says."""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

from vigie.errors import VigieError
from vigie.terminal import clip, paint, width

if TYPE_CHECKING:
    from vigie.cli.context import Context

__all__ = ["Broken", "Stage", "program"]

#: Seconds for one command of the demo.
_LONGEST = 60.0
#: Seconds between two lines of progress where no line can be written anew.
_RARELY = 0.7
#: How ``vigie`` ends when nobody reads what it writes.
_NOBODY_READS = 141


class Broken(VigieError):
    """A promise did not hold."""


def program() -> list[str]:
    """Give the words that call this very ``vigie``, with its full path."""
    called = os.path.abspath(sys.argv[0]) if os.sep in sys.argv[0] else shutil.which(sys.argv[0]) or ""
    beside = os.path.join(os.path.dirname(sys.executable), "vigie")
    for path in (called, beside):
        if os.path.basename(path) == "vigie" and os.access(path, os.X_OK) and os.path.isfile(path):
            return [path]
    return [sys.executable, "-m", "vigie"]


class Stage:
    """Prints the demo, and runs what it prints.

    Parameters
    ----------
    out:
        Where to. On a terminal there are colours and a line of progress that is
        written anew; elsewhere plain lines.
    """

    def __init__(self, out: Context) -> None:
        self.out = out
        self.paint = paint(out)
        # Before the working directory changes under a relative path.
        self.program = program()
        self._lively = out.is_tty and os.environ.get("TERM", "dumb") != "dumb"
        self._told = 0.0
        self._live = ""

    @property
    def columns(self) -> int:
        """The room for a line of prose."""
        return max(20, min(78, width(self.out.stdout) - 1))

    def scene(self, title: str, text: str = "") -> None:
        """Begin a part of the story."""
        self.line()
        self.line(self.paint("bold", title))
        if text:
            self.tell(text)

    def tell(self, text: str) -> None:
        """Say something in prose."""
        for line in textwrap.wrap(text, self.columns, break_long_words=False, break_on_hyphens=False):
            self.line(self.paint("dim", line))

    def line(self, text: str = "") -> None:
        """Print a line as it is; a line of progress before it gives way."""
        self.settle()
        self.out.print(text)
        self.out.stdout.flush()

    def typed(self, line: str, mark: str = "$") -> None:
        """Print a line as one would type it."""
        self.line(f"{self.paint('green', mark)} {self.paint('bold', line)}")

    def vigie(self, *words: str, expect: int = 0) -> None:
        """Type ``vigie …``, run it, and let it speak for itself.

        Raises
        ------
        Broken
            When it ends with another exit code than expected.
        """
        self.typed(shlex.join(["vigie", *words]))
        try:
            done = subprocess.run([*self.program, *words], stdin=subprocess.DEVNULL, timeout=_LONGEST, check=False)
        except subprocess.TimeoutExpired:
            raise Broken(f"vigie {words[0]} did not end within {_LONGEST:.0f} s") from None
        if done.returncode == _NOBODY_READS:
            raise BrokenPipeError
        if done.returncode != expect:
            raise Broken(f"vigie {shlex.join(words)} ended with {done.returncode}, not with {expect}")

    def python(self, text: str, names: dict[str, Any]) -> None:
        """Type lines of Python and run them, in ``names``; what a single expression gives is shown."""
        for line in text.splitlines():
            self.typed(line, "..." if line.startswith(" ") else ">>>")
        tree = ast.parse(text)
        if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
            self.line(repr(eval(text, names)))  # noqa: S307 - the line just shown
        else:
            exec(compile(tree, "<demo>", "exec"), names)  # noqa: S102 - the lines just shown

    def progress(self, text: str) -> None:
        """Say how far something is: over the last such line, or now and then."""
        if self._lively:
            self.out.stdout.write("\r" + self.paint("cyan", clip("  " + text, width(self.out.stdout) - 1)) + "\x1b[K")
            self.out.stdout.flush()
            self._live = text
        elif time.monotonic() - self._told >= _RARELY:
            self._told = time.monotonic()
            self.out.print("  " + text)
            self.out.stdout.flush()

    def settle(self) -> None:
        """Leave the line of progress as it is, and go on below it."""
        if self._live:
            self._live = ""
            self.out.stdout.write("\n")
