"""The one way in to the agent, for every door: command line, library, web.

One socket carries any number of requests at once. Each request has a number, and
whoever waits for an answer may find the socket free: then it reads, hands the
answers of others to them, and when its own has come passes the reading on. So a
thousand threads may wait over one socket, without a thread of ours.

A write carries a random request id. When the connection breaks before the
answer, the request is sent again with the same id to the agent that follows,
which gives the same answer again: nothing is lost and nothing is done twice.

``threading`` is not imported: it costs more than what it would be used for.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from _thread import allocate_lock

from vigie import __version__, crash, frames
from vigie.errors import AgentUnreachable, from_wire
from vigie.frames import PROTOCOL, FrameError
from vigie.names import Names
from vigie.rid import new as new_rid
from vigie.sockets import connect_unix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from vigie.config import Home

__all__ = ["Client"]

#: Seconds for an agent that accepted the connection to say hello.
_HELLO = 10.0
#: Seconds of connections that break again and again before we say so.
_PATIENCE = 30.0
#: A connection that lived this many seconds was a good one.
_GOOD = 5.0
#: Seconds that a wait gives an agent that was ended on purpose to come back by itself.
_RETURN = 5.0

# frames.py has no annotations: the worker loads it into older interpreters.
_Decoder: Any = frames.Decoder
_encode: Any = frames.encode

_READ_ONLY = frozenset({"wait", "status"})


class _BrokenConnection(Exception):
    """The connection ended before the answer came."""


class _NotRunning(Exception):
    """Nobody listens; ``clean`` says that the socket's file is gone, as after a shutdown."""

    def __init__(self, clean: bool) -> None:
        super().__init__()
        self.clean = clean


class Client:
    """A way to the agent of one home, for use by any number of threads.

    It connects on first use, and after a fork the child makes a connection of
    its own.

    Parameters
    ----------
    home:
        Whose agent.
    program:
        What the agent writes in its events as the program that asked.
    autostart:
        Start the agent when it does not run.

    >>> from vigie.config import Home
    >>> client = Client(Home("/nowhere"), program="doctest", autostart=False)
    >>> client.call("status")
    Traceback (most recent call last):
        ...
    vigie.errors.AgentUnreachable: the agent of /nowhere does not run
    vigie agent start
    """

    def __init__(self, home: Home, *, program: str = "vigie", autostart: bool = True) -> None:
        self.home = home
        self.program = program
        self.autostart = autostart
        #: What the agent calls the surroundings and the functions that were sent lately.
        self.names = Names()
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        old: _Connection | None = getattr(self, "_connection", None)
        if old is not None:
            # The parent's: let go of our copy of the descriptor, and no more.
            old.drop()
        self._pid = os.getpid()
        self._connecting = allocate_lock()
        self._connection: _Connection | None = None

    def call(self, op: str, **fields: Any) -> dict[str, Any]:
        """Ask for one operation and give the answer's fields.

        The operations and their fields stand in ``docs/explanation/internals.md``.

        Raises
        ------
        AgentUnreachable
            When the agent cannot be reached or started.
        VigieError
            What the agent answered: not found, refused, a usage error …
        """
        return self.call_with_blobs(op, (), **fields)[0]

    def call_with_blobs(
        self, op: str, blobs: Sequence[bytes] = (), *, rid: str | None = None, **fields: Any
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Like :meth:`call`, with bytes sent along and those that came back.

        ``rid`` is the request id of a write (32 hex characters) when the caller
        needs to know it; else one is made.
        """
        if op == "wait":
            return self._wait(fields)
        if op not in _READ_ONLY:
            fields["rid"] = rid or new_rid()
        return self._ask(op, fields, blobs, _Trouble())

    def wait(
        self,
        ids: Iterable[int],
        *,
        any: bool = False,  # noqa: A002 - the protocol's and the command line's word
        timeout: int | None = None,
        results: bool = False,
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Wait for jobs to end, across any number of agents.

        Parameters
        ----------
        ids:
            The jobs.
        any:
            Until one has ended, not all.
        timeout:
            µs; None waits for ever. When it passes, ``done`` in the answer is false.
        results:
            With a single id: give its outcome and the blobs of result and error too.
        """
        return self._wait({"ids": list(ids), "any": any, "timeout": timeout, "results": results})

    def remove(self, ids: Sequence[int], *, force: bool) -> dict[str, Any]:
        """Remove jobs; with ``force`` those that wait too, also where they have to be taken back first."""
        answer = self.call("remove", ids=list(ids), force=force)
        waiting = [refusal["id"] for refusal in answer["refused"] if refusal.get("state") == "queued"]
        if not (force and waiting):
            return answer
        self.call("stop", ids=waiting, grace=None)
        again = self.call("remove", ids=waiting, force=True)
        others = [refusal for refusal in answer["refused"] if refusal["id"] not in waiting]
        return {"removed": sorted(answer["removed"] + again["removed"]), "refused": others + again["refused"]}

    def shutdown(self) -> bool:
        """Ask the agent to end; work goes on under the keeper. False when none runs."""
        try:
            connection = self._connect(start=False, tolerant=True)
            connection.exchange("shutdown", {"rid": new_rid()}, ())
        except _NotRunning:
            return False
        except _BrokenConnection:
            # It ended before its answer left: the same.
            return True
        finally:
            self._disconnect()
        return True

    def connect(self) -> dict[str, Any]:
        """Connect, if that was not done yet, and give the agent's hello."""
        trouble = _Trouble()
        while True:
            try:
                return self._connect(start=self.autostart).hello
            except _NotRunning:
                raise self._unreachable() from None
            except _BrokenConnection:
                trouble.note(self.home)

    def close(self) -> None:
        """Let go of the connection for good; threads that wait over it get AgentUnreachable."""
        self._closed = True
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            connection.close()

    def _wait(self, fields: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Ask to wait; each time the connection breaks, for what is left of the time."""
        timeout = fields.get("timeout")
        end = None if timeout is None else time.monotonic() + timeout / 1e6
        trouble = _Trouble()
        while True:
            if end is not None:
                fields["timeout"] = max(0, round((end - time.monotonic()) * 1e6))
            try:
                return self._ask_once("wait", fields, (), start=self.autostart and trouble.may_start())
            except _NotRunning as error:
                if not self.autostart:
                    raise self._unreachable() from None
                if not error.clean:
                    trouble.start_now()
                time.sleep(0.02)
            except _BrokenConnection:
                trouble.note(self.home)

    def _ask(
        self, op: str, fields: dict[str, Any], blobs: Sequence[bytes], trouble: _Trouble
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Ask until there is an answer."""
        while True:
            try:
                return self._ask_once(op, fields, blobs, start=self.autostart)
            except _NotRunning:
                raise self._unreachable() from None
            except _BrokenConnection:
                trouble.note(self.home)

    def _ask_once(
        self, op: str, fields: dict[str, Any], blobs: Sequence[bytes], *, start: bool
    ) -> tuple[dict[str, Any], list[bytes]]:
        header, back = self._connect(start=start).exchange(op, fields, blobs)
        error = header.get("error")
        if error is not None:
            raise from_wire(error)
        header.pop("re", None)
        return header, back

    def _connect(self, *, start: bool, tolerant: bool = False) -> _Connection:
        """Give the living connection, or make one."""
        if self._pid != os.getpid():
            self._reset()
        if self._closed:
            raise AgentUnreachable(f"this way to the agent of {self.home.root} was closed")
        with self._connecting:
            connection = self._connection
            if connection is None or connection.broken:
                self._connection = None
                connection = self._open(start=start, tolerant=tolerant)
                self._connection = connection
            return connection

    def _open(self, *, start: bool, tolerant: bool) -> _Connection:
        try:
            sock = connect_unix(self.home.socket, _HELLO)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            if not start:
                raise _NotRunning(not isinstance(error, ConnectionRefusedError)) from None
            from vigie.launch import launch

            sock = launch(self.home)
        except TimeoutError:
            raise self._silent() from None
        except OSError as error:
            raise AgentUnreachable(f"cannot connect to {self.home.socket}: {error.strerror}", "vigie doctor") from None
        try:
            return self._greet(sock, tolerant)
        except BaseException:
            sock.close()
            raise

    def _greet(self, sock: socket.socket, tolerant: bool) -> _Connection:
        """Exchange hellos, and see that it is our own agent that answers."""
        self._check_peer(sock)
        hello = {
            "vigie": PROTOCOL,
            "role": "client",
            "version": __version__,
            "program": self.program,
            "terminal": _terminal(),
        }
        decoder = _Decoder()
        try:
            sock.sendall(_encode(hello))
            while not (found := decoder.feed(_some(sock))):
                pass
        except TimeoutError:
            raise self._silent() from None
        except FrameError as error:
            raise AgentUnreachable(f"{self.home.socket} is not an agent's: {error}", "vigie doctor") from None
        except OSError:
            raise _BrokenConnection from None
        answer = found[0][0]
        if answer.get("error"):
            raise from_wire(answer["error"])
        if answer.get("vigie", 0) < PROTOCOL and not tolerant:
            raise AgentUnreachable(
                f"the running agent is Vigie {answer.get('version')}, too old for this Vigie {__version__}",
                "vigie agent restart",
            )
        sock.settimeout(None)
        return _Connection(sock, decoder, answer)

    def _check_peer(self, sock: socket.socket) -> None:
        which = getattr(socket, "SO_PEERCRED", None)
        if which is None:
            return
        _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, which, 12))
        if uid != os.geteuid():
            raise AgentUnreachable(
                f"{self.home.socket} is held by user {uid}, and you are user {os.geteuid()}",
                "set VIGIE_HOME to a directory of your own",
            )

    def _unreachable(self) -> AgentUnreachable:
        return AgentUnreachable(f"the agent of {self.home.root} does not run", "vigie agent start")

    def _silent(self) -> AgentUnreachable:
        return AgentUnreachable(
            f"the agent of {self.home.root} does not answer",
            f"vigie doctor, or see {self.home.agent_log}",
        )


class _Trouble:
    """Counts the breaks in a row, and says when they are too many."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._last = time.monotonic()
        self._start_from = 0.0
        self._pause = 0.005

    def note(self, home: Home) -> None:
        """Note a break, and hold on a little before the next try."""
        now = time.monotonic()
        if self._since is None or now - self._last > _GOOD:
            self._since = now
            self._pause = 0.005
        elif now - self._since > _PATIENCE:
            raise AgentUnreachable(
                f"the connection to the agent broke again and again for {_PATIENCE:.0f} s", f"see {home.agent_log}"
            )
        else:
            time.sleep(self._pause)
            self._pause = min(2 * self._pause, 0.5)
        self._last = time.monotonic()
        self._start_from = self._last + _RETURN

    def may_start(self) -> bool:
        """Tell whether a wait may start the agent by now."""
        return time.monotonic() >= self._start_from

    def start_now(self) -> None:
        """The agent was killed, not ended: nobody else will start it."""
        self._start_from = 0.0


class _Pending:
    """A request without its answer yet; the bell says that something changed for it."""

    __slots__ = ("answer", "bell")

    def __init__(self) -> None:
        self.answer: tuple[dict[str, Any], list[bytes]] | None = None
        self.bell = allocate_lock()
        self.bell.acquire()

    def ring(self) -> None:
        """Wake who waits; the caller holds the connection's lock."""
        if self.bell.locked():
            self.bell.release()


class _Connection:
    """One socket, shared by all who ask; see the top of the file."""

    def __init__(self, sock: socket.socket, decoder: Any, hello: dict[str, Any]) -> None:
        self.hello = hello
        self.broken = False
        self._sock = sock
        self._decoder = decoder
        self._lock = allocate_lock()
        self._sending = allocate_lock()
        self._pending: dict[int, _Pending] = {}
        self._reader: _Pending | None = None
        self._last = 0
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)

    def exchange(self, op: str, fields: dict[str, Any], blobs: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Send one request and wait for its answer."""
        mine = _Pending()
        with self._lock:
            if self.broken:
                raise _BrokenConnection
            self._last = number = self._last + 1
            self._pending[number] = mine
        try:
            self._send(_encode({"op": op, "id": number, **fields}, blobs))
            return self._answer(mine)
        finally:
            # Also when interrupted: somebody else must go on reading.
            with self._lock:
                self._pending.pop(number, None)
                self._drop_if_left()
                if self._reader is mine or self._reader is None:
                    self._reader = None
                    for other in self._pending.values():
                        if other.answer is None:
                            other.ring()
                            break

    def _answer(self, mine: _Pending) -> tuple[dict[str, Any], list[bytes]]:
        while True:
            with self._lock:
                if mine.answer is not None:
                    return mine.answer
                if self.broken:
                    raise _BrokenConnection
                if self._reader is None:
                    self._reader = mine
                reading = self._reader is mine
            if not reading:
                mine.bell.acquire()
                continue
            self._read()

    def _send(self, frame: bytes) -> None:
        with self._sending:
            try:
                crash.point("client-before-request")
                self._sock.sendall(frame)
                crash.point("client-after-request")
            except OSError:
                self._break()
                raise _BrokenConnection from None
            except BaseException:
                # Half a frame may have gone out.
                self._break()
                raise

    def _read(self) -> None:
        """Wait for bytes and hand out the answers in them."""
        # An interrupt here costs nothing; further down, bytes would be lost.
        self._readable.poll()
        try:
            for header, blobs in self._decoder.feed(_some(self._sock)):
                with self._lock:
                    asked = self._pending.get(header.get("re", 0))
                    if asked is not None:
                        asked.answer = (header, blobs)
                        asked.ring()
        except (OSError, FrameError):
            self._break()
        except BaseException:
            self._break()
            raise

    def _break(self) -> None:
        """Give the connection up: all who wait on it learn it, and the last one out closes."""
        with self._lock:
            self.broken = True
            for pending in self._pending.values():
                pending.ring()
            try:
                # Closing the descriptor under somebody's poll would not wake him; this does.
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        """End the connection."""
        self._break()
        with self._lock:
            self._drop_if_left()

    def _drop_if_left(self) -> None:
        if self.broken and not self._pending:
            self.drop()

    def drop(self) -> None:
        """Close the descriptor, which nobody uses any more."""
        self._sock.close()


def _some(sock: socket.socket) -> bytes:
    # For much more, malloc would map memory anew each time, which costs ten times the read.
    data = sock.recv(1 << 16)
    if not data:
        raise ConnectionResetError
    return data


def _terminal() -> str | None:
    """Give the name of the terminal that the caller sits at, such as ``pts/3``."""
    for fd in (0, 1, 2):
        try:
            return os.ttyname(fd).removeprefix("/dev/")
        except OSError:
            continue
    return None
