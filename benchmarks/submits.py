"""Durable submits to a paused queue: by one client, and by eight at once.

Beside huey, which does not wait for the disk, stands what the disk allows a program
that commits each row by itself: SQLite's own INSERT and COMMIT with synchronous=FULL.
"""

from __future__ import annotations

import sys
import tempfile

import peers
from harness import HERE, Result, Side, in_turn, scaled, together
from homes import hold, own_home

ONE = 1_000
EACH = 2_000
CLIENTS = 8


def sides(clients: int, each: int, directory: str, huey: str | None) -> dict[str, Side]:
    """Give those who submit ``each`` jobs in each of ``clients`` processes, as jobs a second."""

    def side(name: str, python: str, *words: str) -> Side:
        command = [python, str(HERE / f"submit_{name}.py"), *words, str(each)]
        return lambda: together(command, clients, each)

    found = {
        "ours": side("vigie", sys.executable),
        "sqlite": side("sqlite", sys.executable, f"{directory}/plain.db"),
    }
    if huey:
        found["huey"] = side("huey", huey, f"{directory}/huey.db")
    return found


def run(rounds: int) -> list[Result]:
    """Measure both."""
    huey, no_huey = peers.if_there(lambda: peers.python(peers.HUEY))
    results = []
    with own_home() as home, tempfile.TemporaryDirectory(prefix="vigie-bench-") as directory:
        hold(home)
        many = scaled(CLIENTS)
        for name, clients, each, title in (
            ("submits-one", 1, scaled(ONE), "durable submits, one after another"),
            ("submits-eight", many, scaled(EACH), f"durable submits, {many} client processes together"),
        ):
            who = sides(clients, each, directory, huey)
            found = dict(zip(who, in_turn(list(who.values()), rounds), strict=True))
            plain = "SQLite: INSERT, COMMIT, synchronous=FULL"
            theirs = found.get("huey", ())
            results.append(Result(name, title, "jobs/s", found["ours"], f"huey, SQLite, no fsync{no_huey}", theirs))
            results.append(Result(f"{name}-disk", title, "jobs/s", found["ours"], plain, found["sqlite"]))
    return results
