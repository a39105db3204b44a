"""A client that asks for much and does not read: ``bad_client.py stopped|deaf SOCKET JOB``.

It says ``ready`` and waits for a line. One that is ``stopped`` then asks a hundred times for a large
result and stops itself; one that is ``deaf`` asks on and on, for as long as anybody takes its requests.
"""

from __future__ import annotations

import os
import signal
import sys

from vigie import frames
from vigie.sockets import connect_unix

ASKED = 100


def main() -> None:
    """Be one of the two."""
    how, path, job = sys.argv[1:]
    sock = connect_unix(path, 30)
    sock.sendall(frames.encode({"vigie": frames.PROTOCOL, "role": "client"}))
    sock.settimeout(None)
    large = {"op": "wait", "ids": [int(job)], "results": True}
    requests = b"".join(frames.encode({**large, "id": number}) for number in range(ASKED))
    print("ready", flush=True)
    sys.stdin.readline()
    sock.sendall(requests)
    if how == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        sock.sendall(requests)


if __name__ == "__main__":
    main()
