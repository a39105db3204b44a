"""``vigie up`` in the foreground: mixed logs, transitions, Ctrl-C; and as PID 1 of a container."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from vigie.cli.service_logs import Lives
from vigie.cli.service_show import COLOURS
from vigie.errors import VigieError
from vigie.output import LOUD, POLL
from vigie.supervision.graph import in_order
from vigie.supervision.plan import Plan
from vigie.terminal import PLAIN, Sanitizer, clean, paint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from vigie.cli.context import Context
    from vigie.manifest import Manifest
    from vigie.output import Output
    from vigie.streams import Piece

__all__ = ["Run"]

#: Colours of names, in turn.
_TURN = ("cyan", "yellow", "green", "magenta", "blue", "red")
#: What PID 1 passes on to the services.
_PASSED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Run:
    """The services of one file, watched.

    Parameters
    ----------
    manifest:
        The file; it is not applied yet.
    out:
        Where to.
    """

    def __init__(self, manifest: Manifest, out: Context) -> None:
        self.out = out
        self.names = list(manifest.services)
        self._manifest = manifest
        self._brush = paint(out)
        reader = out.reader().services
        #: The newest life of each instance before anything is done.
        self._before = {
            each["name"]: each["job"] or 0 for row in reader.all(self.names) for each in row["instances"]
        }  # fmt: skip
        self._lines: dict[str, bytes] = {}
        self._harmless: dict[str, Sanitizer] = {}
        self._colour: dict[str, str] = {}
        self._states: dict[str, tuple[str, str]] = {}
        self._lives: dict[str, Lives] = {}
        self._asked = 0
        self._passed: list[int] = []
        self._width = 0

    # --- saying -----------------------------------------------------------------

    def say(self, text: str) -> None:
        """Say something about all of them."""
        self.out.say(self._brush("dim", text))

    def _head(self, name: str) -> str:
        colour = self._colour.setdefault(name, _TURN[len(self._colour) % len(_TURN)])
        return self._brush(colour, f"{self._manifest.plain(name):<{self._width}} |")

    def _show(self, name: str, data: bytes, *, whole: bool) -> None:
        """Print the whole lines of what an instance has written."""
        lines = (self._lines.pop(name, b"") + data).split(b"\n")
        rest = lines.pop()
        if rest and not whole:
            self._lines[name] = rest
        elif rest:
            lines.append(rest)
        head = self._head(name)
        for line in lines:
            shown = line
            if self.out.is_tty:
                shown = Sanitizer().feed(line, final=True).encode("utf-8", PLAIN)
            self.out.stdout.buffer.write(head.encode() + b" " + shown + b"\n")

    # --- what is done -------------------------------------------------------------

    def start(self) -> None:
        """Start all that may be started."""
        rows = self.out.reader().services.all(self.names)
        wanted = [row["name"] for row in rows if row["mode"] != "disabled"]
        plans = {row["name"]: Plan.from_json(row["plan"]) for row in rows}
        if wanted:
            self.out.client().call("service_start", names=in_order(plans, wanted))

    def attached(self) -> int:
        """Show what they write until Ctrl-C, or until all of them have ended; give the exit code."""
        init = os.getpid() == 1
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        if init:
            before |= {number: signal.signal(number, self._pass) for number in _PASSED}
        try:
            self.start()
            return self._watch(init=init)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, _frame: object) -> None:
        self._asked += 1

    def _pass(self, number: int, _frame: object) -> None:
        self._passed.append(number)

    def _watch(self, *, init: bool) -> int:
        while not self._asked:
            rows = self._rows()
            self._follow(rows)
            if init:
                _reap()
                self._pass_on(rows)
            essential = _failed(rows, essential_only=True)
            if essential:
                self.say(f"{', '.join(essential)} is essential and has failed: all of them are stopped")
                self._stop()
                return self._end(1, init=init)
            if rows and all(_is_over(each) for row in rows for each in row["instances"]):
                self._follow(rows)
                return self._end(1 if _failed(rows, essential_only=False) else 0, init=init)
            self.out.stdout.buffer.flush()
            time.sleep(POLL)
        self._stop()
        return self._end(130 if not init else 0, init=init)

    def _rows(self) -> list[dict[str, Any]]:
        """Read how all of them stand; an agent that has died is started again."""
        from vigie.presence import agent_pid

        if agent_pid(self.out.home) is None:
            with contextlib.suppress(VigieError):
                self.out.client().connect()
        return self.out.reader().services.all(self.names)

    def _follow(self, rows: list[dict[str, Any]]) -> None:
        names = [each["name"] for row in rows for each in row["instances"]]
        self._width = max([self._width, *(len(self._manifest.plain(name)) for name in names)])
        for row in rows:
            for each in row["instances"]:
                self._follow_one(each)

    def _follow_one(self, each: dict[str, Any]) -> None:
        name = each["name"]
        lives = self._lives.get(name)
        if lives is None:
            before = self._before.get(name, 0)
            lives = self._lives[name] = Lives(name, LOUD, self.out, after=before)
            lives.go_live()
        lives.wait_for_first()
        lives.pump(lambda output, piece: self._piece(name, output, piece))
        state = (each["state"], each["cause"])
        if state != self._states.get(name):
            self._states[name] = state
            self._show(name, b"", whole=True)
            said = state[0] if state[1] in ("", state[0]) else f"{state[0]}: {clean(state[1])}"
            self.out.stdout.buffer.flush()
            self.out.say(f"{self._head(name)} {self._brush(COLOURS[state[0]], said)}")

    def _piece(self, name: str, output: Output, piece: Piece) -> None:
        if piece.note is not None:
            self.out.say(f"{self._head(name)} {clean(piece.note)}")
        else:
            self._show(name, (piece.data or b"")[piece.trim :], whole=False)

    def _stop(self) -> None:
        """Stop all of them in reverse order; a second Ctrl-C kills."""
        from vigie.cli.up_stop import stop_in_order

        self.say("stopping, in reverse order; Ctrl-C again kills")
        asked = self._asked
        pid = os.fork()
        if pid == 0:
            # So that their last words are shown while they are stopped.
            code = 1
            try:
                self.out.forget_connections()
                stop_in_order(self.names, self.out)
                code = 0
            finally:
                os._exit(code)
        while True:
            done, _ = os.waitpid(pid, os.WNOHANG)
            self._follow(self.out.reader().services.all(self.names))
            self.out.stdout.buffer.flush()
            if done:
                return
            if self._asked > asked:
                self.out.client().call("service_stop", names=self.names, grace=0)
                asked = 1 << 30
            time.sleep(POLL)

    def _end(self, code: int, *, init: bool) -> int:
        for name in list(self._lines):
            self._show(name, b"", whole=True)
        self.out.stdout.buffer.flush()
        for lives in self._lives.values():
            lives.close()
        if init:
            from vigie.cli.agent_end import end

            with contextlib.suppress(VigieError):
                end(self.out.client(), self.out)
            _reap()
        return code

    def _pass_on(self, rows: list[dict[str, Any]]) -> None:
        """Pass signals on to the main processes, as a container's runtime means them."""
        while self._passed:
            number = self._passed.pop(0)
            for row in rows:
                for each in row["instances"]:
                    if each["pid"] is not None:
                        with contextlib.suppress(ProcessLookupError, PermissionError):
                            os.kill(each["pid"], number)


def _is_over(each: dict[str, Any]) -> bool:
    """Tell whether nothing more comes of an instance by itself."""
    return each["state"] in ("inactive", "failed") and not any(word in each["detail"] for word in ("listens", "waits"))


def _failed(rows: list[dict[str, Any]], *, essential_only: bool) -> list[str]:
    """Give the instances that have failed for good."""
    found = []
    for row in rows:
        if not essential_only or Plan.from_json(row["plan"]).essential:
            found += [each["name"] for each in row["instances"] if each["state"] == "failed"]
    return found


def _reap() -> None:
    """Reap orphans: whoever is PID 1 is the parent of all that lose theirs."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
