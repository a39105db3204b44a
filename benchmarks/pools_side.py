"""Round trips through a pool of two that is warm: ``pools_side.py vigie|executor COUNT`` prints the median µs."""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor

from work import double


def made(way: str) -> Executor:
    """Make the pool."""
    if way == "executor":
        return ProcessPoolExecutor(2)
    import vigie

    pool: Executor = vigie.Pool(2)
    return pool


def main() -> None:
    """Do it."""
    way, count = sys.argv[1], int(sys.argv[2])
    times = []
    with made(way) as pool:
        # So many at once that both workers start.
        for future in [pool.submit(double, i) for i in range(100)]:
            future.result(60)
        for i in range(count):
            began = time.perf_counter()
            found = pool.submit(double, i).result()
            times.append(time.perf_counter() - began)
            assert found == 2 * i
    print(statistics.median(times) * 1e6)


if __name__ == "__main__":
    main()
