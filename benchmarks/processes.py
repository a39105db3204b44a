"""What a process takes: memory and processor time, from /proc."""

from __future__ import annotations

import os

from vigie import procs


class Memory:
    """How far a process's resident memory rises above where it was."""

    def __init__(self, pid: int | None) -> None:
        assert pid is not None
        self.pid = pid
        self._before = 0

    def mark(self) -> None:
        """Begin here."""
        try:
            with open(f"/proc/{self.pid}/clear_refs", "w", encoding="ascii") as file:
                file.write("5")  # the peak begins anew
        except OSError:
            pass  # the peak of its whole life then: at worst too much is said
        self._before = procs.rss(self.pid) or 0

    def growth(self) -> int:
        """Give the bytes by which the peak since is over what it was."""
        return max(0, peak(self.pid) - self._before)


def peak(pid: int) -> int:
    """Give the most bytes that a process has had resident."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def processor(pid: int) -> float:
    """Give the seconds that all threads of a process have run, to the nanosecond where the kernel tells."""
    try:
        total = 0
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
    except OSError:
        return (procs.cpu(pid) or 0) / 1e6
    return total / 1e9
