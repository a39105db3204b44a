"""Nobody but the owner is answered by the agent, even where the file system would let them in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

Program = Any

#: Connects as the user of its second argument, asks as a client does, and says what came back.
_STRANGER = """
import os, socket, sys
path, uid, source = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sys.path.insert(0, source)
from vigie import frames
if uid:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(30)
sock.connect(path)
got = b""
try:
    sock.sendall(frames.encode({"vigie": frames.PROTOCOL, "role": "client", "version": "1"}))
    got = sock.recv(65536)
except (BrokenPipeError, ConnectionResetError):
    pass
print(len(got))
"""
_NOBODY = 65534


def ask(home: Any, uid: int) -> int:
    """Connect as a user and give how many bytes the agent answered."""
    import vigie

    source = str(Path(vigie.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", _STRANGER, home.socket, str(uid), source],
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a process of another user connects to the agent")
def test_another_user_gets_no_answer(vigie: Program, home: Any) -> None:
    job = vigie("start", "--", "true", check=True).stdout.strip()
    # The directory keeps strangers out; opened on purpose, the check of the peer must do it alone.
    for path, mode in ((home.top, 0o711), (home.root, 0o711), (home.socket, 0o666)):
        os.chmod(path, mode)
    assert ask(home, 0) > 0
    assert ask(home, _NOBODY) == 0
    assert "refused a connection of uid 65534" in Path(home.agent_log).read_text()
    # The owner is served on.
    assert vigie("wait", job, check=True).returncode == 0
    assert ask(home, 0) > 0
