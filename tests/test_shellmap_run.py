"""``vigie map`` as a program: its signals, its pipes, what it keeps, and what it does when something is amiss."""

from __future__ import annotations

import errno
import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import HomeUnderTest, until
from vigie.cli.main import main
from vigie.model import cores

Program = Any

slow = pytest.mark.slow

#: Says that it has begun, and waits for a file.
WAITS = 'echo $1 >> begun; until [ -e go ]; do sleep 0.01; done; echo "$1 well"'
#: It and its child do not mind SIGTERM.
STUBBORN = 'trap "" TERM; (sleep 600; :) & echo $1 >> begun; sleep 600; :'


def words(*options: str, script: str, items: list[str]) -> list[str]:
    return ["map", *options, "--", "sh", "-c", script, "sh", "{}", ":::", *items]


def begun(home: HomeUnderTest) -> list[str]:
    path = Path(home.user, "begun")
    return path.read_text().split() if path.exists() else []


def touch(home: HomeUnderTest, name: str) -> None:
    Path(home.user, name).touch()


def state(pid: int | str) -> str:
    """Give what a process is doing: S waits, T is stopped."""
    return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]


def interrupt(live: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a program once it waits for something."""
    until(lambda: state(live.pid) == "S")
    live.send_signal(number)


# Its end ---------------------------------------------------------------------------


@slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_lets_what_runs_finish(vigie: Program, home: HomeUnderTest, number: int) -> None:
    live = vigie.popen(*words("-j2", "--retries", "3", "--joblog", "log", script=WAITS, items=list("1234")))
    until(lambda: len(begun(home)) == 2)
    interrupt(live, number)
    assert live.stderr.readline().startswith(b"vigie map: starts no more; waits for 2 that run")
    touch(home, "go")
    out, _ = live.communicate(timeout=60)
    assert live.returncode == 128 + number
    assert sorted(out.splitlines()) == [b"1 well", b"2 well"]
    assert sorted(begun(home)) == ["1", "2"]
    assert len(Path(home.user, "log").read_bytes().splitlines()) == 3


@slow
@pytest.mark.parametrize("signals", [[signal.SIGINT] * 2, [signal.SIGINT] * 3, [signal.SIGHUP], [signal.SIGTERM] * 2])
def test_the_next_signal_ends_all_that_runs(vigie: Program, home: HomeUnderTest, signals: list[int]) -> None:
    many = len(signals)
    script = STUBBORN if many == 3 else WAITS.replace("echo $1", "sleep 600 & echo $1", 1)
    live = vigie.popen(*words("-j3", script=script, items=list("12345")))
    until(lambda: len(begun(home)) == 3)
    for at, number in enumerate(signals):
        interrupt(live, number)
        if at == 0 and many > 1:
            assert b"starts no more" in live.stderr.readline()
    assert live.wait(timeout=60) == 128 + signals[0]
    until(lambda: not home.leftovers(), what="nothing to be left")
    assert len(begun(home)) == 3


@slow
def test_commands_that_do_not_mind_are_killed_a_moment_later(vigie: Program, home: HomeUnderTest) -> None:
    live = vigie.popen(*words("-j2", script=STUBBORN, items=list("12")))
    until(lambda: len(begun(home)) == 2)
    interrupt(live, signal.SIGINT)
    assert b"starts no more" in live.stderr.readline()
    interrupt(live, signal.SIGINT)
    assert live.wait(timeout=60) == 130
    until(lambda: not home.leftovers(), what="nothing to be left")


@slow
def test_what_has_ended_is_shown_though_one_before_it_is_not_tried_again(vigie: Program, home: HomeUnderTest) -> None:
    script = f"case $1 in 1) until [ -e begun ]; do sleep 0.01; done; : > failed; exit 1 ;; 2) {WAITS} ;; esac"
    line = words("-k", "-j2", "--retries", "1", "--delay", "1s", "--joblog", "log", script=script, items=list("123"))
    live = vigie.popen(*line)
    until(lambda: Path(home.user, "failed").exists())
    # Its next try has to wait for a second after the second one's start.
    interrupt(live, signal.SIGINT)
    assert b"starts no more" in live.stderr.readline()
    touch(home, "go")
    assert live.communicate(timeout=60)[0] == b"2 well\n"
    assert live.returncode == 130
    assert Path(home.user, "log").read_text().endswith("sh 2\n")


@slow
def test_a_signal_ends_the_wait_for_an_item(vigie: Program, home: HomeUnderTest) -> None:
    live = vigie.popen("map", "--", "echo", stdin=subprocess.PIPE)
    live.stdin.write(b"first\n")
    live.stdin.flush()
    assert live.stdout.readline() == b"first\n"
    interrupt(live, signal.SIGINT)
    assert live.wait(timeout=60) == 130


#: A signal is taken by another thread, so that it does not interrupt what the main one waits in.
APART = """
import signal, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
from vigie.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@slow
def test_a_signal_is_heeded_that_does_not_interrupt_the_wait(vigie: Program, home: HomeUnderTest) -> None:
    line = [sys.executable, "-c", APART, *words("-j1", script=WAITS, items=list("12"))]
    with subprocess.Popen(line, cwd=home.user, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as live:
        until(lambda: begun(home))
        interrupt(live, signal.SIGINT)
        assert live.stderr is not None
        poll = select.poll()
        poll.register(live.stderr, select.POLLIN)
        said = poll.poll(3_000)
        touch(home, "go")
        live.communicate(timeout=60)
        assert said
    assert live.returncode == 130
    assert begun(home) == ["1"]


@slow
def test_ctrl_z_stops_what_runs_too(vigie: Program, home: HomeUnderTest) -> None:
    live = vigie.popen(*words("-j1", script=f"echo $$ > number; {WAITS}", items=["1"]))
    until(lambda: begun(home))
    command = Path(home.user, "number").read_text().strip()

    interrupt(live, signal.SIGTSTP)
    until(lambda: (state(live.pid), state(command)) == ("T", "T"))
    live.send_signal(signal.SIGCONT)
    touch(home, "go")
    assert live.communicate(timeout=60)[0] == b"1 well\n"
    assert live.returncode == 0


#: Runs it from a process that is small: what a child once shared with its parent counts as its own. In kB.
PEAK = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "vigie", *sys.argv[1:]]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


@slow
@pytest.mark.parametrize("option", [[], ["--line-buffer"], ["--json"], ["--prefix"]])
def test_nothing_runs_on_when_nobody_reads(vigie: Program, home: HomeUnderTest, option: list[str]) -> None:
    script = "case $1 in a) echo a ;; b) until [ -e go ]; do sleep 0.01; done; echo b ;; *) sleep 600 ;; esac"
    live = vigie.popen(*words("-j3", *option, script=script, items=list("abcc")))
    assert b"a" in live.stdout.readline()
    live.stdout.close()
    touch(home, "go")
    assert live.wait(timeout=60) == 141
    assert live.stderr.read() == b""
    until(lambda: not home.leftovers(), what="nothing to be left")


@slow
def test_a_full_disk_is_an_error_of_its_own(vigie: Program, home: HomeUnderTest) -> None:
    for option in ([], ["--line-buffer"], ["--json"], ["--dry-run"]):
        with open("/dev/full", "wb") as full:
            live = vigie.popen("map", *option, "--", "echo", ":::", "a", stdout=full)
            assert live.wait(timeout=60) == 125
        assert b"No space left on device" in live.stderr.read()


@slow
@pytest.mark.parametrize("way", ["timeout", "signals"])
def test_what_left_the_group_is_ended_too(vigie: Program, home: HomeUnderTest, way: str) -> None:
    home.leftovers_expected = True
    option = ["--timeout", "300ms"] if way == "timeout" else []
    live = vigie.popen(*words(*option, script="setsid sleep 600 & echo $1 >> begun; wait", items=["1"]))
    until(lambda: begun(home))
    if way == "signals":
        interrupt(live, signal.SIGINT)
        assert b"starts no more" in live.stderr.readline()
        interrupt(live, signal.SIGINT)
    assert live.wait(timeout=60) == (1 if way == "timeout" else 130)
    until(lambda: not home.leftovers(), what="nothing to be left")


@slow
def test_a_command_that_takes_too_long_ends_with_its_group(vigie: Program, home: HomeUnderTest) -> None:
    done = vigie(*words("-j2", "--timeout", "300ms", "--json", script="sleep 600 & echo $1; wait", items=list("12")))
    assert done.returncode == 2
    for line in map(json.loads, done.stdout.splitlines()):
        assert (line["timed_out"], line["exit"], line["signal"], line["tries"]) == (True, None, 15, 1)
        assert line["stdout"] == line["items"][0] + "\n"
    until(lambda: not home.leftovers(), what="nothing to be left")


@slow
def test_a_command_may_say_something_when_it_is_ended(vigie: Program, home: HomeUnderTest) -> None:
    script = 'trap "echo ended; exit 0" TERM; while :; do sleep 0.01; done'
    done = vigie(*words("--timeout", "300ms", "--joblog", "log", script=script, items=["1"]))
    assert (done.returncode, done.stdout) == (1, "ended\n")
    assert Path(home.user, "log").read_text().splitlines()[1].split("\t")[6:8] == ["-1", "15"]


@slow
def test_what_halted_a_run_counts_whatever_the_others_give(vigie: Program, home: HomeUnderTest) -> None:
    script = (
        'trap "exit 0" TERM; case $1 in 1) until [ -e begun ]; do sleep 0.01; done; exit 1;; esac;'
        "echo $1 > begun; while :; do sleep 0.01; done"
    )
    done = vigie(*words("-j2", "--halt", "now,fail=1", script=script, items=list("12")))
    assert done.returncode == 1


# Items that come slowly, output that is large ------------------------------------------


@slow
@pytest.mark.parametrize("option", [[], ["-k"], ["--line-buffer"], ["--json"], ["-u"], ["-n2"]])
def test_items_of_an_open_pipe_are_run_as_they_come(vigie: Program, home: HomeUnderTest, option: list[str]) -> None:
    live = vigie.popen("map", *option, "--", "echo", stdin=subprocess.PIPE)
    for item in (b"a", b"b"):
        live.stdin.write(item + b"\n" + (b"x\n" if option == ["-n2"] else b""))
        live.stdin.flush()
        assert item in live.stdout.readline()
    assert live.communicate(timeout=60) == (b"", b"")
    assert live.returncode == 0


@slow
def test_one_is_tried_again_while_no_other_item_has_come(vigie: Program, home: HomeUnderTest) -> None:
    script = "if [ -e tried ]; then echo again; else : > tried; exit 1; fi"
    live = vigie.popen("map", "--retries", "1", "--", "sh", "-c", script, stdin=subprocess.PIPE)
    live.stdin.write(b"a\n")
    live.stdin.flush()
    poll = select.poll()
    poll.register(live.stdout, select.POLLIN)
    try:
        assert poll.poll(3_000)
    finally:
        live.communicate(timeout=60)


@slow
@pytest.mark.parametrize("option", [[], ["--line-buffer"], ["--prefix"], ["--json"], ["-k", "--line-buffer"]])
def test_memory_does_not_grow_with_the_output(vigie: Program, home: HomeUnderTest, option: list[str]) -> None:
    size = 200_000_000
    with subprocess.Popen(["wc", "-c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as counts:
        assert counts.stdin is not None
        assert counts.stdout is not None
        script = f"head -c {size} /dev/zero | tr '\\0' a"
        line = [sys.executable, "-c", PEAK, *words("-j1", *option, script=script, items=["1"])]
        live = subprocess.Popen(line, cwd=home.user, stdout=counts.stdin, stderr=subprocess.PIPE)
        counts.stdin.close()
        written = int(counts.stdout.read())
    assert int(live.communicate(timeout=60)[1]) < 100_000
    assert live.returncode == 0
    assert written >= size


@slow
def test_a_straggler_holds_back_more_than_there_are_descriptors(vigie: Program, home: HomeUnderTest) -> None:
    items = [str(number) for number in range(1, 501)]
    script = "case $1 in 1) until [ $(wc -c < begun) -gt 12 ]; do sleep 0.01; done;; esac; echo $1 | tee -a begun"
    for option in (["-k"], ["-k", "--line-buffer"]):
        live = vigie.popen(
            *words("-j8", *option, script=script, items=items), preexec_fn=lambda: _descriptors(128), text=True
        )
        Path(home.user, "begun").write_text("")
        out, err = live.communicate(timeout=120)
        assert (out.split(), err, live.returncode) == (items, "", 0)


def _descriptors(soft: int, hard: int | None = None) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard or soft))


@slow
def test_with_k_as_many_run_at_once_as_without(vigie: Program, home: HomeUnderTest) -> None:
    items = [str(number) for number in range(20)]
    live = vigie.popen(*words("-k", "-j20", script=WAITS, items=items), preexec_fn=lambda: _descriptors(128))
    until(lambda: len(begun(home)) == 20)
    touch(home, "go")
    assert len(live.communicate(timeout=60)[0].splitlines()) == 20


@slow
def test_lines_that_wait_for_their_turn_need_descriptors_too(vigie: Program, home: HomeUnderTest) -> None:
    items = [str(number) for number in range(40)]
    script = f'echo "$1 first"; echo "$1 first" >&2; {WAITS}'
    line = words("-k", "--line-buffer", "-j40", script=script, items=items)
    live = vigie.popen(*line, preexec_fn=lambda: _descriptors(300))
    until(lambda: len(begun(home)) == 40 or live.poll() is not None)
    touch(home, "go")
    out, _ = live.communicate(timeout=60)
    assert live.returncode == 0
    assert out.decode().splitlines() == [text for item in items for text in (f"{item} first", f"{item} well")]


@slow
def test_commands_have_the_limits_that_they_would_have_alone(vigie: Program, home: HomeUnderTest) -> None:
    line = ["map", "-k", "--shell", "ulimit -Sn; echo {} >/dev/null", ":::", "a"]
    live = vigie.popen(*line, preexec_fn=lambda: _descriptors(256, 4096))
    assert live.communicate(timeout=60)[0] == b"256\n"


@slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_standard_stream_may_be_closed(vigie: Program, home: HomeUnderTest, closed: str) -> None:
    code = f'exec "$0" -m vigie map -- sh -c "echo out; echo err >&2; : > ran" ::: a {closed}'
    done = subprocess.run(["/bin/sh", "-c", code, sys.executable], cwd=home.user, capture_output=True, timeout=60)
    assert b"Traceback" not in done.stderr
    if closed == ">&-":
        assert done.returncode in (0, 125)
        return
    assert (done.returncode, done.stdout) == (0, b"out\n")
    assert done.stderr == (b"" if closed == "2>&-" else b"err\n")


@slow
def test_no_two_that_run_at_once_have_the_same_slot(vigie: Program, home: HomeUnderTest) -> None:
    script = "mkdir slot-$1 || exit 9; sleep 0.0$2; rmdir slot-$1; [ $1 -le 3 ] || exit 8; [ $2 -ge 3 ]"
    items = [str(number % 7) for number in range(60)]
    line = ["map", "-j3", "--retries", "1", "--json", "--", "sh", "-c", script, "sh", "{%}", "{}", ":::", *items]
    exits = [json.loads(text)["exit"] for text in vigie(*line).stdout.splitlines()]
    assert sorted(exits) == sorted(int(int(item) < 3) for item in items)


@slow
def test_commands_have_the_usual_signals(vigie: Program, home: HomeUnderTest) -> None:
    done = vigie("map", "--", "sh", "-c", "yes | head -n1; kill -INT $$", ":::", "a")
    assert (done.returncode, done.stdout, done.stderr) == (1, "y\n", "")


# What is kept --------------------------------------------------------------------------


@slow
def test_results_are_kept_as_files_too(vigie: Program, home: HomeUnderTest) -> None:
    script = 'echo "out $1"; echo err >&2; exit $1'
    done = vigie(*words("-k", "--results", "kept", script=script, items=["0", "3"]))
    assert (done.returncode, done.stdout, done.stderr) == (1, "out 0\nout 3\n", "err\nerr\n")
    for seq, status in ((1, 0), (2, 3)):
        where = Path(home.user, "kept", str(seq))
        assert (where / "stdout").read_text() == f"out {status}\n"
        assert (where / "stderr").read_text() == "err\n"
        found = json.loads((where / "result.json").read_text())
        assert found["argv"] == ["sh", "-c", script, "sh", str(status)]
        assert (found["seq"], found["items"], found["exit"], found["signal"]) == (seq, [str(status)], status, None)
    # Once more: what was there is written over.
    vigie("map", "--results", "kept", "--", "printf", "%s", ":::", "x", check=True)
    assert Path(home.user, "kept", "1", "stdout").read_text() == "x"


@slow
def test_what_was_done_is_left_out(vigie: Program, home: HomeUnderTest) -> None:
    line = words("-j1", "--resume", "mine", script="echo $1 >> begun; [ -e ok ] || [ $1 != b ]", items=["a", "b", "c"])
    assert vigie(*line).returncode == 1
    assert begun(home) == ["a", "b", "c"]
    touch(home, "ok")
    vigie(*line, "d", check=True)
    assert begun(home)[3:] == ["b", "d"]
    done = vigie(*line, "d", check=True)
    assert (done.stdout, begun(home)[5:]) == ("", [])
    vigie("map", "--fresh", *line[1:], check=True)
    assert begun(home)[5:] == ["a", "b", "c"]
    # The same items and another command.
    done = vigie("map", "--resume", "mine", "--", "echo", ":::", "a", check=True)
    assert "the command is another one than that of the earlier run" in done.stderr


@slow
@pytest.mark.parametrize("option", [["--resume", "mine"], ["--joblog", "log", "--resume-failed"]])
def test_a_killed_run_goes_on_where_it_was(vigie: Program, home: HomeUnderTest, option: list[str]) -> None:
    home.leftovers_expected = True  # nobody is there to end its command
    line = words("-j1", *option, script=f"[ $1 = c ] || touch go; {WAITS}; rm go", items=list("abcd"))
    live = vigie.popen(*line)
    until(lambda: begun(home) == list("abc"))
    live.kill()
    live.wait()
    touch(home, "go")
    until(lambda: not home.leftovers())
    touch(home, "go")
    vigie(*line, check=True)
    assert begun(home) == list("abccd")


@slow
def test_objects(vigie: Program, home: HomeUnderTest) -> None:
    script = 'printf "%s" "$1"; printf "\\377\\303" >&2; exit 3'
    items = [b"a", b"\xff\xfe", "\u00e9\U0001f600".encode(), b'"\\\n\x01']
    line = ["map", "-k", "--json", "--retries", "1", "--", "sh", "-c", script, "sh", "{}", ":::", *items]
    done = vigie(*line, text=False)
    assert (done.returncode, done.stderr) == (4, b"")
    found = [json.loads(text) for text in done.stdout.splitlines()]
    assert [os.fsencode(one["items"][0]) for one in found] == items
    assert [os.fsencode(one["stdout"]) for one in found] == items
    for seq, one in enumerate(found, 1):
        assert os.fsencode(one["stderr"]) == b"\xff\xc3"
        assert (one["seq"], one["exit"], one["signal"], one["timed_out"], one["tries"]) == (seq, 3, None, False, 2)
        assert one["began"] > 1e9
        assert one["seconds"] >= 0
    killed = json.loads(vigie(*words("--json", script="kill -9 $$", items=["1"])).stdout)
    assert (killed["exit"], killed["signal"]) == (None, 9)


# Commands that cannot be run ------------------------------------------------------------


@slow
def test_a_command_that_is_not_there_has_failed(vigie: Program, home: HomeUnderTest) -> None:
    for name in ("no-such-program", "./no-such-program"):
        for option in ([], ["--line-buffer"], ["-u"]):
            done = vigie("map", *option, "--joblog", "log", "--", name, ":::", "a", "b")
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.splitlines()[0].startswith(f"vigie map: cannot run {name}: ")
            lines = Path(home.user, "log").read_text().splitlines()[1:]
            assert [text.split("\t")[6] for text in lines] == ["127", "127"]


@slow
def test_a_file_that_is_no_program_has_failed(vigie: Program, home: HomeUnderTest) -> None:
    touch(home, "plain")
    done = vigie("map", "--json", "--", "./plain", ":::", "a")
    assert (done.returncode, json.loads(done.stdout)["exit"]) == (1, 126)
    assert json.loads(done.stdout)["stderr"] == "vigie map: cannot run ./plain: Permission denied\n"


@slow
def test_a_file_of_the_search_path_that_is_no_program_has_failed(vigie: Program, home: HomeUnderTest) -> None:
    touch(home, "plain")
    done = vigie("map", "--json", "--", "plain", ":::", "a", env={"PATH": f"{home.user}:{os.environ['PATH']}"})
    assert json.loads(done.stdout)["exit"] == 126


@slow
def test_a_script_without_a_first_line_runs(vigie: Program, home: HomeUnderTest) -> None:
    script = Path(home.user, "script")
    script.write_text('echo "ran $1"\n')
    script.chmod(0o755)
    assert vigie("map", "--", "./script", ":::", "a").stdout == "ran a\n"


@slow
def test_an_item_that_is_too_long_fails_alone(vigie: Program, home: HomeUnderTest) -> None:
    items = b"a\n" + b"x" * 3_000_000 + b"\nb\n"
    done = vigie("map", "-k", "-j1", "--", "echo", input=items, text=False)
    assert (done.returncode, done.stdout) == (1, b"a\nb\n")
    assert done.stderr == b"vigie map: cannot run echo: Argument list too long\n"


@slow
def test_no_items(vigie: Program, home: HomeUnderTest) -> None:
    for line in (["--", "echo"], ["--", "echo", ":::"], ["-k", "--progress", "--", "echo", ":::"]):
        done = vigie("map", *line)
        assert (done.returncode, done.stdout) == (0, ""), line


@slow
def test_items_that_look_like_options(vigie: Program, home: HomeUnderTest) -> None:
    items = ["-n", "--help", "--", "-j1", "--halt", ":::-", "-"]
    line = ["printf", "%s|", "{}", ":::", *items]
    for between in (["--"], []):
        done = vigie("map", "-k", "-j1", *between, *line, check=True)
        assert done.stdout == "".join(f"{item}|" for item in items)
    done = vigie("map", "-k", "-j1", "--", "printf", "%s|", input="\n".join(items), check=True)
    assert done.stdout == "".join(f"{item}|" for item in items)


@slow
def test_niceness(vigie: Program, home: HomeUnderTest) -> None:
    done = vigie("map", "--nice", "5", "--", "sh", "-c", "nice", ":::", "a", check=True)
    assert int(done.stdout) == min(19, os.nice(0) + 5)


@slow
def test_a_part_of_the_cores(vigie: Program, home: HomeUnderTest) -> None:
    for text, many in (("200%", 2 * cores()), ("1%", 1), ("3", 3)):
        slots = [str(number) for number in range(1, many + 1)] * 2
        done = vigie("map", "--dry-run", "-j", text, "--", "echo", "{%}", ":::", *slots, check=True)
        assert done.stdout.split()[1::2] == slots


@slow
def test_progress_on_a_terminal(vigie: Program, home: HomeUnderTest) -> None:
    ours, theirs = pty.openpty()
    live = vigie.popen(
        *words("-j1", "--progress", script=WAITS, items=["1", "2", "3"]), stderr=theirs, env={"TERM": "xterm"}
    )
    os.close(theirs)
    touch(home, "go")
    out = live.stdout.read()
    shown = b""
    try:
        while block := os.read(ours, 65536):
            shown += block
    except OSError as error:
        assert error.errno == errno.EIO  # its other end is closed
    os.close(ours)
    assert live.wait(timeout=60) == 0
    assert out == b"1 well\n2 well\n3 well\n"
    assert b"3" in shown
    assert b"sh" in shown


def _catches(pid: int, number: int) -> bool:
    """Tell whether a program has a handler for a signal: of this one only once its run has begun."""
    lines = Path("/proc", str(pid), "status").read_text().splitlines()
    (mask,) = (line.split()[1] for line in lines if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@slow
def test_a_machine_that_is_always_too_busy_runs_nothing(vigie: Program, home: HomeUnderTest) -> None:
    live = vigie.popen("map", "--memfree", "900T", "--", "touch", "ran", ":::", "a")
    until(lambda: _catches(live.pid, signal.SIGHUP))
    interrupt(live, signal.SIGINT)
    assert live.wait(timeout=60) == 130
    assert not Path(home.user, "ran").exists()


# Options that make no sense ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("-j 0", "-j"),
        ("-j x%", "-j"),
        ("-j nan%", "-j"),
        ("-j inf%", "-j"),
        ("--timeout x", "timeout"),
        ("--retries -1", "--retries"),
        ("--retries x", "--retries"),
        ("--delay x", "delay"),
        ("--rate x", "rate"),
        ("--load x", "--load"),
        ("--load nan", "--load"),
        ("--memfree x", "--memfree"),
        ("--nice x", "--nice"),
        ("--halt now", "--halt"),
        ("--halt never,fail=1", "--halt"),
        ("--halt now,fail=101%", "--halt"),
        ("--colsep (", "column separator"),
        ("--joblog /no/such", "--joblog"),
        ("--resume-joblog", "joblog"),
        ("--resume-failed", "joblog"),
        ("--fresh", "--fresh"),
        ("--resume a/b", "resume"),
        ("-u -k", "--ungroup"),
        ("--json --prefix", "--json"),
        ("--line-buffer --results d", "--results"),
        ("--queue q", "--queue"),
        ("--background --joblog f", "--joblog"),
        ("-0 -d ,", "-d"),
        ("--shell echo", "--shell"),
        ("--bogus", "--bogus"),
        ("-j 1000000000", "-j"),
        ("-n x", "--max-args"),
        ("-d \\", "-d"),
        ("--tmpdir /no/such", "--tmpdir"),
        ("--results /dev/null", "--results"),
        ("--nice 50", "between -40 and 40"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(
    line: str, named: str, capfd: pytest.CaptureFixture[str], home: HomeUnderTest
) -> None:
    assert main(["map", *line.split(), "--", "echo", ":::", "a"]) == 125
    out, err = capfd.readouterr()
    assert out == ""
    assert named in err.splitlines()[0]
    assert "this is a bug" not in err
