"""A client that submits COUNT jobs to the paused queue through the library: ``submit_vigie.py COUNT``."""

from __future__ import annotations

import sys

from begin import at_the_word

import vigie
import work

if __name__ == "__main__":
    double = vigie.task(queue="held")(work.double)
    double.start(0)  # connected, everything loaded
    count = int(sys.argv[1])
    at_the_word(lambda: [double.start(i) for i in range(count)])
