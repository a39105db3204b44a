"""``vigie run``: submit, show the output as it comes, end as the work ends.

The job is the agent's, not ours: when the terminal closes or our reader goes, the
job goes on and only the watching ends. Ctrl-C and SIGTERM are for the work, and
become a stop; a second one ends its grace.
"""

from __future__ import annotations

import os
import signal
import threading

from vigie.cli.options import WHAT, add_start_options, parse, split_words, submission
from vigie.cli.start import key_held, show_dry, waiting
from vigie.errors import UsageError, VigieError
from vigie.terminal import PLAIN, Sanitizer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from types import FrameType
    from typing import Any, TextIO

    from vigie.cli.context import Context
    from vigie.streams import Piece

__all__ = ["EXAMPLES", "NOTES", "SUMMARY", "USAGE", "add_arguments", "parse", "run", "split_words"]

SUMMARY = "run something and show its output live; ends with the work's own exit code"
USAGE = "vigie run [options] WHAT"
NOTES = (
    WHAT
    + """

exit codes: the work's own; 128+N when signal N ended it; 124 after its timeout;
  126 it may not be run; 127 not found; 125 an error of Vigie's own, or nobody
  knows how it ended; 130 after Ctrl-C.
Ctrl-C stops the work (twice: at once); when the terminal closes, the work goes on."""
)
EXAMPLES = """\
vigie run -- make test
vigie run --timeout 10m -- ./import.sh today       # in front of any cron line
vigie run --queue imports --retries 3 load.py
vigie run -f shop.tasks:rebuild --args '{"year": 2026}'
"""

#: How a signal to us ends: what the exit code says.
_INTERRUPTED = {signal.SIGINT: 130, signal.SIGTERM: 143}
_WHY = {"timeout": "took longer than its timeout allows", "oom": "was killed for want of memory"}


class _Detached(Exception):
    """Nobody watches any more; the job goes on."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_start_options(parser)


def run(args: argparse.Namespace, out: Context) -> int:
    """Submit the job, follow it, and give its exit code."""
    wanted = submission(args, out)
    if args.dry_run:
        return show_dry(wanted, out, as_json=args.json)
    if args.json:
        raise UsageError("run: --json goes with --dry-run; the output is the work's own", "vigie start --json")
    signals = _Signals()
    with signals:
        answer = wanted.send(out.client(), tell=True)
        job = int(answer["ids"][0])
        if waits := answer.get("waits"):
            held = waiting(job, waits, now=args.now) or key_held(job, waits, out)
            if held is not None:
                out.say(f"vigie: {held}")
        watch = _Watch(job, out, signals, raw=args.raw)
        try:
            return watch.follow()
        except (BrokenPipeError, _Detached) as error:
            _say_goes_on(job, out)
            return error.code if isinstance(error, _Detached) else 141


class _Signals:
    """Counts the signals that mean the work, and restores the handlers at the end."""

    def __init__(self) -> None:
        self.stops = 0
        self.first: int | None = None
        self.hung_up = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup and background jobs of a shell ignore some on purpose.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._take)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.hung_up = True
            return
        self.stops += 1
        if self.first is None:
            self.first = number
        if self.stops > 2:
            # The agent does not answer, or the work does not die: let the person go.
            raise KeyboardInterrupt


class _Watch:
    """Follows one job to its end."""

    def __init__(self, job: int, out: Context, signals: _Signals, *, raw: bool) -> None:
        self.job = job
        self.out = out
        self.signals = signals
        self.trouble: VigieError | None = None
        self._passed_on = 0
        self._raw = raw
        #: The last attempt whose failure was told.
        self._told = 0
        #: (attempt, stream) -> what makes it harmless for a terminal.
        self._sanitizers: dict[tuple[int, str], Sanitizer] = {}

    def follow(self) -> int:
        """Show what it writes until it has ended; give its exit code."""
        from vigie.output import LOUD, Output

        # The wait keeps the agent alive: whoever kills it, it is started again.
        threading.Thread(target=self._wait, daemon=True).start()
        with Output(self.out.reader(), self.out.home, self.job, streams=LOUD) as output:
            for piece in output.follow(idle=lambda: self._look(output.row)):
                self._tell_failures(piece.attempt - 1)
                self._show(piece)
            self._tell_failures(output.row["attempt"] - 1)
            return self._end(output.row)

    def _wait(self) -> None:
        try:
            self.out.client().wait([self.job])
        except VigieError as error:
            self.trouble = error

    def _look(self, row: dict[str, Any]) -> None:
        """Between two readings: say that a retry comes, do what signals ask."""
        if row["state"] == "blocked" and row["blocked_by"] == "time":
            self._tell_failures(row["attempt"], row["due"])
        if self.signals.hung_up:
            raise _Detached(129)
        if self.trouble is not None:
            raise VigieError(
                f"{self.trouble.message}; job {self.job} is not watched any more",
                f"vigie wait {self.job}; vigie logs {self.job}",
            )
        if self.signals.stops > self._passed_on:
            if self.out.is_person and self._passed_on == 0:
                self.out.say(f"vigie: stopping {self.job}; again ends it at once")
            self._passed_on = self.signals.stops
            threading.Thread(target=self._stop, args=(self._passed_on > 1,), daemon=True).start()

    def _stop(self, at_once: bool) -> None:
        try:
            self.out.client().call("stop", ids=[self.job], grace=0 if at_once else None)
        except VigieError as error:
            self.trouble = error

    def _tell_failures(self, last: int, due: int | None = None) -> None:
        """Say of each attempt up to ``last`` how it failed; the one that follows begins at ``due`` (µs UTC)."""
        if last <= self._told:
            return
        for attempt in self.out.reader().attempts(self.job):
            number = attempt["n"]
            if self._told < number <= last:
                when = _soon(due) if number == last and due is not None else "begins"
                self.out.say(f"vigie: attempt {number} {_failure(attempt)}; attempt {number + 1} {when}")
        self._told = last

    def _show(self, piece: Piece) -> None:
        if piece.note is not None:
            self.out.say(f"vigie: {piece.note}")
            return
        stream = self.out.stdout if piece.stream not in ("error", "warning") else self.out.stderr
        data = piece.shown
        if not self._raw and stream.isatty():
            key = (piece.attempt, piece.stream)
            text = self._sanitizers.setdefault(key, Sanitizer()).feed(data)
            data = text.encode(stream.encoding or "utf-8", PLAIN)
        self._write(stream, data)

    def _write(self, stream: TextIO, data: bytes) -> None:
        try:
            stream.buffer.write(data)
            stream.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            import errno

            # The terminal has gone, and its SIGHUP may still be on the way.
            if error.errno == errno.EIO:
                raise _Detached(129) from None
            raise

    # --- the end --------------------------------------------------------------

    def _end(self, row: dict[str, Any]) -> int:
        """Say why it ended, where its output does not, and give the exit code."""
        state, reason = row["state"], row["reason"]
        if state == "completed":
            self._result()
            return 0
        if state == "stopped":
            if self.signals.first is not None:
                return _INTERRUPTED.get(signal.Signals(self.signals.first), 130)
            self._say("was stopped")
            return 125
        if state == "lost":
            self._say(f"was lost: {row['message'] or 'nobody knows how it ended'}")
            return 125
        if reason == "exit":
            if self.out.is_person:
                self._say(f"failed: exit code {row['exit_code']}")
            return int(row["exit_code"])
        if reason == "signal":
            self._say(f"was ended by {_signal_name(row['signal'])}")
            return 128 + int(row["signal"])
        return self._failed(reason, row)

    def _failed(self, reason: str, row: dict[str, Any]) -> int:
        error = self._error()
        if reason == "exception":
            self.out.stderr.write((error.get("traceback") or f"{row['message']}\n").rstrip("\n") + "\n")
            if self.out.is_person:
                self._say("failed")
            return 1
        self._say(row["message"] or _WHY.get(reason, f"failed: {reason}"))
        if reason == "spawn":
            missing = error.get("type") in ("ENOENT", "ENOTDIR") and error.get("what", "argv") == "argv"
            return 127 if missing else 126
        return {"timeout": 124, "oom": 137}.get(reason, 125)

    def _error(self) -> dict[str, Any]:
        from vigie import view

        kept = self.out.reader().content(self.job).get("error")
        if not kept:
            return {}
        import json

        found: dict[str, Any] = json.loads(kept)
        return {**(view.error(kept) or {}), **found}

    def _result(self) -> None:
        """Print what a function returned: a value as JSON; of others, where to find them."""
        content = self.out.reader().content(self.job)
        encoding, result = content.get("result_encoding"), content.get("result")
        if encoding == "json" and result is not None:
            if result != b"null":
                self._write(self.out.stdout, bytes(result) + b"\n")
        elif encoding is not None and self.out.is_person:
            self.out.say(f"{self.job} returned an object · vigie show {self.job}")

    def _say(self, text: str) -> None:
        self.out.say(f"vigie: {self.job} {text} · vigie why {self.job}")


def _failure(attempt: dict[str, Any]) -> str:
    """Say how an attempt ended that another follows."""
    if attempt["state"] == "lost":
        return "was lost"
    if attempt["signal"] is not None and attempt["reason"] != "timeout":
        return f"failed ({_signal_name(attempt['signal'])})"
    if attempt["reason"] == "exit":
        return f"failed (exit {attempt['exit_code']})"
    return f"failed ({attempt['reason']})" if attempt["reason"] else "failed"


def _soon(due: int) -> str:
    """Say when a retry begins; a person needs no milliseconds beyond the first second."""
    import time

    from vigie.values import format_duration

    left = max(0, due - time.time_ns() // 1000)
    unit = 1_000_000 if left > 900_000 else 10_000
    return f"in {format_duration((left + unit // 2) // unit * unit)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _say_goes_on(job: int, out: Context) -> None:
    try:
        os.write(out.stderr.fileno(), f"vigie: {job} goes on · vigie logs -f {job}\n".encode())
    except (OSError, ValueError):
        # The terminal has gone, and the message with it.
        pass
