"""The kernel: versions, process descriptors, cgroups, clocks, limits, signals."""

from __future__ import annotations

import os
import platform
import signal
import sys

from vigie.doctor.check import Check, fail, note, ok, warn

__all__ = [
    "cgroups",
    "clock",
    "exit_info",
    "inherited",
    "limits",
    "own_cgroup",
    "pidfd",
    "signals",
    "versions",
]

#: 2024-01-01: a clock before it was never set.
PLAUSIBLE = 1_704_067_200


def versions() -> Check:
    """Tell what runs."""
    from vigie import __version__

    system = platform.uname()
    said = (
        f"vigie {__version__}, Python {platform.python_version()} ({sys.executable}), "
        f"{_distribution()}, {system.system} {system.release} {system.machine}"
    )
    if system.system != "Linux":
        return warn("versions", said, "Vigie is made for Linux: process trees and rescue need its /proc")
    return ok("versions", said)


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown distribution")
    except OSError:
        return "unknown distribution"


def pidfd() -> Check:
    """Try process descriptors, and whether they tell the end of a reaped process."""
    if not hasattr(os, "pidfd_open"):
        return warn("pidfd", "this Python has no pidfd_open", "a signal can hit another process of the same number")
    try:
        known = exit_info()
    except OSError as error:
        return warn(
            "pidfd",
            f"pidfd_open does not work: {error.strerror}",
            "processes are told apart by pid, start time and boot alone",
            "Linux 5.4 or later; in a container, a seccomp profile that allows pidfd_open",
        )
    if known != 7:
        return note(
            "pidfd",
            f"works; Linux {platform.release()} does not tell how a reaped process ended (6.15 does)",
            "should the keeper be killed, jobs that it ran and the agent does not hold may end as lost",
        )
    return ok("pidfd", "works, and tells how a reaped process ended")


def exit_info() -> int | None:
    """Run a process, reap it, then ask its descriptor for the exit code.

    Gives the code (7, as the process was told) or None where the kernel cannot say.
    Raises ``OSError`` where there are no process descriptors.
    """
    from vigie.pidfd import exit_status

    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], {})
    try:
        descriptor = os.pidfd_open(pid)
    finally:
        os.waitpid(pid, 0)
    try:
        status = exit_status(descriptor)
    finally:
        os.close(descriptor)
    return None if status is None else os.waitstatus_to_exitcode(status)


def own_cgroup(mounts: str, membership: str) -> tuple[str, str] | None:
    """Find our own cgroup of version 2: ``(mount point, directory)``, or None.

    ``mounts`` and ``membership`` are the texts of ``/proc/mounts`` and ``/proc/self/cgroup``.

    >>> own_cgroup("cgroup2 /sys/fs/cgroup cgroup2 rw", "0::/user.slice/x")
    ('/sys/fs/cgroup', '/sys/fs/cgroup/user.slice/x')
    """
    at = next((f[1] for f in map(str.split, mounts.splitlines()) if len(f) > 2 and f[2] == "cgroup2"), None)
    path = next((line[3:] for line in membership.splitlines() if line.startswith("0::")), None)
    if at is None or path is None:
        return None
    return at, (at + path).rstrip("/")


def _delegated(at: str, directory: str) -> bool:
    """Tell whether systemd marked this cgroup, or one above it, as handed over."""
    while len(directory) > len(at):
        for attribute in ("user.delegate", "trusted.delegate"):
            try:
                if os.getxattr(directory, attribute) == b"1":
                    return True
            except OSError:
                continue
        directory = os.path.dirname(directory)
    return False


def cgroups(mounts: str | None = None, membership: str | None = None) -> Check:
    """Tell whether a job's tree can be held in a cgroup of its own."""
    means = "the tree of a job is found by scans (descent, session, VIGIE_ATTEMPT) instead; it is slower, not weaker"
    found = own_cgroup(
        _text("/proc/self/mounts") if mounts is None else mounts,
        _text("/proc/self/cgroup") if membership is None else membership,
    )
    if found is None:
        return note("cgroups", "no cgroup of version 2 here", means, "boot with systemd.unified_cgroup_hierarchy=1")
    at, directory = found
    files = [name for name in ("cgroup.freeze", "cgroup.kill") if os.path.exists(os.path.join(directory, name))]
    writable = all(os.access(path, os.W_OK) for path in (directory, os.path.join(directory, "cgroup.procs")))
    has = " and ".join(name.removeprefix("cgroup.") for name in files) or "neither freeze nor kill"
    if directory == at:
        return note("cgroups", f"version 2, and we are in its root ({at})", means, "run under a systemd user session")
    if not writable:
        return note("cgroups", f"version 2; {directory} is not ours to write", means, "systemctl edit user@.service")
    if not _delegated(at, directory):
        return note("cgroups", f"version 2; {directory} can be written ({has}) but is not delegated", means)
    if len(files) < 2:
        return note("cgroups", f"version 2; {directory} is delegated, with {has}", means, "Linux 5.14 or later")
    return ok("cgroups", f"version 2; {directory} is delegated, with {has}")


def clock() -> Check:
    """Tell what time is measured with."""
    import time

    info = time.get_clock_info("monotonic")
    source = _text("/sys/devices/system/clocksource/clocksource0/current_clocksource").strip() or "unknown"
    boot = _text("/proc/sys/kernel/random/boot_id").strip()
    said = f"monotonic to {info.resolution * 1e9:.0f} ns; the kernel reads {source}"
    if time.time() < PLAUSIBLE:
        return warn("clock", f"{said}; the time of day is {time.ctime()}", "records carry wrong times", "set the clock")
    if not boot:
        return warn("clock", f"{said}; no boot id", "after a restart an old process may be taken for a new one")
    if source in {"jiffies", "acpi_pm", "pit"}:
        return note("clock", said, "reading the time is slow here, and costs each record some µs")
    return ok("clock", said)


def limits() -> Check:
    """Tell how many files and processes we may have."""
    import resource

    files, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    said = f"open files {_limit(files)} (at most {_limit(most_files)}), processes {_limit(processes)}"
    if 0 <= files < 64:
        return fail("limits", said, "the agent itself needs about 40 descriptors", "ulimit -n 4096")
    if 0 <= files < 1024:
        return warn("limits", said, "each running job takes a descriptor in agent and keeper", "ulimit -n 4096")
    if 0 <= processes < 256:
        return warn("limits", said, "many jobs at once will fail to start", "ulimit -u 4096")
    return ok("limits", said)


def _limit(value: int) -> str:
    return "unlimited" if value < 0 else str(value)


def inherited(status: str) -> tuple[set[int], set[int]]:
    """Give the signals that a process ignores and blocks, from its ``/proc/PID/status``.

    >>> inherited("SigBlk:\\t0000000000004000\\nSigIgn:\\t0000000000010000\\n")
    ({17}, {15})
    """
    masks = {"SigIgn": 0, "SigBlk": 0}
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name in masks:
            masks[name] = int(value, 16)
    ignored, blocked = ({bit + 1 for bit in range(64) if mask >> bit & 1} for mask in masks.values())
    return ignored, blocked


def signals(status: str | None = None) -> Check:
    """Tell which signals our caller left ignored or blocked."""
    ignored, blocked = inherited(_text("/proc/self/status") if status is None else status)
    # Python itself ignores two, and gives them back to what it starts; two are glibc's own.
    ignored -= {signal.SIGPIPE, signal.SIGXFSZ, 32, 33}
    blocked -= {32, 33}
    said = "; ".join(
        f"{word}: {', '.join(sorted(map(_signal, numbers)))}"
        for word, numbers in (("ignored", ignored), ("blocked", blocked))
        if numbers
    )
    grave = ignored & {signal.SIGCHLD, signal.SIGTERM} or blocked & {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
    if grave:
        return warn(
            "signals",
            said,
            "programs started from here inherit this: exit codes get lost without SIGCHLD, and without "
            "SIGTERM only a SIGKILL stops them",
            "look at what starts this shell: `trap '' CHLD`, a supervisor, a container's init",
        )
    if said:
        return note("signals", said, "programs started from here inherit this, as under nohup or `&` in a script")
    return ok("signals", "none ignored or blocked by our caller")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
