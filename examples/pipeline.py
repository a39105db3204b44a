"""A pipeline: make parts, count each, add up, write a report, and clean up in any case.

    python pipeline.py

All jobs are started at once, in a moment; each begins when what it needs has completed. A job among a function's
arguments is replaced by its result; commands say `after`. This program may end before they do.
"""

from __future__ import annotations

import collections
import sys
import tempfile

import vigie

TEXTS = {
    "one.txt": "the cat and the dog",
    "two.txt": "the dog and the moon",
    "three.txt": "a moon",
}


def write(directory, name, text):
    """Write a part and give its path."""
    path = f"{directory}/{name}"
    with open(path, "w") as file:
        file.write(text + "\n")
    return path


def count_words(path):
    with open(path) as file:
        return dict(collections.Counter(file.read().split()))


def add_up(counts):
    """Take the results of all counting jobs, and yield words with their number, most frequent first."""
    total = sum((collections.Counter(count) for count in counts), collections.Counter())
    yield from sorted(total.items(), key=lambda item: (-item[1], item[0]))


def main() -> int:
    directory = tempfile.mkdtemp(prefix="pipeline-")
    parts = [vigie.start(write, directory, name, text) for name, text in TEXTS.items()]
    counts = [vigie.start(count_words, part) for part in parts]
    total = vigie.task(name="total")(add_up).start(counts)
    # A command may follow functions; `after_any` takes every end, so that it cleans up after a failure too.
    report = vigie.start(["wc", "-l", *(f"{directory}/{name}" for name in TEXTS)], name="report", after=[*parts, total])
    clean = vigie.start(["rm", "-r", directory], name="clean-up", after_any=[report])

    for word, number in total.receive(wait=True):
        print(f"{number} {word}")
    print("lines in all parts:", report.receive(wait=True)[-1].split()[0])
    print("clean-up:", clean.wait().state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
