"""The storm: clients start jobs, and everything is killed at random moments.

Each round kills one kind: the agent, the keeper, a worker, a client, or all of them.
Some kills wait until everything was seen to work again, others fall into the recovery
from the one before. When the rounds are over, everything is let come to rest.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import vigie
from vigie import locks, procs
from vigie.client import Client
from vigie.errors import VigieError
from vigie.procs import Identity
from vigie.session import session
from vigie.torture.books import Evidence, Kill, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vigie.place import Place

__all__ = ["KINDS", "RATE", "WITHIN", "Outcome", "Storm", "torture"]

KINDS = ("agent", "keeper", "worker", "client", "all")
#: Jobs that the clients together start in a second.
RATE = 50.0
#: Seconds in which a restarted agent serves.
WITHIN = 2.0

_CLIENTS = 2
#: Slots of the queue: enough for the rate, whatever the machine's cores.
_SLOTS = 4
#: Seconds: the longest pause before a kill, for a victim to be there, for all to work
#: again, for the clients' first job, and without any job ending while all come to rest.
_PAUSE = 0.4
_APPEAR = 5.0
_RECOVERY = 30.0
_FIRST = 30.0
_STUCK = 60.0
_LOOK = 0.05
#: How many kills wait for recovery, of ten.
_PATIENT = 7


@dataclass
class Outcome:
    """What a storm came to.

    Attributes
    ----------
    verdict:
        What the books say.
    seed:
        Of its choices.
    seconds:
        How long all of it took.
    kills:
        Each kill.
    """

    verdict: Verdict
    seed: int
    seconds: float = 0.0
    kills: list[Kill] = field(default_factory=list)

    @property
    def killed(self) -> Counter[str]:
        """Kind -> how often it was killed."""
        return Counter(kill.kind for kill in self.kills)

    @property
    def served(self) -> list[float]:
        """Seconds in which each restarted agent answered."""
        return [kill.served for kill in self.kills if kill.served is not None]

    @property
    def median(self) -> float | None:
        """The median of ``served``."""
        return statistics.median(self.served) if self.served else None


class Storm:
    """Clients, and who kills.

    Parameters
    ----------
    place:
        Entered; its home is used by nobody else.
    seed:
        Of every choice, here and in the clients. The moments are the machine's own.
    rate:
        Jobs a second.
    clients:
        Processes that start them.
    kinds:
        Steps of the clients (``client.KINDS``); default: all.
    environment:
        More variables for the clients, and so for the agents that they start.
    """

    def __init__(
        self,
        place: Place,
        seed: int,
        *,
        rate: float = RATE,
        clients: int = _CLIENTS,
        kinds: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.place = place
        self.home = place.home
        self.seed = seed
        self.chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be guessed
        self.kills: list[Kill] = []
        self.troubles: list[str] = []
        self._rate = rate / clients
        self._many = clients
        self._kinds = ",".join(kinds)
        self._environment = {**os.environ, **(environment or {})}
        self._client = Client(self.home, program="vigie doctor")
        self._clients: list[subprocess.Popen[bytes]] = []
        self._well = False

    # --- clients --------------------------------------------------------------

    def begin(self) -> None:
        """Start the clients, and wait until a first job is acknowledged."""
        self._client.call("queue_set", name="default", slots=_SLOTS)
        for _ in range(self._many):
            self._start_client()
        notes = os.path.join(self.place.top, "notes")
        if not self._until(lambda: os.path.exists(notes) and os.path.getsize(notes) > 0, _FIRST):
            self.troubles.append(f"no job was acknowledged within {_FIRST:.0f} s: clients.log")

    def _start_client(self) -> None:
        seed = self.chance.randrange(1 << 30)
        words = [sys.executable, "-P", "-m", "vigie.torture.client", str(seed), self.place.top, str(self._rate)]
        words += [self._kinds] if self._kinds else []
        with open(os.path.join(self.place.top, "clients.log"), "ab") as log:
            self._clients.append(
                subprocess.Popen(
                    words, cwd=self.place.top, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            )

    def end_clients(self) -> None:
        """Kill the clients; what they were promised stays promised."""
        for client in self._clients:
            if client.poll() is not None:
                self.troubles.append(f"a client ended by itself with {client.returncode}: clients.log")
            client.kill()
            client.wait()
        self._clients.clear()

    # --- kills ----------------------------------------------------------------

    def deck(self, rounds: int) -> list[str]:
        """Give what to kill in each round: in a random order, each kind equally often."""
        kinds: list[str] = []
        while len(kinds) < rounds:
            kinds += self.chance.sample(KINDS, len(KINDS))
        return kinds[:rounds]

    def round(self, kind: str) -> None:
        """Wait for a random moment, kill, and usually wait until everything works again."""
        time.sleep(self.chance.uniform(0.0, _PAUSE))
        patient = self.chance.randrange(10) < _PATIENT
        everything = kind == "all"
        agents = self.victims("agent") if everything or kind == "agent" else []
        keepers = self.victims("keeper") if everything or kind == "keeper" else []
        workers = self.victims("worker") if everything or kind == "worker" else []
        if kind == "worker" and workers:
            workers = [self.chance.choice(workers)]
        victims = [identity for identity, _ in agents + keepers + workers]
        at, started = _now(), time.monotonic()
        for identity in self.chance.sample(victims, len(victims)):
            procs.send_signal(identity, signal.SIGKILL)
        if everything or kind == "client":
            self.replace_client()
        self.kills.append(
            Kill(
                kind,
                at,
                keeper=bool(keepers),
                workers=tuple(number for _, number in workers),
                alone=kind == "keeper" and self._well and patient,
                served=self._served(agents[0][0].pid, started) if agents else None,
            )
        )
        self._well = patient and self.works()

    def replace_client(self) -> None:
        """Kill a client, and start another."""
        victim = self._clients.pop(self.chance.randrange(len(self._clients)))
        victim.kill()
        victim.wait()
        self._start_client()

    def victims(self, kind: str) -> list[tuple[Identity, int]]:
        """Find the processes of a kind, waiting a while until there is one; with a worker's number."""
        found = self._until(lambda: self._living(kind), _APPEAR)
        if not found:
            self.troubles.append(f"no {kind} was there for {_APPEAR:.0f} s")
        return found or []

    def _living(self, kind: str) -> list[tuple[Identity, int]]:
        # By the lock: one that only competes for it does not serve, and between fork and exec
        # a child looks like its parent, though it is a job's by the time we signal.
        if kind == "agent":
            pid = locks.holder(self.home.lock)
        elif kind == "keeper":
            pid = self._keeper()
        else:
            return self._workers()
        ticks = procs.start_ticks(pid) if pid is not None else None
        return [(Identity(pid, ticks), 0)] if pid is not None and ticks is not None else []

    def _keeper(self) -> int | None:
        try:
            with open(self.home.keeper_lock, encoding="ascii") as file:
                pid = int(file.read())
        except (OSError, ValueError):
            return None
        return pid if self.place.kind(pid) == "keeper" else None

    def _workers(self) -> list[tuple[Identity, int]]:
        found = {one.pid: one for one in procs.scan() if not one.zombie and self.place.kind(one.pid) == "worker"}
        return [(one.identity, self.place.number(one.pid)) for one in found.values() if one.ppid not in found]

    def _served(self, old: int, since: float) -> float:
        """Give how many seconds after the kill another agent answers."""
        while True:
            try:
                if self._client.call("status")["pid"] != old:
                    break
            except VigieError as error:
                self.troubles.append(f"no agent after a kill: {error}")
                break
        return time.monotonic() - since

    def works(self) -> bool:
        """Tell whether a command goes all the way; if so, the kills before it are over."""
        try:
            probe = vigie.start(["true"], now=True).wait(_RECOVERY)
        except VigieError as error:
            self.troubles.append(f"nothing worked {_RECOVERY:.0f} s after a kill: {error}")
            return False
        if probe.state != "completed":
            self.troubles.append(f"job {probe.id}, which nothing disturbed, is {probe.state}")
        now = _now()
        self.kills = [kill if kill.until else kill._replace(until=now) for kill in self.kills]
        self._well = True
        return True

    # --- rest -----------------------------------------------------------------

    def settle(self) -> None:
        """Let everything come to its end: what a dead client left suspended goes on."""
        before, deadline = -1, 0.0
        while True:
            suspended = [job.id for job in vigie.jobs(state="suspended")]
            if suspended:
                self._client.call("resume", ids=suspended)
            left = len(suspended) + sum(self._client.call("status")["jobs"].values())
            if left != before:
                before, deadline = left, time.monotonic() + _STUCK
            if not left or time.monotonic() > deadline:
                break
            time.sleep(_LOOK)
        self.works()

    def left(self, seconds: float = _APPEAR) -> list[str]:
        """Name the processes that have no business any more, and have not gone after so many seconds."""
        self._until(lambda: not self._left(), seconds)
        return self._left()

    def _left(self) -> list[str]:
        employed = {worker["id"] for worker in self._client.call("status")["workers"]}
        found: dict[str | None, list[str]] = {}
        for one in self.place.processes():
            kind = self.place.kind(one.pid)
            if kind != "worker" or self.place.number(one.pid) not in employed:
                found.setdefault(kind, []).append(f"{kind or 'of a job'}: {one!r}")
        one_each = [said for kind in ("agent", "keeper") for said in found.get(kind, [])[1:]]
        return one_each + found.get("worker", []) + found.get(None, [])

    def verdict(self, within: float | None = WITHIN) -> Verdict:
        """Compare the books, after all has settled."""
        left = self.left()
        evidence = Evidence.read(self.place.top, self.home, self.kills)
        evidence.troubles += self.troubles
        return judge(evidence, left=left, within=within)

    def close(self) -> None:
        """End what is left of the storm itself."""
        for client in self._clients:
            client.kill()
            client.wait()
        self._clients.clear()
        self._client.close()
        session().client.close()

    @staticmethod
    def _until(ready: Callable[[], Any], seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            found = ready()
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.005)


def _now() -> int:
    return time.time_ns() // 1000


def torture(
    place: Place,
    rounds: int,
    seed: int,
    *,
    within: float | None = WITHIN,
    say: Callable[[int, str], None] = lambda done, doing: None,
) -> Outcome:
    """Kill so many times, let everything come to rest, and judge.

    Parameters
    ----------
    place:
        Entered; it is kept if a promise was broken.
    rounds:
        How many kills.
    seed:
        Of all choices.
    within:
        Seconds in which a restarted agent must serve; None: it does not matter.
    say:
        Called with the rounds done and what is being done.
    """
    started = time.monotonic()
    storm = Storm(place, seed)
    try:
        say(0, "clients start")
        storm.begin()
        storm.works()
        for done, kind in enumerate(storm.deck(rounds)):
            say(done, f"kill {kind}")
            storm.round(kind)
        say(rounds, "everything comes to rest")
        storm.end_clients()
        storm.settle()
        say(rounds, "the books are compared")
        verdict = storm.verdict(within)
        place.keep = not verdict.good
    except Exception:
        # Something does not answer: whoever looks for the reason needs the files.
        place.keep = True
        raise
    finally:
        storm.close()
    return Outcome(verdict, seed, time.monotonic() - started, storm.kills)
