"""Sockets between simulated processes, and the agent's event loop on the simulated clock."""

from __future__ import annotations

import asyncio
import heapq
import os
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from simulation.kernel import Kernel


class End:
    """One end of a connection; also what a socket object is to those who use one."""

    _numbers = 100

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.peer: End
        self.inbox: deque[bytes] = deque()
        self.open = True
        self.eof = False
        End._numbers += 1
        self._fd = End._numbers

    @property
    def readable(self) -> bool:
        return self.open and bool(self.inbox or self.eof)

    def close(self) -> None:
        if self.open:
            self.open = False
            self.inbox.clear()
            self.peer.eof = True

    # --- as a socket ----------------------------------------------------------

    def fileno(self) -> int:
        return self._fd if self.open else -1

    def send(self, data: bytes) -> int:
        if not self.open or not self.peer.open:
            raise BrokenPipeError
        data = bytes(data)
        me = self.kernel.me
        if me is not None and me.fuse == 1 and len(data) > 1:
            # It dies in the middle of it.
            self.peer.inbox.append(data[: len(data) // 2])
        self.kernel.pulse("send")
        self.peer.inbox.append(data)
        self.kernel.pulse("sent")
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.send(data)

    def recv(self, most: int, flags: int = 0) -> bytes:
        if self.inbox:
            return self.inbox.popleft()
        if self.eof:
            return b""
        raise BlockingIOError

    def recvmsg(self, most: int, room: int = 0, flags: int = 0) -> tuple[bytes, list[Any], int, None]:
        """Read as with ancillary data, of which there is none."""
        return self.recv(most), [], 0, None

    def setblocking(self, flag: bool) -> None:
        return

    def getsockopt(self, *_: int) -> bytes:
        return struct.pack("3i", 7, os.geteuid(), 0)


def connection(kernel: Kernel) -> tuple[End, End]:
    """Make both ends of a connection."""
    one, other = End(kernel), End(kernel)
    one.peer, other.peer = other, one
    return one, other


class Transport(asyncio.Transport):
    """What asyncio gives a protocol, over an end."""

    def __init__(self, end: End, loop: Loop, protocol: Any) -> None:
        super().__init__({"socket": end})
        self.end = end
        self.loop = loop
        self.protocol = protocol
        self._closing = False

    def write(self, data: Any) -> None:
        if not self._closing:
            try:
                self.end.send(data)
            except BrokenPipeError:
                return  # as the kernel's buffer would have taken it; the end shows by itself

    def is_closing(self) -> bool:
        return self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.loop.call_soon(self.lost)

    abort = close

    def lost(self) -> None:
        self._closing = True
        if self.end.open or self in self.loop.transports:
            self.end.close()
            if self in self.loop.transports:
                self.loop.transports.remove(self)
                self.protocol.connection_lost(None)

    def receive(self) -> None:
        """Hand the next bytes, or the end, to the protocol."""
        if not self.end.readable:
            return
        data = self.end.recv(1 << 20)
        if data:
            self.protocol.data_received(data)
        else:
            self.lost()


class Handle:
    """Something to call, at an instant perhaps."""

    def __init__(self, when: float, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._when = when
        self.call = call
        self.args = args
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when


class Loop:
    """As much of an event loop as the agent uses."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.soon: deque[Handle] = deque()
        self.timers: list[tuple[float, int, Handle]] = []
        self.readers: dict[int, Callable[[], None]] = {}
        self.transports: list[Transport] = []
        self._count = 0

    def time(self) -> float:
        return self.kernel.mono_us / 1e6

    def call_soon(self, call: Callable[..., Any], *args: Any) -> Handle:
        handle = Handle(0.0, call, args)
        self.soon.append(handle)
        return handle

    def call_later(self, delay: float, call: Callable[..., Any], *args: Any) -> Handle:
        return self.call_at(self.time() + delay, call, *args)

    def call_at(self, when: float, call: Callable[..., Any], *args: Any) -> Handle:
        handle = Handle(when, call, args)
        self._count += 1
        heapq.heappush(self.timers, (when, self._count, handle))
        return handle

    def add_reader(self, fd: int, call: Callable[[], None]) -> None:
        self.readers[fd] = call

    def remove_reader(self, fd: int) -> None:
        self.readers.pop(fd, None)

    # --- the simulation's side ------------------------------------------------

    def attach(self, end: End, protocol: Any) -> Transport:
        """Connect a protocol to an end."""
        transport = Transport(end, self, protocol)
        self.transports.append(transport)
        protocol.connection_made(transport)
        return transport

    def next_timer(self) -> float | None:
        """Give when the next alarm rings."""
        while self.timers and self.timers[0][2].cancelled():
            heapq.heappop(self.timers)
        return self.timers[0][0] if self.timers else None

    def ring(self) -> bool:
        """Have what is due called soon."""
        rang = False
        while (when := self.next_timer()) is not None and when <= self.time():
            self.soon.append(heapq.heappop(self.timers)[2])
            rang = True
        return rang

    def turn(self) -> None:
        """Call what is to be called now."""
        for _ in range(len(self.soon)):
            handle = self.soon.popleft()
            if not handle.cancelled():
                handle.call(*handle.args)


class Selector:
    """As much of a selector as the keeper uses."""

    class Key:
        def __init__(self, fileobj: Any, data: Callable[[int], None]) -> None:
            self.fileobj = fileobj
            self.data = data

    def __init__(self) -> None:
        self.keys: dict[int, Selector.Key] = {}

    @staticmethod
    def _number(fileobj: Any) -> int:
        return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())

    def register(self, fileobj: Any, events: int, data: Callable[[int], None]) -> None:
        self.keys[self._number(fileobj)] = Selector.Key(fileobj, data)

    def unregister(self, fileobj: Any) -> None:
        del self.keys[self._number(fileobj)]

    def get_key(self, fileobj: Any) -> Selector.Key:
        return self.keys[self._number(fileobj)]

    def modify(self, fileobj: Any, events: int, data: Callable[[int], None]) -> None:
        self.keys[self._number(fileobj)].data = data
