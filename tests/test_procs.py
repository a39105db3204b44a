"""Process trees made by real processes that try to get away."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import until
from vigie import pidfd, procs, proctree
from vigie.procs import Identity
from vigie.proctree import Tree, TreeStop

SECOND = 1_000_000
#: Of this test process alone: /proc is shared with whatever else runs here.
MARK = f"t{os.getpid()}.1.1"
OTHER = f"t{os.getpid()}.1.2"

#: A child that leaves the session by a double fork, and drops its mark if told to.
AWAY = """
import os, sys, time
name, keep = sys.argv[1:3]
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        env = dict(os.environ) if keep == 'marked' else {}
        os.execve('/bin/sh', ['sh', '-c', 'echo $$ > %s; exec sleep 600' % name],
            {**env, 'PATH': '/usr/bin:/bin'})
    os._exit(0)
os.wait()
"""


class Yard:
    """Starts processes as the keeper does, and ends what is left of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.popens: list[subprocess.Popen[bytes]] = []
        self.others = proctree.descendants(os.getpid())

    def start(self, mark: str, *argv: str, env: dict[str, str] | None = None) -> Identity:
        full = {"PATH": os.environ["PATH"], "VIGIE_ATTEMPT": mark, **(env or {})}
        popen = subprocess.Popen(argv, env=full, start_new_session=True)
        self.popens.append(popen)
        # Popen comes back in the middle of exec, a moment before the environment stands.
        until(lambda: executed(popen.pid))
        return self.identity(popen.pid)

    def script(self, name: str, then: str = "exec sleep 600") -> str:
        """A program that writes its number, then goes on."""
        path = self.file(name + ".sh")
        number = self.file(name)
        path.write_text(f"#!/bin/sh\necho $$ > {number}\n{then}\n")
        path.chmod(0o755)
        return str(path)

    def python(self, mark: str, code: str, *argv: str) -> Identity:
        return self.start(mark, sys.executable, "-ISc", code, *argv)

    def identity(self, pid: int) -> Identity:
        ticks = procs.start_ticks(pid)
        assert ticks is not None, f"process {pid} is gone"
        return Identity(pid, ticks)

    def number(self, name: str) -> Identity:
        """The process that wrote its number in a file."""
        return self.identity(int(until(lambda: self.file(name).exists() and self.file(name).read_text())))

    def file(self, name: str) -> Path:
        return self.path / name

    def close(self) -> None:
        while left := proctree.descendants(os.getpid()) - self.others:
            for identity in left:
                procs.send_signal(identity, signal.SIGKILL)
        for popen in self.popens:
            popen.wait()


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    pidfd.set_subreaper()
    yard = Yard(tmp_path)
    yield yard
    yard.close()
    pidfd.set_subreaper(on=False)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def executed(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes() != b""
    except ProcessLookupError:
        return True  # ended already


def mono() -> int:
    return time.monotonic_ns() // 1000


def drive(stop: TreeStop, clock: Callable[[], int] = mono) -> proctree.Status:
    """Step until it is done, reaping what comes to us as the keeper does."""

    def step() -> proctree.Status | None:
        status = stop.step(clock())
        return status if status.done else None

    status = until(step)
    assert status is not None
    return status


def gone(*identities: Identity) -> bool:
    return not any(procs.alive(identity) for identity in identities)


# Who is a member -----------------------------------------------------------------


def test_children_that_left_the_session_are_members_by_their_mark(yard: Yard) -> None:
    root = yard.python(MARK, AWAY + "time.sleep(600)", str(yard.file("away")), "marked")
    away = yard.number("away")
    members = proctree.tree(root, MARK, root.pid)
    assert members == {root, away}
    assert proctree.tree(root, OTHER, None) == {root}


def test_one_that_dropped_its_mark_is_known_from_an_earlier_scan(yard: Yard) -> None:
    gate = yard.file("gate")
    os.mkfifo(gate)
    code = """
import os, sys
if os.fork() == 0:
    os.setsid()
    os.execve('/bin/sh', ['sh', '-c', 'echo $$ > %s; exec sleep 600' % sys.argv[1]],
        {'PATH': '/usr/bin:/bin'})
open(sys.argv[2]).read()
"""
    root = yard.python(MARK, code, str(yard.file("child")), str(gate))
    child = yard.number("child")
    tree = Tree(root, MARK)
    assert tree.members() == {root, child}
    gate.write_bytes(b"go")
    until(lambda: gone(root))
    assert tree.members() == {child}
    assert proctree.tree(root, MARK, root.pid) == set()


def test_whoever_is_in_the_session_is_a_member(yard: Yard) -> None:
    script = f"env -i /bin/sh -c 'echo $$ > {yard.file('n')}; exec sleep 600' & exit 0"
    root = yard.start(MARK, "/bin/sh", "-c", script)
    yard.popens[-1].wait()
    orphan = yard.number("n")
    assert proctree.tree(root, MARK, root.pid) == {orphan}
    assert proctree.tree(root, MARK, None) == set()


def test_a_session_number_given_again_is_no_session_of_ours(yard: Yard) -> None:
    stranger = yard.start(OTHER, "env", "-i", yard.script("n"))
    yard.number("n")
    earlier = Identity(stranger.pid, stranger.start_ticks - 1)
    ours = yard.start(MARK, "sleep", "600")
    assert proctree.tree(stranger, MARK, stranger.pid) == {stranger, ours}
    assert proctree.tree(earlier, MARK, earlier.pid) == {ours}


def test_another_jobs_processes_are_excluded_with_all_below(yard: Yard) -> None:
    nested = yard.script("nested", f"env -i {yard.script('inner')}; :")
    root = yard.start(MARK, "/bin/sh", "-c", f"VIGIE_ATTEMPT={OTHER} {nested} & {yard.script('own')} & wait")
    parts = {name: yard.number(name) for name in ("nested", "inner", "own")}
    assert proctree.tree(root, MARK, None) == {root, parts["own"]}
    assert proctree.tree(parts["nested"], OTHER, None) == {parts["nested"], parts["inner"]}
    assert proctree.tree(root, (MARK, OTHER), None) == {root, *parts.values()}
    # `inner` has no mark and sits in our session; what it descends from decides.
    assert proctree.tree(root, MARK, root.pid) == {root, parts["own"]}


@pytest.mark.parametrize(
    ("name", "value", "counts"),
    [
        ("VIGIE_ATTEMPT", "{}", True),
        ("VIGIE_ATTEMPT", "{}1", False),
        ("VIGIE_ATTEMPT", "1{}", False),
        ("X_VIGIE_ATTEMPT", "{}", False),
        ("A", "VIGIE_ATTEMPT={}", False),
    ],
)
def test_a_mark_counts_only_as_a_whole_entry(yard: Yard, name: str, value: str, counts: bool) -> None:
    root = yard.start(MARK, "sleep", "600")
    env = {"A0": "", name: value.format(MARK), "Z": ""}
    # Bare: the first entry, which `start` gives, would be the mark itself.
    other = yard.start("", "env", "-i", *(f"{key}={text}" for key, text in env.items()), yard.script("n"))
    yard.number("n")
    assert proctree.tree(root, MARK, root.pid) == ({root, other} if counts else {root})


def test_zombies_are_no_members(yard: Yard) -> None:
    root = yard.start(MARK, "true")
    os.waitid(os.P_PID, root.pid, os.WEXITED | os.WNOWAIT)
    assert procs.start_ticks(root.pid) == root.start_ticks
    assert not procs.alive(root)
    assert proctree.tree(root, MARK, root.pid) == set()


def test_a_process_whose_first_thread_ended_lives(yard: Yard) -> None:
    code = """
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
libc = ctypes.CDLL(None)
libc.pthread_exit(None)
"""
    root = yard.python(MARK, code)
    until(lambda: next((p for p in procs.scan() if p.pid == root.pid and p.state == "Z"), None))
    assert procs.alive(root)
    assert proctree.tree(root, MARK, root.pid) == {root}


def test_the_caller_is_never_a_member() -> None:
    me = Identity(os.getpid(), procs.start_ticks(os.getpid()) or 0)
    assert me not in proctree.tree(me, "none", os.getsid(0))


def test_descendants_are_found_at_any_depth(yard: Yard) -> None:
    script = f"/bin/sh -c 'sleep 600 & echo $! > {yard.file('n')}; wait'; :"
    root = yard.start(MARK, "/bin/sh", "-c", script)
    deepest = yard.number("n")
    found = proctree.descendants(root.pid)
    assert deepest in found
    assert len(found) == 2
    assert found < proctree.descendants(os.getpid())


def test_the_main_process_of_a_mark_is_its_oldest_leader(yard: Yard) -> None:
    assert procs.find_mark(MARK) is None
    root = yard.python(MARK, AWAY + "time.sleep(600)", str(yard.file("away")), "marked")
    yard.number("away")
    assert procs.find_mark(MARK) == root


# Identity ------------------------------------------------------------------------


def test_a_number_alone_is_no_identity(yard: Yard) -> None:
    root = yard.start(MARK, "sleep", "600")
    other = Identity(root.pid, root.start_ticks - 1)
    assert procs.alive(root)
    assert not procs.alive(other)
    assert procs.open_pidfd(other) is None
    assert not procs.send_signal(other, signal.SIGKILL)
    assert procs.parent(other) is None
    assert procs.alive(root)
    fd = procs.open_pidfd(root)
    assert fd is not None
    assert procs.exit_status(root, fd) is None
    assert procs.send_signal(root, signal.SIGKILL)
    assert yard.popens[-1].wait() == -signal.SIGKILL
    assert not procs.send_signal(root, signal.SIGKILL)
    assert procs.exit_status(root, fd) == signal.SIGKILL
    os.close(fd)


def test_the_exit_code_of_a_zombie_is_in_proc(yard: Yard) -> None:
    root = yard.start(MARK, "/bin/sh", "-c", "exit 42")
    os.waitid(os.P_PID, root.pid, os.WEXITED | os.WNOWAIT)
    assert procs.exit_status(root, None) == 42 << 8
    yard.popens[-1].wait()
    assert procs.exit_status(root, None) is None


def test_names_with_parentheses_and_spaces_are_read(yard: Yard) -> None:
    path = yard.file("a) R (b")
    path.symlink_to("/bin/sleep")
    root = yard.start(MARK, str(path), "600")
    found = until(lambda: next((p for p in procs.scan() if p.pid == root.pid and p.comm == "a) R (b"), None))
    assert found is not None
    assert (found.ppid, found.sid, found.pgid) == (os.getpid(), root.pid, root.pid)
    assert found.identity == root
    assert found.mark == MARK


def test_measures_have_plausible_units() -> None:
    me = os.getpid()
    assert 1 << 20 < (procs.anonymous(me) or 0) < (procs.rss(me) or 0) < 1 << 40
    assert 10_000 < (procs.cpu(me) or 0) < 86_400 * SECOND
    assert procs.boot_id() == procs.boot_id() != ""
    gone = 1 << 22
    assert (procs.rss(gone), procs.cpu(gone), procs.anonymous(gone), procs.start_ticks(gone)) == (None,) * 4


# Stop ----------------------------------------------------------------------------


def test_stop_ends_those_that_got_away(yard: Yard) -> None:
    root = yard.python(MARK, AWAY + "time.sleep(600)", str(yard.file("away")), "marked")
    away = yard.number("away")
    status = drive(TreeStop(Tree(root, MARK), grace=600 * SECOND))
    assert status.left == []
    assert not status.killing
    assert gone(root, away)
    assert yard.popens[0].wait() == -signal.SIGTERM


def test_one_that_ignores_sigterm_is_killed_after_the_grace(yard: Yard) -> None:
    root = yard.start(MARK, "/bin/sh", "-c", "trap '' TERM; . " + yard.script("n", "while :; do sleep 600; done"))
    yard.number("n")
    now = mono()
    stop = TreeStop(Tree(root, MARK), grace=10 * SECOND)
    status = stop.step(now)
    assert (status.done, status.killing) == (False, False)
    assert now < status.next_at <= now + 10 * SECOND
    until(lambda: len(stop.members.members()) == 2, what="the shell to begin its next sleep")
    assert not stop.step(now + 10 * SECOND - 1).killing
    assert procs.alive(root)
    status = drive(stop, lambda: now + 10 * SECOND)
    assert (status.left, status.killing) == ([], True)
    assert yard.popens[0].wait() == -signal.SIGKILL


def test_no_grace_sends_no_sigterm(yard: Yard) -> None:
    script = (
        f"trap 'echo told > {yard.file('told')}; exit' TERM; echo $$ > {yard.file('n')}; while :; do sleep 0.1; done"
    )
    root = yard.start(MARK, "/bin/sh", "-c", script)
    yard.number("n")
    assert drive(TreeStop(Tree(root, MARK), grace=0)).left == []
    assert yard.popens[0].wait() == -signal.SIGKILL
    assert not yard.file("told").exists()


def test_the_grace_can_be_cut_short(yard: Yard) -> None:
    root = yard.start(MARK, "/bin/sh", "-c", f"trap '' TERM; echo $$ > {yard.file('n')}; while :; do sleep 600; done")
    yard.number("n")
    stop = TreeStop(Tree(root, MARK), grace=600 * SECOND)
    assert not stop.step(mono()).killing
    stop.kill_now()
    assert drive(stop).killing
    assert gone(root)


def test_a_suspended_tree_hears_sigterm(yard: Yard) -> None:
    script = (
        f"trap 'echo told > {yard.file('told')}; exit 3' TERM; echo $$ > {yard.file('n')}; while :; do sleep 0.1; done"
    )
    root = yard.start(MARK, "/bin/sh", "-c", script)
    yard.number("n")
    proctree.freeze(Tree(root, MARK))
    drive(TreeStop(Tree(root, MARK), grace=600 * SECOND))
    assert yard.file("told").read_text() == "told\n"


def test_what_cannot_be_ended_is_named(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    root = yard.start(MARK, "sleep", "600")
    # A process in uninterruptible sleep, or another user's, gets no signal of ours.
    monkeypatch.setattr(procs, "send_signal", lambda identity, number: False)
    stop = TreeStop(Tree(root, MARK), grace=SECOND, patience=SECOND)
    now = mono()
    assert not stop.step(now).done
    assert not stop.step(now + 2 * SECOND - 1).done
    status = stop.step(now + 2 * SECOND)
    assert (status.done, status.left) == (True, [root.pid])


@pytest.mark.slow
def test_a_tree_that_keeps_forking_is_ended(yard: Yard) -> None:
    code = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
open(sys.argv[1], 'w').write(str(os.getpid()))
while True:
    if os.fork() == 0:
        os.setsid()
        time.sleep(0.03)
    else:
        time.sleep(0.01)
        os._exit(0)
"""
    for _ in range(10):
        root = yard.python(MARK, code, str(yard.file("n")))
        until(lambda: yard.file("n").exists())
        yard.popens.pop().wait()
        status = drive(TreeStop(Tree(root, MARK), grace=SECOND // 10))
        assert status.left == []
        assert not [p for p in procs.scan() if p.mark == MARK and not p.zombie]
        yard.file("n").unlink()


def test_freeze_and_thaw_reach_the_whole_tree(yard: Yard) -> None:
    root = yard.python(MARK, AWAY + "time.sleep(600)", str(yard.file("away")), "marked")
    away = yard.number("away")

    def states() -> set[str]:
        return {p.state for p in procs.scan() if p.identity in (root, away)}

    assert proctree.freeze(Tree(root, MARK)) == {root, away}
    until(lambda: states() == {"T"})
    assert proctree.thaw(Tree(root, MARK)) == {root, away}
    until(lambda: "T" not in states())
