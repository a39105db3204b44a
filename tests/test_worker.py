"""The real worker: calls, results, errors, endings."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import vigie.payload
from worker_harness import (
    HERE,
    KEY,
    Gone,
    Harness,
    start,  # noqa: F401 - a fixture
    texts,
    wait_until,
    worker,  # noqa: F401 - a fixture
)


def interpreters():
    """Give this version of Python and whichever others a project might use here: on PATH, or kept by pyenv."""
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for minor in range(9, 15):
        found = shutil.which(f"python3.{minor}", path="/usr/local/bin:/usr/bin:/bin")
        found = found or next(map(str, kept.glob(f"3.{minor}.*/bin/python")), None)
        found = found or (sys.executable if minor == sys.version_info[1] else None)
        if found:
            yield pytest.param(found, id=f"3.{minor}")


# --- calls and results --------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        ("worker_jobs:nothing", (), None),
        ("worker_jobs:add", (1, 2), 3),
        ("worker_jobs:add", ((1,), (2,)), (1, 2)),
        ("worker_jobs:Tool.make", (4,), 8),
        ("worker_jobs:Tool.Inner.deep", (4,), 12),
        ("worker_jobs:wrapped", (1,), 1001),
        ("builtins:len", ("abc",), 3),
        ("os.path:join", ("a", "b"), "a/b"),
        ("worker_jobs:later", ("x",), "x"),
        ("worker_jobs:count", (3,), "counted"),
        ("worker_jobs:later_many", (), None),
    ],
)
def test_calls(worker, function, args, expected):
    result = worker.run(function, *args)
    assert result.value() == expected
    assert result.code is None
    assert result.error is None


def test_arguments_of_all_kinds(worker):
    args = (None, True, -1, 1.5, "é\x00", [1, {"a": []}], b"\xff", (1, 2), {1: 2}, {3}, float("inf"), "\udcff")
    kwargs = {"word": "w", "self": 1, "job": 2}
    result = worker.run_raw(args, kwargs)
    assert result.value() == [list(args), kwargs]


def test_a_closure_a_lambda_and_a_partial(worker):
    base = 10
    assert worker.run(lambda x: x + base, 1).value() == 11
    assert worker.run(functools.partial(lambda a, b: a - b, b=1), 5).value() == 4


def test_times_and_cost_are_told(worker):
    header = worker.run("worker_jobs:add", 1).header
    assert header["started"] <= header["finished"]
    assert abs((header["finished"] - header["started"]) - header["duration"]) <= 1
    assert header["cpu"] >= 0
    assert 1 << 20 < header["rss"] < 1 << 30


def test_a_dependency_takes_its_place(worker, tmp_path):
    blob = vigie.payload.dumps((1, b"2"), KEY)
    file = str(tmp_path / "result")
    vigie.workfiles.write_result(file, "json", b'"from a file"')
    job = worker.job("worker_jobs:echo", None, [None, 1], word={"k": None}, deps=[
        ([0, 0], blob[0], blob[1]),
        ([0, 1, 0], "json", b"[7]"),
        ([1, "word", "k"], "file", file),
    ])  # fmt: skip
    (seq,) = worker.give(job)
    assert worker.result(seq).value() == [[(1, b"2"), [[7], 1]], {"word": {"k": "from a file"}}]


def test_a_large_result_is_a_file(worker):
    result = worker.run("worker_jobs:big", (1 << 20) + 1)
    assert result.header["encoding"] == "file"
    assert result.result is None
    assert result.value(worker.home) == "x" * ((1 << 20) + 1)
    path = worker.home.job_file(result.job, "result")
    assert os.stat(path).st_mode & 0o777 == 0o600
    pickled = worker.run("worker_jobs:big_pickle", 3 << 20)
    assert pickled.value(worker.home) == b"x" * (3 << 20)


def test_a_batch_comes_back_whole_and_in_order(worker):
    seqs = worker.give(*[worker.job("worker_jobs:add", i, 1) for i in range(1000)])
    assert [worker.result(s).value() for s in seqs] == list(range(1, 1001))
    ends = [worker.results[s].header["finished"] for s in seqs]
    assert ends == sorted(ends)
    assert worker.page.ended == worker.page.started == seqs[-1]


# --- errors -------------------------------------------------------------------


def test_an_exception_is_told_and_travels(worker):
    result = worker.run("worker_jobs:fail_with_cause")
    assert result.how == "raise"
    assert result.error["type"] == "RuntimeError"
    assert result.error["message"] == "outer"
    assert "KeyError: 'k'" in result.error["traceback"]
    assert "worker_run" not in result.error["traceback"]
    assert "worker_jobs.py" in result.error["traceback"]
    assert result.error["pickled"]
    raised = vigie.payload.load_exception(result.pickle, KEY)
    assert isinstance(raised, RuntimeError)
    assert isinstance(raised.__cause__, KeyError)


def test_an_exception_that_cannot_travel_is_told_all_the_same(worker):
    result = worker.run("worker_jobs:fail_unpicklable")
    assert result.error["type"] == "worker_jobs.Unpicklable"
    assert result.error["message"] == "needs two"
    assert result.pickle is None


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("no_such_module:f", "no module 'no_such_module'"),
        ("worker_jobs:no_such", "has no 'no_such'"),
        ("worker_jobs:Tool.none", "has no 'Tool.none'"),
        ("worker_jobs:a_number", "cannot be called"),
        ("nonsense", "module:function"),
    ],
)
def test_a_function_that_is_not_there(worker, function, says):
    result = worker.run(function)
    assert result.how == "raise"
    assert says in result.error["message"]
    assert function.split(":")[0] in result.error["message"]


def test_a_module_that_fails_is_tried_again(start, tmp_path):
    worker = start(path=[tmp_path])
    (tmp_path / "broken.py").write_text("1 / 0\ndef f(): return 1\n")
    result = worker.run("broken:f")
    assert "ZeroDivisionError" in result.error["message"]
    assert "1 / 0" in result.error["traceback"]
    (tmp_path / "broken.py").write_text("def f(): return 1\n")
    assert worker.run("broken:f").value() == 1


def test_a_result_that_cannot_travel_names_the_culprit(worker):
    result = worker.run("worker_jobs:unpicklable_result")
    assert result.how == "raise"
    assert "['a'][1]" in result.error["message"]
    assert "lock" in result.error["message"]


def test_a_forged_pickle_is_refused_unread(worker):
    encoding, data = vigie.payload.dumps([[(1,)], {}], b"another key")
    (seq,) = worker.give(worker.job("worker_jobs:echo", raw_args=(encoding, data)))
    assert "signature" in worker.result(seq).error["message"]


def test_wrong_arguments(worker):
    assert worker.run("worker_jobs:add").error["type"] == "TypeError"


@pytest.mark.parametrize("name", ["KeyboardInterrupt", "GeneratorExit"])
def test_no_exception_ends_the_worker(worker, name):
    assert worker.run("worker_jobs:raise_base", name).error["type"] == name


@pytest.mark.parametrize(("code", "how", "status"), [
    (None, "return", None), (0, "return", None), (3, "exit", 3), (-1, "exit", 255), (True, "exit", 1),
    (256, "return", None),
])  # fmt: skip
def test_sys_exit(worker, code, how, status):
    result = worker.run("worker_jobs:exit_with", code)
    assert (result.how, result.code) == (how, status)
    if how == "return":
        assert result.value() is None


def test_sys_exit_with_words(worker):
    result = worker.run("worker_jobs:exit_with", "out of paper")
    assert (result.how, result.code) == ("exit", 1)
    assert texts(worker.records(result)) == ["out of paper\n"]


# --- signals and ends ---------------------------------------------------------


def test_an_interrupt_reaches_jobs_only(worker):
    assert worker.run("worker_jobs:interrupted").value() == "caught"
    worker.signal(signal.SIGINT)
    assert worker.run("worker_jobs:add", 1).value() == 1


def test_a_job_may_handle_signals(worker):
    assert worker.run("worker_jobs:own_signal").value() is True


def test_sigterm_ends_an_idle_worker(start):
    worker = start()
    worker.run("worker_jobs:nothing")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == -signal.SIGTERM
    assert worker.page.started == worker.page.ended


@pytest.mark.parametrize(("function", "arg", "status"), [
    ("worker_jobs:hard_exit", 3, 3), ("worker_jobs:kill_self", signal.SIGKILL, -signal.SIGKILL),
    ("worker_jobs:kill_self", signal.SIGTERM, -signal.SIGTERM),
])  # fmt: skip
def test_a_job_that_ends_its_worker_is_the_only_one_charged(start, function, arg, status):
    worker = start()
    seqs = worker.give(
        worker.job("worker_jobs:add", 1), worker.job(function, int(arg)), worker.job("worker_jobs:add", 2)
    )
    assert worker.wait() == status
    with pytest.raises(Gone):
        worker.result(99)
    assert [r.seq for r in worker.journal()] == [seqs[0]]
    assert worker.journal()[0].value() == 1
    assert (worker.page.started, worker.page.ended) == (seqs[1], seqs[0])


def test_quit_ends_it_after_the_running_job(start, tmp_path):
    worker = start()
    touched, go = tmp_path / "touched", tmp_path / "go"
    jobs = [worker.job("worker_jobs:wait_for", "/dev/null") for _ in range(10_000)]
    seqs = worker.give(worker.job("worker_jobs:touch_and_wait", str(touched), str(go)), *jobs)
    wait_until(touched.exists, "the job runs")
    worker.send({"op": "quit"})
    go.touch()
    event = worker.event()
    assert (event["op"], event["reason"]) == ("leave", "quit")
    assert seqs[0] < event["from"] < seqs[-1]
    assert sorted(worker.results) == list(range(seqs[0], event["from"]))
    assert worker.wait() == 0


def test_quit_ends_an_idle_worker(start):
    worker = start()
    worker.run("worker_jobs:nothing")
    worker.send({"op": "quit"})
    assert worker.event() == {"op": "leave", "reason": "quit", "from": 2}
    assert worker.wait() == 0
    assert worker.raw() == b""


@pytest.mark.slow
def test_it_ends_after_a_hundred_thousand_jobs(start):
    worker = start()
    for _ in range(99):
        seqs = worker.give(*[worker.job("worker_jobs:nothing")] * 1000)
        worker.result(seqs[-1])
        worker.send({"op": "forget", "seq": seqs[-1]})
    worker.give(*[worker.job("worker_jobs:nothing")] * 1500)
    assert worker.event() == {"op": "leave", "reason": "count", "from": 100_001}
    assert worker.wait() == 0
    assert len(worker.results) == 100_000


@pytest.mark.slow
def test_it_ends_when_it_has_grown(start):
    worker = start()
    worker.give(*[worker.job("worker_jobs:grow", 260_000_000)] * 2, *[worker.job("worker_jobs:nothing")] * 200)
    event = worker.event()
    assert (event["op"], event["reason"]) == ("leave", "grown")
    assert 3 <= event["from"] <= 101
    assert len(worker.results) == event["from"] - 1


# --- interpreters and imports -------------------------------------------------


def test_no_name_of_ours_hides_one_of_the_projects(start, tmp_path):
    for name in ("errors", "model", "frames", "payload"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "records.py").write_text("WHOSE = 'the project'\n")
    worker = start(path=[tmp_path, HERE])
    assert worker.run("worker_jobs:names").value() == ["the project", None, []]


def test_hello(start):
    hello = start().hello
    assert hello["worker"] == 7
    assert hello["python"] == "%d.%d.%d" % sys.version_info[:3]
    assert hello["prefix"] == sys.prefix
    assert hello["pid"] > 0


@pytest.mark.slow
def test_an_interpreter_without_vigie(start):
    python = "/usr/bin/python3"
    if not os.path.exists(python):
        pytest.skip("no /usr/bin/python3: apt-get install python3")
    lacks = subprocess.run([python, "-S", "-E", "-c", "import vigie"], capture_output=True)
    assert lacks.returncode != 0
    worker = start(python=(python, "-S", "-E"))
    assert worker.run("worker_jobs:add", [1], [2]).value() == [1, 2]
    assert texts(worker.records(worker.run("worker_jobs:say", "hi\n"))) == ["hi\n"]
    # Pickles do not travel to another interpreter, and it says so.
    assert "Python" in worker.run("worker_jobs:echo", b"bytes").error["message"]


@pytest.mark.slow
@pytest.mark.parametrize("python", list(interpreters()))
def test_other_versions_of_python(start, python):
    worker = start(python=(python,))
    assert worker.run("worker_jobs:add", 1, 2).value() == 3
    assert worker.run("worker_jobs:count", 2).value() == "counted"
    assert worker.run("worker_jobs:later", "x").value() == "x"
    said = worker.records(worker.run("worker_jobs:everything_said"))
    short = "output error warning error debug output output output output output error output output"
    assert [r.stream for r in said] == short.split()
    assert len(worker.records(worker.run("worker_jobs:warn_again"))) == 1
    assert len(worker.records(worker.run("worker_jobs:warn_again"))) == 1
    error = worker.run("worker_jobs:fail_with_cause").error
    assert "KeyError: 'k'" in error["traceback"]
    assert "worker_run" not in error["traceback"]
    before = worker.run("worker_jobs:surroundings").value()
    worker.run("worker_jobs:make_a_mess")
    after = worker.run("worker_jobs:surroundings").value()
    for found in (before, after):
        del found["child"], found["env"]["VIGIE_JOB"], found["env"]["VIGIE_ATTEMPT"]
    assert after == before
    for method in ("fork", "spawn", "forkserver"):
        assert worker.run("worker_jobs:processes", method).value() == ["A", "B", "C"]
    (seq,) = worker.give(worker.job("worker_jobs:leave_child", True))
    assert worker.event() == {"op": "leave", "reason": "children", "from": seq + 1}


def test_every_file_that_the_worker_loads_is_old_python():
    """Python 3.9 is not at hand everywhere; its grammar is."""
    import ast

    source = Path(vigie.payload.__file__).parent
    names = ["frames", "payload", "records", "workfiles", "crash", "sockets"]
    files = [*source.glob("worker*.py"), *(source / f"{n}.py" for n in names)]
    assert len(files) >= 12
    for file in files:
        tree = ast.parse(file.read_text(), feature_version=(3, 9))
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("vigie"), f"{file.name} imports {node.module}"


def test_a_home_of_two_hundred_characters(tmp_path):
    harness = Harness(tmp_path / ("d" * 100) / ("e" * 100))
    try:
        harness.accept()
        harness.default = harness.context(tmp_path, path=[HERE])
        assert harness.run("worker_jobs:add", 1).value() == 1
    finally:
        harness.close()


def test_changed_source_replaces_the_worker(start, tmp_path):
    module = tmp_path / "project.py"
    module.write_text("def f(): return 'old'\n")
    worker = start(path=[tmp_path])
    assert worker.run("project:f").value() == "old"
    assert worker.run("project:f").value() == "old"
    module.write_text("def f(): return 'newer'\n")
    seqs = worker.give(worker.job("project:f"), worker.job("project:f"))
    assert worker.event() == {"op": "leave", "reason": "stale", "from": seqs[0]}
    assert worker.wait() == 0
    assert worker.page.started < seqs[0]


# --- children -----------------------------------------------------------------


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(("function", "args"), [
    ("worker_jobs:leave_child", (False,)), ("worker_jobs:leave_child", (True,)),
    pytest.param("worker_jobs:leave_stubborn_grandchild", (), marks=pytest.mark.slow),
])  # fmt: skip
def test_children_left_behind_are_stopped_and_the_worker_replaced(start, function, args):
    worker = start()
    seqs = worker.give(worker.job(function, *args), worker.job("worker_jobs:nothing"))
    assert worker.event() == {"op": "leave", "reason": "children", "from": seqs[1]}
    result = worker.results[seqs[0]]
    assert gone(result.value())
    (record,) = worker.records(result)
    assert record.stream == "warning"
    assert str(result.value()) in record.text
    assert worker.wait() == 0


def test_an_ended_child_that_nobody_waited_for_is_no_reason(worker):
    worker.run("worker_jobs:leave_zombie")
    assert worker.run("worker_jobs:add", 1).value() == 1


def test_a_child_that_is_ending_by_itself_is_no_reason(worker):
    worker.run("worker_jobs:leave_ending_child")
    assert worker.run("worker_jobs:add", 1).value() == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_works_in_a_job(worker, method):
    result = worker.run("worker_jobs:processes", method)
    assert result.value() == ["A", "B", "C"]
    said = "".join(texts(worker.records(result)))
    assert sorted(said.splitlines()) == ["child says a", "child says b", "child says c"]
    assert worker.run("worker_jobs:add", 1).value() == 1


def test_a_forked_child_that_comes_back_does_not_become_a_second_worker(worker):
    assert worker.run("worker_jobs:fork_and_return").value() is False
    result = worker.run("worker_jobs:fork_and_raise")
    assert result.value() == 1
    assert "ValueError: in the child" in "".join(texts(worker.records(result)))
    assert worker.run("worker_jobs:add", 1).value() == 1
