"""Whether the system killed somebody for want of memory: by the kernel's own count."""

from __future__ import annotations

import re

__all__ = ["Watch"]

#: Where Linux counts, those in control groups included. Of the whole machine: whoever was killed by another SIGKILL in
#: the same moment is taken for a suspect too, and tried once more for nothing.
COUNTS = "/proc/vmstat"


def _kills() -> int:
    """Give how many processes have been killed so far; 0 where nobody counts."""
    try:
        with open(COUNTS, encoding="ascii") as file:
            match = re.search(r"^oom_kill (\d+)$", file.read(), re.MULTILINE)
    except (OSError, ValueError):
        return 0
    return int(match[1]) if match else 0


class Watch:
    """Tells whether anybody was killed since it was last asked."""

    def __init__(self) -> None:
        self._seen: int | None = None

    def begin(self) -> None:
        """Count from now on."""
        if self._seen is None:
            self._seen = _kills()

    def happened(self) -> bool:
        """Tell whether it happened since."""
        before, self._seen = self._seen, _kills()
        return before is not None and self._seen > before
