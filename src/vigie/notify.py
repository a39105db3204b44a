"""Telling the service manager that started us how we are (sd_notify)."""

from __future__ import annotations

import os
import socket

__all__ = ["Manager"]


class Manager:
    """The manager that waits for news of this process, if there is one.

    Its socket is taken out of the environment: what we start must not speak for us.

    >>> Manager({}).say("READY=1")
    False
    """

    def __init__(self, environ: "os._Environ[str] | dict[str, str] | None" = None) -> None:
        env = os.environ if environ is None else environ
        self._address = env.pop("NOTIFY_SOCKET", "")
        mine = env.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        period = env.pop("WATCHDOG_USEC", "")
        #: Seconds after which it has to hear of us again; None: it does not ask.
        self.watchdog = int(period) / 1e6 if mine and period.isdigit() and self._address else None

    def say(self, *lines: str) -> bool:
        """Tell it something; False if nobody listens."""
        if not self._address:
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
        return True
