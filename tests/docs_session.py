"""Runs the examples of a document as a reader would, from top to bottom.

A ``console`` block holds what a terminal shows: lines that begin with ``$ `` are
typed into one shell (``> `` continues a command), and what stands below each is
what it prints. A ``python`` block runs in one Python process, as a prompt's session
where it begins with ``>>>``. A block of any language whose first line is ``# NAME``
with an extension is a file, saved under that name. Blocks of other languages are
not run.

What varies from run to run is compared by its form alone: times of day, dates,
durations, sizes, process ids, and how many spaces stand between columns; ``…``
stands for anything, and a line of ``…`` alone for any lines. Commands write to a
terminal of 100 columns, since Vigie tells people more than programs.

``python tests/docs_session.py --write FILE…`` puts real output where the text of a
document does not match it.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

#: Seconds for one command; none takes anywhere near.
PATIENCE = 60.0
PERSON = "/home/eve"
STATE = f"{PERSON}/.local/state/vigie"


# Reading a document ---------------------------------------------------------------


@dataclass
class Block:
    """A fenced block: its language, its lines, and the number of the first one (from 0)."""

    language: str
    lines: list[str]
    line: int

    @property
    def file(self) -> str | None:
        """The name under which the block is saved, if it is a file."""
        found = re.fullmatch(r"# ([\w.-]+\.\w+)", self.lines[0]) if self.lines else None
        return found[1] if found and self.language != "console" else None


@dataclass
class Command:
    """One command of a console block with the output that the document shows."""

    text: str
    line: int
    first_output: int
    shown: list[str] = field(default_factory=list)


def blocks(text: str) -> Iterator[Block]:
    """Give the fenced blocks of a Markdown text."""
    inside: Block | None = None
    for number, line in enumerate(text.splitlines()):
        if inside is None:
            if line.startswith("```"):
                inside = Block(line[3:].strip(), [], number + 1)
        elif line.startswith("```"):
            yield inside
            inside = None
        else:
            inside.lines.append(line)


def commands(block: Block) -> list[Command]:
    """Cut a console block into commands and their output."""
    made: list[Command] = []
    typed = False
    for number, line in enumerate(block.lines, block.line):
        if line.startswith("$ "):
            made.append(Command(line[2:], number, number + 1))
            typed = True
        elif typed and (line.startswith("> ") or line == ">"):
            made[-1].text += "\n" + line[2:]
            made[-1].first_output = number + 1
        elif not made:
            raise AssertionError(f"line {number + 1}: a console block begins with a command: {line}")
        else:
            made[-1].shown.append(line)
            typed = False
    return made


# Comparing ------------------------------------------------------------------------

_FORMS = [
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?([+-]\d\d:\d\d)?|\b\d\d:\d\d:\d\d(\.\d+)?"), "<time>"),
    (re.compile(r"\b\d{8}-\d{6}\b"), "<time>"),
    (re.compile(r'("(?:duration|cpu_seconds|peak_rss|pid|started|size)"): [\d.]+'), r"\1: <number>"),
    (re.compile(r"\b\d+(\.\d+)? ?(B|KiB|MiB|GiB)\b"), "<size>"),
    (re.compile(r"\b(\d+(\.\d+)?(us|ms|s|m|h|d))+\b( ago)?|\bjust now\b"), "<duration>"),
    (re.compile(r"\b(pid|processes) \d+"), r"\1 <number>"),
    (re.compile(r"\bpts/\d+"), "pts/<number>"),
]


def form(text: str) -> str:
    """Give a text with what varies replaced by its form."""
    for pattern, name in _FORMS:
        text = pattern.sub(name, text)
    return re.sub(r"[ \t]+", " ", text).strip()


def matches(shown: list[str], real: list[str]) -> bool:
    """Tell whether real output is what a document shows.

    >>> matches(["1  done  5ms", "…"], ["1 done  7.5ms", "2 done", ""])
    True
    >>> matches(["a … c"], ["a c"]), matches(["a"], ["a", "b"])
    (False, False)
    """
    pattern = ""
    for line in [form(line) for line in _trimmed(shown)]:
        pattern += "(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + "\n"
    text = "".join(form(line) + "\n" for line in _trimmed(real))
    return re.fullmatch(pattern, text) is not None


def _trimmed(lines: list[str]) -> list[str]:
    """Drop empty lines at the end: a document need not show them."""
    lines = list(lines)
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


# Running --------------------------------------------------------------------------

# Statements run in the module itself, so that functions defined there look like a person's.
_DRIVER = """
import sys
def _serve():
    import io, json, traceback
    answers = sys.stdout
    sys.path.insert(0, "")
    for request in sys.stdin:
        source, kind, name = json.loads(request)
        sys.stdout = io.StringIO()
        trouble = None
        try:
            exec(compile(source, name, kind), sys.modules["__main__"].__dict__)
        except BaseException:
            trouble = traceback.format_exc()
        answers.write(json.dumps([sys.stdout.getvalue(), trouble]) + "\\n")
        answers.flush()
_serve()
"""


class Session:
    """A shell on a terminal and a Python process, both in a directory of the document's own.

    Parameters
    ----------
    directory:
        The person's ``HOME``, empty.
    home:
        The ``VIGIE_HOME``.
    """

    def __init__(self, directory: str, home: str) -> None:
        self.directory = os.path.realpath(directory)
        self.home = os.path.realpath(home)
        programs = os.path.dirname(sys.executable)
        self.env = {
            "HOME": self.directory, "VIGIE_HOME": self.home, "PATH": f"{programs}:{os.environ['PATH']}",
            "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "100", "LANG": "C.UTF-8", "USER": "eve", "LOGNAME": "eve",
            "SHELL": "/bin/bash", "TZ": "UTC",
        }  # fmt: skip
        # Where a person finds it who has set nothing.
        os.makedirs(os.path.join(self.directory, ".local", "state"))
        os.symlink(self.home, os.path.join(self.directory, ".local", "state", "vigie"))
        self._terminal, theirs = pty.openpty()
        attributes = termios.tcgetattr(theirs)
        attributes[1] &= ~termios.OPOST
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        termios.tcsetwinsize(theirs, (40, 100))
        self._ends, ending = os.pipe()
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, cwd=self.directory, env=self.env,
            pass_fds=[ending], start_new_session=True,
        )  # fmt: skip
        self._python: subprocess.Popen[str] | None = None
        self._ending = ending
        self._their_end = theirs
        if len(os.sched_getaffinity(0)) < 2:
            # The documents' jobs go side by side in twos.
            self.type("vigie queue set default --slots 2")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in (self._shell, self._python):
            if process is None:
                continue
            assert process.stdin is not None
            process.stdin.close()
            process.wait(PATIENCE)
        if self._python is not None and self._python.stdout is not None:
            self._python.stdout.close()
        for fd in (self._terminal, self._their_end, self._ends, self._ending):
            os.close(fd)

    def type(self, command: str) -> list[str]:
        """Run a command in the shell and give the lines that the terminal shows."""
        script = os.path.join(os.path.dirname(self.directory), "typed")
        Path(script).write_text(command + "\n", encoding="utf-8")
        assert self._shell.stdin is not None
        # The end is told on a pipe of its own: nothing of it mixes with the output.
        end = self._ending
        line = f". {script} </dev/null {end}>&-; ended=$?; echo >&{end}; (exit $ended)\n"
        self._shell.stdin.write(line.encode())
        self._shell.stdin.flush()
        poll = select.poll()
        poll.register(self._terminal, select.POLLIN)
        poll.register(self._ends, select.POLLIN)
        shown = b""
        ended = False
        while True:
            ready = [fd for fd, _ in poll.poll(0 if ended else PATIENCE * 1000)]
            if self._terminal in ready:
                shown += os.read(self._terminal, 65536)
            elif self._ends in ready:
                os.read(self._ends, 100)
                ended = True
            elif ended:
                return self._lines(shown.decode("utf-8", "replace"))
            else:
                raise AssertionError(f"no end of {command!r} in {PATIENCE:g} s; so far:\n{shown!r}")

    def _lines(self, text: str) -> list[str]:
        return text.replace(self.home, STATE).replace(self.directory, PERSON).splitlines()

    def python(self, source: str, kind: str, name: str) -> tuple[list[str], str | None]:
        """Run statements in the Python process; give what they print, and the traceback or None."""
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-c", _DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                cwd=self.directory, env=self.env,
            )  # fmt: skip
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.write(json.dumps([source, kind, name]) + "\n")
        self._python.stdin.flush()
        printed, trouble = json.loads(self._python.stdout.readline() or '["", "Python ended"]')
        return self._lines(printed), None if trouble is None else "\n".join(self._lines(trouble))

    def save(self, block: Block) -> None:
        """Save a block that is a file."""
        assert block.file is not None
        path = Path(self.directory, block.file)
        # A shell script's first line is its interpreter's.
        body = block.lines[1:] if block.lines[1:2] and block.lines[1].startswith("#!") else block.lines
        path.write_text("\n".join(body) + "\n", encoding="utf-8")
        if block.file.endswith(".sh"):
            path.chmod(0o755)


@dataclass
class Difference:
    """A place where a document says something else than what happens."""

    line: int
    what: str
    shown: list[str]
    real: list[str]
    end: int = 0

    def __str__(self) -> str:
        shown, real = ("\n".join(f"    {line}" for line in lines) for lines in (self.shown, self.real))
        return f"line {self.line + 1}: {self.what}\n  the document shows\n{shown}\n  and it prints\n{real}"


def differences(text: str, session: Session) -> Iterator[Difference]:
    """Run a document and give what does not match."""
    for block in blocks(text):
        if block.file is not None:
            session.save(block)
        elif block.language == "console":
            for command in commands(block):
                real = session.type(command.text)
                if not matches(command.shown, real):
                    yield Difference(command.first_output, command.text, command.shown, real)
        elif block.language == "python":
            yield from _python(block, session)


def _python(block: Block, session: Session) -> Iterator[Difference]:
    source = "\n".join(block.lines) + "\n"
    if ">>> " not in source:
        _, trouble = session.python("\n" * block.line + source, "exec", "document")
        if trouble is not None:
            yield Difference(block.line, block.lines[0], [], trouble.splitlines())
        return
    import doctest

    for example in doctest.DocTestParser().get_examples(source):
        printed, trouble = session.python(example.source, "single", "document")
        real = printed if trouble is None else [trouble.splitlines()[-1]]
        shown = example.want.splitlines() if example.exc_msg is None else [example.exc_msg.splitlines()[-1]]
        if not matches(shown, real):
            first = block.line + example.lineno + example.source.count("\n")
            yield Difference(first, example.source.rstrip(), example.want.splitlines(), real)


def rewritten(text: str, found: list[Difference]) -> str:
    """Give a document with real output in the place of what did not match."""
    lines = text.splitlines()
    for one in sorted(found, key=lambda one: one.line, reverse=True):
        lines[one.line : one.line + len(one.shown)] = _trimmed(one.real)
    return "\n".join(lines) + "\n"


def main() -> int:
    """Compare documents with what happens; with ``--write``, write what happens into them."""
    from conftest import HomeUnderTest

    write = "--write" in sys.argv
    bad = 0
    for name in [word for word in sys.argv[1:] if not word.startswith("-")]:
        home = HomeUnderTest(tempfile.mkdtemp(prefix="vg-"))
        os.mkdir(home.user)
        text = Path(name).read_text(encoding="utf-8")
        try:
            with Session(home.user, home.root) as session:
                found = list(differences(text, session))
        finally:
            left = home.end()
            subprocess.run(["rm", "-rf", home.top], check=True)
        print(f"{name}: {len(found)} differences{', left running: ' + str(left) if left else ''}")
        bad += len(found)
        for one in found:
            print(one)
        if write and found:
            Path(name).write_text(rewritten(text, found), encoding="utf-8")
    return 1 if bad and not write else 0


if __name__ == "__main__":
    sys.exit(main())
