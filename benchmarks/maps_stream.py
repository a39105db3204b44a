"""COUNT items through a function that does nothing, to a consumer that pauses: ``maps_stream.py COUNT PAUSE``.

It pauses for PAUSE ms after each hundredth. Prints the MB that the caller, and the largest of its workers, have
been resident at most, and by how much that rose after the first tenth, in whichever rose more.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import maps_work

import vigie
from vigie import procs

PAUSES = 100


def peak(pid: int) -> int:
    """Give the bytes that a process has been resident at most."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def peaks() -> dict[int, int]:
    """Give the peak of this process and of each of its workers."""
    me = os.getpid()
    return {me: peak(me), **{child.pid: peak(child.pid) for child in procs.scan() if child.ppid == me}}


def numbers(count: int) -> Iterator[int]:
    """Give the items, from a generator."""
    yield from range(count)


def main() -> None:
    """Do it."""
    count, pause = int(sys.argv[1]), int(sys.argv[2]) / 1000
    step = count // PAUSES
    tenth = found = dict[int, int]()
    for i, value in enumerate(vigie.map(maps_work.same, numbers(count), limit=2)):
        assert value == i
        if i % step == step - 1:
            time.sleep(pause)
            found = peaks()
            if i // step < PAUSES // 10:
                tenth = found
    workers = [size for pid, size in found.items() if pid != os.getpid()]
    rises = [size - tenth[pid] for pid, size in found.items()]
    print(*(size / 1e6 for size in (found[os.getpid()], max(workers), max(rises))))


if __name__ == "__main__":
    main()
