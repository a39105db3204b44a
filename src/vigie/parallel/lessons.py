"""Functions that calls speak of by a number, so that each travels to a worker once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Code", "Lessons"]

#: How a function travels: its import path, or its pickle.
Code = tuple[str | None, bytes | None]
#: As many are remembered; the one that was not spoken of for longest is forgotten first.
MOST = 128


class Lessons:
    """The numbers of functions.

    >>> lessons = Lessons(lambda number, code: print(number, code))
    >>> lessons.number(("math:sqrt", None)), lessons.number(("math:sqrt", None))
    0 ('math:sqrt', None)
    (0, 0)
    """

    def __init__(self, teach: Callable[[int, Code | None], None]) -> None:
        self._teach = teach
        self._known: OrderedDict[Code, int] = OrderedDict()
        self._next = 0

    def number(self, code: Code) -> int:
        """Give the number of a function, of which all workers have been told."""
        number = self._known.get(code)
        if number is None:
            number = self._known[code] = self._next
            self._next += 1
            self._teach(number, code)
            if len(self._known) > MOST:
                # Calls that were given before stand before this in the line to their worker.
                _, forgotten = self._known.popitem(last=False)
                self._teach(forgotten, None)
        else:
            self._known.move_to_end(code)
        return number
