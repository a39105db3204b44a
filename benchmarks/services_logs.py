"""A service that writes 500 MB with 10 MB kept, beside the same program with its output in a file."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from harness import Result, in_turn, scaled
from homes import own_home, vigie

from vigie.config import Home

BYTES = 500_000_000
KEPT = "10 MB"
#: Seconds between two looks at what is on disk.
PAUSE = 0.005

#: It writes lines as a program does that logs, each made when it is written; with "copies" it makes them
#: once and writes copies of them, as fast as memory takes them. Then it says how long that took.
PROGRAM = """
import os, sys, time
left, how, said = int(sys.argv[1]), sys.argv[2], sys.argv[3]
line = "2026-11-27T17:00:00 INFO request %09d served in 12 ms from 10.0.0.1 path=/index.html\\n"
chunk = "".join(line % n for n in range(760)).encode()
began = time.perf_counter()
if how == "copies":
    while left > 0:
        left -= os.write(1, chunk[:left])
else:
    number, length = 0, len(line % 0)
    for number in range(-(-left // length)):
        sys.stdout.write(line % number)
    sys.stdout.flush()
took = time.perf_counter() - began
with open(said + ".part", "w") as file:
    file.write(str(took))
os.rename(said + ".part", said)
"""


class Flood:
    """Both sides write on one file system, and begin with nothing left to be written."""

    def __init__(self, home: Home, directory: str, how: str) -> None:
        self.home = home
        self._how = how
        self.bytes = scaled(BYTES)
        self._program = Path(directory, "program.py")
        self._program.write_text(PROGRAM, encoding="utf-8")
        self._said = os.path.join(directory, "said")
        self._count = 0
        #: The most MB on disk in each round.
        self.most: list[float] = []

    @property
    def _argv(self) -> list[str]:
        return [sys.executable, "-S", str(self._program), str(self.bytes), self._how, self._said]

    def ours(self) -> float:
        """Give the seconds in which the service has written all of it."""
        self._count += 1
        name = f"flood{self._count}"
        words = ["--logs", KEPT, "--restart", "never", "--", *self._argv]
        looks = Looks(self.home.jobs)
        vigie("service", "add", name, *words, home=self.home)
        try:
            took = self._wait()
        finally:
            self.most.append(looks.end() / 1e6)
        vigie("service", "remove", name, home=self.home)
        vigie("remove", "--finished", home=self.home)
        os.sync()
        return took

    def redirected(self) -> float:
        """Give the seconds of the program alone."""
        path = os.path.join(self.home.root, "redirected")
        with open(path, "ab") as file:
            subprocess.run(self._argv, stdout=file, check=True)
        took = self._wait()
        assert os.path.getsize(path) >= self.bytes
        os.unlink(path)
        os.sync()
        return took

    def _wait(self) -> float:
        deadline = time.monotonic() + 120
        while not os.path.exists(self._said):
            if time.monotonic() > deadline:
                raise TimeoutError("the service has not come to its end")
            time.sleep(0.01)
        took = float(Path(self._said).read_text(encoding="utf-8"))
        os.unlink(self._said)
        return took


class Looks:
    """Looks again and again at how much is on disk below a directory, and remembers the most."""

    def __init__(self, top: str) -> None:
        self._top = top
        self._most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(PAUSE):
            self._most = max(self._most, on_disk(self._top))

    def end(self) -> int:
        """Stop looking; give the most (bytes)."""
        self._stop.set()
        self._thread.join()
        return self._most


def on_disk(top: str) -> int:
    """Give the bytes that all files below a directory take."""
    total = 0
    for directory, _, names in os.walk(top):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(directory, name)).st_blocks * 512
    return total


def side_by_side(how: str, rounds: int) -> tuple[Flood, list[float], list[float]]:
    """Measure both sides with one way of writing."""
    with own_home() as home, tempfile.TemporaryDirectory(prefix="vigie-bench-logs-") as directory:
        flood = Flood(home, directory, how)
        ours, alone = in_turn([flood.ours, flood.redirected], scaled(rounds, least=1))
    flood.most = flood.most[-len(ours) :]  # without the round to warm up
    return flood, ours, alone


def run(rounds: int) -> list[Result]:
    """Measure all of it."""
    lines, ours, alone = side_by_side("lines", min(rounds, 3))
    copies, faster, alone_faster = side_by_side("copies", rounds * 3)
    size, peer = f"{lines.bytes / 1e6:,.0f} MB", "the program alone, into a file"
    return [
        Result("services-logs", f"a service logs {size} with {KEPT} kept", "s", ours, peer, alone),
        Result("services-logs-disk", "… and the most that is on disk", "MB", lines.most),
        Result("services-logs-copies", f"… {size} of copies, as fast as memory takes them", "s", faster, peer,
               alone_faster),
        Result("services-logs-copies-disk", "… and the most that is on disk", "MB", copies.most),
    ]  # fmt: skip
