"""Kills at every point, agents that die, jobs that are taken back: each job has exactly one fate."""

from __future__ import annotations

import os
import random
import signal
import threading

import pytest

from vigie import records, workfiles
from worker_harness import HERE, Gone, Harness, start, texts, wait_until, worker  # noqa: F401 - fixtures


def fates(harness, seqs):
    """Decide each job of a dead worker as the agent does: by page and journal."""
    journal = {r.seq: r for r in harness.journal()}
    found = {}
    for seq in seqs:
        if seq in journal:
            found[seq] = "known"
        elif seq > harness.page.started:
            found[seq] = "never began"
        else:
            found[seq] = "lost"
    return found


# --- a worker that is killed ---------------------------------------------------


@pytest.mark.parametrize(("point", "fate", "ran"), [
    ("worker-before-started", "never began", False),
    ("worker-after-started", "lost", False),
    ("worker-after-run", "lost", True),
    ("worker-after-journal", "known", True),
    ("worker-after-report", "known", True),
])  # fmt: skip
def test_a_kill_at_each_point_leaves_what_can_be_known(start, tmp_path, point, fate, ran):
    worker = start(crash=point)
    log = tmp_path / "log"
    seqs = worker.give(*[worker.job("worker_jobs:append_line", str(log), i) for i in range(3)])
    assert worker.wait() == -signal.SIGKILL
    lines = log.read_text().split() if log.exists() else []
    found = fates(worker, seqs)
    if point == "worker-after-report":
        with pytest.raises(Gone):
            worker.result(99)
        assert sorted(worker.results) == seqs
        assert found == dict.fromkeys(seqs, "known")
        assert lines == ["0", "1", "2"]
    else:
        assert found == {seqs[0]: fate, seqs[1]: "never began", seqs[2]: "never began"}
        assert lines == (["0"] if ran else [])
    assert worker.page.ended <= worker.page.started <= worker.page.ended + 1


def test_records_survive_a_kill_after_the_journal(start):
    worker = start(crash="worker-after-journal")
    worker.give(worker.job("worker_jobs:say", "said\n"))
    worker.wait()
    (result,) = worker.journal()
    assert texts(worker.records(result)) == ["said\n"]


@pytest.mark.slow
def test_kills_at_any_moment_lose_nothing(tmp_path):
    """Batches under a SIGKILL at a random moment: what ran, what is known and what never began agree."""
    for trial in range(12):
        harness = Harness(tmp_path / f"home{trial}")
        try:
            harness.accept()
            harness.default = harness.context(tmp_path, path=[HERE])
            log = tmp_path / f"log{trial}"
            jobs = [harness.job("worker_jobs:append_line", str(log), i + 1) for i in range(2000)]
            seqs = harness.give(*jobs)
            moment = random.Random(trial).randrange(1, 1500)
            harness.watch(lambda m=moment, page=harness.page: page.ended >= m, "the batch goes on")
            harness.signal(signal.SIGKILL)
            harness.wait()
            ran = [int(line) for line in log.read_text().split()]
            assert ran == list(range(1, len(ran) + 1)), "each ran once, in order"
            found = fates(harness, seqs)
            known = [s for s in seqs if found[s] == "known"]
            lost = [s for s in seqs if found[s] == "lost"]
            never = [s for s in seqs if found[s] == "never began"]
            assert set(known) <= set(ran)
            assert set(never).isdisjoint(ran)
            assert len(lost) <= 1
            assert known + lost + never == seqs
        finally:
            harness.close()


# --- an agent that dies --------------------------------------------------------


def test_without_an_agent_it_finishes_its_job_and_starts_no_other(start, tmp_path):
    worker = start()
    touched, go, log = tmp_path / "touched", tmp_path / "go", tmp_path / "log"
    first, *others = worker.give(
        worker.job("worker_jobs:touch_and_wait", str(touched), str(go)),
        *[worker.job("worker_jobs:append_line", str(log), i) for i in range(3)],
    )
    wait_until(touched.exists, "the job runs")
    worker.hang_up()
    # A new agent lowers the limit before it decides anything.
    assert worker.page.withhold() == first
    go.touch()
    wait_until(lambda: worker.page.ended == first, "the job has ended")
    worker.listen()
    hello = worker.accept()
    assert hello["worker"] == worker.number
    (outcome,) = worker.journal()
    assert (outcome.seq, outcome.value()) == (first, str(go))
    assert worker.page.started == first
    assert not log.exists()
    assert all(s > worker.page.started for s in others)
    worker.send({"op": "forget", "seq": first})
    # It serves the new agent, which goes on from its number.
    assert worker.run("worker_jobs:add", 5).value() == 5
    assert [r.seq for r in worker.journal()] == [worker.seq]
    assert not log.exists()


def test_an_agent_that_dies_in_a_batch(start, tmp_path):
    worker = start()
    log = tmp_path / "log"
    seqs = worker.give(*[worker.job("worker_jobs:append_line", str(log), i + 1) for i in range(5000)])
    worker.watch(lambda: worker.page.ended > 10, "the batch goes on")
    worker.hang_up()
    worker.page.withhold()
    worker.listen()
    worker.accept()
    ran = [int(line) for line in log.read_text().split()]
    found = fates(worker, seqs)
    assert [s for s in seqs if found[s] == "known"] == ran
    assert "lost" not in found.values()
    worker.send({"op": "forget", "seq": worker.page.ended})
    assert worker.run("worker_jobs:add", 5).value() == 5
    assert [int(line) for line in log.read_text().split()] == ran


def test_it_waits_for_an_agent_and_ends_with_its_home(start):
    worker = start()
    worker.run("worker_jobs:nothing")
    worker.hang_up()
    os.rename(worker.dir, worker.dir + ".gone")
    assert worker.wait() == 0


def test_forget_empties_the_journal(start):
    worker = start()
    seqs = worker.give(*[worker.job("worker_jobs:add", i) for i in range(50)])
    worker.result(seqs[-1])
    assert [r.seq for r in worker.journal()] == seqs
    worker.send({"op": "forget", "seq": seqs[19]})
    worker.send({"op": "forget", "seq": seqs[-1]})
    wait_until(lambda: os.path.getsize(worker.dir + "/journal") == 0, "the journal is empty")
    last = worker.run("worker_jobs:add", 1).seq
    assert [r.seq for r in worker.journal()] == [last]


def test_outcomes_of_a_batch_come_while_a_long_job_runs(start, tmp_path):
    worker = start()
    go = tmp_path / "go"
    quick, long = worker.give(worker.job("worker_jobs:add", 1), worker.job("worker_jobs:wait_for", str(go)))
    assert worker.result(quick).value() == 1
    assert long not in worker.results
    go.touch()
    worker.result(long)


# --- jobs that are taken back --------------------------------------------------


def test_a_job_over_the_limit_does_not_start(start, tmp_path):
    worker = start()
    log = tmp_path / "log"
    seqs = worker.give(*[worker.job("worker_jobs:append_line", str(log), i + 1) for i in range(5)], limit=2)
    assert [worker.event() for _ in range(3)] == [{"op": "held", "seq": s} for s in seqs[2:]]
    assert sorted(worker.results) == seqs[:2]
    assert log.read_text().split() == ["1", "2"]
    assert worker.page.started == seqs[1]


def test_what_was_taken_back_stays_so_when_the_limit_rises(start, tmp_path):
    worker = start()
    touched, go, log = tmp_path / "touched", tmp_path / "go", tmp_path / "log"
    running, *old = worker.give(
        worker.job("worker_jobs:touch_and_wait", str(touched), str(go)),
        *[worker.job("worker_jobs:append_line", str(log), f"old{i}") for i in range(4)],
    )
    wait_until(touched.exists, "the job runs")
    assert not worker.page.take_back(running)
    assert worker.page.take_back(old[2])
    assert worker.page.take_back(old[1])
    (new,) = worker.give(worker.job("worker_jobs:append_line", str(log), "new"))
    go.touch()
    worker.result(new)
    assert sorted(worker.results) == [running, old[0], new]
    assert log.read_text().split() == ["old0", "new"]
    assert worker.events == [{"op": "held", "seq": s} for s in old[1:]]


@pytest.mark.slow
def test_a_job_is_never_both_taken_back_and_run(start, tmp_path):
    """Batches are cut anywhere, at any moment, and topped up at once; each job has one fate."""
    worker = start()
    log = tmp_path / "log"
    choose = random.Random(5)
    back, fresh, rounds = set(), [], 0
    # How much is taken back in a round depends on who is quicker.
    while rounds < 150 or (len(back) <= 1000 and rounds < 1500):
        rounds += 1
        size = choose.randrange(1, 300)
        numbers = range(worker.seq + 1, worker.seq + size + 1)
        fresh = worker.give(*[worker.job("worker_jobs:append_line", str(log), n) for n in numbers])
        cut, moment = choose.choice(fresh), choose.choice(fresh)
        worker.watch(lambda m=moment: worker.page.started >= m or m in worker.dropped, "the batch goes on")
        if worker.page.take_back(cut):
            back |= set(range(cut, fresh[-1] + 1))
        worker.send({"op": "forget", "seq": worker.page.ended})
    for seq in range(1, worker.seq + 1):
        while seq not in back and seq not in worker.results and seq not in worker.dropped:
            worker.collect()
    ran = [int(line) for line in log.read_text().split()]
    assert sorted(ran) == ran == sorted(worker.results)
    assert not back & set(ran)
    assert not worker.dropped & set(ran)
    assert len(back) > 1000
    assert len(ran) > 1000


@pytest.mark.slow
def test_the_page_decides_between_threads_that_race(tmp_path):
    """The two sides of the page alone, many times: started and taken back are never both true."""
    path = str(tmp_path / "page")
    agent, runner = workfiles.Page.create(path), workfiles.Page.open(path)
    rounds = 3000
    ran = [False] * (rounds + 1)
    ready, done = threading.Barrier(2), threading.Barrier(2)

    def run():
        for seq in range(1, rounds + 1):
            ready.wait()
            ran[seq] = runner.may_start(seq)
            done.wait()

    thread = threading.Thread(target=run)
    thread.start()
    outcomes = set()
    for seq in range(1, rounds + 1):
        agent.limit = seq
        ready.wait()
        back = agent.take_back(seq)
        done.wait()
        assert not (back and ran[seq])
        outcomes.add((back, ran[seq]))
    thread.join()
    assert outcomes
    agent.close()
    runner.close()


def test_records_of_the_page_belong_to_the_job_that_started(start):
    worker = start()
    worker.run("worker_jobs:say", "earlier\n")
    worker.give(worker.job("worker_jobs:kill_self", int(signal.SIGKILL)))
    worker.wait()
    assert list(records.iter_records(worker.page.records())) == []


def test_an_outcome_that_the_journal_cannot_take_is_reported_all_the_same(start):
    worker = start()

    def fill_the_disk():
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        return "reported"

    result = worker.run(fill_the_disk)
    assert result.value() == "reported"
    assert worker.journal() == []
    assert (worker.page.started, worker.page.ended) == (1, 0)
    assert worker.run("worker_jobs:add", 1).value() == 1
