"""The list of commands that have ended, as GNU parallel writes it (``--joblog``), and what it says of an earlier run.

A line of tabulated fields for each: its number, ``:`` for this machine, when it began (epoch seconds), how
long it took (s), bytes sent (none) and received (of its stdout), exit status, signal, and the command. One
that took too long has the exit status -1. Newlines of a command are NUL bytes, as there.
"""

from __future__ import annotations

import fcntl
import os
import stat

from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from vigie.engines.command import Done

__all__ = ["Joblog", "Listed", "ended_earlier"]

_HEAD = b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
_TIMED_OUT = (-1, 15)
_BLOCK = 1 << 16
#: The pickle of None.
_NOTHING = b"N."


class Joblog:
    """Writes a line for each command, at once.

    Parameters
    ----------
    path:
        The file.
    more:
        Go on with what is in it, else it begins anew.

    Raises
    ------
    UsageError
        When it cannot be written.
    """

    def __init__(self, path: str, *, more: bool) -> None:
        how = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | 0
        try:
            self._fd = os.open(path, how, 0o666)
        except OSError as error:
            raise UsageError(f"--joblog {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise UsageError(f"--joblog {path}: another run writes it") from None
        except OSError:
            pass  # a file system without locks
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.write(self._fd, _HEAD)  # a pipe, or /dev/null
            return
        if not more:
            os.ftruncate(self._fd, 0)
        size = os.fstat(self._fd).st_size
        if not size:
            os.write(self._fd, _HEAD)
        else:
            os.ftruncate(self._fd, _whole(self._fd, size))

    def write(self, done: Done, command: bytes, received: int) -> None:
        """Note how a command ended; ``received`` is how much it wrote to stdout (bytes)."""
        status, number = (done.status, 0) if done.status >= 0 else (0, -done.status)
        if done.timed_out:
            status, number = _TIMED_OUT
        line = b"%d\t:\t%.3f\t%10.3f\t0\t%d\t%d\t%d\t%b\n" % (
            done.seq, done.began, done.took, received, status, number, command.replace(b"\n", b"\0"),
        )  # fmt: skip
        os.write(self._fd, line)

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def ended_earlier(path: str, *, well: bool) -> set[int]:
    """Give the numbers of the commands that are in the list of an earlier run; of one that is not there, none.

    Parameters
    ----------
    well:
        Only those that ended well. Of a command that is there twice the last line counts.

    Raises
    ------
    UsageError
        When the file is no such list, or cannot be read.
    """
    found: dict[int, bool] = {}
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file):
                fields = line.rstrip(b"\n").split(b"\t", 8)
                if number == 0 and line == _HEAD:
                    continue
                if len(fields) < 9:
                    if line.endswith(b"\n"):
                        raise ValueError(number)
                    continue  # its writer was interrupted
                found[int(fields[0])] = fields[6:8] == [b"0", b"0"]
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise UsageError(f"--joblog {path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"--joblog {path}: line {number + 1} is none of a list of commands") from None
    return {seq for seq, ended_well in found.items() if ended_well or not well}


def _whole(fd: int, size: int) -> int:
    """Give where the last whole line ends: whoever wrote the next one was interrupted."""
    while size:
        begin = max(0, size - _BLOCK)
        end = os.pread(fd, size - begin, begin).rfind(b"\n") + 1
        if end:
            return begin + end
        size = begin
    return 0


class Listed:
    """The commands of an earlier run's list, for a course that resumes.

    Attributes
    ----------
    summary:
        What there is to do.
    """

    def __init__(self, ended: Collection[int]) -> None:
        self._ended = ended
        self.summary = f"{len(ended):,} commands are in the list of the earlier run"

    def earlier(self, index: int, item: object) -> bytes | None:
        """Give the pickle of nothing for a command that has run."""
        return _NOTHING if index + 1 in self._ended else None

    def done(self, group: object) -> None:
        """The list itself is kept by whoever prints."""

    def failed(self, index: int, error: BaseException) -> None:
        """Likewise."""

    def sync(self) -> None:
        """Nothing is to be kept."""

    def close(self) -> None:
        """Nothing is open."""
