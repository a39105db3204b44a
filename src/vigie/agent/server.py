"""The duty of listening: clients ask, workers report.

Requests that write go through the writer, and a repeat with the same request id
gets the answer of the first time. ``wait`` and ``stop`` are answered when it is
time; a client that is slow to read costs only its own connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from vigie import __version__, crash, frames
from vigie.agent.core import Who
from vigie.agent.writer import Repeated
from vigie.errors import UsageError, VigieError
from vigie.lifecycle import Refusal

if TYPE_CHECKING:
    from vigie.agent.main import Agent

__all__ = ["Peer", "peer_uid"]

log = logging.getLogger("vigie.agent")

#: A client with this much (bytes) unread is told and asked nothing more until it has read.
ENOUGH = 1 << 20
#: A peer that lets this much pile up all the same, such as a worker that hangs, is cut off.
UNREAD = 256 << 20


def peer_uid(sock: socket.socket) -> tuple[int | None, int | None]:
    """Give (uid, pid) of the other side of a unix socket."""
    if hasattr(socket, "SO_PEERCRED"):
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return uid, pid
    if hasattr(sock, "getpeereid"):
        return sock.getpeereid()[0], None
    return None, None


#: What a frame that is none of ours leads to.
_BROKEN = (frames.FrameError, LookupError, TypeError, ValueError)


#: Where bytes arrive, for all peers: whoever is given some takes them out at once.
_ARRIVED = bytearray(1 << 16)


class Peer(asyncio.BufferedProtocol):
    """One connection, of a client or of a worker."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.transport: asyncio.Transport
        self.worker: int | None = None
        self.who = Who()
        self._decoder = frames.Decoder()
        self._greeted = False
        #: It does not read; what it is to be told waits in ``held``, as what it asked behind that.
        self.behind = False
        self.held: deque[Callable[[], None]] = deque()

    # --- asyncio's side -------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let nobody in but the owner."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=ENOUGH)
        uid, pid = peer_uid(transport.get_extra_info("socket"))
        if uid is not None and uid != os.geteuid():
            log.warning("refused a connection of uid %s (pid %s)", uid, pid)
            transport.abort()
            return
        self.who = Who(uid=uid, pid=pid)
        self.agent.peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the peer; a worker finishes what it runs and comes back."""
        self.agent.peers.discard(self)
        self.held.clear()
        self.agent.waits.forget(self)
        self.agent.services.waits.forget(self)
        if self.worker is not None:
            self.agent.staff.detached(self.worker, self)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Say where to put what has arrived."""
        return _ARRIVED

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has arrived."""
        self.data_received(memoryview(_ARRIVED)[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        """Take each whole frame."""
        try:
            for header, blobs in self._decoder.feed(data):
                if self.behind and self.worker is None:
                    self.held.append(partial(self._take, header, blobs))
                else:
                    self._frame(header, blobs)
        except _BROKEN as error:
            self._refuse(error)

    def _take(self, header: dict[str, Any], blobs: list[bytes]) -> None:
        try:
            self._frame(header, blobs)
        except _BROKEN as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        log.warning("a peer broke the protocol: %s: %s", type(error).__name__, error)
        self.transport.abort()

    def pause_writing(self) -> None:
        """Hear no more requests from a client that does not read: its answers would fill our memory."""
        self.behind = True
        if self.worker is None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on with a client that has read."""
        self.behind = False
        while self.held and not self.behind and not self.transport.is_closing():
            self.held.popleft()()
        if not self.behind and not self.transport.is_closing():
            self.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send bytes, unless the peer has gone; cut it off if it leaves far too many unread."""
        transport = self.transport
        if transport.is_closing():
            return
        transport.write(data)
        if self.behind and transport.get_write_buffer_size() - len(data) > UNREAD:
            log.warning("cut off pid %s, which does not read its answers", self.who.pid)
            transport.abort()

    # --- frames ---------------------------------------------------------------

    def _frame(self, header: dict[str, Any], blobs: list[bytes]) -> None:
        if not self._greeted:
            self._greet(header)
        elif self.worker is not None:
            self.agent.staff.heard(self.worker, header, blobs)
        else:
            self._request(header, blobs)

    def _greet(self, header: dict[str, Any]) -> None:
        if "vigie" not in header:
            raise frames.FrameError("the first frame is no hello")
        self._greeted = True
        hello = {"vigie": frames.PROTOCOL, "role": "agent", "version": __version__, "pid": os.getpid()}
        crash.point("agent-before-greeting")
        self.write(frames.encode(hello))
        crash.point("agent-after-greeting")
        if header.get("role") == "worker":
            self.worker = int(header["worker"])
            self.agent.staff.attached(self.worker, self, header)
        else:
            self.who = Who(self.who.uid, self.who.pid, header.get("program"), header.get("terminal"))

    def _request(self, header: dict[str, Any], blobs: list[bytes]) -> None:
        number = header.get("id")
        op = header.get("op")
        answer = _Answer(self, number)
        direct = _DIRECT.get(str(op))
        work = self.agent.writes.get(str(op))
        if direct is not None:
            try:
                direct(self, header, answer)
            except VigieError as error:
                answer(None, error)
        elif work is not None:
            self._write_request(str(op), work, header, blobs, answer)
        else:
            answer(None, UsageError(f"this agent ({__version__}) does not know {op!r}", "vigie agent restart"))

    def _write_request(
        self, op: str, work: Callable[..., Any], header: dict[str, Any], blobs: list[bytes], answer: _Answer
    ) -> None:
        rid = bytes.fromhex(header["rid"]) if header.get("rid") else None

        def done(text: str, error: VigieError | None) -> None:
            # How a submit stands, a program asks when it wants to know, and most do not.
            finish = None if op == "submit" and not header.get("tell") else _AFTER.get(op)
            if error is not None:
                answer(None, error)
            elif finish is None:
                answer.text(text)
            else:
                try:
                    finish(self, header, json.loads(text), answer)
                except Exception as trouble:
                    log.exception("an answer failed inside the agent")
                    answer(None, VigieError(f"it is done, and the agent cannot tell more: {trouble}"))

        rows = int(header.get("count", 1))
        self.agent.writer.post(self._once, rid, work, header, blobs, answer=done, rows=rows)

    def _once(self, rid: bytes | None, work: Callable[..., Any], header: dict[str, Any], blobs: list[bytes]) -> str:
        """Do what was asked and give the answer as JSON; if it was done before, the answer of that time.

        Whether it was is seen when the answer is kept: repeats are rare.
        """
        store = self.agent.store
        try:
            text: str = frames.dumps(work(header, blobs, self.who))
        except (VigieError, Refusal):
            # Perhaps it was done before, and cannot be done twice.
            before = None if rid is None else store.remembered(rid)
            if before is None:
                raise
            raise Repeated(before) from None
        if rid is not None and not store.remember(rid, self.agent.clock.wall(), text):
            raise Repeated(store.remembered(rid))
        return text

    # --- answers that need a look, or time ------------------------------------

    def _submitted(self, header: dict[str, Any], value: dict[str, Any], answer: _Answer) -> None:
        ids = value["ids"]
        states = [self.agent.state_of(ids[0])]
        waits = self.agent.why_waits(ids[0]) if states == ["queued"] else None
        answer({**value, "states": states, "waits": waits}, None)

    def _stopping(self, header: dict[str, Any], value: dict[str, Any], answer: _Answer) -> None:
        ids = [int(job) for job in header["ids"]]
        if header.get("grace") == 0:
            self.agent.hurry(ids)
        self.agent.waits.until_gone(self, ids, value.get("ended", ()), answer)

    def _wait(self, header: dict[str, Any], answer: _Answer) -> None:
        timeout = header.get("timeout")
        ids = [int(job) for job in header["ids"]]
        self.agent.waits.until_ended(self, ids, bool(header.get("any")), timeout, bool(header.get("results")), answer)

    def _service_wait(self, header: dict[str, Any], answer: _Answer) -> None:
        names, until = [str(name) for name in header["names"]], str(header.get("until", "settled"))
        self.agent.services.waits.wait(self, names, until, header.get("timeout"), answer)

    def _status(self, header: dict[str, Any], answer: _Answer) -> None:
        answer(self.agent.status(), None)

    def _backup(self, header: dict[str, Any], answer: _Answer) -> None:
        path, size = self.agent.upkeep.backup(header.get("path"))
        answer({"path": path, "size": size}, None)

    def _shutdown(self, header: dict[str, Any], answer: _Answer) -> None:
        answer({}, None)
        self.agent.stop()


class _Answer:
    """Answers one request."""

    def __init__(self, peer: Peer, number: Any) -> None:
        self.peer = peer
        self.number = number

    def __call__(self, value: Any, error: VigieError | None, blobs: list[bytes] | None = None) -> None:
        if error is not None:
            self._write(frames.encode({"re": self.number, "error": error.to_wire()}))
        else:
            self._write(frames.encode({"re": self.number, **(value or {})}, blobs or ()))

    def text(self, value: str) -> None:
        """Answer with an object that is JSON already."""
        number = self.number if type(self.number) is int else frames.dumps(self.number)
        text = f'{{"re":{number}}}' if value == "{}" else f'{{"re":{number},{value[1:]}'
        self._write(frames.assemble(text.encode()))

    def _write(self, frame: bytes) -> None:
        crash.point("agent-before-answer")
        self.peer.write(frame)
        crash.point("agent-after-answer")


_DIRECT: dict[str, Callable[[Peer, dict[str, Any], _Answer], None]] = {
    "wait": Peer._wait,
    "service_wait": Peer._service_wait,
    "status": Peer._status,
    "backup": Peer._backup,
    "shutdown": Peer._shutdown,
}
_AFTER: dict[str, Callable[[Peer, dict[str, Any], Any, _Answer], None]] = {
    "submit": Peer._submitted,
    "stop": Peer._stopping,
}
