"""What somebody wants of ``vigie map``: words and options, read, checked, and made into a run."""

from __future__ import annotations

import codecs
import os
import resource
import stat

from vigie.errors import UsageError
from vigie.model import cores
from vigie.parallel.plan import Plan
from vigie.shellmap.inputs import STDIN, column_pattern, command_items, parse_sources
from vigie.shellmap.outlets import Bare, Files, Lines, Results, nameless, temporary
from vigie.shellmap.printer import Printer
from vigie.shellmap.run import CommandRun
from vigie.shellmap.template import Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from vigie.engines.command import Done
    from vigie.parallel.course import Earlier, Show
    from vigie.shellmap.inputs import Source

    Row = Sequence[bytes]

__all__ = ["Wanted", "filler", "spell"]

#: Items that stood on the command line: so many of their combinations are counted beforehand.
_COUNTED = 1_000_000
#: Descriptors of everything else than commands.
_OURS = 64
#: Commands that may wait for their turn to be shown, and the descriptors of each.
WAITING, _HELD = 1_000, 2
_NICE = 40
#: Items of a command, which are more than any system takes.
_MOST = 1 << 30


def filler(words: Sequence[bytes], line: bytes | None, several: int) -> Callable[[Row, int, int], list[bytes]]:
    """Give what makes the argv of a command from its items, its number and its slot.

    Parameters
    ----------
    line:
        A line for /bin/sh, instead of ``words``.
    several:
        How many items a command has at most; 0 when nobody knows.
    """
    if line is None:
        return Template.parse(words, several=several).fill
    from vigie.shellmap.shell import ShellTemplate

    template = ShellTemplate.parse(line, several=several)
    return lambda items, seq, slot: [b"/bin/sh", b"-c", template.fill(items, seq, slot)]


def spell(argv: Sequence[bytes]) -> bytes:
    """Write a command as one would type it; of a line for a shell, the line.

    >>> spell([b"mv", b"a b", b"c"]), spell([b"/bin/sh", b"-c", b"sort a | uniq"])
    (b"mv 'a b' c", b'sort a | uniq')
    """
    from vigie.shellmap.shell import quote

    if len(argv) == 3 and argv[:2] == [b"/bin/sh", b"-c"]:
        return argv[2]
    return b" ".join([quote(word) for word in argv])


class Wanted:
    """One call of ``vigie map``; ``args`` are its options, under the names of ``vigie.cli.map``.

    Raises
    ------
    UsageError
        When an option makes no sense, there is no command, or no items can be read.
    """

    def __init__(self, args: Any) -> None:
        self.args = args
        self.words, self.sources = parse_sources(
            [os.fsencode(word) for word in args.what], [os.fsencode(path) for path in args.files]
        )
        self.line = None if args.shell is None else os.fsencode(args.shell)
        if self.line is not None and self.words:
            raise UsageError(f"map: {args.what[0]}: --shell has the command already", "items stand behind :::")
        self.several = self._number("max-args", 1, _MOST) or 1
        self._columns = None if args.columns is None else column_pattern(os.fsencode(args.columns))
        self._separator = self._delimiter()
        self.most = 0 if self._columns else self.several * len(self.sources)
        self.fill = filler(self.words, self.line, self.most)
        self.limit = self._jobs()
        self.retries = self._number("retries", 0) or 0
        #: The descriptors of a command that runs: its pidfd and two files; or two pipes, and two files while it waits.
        self._each = 5 if args.lines else 3
        #: The limits of open files as they were, which commands shall have.
        self._files = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.nice = self._number("nice", -_NICE, _NICE)
        self.plan = self._plan()
        self.hint = ""
        self._run: CommandRun | None = None

    # --- options ------------------------------------------------------------------

    def _number(self, name: str, least: int, most: int | None = None) -> int | None:
        text = getattr(self.args, name.replace("-", "_"))
        if text is None:
            return None
        try:
            found = int(text)
        except ValueError:
            raise UsageError(f"map: --{name} is {text!r}: it must be a whole number") from None
        if found < least or (most is not None and found > most):
            bound = f"{least} or more" if most is None else f"between {least} and {most}"
            raise UsageError(f"map: --{name} is {text}: it must be {bound}")
        return found

    def _jobs(self) -> int:
        text = self.args.jobs
        if text is None:
            return cores()
        digits = text.removesuffix("%")
        number = int(digits) if digits.isdecimal() else 0
        if not number:
            raise UsageError(f"map: -j is {text!r}: it is a number of commands, or a part of the cores such as 50%")
        return max(1, round(cores() * number / 100)) if text.endswith("%") else number

    def _delimiter(self) -> bytes:
        if self.args.null and self.args.delimiter is not None:
            raise UsageError("map: -0 and -d both say what ends an item", "give one of them")
        if self.args.null:
            return b"\0"
        if self.args.delimiter is None:
            return b"\n"
        try:
            return codecs.escape_decode(os.fsencode(self.args.delimiter))[0]
        except ValueError as error:
            raise UsageError(f"map: -d is {self.args.delimiter!r}: {error}") from None

    def _plan(self) -> Plan:
        args = self.args
        plan = Plan(
            ordered=args.keep_order, timeout=args.timeout, retries=self.retries, rate=args.rate, errors="collect",
            window=self._window() if args.keep_order else None,
        )  # fmt: skip
        plan.space(args.delay)
        return plan

    def _window(self) -> int:
        """Give how many commands may run, and wait for their turn to be shown."""
        needed = self.limit * self._each + _OURS
        given = _descriptors(needed, WAITING * _HELD)
        return self.limit + max(1, min(WAITING, (given - needed) // _HELD))

    # --- items --------------------------------------------------------------------

    def rows(self) -> Iterator[Row]:
        """Give the items of each command."""
        return command_items(
            self.sources, several=self.several, separator=self._separator, columns=self._columns,
            blank=not self.args.no_blank,
        )  # fmt: skip

    def commands(self) -> Iterator[list[bytes]]:
        """Give the argv of each command, as it would be if it ran alone."""
        for seq, row in enumerate(self.rows(), 1):
            yield self.fill(row, seq, (seq - 1) % self.limit + 1)

    def reads_terminal(self) -> bool:
        """Whether items come from a terminal."""
        return any(source.path == STDIN for source in self.sources) and os.isatty(0)

    def _waits(self) -> bool:
        """Whether an item may have to be waited for."""
        return any(source.path is not None and not _regular(source) for source in self.sources)

    def _countable(self) -> bool:
        count = 1
        for source in self.sources:
            count *= max(1, len(source.values)) if source.path is None else _COUNTED + 1
        return count <= _COUNTED

    # --- the run ------------------------------------------------------------------

    @property
    def failed(self) -> int:
        """How many have failed."""
        return 0 if self._run is None else self._run.failed

    def make(self, say: Callable[[str], None]) -> CommandRun:
        """Make the run."""
        from vigie.shellmap.gate import Gate

        args = self.args
        halt = self._halt()
        rows: Iterable[Row] = self.rows()
        total = None
        if args.progress or args.resume or (halt is not None and halt.share) or self._countable():
            rows = list(rows)
            total = len(rows)
        feed = None
        if total is None and self._waits():
            from vigie.shellmap.feed import Feed

            rows = feed = Feed(iter(rows))
        gate = Gate(args.load, args.memfree, feed=feed)
        _renice(self.nice)
        _descriptors(self.limit * self._each + _OURS)
        printer = Printer(prefix=args.prefix, as_json=args.json, shared=bool(args.progress))
        joblog = None
        if args.joblog is not None:
            from vigie.shellmap.joblog import Joblog

            # parallel appends to a list that has a + before its name.
            more = args.resume_joblog or args.resume_failed or args.joblog.startswith("+")
            joblog = Joblog(args.joblog.removeprefix("+"), more=more)
            self.hint = "the same with --resume-failed runs them again"
        resume = self._earlier(rows, say)
        self._run = CommandRun(
            self.fill, rows, self.plan, limit=self.limit, outlet=self.outlet(printer), printer=printer, total=total,
            gate=gate if gate.needed else None, feed=feed, halt=halt, resume=resume, show=self._show(total),
            joblog=joblog, spell=_spelled, files=self._theirs(), say=say,
        )  # fmt: skip
        return self._run

    def _theirs(self) -> tuple[int, int] | None:
        """Give the limits of open files that commands are to have, if ours were raised."""
        return None if resource.getrlimit(resource.RLIMIT_NOFILE) == self._files else self._files

    def _halt(self) -> Any:
        if self.args.halt is None:
            return None
        from vigie.shellmap.halt import Halt

        return Halt(self.args.halt)

    def outlet(self, printer: Printer) -> Bare:
        """Make what takes the output of the commands."""
        args = self.args
        if args.ungroup:
            return Bare()
        if args.results is not None:
            return Results(args.results)
        directory = args.tmpdir or temporary()
        try:
            os.close(nameless(directory))
        except OSError as error:
            raise UsageError(f"map: --tmpdir: no file can be made in {directory}: {error.strerror}") from None
        return Lines(printer.sink, directory, keep_order=args.keep_order) if args.lines else Files(directory)

    def _earlier(self, rows: Iterable[Row], say: Callable[[str], None]) -> Earlier | None:
        args = self.args
        if args.resume is not None:
            from vigie.shellmap.resumed import Commanded

            found = Commanded(args.resume, self.words or [self.line or b""], rows, fresh=args.fresh)
            if found:
                say(f"vigie map: {found.summary}")
            if found.changed:
                say("vigie map: the command is another one than that of the earlier run; --fresh runs all anew")
            self.hint = "the same again tries them once more"
            return found
        if args.resume_joblog or args.resume_failed:
            from vigie.shellmap.joblog import Listed, ended_earlier

            return Listed(ended_earlier(args.joblog.removeprefix("+"), well=args.resume_failed))
        return None

    def _show(self, total: int | None) -> Show | None:
        if not self.args.progress:
            return None
        from vigie.parallel.progress import display

        name = os.fsdecode(os.path.basename(self.words[0])) if self.words else "map"
        return display(name, name, total)


def _spelled(done: Done) -> bytes:
    return spell(done.argv)


def _regular(source: Source) -> bool:
    assert source.path is not None
    try:
        return stat.S_ISREG((os.fstat(0) if source.path == STDIN else os.stat(source.path)).st_mode)
    except OSError:
        return True  # opening it will say what is wrong


def _renice(by: int | None) -> None:
    if by is None:
        return
    try:
        os.nice(by)
    except PermissionError:
        raise UsageError(f"map: --nice {by}: only root may be less nice") from None


def _descriptors(needed: int, more: int = 0) -> int:
    """See that so many files can be open, and if possible so many more; give how many can be.

    Raises
    ------
    UsageError
        When that is more than there may be.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed > hard:
        raise UsageError(f"map: -j needs {needed:,} open files, and the system gives {hard:,}", "a smaller -j")
    if needed + more > soft:
        soft = min(needed + more, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
