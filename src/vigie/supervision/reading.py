"""From the table of a service, as a file or a command line has it, to its plan.

Every key has one reader; what is wrong is said with its key and with what would be right.
What runs, and in which surroundings, is that of any task and is read elsewhere
(``declaration.py``).
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vigie.errors import UsageError
from vigie.supervision.listen import parse_listen, parse_port
from vigie.supervision.plan import HOOKS, MEANINGS, MODES, RESTARTS, Logs, Plan, Probe
from vigie.values import parse_duration, parse_size

__all__ = ["KEYS", "parse_plan", "parse_stop", "read_key"]

#: Signals by their names without SIG.
SIGNALS = {each.name.removeprefix("SIG") for each in signal.Signals}
_READY = 'notify, 2s, port=8000, http=http://127.0.0.1:8000/health, log="listening", or command="test -e /x"'
_ALIVE = 'port=8000, http=http://127.0.0.1:8000/health, or command="test -e /x"'
_LIMITS = ("memory", "cpu", "cpu_time", "files", "processes")
#: Looked at again so often (µs), where a probe of liveness does not say.
_EVERY = 10_000_000


def parse_plan(table: Mapping[str, Any]) -> Plan:
    """Read what a table says of how a service is kept; keys of other kinds are left alone.

    Raises
    ------
    UsageError
        When a value makes no sense, or two contradict each other.

    >>> plan = parse_plan({"ready": "notify", "restart": "on-failure", "stop": "5s"})
    >>> plan.ready.kind, plan.restart, plan.stop
    ('notify', 'on-failure', (('TERM', 5000000), ('KILL', 0)))
    """
    found: dict[str, Any] = {}
    for key in KEYS:
        if table.get(key) is not None:
            made = read_key(key, table[key])
            found |= {"hooks": {**found.get("hooks", {}), **made["hooks"]}} if "hooks" in made else made
    plan = replace(Plan(), **found)
    _check(plan)
    return plan


def read_key(key: str, value: Any) -> dict[str, Any]:
    """Read one key of a table; give the fields of the plan that it says.

    Raises
    ------
    UsageError
        When the value makes no sense.
    """
    try:
        return KEYS[key](value)
    except UsageError:
        raise
    except (TypeError, ValueError, AttributeError, OverflowError):
        # It is not even of the form that such a value has.
        raise UsageError(
            f"{key}: {value!r} makes no sense", "docs/reference/vigie-toml.md shows what can stand here"
        ) from None


def _check(plan: Plan) -> None:
    """Refuse what contradicts itself."""
    if plan.on_connection and not plan.listen:
        raise UsageError("on_connection: there is nothing to connect to", 'listen = ["tcp://127.0.0.1:8000"]')
    if plan.on_connection and plan.restart == "never" and plan.instances > 1:
        raise UsageError("on_connection: with several instances, the first connection would start all of them")
    if plan.give_up is not None and plan.restart == "never":
        raise UsageError("give_up: restart is never, so that there is nothing to give up", "leave one of them out")
    if plan.pid_file is not None and not plan.forking:
        raise UsageError("pid_file: it says who goes on once the first process has ended", "forking = true")
    if plan.fd_store and plan.forking:
        raise UsageError("fd_store: a service that forks away cannot be given its descriptors back")
    names = [each.name for each in plan.listen]
    if len(set(names)) < len(names):
        raise UsageError("listen: two sockets have one name", "give each a name of its own")
    both = set(plan.after) & set(plan.requires)
    if both:
        raise UsageError(f"after: {min(both)} is required, and so waited for already", "leave it out of after")


# --- readers ------------------------------------------------------------------------


def _words(key: str, words: tuple[str, ...], field: str | None = None) -> Callable[[Any], dict[str, Any]]:
    def read(value: Any) -> dict[str, Any]:
        text = str(value).strip().lower().replace("_", "-")
        if text not in words:
            import difflib

            close = difflib.get_close_matches(text, words, 1)
            raise UsageError(
                f"{key}: {value!r} is none of {', '.join(words)}", f"did you mean {close[0]}?" if close else None
            )
        return {field or key: text}

    return read


def _names(key: str) -> Callable[[Any], dict[str, Any]]:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, str | list | tuple):
            raise UsageError(f"{key}: {value!r} names no services", f'{key} = ["db"]')
        items = value.split(",") if isinstance(value, str) else list(value)
        names = tuple(dict.fromkeys(str(item).strip() for item in items if str(item).strip()))
        return {key: names}

    return read


def _flag(key: str) -> Callable[[Any], dict[str, Any]]:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, bool):
            raise UsageError(f"{key}: {value!r} is neither true nor false")
        return {key: value}

    return read


def _whole(key: str, least: int, most: int = 1 << 31) -> Callable[[Any], dict[str, Any]]:
    def read(value: Any) -> dict[str, Any]:
        return {key: _number(key, value, least, most)}

    return read


def _number(key: str, value: Any, least: int, most: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        raise UsageError(f"{key}: {value!r} is no whole number") from None
    if isinstance(value, bool) or not least <= number <= most:
        raise UsageError(f"{key}: {value} is not between {least} and {most}")
    return number


def _duration(key: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {key: _positive(key, value)}


def _positive(key: str, value: Any) -> int:
    found = parse_duration(value, key)
    if found <= 0:
        raise UsageError(f"{key}: {value} is no time")
    return found


def _argv(key: str, value: Any) -> tuple[str, ...]:
    """Read a command: its words, or a text that is split as a shell would and never given to one."""
    try:
        words = shlex.split(value) if isinstance(value, str) else [str(word) for word in value]
    except (ValueError, TypeError) as error:
        raise UsageError(f"{key}: {value!r} is no command: {error}", f'{key} = ["test", "-e", "/x"]') from None
    if not words or not words[0]:
        raise UsageError(f"{key}: there is no command", f'{key} = ["test", "-e", "/x"]')
    return tuple(words)


def _probe(key: str, hint: str) -> Callable[[Any], dict[str, Any]]:
    def read(value: Any) -> dict[str, Any]:
        given = dict(value) if isinstance(value, Mapping) else _probe_text(key, str(value), hint)
        ways = [way for way in ("after", "notify", "port", "http", "log", "command") if given.get(way) is not None]
        if len(ways) != 1:
            said = f"says {' and '.join(ways)}" if ways else f"{value!r} says nothing that can be looked at"
            raise UsageError(f"{key}: {said}", f"one of: {hint}")
        unknown = set(given) - {*ways, "within", "every", "timeout", "failures"}
        if unknown:
            raise UsageError(f"{key}: there is no {min(unknown)!r} in it", "within, every, timeout, failures")
        if key == "alive" and ways[0] in ("after", "notify", "log"):
            raise UsageError(f"{key}: {ways[0]} says nothing of a service that runs", f"one of: {hint}")
        return {key: _made(key, ways[0], given)}

    return read


def _made(key: str, way: str, given: Mapping[str, Any]) -> Probe:
    value = given[way]
    made = Probe(way, _PROBES[way](key, value), every=_EVERY if key == "alive" else 0)
    times: dict[str, Any] = {
        name: _positive(f"{key}.{name}", given[name]) for name in ("within", "every", "timeout") if name in given
    }
    if "failures" in given:
        made = replace(made, failures=_number(f"{key}.failures", given["failures"], 1, 1_000))
    return replace(made, **times)


def _probe_text(key: str, text: str, hint: str) -> dict[str, Any]:
    """Read what stands in one text: ``notify``, ``2s``, ``port=80``."""
    word, equals, rest = text.partition("=")
    if equals and word.strip() in _PROBES:
        return {word.strip(): rest.strip()}
    if text.strip() == "notify":
        return {"notify": True}
    if text.strip().startswith("http"):
        return {"http": text.strip()}
    try:
        return {"after": parse_duration(text, key)}
    except UsageError:
        raise UsageError(f"{key}: {text!r} is nothing that can be looked at", f"one of: {hint}") from None


def _url(key: str, value: Any) -> str:
    text = str(value)
    if text.startswith("https://"):
        raise UsageError(
            f"{key}: only http is looked at by itself", f'{key} = {{ command = ["curl", "-fsS", "{text}"] }}'
        )
    host = text.removeprefix("http://").partition("/")[0]
    if not text.startswith("http://") or not host or not text.isprintable() or " " in text:
        raise UsageError(f"{key}: {text!r} is no URL", "http://127.0.0.1:8000/health")
    if ":" in host.rpartition("]")[2]:
        parse_port(host.rpartition(":")[2], key)
    return text


def _pattern(key: str, value: Any) -> str:
    try:
        re.compile(str(value).encode("utf-8", "surrogateescape"))
    except re.error as error:
        raise UsageError(f"{key}: {value!r} is no regular expression: {error}") from None
    return str(value)


def _place(key: str, value: Any) -> list[Any]:
    host, _, port = str(value).rpartition(":")
    return [host.strip("[]") or "127.0.0.1", parse_port(port, key)]


_PROBES: dict[str, Callable[[str, Any], Any]] = {
    "after": lambda key, value: value if isinstance(value, int) and value > 1_000 else _positive(key, value),
    "notify": lambda key, value: None,
    "port": _place,
    "http": _url,
    "log": _pattern,
    "command": lambda key, value: list(_argv(key, value)),
}


def _signal(key: str, value: Any) -> str:
    name = str(value).strip().upper().removeprefix("SIG")
    if name not in SIGNALS:
        import difflib

        close = difflib.get_close_matches(name, SIGNALS, 1)
        raise UsageError(
            f"{key}: there is no signal {value!r}", f"did you mean {close[0]}?" if close else "TERM, INT, …"
        )
    return name


def parse_stop(value: Any) -> tuple[tuple[str, int], ...]:
    """Read a stop sequence: a grace, or signals with their waits; SIGKILL comes last whatever it says.

    >>> parse_stop(["INT 5s", "TERM 1s"])
    (('INT', 5000000), ('TERM', 1000000), ('KILL', 0))
    """
    if isinstance(value, Mapping):
        if set(value) - {"signal", "grace"}:
            raise UsageError("stop: it takes signal and grace", 'stop = { signal = "INT", grace = "5s" }')
        value = [f"{value.get('signal', 'TERM')} {value.get('grace', '10s')}"]
    items = [value] if not isinstance(value, (list, tuple)) else list(value)
    found: list[tuple[str, int]] = []
    for item in items:
        words = str(item).split()
        if isinstance(item, (int, float)) or (len(words) == 1 and words[0][:1].isdigit()):
            found.append(("TERM", parse_duration(item, "stop")))
        elif len(words) in (1, 2):
            wait = parse_duration(words[1], "stop") if len(words) == 2 else 10_000_000
            found.append((_signal("stop", words[0]), wait))
        else:
            raise UsageError(f"stop: {item!r} is no signal with a wait", '["INT 5s", "TERM 10s", "KILL"]')
    rounds = [each for each in found if each[0] != "KILL"]
    return (*rounds, ("KILL", 0))


def _exits(value: Any) -> dict[str, Any]:
    """Read what exit codes mean: ``{ 0 = "ignore", "64-78" = "hold", TERM = "ignore" }``."""
    if not isinstance(value, Mapping):
        value = dict(item.partition("=")[::2] for item in ([value] if isinstance(value, str) else value))
    found: dict[str, str] = {}
    for key, meaning in value.items():
        if meaning not in MEANINGS:
            raise UsageError(f"exits: {meaning!r} is none of {', '.join(MEANINGS)}", 'exits = { 75 = "restart" }')
        first, dash, last = str(key).strip().partition("-")
        if first.isdigit():
            low = _number("exits", first, 0, 255)
            high = _number("exits", last, low, 255) if dash else low
            found |= {str(code): meaning for code in range(low, high + 1)}
        else:
            found[_signal("exits", key)] = meaning
    return {"exits": found}


def _backoff(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {"backoff": _positive("backoff", value)}
    names = {"first": "backoff", "most": "backoff_max", "reset": "settled"}
    unknown = set(value) - set(names)
    if unknown:
        raise UsageError(f"backoff: there is no {min(unknown)!r} in it", "first, most, reset")
    return {names[key]: _positive(f"backoff.{key}", each) for key, each in value.items()}


def _reload(value: Any) -> dict[str, Any]:
    if isinstance(value, str) and value.strip().upper().removeprefix("SIG") in SIGNALS:
        return {"reload": _signal("reload", value)}
    if isinstance(value, str) and value.isupper():
        _signal("reload", value)
    return {"reload": _argv("reload", value)}


def _hook(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {"hooks": {name: _argv(name, value)}}


def _limits(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        value = dict(item.partition("=")[::2] for item in ([value] if isinstance(value, str) else value))
    found: dict[str, float] = {}
    for key, each in value.items():
        if key not in _LIMITS:
            raise UsageError(f"limits: there is no limit {key!r}", f"there are: {', '.join(_LIMITS)}")
        if key == "memory":
            found[key] = parse_size(each, "limits.memory")
        elif key == "cpu_time":
            found[key] = max(1, _positive("limits.cpu_time", each) // 1_000_000)
        elif key == "cpu":
            found[key] = _cores(each)
        else:
            found[key] = _number(f"limits.{key}", each, 1, 1 << 31)
    return {"limits": found}


def _cores(value: Any) -> float:
    text = str(value)
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = 0.0
    if not 0 < number < 10_000:
        raise UsageError(f"limits.cpu: {value!r} is no share of processors", '0.5, or "50%"')
    return number


def _affinity(value: Any) -> dict[str, Any]:
    items = str(value).split(",") if not isinstance(value, (list, tuple)) else [str(each) for each in value]
    found: list[int] = []
    for item in items:
        first, dash, last = item.strip().partition("-")
        low = _number("affinity", first, 0, 4_095)
        found += range(low, (_number("affinity", last, low, 4_095) if dash else low) + 1)
    return {"affinity": tuple(sorted(set(found)))}


def _umask(value: Any) -> dict[str, Any]:
    text = f"{value:o}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    try:
        number = int(text, 8)
    except ValueError:
        number = -1
    if not 0 <= number <= 0o777:
        raise UsageError(f"umask: {value!r} is no mask", '"022"')
    return {"umask": number}


def _logs(value: Any) -> dict[str, Any]:
    given = {"total": value} if not isinstance(value, Mapping) else dict(value)
    unknown = set(given) - {"part", "total", "age", "compress"}
    if unknown:
        raise UsageError(f"logs: there is no {min(unknown)!r} in it", "part, total, age, compress")
    found: dict[str, Any] = {key: parse_size(given[key], f"logs.{key}") for key in ("part", "total") if key in given}
    if "age" in given:
        found["age"] = _positive("logs.age", given["age"])
    if "compress" in given:
        found |= _flag("compress")(given["compress"])
    logs = replace(Logs(), **found)
    if logs.total < 1 << 16:
        raise UsageError(f"logs: {logs.total} bytes in all are too few", "64 KiB or more")
    part = min(logs.part, max(1 << 14, logs.total // 2))
    return {"logs": replace(logs, part=part)}


def _text(key: str) -> Callable[[Any], dict[str, Any]]:
    def read(value: Any) -> dict[str, Any]:
        text = str(value)
        if not text or "\0" in text:
            raise UsageError(f"{key}: {value!r} is empty")
        return {key: text}

    return read


#: What the table says of how a service is kept: key → what reads it.
KEYS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "start": _words("start", MODES, "mode"),
    "instances": _whole("instances", 1, 10_000),
    "after": _names("after"), "requires": _names("requires"), "wants": _names("wants"),
    "ready": _probe("ready", _READY), "alive": _probe("alive", _ALIVE), "watchdog": _duration("watchdog"),
    "restart": _words("restart", RESTARTS), "exits": _exits, "essential": _flag("essential"), "backoff": _backoff,
    "give_up": _whole("give_up", 1), "stop": lambda value: {"stop": parse_stop(value)}, "reload": _reload,
    **{name: _hook(name) for name in HOOKS},
    "listen": lambda value: {"listen": parse_listen(value)}, "on_connection": _flag("on_connection"),
    "fd_store": _whole("fd_store", 0, 1_000), "forking": _flag("forking"), "pid_file": _text("pid_file"),
    "user": _text("user"), "group": _text("group"), "limits": _limits, "nice": _whole("nice", -20, 19),
    "affinity": _affinity, "umask": _umask, "logs": _logs, "history": _whole("history", 1, 100_000),
}  # fmt: skip
