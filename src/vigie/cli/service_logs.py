"""``vigie logs SERVICE``: what its lives have written, one after the other."""

from __future__ import annotations

import time

from vigie.cli.printer import Printer
from vigie.errors import NotFound, UsageError
from vigie.output import POLL, Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from vigie.cli.context import Context
    from vigie.streams import Piece

__all__ = ["Lives", "instances_of", "run"]

#: Lives that are looked at, the newest: more of them say the same once more.
MOST = 1_000


def instances_of(words: list[str], out: Context) -> list[str]:
    """Give the instances that words mean, if they mean services; nothing if they mean jobs.

    Raises
    ------
    UsageError
        When some mean the one and some the other.
    """
    from vigie.cli.declared import service_name

    reader = out.reader().services
    found: dict[str, list[str]] = {}
    for word in words:
        name = service_name(word, out)
        meant = None if word.isdigit() or word in ("last", "-") else reader.meant(name)
        if meant is not None:
            found[word] = [row["name"] for row in reader.get(meant)["instances"] if name in (meant, row["name"])]
    if found and len(found) < len(words):
        other = next(word for word in words if word not in found)
        raise UsageError(f"{next(iter(found))} is a service and {other} is none", "show one after the other")
    return list(dict.fromkeys(name for names in found.values() for name in names))


class Lives:
    """The output of one instance, from life to life.

    Parameters
    ----------
    name:
        The instance.
    streams:
        Which are wanted.
    out:
        Whose store and home.
    after:
        Lives behind this one alone.
    """

    def __init__(self, name: str, streams: tuple[str, ...], out: Context, after: int = 0) -> None:
        self.name = name
        self._streams = streams
        self._out = out
        self._reader = out.reader()
        self._after = after
        self._jobs = self._later(after)
        self.output: Output | None = None
        self._live = False

    def _later(self, job: int) -> list[int]:
        return [life for life in self._reader.services.lives(self.name, MOST) if life > job]

    def begin(self, *, lines: int | None = None, since: int | None = None, whole: bool = False) -> None:
        """Begin at the first life, at the last lines of all, or at what was written since an instant (µs UTC)."""
        if lines is not None:
            missing = lines
            for at in range(len(self._jobs) - 1, -1, -1):
                output = self._open(self._jobs[at])
                missing = output.last(missing, whole=whole) if output is not None else missing
                if missing <= 0 or at == 0:
                    self._jobs, self.output = self._jobs[at + 1 :], output
                    return
                if output is not None:
                    output.close()
            return
        self._next()
        while since is not None and self.output is not None:
            row = self.output.row
            if row["finished"] is None or row["finished"] >= since:
                self.output.since(since)
                return
            self._next()

    def _open(self, job: int) -> Output | None:
        try:
            output = Output(self._reader, self._out.home, job, streams=self._streams)
        except NotFound:
            return None  # removed meanwhile
        if self._live:
            output.go_live()
        return output

    def _next(self) -> bool:
        """Go on to the next life, if there is one."""
        if self.output is not None:
            self.output.close()
        self.output = None
        while self._jobs and self.output is None:
            self.output = self._open(self._jobs.pop(0))
        return self.output is not None

    def go_live(self) -> None:
        """Date what comes from now on by the clock."""
        self._live = True
        if self.output is not None:
            self.output.go_live()

    def pump(self, show: Callable[[Output, Piece], None]) -> None:
        """Show what there is behind the position, over all lives that are known."""
        while self.output is not None:
            output = self.output
            output.refresh()
            ended = output.ended
            for piece in output.pump():
                show(output, piece)
            if not ended:
                return
            if not self._jobs:
                self._jobs = self._later(output.job)
            if not self._jobs:
                return
            self._next()

    def wait_for_first(self) -> None:
        """Look whether a first life has begun."""
        if self.output is None:
            self._jobs = self._later(self._after)
            self._next()

    def close(self) -> None:
        """Let go of the files."""
        if self.output is not None:
            self.output.close()


def run(
    names: list[str], args: argparse.Namespace, streams: tuple[str, ...], since: int | None, out: Context
) -> int:  # fmt: skip
    """Show the output of instances."""
    found = [Lives(name, streams, out) for name in names]
    printer = Printer(out, raw=args.raw, as_json=args.json, many=True)
    for lives in found:
        lives.begin(lines=args.lines, since=since, whole=args.json)
        if args.follow:
            lives.go_live()
    while True:
        before = printer.count
        for lives in found:
            lives.wait_for_first()
            lives.pump(printer.show)
        if not args.follow:
            break
        if printer.count != before:
            printer.flush()
        time.sleep(POLL)
    printer.finish()
    if not printer.count and out.is_person:
        out.say(f"{', '.join(names)} has written nothing · vigie service status {names[0]}")
    for lives in found:
        lives.close()
    return 0
