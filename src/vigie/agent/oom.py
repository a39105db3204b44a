"""Was it the kernel, out of memory? Evidence, not a guess from the signal alone.

The kernel counts its victims in /proc/vmstat (``oom_kill``) and names each in its
log, which is read by pid. Where the log may not be read, a SIGKILL stays a SIGKILL
and the message says that memory ran out meanwhile.
"""

from __future__ import annotations

import os
import re

__all__ = ["OomWatch", "victims"]

_VICTIM = re.compile(rb"Killed process (\d+) |oom-kill:.*?,pid=(\d+)[,\n]")
#: The log is a ring of at most a few MB.
_MOST = 16 << 20


def victims(text: bytes) -> set[int]:
    """Give the processes that a kernel log says were killed for want of memory.

    >>> victims(b"3,1,5,-;Memory cgroup out of memory: Killed process 42 (python) total-vm:1kB")
    {42}
    """
    return {int(first or second) for first, second in _VICTIM.findall(text)}


class OomWatch:
    """Answers whether a killed process was the kernel's victim.

    Parameters
    ----------
    vmstat, log:
        Where the count and the names stand.
    """

    def __init__(self, vmstat: str = "/proc/vmstat", log: str = "/dev/kmsg") -> None:
        self._vmstat = vmstat
        self._log = log
        self._count = self._read_count()

    def _read_count(self) -> int:
        try:
            with open(self._vmstat, "rb") as file:
                found = re.search(rb"^oom_kill (\d+)$", file.read(), re.MULTILINE)
        except OSError:
            return 0
        return int(found[1]) if found else 0

    def ask(self, pid: int | None) -> tuple[bool, str | None]:
        """Tell whether the kernel killed ``pid`` for want of memory, and what to say if that is not known."""
        count = self._read_count()
        if count == self._count:
            return False, None  # nobody was killed since the last time somebody was
        text = self._read_log()
        if text is None:
            return False, "killed; the kernel ran out of memory meanwhile, and its log may not be read"
        if pid is not None and pid in victims(text):
            return True, "the kernel killed it: out of memory"
        self._count = count
        return False, None

    def _read_log(self) -> bytes | None:
        try:
            fd = os.open(self._log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        parts: list[bytes] = []
        size = 0
        try:
            while size < _MOST:
                try:
                    part = os.read(fd, 8192)
                except BlockingIOError:
                    break
                except BrokenPipeError:
                    continue  # the ring overtook us: go on at its oldest
                if not part:
                    break
                parts.append(part)
                size += len(part)
        except OSError:
            return None
        finally:
            os.close(fd)
        return b"".join(parts)
