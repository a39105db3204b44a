"""A client that enqueues COUNT jobs with huey: ``submit_huey.py DATABASE COUNT``, in the peers' environment."""

from __future__ import annotations

import sys

from begin import at_the_word
from huey import SqliteHuey

huey = SqliteHuey(filename=sys.argv[1], fsync=False, timeout=60)


@huey.task()
def double(n: int) -> int:
    return 2 * n


if __name__ == "__main__":
    double(0)
    count = int(sys.argv[2])
    at_the_word(lambda: [double(i) for i in range(count)])
