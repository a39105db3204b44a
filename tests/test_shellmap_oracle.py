"""``vigie map`` beside GNU parallel: both programs run the same commands over the same items.

What the words of a command become is in ``test_shellmap_words.py``; here it is what runs, in what order
it is shown, what is noted of it, and when it ends early. Commands wait for each other's files, never for
some time. Where Vigie differs on purpose, the test says both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need
from test_shellmap_words import NASTY

pytestmark = pytest.mark.slow

#: Scripts that both run: a word is a word, whether a shell has read it or not.
SCRIPTS = {
    "show": r"""for word; do printf '<%s>' "$word"; done; echo""",
    # Two pieces on each stream, the second when all of $2 have written the first.
    "pieces": """
        printf "$1 out" ; printf "$1 err" >&2; : > begun-$1
        until [ $(ls begun-* | wc -l) -ge $2 ]; do sleep 0.01; done
        echo " end" ; echo " end" >&2""",
    "ends": """
        echo "$1" >> ran
        case $1 in
            bad*) exit ${1#bad} ;;
            kill*) kill -${1#kill} $$ ;;
            long) exec sleep 600 ;;
            out*) head -c ${1#out} /dev/zero ;;
            both) echo to out; echo to err >&2 ;;
        esac""",
    # The first of them waits until the second is gone, and was waited for.
    "pair": """
        echo "$1" >> ran
        case $1 in
            forever) echo part; exec sleep 600 ;;
            first)
                until [ -s number ]; do sleep 0.01; done
                while kill -0 $(cat number) 2>/dev/null; do sleep 0.01; done
                echo finished >> ran ;;
            end*)
                until [ $(wc -l < ran) = 2 ]; do sleep 0.01; done
                echo found
                echo $$ > number.part; mv number.part number; exit ${1#end} ;;
        esac""",
    # Fails until it has been tried so often.
    "tries": """echo $1 >> ran; n=$(grep -cx $1 ran); echo "out $1 $n"; echo "err $1 $n" >&2; [ $n -gt $2 ]""",
}


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """Work in a directory of the test's own, with the scripts."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"HOME": str(tmp_path), "LC_ALL": "C", "SHELL": "/bin/sh"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VIGIE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PARALLEL", raising=False)
    # Else it takes the shell of whoever runs the tests.
    monkeypatch.setenv("PARALLEL_SHELL", "/bin/bash")
    monkeypatch.delenv("TMPDIR", raising=False)
    for name, text in SCRIPTS.items():
        Path(name).write_text(f"#!/bin/sh\n{text}\n")
        Path(name).chmod(0o755)


def by_parallel(*words, stdin=b""):
    return subprocess.run([need("parallel"), "--will-cite", *words], input=stdin, capture_output=True, timeout=60)


def by_vigie(*words, stdin=b""):
    line = [sys.executable, "-m", "vigie", "map", *words]
    return subprocess.run(line, input=stdin, capture_output=True, timeout=60)


PROGRAMS = (by_parallel, by_vigie)


def fresh():
    """Forget what commands have left."""
    for path in Path().iterdir():
        if path.name not in SCRIPTS and path.is_file():
            path.unlink()


def ran(sort=False):
    """Give the items that commands have noted, and forget them."""
    found = Path("ran").read_text().split() if os.path.exists("ran") else []
    fresh()
    return sorted(found) if sort else found


def each(*words, stdin=b""):
    """Give what both programs did."""
    found = []
    for program in PROGRAMS:
        fresh()
        found.append(program(*words, stdin=stdin))
    return found


def log(path="log"):
    """Give the lines of a joblog but for the times: Seq, Receive, Exitval, Signal, Command."""
    head, *lines = Path(path).read_bytes().splitlines()
    found = []
    for line in lines:
        fields = line.split(b"\t")
        assert fields[1] == b":"
        assert fields[4] == b"0"
        assert len(fields) == len(head.split(b"\t"))
        assert float(fields[2]) > 1e9
        assert 0 <= float(fields[3]) < 600
        found.append((int(fields[0]), int(fields[5]), int(fields[6]), int(fields[7]), fields[8].decode()))
    return head, found


# Items and output ------------------------------------------------------------------


def test_items_of_any_bytes_arrive_alike():
    stdin = b"".join(item + b"\0" for item in NASTY)
    theirs, ours = each("-0", "-k", "-j2", "./show", "{}", "x{}y", stdin=stdin)
    assert ours.stdout == theirs.stdout
    assert ours.stdout == b"".join(b"<%b><x%by>\n" % (item, item) for item in NASTY)
    assert (ours.returncode, ours.stderr) == (0, b"")
    words = [item for item in NASTY if b"\n" not in item]
    theirs, ours = each("-k", "-j2", "./show", ":::", *words)
    assert ours.stdout == theirs.stdout == b"".join(b"<%b>\n" % item for item in words)
    theirs, ours = each("-k", "./show", stdin=b"\n".join(words))
    assert ours.stdout == theirs.stdout


def test_combinations():
    for words in (
        ["./show", "{2}", "{1}", ":::", "a", "b", ":::", "1", "2", ":::+", "x", "y"],
        ["-n1", "./show", "{}", "{#}", "{.}", ":::", "a.b", "c.d"],
        ["-N3", "./show", "{1}-{3}", "{#}", ":::", *"abcdefg"],
        ["-N2", "./show", ":::", "a", "b", ":::", "1", "2", "3"],
        ["-a", "-", "-a", "file", "./show", "{2}{1}"],
        ["--colsep", ",", "./show", "{2}", "{1}", "{-1}"],
        ["-d", ",", "./show"],
        ["-r", "./show"],
    ):
        found = []
        for program, several in ((by_parallel, "-N"), (by_vigie, "-n")):
            Path("file").write_text("x\ny\n")
            line = [word.replace("-N", several) for word in words]
            found.append(program("-k", *line, stdin=b"1,2\n\n3,4\n"))
        theirs, ours = found
        assert ours.stdout == theirs.stdout, words
        assert ours.stdout.count(b"<") >= 2
        assert ours.returncode == theirs.returncode == 0


def test_output_in_the_order_of_items():
    script = Path("waits")
    # Each ends only when the one behind it has ended, but for the last.
    script.write_text(
        '#!/bin/sh\nuntil [ $1 = 6 ] || [ -e ended-$(($1 + 1)) ]; do sleep 0.01; done\necho "$1"\n'
        'echo "$1" >> ran; echo "$1 err" >&2; : > ended-$1\n'
    )
    script.chmod(0o755)
    line = script.read_text()
    for options in (["-k"], ["-k", "--line-buffer"]):
        for program in PROGRAMS:
            script.write_text(line)
            script.chmod(0o755)
            done = program(*options, "-j6", "./waits", ":::", *"123456")
            assert done.stdout == b"1\n2\n3\n4\n5\n6\n"
            assert done.stderr == b"".join(b"%d err\n" % n for n in range(1, 7))
            assert ran() == list("654321")


def test_output_of_commands_that_run_at_once_does_not_mix():
    items = "abcd"
    for options in ([], ["--line-buffer"]):
        theirs, ours = each("-j4", *options, "./pieces", "{}", "4", ":::", *items)
        for done in (theirs, ours):
            for stream, name in ((done.stdout, "out"), (done.stderr, "err")):
                assert sorted(stream.decode().splitlines()) == [f"{item} {name} end" for item in items], options
    # As it comes: what was written first, of all, stands before the rest.
    ours = each("-u", "-j4", "./pieces", "{}", "4", ":::", *items)[1]
    assert sorted(ours.stdout[: 5 * 4].decode()[at : at + 5] for at in range(0, 20, 5)) == [f"{i} out" for i in items]


def test_labels():
    for options in (["-k"], ["-k", "--line-buffer"]):
        theirs = by_parallel("--tag", *options, "./ends", ":::", "both", "x y")
        ours = by_vigie("--prefix", *options, "./ends", ":::", "both", "x y")
        assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr) == (b"both\tto out\n", b"both\tto err\n")
        words = ["printf", "a\\nb{}\\n\\n", ":::", "1", "2"]
        assert by_vigie("--prefix", *options, *words).stdout == by_parallel("-q", "--tag", *options, *words).stdout
        words = ["./show", ":::", "a b", "c", ":::", "1"]
        assert by_vigie("--prefix", *options, *words).stdout == by_parallel("--tag", *options, *words).stdout


def test_dry_run():
    for words in (["echo", "{}", "{.}x", "{#}", ":::", "a.b", "c-d", "/e/f"], ["-j1", "echo", "{%}", ":::", "1", "2"]):
        theirs, ours = each("-k", "--dry-run", *words)
        assert ours.stdout == theirs.stdout != b""
    done = by_vigie("--dry-run", "./ends", ":::", "a b", "it's", "\n")
    assert done.stdout.startswith(b"./ends 'a b'\n./ends ")
    again = subprocess.run(["/bin/sh", "-c", done.stdout], timeout=60)
    assert (again.returncode, Path("ran").read_text()) == (0, "a b\nit's\n\n\n")


# What is noted, and going on from it -------------------------------------------------

#: How they end, and what a joblog says of it: Receive, Exitval, Signal.
ENDS = {
    "ok": (0, 0, 0), "bad3": (0, 3, 0), "kill9": (0, 0, 9), "kill15": (0, 0, 15), "long": (0, -1, 15),
    "out1000": (1000, 0, 0), "both": (7, 0, 0), "bad255": (0, 255, 0), "a": (0, 0, 0),
}  # fmt: skip


def test_a_joblog_says_the_same():
    options = ["-k", "-j5", "--timeout", "1", "--joblog", "log"]
    expected = [(at, *ENDS[item], f"./ends {item}") for at, item in enumerate(ENDS, 1)]
    found = []
    for program in PROGRAMS:
        done = program(*options, "./ends", ":::", *ENDS)
        head, lines = log()
        assert lines == expected
        found.append((head, done.returncode, done.stdout))
        assert ran(sort=True) == sorted(ENDS)
    assert found[0] == found[1]
    assert found[0][0] == b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"


def test_a_newline_of_a_command_is_noted_alike():
    for program in PROGRAMS:
        program("-0", "-j1", "--joblog", "log", "./ends", "{}", stdin=b"a\nb\0c")
        lines = Path("log").read_bytes().splitlines()
        assert len(lines) == 3
        assert lines[1].endswith(b"\t./ends 'a\0b'")
        fresh()


def test_each_goes_on_with_the_joblog_of_the_other():
    items = ["ok", "bad3", "kill9", "a", "bad1"]
    more = [*items, "b", "bad2"]
    for first in PROGRAMS:
        first("-j1", "--joblog", "log", "./ends", ":::", *items)
        assert ran() == items
        first("-j1", "--joblog", "log", "./ends", ":::", *items)
        written = Path("log").read_bytes()
        for options, program, again in (
            (["--resume"], by_parallel, ["b", "bad2"]),
            (["--resume-joblog"], by_vigie, ["b", "bad2"]),
            (["--resume-failed"], by_parallel, ["bad3", "kill9", "bad1", "b", "bad2"]),
            (["--resume-failed"], by_vigie, ["bad3", "kill9", "bad1", "b", "bad2"]),
        ):
            fresh()
            Path("log").write_bytes(written)
            done = program("-j1", "--joblog", "log", *options, "./ends", ":::", *more)
            assert done.returncode == sum(item != "b" for item in again)
            lines = log()[1]
            assert Path("log").read_bytes().startswith(written)
            assert [line[0] for line in lines[5:]] == [more.index(item) + 1 for item in again]
            assert ran() == again, (first, program, options)
            # And once more, from what both have written.
            Path("log").write_bytes(written + b"".join(_again(written, b"./ends bad1")))
            program("-j1", "--joblog", "log", "--resume-failed", "./ends", ":::", *items)
            assert ran() == ["bad3", "kill9"], (first, program)


def _again(written, command):
    """Give the line of a command as if it had ended well in a later run."""
    for line in written.splitlines(keepends=True):
        fields = line.rstrip(b"\n").split(b"\t")
        if fields[-1] == command:
            fields[6] = b"0"
            yield b"\t".join(fields) + b"\n"


def test_what_is_tried_again():
    # There N counts the tries, here those after the first.
    for times, code in (("1", 0), ("9", 2)):
        found = []
        for program, retries in ((by_parallel, "3"), (by_vigie, "2")):
            fresh()
            done = program(
                "-k", "-j1", "--retries", retries, "--joblog", "log", "./tries", "{}", times, ":::", "a", "b"
            )
            assert done.returncode == code
            found.append((done.stdout, done.stderr, log()[1], ran()))
        assert found[0] == found[1]
        # What a try wrote that was not the last is not shown, nor noted.
        shown, noted = found[1][0], found[1][2]
        assert shown == b"out a 2\nout b 2\n" if code == 0 else b"out a 3\nout b 3\n"
        assert len(noted) == 2


# Ending early ------------------------------------------------------------------------


SOME = ["1", "2", "bad4", "4", "bad4", "6", "bad4", "8", "9", "10"]


def halted(halt, command, *items, jobs="1"):
    """Run both, and see that the same ran; give what ran, and the exit codes."""
    codes, lists = [], []
    for program in PROGRAMS:
        codes.append(program(f"-j{jobs}", "--halt", halt, command, ":::", *items).returncode)
        lists.append(ran(sort=jobs != "1"))
    assert lists[0] == lists[1], halt
    return lists[1], codes


@pytest.mark.parametrize(
    ("halt", "many", "theirs", "ours"),
    [
        ("never", 10, 3, 3),
        # It gives the status of the one that ended it, or the percentage; here it is always the number of failures.
        ("now,fail=1", 3, 4, 1),
        ("soon,fail=1", 3, 4, 1),
        ("now,fail=2", 5, 2, 2),
        ("soon,fail=3", 7, 3, 3),
        ("soon,fail=4", 10, 3, 3),
        ("now,success=1", 1, 0, 0),
        ("soon,success=3", 4, 0, 0),
        ("now,done=4", 4, 1, 1),
        ("soon,done=5", 5, 2, 2),
        ("soon,fail=1%", 3, 10, 1),
        ("now,fail=20%", 5, 20, 2),
        ("soon,fail=30%", 7, 30, 3),
        ("now,fail=50%", 10, 30, 3),
        ("now,success=30%", 4, 0, 0),
        ("soon,success=100%", 10, 30, 3),
        ("soon,done=50%", 5, 20, 2),
    ],
)
def test_halting_one_by_one(halt, many, theirs, ours):
    found, codes = halted(halt, "./ends", *SOME)
    assert found == SOME[:many]
    assert codes == [theirs, ours]


def test_now_ends_what_runs_and_soon_lets_it_finish():
    for why, second, theirs, ours in (
        ("fail", "end7", 7, 1), ("success", "end0", 0, 0), ("done", "end0", 0, 0), ("done", "end7", 7, 1),
    ):  # fmt: skip
        found, codes = halted(f"now,{why}=1", "./pair", "forever", second, "third", jobs="2")
        assert (found, codes) == (sorted(["forever", second]), [theirs, ours])
        found, codes = halted(f"soon,{why}=1", "./pair", "first", second, "third", jobs="2")
        assert (found, codes) == (sorted(["first", second, "finished"]), [theirs, ours])


def ended_early():
    """Have each program end a command that has written something; give what both showed, and noted."""
    found = []
    for program in PROGRAMS:
        done = program("-j2", "--halt", "now,success=1", "--joblog", "log", "./pair", ":::", "forever", "end0", "third")
        found.append((done.stdout, [line[0] for line in log()[1]]))
        assert ran(sort=True) == ["end0", "forever"]
    return found


def test_a_joblog_has_none_that_was_ended_early():
    theirs, ours = ended_early()
    assert ours[1] == theirs[1] == [2]


def test_what_was_ended_early_shows_nothing():
    theirs, ours = ended_early()
    assert ours[0] == theirs[0] == b"found\n"


def test_halting_counts_items_not_tries():
    for program, retries in ((by_parallel, "2"), (by_vigie, "1")):
        done = program("-j1", "--retries", retries, "--halt", "now,fail=1", "./tries", "{}", "1", ":::", *"abc")
        assert done.returncode == 0
        assert ran() == list("aabbcc")


def test_exit_codes():
    for failures, many in ((0, 2), (1, 2), (100, 101), (101, 102), (102, 102)):
        items = b"".join(b"%d\n" % n for n in range(many))
        theirs, ours = each("-j2", "test", "{}", "-ge", str(failures), stdin=items)
        assert ours.returncode == theirs.returncode == min(failures, 101)


# Differences -------------------------------------------------------------------------


def test_a_command_that_is_none_runs_no_item():
    # There, items without a command are lines for a shell; here they need one.
    theirs, ours = each(":::", "echo a")
    assert (theirs.stdout, theirs.returncode) == (b"a\n", 0)
    assert (ours.stdout, ours.returncode) == (b"", 125)
    assert b"there is no command" in ours.stderr
    assert by_vigie("sh", "-c", "{}", ":::", "echo a").stdout == b"a\n"


def test_lines_of_a_try_that_failed_are_shown_once_they_are_out():
    # Line by line, there some of a try that failed are lost, and some are counted twice.
    ours = by_vigie("--line-buffer", "-j1", "--retries", "1", "./tries", "{}", "1", ":::", "a", "b")
    assert ours.stdout == b"out a 1\nout a 2\nout b 1\nout b 2\n"
    assert ours.returncode == 0
