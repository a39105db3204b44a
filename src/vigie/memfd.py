"""Memory that other processes can be given: a file without a name.

Standard library only; the worker loads this file by path.
"""

from __future__ import annotations

import os

__all__ = ["create"]


def create(name: str) -> int:
    """Give a descriptor of empty memory, which is called ``name`` where somebody lists descriptors.

    >>> fd = create("example")
    >>> os.fstat(fd).st_size
    0
    >>> os.close(fd)
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    import tempfile

    fd, path = tempfile.mkstemp()
    os.unlink(path)
    return fd
