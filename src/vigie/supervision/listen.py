"""Addresses of sockets that are opened for a service: ``tcp://127.0.0.1:8000``, ``unix:///run/x.sock``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from vigie.errors import UsageError
from vigie.supervision.plan import Listen

__all__ = ["parse_listen", "parse_port", "shown"]

_HINT = "tcp://127.0.0.1:8000, tcp://[::1]:8000, udp://0.0.0.0:53, or unix:///run/web.sock"


def parse_listen(value: Any) -> tuple[Listen, ...]:
    """Read what a service listens on: an address, a table, or a list of these.

    Raises
    ------
    UsageError
        When an address cannot be understood.

    >>> parse_listen("tcp://127.0.0.1:8000")[0].address
    ['127.0.0.1', 8000]
    """
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    found = [_one(item, at) for at, item in enumerate(items)]
    addresses = [(each.kind, str(each.address)) for each in found]
    for at, address in enumerate(addresses):
        if address in addresses[:at]:
            raise UsageError(f"listen: {shown(found[at])} stands there twice")
    return tuple(found)


def shown(one: Listen) -> str:
    """Give an address as it is written.

    >>> shown(Listen("tcp", ["::1", 80], "web"))
    'tcp://[::1]:80'
    """
    if one.kind == "unix":
        return f"unix://{one.address}"
    host, port = one.address
    return f"{one.kind}://[{host}]:{port}" if ":" in host else f"{one.kind}://{host}:{port}"


def _one(item: Any, at: int) -> Listen:
    given = dict(item) if isinstance(item, Mapping) else {"address": item}
    unknown = set(given) - {"address", "name", "mode", "backlog"}
    if unknown or "address" not in given:
        raise UsageError(f"listen: {item!r} is no socket", "address, name, mode, backlog")
    text = str(given["address"])
    kind, sign, rest = text.partition("://")
    if not sign or kind not in ("tcp", "udp", "unix"):
        raise UsageError(f"listen: {text!r} is no address", _HINT)
    name = str(given.get("name", f"{kind}{at}" if at else kind))
    if not name.isprintable() or ":" in name or not 0 < len(name) < 256:
        raise UsageError(f"listen: {name!r} cannot be the name of a socket", "letters and digits")
    backlog = given.get("backlog", 4096)
    if not isinstance(backlog, int) or backlog < 1:
        raise UsageError(f"listen: backlog is {backlog!r}: a whole number above zero")
    address: Any = _path(rest) if kind == "unix" else _place(rest, text)
    return Listen(kind, address, name, _mode(given.get("mode", "600")), backlog)


def _mode(value: Any) -> int:
    try:
        return int(str(value), 8) & 0o777
    except ValueError:
        raise UsageError(f"listen: {value!r} is no mode", 'mode = "660"') from None


def _path(text: str) -> str:
    if not os.path.isabs(text):
        raise UsageError(f"listen: {text!r} is no absolute path", "unix:///run/web.sock")
    if len(os.fsencode(text)) > 107:
        raise UsageError(f"listen: {text} is too long for a socket", "107 bytes are the most")
    return text


def _place(rest: str, text: str) -> list[Any]:
    host, colon, port = rest.rpartition(":")
    if not colon or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise UsageError(f"listen: {text!r} has no port", _HINT)
    if not host.strip("[]"):
        raise UsageError(f"listen: {text!r} has no host", "127.0.0.1 for this machine alone, [::] for all")
    return [host.strip("[]"), parse_port(port, "listen")]


def parse_port(text: str, key: str) -> int:
    """Read a port.

    Raises
    ------
    UsageError
        When it is none.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16):
        raise UsageError(f"{key}: {text!r} is no port", "1 to 65535")
    return int(text)
