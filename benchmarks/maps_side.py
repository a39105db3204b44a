"""One side of a bench of parallel runs: ``maps_side.py WAY TASK COUNT [MORE]`` prints the seconds that it takes.

The WAY is by whom, the TASK is what. What a way keeps from one run to the next, as a pool of processes, is
warm: a small run goes before. Vigie's map and the threads keep nothing; their start is in the figure.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any

import maps_work

from work import double

PROCESSES, THREADS = 2, 100
#: Chunks of an executor's map by hand: as many in all, whatever the number of items.
CHUNKS = 200

#: Calls a function with items, of which there are so many; gives the values, or None if nobody has them.
Run = Callable[[Callable[[Any], Any], Iterable[Any], int], list[Any] | None]


# --- ways ---------------------------------------------------------------------


@contextmanager
def by_vigie(**options: Any) -> Iterator[Run]:
    import vigie

    yield lambda function, items, _: list(vigie.map(function, items, **{"limit": PROCESSES, **options}))


@contextmanager
def by_joblib() -> Iterator[Run]:
    from joblib import Parallel, delayed  # type: ignore[import-not-found]  # in the peers' environment

    yield lambda function, items, _: list(Parallel(n_jobs=PROCESSES)(delayed(function)(item) for item in items))


@contextmanager
def by_mpire() -> Iterator[Run]:
    from mpire import WorkerPool  # type: ignore[import-not-found]  # in the peers' environment

    with WorkerPool(n_jobs=PROCESSES, keep_alive=True) as pool:
        # Told how many items a generator has, it makes chunks of its own.
        yield lambda function, items, count: list(pool.map(function, items, iterable_len=count))


@contextmanager
def by_processes(*, chunks: int | None = None) -> Iterator[Run]:
    def run(function: Callable[[Any], Any], items: Iterable[Any], count: int) -> list[Any]:
        return list(pool.map(function, items, chunksize=1 if chunks is None else max(1, count // chunks)))

    with ProcessPoolExecutor(PROCESSES) as pool:
        yield run


@contextmanager
def by_threads() -> Iterator[Run]:
    def run(function: Callable[[Any], Any], items: Iterable[Any], _: int) -> list[Any]:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(function, items))

    yield run


@contextmanager
def serially() -> Iterator[Run]:
    yield lambda function, items, _: list(map(function, items))


@contextmanager
def in_parts() -> Iterator[Run]:
    """The least that processes can take: each knows its part, nothing is sent, nobody has the values."""

    def run(function: Callable[[Any], Any], _: Iterable[Any], count: int) -> None:
        pids = []
        for _process in range(PROCESSES):
            pid = os.fork()
            if pid == 0:
                for item in range(count // PROCESSES):
                    function(item)
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0

    yield run


@contextmanager
def in_bare_threads() -> Iterator[Run]:
    """The least that threads can take: each has its part from the beginning, nobody has the values."""

    def run(function: Callable[[Any], Any], items: Iterable[Any], _: int) -> None:
        everything = list(items)
        parts = [everything[at::THREADS] for at in range(THREADS)]
        threads = [Thread(target=lambda part=part: [function(item) for item in part]) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    yield run


WAYS: dict[str, Callable[[], Any]] = {
    "vigie": by_vigie,
    "vigie-threads": partial(by_vigie, on="threads", limit=THREADS),
    "joblib": by_joblib,
    "mpire": by_mpire,
    "executor": by_processes,
    "executor-chunks": partial(by_processes, chunks=CHUNKS),
    "threads": by_threads,
    "serial": serially,
    "parts": in_parts,
    "bare-threads": in_bare_threads,
}


# --- tasks --------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A function, the items of some COUNT and MORE, and those of the small run before."""

    function: Callable[[Any], Any]
    items: Callable[[int, int], Iterator[Any]]
    before: tuple[int, int] = (20, 0)


def numbers(count: int, _: int) -> Iterator[int]:
    yield from range(count)


def mixed(pairs: int, straggler: int) -> Iterator[int]:
    """Give 0 ms and 50 in turn, and in the midst of them the straggler."""
    for pair in range(pairs):
        if pair == pairs // 2:
            yield straggler
        yield from (0, 50)


def waits(count: int, ms: int) -> Iterator[int]:
    return (ms for _ in range(count))


def one_array(count: int, size: int) -> Iterator[Any]:
    """Give the same array with each number."""
    import numpy as np  # type: ignore[import-not-found]  # in the peers' environment

    array = np.ones(size // 8)
    return ((array, number) for number in range(count))


def own_arrays(count: int, size: int) -> Iterator[Any]:
    """Give each number an array that begins elsewhere in memory."""
    import numpy as np

    array = np.ones(size // 8 + count)
    return ((array[number : number + size // 8], number) for number in range(count))


def one_text(count: int, size: int) -> Iterator[Any]:
    data = b"\1" * size
    return ((data, number) for number in range(count))


TASKS = {
    "busy": Task(maps_work.busy, numbers),
    "trivial": Task(double, numbers),
    "mixed": Task(maps_work.mixed, mixed, (2, 1)),
    "waits": Task(maps_work.wait, waits, (4, 1)),
    "array": Task(maps_work.look, one_array, (4, 8192)),
    "arrays": Task(maps_work.look, own_arrays, (4, 8192)),
    "bytes": Task(maps_work.look_at_bytes, one_text, (4, 8192)),
}


def main() -> None:
    """Run it twice, a little first; print the seconds of the second time."""
    way, name, count, more = sys.argv[1], sys.argv[2], int(sys.argv[3]), int((*sys.argv, "0")[4])
    task = TASKS[name]
    with WAYS[way]() as run:
        run(task.function, task.items(*task.before), task.before[0])
        items = task.items(count, more)
        began = time.perf_counter()
        values = run(task.function, items, count)
        took = time.perf_counter() - began
    # What is looked for is found without the workers' help, where that is no long work.
    if values is not None:
        wanted = list(task.items(count, more))
        if name not in ("mixed", "waits"):
            wanted = list(map(maps_work.same if name == "busy" else task.function, wanted))
        assert values == wanted, "wrong values"
    print(took)


if __name__ == "__main__":
    main()
