"""``vigie demo``: see it work, on this machine's own files, and see what a crash costs."""

from __future__ import annotations

import os
import shlex

from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from vigie.cli.context import Context
    from vigie.demo.stage import Stage

SUMMARY = "show real jobs on this machine's own files; and what a crash costs"
EXAMPLES = """\
vigie demo                       # under 20 s; cleans up after itself
vigie demo --dir /usr/share/doc
vigie demo --jobs 2000           # so many while agent and keeper are killed
"""
_LEAST, _MOST = 20, 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--dir", metavar="D", help="work on (a copy of) this directory; default: Python's library")
    parser.add_argument("--jobs", metavar="N", type=int, default=200, help="jobs in the test of the crash; default 200")


def run(args: argparse.Namespace, out: Context) -> int:
    """Play it; 1 if a promise did not hold."""
    if not _LEAST <= args.jobs <= _MOST:
        raise UsageError(f"--jobs is {args.jobs}: from {_LEAST} to {_MOST} make sense")
    from vigie.demo import story
    from vigie.demo.stage import Broken, Stage
    from vigie.demo.tree import default_tree
    from vigie.place import Place

    stage = Stage(out)
    source = os.path.abspath(args.dir) if args.dir is not None else default_tree()
    try:
        with Place() as place:
            story.play(stage, place, source, args.jobs)
    except (KeyboardInterrupt, SystemExit, Broken):
        stage.settle()
        out.say("vigie demo ended early; its processes have ended and its files are deleted")
        raise
    stage.tell(f"{place.top} is deleted, and no process of it is left.")
    _next(stage)
    return 0


def _next(stage: Stage) -> None:
    vigie = shlex.join(stage.program)
    stage.scene("Try next:")
    stage.line(f"  {vigie} start -n first --shell 'for i in 1 2 3; do date; sleep 1; done'")
    stage.line(f"  {vigie} logs -f first")
    stage.line(f"  {vigie} help")
