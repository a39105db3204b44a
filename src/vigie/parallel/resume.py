"""A run that goes on where an earlier one ended: what the journal knows of its items, and what it is to learn."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any

from vigie.config import Home
from vigie.engines.batch import Group, Large
from vigie.errors import UsageError
from vigie.parallel.journal import Journal
from vigie.parallel.keys import digest, fingerprint
from vigie.payload import told

__all__ = ["Resume", "ResumeWarning", "path_of"]

_NAME = re.compile(r"[\w][\w.@+-]{0,99}")


class ResumeWarning(UserWarning):
    """What a journal holds was made by other code than what goes on from it."""


def path_of(name: str) -> str:
    """Give the journal of a name: ``resume/NAME`` in Vigie's home.

    Raises
    ------
    UsageError
        When that is no name for a file.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"resume is {name!r}: a name has letters, digits and any of _ . @ + -")
    return os.path.join(Home().root, "resume", name)


class Resume:
    """The journal of a run, in terms of its items.

    Parameters
    ----------
    name:
        Of the run.
    function:
        What computes the items.
    key:
        Gives the key of an item; default: a stable hash of the item itself.
    fresh:
        Forget what earlier runs did.

    Attributes
    ----------
    summary:
        What there is to do.

    Raises
    ------
    Conflict
        When another run has the journal open.
    VigieError
        When the journal is damaged.
    """

    _key: Callable[[Any], Any] | None = None

    def __init__(
        self, name: str, function: Callable[[Any], Any], items: Iterable[Any], *,
        key: Callable[[Any], Any] | None = None, fresh: bool = False,
    ) -> None:  # fmt: skip
        if key is not None:
            self._key = key
        self._begin(Journal.open(path_of(name), function=fingerprint(function), fresh=fresh), items)
        if self._journal.changed and len(self._journal):
            warnings.warn(
                f"the code of the function has changed since {name!r} was begun: {len(self._journal):,} results are "
                "of the earlier code; fresh=True computes them anew",
                ResumeWarning,
                stacklevel=4,
            )

    def _begin(self, journal: Journal, items: Iterable[Any]) -> None:
        """Take a journal that was opened, and say what there is to do."""
        self._journal = journal
        #: Keys of the items that are under way, by their index.
        self._keys: dict[int, bytes] = {}
        self._closed = False
        try:
            self.summary = self._summary(items)
        except BaseException:
            journal.close()
            raise

    def _summary(self, items: Iterable[Any]) -> str:
        done, failed = len(self._journal), self._journal.failed
        if not isinstance(items, Collection):
            return f"{done:,} done earlier, {failed:,} failed"
        keys = [self._digest(item) for item in items]
        done = sum(map(self._journal.done, keys))
        failed = sum(map(self._failed, keys))
        return f"{done:,} of {len(keys):,} done earlier, {failed:,} failed, {len(keys) - done:,} to do"

    def _failed(self, key: bytes) -> bool:
        try:
            self._journal.failure(key)
        except KeyError:
            return False
        return True

    def _digest(self, item: Any) -> bytes:
        return digest(item if self._key is None else self._key(item))

    def __bool__(self) -> bool:
        """Tell whether earlier runs have done anything."""
        return bool(len(self._journal) or self._journal.failed)

    def earlier(self, index: int, item: Any) -> bytes | None:
        """Give the pickle of an item's value if an earlier run has computed it; else have it noted when it is."""
        key = self._digest(item)
        if self._journal.done(key):
            return self._journal.value(key)
        self._keys[index] = key
        return None

    def done(self, group: Group) -> None:
        """Note values."""
        values = group.values
        if not group.packed or isinstance(values[0], Large):
            try:
                values = [pickle.dumps(value, 5) for value in group.list()]
            except Exception as error:  # a large one that cannot be made here
                self.failed(group.index, error)
                return
        for index, pickled in enumerate(values, group.index):
            self._journal.add(self._keys.pop(index), pickled)

    def failed(self, index: int, error: BaseException) -> None:
        """Note that an item has no value: the next run tries it again."""
        kind, text, _ = told(error)
        self._journal.fail(self._keys.pop(index), f"{kind}: {text}")

    def sync(self) -> None:
        """Have all that was noted outlive a crash of the machine."""
        self._journal.sync()

    def close(self) -> None:
        """Let go of the journal."""
        if not self._closed:
            self._closed = True
            self._journal.close()
