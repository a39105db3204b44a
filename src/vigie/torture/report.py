"""The torture in words: progress while it runs, figures at its end."""

from __future__ import annotations

import json
import os
import random
import time
from typing import TYPE_CHECKING, Any

from vigie.errors import UsageError
from vigie.place import Place
from vigie.terminal import Table, clip, paint, width
from vigie.torture.books import RULES
from vigie.torture.storm import KINDS, WITHIN, Outcome, torture

if TYPE_CHECKING:
    from vigie.cli.context import Context

__all__ = ["Progress", "as_json", "figures", "run"]

#: Seconds between two lines of progress where no line can be written anew.
_RARELY = 2.0
#: Of what broke a promise, how many lines are shown.
_SHOWN = 5
_MOST = 1_000_000


class Progress:
    """Says on stderr how far it is: a line written anew on a terminal, else lines now and then.

    Parameters
    ----------
    out:
        Where to.
    rounds:
        Of how many.
    quiet:
        Say nothing unless a person reads it.
    """

    def __init__(self, out: Context, rounds: int, *, quiet: bool) -> None:
        self._out = out
        self._rounds = rounds
        self._lively = out.is_person and os.environ.get("TERM", "dumb") != "dumb"
        self._quiet = quiet and not self._lively
        self._told = time.monotonic()

    def __call__(self, done: int, doing: str) -> None:
        """Take it that so many rounds are done, and what is being done."""
        text = f"round {done} of {self._rounds}: {doing}"
        if self._lively:
            self._out.stderr.write("\r" + clip(text, width(self._out.stderr) - 1) + "\x1b[K")
            self._out.stderr.flush()
        elif not self._quiet and time.monotonic() - self._told >= _RARELY:
            self._told = time.monotonic()
            self._out.say(text)

    def close(self) -> None:
        """Take the line away that was written anew."""
        if self._lively:
            self._out.stderr.write("\r\x1b[K")
            self._out.stderr.flush()


def run(out: Context, rounds: int, seed: int | None, *, as_object: bool) -> int:
    """Do ``vigie doctor --torture``; 1 if a promise was broken.

    Raises
    ------
    UsageError
        When the number of rounds makes no sense.
    """
    if not 1 <= rounds <= _MOST:
        raise UsageError(
            f"--torture is {rounds}: it takes the number of rounds, from 1 on", "vigie doctor --torture 30"
        )
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    progress = Progress(out, rounds, quiet=as_object)
    with Place("vigie-torture-") as place:
        out.say(f"{_rounds(rounds)} in {place.top}, seed {seed}")
        try:
            outcome = torture(place, rounds, seed, say=progress)
        except (KeyboardInterrupt, SystemExit):
            progress.close()
            out.say("ended early; its processes are ended and its files deleted")
            raise
        except Exception:
            progress.close()
            out.say(f"it broke down; seed {seed}, kept for you: {place.top}")
            raise
        progress.close()
        kept = place.top if place.keep else None
        found = as_json(outcome, rounds, kept)
        if kept is not None:
            with open(os.path.join(kept, "verdict.json"), "w", encoding="utf-8") as file:
                json.dump({**found, "kills": [kill._asdict() for kill in outcome.kills]}, file, indent=1)
    if as_object:
        out.json(found)
    else:
        _tell(out, outcome, rounds, kept)
    return 0 if outcome.verdict.good else 1


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"


def as_json(outcome: Outcome, rounds: int, kept: str | None) -> dict[str, Any]:
    """Give everything that was found."""
    verdict = outcome.verdict
    served = outcome.served
    return {
        "kept_promises": verdict.good,
        "rounds": rounds,
        "seed": outcome.seed,
        "seconds": round(outcome.seconds, 3),
        "kills": {kind: outcome.killed[kind] for kind in KINDS},
        "acknowledged": verdict.acknowledged,
        "attempts": verdict.attempts,
        "ends": verdict.ends,
        "ended_with_worker": verdict.by_kill,
        "broken": {rule: len(lines) for rule, lines in verdict.broken.items()},
        "details": [line for lines in verdict.broken.values() for line in lines],
        "served": {"median": outcome.median, "max": max(served, default=None), "within": WITHIN, "times": len(served)},
        "directory": kept,
    }


def figures(outcome: Outcome) -> list[list[str]]:
    """Give the rows of the table: what, and how many."""
    verdict = outcome.verdict
    rows = [
        [f"kills of {'all of them at once' if kind == 'all' else f'the {kind}'}", outcome.killed[kind]]
        for kind in KINDS
    ]
    rows += [["jobs acknowledged", verdict.acknowledged], ["attempts that ran", verdict.attempts]]
    rows += [[f"jobs {state}", verdict.ends.get(state, 0)] for state in ("completed", "failed", "stopped", "lost")]
    rows += [["functions that ended with their worker", verdict.by_kill]]
    rows += [[RULES[rule], len(lines)] for rule, lines in verdict.broken.items()]
    told = [[str(what), str(count)] for what, count in rows]
    if outcome.median is not None:
        told.append(["a restarted agent served after (median)", f"{outcome.median:.2f} s"])
        told.append([f"… at the latest (allowed: {WITHIN:g} s)", f"{max(outcome.served):.2f} s"])
    return told


def _tell(out: Context, outcome: Outcome, rounds: int, kept: str | None) -> None:
    brush = paint(out)
    for line in Table(["WHAT", "FOUND"], right=(1,)).lines(figures(outcome), paint=brush):
        out.print(line)
    for rule, lines in outcome.verdict.broken.items():
        for line in lines[:_SHOWN]:
            out.print(brush("red", f"{RULES[rule]}: {line}"))
        if len(lines) > _SHOWN:
            out.print(f"… and {len(lines) - _SHOWN} more")
    said = f"{_rounds(rounds)} in {outcome.seconds:.0f} s, seed {outcome.seed}"
    if kept is None:
        out.print(brush("green", f"every promise was kept: {said}"))
    else:
        out.print(brush("red", f"a promise was broken: {said}"))
        out.print(f"kept for you: {kept} (verdict.json, notes, witness; VIGIE_HOME={kept}/home vigie events)")
