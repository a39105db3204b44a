"""The scenes of ``vigie demo``, in their order."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from vigie.demo import load, work
from vigie.demo.stage import Broken
from vigie.demo.tree import copy
from vigie.errors import VigieError
from vigie.handle import get
from vigie.values import format_size

if TYPE_CHECKING:
    from vigie.demo.stage import Stage
    from vigie.place import Place

__all__ = ["play"]

#: Files to compress one by one, the largest of the tree.
_BIG = 5
#: Characters of a name that reads well in a line of output.
_READABLE = 20


def play(stage: Stage, place: Place, source: str, jobs: int) -> None:
    """Play all scenes.

    Parameters
    ----------
    stage, place:
        Where it is shown, and where it happens; the place has been entered.
    source:
        The directory to work on; it is copied, never written to.
    jobs:
        How many jobs to submit while everything is killed.

    Raises
    ------
    Broken
        When a promise did not hold.
    VigieError
        When there is nothing in the directory to work on, or no tool to do it with.
    """
    for tool in ("tar", "gzip", "cksum"):
        if shutil.which(tool) is None:
            raise VigieError(f"the demo runs {tool}, which is not here", "install tar, gzip and coreutils")
    count, size = copy(source, "tree")
    stage.tell(
        f"{count} files ({format_size(size)}) of {source} were copied to {place.top}/tree. What follows is real, "
        "in a home of its own; at the end all of it is deleted."
    )
    stage.typed(f"cd {place.top}")
    stage.typed("export VIGIE_HOME=$PWD/home")
    _background(stage, count)
    _follow(stage)
    _stop(stage, place)
    _explain(stage)
    load.survive(stage, place, jobs)
    _goodbye(stage)


def _background(stage: Stage, files: int) -> None:
    stage.scene("1. A command and a Python function, in the background")
    stage.vigie("start", "-n", "pack", "--", "tar", "czf", "tree.tgz", "tree")
    stage.vigie("start", "-n", "sums", "-f", "vigie.demo.work:checksums", "--args", '["tree"]')
    stage.tell("What the function yields arrives while it runs; receive gives what is new.")
    shown = received = False
    for record in get("sums"):
        done = record.value
        packed = os.path.getsize("tree.tgz") if os.path.exists("tree.tgz") else 0
        stage.progress(f"sums: {done['files']} of {done['of']} files · pack: {format_size(packed)} so far")
        if not shown:
            shown = True
            stage.vigie("jobs")
        elif not received and 2 * done["files"] >= files:
            received = True
            stage.vigie("receive", "sums")
    stage.vigie("wait", "pack", "sums")
    stage.vigie("receive", "sums")
    stage.vigie("jobs")
    names: dict[str, Any] = {}
    stage.python("import vigie\ntotal = vigie.get('sums').result()", names)
    stage.python("total['files'], total['bytes'], total['packed'], total['sha256'][:8]", names)
    if names["total"]["sha256"] != work.digest("tree"):
        raise Broken("the result of sums is not that of the same function called here", "vigie show sums")


def _follow(stage: Stage) -> None:
    stage.scene("2. Follow what a job says")
    os.mkdir("big")
    found = work.files_of("tree")
    readable = [path for path in found if len(os.path.basename(path)) <= _READABLE] or found
    for path in sorted(readable, key=os.path.getsize)[-_BIG:]:
        # What is compressed by name, gzip would leave alone.
        shutil.copyfile(path, os.path.join("big", os.path.basename(path).replace("gz", "packed")))
    stage.vigie("start", "-n", "big", "--shell", "gzip -9 -k -v big/*")
    stage.vigie("logs", "-f", "big")


def _stop(stage: Stage, place: Place) -> None:
    stage.scene("3. Stop one, with every process that it started")
    stage.vigie("start", "-n", "endless", "--shell", "while :; do tar cf - tree | gzip -1 | wc -c; done")
    job = get("endless")
    next(iter(job))
    stage.vigie("stop", "endless")
    left = place.members(job.id)
    if left or job.state != "stopped":
        raise Broken(f"endless is {job.state}, and {left or 'nothing'} of it is left")
    stage.tell("No process of its tree is left.")


def _explain(stage: Stage) -> None:
    stage.scene("4. One that fails, and why")
    half = os.path.getsize("tree.tgz") // 2
    stage.vigie("start", "-n", "half", "--shell", f"head -c {half} tree.tgz | gzip -t")
    stage.vigie("wait", "half", expect=1)
    stage.vigie("why", "half")


def _goodbye(stage: Stage) -> None:
    stage.line()
    stage.vigie("agent", "stop")
