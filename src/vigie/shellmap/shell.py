"""Lines for /bin/sh: ``vigie map --shell``, where items go into a program that a shell reads.

An item is quoted, so that the shell sees one argument, whatever bytes it has. That holds only where the
shell would read an argument: between quotes the quotes of an item would end those of the line, and
``echo "{}"`` would run the item ``$(reboot)``. So the line is read as far as a shell reads quotes, and a
replacement string that stands where quoting would not hold is refused. In doubt it is refused too.
"""

from __future__ import annotations

import os

from vigie.errors import UsageError
from vigie.shellmap.template import Each, Hole, check_positions, holes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ShellTemplate", "fill_shell", "quote"]

_NAME = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
#: What a shell takes as it is. No ``=``: ``A=b`` before a command is not an argument.
_SAFE = _NAME + b"-.+/"
_RESERVED = frozenset(b"case coproc do done elif else esac fi for function if in select then time until while".split())


def quote(item: bytes) -> bytes:
    """Give an item as a shell has to read it to get one argument of the same bytes; without quotes if it can be.

    >>> quote(b"a.txt"), quote(b"it's"), quote(b""), quote(b"A=b"), quote(b"do")
    (b'a.txt', b'\\'it\\'"\\'"\\'s\\'', b"''", b"'A=b'", b"'do'")
    """
    if item and not item.translate(None, _SAFE) and item not in _RESERVED:
        return item
    return _quoted(item)


def _quoted(item: bytes) -> bytes:
    return b"'%b'" % item.replace(b"'", b"'\"'\"'")


#: Where an item cannot stand, and what to do about it.
_ESCAPED = "behind a \\ or a $", "\\{\\} are the braces themselves"
_QUOTES = "in quotes", 'it is quoted by itself: put it outside of them, as in "name: "{}'
_BACKTICKS = "in `...`", "write $(...)"
_ARITHMETIC = "in arithmetic", "give it to a variable before: n={}; echo $((n + 1))"
_EXPANSION = "in ${...}", "give it to a variable before: name={}; echo ${name%.c}"
_COMMENT = "in a comment", "take it out"
_DOCUMENT = "behind a here-document", "put it before, or give it to a variable there"
_ANSI = "behind $'...', which not every shell has", "put it before, or write '...'"
_ARRAY = "behind an array, which not every shell has", "put it before"
_CASE = 'behind a case in "$(...)"', "put it before, or give it to a variable there"

_OBJECTIONS = {b"'": _QUOTES, b'"': _QUOTES, b"{": _EXPANSION, b"#": _COMMENT}
#: Behind which a # begins a comment.
_BLANKS = (b"", b" ", b"\t", b"\n", b";", b"&", b"|", b"(", b")")
_OPENERS = (b"$((", b"$(", b"${")


class _Reader:
    """Reads a line as a shell does, to tell what is open at a place of it: quotes, parentheses, a comment.

    ``((`` stands for arithmetic, ``(`` for commands, ``{`` for ``${``.
    """

    def __init__(self, line: bytes) -> None:
        self._line = line
        self._at = 0
        self._open: list[bytes] = []
        self._document = False
        #: Where the last escape ended.
        self._escaped = -1
        #: What makes all that follows uncertain.
        self._lost: tuple[str, str] | None = None

    def objection(self, start: int, end: int) -> tuple[str, str] | None:
        """Read on over a replacement string, and say where it stands if quoting does not hold there."""
        while self._at < start:
            self._at += self._step()
        behind = self._at > start
        self._at = end
        if behind:
            return _ESCAPED
        if self._lost or not self._open:
            return self._lost
        if b"`" in self._open:
            return _BACKTICKS
        if b"((" in self._open:
            return _ARITHMETIC
        return _OBJECTIONS.get(self._open[-1])

    def joint(self) -> int | None:
        """Read on to a backslash at the end of a line that joins it to the next one; give where it is."""
        while self._at < len(self._line):
            literal = self._document or self._open[-1:] in ([b"'"], [b"#"])
            if not literal and self._line.startswith(b"\\\n", self._at):
                return self._at
            self._at += self._step()
        return None

    def _step(self) -> int:
        """Read what comes next, and give how many bytes that is."""
        char = self._line[self._at : self._at + 1]
        top = self._open[-1] if self._open else b""
        if char == b"\n" and self._document and top not in (b"'", b'"', b"`"):
            self._lost = _DOCUMENT
        if top in (b"'", b"#"):
            if char == (b"'" if top == b"'" else b"\n"):
                self._open.pop()
        elif char == b"\\":
            self._escaped = self._at + 2
            return 2
        elif char == top and char in (b'"', b"`"):
            self._open.pop()
        elif top == b"`":
            pass
        elif char in (b'"', b"`"):
            self._open.append(char)
        elif char == b"$":
            return self._dollar()
        elif top != b'"':
            return self._plain(char, top)
        return 1

    def _dollar(self) -> int:
        for opener in _OPENERS:
            if self._line.startswith(opener, self._at):
                self._open.append(opener[1:])
                return len(opener)
        if self._line.startswith(b"$'", self._at) and self._open[-1:] != [b'"']:
            self._lost = _ANSI
        elif self._line.startswith(b"$[", self._at):
            self._lost = _ARITHMETIC
        return 1

    def _plain(self, char: bytes, top: bytes) -> int:
        """Read on where nothing is quoted."""
        line, at = self._line, self._at
        if char == b"'":
            if top == b"{" and b'"' in self._open:
                self._lost = _EXPANSION  # shells differ on whether that quotes
            self._open.append(char)
        elif char == b"(":
            if line[:at].endswith(b"="):
                self._lost = _ARRAY
            arithmetic = line.startswith(b"((", at)
            self._open.append(b"((" if arithmetic else b"(")
            return 1 + arithmetic
        elif char == b")" and top == b"((":
            self._open.pop()
            closed = line.startswith(b"))", at)
            if not closed:
                self._lost = _ARITHMETIC  # shells differ on what began there
            return 1 + closed
        elif char == b")" and top == b"(":
            self._open.pop()
            if b'"' in self._open and b"case" in line[:at]:
                self._lost = _CASE  # it may have been the end of a pattern
        elif char == b"}" and top == b"{":
            self._open.pop()
        elif char == b"#" and top != b"{" and at != self._escaped and line[at - 1 : at] in _BLANKS:
            self._open.append(char)
        elif line.startswith(b"<<", at) and top != b"((":
            if line.startswith(b"<<<", at):
                return 3
            self._document = True
            return 2
        return 1


def _joined(line: bytes) -> bytes:
    r"""Take out what joins lines, as a shell does before it reads anything else.

    >>> _joined(b"a \\\n b '\\\n'")
    b"a  b '\\\n'"
    """
    while (at := _Reader(line).joint()) is not None:
        line = line[:at] + line[at + 2 :]
    return line


class ShellTemplate:
    """A line for /bin/sh, cut up, that only lacks its items.

    Several items in the place of ``{}`` are several arguments; a position that there is no item for is
    nothing. Other than in a :class:`~vigie.shellmap.template.Template`, what is written next to ``{}`` is not
    repeated with each item: where a word begins and ends is the shell's to say.

    >>> line = ShellTemplate.parse(b"sort {} > {.}.sorted && echo {#}")
    >>> line.fill([b"the list.txt"], 1, 1)
    b"sort 'the list.txt' > 'the list'.sorted && echo 1"
    """

    __slots__ = ("_parts",)

    def __init__(self, parts: list[bytes | tuple[Hole, bool]]) -> None:
        self._parts = parts

    @classmethod
    def parse(cls, line: bytes, *, several: int = 0) -> ShellTemplate:
        """Cut up a line; without a replacement string the items come at its end.

        Parameters
        ----------
        several:
            How many items a command has at most: inputs times ``-n``; 0 when nobody knows, as with columns.

        Raises
        ------
        UsageError
            When a replacement string stands where an item could not be quoted, or for none of the items.
        """
        line = _joined(line)
        found = list(holes(line))
        if not found:
            line += b" {}"
            found = list(holes(line))
        check_positions([hole for _, _, hole in found], several)
        reader = _Reader(line)
        parts: list[bytes | tuple[Hole, bool]] = []
        done = 0
        for start, end, hole in found:
            objection = reader.objection(start, end)
            if objection is not None:
                where, hint = objection
                raise UsageError(f"{os.fsdecode(hole.text)} stands {where}: an item cannot be quoted there", hint)
            before = line[done:start]
            # A bare item would go on a variable's name ($x{}), or be the number of a descriptor ({}>file).
            joined = (done and not before) or before.rstrip(_NAME).endswith(b"$")
            bare = not joined and line[end : end + 1] not in (b"<", b">")
            parts += [before, (hole, bare)]
            done = end
        return cls([*parts, line[done:]])

    def fill(self, items: Sequence[bytes], seq: int, slot: int) -> bytes:
        """Give the line of one command; see :meth:`vigie.shellmap.template.Template.fill`."""
        pieces = []
        for part in self._parts:
            if isinstance(part, bytes):
                pieces.append(part)
                continue
            hole, bare = part
            write = quote if bare else _quoted
            turns = items if isinstance(hole, Each) else (b"",)
            values = [hole.value(item, items, seq, slot) for item in turns]
            pieces.append(b" ".join([write(value) for value in values if value is not None]))
        return b"".join(pieces)


def fill_shell(line: bytes, items: Sequence[bytes], seq: int, slot: int) -> bytes:
    """Put the items of one command into a line; for many commands :class:`ShellTemplate` reads it once.

    >>> fill_shell(b"cd {//} && gzip {/}", [b"a b/$HOME"], 1, 1)
    b"cd 'a b' && gzip '$HOME'"
    """
    return ShellTemplate.parse(line).fill(items, seq, slot)
