"""The two small files of a parallel run in the background: how far it is, and what it is told.

``map`` in the job's directory is the *board*: one JSON object, written by the run a few times a
second, over what stood there before, so that anybody may read it without asking. ``orders`` is a
list of JSON lines, which the agent appends to; the run reads it from its beginning,
so that an attempt that follows another knows what was said before.

Standard library only.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BOARD", "ORDERS", "RUNNERS", "Orders", "append_order", "read_board", "write_board"]

#: Their names in the job's directory.
BOARD, ORDERS = "map", "orders"
#: The functions that such jobs run: by them the agent knows one.
RUNNERS = ("vigie.parallel.background:run", "vigie.shellmap.background:run")
#: Bytes of the board: written in one go, blanks behind the object.
_SIZE = 4096


def write_board(directory: str, board: dict[str, Any]) -> None:
    """Write how far a run is; of its ``problems`` as many as there is room for.

    >>> import tempfile
    >>> where = tempfile.mkdtemp()
    >>> write_board(where, {"done": 3})
    >>> read_board(where)
    {'done': 3}
    """
    data = json.dumps(board, separators=(",", ":")).encode()
    while len(data) > _SIZE and board.get("problems"):
        board = {**board, "problems": board["problems"][:-1]}
        data = json.dumps(board, separators=(",", ":")).encode()
    os.makedirs(directory, mode=0o700, exist_ok=True)
    fd = os.open(os.path.join(directory, BOARD), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, data.ljust(_SIZE), 0)
    finally:
        os.close(fd)


def read_board(directory: str) -> dict[str, Any] | None:
    """Give how far a run is, or None if nobody has said so."""
    try:
        with open(os.path.join(directory, BOARD), "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def append_order(directory: str, order: dict[str, Any]) -> None:
    """Tell a run something, in one write."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    fd = os.open(os.path.join(directory, ORDERS), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(order, separators=(",", ":")).encode() + b"\n")
    finally:
        os.close(fd)


class Orders:
    """Reads what a run is told.

    >>> import tempfile
    >>> where = tempfile.mkdtemp()
    >>> orders = Orders(where)
    >>> orders.new()
    []
    >>> append_order(where, {"limit": 4})
    >>> orders.new(), orders.new()
    ([{'limit': 4}], [])
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, ORDERS)
        self._at = 0

    def new(self) -> list[dict[str, Any]]:
        """Give what was said since the last look."""
        try:
            if os.stat(self._path).st_size <= self._at:
                return []
            with open(self._path, "rb") as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
