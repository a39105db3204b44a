"""``vigie wait``: until jobs have ended."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.cli.context import Context

SUMMARY = "wait until jobs have ended: 0 if all completed, 1 if one did not, 124 if the time is up"
EXAMPLES = """\
vigie wait 12 13
vigie wait --tag import --timeout 1h
vigie wait --any build test
vigie jobs --state running --json | jq '.[].id' | vigie wait -
vigie wait --all
"""
_OPEN = ("queued", "blocked", "running", "suspended")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from vigie.cli.options import add_selection

    add_selection(parser, "all jobs that have not ended")
    parser.add_argument("--any", action="store_true", help="until one of them has ended")
    parser.add_argument("--timeout", metavar="T", help="at most this long; they go on")
    parser.add_argument("--json", action="store_true", help="answer with a JSON object")


def run(args: argparse.Namespace, out: Context) -> int:
    """Wait, say which did not complete, and give the exit code."""
    from vigie.cli.options import selection
    from vigie.values import parse_duration

    timeout = None if args.timeout is None else parse_duration(args.timeout, "--timeout")
    # What is to be waited for has not ended; jobs named or filtered count however they ended.
    ids = selection(args, out, _OPEN if args.all else ())
    if not ids:
        answer: dict[str, Any] = {"done": True, "states": {}, "pending": []}
    else:
        answer, _ = out.client().wait(ids, any=args.any, timeout=timeout)
    if args.json:
        out.json({key: answer.get(key) for key in ("done", "states", "pending")})
    return _report(answer, out)


def _report(answer: dict[str, Any], out: Context) -> int:
    pending = {str(job) for job in answer["pending"]}
    ended = {job: state for job, state in answer["states"].items() if job not in pending and state is not None}
    bad = [(job, state) for job, state in ended.items() if state != "completed"]
    for job, state in bad[:20]:
        out.say(f"{job} {_ended(state)} · vigie {'show' if state == 'completed' else 'why'} {job}")
    if len(bad) > 20:
        out.say(f"… and {len(bad) - 20} more")
    if not answer["done"]:
        shown = ", ".join(sorted(pending, key=int)[:10])
        out.say(f"vigie: time is up; still open: {shown}{', …' if len(pending) > 10 else ''}")
        return 124
    return 1 if bad else 0


def _ended(state: str) -> str:
    return state if state == "failed" else f"was {state}"
