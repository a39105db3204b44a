"""``vigie map --resume NAME``: which commands an earlier run has done, by the journal of parallel runs."""

from __future__ import annotations

from vigie.digests import blake2b
from vigie.parallel.journal import Journal
from vigie.parallel.resume import Resume, path_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

__all__ = ["Commanded", "fingerprint"]


def fingerprint(words: Sequence[bytes]) -> str:
    """Give a text by which a command is known again.

    >>> fingerprint([b"gzip", b"{}"]) == fingerprint([b"gzip {}"])
    False
    """
    return "command:" + blake2b(b"\0".join([b"%d" % len(words), *words]), digest_size=16).hexdigest()


class Commanded(Resume):
    """A journal whose keys are the items of commands, and how often these came up before.

    Of each command that ended well it says that it did, and no more.

    Attributes
    ----------
    changed:
        Whether the command is another one than that of the run before.
    """

    def __init__(self, name: str, words: Sequence[bytes], items: Iterable[object], *, fresh: bool) -> None:
        #: How often each key has come up.
        self._times: dict[bytes, int] = {}
        self._begin(Journal.open(path_of(name), function=fingerprint(words), fresh=fresh), items)
        self._times.clear()  # they were counted for the summary
        self.changed = self._journal.changed and len(self._journal) > 0

    def _digest(self, item: Any) -> bytes:
        """Give the key of a command: of the second with the same items another one, and so on."""
        key = super()._digest(item)
        times = self._times[key] = self._times.get(key, 0) + 1
        return key if times == 1 else super()._digest((item, times))
