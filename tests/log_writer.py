"""A program that writes numbered lines to both streams, for tests of what becomes of them.

log_writer.py LINES [SEED]: each line says its stream, its number and how long it is.
"""

from __future__ import annotations

import os
import random
import sys


def line(stream: str, number: int, chance: random.Random) -> bytes:
    rest = "x" * chance.choice((0, 1, 7, 60, 60, 60, 200, 3000))
    return f"{stream} {number} {len(rest)} {rest}\n".encode()


def main(lines: int, seed: int) -> None:
    chance = random.Random(seed)
    counts = {"out": 0, "err": 0}
    for _ in range(lines):
        stream = chance.choice(("out", "out", "out", "err"))
        some = b""
        for _ in range(chance.choice((1, 1, 30))):
            some += line(stream, counts[stream], chance)
            counts[stream] += 1
        fd = 1 if stream == "out" else 2
        while some:
            some = some[os.write(fd, some) :]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
