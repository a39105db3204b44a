"""The one digest that we use, without what its usual door brings along.

``hashlib`` loads OpenSSL for functions of its own: 3.5 MB in each process that stays.
BLAKE2 is Python's own all the same.
"""

from __future__ import annotations

try:
    from _blake2 import blake2b
except ImportError:  # another Python than CPython
    from hashlib import blake2b

__all__ = ["blake2b"]
