"""``vigie start``: submit, print the id, done."""

from __future__ import annotations

from vigie.cli.options import WHAT, add_start_options, parse, split_words, submission

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.cli.context import Context
    from vigie.submission import Submission

__all__ = ["EXAMPLES", "NOTES", "SUMMARY", "USAGE", "add_arguments", "parse", "run", "split_words"]

SUMMARY = "run something in the background; the id alone goes to stdout"
USAGE = "vigie start [options] WHAT"
NOTES = WHAT
EXAMPLES = """\
vigie start -- rsync -a /srv /backup
vigie start -n report --timeout 1h report.py --month 11
vigie start --shell 'sort big.txt | uniq -c > counts'
vigie start -f shop.tasks:rebuild --args '["2026", 11]'
vigie start --after report --in 10m -- mail-it
cat list | vigie start --stdin - -- xargs -n1 fetch
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_start_options(parser)


def run(args: argparse.Namespace, out: Context) -> int:
    """Submit the job and print its id."""
    wanted = submission(args, out)
    if args.dry_run:
        return show_dry(wanted, out, as_json=args.json)
    answer = wanted.send(out.client(), tell=args.json or out.is_person)
    job = answer["ids"][0]
    if args.json:
        out.json(
            {
                "id": job,
                "name": wanted.job.get("name"),
                "state": (answer.get("states") or [None])[0],
                "existing": bool(answer.get("existing")),
                "waits": answer.get("waits"),
            }
        )
    else:
        out.print(str(job))
    if out.is_person:
        out.say(_message(job, wanted, answer, out))
    return 0


def _message(job: int, wanted: Submission, answer: dict[str, Any], out: Context) -> str:
    """Say what became of it, and what to type next."""
    if answer.get("existing"):
        return f"{job} is the job of this key already · vigie show {job}"
    waits = answer.get("waits")
    if waits:
        said = waiting(job, waits, now=bool(wanted.job.get("now"))) or key_held(job, waits, out)
        if said is not None:
            return said
        if waits.get("rate") is not None:
            return f"{job} is queued: the rate of {waits['queue']} says when it starts · vigie why {job}"
    state = (answer.get("states") or [None])[0]
    if state == "blocked":
        return f"{job} waits · vigie why {job}"
    if state == "failed":
        return f"{job} failed at once · vigie why {job}"
    return f"started {job} · vigie logs -f {job}"


def waiting(job: int, waits: dict[str, Any], *, now: bool = False) -> str | None:
    """Say what a queued job waits for; None if it may start at any moment.

    >>> waiting(12, {"queue": "default", "slots": 2, "used": 2, "busy": [7, 9], "paused": False})
    '12 waits: default has 2 of 2 slots busy (7, 9); --now starts it at once'
    """
    queue, slots = waits.get("queue"), waits.get("slots")
    if waits.get("paused"):
        return f"{job} waits: queue {queue} is paused · vigie queue resume {queue}"
    if slots is None or waits.get("used", 0) < slots or now:
        return None
    if not slots:
        return f"{job} waits: {queue} has no slots · vigie queue set {queue} --slots 1"
    busy = waits.get("busy") or []
    shown = ", ".join(map(str, busy[:5])) + (", …" if len(busy) > 5 else "")
    return f"{job} waits: {queue} has {waits['used']} of {slots} slots busy ({shown}); --now starts it at once"


def key_held(job: int, waits: dict[str, Any], out: Context) -> str | None:
    """Say which of its concurrency keys a queued job waits for; None if it may start at any moment."""
    if not waits.get("keyed"):
        return None
    for row in out.reader().keys(job):
        if not row["held"] and len(row["holders"]) >= row["most"]:
            holders = ", ".join(map(str, row["holders"][:5])) + (", …" if len(row["holders"]) > 5 else "")
            return f"{job} waits: concurrency key {row['key']!r} is held by {holders} · vigie why {job}"
    return None


def show_dry(wanted: Submission, out: Context, *, as_json: bool) -> int:
    """Print what would be submitted; nothing is."""
    described = wanted.describe()
    if described["due"] is not None:
        from vigie.values import format_time

        described["due"] = format_time(described["due"])
    if as_json:
        out.json(described)
        return 0
    import json

    env = described.pop("env")
    for key, value in described.items():
        if value in (None, [], {}, False):
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        out.print(f"{key + ':':<13} {_one_line(text)}")
    out.print("env:")
    for key, value in env.items():
        out.print(f"  {key}={_one_line(value)}")
    return 0


def _one_line(text: str) -> str:
    """Make control characters harmless, and a line of it."""
    return "".join(c if c.isprintable() or 0xDC80 <= ord(c) <= 0xDCFF else f"\\x{ord(c):02x}" for c in text)
