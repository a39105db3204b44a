"""Directory, environment and whatever else a job finds, and that no job changes it for the next."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from vigie import worker_context
from worker_harness import HERE, start, texts, worker  # noqa: F401 - fixtures


def test_a_job_finds_its_context(worker, tmp_path):
    context = worker.context(tmp_path, env={"WORD": "é", "EMPTY": "", "ODD": "\udcff"}, umask=0o027, path=[HERE, "/p"])
    (seq,) = worker.give(worker.job("worker_jobs:surroundings", context=context, attempt=3))
    found = worker.result(seq).value()
    job = str(100 + seq)
    assert found["cwd"] == str(tmp_path)
    assert found["umask"] == 0o027
    assert found["path"][:2] == [str(HERE), "/p"]
    assert found["stdin"] == ""
    assert found["argv"] == [""]
    env = found["env"]
    assert env.pop("PATH") == os.environ["PATH"]
    assert env == {
        "WORD": "é", "EMPTY": "", "ODD": "\udcff", "VIGIE_JOB": job, "VIGIE_ATTEMPT": f"{job}.3",
        "VIGIE_HOME": worker.home.root,
    }  # fmt: skip
    assert found["child"] == f"{tmp_path} {job} {job}.3\n"


def test_whatever_a_job_changes_is_put_back(start):
    worker = start()
    before = worker.run("worker_jobs:surroundings").value()
    mess, after = worker.give(worker.job("worker_jobs:make_a_mess"), worker.job("worker_jobs:surroundings"))
    assert texts(worker.records(worker.result(mess))) == ["wrapped"]
    found = worker.result(after).value()
    for name, number in (("VIGIE_JOB", str(100 + after)), ("VIGIE_ATTEMPT", f"{100 + after}.1")):
        assert found["env"].pop(name) == number
        before["env"].pop(name)
    assert found.pop("child") == f"{before['cwd']} {100 + after} {100 + after}.1\n"
    before.pop("child")
    assert found == before
    assert texts(worker.records(worker.run(lambda: __import__("os").write(2, b"raw\n") and None))) == ["raw\n"]


def test_an_environment_that_was_replaced_is_put_back(worker):
    worker.run("worker_jobs:environment_replaced")
    assert "PATH" in worker.run("worker_jobs:surroundings").value()["env"]


def test_a_job_that_changes_our_variables_changes_no_other(worker):
    """Also in the environment of the C library, which children get."""

    def tamper():
        import os

        os.environ["VIGIE_JOB"] = "9" * 200
        os.environ.pop("VIGIE_ATTEMPT")

    for _ in range(2):
        worker.run(tamper)
        for _ in range(2):
            (seq,) = worker.give(worker.job("worker_jobs:surroundings"))
            job = 100 + seq
            assert worker.result(seq).value()["child"].endswith(f" {job} {job}.1\n")


def test_sigterm_ignored_by_one_job_ends_the_next(start):
    import signal

    worker = start()
    worker.run("worker_jobs:make_a_mess")
    worker.give(worker.job("worker_jobs:kill_self", int(signal.SIGTERM)))
    assert worker.wait() == -signal.SIGTERM


def test_contexts_do_not_mix(worker, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a = worker.context(tmp_path / "a", env={"ONE": "1"}, path=[HERE])
    b = worker.context(tmp_path / "b", env={"TWO": "2"}, path=[HERE])
    jobs = [worker.job("worker_jobs:surroundings", context=c) for c in (a, b, a, b)]
    found = [worker.result(seq).value() for seq in worker.give(*jobs)]
    assert [Path(f["cwd"]).name for f in found] == ["a", "b", "a", "b"]
    assert [("ONE" in f["env"], "TWO" in f["env"]) for f in found] == [(True, False), (False, True)] * 2


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_a_directory_that_cannot_be_entered(worker, tmp_path, what):
    (tmp_path / "a file").write_text("")
    result = worker.run("worker_jobs:add", 1, context=worker.context(tmp_path / what, path=[HERE]))
    assert result.how == "raise"
    assert "working directory" in result.error["message"]
    assert what in result.error["message"]
    assert worker.run("worker_jobs:add", 1).value() == 1


def test_a_directory_of_any_bytes(worker, tmp_path):
    odd = os.fsencode(tmp_path) + b"/\xff\n"
    os.mkdir(odd)
    context = worker.context(odd.decode("utf-8", "surrogateescape"), path=[HERE])
    (seq,) = worker.give(worker.job(os.getcwdb, context=context))
    assert worker.result(seq).value() == odd


def test_an_idle_worker_holds_no_directory(worker, tmp_path):
    worker.run("worker_jobs:nothing", context=worker.context(tmp_path, path=[HERE]))
    from worker_harness import wait_until

    wait_until(lambda: os.readlink(f"/proc/{worker.process.pid}/cwd") == "/", "the worker let go")


def test_the_umask_of_a_job_does_not_keep_us_from_its_records(worker):
    def hostile():
        import os

        os.umask(0o777)
        print("x" * 5000)

    result = worker.run(hostile)
    assert texts(worker.records(result)) == ["x" * 5000 + "\n"]
    assert os.stat(worker.home.job_file(result.job, "records")).st_mode & 0o777 == 0o600


def test_handlers_are_put_back_though_one_of_them_comes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", signal.signal)
    signals = worker_context._Signals()
    before = signal.getsignal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    with monkeypatch.context() as patched:
        patched.setattr(worker_context._raw_signal, "signal", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            signals.restore()
    signals.restore()
    assert signal.getsignal(signal.SIGUSR1) is before
