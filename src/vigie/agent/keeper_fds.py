"""Copies of the services' listening sockets: while the keeper is gone, connections wait in them all the same."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from typing import Any

from vigie import __version__, frames
from vigie.config import Home
from vigie.sockets import connect_unix

__all__ = ["Copies"]

log = logging.getLogger("vigie.agent")

#: Seconds for the keeper to hand them over: it answers at once, or it is about to die.
PATIENCE = 2.0


class Copies:
    """What the agent holds for the case that the keeper dies."""

    def __init__(self, home: Home) -> None:
        self.home = home
        #: key → (what was asked for, descriptors).
        self._held: dict[str, tuple[list[dict[str, Any]], list[int]]] = {}

    def _hello(self, **more: Any) -> bytes:
        return frames.encode({"vigie": frames.PROTOCOL, "role": "fds", "version": __version__, **more})

    def fetch(self) -> None:
        """Take copies of what the keeper has open now."""
        try:
            with connect_unix(self.home.keeper_socket, PATIENCE) as sock:
                sock.sendall(self._hello(want=True))
                fresh = self._receive(sock)
        except (OSError, ValueError, frames.FrameError) as error:
            log.warning("no copies of the listening sockets: %s", error)
            return
        self.drop()
        self._held = fresh

    def _receive(self, sock: socket.socket) -> dict[str, tuple[list[dict[str, Any]], list[int]]]:
        decoder, fresh = frames.Decoder(), dict[str, tuple[list[dict[str, Any]], list[int]]]()
        waiting: list[int] = []
        while True:
            data, fds, _, _ = socket.recv_fds(sock, 1 << 16, 253, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
            if not data:
                return fresh
            waiting += fds
            for header, _ in decoder.feed(data):
                if header.get("role") == "keeper":
                    continue
                if header.get("key") is None:
                    return fresh
                count = len(header["sockets"])
                fresh[header["key"]] = (header["sockets"], waiting[:count])
                del waiting[:count]

    def give(self) -> None:
        """Give them to a keeper that has none yet."""
        for key, (specs, fds) in self._held.items():
            try:
                with connect_unix(self.home.keeper_socket, PATIENCE) as sock:
                    socket.send_fds(sock, [self._hello(key=key, sockets=specs)], fds)
                    # It has taken them when it hangs up.
                    while sock.recv(1 << 16):
                        pass
            except OSError as error:
                log.warning("%s loses its sockets: %s", key, error)

    def forget(self, key: str) -> None:
        """Close the copies of one service."""
        for fd in self._held.pop(key, ([], []))[1]:
            with contextlib.suppress(OSError):
                os.close(fd)

    def drop(self) -> None:
        """Close all of them."""
        for key in list(self._held):
            self.forget(key)
