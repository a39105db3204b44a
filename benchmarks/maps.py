"""``vigie.map``: what an item costs, how even the work is, the first result, waits, large arguments, memory.

Each side is a process of its own that measures itself (``maps_side.py``), since the peers live elsewhere; the sides of
a bench take turns. Pools that a peer keeps are warm; our map keeps none, and pays for its workers each time.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from functools import partial

import maps_work
import peers
from harness import HERE, Result, Side, in_turn, scaled, timed
from maps_side import CHUNKS, mixed

BUSY = 20_000
TRIVIAL = 200_000
#: Pairs of a cheap and a dear item, and the straggler among them (ms).
PAIRS, STRAGGLER = 60, 1_000
#: Threads wait so often, so long (ms), so many at once.
WAITS, WAIT, AT_ONCE = 1_000, 10, 100
ARRAYS, ARRAY = 20, 100_000_000
STREAM, PAUSE = 10_000_000, 50
PACKAGES = (peers.JOBLIB, peers.MPIRE)


def figures(command: list[str], env: Mapping[str, str] | None = None) -> list[float]:
    """Run a side and give what it prints."""
    whole = {**os.environ, **(env or {})}
    done = subprocess.run(command, env=whole, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stderr}")
    return [float(word) for word in done.stdout.split()]


def side(way: str, *words: object, python: str = sys.executable, env: Mapping[str, str] | None = None) -> Side:
    """Make a side: a task and its sizes in ``words``, done in some way."""
    return lambda: figures([python, str(HERE / "maps_side.py"), way, *map(str, words)], env)[0]


def compared(sides: dict[str, Side], rounds: int) -> dict[str, list[float]]:
    """Run sides in turn; give the figures by their names."""
    return dict(zip(sides, in_turn(list(sides.values()), rounds), strict=True))


def turns() -> str:
    """Find out how often the loop turns in 100 µs of an undisturbed core, once that is up to its speed."""
    times = []
    for _ in range(20_000):
        began = time.perf_counter()
        maps_work.spin(10_000)
        times.append(time.perf_counter() - began)
    return str(round(10_000 * 100e-6 / statistics.quantiles(times[len(times) // 2 :], n=10)[0]))


def busy(rounds: int, python: str | None, absent: str) -> list[Result]:
    """Items of 100 µs."""
    env, count = {maps_work.VARIABLE: turns()}, scaled(BUSY)
    sides = {way: side(way, "busy", count, env=env) for way in ("vigie", "serial", "parts", "executor-chunks")}
    if python:
        sides["joblib"] = side("joblib", "busy", count, python=python, env=env)
    found = compared(sides, rounds)

    def rates(way: str) -> list[float]:
        return [count / seconds for seconds in found[way]]

    title = f"{count:,} items of 100 µs from a generator, in order, 2 processes"
    ours, least = found["vigie"], "2 forks, half each, nothing sent"
    return [
        Result("maps-busy", title, "s", ours, f"joblib, its own batches{absent}", found.get("joblib", ())),
        Result("maps-busy-speedup", "… against a loop", "items/s", rates("vigie"), "the loop", rates("serial")),
        Result("maps-busy-parts", "… beside the least there is", "s", ours, least, found["parts"]),
        Result("maps-busy-executor", "… beside chunks by hand", "s", ours, _by_hand(count), found["executor-chunks"]),
    ]


def trivial(rounds: int, python: str | None, absent: str) -> list[Result]:
    """Items of next to nothing."""
    count = scaled(TRIVIAL)
    sides = {way: side(way, "trivial", count) for way in ("vigie", "executor-chunks")}
    if python:
        sides.update({way: side(way, "trivial", count, python=python) for way in ("joblib", "mpire")})
    found = {way: [seconds / count * 1e6 for seconds in times] for way, times in compared(sides, rounds).items()}
    ours, unit = found["vigie"], "µs an item"
    title = f"{count:,} trivial items from a generator, in order, 2 processes"
    return [
        Result("maps-trivial", title, unit, ours, _by_hand(count), found["executor-chunks"]),
        Result("maps-trivial-joblib", title, unit, ours, f"joblib, its own batches{absent}", found.get("joblib", ())),
        Result("maps-trivial-mpire", title, unit, ours, f"mpire, its own chunks{absent}", found.get("mpire", ())),
    ]


def _by_hand(count: int) -> str:
    return f"ProcessPoolExecutor(2), chunksize={max(1, count // CHUNKS):,}"


def ideal(items: Iterable[int], workers: int) -> float:
    """Give the seconds under which nobody gets: all of the work evenly shared, or the longest item (ms each)."""
    times = list(items)
    return max(sum(times) / workers, *times) / 1000


def uneven(rounds: int, python: str | None, absent: str) -> list[Result]:
    """Cheap and dear items in turn and a straggler; the dear ones sleep, so that no core is what they wait for."""
    pairs, straggler = scaled(PAIRS), scaled(STRAGGLER)
    sides = {way: side(way, "mixed", pairs, straggler) for way in ("vigie", "executor")}
    if python:
        sides["joblib"] = side("joblib", "mixed", pairs, straggler, python=python)
    found = compared(sides, rounds)
    title = f"{pairs} times 1 µs and 50 ms in turn (asleep), amid them {straggler / 1000:g} s, 2 processes"
    ours = found["vigie"]
    # With the straggler in the middle, items in their order reach it: whoever is free takes the next.
    least = ideal(mixed(pairs, straggler), 2)
    return [
        Result("maps-uneven", title, "s", ours, "the ideal", [least]),
        Result("maps-uneven-executor", "… beside an executor", "s", ours, "ProcessPoolExecutor(2)", found["executor"]),
        Result("maps-uneven-joblib", "… beside joblib", "s", ours, f"joblib{absent}", found.get("joblib", ())),
    ]


def first(rounds: int) -> list[Result]:
    """The first result of workers that do not run yet."""

    def process(way: str, function: str) -> float:
        return timed([sys.executable, str(HERE / "maps_cold.py"), way, function]) * 1000

    peer, often = "ProcessPoolExecutor(2)", scaled(rounds * 4, least=1)
    results = []
    for name, function, title in (
        ("maps-cold", "importable", "the first result of a cold run on 2 processes, whole process"),
        ("maps-cold-main", "main", "… of a function in `__main__`"),
    ):
        sides = [partial(process, way, function) for way in ("map", "executor")]
        ours, theirs = in_turn(sides, often)
        results.append(Result(name, title, "ms", ours, peer, theirs))
    return results


def threads(rounds: int) -> list[Result]:
    """Waits in threads, which both sides start anew."""
    count = scaled(WAITS, least=AT_ONCE)
    sides = {way: side(way, "waits", count, WAIT) for way in ("vigie-threads", "threads", "bare-threads")}
    found = {way: [seconds * 1000 for seconds in times] for way, times in compared(sides, rounds).items()}
    title, peer = f"{count:,} waits of {WAIT} ms, {AT_ONCE} threads", f"ThreadPoolExecutor({AT_ONCE})"
    bare = found["bare-threads"]
    ours, least = found["vigie-threads"], [count * WAIT / AT_ONCE]
    return [
        Result("maps-threads", title, "ms", ours, "the ideal", least),
        Result("maps-threads-executor", "… beside an executor", "ms", ours, peer, found["threads"]),
        Result("maps-threads-bare", "… beside the least there is", "ms", ours, "threads, ten waits each", bare),
    ]


def arrays(rounds: int) -> list[Result]:
    """Large arguments; both sides with the peers' numpy, ours from the source."""
    python, absent = peers.if_there(lambda: peers.python(peers.NUMPY, peers.JOBLIB))
    size = scaled(ARRAY)
    title = f"an array of {size / 1e6:g} MB as an argument of each of {ARRAYS} items, every page read, 2 processes"
    peer = "ProcessPoolExecutor(2)"
    if not python:
        # Ours alone, and that it runs: without numpy the array is bytes, which are no measure for it.
        alone = in_turn([side("vigie", "bytes", ARRAYS, size)], rounds)[0]
        return [Result("maps-array", f"{title} (bytes)", "s", alone, f"{peer}{absent}")]
    env = {"PYTHONPATH": str(HERE.parent / "src")}

    def beside(task: str, *ways: str) -> dict[str, list[float]]:
        return compared({way: side(way, task, ARRAYS, size, python=python, env=env) for way in ways}, rounds)

    one, own = beside("array", "vigie", "executor", "joblib"), beside("arrays", "vigie", "executor")
    return [
        Result("maps-array", title, "s", one["vigie"], peer, one["executor"]),
        Result("maps-array-joblib", "… beside joblib", "s", one["vigie"], "joblib, by a mapped file", one["joblib"]),
        Result("maps-array-own", "… each item's at another place in memory", "s", own["vigie"], peer, own["executor"]),
    ]


def stream() -> list[Result]:
    """Memory under a consumer that pauses; once, since all of it takes half a minute."""
    count = scaled(STREAM)
    caller, worker, rise = figures([sys.executable, str(HERE / "maps_stream.py"), str(count), str(scaled(PAUSE))])
    title = f"{count:,} items of nothing, to a consumer that pauses: the caller's peak"
    return [
        Result("maps-memory-caller", title, "MB", [caller]),
        Result("maps-memory-worker", "… the larger worker's", "MB", [worker]),
        Result("maps-memory-rise", "… what either rose by after the first tenth", "MB", [rise]),
    ]


def run(rounds: int) -> list[Result]:
    """Measure all of it."""
    python, absent = peers.if_there(lambda: peers.python(*PACKAGES))
    return [
        *busy(rounds, python, absent),
        *trivial(rounds, python, absent),
        *uneven(rounds, python, absent),
        *first(rounds),
        *threads(rounds),
        *arrays(rounds),
        *stream(),
    ]
