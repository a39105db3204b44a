"""What jobs say, and that it is kept exactly and in order."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import pytest

import vigie.payload
from vigie import records
from worker_harness import KEY, start, texts, wait_until, worker  # noqa: F401 - fixtures


def said(result_records):
    return [(r.stream, r.text if r.text is not None else r.content or r.data) for r in result_records]


def test_all_that_is_said_comes_in_the_order_in_which_it_happened(worker):
    found = worker.records(worker.run("worker_jobs:everything_said"))
    assert said(found)[:2] == [("output", "one\n"), ("error", "two\n")]
    warning, four, five = found[2:5]
    assert (warning.stream, warning.level, warning.name) == ("warning", "warning", "UserWarning")
    assert "worker_jobs.py" in warning.text
    assert "three" in warning.text
    assert (four.stream, four.level, four.name, four.text) == ("error", "error", "shop", "four")
    assert (five.stream, five.level, five.text) == ("debug", "debug", "five")
    assert said(found)[5:] == [
        ("output", 6), ("output", "seven\n"), ("output", "eight\n"), ("output", "nine\n"),
        ("output", "ten"), ("error", "eleven"), ("output", b"\xfftwelve"), ("output", "thirteen and more\n"),
    ]  # fmt: skip
    assert [r.raw for r in found[5:]] == [False, True, False, True, False, False, False, False]
    assert [r.time for r in found] == sorted(r.time for r in found)


def test_yielded_values_are_records_at_once(worker):
    found = worker.records(worker.run("worker_jobs:count", 3))
    assert [r.data for r in found] == [{"i": 0}, {"i": 1}, {"i": 2}]
    odd = worker.records(worker.run("worker_jobs:yield_odd"))
    assert [vigie.payload.loads("pickle", r.pickled, KEY) for r in odd] == [(1, 2), b"\x00"]
    assert [r.shown for r in odd] == ["(1, 2)", r"b'\x00'"]
    assert [r.data for r in worker.records(worker.run("worker_jobs:later_many"))] == [1, 2]


def test_a_warning_is_shown_by_every_job(worker):
    for _ in range(3):
        assert len(worker.records(worker.run("worker_jobs:warn_again"))) == 1


def test_basic_config_keeps_records(start):
    worker = start()
    for _ in range(2):
        (record,) = worker.records(worker.run("worker_jobs:configured_logging"))
        assert (record.stream, record.level, record.text) == ("info", "info", "<shown>")


def test_a_handler_of_the_jobs_own_does_not_double(worker):
    assert said(worker.records(worker.run("worker_jobs:own_handler"))) == [("error", "once\n")]


@pytest.mark.parametrize(
    "text", ["", "\n", "a\nb\nc\n", "\x00\x1b[31m", "é\u2028\n", "\udcff\udcfe", "\ud800", "no end", "x" * 5000, "\r\n"]
)
def test_text_is_kept_exactly(worker, text):
    for stream in ("stdout", "stderr"):
        found = worker.records(worker.run("worker_jobs:say", text, stream))
        try:
            expected = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            expected = text.encode("utf-8", "surrogatepass")
        assert b"".join(r.content for r in found) == expected
        assert len(found) == bool(text)
        assert {r.stream for r in found} <= {"output" if stream == "stdout" else "error"}


def test_bytes_are_kept_exactly(worker):
    data = bytes(range(256)) * 3
    (record,) = worker.records(worker.run("worker_jobs:say_bytes", data))
    assert record.content == data


@pytest.mark.slow
def test_a_hundred_megabytes_in_one_write(worker):
    result = worker.run(lambda n: __import__("sys").stdout.write("0123456789" * n), 10_000_000)
    (record,) = worker.records(result)
    assert record.text == "0123456789" * 10_000_000
    os.unlink(worker.home.job_file(result.job, "records"))


def test_many_records_go_to_a_file(worker):
    result = worker.run("worker_jobs:say_many", 1000)
    path = worker.home.job_file(result.job, "records")
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    found = worker.records(result)
    assert texts(found) == [f"line {i}\n" for i in range(1000)]
    assert [r.seq for r in found][:2] == [0, found[0].end]
    # The next job begins with an empty page.
    assert worker.records(worker.run("worker_jobs:nothing")) == []


def test_a_second_attempt_has_a_file_of_its_own(worker):
    (seq,) = worker.give(worker.job("worker_jobs:say", "x" * 5000, attempt=2))
    result = worker.result(seq)
    assert texts(worker.records(result)) == ["x" * 5000]
    assert worker.home.job_file(result.job, "records", 2).endswith("/records.2")


def test_few_records_of_a_quick_job_go_with_its_outcome(worker):
    # A loaded machine may make any one of them a slow job.
    results = [worker.run("worker_jobs:say", "hi\n") for _ in range(50)]
    assert all(texts(worker.records(r)) == ["hi\n"] for r in results)
    assert any(r.records for r in results)


def test_half_a_line_of_a_running_job_can_be_read(worker, tmp_path):
    go = tmp_path / "go"
    (seq,) = worker.give(worker.job("worker_jobs:say_and_wait", str(go)))
    path = worker.home.job_file(100 + seq, "records")
    wait_until(lambda: os.path.exists(path) and os.path.getsize(path), "a record in the file")
    assert texts(records.iter_records(Path(path).read_bytes())) == ["half a line"]
    go.touch()
    assert worker.result(seq).value() == "went on"
    assert len(worker.records(worker.results[seq])) == 1


def test_raw_output_of_a_running_job_can_be_read(worker, tmp_path):
    go = tmp_path / "go"

    def shell(go):
        import os

        os.system(f"echo from below; while ! test -e {go}; do sleep 0.01; done")

    (seq,) = worker.give(worker.job(shell, str(go)))
    path = worker.home.job_file(100 + seq, "records")
    wait_until(lambda: os.path.exists(path) and os.path.getsize(path), "a record in the file")
    (record,) = records.iter_records(Path(path).read_bytes())
    assert (record.text, record.raw) == ("from below\n", True)
    go.touch()
    worker.result(seq)


def test_raw_output_is_kept_exactly(worker):
    def below():
        import subprocess
        import sys

        program = "import os\nfor i in range(3000): os.write(1, bytes([i % 256]) * 999)"
        subprocess.run([sys.executable, "-c", program], check=True)

    found = worker.records(worker.run(below))
    assert b"".join(r.content for r in found) == b"".join(bytes([i % 256]) * 999 for i in range(3000))
    assert all(r.raw for r in found)


def test_raw_output_is_no_other_jobs(worker):
    for i in range(3):
        result = worker.run(lambda i: __import__("os").write(1, b"%d\n" % i), i)
        assert texts(worker.records(result)) == [f"{i}\n"]
    assert worker.records(worker.run("worker_jobs:nothing")) == []


def test_threads_print_whole_lines(worker):
    found = worker.records(worker.run("worker_jobs:in_threads", 4, 200))
    expected = [f"<{t}:{i}>" for t in range(4) for i in range(200)]
    assert sorted(re.findall("<.*?>", "".join(texts(found)))) == sorted(expected)
    # A thread that is held up for 10 ms between a line and its end is cut there.
    assert sum(t == f"{t[:-1]}\n" and t[:-1] in expected for t in texts(found)) > 700


def test_printing_in_a_signal_handler_harms_nothing(worker):
    found = worker.records(worker.run("worker_jobs:print_from_handler", 20_000))
    whole = "".join(texts(found))
    assert [line for line in whole.splitlines() if line.startswith("body")][-1] == "body 19999"
    assert whole.replace("handler\n", "").count("body") == 20_000


def test_the_library_can_make_records_of_its_own(worker):
    (record,) = worker.records(worker.run("worker_jobs:library_record"))
    assert (record.stream, record.data) == ("progress", {"done": 1, "total": 2})


def test_stdout_is_what_programs_expect(worker):
    def look():
        import io
        import sys

        out = sys.stdout
        out.reconfigure(line_buffering=True)
        wrapper = io.TextIOWrapper(out.buffer, encoding="latin-1")
        wrapper.write("é")
        del wrapper
        try:
            out.write(b"bytes")
        except TypeError:
            refused = True
        out.writelines(["a", "b\n"])
        out.close()
        print("still open")
        return [
            out.isatty(), out.fileno(), sys.stderr.fileno(), out.encoding, out.errors, out.closed, refused,
            out.writable(), out.readable(), sys.stdin.read(), isinstance(out, io.TextIOBase),
        ]  # fmt: skip

    result = worker.run(look)
    assert result.value() == [False, 1, 2, "utf-8", "surrogateescape", False, True, True, False, "", True]
    assert [r.content for r in worker.records(result)] == [b"\xe9", b"ab\n", b"still open\n"]


def test_a_full_disk_does_not_kill_the_job(start):
    worker = start()

    def fill(lines):
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        # As a full disk does, a limit on files makes write fail; here after 8 kB of records.
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
        for i in range(lines):
            print("line", i)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return "lived"

    result = worker.run(fill, 1000)
    assert result.value() == "lived"
    found = worker.records(result)
    assert found[-1].stream == "warning"
    assert "could not be kept: File too large" in found[-1].text
    lost = int(found[-1].text.split()[0])
    assert lost + len(found) - 1 == 1000
    assert texts(found[:-1]) == [f"line {i}\n" for i in range(1000 - lost)]
    assert worker.run("worker_jobs:add", 1).value() == 1


def test_no_place_for_records_at_all(start):
    worker = start()
    jobs = Path(worker.home.jobs)
    jobs.rmdir()
    jobs.write_text("a file where the directory should be")
    result = worker.run("worker_jobs:say_many", 1000)
    assert result.value() is None
    found = list(records.iter_records(result.records))
    assert found[0].text == "line 0\n"
    assert "could not be kept" in found[-1].text


def test_after_a_kill_what_was_said_is_in_the_page(start):
    worker = start()

    def say_and_die():
        import os

        print("last words")
        os.kill(os.getpid(), 9)

    worker.give(worker.job(say_and_die))
    assert worker.wait() == -9
    path = worker.home.job_file(101, "records")
    kept = Path(path).read_bytes() if os.path.exists(path) else worker.page.records()
    assert texts(records.iter_records(kept)) == ["last words\n"]


def test_raw_output_of_a_killed_job_can_be_told_apart(start):
    worker = start()
    worker.run(lambda: __import__("os").write(2, b"an earlier job's\n") and None)

    def crash():
        import os

        os.write(2, b"Fatal Python error\n")
        os._exit(3)

    worker.give(worker.job(crash))
    worker.wait()
    path = worker.home.job_file(102, "records")
    if not os.path.exists(path):
        assert worker.raw()[worker.page.raw :] == b"Fatal Python error\n"


def test_pickles_of_records_are_signed(worker):
    (record, _) = worker.records(worker.run("worker_jobs:yield_odd"))
    with pytest.raises(vigie.payload.PayloadError, match="signature"):
        vigie.payload.loads("pickle", record.pickled, b"another key")
    assert pickle.dumps((1, 2), 5) in record.pickled
