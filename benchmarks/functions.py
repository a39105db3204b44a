"""Function jobs: submit, run, stored result; in batches, and one at a time."""

from __future__ import annotations

import subprocess
import tempfile
import time

import peers
from harness import HERE, Result, in_turn, scaled
from homes import own_home

#: Jobs of one round; the slower peers do fewer.
MANY = 20_000
BATCH = 1_000
HUEY_MANY = 5_000
CELERY_MANY = 2_000
ONE_BY_ONE = 300


class Ours:
    """A home of its own, with warm workers."""

    def __init__(self) -> None:
        import vigie
        import work
        from vigie.session import session

        self.work, self.vigie, self.client = work, vigie, session().client
        for job in vigie.start_many(work.double, [(i,) for i in range(scaled(200))]):
            job.wait(60)

    def batch(self) -> float:
        """Give jobs per second of submitting, running and storing them all."""
        many = scaled(MANY)
        began = time.perf_counter()
        jobs = []
        for first in range(0, many, BATCH):
            jobs += self.vigie.start_many(self.work.double, [(i,) for i in range(first, min(first + BATCH, many))])
        answer, _ = self.client.wait([job.id for job in jobs])
        took = time.perf_counter() - began
        assert set(answer["states"].values()) == {"completed"}
        for i in range(0, many, 997):
            assert jobs[i].result(10) == 2 * i
        return many / took

    def one(self) -> float:
        """Give the median milliseconds from a submit to its result."""
        times = []
        for i in range(scaled(ONE_BY_ONE)):
            began = time.perf_counter()
            assert self.vigie.start(self.work.double, i).result(10) == 2 * i
            times.append(time.perf_counter() - began)
        return sorted(times)[len(times) // 2] * 1000


class Huey:
    """huey on SQLite without fsync, two worker processes: its quickest set-up."""

    def __init__(self) -> None:
        self.python = peers.python(peers.HUEY)

    def _run(self, what: str, count: int) -> float:
        with tempfile.TemporaryDirectory(prefix="vigie-bench-") as directory:
            return run_peer([self.python, str(HERE / "peer_huey.py"), what, f"{directory}/huey.db", str(count)])

    def batch(self) -> float:
        """Give jobs per second."""
        return self._run("batch", scaled(HUEY_MANY))

    def one(self) -> float:
        """Give the median milliseconds from a submit to its result."""
        return self._run("one", scaled(ONE_BY_ONE))


class Celery:
    """Celery on a Redis of its own that writes nothing to disk, two prefork processes."""

    def __init__(self) -> None:
        self.python = peers.python(*peers.CELERY)
        self.redis = peers.program("redis-server", "redis-server")

    def batch(self) -> float:
        """Give jobs per second."""
        with tempfile.TemporaryDirectory(prefix="vigie-bench-") as directory:
            return run_peer(
                [self.python, str(HERE / "peer_celery.py"), self.redis, directory, str(scaled(CELERY_MANY))]
            )


def run_peer(command: list[str]) -> float:
    """Run a peer's program and give the figure that it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stderr}")
    return float(done.stdout)


def run(rounds: int) -> list[Result]:
    """Measure all of it."""
    huey, no_huey = peers.if_there(Huey)
    celery, no_celery = peers.if_there(Celery)
    with own_home():
        ours = Ours()
        batches = {"ours": ours.batch}
        ones = {"ours": ours.one}
        if huey:
            batches["huey"], ones["huey"] = huey.batch, huey.one
        if celery:
            batches["celery"] = celery.batch
        batch = dict(zip(batches, in_turn(list(batches.values()), rounds), strict=True))
        one = dict(zip(ones, in_turn(list(ones.values()), rounds), strict=True))
    title = f"{scaled(MANY):,} trivial functions in batches of {BATCH:,}: submit, run, stored result"
    on_sqlite, on_redis = f"huey, SQLite, no fsync{no_huey}", f"Celery, Redis{no_celery}"
    return [
        Result("functions-huey", title, "jobs/s", batch["ours"], on_sqlite, batch.get("huey", ())),
        Result("functions-celery", title, "jobs/s", batch["ours"], on_redis, batch.get("celery", ())),
        Result("function-one", "one function: submit to result", "ms", one["ours"], on_sqlite, one.get("huey", ())),
    ]
