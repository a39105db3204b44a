"""Faults of ``vigie map`` that were found by using it badly, each with the least that shows it."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import termios
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import HomeUnderTest, kill, until
from test_shellmap_parts import Kept, ended, outcomes, written
from test_shellmap_run import WAITS, Program, begun, interrupt, slow, state, touch, words
from vigie.cli.main import main
from vigie.engines.commands import Commands
from vigie.engines.threads import Inline
from vigie.engines.watch import Watch
from vigie.parallel.course import PAUSE, Course
from vigie.parallel.plan import Plan
from vigie.shellmap.outlets import Files, Lines
from vigie.shellmap.sinks import Sink, pieces

#: More than whatever goes on writing writes until somebody looks.
ENDLESS = 2_000_000_000
#: Told to end, it cleans up for a moment; whoever started it ends at once.
TIDY = (
    "sh -c 'trap \"sleep 0.3; : > tidied; exit\" TERM; : > ready; while :; do sleep 0.01; done' &"
    " echo $1 >> begun; wait"
)
READY = "until [ -e ready ]; do sleep 0.01; done"


def joblog(home: HomeUnderTest) -> list[list[str]]:
    """Give number and exit status of each command in the list, in order."""
    lines = Path(home.user, "log").read_text().splitlines()
    fields = [line.split("\t") for line in lines[1:]]
    assert {len(one) for one in fields} <= {9}
    return [[one[0], one[6]] for one in fields]


def waiting(fd: int) -> int:
    """Give how many bytes there are in a pipe."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), "little")


# Callers with habits ---------------------------------------------------------------------


@slow
def test_a_caller_that_ignores_the_end_of_its_children(vigie: Program, home: HomeUnderTest) -> None:
    line = words("-j2", "--retries", "1", "--joblog", "log", script="echo $1 >> begun; exit $1", items=["0", "3", "0"])
    live = vigie.popen(*line, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert live.wait(timeout=60) == 1
    assert sorted(joblog(home)) == [["1", "0"], ["2", "3"], ["3", "0"]]
    assert sorted(begun(home)) == ["0", "0", "3", "3"]


@slow
@pytest.mark.parametrize("option", [[], ["--line-buffer"], ["--json"]])
def test_what_a_command_left_behind_may_write_on(vigie: Program, home: HomeUnderTest, option: list[str]) -> None:
    home.leftovers_expected = True
    live = vigie.popen(*words(*option, script="echo first; yes & :", items=["1"]))
    size, head = 0, b""
    try:
        while size < ENDLESS and (block := live.stdout.read1(1 << 20)):
            head = head if len(head) > 1_000 else head + block
            size += len(block)
    finally:
        for process in home.leftovers():
            if "yes" in process.argv:
                kill(process)
    assert size < ENDLESS
    assert b"first" in head
    assert live.wait(timeout=60) == 0


@slow
@pytest.mark.parametrize(
    ("option", "signals"),
    [([], [signal.SIGINT] * 2), (["--line-buffer"], [signal.SIGINT] * 2), (["--json"], [signal.SIGHUP])],
)
def test_it_ends_though_nobody_reads(
    vigie: Program, home: HomeUnderTest, option: list[str], signals: list[signal.Signals]
) -> None:
    read, write = os.pipe()
    script = "echo $1 >> begun; case $1 in 1) head -c 300000 /dev/zero ;; *) sleep 600 ;; esac"
    live = vigie.popen(*words("-j2", *option, script=script, items=list("123")), stdout=write)
    os.close(write)
    until(lambda: waiting(read) >= 1 << 15 and len(begun(home)) >= 2)
    for number in signals:
        interrupt(live, number)
    assert live.wait(timeout=60) == 128 + signals[0]
    os.close(read)
    until(lambda: not home.leftovers(), what="nothing to be left")


@slow
def test_the_terminal_may_ask_for_an_end_by_another_signal(vigie: Program, home: HomeUnderTest) -> None:
    live = vigie.popen(*words("-j2", script=WAITS, items=list("123")))
    until(lambda: len(begun(home)) == 2)
    interrupt(live, signal.SIGQUIT)
    assert live.wait(timeout=60) == 128 + signal.SIGQUIT
    until(lambda: not home.leftovers(), what="nothing to be left")
    assert len(begun(home)) == 2


@slow
def test_a_name_longer_than_a_pipe_fails_alone(vigie: Program, home: HomeUnderTest) -> None:
    line = ["map", "-j1", "--line-buffer", "--joblog", "log", "--", "{}", ":::", "x" * 100_000, "true"]
    done = vigie(*line, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("vigie map: cannot run xxx")
    assert joblog(home) == [["1", "127"], ["2", "0"]]


@slow
def test_a_reader_that_is_late_gets_all_commands(vigie: Program, home: HomeUnderTest) -> None:
    items = [f"{number:0100}" for number in range(3_000)]
    Path(home.user, "list").write_text("\n".join(items) + "\n")
    read, write = os.pipe()
    os.set_blocking(write, False)
    live = vigie.popen("map", "--dry-run", "-a", "list", "--", "echo", stdout=write)
    os.close(write)
    until(lambda: (waiting(read) >= 1 << 15 and state(live.pid) == "S") or live.poll() is not None)
    with open(read, "rb") as file:
        assert file.read().decode().splitlines() == [f"echo {item}" for item in items]
    assert live.wait(timeout=60) == 0


# Lists of an earlier run -------------------------------------------------------------------


@slow
def test_a_torn_line_is_cut_off(vigie: Program, home: HomeUnderTest) -> None:
    line = words("-j1", "--joblog", "log", script="echo $1 >> begun; exit $1", items=["0", "3", "0"])
    assert vigie(*line).returncode == 1
    path = Path(home.user, "log")
    whole = path.read_bytes().splitlines(keepends=True)
    os.truncate(path, path.stat().st_size - len(whole[-1]) + 5)
    for many in (1, 2):
        done = vigie("map", "--resume-failed", *line[1:])
        assert (done.returncode, done.stderr) == (1, "")
        assert joblog(home) == [["1", "0"], ["2", "3"], ["2", "3"], ["3", "0"], ["2", "3"]][: 3 + many]
    assert path.read_bytes().splitlines(keepends=True)[:3] == whole[:3]
    assert begun(home) == ["0", "3", "0", "3", "0", "3"]


@slow
def test_a_list_is_one_runs_at_a_time(vigie: Program, home: HomeUnderTest) -> None:
    line = words("-j1", "--joblog", "log", script=f"[ $1 = 1 ] || {{ {WAITS}; }}", items=["1", "2"])
    live = vigie.popen(*line)
    until(lambda: begun(home))
    before = Path(home.user, "log").read_bytes()
    for option in ([], ["--resume-joblog"], ["--resume-failed"]):
        done = vigie("map", *option, *line[1:])
        assert (done.returncode, done.stdout) == (125, "")
        assert "another run writes it" in done.stderr
    assert Path(home.user, "log").read_bytes() == before
    touch(home, "go")
    assert live.communicate(timeout=60)[0] == b"2 well\n"
    assert live.returncode == 0
    assert joblog(home) == [["1", "0"], ["2", "0"]]
    assert begun(home) == ["2"]


@slow
def test_items_that_come_up_twice_are_two_commands(vigie: Program, home: HomeUnderTest) -> None:
    line = words("-j1", "--resume", "mine", script="echo $1 >> begun", items=["a", "b", "a"])
    vigie(*line, check=True)
    assert begun(home) == ["a", "b", "a"]
    vigie(*line, check=True)
    assert begun(home) == ["a", "b", "a"]
    vigie(*line, "a", check=True)
    assert begun(home) == ["a", "b", "a", "a"]


@slow
def test_a_try_has_its_files_to_itself(vigie: Program, home: HomeUnderTest) -> None:
    late = "until [ -e go ]; do sleep 0.01; done; echo late; echo late >&2; : > wrote"
    script = (
        f"if [ -e tried ]; then echo again; : > go; until [ -e wrote ]; do sleep 0.01; done; exit 0; fi;"
        f": > tried; echo first; ({late}) & exit 1"
    )
    done = vigie(*words("--results", "kept", "--retries", "1", script=script, items=["1"]))
    assert (done.returncode, done.stdout, done.stderr) == (0, "again\n", "")
    assert Path(home.user, "kept", "1", "stdout").read_text() == "again\n"
    assert Path(home.user, "kept", "1", "stderr").read_text() == ""


# Ends ---------------------------------------------------------------------------------------


@slow
@pytest.mark.parametrize("end", ["midst", "end"])
def test_the_rest_of_a_group_has_its_grace(vigie: Program, home: HomeUnderTest, end: str) -> None:
    if end == "midst":
        script = f"case $1 in 1) {TIDY} ;; *) until [ -e tidied ]; do sleep 0.01; done ;; esac"
        options = ["-j1", "--timeout", "1s"]
    else:
        script = f"case $1 in 1) {TIDY} ;; *) {READY}; exit 1 ;; esac"
        options = ["-j2", "--halt", "now,fail=1"]
    done = vigie(*words(*options, script=script, items=["1", "2"]))
    assert done.returncode == 1
    assert Path(home.user, "tidied").exists()
    until(lambda: not home.leftovers(), what="nothing to be left")


@slow
def test_the_rest_of_a_group_has_no_more_than_that(vigie: Program, home: HomeUnderTest) -> None:
    stays = "sh -c 'trap \"\" TERM; : > ready; while :; do sleep 0.01; done' & wait"
    script = f"case $1 in 1) {stays} ;; *) {READY}; exit 1 ;; esac"
    done = vigie(*words("-j2", "--halt", "now,fail=1", script=script, items=["1", "2"]))
    assert done.returncode == 1
    until(lambda: not home.leftovers(), timeout=1.0, what="nothing to be left")


@slow
def test_the_time_that_a_run_is_stopped_counts_for_nobody(vigie: Program, home: HomeUnderTest) -> None:
    home.leftovers_expected = True
    stray = "setsid sh -c 'echo $$ > stray; exec sleep 600' & until [ -s stray ]; do sleep 0.01; done"
    live = vigie.popen(*words("--timeout", "2s", script=f"{stray}; echo $$ > number; {WAITS}", items=["1"]))
    until(lambda: begun(home))
    pids = [Path(home.user, name).read_text().strip() for name in ("number", "stray")]
    interrupt(live, signal.SIGTSTP)
    _, status = os.waitpid(live.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    until(lambda: [state(pid) for pid in pids] == ["T", "T"])
    touch(home, "go")
    since = time.monotonic()
    until(lambda: time.monotonic() > since + 2.1)
    assert [state(pid) for pid in pids] == ["T", "T"]
    live.send_signal(signal.SIGCONT)
    assert live.communicate(timeout=60)[0] == b"1 well\n"
    assert live.returncode == 0
    assert state(pids[1]) != "T"


#: The first fails while the second runs, which goes on until the first has been waited for.
FAILS = (
    "case $1 in 1) echo $$ > number; until [ -e begun ]; do sleep 0.01; done; exit 1 ;; "
    "2) echo 2 >> begun; while kill -0 $(cat number) 2>/dev/null; do sleep 0.01; done; "
)


@slow
def test_what_is_not_tried_again_after_a_signal_has_failed(vigie: Program, home: HomeUnderTest) -> None:
    script = f"{FAILS} : > failed; {WAITS} ;; esac"
    line = words("-k", "-j2", "--retries", "1", "--delay", "1s", "--joblog", "log", script=script, items=list("123"))
    live = vigie.popen(*line)
    until(lambda: Path(home.user, "failed").exists())
    interrupt(live, signal.SIGINT)
    assert b"starts no more" in live.stderr.readline()
    touch(home, "go")
    assert live.communicate(timeout=60)[0] == b"2 well\n"
    assert live.returncode == 130
    assert joblog(home) == [["1", "1"], ["2", "0"]]


@slow
@pytest.mark.parametrize("option", [[], ["-k"]])
def test_what_is_not_tried_again_after_a_halt_has_failed(
    vigie: Program, home: HomeUnderTest, option: list[str]
) -> None:
    options = ["-j2", "--halt", "soon,done=1", "--retries", "1", "--delay", "1s", "--joblog", "log", *option]
    done = vigie(*words(*options, script=f"{FAILS} ;; esac", items=list("123")))
    assert done.returncode == 1
    assert sorted(joblog(home)) == [["1", "1"], ["2", "0"]]


def test_a_drained_course_says_what_became_of_each() -> None:
    def fails(item: str) -> None:
        raise ValueError(item)

    plan = Plan(errors="collect", retries=3, rate="1/h", clock=lambda: 100.0)
    course = Course(Inline(fails, None), ["a", "b"], plan)
    results = course.drive(waits=False)
    assert next(results) is PAUSE
    while not course.has_again():
        course.pump(0)
    course.drain()
    (outcome,) = list(results)
    assert (outcome.index, outcome.attempts, repr(outcome.error)) == (0, 1, "ValueError('a')")
    assert (course.tally.done, course.tally.failed) == (0, 1)


# In the background ----------------------------------------------------------------------------


@slow
def test_what_was_skipped_has_not_failed(vigie: Program, home: HomeUnderTest) -> None:
    job = vigie("map", "--background", *words("-j1", script=WAITS, items=list("abc"))[1:], check=True).stdout.strip()
    until(lambda: begun(home) == ["a"])
    vigie("skip", job, "1", "0", check=True)
    until(lambda: begun(home) == ["a", "c"])
    touch(home, "go")
    assert vigie("wait", job).returncode == 0
    assert '"state": "completed"' in vigie("show", job, "--json", check=True).stdout
    assert begun(home) == ["a", "c"]


@slow
@pytest.mark.parametrize("line", ["--load x", "--memfree x", "--nice x", "--tmpdir /no/such"])
def test_no_job_is_made_of_what_makes_no_sense(
    line: str, capfd: pytest.CaptureFixture[str], home: HomeUnderTest
) -> None:
    assert main(["map", "--background", *line.split(), "--", "echo", ":::", "a"]) == 125
    out, err = capfd.readouterr()
    assert out == ""
    assert line.split(maxsplit=1)[0] in err.splitlines()[0]
    assert home.processes() == []


# Parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_few_files_make_fewer_run_and_lose_nothing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    outlet = Files()
    engine = Commands(lambda items, seq, slot: [b"sh", b"-c", b"echo $0", *items], 4, outlet)
    plainly = outlet.open
    asked, refused = [], []

    def open_or_not(done: Any) -> tuple[int, int]:
        asked.append(done.seq)
        if engine.busy() and len(asked) % 2 == 0:
            refused.append(done.seq)
            raise OSError(number, os.strerror(number))
        return plainly(done)

    monkeypatch.setattr(outlet, "open", open_or_not)
    found = outcomes(engine, [b"%d" % at for at in range(12)])
    assert refused
    assert [outcome.error for outcome in found] == [None] * 12
    assert [os.pread(outcome.value.out, 100, 0) for outcome in found] == [b"%d\n" % at for at in range(12)]
    assert 1 <= engine.limit < 4
    assert {outcome.value.slot for outcome in found} <= {1, 2, 3, 4}


class Answering(Kept):
    """A sink of which each write has somebody write more to where it came from, up to a point."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.data) < 1_000:
            os.write(self._fd, b"more\n")


def test_lines_that_come_while_the_last_are_taken_are_not_waited_for() -> None:
    kept: dict[int, Kept] = {2: Kept()}
    read, ours = os.pipe()
    os.close(read)
    kept[1] = Answering(ours)  # the end of the pipe, once there is one
    lines, watch = Lines(lambda number, items: kept[number], None, keep_order=False), Watch()
    lines.attach(watch)
    done = ended()
    out, _ = lines.open(done)
    os.dup2(out, ours)
    lines.begun(done)
    os.write(ours, b"first\nlast")
    lines.ended(done)
    assert kept[1].data == b"first\nlast"
    watch.close()
    os.close(ours)


def test_a_file_that_grows_while_it_is_copied_is_copied_as_it_was() -> None:
    source = written(b"x" * 300_000)
    taken = 0
    for piece in pieces(source):
        os.write(source, piece)
        taken += len(piece)
        assert taken <= 300_000
    size = os.fstat(source).st_size
    read, write = os.pipe()
    got = []

    def reader() -> None:
        while sum(got) < 10 * size and (block := os.read(read, 1 << 16)):
            os.write(source, block)
            got.append(len(block))
        os.close(read)

    thread = threading.Thread(target=reader)
    thread.start()
    Sink(write).copy(source)
    os.close(write)
    thread.join()
    assert sum(got) == size
    os.close(source)


@pytest.fixture(params=["epoll", "poll"])
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Watch:
    if request.param == "poll":
        monkeypatch.delattr(select, "epoll", raising=False)
    elif not hasattr(select, "epoll"):
        pytest.skip("the system has no epoll")
    return Watch()


def test_what_was_removed_meanwhile_is_not_called(watch: Watch) -> None:
    pipes = [os.pipe() for _ in range(2)]
    called = []

    def call(at: int) -> None:
        called.append(at)
        for read, _ in pipes:
            watch.remove(read)

    for at, (read, write) in enumerate(pipes):
        watch.add(read, lambda at=at: call(at))
        os.write(write, b"news")
    watch.wait(30.0)
    assert len(called) == 1
    watch.wait(0)
    assert len(called) == 1
    watch.close()
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


@slow
def test_what_is_awaited_comes_in_one_wait(watch: Watch) -> None:
    read, write = os.pipe()
    called = []
    watch.add(read, lambda: called.append(os.read(read, 9)))
    later = threading.Timer(0.3, os.write, (write, b"news"))
    later.start()
    watch.wait(60.0)
    assert called == [b"news"]
    os.close(write)
    watch.wait(60.0)
    assert called == [b"news", b""]
    watch.remove(read)
    watch.remove(read)
    watch.close()
    os.close(read)
