"""The agent's side of the keeper: start it, talk to it, never lose it.

The keeper is our child, so that its orphans come to us if it dies; after a
restart of the agent an older keeper is found alive and used as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from vigie import __version__, crash, frames
from vigie.config import Home
from vigie.sockets import connect_unix

__all__ = ["KeeperLink", "plain_environment"]

#: A connection that lasts for less than this (s) is not made anew at once.
BRIEF = 0.2

log = logging.getLogger("vigie.agent")

#: Variables of ours that reach our own processes; nothing else of the agent's does.
OURS = (
    "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "PATH", "XDG_RUNTIME_DIR", "XDG_STATE_HOME",
    "VIGIE_HOME", "VIGIE_CRASH_AT", "VIGIE_DEBUG",
)  # fmt: skip


def plain_environment() -> dict[str, str]:
    """Give the environment in which our own processes run."""
    return {key: os.environ[key] for key in OURS if key in os.environ}


class KeeperLink(asyncio.BufferedProtocol):
    """One connection after the other to the keeper of a home.

    Parameters
    ----------
    home:
        Whose keeper.
    heard:
        Called with each message of the keeper.
    lost:
        Called when the connection broke; the link is already making the next.
    """

    def __init__(self, home: Home, heard: Callable[[dict[str, Any]], None], lost: Callable[[], None]) -> None:
        self.home = home
        self.heard = heard
        self.lost = lost
        self.hello: dict[str, Any] = {}
        #: Connections that have come or gone: what was decided in one does not hold in the next.
        self.talks = 0
        self.child: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._decoder = frames.Decoder()
        self._arrived = bytearray(1 << 16)
        self._closing = False
        self._gathered: list[bytes] | None = None
        self._talk = 0
        self._met = -BRIEF
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect, starting a keeper if there is none; repeat until it answers."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._met < BRIEF:
            # It hung up at once: another agent serves it, or it cannot bear what it hears.
            await asyncio.sleep(BRIEF)
        self._met = loop.time()
        pause = 0.002
        while not self._closing:
            try:
                sock = connect_unix(self.home.keeper_socket, 5.0)
            except OSError:
                with contextlib.suppress(OSError):  # no descriptor or no disk left: the next try may have one
                    self._start()
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 0.1)
                continue
            sock.setblocking(False)
            self._decoder = frames.Decoder()
            await loop.create_unix_connection(lambda: self, sock=sock)
            self._met = loop.time()
            return

    def _start(self) -> None:
        if self.child is not None and self.child.poll() is None:
            return
        with open(self.home.keeper_log, "ab") as errors:
            self.child = subprocess.Popen(
                [sys.executable, "-P", "-m", "vigie.keeper", self.home.root],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                cwd="/",
                env=plain_environment(),
                start_new_session=True,
            )

    # --- asyncio's side -------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello; what could not be said before follows after the keeper's answer."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.talks += 1
        crash.point("agent-before-keeper-hello")
        self._write({"vigie": frames.PROTOCOL, "role": "agent", "version": __version__, "pid": os.getpid()})
        crash.point("agent-after-keeper-hello")

    def get_buffer(self, sizehint: int) -> bytearray:
        """Say where to put what has arrived."""
        return self._arrived

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has arrived."""
        self.data_received(memoryview(self._arrived)[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        """Pass every message on."""
        for header, _ in self._decoder.feed(data):
            if header.get("role") == "keeper":
                self.hello = header
            self.heard(header)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make a new connection, with a new keeper if need be."""
        self._transport = None
        self.talks += 1
        if not self._closing:
            log.warning("the keeper went away; starting another")
            self.lost()
            self._reconnect()

    def _reconnect(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self.connect())

    def _write(self, header: dict[str, Any]) -> None:
        if self._transport is not None:
            self._transport.write(frames.encode(header))

    def send(self, header: dict[str, Any]) -> None:
        """Say something; lost if the keeper is away (its replay tells what to repeat)."""
        if crash.ARMED:
            crash.point(f"agent-before-{header['op']}")
            self._write(header)
            crash.point(f"agent-after-{header['op']}")
        elif self._gathered is None:
            self._write(header)
        elif self._transport is not None:
            self._gathered.append(frames.encode(header))

    def gathering(self) -> KeeperLink:
        """Give the block at whose end what was said in it is sent, at once: each write wakes the keeper up."""
        return self

    def __enter__(self) -> None:
        self._talk = self.talks
        self._gathered = []

    def __exit__(self, *raised: object) -> None:
        said, self._gathered = self._gathered, None
        if said and self._transport is not None and self._talk == self.talks:
            self._transport.write(b"".join(said))

    @property
    def connected(self) -> bool:
        """Tell whether the keeper is there."""
        return self._transport is not None

    def close(self) -> None:
        """Leave the keeper alone with its children."""
        self._closing = True
        if self.child is not None:
            self.child.returncode = 0  # it lives on, on purpose
        if self._transport is not None:
            self._transport.close()
