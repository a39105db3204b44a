"""Request ids: what makes a write that is sent twice one write.

An id begins with the time at which it was made, so that the store keeps the answers
in the order in which they are given and forgets them from one end, as UUID version 7
does (RFC 9562, section 5.7).
"""

from __future__ import annotations

import os
import time

__all__ = ["earliest", "new"]


def new() -> str:
    """Give an id that nobody else has: 32 hex characters.

    >>> len(new()), new() == new()
    (32, False)
    """
    return earliest(time.time_ns() // 1000)[:6].hex() + os.urandom(10).hex()


def earliest(instant: int) -> bytes:
    """Give the lowest id of an instant (µs).

    >>> earliest(5_000).hex()
    '00000000000500000000000000000000'
    """
    return max(0, instant // 1000).to_bytes(6, "big") + bytes(10)
