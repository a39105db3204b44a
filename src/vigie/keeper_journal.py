"""The keeper's journal: what it knows of each mark, so that a successor knows it too.

One JSON line an entry, one ``write`` each, no fsync: it outlives a kill, and a
power cut ends every process that it speaks of. Reading is pure (bytes to a
:class:`State`); :class:`Journal` does the writing. The first line names the
boot. A later entry about a mark replaces what the earlier ones said; ``forget``
ends it. Lines that are no entry, such as a torn last one, say nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable

from vigie.crash import point

__all__ = ["Journal", "State", "entry", "replay", "whole"]

#: One mark's newest entry: its kind in "k", the mark in "mark", and more.
Entry = dict[str, object]

#: How late a mark is in its life; an entry never takes it back.
_ORDER = {"begin": 0, "started": 1, "failed": 2, "lost": 2, "ended": 3}
#: What an entry, with those before it, must hold to be acted on: names of numbers, names of others.
_BEGUN = ("pid", "ticks", "at", "mono")
_HOLDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "begin": (("since",), ()),
    "started": (_BEGUN, ()),
    "ended": ((*_BEGUN, "ended_at", "ended_mono"), ("exit_code", "signal", "core", "known", "cpu", "peak_rss")),
    "failed": (("errno",), ("error", "message", "what")),
    "lost": ((), ()),
}
#: Rewriting pays when the file has this many lines, most of them dead.
_MANY = 512

_dumps = json.JSONEncoder(separators=(",", ":")).encode


class State:
    """What a journal says: the boot it was written in and the newest entry of each mark."""

    __slots__ = ("boot", "good", "lines", "marks")

    def __init__(self) -> None:
        self.boot: str | None = None
        self.marks: dict[str, Entry] = {}
        #: Lines read, and the bytes they fill; a torn line follows behind.
        self.lines = 0
        self.good = 0

    def apply(self, said: Entry) -> None:
        """Take one entry into account; unknown kinds say nothing."""
        kind = said.get("k")
        if kind == "boot":
            self.boot = str(said.get("boot"))
        elif kind == "forget":
            marks = said.get("marks")
            for mark in marks if isinstance(marks, list) else ():
                self.marks.pop(str(mark), None)
        elif kind == "main":
            known = self.marks.get(str(said.get("mark")))
            if known is not None and known["k"] == "started" and whole(known):
                self.marks[str(said["mark"])] = {
                    **known,
                    "pid": said.get("pid"),
                    "ticks": said.get("ticks"),
                    "main": True,
                }
        elif isinstance(kind, str) and kind in _ORDER and isinstance(said.get("mark"), str):
            mark = str(said["mark"])
            before = self.marks.get(mark)
            if before is None:
                self.marks[mark] = said
            elif _ORDER[kind] > _ORDER[str(before["k"])]:
                # `ended` keeps the beginning that `started` told.
                self.marks[mark] = {**before, **said}


def whole(said: Entry) -> bool:
    """Tell whether an entry has what those who act on it need; that of a damaged file may not.

    >>> whole({"k": "started", "mark": "7.1", "pid": 9})
    False
    """
    numbers, others = _HOLDS[str(said["k"])]
    return all(isinstance(said.get(name), int) for name in numbers) and all(name in said for name in others)


def entry(kind: str, **fields: object) -> bytes:
    """Encode one line.

    >>> entry("begin", mark="7.1")
    b'{"k":"begin","mark":"7.1"}\\n'
    """
    return _line({"k": kind, **fields})


def _line(said: Entry) -> bytes:
    return _dumps(said).encode() + b"\n"


def replay(data: bytes) -> State:
    """Read a journal's bytes.

    >>> state = replay(entry("begin", mark="7.1") + entry("started", mark="7.1", pid=9) + b'{"k":"en')
    >>> state.marks["7.1"]["pid"], state.lines
    (9, 2)
    """
    state = State()
    end = data.rfind(b"\n") + 1
    for line in data[:end].splitlines():
        state.lines += 1
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(line)
            if isinstance(said, dict):
                state.apply(said)
    state.good = end
    return state


class Journal:
    """Appends to the journal at ``path``, and rewrites it when most of it is forgotten.

    Parameters
    ----------
    path:
        The file; made with mode 0600.
    boot:
        This boot's id. What an earlier boot left open becomes ``lost``.

    Attributes
    ----------
    marks:
        The newest entry of each mark that is not forgotten.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/journal"
    >>> Journal(path, "boot").append("begin", mark="7.1")
    >>> Journal(path, "boot").marks["7.1"]["k"]
    'begin'
    >>> Journal(path, "another boot").marks["7.1"]["k"]
    'lost'
    """

    def __init__(self, path: str, boot: str) -> None:
        self.path = path
        self.boot = boot
        self._fd = -1
        data = b""
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            data = file.read()
        state = replay(data)
        self._state = state
        self._size = state.good
        if state.boot == boot:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            os.ftruncate(self._fd, state.good)
        else:
            for mark, said in state.marks.items():
                if said["k"] in ("begin", "started"):
                    state.marks[mark] = {"k": "lost", "mark": mark}
            state.boot = boot
            self.compact()

    @property
    def marks(self) -> dict[str, Entry]:
        """The newest entry of each mark that is not forgotten."""
        return self._state.marks

    @property
    def lines(self) -> int:
        """Lines in the file."""
        return self._state.lines

    def append(self, kind: str, **fields: object) -> None:
        """Write one entry, whole or not at all.

        Memory has it even when the file could not take it.

        Raises
        ------
        OSError
            The file cannot be written: a full disk, say.
        """
        said: Entry = {"k": kind, **fields}
        self._state.apply(said)
        line = _line(said)
        try:
            written = os.write(self._fd, line)
        except OSError:
            written = 0
            raise
        finally:
            # Half a line would swallow the next one.
            if written not in (0, len(line)):
                os.ftruncate(self._fd, self._size)
        if written != len(line):
            raise OSError(28, os.strerror(28), self.path)
        self._size += written
        self._state.lines += 1

    def forget(self, marks: Iterable[str]) -> None:
        """Drop marks whose end the agent has committed.

        Raises
        ------
        OSError
            As :meth:`append`.
        """
        known = [mark for mark in marks if mark in self._state.marks]
        if not known:
            return
        self.append("forget", marks=known)
        if self._state.lines > max(_MANY, 4 * len(self._state.marks)):
            self.compact()

    def compact(self) -> None:
        """Rewrite the file with what is not forgotten; a crash leaves the old one or the new.

        Raises
        ------
        OSError
            The directory cannot be written; the old file stays in use.
        """
        marks = self._state.marks
        data = b"".join([entry("boot", boot=self.boot), *(_line(said) for said in marks.values())])
        temporary = self.path + ".new"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            point("keeper-before-rename")
            os.rename(temporary, self.path)
            point("keeper-after-rename")
        except BaseException:
            os.close(fd)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._size = len(data)
        self._state.lines = len(marks) + 1

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
