"""Services for Python programs: declare one, find those there are, and a handle on each."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, overload

from vigie import callables, service_view
from vigie.errors import NotSerializable, UsageError, WaitTimeout
from vigie.output import Output, Record
from vigie.service_declaration import RUNNER
from vigie.service_declaration import service as declare
from vigie.session import Session, session
from vigie.values import parse_duration

__all__ = ["Service", "ServiceFunction", "service", "services"]

P = ParamSpec("P")
R = TypeVar("R")


class Service:
    """A handle on a service, or on one of its instances (``web@2``).

    Attributes
    ----------
    name:
        By which everybody knows it.

    Each method raises :class:`NotFound` when there is no such service any more. Those that ask for something
    wait until it has come true, at most ``timeout`` (a duration; None: they do not wait).
    """

    def __init__(self, name: str, here: Session | None = None) -> None:
        self.name = name
        self._here = here or session()

    def __repr__(self) -> str:
        return f"<service {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Service) and (other.name, other._here.home.root) == (self.name, self._here.home.root)

    def __hash__(self) -> int:
        return hash((self.name, self._here.home.root))

    def describe(self) -> dict[str, Any]:
        """Give all of it, as ``vigie service list --json`` does."""
        reader = self._here.reader.services
        row = reader.get(reader.meant(self.name) or self.name)
        instances = [each for each in row["instances"] if self.name in (row["name"], each["name"])]
        return service_view.service({**row, "instances": instances})

    @property
    def state(self) -> str:
        """How it stands, ``ready``, ``starting``, ``backoff`` …; of several instances the worst one."""
        return str(self.describe()["state"])

    @property
    def cause(self) -> str:
        """Why it is in that state."""
        return str(self.describe()["cause"])

    @property
    def desired(self) -> str:
        """``up``, ``down`` or ``paused``."""
        return str(self.describe()["desired"])

    @property
    def instances(self) -> list[Service]:
        """Its instances; itself, if there is one alone."""
        return [Service(each["name"], self._here) for each in self.describe()["instances"]]

    def _ask(self, verb: str, until: str, timeout: str | float | None, **fields: Any) -> None:
        answer = self._here.client.call(f"service_{verb}", names=[self.name], **fields)
        notes = [each["note"] for each in answer["instances"] if each.get("note")]
        if notes:
            raise UsageError("; ".join(notes))
        if timeout is not None:
            self._wait(until, timeout)

    def _wait(self, until: str, timeout: str | float) -> None:
        micros = parse_duration(timeout, "timeout")
        answer = self._here.client.call("service_wait", names=[self.name], until=until, timeout=micros)
        if not answer["done"]:
            said = ", ".join(f"{each['name']} is {each['state']}: {each['cause']}" for each in answer["instances"])
            raise WaitTimeout(f"not {until} within {timeout}: {said}", f"vigie service status {self.name}")

    def wait(self, timeout: str | float = "2m") -> str:
        """Wait until it has come to rest (ready, failed, waiting for another try …); give its state.

        Raises
        ------
        WaitTimeout
            When it has not within ``timeout``.
        """
        self._wait("settled", timeout)
        return self.state

    def start(self, *, timeout: str | float | None = "2m") -> None:
        """Have it up, and what it requires."""
        self._ask("start", "settled", timeout)

    def stop(self, *, timeout: str | float | None = "2m") -> None:
        """Have it down, until it is started or the machine is."""
        self._ask("stop", "down", timeout)

    def restart(self, *, timeout: str | float | None = "10m") -> None:
        """Give it a new life; several instances one after the other."""
        self._ask("restart", "settled", timeout)

    def reload(self, *, timeout: str | float | None = "2m") -> None:
        """Have it read its settings anew."""
        self._ask("reload", "settled", timeout)

    def suspend(self, *, timeout: str | float | None = "2m") -> None:
        """Freeze its processes, and those of what requires it."""
        self._ask("suspend", "settled", timeout)

    def resume(self, *, timeout: str | float | None = "2m") -> None:
        """Let it go on."""
        self._ask("resume", "settled", timeout)

    def enable(self, *, timeout: str | float | None = "2m") -> None:
        """Have it start by itself from now on, and now."""
        self._ask("enable", "settled", timeout)

    def disable(self, *, timeout: str | float | None = "2m") -> None:
        """Have it down, also after a boot."""
        self._ask("disable", "down", timeout)

    def remove(self, *, timeout: str | float | None = "2m") -> None:
        """Stop it and remove it; its lives stay."""
        self._ask("remove", "gone", timeout)

    def logs(self) -> Iterator[Record]:
        """Give what its lives have written, instance by instance."""
        from vigie.output import Cutter

        reader = self._here.reader
        for each in self.describe()["instances"]:
            for job in reader.services.lives(each["name"], 1_000):
                with Output(reader, self._here.home, job) as output:
                    cutter = Cutter(job)
                    for piece in output.pump():
                        yield from cutter.feed(piece)
                    yield from cutter.rest()


class ServiceFunction(Generic[P, R]):
    """A function that can be called here, or kept up as a service.

    Made by :func:`service`. Calling it runs the function here and now.
    """

    def __init__(
        self, function: Callable[P, R], name: str, args: Sequence[Any], kwargs: dict[str, Any], table: dict[str, Any]
    ) -> None:
        self.__vigie_function__ = function
        self.name = name
        self._arguments = [list(args), kwargs]
        self._table = table
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__vigie_function__(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<service function {self.name}>"

    def add(self, *, start: bool = True) -> Service:
        """Add the service, or change the one of that name, which a program may do each time it starts.

        Raises
        ------
        NotSerializable
            When the function stands where no other process finds it, or an argument is nothing that JSON has.
        UsageError
            When a word of its table makes no sense.
        Refused
            When a file declares a service of that name.
        """
        where, name, root = _place(self.__vigie_function__)
        try:
            arguments = json.dumps(self._arguments)
        except (TypeError, ValueError) as error:
            raise NotSerializable(
                f"the arguments of service {self.name}: {error}", "give it texts and numbers"
            ) from None
        python = self._table.get("interpreter") or sys.executable
        table = {key: value for key, value in self._table.items() if key != "interpreter"}
        env = dict(table.get("env") or {})
        env.setdefault("PYTHONUNBUFFERED", "1")
        if root is not None:
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))
        return _add(self.name, {**table, "env": env, "run": [python, RUNNER, where, name, arguments]}, start=start)


def _place(function: Callable[..., Any]) -> tuple[str, str, str | None]:
    """Give where a function stands (a module, or the path of a script), its name there, and the module's root."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if "<" in name or not module:
        raise NotSerializable(
            f"{name or function!r} stands inside of another function",
            "a service's function stands at the top of a file",
        )
    file = getattr(sys.modules.get(module), "__file__", None)
    if module == "__main__":
        if file is None:
            raise NotSerializable(f"{name} was typed, and stands in no file", "put it into one")
        return os.path.abspath(file), name, None
    if file is None:
        return module, name, None
    root = os.path.dirname(os.path.abspath(file))
    for _ in range(module.count(".") + (os.path.basename(file) == "__init__.py")):
        root = os.path.dirname(root)
    return module, name, root


def _add(name: str, table: dict[str, Any], *, start: bool) -> Service:
    here = session()
    table.setdefault("cwd", os.getcwd())
    fields, blobs = declare(name, table).request(replace=True, start=start)
    here.client.call_with_blobs("service_set", blobs, **fields)
    return Service(name, here)


@overload
def service(what: Callable[P, R], /) -> ServiceFunction[P, R]: ...
@overload
def service(what: Sequence[str], /, *, name: str, **table: Any) -> Service: ...
@overload
def service(
    *, name: str | None = None, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None, **table: Any
) -> Callable[[Callable[P, R]], ServiceFunction[P, R]]: ...
def service(
    what: Any = None, /, *, name: str | None = None, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None,
    **table: Any,
) -> Any:  # fmt: skip
    """Make a service of a function, as a decorator; or add one that runs a command.

    Parameters
    ----------
    what:
        A command's words: the service is added and started, and its handle given. Or the function.
    name:
        Default the function's name.
    args, kwargs:
        What the function is given: texts and numbers, and lists and tables of these.
    table:
        As in ``[service.NAME]``: ``restart="on-failure"``, ``ready={"port": 8000}``, ``requires=["db"]`` …

    Raises
    ------
    UsageError
        When a word makes no sense.

    >>> @service(restart="on-failure")
    ... def watch():
    ...     pass
    >>> watch
    <service function watch>
    """
    if what is not None and not callable(what):
        if name is None:
            raise UsageError(
                "a service that runs a command needs a name", 'vigie.service(["redis-server"], name="cache")'
            )
        words = [os.fsdecode(word) for word in ([what] if isinstance(what, str) else what)]
        return _add(name, {**table, "run": words}, start=True)

    def made(function: Callable[P, R]) -> ServiceFunction[P, R]:
        plain = callables.unwrap(function)
        return ServiceFunction(plain, name or plain.__name__, args, dict(kwargs or {}), table)

    return made if what is None else made(what)


def services() -> list[Service]:
    """Give all services, by name.

    >>> [each.name for each in services() if each.state == "failed"]
    []
    """
    here = session()
    return [Service(name, here) for name in here.reader.services.names()]
