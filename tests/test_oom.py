"""A kill by the kernel for want of memory is told as such, by evidence."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vigie.agent.oom import OomWatch, victims

LOG = (
    b"6,1,1,-;systemd[1]: started\n"
    b"6,2,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,task=python3,pid=4242,uid=1000\n"
    b"3,3,3,-;Memory cgroup out of memory: Killed process 4242 (python3) total-vm:1kB\n"
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    vmstat, log = tmp_path / "vmstat", tmp_path / "kmsg"
    vmstat.write_text("nr_free_pages 1\noom_kill 3\n")
    log.write_bytes(LOG)
    return vmstat, log


def test_victims_are_read_from_both_lines() -> None:
    assert victims(LOG) == {4242}
    assert victims(b"6,1,1,-;Killed process accounting\n") == set()


def test_without_a_new_victim_the_log_says_nothing(files: tuple[Path, Path]) -> None:
    """Numbers are reused: an old line about the same pid is no evidence."""
    watch = OomWatch(*map(str, files))
    assert watch.ask(4242) == (False, None)


def test_a_new_victim_is_found_by_its_pid(files: tuple[Path, Path]) -> None:
    watch = OomWatch(*map(str, files))
    files[0].write_text("oom_kill 4\n")
    assert watch.ask(4242)[0] is True
    assert watch.ask(17) == (False, None)


def test_a_log_that_may_not_be_read_leaves_it_open(files: tuple[Path, Path]) -> None:
    watch = OomWatch(str(files[0]), str(files[1]) + "-missing")
    files[0].write_text("oom_kill 4\n")
    by_kernel, said = watch.ask(4242)
    assert by_kernel is False
    assert said is not None
    assert "memory" in said


@pytest.fixture
def small_group() -> Iterator[str]:
    """A memory cgroup of 24 MB, where this machine lets us make one."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        path = f"{root}/vigie-test-{os.getpid()}"
        try:
            os.mkdir(path)
            Path(path, limit).write_text(str(24 << 20))
        except OSError:
            continue
        yield path
        os.rmdir(path)
        return
    pytest.skip("no memory cgroup can be made here: run as root on a machine with one")


@pytest.mark.slow
def test_the_kernels_victim_is_failed_by_oom(home: object, small_group: str) -> None:
    import vigie

    code = "import os, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid())); bytearray(200 << 20)"
    job = vigie.start([sys.executable, "-c", code, small_group]).wait(30)
    assert (job.state, job.reason, job.info()["signal"]) == ("failed", "oom", 9)
