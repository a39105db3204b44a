"""What the keeper says to the agent, and hears from it.

One agent at a time: a new one replaces the old. What must be told stands in a
queue of (mark, kind) and becomes bytes only as fast as the agent reads; from
one that does not read, nothing is read either. So neither can make the keeper
wait, or grow without bound.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import sys
import time
from collections import deque

import vigie
from vigie import frames
from vigie.crash import point
from vigie.sockets import bind_unix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Talk", "log"]

#: Bytes encoded ahead of an agent that reads slowly, and queued reports at
#: which the keeper stops reading from it.
_AHEAD = 1 << 16
_BEHIND = 4096

_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_WRITE


def log(text: str) -> None:
    """Write a line for whoever looks for trouble in ``keeper/log``."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} keeper {os.getpid()}: {text}\n")
        sys.stderr.flush()


class Connection:
    """One peer: the agent, or whoever has not said hello yet."""

    __slots__ = ("agent", "decoder", "events", "out", "sock", "todo")

    def __init__(self, sock: socket.socket, hello: bytes) -> None:
        self.sock = sock
        self.decoder = frames.Decoder()
        self.agent = False
        self.out = bytearray(hello)
        #: (mark, "started", "end" or "withdrawn", is a replay); a mark of "" ends a replay.
        self.todo: deque[tuple[str, str, bool]] = deque()
        self.events = _READ


class Talk:
    """The listening socket, and the line to the agent.

    Parameters
    ----------
    path:
        The socket's file.
    listener:
        Bound there already.
    boot:
        This boot's id, for the hello.
    selector:
        The loop's; the data of each key is called with the events.
    marks:
        The newest journal entry of each mark: what there is to tell.
    obey:
        Called with each frame of the agent after its hello.
    gone:
        Called when an agent is gone, or replaced by the next.
    """

    def __init__(
        self,
        path: str,
        listener: socket.socket,
        boot: str,
        selector: selectors.BaseSelector,
        marks: dict[str, dict[str, object]],
        obey: Callable[[dict[str, Any]], None],
        gone: Callable[[], None],
    ) -> None:
        self.path = path
        self.agent: Connection | None = None
        self._boot = boot
        self._selector = selector
        self._marks = marks
        self._obey = obey
        self._gone = gone
        #: What else is told, in order, each where a "word" stands among what is to be told.
        self._words: deque[dict[str, Any]] = deque()
        #: Gives what a new agent has to hear besides the journal.
        self.more: Callable[[], list[dict[str, Any]]] = list
        #: Takes a peer that brings or wants descriptors, with its hello and those that came with it.
        self.exchange: Callable[[socket.socket, dict[str, Any], list[int]], None] = lambda sock, header, fds: None
        self._listen(listener)

    def _listen(self, listener: socket.socket) -> None:
        self.listener = listener
        listener.setblocking(False)
        self._selector.register(listener, _READ, self._accept)
        self._inode = os.stat(self.path).st_ino

    def mend(self) -> None:
        """Listen again when somebody removed the socket's file."""
        with contextlib.suppress(OSError):
            try:
                if os.stat(self.path).st_ino == self._inode:
                    return
            except FileNotFoundError:
                pass
            fresh = bind_unix(self.path)
            self._selector.unregister(self.listener)
            self.listener.close()
            self._listen(fresh)

    def report(self, mark: str, kind: str, *, replay: bool = False) -> None:
        """Tell the agent, if there is one, that a mark has ``started``, come to its ``end`` or was ``withdrawn``."""
        if self.agent is not None:
            self.agent.todo.append((mark, kind, replay))
            self._flush(self.agent)

    def tell(self, message: dict[str, Any]) -> bool:
        """Tell the agent something else; False if there is none."""
        if self.agent is None:
            return False
        self._words.append(message)
        self.agent.todo.append(("", "word", False))
        self._flush(self.agent)
        return True

    def listen(self) -> None:
        """Obey what the agent has said by now."""
        if self.agent is not None:
            self._serve(self.agent, _READ)

    def replay(self) -> None:
        """Tell the agent everything that is not forgotten."""
        if self.agent is None:
            return
        point("keeper-before-replay")
        for mark, said in self._marks.items():
            self.agent.todo.append((mark, "started" if said["k"] == "started" else "end", True))
        for message in self.more():
            self._words.append(message)
            self.agent.todo.append(("", "word", True))
        self.agent.todo.append(("", "", True))

    def _accept(self, _events: int) -> None:
        with contextlib.suppress(OSError):
            sock, _ = self.listener.accept()
            if not _same_user(sock):
                sock.close()
                return
            sock.setblocking(False)
            hello = {"vigie": frames.PROTOCOL, "role": "keeper", "version": vigie.__version__, "lanes": True,
                     "services": True}  # fmt: skip
            peer = Connection(sock, frames.encode({**hello, "pid": os.getpid(), "boot": self._boot}))
            self._selector.register(sock, _READ, lambda events: self._serve(peer, events))
            point("keeper-before-hello")
            self._flush(peer)
            point("keeper-after-hello")

    def _serve(self, peer: Connection, events: int) -> None:
        try:
            if events & _READ:
                data, fds = self._receive(peer)
                if not data:
                    self._drop(peer)
                    return
                for header, _ in peer.decoder.feed(data):
                    if not peer.agent and header.get("role") == "fds":
                        self.exchange(peer.sock, header, fds)
                        self._drop(peer)
                        return
                    self._hear(peer, header)
                    if peer.sock.fileno() < 0:
                        return
            self._flush(peer)
        except BlockingIOError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log(f"dropped a connection: {type(error).__name__}: {error}")
            self._drop(peer)

    def _receive(self, peer: Connection) -> tuple[bytes, list[int]]:
        """Read from a peer; one that has not said who it is may bring descriptors."""
        if peer.agent or not hasattr(socket, "recv_fds"):
            return peer.sock.recv(1 << 16), []
        data, fds, _, _ = socket.recv_fds(peer.sock, 1 << 16, 253, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
        return data, list(fds)

    def _hear(self, peer: Connection, header: dict[str, Any]) -> None:
        if peer.agent:
            self._obey(header)
            return
        if header.get("role") != "agent":
            raise ValueError("its first frame is not an agent's hello")
        if self.agent is not None:
            self._drop(self.agent)
        peer.agent = True
        self.agent = peer
        self.replay()

    def _drop(self, peer: Connection) -> None:
        if peer is self.agent:
            self.agent = None
            self._words.clear()
            self._gone()
        if peer.sock.fileno() >= 0:
            self._selector.unregister(peer.sock)
            peer.sock.close()

    def _flush(self, peer: Connection) -> None:
        """Send what the peer takes now, and watch for it to take more."""
        if peer.sock.fileno() < 0:
            return
        try:
            while peer.out or peer.todo:
                while peer.todo and len(peer.out) < _AHEAD:
                    peer.out += self._message(*peer.todo.popleft())
                if peer.out:
                    del peer.out[: peer.sock.send(peer.out)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(peer)
            return
        events = _WRITE if peer.out else 0
        if len(peer.todo) < _BEHIND:
            events |= _READ
        if events != peer.events:
            peer.events = events
            key = self._selector.get_key(peer.sock)
            self._selector.modify(peer.sock, events, key.data)

    def _message(self, mark: str, kind: str, replay: bool) -> bytes:
        if kind == "word":
            return frames.encode(self._words.popleft()) if self._words else b""
        if not mark:
            return frames.encode({"op": "replayed"})
        if kind == "withdrawn":
            return frames.encode({"op": kind, "mark": mark})
        said = self._marks.get(mark)
        if said is None or (kind == "end" and said["k"] == "started"):
            return b""
        return frames.encode(_as_message(said, kind, replay))


def _as_message(said: dict[str, object], kind: str, replay: bool) -> dict[str, object]:
    """Give the frame that tells what an entry of the journal says."""
    message: dict[str, object] = {"op": kind, "mark": said["mark"]}
    if replay:
        message["replay"] = True
    if kind == "started":
        message |= {"pid": said["pid"], "start_ticks": said["ticks"], "at": said["at"], "mono": said["mono"]}
        if said.get("main"):
            message["main"] = True
        return message
    message["op"] = said["k"]
    if said["k"] == "ended":
        message |= {key: said[key] for key in ("pid", "exit_code", "signal", "core", "known", "cpu", "peak_rss")}
        message |= {"at": said["ended_at"], "mono": said["ended_mono"], "start_ticks": said["ticks"]}
        message |= {"started_at": said["at"], "started_mono": said["mono"]}
        if "left" in said:
            message["left"] = said["left"]
    elif said["k"] == "failed":
        message |= {key: said[key] for key in ("errno", "error", "message", "what")}
    elif "pid" in said:
        # Lost to us, after it began: as an orphan it may have come to the agent.
        message |= {"pid": said["pid"], "start_ticks": said["ticks"]}
    return message


def _same_user(sock: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the directory is 0700
    size = struct.calcsize("3i")
    uid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1]
    return uid in (os.geteuid(), 0)
