"""Replacement strings: from the words of a command and its items to an argv.

``{}`` is the item, ``{.}`` it without its extension, ``{/}`` its last part, ``{//}`` its directory, ``{/.}``
its last part without extension; ``{2}``, ``{2/}``, ``{-1}`` and so on are one item of several, counted from
the front or from the back; ``{#}`` is the number of the command, ``{%}`` that of its slot. They are those of
GNU parallel, and so is what they give, but nothing here ever passes through a shell: an item is an argument,
or a part of one, whatever bytes it has. (Lines for a shell: ``vigie.shellmap.shell``.)

Words are cut up once; most commands are some words, the items, and some more words.
"""

from __future__ import annotations

import os

from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Change = Callable[[bytes], bytes]

__all__ = ["Each", "Hole", "Template", "check_positions", "holes"]


def _whole(item: bytes) -> bytes:
    return item


def _stem(item: bytes) -> bytes:
    dot = item.rfind(b".")
    return item if dot < 0 or item.find(b"/", dot) >= 0 else item[:dot]


def _name(item: bytes) -> bytes:
    return item[item.rfind(b"/") + 1 :]


def _name_stem(item: bytes) -> bytes:
    return _stem(_name(item))


def _directory(item: bytes) -> bytes:
    body = item.rstrip(b"/")
    if not body:
        return b"/" if item else b"."
    cut = body.rfind(b"/")
    return b"." if cut < 0 else body[:cut].rstrip(b"/") or b"/"


_CHANGES = {b"": _whole, b".": _stem, b"/": _name, b"//": _directory, b"/.": _name_stem}


class Hole:
    """A replacement string: what stands for something that each command has its own of."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    def value(self, item: bytes, items: Sequence[bytes], seq: int, slot: int) -> bytes | None:
        """Give what it stands for; None when there is no such item.

        Parameters
        ----------
        item:
            The item that is in turn, for those that stand for each one.
        """
        raise NotImplementedError


class Each(Hole):
    """``{}``, ``{/}`` and the like: each item in turn."""

    __slots__ = ("change",)

    def __init__(self, text: bytes, change: Change) -> None:
        super().__init__(text)
        self.change = change

    def value(self, item: bytes, items: Sequence[bytes], seq: int, slot: int) -> bytes | None:
        return self.change(item)


class _Place(Hole):
    """``{2}``, ``{-1/}`` and the like: one item of several."""

    __slots__ = ("change", "number")

    def __init__(self, text: bytes, change: Change, number: int) -> None:
        super().__init__(text)
        self.change = change
        self.number = number

    def value(self, item: bytes, items: Sequence[bytes], seq: int, slot: int) -> bytes | None:
        number = self.number
        if abs(number) > len(items):
            return None
        return self.change(items[number - 1 if number > 0 else number])


class _Sequence(Hole):
    __slots__ = ()

    def value(self, item: bytes, items: Sequence[bytes], seq: int, slot: int) -> bytes | None:
        return b"%d" % seq


class _Slot(Hole):
    __slots__ = ()

    def value(self, item: bytes, items: Sequence[bytes], seq: int, slot: int) -> bytes | None:
        return b"%d" % slot


def _hole(text: bytes) -> Hole | None:
    """Read what might be a replacement string, with its braces."""
    body = text[1:-1]
    if body in _CHANGES:
        return Each(text, _CHANGES[body])
    if body == b"#":
        return _Sequence(text)
    if body == b"%":
        return _Slot(text)
    number = body.rstrip(b"./")
    change = _CHANGES.get(body[len(number) :])
    # More digits than any position has, and int() has a limit of its own.
    if change is None or len(number) > 9 or not number.removeprefix(b"-").isdigit() or not int(number):
        return None
    return _Place(text, change, int(number))


def holes(text: bytes) -> Iterator[tuple[int, int, Hole]]:
    """Find the replacement strings of a text: where each begins, where it ends, and what it is.

    >>> [(start, end) for start, end, _ in holes(b"{a} {{1/}} {}")]
    [(5, 9), (11, 13)]
    """
    end = text.find(b"}")
    start = 0
    while end >= 0:
        start = text.rfind(b"{", start, end)
        found = None if start < 0 else _hole(text[start : end + 1])
        if found is not None:
            yield start, end + 1, found
        start = end + 1
        end = text.find(b"}", start)


def check_positions(found: Sequence[Hole], several: int) -> None:
    """Refuse a replacement string that no command has an item for.

    Parameters
    ----------
    several:
        How many items a command has at most; 0 when nobody knows.

    Raises
    ------
    UsageError
        When there is one.
    """
    for hole in found:
        if several and isinstance(hole, _Place) and abs(hole.number) > several:
            many = "one item" if several == 1 else f"{several} items"
            raise UsageError(
                f"{os.fsdecode(hole.text)}: a command has {many}",
                "more come by -n, by another ::: or by --colsep",
            )


class _Word:
    """A word with replacement strings in it."""

    __slots__ = ("each", "parts")

    def __init__(self, parts: list[bytes | Hole]) -> None:
        self.parts = parts
        self.each = any(isinstance(part, Each) for part in parts)

    @classmethod
    def cut(cls, word: bytes) -> _Word | bytes:
        """Cut a word up; if it has no replacement string it is given back."""
        parts: list[bytes | Hole] = []
        done = 0
        for start, end, hole in holes(word):
            if start > done:
                parts.append(word[done:start])
            parts.append(hole)
            done = end
        if not parts:
            return word
        if done < len(word):
            parts.append(word[done:])
        return cls(parts)

    @property
    def plain(self) -> bool:
        """Whether it is nothing but the items."""
        return len(self.parts) == 1 and isinstance(self.parts[0], Each) and self.parts[0].text == b"{}"

    def text(self, item: bytes, items: Sequence[bytes], seq: int, slot: int) -> bytes | None:
        """Give the argument; None when it is made of nothing but items that there are not."""
        pieces = []
        for part in self.parts:
            piece = part if isinstance(part, bytes) else part.value(item, items, seq, slot)
            if piece is not None:
                pieces.append(piece)
        return b"".join(pieces) if pieces else None


class Template:
    """A command, cut up, that only lacks its items.

    A word with a string that stands for each item (``{}``, ``a{/}b``) becomes as many arguments as the
    command has items. A position that there is no item for stands for nothing, and a word that has nothing
    else is left out: so it is in the last command when ``-n`` does not come out even.

    >>> Template.parse([b"mv", b"{}", b"{.}.old"], several=1).fill([b"a/b.txt"], 1, 1)
    [b'mv', b'a/b.txt', b'a/b.old']
    >>> Template.parse([b"tar", b"cf", b"{#}.tar", b"./{}"], several=2).fill([b"a", b"-b"], 7, 1)
    [b'tar', b'cf', b'7.tar', b'./a', b'./-b']
    """

    __slots__ = ("_after", "_before", "_words")

    def __init__(self, words: list[bytes | _Word]) -> None:
        self._words = words
        # Most commands are some words, the items, and more words.
        self._before: list[bytes] | None = None
        self._after: list[bytes] = []
        for at, word in enumerate(words):
            before, after = words[:at], words[at + 1 :]
            if isinstance(word, _Word) and word.plain and not any(isinstance(w, _Word) for w in before + after):
                self._before = [w for w in before if isinstance(w, bytes)]
                self._after = [w for w in after if isinstance(w, bytes)]

    @classmethod
    def parse(cls, words: Sequence[bytes], *, several: int) -> Template:
        """Cut up the words of a command; without a replacement string the items come at its end.

        Parameters
        ----------
        several:
            How many items a command has at most: inputs times ``-n``; 0 when nobody knows, as with columns.

        Raises
        ------
        UsageError
            When there is no command, or a position that none of its items is at.
        """
        if not words:
            raise UsageError("there is no command", "vigie map -- CMD {} ::: ITEM…")
        found = [hole for word in words for _, _, hole in holes(word)]
        check_positions(found, several)
        cut = [_Word.cut(word) for word in words]
        if not found:
            cut.append(_Word.cut(b"{}"))
        return cls(cut)

    def fill(self, items: Sequence[bytes], seq: int, slot: int) -> list[bytes]:
        """Give the argv of one command.

        Parameters
        ----------
        items:
            Those of this command.
        seq:
            The number of the command, from 1.
        slot:
            The number, from 1, that no other command has while this one runs.
        """
        if self._before is not None:
            return [*self._before, *items, *self._after]
        argv = []
        for word in self._words:
            if isinstance(word, bytes):
                argv.append(word)
                continue
            for item in items if word.each else (b"",):
                text = word.text(item, items, seq, slot)
                if text is not None:
                    argv.append(text)
        return argv
