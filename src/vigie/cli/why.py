"""``vigie why``: why a job is as it is, in sentences."""

from __future__ import annotations

from vigie import selection, view
from vigie.cli import shown
from vigie.model import FINISHED
from vigie.output import Output
from vigie.presence import agent_pid
from vigie.terminal import clean, paint
from vigie.why import Explanation, Facts, at_instant, explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.cli.context import Context
    from vigie.store.reader import Reader

SUMMARY = "say why a job waits, runs, or ended as it did"
EXAMPLES = """\
vigie why 12
vigie why backup --at 02:05      # how it stood then, as its events tell
vigie why last --json | jq -r '.sentences[]'
"""
#: Lines of its errors to quote.
_TAIL = 8
_PAGE = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("job", metavar="JOB", help="id, name (its newest), last, or - (an id on stdin)")
    parser.add_argument("--at", metavar="T", help="at that instant: 09:30, 2026-01-31T09:30, or 5m (ago)")
    parser.add_argument("--json", action="store_true", help="as an object")


def run(args: argparse.Namespace, out: Context) -> int:
    """Explain it."""
    reader = out.reader()
    row = reader.get(shown.one_job([args.job], out))
    at = shown.now()
    if args.at is not None:
        instant = selection.moment(args.at, at, "--at")
        made = at_instant(row, list(_events(reader, row["id"])), instant, at)
    else:
        made = explain(facts(row, at, out))
    if args.json:
        out.json(
            {
                "id": row["id"],
                "state": row["state"],
                "sentences": made.sentences,
                "quoted": made.quoted,
                "next": made.commands,
            }
        )
        return 0
    _print(made, out)
    return 0


def _print(made: Explanation, out: Context) -> None:
    brush = paint(out)
    for sentence in made.sentences:
        indent = "  " if sentence.startswith("  ") else ""
        out.print(indent + clean(sentence.strip()))
    for line in made.quoted:
        out.print(brush("dim", f"  | {clean(line)}"))
    shown.next_commands(out, *made.commands)


def facts(row: dict[str, Any], at: int, out: Context) -> Facts:
    """Gather what explains the present state of a job."""
    reader = out.reader()
    job, state = row["id"], row["state"]
    waits = state == "queued"
    failed = state in ("failed", "lost")
    return Facts(
        row,
        at,
        attempts=reader.attempts(job),
        dependencies=reader.dependencies(job),
        keys=reader.keys(job) if waits else None,
        queue=reader.queue(row["queue"]) if waits else None,
        ahead=reader.ahead(row) if waits else 0,
        agent=state in FINISHED or agent_pid(out.home) is not None,
        error=view.error(reader.content(job).get("error")) if failed else None,
        tail=_tail(row, out) if failed and row["reason"] not in ("spawn", "dependency", "exception") else None,
        stopper=_stopper(reader, job),
        boot=_boot(),
    )


def _tail(row: dict[str, Any], out: Context) -> list[str]:
    """Give the last lines of a job's errors, else of its output."""
    for streams in (("error", "warning"), ("output",)):
        with Output(out.reader(), out.home, row["id"], streams=streams) as output:
            output.last(_TAIL)
            # Of a line of any length only its end is worth quoting.
            kept = b""
            for piece in output.pump():
                kept = (kept + piece.shown)[-8192:]
        if kept:
            return kept.decode("utf-8", "backslashreplace").splitlines()[-_TAIL:]
    return []


def _stopper(reader: Reader, job: int) -> dict[str, Any] | None:
    stops = [row for row in _events(reader, job) if row["verb"] == "stop"]
    return stops[-1] if stops else None


def _events(reader: Reader, job: int) -> Any:
    after = 0
    while page := reader.job_events(job, after, _PAGE):
        yield from page
        after = page[-1]["id"]


def _boot() -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None
