"""Draw the README's tour: type its commands into a real terminal, and write what it shows as SVG.

    .venv/bin/python tools/picture.py                # README.md → docs/pictures/tour.svg
    .venv/bin/python tools/picture.py --check        # is the picture of these very commands?

The commands are those of the first ``console`` block below the heading "A first tour".
They run in bash in tmux, with a home of their own that is deleted afterwards; tmux
knows what stands where in which colour. The SVG names no font that a viewer must
fetch, and each run of letters has its own place, so that any monospaced font does.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

from vigie.place import Place

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "pictures" / "tour.svg"
COLUMNS, LINES = 100, 200
_PATIENCE = 60.0

# Sizes in pixels of the drawing; a letter of most monospaced fonts is 0.6 of its height wide.
_SIZE, _WIDE, _HIGH, _EDGE, _BAR = 14, 8.4, 19, 16, 34
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_PAPER, _INK = "#16181d", "#d5d9e0"
_COLORS = dict(
    zip(range(30, 38), "#5c6370 #ef6b73 #98c379 #e5c07b #61afef #c678dd #56b6c2 #d5d9e0".split(), strict=True)
)


class Run(NamedTuple):
    """Letters of one look: where they begin, and which codes are on."""

    column: int
    text: str
    codes: frozenset[int]


def commands(readme: str) -> list[str]:
    """Give the commands of the tour."""
    found = re.search(r"^## A first tour$.*?^```console$(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit('picture: README.md has no console block below "A first tour"')
    return [line[2:] for line in found[1].splitlines() if line.startswith("$ ")]


class Terminal:
    """A bash in a tmux of its own; a command has ended when the next prompt is there."""

    def __init__(self, directory: str, home: str) -> None:
        self._tmux = ["tmux", "-S", os.path.join(directory, "tmux"), "-f", os.devnull]
        env = {
            "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}", "HOME": directory, "VIGIE_HOME": home,
            "LANG": "C.UTF-8", "TZ": "UTC", "TERM": "screen-256color",
        }  # fmt: skip
        ready = f"{shlex.join(self._tmux)} wait-for -S ready"
        rc = os.path.join(directory, "rc")
        Path(rc).write_text(
            f"PROMPT_COMMAND={shlex.quote(ready)}\nPS1='\\[\\e[32m\\]$\\[\\e[0m\\] '\n", encoding="utf-8"
        )
        size = ["-x", str(COLUMNS), "-y", str(LINES)]
        shell = shlex.join(
            ["env", "-i", *(f"{key}={value}" for key, value in env.items()), "bash", "--rcfile", rc, "-i"]
        )
        subprocess.run([*self._tmux, "new-session", "-d", *size, "-c", directory, shell], check=True, env=env)
        self._ready()

    def type(self, line: str) -> None:
        """Type a line and wait for its end."""
        self._do("send-keys", "-l", line)
        self._do("send-keys", "Enter")
        self._ready()

    def screen(self) -> str:
        """Give what the screen shows, with its colours."""
        return self._do("capture-pane", "-e", "-p")

    def close(self) -> None:
        """End it."""
        self._do("kill-server")

    def _ready(self) -> None:
        """Wait for the prompt: bash says that it is about to write one, and then it is there."""
        self._do("wait-for", "ready")
        deadline = time.monotonic() + _PATIENCE
        while not self.screen().rstrip("\n ").endswith("$\x1b[39m"):
            if time.monotonic() > deadline:
                raise SystemExit(f"picture: no prompt; the screen shows\n{self.screen()}")
            time.sleep(0.01)

    def _do(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], check=True, capture_output=True, text=True, timeout=_PATIENCE)
        return done.stdout


def shot(lines: list[str]) -> list[str]:
    """Type lines into a terminal, and give what it shows then, with its colours."""
    with tempfile.TemporaryDirectory(prefix="vigie-picture-") as directory, Place("vigie-tour-") as place:
        terminal = Terminal(directory, place.home.root)
        try:
            for line in lines:
                terminal.type(line)
            shown = terminal.screen().rstrip("\n").splitlines()
        finally:
            terminal.close()
    while shown and plain(shown[-1]).strip() in ("", "$"):
        shown.pop()
    return shown


_CODE = re.compile(r"\x1b\[([\d;]*)m")


def plain(line: str) -> str:
    """Give a line without its colours."""
    return _CODE.sub("", line)


def runs(line: str, codes: set[int]) -> Iterator[Run]:
    """Cut a line where its look changes; ``codes`` is what is on, from line to line."""
    column = 0
    for number, part in enumerate(_CODE.split(line)):
        if number % 2:
            for code in (int(word or 0) for word in part.split(";")):
                _switch(codes, code)
        elif part:
            # Spaces have no look, and viewers drop them.
            for word in re.finditer(r"\S+(?: \S+)*", part):
                yield Run(column + word.start(), word[0], frozenset(codes))
            column += len(part)


def _switch(codes: set[int], code: int) -> None:
    if code == 0:
        codes.clear()
    elif code in (22, 39):
        codes -= {1, 2} if code == 22 else set(_COLORS)
    elif code in _COLORS:
        codes -= set(_COLORS)
        codes.add(code)
    elif code in (1, 2):
        codes.add(code)


def _style(codes: frozenset[int]) -> str:
    color = next((_COLORS[code] for code in codes if code in _COLORS), None)
    style = f' fill="{color}"' if color else ""
    style += ' font-weight="bold"' if 1 in codes else ""
    return style + (' opacity=".6"' if 2 in codes else "")


def draw(shown: list[str]) -> str:
    """Give the SVG of a terminal that shows these lines."""
    width = round(max(len(plain(line)) for line in shown) * _WIDE) + 2 * _EDGE
    height = _BAR + len(shown) * _HIGH + _EDGE
    words = escape("\n".join(plain(line).rstrip() for line in shown))
    made = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        "<title>A first tour of Vigie in a terminal</title>",
        f"<desc>{words}</desc>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{_PAPER}"/>',
        *(
            f'<circle cx="{_EDGE + 6 + 20 * n}" cy="17" r="6" fill="{color}"/>'
            for n, color in enumerate(("#ef6b73", "#e5c07b", "#98c379"))
        ),
        f'<g font-family="{_FONTS}" font-size="{_SIZE}" fill="{_INK}" xml:space="preserve">',
    ]
    codes: set[int] = set()
    for number, line in enumerate(shown):
        y = _BAR + (number + 1) * _HIGH - 5
        for run in runs(line, codes):
            x, length = _EDGE + run.column * _WIDE, len(run.text) * _WIDE
            place = f'x="{x:.1f}" y="{y}" textLength="{length:.1f}"'
            made.append(f"<text {place}{_style(run.codes)}>{escape(run.text)}</text>")
    return "\n".join([*made, "</g>", "</svg>"]) + "\n"


def main() -> int:
    """Draw it, or check it."""
    parser = argparse.ArgumentParser(description="Draw the README's tour as docs/pictures/tour.svg.")
    parser.add_argument("--check", action="store_true", help="only say whether the picture shows these commands")
    args = parser.parse_args()
    typed = commands((ROOT / "README.md").read_text(encoding="utf-8"))
    if args.check:
        drawn = re.findall(r"^(?:<desc>)?\$ (.*?)(?:</desc>)?$", PICTURE.read_text(encoding="utf-8"), re.MULTILINE)
        if drawn != [escape(line) for line in typed]:
            print("picture: docs/pictures/tour.svg is not of the README's tour: run tools/picture.py")
            return 1
        return 0
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(draw(shot(typed)), encoding="utf-8")
    print(f"picture: {PICTURE.relative_to(ROOT)}, {PICTURE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
