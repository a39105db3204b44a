"""A pool for what may go wrong: search a text for patterns that strangers have sent.

    python pool.py [PATTERN…]

One pattern is no pattern, one needs longer than the age of the universe, and one call takes its worker along. Each
costs its own call and nothing else. The text is loaded once in each worker, by `init`.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import re
import sys
import time

import vigie
from vigie.errors import ItemTimeout, WorkerDied

PATTERNS = ["moon", "m[aeo]+n?", "(", "(a+)+$", r"\bs\w+a\b"]


def load():
    """Make what each worker keeps: `vigie.state.lines`."""
    return {"lines": ["the moon and the sea", "a" * 40 + "!", "a sonata, and the moon again"]}


def search(pattern):
    """Give the number of lines in which the pattern is found."""
    return sum(re.search(pattern, line) is not None for line in vigie.state.lines)


def crash():
    """Read what is no memory of ours, as a bug in a C library may."""
    return ctypes.string_at(0)


def said(future: concurrent.futures.Future[int]) -> str:
    try:
        return f"found in {future.result()} lines"
    except ItemTimeout:
        return "given up"
    except WorkerDied as error:
        return str(error)
    except re.error as error:
        return f"no pattern: {error}"


def main(patterns: list[str]) -> int:
    with vigie.Pool(2, init=load, timeout="1s") as pool:
        crashed = pool.submit(crash)
        calls = {pool.submit(search, pattern): pattern for pattern in patterns}
        # As they end, which is in no order; so they are sorted here.
        answers = {calls[call]: said(call) for call in concurrent.futures.as_completed(calls)}
        for pattern in sorted(answers):
            print(f"{pattern}: {answers[pattern]}")
        print("crash:", said(crashed))

        pool.resize(1)
        long = pool.options(timeout="1h").submit(time.sleep, 3600)
        waiting = pool.submit(search, "a")
        while not long.running():
            time.sleep(0.01)
        print("stopped:", long.stop(), "and what waited:", said(waiting))
        print(pool.stats())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or PATTERNS))
