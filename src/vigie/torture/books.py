"""The judge of the torture: three books that know nothing of each other must agree.

* ``notes``: what the clients were promised, synced at once.
* ``witness``: what ran, one line an attempt.
* the store: what Vigie says became of it.

A fourth, ``kills``, says what was killed and when, for an end may differ from what the
job would have done only where that explains it. Judging is reading: it can be repeated
on a directory that was kept.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from vigie.agent.marks import Marks
from vigie.model import FINISHED
from vigie.store.readonly import ReadOnly

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vigie.config import Home

__all__ = ["RULES", "Evidence", "Kill", "Verdict", "judge"]

#: What must not happen, in the order in which it is told.
RULES = {
    "vanished": "acknowledged, and neither run nor lost",
    "unended": "never came to rest",
    "lost": "lost, though keeper and worker lived",
    "twice": "attempts started twice",
    "unrecorded": "attempts that ran unrecorded",
    "invented": "exit codes invented",
    "held": "slots and keys still held at rest",
    "left": "processes left over",
    "slow": "agents that served too late",
    "trouble": "errors in the logs, clients that gave up",
}
#: How a function's end shows: state, reason, exit code.
_ENDS: dict[str, tuple[str, str | None, int | None]] = {
    "return": ("completed", None, None),
    "child": ("completed", None, None),
    "raise": ("failed", "exception", None),
    "exit": ("failed", "exit", 3),
    "_exit": ("failed", "exit", 4),
    "missing": ("failed", "spawn", None),
}
_SIGKILL = 9


class Kill(NamedTuple):
    """What was killed at once.

    Attributes
    ----------
    kind:
        ``agent``, ``keeper``, ``worker``, ``client`` or ``all``.
    at, until:
        Instants (µs UTC): before the first signal, and when all was seen to work again
        (0: not waited for).
    keeper:
        Whether the keeper was among them.
    workers:
        The numbers of the workers among them.
    alone:
        Everything worked before, and nothing but the keeper was killed until it did again.
    served:
        Seconds until an agent answered again; None if none was killed.
    """

    kind: str
    at: int
    until: int = 0
    keeper: bool = False
    workers: tuple[int, ...] = ()
    alone: bool = False
    served: float | None = None


@dataclass
class Evidence:
    """The books, read.

    Attributes
    ----------
    promised:
        Job's number -> what its client noted.
    again:
        Numbers that were given to two jobs.
    stopped:
        Jobs that were told to stop.
    ran:
        Mark -> how many lines it has.
    tokens:
        Token -> the marks under which it ran.
    jobs:
        Number -> state, reason, exit_code, signal.
    attempts:
        Mark -> state, reason, exit_code, signal, worker, created, finished.
    kills:
        What was killed.
    troubles:
        Lines of the logs that should not be there, and more that went wrong.
    held:
        Keys and attempts that the store holds as taken.
    """

    promised: dict[int, dict[str, Any]] = field(default_factory=dict)
    again: list[int] = field(default_factory=list)
    stopped: set[int] = field(default_factory=set)
    ran: Counter[str] = field(default_factory=Counter)
    tokens: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    jobs: dict[int, dict[str, Any]] = field(default_factory=dict)
    attempts: dict[str, dict[str, Any]] = field(default_factory=dict)
    of_job: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    kills: list[Kill] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, directory: str, home: Home, kills: Iterable[Kill] = ()) -> Evidence:
        """Read what lies in a directory, and the store of its home."""
        self = cls(kills=list(kills))
        for line in _lines(os.path.join(directory, "notes")):
            self._note(line)
        for line in _lines(os.path.join(directory, "witness")):
            mark, _, token = line.partition(" ")
            self.ran[mark] += 1
            self.tokens[token].add(mark)
        self._read_store(home)
        for path in (home.agent_log, home.keeper_log):
            name = os.path.relpath(path, home.root)
            self.troubles += [f"{name}: {line}" for line in _lines(path) if line.startswith("Traceback")]
        return self

    def _note(self, line: str) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return  # its client was killed in the middle of it: never acknowledged further on
        if "stop" in said:
            self.stopped.add(said["stop"])
        elif said["job"] in self.promised:
            self.again.append(said["job"])
        else:
            self.promised[said["job"]] = said

    def _read_store(self, home: Home) -> None:
        marks = Marks(home.root)
        store = ReadOnly(home.db)
        try:
            for row in store.rows("SELECT id, state, reason, exit_code, signal FROM jobs", {}):
                self.jobs[row["id"]] = row
            for row in store.rows(
                "SELECT job, n, state, reason, exit_code, signal, worker, created, finished FROM attempts", {}
            ):
                self.attempts[marks.of(row["job"], row["n"])] = row
                self.of_job[row["job"]].append(row)
            keys = store.rows("SELECT job, key FROM job_keys WHERE held = 1", {})
            self.held = [f"key {row['key']} by job {row['job']}" for row in keys]
            self.held += [
                f"attempt {mark} is {row['state']}"
                for mark, row in self.attempts.items()
                if row["state"] in ("assigned", "running")
            ]
        finally:
            store.close()


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            yield from (line.rstrip("\n") for line in file)
    except FileNotFoundError:
        return


@dataclass
class Verdict:
    """What was found.

    Attributes
    ----------
    broken:
        Rule -> one line for each time that it was broken.
    acknowledged, attempts:
        Jobs that clients were promised, and attempts that ran.
    ends:
        State -> how many of the acknowledged jobs have it.
    by_kill:
        Functions that ended with their worker, which was killed.
    """

    broken: dict[str, list[str]]
    acknowledged: int = 0
    attempts: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    by_kill: int = 0

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not any(self.broken.values())


def judge(evidence: Evidence, *, left: Iterable[str] = (), within: float | None = None) -> Verdict:
    """Compare the books.

    Parameters
    ----------
    evidence:
        Read after everything has come to rest.
    left:
        Processes that should not be there, in words.
    within:
        Seconds that a restarted agent may take to serve; None: any.
    """
    broken: dict[str, list[str]] = {rule: [] for rule in RULES}
    broken["left"] += left
    broken["held"] += evidence.held
    broken["trouble"] += evidence.troubles
    _judge_marks(evidence, broken)
    for job, said in evidence.promised.items():
        found = _judge_job(evidence, job, said)
        if found is not None:
            broken[found[0]].append(f"job {job} ({_told(said)}): {found[1]}")
    broken["vanished"] += [f"job {job} was acknowledged to two submits" for job in evidence.again]
    broken["lost"] += _too_many_lost(evidence)
    if within is not None:
        late = (kill for kill in evidence.kills if kill.served is not None and kill.served > within)
        broken["slow"] += [f"{kill.served:.2f} s after the kill of {kill.kind}" for kill in late]
    known = [evidence.jobs[job] for job in evidence.promised if job in evidence.jobs]
    return Verdict(
        broken,
        acknowledged=len(evidence.promised),
        attempts=len(evidence.ran),
        ends=dict(Counter(row["state"] for row in known)),
        by_kill=sum(_killed_with_worker(evidence, row) for row in evidence.attempts.values()),
    )


def _told(said: dict[str, Any]) -> str:
    return " ".join(f"{key} {value}" for key, value in said.items() if key not in ("job", "token"))


def _judge_marks(evidence: Evidence, broken: dict[str, list[str]]) -> None:
    """Judge what ran, promised to somebody or not."""
    for mark, times in evidence.ran.items():
        row = evidence.attempts.get(mark)
        if times > 1:
            broken["twice"].append(f"attempt {mark} began {times} times")
        if row is None:
            broken["unrecorded"].append(f"attempt {mark}")
        elif row["state"] == "withdrawn":
            broken["twice"].append(f"attempt {mark} began, and the store says that it never did")
    for token, marks in evidence.tokens.items():
        if len({mark.rpartition(".")[0] for mark in marks}) > 1:
            broken["twice"].append(f"one submit ({token}) ran as several jobs: {', '.join(sorted(marks))}")


def _judge_job(evidence: Evidence, job: int, said: dict[str, Any]) -> tuple[str, str] | None:
    """Give the rule that was broken and how; None: all is well."""
    row = evidence.jobs.get(job)
    if row is None:
        return "vanished", "the store does not know it"
    if row["state"] not in FINISHED:
        return "unended", f"it is {row['state']}"
    asked = job in evidence.stopped
    tries = [one for one in evidence.of_job[job] if one["state"] != "withdrawn"]
    for attempt in tries:
        found = _judge_attempt(evidence, attempt, said, asked=asked)
        if found is not None:
            return found
    return _judge_end(evidence, row, tries, said, asked=asked)


def _judge_attempt(
    evidence: Evidence, row: dict[str, Any], said: dict[str, Any], *, asked: bool
) -> tuple[str, str] | None:
    name = f"attempt {row['n']}"
    if row["state"] == "lost":
        if _lost_by(evidence, row):
            return None
        return "lost", f"{name} is lost, and neither keeper nor worker was killed in its time"
    if asked or _killed_with_worker(evidence, row):
        return None  # ended by somebody: nothing is invented by saying so
    state, reason, code = _expected(said)
    if (row["reason"], row["exit_code"], row["signal"]) != (reason, code, None):
        return "invented", f"{name} ended with {_end(row)}, and should with {_end(_as_row(state, reason, code))}"
    return None


def _judge_end(
    evidence: Evidence, row: dict[str, Any], tries: list[dict[str, Any]], said: dict[str, Any], *, asked: bool
) -> tuple[str, str] | None:
    """Judge how the job as a whole ended, its attempts being right."""
    state = row["state"]
    if state == "stopped":
        return None if asked else ("invented", "it is stopped, and nobody asked for it")
    if not tries:
        return "vanished", f"it is {state} without an attempt"
    last = tries[-1]
    if state == "lost":
        return None if last["state"] == "lost" else ("lost", "it is lost, and its last attempt is not")
    if said["how"] != "missing" and not _killed_with_worker(evidence, last) and not asked:
        mark = next(mark for mark, one in evidence.attempts.items() if one is last)
        if not evidence.ran[mark]:
            return "vanished", f"it is {state}, and its last attempt never ran"
    if (row["reason"], row["exit_code"], row["signal"]) != (last["reason"], last["exit_code"], last["signal"]):
        return "invented", f"it ended with {_end(row)}, and its last attempt with {_end(last)}"
    good = row["reason"] is None
    if (state == "completed") != good:
        return "invented", f"it is {state}, with {_end(row)}"
    if not good and len(tries) <= said.get("retries", 0) and not asked:
        return "vanished", f"it ended after {len(tries)} attempts of {said['retries'] + 1}"
    return None


def _expected(said: dict[str, Any]) -> tuple[str, str | None, int | None]:
    """Give state, reason and exit code of a job that was let end."""
    if said["how"] == "command":
        return ("failed", "exit", said["code"]) if said["code"] else ("completed", None, 0)
    return _ENDS[said["how"]]


def _as_row(state: str, reason: str | None, code: int | None) -> dict[str, Any]:
    return {"state": state, "reason": reason, "exit_code": code, "signal": None}


def _end(row: dict[str, Any]) -> str:
    said = [f"reason {row['reason']}"] if row["reason"] else []
    said += [f"exit code {row['exit_code']}"] if row["exit_code"] is not None else []
    said += [f"signal {row['signal']}"] if row["signal"] is not None else []
    return ", ".join(said) or "success"


def _killed_with_worker(evidence: Evidence, row: dict[str, Any]) -> bool:
    """Tell whether an attempt ended by the very signal that its worker was sent."""
    worker = row["worker"]
    return row["signal"] == _SIGKILL and any(worker in kill.workers for kill in evidence.kills if worker is not None)


def _keeper_kills(evidence: Evidence, row: dict[str, Any]) -> list[Kill]:
    """Give the kills of the keeper in an attempt's time."""
    end = row["finished"] or 1 << 62
    return [kill for kill in evidence.kills if kill.keeper and kill.at <= end and row["created"] <= (kill.until or end)]


def _lost_by(evidence: Evidence, row: dict[str, Any]) -> bool:
    worker = row["worker"]
    own = any(worker in kill.workers for kill in evidence.kills if worker is not None)
    return own or bool(_keeper_kills(evidence, row))


def _too_many_lost(evidence: Evidence) -> Iterator[str]:
    """Either of agent and keeper may die without costing an exit code.

    Only the one attempt of which a dying keeper had written "begin" and no more may be
    lost: nobody was told its number.
    """
    lost: Counter[Kill] = Counter()
    for row in evidence.attempts.values():
        if row["state"] == "lost":
            kills = _keeper_kills(evidence, row)
            if len(kills) == 1 and kills[0].alone:
                lost[kills[0]] += 1
    for kill, times in lost.items():
        if times > 1:
            yield f"{times} attempts by the death of the keeper alone, at {kill.at}"
