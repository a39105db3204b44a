"""The plan of a service: everything that was declared of it, checked, in one value.

A plan is made of the table ``[service.NAME]`` (`supervision.reading`), stored as the
JSON of what differs from the defaults, and read again by whoever acts on it: the
agent's duty, the command line that shows it. Durations are integer µs, sizes bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import Any

__all__ = ["DEFAULT_STOP", "HOOKS", "MODES", "RESTARTS", "Listen", "Logs", "Plan", "Probe", "instance_names"]

SECOND = 1_000_000
#: When a service starts: by itself, when somebody asks, or never.
MODES = ("automatic", "manual", "disabled")
RESTARTS = ("always", "on-failure", "never")
#: What an exit code can mean, whatever ``restart`` says.
MEANINGS = ("restart", "ignore", "fail", "hold")
#: Commands around a life, in the order in which they can come.
HOOKS = ("before_start", "after_start", "before_stop", "after_exit", "on_failure")
#: SIGTERM, 10 s, SIGKILL.
DEFAULT_STOP: tuple[tuple[str, int], ...] = (("TERM", 10 * SECOND), ("KILL", 0))


@dataclass(frozen=True, slots=True)
class Probe:
    """How something about a running service is found out.

    Attributes
    ----------
    kind:
        ``after`` (alive for so long: ``value`` is µs), ``notify``, ``port`` (``value`` is
        ``[host, port]``), ``http`` (a URL), ``log`` (a regular expression), ``command`` (argv).
    value:
        See there.
    within:
        Of readiness: a life that is not ready by then (µs) has failed.
    every, timeout, failures:
        Looked at so often (µs), waited for so long, and it is lost after so many times in a row. ``every`` 0: of
        readiness, once it was found it is not looked at again.
    """

    kind: str
    value: Any = None
    within: int = 90 * SECOND
    every: int = 0
    timeout: int = SECOND
    failures: int = 3


@dataclass(frozen=True, slots=True)
class Listen:
    """A socket that is opened for a service and kept open across its lives.

    ``kind`` is ``tcp``, ``udp`` or ``unix``; ``address`` is ``[host, port]`` or a path; ``name`` stands in
    ``LISTEN_FDNAMES``.
    """

    kind: str
    address: Any
    name: str
    mode: int = 0o600
    backlog: int = 4096


@dataclass(frozen=True, slots=True)
class Logs:
    """How much of a service's output is kept, over all of its lives.

    ``part``: what is over this much in a stream (bytes) is moved away; ``total``: of both streams and all lives, on
    disk; ``age`` µs or None; ``compress``: what is moved away is compressed.
    """

    part: int = 10 << 20
    total: int = 100 << 20
    age: int | None = None
    compress: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """A service as it was declared.

    Attributes
    ----------
    after, requires, wants:
        Names of services: waited for, needed and started with it, started with it.
    ready:
        How it is known to be ready; None: as soon as it runs.
    alive:
        What must hold while it runs, or it is restarted.
    watchdog:
        It must say ``WATCHDOG=1`` at least this often (µs).
    restart, exits:
        When its end is followed by another life; exit code → one of :data:`MEANINGS`, which goes before.
    backoff, backoff_max, settled:
        The first wait, the longest; ready for so long, and the next end is followed at once (µs).
    give_up:
        After so many failures in a row it has failed for good; None: never.
    stop:
        (signal name without SIG, wait µs) in order; the whole tree, always.
    reload:
        A signal's name, or argv; None: it cannot be told to.
    hooks:
        Of :data:`HOOKS`: argv.
    on_connection:
        It is started by the first connection to one of its sockets.
    forking, pid_file:
        Its first process ends once it runs: which one goes on is told by MAINPID, by that file or by being alone.
    limits:
        ``memory`` (bytes), ``cpu`` (of one core, 0.5), ``files``, ``processes``.
    """

    mode: str = "automatic"
    instances: int = 1
    after: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    ready: Probe | None = None
    alive: Probe | None = None
    watchdog: int | None = None
    restart: str = "always"
    exits: dict[str, str] = field(default_factory=dict)
    essential: bool = False
    backoff: int = 100_000
    backoff_max: int = 60 * SECOND
    settled: int = 10 * SECOND
    give_up: int | None = None
    stop: tuple[tuple[str, int], ...] = DEFAULT_STOP
    reload: str | tuple[str, ...] | None = None
    hooks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    listen: tuple[Listen, ...] = ()
    on_connection: bool = False
    fd_store: int = 0
    forking: bool = False
    pid_file: str | None = None
    user: str | None = None
    group: str | None = None
    limits: dict[str, float] = field(default_factory=dict)
    nice: int | None = None
    affinity: tuple[int, ...] = ()
    umask: int | None = None
    logs: Logs = Logs()
    history: int = 20

    def to_json(self) -> str:
        """Give it as it is stored: what differs from the defaults.

        >>> Plan(instances=2).to_json()
        '{"instances":2}'
        """
        plain = Plan()
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        kept = {key: _plain(value) for key, value in found.items() if value != getattr(plain, key)}
        return json.dumps(kept, separators=(",", ":"), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Plan:
        """Read a stored one.

        >>> Plan.from_json(Plan(ready=Probe("notify"), stop=(("INT", 5),)).to_json()).stop
        (('INT', 5),)
        """
        return _read(text)


@lru_cache(maxsize=2_000)
def _read(text: str) -> Plan:
    found: dict[str, Any] = json.loads(text)
    for key, make in _MAKE.items():
        if found.get(key) is not None:
            found[key] = make(found[key])
    return Plan(**found)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return asdict(value) if isinstance(value, Probe | Listen | Logs) else value


_MAKE: dict[str, Any] = {
    **dict.fromkeys(("after", "requires", "wants", "affinity"), tuple),
    **dict.fromkeys(("ready", "alive"), lambda given: Probe(**given)),
    "stop": lambda given: tuple((name, wait) for name, wait in given),
    "reload": lambda given: given if isinstance(given, str) else tuple(given),
    "hooks": lambda given: {key: tuple(argv) for key, argv in given.items()},
    "listen": lambda given: tuple(Listen(**each) for each in given),
    "logs": lambda given: Logs(**given),
}


def instance_names(name: str, count: int) -> tuple[str, ...]:
    """Give the names of a service's instances: its own, if there is one alone.

    >>> instance_names("web", 1), instance_names("web", 2)
    (('web',), ('web@1', 'web@2'))
    """
    return (name,) if count == 1 else tuple(f"{name}@{n}" for n in range(1, count + 1))
