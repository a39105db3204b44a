"""The verbs that show things, on stores as an agent leaves them: no agent runs here."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
import tty

import pytest

from built_store import NOW, SECOND, Built

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def built(home):
    made = Built(home)
    yield made
    made.close()


class Screen:
    """A terminal with a program on it."""

    def __init__(self, *args: str, **env: str) -> None:
        self.fd, slave = os.openpty()
        tty.setraw(slave)
        self.program = subprocess.Popen(
            [sys.executable, "-m", "vigie", *args],
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", **env},
        )
        os.close(slave)
        self.bytes = b""

    @property
    def text(self) -> str:
        return self.bytes.decode("utf-8", "surrogateescape")

    def until(self, wanted: str) -> str:
        """Read until a text appears, or all if it is empty; the text so far."""
        while not wanted or wanted not in self.text:
            ready, _, _ = select.select([self.fd], [], [], 30)
            assert ready, f"{wanted!r} did not come; so far {self.text!r}"
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            if not data:
                assert not wanted, f"{wanted!r} did not come; all was {self.text!r}"
                break
            self.bytes += data
        return self.text

    def end(self) -> int:
        self.until("")
        return self.close()

    def close(self) -> int:
        if self.program.poll() is None:
            self.program.wait(30)
        os.close(self.fd)
        return self.program.returncode


def on_screen(*args: str, **env: str) -> str:
    screen = Screen(*args, **env)
    screen.end()
    return screen.text


# --- no store ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("args", [[], ["jobs"], ["events"], ["jobs", "--json"], ["events", "--json"]])
def test_reading_makes_no_home_and_starts_no_agent(home, vigie, args):
    done = vigie(*args, check=True)
    assert not os.path.exists(home.root)
    if "--json" in args:
        assert json.loads(done.stdout) == []
    assert home.processes() == []


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["show", "why", "logs", "receive"])
def test_an_unknown_job_is_exit_3_with_a_hint(built, vigie, verb):
    built.job(name="copy")
    done = vigie(verb, "copi")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "vigie: no job is called copi\n  did you mean copy?\n"


# --- jobs ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_jobs_in_json_has_the_keys_of_the_contract(built, vigie):
    task = built.task(kind="command", argv=b"cp\0a\xff\0", label="")
    job = built.job(
        "failed", task=task, name="copy", reason="exit", exit_code=3, tags=("red",), cpu=1500, peak_rss=4096
    )
    built.attempt(job, pid=77)
    found = json.loads(vigie("jobs", "--json", check=True).stdout)
    assert [one["id"] for one in found] == [job]
    assert found[0].keys() >= set(
        "id name state reason blocked_by exit_code signal attempt queue priority tags task host pid created started"
        " finished duration progress parent schedule service peak_rss cpu_seconds".split()
    )
    assert found[0]["task"] == {
        "kind": "command", "label": "cp 'a\udcff'", "command": ["cp", "a\udcff"], "cwd": "/srv",
        "python": "/usr/bin/python3",
    }  # fmt: skip
    assert found[0] | {"task": 0, "created": 0, "started": 0, "finished": 0, "message": None, "due": None} == {
        "id": job, "name": "copy", "state": "failed", "reason": "exit", "blocked_by": None, "exit_code": 3,
        "signal": None, "message": None, "attempt": 1, "queue": "default", "priority": 0, "tags": ["red"], "task": 0,
        "host": "here", "pid": None, "created": 0, "due": None, "started": 0, "finished": 0, "duration": 1.0,
        "progress": None, "parent": None, "schedule": None, "service": None, "peak_rss": 4096, "cpu_seconds": 0.0015,
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d", found[0]["created"])


@pytest.mark.slow
def test_jobs_to_a_pipe_are_plain_columns_and_all_of_them(built, vigie):
    for _ in range(40):
        built.job(name="copy")
    lines = vigie("jobs", check=True).stdout.splitlines()
    assert len(lines) == 41
    assert lines[0].split() == ["ID", "NAME", "STATE", "WHEN", "TOOK", "WHAT"]
    assert lines[1].split()[:3] == ["40", "copy", "completed"]
    assert len(vigie("jobs", "--limit", "3", check=True).stdout.splitlines()) == 4
    assert vigie("jobs", "--state", "nice").returncode == 2


@pytest.mark.slow
def test_jobs_on_a_terminal_fit_it_and_say_what_is_left_out(built):
    task = built.task(kind="command", argv=b"x\0", label="x" * 300 + "\x1b[2J")
    for _ in range(40):
        built.job(task=task, name="evil\x1b]0;x\x07")
    text = on_screen("jobs")
    assert "30 shown, there are older ones · vigie jobs --limit 120" in text
    assert "\x1b[32mcompleted\x1b[0m" in text
    lines = ESCAPES.sub("", text).splitlines()
    assert max(map(len, lines)) <= 100
    assert "\x07" not in text
    assert "evil\u241b]0;x\u2407" in text
    assert "\x1b" not in on_screen("jobs", NO_COLOR="1")
    assert "\x1b" not in on_screen("jobs", TERM="dumb")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "kept"),
    [
        ("100", ["ID", "NAME", "STATE", "WHY", "WHEN", "TOOK", "QUEUE", "WHAT"]),
        ("60", ["ID", "NAME", "STATE", "WHY", "WHEN", "WHAT"]),
        ("40", ["ID", "NAME", "STATE", "WHAT"]),
        ("20", None),
    ],
)
def test_a_narrow_terminal_does_without_the_least_columns(built, columns, kept):
    task = built.task(kind="command", argv=b"x\0", label="rsync -a --delete /srv/photos /backup/photos")
    now = time.time_ns() // 1000
    for name in ("photos", "a-name-much-longer-than-any-column-should-be-on-a-small-screen"):
        built.job("failed", task=task, name=name, reason="signal", signal=11, queue="imports", finished=now)
    for words in (["jobs"], []):
        lines = ESCAPES.sub("", on_screen(*words, COLUMNS=columns)).splitlines()
        heads = [line.split() for line in lines if line.split()[:1] == ["ID"]]
        assert heads
        assert kept is None or not words or heads[0] == kept
        table = [line for line in lines if line.split()[:1] in (["ID"], ["1"], ["2"])]
        assert len(table) == 3
        assert max(map(len, table)) <= int(columns)


@pytest.mark.slow
def test_an_encoding_that_lacks_characters_gets_plain_ones(built):
    task = built.task(kind="command", argv=b"x\0", label="long " * 40)
    job = built.job("running", task=task, name="copy\x07")
    built.event("state", job, before="queued", after="running")
    built.write(job, "out", "tick… \x1b[2J\n".encode())
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "NO_COLOR": "1"}
    table = on_screen("jobs", **ascii_only)
    assert "long l..." in table or "lo..." in table or "..." in table
    assert "copy^G" in table
    assert max(map(len, table.splitlines())) <= 100
    assert "queued -> running" in on_screen("events", **ascii_only)
    assert on_screen("logs", str(job), **ascii_only) == "tick... ^[[2J\n"
    for words in (["jobs"], ["events"], ["show", str(job)], ["help", "what"], ["jobs", "nothing"], []):
        shown = on_screen(*words, **ascii_only)
        assert shown.isascii()
        assert "\\u" not in shown
        assert "\\x" not in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jobs", "--name", "reprot"], "no job is called reprot\n  did you mean --name report?\n"),
        (["stop", "--name", "zzz*"], "no job is called zzz*\n  names: report, copy\n"),
        (["wait", "--tag", "gren"], "no job has the tag gren\n  did you mean --tag green?\n"),
        (["events", "--queue", "x"], "no job is in the queue x\n  queues: default\n"),
        (["stop", "--name", "report"], ("the job that matches is not queued, blocked, running or suspended\n"
                                       "  vigie jobs --name report\n")),
        (["stop", "--name", "*"], ("of the 2 jobs that match none is queued, blocked, running or suspended\n"
                                  "  vigie jobs --name '*'\n")),
        (["jobs", "--name", "copy", "--tag", "green"], ("no job matches --name copy --tag green\n"
                                                       "  leave one of them out\n")),
        (["jobs", "--state", "lost"], "no job matches --state lost\n  vigie jobs\n"),
        (["stop", "--all"], ""),
    ],
)  # fmt: skip
def test_a_filter_that_matches_nothing_says_so(built, vigie, words, said):
    built.job(name="copy")
    built.job("failed", name="report", reason="exit", exit_code=1, tags=("green",))
    done = vigie(*words)
    assert (done.returncode, done.stdout.splitlines()[1:], done.stderr) == (0, [], said)
    quiet = vigie(*words, "--json")
    assert (quiet.returncode, quiet.stderr) == (0, "")


@pytest.mark.slow
def test_a_filter_in_an_empty_store_says_how_to_begin(built, vigie):
    assert vigie("jobs", "--name", "x").stderr == "there is no job yet\n  vigie start -- sleep 60\n"


@pytest.mark.slow
def test_watch_draws_each_change_over_the_old_table(built):
    job = built.job("running", name="copy")
    screen = Screen("jobs", "--watch")
    screen.until("running")
    built.db.execute("UPDATE jobs SET state = 'completed', finished = ?, duration = 5 WHERE id = ?", (NOW, job))
    text = screen.until("completed")
    assert "\x1b[2A" in text
    screen.program.send_signal(2)
    assert screen.end() == 130


# --- show, events, overview --------------------------------------------------------------------


@pytest.mark.slow
def test_show_has_all_but_secrets(built, vigie):
    needed = built.job("completed")
    job = built.job("failed", name="copy", reason="exception", attempt=2, error=b'{"type": "E", "message": "m"}')
    built.attempt(job, 1, exit_code=1, finished=NOW + SECOND)
    built.attempt(job, 2, "lost", message="gone")
    built.insert("dependencies", job=job, needs=needed, mode="completed")
    built.write(job, "out", b"12345", attempt=2)
    done = vigie("show", "copy", "--json", check=True)
    whole = json.loads(done.stdout)
    assert [one["attempt"] for one in whole["attempts"]] == [1, 2]
    assert whole["dependencies"] == [{"job": needed, "mode": "completed", "state": "completed", "name": None}]
    assert whole["context"]["env_names"] == ["PATH", "TOKEN"]
    assert whole["error"] == {"type": "E", "message": "m"}
    assert whole["files"] == [{"stream": "out", "attempt": 2, "path": built.home.job_file(job, "out", 2), "size": 5}]
    text = vigie("show", "copy", check=True).stdout
    assert "exit 1" in text
    assert "gone" in text
    assert "hush" not in done.stdout + text
    assert vigie("show", str(job), str(needed)).returncode == 2


def test_show_has_what_a_function_returned(built, vigie):
    plain = built.job("completed", result=b'{"sum": [1, "caf\xc3\xa9"]}', result_encoding="json")
    other = built.job("completed", result=b"\x80", result_encoding="pickle")
    assert json.loads(vigie("show", str(plain), "--json", check=True).stdout)["result"] == {"sum": [1, "café"]}
    assert '   result  {"sum": [1, "café"]}\n' in vigie("show", str(plain), check=True).stdout
    assert json.loads(vigie("show", str(other), "--json", check=True).stdout)["result"] is None
    assert f"vigie.get({other}).result()" in vigie("show", str(other), check=True).stdout


@pytest.mark.slow
def test_events_show_who_and_what(built, vigie):
    job = built.job(name="copy")
    built.event("submitted", job, after="queued", uid=5, program="vigie start", terminal="pts/3", detail="ls -l")
    built.event("claimed", job, before="queued", after="running", detail='{"attempt": 1, "ending": null}')
    built.event("queue-set", object="queue:imports", before="{}", after='{"name": "imports", "slots": 3}', uid=5)
    lines = vigie("events", check=True).stdout.splitlines()
    assert [" ".join(line.split()[2:]) for line in lines] == [
        f"{job} submitted queued vigie start ls -l",
        f"{job} claimed queued → running - attempt 1",
        "queue:imports queue-set - uid 5 slots 3",
    ]
    # Columns are as wide as their widest cell, in the first line too.
    assert lines[0].index("vigie start") == lines[1].index("-  ", lines[1].index("→"))
    found = json.loads(vigie("events", "--json", check=True).stdout)
    assert found[2]["after"] == {"name": "imports", "slots": 3}
    assert found[1]["detail"] == {"attempt": 1, "ending": None}
    assert [one["verb"] for one in json.loads(vigie("events", "--json", "--limit", "1").stdout)] == ["queue-set"]
    assert len(json.loads(vigie("events", "--json", "--name", "copy").stdout)) == 2


@pytest.mark.slow
def test_events_follow_gives_each_commit(built, vigie):
    built.event("one")
    live = vigie.popen("events", "--follow", "--json", text=True)
    assert json.loads(live.stdout.readline())["verb"] == "one"
    for verb in ("two", "three"):
        built.event(verb)
        assert json.loads(live.stdout.readline())["verb"] == verb
    live.send_signal(2)
    assert live.wait(30) == 130


@pytest.mark.slow
def test_the_overview_is_one_screen(built):
    built.insert("queues", name="imports", paused=1)
    now = time.time_ns() // 1000
    running = built.job("running", name="copy", started=now)
    failed = built.job("failed", reason="signal", signal=9, finished=now)
    built.job("queued", queue="imports")
    text = ESCAPES.sub("", on_screen())
    assert "agent does not run: jobs wait for it" in text
    assert "running (1)" in text
    assert "SIGKILL" in text
    assert "imports" in text
    assert f"· vigie why {failed}  · vigie logs -f {running}" in text
    assert len(text.splitlines()) <= 24


# --- logs ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_logs_to_a_pipe_are_the_bytes(built, vigie):
    job = built.job()
    data = bytes(range(256)) + b"\x1b[31m\r\n"
    built.write(job, "out", data)
    built.write(job, "err", b"oops")
    done = vigie("logs", str(job), text=False, check=True)
    assert (done.stdout, done.stderr) == (data + b"oops", b"")
    assert vigie("logs", str(job), "--stream", "err", text=False).stdout == b"oops"
    assert vigie("logs", str(job), "-n", "1", text=False).stdout == b"oops"
    assert vigie("logs", str(job), "--stream", "nose").returncode == 2
    assert vigie("logs", str(job), "-n", "-1").returncode == 2


@pytest.mark.slow
def test_logs_on_a_terminal_are_harmless_unless_raw(built):
    job = built.job()
    built.write(job, "out", b"\x1b]0;title\x07 \xff\n")
    built.write(job, "err", b"red\n")
    text = on_screen("logs", str(job))
    assert "\u241b]0;title\u2407 \\xff\n" in text
    assert "\x1b[31mred\x1b[0m\n" in text
    assert on_screen("logs", str(job), "--raw") == "\x1b]0;title\x07 \udcff\nred\n"


@pytest.mark.slow
def test_logs_in_json_are_a_line_a_record(built, vigie):
    job = built.job()
    built.write(job, "out", b"a\xff\nb")
    built.lengths(job, (NOW, 4, 0))
    lines = [json.loads(line) for line in vigie("logs", str(job), "--json", check=True).stdout.splitlines()]
    assert [(one["seq"], one["stream"], one["text"]) for one in lines] == [
        (0, "output", "a\udcff\n"),
        (3, "output", "b"),
    ]
    assert lines[0].keys() >= {"seq", "attempt", "time", "stream", "level", "text"}


@pytest.mark.slow
def test_several_logs_say_on_a_terminal_whose_turn_it_is(built, vigie):
    first, second = built.job(name="one"), built.job()
    built.write(first, "out", b"1\n")
    built.write(second, "out", b"2\n")
    assert f"==> {first} (one)" in ESCAPES.sub("", on_screen("logs", str(first), str(second)))
    assert vigie("logs", str(first), str(second)).stdout == "1\n2\n"
    assert vigie("logs", "-", input=f"{second}\n").stdout == "2\n"


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_logs_quietly(built, vigie):
    job = built.job()
    built.write(job, "out", b"line\n" * 500_000)
    live = vigie.popen("logs", str(job))
    assert live.stdout.readline() == b"line\n"
    live.stdout.close()
    assert live.wait(30) == 141
    assert live.stderr.read() == b""


@pytest.mark.slow
def test_logs_follow_shows_what_comes_and_ends_with_the_job(built, vigie):
    job = built.job("running")
    live = vigie.popen("logs", "-f", str(job))
    for line in (b"one\n", b"two\n"):
        built.write(job, "out", line)
        assert live.stdout.readline() == line
    built.write(job, "out", b"last")
    built.db.execute("UPDATE jobs SET state = 'completed', finished = ? WHERE id = ?", (NOW, job))
    assert live.stdout.read() == b"last"
    assert live.wait(30) == 0


# --- why -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_why_quotes_the_end_of_the_errors(built, vigie):
    job = built.job("failed", name="copy", reason="exit", exit_code=127)
    built.attempt(job, exit_code=127)
    built.write(job, "err", b"".join(b"line %d\n" % i for i in range(20)) + b"sh: nope: not found\x1b[2J\n")
    text = vigie("why", "copy", check=True).stdout
    assert "exit code 127, a shell did not find the command" in text
    assert "  | sh: nope: not found\u241b[2J" in text
    assert "line 12" not in text
    found = json.loads(vigie("why", "copy", "--json", check=True).stdout)
    assert f"vigie retry {job}" in found["next"]


@pytest.mark.slow
def test_why_at_an_instant_asks_the_events(built, vigie):
    job = built.job(name="copy")
    built.event("submitted", job, at=NOW, after="queued", uid=1, program="vigie start")
    built.event("claimed", job, at=NOW + 60 * SECOND, before="queued", after="running", detail='{"attempt": 1}')
    built.event("ended", job, at=NOW + 120 * SECOND, before="running", after="completed")

    def at(instant: int) -> str:
        from vigie.view import instant as written

        return " ".join(vigie("why", "copy", "--at", written(instant) or "", check=True).stdout.split())

    assert "was queued" in at(NOW + 30 * SECOND)
    assert "(submitted by vigie start)" in at(NOW + 30 * SECOND)
    assert "was running" in at(NOW + 90 * SECOND)
    assert "Next came ended, 30s later and it became completed." in at(NOW + 90 * SECOND)
    assert "did not exist" in at(NOW - SECOND)
