"""``vigie up`` and ``vigie down``: the services of a project, from one file."""

from __future__ import annotations

import os

from vigie.cli.context import Verb
from vigie.errors import NotFound, UsageError
from vigie.manifest import Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.cli.context import Context

__all__ = ["DOWN", "UP", "load"]

#: What is looked for where nothing is named.
FILES = ("vigie.toml", "Procfile")


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", nargs="?", help="default ./vigie.toml, else ./Procfile")
    add("-d", "--detach", action="store_true", help="leave them up, and end once they are")
    add("--timeout", metavar="T", help="with -d: wait at most so long; default 2m")
    add("--json", action="store_true", help="with -d: answer with JSON")


def _down_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", nargs="?", help="default ./vigie.toml, else ./Procfile")
    add("--now", action="store_true", help="kill at once, without the waits of stop sequences")
    add("--json", action="store_true", help="answer with JSON")


def _path(given: str | None) -> str:
    if given is not None:
        return os.path.join(given, "vigie.toml") if os.path.isdir(given) else given
    found = next((name for name in FILES if os.path.isfile(name)), None)
    if found is None:
        raise NotFound("there is neither a vigie.toml nor a Procfile here", "vigie up FILE")
    return found


def load(path: str) -> Manifest:
    """Read a vigie.toml or a Procfile.

    Raises
    ------
    UsageError
        When it cannot be read.
    """
    from vigie.cli import apply

    if os.path.basename(path).partition(".")[0] != "Procfile":
        return apply.load(path)
    import re

    from vigie.convert.procfile import PORT, parse_procfile, to_toml
    from vigie.manifest import read_manifest
    from vigie.manifest_keys import PROJECT

    owner = os.path.realpath(path)
    try:
        with open(owner, encoding="utf-8") as file:
            processes = parse_procfile(file.read(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no UTF-8'}") from None
    base = os.path.dirname(owner)
    project = os.path.basename(base)
    fits = re.fullmatch(PROJECT, project) and not project.isdigit() and project != "last"
    port = os.environ.get("PORT", "")
    text = to_toml(
        processes,
        project=project if fits else None,
        env_file=os.path.isfile(os.path.join(base, ".env")),
        port=int(port) if port.isdigit() else PORT,
    )
    return read_manifest(text.encode(), owner, path, refuse=False)


def _up(args: argparse.Namespace, out: Context) -> int:
    from vigie.cli import apply
    from vigie.cli.up_run import Run

    manifest = load(_path(args.file))
    run = Run(manifest, out)
    changes = apply.make_so(manifest, None, out)
    if not manifest.services:
        manifest.refuse()
        raise UsageError(f"{manifest.shown} declares no services", "[service.NAME] with a run = […]")
    for change in changes.list:
        if change.kind != "service" or change.before is not None:
            run.say(f"{change.sign} {change.kind} {change.name}")
    if args.detach:
        return _detached(args, run, out)
    return run.attached()


def _detached(args: argparse.Namespace, run: Any, out: Context) -> int:
    from vigie.cli import service_show, service_wait

    run.start()
    instances = service_wait.wait(run.names, "settled", args.timeout, out)
    if args.json:
        out.json({"instances": instances})
    else:
        service_show.say(instances, "settled", out, changed={each["name"] for each in instances})
    return 1 if any(each["state"] in ("failed", "backoff") for each in instances) else 0


def _down(args: argparse.Namespace, out: Context) -> int:
    owner = os.path.realpath(_path(args.file))
    from vigie.cli.up_stop import stop_in_order

    rows = [row for row in out.reader().services.all() if row["owner"] == owner]
    if not rows:
        raise NotFound(f"{owner} has no services", "vigie up, or vigie service list")
    found = stop_in_order([row["name"] for row in rows], out, now=args.now)
    if args.json:
        out.json({"instances": found})
    elif out.is_person:
        out.say(f"down: {', '.join(row['name'] for row in rows)} · vigie up")
    return 0


UP = Verb(
    "start a project's services; show them until Ctrl-C",
    """\
vigie up                    # the services of ./vigie.toml, else of ./Procfile
vigie up -d                 # leave them up
vigie down                  # stop them, in reverse order
""",
    _arguments,
    _up,
)
DOWN = Verb(
    "stop a project's services, in reverse order",
    """\
vigie down
vigie down --now shop/vigie.toml
""",
    _down_arguments,
    _down,
)
