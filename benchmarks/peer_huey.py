"""The peer's side: huey on SQLite with fsync=False and two consumer processes.

Run in the peers' environment: ``peer_huey.py batch|one DATABASE COUNT`` prints its
figure. The consumer runs in processes of its own, as huey's manual recommends for
work in Python; the queue is written before, or one job at a time.
"""

import subprocess
import sys
import time

from huey import SqliteHuey

huey = SqliteHuey(filename=sys.argv[2] if len(sys.argv) > 2 else "huey.db", fsync=False)


@huey.task()
def double(n):
    return 2 * n


def consumer(path):
    code = "import sys; sys.argv = ['x', 'x', %r]; sys.path.insert(0, %r); import peer_huey as p; " % (
        path,
        __file__.rpartition("/")[0],
    )
    code += "p.huey.create_consumer(workers=2, worker_type='process', initial_delay=0.001, max_delay=0.005, "
    code += "periodic=False, check_worker_health=False).run()"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    what, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    import peer_huey as module

    running = consumer(path)
    try:
        assert module.double(1)(blocking=True, timeout=20) == 2  # the consumer is up
        if what == "batch":
            began = time.perf_counter()
            results = [module.double(i) for i in range(count)]
            for i, result in enumerate(results):
                assert result(blocking=True, timeout=60, backoff=1.0, max_delay=0.01) == 2 * i
            print(count / (time.perf_counter() - began))
        else:
            times = []
            for i in range(count):
                began = time.perf_counter()
                assert module.double(i)(blocking=True, timeout=20, backoff=1.0, max_delay=0.0005) == 2 * i
                times.append(time.perf_counter() - began)
            print(sorted(times)[count // 2] * 1000)
    finally:
        running.terminate()
        running.wait()


if __name__ == "__main__":
    main()
