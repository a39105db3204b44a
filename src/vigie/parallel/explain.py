"""Where the time of a parallel run went, and what to change: in words, from what the run has counted."""

from __future__ import annotations

from vigie.model import cores
from vigie.parallel.tally import Tally
from vigie.values import format_duration

__all__ = ["explain"]

#: An item that takes less (s) is not worth being sent to a process.
CHEAP = 20e-6
#: What takes more than such a share of the whole is worth a word.
MUCH = 0.1


def explain(tally: Tally) -> str:
    """Say how long a run took, where the time went, and what would make it quicker.

    The first line is what was done, the second where the workers' time went, the
    third that of the caller; each after them is an advice.
    """
    items = tally.done + tally.failed
    elapsed = tally.elapsed
    if not items or not elapsed:
        return "nothing was computed yet"
    where = "in this thread" if tally.place == "inline" else f"on {tally.limit} {tally.place}"
    mean = tally.computing / items
    at_once = tally.computing / elapsed
    lines = [
        f"{items:,} items in {_time(elapsed)} {where}, {_time(mean)} each; {at_once:.1f} at once on average",
        _workers(tally, elapsed),
        _caller(tally, elapsed),
    ]
    return "\n".join(lines + [f"- {advice}" for advice in _advice(tally, elapsed, mean)])


def _workers(tally: Tally, elapsed: float) -> str:
    whole = elapsed * tally.limit
    tail = min(tally.tail, elapsed)
    text = f"workers: computing {_share(tally.computing, whole)}, without work {_share(whole - tally.computing, whole)}"
    return text if tail <= MUCH * elapsed else f"{text}; in the last {_time(tail)} there was not enough for all"


def _caller(tally: Tally, elapsed: float) -> str:
    between = max(0.0, elapsed - tally.inside)
    own = max(0.0, tally.inside - tally.waiting - tally.drawing - tally.giving)
    waiting = "computing" if tally.place == "inline" else "waiting for results"
    parts = (
        (waiting, tally.waiting), ("reading the items", tally.drawing),
        ("pickling and sending", tally.giving), ("taking results", own), ("away, in your own code", between),
    )  # fmt: skip
    return "caller: " + ", ".join(f"{name} {_share(spent, elapsed)}" for name, spent in parts)


def _advice(tally: Tally, elapsed: float, mean: float) -> list[str]:
    found = []
    if mean < CHEAP and tally.place != "inline":
        found.append(f"items take {_time(mean)}: on='inline', or several in one item, would be quicker")
    if tally.place == "processes" and tally.limit > cores():
        found.append(f"limit {tally.limit} on {cores()} cores gains nothing, unless the items wait for something")
    if tally.drawing > MUCH * elapsed and tally.place != "inline":
        found.append(f"the source of the items took {_time(tally.drawing)}: nobody could work meanwhile")
    if tally.giving > MUCH * elapsed and mean >= CHEAP:
        found.append(f"pickling and sending took {_time(tally.giving)}: send names or indices, and load in the worker")
    if elapsed - tally.inside > 2 * MUCH * elapsed and tally.waiting < MUCH * elapsed:
        found.append("your own code between two results holds the run up: the workers wait for it")
    if min(tally.tail, elapsed) > MUCH * elapsed and tally.longest > 3 * mean:
        found.append("few items took much longer than the rest: give the longest first")
    if tally.plan.interval is not None and tally.waiting > MUCH * elapsed:
        found.append(f"the rate of {1 / tally.plan.interval:g}/s holds the starts back")
    return found


def _time(seconds: float) -> str:
    return format_duration(round(seconds * 1e6)) if seconds >= 1e-6 else f"{seconds * 1e6:.2g}us"


def _share(part: float, whole: float) -> str:
    return f"{max(0.0, min(1.0, part / whole)):.0%}"
