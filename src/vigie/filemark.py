"""Where the path of a file goes in the words of a command, and where it must not."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FILE_MARK", "shell_line"]

FILE_MARK = "{file}"
_SHELLS = ("sh", "ash", "bash", "dash", "fish", "ksh", "mksh", "zsh", "busybox")


def shell_line(argv: Sequence[str]) -> int:
    """Give which of the words of a command a shell reads as its line; the number of words if none does.

    >>> shell_line(["/bin/sh", "-c", "wc {file}"]), shell_line(["bash", "-ec", "x"]), shell_line(["wc", "-c", "{file}"])
    (2, 2, 3)
    """
    if argv and os.path.basename(argv[0]) in _SHELLS:
        for at, word in enumerate(argv[1:-1], 1):
            if word.startswith("-") and not word.startswith("--") and word.endswith("c"):
                return at + 1
    return len(argv)
