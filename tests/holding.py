"""A process that holds a lock, as an agent does."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

_CODE = "import sys; from vigie import locks; locks.take(sys.argv[1]); print(flush=True); sys.stdin.read()"


@contextlib.contextmanager
def held(path: str) -> Iterator[int]:
    """Let another process take the lock of a file, until the end of the block; give its pid."""
    words = [sys.executable, "-c", _CODE, path]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process.pid
