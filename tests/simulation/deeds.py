"""What really happened: every beginning and every end, whoever has heard of it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from simulation.kernel import Proc


class Broken(AssertionError):
    """A promise was broken."""


def exit_of(status: int) -> tuple[int | None, int | None]:
    """Give exit code and signal of a wait status."""
    return (None, os.WTERMSIG(status)) if os.WIFSIGNALED(status) else (os.WEXITSTATUS(status), None)


class Script:
    """Choices, one byte each; when they run out every choice is the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, many: int) -> int:
        """Choose one of ``many``."""
        if self._at >= len(self._data) or many < 2:
            return 0
        byte = self._data[self._at]
        self._at += 1
        return byte % many

    def chance(self, of: int) -> bool:
        """Say yes once in ``of`` times."""
        return self.take(of) == 1

    @property
    def left(self) -> bool:
        return self._at < len(self._data)


@dataclass
class Plan:
    """One submit request: what its jobs are to do, and what the client was told."""

    number: int
    kind: str
    specs: list[dict[str, Any]]
    task: dict[str, Any]
    options: dict[str, Any]
    results: list[int]
    ids: list[int] = field(default_factory=list)

    @property
    def needs(self) -> list[int]:
        return [*self.options.get("after", ()), *self.options.get("after_any", ()), *self.results]


@dataclass
class Deed:
    """One attempt that began."""

    job: int
    attempt: int
    kind: str
    spec: dict[str, Any]
    proc: Proc
    boot: int
    began: int
    over: bool = False
    #: How a function ended by itself; None: its process ended under it.
    how: str | None = None
    code: int | None = None
    signal: int | None = None

    def end(self, how: str, code: int | None) -> None:
        """The function came to its end; its worker goes on."""
        self.over, self.how, self.code = True, how, code

    def died(self) -> None:
        """Its process is gone."""
        if self.over:
            return
        self.over = True
        status = self.proc.status
        if status is None:
            self.how = "power"
        else:
            self.code, self.signal = exit_of(status)

    @property
    def living(self) -> bool:
        return not self.over

    def __str__(self) -> str:
        end = f"{self.how or ''} code={self.code} signal={self.signal}" if self.over else "runs"
        return f"{self.kind} {self.job}.{self.attempt} in {self.proc} began {self.began}: {end}"


def command_spec(script: Script) -> dict[str, Any]:
    """Choose what a command does."""
    spec: dict[str, Any] = {"d": (300, 40_000, 900_000, 7_000_000, 60_000_000)[script.take(5)]}
    if script.chance(3):
        spec["code"] = (3, 1)[script.take(2)]
    elif script.chance(6):
        spec["signal"] = (9, 11)[script.take(2)]
    if script.chance(8):
        spec["missing"] = True
    if script.chance(6):
        spec["deaf"] = True
    if script.chance(6):
        spec["d"] = 1 << 50
    if script.chance(4):
        spec["children"] = [(script.chance(2), script.chance(3)) for _ in range(1 + script.take(2))]
    return spec


def function_spec(script: Script, tiny: bool) -> dict[str, Any]:
    """Choose what a function does; tiny ones are mostly good."""
    spec: dict[str, Any] = {"d": 100 if tiny else (200, 30_000, 800_000, 6_000_000)[script.take(4)]}
    if script.chance(6 if tiny else 3):
        spec["how"] = ("raise", "exit", "_exit", "killed")[script.take(4)]
        spec["code"] = (3, 0)[script.take(2)]
        if tiny:
            spec["d"] = (100, 200_000)[script.take(2)]
    if script.chance(10):
        spec["litters"] = True
    if script.chance(6):
        spec["says"] = True
    if script.chance(8):
        spec["deaf"] = True
    if script.chance(20):
        spec["d"] = 1 << 50
    return spec


def spec_of(kind: str, argv: bytes | None, args: bytes | None) -> dict[str, Any]:
    """Find the spec of a job in its row."""
    if kind == "command":
        assert argv is not None
        found: dict[str, Any] = json.loads(argv.split(b"\0")[1])
        return found
    assert args is not None
    call: list[list[dict[str, Any]]] = json.loads(args)
    return call[0][0]
