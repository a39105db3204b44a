"""Unix sockets at short and long paths."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from vigie.sockets import bind_unix, connect_unix


@pytest.mark.parametrize("length", [4, 200, 600])
def test_a_path_of_any_length_carries_bytes(tmp_path: Path, length: int) -> None:
    directory = tmp_path
    while len(str(directory)) < length:
        directory = directory / ("d" * 40)
    directory.mkdir(parents=True, exist_ok=True)
    path = str(directory / "sock")
    old = os.umask(0)
    try:
        server = bind_unix(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with server, connect_unix(path, timeout=30) as client:
        peer, _ = server.accept()
        with peer:
            client.sendall(b"hello")
            assert peer.recv(5) == b"hello"


def test_a_stale_file_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    bind_unix(path).close()
    with pytest.raises(ConnectionRefusedError):
        connect_unix(path)
    with bind_unix(path), connect_unix(path):
        pass


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        connect_unix(str(tmp_path / "none"), timeout=1)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / ("x" * 150)).mkdir()
    path = str(tmp_path / ("x" * 150) / "s")
    before = set(os.listdir("/proc/self/fd"))
    with bind_unix(path), connect_unix(path, timeout=5):
        pass
    with pytest.raises(FileNotFoundError):
        connect_unix(path + "none")
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with bind_unix(path, backlog=0) as server:
        first = connect_unix(path, timeout=30)
        with pytest.raises(TimeoutError):
            connect_unix(path, timeout=0.01)
        got: list[bool] = []

        def second() -> None:
            with connect_unix(path, timeout=30):
                got.append(True)

        thread = threading.Thread(target=second)
        thread.start()
        accepted = [server.accept()[0], server.accept()[0]]
        thread.join(30)
        assert got == [True]
        for sock in (first, *accepted):
            sock.close()
