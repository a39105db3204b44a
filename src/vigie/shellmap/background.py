"""``vigie map --background``: commands as one job; see ``vigie.parallel.background``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from vigie import tasks
from vigie.engines.command import CommandFailed, Done
from vigie.engines.commands import Commands
from vigie.errors import ItemStopped
from vigie.parallel.background import Background, Items, job_directory
from vigie.parallel.outcome import Outcome
from vigie.parallel.plan import Plan
from vigie.session import session
from vigie.shellmap.gate import Gate
from vigie.shellmap.outlets import Files, Results
from vigie.shellmap.printer import Printer
from vigie.shellmap.resumed import fingerprint
from vigie.shellmap.run import exit_code
from vigie.shellmap.wanted import Wanted, filler, spell

__all__ = ["run", "submit"]

#: What of the options goes along with the job.
_OPTIONS = ("timeout", "retries", "rate", "delay", "load", "memfree", "nice", "prefix", "results", "tmpdir")


def submit(what: Wanted, options: dict[str, Any]) -> int:
    """Make a job of what is wanted, all items included; give its id.

    Raises
    ------
    UsageError
        When an option of the job makes no sense.
    AgentUnreachable
        When the agent cannot be reached or started.
    """
    Gate(what.args.load, what.args.memfree)  # wrong words are refused here
    what.outlet(Printer())
    rows = [list(row) for row in what.rows()]
    given = {name: value for name in _OPTIONS if (value := getattr(what.args, name))}
    if "results" in given:
        given["results"] = os.path.abspath(given["results"])
    words = [*what.words] if what.line is None else [what.line]
    call = (session().home.root, words, what.line is not None, what.most, rows, what.limit, given)
    label = f"{os.fsdecode(spell(words) if what.line is None else what.line)} over {len(rows):,} items"
    return tasks.start_function(run, [(call, {})], options, label=label)[0].id


def run(
    home: str, words: list[bytes], is_line: bool, several: int, rows: list[list[bytes]], limit: int,
    options: dict[str, Any],
) -> None:  # fmt: skip
    """Run all commands, as the function of a job.

    Raises
    ------
    SystemExit
        When some have failed: with the exit code of ``vigie map``.
    """
    given = dict(options)
    prefix, delay, nice = given.pop("prefix", False), given.pop("delay", None), given.pop("nice", None)
    results, tmpdir = given.pop("results", None), given.pop("tmpdir", None)
    gate = Gate(given.pop("load", None), given.pop("memfree", None))
    plan = Plan(ordered=False, errors="collect", **{**given, "retries": int(given.get("retries", 0))})
    plan.space(delay)
    if nice is not None:
        os.nice(int(nice))
    directory = job_directory(home)
    journal = Items(os.path.join(directory, "items"), fingerprint([*words, b"line"] if is_line else words))
    outlet = Files(tmpdir) if results is None else Results(results)
    fill = filler([], words[0], several) if is_line else filler(words, None, several)
    engine = Commands(fill, limit, outlet, timeout=plan.timeout, gate=gate if gate.needed else None)
    gate.short = engine.send_back
    _Background(directory, engine, rows, plan, journal, Printer(prefix=prefix, recorded=True)).run()


class _Background(Background):
    def __init__(
        self, directory: str, engine: Commands, rows: Sequence[Sequence[bytes]], plan: Plan, journal: Items,
        printer: Printer,
    ) -> None:  # fmt: skip
        super().__init__(directory, engine, rows, plan, journal, errors="skip")
        self._printer = printer

    def _take(self, outcome: Outcome[Any]) -> None:
        done = outcome.error.done if isinstance(outcome.error, CommandFailed) else outcome.value
        if isinstance(done, Done):
            self._printer.show(done, outcome.attempts)
        super()._take(outcome)

    def _values(self) -> None:
        failed = [one for one in self._failed.values() if not isinstance(one.error, ItemStopped)]
        if failed:
            many = f"{len(failed):,} of {len(self._items):,} commands failed"
            sys.stderr.write(f"{many} · vigie retry {os.environ['VIGIE_JOB']} runs them again\n")
            raise SystemExit(exit_code(len(failed)))
