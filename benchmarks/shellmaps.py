"""Commands over many items from the shell: ``vigie map`` beside xargs and GNU parallel."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import peers
from harness import Result, Side, in_turn, scaled, timed
from homes import VIGIE

TRUE = 2_000
COMMANDS, EACH = 100, 10_000_000
ITEMS, AT_A_TIME = 1_000_000, 1_000
#: Items of a run whose memory is compared with that of all.
PART = 10


#: Run by a Python that is small, since what a child shared with its parent counts as its own; in kB.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak(command: list[str], items: str) -> float:
    """Give the most memory that a command had which reads ``items`` (MB)."""
    with open(items, "rb") as stdin:
        words = [sys.executable, "-c", PEAK, *command]
        return int(subprocess.run(words, stdin=stdin, capture_output=True, check=True).stdout) / 1000


def fed(command: list[str], items: str, after: list[str] | None = None) -> Side:
    """Give the seconds of a command that reads ``items``; what it prints goes through ``after``, or nowhere."""

    def run() -> float:
        with open(items, "rb") as stdin:
            began = time.perf_counter()
            ours = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE if after else subprocess.DEVNULL)
            if after:
                subprocess.run(after, stdin=ours.stdout, stdout=subprocess.DEVNULL, check=True)
            ours.wait()
            took = time.perf_counter() - began
        if ours.stdout is not None:
            ours.stdout.close()
        assert ours.returncode == 0, f"{command} ended with {ours.returncode}"
        return took

    return run


def listed(directory: str, name: str, count: int) -> str:
    """Write so many items into a file, and give its path."""
    path = os.path.join(directory, name)
    with open(path, "w", encoding="ascii") as file:
        file.writelines(f"{number}\n" for number in range(1, count + 1))
    return path


def short(directory: str, rounds: int) -> list[Result]:
    """Commands of next to nothing."""
    count = scaled(TRUE)
    items = listed(directory, "true", count)
    absent = missing()
    sides = [fed([VIGIE, "map", "-j2", "--", "/bin/true"], items), fed(["xargs", "-P2", "-n1", "/bin/true"], items)]
    if not absent:
        sides.append(fed(["parallel", "-j2", "/bin/true"], items))
    ours, xargs, *parallel = in_turn(sides, rounds)
    title = f"/bin/true over {count:,} items, two at once"
    return [
        Result("shellmaps-true", title, "s", ours, "xargs -P2 -n1", xargs),
        Result(
            "shellmaps-true-parallel", title, "s", ours, f"GNU parallel -j2{absent}", parallel[0] if parallel else ()
        ),
    ]


def grouped(directory: str, rounds: int) -> list[Result]:
    """Much output, kept in one piece for each command."""
    count, each = scaled(COMMANDS), scaled(EACH)
    items, absent = listed(directory, "grouped", count), missing()
    words = ["head", "-c", str(each), "/dev/zero"]
    command = [VIGIE, "map", "-j2", "--", "sh", "-c", " ".join(words)]
    sides = [fed(command, items, ["cat"])]
    if not absent:
        sides.append(fed(["parallel", "-j2", "--group", f"{' '.join(words)} #"], items, after=["cat"]))
    ours, *parallel = in_turn(sides, rounds)
    title = f"{count * each / 1e9:.3g} GB of output of {count} commands, each in one piece, into a pipe"
    return [
        Result("shellmaps-grouped", title, "s", ours, f"GNU parallel --group{absent}", parallel[0] if parallel else ()),
        Result("shellmaps-grouped-memory", "… our peak", "MB", [peak(command, items)]),
    ]


def many(directory: str, rounds: int) -> list[Result]:
    """Items that are many for each command."""
    count = scaled(ITEMS)
    items, part = listed(directory, "many", count), listed(directory, "part", max(1, count // PART))
    words = ["-n", str(AT_A_TIME), "--", "echo"]
    command = [VIGIE, "map", "-j2", *words]
    ours, xargs = in_turn([fed(command, items), fed(["xargs", "-P2", *words], items)], rounds)
    title = f"{count:,} items from standard input, {AT_A_TIME:,} for each echo"
    return [
        Result("shellmaps-many", title, "s", ours, "xargs -P2", xargs),
        Result(
            "shellmaps-many-memory",
            "… our peak, beside a tenth of the items",
            "MB",
            [peak(command, items)],
            "a tenth",
            [peak(command, part)],
        ),
    ]


def one(rounds: int) -> list[Result]:
    """The whole process over one item."""
    ours, bare = in_turn(
        [
            lambda: timed([VIGIE, "map", "--", "/bin/true", ":::", "1"]) * 1000,
            lambda: timed([sys.executable, "-c", "pass"]) * 1000,
        ],
        scaled(rounds * 4, least=1),
    )
    return [
        Result("shellmaps-one", "`vigie map -- /bin/true ::: 1`, whole process", "ms", ours, "python3 -c pass", bare)
    ]


def missing() -> str:
    """Say why GNU parallel is not measured; nothing if it is."""
    return peers.if_there(lambda: peers.program("parallel", "parallel"))[1]


def run(rounds: int) -> list[Result]:
    """Measure all."""
    peers.program("xargs", "findutils")
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as directory:
        return [*short(directory, rounds), *grouped(directory, rounds), *many(directory, rounds), *one(rounds)]
