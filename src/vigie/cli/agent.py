"""``vigie agent``: the background process itself, and its store's copies."""

from __future__ import annotations

import os
import time

from vigie.cli.agent_end import end
from vigie.errors import AgentUnreachable, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from vigie.cli.context import Context
    from vigie.client import Client

SUMMARY = "start, stop, install and look at the agent; back its store up and restore it"
#: What is meant when nothing is said.
BARE = "status"
EXAMPLES = """\
vigie agent                    # as vigie agent status
vigie agent restart            # as after an upgrade; jobs go on
vigie agent stop               # jobs go on; the next verb that writes starts it again
vigie agent install            # have it started at boot, and kept up
vigie agent backup ~/vigie.db
vigie agent restore ~/vigie.db # keeps the replaced store
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done to the agent."""
    actions = parser.add_subparsers(
        dest="action", metavar="start|stop|restart|status|install|uninstall|backup|restore", required=True
    )
    for name, text in (
        ("start", "start it, if it does not run"),
        ("stop", "end it; what runs goes on"),
        ("restart", "end it and start the one that is installed now; what runs goes on"),
        ("status", "say how it is"),
        ("install", "have it started at boot: a systemd user unit with linger, a launchd agent, or say what to do"),
        ("uninstall", "undo that"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("--json", action="store_true", help="answer with a JSON object")
    backup = actions.add_parser("backup", help="copy the store while it works")
    backup.add_argument("file", nargs="?", metavar="FILE", help="default: a new file in backups/")
    backup.add_argument("--json", action="store_true", help="answer with a JSON object")
    restore = actions.add_parser("restore", help="put a backup in the store's place, and keep the replaced one")
    restore.add_argument("file", metavar="FILE")
    restore.add_argument("--force", action="store_true", help="even if jobs run: they are stopped first")
    restore.add_argument("--json", action="store_true", help="answer with a JSON object")


def run(args: argparse.Namespace, out: Context) -> int:
    """Do it."""
    return _ACTIONS[args.action](args, out)


def _install(args: argparse.Namespace, out: Context) -> int:
    from vigie.cli import agent_install

    return agent_install.install(args, out)


def _uninstall(args: argparse.Namespace, out: Context) -> int:
    from vigie.cli import agent_install

    return agent_install.uninstall(args, out)


def _by_manager(out: Context, verb: str) -> bool:
    """Have it done by what keeps an installed agent up: it would undo what is done behind its back."""
    from vigie.installed import is_installed

    if not is_installed(out.home):
        return False
    from vigie.cli import agent_install

    return agent_install.control(out.home, verb)


def _start(args: argparse.Namespace, out: Context) -> int:
    from vigie.presence import agent_pid

    ran = agent_pid(out.home) is not None
    if not ran:
        _by_manager(out, "start")
    hello = out.client().connect()
    return _tell(args, out, hello, "runs already" if ran else "started")


def _stop(args: argparse.Namespace, out: Context) -> int:
    from vigie.presence import agent_pid

    pid = agent_pid(out.home)
    if pid is None or not _by_manager(out, "stop"):
        pid = end(out.client(), out)
    if args.json:
        out.json({"stopped": pid})
    if out.is_person:
        out.say("the agent did not run" if pid is None else f"the agent (pid {pid}) has ended; what runs goes on")
    return 0


def _restart(args: argparse.Namespace, out: Context) -> int:
    client = out.client()
    if not _by_manager(out, "restart"):
        end(client, out)
    return _tell(args, out, client.connect(), "restarted")


def _tell(args: argparse.Namespace, out: Context, hello: dict[str, Any], what: str) -> int:
    if args.json:
        out.json({"pid": hello.get("pid"), "version": hello.get("version")})
    if out.is_person:
        out.say(f"the agent {what}: pid {hello.get('pid')}, Vigie {hello.get('version')} · vigie agent status")
    return 0


# --- status -----------------------------------------------------------------------


def _status(args: argparse.Namespace, out: Context) -> int:
    from vigie.client import Client

    client = Client(out.home, program=out.program, autostart=False)
    try:
        status = client.call("status")
    except AgentUnreachable as error:
        if not args.json:
            raise
        out.json({"running": False, "home": out.home.root, "error": error.message})
        return error.code
    finally:
        client.close()
    if args.json:
        from vigie.values import format_time

        status["started"] = format_time(status["started"])
        out.json({"running": True, **status})
        return 0
    for name, value in _lines(status):
        out.print(f"{name + ':':<9} {value}")
    return 0


def _lines(status: dict[str, Any]) -> list[tuple[str, str]]:
    from vigie.values import format_duration, format_size

    jobs = ", ".join(f"{count} {state}" for state, count in status["jobs"].items() if count) or "none open"
    keeper, store = status.get("keeper") or {}, status["store"]
    memory = format_size(status["rss"]) if status.get("rss") else "?"
    since = format_duration(max(0, time.time_ns() // 1000 - status["started"]) // 1_000_000 * 1_000_000)
    size = "?" if store.get("size") is None else format_size(store["size"])
    return [
        ("agent", f"pid {status['pid']}, Vigie {status['version']}, up {since}, {memory}"),
        ("keeper", f"pid {keeper['pid']}, Vigie {keeper.get('version')}" if keeper.get("pid") else "not connected"),
        ("home", status["home"]),
        ("store", f"{store['path']}, {size}, schema {store['schema']}"),
        ("workers", str(len(status.get("workers") or []))),
        ("jobs", jobs),
    ]


# --- copies -----------------------------------------------------------------------


def _backup(args: argparse.Namespace, out: Context) -> int:
    path = None if args.file is None else os.path.abspath(os.path.expanduser(args.file))
    answer = out.client().call("backup", path=path)
    if args.json:
        out.json({"path": answer["path"], "size": answer["size"]})
        return 0
    out.print(answer["path"])
    if out.is_person:
        from vigie.values import format_size

        out.say(f"{format_size(answer['size'])} · vigie agent restore {answer['path']}")
    return 0


def _restore(args: argparse.Namespace, out: Context) -> int:
    """Check the backup, end the agent, put the backup in place, start the agent again."""
    from vigie.store.restore import check, restore

    source = os.path.abspath(os.path.expanduser(args.file))
    facts = check(source)
    client = out.client()
    _quiet(client, out, source, force=args.force)
    out.home.create()
    end(client, out)
    with _Lock(out):
        # No connection of ours may be open while the files change places.
        out.reader().close()
        kept = restore(source, out.home.db, out.home.jobs, note=_note(source, out))
    client.connect()
    if args.json:
        out.json({"restored": source, "replaced": kept, "jobs": facts["jobs"]})
        return 0
    out.say(f"restored {source}: {facts['jobs']} job{'' if facts['jobs'] == 1 else 's'}{_as_of(facts)}")
    if kept is not None:
        out.say(f"the replaced store is {kept}\n  vigie agent restore {kept} brings it back")
    return 0


def _quiet(client: Client, out: Context, source: str, *, force: bool) -> None:
    """See that nothing runs that the restored store would not know; with ``force``, end it.

    Raises
    ------
    Refused
        When jobs run.
    """
    from vigie.errors import StoreError
    from vigie.selection import Filter

    try:
        busy = out.reader().ids(Filter(states=("running", "suspended"), every=True))
    except StoreError:
        # It cannot be read: that is what a restore is for.
        return
    if not busy:
        return
    if not force:
        shown = ", ".join(map(str, busy[:10])) + (", …" if len(busy) > 10 else "")
        raise Refused(
            f"{len(busy)} job{'s run' if len(busy) > 1 else ' runs'} ({shown}), and the backup knows nothing of that",
            f"wait for them, or vigie agent restore --force {source} stops them first",
        )
    client.call("stop", ids=busy)


def _note(source: str, out: Context) -> dict[str, Any]:
    return {"object": "store", "after": source, "uid": os.getuid(), "pid": os.getpid(), "program": out.program}


def _as_of(facts: dict[str, Any]) -> str:
    if facts["newest"] is None:
        return ""
    from vigie.values import format_time

    return f", as of {format_time(facts['newest'])[:19]}"


class _Lock:
    """The agent's lock, held so that no other agent starts meanwhile."""

    def __init__(self, out: Context) -> None:
        self.home = out.home

    def __enter__(self) -> None:
        from vigie import locks

        try:
            self.fd = locks.take(self.home.lock)
        except BlockingIOError:
            raise Refused("another agent was started meanwhile", "vigie agent stop, and again") from None

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)


_ACTIONS: dict[str, Callable[[argparse.Namespace, Context], int]] = {
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "status": _status,
    "backup": _backup,
    "restore": _restore,
    "install": _install,
    "uninstall": _uninstall,
}
