"""``vigie stop``, ``suspend``, ``resume``, ``retry`` and ``remove``: do something to jobs."""

from __future__ import annotations

from vigie.cli.context import Verb
from vigie.errors import UsageError
from vigie.model import FINISHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from vigie.cli.context import Context

__all__ = ["REMOVE", "RESUME", "RETRY", "STOP", "SUSPEND"]

_OPEN = ("queued", "blocked", "running", "suspended")


def _add_selection(parser: argparse.ArgumentParser, every: str) -> None:
    from vigie.cli.options import add_selection

    add_selection(parser, every)
    parser.add_argument("--json", action="store_true", help="answer with JSON")


def _adding(every: str) -> Callable[[argparse.ArgumentParser], None]:
    """Make what adds SEL to a verb whose ``--all`` means ``every``."""
    return lambda parser: _add_selection(parser, every)


# --- stop -------------------------------------------------------------------------


def _add_stop(parser: argparse.ArgumentParser) -> None:
    _add_selection(parser, "all jobs that have not ended")
    parser.add_argument("--grace", metavar="T", help="between SIGTERM and SIGKILL; 0 kills at once; default: the job's")


def _stop(args: argparse.Namespace, out: Context) -> int:
    """End jobs with all their processes; what is left is said."""
    from vigie.cli.options import selection
    from vigie.values import parse_duration

    grace = None if args.grace is None else parse_duration(args.grace, "--grace")
    ids = selection(args, out, _OPEN)
    jobs = out.client().call("stop", ids=ids, grace=grace)["jobs"] if ids else []
    if args.json:
        out.json(jobs)
    left = False
    for job in jobs:
        if job.get("left"):
            left = True
            pids = ", ".join(map(str, job["left"]))
            out.say(f"vigie: {job['id']} {job['state']}, but still there: processes {pids}")
            out.say(f"  ps -fp {pids.replace(' ', '')}")
        elif job.get("note"):
            out.say(f"{job['note']} · vigie show {job['id']}")
        elif out.is_person:
            out.say(f"stopped {job['id']}" if job["state"] == "stopped" else f"{job['id']} {job['state']}")
    return 1 if left else 0


# --- suspend, resume, retry ---------------------------------------------------------


def _changing(op: str, states: tuple[str, ...], done: str) -> Callable[[argparse.Namespace, Context], int]:
    """Make the body of a verb that asks the agent to change jobs, each for itself."""

    def run(args: argparse.Namespace, out: Context) -> int:
        from vigie.cli.options import selection

        ids = selection(args, out, states)
        jobs = out.client().call(op, ids=ids)["jobs"] if ids else []
        if args.json:
            out.json(jobs)
        return _report(jobs, done, out)

    return run


def _add_retry(parser: argparse.ArgumentParser) -> None:
    _add_selection(parser, "all jobs that failed, were stopped or are lost")
    parser.add_argument("--item", metavar="N", type=int, help="of a parallel run that goes on: this failed item")


def _retry(args: argparse.Namespace, out: Context) -> int:
    """Run jobs again, or one item of a run."""
    if args.item is None:
        return _changing("retry", ("failed", "stopped", "lost"), "started again")(args, out)
    if len(args.jobs) != 1:
        raise UsageError("--item is of one job", "vigie retry JOB --item N")
    from vigie.cli.steer import steer

    args.job = args.jobs[0]
    return steer(args, out, [{"retry": args.item}], f"{args.job}: item {args.item} again")


def _report(jobs: list[dict[str, Any]], done: str, out: Context) -> int:
    """Say what changed, and what did not and why; 1 if something was refused."""
    refused = False
    for job in jobs:
        if job.get("note") and not job.get("changed"):
            refused = True
            out.say(f"vigie: {job['note']}\n  vigie show {job['id']}")
        elif out.is_person:
            out.say(f"{done} {job['id']}" if job.get("changed") else f"{job['id']} is {job['state']} already")
    return 1 if refused else 0


# --- remove -----------------------------------------------------------------------


def _add_remove(parser: argparse.ArgumentParser) -> None:
    _add_selection(parser, "all jobs that have ended; with --force those that have not begun too")
    parser.add_argument("--force", action="store_true", help="those that have not begun too")
    parser.add_argument("--finished", action="store_true", help="all that have ended")
    parser.add_argument("--older-than", metavar="T", help="with --finished: only those that ended this long ago")


def _remove(args: argparse.Namespace, out: Context) -> int:
    """Remove jobs with their output; what runs is refused."""
    if args.finished:
        return _prune(args, out)
    if args.older_than is not None:
        raise UsageError("--older-than goes with --finished", "vigie remove --finished --older-than 7d")
    from vigie.cli.options import selection

    states = (*FINISHED, "queued", "blocked") if args.force else FINISHED
    ids = selection(args, out, states)
    answer = out.client().remove(ids, force=args.force) if ids else {"removed": [], "refused": []}
    if args.json:
        out.json(answer)
    for refusal in answer["refused"]:
        out.say(f"vigie: {refusal['why']}")
    if out.is_person and (answer["removed"] or not answer["refused"]):
        _count(len(answer["removed"]), out)
    return 1 if answer["refused"] else 0


def _prune(args: argparse.Namespace, out: Context) -> int:
    from vigie.values import parse_duration

    if args.jobs or args.all:
        raise UsageError("--finished chooses by itself", "vigie remove --finished [--older-than T]")
    older = None if args.older_than is None else parse_duration(args.older_than, "--older-than")
    removed = out.client().call("prune", older_than=older)["removed"]
    if args.json:
        out.json({"removed": removed})
    if out.is_person:
        _count(removed, out)
    return 0


def _count(count: int, out: Context) -> None:
    out.say(f"removed {count} job{'' if count == 1 else 's'}")


STOP = Verb(
    "end jobs: SIGTERM to the whole tree, after the grace SIGKILL; returns when all of it is gone",
    """\
vigie stop 12
vigie stop report --grace 30s
vigie stop --tag import
vigie stop --all
""",
    _add_stop,
    _stop,
)
SUSPEND = Verb(
    "freeze running jobs with all their processes; their timeouts stand still",
    """\
vigie suspend 12
vigie suspend --queue imports
""",
    _adding("all jobs that run"),
    _changing("suspend", ("running",), "suspended"),
)
RESUME = Verb(
    "let suspended jobs go on",
    """\
vigie resume 12
vigie resume --all
""",
    _adding("all suspended jobs"),
    _changing("resume", ("suspended",), "resumed"),
)
RETRY = Verb(
    "run jobs that have ended once more, under the same id",
    """\
vigie retry 12
vigie retry --state failed --since 1d
vigie retry 12 --item 503        # of a parallel run that goes on
""",
    _add_retry,
    _retry,
)
REMOVE = Verb(
    "forget jobs that have ended, and delete their output",
    """\
vigie remove 12 13
vigie remove --finished
vigie remove --finished --older-than 7d
vigie remove --state failed --tag test
""",
    _add_remove,
    _remove,
)
