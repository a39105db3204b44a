"""``receive`` and following, with a real agent and real jobs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vigie.cli.context import Context
from vigie.cli.printer import Printer
from vigie.cli.receive import Reception
from vigie.model import STREAMS
from vigie.output import iter_records
from vigie.store.reader import Reader

pytestmark = pytest.mark.slow


class Gate:
    """A job that writes a line, then waits for a word before the next."""

    def __init__(self, home, vigie, *lines: str) -> None:
        self.fifo = Path(home.top, "gate")
        os.mkfifo(self.fifo)
        script = "\n".join(f"echo {line}; read go <&3" for line in lines)
        self.job = vigie("start", "--", "sh", "-c", f"exec 3<>{self.fifo}\n{script}", check=True).stdout.strip()

    def go(self) -> None:
        with self.fifo.open("w") as file:
            file.write("\n")


def until_written(home, job: str, data: bytes) -> None:
    from conftest import until

    path = home.job_file(int(job), "out")
    until(lambda: os.path.exists(path) and Path(path).read_bytes() == data)


def test_receive_gives_what_is_new_and_says_when_there_is_nothing(home, vigie):
    gate = Gate(home, vigie, "one", "two")
    until_written(home, gate.job, b"one\n")
    assert vigie("receive", gate.job, "--keep").stdout == "one\n"
    assert vigie("receive", gate.job).stdout == "one\n"
    nothing = vigie("receive", gate.job)
    assert (nothing.stdout, nothing.returncode) == ("", 0)
    assert nothing.stderr.startswith("nothing since ")
    assert f"vigie logs {gate.job}" in nothing.stderr
    gate.go()
    until_written(home, gate.job, b"one\ntwo\n")
    assert vigie("receive", gate.job, "--reader", "bot").stdout == "one\ntwo\n"
    gate.go()
    assert vigie("receive", gate.job, "--wait").stdout == "two\n"
    assert vigie("logs", gate.job).stdout == "one\ntwo\n"


def test_a_choice_of_streams_passes_over_nothing(home, vigie):
    job = vigie("start", "--", "sh", "-c", "echo out; echo err >&2").stdout.strip()
    vigie("wait", job, check=True)
    assert vigie("receive", job, "--stream", "error").stdout == "err\n"
    assert vigie("receive", job, "--stream", "error").stdout == ""
    assert sorted(vigie("receive", job).stdout.split()) == ["err", "out"]


def test_a_stale_move_is_refused_and_said(home, vigie, capfdbinary):
    job = int(vigie("start", "--", "echo", "hello").stdout)
    vigie("wait", str(job), check=True)
    out = Context("vigie receive", home=home)
    try:
        printer = Printer(out)
        first, second = (Reception(out, job, "default", STREAMS, keep=False) for _ in range(2))
        for one in (first, second):
            one.once(printer)
            one.close(printer)
    finally:
        out.close()
    shown = capfdbinary.readouterr()
    assert shown.out == b"hello\nhello\n"
    assert b"moved the position" in shown.err


def test_receive_follow_moves_as_it_goes(home, vigie):
    from conftest import until

    gate = Gate(home, vigie, "one", "two")
    live = vigie.popen("receive", "--follow", gate.job)
    assert live.stdout.readline() == b"one\n"
    with Reader(home) as reader:
        until(lambda: (reader.cursor(int(gate.job)) or ({"out": 0}, 0))[0]["out"] == 4)
    gate.go()
    assert live.stdout.readline() == b"two\n"
    gate.go()
    assert live.stdout.read() == b""
    assert live.wait(30) == 0
    assert vigie("receive", gate.job).stderr.startswith("nothing since")


def test_logs_follow_begins_before_the_job_and_ends_with_it(home, vigie):
    gate = Gate(home, vigie, "one")
    after = vigie("start", "--after", gate.job, "--", "echo", "then", check=True).stdout.strip()
    live = vigie.popen("logs", "-f", gate.job, after)
    assert live.stdout.readline() == b"one\n"
    gate.go()
    assert live.stdout.read() == b"then\n"
    assert live.wait(30) == 0


def test_logs_follow_goes_on_over_attempts(home, vigie):
    flag = Path(home.top, "flag")
    script = f"echo try; test -e {flag} && exit 0; touch {flag}; exit 1"
    job = vigie("start", "--retries", "1", "--", "sh", "-c", script, check=True).stdout.strip()
    done = vigie("logs", "-f", "--json", job, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["attempt"], one["text"]) for one in found] == [(1, "try\n"), (2, "try\n")]


def test_a_function_s_records_come_typed_and_in_order(home, vigie):
    Path(home.user, "shop.py").write_text(
        "import sys, warnings\n"
        "def work():\n"
        "    print('said')\n"
        "    yield {'n': 1}\n"
        "    print('oops', file=sys.stderr)\n"
        "    yield 'text'\n"
        "    warnings.warn('mind')\n"
    )
    job = vigie("start", "-f", "shop:work", check=True).stdout.strip()
    plain = vigie("receive", "--wait", job, check=True).stdout.splitlines()
    assert plain[:4] == ["said", '{"n": 1}', "oops", "text"]
    assert "mind" in plain[4]
    found = [json.loads(line) for line in vigie("logs", "--json", job, check=True).stdout.splitlines()]
    kinds = [(one["stream"], one.get("data", one.get("text"))) for one in found]
    assert kinds[:4] == [("output", "said\n"), ("output", {"n": 1}), ("error", "oops\n"), ("output", "text")]
    assert found[4]["stream"] == "warning"
    assert [one["time"] for one in found] == sorted(one["time"] for one in found)


def test_what_a_function_returned_is_its_last_record(home, vigie):
    Path(home.user, "shop.py").write_text(
        "def total(n):\n    yield 'half'\n    return {'n': n}\n"
        "def none():\n    print('said')\n"
        "def large():\n    return 'x' * (1 << 20)\n"
        "def thing():\n    return {1, 2}\n"
    )
    for words in (["shop:total", "--args", "[7]"], ["shop:none"], ["shop:large"], ["shop:thing"]):
        vigie("start", "-f", *words, check=True)
    assert vigie("receive", "--wait", "--stream", "result", "1", check=True).stdout == '{"n": 7}\n'
    again = vigie("receive", "--stream", "result", "1", check=True)
    assert (again.stdout, again.stderr.startswith("nothing since ")) == ("", True)
    vigie("wait", "2", "3", "4", check=True)
    found = [json.loads(line) for line in vigie("receive", "--json", "1", check=True).stdout.splitlines()]
    assert [(one["stream"], one["data"]) for one in found] == [("output", "half"), ("result", {"n": 7})]
    assert found[1]["seq"] > found[0]["seq"]
    assert found[1]["time"] == json.loads(vigie("show", "1", "--json").stdout)["finished"]
    assert vigie("receive", "--json", "1", check=True).stdout == ""
    last = json.loads(vigie("logs", "-n", "1", "--json", "1", check=True).stdout)
    assert last["stream"] == "result"
    # Plain text is what it wrote; None is nothing; a large one lies in a file; an object has no text.
    assert vigie("logs", "1", check=True).stdout == "half\n"
    assert vigie("logs", "--stream", "result", "2", check=True).stdout == ""
    assert vigie("receive", "--stream", "result", "2").stderr == (
        "2 is completed and has nothing in result; everything: vigie logs 2\n"
    )
    assert vigie("logs", "--stream", "result", "3", check=True).stdout == "x" * (1 << 20) + "\n"
    assert vigie("logs", "--stream", "result", "4", check=True).stdout == "(an object)\n"
    (record,) = vigie_records(home, 4, "result")
    assert record.value == {1, 2}


def vigie_records(home, job, stream):
    with Reader(home) as reader:
        return list(iter_records(reader, home, job, streams=[stream]))


def test_a_followed_function_ends_with_its_result(home, vigie):
    Path(home.user, "shop.py").write_text("def total():\n    yield 1\n    return 2\n")
    job = vigie("start", "-f", "shop:total", check=True).stdout.strip()
    found = [json.loads(line) for line in vigie("receive", "--follow", "--json", job, check=True).stdout.splitlines()]
    assert [(one["stream"], one["data"]) for one in found] == [("output", 1), ("result", 2)]


def test_reading_goes_on_with_the_agent_down(home, vigie):
    job = vigie("start", "-n", "copy", "--", "echo", "hello", check=True).stdout.strip()
    vigie("wait", job, check=True)
    vigie("agent", "stop", check=True)
    assert vigie("logs", "copy").stdout == "hello\n"
    assert json.loads(vigie("jobs", "--json").stdout)[0]["state"] == "completed"
    assert "completed" in vigie("why", "copy").stdout
    assert vigie("receive", "--keep", "copy").stdout == "hello\n"
    assert home.processes("agent") == []
