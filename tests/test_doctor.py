"""The doctor: what it says of other machines (as text), and of this one (for real)."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import apsw
import pytest

import vigie
from holding import held
from vigie.cli import doctor as verb
from vigie.cli.context import Context
from vigie.doctor import Check, examine, machine, places, pythons, session, storage, worst
from vigie.doctor.check import STATUSES
from vigie.launch import launch
from vigie.sockets import bind_unix
from vigie.store.sqlite import Store


@pytest.fixture(autouse=True)
def few_pythons(monkeypatch):
    """Each Python on PATH is run for its version; a developer may have dozens."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def run(home, *options):
    """Run the verb as the command line does; give exit code, stdout and stderr."""
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in "oe")
    code = verb.run(parser.parse_args(options), Context("vigie doctor", home=home, stdout=stdout, stderr=stderr))
    stdout.flush()
    stderr.flush()
    return code, stdout.buffer.getvalue().decode(), stderr.buffer.getvalue().decode()


def named(home, **how):
    return {check.name: check for check in examine(home, **how)}


# The whole round ------------------------------------------------------------------


def test_a_home_that_is_not_there_yet_is_fine(home):
    code, text, summary = run(home)
    assert code == 0
    assert f"{home} (VIGIE_HOME); made by the first" in text
    assert "no agent runs; it starts by itself" in text
    assert " fine" in summary
    assert "failure" not in summary
    assert not os.path.exists(home.root), "looking must change nothing"


def test_json_says_the_same_and_explains_each_lack(home):
    code, text, summary = run(home, "--json")
    said = json.loads(text)
    assert (code, summary) == (0, "")
    assert said["home"] == home.root
    names = [check["name"] for check in said["checks"]]
    assert len(names) == len(set(names)) >= 15
    for check in said["checks"]:
        assert set(check) == {"name", "status", "said", "means", "todo"}
        assert check["status"] in STATUSES
        assert check["status"] == "ok" or check["means"], check
    assert said["status"] == worst([Check(**check) for check in said["checks"]])


def test_one_failure_is_exit_1_and_other_checks_go_on(home):
    home.create()
    with open(home.secret, "w") as file:
        file.write("key")
    os.chmod(home.secret, 0o644)
    code, text, summary = run(home)
    assert code == 1
    assert f"{home.secret} has mode 0644" in text
    assert "chmod -R go=" in text
    assert "interpreters" in text
    assert "1 failure" in summary


def test_a_check_that_breaks_is_a_warning_and_not_the_end(home, monkeypatch):
    def broken():
        raise RuntimeError("no such organ")

    monkeypatch.setattr(machine, "clock", broken)
    found = named(home)
    assert found["clock"].status == "warn"
    assert "no such organ" in found["clock"].said
    assert "signals" in found


def test_control_characters_of_a_path_reach_no_terminal(home):
    home.root += "/\x1b[31mred\udcff"
    _, text, _ = run(home)
    assert "\x1b" not in text
    assert "\\x1b[31mred\\udcff" in text


@pytest.mark.slow
def test_as_cron_calls_it():
    code = "import sys, argparse; from vigie.cli.context import Context; from vigie.cli import doctor\n"
    code += "sys.exit(doctor.run(argparse.Namespace(deep=False, json=True, torture=None, seed=None), Context()))"
    done = subprocess.run([sys.executable, "-c", code], env={}, capture_output=True, check=False)
    said = json.loads(done.stdout)
    assert done.stderr == b""
    assert said["home"].endswith(".local/state/vigie")
    assert "HOME is unset" in said["checks"][1]["said"]


def as_somebody(uid, function):
    """Call ``function`` in a forked process of another user; give what it returns, through JSON."""
    reads, writes = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of xdist hold nothing we need
        pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.write(writes, json.dumps(function()).encode())
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as file:
        said = file.read()
    os.waitpid(pid, 0)
    return json.loads(said)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that nobody knows; run it as root")
def test_a_user_whom_no_database_knows(monkeypatch):
    for name in ("HOME", "VIGIE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    import pwd

    known = {entry.pw_uid for entry in pwd.getpwall()}
    uid = next(uid for uid in range(54321, 60000) if uid not in known)
    assert as_somebody(uid, lambda: verb._home(Context())) is None
    assert f"user {uid} is not in the user database" in as_somebody(uid, places.no_home)[2]


def test_without_any_home_the_rest_is_still_looked_at():
    found = named(None)
    assert found["home"].status == "fail"
    assert "VIGIE_HOME" in found["home"].todo
    assert "pidfd" in found
    assert "store" not in found


# Places ---------------------------------------------------------------------------


def test_a_file_where_the_home_should_be(home):
    with open(home.root, "w"):
        pass
    assert places.home(home).status == "fail"
    assert "is not a directory" in places.home(home).said


def test_a_home_below_a_file(home):
    with open(home.top + "/file", "w"):
        pass
    home.root = home.top + "/file/vigie"
    assert places.home(home).status == "fail"
    assert run(home)[0] == 1


@pytest.mark.parametrize("there", [True, False])
def test_a_home_that_cannot_be_written(home, there):
    if there:
        home.create()
    os.chmod(home.root if there else home.top, 0o555)
    os.chmod(home.top, 0o555)
    # Root writes where it likes: look with the eyes of somebody else.
    check = Check(*(as_somebody(65534, lambda: places.home(home)) if os.geteuid() == 0 else places.home(home)))
    os.chmod(home.top, 0o700)
    assert check.status == "fail"
    assert "cannot be" in check.said
    assert "VIGIE_HOME" in check.todo


@pytest.mark.parametrize(("mode", "status"), [(0o700, "ok"), (0o750, "warn"), (0o777, "fail")])
def test_modes_of_the_home(home, mode, status):
    home.create()
    os.chmod(home.root, mode)
    assert places.permissions(home).status == status


def test_a_file_of_somebody_else(home):
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    home.create()
    with open(home.secret, "w"):
        pass
    os.chown(home.secret, 4242, -1)
    check = places.permissions(home)
    assert (check.status, "belongs to user 4242" in check.said) == ("fail", True)


@pytest.mark.slow
def test_a_real_agent_answers_and_is_healthy(home):
    launch(home).close()
    (agent,) = home.processes("agent")
    found = named(home, deep=True)
    assert f"agent {vigie.__version__} answers (pid {agent.pid})" in found["socket"].said
    assert f"held by pid {agent.pid}" in found["lock"].said
    for name in ("home", "permissions", "socket", "lock", "store"):
        assert found[name].status == "ok", found[name]


@pytest.mark.slow
def test_the_program_itself(vigie, home):
    done = vigie("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["home"] == home.root
    os.mkdir(home.root, 0o777)
    os.chmod(home.root, 0o777)
    done = vigie("doctor")
    assert done.returncode == 1
    assert "1 failure" in done.stderr


def test_an_agent_of_another_version_is_to_be_restarted():
    check = places._answer({"version": "0.0.9", "pid": 7, "keeper": {"version": "0.0.8", "pid": 8}}, "how")
    assert check.status == "warn"
    assert "keeper 0.0.8 (pid 8)" in check.said
    assert check.todo.startswith("vigie agent restart")


def test_a_socket_that_a_killed_agent_left(home):
    home.create()
    bind_unix(home.socket).close()
    check = places.socket(home)
    assert check.status == "note"
    assert "nobody listens" in check.said


def test_a_socket_whose_holder_is_no_agent(home):
    home.create()
    server = bind_unix(home.socket)

    def hang_up():
        peer, _ = server.accept()
        with peer:
            # Take the question first: closing with unread bytes is another error.
            peer.recv(1 << 16)

    thread = threading.Thread(target=hang_up)
    thread.start()
    check = places.socket(home)
    thread.join()
    server.close()
    assert check.status == "fail"
    assert home.agent_log in check.todo


def test_a_long_path_is_explained(home):
    home.__init__(home.top + "/d" * 100)
    home.create()
    check = places.socket(home)
    assert check.status == "ok"
    assert "reached through a descriptor of its directory" in check.said


def test_the_lock_names_its_holder_and_is_left_alone(home):
    home.create()
    assert "no agent has run" in places.lock(home).said
    Path(home.lock).touch()
    assert "is free" in places.lock(home).said
    with held(home.lock) as pid:
        check = places.lock(home)
        assert f"held by pid {pid}" in check.said
        assert check.status == "warn", "held, and there is no socket"
        with bind_unix(home.socket):
            assert places.lock(home).status == "ok"


def test_disk_of_a_path_that_does_not_exist_yet(home):
    check = places.disk(home.root)
    free = shutil.disk_usage(home.top).free
    assert check.status == ("ok" if free > 2 << 30 else check.status)
    assert "GiB free of" in check.said


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("ext4", "ok"),
        ("overlay", "ok"),
        ("tmpfs", "note"),
        ("fuse.sshfs", "warn"),
        ("nfs4", "fail"),
        ("cifs", "fail"),
        ("9p", "fail"),
        ("vboxsf", "fail"),
    ],
)
def test_file_systems(home, kind, status):
    mounts = f"/dev/vda / ext4 rw 0 0\nthere {home.top} {kind} rw 0 0\nother {home.top}x nfs rw 0 0\n"
    assert places.file_system(home.root, mounts).status == status


def test_the_later_mount_covers_the_earlier():
    mounts = "a /m ext4 rw\nb /m nfs rw\n"
    assert places.mount_of("/m/x", mounts) == "nfs"
    assert places.mount_of("/x", "") == "unknown"


def test_this_machine_has_a_file_system(home):
    check = places.file_system(home.root)
    real = subprocess.run(["stat", "-f", "-c", "%T", home.top], capture_output=True, text=True, check=True)
    assert not check.said.startswith("unknown")
    if real.stdout.strip() in {"tmpfs", "overlayfs", "xfs", "btrfs"}:
        assert check.said.startswith(real.stdout.strip().removesuffix("fs")[:5])


# Store ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "status"),
    [("3.6.23", "ok"), ("3.7.0", "warn"), ("3.40.1", "warn"), ("3.51.2", "warn"), ("3.51.3", "ok"), ("4.0.0", "ok")],
)
def test_releases_of_sqlite(version, status):
    assert storage.sqlite(version).status == status


def test_the_sqlite_we_ship_with_is_sound():
    assert storage.sqlite().status == "ok"


@pytest.fixture
def stored(home):
    home.create()
    Store(home.db).close()
    return home


def test_a_store_is_described(stored):
    check = storage.store(stored, deep=True)
    assert check.status == "ok"
    assert "schema 3" in check.said
    assert "every page checked" in check.said


def test_looking_at_a_live_store_leaves_its_log_alone(home):
    home.create()
    store = Store(home.db)
    size = store.wal_size()
    assert size > 0
    assert storage.store(home, deep=True).status == "ok"
    assert store.wal_size() == size
    store.close()


def test_damage_is_found(stored):
    with apsw.Connection(stored.db) as db:
        root, size = db.execute("SELECT rootpage, 4096 FROM sqlite_schema WHERE name = 'jobs_ready'").fetchone()
        size = db.pragma("page_size")
    db.close()
    with open(stored.db, "r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    assert storage.store(stored).status == "ok", "only --deep reads it all"
    check = storage.store(stored, deep=True)
    assert check.status == "fail"
    assert "restore" in check.todo


def test_no_database_at_all(stored):
    with open(stored.db, "wb") as file:
        file.write(b"this is a text\n" * 1000)
    assert storage.store(stored).status == "fail"


def test_a_database_of_something_else(home):
    home.create()
    db = apsw.Connection(home.db)
    db.execute("CREATE TABLE recipes (name)")
    db.close()
    assert "no schema of Vigie" in storage.store(home).said


def test_a_store_of_a_newer_vigie(stored):
    db = apsw.Connection(stored.db)
    db.execute("UPDATE meta SET value = 99 WHERE key = 'min_reader'")
    db.close()
    check = storage.store(stored)
    assert check.status == "fail"
    assert "newer Vigie" in check.means


# Machine --------------------------------------------------------------------------


def test_process_descriptors_of_this_kernel():
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    assert machine.exit_info() == (7 if release >= (6, 15) else None)
    assert machine.pidfd().status == ("ok" if release >= (6, 15) else "note")


def test_cgroups_of_other_machines(home):
    at = os.path.join(home.top, "cgroup")
    os.makedirs(at + "/user.slice/x")
    mounts = f"cgroup2 {at} cgroup2 rw 0 0\n"
    none = machine.cgroups("proc /proc proc rw\n", "1:cpu:/\n")
    assert (none.status, "no cgroup of version 2" in none.said) == ("note", True)
    assert "in its root" in machine.cgroups(mounts, "0::/\n").said
    ours = machine.cgroups(mounts, "0::/user.slice/x\n")
    assert (ours.status, "is not ours to write" in ours.said) == ("note", True)
    for name in ("cgroup.procs", "cgroup.freeze", "cgroup.kill"):
        with open(f"{at}/user.slice/x/{name}", "w"):
            pass
    assert "not delegated" in machine.cgroups(mounts, "0::/user.slice/x\n").said
    try:
        os.setxattr(at + "/user.slice", "user.delegate", b"1")
    except OSError as error:
        pytest.skip(f"extended attributes do not work here: {error}")
    delegated = machine.cgroups(mounts, "0::/user.slice/x\n")
    assert (delegated.status, "freeze and kill" in delegated.said) == ("ok", True)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("SigBlk:\t0\nSigIgn:\t0000000001001000\n", "ok"),
        ("SigBlk:\t180000000\nSigIgn:\t0000000180000000\n", "ok"),
        ("SigBlk:\t0\nSigIgn:\t0000000000000001\n", "note"),
        ("SigBlk:\t0\nSigIgn:\t0000000000010000\n", "warn"),
        ("SigBlk:\t4000\nSigIgn:\t0\n", "warn"),
    ],
)
def test_inherited_signals(status, expected):
    assert machine.signals(status).status == expected


@pytest.mark.slow
def test_an_ignored_sigchld_is_seen_for_real(home):
    code = "from vigie.doctor import machine; c = machine.signals(); print(c.status, c.said)"
    shell = f"trap '' CHLD; exec {sys.executable} -c \"{code}\""
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    # The suite's own caller may have left others ignored, as nohup does.
    assert re.match(r"warn ignored: .*\bSIGCHLD\b", done.stdout)


def test_a_low_limit_of_files_is_seen():
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (200, 200));"
        "from vigie.doctor import machine; print(machine.limits().status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "warn\n"


# Logout ---------------------------------------------------------------------------


def test_drop_ins_count_in_their_order(home):
    vendor, etc = home.top + "/usr", home.top + "/etc"
    for path, text in (
        (f"{vendor}/logind.conf", "[Login]\n#KillUserProcesses=yes\n"),
        (f"{vendor}/logind.conf.d/50-a.conf", "[Login]\nKillUserProcesses=no\n"),
        (f"{etc}/logind.conf.d/10-b.conf", "[Login]\nKillUserProcesses=yes\n"),
    ):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
    dirs = (vendor, etc)
    assert session.kill_user_processes(session.logind_texts(dirs)) is False
    # The same name in /etc hides the vendor's file.
    with open(f"{etc}/logind.conf.d/50-a.conf", "w"):
        pass
    assert session.kill_user_processes(session.logind_texts(dirs)) is True
    shutil.rmtree(f"{etc}/logind.conf.d")
    os.remove(f"{vendor}/logind.conf.d/50-a.conf")
    assert session.kill_user_processes(session.logind_texts(dirs)) is True, "what it was built with"
    assert session.kill_user_processes([]) is None


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({"systemd": False}, "ok"),
        ({"systemd": True, "linger": True, "kills": True}, "ok"),
        ({"systemd": True, "linger": False, "kills": False}, "note"),
        ({"systemd": True, "linger": False, "kills": None}, "note"),
        ({"systemd": True, "linger": False, "kills": True}, "note" if os.geteuid() == 0 else "warn"),
    ],
)
def test_what_a_logout_does(facts, status):
    assert session.logout(user="eve", **facts).status == status


# Interpreters ---------------------------------------------------------------------


def test_pythons_of_a_path(home):
    first, second = home.top + "/a", home.top + "/b"
    for directory in (first, second):
        os.mkdir(directory)
    os.symlink(sys.executable, first + "/python3")
    os.symlink(first + "/python3", second + "/python")
    for name in ("pythonw", "python-config", "python3.11-config"):
        os.symlink(sys.executable, f"{second}/{name}")
    with open(second + "/python3.9", "w") as file:
        file.write("not executable")
    assert pythons.on_path(f"{first}:/no/such:{second}") == [first + "/python3"]


@pytest.mark.slow
def test_which_python_a_job_gets(home):
    project = home.top + "/project"
    os.makedirs(project + "/.venv/bin")
    os.makedirs(project + "/src/deep")
    os.symlink(sys.executable, project + "/.venv/bin/python")
    deep = project + "/src/deep"
    assert "(Vigie's own)" in pythons.interpreters({"PATH": ""}, home.user).said
    assert f"{project}/.venv/bin/python (the nearest .venv)" in pythons.interpreters({"PATH": ""}, deep).said
    gone = pythons.interpreters({"PATH": "", "VIRTUAL_ENV": "/no/such/venv"}, deep)
    assert gone.status == "warn"
    assert "unset VIRTUAL_ENV" in gone.todo


def test_a_python_that_does_not_run(home):
    broken = home.top + "/python3"
    with open(broken, "w") as file:
        file.write("#!/bin/sh\necho 3.14.0\nexit 127\n")
    os.chmod(broken, 0o700)
    assert pythons.version_of(broken) is None
    assert pythons.version_of(sys.executable) == "{}.{}.{}".format(*sys.version_info)
