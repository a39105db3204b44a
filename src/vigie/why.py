"""Why a job is as it is, in sentences. Pure: facts in, text out."""

from __future__ import annotations

import json
import signal as signals
from typing import Any

from vigie import view
from vigie.terminal import ago, lasting, moment, size
from vigie.values import format_rate

__all__ = ["Explanation", "Facts", "at_instant", "exit_meaning", "explain", "signal_name"]

Row = dict[str, Any]
_FINISHED = ("completed", "failed", "stopped", "lost")


class Facts:
    """What an explanation is made of.

    Parameters
    ----------
    job:
        The job's row.
    now:
        µs UTC.
    attempts, dependencies, keys, queue, ahead:
        As the reader gives them; ``ahead`` counts those handed out before it.
    agent:
        Whether an agent runs.
    error:
        The exception of a function: ``type, message, traceback``.
    tail:
        The last lines of its errors.
    stopper:
        The event of the last ``stop``.
    boot:
        This boot's id.
    """

    def __init__(
        self,
        job: Row,
        now: int,
        *,
        attempts: list[Row] | None = None,
        dependencies: list[Row] | None = None,
        keys: list[Row] | None = None,
        queue: Row | None = None,
        ahead: int = 0,
        agent: bool = True,
        error: dict[str, Any] | None = None,
        tail: list[str] | None = None,
        stopper: Row | None = None,
        boot: str | None = None,
    ) -> None:
        self.job = job
        self.now = now
        self.attempts = attempts or []
        self.dependencies = dependencies or []
        self.keys = keys or []
        self.queue = queue
        self.ahead = ahead
        self.agent = agent
        self.error = error
        self.tail = tail or []
        self.stopper = stopper
        self.boot = boot


class Explanation:
    """Sentences, lines to quote below them, and commands to type next."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.quoted: list[str] = []
        self.commands: list[str] = []

    def say(self, *sentences: str) -> None:
        """Add sentences."""
        self.sentences += sentences

    def suggest(self, *commands: str) -> None:
        """Add commands."""
        self.commands += commands


def explain(facts: Facts) -> Explanation:
    """Explain the state of a job and what it waits for, or how it ended."""
    made = Explanation()
    _STATES[facts.job["state"]](facts, made)
    return made


def signal_name(number: int) -> str:
    """Give the name of a signal.

    >>> signal_name(9), signal_name(99)
    ('SIGKILL', 'signal 99')
    """
    try:
        return signals.Signals(number).name
    except ValueError:
        if signals.SIGRTMIN <= number <= signals.SIGRTMAX:
            return f"SIGRTMIN+{number - signals.SIGRTMIN}"
        return f"signal {number}"


_SIGNALS = {
    "SIGKILL": "somebody or the kernel killed it, which no program can catch",
    "SIGTERM": "somebody asked it to end",
    "SIGINT": "it was interrupted, as by Ctrl-C",
    "SIGHUP": "its terminal was closed",
    "SIGSEGV": "it used memory that is not its own: a bug in it or in a library",
    "SIGBUS": "it used memory that is not there: a bug, a bad disk, or a mapped file that was cut",
    "SIGABRT": "it gave up by itself: a failed assertion, or an error in a library",
    "SIGFPE": "it divided by zero, or the like",
    "SIGILL": "it met an instruction that this processor does not know",
    "SIGPIPE": "it wrote to a pipe that nobody reads any more",
    "SIGXCPU": "it used more processor time than its limit",
    "SIGXFSZ": "it wrote a file larger than its limit",
}


def exit_meaning(code: int) -> str | None:
    """Say what an exit code usually means; None where it is the program's own affair.

    >>> exit_meaning(127)
    'a shell did not find the command'
    """
    usual = {
        2: "many programs say so that their arguments were wrong",
        124: "timeout(1) says so that the time it gave was up",
        126: "a shell found the command and could not execute it",
        127: "a shell did not find the command",
        128: "git says so that it could not go on",
        255: "ssh says so that it failed itself, and others that they ended with -1",
    }
    if code in usual:
        return usual[code]
    if 128 < code <= 192:
        name = signal_name(code - 128)
        meaning = f" ({_SIGNALS[name]})" if name in _SIGNALS else ""
        return f"a shell says so that a command of its was ended by {name}{meaning}"
    return None


# --- waiting ---------------------------------------------------------------------------


def _queued(facts: Facts, made: Explanation) -> None:
    job = facts.job
    _last_attempt(facts, made)
    made.say(f"{view.what(job)} waits in queue {job['queue']} since {ago(job['created'], facts.now)}.")
    if not facts.agent:
        made.say("No agent runs, so nothing is handed out.")
        made.suggest("vigie agent start")
    if job["assigned"] and job["worker"] is not None:
        made.say(f"It was handed to worker {job['worker']}, behind others of its batch, and has not begun.")
        return
    found = _held_back_by_keys(facts, made) | _held_back_by_queue(facts, made)
    if facts.ahead:
        made.say(f"{_count(facts.ahead, 'job')} of that queue {'is' if facts.ahead == 1 else 'are'} before it.")
    if not found and facts.agent and not facts.ahead:
        made.say("Nothing holds it back: it is about to be handed out.")


def _held_back_by_keys(facts: Facts, made: Explanation) -> bool:
    found = False
    for key in facts.keys:
        if not key["held"] and len(key["holders"]) >= key["most"]:
            found = True
            made.say(
                f"Concurrency key {key['key']!r} lets {key['most']} run at once, and {_ids(key['holders'])} "
                f"{'holds' if len(key['holders']) == 1 else 'hold'} it."
            )
    return found


def _held_back_by_queue(facts: Facts, made: Explanation) -> bool:
    queue, job = facts.queue, facts.job
    if queue is None:
        return False
    name = queue["name"]
    if queue["paused"]:
        made.say(f"Queue {name} is paused.")
        made.suggest(f"vigie queue resume {name}")
    full = queue["used"] >= queue["slots"]
    if full and not job["now"]:
        busy = f" ({_ids(queue['busy'])})" if queue["busy"] else ""
        made.say(
            f"{name} has {queue['used']} of {queue['slots']} slots busy{busy}."
            if queue["slots"]
            else f"{name} has no slots: nothing starts from it."
        )
        made.suggest(f"vigie queue set {name} --slots {max(queue['slots'], queue['used']) + 1}")
    if queue["rate"] is not None:
        made.say(f"{name} hands out {format_rate(queue['rate'])} at most.")
    return bool(queue["paused"] or full or queue["rate"] is not None)


def _blocked(facts: Facts, made: Explanation) -> None:
    job = facts.job
    if job["blocked_by"] == "time":
        _last_attempt(facts, made)
        again = job["attempt"] > job["tries_from"]
        due = job["due"]
        what = "Its next attempt begins" if again else f"{view.what(job)} was put off and begins"
        made.say(f"{what} {_instant(due, facts.now)}." if due is not None else f"{what} when its time comes.")
    elif job["blocked_by"] == "dependency":
        still = [row for row in facts.dependencies if row["state"] not in (*_FINISHED, None)]
        made.say(f"{view.what(job)} waits for {_count(len(still), 'job')} to end:")
        for row in still:
            name = f"{row['needs']} ({row['name']})" if row["name"] else str(row["needs"])
            how = "end in any way" if row["mode"] == "any" else "complete"
            made.say(f"  {name} is {row['state']} and must {how}.")
        if still:
            made.suggest(f"vigie why {still[0]['needs']}")
    else:
        made.say(f"{view.what(job)} waits for a condition.")
    if not facts.agent:
        made.say("No agent runs, so it will not begin.")
        made.suggest("vigie agent start")


def _last_attempt(facts: Facts, made: Explanation) -> None:
    """Say how the attempt before ended, of a job that will run again."""
    ended = [row for row in facts.attempts if row["state"] in ("ended", "lost")]
    if not ended or facts.job["attempt"] == facts.job["tries_from"]:
        return
    row = ended[-1]
    tries = facts.job["retries"] + 1
    number = row["n"] - facts.job["tries_from"]
    made.say(f"Attempt {number} of {tries} {_ending(row)}.")


def _ending(row: Row) -> str:
    if row["state"] == "lost":
        return f"was lost: {row['message']}"
    if row["signal"] is not None:
        return f"was ended by {signal_name(row['signal'])}"
    if row["reason"] in ("exception", "spawn"):
        return f"failed: {row['message']}"
    if row["exit_code"] is not None:
        return f"ended with exit code {row['exit_code']}"
    return f"failed: {row['reason']}" if row["reason"] else "ended"


# --- under way ---------------------------------------------------------------------------


def _running(facts: Facts, made: Explanation) -> None:
    job = facts.job
    since = "" if job["started"] is None else f" for {lasting(facts.now - job['started'])}"
    pid = "" if job["pid"] is None else f" (pid {job['pid']})"
    again = f", attempt {job['attempt']}" if job["attempt"] > 1 else ""
    made.say(f"{view.what(job)} has been running{since}{pid}{again}.")
    if job["ending"] == "stop":
        made.say(f"It was told to stop{_by(facts.stopper)}; after {lasting(job['grace'])} it is killed.")
    elif job["ending"] == "timeout":
        made.say(f"It passed its timeout of {lasting(job['timeout'])} and is being ended.")
    elif job["timeout"] is not None and job["started"] is not None:
        left = job["timeout"] + (job["suspended"] or 0) - (facts.now - job["started"])
        made.say(f"Its timeout passes in {lasting(left)}.")
    if not facts.agent:
        made.say("No agent runs: its end is recorded when one starts.")
    made.suggest(f"vigie logs -f {job['id']}")


def _suspended(facts: Facts, made: Explanation) -> None:
    job = facts.job
    made.say(f"{view.what(job)} is suspended: its processes are stopped and keep their memory and their slot.")
    made.suggest(f"vigie resume {job['id']}")


# --- ended -----------------------------------------------------------------------------


def _completed(facts: Facts, made: Explanation) -> None:
    job = facts.job
    again = f" at attempt {job['attempt']}" if job["attempt"] > 1 else ""
    made.say(f"{view.what(job)} completed{again}{_when(facts)}.")
    made.suggest(f"vigie receive {job['id']}")


def _failed(facts: Facts, made: Explanation) -> None:
    job = facts.job
    reason = job["reason"] or "exit"
    again = f" at attempt {job['attempt']}" if job["attempt"] > 1 else ""
    made.say(f"{view.what(job)} failed{again}{_when(facts)}: {_FAILURES[reason](facts, made)}.")
    made.quoted += facts.tail
    if reason == "dependency":
        broken = [row for row in facts.dependencies if row["state"] in ("failed", "stopped", "lost")]
        made.suggest(*(f"vigie why {row['needs']}" for row in broken[:3]))
    elif reason != "spawn":
        made.suggest(f"vigie logs {job['id']}")
    made.suggest(f"vigie retry {job['id']}")


def _by_exit(facts: Facts, made: Explanation) -> str:
    job = facts.job
    meaning = None if job["exit_code"] is None else exit_meaning(job["exit_code"])
    text = f"exit code {job['exit_code']}" + (f", {meaning}" if meaning else "")
    return f"{text}; {job['message']}" if job["message"] else text


def _by_signal(facts: Facts, made: Explanation) -> str:
    job = facts.job
    if job["signal"] is None:
        return "it was ended by a signal"
    name = signal_name(job["signal"])
    meaning = _SIGNALS.get(name)
    peak = f"; it had used {size(job['peak_rss'])} of memory" if job["peak_rss"] and name == "SIGKILL" else ""
    return f"it was ended by {name}" + (f": {meaning}" if meaning else "") + peak


def _by_timeout(facts: Facts, made: Explanation) -> str:
    return f"it ran longer than its timeout of {lasting(facts.job['timeout'])} and was ended"


def _by_exception(facts: Facts, made: Explanation) -> str:
    error = facts.error or {}
    made.quoted += str(error.get("traceback") or "").splitlines()[-12:]
    text = str(facts.job["message"] or f"{error.get('type')}: {error.get('message')}")
    first, more, _ = text.partition("\n")
    return f"{first} …" if more else first


def _by_spawn(facts: Facts, made: Explanation) -> str:
    error = facts.error or {}
    message = str(facts.job["message"])
    meaning = {
        "ENOENT": _not_found(message.partition("command not found: ")[2]),
        "EACCES": "the file may not be executed: chmod +x makes it a program",
        "ENOEXEC": "the file is no program: a script needs #! in its first line",
        "E2BIG": "arguments and environment together are too long for the kernel",
        "EAGAIN": "too many processes: ulimit -u",
        "ENOMEM": "there was no memory for another process",
    }.get(str(error.get("type")))
    if error.get("what") == "cwd":
        meaning = f"its directory was to be {view.path_of(facts.job['cwd'])}"
    return f"it could not be started: {message}" + (f"; {meaning}" if meaning else "")


def _not_found(command: str) -> str:
    """Say what to look for when there is no such command."""
    if any(char in command for char in " \t\n|;&<>$"):
        return "a line for the shell goes behind --shell, the words of a command stand apart"
    if command.endswith((".py", ".sh", ".ps1")) and "/" not in command:
        return "no file of that name was in the directory where it was submitted, and none is on PATH"
    name, equals, _ = command.partition("=")
    if equals and name.isidentifier():
        return "--env sets a variable"
    return "look for a typing error, and whether PATH names its directory"


def _by_oom(facts: Facts, made: Explanation) -> str:
    return f"the kernel killed it because memory ran out; it had used {size(facts.job['peak_rss'])}"


def _by_dependency(facts: Facts, made: Explanation) -> str:
    return str(facts.job["message"] or "a job that it needs did not complete")


def _stopped(facts: Facts, made: Explanation) -> None:
    job = facts.job
    before = " before it began" if job["attempt"] == 0 else ""
    made.say(f"{view.what(job)} was stopped{before}{_by(facts.stopper)}{_when(facts)}.")
    if job["signal"] is not None:
        made.say(f"It ended by {signal_name(job['signal'])}.")
    elif job["exit_code"] is not None:
        made.say(f"It ended with exit code {job['exit_code']}.")
    made.suggest(f"vigie retry {job['id']}")


def _lost(facts: Facts, made: Explanation) -> None:
    job = facts.job
    made.say(f"{view.what(job)} was lost: it ended, and nobody can know how.")
    if job["message"]:
        made.say(_sentence(str(job["message"])))
    if facts.boot and facts.attempts and facts.attempts[-1]["boot"] != facts.boot:
        made.say("This machine has been restarted since it began.")
    if job["on_lost"] == "fail":
        made.say("It does not run again by itself: --on-lost rerun would say so.")
    made.quoted += facts.tail
    made.suggest(f"vigie logs {job['id']}", f"vigie retry {job['id']}")


_FAILURES = {
    "exit": _by_exit,
    "signal": _by_signal,
    "timeout": _by_timeout,
    "exception": _by_exception,
    "spawn": _by_spawn,
    "oom": _by_oom,
    "dependency": _by_dependency,
}
_STATES = {
    "queued": _queued,
    "blocked": _blocked,
    "running": _running,
    "suspended": _suspended,
    "completed": _completed,
    "failed": _failed,
    "stopped": _stopped,
    "lost": _lost,
}

# --- an instant of the past ---------------------------------------------------------------


def at_instant(job: Row, events: list[Row], instant: int, now: int) -> Explanation:
    """Explain how a job stood at an instant (µs UTC), as its events tell."""
    made = Explanation()
    past = [row for row in events if row["at"] <= instant]
    if not past:
        made.say(
            f"{view.what(job)} did not exist {_instant(instant, now)}: it was made {_instant(job['created'], now)}."
        )
        return made
    state = [row for row in past if row["after"]][-1:]
    for row in state:
        made.say(
            f"{_instant(instant, now).capitalize()} {view.what(job)} was {row['after']},"
            f" since {moment(row['at'], now)} ({row['verb']}{_by(row)})."
        )
        detail = _detail(row)
        if detail:
            made.say(_sentence(detail))
    later = [row for row in events if row["at"] > instant]
    if later:
        nxt = later[0]
        became = f" and it became {nxt['after']}" if nxt["after"] else ""
        made.say(f"Next came {nxt['verb']}{_by(nxt)}, {lasting(nxt['at'] - instant)} later{became}.")
    made.suggest(f"vigie why {job['id']}")
    return made


def _detail(row: Row) -> str:
    """Give an event's detail as words."""
    text = row["detail"]
    if not text or not text.startswith("{"):
        return ""
    known: dict[str, Any] = {key: value for key, value in json.loads(text).items() if value is not None}
    if "due" in known:
        known["due"] = view.instant(known["due"])
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in known.items())


# --- words -------------------------------------------------------------------------------


def _by(event: Row | None) -> str:
    if event is None or event["uid"] is None:
        return ""
    program = f" by {event['program']}" if event["program"] else f" by pid {event['pid']}"
    return program + (f" on {event['terminal']}" if event["terminal"] else "")


def _when(facts: Facts) -> str:
    job = facts.job
    when = "" if job["finished"] is None else f" {ago(job['finished'], facts.now)}"
    return when if job["duration"] is None else f"{when} after {lasting(job['duration'])}"


def _instant(at: int, now: int) -> str:
    return f"at {moment(at, now)} ({ago(at, now)})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _ids(ids: list[int]) -> str:
    shown = ", ".join(map(str, ids[:5]))
    return f"{shown} and {len(ids) - 5} more" if len(ids) > 5 else shown


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
