"""The options of ``vigie service add`` and ``edit``: the keys of ``[service.NAME]`` as they are typed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

__all__ = ["arguments", "table"]

#: Destination → key of the table.
_KEYS = {
    "shell": "shell", "script": "script", "function": "python", "arguments": "args", "task": "task",
    "interpreter": "interpreter", "cwd": "cwd", "env": "env", "env_file": "env_file", "priority": "priority",
    "tag": "tags", "instances": "instances", "start": "start", "after": "after", "requires": "requires",
    "wants": "wants", "ready": "ready", "alive": "alive", "watchdog": "watchdog", "restart": "restart",
    "exits": "exits", "give_up": "give_up", "backoff": "backoff", "stop": "stop", "reload": "reload",
    "before_start": "before_start", "after_start": "after_start", "before_stop": "before_stop",
    "after_exit": "after_exit", "on_failure": "on_failure", "listen": "listen", "pid_file": "pid_file",
    "user": "user", "group": "group", "limits": "limits", "nice": "nice", "affinity": "affinity", "umask": "umask",
    "logs": "logs", "history": "history", "fd_store": "fd_store",
}  # fmt: skip
_FLAGS = ("essential", "on_connection", "forking")
#: Of what may be given more than once, a table of one says it plainly.
_SINGLE = ("tags", "listen", "stop")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add all of them."""
    add = parser.add_argument_group("what runs (or: -- CMD ARG…)").add_argument
    add("--shell", metavar="LINE", help="a line for /bin/sh")
    add("--script", metavar="FILE", help="a script, by its extension; its arguments behind --")
    add("-f", dest="function", metavar="M:F", help="a Python function, in a process of its own")
    add("--args", dest="arguments", metavar="JSON", help="its arguments: a JSON array, or an object of named ones")
    add("--task", metavar="NAME", help="a task that vigie.toml declares")
    add("--python", dest="interpreter", metavar="P", help="the interpreter of scripts and functions")
    add("--cwd", metavar="D", help="its directory; default where this is typed")
    add("--env", metavar="K[=V]", action="append", help="a variable; K alone copies it from here")
    add("--env-file", metavar="F", action="append", help="a dotenv file")
    add("--instances", metavar="N", help="so many, named NAME@1, NAME@2 …; VIGIE_INSTANCE tells each its number")
    _others(parser)
    add = parser.add_argument_group("restart").add_argument
    add("--restart", metavar="R", help="always (default), on-failure, never")
    add("--exits", metavar="CODE=M", action="append",
        help="what an exit code (0, 64-78) or signal (TERM) means: restart, ignore, fail, hold")  # fmt: skip
    add("--backoff", metavar="T", help="the first wait; doubles up to a minute; default 0.1s")
    add("--give-up", metavar="N", help="it has failed after so many failures in a row; default never")
    add("--essential", action="store_true", help="`vigie up` ends with 1 when it fails for good")
    add = parser.add_argument_group("stop, reload, and commands around a life").add_argument
    add("--stop", metavar="S", action="append", help="a grace (10s), or signals with waits: 'INT 5s' 'TERM 10s'")
    add("--reload", metavar="HOW", help="a signal (HUP), or a command")
    for name in ("before-start", "after-start", "before-stop", "after-exit", "on-failure"):
        add(f"--{name}", metavar="CMD", help=f"a command to run {name.replace('-', ' ')}")
    _limits(parser)


def _others(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("when it starts, and when it is ready").add_argument
    add("--start", metavar="MODE", help="automatic (default): now and after a boot; manual; disabled")
    add("--after", metavar="S,…", help="services that it waits for, if they are wanted")
    add("--requires", metavar="S,…", help="services that are started with it, and without which it is degraded")
    add("--wants", metavar="S,…", help="services that are started with it")
    add("--ready", metavar="HOW", help="notify, 2s, port=8000, http=URL, log=REGEX, command=CMD; default: it runs")
    add("--alive", metavar="HOW", help="port=8000, http=URL or command=CMD; looked at every 10s, and restarted by it")
    add("--watchdog", metavar="T", help="it must say WATCHDOG=1 so often")
    add(
        "--listen", metavar="A", action="append", help="a socket kept open for it: tcp://127.0.0.1:8000, unix:///x.sock"
    )
    add("--on-connection", action="store_true", help="it is started by the first connection")
    add("--fd-store", metavar="N", help="descriptors that it may give to keep over restarts")
    add("--forking", action="store_true", help="its first process ends once it runs, as daemons of old do")
    add("--pid-file", metavar="F", help="where such a daemon writes who goes on")


def _limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("limits and logs").add_argument
    add("--limits", metavar="K=V", action="append", help="memory=500MB, cpu=0.5, cpu_time=1h, files=1024, processes=64")
    add("--nice", metavar="N", help="-20 to 19")
    add("--affinity", metavar="CPUS", help="processors it may use: 0-1,3")
    add("--user", metavar="U", help="run as this user (root only)")
    add("--group", metavar="G", help="and this group")
    add("--umask", metavar="M", help="022")
    add("--logs", metavar="S", help="bytes of output kept, over all of its lives; default 100 MiB")
    add("--history", metavar="N", help="lives kept; default 20")
    add("--priority", metavar="N", help="higher goes first")
    add("--tag", metavar="T", action="append", help="a label of its lives")


def table(args: argparse.Namespace) -> dict[str, Any]:
    """Give what was typed as the table that ``vigie.toml`` would have."""
    found: dict[str, Any] = {}
    for name, key in _KEYS.items():
        value = getattr(args, name, None)
        if value not in (None, []):
            found[key] = value[0] if isinstance(value, list) and len(value) == 1 and key in _SINGLE else value
    for name in _FLAGS:
        if getattr(args, name, False):
            found[name] = True
    if "args" in found:
        from vigie.cli.schedule_options import parse_json

        found["args"] = parse_json(found["args"])
    command = getattr(args, "command", None)
    if command and "script" in found:
        found["script"] = [found["script"], *command]
    elif command:
        found["run"] = command
    return found
