"""When a run of commands ends before its items do: ``--halt now,fail=1``."""

from __future__ import annotations

from vigie.errors import UsageError

__all__ = ["Halt"]

_HINT = "as in soon,fail=1, now,success=3 or soon,done=10%"


class Halt:
    """What ends a run early, and how.

    Parameters
    ----------
    text:
        ``WHEN,WHY=N``: ``now`` ends what runs, ``soon`` lets it finish; N commands, or N% of all of them,
        that ``fail``, have ``success``, or are ``done``. ``never``: nothing does.

    Attributes
    ----------
    now:
        Whether what runs is ended.
    share:
        Whether N is a part of all commands, of which the number must be known.

    Raises
    ------
    UsageError
        When it says something else.

    >>> halt = Halt("now,fail=10%")
    >>> halt.reached(failed=1, succeeded=5, total=20), halt.reached(failed=2, succeeded=5, total=20)
    (False, True)
    """

    def __init__(self, text: str) -> None:
        self.text = text
        when, _, rest = text.partition(",")
        self.why, _, count = rest.partition("=")
        self.now = when == "now"
        self.share = count.endswith("%")
        if text == "never":
            self.why, count = "never", "1"
        elif when not in ("now", "soon") or self.why not in ("fail", "success", "done"):
            raise UsageError(f"--halt is {text!r}: it says when and why", _HINT)
        number = count.removesuffix("%")
        if not number.isdecimal() or not int(number) or (self.share and int(number) > 100):
            raise UsageError(f"--halt is {text!r}: {count or 'nothing'} is no number of commands", _HINT)
        self._count = int(number)

    def reached(self, *, failed: int, succeeded: int, total: int | None) -> bool:
        """Tell whether the run is to end."""
        seen = {"fail": failed, "success": succeeded, "done": failed + succeeded}.get(self.why, 0)
        if self.share:
            return seen > 0 and total is not None and seen * 100 >= self._count * total
        return seen >= self._count
