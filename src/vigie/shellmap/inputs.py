"""Where the items of ``vigie map`` come from: words behind ``:::``, files, stdin, and how they are combined.

Inputs are read as their items are asked for, so that an endless one will do. Two things need more memory
than the item in hand: an input that is combined with one before it (``:::`` and ``::::`` but the first, with
all that is linked to it) is read to its end before the first command, and kept; and so is a group of
``several`` items, until it is complete.
"""

from __future__ import annotations

import os
from itertools import chain, islice, pairwise, product

from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO, TypeVar

    T = TypeVar("T")

__all__ = [
    "Source",
    "batched",
    "column_pattern",
    "command_items",
    "parse_sources",
    "read_items",
    "rows",
    "split_columns",
]

#: What begins an input: whether it is a file, and whether it is linked to the one before.
_SEPARATORS = {b":::": (False, False), b":::+": (False, True), b"::::": (True, False), b"::::+": (True, True)}
STDIN = b"-"


class Source:
    """One input.

    Attributes
    ----------
    link:
        Its items go with those of the input before, one by one; else each goes with each.
    values:
        The items, if they stood on the command line.
    path:
        Of a file; None if there is none, ``-`` is stdin.
    """

    __slots__ = ("link", "path", "values")

    def __init__(self, *, values: Sequence[bytes] = (), path: bytes | None = None, link: bool = False) -> None:
        self.link = link
        self.values = values
        self.path = path

    def __repr__(self) -> str:
        what = self.values if self.path is None else self.path
        return f"<{'values' if self.path is None else 'file'} {what!r}{', linked' if self.link else ''}>"


def parse_sources(words: Sequence[bytes], files: Sequence[bytes] = ()) -> tuple[list[bytes], list[Source]]:
    """Split the words behind ``--`` into a command and its inputs; stdin is the input if there is no other.

    Parameters
    ----------
    files:
        Inputs that come before those: the paths of ``-a``.

    Raises
    ------
    UsageError
        When an input is linked to none, stdin is read twice, or no file stands behind ``::::``.

    >>> parse_sources([b"cp", b"{1}", b":::", b"a", b"b", b"::::+", b"names"])
    ([b'cp', b'{1}'], [<values [b'a', b'b']>, <file b'names', linked>])
    >>> parse_sources([b"wc"])
    ([b'wc'], [<file b'-'>])
    """
    cuts = [at for at, word in enumerate(words) if word in _SEPARATORS]
    sources = [Source(path=path) for path in files]
    for at, end in pairwise([*cuts, len(words)]):
        separator, group = os.fsdecode(words[at]), list(words[at + 1 : end])
        file, link = _SEPARATORS[words[at]]
        if link and not sources:
            raise UsageError(f"{separator} has no input before it to be linked to", f"write {separator[:-1]}")
        if not file:
            sources.append(Source(values=group, link=link))
        elif group:
            sources += [Source(path=path, link=link) for path in group]
        else:
            raise UsageError(f"no file stands behind {separator}", "- is stdin; ::: is for the items themselves")
    if sum(source.path == STDIN for source in sources) > 1:
        raise UsageError("stdin is given as two inputs", "-n 2 takes two items at a time of one")
    command = list(words[: cuts[0]] if cuts else words)
    return command, sources or [Source(path=STDIN)]


def read_items(stream: BinaryIO, separator: bytes = b"\n", chunk: int = 1 << 16) -> Iterator[bytes]:
    """Read the items of a stream, each as soon as it is there.

    What follows the last separator is an item if it is not empty. Empty items count, and a carriage return
    is part of its item.

    Parameters
    ----------
    separator:
        What ends an item: one byte or more.
    chunk:
        Bytes to read at once at most. Memory is bounded by that and by the largest item.

    Raises
    ------
    UsageError
        When an item has a NUL, which no argument can have, or when the separator is empty.

    >>> import io
    >>> list(read_items(io.BytesIO(b"a b\\n\\n-c")))
    [b'a b', b'', b'-c']
    """
    return chain.from_iterable(_blocks(stream, _checked(separator), chunk))


def _blocks(stream: BinaryIO, separator: bytes, chunk: int = 1 << 16) -> Iterator[list[bytes]]:
    """Give the items that came with each read."""
    # A reader that waits for a whole chunk would hold items back.
    read = getattr(stream, "read1", stream.read)
    overlap = len(separator) - 1
    pieces: list[bytes] = []
    tail = b""
    while (block := read(chunk)) != b"":
        if block is None:  # whoever shares the pipe has made it non-blocking
            _await(stream)
            continue
        if b"\0" in block and b"\0" not in separator:
            raise UsageError("an item has a NUL byte, which no argument can have", "does -0 separate the items?")
        pieces.append(block)
        tail += block
        if separator in tail:
            *whole, tail = b"".join(pieces).split(separator)
            yield whole
            pieces = [tail]
        tail = tail[-overlap:] if overlap else b""
    last = b"".join(pieces)
    if last:
        yield [last]


def _checked(separator: bytes) -> bytes:
    if not separator:
        raise UsageError("the separator of items is empty", "-0 separates them by NUL, -d by what you say")
    return separator


def _await(stream: BinaryIO) -> None:
    import select

    select.select([stream], [], [])


def column_pattern(regex: bytes) -> re.Pattern[bytes]:
    """Read the regular expression of ``--colsep``, in Python's flavour.

    Raises
    ------
    UsageError
        When it is not one, or matches nothing at all and so would cut between any two bytes.

    >>> column_pattern(b",?")
    Traceback (most recent call last):
        ...
    vigie.errors.UsageError: the column separator ',?' matches the empty text too
    """
    import re

    shown = os.fsdecode(regex)
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise UsageError(f"the column separator {shown!r} is no regular expression: {error}") from None
    if pattern.match(b""):
        raise UsageError(f"the column separator {shown!r} matches the empty text too")
    return pattern


def split_columns(item: bytes, regex: bytes | re.Pattern[bytes]) -> tuple[bytes, ...]:
    r"""Split an item where a separator matches; an empty item is one empty column.

    >>> split_columns(b"a,,b c", b","), split_columns(b"a\t b", rb"\s+"), split_columns(b"", b",")
    ((b'a', b'', b'b c'), (b'a', b'b'), (b'',))
    """
    import re

    pattern = re.compile(regex)
    # What groups of the expression matched lies between the columns.
    return tuple(pattern.split(item)[:: pattern.groups + 1])


def batched(items: Iterable[T], n: int) -> Iterator[tuple[T, ...]]:
    """Take ``n`` items at a time; the last group may be smaller.

    >>> list(batched([b"a", b"b", b"c"], 2))
    [(b'a', b'b'), (b'c',)]
    """
    source = iter(items)
    while group := tuple(islice(source, n)):
        yield group


def _slices(blocks: Iterable[list[bytes]], n: int) -> Iterator[tuple[bytes, ...]]:
    """Take ``n`` items at a time of those that come in blocks."""
    held: list[bytes] = []
    for block in blocks:
        held += block
        at = 0
        while len(held) - at >= n:
            yield tuple(held[at : at + n])
            at += n
        del held[:at]
    if held:
        yield tuple(held)


def rows(inputs: Sequence[tuple[Iterable[bytes], bool]]) -> Iterator[tuple[bytes, ...]]:
    """Combine inputs: each item of one with each of the next, the last changing fastest.

    Parameters
    ----------
    inputs:
        The items of each, and whether it is linked to the one before. Linked inputs go side by side, and end
        with the shortest. All but the first, and what is linked to it, are read to their end and kept.

    >>> [b"".join(row) for row in rows([([b"a", b"b"], False), ([b"+", b"-"], False), ([b"1", b"2"], True)])]
    [b'a+1', b'a-2', b'b+1', b'b-2']
    """
    groups: list[list[Iterable[bytes]]] = []
    for items, link in inputs:
        if link:
            groups[-1].append(items)
        else:
            groups.append([items])
    first, *rest = [zip(*group, strict=False) for group in groups]
    if not rest:
        yield from first
        return
    kept = [list(group) for group in rest]
    for head in first:
        for tails in product(*kept):
            yield tuple(chain(head, *tails))


def command_items(
    sources: Sequence[Source],
    *,
    several: int = 1,
    separator: bytes = b"\n",
    columns: re.Pattern[bytes] | None = None,
    blank: bool = True,
    stdin: BinaryIO | None = None,
) -> Iterator[tuple[bytes, ...]]:
    """Give the items of each command, as they are asked for.

    Parameters
    ----------
    sources:
        The inputs, of :func:`parse_sources`.
    several:
        How many rows a command has: a row is one item, one of each input, or its columns.
    separator:
        Of items in files and in stdin.
    columns:
        What separates the columns of each item, of :func:`column_pattern`.
    blank:
        Without it items that are empty or only white space are left out.
    stdin:
        Where to read ``-``; default: file descriptor 0.

    Raises
    ------
    UsageError
        When a file cannot be opened, which is tried with all of them first, or as :func:`read_items`.

    >>> _, sources = parse_sources([b"echo", b":::", b"a", b"b", b":::", b"1", b"2", b"3"])
    >>> list(command_items(sources, several=4))
    [(b'a', b'1', b'a', b'2', b'a', b'3', b'b', b'1'), (b'b', b'2', b'b', b'3')]
    """
    opened: list[BinaryIO] = []
    _checked(separator)
    try:
        blocks: list[Iterable[list[bytes]]] = []
        for source in sources:
            found: Iterable[list[bytes]] = [list(source.values)]
            if source.path == STDIN and stdin is not None:
                found = _blocks(stdin, separator)
            elif source.path is not None:
                opened.append(_open(source.path))
                found = _blocks(opened[-1], separator)
            blocks.append(found if blank else (list(filter(bytes.strip, block)) for block in found))
        if len(blocks) == 1 and columns is None and several > 1:
            yield from _slices(blocks[0], several)
            return
        inputs = zip(map(chain.from_iterable, blocks), [source.link for source in sources], strict=True)
        commands = rows(list(inputs))
        if columns is not None:
            commands = _split(commands, columns)
        if several == 1:
            yield from commands
        else:
            for group in batched(commands, several):
                yield tuple(chain.from_iterable(group))
    finally:
        for stream in opened:
            stream.close()


def _open(path: bytes) -> BinaryIO:
    try:
        return open(0 if path == STDIN else path, "rb", buffering=0, closefd=path != STDIN)
    except OSError as error:
        raise UsageError(f"no items can be read from {os.fsdecode(path)}: {error.strerror}") from None


def _split(commands: Iterable[tuple[bytes, ...]], columns: re.Pattern[bytes]) -> Iterator[tuple[bytes, ...]]:
    for row in commands:
        yield tuple(chain.from_iterable([split_columns(item, columns) for item in row]))
