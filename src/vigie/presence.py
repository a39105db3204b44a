"""Whether an agent runs, found without starting one and without a word to it."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from vigie.sockets import connect_unix

if TYPE_CHECKING:
    from vigie.config import Home

__all__ = ["agent_pid"]

_CREDENTIALS = struct.Struct("3i")


def agent_pid(home: Home) -> int | None:
    """Give the pid of the agent that listens for a home, None if there is none.

    The kernel says who listens, so a stale file or pid cannot mislead; 0 where
    it cannot say.

    >>> from vigie.config import Home
    >>> agent_pid(Home("/nonexistent")) is None
    True
    """
    try:
        with connect_unix(home.socket, timeout=1.0) as sock:
            if not hasattr(socket, "SO_PEERCRED"):
                return 0
            said = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            return int(_CREDENTIALS.unpack(said)[0])
    except TimeoutError:
        return 0
    except OSError:
        return None
