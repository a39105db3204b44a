"""The peer's side: Celery on Redis with two prefork processes.

Run in the peers' environment: ``peer_celery.py REDIS-SERVER DIRECTORY COUNT`` prints
jobs a second. Redis is one of its own, reached over a unix socket, that writes nothing
to disk; what costs time and gives the bench nothing (gossip, heartbeats, events) is off.
"""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import time

from celery import Celery, group

SOCKET = os.environ.get("PEER_REDIS", "")
app = Celery("peer_celery", broker=f"redis+socket://{SOCKET}", backend=f"redis+socket://{SOCKET}")
app.conf.update(
    accept_content=["json"],
    task_serializer="json",
    result_serializer="json",
    worker_prefetch_multiplier=256,
    worker_send_task_events=False,
    task_send_sent_event=False,
    broker_connection_retry_on_startup=False,
)


@app.task(name="double")
def double(n: int) -> int:
    return 2 * n


def redis(program: str, directory: str, path: str) -> subprocess.Popen[bytes]:
    """Start a Redis and wait until it accepts."""
    server = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", directory],
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 10
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(path)
            return server
        except OSError:
            if time.monotonic() > deadline or server.poll() is not None:
                server.kill()
                raise
            time.sleep(0.01)


def worker(path: str) -> subprocess.Popen[bytes]:
    """Start the worker."""
    words = ["-m", "celery", "-A", "peer_celery", "worker", "-P", "prefork", "-c", "2", "-l", "CRITICAL"]
    words += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=os.path.dirname(os.path.abspath(__file__)),
        env={**os.environ, "PEER_REDIS": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def measure(count: int) -> float:
    """Give jobs a second, from the first submit to the last result."""
    import peer_celery as module

    assert module.double.delay(1).get(timeout=60) == 2  # the worker is up
    began = time.perf_counter()
    # One group for all: submits three times quicker than one by one.
    results = group(module.double.s(i) for i in range(count)).apply_async()
    values = results.join(timeout=120)
    took = time.perf_counter() - began
    assert values == [2 * i for i in range(count)]
    del results
    gc.collect()  # each result unsubscribes when it is forgotten, which needs Redis
    return count / took


def main() -> None:
    program, directory, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    path = os.path.join(directory, "redis.sock")
    os.environ["PEER_REDIS"] = path
    server = redis(program, directory, path)
    try:
        running = worker(path)
        try:
            print(measure(count))
        finally:
            running.terminate()
            running.wait()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
