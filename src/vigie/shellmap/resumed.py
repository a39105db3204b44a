"""``vigie map --resume NAME``: which commands an earlier run has done, by the journal of parallel runs."""

from __future__ import annotations

from vigie.digests import blake2b
from vigie.parallel.journal import Journal
from vigie.parallel.resume import Resume, path_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Commanded", "fingerprint"]


def fingerprint(words: Sequence[bytes]) -> str:
    """Give a text by which a command is known again.

    >>> fingerprint([b"gzip", b"{}"]) == fingerprint([b"gzip {}"])
    False
    """
    return "command:" + blake2b(b"\0".join([b"%d" % len(words), *words]), digest_size=16).hexdigest()


class Commanded(Resume):
    """A journal whose keys are the items of commands; of each that ended well it says that it did, and no more.

    Attributes
    ----------
    changed:
        Whether the command is another one than that of the run before.
    """

    def __init__(self, name: str, words: Sequence[bytes], items: Iterable[object], *, fresh: bool) -> None:
        self._begin(Journal.open(path_of(name), function=fingerprint(words), fresh=fresh), items)
        self.changed = self._journal.changed and len(self._journal) > 0
