"""``vigie why``: why a job is as it is, in sentences."""

from __future__ import annotations

from vigie import selection, view
from vigie.cli import shown
from vigie.errors import UsageError
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

SUMMARY = "say why a job, or a schedule, stands as it does"
EXAMPLES = """\
vigie why 12
vigie why backup --at 02:05      # how it stood then, as its events tell
vigie why nightly                # of a schedule: its last and its next instant
vigie why last --json | jq -r '.sentences[]'
"""
#: Lines of its errors to quote.
_TAIL = 8
_PAGE = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("job", metavar="JOB|NAME", help="a job (id, name, last, -), a schedule or a service (name)")
    parser.add_argument("--at", metavar="T", help="at that instant: 09:30, 2026-01-31T09:30, or 5m (ago)")
    parser.add_argument("--json", action="store_true", help="as an object")


def run(args: argparse.Namespace, out: Context) -> int:
    """Explain it."""
    reader = out.reader()
    at = shown.now()
    plan = _schedule(args.job, out)
    if plan is not None:
        return _schedule_why(plan, args, at, out)
    service = _service(args.job, out)
    if service is not None:
        if args.at is not None:
            raise UsageError("--at goes with jobs and schedules", f"vigie service status {service['name']}")
        return _service_why(service, args, at, out)
    row = reader.get(shown.one_job([args.job.removeprefix("job:")], out))
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


def _schedule(word: str, out: Context) -> dict[str, Any] | None:
    """Give the schedule that a word names: its jobs have the same name, and are asked for by their ids."""
    from vigie.cli.declared import schedule_name

    name = word.removeprefix("schedule:")
    if name == word and (word.isdigit() or word in ("last", "-") or word.startswith("job:")):
        return None
    found = next(iter(out.reader().schedules.all([schedule_name(name, out)])), None)
    if found is None and name != word:
        out.reader().schedules.get(name)  # which says that there is none
    return found


def _schedule_why(row: dict[str, Any], args: argparse.Namespace, at: int, out: Context) -> int:
    """Explain a schedule."""
    from vigie.agenda import Agenda
    from vigie.why_schedule import explain as explain_schedule
    from vigie.why_schedule import explain_at

    plan, reader = Agenda(row), out.reader()
    if args.at is not None:
        from vigie.values import parse_time

        instant = parse_time(args.at, at, plan.zone.rules, past=True, option="--at")
        made = explain_at(plan, reader.schedules.at(row["id"], instant), instant)
    else:
        newest = next(iter(reader.schedules.history(row["id"], 1, at)), None)
        queue = reader.queue(plan.table.get("queue") or "schedules")
        made = explain_schedule(plan, newest, at, agent=agent_pid(out.home) is not None, queue=queue)
    if args.json:
        out.json({"name": row["name"], "state": row["state"], "sentences": made.sentences, "next": made.commands})
    else:
        _print(made, out)
    return 0


def _service(word: str, out: Context) -> dict[str, Any] | None:
    """Give the service that a word names; of an instance's name, the service with that instance alone."""
    from vigie.cli.declared import service_name

    if word.isdigit() or word in ("last", "-") or word.startswith("job:"):
        return None
    name = service_name(word, out)
    reader = out.reader().services
    meant = reader.meant(name)
    if meant is None:
        return reader.get(name) if word.startswith("service:") else None
    row = reader.get(meant)
    return {**row, "instances": [each for each in row["instances"] if name in (meant, each["name"])]}


def _service_why(row: dict[str, Any], args: argparse.Namespace, at: int, out: Context) -> int:
    """Explain a service by the chain of its causes."""
    from vigie import why_service
    from vigie.cli.service_show import last_lines

    others = {each["name"]: each for each in out.reader().services.all()}
    lines: dict[str, str] = {}
    for each in (one for other in [row, *others.values()] for one in other["instances"]):
        if each["state"] in ("backoff", "failed", "starting"):
            lines[each["name"]] = "".join(last_lines(each, out, 1))
    made = why_service.explain(row, others, lines, at, agent=agent_pid(out.home) is not None)
    if args.json:
        from vigie import service_view

        state = service_view.summary(row)["state"]
        out.json({"name": row["name"], "state": state, "sentences": made.sentences, "next": made.commands})
    else:
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
