"""Each state explained, from facts alone."""

from __future__ import annotations

import pytest

from built_store import NOW, SECOND
from vigie.model import JOB_STATES, REASONS
from vigie.why import Facts, exit_meaning, explain, signal_name

JOB = {
    "id": 12, "name": "copy", "state": "queued", "reason": None, "blocked_by": None, "ending": None,
    "queue": "default", "priority": 0, "now": 0, "created": NOW, "due": None, "started": None, "finished": None,
    "attempt": 0, "tries_from": 0, "exit_code": None, "signal": None, "message": None, "duration": None,
    "peak_rss": None, "retries": 0, "timeout": None, "grace": 10 * SECOND, "on_lost": "fail", "pid": None,
    "suspended": 0, "worker": None, "assigned": False, "cwd": b"/nowhere", "kind": "command", "label": "cp a b",
}  # fmt: skip
QUEUE = {"name": "default", "slots": 2, "rate": None, "paused": False, "used": 0, "busy": [], "queued": 1}
ENDED = {
    "n": 1, "state": "ended", "signal": None, "exit_code": None, "reason": None, "message": None, "boot": "b",
}  # fmt: skip


def why(*, at: int = NOW + 60 * SECOND, job: dict | None = None, **facts) -> tuple[str, list[str], list[str]]:
    made = explain(Facts(JOB | (job or {}), at, **facts))
    return " ".join(sentence.strip() for sentence in made.sentences), made.quoted, made.commands


@pytest.mark.parametrize("state", JOB_STATES)
def test_every_state_has_words(state):
    text, _, _ = why(job={"state": state})
    assert "12 (copy)" in text


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_words(reason):
    text, _, commands = why(job={"state": "failed", "reason": reason, "attempt": 1})
    assert "failed" in text
    assert commands[-1] == "vigie retry 12"


def test_queued_behind_busy_slots():
    busy = QUEUE | {"used": 2, "busy": [7, 9]}
    text, _, commands = why(queue=busy, ahead=3)
    assert "default has 2 of 2 slots busy (7, 9)." in text
    assert "3 jobs of that queue are before it." in text
    assert commands == ["vigie queue set default --slots 3"]
    assert "slots busy" not in why(queue=busy, job={"now": 1})[0]


def test_queued_in_a_queue_without_slots():
    text, _, commands = why(queue=QUEUE | {"slots": 0})
    assert "default has no slots: nothing starts from it." in text
    assert commands == ["vigie queue set default --slots 1"]


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("ls -la", "--shell"),
        ("report.py", "no file of that name"),
        ("A=1", "--env sets a variable"),
        ("sl", "typing error"),
    ],
)
def test_a_command_that_is_not_there_says_what_to_look_for(command, hint):
    job = {"state": "failed", "reason": "spawn", "message": f"command not found: {command}"}
    assert hint in why(job=job, error={"type": "ENOENT", "what": "argv"})[0]


def test_an_exception_of_several_lines_is_told_by_its_first():
    text, _, _ = why(job={"state": "failed", "reason": "exception", "message": "ValueError: no\nmore"})
    assert "ValueError: no …" in text
    assert "more" not in text


def test_queued_in_a_paused_or_limited_queue():
    text, _, commands = why(queue=QUEUE | {"paused": True, "rate": 10.0})
    assert "is paused" in text
    assert "10/s" in text
    assert commands == ["vigie queue resume default"]


def test_queued_behind_a_key():
    keys = [{"key": "db", "most": 1, "held": 0, "holders": [9]}]
    assert "'db' lets 1 run at once, and 9 holds it." in why(queue=QUEUE, keys=keys)[0]


def test_queued_without_an_agent_or_for_no_reason():
    assert why(queue=QUEUE, agent=False)[2] == ["vigie agent start"]
    assert "about to be handed out" in why(queue=QUEUE)[0]


def test_blocked_by_open_dependencies_alone():
    needs = [
        {"needs": 7, "mode": "completed", "state": "running", "name": "build", "reason": None},
        {"needs": 8, "mode": "any", "state": "failed", "name": None, "reason": "exit"},
        {"needs": 9, "mode": "any", "state": "queued", "name": None, "reason": None},
    ]
    text, _, commands = why(job={"state": "blocked", "blocked_by": "dependency"}, dependencies=needs)
    assert "waits for 2 jobs" in text
    assert "7 (build) is running and must complete." in text
    assert "9 is queued and must end in any way." in text
    assert " 8 " not in text
    assert commands == ["vigie why 7"]


def test_blocked_by_time_tells_a_retry_from_a_delay():
    job = {"state": "blocked", "blocked_by": "time", "due": NOW + 64 * SECOND}
    assert "was put off and begins" in why(job=job)[0]
    again = why(job=job | {"attempt": 1, "retries": 3}, attempts=[ENDED | {"exit_code": 4, "reason": "exit"}])[0]
    assert "Attempt 1 of 4 ended with exit code 4." in again
    assert "Its next attempt begins" in again
    assert "(in 4s)" in again


def test_running_names_pid_timeout_and_who_stops_it():
    job = {"state": "running", "started": NOW, "attempt": 2, "pid": 77, "timeout": 90 * SECOND}
    text, _, commands = why(job=job)
    assert "for 1m (pid 77), attempt 2." in text
    assert "Its timeout passes in 30s." in text
    assert commands == ["vigie logs -f 12"]
    stopper = {"uid": 5, "pid": 6, "program": "vigie stop", "terminal": "pts/3"}
    told = why(job=job | {"ending": "stop"}, stopper=stopper)[0]
    assert "told to stop by vigie stop on pts/3; after 10s it is killed" in told
    assert "is recorded when one starts" in why(job=job, agent=False)[0]


@pytest.mark.parametrize(
    ("job", "error", "expected"),
    [
        (
            {"reason": "exit", "exit_code": 137},
            None,
            "exit code 137, a shell says so that a command of its was ended by SIGKILL (somebody or the kernel killed",
        ),
        ({"reason": "exit", "exit_code": 2}, None, "exit code 2, many programs say so that their arguments were wrong"),
        ({"reason": "exit", "exit_code": 126}, None, "a shell found the command and could not execute it"),
        ({"reason": "exit", "exit_code": 127}, None, "a shell did not find the command"),
        ({"reason": "exit", "exit_code": 143}, None, "ended by SIGTERM (somebody asked it to end)"),
        ({"reason": "exit", "exit_code": 1}, None, "exit code 1."),
        ({"reason": "signal", "signal": 11}, None, "SIGSEGV: it used memory that is not its own"),
        ({"reason": "signal", "signal": 9, "peak_rss": 1 << 30}, None, "it had used 1 GiB of memory"),
        ({"reason": "timeout", "timeout": 600 * SECOND}, None, "longer than its timeout of 10m"),
        ({"reason": "oom", "peak_rss": 1 << 30}, None, "memory ran out; it had used 1 GiB"),
        (
            {"reason": "spawn", "message": "no such file: nope"},
            {"type": "ENOENT", "what": "argv"},
            "whether PATH names",
        ),
        ({"reason": "spawn", "message": "no such directory"}, {"type": "ENOENT", "what": "cwd"}, "/nowhere"),
        ({"reason": "dependency", "message": "job 7, which it needs, failed"}, None, "job 7, which it needs, failed"),
        ({"reason": "exception", "message": "ValueError: no"}, {"traceback": "a\nb"}, "ValueError: no"),
    ],
)
def test_failures_say_how(job, error, expected):
    text, _, _ = why(job={"state": "failed", "attempt": 1} | job, error=error)
    assert expected in text


def test_an_exception_is_quoted_and_a_broken_dependency_pointed_at():
    _, quoted, _ = why(job={"state": "failed", "reason": "exception"}, error={"traceback": "one\ntwo"})
    assert quoted == ["one", "two"]
    needs = [{"needs": 7, "mode": "completed", "state": "failed", "name": None, "reason": "exit"}]
    _, _, commands = why(job={"state": "failed", "reason": "dependency"}, dependencies=needs)
    assert commands[0] == "vigie why 7"


def test_stopped_and_lost():
    assert "was stopped before it began" in why(job={"state": "stopped"})[0]
    text, quoted, _ = why(
        job={"state": "lost", "attempt": 1, "message": "its worker died"}, attempts=[ENDED], boot="other", tail=["x"]
    )
    assert "Its worker died." in text
    assert "has been restarted since" in text
    assert quoted == ["x"]


def test_numbers_have_names():
    assert exit_meaning(3) is None
    assert signal_name(64) == "SIGRTMAX"
    assert signal_name(40).startswith("SIGRTMIN+")
